//! The generated definitions against the published YAML and against known facts of KubeEdge's own.

use super::{all, all_crds};
use std::path::Path;

/// Compares `manifests/crds/` with the code; `KEDGE_WRITE_MANIFESTS=1` writes them anew.
#[test]
fn published_definitions_are_the_generated_ones() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/crds");
    let write = std::env::var_os("KEDGE_WRITE_MANIFESTS").is_some();
    for resource in all() {
        let path = dir.join(format!("{}_{}.yaml", resource.group, resource.plural));
        let text = serde_yaml::to_string(&resource.crd()).unwrap();
        if write {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(published, text, "{} (KEDGE_WRITE_MANIFESTS=1 writes it)", path.display());
    }
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), all().len());
}

#[test]
fn device_schema_keeps_free_form_configuration() {
    let crds = all_crds();
    let device = crds.iter().find(|crd| crd["metadata"]["name"] == "devices.devices.kubeedge.io").unwrap();
    let stored = device["spec"]["versions"].as_array().unwrap().last().unwrap();
    assert_eq!(stored["name"], "v1beta1");
    let spec = &stored["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let property = &spec["properties"]["items"]["properties"];
    assert_eq!(
        property["visitors"]["properties"]["configData"]["x-kubernetes-preserve-unknown-fields"],
        true
    );
    assert_eq!(property["desired"]["required"], serde_json::json!(["value"]));
    assert_eq!(property["collectCycle"]["format"], "int64");
}

#[test]
fn exactly_one_version_is_stored() {
    for crd in all_crds() {
        let versions = crd["spec"]["versions"].as_array().unwrap();
        assert_eq!(
            versions.iter().filter(|v| v["storage"] == true).count(),
            1,
            "{}",
            crd["metadata"]["name"]
        );
    }
}
