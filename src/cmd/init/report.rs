//! How `kedge init` tells what it has found and done.

use crate::base::{Failure, Output, Term};
use crate::daemon::cloud::setup::{Applied, Neighbour};
use crate::host::check::{Finding, State};
use serde::Serialize;
use serde_json::json;

/// Everything that was done.
pub(super) struct Done<'a> {
    pub cluster: &'a str,
    pub mode: &'static str,
    pub addresses: &'a [String],
    pub objects: &'a [Applied],
    pub kept: &'a [String],
    pub kept_off: &'a [Neighbour],
    pub join: &'a str,
}

/// One line for each check, two more for what is not well.
pub(super) fn findings(findings: &[Finding], term: &Term) {
    for finding in findings {
        let mark = match finding.state {
            State::Fine => "ok  ",
            State::Skipped => "skip",
            State::Warning => "warn",
            State::Failed => "FAIL",
        };
        term.say(&format!("  {mark}  {}: {}", finding.name, finding.seen));
        if finding.state == State::Failed || finding.state == State::Warning {
            term.say(&format!("        because: {}", finding.why));
            term.say(&format!("        fix: {} [{}]", finding.fix, finding.code));
        }
    }
}

/// What stays as it was set before.
pub(super) fn kept(kept: &[String], term: &Term) {
    for kept in kept {
        term.say(&format!("  kept  {kept}"));
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Kept<'a> {
    namespace: &'a str,
    name: &'a str,
    /// What takes it back.
    undo: String,
}

/// The join line as data; everything as a document where that is wanted.
pub(super) fn done(done: &Done<'_>, output: Output, term: &Term) -> Result<(), Failure> {
    let count = |outcome: &str| done.objects.iter().filter(|it| it.outcome == outcome).count();
    if output == Output::Text {
        let (created, changed, same) = (count("created"), count("changed"), count("unchanged"));
        term.say(&format!("{created} objects created, {changed} changed, {same} as they were"));
        term.say("a machine joins with:");
        term.data(done.join);
        return Ok(());
    }
    let kept =
        |it: &'_ Neighbour| json!(Kept { namespace: &it.namespace, name: &it.name, undo: it.undo_command() });
    let document = json!({
        "apiVersion": "kedge.io/v1",
        "kind": "Installation",
        "cluster": done.cluster,
        "mode": done.mode,
        "addresses": done.addresses,
        "objects": done.objects,
        "kept": done.kept,
        "daemonSetsKeptOff": done.kept_off.iter().map(kept).collect::<Vec<_>>(),
        "join": done.join,
    });
    term.value(&document, output)
}
