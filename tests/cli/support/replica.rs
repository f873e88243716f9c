//! Clouds and nodes that are set up by a file, beside the world's own: a cloud as `keadm init` leaves it for cloudcore, with
//! the world's API by its kubeconfig, and edges with an edgecore.yaml that run no pods.

use super::machine::free_ports;
use super::world::{Daemon, World};
use super::{Run, binary};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(40);

/// A cloud of its own beside the world's.
pub struct Replica {
    name: String,
    config: PathBuf,
    pub hub: u16,
    pub cert: u16,
}

impl Replica {
    pub fn new(world: &World, name: &str) -> Replica {
        Replica::with(world, name, |_| {})
    }

    /// With changes to the file.
    pub fn with(world: &World, name: &str, change: impl FnOnce(&mut Value)) -> Replica {
        let [hub, cert, stream, tunnel] = free_ports();
        let dir = world.dir.join(name);
        let at = |path: &str| dir.join(path).display().to_string();
        // What `keadm init` leaves for cloudcore, with places and ports of this world.
        let mut config = json!({
            "apiVersion": "cloudcore.config.kubeedge.io/v1alpha2",
            "kind": "CloudCore",
            "kubeAPIConfig": {"kubeConfig": world.kubeconfig(), "master": format!("https://127.0.0.1:{}", world.ports.api)},
            "modules": {
                "cloudHub": {
                    "advertiseAddress": ["127.0.0.1"],
                    "dnsNames": [""],
                    "nodeLimit": 1000,
                    "tlsCAFile": at("ca/rootCA.crt"),
                    "tlsCAKeyFile": at("ca/rootCA.key"),
                    "tlsCertFile": at("certs/server.crt"),
                    "tlsPrivateKeyFile": at("certs/server.key"),
                    "websocket": {"enable": true, "port": hub, "address": "127.0.0.1"},
                    "https": {"enable": true, "port": cert, "address": "127.0.0.1"},
                    "unixsocket": {"enable": true, "address": format!("unix://{}", at("kubeedge.sock"))},
                },
                "cloudStream": {"enable": false, "streamPort": stream, "tunnelPort": tunnel},
                // The rules of this machine are not a test's to change.
                "iptablesManager": {"mode": "external"},
            },
            "kedge": {"dataDir": at("data")},
        });
        change(&mut config);
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("cloudcore.yaml");
        std::fs::write(&path, config.to_string()).unwrap();
        Replica { name: name.to_owned(), config: path, hub, cert }
    }

    /// Starts it without waiting for anything.
    pub fn spawn(&self, world: &World) -> Daemon {
        let args = ["cloud", "run", "--config", self.config.to_str().unwrap()].map(str::to_owned);
        world.start(&self.name, &args)
    }

    /// Runs it with these variables of the environment until it ends by itself.
    pub fn run_with(&self, environment: &[(&str, &str)]) -> Run {
        let mut cloud = Command::new(binary());
        cloud.args(["cloud", "run", "--config", self.config.to_str().unwrap()]).stdin(Stdio::null());
        cloud.envs(environment.iter().copied()).output().unwrap().into()
    }

    /// Starts it and waits until it serves; its talk goes to `NAME.err`.
    pub fn start(&self, world: &World) -> Daemon {
        let mut cloud = self.spawn(world);
        cloud.wait_for("ready", SOON);
        cloud
    }
}

/// What a node is told by its file.
pub struct EdgeFile<'a> {
    pub node: &'a str,
    pub hub: u16,
    pub cert: u16,
    pub mqtt: u16,
    pub token: Option<&'a str>,
}

impl EdgeFile<'_> {
    /// Writes the file and starts the edge; its talk goes to `NODE.err`.
    pub fn start(&self, world: &World) -> Daemon {
        self.start_with(world, |_| {})
    }

    /// The same with changes to the file.
    pub fn start_with(&self, world: &World, change: impl FnOnce(&mut Value)) -> Daemon {
        let dir = world.dir.join(self.node);
        let at = |path: &str| dir.join(path).display().to_string();
        let mut config = json!({
            "apiVersion": "edgecore.config.kubeedge.io/v1alpha2",
            "kind": "EdgeCore",
            "database": {"dataSource": at("edgecore.db")},
            "modules": {
                "edgeHub": {
                    "httpServer": format!("https://127.0.0.1:{}", self.cert),
                    "token": self.token.unwrap_or_default(),
                    "tlsCaFile": at("ca/rootCA.crt"),
                    "tlsCertFile": at("certs/server.crt"),
                    "tlsPrivateKeyFile": at("certs/server.key"),
                    "websocket": {"enable": true, "server": format!("127.0.0.1:{}", self.hub)},
                },
                "edged": {"enable": false, "hostnameOverride": self.node},
                "eventBus": {"mqttMode": 0, "mqttServerInternal": format!("tcp://127.0.0.1:{}", self.mqtt)},
                "edgeStream": {"enable": false},
            },
        });
        change(&mut config);
        std::fs::create_dir_all(dir.join("config")).unwrap();
        let path = dir.join("config/edgecore.yaml");
        std::fs::write(&path, config.to_string()).unwrap();
        world.start(self.node, &["edge", "run", "--config", path.to_str().unwrap()].map(str::to_owned))
    }
}
