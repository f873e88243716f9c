//! The machine below the tests: free ports, processes and mounts that belong to a directory, and their removal.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// Ports that were free a moment ago, all different.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held: Vec<TcpListener> = (0..N).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    std::array::from_fn(|i| held[i].local_addr().unwrap().port())
}

/// Sends a signal to a process; a process that is gone is no error.
pub fn signal(pid: u32, name: &str) {
    let status =
        Command::new("kill").args([format!("-{name}"), pid.to_string()]).stderr(Stdio::null()).status();
    drop(status);
}

fn all_pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// Processes whose command line names the directory: daemons, containerd, its shims.
pub fn pids_naming(dir: &Path) -> Vec<u32> {
    let needle = dir.to_string_lossy().into_owned();
    let own = std::process::id();
    let names = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&needle)
    };
    all_pids().into_iter().filter(|pid| *pid != own).filter(names).collect()
}

/// Processes that live in a mount namespace built from the directory: containers.
pub fn pids_inside(dir: &Path) -> Vec<u32> {
    let needle = dir.to_string_lossy().into_owned();
    let ours = fs::read_link("/proc/self/ns/mnt").unwrap();
    let inside = |pid: &u32| {
        fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|theirs| theirs != ours)
            && fs::read_to_string(format!("/proc/{pid}/mountinfo")).is_ok_and(|text| text.contains(&needle))
    };
    all_pids().into_iter().filter(inside).collect()
}

/// Mount points below the directory, innermost first.
pub fn mounts_below(dir: &Path) -> Vec<String> {
    let needle = dir.to_string_lossy().into_owned();
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut found: Vec<String> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| point.starts_with(&needle))
        .map(str::to_owned)
        .collect();
    found.reverse();
    found
}

fn kill_and_wait(find: impl Fn() -> Vec<u32>) {
    for _ in 0..100 {
        let pids = find();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            signal(pid, "KILL");
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Ends every process and mount of the directory, and the network links and namespaces of its pods.
pub fn clear(dir: &Path) {
    // Read while the runtime's books are there.
    let namespaces = pod_network_namespaces(dir);
    kill_and_wait(|| pids_naming(dir));
    kill_and_wait(|| pids_inside(dir));
    for name in namespaces {
        drop(Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status());
    }
    for bridge in bridges(dir) {
        forget_masquerade(&bridge);
        drop(Command::new("ip").args(["link", "del", &bridge]).stderr(Stdio::null()).status());
    }
    for point in mounts_below(dir) {
        drop(Command::new("umount").args(["-l", &point]).stderr(Stdio::null()).status());
    }
}

/// Bridges that CNI configurations below the directory name.
fn bridges(dir: &Path) -> Vec<String> {
    let found = Command::new("find").arg(dir).args(["-name", "*.conflist"]).output();
    let files = found.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let texts = files.lines().filter_map(|file| fs::read_to_string(file).ok());
    texts.filter_map(|text| Some(text.split("\"bridge\":").nth(1)?.split('"').nth(1)?.to_owned())).collect()
}

/// Removes the rule that let the pods of a bridge out.
fn forget_masquerade(bridge: &str) {
    let nat = |args: &[&str]| Command::new("iptables").args(["-w", "5", "-t", "nat"]).args(args).output();
    let rules = nat(&["-S", "POSTROUTING"]).map(|output| output.stdout).unwrap_or_default();
    for rule in String::from_utf8_lossy(&rules).lines().filter(|rule| rule.contains(&format!(" {bridge} "))) {
        let words: Vec<&str> = rule.split(' ').skip(1).collect();
        drop(nat(&[&["-D"], words.as_slice()].concat()));
    }
}

/// The network namespaces (`cni-…`) that a containerd below the directory has made; other worlds keep theirs.
fn pod_network_namespaces(dir: &Path) -> Vec<String> {
    let found = Command::new("find").arg(dir).args(["-name", "meta.db"]).output();
    let files = found.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let books: Vec<Vec<u8>> = files.lines().filter_map(|file| fs::read(file).ok()).collect();
    let listed = Command::new("ip").args(["netns", "list"]).output().map(|o| o.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&listed).into_owned();
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    let noted = |name: &&str| {
        books.iter().any(|book| book.windows(name.len()).any(|window| window == name.as_bytes()))
    };
    names.filter(|name| name.starts_with("cni-")).filter(noted).map(str::to_owned).collect()
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub resident: u64,
    /// The most that was resident at once.
    pub peak: u64,
}

/// Reads the memory of a process.
pub fn memory(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    Memory { resident: field("VmRSS:"), peak: field("VmHWM:") }
}

/// A tmpfs of a few MiB; `clear` of its world unmounts it.
pub struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// Mounts it on a directory that it makes.
    pub fn mount(at: &Path, size: &str) -> SmallDisk {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=0700");
        let at_text = at.to_str().unwrap();
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs", at_text]).status();
        assert!(status.unwrap().success(), "cannot mount {at_text}");
        SmallDisk(at.to_owned())
    }

    fn filler(&self) -> std::path::PathBuf {
        self.0.join("filler")
    }

    /// Takes all its space.
    pub fn fill(&self) {
        use std::io::Write;
        let mut file = fs::File::create(self.filler()).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    /// Gives the space back.
    pub fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}
