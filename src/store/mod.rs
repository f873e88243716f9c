//! The edge node's SQLite database in KubeEdge's layout (protocol.md §10): objects, devices, twins, module state.
//! One writer thread commits for all; readers do not wait for it. It is the truth that every edge module acts on.
//! Edge modules hold a [`Store`]; offline commands hold a [`Reader`]. Values never reach a log: they may be Secrets.

mod backup;
mod devices;
mod error;
mod lock;
mod objects;
mod reader;
mod rescue;
mod rules;
mod schema;
mod state;
#[cfg(test)]
mod tests;
mod worker;

pub use backup::{back_up, put_in_place};
pub use devices::{DeviceChange, DeviceRow, TwinRow};
pub use objects::MetaRow;
pub use reader::{MetaV2Row, Reader};
pub use rescue::{Rescue, is_unsettled, rescued, settle};
pub use rules::RuleList;
pub use schema::{LAYOUT, layout};

use crate::base::Failure;
use crate::model::digest::Holding;
use crate::model::{DeviceId, Kind, ObjectKey};
use rusqlite::Connection;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{broadcast, watch};
use worker::Worker;

/// Change keys kept for a receiver that falls behind; past it the receiver lists again.
const CHANGES_KEPT: usize = 512;

/// The process that has this database open for writing, if one has.
pub fn holder(database: &Path) -> Option<u32> {
    lock::holder(database)
}

/// Keeps other daemons out, in a directory that only this user may enter.
fn take(path: &Path) -> Result<lock::Lock, Failure> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        crate::base::create_private_dir(parent)?;
    }
    lock::Lock::take(path)
}

/// The connection that writes and the one that reads, of a database that was checked.
fn connect(path: &Path) -> Result<(Connection, Connection), Failure> {
    schema::check(path)?;
    schema::refuse_newer(path)?;
    schema::keep_private(path)?;
    Ok((schema::open_writer(path)?, schema::open_reader(path)?))
}

/// The open database; cheap to clone. Dropping the last clone waits for the writer, then releases the lock.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    changes: broadcast::Sender<ObjectKey>,
    trouble: watch::Receiver<Option<Failure>>,
    reader: Worker,
    writer: Worker,
    // Released after both workers have ended: fields are dropped in this order.
    _lock: lock::Lock,
    // And then whoever waits hears that all of it is closed.
    open: watch::Sender<()>,
}

impl Store {
    /// Opens or creates the database, checks it, brings its tables up to date, and keeps other daemons out.
    pub fn open(path: impl AsRef<Path>) -> Result<Store, Failure> {
        let path = path.as_ref();
        let lock = take(path)?;
        Store::serve(path, lock, connect(path)?)
    }

    /// Opens the database as [`Store::open`] does. A damaged one is set aside, and the first of the copies that is sound
    /// takes its place, else an empty database; says so when that was done now.
    pub fn open_or_rescue(
        path: impl AsRef<Path>,
        copies: impl FnOnce() -> Vec<PathBuf>,
    ) -> Result<(Store, Option<Rescue>), Failure> {
        let path = path.as_ref();
        let lock = take(path)?;
        let connected = match rescue::unfinished(path) {
            Some(rescue) => Err(rescue),
            None => match connect(path) {
                Err(failure) if failure.code == error::DAMAGED => {
                    Err(rescue::plan(path, &failure.why, &copies()))
                }
                connected => Ok(connected?),
            },
        };
        let (connections, rescue) = match connected {
            Ok(connections) => (connections, None),
            Err(rescue) => {
                rescue::carry_out(path, &rescue)?;
                (connect(path)?, Some(rescue))
            }
        };
        Ok((Store::serve(path, lock, connections)?, rescue))
    }

    fn serve(
        path: &Path,
        lock: lock::Lock,
        (write, read): (Connection, Connection),
    ) -> Result<Store, Failure> {
        let path = path.to_owned();
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let (noted, trouble) = watch::channel(None);
        let writer = Worker::writer(write, path.clone(), changes.clone(), noted)?;
        let reader = Worker::reader(read, path.clone())?;
        Ok(Store {
            inner: Arc::new(Inner {
                path,
                changes,
                trouble,
                reader,
                writer,
                _lock: lock,
                open: watch::channel(()).0,
            }),
        })
    }

    /// Waits until the last clone is dropped, what was queued is written and the lock is released. Does not itself keep
    /// the store open.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut open = self.inner.open.subscribe();
        async move { while open.changed().await.is_ok() {} }
    }

    /// The file that holds the database.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Keys of objects as they change; a receiver that lags must list again.
    pub fn changes(&self) -> broadcast::Receiver<ObjectKey> {
        self.inner.changes.subscribe()
    }

    /// Stores an object; `false` when it was stored like this already. Answers after the commit.
    pub async fn put_object(&self, key: &ObjectKey, object: &Value) -> Result<bool, Failure> {
        let row = objects::PreparedObject::new(key, object);
        let key = key.clone();
        self.write(move |db| Ok(if objects::put(db, &row)? { (true, Some(key)) } else { (false, None) }))
            .await
    }

    /// Stores an answer to a question and gives what is stored then. An answer that the cloud's later word has overtaken
    /// changes nothing: what is stored is given, or the answer where nothing is. That is so when a newer revision of the
    /// same uid is stored, and when `overtaken`, which is asked at the moment of the write, says so: a deletion, and an
    /// object that was made anew, are told by no revision.
    pub async fn put_answer(
        &self,
        key: &ObjectKey,
        object: Value,
        overtaken: impl Fn() -> bool + Send + 'static,
    ) -> Result<Value, Failure> {
        let row = objects::PreparedObject::new(key, &object);
        let key = key.clone();
        self.write(move |db| {
            let stored = objects::get(db, &key)?;
            if overtaken() || stored.as_ref().is_some_and(|stored| objects::overtakes(stored, &object)) {
                return Ok((stored.unwrap_or(object), None));
            }
            Ok(if objects::put(db, &row)? { (object, Some(key)) } else { (object, None) })
        })
        .await
    }

    /// Removes an object. With a uid, only when the stored object has that uid; `false` when nothing was removed.
    /// A pod takes its stored status patch with it.
    pub async fn delete_object(&self, key: &ObjectKey, uid: Option<&str>) -> Result<bool, Failure> {
        let (key, uid) = (key.clone(), uid.filter(|uid| !uid.is_empty()).map(str::to_owned));
        self.write(move |db| {
            Ok(if objects::delete(db, &key, uid.as_deref())? { (true, Some(key)) } else { (false, None) })
        })
        .await
    }

    /// The object under this key.
    pub async fn object(&self, key: &ObjectKey) -> Result<Option<Value>, Failure> {
        let key = key.clone();
        self.read(move |db| objects::get(db, &key)).await
    }

    /// All objects of a kind, ordered by key.
    pub async fn objects(&self, kind: Kind) -> Result<Vec<(ObjectKey, Value)>, Failure> {
        self.read(move |db| objects::list(db, kind)).await
    }

    /// Key, uid and content hash of every object of these kinds.
    pub async fn holdings(&self, kinds: &'static [Kind]) -> Result<Vec<Holding>, Failure> {
        self.read(move |db| objects::holdings(db, kinds)).await
    }

    /// Stores the answer to a token request under KubeEdge's own key for it.
    pub async fn put_token(&self, key: &str, request: &Value) -> Result<(), Failure> {
        let (key, text) = (key.to_owned(), request.to_string());
        self.write(move |db| Ok((objects::put_raw(db, &key, Kind::ServiceAccountToken, &text)?, None))).await
    }

    /// The stored answer to a token request.
    pub async fn token(&self, key: &str) -> Result<Option<Value>, Failure> {
        let key = key.to_owned();
        self.read(move |db| objects::get_raw(db, &key)).await
    }

    /// A stored answer to a token request whose key begins and ends with these texts, whatever stands between.
    pub async fn token_between(&self, before: &str, after: &str) -> Result<Option<Value>, Failure> {
        let (before, after) = (before.to_owned(), after.to_owned());
        self.read(move |db| objects::token_between(db, &before, &after)).await
    }

    /// Keeps a small value for a module.
    pub async fn put_state(&self, room: &str, key: &str, value: &Value) -> Result<(), Failure> {
        let (room, key, text) = (room.to_owned(), key.to_owned(), value.to_string());
        self.write(move |db| Ok((state::put(db, &room, &key, &text)?, None))).await
    }

    /// A small value of a module.
    pub async fn state(&self, room: &str, key: &str) -> Result<Option<Value>, Failure> {
        let (room, key) = (room.to_owned(), key.to_owned());
        self.read(move |db| state::get(db, &room, &key)).await
    }

    /// All small values of a module by key.
    pub async fn states(&self, room: &str) -> Result<Vec<(String, Value)>, Failure> {
        let room = room.to_owned();
        self.read(move |db| state::list(db, &room)).await
    }

    /// Forgets a small value of a module.
    pub async fn delete_state(&self, room: &str, key: &str) -> Result<(), Failure> {
        let (room, key) = (room.to_owned(), key.to_owned());
        self.write(move |db| Ok((state::delete(db, &room, &key)?, None))).await
    }

    /// Adds a topic or URL that a rule of the cloud wants.
    pub async fn put_rule(&self, list: RuleList, row: &str) -> Result<(), Failure> {
        let row = row.to_owned();
        self.write(move |db| Ok((rules::put(db, list, &row)?, None))).await
    }

    /// Removes a topic or URL that no rule wants any more.
    pub async fn delete_rule(&self, list: RuleList, row: &str) -> Result<(), Failure> {
        let row = row.to_owned();
        self.write(move |db| Ok((rules::delete(db, list, &row)?, None))).await
    }

    /// The topics or URLs that rules of the cloud want, in order.
    pub async fn rules(&self, list: RuleList) -> Result<Vec<String>, Failure> {
        self.read(move |db| rules::all(db, list)).await
    }

    /// All devices, ordered by id.
    pub async fn devices(&self) -> Result<Vec<DeviceRow>, Failure> {
        self.read(devices::list).await
    }

    /// One device.
    pub async fn device(&self, id: &DeviceId) -> Result<Option<DeviceRow>, Failure> {
        let id = id.clone();
        self.read(move |db| devices::get(db, &id)).await
    }

    /// The properties of a device, ordered by name.
    pub async fn twins(&self, id: &DeviceId) -> Result<Vec<TwinRow>, Failure> {
        let id = id.clone();
        self.read(move |db| devices::twins(db, &id)).await
    }

    /// Stores what a device event changes, all or none.
    pub async fn change_devices(&self, change: DeviceChange) -> Result<(), Failure> {
        self.write(move |db| Ok((devices::change(db, &change)?, None))).await
    }

    /// Why the last commit failed; `None` when it held.
    pub fn trouble(&self) -> Option<Failure> {
        self.inner.trouble.borrow().clone()
    }

    /// Bytes on disk, the write-ahead log included.
    pub fn size(&self) -> u64 {
        reader::size_on_disk(&self.inner.path)
    }

    async fn write<T: Send + 'static>(
        &self,
        deed: impl FnOnce(&Connection) -> rusqlite::Result<(T, Option<ObjectKey>)> + Send + 'static,
    ) -> Result<T, Failure> {
        self.inner.writer.run(deed).await
    }

    async fn read<T: Send + 'static>(
        &self,
        deed: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        self.inner.reader.run(|db| Ok((deed(db)?, None))).await
    }
}
