//! From edgecore.yaml's own form to the typed one: every value is checked, and every problem is noted by its key before
//! anything is refused. Only `edge` calls it; it reads no file.

use super::check::Checker;
use super::edge::{
    Containerd, DeviceTwinConfig, EdgeConfig, EdgedConfig, HubConfig, MqttConfig, MqttMode, MqttTls,
    RuntimeConfig, ServiceBusConfig, StreamConfig,
};
use super::edge_raw::{Raw, RawEdged, RawEventBus, RawHub, RawKedge, RawServiceBus};
use super::{Hidden, Problem, login};
use serde_json::Value;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Turns the document into the typed form; every problem is noted, `None` only when there is no form at all.
pub(super) fn check(raw: Raw, problems: &mut Vec<Problem>) -> Option<EdgeConfig> {
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
