//! Opening connections and bringing tables up to date. The tables are KubeEdge's (protocol.md §10.1), plus
//! `kedge_state`, which a genuine edgecore ignores. Databases of KubeEdge 1.22 and older gain the columns they lack and
//! keep their own filled, so that such an edgecore can take the file back.

use super::error;
use crate::base::Failure;
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// How long a statement waits for another process, such as an offline command, to end its transaction.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (`key` text(256), `type` text(32), `value` text, PRIMARY KEY (`key`));
CREATE INDEX IF NOT EXISTS kedge_meta_type ON meta (`type`);
CREATE TABLE IF NOT EXISTS meta_v2 (`key` text(256), `group_version_resource` text(256), `namespace` text(256),
  `name` text(256), `resource_version` integer, `value` text, PRIMARY KEY (`key`));
CREATE TABLE IF NOT EXISTS device (`id` text(64), `name` text, `description` text, `state` text, `last_online` text,
  PRIMARY KEY (`id`));
CREATE TABLE IF NOT EXISTS device_attr (`id` integer PRIMARY KEY AUTOINCREMENT, `deviceid` text, `name` text,
  `description` text, `value` text, `optional` numeric, `attr_type` text, `metadata` text);
CREATE TABLE IF NOT EXISTS device_twin (`id` integer PRIMARY KEY AUTOINCREMENT, `deviceid` text, `name` text,
  `description` text, `expected` text, `actual` text, `expected_meta` text, `actual_meta` text,
  `expected_version` text, `actual_version` text, `optional` numeric, `attr_type` text, `metadata` text);
CREATE INDEX IF NOT EXISTS kedge_device_twin ON device_twin (`deviceid`, `name`);
CREATE TABLE IF NOT EXISTS sub_topics (`topic` text, PRIMARY KEY (`topic`));
CREATE TABLE IF NOT EXISTS target_urls (`url` text, PRIMARY KEY (`url`));
CREATE TABLE IF NOT EXISTS kedge_state (`room` text NOT NULL, `key` text NOT NULL, `value` text NOT NULL,
  PRIMARY KEY (`room`, `key`)) WITHOUT ROWID;
";

/// The layout of the tables above, as `PRAGMA user_version` holds it; KubeEdge leaves it at 0, which counts as the first.
/// It rises when an older kedge could no longer read or write what a newer one has made of the file, not when tables or
/// columns are only added.
pub const LAYOUT: u32 = 1;

/// Columns that KubeEdge 1.23 renamed in `meta_v2`.
const RENAMED: [(&str, &str, &str); 2] = [
    ("group_version_resource", "text(256)", "groupversionresource"),
    ("resource_version", "integer", "resourceversion"),
];

/// Looks for damage without changing the file; a file that does not exist yet is fine.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    match std::fs::metadata(path) {
        Ok(facts) if facts.len() > 0 => {}
        _ => return Ok(()),
    }
    let verdict = (|| {
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.busy_timeout(BUSY_LIMIT)?;
        db.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
    })();
    match verdict {
        Ok(word) if word == "ok" => Ok(()),
        Ok(word) => Err(error::corrupt(path, &word)),
        Err(error) => Err(error::failure(path, &error)),
    }
}

/// The layout of a database; `None` where there is none, or the file cannot be read.
pub fn layout(path: &Path) -> Option<u32> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    db.busy_timeout(BUSY_LIMIT).ok()?;
    layout_of(&db).ok()
}

fn layout_of(db: &Connection) -> rusqlite::Result<u32> {
    db.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
        .map(|layout| u32::try_from(layout).unwrap_or(u32::MAX).max(1))
}

/// Refuses a database of a layout that this kedge does not know, before anything of it is touched.
pub(super) fn refuse_newer(path: &Path) -> Result<(), Failure> {
    match layout(path) {
        Some(found) if found > LAYOUT => Err(error::newer(path, found)),
        _ => Ok(()),
    }
}

/// The database holds Secrets: nobody but its owner may read it, also where an edgecore made it for everybody. SQLite
/// gives its log and index the permissions that the file has when they are made.
pub(super) fn keep_private(path: &Path) -> Result<(), Failure> {
    let private = (|| {
        OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        for end in ["", "-wal", "-shm"] {
            let mut file = path.as_os_str().to_owned();
            file.push(end);
            match fs::set_permissions(&file, Permissions::from_mode(0o600)) {
                Err(error) if end.is_empty() || error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    })();
    private.map_err(|why: std::io::Error| {
        Failure::new("KE-STORE-004", format!("cannot make {} private", path.display()))
            .because(why)
            .fix("check that its directory exists and can be written by this user")
    })
}

/// The connection that writes; creates what is missing.
pub(super) fn open_writer(path: &Path) -> Result<Connection, Failure> {
    (|| {
        let db = Connection::open(path)?;
        db.busy_timeout(BUSY_LIMIT)?;
        db.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
        // FULL: an acknowledgement tells the cloud that a power cut cannot lose the object.
        db.execute_batch(
            "PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY; PRAGMA mmap_size=0; PRAGMA cache_size=-512;
             PRAGMA wal_autocheckpoint=256; PRAGMA journal_size_limit=1048576;",
        )?;
        db.execute_batch(&format!("BEGIN IMMEDIATE;{TABLES}"))?;
        add_renamed_columns(&db)?;
        db.execute_batch(&format!("PRAGMA user_version={LAYOUT}; COMMIT"))?;
        db.set_prepared_statement_cache_capacity(32);
        Ok(db)
    })()
    .map_err(|error: rusqlite::Error| error::failure(path, &error))
}

/// A connection beside the writer; it cannot write.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Failure> {
    (|| {
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.busy_timeout(BUSY_LIMIT)?;
        db.execute_batch("PRAGMA query_only=ON; PRAGMA mmap_size=0; PRAGMA cache_size=-256;")?;
        db.set_prepared_statement_cache_capacity(16);
        Ok(db)
    })()
    .map_err(|error: rusqlite::Error| error::failure(path, &error))
}

fn add_renamed_columns(db: &Connection) -> rusqlite::Result<()> {
    let present = columns(db, "meta_v2")?;
    let has = |column: &str| present.iter().any(|name| name == column);
    for (column, column_type, old) in RENAMED {
        if !has(column) {
            db.execute_batch(&format!("ALTER TABLE meta_v2 ADD COLUMN `{column}` {column_type}"))?;
        }
        if has(old) {
            // An edgecore that had the file in between has replaced rows without our columns.
            db.execute_batch(&format!("UPDATE meta_v2 SET `{column}` = `{old}` WHERE `{column}` IS NULL"))?;
            db.execute_batch(&format!(
                "CREATE TRIGGER IF NOT EXISTS kedge_{old} AFTER INSERT ON meta_v2 WHEN new.`{column}` IS NOT NULL
                 BEGIN UPDATE meta_v2 SET `{old}` = new.`{column}` WHERE `key` = new.`key`; END"
            ))?;
        }
    }
    Ok(())
}

/// Names of a table's columns; empty when there is no such table.
pub(super) fn columns(db: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = db.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let names = statement.query_map([table], |row| row.get(0))?;
    names.collect()
}
