//! Replacement and patches: the new form is worked out on the writer thread against the present one, so nobody's
//! change is lost; then the rules for metadata, status, generation, finalizers and field managers.

use super::create::{check_kind, complete, insert, prepare};
use super::{
    Ops, Options, Outcome, Patch, ServiceNetwork, Target, admission, defaults, delete, frozen, metadata,
    present, to_storage,
};
use crate::daemon::apiserver::catalog::Resource;
use crate::daemon::apiserver::errors;
use crate::daemon::apiserver::storage::{Key, Txn};
use crate::daemon::apiserver::{apply, patch};
use crate::model::Status;
use serde_json::{Value, json};
use std::sync::Arc;

impl Ops {
    /// Replaces an object, or one of its subresources.
    pub async fn update(&self, target: Target, body: Value, options: Options) -> Result<Outcome, Status> {
        self.change(target, options, Wish::Replace(body)).await
    }

    /// Changes an object by a patch; an apply patch creates it when it is absent.
    pub async fn patch(&self, target: Target, patch: Patch, options: Options) -> Result<Outcome, Status> {
        self.change(target, options, Wish::Patch(patch)).await
    }

    async fn change(&self, target: Target, options: Options, wish: Wish) -> Result<Outcome, Status> {
        let network = self.network;
        self.store
            .commit(move |txn| {
                let dry_run = options.dry_run;
                let outcome = carry_out(txn, &target, &options, wish, network)?;
                if dry_run {
                    txn.discard();
                }
                Ok(outcome)
            })
            .await
    }
}

enum Wish {
    Replace(Value),
    Patch(Patch),
}

#[derive(Clone, Copy)]
pub(super) struct Manner<'a> {
    pub options: &'a Options,
    pub network: ServiceNetwork,
    /// The field managers are settled by the apply patch.
    pub applied: bool,
}

fn carry_out(
    txn: &mut Txn<'_>,
    target: &Target,
    options: &Options,
    wish: Wish,
    network: ServiceNetwork,
) -> Result<Outcome, Status> {
    let key = target.key();
    let Some(old) = txn.get(&key) else {
        return absent(txn, target, options, wish, network);
    };
    let shown = present(&target.resource, &target.version, &old);
    let applied = matches!(wish, Wish::Patch(Patch::Apply { .. }));
    let mut new = match wish {
        Wish::Replace(body) => body,
        Wish::Patch(how) => patched(target, &shown, how, options)?,
    };
    check_kind(&target.resource, &target.version, &mut new)?;
    let new = to_storage(&target.resource, new);
    let manner = Manner { options, network, applied };
    let (object, warnings) = replace(txn, target, &manner, &old, new)?;
    let object = present(&target.resource, &target.version, &object);
    Ok(Outcome { object, created: false, warnings })
}

fn absent(
    txn: &mut Txn<'_>,
    target: &Target,
    options: &Options,
    wish: Wish,
    network: ServiceNetwork,
) -> Result<Outcome, Status> {
    let missing = || errors::not_found(&target.resource, &target.name);
    let applied = matches!(wish, Wish::Patch(Patch::Apply { .. }));
    let mut body = match wish {
        _ if target.subresource.is_some() => return Err(missing()),
        Wish::Patch(Patch::Apply { config, force }) => patched_absent(target, config, force, options)?,
        // Clients of Leases rely on it: an update of what does not exist creates it.
        Wish::Replace(body) if target.resource.plural == "leases" => body,
        Wish::Replace(_) | Wish::Patch(_) => return Err(missing()),
    };
    metadata::of(&mut body)?.remove("resourceVersion");
    let (key, object, warnings) = prepare(target, body, options)?;
    let object = insert(txn, target, key, object, &Manner { options, network, applied })?;
    Ok(Outcome { object: present(&target.resource, &target.version, &object), created: true, warnings })
}

fn patched(target: &Target, live: &Value, how: Patch, options: &Options) -> Result<Value, Status> {
    let resource = &target.resource;
    match how {
        Patch::Json(body) => patch::json(live, &body),
        Patch::Merge(body) => Ok(patch::merge(live.clone(), &body)),
        Patch::Strategic(_) if resource.custom => Err(errors::unsupported_media(
            "application/strategic-merge-patch+json",
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )),
        Patch::Strategic(body) => patch::strategic(&resource.group, &resource.kind, live.clone(), &body),
        Patch::Apply { config, force } => {
            apply::apply(&apply_facts(target), Some(live), &config, &options.manager, force, options.at)
        }
    }
}

fn patched_absent(target: &Target, config: Value, force: bool, options: &Options) -> Result<Value, Status> {
    apply::apply(&apply_facts(target), None, &config, &options.manager, force, options.at)
}

/// Applies the rules to a new form and stores it if it differs.
fn replace(
    txn: &mut Txn<'_>,
    target: &Target,
    manner: &Manner<'_>,
    old: &Arc<Value>,
    new: Value,
) -> Result<(Arc<Value>, Vec<String>), Status> {
    let Manner { options, network, applied } = *manner;
    let resource = &target.resource;
    let key = target.key();
    metadata::check_types(resource, &key.name, &new)?;
    check_identity(resource, &key, old, &new)?;
    let mut new = match target.subresource.as_deref() {
        Some("status") => with_status(resource, old, new),
        Some("finalize") => with_namespace_finalizers(old, &new),
        _ => with_old_status(target, old, new),
    };
    // What holds a namespace back is changed by `finalize` alone, for which there is a right of its own.
    if is_namespace(resource) && target.subresource.as_deref() != Some("finalize") {
        new["spec"]["finalizers"] = old["spec"]["finalizers"].clone();
    }
    check_finalizers(resource, &key, old, &new)?;
    metadata::keep_immutable(old, &mut new)?;
    let warnings = complete(target, &key.name, &mut new, options)?;
    defaults::on_update(resource, old, &mut new);
    admission::on_update(txn, resource, old, &mut new, network)?;
    if target.subresource.is_none() {
        let causes = frozen::changed(resource, old, &new);
        if !causes.is_empty() {
            return Err(errors::invalid(resource, &key.name, &causes));
        }
    }
    metadata::tidy(&mut new);
    if resource.generation && target.subresource.as_deref() != Some("status") && differs(resource, old, &new)
    {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        new["metadata"]["generation"] = json!(generation);
    }
    if !applied {
        if same_content(old, &new) {
            return Ok((old.clone(), warnings));
        }
        track(target, Some(old), &mut new, options);
    } else if new == **old {
        return Ok((old.clone(), warnings));
    }
    if may_go(resource, &new) {
        return Ok((delete::gone(txn, &key, new), warnings));
    }
    Ok((txn.put(key, new), warnings))
}

fn check_identity(resource: &Resource, key: &Key, old: &Value, new: &Value) -> Result<(), Status> {
    let name = metadata::text(new, "name");
    if name != key.name && !name.is_empty() {
        return Err(errors::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            key.name
        )));
    }
    let namespace = metadata::text(new, "namespace");
    if namespace != key.namespace && !namespace.is_empty() {
        return Err(errors::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let (uid, own) = (metadata::text(new, "uid"), metadata::text(old, "uid"));
    if !uid.is_empty() && uid != own {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {own}");
        return Err(errors::conflict(resource, &key.name, &why));
    }
    let revision = metadata::text(new, "resourceVersion");
    if revision.is_empty() && resource.custom {
        let cause = errors::Cause::invalid(
            "metadata.resourceVersion",
            &Value::from(0),
            "must be specified for an update",
        );
        return Err(errors::invalid(resource, &key.name, &[cause]));
    }
    if !revision.is_empty() && revision != "0" && revision != metadata::text(old, "resourceVersion") {
        return Err(errors::modified(resource, &key.name));
    }
    Ok(())
}

/// Nobody may keep an object longer once it is being deleted.
fn check_finalizers(resource: &Resource, key: &Key, old: &Value, new: &Value) -> Result<(), Status> {
    let present = metadata::finalizers(old);
    let added = metadata::finalizers(new).into_iter().filter(|name| !present.contains(name));
    let added: Vec<&str> = added.collect();
    if old["metadata"]["deletionTimestamp"].is_null() || added.is_empty() {
        return Ok(());
    }
    let why = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
    );
    Err(errors::invalid(resource, &key.name, &[errors::Cause::forbidden("metadata.finalizers", &why)]))
}

/// The old object with the new status; built-in kinds let labels and annotations pass as well.
fn with_status(resource: &Resource, old: &Value, mut new: Value) -> Value {
    let mut result = old.clone();
    match new.get_mut("status").map(Value::take) {
        Some(status) if !status.is_null() => result["status"] = status,
        _ => drop(result.as_object_mut().and_then(|fields| fields.remove("status"))),
    }
    if !resource.custom {
        for field in ["labels", "annotations", "finalizers"] {
            result["metadata"][field] = new["metadata"][field].take();
        }
    }
    result["metadata"]["managedFields"] = match new["metadata"]["managedFields"].take() {
        Value::Null => old["metadata"]["managedFields"].clone(),
        fields => fields,
    };
    result
}

fn is_namespace(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "namespaces"
}

fn with_namespace_finalizers(old: &Value, new: &Value) -> Value {
    let mut result = old.clone();
    result["spec"]["finalizers"] = new["spec"]["finalizers"].clone();
    if result["spec"]["finalizers"].is_null() {
        result["spec"]["finalizers"] = json!([]);
    }
    result
}

fn with_old_status(target: &Target, old: &Value, mut new: Value) -> Value {
    if target.facts().is_some_and(|v| v.status)
        && let Some(fields) = new.as_object_mut()
    {
        match &old["status"] {
            Value::Null => drop(fields.remove("status")),
            status => drop(fields.insert("status".to_owned(), status.clone())),
        }
    }
    if new["metadata"]["managedFields"].is_null() {
        new["metadata"]["managedFields"] = old["metadata"]["managedFields"].clone();
    }
    new
}

/// Whether anything but metadata and status differs; for built-in kinds that is the spec.
fn differs(resource: &Resource, old: &Value, new: &Value) -> bool {
    if !resource.custom && new.get("spec").is_some() {
        return old["spec"] != new["spec"];
    }
    let relevant = |object: &Value| -> Vec<(String, Value)> {
        let fields = object.as_object().into_iter().flatten();
        fields
            .filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status" | "apiVersion" | "kind"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    relevant(old) != relevant(new)
}

/// Equal but for who manages which field.
fn same_content(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return false };
    if old.len() != new.len() {
        return false;
    }
    old.iter().all(|(key, before)| match (key.as_str(), new.get(key)) {
        ("metadata", Some(after)) => same_metadata(before, after),
        (_, Some(after)) => before == after,
        (_, None) => false,
    })
}

fn same_metadata(before: &Value, after: &Value) -> bool {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else { return false };
    let told = |m: &serde_json::Map<String, Value>| m.keys().filter(|k| *k != "managedFields").count();
    told(before) == told(after)
        && before.iter().filter(|(k, _)| *k != "managedFields").all(|(k, v)| after.get(k) == Some(v))
}

/// A marked object goes when its last finalizer has gone and nothing has time left.
fn may_go(resource: &Resource, object: &Value) -> bool {
    let meta = &object["metadata"];
    if meta["deletionTimestamp"].is_null() || !metadata::finalizers(object).is_empty() {
        return false;
    }
    if resource.group.is_empty() && resource.plural == "namespaces" {
        return object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    }
    meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
}

fn apply_facts(target: &Target) -> apply::Facts {
    let resource = &target.resource;
    if resource.custom {
        apply::Facts::custom(target.facts().and_then(|version| version.schema.clone()))
    } else {
        apply::Facts::built_in(&resource.group, &target.version, &resource.kind)
    }
}

/// Records who set which field. Leases and Events change often and are nobody's to apply, so they are left alone.
pub(super) fn track(target: &Target, old: Option<&Value>, new: &mut Value, options: &Options) {
    if matches!(target.resource.plural.as_str(), "leases" | "events") {
        return;
    }
    apply::update_managed_fields(
        &apply_facts(target),
        old,
        new,
        &options.manager,
        "Update",
        target.subresource.as_deref(),
        options.at,
    );
}
