//! Objects and recent changes in memory. Only the writer thread changes it; a read lock is held for copies of
//! pointers, never across an await.

use crate::daemon::apiserver::local::{Collection, Expired};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const HISTORY_EVENTS: usize = 1024;
/// As JSON text; in memory a change takes about six times as much.
const HISTORY_BYTES: usize = 512 << 10;
/// Changes that are kept whatever their size: a large object must not expire the watch that waits for it.
const HISTORY_LEAST: usize = 4;
const HISTORY_AGE: Duration = Duration::from_secs(300);

/// What names an object in the store; `namespace` is empty for cluster-scoped ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub collection: Collection,
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(collection: &Collection, namespace: Option<&str>, name: &str) -> Key {
        Key {
            collection: collection.clone(),
            namespace: namespace.unwrap_or_default().to_owned(),
            name: name.to_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Added,
    Modified,
    Deleted,
}

/// One committed change.
#[derive(Debug)]
pub struct Event {
    pub revision: u64,
    pub verb: Verb,
    pub namespace: String,
    pub name: String,
    /// The new form, or the last one of a deleted object.
    pub object: Arc<Value>,
    /// The form before, so that a selector can tell who leaves and who enters.
    pub previous: Option<Arc<Value>>,
    pub(super) weight: usize,
    pub(super) at: Instant,
}

pub(super) struct Room {
    objects: BTreeMap<(String, String), Arc<Value>>,
    pub(super) history: VecDeque<Arc<Event>>,
    weight: usize,
    /// Changes up to this revision are no longer in the history.
    pub(super) floor: u64,
    pub(super) wake: watch::Sender<u64>,
}

impl Room {
    fn new(floor: u64) -> Room {
        Room {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            weight: 0,
            floor,
            wake: watch::channel(floor).0,
        }
    }

    fn trim(&mut self, now: Instant) {
        while let Some(oldest) = self.history.front() {
            let old = now.saturating_duration_since(oldest.at) > HISTORY_AGE;
            let few = self.history.len() <= HISTORY_LEAST;
            let fits = self.history.len() <= HISTORY_EVENTS && self.weight <= HISTORY_BYTES;
            if few || (!old && fits) {
                break;
            }
            self.floor = oldest.revision;
            self.weight -= oldest.weight;
            self.history.pop_front();
        }
    }
}

pub(super) struct State {
    pub revision: u64,
    /// The revision at which this process began; older changes are unknown to it.
    base: u64,
    rooms: HashMap<Collection, Room>,
}

impl State {
    pub fn new(base: u64) -> State {
        State { revision: base, base, rooms: HashMap::new() }
    }

    /// Puts an object in place while the database is read.
    pub fn load(&mut self, key: Key, object: Value) {
        let base = self.base;
        let room = self.rooms.entry(key.collection).or_insert_with(|| Room::new(base));
        room.objects.insert((key.namespace, key.name), Arc::new(object));
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        let room = self.rooms.get(&key.collection)?;
        room.objects.get(&(key.namespace.clone(), key.name.clone())).cloned()
    }

    pub fn list(&self, collection: &Collection, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let Some(room) = self.rooms.get(collection) else { return Vec::new() };
        match namespace {
            None => room.objects.values().cloned().collect(),
            Some(namespace) => room
                .objects
                .range((namespace.to_owned(), String::new())..)
                .take_while(|((at, _), _)| at == namespace)
                .map(|(_, object)| object.clone())
                .collect(),
        }
    }

    /// The objects as they were at a revision: the present ones with later changes undone, newest first.
    pub fn list_at(
        &self,
        collection: &Collection,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<Vec<Arc<Value>>, Expired> {
        if revision > self.revision || revision < self.base {
            return Err(Expired);
        }
        let Some(room) = self.rooms.get(collection) else { return Ok(Vec::new()) };
        if revision < room.floor {
            return Err(Expired);
        }
        let first = room.history.partition_point(|event| event.revision <= revision);
        if first == room.history.len() {
            return Ok(self.list(collection, namespace));
        }
        let mut objects = room.objects.clone();
        for event in room.history.range(first..).rev() {
            let name = (event.namespace.clone(), event.name.clone());
            match &event.previous {
                Some(previous) => drop(objects.insert(name, previous.clone())),
                None => drop(objects.remove(&name)),
            }
        }
        let wanted = |at: &String| namespace.is_none_or(|namespace| namespace == at);
        Ok(objects.into_iter().filter(|((at, _), _)| wanted(at)).map(|(_, object)| object).collect())
    }

    pub fn room(&self, collection: &Collection) -> Option<&Room> {
        self.rooms.get(collection)
    }

    pub fn room_mut(&mut self, collection: &Collection) -> &mut Room {
        let base = self.base;
        self.rooms.entry(collection.clone()).or_insert_with(|| Room::new(base))
    }

    /// Makes a committed change visible; watchers are woken afterwards with [`State::wake`].
    pub fn publish(&mut self, collection: &Collection, event: Arc<Event>) {
        self.revision = self.revision.max(event.revision);
        let room = self.room_mut(collection);
        let name = (event.namespace.clone(), event.name.clone());
        if event.verb == Verb::Deleted {
            room.objects.remove(&name);
        } else {
            room.objects.insert(name, event.object.clone());
        }
        room.weight += event.weight;
        room.history.push_back(event);
    }

    /// Forgets old changes before a batch is published; its own are there for every watch to see.
    pub fn trim(&mut self, collections: impl IntoIterator<Item = Collection>, now: Instant) {
        for collection in collections {
            self.room_mut(&collection).trim(now);
        }
    }

    pub fn wake(&self, collection: &Collection) {
        if let Some(room) = self.rooms.get(collection) {
            room.wake.send_replace(self.revision);
        }
    }
}
