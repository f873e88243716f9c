//! The way of `kubectl logs`: a real byte of a pod's log from the first nodes, and whether a pod keeps the API server's rules.
//! Asks for one byte each and changes nothing.

use super::nodes::{edge_nodes, name_of};
use super::{is_forbidden, not_for_this_account, read, unasked, within};
use crate::daemon::cloud::NAMESPACE;
use crate::daemon::cloud::setup::{FORWARD, FORWARD_BY_HAND};
use crate::host::check::Finding;
use futures_util::future::join_all;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, LogParams};
use std::time::{Duration, Instant};

/// So many nodes are asked for a byte of a log.
const ASKED: usize = 5;

/// One byte of a log from each of the first nodes, by the way that kubectl goes.
pub(super) async fn stream(client: kube::Client) -> Vec<Finding> {
    let (code, name) = ("KE-STREAM-001", "logs through the tunnel");
    let nodes = match edge_nodes(&client).await {
        Ok(nodes) => nodes,
        Err(error) => return vec![unasked(code, name, error)],
    };
    let running = ListParams::default().fields("status.phase=Running");
    let pods: Vec<Pod> = match read::list(&client, None, &running).await {
        Ok(pods) => pods,
        Err(error) => return vec![unasked(code, name, error)],
    };
    let wanted: Vec<(String, Pod)> = nodes
        .iter()
        .filter_map(|node| {
            let node = name_of(node);
            let of_node =
                |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(&node);
            let pod = pods.iter().find(of_node).cloned()?;
            Some((node, pod))
        })
        .take(ASKED)
        .collect();
    if wanted.is_empty() {
        return vec![Finding::skipped(code, name, "no pod runs on an edge node")];
    }
    join_all(wanted.into_iter().map(|(node, pod)| one_byte(client.clone(), node, pod))).await
}

async fn one_byte(client: kube::Client, node: String, pod: Pod) -> Finding {
    let code = "KE-STREAM-001";
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let name = pod.metadata.name.clone().unwrap_or_default();
    let container =
        pod.spec.as_ref().and_then(|spec| spec.containers.first()).map(|container| container.name.clone());
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let params = LogParams { container, limit_bytes: Some(1), tail_lines: Some(1), ..LogParams::default() };
    let started = Instant::now();
    let answer = within(api.logs(&name, &params)).await;
    judge_byte(format!("logs of {node}"), &format!("{namespace}/{name}"), answer, started.elapsed(), code)
}

fn judge_byte(
    title: String,
    pod: &str,
    answer: Result<String, String>,
    took: Duration,
    code: &'static str,
) -> Finding {
    match answer {
        Ok(text) if text.is_empty() => Finding::fine(code, title, format!("{pod} has said nothing, asked in {} ms", took.as_millis())),
        Ok(_) => Finding::fine(code, title, format!("a byte of {pod} in {} ms", took.as_millis())),
        Err(error) if is_forbidden(&error) => not_for_this_account(code, title),
        Err(error) => Finding::failed(code, title, format!("{pod}: {error}"))
            .because("kubectl logs, exec and attach go the same way: API server, the cloud's port 10003, the node's tunnel")
            .fix("kedge doctor on the node, and TCP 10003 open from the API server to the cloud"),
    }
}

pub(super) async fn way(client: kube::Client) -> Vec<Finding> {
    let (code, name) = ("KE-STREAM-013", "the API server's way to nodes");
    match read::get(&client, NAMESPACE, FORWARD).await {
        Ok(set) => vec![judge_way(set.as_ref())],
        Err(error) => vec![unasked(code, name, error)],
    }
}

/// Whether a pod keeps the rules on each machine with an API server.
fn judge_way(set: Option<&DaemonSet>) -> Finding {
    let (code, name) = ("KE-STREAM-013", "the API server's way to nodes");
    let Some(set) = set else {
        return Finding::skipped(code, name, "the cloud's own, or `kedge cloud forward` by hand");
    };
    let status = set.status.clone().unwrap_or_default();
    let (wanted, ready) = (status.desired_number_scheduled, status.number_ready);
    let seen = format!("DaemonSet {NAMESPACE}/{FORWARD}: {ready} of {wanted} pods are ready");
    let why =
        "kubectl logs, exec and attach for edge nodes need its rules on each machine with an API server";
    if wanted == 0 {
        let what = format!("DaemonSet {NAMESPACE}/{FORWARD} has no machine to run on");
        return Finding::warning(code, name, what).because(why).fix(FORWARD_BY_HAND);
    }
    if ready < wanted {
        return Finding::warning(code, name, seen)
            .because(why)
            .fix(format!("kubectl -n {NAMESPACE} logs daemonset/{FORWARD}"));
    }
    Finding::fine(code, name, seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;
    use serde_json::json;

    #[test]
    fn rules_that_nobody_keeps_are_told() {
        let with = |wanted: i32, ready: i32| {
            let status = json!({"currentNumberScheduled": wanted, "desiredNumberScheduled": wanted,
                "numberMisscheduled": 0, "numberReady": ready});
            let set = json!({"metadata": {"name": FORWARD}, "status": status});
            judge_way(Some(&serde_json::from_value(set).unwrap()))
        };
        assert_eq!(judge_way(None).state, State::Skipped);
        assert_eq!(with(2, 2).state, State::Fine);
        let none = with(0, 0);
        assert_eq!((&*none.code, none.state), ("KE-STREAM-013", State::Warning));
        assert!(none.fix.contains("kedge cloud forward"), "{none:?}");
        assert!(with(2, 1).fix.contains("logs daemonset/kedge-forward"));
    }

    #[test]
    fn a_byte_of_a_log_is_timed() {
        let judged = |answer| {
            judge_byte("logs of n".into(), "d/p", answer, Duration::from_millis(38), "KE-STREAM-001")
        };
        assert_eq!(judged(Ok("x".to_owned())).seen, "a byte of d/p in 38 ms");
        assert!(judged(Ok(String::new())).seen.contains("said nothing"));
        assert_eq!(judged(Err("dial tcp: refused".to_owned())).state, State::Failed);
        let account =
            "pods \"p\" is forbidden: User \"system:serviceaccount:kubeedge:kedge-cloud\" cannot get";
        let refused = judged(Err(account.to_owned()));
        assert!(refused.state == State::Skipped && refused.fix.contains("--kube-config"), "{refused:?}");
    }
}
