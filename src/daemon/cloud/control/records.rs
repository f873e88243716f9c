//! What each node is known to have stored: the content of ObjectSync and ClusterObjectSync records in memory.
//! Acknowledgements change it at once; `sync` writes the changes behind. Pure but for its lock, which is never held
//! across an await.

use crate::model::{NodeName, ObjectKey, Revision};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// One object on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub key: ObjectKey,
    pub revision: Revision,
}

/// What has to be written for one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Create(Record),
    Update(Record),
    Remove(ObjectKey),
}

#[derive(Default)]
struct State {
    records: HashMap<NodeName, HashMap<String, Record>>,
    /// What the API holds, as far as known: node, uid and the key that says where.
    written: HashMap<(NodeName, String), ObjectKey>,
    dirty: BTreeSet<(NodeName, String)>,
}

/// The records of all nodes.
#[derive(Default)]
pub(super) struct Records {
    state: Mutex<State>,
    changed: Notify,
}

impl Records {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what the API holds, at start.
    pub(super) fn load(&self, node: NodeName, uid: &str, record: Record) {
        let mut state = self.state();
        state.written.insert((node.clone(), uid.to_owned()), record.key.clone());
        let known = state.records.entry(node).or_default();
        // An acknowledgement that came meanwhile is newer.
        known.entry(uid.to_owned()).or_insert(record);
    }

    /// The node has stored this revision.
    pub(super) fn stored(&self, node: &NodeName, uid: &str, key: ObjectKey, revision: Revision) {
        let mut state = self.state();
        let known = state.records.entry(node.clone()).or_default();
        let newer = known.get(uid).is_none_or(|record| record.revision < revision);
        if newer {
            known.insert(uid.to_owned(), Record { key, revision });
            state.dirty.insert((node.clone(), uid.to_owned()));
            self.changed.notify_one();
        }
    }

    /// The node has removed the object.
    pub(super) fn removed(&self, node: &NodeName, uid: &str) {
        let mut state = self.state();
        let had = state.records.get_mut(node).is_some_and(|known| known.remove(uid).is_some());
        if had || state.written.contains_key(&(node.clone(), uid.to_owned())) {
            state.dirty.insert((node.clone(), uid.to_owned()));
            self.changed.notify_one();
        }
    }

    /// The node is gone for good.
    pub(super) fn forget(&self, node: &NodeName) {
        let mut state = self.state();
        let mut gone: BTreeSet<String> = state.records.remove(node).unwrap_or_default().into_keys().collect();
        gone.extend(state.written.keys().filter(|(owner, _)| owner == node).map(|(_, uid)| uid.clone()));
        state.dirty.extend(gone.into_iter().map(|uid| (node.clone(), uid)));
        self.changed.notify_one();
    }

    /// The revision that the node has stored of this object.
    pub(super) fn revision(&self, node: &NodeName, uid: &str) -> Option<Revision> {
        Some(self.state().records.get(node)?.get(uid)?.revision)
    }

    /// All that the node has stored, by uid.
    pub(super) fn of(&self, node: &NodeName) -> BTreeMap<String, Record> {
        let state = self.state();
        let known = state.records.get(node);
        known.into_iter().flatten().map(|(uid, record)| (uid.clone(), record.clone())).collect()
    }

    /// The nodes that have stored this object.
    pub(super) fn holders(&self, uid: &str) -> Vec<NodeName> {
        let state = self.state();
        state
            .records
            .iter()
            .filter(|(_, known)| known.contains_key(uid))
            .map(|(node, _)| node.clone())
            .collect()
    }

    /// The nodes that have records.
    pub(super) fn nodes(&self) -> Vec<NodeName> {
        self.state().records.keys().cloned().collect()
    }

    /// Completes when something has to be written; cancel-safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes up to `most` changes that have to be written.
    pub(super) fn take_changes(&self, most: usize) -> Vec<(NodeName, String, Change)> {
        let mut state = self.state();
        let mut changes = Vec::new();
        while changes.len() < most
            && let Some(place) = state.dirty.pop_first()
        {
            let current = state.records.get(&place.0).and_then(|known| known.get(&place.1)).cloned();
            let written = state.written.get(&place).cloned();
            let change = match (current, written) {
                (Some(record), Some(_)) => Change::Update(record),
                (Some(record), None) => Change::Create(record),
                (None, Some(key)) => Change::Remove(key),
                (None, None) => continue,
            };
            changes.push((place.0, place.1, change));
        }
        changes
    }

    /// The change has been written.
    pub(super) fn written(&self, node: NodeName, uid: String, change: &Change) {
        let mut state = self.state();
        match change {
            Change::Create(record) | Change::Update(record) => {
                state.written.insert((node, uid), record.key.clone());
            }
            Change::Remove(_) => {
                state.written.remove(&(node, uid));
            }
        }
    }

    /// The change could not be written: it is taken again later. `absent` when the API has no such record.
    pub(super) fn not_written(&self, node: NodeName, uid: String, absent: bool) {
        let mut state = self.state();
        let place = (node, uid);
        if absent {
            state.written.remove(&place);
        }
        state.dirty.insert(place);
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn node() -> NodeName {
        NodeName::new("n1").unwrap()
    }

    fn key() -> ObjectKey {
        ObjectKey::namespaced(Kind::Pod, "default", "p")
    }

    #[test]
    fn acknowledgements_are_written_once_with_the_newest_revision() {
        let records = Records::default();
        records.stored(&node(), "u1", key(), Revision(5));
        records.stored(&node(), "u1", key(), Revision(7));
        records.stored(&node(), "u1", key(), Revision(6));
        let changes = records.take_changes(10);
        let record = Record { key: key(), revision: Revision(7) };
        assert_eq!(changes, [(node(), "u1".to_owned(), Change::Create(record))]);
        assert!(records.take_changes(10).is_empty());
    }

    #[test]
    fn a_removed_object_loses_its_record() {
        let records = Records::default();
        records.load(node(), "u1", Record { key: key(), revision: Revision(5) });
        records.removed(&node(), "u1");
        assert_eq!(records.take_changes(10), [(node(), "u1".to_owned(), Change::Remove(key()))]);
        assert_eq!(records.revision(&node(), "u1"), None);
    }

    #[test]
    fn a_record_never_written_is_not_removed_from_the_api() {
        let records = Records::default();
        records.stored(&node(), "u1", key(), Revision(5));
        records.removed(&node(), "u1");
        assert!(records.take_changes(10).is_empty());
    }

    #[test]
    fn forgetting_a_node_removes_all_its_records() {
        let records = Records::default();
        records.load(node(), "u1", Record { key: key(), revision: Revision(5) });
        records.forget(&node());
        assert_eq!(records.take_changes(10).len(), 1);
        assert!(records.of(&node()).is_empty());
    }
}
