//! The advisory lock beside the database, so that two daemons never share one data directory.

use super::error;
use crate::base::{Failure, LockError, PidLock};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Held as long as the database is open.
pub(super) struct Lock {
    _lock: PidLock,
}

/// `edgecore.db` is locked by `edgecore.db.lock`.
pub(super) fn path_beside(database: &Path) -> PathBuf {
    let mut name = OsString::from(database.as_os_str());
    name.push(".lock");
    PathBuf::from(name)
}

/// The process that has the database open for writing, if one has. Looks at what it holds and takes no lock itself, so
/// that a daemon that starts at this moment finds it free.
pub(super) fn holder(database: &Path) -> Option<u32> {
    let path = path_beside(database);
    let path = path.canonicalize().unwrap_or(path);
    let pid: u32 = std::fs::read_to_string(&path).ok()?.trim().parse().ok()?;
    let mut open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    open.any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path)).then_some(pid)
}

impl Lock {
    pub(super) fn take(database: &Path) -> Result<Lock, Failure> {
        let path = path_beside(database);
        PidLock::take(&path).map(|lock| Lock { _lock: lock }).map_err(|why| match why {
            LockError::Held(pid) => {
                error::locked(database, &format!("process {pid} holds {}", path.display()))
            }
            LockError::Io(why) => {
                Failure::new("KE-STORE-004", format!("cannot lock the database with {}", path.display()))
                    .because(why)
                    .fix("check that its directory exists and can be written by this user")
            }
        })
    }
}
