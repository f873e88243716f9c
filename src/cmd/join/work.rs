//! Carries a join out and takes it back: changes through the journal, the service, and what the daemon has made since.
//! The journal is open from before the certificate until the end, so that nobody else changes this machine meanwhile.

use super::note::Note;
use super::traces;
use crate::base::{Exit, Failure};
use crate::host::journal::{self, Change, Deed, Entry, Journal, Manner};
use std::path::Path;

/// A join at work.
pub(super) struct Work {
    journal: Journal,
    /// The newest entry when a former join had ended well: what is older stays.
    mark: u64,
}

/// Whether this machine has a join, and whether that ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Former {
    None,
    /// The first join was cut short.
    Unfinished,
    /// One ended well, when `ended` was the newest entry, and a later one was cut short.
    Reopened {
        ended: u64,
    },
    Finished,
}

impl Former {
    /// Whether this machine is a node, and stays one whatever becomes of a later join.
    pub(super) fn is_joined(self) -> bool {
        match self {
            Former::Reopened { .. } | Former::Finished => true,
            Former::None | Former::Unfinished => false,
        }
    }

    /// The entry up to which a roll-back leaves everything; `newest` is the last one of the journal.
    fn mark(self, newest: u64) -> u64 {
        match self {
            Former::Finished => newest,
            Former::Reopened { ended } => ended,
            Former::None | Former::Unfinished => 0,
        }
    }
}

/// What the journal says of former joins; takes no lock.
pub(super) fn former() -> Result<Former, Failure> {
    former_in(Path::new(journal::DIR))
}

fn former_in(dir: &Path) -> Result<Former, Failure> {
    let entries = Journal::read(dir)?;
    let ended = Journal::ended(dir, Deed::Join)?;
    let (mut before, mut since) = (false, false);
    for entry in entries.iter().filter(|entry| entry.deed == Deed::Join) {
        before |= entry.id <= ended;
        since |= entry.id > ended;
    }
    Ok(match (before, since) {
        (false, false) => Former::None,
        // What ended well once and was taken back since is no join any more.
        (false, true) => Former::Unfinished,
        (true, true) => Former::Reopened { ended },
        (true, false) => Former::Finished,
    })
}

impl Work {
    /// Opens the journal; fails while another kedge changes this machine.
    pub(super) fn open(former: Former) -> Result<Work, Failure> {
        Work::open_in(Path::new(journal::DIR), former)
    }

    fn open_in(dir: &Path, former: Former) -> Result<Work, Failure> {
        let journal = Journal::open(dir, Deed::Join).map_err(|failure| {
            // Another kedge at work is no fault of the machine's.
            if failure.code == "KE-JOURNAL-001" { failure } else { failure.exit(Exit::Preflight) }
        })?;
        let newest = journal.entries().last().map_or(0, |entry| entry.id);
        Ok(Work { journal, mark: former.mark(newest) })
    }

    /// Makes the changes that the machine does not have yet; answers how many that were.
    pub(super) fn carry_out(&mut self, changes: &[Change]) -> Result<usize, Failure> {
        let before = self.journal.entries().len();
        for change in changes {
            self.journal.apply(change)?;
        }
        Ok(self.journal.entries().len() - before)
    }

    /// Marks the join as ended.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.journal.finish()
    }

    /// Puts the machine back to how it was found, or to how the last join that ended well had left it; the service must have ended, and `note` tells what it has made, if it
    /// ran. Answers what could not be put back.
    pub(super) async fn roll_back(self, note: Option<&Note>) -> Vec<Failure> {
        let mark = self.mark;
        let mut leftovers = Vec::new();
        if let Some(note) = note.filter(|_| mark == 0) {
            leftovers.extend(traces::remove(note, traces::Pods::of(note)).await.leftovers);
        }
        let ours = |entry: &Entry| entry.deed == Deed::Join && entry.id > mark;
        leftovers.extend(self.journal.undo(Manner::Careful, ours).leftovers);
        leftovers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    fn file(path: &Path, content: &str) -> Change {
        Change::File { path: path.to_owned(), content: content.as_bytes().to_vec(), mode: 0o600 }
    }

    /// A machine that was joined, with a setting made since, and the newest entry of its join.
    fn joined(dir: &Path) -> (PathBuf, PathBuf, u64) {
        let (place, config) = (dir.join("journal"), dir.join("edgecore.yaml"));
        assert_eq!(former_in(&place).unwrap(), Former::None);
        let mut first = Work::open_in(&place, Former::None).unwrap();
        first.carry_out(&[file(&config, "joined")]).unwrap();
        assert_eq!(former_in(&place).unwrap(), Former::Unfinished);
        let ended = first.journal.entries().last().unwrap().id;
        first.finish().unwrap();
        assert_eq!(former_in(&place).unwrap(), Former::Finished);
        let mut set = Journal::open(&place, Deed::Configure).unwrap();
        set.apply(&file(&config, "set")).unwrap();
        set.finish().unwrap();
        drop(set);
        assert_eq!(former_in(&place).unwrap(), Former::Finished);
        (place, config, ended)
    }

    #[test]
    fn a_join_that_is_cut_short_on_a_node_leaves_the_node_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (place, _, ended) = joined(dir.path());
        let mut cut = Work::open_in(&place, Former::Finished).unwrap();
        cut.carry_out(&[file(&dir.path().join("more"), "x")]).unwrap();
        drop(cut);
        let former = former_in(&place).unwrap();
        assert_eq!(former, Former::Reopened { ended });
        assert_eq!((former.mark(99), former.is_joined()), (ended, true));
        assert_eq!((Former::Finished.mark(99), Former::Unfinished.mark(99)), (99, 0));
        let mut again = Work::open_in(&place, former).unwrap();
        again.carry_out(&[file(&dir.path().join("more"), "x")]).unwrap();
        again.finish().unwrap();
        assert_eq!(former_in(&place).unwrap(), Former::Finished);
    }

    #[tokio::test]
    async fn a_roll_back_goes_to_before_the_join_that_was_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        let (place, config, _) = joined(dir.path());
        let (more, database) = (dir.path().join("more"), dir.path().join("edgecore.db"));
        fs::write(&database, "rows").unwrap();
        let mut cut = Work::open_in(&place, Former::Finished).unwrap();
        cut.carry_out(&[file(&config, "cut"), file(&more, "x")]).unwrap();
        drop(cut);
        let mut again = Work::open_in(&place, former_in(&place).unwrap()).unwrap();
        again.carry_out(&[file(&config, "again")]).unwrap();
        let note = Note { node: "n".to_owned(), made: vec![database.clone()], ..Note::default() };
        assert_eq!(again.roll_back(Some(&note)).await, []);
        assert_eq!(fs::read_to_string(&config).unwrap(), "set");
        assert!(!more.exists() && database.exists(), "the node's own stays");
        assert_eq!(former_in(&place).unwrap(), Former::Finished);
    }
}
