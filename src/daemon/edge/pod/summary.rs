//! Short facts about the pods on this node for the node room, the status command and log readers. Written by workers.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// One pod in a few words.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub phase: String,
    pub ready: usize,
    pub restarts: u64,
    pub ip: String,
    /// RFC 3339; empty before the pod has started.
    pub started: String,
    pub containers: Vec<ContainerSummary>,
}

/// One container in a few words.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSummary {
    pub name: String,
    /// The runtime's id without its scheme; empty before it exists.
    pub id: String,
    /// `Running`, or why it is not.
    pub state: String,
    pub restarts: u64,
}

impl Summary {
    /// Reads a status as the room reports it.
    pub fn read(namespace: &str, name: &str, uid: &str, status: &Value) -> Summary {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |field: &str| status.get(field).and_then(Value::as_array).into_iter().flatten();
        let container = |status: &Value| {
            let state = match status["state"].as_object().and_then(|state| state.iter().next()) {
                Some((kind, _)) if kind == "running" => "Running".to_owned(),
                Some((_, detail)) => text(&detail["reason"]),
                None => String::new(),
            };
            ContainerSummary {
                name: text(&status["name"]),
                id: text(&status["containerID"]).split("://").nth(1).unwrap_or_default().to_owned(),
                state,
                restarts: status["restartCount"].as_u64().unwrap_or(0),
            }
        };
        let main = list("containerStatuses");
        let ready = main.clone().filter(|status| status["ready"] == true).count();
        let containers: Vec<_> = list("initContainerStatuses").chain(main).map(container).collect();
        Summary {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            phase: text(&status["phase"]),
            ready,
            restarts: containers.iter().map(|container| container.restarts).sum(),
            ip: text(&status["podIP"]),
            started: text(&status["startTime"]),
            containers,
        }
    }
}

/// The table that workers write and handles read.
#[derive(Clone, Default)]
pub(super) struct Summaries(Arc<Mutex<BTreeMap<(String, String), Summary>>>);

impl Summaries {
    pub fn put(&self, summary: Summary) {
        let key = (summary.namespace.clone(), summary.name.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, summary);
    }

    /// Removes a pod unless another one of that name has taken its place.
    pub fn remove(&self, namespace: &str, name: &str, uid: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&key).is_some_and(|summary| summary.uid == uid) {
            all.remove(&key);
        }
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Summary> {
        let key = (namespace.to_owned(), name.to_owned());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    pub fn all(&self) -> Vec<Summary> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_becomes_a_few_words() {
        let status = json!({"phase": "Running", "podIP": "10.0.0.2", "containerStatuses": [
            {"name": "a", "ready": true, "restartCount": 2, "containerID": "containerd://x", "state": {"running": {}}},
            {"name": "b", "ready": false, "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
        ]});
        let summary = Summary::read("d", "p", "u", &status);
        assert_eq!((summary.ready, summary.restarts, summary.containers[0].id.as_str()), (1, 3, "x"));
        assert_eq!(summary.containers[1].state, "CrashLoopBackOff");
    }
}
