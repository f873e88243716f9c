//! The keys of edgecore.yaml that kedge reads, as they stand in the merged document, which has all of them.
//! `edge` turns them into the typed form; nothing else sees them.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Raw {
    pub(super) database: RawDatabase,
    pub(super) modules: RawModules,
    pub(super) kedge: RawKedge,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawDatabase {
    pub(super) data_source: PathBuf,
    pub(super) driver_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawModules {
    pub(super) edged: RawEdged,
    pub(super) edge_hub: RawHub,
    pub(super) event_bus: RawEventBus,
    pub(super) meta_manager: RawMetaManager,
    pub(super) device_twin: RawDeviceTwin,
    pub(super) edge_stream: RawStream,
    pub(super) service_bus: RawServiceBus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawMetaManager {
    pub(super) remote_query_timeout: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawDeviceTwin {
    pub(super) enable: bool,
    pub(super) dmi_sock_path: PathBuf,
}

#[derive(Deserialize)]
pub(super) struct RawServiceBus {
    pub(super) enable: bool,
    pub(super) server: String,
    pub(super) port: u16,
    pub(super) timeout: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawHub {
    pub(super) enable: bool,
    pub(super) heartbeat: f64,
    pub(super) http_server: String,
    #[serde(rename = "projectID")]
    pub(super) project_id: String,
    pub(super) quic: RawEndpoint,
    pub(super) websocket: RawEndpoint,
    pub(super) rotate_certificates: bool,
    pub(super) tls_ca_file: PathBuf,
    pub(super) tls_cert_file: PathBuf,
    pub(super) tls_private_key_file: PathBuf,
    pub(super) token: String,
}

#[derive(Deserialize)]
pub(super) struct RawEndpoint {
    pub(super) enable: bool,
    pub(super) server: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawStream {
    pub(super) enable: bool,
    pub(super) server: String,
    #[serde(rename = "tlsTunnelCAFile")]
    pub(super) ca: PathBuf,
    #[serde(rename = "tlsTunnelCertFile")]
    pub(super) cert: PathBuf,
    #[serde(rename = "tlsTunnelPrivateKeyFile")]
    pub(super) key: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawEventBus {
    pub(super) enable: bool,
    pub(super) mqtt_mode: i64,
    #[serde(rename = "mqttQOS")]
    pub(super) mqtt_qos: i64,
    pub(super) mqtt_retain: bool,
    pub(super) mqtt_server_external: String,
    pub(super) mqtt_server_internal: String,
    pub(super) mqtt_session_queue_size: i64,
    pub(super) mqtt_username: String,
    pub(super) mqtt_password: String,
    #[serde(rename = "mqttSubClientID")]
    pub(super) sub_client_id: String,
    #[serde(rename = "mqttPubClientID")]
    pub(super) pub_client_id: String,
    #[serde(rename = "eventBusTLS")]
    pub(super) tls: RawMqttTls,
}

#[derive(Deserialize)]
pub(super) struct RawMqttTls {
    pub(super) enable: bool,
    #[serde(rename = "tlsMqttCAFile")]
    pub(super) ca: PathBuf,
    #[serde(rename = "tlsMqttCertFile")]
    pub(super) cert: PathBuf,
    #[serde(rename = "tlsMqttPrivateKeyFile")]
    pub(super) key: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawEdged {
    pub(super) enable: bool,
    pub(super) hostname_override: String,
    #[serde(rename = "nodeIP")]
    pub(super) node_ip: String,
    pub(super) node_labels: BTreeMap<String, Value>,
    pub(super) pod_sandbox_image: String,
    pub(super) register_schedulable: bool,
    pub(super) report_event: bool,
    pub(super) root_directory: PathBuf,
    pub(super) tailored_kubelet_config: RawKubelet,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawKubelet {
    pub(super) cgroup_driver: String,
    pub(super) cgroup_root: String,
    #[serde(rename = "cgroupsPerQOS")]
    pub(super) cgroups_per_qos: bool,
    #[serde(rename = "clusterDNS")]
    pub(super) cluster_dns: Vec<String>,
    pub(super) cluster_domain: String,
    pub(super) container_log_max_files: u32,
    pub(super) container_log_max_size: String,
    pub(super) container_runtime_endpoint: String,
    pub(super) image_service_endpoint: String,
    pub(super) eviction_hard: BTreeMap<String, Value>,
    pub(super) max_pods: i64,
    pub(super) node_lease_duration_seconds: f64,
    pub(super) node_status_report_frequency: String,
    pub(super) node_status_update_frequency: String,
    pub(super) pod_logs_dir: PathBuf,
    pub(super) read_only_port: i64,
    pub(super) register_node: bool,
    pub(super) register_with_taints: Vec<Value>,
    pub(super) resolv_conf: PathBuf,
    pub(super) runtime_request_timeout: String,
    pub(super) static_pod_path: PathBuf,
    pub(super) sync_frequency: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawKedge {
    pub(super) containerd: String,
    pub(super) runtime_dir: PathBuf,
    pub(super) cni_conf_dir: PathBuf,
    pub(super) cni_bin_dir: PathBuf,
    #[serde(rename = "podCIDR")]
    pub(super) pod_cidr: String,
    pub(super) images: Vec<PathBuf>,
    pub(super) status_socket: PathBuf,
    pub(super) stand_in_broker: bool,
}
