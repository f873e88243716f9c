//! The SQLite file: one row per object as JSON, and the last revision. WAL; checkpoints run on a thread of their own so
//! that no request waits for one. A file that SQLite cannot read is reported and left as it is.

use super::state::{Key, State, Verb};
use super::txn::Staged;
use crate::base::Failure;
use crate::daemon::apiserver::errors;
use crate::daemon::apiserver::local::Collection;
use crate::model::Status;
use rusqlite::{Connection, ErrorCode, OpenFlags, params};
use serde_json::Value;
use std::borrow::Cow;
use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// After a power failure the last revisions may be lost; a new process starts this far on, so none is given twice.
const REVISION_STRIDE: u64 = 1000;
/// Rows written between two checkpoints.
const CHECKPOINT_ROWS: usize = 400;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS objects (
        grp TEXT NOT NULL, plural TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (grp, plural, namespace, name));
    CREATE TABLE IF NOT EXISTS revision (id INTEGER PRIMARY KEY CHECK (id = 1), value INTEGER NOT NULL);
    INSERT OR IGNORE INTO revision VALUES (1, 0);
    PRAGMA user_version = 1;";
/// The newest layout that is understood.
const LAYOUT: i64 = 1;

pub(super) struct Disk {
    connection: Connection,
    /// Whether commits wait for the disk at present.
    durable: bool,
    rows: usize,
    checkpoint: SyncSender<()>,
}

fn failure(path: &Path, error: &rusqlite::Error) -> Failure {
    let file = path.display();
    // SQLite has no code of its own for a header that no version of it writes.
    let foreign = error.to_string().contains("unsupported file format");
    match error.sqlite_error_code() {
        code if foreign || matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) => {
            Failure::new("KE-API-001", format!("the API's database {file} is damaged")).because(error).fix(
                format!(
                    "move {file} and its -wal and -shm files away, or restore a backup, then start again"
                ),
            )
        }
        Some(ErrorCode::DiskFull) => Failure::new("KE-API-002", format!("the disk of {file} is full"))
            .because(error)
            .fix("free some space, then start again"),
        _ => Failure::new("KE-API-002", format!("cannot open the API's database {file}"))
            .because(error)
            .fix("check that the directory exists, is writable and is not used by another kedge"),
    }
}

/// The system refuses a thread.
pub(super) fn no_thread(purpose: &str, error: &std::io::Error) -> Failure {
    Failure::new("KE-API-003", format!("cannot start the API's {purpose} thread")).because(error).fix(
        "raise the limit of processes and threads (ulimit -u, TasksMax= of the service), then start again",
    )
}

impl Disk {
    pub fn open(path: &Path) -> Result<(Disk, State), Failure> {
        keep_private(path)?;
        let opened = || {
            check(path)?;
            let mut connection = connect(path)?;
            check_layout(&connection)?;
            connection.execute_batch(SCHEMA)?;
            let state = load(&mut connection)?;
            Ok((connection, state))
        };
        let (connection, state) = opened().map_err(|error| failure(path, &error))?;
        let (checkpoint, asked) = sync_channel(1);
        let file = path.to_owned();
        std::thread::Builder::new()
            .name("api-checkpoint".to_owned())
            .stack_size(256 << 10)
            .spawn(move || checkpoints(&file, &asked))
            .map_err(|error| no_thread("checkpoint", &error))?;
        Ok((Disk { connection, durable: false, rows: 0, checkpoint }, state))
    }

    /// Commits a batch; on failure nothing of it is kept.
    pub fn write(&mut self, staged: &[Staged], revision: u64) -> Result<(), Status> {
        if staged.is_empty() {
            return Ok(());
        }
        self.rows += staged.len();
        self.sync(staged.iter().any(must_last)).and_then(|()| commit(&mut self.connection, staged, revision)).map_err(|error| {
            tracing::error!(%error, "the API cannot write to its database");
            match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => Status::failure(
                    507,
                    "InsufficientStorage",
                    "the disk of the API's database is full [KE-API-002]; nothing was changed: free some space \
                     and try again",
                ),
                _ => errors::internal(format!("the API's database cannot be written [KE-API-002]: {error}")),
            }
        })
    }

    /// Whether the next commit waits for the disk.
    fn sync(&mut self, durable: bool) -> rusqlite::Result<()> {
        if self.durable != durable {
            let level = if durable { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
            self.connection.execute_batch(level)?;
            self.durable = durable;
        }
        Ok(())
    }

    pub fn maybe_checkpoint(&mut self) {
        if self.rows >= CHECKPOINT_ROWS {
            self.rows = 0;
            // A checkpoint that is under way makes another one needless.
            self.checkpoint.try_send(()).ok();
        }
    }
}

/// Secrets are in it: the file is its owner's alone, and SQLite gives its logs the same mode.
fn keep_private(path: &Path) -> Result<(), Failure> {
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    let kept = made.and_then(|file| file.set_permissions(Permissions::from_mode(0o600)));
    kept.map_err(|error| {
        Failure::new("KE-API-002", format!("cannot open the API's database {}", path.display()))
            .because(error)
            .fix("check that the directory exists, is writable and is not used by another kedge")
    })
}

/// A file of a newer version is left as it is.
fn check_layout(connection: &Connection) -> rusqlite::Result<()> {
    let layout: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if layout <= LAYOUT {
        return Ok(());
    }
    let why = format!("it was written by a newer kedge (layout {layout}, this one knows {LAYOUT})");
    Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN), Some(why)))
}

/// Looks for damage without changing the file; a file that is not there yet is fine.
fn check(path: &Path) -> rusqlite::Result<()> {
    if !std::fs::metadata(path).is_ok_and(|facts| facts.len() > 0) {
        return Ok(());
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if sound == "ok" {
        return Ok(());
    }
    let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(corrupt, Some(sound)))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0;
         PRAGMA cache_size = -512; PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}

fn load(connection: &mut Connection) -> rusqlite::Result<State> {
    let last: i64 = connection.query_row("SELECT value FROM revision", [], |row| row.get(0))?;
    let mut state = State::new(u64::try_from(last).unwrap_or(0) + REVISION_STRIDE);
    let mut statement = connection.prepare("SELECT grp, plural, namespace, name, body FROM objects")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let collection = Collection { group: Cow::Owned(row.get(0)?), plural: Cow::Owned(row.get(1)?) };
        let key = Key { collection, namespace: row.get(2)?, name: row.get(3)? };
        let body: Vec<u8> = row.get(4)?;
        let object = serde_json::from_slice(&body).map_err(|error| {
            let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
            let what = format!("the object {}/{} is not JSON: {error}", key.namespace, key.name);
            rusqlite::Error::SqliteFailure(corrupt, Some(what))
        })?;
        state.load(key, object);
    }
    drop(rows);
    drop(statement);
    Ok(state)
}

/// What people and controllers ask for must outlast a power failure once it is answered. Statuses, leases and events need
/// not: nodes and controllers say them again, and waiting for the disk would cost every heartbeat a write.
fn must_last(staged: &Staged) -> bool {
    let Collection { group, plural } = &staged.key.collection;
    if matches!(
        (group.as_ref(), plural.as_ref()),
        ("coordination.k8s.io", "leases") | ("" | "events.k8s.io", "events")
    ) {
        return false;
    }
    let event = &staged.event;
    match (event.verb, &event.previous) {
        (Verb::Modified, Some(previous)) => !same_but_status(previous, &event.object),
        _ => true,
    }
}

fn same_but_status(a: &Value, b: &Value) -> bool {
    let same = |a: &Value, b: &Value, passing: &[&str]| {
        let fields = |object: &Value| -> Vec<(String, Value)> {
            let all = object.as_object().into_iter().flatten();
            let kept = all.filter(|(name, _)| !passing.contains(&name.as_str()));
            kept.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        fields(a) == fields(b)
    };
    same(a, b, &["status", "metadata"])
        && same(&a["metadata"], &b["metadata"], &["resourceVersion", "managedFields"])
}

fn commit(connection: &mut Connection, staged: &[Staged], revision: u64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for Staged { key, body, .. } in staged {
        let (group, plural) = (key.collection.group.as_ref(), key.collection.plural.as_ref());
        if body.is_empty() {
            transaction
                .prepare_cached(
                    "DELETE FROM objects WHERE grp = ?1 AND plural = ?2 AND namespace = ?3 AND name = ?4",
                )?
                .execute(params![group, plural, key.namespace, key.name])?;
        } else {
            transaction
                .prepare_cached(
                    "INSERT INTO objects VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT DO UPDATE SET body = excluded.body",
                )?
                .execute(params![group, plural, key.namespace, key.name, body])?;
        }
    }
    let revision = i64::try_from(revision).unwrap_or(i64::MAX);
    transaction.prepare_cached("UPDATE revision SET value = ?1")?.execute([revision])?;
    transaction.commit()
}

fn checkpoints(path: &Path, asked: &Receiver<()>) {
    while asked.recv().is_ok() {
        let done = connect(path).and_then(|connection| {
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(0))
        });
        if let Err(error) = done {
            tracing::warn!(%error, "the API's write-ahead log cannot be folded into its database");
        }
    }
}
