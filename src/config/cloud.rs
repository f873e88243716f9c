//! cloudcore.yaml (resources.md §9) with its `kedge:` section, and the cloud that `kedge up` runs.
//! `cloud_default.yaml` is schema and defaults in one; the typed form below is what the cloud wing reads.

use super::check::{Checker, api_url};
use super::survey::{Role, Survey};
use super::{Loaded, Problem, merge, read_document, refuse_beside};
use crate::base::Failure;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every key with its default, as `--defaultconfig` prints it.
pub const DEFAULT_CONFIG: &str = include_str!("cloud_default.yaml");

/// What a person usually changes, as `--minconfig` prints it.
pub const MIN_CONFIG: &str = include_str!("cloud_min.yaml");

/// Where `kedge cloud run` looks without `--config`.
pub const DEFAULT_PATH: &str = "/etc/kubeedge/config/cloudcore.yaml";

/// Everything that the cloud daemon is told.
#[derive(Clone, Debug)]
pub struct CloudConfig {
    /// `None`: the service account of the pod that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// Overrides the server of the kubeconfig; empty keeps it.
    pub master: String,
    pub data_dir: PathBuf,
    pub status_socket: PathBuf,
    pub hub: HubConfig,
    pub stream: StreamConfig,
    pub router: RouterConfig,
    pub api: ApiConfig,
    pub install_crds: bool,
    /// Whether requests of nodes' local APIs are carried out.
    pub dynamic: bool,
    /// Jobs are those of v1alpha1, as KubeEdge's feature gate disableNodeTaskV1alpha2 has it.
    pub stage_jobs: bool,
    /// Where storage drivers hand in volume operations.
    pub volume_socket: Option<PathBuf>,
    /// Where the kedge binaries lie that nodes may upgrade to: `VERSION/ARCHITECTURE/kedge` and its `.sig`.
    pub releases: PathBuf,
    /// Authorities of image registries beside the system's.
    pub registry_ca: Option<PathBuf>,
}

/// Where nodes connect, and what they get.
#[derive(Clone, Debug)]
pub struct HubConfig {
    pub websocket: SocketAddr,
    pub https: SocketAddr,
    pub node_limit: usize,
    /// Nodes are held to what is theirs; otherwise what would be refused is logged only.
    pub authorize: bool,
    pub keepalive: Duration,
    /// Addresses that nodes use; they go into the server certificate.
    pub advertise: Vec<String>,
    pub dns_names: Vec<String>,
    pub ca_file: PathBuf,
    pub ca_key_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// How long node certificates are valid.
    pub certificate_life: Duration,
    pub token_refresh: Duration,
}

/// The kubelet API for kube-apiserver, and the tunnels of the nodes.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    pub enabled: bool,
    pub stream: SocketAddr,
    pub tunnel: SocketAddr,
    /// Client certificates must come from this authority.
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// Make the authority and the certificate where they are missing.
    pub own_ca: bool,
    /// Where the files are missing, show the cloud's own certificate and let callers in as the cluster allows it.
    pub from_cluster: bool,
    /// Who keeps the rules that lead an API server's connections for nodes to the cloud.
    pub lead: Lead,
}

/// Who keeps nat rules for the way from an API server to the cloud (`modules.iptablesManager`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead {
    Nobody,
    /// The cloud, on its own machine.
    Cloud,
    /// `kedge cloud forward`, beside each API server.
    Beside,
}

impl StreamConfig {
    /// Whether the way of API servers to nodes is somebody else's to keep.
    pub fn is_led_beside(&self) -> bool {
        self.enabled && self.lead == Lead::Beside
    }
}

/// Rules between nodes and HTTP services.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    pub enabled: bool,
    pub listen: SocketAddr,
    /// How long a service may take for its answer.
    pub limit: Duration,
}

/// The Kubernetes API inside the process.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    pub embedded: bool,
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
}

/// The ports of `kedge up`'s cloud, all on loopback; 0 takes a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloudPorts {
    pub api: u16,
    pub websocket: u16,
    pub https: u16,
    pub stream: u16,
    pub tunnel: u16,
}

impl Default for CloudPorts {
    fn default() -> Self {
        CloudPorts { api: 6443, websocket: 10000, https: 10002, stream: 10003, tunnel: 10004 }
    }
}

impl CloudConfig {
    /// Loads a file over the defaults; the failure tells all problems at once.
    pub fn load(path: &Path) -> Result<Loaded<CloudConfig>, Failure> {
        let (file, doubt) = read_document(path)?;
        let mut loaded = CloudConfig::from_value(&file, &path.display().to_string())?;
        loaded.warnings.extend(doubt);
        Ok(loaded)
    }

    /// Lays a document over the defaults and checks the result.
    pub fn from_value(file: &Value, name: &str) -> Result<Loaded<CloudConfig>, Failure> {
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

    /// The cloud inside `kedge up`: everything below `data_dir`, loopback only, the API embedded.
    pub fn for_data_dir(data_dir: &Path, ports: CloudPorts) -> Result<CloudConfig, Failure> {
        let nothing = Value::Object(serde_json::Map::new());
        let mut config = CloudConfig::from_value(&nothing, "the built-in configuration")?.config;
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let cloud = data_dir.join("cloud");
        config.kubeconfig = Some(data_dir.join("kubeconfig"));
        config.data_dir.clone_from(&cloud);
        config.status_socket = cloud.join("kedge.sock");
        config.install_crds = true;
        config.releases = data_dir.join("releases");
        config.volume_socket = Some(cloud.join("kubeedge.sock"));
        config.api =
            ApiConfig { embedded: true, listen: loopback(ports.api), data_dir: data_dir.join("api") };
        let hub = &mut config.hub;
        hub.websocket = loopback(ports.websocket);
        hub.https = loopback(ports.https);
        hub.advertise = vec!["127.0.0.1".to_owned()];
        (hub.ca_file, hub.ca_key_file) = (cloud.join("ca/rootCA.crt"), cloud.join("ca/rootCA.key"));
        (hub.cert_file, hub.key_file) = (cloud.join("certs/server.crt"), cloud.join("certs/server.key"));
        config.stream = StreamConfig {
            enabled: true,
            stream: loopback(ports.stream),
            tunnel: loopback(ports.tunnel),
            ca_file: cloud.join("ca/streamCA.crt"),
            cert_file: cloud.join("certs/stream.crt"),
            key_file: cloud.join("certs/stream.key"),
            own_ca: true,
            from_cluster: false,
            lead: Lead::Nobody,
        };
        Ok(config)
    }

    /// Makes the API part of the process, with its kubeconfig in the data directory.
    pub fn embed(&mut self) {
        self.api.embedded = true;
        self.install_crds = true;
        self.kubeconfig = Some(self.data_dir.join("kubeconfig"));
        self.master.clear();
        self.stream.enabled = true;
        self.stream.own_ca = true;
        let below = |path: &PathBuf| self.data_dir.join(path.strip_prefix("/etc/kubeedge").unwrap_or(path));
        self.stream.ca_file = below(&self.stream.ca_file);
        self.stream.cert_file = below(&self.stream.cert_file);
        self.stream.key_file = below(&self.stream.key_file);
    }

    /// The book of join tokens that this daemon checks against.
    pub fn token_book(&self) -> PathBuf {
        self.data_dir.join("tokens.json")
    }
}

/// The typed form, as far as there is one, and everything that was noticed on the way.
fn examine(file: &Value) -> Result<(Option<CloudConfig>, Survey), Failure> {
    let mut document = Role::Cloud.defaults()?;
    let mut survey = Survey::default();
    if !file.is_object() && !file.is_null() {
        survey.problems.push(Problem::new("(whole file)", "", "must be a map of settings"));
        return Ok((None, survey));
    }
    let findings = merge::overlay(&mut document, file);
    survey = Survey { problems: findings.problems, warnings: findings.warnings };
    survey.problems.extend(Role::Cloud.foreign(file));
    survey.problems.extend(merge::unfit::<Raw>(&mut document, &Role::Cloud.defaults()?));
    let raw: Raw = match serde_json::from_value(document) {
        Ok(raw) => raw,
        Err(error) => {
            survey.problems.push(Problem::new("(whole file)", "", error.to_string()));
            return Ok((None, survey));
        }
    };
    let config = check(raw, &mut survey.problems);
    Ok((Some(config), survey))
}

fn check(raw: Raw, problems: &mut Vec<Problem>) -> CloudConfig {
    let Raw { kube, modules, gates, kedge } = raw;
    let mut checker = Checker(problems);
    let kubeconfig = Some(kube.kube_config).filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = &kubeconfig {
        checker.absolute("kubeAPIConfig.kubeConfig", path);
    }
    if !kube.master.is_empty()
        && let Err(wrong) = api_url(&kube.master)
    {
        checker.wrong("kubeAPIConfig.master", &kube.master, wrong);
    }
    checker.absolute("kedge.dataDir", &kedge.data_dir);
    checker.absolute("kedge.releases", &kedge.releases);
    let registry_ca = Some(kedge.registry_ca).filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = &registry_ca {
        checker.absolute("kedge.registryCAFile", path);
    }
    let hub = modules.cloud_hub;
    if !hub.enable || !hub.websocket.enable || !hub.https.enable {
        checker.wrong(
            "modules.cloudHub",
            "enable: false",
            "cloudHub, its websocket and its https must be enabled",
        );
    }
    if hub.quic.enable {
        checker.wrong("modules.cloudHub.quic.enable", true, "kedge serves nodes by websocket only");
    }
    if hub.edge_cert_signing_duration == 0 {
        checker.wrong("modules.cloudHub.edgeCertSigningDuration", 0, "must be more than 0 days");
    }
    let hours = hub.token_refresh_duration;
    if hours == 0 {
        checker.wrong("modules.cloudHub.tokenRefreshDuration", hours, "must be more than 0 hours");
    }
    let volume_socket = volume_socket(&mut checker, &hub.unixsocket, &kedge.data_dir);
    let stream = modules.cloud_stream;
    let router = modules.router;
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let mut config = CloudConfig {
        kubeconfig,
        master: kube.master,
        status_socket: kedge.data_dir.join("kedge.sock"),
        install_crds: kedge.install_crds,
        dynamic: modules.dynamic_controller.enable,
        stage_jobs: gates.get("disableNodeTaskV1alpha2") == Some(&Value::Bool(true)),
        volume_socket,
        releases: kedge.releases,
        registry_ca,
        hub: HubConfig {
            websocket: listen(&mut checker, "modules.cloudHub.websocket.address", &hub.websocket),
            https: listen(&mut checker, "modules.cloudHub.https.address", &hub.https),
            node_limit: hub.node_limit,
            authorize: authorizes(&mut checker, &hub.authorization),
            keepalive: checker.seconds("modules.cloudHub.keepaliveInterval", hub.keepalive_interval),
            advertise: checker.ips("modules.cloudHub.advertiseAddress", hub.advertise_address),
            dns_names: hub.dns_names.into_iter().filter(|name| !name.is_empty()).collect(),
            ca_file: hub.tls_ca_file,
            ca_key_file: hub.tls_ca_key_file,
            cert_file: hub.tls_cert_file,
            key_file: hub.tls_private_key_file,
            certificate_life: Duration::from_secs(u64::from(hub.edge_cert_signing_duration) * 86_400),
            token_refresh: Duration::from_secs(u64::from(hours) * 3600),
        },
        stream: StreamConfig {
            enabled: stream.enable,
            stream: SocketAddr::new(any, stream.stream_port),
            tunnel: SocketAddr::new(any, stream.tunnel_port),
            ca_file: stream.tls_stream_ca_file,
            cert_file: stream.tls_stream_cert_file,
            key_file: stream.tls_stream_private_key_file,
            own_ca: kedge.own_stream_ca,
            from_cluster: kedge.stream_from_cluster,
            lead: leads(&mut checker, &modules.iptables_manager),
        },
        router: RouterConfig {
            enabled: router.enable,
            listen: listen(
                &mut checker,
                "modules.router.address",
                &RawListen { enable: router.enable, address: router.address, port: router.port },
            ),
            limit: checker.seconds("modules.router.restTimeout", router.rest_timeout),
        },
        api: ApiConfig {
            embedded: kedge.embedded,
            listen: kedge.api_listen.parse().unwrap_or_else(|_| {
                checker.wrong("kedge.apiListen", &kedge.api_listen, "must be IP:port");
                SocketAddr::new(any, 0)
            }),
            data_dir: kedge.data_dir.join("api"),
        },
        data_dir: kedge.data_dir,
    };
    distinct(&mut checker, &config);
    if kedge.embedded {
        config.embed();
    }
    config
}

/// Every server has a port of its own.
fn distinct(checker: &mut Checker<'_>, config: &CloudConfig) {
    let mut all = vec![
        ("modules.cloudHub.websocket.port", config.hub.websocket),
        ("modules.cloudHub.https.port", config.hub.https),
    ];
    if config.stream.enabled {
        all.push(("modules.cloudStream.streamPort", config.stream.stream));
        all.push(("modules.cloudStream.tunnelPort", config.stream.tunnel));
    }
    if config.router.enabled {
        all.push(("modules.router.port", config.router.listen));
    }
    let mut seen: Vec<(&str, SocketAddr)> = Vec::new();
    for (path, at) in all {
        let same = |other: &SocketAddr| {
            let any = at.ip().is_unspecified() || other.ip().is_unspecified();
            at.port() == other.port() && (any || at.ip() == other.ip())
        };
        if at.port() == 0 {
            checker.wrong(path, 0, "must be a port, 1 to 65535");
        } else if let Some((other, _)) = seen.iter().find(|(_, other)| same(other)) {
            checker.wrong(path, at.port(), &format!("is also that of {other}"));
        }
        seen.push((path, at));
    }
}

/// `enable: false` and `debug: true` both mean that refusals are logged only, as they do in KubeEdge.
fn authorizes(checker: &mut Checker<'_>, raw: &RawAuthorization) -> bool {
    let by_node = |mode: &RawMode| mode.node.as_ref().is_some_and(|node| node.enable);
    if raw.enable && !raw.modes.iter().any(by_node) {
        let wrong = "must enable node: there is no other mode";
        checker.wrong("modules.cloudHub.authorization.modes", raw.modes.len(), wrong);
    }
    raw.enable && !raw.debug
}

/// KubeEdge refuses another mode than these two, and so is it here.
fn leads(checker: &mut Checker<'_>, raw: &RawIptables) -> Lead {
    match raw.mode.as_str() {
        "internal" | "external" if !raw.enable => Lead::Nobody,
        "internal" => Lead::Cloud,
        "external" => Lead::Beside,
        other => {
            checker.wrong("modules.iptablesManager.mode", other, "must be internal or external");
            Lead::Nobody
        }
    }
}

/// The usual socket follows a data directory that is not the usual one.
fn volume_socket(checker: &mut Checker<'_>, raw: &RawSocket, data_dir: &Path) -> Option<PathBuf> {
    const USUAL: &str = "unix:///var/lib/kubeedge/kubeedge.sock";
    if !raw.enable {
        return None;
    }
    if raw.address == USUAL && !data_dir.starts_with("/var/lib/kubeedge") {
        return Some(data_dir.join("kubeedge.sock"));
    }
    let path = raw.address.strip_prefix("unix://").map(PathBuf::from);
    if path.as_ref().is_none_or(|path| !path.is_absolute()) {
        checker.wrong(
            "modules.cloudHub.unixsocket.address",
            &raw.address,
            "must be unix:// and an absolute path",
        );
    }
    path
}

fn listen(checker: &mut Checker<'_>, path: &str, raw: &RawListen) -> SocketAddr {
    let address = raw.address.parse().unwrap_or_else(|_| {
        checker.wrong(path, &raw.address, "must be an IP address");
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    });
    SocketAddr::new(address, raw.port)
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "kubeAPIConfig")]
    kube: RawKube,
    modules: RawModules,
    #[serde(rename = "featureGates")]
    gates: BTreeMap<String, Value>,
    kedge: RawKedge,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawKube {
    master: String,
    kube_config: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawModules {
    cloud_hub: RawHub,
    cloud_stream: RawStream,
    dynamic_controller: RawSwitch,
    router: RawRouter,
    iptables_manager: RawIptables,
}

#[derive(Deserialize)]
struct RawIptables {
    enable: bool,
    mode: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHub {
    enable: bool,
    keepalive_interval: f64,
    node_limit: usize,
    authorization: RawAuthorization,
    #[serde(rename = "tlsCAFile")]
    tls_ca_file: PathBuf,
    #[serde(rename = "tlsCAKeyFile")]
    tls_ca_key_file: PathBuf,
    tls_cert_file: PathBuf,
    tls_private_key_file: PathBuf,
    advertise_address: Vec<String>,
    dns_names: Vec<String>,
    edge_cert_signing_duration: u32,
    token_refresh_duration: u32,
    quic: RawSwitch,
    unixsocket: RawSocket,
    websocket: RawListen,
    https: RawListen,
}

#[derive(Deserialize)]
struct RawSocket {
    enable: bool,
    address: String,
}

#[derive(Deserialize)]
struct RawAuthorization {
    enable: bool,
    debug: bool,
    modes: Vec<RawMode>,
}

#[derive(Deserialize)]
struct RawMode {
    node: Option<RawSwitch>,
}

#[derive(Deserialize)]
struct RawSwitch {
    enable: bool,
}

#[derive(Deserialize)]
struct RawListen {
    enable: bool,
    address: String,
    port: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRouter {
    enable: bool,
    address: String,
    port: u16,
    rest_timeout: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawStream {
    enable: bool,
    tunnel_port: u16,
    stream_port: u16,
    #[serde(rename = "tlsStreamCAFile")]
    tls_stream_ca_file: PathBuf,
    tls_stream_cert_file: PathBuf,
    tls_stream_private_key_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawKedge {
    data_dir: PathBuf,
    releases: PathBuf,
    #[serde(rename = "registryCAFile")]
    registry_ca: PathBuf,
    embedded: bool,
    api_listen: String,
    #[serde(rename = "installCRDs")]
    install_crds: bool,
    #[serde(rename = "ownStreamCA")]
    own_stream_ca: bool,
    stream_from_cluster: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Exit;
    use serde_json::json;

    #[test]
    fn defaults_and_the_minimal_document_are_accepted() {
        let config = CloudConfig::from_value(&json!({}), "x").unwrap().config;
        assert_eq!(config.hub.websocket.port(), 10000);
        assert_eq!(config.hub.token_refresh, Duration::from_secs(12 * 3600));
        assert_eq!(config.kubeconfig, None);
        let minimal: Value = serde_yaml::from_str(MIN_CONFIG).unwrap();
        let loaded = CloudConfig::from_value(&minimal, "min").unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert_eq!(loaded.config.hub.node_limit, 1000);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let file = json!({"kubeAPIConfig": {"kubeConfig": "relative"}, "modules": {"cloudHub": {
            "websocket": {"address": "nowhere"}, "nodeLimitt": 5, "tokenRefreshDuration": 0}}});
        let failure = CloudConfig::from_value(&file, "cloudcore.yaml").unwrap_err();
        assert_eq!(failure.what, "cloudcore.yaml has 3 problems");
        assert_eq!(failure.exit, Exit::Configuration);
        let text = "modules: {cloudHub: {nodeLimit: -5, keepaliveInterval: 99999999999999999999, \
            websocket: {port: 99999}, advertiseAddress: [x y], authorization: {modes: [1]}}}";
        let file = crate::config::yaml(text.as_bytes()).unwrap();
        let failure = CloudConfig::from_value(&file, "cloudcore.yaml").unwrap_err();
        assert_eq!(failure.what, "cloudcore.yaml has 5 problems");
        for told in [
            "modules.cloudHub.nodeLimit = -5: must be a whole number from 0",
            "modules.cloudHub.keepaliveInterval = 1",
            "modules.cloudHub.websocket.port = 99999: must be a whole number from 0 to 65535",
            "modules.cloudHub.advertiseAddress = x y: must be an IP address",
            "modules.cloudHub.authorization.modes = [1]: must be of the same form",
        ] {
            assert!(failure.why.contains(told), "{told} in {}", failure.why);
        }
        assert!(!failure.why.contains("usize") && !failure.why.contains("u16"), "{}", failure.why);
    }

    #[test]
    fn every_server_has_a_port_of_its_own() {
        let told = |file: Value| match CloudConfig::from_value(&file, "x") {
            Ok(_) => String::new(),
            Err(failure) => failure.why,
        };
        let hub = |https: Value| json!({"modules": {"cloudHub": {"https": https}}});
        assert_eq!(
            told(hub(json!({"port": 10000}))),
            "modules.cloudHub.https.port = 10000: is also that of modules.cloudHub.websocket.port"
        );
        assert_eq!(
            told(hub(json!({"port": 0}))),
            "modules.cloudHub.https.port = 0: must be a port, 1 to 65535"
        );
        // What is switched off needs none.
        let stream =
            |enable: bool| json!({"modules": {"cloudStream": {"enable": enable, "tunnelPort": 10000}}});
        assert_eq!(told(stream(false)), "");
        assert!(told(stream(true)).contains("tunnelPort"));
        let apart = json!({"modules": {"cloudHub": {"https": {"address": "127.0.0.1", "port": 10000},
            "websocket": {"address": "127.0.0.2"}}}});
        assert_eq!(told(apart), "");
    }

    #[test]
    fn the_api_is_named_by_a_url() {
        let master = |text: &str| {
            let file = json!({"kubeAPIConfig": {"master": text}});
            CloudConfig::from_value(&file, "x").map(|loaded| loaded.config.master)
        };
        assert_eq!(master(""), Ok(String::new()));
        assert_eq!(master("https://10.0.0.5:6443").unwrap(), "https://10.0.0.5:6443");
        let failure = master("nonsense").unwrap_err();
        assert_eq!((failure.code, failure.exit), ("KE-CONFIG-002", Exit::Configuration));
        assert!(
            failure.why.contains("kubeAPIConfig.master = nonsense: must begin with https://"),
            "{failure}"
        );
    }

    #[test]
    fn authorization_is_on_unless_it_is_switched_off() {
        let authorize = |settings: Value| {
            let file = json!({"modules": {"cloudHub": {"authorization": settings}}});
            CloudConfig::from_value(&file, "x").map(|loaded| loaded.config.hub.authorize)
        };
        assert_eq!(authorize(json!({})), Ok(true));
        assert_eq!(authorize(json!({"enable": true})), Ok(true));
        assert_eq!(authorize(json!({"enable": false})), Ok(false));
        assert_eq!(authorize(json!({"debug": true})), Ok(false));
        let modes = json!([{"node": {"enable": false}}]);
        assert_eq!(authorize(json!({"enable": false, "modes": modes})), Ok(false));
        assert_eq!(authorize(json!({"modes": modes})).unwrap_err().exit, Exit::Configuration);
    }

    #[test]
    fn the_engine_of_jobs_is_chosen_by_kubeedges_feature_gate() {
        let stages = |gates: Value| {
            CloudConfig::from_value(&json!({"featureGates": gates}), "x").unwrap().config.stage_jobs
        };
        assert!(!stages(json!({})) && !stages(json!({"disableNodeTaskV1alpha2": false})));
        assert!(stages(json!({"disableNodeTaskV1alpha2": true, "requireAuthorization": true})));
    }

    #[test]
    fn a_data_directory_holds_everything() {
        let config = CloudConfig::for_data_dir(Path::new("/d"), CloudPorts::default()).unwrap();
        assert!(config.hub.https.ip().is_loopback() && config.stream.tunnel.ip().is_loopback());
        assert!(config.token_book().starts_with("/d/cloud"));
        assert!(config.api.embedded && config.install_crds);
    }
}
