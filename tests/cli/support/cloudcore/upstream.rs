//! cloudcore's answers to the node (protocol.md §4.2), the wrong ones of §3.9 and §4.1 included.

use super::{Core, Key, api, sender};
use crate::support::letter::{id, message, text};
use kedge::daemon::apiserver::patch::strategic;
use serde_json::{Value, json};

/// Takes one message for the edge controller.
pub fn hear(core: &Core, question: &Value) {
    let parts: Vec<&str> = text(question, "/route/resource").split('/').collect();
    let [namespace, kind, name] = *parts.as_slice() else { return };
    let content = match &question["content"] {
        Value::String(text) => serde_json::from_str(text).unwrap_or(Value::Null),
        other => other.clone(),
    };
    let key = |kind: &str| -> Key { (kind.to_owned(), namespace.to_owned(), name.to_owned()) };
    match (kind, text(question, "/route/operation")) {
        ("node", "insert") => register(core, question, content),
        ("nodepatch", "patch") => patch(core, question, key("node"), "Node", &content),
        ("podpatch", "patch") => patch(core, question, key("pod"), "Pod", &content),
        ("pod", "insert") => {
            let mut pod = content;
            pod["kind"] = json!("Pod");
            pod["apiVersion"] = json!("v1");
            let (_, new) = api::store(core, pod);
            wrapped(core, question, Ok(new), false);
        }
        ("pod", "delete") => delete(core, question, key("pod"), &content),
        ("lease", "query") => wrapped(core, question, get(core, &key("lease")), false),
        ("lease", "insert" | "update") => {
            let mut lease = content;
            lease["kind"] = json!("Lease");
            lease["apiVersion"] = json!("coordination.k8s.io/v1");
            let (_, new) = api::store(core, lease);
            wrapped(core, question, Ok(new), false);
        }
        ("serviceaccounttoken", "query") => token(core, question, content),
        ("event", _) => core.state().events.push(content),
        (_, "query") => bare(core, question, get(core, &key(kind))),
        _ => {}
    }
}

fn get(core: &Core, key: &Key) -> Result<Value, Value> {
    let found = core.state().objects.get(key).cloned();
    found.ok_or_else(|| failure(404, "NotFound", &format!("{}s \"{}\" not found", key.0, key.2)))
}

fn failure(code: u16, reason: &str, text: &str) -> Value {
    json!({"ErrStatus": {"metadata": {}, "status": "Failure", "message": text, "reason": reason, "code": code}})
}

fn answer(core: &Core, to: &Value, content: Value) -> Value {
    let resource = text(to, "/route/resource");
    let content = core.state().wrong.get(resource).cloned().unwrap_or(content);
    let mut answer = message(["edgecontroller", "resource", "response", resource], content);
    answer["header"]["parent_msg_id"] = json!(id(to));
    answer
}

/// `{Object, Err}`; the object of a failure is empty, not null, as client-go gives it.
fn wrapped(core: &Core, to: &Value, result: Result<Value, Value>, versioned: bool) {
    let version = result.as_ref().ok().map(|object| object["metadata"]["resourceVersion"].clone());
    let content = match result {
        Ok(object) => json!({"Object": object, "Err": null}),
        Err(error) if text(to, "/route/operation") == "query" => json!({"Object": null, "Err": error}),
        Err(error) => {
            json!({"Object": {"metadata": {"creationTimestamp": null}, "spec": {}, "status": {}}, "Err": error})
        }
    };
    let mut answer = answer(core, to, content);
    if let (true, Some(version)) = (versioned, version) {
        answer["header"]["resourceversion"] = version;
    }
    core.send(answer);
}

/// The object itself, to be acknowledged; a failure is `{"ErrStatus":…}` under the operation `response`.
fn bare(core: &Core, to: &Value, result: Result<Value, Value>) {
    match result {
        Ok(object) => {
            let answer = answer(core, to, object);
            if answer["content"]["metadata"]["uid"].is_string() {
                sender::offer(core, api::with_version(answer));
            } else {
                core.send(answer);
            }
        }
        Err(error) => core.send(answer(core, to, error)),
    }
}

fn register(core: &Core, question: &Value, mut node: Value) {
    node["kind"] = json!("Node");
    node["apiVersion"] = json!("v1");
    let key: Key = ("node".to_owned(), "null".to_owned(), core.node.clone());
    if core.state().objects.contains_key(&key) {
        let text = format!("nodes \"{}\" already exists", core.node);
        wrapped(core, question, Err(failure(409, "AlreadyExists", &text)), false);
        return;
    }
    node["metadata"]["annotations"]["cloudcore"] = json!("192.0.2.2");
    let (old, new) = api::store(core, node);
    wrapped(core, question, Ok(new.clone()), false);
    api::changed(core, old.as_ref(), &new);
}

fn patch(core: &Core, question: &Value, key: Key, kind: &str, patch: &Value) {
    let patched = get(core, &key).and_then(|object| {
        let uid = patch["metadata"]["uid"].clone();
        if !uid.is_null() && uid != object["metadata"]["uid"] {
            return Err(failure(409, "Conflict", "the UID in the precondition does not match"));
        }
        let status = json!({"status": patch["status"]});
        strategic("", kind, object, &status).map_err(|status| failure(422, "Invalid", &status.to_string()))
    });
    match patched {
        Ok(object) => {
            let (old, new) = api::store(core, object);
            if kind == "Node" {
                api::changed(core, old.as_ref(), &new);
            }
            wrapped(core, question, Ok(new), true);
        }
        Err(error) => wrapped(core, question, Err(error), true),
    }
}

fn delete(core: &Core, question: &Value, key: Key, options: &Value) {
    let uid = options.pointer("/preconditions/uid").cloned();
    let same = get(core, &key).is_ok_and(|pod| uid.is_none_or(|uid| uid == pod["metadata"]["uid"]));
    // `OK` for what is gone or another pod, too.
    core.send(answer(core, question, json!("OK")));
    if same {
        api::remove(core, &key);
    }
}

fn token(core: &Core, question: &Value, mut request: Value) {
    request["kind"] = json!("TokenRequest");
    request["apiVersion"] = json!("authentication.k8s.io/v1");
    // The API server fills the audiences in, so the edge's cache key differs from the question's.
    request["spec"]["audiences"] = json!(["https://kubernetes.default.svc"]);
    let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3607);
    request["status"] = json!({"token": "e30.e30.c2ln",
        "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
    core.send(answer(core, question, request));
}
