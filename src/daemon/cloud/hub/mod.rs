//! The cloud end of every node: listeners, sessions, delivery, authorization, certificates over HTTPS.
//! `control` and `stream` hold a [`Hub`]; the switchboard takes [`Arrival`]s from it.

mod authz;
mod certs;
mod comeback;
mod delivery;
mod refusals;
mod registry;
mod releases;
mod reports;
mod server;
mod session;

pub use authz::is_node;
pub use refusals::Refusals;
pub use releases::Releases;

use crate::base::{BoxFuture, Failure, Gone, Module};
use crate::model::{NodeName, ObjectKey, Revision, Status};
use crate::pki::{Authority, Identity, TokenBook, TokenError};
use crate::wire::{Down, Question};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Orders and arrivals that may wait.
const ROOM: usize = 1024;

/// What the cloud proves itself with towards nodes, and which nodes it believes.
#[derive(Clone)]
pub struct Trust {
    /// Signs node certificates; nodes get its certificate when they join.
    pub authority: Arc<Authority>,
    /// Authorities whose node certificates are accepted, as PEM; `authority` is one of them.
    pub accepted_pem: String,
    /// The certificate that the cloud shows; it names every address under which edges reach it.
    pub identity: Identity,
}

impl Trust {
    /// Only certificates of this authority are accepted.
    pub fn new(authority: Arc<Authority>, identity: Identity) -> Trust {
        Trust { accepted_pem: authority.cert_pem(), authority, identity }
    }
}

/// What the hub has to know of a Node that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownNode {
    /// The fingerprint of its machine; `None` until that has reported.
    pub machine: Option<String>,
    /// Whether it has the role of an edge node.
    pub edge: bool,
    pub ready: bool,
    /// Whether a kubelet that is no edge daemon's reports under it.
    pub foreign: bool,
}

/// The cloud has just started and does not know the Nodes yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotYet;

/// Finds the Node of a name; `None` when there is none.
pub type NodeBook = Arc<dyn Fn(&str) -> Result<Option<KnownNode>, NotYet> + Send + Sync>;

/// Counts one use of a token, by its id and its holder.
pub type Counting = Arc<dyn Fn(String, String) -> BoxFuture<'static, Result<(), TokenError>> + Send + Sync>;

/// What the hub is told once.
pub struct Config {
    /// Where edges connect; KubeEdge's port is 10000.
    pub websocket: SocketAddr,
    /// Where nodes get their certificates; KubeEdge's port is 10002.
    pub https: SocketAddr,
    /// What the hub shows, signs with and accepts; a change holds from the next handshake on.
    pub trust: watch::Receiver<Trust>,
    /// The tokens that were given out.
    pub tokens: TokenBook,
    /// Counts the uses of tokens where every replica of the cloud sees them; `None`: in the book.
    pub count: Option<Counting>,
    /// How long node certificates are valid.
    pub certificate_life: Duration,
    pub node_limit: usize,
    /// Whether nodes are held to what is theirs; otherwise what would be refused is logged only.
    pub authorize: bool,
    /// A node that says nothing for so long is disconnected.
    pub keepalive: Duration,
    /// Where the binaries lie that nodes may upgrade to.
    pub releases: PathBuf,
    /// The Node of this name.
    pub known_node: NodeBook,
}

impl Config {
    /// KubeEdge's defaults.
    pub fn new(trust: watch::Receiver<Trust>, tokens: TokenBook) -> Config {
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        Config {
            websocket: any(10000),
            https: any(10002),
            trust,
            tokens,
            count: None,
            certificate_life: Duration::from_secs(365 * 86_400),
            node_limit: 500,
            authorize: true,
            keepalive: Duration::from_secs(30),
            releases: PathBuf::from("/var/lib/kedge/releases"),
            known_node: Arc::new(|_| Ok(None)),
        }
    }
}

/// Where the hub listens; differs from the configuration where that asked for port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Addresses {
    pub websocket: SocketAddr,
    pub https: SocketAddr,
}

/// Binds the ports and makes the hub: its handle, what nodes say, and the module to run.
pub fn new(config: Config) -> Result<(Hub, mpsc::Receiver<Arrival>, impl Module), Failure> {
    let (mut hub, orders, links) = Hub::channel(ROOM);
    let (arrivals, arriving) = mpsc::channel(ROOM);
    let registry = registry::Registry::new(links, config.node_limit);
    hub.refusals = Refusals::new(config.authorize);
    let shared =
        session::Shared { registry, arrivals, keepalive: config.keepalive, refusals: hub.refusals.clone() };
    let (module, addresses) = server::HubModule::bind(config, orders, shared, hub.releases.clone())?;
    hub.addresses = Some(addresses);
    Ok((hub, arriving, module))
}

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
    /// Whether the node compares digests of what it holds.
    pub digests: bool,
}

/// The handle; cheap to clone.
#[derive(Clone)]
pub struct Hub {
    orders: mpsc::Sender<Order>,
    nodes: watch::Receiver<BTreeMap<NodeName, NodeLink>>,
    addresses: Option<Addresses>,
    refusals: Refusals,
    releases: Releases,
}

impl Hub {
    /// The handle and the ends that the hub serves; tests use it to stand in for the hub.
    pub fn channel(room: usize) -> (Hub, mpsc::Receiver<Order>, watch::Sender<BTreeMap<NodeName, NodeLink>>) {
        let (orders, served) = mpsc::channel(room);
        let (state, nodes) = watch::channel(BTreeMap::new());
        (
            Hub {
                orders,
                nodes,
                addresses: None,
                refusals: Refusals::default(),
                releases: Releases::default(),
            },
            served,
            state,
        )
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

    /// What nodes were refused.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// What nodes were given to upgrade to.
    pub fn releases(&self) -> &Releases {
        &self.releases
    }

    /// Where the hub listens; `None` for a handle without a hub.
    pub fn addresses(&self) -> Option<Addresses> {
        self.addresses
    }

    /// The connected nodes; read it, never queue on it.
    pub fn nodes(&self) -> watch::Receiver<BTreeMap<NodeName, NodeLink>> {
        self.nodes.clone()
    }
}
