//! Texts that are compared whole with what is committed. What differs from run to run is named by the test or masked here.

use super::Run;
use regex::Regex;
use std::fmt::Write;

/// Compares a text with `tests/cli/snapshots/NAME.txt`; `UPDATE_SNAPSHOTS=1` writes it.
#[track_caller]
pub fn assert_snapshot(name: &str, text: &str) {
    let file = format!("{}/tests/cli/snapshots/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
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
        let named = known.iter().fold(self.0.clone(), |text, (value, name)| text.replace(value, name));
        let masked = [
            (r"\d{4}-\d{2}-\d{2}T[0-9:.]+Z", "TIME"),
            (r"\b[0-9a-f]{64}\b", "DIGEST"),
            (r"\b[0-9a-f]{16}\b", "FINGERPRINT"),
            (r"\bpid \d+", "pid N"),
            (r"\bprocess \d+", "process N"),
            (r"\bkill \d+", "kill N"),
            (r"\b\d+ (s|ms|min|h) ago", "a while ago"),
            (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        ];
        let text = masked.iter().fold(named, |text, (pattern, by)| {
            Regex::new(pattern).unwrap().replace_all(&text, *by).into_owned()
        });
        assert_snapshot(name, &text);
    }
}
