//! Creation: checks and completion outside the writer thread, the rest (namespace, addresses, uniqueness) on it.

use super::update::Manner;
use super::{
    Ops, Options, Outcome, Target, UnknownFields, admission, defaults, metadata, present, to_storage,
    validate,
};
use crate::base::{rfc3339, uuid4};
use crate::daemon::apiserver::catalog::Resource;
use crate::daemon::apiserver::errors;
use crate::daemon::apiserver::local::Collection;
use crate::daemon::apiserver::storage::{Key, Txn};
use crate::daemon::apiserver::strict;
use crate::model::Status;
use serde_json::{Value, json};
use std::sync::Arc;

impl Ops {
    /// Creates an object.
    pub async fn create(&self, target: Target, body: Value, options: Options) -> Result<Outcome, Status> {
        let (key, object, warnings) = prepare(&target, body, &options)?;
        let network = self.network;
        let version = target.version.clone();
        let resource = target.resource.clone();
        let dry_run = options.dry_run;
        let object = self
            .store
            .commit(move |txn| {
                let manner = Manner { options: &options, network, applied: false };
                let object = insert(txn, &target, key, object, &manner)?;
                if dry_run {
                    txn.discard();
                }
                Ok(object)
            })
            .await?;
        Ok(Outcome { object: present(&resource, &version, &object), created: true, warnings })
    }
}

/// Everything about a new object that needs no other object.
pub(super) fn prepare(
    target: &Target,
    mut body: Value,
    options: &Options,
) -> Result<(Key, Value, Vec<String>), Status> {
    let resource = &target.resource;
    check_kind(resource, &target.version, &mut body)?;
    metadata::settle_namespace(resource, &mut body, target.namespace.as_deref())?;
    let name = metadata::settle_name(resource, &mut body, &target.name)?;
    metadata::check_types(resource, &name, &body)?;
    let meta = metadata::of(&mut body)?;
    if meta.get("resourceVersion").and_then(Value::as_str).is_some_and(|v| !v.is_empty()) {
        return Err(errors::bad_request("resourceVersion should not be set on objects to be created"));
    }
    for field in
        ["resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"]
    {
        meta.remove(field);
    }
    meta.insert("uid".to_owned(), uuid4().into());
    meta.insert("creationTimestamp".to_owned(), rfc3339(options.at).into());
    if resource.generation {
        meta.insert("generation".to_owned(), json!(1));
    }
    let mut object = to_storage(resource, body);
    if target.facts().is_some_and(|v| v.status)
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    let warnings = complete(target, &name, &mut object, options)?;
    defaults::on_create(resource, &mut object);
    metadata::tidy(&mut object);
    Ok((Key::new(&resource.collection, target.namespace.as_deref(), &name), object, warnings))
}

/// Prunes, defaults and validates a whole object; the warnings name unknown fields.
pub(super) fn complete(
    target: &Target,
    name: &str,
    object: &mut Value,
    options: &Options,
) -> Result<Vec<String>, Status> {
    let resource = &target.resource;
    let mut warnings = Vec::new();
    if resource.custom {
        if let Some(schema) = target.facts().and_then(|v| v.schema.as_ref()) {
            if options.unknown_fields != UnknownFields::Ignore {
                warnings.extend(schema.unknown_fields(object));
            }
            schema.prune(object);
            schema.default(object);
            let causes: Vec<_> = schema.validate(object).into_iter().map(validate::cause).collect();
            if !causes.is_empty() {
                return Err(errors::invalid(resource, name, &causes));
            }
        }
    } else {
        let found = strict::inspect(&resource.collection.group, &resource.storage, &resource.kind, object);
        if let Some(problem) = found.mistyped {
            let (kind, version) = (&resource.kind, &target.version);
            return Err(errors::bad_request(format!(
                "{kind} in version \"{version}\" cannot be handled as a {kind}: {problem}"
            )));
        }
        // Status writes are frequent and come from programs; nobody misspells fields there by hand.
        if options.unknown_fields != UnknownFields::Ignore && target.subresource.is_none() {
            warnings.extend(found.unknown);
        }
        defaults::complete(resource, object);
        let causes = validate::built_in(resource, object);
        if !causes.is_empty() {
            return Err(errors::invalid(resource, name, &causes));
        }
    }
    if options.unknown_fields == UnknownFields::Refuse && !warnings.is_empty() {
        return Err(errors::bad_request(format!("strict decoding error: {}", warnings.join(", "))));
    }
    Ok(warnings)
}

/// Compares the object's kind with the resource's, and fills it in where it is absent.
pub(super) fn check_kind(resource: &Resource, version: &str, body: &mut Value) -> Result<(), Status> {
    let Some(fields) = body.as_object_mut() else {
        return Err(errors::bad_request("the object provided is not a JSON object"));
    };
    if fields.get("metadata").is_some_and(|metadata| !metadata.is_object() && !metadata.is_null()) {
        return Err(errors::bad_request("the object provided is unrecognized: metadata is not an object"));
    }
    let expected = resource.api_version(version);
    let (kind, api) =
        (fields.get("kind").and_then(Value::as_str), fields.get("apiVersion").and_then(Value::as_str));
    if kind.is_some_and(|kind| kind != resource.kind) || api.is_some_and(|api| api != expected) {
        let (kind, api) = (kind.unwrap_or(""), api.unwrap_or(""));
        return Err(errors::bad_request(format!(
            "the API version in the data ({api}, Kind={kind}) does not match the expected API version ({expected}, \
             Kind={})",
            resource.kind
        )));
    }
    fields.insert("kind".to_owned(), resource.kind.clone().into());
    fields.insert("apiVersion".to_owned(), expected.into());
    Ok(())
}

/// Puts a prepared object in, on the writer thread.
pub(super) fn insert(
    txn: &mut Txn<'_>,
    target: &Target,
    key: Key,
    mut object: Value,
    manner: &Manner<'_>,
) -> Result<Arc<Value>, Status> {
    let resource = &target.resource;
    check_namespace(txn, target, &key.name)?;
    if txn.get(&key).is_some() {
        return Err(errors::already_exists(resource, &key.name));
    }
    admission::on_create(txn, resource, &mut object, manner.network)?;
    if !manner.applied {
        super::update::track(target, None, &mut object, manner.options);
    }
    let object = txn.put(key, object);
    if resource.group == "apiextensions.k8s.io" && resource.plural == "customresourcedefinitions" {
        admission::check_names(txn, resource, &object)?;
    }
    Ok(object)
}

fn check_namespace(txn: &Txn<'_>, target: &Target, name: &str) -> Result<(), Status> {
    let Some(namespace) = target.namespace.as_deref() else { return Ok(()) };
    let found = txn.get(&Key::new(&Collection::of("", "namespaces"), None, namespace));
    match found {
        None => {
            let mut status =
                Status::failure(404, "NotFound", format!("namespaces \"{namespace}\" not found"));
            status.details = Some(json!({"name": namespace, "kind": "namespaces"}));
            Err(status)
        }
        Some(found) if !found["metadata"]["deletionTimestamp"].is_null() => {
            let why = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            let mut status = errors::forbidden(&target.resource, name, &why);
            if let Some(details) = status.details.as_mut() {
                details["causes"] = json!([{"reason": "NamespaceTerminating",
                    "message": format!("namespace {namespace} is being terminated"),
                    "field": "metadata.namespace"}]);
            }
            Err(status)
        }
        Some(_) => Ok(()),
    }
}
