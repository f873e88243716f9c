//! Writes what nodes have stored as ObjectSync and ClusterObjectSync (protocol.md §3.6), behind the acknowledgements and
//! never in their way: changes wait in `Records`, at most one per object, and are written a few at a time.

use super::super::kubernetes::{Event, Kube, Patch, Resource, Scope, follow, is_temporary, meta, revision};
use super::records::{Change, Realm, Record};
use super::shared::Shared;
use crate::base::{BoxFuture, Crew, Failure, Module, Ready, Stop};
use crate::model::{Kind, NodeName, ObjectKey, Revision, Status};
use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Acknowledgements of one object often come in bursts; one write is enough for all of them.
const GATHER: Duration = Duration::from_millis(500);
const RESOURCES: [(Resource, Realm); 2] =
    [(Resource::OBJECT_SYNC, Realm::Namespaced), (Resource::CLUSTER_OBJECT_SYNC, Realm::Cluster)];
const EVENTS: usize = 64;
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
    for (resource, realm) in RESOURCES {
        shared.records.begin_list(realm);
        let mut found = Vec::new();
        shared.kube.list(resource, None, "", |object| found.extend(read(&object))).await?;
        for Found { node, uid, record, version } in found {
            shared.records.load(node, &uid, record, version);
        }
    }
    Ok(())
}

/// What another cloud writes or takes away, so that a node that comes over from it is told only what it lacks.
fn heard(shared: &Shared, realm: Realm, event: Event) {
    match event {
        Event::Listing => shared.records.begin_list(realm),
        Event::Applied { object, .. } => {
            if let Some(Found { node, uid, record, version }) = read(&object) {
                shared.records.load(node, &uid, record, version);
            }
        }
        Event::Deleted(object) => {
            if let Some(Found { node, uid, version, .. }) = read(&object) {
                shared.records.unload(node, &uid, version);
            }
        }
        Event::Listed => shared.records.end_list(realm),
    }
}

async fn listen(shared: Arc<Shared>, resource: Resource, realm: Realm) {
    let (sender, mut events) = mpsc::channel(EVENTS);
    let scope = Scope { resource, selector: "" };
    let hearing = async {
        while let Some(event) = events.recv().await {
            heard(&shared, realm, event);
        }
    };
    let (followed, ()) = tokio::join!(follow(shared.kube.clone(), scope, sender), hearing);
    drop(followed);
}

impl Module for Sync {
    fn name(&self) -> &'static str {
        "sync"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut crew = Crew::new();
            for (resource, realm) in RESOURCES {
                crew.spawn(listen(self.shared.clone(), resource, realm));
            }
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
            Ok(version) => {
                self.shared.records.written(node, uid, &change, version);
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

/// Writes a change; returns the record's own version.
async fn write(kube: &Kube, node: &NodeName, uid: &str, change: &Change) -> Result<Revision, Status> {
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
                _ => Ok(Revision::default()),
            }
        }
    }
}

async fn set_status(kube: &Kube, name: &str, record: &Record) -> Result<Revision, Status> {
    let (resource, namespace) = place(&record.key);
    let patch = json!({"status": {"objectResourceVersion": record.revision.to_string()}}).to_string();
    let target = (name, Some("status"));
    kube.patch(resource, namespace, target, Patch::Merge, patch.into_bytes())
        .await
        .map(|object| revision(&object))
}

fn place(key: &ObjectKey) -> (Resource, Option<&str>) {
    match &key.namespace {
        Some(namespace) => (Resource::OBJECT_SYNC, Some(namespace)),
        None => (Resource::CLUSTER_OBJECT_SYNC, None),
    }
}

fn object(name: &str, record: &Record, resource: Resource) -> Value {
    let of = Resource::of(record.key.kind);
    let mut object = json!({
        "apiVersion": resource.api_version(),
        "kind": resource.kind,
        "metadata": {"name": name},
        "spec": {
            "objectAPIVersion": of.map(|of| of.api_version()).unwrap_or_default(),
            "objectKind": of.map_or(record.key.kind.as_str(), |of| of.kind),
            "objectName": record.key.name,
        },
    });
    if let Some(namespace) = &record.key.namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}

/// A record as it was read.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    node: NodeName,
    uid: String,
    record: Record,
    version: Revision,
}

/// Reads a record; `objectKind` is `Pod`, and `pod` in records of kedge 0.1.
fn read(object: &Value) -> Option<Found> {
    let (node, uid) = meta(object, "name").rsplit_once('.')?;
    let kind = object.pointer("/spec/objectKind")?.as_str()?.to_lowercase();
    let namespace = Some(meta(object, "namespace")).filter(|text| !text.is_empty());
    let key = ObjectKey {
        kind: Kind::parse(&kind)?,
        namespace: namespace.map(str::to_owned),
        name: object.pointer("/spec/objectName")?.as_str()?.to_owned(),
    };
    let stored = object.pointer("/status/objectResourceVersion").and_then(Value::as_str).unwrap_or("0");
    let record = Record { key, revision: Revision::parse(stored).unwrap_or_default() };
    Some(Found { node: NodeName::new(node).ok()?, uid: uid.to_owned(), record, version: revision(object) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_what_they_write() {
        let record = Record { key: ObjectKey::namespaced(Kind::ConfigMap, "d", "c"), revision: Revision(9) };
        let mut written = object("n1.site.u-1", &record, Resource::OBJECT_SYNC);
        written["status"] = json!({"objectResourceVersion": "9"});
        written["metadata"]["resourceVersion"] = json!("17");
        let (node, uid) = (NodeName::new("n1.site").unwrap(), "u-1".to_owned());
        assert_eq!(read(&written), Some(Found { node, uid, record, version: Revision(17) }));
        let spec = json!({"objectAPIVersion": "v1", "objectKind": "ConfigMap", "objectName": "c"});
        assert_eq!(written["spec"], spec);
        written["spec"]["objectKind"] = json!("configmap");
        assert!(read(&written).is_some());
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
