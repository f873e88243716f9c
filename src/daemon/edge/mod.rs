//! `kedge edge run`: composition and the switchboard for what the cloud says. Uses `wire`, never the cloud wing.
//! The order of start is the order of need: store, broker, runtime, pods, devices, node, and last the uplink, so that
//! everything serves without a cloud.
//!
//! uplink -> switchboard -> meta (store) | device      pods, devices, node -> uplink

mod assembly;
pub mod device;
pub mod eventbus;
mod facts;
pub mod jobs;
mod latecomer;
pub mod meta;
mod metrics;
pub mod mqtt;
pub mod node;
pub mod pod;
pub mod servicebus;
pub mod stream;
mod switchboard;
pub mod uplink;

use crate::base::{BoxFuture, Failure, Stop, Supervisor, SupervisorHandle, aside};
use crate::config::edge::EdgeConfig;
use crate::daemon::status::StatusSocket;
use crate::daemon::upgrade::backup;
use crate::store::{Rescue, Store};
use meta::Meta;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

/// How long what is queued for the store may hold up the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a node of this configuration needs to get and renew its certificate.
pub fn enrolment(config: &EdgeConfig) -> uplink::Enrolment {
    assembly::uplink_config(config).enrolment()
}

/// The edge daemon, put together and not yet running.
pub struct Edge {
    supervisor: Supervisor,
    runtime: Option<FoundRuntime>,
    store_closed: BoxFuture<'static, ()>,
    restart: Stop,
}

/// How an edge has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// Its configuration was changed: it is to be started again with what is in the file now.
    Anew,
}

/// Which container runtime the pods of this node get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRuntime {
    /// Name and version as the runtime tells them, such as `containerd://1.6.20`.
    pub version: String,
    /// Whether kedge runs it.
    pub ours: bool,
}

fn tell(rescue: &Rescue) {
    tracing::error!(
        code = "KE-DB-004",
        aside = %rescue.aside.display(),
        restored = rescue.restored.as_ref().map(|copy| copy.display().to_string()),
        error = rescue.why,
        "the database was damaged and is set aside; what is missing comes from the cloud"
    );
}

/// Runs the edge until `stop` is raised.
pub async fn run(
    config: EdgeConfig,
    stop: Stop,
    observer: watch::Sender<Option<SupervisorHandle>>,
) -> Result<Ended, Failure> {
    let Some(opened) = stop.or(Edge::open(config)).await else { return Ok(Ended::Stopped) };
    let edge = opened?;
    observer.send_replace(Some(edge.handle()));
    edge.run(stop).await
}

impl Edge {
    /// Opens the store, finds or starts the runtime, and builds all modules in the order of their start; the status
    /// socket is among them when the configuration names one.
    pub async fn open(config: EdgeConfig) -> Result<Edge, Failure> {
        let path = config.database.clone();
        let opened = aside("open the store", move || {
            Store::open_or_rescue(&path, || backup::databases(Path::new(backup::DIR), &path))
        });
        let (store, rescue) = opened.await??;
        if let Some(rescue) = &rescue {
            tell(rescue);
        }
        jobs::config::begin(&store, config.file.as_deref()).await?;
        let restart = Stop::new();
        let mut supervisor = Supervisor::new();
        let broker = assembly::mqtt(&config.mqtt, &store, &mut supervisor).await?;
        let runtime = assembly::runtime(&config, &mut supervisor).await?;
        let (uplink, inbound, uplink_module) = uplink::new(assembly::uplink_config(&config))?;
        let meta = Meta::new(store.clone(), uplink.clone(), config.node.as_str(), config.hub.question_limit);
        let rooms = assembly::Rooms {
            config: &config,
            store: &store,
            meta: &meta,
            uplink: &uplink,
            restart: &restart,
        };
        let found = runtime.as_ref().and_then(|runtime| runtime.found.clone());
        let version = runtime.as_ref().map(|runtime| runtime.version.clone());
        let pods = runtime.as_ref().map(|runtime| rooms.pods(runtime, &mut supervisor));
        let device = rooms.devices(&broker, &mut supervisor);
        let jobs = rooms.jobs(runtime.as_ref(), &mut supervisor);
        let node = rooms.node(runtime.map(|runtime| runtime.client), &mut supervisor);
        let (eventbus, eventbus_module) = eventbus::new(store.clone(), broker.clone(), uplink.clone());
        supervisor.add(eventbus_module);
        let servicebus = rooms.servicebus(&mut supervisor);
        let addressees = switchboard::Rooms {
            meta: meta.clone(),
            device,
            jobs,
            eventbus,
            servicebus,
            uplink: uplink.clone(),
        };
        supervisor.add(switchboard::new(inbound, addressees));
        if config.hub.enabled {
            supervisor.add(uplink_module);
        }
        let mut tunnel = None;
        if let (true, Some(pods)) = (config.stream.enabled, &pods) {
            let observed = stream::Observed::default();
            supervisor.add(rooms.stream(pods.clone(), observed.clone()));
            tunnel = Some(observed);
        }
        let store_closed = Box::pin(store.closed());
        let facts = facts::of(facts::Sources {
            name: config.node.to_string(),
            cloud: (config.hub.websocket.clone(), config.hub.http_server.clone()),
            certificate: config.hub.cert_file.clone(),
            store,
            uplink,
            broker,
            node,
            runtime: version,
            pods,
            tunnel,
            modules: supervisor.handle(),
        });
        if let Some(path) = config.status_socket {
            supervisor.add(StatusSocket::new(path, facts));
        }
        Ok(Edge { supervisor, runtime: found, store_closed, restart })
    }

    /// The container runtime that was found or started; `None` when there is none yet.
    pub fn runtime(&self) -> Option<&FoundRuntime> {
        self.runtime.as_ref()
    }

    /// States of the modules.
    pub fn handle(&self) -> SupervisorHandle {
        self.supervisor.handle()
    }

    /// Runs until `stop` is raised, a module is given up, or a new configuration is to be read; then all that was to be stored is, and the data directory is
    /// free for another.
    pub async fn run(self, stop: Stop) -> Result<Ended, Failure> {
        let Edge { supervisor, runtime: _, store_closed, restart } = self;
        let ending = stop.child();
        let running = supervisor.run(ending.clone());
        let mut running = std::pin::pin!(running);
        let outcome = tokio::select! {
            outcome = &mut running => outcome,
            () = restart.raised() => {
                ending.raise();
                running.await
            }
        };
        // Tasks that were ended let go of the store a moment later.
        if tokio::time::timeout(FAREWELL, store_closed).await.is_err() {
            tracing::warn!("the store is still in use at the end");
        }
        let ended = if restart.is_raised() && !stop.is_raised() { Ended::Anew } else { Ended::Stopped };
        outcome.map(|()| ended)
    }
}
