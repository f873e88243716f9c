//! Processes by their name, in the namespaces of this one: a program inside a container is not this machine's, unless the
//! container shares what is asked about. It only reads; preflight and doctor ask.

use super::ports::unit_of;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub name: String,
    /// The systemd unit that runs it.
    pub unit: Option<String>,
}

/// Processes of these names on this machine itself, by pid.
pub fn on_this_machine(names: &[&str]) -> Vec<Process> {
    sharing(names, &["mnt", "net", "pid"])
}

/// Processes of these names that use this machine's network, those in containers among them.
pub fn on_this_network(names: &[&str]) -> Vec<Process> {
    sharing(names, &["net"])
}

fn sharing(names: &[&str], kinds: &[&str]) -> Vec<Process> {
    let namespaces = |pid: &str| -> Vec<_> {
        kinds.iter().map(|kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()).collect()
    };
    let own = namespaces("self");
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found = Vec::new();
    for entry in entries {
        let file = entry.file_name();
        let Some(pid) = file.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if !names.contains(&name.trim()) {
            continue;
        }
        // Without root other users' namespaces cannot be read; the process then counts.
        let theirs = namespaces(&pid.to_string());
        if theirs.iter().zip(&own).all(|(a, b)| a.is_none() || a == b) {
            found.push(Process { pid, name: name.trim().to_owned(), unit: unit_of(pid) });
        }
    }
    found.sort_by_key(|process| process.pid);
    found
}

/// What runs, for a person: `kubelet runs (pid 7, kubelet.service)`.
pub fn told(processes: &[Process]) -> String {
    let one = |p: &Process| match &p.unit {
        Some(unit) => format!("{} runs (pid {}, {unit})", p.name, p.pid),
        None => format!("{} runs (pid {})", p.name, p.pid),
    };
    processes.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_process_is_found_in_our_namespaces() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        // The kernel names the process a moment after it has let its parent go on.
        let started = std::time::Instant::now();
        let found = loop {
            let found = on_this_machine(&["sleep"]);
            if found.iter().any(|process| process.pid == child.id()) || started.elapsed().as_secs() > 20 {
                break found;
            }
            std::thread::yield_now();
        };
        let network = on_this_network(&["sleep"]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.iter().any(|process| process.pid == child.id()), "{found:?}");
        assert!(network.iter().any(|process| process.pid == child.id()), "{network:?}");
    }
}
