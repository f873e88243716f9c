//! The cloud end of every node: listeners, sessions, delivery, authorization, certificates over HTTPS.
//! `control` and `stream` hold a [`Hub`]; the switchboard takes [`Arrival`]s from it.

use crate::base::Gone;
use crate::model::{NodeName, ObjectKey, Revision, Status};
use crate::wire::{Down, Question};
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::sync::{mpsc, watch};

/// A message from a node, or a change of its connection.
#[derive(Debug)]
pub enum Arrival {
    Connected(NodeName),
    Disconnected(NodeName),
    /// `question.id` is the message's id, whether or not it expects an answer.
    Message {
        node: NodeName,
        question: Question,
    },
    /// The node has stored (or removed) this object: its acknowledgement arrived.
    Stored {
        node: NodeName,
        key: ObjectKey,
        /// Empty when the object carried none.
        uid: String,
        revision: Option<Revision>,
        deleted: bool,
    },
}

/// What one node's session is told to do.
#[derive(Debug)]
pub enum Order {
    /// Push, newest version per object wins, sent again until acknowledged; kept while the node is away only by the
    /// object's owner (`control` lists again on `Connected`).
    Tell { node: NodeName, down: Box<Down> },
    /// The node has been deleted: end its session.
    Forget { node: NodeName },
}

/// What is known of a connected node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeLink {
    pub remote: String,
    /// Milliseconds since the epoch.
    pub since: i64,
    pub queued: usize,
}

/// The handle; cheap to clone.
#[derive(Clone)]
pub struct Hub {
    orders: mpsc::Sender<Order>,
    nodes: watch::Receiver<BTreeMap<NodeName, NodeLink>>,
}

impl Hub {
    /// The handle and the ends that the hub serves; tests use it to stand in for the hub.
    pub fn channel(room: usize) -> (Hub, mpsc::Receiver<Order>, watch::Sender<BTreeMap<NodeName, NodeLink>>) {
        let (orders, served) = mpsc::channel(room);
        let (state, nodes) = watch::channel(BTreeMap::new());
        (Hub { orders, nodes }, served, state)
    }

    /// Tells a node; nothing happens when it is not connected.
    pub async fn tell(&self, node: NodeName, down: Down) -> Result<(), Gone> {
        self.orders.send(Order::Tell { node, down: Box::new(down) }).await.map_err(|_| Gone)
    }

    /// Answers a question in the form that it demands.
    pub async fn answer(
        &self,
        node: NodeName,
        to: Question,
        result: Result<Value, Status>,
    ) -> Result<(), Gone> {
        self.tell(node, Down::Reply { to, result }).await
    }

    /// Ends the session of a node that no longer exists.
    pub async fn forget(&self, node: NodeName) -> Result<(), Gone> {
        self.orders.send(Order::Forget { node }).await.map_err(|_| Gone)
    }

    /// The connected nodes; read it, never queue on it.
    pub fn nodes(&self) -> watch::Receiver<BTreeMap<NodeName, NodeLink>> {
        self.nodes.clone()
    }
}
