//! Deployments: carries out the steps of `rollout` on ReplicaSets and reports progress.

use super::family::{OwnerKind, adopters, claimed, count, delete_quietly, fields, write_status};
use super::rollout::{HASH_LABEL, REVISION, Sets, Step, complete, decide, revision, size_annotations};
use crate::base::{now, rfc3339};
use crate::daemon::apiserver::controllers::collections::{DEPLOYMENTS, REPLICA_SETS};
use crate::daemon::apiserver::controllers::read::{
    condition, controller_key, controller_of, deleting, hash, key, list, name, namespace, number,
    owner_reference, plain_condition, set_condition, split, text, time,
};
use crate::daemon::apiserver::controllers::runner::{Controller, Next, Seen, World};
use crate::daemon::apiserver::local::Collection;
use crate::model::Status;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

const KIND: OwnerKind =
    OwnerKind { api_version: "apps/v1", kind: "Deployment", component: "deployment-controller" };
/// Not handed down to ReplicaSets.
const OWN_ANNOTATIONS: [&str; 4] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
];

pub(in crate::daemon::apiserver::controllers) struct Deployments(
    pub(in crate::daemon::apiserver::controllers) World,
);

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment"
    }

    fn follows(&self) -> Vec<Collection> {
        vec![DEPLOYMENTS, REPLICA_SETS]
    }

    async fn keys(&self, seen: &Seen) -> Vec<String> {
        if seen.collection == DEPLOYMENTS {
            return vec![key(&seen.object)];
        }
        match controller_of(&seen.object) {
            Some(_) => controller_key(&seen.object, KIND.kind).into_iter().collect(),
            None if seen.gone || deleting(&seen.object) => Vec::new(),
            None => adopters(&self.0, &DEPLOYMENTS, &seen.object).await,
        }
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Status> {
        let world = &self.0;
        let (namespace, name) = split(key);
        let deployment = match world.local.get(&DEPLOYMENTS, Some(namespace), name).await {
            Ok(deployment) => deployment,
            Err(error) if error.is_not_found() => return Ok(Next::Done),
            Err(error) => return Err(error),
        };
        let sets = Sets::of(&deployment, claimed(world, &REPLICA_SETS, &deployment, KIND).await?);
        let steps = decide(&deployment, &sets);
        for step in &steps {
            self.take(&deployment, &sets, step).await?;
        }
        let sets = if steps.is_empty() {
            sets
        } else {
            Sets::of(&deployment, claimed(world, &REPLICA_SETS, &deployment, KIND).await?)
        };
        if !deleting(&deployment) {
            self.mark_revision(&deployment, &sets).await?;
        }
        let deployment = world.local.get(&DEPLOYMENTS, Some(namespace), name).await?;
        let (status, next) = status(&deployment, &sets, now());
        write_status(world, &DEPLOYMENTS, &deployment, status).await?;
        Ok(next)
    }
}

impl Deployments {
    async fn take(&self, deployment: &Value, sets: &Sets, step: &Step) -> Result<(), Status> {
        let world = &self.0;
        match step {
            Step::Create { replicas } => {
                let made = self.create(deployment, sets, *replicas).await?;
                if *replicas > 0 {
                    let message = format!("Scaled up replica set {} from 0 to {replicas}", name(&made));
                    world.events.normal(KIND.component, deployment, "ScalingReplicaSet", message);
                }
            }
            Step::Scale { set, from, to } => {
                let annotations: Map<String, Value> =
                    size_annotations(deployment).into_iter().map(|(k, v)| (k.to_owned(), json!(v))).collect();
                let patch = json!({"metadata": {"annotations": annotations}, "spec": {"replicas": to}});
                world.local.merge_patch(&REPLICA_SETS, Some(namespace(deployment)), set, None, patch).await?;
                if to == from {
                    return Ok(());
                }
                let way = if to > from { "up" } else { "down" };
                let message = format!("Scaled {way} replica set {set} from {from} to {to}");
                world.events.normal(KIND.component, deployment, "ScalingReplicaSet", message);
            }
            Step::Forget { set } => {
                if let Some(set) = sets.old.iter().find(|old| name(old) == set) {
                    delete_quietly(world, &REPLICA_SETS, set).await?;
                }
            }
        }
        Ok(())
    }

    async fn create(&self, deployment: &Value, sets: &Sets, replicas: i64) -> Result<Arc<Value>, Status> {
        let collisions = number(&deployment["status"]["collisionCount"]);
        let set = new_set(deployment, sets, replicas, collisions);
        match self.0.local.create(&REPLICA_SETS, set).await {
            Err(error) if error.already_exists() => {
                // Somebody else's set has the name: the next pass hashes with a higher count.
                let fields = fields([("collisionCount", json!(collisions + 1))]);
                write_status(&self.0, &DEPLOYMENTS, deployment, fields).await?;
                Err(error)
            }
            other => other,
        }
    }

    /// Keeps the revision on the new ReplicaSet and on the Deployment, as `kubectl rollout` expects.
    async fn mark_revision(&self, deployment: &Value, sets: &Sets) -> Result<(), Status> {
        let Some(new) = &sets.new else { return Ok(()) };
        let wanted = sets.revision();
        let space = Some(namespace(deployment));
        let patch = json!({"metadata": {"annotations": {REVISION: wanted.to_string()}}});
        if revision(new) != wanted {
            self.0.local.merge_patch(&REPLICA_SETS, space, name(new), None, patch.clone()).await?;
        }
        if revision(deployment) != wanted {
            self.0.local.merge_patch(&DEPLOYMENTS, space, name(deployment), None, patch).await?;
        }
        Ok(())
    }
}

fn new_set(deployment: &Value, sets: &Sets, replicas: i64, collisions: i64) -> Value {
    let mut template = deployment["spec"]["template"].clone();
    let hash = hash(&template, collisions);
    let mut selector = deployment["spec"]["selector"].clone();
    for labels in [&mut template["metadata"]["labels"], &mut selector["matchLabels"]] {
        if labels.is_null() {
            *labels = json!({});
        }
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(HASH_LABEL.to_owned(), json!(hash));
        }
    }
    let inherited = deployment["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    let mut annotations: Map<String, Value> =
        inherited.into_iter().filter(|(name, _)| !OWN_ANNOTATIONS.contains(&name.as_str())).collect();
    annotations.insert(REVISION.to_owned(), json!(sets.revision().to_string()));
    annotations.extend(size_annotations(deployment).into_iter().map(|(k, v)| (k.to_owned(), json!(v))));
    let mut spec = json!({"replicas": replicas, "selector": selector, "template": template});
    let minimum = number(&deployment["spec"]["minReadySeconds"]);
    if minimum > 0 {
        spec["minReadySeconds"] = json!(minimum);
    }
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": spec, "metadata": {
        "name": format!("{}-{hash}", name(deployment)), "namespace": namespace(deployment),
        "labels": template_labels(deployment, &hash), "annotations": annotations,
        "ownerReferences": [owner_reference(deployment, KIND.api_version, KIND.kind)]}})
}

fn template_labels(deployment: &Value, hash: &str) -> Value {
    let mut labels = deployment["spec"]["template"]["metadata"]["labels"].clone();
    if let Some(labels) = labels.as_object_mut() {
        labels.insert(HASH_LABEL.to_owned(), json!(hash));
    }
    labels
}

/// The status that follows from the ReplicaSets, and when to look for a missed deadline.
fn status(deployment: &Value, sets: &Sets, at: Timestamp) -> (Map<String, Value>, Next) {
    let whole = |number: i64| count(usize::try_from(number).unwrap_or(0));
    let wanted = number(&deployment["spec"]["replicas"]);
    let (replicas, available) = (sets.sum("replicas"), sets.sum("availableReplicas"));
    let updated = sets.new.as_ref().map_or(0, |set| number(&set["status"]["replicas"]));
    let mut conditions = list(&deployment["status"]["conditions"]).to_vec();
    let (_, unavailable) = super::rollout::bounds(deployment);
    let enough = available >= wanted - unavailable;
    let availability = if enough {
        plain_condition("Available", true, "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        plain_condition(
            "Available",
            false,
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    set_updated(&mut conditions, availability, false, at);
    let next = progress(deployment, sets, &mut conditions, at);
    let total: i64 = sets.all().map(|set| number(&set["spec"]["replicas"])).sum();
    let status = fields([
        ("observedGeneration", deployment["metadata"]["generation"].clone()),
        ("replicas", whole(replicas)),
        ("updatedReplicas", whole(updated)),
        ("readyReplicas", whole(sets.sum("readyReplicas"))),
        ("availableReplicas", whole(available)),
        ("unavailableReplicas", whole((total - available).max(0))),
        ("conditions", Value::Array(conditions)),
    ]);
    (status, next)
}

fn set_updated(conditions: &mut Vec<Value>, condition: Value, touched: bool, at: Timestamp) {
    let kind = condition["type"].clone();
    let changed = set_condition(conditions, condition, at);
    if (changed || touched)
        && let Some(condition) = conditions.iter_mut().find(|condition| condition["type"] == kind)
        && let Some(map) = condition.as_object_mut()
    {
        map.insert("lastUpdateTime".to_owned(), json!(rfc3339(at)));
    }
}

/// Keeps the Progressing condition: completed, moving, or stuck beyond the deadline.
fn progress(deployment: &Value, sets: &Sets, conditions: &mut Vec<Value>, at: Timestamp) -> Next {
    let Some(deadline) =
        deployment["spec"]["progressDeadlineSeconds"].as_i64().filter(|d| *d < i64::from(i32::MAX))
    else {
        conditions.retain(|condition| condition["type"] != "Progressing");
        return Next::Done;
    };
    let old_status = &deployment["status"];
    let old = condition(old_status, "Progressing").cloned();
    let set = sets.new.as_ref().map_or_else(String::new, |set| name(set).to_owned());
    if deployment["spec"]["paused"] == true {
        let mut paused = plain_condition("Progressing", true, "DeploymentPaused", "Deployment is paused");
        paused["status"] = json!("Unknown");
        set_updated(conditions, paused, false, at);
        return Next::Done;
    }
    if complete(deployment, sets) && sets.new.is_some() {
        let message = format!("ReplicaSet \"{set}\" has successfully progressed.");
        let done = plain_condition("Progressing", true, "NewReplicaSetAvailable", &message);
        set_updated(conditions, done, false, at);
        return Next::Done;
    }
    let updated = sets.new.as_ref().map_or(0, |set| number(&set["status"]["replicas"]));
    let old_pods = sets.sum("replicas") - updated;
    let old_before = number(&old_status["replicas"]) - number(&old_status["updatedReplicas"]);
    let moved = updated > number(&old_status["updatedReplicas"])
        || old_pods < old_before
        || sets.sum("readyReplicas") > number(&old_status["readyReplicas"])
        || sets.sum("availableReplicas") > number(&old_status["availableReplicas"]);
    let renewed = old_status["observedGeneration"] != deployment["metadata"]["generation"];
    let since = old.as_ref().and_then(|old| time(&old["lastUpdateTime"])).unwrap_or(at);
    let waited = at.as_second() - since.as_second();
    let was_complete = old.as_ref().is_some_and(|old| text(&old["reason"]) == "NewReplicaSetAvailable");
    if moved || renewed || old.is_none() || was_complete {
        let message = format!("ReplicaSet \"{set}\" is progressing.");
        let moving = plain_condition("Progressing", true, "ReplicaSetUpdated", &message);
        // Only true movement renews the deadline; a complete rollout that lost a pod keeps its verdict.
        if was_complete && !renewed {
            return Next::Done;
        }
        set_updated(conditions, moving, moved || renewed, at);
        return Next::After(Duration::from_secs(deadline.unsigned_abs() + 1));
    }
    if waited > deadline {
        let message = format!("ReplicaSet \"{set}\" has timed out progressing.");
        let stuck = plain_condition("Progressing", false, "ProgressDeadlineExceeded", &message);
        set_updated(conditions, stuck, false, at);
        return Next::Done;
    }
    Next::After(Duration::from_secs((deadline - waited).unsigned_abs() + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        json!({"metadata": {"name": "d", "namespace": "n", "uid": "u", "generation": 1, "annotations": {"mine": "1", REVISION: "7"}},
            "spec": {"replicas": 1, "progressDeadlineSeconds": 10, "selector": {"matchLabels": {"a": "1"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {"metadata": {"labels": {"a": "1"}}, "spec": {"image": "x"}}}})
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_new_set_carries_hash_revision_and_owner() {
        let d = deployment();
        let set = new_set(&d, &Sets::of(&d, vec![]), 1, 0);
        let hash = text(&set["metadata"]["labels"][HASH_LABEL]).to_owned();
        assert!(!hash.is_empty());
        assert_eq!(set["metadata"]["name"], format!("d-{hash}"));
        assert_eq!(set["spec"]["selector"]["matchLabels"][HASH_LABEL], hash.as_str());
        assert_eq!(set["spec"]["template"]["metadata"]["labels"][HASH_LABEL], hash.as_str());
        assert_eq!(set["metadata"]["annotations"][REVISION], "1");
        assert_eq!(set["metadata"]["annotations"]["mine"], "1");
        assert!(Sets::of(&d, vec![Arc::new(set)]).new.is_some(), "it is found again");
    }

    #[test]
    fn conditions_tell_progress_completion_and_a_missed_deadline() {
        let mut d = deployment();
        let mut set = new_set(&d, &Sets::of(&d, vec![]), 1, 0);
        set["status"] = json!({"replicas": 1});
        let sets = Sets::of(&d, vec![Arc::new(set.clone())]);
        let (moving, next) = status(&d, &sets, at(100));
        let reason = |status: &Map<String, Value>, index: usize| {
            text(&status["conditions"][index]["reason"]).to_owned()
        };
        assert_eq!(reason(&moving, 0), "MinimumReplicasUnavailable");
        assert_eq!(reason(&moving, 1), "ReplicaSetUpdated");
        assert_eq!(next, Next::After(Duration::from_secs(11)));
        d["status"] = Value::Object(moving);
        let (stuck, _) = status(&d, &sets, at(111));
        assert_eq!(reason(&stuck, 1), "ProgressDeadlineExceeded");
        set["status"] = json!({"replicas": 1, "readyReplicas": 1, "availableReplicas": 1});
        let (done, _) = status(&d, &Sets::of(&d, vec![Arc::new(set)]), at(112));
        assert_eq!(
            (reason(&done, 0).as_str(), reason(&done, 1).as_str()),
            ("MinimumReplicasAvailable", "NewReplicaSetAvailable")
        );
    }
}
