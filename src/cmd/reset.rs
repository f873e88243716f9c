//! `kedge reset edge`: takes this machine out of its cloud. The journal says what was changed and is undone from the newest
//! to the oldest; what the daemon left beside it goes too. It carries on past errors and reports what is left.
//! `kedge reset cloud` is `kedge cloud reset`, as the tables of commands pair them.

use super::join::{edgecore, lost::Guess, note::Note, service, slots, traces};
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
    let note = match Note::read() {
        // One that is damaged is as good as none.
        Err(failure) if failure.code == "KE-JOIN-006" => None,
        read => read?,
    };
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
    // Without its note a join was cut short before it had begun to write, or somebody has removed it since.
    let guess = note.is_none().then(|| Guess::of(&entries, Path::new(DEFAULT_PATH)));
    let note = note.or_else(|| guess.as_ref().map(|guess| guess.note.clone())).unwrap_or_default();
    let doubt = || guess.as_ref().and_then(Guess::doubt);
    let mut account = Account::new(args.output, args.dry_run, term);
    if args.dry_run {
        show(&entries, &note, &mut account).await;
        account.close(&[])?;
        term.say("nothing was changed");
        return lost.map(|damage| named(damage, &note)).or_else(doubt).map_or(Ok(Exit::Done), Err);
    }
    if !agreed(args, &note).await? {
        term.say("nothing was changed");
        return Ok(Exit::Interrupted);
    }
    let journal = Journal::open(Path::new(journal::DIR), Deed::Join)?;
    let mut leftovers = Vec::new();
    leftovers.extend(service::stop().await.err());
    leftovers.extend(guess.as_ref().and_then(|guess| guess.keep().err()));
    if !note.node.is_empty() {
        let cleared = traces::remove(&note, traces::Pods::of(&note)).await;
        cleared.done.into_iter().for_each(|done| account.note(done));
        leftovers.extend(cleared.leftovers);
    }
    undo(journal, &note, args.force, &mut leftovers, &mut account)?;
    leftovers.extend(lost.map(|damage| named(damage, &note)).or_else(doubt));
    leftovers.extend(note.edgecore.as_ref().and_then(|line| edgecore::restart(line).err()));
    let mut told = BTreeSet::new();
    leftovers.retain(|failure| told.insert((failure.code, failure.what.clone())));
    account.close(&leftovers)?;
    report(&leftovers, &note, term)
}

/// Asks a person, unless a flag has answered.
async fn agreed(args: &EdgeArgs, note: &Note) -> Result<bool, Failure> {
    if args.force || args.yes {
        return Ok(true);
    }
    let pods = match traces::count_pods(note).await {
        Some(0) | None => String::new(),
        Some(_) if note.takeover => String::new(),
        Some(count) => format!(" and its {count} pods"),
    };
    let node = match note.node.as_str() {
        "" => "what a join has left".to_owned(),
        node => format!("the node {node}"),
    };
    super::ask::confirm(&format!("Take {node}{pods} off this machine?"), false)
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
    let extent = Extent::of(note);
    let (of_edge, within) = (|entry: &Entry| extent.takes(entry), |entry: &Entry| extent.holds(entry));
    let open = || Journal::open(Path::new(journal::DIR), Deed::Join);
    take(journal.undo(Manner::Thorough, |entry| of_edge(entry) && within(entry)));
    let manner = if force { Manner::Thorough } else { Manner::Careful };
    // What is left of the first part has been told.
    if take(open()?.undo(manner, |entry| of_edge(entry) && !within(entry) && !is_note(entry))) {
        take(open()?.undo(Manner::Thorough, of_edge));
    }
    Ok(())
}

/// How far a reset reaches in the journal; read from the configuration while that is there.
struct Extent<'a> {
    note: &'a Note,
    papers: Vec<PathBuf>,
}

impl Extent<'_> {
    fn of(note: &Note) -> Extent<'_> {
        Extent { note, papers: papers(note) }
    }

    /// Whether it is about what is kedge's own, however it has changed.
    fn holds(&self, entry: &Entry) -> bool {
        entry.path().is_some_and(|path| self.note.owns(path) || self.papers.iter().any(|paper| paper == path))
    }

    /// Whether it is undone. A setting or a repair of what goes with the node goes with it.
    fn takes(&self, entry: &Entry) -> bool {
        let own = self.holds(entry) || entry.path() == Some(self.note.config.as_path());
        let changed = own && matches!(entry.deed, Deed::Configure | Deed::Fix);
        of_join(entry) || changed || entry.deed == Deed::Upgrade
    }
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
    let found = traces::list(note, traces::Pods::of(note)).await;
    found.into_iter().for_each(|trace| account.note(format!("remove {trace}")));
    let extent = Extent::of(note);
    let taken = entries.iter().rev().filter(|entry| extent.takes(entry));
    taken.for_each(|entry| account.note(format!("undo: {entry}")));
    if let Some(line) = &note.edgecore {
        account.note(format!("start {} again", line.program.display()));
    }
}

fn report(leftovers: &[Failure], note: &Note, term: &Term) -> Result<Exit, Failure> {
    for leftover in leftovers {
        term.failure(leftover);
    }
    if leftovers.is_empty() {
        for dir in slots::DIRS.into_iter().filter(|dir| Path::new(dir).exists()) {
            term.say(&format!("kept: {dir}, which was there before the join"));
        }
        let of_a_person = |entry: &Entry| matches!(entry.deed, Deed::Configure | Deed::Fix);
        if Journal::read(Path::new(journal::DIR))?.iter().any(of_a_person) {
            term.say("kept: what `kedge doctor --fix` or `kedge config set` has changed beside it: kedge undo --list");
        }
        let cloud = match note.node.as_str() {
            "" => String::new(),
            node => format!("; in the cloud: kubectl delete node {node}"),
        };
        term.say(&format!("this machine is as it was before the join{cloud}"));
        return Ok(Exit::Done);
    }
    let count = leftovers.len();
    Err(Failure::new("KE-RESET-002", format!("{count} things could not be undone"))
        .because("they are listed above, each with its cause")
        .fix("mend the causes and run `kedge reset edge` again; --force puts back what others have changed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::journal::Change;

    /// A journal of these deeds, each with a file of this name.
    fn journal(dir: &Path, deeds: &[(Deed, &str)]) -> Vec<Entry> {
        let place = dir.join("journal");
        for (deed, name) in deeds {
            let mut journal = Journal::open(&place, *deed).unwrap();
            let content = name.as_bytes().to_vec();
            journal.apply(&Change::File { path: dir.join(name), content, mode: 0o600 }).unwrap();
            journal.finish().unwrap();
        }
        Journal::read(&place).unwrap()
    }

    #[tokio::test]
    async fn a_dry_run_lists_all_that_is_undone_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let entries = journal(
            dir.path(),
            &[
                (Deed::Join, "join.json"),
                (Deed::Configure, "edgecore.yaml"),
                (Deed::Fix, "sysctl.conf"),
                (Deed::Upgrade, "kedge"),
            ],
        );
        let line = edgecore::Line { program: "/usr/bin/edgecore".into(), args: Vec::new() };
        let note = Note {
            node: "n".to_owned(),
            config: at("edgecore.yaml"),
            takeover: true,
            edgecore: Some(line),
            made: vec![dir.path().to_owned()],
            runtime_dir: dir.path().to_owned(),
            cni_conf_dir: at("cni"),
            ..Note::default()
        };
        let term = Term::new(true, true);
        let mut account = Account::new(Output::Json, true, &term);
        show(&entries, &note, &mut account).await;
        let told = account.done;
        let place = |name: &str| at(name).display().to_string();
        for (line, ends) in told.iter().zip([
            service::NAME.to_owned(),
            place("kedge"),
            place("edgecore.yaml"),
            place("join.json"),
            "start /usr/bin/edgecore again".to_owned(),
        ]) {
            assert!(line.ends_with(&ends), "{ends}: {told:?}");
        }
        assert_eq!(told.len(), 5, "{told:?}");
    }
}
