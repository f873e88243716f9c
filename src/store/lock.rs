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

/// The process that has the database open for writing, if one has.
pub(super) fn holder(database: &Path) -> Option<u32> {
    PidLock::holder(&path_beside(database))
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
