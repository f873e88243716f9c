//! `kedge reset edge`: takes this machine out of its cloud. The journal says what was changed and is undone from the newest
//! to the oldest; what the daemon left beside it goes too. It carries on past errors and reports what is left.
//! `kedge reset cloud` is `kedge cloud reset`, as the tables of commands pair them.

use super::join::{edgecore, note::Note, service, slots, traces};
use crate::base::{Exit, Failure, Output, Term};
use crate::config::edge::{DEFAULT_PATH, EdgeConfig};
use crate::daemon;
use crate::daemon::edge::uplink::own_papers;
use crate::host::journal::{self, Deed, Entry, Journal, Manner, Role, Undone};
use crate::host::service::Manager;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Undo what kedge did to this machine
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge reset edge --dry-run\n  kedge reset cloud --dry-run")]
pub struct Args {
    #[command(subcommand)]
    role: Side,
}

#[derive(clap::Subcommand)]
enum Side {
    /// Take this machine out of its cloud, as it was before `kedge join`
    #[command(after_help = "Examples:\n  kedge reset edge --dry-run\n  kedge reset edge --force")]
    Edge(EdgeArgs),
    Cloud(super::cloud::reset::Args),
}

#[derive(clap::Args)]
struct EdgeArgs {
    /// List what would be undone, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Ask nothing, and put back what others have changed since
    #[arg(long)]
    force: bool,
    /// Answer every question with yes
    #[arg(long, short = 'y')]
    yes: bool,
    /// Form in which the outcome is shown
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// What a reset did or would do, line by line as it happens or whole at its end.
pub(super) struct Account<'a> {
    term: &'a Term,
    output: Output,
    dry_run: bool,
    done: Vec<String>,
}

impl<'a> Account<'a> {
    pub(super) fn new(output: Output, dry_run: bool, term: &'a Term) -> Account<'a> {
        Account { term, output, dry_run, done: Vec::new() }
    }

    /// What would be done is data, what was done is talk.
    pub(super) fn note(&mut self, line: String) {
        match (self.output, self.dry_run) {
            (Output::Text, true) => self.term.data(&line),
            (Output::Text, false) => self.term.say(&line),
            _ => self.done.push(line),
        }
    }

    /// The whole for programs, with what could not be done.
    pub(super) fn close(self, leftovers: &[Failure]) -> Result<(), Failure> {
        if self.output == Output::Text {
            return Ok(());
        }
        let leftovers: Vec<_> =
            leftovers.iter().map(|failure| json!({"code": failure.code, "what": failure.what})).collect();
        let report = json!({"apiVersion": "kedge.io/v1", "kind": "ResetReport", "dryRun": self.dry_run,
            "items": self.done, "leftovers": leftovers});
        self.term.value(&report, self.output)
    }
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    match args.role {
        Side::Edge(args) => super::block_on(edge(&args, term)),
        Side::Cloud(args) => super::cloud::reset::run(args, term),
    }
}

fn of_join(entry: &Entry) -> bool {
    entry.deed.role() == Some(Role::Edge)
}

async fn edge(args: &EdgeArgs, term: &Term) -> Result<Exit, Failure> {
    Journal::is_free(Path::new(journal::DIR))?;
    let entries = Journal::read(Path::new(journal::DIR))?;
    let note = Note::read()?;
    let lost = Journal::is_whole(Path::new(journal::DIR)).err();
    if !entries.iter().any(of_join) && note.is_none() {
        return match lost {
            Some(damage) => Err(named(damage, &Note::default())),
            None => {
                let exit = nothing(&entries, term)?;
                Account::new(args.output, args.dry_run, term).close(&[])?;
                Ok(exit)
            }
        };
    }
    // Without its note a join was cut short before it had begun to write.
    let note = note.unwrap_or_default();
    let mut account = Account::new(args.output, args.dry_run, term);
    if args.dry_run {
        show(&entries, &note, &mut account).await;
        account.close(&[])?;
        term.say("nothing was changed");
        return lost.map_or(Ok(Exit::Done), |damage| Err(named(damage, &note)));
    }
    if !args.force && !args.yes {
        let pods = match traces::count_pods(&note).await {
            Some(0) | None => String::new(),
            Some(_) if note.takeover => String::new(),
            Some(count) => format!(" and its {count} pods"),
        };
        let question = format!("Take the node {}{pods} off this machine?", note.node);
        if !super::ask::confirm(&question, false)? {
            term.say("nothing was changed");
            return Ok(Exit::Done);
        }
    }
    let journal = Journal::open(Path::new(journal::DIR), Deed::Join)?;
    let mut leftovers = Vec::new();
    leftovers.extend(service::stop().await.err());
    if !note.node.is_empty() {
        let cleared = traces::remove(&note, traces::Pods::of(&note)).await;
        cleared.done.into_iter().for_each(|done| account.note(done));
        leftovers.extend(cleared.leftovers);
    }
    undo(journal, &note, args.force, &mut leftovers, &mut account)?;
    leftovers.extend(lost.map(|damage| named(damage, &note)));
    leftovers.extend(note.edgecore.as_ref().and_then(|line| edgecore::restart(line).err()));
    let mut told = BTreeSet::new();
    leftovers.retain(|failure| told.insert((failure.code, failure.what.clone())));
    account.close(&leftovers)?;
    report(&leftovers, &note, term)
}

/// The damage of a journal that has lost the lines of the join, with what is kedge's beyond doubt and stays.
fn named(damage: Failure, note: &Note) -> Failure {
    let service = Manager::here().definition_path(service::NAME);
    let default = std::fs::read_to_string(&service).is_ok_and(|text| text.contains(DEFAULT_PATH));
    let config = match note.config.as_os_str().is_empty() {
        true => default.then(|| PathBuf::from(DEFAULT_PATH)),
        false => Some(note.config.clone()),
    };
    let mut ours: Vec<PathBuf> = note.owned.clone();
    // What an edgecore had is its own again.
    ours.extend(config.into_iter().chain(papers(note)).filter(|_| !note.takeover));
    ours.extend(slots::DIRS.map(PathBuf::from));
    ours.extend([service, Note::path()]);
    ours.retain(|path| path.exists());
    let outer: Vec<String> = (ours.iter().enumerate())
        .filter(|(n, path)| !ours.iter().take(*n).any(|dir| path.starts_with(dir)))
        .map(|(_, path)| path.display().to_string())
        .collect();
    let why = format!(
        "{}; what was there before cannot be told, and these are kedge's: {}",
        damage.why,
        outer.join(", ")
    );
    damage.because(why).fix(format!("rm -r {}", outer.join(" ")))
}

/// What lies in directories that go as a whole is not looked at; what stands among others' files is.
/// The note of the join goes last, and stays while anything else is left: the next reset needs it.
fn undo(
    journal: Journal,
    note: &Note,
    force: bool,
    leftovers: &mut Vec<Failure>,
    account: &mut Account<'_>,
) -> Result<(), Failure> {
    let place = Note::path();
    let is_note = |entry: &Entry| entry.path() == Some(place.as_path());
    let mut take = |undone: Undone| {
        undone.done.iter().for_each(|done| account.note(format!("undone: {done}")));
        leftovers.extend(undone.leftovers);
        leftovers.is_empty()
    };
    let papers = papers(note);
    let within = |entry: &Entry| {
        entry.path().is_some_and(|path| note.owns(path) || papers.iter().any(|paper| paper == path))
    };
    let of_edge = |entry: &Entry| {
        // A setting or a repair of what goes with the node goes with it.
        let own = within(entry) || entry.path() == Some(note.config.as_path());
        let changed = own && matches!(entry.deed, Deed::Configure | Deed::Fix);
        of_join(entry) || changed || entry.deed == Deed::Upgrade
    };
    let open = || Journal::open(Path::new(journal::DIR), Deed::Join);
    take(journal.undo(Manner::Thorough, |entry| of_edge(entry) && within(entry)));
    let manner = if force { Manner::Thorough } else { Manner::Careful };
    // What is left of the first part has been told.
    if take(open()?.undo(manner, |entry| of_edge(entry) && !within(entry) && !is_note(entry))) {
        take(open()?.undo(Manner::Thorough, of_edge));
    }
    Ok(())
}

/// The node's certificate, key and authority: the daemon renews them in their places, so that they are kedge's own
/// however they have changed.
fn papers(note: &Note) -> Vec<PathBuf> {
    match EdgeConfig::load(&note.config) {
        Ok(loaded) => own_papers(&daemon::edge::enrolment(&loaded.config)),
        Err(_) => Vec::new(),
    }
}

fn nothing(entries: &[Entry], term: &Term) -> Result<Exit, Failure> {
    if entries.iter().all(|entry| entry.deed == Deed::Journal) {
        return only_journal(term);
    }
    if entries.iter().any(|entry| entry.deed.role() == Some(Role::Cloud)) {
        return Err(Failure::new("KE-RESET-001", "this machine is no edge node")
            .because("its journal says that it is a cloud, which `reset edge` never touches")
            .fix("run `kedge cloud reset` if the cloud is meant"));
    }
    not_ours(term)
}

/// What an edgecore that others set up has on a machine; a cloud has none of it.
const OF_AN_EDGECORE: [&str; 4] = [
    DEFAULT_PATH,
    "/var/lib/kubeedge/edgecore.db",
    "/etc/systemd/system/edgecore.service",
    "/lib/systemd/system/edgecore.service",
];

fn not_ours(term: &Term) -> Result<Exit, Failure> {
    let found: Vec<&str> = OF_AN_EDGECORE.into_iter().filter(|path| Path::new(path).exists()).collect();
    if found.is_empty() {
        term.say("this machine has no join of kedge's; nothing to undo");
        return Ok(Exit::Done);
    }
    Err(Failure::new("KE-RESET-007", "this machine has no join of kedge's, but what an edgecore has")
        .because(format!("there is {}, and kedge takes away only what it has brought", found.join(", ")))
        .fix("remove it with `keadm reset edge`; to go on with its node: `kedge join --takeover`"))
}

/// A join that was killed before its first change has left its journal at most, or the directories for one.
fn only_journal(term: &Term) -> Result<Exit, Failure> {
    let dir = Path::new(journal::DIR);
    if dir.exists() {
        let undone = Journal::open(dir, Deed::Join)?.undo(Manner::Careful, |_| false);
        if let Some(failure) = undone.leftovers.into_iter().next() {
            return Err(failure);
        }
    }
    journal::remove_empty_home();
    not_ours(term)
}

async fn show(entries: &[Entry], note: &Note, account: &mut Account<'_>) {
    account.note(format!("stop {}", service::NAME));
    traces::list(note).await.into_iter().for_each(|trace| account.note(format!("remove {trace}")));
    let of_join = entries.iter().rev().filter(|entry| of_join(entry));
    of_join.for_each(|entry| account.note(format!("undo: {entry}")));
}

fn report(leftovers: &[Failure], note: &Note, term: &Term) -> Result<Exit, Failure> {
    for leftover in leftovers {
        term.failure(leftover);
    }
    if leftovers.is_empty() {
        for dir in slots::DIRS.into_iter().filter(|dir| Path::new(dir).exists()) {
            term.say(&format!("kept: {dir}, which was there before the join"));
        }
        if !Journal::read(Path::new(journal::DIR))?.is_empty() {
            term.say("kept: what `kedge doctor --fix` or `kedge config set` has changed beside it: kedge undo --list");
        }
        let node = &note.node;
        term.say(&format!(
            "this machine is as it was before the join; in the cloud: kubectl delete node {node}"
        ));
        return Ok(Exit::Done);
    }
    let count = leftovers.len();
    Err(Failure::new("KE-RESET-002", format!("{count} things could not be undone"))
        .because("they are listed above, each with its cause")
        .fix("mend the causes and run `kedge reset edge` again; --force puts back what others have changed"))
}
