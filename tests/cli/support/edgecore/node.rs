//! edgecore's Node (protocol.md §4.2.1): insert, AlreadyExists and its detour through the database, the status patch as a
//! JSON string, the lease.

use super::{Core, meta};
use crate::support::letter::{message, text};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(7);
const CONDITIONS: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID"),
    ("Ready", "True", "EdgeReady"),
];

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn conditions() -> Vec<Value> {
    let one = |(kind, status, reason): &(&str, &str, &str)| {
        json!({"type": kind, "status": status, "lastHeartbeatTime": now(), "lastTransitionTime": now(),
            "reason": reason, "message": reason})
    };
    CONDITIONS.iter().map(one).collect()
}

fn object(core: &Core) -> Value {
    let resources =
        json!({"cpu": "2", "ephemeral-storage": "264212084Ki", "memory": "24684084Ki", "pods": "110"});
    json!({
        "metadata": {
            "name": core.name, "creationTimestamp": null,
            "labels": {"beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": core.name, "kubernetes.io/os": "linux",
                "node-role.kubernetes.io/agent": "", "node-role.kubernetes.io/edge": ""},
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": {},
        "status": {
            "capacity": resources, "allocatable": resources,
            "conditions": conditions(),
            "addresses": [{"type": "InternalIP", "address": "192.0.2.2"}, {"type": "Hostname", "address": core.name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10350}},
            "nodeInfo": {"machineID": "m", "systemUUID": "s", "bootID": "b", "kernelVersion": "6.1.0",
                "osImage": "Debian GNU/Linux 12 (bookworm)", "containerRuntimeVersion": "containerd://1.6.20",
                "kubeletVersion": core.kubelet(), "kubeProxyVersion": "v0.0.0-master+$Format:%H$",
                "operatingSystem": "linux", "architecture": "amd64"},
        },
    })
}

fn path(core: &Core, kind: &str) -> String {
    format!("{}/{kind}/{}", core.version.node_namespace(), core.name)
}

/// Registers the Node, then reports its status by the clock.
pub async fn registration(core: Arc<Core>) {
    let mut pause = FIRST_PAUSE;
    loop {
        if core.state().connected {
            let registered = core.state().registered;
            let done = if registered { report(&core).await } else { register(&core).await };
            if done.is_ok() {
                core.state().registered = true;
                pause = FIRST_PAUSE;
                tokio::time::sleep(if registered { core.times.status } else { FIRST_PAUSE }).await;
                continue;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE.min(core.times.status));
    }
}

async fn register(core: &Core) -> Result<(), String> {
    let resource = path(core, "node");
    let answer = meta::remote(core, "insert", &resource, object(core)).await?;
    match meta::unwrap(core, &answer, true) {
        Ok(node) => keep(core, node),
        Err(reason) if reason == "AlreadyExists" => {
            get(core).await?;
        }
        Err(reason) => return Err(reason),
    }
    Ok(())
}

/// What a successful answer about the Node leaves in the database; before 1.23 only queries do.
fn keep(core: &Core, mut node: Value) {
    if core.version.reads_node_locally() {
        node["apiVersion"] = json!("v1");
        node["kind"] = json!("Node");
        core.state().db.insert(path(core, "node"), node);
    }
}

async fn get(core: &Core) -> Result<Value, String> {
    let resource = path(core, "node");
    if core.version.reads_node_locally() {
        return core.state().db.get(&resource).cloned().ok_or_else(|| "no row for the node".to_owned());
    }
    let answer = meta::remote(core, "query", &resource, Value::Null).await?;
    if answer["content"].is_object() && text(&answer, "/content/metadata/name") == core.name {
        return Ok(answer["content"].clone());
    }
    Err(format!("not a node: {}", answer["content"]))
}

async fn report(core: &Core) -> Result<(), String> {
    let known = get(core).await?;
    let order: Vec<Value> = CONDITIONS.iter().map(|(kind, ..)| json!({"type": kind})).collect();
    let mut status = json!({"$setElementOrder/conditions": order, "conditions": conditions()});
    // Only what differs from the Node as it is known is in the patch.
    if text(&known, "/status/nodeInfo/kubeletVersion") != core.kubelet() {
        for name in ["capacity", "allocatable", "addresses", "daemonEndpoints", "nodeInfo"] {
            status[name] = object(core)["status"][name].take();
        }
    }
    let patch = json!({"status": status}).to_string();
    let resource = path(core, "nodepatch");
    core.state().db.insert(resource.clone(), json!(patch));
    let answer = core.ask(message(["edged", "meta", "patch", &resource], json!(patch))).await?;
    let node = meta::unwrap(core, &answer, true)?;
    keep(core, node);
    Ok(())
}

/// Asks for the lease, makes it when it is missing, renews it by the clock.
pub async fn lease(core: Arc<Core>) {
    let mut held: Option<Value> = None;
    loop {
        if core.state().connected {
            held = renew(&core, held.take()).await.ok();
        }
        let pause = if held.is_some() { core.times.lease } else { FIRST_PAUSE.max(core.times.lease / 10) };
        tokio::time::sleep(pause).await;
    }
}

async fn renew(core: &Core, held: Option<Value>) -> Result<Value, String> {
    let resource = format!("kube-node-lease/lease/{}", core.name);
    let spec = json!({"holderIdentity": core.name, "leaseDurationSeconds": 40,
        "renewTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()});
    let Some(mut lease) = held else {
        let answer = meta::remote(core, "query", &resource, Value::Null).await?;
        return match meta::unwrap(core, &answer, false) {
            Ok(lease) => Ok(lease),
            Err(reason) if reason == "NotFound" => {
                let new = json!({"metadata": {"name": core.name, "namespace": "kube-node-lease",
                    "creationTimestamp": null}, "spec": spec});
                let answer = meta::remote(core, "insert", &resource, new).await?;
                meta::unwrap(core, &answer, false)
            }
            Err(reason) => Err(reason),
        };
    };
    lease["spec"] = spec;
    let answer = meta::remote(core, "update", &resource, lease).await?;
    meta::unwrap(core, &answer, false)
}
