//! The objects that cloudcore would watch in Kubernetes, and what their changes make it push (protocol.md §4.3).

use super::{Core, Key, devices, sender};
use crate::support::letter::{message, text};
use kedge::base::uuid4;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The number of an object's version.
pub fn version(object: &Value) -> u64 {
    text(object, "/metadata/resourceVersion").parse().unwrap_or(0)
}

/// A message with its object's version in the header.
pub fn with_version(mut message: Value) -> Value {
    message["header"]["resourceversion"] = message["content"]["metadata"]["resourceVersion"].clone();
    message
}

/// Path and key of an object.
fn key_of(object: &Value) -> Key {
    let kind = text(object, "/kind").to_lowercase();
    let cluster = matches!(kind.as_str(), "node" | "persistentvolume");
    let namespace = match text(object, "/metadata/namespace") {
        _ if cluster => "null",
        "" => "default",
        namespace => namespace,
    };
    (kind, namespace.to_owned(), text(object, "/metadata/name").to_owned())
}

/// Stores an object under a new version; gives the old and the new one.
pub fn store(core: &Core, mut object: Value) -> (Option<Value>, Value) {
    let key = key_of(&object);
    let mut state = core.state();
    state.revision += 1;
    let old = state.objects.get(&key).cloned();
    let kept = |name: &str| old.as_ref().map(|old| old["metadata"][name].clone());
    let created = json!(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    object["metadata"]["uid"] = kept("uid").unwrap_or_else(|| json!(uuid4()));
    object["metadata"]["creationTimestamp"] = kept("creationTimestamp").unwrap_or(created);
    object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
    if key.1 != "null" {
        object["metadata"]["namespace"] = json!(key.1);
    }
    state.objects.insert(key, object.clone());
    (old, object)
}

/// Stores an object and tells the node what it is to know of it.
pub fn apply(core: &Core, object: Value) {
    let (old, new) = store(core, object);
    changed(core, old.as_ref(), &new);
}

/// What an informer's event makes the cloud push.
pub fn changed(core: &Core, old: Option<&Value>, new: &Value) {
    let (kind, namespace, name) = key_of(new);
    let resource = format!("{namespace}/{kind}/{name}");
    let push = |operation: &str| {
        let route = ["edgecontroller", "resource", operation, resource.as_str()];
        sender::offer(core, with_version(message(route, new.clone())));
    };
    match kind.as_str() {
        "pod" if text(new, "/spec/nodeName") == core.node => match old {
            None => push("insert"),
            // Changes of the status alone are filtered out.
            Some(old) if differs(old, new) => push("update"),
            Some(_) => {}
        },
        "configmap" if wanted(core, &kind, &namespace, &name) => {
            push(if old.is_none() { "insert" } else { "update" });
        }
        "secret" if wanted(core, &kind, &namespace, &name) => push("update"),
        "node" if name == core.node => push("update"),
        "device" | "devicemodel" => devices::changed(core, old, new),
        _ => {}
    }
}

fn differs(old: &Value, new: &Value) -> bool {
    let bare = |object: &Value| {
        let mut metadata = object["metadata"].clone();
        for name in ["resourceVersion", "managedFields", "generation"] {
            metadata[name] = Value::Null;
        }
        (metadata, object["spec"].clone())
    };
    bare(old) != bare(new)
}

/// Whether a pod of the node names the object.
fn wanted(core: &Core, kind: &str, namespace: &str, name: &str) -> bool {
    let state = core.state();
    let pods = state.objects.iter().filter(|((kind, ns, _), _)| kind == "pod" && ns == namespace);
    pods.into_iter().any(|(_, pod)| references(pod).contains(&(kind.to_owned(), name.to_owned())))
}

fn references(value: &Value) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mut stack = vec![value];
    while let Some(value) = stack.pop() {
        if let Value::Object(map) = value {
            for (field, kind, name) in [
                ("configMap", "configmap", "name"),
                ("configMapRef", "configmap", "name"),
                ("configMapKeyRef", "configmap", "name"),
                ("secret", "secret", "secretName"),
                ("secret", "secret", "name"),
                ("secretRef", "secret", "name"),
                ("secretKeyRef", "secret", "name"),
            ] {
                let name = map.get(field).and_then(|inner| inner.get(name)).and_then(Value::as_str);
                found.extend(name.map(|name| (kind.to_owned(), name.to_owned())));
            }
            stack.extend(map.values());
        } else if let Value::Array(list) = value {
            stack.extend(list);
        }
    }
    found
}

/// Deletes as a client of the API does.
pub fn delete(core: &Core, key: &Key) {
    let Some(mut object) = core.state().objects.get(key).cloned() else { return };
    if key.0 == "pod" {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        object["metadata"]["deletionTimestamp"] = json!(now);
        object["metadata"]["deletionGracePeriodSeconds"] = json!(1);
        apply(core, object);
    } else {
        remove(core, key);
    }
}

/// The object is gone; the node is told with its last form.
pub fn remove(core: &Core, key: &Key) {
    let removed = {
        let mut state = core.state();
        state.revision += 1;
        let revision = state.revision;
        state.objects.remove(key).map(|mut object| {
            object["metadata"]["resourceVersion"] = json!(revision.to_string());
            object
        })
    };
    let Some(object) = removed else { return };
    let (kind, namespace, name) = key;
    if matches!(kind.as_str(), "device" | "devicemodel") {
        devices::removed(core, &object);
    } else {
        let resource = format!("{namespace}/{kind}/{name}");
        let route = ["edgecontroller", "resource", "delete", resource.as_str()];
        sender::offer(core, with_version(message(route, object)));
    }
}
