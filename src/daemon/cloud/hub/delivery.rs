//! Which message a node gets next: newest version of an object wins, sent again until acknowledged. Pure: no clock, no
//! channel; the session asks with the present time. Genuine edges get one at a time, kedge edges a window.

use crate::link::ws::WRITE_LIMIT;
use crate::model::{ObjectKey, Revision};
use crate::wire::dynamic::Change;
use crate::wire::{Down, Envelope, MessageId, encode_down};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// When an unacknowledged message is sent again.
pub const RESEND_AFTER: Duration = Duration::from_secs(5);
/// After so many sendings the message rests, then goes to the back of the queue.
const SENDINGS: u32 = 5;
/// How long a message rests the first time; twice as long each further time.
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(300);
/// Messages that may be on their way to a kedge edge at a time.
pub const WINDOW: usize = 64;
/// Objects that may wait for one node.
pub const ROOM: usize = 16_384;
/// Answers whose acknowledgement is still expected.
const NOTES: usize = 256;

/// What an acknowledgement proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub key: ObjectKey,
    pub uid: String,
    pub revision: Option<Revision>,
    pub deleted: bool,
}

/// More objects wait than fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What an object is for the node: a pod that it runs, say, or one that a program on it merely watches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Role {
    Own(ObjectKey),
    /// The path.
    Watched(String),
}

/// An object of one identity: a recreated object does not replace the deletion of its predecessor.
type Slot = (Role, String);

struct Item {
    envelope: Envelope,
    revision: Option<Revision>,
    deleted: bool,
    /// How often it was given up for the time being.
    rests: u32,
}

impl Item {
    /// Whether this one, already here, makes `other` needless.
    fn covers(&self, other: &Item) -> bool {
        match (self.deleted, other.deleted) {
            (true, true) => true,
            // An object may come back under its uid, as a device that moves to another node and back.
            (true, false) => self.revision.is_none() || other.revision <= self.revision,
            (false, true) => false,
            (false, false) => self.revision >= other.revision,
        }
    }
}

struct Flight {
    slot: Slot,
    item: Item,
    sendings: u32,
    due: Instant,
}

/// The messages of one session that need an acknowledgement.
pub struct Delivery {
    window: usize,
    waiting: HashMap<Slot, Item>,
    order: VecDeque<Slot>,
    /// Slots that wait for their time before they are in the order again.
    resting: BTreeMap<(Instant, u64), Slot>,
    rested: u64,
    flights: HashMap<MessageId, Flight>,
    notes: VecDeque<(MessageId, Stored)>,
    resent: bool,
    too_large: Vec<String>,
}

impl Delivery {
    /// `window` is how many may be unacknowledged at a time.
    pub fn new(window: usize) -> Delivery {
        Delivery {
            window: window.max(1),
            waiting: HashMap::new(),
            order: VecDeque::new(),
            resting: BTreeMap::new(),
            rested: 0,
            flights: HashMap::new(),
            notes: VecDeque::new(),
            resent: false,
            too_large: Vec::new(),
        }
    }

    /// Whether any message has been sent twice.
    pub fn has_resent(&self) -> bool {
        self.resent
    }

    /// Objects that wait or are on their way.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.flights.len()
    }

    /// Takes an object or a deletion; anything else is ignored.
    pub fn offer(&mut self, down: Down) -> Result<(), Full> {
        let (role, revision, deleted, uid) = match &down {
            Down::Object { key, revision, object, .. } => {
                (Role::Own(key.clone()), Some(*revision), false, uid(object))
            }
            Down::Delete { key, revision, object, .. } => {
                (Role::Own(key.clone()), *revision, true, uid(object))
            }
            Down::Watched(event) => {
                let role = Role::Watched(event.path());
                (role, event.revision, event.change == Change::Delete, uid(&event.object))
            }
            _ => return Ok(()),
        };
        let Some(envelope) = encode_down(down) else { return Ok(()) };
        let slot = (role, uid);
        let item = Item { envelope, revision, deleted, rests: 0 };
        if let Some(present) = self.waiting.get_mut(&slot) {
            if !present.covers(&item) {
                *present = item;
                self.wake(&slot);
            }
            return Ok(());
        }
        if self.flights.values().any(|flight| flight.slot == slot && flight.item.covers(&item)) {
            return Ok(());
        }
        if self.waiting.len() >= ROOM {
            return Err(Full);
        }
        self.order.push_back(slot.clone());
        self.waiting.insert(slot, item);
        Ok(())
    }

    /// Expects the acknowledgement of an answer that is sent outside the queue.
    pub fn note(&mut self, id: MessageId, stored: Stored) {
        if self.notes.len() >= NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back((id, stored));
    }

    /// Whether [`Delivery::next`] has something to send.
    pub fn is_ready(&self, now: Instant) -> bool {
        (self.flights.len() < self.window && !self.order.is_empty())
            || self.flights.values().any(|flight| flight.due <= now)
            || (self.flights.len() < self.window
                && self.resting.keys().next().is_some_and(|(at, _)| *at <= now))
    }

    /// When a message is due again.
    pub fn next_due(&self) -> Option<Instant> {
        let room = self.flights.len() < self.window;
        let rested = self.resting.keys().next().filter(|_| room).map(|(at, _)| *at);
        self.flights.values().map(|flight| flight.due).chain(rested).min()
    }

    /// The message to send now.
    pub fn next(&mut self, now: Instant) -> Option<String> {
        self.resend(now).or_else(|| self.send(now))
    }

    fn resend(&mut self, now: Instant) -> Option<String> {
        loop {
            let due = self.flights.iter().filter(|(_, flight)| flight.due <= now);
            let id = due.min_by_key(|(_, flight)| flight.due).map(|(id, _)| id.clone())?;
            let flight = self.flights.get_mut(&id)?;
            if flight.sendings < SENDINGS && !self.waiting.contains_key(&flight.slot) {
                flight.sendings += 1;
                self.resent = true;
                flight.due = now + RESEND_AFTER;
                return Some(flight.item.envelope.encode());
            }
            // A newer version waits, or others have waited long enough behind this one.
            if let Some(Flight { slot, mut item, .. }) = self.flights.remove(&id)
                && !self.waiting.contains_key(&slot)
            {
                let rest = FIRST_REST.saturating_mul(1 << item.rests.min(16)).min(LONGEST_REST);
                item.rests += 1;
                self.rested += 1;
                self.resting.insert((now + rest, self.rested), slot.clone());
                self.waiting.insert(slot, item);
            }
        }
    }

    /// Ends the rest of a slot: a newer version is worth a new try.
    fn wake(&mut self, slot: &Slot) {
        let Some(place) = self.resting.iter().find(|(_, resting)| *resting == slot).map(|(at, _)| *at) else {
            return;
        };
        self.order.extend(self.resting.remove(&place));
    }

    fn send(&mut self, now: Instant) -> Option<String> {
        if self.flights.len() >= self.window {
            return None;
        }
        while let Some(entry) = self.resting.first_entry().filter(|entry| entry.key().0 <= now) {
            self.order.push_back(entry.remove());
        }
        loop {
            let slot = self.order.pop_front()?;
            let item = self.waiting.remove(&slot)?;
            self.flights.retain(|_, flight| flight.slot != slot);
            let text = item.envelope.encode();
            if text.len() > WRITE_LIMIT {
                // It would be sent again for ever and never arrive; others go on.
                self.too_large.push(match slot.0 {
                    Role::Own(key) => key.to_string(),
                    Role::Watched(path) => path,
                });
                continue;
            }
            let id = item.envelope.header.msg_id.clone();
            self.flights.insert(id, Flight { slot, item, sendings: 1, due: now + RESEND_AFTER });
            return Some(text);
        }
    }

    /// Objects that were given up since the last call because no message can hold them.
    pub fn take_too_large(&mut self) -> Vec<String> {
        std::mem::take(&mut self.too_large)
    }

    /// The node acknowledges a message; `None` when nothing was expected under this id.
    pub fn acknowledged(&mut self, id: &MessageId) -> Option<Stored> {
        if let Some(Flight { slot: (role, uid), item, .. }) = self.flights.remove(id) {
            // Of what is merely watched no record is kept.
            let Role::Own(key) = role else { return None };
            return Some(Stored { key, uid, revision: item.revision, deleted: item.deleted });
        }
        let at = self.notes.iter().position(|(noted, _)| noted == id)?;
        self.notes.remove(at).map(|(_, stored)| stored)
    }
}

fn uid(object: &serde_json::Value) -> String {
    object.pointer("/metadata/uid").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;
    use crate::wire::dynamic::WatchEvent;
    use crate::wire::{Origin, Verb};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn key(name: &str) -> ObjectKey {
        ObjectKey::namespaced(Kind::Pod, "default", name)
    }

    fn object(name: &str, revision: u64) -> Down {
        Down::Object {
            verb: Verb::Update,
            origin: Origin::Edge,
            key: key(name),
            revision: Revision(revision),
            object: json!({"metadata": {"uid": "u", "resourceVersion": revision.to_string()}}),
        }
    }

    fn deletion(name: &str) -> Down {
        let object = json!({"metadata": {"uid": "u"}});
        Down::Delete { origin: Origin::Edge, key: key(name), revision: None, object }
    }

    fn read(text: &str) -> (MessageId, String, String) {
        let value: Value = serde_json::from_str(text).unwrap();
        let text =
            |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        (MessageId(text("/header/msg_id")), text("/route/resource"), text("/header/resourceversion"))
    }

    #[test]
    fn the_newest_version_is_the_only_one_sent() {
        let (mut delivery, now) = (Delivery::new(1), Instant::now());
        for revision in [3, 5, 4] {
            delivery.offer(object("a", revision)).unwrap();
        }
        assert_eq!(read(&delivery.next(now).unwrap()).2, "5");
        assert_eq!(delivery.next(now), None);
    }

    #[test]
    fn a_genuine_edge_gets_one_at_a_time() {
        let (mut delivery, now) = (Delivery::new(1), Instant::now());
        delivery.offer(object("a", 1)).unwrap();
        delivery.offer(object("b", 2)).unwrap();
        let (first, ..) = read(&delivery.next(now).unwrap());
        assert!(!delivery.is_ready(now));
        let stored = delivery.acknowledged(&first).unwrap();
        assert_eq!((stored.key, stored.revision, stored.deleted), (key("a"), Some(Revision(1)), false));
        assert_eq!(read(&delivery.next(now).unwrap()).1, "default/pod/b");
        assert_eq!(delivery.acknowledged(&first), None);
    }

    #[test]
    fn unacknowledged_messages_are_sent_again_under_the_same_id() {
        let (mut delivery, mut now) = (Delivery::new(1), Instant::now());
        delivery.offer(object("a", 1)).unwrap();
        delivery.offer(object("b", 1)).unwrap();
        let (first, ..) = read(&delivery.next(now).unwrap());
        for _ in 1..SENDINGS {
            assert_eq!(delivery.next(now), None);
            now = delivery.next_due().unwrap();
            assert_eq!(read(&delivery.next(now).unwrap()).0, first);
            assert!(delivery.has_resent());
        }
        now += RESEND_AFTER;
        assert_eq!(read(&delivery.next(now).unwrap()).1, "default/pod/b");
        assert_eq!(delivery.len(), 2);
    }

    #[test]
    fn what_is_never_acknowledged_rests_longer_each_time_and_a_newer_version_wakes_it() {
        let (mut delivery, mut now) = (Delivery::new(1), Instant::now());
        delivery.offer(object("a", 1)).unwrap();
        let mut id = None;
        for round in 0..8 {
            for _ in 0..SENDINGS {
                now = delivery.next_due().unwrap_or(now);
                let (sent, ..) = read(&delivery.next(now).unwrap());
                assert_eq!(*id.get_or_insert(sent.clone()), sent);
            }
            now += RESEND_AFTER;
            assert_eq!(delivery.next(now), None, "it rests");
            let rest = delivery.next_due().unwrap() - now;
            assert_eq!(rest, (FIRST_REST * 2u32.pow(round)).min(LONGEST_REST));
        }
        delivery.offer(object("a", 2)).unwrap();
        assert!(delivery.is_ready(now));
        assert_eq!(read(&delivery.next(now).unwrap()).2, "2");
    }

    #[test]
    fn an_object_that_comes_back_is_told_after_its_removal() {
        let (mut delivery, now) = (Delivery::new(WINDOW), Instant::now());
        let withdrawn = |revision| Down::Delete {
            origin: Origin::Device,
            key: key("a"),
            revision: Some(Revision(revision)),
            object: json!({"metadata": {"uid": "u"}}),
        };
        delivery.offer(withdrawn(5)).unwrap();
        let (gone, ..) = read(&delivery.next(now).unwrap());
        delivery.offer(object("a", 5)).unwrap();
        assert_eq!(delivery.next(now), None, "older than the removal");
        delivery.offer(object("a", 6)).unwrap();
        let (back, ..) = read(&delivery.next(now).unwrap());
        assert_eq!(delivery.acknowledged(&gone), None);
        assert!(!delivery.acknowledged(&back).unwrap().deleted);
        delivery.offer(withdrawn(6)).unwrap();
        delivery.offer(object("a", 7)).unwrap();
        assert_eq!(read(&delivery.next(now).unwrap()).2, "7");
        assert_eq!(delivery.next(now), None);
    }

    #[test]
    fn a_newer_version_takes_the_place_of_an_unacknowledged_one() {
        let (mut delivery, now) = (Delivery::new(WINDOW), Instant::now());
        delivery.offer(object("a", 1)).unwrap();
        let (first, ..) = read(&delivery.next(now).unwrap());
        delivery.offer(object("a", 1)).unwrap();
        assert_eq!(delivery.next(now), None);
        delivery.offer(object("a", 2)).unwrap();
        let (second, ..) = read(&delivery.next(now).unwrap());
        assert_eq!(delivery.acknowledged(&first), None);
        assert_eq!(delivery.acknowledged(&second).unwrap().revision, Some(Revision(2)));
        assert_eq!(delivery.len(), 0);
    }

    #[test]
    fn a_watched_object_is_not_confused_with_one_of_the_node() {
        let (mut delivery, now) = (Delivery::new(WINDOW), Instant::now());
        delivery.offer(object("a", 1)).unwrap();
        let event = |change, revision| {
            let object = json!({"metadata": {"uid": "u"}});
            let (namespace, kind) = (Some("default".to_owned()), "pod".to_owned());
            let revision = Some(Revision(revision));
            Down::Watched(Box::new(WatchEvent {
                change,
                namespace,
                kind,
                name: "a".to_owned(),
                revision,
                object,
            }))
        };
        delivery.offer(event(Change::Insert, 1)).unwrap();
        delivery.offer(event(Change::Update, 3)).unwrap();
        delivery.offer(event(Change::Update, 2)).unwrap();
        let sent = [delivery.next(now).unwrap(), delivery.next(now).unwrap()].map(|text| read(&text));
        assert_eq!(delivery.next(now), None);
        assert_eq!(sent[1].2, "3");
        assert!(delivery.acknowledged(&sent[0].0).is_some());
        assert_eq!(delivery.acknowledged(&sent[1].0), None);
        assert_eq!(delivery.len(), 0);
    }

    #[test]
    fn an_object_that_no_message_can_hold_is_given_up_and_blocks_nobody() {
        let (mut delivery, now) = (Delivery::new(1), Instant::now());
        let mut large = object("a", 1);
        if let Down::Object { object, .. } = &mut large {
            object["data"] = json!("x".repeat(WRITE_LIMIT));
        }
        delivery.offer(large).unwrap();
        delivery.offer(object("b", 1)).unwrap();
        assert_eq!(read(&delivery.next(now).unwrap()).1, "default/pod/b");
        assert_eq!(delivery.take_too_large(), [key("a").to_string()]);
        assert!(delivery.take_too_large().is_empty());
        assert_eq!((delivery.len(), delivery.next(now)), (1, None));
    }

    #[test]
    fn a_deletion_is_not_undone_by_an_older_update() {
        let (mut delivery, now) = (Delivery::new(1), Instant::now());
        delivery.offer(object("a", 1)).unwrap();
        delivery.offer(deletion("a")).unwrap();
        delivery.offer(object("a", 9)).unwrap();
        let (id, ..) = read(&delivery.next(now).unwrap());
        assert!(delivery.acknowledged(&id).unwrap().deleted);
        assert_eq!(delivery.next(now), None);
    }

    proptest! {
        #[test]
        fn every_object_arrives_in_its_last_version(
            window in 1usize..5,
            steps in proptest::collection::vec((0usize..4, 0u8..4), 1..80),
        ) {
            let (mut delivery, mut now) = (Delivery::new(window), Instant::now());
            let (mut offered, mut stored) = (HashMap::new(), HashMap::new());
            let mut sent: VecDeque<String> = VecDeque::new();
            let mut revision = 0;
            let mut acknowledge = |delivery: &mut Delivery, text: &str| {
                if let Some(fact) = delivery.acknowledged(&read(text).0) {
                    stored.insert(fact.key, fact.revision);
                }
            };
            for (name, action) in steps {
                match action {
                    0 | 1 => {
                        revision += 1;
                        let name = format!("p{name}");
                        offered.insert(key(&name), Some(Revision(revision)));
                        delivery.offer(object(&name, revision)).unwrap();
                    }
                    2 => now += RESEND_AFTER,
                    _ => if let Some(text) = sent.pop_front() { acknowledge(&mut delivery, &text) },
                }
                while let Some(text) = delivery.next(now) {
                    sent.push_back(text);
                }
                prop_assert!(delivery.flights.len() <= window);
                prop_assert_eq!(delivery.order.len() + delivery.resting.len(), delivery.waiting.len());
            }
            while delivery.len() > 0 {
                while let Some(text) = sent.pop_front() { acknowledge(&mut delivery, &text) }
                now += RESEND_AFTER;
                sent.extend(delivery.next(now));
            }
            prop_assert_eq!(stored, offered);
        }
    }
}
