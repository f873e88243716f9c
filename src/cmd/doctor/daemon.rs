//! The daemon itself: does it run, are its modules ready, how much memory it has, and which version is on trial.

use super::place::{Place, Role};
use crate::cmd::standing::{self, Standing};
use crate::host::check::{Check, Finding, Group};
use crate::host::service;
use crate::host::versions::Versions;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const VERSIONS: &str = "/var/lib/kedge/versions";
const MIB: u64 = 1 << 20;
/// Several times what an edge with devices and pods has been seen to need.
const LARGE: u64 = 200 * MIB;
/// A cloud's memory grows with its nodes.
const LARGE_CLOUD: u64 = 2048 * MIB;

pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    let (here, memory) = (place.clone(), place.clone());
    let mut checks = vec![
        Check::blocking("KE-DAEMON-001", Group::Host, "kedge", move || vec![judge_daemon(&here)]),
        Check::blocking("KE-MEM-001", Group::Host, "kedge's memory", move || {
            let pid = memory.daemon.as_ref().and_then(|daemon| daemon.pid);
            let bytes =
                pid.and_then(|pid| resident(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?));
            vec![judge_memory(memory.role, bytes)]
        }),
    ];
    if place.role == Role::Edge {
        checks.push(Check::blocking("KE-UPGRADE-010", Group::Upgrade, "versions", || {
            vec![judge_versions(&Slots::read(Path::new(VERSIONS)))]
        }));
    }
    checks
}

fn judge_daemon(place: &Place) -> Finding {
    let (code, name) = ("KE-DAEMON-001", "kedge");
    let Some(daemon) = &place.daemon else {
        let (role, unit) = match place.role {
            Role::Edge => ("edge", service::EDGE),
            Role::Cloud => ("cloud", service::CLOUD),
        };
        // What was set up as a service is started as one, never beside it.
        let service = (place.file.is_some() && standing::is_installed(unit)).then_some(role);
        return judge_absence(&standing_of(place), place.file.as_deref(), role, service);
    };
    let modules = daemon.document.get("modules").and_then(Value::as_array);
    let text =
        |module: &Value, field: &str| module.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let all: Vec<(String, String, String)> = modules
        .into_iter()
        .flatten()
        .map(|module| (text(module, "name"), text(module, "state"), text(module, "error")))
        .collect();
    let troubled: Vec<String> = all
        .iter()
        .filter(|(_, state, _)| state == "backoff" || state == "failed")
        .map(|(name, state, error)| format!("{name} {state} {error}").trim().to_owned())
        .collect();
    let pid = daemon.pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
    let seen = format!("runs{pid}, {} modules", all.len());
    if !troubled.is_empty() {
        return Finding::failed(code, name, format!("{seen}: {}", troubled.join("; ")))
            .because("a module that keeps ending takes its part of the node with it")
            .fix("kedge status");
    }
    Finding::fine(code, name, seen)
}

/// Who stands in the place of a daemon that answers.
fn standing_of(place: &Place) -> Standing {
    let edge = place.edge.as_ref().filter(|_| place.role == Role::Edge);
    let cloud = place.cloud.as_ref().map(|config| config.status_socket.clone());
    let socket = edge.map_or(cloud, |config| config.status_socket.clone());
    let slots = place.role == Role::Edge && place.file.is_some();
    let sockets: Vec<PathBuf> = socket.into_iter().collect();
    standing::look(&sockets, edge.map(|config| config.database.as_path()), slots)
}

fn judge_absence(standing: &Standing, file: Option<&Path>, role: &str, service: Option<&str>) -> Finding {
    let (code, name) = ("KE-DAEMON-001", "kedge");
    let why = "pods that run go on; nothing starts, stops or is reported";
    match standing {
        Standing::Absent => {
            let fix = match (service, file) {
                (Some(role), _) => format!("kedge service start {role}"),
                (None, Some(file)) => format!("kedge {role} run --config {}", file.display()),
                (None, None) => "kedge up".to_owned(),
            };
            Finding::failed(code, name, "does not run").because(why).fix(fix)
        }
        Standing::Silent(silent) => {
            Finding::failed(code, name, silent.told()).because(why).fix(standing::again(silent, service))
        }
        Standing::Trial { version, age, deadline } => Finding::warning(
            code,
            name,
            format!("{version} is on trial since {age} s and does not answer yet"),
        )
        .because(format!("the version before comes back by itself unless it is well within {deadline} s"))
        .fix("kedge edge history"),
    }
}

/// `VmRSS:     30124 kB` in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn judge_memory(role: Role, bytes: Option<u64>) -> Finding {
    let (code, name) = ("KE-MEM-001", "kedge's memory");
    let Some(bytes) = bytes else { return Finding::skipped(code, name, "because of KE-DAEMON-001") };
    let seen = format!("{} MiB", bytes / MIB);
    let large = if role == Role::Edge { LARGE } else { LARGE_CLOUD };
    if bytes > large {
        return Finding::warning(code, name, seen)
            .because(format!(
                "more than {} MiB is more than it needs; a leak is a bug worth a report",
                large / MIB
            ))
            .fix("kedge bugreport, then restart it: pods run on");
    }
    Finding::fine(code, name, seen)
}

/// The slots of an installed node, as far as doctor tells them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Slots {
    present: bool,
    current: Option<String>,
    previous: Option<String>,
    /// A trial boot that has not been confirmed.
    trial: Option<String>,
    /// Why the state of upgrades cannot be read.
    broken: Option<String>,
}

impl Slots {
    fn read(dir: &Path) -> Slots {
        let target = |name: &str| {
            let target = std::fs::read_link(dir.join(name)).ok()?;
            Some(target.file_name()?.to_string_lossy().into_owned())
        };
        let (trial, broken) = match Versions::at(dir).read() {
            Ok(disk) => (disk.state.trial.map(|trial| trial.to.bare()), None),
            Err(failure) if failure.code == "KE-UPGRADE-017" => (None, Some(failure.why)),
            // Not every user may read it.
            Err(_) => (None, None),
        };
        Slots {
            present: dir.is_dir(),
            current: target("current"),
            previous: target("previous"),
            trial,
            broken,
        }
    }
}

fn judge_versions(slots: &Slots) -> Finding {
    let (code, name) = ("KE-UPGRADE-010", "versions");
    if !slots.present {
        return Finding::skipped(code, name, format!("none below {VERSIONS}; kedge join installs there"));
    }
    let Some(current) = &slots.current else {
        return Finding::failed(code, name, format!("{VERSIONS}/current points nowhere"))
            .because("the service does not know which program to start")
            .fix("kedge edge rollback");
    };
    if let Some(why) = &slots.broken {
        return Finding::failed(code, name, format!("state.json cannot be understood: {why}"))
            .because("upgrades, rollbacks and their history fail; what runs goes on")
            .fix(format!("mv {VERSIONS}/state.json {VERSIONS}/state.json.damaged"));
    }
    if let Some(trial) = &slots.trial {
        return Finding::warning(code, name, format!("{trial} is on trial"))
            .because("it returns to the one before by itself unless the node becomes Ready in time")
            .fix("kedge edge history");
    }
    let before =
        slots.previous.as_ref().map(|previous| format!(", {previous} before it")).unwrap_or_default();
    Finding::fine(code, name, format!("{current}{before}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;

    #[test]
    fn memory_is_read_and_judged() {
        assert_eq!(resident("Name:\tkedge\nVmRSS:\t   30720 kB\n"), Some(30 * MIB));
        assert_eq!(resident("Name:\tkedge\n"), None);
        assert_eq!(judge_memory(Role::Edge, Some(30 * MIB)).seen, "30 MiB");
        assert_eq!(judge_memory(Role::Edge, Some(300 * MIB)).state, State::Warning);
        assert_eq!(judge_memory(Role::Cloud, Some(300 * MIB)).state, State::Fine);
        assert_eq!(judge_memory(Role::Edge, None).state, State::Skipped);
    }

    #[test]
    fn whoever_does_not_answer_is_told_apart_with_what_helps() {
        let file = Path::new("/etc/kubeedge/config/edgecore.yaml");
        let judge = |standing: &Standing, service| judge_absence(standing, Some(file), "edge", service);
        let none = judge(&Standing::Absent, Some("edge"));
        assert_eq!((none.state, none.fix.as_str()), (State::Failed, "kedge service start edge"));
        let bare = judge(&Standing::Absent, None);
        assert_eq!(bare.fix, "kedge edge run --config /etc/kubeedge/config/edgecore.yaml");
        let silent = standing::Silent { pid: 7, since: "2026-01-01T00:00:00Z".to_owned(), stopped: true };
        let silent = judge(&Standing::Silent(silent), Some("edge"));
        assert_eq!(silent.seen, "process 7, which runs since 2026-01-01T00:00:00Z, is stopped by a signal");
        assert_eq!(silent.fix, "kedge service restart edge");
        let trial = Standing::Trial { version: "0.1.1".to_owned(), age: 3, deadline: 300 };
        assert_eq!(judge(&trial, Some("edge")).state, State::Warning);
    }

    #[test]
    fn slots_are_read_from_links() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(judge_versions(&Slots::read(&dir.path().join("x"))).state, State::Skipped);
        assert_eq!(judge_versions(&Slots::read(dir.path())).state, State::Failed);
        std::os::unix::fs::symlink("0.2.0", dir.path().join("current")).unwrap();
        std::os::unix::fs::symlink("0.1.0", dir.path().join("previous")).unwrap();
        assert_eq!(judge_versions(&Slots::read(dir.path())).seen, "0.2.0, 0.1.0 before it");
        let state = r#"{"trial": {"id": "1", "deed": "upgrade", "by": "person", "from": "0.1.0", "to": "0.2.0",
            "launcher": null, "phase": {"is": "running"}, "boots": 1, "begun": 1, "stopped": null,
            "deadline": 300, "wants": {}, "steps": []}}"#;
        std::fs::write(dir.path().join("state.json"), state).unwrap();
        assert_eq!(judge_versions(&Slots::read(dir.path())).seen, "0.2.0 is on trial");
        std::fs::write(dir.path().join("state.json"), "{").unwrap();
        let broken = judge_versions(&Slots::read(dir.path()));
        assert_eq!(broken.state, State::Failed);
        assert!(broken.seen.contains("state.json") && broken.fix.starts_with("mv "), "{broken:?}");
    }
}
