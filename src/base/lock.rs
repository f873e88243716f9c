//! A lock file that holds its owner's process id, so that two daemons never share a directory and the error can name
//! the other one. The kernel releases it when the process dies.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// Held as long as the value lives.
#[derive(Debug)]
pub struct PidLock {
    _file: File,
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
        Ok(PidLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_learns_the_first_ones_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = PidLock::take(&path).unwrap();
        match PidLock::take(&path) {
            Err(LockError::Held(pid)) => assert_eq!(pid, std::process::id().to_string()),
            other => panic!("{other:?}"),
        }
        drop(held);
        assert!(PidLock::take(&path).is_ok());
    }
}
