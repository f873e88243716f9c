//! The sessions by node. Every session has a generation: an old one can neither end a new one nor report it gone.

use super::{NodeLink, Order};
use crate::base::Stop;
use crate::model::NodeName;
use crate::wire::Down;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

/// Orders that may wait for one session; it takes them out at once unless it is stuck.
pub(super) const ORDERS: usize = 1024;

/// One session as others see it.
#[derive(Clone)]
pub(super) struct Entry {
    pub generation: u64,
    pub orders: mpsc::Sender<Box<Down>>,
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

    /// Registers a session; the previous one of the node is returned and no longer the present one. `None` when
    /// the limit is reached.
    pub fn enter(
        &self,
        node: &NodeName,
        orders: mpsc::Sender<Box<Down>>,
        stop: Stop,
        link: NodeLink,
    ) -> Option<(Entry, Option<Entry>)> {
        let mut sessions = self.sessions();
        if sessions.by_node.len() >= self.limit && !sessions.by_node.contains_key(node) {
            return None;
        }
        sessions.generation += 1;
        let entry = Entry { generation: sessions.generation, orders, stop, ended: Stop::new() };
        let previous = sessions.by_node.insert(node.clone(), entry.clone());
        sessions.most = sessions.most.max(sessions.by_node.len());
        self.links.send_modify(|links| {
            links.insert(node.clone(), link);
        });
        Some((entry, previous))
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

    #[test]
    fn an_old_session_cannot_remove_a_new_one() {
        let (links, seen) = watch::channel(BTreeMap::new());
        let registry = Registry::new(links, 1);
        let node = NodeName::new("n1").unwrap();
        let link = NodeLink { remote: String::new(), since: 0, queued: 0, digests: false };
        let enter = || registry.enter(&node, mpsc::channel(1).0, Stop::new(), link.clone()).unwrap();
        let (old, none) = enter();
        let (new, previous) = enter();
        assert!(none.is_none());
        assert_eq!(previous.unwrap().generation, old.generation);
        registry.leave(&node, old.generation);
        assert!(registry.is_present(&node, new.generation));
        assert_eq!(seen.borrow().len(), 1);
        let other = NodeName::new("n2").unwrap();
        assert!(registry.has_room(&node) && !registry.has_room(&other));
        assert!(registry.enter(&other, mpsc::channel(1).0, Stop::new(), link.clone()).is_none());
        registry.leave(&node, new.generation);
        assert!(registry.has_room(&NodeName::new("n2").unwrap()));
        assert!(seen.borrow().is_empty());
    }
}
