//! What a request does to the store: create, update, patch, delete, with the rules that hold for every kind.
//! `rest` (after authorization) and [`super::local`] call it with the same result. It knows no HTTP.

mod admission;
mod bind;
mod create;
mod defaults;
mod delete;
mod events;
mod frozen;
mod metadata;
mod scalers;
mod services;
mod update;
mod validate;

pub use services::ServiceNetwork;

use super::catalog::{Kinds, Resource, Version};
use super::local::Deletion;
use super::storage::{Key, Store};
use crate::base::now;
use crate::model::Status;
use jiff::Timestamp;
use serde_json::Value;
use std::sync::Arc;

/// What a request addresses; `name` is empty where the object brings it.
#[derive(Clone)]
pub struct Target {
    pub resource: Arc<Resource>,
    pub version: String,
    pub namespace: Option<String>,
    pub name: String,
    /// `status`, `scale`, `finalize`, …
    pub subresource: Option<String>,
}

impl Target {
    pub fn key(&self) -> Key {
        Key::new(&self.resource.collection, self.namespace.as_deref(), &self.name)
    }

    fn facts(&self) -> Option<&Version> {
        self.resource.version(&self.version)
    }
}

/// What to do with fields that the schema does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownFields {
    Ignore,
    #[default]
    Warn,
    Refuse,
}

impl UnknownFields {
    /// Reads the `fieldValidation` parameter.
    pub fn parse(text: &str) -> Option<UnknownFields> {
        match text {
            "" | "Warn" => Some(UnknownFields::Warn),
            "Ignore" => Some(UnknownFields::Ignore),
            "Strict" => Some(UnknownFields::Refuse),
            _ => None,
        }
    }
}

/// How a change is to be made.
#[derive(Clone)]
pub struct Options {
    /// Field manager.
    pub manager: String,
    pub dry_run: bool,
    pub unknown_fields: UnknownFields,
    pub at: Timestamp,
}

impl Options {
    pub fn by(manager: &str) -> Options {
        Options {
            manager: manager.to_owned(),
            dry_run: false,
            unknown_fields: UnknownFields::Ignore,
            at: now(),
        }
    }
}

/// A patch by its content type.
pub enum Patch {
    Json(Vec<u8>),
    Merge(Value),
    Strategic(Value),
    Apply { config: Value, force: bool },
}

/// What a change led to.
#[derive(Debug)]
pub struct Outcome {
    /// In the version that was asked for.
    pub object: Arc<Value>,
    pub created: bool,
    pub warnings: Vec<String>,
}

/// How a deletion went.
pub enum Removed {
    /// The object is gone; this was its last form.
    Gone(Arc<Value>),
    /// The object waits for its finalizers or its grace period.
    Pending(Arc<Value>),
}

/// Conditions and manner of a deletion.
#[derive(Clone, Default)]
pub struct DeleteOptions {
    pub deletion: Deletion,
    pub resource_version: Option<String>,
    pub dry_run: bool,
}

/// The operations; cheap to clone.
#[derive(Clone)]
pub struct Ops {
    pub store: Store,
    pub kinds: Arc<Kinds>,
    pub network: ServiceNetwork,
}

impl Ops {
    /// Reads one object in the target's version.
    pub fn get(&self, target: &Target) -> Result<Arc<Value>, Status> {
        let object = self.store.get(&target.key());
        object
            .map(|object| present(&target.resource, &target.version, &object))
            .ok_or_else(|| super::errors::not_found(&target.resource, &target.name))
    }
}

/// A stored object in the version that was asked for; the same pointer where nothing differs.
pub fn present(resource: &Resource, version: &str, object: &Arc<Value>) -> Arc<Value> {
    if resource.group == "events.k8s.io" {
        return Arc::new(events::to_events_group(object));
    }
    if version == resource.storage {
        return object.clone();
    }
    let mut converted = Value::clone(object);
    if resource.group == "autoscaling" {
        converted = scalers::to_v1(converted);
    }
    converted["apiVersion"] = resource.api_version(version).into();
    Arc::new(converted)
}

/// An object from a request in the form in which it is stored.
fn to_storage(resource: &Resource, mut object: Value) -> Value {
    if resource.group == "events.k8s.io" {
        return events::from_events_group(object);
    }
    if resource.group == "autoscaling" && object["apiVersion"] == "autoscaling/v1" {
        object = scalers::to_v2(object);
    }
    object["apiVersion"] = resource.api_version(&resource.storage).into();
    object["kind"] = resource.kind.clone().into();
    object
}

#[cfg(test)]
mod tests;
