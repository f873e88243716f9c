//! edgecore.yaml (v1alpha2, resources.md §10) with its `kedge:` section, and the edge that `kedge up` runs.
//! `edge_default.yaml` is schema and defaults in one; the typed form below is what the edge wing reads.

use super::edge_check::check;
use super::edge_raw::Raw;
use super::survey::{Role, Survey};
use super::{Hidden, Loaded, Problem, merge, read_document, refuse_beside, unserved};
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
