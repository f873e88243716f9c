//! The edge's one connection to the cloud: session, reports, questions, receipts.
//! Other edge modules hold an [`Uplink`]; the switchboard takes [`Inbound`] messages from it.

use crate::base::Gone;
use crate::wire::{Answer, Down, MessageId, Up};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

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
pub struct Receipt(Option<oneshot::Sender<()>>);

impl Receipt {
    /// A receipt and what hears of it.
    pub fn new() -> (Receipt, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Receipt(Some(sender)), receiver)
    }

    /// Acknowledges; call it only after the store has committed.
    pub fn stored(mut self) {
        if let Some(sender) = self.0.take() {
            // Nobody listening means that the session has ended; the cloud sends again.
            let _unheard = sender.send(());
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
}

impl Uplink {
    /// The handle and the ends that the session serves; tests use it to stand in for the cloud.
    pub fn channel(room: usize) -> (Uplink, mpsc::Receiver<Outgoing>, watch::Sender<Link>) {
        let (outgoing, served) = mpsc::channel(room);
        let (state, link) = watch::channel(Link::Down);
        (Uplink { outgoing, link }, served, state)
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
}
