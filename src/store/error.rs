//! Turns SQLite's errors into failures that name the file and the next step.
//! The rest of the room returns `rusqlite::Result` and converts at the door.

use crate::base::{Exit, Failure};
use rusqlite::ErrorCode;
use std::path::Path;

/// The failure that a person reads for this error on this file.
pub(super) fn failure(path: &Path, error: &rusqlite::Error) -> Failure {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => corrupt(path, &error.to_string()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            locked(path, "SQLite reports it as locked")
        }
        Some(ErrorCode::DiskFull) => {
            Failure::new("KE-STORE-003", format!("cannot write to {}: the disk is full", path.display()))
                .because("nothing of this change was stored")
                .fix("free space on its file system; the change is then tried again")
        }
        // SQLite has no code of its own for a header that no version of it writes.
        _ if error.to_string().contains("unsupported file format") => corrupt(path, &error.to_string()),
        _ => Failure::new("KE-STORE-004", format!("cannot use the database {}", path.display()))
            .because(error)
            .fix("check that the file and its directory can be read and written by this user"),
    }
}

/// The code of a damaged file.
pub(super) const DAMAGED: &str = "KE-STORE-001";

/// The file is damaged. Whoever reads leaves it as it is; a daemon that starts sets it aside.
pub(super) fn corrupt(path: &Path, why: &str) -> Failure {
    Failure::new(DAMAGED, format!("the database {} is damaged", path.display()))
        // SQLite tells of each page in a line of its own.
        .because(why.split_whitespace().collect::<Vec<_>>().join(" "))
        .fix(
            "start its daemon anew (kedge service restart edge): it sets the file aside and goes on with the newest backup, \
             or with what the cloud sends",
        )
        .exit(Exit::Configuration)
}

/// A newer kedge has changed the file in a way that this one does not know.
pub(super) fn newer(path: &Path, layout: u32) -> Failure {
    Failure::new("KE-STORE-007", format!("the database {} is of a newer kedge", path.display()))
        .because(format!("its layout is {layout}, this kedge knows layouts up to {}", super::LAYOUT))
        .fix(
            "run the newer kedge again; or go back with `kedge edge rollback`, which puts the database of that time in place",
        )
        .exit(Exit::Configuration)
}

/// Another process holds the file.
pub(super) fn locked(path: &Path, why: &str) -> Failure {
    Failure::new("KE-STORE-002", format!("the database {} is in use by another process", path.display()))
        .because(why)
        .fix("stop the other daemon, or give this one its own data directory")
}

/// The thread that owns the connection has ended.
pub(super) fn closed(path: &Path) -> Failure {
    Failure::new("KE-STORE-005", format!("the database {} is closed", path.display()))
        .because("the thread that owns it has ended")
        .fix("start the daemon again; where it was not asked to end, the log lines before this one tell why")
}
