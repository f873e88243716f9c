//! Builds the rooms of the edge from its configuration, one function per group, and adds their modules.
//! Only `Edge::open` calls it; it decides nothing at run time.

use super::FoundRuntime;
use super::latecomer::Latecomer;
use super::meta::Meta;
use super::metrics::Metrics;
use super::mqtt::Broker;
use super::pod::{LogOptions, PodHandle, Session};
use super::stream::{LogLines, LogRequest, MetricRequest, SessionRequest};
use super::uplink::Uplink;
use super::{device, jobs, mqtt, node, pod, servicebus, stream, uplink};
use crate::base::{BoxFuture, Exit, Failure, Module, Stop, Supervisor, now};
use crate::config::edge::{Containerd, EdgeConfig, MqttConfig, MqttMode};
use crate::cri;
use crate::host::{cni::Network, containerd, facts as machine};
use crate::store::Store;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The container runtime that pods use.
pub(super) struct PodRuntime {
    pub client: cri::Runtime,
    pub found: Option<FoundRuntime>,
    /// Name and version as the runtime tells them; empty until it has answered.
    pub version: watch::Receiver<String>,
    /// Whether it makes control groups through systemd.
    systemd: bool,
}

/// What names the foreign broker that was once found, in `kedge_state`.
const FOREIGN: (&str, &str) = ("mqtt", "foreign");

pub(super) async fn mqtt(
    config: &MqttConfig,
    store: &Store,
    supervisor: &mut Supervisor,
) -> Result<Broker, Failure> {
    let (listen, external) = match config.mode {
        _ if !config.enabled => (Vec::new(), None),
        MqttMode::Internal => (vec![own_address(&config.internal).await?], None),
        MqttMode::Both => (vec![own_address(&config.internal).await?], Some(external(config))),
        MqttMode::External => match vacancy(config, store).await? {
            Some(address) => (vec![address], None),
            None => (Vec::new(), Some(external(config))),
        },
    };
    let (broker, module) = mqtt::new(mqtt::Config { listen, external, ..mqtt::Config::default() });
    supervisor.add(module);
    Ok(broker)
}

fn external(config: &MqttConfig) -> mqtt::External {
    let tls = config.external_tls.as_ref();
    mqtt::External {
        address: config.external.clone(),
        tls: tls.map(|files| mqtt::TlsFiles {
            ca: files.ca_file.clone(),
            cert: files.cert_file.clone(),
            key: files.key_file.clone(),
        }),
        login: (config.username.clone(), config.password.clone()),
        sub_client: config.sub_client_id.clone(),
        pub_client: config.pub_client_id.clone(),
    }
}

async fn own_address(address: &str) -> Result<SocketAddr, Failure> {
    let named = address.to_owned();
    let resolved =
        tokio::task::spawn_blocking(move || named.to_socket_addrs().map(Iterator::collect::<Vec<_>>));
    let resolved = resolved.await.map_err(std::io::Error::other).and_then(|found| found);
    let first =
        resolved.and_then(|found| found.first().copied().ok_or_else(|| std::io::Error::other("no address")));
    first.map_err(|error| {
        Failure::new("KE-CONFIG-021", format!("the MQTT address {address} cannot be used"))
            .because(error)
            .fix("set modules.eventBus.mqttServerInternal to an address of this machine")
            .exit(Exit::Configuration)
    })
}

/// The external broker's address when it is of this machine's loopback and nobody serves it: the broker inside then takes
/// its place. Once a foreign broker was found there it is waited for, since after a boot it may come later than this daemon.
async fn vacancy(config: &MqttConfig, store: &Store) -> Result<Option<SocketAddr>, Failure> {
    let address = config.external.replacen("localhost", "127.0.0.1", 1).parse::<SocketAddr>();
    let Ok(address) = address else { return Ok(None) };
    if !config.stand_in || config.external_tls.is_some() || !address.ip().is_loopback() {
        return Ok(None);
    }
    let (room, key) = FOREIGN;
    let found = Value::String(address.to_string());
    if store.state(room, key).await?.as_ref() == Some(&found) {
        return Ok(None);
    }
    if std::net::TcpListener::bind(address).is_ok() {
        tracing::info!(%address, "no external MQTT broker serves; the broker inside takes its place");
        return Ok(Some(address));
    }
    store.put_state(room, key, &found).await?;
    Ok(None)
}

/// Finds or starts the container runtime; `None` when this node runs no pods.
pub(super) async fn runtime(
    config: &EdgeConfig,
    supervisor: &mut Supervisor,
) -> Result<Option<PodRuntime>, Failure> {
    if !config.edged.enabled || config.runtime.containerd == Containerd::Off {
        return Ok(None);
    }
    let endpoint = format!("unix://{}", config.edged.runtime_socket.display());
    let external = config.runtime.containerd == Containerd::External;
    let usual = config.edged.runtime_socket.as_path() == Path::new("/run/containerd/containerd.sock");
    let wanted = containerd::Config {
        endpoint: (external || !usual).then(|| endpoint.clone()),
        use_running: true,
        dir: config.runtime.dir.clone(),
        network: Network::derive(&config.runtime.dir),
    };
    let running = match containerd::start(wanted.clone()).await {
        Ok(running) => running,
        // After a boot the runtime may come later than this daemon; devices and the link need not wait for it.
        Err(failure) if external || !usual => {
            tracing::warn!(code = failure.code, error = %failure, "the container runtime does not answer yet");
            let client = cri::Runtime::new(&endpoint);
            let systemd = config.edged.cgroup_driver == "systemd";
            let (latecomer, version) = Latecomer::new(wanted, failure.code);
            supervisor.add(latecomer);
            return Ok(Some(PodRuntime { client, found: None, version, systemd }));
        }
        Err(failure) => return Err(failure),
    };
    tracing::info!(version = running.version, ours = running.ours, "the container runtime answers");
    let systemd = running.systemd;
    let found = Some(FoundRuntime { version: running.version.clone(), ours: running.ours });
    let version = watch::channel(running.version.clone()).1;
    let (client, keeper) = running.into_parts();
    supervisor.add(keeper);
    Ok(Some(PodRuntime { client, found, version, systemd }))
}

/// What every room is built from.
pub(super) struct Rooms<'a> {
    pub config: &'a EdgeConfig,
    pub store: &'a Store,
    pub meta: &'a Meta,
    pub uplink: &'a Uplink,
    /// Raised when the daemon is to end and begin anew.
    pub restart: &'a Stop,
}

impl Rooms<'_> {
    pub(super) fn pods(&self, runtime: &PodRuntime, supervisor: &mut Supervisor) -> PodHandle {
        let edged = &self.config.edged;
        // Without a configuration file this node took no edgecore's place, and gives it to none.
        let root = edged.cgroup_root.clone().filter(|_| self.config.file.is_some());
        let room = pod::Config {
            node: self.config.node.to_string(),
            runtime: runtime.client.clone(),
            groups: pod::Groups { systemd: runtime.systemd, root },
            late: runtime.found.is_none(),
            root_dir: edged.root_dir.clone(),
            log_dir: log_root(&edged.logs_dir),
            host_ip: internal_ip(self.config).to_string(),
            cluster_dns: edged.cluster_dns.clone(),
            cluster_domain: edged.cluster_domain.clone(),
        };
        let sources = Arc::new(self.meta.clone());
        let (handle, module) = pod::new(room, self.store.clone(), self.uplink.clone(), sources);
        supervisor.add(module);
        handle
    }

    pub(super) fn jobs(&self, runtime: Option<&PodRuntime>, supervisor: &mut Supervisor) -> jobs::JobsHandle {
        let means = jobs::Means {
            node: self.config.node.to_string(),
            runtime: runtime.map(|runtime| runtime.client.clone()),
            meta: self.meta.clone(),
            store: self.store.clone(),
            uplink: self.uplink.clone(),
            config_file: self.config.file.clone(),
            restart: self.restart.clone(),
        };
        let (handle, module) = jobs::new(means);
        supervisor.add(module);
        handle
    }

    pub(super) fn devices(&self, broker: &Broker, supervisor: &mut Supervisor) -> device::DeviceHandle {
        let room = device::Config { node: self.config.node.clone() };
        let (handle, module) = device::new(room, self.store.clone(), self.uplink.clone(), broker.clone());
        if self.config.device_twin.enabled {
            supervisor.add(module);
        }
        handle
    }

    pub(super) fn node(
        &self,
        runtime: Option<cri::Runtime>,
        supervisor: &mut Supervisor,
    ) -> node::NodeHandle {
        let edged = &self.config.edged;
        let room = node::Config {
            name: self.config.node.to_string(),
            internal_ip: internal_ip(self.config),
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
            question_limit: self.config.hub.question_limit,
            runtime,
        };
        let (handle, module) = node::new(room, self.store.clone(), self.meta.clone(), self.uplink.clone());
        supervisor.add(module);
        handle
    }

    pub(super) fn servicebus(&self, supervisor: &mut Supervisor) -> servicebus::ServiceBus {
        let wanted = &self.config.service_bus;
        if !wanted.enabled {
            return servicebus::ServiceBus::absent(self.uplink.clone());
        }
        let room = servicebus::Config { listen: wanted.listen, limit: wanted.limit };
        let (handle, module) = servicebus::new(room, self.store.clone(), self.uplink.clone());
        supervisor.add(module);
        handle
    }

    pub(super) fn stream(&self, pods: PodHandle, observed: stream::Observed) -> impl Module + use<> {
        let wanted = &self.config.stream;
        let agent = stream::Config {
            server: wanted.server.clone(),
            node: self.config.node.clone(),
            node_ip: internal_ip(self.config).to_string(),
            ca_file: wanted.ca_file.clone(),
            cert_file: wanted.cert_file.clone(),
            key_file: wanted.key_file.clone(),
        };
        let sessions = pods.clone();
        let edged = &self.config.edged;
        let metrics =
            Arc::new(Metrics::new(self.config.node.to_string(), edged.root_dir.clone(), pods.clone()));
        let sources = stream::Sources {
            logs: Arc::new(move |request| open_log(pods.clone(), request)),
            sessions: Arc::new(move |request| open_session(sessions.clone(), request)),
            metrics: Arc::new(move |request| measure(metrics.clone(), request)),
        };
        stream::new(agent, sources, observed)
    }
}

/// The runtime's address for a session with a container of the pod room.
fn open_session(pods: PodHandle, request: SessionRequest) -> BoxFuture<'static, Result<String, String>> {
    Box::pin(async move {
        let SessionRequest { namespace, pod, container, command, stdin, stdout, stderr, tty } = request;
        let session = Session { command, stdin, stdout, stderr, tty };
        let url = pods.session(&namespace, &pod, &container, session).await;
        url.map_err(|failure| failure.to_string())
    })
}

/// The metrics room's answer to a request.
fn measure(metrics: Arc<Metrics>, request: MetricRequest) -> BoxFuture<'static, Result<Bytes, String>> {
    Box::pin(async move { metrics.answer(&request.path, &request.query).await.map(Bytes::from) })
}

/// The pod room's logs in the form that the stream agent sends.
fn open_log(pods: PodHandle, request: LogRequest) -> BoxFuture<'static, Result<LogLines, String>> {
    Box::pin(async move {
        let since_time = request.since_time.as_deref().map(str::parse).transpose();
        let since_time = since_time.map_err(|_| "sinceTime is not an RFC 3339 time".to_owned())?;
        let ago = request.since_seconds.map(|seconds| Duration::from_secs(seconds.max(0).unsigned_abs()));
        let options = LogOptions {
            follow: request.follow,
            previous: request.previous,
            timestamps: request.timestamps,
            tail: request.tail,
            since: since_time.or_else(|| now().checked_sub(ago?).ok()),
            limit_bytes: request.limit_bytes,
        };
        let lines = pods.logs(&request.namespace, &request.pod, &request.container, options).await;
        let lines = lines.map_err(|failure| failure.to_string())?;
        Ok(lines.map(|line| line.map_err(|error| error.to_string())).boxed())
    })
}

/// The pod room appends `pods` itself, as the usual place `/var/log/pods` already has it.
fn log_root(logs_dir: &Path) -> PathBuf {
    match logs_dir.parent() {
        Some(parent) if logs_dir.ends_with("pods") => parent.to_owned(),
        _ => logs_dir.to_owned(),
    }
}

/// The node's address: as configured, or the one that the route to the cloud uses.
fn internal_ip(config: &EdgeConfig) -> IpAddr {
    config.node_ip.unwrap_or_else(|| machine::internal_ip(config.hub.websocket.parse().ok()))
}

pub(super) fn uplink_config(config: &EdgeConfig) -> uplink::Config {
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
        digests: true,
        instance: crate::base::uuid4(),
    }
}
