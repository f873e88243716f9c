//! Hazards at the edge: a cloud with a good certificate that keeps to nothing, over a node that runs a pod.

use super::{bounded, odd_contents, told_once};
use crate::support::cloudcore::Cloudcore;
use crate::support::letter::{message, text};
use crate::support::machine::{Memory, memory};
use crate::support::peer::FakeCloud;
use crate::support::replica::EdgeFile;
use crate::support::world::{Daemon, World};
use crate::support::{eventually, kedge};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// A node under a cloudcore, and a pod that runs on it.
struct Scene {
    before: Memory,
    container: Value,
    edge: Daemon,
    cloud: Cloudcore,
    world: World,
}

fn pod(name: &str, uid: &str) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default", "uid": uid, "resourceVersion": "7"},
        "spec": {"nodeName": "edge-1", "terminationGracePeriodSeconds": 0, "restartPolicy": "Always",
            "containers": [{"name": "c", "image": "kedge.local/busybox:1", "command": ["sleep", "100000"]}]},
        "status": {"phase": "Pending"}})
}

fn container(cloud: &Cloudcore) -> Value {
    cloud.wait("the pod runs", |state| {
        let pod = state.objects.get(&("pod".to_owned(), "default".to_owned(), "steady".to_owned()))?;
        let id = pod.pointer("/status/containerStatuses/0/containerID")?.clone();
        pod.pointer("/status/containerStatuses/0/ready")?.as_bool()?.then_some(id)
    })
}

impl Scene {
    fn new(name: &str) -> Scene {
        let world = World::new(name);
        let cloud = Cloudcore::start(&world);
        let edge = world.edge_as("edge", &cloud.token());
        cloud.wait("the node registers", |state| {
            state
                .objects
                .contains_key(&("node".to_owned(), "null".to_owned(), "edge-1".to_owned()))
                .then_some(())
        });
        cloud.apply(pod("steady", ""));
        let container = container(&cloud);
        Scene { before: memory(edge.pid()), container, edge, cloud, world }
    }

    /// The link, the pod and the process are as they were; a new object gets through.
    #[track_caller]
    fn unharmed(&self, reasons: &[&str]) {
        self.cloud.apply(json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "after"},
            "spec": pod("after", "")["spec"], "status": {"phase": "Pending"}}));
        self.cloud.wait_object(["pod", "default", "after"], "/status/phase", &json!("Running"));
        assert_eq!(container(&self.cloud), self.container);
        self.cloud.with_state(|state| assert_eq!((state.connections, state.malformed), (1, 0)));
        bounded(self.edge.pid(), self.before);
        told_once(&self.world.dir.join("edge.err"), reasons);
    }

    /// Says something and waits until the edge has heard it.
    fn say(&self, route: [&str; 4], content: Value, version: &str) {
        let mut odd = message(route, content);
        odd["header"]["resourceversion"] = json!(version);
        self.cloud.say(odd);
    }

    fn settle(&self) {
        let last = message(
            ["edgecontroller", "resource", "update", "default/configmap/last"],
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "last", "namespace": "default",
                "uid": "last", "resourceVersion": "9"}, "data": {}}),
        );
        let id = text(&last, "/header/msg_id").to_owned();
        self.cloud.say(last);
        self.cloud.wait("the last message is acknowledged", |state| {
            state.heard.iter().any(|message| text(message, "/header/parent_msg_id") == id).then_some(())
        });
    }
}

#[test]
fn null_and_odd_contents_of_every_message() {
    let scene = Scene::new("hazard-edge-null");
    let routes = [
        ("edgecontroller", "resource", "default/pod/p"),
        ("edgecontroller", "resource", "default/configmap/c"),
        ("edgecontroller", "resource", "default/secret/s"),
        ("edgecontroller", "resource", "null/node/edge-1"),
        ("edgecontroller", "resource", "default/pod"),
        ("devicecontroller", "resource", "default/device/d"),
        ("devicecontroller", "resource", "default/devicemodel/m"),
        ("devicecontroller", "twin", "membership"),
        ("devicecontroller", "twin", "membership/detail"),
        ("devicecontroller", "twin", "device/default/d/twin/cloud_updated"),
        ("policycontroller", "resource", "default/serviceaccountaccess/a"),
        ("dynamiccontroller", "resource", "default/service/s"),
        ("dynamiccontroller", "resource", "ignore/Application/ignore"),
        ("cloudhub", "resource", "default/volume/v"),
        ("router_eventbus", "user", "default/topic"),
        ("router_servicebus", "user", "8080:/x"),
        ("taskmanager", "taskmanager", "operations.kubeedge.io/v1alpha2/imageprepulljob/j/node/edge-1"),
        ("taskmanager", "taskmanager", "operations.kubeedge.io/v1alpha2/nodeupgradejob/j/node/edge-1"),
        ("taskmanager", "taskmanager", "operations.kubeedge.io/v1alpha2/configupdatejob/j/node/edge-1"),
        ("taskmanager", "taskmanager", "upgrade/t/node/edge-1"),
    ];
    for (source, group, resource) in routes {
        for content in odd_contents() {
            for operation in
                ["insert", "update", "delete", "response", "publish", "subscribe", "createvolume", "Check"]
            {
                scene.say([source, group, operation, resource], content.clone(), "5");
            }
        }
        scene.settle();
    }
    scene.unharmed(&[]);
}

#[test]
fn a_version_that_is_no_number() {
    let scene = Scene::new("hazard-edge-version");
    for version in ["abc", "-1", "", "18446744073709551616", "1.5", "0x10"] {
        let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {},
            "metadata": {"name": "odd", "namespace": "default", "uid": "odd", "resourceVersion": version}});
        scene.say(["edgecontroller", "resource", "update", "default/configmap/odd"], object, version);
    }
    scene.settle();
    scene.unharmed(&[]);
}

#[test]
fn tasks_that_nobody_knows_and_words_for_a_shell() {
    let scene = Scene::new("hazard-edge-task");
    let path = |job: &str| format!("operations.kubeedge.io/v1alpha2/{job}/j/node/edge-1");
    let mark = scene.world.dir.join("injected");
    let shell =
        format!("v1.0.0; touch {0}; $(touch {0}) `touch {0}` | touch {0} && touch {0}", mark.display());
    for operation in ["Frobnicate", "", "RollBack", "Upgrade"] {
        for job in ["nodeupgradejob", "imageprepulljob", "configupdatejob", "frobjob"] {
            scene.say(["taskmanager", "taskmanager", operation, &path(job)], json!({}), "");
        }
    }
    let upgrade =
        json!({"version": shell, "image": shell, "checkItems": [shell], "requireConfirmation": false});
    scene.say(["taskmanager", "taskmanager", "Check", &path("nodeupgradejob")], upgrade, "");
    let pull = json!({"imagePrePullTemplate": {"images": [shell], "checkItems": ["disk", shell], "imageSecrets": shell}});
    scene.say(["taskmanager", "taskmanager", "Check", &path("imageprepulljob")], pull, "");
    let update = json!({"updateFields": {shell.as_str(): shell, "modules.edgeHub.heartbeat": shell}});
    scene.say(["taskmanager", "taskmanager", "Check", &path("configupdatejob")], update, "");
    let legacy = json!({"TaskID": shell, "Type": "upgrade", "State": "Upgrading",
        "Item": {"Version": shell, "UpgradeTool": shell, "Image": shell, "ImageDigest": shell}});
    scene.say(["taskmanager", "taskmanager", "upgrade", "upgrade/t/node/edge-1"], legacy, "");
    scene.settle();
    scene.unharmed(&[]);
    assert!(!mark.exists());
}

#[test]
fn names_and_keys_that_lead_out_of_their_directory() {
    let scene = Scene::new("hazard-edge-path");
    let outside = scene.world.dir.join("outside");
    let up = "../".repeat(20);
    let target = outside.strip_prefix("/").unwrap().display();
    let escape = format!("{up}{target}");
    let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "keys", "namespace": "default",
        "uid": "keys", "resourceVersion": "5"}, "data": {escape.as_str(): "x", "..": "x", "/abs": "x", "": "x", "a/b": "x"}});
    scene.say(["edgecontroller", "resource", "update", "default/configmap/keys"], map, "5");
    for uid in [escape.as_str(), "..", "/", "a/../../b", "x\u{0}y", ""] {
        let mut odd = pod("odd", uid);
        odd["spec"]["volumes"] = json!([{"name": escape, "configMap": {"name": "keys"}},
            {"name": "e", "emptyDir": {}}, {"name": "v", "configMap": {"name": "keys"}}]);
        odd["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v", "subPath": escape},
            {"name": "e", "mountPath": "/e", "subPath": "../../.."}]);
        odd["spec"]["containers"][0]["terminationMessagePath"] = json!(escape);
        scene.say(["edgecontroller", "resource", "update", "default/pod/odd"], odd, "7");
        let mut named = pod(uid, "u-named");
        named["metadata"]["namespace"] = json!(uid);
        scene.say(["edgecontroller", "resource", "update", "default/pod/named"], named, "7");
        scene.settle();
    }
    scene.unharmed(&[]);
    assert!(!outside.exists());
    for place in ["b", "edge/b", "abs"] {
        assert!(!scene.world.data_dir().join(place).exists(), "{place}");
    }
    assert!(!Path::new("/abs").exists());
}

#[test]
fn a_burst_beyond_every_queue_is_acknowledged_to_the_last() {
    let scene = Scene::new("hazard-edge-burst");
    let mut ids = std::collections::BTreeSet::new();
    for n in 0..3000 {
        let name = format!("burst-{n}");
        let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"n": n.to_string()},
            "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "5"}});
        let mut push =
            message(["edgecontroller", "resource", "insert", &format!("default/configmap/{name}")], object);
        push["header"]["resourceversion"] = json!("5");
        ids.insert(text(&push, "/header/msg_id").to_owned());
        scene.cloud.say(push);
    }
    scene.cloud.wait("all acknowledgements", |state| {
        for message in &state.heard {
            ids.remove(text(message, "/header/parent_msg_id"));
        }
        ids.is_empty().then_some(())
    });
    scene.unharmed(&[]);
}

/// A node whose cloud says whatever the test likes, byte for byte.
struct Bare {
    before: Memory,
    edge: Daemon,
    hub: FakeCloud,
    pipe: FakeCloud,
    world: World,
}

impl Bare {
    fn new(name: &str) -> Bare {
        let world = World::new(name);
        let hub = FakeCloud::new(&world);
        let pipe = hub.on(world.ports.tunnel);
        let edge = world.edge();
        // Once it has connected it has started.
        drop(hub.accept());
        Bare { before: memory(edge.pid()), edge, hub, pipe, world }
    }

    #[track_caller]
    fn unharmed(&self, reasons: &[&str]) {
        bounded(self.edge.pid(), self.before);
        told_once(&self.world.dir.join("edge.err"), reasons);
        // It answers, and says that it has no cloud.
        self.world.kedge(&["status"]).assert_status(1);
    }
}

#[test]
fn frames_of_a_tunnel_that_nobody_knows() {
    let bare = Bare::new("hazard-edge-tunnel");
    let mut pipe = bare.pipe.accept();
    for frame in [
        &[1, 7][..],
        &[1, 200, 1],
        &[],
        &[0xff; 11],
        &[5, 0, b'{'],
        &[5, 1],
        &[5, 6, b'n'],
        &[5, 3],
        &[5, 4],
        &[0x80],
    ] {
        assert!(pipe.send_bytes(frame), "{frame:?}");
    }
    for url in [
        "",
        "/containerLogs/../../etc/passwd",
        "/containerLogs/default/nobody/c",
        "http://192.0.2.1/",
        "\u{0}",
    ] {
        let connect = json!({"MessID": 6, "url": {"Path": url, "Host": "192.0.2.1:80", "RawQuery": "tailLines=-1&follow=x"}, "header": {}});
        for kind in 0..3u8 {
            assert!(pipe.send_bytes(&[&[6, kind][..], connect.to_string().as_bytes()].concat()));
        }
    }
    // It answers on the same tunnel.
    let answered = pipe.read().expect("an answer");
    assert!(!answered.is_empty());
    let mut large = vec![1, 3];
    large.resize((1 << 20) + 3, b'x');
    assert!(pipe.send_bytes(&large));
    eventually("the frame is told", SOON, || {
        let log = std::fs::read_to_string(bare.world.dir.join("edge.err")).unwrap();
        if log.contains("the frame is longer than allowed") { Ok(()) } else { Err(log) }
    });
    bare.unharmed(&[
        "reason=the frame has an unknown type",
        "reason=the frame is cut off or its numbers are too long",
        "reason=the frame is longer than allowed",
    ]);
    pipe.send_oversized(17 << 20, 1);
    pipe.wait_end();
    drop(bare.pipe.accept());
    bare.unharmed(&[]);
}

#[test]
fn a_frame_that_claims_an_exabyte() {
    let bare = Bare::new("hazard-edge-claim");
    for length in [u64::MAX >> 1, 1 << 60, 17 << 20] {
        let mut cloud = bare.hub.accept();
        cloud.claim(length, false);
        cloud.wait_end();
    }
    bare.unharmed(&[]);
}

#[test]
fn a_refusal_without_an_end() {
    let bare = Bare::new("hazard-edge-refusal");
    for head in [
        "HTTP/1.1 403 Forbidden\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 99999999999\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nX-Long: ",
        "HTTP/1.1 ",
        "",
    ] {
        let mut stream = bare.hub.accept_bytes();
        let mut request = vec![0; 4096];
        assert!(stream.read(&mut request).unwrap() > 0);
        drop(stream.write_all(head.as_bytes()));
        // It hangs up long before the end.
        let piece = vec![b'x'; 1 << 20];
        let sent = (0..256).take_while(|_| stream.write_all(&piece).is_ok()).count();
        assert!(sent < 256, "{head:?}");
    }
    bare.unharmed(&[]);
}

#[test]
fn a_cloud_of_another_authority_is_not_talked_to() {
    let world = World::new("hazard-edge-authority");
    let right = FakeCloud::new(&world);
    let kept = std::fs::read(world.data_dir().join("edge/ca/rootCA.crt")).unwrap();
    drop(right);
    // Another authority, same address; the node's files are those of the first one.
    let wrong = FakeCloud::new(&world);
    std::fs::write(world.data_dir().join("edge/ca/rootCA.crt"), &kept).unwrap();
    let edge = world.edge();
    let mut stream = wrong.accept_bytes();
    let heard = stream.read(&mut [0; 64]);
    assert!(heard.map_or(true, |count| count == 0), "the node spoke to a stranger");
    eventually("the reason is told", SOON, || {
        let log = world.whole_log("edge.err");
        if log.contains("no connection to the cloud") { Ok(()) } else { Err(log) }
    });
    drop(edge);
}

/// Volume operations of a storage driver (CVE-2022-31077 was one that is `null`): each has an answer, whatever it holds.
#[test]
fn volume_operations_are_answered_whatever_they_hold() {
    let scene = Scene::new("hazard-edge-csi");
    let mut ids = Vec::new();
    for operation in ["createvolume", "deletevolume", "controllerpublishvolume", "controllerunpublishvolume"]
    {
        for content in odd_contents() {
            let order = message(["cloudhub", "resource", operation, "default/volume/v"], content);
            ids.push(text(&order, "/header/msg_id").to_owned());
            scene.cloud.say(order);
        }
    }
    scene.cloud.wait("an answer to each that can be read", |state| {
        let answered =
            |id: &String| state.heard.iter().any(|message| text(message, "/header/parent_msg_id") == id);
        ids.iter().all(answered).then_some(())
    });
    scene.settle();
    let silent = scene.cloud.with_state(|state| {
        let answered =
            |id: &&String| state.heard.iter().any(|message| text(message, "/header/parent_msg_id") == **id);
        ids.iter().filter(|id| !answered(id)).count()
    });
    assert_eq!(silent, 0, "of {}", ids.len());
    scene.unharmed(&[]);
}

/// KubeEdge waited eight minutes for a QUIC handshake and then ended. Here WebSocket carries the link at once, one
/// warning says so, and no datagram is sent or taken.
#[test]
fn quic_is_not_spoken() {
    let world = World::new("hazard-edge-quic");
    let _cloud = world.cloud();
    let token = world.kedge(&["gettoken"]).stdout.trim().to_owned();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.set_nonblocking(true).unwrap();
    let quic = datagrams.local_addr().unwrap().to_string();
    let p = world.ports;
    let file = EdgeFile { node: "edge-2", hub: p.hub, cert: p.cert, mqtt: p.mqtt, token: Some(&token) };
    let _edge = file.start_with(&world, |config| {
        config["modules"]["edgeHub"]["quic"] = json!({"enable": true, "server": quic});
        config["modules"]["edgeHub"]["websocket"]["enable"] = json!(false);
    });
    let dir = world.dir.join("edge-2").display().to_string();
    let link = eventually("the link is up by WebSocket", SOON, || {
        let run = kedge(&["status", "--data-dir", &dir, "-o", "json"]);
        let status: Value = serde_json::from_str(&run.stdout).unwrap_or_default();
        if text(&status, "/link/link") == "up" { Ok(status) } else { Err(world.log("edge-2.err")) }
    });
    assert_eq!(text(&link, "/link/protocol"), "websocket", "{link:#}");
    let said = world.whole_log("edge-2.err");
    assert_eq!(said.matches("KE-QUIC-001").count(), 1, "{said}");
    assert!(datagrams.recv(&mut [0; 16]).is_err(), "a datagram was sent");
    let config = format!("{dir}/config/edgecore.yaml");
    let run = kedge(&["doctor", "--config", &config, "--only", "KE-QUIC", "-o", "short"]);
    run.assert_status(0);
    assert!(run.stdout.contains("KE-QUIC-001 warning"), "{run:?}");
}

/// CVE-2022-31076 was `null` at a local socket. Whatever is said to the status socket, the daemon and its next caller live.
#[test]
fn local_sockets_take_nothing_that_they_cannot_read() {
    let bare = Bare::new("hazard-edge-socket");
    let place = bare.world.data_dir().join("kedge.sock");
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
    bare.world.kedge(&["status"]).assert_status(1);
    drop(idle);
    bare.unharmed(&[]);
}
