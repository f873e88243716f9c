//! `kedge up`: from nothing to a Ready node, down on Ctrl-C, and everything as it was on the next start.

use crate::support::Run;
use crate::support::snapshot;
use crate::support::world::World;
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn everything_comes_up_goes_down_and_comes_back() {
    let world = World::new("up");
    let mut up = world.up(&[]);

    let node = world.get(&["node", "edge-1"]);
    assert_eq!(node.pointer("/metadata/labels/node-role.kubernetes.io~1edge"), Some(&json!("")));
    let wide = world.kubectl_ok(&["get", "nodes"]);
    assert!(wide.lines().nth(1).is_some_and(|line| line.starts_with("edge-1   Ready")), "{wide}");
    assert!(world.kubectl_ok(&["version"]).contains("Server Version"), "no server version");
    world.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {a: b}\n");
    let before = world.get(&["configmap", "kept"]);
    world.kubectl_ok(&["run", "kept", "--image=kedge.local/demo:1"]);
    world.kubectl_ok(&["wait", "--for=condition=Ready", "pod/kept", "--timeout=30s"]);
    let container = |pod: &serde_json::Value| pod.pointer("/status/containerStatuses/0").cloned();
    let running = container(&world.get(&["pod", "kept"]));

    assert_eq!(up.interrupt(), 0);
    // Its log stands between the lines.
    let talk = world.whole_log("up.err");
    let own = |line: &&str| ["[", "ready", "  ", "stopped"].iter().any(|begin| line.starts_with(begin));
    let stderr: String = talk.lines().filter(own).map(|line| format!("{line}\n")).collect();
    snapshot::said("up", &Run { status: 0, stdout: String::new(), stderr });
    let down = world.kedge(&["status"]);
    down.assert_status(4);
    assert!(down.stderr.starts_with("error: no kedge daemon is running here\n  because: "), "{down:?}");

    let _up = world.up(&[]);
    assert_eq!(world.get(&["configmap", "kept"]), before);
    assert_eq!(world.get(&["node", "edge-1"]).pointer("/metadata/uid"), node.pointer("/metadata/uid"));
    world.kedge(&["status"]).assert_status(0);
    assert_eq!(container(&world.get(&["pod", "kept"])), running, "the pod was not found as it was");
    world.kubectl_ok(&["delete", "pod", "kept", "--timeout=30s"]);
}

#[test]
fn a_second_up_in_the_same_directory_is_refused() {
    let world = World::new("second");
    let up = world.up(&[]);
    let mut args = vec!["up"];
    let flags = world.up_flags();
    args.extend(
        flags.iter().map(String::as_str).filter(|arg| *arg != "--data-dir" && !arg.ends_with("/data")),
    );
    let second = world.kedge(&args);
    second.assert_status(1);
    assert!(second.stderr.contains(&up.pid().to_string()), "the holder is not named: {second:?}");
    snapshot::failed(&second);
}

#[test]
fn the_demo_shows_a_moving_twin() {
    let world = World::new("demo");
    let _up = world.up(&["--demo"]);
    world.wait_value(&["deployment", "demo"], "/status/readyReplicas", &json!(2), SOON);
    let reported = || {
        let status = world.get(&["devicestatus", "thermometer"]);
        let twins = status.pointer("/status/twins").and_then(|t| t.as_array()).cloned().unwrap_or_default();
        let one = twins.iter().find(|t| t.get("propertyName") == Some(&json!("temperature"))).cloned();
        one.and_then(|t| t.pointer("/reported/value").cloned()).filter(|value| value != "")
    };
    let first = crate::support::eventually("a first temperature", SOON, || reported().ok_or("none"));
    crate::support::eventually("another temperature", SOON, || match reported() {
        Some(next) if next != first => Ok(()),
        other => Err(other),
    });
}
