//! One watch of a node's local API: the objects that match now, then each change, as events to the node. It runs until it
//! is stopped; a list that finds objects gone tells so. Only `applications` starts it.

use super::super::super::kubernetes::{AsNode, is_temporary, meta, revision};
use super::super::shared::{Shared, told};
use super::request::{Wanted, localise};
use crate::base::{Backoff, Stop};
use crate::model::{NodeName, Status};
use crate::wire::Down;
use crate::wire::dynamic::{Change, WatchEvent};
use http::Method;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Objects that all watches of a node may have together: what is owed to it must not crowd out its own objects.
const OBJECTS: usize = 8000;
const WATCH_SECONDS: u64 = 290;
const STEADY: Duration = Duration::from_secs(5);

/// Objects that the watches of one node have; shared by them.
#[derive(Clone, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

impl Budget {
    fn take(&self) -> bool {
        let more = |used: usize| (used < OBJECTS).then_some(used + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, count: usize) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }
}

pub(super) struct Watch {
    budget: Budget,
    pub shared: Arc<Shared>,
    pub node: NodeName,
    /// The list with which it begins.
    pub wanted: Wanted,
    /// What the node was told of, by uid.
    seen: HashMap<String, Value>,
    /// `Pod` for a list of pods, for items do not say it.
    kind: String,
    api_version: String,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, node: NodeName, wanted: Wanted, budget: Budget) -> Watch {
        let (kind, api_version) = (String::new(), String::new());
        Watch { budget, shared, node, wanted, seen: HashMap::new(), kind, api_version }
    }

    pub(super) async fn run(mut self, stop: Stop) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
        let mut version = String::new();
        while !stop.is_raised() {
            let began = Instant::now();
            let round = async {
                if version.is_empty() {
                    version = self.list().await?;
                }
                self.follow(&mut version).await
            };
            match stop.or(round).await {
                None => return,
                Some(Ok(())) if began.elapsed() >= STEADY => backoff.reset(),
                Some(Ok(())) => {}
                Some(Err(status)) if is_temporary(&status) || status.code == 410 => version.clear(),
                Some(Err(status)) => {
                    tracing::warn!(node = %self.node, code = status.code, reason = status.reason,
                        "a watch of a node has ended");
                    return;
                }
            }
            if stop.or(tokio::time::sleep(backoff.next_wait())).await.is_none() {
                return;
            }
        }
    }

    async fn list(&mut self) -> Result<String, Status> {
        let api = AsNode { kube: &self.shared.kube, node: &self.node };
        let bytes = api.call(Method::GET, &self.wanted.path, None).await?;
        let mut list: Value = serde_json::from_slice(&bytes)
            .map_err(|_| Status::failure(500, "InternalError", "the list is not JSON"))?;
        let text = |field: &str| list[field].as_str().unwrap_or_default().to_owned();
        (self.kind, self.api_version) =
            (text("kind").trim_end_matches("List").to_owned(), text("apiVersion"));
        let mut former: HashMap<String, Value> = self.seen.clone();
        if let Some(Value::Array(items)) = list.get_mut("items").map(Value::take) {
            for item in items {
                former.remove(meta(&item, "uid"));
                self.tell(Change::Insert, item).await?;
            }
        }
        for (_, lost) in former {
            self.tell(Change::Delete, lost).await?;
        }
        Ok(meta(&list, "resourceVersion").to_owned())
    }

    async fn follow(&mut self, version: &mut String) -> Result<(), Status> {
        let sign = if self.wanted.path.contains('?') { '&' } else { '?' };
        let path = format!(
            "{}{sign}watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}",
            self.wanted.path
        );
        let api = AsNode { kube: &self.shared.kube, node: &self.node };
        let mut lines = api.lines(&path).await?;
        while let Some(line) = lines.next().await {
            let Ok(mut event) = serde_json::from_slice::<Value>(&line) else { return Ok(()) };
            let object = event.get_mut("object").map(Value::take).unwrap_or_default();
            let kind = event["type"].as_str().unwrap_or_default();
            if kind == "ERROR" {
                return Err(serde_json::from_value(object).unwrap_or_default());
            }
            if !meta(&object, "resourceVersion").is_empty() {
                meta(&object, "resourceVersion").clone_into(version);
            }
            match kind {
                "ADDED" => self.tell(Change::Insert, object).await?,
                "MODIFIED" => self.tell(Change::Update, object).await?,
                "DELETED" => self.tell(Change::Delete, object).await?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells the node of a change; an object too many ends the watch.
    async fn tell(&mut self, change: Change, mut object: Value) -> Result<(), Status> {
        let uid = meta(&object, "uid").to_owned();
        if change == Change::Delete {
            if self.seen.remove(&uid).is_some() {
                self.budget.give_back(1);
            }
        } else {
            if !self.seen.contains_key(&uid) && !self.budget.take() {
                let why = format!("the watches of a node may have at most {OBJECTS} objects");
                return Err(Status::failure(413, "RequestEntityTooLarge", why));
            }
            let name = json!({"name": meta(&object, "name"), "namespace": object.pointer("/metadata/namespace"),
                "uid": uid, "resourceVersion": meta(&object, "resourceVersion")});
            self.seen.insert(uid, json!({"metadata": name}));
        }
        if let Some(fields) = object.as_object_mut() {
            fields.entry("kind").or_insert_with(|| json!(self.kind));
            fields.entry("apiVersion").or_insert_with(|| json!(self.api_version));
            if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("managedFields");
            }
        }
        localise(&mut object);
        let namespace = Some(meta(&object, "namespace").to_owned()).filter(|text| !text.is_empty());
        let event = WatchEvent {
            change,
            namespace,
            kind: object["kind"].as_str().unwrap_or_default().to_lowercase(),
            name: meta(&object, "name").to_owned(),
            revision: Some(revision(&object)),
            object,
        };
        if !event.kind.is_empty() && !event.name.is_empty() {
            told(self.shared.hub.tell(self.node.clone(), Down::Watched(Box::new(event))).await);
        }
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.budget.give_back(self.seen.len());
    }
}
