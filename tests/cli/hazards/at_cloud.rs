//! Hazards at the cloud: a node with a good certificate that keeps to nothing, beside an edgecore that lives there.

use super::{bounded, odd_contents, told_once};
use crate::support::edgecore::enrol;
use crate::support::edgecore::{Edgecore, Version};
use crate::support::letter::{message, text};
use crate::support::machine::{Memory, memory};
use crate::support::peer::{Node, connect, identity, tunnel, upgrade};
use crate::support::replica::Replica;
use crate::support::world::{Daemon, World};
use crate::support::{eventually, run};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kedge::pki::{Authority, Identity, client_config};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// A cloud, an edgecore that lives under it, and a certificate for somebody who does not keep to anything.
struct Scene {
    bystander: Edgecore,
    before: Memory,
    identity: (String, Identity),
    cloud: Daemon,
    world: World,
}

impl Scene {
    fn new(name: &str) -> Scene {
        let world = World::new(name);
        let cloud = world.cloud();
        let bystander = Edgecore::start(&world, "good", Version::V1_23);
        bystander.wait("the bystander registers", |state| state.registered.then_some(()));
        let identity = identity(&world, "evil");
        let before = memory(cloud.pid());
        Scene { bystander, before, identity, cloud, world }
    }

    fn evil(&self) -> Node {
        connect(&self.world, "evil", &self.identity)
    }

    /// Nothing but a line in the log has come of it.
    #[track_caller]
    fn unharmed(&self, reasons: &[&str]) {
        let answer = self.bystander.ask(["edged", "meta", "query", "null/node/good"], Value::Null);
        assert_eq!(text(&answer, "/content/metadata/name"), "good");
        assert_eq!(self.bystander.with_state(|state| state.connections), 1);
        bounded(self.cloud.pid(), self.before);
        told_once(&self.world.dir.join("cloud.err"), reasons);
    }

    /// Registers the node and puts pods on it.
    fn pods(&self, node: &str, count: usize) {
        let one = |n| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {node}-{n}}}\nspec: {{nodeName: {node}, containers: [{{name: c, image: x}}]}}\n"
            )
        };
        let all: Vec<String> = (0..count).map(one).collect();
        self.world.apply(&all.join("---\n"));
    }
}

fn say(peer: &mut Node, route: [&str; 4], content: Value) {
    peer.send(&message(route, content).to_string());
}

#[test]
fn null_and_odd_contents_of_every_message() {
    let scene = Scene::new("hazard-null");
    let mut evil = scene.evil();
    evil.send("null");
    for path in [
        "null/node/evil",
        "default/node/evil",
        "null/nodepatch/evil",
        "default/nodestatus/evil",
        "default/podpatch/p",
        "default/podstatus/p",
        "default/podstatus",
        "default/pod/p",
        "default/configmap/c",
        "default/secret/s",
        "default/serviceaccounttoken/default",
        "kube-node-lease/lease/evil",
        "default/event/e",
        "default/certificatesigningrequest/c",
        "default/volume/v",
        "device/default/d/twin/edge_updated",
        "device/default/d/state/update",
        "membership/detail",
        "watchapp/sync",
        "null",
        "k8s/ca.crt",
        "operations.kubeedge.io/v1alpha2/imageprepulljob/j/node/evil",
        "task/t/node/evil",
    ] {
        for content in odd_contents() {
            for operation in ["insert", "update", "patch", "delete", "query", "UpdateNodeActionStatus", "get"]
            {
                say(&mut evil, ["edged", "meta", operation, path], content.clone());
            }
        }
    }
    for source in ["metaserver", "bus", "servicebus", "taskmanager", "edgecontroller", "nobody", ""] {
        for group in ["dynamiccontroller", "user", "hub", "resource", "twin", ""] {
            for content in odd_contents() {
                for operation in ["null", "upload", "upgrade", "response", "error", ""] {
                    say(&mut evil, [source, group, operation, "null"], content.clone());
                }
            }
        }
    }
    let last = message(["edged", "meta", "query", "null/node/evil"], Value::Null);
    evil.send(&last.to_string());
    evil.answers(&[text(&last, "/header/msg_id")]);
    scene.unharmed(&["reason=\"a message is not a JSON object\""]);
}

#[test]
fn a_version_that_is_no_number() {
    let mut scene = Scene::new("hazard-version");
    let uid = text(&scene.world.get(&["node", "good"]), "/metadata/uid").to_owned();
    scene.pods("good", 1);
    let pod = eventually("the pod", SOON, || {
        let pod = scene.world.get(&["pod", "good-0"]);
        if text(&pod, "/status/phase") == "Running" { Ok(pod) } else { Err(pod) }
    });
    let mut evil = scene.evil();
    for version in ["abc", "-1", "", "18446744073709551616", "1.5", "0x10"] {
        let mut odd = message(["edged", "meta", "response", "default/configmap/c"], json!("OK"));
        odd["header"]["resourceversion"] = json!(version);
        odd["header"]["parent_msg_id"] = json!("x");
        evil.send(&odd.to_string());
    }
    // Records that a cloudcore would parse, and panic of.
    for (record, kind, name) in [
        (format!("good.{uid}"), "Node", "good"),
        (format!("good.{}", text(&pod, "/metadata/uid")), "Pod", "good-0"),
        ("no-dot-and-no-node".to_owned(), "Pod", "x"),
        ("..".to_owned() + "x", "", ""),
    ] {
        let (sync, namespace) =
            if kind == "Node" { ("ClusterObjectSync", "") } else { ("ObjectSync", "namespace: default, ") };
        let manifest = format!(
            "apiVersion: reliablesyncs.kubeedge.io/v1alpha1\nkind: {sync}\nmetadata: {{{namespace}name: {record:?}}}\nspec: {{objectAPIVersion: v1, objectKind: {kind:?}, objectName: {name:?}}}\nstatus: {{objectResourceVersion: abc}}\n"
        );
        let file = scene.world.dir.join("record.yaml");
        std::fs::write(&file, manifest).unwrap();
        let file = file.to_str().unwrap();
        // A name that Kubernetes does not take is as good.
        drop(scene.world.kubectl(&["apply", "-f", file]));
        let patch = r#"{"status":{"objectResourceVersion":"abc"}}"#;
        let target = sync.to_lowercase();
        drop(scene.world.kubectl(&["patch", &target, &record, "--type=merge", "-p", patch]));
        drop(scene.world.kubectl(&[
            "patch",
            &target,
            &record,
            "--subresource=status",
            "--type=merge",
            "-p",
            patch,
        ]));
    }
    scene.unharmed(&[]);
    // A cloud that starts reads all of them.
    scene.cloud.interrupt();
    scene.cloud = scene.world.cloud();
    scene.bystander.wait("back", |state| (state.connected && state.connections >= 2).then_some(()));
    scene.world.kubectl_ok(&["label", "pod", "good-0", "after=yes"]);
    scene.bystander.wait("the change", |state| {
        let pod = state.db.get("default/pod/good-0")?;
        (text(pod, "/metadata/labels/after") == "yes").then_some(())
    });
    told_once(&scene.world.dir.join("cloud.err"), &[]);
}

#[test]
fn a_missing_acknowledgement_holds_up_nobody_else() {
    let scene = Scene::new("hazard-silent");
    let mut evil = scene.evil();
    let node = json!({"metadata": {"name": "evil", "labels": {"node-role.kubernetes.io/edge": ""}}, "spec": {}, "status": {}});
    say(&mut evil, ["edged", "meta", "insert", "null/node/evil"], node);
    scene.world.wait_value(&["node", "evil"], "/metadata/name", &json!("evil"), SOON);
    scene.pods("evil", 3);
    scene.pods("good", 3);
    for n in 0..3 {
        scene.world.wait_value(&["pod", &format!("good-{n}")], "/status/phase", &json!("Running"), SOON);
    }
    // The same message again under the same id; nothing behind it.
    let mut ids = std::collections::BTreeSet::new();
    loop {
        let bytes = evil.read().expect("the connection stays");
        let heard: Value = serde_json::from_slice(&bytes).unwrap();
        let operation = text(&heard, "/route/operation");
        let pushed = matches!(operation, "insert" | "update") && text(&heard, "/route/group") == "resource";
        if pushed && !ids.insert(text(&heard, "/header/msg_id").to_owned()) {
            break;
        }
    }
    scene.unharmed(&["reason=\"the node does not acknowledge\""]);
}

#[test]
fn a_database_that_cannot_write_is_told_and_the_object_comes_again() {
    let scene = Scene::new("hazard-broken");
    scene.bystander.with_state(|state| state.broken = true);
    scene.pods("good", 1);
    let failed = scene.bystander.wait("a failed insert", |state| {
        let errors = |m: &&Value| {
            text(m, "/route/operation") == "error" && text(m, "/route/resource") == "default/pod/good-0"
        };
        state.said.iter().find(errors).cloned()
    });
    scene.bystander.with_state(|state| state.broken = false);
    scene.world.wait_value(&["pod", "good-0"], "/status/phase", &json!("Running"), SOON);
    let first = text(&failed, "/header/parent_msg_id");
    let ids = scene.bystander.with_state(|state| {
        state
            .pushes("default/pod/good-0")
            .iter()
            .map(|m| text(m, "/header/msg_id").to_owned())
            .collect::<Vec<_>>()
    });
    assert!(ids.iter().filter(|id| *id == first).count() > 1, "{ids:?}");
    scene.unharmed(&["reason=\"the node could not carry out a message\""]);
}

#[test]
fn a_node_that_is_gone_is_never_a_success_without_an_object() {
    let scene = Scene::new("hazard-object");
    scene.world.kubectl_ok(&["delete", "node", "good"]);
    // The session ends with its Node; whatever is answered then, edgecore does not dereference nil.
    scene.bystander.wait("back", |state| (state.connected && state.connections >= 2).then_some(()));
    let answer = scene.bystander.ask(["edged", "meta", "patch", "default/podpatch/nobody"], json!("{}"));
    assert!(!text(&answer, "/content/Err/ErrStatus/reason").is_empty(), "{answer}");
    assert!(answer["content"]["Object"].is_object(), "{answer}");
    scene.bystander.with_state(|state| state.registered = false);
    scene.bystander.wait("registered again", |state| state.registered.then_some(()));
    scene.world.wait_value(&["node", "good"], "/metadata/name", &json!("good"), SOON);
    for patch in ["", "{", "[]", "null", "{\"status\":7}", "{\"status\":{\"$patch\":\"replace\"}}"] {
        for path in ["null/nodepatch/good", "default/podpatch/nobody"] {
            let answer = scene.bystander.ask(["edged", "meta", "patch", path], json!(patch));
            assert!(answer["content"]["Object"].is_object(), "{answer}");
        }
    }
    told_once(&scene.world.dir.join("cloud.err"), &[]);
    bounded(scene.cloud.pid(), scene.before);
}

#[test]
fn an_upgrade_without_its_use_or_under_another_name_is_refused_and_closed() {
    let scene = Scene::new("hazard-upgrade");
    let ask = |headers: &[(&str, &str)], who: &(String, Identity)| {
        let answer = upgrade(scene.world.ports.hub, "/p/evil/events", headers, who);
        answer.map(drop).expect_err("a refusal")
    };
    let evil = &scene.identity;
    assert!(ask(&[("node_id", "evil"), ("ConnectionUse", "str")], evil).contains("400"));
    assert!(ask(&[("node_id", "good"), ("ConnectionUse", "msg")], evil).contains("403"));
    assert!(ask(&[("ConnectionUse", "msg")], evil).contains("403"));
    let authority = authority(&scene.world);
    let admin = authority.issue_client("kubernetes-admin", &["system:masters"], 1).unwrap();
    let admin = (authority.cert_pem(), admin);
    assert!(ask(&[("node_id", "evil"), ("ConnectionUse", "msg")], &admin).contains("403"));
    let headers = [("SessionHostNameOverride", "good")];
    let tunnel = upgrade(scene.world.ports.tunnel, "/v1/kubeedge/connect", &headers, evil);
    assert!(tunnel.map(drop).expect_err("a refusal").contains("403"));
    scene.unharmed(&[
        "reason=\"only connections for messages are served\"",
        "reason=\"the certificate is not a node's\"",
        "reason=\"the certificate belongs to another node\"",
    ]);
}

/// The authority of the world's cloud, as its Secret keeps it.
fn authority(world: &World) -> Authority {
    let secret = world.get(&["secret", "casecret", "-n", "kubeedge"]);
    let bytes = |key: &str| BASE64.decode(text(&secret, &format!("/data/{key}"))).unwrap();
    Authority::from_der(&bytes("cadata"), &bytes("cakeydata")).unwrap()
}

#[test]
fn a_certificate_without_an_organization_gets_no_other() {
    let scene = Scene::new("hazard-organization");
    let authority = authority(&scene.world);
    let bare = authority.issue_client("system:node:good", &[], 1).unwrap();
    let tls = client_config(&authority.cert_pem(), Some(&bare)).unwrap();
    let request = kedge::pki::Request::new("system:node:good", &["system:nodes"]).unwrap();
    let (status, body) =
        enrol::get(scene.world.ports.cert, "/edge.crt", &tls, &[("NodeName", "good")], &request.csr_der);
    assert_eq!(status, 401, "{}", String::from_utf8_lossy(&body));
    scene.unharmed(&["reason=\"the client certificate is not this node's\""]);
}

#[test]
fn a_signing_request_without_an_end_is_cut_off() {
    let scene = Scene::new("hazard-csr");
    let tls = client_config(&scene.identity.0, None).unwrap();
    let token = scene.world.kedge(&["gettoken"]).stdout;
    let bearer = format!("Bearer {}", token.trim().split_once('.').unwrap().1);
    let headers = [("NodeName", "evil"), ("Authorization", bearer.as_str())];
    let endless = vec![0x30; 64 << 20];
    let (status, _) = enrol::get(scene.world.ports.cert, "/edge.crt", &tls, &headers, &endless);
    // A server that stops reading may be cut off before its answer is read.
    assert!(matches!(status, 0 | 413), "{status}");
    let flood = "x".repeat(8 << 20);
    let (status, _) = enrol::get(scene.world.ports.cert, "/edge.crt", &tls, &[("NodeName", &flood)], &[]);
    assert!(matches!(status, 0 | 400 | 431), "{status}");
    for csr in [&b""[..], b"\x30\x84\xff\xff\xff\xff", b"nonsense"] {
        let (status, _) = enrol::get(scene.world.ports.cert, "/edge.crt", &tls, &headers, csr);
        assert_eq!(status, 500);
    }
    scene.unharmed(&["reason=\"the certificate signing request is larger than allowed\""]);
}

#[test]
fn a_frame_that_claims_an_exabyte() {
    let scene = Scene::new("hazard-claim");
    for length in [u64::MAX >> 1, 1 << 60, 17 << 20] {
        let mut evil = scene.evil();
        evil.claim(length, true);
        evil.wait_end();
        let mut pipe = tunnel(&scene.world, "evil", &scene.identity);
        pipe.claim(length, true);
        pipe.wait_end();
    }
    scene.unharmed(&[]);
    let log = std::fs::read_to_string(scene.world.dir.join("cloud.err")).unwrap();
    assert!(log.contains("a message was larger than allowed"), "{log}");
}

#[test]
fn frames_of_a_tunnel_that_nobody_knows() {
    let scene = Scene::new("hazard-tunnel");
    let mut pipe = tunnel(&scene.world, "evil", &scene.identity);
    for frame in
        [&[1, 7][..], &[1, 200, 1], &[], &[0xff; 11], &[5, 3], &[5, 0, b'{'], &[5, 1], &[5, 4], &[0x80]]
    {
        assert!(pipe.send_bytes(frame), "{frame:?}");
    }
    for _ in 0..2000 {
        assert!(pipe.send_bytes(&[9, 9, 9]));
    }
    let mut large = vec![1, 3];
    large.resize((1 << 20) + 3, b'x');
    assert!(pipe.send_bytes(&large));
    eventually("the frame is told", SOON, || {
        let log = std::fs::read_to_string(scene.world.dir.join("cloud.err")).unwrap();
        if log.contains("the frame is longer than allowed") { Ok(()) } else { Err(log) }
    });
    // The tunnel is there still: the cloud answers its ping only while it reads.
    scene.unharmed(&[
        "reason=the frame has an unknown type",
        "reason=the frame is cut off or its numbers are too long",
        "reason=the frame is longer than allowed",
    ]);
    pipe.send_oversized(17 << 20, 1);
    pipe.wait_end();
    scene.unharmed(&[]);
}

#[test]
fn connections_that_say_nothing_hold_up_nobody() {
    let scene = Scene::new("hazard-loris");
    let p = scene.world.ports;
    let idle: Vec<TcpStream> = [p.hub, p.cert, p.tunnel]
        .repeat(100)
        .into_iter()
        .map(|port| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect();
    let mut slow: Vec<TcpStream> = Vec::new();
    for port in [p.hub, p.cert, p.tunnel] {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.write_all(&[22, 3, 1]).unwrap();
        slow.push(socket);
    }
    let late = Edgecore::start(&scene.world, "late", Version::V1_23);
    late.wait("a node joins meanwhile", |state| state.registered.then_some(()));
    scene.unharmed(&[]);
    // The handshake has its time; then they are put out.
    let mut last = &idle[0];
    last.set_read_timeout(Some(SOON)).unwrap();
    assert!(matches!(last.read(&mut [0]), Ok(0)), "an idle connection is closed");
}

#[test]
fn bodies_for_the_api_have_an_end() {
    let scene = Scene::new("hazard-body");
    let big = scene.world.dir.join("big.json");
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"k": "x".repeat(64 << 20)}});
    std::fs::write(&big, object.to_string()).unwrap();
    let config = scene.world.kubeconfig().display().to_string();
    let made =
        run("kubectl", &["--kubeconfig", &config, "create", "--validate=false", "-f", big.to_str().unwrap()]);
    assert_ne!(made.status, 0, "{made:?}");
    scene.unharmed(&[]);
}

#[test]
fn a_flood_of_acknowledgements_and_of_kinds_is_counted_not_kept() {
    let scene = Scene::new("hazard-flood");
    let mut evil = scene.evil();
    for n in 0..20_000 {
        let mut odd = message(["edged", "meta", "response", "a/configmap/b"], json!("OK"));
        odd["header"]["parent_msg_id"] = json!(format!("never-sent-{n}"));
        evil.send(&odd.to_string());
    }
    for n in 0..3_000 {
        let path = format!("default/kind-{n}/x");
        say(&mut evil, ["edged", "meta", "frobnicate", &path], Value::Null);
    }
    // It has not read one of the refusals, so it does not get them all. An answer says that everything was heard.
    let last = message(["edged", "meta", "query", "null/node/evil"], Value::Null);
    evil.send(&last.to_string());
    evil.answers(&[text(&last, "/header/msg_id")]);
    scene.unharmed(&["reason=\"the path names no known object\""]);
    drop(evil);
    eventually("the end of the session is told with its count", SOON, || {
        let log = std::fs::read_to_string(scene.world.dir.join("cloud.err")).unwrap();
        let count = |line: &str| line.split("malformed=").nth(1)?.trim().parse::<u32>().ok();
        let ended = log.lines().filter(|line| line.contains("node=evil")).find_map(count);
        if ended.is_some_and(|count| count >= 3_000) { Ok(()) } else { Err(log) }
    });
}

/// KubeEdge's QUIC is not the IETF's and has had its own advisories. It is not offered: the file is refused, and no
/// datagram is taken.
#[test]
fn quic_is_not_offered() {
    let scene = Scene::new("hazard-quic");
    let p = scene.world.ports;
    for port in [p.hub, p.cert, p.tunnel, p.stream, 10001] {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.send(&[0xc0; 1200]).unwrap();
        let refused = socket.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{port}");
    }
    let asks = Replica::with(&scene.world, "quic", |config| {
        config["modules"]["cloudHub"]["quic"] = json!({"enable": true, "port": 10001});
    });
    let status = asks.spawn(&scene.world).wait_end(SOON);
    let said = scene.world.log("quic.err");
    assert_eq!(status, 3, "{said}");
    assert!(said.contains("modules.cloudHub.quic.enable"), "{said}");
    scene.unharmed(&[]);
}

/// A node beyond the limit is told and closed, not left open without a session.
#[test]
fn a_node_beyond_the_limit_is_refused_with_a_reason() {
    let scene = Scene::new("hazard-limit");
    let full =
        Replica::with(&scene.world, "full", |config| config["modules"]["cloudHub"]["nodeLimit"] = json!(1));
    let cloud = full.start(&scene.world);
    let before = memory(cloud.pid());
    let other = identity(&scene.world, "other");
    let at = |node: &str, who: &(String, Identity)| {
        upgrade(full.hub, "/p/n/events", &[("node_id", node), ("ConnectionUse", "msg")], who)
    };
    let first = at("evil", &scene.identity).unwrap_or_else(|why| panic!("{why}"));
    for _ in 0..50 {
        // The first one's session begins a moment after its upgrade.
        let refused = eventually("the second node is refused", SOON, || match at("other", &other) {
            Err(why) => Ok(why),
            Ok(_) => Err("it was let in"),
        });
        assert!(refused.contains("503"), "{refused}");
    }
    // The node that has a session may replace it.
    drop(at("evil", &scene.identity).unwrap_or_else(|why| panic!("{why}")));
    drop(first);
    bounded(cloud.pid(), before);
    let log = std::fs::read_to_string(scene.world.dir.join("full.err")).unwrap();
    let told =
        log.lines().filter(|line| line.contains("the limit of nodes is reached") && line.contains("other"));
    assert!((1..=2).contains(&told.count()), "{log}");
    scene.unharmed(&[]);
}

/// What cannot be had over and over again is counted, and written once.
#[test]
fn a_flood_of_refusals_is_counted_not_logged() {
    let scene = Scene::new("hazard-refusals");
    let tls = client_config(&scene.identity.0, None).unwrap();
    let csr = kedge::pki::Request::new("system:node:evil", &["system:nodes"]).unwrap().csr_der;
    for _ in 0..20 {
        let headers = [("NodeName", "evil"), ("Authorization", "Bearer a.b.c")];
        assert_eq!(enrol::get(scene.world.ports.cert, "/edge.crt", &tls, &headers, &csr).0, 401);
        let headers = [("SessionHostNameOverride", "good")];
        let tunnel = upgrade(scene.world.ports.tunnel, "/v1/kubeedge/connect", &headers, &scene.identity);
        assert!(tunnel.map(drop).expect_err("a refusal").contains("403"));
    }
    scene.unharmed(&["a certificate was refused", "a tunnel was refused"]);
    let place = scene.world.data_dir().join("cloud/kedge.sock").display().to_string();
    let status = scene.world.kedge(&["status", "--socket", &place, "-o", "json"]);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let counted = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64);
    assert_eq!(counted("/refused/certificates/evil/the token is not accepted"), Some(20), "{status}");
    let tunnels = "/refused/tunnels/system:node:evil/the certificate belongs to another node";
    assert_eq!(counted(tunnels), Some(20), "{status}");
}

/// CVE-2022-31076 was `null` at a local socket. Whatever is said to the status socket, the daemon and its next caller live.
#[test]
fn local_sockets_take_nothing_that_they_cannot_read() {
    let scene = Scene::new("hazard-socket");
    let place = scene.world.data_dir().join("cloud/kedge.sock");
    for bytes in [&b"null\n"[..], b"GET / HTTP/1.1\r\n\r\n", b"\0\xff\xfe", b"", &[b'x'; 1 << 20]] {
        let mut socket = UnixStream::connect(&place).unwrap();
        // It may have answered and closed before all is written.
        drop(socket.write_all(bytes));
        drop(socket.shutdown(std::net::Shutdown::Write));
        socket.set_read_timeout(Some(SOON)).unwrap();
        drop(socket.read_to_end(&mut Vec::new()));
    }
    // Callers that say nothing and do not read.
    let idle: Vec<UnixStream> = (0..50).filter_map(|_| UnixStream::connect(&place).ok()).collect();
    let shown = scene.world.kedge(&["status", "--socket", place.to_str().unwrap()]);
    shown.assert_status(0);
    drop(idle);
    scene.unharmed(&[]);
}
