//! StatefulSets: numbered pods with their claims, started in order and removed in reverse.

use super::family::{
    OwnerKind, adopters, claimed, count, create_pods, delete_pods, fields, pod_from, write_status,
};
use crate::base::now;
use crate::daemon::apiserver::controllers::collections::{CLAIMS, PODS, STATEFUL_SETS};
use crate::daemon::apiserver::controllers::read::{
    active, controller_key, controller_of, deleting, finished, hash, key, label, list, name, namespace,
    number, ready, split, until_available,
};
use crate::daemon::apiserver::controllers::runner::{Controller, Next, Seen, World};
use crate::daemon::apiserver::local::Collection;
use crate::model::Status;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const KIND: OwnerKind =
    OwnerKind { api_version: "apps/v1", kind: "StatefulSet", component: "statefulset-controller" };
const HASH_LABEL: &str = "controller-revision-hash";

#[derive(Debug, Default, PartialEq)]
struct Plan {
    create: Vec<i64>,
    delete: Vec<Arc<Value>>,
}

fn ordinal(set: &Value, pod: &Value) -> Option<i64> {
    name(pod).strip_prefix(name(set))?.strip_prefix('-')?.parse().ok()
}

/// The revision hash of the present template.
fn revision(set: &Value) -> String {
    format!("{}-{}", name(set), hash(&set["spec"]["template"], 0))
}

fn decide(set: &Value, pods: &[Arc<Value>], at: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if deleting(set) {
        return plan;
    }
    let first = number(&set["spec"]["ordinals"]["start"]);
    let wanted = first..first + number(&set["spec"]["replicas"]).max(0);
    let in_order = set["spec"]["podManagementPolicy"] != "Parallel";
    let minimum = number(&set["spec"]["minReadySeconds"]);
    let available = |pod: &Value| active(pod) && until_available(pod, minimum, at) == Some(0);
    let by_ordinal: BTreeMap<i64, &Arc<Value>> =
        pods.iter().filter_map(|pod| Some((ordinal(set, pod)?, pod))).collect();
    for number in wanted.clone() {
        match by_ordinal.get(&number) {
            None => plan.create.push(number),
            Some(pod) if finished(pod) && !deleting(pod) => plan.delete.push((*pod).clone()),
            Some(pod) if available(pod) => continue,
            Some(_) => {}
        }
        // In order: nothing behind a pod that is not there yet moves.
        if in_order {
            return plan;
        }
    }
    if !plan.create.is_empty() || !plan.delete.is_empty() {
        return plan;
    }
    let mut excess = by_ordinal.iter().rev().filter(|(number, _)| !wanted.contains(number));
    if in_order {
        match excess.next() {
            Some((_, pod)) if deleting(pod) => return plan,
            Some((_, pod)) => plan.delete.push((*pod).clone()),
            None => plan.delete.extend(outdated(set, &by_ordinal, &wanted, available)),
        }
    } else {
        plan.delete.extend(excess.filter(|(_, pod)| !deleting(pod)).map(|(_, pod)| (*pod).clone()));
        if plan.delete.is_empty() {
            plan.delete.extend(outdated(set, &by_ordinal, &wanted, available));
        }
    }
    plan
}

/// The highest old pod at or above the partition, once all pods above it are available.
fn outdated(
    set: &Value,
    pods: &BTreeMap<i64, &Arc<Value>>,
    wanted: &std::ops::Range<i64>,
    available: impl Fn(&Value) -> bool,
) -> Option<Arc<Value>> {
    let strategy = &set["spec"]["updateStrategy"];
    if strategy["type"] == "OnDelete" {
        return None;
    }
    let partition = number(&strategy["rollingUpdate"]["partition"]);
    let revision = revision(set);
    for (_, pod) in pods.range(wanted.start.max(partition)..wanted.end.max(partition)).rev() {
        if label(pod, HASH_LABEL) != revision {
            return (!deleting(pod)).then(|| (*pod).clone());
        }
        if !available(pod) {
            return None;
        }
    }
    None
}

fn pod_for(set: &Value, number: i64) -> Value {
    let mut pod = pod_from(set, KIND);
    let pod_name = format!("{}-{number}", name(set));
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        metadata.remove("generateName");
    }
    if !pod["metadata"]["labels"].is_object() {
        pod["metadata"]["labels"] = json!({});
    }
    let labels = &mut pod["metadata"]["labels"];
    labels["statefulset.kubernetes.io/pod-name"] = json!(pod_name);
    labels["apps.kubernetes.io/pod-index"] = json!(number.to_string());
    labels[HASH_LABEL] = json!(revision(set));
    pod["spec"]["hostname"] = json!(pod_name);
    if !set["spec"]["serviceName"].is_null() {
        pod["spec"]["subdomain"] = set["spec"]["serviceName"].clone();
    }
    let mut volumes: Vec<Value> = list(&pod["spec"]["volumes"]).to_vec();
    for template in list(&set["spec"]["volumeClaimTemplates"]) {
        let volume = name(template);
        volumes.retain(|present| present["name"] != volume);
        let claim = format!("{volume}-{pod_name}");
        volumes.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim}}));
    }
    if !volumes.is_empty() {
        pod["spec"]["volumes"] = Value::Array(volumes);
    }
    pod["metadata"]["name"] = json!(pod_name);
    pod
}

/// The claims of one pod; they outlive it.
fn claims_for(set: &Value, number: i64) -> Vec<Value> {
    let claim = |template: &Value| {
        let mut labels = template["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        labels.extend(set["spec"]["selector"]["matchLabels"].as_object().cloned().unwrap_or_default());
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": template["spec"], "metadata": {
            "name": format!("{}-{}-{number}", name(template), name(set)), "namespace": namespace(set), "labels": labels,
            "annotations": template["metadata"]["annotations"].as_object().cloned().unwrap_or_default()}})
    };
    list(&set["spec"]["volumeClaimTemplates"]).iter().map(claim).collect()
}

fn status(set: &Value, pods: &[Arc<Value>], at: Timestamp) -> Map<String, Value> {
    let minimum = number(&set["spec"]["minReadySeconds"]);
    let alive: Vec<&Arc<Value>> = pods.iter().filter(|pod| !finished(pod)).collect();
    let update = revision(set);
    let updated = alive.iter().filter(|pod| label(pod, HASH_LABEL) == update).count();
    let old = alive.iter().map(|pod| label(pod, HASH_LABEL)).find(|hash| *hash != update);
    let current = old.unwrap_or(&update).to_owned();
    let of_current = alive.iter().filter(|pod| label(pod, HASH_LABEL) == current).count();
    let available = alive.iter().filter(|pod| until_available(pod, minimum, at) == Some(0)).count();
    fields([
        ("observedGeneration", set["metadata"]["generation"].clone()),
        ("replicas", json!(alive.len())),
        ("readyReplicas", count(alive.iter().filter(|pod| ready(pod)).count())),
        ("availableReplicas", json!(available)),
        ("currentReplicas", count(of_current)),
        ("updatedReplicas", count(updated)),
        ("currentRevision", json!(current)),
        ("updateRevision", json!(update)),
    ])
}

pub(in crate::daemon::apiserver::controllers) struct StatefulSets(
    pub(in crate::daemon::apiserver::controllers) World,
);

impl Controller for StatefulSets {
    fn name(&self) -> &'static str {
        "statefulset"
    }

    fn follows(&self) -> Vec<Collection> {
        vec![STATEFUL_SETS, PODS]
    }

    async fn keys(&self, seen: &Seen) -> Vec<String> {
        if seen.collection == STATEFUL_SETS {
            return vec![key(&seen.object)];
        }
        match controller_of(&seen.object) {
            Some(_) => controller_key(&seen.object, KIND.kind).into_iter().collect(),
            None if seen.gone || deleting(&seen.object) => Vec::new(),
            None => adopters(&self.0, &STATEFUL_SETS, &seen.object).await,
        }
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Status> {
        let world = &self.0;
        let (namespace, name) = split(key);
        let set = match world.local.get(&STATEFUL_SETS, Some(namespace), name).await {
            Ok(set) => set,
            Err(error) if error.is_not_found() => return Ok(Next::Done),
            Err(error) => return Err(error),
        };
        let pods = claimed(world, &PODS, &set, KIND).await?;
        let plan = decide(&set, &pods, now());
        for number in &plan.create {
            for claim in claims_for(&set, *number) {
                match world.local.create(&CLAIMS, claim).await {
                    Err(error) if !error.already_exists() => return Err(error),
                    _ => {}
                }
            }
        }
        create_pods(world, &set, KIND, plan.create.iter().map(|number| pod_for(&set, *number)).collect())
            .await?;
        delete_pods(world, &set, KIND, plan.delete).await?;
        let pods = claimed(world, &PODS, &set, KIND).await?;
        write_status(world, &STATEFUL_SETS, &set, status(&set, &pods, now())).await?;
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: i64) -> Value {
        json!({"metadata": {"name": "s", "namespace": "n", "uid": "u"}, "spec": {"replicas": replicas, "serviceName": "svc",
            "template": {"metadata": {"labels": {"a": "1"}}, "spec": {}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}})
    }

    fn pod(set: &Value, number: i64, is_ready: bool) -> Arc<Value> {
        let mut pod = pod_for(set, number);
        pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready",
            "status": if is_ready { "True" } else { "False" }, "lastTransitionTime": "1970-01-01T00:00:00Z"}]});
        Arc::new(pod)
    }

    fn at() -> Timestamp {
        Timestamp::from_second(100).unwrap()
    }

    #[test]
    fn pods_start_one_after_the_other() {
        let s = set(3);
        assert_eq!(decide(&s, &[], at()).create, [0]);
        assert_eq!(decide(&s, &[pod(&s, 0, false)], at()), Plan::default());
        assert_eq!(decide(&s, &[pod(&s, 0, true)], at()).create, [1]);
    }

    #[test]
    fn the_highest_goes_first() {
        let s = set(1);
        let plan = decide(&s, &[pod(&s, 0, true), pod(&s, 1, true), pod(&s, 2, true)], at());
        assert_eq!(plan.delete.iter().map(|p| name(p)).collect::<Vec<_>>(), ["s-2"]);
    }

    #[test]
    fn parallel_sets_do_not_wait() {
        let mut s = set(3);
        s["spec"]["podManagementPolicy"] = json!("Parallel");
        assert_eq!(decide(&s, &[], at()).create, [0, 1, 2]);
    }

    #[test]
    fn an_update_goes_down_to_the_partition() {
        let old = set(3);
        let mut s = set(3);
        s["spec"]["template"]["spec"]["x"] = json!(1);
        let pods = [pod(&old, 0, true), pod(&old, 1, true), pod(&old, 2, true)];
        assert_eq!(name(&decide(&s, &pods, at()).delete[0]), "s-2");
        let pods = [pod(&old, 0, true), pod(&old, 1, true), pod(&s, 2, true)];
        s["spec"]["updateStrategy"] = json!({"rollingUpdate": {"partition": 2}});
        assert_eq!(decide(&s, &pods, at()), Plan::default());
    }

    #[test]
    fn a_pod_mounts_its_own_claim() {
        let pod = pod_for(&set(1), 0);
        assert_eq!(pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], "data-s-0");
        assert_eq!(claims_for(&set(1), 0)[0]["metadata"]["name"], "data-s-0");
    }
}
