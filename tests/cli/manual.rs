//! Help topics and manual pages, as the binary prints and writes them.

use crate::support::world::World;
use crate::support::{kedge, run};
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn topics_and_commands_have_help_and_a_typo_is_answered() {
    let all = kedge(&["help"]);
    all.assert_status(0);
    for topic in [
        "join",
        "offline",
        "certificates",
        "ports",
        "exit-codes",
        "upgrade",
        "files",
        "airgap",
        "services",
        "keadm",
    ] {
        assert!(all.stdout.contains(&format!("\n  {topic} ")), "{topic} is not listed: {}", all.stdout);
        let one = kedge(&["help", topic]);
        one.assert_status(0);
        assert!(one.stdout.lines().count() > 10, "{one:?}");
    }
    let command = kedge(&["help", "edge", "run"]);
    assert!(command.stdout.contains("Usage: kedge edge run"), "{command:?}");
    let typo = kedge(&["help", "oflline"]);
    typo.assert_status(2);
    assert!(typo.stderr.contains("did you mean offline?") && typo.stderr.contains("KE-HELP-001"), "{typo:?}");
    crate::support::snapshot::failed(&typo);
    assert_eq!(kedge(&["man", "nonsense"]).status, 2);
}

#[test]
fn manual_pages_are_written_for_every_command_and_topic_and_can_be_set() {
    let world = World::new("manual");
    let dir = world.dir.join("man");
    let at = dir.to_str().unwrap();
    let dry = kedge(&["man", "--dir", at, "--dry-run"]);
    assert!(dry.status == 0 && !dir.exists(), "{dry:?}");
    let done = kedge(&["man", "--dir", at]);
    done.assert_status(0);
    assert_eq!(done.stderr, dry.stderr);
    let listed: BTreeSet<String> = done.stderr.lines().map(str::to_owned).collect();
    let page = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap();
    assert!(page("man1/kedge.1").contains("kedge\\-edge(1)"));
    assert!(page("man1/kedge-edge-run.1").contains("Examples:"));
    assert!(!dir.join("man1/kedge-service-keep.1").exists(), "a hidden command");
    assert!(listed.len() > 40, "{listed:?}");

    // What the typesetter complains of, a reader would stumble over; it is on every Debian with manual pages.
    // `man` tells it the pages' encoding too.
    let groff = std::process::Command::new("groff").arg("--version").output();
    for file in &listed {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains("\n.SH NAME"), "{file}");
        if groff.is_ok() {
            let set = run("groff", &["-Kutf8", "-man", "-Tutf8", "-ww", "-z", file]);
            assert_eq!((set.status, set.stderr.as_str()), (0, ""), "{file}");
        }
    }
    // One page to the output is the same as in its file.
    assert_eq!(kedge(&["man", "edge", "run"]).stdout.trim(), page("man1/kedge-edge-run.1").trim());
    assert_eq!(kedge(&["man", "airgap"]).stdout.trim(), page("man7/kedge-airgap.7").trim());
}

/// Whether `a::b::begin…` names a module of `tests/cli`, or a test in one; `…` stands for anything.
fn is_a_test(name: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let path = name.replace("::", "/");
    let (module, test) = path.rsplit_once('/').unwrap_or((&path, ""));
    let module = root.join(module);
    if root.join(format!("{path}.rs")).exists() || test.is_empty() && root.join(&path).exists() {
        return true;
    }
    let mut files = vec![module.with_extension("rs")];
    files.extend(std::fs::read_dir(&module).into_iter().flatten().map(|entry| entry.unwrap().path()));
    let texts: String = files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
    let functions = texts.lines().filter_map(|line| line.strip_prefix("fn ")?.split('(').next());
    let (begin, rest) = test.split_once('…').unwrap_or((test, ""));
    functions.into_iter().any(|function| {
        function.strip_prefix(begin).is_some_and(|tail| tail.contains(rest.trim_end_matches('…')))
    })
}

#[test]
fn every_test_that_the_readme_names_for_a_trap_is_there() {
    let readme = include_str!("../../README.md");
    let table = readme.split("\n## ").find(|section| section.starts_with("Thirty traps")).unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(rows.len(), 30);
    let mut missing = Vec::new();
    for row in rows {
        let cell = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap();
        let parts: Vec<&str> = cell.split('`').collect();
        for pair in parts.chunks_exact(2) {
            let [before, name] = pair else { continue };
            let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name.replace("::", "/"));
            let known = if before.trim_end().ends_with("unit") {
                unit.exists() || unit.with_extension("rs").exists()
            } else {
                // A command stands for itself.
                name.contains(' ') || is_a_test(name.trim_end_matches("::"))
            };
            if !known {
                missing.push(format!("{name} in {row}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
