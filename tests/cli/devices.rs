//! A device twin from MQTT to the cloud and back.

use crate::support::snapshot;
use crate::support::world::World;
use crate::support::{Run, eventually};
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

pub const THERMOMETER: &str = r#"
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: thermometer}
spec:
  properties:
  - {name: temperature, type: FLOAT, accessMode: ReadOnly}
  - {name: target, type: FLOAT, accessMode: ReadWrite}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: t1}
spec:
  deviceModelRef: {name: thermometer}
  nodeName: edge-1
  protocol: {protocolName: virtual, configData: {anything: [1, 2]}}
  properties:
  - {name: temperature, reportToCloud: true}
  - {name: target, desired: {value: "20"}}
"#;

/// The reported value of a property as the cloud has it.
pub fn reported(world: &World, device: &str, property: &str) -> Option<String> {
    let got = world.kubectl(&["get", "devicestatus", device, "-o", "json"]);
    let status: Value = serde_json::from_str(&got.stdout).ok()?;
    let twins = status.pointer("/status/twins")?.as_array()?.clone();
    let one = twins.into_iter().find(|twin| twin.get("propertyName") == Some(&json!(property)))?;
    one.pointer("/reported/value")?.as_str().map(str::to_owned)
}

/// Waits until the node knows the device.
pub fn known(world: &World, device: &str) {
    eventually("the node knows the device", SOON, || {
        let run = world.kedge(&["twin", "get", device]);
        if run.status == 0 { Ok(()) } else { Err(run) }
    });
}

const UPDATE: &str = "$hw/events/device/default/t1/twin/update";

#[test]
fn a_twin_follows_in_both_directions() {
    let world = World::new("twin");
    let _up = world.up(&[]);
    world.apply(THERMOMETER);
    known(&world, "t1");

    let result = world.subscribe("$hw/events/device/default/t1/twin/update/result", 1);
    world.publish(UPDATE, r#"{"event_id":"e1","timestamp":1,"twin":{"temperature":{"actual":{"value":"21.5"},"metadata":{"type":"float"}}}}"#);
    let lines = result.messages();
    assert!(lines[0].contains(r#""event_id":"e1""#), "{lines:?}");
    eventually("the first value reaches the cloud", SOON, || match reported(&world, "t1", "temperature") {
        Some(value) if value == "21.5" => Ok(()),
        other => Err(other),
    });

    let delta = world.subscribe("$hw/events/device/default/t1/twin/update/delta", 1);
    let patch = r#"[{"op":"replace","path":"/spec/properties/1/desired/value","value":"23"}]"#;
    world.kubectl_ok(&["patch", "device", "t1", "--type=json", "-p", patch]);
    let lines = delta.messages();
    assert!(lines[0].contains(r#""delta":{"target":"23"}"#), "{lines:?}");

    let get = world.subscribe("$hw/events/device/default/t1/twin/get/result", 1);
    world.publish("$hw/events/device/default/t1/twin/get", r#"{"event_id":"e2","timestamp":1}"#);
    let lines = get.messages();
    assert!(lines[0].contains("21.5") && lines[0].contains("23"), "{lines:?}");

    let shown = world.kedge(&["twin", "get", "t1", "temperature"]);
    shown.assert_status(0);
    assert!(shown.stdout.contains("21.5"), "{shown:?}");
    snapshot::said("twin get t1 temperature", &shown);
    for side in [&[][..], &["--kube-config", world.kubeconfig().to_str().unwrap()]] {
        let read_only = world.kedge(&[&["twin", "set", "t1", "temperature=1"], side].concat());
        assert!(read_only.status == 2 && read_only.stderr.contains("KE-TWIN-006"), "{read_only:?}");
        snapshot::failed(&read_only);
    }
    let wished = world.kedge(&["twin", "set", "t1", "target=24"]);
    wished.assert_status(0);
    snapshot::said("twin set t1 target=24", &wished);
    eventually("the value set at the edge reaches the cloud's Device", SOON, || {
        let device = world.get(&["device", "t1"]);
        match device.pointer("/spec/properties/1/desired/value") {
            Some(value) if value == "24" => Ok(()),
            other => Err(other.cloned()),
        }
    });

    played_and_watched(&world);
    world.kubectl_ok(&["delete", "device", "t1"]);
    eventually("the node forgets the device", SOON, || {
        let run = world.kedge(&["twin", "get", "t1"]);
        if run.status == 1 { Ok(()) } else { Err(run) }
    });
}

/// A thermometer is played, and somebody who watches hears of it.
fn played_and_watched(world: &World) {
    let dir = world.data_dir().display().to_string();
    let mut watch = world.start("watch", &["twin", "watch", "t1", "--data-dir", &dir].map(str::to_owned));
    let play = ["device", "simulate", "--device", "t1", "--reports", "1", "--interval", "1ms"];
    let (played, stdout) = eventually("the watcher hears of a report", SOON, || {
        // Another value before, so that the one that is played is news.
        world.publish(UPDATE, r#"{"twin":{"temperature":{"actual":{"value":"5"}}}}"#);
        let played = world.kedge(&play);
        let value = played.stderr.trim().rsplit(' ').next().unwrap_or_default();
        let heard = std::fs::read_to_string(world.dir.join("watch.out")).unwrap_or_default();
        let news = |line: &&str| line.contains("  temperature  ") && line.ends_with(&format!(" {value}"));
        let line = heard.lines().find(news).map(str::to_owned);
        match line {
            Some(line) if played.status == 0 => Ok((played, line)),
            _ => Err((played, heard)),
        }
    });
    snapshot::said("device simulate --device t1 --reports 1", &played);
    let status = watch.interrupt();
    snapshot::said("twin watch t1", &Run { status, stdout, stderr: String::new() });
}

#[test]
fn a_nonsense_update_gets_an_answer_and_harms_nothing() {
    let world = World::new("twin-nonsense");
    let _up = world.up(&[]);
    world.apply(THERMOMETER);
    known(&world, "t1");
    for payload in ["{", "[]", r#"{"twin":null}"#, r#"{"twin":{"a b":{"actual":{"value":"1"}}}}"#, "\u{1}"] {
        let result = world.subscribe("$hw/events/device/default/t1/twin/update/result", 1);
        world.publish(UPDATE, payload);
        let lines = result.messages();
        assert!(lines[0].contains(r#""code":400"#), "{payload:?}: {lines:?}");
    }
    world.publish(
        "$hw/events/device/default/nobody/twin/update",
        r#"{"twin":{"a":{"actual":{"value":"1"}}}}"#,
    );
    world.publish(UPDATE, r#"{"twin":{"temperature":{"actual":{"value":"5"}}}}"#);
    eventually("a good value still arrives", SOON, || match reported(&world, "t1", "temperature") {
        Some(value) if value == "5" => Ok(()),
        other => Err(other),
    });
}
