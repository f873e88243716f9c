//! `kedge edge run`: composition and the switchboard for what the cloud says. Uses `wire`, never the cloud wing.
//! The order of start is the order of need: store, broker, runtime, pods, devices, node, and last the uplink, so that
//! everything serves without a cloud.
//!
//! uplink -> switchboard -> meta (store) | device      pods, devices, node -> uplink

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
use crate::config::edge::{Containerd, EdgeConfig, MqttConfig, MqttMode};
use crate::cri::Runtime;
use crate::daemon::status::{Facts, StatusSocket};
use crate::host::{cni::Network, containerd, facts as machine};
use crate::store::Store;
use device::DeviceHandle;
use meta::Meta;
use mqtt::Broker;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use tokio::sync::watch;
use uplink::Uplink;

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
        let broker = mqtt_side(&config.mqtt, &mut supervisor).await?;
        let runtime = runtime_side(&config, &mut supervisor).await?;
        let (uplink, inbound, uplink_module) = uplink::new(uplink_config(&config))?;
        let meta = Meta::new(store.clone(), uplink.clone(), config.node.as_str(), config.hub.question_limit);
        let device = device_side(&config, &store, &uplink, &broker, &mut supervisor);
        let node = node_side(&config, &store, &meta, &uplink, runtime, &mut supervisor);
        supervisor.add(switchboard::new(inbound, meta, device));
        if config.hub.enabled {
            supervisor.add(uplink_module);
        }
        let facts = facts::of(facts::Sources {
            name: config.node.to_string(),
            certificate: config.hub.cert_file.clone(),
            store,
            uplink,
            broker,
            node,
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

async fn mqtt_side(config: &MqttConfig, supervisor: &mut Supervisor) -> Result<Broker, Failure> {
    let (mode, address) = match config.mode {
        MqttMode::Internal => (mqtt::Mode::Internal, config.internal.clone()),
        MqttMode::Both => (mqtt::Mode::Both, config.internal.clone()),
        MqttMode::External => (mqtt::Mode::External, config.external.clone()),
    };
    let listen = if config.enabled { listen_on(address, config.mode).await? } else { Vec::new() };
    let mode = if listen.is_empty() { mqtt::Mode::External } else { mode };
    let (broker, module) = mqtt::new(mqtt::Config { listen, mode, ..mqtt::Config::default() })?;
    supervisor.add(module);
    Ok(broker)
}

/// Where the broker inside listens. With an external broker configured it takes that broker's place on this machine
/// when nobody else does; a foreign broker is not used.
async fn listen_on(address: String, mode: MqttMode) -> Result<Vec<SocketAddr>, Failure> {
    let named = address.clone();
    let resolved =
        tokio::task::spawn_blocking(move || named.to_socket_addrs().map(Iterator::collect::<Vec<_>>));
    let resolved = resolved.await.map_err(std::io::Error::other).and_then(|found| found);
    let first = resolved.map(|found| found.first().copied());
    let Ok(Some(first)) = first else {
        return Err(Failure::new("KE-CONFIG-021", format!("the MQTT address {address} cannot be used"))
            .fix("set modules.eventBus.mqttServerInternal to an address of this machine")
            .exit(crate::base::Exit::Configuration));
    };
    if mode == MqttMode::External && std::net::TcpListener::bind(first).is_err() {
        tracing::warn!(%first, "an external MQTT broker is configured; devices must use the broker inside: set mqttMode 0");
        return Ok(Vec::new());
    }
    Ok(vec![first])
}

/// Finds or starts the container runtime; `None` when this node runs no pods.
async fn runtime_side(config: &EdgeConfig, supervisor: &mut Supervisor) -> Result<Option<Runtime>, Failure> {
    if !config.edged.enabled || config.runtime.containerd == Containerd::Off {
        return Ok(None);
    }
    let socket = &config.edged.runtime_socket;
    let external = config.runtime.containerd == Containerd::External;
    let usual = socket.as_path() == Path::new("/run/containerd/containerd.sock");
    let named = external || !usual;
    let wanted = containerd::Config {
        endpoint: named.then(|| format!("unix://{}", socket.display())),
        use_running: true,
        dir: config.runtime.dir.clone(),
        network: Network::derive(&config.runtime.dir),
    };
    let running = match containerd::start(wanted).await {
        Ok(running) => running,
        // After a boot the runtime may come later than this daemon; devices and the link need not wait for it.
        Err(failure) if external => {
            tracing::warn!(code = failure.code, error = %failure, "the container runtime does not answer yet");
            return Ok(Some(Runtime::new(&format!("unix://{}", socket.display()))));
        }
        Err(failure) => return Err(failure),
    };
    tracing::info!(version = running.version, ours = running.ours, "the container runtime answers");
    let (runtime, keeper) = running.into_parts();
    supervisor.add(keeper);
    Ok(Some(runtime))
}

fn device_side(
    config: &EdgeConfig,
    store: &Store,
    uplink: &Uplink,
    broker: &Broker,
    supervisor: &mut Supervisor,
) -> DeviceHandle {
    let own = device::Config { node: config.node.clone() };
    let (handle, module) = device::new(own, store.clone(), uplink.clone(), broker.clone());
    if config.device_twin.enabled {
        supervisor.add(module);
    }
    handle
}

fn node_side(
    config: &EdgeConfig,
    store: &Store,
    meta: &Meta,
    uplink: &Uplink,
    runtime: Option<Runtime>,
    supervisor: &mut Supervisor,
) -> node::NodeHandle {
    let edged = &config.edged;
    let room = node::Config {
        name: config.node.to_string(),
        internal_ip: internal_ip(config),
        kubelet_port: edged.kubelet_port,
        max_pods: edged.max_pods,
        labels: edged.node_labels.clone(),
        taints: edged.register_taints.clone(),
        schedulable: edged.register_schedulable,
        register: edged.register_node,
        disk: edged.root_dir.clone(),
        eviction_hard: edged.eviction_hard.clone(),
        status_update: edged.status_update,
        status_report: edged.status_report,
        lease_duration: edged.lease_duration,
        question_limit: config.hub.question_limit,
        runtime,
    };
    let (handle, module) = node::new(room, store.clone(), meta.clone(), uplink.clone());
    supervisor.add(module);
    handle
}

/// The node's address: as configured, or the one that the route to the cloud uses.
fn internal_ip(config: &EdgeConfig) -> std::net::IpAddr {
    config.node_ip.unwrap_or_else(|| machine::internal_ip(config.hub.websocket.parse().ok()))
}

fn uplink_config(config: &EdgeConfig) -> uplink::Config {
    let hub = &config.hub;
    uplink::Config {
        node: config.node.clone(),
        websocket: hub.websocket.clone(),
        https: hub.http_server.clone(),
        project: hub.project_id.clone(),
        files: uplink::Files {
            ca: hub.ca_file.clone(),
            cert: hub.cert_file.clone(),
            key: hub.key_file.clone(),
        },
        token: (!hub.token.is_empty()).then(|| hub.token.reveal().to_owned()),
        heartbeat: hub.heartbeat,
        rotate: hub.rotate_certificates,
    }
}
