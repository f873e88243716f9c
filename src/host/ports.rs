//! Who holds a TCP port: `/proc/net/tcp` names the socket, `/proc/*/fd` the process. Everybody who binds a port turns a
//! refusal into a failure with it. It only reads; where `/proc` hides the process, the port alone is named.

use crate::base::Failure;
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// The process's short name.
    pub name: String,
    /// The systemd unit that runs it.
    pub unit: Option<String>,
}

/// The process that listens on this TCP port, if it can be seen.
pub fn holder(port: u16) -> Option<Holder> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| listeners(&table, port))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(open) = fs::read_dir(entry.path().join("fd")) else { continue };
        for file in open.flatten() {
            let Ok(target) = fs::read_link(file.path()) else { continue };
            if wanted.iter().any(|socket| target.as_os_str() == socket.as_str()) {
                let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                return Some(Holder { pid, name: name.trim().to_owned(), unit: unit_of(pid) });
            }
        }
    }
    None
}

/// The other ends of TCP connections that have this port at either end, each host once; this machine itself is none.
pub fn established(port: u16) -> Vec<IpAddr> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let mut peers: Vec<IpAddr> = tables.iter().flat_map(|table| connected(table, port)).collect();
    peers.retain(|peer| !peer.is_loopback());
    peers.sort_unstable();
    peers.dedup();
    peers
}

fn connected(table: &str, port: u16) -> Vec<IpAddr> {
    const ESTABLISHED: &str = "01";
    let end = |text: &str| -> Option<(IpAddr, u16)> {
        let (address, port) = text.rsplit_once(':')?;
        // Words of 32 bits, each in the machine's order of bytes.
        let words =
            (0..address.len()).step_by(8).map(|at| u32::from_str_radix(address.get(at..at + 8)?, 16).ok());
        let bytes: Vec<u8> =
            words.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
        let address = match bytes.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
            _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
        };
        Some((address, u16::from_str_radix(port, 16).ok()?))
    };
    let peer = |line: &str| {
        let mut columns = line.split_whitespace();
        let (local, remote, state) = (columns.nth(1)?, columns.next()?, columns.next()?);
        let ((_, near), (peer, far)) = (end(local)?, end(remote)?);
        (state == ESTABLISHED && (near == port || far == port)).then_some(peer)
    };
    table.lines().skip(1).filter_map(peer).collect()
}

/// The systemd unit of a process, as its control group names it.
pub fn unit_of(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    unit_in(&text)
}

/// The last service or scope in lines such as `0::/system.slice/mosquitto.service`.
fn unit_in(cgroups: &str) -> Option<String> {
    let mut names =
        cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).flat_map(|path| path.split('/'));
    names.rfind(|name| name.ends_with(".service")).map(str::to_owned)
}

/// The failure for an address that cannot be bound, naming the process that holds the port where that is the cause.
pub fn bind_failure(what: &str, address: SocketAddr, error: &std::io::Error) -> Failure {
    let failure = Failure::new("KE-PORT-001", format!("{what} cannot listen on {address}"));
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return failure.because(error).fix("check the address and the permission to bind it");
    }
    match holder(address.port()) {
        Some(Holder { pid, .. }) if pid == std::process::id() => failure
            .because(format!(
                "port {} is held by this very kedge (pid {pid}), for another of its parts",
                address.port()
            ))
            .fix("give each of them a port of its own"),
        Some(Holder { pid, name, .. }) => failure
            .because(format!("port {} is held by {name} (pid {pid})", address.port()))
            .fix(format!("stop {name} (pid {pid}), or choose another port")),
        None => failure
            .because(format!("port {} is held by another process", address.port()))
            .fix(format!("find it with `ss -ltnp 'sport = :{}'`, or choose another port", address.port())),
    }
}

/// Inodes of listening sockets on `port` in the kernel's table; columns are fixed since Linux 2.6.
fn listeners(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let mut found = Vec::new();
    for line in table.lines().skip(1) {
        let mut columns = line.split_whitespace();
        let (Some(local), Some(state), Some(inode)) = (columns.nth(1), columns.nth(1), columns.nth(5)) else {
            continue;
        };
        let local_port = local.rsplit_once(':').and_then(|(_, hex)| u16::from_str_radix(hex, 16).ok());
        if state == LISTEN && local_port == Some(port) {
            found.push(inode.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn names_the_process_that_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(holder(address.port()).unwrap().pid, std::process::id());
        let refused = TcpListener::bind(address).unwrap_err();
        let failure = bind_failure("the API", address, &refused);
        assert_eq!(failure.code, "KE-PORT-001");
        failure.is_as_committed();
        assert!(failure.why.contains(&std::process::id().to_string()), "{failure}");
        assert!(!failure.fix.contains("stop"), "nobody is told to stop himself: {failure}");
    }

    #[test]
    fn a_unit_is_read_from_the_control_group() {
        assert_eq!(unit_in("0::/system.slice/mosquitto.service\n").as_deref(), Some("mosquitto.service"));
        assert_eq!(unit_in("4:memory:/user.slice\n0::/init.scope"), None);
        assert_eq!(unit_in("broken"), None);
    }

    #[test]
    fn other_ends_of_connections_are_read() {
        let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let row = |peer: &str, port: u16, state: &str| {
            format!("  0: {}:4E26 {peer}:{port:04X} {state} 00000000:0\n", word([10, 0, 0, 9]))
        };
        let four = word([10, 0, 0, 1]);
        let mapped = [word([0; 4]), word([0; 4]), word([0, 0, 255, 255]), word([10, 0, 0, 2])].concat();
        let table =
            ["header\n", &row(&four, 40_000, "01"), &row(&mapped, 9, "01"), &row(&four, 7, "0A"), "x y\n"];
        let peers = connected(&table.concat(), 0x4e26);
        assert_eq!(peers, ["10.0.0.1", "10.0.0.2"].map(|peer| peer.parse::<IpAddr>().unwrap()));
        assert_eq!(connected(&table.concat(), 9).len(), 1);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _open = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(connected(&fs::read_to_string("/proc/net/tcp").unwrap(), port).len(), 2);
        assert!(established(port).is_empty(), "that is this machine");
    }

    #[test]
    fn a_malformed_table_names_nobody() {
        assert!(listeners("header\n  0: zz\n\n  1: 0100007F:XYZ 0:0 0A", 80).is_empty());
    }
}
