//! Manners of all failures: each is told in four parts. What happened and the code are asked for by `Failure::new`; the
//! reason and the way out are looked for here, in the sources, since many failures no test can bring about.

#![cfg(test)]

use regex::Regex;
use std::fs;
use std::path::Path;

/// Failures that get what they lack from the lines below them.
const LATER: [(&str, &str); 11] = [
    ("cmd/cloud/run.rs", "KE-CLOUD-001"),
    ("cmd/twin.rs", "KE-TWIN-001"),
    ("cmd/twin.rs", "KE-TWIN-002"),
    ("cmd/up/mod.rs", "KE-UP-002"),
    ("config/survey.rs", "KE-CONFIG-004"),
    ("daemon/cloud/setup/desk.rs", "KE-INIT-009"),
    ("daemon/edge/jobs/config.rs", "KE-JOB-001"),
    ("daemon/edge/pod/mod.rs", "KE-POD-006"),
    ("daemon/edge/uplink/enrol.rs", "KE-CERT-007"),
    ("host/ports.rs", "KE-PORT-001"),
    ("host/service/keep.rs", "KE-SERVICE-008"),
];

/// The expression that begins a text, to where its statement, argument or bracket ends.
fn expression(text: &str) -> &str {
    let (mut depth, mut quoted, mut letters) = (0_i32, false, text.char_indices());
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' if quoted => drop(letters.next()),
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth -= 1;
                if depth < 0 {
                    return &text[..at];
                }
            }
            ';' | ',' if depth == 0 => return &text[..at],
            _ => {}
        }
    }
    text
}

fn lacking(dir: &Path, root: &Path, found: &mut Vec<String>) {
    let tests = Regex::new(r"#\[cfg\(test\)\]\n(?:pub(?:\([a-z ]+\))? )?mod \w+ \{").unwrap();
    let made = Regex::new(r#"Failure::new\(\s*"(KE-[A-Z0-9]+-[0-9]{3})""#).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if path.is_dir() {
            lacking(&path, root, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        if !name.ends_with(".rs") || name.ends_with("tests.rs") || text.contains("\n#![cfg(test)]\n") {
            continue;
        }
        let end = tests.find(&text).map_or(text.len(), |start| start.start());
        for one in made.captures_iter(&text[..end]) {
            let (start, code) = (one.get(0).unwrap().start(), &one[1]);
            let whole = expression(&text[start..]);
            // What nobody can bring about has nobody who could mend it.
            let built_in = whole.contains("the built-in configuration");
            let lacks = [".because(", ".fix("].into_iter().find(|part| !whole.contains(part));
            if let Some(part) = lacks.filter(|_| !built_in && !LATER.contains(&(name.as_str(), code))) {
                found.push(format!("{name}: {code} has no {part}…)"));
            }
        }
    }
}

#[test]
fn every_failure_says_why_and_what_to_do() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    lacking(&root, &root, &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn an_expression_ends_where_its_statement_does() {
    assert_eq!(expression("a(\"x;)\\\"\", 1).b(2); c"), "a(\"x;)\\\"\", 1).b(2)");
    assert_eq!(expression("a(1).b([2, 3])) c"), "a(1).b([2, 3])");
    assert_eq!(expression("a(1), b"), "a(1)");
}
