//! What the API adds to or refuses in an object because of other objects: Service addresses, service account tokens
//! in Pods, names of custom resources.

use super::ServiceNetwork;
use super::services;
use crate::base::random_suffix;
use crate::daemon::apiserver::catalog::Resource;
use crate::daemon::apiserver::errors::{self, Cause};
use crate::daemon::apiserver::local::Collection;
use crate::daemon::apiserver::storage::{Key, Txn};
use crate::model::Status;
use serde_json::{Value, json};

const TOKEN_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub(super) fn on_create(
    txn: &Txn<'_>,
    resource: &Resource,
    object: &mut Value,
    network: ServiceNetwork,
) -> Result<(), Status> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "services") => services::allocate(txn, resource, None, object, network),
        ("", "pods") => {
            mount_token(txn, resource, object)?;
            resolve_priority(txn, object);
            Ok(())
        }
        _ => Ok(()),
    }
}

pub(super) fn on_update(
    txn: &Txn<'_>,
    resource: &Resource,
    old: &Value,
    new: &mut Value,
    network: ServiceNetwork,
) -> Result<(), Status> {
    if resource.group.is_empty() && resource.plural == "services" && old["spec"] != new["spec"] {
        return services::allocate(txn, resource, Some(old), new, network);
    }
    let immutable = old["immutable"] == true && (old["data"] != new["data"] || new["immutable"] != true);
    if resource.group.is_empty() && matches!(resource.plural.as_str(), "configmaps" | "secrets") && immutable
    {
        let cause = Cause::forbidden("data", "field is immutable when `immutable` is set");
        let name = old["metadata"]["name"].as_str().unwrap_or("");
        return Err(errors::invalid(resource, name, &[cause]));
    }
    Ok(())
}

/// Gives a Pod its service account, and the account's token as a projected volume unless either refuses it.
fn mount_token(txn: &Txn<'_>, resource: &Resource, pod: &mut Value) -> Result<(), Status> {
    let spec = &mut pod["spec"];
    let account =
        spec["serviceAccountName"].as_str().filter(|s| !s.is_empty()).unwrap_or("default").to_owned();
    spec["serviceAccountName"] = json!(account);
    spec["serviceAccount"] = json!(account);
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("").to_owned();
    let key = Key::new(&Collection::of("", "serviceaccounts"), Some(&namespace), &account);
    let found = txn.get(&key);
    if found.is_none() && account != "default" {
        let name = pod["metadata"]["name"].as_str().unwrap_or("");
        let why = format!(
            "error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found"
        );
        return Err(errors::forbidden(resource, name, &why));
    }
    // A new namespace gets its `default` account in a moment; a pod that is quicker counts on it.
    let account = found.as_deref().unwrap_or(&Value::Null);
    let spec = &mut pod["spec"];
    let refused = match spec["automountServiceAccountToken"].as_bool() {
        Some(wanted) => !wanted,
        None => account["automountServiceAccountToken"] == false,
    };
    if refused {
        return Ok(());
    }
    let name = format!("kube-api-access-{}", random_suffix(5));
    let mut used = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            used |= add_mount(container, &name);
        }
    }
    if used {
        let volume = token_volume(&name);
        match spec.get_mut("volumes").and_then(Value::as_array_mut) {
            Some(volumes) => volumes.push(volume),
            None => spec["volumes"] = json!([volume]),
        }
    }
    Ok(())
}

fn add_mount(container: &mut Value, volume: &str) -> bool {
    let mount = json!({"name": volume, "mountPath": TOKEN_MOUNT, "readOnly": true});
    match container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
        Some(mounts) if mounts.iter().any(|m| m["mountPath"] == TOKEN_MOUNT) => false,
        Some(mounts) => {
            mounts.push(mount);
            true
        }
        None => {
            container["volumeMounts"] = json!([mount]);
            true
        }
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}}]}})
}

fn resolve_priority(txn: &Txn<'_>, pod: &mut Value) {
    let class = pod["spec"]["priorityClassName"].as_str().unwrap_or("");
    let value = match class {
        "system-node-critical" => 2_000_001_000,
        "system-cluster-critical" => 2_000_000_000,
        "" => 0,
        _ => txn
            .get(&Key::new(&Collection::of("scheduling.k8s.io", "priorityclasses"), None, class))
            .and_then(|found| found["value"].as_i64())
            .unwrap_or(0),
    };
    if pod["spec"]["priority"].is_null() {
        pod["spec"]["priority"] = json!(value);
    }
    if pod["spec"]["preemptionPolicy"].is_null() {
        pod["spec"]["preemptionPolicy"] = json!("PreemptLowerPriority");
    }
}

/// Two definitions cannot serve the same names in one group.
pub(super) fn check_names(txn: &Txn<'_>, resource: &Resource, definition: &Value) -> Result<(), Status> {
    let (group, kind) = (&definition["spec"]["group"], &definition["spec"]["names"]["kind"]);
    let collection = Collection::of("apiextensions.k8s.io", "customresourcedefinitions");
    let name = &definition["metadata"]["name"];
    let clash = txn.list(&collection, None).into_iter().find(|other| {
        other["metadata"]["name"] != *name
            && other["spec"]["group"] == *group
            && other["spec"]["names"]["kind"] == *kind
    });
    match clash {
        None => Ok(()),
        Some(other) => {
            let by = other["metadata"]["name"].as_str().unwrap_or("");
            let message = format!("the kind is already served by {by}");
            let cause = Cause::invalid("spec.names.kind", kind, &message);
            Err(errors::invalid(resource, name.as_str().unwrap_or(""), &[cause]))
        }
    }
}
