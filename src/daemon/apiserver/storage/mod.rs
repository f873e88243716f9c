//! The truth of the embedded API: objects in SQLite, their present form in memory, a window of changes for watches.
//! `ops` changes it through [`Store::commit`]; `rest` and [`super::local`] read it.
//!
//! A change goes: closure on the writer thread (decides, sees earlier changes of its batch) -> one SQLite transaction
//! per batch -> memory and history -> watchers wake -> callers get their answers. Nothing is visible before it is committed;
//! a commit that changes more than statuses, leases and events has also reached the disk.

mod disk;
mod feed;
mod state;
mod txn;
mod writer;

pub use feed::Feed;
pub use state::{Event, Key, Verb};
pub use txn::Txn;

use super::local::{Collection, Expired};
use crate::base::Failure;
use crate::model::{Revision, Status};
use serde_json::Value;
use state::State;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::{mpsc, oneshot};

const QUEUE: usize = 1024;

/// Sees the changes of a commit on the writer thread, before watchers wake.
pub type Observer = Box<dyn Fn(&[(Collection, Arc<Event>)]) + Send>;

/// The handle; cheap to clone. The writer thread ends when the last one is dropped.
#[derive(Clone)]
pub struct Store {
    state: Arc<RwLock<State>>,
    jobs: mpsc::Sender<writer::Job>,
}

impl Store {
    /// Opens or creates the database and reads all objects. Blocking.
    pub fn open(path: &Path, observer: Observer) -> Result<Store, Failure> {
        let (disk, state) = disk::Disk::open(path)?;
        let state = Arc::new(RwLock::new(state));
        let (jobs, mail) = mpsc::channel(QUEUE);
        let shared = state.clone();
        std::thread::Builder::new()
            .name("api-writer".to_owned())
            .stack_size(1 << 20)
            .spawn(move || writer::run(mail, disk, &shared, &observer))
            .map_err(|error| disk::no_thread("writer", &error))?;
        Ok(Store { state, jobs })
    }

    /// Runs a decision on the writer thread; when it is `Ok` its changes are committed together or not at all.
    pub async fn commit<T, F>(&self, decide: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn<'_>) -> Result<T, Status> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let job: writer::Job = Box::new(move |txn| match decide(txn) {
            Ok(value) => Some(Box::new(move |committed: Result<(), Status>| {
                drop(sender.send(committed.map(|()| value)))
            }) as writer::Finish),
            Err(status) => {
                drop(sender.send(Err(status)));
                None
            }
        });
        let gone = || super::errors::unavailable("the API is shutting down");
        self.jobs.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| super::errors::internal("the request could not be carried out"))?
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.read().get(key)
    }

    /// The objects in order of namespace and name, and the revision at which they were read.
    pub fn list(&self, collection: &Collection, namespace: Option<&str>) -> (Vec<Arc<Value>>, Revision) {
        let state = self.read();
        (state.list(collection, namespace), Revision(state.revision))
    }

    /// The objects as they were at a revision that the history still reaches.
    pub fn list_at(
        &self,
        collection: &Collection,
        namespace: Option<&str>,
        revision: Revision,
    ) -> Result<Vec<Arc<Value>>, Expired> {
        self.read().list_at(collection, namespace, revision.0)
    }

    pub fn revision(&self) -> Revision {
        Revision(self.read().revision)
    }

    /// Follows a collection from just after `from`.
    pub fn feed(&self, collection: &Collection, from: Revision) -> Feed {
        Feed::new(self.state.clone(), collection.clone(), from)
    }
}

#[cfg(test)]
mod tests;
