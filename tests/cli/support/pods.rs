//! Pods as tests want them: containers of the image that kedge makes by itself, ended without delay.

use serde_json::{Value, json};

/// A pod for a node; for any node when that is empty.
pub fn pod(name: &str, node: &str, containers: &[Value]) -> String {
    let mut spec = json!({"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
        "containers": containers});
    if !node.is_empty() {
        spec["nodeName"] = json!(node);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}).to_string()
}

pub fn container(name: &str, command: &[&str]) -> Value {
    json!({"name": name, "image": "kedge.local/busybox:1", "command": command})
}

/// One that does nothing for long.
pub fn sleeper(name: &str) -> Value {
    container(name, &["sleep", "100000"])
}
