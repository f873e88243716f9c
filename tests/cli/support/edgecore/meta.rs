//! edgecore's dispatch and meta manager (protocol.md §3.5, §3.8, §3.9): the table `meta`, acknowledgements word for word,
//! remote queries, and the places where a wrong message makes it panic.

use super::{Core, task, twin};
use crate::support::letter::{self, id, message, parent, response, text};
use serde_json::{Value, json};

/// Takes one message of the cloud.
pub fn route(core: &Core, message: &Value) {
    let answered = !parent(message).is_empty();
    match text(message, "/route/group") {
        "resource" | "func" | "user" if answered => {
            let waiter = core.state().waiters.remove(parent(message));
            if let Some(waiter) = waiter {
                drop(waiter.send(message.clone()));
            }
        }
        "resource" | "func" => process(core, message),
        "twin" if answered => twin::confirmed(core, parent(message)),
        "twin" => twin::command(core, message),
        "user" => core.state().orders.push(message.clone()),
        "taskmanager" => task::take(core, message),
        // Dropped with a line in the log.
        _ => {}
    }
}

/// The type that a path names: `namespace/type` and `namespace/type/name` have one.
pub fn type_of(resource: &str) -> &str {
    let parts: Vec<&str> = resource.split('/').collect();
    match parts.as_slice() {
        [_, kind] | [_, kind, _] => kind,
        _ => "",
    }
}

fn process(core: &Core, message: &Value) {
    let operation = text(message, "/route/operation");
    let source = text(message, "/route/source");
    let known = match operation {
        "insert" | "delete" => true,
        "update" => {
            matches!(source, "edgecontroller" | "dynamiccontroller" | "devicecontroller" | "policycontroller")
        }
        _ => false,
    };
    if !known {
        if core.state().broken {
            return;
        }
        // Patches and responses without a parent are stored and sent nowhere.
        if matches!(operation, "update" | "patch" | "response") {
            store(core, message);
        }
        return;
    }
    if core.state().broken {
        let mut failure = letter::message(
            ["metamanager", text(message, "/route/group"), "error", text(message, "/route/resource")],
            json!("insert or update meta failed, database is locked"),
        );
        failure["header"]["parent_msg_id"] = json!(id(message));
        drop(core.send(failure));
        return;
    }
    if operation == "delete" {
        remove(core, message)
    } else {
        store(core, message)
    }
    let mut acknowledgement = response(message, json!("OK"));
    if source == "devicecontroller" {
        if !matches!(type_of(text(message, "/route/resource")), "device" | "devicemodel") {
            core.crash("index out of range: a message of devicecontroller that is no device");
        }
        if operation != "update" {
            acknowledgement["route"]["source"] = json!("meta");
            acknowledgement["route"]["group"] = json!("twin");
        }
    }
    drop(core.send(acknowledgement));
}

fn store(core: &Core, message: &Value) {
    let content = message.get("content").cloned().unwrap_or_default();
    core.state().db.insert(text(message, "/route/resource").to_owned(), content);
}

fn remove(core: &Core, message: &Value) {
    let resource = text(message, "/route/resource");
    let mut state = core.state();
    if type_of(resource) != "pod" {
        state.db.remove(resource);
        return;
    }
    // The row goes when its text has the uid in it; an empty uid is in every text.
    let uid = text(message, "/content/metadata/uid");
    if state.db.get(resource).is_some_and(|pod| pod.to_string().contains(uid)) {
        state.db.remove(resource);
        state.db.remove(&resource.replacen("/pod/", "/podpatch/", 1));
    }
}

/// Asks the cloud as the meta manager does for edged: a fresh id, the answer stored under its own path, and always an
/// acknowledgement. Gives the answer.
pub async fn remote(core: &Core, operation: &str, resource: &str, content: Value) -> Result<Value, String> {
    let answer = core.ask(message(["edged", "meta", operation, resource], content)).await?;
    if answer["content"] != json!("OK") {
        let stored = match answer["content"].as_object() {
            Some(map) if map.contains_key("Object") && map.contains_key("Err") => {
                map["Err"].is_null().then(|| map["Object"].clone())
            }
            _ => Some(answer["content"].clone()),
        };
        let kept = matches!(text(&answer, "/route/operation"), "insert" | "update" | "patch" | "response");
        if let (Some(stored), true) = (stored, kept) {
            core.state().db.insert(text(&answer, "/route/resource").to_owned(), stored);
        }
    }
    drop(core.send(response(&answer, json!("OK"))));
    core.changed();
    Ok(answer)
}

/// What a wrapped answer means to edged: the object, or the reason of the error. A success without an object is a panic
/// for nodes and pods.
pub fn unwrap(core: &Core, answer: &Value, dereferenced: bool) -> Result<Value, String> {
    let content = match &answer["content"] {
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        other => other.clone(),
    };
    if !content.is_object() {
        return Err(format!("not an answer: {}", answer["content"]));
    }
    let status = &content["Err"]["ErrStatus"];
    let says = |key: &str| status.get(key).is_some_and(|v| !matches!(v, Value::Null) && *v != "" && *v != 0);
    if ["status", "message", "reason", "code", "details"].into_iter().any(says) {
        return Err(text(status, "/reason").to_owned());
    }
    if content["Object"].is_null() && dereferenced {
        core.crash(format!(
            "nil dereference: no object and no error for {}",
            text(answer, "/route/resource")
        ));
    }
    Ok(content["Object"].clone())
}
