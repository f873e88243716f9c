//! The one thread that changes the store. It takes what is queued as one batch, commits it, and answers.

use super::disk::Disk;
use super::state::State;
use super::txn::Txn;
use super::{Collection, Event, Observer};
use crate::model::Status;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;
use tokio::sync::mpsc;

const BATCH: usize = 64;

/// Tells a caller how the commit of its changes went.
pub(super) type Finish = Box<dyn FnOnce(Result<(), Status>) + Send>;
/// A decision; `None` when it has refused and answered already.
pub(super) type Job = Box<dyn FnOnce(&mut Txn<'_>) -> Option<Finish> + Send>;

pub(super) fn run(mut mail: mpsc::Receiver<Job>, mut disk: Disk, state: &RwLock<State>, observer: &Observer) {
    while let Some(first) = mail.blocking_recv() {
        let mut txn = Txn::new(state);
        let mut answers = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            txn.begin();
            // A panic in one decision refuses that one only; its caller sees the dropped answer.
            match catch_unwind(AssertUnwindSafe(|| job(&mut txn))) {
                Ok(Some(finish)) => answers.push(finish),
                Ok(None) => txn.discard(),
                Err(_panic) => {
                    tracing::error!("a change to the API's store panicked and was not made");
                    txn.discard();
                }
            }
            next = if answers.len() < BATCH { mail.try_recv().ok() } else { None };
        }
        let outcome = disk.write(&txn.staged, txn.revision);
        if outcome.is_ok() {
            publish(txn, state, observer);
        }
        for finish in answers {
            finish(outcome.clone());
        }
        disk.maybe_checkpoint();
    }
}

fn publish(txn: Txn<'_>, state: &RwLock<State>, observer: &Observer) {
    let changes: Vec<(Collection, Arc<Event>)> =
        txn.staged.into_iter().map(|staged| (staged.key.collection, staged.event)).collect();
    if changes.is_empty() {
        return;
    }
    let mut locked = state.write().unwrap_or_else(PoisonError::into_inner);
    locked.trim(changes.iter().map(|(collection, _)| collection.clone()), Instant::now());
    for (collection, event) in &changes {
        locked.publish(collection, event.clone());
    }
    drop(locked);
    observer(&changes);
    let locked = state.read().unwrap_or_else(PoisonError::into_inner);
    let mut last = None;
    for (collection, _) in &changes {
        if last != Some(collection) {
            locked.wake(collection);
            last = Some(collection);
        }
    }
}
