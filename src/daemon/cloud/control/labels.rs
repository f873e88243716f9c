//! The Node object that is created for a node that registers. Pure.

use serde_json::{Map, Value, json};

/// The node's object as the API is asked to create it, under this name: old edges give it none, and nobody chooses another.
/// KubeEdge's annotation says which cloud holds the link.
pub(super) fn node_to_create(name: &str, node: &Value, advertised: Option<&str>) -> Value {
    let mut node = node.clone();
    if !node.is_object() {
        node = json!({});
    }
    node["apiVersion"] = json!("v1");
    node["kind"] = json!("Node");
    if !node["metadata"].is_object() {
        node["metadata"] = json!({});
    }
    if let Some(metadata) = node.get_mut("metadata").and_then(Value::as_object_mut) {
        // Bookkeeping of an earlier life would make the API refuse the object.
        for field in ["resourceVersion", "uid", "creationTimestamp", "managedFields", "generateName"] {
            metadata.remove(field);
        }
        metadata.insert("name".to_owned(), json!(name));
        if let Some(address) = advertised {
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            if !annotations.is_object() {
                *annotations = json!({});
            }
            annotations["cloudcore"] = json!(address);
        }
    }
    node
}

/// Takes the labels out that belong to Kubernetes, and returns them.
pub(super) fn take_guarded(node: &mut Value) -> Map<String, Value> {
    let Some(labels) = node.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) else {
        return Map::new();
    };
    let (guarded, kept): (Map<_, _>, Map<_, _>) =
        std::mem::take(labels).into_iter().partition(|(name, _)| is_guarded(name));
    *labels = kept;
    guarded
}

fn is_guarded(name: &str) -> bool {
    let Some((domain, _)) = name.split_once('/') else { return false };
    domain == "kubernetes.io" || domain.ends_with(".kubernetes.io")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_carries_no_bookkeeping() {
        let node =
            json!({"metadata": {"name": "n", "resourceVersion": "5", "uid": "u", "labels": {"a": "b"}}});
        let created = node_to_create("n", &node, Some("10.0.0.1"));
        let metadata = json!({"name": "n", "labels": {"a": "b"}, "annotations": {"cloudcore": "10.0.0.1"}});
        assert_eq!(created["metadata"], metadata);
        assert_eq!(created["kind"], "Node");
    }

    #[test]
    fn a_node_is_created_under_its_own_name() {
        for node in [
            json!({"metadata": {"generateName": "x"}}),
            json!({"metadata": {"name": "other"}}),
            json!({"metadata": null}),
            json!({}),
            json!(7),
        ] {
            assert_eq!(node_to_create("n", &node, None)["metadata"], json!({"name": "n"}), "{node}");
        }
    }

    #[test]
    fn guarded_labels_are_kubernetes_own() {
        let mut node = json!({"metadata": {"labels": {
            "kubernetes.io/os": "linux", "node-role.kubernetes.io/edge": "", "site": "a", "x.io/kubernetes.io": "b"}}});
        let guarded = take_guarded(&mut node);
        assert_eq!(guarded.len(), 2);
        assert_eq!(node["metadata"]["labels"], json!({"site": "a", "x.io/kubernetes.io": "b"}));
        assert!(take_guarded(&mut json!({"metadata": null})).is_empty());
    }
}
