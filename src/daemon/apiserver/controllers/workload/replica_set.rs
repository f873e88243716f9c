//! ReplicaSets: as many pods as wanted, the least useful deleted first.

use super::family::{self, OwnerKind, adopters, claimed, count, create_pods, delete_pods, fields, pod_from};
use crate::base::now;
use crate::daemon::apiserver::controllers::collections::{PODS, REPLICA_SETS};
use crate::daemon::apiserver::controllers::read::{
    active, annotation, controller_key, controller_of, created, deleting, key, label, list, number,
    plain_condition, ready, set_condition, split, text, until_available,
};
use crate::daemon::apiserver::controllers::runner::{Controller, Next, Seen, World};
use crate::daemon::apiserver::local::Collection;
use crate::model::Status;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const KIND: OwnerKind =
    OwnerKind { api_version: "apps/v1", kind: "ReplicaSet", component: "replicaset-controller" };
/// At most this many pods are created or deleted in one go.
const BURST: usize = 500;

/// What brings a ReplicaSet to its wanted number.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: usize,
    pub(super) delete: Vec<Arc<Value>>,
}

/// Compares the pods there are with the number wanted.
pub(super) fn decide(set: &Value, pods: &[Arc<Value>]) -> Plan {
    if deleting(set) {
        return Plan::default();
    }
    let wanted = usize::try_from(number(&set["spec"]["replicas"])).unwrap_or(0);
    let mut alive: Vec<Arc<Value>> = pods.iter().filter(|pod| active(pod)).cloned().collect();
    if alive.len() <= wanted {
        return Plan { create: (wanted - alive.len()).min(BURST), delete: Vec::new() };
    }
    let excess = (alive.len() - wanted).min(BURST);
    sort_least_useful_first(&mut alive);
    alive.truncate(excess);
    Plan { create: 0, delete: alive }
}

/// Upstream's order: unassigned, pending, unready, cheap, crowded, young, restarting pods go first.
fn sort_least_useful_first(pods: &mut [Arc<Value>]) {
    let mut crowd: HashMap<String, usize> = HashMap::new();
    for pod in pods.iter() {
        *crowd.entry(text(&pod["spec"]["nodeName"]).to_owned()).or_default() += 1;
    }
    pods.sort_by_cached_key(|pod| {
        let node = text(&pod["spec"]["nodeName"]);
        let phase = match text(&pod["status"]["phase"]) {
            "Pending" | "" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        let cost: i64 = annotation(pod, "controller.kubernetes.io/pod-deletion-cost").parse().unwrap_or(0);
        let crowded = Reverse(crowd.get(node).copied().unwrap_or(0));
        let restarts: i64 =
            list(&pod["status"]["containerStatuses"]).iter().map(|c| number(&c["restartCount"])).sum();
        (!node.is_empty(), phase, ready(pod), cost, crowded, Reverse(restarts), Reverse(created(pod)))
    });
}

/// The status that follows from the pods, and when an unavailable pod becomes available by waiting.
fn status(
    set: &Value,
    pods: &[Arc<Value>],
    failure: Option<&Status>,
    at: Timestamp,
) -> (Map<String, Value>, Next) {
    let minimum = number(&set["spec"]["minReadySeconds"]);
    let alive: Vec<&Arc<Value>> = pods.iter().filter(|pod| active(pod)).collect();
    let template = set["spec"]["template"]["metadata"]["labels"].as_object();
    let labeled = alive
        .iter()
        .filter(|pod| template.is_none_or(|all| all.iter().all(|(k, v)| label(pod, k) == text(v))))
        .count();
    let waits: Vec<i64> = alive.iter().filter_map(|pod| until_available(pod, minimum, at)).collect();
    let available = waits.iter().filter(|wait| **wait == 0).count();
    let next = waits.iter().filter(|wait| **wait > 0).min();
    let next = next.map_or(Next::Done, |wait| Next::After(Duration::from_secs(wait.unsigned_abs())));
    let mut conditions: Vec<Value> = list(&set["status"]["conditions"])
        .iter()
        .filter(|condition| condition["type"] != "ReplicaFailure" || failure.is_some())
        .cloned()
        .collect();
    if let Some(failure) = failure {
        let condition = plain_condition("ReplicaFailure", true, "FailedCreate", &failure.message);
        set_condition(&mut conditions, condition, at);
    }
    let conditions = if conditions.is_empty() { Value::Null } else { Value::Array(conditions) };
    let status = fields([
        ("replicas", json!(alive.len())),
        ("fullyLabeledReplicas", count(labeled)),
        ("readyReplicas", count(alive.iter().filter(|pod| ready(pod)).count())),
        ("availableReplicas", count(available)),
        ("observedGeneration", set["metadata"]["generation"].clone()),
        ("conditions", conditions),
    ]);
    (status, next)
}

pub(in crate::daemon::apiserver::controllers) struct ReplicaSets(
    pub(in crate::daemon::apiserver::controllers) World,
);

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset"
    }

    fn follows(&self) -> Vec<Collection> {
        vec![REPLICA_SETS, PODS]
    }

    async fn keys(&self, seen: &Seen) -> Vec<String> {
        if seen.collection == REPLICA_SETS {
            return vec![key(&seen.object)];
        }
        match controller_of(&seen.object) {
            Some(_) => controller_key(&seen.object, KIND.kind).into_iter().collect(),
            None if seen.gone || deleting(&seen.object) => Vec::new(),
            None => adopters(&self.0, &REPLICA_SETS, &seen.object).await,
        }
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Status> {
        let world = &self.0;
        let (namespace, name) = split(key);
        let set = match world.local.get(&REPLICA_SETS, Some(namespace), name).await {
            Ok(set) => set,
            Err(error) if error.is_not_found() => return Ok(Next::Done),
            Err(error) => return Err(error),
        };
        let mut pods = claimed(world, &PODS, &set, KIND).await?;
        let plan = decide(&set, &pods);
        let busy = plan.create > 0 || !plan.delete.is_empty();
        let new = (0..plan.create).map(|_| pod_from(&set, KIND)).collect();
        let mut outcome = create_pods(world, &set, KIND, new).await;
        outcome = outcome.and(delete_pods(world, &set, KIND, plan.delete).await);
        if busy {
            pods = claimed(world, &PODS, &set, KIND).await?;
        }
        let (status, next) = status(&set, &pods, outcome.as_ref().err(), now());
        family::write_status(world, &REPLICA_SETS, &set, status).await?;
        outcome.map(|()| next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: i64) -> Value {
        json!({"metadata": {"generation": 2}, "spec": {"replicas": replicas, "template": {"metadata": {"labels": {"a": "1"}}}}})
    }

    fn pod(name: &str, node: &str, is_ready: bool) -> Arc<Value> {
        let state = if is_ready { "True" } else { "False" };
        Arc::new(json!({"metadata": {"name": name, "labels": {"a": "1"}}, "spec": {"nodeName": node},
            "status": {"phase": if node.is_empty() { "Pending" } else { "Running" }, "conditions": [
                {"type": "Ready", "status": state, "lastTransitionTime": "1970-01-01T00:00:10Z"}]}}))
    }

    fn names(pods: &[Arc<Value>]) -> Vec<&str> {
        pods.iter().map(|pod| text(&pod["metadata"]["name"])).collect()
    }

    #[test]
    fn missing_pods_are_created() {
        assert_eq!(decide(&set(3), &[pod("a", "n", true)]).create, 2);
        assert_eq!(decide(&set(1), &[pod("a", "n", true)]), Plan::default());
    }

    #[test]
    fn the_least_useful_pods_go_first() {
        let pods = [pod("ready", "n", true), pod("unready", "n", false), pod("unassigned", "", false)];
        assert_eq!(names(&decide(&set(2), &pods).delete), ["unassigned"]);
        assert_eq!(names(&decide(&set(0), &pods).delete), ["unassigned", "unready", "ready"]);
    }

    #[test]
    fn pods_that_are_over_or_leaving_do_not_count() {
        let mut over = (*pod("a", "n", false)).clone();
        over["status"]["phase"] = json!("Failed");
        let mut leaving = (*pod("b", "n", true)).clone();
        leaving["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:00Z");
        assert_eq!(decide(&set(1), &[Arc::new(over), Arc::new(leaving)]).create, 1);
    }

    #[test]
    fn a_set_that_is_deleted_rests() {
        let mut set = set(3);
        set["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:00Z");
        assert_eq!(decide(&set, &[]), Plan::default());
    }

    #[test]
    fn the_status_counts_ready_and_available() {
        let mut set = set(2);
        set["spec"]["minReadySeconds"] = json!(10);
        let pods = [pod("a", "n", true), pod("b", "n", false)];
        let (early, next) = status(&set, &pods, None, Timestamp::from_second(15).unwrap());
        assert_eq!((&early["replicas"], &early["readyReplicas"]), (&json!(2), &json!(1)));
        assert_eq!(early["availableReplicas"], Value::Null);
        assert_eq!(next, Next::After(Duration::from_secs(5)));
        let (late, _) = status(&set, &pods, None, Timestamp::from_second(20).unwrap());
        assert_eq!(late["availableReplicas"], 1);
        assert_eq!(late["observedGeneration"], 2);
    }
}
