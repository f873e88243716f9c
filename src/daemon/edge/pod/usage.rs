//! What the pods of this node use, as the runtime measures it. The metrics room asks; nothing here decides or remembers.

use super::sandbox::{NAME_LABEL, NAMESPACE_LABEL, UID_LABEL};
use super::{PodHandle, Summary};
use crate::base::Failure;
use crate::cri::messages::{
    Container, ContainerState, ContainerStats, CpuUsage, Labels, LinuxPodSandboxStats, MemoryUsage,
    PodSandboxStats, UInt64Value,
};
use std::collections::HashMap;

/// Processor time of a container or a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Milliseconds since the epoch at which it was measured.
    pub at: i64,
    /// Nanoseconds since it started.
    pub nanos: u64,
    /// Billionths of a processor at present, where the runtime tells.
    pub nano_cores: Option<u64>,
}

/// Memory of a container or a pod in bytes, and counts of page faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Milliseconds since the epoch at which it was measured.
    pub at: i64,
    pub working_set: u64,
    pub usage: Option<u64>,
    pub rss: Option<u64>,
    pub available: Option<u64>,
    pub page_faults: Option<u64>,
    pub major_page_faults: Option<u64>,
}

/// What a container has written into its own layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    pub at: i64,
    pub bytes: u64,
    pub inodes: Option<u64>,
}

/// Bytes through a pod's interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub at: i64,
    pub interface: String,
    pub rx_bytes: u64,
    pub rx_errors: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
}

/// A running container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerUse {
    pub name: String,
    pub id: String,
    pub image: String,
    /// Milliseconds since the epoch.
    pub started: i64,
    pub cpu: Option<CpuTime>,
    pub memory: Option<MemoryUse>,
    pub layer: Option<Layer>,
}

/// A pod with running containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodUse {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// RFC 3339.
    pub started: String,
    pub containers: Vec<ContainerUse>,
    pub cpu: Option<CpuTime>,
    pub memory: Option<MemoryUse>,
    pub traffic: Option<Traffic>,
    pub processes: Option<u64>,
}

impl PodHandle {
    /// What each pod with running containers uses, by namespace and name.
    pub async fn usage(&self) -> Result<Vec<PodUse>, Failure> {
        let runtime = &self.runtime;
        let (containers, stats, sandboxes) = tokio::join!(
            runtime.list_containers(Default::default()),
            runtime.list_container_stats(Labels::new()),
            runtime.list_pod_sandbox_stats(Labels::new()),
        );
        let silent = |error| {
            Failure::new("KE-CRI-005", "the runtime does not tell what its containers use")
                .because(error)
                .fix("see what `kedge doctor` says of the runtime")
        };
        // Without the pods' own figures those of their containers are added up.
        let sandboxes = sandboxes.unwrap_or_else(|error| {
            tracing::debug!(error = %error, "the runtime does not tell what pods use");
            Vec::new()
        });
        Ok(gather(&self.summaries(), containers.map_err(silent)?, stats.map_err(silent)?, sandboxes))
    }
}

/// Puts together what belongs together: pods of this node only, containers that run only.
fn gather(
    pods: &[Summary],
    containers: Vec<Container>,
    stats: Vec<ContainerStats>,
    sandboxes: Vec<PodSandboxStats>,
) -> Vec<PodUse> {
    let mut stats: HashMap<String, ContainerStats> =
        stats.into_iter().filter_map(|one| Some((one.attributes.as_ref()?.id.clone(), one))).collect();
    let mut of_pod: HashMap<String, Vec<ContainerUse>> = HashMap::new();
    for container in containers.into_iter().filter(|one| one.state == ContainerState::Running as i32) {
        let Some(uid) = container.labels.get(UID_LABEL).cloned() else { continue };
        let stats = stats.remove(&container.id).unwrap_or_default();
        of_pod.entry(uid).or_default().push(of_container(container, stats));
    }
    let mut own: HashMap<(String, String, String), LinuxPodSandboxStats> = HashMap::new();
    for sandbox in sandboxes {
        let (Some(attributes), Some(linux)) = (sandbox.attributes, sandbox.linux) else { continue };
        let label = |name| attributes.labels.get(name).cloned().unwrap_or_default();
        // A sandbox that has ended counts nothing any more.
        if linux.cpu.is_some() || linux.memory.is_some() {
            own.insert((label(UID_LABEL), label(NAMESPACE_LABEL), label(NAME_LABEL)), linux);
        }
    }
    let mut all = Vec::new();
    for pod in pods {
        let Some(mut containers) = of_pod.remove(&pod.uid) else { continue };
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        let own = own.remove(&(pod.uid.clone(), pod.namespace.clone(), pod.name.clone())).unwrap_or_default();
        all.push(PodUse {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            started: pod.started.clone(),
            cpu: cpu(own.cpu.as_ref()).or_else(|| added_cpu(&containers)),
            memory: memory(own.memory.as_ref()).or_else(|| added_memory(&containers)),
            traffic: traffic(&own),
            processes: own.process.and_then(|process| value(process.process_count.as_ref())),
            containers,
        });
    }
    all
}

fn of_container(container: Container, stats: ContainerStats) -> ContainerUse {
    let layer = stats.writable_layer.as_ref().and_then(|layer| {
        let inodes = value(layer.inodes_used.as_ref());
        Some(Layer { at: millis(layer.timestamp), bytes: value(layer.used_bytes.as_ref())?, inodes })
    });
    ContainerUse {
        name: container.metadata.map(|metadata| metadata.name).unwrap_or_default(),
        id: container.id,
        image: container.image.map(|image| image.image).unwrap_or_default(),
        started: millis(container.created_at),
        cpu: cpu(stats.cpu.as_ref()),
        memory: memory(stats.memory.as_ref()),
        layer,
    }
}

fn millis(nanos: i64) -> i64 {
    nanos / 1_000_000
}

fn value(of: Option<&UInt64Value>) -> Option<u64> {
    of.map(|of| of.value)
}

fn cpu(told: Option<&CpuUsage>) -> Option<CpuTime> {
    let told = told?;
    Some(CpuTime {
        at: millis(told.timestamp),
        nanos: value(told.usage_core_nano_seconds.as_ref())?,
        nano_cores: value(told.usage_nano_cores.as_ref()),
    })
}

fn memory(told: Option<&MemoryUsage>) -> Option<MemoryUse> {
    let told = told?;
    Some(MemoryUse {
        at: millis(told.timestamp),
        working_set: value(told.working_set_bytes.as_ref())?,
        // Runtimes that measure only the working set say zero for the rest.
        usage: value(told.usage_bytes.as_ref()).filter(|bytes| *bytes > 0),
        rss: value(told.rss_bytes.as_ref()).filter(|bytes| *bytes > 0),
        available: value(told.available_bytes.as_ref()).filter(|bytes| *bytes > 0),
        page_faults: value(told.page_faults.as_ref()),
        major_page_faults: value(told.major_page_faults.as_ref()),
    })
}

fn traffic(own: &LinuxPodSandboxStats) -> Option<Traffic> {
    let network = own.network.as_ref()?;
    let interface = network.default_interface.as_ref()?;
    let count = |of: &Option<UInt64Value>| value(of.as_ref()).unwrap_or(0);
    Some(Traffic {
        at: millis(network.timestamp),
        interface: interface.name.clone(),
        rx_bytes: count(&interface.rx_bytes),
        rx_errors: count(&interface.rx_errors),
        tx_bytes: count(&interface.tx_bytes),
        tx_errors: count(&interface.tx_errors),
    })
}

/// The sum over containers; none when any of them is unknown, for half a sum misleads.
fn added_cpu(containers: &[ContainerUse]) -> Option<CpuTime> {
    let all: Vec<CpuTime> = containers.iter().map(|one| one.cpu).collect::<Option<_>>()?;
    let at = all.iter().map(|one| one.at).max()?;
    let nanos = all.iter().fold(0, |sum: u64, one| sum.saturating_add(one.nanos));
    let rates: Option<Vec<u64>> = all.iter().map(|one| one.nano_cores).collect();
    Some(CpuTime { at, nanos, nano_cores: rates.map(|rates| rates.iter().sum()) })
}

fn added_memory(containers: &[ContainerUse]) -> Option<MemoryUse> {
    let all: Vec<MemoryUse> = containers.iter().map(|one| one.memory).collect::<Option<_>>()?;
    let at = all.iter().map(|one| one.at).max()?;
    let sum = |of: fn(&MemoryUse) -> Option<u64>| all.iter().map(of).sum::<Option<u64>>();
    Some(MemoryUse {
        at,
        working_set: all.iter().fold(0, |sum: u64, one| sum.saturating_add(one.working_set)),
        usage: sum(|one| one.usage),
        rss: sum(|one| one.rss),
        available: None,
        page_faults: sum(|one| one.page_faults),
        major_page_faults: sum(|one| one.major_page_faults),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::messages::{ContainerAttributes, ContainerMetadata, PodSandboxAttributes};

    fn some(value: u64) -> Option<UInt64Value> {
        Some(UInt64Value { value })
    }

    fn container(id: &str, name: &str, uid: &str, state: ContainerState) -> Container {
        Container {
            id: id.to_owned(),
            metadata: Some(ContainerMetadata { name: name.to_owned(), ..ContainerMetadata::default() }),
            labels: Labels::from([(UID_LABEL.to_owned(), uid.to_owned())]),
            created_at: 5_000_000,
            state: state as i32,
            ..Container::default()
        }
    }

    fn stats(id: &str, nanos: u64, bytes: u64) -> ContainerStats {
        ContainerStats {
            attributes: Some(ContainerAttributes { id: id.to_owned() }),
            cpu: Some(CpuUsage {
                timestamp: 7_000_000,
                usage_core_nano_seconds: some(nanos),
                usage_nano_cores: None,
            }),
            memory: Some(MemoryUsage {
                timestamp: 8_000_000,
                working_set_bytes: some(bytes),
                ..MemoryUsage::default()
            }),
            ..ContainerStats::default()
        }
    }

    #[test]
    fn pods_of_this_node_are_put_together() {
        let pod = Summary { namespace: "d".into(), name: "p".into(), uid: "u".into(), ..Summary::default() };
        let containers = vec![
            container("2", "b", "u", ContainerState::Running),
            container("1", "a", "u", ContainerState::Running),
            container("3", "ended", "u", ContainerState::Exited),
            container("4", "x", "of another node", ContainerState::Running),
        ];
        let told = vec![stats("1", 10, 100), stats("2", 20, 200), stats("4", 1, 1)];
        let all = gather(std::slice::from_ref(&pod), containers.clone(), told.clone(), Vec::new());
        let [one] = all.as_slice() else { panic!("{all:?}") };
        let names: Vec<&str> = one.containers.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(one.containers[0].started, 5);
        assert_eq!(one.cpu, Some(CpuTime { at: 7, nanos: 30, nano_cores: None }));
        assert_eq!(
            one.memory.map(|memory| (memory.at, memory.working_set, memory.usage)),
            Some((8, 300, None))
        );

        // The pod's own figures go before the sum; what is half known has no sum.
        let labels = [(UID_LABEL, "u"), (NAMESPACE_LABEL, "d"), (NAME_LABEL, "p")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let linux = LinuxPodSandboxStats {
            cpu: Some(CpuUsage {
                timestamp: 9_000_000,
                usage_core_nano_seconds: some(99),
                usage_nano_cores: some(3),
            }),
            ..LinuxPodSandboxStats::default()
        };
        let attributes = Some(PodSandboxAttributes { id: String::new(), labels });
        let own = vec![PodSandboxStats { attributes, linux: Some(linux) }];
        let all = gather(&[pod], containers, told.into_iter().skip(1).collect(), own);
        assert_eq!(all[0].cpu, Some(CpuTime { at: 9, nanos: 99, nano_cores: Some(3) }));
        assert_eq!(all[0].memory, None);
    }
}
