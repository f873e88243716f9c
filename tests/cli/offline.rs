//! The edge without its cloud: pods run on, restarts adopt, the store answers, and both ends converge on return.

use crate::devices::{THERMOMETER, known, reported};
use crate::support::eventually;
use crate::support::machine::{pids_inside, pids_naming, signal};
use crate::support::world::World;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(40);

const PODS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: app}
data: {v: "one"}
---
apiVersion: v1
kind: Pod
metadata: {name: stays}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "kedge.local/busybox:1", command: [sh, -c, "while true; do cat /live/v; echo; sleep 0.2; done"], volumeMounts: [{name: live, mountPath: /live}]}
  volumes: [{name: live, configMap: {name: app}}]
---
apiVersion: v1
kind: Pod
metadata: {name: goes}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "kedge.local/busybox:1", command: [sleep, "100000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: ended}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "kedge.local/busybox:1", command: [sh, -c, "exit 3"]}]
"#;

/// `(name, running containers)` of each pod, as the node itself tells.
fn running(world: &World) -> Vec<(String, u64)> {
    let shown = world.kedge(&["pods", "-o", "json"]);
    let list: Value = serde_json::from_str(&shown.stdout).unwrap_or_default();
    let items = list.pointer("/items").and_then(Value::as_array).cloned().unwrap_or_default();
    let of = |pod: &Value| Some((pod.get("name")?.as_str()?.to_owned(), pod.get("running")?.as_u64()?));
    items.iter().filter_map(of).collect()
}

/// What the runtime keeps of a pod, its sandbox included.
fn containers_of(world: &World, pod: &str) -> Vec<String> {
    let filter = format!("labels.\"io.kubernetes.pod.name\"=={pod}");
    let listed = world.ctr(&["containers", "ls", "-q", &filter]);
    listed.assert_status(0);
    listed.stdout.lines().map(str::to_owned).collect()
}

/// Processes of containers whose command has this word, without what they are about to start: between fork and exec a child
/// goes by its parent's command.
fn sleepers(world: &World, word: &str) -> Vec<u32> {
    let of = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|c| String::from_utf8_lossy(&c).contains(word))
    };
    let all: Vec<u32> = pids_inside(&world.dir).into_iter().filter(of).collect();
    let is_first = |pid: &u32| parent(*pid).is_some_and(|parent| !all.contains(&parent));
    all.iter().copied().filter(is_first).collect()
}

/// The process that has started this one; `None` when it has ended.
fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it stands in parentheses and may hold anything.
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn the_edge_goes_on_without_its_cloud_and_both_converge() {
    let world = World::new("offline");
    let mut cloud = world.cloud();
    let mut edge = world.edge_with_token();
    world.wait_value(&["node", "edge-1"], "/metadata/name", &json!("edge-1"), SOON);
    world.kubectl_ok(&["wait", "--for=condition=Ready", "node/edge-1", "--timeout=40s"]);
    world.apply(PODS);
    world.apply(THERMOMETER);
    for pod in ["stays", "goes"] {
        world.kubectl_ok(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=40s"]);
    }
    known(&world, "t1");
    world.wait_value(&["pod", "ended"], "/status/phase", &json!("Failed"), SOON);
    assert_eq!(running(&world), [("ended".to_owned(), 0), ("goes".to_owned(), 1), ("stays".to_owned(), 1)]);

    // The cloud dies. A crashed container restarts.
    cloud.kill();
    let crashed = sleepers(&world, "100000");
    assert_eq!(crashed.len(), 1, "{crashed:?}");
    signal(crashed[0], "KILL");
    eventually("the crashed container runs again", SOON, || match sleepers(&world, "100000").as_slice() {
        [pid] if *pid != crashed[0] => Ok(()),
        other => Err(other.to_vec()),
    });

    // The edge dies too and starts alone: the same containers.
    let held = [sleepers(&world, "100000"), sleepers(&world, "while true")];
    edge.kill();
    for command in
        [&["twin", "get", "t1"][..], &["meta", "list"], &["pods"], &["meta", "get", "default/configmap/app"]]
    {
        world.kedge(command).assert_status(0);
    }
    world.kedge(&["twin", "set", "t1", "target=31"]).assert_status(0);
    let mut edge = world.edge();
    eventually("the edge serves without a cloud", SOON, || {
        // Without a cloud it is degraded, and serves.
        let status = world.kedge(&["status"]);
        if [0, 1].contains(&status.status) { Ok(()) } else { Err(status) }
    });
    let result = world.subscribe("$hw/events/device/default/t1/twin/update/result", 1);
    world.publish(
        "$hw/events/device/default/t1/twin/update",
        r#"{"twin":{"temperature":{"actual":{"value":"19"}}}}"#,
    );
    assert_eq!(result.messages().len(), 1, "the update has no result");
    assert_eq!(
        [sleepers(&world, "100000"), sleepers(&world, "while true")],
        held,
        "containers were recreated"
    );

    // The machine reboots: containers and runtime are gone. They are started again from the store; the pod that has ended
    // is not, although the runtime knows nothing of it any more.
    edge.kill();
    assert!(!containers_of(&world, "ended").is_empty());
    for container in containers_of(&world, "ended") {
        world.ctr(&["containers", "rm", &container]).assert_status(0);
    }
    for pid in pids_naming(&world.dir).into_iter().chain(pids_inside(&world.dir)) {
        signal(pid, "KILL");
    }
    eventually("nothing runs", SOON, || {
        let left = pids_inside(&world.dir);
        for pid in &left {
            signal(*pid, "KILL");
        }
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    let _edge = world.edge();
    eventually("both pods run again", SOON, || {
        let counts = (sleepers(&world, "100000").len(), sleepers(&world, "while true").len());
        if counts == (1, 1) { Ok(()) } else { Err(counts) }
    });
    assert_eq!(containers_of(&world, "ended"), [""; 0]);

    // The cloud returns, with changes made while the edge was away. Its store lies beside the edge's.
    let mut cloud = world.cloud();
    eventually("what was set offline is in the cloud", SOON, || {
        let device = world.get(&["device", "t1"]);
        let desired = device.pointer("/spec/properties/1/desired/value").cloned();
        let measured = reported(&world, "t1", "temperature");
        if desired == Some(json!("31")) && measured.as_deref() == Some("19") {
            Ok(())
        } else {
            Err((desired, measured))
        }
    });

    let ended = world.get(&["pod", "ended"]);
    assert_eq!(ended.pointer("/status/phase"), Some(&json!("Failed")));
    let code = "/status/containerStatuses/0/state/terminated/exitCode";
    assert_eq!(ended.pointer(code), Some(&json!(3)), "{ended:#}");

    // Changes made while the edge is cut off: a ConfigMap changed, a pod deleted.
    let mut edge = _edge;
    edge.kill();
    world.kubectl_ok(&["patch", "configmap", "app", "-p", r#"{"data":{"v":"two"}}"#]);
    world.kubectl_ok(&["delete", "pod", "goes", "--wait=false"]);
    cloud.kill();
    let _cloud = world.cloud();
    let _edge = world.edge();
    eventually("the deleted pod is gone on both sides", SOON, || {
        let pod = world.kubectl(&["get", "pod", "goes"]);
        let left = sleepers(&world, "100000");
        if pod.status != 0 && left.is_empty() { Ok(()) } else { Err((pod, left)) }
    });
    eventually("the changed ConfigMap is read", SOON, || {
        let tail = world.kubectl(&["logs", "stays", "--tail=1"]);
        if tail.stdout.trim() == "two" { Ok(()) } else { Err(tail) }
    });
}
