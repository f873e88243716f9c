//! `kedge cloud run --config cloudcore.yaml` with a kubeconfig, beside the process that serves the API: nodes join it, come
//! back to it, and are told why when they cannot.

use crate::support::eventually;
use crate::support::machine::{free_ports, memory};
use crate::support::world::{Daemon, World};
use kedge::pki::{Authority, Token};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(40);

/// A cloud of its own beside the world's.
struct Second {
    config: PathBuf,
    hub: u16,
    cert: u16,
    mqtt: u16,
}

impl Second {
    fn new(world: &World) -> Second {
        let [hub, cert, stream, tunnel, mqtt] = free_ports();
        let dir = world.dir.join("second");
        let at = |path: &str| dir.join(path).display().to_string();
        // What `keadm init` leaves for cloudcore, with places and ports of this world.
        let config = json!({
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
            },
            "kedge": {"dataDir": at("data")},
        });
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("cloudcore.yaml");
        std::fs::write(&path, config.to_string()).unwrap();
        Second { config: path, hub, cert, mqtt }
    }

    fn start(&self, world: &World, name: &str) -> Daemon {
        let args = ["cloud", "run", "--config", self.config.to_str().unwrap()].map(str::to_owned);
        let mut cloud = world.start(name, &args);
        cloud.wait_for("ready", SOON);
        cloud
    }

    /// An edge of this cloud; it runs no pods.
    fn edge(&self, world: &World, node: &str, token: Option<&str>) -> Daemon {
        let dir = world.dir.join(node);
        let at = |path: &str| dir.join(path).display().to_string();
        let config = json!({
            "apiVersion": "edgecore.config.kubeedge.io/v1alpha2",
            "kind": "EdgeCore",
            "database": {"dataSource": at("edgecore.db")},
            "modules": {
                "edgeHub": {
                    "httpServer": format!("https://127.0.0.1:{}", self.cert),
                    "token": token.unwrap_or_default(),
                    "tlsCaFile": at("ca/rootCA.crt"),
                    "tlsCertFile": at("certs/server.crt"),
                    "tlsPrivateKeyFile": at("certs/server.key"),
                    "websocket": {"enable": true, "server": format!("127.0.0.1:{}", self.hub)},
                },
                "edged": {"enable": false, "hostnameOverride": node},
                "eventBus": {"mqttMode": 0, "mqttServerInternal": format!("tcp://127.0.0.1:{}", self.mqtt)},
                "edgeStream": {"enable": false},
            },
        });
        std::fs::create_dir_all(dir.join("config")).unwrap();
        let path = dir.join("config/edgecore.yaml");
        std::fs::write(&path, config.to_string()).unwrap();
        world.start(node, &["edge", "run", "--config", path.to_str().unwrap()].map(str::to_owned))
    }
}

fn is_ready(world: &World, node: &str) {
    eventually(&format!("{node} is Ready"), SOON, || {
        let status = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        let got = world.kubectl(&["get", "node", node, "-o", status]);
        if got.stdout == "True" { Ok(()) } else { Err((got, world.log(&format!("{node}.err")))) }
    });
}

fn secret(world: &World, name: &str, key: &str) -> Vec<u8> {
    use base64::Engine;
    let found = world.get(&["secret", name, "-n", "kubeedge"]);
    let text = found.pointer(&format!("/data/{key}")).and_then(Value::as_str).unwrap_or_default();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn a_cloud_works_against_an_api_by_its_kubeconfig_alone() {
    let world = World::new("bootstrap");
    let _api = world.cloud();
    let second = Second::new(&world);
    let mut cloud = second.start(&world, "second");
    let token = world.kedge(&["gettoken"]).stdout.trim().to_owned();
    let mut edge = second.edge(&world, "edge-2", Some(&token));
    is_ready(&world, "edge-2");
    let memory = memory(cloud.pid());
    eprintln!(
        "a cloud without the API, one node: {} KiB resident, {} KiB at most",
        memory.resident >> 10,
        memory.peak >> 10
    );

    // The node keeps its certificate over restarts of either side.
    let cert = std::fs::read(world.dir.join("edge-2/certs/server.crt")).unwrap();
    cloud.interrupt();
    let _cloud = second.start(&world, "second");
    edge.interrupt();
    let _edge = second.edge(&world, "edge-2", None);
    eventually("the node is connected again", SOON, || {
        let said = std::fs::read_to_string(world.dir.join("second.err")).unwrap();
        if said.matches("the node is connected").count() >= 2 { Ok(()) } else { Err(world.log("second.err")) }
    });
    assert_eq!(std::fs::read(world.dir.join("edge-2/certs/server.crt")).unwrap(), cert);
}

#[test]
fn a_node_that_cannot_join_is_told_why() {
    let world = World::new("joining");
    let _cloud = world.cloud();
    let authority =
        Authority::from_der(&secret(&world, "casecret", "cadata"), &secret(&world, "casecret", "cakeydata"))
            .unwrap();
    let p = world.ports;
    let second = Second { config: PathBuf::new(), hub: p.hub, cert: p.cert, mqtt: p.mqtt };
    let for_another = world.kedge(&["token", "create", "--node", "edge-9"]).stdout.trim().to_owned();
    let stranger = Authority::generate("KubeEdge").unwrap();
    let mut node = 20;
    let mut refused = |token: &str, prepare: &dyn Fn(&str), code: &str, words: &str| {
        node += 1;
        let name = format!("edge-{node}");
        prepare(&name);
        let mut edge = second.edge(&world, &name, Some(token));
        eventually(&format!("{name} is told with {code}"), SOON, || {
            let said = world.log(&format!("{name}.err"));
            if said.contains(code) && said.contains(words) { Ok(()) } else { Err(said) }
        });
        edge.interrupt();
        // A token is a secret wherever it comes from.
        let signature = token.rsplit('.').next().filter(|part| part.len() > 20);
        assert!(signature.is_none_or(|part| !world.log(&format!("{name}.err")).contains(part)));
    };
    let nothing: &dyn Fn(&str) = &|_| {};
    refused(&Token::create(&stranger, Duration::from_secs(600)), nothing, "KE-TOKEN-001", "another cloud");
    refused(&Token::create(&authority, Duration::ZERO), nothing, "KE-TOKEN-002", "was valid until");
    // The hash is right and the key is not: made by somebody who knows the public part only.
    let (_, forged) = Token::create(&stranger, Duration::from_secs(600))
        .split_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    refused(&format!("{}.{forged}", authority.hash()), nothing, "KE-TOKEN-003", "its signature is wrong");
    refused(&for_another, nothing, "KE-TOKEN-003", "another node");
    refused("a.b", nothing, "KE-TOKEN-004", "kedge token create");
    // Certificates that lie there already: of the future, of another node, of a foreign cloud.
    let write = |name: &str, issuer: &Authority, of: &str, from: i64| {
        let at = jiff::Timestamp::now().as_second();
        let cn = format!("system:node:{of}");
        let identity = issuer.issue_client_between(&cn, &["system:nodes"], at + from, at + 90_000).unwrap();
        let dir = world.dir.join(name);
        for (file, text) in [
            ("ca/rootCA.crt", issuer.cert_pem()),
            ("certs/server.crt", identity.cert_pem.clone()),
            ("certs/server.key", identity.key_pem.clone()),
        ] {
            std::fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
            std::fs::write(dir.join(file), text).unwrap();
        }
    };
    refused("", &|name| write(name, &authority, name, 3600), "KE-CERT-002", "clock");
    refused("", &|name| write(name, &authority, "edge-1", -60), "KE-CERT-009", "former name");
    refused("", &|name| write(name, &stranger, name, -60), "KE-CERT-003", "set up anew");
}
