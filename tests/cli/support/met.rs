//! What tests meet on their way, compared with what is committed: a text under the name of the test and a key, in a file with
//! those of other tests, so that tests can run in any order, side by side or alone. The tests of the program and those within
//! the library both use it, each from a place of its own; it knows nothing of either.

use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Whether this run writes what it would else compare with.
pub fn updates() -> bool {
    std::env::var_os("UPDATE_SNAPSHOTS").is_some()
}

/// The path of the test that asks, by which its thread is called.
pub fn asking() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

/// What differs from run to run, and what is written in its place, in this order.
const VOLATILE: &[(&str, &str)] = &[
    (r"\b[0-9a-f]{64}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", "TOKEN"),
    (r"\b[0-9a-f]{64}\b", "DIGEST"),
    (r"\b[0-9a-f]{6,}…", "DIGEST…"),
    (r"\b[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){15,}\b", "FINGERPRINT"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UID"),
    (r"\b[0-9a-f]{16}\b", "FINGERPRINT"),
    (r"\d{4}-\d{2}-\d{2}[T ][0-9:.]+Z?", "TIME"),
    (r"\b\d{8}T\d{6}(\.\d+)?Z?", "TIME"),
    (r#"[^\s"'`(=]*/kedge-e2e-\d+-[a-z0-9-]+"#, "WORLD"),
    (r#"[^\s"'`(=]*/kedge-gone-\d+"#, "WORLD"),
    (r#"[^\s"'`(=]*/\.tmp[A-Za-z0-9]{6}"#, "WORLD"),
    // The program that runs the tests, and its name as the kernel cuts it.
    (r"\bcli-[0-9a-f]{8,16}\b", "TESTS"),
    (r"\bkedge-[0-9a-f]{9,16}\b", "TESTS"),
    (r"\bkedge-upgrade-[a-z0-9]+(-\d+)", "kedge-upgrade-ID$1"),
    (r"\bkedge-[0-9a-f]{8}\b", "kedge-SUFFIX"),
    // A pod of a Deployment; the first part has eight letters at least.
    (r"-[bcdfghjklmnpqrstvwxz2-9]{8,10}-[bcdfghjklmnpqrstvwxz2-9]{5}\b", "-ID-ID"),
    (r"\b[bcdfghjklmnpqrstvwxz2-9]{10}\b", "ID"),
    (r"\b172\.3[01]\.\d+\.\d+\b", "ADDRESS"),
    (r"\b127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"\b(pid|process|kill) \d+", "$1 N"),
    (r"(?m)^(kedge-(?:edge|cloud) .*?) \d+ ", "$1 N "),
    (r"\bcontainerd v?\d+\.\d+\.[^\s,;)]+", "containerd VERSION"),
    (r"\bcontainerd://\d[^\s,;)]*", "containerd://VERSION"),
    (r"\bcgroup driver (cgroupfs|systemd)\b", "cgroup driver DRIVER"),
    (r"\b(x86_64|amd64|aarch64|arm64)\b", "ARCH"),
    (r"\b\d+(\.\d+)? ?(µs|us|ms|s|min|h|d|days?)\b", "SPAN"),
    (r"\bSPAN( SPAN)+\b", "SPAN"),
    (r"\] +SPAN\b", "] SPAN"),
    (r"\b(less than a minute|SPAN) ago\b", "a while ago"),
    (r"\b\d+(\.\d+)? ?(bytes?|B|KiB|MiB|GiB)\b", "SIZE"),
    (r"\b\d+( +DIGEST\b)", "N$1"),
    (r#"("?(?:resourceVersion|revision|REVISION)"?: *"?)\d+"#, "${1}N"),
    (r"(?m)^! +\d+  ", "! SIZE  "),
    (r"\b\d{6,}\b", "N"),
    // Ports that were free; those of KubeEdge begin with 10.
    (r"\b(1[1-9]|[2-9]\d)\d{3}\b", "PORT"),
    // Ends of digests, revisions, counts: what is left of figures says nothing of the sentence.
    (r"\b[0-9a-f]{8}\b", "HEX"),
    (r"(?m)(^|[^-.\w])\d{3,}\b", "${1}N"),
    // What SQLite finds depends on where its pages happen to lie.
    (r"\*\*\* in database main \*\*\*(\n\S[^\n]*)*", "DAMAGE"),
    // Columns are as wide as what was in them.
    (r"(\S) {2,}", "$1  "),
    (r"(?m) +$", ""),
];

/// A text without what differs from run to run.
fn lasting(text: &str) -> String {
    static MASKS: LazyLock<Vec<(Regex, &str)>> =
        LazyLock::new(|| VOLATILE.iter().map(|(pattern, by)| (Regex::new(pattern).unwrap(), *by)).collect());
    let text =
        text.replace(env!("CARGO_MANIFEST_DIR"), "SOURCES").replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let text = MASKS.iter().fold(text, |text, (pattern, by)| pattern.replace_all(&text, *by).into_owned());
    format!("{}\n", text.trim_end())
}

/// What is committed for each test of a file: keys and texts. A key can have several texts.
pub type Met = BTreeMap<String, BTreeSet<(String, String)>>;

/// Reads what [`is_as_committed`] has written.
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

/// The text, without what differs from run to run, is one that stands in the file for this test under this key; `target` is
/// what `cargo test` has to be told to run the test.
#[track_caller]
pub fn is_as_committed(file: &Path, test: &str, key: &str, text: &str, target: &str) {
    /// The tests of which this run has written something: what they said in another one goes with the first.
    static BEGUN: Mutex<BTreeSet<(PathBuf, String)>> = Mutex::new(BTreeSet::new());
    let entry = (key.to_owned(), lasting(text));
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = read(&std::fs::read_to_string(file).unwrap_or_default());
    if updates() {
        if begun.insert((file.to_owned(), test.to_owned())) {
            all.remove(test);
        }
        all.entry(test.to_owned()).or_default().insert(entry);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, written(&all)).unwrap();
        return;
    }
    drop(begun);
    let committed = all.remove(test).unwrap_or_default();
    let same: Vec<&str> =
        committed.iter().filter(|(known, _)| known == key).map(|(_, text)| text.as_str()).collect();
    assert!(
        // Masks that came later hold for what is committed too.
        same.iter().any(|text| lasting(text) == entry.1),
        "{key} of {test} is not as in {}; `UPDATE_SNAPSHOTS=1 cargo test --locked {target} {test}` writes it, then look at \
         the change. Said:\n{}\nCommitted:\n{}",
        file.display(),
        entry.1,
        same.join("\n")
    );
}
