//! The measurement as Prometheus text, under the names that kubelet and cAdvisor give. Pure. What is unknown has no line.

use super::Measurement;
use crate::daemon::edge::pod::{ContainerUse, PodUse};

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// One line: labels, value, and when it was measured in milliseconds since the epoch.
type Sample = (String, f64, Option<i64>);

struct Text(String);

impl Text {
    /// A family of metrics; one without samples is left out.
    fn family(&mut self, name: &str, kind: Kind, help: &str, samples: impl IntoIterator<Item = Sample>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.0 += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value, at) in samples {
            let at = at.map(|at| format!(" {at}")).unwrap_or_default();
            self.0 += &format!("{name}{labels} {value}{at}\n");
        }
    }
}

/// Labels in braces; none for none.
fn labels(pairs: &[(&str, &str)]) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let one = |(name, value): &(&str, &str)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    format!("{{{}}}", pairs.iter().map(one).collect::<Vec<_>>().join(","))
}

#[allow(clippy::cast_precision_loss)] // Prometheus has no other numbers.
fn number(value: u64) -> f64 {
    value as f64
}

fn seconds(nanos: u64) -> f64 {
    number(nanos) / 1e9
}

fn containers(pods: &[PodUse]) -> impl Iterator<Item = (&PodUse, &ContainerUse)> + Clone {
    pods.iter().flat_map(|pod| pod.containers.iter().map(move |container| (pod, container)))
}

/// `/metrics/resource`: what metrics-server reads.
pub(super) fn resource(of: &Measurement) -> String {
    let mut text = Text(String::new());
    let name = |pod: &PodUse, container: &ContainerUse| {
        labels(&[("container", &container.name), ("namespace", &pod.namespace), ("pod", &pod.name)])
    };
    let of_pod = |pod: &PodUse| labels(&[("namespace", &pod.namespace), ("pod", &pod.name)]);
    let all = containers(&of.pods);
    text.family(
        "container_cpu_usage_seconds_total",
        Kind::Counter,
        "Processor time of a container, in seconds of one processor",
        all.clone().filter_map(|(pod, one)| {
            let cpu = one.cpu?;
            Some((name(pod, one), seconds(cpu.nanos), Some(cpu.at)))
        }),
    );
    text.family(
        "container_memory_working_set_bytes",
        Kind::Gauge,
        "Memory that a container cannot do without, in bytes",
        all.clone().filter_map(|(pod, one)| {
            let memory = one.memory?;
            Some((name(pod, one), number(memory.working_set), Some(memory.at)))
        }),
    );
    text.family(
        "container_start_time_seconds",
        Kind::Gauge,
        "When a container started, in seconds since the epoch",
        all.map(|(pod, one)| (name(pod, one), started(one), None)),
    );
    let (usage, at) = (&of.usage, Some(of.at));
    let node = [(String::new(), seconds(usage.cpu_nanos), at)];
    text.family(
        "node_cpu_usage_seconds_total",
        Kind::Counter,
        "Processor time of the machine, in seconds of one processor",
        node,
    );
    let node = [(String::new(), number(usage.memory.working_set), at)];
    text.family(
        "node_memory_working_set_bytes",
        Kind::Gauge,
        "Memory that the machine cannot do without, in bytes",
        node,
    );
    text.family(
        "pod_cpu_usage_seconds_total",
        Kind::Counter,
        "Processor time of a pod, in seconds of one processor",
        of.pods.iter().filter_map(|pod| Some((of_pod(pod), seconds(pod.cpu?.nanos), Some(pod.cpu?.at)))),
    );
    text.family(
        "pod_memory_working_set_bytes",
        Kind::Gauge,
        "Memory that a pod cannot do without, in bytes",
        of.pods
            .iter()
            .filter_map(|pod| Some((of_pod(pod), number(pod.memory?.working_set), Some(pod.memory?.at)))),
    );
    let failed = [(String::new(), f64::from(u8::from(of.failed)), None)];
    // Under the name of old kubelets too.
    for name in ["resource_scrape_error", "scrape_error"] {
        text.family(name, Kind::Gauge, "1 when the runtime could not be asked, else 0", failed.clone());
    }
    text.0
}

#[allow(clippy::cast_precision_loss)]
fn started(of: &ContainerUse) -> f64 {
    of.started as f64 / 1000.0
}

/// `/metrics/cadvisor`: the part of cAdvisor's metrics that dashboards are made of.
pub(super) fn cadvisor(of: &Measurement) -> String {
    let mut text = Text(String::new());
    let name = |pod: &PodUse, one: &ContainerUse, more: &[(&str, &str)]| {
        let mut all = vec![
            ("container", one.name.as_str()),
            ("id", one.id.as_str()),
            ("image", one.image.as_str()),
            ("name", one.id.as_str()),
            ("namespace", pod.namespace.as_str()),
            ("pod", pod.name.as_str()),
        ];
        all.extend(more);
        labels(&all)
    };
    let all = containers(&of.pods);
    text.family(
        "container_cpu_usage_seconds_total",
        Kind::Counter,
        "Processor time of a container, in seconds of one processor",
        all.clone().filter_map(|(pod, one)| {
            let cpu = one.cpu?;
            Some((name(pod, one, &[("cpu", "total")]), seconds(cpu.nanos), Some(cpu.at)))
        }),
    );
    type Read = fn(&ContainerUse) -> Option<(u64, i64)>;
    let gauges: [(&str, &str, Read); 5] = [
        (
            "container_memory_working_set_bytes",
            "Memory that a container cannot do without, in bytes",
            |one| one.memory.map(|memory| (memory.working_set, memory.at)),
        ),
        ("container_memory_usage_bytes", "Memory of a container with its file pages, in bytes", |one| {
            one.memory.and_then(|memory| Some((memory.usage?, memory.at)))
        }),
        ("container_memory_rss", "Memory of a container that belongs to no file, in bytes", |one| {
            one.memory.and_then(|memory| Some((memory.rss?, memory.at)))
        }),
        ("container_fs_usage_bytes", "What a container has written into its own layer, in bytes", |one| {
            one.layer.map(|layer| (layer.bytes, layer.at))
        }),
        ("container_last_seen", "When a container was last measured, in seconds since the epoch", |one| {
            one.cpu.and_then(|cpu| Some((u64::try_from(cpu.at / 1000).ok()?, cpu.at)))
        }),
    ];
    for (metric, help, read) in gauges {
        let samples = all.clone().filter_map(|(pod, one)| {
            let (value, at) = read(one)?;
            Some((name(pod, one, &[]), number(value), Some(at)))
        });
        text.family(metric, Kind::Gauge, help, samples);
    }
    text.family(
        "container_start_time_seconds",
        Kind::Gauge,
        "When a container started, in seconds since the epoch",
        all.map(|(pod, one)| (name(pod, one, &[]), started(one), None)),
    );
    traffic(&mut text, &of.pods);
    let machine =
        [("machine_cpu_cores", of.measured.processors), ("machine_memory_bytes", of.usage.memory.total)];
    for ((name, value), help) in
        machine.into_iter().zip(["Processors of the machine", "Memory of the machine"])
    {
        text.family(name, Kind::Gauge, help, [(String::new(), number(value), None)]);
    }
    text.0
}

fn traffic(text: &mut Text, pods: &[PodUse]) {
    type Read = fn(&crate::daemon::edge::pod::Traffic) -> u64;
    let counters: [(&str, &str, Read); 4] = [
        ("container_network_receive_bytes_total", "Bytes that a pod has received", |of| of.rx_bytes),
        ("container_network_receive_errors_total", "Errors while a pod received", |of| of.rx_errors),
        ("container_network_transmit_bytes_total", "Bytes that a pod has sent", |of| of.tx_bytes),
        ("container_network_transmit_errors_total", "Errors while a pod sent", |of| of.tx_errors),
    ];
    for (name, help, read) in counters {
        let samples = pods.iter().filter_map(|pod| {
            let of = pod.traffic.as_ref()?;
            let labels =
                [("interface", of.interface.as_str()), ("namespace", &pod.namespace), ("pod", &pod.name)];
            Some((labels_of_pod(&labels), number(read(of)), Some(of.at)))
        });
        text.family(name, Kind::Counter, help, samples);
    }
}

/// The pod's own container has no name, as at cAdvisor.
fn labels_of_pod(pairs: &[(&str, &str)]) -> String {
    let all: Vec<(&str, &str)> = [("container", "")].into_iter().chain(pairs.iter().copied()).collect();
    labels(&all)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::daemon::edge::pod::{CpuTime, Layer, MemoryUse, Traffic};
    use crate::host::facts::Measured;
    use crate::host::usage::{Memory, Usage};

    /// A node with one pod.
    pub(in crate::daemon::edge::metrics) fn measurement() -> Measurement {
        let at = 1_700_000_100_000;
        let cpu = Some(CpuTime { at, nanos: 1_500_000_000, nano_cores: Some(20) });
        let memory = Some(MemoryUse { at, working_set: 4096, ..MemoryUse::default() });
        let container = ContainerUse {
            name: "c".to_owned(),
            id: "1".to_owned(),
            image: "a \"b\"\\".to_owned(),
            started: 1_700_000_050_000,
            cpu,
            memory,
            layer: Some(Layer { at, bytes: 12, inodes: Some(3) }),
        };
        let unknown = ContainerUse { name: "new".to_owned(), ..ContainerUse::default() };
        let pod = PodUse {
            namespace: "d".to_owned(),
            name: "p".to_owned(),
            uid: "u".to_owned(),
            containers: vec![container, unknown],
            cpu,
            memory,
            traffic: Some(Traffic { at, interface: "eth0".to_owned(), rx_bytes: 7, ..Traffic::default() }),
            ..PodUse::default()
        };
        let memory = Memory { total: 1000, working_set: 500, ..Memory::default() };
        Measurement {
            node: "edge-1".to_owned(),
            at,
            usage: Usage { cpu_nanos: 2_500_000_000, boot: 1_700_000_000, memory, interfaces: Vec::new() },
            measured: Measured { processors: 2, ..Measured::default() },
            nano_cores: None,
            pods: vec![pod],
            failed: false,
        }
    }

    #[test]
    fn metrics_servers_lines_are_there() {
        let text = resource(&measurement());
        for line in [
            "container_cpu_usage_seconds_total{container=\"c\",namespace=\"d\",pod=\"p\"} 1.5 1700000100000",
            "container_memory_working_set_bytes{container=\"c\",namespace=\"d\",pod=\"p\"} 4096 1700000100000",
            "container_start_time_seconds{container=\"c\",namespace=\"d\",pod=\"p\"} 1700000050",
            "node_cpu_usage_seconds_total 2.5 1700000100000",
            "node_memory_working_set_bytes 500 1700000100000",
            "pod_cpu_usage_seconds_total{namespace=\"d\",pod=\"p\"} 1.5 1700000100000",
            "pod_memory_working_set_bytes{namespace=\"d\",pod=\"p\"} 4096 1700000100000",
            "# TYPE resource_scrape_error gauge",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        assert!(!text.contains("usage_seconds_total{container=\"new\""), "{text}");
    }

    #[test]
    fn a_silent_runtime_is_told() {
        let text = resource(&Measurement { pods: Vec::new(), failed: true, ..measurement() });
        assert!(text.contains("resource_scrape_error 1\n") && text.contains("node_cpu_usage"), "{text}");
        assert!(!text.contains("container_"), "a family without samples is left out: {text}");
    }

    #[test]
    fn pod_labels_are_filled_in() {
        let text = cadvisor(&measurement());
        for line in [
            "container_cpu_usage_seconds_total{container=\"c\",id=\"1\",image=\"a \\\"b\\\"\\\\\",name=\"1\",\
             namespace=\"d\",pod=\"p\",cpu=\"total\"} 1.5 1700000100000",
            "container_network_receive_bytes_total{container=\"\",interface=\"eth0\",namespace=\"d\",pod=\"p\"} 7 1700000100000",
            "machine_cpu_cores 2",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}
