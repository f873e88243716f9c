//! What the control modules share: the API, the hub, and small indexes. Locks are short and never held across an await.

use super::super::hub::{Hub, KnownNode, NodeLink};
use super::super::kubernetes::{Kube, meta, revision};
use super::devices::index::Index as DeviceIndex;
use super::pod_index::PodIndex;
use super::records::Records;
use super::{Indexes, NodeNames, configs, nodes};
use crate::base::Gone;
use crate::model::{Kind, NodeName, ObjectKey, Revision};
use crate::wire::{Down, Origin, Verb};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What a module hears of a node.
#[derive(Clone, Debug)]
pub(super) enum Notice {
    /// The node is back: tell it what it is missing.
    Connected(NodeName),
    /// The node registers, so its store may be empty: tell it everything.
    Registers(NodeName),
}

impl Notice {
    pub(super) fn node(&self) -> &NodeName {
        match self {
            Notice::Connected(node) | Notice::Registers(node) => node,
        }
    }

    /// Whether what the node is known to have counts.
    pub(super) fn trusts_records(&self) -> bool {
        matches!(self, Notice::Connected(_))
    }
}

/// A module whose first list is over, so that what its index lacks does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    Nodes = 1,
    Pods = 2,
    Configs = 4,
    Devices = 8,
}

const ALL_LISTED: u8 = 15;

pub(super) struct Shared {
    pub kube: Kube,
    pub hub: Hub,
    pub records: Records,
    pub advertised: Option<String>,
    nodes: watch::Receiver<BTreeMap<NodeName, NodeLink>>,
    indexes: Indexes,
    node_index: Mutex<nodes::Index>,
    configs: Mutex<configs::Index>,
    devices: Mutex<DeviceIndex>,
    listed: watch::Sender<u8>,
}

impl Shared {
    pub(super) fn new(kube: Kube, hub: Hub, indexes: Indexes, advertised: Option<String>) -> Arc<Shared> {
        let nodes = hub.nodes();
        Arc::new(Shared {
            kube,
            hub,
            records: Records::default(),
            advertised,
            nodes,
            indexes,
            node_index: Mutex::default(),
            configs: Mutex::default(),
            devices: Mutex::default(),
            listed: watch::channel(0).0,
        })
    }

    pub(super) fn pods(&self) -> MutexGuard<'_, PodIndex> {
        self.indexes.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn node_index(&self) -> MutexGuard<'_, nodes::Index> {
        self.node_index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn configs(&self) -> MutexGuard<'_, configs::Index> {
        self.configs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn devices(&self) -> MutexGuard<'_, DeviceIndex> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A module's first list is over.
    pub(super) fn has_listed(&self, module: Listed) {
        if module == Listed::Nodes {
            self.node_names().listed = true;
        }
        self.listed.send_if_modified(|listed| {
            let before = *listed;
            *listed |= module as u8;
            *listed != before
        });
    }

    /// Waits until the index of one module is complete; cancel-safe.
    pub(super) async fn listed(&self, module: Listed) {
        let bit = module as u8;
        drop(self.listed.subscribe().wait_for(|listed| listed & bit != 0).await);
    }

    /// Waits until every index is complete; cancel-safe.
    pub(super) async fn all_listed(&self) {
        // The sender is this very struct, so it cannot be gone.
        drop(self.listed.subscribe().wait_for(|listed| *listed == ALL_LISTED).await);
    }

    /// Notes what is known of the Node of this name; `None`: there is none.
    pub(super) fn note_node(&self, name: &str, known: Option<KnownNode>) {
        self.node_names().note(name, known);
    }

    fn node_names(&self) -> MutexGuard<'_, NodeNames> {
        self.indexes.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_connected(&self, node: &NodeName) -> bool {
        self.nodes.borrow().contains_key(node)
    }

    /// When the node's present connection began, in milliseconds since the epoch.
    pub(super) fn connected_since(&self, node: &NodeName) -> Option<i64> {
        self.nodes.borrow().get(node).map(|link| link.since)
    }

    /// Whether the node is connected and compares digests.
    pub(super) fn compares(&self, node: &NodeName) -> bool {
        self.nodes.borrow().get(node).is_some_and(|link| link.digests)
    }

    /// Whether the node lacks this revision of the object.
    pub(super) fn owes(&self, notice: &Notice, uid: &str, current: Revision) -> bool {
        let stored = self.records.revision(notice.node(), uid);
        !notice.trusts_records() || stored.is_none_or(|stored| stored < current)
    }

    /// Tells a node what an object is now; nothing when the node is away, which is told on its return.
    pub(super) async fn push(
        &self,
        node: &NodeName,
        verb: Verb,
        kind: Kind,
        object: Value,
    ) -> Result<(), Gone> {
        if !self.is_connected(node) {
            return Ok(());
        }
        let down = Down::Object {
            verb,
            origin: origin(kind),
            key: key_of(kind, &object),
            revision: revision(&object),
            object,
        };
        self.hub.tell(node.clone(), down).await
    }

    /// Tells a node that an object is gone, with its last form.
    pub(super) async fn push_gone(&self, node: &NodeName, kind: Kind, object: Value) -> Result<(), Gone> {
        if !self.is_connected(node) {
            return Ok(());
        }
        let revision = Some(revision(&object)).filter(|revision| *revision != Revision::default());
        let down = Down::Delete { origin: origin(kind), key: key_of(kind, &object), revision, object };
        self.hub.tell(node.clone(), down).await
    }

    /// Takes an object from a node that still exists elsewhere and may come back in a form newer than this.
    pub(super) async fn push_withdrawn(
        &self,
        node: &NodeName,
        key: &ObjectKey,
        uid: &str,
        revision: Revision,
    ) -> Result<(), Gone> {
        let metadata = json!({"name": key.name, "namespace": key.namespace, "uid": uid,
            "resourceVersion": revision.to_string()});
        self.push_gone(node, key.kind, json!({"metadata": metadata})).await
    }

    /// Like [`Shared::push_gone`] when only the object's names are left.
    pub(super) async fn push_lost(&self, node: &NodeName, key: &ObjectKey, uid: &str) -> Result<(), Gone> {
        let mut metadata = json!({"name": key.name, "uid": uid});
        if let Some(namespace) = &key.namespace {
            metadata["namespace"] = json!(namespace);
        }
        self.push_gone(node, key.kind, json!({"metadata": metadata})).await
    }
}

fn key_of(kind: Kind, object: &Value) -> ObjectKey {
    let namespace = Some(meta(object, "namespace").to_owned()).filter(|namespace| !namespace.is_empty());
    ObjectKey { kind, namespace, name: meta(object, "name").to_owned() }
}

fn origin(kind: Kind) -> Origin {
    match kind {
        Kind::Device | Kind::DeviceModel => Origin::Device,
        _ => Origin::Edge,
    }
}

/// Takes the outcome of telling the hub: when it has ended, so has the process, and nobody is left to tell.
pub(super) fn told(_outcome: Result<(), Gone>) {}
