//! The sessions by node. Every session has a generation: an old one can neither end a new one nor report it gone.

use super::{NodeLink, Order};
use crate::base::{Mailbox, Reply, Stop};
use crate::model::NodeName;
use crate::wire::Down;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Orders that may wait for one session; it takes them out at once unless it is stuck.
pub(super) const ORDERS: usize = 1024;

/// A daemon that comes back so soon to a place that another one has taken lives beside it.
const RIVALRY: Duration = Duration::from_secs(600);

/// How long a daemon has to answer when somebody else asks for its name; one that lives does so in a round trip.
const ANSWER: Duration = Duration::from_secs(3);

/// Asks a session whether its node answers: the reply comes with the node's next answer to a ping.
pub(super) type Pulse = Reply<()>;

/// The daemon behind a session.
#[derive(Clone, Debug)]
pub(super) struct Daemon {
    /// What tells it apart: its own mark, or its address where it has none.
    pub instance: String,
    pub remote: SocketAddr,
    /// The fingerprint of the key in its certificate.
    pub key: String,
}

/// One session as others see it.
#[derive(Clone)]
pub(super) struct Entry {
    pub generation: u64,
    pub daemon: Daemon,
    /// Where the other daemon is that has taken its place.
    pub successor: Arc<OnceLock<SocketAddr>>,
    pub orders: mpsc::Sender<Box<Down>>,
    pub pulse: Mailbox<Pulse>,
    /// Asks the session to end.
    pub stop: Stop,
    /// Raised when it has ended.
    pub ended: Stop,
}

/// All sessions; cheap to clone.
#[derive(Clone)]
pub(super) struct Registry {
    sessions: Arc<Mutex<Sessions>>,
    links: Arc<watch::Sender<BTreeMap<NodeName, NodeLink>>>,
    limit: usize,
}

#[derive(Default)]
struct Sessions {
    generation: u64,
    most: usize,
    by_node: BTreeMap<NodeName, Entry>,
    /// Daemons whose place another one has taken, and when.
    replaced: BTreeMap<NodeName, (String, Instant)>,
}

impl Sessions {
    /// Whether two daemons live under the name: one takes the place of another that had taken its own.
    fn is_rivalry(&mut self, node: &NodeName, new: &Daemon, old: &Daemon) -> bool {
        if new.instance == old.instance {
            return false;
        }
        let gone = self.replaced.insert(node.clone(), (old.instance.clone(), Instant::now()));
        gone.is_some_and(|(instance, at)| instance == new.instance && at.elapsed() < RIVALRY)
    }
}

/// A session that was let in.
pub(super) struct Entered {
    pub entry: Entry,
    /// The node's session until now, no longer the present one.
    pub previous: Option<Entry>,
    /// The daemon with which this one takes turns.
    pub rival: Option<Daemon>,
}

impl Registry {
    /// At most `limit` nodes have a session at a time.
    pub fn new(links: watch::Sender<BTreeMap<NodeName, NodeLink>>, limit: usize) -> Registry {
        Registry { sessions: Arc::default(), links: Arc::new(links), limit }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the node may have a session; one that has one may replace it.
    pub fn has_room(&self, node: &NodeName) -> bool {
        let sessions = self.sessions();
        sessions.by_node.len() < self.limit || sessions.by_node.contains_key(node)
    }

    /// The most sessions that there were at a time: so many nodes may come back.
    pub fn most(&self) -> usize {
        self.sessions().most
    }

    /// Registers a session. `None` when the limit is reached.
    pub fn enter(
        &self,
        node: &NodeName,
        daemon: Daemon,
        (orders, pulse): (mpsc::Sender<Box<Down>>, Mailbox<Pulse>),
        stop: Stop,
        link: NodeLink,
    ) -> Option<Entered> {
        let mut sessions = self.sessions();
        if sessions.by_node.len() >= self.limit && !sessions.by_node.contains_key(node) {
            return None;
        }
        sessions.generation += 1;
        let entry = Entry {
            generation: sessions.generation,
            daemon: daemon.clone(),
            successor: Arc::default(),
            orders,
            pulse,
            stop,
            ended: Stop::new(),
        };
        let previous = sessions.by_node.insert(node.clone(), entry.clone());
        let mut rival = None;
        if let Some(previous) = &previous
            && previous.daemon.instance != daemon.instance
        {
            // Heard by a daemon that lives; one that was started anew or has lost its connection hears nothing.
            let _known = previous.successor.set(daemon.remote);
            rival = sessions.is_rivalry(node, &daemon, &previous.daemon).then(|| previous.daemon.clone());
        }
        sessions.most = sessions.most.max(sessions.by_node.len());
        self.links.send_modify(|links| {
            links.insert(node.clone(), link);
        });
        Some(Entered { entry, previous, rival })
    }

    /// The daemon with another key that has the node's name and answers now. A session whose daemon does not answer is
    /// what a daemon that died, or a line that broke, has left behind: it holds no name.
    pub async fn living(&self, node: &str, key: &str) -> Option<Daemon> {
        let node = NodeName::new(node).ok()?;
        let entry = self.sessions().by_node.get(&node).filter(|entry| entry.daemon.key != key).cloned()?;
        let answered = tokio::time::timeout(ANSWER, entry.pulse.ask(|pulse| pulse)).await;
        matches!(answered, Ok(Ok(()))).then_some(entry.daemon)
    }

    /// Whether this session is still the node's present one.
    pub fn is_present(&self, node: &NodeName, generation: u64) -> bool {
        self.sessions().by_node.get(node).is_some_and(|entry| entry.generation == generation)
    }

    /// Removes a session unless a newer one has taken its place.
    pub fn leave(&self, node: &NodeName, generation: u64) {
        let mut sessions = self.sessions();
        if sessions.by_node.get(node).is_some_and(|entry| entry.generation == generation) {
            sessions.by_node.remove(node);
            sessions.replaced.remove(node);
            self.links.send_modify(|links| {
                links.remove(node);
            });
        }
    }

    /// Shows how much waits for the node.
    pub fn show_queued(&self, node: &NodeName, generation: u64, queued: usize) {
        if self.is_present(node, generation) {
            self.links.send_if_modified(|links| match links.get_mut(node) {
                Some(link) if link.queued != queued => {
                    link.queued = queued;
                    true
                }
                _ => false,
            });
        }
    }

    /// Hands an order to the node's session. Never waits: a session that does not keep up is ended, and the node's
    /// owner lists everything again when it is back.
    pub fn carry_out(&self, order: Order) {
        match order {
            Order::Tell { node, down } => {
                let Some(entry) = self.sessions().by_node.get(&node).cloned() else { return };
                if let Err(mpsc::error::TrySendError::Full(_)) = entry.orders.try_send(down) {
                    tracing::warn!(%node, "the session does not keep up and is ended");
                    entry.stop.raise();
                }
            }
            Order::Forget { node } => {
                if let Some(entry) = self.sessions().by_node.get(&node) {
                    entry.stop.raise();
                }
            }
        }
    }

    /// Removes all sessions, after a restart, and returns their nodes.
    pub fn clear(&self) -> Vec<NodeName> {
        let nodes = std::mem::take(&mut self.sessions().by_node).into_keys().collect();
        self.links.send_modify(BTreeMap::clear);
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::mailbox;

    #[tokio::test(start_paused = true)]
    async fn a_daemon_holds_its_name_as_long_as_it_answers() {
        let registry = Registry::new(watch::channel(BTreeMap::new()).0, 1);
        let node = NodeName::new("n1").unwrap();
        assert!(registry.living("n1", "a").await.is_none(), "nobody has it");
        let link = NodeLink { remote: String::new(), since: 0, queued: 0, digests: false };
        let daemon =
            Daemon { instance: "i".to_owned(), remote: ([127, 0, 0, 1], 1).into(), key: "a".to_owned() };
        let (pulse, mut asked) = mailbox(1);
        let _entered = registry.enter(&node, daemon, (mpsc::channel(1).0, pulse), Stop::new(), link).unwrap();
        assert!(registry.living("n1", "a").await.is_none(), "it is its own");
        assert!(registry.living("n1", "b").await.is_none(), "its daemon does not answer");
        while asked.try_recv().is_ok() {}
        let answering = async {
            if let Some(pulse) = asked.recv().await {
                pulse.send(());
            }
        };
        let (living, ()) = tokio::join!(registry.living("n1", "b"), answering);
        assert_eq!(living.unwrap().key, "a");
        drop(asked);
        assert!(registry.living("n1", "b").await.is_none(), "its session is over");
    }

    #[test]
    fn an_old_session_cannot_remove_a_new_one() {
        let (links, seen) = watch::channel(BTreeMap::new());
        let registry = Registry::new(links, 1);
        let node = NodeName::new("n1").unwrap();
        let link = NodeLink { remote: String::new(), since: 0, queued: 0, digests: false };
        let daemon = |instance: &str| Daemon {
            instance: instance.to_owned(),
            remote: ([127, 0, 0, 1], u16::from(instance.as_bytes()[0])).into(),
            key: format!("key of {instance}"),
        };
        let ends = || (mpsc::channel(1).0, mailbox(1).0);
        let enter =
            |name: &str| registry.enter(&node, daemon(name), ends(), Stop::new(), link.clone()).unwrap();
        let first = enter("a");
        let second = enter("a");
        assert!(first.previous.is_none() && second.rival.is_none());
        let (old, new) = (first.entry, second.entry);
        assert_eq!(second.previous.unwrap().generation, old.generation);
        assert!(old.successor.get().is_none(), "it is the same daemon");
        registry.leave(&node, old.generation);
        assert!(registry.is_present(&node, new.generation));
        assert_eq!(seen.borrow().len(), 1);
        let other = NodeName::new("n2").unwrap();
        assert!(registry.has_room(&node) && !registry.has_room(&other));
        let late = registry.enter(&other, daemon("o"), ends(), Stop::new(), link.clone());
        assert!(late.is_none());
        registry.leave(&node, new.generation);
        assert!(registry.has_room(&NodeName::new("n2").unwrap()));
        assert!(seen.borrow().is_empty());
        // A daemon that is started anew is another one, and the one before does not come back.
        for name in ["a", "b", "c", "d"] {
            assert!(enter(name).rival.is_none(), "{name}");
        }
        // Two that live take turns.
        let back = enter("c");
        assert_eq!(back.rival.unwrap().instance, "d");
        assert_eq!(back.previous.unwrap().successor.get(), Some(&daemon("c").remote));
        let again = enter("d");
        assert_eq!(again.rival.unwrap().remote, daemon("c").remote);
        registry.leave(&node, again.entry.generation);
        enter("d");
        assert!(enter("c").rival.is_none(), "a long time may lie between");
    }
}
