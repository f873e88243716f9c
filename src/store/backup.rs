//! A copy of the database while a daemon writes to it, through SQLite's backup interface. Upgrades and `kedge edge backup`
//! call it; blocking, not for a daemon's own threads.

use super::{error, schema};
use crate::base::Failure;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
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
    // A copy has every damage of what it was made from.
    schema::check(to).map_err(|of_copy| schema::check(from).err().unwrap_or(of_copy))?;
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

/// Puts a copy that [`back_up`] has made in the place of a database which no daemon has open; without a copy there is none
/// afterwards. Cut short, either the old or the new one is there, whole.
pub fn put_in_place(copy: Option<&Path>, database: &Path) -> Result<(), Failure> {
    if super::holder(database).is_some() {
        return Err(error::locked(database, "a daemon has it open"));
    }
    settle(database).map_err(|why| error::failure(database, &why))?;
    let Some(dir) = database.parent() else { return Ok(()) };
    let placed = match copy {
        Some(copy) => {
            let beside = sibling(database, ".new");
            absent(std::fs::remove_file(&beside))
                .and_then(|()| {
                    let mut new =
                        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
                    std::io::copy(&mut File::open(copy)?, &mut new)?;
                    new.sync_all()
                })
                .and_then(|()| std::fs::rename(&beside, database))
        }
        None => absent(std::fs::remove_file(database)),
    };
    placed.and_then(|()| File::open(dir)?.sync_all()).map_err(|why| {
        Failure::new("KE-FILE-001", format!("cannot write {}", database.display()))
            .because(why)
            .fix("check that the directory exists, is writable and has free space")
    })
}

/// Has everything of a database in its one file: a write-ahead log that stays would be applied to whatever comes there.
fn settle(database: &Path) -> rusqlite::Result<()> {
    if !database.exists() {
        return Ok(());
    }
    let db = Connection::open(database)?;
    db.busy_timeout(Duration::from_secs(5))?;
    let mode: String = db.query_row("PRAGMA journal_mode=DELETE", [], |row| row.get(0))?;
    db.close().map_err(|(_, why)| why)?;
    if mode == "delete" {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
        Some(format!("its log stays in mode {mode}")),
    ))
}

pub(super) fn sibling(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

pub(super) fn absent(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
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
    async fn a_copy_takes_the_place_of_a_newer_database_and_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let (live, copy) = (dir.path().join("edgecore.db"), dir.path().join("copy.db"));
        let store = Store::open(&live).unwrap();
        store.put_state("room", "k", &json!("old")).await.unwrap();
        back_up(&live, &copy).unwrap();
        store.put_state("room", "k", &json!("new")).await.unwrap();
        assert_eq!(
            put_in_place(Some(&copy), &live).unwrap_err().committed().code,
            "KE-STORE-002",
            "it is in use"
        );
        drop(store);
        // A newer kedge that was killed: its last words stand in the log.
        let newer = Connection::open(&live).unwrap();
        newer.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())).unwrap();
        newer.execute_batch("PRAGMA user_version=9; DROP TABLE meta_v2").unwrap();
        std::fs::copy(&live, dir.path().join("kept")).unwrap();
        std::fs::copy(dir.path().join("edgecore.db-wal"), dir.path().join("kept-wal")).unwrap();
        drop(newer);
        std::fs::rename(dir.path().join("kept"), &live).unwrap();
        std::fs::rename(dir.path().join("kept-wal"), dir.path().join("edgecore.db-wal")).unwrap();
        assert_eq!(super::super::layout(&live), Some(9));
        let refused = Store::open(&live).err().unwrap();
        assert!(refused.code == "KE-STORE-007" && refused.why.contains("layout is 9"), "{refused}");
        refused.is_as_committed();

        put_in_place(Some(&copy), &live).unwrap();
        put_in_place(Some(&copy), &live).unwrap();
        assert_eq!(super::super::layout(&live), Some(super::super::LAYOUT));
        let store = Store::open(&live).unwrap();
        assert_eq!(store.state("room", "k").await.unwrap(), Some(json!("old")));
        drop(store);
        put_in_place(None, &live).unwrap();
        assert!(!live.exists() && !dir.path().join("edgecore.db-wal").exists());
    }

    #[test]
    fn a_backup_of_a_damaged_database_names_that_one() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("edgecore.db"), dir.path().join("copy.db"));
        drop(Store::open(&from).unwrap());
        let mut bytes = std::fs::read(&from).unwrap();
        bytes.iter_mut().skip(4096).for_each(|byte| *byte = 0x5a);
        std::fs::write(&from, bytes).unwrap();
        let failure = back_up(&from, &to).unwrap_err();
        assert_eq!(failure.code, "KE-STORE-001", "{failure}");
        assert!(failure.what.contains("edgecore.db") && !failure.why.contains('\n'), "{failure}");
    }

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
        assert_eq!(
            back_up(&from, &to).unwrap_err().committed().code,
            "KE-FILE-001",
            "a backup is never written over"
        );
        drop(store);
        assert_eq!(holder(&from), None);
    }
}
