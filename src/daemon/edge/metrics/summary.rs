//! `/stats/summary`: the measurement as the JSON document that a kubelet answers. Pure. What is unknown is left out.

use super::Measurement;
use crate::base::rfc3339;
use crate::daemon::edge::pod::{ContainerUse, CpuTime, Layer, MemoryUse, PodUse, Traffic};
use crate::host::usage::Interface;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The document; with `only_cpu_and_memory` without disks and networks.
pub(super) fn document(measurement: &Measurement, only_cpu_and_memory: bool) -> Value {
    let pods: Vec<Value> = measurement.pods.iter().map(|of| pod(of, only_cpu_and_memory)).collect();
    json!({"node": node(measurement, only_cpu_and_memory), "pods": pods})
}

fn time(millis: i64) -> String {
    rfc3339(Timestamp::from_millisecond(millis).unwrap_or_default())
}

/// An object of the parts that are there.
fn object<const N: usize>(parts: [(&str, Value); N]) -> Value {
    let there = parts.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(there.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

fn node(of: &Measurement, only_cpu_and_memory: bool) -> Value {
    let (usage, measured, at) = (&of.usage, &of.measured, time(of.at));
    let memory = &usage.memory;
    let mut node = json!({
        "nodeName": of.node,
        "startTime": time(usage.boot.saturating_mul(1000)),
        "cpu": object([
            ("time", at.clone().into()),
            ("usageNanoCores", json!(of.nano_cores)),
            ("usageCoreNanoSeconds", json!(usage.cpu_nanos)),
        ]),
        "memory": {
            "time": at,
            "availableBytes": memory.total.saturating_sub(memory.working_set),
            "usageBytes": memory.used,
            "workingSetBytes": memory.working_set,
            "rssBytes": memory.rss,
            "pageFaults": memory.page_faults,
            "majorPageFaults": memory.major_page_faults,
        },
    });
    if !only_cpu_and_memory && let Value::Object(node) = &mut node {
        node.insert("network".to_owned(), network(&at, &usage.interfaces));
        node.insert(
            "fs".to_owned(),
            json!({
                "time": at,
                "availableBytes": measured.disk_available,
                "capacityBytes": measured.disk_total,
                "usedBytes": measured.disk_total.saturating_sub(measured.disk_available),
                "inodesFree": measured.inodes_free,
                "inodes": measured.inodes_total,
                "inodesUsed": measured.inodes_total.saturating_sub(measured.inodes_free),
            }),
        );
        let rlimit = json!({"time": at, "maxpid": measured.processes_limit, "curproc": measured.processes});
        node.insert("rlimit".to_owned(), rlimit);
    }
    node
}

/// The first interface stands for the node, as its route does for kubelet.
fn network(at: &str, interfaces: &[Interface]) -> Value {
    let one = |of: &Interface| {
        json!({"name": of.name, "rxBytes": of.rx_bytes, "rxErrors": of.rx_errors,
               "txBytes": of.tx_bytes, "txErrors": of.tx_errors})
    };
    let mut network = interfaces.first().map_or_else(|| json!({"name": ""}), one);
    network["time"] = at.into();
    network["interfaces"] = interfaces.iter().map(one).collect();
    network
}

fn pod(of: &PodUse, only_cpu_and_memory: bool) -> Value {
    let containers: Vec<Value> =
        of.containers.iter().map(|one| container(one, only_cpu_and_memory)).collect();
    let rest = !only_cpu_and_memory;
    object([
        ("podRef", json!({"name": of.name, "namespace": of.namespace, "uid": of.uid})),
        ("startTime", if of.started.is_empty() { Value::Null } else { of.started.clone().into() }),
        ("containers", containers.into()),
        ("cpu", cpu(of.cpu.as_ref())),
        ("memory", memory(of.memory.as_ref())),
        ("network", of.traffic.as_ref().filter(|_| rest).map_or(Value::Null, traffic)),
        ("process_stats", of.processes.map_or(Value::Null, |count| json!({"process_count": count}))),
    ])
}

fn container(of: &ContainerUse, only_cpu_and_memory: bool) -> Value {
    object([
        ("name", of.name.clone().into()),
        ("startTime", time(of.started).into()),
        ("cpu", cpu(of.cpu.as_ref())),
        ("memory", memory(of.memory.as_ref())),
        ("rootfs", of.layer.as_ref().filter(|_| !only_cpu_and_memory).map_or(Value::Null, layer)),
    ])
}

fn cpu(of: Option<&CpuTime>) -> Value {
    let Some(of) = of else { return Value::Null };
    object([
        ("time", time(of.at).into()),
        ("usageNanoCores", json!(of.nano_cores)),
        ("usageCoreNanoSeconds", json!(of.nanos)),
    ])
}

fn memory(of: Option<&MemoryUse>) -> Value {
    let Some(of) = of else { return Value::Null };
    object([
        ("time", time(of.at).into()),
        ("availableBytes", json!(of.available)),
        ("usageBytes", json!(of.usage)),
        ("workingSetBytes", json!(of.working_set)),
        ("rssBytes", json!(of.rss)),
        ("pageFaults", json!(of.page_faults)),
        ("majorPageFaults", json!(of.major_page_faults)),
    ])
}

fn layer(of: &Layer) -> Value {
    object([("time", time(of.at).into()), ("usedBytes", json!(of.bytes)), ("inodesUsed", json!(of.inodes))])
}

fn traffic(of: &Traffic) -> Value {
    let mut one = json!({"name": of.interface, "rxBytes": of.rx_bytes, "rxErrors": of.rx_errors,
                         "txBytes": of.tx_bytes, "txErrors": of.tx_errors});
    let all = json!([one]);
    one["time"] = time(of.at).into();
    one["interfaces"] = all;
    one
}

#[cfg(test)]
mod tests {
    use super::super::exposition::tests::measurement;
    use super::*;

    #[test]
    fn a_measurement_has_a_kubelets_form() {
        let document = document(&measurement(), false);
        assert_eq!(document["node"]["nodeName"], "edge-1");
        assert_eq!(document["node"]["cpu"]["usageCoreNanoSeconds"], 2_500_000_000_u64);
        assert_eq!(document["node"]["cpu"].get("usageNanoCores"), None, "unknown is left out");
        assert_eq!(document["node"]["startTime"], "2023-11-14T22:13:20Z");
        let pod = &document["pods"][0];
        assert_eq!(pod["podRef"], json!({"name": "p", "namespace": "d", "uid": "u"}));
        let container = &pod["containers"][0];
        assert_eq!(container["memory"]["workingSetBytes"], 4096);
        assert_eq!(container["rootfs"]["usedBytes"], 12);
        assert_eq!(pod["network"]["rxBytes"], 7);
    }

    #[test]
    fn only_processor_and_memory_may_be_wanted() {
        let document = document(&measurement(), true);
        assert!(document["node"].get("fs").is_none() && document["pods"][0].get("network").is_none());
        assert!(document["pods"][0]["containers"][0].get("rootfs").is_none());
    }
}
