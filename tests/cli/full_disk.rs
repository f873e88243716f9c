//! A full disk, below the edge's store and below the API's: a clear error, nothing that was acknowledged is lost, and work
//! goes on when there is space again. The disks are small tmpfs mounts, which need root.

use crate::support::machine::SmallDisk;
use crate::support::world::World;
use crate::support::{Run, eventually, run};
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

const POD: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {value: "0"}
---
apiVersion: v1
kind: Pod
metadata: {name: keep}
spec:
  nodeName: edge-1
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: kedge.local/busybox:1
    command: [sleep, "100000"]
    volumeMounts: [{name: c, mountPath: /c}]
  volumes: [{name: c, configMap: {name: c}}]
"#;

/// Replaces the ConfigMap by one with much data that ends with a mark.
fn replace(world: &World, mark: &str) -> Run {
    let data = format!("{}{mark}", "x".repeat(600_000));
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "default"}, "data": {"value": data}});
    let file = world.dir.join("c.json");
    std::fs::write(&file, object.to_string()).unwrap();
    world.kubectl(&["replace", "-f", file.to_str().unwrap()])
}

/// The mark of the ConfigMap as the node has it.
fn kept(world: &World) -> String {
    let got = world.kedge(&["meta", "get", "default/configmap/c", "-o", "json"]);
    let text = got.stdout;
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    let found = value.pointer("/data/value").or(value.pointer("/value/data/value")).and_then(Value::as_str);
    found.map_or(text.clone(), |text| text.trim_start_matches('x').to_owned())
}

fn container(world: &World) -> Value {
    let pod = world.get(&["pod", "keep"]);
    pod.pointer("/status/containerStatuses/0/containerID").cloned().unwrap_or_default()
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let world = World::new("disk");
    let edge_disk = SmallDisk::mount(&world.data_dir().join("edge"), "6m");
    let api_disk = SmallDisk::mount(&world.data_dir().join("api"), "12m");
    let up = world.up(&[]);
    world.apply(POD);
    world.wait_value(&["pod", "keep"], "/status/phase", &json!("Running"), SOON);
    let running = container(&world);

    // The edge: what cannot be stored is not acknowledged, so the cloud sends it until it is.
    edge_disk.fill();
    let mut mark = 0;
    eventually("the full disk is told in the log", SOON, || {
        mark += 1;
        let replaced = replace(&world, &mark.to_string());
        assert_eq!(replaced.status, 0, "{replaced:?}");
        std::thread::sleep(Duration::from_millis(500));
        let log = world.log("up.err");
        if log.contains("KE-STORE-003") { Ok(()) } else { Err(log) }
    });
    let status = world.kedge(&["status"]);
    assert!(status.stdout.contains("KE-STORE-003") && status.stdout.contains("free space"), "{status:?}");
    assert_ne!(kept(&world), mark.to_string());
    assert_eq!(container(&world), running);
    edge_disk.free();
    eventually("the node has the newest ConfigMap", SOON, || {
        let found = kept(&world);
        if found == mark.to_string() { Ok(()) } else { Err(found) }
    });
    eventually("the trouble is over", SOON, || {
        let status = world.kedge(&["status"]);
        if status.stdout.contains("KE-STORE") { Err(status) } else { Ok(()) }
    });

    // The API: kubectl hears of it, what stood there stands, what was refused does not.
    api_disk.fill();
    let mut taken = mark;
    let refused = loop {
        let replaced = replace(&world, &(taken + 1).to_string());
        if replaced.status != 0 {
            break replaced;
        }
        taken += 1;
        assert!(taken < mark + 40, "the disk never filled");
    };
    assert!(refused.stderr.contains("KE-API-002"), "{refused:?}");
    let stands = |mark: u64| {
        let value = world.get(&["configmap", "c"]);
        let text = value.pointer("/data/value").and_then(Value::as_str).unwrap_or_default().to_owned();
        assert_eq!(text.trim_start_matches('x'), mark.to_string());
    };
    stands(taken);
    api_disk.free();
    eventually("the API can be written again", SOON, || {
        let replaced = replace(&world, "9999");
        if replaced.status == 0 { Ok(()) } else { Err(replaced) }
    });
    stands(9999);
    world.kubectl_ok(&["wait", "--for=condition=Ready", "node/edge-1", "--timeout=10s"]);
    assert_eq!(container(&world), running);
    let log = world.whole_log("up.err");
    assert!(!log.contains("panicked"), "{log}");
    assert!(run("kill", &["-0", &up.pid().to_string()]).status == 0);
    world.kubectl_ok(&["delete", "pod", "keep", "--wait=false"]);
}
