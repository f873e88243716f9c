//! The router: who is connected, who wants what, what is retained. One lock, held for the length of one look-up and never
//! across a wait; a message is shared, not copied. Connections and the in-process handle call it; it calls nobody.
//!
//! A client that does not read fills its own bounded outbox and then misses messages (counted). An in-process reader
//! misses nothing: its publisher waits for it, with a limit.

use super::session::{Delivery, Message, Outbox};
use super::topic::{self, Filter, Tree};
use crate::base::Stop;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};

/// Filters that one client may hold.
const FILTERS_PER_CLIENT: usize = 512;
/// Topics with a retained message, and the bytes of all of them.
const RETAINED: usize = 4096;
const RETAINED_BYTES: usize = 4 << 20;
/// Sessions that wait for their client to come back.
const PARKED: usize = 256;

/// One client's state; shared by the exchange and the client's connection.
pub(super) struct Session {
    id: u64,
    pub(super) client: Box<str>,
    outbox: Mutex<Outbox>,
    /// Rung when there is something to take.
    pub(super) bell: Notify,
}

impl Session {
    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a filter was subscribed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) qos: u8,
    pub(super) no_local: bool,
    pub(super) as_published: bool,
    pub(super) retained: Retained,
}

/// Whether retained messages are sent for a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retained {
    Always,
    IfNew,
    Never,
}

/// Why a filter is not subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Filter,
    Quota,
}

struct Subscription {
    reader: u64,
    group: Option<Box<str>>,
    wish: Wish,
}

enum Reader {
    Client(Arc<Session>),
    Local(mpsc::Sender<Arc<Message>>),
}

struct Client {
    session: Arc<Session>,
    era: u64,
    kick: Stop,
    /// How long the session stays after its connection.
    stays: Duration,
    /// Since when nobody is connected.
    parked: Option<Instant>,
}

#[derive(Default)]
struct State {
    tree: Tree<Subscription>,
    readers: HashMap<u64, Reader>,
    filters: HashMap<u64, Vec<Box<str>>>,
    clients: HashMap<Box<str>, Client>,
    retained: BTreeMap<Box<str>, Arc<Message>>,
    retained_bytes: usize,
    last_reader: u64,
    turn: usize,
}

/// Figures of the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub connections: usize,
    pub sessions: usize,
    pub subscriptions: usize,
    pub retained: usize,
    pub received: u64,
    pub dropped: u64,
}

/// What a new connection gets.
pub(super) struct Attached {
    pub(super) session: Arc<Session>,
    pub(super) era: u64,
    /// Whether an earlier session goes on.
    pub(super) present: bool,
    /// Raised when another connection takes the client's name.
    pub(super) kicked: Stop,
}

/// What the publisher has to wait for after a message was passed on.
#[derive(Default)]
pub(super) struct Passed {
    pub(super) waiting: Vec<mpsc::Sender<Arc<Message>>>,
    /// A reader's outbox is filling: let it have its turn.
    pub(super) crowded: bool,
}

impl Passed {
    fn hand(&mut self, reader: &mpsc::Sender<Arc<Message>>, message: &Arc<Message>) {
        if let Err(mpsc::error::TrySendError::Full(_)) = reader.try_send(message.clone()) {
            self.waiting.push(reader.clone());
        }
    }
}

#[derive(Default)]
pub(super) struct Exchange {
    state: Mutex<State>,
    /// The filters of all in-process readers: what a foreign broker is asked for.
    wanted: watch::Sender<BTreeSet<Box<str>>>,
    received: AtomicU64,
    dropped: AtomicU64,
}

impl Exchange {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection under this client name begins; an older one is told to end.
    pub(super) fn attach(
        &self,
        name: &str,
        clean: bool,
        stays: Duration,
        window: Option<u16>,
        stop: &Stop,
    ) -> Attached {
        let mut state = self.state();
        state.forget_expired();
        let old = state.clients.remove(name);
        if let Some(old) = &old {
            old.kick.raise();
        }
        let (session, present) = match old {
            Some(old) if !clean => (old.session, true),
            other => {
                if let Some(old) = other {
                    state.forget_reader(old.session.id);
                }
                let id = state.next_reader();
                let session = Arc::new(Session {
                    id,
                    client: name.into(),
                    outbox: Mutex::default(),
                    bell: Notify::new(),
                });
                state.readers.insert(id, Reader::Client(session.clone()));
                (session, false)
            }
        };
        let era = session.outbox().begin(window);
        let kicked = stop.child();
        let client = Client { session: session.clone(), era, kick: kicked.clone(), stays, parked: None };
        state.clients.insert(name.into(), client);
        Attached { session, era, present, kicked }
    }

    /// A connection has ended; its session is forgotten or waits, unless a newer connection has it.
    pub(super) fn detach(&self, session: &Session, era: u64, stays: Option<Duration>) {
        let mut state = self.state();
        let Some(client) = state
            .clients
            .get_mut(&session.client)
            .filter(|client| client.era == era && client.session.id == session.id)
        else {
            return;
        };
        client.stays = stays.unwrap_or(client.stays);
        if client.stays.is_zero() {
            state.clients.remove(&session.client);
            state.forget_reader(session.id);
        } else {
            client.parked = Some(Instant::now());
            state.forget_expired();
        }
    }

    /// Subscribes a client; retained messages go to its outbox.
    pub(super) fn subscribe(&self, session: &Arc<Session>, text: &str, wish: Wish) -> Result<(), Refusal> {
        let filter = Filter::parse(text).ok_or(Refusal::Filter)?;
        let mut state = self.state();
        let held = state.filters.entry(session.id).or_default();
        if !held.iter().any(|other| **other == *text) {
            if held.len() >= FILTERS_PER_CLIENT {
                return Err(Refusal::Quota);
            }
            held.push(text.into());
        }
        let new = state.plant(session.id, filter, wish);
        let wanted = match wish.retained {
            Retained::Always => true,
            Retained::IfNew => new,
            Retained::Never => false,
        };
        if wanted && filter.group.is_none() {
            let mut outbox = session.outbox();
            for message in state.retained_under(filter.path) {
                let delivery = Delivery { qos: message.qos.min(wish.qos), message, retain: true };
                if !outbox.push(delivery) {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Takes a client's filter away; `false` when it did not hold it.
    pub(super) fn unsubscribe(&self, session: &Session, text: &str) -> bool {
        let mut state = self.state();
        let Some(held) = state.filters.get_mut(&session.id) else { return false };
        let before = held.len();
        held.retain(|other| **other != *text);
        if held.len() == before {
            return false;
        }
        state.uproot(session.id, text);
        true
    }

    /// Subscribes an in-process reader; the returned number names it. Retained messages come first.
    pub(super) fn subscribe_local(
        &self,
        filters: &[&str],
        room: usize,
    ) -> (u64, mpsc::Receiver<Arc<Message>>) {
        let (sender, receiver) = mpsc::channel(room);
        let id = {
            let mut state = self.state();
            let id = state.next_reader();
            state.readers.insert(id, Reader::Local(sender));
            id
        };
        for filter in filters {
            self.add_local(id, filter);
        }
        (id, receiver)
    }

    /// Adds a filter to an in-process reader; `false` when it is none.
    pub(super) fn add_local(&self, id: u64, text: &str) -> bool {
        let wish = Wish { qos: 2, no_local: false, as_published: true, retained: Retained::Always };
        let Some(filter) = Filter::parse(text) else { return false };
        let mut state = self.state();
        let held = state.filters.entry(id).or_default();
        if held.iter().any(|other| **other == *text) {
            return true;
        }
        held.push(text.into());
        state.plant(id, filter, wish);
        if let Some(Reader::Local(sender)) = state.readers.get(&id) {
            for message in state.retained_under(filter.path) {
                if sender.try_send(message).is_err() {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        self.note_wanted(&state);
        true
    }

    /// Takes a filter from an in-process reader.
    pub(super) fn drop_local(&self, id: u64, text: &str) {
        let mut state = self.state();
        if let Some(held) = state.filters.get_mut(&id) {
            held.retain(|other| **other != *text);
            state.uproot(id, text);
            self.note_wanted(&state);
        }
    }

    /// Ends an in-process reader.
    pub(super) fn forget_local(&self, id: u64) {
        let mut state = self.state();
        state.forget_reader(id);
        self.note_wanted(&state);
    }

    fn note_wanted(&self, state: &State) {
        let local = state.readers.iter().filter(|(_, reader)| matches!(reader, Reader::Local(_)));
        let filters = local.filter_map(|(id, _)| state.filters.get(id)).flatten().cloned();
        let now: BTreeSet<Box<str>> = filters.collect();
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != now;
            *wanted = now;
            changed
        });
    }

    /// What in-process readers want, as it changes.
    pub(super) fn wanted(&self) -> watch::Receiver<BTreeSet<Box<str>>> {
        self.wanted.subscribe()
    }

    /// Passes a message of a foreign broker to in-process readers alone.
    pub(super) fn bring(&self, message: &Arc<Message>) -> Passed {
        self.received.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        let mut passed = Passed::default();
        for (id, ..) in state.wanted(&message.topic, None) {
            if let Some(Reader::Local(sender)) = state.readers.get(&id) {
                passed.hand(sender, message);
            }
        }
        passed
    }

    /// Passes a message to everybody who wants it. `from` is the publishing session.
    pub(super) fn publish(&self, message: &Arc<Message>, from: Option<&Session>) -> Passed {
        self.received.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        if message.retain {
            state.retain(message);
        }
        let from = from.map(|session| session.id);
        let mut passed = Passed::default();
        for (id, qos, as_published) in state.wanted(&message.topic, from) {
            match state.readers.get(&id) {
                Some(Reader::Client(session)) => {
                    let retain = message.retain && as_published;
                    let delivery = Delivery { message: message.clone(), qos: qos.min(message.qos), retain };
                    let mut outbox = session.outbox();
                    if outbox.push(delivery) {
                        passed.crowded |= outbox.is_filling();
                        session.bell.notify_one();
                    } else {
                        passed.crowded = true;
                        self.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Some(Reader::Local(sender)) => passed.hand(sender, message),
                None => {}
            }
        }
        passed
    }

    /// Counts a message that somebody missed.
    pub(super) fn missed(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> Stats {
        let state = self.state();
        Stats {
            connections: state.clients.values().filter(|client| client.parked.is_none()).count(),
            sessions: state.clients.len(),
            subscriptions: state.tree.len(),
            retained: state.retained.len(),
            received: self.received.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

impl State {
    fn next_reader(&mut self) -> u64 {
        self.last_reader += 1;
        self.last_reader
    }

    fn plant(&mut self, reader: u64, filter: Filter<'_>, wish: Wish) -> bool {
        let group: Option<Box<str>> = filter.group.map(Into::into);
        let same = |held: &Subscription| held.reader == reader && held.group.as_deref() == filter.group;
        self.tree.insert(filter.path, Subscription { reader, group, wish }, same)
    }

    fn uproot(&mut self, reader: u64, text: &str) {
        if let Some(filter) = Filter::parse(text) {
            self.tree
                .remove(filter.path, |held| held.reader == reader && held.group.as_deref() == filter.group);
        }
    }

    fn forget_reader(&mut self, id: u64) {
        self.readers.remove(&id);
        for text in self.filters.remove(&id).unwrap_or_default() {
            self.uproot(id, &text);
        }
    }

    fn forget_expired(&mut self) {
        let now = Instant::now();
        let mut parked: Vec<(Instant, Box<str>)> = Vec::new();
        let mut gone = Vec::new();
        for (name, client) in &self.clients {
            match client.parked {
                Some(since) if now.duration_since(since) >= client.stays => gone.push(name.clone()),
                Some(since) => parked.push((since, name.clone())),
                None => {}
            }
        }
        if parked.len() > PARKED {
            parked.sort();
            gone.extend(parked.iter().take(parked.len() - PARKED).map(|(_, name)| name.clone()));
        }
        for name in gone {
            if let Some(client) = self.clients.remove(&name) {
                self.forget_reader(client.session.id);
            }
        }
    }

    fn retained_under(&self, path: &str) -> Vec<Arc<Message>> {
        let now = Instant::now();
        let covered = self.retained.iter().filter(|(name, _)| topic::covers(path, name));
        covered.map(|(_, message)| message.clone()).filter(|message| !message.is_expired(now)).collect()
    }

    fn retain(&mut self, message: &Arc<Message>) {
        if let Some(old) = self.retained.remove(&message.topic) {
            self.retained_bytes = self.retained_bytes.saturating_sub(old.weight());
        }
        let fits = self.retained.len() < RETAINED && self.retained_bytes + message.weight() <= RETAINED_BYTES;
        if message.payload.is_empty() {
            return;
        }
        if fits {
            self.retained_bytes += message.weight();
            self.retained.insert(message.topic.clone(), message.clone());
        } else {
            tracing::warn!(topics = self.retained.len(), "the room for retained messages is full");
        }
    }

    /// The readers of a topic, each once with its highest quality of service; of a shared group, one in turn.
    fn wanted(&mut self, topic: &str, from: Option<u64>) -> Vec<(u64, u8, bool)> {
        let mut wanted: Vec<(u64, u8, bool)> = Vec::new();
        let mut shared: Vec<(&str, u64, Wish)> = Vec::new();
        self.tree.visit(topic, &mut |held| {
            if held.wish.no_local && from == Some(held.reader) {
                return;
            }
            match &held.group {
                Some(group) => shared.push((group, held.reader, held.wish)),
                None => wanted.push((held.reader, held.wish.qos, held.wish.as_published)),
            }
        });
        shared.sort_by_key(|(group, reader, _)| (*group, *reader));
        for members in shared.chunk_by(|a, b| a.0 == b.0) {
            self.turn = self.turn.wrapping_add(1);
            let here = |reader: &u64| self.is_here(*reader);
            let present: Vec<_> = members.iter().filter(|(_, reader, _)| here(reader)).collect();
            let pick = if present.is_empty() {
                members.first()
            } else {
                present.get(self.turn % present.len()).copied()
            };
            if let Some((_, reader, wish)) = pick {
                wanted.push((*reader, wish.qos, wish.as_published));
            }
        }
        wanted.sort_unstable_by_key(|(reader, qos, _)| (*reader, std::cmp::Reverse(*qos)));
        wanted.dedup_by_key(|(reader, ..)| *reader);
        wanted
    }

    fn is_here(&self, reader: u64) -> bool {
        match self.readers.get(&reader) {
            Some(Reader::Client(session)) => {
                self.clients.get(&session.client).is_some_and(|client| client.parked.is_none())
            }
            Some(Reader::Local(_)) => true,
            None => false,
        }
    }
}
