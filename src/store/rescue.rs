//! What becomes of a damaged database when a daemon starts: it is set aside under a name with the time, never deleted, and
//! the newest sound copy or an empty database takes its place. A note beside it says so, for status, doctor and for the
//! modules that must not take what is missing for what was deleted. `Store` comes here with the lock held; blocking.

use super::backup::{absent, sibling};
use super::schema;
use crate::base::{Failure, now, now_ms, read_limited, write_atomic};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const NOTE: &str = ".rescued";
const NOTE_LIMIT: u64 = 64 << 10;
/// A database, its log and the log's index.
const PARTS: [&str; 3] = ["-wal", "-shm", ""];

/// A damaged database that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rescue {
    /// Milliseconds since 1970.
    pub at: i64,
    /// Where the damaged file is now.
    pub aside: PathBuf,
    /// What SQLite said of it.
    pub why: String,
    /// The copy that was put in its place; `None`: the database began empty.
    pub restored: Option<PathBuf>,
    /// Whether the database holds again what the cloud wants it to hold.
    pub settled: bool,
}

/// The last rescue of this database, as long as the damaged file is where it was put.
pub fn rescued(database: &Path) -> Option<Rescue> {
    note(database).filter(|rescue| rescue.aside.exists())
}

/// Whether something may be missing in this database that the node still has.
pub fn is_unsettled(database: &Path) -> Option<Rescue> {
    note(database).filter(|rescue| !rescue.settled)
}

/// Notes that nothing is missing any more.
pub fn settle(database: &Path) -> Result<(), Failure> {
    match is_unsettled(database) {
        Some(rescue) => write_note(database, &Rescue { settled: true, ..rescue }),
        None => Ok(()),
    }
}

fn note(database: &Path) -> Option<Rescue> {
    serde_json::from_slice(&read_limited(&sibling(database, NOTE), NOTE_LIMIT).ok()?).ok()
}

fn write_note(database: &Path, rescue: &Rescue) -> Result<(), Failure> {
    // A struct of plain fields always serialises.
    write_atomic(&sibling(database, NOTE), &serde_json::to_vec_pretty(rescue).unwrap_or_default(), 0o600)
}

/// A rescue that was cut short between the two files; it is to be carried on.
pub(super) fn unfinished(database: &Path) -> Option<Rescue> {
    is_unsettled(database).filter(|rescue| rescue.aside.exists() && !database.exists())
}

/// Decides what a damaged database is called from now on and what takes its place.
pub(super) fn plan(database: &Path, why: &str, copies: &[PathBuf]) -> Rescue {
    let at = now().strftime("%Y%m%dT%H%M%S.%3fZ");
    Rescue {
        at: now_ms(),
        aside: sibling(database, &format!(".damaged-{at}")),
        why: why.to_owned(),
        restored: copies.iter().find(|copy| is_sound(copy)).cloned(),
        settled: false,
    }
}

fn is_sound(copy: &Path) -> bool {
    copy.is_file() && schema::check(copy).is_ok() && schema::refuse_newer(copy).is_ok()
}

/// Carries a rescue out. It may be cut short anywhere and is then carried on at the next start: the note comes first, and
/// the log goes before the file, for what is left without its log is still the damaged file.
pub(super) fn carry_out(database: &Path, rescue: &Rescue) -> Result<(), Failure> {
    write_note(database, rescue)?;
    let moved = PARTS
        .iter()
        .try_for_each(|part| absent(fs::rename(sibling(database, part), sibling(&rescue.aside, part))));
    let placed = moved.and_then(|()| match &rescue.restored {
        Some(copy) => {
            let beside = sibling(database, ".new");
            fs::copy(copy, &beside)?;
            File::open(&beside)?.sync_all()?;
            fs::rename(&beside, database)
        }
        None => Ok(()),
    });
    let synced = placed.and_then(|()| match database.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => Ok(()),
    });
    synced.map_err(|why| {
        Failure::new("KE-FILE-001", format!("cannot set {} aside", database.display()))
            .because(why)
            .fix("check that its directory is writable and has free space, and start the daemon again")
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Store, back_up};
    use super::*;
    use serde_json::json;

    fn spoil(database: &Path) -> Vec<u8> {
        for end in ["-wal", "-shm"] {
            drop(fs::remove_file(sibling(database, end)));
        }
        let bytes = vec![0x5a; 8192];
        fs::write(database, &bytes).unwrap();
        bytes
    }

    async fn value(store: &Store) -> Option<serde_json::Value> {
        store.state("r", "k").await.unwrap()
    }

    #[tokio::test]
    async fn a_damaged_database_is_kept_and_the_newest_sound_copy_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let database = at("edgecore.db");
        let (store, none) = Store::open_or_rescue(&database, Vec::new).unwrap();
        assert_eq!((none, rescued(&database)), (None, None));
        store.put_state("r", "k", &json!("old")).await.unwrap();
        back_up(&database, &at("old.db")).unwrap();
        store.put_state("r", "k", &json!("lost")).await.unwrap();
        drop(store);
        fs::write(at("newest.db"), "damaged too").unwrap();

        let damaged = spoil(&database);
        let copies = || vec![at("gone.db"), at("newest.db"), at("old.db")];
        let (store, rescue) = Store::open_or_rescue(&database, copies).unwrap();
        let rescue = rescue.unwrap();
        assert_eq!(rescue.restored, Some(at("old.db")));
        assert_eq!(fs::read(&rescue.aside).unwrap(), damaged);
        assert!(rescue.aside.display().to_string().contains("edgecore.db.damaged-2"), "{rescue:?}");
        assert_eq!(value(&store).await, Some(json!("old")));
        assert_eq!(rescued(&database), Some(rescue.clone()));
        drop(store);

        // Without a copy it begins empty, and both damaged files are kept.
        spoil(&database);
        let (store, second) = Store::open_or_rescue(&database, Vec::new).unwrap();
        let second = second.unwrap();
        assert_eq!((value(&store).await, second.restored.clone()), (None, None));
        assert!(rescue.aside.exists() && second.aside.exists() && rescue.aside != second.aside);
        drop(store);
        // It is told until somebody has taken the file away, and unsettled until the cloud agrees.
        let (_store, again) = Store::open_or_rescue(&database, Vec::new).unwrap();
        assert_eq!(again, None, "it is set aside once");
        assert!(is_unsettled(&database).is_some());
        settle(&database).unwrap();
        assert!(is_unsettled(&database).is_none() && rescued(&database).is_some());
        fs::remove_file(&second.aside).unwrap();
        assert_eq!(rescued(&database), None);
    }

    #[tokio::test]
    async fn a_rescue_that_was_cut_short_is_carried_on() {
        let dir = tempfile::tempdir().unwrap();
        let (database, copy) = (dir.path().join("edgecore.db"), dir.path().join("copy.db"));
        let store = Store::open(&database).unwrap();
        store.put_state("r", "k", &json!(7)).await.unwrap();
        back_up(&database, &copy).unwrap();
        drop(store);
        let rescue = plan(&database, "damaged", std::slice::from_ref(&copy));
        write_note(&database, &rescue).unwrap();
        spoil(&database);
        fs::rename(&database, &rescue.aside).unwrap();
        let (store, told) = Store::open_or_rescue(&database, Vec::new).unwrap();
        assert_eq!(told, Some(rescue));
        assert_eq!(value(&store).await, Some(json!(7)));
    }

    #[test]
    fn what_is_no_damage_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("edgecore.db");
        let _held = Store::open(&database).unwrap();
        let failure = Store::open_or_rescue(&database, Vec::new).err().unwrap();
        assert_eq!(failure.code, "KE-STORE-002");
        let below_a_file = database.join("edgecore.db");
        assert!(Store::open_or_rescue(&below_a_file, Vec::new).is_err());
        assert_eq!(rescued(&database), None);
    }
}
