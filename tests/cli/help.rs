//! The help of every command, compared whole: what a person may type is a contract.

use crate::support::kedge;

const COMMANDS: [&str; 25] = [
    "",
    "cloud",
    "cloud config",
    "cloud run",
    "completion",
    "device",
    "device list",
    "device simulate",
    "edge",
    "edge config",
    "edge run",
    "explain",
    "gettoken",
    "meta",
    "meta get",
    "meta list",
    "pods",
    "status",
    "token create",
    "token list",
    "token revoke",
    "twin get",
    "twin list",
    "twin set",
    "up",
];

#[test]
fn help_is_as_committed() {
    let mut all = String::new();
    for command in COMMANDS {
        let mut args: Vec<&str> = command.split_whitespace().collect();
        args.push("--help");
        let run = kedge(&args);
        run.assert_status(0);
        assert!(
            command.contains("completion")
                || command.split(' ').count() < 2
                || run.stdout.contains("Examples:"),
            "{command} has no examples"
        );
        all += &format!("$ kedge {}\n{}\n", args.join(" "), run.stdout);
    }
    let file = format!("{}/tests/cli/snapshots/help.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&file, &all).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        all == committed,
        "help differs from {file}; run the test with UPDATE_SNAPSHOTS=1 and look at the change"
    );
}
