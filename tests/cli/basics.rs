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
