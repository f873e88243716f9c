//! Tasks that the cloud gives this node (protocol.md §4.8): images are pulled ahead of need, the node is upgraded, its
//! configuration changed; what this node cannot do is reported as failed, so that the job ends. The switchboard hands
//! orders in; results go out through the uplink. Only `upgrade` changes the daemon itself, only `config` its configuration.
//!
//! order -> one task each -> check -> cri;  each step -> uplink

mod check;
pub mod config;
mod pull;
mod upgrade;

use super::meta::Meta;
use super::uplink::{ReportKey, Uplink};
use crate::base::{
    BoxFuture, Crew, Failure, Gone, Mail, Mailbox, Module, Ready, Stop, mailbox, now, rfc3339,
};
use crate::cri::Runtime;
use crate::store::Store;
use crate::wire::task::{CHECK, JobKind, JobTarget, PULL, PullSpec, Stage, StageKind, TaskOrder, TaskReport};
use crate::wire::task::{Pulled, images_of_job, images_of_stage};
use crate::wire::{Answer, Up};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Orders that may wait; more are dropped, and the cloud's own time limit ends them.
const ROOM: usize = 32;
/// Orders that are carried out at a time.
const AT_ONCE: usize = 4;

/// Where orders are handed in; cheap to clone.
#[derive(Clone)]
pub struct JobsHandle(Mailbox<TaskOrder>);

impl JobsHandle {
    /// Takes an order; `Gone` when too many wait.
    pub fn order(&self, order: TaskOrder) -> Result<(), Gone> {
        self.0.try_put(order)
    }
}

/// What carries orders out.
#[derive(Clone)]
pub struct Means {
    pub node: String,
    /// `None` where no runtime is used.
    pub runtime: Option<Runtime>,
    pub meta: Meta,
    pub store: Store,
    pub uplink: Uplink,
    /// The daemon's configuration; `None` where it has no file.
    pub config_file: Option<PathBuf>,
    /// Raised when the daemon is to end and begin anew.
    pub restart: Stop,
}

pub struct Jobs {
    means: Means,
    mail: Mail<TaskOrder>,
}

/// Makes the room: its handle and the module.
pub fn new(means: Means) -> (JobsHandle, Jobs) {
    let (orders, mail) = mailbox(ROOM);
    (JobsHandle(orders), Jobs { means, mail })
}

impl Module for Jobs {
    fn name(&self) -> &'static str {
        "jobs"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            ready.set();
            let mut crew = Crew::new();
            let running = Running::default();
            let kept = upgrade::kept(&self.means).await;
            upgrade::tidy(&self.means, kept.as_ref());
            if let Some(order) = kept {
                let (means, entry) = (self.means.clone(), running.enter(order.name()));
                crew.spawn(async move {
                    upgrade::resume(&means, order).await;
                    drop(entry);
                });
            }
            let means = self.means.clone();
            crew.spawn(async move { config::settle(&means).await });
            loop {
                tokio::select! {
                    () = stop.raised() => break,
                    _ended = crew.ended(), if !crew.is_empty() => {}
                    order = self.mail.recv(), if crew.len() < AT_ONCE => {
                        let Some(order) = order else { break };
                        // The cloud repeats an order that it believes lost; one at a time is enough.
                        let Some(entry) = running.enter(name(&order)) else { continue };
                        let means = self.means.clone();
                        crew.spawn(async move {
                            carry_out(&means, order).await;
                            drop(entry);
                        });
                    }
                }
            }
            crew.abort().await;
            Ok(())
        })
    }
}

/// Names of orders that are being carried out.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<BTreeSet<String>>>);

struct Entry(Running, String);

impl Running {
    fn enter(&self, name: String) -> Option<Entry> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(name.clone()).then(|| Entry(self.clone(), name))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

fn name(order: &TaskOrder) -> String {
    match order {
        TaskOrder::Job { target, .. } => format!("{} {}", target.kind.as_str(), target.job),
        TaskOrder::Stage { kind, task, .. } => format!("{} {task}", kind.as_str()),
        TaskOrder::Upgrade { task, .. } => format!("{} {task}", StageKind::Upgrade.as_str()),
    }
}

async fn carry_out(means: &Means, order: TaskOrder) {
    let name = name(&order);
    tracing::info!(task = name, "a task of the cloud begins");
    match order {
        TaskOrder::Job { target, .. } if target.node != means.node => {
            tracing::warn!(task = name, "a task is for another node");
        }
        TaskOrder::Job { target, action, spec } => job(means, target, &action, &spec).await,
        TaskOrder::Stage { kind, task, node: _, state, item } => {
            let at = (kind, task, means.node.clone());
            stage(means, at, Stage::parse(&state), &item).await;
        }
        TaskOrder::Upgrade { task, node: _, request } => upgrade::at_once(means, &task, &request).await,
    }
    tracing::info!(task = name, "a task of the cloud has ended");
}

/// Runs a job's flow from an action on, each action reported; a failed one ends it.
async fn job(means: &Means, target: JobTarget, from: &str, spec: &Value) {
    let refusal = match target.kind {
        _ if !target.kind.has(from) => Some(format!("the job has no action {from:?}")),
        JobKind::NodeUpgrade => return upgrade::job(means, &target, from, spec).await,
        JobKind::ConfigUpdate => return config::update(means, target, from, spec).await,
        JobKind::ImagePrePull => None,
    };
    let spec = match refusal {
        Some(why) => Err(why),
        None => PullSpec::parse(spec),
    };
    let spec = match spec {
        Ok(spec) => spec,
        Err(why) => {
            // A cloud knows no other actions than the flow's; the first one's failure ends the job.
            means.action(target, CHECK, Err(why), String::new()).await;
            return;
        }
    };
    if from == CHECK {
        let checked = check::all(&spec.checks).await;
        let failed = checked.is_err();
        means.action(target.clone(), CHECK, checked, String::new()).await;
        if failed {
            return;
        }
    }
    let pulled = pull::all(means, &spec).await;
    means.action(target, PULL, verdict(&pulled), extend(&pulled, images_of_job)).await;
}

async fn stage(means: &Means, at: (StageKind, String, String), stage: Option<Stage>, item: &Value) {
    let Some(stage) = stage else {
        // Nothing is known that could be answered so that the cloud understands it.
        tracing::warn!("a task is in an unknown state");
        return;
    };
    let spec = match at.0 {
        StageKind::Upgrade => return upgrade::stage(means, &at.1, stage, item).await,
        StageKind::PrePull => PullSpec::parse(item),
    };
    let (result, external) = match (spec, stage) {
        (Err(why), _) => (Err(why), String::new()),
        (Ok(spec), Stage::Pull) => {
            let pulled = pull::all(means, &spec).await;
            (verdict(&pulled), extend(&pulled, images_of_stage))
        }
        // The items to check stand under a name of their own here.
        (Ok(_), Stage::Check) => match PullSpec::parse(&serde_json::json!({"checkItems": item["CheckItem"]}))
        {
            Ok(spec) => (check::all(&spec.checks).await, String::new()),
            Err(why) => (Err(why), String::new()),
        },
        (Ok(_), Stage::Begin) => (Ok(()), String::new()),
        (Ok(_), _) => (Err("a pre-pull has no such state".to_owned()), String::new()),
    };
    means.report(TaskReport::stage(at, stage, result, external)).await;
}

type Pulls = Result<Vec<Pulled>, String>;

fn verdict(pulled: &Pulls) -> Result<(), String> {
    let pulled = pulled.as_ref().map_err(Clone::clone)?;
    match pulled.iter().filter(|one| one.failure.is_some()).count() {
        0 => Ok(()),
        failed => Err(format!("{failed} of {} images could not be pulled", pulled.len())),
    }
}

fn extend(pulled: &Pulls, words: fn(&[Pulled]) -> String) -> String {
    pulled.as_ref().map_or_else(|_| String::new(), |pulled| words(pulled))
}

impl Means {
    async fn action(&self, target: JobTarget, action: &str, result: Result<(), String>, extend: String) {
        self.report(TaskReport::action(target, action, rfc3339(now()), result, extend)).await;
    }

    /// Reports, and waits until the connection has taken it: what comes next may end this daemon, or forget.
    async fn report_sent(&self, report: TaskReport, limit: Duration) {
        if let Some(sent) = self.send(report).await {
            // Nothing answers a task's report, so the sender is dropped when it was sent.
            drop(tokio::time::timeout(limit, sent).await);
        }
    }

    async fn report(&self, report: TaskReport) {
        drop(self.send(report).await);
    }

    /// Reports wait for the link, and for each other: a later one never takes an earlier one's place.
    async fn send(&self, report: TaskReport) -> Option<oneshot::Receiver<Answer>> {
        let step = match &report {
            TaskReport::Action { target, outcome } => {
                format!("job {} {} {}", target.kind.as_str(), target.job, outcome.action)
            }
            TaskReport::Stage(report) => {
                format!("task {} {} {}", report.kind.as_str(), report.task, report.facts.event)
            }
        };
        let sent = self.uplink.report(ReportKey(step), Up::Task(Box::new(report))).await;
        if sent.is_err() {
            tracing::debug!("the uplink has ended before a task was reported");
        }
        sent.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::edge::uplink::{Link, Outgoing};
    use serde_json::json;
    use tokio::sync::mpsc;

    pub(super) struct Bench {
        pub(super) means: Means,
        said: mpsc::Receiver<Outgoing>,
        pub(super) link: tokio::sync::watch::Sender<Link>,
        _dir: tempfile::TempDir,
    }

    pub(super) fn bench() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("edgecore.db")).unwrap();
        let (uplink, said, link) = Uplink::channel(64);
        let meta = Meta::new(store.clone(), uplink.clone(), "n", Duration::from_secs(1));
        let socket = dir.path().join("no.sock");
        let runtime = Some(Runtime::new(socket.to_str().unwrap()));
        let config_file = Some(dir.path().join("edgecore.yaml"));
        let (node, restart) = ("n".to_owned(), Stop::new());
        let means = Means { node, runtime, meta, store, uplink, config_file, restart };
        Bench { means, said, link, _dir: dir }
    }

    pub(super) fn reports(bench: &mut Bench) -> Vec<TaskReport> {
        let mut all = Vec::new();
        while let Ok(Outgoing::Report { up: Up::Task(report), .. }) = bench.said.try_recv() {
            all.push(*report);
        }
        all
    }

    fn order(kind: JobKind, action: &str, spec: Value) -> TaskOrder {
        let target = JobTarget { kind, job: "j".to_owned(), node: "n".to_owned() };
        TaskOrder::Job { target, action: action.to_owned(), spec }
    }

    #[tokio::test]
    async fn what_this_node_cannot_do_ends_the_job_in_its_first_action() {
        let mut bench = bench();
        let orders = [
            (order(JobKind::NodeUpgrade, "Check", json!({})), "no version"),
            (order(JobKind::NodeUpgrade, "Upgrade", json!({"version": "1.2;reboot"})), "no version"),
            (order(JobKind::NodeUpgrade, "Check", json!({"version": "v99.0.0"})), "launcher"),
            (order(JobKind::ConfigUpdate, "Check", json!({})), "no field"),
            (order(JobKind::ImagePrePull, "Upgrade", json!({})), "no action"),
            (order(JobKind::ImagePrePull, "", json!(7)), "no action"),
            (order(JobKind::ImagePrePull, "Check", json!({"checkItems": ["moon"]})), "moon"),
        ];
        for (order, why) in orders {
            carry_out(&bench.means, order).await;
            let said = reports(&mut bench);
            let [TaskReport::Action { outcome, .. }] = said.as_slice() else { panic!("{said:?}") };
            assert_eq!((outcome.action.as_str(), outcome.success), ("Check", false));
            assert!(outcome.reason.contains(why), "{outcome:?}");
        }
        let at = |state: &str| TaskOrder::Stage {
            kind: StageKind::Upgrade,
            task: "t".to_owned(),
            node: "n".to_owned(),
            state: state.to_owned(),
            item: json!({}),
        };
        let old = TaskOrder::Upgrade { task: "t".to_owned(), node: "n".to_owned(), request: json!({}) };
        for (order, event) in [(at(""), "Init"), (at("BackingUp"), "Backup"), (old, "Upgrade")] {
            carry_out(&bench.means, order).await;
            let said = reports(&mut bench);
            let [TaskReport::Stage(report)] = said.as_slice() else { panic!("{said:?}") };
            assert_eq!((report.facts.event.as_str(), report.facts.action.as_str()), (event, "Failure"));
        }
        carry_out(&bench.means, at("Dancing")).await;
        assert_eq!(reports(&mut bench), []);
    }

    #[tokio::test]
    async fn a_node_that_is_at_the_version_already_says_so_step_by_step() {
        let mut bench = bench();
        let spec = json!({"version": format!("v{}", env!("CARGO_PKG_VERSION")), "requireConfirmation": true});
        carry_out(&bench.means, order(JobKind::NodeUpgrade, "Check", spec)).await;
        let said = reports(&mut bench);
        let told: Vec<(&str, bool)> = said
            .iter()
            .map(|report| match report {
                TaskReport::Action { outcome, .. } => (outcome.action.as_str(), outcome.success),
                TaskReport::Stage(_) => panic!("{report:?}"),
            })
            .collect();
        let steps = ["Check", "WaitingConfirmation", "BackUp", "Upgrade"];
        assert_eq!(told, steps.map(|step| (step, true)));
    }

    #[tokio::test]
    async fn each_action_of_a_pull_is_reported() {
        let mut bench = bench();
        let spec = json!({"imagePrePullTemplate": {"images": ["a", "b"], "checkItems": ["mem"]}});
        carry_out(&bench.means, order(JobKind::ImagePrePull, "Check", spec)).await;
        let said = reports(&mut bench);
        let [TaskReport::Action { outcome: check, .. }, TaskReport::Action { outcome: pull, .. }] =
            said.as_slice()
        else {
            panic!("{said:?}")
        };
        assert_eq!((check.action.as_str(), check.success), ("Check", true));
        assert_eq!((pull.action.as_str(), pull.success), ("Pull", false));
        assert_eq!(pull.reason, "2 of 2 images could not be pulled");
        let images: Value = serde_json::from_str(&pull.extend).unwrap();
        assert_eq!((&images[1]["image"], &images[1]["status"]), (&json!("b"), &json!("False")));
        assert!(!pull.finished.is_empty());
    }

    #[test]
    fn one_order_is_carried_out_once_at_a_time() {
        let running = Running::default();
        let entry = running.enter("a".to_owned());
        assert!(entry.is_some() && running.enter("a".to_owned()).is_none());
        drop(entry);
        assert!(running.enter("a".to_owned()).is_some());
    }
}
