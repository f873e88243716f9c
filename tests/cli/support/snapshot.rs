//! Texts that are compared whole with what is committed. What differs from run to run is named by the test or masked here.
//! [`said`] and [`failed`] take what a test meets on its way: it stands under the name of the test, so that tests can run in
//! any order or alone, and commands need not be run once more to be heard.

#[path = "met.rs"]
pub mod met;

use super::{Run, binary};
pub use met::updates;
use regex::Regex;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Where what is committed lies.
pub fn place(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/snapshots").join(below)
}

/// Compares a text with `tests/cli/snapshots/NAME.txt`; `UPDATE_SNAPSHOTS=1` writes it.
#[track_caller]
pub fn assert_snapshot(name: &str, text: &str) {
    let file = place(&format!("{name}.txt"));
    if updates() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(text == committed, "{name} differs; run with UPDATE_SNAPSHOTS=1 and look at the change:\n{text}");
}

/// What commands have told as they failed, one after the other.
#[derive(Debug, Default)]
pub struct Errors(String);

impl Errors {
    /// Keeps the exit status, the findings that stood in the way, and every failure with all that it says.
    pub fn keep(&mut self, run: &Run) {
        let told = |line: &&str| {
            let beginnings = ["FAIL", "error: ", "  because: ", "  fix: ", "  code: "];
            beginnings.iter().any(|beginning| line.starts_with(beginning))
        };
        writeln!(self.0, "exit {}", run.status).unwrap();
        for line in run.stderr.lines().filter(told) {
            writeln!(self.0, "{line}").unwrap();
        }
        self.0.push('\n');
    }

    /// Compares all of it; each of `known` is written as its name.
    #[track_caller]
    pub fn are_as_committed(&self, name: &str, known: &[(&str, &str)]) {
        let masks = [
            (r"\d{4}-\d{2}-\d{2}T[0-9:.]+Z", "TIME"),
            (r"\b[0-9a-f]{64}\b", "DIGEST"),
            (r"\b[0-9a-f]{16}\b", "FINGERPRINT"),
            (r"\bpid \d+", "pid N"),
            (r"\bprocess \d+", "process N"),
            (r"\bkill \d+", "kill N"),
            (r"\b\d+ (s|ms|min|h) ago", "a while ago"),
            (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        ];
        assert_snapshot(name, &masked(&self.0, known, &masks));
    }
}

/// A text in which each of `known` is written as its name, and what fits a pattern as the word beside it.
fn masked(text: &str, known: &[(&str, &str)], masks: &[(&str, &str)]) -> String {
    let named = known.iter().fold(text.to_owned(), |text, (value, name)| text.replace(value, name));
    masks
        .iter()
        .fold(named, |text, (pattern, by)| Regex::new(pattern).unwrap().replace_all(&text, *by).into_owned())
}

/// All that commands have said, line for line as they were typed.
#[derive(Debug, Default)]
pub struct Said(String);

impl Said {
    /// Keeps the command, its exit status, its data as it is, and its talk behind exclamation marks.
    pub fn keep(&mut self, line: &str, run: &Run) {
        let talk: String = run.stderr.lines().map(|line| format!("! {line}\n")).collect();
        writeln!(self.0, "$ kedge {line}\n{}{talk}exit {}\n", run.stdout, run.status).unwrap();
    }

    /// Compares all of it with `tests/cli/snapshots/said/NAME.txt`; each of `known` is written as its name.
    #[track_caller]
    pub fn is_as_committed(&self, name: &str, known: &[(&str, &str)]) {
        let masks = [
            (r"\b[0-9a-f]{64}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", "TOKEN"),
            (r"\b[0-9a-f]{64}\b", "DIGEST"),
            (r"\b[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){15,}\b", "FINGERPRINT"),
            (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UID"),
            (r"\d{4}-\d{2}-\d{2}[T ][0-9:.]+Z?", "TIME"),
            (r"\b\d{8}T\d{6}(\.\d+)?Z?", "TIME"),
            (r"\b[bcdfghjklmnpqrstvwxz2-9]{10}\b", "ID"),
            (r"(?s)-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", "PEM"),
            (r"\b(36[45]|36399|36400)\b", "DAYS"),
            (r"(?m)^! +\d+  ", "! SIZE  "),
            (r" +\b\d+h\d\dm\b", " LEFT"),
            (r"\b\d+(\.\d+)? ?(s|ms|min|h|days|KiB|MiB|GiB|bytes)\b", "N $2"),
            (r"\bpid \d+", "pid N"),
            (r"(?m) +\b\d+[smhd]$", " AGE"),
            (r"\b\d{6,}\b", "N"),
            (r"kedge-[0-9a-f]{8}\b", "kedge-SUFFIX"),
        ];
        assert_snapshot(&format!("said/{name}"), &masked(&self.0, known, &masks));
    }
}

// === what tests meet on their way ===

/// Lines of a log, and what the machine below the tests is warned of.
static OF_THE_MACHINE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(\d{4}-\d{2}-\d{2}T|warning: )").unwrap());

/// The command of these words has done what it should: all that it said is as committed for this test in
/// `tests/cli/snapshots/done`, its talk behind exclamation marks.
#[track_caller]
pub fn said(words: &str, run: &Run) {
    let mut text = run.stdout.clone();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for line in run.stderr.lines().filter(|line| !OF_THE_MACHINE.is_match(line)) {
        writeln!(text, "! {line}").unwrap();
    }
    writeln!(text, "exit {}", run.status).unwrap();
    met("done", &format!("kedge {words}"), &text);
}

/// The command has failed: its exit status and every failure that it told, whole, are as committed for this test in
/// `tests/cli/snapshots/errors`, under the code of the last one.
#[track_caller]
pub fn failed(run: &Run) {
    let (mut text, mut code, mut open) = (format!("exit {}\n", run.status), "", false);
    for line in run.stderr.lines() {
        open |= line.starts_with("error: ");
        if open && !line.trim().is_empty() {
            writeln!(text, "{line}").unwrap();
        }
        if let Some(found) = line.strip_prefix("  code: ") {
            (code, open) = (found, false);
        }
    }
    assert!(!code.is_empty(), "no failure was told: {run:?}");
    met("errors", code, &text);
}

#[track_caller]
fn met(kind: &str, key: &str, text: &str) {
    let text = text.replace(binary(), "KEDGE");
    let test = met::asking();
    let (area, name) = test.rsplit_once("::").unwrap_or_else(|| panic!("{test:?} is no thread of a test"));
    let file = place(&format!("{kind}/{}.txt", area.replace("::", "-")));
    met::is_as_committed(&file, name, key, &text, "--test cli -- --test-threads=1");
}
