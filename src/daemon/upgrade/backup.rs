//! Copies of what a change of version could harm: the database and the configuration, whole, in a directory of their own.
//! The newest few are kept, and they are put back where a version cannot read what is there. Certificates and keys are not copied: no version changes them.

use crate::base::{Failure, create_private_dir, now, random_suffix, read_limited, rfc3339, write_atomic};
use crate::host::versions::{Exchange, digest};
use crate::store;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where backups are.
pub const DIR: &str = "/var/lib/kedge/backup";
/// Backups that are kept.
const KEPT: usize = 5;
const NOTE: &str = "backup.json";
const DATABASE: &str = "edgecore.db";
const CONFIG: &str = "edgecore.yaml";
const UNFINISHED: &str = ".unfinished-";
const SMALL: u64 = 1 << 20;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// The directory's name.
    pub name: String,
    /// RFC 3339, UTC.
    pub created: String,
    /// The version that ran.
    pub version: String,
    pub files: Vec<Kept>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    pub name: String,
    /// Where it came from.
    pub path: PathBuf,
    pub bytes: u64,
    pub digest: String,
}

/// Copies database and configuration below `dir`; a backup is there whole or not at all.
pub fn make(dir: &Path, version: &str, database: &Path, config: &Path) -> Result<Backup, Failure> {
    let name = format!("{}-{version}", now().strftime("%Y%m%dT%H%M%S.%3fZ"));
    let backup = fresh(dir, &name, version, database, config)?;
    prune(dir);
    Ok(backup)
}

/// Makes a backup of this name unless there is one: whoever was cut short and begins again finds it whole or not at all.
pub fn keep(dir: &Path, name: &str, version: &str, database: &Path, config: &Path) -> Result<(), Failure> {
    if list(dir).iter().any(|backup| backup.name == name) {
        return Ok(());
    }
    fresh(dir, name, version, database, config).map(drop)
}

fn fresh(dir: &Path, name: &str, version: &str, database: &Path, config: &Path) -> Result<Backup, Failure> {
    create_private_dir(dir)?;
    for name in names(dir).into_iter().filter(|name| name.starts_with(UNFINISHED)) {
        drop(fs::remove_dir_all(dir.join(name)));
    }
    let place = dir.join(format!("{UNFINISHED}{}", random_suffix(8)));
    create_private_dir(&place)?;
    let made = fill(&place, name, version, (database, config)).and_then(|backup| {
        let failed = |error: std::io::Error| {
            Failure::new("KE-FILE-001", format!("cannot write {}", dir.display()))
                .because(error)
                .fix("check that the disk is well and has free space")
        };
        fs::rename(&place, dir.join(&backup.name)).map_err(failed)?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        Ok(backup)
    });
    if made.is_err() {
        drop(fs::remove_dir_all(&place));
    }
    made
}

fn fill(place: &Path, name: &str, version: &str, of: (&Path, &Path)) -> Result<Backup, Failure> {
    let (database, config) = of;
    let mut files = Vec::new();
    let mut keep = |name: &str, path: &Path| {
        let copy = place.join(name);
        let failed = |error: std::io::Error| {
            Failure::new("KE-FILE-002", format!("cannot read {}, which was just written", copy.display()))
                .because(error)
                .fix("check that the disk is well")
        };
        let bytes = fs::metadata(&copy).map_err(failed)?.len();
        let digest = digest(&copy).map_err(failed)?;
        files.push(Kept { name: name.to_owned(), path: path.to_owned(), bytes, digest });
        Ok::<(), Failure>(())
    };
    // A node that has never run has no database yet.
    if database.exists() {
        store::back_up(database, &place.join(DATABASE))?;
        keep(DATABASE, database)?;
    }
    write_atomic(&place.join(CONFIG), &read_limited(config, 4 * SMALL)?, 0o600)?;
    keep(CONFIG, config)?;
    let (name, version) = (name.to_owned(), version.to_owned());
    let backup = Backup { name, created: rfc3339(now()), version, files };
    // A struct of plain fields always serialises.
    let text = serde_json::to_vec_pretty(&backup).unwrap_or_default();
    write_atomic(&place.join(NOTE), &text, 0o600)?;
    Ok(backup)
}

/// The newest backup whose database a version can read that reads layouts up to this one.
pub fn readable(dir: &Path, layout: u32) -> Option<Backup> {
    let reads = |backup: &Backup| match backup.file(DATABASE) {
        Some(_) => store::layout(&dir.join(&backup.name).join(DATABASE)).is_some_and(|found| found <= layout),
        // A node that had not run yet: its version makes a database of its own.
        None => true,
    };
    list(dir).into_iter().rev().find(reads)
}

/// Copies of this database, the newest first; one that was changed since it was made is none.
pub fn databases(dir: &Path, database: &Path) -> Vec<PathBuf> {
    let copy = |backup: Backup| {
        let file = backup.file(DATABASE).filter(|file| file.path == database)?;
        let copy = dir.join(&backup.name).join(&file.name);
        (digest(&copy).ok()? == file.digest).then_some(copy)
    };
    list(dir).into_iter().rev().filter_map(copy).collect()
}

/// Where the configuration of a backup lies.
pub fn config_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(name).join(CONFIG)
}

/// Puts database and configuration of a backup in place, and keeps those that are there as another one. No daemon may
/// run. It can be repeated after it was cut short anywhere. A backup that was never made has nothing to put back.
pub fn exchange(dir: &Path, exchange: &Exchange, database: &Path, config: &Path) -> Result<(), Failure> {
    let all = list(dir);
    let Some(back) = all.iter().find(|backup| backup.name == exchange.back) else { return Ok(()) };
    keep(dir, &exchange.aside, &exchange.of.bare(), database, config)?;
    for file in &back.files {
        let found = digest(&dir.join(&back.name).join(&file.name)).ok();
        if found.as_ref() != Some(&file.digest) {
            let what = format!("the backup {} cannot be put back", back.name);
            return Err(Failure::new("KE-UPGRADE-018", what)
                .because(format!("{} was changed or is gone", file.name))
                .fix(format!("what was there before is kept as {}", dir.join(&exchange.aside).display())));
        }
    }
    let text = read_limited(&config_of(dir, &back.name), 4 * SMALL)?;
    let kept = back.file(DATABASE).map(|file| dir.join(&back.name).join(&file.name));
    store::put_in_place(kept.as_deref(), database)?;
    if read_limited(config, 4 * SMALL).ok().as_ref() != Some(&text) {
        let mode = fs::metadata(config).map_or(0o600, |facts| facts.permissions().mode() & 0o7777);
        write_atomic(config, &text, mode)?;
    }
    Ok(())
}

impl Backup {
    /// Where its database came from.
    pub fn database(&self) -> Option<PathBuf> {
        self.file(DATABASE).map(|file| file.path.clone())
    }

    fn file(&self, name: &str) -> Option<&Kept> {
        self.files.iter().find(|file| file.name == name)
    }
}

/// The backups below a directory, oldest first.
pub fn list(dir: &Path) -> Vec<Backup> {
    let mut found: Vec<Backup> = names(dir)
        .into_iter()
        .filter(|name| !name.starts_with('.'))
        .filter_map(|name| {
            let text = read_limited(&dir.join(&name).join(NOTE), SMALL).ok()?;
            let backup: Backup = serde_json::from_slice(&text).ok()?;
            (backup.name == name).then_some(backup)
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Those that are not of the newest few, but for the newest one of the version before: the way back may need it.
fn outdated(all: &[Backup]) -> impl Iterator<Item = &Backup> {
    let last = all.last().map(|backup| &backup.version);
    let before = all.iter().rev().find(|backup| Some(&backup.version) != last).map(|backup| &backup.name);
    all.iter().take(all.len().saturating_sub(KEPT)).filter(move |backup| Some(&backup.name) != before)
}

fn prune(dir: &Path) {
    let all = list(dir);
    for backup in outdated(&all) {
        if let Err(error) = fs::remove_dir_all(dir.join(&backup.name)) {
            tracing::warn!(%error, "an old backup cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Reader, Store};
    use serde_json::json;

    #[tokio::test]
    async fn a_backup_is_whole_and_the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (database, config, backups) =
            (dir.path().join("edgecore.db"), dir.path().join("edgecore.yaml"), dir.path().join("backup"));
        fs::write(&config, "a: b\n").unwrap();
        let first = make(&backups, "1.0.0", &database, &config).unwrap();
        assert_eq!(first.files.len(), 1, "there is no database yet");
        let store = Store::open(&database).unwrap();
        store.put_state("r", "k", &json!(7)).await.unwrap();
        for _ in 0..KEPT {
            make(&backups, "1.0.0", &database, &config).unwrap();
        }
        let all = list(&backups);
        assert_eq!(all.len(), KEPT);
        assert!(all.iter().all(|backup| backup.name != first.name || backup.files.len() == 2));
        let last = all.last().unwrap();
        let copy = backups.join(&last.name).join(DATABASE);
        assert_eq!(Reader::open(&copy).unwrap().states("r").unwrap()[0].1, json!(7));
        assert_eq!(last.files[0].digest, digest(&copy).unwrap());
        let copies = databases(&backups, &database);
        assert_eq!((copies.len(), copies.first()), (KEPT, Some(&copy)));
        assert_eq!(databases(&backups, &config), Vec::<PathBuf>::new(), "of another database");
        let failure = make(&backups, "1.0.0", &database, &dir.path().join("absent")).unwrap_err();
        assert_eq!(failure.code, "KE-FILE-002");
        failure.is_as_committed();
        assert_eq!(names(&backups).len(), KEPT, "nothing half-made stays");
        drop(store);
        for _ in 0..2 * KEPT {
            make(&backups, "1.1.0", &database, &config).unwrap();
        }
        let versions: Vec<String> = list(&backups).into_iter().map(|backup| backup.version).collect();
        assert_eq!(versions.iter().filter(|version| *version == "1.0.0").count(), 1, "{versions:?}");
        assert_eq!(versions.len(), KEPT + 1);
    }

    #[tokio::test]
    async fn what_a_version_cannot_read_is_kept_and_what_it_can_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (database, config, backups) =
            (dir.path().join("edgecore.db"), dir.path().join("edgecore.yaml"), dir.path().join("backup"));
        let value = |database: &Path| Reader::open(database).unwrap().states("r").unwrap()[0].1.clone();
        fs::write(&config, "old: 1\n").unwrap();
        let store = Store::open(&database).unwrap();
        store.put_state("r", "k", &json!("old")).await.unwrap();
        let old = make(&backups, "1.0.0", &database, &config).unwrap();
        store.put_state("r", "k", &json!("new")).await.unwrap();
        drop(store);
        let newer = rusqlite::Connection::open(&database).unwrap();
        newer.execute_batch("PRAGMA user_version=2").unwrap();
        newer.close().unwrap();
        fs::write(&config, "new: 2\n").unwrap();
        make(&backups, "2.0.0", &database, &config).unwrap();
        assert_eq!(readable(&backups, 1).unwrap().name, old.name);
        assert_eq!(readable(&backups, 2).unwrap().version, "2.0.0");
        let of = crate::model::Release::parse("2.0.0").unwrap();
        let there = Exchange { back: old.name.clone(), aside: "0-2.0.0-aside".to_owned(), of: of.clone() };
        let nothing = Exchange { back: "absent".to_owned(), ..there.clone() };
        exchange(&backups, &nothing, &database, &config).unwrap();
        assert_eq!(store::layout(&database), Some(2));
        // Twice, as after a power failure.
        for _ in 0..2 {
            exchange(&backups, &there, &database, &config).unwrap();
            assert_eq!((store::layout(&database), value(&database)), (Some(1), json!("old")));
            assert_eq!(fs::read_to_string(&config).unwrap(), "old: 1\n");
            let aside = backups.join(&there.aside);
            assert_eq!(
                (store::layout(&aside.join(DATABASE)), value(&aside.join(DATABASE))),
                (Some(2), json!("new"))
            );
            assert_eq!(fs::read_to_string(aside.join(CONFIG)).unwrap(), "new: 2\n");
        }
        // And the way back from there.
        let of = crate::model::Release::parse("1.0.0").unwrap();
        let back = Exchange { back: there.aside.clone(), aside: "1-1.0.0-aside".to_owned(), of };
        exchange(&backups, &back, &database, &config).unwrap();
        assert_eq!((store::layout(&database), value(&database)), (Some(2), json!("new")));
        fs::write(backups.join(&old.name).join(DATABASE), "spoilt").unwrap();
        let failure = exchange(&backups, &there, &database, &config).unwrap_err();
        assert!(failure.code == "KE-UPGRADE-018" && failure.why.contains(DATABASE), "{failure}");
        failure.is_as_committed();
        assert_eq!(value(&database), json!("new"));
    }
}
