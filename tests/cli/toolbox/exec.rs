//! `kedge exec` against a real containerd, with and without a daemon: output, errors, input to its end, exit status.

use crate::support::snapshot;
use crate::support::world::World;
use crate::support::{Run, binary};
use serde_json::json;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: box, namespace: default}
spec:
  nodeName: edge-1
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: "kedge.local/busybox:1", command: [sleep, "3600"]}
"#;

fn with_input(world: &World, args: &[&str], input: &[u8]) -> Run {
    let dir = world.data_dir().display().to_string();
    let mut command = Command::new(binary());
    command.args(["exec", "--data-dir", &dir]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(pipe.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.into()
}

#[test]
fn commands_run_in_a_container_with_and_without_a_daemon() {
    let world = World::new("exec");
    let mut up = world.up(&[]);
    world.apply(POD);
    world.wait_value(&["pod", "box"], "/status/phase", &json!("Running"), Duration::from_secs(60));
    let run = with_input(&world, &["box", "--", "sh", "-c", "echo out; echo err >&2; exit 7"], b"");
    assert_eq!((run.status, run.stdout.as_str(), run.stderr.as_str()), (7, "out\n", "err\n"));
    snapshot::said("exec box -- sh -c …", &run);

    // Input reaches the command whole, and so does its end.
    let text: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    let run = with_input(&world, &["-i", "box", "--", "wc", "-c"], text.as_bytes());
    assert_eq!((run.status, run.stdout.trim()), (0, text.len().to_string().as_str()), "{}", run.stderr);
    snapshot::said("exec -i box -- wc -c", &run);

    let run = with_input(&world, &["box", "-t", "--", "sh", "-c", "test -t 1 && echo terminal"], b"");
    assert_eq!((run.status, run.stdout.trim()), (0, "terminal"), "{run:?}");

    for (args, status, code) in [
        (&["box", "--", "/no/such/program"][..], 1, "KE-EXEC-001"),
        (&["nobody", "--", "true"], 1, "KE-POD-003"),
        (&["box", "-c", "other", "--", "true"], 1, "KE-POD-004"),
        (&["box", "--runtime-endpoint", "unix:///nonexistent", "--", "true"], 4, "KE-RUNTIME-008"),
        (&["box"], 2, "COMMAND"),
    ] {
        let run = with_input(&world, args, b"");
        assert_eq!(run.status, status, "{args:?}: {run:?}");
        assert!(run.stderr.contains(code), "{args:?}: {run:?}");
        snapshot::failed(&run);
    }

    // Pods run on without a daemon, and so do commands in them.
    let socket = world.data_dir().join("runtime/containerd.sock");
    up.interrupt();
    if socket.exists() && std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        let run = with_input(&world, &["box", "--", "echo", "still here"], b"");
        assert_eq!((run.status, run.stdout.as_str()), (0, "still here\n"), "{run:?}");
    }
}
