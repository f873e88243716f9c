//! The edge's one connection to the cloud: session, reports, questions, receipts.
//! Other edge modules hold an [`Uplink`]; the switchboard takes [`Inbound`] messages from it.

mod book;
mod counter;
mod enrol;
mod module;
mod renewal;
mod session;
#[cfg(test)]
mod tests;

pub use counter::{Counter, Shown};
pub use enrol::{Enrolled, Enrolment, Files, adopt_renewal, enrol, own_papers, request_renewal};

use crate::base::{Failure, Gone, Module, now_ms, uuid4};
use crate::link::Endpoint;
use crate::model::NodeName;
use crate::wire::{Answer, Down, MessageId, Up};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Letters and messages that may wait.
const ROOM: usize = 256;
/// KubeEdge's project of edges that have none.
pub const DEFAULT_PROJECT: &str = "e632aba927ea4ac2b575ec1603d56f10";

/// What the uplink is told once.
#[derive(Clone, Debug)]
pub struct Config {
    pub node: NodeName,
    /// `host:port` where the cloud takes edges; port 10000 where none is given.
    pub websocket: String,
    /// `https://host:port` where the cloud gives certificates; port 10002 where none is given.
    pub https: String,
    pub project: String,
    pub files: Files,
    /// The join token; not needed once the node has a certificate.
    pub token: Option<String>,
    pub heartbeat: Duration,
    /// Whether the certificate is renewed before it expires.
    pub rotate: bool,
    /// Whether a kedge cloud may ask for what the node holds; whoever serves [`Inbound`] then answers the question.
    pub digests: bool,
    /// What tells this daemon apart from every other one.
    pub instance: String,
}

impl Config {
    /// KubeEdge's defaults for a node and a cloud.
    pub fn new(node: NodeName, websocket: impl Into<String>, https: impl Into<String>) -> Config {
        Config {
            node,
            websocket: websocket.into(),
            https: https.into(),
            project: DEFAULT_PROJECT.to_owned(),
            files: Files::default(),
            token: None,
            heartbeat: Duration::from_secs(15),
            rotate: true,
            digests: true,
            instance: uuid4(),
        }
    }

    /// The part that [`enrol()`] needs.
    pub fn enrolment(&self) -> Enrolment {
        Enrolment {
            node: self.node.clone(),
            https: self.https.clone(),
            token: self.token.clone(),
            files: self.files.clone(),
        }
    }
}

/// Makes the uplink: its handle, what the cloud says, and the module to run.
pub fn new(config: Config) -> Result<(Uplink, mpsc::Receiver<Inbound>, impl Module), Failure> {
    let endpoint = Endpoint::parse(&config.websocket, 10000).ok_or_else(|| {
        Failure::new("KE-LINK-001", format!("the cloud's address {:?} cannot be used", config.websocket))
            .because("it is not host:port")
            .fix("write it as cloud.example:10000")
            .exit(crate::base::Exit::Configuration)
    })?;
    let (mut uplink, outgoing, link) = Uplink::channel(ROOM);
    let (info, infos) = watch::channel(LinkInfo::default());
    uplink.info = infos;
    let (inbound, messages) = mpsc::channel(ROOM);
    let state = LinkState { link, info };
    let book = book::Book::default();
    let module = module::UplinkModule { config, endpoint, outgoing, inbound, state, book };
    Ok((uplink, messages, module))
}

/// What is known of the link, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkInfo {
    pub link: Link,
    /// The cloud's address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote: String,
    /// Milliseconds since the epoch at which the link came up or went down.
    pub since: i64,
    /// Microseconds to the cloud and back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip: Option<u64>,
    /// Why there is no connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The code of that failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The other daemon that has this node's name and certificate, if one has shown itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rival: Option<Rival>,
}

/// Another daemon that took this one's place at the cloud.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rival {
    /// This daemon's address as the cloud saw it.
    pub own: SocketAddr,
    /// The other's.
    pub other: SocketAddr,
    /// Milliseconds since the epoch of the last time.
    pub at: i64,
    pub times: u64,
}

/// The writing end of the link's state.
struct LinkState {
    link: watch::Sender<Link>,
    info: watch::Sender<LinkInfo>,
}

impl LinkState {
    fn set(&self, link: Link) {
        let changed = self.link.send_if_modified(|present| std::mem::replace(present, link) != link);
        if changed {
            self.info.send_modify(|info| {
                let rival = info.rival.take();
                *info = LinkInfo { link, since: now_ms(), rival, ..LinkInfo::default() };
            });
        }
    }

    fn connected(&self, remote: String) {
        self.set(Link::Up);
        self.info.send_modify(|info| info.remote = remote);
    }

    fn failed(&self, failure: &Failure) {
        self.info.send_modify(|info| {
            info.error = Some(failure.to_string());
            info.code = Some(failure.code);
            info.fix = (!failure.fix.is_empty()).then(|| failure.fix.clone());
        });
    }

    /// Notes that another daemon has taken this one's place; the first time is told in the log too.
    fn replaced(&self, own: SocketAddr, other: SocketAddr) {
        self.info.send_modify(|info| {
            let times = info.rival.as_ref().map_or(0, |rival| rival.times) + 1;
            info.rival = Some(Rival { own, other, at: now_ms(), times });
            if times == 1 {
                tracing::warn!(
                    code = "KE-DUP-003",
                    %own,
                    %other,
                    fix = "stop one of the two; a machine of its own joins under a name of its own",
                    "another daemon has this node's name and certificate"
                );
            }
        });
    }

    fn set_round_trip(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.info.send_modify(|info| info.round_trip = Some(micros));
    }
}

/// Whether the cloud can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Link {
    #[default]
    Down,
    Up,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("the cloud cannot be reached")]
    Offline,
    #[error("the cloud did not answer in time")]
    TimedOut,
}

/// Names a report so that a newer one replaces an older one that was not sent yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReportKey(pub String);

/// Proof that a message was stored; sending it acknowledges the message. Dropped, the cloud sends again.
#[derive(Debug)]
pub struct Receipt(Option<oneshot::Sender<Outcome>>);

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Stored,
    /// It can never be stored, and why.
    Refused(String),
}

impl Receipt {
    /// A receipt and what hears of it.
    pub fn new() -> (Receipt, oneshot::Receiver<Outcome>) {
        let (sender, receiver) = oneshot::channel();
        (Receipt(Some(sender)), receiver)
    }

    /// Acknowledges; call it only after the store has committed.
    pub fn stored(self) {
        self.settle(Outcome::Stored);
    }

    /// Tells the cloud that the message can never be stored, so that it is neither sent again nor taken for stored.
    pub fn refused(self, why: impl Into<String>) {
        self.settle(Outcome::Refused(why.into()));
    }

    fn settle(mut self, outcome: Outcome) {
        if let Some(sender) = self.0.take() {
            // Nobody listening means that the session has ended; the cloud sends again.
            let _unheard = sender.send(outcome);
        }
    }
}

/// A message from the cloud with its receipt.
#[derive(Debug)]
pub struct Inbound {
    pub id: MessageId,
    pub down: Down,
    pub receipt: Receipt,
}

/// What the session sends for others.
#[derive(Debug)]
pub enum Outgoing {
    Report { key: ReportKey, up: Up, confirmed: Option<oneshot::Sender<Answer>> },
    Ask { up: Up, answer: oneshot::Sender<Answer> },
}

/// The handle that other modules hold; cheap to clone.
#[derive(Clone)]
pub struct Uplink {
    outgoing: mpsc::Sender<Outgoing>,
    link: watch::Receiver<Link>,
    info: watch::Receiver<LinkInfo>,
}

impl Uplink {
    /// The handle and the ends that the session serves; tests use it to stand in for the cloud.
    pub fn channel(room: usize) -> (Uplink, mpsc::Receiver<Outgoing>, watch::Sender<Link>) {
        let (outgoing, served) = mpsc::channel(room);
        let (state, link) = watch::channel(Link::Down);
        (Uplink { outgoing, link, info: watch::channel(LinkInfo::default()).1 }, served, state)
    }

    /// Sends a report; the latest per key wins while it is waiting. It is sent again after a reconnect until the cloud
    /// has answered it. The returned receiver gets the answer (drop it when nobody needs it).
    pub async fn report(&self, key: ReportKey, up: Up) -> Result<oneshot::Receiver<Answer>, Gone> {
        let (sender, receiver) = oneshot::channel();
        let letter = Outgoing::Report { key, up, confirmed: Some(sender) };
        self.outgoing.send(letter).await.map_err(|_| Gone)?;
        Ok(receiver)
    }

    /// Asks the cloud; fails at once when the link is down.
    pub async fn ask(&self, up: Up, limit: Duration) -> Result<Answer, AskError> {
        if *self.link.borrow() == Link::Down {
            return Err(AskError::Offline);
        }
        let (sender, receiver) = oneshot::channel();
        self.outgoing.send(Outgoing::Ask { up, answer: sender }).await.map_err(|_| AskError::Offline)?;
        match tokio::time::timeout(limit, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(AskError::Offline),
            Err(_) => Err(AskError::TimedOut),
        }
    }

    /// The state of the link; read it, never queue on it.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// What `kedge status` shows of the link.
    pub fn info(&self) -> watch::Receiver<LinkInfo> {
        self.info.clone()
    }
}
