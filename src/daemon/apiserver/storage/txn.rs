//! What a decision on the writer thread sees and changes: the committed state with the changes of its batch over it.

use super::state::{Event, Key, State, Verb};
use crate::daemon::apiserver::local::Collection;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

pub(super) struct Staged {
    pub key: Key,
    pub event: Arc<Event>,
    /// The serialised object; empty for a deletion.
    pub body: Vec<u8>,
}

/// A batch of changes in the making.
pub struct Txn<'a> {
    state: &'a RwLock<State>,
    pub(super) staged: Vec<Staged>,
    pub(super) revision: u64,
    mark: (usize, u64),
}

impl<'a> Txn<'a> {
    pub(super) fn new(state: &'a RwLock<State>) -> Txn<'a> {
        let revision = state.read().unwrap_or_else(PoisonError::into_inner).revision;
        Txn { state, staged: Vec::new(), revision, mark: (0, revision) }
    }

    /// What follows can be undone alone.
    pub(super) fn begin(&mut self) {
        self.mark = (self.staged.len(), self.revision);
    }

    /// Undoes the changes of the present decision: a dry run, or a refusal.
    pub fn discard(&mut self) {
        self.staged.truncate(self.mark.0);
        self.revision = self.mark.1;
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        match self.staged.iter().rev().find(|staged| staged.key == *key) {
            Some(staged) if staged.event.verb == Verb::Deleted => None,
            Some(staged) => Some(staged.event.object.clone()),
            None => self.state.read().unwrap_or_else(PoisonError::into_inner).get(key),
        }
    }

    pub fn list(&self, collection: &Collection, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let committed = self.state.read().unwrap_or_else(PoisonError::into_inner).list(collection, namespace);
        let mine = |staged: &&Staged| {
            staged.key.collection == *collection && namespace.is_none_or(|n| staged.key.namespace == n)
        };
        if !self.staged.iter().any(|staged| mine(&staged)) {
            return committed;
        }
        let text = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
        let mut merged: BTreeMap<(String, String), Arc<Value>> =
            committed.into_iter().map(|o| ((text(&o, "namespace"), text(&o, "name")), o)).collect();
        for staged in self.staged.iter().filter(mine) {
            let name = (staged.key.namespace.clone(), staged.key.name.clone());
            if staged.event.verb == Verb::Deleted {
                merged.remove(&name);
            } else {
                merged.insert(name, staged.event.object.clone());
            }
        }
        merged.into_values().collect()
    }

    /// Creates or replaces an object and gives it the next revision.
    pub fn put(&mut self, key: Key, object: Value) -> Arc<Value> {
        let previous = self.get(&key);
        let verb = if previous.is_some() { Verb::Modified } else { Verb::Added };
        self.stage(key, verb, object, previous)
    }

    /// Removes an object; `last` is the form that watchers see.
    pub fn delete(&mut self, key: Key, last: Value) -> Arc<Value> {
        let previous = self.get(&key);
        self.stage(key, Verb::Deleted, last, previous)
    }

    fn stage(&mut self, key: Key, verb: Verb, mut object: Value, previous: Option<Arc<Value>>) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let body = serde_json::to_vec(&object).unwrap_or_default();
        let object = Arc::new(object);
        let event = Arc::new(Event {
            revision: self.revision,
            verb,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            object: object.clone(),
            previous,
            weight: body.len(),
            at: Instant::now(),
        });
        let body = if verb == Verb::Deleted { Vec::new() } else { body };
        self.staged.push(Staged { key, event, body });
        object
    }
}
