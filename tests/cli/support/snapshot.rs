//! Texts that are compared whole with what is committed. What differs from run to run is named by the test or masked here.
//! [`said`] and [`failed`] take what a test meets on its way: it stands under the name of the test, so that tests can run in
//! any order or alone, and commands need not be run once more to be heard.

use super::Run;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

const UPDATE: &str = "UPDATE_SNAPSHOTS";

/// Whether this run writes what it would else compare with.
pub fn updates() -> bool {
    std::env::var_os(UPDATE).is_some()
}

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

/// What differs from run to run, and what is written in its place, in this order.
const VOLATILE: &[(&str, &str)] = &[
    (r"\b[0-9a-f]{64}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", "TOKEN"),
    (r"\b[0-9a-f]{64}\b", "DIGEST"),
    (r"\b[0-9a-f]{6,}…", "DIGEST…"),
    (r"\b[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){15,}\b", "FINGERPRINT"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UID"),
    (r"\b[0-9a-f]{16}\b", "FINGERPRINT"),
    (r"\d{4}-\d{2}-\d{2}[T ][0-9:.]+Z?", "TIME"),
    (r"\b\d{8}T\d{6}(\.\d+)?Z?", "TIME"),
    (r#"[^\s"'`(=]*/kedge-e2e-\d+-[a-z0-9-]+"#, "WORLD"),
    (r#"[^\s"'`(=]*/kedge-gone-\d+"#, "WORLD"),
    (r#"[^\s"'`(=]*/\.tmp[A-Za-z0-9]{6}"#, "WORLD"),
    // The program that runs the tests.
    (r"\bcli-[0-9a-f]{8,16}\b", "cli"),
    (r"\bkedge-upgrade-[a-z0-9]+(-\d+)", "kedge-upgrade-ID$1"),
    (r"\bkedge-[0-9a-f]{8}\b", "kedge-SUFFIX"),
    (r"\b[bcdfghjklmnpqrstvwxz2-9]{10}\b", "ID"),
    (r"\b172\.3[01]\.\d+\.\d+\b", "ADDRESS"),
    (r"\b127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"\b(pid|process|kill) \d+", "$1 N"),
    (r"(?m)^(kedge-(?:edge|cloud) .*?) \d+ ", "$1 N "),
    (r"\bcontainerd v?\d+\.\d+\.[^\s,;)]+", "containerd VERSION"),
    (r"\b(x86_64|amd64|aarch64|arm64)\b", "ARCH"),
    (r"\b\d+(\.\d+)? ?(µs|us|ms|s|min|h|d|days?)\b", "SPAN"),
    (r"\bSPAN( SPAN)+\b", "SPAN"),
    (r"\] +SPAN\b", "] SPAN"),
    (r"\b(less than a minute|SPAN) ago\b", "a while ago"),
    (r"\b\d+(\.\d+)? ?(bytes?|B|KiB|MiB|GiB)\b", "SIZE"),
    (r"\b\d+( +DIGEST\b)", "N$1"),
    (r#"(?i)("?(?:resourceVersion|revision)"?: *"?)\d+"#, "${1}N"),
    (r"(?m)^! +\d+  ", "! SIZE  "),
    (r"\b\d{6,}\b", "N"),
    // Ports that were free; those of KubeEdge begin with 10.
    (r"\b(1[1-9]|[2-9]\d)\d{3}\b", "PORT"),
    // Columns are as wide as what was in them.
    (r"(\S) {2,}", "$1  "),
    (r"(?m) +$", ""),
];

/// Lines of a log, and what the machine below the tests is warned of.
static OF_THE_MACHINE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(\d{4}-\d{2}-\d{2}T|warning: )").unwrap());

/// A text without what differs from run to run.
fn lasting(text: &str) -> String {
    static MASKS: LazyLock<Vec<(Regex, &str)>> =
        LazyLock::new(|| VOLATILE.iter().map(|(pattern, by)| (Regex::new(pattern).unwrap(), *by)).collect());
    let text = text.replace(super::binary(), "KEDGE").replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let text = MASKS.iter().fold(text, |text, (pattern, by)| pattern.replace_all(&text, *by).into_owned());
    format!("{}\n", text.trim_end())
}

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
    met("done", &format!("kedge {words}"), &lasting(&text));
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
    met("errors", code, &lasting(&text));
}

/// What is committed for each test of a file: keys and texts. A key can have several texts.
pub type Met = BTreeMap<String, BTreeSet<(String, String)>>;

/// Reads what [`met`] has written.
pub fn read(text: &str) -> Met {
    let mut all = Met::new();
    for section in format!("\n{text}").split("\n=== ").skip(1) {
        let (test, rest) = section.split_once('\n').unwrap_or((section, ""));
        let entries = all.entry(test.to_owned()).or_default();
        for entry in format!("\n{rest}").split("\n== ").skip(1) {
            let (key, said) = entry.split_once('\n').unwrap_or((entry, ""));
            entries.insert((key.to_owned(), format!("{}\n", said.trim_end())));
        }
    }
    all
}

fn written(all: &Met) -> String {
    let mut text = String::new();
    for (test, entries) in all {
        writeln!(text, "=== {test}\n").unwrap();
        for (key, said) in entries {
            writeln!(text, "== {key}\n{said}").unwrap();
        }
    }
    text
}

/// The file and the name of the test that asks: its thread is called by its path.
#[track_caller]
fn asking() -> (String, String) {
    let thread = std::thread::current();
    let path = thread.name().unwrap_or_default();
    let (area, test) = path.rsplit_once("::").unwrap_or_else(|| panic!("{path:?} is no thread of a test"));
    (area.replace("::", "-"), test.to_owned())
}

#[track_caller]
fn met(kind: &str, key: &str, text: &str) {
    /// The tests of which this run has written something: what they said in another one goes with the first.
    static BEGUN: Mutex<BTreeSet<(PathBuf, String)>> = Mutex::new(BTreeSet::new());
    let (area, test) = asking();
    let file = place(&format!("{kind}/{area}.txt"));
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = read(&std::fs::read_to_string(&file).unwrap_or_default());
    if updates() {
        if begun.insert((file.clone(), test.clone())) {
            all.remove(&test);
        }
        all.entry(test).or_default().insert((key.to_owned(), text.to_owned()));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, written(&all)).unwrap();
        return;
    }
    drop(begun);
    let of_test = all.remove(&test).unwrap_or_default();
    let committed: Vec<String> =
        of_test.into_iter().filter(|(known, _)| known == key).map(|(_, text)| text).collect();
    assert!(
        committed.iter().any(|known| known == text),
        "{key} of {test} is not as in {}; `UPDATE_SNAPSHOTS=1 cargo test --locked --test cli -- --test-threads=1 {test}` \
         writes it, then look at the change. Said:\n{text}\nCommitted:\n{}",
        file.display(),
        committed.join("\n")
    );
}
