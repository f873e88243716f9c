//! The Node object, its status and its Lease, as JSON. Pure: from facts to objects.

use super::conditions::{RuntimeState, Thresholds, decide};
use crate::base::rfc3339_micro;
use crate::host::facts::{Measured, System};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The Kubernetes release whose kubelet this edge stands for, then KubeEdge's and our own.
pub const KUBELET_VERSION: &str = concat!("v1.36.0-kubeedge-v1.23.1-kedge-", env!("CARGO_PKG_VERSION"));

/// What the node says of itself besides measurements.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub name: String,
    pub system: System,
    pub internal_ip: IpAddr,
    pub kubelet_port: u16,
    pub max_pods: u32,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Value>,
    pub schedulable: bool,
    pub thresholds: Thresholds,
}

/// Labels that every edge node has, then the operator's.
pub(super) fn labels(profile: &Profile) -> BTreeMap<String, String> {
    let system = &profile.system;
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", profile.name.as_str()),
        ("kubernetes.io/os", system.operating_system),
        ("kubernetes.io/arch", system.architecture),
        ("beta.kubernetes.io/os", system.operating_system),
        ("beta.kubernetes.io/arch", system.architecture),
        ("node-role.kubernetes.io/edge", ""),
        ("node-role.kubernetes.io/agent", ""),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    labels.extend(profile.labels.clone());
    labels
}

/// The object that registers the node.
pub(super) fn node(profile: &Profile, status: &Value) -> Value {
    let mut spec = Map::new();
    if !profile.taints.is_empty() {
        spec.insert("taints".to_owned(), Value::Array(profile.taints.clone()));
    }
    if !profile.schedulable {
        spec.insert("unschedulable".to_owned(), Value::Bool(true));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": profile.name,
            "labels": labels(profile),
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": spec,
        "status": status,
    })
}

/// The whole status.
pub(super) fn status(
    profile: &Profile,
    measured: &Measured,
    runtime: &RuntimeState,
    runtime_version: &str,
    before: &[Value],
    now: Timestamp,
) -> Value {
    let pods = if *runtime == RuntimeState::Off { 0 } else { profile.max_pods };
    let (memory, disk) = profile.thresholds.allocatable(measured);
    let system = &profile.system;
    json!({
        "addresses": [
            {"type": "InternalIP", "address": profile.internal_ip.to_string()},
            {"type": "Hostname", "address": profile.name},
        ],
        "capacity": {
            "cpu": measured.processors.to_string(),
            "memory": kibibytes(measured.memory_total),
            "ephemeral-storage": kibibytes(measured.disk_total),
            "pods": pods.to_string(),
        },
        "allocatable": {
            "cpu": measured.processors.to_string(),
            "memory": kibibytes(memory),
            "ephemeral-storage": disk.to_string(),
            "pods": pods.to_string(),
        },
        "conditions": decide(measured, &profile.thresholds, runtime, before, now),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": profile.kubelet_port}},
        "nodeInfo": {
            "architecture": system.architecture,
            "bootID": system.boot_id,
            "containerRuntimeVersion": runtime_version,
            "kernelVersion": system.kernel_version,
            "kubeProxyVersion": "",
            "kubeletVersion": KUBELET_VERSION,
            "machineID": system.machine_id,
            "operatingSystem": system.operating_system,
            "osImage": system.os_image,
            "systemUUID": system.system_uuid,
        },
    })
}

fn kibibytes(bytes: u64) -> String {
    format!("{}Ki", bytes / 1024)
}

/// Whether two statuses say the same but for heartbeats.
pub(super) fn same_but_for_heartbeats(a: &Value, b: &Value) -> bool {
    let still = |status: &Value| {
        let mut status = status.clone();
        if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
            for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
                condition.remove("lastHeartbeatTime");
            }
        }
        status
    };
    still(a) == still(b)
}

/// A new lease, or the stored one renewed.
pub(super) fn lease(
    kept: Option<&Value>,
    node: &str,
    node_uid: Option<&str>,
    seconds: u64,
    now: Timestamp,
) -> Value {
    let mut lease = kept.cloned().unwrap_or_else(|| {
        let mut metadata = json!({"name": node, "namespace": super::LEASE_NAMESPACE});
        if let (Some(uid), Some(fields)) = (node_uid, metadata.as_object_mut()) {
            let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}]);
            fields.insert("ownerReferences".to_owned(), owner);
        }
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata})
    });
    if let Some(fields) = lease.as_object_mut() {
        let spec =
            json!({"holderIdentity": node, "leaseDurationSeconds": seconds, "renewTime": rfc3339_micro(now)});
        fields.insert("spec".to_owned(), spec);
    }
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile {
            name: "edge-1".into(),
            system: System { architecture: "amd64", operating_system: "linux", ..System::default() },
            internal_ip: [10, 0, 0, 7].into(),
            kubelet_port: 10350,
            max_pods: 110,
            labels: BTreeMap::from([("zone".into(), "a".into())]),
            taints: Vec::new(),
            schedulable: true,
            thresholds: Thresholds::new(&BTreeMap::new()),
        }
    }

    #[test]
    fn a_node_carries_what_marks_it_as_an_edge() {
        let measured =
            Measured { processors: 2, memory_total: 1 << 30, disk_total: 1 << 30, ..Measured::default() };
        let now = Timestamp::from_second(0).unwrap();
        let status = status(&profile(), &measured, &RuntimeState::Ready, "containerd://1.6.20", &[], now);
        let node = node(&profile(), &status);
        let labels = &node["metadata"]["labels"];
        assert_eq!(labels["node-role.kubernetes.io/edge"], "");
        assert_eq!((&labels["kubernetes.io/hostname"], &labels["zone"]), (&json!("edge-1"), &json!("a")));
        assert_eq!(
            status["capacity"],
            json!({"cpu": "2", "memory": "1048576Ki", "ephemeral-storage": "1048576Ki", "pods": "110"})
        );
        assert_eq!(status["allocatable"]["memory"], "946176Ki");
        assert!(
            status["nodeInfo"]["kubeletVersion"]
                .as_str()
                .unwrap()
                .starts_with("v1.36.0-kubeedge-v1.23.1-kedge-")
        );
        let off = super::status(&profile(), &measured, &RuntimeState::Off, "", &[], now);
        assert_eq!(off["capacity"]["pods"], "0");
    }

    #[test]
    fn heartbeats_alone_are_no_change() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let measured = Measured::default();
        let first = status(&profile(), &measured, &RuntimeState::Ready, "", &[], at(0));
        let before = first["conditions"].as_array().unwrap();
        let second = status(&profile(), &measured, &RuntimeState::Ready, "", before, at(9));
        assert_ne!(first, second);
        assert!(same_but_for_heartbeats(&first, &second));
        let third = status(&profile(), &measured, &RuntimeState::NotReady("x".into()), "", before, at(9));
        assert!(!same_but_for_heartbeats(&first, &third));
    }

    #[test]
    fn a_lease_is_made_and_renewed() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = lease(None, "n", Some("u"), 40, at(0));
        assert_eq!(first["metadata"]["ownerReferences"][0]["uid"], "u");
        assert_eq!(first["spec"]["renewTime"], "1970-01-01T00:00:00.000000Z");
        let mut kept = first.clone();
        kept["metadata"]["resourceVersion"] = json!("7");
        let renewed = lease(Some(&kept), "n", None, 40, at(10));
        assert_eq!(renewed["metadata"], kept["metadata"]);
        assert_eq!(renewed["spec"]["renewTime"], "1970-01-01T00:00:10.000000Z");
    }
}
