//! A real mosquitto as the broker of a node: alone (mode 2) and beside the broker inside (mode 1), over its restart, and over
//! TLS with certificates both ways.

use crate::devices::{THERMOMETER, reported};
use crate::support::machine::free_ports;
use crate::support::replica::EdgeFile;
use crate::support::world::{Daemon, World};
use crate::support::{binary, eventually, kedge, run};
use kedge::pki::{Authority, Identity, install_crypto_provider};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(40);
const UPDATE: &str = "$hw/events/device/default/t1/twin/update";

/// A running mosquitto; ended when dropped.
struct Mosquitto(Child);

impl Mosquitto {
    fn start(world: &World, port: u16, tls: &[String]) -> Mosquitto {
        let file = world.dir.join("mosquitto.conf");
        let mut lines = vec![
            // Else it becomes a user who may not read the keys of this world.
            "user root".to_owned(),
            format!("listener {port} 127.0.0.1"),
            format!("allow_anonymous {}", !tls.iter().any(|line| line.starts_with("password_file"))),
            "persistence false".to_owned(),
        ];
        lines.extend_from_slice(tls);
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        let log =
            std::fs::File::options().create(true).append(true).open(world.dir.join("mosquitto.err")).unwrap();
        let child = Command::new("mosquitto")
            .args(["-v", "-c", file.to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        eventually("mosquitto listens", SOON, || TcpStream::connect(("127.0.0.1", port)));
        Mosquitto(child)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A node with a thermometer, and the broker that its file names.
struct Scene {
    _edge: Daemon,
    _cloud: Daemon,
    world: World,
}

impl Scene {
    fn new(world: World, bus: Value) -> Scene {
        let cloud = world.cloud();
        let token = world.kedge(&["gettoken"]).stdout.trim().to_owned();
        let p = world.ports;
        let file = EdgeFile { node: "edge-1", hub: p.hub, cert: p.cert, mqtt: p.mqtt, token: Some(&token) };
        let edge = file.start_with(&world, |config| {
            let into = config["modules"]["eventBus"].as_object_mut().unwrap();
            into.extend(bus.as_object().unwrap().clone());
        });
        world.apply(THERMOMETER);
        Scene { _edge: edge, _cloud: cloud, world }
    }

    /// Reports over a broker until the cloud has the value.
    #[track_caller]
    fn reports(&self, client: &[&str], value: &str) {
        let payload = json!({"event_id": "e", "timestamp": 1,
            "twin": {"temperature": {"actual": {"value": value}, "metadata": {"type": "float"}}}})
        .to_string();
        eventually(&format!("{value} reaches the cloud by {client:?}"), SOON, || {
            let sent = run("mosquitto_pub", &[client, &["-q", "1", "-t", UPDATE, "-m", &payload]].concat());
            std::thread::sleep(Duration::from_millis(100));
            match reported(&self.world, "t1", "temperature") {
                Some(found) if found == value => Ok(()),
                other => Err((other, sent, self.world.log("edge-1.err"))),
            }
        });
    }

    /// A value that is wanted comes to every one of these brokers.
    #[track_caller]
    fn wants(&self, clients: &[&[&str]], value: &str) {
        let topic = "$hw/events/device/default/t1/twin/update/delta";
        let subscribers: Vec<Heard> = clients.iter().map(|client| Heard::start(client, topic)).collect();
        let patch = json!([{"op": "replace", "path": "/spec/properties/1/desired/value", "value": value}]);
        self.world.kubectl_ok(&["patch", "device", "t1", "--type=json", "-p", &patch.to_string()]);
        for subscriber in subscribers {
            let heard = subscriber.end();
            assert!(heard.contains(&format!(r#""delta":{{"target":"{value}"}}"#)), "{heard}");
        }
    }

    /// How often the edge has said that it is connected to the broker.
    fn connections(&self) -> usize {
        let log = self.world.whole_log("edge-1.err");
        log.matches("connected to the external MQTT broker").count()
    }
}

/// A subscriber that ends with its first message.
struct Heard(Child);

impl Heard {
    fn start(client: &[&str], topic: &str) -> Heard {
        let mut child = Command::new("stdbuf")
            .args(["-oL", "mosquitto_sub"])
            .args(client)
            .args(["-t", topic, "-C", "1", "-W", "30", "-d"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = Vec::new();
        let out = child.stdout.as_mut().unwrap();
        // Byte by byte, so that nothing behind the word is lost.
        while !String::from_utf8_lossy(&line).contains("Subscribed") {
            let mut byte = [0];
            assert!(std::io::Read::read(out, &mut byte).unwrap() == 1, "{}", String::from_utf8_lossy(&line));
            line.push(byte[0]);
        }
        Heard(child)
    }

    fn end(self) -> String {
        String::from_utf8_lossy(&self.0.wait_with_output().unwrap().stdout).into_owned()
    }
}

#[test]
fn a_node_works_with_a_foreign_broker_and_is_back_after_its_restart() {
    let world = World::new("mqtt-external");
    let [port] = free_ports();
    let broker = Mosquitto::start(&world, port, &[]);
    let bus = json!({"mqttMode": 2, "mqttServerExternal": format!("tcp://127.0.0.1:{port}")});
    let scene = Scene::new(world, bus);
    let number = port.to_string();
    let client: &[&str] = &["-p", &number];
    scene.reports(client, "21.5");
    scene.wants(&[client], "23");

    let mut broker = Some(broker);
    for (pause, value) in [(0, "1"), (3, "2")] {
        let before = scene.connections();
        drop(broker.take());
        std::thread::sleep(Duration::from_secs(pause));
        broker = Some(Mosquitto::start(&scene.world, port, &[]));
        let back = Instant::now();
        eventually("both connections are there again", SOON, || {
            if scene.connections() >= before + 2 { Ok(()) } else { Err(scene.world.log("edge-1.err")) }
        });
        assert!(back.elapsed() < Duration::from_secs(15), "{:?}", back.elapsed());
        scene.reports(client, value);
        scene.wants(&[client], value);
    }
}

#[test]
fn a_node_works_with_both_brokers() {
    let world = World::new("mqtt-both");
    let [port] = free_ports();
    let _broker = Mosquitto::start(&world, port, &[]);
    let bus = json!({"mqttMode": 1, "mqttServerExternal": format!("tcp://127.0.0.1:{port}")});
    let scene = Scene::new(world, bus);
    let (outside, inside) = (port.to_string(), scene.world.ports.mqtt.to_string());
    let (outside, inside): (&[&str], &[&str]) = (&["-p", &outside], &["-p", &inside]);
    scene.reports(outside, "1");
    scene.reports(inside, "2");
    scene.wants(&[outside, inside], "23");
}

#[test]
fn a_login_in_the_brokers_url_lets_the_node_in_and_is_shown_nowhere() {
    let world = World::new("mqtt-login");
    let [port] = free_ports();
    let users = world.dir.join("users");
    let users = users.to_str().unwrap();
    run("mosquitto_passwd", &["-b", "-c", users, "usr", "s3cret-of@usr"]).assert_status(0);
    let _broker = Mosquitto::start(&world, port, &[format!("password_file {users}")]);
    let url = format!("tcp://usr:s3cret-of%40usr@127.0.0.1:{port}");
    let scene = Scene::new(world, json!({"mqttMode": 2, "mqttServerExternal": url}));
    let number = port.to_string();
    scene.reports(&["-p", &number, "-u", "usr", "-P", "s3cret-of@usr"], "21.5");

    let file = shown(&scene.world.dir.join("edge-1/config/edgecore.yaml"));
    let archive = shown(&scene.world.dir.join("report.tar"));
    for line in [
        vec!["config", "get", "--config", &file],
        vec!["config", "get", "modules.eventBus.mqttServerExternal", "--config", &file],
        vec!["config", "set", "modules.eventBus.mqttQOS=1", "--dry-run", "--config", &file],
        vec!["doctor", "-o", "json", "--config", &file, "--only", "KE-BROKER-001"],
        vec!["bugreport", "-F", &archive, "--config", &file],
    ] {
        let told = kedge(&line);
        let all = format!("{}{}", told.stdout, told.stderr);
        assert!(!all.is_empty() && !all.contains("s3cret"), "{line:?}: {all}");
    }
    let whole = std::fs::read(&archive).unwrap();
    assert!(!String::from_utf8_lossy(&whole).contains("s3cret"));
    let log = std::fs::read_to_string(scene.world.dir.join("edge-1.err")).unwrap();
    assert!(log.contains(&format!("127.0.0.1:{port}")) && !log.contains("s3cret"), "{log}");
}

/// A key pair in files that mosquitto and its clients read.
fn written(world: &World, name: &str, identity: &Identity) -> (PathBuf, PathBuf) {
    let (cert, key) = (world.dir.join(format!("{name}.crt")), world.dir.join(format!("{name}.key")));
    std::fs::write(&cert, &identity.cert_pem).unwrap();
    std::fs::write(&key, &identity.key_pem).unwrap();
    (cert, key)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn the_way_to_a_foreign_broker_is_tls_with_certificates_both_ways() {
    install_crypto_provider();
    let world = World::new("mqtt-tls");
    let authority = Authority::generate("site").unwrap();
    let ca = world.dir.join("site-ca.crt");
    std::fs::write(&ca, authority.cert_pem()).unwrap();
    let server = authority.issue_server("broker", &["127.0.0.1".to_owned()], 1).unwrap();
    let (cert, key) = written(&world, "broker", &server);
    let node = authority.issue_client("edge-1", &[], 1).unwrap();
    let (node_cert, node_key) = written(&world, "node", &node);
    let [port] = free_ports();
    let tls = [
        format!("cafile {}", shown(&ca)),
        format!("certfile {}", shown(&cert)),
        format!("keyfile {}", shown(&key)),
        "require_certificate true".to_owned(),
    ];
    let broker = Mosquitto::start(&world, port, &tls);
    let bus = json!({"mqttMode": 2, "mqttServerExternal": format!("ssl://127.0.0.1:{port}"), "eventBusTLS": {
        "enable": true, "tlsMqttCAFile": ca, "tlsMqttCertFile": node_cert, "tlsMqttPrivateKeyFile": node_key}});
    let scene = Scene::new(world, bus);
    let (number, ca_text) = (port.to_string(), shown(&ca));
    let (cert_text, key_text) = (shown(&node_cert), shown(&node_key));
    let client: &[&str] =
        &["-h", "127.0.0.1", "-p", &number, "--cafile", &ca_text, "--cert", &cert_text, "--key", &key_text];
    scene.reports(client, "21.5");
    scene.wants(&[client], "23");
    // doctor takes the same way with the same papers.
    let doctor = || {
        let file = scene.world.dir.join("edge-1/config/edgecore.yaml");
        run(binary(), &["doctor", "--only", "KE-BROKER-001", "--config", &shown(&file)])
    };
    let fine = doctor();
    assert!(fine.status == 0 && fine.stdout.contains("a message came back from 127.0.0.1"), "{fine:?}");

    // A broker of another authority is not talked to, and the reason is told.
    drop(broker);
    let stranger = Authority::generate("other").unwrap();
    let other = stranger.issue_server("broker", &["127.0.0.1".to_owned()], 1).unwrap();
    let (cert, key) = written(&scene.world, "other", &other);
    let mut tls = tls;
    tls[1] = format!("certfile {}", shown(&cert));
    tls[2] = format!("keyfile {}", shown(&key));
    let before = scene.connections();
    let broker = Mosquitto::start(&scene.world, port, &tls);
    eventually("the reason is told", SOON, || {
        let log = scene.world.log("edge-1.err");
        let told = |line: &str| {
            line.contains("no connection to the external MQTT broker") && line.contains("certificate")
        };
        if log.lines().any(told) { Ok(()) } else { Err(log) }
    });
    assert_eq!(scene.connections(), before);
    let strange = doctor();
    assert!(strange.status == 1 && strange.stdout.contains("invalid peer certificate"), "{strange:?}");
    drop(broker);
}
