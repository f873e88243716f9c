//! Copies of what a change of version could harm: the database and the configuration, whole, in a directory of their own.
//! The newest few are kept. Certificates and keys are not copied: no version changes them.

use crate::base::{Failure, create_private_dir, now, random_suffix, read_limited, rfc3339, write_atomic};
use crate::host::versions::digest;
use crate::store;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
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
    create_private_dir(dir)?;
    for name in names(dir).into_iter().filter(|name| name.starts_with(UNFINISHED)) {
        drop(fs::remove_dir_all(dir.join(name)));
    }
    let place = dir.join(format!("{UNFINISHED}{}", random_suffix(8)));
    create_private_dir(&place)?;
    let made = fill(&place, version, database, config).and_then(|backup| {
        let failed = |error: std::io::Error| {
            Failure::new("KE-UPGRADE-018", format!("the backup in {} cannot be completed", dir.display()))
                .because(error)
        };
        fs::rename(&place, dir.join(&backup.name)).map_err(failed)?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        Ok(backup)
    });
    match made {
        Ok(backup) => {
            prune(dir);
            Ok(backup)
        }
        Err(failure) => {
            drop(fs::remove_dir_all(&place));
            Err(failure)
        }
    }
}

fn fill(place: &Path, version: &str, database: &Path, config: &Path) -> Result<Backup, Failure> {
    let at = now();
    let mut files = Vec::new();
    let mut keep = |name: &str, path: &Path| {
        let failed = |error: std::io::Error| {
            Failure::new("KE-UPGRADE-018", format!("the backup of {} cannot be read again", path.display()))
                .because(error)
        };
        let copy = place.join(name);
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
    let stamp = at.strftime("%Y%m%dT%H%M%S.%3fZ");
    let name = format!("{stamp}-{version}");
    let backup = Backup { name, created: rfc3339(at), version: version.to_owned(), files };
    let text = serde_json::to_vec_pretty(&backup)
        .map_err(|error| Failure::new("KE-UPGRADE-018", "the backup cannot be described").because(error))?;
    write_atomic(&place.join(NOTE), &text, 0o600)?;
    Ok(backup)
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

fn prune(dir: &Path) {
    let all = list(dir);
    for backup in all.iter().take(all.len().saturating_sub(KEPT)) {
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
        let failure = make(&backups, "1.0.0", &database, &dir.path().join("absent")).unwrap_err();
        assert_eq!(failure.code, "KE-FILE-002");
        assert_eq!(names(&backups).len(), KEPT, "nothing half-made stays");
    }
}
