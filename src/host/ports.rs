//! Who holds a TCP port: `/proc/net/tcp` names the socket, `/proc/*/fd` the process. Everybody who binds a port turns a
//! refusal into a failure with it. It only reads; where `/proc` hides the process, the port alone is named.

use crate::base::Failure;
use std::fs;
use std::net::SocketAddr;

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
    fn a_malformed_table_names_nobody() {
        assert!(listeners("header\n  0: zz\n\n  1: 0100007F:XYZ 0:0 0A", 80).is_empty());
    }
}
