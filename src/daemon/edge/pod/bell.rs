//! How a worker is woken: a small note of what to look at, and a notice. Notes add up until the worker takes them, so
//! nothing queues and nothing is lost.

use crate::model::Kind;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// What has happened since the worker looked last.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Note {
    /// Anything in the runtime may have changed.
    pub look: bool,
    /// These containers or sandboxes ended.
    pub ended: Vec<String>,
    /// These ConfigMaps or Secrets of the pod's namespace changed.
    pub sources: Vec<(Kind, String)>,
    /// Any of them may have changed.
    pub all_sources: bool,
}

impl Note {
    /// Adds another note; what both name stands once.
    fn add(&mut self, other: Note) {
        let Note { look, ended, sources, all_sources } = other;
        self.look |= look;
        self.all_sources |= all_sources;
        for id in ended {
            if !self.ended.contains(&id) {
                self.ended.push(id);
            }
        }
        for source in sources {
            if !self.sources.contains(&source) {
                self.sources.push(source);
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Bell {
    note: Mutex<Note>,
    notify: Notify,
}

impl Bell {
    /// Adds to the note and wakes the worker.
    pub fn ring(&self, write: impl FnOnce(&mut Note)) {
        write(&mut self.note.lock().unwrap_or_else(PoisonError::into_inner));
        self.notify.notify_one();
    }

    pub fn take(&self) -> Note {
        std::mem::take(&mut *self.note.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives back a note that could not be acted on. It wakes nobody: the worker tries again by itself.
    pub fn put_back(&self, note: Note) {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).add(note);
    }

    /// Completes when the bell has been rung since the last time; cancel-safe.
    pub async fn rung(&self) {
        self.notify.notified().await;
    }
}

/// Whose bell to ring for a container or sandbox id.
#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<String, Arc<Bell>>>);

impl Registry {
    pub fn insert(&self, id: &str, bell: &Arc<Bell>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), bell.clone());
    }

    pub fn remove(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    pub fn ended(&self, id: &str) {
        let bell = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(bell) = bell {
            bell.ring(|note| {
                if !note.ended.iter().any(|known| known == id) {
                    note.ended.push(id.to_owned());
                }
            });
        }
    }

    pub fn forget(&self, bell: &Arc<Bell>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, known| !Arc::ptr_eq(known, bell));
    }
}
