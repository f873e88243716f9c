//! A lock file that holds its owner's process id, so that two daemons never share a directory and the error can name
//! the other one. The kernel releases it when the process dies.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// Held as long as the value lives.
#[derive(Debug)]
pub struct PidLock {
    file: File,
}

/// A child that another thread starts at this moment has a copy of the file until it becomes another program: closing it
/// alone would leave the lock to that copy.
impl Drop for PidLock {
    fn drop(&mut self) {
        drop(self.file.unlock());
    }
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it; its id, when it could be read.
    #[error("process {0} holds the lock")]
    Held(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl PidLock {
    /// The process that holds the lock, if one does. Looks at what it has open and takes no lock itself, so that whoever
    /// starts at this moment finds it free. `None` too where `/proc` hides that process.
    pub fn holder(path: &Path) -> Option<u32> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut text = String::new();
        File::open(&path).ok()?.take(32).read_to_string(&mut text).ok()?;
        let pid: u32 = text.trim().parse().ok()?;
        let mut open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        open.any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path)).then_some(pid)
    }

    /// Takes the lock and notes this process in the file, or says who has it.
    pub fn take(path: &Path) -> Result<PidLock, LockError> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.try_lock().is_err() {
            let mut owner = String::new();
            drop(Read::by_ref(&mut file).take(32).read_to_string(&mut owner));
            let owner = owner.trim();
            return Err(LockError::Held(if owner.is_empty() { "unknown" } else { owner }.to_owned()));
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(PidLock { file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_learns_the_first_ones_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert_eq!(PidLock::holder(&path), None);
        let held = PidLock::take(&path).unwrap();
        assert_eq!(PidLock::holder(&path), Some(std::process::id()));
        match PidLock::take(&path) {
            Err(LockError::Held(pid)) => assert_eq!(pid, std::process::id().to_string()),
            other => panic!("{other:?}"),
        }
        let copy = held.file.try_clone().unwrap();
        drop(held);
        assert!(PidLock::take(&path).is_ok(), "a child that is being started holds nothing");
        drop(copy);
        assert_eq!(PidLock::holder(&path), None);
        assert!(PidLock::take(&path).is_ok());
    }
}
