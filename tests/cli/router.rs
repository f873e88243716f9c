//! Rules of the binary's router, with curl and the mosquitto clients at its ends: an HTTP caller reaches a topic or a service
//! on a node, a message on a node reaches a service. Bodies and answers without an end are cut off at every place.

use crate::support::machine::{Memory, free_ports, memory};
use crate::support::replica::{EdgeFile, Replica};
use crate::support::service::Service;
use crate::support::world::{Daemon, World};
use crate::support::{Run, eventually, run};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(40);
const MIB: u64 = 1 << 20;

/// A cloud with a router, a node with a ServiceBus, and a service that all rules name.
struct Scene {
    service: Service,
    router: u16,
    bus: u16,
    edge: Daemon,
    cloud: Daemon,
    _api: Daemon,
    world: World,
}

/// Status and body of what curl got.
fn curl(world: &World, args: &[&str]) -> (u16, String) {
    let file = world.dir.join("answer");
    drop(std::fs::remove_file(&file));
    let fixed = [
        "-s",
        "-S",
        "--noproxy",
        "*",
        "--max-time",
        "40",
        "-o",
        file.to_str().unwrap(),
        "-w",
        "%{http_code}",
    ];
    let done = run("curl", &[&fixed[..], args].concat());
    let status = done.stdout.trim().parse().unwrap_or_else(|_| panic!("{done:?}"));
    (status, std::fs::read_to_string(&file).unwrap_or_default())
}

impl Scene {
    fn new(name: &str) -> Scene {
        let world = World::new(name);
        let api = world.cloud();
        let [router, bus] = free_ports();
        let second = Replica::with(&world, "second", |config| {
            config["modules"]["router"] =
                json!({"enable": true, "address": "127.0.0.1", "port": router, "restTimeout": 20});
        });
        let cloud = second.start(&world);
        let token = world.kedge(&["gettoken"]).stdout.trim().to_owned();
        let (hub, cert, mqtt) = (second.hub, second.cert, world.ports.mqtt);
        let file = EdgeFile { node: "edge-2", hub, cert, mqtt, token: Some(&token) };
        let edge = file.start_with(&world, |config| {
            config["modules"]["serviceBus"] =
                json!({"enable": true, "server": "127.0.0.1", "port": bus, "timeout": 20});
        });
        let service = Service::start();
        let scene = Scene { service, router, bus, edge, cloud, _api: api, world };
        scene.rules();
        scene
    }

    fn rules(&self) {
        let endpoint = |name: &str, kind: &str, properties: Value| {
            json!({"apiVersion": "rules.kubeedge.io/v1", "kind": "RuleEndpoint",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"ruleEndpointType": kind, "properties": properties}})
        };
        let rule = |name: &str, source: (&str, Value), target: (&str, Value)| {
            json!({"apiVersion": "rules.kubeedge.io/v1", "kind": "Rule",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"source": source.0, "sourceResource": source.1, "target": target.0, "targetResource": target.1}})
        };
        let at = |path: &str| self.url(path);
        let from = |topic: &str| ("bus", json!({"topic": topic, "node_name": "edge-2"}));
        let program = |path: &str| ("service", json!({"target_url": at(path), "node_name": "edge-2"}));
        let objects = [
            endpoint("rest", "rest", json!({})),
            endpoint("bus", "eventbus", json!({})),
            endpoint("service", "servicebus", json!({"service_port": self.service.port.to_string()})),
            rule("down", ("rest", json!({"path": "/in"})), ("bus", json!({"topic": "down"}))),
            rule("up", from("up"), ("rest", json!({"resource": at("/sink")}))),
            rule("up-endless", from("endless"), ("rest", json!({"resource": at("/endless")}))),
            rule("call", ("rest", json!({"path": "/call"})), ("service", json!({"path": "/svc"}))),
            rule(
                "call-endless",
                ("rest", json!({"path": "/drain"})),
                ("service", json!({"path": "/endless"})),
            ),
            rule("back", program("/back"), ("rest", json!({"resource": at("/back")}))),
        ];
        self.world.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string());
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.service.port)
    }

    fn router(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/edge-2/default{path}", self.router)
    }

    /// Asks until the answer has this status; rules and orders to listen may still be on their way.
    #[track_caller]
    fn answered(&self, args: &[&str], status: u16) -> String {
        eventually(&format!("{args:?} is answered {status}"), SOON, || match curl(&self.world, args) {
            (found, body) if found == status => Ok(body),
            other => Err(other),
        })
    }

    /// Publishes on the node until the service has heard it.
    #[track_caller]
    fn reaches(&self, topic: &str, path: &str, body: &str) {
        eventually(&format!("{topic} reaches {path}"), SOON, || {
            self.world.publish(topic, body);
            std::thread::sleep(Duration::from_millis(100));
            self.service.was_asked(path, body)
        });
    }

    fn counted(&self, rule: &str, field: &str) -> i64 {
        let rule = self.world.get(&["rule.rules.kubeedge.io", rule]);
        rule.pointer(&format!("/status/{field}")).and_then(Value::as_i64).unwrap_or_default()
    }
}

#[test]
fn rules_carry_messages_between_http_and_a_node() {
    let scene = Scene::new("router");
    // rest -> servicebus.
    let called = scene.answered(&["-d", "ask", &scene.router("/call/x?y=1")], 201);
    assert_eq!(called, "answer of /svc/x?y=1");
    scene.service.was_asked("POST /svc/x?y=1", "ask").unwrap();
    // rest -> eventbus.
    let heard = scene.world.subscribe("down/#", 1);
    assert_eq!(scene.answered(&["-d", "21.5", &scene.router("/in/a/b")], 200), "message delivered");
    assert_eq!(heard.messages(), ["down/a/b 21.5"]);
    // eventbus -> rest.
    scene.reaches("default/up", "POST /sink", "from the node");
    // servicebus -> rest.
    let program = json!({"method": "POST", "targetURL": scene.url("/back"), "payload": "p"}).to_string();
    let bus = format!("http://127.0.0.1:{}/", scene.bus);
    eventually("a program's call is answered", SOON, || {
        let (_, body) = curl(&scene.world, &["-d", &program, &bus]);
        let word: Value = serde_json::from_str(&body).map_err(|_| body.clone())?;
        if word["code"] == 200 && word["body"] == "answer of /back" { Ok(()) } else { Err(body) }
    });
    // What has no rule, and what has no node.
    assert_eq!(curl(&scene.world, &["-d", "x", &scene.router("/nothing")]).0, 404);
    let nobody = format!("http://127.0.0.1:{}/edge-9/default/in", scene.router);
    assert_eq!(curl(&scene.world, &["-d", "x", &nobody]).0, 500);
    eventually("the rules count what they carried", SOON, || {
        let counts = ["down", "up", "call", "back"].map(|rule| scene.counted(rule, "successMessages"));
        if counts.iter().all(|count| *count >= 1) { Ok(()) } else { Err(counts) }
    });
}

#[track_caller]
fn bounded(pid: u32, before: Memory) {
    let after = memory(pid);
    assert!(after.resident < before.resident + 64 * MIB, "{before:?} {after:?}");
    assert!(after.peak < before.peak.max(before.resident) + 128 * MIB, "{before:?} {after:?}");
}

/// POSTs zeros without an end.
fn post_endlessly(url: &str) -> Run {
    let zeros = std::fs::File::open("/dev/zero").unwrap();
    let args = ["-s", "-S", "--noproxy", "*", "--max-time", "40", "-o", "/dev/null", "-w", "%{http_code}"];
    let mut curl = Command::new("curl");
    curl.args(args).args(["-X", "POST", "-T", "-", url]);
    curl.stdin(zeros).stdout(Stdio::piped()).stderr(Stdio::piped());
    curl.output().unwrap().into()
}

/// CVE-2022-31078 at the router, CVE-2022-31073 at the ServiceBus: what comes from a peer is cut off, whoever sends it.
#[test]
fn bodies_and_answers_without_an_end_are_cut_off() {
    let scene = Scene::new("router-endless");
    scene.answered(&["-d", "x", &scene.router("/call")], 201);
    scene.answered(&["-d", "x", &scene.router("/in")], 200);
    scene.reaches("default/up", "POST /sink", "before");
    let before = (memory(scene.cloud.pid()), memory(scene.edge.pid()));
    // A caller of the router.
    for path in ["/in", "/call"] {
        let done = post_endlessly(&scene.router(path));
        // A server that stops reading may be cut off before its answer is read.
        assert!(matches!(done.stdout.trim(), "413" | "000"), "{done:?}");
    }
    let large = scene.world.dir.join("large");
    std::fs::write(&large, vec![b'x'; 13 << 20]).unwrap();
    let large = format!("@{}", large.display());
    assert_eq!(curl(&scene.world, &["--data-binary", &large, &scene.router("/in")]).0, 413);
    // A program at the ServiceBus.
    let bus = format!("http://127.0.0.1:{}/", scene.bus);
    let (_, body) = curl(&scene.world, &["--data-binary", &large, &bus]);
    assert!(body.is_empty() || body.contains("\"code\":400"), "{body}");
    drop(post_endlessly(&bus));
    // A service behind the node, and one behind the cloud.
    let (status, body) = curl(&scene.world, &["-d", "x", &scene.router("/drain")]);
    assert_eq!(status, 500, "{body}");
    assert!(body.contains("too large"), "{body}");
    scene.reaches("default/endless", "POST /endless", "x");
    eventually("the answer without an end is a failure of its rule", SOON, || {
        match scene.counted("up-endless", "failMessages") {
            0 => Err(scene.world.get(&["rule.rules.kubeedge.io", "up-endless"])),
            _ => Ok(()),
        }
    });
    bounded(scene.cloud.pid(), before.0);
    bounded(scene.edge.pid(), before.1);
    // All goes on.
    scene.reaches("default/up", "POST /sink", "after");
    scene.answered(&["-d", "x", &scene.router("/call")], 201);
}

#[test]
fn a_router_without_public_authorities_says_so() {
    let world = World::new("router-authorities");
    let _api = world.cloud();
    let [router] = free_ports();
    let second = Replica::with(&world, "second", |config| {
        config["modules"]["router"] =
            json!({"enable": true, "address": "127.0.0.1", "port": router, "restTimeout": 20});
    });
    let nowhere = world.dir.join("nowhere").display().to_string();
    let ended = second.run_with(&[("SSL_CERT_FILE", &nowhere), ("SSL_CERT_DIR", &nowhere)]);
    assert_ne!(ended.status, 0, "{ended:?}");
    assert!(ended.stderr.contains("KE-ROUTER-001") && ended.stderr.contains("ca-certificates"), "{ended:?}");
    crate::support::snapshot::failed(&ended);
    assert!(!ended.stderr.contains("because: builder error"), "{ended:?}");
}
