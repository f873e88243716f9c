//! The advisory lock beside the database, so that two daemons never share one data directory.
//! It holds the owner's process id for the error message; the kernel releases it when the process dies.

use super::error;
use crate::base::Failure;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Held as long as the database is open.
pub(super) struct Lock {
    _file: File,
}

/// `edgecore.db` is locked by `edgecore.db.lock`.
pub(super) fn path_beside(database: &Path) -> PathBuf {
    let mut name = OsString::from(database.as_os_str());
    name.push(".lock");
    PathBuf::from(name)
}

impl Lock {
    pub(super) fn take(database: &Path) -> Result<Lock, Failure> {
        let path = path_beside(database);
        let cannot = |why: std::io::Error| {
            Failure::new("KE-STORE-004", format!("cannot lock the database with {}", path.display()))
                .because(why)
                .fix("check that its directory exists and can be written by this user")
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(cannot)?;
        if file.try_lock().is_err() {
            let mut owner = String::new();
            drop(Read::by_ref(&mut file).take(32).read_to_string(&mut owner));
            let owner = owner.trim();
            let why = if owner.is_empty() {
                format!("{} is locked", path.display())
            } else {
                format!("process {owner} holds {}", path.display())
            };
            return Err(error::locked(database, &why));
        }
        let noted = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(cannot)?;
        Ok(Lock { _file: file })
    }
}
