//! A copy of the database while a daemon writes to it, through SQLite's backup interface. Upgrades and `kedge edge backup`
//! call it; blocking, not for a daemon's own threads.

use super::{error, schema};
use crate::base::Failure;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Waits for a writer that is just committing.
const PAUSE: Duration = Duration::from_millis(20);
const TRIES: u32 = 250;

/// Copies the database to a new file that only its owner can read, checks the copy and syncs it. Bytes of the copy.
pub fn back_up(from: &Path, to: &Path) -> Result<u64, Failure> {
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    new.map_err(|why| {
        Failure::new("KE-FILE-001", format!("cannot write {}", to.display()))
            .because(why)
            .fix("check that the directory exists, is writable and has free space")
    })?;
    copy(from, to).map_err(|why| error::failure(from, &why))?;
    schema::check(to)?;
    let synced = File::open(to).and_then(|file| {
        file.sync_all()?;
        Ok(file.metadata()?.len())
    });
    synced.map_err(|why| {
        Failure::new("KE-FILE-001", format!("cannot write {}", to.display()))
            .because(why)
            .fix("check that the disk is well and has free space")
    })
}

fn copy(from: &Path, to: &Path) -> rusqlite::Result<()> {
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    source.busy_timeout(Duration::from_secs(5))?;
    let mut target = Connection::open(to)?;
    let backup = Backup::new(&source, &mut target)?;
    for _ in 0..TRIES {
        // All pages at once: one consistent state, and a writer is not held up by a reader.
        match backup.step(-1)? {
            StepResult::Done => break,
            _ => std::thread::sleep(PAUSE),
        }
    }
    let left = backup.progress().remaining;
    drop(backup);
    if left > 0 {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            Some("another process did not end its transaction".to_owned()),
        ));
    }
    // The copy stands alone: no write-ahead log beside it.
    target.query_row("PRAGMA journal_mode=DELETE", [], |_| Ok(()))?;
    target.close().map_err(|(_, why)| why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Reader, Store, holder};
    use serde_json::json;

    #[tokio::test]
    async fn a_database_in_use_is_copied_whole_and_its_holder_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("edgecore.db"), dir.path().join("copy.db"));
        assert_eq!(holder(&from), None);
        let store = Store::open(&from).unwrap();
        for n in 0..50 {
            store
                .put_state("room", &n.to_string(), &json!({"n": n, "text": "x".repeat(2000)}))
                .await
                .unwrap();
        }
        assert_eq!(holder(&from), Some(std::process::id()));
        let bytes = back_up(&from, &to).unwrap();
        assert!(bytes > 100_000, "{bytes}");
        store.put_state("room", "later", &json!(1)).await.unwrap();
        let copied = Reader::open(&to).unwrap().states("room").unwrap();
        assert_eq!(copied.len(), 50);
        assert!(!dir.path().join("copy.db-wal").exists());
        assert_eq!(back_up(&from, &to).unwrap_err().code, "KE-FILE-001", "a backup is never written over");
        drop(store);
        assert_eq!(holder(&from), None);
    }
}
