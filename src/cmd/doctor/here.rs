//! The pods of this node as its store has them, read for what they expect of the node: the Kubernetes API, names of
//! Services, sockets. Guesses nothing that is not written in the pod; token and certificate never leave this process.

use crate::base::Failure;
use crate::model::{Kind, ObjectKey};
use crate::store::Reader;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PodHere {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The service account.
    pub account: String,
    /// Whether an API token of the account is mounted.
    pub token: bool,
    /// Images of all containers.
    pub images: Vec<String>,
    /// Environment as it is written; what comes from elsewhere is left out.
    pub env: Vec<(String, String)>,
    /// Commands and arguments.
    pub words: Vec<String>,
    /// Directories and files of the node that are mounted.
    pub host_paths: Vec<PathBuf>,
    /// What to change so that the pod changes, such as `deployment/web`; `None`: the pod itself.
    pub owner: Option<String>,
}

impl PodHere {
    pub fn title(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first text of the pod's own that holds this word.
    pub fn says(&self, word: &str) -> Option<&str> {
        let env = self.env.iter().map(|(_, value)| value.as_str());
        env.chain(self.words.iter().map(String::as_str)).find(|text| text.contains(word))
    }
}

/// Pods that run or are to run, from a store; none where there is no database.
pub(super) fn pods(database: Option<&Path>) -> Result<Vec<PodHere>, Failure> {
    let Some(path) = database.filter(|path| path.is_file()) else { return Ok(Vec::new()) };
    let objects = Reader::open(path)?.objects(Kind::Pod)?;
    Ok(objects.iter().filter_map(|(key, object)| read(key, object)).collect())
}

pub(super) fn read(key: &ObjectKey, object: &Value) -> Option<PodHere> {
    let pod: Pod = serde_json::from_value(object.clone()).ok()?;
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("");
    if phase == "Succeeded" || phase == "Failed" || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let spec = pod.spec.as_ref()?;
    let mut here = PodHere {
        namespace: key.namespace.clone().unwrap_or_default(),
        name: key.name.clone(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        account: spec
            .service_account_name
            .clone()
            .filter(|name| !name.is_empty())
            .unwrap_or("default".into()),
        token: super::closure::wants_token(spec),
        owner: owner(&pod),
        ..PodHere::default()
    };
    for container in containers(spec) {
        here.images.extend(container.image.clone());
        let variables = container.env.iter().flatten();
        here.env
            .extend(variables.filter_map(|variable| Some((variable.name.clone(), variable.value.clone()?))));
        here.words.extend(container.command.iter().chain(&container.args).flatten().cloned());
    }
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.host_path.as_ref());
    here.host_paths = volumes.map(|path| PathBuf::from(&path.path)).collect();
    Some(here)
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// A ReplicaSet carries its Deployment's name and a hash, which the pod has as a label.
fn owner(pod: &Pod) -> Option<String> {
    let owner =
        pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    let hash = pod.metadata.labels.as_ref().and_then(|labels| labels.get("pod-template-hash"));
    let deployment = hash.and_then(|hash| owner.name.strip_suffix(&format!("-{hash}")));
    match (owner.kind.as_str(), deployment) {
        ("ReplicaSet", Some(name)) => Some(format!("deployment/{name}")),
        (kind, _) => Some(format!("{}/{}", kind.to_lowercase(), owner.name)),
    }
}

/// Names of pods, the first few of many.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names.get(..SHOWN.min(names.len())).unwrap_or_default().join(", ");
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}

/// The token that this pod has mounted; never shown.
pub(super) fn token_of(reader: &Reader, pod: &PodHere) -> Option<String> {
    let rows = reader.rows(Some(Kind::ServiceAccountToken.as_str())).ok()?;
    let (before, bound) =
        (format!("\"{}\"/\"{}\"/", pod.account, pod.namespace), format!("UID:\"{}\"", pod.uid));
    let row = rows.into_iter().rfind(|row| row.key.starts_with(&before) && row.key.contains(&bound))?;
    row.value.pointer("/status/token")?.as_str().map(str::to_owned)
}

/// The authority that pods of a namespace trust the API by, as PEM.
pub(super) fn authority_of(reader: &Reader, namespace: &str) -> Option<String> {
    let key = ObjectKey::namespaced(Kind::ConfigMap, namespace, "kube-root-ca.crt");
    let map = reader.object(&key).ok()??;
    map.get("data")?.get("ca.crt")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_read_for_what_it_expects() {
        let key = ObjectKey::namespaced(Kind::Pod, "d", "web-77f-abc");
        let object = json!({"metadata": {"name": "web-77f-abc", "namespace": "d", "uid": "u",
                "labels": {"pod-template-hash": "77f"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-77f", "uid": "r", "controller": true}]},
            "spec": {"serviceAccountName": "robot",
                "initContainers": [{"name": "i", "image": "b:1", "args": ["http://db.prod.svc:80"]}],
                "containers": [{"name": "c", "image": "a:1",
                    "env": [{"name": "KUBERNETES_SERVICE_HOST", "value": "10.0.0.1"}, {"name": "X", "valueFrom": {}}]}],
                "volumes": [{"name": "s", "hostPath": {"path": "/etc/kubeedge"}},
                    {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]}});
        let pod = read(&key, &object).unwrap();
        assert_eq!(pod.owner.as_deref(), Some("deployment/web"));
        assert!(pod.token && pod.account == "robot" && pod.images == ["b:1", "a:1"]);
        assert_eq!(pod.variable("KUBERNETES_SERVICE_HOST"), Some("10.0.0.1"));
        assert_eq!(pod.says(".svc"), Some("http://db.prod.svc:80"));
        assert_eq!(pod.host_paths, [PathBuf::from("/etc/kubeedge")]);
        let mut ended = object;
        ended["status"] = json!({"phase": "Succeeded"});
        assert_eq!(read(&key, &ended), None);
    }

    #[test]
    fn many_names_stay_a_short_list() {
        assert_eq!(listed(["a", "b"]), "a, b");
        assert_eq!(listed(["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e and 2 more");
    }
}
