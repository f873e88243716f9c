//! The built-in pod network: a bridge with host-local addresses and port mappings, written as a CNI configuration where
//! the runtime has none, and one rule that lets its pods out. `containerd.rs` calls it. A configuration that is not
//! kedge's own is never changed.

use crate::base::{Failure, write_atomic};
use crate::host::journal::Change;
use serde_json::{Value, json};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const FILE: &str = "10-kedge.conflist";
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// A bridge and the addresses behind it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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

/// Whose the pod network of a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Nobody,
    /// Written by an earlier start, which chose this network.
    Kedge(Network),
    Other,
}

/// Finds out whose configuration a directory holds.
pub fn owner(conf_dir: &Path) -> Owner {
    let Ok(entries) = fs::read_dir(conf_dir) else { return Owner::Nobody };
    let configures =
        |path: &Path| path.extension().is_some_and(|e| e == "conflist" || e == "conf" || e == "json");
    let found: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| configures(path)).collect();
    match found.as_slice() {
        [] => Owner::Nobody,
        [only] if only.ends_with(FILE) => written(only).map_or(Owner::Other, Owner::Kedge),
        _ => Owner::Other,
    }
}

fn written(file: &Path) -> Option<Network> {
    let list: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let bridge = list.pointer("/plugins/0/bridge")?.as_str()?;
    let subnet = list.pointer("/plugins/0/ipam/ranges/0/0/subnet")?.as_str()?;
    Some(Network { bridge: bridge.to_owned(), subnet: subnet.to_owned() })
}

/// Writes the built-in configuration unless somebody else's is there, and lets its pods out; `state_dir` keeps the
/// addresses given out. A network of an earlier start stays.
pub fn ensure(conf_dir: &Path, state_dir: &Path, network: &Network) -> Result<(), Failure> {
    let owner = owner(conf_dir);
    let network = match &owner {
        Owner::Nobody => network,
        Owner::Kedge(earlier) => earlier,
        Owner::Other => return Ok(()),
    };
    fs::create_dir_all(conf_dir).map_err(|error| {
        Failure::new("KE-CNI-001", format!("cannot make the directory {}", conf_dir.display()))
            .because(error)
            .fix("run as root, or put a CNI configuration of your own where the runtime looks")
    })?;
    let (file, text) = configuration(conf_dir, state_dir, network);
    if fs::read(&file).ok().as_ref() != Some(&text) {
        write_atomic(&file, &text, 0o644)?;
    }
    // The bridge plugin does the same with each pod; a read-only /proc/sys is its error to report.
    if let Err(error) = fs::write(FORWARDING, "1") {
        tracing::debug!(%error, "IPv4 forwarding cannot be switched on");
    }
    masquerade(network);
    Ok(())
}

/// The setting that lets packets of pods out, for who keeps a journal.
pub fn forwarding() -> Change {
    Change::Setting { path: FORWARDING.into(), value: "1".to_owned() }
}

/// Whether this process may set it: in some containers /proc/sys is read-only.
pub fn may_forward() -> bool {
    rustix::fs::access(FORWARDING, rustix::fs::Access::WRITE_OK).is_ok()
}

/// One rule for the whole subnet. The plugin's own (`ipMasq`) costs each pod a chain and four calls of iptables that wait
/// for each other, which is most of the time that many pods at once take.
fn masquerade(network: &Network) {
    let done = match rule("-C", network) {
        Ok(found) if found.status.success() => return,
        _ => rule("-A", network),
    };
    let why = match done {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(subnet = network.subnet, why, "pods cannot reach other machines: no masquerade rule");
}

fn rule(verb: &str, network: &Network) -> std::io::Result<Output> {
    Command::new("iptables")
        .args(["-w", "5", "-t", "nat", verb, "POSTROUTING", "-s", &network.subnet])
        .args(["!", "-o", &network.bridge, "-j", "MASQUERADE"])
        .stdin(Stdio::null())
        .output()
}

/// The file that the built-in configuration has in a directory, and its content.
pub fn configuration(conf_dir: &Path, state_dir: &Path, network: &Network) -> (PathBuf, Vec<u8>) {
    (conf_dir.join(FILE), serde_json::to_vec_pretty(&conflist(state_dir, network)).unwrap_or_default())
}

/// Takes the rule and the bridge away; what is not there is not told.
pub fn remove(network: &Network) -> Vec<Result<String, Failure>> {
    let mut done = Vec::new();
    if rule("-C", network).is_ok_and(|found| found.status.success()) {
        let told = format!("removed the masquerade rule for {}", network.subnet);
        let by_hand = format!(
            "iptables -t nat -D POSTROUTING -s {} ! -o {} -j MASQUERADE",
            network.subnet, network.bridge
        );
        done.push(outcome(rule("-D", network), told, by_hand));
    }
    if Path::new("/sys/class/net").join(&network.bridge).exists() {
        let args = ["link", "delete", &network.bridge];
        let deleted = Command::new("ip").args(args).stdin(Stdio::null()).output();
        let told = format!("removed the bridge {}", network.bridge);
        done.push(outcome(deleted, told, format!("ip link delete {}", network.bridge)));
    }
    done
}

fn outcome(ended: std::io::Result<Output>, told: String, by_hand: String) -> Result<String, Failure> {
    let failed = |why: String| {
        Failure::new("KE-CNI-002", "the pod network cannot be removed").because(why).fix(by_hand)
    };
    match ended {
        Ok(output) if output.status.success() => Ok(told),
        Ok(output) => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Where distributions put CNI plugins.
pub const PLUGIN_DIRS: [&str; 4] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni", "/usr/local/lib/cni"];

/// The first directory that holds the `bridge` plugin.
pub fn plugin_dir() -> Option<&'static Path> {
    PLUGIN_DIRS
        .into_iter()
        .map(Path::new)
        .find(|dir| dir.join("bridge").exists() && dir.join("host-local").exists())
}

fn conflist(state_dir: &Path, network: &Network) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": network.bridge,
        "plugins": [
            {
                "type": "bridge",
                "bridge": network.bridge,
                "isGateway": true,
                "ipMasq": false,
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
    fn somebody_elses_configuration_stays() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(owner(dir.path()), Owner::Nobody);
        fs::write(dir.path().join("99-mine.conflist"), "mine").unwrap();
        let network = Network { bridge: "b0".into(), subnet: "10.1.2.0/24".into() };
        ensure(dir.path(), dir.path(), &network).unwrap();
        assert_eq!(owner(dir.path()), Owner::Other);
        assert!(!dir.path().join(FILE).exists());
    }

    #[test]
    fn a_place_that_cannot_be_a_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cni"), "a file").unwrap();
        let conf_dir = dir.path().join("cni/net.d");
        let network = Network { bridge: "kedge-test2".into(), subnet: "10.127.253.0/24".into() };
        let failure = ensure(&conf_dir, dir.path(), &network).unwrap_err();
        assert_eq!(failure.code, "KE-CNI-001");
        failure.is_as_committed();
        assert!(failure.what.contains(&conf_dir.display().to_string()), "{failure}");
        assert!(failure.why.contains("Not a directory") && failure.fix.contains("root"), "{failure:?}");
    }

    #[test]
    fn a_bridge_that_stays_is_told_with_the_command_for_it() {
        // Nobody can delete the loopback interface.
        let network = Network { bridge: "lo".into(), subnet: "192.0.2.0/24".into() };
        let done = remove(&network);
        let [Err(failure)] = done.as_slice() else { panic!("{done:?}") };
        assert_eq!(failure.code, "KE-CNI-002");
        failure.is_as_committed();
        assert!(!failure.why.is_empty(), "{failure:?}");
        assert_eq!(failure.fix, "ip link delete lo");
    }

    #[test]
    fn the_network_of_an_earlier_start_stays_and_its_file_follows_this_version() {
        let dir = tempfile::tempdir().unwrap();
        let earlier = Network { bridge: "kedge-test0".into(), subnet: "10.127.255.0/24".into() };
        let mut old = conflist(dir.path(), &earlier);
        old["plugins"][0]["ipMasq"] = json!(true);
        fs::write(dir.path().join(FILE), old.to_string()).unwrap();
        let other = Network { bridge: "kedge-test1".into(), subnet: "10.127.254.0/24".into() };
        for _ in 0..2 {
            ensure(dir.path(), dir.path(), &other).unwrap();
        }
        assert_eq!(owner(dir.path()), Owner::Kedge(earlier.clone()));
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), conflist(dir.path(), &earlier));
        let listed = Command::new("iptables").args(["-w", "5", "-t", "nat", "-S", "POSTROUTING"]).output();
        let rules = String::from_utf8(listed.unwrap().stdout).unwrap();
        assert_eq!(rules.lines().filter(|rule| rule.contains(&earlier.subnet)).count(), 1, "{rules}");
        assert!(!rules.contains(&other.subnet), "{rules}");
        let done = remove(&earlier);
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        assert!(remove(&earlier).is_empty());
    }
}
