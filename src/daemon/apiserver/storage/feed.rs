//! One watcher's place in the history of a collection. It holds a revision, not a queue, so a slow reader costs
//! nothing; it is told when the history has moved on without it.

use super::state::{Event, State};
use crate::daemon::apiserver::local::{Collection, Expired};
use crate::model::Revision;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// Changes of one collection in order.
pub struct Feed {
    state: Arc<RwLock<State>>,
    collection: Collection,
    position: u64,
    ready: VecDeque<Arc<Event>>,
    wake: watch::Receiver<u64>,
}

impl Feed {
    pub(super) fn new(state: Arc<RwLock<State>>, collection: Collection, from: Revision) -> Feed {
        let wake = {
            let mut locked = state.write().unwrap_or_else(PoisonError::into_inner);
            locked.room_mut(&collection).wake.subscribe()
        };
        Feed { state, collection, position: from.0, ready: VecDeque::new(), wake }
    }

    /// The next change; cancel-safe.
    pub async fn next(&mut self) -> Result<Arc<Event>, Expired> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            if self.wake.changed().await.is_err() {
                return Err(Expired);
            }
        }
    }

    /// The next change if there is one already.
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, Expired> {
        if self.ready.is_empty() {
            self.wake.borrow_and_update();
            self.refill()?;
        }
        Ok(self.ready.pop_front())
    }

    fn refill(&mut self) -> Result<(), Expired> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let Some(room) = state.room(&self.collection) else { return Ok(()) };
        if self.position < room.floor || self.position > state.revision {
            return Err(Expired);
        }
        let first = room.history.partition_point(|event| event.revision <= self.position);
        self.ready.extend(room.history.range(first..).cloned());
        if let Some(last) = self.ready.back() {
            self.position = last.revision;
        }
        Ok(())
    }

    /// The store's revision if this feed has delivered everything up to it.
    pub fn caught_up(&mut self) -> Option<Revision> {
        if !self.ready.is_empty() {
            return None;
        }
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let room = state.room(&self.collection)?;
        let nothing_new = room.history.back().is_none_or(|event| event.revision <= self.position);
        nothing_new.then(|| {
            self.position = self.position.max(state.revision);
            Revision(state.revision)
        })
    }
}
