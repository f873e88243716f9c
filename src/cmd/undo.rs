//! `kedge undo`: takes back what `doctor --fix` or `config set` has changed on this machine: the newest of it, or all of
//! one kind. What join, init and upgrades did has commands of its own.

use super::ask::confirm;
use crate::base::{Exit, Failure, Output, Term};
use crate::host::journal::{DIR, Deed, Entry, Journal, Manner, Undone};
use serde_json::{Value, json};
use std::path::Path;

/// Take back what kedge has changed on this machine, the newest first
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge undo --dry-run\n  kedge undo fix --yes\n\nWhat joined the node is undone by `kedge reset edge`, an upgrade by `kedge edge rollback`."
)]
pub struct Args {
    /// Everything of this kind; the newest deed when left out
    #[arg(value_enum)]
    deed: Option<Kind>,
    /// List what can be taken back, and change nothing
    #[arg(long)]
    list: bool,
    /// Show what would be taken back, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Also where somebody else has changed it since
    #[arg(long)]
    force: bool,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Repairs of `kedge doctor --fix`
    Fix,
    /// Settings of `kedge config set`
    Configure,
}

impl Kind {
    fn deed(self) -> Deed {
        match self {
            Kind::Fix => Deed::Fix,
            Kind::Configure => Deed::Configure,
        }
    }
}

/// The command that undoes a deed which is not undone here.
fn elsewhere(deed: Deed) -> Option<&'static str> {
    match deed {
        Deed::Fix | Deed::Configure => None,
        Deed::Join => Some("kedge reset edge"),
        Deed::Init => Some("kedge cloud reset"),
        Deed::Upgrade => Some("kedge edge rollback"),
        Deed::Journal => Some("kedge undo --list"),
    }
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let dir = Path::new(DIR);
    let entries = Journal::read(dir)?;
    if args.list {
        let all: Vec<&Entry> = entries.iter().filter(|entry| elsewhere(entry.deed).is_none()).collect();
        return show(&all, args.output, term).map(|()| Exit::Done);
    }
    let chosen = choose(args.deed, &entries, || Journal::newest(dir))?;
    // A dry run tells programs so with an empty list.
    if chosen.is_empty() && !args.dry_run {
        term.say("there is nothing to undo");
        return Ok(Exit::Done);
    }
    let shown: Vec<&Entry> = chosen.iter().rev().collect();
    if args.dry_run {
        return show(&shown, args.output, term).map(|()| Exit::Done);
    }
    shown.iter().for_each(|entry| term.say(&format!("undo: {entry}")));
    if !confirm("Take these changes back?", args.yes)? {
        term.say("nothing was changed");
        return Ok(Exit::Interrupted);
    }
    let manner = if args.force { Manner::Thorough } else { Manner::Careful };
    let deed = chosen.first().map_or(Deed::Fix, |entry| entry.deed);
    let ids: Vec<u64> = chosen.iter().map(|entry| entry.id).collect();
    let undone = Journal::open(dir, deed)?.undo(manner, |entry| ids.contains(&entry.id));
    tell(&undone, args.output, term)
}

/// The changes to take back, oldest first.
fn choose(
    kind: Option<Kind>,
    entries: &[Entry],
    newest: impl FnOnce() -> Result<Vec<Entry>, Failure>,
) -> Result<Vec<Entry>, Failure> {
    if let Some(kind) = kind {
        return Ok(entries.iter().filter(|entry| entry.deed == kind.deed()).cloned().collect());
    }
    let chosen = newest()?;
    match chosen.first().and_then(|entry| Some((entry, elsewhere(entry.deed)?))) {
        None => Ok(chosen),
        Some((entry, command)) => Err(Failure::new(
            "KE-UNDO-001",
            format!("the newest deed is {}, which is not undone here", entry.deed),
        )
        .because(entry.to_string())
        .fix(format!("{command}, or name what to undo: kedge undo fix"))
        .exit(Exit::Usage)),
    }
}

fn show(entries: &[&Entry], output: Output, term: &Term) -> Result<(), Failure> {
    if output != Output::Text {
        let items: Vec<Value> = entries
            .iter()
            .map(|entry| json!({"id": entry.id, "deed": entry.deed, "at": entry.at, "path": entry.path().map(|path| path.display().to_string())}))
            .collect();
        let list = json!({"apiVersion": "kedge.io/v1", "kind": "ChangeList", "items": items});
        return term.value(&list, output);
    }
    if entries.is_empty() {
        term.say("there is nothing to undo");
        return Ok(());
    }
    let lines: Vec<String> = entries.iter().map(ToString::to_string).collect();
    term.data(&lines.join("\n"));
    Ok(())
}

fn tell(undone: &Undone, output: Output, term: &Term) -> Result<Exit, Failure> {
    if output == Output::Text {
        undone.done.iter().for_each(|done| term.data(&format!("undone: {done}")));
    } else {
        let left: Vec<String> = undone.leftovers.iter().map(ToString::to_string).collect();
        let document =
            json!({"apiVersion": "kedge.io/v1", "kind": "Undone", "done": undone.done, "leftovers": left});
        term.value(&document, output)?;
    }
    undone.leftovers.iter().for_each(|failure| term.failure(failure));
    if undone.leftovers.is_empty() {
        term.say("what a running program has read stays until it starts again");
    }
    Ok(if undone.leftovers.is_empty() { Exit::Done } else { Exit::Failed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::journal::Change;

    fn journal(deeds: &[(Deed, &str)]) -> (tempfile::TempDir, Vec<Entry>) {
        let dir = tempfile::tempdir().unwrap();
        for (deed, name) in deeds {
            let mut journal = Journal::open(&dir.path().join("journal"), *deed).unwrap();
            let path = dir.path().join(name);
            journal.apply(&Change::File { path, content: Vec::new(), mode: 0o600 }).unwrap();
            journal.finish().unwrap();
        }
        let entries = Journal::read(&dir.path().join("journal")).unwrap();
        (dir, entries)
    }

    #[test]
    fn the_newest_deed_or_one_kind_is_chosen() {
        let (dir, entries) = journal(&[(Deed::Fix, "a"), (Deed::Configure, "b"), (Deed::Fix, "c")]);
        let place = dir.path().join("journal");
        let names = |chosen: Vec<Entry>| -> Vec<String> {
            chosen
                .iter()
                .filter_map(|e| Some(e.path()?.file_name()?.to_string_lossy().into_owned()))
                .collect()
        };
        let newest = || Journal::newest(&place);
        assert_eq!(names(choose(None, &entries, newest).unwrap()), ["c"]);
        assert_eq!(names(choose(Some(Kind::Fix), &entries, newest).unwrap()), ["a", "c"]);
        assert_eq!(names(choose(Some(Kind::Configure), &entries, newest).unwrap()), ["b"]);
    }

    #[test]
    fn what_has_a_command_of_its_own_is_named() {
        let (dir, entries) = journal(&[(Deed::Fix, "a"), (Deed::Join, "b")]);
        let place = dir.path().join("journal");
        let failure = choose(None, &entries, || Journal::newest(&place)).unwrap_err();
        assert_eq!(failure.code, "KE-UNDO-001");
        failure.is_as_committed();
        assert!(failure.fix.starts_with("kedge reset edge"), "{failure:?}");
        assert_eq!(choose(Some(Kind::Fix), &entries, || Ok(Vec::new())).unwrap().len(), 1);
    }
}
