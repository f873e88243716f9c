//! One connection to the cloud, from the upgrade to its end: reads and acknowledges, sends what the book holds, keeps
//! the connection alive. The socket is not read while the switchboard has more than it can take.

use super::book::Book;
use super::{Inbound, LinkState, Outcome, Outgoing, Receipt};
use crate::base::{Crew, Stop};
use crate::link::ws::{self, Reader, Received, Writer, WsError};
use crate::wire::{
    DecodeError, Down, Envelope, MessageId, Up, acknowledgement, decode_down, encode_up, read_farewell,
    read_replaced,
};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Messages that are handed to the writer ahead of the socket.
const AHEAD: usize = 8;
/// Messages that wait for the switchboard before the socket is left unread.
const INBOX: usize = 64;
/// Messages whose receipt is out before the socket is left unread.
const RECEIPTS: usize = 512;

/// How long a message that is being written may hold up the end of its session.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Stopped,
    /// The cloud has closed, and when it wants to be called again.
    Closed(Option<Duration>),
    /// Another daemon with this node's name and certificate has taken its place: this one's address as the cloud sees
    /// it, and the other's.
    Replaced(SocketAddr, SocketAddr),
    Silent,
    Oversized,
    Broken,
    /// A renewed certificate is to be used.
    Renewed,
}

impl End {
    pub fn reason(self) -> &'static str {
        match self {
            End::Stopped => "the daemon stops",
            End::Closed(_) => "the cloud closed the connection",
            End::Replaced(..) => "another daemon with this node's name and certificate took its place",
            End::Silent => "the cloud does not answer pings",
            End::Oversized => "a message was larger than allowed",
            End::Broken => "the connection broke",
            End::Renewed => "the certificate is renewed",
        }
    }
}

/// What a session works with; it outlives the session.
pub(super) struct Desk<'a> {
    pub book: &'a mut Book,
    pub outgoing: &'a mut mpsc::Receiver<Outgoing>,
    pub inbound: &'a mpsc::Sender<Inbound>,
    pub state: &'a LinkState,
    pub complaints: &'a mut HashSet<&'static str>,
}

impl Desk<'_> {
    /// Takes what a module wants to say.
    pub fn take(&mut self, letter: Outgoing, connected: bool) {
        match letter {
            Outgoing::Report { key, up, confirmed } => self.book.report(key, up, confirmed),
            Outgoing::Ask { up, answer } if connected => self.book.ask(up, answer),
            // Dropping the sender tells the asker that the cloud cannot be reached.
            Outgoing::Ask { .. } => {}
        }
    }

    /// Waits for something while reports keep being taken in and questions fail at once.
    pub async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = work.as_mut() => return done,
                Some(letter) = self.outgoing.recv() => self.take(letter, false),
            }
        }
    }

    /// Logs the first bad message of its kind.
    fn complain(&mut self, why: &'static str) {
        if self.complaints.insert(why) {
            tracing::warn!(reason = why, "a message of the cloud cannot be used");
        }
    }
}

/// What to send once a message is settled; nothing when its receipt was dropped.
type Stored = BoxFuture<'static, Vec<Envelope>>;

struct Session<'a, 'b> {
    desk: &'a mut Desk<'b>,
    /// Acknowledgements and keepalives, which go first.
    urgent: VecDeque<String>,
    inbox: VecDeque<Inbound>,
    receipts: FuturesUnordered<Stored>,
    /// When the ping was sent that is not answered yet.
    pinged: Option<Instant>,
}

/// Serves a connection until it ends, at the latest when `renewal` does.
pub(super) async fn serve(
    desk: &mut Desk<'_>,
    (writer, mut reader): (Writer, Reader),
    heartbeat: Duration,
    renewal: impl Future<Output = ()>,
    stop: &Stop,
) -> End {
    let over = Stop::new();
    let (outbox, written) = mpsc::channel(AHEAD);
    let mut crew = Crew::new();
    crew.spawn(write(writer, written, over.clone()));
    let inbound = desk.inbound.clone();
    let mut session = Session {
        desk,
        urgent: VecDeque::new(),
        inbox: VecDeque::new(),
        receipts: FuturesUnordered::new(),
        pinged: None,
    };
    let mut beat = tokio::time::interval(heartbeat);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tokio::pin!(renewal);
    let end = loop {
        let ready = !session.urgent.is_empty() || session.desk.book.is_ready();
        let may_read = session.may_read();
        tokio::select! {
            () = stop.raised() => break End::Stopped,
            permit = outbox.reserve(), if ready => match permit {
                Ok(permit) => {
                    let next = session.urgent.pop_front();
                    if let Some(text) = next.or_else(|| session.desk.book.next(Instant::now())) {
                        permit.send(ws::Outgoing::Text(text));
                    }
                }
                Err(_) => break End::Broken,
            },
            permit = inbound.reserve(), if !session.inbox.is_empty() => match permit {
                Ok(permit) => {
                    if let Some(message) = session.inbox.pop_front() {
                        permit.send(message);
                    }
                }
                Err(_) => break End::Stopped,
            },
            Some(answers) = session.receipts.next(), if !session.receipts.is_empty() => {
                session.urgent.extend(answers.iter().map(Envelope::encode));
            }
            received = reader.next(), if may_read => {
                if let Some(end) = session.take(received, reader.farewell()) {
                    break end;
                }
            }
            letter = session.desk.outgoing.recv() => match letter {
                Some(letter) => session.desk.take(letter, true),
                None => break End::Stopped,
            },
            _ = beat.tick() => {
                if session.beat(heartbeat, &outbox) {
                    break End::Silent;
                }
            }
            () = renewal.as_mut() => break End::Renewed,
            () = outbox.closed() => break End::Broken,
        }
    };
    over.raise();
    crew.finish().await;
    end
}

impl Session<'_, '_> {
    /// Whether there is room for what the cloud says.
    fn may_read(&self) -> bool {
        self.inbox.len() < INBOX && self.receipts.len() < RECEIPTS
    }

    /// Takes what was read; tells how the session ends when that ends it.
    fn take(&mut self, received: Option<Result<Received, WsError>>, farewell: Option<&str>) -> Option<End> {
        match received {
            Some(Ok(Received::Data(bytes))) => {
                self.hear(&bytes);
                None
            }
            Some(Ok(Received::Pong(_))) => {
                if let Some(at) = self.pinged.take() {
                    self.desk.state.set_round_trip(at.elapsed());
                }
                None
            }
            Some(Err(WsError::TooLarge)) => Some(End::Oversized),
            Some(Err(error)) => {
                tracing::debug!(%error, "the connection failed");
                Some(End::Broken)
            }
            None => Some(match farewell.and_then(read_replaced) {
                Some((own, other)) => End::Replaced(own, other),
                None => End::Closed(farewell.and_then(read_farewell)),
            }),
        }
    }

    /// Says that the node is alive and asks the same of the cloud; `true` when that has not answered for two heartbeats.
    fn beat(&mut self, heartbeat: Duration, outbox: &mpsc::Sender<ws::Outgoing>) -> bool {
        if !self.may_read() {
            // The answer to a ping cannot be seen while the socket is left unread.
            self.pinged = None;
        }
        if self.pinged.is_some_and(|at| at.elapsed() > heartbeat.saturating_mul(2)) {
            return true;
        }
        self.desk.book.refresh(Instant::now());
        self.urgent.extend(encode_up(&Up::Keepalive).map(|envelope| envelope.encode()));
        if self.pinged.is_none() && outbox.try_send(ws::Outgoing::Ping(bytes::Bytes::new())).is_ok() {
            self.pinged = Some(Instant::now());
        }
        false
    }

    /// Takes a message of the cloud: answers go to whoever asked, everything else to the switchboard with a receipt.
    fn hear(&mut self, bytes: &[u8]) {
        let envelope = match Envelope::decode(bytes) {
            Ok(envelope) => envelope,
            Err(error) => {
                self.desk.complain(match error {
                    DecodeError::NotJson => "a message is not JSON",
                    DecodeError::NotAnObject => "a message is not a JSON object",
                    DecodeError::TooLarge => "a message is larger than allowed",
                    DecodeError::TooManyValues => "a message holds more values than allowed",
                });
                return;
            }
        };
        let id = envelope.header.msg_id.clone();
        let owed = acknowledgement(&envelope);
        match decode_down(envelope) {
            Down::Answer { to, answer } => {
                self.desk.book.answered(&to, answer);
                self.urgent.extend(owed.map(|envelope| envelope.encode()));
            }
            Down::Unknown { why, .. } => {
                // Unacknowledged it would hold back everything behind it in a genuine cloud, for ever.
                self.desk.complain(why);
                self.urgent.extend(owed.map(|envelope| envelope.encode()));
            }
            down => {
                let (receipt, stored) = Receipt::new();
                let of = id.clone();
                self.receipts.push(Box::pin(async move { settled(of, stored.await.ok(), owed) }));
                self.inbox.push_back(Inbound { id, down, receipt });
            }
        }
    }
}

/// A refusal goes before the acknowledgement: a kedge cloud then knows that nothing was stored, a genuine one, which
/// waits for the acknowledgement only, goes on with what comes behind.
fn settled(of: MessageId, outcome: Option<Outcome>, owed: Option<Envelope>) -> Vec<Envelope> {
    let refusal = match outcome {
        None => return Vec::new(),
        Some(Outcome::Stored) => None,
        Some(Outcome::Refused(text)) => encode_up(&Up::Failed { of, text }),
    };
    refusal.into_iter().chain(owed).collect()
}

async fn write(mut writer: Writer, mut outgoing: mpsc::Receiver<ws::Outgoing>, over: Stop) {
    while let Some(Some(message)) = over.or(outgoing.recv()).await {
        let sent = tokio::select! {
            sent = writer.send(message) => sent,
            () = over.lingered(FAREWELL) => return,
        };
        match sent {
            Ok(()) => {}
            Err(WsError::TooLarge) => {
                tracing::warn!("a message to the cloud is larger than allowed and is dropped");
            }
            Err(error) => {
                tracing::debug!(%error, "a message could not be written");
                return;
            }
        }
    }
    writer.close("the node disconnects").await;
}
