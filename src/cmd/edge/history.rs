//! `kedge edge history`: which versions ran on this node, how each change ended and why, step by step.

use crate::base::{Exit, Failure, Output, Term, rfc3339};
use crate::cmd::edge_store::table;
use crate::host::versions::{Deed, Entry, Outcome, Versions};
use crate::model::Release;
use serde_json::{Value, json};

/// Show the upgrades of this node, their steps and how they ended
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge edge history\n  kedge edge history -o yaml")]
pub struct Args {
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let versions = Versions::default();
    let (disk, history) = (versions.read()?, versions.history()?);
    let bare = |version: &Option<Release>| version.as_ref().map(Release::bare);
    if args.output != Output::Text {
        let document = json!({
            "apiVersion": "kedge.io/v1",
            "kind": "UpgradeHistory",
            "current": bare(&disk.links.current),
            "previous": bare(&disk.links.previous),
            "launcher": bare(&disk.links.launcher),
            "trial": disk.state.trial,
            "items": history.iter().map(shown).collect::<Vec<_>>(),
        });
        term.value(&document, args.output)?;
        return Ok(Exit::Done);
    }
    for (name, link) in [("current", &disk.links.current), ("previous", &disk.links.previous)] {
        term.data(&format!("{name:<9} {}", bare(link).unwrap_or_else(|| "-".to_owned())));
    }
    if let Some(trial) = &disk.state.trial {
        let at = time(trial.begun);
        term.data(&format!("trying    {} since {at}, at most {} s", trial.to.bare(), trial.deadline));
    }
    if !history.is_empty() {
        let head = ["ENDED", "DEED", "FROM", "TO", "OUTCOME", "BY", "INTERRUPTED", "REASON"];
        term.data(&format!("\n{}", table(&head, history.iter().rev().map(row))));
    }
    Ok(Exit::Done)
}

fn row(entry: &Entry) -> Vec<String> {
    vec![
        time(entry.ended),
        deed(entry.deed).to_owned(),
        entry.from.bare(),
        entry.to.as_ref().map_or_else(|| "-".to_owned(), Release::bare),
        outcome(entry.outcome).to_owned(),
        entry.by.clone(),
        entry.interrupted.map_or_else(|| "-".to_owned(), |ms| format!("{:.2}s", ms as f64 / 1000.0)),
        entry.reason.clone(),
    ]
}

/// An entry with its times as people read them.
fn shown(entry: &Entry) -> Value {
    let mut value = json!(entry);
    for field in ["begun", "ended"] {
        if let Some(at) = value.get(field).and_then(Value::as_i64) {
            value[field] = json!(time(at));
        }
    }
    for step in value.get_mut("steps").and_then(Value::as_array_mut).into_iter().flatten() {
        step["millis"] = json!(step["at"].as_i64().unwrap_or_default().saturating_sub(entry.begun));
        step["at"] = json!(time(step["at"].as_i64().unwrap_or_default()));
    }
    value
}

fn time(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map(rfc3339).unwrap_or_default()
}

fn deed(deed: Deed) -> &'static str {
    match deed {
        Deed::Upgrade => "upgrade",
        Deed::Rollback => "rollback",
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Returned => "returned",
        Outcome::Abandoned => "abandoned",
        Outcome::Refused => "refused",
    }
}
