//! `kedge edge run`: composition and the switchboard for what the cloud says. Uses `wire`, never the cloud wing.
//! The order of start is the order of need: store, broker, runtime, pods, devices, node, and last the uplink, so that
//! everything serves without a cloud.
//!
//! uplink -> switchboard -> meta (store) | device      pods, devices, node -> uplink

mod assembly;
pub mod device;
mod facts;
pub mod meta;
pub mod mqtt;
pub mod node;
pub mod pod;
pub mod stream;
mod switchboard;
pub mod uplink;

use crate::base::{Failure, Stop, Supervisor, SupervisorHandle};
use crate::config::edge::EdgeConfig;
use crate::daemon::status::{Facts, StatusSocket};
use crate::store::Store;
use meta::Meta;
use tokio::sync::watch;

/// The edge daemon, put together and not yet running.
pub struct Edge {
    supervisor: Supervisor,
    facts: Facts,
}

/// Runs the edge until `stop` is raised; the status socket is served when the configuration names one.
pub async fn run(
    config: EdgeConfig,
    stop: Stop,
    observer: watch::Sender<Option<SupervisorHandle>>,
) -> Result<(), Failure> {
    let socket = config.status_socket.clone();
    let Some(opened) = stop.or(Edge::open(config)).await else { return Ok(()) };
    let mut edge = opened?;
    if let Some(path) = socket {
        edge.supervisor.add(StatusSocket::new(path, edge.facts()));
    }
    observer.send_replace(Some(edge.handle()));
    edge.run(stop).await
}

impl Edge {
    /// Opens the store, finds or starts the runtime, and builds all modules in the order of their start.
    pub async fn open(config: EdgeConfig) -> Result<Edge, Failure> {
        let path = config.database.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(path)).await;
        let store =
            store.map_err(|error| Failure::new("KE-RUN-001", "the store did not open").because(error))??;
        let mut supervisor = Supervisor::new();
        let broker = assembly::mqtt(&config.mqtt, &mut supervisor).await?;
        let runtime = assembly::runtime(&config, &mut supervisor).await?;
        let (uplink, inbound, uplink_module) = uplink::new(assembly::uplink_config(&config))?;
        let meta = Meta::new(store.clone(), uplink.clone(), config.node.as_str(), config.hub.question_limit);
        let rooms = assembly::Rooms { config: &config, store: &store, meta: &meta, uplink: &uplink };
        let pods = runtime.as_ref().map(|runtime| rooms.pods(runtime, &mut supervisor));
        let device = rooms.devices(&broker, &mut supervisor);
        let node = rooms.node(runtime.map(|runtime| runtime.client), &mut supervisor);
        supervisor.add(switchboard::new(inbound, meta.clone(), device));
        if config.hub.enabled {
            supervisor.add(uplink_module);
        }
        if let (true, Some(pods)) = (config.stream.enabled, &pods) {
            supervisor.add(rooms.stream(pods.clone()));
        }
        let facts = facts::of(facts::Sources {
            name: config.node.to_string(),
            certificate: config.hub.cert_file.clone(),
            store: store.clone(),
            uplink: uplink.clone(),
            broker,
            node,
            pods,
            modules: supervisor.handle(),
        });
        Ok(Edge { supervisor, facts })
    }

    /// States of the modules.
    pub fn handle(&self) -> SupervisorHandle {
        self.supervisor.handle()
    }

    /// What `kedge status` shows of this edge.
    pub fn facts(&self) -> Facts {
        self.facts.clone()
    }

    /// Runs until `stop` is raised or a module is given up.
    pub async fn run(self, stop: Stop) -> Result<(), Failure> {
        self.supervisor.run(stop).await
    }
}
