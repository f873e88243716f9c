use super::*;
use serde_json::json;

fn definition() -> Arc<Value> {
    Arc::new(json!({
        "metadata": {"name": "devices.devices.kubeedge.io", "uid": "u", "generation": 1},
        "spec": {
            "group": "devices.kubeedge.io", "scope": "Namespaced",
            "names": {"kind": "Device", "plural": "devices"},
            "versions": [{"name": "v1beta1", "served": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {"nodeName": {"type": "string"}}}},
            }}}],
        },
    }))
}

fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found.push(reference);
            }
            fields.values().for_each(|inner| references(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn every_reference_resolves(document: &Value) {
    let mut found = Vec::new();
    references(document, &mut found);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn the_core_document_describes_pods() {
    let document = v3_document("", "v1", &[]).unwrap();
    every_reference_resolves(&document);
    let schemas = &document["components"]["schemas"];
    assert_eq!(
        schemas["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"],
        json!([{"group": "", "version": "v1", "kind": "Pod"}])
    );
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Pod");
    assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_some());
    assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation"));
    assert!(document["paths"]["/api/v1/nodes"]["get"].is_object());
}

#[test]
fn retained_keys_reach_the_clients() {
    let document = v3_document("apps", "v1", &[]).unwrap();
    every_reference_resolves(&document);
    let strategy =
        &document["components"]["schemas"]["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"];
    assert_eq!(strategy["x-kubernetes-patch-strategy"], "retainKeys");
    assert!(strategy["allOf"][0]["$ref"].is_string());
}

#[test]
fn custom_kinds_are_spliced_in() {
    let document = v3_document("devices.kubeedge.io", "v1beta1", &[definition()]).unwrap();
    every_reference_resolves(&document);
    let schema = &document["components"]["schemas"]["io.kubeedge.devices.v1beta1.Device"];
    assert_eq!(schema["properties"]["spec"]["properties"]["nodeName"]["type"], "string");
    let patch = &document["paths"]["/apis/devices.kubeedge.io/v1beta1/namespaces/{namespace}/devices/{name}"]
        ["patch"];
    assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_none());
    assert!(v3_document("devices.kubeedge.io", "v9", &[definition()]).is_none());
}

#[test]
fn every_built_in_version_has_a_document() {
    for kind in super::super::kinds::BUILT_INS {
        let document = v3_document(kind.group, kind.version, &[]).unwrap();
        every_reference_resolves(&document);
    }
}

#[test]
fn the_index_changes_with_a_definition() {
    let versions = ["v1".to_owned(), "devices.kubeedge.io/v1beta1".to_owned()];
    let before = v3_index(&versions, &[definition()]);
    let mut changed = (*definition()).clone();
    changed["metadata"]["generation"] = json!(2);
    let after = v3_index(&versions, &[Arc::new(changed)]);
    assert_eq!(before["paths"]["api/v1"], after["paths"]["api/v1"]);
    let path = "apis/devices.kubeedge.io/v1beta1";
    assert_ne!(before["paths"][path], after["paths"][path]);
}

#[test]
fn the_old_form_says_the_same() {
    let document = v2(&[definition()]);
    every_reference_resolves(&document);
    let containers = &document["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    let bytes = v2_protobuf(&[definition()]);
    assert!(bytes.len() > 100_000);
}
