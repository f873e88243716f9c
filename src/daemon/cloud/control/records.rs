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

/// A point in the order of acknowledgements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

/// What has to be written for one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Create(Record),
    Update(Record),
    Remove(ObjectKey),
}

/// A record with the acknowledgement that made it; the first moment for one that was only read.
struct Known {
    record: Record,
    at: Moment,
}

/// Which of the two kinds a record is of; each is listed and watched on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Realm {
    Namespaced,
    Cluster,
}

impl Realm {
    fn of(key: &ObjectKey) -> Realm {
        if key.namespace.is_some() { Realm::Namespaced } else { Realm::Cluster }
    }
}

/// The last list of one kind.
#[derive(Clone, Copy, Default)]
struct Listing {
    number: u64,
    /// The newest version in it.
    newest: Revision,
}

/// A record as the API holds it.
struct Written {
    /// Says where the record stands.
    key: ObjectKey,
    /// The record's own resourceVersion.
    version: Revision,
    /// The list that brought it last.
    listing: u64,
}

#[derive(Default)]
struct State {
    records: HashMap<NodeName, HashMap<String, Known>>,
    /// What the API holds, as far as known, by node and uid.
    written: HashMap<Place, Written>,
    dirty: BTreeSet<Place>,
    /// Counts acknowledgements.
    now: Moment,
    namespaced: Listing,
    cluster: Listing,
}

impl State {
    fn listing(&mut self, realm: Realm) -> &mut Listing {
        match realm {
            Realm::Namespaced => &mut self.namespaced,
            Realm::Cluster => &mut self.cluster,
        }
    }
}

type Place = (NodeName, String);

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

    /// A list of what the API holds begins.
    pub(super) fn begin_list(&self, realm: Realm) {
        let mut state = self.state();
        let listing = state.listing(realm);
        *listing = Listing { number: listing.number + 1, newest: Revision::default() };
    }

    /// Takes over a record of the API, which another cloud may have written; `version` is the record's own.
    pub(super) fn load(&self, node: NodeName, uid: &str, record: Record, version: Revision) {
        let mut state = self.state();
        let place = (node, uid.to_owned());
        let current = state.listing(Realm::of(&record.key));
        current.newest = current.newest.max(version);
        let listing = current.number;
        if let Some(known) = state.written.get_mut(&place)
            && known.version >= version
        {
            known.listing = listing;
            return;
        }
        state.written.insert(place.clone(), Written { key: record.key.clone(), version, listing });
        if state.dirty.contains(&place) {
            return;
        }
        let known = state.records.entry(place.0).or_default();
        match known.get_mut(&place.1) {
            // An acknowledgement that came meanwhile is newer.
            Some(known) if known.record.revision >= record.revision => {}
            Some(known) => known.record = record,
            None => drop(known.insert(place.1, Known { record, at: Moment::default() })),
        }
    }

    /// The API no longer holds a record: its node has lost the object, or another cloud took it away.
    pub(super) fn unload(&self, node: NodeName, uid: &str, version: Revision) {
        let mut state = self.state();
        let place = (node, uid.to_owned());
        if state.written.get(&place).is_some_and(|known| known.version > version) {
            return;
        }
        state.written.remove(&place);
        if !state.dirty.contains(&place)
            && let Some(known) = state.records.get_mut(&place.0)
        {
            known.remove(&place.1);
        }
    }

    /// The list has ended: older records that were not in it are gone.
    pub(super) fn end_list(&self, realm: Realm) {
        let (gone, version) = {
            let mut state = self.state();
            let Listing { number, newest } = *state.listing(realm);
            let is_gone = |written: &Written| {
                Realm::of(&written.key) == realm && written.listing != number && written.version <= newest
            };
            let gone = state.written.iter().filter(|(_, written)| is_gone(written));
            (gone.map(|(place, _)| place.clone()).collect::<Vec<Place>>(), newest)
        };
        for (node, uid) in gone {
            self.unload(node, &uid, version);
        }
    }

    /// The present moment, for [`Records::acknowledged_since`].
    pub(super) fn moment(&self) -> Moment {
        self.state().now
    }

    /// The revision of an object that the node has acknowledged after this moment.
    pub(super) fn acknowledged_since(&self, node: &NodeName, uid: &str, moment: Moment) -> Option<Revision> {
        let state = self.state();
        let known = state.records.get(node)?.get(uid)?;
        (known.at > moment).then_some(known.record.revision)
    }

    /// The node has stored this revision.
    pub(super) fn stored(&self, node: &NodeName, uid: &str, key: ObjectKey, revision: Revision) {
        let mut state = self.state();
        state.now.0 += 1;
        let at = state.now;
        let known = state.records.entry(node.clone()).or_default();
        if let Some(known) = known.get_mut(uid)
            && known.record.revision >= revision
        {
            known.at = at;
            return;
        }
        known.insert(uid.to_owned(), Known { record: Record { key, revision }, at });
        state.dirty.insert((node.clone(), uid.to_owned()));
        self.changed.notify_one();
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
        Some(self.state().records.get(node)?.get(uid)?.record.revision)
    }

    /// All that the node has stored, by uid.
    pub(super) fn of(&self, node: &NodeName) -> BTreeMap<String, Record> {
        let state = self.state();
        let known = state.records.get(node);
        known.into_iter().flatten().map(|(uid, known)| (uid.clone(), known.record.clone())).collect()
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
            let current = state.records.get(&place.0).and_then(|known| known.get(&place.1));
            let current = current.map(|known| known.record.clone());
            let written = state.written.get(&place).map(|written| written.key.clone());
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

    /// The change has been written; `version` is the record's own afterwards.
    pub(super) fn written(&self, node: NodeName, uid: String, change: &Change, version: Revision) {
        let mut state = self.state();
        match change {
            Change::Create(record) | Change::Update(record) => {
                let key = record.key.clone();
                let listing = state.listing(Realm::of(&key)).number;
                let known = state.written.get(&(node.clone(), uid.clone()));
                let version = known.map_or(version, |known| known.version.max(version));
                state.written.insert((node, uid), Written { key, version, listing });
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

    fn record(revision: u64) -> Record {
        Record { key: key(), revision: Revision(revision) }
    }

    #[test]
    fn what_another_cloud_writes_is_taken_over_and_echoes_are_not() {
        let records = Records::default();
        records.load(node(), "u1", record(5), Revision(10));
        records.load(node(), "u1", record(9), Revision(12));
        assert_eq!(records.revision(&node(), "u1"), Some(Revision(9)));
        records.stored(&node(), "u1", key(), Revision(11));
        let (_, _, change) = records.take_changes(1).remove(0);
        records.written(node(), "u1".to_owned(), &change, Revision(20));
        records.load(node(), "u1", record(9), Revision(15));
        records.unload(node(), "u1", Revision(16));
        assert_eq!(records.revision(&node(), "u1"), Some(Revision(11)));
        records.unload(node(), "u1", Revision(21));
        assert_eq!(records.revision(&node(), "u1"), None);
        assert!(records.take_changes(1).is_empty());
    }

    #[test]
    fn a_new_list_takes_away_what_is_gone_and_nothing_younger() {
        let records = Records::default();
        records.begin_list(Realm::Namespaced);
        for (uid, version) in [("u1", 1), ("u2", 2)] {
            records.load(node(), uid, record(5), Revision(version));
        }
        records.end_list(Realm::Namespaced);
        records.stored(&node(), "u3", key(), Revision(5));
        let (_, _, change) = records.take_changes(1).remove(0);
        records.written(node(), "u3".to_owned(), &change, Revision(9));
        records.begin_list(Realm::Namespaced);
        records.load(node(), "u2", record(5), Revision(2));
        // The other kind's list comes between and takes nothing away.
        records.begin_list(Realm::Cluster);
        records.end_list(Realm::Cluster);
        records.end_list(Realm::Namespaced);
        let left: Vec<String> = records.of(&node()).into_keys().collect();
        assert_eq!(left, ["u2", "u3"]);
    }

    #[test]
    fn acknowledgements_after_a_moment_are_told_apart() {
        let records = Records::default();
        records.stored(&node(), "u1", key(), Revision(5));
        let moment = records.moment();
        assert_eq!(records.acknowledged_since(&node(), "u1", moment), None);
        records.stored(&node(), "u1", key(), Revision(5));
        assert_eq!(records.acknowledged_since(&node(), "u1", moment), Some(Revision(5)));
    }

    #[test]
    fn acknowledgements_are_written_once_with_the_newest_revision() {
        let records = Records::default();
        records.stored(&node(), "u1", key(), Revision(5));
        records.stored(&node(), "u1", key(), Revision(7));
        records.stored(&node(), "u1", key(), Revision(6));
        let changes = records.take_changes(10);
        assert_eq!(changes, [(node(), "u1".to_owned(), Change::Create(record(7)))]);
        assert!(records.take_changes(10).is_empty());
    }

    #[test]
    fn a_removed_object_loses_its_record() {
        let records = Records::default();
        records.load(node(), "u1", record(5), Revision(1));
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
        records.load(node(), "u1", record(5), Revision(1));
        records.forget(&node());
        assert_eq!(records.take_changes(10).len(), 1);
        assert!(records.of(&node()).is_empty());
    }
}
