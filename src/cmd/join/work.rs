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
    /// The newest entry of a former join that ended well: what is older stays.
    mark: u64,
}

/// Whether this machine has a join, and whether that ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Former {
    None,
    /// A join was cut short.
    Unfinished,
    Finished,
}

/// What the journal says of former joins; takes no lock.
pub(super) fn former() -> Result<Former, Failure> {
    let dir = Path::new(journal::DIR);
    if Journal::unfinished(dir)?.contains(&Deed::Join) {
        return Ok(Former::Unfinished);
    }
    let any = Journal::read(dir)?.iter().any(|entry| entry.deed == Deed::Join);
    Ok(if any { Former::Finished } else { Former::None })
}

impl Work {
    /// Opens the journal; fails while another kedge changes this machine.
    pub(super) fn open(former: Former) -> Result<Work, Failure> {
        let journal = Journal::open(Path::new(journal::DIR), Deed::Join).map_err(|failure| {
            // Another kedge at work is no fault of the machine's.
            if failure.code == "KE-JOURNAL-001" { failure } else { failure.exit(Exit::Preflight) }
        })?;
        let newest = journal.entries().last().map_or(0, |entry| entry.id);
        Ok(Work { journal, mark: if former == Former::Finished { newest } else { 0 } })
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

    /// Puts the machine back to how it was found; the service must have ended, and `note` tells what it has made, if it
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
