//! The module of the pod room: one worker per pod uid, woken by store keys and runtime events. It decides nothing about
//! a pod; it only sees to it that every pod of this node, and everything of ours in the runtime, has a worker.

use super::bell::{Bell, Note, Registry};
use super::paths::Paths;
use super::sandbox::{NAME_LABEL, NAMESPACE_LABEL, NODE_LABEL, UID_LABEL};
use super::sources::Sources;
use super::summary::Summaries;
use super::worker::{Shared, Worker, is_source};
use super::{Config, logs};
use crate::base::{Backoff, BoxFuture, Crew, Failure, Module, Ready, Stop};
use crate::cri::messages::Labels;
use crate::cri::{CallError, Events, RuntimeEvent};
use crate::daemon::edge::meta::COMPARISON;
use crate::daemon::edge::uplink::{Link, Uplink};
use crate::host::{containerd, remedy};
use crate::model::{Kind, ObjectKey};
use crate::store::{self, Store};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, broadcast, mpsc};

/// More sandboxes at once make each slower without finishing the lot earlier.
const HEAVY_AT_ONCE: usize = 10;
const PULLS_AT_ONCE: usize = 3;
/// What a room waits for that cannot reach its runtime.
const AWAY: &str = "KE-RUNTIME-008";
const ROTATION: Duration = Duration::from_secs(30);
/// A cloud that is connected for so long has sent everything again, also one that does not compare.
const RESENT: Duration = Duration::from_secs(600);

pub(super) struct Room {
    pub config: Config,
    pub store: Store,
    pub uplink: Uplink,
    pub sources: Arc<dyn Sources>,
    pub paths: Paths,
    pub summaries: Summaries,
}

impl Module for Room {
    fn name(&self) -> &'static str {
        "pods"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let Some(mut floor) = stop.or(Floor::open(self)).await.transpose()? else { return Ok(()) };
            ready.set();
            let outcome = stop.or(floor.serve()).await;
            floor.crew.abort().await;
            outcome.unwrap_or(Ok(()))
        })
    }
}

/// The room while it is open.
struct Floor {
    shared: Arc<Shared>,
    changes: broadcast::Receiver<ObjectKey>,
    events: Option<Events>,
    workers: HashMap<String, Desk>,
    /// Workers say with their uid that they have ended.
    left: (mpsc::Sender<String>, mpsc::Receiver<String>),
    crew: Crew,
    /// Pause before the event stream is opened again.
    backoff: Backoff,
    /// Whether pods may be missing in the store, as it was damaged: what runs without a row there runs on until the cloud
    /// has said what it wants.
    spares: bool,
    /// Since when the cloud is connected while pods are spared.
    connected: Option<Instant>,
}

/// A worker's bell and the pod it works for.
struct Desk {
    key: ObjectKey,
    bell: Arc<Bell>,
}

enum Heard {
    Change(ObjectKey),
    Lagged,
    Event(RuntimeEvent),
    Deaf,
    Hearing(Events),
    Left(String),
    RotationDue,
    Closed,
}

impl Floor {
    /// Opens as soon as the runtime answers, however late that is: the link and the devices of this node do without it.
    async fn open(room: &Room) -> Result<Floor, Failure> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut told = false;
        loop {
            let failure = match Floor::try_open(room).await {
                Err(failure) if failure.code == AWAY => failure,
                outcome => return outcome,
            };
            if !told {
                tracing::warn!(code = failure.code, error = %failure, "no pod is looked after until the container runtime answers");
                told = true;
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    async fn try_open(room: &Room) -> Result<Floor, Failure> {
        let runtime = &room.config.runtime;
        let version = runtime.version().await.map_err(away)?;
        let mut config = room.config.clone();
        if config.late
            && let Some(systemd) = containerd::systemd(runtime).await.map_err(away)?
        {
            config.groups.systemd = systemd;
        }
        // Subscribed before listing, so that nothing falls between.
        let changes = room.store.changes();
        let events = runtime.events().await.map_err(away)?;
        let shared = Arc::new(Shared {
            config,
            paths: room.paths.clone(),
            store: room.store.clone(),
            uplink: room.uplink.clone(),
            sources: room.sources.clone(),
            registry: Registry::default(),
            summaries: room.summaries.clone(),
            heavy: Semaphore::new(HEAVY_AT_ONCE),
            pulls: Semaphore::new(PULLS_AT_ONCE),
            host_dns: tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default(),
            scheme: version.runtime_name,
        });
        let mut floor = Floor {
            shared,
            changes,
            events: Some(events),
            workers: HashMap::new(),
            left: mpsc::channel(64),
            crew: Crew::new(),
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(5)),
            spares: store::is_unsettled(room.store.path()).is_some(),
            connected: None,
        };
        floor.staff(true).await?;
        Ok(floor)
    }

    /// Gives a worker to every pod of this node and, with `adopt`, to everything of ours in the runtime.
    async fn staff(&mut self, adopt: bool) -> Result<(), Failure> {
        let pods = self.shared.store.objects(Kind::Pod).await?;
        let mut in_runtime: HashMap<String, ObjectKey> = HashMap::new();
        if adopt {
            let runtime = &self.shared.config.runtime;
            let sandboxes = runtime.list_pod_sandbox(Labels::new()).await.map_err(away)?;
            let wanted: HashSet<&str> = pods.iter().filter_map(|(_, pod)| uid(pod)).collect();
            for sandbox in sandboxes {
                let label = |name: &str| sandbox.labels.get(name).cloned().unwrap_or_default();
                let (id, ours) = (label(UID_LABEL), label(NODE_LABEL) == self.shared.config.node);
                if !id.is_empty() && (ours || wanted.contains(id.as_str())) {
                    let key = ObjectKey::namespaced(Kind::Pod, label(NAMESPACE_LABEL), label(NAME_LABEL));
                    in_runtime.insert(id, key);
                }
            }
        }
        for (key, pod) in &pods {
            if let Some(id) = uid(pod).filter(|_| self.is_ours(pod)) {
                let look = in_runtime.remove(id).is_some();
                self.hire(id.to_owned(), key.clone(), look);
            }
        }
        if self.spares {
            if !in_runtime.is_empty() {
                tracing::warn!(pods = in_runtime.len(), "pods that the store has lost run on");
            }
            return Ok(());
        }
        // What is left belongs to pods that are gone: their workers find no row and clear up.
        for (id, key) in in_runtime {
            self.hire(id, key, true);
        }
        Ok(())
    }

    fn is_ours(&self, pod: &Value) -> bool {
        let node = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
        node == self.shared.config.node
    }

    fn hire(&mut self, uid: String, key: ObjectKey, look: bool) {
        if let Some(desk) = self.workers.get(&uid) {
            desk.bell.ring(|note| note.look |= look);
            return;
        }
        let bell = Arc::new(Bell::default());
        let worker = Worker::new(self.shared.clone(), key.clone(), uid.clone(), bell.clone(), look);
        self.workers.insert(uid.clone(), Desk { key, bell });
        let left = self.left.0.clone();
        self.crew.spawn(async move {
            // Told even when the worker panics: its desk must be free for a successor.
            let ended = std::panic::AssertUnwindSafe(worker.run());
            if futures_util::FutureExt::catch_unwind(ended).await.is_err() {
                tracing::error!(pod = uid, "a pod's worker panicked");
            }
            drop(left.send(uid).await);
        });
    }

    async fn serve(&mut self) -> Result<(), Failure> {
        let mut rotation = tokio::time::interval(ROTATION);
        loop {
            match self.listen(&mut rotation).await {
                Heard::Change(key) if key.kind == Kind::Pod => self.pod_changed(key).await?,
                Heard::Change(key) => self.source_changed(&key),
                Heard::Lagged => {
                    // What it was that changed is not known.
                    self.ring_all(|note| note.all_sources = true);
                    self.staff(false).await?;
                }
                Heard::Event(RuntimeEvent::Ended { id }) => self.shared.registry.ended(&id),
                Heard::Event(RuntimeEvent::LookAgain) => self.ring_all(|note| note.look = true),
                Heard::Deaf => self.events = None,
                Heard::Hearing(events) => {
                    self.events = Some(events);
                    self.backoff.reset();
                    // Whatever happened in between was not heard.
                    self.ring_all(|note| note.look = true);
                }
                Heard::Left(uid) => self.worker_left(&uid).await?,
                Heard::RotationDue => {
                    self.rotate_logs();
                    self.spare().await?;
                }
                Heard::Closed => return Ok(()),
            }
        }
    }

    /// The next thing that concerns the room; every arm is cancel-safe.
    async fn listen(&mut self, rotation: &mut tokio::time::Interval) -> Heard {
        let runtime = self.shared.config.runtime.clone();
        let backoff = &mut self.backoff;
        let hearing = async {
            match &mut self.events {
                Some(events) => match events.next().await {
                    Some(event) => Heard::Event(event),
                    None => Heard::Deaf,
                },
                None => loop {
                    tokio::time::sleep(backoff.next_wait()).await;
                    if let Ok(events) = runtime.events().await {
                        break Heard::Hearing(events);
                    }
                },
            }
        };
        tokio::select! {
            change = self.changes.recv() => match change {
                Ok(key) => Heard::Change(key),
                Err(broadcast::error::RecvError::Lagged(_)) => Heard::Lagged,
                Err(broadcast::error::RecvError::Closed) => Heard::Closed,
            },
            heard = hearing => heard,
            Some(uid) = self.left.1.recv() => Heard::Left(uid),
            _ = rotation.tick() => Heard::RotationDue,
        }
    }

    async fn pod_changed(&mut self, key: ObjectKey) -> Result<(), Failure> {
        let pod = self.shared.store.object(&key).await?;
        for desk in self.workers.values().filter(|desk| desk.key == key) {
            desk.bell.ring(|_| {});
        }
        if let Some(pod) = pod.filter(|pod| self.is_ours(pod))
            && let Some(uid) = uid(&pod).filter(|uid| !self.workers.contains_key(*uid))
        {
            // One that was spared runs already.
            self.hire(uid.to_owned(), key, self.spares);
        }
        Ok(())
    }

    /// Ends the time in which pods are spared once the store holds what the cloud wants: what runs beside that may go.
    async fn spare(&mut self) -> Result<(), Failure> {
        if !self.spares {
            return Ok(());
        }
        let store = &self.shared.store;
        let Some(rescue) = store::is_unsettled(store.path()) else {
            self.spares = false;
            return Ok(());
        };
        let (room, key) = COMPARISON;
        let note = store.state(room, key).await?;
        let number = |field: &str| note.as_ref().and_then(|note| note.get(field)?.as_i64());
        let agreed = number("at").is_some_and(|at| at > rescue.at) && number("differing") == Some(0);
        let up = *self.shared.uplink.link().borrow() == Link::Up;
        self.connected = self.connected.filter(|_| up).or_else(|| up.then(Instant::now));
        if !agreed && self.connected.is_none_or(|since| since.elapsed() < RESENT) {
            return Ok(());
        }
        store::settle(store.path())?;
        self.spares = false;
        self.staff(true).await
    }

    fn source_changed(&self, key: &ObjectKey) {
        if !is_source(key.kind) {
            return;
        }
        for desk in self.workers.values().filter(|desk| desk.key.namespace == key.namespace) {
            desk.bell.ring(|note| note.sources.push((key.kind, key.name.clone())));
        }
    }

    fn ring_all(&self, write: impl Fn(&mut Note)) {
        for desk in self.workers.values() {
            desk.bell.ring(&write);
        }
    }

    /// A worker that ended may have a row again by now.
    async fn worker_left(&mut self, uid_left: &str) -> Result<(), Failure> {
        let Some(desk) = self.workers.remove(uid_left) else { return Ok(()) };
        let pod = self.shared.store.object(&desk.key).await?;
        if let Some(pod) = pod.filter(|pod| self.is_ours(pod) && uid(pod) == Some(uid_left)) {
            let uid = uid(&pod).unwrap_or_default().to_owned();
            self.hire(uid, desk.key, true);
        }
        Ok(())
    }

    fn rotate_logs(&mut self) {
        let (runtime, paths) = (self.shared.config.runtime.clone(), self.shared.paths.clone());
        let pods = self.shared.summaries.clone();
        self.crew.spawn(async move { logs::rotate(&runtime, &paths, &pods).await });
    }
}

fn away(error: CallError) -> Failure {
    Failure::new(AWAY, "the container runtime does not answer").because(error).fix(format!(
        "check it with `{}`; pods are looked after again as soon as it answers",
        remedy::look_at("containerd")
    ))
}

fn uid(pod: &Value) -> Option<&str> {
    pod.pointer("/metadata/uid").and_then(Value::as_str).filter(|uid| !uid.is_empty())
}

#[cfg(test)]
#[path = "real_tests.rs"]
mod real_tests;
