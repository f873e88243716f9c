//! What doctor looks at: which role this machine has, its configuration, its database, and the daemon if one runs.
//! Everything is found before the checks begin, so that they can run side by side.

use crate::base::{Exit, Failure};
use crate::config::cloud::{self, CloudConfig};
use crate::config::edge::{self, EdgeConfig, UpEdge};
use crate::config::{overlay, read_yaml};
use crate::daemon::edge::device::ADDRESSES;
use crate::daemon::status;
use crate::host::preflight::Wanted;
use crate::model::{Kind, NodeName};
use crate::pki::{self, Identity};
use crate::store::Reader;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What kedge is on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    Edge,
    Cloud,
}

/// What a person has said about where to look.
pub(super) struct Asked<'a> {
    pub role: Option<Role>,
    pub config: Option<&'a Path>,
    pub data_dir: &'a Path,
    pub kube_config: Option<&'a Path>,
}

/// A running daemon.
pub(super) struct Daemon {
    pub pid: Option<u32>,
    /// Its own words, as `kedge status -o json` prints them.
    pub document: Value,
}

/// Everything that checks start from.
pub(super) struct Place {
    pub role: Role,
    /// `None` when the file cannot be used, which a check of its own tells.
    pub edge: Option<EdgeConfig>,
    pub cloud: Option<CloudConfig>,
    /// The file as it is written, over the defaults; null below a data directory.
    pub document: Value,
    pub file: Option<PathBuf>,
    pub kubeconfig: Option<PathBuf>,
    pub daemon: Option<Daemon>,
    /// Where the broker of this node serves, as the daemon has noted it.
    pub broker: Option<String>,
}

impl Place {
    /// Finds out what is here; `None` when kedge was never set up on this machine.
    pub fn find(asked: &Asked<'_>) -> Result<Option<Place>, Failure> {
        if let Some(file) = asked.config {
            let role = asked.role.unwrap_or_else(|| role_of(file));
            return Place::of_file(role, file, asked).map(Some);
        }
        let below = Below::look(asked.data_dir);
        let edge_file = Path::new(edge::DEFAULT_PATH);
        let cloud_file = Path::new(cloud::DEFAULT_PATH);
        let wanted = |role| asked.role.is_none_or(|asked| asked == role);
        if below.edge && wanted(Role::Edge) {
            let edge = Place::of_edge_below(asked.data_dir)?;
            if edge.daemon.is_none() && below.cloud && wanted(Role::Cloud) {
                // A cloud that runs by itself where there once was an edge too: `kedge up`'s directory, used again.
                let cloud = Place::of_cloud_below(asked)?;
                return Ok(Some(if cloud.daemon.is_some() { cloud } else { edge }));
            }
            return Ok(Some(edge));
        }
        if edge_file.exists() && wanted(Role::Edge) {
            return Place::of_file(Role::Edge, edge_file, asked).map(Some);
        }
        if below.cloud && wanted(Role::Cloud) {
            return Ok(Some(Place::of_cloud_below(asked)?));
        }
        if cloud_file.exists() && wanted(Role::Cloud) {
            return Place::of_file(Role::Cloud, cloud_file, asked).map(Some);
        }
        if let (Some(file), true) = (asked.kube_config, wanted(Role::Cloud)) {
            return Ok(Some(Place { kubeconfig: Some(file.to_owned()), ..Place::empty(Role::Cloud) }));
        }
        Ok(None)
    }

    /// A machine on which nothing was found.
    pub fn empty(role: Role) -> Place {
        Place {
            role,
            edge: None,
            cloud: None,
            document: Value::Null,
            file: None,
            kubeconfig: None,
            daemon: None,
            broker: None,
        }
    }

    fn of_file(role: Role, file: &Path, asked: &Asked<'_>) -> Result<Place, Failure> {
        // A file that is not there or may not be read ends here; one with mistakes is a finding.
        crate::base::read_limited(file, 1 << 20).map_err(|failure| failure.exit(Exit::Unreachable))?;
        let mut place = Place { file: Some(file.to_owned()), ..Place::empty(role) };
        place.kubeconfig = asked.kube_config.map(Path::to_owned);
        match role {
            Role::Edge => {
                place.edge = EdgeConfig::load(file).ok().map(|loaded| loaded.config);
                let defaults = serde_yaml::from_str::<Value>(edge::DEFAULT_CONFIG);
                if let (Ok(mut document), Ok(own)) = (defaults, read_yaml(file)) {
                    drop(overlay(&mut document, &own));
                    place.document = document;
                }
                if let Some(config) = &place.edge {
                    place.daemon = config.status_socket.as_deref().and_then(running);
                    place.broker = noted_broker(&config.database);
                }
            }
            Role::Cloud => {
                place.cloud = CloudConfig::load(file).ok().map(|loaded| loaded.config);
                if let Some(config) = &place.cloud {
                    place.daemon = running(&config.status_socket);
                    let own = config.kubeconfig.clone();
                    place.kubeconfig = place.kubeconfig.or(own);
                }
            }
        }
        Ok(place)
    }

    /// The edge of `kedge up`, or of `kedge edge run --data-dir`. What stood on its command line is found again in what
    /// it has stored and in what it tells.
    fn of_edge_below(data_dir: &Path) -> Result<Place, Failure> {
        let mut place = Place::empty(Role::Edge);
        let dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        place.daemon = running(&dir.join("kedge.sock")).map(|mut daemon| {
            if let Some(edge) = daemon.document.get_mut("edge") {
                daemon.document = edge.take();
            }
            daemon
        });
        let told = |pointer: &str| {
            let document = place.daemon.as_ref().map(|daemon| &daemon.document);
            document.and_then(|document| document.pointer(pointer)?.as_str()).map(str::to_owned)
        };
        let database = dir.join("edge/edgecore.db");
        let name = told("/node/name").or_else(|| stored_name(&database)).or_else(|| certified_name(&dir));
        let node = name.and_then(|name| NodeName::new(name).ok());
        let remote = told("/link/remote");
        let (host, port) =
            remote.as_deref().and_then(|remote| remote.rsplit_once(':')).unwrap_or(("127.0.0.1", "10000"));
        let up = UpEdge {
            data_dir: dir,
            node: node.unwrap_or_else(NodeName::unknown),
            cloud_host: host.to_owned(),
            websocket_port: port.parse().unwrap_or(10000),
            https_port: 10002,
            stream_port: 10004,
            mqtt_port: 1883,
            kubelet_port: 10350,
            token: String::new(),
            labels: BTreeMap::new(),
        };
        let mut config = EdgeConfig::for_data_dir(&up)?;
        place.broker = noted_broker(&database);
        if let Some(address) = &place.broker {
            config.mqtt.internal.clone_from(address);
        }
        place.edge = Some(config);
        Ok(place)
    }

    fn of_cloud_below(asked: &Asked<'_>) -> Result<Place, Failure> {
        let mut place = Place::empty(Role::Cloud);
        let dir = std::path::absolute(asked.data_dir).unwrap_or_else(|_| asked.data_dir.to_owned());
        let mut config = CloudConfig::for_data_dir(&dir, cloud::CloudPorts::default())?;
        let mut sockets = vec![config.status_socket.clone(), dir.join("kedge.sock")];
        place.daemon = sockets.drain(..).find_map(|socket| running(&socket)).and_then(|mut daemon| {
            if let Some(cloud) = daemon.document.get_mut("cloud") {
                daemon.document = cloud.take();
            }
            (daemon.document.get("role") == Some(&Value::from("cloud"))).then_some(daemon)
        });
        if let Some(daemon) = &place.daemon {
            let address =
                |name: &str| daemon.document.pointer(&format!("/listen/{name}"))?.as_str()?.parse().ok();
            config.hub.websocket = address("websocket").unwrap_or(config.hub.websocket);
            config.hub.https = address("https").unwrap_or(config.hub.https);
        }
        place.kubeconfig = asked.kube_config.map(Path::to_owned).or(config.kubeconfig.clone());
        place.cloud = Some(config);
        Ok(place)
    }

    /// What this machine must have for its role.
    pub fn wanted(&self) -> Wanted {
        let wanted = match (self.role, &self.edge, &self.cloud) {
            (Role::Edge, Some(config), _) => Wanted::of_edge(config),
            (Role::Edge, None, _) => Wanted::edge(),
            (Role::Cloud, _, Some(config)) => Wanted::of_cloud(config),
            (Role::Cloud, _, None) => Wanted::cloud(),
        };
        Wanted { config: self.file.clone(), ..wanted }
    }

    /// A text of the running daemon's document; empty when there is none.
    pub fn told(&self, pointer: &str) -> &str {
        let document = self.daemon.as_ref().map(|daemon| &daemon.document);
        document.and_then(|document| document.pointer(pointer)?.as_str()).unwrap_or("")
    }
}

/// What a data directory holds.
struct Below {
    edge: bool,
    cloud: bool,
}

impl Below {
    fn look(dir: &Path) -> Below {
        Below {
            edge: dir.join("edge/edgecore.db").is_file(),
            cloud: dir.join("cloud").is_dir() && dir.join("kubeconfig").is_file(),
        }
    }
}

fn role_of(file: &Path) -> Role {
    let document = read_yaml(file).unwrap_or_default();
    let text = |field: &str| document.get(field).and_then(Value::as_str).unwrap_or("").to_lowercase();
    let cloud = text("kind") == "cloudcore" || text("apiVersion").starts_with("cloudcore");
    if cloud || file.ends_with("cloudcore.yaml") { Role::Cloud } else { Role::Edge }
}

fn running(socket: &Path) -> Option<Daemon> {
    let document = status::ask(socket).ok()?;
    Some(Daemon { pid: status::holder(socket), document })
}

fn noted_broker(database: &Path) -> Option<String> {
    let (room, key) = ADDRESSES;
    let states = Reader::open(database).ok()?.states(room).ok()?;
    states
        .iter()
        .find(|(name, _)| name == key)
        .and_then(|(_, value)| value.get(0)?.as_str().map(str::to_owned))
}

fn stored_name(database: &Path) -> Option<String> {
    let nodes = Reader::open(database).ok()?.objects(Kind::Node).ok()?;
    nodes.first().map(|(key, _)| key.name.clone())
}

fn certified_name(dir: &Path) -> Option<String> {
    let certs = dir.join("edge/certs");
    let identity = Identity::load(&certs.join("server.crt"), &certs.join("server.key")).ok()?;
    identity.facts()?.peer.common_name.strip_prefix("system:node:").map(str::to_owned)
}

/// The certificate and key of an edge, and its authority.
pub(super) struct Papers {
    pub identity: Result<Identity, Failure>,
    pub ca_pem: Result<String, Failure>,
}

/// Reads the files that a node shows the cloud.
pub(super) fn papers(config: &EdgeConfig) -> Papers {
    let hub = &config.hub;
    let ca = crate::base::read_limited(&hub.ca_file, 256 << 10);
    let ca = ca.and_then(|bytes| String::from_utf8(bytes).map_err(|_| pki::not_text(&hub.ca_file)));
    let ca = ca.and_then(|pem| pki::certificates_of(&pem).map(|_| pem));
    Papers { identity: Identity::load(&hub.cert_file, &hub.key_file), ca_pem: ca }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(data_dir: &Path) -> Asked<'_> {
        Asked { role: None, config: None, data_dir, kube_config: None }
    }

    #[test]
    fn a_data_directory_is_found_by_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge/edgecore.db");
        drop(crate::store::Store::open(&path).unwrap());
        let place = Place::find(&asked(dir.path())).unwrap().unwrap();
        assert_eq!(place.role, Role::Edge);
        assert_eq!(place.edge.unwrap().database, path);
        assert!(place.daemon.is_none());
    }

    #[tokio::test]
    async fn a_cloud_that_runs_is_looked_at_before_an_edge_that_once_ran() {
        use crate::base::{Module, Ready, Stop};
        let dir = tempfile::tempdir().unwrap();
        drop(crate::store::Store::open(dir.path().join("edge/edgecore.db")).unwrap());
        std::fs::create_dir_all(dir.path().join("cloud")).unwrap();
        std::fs::write(dir.path().join("kubeconfig"), "").unwrap();
        let place = dir.path().to_owned();
        let found = move || Place::find(&asked(&place)).unwrap().unwrap().role;
        assert_eq!(found(), Role::Edge, "neither runs");
        let config = CloudConfig::for_data_dir(dir.path(), cloud::CloudPorts::default()).unwrap();
        let facts: status::Facts =
            std::sync::Arc::new(|| Box::pin(async { serde_json::json!({"role": "cloud"}) }));
        let mut socket = status::StatusSocket::new(config.status_socket.clone(), facts);
        let stop = Stop::new();
        let look = async {
            while !config.status_socket.exists() {
                tokio::task::yield_now().await;
            }
            let role = tokio::task::spawn_blocking(found).await.unwrap();
            stop.raise();
            role
        };
        let (ended, role) = tokio::join!(socket.run(stop.clone(), Ready::detached("status")), look);
        assert_eq!((ended, role), (Ok(()), Role::Cloud));
    }

    #[test]
    fn a_file_says_its_role_and_its_mistakes_do_not_end_the_look() {
        let dir = tempfile::tempdir().unwrap();
        let cloud = dir.path().join("c.yaml");
        std::fs::write(&cloud, "kind: CloudCore\nmodules: {cloudHub: {nodeLimit: x}}\n").unwrap();
        let place = Place::find(&Asked { config: Some(&cloud), ..asked(dir.path()) }).unwrap().unwrap();
        assert!(place.role == Role::Cloud && place.cloud.is_none());
        let absent = dir.path().join("absent.yaml");
        let failure = Place::find(&Asked { config: Some(&absent), ..asked(dir.path()) }).err().unwrap();
        assert_eq!(failure.exit, Exit::Unreachable);
    }
}
