//! What a join tells: its milestones to the person, and with `-o json|yaml` one event for each and a last one with the
//! outcome to programs. Everything else in `join` reports here and prints no data itself; no secret comes in.

use super::milestones::{self, Milestone};
use crate::base::{Exit, Failure, Output, Steps, Term};
use crate::cmd::cert;
use crate::config::edge::EdgeConfig;
use crate::host::journal;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

const API_VERSION: &str = "kedge.io/v1";

/// How a join has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing was changed.
    Refused,
    /// What was changed is taken back, but for what is listed as left.
    RolledBack,
    /// It was as wished before.
    Unchanged,
    Joined,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Refused => "refused",
            Outcome::RolledBack => "rolledBack",
            Outcome::Unchanged => "unchanged",
            Outcome::Joined => "joined",
        }
    }
}

/// One thing that a join would do.
pub(super) struct Item {
    /// One word for programs.
    action: &'static str,
    /// The file or the directory that it is about.
    path: Option<String>,
    text: String,
}

impl Item {
    /// Something that is done to a path; `verb` is for persons.
    pub(super) fn at(action: &'static str, verb: &str, path: &Path) -> Item {
        let path = path.display().to_string();
        Item { action, text: format!("{verb} {path}"), path: Some(path) }
    }

    /// Something else, told by its text.
    pub(super) fn other(action: &'static str, text: impl Into<String>) -> Item {
        Item { action, path: None, text: text.into() }
    }
}

/// What one join has told so far.
pub(super) struct Account<'a> {
    term: &'a Term,
    output: Output,
    dry_run: bool,
    started: Instant,
    steps: Option<Steps>,
    pending: Option<Milestone>,
    outcome: Outcome,
    /// What is known of node and cloud, for the last event.
    facts: Value,
    leftovers: Vec<Value>,
}

impl<'a> Account<'a> {
    pub(super) fn new(output: Output, dry_run: bool, term: &'a Term) -> Account<'a> {
        Account {
            term,
            output,
            dry_run,
            started: Instant::now(),
            steps: None,
            pending: None,
            outcome: Outcome::Refused,
            facts: json!({}),
            leftovers: Vec::new(),
        }
    }

    /// Names the milestone that is pending.
    pub(super) fn begin(&mut self, milestone: Milestone) {
        self.pending = Some(milestone);
        self.steps().begin(milestone.name());
    }

    /// A milestone is reached; the detail may be empty.
    pub(super) fn reached(&mut self, milestone: Milestone, detail: &str) {
        self.pending = None;
        let name = milestone.name();
        self.steps().reached(&if detail.is_empty() { name.to_owned() } else { format!("{name}: {detail}") });
        self.event(milestone, "reached", detail, None);
    }

    /// What will be, or is, the node.
    pub(super) fn know(&mut self, config: &EdgeConfig) {
        self.facts = json!({
            "node": config.node,
            "cloud": {"https": config.hub.http_server, "websocket": config.hub.websocket},
            "certificate": {"path": config.hub.cert_file.display().to_string()},
        });
    }

    pub(super) fn ended(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// What a roll-back could not take back.
    pub(super) fn left(&mut self, leftover: &Failure) {
        self.term.failure(leftover);
        self.leftovers.push(told(leftover));
    }

    /// All that a join would do, as one object or a line each.
    pub(super) fn plan(&self, items: &[Item]) -> Result<(), Failure> {
        if self.output == Output::Text {
            let lines: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
            self.term.data(&lines.join("\n"));
            return Ok(());
        }
        let shown = |item: &Item| json!({"action": item.action, "path": item.path, "text": item.text});
        let mut plan = json!({"apiVersion": API_VERSION, "kind": "JoinPlan", "dryRun": true,
            "items": items.iter().map(shown).collect::<Vec<_>>()});
        extend(&mut plan, self.facts.clone());
        self.term.value(&plan, self.output)
    }

    /// The last event; with a plan before it, only a failure has one.
    pub(super) fn close(mut self, done: &Result<Exit, Failure>) -> Result<(), Failure> {
        let failure = done.as_ref().err();
        if let (Some(failure), Some(milestone)) = (failure, self.pending.take()) {
            self.event(milestone, "failed", "", Some(failure));
        }
        let planned = self.dry_run && done.is_ok() && self.outcome != Outcome::Unchanged;
        if self.output == Output::Text || planned {
            return Ok(());
        }
        let exit = done.as_ref().map_or_else(|failure| failure.exit, |exit| *exit);
        let mut report = json!({"apiVersion": API_VERSION, "kind": "JoinReport", "outcome": self.outcome.word(),
            "exit": exit.code(), "dryRun": self.dry_run, "seconds": self.seconds(),
            "journal": journal::DIR, "leftovers": self.leftovers, "failure": failure.map(told)});
        extend(&mut report, self.facts.clone());
        if matches!(self.outcome, Outcome::Joined | Outcome::Unchanged) {
            add_fingerprint(&mut report);
        }
        self.emit(&report)
    }

    fn steps(&mut self) -> &mut Steps {
        self.steps.get_or_insert_with(|| self.term.steps(milestones::TOTAL))
    }

    fn seconds(&self) -> f64 {
        (self.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
    }

    /// The events of a dry run are in its plan.
    fn event(&self, milestone: Milestone, state: &str, detail: &str, failure: Option<&Failure>) {
        if self.output == Output::Text || self.dry_run {
            return;
        }
        let mut event = json!({"apiVersion": API_VERSION, "kind": "JoinMilestone", "milestone": milestone.name(),
            "number": milestone as usize + 1, "of": milestones::TOTAL, "state": state,
            "seconds": self.seconds(), "detail": detail});
        if let Some(failure) = failure {
            extend(&mut event, told(failure));
        }
        // What is made of texts and numbers can be printed.
        drop(self.emit(&event));
    }

    /// A line of JSON, or a document of YAML in a stream of them.
    fn emit(&self, event: &Value) -> Result<(), Failure> {
        match self.output {
            Output::Yaml => {
                self.term.data("---");
                self.term.value(event, Output::Yaml)
            }
            Output::Json | Output::Text => self.term.line(event),
        }
    }
}

fn told(failure: &Failure) -> Value {
    json!({"code": failure.code, "what": failure.what, "because": failure.why, "fix": failure.fix})
}

fn extend(value: &mut Value, more: Value) {
    if let (Value::Object(held), Value::Object(more)) = (value, more) {
        held.extend(more);
    }
}

/// Of the certificate that the node shows now.
fn add_fingerprint(report: &mut Value) {
    let Some(certificate) = report.get_mut("certificate") else { return };
    let path = certificate.get("path").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Ok(fingerprint) = cert::fingerprint(Path::new(&path)) {
        extend(certificate, json!({"fingerprint": fingerprint}));
    }
}
