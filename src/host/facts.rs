//! What this machine is and has: system identity, processors, memory, disk, processes, addresses.
//! The node room reports it, `doctor` and `status` show it. Blocking reads of /proc and the file system; changes nothing.

use rustix::fs::statvfs;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

/// What does not change while the machine is up.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct System {
    pub host_name: String,
    /// Kubernetes' word for the processor, such as `amd64`.
    pub architecture: &'static str,
    pub operating_system: &'static str,
    pub kernel_version: String,
    pub os_image: String,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
}

/// What is there and what is left of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    pub processors: u64,
    /// Bytes.
    pub memory_total: u64,
    pub memory_available: u64,
    /// Of the file system that holds the pods.
    pub disk_total: u64,
    pub disk_available: u64,
    pub inodes_total: u64,
    pub inodes_free: u64,
    pub processes_limit: u64,
    pub processes: u64,
}

impl System {
    /// Reads the identity of this machine; what cannot be read stays empty.
    pub fn read() -> System {
        let name = rustix::system::uname();
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let machine_id = first_line("/etc/machine-id");
        let product = first_line("/sys/class/dmi/id/product_uuid");
        System {
            host_name: name.nodename().to_string_lossy().to_lowercase(),
            architecture: architecture(),
            operating_system: "linux",
            kernel_version: name.release().to_string_lossy().into_owned(),
            os_image: pretty_name(&release).unwrap_or_else(|| "Linux".to_owned()),
            // Where firmware tells no identity, the machine id stands for it, as in kubelet.
            system_uuid: if product.is_empty() { machine_id.clone() } else { product },
            machine_id,
            boot_id: first_line("/proc/sys/kernel/random/boot_id"),
        }
    }
}

impl Measured {
    /// Measures this machine; `disk` is a directory on the file system that counts, or its nearest existing parent.
    pub fn read(disk: &Path) -> Measured {
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let mut measured = Measured {
            processors: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            memory_total: meminfo(&memory, "MemTotal").unwrap_or(0),
            memory_available: meminfo(&memory, "MemAvailable").unwrap_or(0),
            processes_limit: first_line("/proc/sys/kernel/pid_max").parse().unwrap_or(0),
            processes: processes(&first_line("/proc/loadavg")).unwrap_or(0),
            ..Measured::default()
        };
        let existing = disk.ancestors().find(|path| path.exists());
        if let Some(Ok(facts)) = existing.map(statvfs) {
            measured.disk_total = facts.f_blocks.saturating_mul(facts.f_frsize);
            measured.disk_available = facts.f_bavail.saturating_mul(facts.f_frsize);
            measured.inodes_total = facts.f_files;
            measured.inodes_free = facts.f_favail;
        }
        measured
    }
}

/// The address under which this machine is reached: the one it uses towards `peer`, or towards anywhere when the peer
/// is on this machine. Sends no packet.
pub fn internal_ip(peer: Option<SocketAddr>) -> IpAddr {
    // TEST-NET-1 and its IPv6 sibling: only the routing table is asked.
    let anywhere =
        [SocketAddr::from(([192, 0, 2, 1], 9)), SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9))];
    let peer = peer.filter(|peer| !peer.ip().is_loopback() && !peer.ip().is_unspecified());
    peer.into_iter()
        .chain(anywhere)
        .find_map(|target| source_towards(target).filter(|ip| !ip.is_loopback() && !ip.is_unspecified()))
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn source_towards(target: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The processor that this kedge is built for, in Go's and so Kubernetes' word, such as `amd64`.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or("").trim().to_owned()
}

fn pretty_name(release: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches('"').to_owned())
}

/// A line such as `MemTotal:  24000 kB` in bytes.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The number of threads in `0.20 0.18 0.12 1/80 11206`: each has a process id.
fn processes(load: &str) -> Option<u64> {
    load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_texts() {
        assert_eq!(meminfo("MemTotal:       24000 kB\nMemFree: 1 kB\n", "MemTotal"), Some(24_576_000));
        assert_eq!(meminfo("MemTotalX: 1 kB", "MemTotal"), None);
        assert_eq!(processes("0.20 0.18 0.12 1/80 11206"), Some(80));
        assert_eq!(pretty_name("ID=x\nPRETTY_NAME=\"Debian 12\"\n").as_deref(), Some("Debian 12"));
    }

    #[test]
    fn this_machine_has_something_of_everything() {
        let measured = Measured::read(Path::new("/var/lib/does-not-exist/yet"));
        assert!(measured.processors > 0 && measured.memory_total > 0 && measured.disk_total > 0);
        assert!(measured.processes > 0 && measured.processes_limit > 0, "{measured:?}");
        assert!(!System::read().kernel_version.is_empty());
        assert!(!internal_ip(None).is_unspecified());
    }
}
