//! One task per pod: takes the pod from the store, asks `state` what to do, does it, reports. Bound to the pod's uid; a
//! pod of the same name with another uid is another worker's. It forgets everything when it ends: the runtime and the
//! store hold all that is needed to go on.

use super::Config;
use super::bell::{Bell, Note, Registry};
use super::container::{self, Parts};
use super::env::{self, ConfigError};
use super::field::Place;
use super::image::{self, Need};
use super::look::{self, Leftovers};
use super::paths::Paths;
use super::probe::{self, Finding, Probes, Target, Verdict};
use super::sandbox::{self, Facts};
use super::seen::{Instance, Life, Memory, Seen, Waiting, next_delay};
use super::sources::Sources;
use super::state::{self, Action, Why};
use super::status;
use super::summary::{Summaries, Summary};
use super::volume;
use crate::base::{Crew, Failure, now};
use crate::cri::messages::{Image, Mount};
use crate::cri::{CallError, Runtime};
use crate::daemon::edge::uplink::{Link, ReportKey, Uplink};
use crate::model::{Kind, ObjectKey};
use crate::store::Store;
use crate::wire::Up;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// State rows of this room: the last status of each pod by `namespace/name`.
pub(super) const ROOM: &str = "pod";
const SOON: Duration = Duration::from_secs(3);
const REPORT_LIMIT: Duration = Duration::from_secs(5);
const HOOK_LIMIT: Duration = Duration::from_secs(60);
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

/// A finished pull: which container it was for, and what went wrong.
pub(super) struct Pulled {
    container: String,
    outcome: Result<(), String>,
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
    persisted: bool,
    pub(super) grace: Duration,
    volumes_ready: bool,
    tokens_at: Option<Timestamp>,
    /// Probe tasks by container name, with the id that they probe.
    probes: BTreeMap<String, (String, Crew)>,
    verdicts: (mpsc::Sender<Verdict>, mpsc::Receiver<Verdict>),
    pulled: (mpsc::Sender<Pulled>, mpsc::Receiver<Pulled>),
    /// Containers whose image was pulled for the start that is due.
    fresh_images: Vec<String>,
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
        loop {
            let note = self.bell.take();
            let again_at = match self.load().await {
                Err(Unreadable::Store(failure)) => {
                    tracing::warn!(pod = %self.key, error = %failure, "the pod cannot be read from the store");
                    now().saturating_add(SOON).ok()
                }
                // What runs goes on; the next version of the object rings.
                Err(Unreadable::Malformed(why)) => {
                    if self.complaint.as_ref() != Some(&why) {
                        tracing::warn!(pod = %self.key, error = why, "the pod is malformed and is left as it is");
                        self.complaint = Some(why);
                    }
                    None
                }
                Ok(pod) => match self.turn(pod, note).await {
                    Turn::Again(at) => at,
                    Turn::Gone => break,
                },
            };
            self.wait(again_at).await;
        }
        self.shared.registry.forget(&self.bell);
        self.shared.summaries.remove(self.namespace(), &self.key.name, &self.uid);
    }

    async fn turn(&mut self, pod: Option<Arc<Pod>>, note: Note) -> Turn {
        if let Err(error) = self.absorb(pod.as_deref(), &note).await {
            tracing::debug!(pod = %self.key, %error, "the runtime cannot be asked");
            self.bell.ring(|again| {
                again.look |= note.look;
                again.ended.extend(note.ended);
            });
            // The ring must not wake this worker before the wait is over.
            self.bell.rung().await;
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
            Ok(pod) => Ok(Some(Arc::new(pod))),
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
        let pause = again_at.map(|at| Duration::try_from(at.duration_since(now())).unwrap_or_default());
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

    fn judge(&mut self, verdict: Verdict) {
        let current = self.seen.containers.get(&verdict.container).is_some_and(|i| i.id == verdict.id);
        if !current {
            return;
        }
        let known = self.memory.containers.entry(verdict.container).or_default();
        match verdict.finding {
            Finding::Started => known.started = true,
            Finding::Ready(ready) => known.ready = ready,
            Finding::Unhealthy(why) => known.unhealthy = Some(why),
        }
    }

    fn finish_pull(&mut self, pulled: Pulled) {
        let known = self.memory.containers.entry(pulled.container.clone()).or_default();
        known.pulling = false;
        match pulled.outcome {
            Ok(()) => {
                known.waiting = None;
                known.retry.succeeded();
                self.fresh_images.push(pulled.container);
            }
            Err(message) => {
                known.retry.failed(now());
                known.waiting = Some(Waiting { reason: "ErrImagePull", message });
            }
        }
    }

    /// Brings what is known up to date with the note.
    async fn absorb(&mut self, pod: Option<&Pod>, note: &Note) -> Result<(), CallError> {
        if note.look {
            let (seen, leftovers) = look::whole(self.runtime(), &self.uid).await?;
            self.adopt(seen, leftovers, pod).await;
        }
        for id in &note.ended {
            self.refresh(id, pod).await?;
        }
        if let Some(pod) = pod {
            let concerned = note.sources.iter().any(|(kind, name)| volume::refers_to(pod, *kind, name));
            if !note.sources.is_empty() {
                // Whatever waited for a source is tried at once.
                self.memory.retry.succeeded();
                for known in self.memory.containers.values_mut().filter(|known| known.waiting.is_some()) {
                    known.retry.at = None;
                }
            }
            let due = self.tokens_at.is_some_and(|at| at <= now());
            if (concerned || due) && self.volumes_ready {
                self.write_volumes(pod).await;
            }
        }
        Ok(())
    }

    async fn adopt(&mut self, seen: Seen, leftovers: Leftovers, pod: Option<&Pod>) {
        self.seen = seen;
        let sandboxes = self.seen.sandbox.iter().map(|sandbox| sandbox.id.as_str());
        for id in sandboxes.chain(self.seen.containers.values().map(|instance| instance.id.as_str())) {
            self.shared.registry.insert(id, &self.bell);
        }
        if let Some(pod) = pod {
            self.volumes_ready = self.seen.sandbox.is_some();
            if self.seen.sandbox.as_ref().is_some_and(|sandbox| sandbox.ready) && self.tokens_at.is_none() {
                // What changed while nobody watched is written now, and tokens are followed from now on.
                self.tokens_at = Some(now());
            }
            let names: Vec<String> = self.seen.containers.keys().cloned().collect();
            for name in names {
                self.read_last_words(pod, &name).await;
                if let Some(container) = find(pod, &name).cloned() {
                    self.recognise(&container).await;
                    self.attend(pod, &container);
                }
            }
        }
        let runtime = self.runtime().clone();
        if leftovers != Leftovers::default() {
            self.crew.spawn(async move {
                for id in leftovers.containers {
                    drop(runtime.remove_container(&id).await);
                }
                for id in leftovers.sandboxes {
                    drop(runtime.stop_pod_sandbox(&id).await);
                    drop(runtime.remove_pod_sandbox(&id).await);
                }
            });
        }
    }

    /// A container that a kubelet made counts as unchanged while it runs the image that the specification names:
    /// kubelets before Kubernetes 1.31 note another hash.
    async fn recognise(&mut self, container: &Container) {
        let wanted = state::hash(container);
        let runtime = self.runtime().clone();
        let Some(instance) = self.seen.containers.get_mut(&container.name) else { return };
        if instance.ours || !instance.is_running() || instance.hash.is_empty() || instance.hash == wanted {
            return;
        }
        let named = runtime.image_status(container.image.as_deref().unwrap_or_default()).await;
        let of = |image: &Image| {
            image.id == instance.image_ref || image.repo_digests.contains(&instance.image_ref)
        };
        instance.hash = match named {
            Ok(Some(image)) if !of(&image) => return,
            Ok(Some(_)) => wanted,
            // Nothing speaks for a change, and a restart could not even find its image.
            Ok(None) | Err(_) => String::new(),
        };
    }

    /// Looks at one container or sandbox that ended.
    async fn refresh(&mut self, id: &str, pod: Option<&Pod>) -> Result<(), CallError> {
        if self.seen.sandbox.as_ref().is_some_and(|sandbox| sandbox.id == id) {
            let (seen, leftovers) = look::whole(self.runtime(), &self.uid).await?;
            self.adopt(seen, leftovers, pod).await;
            return Ok(());
        }
        let found = self.seen.containers.iter().find(|(_, instance)| instance.id == id);
        let Some((name, sandbox)) = found.map(|(name, instance)| (name.clone(), instance.sandbox.clone()))
        else {
            return Ok(());
        };
        let fresh = look::ended(self.runtime(), id, &sandbox).await?;
        let Some(mut fresh) = fresh else {
            self.seen.containers.remove(&name);
            return Ok(());
        };
        if let Some(old) = self.seen.containers.get_mut(&name) {
            fresh.last = old.last.take();
            *old = fresh;
        }
        if self.seen.containers.get(&name).is_some_and(|instance| !instance.is_running()) {
            self.probes.remove(&name);
            if let Some(pod) = pod {
                self.read_last_words(pod, &name).await;
            }
        }
        Ok(())
    }

    /// Puts what a container left in its termination file into its end.
    async fn read_last_words(&mut self, pod: &Pod, name: &str) {
        const LIMIT: u64 = 4096;
        let Some(instance) = self.seen.containers.get(name) else { return };
        let Some(ended) = instance.ended() else { return };
        let mut words = match &instance.last_words {
            Some(path) => look::beginning(path, LIMIT).await,
            None => Vec::new(),
        };
        let logs = find(pod, name).and_then(|c| c.termination_message_policy.as_deref());
        if words.is_empty() && ended.exit_code != 0 && logs == Some("FallbackToLogsOnError") {
            let dir = self.shared.paths.pod_logs(self.namespace(), &self.key.name, &self.uid);
            words = super::logs::last_lines(&dir.join(name).join(format!("{}.log", instance.attempt))).await;
        }
        words.truncate(usize::try_from(LIMIT).unwrap_or(usize::MAX));
        let Some(instance) = self.seen.containers.get_mut(name) else { return };
        if let Life::Exited(ended) = &mut instance.life
            && !words.is_empty()
        {
            ended.message = String::from_utf8_lossy(&words).into_owned();
        }
    }

    // === doing ===

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

    async fn write_volumes(&mut self, pod: &Pod) -> bool {
        let place = self.place();
        match volume::set_up(pod, &self.shared.paths, &place, &*self.shared.sources).await {
            Ok(learnt) => {
                self.tokens_at = learnt.refresh_at;
                self.volumes_ready = true;
                self.memory.trouble = None;
                true
            }
            Err(ConfigError(why)) => {
                // A pod that runs keeps its old files; fresh ones are tried for again.
                self.tokens_at =
                    now().saturating_add(Duration::from_secs(60)).ok().filter(|_| self.volumes_ready);
                self.memory.trouble = Some(why);
                false
            }
        }
    }

    fn sandbox_config(&self, pod: &Pod, attempt: u32) -> crate::cri::messages::PodSandboxConfig {
        let config = &self.shared.config;
        let facts = Facts {
            node: &config.node,
            cgroup_parent: &config.cgroup_parent,
            paths: &self.shared.paths,
            cluster_dns: &config.cluster_dns,
            cluster_domain: &config.cluster_domain,
            host_dns: &self.shared.host_dns,
        };
        sandbox::config(pod, &facts, attempt)
    }

    async fn run_sandbox(&mut self, pod: &Arc<Pod>, attempt: u32) {
        if !self.write_volumes(pod).await {
            self.memory.retry.failed_softly(now(), SOON);
            return;
        }
        let logs = self.shared.paths.pod_logs(self.namespace(), &self.key.name, &self.uid);
        drop(tokio::fs::create_dir_all(logs).await);
        let before = self.seen.sandbox.clone();
        if let Some(before) = &before {
            drop(self.runtime().stop_pod_sandbox(&before.id).await);
        }
        let config = self.sandbox_config(pod, attempt);
        let made = {
            let _turn = self.shared.heavy.acquire().await;
            self.runtime().run_pod_sandbox(config).await
        };
        let found = match made {
            Ok(id) => {
                self.shared.registry.insert(&id, &self.bell);
                look::sandbox(self.runtime(), &id).await
            }
            Err(error) => Err(error),
        };
        match found {
            Ok(Some(sandbox)) => {
                self.seen.sandbox = Some(sandbox);
                self.memory.retry.succeeded();
                self.memory.trouble = None;
                self.write_hosts(pod).await;
                if let Some(before) = before {
                    drop(self.runtime().remove_pod_sandbox(&before.id).await);
                    self.shared.registry.remove(&before.id);
                }
            }
            Ok(None) => self.memory.retry.failed(now()),
            Err(error) => {
                tracing::warn!(pod = %self.key, %error, "the sandbox cannot be made");
                self.memory.trouble = Some(error.to_string());
                self.memory.retry.failed(now());
                // A call that was given up may have made one nevertheless.
                self.bell.ring(|note| note.look = true);
            }
        }
    }

    async fn write_hosts(&self, pod: &Pod) {
        let spec = pod.spec.as_ref();
        let mut text = String::from("# Written by kedge for this pod.\n");
        if spec.is_some_and(|spec| spec.host_network == Some(true)) {
            text += &tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
        } else {
            text += "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
            let name = sandbox::hostname(pod);
            for ip in self.seen.sandbox.iter().flat_map(|sandbox| &sandbox.ips) {
                text += &format!("{ip}\t{name}\n");
            }
        }
        for alias in spec.into_iter().flat_map(|spec| spec.host_aliases.iter().flatten()) {
            text += &format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
        }
        let path = self.shared.paths.hosts_file(&self.uid);
        if let Some(parent) = path.parent() {
            drop(tokio::fs::create_dir_all(parent).await);
        }
        if let Err(error) = tokio::fs::write(path, text).await {
            tracing::warn!(pod = %self.key, %error, "the pod's hosts file cannot be written");
        }
    }

    async fn stop_sandbox(&mut self) {
        let Some(sandbox) = &self.seen.sandbox else { return };
        let id = sandbox.id.clone();
        match self.runtime().stop_pod_sandbox(&id).await {
            Ok(()) => {
                if let Some(sandbox) = &mut self.seen.sandbox {
                    sandbox.ready = false;
                }
            }
            Err(error) => {
                tracing::warn!(pod = %self.key, %error, "the sandbox cannot be stopped");
                self.bell.ring(|note| note.look = true);
            }
        }
    }

    /// Notes why a container does not start; it is tried again after a while.
    fn hold(&mut self, name: &str, reason: &'static str, message: String, soon: bool) {
        let known = self.memory.containers.entry(name.to_owned()).or_default();
        if soon {
            known.retry.failed_softly(now(), SOON);
        } else {
            known.retry.failed(now());
        }
        known.waiting = Some(Waiting { reason, message });
    }

    async fn start(&mut self, pod: &Arc<Pod>, container: &Container, attempt: u32) {
        let name = &container.name;
        let Some(image) = self.image(pod, container).await else { return };
        let parts = match self.parts(pod, container, &image, attempt).await {
            Ok(parts) => parts,
            Err(ConfigError(message)) => return self.hold(name, "CreateContainerConfigError", message, true),
        };
        let config = match container::config(pod, container, parts) {
            Ok(config) => config,
            Err(ConfigError(message)) => {
                return self.hold(name, "CreateContainerConfigError", message, false);
            }
        };
        let Some(sandbox) = self.seen.sandbox.clone() else { return };
        let before = self.seen.containers.get(name).cloned();
        if let Some(stillborn) = before.as_ref().filter(|instance| instance.life == Life::Created) {
            drop(self.runtime().remove_container(&stillborn.id).await);
        }
        let sandbox_config = self.sandbox_config(pod, sandbox.attempt);
        let shared = self.shared.clone();
        let turn = shared.heavy.acquire().await;
        let id = match self.runtime().create_container(&sandbox.id, config, sandbox_config).await {
            Ok(id) => id,
            Err(error) => {
                self.bell.ring(|note| note.look = true);
                return self.hold(name, "CreateContainerError", error.to_string(), false);
            }
        };
        self.shared.registry.insert(&id, &self.bell);
        let outcome = self.runtime().start_container(&id).await;
        drop(turn);
        let made = Instance {
            id: id.clone(),
            sandbox: sandbox.id.clone(),
            attempt,
            life: Life::Running { since: now() },
            image_ref: image.repo_digests.first().unwrap_or(&image.id).clone(),
            hash: state::hash(container),
            ours: true,
            last_words: Some(self.shared.paths.last_words(&self.uid, name, attempt)),
            last: before.as_ref().and_then(|before| before.ended().cloned()).map(Box::new),
        };
        self.note_start(container, made, before);
        match outcome {
            Ok(()) => self.greet(pod, container).await,
            Err(error) => self.note_failed_start(name, &id, &sandbox.id, &error).await,
        }
    }

    fn note_start(&mut self, container: &Container, made: Instance, before: Option<Instance>) {
        let known = self.memory.containers.entry(container.name.clone()).or_default();
        if let Some((instance, ended)) = before.as_ref().and_then(|i| Some((i, i.ended()?))) {
            known.crash_delay = next_delay(state::crash_delay(instance, ended, Some(known)));
        }
        known.waiting = None;
        known.unhealthy = None;
        known.retry.succeeded();
        known.started = container.startup_probe.is_none();
        known.ready = container.readiness_probe.is_none();
        self.fresh_images.retain(|name| *name != container.name);
        if let Some(oldest) = before.as_ref().and_then(|before| before.last.as_ref()) {
            self.shared.registry.remove(&oldest.id);
            let (runtime, id) = (self.runtime().clone(), oldest.id.clone());
            let log = made.attempt.checked_sub(2).map(|attempt| {
                let dir = self.shared.paths.pod_logs(self.namespace(), &self.key.name, &self.uid);
                dir.join(&container.name).join(format!("{attempt}.log"))
            });
            self.crew.spawn(async move {
                drop(runtime.remove_container(&id).await);
                if let Some(log) = log {
                    drop(tokio::fs::remove_file(log).await);
                }
            });
        }
        self.seen.containers.insert(container.name.clone(), made);
    }

    /// The runtime could not start it: mostly it shows the container as ended with the reason.
    async fn note_failed_start(&mut self, name: &str, id: &str, sandbox: &str, error: &CallError) {
        tracing::debug!(pod = %self.key, container = name, %error, "the container does not start");
        let last = self.seen.containers.get_mut(name).and_then(|instance| instance.last.take());
        match look::instance(self.runtime(), id, sandbox).await {
            Ok(Some(mut instance)) => {
                instance.last = last;
                if let Life::Exited(ended) = &mut instance.life {
                    ended.message = error.to_string();
                    if ended.reason == "Error" {
                        ended.reason = "StartError".to_owned();
                    }
                }
                self.seen.containers.insert(name.to_owned(), instance);
            }
            Ok(None) | Err(_) => {
                self.seen.containers.remove(name);
                self.bell.ring(|note| note.look = true);
                self.hold(name, "RunContainerError", error.to_string(), false);
            }
        }
    }

    /// A container runs: its start hook, then its probes.
    async fn greet(&mut self, pod: &Arc<Pod>, container: &Container) {
        let handler = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        if let (Some(handler), Some(target)) = (handler, self.target(container))
            && let Err(why) = probe::hook(handler, &target, HOOK_LIMIT).await
        {
            let known = self.memory.containers.entry(container.name.clone()).or_default();
            known.unhealthy = Some(format!("the postStart hook failed: {why}"));
            return;
        }
        self.attend(pod, container);
    }

    fn target(&self, container: &Container) -> Option<Target> {
        let instance = self.seen.containers.get(&container.name)?;
        let Life::Running { since } = instance.life else { return None };
        Some(Target {
            runtime: self.runtime().clone(),
            name: container.name.clone(),
            id: instance.id.clone(),
            ip: self.place().pod_ips.into_iter().next().unwrap_or_default(),
            ports: probe::named_ports(container),
            age: Duration::try_from(now().duration_since(since)).unwrap_or_default(),
        })
    }

    /// Starts the probes of a running container that is not probed yet.
    fn attend(&mut self, pod: &Pod, container: &Container) {
        let Some(target) = self.target(container) else { return };
        if self.probes.get(&container.name).is_some_and(|(id, _)| *id == target.id) {
            return;
        }
        let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
        let ordinary_init = init.is_some_and(|init| init.iter().any(|c| c.name == container.name))
            && !state::is_sidecar(container);
        let known = self.memory.containers.entry(container.name.clone()).or_default();
        match Probes::of(container).filter(|_| !ordinary_init) {
            None => {
                known.started = true;
                known.ready = true;
            }
            Some(probes) => {
                known.started = container.startup_probe.is_none();
                known.ready = container.readiness_probe.is_none();
                let mut crew = Crew::new();
                let id = target.id.clone();
                crew.spawn(probe::watch(target, probes, self.verdicts.0.clone()));
                self.probes.insert(container.name.clone(), (id, crew));
            }
        }
    }

    /// The image, or `None` while it is pulled or cannot be had.
    async fn image(&mut self, pod: &Arc<Pod>, container: &Container) -> Option<Image> {
        let name = container.image.clone().unwrap_or_default();
        let present = match self.runtime().image_status(&name).await {
            Ok(present) => present,
            Err(error) => {
                let reason = if error.is_unreachable() { "ContainerCreating" } else { "InvalidImageName" };
                self.hold(&container.name, reason, error.to_string(), error.is_unreachable());
                return None;
            }
        };
        let online = *self.shared.uplink.link().borrow() == Link::Up;
        let fresh = self.fresh_images.contains(&container.name);
        match image::need(container, present.is_some(), online) {
            Need::Nothing => present,
            Need::Pull if fresh && present.is_some() => present,
            Need::Never => {
                let message = format!("Container image \"{name}\" is not present with pull policy of Never");
                self.hold(&container.name, "ErrImageNeverPull", message, false);
                None
            }
            Need::Pull => {
                self.pull(pod, container, name);
                None
            }
        }
    }

    fn pull(&mut self, pod: &Arc<Pod>, container: &Container, image: String) {
        let known = self.memory.containers.entry(container.name.clone()).or_default();
        known.pulling = true;
        if let Some(waiting) = known.waiting.as_mut().filter(|waiting| waiting.reason == "ErrImagePull") {
            // As kubectl knows it from the second attempt on.
            waiting.reason = "ImagePullBackOff";
            waiting.message = format!("Back-off pulling image \"{image}\": {}", waiting.message);
        }
        let (shared, pod, name) = (self.shared.clone(), pod.clone(), container.name.clone());
        let pulled = self.pulled.0.clone();
        self.crew.spawn(async move {
            let auth = image::credentials(&pod, &image, &*shared.sources).await;
            let outcome = {
                let _turn = shared.pulls.acquire().await;
                shared.config.runtime.pull_image(&image, auth).await
            };
            let outcome = outcome.map(drop).map_err(|error| error.to_string());
            drop(pulled.send(Pulled { container: name, outcome }).await);
        });
    }

    /// Environment and mounts of a container, with the files that they need.
    async fn parts<'a>(
        &'a self,
        pod: &Arc<Pod>,
        container: &Container,
        image: &'a Image,
        attempt: u32,
    ) -> Result<Parts<'a>, ConfigError> {
        let mut env = env::resolve(pod, container, &self.place(), &*self.shared.sources).await?;
        if env.get("HOSTNAME").is_none() {
            env.set("HOSTNAME", sandbox::hostname(pod));
        }
        let (pod, container, paths) = (pod.clone(), container.clone(), self.shared.paths.clone());
        let words = paths.last_words(&self.uid, &container.name, attempt);
        let logs = paths.pod_logs(self.namespace(), &self.key.name, &self.uid).join(&container.name);
        let hosts = paths.hosts_file(&self.uid);
        let work = tokio::task::spawn_blocking(move || {
            let mut mounts = volume::mounts(&pod, &container, &paths, &|text| env.expand(text))?;
            let failure = |error: std::io::Error| ConfigError(error.to_string());
            std::fs::create_dir_all(&logs).map_err(failure)?;
            if let Some(parent) = words.parent() {
                std::fs::create_dir_all(parent).map_err(failure)?;
            }
            std::fs::write(&words, b"").map_err(failure)?;
            let own = [(container::last_words_path(&container), &words), ("/etc/hosts", &hosts)];
            for (inside, outside) in own {
                if outside.exists() && !mounts.iter().any(|mount| mount.container_path == inside) {
                    mounts.push(Mount {
                        container_path: inside.to_owned(),
                        host_path: outside.display().to_string(),
                        ..Mount::default()
                    });
                }
            }
            Ok((env, mounts))
        });
        let (env, mounts) = work.await.map_err(|error| ConfigError(error.to_string()))??;
        Ok(Parts { node: &self.shared.config.node, image, env, mounts, attempt })
    }

    async fn stop(&mut self, pod: &Pod, name: &str, id: &str, why: Why) {
        let container = find(pod, name);
        let probes = container.and_then(|c| c.liveness_probe.as_ref().or(c.startup_probe.as_ref()));
        let grace = match why {
            Why::Unhealthy => probes.and_then(|probe| probe.termination_grace_period_seconds),
            Why::Changed | Why::Finished => None,
        };
        let grace =
            grace.map_or(self.grace, |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        if let Some(reason) = self.memory.containers.get(name).and_then(|known| known.unhealthy.as_ref()) {
            tracing::info!(pod = %self.key, container = name, reason, "the container is unhealthy and is restarted");
        }
        self.probes.remove(name);
        let target = container.and_then(|container| self.target(container));
        let handler = container.and_then(|c| c.lifecycle.as_ref()?.pre_stop.clone());
        let outcome = end(self.runtime(), id, handler, target, grace).await;
        if let Err(error) = outcome {
            tracing::warn!(pod = %self.key, container = name, %error, "the container cannot be stopped");
            self.hold(name, "ContainerCreating", error.to_string(), true);
        }
        if let Err(error) = self.refresh(id, Some(pod)).await {
            tracing::debug!(pod = %self.key, %error, "the runtime cannot be asked");
            self.bell.ring(|note| note.look = true);
        }
        if let Some(known) = self.memory.containers.get_mut(name) {
            known.unhealthy = None;
            known.started = false;
            known.ready = false;
        }
    }

    // === telling ===

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

    pub(super) async fn refresh_all(&mut self, pod: Option<&Pod>) {
        let ids: Vec<String> = self.seen.containers.values().map(|instance| instance.id.clone()).collect();
        for id in ids {
            drop(self.refresh(&id, pod).await);
        }
    }

    pub(super) fn stop_probes(&mut self) {
        self.probes.clear();
    }

    pub(super) fn ending_target(&self, pod: Option<&Pod>, name: &str) -> Option<Target> {
        self.target(find(pod?, name)?)
    }
}

/// What a turn came to.
pub(super) enum Turn {
    Again(Option<Timestamp>),
    Gone,
}

/// Ends a container: its hook within the grace, then the stop signal with what is left of it.
pub(super) async fn end(
    runtime: &Runtime,
    id: &str,
    handler: Option<k8s_openapi::api::core::v1::LifecycleHandler>,
    target: Option<Target>,
    grace: Duration,
) -> Result<(), CallError> {
    const LEAST: Duration = Duration::from_secs(2);
    let begun = tokio::time::Instant::now();
    if let (Some(handler), Some(target)) = (handler, target)
        && !grace.is_zero()
        && let Err(error) = probe::hook(&handler, &target, grace).await
    {
        tracing::debug!(container = id, error, "the preStop hook failed");
    }
    let left =
        if grace.is_zero() { grace } else { grace.saturating_sub(begun.elapsed()).max(LEAST.min(grace)) };
    runtime.stop_container(id, left).await
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
