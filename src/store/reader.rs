//! Reads a database without changing it, while a daemon runs or after it has stopped; a genuine edgecore.db too.
//! Offline commands use it. Blocking: it is not for daemons.

use super::devices::{self, DeviceRow, TwinRow};
use super::objects::{self, MetaRow};
use super::{error, schema, state};
use crate::base::{Exit, Failure, is_there, no_access};
use crate::model::{DeviceId, Kind, ObjectKey};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One row of `meta_v2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaV2Row {
    pub key: String,
    pub group_version_resource: String,
    pub resource_version: u64,
}

/// A read-only connection.
pub struct Reader {
    path: PathBuf,
    db: Connection,
}

impl Reader {
    /// Opens the file; it must exist and be an edge node's database.
    pub fn open(path: impl AsRef<Path>) -> Result<Reader, Failure> {
        let path = path.as_ref().to_owned();
        is_there(&path)?;
        if let Err(error) = File::open(&path)
            && error.kind() == ErrorKind::PermissionDenied
        {
            return Err(no_access(&path, &error));
        }
        if !path.is_file() {
            return Err(Failure::new("KE-STORE-006", format!("there is no database at {}", path.display()))
                .because("no edge daemon has run with this data directory")
                .fix("name a node's directory with --data-dir; a machine becomes a node with `kedge join` or `kedge up`")
                .exit(Exit::Unreachable));
        }
        let db = connect(&path).map_err(|error| error::failure(&path, &error))?;
        Ok(Reader { path, db })
    }

    /// All rows of `meta`, or those of one type.
    pub fn rows(&self, kind: Option<&str>) -> Result<Vec<MetaRow>, Failure> {
        self.read(|db| if has(db, "meta")? { objects::rows(db, kind) } else { Ok(Vec::new()) })
    }

    /// The row under this key as it stands.
    pub fn row(&self, key: &str) -> Result<Option<MetaRow>, Failure> {
        self.read(|db| if has(db, "meta")? { objects::row(db, key) } else { Ok(None) })
    }

    /// The file that is read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The object under this key.
    pub fn object(&self, key: &ObjectKey) -> Result<Option<Value>, Failure> {
        self.read(|db| if has(db, "meta")? { objects::get(db, key) } else { Ok(None) })
    }

    /// All objects of a kind, ordered by key.
    pub fn objects(&self, kind: Kind) -> Result<Vec<(ObjectKey, Value)>, Failure> {
        self.read(|db| if has(db, "meta")? { objects::list(db, kind) } else { Ok(Vec::new()) })
    }

    /// All rows of `meta_v2`, with the column names of KubeEdge 1.22 or of 1.23.
    pub fn meta_v2(&self) -> Result<Vec<MetaV2Row>, Failure> {
        self.read(|db| {
            let present = schema::columns(db, "meta_v2")?;
            let column = |new: &'static str, old: &'static str| {
                let chosen = [new, old].into_iter().find(|name| present.iter().any(|p| p == name));
                chosen.unwrap_or("NULL")
            };
            if present.is_empty() {
                return Ok(Vec::new());
            }
            let resource = column("group_version_resource", "groupversionresource");
            let revision = column("resource_version", "resourceversion");
            let mut statement =
                db.prepare(&format!("SELECT key, {resource}, {revision} FROM meta_v2 ORDER BY key"))?;
            let rows = statement.query_map([], |row| {
                Ok(MetaV2Row {
                    key: row.get(0)?,
                    group_version_resource: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
                    resource_version: row
                        .get::<_, Option<i64>>(2)?
                        .and_then(|v| v.try_into().ok())
                        .unwrap_or(0),
                })
            })?;
            rows.collect()
        })
    }

    /// All devices, ordered by id.
    pub fn devices(&self) -> Result<Vec<DeviceRow>, Failure> {
        self.read(|db| if has(db, "device")? { devices::list(db) } else { Ok(Vec::new()) })
    }

    /// One device.
    pub fn device(&self, id: &DeviceId) -> Result<Option<DeviceRow>, Failure> {
        self.read(|db| if has(db, "device")? { devices::get(db, id) } else { Ok(None) })
    }

    /// The properties of a device, ordered by name.
    pub fn twins(&self, id: &DeviceId) -> Result<Vec<TwinRow>, Failure> {
        self.read(|db| if has(db, "device_twin")? { devices::twins(db, id) } else { Ok(Vec::new()) })
    }

    /// All small values of a module by key.
    pub fn states(&self, room: &str) -> Result<Vec<(String, Value)>, Failure> {
        self.read(|db| if has(db, "kedge_state")? { state::list(db, room) } else { Ok(Vec::new()) })
    }

    /// SQLite's own verdict on the file: `ok`, or the first damage that it names.
    pub fn quick_check(&self) -> Result<String, Failure> {
        self.read(|db| db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)))
    }

    /// Bytes of the write-ahead log, which the next checkpoint brings into the file.
    pub fn log_size(&self) -> u64 {
        let log = suffixed(self.path.as_os_str().to_owned(), "-wal");
        std::fs::metadata(log).map_or(0, |file| file.len())
    }

    /// Bytes on disk, the write-ahead log included.
    pub fn size(&self) -> u64 {
        size_on_disk(&self.path)
    }

    fn read<T>(&self, deed: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Failure> {
        deed(&self.db).map_err(|error| error::failure(&self.path, &error))
    }
}

/// Bytes of the database file and its write-ahead log.
pub(super) fn size_on_disk(path: &Path) -> u64 {
    let log = suffixed(path.as_os_str().to_owned(), "-wal");
    [path, log.as_path()].iter().filter_map(|p| std::fs::metadata(p).ok()).map(|m| m.len()).sum()
}

fn suffixed(mut path: OsString, suffix: &str) -> PathBuf {
    path.push(suffix);
    PathBuf::from(path)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let plain = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).and_then(|db| {
        prepare(&db)?;
        // The first statement finds out whether the write-ahead log's index can be made.
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(db)
    });
    let first = match plain {
        Ok(db) => return Ok(db),
        Err(error) => error,
    };
    let readable_as_is = matches!(
        first.sqlite_error_code(),
        Some(rusqlite::ErrorCode::CannotOpen | rusqlite::ErrorCode::ReadOnly)
    );
    if !readable_as_is {
        return Err(first);
    }
    // On read-only media the index of a write-ahead log cannot be made; nobody writes there, so the file is read as is.
    let uri = format!("file:{}?immutable=1", percent_encoded(path));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let db = Connection::open_with_flags(uri, flags)?;
    prepare(&db)?;
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(db)
}

fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(Duration::from_secs(5))?;
    db.execute_batch("PRAGMA query_only=ON;")
}

fn percent_encoded(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    path.as_os_str()
        .as_bytes()
        .iter()
        .map(|&byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn has(db: &Connection, table: &str) -> rusqlite::Result<bool> {
    Ok(!schema::columns(db, table)?.is_empty())
}
