//! One task per pod: takes the pod from the store, asks `state` what to do, does it, reports. Bound to the pod's uid; a
//! pod of the same name with another uid is another worker's. It forgets everything when it ends: the runtime and the
//! store hold all that is needed to go on.

use super::Config;
use super::bell::{Bell, Note, Registry};
use super::field::Place;
use super::paths::Paths;
use super::probe::Verdict;
use super::seen::{LONGEST_DELAY, Memory, Seen};
use super::sources::Sources;
use super::starting::Pulled;
use super::state::{self, Action};
use super::status;
use super::summary::{Summaries, Summary};
use crate::base::{Crew, Failure, now};
use crate::cri::Runtime;
use crate::daemon::edge::uplink::{ReportKey, Uplink};
use crate::model::{Kind, ObjectKey};
use crate::store::Store;
use crate::wire::Up;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// State rows of this room: the last status of each pod by `namespace/name`.
pub(super) const ROOM: &str = "pod";
pub(super) const SOON: Duration = Duration::from_secs(3);
const REPORT_LIMIT: Duration = Duration::from_secs(5);
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// More rounds than any pod needs; a plan that never settles must not spin.
const ROUNDS: usize = 64;

/// What all workers share.
pub(super) struct Shared {
    pub config: Config,
    pub paths: Paths,
    pub store: Store,
    pub uplink: Uplink,
    pub sources: Arc<dyn Sources>,
    pub registry: Registry,
    pub summaries: Summaries,
    /// Limits costly runtime calls: more at once only make each slower.
    pub heavy: Semaphore,
    pub pulls: Semaphore,
    pub host_dns: String,
    pub scheme: String,
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) bell: Arc<Bell>,
    pub(super) key: ObjectKey,
    pub(super) uid: String,
    pub(super) seen: Seen,
    pub(super) memory: Memory,
    started: Timestamp,
    previous: Option<Value>,
    /// The last status from before a restart, if it was the pod's end: the cloud may not have heard of it yet.
    last: Option<PodStatus>,
    persisted: bool,
    pub(super) grace: Duration,
    pub(super) volumes_ready: bool,
    pub(super) tokens_at: Option<Timestamp>,
    /// Probe tasks by container name, with the id that they probe.
    pub(super) probes: BTreeMap<String, (String, Crew)>,
    pub(super) verdicts: (mpsc::Sender<Verdict>, mpsc::Receiver<Verdict>),
    pub(super) pulled: (mpsc::Sender<Pulled>, mpsc::Receiver<Pulled>),
    /// Containers whose image was pulled for the start that is due.
    pub(super) fresh_images: Vec<String>,
    pub(super) crew: Crew,
    /// What was last said of a malformed pod, so that it is said once.
    complaint: Option<String>,
}

/// Why the worker does not see its pod.
pub(super) enum Unreadable {
    Store(Failure),
    Malformed(String),
}

impl Worker {
    /// A worker for the pod with this key and uid; `look` when the runtime may have something of it.
    pub fn new(shared: Arc<Shared>, key: ObjectKey, uid: String, bell: Arc<Bell>, look: bool) -> Worker {
        if look {
            bell.ring(|note| note.look = true);
        }
        Worker {
            shared,
            bell,
            key,
            uid,
            seen: Seen::default(),
            memory: Memory::default(),
            started: now(),
            previous: None,
            last: None,
            persisted: true,
            grace: DEFAULT_GRACE,
            volumes_ready: false,
            tokens_at: None,
            probes: BTreeMap::new(),
            verdicts: mpsc::channel(16),
            pulled: mpsc::channel(8),
            fresh_images: Vec::new(),
            crew: Crew::new(),
            complaint: None,
        }
    }

    pub(super) fn namespace(&self) -> &str {
        self.key.namespace.as_deref().unwrap_or_default()
    }

    fn state_key(&self) -> String {
        format!("{}/{}", self.namespace(), self.key.name)
    }

    pub(super) fn runtime(&self) -> &Runtime {
        &self.shared.config.runtime
    }

    /// Runs until the pod is gone for good.
    pub async fn run(mut self) {
        self.recall().await;
        while let Turn::Again(at) = self.round().await {
            self.wait(at).await;
        }
        self.shared.registry.forget(&self.bell);
        self.shared.summaries.remove(self.namespace(), &self.key.name, &self.uid);
    }

    /// Looks at what the bell has noted. A note that cannot be acted on is kept for the next time.
    async fn round(&mut self) -> Turn {
        let note = self.bell.take();
        match self.load().await {
            Ok(pod) => self.turn(pod, note).await,
            Err(Unreadable::Store(failure)) => {
                tracing::warn!(pod = %self.key, error = %failure, "the pod cannot be read from the store");
                self.bell.put_back(note);
                Turn::Again(now().saturating_add(SOON).ok())
            }
            // What runs goes on; the next version of the object rings.
            Err(Unreadable::Malformed(why)) => {
                if self.complaint.as_ref() != Some(&why) {
                    tracing::warn!(pod = %self.key, error = why, "the pod is malformed and is left as it is");
                    self.complaint = Some(why);
                }
                self.bell.put_back(note);
                Turn::Again(None)
            }
        }
    }

    async fn turn(&mut self, pod: Option<Arc<Pod>>, note: Note) -> Turn {
        if let Err(error) = self.absorb(pod.as_deref(), &note).await {
            tracing::debug!(pod = %self.key, %error, "the runtime cannot be asked");
            self.bell.put_back(note);
            return Turn::Again(now().saturating_add(Duration::from_secs(1)).ok());
        }
        match pod {
            None => self.vanish().await,
            Some(pod) if pod.metadata.deletion_timestamp.is_some() => self.bury(&pod).await,
            Some(pod) => Turn::Again(self.step(pod).await),
        }
    }

    /// The last status that was reported, from before a restart: start time and transition times live on.
    async fn recall(&mut self) {
        let Ok(Some(row)) = self.shared.store.state(ROOM, &self.state_key()).await else { return };
        if row["uid"] != self.uid.as_str() {
            return;
        }
        let status = &row["status"];
        if let Some(started) = status["startTime"].as_str().and_then(|text| text.parse().ok()) {
            self.started = started;
        }
        // Reported again on purpose: nobody knows whether the cloud has heard it.
        self.previous =
            Some(json!({"conditions": status["conditions"].clone(), "message": status["message"].clone()}));
        if let Ok(status) = serde_json::from_value::<PodStatus>(status.clone())
            && state::told_by(&status).is_some()
        {
            self.last = Some(status);
        }
    }

    /// The pod, unless it is gone or another one has its name. Of a malformed one that is to be deleted there is as much
    /// as its end needs.
    pub(super) async fn load(&self) -> Result<Option<Arc<Pod>>, Unreadable> {
        let object = self.shared.store.object(&self.key).await.map_err(Unreadable::Store)?;
        let Some(object) = object.filter(|object| object["metadata"]["uid"] == self.uid.as_str()) else {
            return Ok(None);
        };
        let doomed = !object["metadata"]["deletionTimestamp"].is_null();
        let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
        match serde_json::from_value::<Pod>(object) {
            Ok(mut pod) => {
                if let Some(last) = self.last.as_ref().filter(|_| state::told(&pod).is_none()) {
                    pod.status = Some(last.clone());
                }
                Ok(Some(Arc::new(pod)))
            }
            Err(_) if doomed => Ok(Some(Arc::new(self.remains(grace)))),
            Err(error) => Err(Unreadable::Malformed(error.to_string())),
        }
    }

    /// A pod of which nothing is known but that it is to be deleted.
    fn remains(&self, grace: Option<i64>) -> Pod {
        let metadata = ObjectMeta {
            name: Some(self.key.name.clone()),
            namespace: self.key.namespace.clone(),
            uid: Some(self.uid.clone()),
            deletion_timestamp: Some(Time(now())),
            deletion_grace_period_seconds: grace,
            ..ObjectMeta::default()
        };
        Pod { metadata, ..Pod::default() }
    }

    /// Waits for a reason to think again. Every arm is cancel-safe.
    async fn wait(&mut self, again_at: Option<Timestamp>) {
        // The clock may be set while it waits, so it looks again before a long wait is over.
        let pause = again_at
            .map(|at| Duration::try_from(at.duration_since(now())).unwrap_or_default().min(LONGEST_DELAY));
        let alarm = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.bell.rung() => {}
            () = alarm => {}
            Some(verdict) = self.verdicts.1.recv() => self.judge(verdict),
            Some(pulled) = self.pulled.1.recv() => self.finish_pull(pulled),
        }
    }

    /// Acts until nothing is left to do now; answers when to think again.
    async fn step(&mut self, pod: Arc<Pod>) -> Option<Timestamp> {
        if let Some(seconds) = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds) {
            self.grace = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        }
        let mut again_at = None;
        for _ in 0..ROUNDS {
            let plan = state::plan(&pod, &self.seen, &self.memory, Some(self.started), now());
            self.report(&pod).await;
            again_at = plan.again_at;
            if plan.actions.is_empty() {
                break;
            }
            for action in plan.actions {
                self.act(&pod, action).await;
            }
        }
        self.persist().await;
        [again_at, self.tokens_at].into_iter().flatten().min()
    }

    async fn act(&mut self, pod: &Arc<Pod>, action: Action) {
        tracing::debug!(pod = %self.key, ?action, "the pod is acted on");
        match action {
            Action::RunSandbox { attempt } => self.run_sandbox(pod, attempt).await,
            Action::StopSandbox => self.stop_sandbox().await,
            Action::Start { name, attempt } => {
                if let Some(container) = find(pod, &name).cloned() {
                    self.start(pod, &container, attempt).await;
                }
            }
            Action::Stop { name, id, why } => self.stop(pod, &name, &id, why).await,
        }
    }

    pub(super) fn place(&self) -> Place {
        let config = &self.shared.config;
        let ips = self.seen.sandbox.as_ref().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
        let pod_ips = if ips.is_empty() { vec![config.host_ip.clone()] } else { ips };
        Place { node: config.node.clone(), host_ip: config.host_ip.clone(), pod_ips }
    }

    /// Reports the status if it differs from the last one that was sent.
    pub(super) async fn report(&mut self, pod: &Pod) {
        let status = status::compute(&status::Input {
            pod,
            seen: &self.seen,
            memory: &self.memory,
            host_ip: &self.shared.config.host_ip,
            runtime: &self.shared.scheme,
            started: self.started,
            previous: self.previous.as_ref(),
            now: now(),
        });
        if self.previous.as_ref() == Some(&status) {
            return;
        }
        let (namespace, name) = (self.namespace().to_owned(), self.key.name.clone());
        self.shared.summaries.put(Summary::read(&namespace, &name, &self.uid, &status));
        let key = ReportKey(format!("podstatus/{namespace}/{name}"));
        let up = Up::PodPatch { namespace, name, patch: status::patch(&self.uid, &status) };
        let sent = tokio::time::timeout(REPORT_LIMIT, self.shared.uplink.report(key, up)).await;
        if !matches!(sent, Ok(Ok(_))) {
            tracing::warn!(pod = %self.key, "the status cannot be handed to the uplink");
        }
        self.previous = Some(status);
        self.persisted = false;
    }

    /// Keeps the last status for the time after a restart and for commands without the daemon.
    pub(super) async fn persist(&mut self) {
        if self.persisted {
            return;
        }
        let row = json!({"uid": self.uid, "status": self.previous});
        if let Err(failure) = self.shared.store.put_state(ROOM, &self.state_key(), &row).await {
            tracing::warn!(pod = %self.key, error = %failure, "the pod's status cannot be stored");
        }
        self.persisted = true;
    }

    /// Removes what is stored beside the object.
    pub(super) async fn forget(&self) {
        let row = self.shared.store.state(ROOM, &self.state_key()).await;
        if row.is_ok_and(|row| row.is_some_and(|row| row["uid"] == self.uid.as_str()))
            && let Err(failure) = self.shared.store.delete_state(ROOM, &self.state_key()).await
        {
            tracing::warn!(pod = %self.key, error = %failure, "the pod's status cannot be removed");
        }
    }
}

/// What a turn came to.
pub(super) enum Turn {
    Again(Option<Timestamp>),
    Gone,
}

/// A container of the specification by name, init containers included.
pub(super) fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .find(|container| container.name == name)
}

/// Whether a stored key is of interest to pods' volumes and environments.
pub(super) fn is_source(kind: Kind) -> bool {
    matches!(kind, Kind::ConfigMap | Kind::Secret)
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
