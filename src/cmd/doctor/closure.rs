//! What a pod needs to start when no cloud answers, and whether this node's store has it: ConfigMaps, Secrets, tokens of
//! service accounts, volumes, the Node object. Pure apart from reading the store; images are the runtime's to answer.

use crate::base::Failure;
use crate::model::{Kind, ObjectKey};
use crate::store::Reader;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One pod and what it lacks.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Closure {
    pub namespace: String,
    pub name: String,
    /// `None`: it has ended for good, or is being deleted, and does not start again.
    pub starts: Option<bool>,
    /// What is missing, each with its kind.
    pub missing: Vec<Missing>,
    /// Whether each image is in the runtime; `None`: no runtime answers.
    pub images: BTreeMap<String, Option<bool>>,
}

/// One thing that the store lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Missing {
    pub kind: String,
    pub name: String,
    pub why: String,
}

impl Missing {
    fn new(kind: &str, name: impl Into<String>, why: impl Into<String>) -> Missing {
        Missing { kind: kind.to_owned(), name: name.into(), why: why.into() }
    }
}

/// What a store has, read once.
pub(super) struct Held {
    pods: Vec<(ObjectKey, Value)>,
    keys: BTreeSet<String>,
    /// Names of PersistentVolumes by claim.
    claims: BTreeMap<String, Option<String>>,
    /// Keys of kept tokens, in KubeEdge's form.
    tokens: Vec<String>,
    has_node: bool,
}

impl Held {
    /// Reads everything that pods may need from a store, a genuine edgecore's too.
    pub fn read(reader: &Reader) -> Result<Held, Failure> {
        let mut keys = BTreeSet::new();
        for kind in [Kind::ConfigMap, Kind::Secret, Kind::PersistentVolume] {
            keys.extend(reader.rows(Some(kind.as_str()))?.into_iter().map(|row| row.key));
        }
        let mut claims = BTreeMap::new();
        for (key, claim) in reader.objects(Kind::PersistentVolumeClaim)? {
            let volume = claim.pointer("/spec/volumeName").and_then(Value::as_str);
            claims.insert(key.to_string(), volume.filter(|name| !name.is_empty()).map(str::to_owned));
        }
        let tokens = reader.rows(Some(Kind::ServiceAccountToken.as_str()))?;
        let tokens = tokens.into_iter().filter(|row| row.value.pointer("/status/token").is_some());
        Ok(Held {
            pods: reader.objects(Kind::Pod)?,
            keys,
            claims,
            tokens: tokens.map(|row| row.key).collect(),
            has_node: !reader.objects(Kind::Node)?.is_empty(),
        })
    }

    /// Every pod with what it lacks; images are not looked at yet.
    pub fn closures(&self) -> Vec<Closure> {
        self.pods.iter().map(|(key, pod)| self.closure(key, pod)).collect()
    }

    fn closure(&self, key: &ObjectKey, pod: &Value) -> Closure {
        let mut closure = Closure {
            namespace: key.namespace.clone().unwrap_or_default(),
            name: key.name.clone(),
            starts: Some(true),
            missing: Vec::new(),
            images: BTreeMap::new(),
        };
        let pod: Pod = match serde_json::from_value(pod.clone()) {
            Ok(pod) => pod,
            Err(error) => {
                closure.missing.push(Missing::new("Pod", &*closure.name, format!("cannot be read: {error}")));
                closure.starts = Some(false);
                return closure;
            }
        };
        if has_ended(&pod) {
            closure.starts = None;
            return closure;
        }
        let Some(spec) = &pod.spec else { return closure };
        for container in containers(spec) {
            if let Some(image) = &container.image {
                closure.images.insert(image.clone(), None);
            }
        }
        closure.missing = self.missing(&pod, spec, &closure.namespace);
        closure.starts = Some(closure.missing.is_empty());
        closure
    }

    fn missing(&self, pod: &Pod, spec: &PodSpec, namespace: &str) -> Vec<Missing> {
        let mut missing = Vec::new();
        if !self.has_node {
            missing.push(Missing::new("Node", "this node", "the node was never registered"));
        }
        let mut wanted: BTreeSet<(Kind, String)> = BTreeSet::new();
        for container in containers(spec) {
            wanted.extend(of_environment(container));
        }
        for volume in spec.volumes.iter().flatten() {
            wanted.extend(of_volume(volume));
        }
        for (kind, name) in wanted {
            let key = ObjectKey::namespaced(kind, namespace, &*name).to_string();
            if !self.keys.contains(&key) {
                let kind = if kind == Kind::Secret { "Secret" } else { "ConfigMap" };
                missing.push(Missing::new(kind, name, "not in the store"));
            }
        }
        for volume in spec.volumes.iter().flatten() {
            missing.extend(self.missing_claim(volume, namespace));
        }
        let account =
            spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if wants_token(spec) && !self.has_token(namespace, account, uid) {
            missing.push(Missing::new("ServiceAccountToken", account, "no token for this pod in the store"));
        }
        missing
    }

    fn missing_claim(&self, volume: &Volume, namespace: &str) -> Option<Missing> {
        let claim = &volume.persistent_volume_claim.as_ref()?.claim_name;
        let key = ObjectKey::namespaced(Kind::PersistentVolumeClaim, namespace, &**claim).to_string();
        match self.claims.get(&key) {
            None => Some(Missing::new("PersistentVolumeClaim", claim, "not in the store")),
            Some(None) => Some(Missing::new("PersistentVolumeClaim", claim, "not bound to a volume")),
            Some(Some(volume)) => {
                let key = ObjectKey::cluster(Kind::PersistentVolume, &**volume).to_string();
                let held = self.keys.contains(&key);
                (!held).then(|| Missing::new("PersistentVolume", volume, "not in the store"))
            }
        }
    }

    /// KubeEdge's keys name account, namespace and the pod that the token is bound to.
    fn has_token(&self, namespace: &str, account: &str, uid: &str) -> bool {
        let (before, bound) = (format!("\"{account}\"/\"{namespace}\"/"), format!("UID:\"{uid}\""));
        self.tokens.iter().any(|key| key.starts_with(&before) && key.contains(&bound))
    }
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("");
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
    let ended = match policy {
        "Never" => phase == "Succeeded" || phase == "Failed",
        "OnFailure" => phase == "Succeeded",
        _ => false,
    };
    ended || pod.metadata.deletion_timestamp.is_some()
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn of_environment(container: &Container) -> Vec<(Kind, String)> {
    let mut found = Vec::new();
    for source in container.env_from.iter().flatten() {
        if let Some(map) = source.config_map_ref.as_ref().filter(|map| map.optional != Some(true)) {
            found.push((Kind::ConfigMap, map.name.clone()));
        }
        if let Some(secret) = source.secret_ref.as_ref().filter(|secret| secret.optional != Some(true)) {
            found.push((Kind::Secret, secret.name.clone()));
        }
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        if let Some(map) = source.config_map_key_ref.as_ref().filter(|map| map.optional != Some(true)) {
            found.push((Kind::ConfigMap, map.name.clone()));
        }
        if let Some(secret) = source.secret_key_ref.as_ref().filter(|secret| secret.optional != Some(true)) {
            found.push((Kind::Secret, secret.name.clone()));
        }
    }
    found
}

fn of_volume(volume: &Volume) -> Vec<(Kind, String)> {
    let mut found = Vec::new();
    if let Some(map) = volume.config_map.as_ref().filter(|map| map.optional != Some(true)) {
        found.push((Kind::ConfigMap, map.name.clone()));
    }
    if let Some(secret) = volume.secret.as_ref().filter(|secret| secret.optional != Some(true)) {
        found.extend(secret.secret_name.clone().map(|name| (Kind::Secret, name)));
    }
    let sources = volume.projected.as_ref().and_then(|projected| projected.sources.as_ref());
    for source in sources.into_iter().flatten() {
        if let Some(map) = source.config_map.as_ref().filter(|map| map.optional != Some(true)) {
            found.push((Kind::ConfigMap, map.name.clone()));
        }
        if let Some(secret) = source.secret.as_ref().filter(|secret| secret.optional != Some(true)) {
            found.push((Kind::Secret, secret.name.clone()));
        }
    }
    found
}

pub(super) fn wants_token(spec: &PodSpec) -> bool {
    let projected = spec.volumes.iter().flatten().filter_map(|volume| volume.projected.as_ref());
    projected
        .filter_map(|projected| projected.sources.as_ref())
        .flatten()
        .any(|source| source.service_account_token.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use serde_json::json;

    fn pod(extra: &Value) -> Value {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": "u-1"},
            "spec": {"containers": [{"name": "c", "image": "a:1"}]}});
        json_patch::merge(&mut pod, extra);
        pod
    }

    async fn closure(pod: Value, others: &[(ObjectKey, Value)]) -> Closure {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edgecore.db");
        let store = Store::open(&path).unwrap();
        store.put_object(&ObjectKey::namespaced(Kind::Pod, "d", "p"), &pod).await.unwrap();
        for (key, object) in others {
            store.put_object(key, object).await.unwrap();
        }
        let token = r#""robot"/"d"/[]string(nil)/3607/v1.BoundObjectReference{Kind:"Pod", APIVersion:"v1", Name:"p", UID:"u-1"}"#;
        store.put_token(token, &json!({"status": {"token": "t"}})).await.unwrap();
        let held = Held::read(&Reader::open(&path).unwrap()).unwrap();
        held.closures().remove(0)
    }

    fn node() -> (ObjectKey, Value) {
        (ObjectKey::cluster(Kind::Node, "n1"), json!({"metadata": {"name": "n1"}}))
    }

    fn names(closure: &Closure) -> Vec<String> {
        closure.missing.iter().map(|missing| format!("{}/{}", missing.kind, missing.name)).collect()
    }

    #[tokio::test]
    async fn every_kind_of_reference_must_be_in_the_store() {
        let wanted = pod(&json!({"spec": {
            "serviceAccountName": "robot",
            "containers": [{"name": "c", "image": "a:1",
                "envFrom": [{"configMapRef": {"name": "env"}}, {"secretRef": {"name": "spare", "optional": true}}],
                "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}]}],
            "initContainers": [{"name": "i", "image": "b:1"}],
            "volumes": [{"name": "a", "configMap": {"name": "files"}}, {"name": "b", "secret": {"secretName": "tls"}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt"}}]}}]}}));
        let nothing = closure(wanted.clone(), &[]).await;
        assert_eq!(nothing.starts, Some(false));
        let expected = [
            "Node/this node",
            "ConfigMap/env",
            "ConfigMap/files",
            "ConfigMap/kube-root-ca.crt",
            "Secret/key",
            "Secret/tls",
            "PersistentVolumeClaim/data",
        ];
        assert_eq!(names(&nothing), expected);
        assert_eq!(nothing.images.keys().collect::<Vec<_>>(), ["a:1", "b:1"]);

        let namespaced =
            |kind, name: &str| (ObjectKey::namespaced(kind, "d", name), json!({"metadata": {"name": name}}));
        let mut held = vec![
            node(),
            namespaced(Kind::ConfigMap, "env"),
            namespaced(Kind::ConfigMap, "files"),
            namespaced(Kind::ConfigMap, "kube-root-ca.crt"),
            namespaced(Kind::Secret, "key"),
            namespaced(Kind::Secret, "tls"),
        ];
        let claim = ObjectKey::namespaced(Kind::PersistentVolumeClaim, "d", "data");
        held.push((claim, json!({"metadata": {"name": "data"}, "spec": {"volumeName": "pv-1"}})));
        assert_eq!(names(&closure(wanted.clone(), &held).await), ["PersistentVolume/pv-1"]);
        held.push((
            ObjectKey::cluster(Kind::PersistentVolume, "pv-1"),
            json!({"metadata": {"name": "pv-1"}}),
        ));
        assert_eq!(closure(wanted.clone(), &held).await.starts, Some(true));

        let mut other = wanted;
        other["metadata"]["uid"] = json!("u-2");
        assert_eq!(names(&closure(other, &held).await), ["ServiceAccountToken/robot"]);
    }

    #[tokio::test]
    async fn what_has_ended_does_not_start_again() {
        for ended in [
            json!({"spec": {"restartPolicy": "Never"}, "status": {"phase": "Failed"}}),
            json!({"spec": {"restartPolicy": "OnFailure"}, "status": {"phase": "Succeeded"}}),
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        ] {
            assert_eq!(closure(pod(&ended), &[]).await.starts, None, "{ended}");
        }
        let failed = json!({"spec": {"restartPolicy": "OnFailure"}, "status": {"phase": "Failed"}});
        assert_eq!(closure(pod(&failed), &[node()]).await.starts, Some(true));
    }
}
