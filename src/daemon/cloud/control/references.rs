//! What a pod needs: ConfigMaps, Secrets, volume claims, its service account; and what a volume needs. Pure.

use crate::model::{Kind, ObjectKey};
use serde_json::Value;
use std::collections::BTreeSet;

/// Whether the pod stands for a static one of its node. The node made it, so it gives the node no right to anything.
pub(super) fn is_mirror(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some()
}

/// The ConfigMaps and Secrets that the pod's node may have for it.
pub(super) fn of_pod(pod: &Value) -> BTreeSet<ObjectKey> {
    if is_mirror(pod) {
        return BTreeSet::new();
    }
    let mut found = named_in(pod);
    found.retain(|key| matches!(key.kind, Kind::ConfigMap | Kind::Secret));
    found
}

/// The PersistentVolumeClaims that the pod's node may have for it.
pub(super) fn claims_of_pod(pod: &Value) -> BTreeSet<ObjectKey> {
    if is_mirror(pod) {
        return BTreeSet::new();
    }
    let mut found = named_in(pod);
    found.retain(|key| key.kind == Kind::PersistentVolumeClaim);
    found
}

/// The service account that the pod runs as; `None` for a mirror pod.
pub(super) fn account_of_pod(pod: &Value) -> Option<&str> {
    if is_mirror(pod) {
        return None;
    }
    let name = pod.pointer("/spec/serviceAccountName").and_then(Value::as_str);
    Some(name.filter(|name| !name.is_empty()).unwrap_or("default"))
}

/// The Secrets that a kubelet needs for this PersistentVolume.
pub(super) fn secrets_of_volume(volume: &Value) -> BTreeSet<ObjectKey> {
    let spec = volume.get("spec").unwrap_or(&Value::Null);
    let of_claim = spec.pointer("/claimRef/namespace").and_then(Value::as_str).unwrap_or_default();
    let mut found = BTreeSet::new();
    let mut add = |namespace: Option<&Value>, name: Option<&Value>| {
        if let Some(name) = name.and_then(Value::as_str).filter(|name| !name.is_empty()) {
            let namespace = namespace.and_then(Value::as_str).filter(|n| !n.is_empty()).unwrap_or(of_claim);
            found.insert(ObjectKey::namespaced(Kind::Secret, namespace, name));
        }
    };
    let azure = spec.get("azureFile").unwrap_or(&Value::Null);
    add(azure.get("secretNamespace"), azure.get("secretName"));
    for driver in ["cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos", "csi"] {
        for field in ["secretRef", "nodeStageSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"] {
            let Some(reference) = spec.get(driver).and_then(|driver| driver.get(field)) else { continue };
            add(reference.get("namespace"), reference.get("name"));
        }
    }
    found
}

/// The ConfigMaps and Secrets that a pod names (environment, volumes, projected ones too, image pull secrets), and the
/// claims of its volumes.
pub(super) fn named_in(pod: &Value) -> BTreeSet<ObjectKey> {
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
        add(Kind::PersistentVolumeClaim, volume.pointer("/persistentVolumeClaim/claimName"));
        if volume.get("ephemeral").is_some() {
            let name =
                |value: &Value, pointer| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            let (pod, volume) = (name(pod, "/metadata/name"), name(volume, "/name"));
            let claim = pod.zip(volume).map(|(pod, volume)| Value::String(format!("{pod}-{volume}")));
            add(Kind::PersistentVolumeClaim, claim.as_ref());
        }
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
    fn claims_are_seen_and_mirror_pods_have_no_rights() {
        let mut pod = json!({"metadata": {"namespace": "ns", "name": "p"}, "spec": {"volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "b", "ephemeral": {}},
            {"name": "s", "secret": {"secretName": "s"}}]}});
        let claims = |pod: &Value| claims_of_pod(pod).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(claims(&pod), ["ns/persistentvolumeclaim/c", "ns/persistentvolumeclaim/p-b"]);
        assert_eq!((of_pod(&pod).len(), account_of_pod(&pod)), (1, Some("default")));
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
        assert!(claims(&pod).is_empty() && of_pod(&pod).is_empty() && account_of_pod(&pod).is_none());
        assert_eq!(named_in(&pod).len(), 3);
    }

    #[test]
    fn a_volume_shares_only_the_secrets_that_a_node_uses() {
        let volume = json!({"spec": {"claimRef": {"namespace": "ns", "name": "c"}, "csi": {
            "nodeStageSecretRef": {"name": "stage", "namespace": "other"},
            "nodePublishSecretRef": {"name": "publish"},
            "controllerPublishSecretRef": {"name": "controller", "namespace": "other"}}}});
        let found: Vec<String> = secrets_of_volume(&volume).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["ns/secret/publish", "other/secret/stage"]);
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
