//! Whole statuses of nodes and pods, which edges before KubeEdge 1.12 report (protocol.md §4.2). `answers` calls; newer
//! edges send patches. A pod that is gone is answered `OK` and its deletion is told, as such edges expect.

use super::super::kubernetes::{Kube, Patch, Resource, meta};
use super::shared::{Shared, told};
use crate::base::{now, rfc3339};
use crate::model::{Kind, NodeName, ObjectKey, Status};
use crate::wire::PodStatusReport;
use serde_json::{Map, Value, json};

type Answered = Result<Value, Status>;

/// Sets the status of each pod that is the node's; the first failure is the answer.
pub(super) async fn pods(
    shared: &Shared,
    node: &NodeName,
    namespace: &str,
    pods: &[PodStatusReport],
) -> Answered {
    for report in pods {
        pod(shared, node, namespace, report).await?;
    }
    Ok(json!("OK"))
}

async fn pod(shared: &Shared, node: &NodeName, namespace: &str, report: &PodStatusReport) -> Answered {
    let kube = &shared.kube;
    let present = match kube.get(Resource::POD, Some(namespace), &report.name).await {
        Ok(pod) if meta(&pod, "uid") == report.uid => pod,
        Err(status) if !status.is_not_found() => return Err(status),
        _ => {
            let key = ObjectKey::namespaced(Kind::Pod, namespace, &report.name);
            told(shared.push_lost(node, &key, &report.uid).await);
            return Ok(Value::Null);
        }
    };
    if present.pointer("/spec/nodeName").and_then(Value::as_str) != Some(node.as_str()) {
        return Err(Status::failure(403, "Forbidden", "the pod belongs to another node"));
    }
    let at = rfc3339(now());
    let status = merged(present.get("status").unwrap_or(&Value::Null), report.status.clone(), &at);
    let over = is_over(&status) && present.pointer("/metadata/deletionTimestamp").is_some();
    let patch = json!({"metadata": {"uid": report.uid}, "status": status}).to_string();
    let target = (report.name.as_str(), Some("status"));
    kube.patch(Resource::POD, Some(namespace), target, Patch::Merge, patch.into()).await?;
    if over {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": report.uid}});
        match kube.delete(Resource::POD, Some(namespace), &report.name, &options).await {
            Err(status) if !status.is_not_found() && !status.is_conflict() => return Err(status),
            _ => {}
        }
    }
    Ok(Value::Null)
}

/// The reported status with the times that only the API knows: when the pod began, and since when a condition holds.
fn merged(old: &Value, mut new: Value, now: &str) -> Value {
    let Some(fields) = new.as_object_mut() else { return new };
    let known = |condition: &Value| {
        let of = |list: &Value| list.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        let same =
            |other: &Value| other["type"] == condition["type"] && other["status"] == condition["status"];
        of(old)
            .into_iter()
            .find(same)
            .and_then(|mut other| other.get_mut("lastTransitionTime").map(Value::take))
    };
    for condition in fields.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        let dated = matches!(condition["type"].as_str(), Some("Ready" | "Initialized"));
        if dated && condition.is_object() {
            condition["lastTransitionTime"] = known(condition).unwrap_or_else(|| json!(now));
        }
    }
    let began = old.get("startTime").filter(|time| time.is_string()).cloned();
    let started = fields.get("startTime").is_some_and(Value::is_string);
    if let Some(began) = began {
        fields.insert("startTime".to_owned(), began);
    } else if !started {
        fields.insert("startTime".to_owned(), json!(now));
    }
    new
}

/// Whether nothing of the pod runs any more.
fn is_over(status: &Value) -> bool {
    let ended = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
    let containers = status["containerStatuses"].as_array();
    ended && containers.into_iter().flatten().all(|one| one.pointer("/state/running").is_none())
}

/// Sets the Node's status; `report` is KubeEdge's NodeStatusRequest.
pub(super) async fn node(kube: &Kube, name: &str, report: &Value) -> Answered {
    let now = rfc3339(now());
    let annotations = extensions(report);
    if !annotations.is_empty() {
        let patch = json!({"metadata": {"annotations": annotations}}).to_string();
        kube.patch(Resource::NODE, None, (name, None), Patch::Merge, patch.into()).await?;
    }
    let status = node_status(report, &now);
    let patch = json!({"status": status}).to_string();
    kube.patch(Resource::NODE, None, (name, Some("status")), Patch::Merge, patch.into()).await
}

/// The reported status without what others keep in the Node: attached volumes and where its kubelet is reached.
fn node_status(report: &Value, now: &str) -> Value {
    let mut status = report.get("Status").cloned().unwrap_or_else(|| json!({}));
    if let Some(fields) = status.as_object_mut() {
        fields.remove("volumesAttached");
        fields.remove("daemonEndpoints");
    }
    for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        if condition.is_object() {
            condition["lastHeartbeatTime"] = json!(now);
        }
    }
    status
}

fn extensions(report: &Value) -> Map<String, Value> {
    let resources = report.get("ExtendResources").and_then(Value::as_object);
    let text = |(name, list): (&String, &Value)| (name.clone(), json!(list.to_string()));
    resources.into_iter().flatten().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_the_api_knows_are_kept() {
        let old = json!({"startTime": "t0", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "t1"},
            {"type": "Initialized", "status": "False", "lastTransitionTime": "t1"}]});
        let new = json!({"startTime": "t9", "phase": "Running", "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}, {"type": "Other"}, 7]});
        let status = merged(&old, new, "t2");
        assert_eq!(status["startTime"], "t0");
        assert_eq!(status["conditions"][0]["lastTransitionTime"], "t1");
        assert_eq!(status["conditions"][1]["lastTransitionTime"], "t2");
        assert_eq!(status["conditions"][2].get("lastTransitionTime"), None);
        assert_eq!(merged(&Value::Null, json!({}), "t2")["startTime"], "t2");
        assert_eq!(merged(&old, json!("x"), "t2"), "x");
    }

    #[test]
    fn a_pod_is_over_when_nothing_of_it_runs() {
        let running = json!({"phase": "Failed", "containerStatuses": [{"state": {"running": {}}}]});
        assert!(!is_over(&running));
        assert!(is_over(&json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {}}}]})));
        assert!(!is_over(&json!({"phase": "Running"})));
    }

    #[test]
    fn what_others_keep_in_a_node_is_left_alone() {
        let report = json!({"UID": "u", "ExtendResources": {"nvidia.com/gpu": [{"name": "g"}]},
            "Status": {"volumesAttached": [], "daemonEndpoints": {}, "conditions": [{"type": "Ready"}]}});
        let expected = json!({"conditions": [{"type": "Ready", "lastHeartbeatTime": "t"}]});
        assert_eq!(node_status(&report, "t"), expected);
        assert_eq!(extensions(&report)["nvidia.com/gpu"], r#"[{"name":"g"}]"#);
        assert_eq!(node_status(&json!(7), "t"), json!({}));
    }
}
