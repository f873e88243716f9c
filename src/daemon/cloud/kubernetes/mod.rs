//! The cloud's one way to the Kubernetes API: JSON requests and watches over kube-rs's client.
//! Objects stay `serde_json::Value`, so fields that this program does not know survive. Every call has a time limit,
//! every answer a size limit; nothing here knows nodes or messages.
//!
//! control, trust, stream --Kube--> HTTPS --> kube-apiserver or the embedded API

mod acting;
mod client;
mod origin;
#[cfg(test)]
pub(super) mod plain;
mod resource;
#[cfg(test)]
mod tests;
mod watch;

pub(super) use acting::AsNode;
pub(super) use client::{Kube, Patch};
pub(super) use origin::Origin;
pub use origin::access;
pub(super) use resource::{Resource, path_of, segment};
pub(super) use watch::{Event, Scope, follow};

use crate::model::{Revision, Status};
use serde_json::Value;

/// Text of a field below `metadata`, empty when absent.
pub(super) fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_str).unwrap_or("")
}

/// The object's resourceVersion; 0 when there is none.
pub(super) fn revision(object: &Value) -> Revision {
    Revision::parse(meta(object, "resourceVersion")).unwrap_or_default()
}

/// Whether trying again can help: the API was not reached, overloaded or at fault.
pub(super) fn is_temporary(status: &Status) -> bool {
    status.code == 0 || status.code == 429 || status.code >= 500
}
