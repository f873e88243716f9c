//! Edge nodes as the API has them: who is Ready, who shares a machine's identity, and which versions they run. Reads only.

use super::{EDGE_LABEL, read, unasked};
use crate::host::check::Finding;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use std::collections::BTreeMap;

fn is_edge(node: &Node) -> bool {
    node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EDGE_LABEL))
}

pub(super) fn name_of(node: &Node) -> String {
    node.metadata.name.clone().unwrap_or_default()
}

pub(super) async fn edge_nodes(client: &kube::Client) -> Result<Vec<Node>, String> {
    let nodes: Vec<Node> = read::list(client, None, &ListParams::default()).await?;
    Ok(nodes.into_iter().filter(is_edge).collect())
}

pub(super) async fn nodes(client: kube::Client) -> Vec<Finding> {
    match edge_nodes(&client).await {
        Ok(nodes) => judge_nodes(&nodes),
        Err(error) => vec![unasked("KE-NODE-010", "edge nodes", error)],
    }
}

fn judge_nodes(nodes: &[Node]) -> Vec<Finding> {
    let (code, name) = ("KE-NODE-010", "edge nodes");
    let ready = |node: &&Node| {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let away: Vec<String> = nodes.iter().filter(|node| !ready(node)).map(name_of).collect();
    let mut findings = Vec::new();
    let seen = format!("{} of {} Ready", nodes.len() - away.len(), nodes.len());
    findings.push(if away.is_empty() {
        Finding::fine(code, name, if nodes.is_empty() { "none yet".to_owned() } else { seen })
    } else {
        Finding::warning(code, name, format!("{seen}, not {}", shortened(&away)))
            .because("their pods may run on; the cloud does not hear of them")
            .fix("kedge doctor on the node")
    });
    // One machine under two names, or one image cloned to many.
    let mut machines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in nodes {
        let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
        if let Some(id) = info.map(|info| info.machine_id.clone()).filter(|id| !id.is_empty()) {
            machines.entry(id).or_default().push(name_of(node));
        }
    }
    let twins: Vec<String> =
        machines.into_values().filter(|names| names.len() > 1).map(|names| names.join(" = ")).collect();
    findings.push(if twins.is_empty() {
        Finding::fine("KE-DUP-002", "machines", "each node has its own identity")
    } else {
        Finding::warning("KE-DUP-002", "machines", format!("one machine id: {}", shortened(&twins)))
            .because(
                "a cloned disk carries its identity with it; tools that tell machines apart by it are misled",
            )
            .fix("rm /etc/machine-id && systemd-machine-id-setup (on the clone)")
    });
    findings.push(judge_skew(nodes));
    findings
}

fn judge_skew(nodes: &[Node]) -> Finding {
    let (code, name) = ("KE-SKEW-002", "versions of the nodes");
    let version = |node: &Node| {
        let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
        info.map(|info| info.kubelet_version.clone()).unwrap_or_default()
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for node in nodes {
        *counts.entry(version(node)).or_default() += 1;
    }
    let told: Vec<String> = counts.iter().map(|(version, count)| format!("{count} × {version}")).collect();
    match counts.len() {
        0 => Finding::fine(code, name, "no nodes yet"),
        1 if told.iter().any(|told| is_newer(told)) => Finding::warning(code, name, told.join(", "))
            .because(format!(
                "the nodes are newer than this kedge, {}; the cloud is upgraded first",
                env!("CARGO_PKG_VERSION")
            ))
            .fix("replace kedge on the cloud, then kedge init"),
        1 => Finding::fine(code, name, told.join(", ")),
        _ => Finding::warning(code, name, told.join(", "))
            .because("nodes of several versions work together; an upgrade may have stopped half-way")
            .fix("kedge edge upgrade --to VERSION --selector node-role.kubernetes.io/edge"),
    }
}

/// Whether a node's version, such as `v1.36.0-kubeedge-v1.23.1-kedge-0.2.0`, is of a later kedge than this one.
fn is_newer(told: &str) -> bool {
    let parts = |text: &str| -> Option<Vec<u64>> { text.split('.').map(|part| part.parse().ok()).collect() };
    let theirs = told.rsplit_once("-kedge-").and_then(|(_, version)| parts(version));
    theirs > parts(env!("CARGO_PKG_VERSION"))
}

fn shortened(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
    match names.len() {
        0..=5 => shown.join(", "),
        more => format!("{} and {} more", shown.join(", "), more - 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;
    use serde_json::json;

    fn node(name: &str, ready: &str, machine: &str, version: &str) -> Node {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {EDGE_LABEL: ""}},
            "status": {"conditions": [{"type": "Ready", "status": ready}],
                "nodeInfo": {"machineID": machine, "kubeletVersion": version, "architecture": "", "bootID": "",
                    "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "", "operatingSystem": "",
                    "osImage": "", "systemUUID": ""}}}))
        .unwrap()
    }

    #[test]
    fn nodes_that_are_newer_than_the_cloud_are_told() {
        let of = |version: &str| format!("3 × v1.36.0-kubeedge-v1.23.1-kedge-{version}");
        assert!(
            is_newer(&of("99.0.0")) && !is_newer(&of(env!("CARGO_PKG_VERSION"))) && !is_newer(&of("0.0.1"))
        );
        assert!(!is_newer("1 × v1.31.0-kubeedge-v1.23.1") && !is_newer(&of("x")));
    }

    #[test]
    fn nodes_that_are_away_or_alike_are_named() {
        let nodes = [node("a", "True", "1", "v1"), node("b", "Unknown", "1", "v2")];
        let findings = judge_nodes(&nodes);
        assert_eq!(findings[0].seen, "1 of 2 Ready, not b");
        assert_eq!(findings[1].seen, "one machine id: a = b");
        assert_eq!(findings[2].seen, "1 × v1, 1 × v2");
        assert!(judge_nodes(&nodes[..1]).iter().all(|finding| finding.state == State::Fine));
        assert_eq!(judge_nodes(&[])[0].seen, "none yet");
        assert!(is_edge(&nodes[0]) && !is_edge(&Node::default()));
    }
}
