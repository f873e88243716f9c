//! ConfigMaps and Secrets to the nodes that need them: a pod there refers to them, or a volume of such a pod needs them.
//! What a node still holds of a pod that has gone it may keep, and hears of its end; of its changes it hears nothing.
//! Keeps a uid and a revision of each object, never its content.

use super::super::kubernetes::{Event, Resource, Scope, follow, meta, revision};
use super::gate::may_read;
use super::pods::{gone, watch_ended};
use super::shared::{Listed, Notice, Shared};
use crate::base::{BoxFuture, Crew, Failure, Gone, Mail, Module, Ready, Stop};
use crate::model::digest::ContentHash;
use crate::model::{Kind, NodeName, ObjectKey, Revision};
use crate::wire::Verb;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

const EVENTS: usize = 64;
const GET_LIMIT: Duration = Duration::from_secs(60);
/// Secrets of the cloud itself never go to a node by a watch.
const OWN_NAMESPACE: &str = "kubeedge";

pub(super) struct Configs {
    pub shared: Arc<Shared>,
    pub mail: Mail<Notice>,
}

/// A ConfigMap or Secret without its data.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub uid: String,
    pub revision: Revision,
    pub content: ContentHash,
    seen: bool,
}

/// All ConfigMaps and Secrets that may go to nodes.
pub(super) type Index = HashMap<ObjectKey, Entry>;

impl Module for Configs {
    fn name(&self) -> &'static str {
        "configs"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut crew = Crew::new();
            let (mut maps, mut secrets) = (
                watch(&mut crew, &self.shared, Resource::CONFIG_MAP),
                watch(&mut crew, &self.shared, Resource::SECRET),
            );
            let (mut maps_listed, mut secrets_listed) = (false, false);
            loop {
                tokio::select! {
                    biased;
                    () = stop.raised() => return Ok(()),
                    event = maps.recv() => {
                        let event = event.ok_or_else(|| watch_ended("ConfigMaps"))?;
                        let listed = matches!(event, Event::Listed);
                        let told = self.event(Kind::ConfigMap, event, maps_listed);
                        stop.or(told).await.unwrap_or(Ok(())).map_err(gone)?;
                        maps_listed |= listed;
                    }
                    event = secrets.recv() => {
                        let event = event.ok_or_else(|| watch_ended("Secrets"))?;
                        let listed = matches!(event, Event::Listed);
                        let told = self.event(Kind::Secret, event, secrets_listed);
                        stop.or(told).await.unwrap_or(Ok(())).map_err(gone)?;
                        secrets_listed |= listed;
                    }
                    Some(notice) = self.mail.recv(), if maps_listed && secrets_listed => {
                        // What a node needs is what its pods refer to: without all pods it would be told too little.
                        let told = async {
                            self.shared.listed(Listed::Pods).await;
                            self.restate(&notice).await
                        };
                        stop.or(told).await.unwrap_or(Ok(())).map_err(gone)?;
                    }
                }
                if maps_listed && secrets_listed {
                    self.shared.has_listed(Listed::Configs);
                    ready.set();
                }
            }
        })
    }
}

fn watch(crew: &mut Crew, shared: &Shared, resource: Resource) -> mpsc::Receiver<Event> {
    let (sender, events) = mpsc::channel(EVENTS);
    let kube = shared.kube.clone();
    crew.spawn(async move { drop(follow(kube, Scope { resource, selector: "" }, sender).await) });
    events
}

impl Configs {
    /// `known` once the first list is over: what that brings, nodes are told as they connect.
    async fn event(&self, kind: Kind, event: Event, known: bool) -> Result<(), Gone> {
        match event {
            Event::Listing => {
                for (_, entry) in self.shared.configs().iter_mut().filter(|(key, _)| key.kind == kind) {
                    entry.seen = false;
                }
            }
            Event::Applied { object, .. } => self.applied(kind, object, known).await?,
            Event::Deleted(object) => {
                let key = key(kind, &object);
                self.shared.configs().remove(&key);
                let uid = meta(&object, "uid");
                for node in self.interested(&key, uid) {
                    // The last form may hold more than the node has read.
                    if self.shared.pods().refers(&node, &key) {
                        self.shared.push_gone(&node, kind, object.clone()).await?;
                    } else {
                        self.shared.push_lost(&node, &key, uid).await?;
                    }
                }
            }
            Event::Listed => {
                let gone = |key: &ObjectKey, entry: &mut Entry| key.kind == kind && !entry.seen;
                let lost: Vec<(ObjectKey, Entry)> = self.shared.configs().extract_if(gone).collect();
                for (key, entry) in lost {
                    for node in self.interested(&key, &entry.uid) {
                        self.shared.push_lost(&node, &key, &entry.uid).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn applied(&self, kind: Kind, object: Value, known: bool) -> Result<(), Gone> {
        let key = key(kind, &object);
        if kind == Kind::Secret && key.namespace.as_deref() == Some(OWN_NAMESPACE) {
            return Ok(());
        }
        let uid = meta(&object, "uid").to_owned();
        let current = revision(&object);
        let content = ContentHash::of(&object);
        let entry = Entry { uid: uid.clone(), revision: current, content, seen: true };
        let before = self.shared.configs().insert(key.clone(), entry);
        if !known {
            return Ok(());
        }
        if before.as_ref().is_some_and(|old| old.uid == uid && old.revision == current) {
            return Ok(());
        }
        let verb = if before.is_some() || kind == Kind::Secret { Verb::Update } else { Verb::Insert };
        for node in self.interested(&key, &uid) {
            // After a restart the list brings everything once more: what the node has is not sent again.
            let lacks = self.shared.records.revision(&node, &uid).is_none_or(|stored| stored < current);
            if lacks && self.shared.is_connected(&node) && may_read(&self.shared, &node, &key).await {
                self.shared.push(&node, verb, kind, object.clone()).await?;
            }
        }
        Ok(())
    }

    /// Nodes with a pod that refers to the object, and nodes that hold it.
    fn interested(&self, key: &ObjectKey, uid: &str) -> BTreeSet<NodeName> {
        let mut nodes: BTreeSet<NodeName> = self.shared.pods().subscribers(key).into_iter().collect();
        nodes.extend(self.shared.records.holders(uid));
        nodes
    }

    /// Tells a node that is back what changed or vanished meanwhile.
    async fn restate(&self, notice: &Notice) -> Result<(), Gone> {
        let node = notice.node();
        let mut owed = self.shared.pods().references_of(node);
        for (uid, record) in self.shared.records.of(node) {
            if !matches!(record.key.kind, Kind::ConfigMap | Kind::Secret) {
                continue;
            }
            let kept = self.shared.configs().get(&record.key).is_some_and(|entry| entry.uid == uid);
            if !kept {
                self.shared.push_lost(node, &record.key, &uid).await?;
            } else if may_read(&self.shared, node, &record.key).await {
                owed.insert(record.key);
            }
        }
        for key in owed {
            let Some(entry) = self.shared.configs().get(&key).cloned() else { continue };
            let Some(resource) = Resource::of(key.kind) else { continue };
            if !self.shared.owes(notice, &entry.uid, entry.revision) {
                continue;
            }
            let kube = &self.shared.kube;
            let (namespace, name) = (key.namespace.as_deref(), key.name.as_str());
            match kube.outlast(GET_LIMIT, || kube.get(resource, namespace, name)).await {
                Ok(object) => self.shared.push(node, Verb::Update, key.kind, object).await?,
                Err(status) if status.is_not_found() => {}
                Err(status) => {
                    tracing::warn!(%node, object = %key, code = status.code, "an object could not be read for a node");
                }
            }
        }
        Ok(())
    }
}

fn key(kind: Kind, object: &Value) -> ObjectKey {
    ObjectKey::namespaced(kind, meta(object, "namespace"), meta(object, "name"))
}
