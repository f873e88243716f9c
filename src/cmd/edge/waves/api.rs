//! The cluster as a roll-out sees it: edge nodes with what they run, and its own NodeUpgradeJobs. Every request has a
//! limit; an API that is away is waited for.

use super::plan::{History, Node, Verdict};
use crate::base::{Backoff, Exit, Failure};
use crate::cmd::cloud::kubeconfig;
use crate::daemon::cloud;
use crate::model::Release;
use crate::pki::install_crypto_provider;
use crate::wire::task::SKIPPED;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, PostParams};
use serde_json::{Value, json};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);
/// How long an API may be away before the roll-out is given up; the cluster goes on without it.
const PATIENCE: Duration = Duration::from_secs(300);
const LABEL: &str = "kedge.io/upgrade";
const EDGE: &str = "node-role.kubernetes.io/edge";

/// A node's row in a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub node: String,
    pub phase: String,
    /// The last action, with how it ended.
    pub action: String,
    pub reason: String,
}

impl Row {
    /// Why the job has asked nothing of the node; `None` when it has.
    pub(super) fn skipped(&self) -> Option<&str> {
        self.reason.strip_prefix(SKIPPED).filter(|_| self.phase == "Failure" && self.action.is_empty())
    }
}

/// A job as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub name: String,
    pub number: u64,
    /// Some cloud has taken it.
    pub begun: bool,
    pub over: bool,
    pub reason: String,
    pub rows: Vec<Row>,
}

pub(super) struct Cluster {
    nodes: Api<DynamicObject>,
    jobs: Api<DynamicObject>,
}

fn unreachable(why: impl fmt::Display) -> Failure {
    Failure::new("KE-KUBE-002", "the Kubernetes API cannot be asked")
        .because(why)
        .fix("check the file given with --kube-config, and that the API server runs; then run this again, it goes on")
        .exit(Exit::Unreachable)
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

fn jobs_resource() -> ApiResource {
    resource("operations.kubeedge.io", "v1alpha2", "NodeUpgradeJob", "nodeupgradejobs")
}

/// Asks until there is an answer; what the API refuses is not repeated.
async fn insist<T, F>(mut ask: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = kube::Result<T>>,
{
    let started = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let why = match tokio::time::timeout(LIMIT, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code < 500 && status.code != 429 => {
                return Err(unreachable(status.message));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if started.elapsed() > PATIENCE {
            return Err(unreachable(why));
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

impl Cluster {
    /// By this kubeconfig, or by `KUBECONFIG` and `~/.kube/config` as kubectl does.
    pub(super) async fn connect(file: Option<&Path>) -> Result<Cluster, Failure> {
        install_crypto_provider();
        let file = kubeconfig(file).ok_or_else(|| unreachable("neither $KUBECONFIG nor $HOME is set"))?;
        let config = cloud::kubeconfig(&file).await?;
        let client = kube::Client::try_from(config).map_err(unreachable)?;
        let cluster = Cluster {
            nodes: Api::all_with(client.clone(), &resource("", "v1", "Node", "nodes")),
            jobs: Api::all_with(client, &jobs_resource()),
        };
        // Whether it answers at all is told at once; later it is waited for.
        match tokio::time::timeout(LIMIT, cluster.nodes.list(&ListParams::default().limit(1))).await {
            Ok(Ok(_)) => Ok(cluster),
            Ok(Err(error)) => Err(unreachable(error)),
            Err(_) => Err(unreachable("no answer in time")),
        }
    }

    /// Edge nodes, all or those that a selector chooses.
    pub(super) async fn nodes(&self, selector: &str) -> Result<Vec<Node>, Failure> {
        let selector = if selector.is_empty() { EDGE.to_owned() } else { format!("{EDGE},{selector}") };
        let params = ListParams::default().labels(&selector);
        let nodes = insist(|| self.nodes.list(&params)).await?;
        Ok(nodes.items.iter().map(|node| read_node(node.metadata.name.clone(), &node.data)).collect())
    }

    /// The jobs of a roll-out in the order of their numbers.
    pub(super) async fn jobs(&self, identity: &str) -> Result<Vec<Job>, Failure> {
        let params = ListParams::default().labels(&format!("{LABEL}={identity}"));
        let jobs = insist(|| self.jobs.list(&params)).await?;
        let mut jobs: Vec<Job> = jobs.items.iter().map(read_job).collect();
        jobs.sort_by_key(|job| job.number);
        Ok(jobs)
    }

    pub(super) async fn job(&self, name: &str) -> Result<Job, Failure> {
        Ok(read_job(&insist(|| self.jobs.get(name)).await?))
    }

    /// Creates the job of a wave; one of this name is taken for it, so that a lost answer does no harm.
    pub(super) async fn create(&self, wave: &Wave<'_>) -> Result<Job, Failure> {
        let mut job = DynamicObject::new(&wave.name(), &jobs_resource());
        job.metadata.labels = Some([(LABEL.to_owned(), wave.identity.to_owned())].into());
        job.data = json!({"spec": {
            "version": wave.to.to_string(),
            "nodeNames": wave.nodes,
            "concurrency": wave.nodes.len(),
            // All begin at once, so the budget is counted between waves.
            "failureTolerate": "1",
            "timeoutSeconds": wave.limit.as_secs(),
            "requireConfirmation": false,
        }});
        let params = PostParams::default();
        let created = insist(async || match self.jobs.create(&params, &job).await {
            Err(kube::Error::Api(status)) if status.code == 409 => self.jobs.get(&wave.name()).await,
            outcome => outcome,
        });
        Ok(read_job(&created.await?))
    }
}

/// A wave that begins.
pub(super) struct Wave<'a> {
    pub identity: &'a str,
    pub number: u64,
    pub to: &'a Release,
    pub nodes: &'a [String],
    pub limit: Duration,
}

impl Wave<'_> {
    pub(super) fn name(&self) -> String {
        format!("kedge-upgrade-{}-{}", self.identity, self.number)
    }
}

fn read_node(name: Option<String>, node: &Value) -> Node {
    let kubelet = node.pointer("/status/nodeInfo/kubeletVersion").and_then(Value::as_str).unwrap_or_default();
    // kedge's own release stands behind that of the KubeEdge it speaks like.
    let runs = kubelet.rsplit_once("-kedge-").or_else(|| kubelet.rsplit_once("-kubeedge-"));
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True");
    Node {
        name: name.unwrap_or_default(),
        runs: runs.and_then(|(_, version)| Release::parse(version)),
        ready,
    }
}

fn read_job(job: &DynamicObject) -> Job {
    let name = job.metadata.name.clone().unwrap_or_default();
    let number = name.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0);
    let text =
        |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let status = job.data.get("status").unwrap_or(&Value::Null);
    let row = |row: &Value| {
        let last = row.get("actionFlow").and_then(Value::as_array).and_then(|flow| flow.last());
        let action = last.map(|last| {
            let how = if last["status"] == "True" { "done" } else { "failed" };
            format!("{} {how}", text(last, "action"))
        });
        Row {
            node: text(row, "nodeName"),
            phase: text(row, "phase"),
            action: action.unwrap_or_default(),
            reason: text(row, "reason"),
        }
    };
    let rows = status.get("nodeStatus").and_then(Value::as_array);
    Job {
        name,
        number,
        begun: !text(status, "phase").is_empty(),
        over: matches!(text(status, "phase").as_str(), "Completed" | "Failure"),
        reason: text(status, "reason"),
        rows: rows.into_iter().flatten().map(row).collect(),
    }
}

/// What earlier jobs have shown. Success counts from the job of number `since` on only: before that a node is what it says
/// it runs, since somebody may have taken it back.
pub(super) fn history(jobs: &[Job], since: u64) -> History {
    let mut history = History::default();
    for job in jobs {
        history.last = history.last.max(job.number);
        for row in &job.rows {
            let verdict = match row.phase.as_str() {
                "Successful" if job.number < since => continue,
                "Successful" => Verdict::Done,
                "Failure" | "Unknown" if row.skipped().is_none() => Verdict::Failed(row.reason.clone()),
                _ => continue,
            };
            history.verdicts.insert(row.node.clone(), verdict);
        }
    }
    history
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_jobs_are_read() {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let node = |version: &str| {
            let status = json!({"nodeInfo": {"kubeletVersion": version}, "conditions": ready});
            read_node(Some("n".to_owned()), &json!({"status": status}))
        };
        assert_eq!(node("v1.36.0-kubeedge-v1.23.1-kedge-0.1.0").runs, Release::parse("0.1.0"));
        assert_eq!(node("v1.32.10-kubeedge-v1.23.1").runs, Release::parse("1.23.1"));
        assert_eq!((node("v1.32.10").runs, node("").ready), (None, true));
        let mut job = DynamicObject::new("kedge-upgrade-1-1-0-00000000-7", &jobs_resource());
        job.data = json!({"status": {"phase": "Failure", "reason": "r", "nodeStatus": [
            {"nodeName": "a", "phase": "Successful", "actionFlow": [{"action": "Upgrade", "status": "True"}]},
            {"nodeName": "b", "phase": "Unknown", "reason": "late"}, {"nodeName": "c", "phase": "Pending"},
            {"nodeName": "d", "phase": "Failure", "reason": "skipped: away"}]}});
        let job = read_job(&job);
        assert_eq!((job.number, job.over, job.rows[0].action.as_str()), (7, true, "Upgrade done"));
        assert_eq!(super::history(std::slice::from_ref(&job), 8).verdicts.len(), 1);
        let history = history(&[job], 7);
        assert_eq!((history.last, history.verdicts.len()), (7, 2));
        assert_eq!(history.verdicts["b"], Verdict::Failed("late".to_owned()));
    }
}
