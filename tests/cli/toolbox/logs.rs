//! `kedge logs` against a real containerd: one container of several, the last lines, following to the end; with and without
//! a daemon, and from the files alone.

use crate::support::snapshot;
use crate::support::world::World;
use crate::support::{Run, eventually, run};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// One container that has written and waits, one that writes for two seconds and ends.
const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: box, namespace: default}
spec:
  nodeName: edge-1
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: "kedge.local/busybox:1", command: [sh, -c, "echo one; echo two; echo three; sleep 3600"]}
  - {name: brief, image: "kedge.local/busybox:1", command: [sh, -c, "echo first; while [ ! -e /tmp/go ]; do sleep 0.2; done; echo last"]}
"#;

fn logs(world: &World, args: &[&str]) -> Run {
    world.kedge(&[&["logs"], args].concat())
}

#[test]
fn a_container_s_words_are_read_on_the_node() {
    let world = World::new("logs");
    let mut up = world.up(&[]);
    world.apply(POD);
    world.wait_value(&["pod", "box"], "/status/phase", &json!("Running"), SOON);
    eventually("the container has written", SOON, || {
        let read = logs(&world, &["box", "-c", "main"]);
        if (read.status, read.stdout.as_str()) == (0, "one\ntwo\nthree\n") { Ok(()) } else { Err(read) }
    });
    assert_eq!(logs(&world, &["box", "-c", "main", "--tail", "1"]).stdout, "three\n");
    let stamped = logs(&world, &["box", "-c", "main", "--tail", "1", "--timestamps"]).stdout;
    assert!(stamped.starts_with("20") && stamped.ends_with(" three\n"), "{stamped}");

    // A follower sees what comes, and ends with the container.
    let dir = world.data_dir().display().to_string();
    let mut follow = Command::new(crate::support::binary());
    follow.args(["logs", "box", "-c", "brief", "-f", "--data-dir", &dir]);
    let mut following = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("first"));
    let go = ["exec", "--data-dir", &dir, "box", "-c", "brief", "--", "touch", "/tmp/go"];
    run(crate::support::binary(), &go).assert_status(0);
    assert_eq!(lines.collect::<Vec<_>>(), ["last"]);
    assert!(following.wait().unwrap().success());

    for (args, status, code) in [
        (&["box"][..], 2, "KE-EXEC-002"),
        (&["nobody"], 1, "KE-POD-003"),
        (&["box", "-c", "other"], 1, "KE-POD-004"),
        (&["box", "-c", "main", "--previous"], 1, "KE-POD-005"),
        (&["nobody", "--runtime-endpoint", "unix:///nonexistent"], 4, "KE-RUNTIME-008"),
    ] {
        let refused = logs(&world, args);
        assert_eq!(refused.status, status, "{args:?}: {refused:?}");
        assert!(refused.stderr.contains(code), "{args:?}: {refused:?}");
        snapshot::failed(&refused);
    }

    // Neither a cloud nor a daemon is needed, nor a runtime that answers.
    up.interrupt();
    let read = logs(&world, &["box", "-c", "main"]);
    assert_eq!((read.status, read.stdout.as_str()), (0, "one\ntwo\nthree\n"), "{read:?}");
    let read = logs(&world, &["box", "-c", "main", "--runtime-endpoint", "unix:///nonexistent"]);
    assert_eq!((read.status, read.stdout.as_str()), (0, "one\ntwo\nthree\n"), "{read:?}");
    assert!(read.stderr.contains("does not answer"), "{read:?}");
    snapshot::said("logs box -c main", &read);
}
