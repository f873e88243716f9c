//! Writes what nodes have stored as ObjectSync and ClusterObjectSync (protocol.md §3.6), behind the acknowledgements and
//! never in their way: changes wait in `Records`, at most one per object, and are written a few at a time.

use super::super::kubernetes::{Kube, Patch, Resource, is_temporary, meta};
use super::records::{Change, Record};
use super::shared::Shared;
use crate::base::{BoxFuture, Failure, Module, Ready, Stop};
use crate::model::{Kind, NodeName, ObjectKey, Revision, Status};
use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Acknowledgements of one object often come in bursts; one write is enough for all of them.
const GATHER: Duration = Duration::from_millis(500);
const AT_ONCE: usize = 4;
const BATCH: usize = 64;
/// How long the last records may hold up the end.
const FAREWELL: Duration = Duration::from_secs(2);
const AFTER_FAILURE: Duration = Duration::from_secs(2);

pub(super) struct Sync {
    pub shared: Arc<Shared>,
}

/// Reads all records; the caller does so before nodes may connect.
pub(super) async fn load(shared: &Shared) -> Result<(), Status> {
    for resource in [Resource::OBJECT_SYNC, Resource::CLUSTER_OBJECT_SYNC] {
        let mut found = Vec::new();
        shared.kube.list(resource, None, "", |object| found.extend(read(&object))).await?;
        for (node, uid, record) in found {
            shared.records.load(node, &uid, record);
        }
    }
    Ok(())
}

impl Module for Sync {
    fn name(&self) -> &'static str {
        "sync"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            ready.set();
            while stop.or(self.shared.records.changed()).await.is_some() {
                tokio::select! { () = stop.raised() => {}, () = tokio::time::sleep(GATHER) => {} }
                tokio::select! { () = self.write_all(&stop) => {}, () = stop.lingered(FAREWELL) => {} }
            }
            // The API may be gone already; what is not written now is sent to its node once more.
            drop(tokio::time::timeout(FAREWELL, self.write_all(&stop)).await);
            Ok(())
        })
    }
}

impl Sync {
    async fn write_all(&self, stop: &Stop) {
        loop {
            let changes = self.shared.records.take_changes(BATCH);
            if changes.is_empty() {
                return;
            }
            let failed = stream::iter(changes)
                .map(|(node, uid, change)| self.write(node, uid, change))
                .buffer_unordered(AT_ONCE)
                .fold(false, |failed, written| async move { failed | !written })
                .await;
            if failed && stop.or(tokio::time::sleep(AFTER_FAILURE)).await.is_none() {
                return;
            }
        }
    }

    async fn write(&self, node: NodeName, uid: String, change: Change) -> bool {
        let outcome = write(&self.shared.kube, &node, &uid, &change).await;
        match outcome {
            Ok(()) => {
                self.shared.records.written(node, uid, &change);
                true
            }
            Err(status) if status.is_not_found() && matches!(change, Change::Update(_)) => {
                self.shared.records.not_written(node, uid, true);
                true
            }
            // A namespace that is going, say: trying again does not help, and the next start sends the object once more.
            Err(status) if !is_temporary(&status) => {
                tracing::debug!(%node, code = status.code, reason = status.reason, "a sync record is not written");
                true
            }
            Err(status) => {
                tracing::debug!(%node, code = status.code, reason = status.reason, "a sync record is written later");
                self.shared.records.not_written(node, uid, false);
                false
            }
        }
    }
}

async fn write(kube: &Kube, node: &NodeName, uid: &str, change: &Change) -> Result<(), Status> {
    let name = format!("{node}.{uid}");
    match change {
        Change::Create(record) => {
            let (resource, namespace) = place(&record.key);
            match kube.create(resource, namespace, &object(&name, record, resource)).await {
                Err(status) if !status.already_exists() => return Err(status),
                _ => {}
            }
            set_status(kube, &name, record).await
        }
        Change::Update(record) => set_status(kube, &name, record).await,
        Change::Remove(key) => {
            let (resource, namespace) = place(key);
            match kube.delete(resource, namespace, &name, &json!({})).await {
                Err(status) if !status.is_not_found() => Err(status),
                _ => Ok(()),
            }
        }
    }
}

async fn set_status(kube: &Kube, name: &str, record: &Record) -> Result<(), Status> {
    let (resource, namespace) = place(&record.key);
    let patch = json!({"status": {"objectResourceVersion": record.revision.to_string()}}).to_string();
    let target = (name, Some("status"));
    kube.patch(resource, namespace, target, Patch::Merge, patch.into_bytes()).await.map(drop)
}

fn place(key: &ObjectKey) -> (Resource, Option<&str>) {
    match &key.namespace {
        Some(namespace) => (Resource::OBJECT_SYNC, Some(namespace)),
        None => (Resource::CLUSTER_OBJECT_SYNC, None),
    }
}

fn object(name: &str, record: &Record, resource: Resource) -> Value {
    let api_version = Resource::of(record.key.kind).map(|of| of.api_version()).unwrap_or_default();
    let mut object = json!({
        "apiVersion": resource.api_version(),
        "kind": resource.kind,
        "metadata": {"name": name},
        "spec": {
            "objectAPIVersion": api_version,
            "objectKind": record.key.kind.as_str(),
            "objectName": record.key.name,
        },
    });
    if let Some(namespace) = &record.key.namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}

/// Reads a record; KubeEdge writes `objectKind` as `pod` or as `Pod`.
fn read(object: &Value) -> Option<(NodeName, String, Record)> {
    let (node, uid) = meta(object, "name").rsplit_once('.')?;
    let kind = object.pointer("/spec/objectKind")?.as_str()?.to_lowercase();
    let namespace = Some(meta(object, "namespace")).filter(|text| !text.is_empty());
    let key = ObjectKey {
        kind: Kind::parse(&kind)?,
        namespace: namespace.map(str::to_owned),
        name: object.pointer("/spec/objectName")?.as_str()?.to_owned(),
    };
    let revision = object.pointer("/status/objectResourceVersion").and_then(Value::as_str).unwrap_or("0");
    let record = Record { key, revision: Revision::parse(revision).unwrap_or_default() };
    Some((NodeName::new(node).ok()?, uid.to_owned(), record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_what_they_write() {
        let record = Record { key: ObjectKey::namespaced(Kind::ConfigMap, "d", "c"), revision: Revision(9) };
        let mut written = object("n1.site.u-1", &record, Resource::OBJECT_SYNC);
        written["status"] = json!({"objectResourceVersion": "9"});
        assert_eq!(read(&written), Some((NodeName::new("n1.site").unwrap(), "u-1".to_owned(), record)));
        assert_eq!(written["spec"]["objectAPIVersion"], "v1");
    }

    #[test]
    fn foreign_records_are_left_alone() {
        assert_eq!(read(&json!({"metadata": {"name": "nodot"}})), None);
        assert_eq!(
            read(&json!({"metadata": {"name": "n.u"}, "spec": {"objectKind": "Widget", "objectName": "w"}})),
            None
        );
    }
}
