//! Daemons as processes: which one serves this machine, who launched it, how it is asked to start anew, how what is left
//! of a slot is ended. Reads /proc; signals go only to processes that it has looked at.

use crate::base::Failure;
use crate::host::versions::Versions;
use crate::model::Release;
use crate::store;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Set by the launcher for the daemon: the launcher's process id, which is the daemon's own when it was launched by `exec`.
pub const LAUNCHED: &str = "KEDGE_LAUNCHER";

/// A daemon that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub pid: u32,
    /// The process that starts the daemon anew on SIGHUP; `None` when the daemon was not launched.
    pub launcher: Option<u32>,
    /// The binary that it runs; by way of /proc, so that it can be read even when it was replaced on disk.
    pub binary: PathBuf,
}

/// The daemon that has this database open.
pub fn running(database: &Path) -> Option<Running> {
    let pid = store::holder(database)?;
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let named = environment.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(LAUNCHED.as_bytes())?.strip_prefix(b"=")?;
        std::str::from_utf8(value).ok()?.parse().ok()
    });
    let launcher = named.filter(|launcher| *launcher == pid || parent(pid) == Some(*launcher));
    Some(Running { pid, launcher, binary: PathBuf::from(format!("/proc/{pid}/exe")) })
}

/// The launcher of this very process, when it was launched.
pub fn own_launcher() -> Option<u32> {
    let named: u32 = std::env::var(LAUNCHED).ok()?.parse().ok()?;
    let own = std::process::id();
    (named == own || parent(own) == Some(named)).then_some(named)
}

/// Has this daemon end when a launcher that stays as its parent dies: the next launcher finds the database free then.
pub fn end_with_launcher() {
    let parent = own_launcher().filter(|launcher| *launcher != std::process::id());
    if parent.is_some()
        && let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
    {
        tracing::warn!(%error, "this daemon would outlive its launcher");
    }
}

/// Asks the launcher to end the daemon and to start the slot that is current now.
pub fn restart(launcher: u32) -> Result<(), Failure> {
    signal(launcher, Signal::HUP).map_err(|error| {
        Failure::new(
            "KE-UPGRADE-012",
            format!("the daemon's launcher, process {launcher}, cannot be reached"),
        )
        .because(error)
        .fix("restart the service by hand: the new version is tried at its next start")
    })
}

fn signal(pid: u32, signal: Signal) -> Result<(), String> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("its process id is none")?;
    kill_process(pid, signal).map_err(|error| error.to_string())
}

/// The parent of a process: the fourth field, counted behind the name, which may hold anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Ends the edge daemons of a slot, asking first and killing after `limit`; waits until they are gone.
pub fn end_daemons(versions: &Versions, version: &Release, limit: Duration) {
    let binary = versions.binary(version);
    let binary = binary.canonicalize().unwrap_or(binary);
    let found = || -> Vec<u32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| is_daemon(*pid, &binary)).collect()
    };
    let began = Instant::now();
    let mut asked: Vec<u32> = Vec::new();
    loop {
        let left = found();
        if left.is_empty() {
            return;
        }
        for pid in left {
            if began.elapsed() > limit {
                drop(signal(pid, Signal::KILL));
            } else if !asked.contains(&pid) {
                drop(signal(pid, Signal::TERM));
                asked.push(pid);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process that lives runs `edge run` of this binary.
fn is_daemon(pid: u32, binary: &Path) -> bool {
    let Ok(runs) = fs::read_link(format!("/proc/{pid}/exe")) else { return false };
    if runs != binary || pid == std::process::id() {
        return false;
    }
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    words.get(1..3) == Some(&[b"edge".as_slice(), b"run".as_slice()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_parent_and_a_database_without_a_daemon_has_none() {
        let child = std::process::Command::new("sleep").arg("60").spawn();
        let mut child = child.unwrap();
        assert_eq!(parent(child.id()), Some(std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(running(&dir.path().join("edgecore.db")), None);
        assert_eq!(own_launcher(), None);
        assert!(!is_daemon(std::process::id(), Path::new("/bin/sleep")));
    }
}
