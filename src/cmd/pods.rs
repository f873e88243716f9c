//! `kedge pods`: what should run on this node, from its database, and what does, from the container runtime when it
//! answers. Works without a cloud and without a daemon.

use super::edge_store::{DatabaseArgs, age, table};
use super::join::endpoint;
use crate::base::{Exit, Failure, Output, Term};
use crate::cri::Runtime;
use crate::cri::messages::{Container, ContainerFilter, ContainerState};
use crate::model::{Kind, ObjectKey};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Show the pods of this node
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge pods\n  kedge pods -o json --db /var/lib/kubeedge/edgecore.db")]
pub struct Args {
    /// Only pods of this namespace
    #[arg(long, short, value_name = "NS")]
    namespace: Option<String>,
    /// The container runtime's socket; found when not given
    #[arg(long, value_name = "ENDPOINT")]
    runtime_endpoint: Option<String>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// One pod: what is stored, and what the runtime says.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    namespace: String,
    name: String,
    uid: String,
    /// The last status that was stored or reported.
    status: String,
    ready: usize,
    containers: usize,
    restarts: u64,
    ip: String,
    created: String,
    /// Containers that run now; `None` when no runtime answers.
    running: Option<usize>,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let named = args.runtime_endpoint.map(endpoint).transpose()?;
    let reader = args.database.open()?;
    let mut pods = reader.objects(Kind::Pod)?;
    if let Some(namespace) = &args.namespace {
        pods.retain(|(key, _)| key.namespace.as_ref() == Some(namespace));
    }
    let statuses = reported(reader.states("pod")?);
    let endpoints = named.clone().map_or_else(|| endpoints(reader.path()), |named| vec![named]);
    let running = running(endpoints);
    if let (Some(named), None) = (&named, &running) {
        term.say(&format!("warning: no container runtime answers at {named}; what runs is not known"));
    }
    let lines: Vec<Line> =
        pods.iter().map(|(key, pod)| line(key, pod, statuses.get(uid(pod)), running.as_ref())).collect();
    match args.output {
        Output::Text if lines.is_empty() => term.say("no pods are assigned to this node"),
        Output::Text => {
            let head = ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "RUNNING", "IP", "AGE"];
            term.data(&table(&head, lines.iter().map(cells)));
        }
        form => term.value(&json!({"apiVersion": "kedge.io/v1", "kind": "PodList", "items": lines}), form)?,
    }
    Ok(Exit::Done)
}

/// The last statuses that the pod room kept, by pod uid.
fn reported(rows: Vec<(String, Value)>) -> BTreeMap<String, Value> {
    let entry = |(_, mut row): (String, Value)| {
        let uid = row.get("uid")?.as_str()?.to_owned();
        row.get_mut("status").map(Value::take).filter(Value::is_object).map(|status| (uid, status))
    };
    rows.into_iter().filter_map(entry).collect()
}

fn cells(line: &Line) -> Vec<String> {
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    vec![
        line.namespace.clone(),
        line.name.clone(),
        format!("{}/{}", line.ready, line.containers),
        line.status.clone(),
        line.restarts.to_string(),
        line.running.map_or_else(|| "unknown".to_owned(), |count| count.to_string()),
        dash(&line.ip),
        age(&line.created),
    ]
}

fn uid(pod: &Value) -> &str {
    pod.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or("")
}

fn line(
    key: &ObjectKey,
    pod: &Value,
    reported: Option<&Value>,
    running: Option<&BTreeMap<String, usize>>,
) -> Line {
    let text = |value: &Value, pointer: &str| {
        value.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned()
    };
    let nothing = Value::Null;
    let status = reported.or_else(|| pod.get("status")).unwrap_or(&nothing);
    let list = |field: &str| status.get(field).and_then(Value::as_array).into_iter().flatten();
    let waiting = list("containerStatuses").find_map(|container| {
        let reason = |state: &str| container.pointer(&format!("/state/{state}/reason"))?.as_str();
        reason("waiting").or_else(|| reason("terminated"))
    });
    let phase = text(status, "/phase");
    let shown = match waiting {
        _ if pod.pointer("/metadata/deletionTimestamp").is_some() => "Terminating",
        Some(reason) => reason,
        None if phase.is_empty() => "Pending",
        None => &phase,
    };
    Line {
        namespace: key.namespace.clone().unwrap_or_default(),
        name: key.name.clone(),
        uid: uid(pod).to_owned(),
        status: shown.to_owned(),
        ready: list("containerStatuses").filter(|c| c.get("ready") == Some(&Value::Bool(true))).count(),
        containers: pod.pointer("/spec/containers").and_then(Value::as_array).map_or(0, Vec::len),
        restarts: list("containerStatuses").filter_map(|c| c.get("restartCount")?.as_u64()).sum(),
        ip: text(status, "/podIP"),
        created: text(pod, "/metadata/creationTimestamp"),
        running: running.map(|all| all.get(uid(pod)).copied().unwrap_or(0)),
    }
}

/// Where a runtime may answer: an own containerd beside this database first.
pub(super) fn endpoints(database: &Path) -> Vec<String> {
    let beside = database.parent();
    let own = [beside.and_then(Path::parent), beside]
        .into_iter()
        .flatten()
        .map(|dir| crate::host::containerd::own_socket(&dir.join("runtime")));
    let usual = PathBuf::from("/run/containerd/containerd.sock");
    own.chain([usual]).filter(|path| path.exists()).map(|path| format!("unix://{}", path.display())).collect()
}

/// Running containers by pod uid, from every runtime that answers; `None` when none does.
fn running(endpoints: Vec<String>) -> Option<BTreeMap<String, usize>> {
    const LIMIT: Duration = Duration::from_secs(3);
    let asked = super::block_on(async {
        let mut found: Option<BTreeMap<String, usize>> = None;
        for endpoint in endpoints {
            let runtime = Runtime::new(&endpoint);
            let listing = runtime.list_containers(ContainerFilter::default());
            if let Ok(Ok(containers)) = tokio::time::timeout(LIMIT, listing).await {
                count(&containers, found.get_or_insert_default());
            }
        }
        Ok(found)
    });
    asked.ok().flatten()
}

fn count(containers: &[Container], into: &mut BTreeMap<String, usize>) {
    for container in containers.iter().filter(|container| container.state == ContainerState::Running as i32) {
        if let Some(uid) = container.labels.get("io.kubernetes.pod.uid") {
            *into.entry(uid.clone()).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reported_status_wins_over_the_stored_one() {
        let key = ObjectKey::namespaced(Kind::Pod, "d", "p");
        let pod = json!({"metadata": {"uid": "u"}, "spec": {"containers": [{}, {}]}, "status": {"phase": "Pending"}});
        let stored = line(&key, &pod, None, None);
        assert_eq!((stored.status.as_str(), stored.containers, stored.running), ("Pending", 2, None));
        let reported = json!({"phase": "Running", "podIP": "10.0.0.2", "containerStatuses": [
            {"ready": true, "restartCount": 2, "state": {"running": {}}},
            {"ready": false, "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
        let running = BTreeMap::from([("u".to_owned(), 1)]);
        let line = line(&key, &pod, Some(&reported), Some(&running));
        assert_eq!((line.status.as_str(), line.ready, line.restarts), ("CrashLoopBackOff", 1, 3));
        assert_eq!(line.running, Some(1));
    }
}
