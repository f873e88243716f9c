//! Peers that do not keep to the protocol, with certificates that are in order: a node to the cloud, a cloud to the edge,
//! clients to the broker. Memory stays bounded, each kind is logged once, nobody else notices.

use crate::devices::{THERMOMETER, known, reported};
use crate::support::eventually;
use crate::support::machine::memory;
use crate::support::peer::{FakeCloud, connect, envelope, identity, unusable};
use crate::support::pods::{pod, sleeper};
use crate::support::world::World;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const MIB: u64 = 1 << 20;
/// What the cloud makes of a message without a route.
const NO_ROUTE: &str = "the path names no known object";
const UPDATE: &str = "$hw/events/device/default/t1/twin/update";

fn twin(value: &str) -> String {
    format!(r#"{{"event_id":"e","timestamp":1,"twin":{{"temperature":{{"actual":{{"value":"{value}"}}}}}}}}"#)
}

#[track_caller]
fn arrives(world: &World, value: &str) {
    eventually(&format!("{value} reaches the cloud"), SOON, || match reported(world, "t1", "temperature") {
        Some(found) if found == value => Ok(()),
        other => Err(other),
    });
}

#[track_caller]
fn logged_once(world: &World, log: &str, reason: &str) {
    let text = std::fs::read_to_string(world.dir.join(log)).unwrap();
    let lines: Vec<&str> =
        text.lines().filter(|line| line.contains(&format!("reason=\"{reason}\""))).collect();
    assert_eq!(lines.len(), 1, "{reason}: {lines:#?}");
}

fn code(answer: &Value) -> Option<u64> {
    answer.pointer("/content/Err/ErrStatus/code").or(answer.pointer("/content/Err/code"))?.as_u64()
}

#[test]
fn a_hostile_node_and_hostile_devices_harm_nobody_else() {
    let world = World::new("hostile");
    let up = world.up(&[]);
    world.apply(THERMOMETER);
    world.apply(&pod("quiet", "edge-1", &[sleeper("main")]));
    known(&world, "t1");
    world.publish(UPDATE, &twin("1"));
    arrives(&world, "1");
    world.wait_value(&["pod", "quiet"], "/status/phase", &json!("Running"), SOON);

    hostile_node(&world, up.pid());
    hostile_clients(&world);

    world.kubectl_ok(&["wait", "--for=condition=Ready", "node/edge-1", "--timeout=5s"]);
    let log = world.whole_log("up.err");
    let of_edge = |line: &&str| line.contains("node=edge-1") && line.contains("the node is");
    assert_eq!(log.lines().filter(of_edge).count(), 1, "the session of edge-1 was never disturbed");
    assert!(!log.contains("panicked"), "{log}");
    world.kubectl_ok(&["delete", "pod", "quiet", "--wait=false"]);
}

fn hostile_node(world: &World, pid: u32) {
    let identity = identity(world, "evil");
    let mut evil = connect(world, "evil", &identity);
    let before = memory(pid);
    for (_, text) in unusable(NO_ROUTE) {
        for _ in 0..3 {
            evil.send(&text);
        }
    }
    let patch = Value::String(r#"{"metadata":{"labels":{"evil":"yes"}}}"#.to_owned());
    let sick = Value::String(r#"{"status":{"phase":"Failed"}}"#.to_owned());
    let twin_report: Value = serde_json::from_str(&twin("666")).unwrap();
    evil.send(&envelope("q1", "meta", "frobnicate", "default/configmap/c", &Value::Null));
    evil.send(&envelope("q2", "meta", "query", "default/frob/c", &Value::Null));
    evil.send(&envelope("q3", "meta", "patch", "null/nodepatch/edge-1", &patch));
    evil.send(&envelope("q4", "meta", "patch", "default/podpatch/quiet", &sick));
    evil.send(&envelope("q5", "meta", "query", "default/secret/kedge", &Value::Null));
    evil.send(&envelope("q6", "twin", "update", "device/default/t1/twin/edge_updated", &twin_report));
    evil.send_in_pieces(&envelope("q7", "meta", "query", "null/node/evil", &Value::Null), 7);
    let answers = evil.answers(&["q1", "q2", "q3", "q4", "q5", "q7"]);
    for answer in &answers[..2] {
        assert_eq!(answer.pointer("/route/operation"), Some(&json!("error")), "{answer}");
    }
    assert_eq!(code(&answers[2]), Some(403), "{}", answers[2]);
    for answer in &answers[3..] {
        let text = answer.to_string();
        assert!(text.contains("Forbidden") || text.contains("NotFound"), "{answer}");
    }
    evil.send_oversized(17 << 20, 1);
    evil.wait_end();
    let mut again = connect(world, "evil", &identity);
    again.send_oversized(17 << 20, 34);
    again.wait_end();

    let after = memory(pid);
    assert!(after.resident < before.resident + 48 * MIB, "{before:?} {after:?}");
    assert!(after.peak < before.peak.max(before.resident) + 160 * MIB, "{before:?} {after:?}");
    let mut reasons: Vec<&str> = unusable(NO_ROUTE).into_iter().map(|(reason, _)| reason).collect();
    reasons.dedup();
    reasons.extend(["unknown operation on an object", "the node spoke for another node"]);
    for reason in reasons {
        logged_once(world, "up.err", reason);
    }
    assert_eq!(world.get(&["node", "edge-1"]).pointer("/metadata/labels/evil"), None);
    assert_eq!(world.get(&["pod", "quiet"]).pointer("/status/phase"), Some(&json!("Running")));
    assert_eq!(reported(world, "t1", "temperature").as_deref(), Some("1"));
    world.publish(UPDATE, &twin("2"));
    arrives(world, "2");
}

/// The first packet of MQTT 3.1.1 with no keepalive.
fn connect_packet(client: &str) -> Vec<u8> {
    let name = client.as_bytes();
    let mut packet = vec![0x10, u8::try_from(12 + name.len()).unwrap(), 0, 4];
    packet.extend(*b"MQTT\x04\x02\x00\x00\x00");
    packet.push(u8::try_from(name.len()).unwrap());
    packet.extend(name);
    packet
}

fn greeted(world: &World, client: &str) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", world.ports.mqtt)).unwrap();
    socket.write_all(&connect_packet(client)).unwrap();
    socket
}

fn hostile_clients(world: &World) {
    let port = world.ports.mqtt.to_string();
    let mut device = Command::new("mosquitto_pub")
        .args(["-p", &port, "-t", UPDATE, "-q", "1", "-i", "t1", "-l"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut says = device.stdin.take().unwrap();
    let mut say = |value: &str| {
        writeln!(says, "{}", twin(value)).unwrap();
        arrives(world, value);
    };
    say("3");

    let mut seed = 1u32;
    let mut noise = |length: usize| -> Vec<u8> {
        let mut byte = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed.to_be_bytes()[0]
        };
        (0..length).map(|_| byte()).collect()
    };
    for n in 0..60 {
        let mut socket = TcpStream::connect(("127.0.0.1", world.ports.mqtt)).unwrap();
        let mut bytes = if n % 2 == 0 { Vec::new() } else { connect_packet(&format!("noise-{n}")) };
        bytes.extend(noise(n * 7));
        // The broker may close at the first byte that it cannot read.
        drop(socket.write_all(&bytes));
        drop(socket.shutdown(Shutdown::Write));
        drop(socket.read_to_end(&mut Vec::new()));
    }
    // A publish that says that it has 200 MiB, one that has 2 MiB, and a length without an end.
    for claim in [
        &[0x30, 0x80, 0x80, 0x80, 0x64][..],
        &[0x30, 0x80, 0x80, 0x80, 0x01],
        &[0x30, 255, 255, 255, 255, 255],
    ] {
        let mut socket = greeted(world, "large");
        drop(socket.write_all(claim).and_then(|()| socket.write_all(&vec![0; 3 << 20])));
        drop(socket.read_to_end(&mut Vec::new()));
    }
    say("4");

    let heard = world.subscribe("设备/#", 1);
    world.publish("设备/温度", "二十一度");
    assert_eq!(heard.messages(), ["设备/温度 二十一度"]);
    world.publish("$hw/events/device/default/设备/twin/update", &twin("1"));

    let crowd: Vec<TcpStream> = (0..1100).map(|n| greeted(world, &format!("crowd-{n}"))).collect();
    say("5");
    let log = world.whole_log("up.err");
    assert_eq!(log.matches("MQTT connections over the limit are closed").count(), 1);
    drop(crowd);
    drop(says);
    device.wait().unwrap();
    eventually("a new client is let in again", SOON, || {
        let status = Command::new("mosquitto_pub")
            .args(["-p", &port, "-t", UPDATE, "-q", "1", "-m", &twin("6")])
            .stderr(Stdio::null())
            .status()
            .unwrap();
        if status.success() { Ok(()) } else { Err(status) }
    });
    arrives(world, "6");
}

#[test]
fn a_hostile_cloud_does_not_harm_the_edge() {
    let world = World::new("hostile-cloud");
    let fake = FakeCloud::new(&world);
    let edge = world.edge();
    let mut cloud = fake.accept();
    let small = |value: &str| {
        json!({"kind": "ConfigMap", "metadata": {"name": "small", "namespace": "default", "uid": "u",
            "resourceVersion": "5"}, "data": {"a": value}})
    };
    cloud.send(&envelope("m1", "resource", "update", "default/configmap/small", &small("one")));
    cloud.answers(&["m1"]);
    let before = memory(edge.pid());
    for (_, text) in unusable("unknown group") {
        for _ in 0..3 {
            cloud.send(&text);
        }
    }
    cloud.send(&envelope("m2", "resource", "update", "default/frob/x", &json!({})));
    cloud.send(&envelope("m3", "resource", "frobnicate", "default/configmap/small", &small("three")));
    cloud.send(&envelope("m4", "resource", "update", "default/configmap/small", &json!([1])));
    cloud.send(&envelope("m5", "twin", "update", "membership", &json!({"added_devices": 5})));
    let mut large = small(&"x".repeat(1_100_000));
    large["metadata"]["name"] = json!("large");
    cloud.send(&envelope("m6", "resource", "update", "default/configmap/large", &large));
    let refusal = &cloud.answers(&["m6"])[0];
    assert_eq!(refusal.pointer("/route/operation"), Some(&json!("error")), "{refusal}");
    assert!(refusal.to_string().contains("KE-META-003"), "{refusal}");
    cloud
        .send_in_pieces(&envelope("m7", "resource", "update", "default/configmap/small", &small("seven")), 5);
    cloud.answers(&["m7"]);
    cloud.send_oversized(17 << 20, 1);
    cloud.wait_end();
    let mut cloud = fake.accept();
    cloud.send(&envelope("m8", "resource", "update", "default/configmap/small", &small("eight")));
    cloud.answers(&["m8"]);

    let after = memory(edge.pid());
    assert!(after.resident < before.resident + 48 * MIB, "{before:?} {after:?}");
    assert!(after.peak < before.peak.max(before.resident) + 160 * MIB, "{before:?} {after:?}");
    let mut reasons: Vec<&str> = unusable("unknown group").into_iter().map(|(reason, _)| reason).collect();
    reasons.dedup();
    reasons.extend(["the path names no known object", "unknown operation on an object"]);
    reasons.push("the content is not an object");
    for reason in reasons {
        logged_once(&world, "edge.err", reason);
    }
    let log = world.whole_log("edge.err");
    assert!(log.contains("KE-META-003"), "{log}");
    let kept = world.kedge(&["meta", "get", "default/configmap/small"]);
    assert!(kept.stdout.contains("eight"), "{kept:?}");
    world.kedge(&["meta", "get", "default/configmap/large"]).assert_status(1);
}
