//! Help, version, completions, and the way usage errors look.

use crate::support::kedge;

#[test]
fn version_says_what_it_speaks() {
    let run = kedge(&["version"]);
    run.assert_status(0);
    assert!(run.stdout.starts_with("kedge 0.1.0 ("), "{run:?}");
    let json = kedge(&["version", "-o", "json"]);
    assert!(json.stdout.contains("\"apiVersion\": \"kedge.io/v1\""), "{json:?}");
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
