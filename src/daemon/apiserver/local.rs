//! The API as its own controllers use it: the same storage, validation and watch as over HTTPS, without the HTTP.
//! Objects are shared, immutable JSON; a change is a new object.

use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

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
