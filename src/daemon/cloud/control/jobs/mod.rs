//! Jobs of operations.kubeedge.io: pre-pulls and configuration updates are handed to their nodes a few at a time, what
//! nodes report goes into the job's status (protocol.md §4.8). Upgrades are recorded, not driven. `plan` decides.
//!
//! watch --> plan --> hub        hub --> letters --> plan --> API

mod plan;

use super::super::kubernetes::{Event, Patch, Resource, Scope, follow, meta};
use super::pods::watch_ended;
use super::shared::{Shared, told};
use crate::base::{BoxFuture, Crew, Failure, Mail, Module, Ready, Stop};
use crate::model::{NodeName, Status};
use crate::wire::Down;
use crate::wire::task::{CHECK, JobKind, JobTarget, StageKind, TaskOrder, TaskReport};
use plan::Standing;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const EVENTS: usize = 64;
/// How often jobs are looked at: nodes come back, limits pass.
const LOOK: Duration = Duration::from_secs(1);
/// How long a call is repeated while the API cannot be reached.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a report is written again after somebody else wrote the status meanwhile.
const TRIES: usize = 8;
const EDGE_NODES: &str = "labelSelector=node-role.kubernetes.io%2Fedge";

/// A node's word on a task.
#[derive(Debug)]
pub(super) struct Said {
    pub node: NodeName,
    pub report: TaskReport,
}

pub(super) struct Jobs {
    pub shared: Arc<Shared>,
    pub mail: Mail<Said>,
}

type Name = (JobKind, String);

/// The jobs of one run.
struct Desk {
    shared: Arc<Shared>,
    jobs: BTreeMap<Name, Value>,
    /// When a node of a job began, as far as this run knows.
    began: HashMap<(Name, String), Instant>,
}

fn resource(kind: JobKind) -> Resource {
    match kind {
        JobKind::NodeUpgrade => Resource::NODE_UPGRADE_JOB,
        JobKind::ImagePrePull => Resource::IMAGE_PRE_PULL_JOB,
        JobKind::ConfigUpdate => Resource::CONFIG_UPDATE_JOB,
    }
}

fn watch(crew: &mut Crew, shared: &Arc<Shared>, kind: JobKind) -> mpsc::Receiver<Event> {
    let (sender, events) = mpsc::channel(EVENTS);
    let (kube, scope) = (shared.kube.clone(), Scope { resource: resource(kind), selector: "" });
    crew.spawn(async move { drop(follow(kube, scope, sender).await) });
    events
}

impl Module for Jobs {
    fn name(&self) -> &'static str {
        "jobs"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut crew = Crew::new();
            let mut pulls = watch(&mut crew, &self.shared, JobKind::ImagePrePull);
            let mut updates = watch(&mut crew, &self.shared, JobKind::ConfigUpdate);
            let mut desk = Desk { shared: self.shared.clone(), jobs: BTreeMap::new(), began: HashMap::new() };
            let mut look = tokio::time::interval(LOOK);
            // A cluster without the definitions has no jobs; nobody waits for them.
            ready.set();
            loop {
                let work = tokio::select! {
                    biased;
                    () = stop.raised() => return Ok(()),
                    said = self.mail.recv() => {
                        let Some(said) = said else { return Err(watch_ended("task reports")) };
                        stop.or(desk.said(said)).await
                    }
                    event = pulls.recv() => {
                        let event = event.ok_or_else(|| watch_ended("ImagePrePullJobs"))?;
                        stop.or(desk.event(JobKind::ImagePrePull, event)).await
                    }
                    event = updates.recv() => {
                        let event = event.ok_or_else(|| watch_ended("ConfigUpdateJobs"))?;
                        stop.or(desk.event(JobKind::ConfigUpdate, event)).await
                    }
                    _ = look.tick(), if !desk.jobs.is_empty() => stop.or(desk.look()).await,
                };
                if work.is_none() {
                    return Ok(());
                }
            }
        })
    }
}

impl Desk {
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
        self.began.retain(|(of, _), _| of != name);
    }

    /// Takes a job as it is now and does what follows; one that is over is let go.
    async fn take(&mut self, name: Name, job: Value) {
        if plan::standing(&job) == Standing::Over || job.pointer("/metadata/deletionTimestamp").is_some() {
            return self.forget(&name);
        }
        self.jobs.insert(name.clone(), job);
        self.advance(name).await;
    }

    async fn look(&mut self) {
        let names: Vec<Name> = self.jobs.keys().cloned().collect();
        for name in names {
            self.advance(name).await;
        }
    }

    /// Does the next step of a job, unless there is none. What was written comes back as an event.
    async fn advance(&mut self, name: Name) {
        let Some(job) = self.jobs.get(&name).cloned() else { return };
        let mut status = job.get("status").cloned().unwrap_or(Value::Null);
        let mut due = Vec::new();
        if plan::standing(&job) == Standing::New {
            match self.chosen(&job).await {
                Ok(nodes) => {
                    let named = |(name, refusal): &(String, Option<&'static str>)| (name.clone(), *refusal);
                    status = plan::begun(&nodes.iter().map(named).collect::<Vec<_>>());
                }
                Err(error) => return failed(&name, &error),
            }
        } else {
            self.time_out(&name, &job, &mut status);
            let connected =
                |node: &str| NodeName::new(node).is_ok_and(|node| self.shared.is_connected(&node));
            due = plan::due(&job, &status, connected);
            for node in &due {
                plan::start(&mut status, node);
            }
        }
        plan::conclude(&job, &mut status);
        if Some(&status) == job.get("status") {
            return;
        }
        match self.write(&name, &job, &status).await {
            Ok(written) => {
                let spec = job.get("spec").cloned().unwrap_or_default();
                for node in due {
                    self.order(&name, node, spec.clone()).await;
                }
                if plan::standing(&written) == Standing::Over {
                    self.forget(&name);
                } else {
                    self.jobs.insert(name, written);
                }
            }
            // Somebody else wrote it; that comes as an event.
            Err(error) if error.is_conflict() || error.is_not_found() => {}
            Err(error) => failed(&name, &error),
        }
    }

    /// Gives up nodes that have not ended in time.
    fn time_out(&mut self, name: &Name, job: &Value, status: &mut Value) {
        let limit = Duration::from_secs(plan::limit_seconds(job));
        for node in plan::in_progress(status) {
            let began = *self.began.entry((name.clone(), node.clone())).or_insert_with(Instant::now);
            if began.elapsed() > limit {
                plan::give_up(status, &node, "the node did not report in time");
            }
        }
    }

    async fn order(&mut self, name: &Name, node: String, spec: Value) {
        let Ok(to) = NodeName::new(node.clone()) else { return };
        self.began.insert((name.clone(), node.clone()), Instant::now());
        let target = JobTarget { kind: name.0, job: name.1.clone(), node };
        let order = TaskOrder::Job { target, action: CHECK.to_owned(), spec };
        told(self.shared.hub.tell(to, Down::Task(order)).await);
    }

    /// The nodes of a new job, and why some of them cannot take part.
    async fn chosen(&self, job: &Value) -> Result<Vec<(String, Option<&'static str>)>, Status> {
        let kube = &self.shared.kube;
        let nodes = kube.insist(PATIENCE, || async {
            let mut nodes = BTreeMap::new();
            kube.list(Resource::NODE, None, EDGE_NODES, |node| {
                let labels = node.pointer("/metadata/labels").cloned().unwrap_or_default();
                nodes.insert(meta(&node, "name").to_owned(), labels);
            })
            .await?;
            Ok(nodes)
        });
        let nodes = nodes.await?;
        let mut chosen: BTreeMap<String, Option<&'static str>> = BTreeMap::new();
        for (name, labels) in &nodes {
            if plan::selects(job, labels) {
                chosen.insert(name.clone(), None);
            }
        }
        for name in plan::named_nodes(job) {
            let refusal = (!nodes.contains_key(&name)).then_some("there is no edge node of this name");
            chosen.insert(name, refusal);
        }
        Ok(chosen.into_iter().collect())
    }

    async fn write(&self, (kind, name): &Name, job: &Value, status: &Value) -> Result<Value, Status> {
        let patch = json!({"metadata": {"resourceVersion": meta(job, "resourceVersion")}, "status": status});
        let patch = patch.to_string();
        let kube = &self.shared.kube;
        let target = (name.as_str(), Some("status"));
        kube.insist(PATIENCE, || {
            kube.patch(resource(*kind), None, target, Patch::Merge, patch.clone().into())
        })
        .await
    }

    async fn said(&mut self, Said { node, report }: Said) {
        let name = match &report {
            TaskReport::Action { target, .. } => (target.kind, target.job.clone()),
            TaskReport::Stage(report) => match report.kind {
                StageKind::Upgrade => (JobKind::NodeUpgrade, report.task.clone()),
                StageKind::PrePull => (JobKind::ImagePrePull, report.task.clone()),
            },
        };
        for _ in 0..TRIES {
            match self.record(&name, &node, &report).await {
                Ok(written) => {
                    if name.0 != JobKind::NodeUpgrade {
                        self.take(name, written).await;
                    }
                    return;
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => {
                    tracing::warn!(%node, job = name.1, code = error.code, reason = error.reason,
                        "a task report could not be recorded");
                    return;
                }
            }
        }
        tracing::warn!(%node, job = name.1, "a task report could not be recorded: others write the job too often");
    }

    async fn record(&self, name: &Name, node: &NodeName, report: &TaskReport) -> Result<Value, Status> {
        let kube = &self.shared.kube;
        let job = kube.insist(PATIENCE, || kube.get(resource(name.0), None, &name.1)).await?;
        let mut status = job.get("status").cloned().unwrap_or(Value::Null);
        match report {
            TaskReport::Action { target, outcome } => {
                plan::record(target.kind, &mut status, node.as_str(), outcome);
            }
            TaskReport::Stage(report) => plan::record_stage(&mut status, node.as_str(), &report.facts),
        }
        plan::conclude(&job, &mut status);
        self.write(name, &job, &status).await
    }
}

fn failed((kind, job): &Name, error: &Status) {
    tracing::debug!(
        kind = kind.as_str(),
        job,
        code = error.code,
        reason = error.reason,
        "a job is tried again"
    );
}
