//! The thread that owns a connection: one writes, one reads. Callers send closures and wait for their answers.
//! The writer puts all waiting closures into one transaction and answers each only after the commit.

use super::error;
use crate::base::Failure;
use crate::model::ObjectKey;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Closures that wait for the thread; more than this make their callers wait.
const QUEUE: usize = 128;

/// Closures in one transaction: enough to share a sync, few enough to answer soon.
const GROUP: usize = 64;

/// A closure with the way back to its caller.
trait Job: Send {
    /// Runs the closure; tells why it failed.
    fn run(&mut self, db: &Connection, path: &Path) -> Result<(), Failure>;
    /// Tells the caller, given why the commit failed, and returns the key that changed when it held.
    fn answer(self: Box<Self>, broken: Option<&Failure>) -> Option<ObjectKey>;
}

type Outcome<T> = Result<(T, Option<ObjectKey>), Failure>;

struct Task<T, F> {
    deed: Option<F>,
    outcome: Option<Outcome<T>>,
    caller: oneshot::Sender<Result<T, Failure>>,
}

impl<T: Send, F> Job for Task<T, F>
where
    F: FnOnce(&Connection) -> rusqlite::Result<(T, Option<ObjectKey>)> + Send,
{
    fn run(&mut self, db: &Connection, path: &Path) -> Result<(), Failure> {
        self.outcome = self.deed.take().map(|deed| deed(db).map_err(|error| error::failure(path, &error)));
        match &self.outcome {
            Some(Err(failure)) => Err(failure.clone()),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    fn answer(self: Box<Self>, broken: Option<&Failure>) -> Option<ObjectKey> {
        let (told, changed) = match (self.outcome, broken) {
            (Some(Err(failure)), _) => (Err(failure), None),
            (_, Some(failure)) => (Err(failure.clone()), None),
            (Some(Ok((value, changed))), None) => (Ok(value), changed),
            // Without an outcome the caller hears that the store is closed.
            (None, None) => return None,
        };
        // A caller that went away has no use for the answer; the change stands.
        drop(self.caller.send(told));
        changed
    }
}

/// A thread with its queue; dropping it waits until the queue is worked off and the connection is closed.
pub(super) struct Worker {
    path: PathBuf,
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(super) fn writer(
        db: Connection,
        path: PathBuf,
        changes: broadcast::Sender<ObjectKey>,
        trouble: watch::Sender<Option<Failure>>,
    ) -> Result<Worker, Failure> {
        Worker::start("store-write", path, move |mut queue, path| {
            let mut group = Vec::with_capacity(GROUP);
            while queue.blocking_recv_many(&mut group, GROUP) > 0 {
                for key in commit(&db, path, &mut group, &trouble) {
                    // Nobody listens in offline commands.
                    drop(changes.send(key));
                }
            }
        })
    }

    pub(super) fn reader(db: Connection, path: PathBuf) -> Result<Worker, Failure> {
        Worker::start("store-read", path, move |mut queue, path| {
            while let Some(mut job) = queue.blocking_recv() {
                // The answer carries the failure.
                drop(job.run(&db, path));
                job.answer(None);
            }
        })
    }

    fn start(
        name: &str,
        path: PathBuf,
        body: impl FnOnce(mpsc::Receiver<Box<dyn Job>>, &Path) + Send + 'static,
    ) -> Result<Worker, Failure> {
        let (queue, served) = mpsc::channel(QUEUE);
        let of = path.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(256 << 10)
            .spawn(move || body(served, &of))
            .map_err(|error| {
                Failure::new("KE-STORE-004", format!("cannot start a thread for {}", path.display()))
                    .because(error)
                    .fix("raise the limit of processes and threads (ulimit -u, TasksMax= of the service)")
            })?;
        Ok(Worker { path, queue: Some(queue), thread: Some(thread) })
    }

    /// Runs a closure on the thread. Dropping the future does not undo a closure that is queued.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        deed: impl FnOnce(&Connection) -> rusqlite::Result<(T, Option<ObjectKey>)> + Send + 'static,
    ) -> Result<T, Failure> {
        let (caller, receiver) = oneshot::channel();
        let job: Box<dyn Job> = Box::new(Task { deed: Some(deed), outcome: None, caller });
        let closed = || error::closed(&self.path);
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue.send(job).await.map_err(|_| closed())?;
        receiver.await.map_err(|_| closed())?
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Runs a group in one transaction, each job inside its own savepoint so that a failed one leaves no half.
fn commit(
    db: &Connection,
    path: &Path,
    group: &mut Vec<Box<dyn Job>>,
    trouble: &watch::Sender<Option<Failure>>,
) -> Vec<ObjectKey> {
    let done = transaction(db, group, path);
    note(trouble, done.as_ref().err());
    if done.is_err() && !db.is_autocommit() {
        // A roll-back that fails leaves nothing to undo either: the next BEGIN tells.
        drop(db.execute_batch("ROLLBACK"));
    }
    group.drain(..).filter_map(|job| job.answer(done.as_ref().err())).collect()
}

/// Remembers how the last commit went; logs when that changes, not every write that fails on a full disk.
fn note(trouble: &watch::Sender<Option<Failure>>, failure: Option<&Failure>) {
    trouble.send_if_modified(|present| {
        match (failure, present.is_some()) {
            (Some(failure), _) if present.as_ref().is_none_or(|known| known.code != failure.code) => {
                tracing::error!(code = failure.code, error = %failure, "the store cannot be written");
            }
            (None, true) => tracing::info!("the store can be written again"),
            _ => return false,
        }
        *present = failure.cloned();
        true
    });
}

fn transaction(db: &Connection, group: &mut [Box<dyn Job>], path: &Path) -> Result<(), Failure> {
    let say = |words: &str| db.execute_batch(words).map_err(|error| error::failure(path, &error));
    say("BEGIN IMMEDIATE")?;
    for job in group {
        say("SAVEPOINT job")?;
        if let Err(failure) = job.run(db, path) {
            // SQLite ends the whole transaction by itself on some errors, a full disk among them, and with it the group.
            if db.is_autocommit() {
                return Err(failure);
            }
            say("ROLLBACK TO job")?;
        }
        say("RELEASE job")?;
    }
    say("COMMIT")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::alone::{alone, as_nobody, forbid_threads};

    #[tokio::test]
    async fn a_thread_that_broke_down_is_told_to_whoever_waits_and_to_all_who_come() {
        let worker = Worker::reader(Connection::open_in_memory().unwrap(), "/x/edgecore.db".into()).unwrap();
        let broken = worker.run::<()>(|_| panic!("a state that nobody thought of")).await.unwrap_err();
        let later = worker.run(|_| Ok(((), None))).await.unwrap_err();
        for failure in [broken, later] {
            assert_eq!(failure.code, "KE-STORE-005");
            failure.is_as_committed();
            assert!(failure.what.contains("/x/edgecore.db"), "{failure}");
            assert!(failure.why.contains("has ended"), "{failure}");
            assert!(failure.fix.contains("start the daemon again"), "{failure:?}");
        }
    }

    #[test]
    fn a_system_that_gives_no_thread_is_told() {
        if !alone(module_path!(), "a_system_that_gives_no_thread_is_told", as_nobody) {
            return;
        }
        forbid_threads();
        let failure = Worker::reader(Connection::open_in_memory().unwrap(), "/x".into()).err().unwrap();
        assert_eq!(failure.code, "KE-STORE-004");
        assert!(failure.fix.contains("ulimit -u"), "{failure:?}");
    }
}
