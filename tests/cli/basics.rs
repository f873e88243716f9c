//! Help, version, completions, and the way usage errors look.

use crate::support::world::World;
use crate::support::{Run, binary, kedge};
use std::fs::File;
use std::process::{Command, Stdio};

#[test]
fn version_says_what_it_speaks() {
    let run = kedge(&["version"]);
    run.assert_status(0);
    assert!(run.stdout.starts_with("kedge 0.1.0 ("), "{run:?}");
    let json = kedge(&["version", "-o", "json"]);
    assert!(json.stdout.contains("\"apiVersion\": \"kedge.io/v1\""), "{json:?}");
}

/// What comes of a command whose output goes to a disk that is full.
fn on_a_full_disk(args: &[&str]) -> Run {
    let full = File::options().write(true).open("/dev/full").unwrap();
    Command::new(binary()).args(args).stdin(Stdio::null()).stdout(full).output().unwrap().into()
}

#[test]
fn output_that_cannot_be_written_is_a_failure_and_a_closed_pipe_is_none() {
    for line in [
        "version",
        "version -o json",
        "--help",
        "token create --help",
        "explain KE-TERM-003",
        "completion bash",
        "limits",
        "edge config --minconfig",
        "cloud config --defaultconfig",
        "doctor --list",
    ] {
        let run = on_a_full_disk(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(run.status, 1, "{line}: {run:?}");
        for part in
            ["error: the output could not be written", "because: No space left", "fix: ", "code: KE-TERM-003"]
        {
            assert!(run.stderr.contains(part), "{line}: {run:?}");
        }
    }
    let mut child = Command::new(binary())
        .args(["edge", "config", "--defaultconfig"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_token_that_could_not_be_printed_is_nobodys() {
    let world = World::new("full-token");
    let _cloud = world.cloud();
    let data_dir = world.data_dir().display().to_string();
    let count = || world.kedge(&["token", "list", "-o", "json"]).stdout.matches("\"id\"").count();
    world.kedge(&["token", "create"]).assert_status(0);
    let before = count();
    for form in ["text", "json"] {
        let run = on_a_full_disk(&["token", "create", "-o", form, "--data-dir", &data_dir]);
        assert_eq!(run.status, 1, "{run:?}");
        assert!(
            run.stderr.contains("the new token is revoked") && run.stderr.contains("KE-TERM-003"),
            "{run:?}"
        );
        assert_eq!(count(), before);
    }
}

#[test]
fn an_unknown_command_is_a_usage_error() {
    let run = kedge(&["frobnicate"]);
    run.assert_status(2);
    assert!(run.stderr.contains("unrecognized subcommand 'frobnicate'"), "{run:?}");
    assert_eq!(run.stdout, "");
}

#[test]
fn committed_completions_are_what_the_binary_prints() {
    for shell in ["bash", "zsh", "fish"] {
        let printed = kedge(&["completion", shell]);
        printed.assert_status(0);
        let file = format!("{}/completions/kedge.{shell}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&file, &printed.stdout).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(printed.stdout, committed, "{file} differs; run the test with UPDATE_SNAPSHOTS=1");
    }
}

#[test]
fn a_flag_that_would_change_nothing_is_refused() {
    for (line, code) in [
        ("pods --runtime-endpoint nonsense", "KE-JOIN-005"),
        ("doctor offline --runtime-endpoint nonsense", "KE-JOIN-005"),
        ("doctor --pre --kube-config nonsense", "KE-USAGE-001"),
        ("doctor --pre --only KE-DISK --skip KE-DISK", "KE-DOCTOR-002"),
    ] {
        let run = kedge(&line.split(' ').collect::<Vec<_>>());
        assert!(
            run.status == 2 && run.stderr.contains(code) && run.stderr.contains("fix: "),
            "{line}: {run:?}"
        );
    }
    let empty = kedge(&["up", "--data-dir", ""]);
    assert!(
        empty.status == 2 && empty.stderr.contains("because: nothing was given, or an empty text"),
        "{empty:?}"
    );
    let nowhere = ["token", "create", "--join-file", "/no/such/file", "--cloud", "10.0.0.5", "--dry-run"];
    let nowhere = kedge(&nowhere);
    assert!(nowhere.status == 1 && nowhere.stderr.contains("fix: mkdir -p /no/such"), "{nowhere:?}");
}
