//! Deletion: preconditions, grace, finalizers, propagation. Collecting dependents is the garbage collector's work.

use super::{DeleteOptions, Ops, Removed, Target, metadata};
use crate::base::{now, rfc3339};
use crate::daemon::apiserver::catalog::Resource;
use crate::daemon::apiserver::errors;
use crate::daemon::apiserver::local::{Collection, Deletion, Propagation};
use crate::daemon::apiserver::storage::{Key, Txn};
use crate::model::Status;
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;

const DEFINITIONS: Collection = Collection::of("apiextensions.k8s.io", "customresourcedefinitions");
const DEFINITION_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

impl Ops {
    /// Deletes an object, or marks it for deletion.
    pub async fn delete(&self, target: Target, options: DeleteOptions) -> Result<Removed, Status> {
        self.store
            .commit(move |txn| {
                let removed = remove(txn, &target.resource, &target.key(), &options)?;
                if options.dry_run {
                    txn.discard();
                }
                Ok(removed)
            })
            .await
    }

    /// Deletes the objects with these names in one commit; absent ones are skipped.
    pub async fn delete_all(
        &self,
        resource: Arc<Resource>,
        keys: Vec<Key>,
        options: DeleteOptions,
    ) -> Result<(), Status> {
        self.store
            .commit(move |txn| {
                for key in &keys {
                    match remove(txn, &resource, key, &options) {
                        Err(status) if !status.is_not_found() => return Err(status),
                        _ => {}
                    }
                }
                if options.dry_run {
                    txn.discard();
                }
                Ok(())
            })
            .await
    }
}

pub(super) fn remove(
    txn: &mut Txn<'_>,
    resource: &Resource,
    key: &Key,
    options: &DeleteOptions,
) -> Result<Removed, Status> {
    let old = txn.get(key).ok_or_else(|| errors::not_found(resource, &key.name))?;
    check_preconditions(resource, &old, key, options)?;
    let mut object = Value::clone(&old);
    propagate(resource, &mut object, options.deletion.propagation)?;
    let namespace = resource.group.is_empty() && resource.plural == "namespaces";
    if namespace {
        if KEPT_NAMESPACES.contains(&key.name.as_str()) {
            let message =
                format!("namespaces \"{}\" is forbidden: this namespace may not be deleted", key.name);
            return Err(Status::failure(403, "Forbidden", message));
        }
        return Ok(remove_namespace(txn, key, &old, object));
    }
    if key.collection == DEFINITIONS {
        remove_instances(txn, &mut object)?;
    }
    let grace = if resource.group.is_empty() && resource.plural == "pods" {
        pod_grace(&old, &options.deletion)
    } else {
        0
    };
    if grace == 0 && metadata::finalizers(&object).is_empty() {
        return Ok(Removed::Gone(gone(txn, key, object)));
    }
    mark(&mut object, grace)?;
    Ok(Removed::Pending(if object == *old { old } else { txn.put(key.clone(), object) }))
}

/// Removes an object for good, and its definition if that waited for it.
pub(super) fn gone(txn: &mut Txn<'_>, key: &Key, object: Value) -> Arc<Value> {
    let last = txn.delete(key.clone(), object);
    finish_definition(txn, &key.collection);
    last
}

fn check_preconditions(
    resource: &Resource,
    old: &Value,
    key: &Key,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let uid = metadata::text(old, "uid");
    if let Some(wanted) = options.deletion.uid.as_deref()
        && wanted != uid
    {
        let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}");
        return Err(errors::conflict(resource, &key.name, &why));
    }
    let revision = metadata::text(old, "resourceVersion");
    if let Some(wanted) = options.resource_version.as_deref()
        && wanted != revision
    {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {revision}"
        );
        return Err(errors::conflict(resource, &key.name, &why));
    }
    Ok(())
}

/// Seconds that a pod has to end: 0 when nothing runs or nobody asks for more.
fn pod_grace(pod: &Value, deletion: &Deletion) -> i64 {
    let unscheduled = pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty);
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if unscheduled || ended {
        return 0;
    }
    let own = pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    let wanted = deletion.grace.unwrap_or(own).max(0);
    match pod["metadata"]["deletionGracePeriodSeconds"].as_i64() {
        // A grace period that runs can be shortened only.
        Some(running) if deletion.grace.is_none() => running,
        Some(running) => wanted.min(running),
        None => wanted,
    }
}

fn mark(object: &mut Value, grace: i64) -> Result<(), Status> {
    let meta = metadata::of(object)?;
    let running = meta.get("deletionGracePeriodSeconds").and_then(Value::as_i64);
    if meta.contains_key("deletionTimestamp") && running.is_none_or(|running| grace >= running) {
        return Ok(());
    }
    let at = now().checked_add(SignedDuration::from_secs(grace)).unwrap_or_else(|_| now());
    meta.insert("deletionTimestamp".to_owned(), rfc3339(at).into());
    meta.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    if let Some(generation) = meta.get("generation").and_then(Value::as_i64) {
        meta.insert("generation".to_owned(), (generation + 1).into());
    }
    Ok(())
}

fn propagate(resource: &Resource, object: &mut Value, how: Option<Propagation>) -> Result<(), Status> {
    let Some(how) = how else { return Ok(()) };
    let meta = metadata::of(object)?;
    let mut list: Vec<Value> = meta.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    list.retain(|f| f != "foregroundDeletion" && f != "orphan");
    // A custom resource definition or a namespace is emptied by its own finalizer.
    let wanted = match how {
        Propagation::Background => None,
        Propagation::Foreground => Some("foregroundDeletion"),
        Propagation::Orphan => Some("orphan"),
    };
    if let Some(wanted) = wanted.filter(|_| resource.plural != "namespaces") {
        list.push(wanted.into());
    }
    if list.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".to_owned(), list.into());
    }
    Ok(())
}

/// Every cluster has them.
const KEPT_NAMESPACES: [&str; 3] = ["default", "kube-system", "kube-public"];

fn remove_namespace(txn: &mut Txn<'_>, key: &Key, old: &Arc<Value>, mut object: Value) -> Removed {
    let waits = object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    if !waits && metadata::finalizers(&object).is_empty() {
        return Removed::Gone(gone(txn, key, object));
    }
    if object["metadata"]["deletionTimestamp"].is_null() {
        object["metadata"]["deletionTimestamp"] = rfc3339(now()).into();
        object["status"]["phase"] = json!("Terminating");
    }
    Removed::Pending(if object == **old { old.clone() } else { txn.put(key.clone(), object) })
}

fn defined(definition: &Value) -> Collection {
    let text = |pointer| definition.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
    Collection { group: Cow::Owned(text("/spec/group")), plural: Cow::Owned(text("/spec/names/plural")) }
}

/// Deletes the custom resources of a definition; those with finalizers keep it waiting.
fn remove_instances(txn: &mut Txn<'_>, definition: &mut Value) -> Result<(), Status> {
    let collection = defined(definition);
    let mut waiting = false;
    for instance in txn.list(&collection, None) {
        let namespace = metadata::text(&instance, "namespace");
        let namespace = (!namespace.is_empty()).then_some(namespace);
        let key = Key::new(&collection, namespace, metadata::text(&instance, "name"));
        let mut last = Value::clone(&instance);
        if metadata::finalizers(&last).is_empty() {
            txn.delete(key, last);
        } else {
            waiting = true;
            mark(&mut last, 0)?;
            if last != *instance {
                txn.put(key, last);
            }
        }
    }
    if waiting && !metadata::finalizers(definition).contains(&DEFINITION_FINALIZER) {
        let meta = metadata::of(definition)?;
        let list = meta.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(DEFINITION_FINALIZER.into());
        }
    }
    Ok(())
}

/// Lets a definition that is being deleted go once its last custom resource is gone.
fn finish_definition(txn: &mut Txn<'_>, collection: &Collection) {
    if !collection.group.contains('.') || !txn.list(collection, None).is_empty() {
        return;
    }
    let key = Key::new(&DEFINITIONS, None, &format!("{}.{}", collection.plural, collection.group));
    let Some(definition) = txn.get(&key) else { return };
    if definition["metadata"]["deletionTimestamp"].is_null() {
        return;
    }
    let mut last = Value::clone(&definition);
    if let Some(list) = last["metadata"]["finalizers"].as_array_mut() {
        list.retain(|f| f != DEFINITION_FINALIZER);
    }
    metadata::tidy(&mut last);
    if metadata::finalizers(&last).is_empty() {
        txn.delete(key, last);
    } else {
        txn.put(key, last);
    }
}
