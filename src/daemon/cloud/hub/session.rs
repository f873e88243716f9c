//! One connected node: reads its messages, delivers what it is told, watches its keepalive. Nothing that a node sends
//! or fails to read can hold another node up, and only an oversized message or silence ends its connection.

use super::delivery::{Delivery, Stored, WINDOW};
use super::refusals::Refusals;
use super::registry::{Daemon, Entered, Entry, ORDERS, Pulse, Registry};
use super::{Arrival, NodeLink, authz, comeback};
use crate::base::{Crew, Mail, Stop, mailbox, now_ms};
use crate::link::ws::{Outgoing, Pending, Reader, Received, WRITE_LIMIT, Writer, WsError};
use crate::model::{NodeName, Status};
use crate::wire;
use crate::wire::envelope::MESSAGE_LIMIT;
use crate::wire::{
    DecodeError, Delivery as Class, Down, Envelope, Question, Up, class_of, decode_up, delivery_of,
    encode_down,
};
use bytes::Bytes;
use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Messages that are handed to the writer ahead of the socket.
const AHEAD: usize = 8;
/// Answers and other messages that are sent once and may wait; beyond that, orders wait.
const ONCE: usize = 1024;
/// Objects that are too large and are told apart in the log.
const TOO_LARGE: usize = 256;
/// Those who may wait for a sign of life of one node.
const PULSES: usize = 8;
/// How long a new session waits for the end of the one it replaces.
const EVICTION: Duration = Duration::from_secs(5);

/// How long a message that is being written may hold up the end of its session.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a node is not let in though it is who it says.
pub(super) const NODE_LIMIT: &str = "the limit of nodes is reached";

/// A connection that was granted.
pub(super) struct Guest {
    pub node: NodeName,
    pub remote: SocketAddr,
    pub windowed: bool,
    pub digests: bool,
    /// The mark of the daemon; an edgecore has none.
    pub instance: Option<String>,
    /// The fingerprint of the key in its certificate.
    pub key: String,
    pub pending: Pending,
}

/// What sessions share.
#[derive(Clone)]
pub(super) struct Shared {
    pub registry: Registry,
    pub arrivals: mpsc::Sender<Arrival>,
    pub keepalive: Duration,
    pub refusals: Refusals,
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Stopped,
    Silent,
    Oversized,
    Overflow,
    Broken,
}

impl End {
    fn reason(self) -> &'static str {
        match self {
            End::Closed => "the node closed the connection",
            End::Stopped => "the session was replaced or stopped",
            End::Silent => "no keepalive in time",
            End::Oversized => "a message was larger than allowed",
            End::Overflow => "too much waits for the node",
            End::Broken => "the connection broke",
        }
    }
}

/// Serves a node until its connection ends.
pub(super) async fn run(guest: Guest, shared: Shared, stop: Stop) {
    let Guest { node, remote, windowed, digests, instance, key, pending } = guest;
    let (mut writer, reader) = match pending.accept(MESSAGE_LIMIT).await {
        Ok(halves) => halves,
        Err(error) => {
            tracing::debug!(%node, %error, "the upgrade was not completed");
            return;
        }
    };
    let (orders, ordered) = mpsc::channel(ORDERS);
    let (pulse, pulses) = mailbox(PULSES);
    let link = NodeLink { remote: remote.to_string(), since: now_ms(), queued: 0, digests };
    let daemon = Daemon { instance: instance.unwrap_or_else(|| remote.ip().to_string()), remote, key };
    let Some(entered) = shared.registry.enter(&node, daemon, (orders, pulse), stop.child(), link) else {
        // Many were let in at once; a node that has gone meanwhile makes room for the next attempt.
        shared.refusals.refuse_connection(node.as_str(), NODE_LIMIT, remote, true);
        writer.turn_away(NODE_LIMIT).await;
        return;
    };
    let Entered { entry, previous, rival } = entered;
    if let Some(rival) = rival {
        shared.refusals.rivals(node.as_str(), remote, rival.remote);
    }
    if let Some(previous) = previous {
        previous.stop.raise();
        // An old session that hangs is not waited for: its generation keeps it from doing harm.
        drop(tokio::time::timeout(EVICTION, previous.ended.raised()).await);
    }
    tracing::info!(%node, %remote, "the node is connected");
    let mut session = Session {
        node: node.clone(),
        entry,
        shared: shared.clone(),
        windowed,
        delivery: Delivery::new(if windowed { WINDOW } else { 1 }),
        once: VecDeque::new(),
        ping: false,
        pulses: Vec::new(),
        hub_stop: stop.clone(),
        heard: Instant::now(),
        complaints: HashSet::new(),
        malformed: 0,
        too_large: HashSet::new(),
    };
    let end = session.serve(writer, reader, ordered, pulses).await;
    tracing::info!(%node, reason = end.reason(), malformed = session.malformed, "the node is disconnected");
    let generation = session.entry.generation;
    if shared.registry.is_present(&node, generation) {
        // When the hub itself stops, nobody may be left to listen.
        drop(stop.or(shared.arrivals.send(Arrival::Disconnected(node.clone()))).await);
    }
    shared.registry.leave(&node, generation);
    session.entry.ended.raise();
}

struct Session {
    node: NodeName,
    entry: Entry,
    shared: Shared,
    /// A kedge edge: it acknowledges what it refuses; an edgecore does not and is told again.
    windowed: bool,
    delivery: Delivery,
    once: VecDeque<String>,
    /// Whether a ping is to be sent.
    ping: bool,
    /// Those who are told when the node answers.
    pulses: Vec<Pulse>,
    /// Raised when all sessions end.
    hub_stop: Stop,
    heard: Instant,
    /// Kinds of bad messages that were logged.
    complaints: HashSet<&'static str>,
    malformed: u64,
    /// Objects that no message can hold and that were told.
    too_large: HashSet<String>,
}

impl Session {
    async fn serve(
        &mut self,
        writer: Writer,
        mut reader: Reader,
        mut ordered: mpsc::Receiver<Box<Down>>,
        mut pulses: Mail<Pulse>,
    ) -> End {
        let stop = self.entry.stop.clone();
        if stop.or(self.shared.arrivals.send(Arrival::Connected(self.node.clone()))).await.is_none() {
            return End::Stopped;
        }
        let (outbox, outgoing) = mpsc::channel(AHEAD);
        let mut crew = Crew::new();
        let farewell = stop.clone();
        let (registry, hub_stop) = (self.shared.registry.clone(), self.hub_stop.clone());
        let (own, successor) = (self.entry.daemon.remote, self.entry.successor.clone());
        let reason = move || match (hub_stop.is_raised(), successor.get()) {
            (true, _) => wire::farewell(comeback::after_rush(registry.most())),
            (false, Some(other)) => wire::replaced(own, *other),
            (false, None) => "the session is over".to_owned(),
        };
        crew.spawn(write(writer, outgoing, farewell, reason));
        let end = loop {
            let now = Instant::now();
            let ready = self.ping || !self.once.is_empty() || self.delivery.is_ready(now);
            let silent_at = self.heard + self.shared.keepalive;
            let wake = self.delivery.next_due().map_or(silent_at, |due| due.min(silent_at));
            let end = tokio::select! {
                () = stop.raised() => Some(End::Stopped),
                permit = outbox.reserve(), if ready => match permit {
                    Ok(permit) => {
                        if let Some(outgoing) = self.next(now) {
                            permit.send(outgoing);
                        }
                        self.tell_too_large();
                        if self.delivery.has_resent() {
                            self.warn_once("the node does not acknowledge");
                        }
                        None
                    }
                    Err(_) => Some(End::Broken),
                },
                order = ordered.recv(), if self.once.len() < ONCE => order.and_then(|down| self.tell(*down)),
                Some(pulse) = pulses.recv(), if self.pulses.len() < PULSES => {
                    self.pulses.push(pulse);
                    self.ping = true;
                    None
                }
                received = reader.next() => match received {
                    Some(Ok(received)) => self.hear(received, &stop).await,
                    Some(Err(WsError::TooLarge)) => Some(End::Oversized),
                    Some(Err(error)) => {
                        tracing::debug!(node = %self.node, %error, "the connection failed");
                        Some(End::Broken)
                    }
                    None => Some(End::Closed),
                },
                () = outbox.closed() => Some(End::Broken),
                () = tokio::time::sleep_until(wake.into()) => {
                    (Instant::now() >= silent_at).then_some(End::Silent)
                }
            };
            if let Some(end) = end {
                break end;
            }
        };
        stop.raise();
        crew.finish().await;
        end
    }

    /// What is sent next; a ping goes before everything else.
    fn next(&mut self, now: Instant) -> Option<Outgoing> {
        if std::mem::take(&mut self.ping) {
            return Some(Outgoing::Ping(Bytes::new()));
        }
        self.once.pop_front().or_else(|| self.delivery.next(now)).map(Outgoing::Text)
    }

    /// Queues what the cloud tells the node.
    fn tell(&mut self, down: Down) -> Option<End> {
        match delivery_of(&down) {
            Class::Acknowledged => self.delivery.offer(down).is_err().then_some(End::Overflow),
            Class::Once => {
                self.tell_once(down);
                None
            }
        }
    }

    fn tell_once(&mut self, down: Down) {
        let asked = match &down {
            Down::Reply { to: Question { up: Up::Query { key }, .. }, .. } => Some(key.clone()),
            _ => None,
        };
        let question = match (&down, &asked) {
            (Down::Reply { to, .. }, Some(key)) => {
                let up = Up::Query { key: key.clone() };
                Some(Question { id: to.id.clone(), resource: to.resource.clone(), up })
            }
            _ => None,
        };
        let Some(envelope) = encode_down(down) else { return };
        let text = envelope.encode();
        if let (Some(question), true) = (question, text.len() > WRITE_LIMIT) {
            self.shared.refusals.undelivered(self.node.as_str());
            let status = Status::failure(413, "RequestEntityTooLarge", "no message can hold the object");
            return self.tell_once(Down::Reply { to: question, result: Err(status) });
        }
        if let (Some(key), Class::Acknowledged) = (asked, class_of(&envelope)) {
            let metadata = |field: &str| {
                let value = envelope.content.get("metadata").and_then(|metadata| metadata.get(field));
                value.and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
            };
            let revision = crate::model::Revision::parse(&metadata("resourceVersion"));
            let stored = Stored { key, uid: metadata("uid"), revision, deleted: false };
            self.delivery.note(envelope.header.msg_id.clone(), stored);
        }
        self.once.push_back(text);
    }

    /// An object that no message can hold is told once.
    fn tell_too_large(&mut self) {
        for key in self.delivery.take_too_large() {
            self.shared.refusals.undelivered(self.node.as_str());
            if self.too_large.len() < TOO_LARGE && self.too_large.insert(key.clone()) {
                tracing::warn!(node = %self.node, object = key, "an object is too large for a message and is not sent");
            }
        }
    }

    /// Takes a message from the node. The socket is not read while nobody takes arrivals.
    async fn hear(&mut self, received: Received, stop: &Stop) -> Option<End> {
        self.heard = Instant::now();
        let Received::Data(bytes) = received else {
            for pulse in self.pulses.drain(..) {
                pulse.send(());
            }
            return None;
        };
        let question = match Envelope::decode(&bytes) {
            Ok(envelope) => decode_up(envelope),
            Err(error) => {
                self.complain(match error {
                    DecodeError::NotJson => "a message is not JSON",
                    DecodeError::NotAnObject => "a message is not a JSON object",
                    DecodeError::TooLarge => "a message is larger than allowed",
                    DecodeError::TooManyValues => "a message holds more values than allowed",
                });
                return None;
            }
        };
        drop(bytes);
        let arrival = self.judge(question)?;
        let sent = stop.or(self.shared.arrivals.send(arrival)).await;
        // While the cloud itself was slow the socket was not read: that is no silence of the node.
        self.heard = Instant::now();
        sent.is_none().then_some(End::Stopped)
    }

    /// What the message means for the rest of the cloud; answers what needs no one else.
    fn judge(&mut self, question: Question) -> Option<Arrival> {
        let node = self.node.clone();
        match &question.up {
            Up::Keepalive => {
                self.shared.registry.show_queued(&node, self.entry.generation, self.delivery.len());
                None
            }
            Up::Acknowledge { of } => {
                let Stored { key, uid, revision, deleted } = self.delivery.acknowledged(of)?;
                Some(Arrival::Stored { node, key, uid, revision, deleted })
            }
            Up::Failed { of, .. } => {
                if self.windowed {
                    // It is not sent again, and not recorded as stored either.
                    self.delivery.acknowledged(of);
                }
                self.complain("the node could not carry out a message");
                None
            }
            Up::Unknown { why, .. } => {
                let why = *why;
                self.complain(why);
                self.refuse(question, Status::failure(400, "BadRequest", why));
                None
            }
            up if !authz::permits(&node, up) => {
                let refused = self.shared.refusals.refuse(
                    node.as_str(),
                    "impersonation",
                    "the node spoke for another node",
                );
                match refused {
                    Ok(()) => return Some(Arrival::Message { node, question }),
                    Err(status) => self.refuse(question, status),
                }
                None
            }
            _ => Some(Arrival::Message { node, question }),
        }
    }

    fn refuse(&mut self, question: Question, status: Status) {
        if !question.id.0.is_empty() && self.once.len() < ONCE {
            self.tell_once(Down::Reply { to: question, result: Err(status) });
        }
    }

    /// Counts a bad message and logs the first of its kind.
    fn complain(&mut self, why: &'static str) {
        self.malformed += 1;
        self.warn_once(why);
    }

    fn warn_once(&mut self, why: &'static str) {
        if self.complaints.insert(why) {
            tracing::warn!(node = %self.node, reason = why, "a message of the node cannot be used");
        }
    }
}

async fn write(
    mut writer: Writer,
    mut outgoing: mpsc::Receiver<Outgoing>,
    stop: Stop,
    reason: impl FnOnce() -> String,
) {
    while let Some(Some(next)) = stop.or(outgoing.recv()).await {
        let sent = tokio::select! {
            sent = writer.send(next) => sent,
            () = stop.lingered(FAREWELL) => return,
        };
        match sent {
            Ok(()) => {}
            Err(WsError::TooLarge) => {
                tracing::warn!("a message to a node is larger than allowed and is dropped")
            }
            Err(error) => {
                tracing::debug!(%error, "a message could not be written");
                return;
            }
        }
    }
    writer.close(&reason()).await;
}
