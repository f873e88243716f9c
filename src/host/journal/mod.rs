//! The install journal: what kedge changed on this machine. Each change is written down with the state before it, and
//! synced, before it is done; undone from the newest to the oldest, a machine is as it was found.
//! Join, init, doctor's repairs, upgrade and reset work through it. It never records a secret: contents are told by digest,
//! and what was there before is kept in files that only root can read.

mod change;
mod files;
mod ledger;
mod record;
mod restore;
mod running;
mod tests;

pub use change::{Change, Directory};
pub use ledger::{Deed, Entry, Role};

use crate::base::{Failure, LockError, PidLock, create_private_dir, is_there, remove_unfinished};
use crate::host::service::{EDGE, Manager};
use ledger::Ledger;
use record::Before;
use std::fs;
use std::path::{Path, PathBuf};

/// Where a machine's journal lies.
pub const DIR: &str = "/var/lib/kedge/journal";
/// Where a join notes what its daemon makes; always through the journal.
pub const NOTE: &str = "/var/lib/kedge/join.json";
/// The directory that a journal there may have made, and that is kedge's by its name.
const HOME: &str = "/var/lib/kedge";

/// How undoing meets what somebody else has changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Leaves it and reports it.
    Careful,
    /// Puts the old state back all the same.
    Thorough,
}

/// What an undo came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// Changes that are gone, newest first.
    pub done: Vec<String>,
    /// What could not be undone, and why.
    pub leftovers: Vec<Failure>,
}

/// The open journal; no other kedge changes this machine while it is held.
pub struct Journal {
    dir: PathBuf,
    deed: Deed,
    ledger: Ledger,
    _lock: PidLock,
}

impl Journal {
    /// Opens the journal below `dir` for one deed; fails with KE-JOURNAL-001 while another process holds it.
    pub fn open(dir: &Path, deed: Deed) -> Result<Journal, Failure> {
        let mut made = missing_ancestors(dir);
        let home = dir.parent().filter(|home| *home == Path::new(HOME) && holds_nothing(home));
        made.extend(home.map(Path::to_owned));
        create_private_dir(dir)?;
        let lock = PidLock::take(&dir.join("lock")).map_err(|error| refused(dir, error))?;
        let mut ledger = Ledger::open(dir)?;
        for path in made {
            ledger.append(Deed::Journal, Change::directory(path, 0o755).told(), Before::Absent)?;
        }
        for path in ledger.live.iter().filter_map(Entry::path) {
            // What a killed write has left; a directory that cannot be written says so when it is changed.
            drop(remove_unfinished(path));
        }
        Ok(Journal { dir: dir.to_owned(), deed, ledger, _lock: lock })
    }

    /// Fails with KE-JOURNAL-001 while another process has the journal open; for who looks at a machine first and
    /// changes it later. Takes no lock.
    pub fn is_free(dir: &Path) -> Result<(), Failure> {
        let holder = PidLock::holder(&dir.join("lock")).filter(|pid| *pid != std::process::id());
        holder.map_or(Ok(()), |pid| Err(refused(dir, LockError::Held(pid.to_string()))))
    }

    /// What is recorded and not undone, oldest first; empty where there is no journal. Takes no lock.
    pub fn read(dir: &Path) -> Result<Vec<Entry>, Failure> {
        if !is_there(dir)? {
            return Ok(Vec::new());
        }
        Ok(Ledger::read(dir)?.live)
    }

    /// Deeds that began and neither ended nor were undone.
    pub fn unfinished(dir: &Path) -> Result<Vec<Deed>, Failure> {
        if !is_there(dir)? {
            return Ok(Vec::new());
        }
        Ok(Ledger::read(dir)?.unfinished())
    }

    /// The newest change when this kind of deed ended last: what is newer of it was cut short. 0 where none has ended.
    pub fn ended(dir: &Path, deed: Deed) -> Result<u64, Failure> {
        Ok(Ledger::read(dir)?.ended(deed))
    }

    /// What the deed that was done last has changed, oldest first; empty where nothing is left of any.
    pub fn newest(dir: &Path) -> Result<Vec<Entry>, Failure> {
        if !is_there(dir)? {
            return Ok(Vec::new());
        }
        Ok(Ledger::read(dir)?.newest())
    }

    /// Fails with KE-JOURNAL-007 where the machine has what a join has written and the journal has lost its lines: no undo
    /// knows any more what was there before. Takes no lock.
    pub fn is_whole(dir: &Path) -> Result<(), Failure> {
        let service = Manager::here().definition_path(EDGE);
        judge_whole(dir, Path::new(NOTE), &service)
    }

    /// What is recorded and not undone, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.ledger.live
    }

    /// Makes a change; what is already so is left alone and not recorded.
    pub fn apply(&mut self, change: &Change) -> Result<(), Failure> {
        if change.holds()? {
            return Ok(());
        }
        for path in change.path().as_deref().map(missing_ancestors).unwrap_or_default() {
            self.record_and_do(&Change::directory(path, 0o755))?;
        }
        self.record_and_do(change)
    }

    fn record_and_do(&mut self, change: &Change) -> Result<(), Failure> {
        let id = self.ledger.next_id();
        let before = Before::of(change, &self.kept(id))?;
        self.ledger.append(self.deed, change.told(), before)?;
        let made = change.make(id);
        if made.is_err() {
            self.forget_if_unmade(id)?;
        }
        made
    }

    /// What was recorded and could not be done at all is no deed of this machine.
    fn forget_if_unmade(&mut self, id: u64) -> Result<(), Failure> {
        let kept = self.kept(id);
        if self.ledger.live.iter().any(|entry| entry.id == id && entry.was_never_made(&kept)) {
            self.ledger.undone(id)?;
            drop(fs::remove_file(kept));
        }
        Ok(())
    }

    /// Marks the deed as ended: what it did stays.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.ledger.finish(self.deed)
    }

    /// Undoes the chosen changes, newest first, and carries on past those that cannot be. What other changes have made
    /// in a directory that goes stays, and the directory with it. When nothing is left, the journal removes itself.
    pub fn undo(mut self, manner: Manner, chosen: impl Fn(&Entry) -> bool) -> Undone {
        let mut undone = Undone::default();
        let entries: Vec<Entry> = self.ledger.live.iter().rev().cloned().collect();
        let (chosen, others): (Vec<&Entry>, Vec<&Entry>) =
            entries.iter().filter(|entry| entry.deed != Deed::Journal).partition(|entry| chosen(entry));
        for entry in chosen {
            let spared = spared(entry, &others);
            let restored = entry.restore(manner, &self.kept(entry.id), &spared).and_then(|stays| {
                self.take_over(entry, &others, &spared)?;
                self.ledger.undone(entry.id).map(|()| stays)
            });
            match restored {
                Ok(stays) => {
                    // What was kept is only of use to an undo; a file that stays behind goes with the journal.
                    drop(fs::remove_file(self.kept(entry.id)));
                    let stays = stays.map(|stays| format!("; {stays}")).unwrap_or_default();
                    undone.done.push(format!("{}{stays}", entry.told));
                }
                Err(failure) => undone.leftovers.push(failure),
            }
        }
        if self.ledger.live.iter().all(|entry| entry.deed == Deed::Journal) {
            self.remove(&mut undone);
        }
        undone
    }

    /// A directory that stays because something else that kedge did is there goes with the journal, if it is empty then.
    fn take_over(&mut self, entry: &Entry, others: &[&Entry], spared: &[PathBuf]) -> Result<(), Failure> {
        let Some(dir) = entry.made_directory().filter(|dir| dir.is_dir()) else { return Ok(()) };
        // A daemon of the other role may have files there that no journal knows.
        let mut roles = others.iter().filter_map(|other| other.deed.role());
        let needed = !spared.is_empty() || roles.any(|role| Some(role) != entry.deed.role());
        let mut own = self.ledger.live.iter().filter(|own| own.deed == Deed::Journal);
        if !needed || own.any(|own| own.path() == Some(dir)) {
            return Ok(());
        }
        self.ledger.append(Deed::Journal, Change::directory(dir.to_owned(), 0o755).told(), Before::Absent)
    }

    fn remove(self, undone: &mut Undone) {
        let mut made: Vec<PathBuf> =
            self.ledger.live.iter().filter_map(|entry| entry.path().map(Path::to_owned)).collect();
        // What lies in another comes behind it.
        made.sort_unstable();
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            undone.leftovers.push(
                Failure::new("KE-JOURNAL-004", format!("cannot remove {}", self.dir.display()))
                    .because(error)
                    .fix("remove it by hand"),
            );
        }
        for path in made.iter().rev().filter(|path| **path != self.dir) {
            // Somebody else's files keep a directory; that is no leftover of ours.
            drop(fs::remove_dir(path));
        }
    }

    fn kept(&self, id: u64) -> PathBuf {
        self.dir.join(format!("kept-{id}"))
    }
}

/// What lies below a directory that the change has made, is there, and belongs to others.
fn spared(entry: &Entry, others: &[&Entry]) -> Vec<PathBuf> {
    let Some(dir) = entry.made_directory() else { return Vec::new() };
    let below = others.iter().filter_map(|other| other.path());
    let below = below.filter(|path| *path != dir && path.starts_with(dir));
    // What cannot be looked at may be there.
    below.filter(|path| !matches!(files::look(path), Ok(None))).map(Path::to_owned).collect()
}

/// Directories that do not exist on the way to `path`, outermost first, without `path` itself.
fn missing_ancestors(path: &Path) -> Vec<PathBuf> {
    let missing = path.ancestors().skip(1).take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
    let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    missing.reverse();
    missing
}

fn judge_whole(dir: &Path, note: &Path, service: &Path) -> Result<(), Failure> {
    let entries = Journal::read(dir)?;
    let lost = |path: &Path| path.exists() && !entries.iter().any(|entry| entry.path() == Some(path));
    // A service alone may be of somebody's own hand; not where the journal is there and empty, as an undo takes that away.
    let empty = dir.exists() && entries.iter().all(|entry| entry.deed == Deed::Journal);
    let damaged = lost(note) || empty && lost(service);
    if !damaged {
        return Ok(());
    }
    let found: Vec<String> = [note, service]
        .into_iter()
        .filter(|path| lost(path))
        .map(|path| path.display().to_string())
        .collect();
    Err(Failure::new("KE-JOURNAL-007", "the install journal has lost what a join has done here")
        .because(format!("there is {}, and {} has no line of it", found.join(" and "), dir.display()))
        .fix("kedge reset edge"))
}

/// Whether a directory is there and has no file but a lock in it or in its journal: a kedge that was killed before its
/// first line has made it, or one that was killed at the end of an undo has left it.
fn holds_nothing(home: &Path) -> bool {
    let names = |dir: &Path| -> Option<Vec<std::ffi::OsString>> {
        fs::read_dir(dir).ok()?.map(|entry| Some(entry.ok()?.file_name())).collect()
    };
    let Some(found) = names(home) else { return false };
    match found.as_slice() {
        [] => true,
        [journal] if journal == "journal" => {
            let dir = home.join(journal);
            let empty =
                |name: &std::ffi::OsString| fs::metadata(dir.join(name)).is_ok_and(|file| file.len() == 0);
            let nothing =
                |name: &std::ffi::OsString| name == "lock" || (name == "journal.jsonl" && empty(name));
            names(&dir).is_some_and(|found| found.iter().all(nothing))
        }
        _ => false,
    }
}

/// Removes what a kedge that was killed has left of the usual journal's directories, where nothing at all is in them.
pub fn remove_empty_home() {
    drop(fs::remove_dir(HOME));
}

fn refused(dir: &Path, error: LockError) -> Failure {
    match error {
        LockError::Held(pid) => Failure::new("KE-JOURNAL-001", "another kedge is changing this machine")
            .because(format!("process {pid} holds {}", dir.join("lock").display()))
            .fix(format!("wait until it has ended, or end it with `kill {pid}`")),
        LockError::Io(error) => {
            Failure::new("KE-JOURNAL-002", format!("cannot open the install journal in {}", dir.display()))
                .because(error)
                .fix("run as root, and check that the directory is writable and has free space")
        }
    }
}
