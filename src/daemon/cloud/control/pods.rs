//! Pods to their nodes: pushes what changed in metadata or spec, and on a node's return what it is missing.
//! Status comes up through `answers`; this module never writes to the API.

use super::super::kubernetes::{Event, Resource, Scope, follow, meta};
use super::pod_index::{self, PodChange, PodEnd};
use super::shared::{Listed, Notice, Shared};
use crate::base::{BoxFuture, Crew, Failure, Gone, Mail, Module, Ready, Stop};
use crate::model::{Kind, NodeName, ObjectKey, Status};
use crate::wire::Verb;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

const EVENTS: usize = 64;
const LIST_LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Pods {
    pub shared: Arc<Shared>,
    pub mail: Mail<Notice>,
}

pub(super) fn gone(_: Gone) -> Failure {
    Failure::new("KE-CLOUD-010", "the hub has ended")
        .because("the part of the hub that takes orders for nodes is gone")
        .fix("look at the hub's own error: `kedge status` and the log lines before this one show it")
}

impl Module for Pods {
    fn name(&self) -> &'static str {
        "pods"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut crew = Crew::new();
            let (sender, mut events) = mpsc::channel(EVENTS);
            let scope = Scope { resource: Resource::POD, selector: "" };
            let kube = self.shared.kube.clone();
            crew.spawn(async move { drop(follow(kube, scope, sender).await) });
            let mut listed = false;
            loop {
                tokio::select! {
                    biased;
                    () = stop.raised() => return Ok(()),
                    event = events.recv() => {
                        let Some(event) = event else { return Err(watch_ended("pods")) };
                        let over = matches!(event, Event::Listed);
                        stop.or(self.event(event, listed)).await.unwrap_or(Ok(())).map_err(gone)?;
                        if over {
                            listed = true;
                            self.shared.has_listed(Listed::Pods);
                            ready.set();
                        }
                    }
                    Some(notice) = self.mail.recv(), if listed => {
                        stop.or(self.restate(&notice)).await.unwrap_or(Ok(())).map_err(gone)?;
                    }
                }
            }
        })
    }
}

pub(in crate::daemon::cloud) fn watch_ended(what: &str) -> Failure {
    Failure::new("KE-CLOUD-011", format!("the watch of {what} ended"))
        .because("the part that follows it has broken off")
        .fix("nothing, it is begun anew; if it repeats, send `kedge bugreport` to the developers")
}

impl Pods {
    /// `known` once the first list is over: what that brings, nodes are told as they connect.
    async fn event(&self, event: Event, known: bool) -> Result<(), Gone> {
        match event {
            Event::Listing => self.shared.pods().begin_list(),
            Event::Applied { object, .. } => {
                let PodChange { ended, now } = self.shared.pods().apply(&object);
                if let Some(PodEnd { key, uid, node }) = ended.filter(|_| known) {
                    self.shared.push_lost(&node, &key, &uid).await?;
                }
                if let Some((node, verb)) = now.filter(|_| known) {
                    self.shared.push(&node, verb, Kind::Pod, object).await?;
                }
            }
            Event::Deleted(object) => {
                let (key, uid) = (pod_index::key(&object), meta(&object, "uid").to_owned());
                drop(self.shared.pods().remove(&key, &uid));
                let node = object.pointer("/spec/nodeName").and_then(Value::as_str);
                if let Some(node) = node.and_then(|node| NodeName::new(node).ok()) {
                    self.shared.push_gone(&node, Kind::Pod, object).await?;
                }
            }
            Event::Listed => {
                let lost = self.shared.pods().end_list();
                for (key, uid, node) in lost {
                    if let Some(node) = node {
                        self.shared.push_lost(&node, &key, &uid).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells a node that is back which of its pods are gone and which are new.
    async fn restate(&self, notice: &Notice) -> Result<(), Gone> {
        let node = notice.node();
        let owed = self.shared.pods().of_node(node);
        for (uid, record) in self.shared.records.of(node) {
            if record.key.kind == Kind::Pod && owed.get(&record.key).is_none_or(|fact| fact.uid != uid) {
                self.shared.push_lost(node, &record.key, &uid).await?;
            }
        }
        if !owed.values().any(|fact| self.shared.owes(notice, &fact.uid, fact.revision)) {
            return Ok(());
        }
        match self.list(node).await {
            Ok(pods) => {
                for pod in pods {
                    self.restate_one(notice, pod, &owed).await?;
                }
            }
            Err(status) => {
                tracing::warn!(%node, code = status.code, reason = status.reason, "the pods of a node could not be listed");
            }
        }
        Ok(())
    }

    async fn restate_one(
        &self,
        notice: &Notice,
        pod: Value,
        owed: &std::collections::HashMap<ObjectKey, pod_index::PodFact>,
    ) -> Result<(), Gone> {
        let (key, uid, node) = (pod_index::key(&pod), meta(&pod, "uid"), notice.node());
        let current = self.shared.pods().is_current(&key, uid, node);
        let lacks = owed.get(&key).is_none_or(|fact| self.shared.owes(notice, uid, fact.revision));
        if !current || !lacks {
            return Ok(());
        }
        let known = self.shared.records.revision(node, uid).is_some();
        let ending = pod.pointer("/metadata/deletionTimestamp").is_some();
        let verb = if known || ending { Verb::Update } else { Verb::Insert };
        self.shared.push(node, verb, Kind::Pod, pod).await
    }

    async fn list(&self, node: &NodeName) -> Result<Vec<Value>, Status> {
        let selector = format!("fieldSelector=spec.nodeName%3D{node}");
        let kube = &self.shared.kube;
        let selector = selector.as_str();
        kube.outlast(LIST_LIMIT, move || async move {
            let mut pods = Vec::new();
            kube.list(Resource::POD, None, selector, |pod| pods.push(pod)).await?;
            Ok(pods)
        })
        .await
    }
}
