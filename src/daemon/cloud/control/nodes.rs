//! Nodes to themselves: each node is told its own Node object when it connects and when metadata or spec change.
//! A deleted Node ends its session and its records.

use super::super::hub::KnownNode;
use super::super::kubernetes::{Event, Resource, Scope, follow, meta, revision};
use super::pods::{gone, watch_ended};
use super::shared::{Listed, Notice, Shared};
use crate::base::{BoxFuture, Crew, Failure, Gone, Mail, Module, Ready, Stop};
use crate::model::digest::ContentHash;
use crate::model::machine::fingerprint;
use crate::model::{Kind, NodeName, Revision};
use crate::wire::Verb;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// What marks an edge node; an edgecore registers with it too.
const EDGE_ROLE: &str = "node-role.kubernetes.io/edge";
const EVENTS: usize = 64;
const GET_LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Nodes {
    pub shared: Arc<Shared>,
    pub mail: Mail<Notice>,
}

/// A Node in a few words.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub uid: String,
    pub revision: Revision,
    pub content: ContentHash,
    seen: bool,
}

/// All Nodes.
pub(super) type Index = HashMap<NodeName, Entry>;

impl Module for Nodes {
    fn name(&self) -> &'static str {
        "nodes"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut crew = Crew::new();
            let (sender, mut events) = mpsc::channel(EVENTS);
            let kube = self.shared.kube.clone();
            let scope = Scope { resource: Resource::NODE, selector: "" };
            crew.spawn(async move { drop(follow(kube, scope, sender).await) });
            let mut known = false;
            loop {
                tokio::select! {
                    biased;
                    () = stop.raised() => return Ok(()),
                    event = events.recv() => {
                        let event = event.ok_or_else(|| watch_ended("nodes"))?;
                        let listed = matches!(event, Event::Listed);
                        stop.or(self.event(event, known)).await.unwrap_or(Ok(())).map_err(gone)?;
                        if listed {
                            known = true;
                            self.shared.has_listed(Listed::Nodes);
                            ready.set();
                        }
                    }
                    Some(notice) = self.mail.recv() => {
                        stop.or(self.restate(&notice)).await.unwrap_or(Ok(())).map_err(gone)?;
                    }
                }
            }
        })
    }
}

/// What the hub has to know of a Node.
fn known_of(node: &Value) -> KnownNode {
    let text = |field: &str| {
        let info = node.pointer("/status/nodeInfo");
        info.and_then(|info| info.get(field)).and_then(Value::as_str).unwrap_or_default()
    };
    let kubelet = text("kubeletVersion");
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let edge = labels.is_some_and(|labels| labels.contains_key(EDGE_ROLE));
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().any(|condition| {
        let said = |field: &str| condition.get(field).and_then(Value::as_str);
        said("type") == Some("Ready") && said("status") == Some("True")
    });
    KnownNode {
        machine: fingerprint(text("machineID"), text("systemUUID")),
        edge,
        ready,
        foreign: !edge && !kubelet.is_empty() && !kubelet.contains("kubeedge"),
    }
}

impl Nodes {
    /// `known` once the first list is over: what that brings, nodes are told as they connect.
    async fn event(&self, event: Event, known: bool) -> Result<(), Gone> {
        match event {
            Event::Listing => self.shared.node_index().values_mut().for_each(|entry| entry.seen = false),
            Event::Applied { object, .. } => {
                let Ok(node) = NodeName::new(meta(&object, "name")) else { return Ok(()) };
                let content = ContentHash::of(&object);
                let uid = meta(&object, "uid").to_owned();
                let entry = Entry { uid, revision: revision(&object), content, seen: true };
                self.shared.note_node(node.as_str(), Some(known_of(&object)));
                let before = self.shared.node_index().insert(node.clone(), entry);
                if known && before.is_none_or(|old| old.content != content) {
                    self.shared.push(&node, Verb::Update, Kind::Node, object).await?;
                }
            }
            Event::Deleted(object) => {
                let Ok(node) = NodeName::new(meta(&object, "name")) else { return Ok(()) };
                self.shared.node_index().remove(&node);
                self.lost(node).await?;
            }
            Event::Listed => {
                let lost: Vec<(NodeName, Entry)> =
                    self.shared.node_index().extract_if(|_, entry| !entry.seen).collect();
                for (node, _) in lost {
                    self.lost(node).await?;
                }
                // Records of nodes that were deleted while no cloud ran.
                for node in self.shared.records.nodes() {
                    if !self.shared.node_index().contains_key(&node) && !self.shared.is_connected(&node) {
                        self.shared.records.forget(&node);
                    }
                }
            }
        }
        Ok(())
    }

    async fn lost(&self, node: NodeName) -> Result<(), Gone> {
        self.shared.note_node(node.as_str(), None);
        self.shared.records.forget(&node);
        self.shared.hub.forget(node).await
    }

    async fn restate(&self, notice: &Notice) -> Result<(), Gone> {
        let (node, kube) = (notice.node(), &self.shared.kube);
        match kube.outlast(GET_LIMIT, || kube.get(Resource::NODE, None, node.as_str())).await {
            Ok(object) => self.shared.push(node, Verb::Update, Kind::Node, object).await,
            Err(status) => {
                if !status.is_not_found() {
                    tracing::warn!(%node, code = status.code, "a Node could not be read");
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_of_an_edge_and_one_of_a_kubelet_are_told_apart() {
        let node = |labels: Value, kubelet: &str, ready: &str| {
            known_of(
                &json!({"metadata": {"labels": labels}, "status": {"nodeInfo": {"kubeletVersion": kubelet},
                "conditions": [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": ready}]}}),
            )
        };
        let role = json!({"node-role.kubernetes.io/edge": ""});
        let edge = node(role, "v1.30.7-kubeedge-v1.23.1", "True");
        assert_eq!(edge, KnownNode { edge: true, ready: true, ..KnownNode::default() });
        let plane = node(json!({"node-role.kubernetes.io/control-plane": ""}), "v1.36.0", "False");
        assert_eq!(plane, KnownNode { foreign: true, ..KnownNode::default() });
        let bare = node(Value::Null, "v1.30.7-kubeedge-v1.23.1", "Unknown");
        assert_eq!(bare, KnownNode::default(), "an edge node that lost its label");
        assert_eq!(known_of(&json!({"metadata": {"name": "made-by-hand"}})), KnownNode::default());
    }
}
