//! The journal's file: one JSON line per change, per undo and per ended deed, each synced. A last line that power cut
//! short is not there; any other line that cannot be read is an error, never skipped. Only the journal opens it.

use super::record::{Before, Told};
use crate::base::{Failure, is_there, now, read_limited, rfc3339};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const LIMIT: u64 = 16 << 20;

/// What a change belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// The journal's own directories.
    Journal,
    Join,
    Init,
    /// A repair of `kedge doctor --fix`.
    Fix,
    Configure,
    Upgrade,
}

/// The role that a deed gives a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Edge,
    Cloud,
}

impl Deed {
    /// `None` for what either role may do.
    pub fn role(self) -> Option<Role> {
        match self {
            Deed::Join => Some(Role::Edge),
            Deed::Init => Some(Role::Cloud),
            Deed::Journal | Deed::Fix | Deed::Configure | Deed::Upgrade => None,
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Deed::Journal => "journal",
            Deed::Join => "join",
            Deed::Init => "init",
            Deed::Fix => "fix",
            Deed::Configure => "configure",
            Deed::Upgrade => "upgrade",
        })
    }
}

/// A change that was recorded and not undone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts from 1 and is never used again.
    pub id: u64,
    pub deed: Deed,
    /// RFC 3339, UTC.
    pub at: String,
    pub(super) told: Told,
    pub(super) before: Before,
}

impl Entry {
    /// The file or directory that was changed, if it was one.
    pub fn path(&self) -> Option<&Path> {
        self.told.path()
    }

    /// Whether a file or a link stood in its place before.
    pub fn replaced(&self) -> bool {
        matches!(self.before, Before::Kept { .. })
    }

    /// The name of the service of kedge's own that was installed, if it was one.
    pub fn service(&self) -> Option<&str> {
        self.told.service()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.at, self.deed, self.told)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    Change(Entry),
    Undone(u64),
    Finished(Deed),
}

/// The file, and what it says.
pub(super) struct Ledger {
    path: PathBuf,
    pub live: Vec<Entry>,
    last: u64,
    /// The newest change at each time that a deed ended, oldest first.
    finished: Vec<(Deed, u64)>,
    /// Length of the part that can be read; what follows was cut short.
    whole: u64,
}

impl Ledger {
    /// Reads the file, and cuts off a line that power cut short.
    pub fn open(dir: &Path) -> Result<Ledger, Failure> {
        let ledger = Ledger::read(dir)?;
        if ledger.path.exists() {
            let file = OpenOptions::new().write(true).open(&ledger.path);
            file.and_then(|file| file.set_len(ledger.whole)).map_err(|error| ledger.unwritable(&error))?;
        }
        Ok(ledger)
    }

    pub fn read(dir: &Path) -> Result<Ledger, Failure> {
        let path = dir.join("journal.jsonl");
        let content = if is_there(&path)? { read_limited(&path, LIMIT)? } else { Vec::new() };
        let mut ledger = Ledger { path, live: Vec::new(), last: 0, finished: Vec::new(), whole: 0 };
        for line in content.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            let parsed = serde_json::from_slice(line).map_err(|error| {
                Failure::new(
                    "KE-JOURNAL-003",
                    format!("the install journal {} is damaged", ledger.path.display()),
                )
                .because(error)
                .fix("mend or remove the line, or undo by hand what `cat` of the file names")
            })?;
            ledger.whole += line.len() as u64;
            ledger.take(parsed);
        }
        Ok(ledger)
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Change(entry) => {
                self.last = entry.id;
                self.live.push(entry);
            }
            Line::Undone(id) => self.live.retain(|entry| entry.id != id),
            Line::Finished(deed) => self.finished.push((deed, self.last)),
        }
    }

    pub fn next_id(&self) -> u64 {
        self.last + 1
    }

    pub fn append(&mut self, deed: Deed, told: Told, before: Before) -> Result<(), Failure> {
        let entry = Entry { id: self.next_id(), deed, at: rfc3339(now()), told, before };
        self.write(Line::Change(entry))
    }

    pub fn undone(&mut self, id: u64) -> Result<(), Failure> {
        self.write(Line::Undone(id))
    }

    pub fn finish(&mut self, deed: Deed) -> Result<(), Failure> {
        self.write(Line::Finished(deed))
    }

    /// The newest change when this kind of deed ended last; 0 where none has.
    pub fn ended(&self, deed: Deed) -> u64 {
        self.finished.iter().rfind(|(of, _)| *of == deed).map_or(0, |(_, last)| *last)
    }

    /// Deeds with changes that are newer than their last end.
    pub fn unfinished(&self) -> Vec<Deed> {
        let open =
            self.live.iter().filter(|entry| entry.deed != Deed::Journal && entry.id > self.ended(entry.deed));
        let mut deeds: Vec<Deed> = open.map(|entry| entry.deed).collect();
        deeds.sort_unstable();
        deeds.dedup();
        deeds
    }

    /// The changes of the deed that was done last, oldest first: those since that kind of deed ended the time before.
    pub fn newest(&self) -> Vec<Entry> {
        let mut own = self.live.iter().filter(|entry| entry.deed != Deed::Journal);
        let Some((deed, id)) = own.next_back().map(|entry| (entry.deed, entry.id)) else { return Vec::new() };
        let ends = self.finished.iter().filter(|(of, last)| *of == deed && *last < id);
        let before = ends.map(|(_, last)| *last).max().unwrap_or(0);
        self.live.iter().filter(|entry| entry.deed == deed && entry.id > before).cloned().collect()
    }

    fn write(&mut self, line: Line) -> Result<(), Failure> {
        let mut text =
            serde_json::to_string(&line).map_err(|error| self.unwritable(&std::io::Error::other(error)))?;
        text.push('\n');
        let end = self.add(text.as_bytes()).map_err(|error| self.unwritable(&error))?;
        self.whole = end + text.len() as u64;
        self.take(line);
        Ok(())
    }

    /// Writes behind the last whole line, over what a write that failed has left there: a full disk takes half a line too.
    /// Answers where that was.
    fn add(&self, line: &[u8]) -> io::Result<u64> {
        let new = !self.path.exists();
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        // One that somebody has removed meanwhile begins anew.
        let end = self.whole.min(file.metadata()?.len());
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        file.write_all(line)?;
        file.sync_data()?;
        if let Some(dir) = self.path.parent().filter(|_| new) {
            File::open(dir)?.sync_all()?;
        }
        Ok(end)
    }

    fn unwritable(&self, error: &std::io::Error) -> Failure {
        Failure::new("KE-JOURNAL-002", format!("cannot write the install journal {}", self.path.display()))
            .because(error)
            .fix("run as root, and check that the directory is writable and has free space")
    }
}
