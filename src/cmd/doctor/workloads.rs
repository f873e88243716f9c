//! Pods of this node: do they run, would they start with no cloud, which of them belong to the cloud side only.

use super::closure::{Closure, Held};
use super::offline::{counts, look_at_images, why};
use super::place::Place;
use crate::cmd::pods::endpoints;
use crate::host::check::{Check, Finding, Group};
use crate::model::Kind;
use crate::store::Reader;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

/// DaemonSets that a cluster's tools install for nodes with a network of their own; edge nodes have none of that.
pub(super) const CLOUD_ONLY: [&str; 15] = [
    "kube-proxy",
    "calico-node",
    "canal",
    "cilium",
    "kube-flannel-ds",
    "kube-flannel",
    "weave-net",
    "kube-router",
    "kindnet",
    "antrea-agent",
    "aws-node",
    "azure-cni",
    "kube-ovn-cni",
    "node-local-dns",
    "csi-node-driver",
];

pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    let database = place.edge.as_ref().map(|config| config.database.clone());
    let (run, offline, scheduled) = (place.clone(), database.clone(), database);
    vec![
        Check::blocking("KE-POD-010", Group::Workloads, "pods", move || vec![judge_pods(&run)])
            .after(&["KE-DAEMON-001"]),
        Check::asking("KE-AUTONOMY-001", Group::Workloads, "pods with no cloud", async move {
            vec![autonomy(offline).await]
        })
        .after(&["KE-DB-001"]),
        Check::blocking("KE-SCHED-001", Group::Workloads, "cloud-only DaemonSets", move || {
            vec![scheduled_here(scheduled)]
        })
        .after(&["KE-DB-001"]),
    ]
}

fn judge_pods(place: &Place) -> Finding {
    let (code, name) = ("KE-POD-010", "pods");
    let Some(daemon) = &place.daemon else { return Finding::skipped(code, name, "because of KE-DAEMON-001") };
    let pods = daemon.document.get("pods").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |pod: &Value, field: &str| pod.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let unwell = |pod: &&Value| {
        let containers = pod.get("containers").and_then(Value::as_array).map_or(0, Vec::len);
        let ready = pod
            .get("ready")
            .and_then(Value::as_u64)
            .and_then(|ready| usize::try_from(ready).ok())
            .unwrap_or(0);
        text(pod, "phase") != "Succeeded" && ready < containers
    };
    let troubled: Vec<String> = pods
        .iter()
        .filter(unwell)
        .map(|pod| {
            let states = pod.get("containers").and_then(Value::as_array).into_iter().flatten();
            let states: Vec<String> =
                states.map(|c| text(c, "state")).filter(|state| state != "Running").collect();
            format!("{}/{} {}", text(pod, "namespace"), text(pod, "name"), states.join(" ")).trim().to_owned()
        })
        .collect();
    if troubled.is_empty() {
        return Finding::fine(code, name, format!("{}, all ready", pods.len()));
    }
    Finding::warning(
        code,
        name,
        format!("{} of {} not ready: {}", troubled.len(), pods.len(), troubled.join(", ")),
    )
    .because("the runtime's reasons and the containers' own words tell more")
    .fix("kedge pods, then kedge logs POD")
}

async fn autonomy(database: Option<PathBuf>) -> Finding {
    let (code, name) = ("KE-AUTONOMY-001", "pods with no cloud");
    let Some(path) = database.filter(|path| path.is_file()) else {
        return Finding::skipped(code, name, "there is no database yet");
    };
    let read = tokio::task::spawn_blocking(move || {
        let reader = Reader::open(&path)?;
        Ok::<_, crate::base::Failure>((Held::read(&reader)?.closures(), endpoints(reader.path())))
    });
    match read.await {
        Ok(Ok((mut pods, endpoints))) => {
            let runtime = look_at_images(&mut pods, endpoints).await;
            judge_autonomy(&pods, runtime.is_some())
        }
        Ok(Err(failure)) => Finding::failed(code, name, failure.what).because(failure.why).fix(failure.fix),
        Err(_) => Finding::failed(code, name, "the check broke off"),
    }
}

fn judge_autonomy(pods: &[Closure], runtime: bool) -> Finding {
    let (code, name) = ("KE-AUTONOMY-001", "pods with no cloud");
    let (yes, no) = counts(pods);
    let unknown = if runtime || pods.is_empty() { "" } else { ", images not looked at" };
    match pods.iter().find(|pod| pod.starts == Some(false)) {
        Some(first) => {
            let seen = format!(
                "{no} of {} would not start: {}/{}: {}",
                yes + no,
                first.namespace,
                first.name,
                why(first)
            );
            Finding::warning(code, name, seen)
                .because("after a reboot with no cloud they stay away until it is back")
                .fix("kedge doctor offline")
        }
        None => Finding::fine(code, name, format!("{yes} of {yes} would start{unknown}")),
    }
}

fn scheduled_here(database: Option<PathBuf>) -> Finding {
    let (code, name) = ("KE-SCHED-001", "cloud-only DaemonSets");
    let Some(path) = database.filter(|path| path.is_file()) else {
        return Finding::skipped(code, name, "there is no database yet");
    };
    match Reader::open(path).and_then(|reader| reader.objects(Kind::Pod)) {
        Ok(pods) => judge_scheduled(pods.iter().map(|(_, pod)| pod)),
        Err(failure) => Finding::failed(code, name, failure.what).because(failure.why).fix(failure.fix),
    }
}

fn judge_scheduled<'a>(pods: impl Iterator<Item = &'a Value>) -> Finding {
    let (code, name) = ("KE-SCHED-001", "cloud-only DaemonSets");
    let owner = |pod: &Value| {
        let owners = pod.pointer("/metadata/ownerReferences")?.as_array()?;
        let set = owners.iter().find(|owner| owner.get("kind") == Some(&Value::from("DaemonSet")))?;
        let namespace = pod.pointer("/metadata/namespace")?.as_str()?;
        Some((namespace.to_owned(), set.get("name")?.as_str()?.to_owned()))
    };
    let found: Vec<(String, String)> =
        pods.filter_map(owner).filter(|(_, name)| CLOUD_ONLY.contains(&&**name)).collect();
    match found.first() {
        None => Finding::fine(code, name, "none here"),
        Some((namespace, first)) => {
            let names: Vec<&str> = found.iter().map(|(_, name)| name.as_str()).collect();
            Finding::warning(code, name, names.join(", "))
                .because("they drive a network that an edge node does not have, and fail or change its rules")
                .fix(keep_off(namespace, first) + " (on the cloud)")
        }
    }
}

/// The patch that keeps a DaemonSet off edge nodes; `--type=json` with `remove` takes it back.
pub(super) fn keep_off(namespace: &str, name: &str) -> String {
    format!(
        "kubectl -n {namespace} patch daemonset {name} --type=strategic -p \
         '{{\"spec\":{{\"template\":{{\"spec\":{{\"affinity\":{{\"nodeAffinity\":{{\"requiredDuringSchedulingIgnoredDuringExecution\":\
         {{\"nodeSelectorTerms\":[{{\"matchExpressions\":[{{\"key\":\"node-role.kubernetes.io/edge\",\"operator\":\"DoesNotExist\"}}]}}]}}}}}}}}}}}}}}'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn cloud_only_daemonsets_come_with_the_patch() {
        let pod = |set: &str| {
            json!({"metadata": {"namespace": "kube-system", "name": "x",
            "ownerReferences": [{"kind": "DaemonSet", "name": set}]}})
        };
        let pods = [pod("kube-proxy"), pod("my-agent")];
        let finding = judge_scheduled(pods.iter());
        assert_eq!((finding.state, finding.seen.as_str()), (State::Warning, "kube-proxy"));
        let patch = finding.fix.split('\'').nth(1).unwrap();
        let patch: Value = serde_json::from_str(patch).unwrap();
        assert_eq!(patch.pointer("/spec/template/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchExpressions/0/operator"), Some(&json!("DoesNotExist")));
        assert_eq!(judge_scheduled([pod("my-agent")].iter()).state, State::Fine);
    }

    #[test]
    fn pods_that_would_not_start_are_a_warning() {
        let pod = |starts| Closure {
            namespace: "d".into(),
            name: "p".into(),
            starts,
            missing: Vec::new(),
            images: BTreeMap::new(),
        };
        assert_eq!(judge_autonomy(&[pod(Some(true))], true).seen, "1 of 1 would start");
        let failing = judge_autonomy(&[pod(Some(true)), pod(Some(false))], true);
        assert!(
            failing.state == State::Warning && failing.seen.starts_with("1 of 2 would not start: d/p"),
            "{failing:?}"
        );
    }
}
