//! Drives pods from nodes with NoExecute taints, each after the time it tolerates them. Pods of edge nodes stay when
//! only the connection is gone: an edge node that is silent still runs them.

use super::nodes::{NOT_READY, UNREACHABLE};
use crate::base::now;
use crate::daemon::apiserver::controllers::collections::{NODES, PODS};
use crate::daemon::apiserver::controllers::read::{active, key, list, name, namespace, text, time, uid};
use crate::daemon::apiserver::controllers::runner::{Controller, Next, Seen, World};
use crate::daemon::apiserver::controllers::scheduler::affinity::tolerates;
use crate::daemon::apiserver::local::{Collection, Deletion};
use crate::model::Status;
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;

const COMPONENT: &str = "taint-eviction-controller";
const EDGE_LABEL: &str = "node-role.kubernetes.io/edge";

/// Seconds that a pod may stay on a node; `None` is for ever.
fn stay(node: &Value, pod: &Value, at: Timestamp) -> Option<i64> {
    let edge = node["metadata"]["labels"].get(EDGE_LABEL).is_some();
    let tolerations = list(&pod["spec"]["tolerations"]);
    list(&node["spec"]["taints"])
        .iter()
        .filter(|taint| taint["effect"] == "NoExecute")
        .filter(|taint| !(edge && matches!(text(&taint["key"]), NOT_READY | UNREACHABLE)))
        .filter_map(|taint| {
            let covering: Vec<&Value> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
            if covering.is_empty() {
                return Some(0);
            }
            let seconds =
                covering.iter().filter_map(|toleration| toleration["tolerationSeconds"].as_i64()).min()?;
            let since = time(&taint["timeAdded"]).unwrap_or(at);
            Some((since.as_second() + seconds.max(0) - at.as_second()).max(0))
        })
        .min()
}

pub(in crate::daemon::apiserver::controllers) struct Eviction(
    pub(in crate::daemon::apiserver::controllers) World,
);

impl Controller for Eviction {
    fn name(&self) -> &'static str {
        "eviction"
    }

    fn follows(&self) -> Vec<Collection> {
        vec![NODES, PODS]
    }

    async fn keys(&self, seen: &Seen) -> Vec<String> {
        let node = if seen.collection == NODES {
            name(&seen.object)
        } else {
            text(&seen.object["spec"]["nodeName"])
        };
        if seen.gone || node.is_empty() { Vec::new() } else { vec![node.to_owned()] }
    }

    async fn reconcile(&self, node_name: &str) -> Result<Next, Status> {
        let local = &self.0.local;
        let node = match local.get(&NODES, None, node_name).await {
            Ok(node) => node,
            Err(error) if error.is_not_found() => return Ok(Next::Done),
            Err(error) => return Err(error),
        };
        if !list(&node["spec"]["taints"]).iter().any(|taint| taint["effect"] == "NoExecute") {
            return Ok(Next::Done);
        }
        let at = now();
        let mut next: Option<i64> = None;
        for pod in local.list(&PODS, None).await?.0 {
            if pod["spec"]["nodeName"] != node_name || !active(&pod) {
                continue;
            }
            match stay(&node, &pod, at) {
                None => {}
                Some(0) => self.evict(&pod).await?,
                Some(seconds) => next = Some(next.map_or(seconds, |earlier| earlier.min(seconds))),
            }
        }
        Ok(next.map_or(Next::Done, |seconds| Next::After(Duration::from_secs(seconds.unsigned_abs()))))
    }
}

impl Eviction {
    async fn evict(&self, pod: &Value) -> Result<(), Status> {
        let message = format!("Marking for deletion Pod {}", key(pod));
        self.0.events.normal(COMPONENT, pod, "TaintManagerEviction", message);
        let deletion = Deletion { uid: Some(uid(pod).to_owned()), ..Deletion::default() };
        match self.0.local.delete(&PODS, Some(namespace(pod)), name(pod), deletion).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(key: &str, edge: bool) -> Value {
        let labels = if edge { json!({EDGE_LABEL: ""}) } else { json!({}) };
        json!({"metadata": {"labels": labels}, "spec": {"taints": [
            {"key": key, "effect": "NoExecute", "timeAdded": "1970-01-01T00:00:00Z"}]}})
    }

    fn pod(toleration: Value) -> Value {
        json!({"spec": {"tolerations": [toleration]}})
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn pods_stay_as_long_as_they_tolerate() {
        let patient = pod(
            json!({"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}),
        );
        assert_eq!(stay(&node(UNREACHABLE, false), &patient, at(100)), Some(200));
        assert_eq!(stay(&node(UNREACHABLE, false), &patient, at(400)), Some(0));
        let forever = pod(json!({"operator": "Exists"}));
        assert_eq!(stay(&node(UNREACHABLE, false), &forever, at(400)), None);
        assert_eq!(stay(&node("own", false), &patient, at(0)), Some(0));
    }

    #[test]
    fn pods_of_a_silent_edge_node_are_never_evicted() {
        let impatient = pod(json!({"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": 1}));
        assert_eq!(stay(&node(UNREACHABLE, true), &impatient, at(1_000)), None);
        assert_eq!(stay(&node(NOT_READY, true), &impatient, at(1_000)), None);
        assert_eq!(stay(&node("own", true), &impatient, at(1_000)), Some(0));
    }
}
