//! Nodes to themselves: each node is told its own Node object when it connects and when metadata or spec change.
//! A deleted Node ends its session and its records.

use super::super::kubernetes::{Event, Resource, Scope, follow, meta};
use super::fingerprint;
use super::pods::{gone, watch_ended};
use super::shared::{Notice, Shared};
use crate::base::{BoxFuture, Crew, Failure, Gone, Mail, Module, Ready, Stop};
use crate::model::{Kind, NodeName};
use crate::wire::Verb;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

const EVENTS: usize = 64;
const GET_LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Nodes {
    pub shared: Arc<Shared>,
    pub mail: Mail<Notice>,
}

struct Entry {
    fingerprint: u64,
    seen: bool,
}

type Index = HashMap<NodeName, Entry>;

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
            let mut index = Index::new();
            loop {
                tokio::select! {
                    biased;
                    () = stop.raised() => return Ok(()),
                    event = events.recv() => {
                        let event = event.ok_or_else(|| watch_ended("nodes"))?;
                        let listed = matches!(event, Event::Listed);
                        stop.or(self.event(&mut index, event)).await.unwrap_or(Ok(())).map_err(gone)?;
                        if listed {
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

impl Nodes {
    async fn event(&self, index: &mut Index, event: Event) -> Result<(), Gone> {
        match event {
            Event::Listing => index.values_mut().for_each(|entry| entry.seen = false),
            Event::Applied { object, .. } => {
                let Ok(node) = NodeName::new(meta(&object, "name")) else { return Ok(()) };
                let entry = Entry { fingerprint: fingerprint::of(&object), seen: true };
                let current = entry.fingerprint;
                self.shared.note_node(node.as_str(), true);
                let before = index.insert(node.clone(), entry);
                if before.is_none_or(|old| old.fingerprint != current) {
                    self.shared.push(&node, Verb::Update, Kind::Node, object).await?;
                }
            }
            Event::Deleted(object) => {
                let Ok(node) = NodeName::new(meta(&object, "name")) else { return Ok(()) };
                index.remove(&node);
                self.lost(node).await?;
            }
            Event::Listed => {
                let lost: Vec<NodeName> =
                    index.iter().filter(|(_, e)| !e.seen).map(|(node, _)| node.clone()).collect();
                index.retain(|_, entry| entry.seen);
                for node in lost {
                    self.lost(node).await?;
                }
                // Records of nodes that were deleted while no cloud ran.
                for node in self.shared.records.nodes() {
                    if !index.contains_key(&node) && !self.shared.is_connected(&node) {
                        self.shared.records.forget(&node);
                    }
                }
            }
        }
        Ok(())
    }

    async fn lost(&self, node: NodeName) -> Result<(), Gone> {
        self.shared.note_node(node.as_str(), false);
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
