//! DaemonSets that drive a cloud's network and would land on edge nodes, each with the patch that keeps it off. Reads only.

use super::{EDGE_LABEL, read, unasked};
use crate::cmd::doctor::workloads::{CLOUD_ONLY, keep_off};
use crate::host::check::Finding;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::ListParams;

pub(super) async fn scheduled(client: kube::Client) -> Vec<Finding> {
    let (code, name) = ("KE-SCHED-001", "cloud-only DaemonSets");
    match read::list(&client, None, &ListParams::default()).await {
        Ok(sets) => judge_scheduled(&sets),
        Err(error) => vec![unasked(code, name, error)],
    }
}

fn judge_scheduled(sets: &[DaemonSet]) -> Vec<Finding> {
    let (code, name) = ("KE-SCHED-001", "cloud-only DaemonSets");
    let named = |set: &DaemonSet| {
        (set.metadata.namespace.clone().unwrap_or_default(), set.metadata.name.clone().unwrap_or_default())
    };
    let landing = sets.iter().filter(|set| CLOUD_ONLY.contains(&&*named(set).1) && !keeps_off(set));
    let findings: Vec<Finding> = landing
        .map(|set| {
            let (namespace, set) = named(set);
            Finding::warning(code, format!("DaemonSet {namespace}/{set}"), "lands on edge nodes")
                .because(
                    "it drives a network that an edge node does not have, and fails or changes its rules",
                )
                .fix(keep_off(&namespace, &set))
        })
        .collect();
    if findings.is_empty() { vec![Finding::fine(code, name, "none lands on edge nodes")] } else { findings }
}

/// Whether every choice of nodes that the template allows leaves edge nodes out.
fn keeps_off(set: &DaemonSet) -> bool {
    let Some(spec) = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else { return false };
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_some_and(|required| {
        required.node_selector_terms.iter().all(|term| {
            term.match_expressions.iter().flatten().any(|expression| {
                expression.key == EDGE_LABEL
                    && matches!(expression.operator.as_str(), "DoesNotExist" | "NotIn")
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;
    use serde_json::json;

    #[test]
    fn daemonsets_that_land_on_edge_nodes_come_with_their_patch() {
        let set = |name: &str, affinity: serde_json::Value| -> DaemonSet {
            serde_json::from_value(json!({"metadata": {"namespace": "kube-system", "name": name},
                "spec": {"selector": {}, "template": {"spec": {"containers": [], "affinity": affinity}}}}))
            .unwrap()
        };
        let off = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": EDGE_LABEL, "operator": "DoesNotExist"}]}]}}});
        let sets = [set("kube-proxy", json!(null)), set("cilium", off), set("mine", json!(null))];
        let findings = judge_scheduled(&sets);
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].fix.starts_with("kubectl -n kube-system patch daemonset kube-proxy"),
            "{findings:?}"
        );
        assert_eq!(judge_scheduled(&sets[1..])[0].state, State::Fine);
    }
}
