//! DaemonSets: one pod on every node that suits, named by node affinity so that the scheduler binds it.

use super::family::{OwnerKind, adopters, claimed, create_pods, delete_pods, fields, pod_from, write_status};
use crate::base::now;
use crate::daemon::apiserver::controllers::collections::{DAEMON_SETS, NODES, PODS};
use crate::daemon::apiserver::controllers::read::{
    active, controller_key, controller_of, created, deleting, finished, hash, key, label, list, name, number,
    ready, share, split, text, until_available,
};
use crate::daemon::apiserver::controllers::runner::{Controller, Next, Seen, World};
use crate::daemon::apiserver::controllers::scheduler::affinity::{node_matches, untolerated};
use crate::daemon::apiserver::local::Collection;
use crate::model::Status;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const KIND: OwnerKind =
    OwnerKind { api_version: "apps/v1", kind: "DaemonSet", component: "daemonset-controller" };
const HASH_LABEL: &str = "controller-revision-hash";
const GENERATION_LABEL: &str = "pod-template-generation";
/// What every daemon pod tolerates, with the effect.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// What brings a DaemonSet to one pod per suitable node.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    create_on: Vec<String>,
    delete: Vec<Arc<Value>>,
}

/// The pod's node, or the one its affinity names while it waits for the scheduler.
fn node_of(pod: &Value) -> &str {
    let bound = text(&pod["spec"]["nodeName"]);
    if !bound.is_empty() {
        return bound;
    }
    let terms = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    text(&terms["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])
}

fn tolerations(set: &Value) -> Vec<Value> {
    let spec = &set["spec"]["template"]["spec"];
    let mut all = list(&spec["tolerations"]).to_vec();
    let network =
        (spec["hostNetwork"] == true).then_some(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let toleration = json!({"key": key, "operator": "Exists", "effect": effect});
        if !all.contains(&toleration) {
            all.push(toleration);
        }
    }
    all
}

/// Whether a pod belongs on a node, and whether one that is there may stay.
fn suits(set: &Value, tolerations: &[Value], node: &Value) -> (bool, bool) {
    if !node_matches(&set["spec"]["template"]["spec"], node) {
        return (false, false);
    }
    let blocked = untolerated(node, tolerations, &["NoSchedule", "NoExecute"]).is_some();
    let driven_out = untolerated(node, tolerations, &["NoExecute"]).is_some();
    (!blocked, !driven_out)
}

fn decide(set: &Value, hash: &str, nodes: &[Arc<Value>], pods: &[Arc<Value>], at: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if deleting(set) {
        return plan;
    }
    let tolerations = tolerations(set);
    let mut by_node: BTreeMap<&str, Vec<&Arc<Value>>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !deleting(pod)) {
        by_node.entry(node_of(pod)).or_default().push(pod);
    }
    for node in nodes {
        let (should_run, may_stay) = suits(set, &tolerations, node);
        let mut here = by_node.remove(name(node)).unwrap_or_default();
        let over: Vec<&Arc<Value>> = here.iter().filter(|pod| finished(pod)).copied().collect();
        plan.delete.extend(over.into_iter().cloned());
        here.retain(|pod| !finished(pod));
        if !may_stay {
            plan.delete.extend(here.into_iter().cloned());
        } else if here.is_empty() {
            if should_run {
                plan.create_on.push(name(node).to_owned());
            }
        } else {
            here.sort_by_cached_key(|pod| (!ready(pod), created(pod)));
            plan.delete.extend(here.into_iter().skip(1).cloned());
        }
    }
    // Pods that wait for a node that is gone; bound ones are the pod garbage collector's.
    let lost = by_node.into_values().flatten().filter(|pod| text(&pod["spec"]["nodeName"]).is_empty());
    plan.delete.extend(lost.cloned());
    if plan.create_on.is_empty() && plan.delete.is_empty() {
        plan.delete = outdated(set, hash, pods, at);
    }
    plan
}

/// Old pods that a rolling update may replace now: unavailable ones always, others within `maxUnavailable`.
fn outdated(set: &Value, hash: &str, pods: &[Arc<Value>], at: Timestamp) -> Vec<Arc<Value>> {
    let strategy = &set["spec"]["updateStrategy"];
    if strategy["type"] == "OnDelete" {
        return Vec::new();
    }
    let minimum = number(&set["spec"]["minReadySeconds"]);
    let available = |pod: &Value| active(pod) && until_available(pod, minimum, at) == Some(0);
    let total = i64::try_from(pods.len()).unwrap_or(i64::MAX);
    let allowed = share(&strategy["rollingUpdate"]["maxUnavailable"], total, true).max(1);
    let missing = i64::try_from(pods.iter().filter(|pod| !available(pod)).count()).unwrap_or(i64::MAX);
    let mut budget = (allowed - missing).max(0);
    pods.iter()
        .filter(|pod| label(pod, HASH_LABEL) != hash && !deleting(pod))
        .filter(|pod| {
            let broken = !available(pod);
            let chosen = broken || budget > 0;
            if chosen && !broken {
                budget -= 1;
            }
            chosen
        })
        .cloned()
        .collect()
}

fn pod_for(set: &Value, hash: &str, node: &str) -> Value {
    let mut pod = pod_from(set, KIND);
    if !pod["metadata"]["labels"].is_object() {
        pod["metadata"]["labels"] = json!({});
    }
    pod["metadata"]["labels"][HASH_LABEL] = json!(hash);
    pod["metadata"]["labels"][GENERATION_LABEL] = json!(number(&set["metadata"]["generation"]).to_string());
    pod["spec"]["tolerations"] = Value::Array(tolerations(set));
    let mut affinity = pod["spec"]["affinity"].as_object().cloned().unwrap_or_default();
    let node_affinity = affinity.entry("nodeAffinity").or_insert_with(|| json!({}));
    if !node_affinity.is_object() {
        *node_affinity = json!({});
    }
    node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] = json!({"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]});
    pod["spec"]["affinity"] = Value::Object(affinity);
    pod
}

fn status(
    set: &Value,
    hash: &str,
    nodes: &[Arc<Value>],
    pods: &[Arc<Value>],
    at: Timestamp,
) -> Map<String, Value> {
    let tolerations = tolerations(set);
    let minimum = number(&set["spec"]["minReadySeconds"]);
    let (mut desired, mut current, mut is_ready, mut available, mut updated, mut astray) = (0, 0, 0, 0, 0, 0);
    for node in nodes {
        let here: Vec<&Arc<Value>> =
            pods.iter().filter(|pod| node_of(pod) == name(node) && active(pod)).collect();
        let (should_run, _) = suits(set, &tolerations, node);
        if !should_run {
            astray += i64::from(!here.is_empty());
            continue;
        }
        desired += 1;
        current += i64::from(!here.is_empty());
        is_ready += i64::from(here.iter().any(|pod| ready(pod)));
        available += i64::from(here.iter().any(|pod| until_available(pod, minimum, at) == Some(0)));
        updated += i64::from(here.iter().any(|pod| label(pod, HASH_LABEL) == hash));
    }
    let some = |number: i64| if number == 0 { Value::Null } else { json!(number) };
    fields([
        ("desiredNumberScheduled", json!(desired)),
        ("currentNumberScheduled", json!(current)),
        ("numberMisscheduled", json!(astray)),
        ("numberReady", json!(is_ready)),
        ("numberAvailable", some(available)),
        ("numberUnavailable", some(desired - available)),
        ("updatedNumberScheduled", some(updated)),
        ("observedGeneration", set["metadata"]["generation"].clone()),
    ])
}

pub(in crate::daemon::apiserver::controllers) struct DaemonSets(
    pub(in crate::daemon::apiserver::controllers) World,
);

impl Controller for DaemonSets {
    fn name(&self) -> &'static str {
        "daemonset"
    }

    fn follows(&self) -> Vec<Collection> {
        vec![DAEMON_SETS, PODS, NODES]
    }

    async fn keys(&self, seen: &Seen) -> Vec<String> {
        if seen.collection == DAEMON_SETS {
            return vec![key(&seen.object)];
        }
        if seen.collection == NODES {
            let Ok((sets, _)) = self.0.local.list(&DAEMON_SETS, None).await else { return Vec::new() };
            return sets.iter().map(|set| key(set)).collect();
        }
        match controller_of(&seen.object) {
            Some(_) => controller_key(&seen.object, KIND.kind).into_iter().collect(),
            None if seen.gone || deleting(&seen.object) => Vec::new(),
            None => adopters(&self.0, &DAEMON_SETS, &seen.object).await,
        }
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Status> {
        let world = &self.0;
        let (namespace, name) = split(key);
        let set = match world.local.get(&DAEMON_SETS, Some(namespace), name).await {
            Ok(set) => set,
            Err(error) if error.is_not_found() => return Ok(Next::Done),
            Err(error) => return Err(error),
        };
        let hash = hash(&set["spec"]["template"], 0);
        let (nodes, _) = world.local.list(&NODES, None).await?;
        let pods = claimed(world, &PODS, &set, KIND).await?;
        let plan = decide(&set, &hash, &nodes, &pods, now());
        let new = plan.create_on.iter().map(|node| pod_for(&set, &hash, node)).collect();
        create_pods(world, &set, KIND, new).await?;
        delete_pods(world, &set, KIND, plan.delete).await?;
        let pods = claimed(world, &PODS, &set, KIND).await?;
        write_status(world, &DAEMON_SETS, &set, status(&set, &hash, &nodes, &pods, now())).await?;
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> Value {
        json!({"metadata": {"name": "d", "namespace": "n", "uid": "u", "generation": 1}, "spec": {
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {"metadata": {"labels": {"a": "1"}}, "spec": {"nodeSelector": {"edge": "yes"}}}}})
    }

    fn node(name: &str, edge: &str, taint: Option<&str>) -> Arc<Value> {
        let taints: Vec<Value> =
            taint.map(|key| json!({"key": key, "effect": "NoSchedule"})).into_iter().collect();
        Arc::new(json!({"metadata": {"name": name, "labels": {"edge": edge}}, "spec": {"taints": taints}}))
    }

    fn pod(node: &str, hash: &str, is_ready: bool) -> Arc<Value> {
        let mut pod = pod_for(&set(), hash, node);
        pod["status"] = json!({"conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" },
            "lastTransitionTime": "1970-01-01T00:00:00Z"}]});
        Arc::new(pod)
    }

    fn at() -> Timestamp {
        Timestamp::from_second(100).unwrap()
    }

    #[test]
    fn every_suitable_node_gets_a_pod() {
        let nodes = [
            node("a", "yes", None),
            node("b", "no", None),
            node("c", "yes", Some("own")),
            node("d", "yes", Some("node.kubernetes.io/unschedulable")),
        ];
        assert_eq!(decide(&set(), "h", &nodes, &[], at()).create_on, ["a", "d"]);
        assert_eq!(decide(&set(), "h", &nodes, &[pod("a", "h", true)], at()).create_on, ["d"]);
    }

    #[test]
    fn pods_are_named_their_node_and_found_by_it() {
        assert_eq!(node_of(&pod("a", "h", true)), "a");
    }

    #[test]
    fn doubles_and_strays_are_removed() {
        let nodes = [node("a", "yes", None), node("b", "no", None)];
        let pods = [pod("a", "h", true), pod("a", "h", false), pod("b", "h", true)];
        assert_eq!(decide(&set(), "h", &nodes, &pods, at()).delete.len(), 2);
    }

    #[test]
    fn an_update_replaces_one_pod_at_a_time() {
        let nodes = [node("a", "yes", None), node("b", "yes", None)];
        let plan = decide(&set(), "new", &nodes, &[pod("a", "old", true), pod("b", "old", true)], at());
        assert_eq!(plan.delete.len(), 1);
        let plan = decide(&set(), "new", &nodes, &[pod("a", "new", false), pod("b", "old", true)], at());
        assert_eq!(plan, Plan::default());
        let plan = decide(&set(), "new", &nodes, &[pod("a", "new", true), pod("b", "old", false)], at());
        assert_eq!(plan.delete.len(), 1);
    }
}
