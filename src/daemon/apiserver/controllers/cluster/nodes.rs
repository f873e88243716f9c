//! Watches over nodes: one whose lease is not renewed becomes Unknown; taints follow the conditions.

use crate::base::{now, rfc3339};
use crate::daemon::apiserver::controllers::collections::{LEASES, NODES};
use crate::daemon::apiserver::controllers::read::{condition, list, name, namespace, set_condition, text};
use crate::daemon::apiserver::controllers::runner::{Controller, Next, Seen, World};
use crate::daemon::apiserver::local::Collection;
use crate::model::Status;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const GRACE: Duration = Duration::from_secs(40);
const COMPONENT: &str = "node-controller";
pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Conditions that a silent node no longer answers for.
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// The conditions of a node that has fallen silent, if they say anything else yet.
fn silenced(node: &Value, at: Timestamp) -> Option<Vec<Value>> {
    let mut conditions = list(&node["status"]["conditions"]).to_vec();
    let mut changed = false;
    for kind in CONDITIONS {
        let old = condition(&node["status"], kind);
        if old.is_some_and(|old| old["status"] == "Unknown") {
            continue;
        }
        let (reason, message) = match old {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        let heartbeat =
            old.map_or(node["metadata"]["creationTimestamp"].clone(), |o| o["lastHeartbeatTime"].clone());
        let mut new = json!({"type": kind, "status": "Unknown", "reason": reason, "message": message});
        if !heartbeat.is_null() {
            new["lastHeartbeatTime"] = heartbeat;
        }
        changed |= set_condition(&mut conditions, new, at);
    }
    changed.then_some(conditions)
}

/// The taints that follow from the conditions, with the others kept; `None` when they are there already.
fn taints(node: &Value, at: Timestamp) -> Option<Vec<Value>> {
    let old = list(&node["spec"]["taints"]);
    let ready = condition(&node["status"], "Ready").map_or("", |ready| text(&ready["status"]));
    let mut wanted: Vec<(&str, &str)> = match ready {
        "True" => vec![],
        "Unknown" => vec![(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")],
        // A node that has not spoken yet gets no pods, but nothing is driven from it.
        "" => vec![(NOT_READY, "NoSchedule")],
        _ => vec![(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")],
    };
    let pressed = |kind: &str| condition(&node["status"], kind).is_some_and(|c| c["status"] == "True");
    wanted
        .extend(PRESSURES.iter().filter(|(kind, _)| pressed(kind)).map(|(_, taint)| (*taint, "NoSchedule")));
    if node["spec"]["unschedulable"] == true {
        wanted.push(("node.kubernetes.io/unschedulable", "NoSchedule"));
    }
    let ours = |taint: &Value| {
        let key = text(&taint["key"]);
        let conditional = PRESSURES.iter().any(|(_, pressure)| *pressure == key)
            || key == "node.kubernetes.io/unschedulable";
        key == NOT_READY || key == UNREACHABLE || conditional && taint["effect"] == "NoSchedule"
    };
    let is = |taint: &Value, (key, effect): &(&str, &str)| taint["key"] == *key && taint["effect"] == *effect;
    let kept = old.iter().filter(|taint| !ours(taint) || wanted.iter().any(|want| is(taint, want)));
    let mut new: Vec<Value> = kept.cloned().collect();
    for want in &wanted {
        if !old.iter().any(|taint| is(taint, want)) {
            new.push(json!({"key": want.0, "effect": want.1, "timeAdded": rfc3339(at)}));
        }
    }
    (new != old).then_some(new)
}

/// A sign of life and when it was seen here; clocks of nodes are not trusted.
struct Heartbeat {
    sign: (Value, Value),
    seen: Instant,
}

pub(in crate::daemon::apiserver::controllers) struct Nodes {
    world: World,
    heartbeats: Mutex<HashMap<String, Heartbeat>>,
}

impl Nodes {
    pub(in crate::daemon::apiserver::controllers) fn new(world: World) -> Self {
        Nodes { world, heartbeats: Mutex::new(HashMap::new()) }
    }

    /// How long the node may stay silent from now on; zero when it has been silent for too long.
    fn patience(&self, node: &Value, lease: &Value) -> Duration {
        let heartbeat = condition(&node["status"], "Ready").map_or(&Value::Null, |c| &c["lastHeartbeatTime"]);
        let renewed = (lease["spec"]["renewTime"].clone(), heartbeat.clone());
        let mut all = self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = all
            .entry(name(node).to_owned())
            .or_insert_with(|| Heartbeat { sign: renewed.clone(), seen: Instant::now() });
        // Conditions that this controller wrote keep the old heartbeat, so they are no sign of life.
        if entry.sign != renewed {
            *entry = Heartbeat { sign: renewed, seen: Instant::now() };
        }
        GRACE.saturating_sub(entry.seen.elapsed())
    }

    async fn silence(&self, node: &Value) -> Result<(), Status> {
        let Some(conditions) = silenced(node, now()) else { return Ok(()) };
        let mut new = node.clone();
        new["status"]["conditions"] = Value::Array(conditions);
        self.world.local.update_status(&NODES, new).await?;
        let message = format!("Node {} status is now: NodeNotReady", name(node));
        self.world.events.normal(COMPONENT, node, "NodeNotReady", message);
        tracing::info!(node = name(node), "the node is silent");
        Ok(())
    }
}

impl Controller for Nodes {
    fn name(&self) -> &'static str {
        "node"
    }

    fn follows(&self) -> Vec<Collection> {
        vec![NODES, LEASES]
    }

    async fn keys(&self, seen: &Seen) -> Vec<String> {
        let object = &seen.object;
        let matters = seen.collection == NODES || namespace(object) == LEASE_NAMESPACE;
        if matters { vec![name(object).to_owned()] } else { Vec::new() }
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Status> {
        let local = &self.world.local;
        let node = match local.get(&NODES, None, key).await {
            Ok(node) => node,
            Err(error) if error.is_not_found() => {
                self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
                return Ok(Next::Done);
            }
            Err(error) => return Err(error),
        };
        let lease = local.get(&LEASES, Some(LEASE_NAMESPACE), key).await;
        let lease = lease.map_or(Value::Null, |lease| Value::clone(&lease));
        let patience = self.patience(&node, &lease);
        if patience.is_zero() {
            self.silence(&node).await?;
        }
        let node = local.get(&NODES, None, key).await?;
        if let Some(taints) = taints(&node, now()) {
            let taints = if taints.is_empty() { Value::Null } else { Value::Array(taints) };
            let patch = json!({"metadata": {"resourceVersion": node["metadata"]["resourceVersion"]},
                "spec": {"taints": taints}});
            local.merge_patch(&NODES, None, key, None, patch).await?;
        }
        Ok(if patience.is_zero() { Next::Done } else { Next::After(patience + Duration::from_millis(100)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: &str, taints: Value) -> Value {
        let conditions: Vec<Value> = if ready.is_empty() {
            vec![]
        } else {
            vec![json!({"type": "Ready", "status": ready, "lastHeartbeatTime": "t"})]
        };
        json!({"metadata": {"name": "n"}, "spec": {"taints": taints}, "status": {"conditions": conditions}})
    }

    fn at() -> Timestamp {
        Timestamp::from_second(0).unwrap()
    }

    fn keys(taints: Option<Vec<Value>>) -> Vec<String> {
        let show = |t: &Value| format!("{}:{}", text(&t["key"]), text(&t["effect"]));
        taints.unwrap().iter().map(show).collect()
    }

    #[test]
    fn taints_follow_the_conditions_and_others_stay() {
        let own = json!([{"key": "own", "effect": "NoSchedule"}]);
        assert_eq!(taints(&node("True", own.clone()), at()), None);
        assert_eq!(
            keys(taints(&node("Unknown", own.clone()), at())),
            [
                "own:NoSchedule",
                "node.kubernetes.io/unreachable:NoSchedule",
                "node.kubernetes.io/unreachable:NoExecute"
            ]
        );
        assert_eq!(
            keys(taints(&node("", own), at())),
            ["own:NoSchedule", "node.kubernetes.io/not-ready:NoSchedule"]
        );
        let unreachable = json!([{"key": UNREACHABLE, "effect": "NoSchedule"}, {"key": UNREACHABLE, "effect": "NoExecute"}]);
        assert_eq!(taints(&node("Unknown", unreachable.clone()), at()), None);
        assert_eq!(taints(&node("True", unreachable), at()), Some(vec![]));
    }

    #[test]
    fn a_silent_node_is_unknown_once() {
        let mut n = node("True", json!([]));
        let conditions = silenced(&n, at()).unwrap();
        assert_eq!(conditions.len(), 4);
        assert_eq!(conditions[0]["reason"], "NodeStatusUnknown");
        assert_eq!(conditions[0]["lastHeartbeatTime"], "t");
        assert_eq!(conditions[1]["reason"], "NodeStatusNeverUpdated");
        n["status"]["conditions"] = Value::Array(conditions);
        assert_eq!(silenced(&n, at()), None);
    }
}
