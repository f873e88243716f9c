//! Jobs of operations.kubeedge.io: upgrades, pre-pulls and configuration updates are handed to their nodes a few at a
//! time, what nodes report goes into the job's status (protocol.md §4.8). The API object is the truth: a restarted cloud
//! goes on from it. `wanted` reads a job, `plan` (v1alpha2) or `stages` (v1alpha1) decides, this file does.
//!
//! watch --> plan --> hub        hub --> letters --> plan --> API

mod candidates;
mod clock;
mod gate;
mod pace;
mod plan;
mod registry;
mod stages;
mod verdict;
mod wanted;
mod words;

#[cfg(test)]
mod desk_tests;

use super::super::kubernetes::{Event, Patch, Resource, Scope, follow, is_temporary, meta};
use super::budget::Budgets;
use super::pods::watch_ended;
use super::shared::{Shared, told};
use crate::base::{BoxFuture, Crew, Failure, Mail, Module, Ready, Stop, now, random_bytes, rfc3339};
use crate::model::{NodeName, Status};
use crate::wire::Down;
use crate::wire::task::{JobKind, JobTarget, StageKind, TaskOrder, TaskReport};
use crate::wire::upgrade::{INSTALLATION_IMAGE, settle_digest};
use clock::Clock;
use gate::Gate;
use jiff::Timestamp;
use pace::{Backlog, Turns};
use plan::Standing;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use wanted::Wanted;

const EVENTS: usize = 64;
/// How often jobs are looked at: nodes come back, limits pass.
const LOOK: Duration = Duration::from_secs(1);
/// How long a call is repeated that the API fails; a report waits for an API that is away, however long that lasts.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nobody is given up after the API was away: what was said meanwhile is being written, maybe by another replica.
const GRACE: Duration = Duration::from_secs(10);
/// How long a report is written again after somebody else wrote the status meanwhile; a pause that differs lets one of
/// several replicas go first.
const CONTENDED: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);
const AWAY: &str = "waits: the node is not connected";

/// Which of KubeEdge's two job engines this cloud is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon::cloud) enum Engine {
    /// v1alpha2: a node runs a job's actions by itself.
    Actions,
    /// v1alpha1: the cloud orders stage by stage (feature gate disableNodeTaskV1alpha2).
    Stages,
}

impl Engine {
    fn resource(self, kind: JobKind) -> Option<Resource> {
        match (self, kind) {
            (Engine::Actions, JobKind::NodeUpgrade) => Some(Resource::NODE_UPGRADE_JOB),
            (Engine::Actions, JobKind::ImagePrePull) => Some(Resource::IMAGE_PRE_PULL_JOB),
            (Engine::Actions, JobKind::ConfigUpdate) => Some(Resource::CONFIG_UPDATE_JOB),
            (Engine::Stages, JobKind::NodeUpgrade) => Some(Resource::NODE_UPGRADE_JOB_V1ALPHA1),
            (Engine::Stages, JobKind::ImagePrePull) => Some(Resource::IMAGE_PRE_PULL_JOB_V1ALPHA1),
            (Engine::Stages, JobKind::ConfigUpdate) => None,
        }
    }

    /// What an empty `failureTolerate` means to KubeEdge.
    fn tolerate(self) -> f64 {
        match self {
            Engine::Actions => 0.0,
            Engine::Stages => 0.1,
        }
    }

    fn standing(self, job: &Value) -> Standing {
        match self {
            Engine::Actions => plan::standing(job),
            Engine::Stages => stages::standing(job),
        }
    }
}

/// A node's word on a task.
#[derive(Debug)]
pub(super) struct Said {
    pub node: NodeName,
    pub report: TaskReport,
}

pub(super) struct Jobs {
    pub shared: Arc<Shared>,
    pub mail: Mail<Said>,
    pub settings: Settings,
}

/// How this cloud does jobs.
#[derive(Clone, Debug)]
pub(in crate::daemon::cloud) struct Settings {
    pub engine: Engine,
    /// Authorities of registries beside the system's, as a PEM file.
    pub registry_ca: Option<PathBuf>,
}

type Name = (JobKind, String);

/// A change of the API: what kind of job, and what became of it.
type Change = (JobKind, Event);

/// The jobs of one run.
struct Desk {
    shared: Arc<Shared>,
    engine: Engine,
    jobs: BTreeMap<Name, Value>,
    /// How long a node's present step, or its wait for a connection, lasts.
    clock: Clock,
    /// The connection over which a node was given its order, by the time of its start.
    ordered: HashMap<(Name, String), i64>,
    gate: Gate,
    /// How long a call is repeated that the API fails.
    patience: Duration,
    budgets: Budgets,
    backlog: Backlog,
    /// Whether nodes may be given up now.
    judging: bool,
    /// When the API was away last.
    away: Option<Instant>,
    /// Jobs of which it was told that they cannot go on.
    stuck: HashSet<Name>,
}

fn watch(crew: &mut Crew, shared: &Arc<Shared>, engine: Engine) -> mpsc::Receiver<Change> {
    let (sender, changes) = mpsc::channel(EVENTS);
    for kind in JobKind::ALL {
        let Some(resource) = engine.resource(kind) else { continue };
        let (inner, mut events) = mpsc::channel(EVENTS);
        let (kube, scope) = (shared.kube.clone(), Scope { resource, selector: "" });
        crew.spawn(async move { drop(follow(kube, scope, inner).await) });
        let sender = sender.clone();
        crew.spawn(async move {
            while let Some(event) = events.recv().await {
                if sender.send((kind, event)).await.is_err() {
                    return;
                }
            }
        });
    }
    changes
}

impl Module for Jobs {
    fn name(&self) -> &'static str {
        "jobs"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut crew = Crew::new();
            let mut changes = watch(&mut crew, &self.shared, self.settings.engine);
            let (gate, mut answered) = Gate::new(self.settings.registry_ca.clone());
            let mut desk = Desk::new(self.shared.clone(), self.settings.engine, gate, PATIENCE);
            let mut look = tokio::time::interval(LOOK);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // A cluster without the definitions has no jobs; nobody waits for them.
            ready.set();
            let mut turns = Turns::default();
            loop {
                let work = tokio::select! {
                    biased;
                    () = stop.raised() => return Ok(()),
                    said = self.mail.recv(), if turns.hears() => {
                        let Some(said) = said else { return Err(watch_ended("task reports")) };
                        desk.backlog.read();
                        turns.heard();
                        stop.or(desk.said(said)).await
                    }
                    change = changes.recv(), if turns.sees() => {
                        turns.seen();
                        let (kind, event) = change.ok_or_else(|| watch_ended("jobs"))?;
                        stop.or(desk.event(kind, event)).await
                    }
                    // The gate holds a sender, so there is always another answer to wait for.
                    Some(named) = answered.recv() => {
                        let name = desk.gate.take(named);
                        stop.or(desk.advance(name)).await
                    }
                    _ = look.tick(), if !desk.jobs.is_empty() => {
                        turns.begin();
                        stop.or(desk.look(self.mail.len())).await
                    }
                    () = std::future::ready(()), if !turns.hears() || !turns.sees() => {
                        turns.begin();
                        continue;
                    }
                };
                if work.is_none() {
                    return Ok(());
                }
            }
        })
    }
}

impl Desk {
    fn new(shared: Arc<Shared>, engine: Engine, gate: Gate, patience: Duration) -> Desk {
        Desk {
            shared,
            engine,
            jobs: BTreeMap::new(),
            clock: Clock::default(),
            ordered: HashMap::new(),
            gate,
            patience,
            budgets: Budgets::default(),
            backlog: Backlog::default(),
            judging: false,
            away: None,
            stuck: HashSet::new(),
        }
    }

    async fn event(&mut self, kind: JobKind, event: Event) {
        match event {
            Event::Listing => self.jobs.retain(|(of, _), _| *of != kind),
            Event::Listed => {}
            Event::Deleted(job) => self.forget(&(kind, meta(&job, "name").to_owned())),
            Event::Applied { object, .. } => {
                let name = (kind, meta(&object, "name").to_owned());
                self.take(name, object).await;
            }
        }
    }

    fn forget(&mut self, name: &Name) {
        self.jobs.remove(name);
        self.clock.forget(name);
        self.ordered.retain(|(of, _), _| of != name);
        self.gate.forget(name);
        self.stuck.remove(name);
    }

    /// Takes a job as it is now and does what follows; one that is over is let go.
    async fn take(&mut self, name: Name, job: Value) {
        if self.engine.standing(&job) == Standing::Over
            || job.pointer("/metadata/deletionTimestamp").is_some()
        {
            return self.forget(&name);
        }
        self.jobs.insert(name.clone(), job);
        self.advance(name).await;
    }

    /// Looks at every job, while so many reports wait to be read.
    async fn look(&mut self, waiting: usize) {
        let settled = self.away.is_none_or(|away| away.elapsed() >= GRACE);
        self.judging = self.backlog.is_read(waiting) && settled;
        let names: Vec<Name> = self.jobs.keys().cloned().collect();
        for name in names {
            self.advance(name).await;
        }
        self.judging = false;
    }

    /// Does the next step of a job, unless there is none. What was written comes back as an event.
    async fn advance(&mut self, name: Name) {
        let Some(job) = self.jobs.get(&name).cloned() else { return };
        let mut status = job.get("status").cloned().unwrap_or(Value::Null);
        let due = match Wanted::read(name.0, &job, self.engine.tolerate()) {
            // Accepted by the API and impossible: the status says so, and nothing was done.
            Err(why) => {
                self.refuse(&mut status, &why);
                Vec::new()
            }
            Ok(wanted) => match self.gate.pass(&name, &job, &wanted) {
                None => return,
                Some(Err(failure)) => {
                    self.refuse(&mut status, &format!("{failure}; {}", failure.fix));
                    Vec::new()
                }
                Some(Ok(note)) => match self.step(&name, &job, &wanted, &note, &mut status).await {
                    Ok(due) => due,
                    Err(error) => return self.failed(&name, &error),
                },
            },
        };
        if Some(&status) == job.get("status") {
            return self.repeat(&name, &job).await;
        }
        match self.write(&name, &job, &status).await {
            Ok(written) => {
                self.stuck.remove(&name);
                for node in due {
                    self.order(&name, node, &written).await;
                }
                if self.engine.standing(&written) == Standing::Over {
                    tracing::info!(kind = name.0.as_str(), job = name.1, "a job has ended");
                    self.forget(&name);
                } else {
                    self.jobs.insert(name, written);
                }
            }
            // Somebody else wrote it; that comes as an event.
            Err(error) if error.is_conflict() || error.is_not_found() => {}
            Err(error) => self.failed(&name, &error),
        }
    }

    /// What follows for a job that can be carried out; the nodes that begin. `note` becomes its reason unless it is empty.
    async fn step(
        &mut self,
        name: &Name,
        job: &Value,
        wanted: &Wanted,
        note: &str,
        status: &mut Value,
    ) -> Result<Vec<String>, Status> {
        let begins = self.engine.standing(job) == Standing::New;
        if begins {
            let nodes = candidates::choose(&self.shared, self.engine, wanted, self.patience).await?;
            *status = self.begun(name.0, &nodes);
        }
        if !note.is_empty() {
            status["reason"] = json!(note);
        }
        let mut due = Vec::new();
        if !begins {
            if self.judging {
                self.time_out(name, wanted, status);
            }
            due = self.start(name, wanted, status);
        }
        self.conclude(name.0, wanted, status);
        Ok(due)
    }

    fn refuse(&self, status: &mut Value, why: &str) {
        match self.engine {
            Engine::Actions => plan::refused(status, why),
            Engine::Stages => stages::refused(status, why, &rfc3339(now())),
        }
    }

    fn begun(&self, kind: JobKind, nodes: &[(String, plan::Fitness)]) -> Value {
        match (self.engine, stages::task_of(kind)) {
            (Engine::Stages, Some(kind)) => stages::begun(kind, nodes, &rfc3339(now())),
            (Engine::Actions | Engine::Stages, _) => plan::begun(nodes),
        }
    }

    fn conclude(&self, kind: JobKind, wanted: &Wanted, status: &mut Value) {
        match (self.engine, stages::task_of(kind)) {
            (Engine::Stages, Some(kind)) => stages::conclude(kind, wanted, status, &rfc3339(now())),
            (Engine::Actions | Engine::Stages, _) => plan::conclude(wanted, status),
        }
    }

    /// Nodes that begin now, noted in the status; those that are away have a reason.
    fn start(&mut self, name: &Name, wanted: &Wanted, status: &mut Value) -> Vec<String> {
        let shared = self.shared.clone();
        let connected = |node: &str| NodeName::new(node).is_ok_and(|node| shared.is_connected(&node));
        let time = rfc3339(now());
        let due = match (self.engine, stages::task_of(name.0)) {
            (Engine::Stages, Some(kind)) => {
                let due = stages::due(kind, wanted, status, connected);
                due.iter().for_each(|node| stages::start(kind, status, node, &time));
                due
            }
            (Engine::Actions | Engine::Stages, _) => {
                let due = plan::due(wanted, status, connected);
                due.iter().for_each(|node| plan::start(status, node, &time));
                for node in plan::pending(status).into_iter().filter(|node| !connected(node)) {
                    plan::note(status, &node, AWAY);
                }
                due
            }
        };
        for node in &due {
            let since = self.since(name.0, status, node);
            self.clock.begin(name, node, since, Instant::now());
        }
        due
    }

    /// Gives up nodes that have not ended in time, and those that do not come while nobody else is at work.
    fn time_out(&mut self, name: &Name, wanted: &Wanted, status: &mut Value) {
        let seconds = wanted.limit.as_secs();
        let (running, idle, pending) = match (self.engine, stages::task_of(name.0)) {
            (Engine::Stages, Some(kind)) => (
                stages::running(kind, status),
                stages::in_progress(kind, status).is_empty(),
                stages::pending(kind, status),
            ),
            (Engine::Actions | Engine::Stages, _) => {
                (plan::running(wanted, status), plan::in_progress(status).is_empty(), plan::pending(status))
            }
        };
        for node in running {
            let since = self.since(name.0, status, &node);
            if self.waited(name, &node, since) > wanted.limit {
                match (self.engine, stages::task_of(name.0)) {
                    (Engine::Stages, Some(kind)) => {
                        let why = format!("the node did not report in {seconds} s");
                        stages::give_up(kind, status, &node, &why, &rfc3339(now()));
                    }
                    (Engine::Actions | Engine::Stages, _) => plan::give_up(name.0, status, &node, seconds),
                }
            }
        }
        for node in pending {
            let here = NodeName::new(node.clone()).is_ok_and(|node| self.shared.is_connected(&node));
            if here || !idle {
                self.clock.stop(name, &node);
            } else if self.waited(name, &node, None) > wanted.limit {
                match (self.engine, stages::task_of(name.0)) {
                    (Engine::Stages, Some(kind)) => {
                        let why = format!("the node was not connected for {seconds} s when its turn came");
                        stages::pass_over(kind, status, &node, &why, &rfc3339(now()));
                    }
                    (Engine::Actions | Engine::Stages, _) => plan::pass_over(status, &node, seconds),
                }
            }
        }
    }

    /// How long a node's present step lasts. What an earlier run of this cloud has seen of it stands in the status, with
    /// a node's own times; such as lie before the job or in the future count as now.
    fn waited(&mut self, name: &Name, node: &str, since: Option<Timestamp>) -> Duration {
        let created = self.jobs.get(name).and_then(|job| meta(job, "creationTimestamp").parse().ok());
        let before = || step_begin(created, since, now());
        self.clock.waited(name, node, since, before, Instant::now())
    }

    /// Since when a node's present step lasts, as its status tells.
    fn since(&self, kind: JobKind, status: &Value, node: &str) -> Option<Timestamp> {
        match (self.engine, stages::task_of(kind)) {
            (Engine::Stages, Some(kind)) => stages::since(kind, status, node),
            (Engine::Actions | Engine::Stages, _) => plan::since(status, node),
        }
    }

    /// Orders are not acknowledged. A kedge node that has said nothing since it was told, and has connected anew or was
    /// told by an earlier run of this cloud, is told again: it takes an order it has for what it is. A genuine edgecore
    /// would begin a second time, so it is left to its time limit.
    async fn repeat(&mut self, name: &Name, job: &Value) {
        if self.engine != Engine::Actions {
            return;
        }
        for node in plan::silent(job.get("status").unwrap_or(&Value::Null)) {
            let Ok(to) = NodeName::new(node.clone()) else { continue };
            let Some(since) = self.shared.connected_since(&to).filter(|_| self.shared.compares(&to)) else {
                continue;
            };
            if self.ordered.get(&(name.clone(), node.clone())) != Some(&since) {
                tracing::debug!(node, job = name.1, "an order is given again");
                self.order(name, node, job).await;
            }
        }
    }

    async fn order(&mut self, name: &Name, node: String, job: &Value) {
        let Ok(to) = NodeName::new(node.clone()) else { return };
        if let Some(since) = self.shared.connected_since(&to) {
            self.ordered.insert((name.clone(), node.clone()), since);
        }
        let genuine = !self.shared.compares(&to);
        let job = &settled(name.0, job);
        let order = match (self.engine, stages::task_of(name.0)) {
            (Engine::Stages, Some(kind)) => {
                let stage = job.get("status").map(stages::stage).unwrap_or_default().to_owned();
                let item = stages::item(kind, job, meta(job, "uid"), &stage);
                TaskOrder::Stage { kind, task: name.1.clone(), node, state: stage, item }
            }
            (Engine::Actions | Engine::Stages, _) => {
                let mut spec = job.get("spec").cloned().unwrap_or_default();
                complete(name.0, genuine, &mut spec);
                let target = JobTarget { kind: name.0, job: name.1.clone(), node };
                TaskOrder::Job { target, action: plan::FIRST.to_owned(), spec }
            }
        };
        tracing::info!(
            node = to.as_str(),
            kind = name.0.as_str(),
            job = name.1,
            "a node is given its part of a job"
        );
        told(self.shared.hub.tell(to, Down::Task(order)).await);
    }

    /// Writes a status, once; a conflict when somebody has written the job since it was read.
    async fn write(&self, (kind, name): &Name, job: &Value, status: &Value) -> Result<Value, Status> {
        let Some(resource) = self.engine.resource(*kind) else {
            return Err(Status::failure(404, "NotFound", "v1alpha1 has no such jobs"));
        };
        let patch = json!({"metadata": {"resourceVersion": meta(job, "resourceVersion")}, "status": status});
        let target = (name.as_str(), Some("status"));
        self.shared.kube.patch(resource, None, target, Patch::Merge, patch.to_string().into()).await
    }

    /// Takes a node's word. Nothing acknowledges it and the node says it once, so it waits until the API takes it.
    async fn said(&mut self, Said { node, report }: Said) {
        if !self.budgets.spend(&node, Instant::now()) {
            // Counted with what else a node is refused; it is dropped where refusals are only logged, too.
            let why = "it reports more tasks than a node can have";
            return drop(self.shared.hub.refusals().refuse(node.as_str(), "task report", why));
        }
        let name = match &report {
            TaskReport::Action { target, .. } => (target.kind, target.job.clone()),
            TaskReport::Stage(report) => match report.kind {
                StageKind::Upgrade => (JobKind::NodeUpgrade, report.task.clone()),
                StageKind::PrePull => (JobKind::ImagePrePull, report.task.clone()),
            },
        };
        let mut contended: Option<Instant> = None;
        loop {
            match self.record(&name, &node, &report).await {
                Ok(Some(written)) => {
                    // A finished action gives the next one its full time.
                    let status = written.get("status").unwrap_or(&Value::Null);
                    let since = self.since(name.0, status, node.as_str());
                    self.clock.begin(&name, node.as_str(), since, Instant::now());
                    return self.take(name, written).await;
                }
                Ok(None) => {
                    tracing::debug!(%node, job = name.1, "a task report changes nothing");
                    return;
                }
                Err(error)
                    if error.is_conflict()
                        && contended.get_or_insert_with(Instant::now).elapsed() < CONTENDED =>
                {
                    let jitter = u32::from(random_bytes::<1>().first().copied().unwrap_or(1) % 16) + 1;
                    tokio::time::sleep(PAUSE * jitter).await;
                }
                Err(error) if error.is_not_found() => {
                    tracing::debug!(%node, job = name.1, "a task report is about no job");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%node, job = name.1, code = error.code, reason = error.reason,
                        "a task report could not be recorded");
                    return;
                }
            }
        }
    }

    /// Writes what a report means; `None` when it means nothing for the job.
    async fn record(
        &self,
        name: &Name,
        node: &NodeName,
        report: &TaskReport,
    ) -> Result<Option<Value>, Status> {
        let Some(resource) = self.engine.resource(name.0) else { return Ok(None) };
        let kube = &self.shared.kube;
        let job = kube.outlast(self.patience, || kube.get(resource, None, &name.1)).await?;
        let Ok(wanted) = Wanted::read(name.0, &job, self.engine.tolerate()) else { return Ok(None) };
        let mut status = job.get("status").cloned().unwrap_or(Value::Null);
        let time = rfc3339(now());
        match (report, self.engine) {
            (TaskReport::Action { target, outcome }, Engine::Actions) => {
                plan::record((target.kind, wanted.confirm), &mut status, node.as_str(), outcome, &time);
            }
            (TaskReport::Stage(report), Engine::Actions) => {
                plan::record_stage(&mut status, node.as_str(), &report.facts);
            }
            (TaskReport::Stage(report), Engine::Stages) => {
                stages::record(report.kind, &mut status, node.as_str(), &report.facts, &time);
            }
            // A node that was given its order by the other engine.
            (TaskReport::Action { .. }, Engine::Stages) => {}
        }
        if Some(&status) == job.get("status") {
            return Ok(None);
        }
        self.conclude(name.0, &wanted, &mut status);
        kube.outlast(self.patience, || self.write(name, &job, &status)).await.map(Some)
    }

    fn failed(&mut self, name: &Name, error: &Status) {
        if matches!(error.code, 0 | 429 | 503) {
            self.away = Some(Instant::now());
        }
        let ((kind, job), code, reason) = (name, error.code, error.reason.as_str());
        let kind = kind.as_str();
        // What will not pass by itself is told once.
        if !is_temporary(error) && self.stuck.insert(name.clone()) {
            tracing::warn!(kind, job, code, reason, "a job cannot go on: the API refuses a call");
        } else {
            tracing::debug!(kind, job, code, reason, "a job is tried again");
        }
    }
}

/// The job as its nodes hear of it: a registry's part is done by now, and its token is none of theirs.
fn settled(kind: JobKind, job: &Value) -> Value {
    let mut settled = job.clone();
    if let (JobKind::NodeUpgrade, Some(spec)) = (kind, settled.get_mut("spec")) {
        settle_digest(spec, job.get("status").and_then(registry::noted));
    }
    settled
}

/// KubeEdge's edge pulls `IMAGE:VERSION` whatever IMAGE is, and takes versions with a `v` only.
fn complete(kind: JobKind, genuine: bool, spec: &mut Value) {
    if kind != JobKind::NodeUpgrade {
        return;
    }
    let Ok(upgrade) = crate::wire::upgrade::UpgradeSpec::parse(spec) else { return };
    spec["version"] = json!(upgrade.version.to_string());
    match upgrade.image {
        Some(image) => spec["image"] = json!(image.repository),
        None if genuine => spec["image"] = json!(INSTALLATION_IMAGE),
        None => {}
    }
}

/// How long ago a step began.
fn step_begin(created: Option<Timestamp>, since: Option<Timestamp>, at: Timestamp) -> Duration {
    let since = since.filter(|since| created.is_none_or(|created| created <= *since) && *since <= at);
    since.and_then(|since| Duration::try_from(at.duration_since(since)).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_goes_on_where_an_earlier_run_has_seen_it_begin() {
        let time = |second: i64| Timestamp::from_second(1_700_000_000 + second).ok();
        let ago = |created, since| step_begin(time(created), since, time(100).unwrap()).as_secs();
        assert_eq!(ago(0, time(30)), 70);
        assert_eq!(
            (ago(0, None), ago(50, time(30)), ago(0, time(101))),
            (0, 0, 0),
            "unknown, or a wrong clock"
        );
    }

    #[test]
    fn genuine_nodes_get_an_image_and_all_a_version_with_its_letter() {
        let mut spec = json!({"version": "1.23.1", "nodeNames": ["n"]});
        complete(JobKind::NodeUpgrade, true, &mut spec);
        assert_eq!((&spec["version"], &spec["image"]), (&json!("v1.23.1"), &json!(INSTALLATION_IMAGE)));
        let mut spec = json!({"version": "v1.23.1", "image": "r.example/own:tag"});
        complete(JobKind::NodeUpgrade, false, &mut spec);
        assert_eq!(spec["image"], "r.example/own");
        let mut spec = json!({"version": "0.2.0"});
        complete(JobKind::NodeUpgrade, false, &mut spec);
        assert_eq!(spec.get("image"), None);
    }
}
