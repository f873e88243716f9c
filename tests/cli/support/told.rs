//! What a failed command tells a person, read from its talk and judged: the code, the reason, and a way out that exists.

use super::{Run, kedge, snapshot};
use clap::Command;
use regex::Regex;

/// One failure as it was printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub what: String,
    pub why: String,
    pub fix: String,
    pub code: String,
}

/// Every failure in what a command has said, in order.
pub fn told(talk: &str) -> Vec<Told> {
    let mut all = Vec::new();
    let mut open = Told { what: String::new(), why: String::new(), fix: String::new(), code: String::new() };
    for line in talk.lines() {
        if let Some(what) = line.strip_prefix("error: ") {
            open =
                Told { what: what.to_owned(), why: String::new(), fix: String::new(), code: String::new() };
        } else if let Some(why) = line.strip_prefix("  because: ") {
            why.clone_into(&mut open.why);
        } else if let Some(fix) = line.strip_prefix("  fix: ") {
            fix.clone_into(&mut open.fix);
        } else if let Some(code) = line.strip_prefix("  code: ") {
            code.clone_into(&mut open.code);
            all.push(open.clone());
        }
    }
    all
}

/// The command ended with this exit status, and what it told last has this code, a reason, a way out whose commands,
/// flags and settings exist, and a page of `kedge explain`. Nothing was printed as data, and the whole is as committed.
#[track_caller]
pub fn fails(run: &Run, code: &str, status: i32) -> Told {
    let all = told(&run.stderr);
    let last = all.last().unwrap_or_else(|| panic!("no failure was told: {run:?}")).clone();
    assert_eq!((last.code.as_str(), run.status), (code, status), "{run:?}");
    assert_eq!(run.stdout, "", "data of a command that failed: {run:?}");
    for one in &all {
        assert!(!one.why.is_empty(), "{} says no reason: {run:?}", one.code);
        leads_somewhere(&one.fix, &one.code);
        assert_eq!(kedge(&["explain", &one.code]).status, 0, "{} has no page", one.code);
    }
    snapshot::failed(run);
    last
}

/// A way out is there, and what it names exists.
#[track_caller]
pub fn leads_somewhere(fix: &str, code: &str) {
    assert!(!fix.is_empty(), "{code} says no way out");
    let tree = kedge::cmd::tree();
    let typed = Regex::new("(?:^|`|: |; )kedge ([a-z][a-z -]*)").unwrap();
    for line in typed.captures_iter(fix) {
        let mut place = &tree;
        for word in line[1].split(' ').take_while(|word| !word.starts_with('-')) {
            match place.find_subcommand(word) {
                Some(found) => place = found,
                None => break,
            }
        }
        assert!(place.get_name() != tree.get_name(), "{code}: there is no `kedge {}`", &line[1]);
    }
    let others = ["kubectl", "openssl", "systemctl", "ctr ", "crictl", "curl"];
    if !others.iter().any(|other| fix.contains(other)) {
        for flag in Regex::new("(?:^|[ `(])--([a-z][a-z-]*)").unwrap().captures_iter(fix) {
            // Every command has that one, and clap adds it late.
            assert!(&flag[1] == "help" || has_flag(&tree, &flag[1]), "{code}: there is no --{}", &flag[1]);
        }
    }
    let settings = ["edge", "cloud"].map(|role| {
        let file = format!("{}/src/config/{role}_default.yaml", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(file).unwrap()
    });
    for key in Regex::new(r"(?:modules|kedge)\.(?:[a-zA-Z]+\.)*([a-zA-Z]+)").unwrap().captures_iter(fix) {
        let line = format!("{}:", &key[1]);
        assert!(settings.iter().any(|text| text.contains(&line)), "{code}: there is no {}", &key[0]);
    }
}

fn has_flag(command: &Command, flag: &str) -> bool {
    let named = |arg: &clap::Arg| {
        arg.get_long() == Some(flag) || arg.get_all_aliases().unwrap_or_default().contains(&flag)
    };
    command.get_arguments().any(named) || command.get_subcommands().any(|below| has_flag(below, flag))
}

/// A finding of `kedge doctor` in its JSON form: its state, and whether it says why and leads somewhere.
#[track_caller]
pub fn finds(report: &serde_json::Value, code: &str, state: &str) -> String {
    let all = report["findings"].as_array().unwrap();
    let found = all.iter().find(|finding| finding["code"] == code && finding["state"] == state);
    let found = found.unwrap_or_else(|| panic!("no {code} {state} in {report:#}"));
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    assert!(!text("why").is_empty(), "{code} says no reason: {found:#}");
    leads_somewhere(&text("fix"), code);
    assert_eq!(kedge(&["explain", code]).status, 0, "{code} has no page");
    text("seen")
}
