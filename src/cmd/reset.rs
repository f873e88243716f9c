//! `kedge reset edge`: takes this machine out of its cloud. The journal says what was changed and is undone from the newest
//! to the oldest; what the daemon left beside it goes too. It carries on past errors and reports what is left.
//! `kedge reset cloud` is `kedge cloud reset`, as the tables of commands pair them.

use super::join::{edgecore, note::Note, service, slots, traces};
use crate::base::{Exit, Failure, Term};
use crate::config::edge::{DEFAULT_PATH, EdgeConfig};
use crate::daemon;
use crate::daemon::edge::uplink::own_papers;
use crate::host::journal::{self, Deed, Entry, Journal, Manner, Role, Undone};
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
    if !entries.iter().any(of_join) && note.is_none() {
        return nothing(&entries, term);
    }
    // Without its note a join was cut short before it had begun to write.
    let note = note.unwrap_or_default();
    if args.dry_run {
        show(&entries, &note, term).await;
        return Ok(Exit::Done);
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
        cleared.done.iter().for_each(|done| term.say(done));
        leftovers.extend(cleared.leftovers);
    }
    undo(journal, &note, args.force, &mut leftovers, term)?;
    leftovers.extend(note.edgecore.as_ref().and_then(|line| edgecore::restart(line).err()));
    report(&leftovers, &note, term)
}

/// What lies in directories that go as a whole is not looked at; what stands among others' files is.
/// The note of the join goes last, and stays while anything else is left: the next reset needs it.
fn undo(
    journal: Journal,
    note: &Note,
    force: bool,
    leftovers: &mut Vec<Failure>,
    term: &Term,
) -> Result<(), Failure> {
    let place = Note::path();
    let is_note = |entry: &Entry| entry.path() == Some(place.as_path());
    let mut take = |undone: Undone| {
        undone.done.iter().for_each(|done| term.say(&format!("undone: {done}")));
        leftovers.extend(undone.leftovers);
        leftovers.is_empty()
    };
    let papers = papers(note);
    let within = |entry: &Entry| {
        entry.path().is_some_and(|path| note.owns(path) || papers.iter().any(|paper| paper == path))
    };
    let of_edge = |entry: &Entry| {
        let configured = entry.deed == Deed::Configure && entry.path() == Some(note.config.as_path());
        of_join(entry) || configured || entry.deed == Deed::Upgrade
    };
    let open = || Journal::open(Path::new(journal::DIR), Deed::Join);
    take(journal.undo(Manner::Thorough, |entry| of_edge(entry) && within(entry)));
    let manner = if force { Manner::Thorough } else { Manner::Careful };
    if take(open()?.undo(manner, |entry| of_edge(entry) && !is_note(entry))) {
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

/// A join that was killed before its first change has left its journal at most.
fn only_journal(term: &Term) -> Result<Exit, Failure> {
    let dir = Path::new(journal::DIR);
    if dir.exists() {
        let undone = Journal::open(dir, Deed::Join)?.undo(Manner::Careful, |_| false);
        if let Some(failure) = undone.leftovers.into_iter().next() {
            return Err(failure);
        }
        // The parent, when nothing of others is in it.
        drop(dir.parent().map(std::fs::remove_dir));
    }
    not_ours(term)
}

async fn show(entries: &[Entry], note: &Note, term: &Term) {
    let mut lines = vec![format!("stop {}", service::NAME)];
    lines.extend(traces::list(note).await.into_iter().map(|trace| format!("remove {trace}")));
    lines.extend(entries.iter().rev().filter(|entry| of_join(entry)).map(|entry| format!("undo: {entry}")));
    term.data(&lines.join("\n"));
    term.say("nothing was changed");
}

fn report(leftovers: &[Failure], note: &Note, term: &Term) -> Result<Exit, Failure> {
    for leftover in leftovers {
        term.failure(leftover);
    }
    if leftovers.is_empty() {
        for dir in slots::DIRS.into_iter().filter(|dir| Path::new(dir).exists()) {
            term.say(&format!("kept: {dir}, which was there before the join"));
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
