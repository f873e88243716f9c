//! edgecore.yaml (v1alpha2, resources.md §10) with its `kedge:` section, and the edge that `kedge up` runs.
//! `edge_default.yaml` is schema and defaults in one; the typed form below is what the edge wing reads.

use super::check::Checker;
use super::edge_raw::{Raw, RawEdged, RawEventBus, RawHub, RawKedge, RawServiceBus};
use super::survey::{Role, Survey};
use super::{Hidden, Loaded, Problem, login, merge, read_document, refuse_beside, unserved};
use crate::base::{Exit, Failure};
use crate::model::NodeName;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every key with its default, as `--defaultconfig` prints it.
pub const DEFAULT_CONFIG: &str = include_str!("edge_default.yaml");

/// What a person usually changes, as `--minconfig` prints it.
pub const MIN_CONFIG: &str = include_str!("edge_min.yaml");

/// Where `kedge edge run` looks without `--config`.
pub const DEFAULT_PATH: &str = "/etc/kubeedge/config/edgecore.yaml";

/// The join token that keadm leaves beside the configuration's directory.
const BOOTSTRAP_FILE: &str = "bootstrap-edgecore.conf";

/// Everything that the edge daemon is told.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// The file that this was read from; `None` when it was made otherwise.
    pub file: Option<PathBuf>,
    pub node: NodeName,
    pub node_ip: Option<IpAddr>,
    pub database: PathBuf,
    /// What `kedge status` asks; `None`: whoever runs this edge tells its state.
    pub status_socket: Option<PathBuf>,
    pub hub: HubConfig,
    pub edged: EdgedConfig,
    pub runtime: RuntimeConfig,
    pub mqtt: MqttConfig,
    pub device_twin: DeviceTwinConfig,
    pub service_bus: ServiceBusConfig,
    pub stream: StreamConfig,
}

/// The way to the cloud.
#[derive(Clone, Debug)]
pub struct HubConfig {
    pub enabled: bool,
    /// `host:port` of the WebSocket.
    pub websocket: String,
    /// `https://host:port` of the certificate service.
    pub http_server: String,
    pub project_id: String,
    /// Join token; empty once certificates exist.
    pub token: Hidden,
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub heartbeat: Duration,
    pub rotate_certificates: bool,
    /// How long a question to the cloud may take.
    pub question_limit: Duration,
}

/// Pods and the Node object.
#[derive(Clone, Debug)]
pub struct EdgedConfig {
    pub enabled: bool,
    /// Path of the runtime's socket.
    pub runtime_socket: PathBuf,
    pub image_socket: PathBuf,
    pub sandbox_image: String,
    pub root_dir: PathBuf,
    pub logs_dir: PathBuf,
    pub static_pod_path: Option<PathBuf>,
    pub cgroup_driver: String,
    /// The control group above a kubelet's order of pods; `None` where that order is not wanted.
    pub cgroup_root: Option<String>,
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    pub resolv_conf: PathBuf,
    pub max_pods: u32,
    pub kubelet_port: u16,
    pub report_events: bool,
    pub register_node: bool,
    pub register_schedulable: bool,
    pub register_taints: Vec<Value>,
    pub node_labels: BTreeMap<String, String>,
    pub status_update: Duration,
    pub status_report: Duration,
    pub lease_duration: Duration,
    pub sync_frequency: Duration,
    pub runtime_timeout: Duration,
    pub eviction_hard: BTreeMap<String, String>,
    pub log_max_size: String,
    pub log_max_files: u32,
}

/// Who provides the container runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Containerd {
    /// The running one, or an own one when none answers.
    #[default]
    Auto,
    /// Only the running one.
    External,
    /// No pods on this node.
    Off,
}

/// kedge's own containerd and networking for pods.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    pub containerd: Containerd,
    pub dir: PathBuf,
    pub cni_conf_dir: PathBuf,
    /// `None`: look in the usual places.
    pub cni_bin_dir: Option<PathBuf>,
    pub pod_cidr: String,
    pub images: Vec<PathBuf>,
}

/// Which MQTT brokers the edge uses (KubeEdge's `mqttMode` 0, 1, 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MqttMode {
    Internal,
    Both,
    External,
}

#[derive(Clone, Debug)]
pub struct MqttConfig {
    pub enabled: bool,
    pub mode: MqttMode,
    /// `host:port`.
    pub internal: String,
    /// `host:port`.
    pub external: String,
    /// How the external broker is reached over TLS; `None`: over TCP.
    pub external_tls: Option<MqttTls>,
    /// Whether the broker inside serves on the loopback address of an external one that is not there.
    pub stand_in: bool,
    pub qos: u8,
    pub retain: bool,
    pub session_queue: usize,
    pub username: String,
    pub password: Hidden,
    pub sub_client_id: String,
    pub pub_client_id: String,
}

/// The authority of an external broker, and the certificate that the edge shows it.
#[derive(Clone, Debug)]
pub struct MqttTls {
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

#[derive(Clone, Debug)]
pub struct DeviceTwinConfig {
    pub enabled: bool,
    pub dmi_socket: PathBuf,
}

/// The way of programs on this node to services behind the cloud's router, and back.
#[derive(Clone, Debug)]
pub struct ServiceBusConfig {
    pub enabled: bool,
    pub listen: std::net::SocketAddr,
    /// How long the cloud may take for an answer.
    pub limit: Duration,
}

/// The tunnel for logs and exec.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    pub enabled: bool,
    /// `host:port`.
    pub server: String,
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// What `kedge up` decides for its edge.
#[derive(Clone, Debug)]
pub struct UpEdge {
    pub data_dir: PathBuf,
    pub node: NodeName,
    pub cloud_host: String,
    pub websocket_port: u16,
    pub https_port: u16,
    pub stream_port: u16,
    pub mqtt_port: u16,
    pub kubelet_port: u16,
    pub token: String,
    pub labels: BTreeMap<String, String>,
}

impl EdgeConfig {
    /// Loads a file over the defaults; the failure tells all problems at once.
    pub fn load(path: &Path) -> Result<Loaded<EdgeConfig>, Failure> {
        let (file, doubt) = read_document(path).map_err(|failure| match path.exists() {
            false if failure.code == "KE-FILE-002" && !failure.why.contains("denied") => {
                failure.fix("join this machine with `kedge join`, or name the file with --config")
            }
            _ => failure,
        })?;
        let mut loaded = EdgeConfig::from_value(&file, &path.display().to_string())?;
        loaded.warnings.extend(doubt);
        loaded.config.file = Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        if loaded.config.hub.token.is_empty() {
            loaded.config.hub.token = bootstrap_token(path);
        }
        Ok(loaded)
    }

    /// Lays a document over the defaults and checks the result.
    pub fn from_value(file: &Value, name: &str) -> Result<Loaded<EdgeConfig>, Failure> {
        match examine(file)? {
            (Some(config), survey) if survey.problems.is_empty() => {
                Ok(Loaded { config, warnings: survey.warnings })
            }
            (_, survey) => Err(refuse_beside(name, &survey.problems, &survey.warnings)),
        }
    }

    /// Everything that is wrong or unknown in a file.
    pub(super) fn survey(file: &Value) -> Result<Survey, Failure> {
        examine(file).map(|(_, survey)| survey)
    }

    /// The edge inside `kedge up`: everything below `data_dir`, the cloud on this machine, the broker inside.
    pub fn for_data_dir(up: &UpEdge) -> Result<EdgeConfig, Failure> {
        let nothing = Value::Object(serde_json::Map::new());
        let mut config = EdgeConfig::from_value(&nothing, "the built-in configuration")?.config;
        let edge = up.data_dir.join("edge");
        let (ca, cert, key) =
            (edge.join("ca/rootCA.crt"), edge.join("certs/server.crt"), edge.join("certs/server.key"));
        config.node = up.node.clone();
        config.database = edge.join("edgecore.db");
        config.status_socket = Some(up.data_dir.join("kedge.sock"));
        let hub = &mut config.hub;
        hub.websocket = format!("{}:{}", up.cloud_host, up.websocket_port);
        hub.http_server = format!("https://{}:{}", up.cloud_host, up.https_port);
        hub.token = Hidden::new(up.token.clone());
        (hub.ca_file, hub.cert_file, hub.key_file) = (ca.clone(), cert.clone(), key.clone());
        let edged = &mut config.edged;
        edged.root_dir = edge.join("pods");
        edged.logs_dir = edge.join("logs");
        edged.static_pod_path = None;
        edged.kubelet_port = up.kubelet_port;
        edged.node_labels.clone_from(&up.labels);
        let runtime = &mut config.runtime;
        runtime.dir = up.data_dir.join("runtime");
        let mqtt = &mut config.mqtt;
        mqtt.mode = MqttMode::Internal;
        mqtt.internal = format!("127.0.0.1:{}", up.mqtt_port);
        config.device_twin.dmi_socket = edge.join("dmi.sock");
        config.stream = StreamConfig {
            enabled: true,
            server: format!("{}:{}", up.cloud_host, up.stream_port),
            ca_file: ca,
            cert_file: cert,
            key_file: key,
        };
        Ok(config)
    }

    /// The directory of the database.
    pub fn data_dir(&self) -> &Path {
        self.database.parent().unwrap_or(Path::new("."))
    }
}

/// The typed form, as far as there is one, and everything that was noticed on the way.
fn examine(file: &Value) -> Result<(Option<EdgeConfig>, Survey), Failure> {
    let mut document = defaults()?;
    let mut survey = Survey::default();
    if !file.is_object() && !file.is_null() {
        survey.problems.push(Problem::new("(whole file)", "", "must be a map of settings"));
        return Ok((None, survey));
    }
    let findings = merge::overlay(&mut document, file);
    survey = Survey { problems: findings.problems, warnings: findings.warnings };
    let unserved = unserved::warnings(file, &document);
    survey.warnings.retain(|unknown| !unserved.iter().any(|known| known.path == unknown.path));
    survey.warnings.extend(unserved);
    survey.problems.extend(Role::Edge.foreign(file));
    survey.problems.extend(merge::unfit::<Raw>(&mut document, &Role::Edge.defaults()?));
    let raw: Raw = match serde_json::from_value(document) {
        Ok(raw) => raw,
        Err(error) => {
            survey.problems.push(Problem::new("(whole file)", "", error.to_string()));
            return Ok((None, survey));
        }
    };
    let config = check(raw, &mut survey.problems);
    Ok((config, survey))
}

fn defaults() -> Result<Value, Failure> {
    serde_yaml::from_str(DEFAULT_CONFIG).map_err(|error| {
        Failure::new("KE-CONFIG-001", "the built-in configuration cannot be read")
            .fix("send `kedge bugreport` to the developers, with the command that was run")
            .because(error)
            .exit(Exit::Configuration)
    })
}

/// keadm writes the token to `/etc/kubeedge/bootstrap-edgecore.conf`, one level above the configuration.
fn bootstrap_token(config: &Path) -> Hidden {
    let beside = config.parent().and_then(Path::parent).map(|dir| dir.join(BOOTSTRAP_FILE));
    let content = beside.and_then(|path| crate::base::read_limited(&path, 64 << 10).ok());
    Hidden::new(content.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default().trim())
}

/// Turns the document into the typed form; every problem is noted, `None` only when there is no form at all.
fn check(raw: Raw, problems: &mut Vec<Problem>) -> Option<EdgeConfig> {
    let Raw { database, modules, kedge } = raw;
    let mut checker = Checker(problems);
    if database.driver_name != "sqlite3" {
        checker.wrong("database.driverName", &database.driver_name, "only sqlite3 works");
    }
    checker.absolute("database.dataSource", &database.data_source);
    let node = checker.node_name(&modules.edged.hostname_override);
    let node_ip = checker.optional_ip("modules.edged.nodeIP", &modules.edged.node_ip);
    let data_dir = database.data_source.parent().unwrap_or(Path::new("/")).to_owned();
    let question_limit =
        checker.seconds("modules.metaManager.remoteQueryTimeout", modules.meta_manager.remote_query_timeout);
    let config = EdgeConfig {
        file: None,
        node_ip,
        hub: hub(modules.edge_hub, question_limit, &mut checker),
        mqtt: mqtt(modules.event_bus, kedge.stand_in_broker, &mut checker),
        runtime: runtime(&kedge, &mut checker),
        edged: edged(modules.edged, &mut checker),
        service_bus: service_bus(&modules.service_bus, &mut checker),
        device_twin: DeviceTwinConfig {
            enabled: modules.device_twin.enable,
            dmi_socket: dmi_socket(&modules.device_twin.dmi_sock_path),
        },
        stream: StreamConfig {
            enabled: modules.edge_stream.enable,
            server: checker.host_port("modules.edgeStream.server", &modules.edge_stream.server),
            ca_file: modules.edge_stream.ca,
            cert_file: modules.edge_stream.cert,
            key_file: modules.edge_stream.key,
        },
        status_socket: Some(or_else(kedge.status_socket, || data_dir.join("kedge.sock"))),
        database: database.data_source,
        node: node?,
    };
    Some(config)
}

/// KubeEdge 1.22 and older name the socket, later ones its directory; the file is called the same either way.
fn dmi_socket(named: &Path) -> PathBuf {
    let dir = if named.extension().is_some_and(|end| end == "sock") { named.parent() } else { Some(named) };
    dir.unwrap_or(Path::new("/")).join("dmi.sock")
}

fn hub(raw: RawHub, question_limit: Duration, checker: &mut Checker<'_>) -> HubConfig {
    if raw.enable && !raw.websocket.enable && !raw.quic.enable {
        checker.wrong("modules.edgeHub.websocket.enable", false, "the websocket must be enabled");
    }
    if !raw.http_server.starts_with("https://") {
        checker.wrong("modules.edgeHub.httpServer", &raw.http_server, "must begin with https://");
    }
    let mut websocket = checker.host_port("modules.edgeHub.websocket.server", &raw.websocket.server);
    if raw.quic.enable && !raw.websocket.enable {
        websocket = beside_quic(&websocket, &raw.quic.server);
    }
    HubConfig {
        enabled: raw.enable,
        websocket,
        http_server: raw.http_server.trim_end_matches('/').to_owned(),
        project_id: raw.project_id,
        token: Hidden::new(raw.token),
        ca_file: raw.tls_ca_file,
        cert_file: raw.tls_cert_file,
        key_file: raw.tls_private_key_file,
        heartbeat: checker.seconds("modules.edgeHub.heartbeat", raw.heartbeat),
        rotate_certificates: raw.rotate_certificates,
        question_limit,
    }
}

/// The cloud of a node that went by QUIC only serves WebSocket on the same host; what is named for WebSocket may then be
/// a default that nobody has changed.
fn beside_quic(websocket: &str, quic: &str) -> String {
    match (quic.rsplit_once(':'), websocket.rsplit_once(':')) {
        (Some((host, _)), Some((_, port))) if !host.is_empty() => format!("{host}:{port}"),
        _ => websocket.to_owned(),
    }
}

fn mqtt(raw: RawEventBus, stand_in: bool, checker: &mut Checker<'_>) -> MqttConfig {
    let mode = match raw.mqtt_mode {
        0 => MqttMode::Internal,
        1 => MqttMode::Both,
        mode => {
            if mode != 2 {
                checker.wrong(
                    "modules.eventBus.mqttMode",
                    mode,
                    "must be 0 (internal), 1 (both) or 2 (external)",
                );
            }
            MqttMode::External
        }
    };
    let qos = u8::try_from(raw.mqtt_qos).ok().filter(|qos| *qos <= 2).unwrap_or_else(|| {
        checker.wrong("modules.eventBus.mqttQOS", raw.mqtt_qos, "must be 0, 1 or 2");
        0
    });
    let session_queue = usize::try_from(raw.mqtt_session_queue_size).unwrap_or_else(|_| {
        checker.wrong(
            "modules.eventBus.mqttSessionQueueSize",
            raw.mqtt_session_queue_size,
            "must not be negative",
        );
        100
    });
    let external_tls = if mode == MqttMode::Internal { None } else { external_tls(&raw, checker) };
    let (external, login) = broker("modules.eventBus.mqttServerExternal", &raw.mqtt_server_external, checker);
    let (internal, _of_nobody) =
        broker("modules.eventBus.mqttServerInternal", &raw.mqtt_server_internal, checker);
    let (username, password) = credentials(login, raw.mqtt_username, raw.mqtt_password);
    MqttConfig {
        enabled: raw.enable,
        external_tls,
        stand_in,
        mode,
        internal,
        external,
        qos,
        retain: raw.mqtt_retain,
        session_queue,
        username,
        password,
        sub_client_id: raw.sub_client_id,
        pub_client_id: raw.pub_client_id,
    }
}

/// The name and, where one is there, the password that stand in a broker's URL.
type Login = Option<(String, Option<Hidden>)>;

/// `host:port` of a broker, and the login that stood before it.
fn broker(path: &str, url: &str, checker: &mut Checker<'_>) -> (String, Login) {
    let (bare, login) = login::taken_apart(url);
    if login.as_ref().is_some_and(|(name, _)| name.is_empty()) {
        checker.wrong(path, url, "has no name before its @");
    }
    if bare.contains('@') {
        checker.wrong(path, url, "write /, ? and # within a password as %2F, %3F and %23");
    }
    (checker.url(path, &bare), login)
}

/// What stands in the URL goes before the settings of their own, as KubeEdge's client has it.
fn credentials(login: Login, username: String, password: String) -> (String, Hidden) {
    match login {
        Some((name, Some(given))) => (name, given),
        Some((name, None)) => (name, Hidden::new(password)),
        None => (username, Hidden::new(password)),
    }
}

fn service_bus(raw: &RawServiceBus, checker: &mut Checker<'_>) -> ServiceBusConfig {
    let server = checker.optional_ip("modules.serviceBus.server", &raw.server);
    let server = server.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    ServiceBusConfig {
        enabled: raw.enable,
        listen: std::net::SocketAddr::new(server, raw.port),
        limit: checker.seconds("modules.serviceBus.timeout", raw.timeout),
    }
}

/// The scheme says whether TLS is spoken; without an authority to check against it would protect nothing.
fn external_tls(raw: &RawEventBus, checker: &mut Checker<'_>) -> Option<MqttTls> {
    const PATH: &str = "modules.eventBus.mqttServerExternal";
    let scheme = raw.mqtt_server_external.split_once("://").map_or("tcp", |(scheme, _)| scheme);
    match scheme {
        "tcp" | "mqtt" => None,
        "ssl" | "tls" | "mqtts" | "tcps" => {
            if !raw.tls.enable {
                checker.wrong(
                    PATH,
                    &raw.mqtt_server_external,
                    "TLS needs modules.eventBus.eventBusTLS.enable",
                );
            }
            Some(MqttTls {
                ca_file: raw.tls.ca.clone(),
                cert_file: raw.tls.cert.clone(),
                key_file: raw.tls.key.clone(),
            })
        }
        _ => {
            checker.wrong(PATH, &raw.mqtt_server_external, "must begin with tcp:// or ssl://");
            None
        }
    }
}

fn runtime(raw: &RawKedge, checker: &mut Checker<'_>) -> RuntimeConfig {
    let containerd = match raw.containerd.as_str() {
        "auto" => Containerd::Auto,
        "external" => Containerd::External,
        "off" => Containerd::Off,
        other => {
            checker.wrong("kedge.containerd", other, "must be auto, external or off");
            Containerd::Auto
        }
    };
    RuntimeConfig {
        containerd,
        dir: raw.runtime_dir.clone(),
        cni_conf_dir: raw.cni_conf_dir.clone(),
        cni_bin_dir: (!raw.cni_bin_dir.as_os_str().is_empty()).then(|| raw.cni_bin_dir.clone()),
        pod_cidr: raw.pod_cidr.clone(),
        images: raw.images.clone(),
    }
}

fn edged(raw: RawEdged, checker: &mut Checker<'_>) -> EdgedConfig {
    const KUBELET: &str = "modules.edged.tailoredKubeletConfig";
    let kubelet = raw.tailored_kubelet_config;
    let at = |key: &str| format!("{KUBELET}.{key}");
    if !["cgroupfs", "systemd"].contains(&kubelet.cgroup_driver.as_str()) {
        checker.wrong(&at("cgroupDriver"), &kubelet.cgroup_driver, "must be cgroupfs or systemd");
    }
    let max_pods = u32::try_from(kubelet.max_pods).unwrap_or_else(|_| {
        checker.wrong(&at("maxPods"), kubelet.max_pods, "must not be negative");
        110
    });
    let kubelet_port = u16::try_from(kubelet.read_only_port).unwrap_or_else(|_| {
        checker.wrong(&at("readOnlyPort"), kubelet.read_only_port, "must be a port, 0 to 65535");
        0
    });
    let static_pods = kubelet.static_pod_path;
    EdgedConfig {
        enabled: raw.enable,
        runtime_socket: checker.socket(&at("containerRuntimeEndpoint"), &kubelet.container_runtime_endpoint),
        image_socket: checker.socket(&at("imageServiceEndpoint"), &kubelet.image_service_endpoint),
        sandbox_image: raw.pod_sandbox_image,
        root_dir: raw.root_directory,
        logs_dir: kubelet.pod_logs_dir,
        static_pod_path: (!static_pods.as_os_str().is_empty()).then_some(static_pods),
        cgroup_driver: kubelet.cgroup_driver,
        cgroup_root: kubelet.cgroups_per_qos.then_some(kubelet.cgroup_root),
        cluster_dns: checker.ips(&at("clusterDNS"), kubelet.cluster_dns),
        cluster_domain: kubelet.cluster_domain,
        resolv_conf: kubelet.resolv_conf,
        max_pods,
        kubelet_port,
        report_events: raw.report_event,
        register_node: kubelet.register_node,
        register_schedulable: raw.register_schedulable,
        register_taints: kubelet.register_with_taints,
        node_labels: raw.node_labels.into_iter().map(|(key, value)| (key, plain(value))).collect(),
        status_update: checker
            .duration(&at("nodeStatusUpdateFrequency"), &kubelet.node_status_update_frequency),
        status_report: checker
            .duration(&at("nodeStatusReportFrequency"), &kubelet.node_status_report_frequency),
        lease_duration: checker.seconds(&at("nodeLeaseDurationSeconds"), kubelet.node_lease_duration_seconds),
        sync_frequency: checker.duration(&at("syncFrequency"), &kubelet.sync_frequency),
        runtime_timeout: checker.duration(&at("runtimeRequestTimeout"), &kubelet.runtime_request_timeout),
        eviction_hard: kubelet.eviction_hard.into_iter().map(|(key, value)| (key, plain(value))).collect(),
        log_max_size: kubelet.container_log_max_size,
        log_max_files: kubelet.container_log_max_files,
    }
}

/// Labels written without quotes arrive as numbers or booleans; KubeEdge takes their text.
fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn or_else(path: PathBuf, default: impl FnOnce() -> PathBuf) -> PathBuf {
    if path.as_os_str().is_empty() { default() } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn load(file: Value) -> Result<Loaded<EdgeConfig>, Failure> {
        EdgeConfig::from_value(&file, "edgecore.yaml")
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let config = load(json!({"modules": {"edged": {"hostnameOverride": "n1"}}})).unwrap().config;
        assert_eq!(config.node.as_str(), "n1");
        assert_eq!(config.database, Path::new("/var/lib/kubeedge/edgecore.db"));
        assert_eq!(config.status_socket.as_deref(), Some(Path::new("/var/lib/kubeedge/kedge.sock")));
        assert_eq!(config.edged.runtime_socket, Path::new("/run/containerd/containerd.sock"));
        assert_eq!(config.edged.status_report, Duration::from_secs(300));
        assert_eq!(config.mqtt.mode, MqttMode::External);
        assert_eq!(config.mqtt.internal, "127.0.0.1:1884");
        assert_eq!(config.device_twin.dmi_socket, Path::new("/etc/kubeedge/dmi.sock"));
        assert_eq!(config.hub.question_limit, Duration::from_secs(60));
    }

    #[test]
    fn the_device_socket_is_named_alike_by_old_and_new_files() {
        let socket = |path: &str| {
            let modules = json!({"edged": {"hostnameOverride": "n1"}, "deviceTwin": {"dmiSockPath": path}});
            load(json!({"modules": modules})).unwrap().config.device_twin.dmi_socket
        };
        assert_eq!(socket("/run/a/dmi.sock"), Path::new("/run/a/dmi.sock"));
        assert_eq!(socket("/run/a/"), Path::new("/run/a/dmi.sock"));
    }

    #[test]
    fn the_small_document_loads_without_a_warning() {
        let file: Value = serde_yaml::from_str(MIN_CONFIG).unwrap();
        assert_eq!(load(file).unwrap().warnings, vec![]);
    }

    #[test]
    fn all_problems_are_told_at_once_and_unknown_keys_only_warn() {
        let file = json!({
            "database": {"dataSource": "relative.db"},
            "modules": {
                "edgeHub": {"heartbeat": "often", "httpServer": "http://x", "websocket": {"server": "nowhere"}},
                "eventBus": {"mqttMode": 7, "mqttServerIntrenal": "x"},
                "edged": {"hostnameOverride": "Bad_Name",
                    "tailoredKubeletConfig": {"cgroupDriver": "runc", "nodeStatusUpdateFrequency": "soon"}},
            },
        });
        let failure = load(file).unwrap_err();
        assert_eq!((failure.code, failure.exit), ("KE-CONFIG-002", Exit::Configuration));
        failure.is_as_committed();
        assert_eq!(failure.what, "edgecore.yaml has 8 problems");
        for part in [
            "dataSource",
            "heartbeat",
            "httpServer",
            "websocket.server",
            "mqttMode",
            "hostnameOverride",
            "cgroupDriver",
            "nodeStatusUpdateFrequency",
        ] {
            assert!(failure.why.contains(part), "{part} is missing in {}", failure.why);
        }
        let file =
            json!({"modules": {"eventBus": {"mqttServerIntrenal": "x"}, "edged": {"hostnameOverride": "a"}}});
        let warnings = load(file).unwrap().warnings;
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].nearest.as_deref(), Some("mqttServerInternal"));
    }

    #[test]
    fn a_node_that_went_by_quic_goes_by_websocket_to_the_same_host() {
        let hub = |hub: Value| {
            let file = json!({"modules": {"edged": {"hostnameOverride": "n1"}, "edgeHub": hub}});
            load(file).map(|loaded| loaded.config.hub.websocket)
        };
        let quic = json!({"enable": true, "server": "c.lan:10001"});
        let only = json!({"quic": quic, "websocket": {"enable": false}});
        assert_eq!(hub(only).unwrap(), "c.lan:10000");
        let both = json!({"quic": quic, "websocket": {"enable": true, "server": "d.lan:7"}});
        assert_eq!(hub(both).unwrap(), "d.lan:7");
        assert_eq!(
            hub(json!({"websocket": {"enable": false}})).unwrap_err().committed().code,
            "KE-CONFIG-002"
        );
    }

    #[test]
    fn a_login_in_a_brokers_url_is_the_login_and_never_shown() {
        let mqtt = |bus: Value| {
            load(json!({"modules": {"edged": {"hostnameOverride": "n1"}, "eventBus": bus}}))
                .map(|loaded| loaded.config.mqtt)
        };
        let own = json!({"mqttServerExternal": "tcp://usr:s3cret@127.0.0.1:1899", "mqttUsername": "other",
            "mqttPassword": "other"});
        let config = mqtt(own).unwrap();
        assert_eq!(config.external, "127.0.0.1:1899");
        assert_eq!((config.username.as_str(), config.password.reveal()), ("usr", "s3cret"));
        assert!(!format!("{config:?}").contains("s3cret"));
        let named = mqtt(json!({"mqttServerExternal": "usr@h:1", "mqttPassword": "other"})).unwrap();
        assert_eq!((named.username.as_str(), named.password.reveal()), ("usr", "other"));
        for wrong in
            ["tcp://usr:s3cret@h", "http://usr:s3cret@h:1", "tcp://:s3cret@h:1", "tcp://u:s3cret/x@h:1"]
        {
            let failure = mqtt(json!({"mqttServerExternal": wrong})).unwrap_err();
            assert_eq!(failure.code, "KE-CONFIG-002", "{wrong}");
            assert!(failure.why.contains("mqttServerExternal"), "{failure}");
            assert!(!failure.to_string().contains("s3cret"), "{failure}");
        }
    }

    #[test]
    fn a_missing_or_broken_file_is_a_configuration_failure() {
        let missing = EdgeConfig::load(Path::new("/nonexistent/edgecore.yaml")).unwrap_err();
        assert_eq!((missing.code, missing.exit), ("KE-FILE-002", Exit::Configuration));
        missing.is_as_committed();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edgecore.yaml");
        std::fs::write(&path, "a: [1\n").unwrap();
        assert_eq!(EdgeConfig::load(&path).unwrap_err().committed().code, "KE-CONFIG-001");
        std::fs::write(&path, "- 1").unwrap();
        assert_eq!(EdgeConfig::load(&path).unwrap_err().committed().code, "KE-CONFIG-002");
    }

    #[test]
    fn the_token_of_keadm_is_found_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("config")).unwrap();
        let path = dir.path().join("config/edgecore.yaml");
        std::fs::write(&path, "modules: {edged: {hostnameOverride: n1, nodeLabels: {a: 1, b: yes}}}")
            .unwrap();
        std::fs::write(dir.path().join(BOOTSTRAP_FILE), "se.cret\n").unwrap();
        let config = EdgeConfig::load(&path).unwrap().config;
        assert_eq!(config.hub.token.reveal(), "se.cret");
        assert!(!format!("{config:?}").contains("se.cret"));
        assert_eq!(config.edged.node_labels.get("a").map(String::as_str), Some("1"));
    }
}
