//! cloudcore's device controller (protocol.md §4.5): membership, models and devices down; twins up, of which the first
//! report of a property is lost; `membership/detail` is never answered.

use super::{Core, api, sender};
use crate::support::letter::{id, message, text};
use kedge::base::{now_ms, uuid4};
use serde_json::{Value, json};

fn membership(core: &Core, device: &str, added: bool) {
    let name = device.split('/').next_back().unwrap_or_default();
    let list = json!([{"id": device, "name": name}]);
    let (added, removed) = if added { (list, Value::Null) } else { (Value::Null, list) };
    let content = json!({"event_id": uuid4(), "timestamp": now_ms(), "added_devices": added, "removed_devices": removed});
    core.send(message(["devicecontroller", "twin", "update", "membership"], content));
}

fn path(object: &Value) -> String {
    let kind = text(object, "/kind").to_lowercase();
    format!("{}/{kind}/{}", text(object, "/metadata/namespace"), text(object, "/metadata/name"))
}

fn identity(device: &Value) -> String {
    format!("{}/{}", text(device, "/metadata/namespace"), text(device, "/metadata/name"))
}

fn push(core: &Core, operation: &str, object: &Value) {
    let resource = path(object);
    let route = ["devicecontroller", "resource", operation, resource.as_str()];
    sender::offer(core, api::with_version(message(route, object.clone())));
}

fn model_of(core: &Core, device: &Value) -> Option<Value> {
    let namespace = text(device, "/metadata/namespace").to_owned();
    let name = text(device, "/spec/deviceModelRef/name").to_owned();
    core.state().objects.get(&("devicemodel".to_owned(), namespace, name)).cloned()
}

/// A Device or DeviceModel is new or has another spec.
pub fn changed(core: &Core, old: Option<&Value>, new: &Value) {
    if text(new, "/kind") != "Device" || text(new, "/spec/nodeName") != core.node {
        return;
    }
    let operation = if old.is_none() { "insert" } else { "update" };
    if old.is_none() {
        membership(core, &identity(new), true);
    } else if old.map(|old| &old["spec"]) == Some(&new["spec"]) {
        return;
    }
    if let Some(model) = model_of(core, new) {
        push(core, operation, &model);
    }
    push(core, operation, new);
}

/// A Device is gone.
pub fn removed(core: &Core, device: &Value) {
    if text(device, "/kind") != "Device" {
        return;
    }
    membership(core, &identity(device), false);
    if let Some(model) = model_of(core, device) {
        push(core, "delete", &model);
    }
    push(core, "delete", device);
}

/// A message of the node's twin module.
pub fn hear(core: &Core, report: &Value) {
    let content = match &report["content"] {
        Value::String(text) => serde_json::from_str(text).unwrap_or(Value::Null),
        other => other.clone(),
    };
    let resource = text(report, "/route/resource");
    let Some(rest) = resource.strip_prefix("device/") else { return };
    if let Some(device) = rest.strip_suffix("/twin/edge_updated") {
        let mut state = core.state();
        for (property, twin) in content["twin"].as_object().into_iter().flatten() {
            let key = format!("{device}/{property}");
            let value = text(twin, "/actual/value").to_owned();
            // The first report only makes an empty entry.
            let first = state.first_report_lost.insert(key.clone(), ()).is_none();
            state.twins.insert(key, if first { String::new() } else { value });
        }
    } else if let Some(device) = rest.strip_suffix("/state/update") {
        core.state().states.insert(device.to_owned(), text(&content, "/device/state").to_owned());
    } else {
        return;
    }
    let mut confirmation = message(["devicecontroller", "twin", "response", "twin"], json!("OK"));
    confirmation["header"]["parent_msg_id"] = json!(id(report));
    core.send(confirmation);
}
