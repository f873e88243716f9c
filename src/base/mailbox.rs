//! Commands with an answer between modules: a bounded queue whose letters carry their return envelope.
//! The receiving end outlives restarts of its module.

use tokio::sync::{mpsc, oneshot};

/// The module behind a mailbox ended or restarted before it answered, or its queue stayed full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the module did not answer")]
pub struct Gone;

/// Where the answer to one letter goes; dropping it tells the asker `Gone`.
pub struct Reply<A>(oneshot::Sender<A>);

impl<A> Reply<A> {
    /// Sends the answer; it is discarded when nobody waits any more.
    pub fn send(self, answer: A) {
        drop(self.0.send(answer));
    }
}

/// The sending end.
pub struct Mailbox<M>(mpsc::Sender<M>);

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Mailbox(self.0.clone())
    }
}

/// The receiving end.
pub type Mail<M> = mpsc::Receiver<M>;

/// Makes a mailbox that holds at most `room` letters.
pub fn mailbox<M>(room: usize) -> (Mailbox<M>, Mail<M>) {
    let (sender, receiver) = mpsc::channel(room);
    (Mailbox(sender), receiver)
}

impl<M> Mailbox<M> {
    /// Puts a letter in, waiting for room.
    pub async fn put(&self, letter: M) -> Result<(), Gone> {
        self.0.send(letter).await.map_err(|_| Gone)
    }

    /// Puts a letter in if there is room.
    pub fn try_put(&self, letter: M) -> Result<(), Gone> {
        self.0.try_send(letter).map_err(|_| Gone)
    }

    /// Puts a letter in and waits for its answer; the caller sets the time limit.
    pub async fn ask<A>(&self, letter: impl FnOnce(Reply<A>) -> M) -> Result<A, Gone> {
        let (sender, receiver) = oneshot::channel();
        self.put(letter(Reply(sender))).await?;
        receiver.await.map_err(|_| Gone)
    }
}
