//! edgecore's device twin (protocol.md §4.5): membership, reports with versions, and every unconfirmed message again with
//! the same id whenever there was no traffic for a while.

use super::Core;
use crate::support::letter::{id, message, text};
use kedge::base::{now_ms, uuid4};
use serde_json::{Value, json};
use std::sync::Arc;

/// A new connection: the list of devices is asked for.
pub fn connected(core: &Core) {
    let detail = json!({"event_type": "group_membership_event", "event_id": uuid4(), "group_id": core.name,
        "operation": "detail", "timestamp": now_ms()});
    tell(core, message(["twin", "resource", "get", "membership/detail"], json!(detail.to_string())));
}

fn tell(core: &Core, message: Value) {
    // While there is no connection it is dropped, not queued.
    if core.send(message.clone()).is_ok() {
        core.state().unconfirmed.push(message);
    }
    core.twin_traffic.notify_one();
}

/// The cloud has confirmed a message.
pub fn confirmed(core: &Core, of: &str) {
    core.state().unconfirmed.retain(|message| id(message) != of);
    core.twin_traffic.notify_one();
}

/// A message of the cloud for the twin module.
pub fn command(core: &Core, message: &Value) {
    let resource = text(message, "/route/resource");
    if resource.contains("membership") {
        let ids = |name: &str| -> Vec<String> {
            let list = message["content"][name].as_array().cloned().unwrap_or_default();
            list.iter().filter_map(|device| device["id"].as_str().map(str::to_owned)).collect()
        };
        let (added, removed) = (ids("added_devices"), ids("removed_devices"));
        let mut state = core.state();
        state.members.retain(|member| !removed.contains(member) && !added.contains(member));
        state.members.extend(added);
    } else {
        core.state().orders.push(message.clone());
    }
    core.twin_traffic.notify_one();
}

/// Sends again by the clock.
pub async fn run(core: Arc<Core>) {
    loop {
        let idle = tokio::time::timeout(core.times.twin, core.twin_traffic.notified()).await;
        if idle.is_err() {
            let waiting = core.state().unconfirmed.clone();
            for message in waiting {
                drop(core.send(message));
            }
        }
    }
}

/// A changed value goes to the cloud.
pub fn report(core: &Core, device: &str, property: &str, value: &str) {
    let version = {
        let mut state = core.state();
        let version = state.versions.entry((device.to_owned(), property.to_owned())).or_default();
        *version += 1;
        *version
    };
    let content = json!({"event_id": uuid4(), "timestamp": now_ms(), "twin": {property: {
        "actual": {"value": value, "metadata": {"timestamp": now_ms()}}, "optional": true,
        "metadata": {"type": "string"}, "actual_version": {"cloud": 0, "edge": version}}}});
    tell(
        core,
        message(["twin", "resource", "update", &format!("device/{device}/twin/edge_updated")], content),
    );
}

/// A changed state goes to the cloud.
pub fn report_state(core: &Core, device: &str, state: &str) {
    let online = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let name = device.split('/').next_back().unwrap_or_default();
    let content = json!({"event_id": uuid4(), "timestamp": now_ms(),
        "device": {"name": name, "state": state, "lastOnlineTime": online}});
    let resource = format!("device/{device}/state/update");
    tell(core, message(["twin", "resource", "update", &resource], json!(content.to_string())));
}
