//! The built-in pod network: a bridge with host-local addresses and port mappings, written as a CNI configuration where
//! the runtime has none. `containerd.rs` calls it. An existing configuration is never changed.

use crate::base::{Failure, write_atomic};
use serde_json::json;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

const FILE: &str = "10-kedge.conflist";

/// A bridge and the addresses behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// At most 15 characters, the kernel's limit for an interface name.
    pub bridge: String,
    /// An IPv4 subnet such as `10.88.0.0/24`.
    pub subnet: String,
}

impl Network {
    /// A network of its own for each data directory, so that two instances on one machine do not meet. A subnet that the
    /// machine already routes is passed over.
    pub fn derive(data_dir: &Path) -> Network {
        let digest = ring::digest::digest(&ring::digest::SHA256, data_dir.as_os_str().as_encoded_bytes());
        let seed = digest.as_ref().iter().take(4).fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        let bridge = format!("kedge-{seed:08x}");
        let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
        // 10.64.0.0/10 in steps of /24.
        let candidate =
            |step: u32| u32::from(Ipv4Addr::new(10, 64, 0, 0)) + ((seed.wrapping_add(step) % (1 << 14)) << 8);
        let free = (0..256).map(candidate).find(|net| !is_routed(&routes, *net, &bridge));
        let subnet = Ipv4Addr::from(free.unwrap_or_else(|| candidate(0)));
        Network { bridge, subnet: format!("{subnet}/24") }
    }
}

/// Whether the kernel's routing table (addresses in host byte order) has a route inside this /24 on another interface.
fn is_routed(routes: &str, net: u32, own_bridge: &str) -> bool {
    routes.lines().skip(1).any(|line| {
        let mut columns = line.split_whitespace();
        let interface = columns.next().unwrap_or_default();
        // The kernel prints the bytes of the network order as one number in host order.
        let hex = |text: Option<&str>| text.and_then(|t| u32::from_str_radix(t, 16).ok()).map(u32::from_be);
        let (destination, mask) = (hex(columns.next()), hex(columns.nth(5)));
        let (Some(destination), Some(mask)) = (destination, mask) else { return false };
        // The default route covers everything and blocks nothing.
        let overlaps = destination & mask & 0xffff_ff00 == net & mask;
        interface != own_bridge && mask != 0 && overlaps
    })
}

/// Whether a directory holds any CNI configuration.
pub fn is_configured(conf_dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(conf_dir) else { return false };
    entries.flatten().any(|entry| {
        let path = entry.path();
        path.extension().is_some_and(|e| e == "conflist" || e == "conf" || e == "json")
    })
}

/// Writes the built-in configuration unless the directory has one; `state_dir` keeps the addresses given out.
pub fn ensure(conf_dir: &Path, state_dir: &Path, network: &Network) -> Result<(), Failure> {
    if !is_configured(conf_dir) {
        let text = serde_json::to_vec_pretty(&conflist(state_dir, network)).unwrap_or_default();
        fs::create_dir_all(conf_dir).map_err(|error| {
            Failure::new("KE-CNI-001", format!("cannot make the directory {}", conf_dir.display()))
                .because(error)
        })?;
        write_atomic(&conf_dir.join(FILE), &text, 0o644)?;
    }
    // The bridge plugin does the same with each pod; a read-only /proc/sys is its error to report.
    if let Err(error) = fs::write("/proc/sys/net/ipv4/ip_forward", "1") {
        tracing::debug!(%error, "IPv4 forwarding cannot be switched on");
    }
    Ok(())
}

/// The first directory that holds the `bridge` plugin.
pub fn plugin_dir() -> Option<&'static Path> {
    let places = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni", "/usr/local/lib/cni"];
    places
        .into_iter()
        .map(Path::new)
        .find(|dir| dir.join("bridge").exists() && dir.join("host-local").exists())
}

fn conflist(state_dir: &Path, network: &Network) -> serde_json::Value {
    json!({
        "cniVersion": "0.4.0",
        "name": network.bridge,
        "plugins": [
            {
                "type": "bridge",
                "bridge": network.bridge,
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": state_dir.join("networks"),
                    "ranges": [[{"subnet": network.subnet}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_data_directory_has_its_own_network() {
        let (a, b) = (Network::derive(Path::new("/a")), Network::derive(Path::new("/b")));
        assert_ne!(a, b);
        assert_eq!(a, Network::derive(Path::new("/a")));
        assert!(a.bridge.len() <= 15, "{a:?}");
    }

    #[test]
    fn a_routed_subnet_is_passed_over_unless_it_is_our_own() {
        let table = "Iface Destination Gateway Flags RefCnt Use Metric Mask\n\
                     eth1\t0005400A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n\
                     eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\n";
        let net = u32::from(Ipv4Addr::new(10, 64, 5, 0));
        assert!(is_routed(table, net, "kedge-x"));
        assert!(!is_routed(table, net, "eth1"));
        assert!(!is_routed(table, u32::from(Ipv4Addr::new(10, 64, 6, 0)), "kedge-x"));
    }

    #[test]
    fn an_existing_configuration_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("99-mine.conflist"), "mine").unwrap();
        let network = Network { bridge: "b0".into(), subnet: "10.1.2.0/24".into() };
        ensure(dir.path(), dir.path(), &network).unwrap();
        assert!(!dir.path().join(FILE).exists());
    }
}
