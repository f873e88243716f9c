//! Whether the Deployment has become what was applied, and what hinders its pods. Pure: objects in, a sentence out. An
//! address that answers tells nothing of this: another cloud with the same authority may stand there.

use super::super::kubernetes::meta;
use serde_json::Value;

/// What a person can do about a hindrance of any kind.
const MEND: &str = "mend what is named and run the same command again: it goes on where it is";
const IMAGE: &str = "make the image with `make image` and bring it to the cluster's machines (`ctr -n k8s.io images import FILE`), or name one that they can pull with --image; then run the same command again";

const ALLOW: &str = "let pods of the namespace use their machine's network: `kubectl label namespace kubeedge pod-security.kubernetes.io/enforce=privileged --overwrite`; then run the same command again";

/// What keeps the cloud from serving, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub why: String,
    pub fix: &'static str,
}

impl Pending {
    pub(super) fn new(why: impl Into<String>) -> Pending {
        Pending { why: why.into(), fix: MEND }
    }
}

/// How far the Deployment is behind what was applied, with so many pods needed; `None` when it has arrived.
pub(super) fn behind(deployment: &Value, needed: u64) -> Option<String> {
    let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let wanted = deployment.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    let (updated, all) = (number("/status/updatedReplicas"), number("/status/replicas"));
    let available = number("/status/availableReplicas");
    if number("/status/observedGeneration") < number("/metadata/generation") {
        Some("the cluster has not taken up the Deployment as it was applied".to_owned())
    } else if updated < wanted {
        Some(format!("{updated} of {wanted} pods are made as it was applied"))
    } else if all > updated {
        Some(format!("{} pods of its former state are still there", all - updated))
    } else if available < needed {
        Some(format!("{available} of {needed} pods are available"))
    } else {
        None
    }
}

/// Why the cluster makes no pod.
pub(super) fn refusal(deployment: &Value) -> Option<Pending> {
    let conditions = deployment.pointer("/status/conditions").and_then(Value::as_array);
    let failed = |it: &&Value| it["type"] == "ReplicaFailure" && it["status"] == "True";
    let message = conditions.into_iter().flatten().find(failed)?["message"].as_str()?;
    let fix = if message.contains("PodSecurity") { ALLOW } else { MEND };
    Some(Pending { why: format!("the cluster makes no pod: {message}"), fix })
}

/// What keeps a pod from being ready.
pub(super) fn hindrance(pod: &Value) -> Option<Pending> {
    let name = meta(pod, "name");
    if !meta(pod, "deletionTimestamp").is_empty() {
        return None;
    }
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let unscheduled = conditions
        .into_iter()
        .flatten()
        .find(|it| it["type"] == "PodScheduled" && it["status"] == "False")
        .and_then(|it| it["message"].as_str());
    if let Some(message) = unscheduled {
        return Some(Pending::new(format!("pod {name} has no machine: {message}")));
    }
    let state = pod.pointer("/status/containerStatuses/0/state")?;
    let held = state.get("waiting").or_else(|| state.get("terminated"))?;
    let text = |field: &str| held[field].as_str().unwrap_or_default();
    let why = format!("pod {name}: {} {}", text("reason"), text("message")).trim_end().to_owned();
    let of_image = ["ErrImage", "ImagePull", "InvalidImage"].iter().any(|it| text("reason").contains(it));
    Some(Pending { why, fix: if of_image { IMAGE } else { MEND } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pods_hindrance_is_told_with_a_remedy() {
        let waiting = |reason: &str| {
            json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [
                {"state": {"waiting": {"reason": reason, "message": "no such image"}}}]}})
        };
        for reason in ["ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName"] {
            let told = hindrance(&waiting(reason)).unwrap();
            assert_eq!(told.why, format!("pod p: {reason} no such image"));
            assert!(told.fix.contains("make image") && told.fix.contains("--image"), "{told:?}");
        }
        let crashed = hindrance(&waiting("CrashLoopBackOff")).unwrap();
        assert!(!crashed.fix.contains("--image"), "{crashed:?}");
        let homeless = json!({"metadata": {"name": "p"}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]}});
        assert_eq!(hindrance(&homeless).unwrap().why, "pod p has no machine: 0/1 nodes are available");
        assert_eq!(hindrance(&json!({})), None);
        let mut going = waiting("ErrImagePull");
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(hindrance(&going), None);
    }

    #[test]
    fn a_cluster_that_refuses_the_pod_is_heard() {
        let refused = |status: &str, message: &str| {
            refusal(&json!({"status": {"conditions": [{"type": "Available", "status": "True"},
                {"type": "ReplicaFailure", "status": status, "message": message}]}}))
        };
        let told =
            refused("True", "pods \"x\" is forbidden: violates PodSecurity \"baseline:latest\"").unwrap();
        assert!(
            told.why.contains("violates PodSecurity") && told.fix.contains("enforce=privileged"),
            "{told:?}"
        );
        assert_eq!(refused("True", "exceeded quota").unwrap().fix, MEND);
        assert_eq!(refused("False", ""), None);
        assert_eq!(refusal(&json!({})), None);
    }

    #[test]
    fn a_deployment_has_arrived_only_with_its_own_pods() {
        let deployment = |generation: u64, observed: u64, updated: u64, all: u64, available: u64| {
            json!({"metadata": {"generation": generation}, "spec": {"replicas": 3}, "status": {
                "observedGeneration": observed, "updatedReplicas": updated, "replicas": all,
                "availableReplicas": available}})
        };
        assert_eq!(behind(&deployment(2, 2, 3, 3, 3), 3), None);
        // Two machines for three replicas: the third waits for its machine, the others serve.
        assert_eq!(behind(&deployment(2, 2, 3, 3, 2), 2), None);
        for (state, word) in [
            // Just applied: what the status says is of the former state.
            (deployment(2, 1, 3, 3, 3), "not taken up"),
            // The old pods serve on while the new image cannot be pulled.
            (deployment(2, 2, 1, 3, 2), "1 of 3 pods are made"),
            (deployment(2, 2, 3, 4, 3), "1 pods of its former state"),
            (deployment(2, 2, 3, 3, 2), "2 of 3 pods are available"),
        ] {
            let told = behind(&state, 3).unwrap();
            assert!(told.contains(word), "{told}");
        }
        let new = json!({"metadata": {"generation": 1}, "spec": {"replicas": 1}});
        assert!(behind(&new, 1).is_some());
    }
}
