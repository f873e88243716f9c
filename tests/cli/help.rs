//! The help of every command, compared whole: what a person may type is a contract.

use crate::support::kedge;

/// The words of every command that can be seen, from the tree that the binary is made of.
pub(crate) fn commands() -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    below(&kedge::cmd::tree(), &[], &mut found);
    found.sort();
    found
}

fn below(command: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
    for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
        let words = [words, &[child.get_name().to_owned()]].concat();
        found.push(words.clone());
        below(child, &words, found);
    }
}

#[test]
fn help_is_as_committed() {
    let mut all = String::new();
    for words in commands() {
        let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
        args.push("--help");
        let run = kedge(&args);
        run.assert_status(0);
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
