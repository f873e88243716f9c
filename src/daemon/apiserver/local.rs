//! The API as its own controllers use it: the same storage, validation and watch as over HTTPS, without the HTTP.
//! Objects are shared, immutable JSON; a change is a new object.

use super::catalog::Resource;
use super::errors;
use super::ops::{DeleteOptions, Ops, Options, Patch, Removed, Target};
use super::storage::{Feed, Key, Verb};
use crate::model::{Revision, Status};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use tokio::sync::watch;

/// A resource of the API in its storage version, such as `("apps", "deployments")`; the core group is `""`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Collection {
    pub group: Cow<'static, str>,
    pub plural: Cow<'static, str>,
}

impl Collection {
    pub const fn of(group: &'static str, plural: &'static str) -> Self {
        Collection { group: Cow::Borrowed(group), plural: Cow::Borrowed(plural) }
    }
}

/// What a controller has to know of a resource that it did not know when it was compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectionFacts {
    pub collection: Collection,
    pub api_version: String,
    pub kind: String,
    pub namespaced: bool,
}

/// A change as a watch reports it; a `Deleted` carries the last form.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Added(Arc<Value>),
    Modified(Arc<Value>),
    Deleted(Arc<Value>),
}

/// The watch fell behind the history that is kept: list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watch is older than the kept history")]
pub struct Expired;

/// How dependents of a deleted object are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    #[default]
    Background,
    Foreground,
    Orphan,
}

/// Options of a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Seconds; `None` takes the object's own.
    pub grace: Option<i64>,
    pub uid: Option<String>,
    pub propagation: Option<Propagation>,
}

/// Field manager of what the embedded controllers write.
const MANAGER: &str = "kedge-controllers";

/// The handle; cheap to clone.
#[derive(Clone)]
pub struct Local {
    ops: Ops,
}

impl Local {
    pub fn new(ops: Ops) -> Local {
        Local { ops }
    }

    /// A handle on a new database in `dir` with the namespaces that every cluster has, for tests of controllers.
    #[cfg(test)]
    pub async fn scratch(dir: &std::path::Path) -> Local {
        use super::{catalog::Kinds, ops::ServiceNetwork, storage::Store};
        let kinds = Arc::new(Kinds::default());
        let network = ServiceNetwork::parse("10.96.0.0/16").unwrap();
        let ops = Ops { store: Store::open(&dir.join("api.db"), kinds.observer()).unwrap(), kinds, network };
        ops.kinds.follow(&ops.store);
        let local = Local::new(ops);
        for name in ["default", "kube-system"] {
            let namespace = json!({"metadata": {"name": name}});
            local.create(&Collection::of("", "namespaces"), namespace).await.unwrap();
        }
        local
    }

    #[cfg(test)]
    pub fn store(&self) -> &super::storage::Store {
        &self.ops.store
    }

    fn resource(&self, collection: &Collection) -> Result<Arc<Resource>, Status> {
        self.ops.kinds.of(collection).ok_or_else(errors::unknown_path)
    }

    fn target(&self, collection: &Collection, namespace: Option<&str>, name: &str) -> Result<Target, Status> {
        let resource = self.resource(collection)?;
        Ok(Target {
            version: resource.storage.clone(),
            namespace: namespace.filter(|_| resource.namespaced).map(str::to_owned),
            name: name.to_owned(),
            subresource: None,
            resource,
        })
    }

    fn target_of(&self, collection: &Collection, object: &Value) -> Result<Target, Status> {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or("");
        let namespace = Some(text("namespace")).filter(|n| !n.is_empty());
        self.target(collection, namespace, text("name"))
    }

    /// Reads one object.
    #[expect(clippy::unused_async, reason = "the same shape as every other operation")]
    pub async fn get(
        &self,
        collection: &Collection,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Arc<Value>, Status> {
        self.ops.get(&self.target(collection, namespace, name)?)
    }

    /// Reads a collection, or one namespace of it, and the revision to watch from.
    #[expect(clippy::unused_async, reason = "the same shape as every other operation")]
    pub async fn list(
        &self,
        collection: &Collection,
        namespace: Option<&str>,
    ) -> Result<(Vec<Arc<Value>>, Revision), Status> {
        Ok(self.ops.store.list(collection, namespace))
    }

    /// Creates an object; its namespace and name are in it.
    pub async fn create(&self, collection: &Collection, object: Value) -> Result<Arc<Value>, Status> {
        let mut target = self.target_of(collection, &object)?;
        target.name.clear();
        if target.resource.namespaced && target.namespace.is_none() {
            return Err(errors::bad_request("the object has no namespace"));
        }
        Ok(self.ops.create(target, object, Options::by(MANAGER)).await?.object)
    }

    /// Replaces an object but its status; a `resourceVersion` in it is the precondition.
    pub async fn update(&self, collection: &Collection, object: Value) -> Result<Arc<Value>, Status> {
        let target = self.target_of(collection, &object)?;
        Ok(self.ops.update(target, object, Options::by(MANAGER)).await?.object)
    }

    /// Replaces the status of an object; a `resourceVersion` in it is the precondition.
    pub async fn update_status(&self, collection: &Collection, object: Value) -> Result<Arc<Value>, Status> {
        let mut target = self.target_of(collection, &object)?;
        target.subresource = Some("status".to_owned());
        Ok(self.ops.update(target, object, Options::by(MANAGER)).await?.object)
    }

    /// Merges a patch into an object or a subresource (`status`, `finalize`).
    pub async fn merge_patch(
        &self,
        collection: &Collection,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        patch: Value,
    ) -> Result<Arc<Value>, Status> {
        let mut target = self.target(collection, namespace, name)?;
        target.subresource = subresource.map(str::to_owned);
        Ok(self.ops.patch(target, Patch::Merge(patch), Options::by(MANAGER)).await?.object)
    }

    /// Assigns a pod to a node; refused when it has one already or is being deleted.
    pub async fn bind(&self, namespace: &str, pod: &str, node: &str) -> Result<Arc<Value>, Status> {
        let target = self.target(&Collection::of("", "pods"), Some(namespace), pod)?;
        self.ops.bind(target, json!({"target": {"kind": "Node", "name": node}}), Options::by(MANAGER)).await
    }

    /// Deletes an object or marks it for deletion; the answer is its last form.
    pub async fn delete(
        &self,
        collection: &Collection,
        namespace: Option<&str>,
        name: &str,
        deletion: Deletion,
    ) -> Result<Arc<Value>, Status> {
        let target = self.target(collection, namespace, name)?;
        let options = DeleteOptions { deletion, ..DeleteOptions::default() };
        Ok(match self.ops.delete(target, options).await? {
            Removed::Gone(object) | Removed::Pending(object) => object,
        })
    }

    /// Follows a collection from just after a revision, in all namespaces.
    pub fn watch(&self, collection: &Collection, from: Revision) -> Watch {
        Watch { feed: self.ops.store.feed(collection, from) }
    }

    /// All resources that keep objects, built-in and custom.
    pub fn collections(&self) -> Vec<CollectionFacts> {
        self.ops.kinds.facts()
    }

    /// Counts changes of [`Local::collections`].
    pub fn collections_changed(&self) -> watch::Receiver<u64> {
        self.ops.kinds.changes()
    }

    /// Whether an object exists, without a Status for its absence.
    pub fn exists(&self, collection: &Collection, namespace: Option<&str>, name: &str) -> bool {
        self.ops.store.get(&Key::new(collection, namespace, name)).is_some()
    }
}

/// Changes of one collection in order.
pub struct Watch {
    feed: Feed,
}

impl Watch {
    /// The next change; cancel-safe. After [`Expired`] list again and start a new watch.
    pub async fn next(&mut self) -> Result<Change, Expired> {
        let event = self.feed.next().await?;
        let object = event.object.clone();
        Ok(match event.verb {
            Verb::Added => Change::Added(object),
            Verb::Modified => Change::Modified(object),
            Verb::Deleted => Change::Deleted(object),
        })
    }
}
