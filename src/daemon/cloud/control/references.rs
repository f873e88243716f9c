//! Which ConfigMaps and Secrets a pod needs. Pure.

use crate::model::{Kind, ObjectKey};
use serde_json::Value;
use std::collections::BTreeSet;

/// The ConfigMaps and Secrets that a pod refers to: environment, volumes (projected ones too) and image pull secrets.
pub(super) fn of_pod(pod: &Value) -> BTreeSet<ObjectKey> {
    let namespace = pod.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default");
    let mut found = BTreeSet::new();
    let mut add = |kind: Kind, name: Option<&Value>| {
        if let Some(name) = name.and_then(Value::as_str).filter(|name| !name.is_empty()) {
            found.insert(ObjectKey::namespaced(kind, namespace, name));
        }
    };
    let Some(spec) = pod.get("spec") else { return found };
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items(spec, list) {
            for variable in items(container, "env") {
                add(Kind::ConfigMap, variable.pointer("/valueFrom/configMapKeyRef/name"));
                add(Kind::Secret, variable.pointer("/valueFrom/secretKeyRef/name"));
            }
            for source in items(container, "envFrom") {
                add(Kind::ConfigMap, source.pointer("/configMapRef/name"));
                add(Kind::Secret, source.pointer("/secretRef/name"));
            }
        }
    }
    for volume in items(spec, "volumes") {
        add(Kind::ConfigMap, volume.pointer("/configMap/name"));
        add(Kind::Secret, volume.pointer("/secret/secretName"));
        for source in volume.get("projected").map(|projected| items(projected, "sources")).unwrap_or_default()
        {
            add(Kind::ConfigMap, source.pointer("/configMap/name"));
            add(Kind::Secret, source.pointer("/secret/name"));
        }
        for driver in ["azureFile", "cephfs", "csi", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"] {
            let Some(driver) = volume.get(driver) else { continue };
            add(Kind::Secret, driver.get("secretName"));
            add(Kind::Secret, driver.pointer("/secretRef/name"));
            add(Kind::Secret, driver.pointer("/nodePublishSecretRef/name"));
        }
    }
    for secret in items(spec, "imagePullSecrets") {
        add(Kind::Secret, secret.get("name"));
    }
    found
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_way_to_refer_is_seen() {
        let pod = json!({"metadata": {"namespace": "ns"}, "spec": {
            "initContainers": [{"envFrom": [{"configMapRef": {"name": "c1"}}, {"secretRef": {"name": "s1"}}]}],
            "containers": [{"env": [
                {"name": "A", "value": "x"},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c2", "key": "k"}}},
                {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}}]}],
            "volumes": [
                {"configMap": {"name": "c3"}},
                {"secret": {"secretName": "s3"}},
                {"projected": {"sources": [{"configMap": {"name": "c4"}}, {"secret": {"name": "s4"}},
                    {"serviceAccountToken": {"path": "token"}}]}},
                {"emptyDir": {}}],
            "imagePullSecrets": [{"name": "s5"}]}});
        let found: Vec<String> = of_pod(&pod).iter().map(ToString::to_string).collect();
        let configs = (1..=4).map(|n| format!("ns/configmap/c{n}"));
        let secrets = (1..=5).map(|n| format!("ns/secret/s{n}"));
        assert_eq!(found, configs.chain(secrets).collect::<Vec<_>>());
    }

    #[test]
    fn odd_pods_are_read_without_harm() {
        for pod in
            [json!(null), json!({"spec": {"containers": "x", "volumes": [1, null]}}), json!({"spec": []})]
        {
            assert!(of_pod(&pod).is_empty());
        }
    }
}
