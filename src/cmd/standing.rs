//! Why no daemon answers: none runs, one does not answer, or a new version is on trial. `status` and `doctor` tell a person
//! which, with what helps. Looks at sockets, locks, slots and /proc; asks nobody and changes nothing.

use crate::base::{Exit, Failure, now_ms, rfc3339};
use crate::daemon::status;
use crate::host::service::Manager;
use crate::host::versions::{Phase, Trial, Versions};
use crate::store;
use jiff::Timestamp;
use std::fs;
use std::path::{Path, PathBuf};

/// The unit of time in /proc/PID/stat, the same on every machine that Linux runs on.
const TICKS: u64 = 100;
/// Whoever has to decide on a trial may take so long beyond its deadline, in milliseconds.
const DECISION: i64 = 120_000;
/// Where packages put definitions of systemd's services.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

/// What stands in the place of a daemon that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Absent,
    Silent(Silent),
    /// A new version was started, or is about to be.
    Trial {
        version: String,
        /// Seconds.
        age: i64,
        deadline: u64,
    },
}

/// A daemon that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Silent {
    pub pid: u32,
    /// When its process began, as a person reads it; empty where /proc does not tell.
    pub since: String,
    /// Whether its process is stopped, by a signal or a debugger.
    pub stopped: bool,
}

impl Silent {
    /// The process in one clause.
    pub fn told(&self) -> String {
        let since = match self.since.as_str() {
            "" => String::new(),
            since => format!(", which runs since {since},"),
        };
        let does = if self.stopped { "is stopped by a signal" } else { "does not answer" };
        format!("process {}{since} {does}", self.pid)
    }
}

/// Looks for whoever has one of these sockets or this database; `slots`: whether the versions of this machine are meant.
pub(super) fn look(sockets: &[PathBuf], database: Option<&Path>, slots: bool) -> Standing {
    let trial = slots.then(Versions::default).and_then(|versions| versions.read().ok()?.state.trial);
    if let Some(trial) = trial.and_then(|trial| on_trial(&trial, now_ms())) {
        return trial;
    }
    let of_socket = sockets.iter().find_map(|socket| status::holder(socket));
    match of_socket.or_else(|| store::holder(database?)) {
        Some(pid) => Standing::Silent(silent(pid)),
        None => Standing::Absent,
    }
}

/// A trial that nobody has decided on long after its time is none.
fn on_trial(trial: &Trial, now: i64) -> Option<Standing> {
    let age = now.saturating_sub(trial.begun);
    let limit = i64::try_from(trial.deadline).unwrap_or(i64::MAX).saturating_mul(1000);
    let open = matches!(trial.phase, Phase::Armed | Phase::Running);
    (open && age < limit.saturating_add(DECISION)).then(|| Standing::Trial {
        version: trial.to.bare(),
        age: age.max(0) / 1000,
        deadline: trial.deadline,
    })
}

fn silent(pid: u32) -> Silent {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Counted behind the name, which may hold anything.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let stopped = matches!(fields.first(), Some(&("T" | "t")));
    let begun = fields.get(19).and_then(|ticks| ticks.parse::<u64>().ok());
    let booted = fs::read_to_string("/proc/stat").unwrap_or_default();
    let booted = booted.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok());
    let since = begun.zip(booted).and_then(|(begun, booted)| i64::try_from(booted + begun / TICKS).ok());
    let since = since.and_then(|since| Timestamp::from_second(since).ok()).map(rfc3339).unwrap_or_default();
    Silent { pid, since, stopped }
}

/// Whether this machine's service manager knows the service.
pub(super) fn is_installed(name: &str) -> bool {
    let manager = Manager::here();
    let packaged = || PACKAGED.iter().any(|dir| Path::new(dir).join(format!("{name}.service")).exists());
    manager.definition_path(name).exists() || (manager == Manager::Systemd && packaged())
}

/// What is told of a daemon that was asked; `absent` is the failure of who finds nobody, `service` the role that is
/// installed as a service.
pub(super) fn failure(standing: &Standing, absent: Failure, service: Option<&str>) -> Failure {
    match standing {
        Standing::Absent => absent,
        Standing::Silent(silent) => {
            Failure::new("KE-STATUS-003", "the kedge daemon of this machine does not answer")
                .because(silent.told())
                .fix(again(silent, service))
                .exit(Exit::Unreachable)
        }
        Standing::Trial { version, age, deadline } => Failure::new(
            "KE-STATUS-004",
            format!("kedge {version} is on trial and does not answer yet"),
        )
        .because(format!(
            "its upgrade began {age} s ago; the version before comes back by itself unless it is well within \
                     {deadline} s"
        ))
        .fix("wait for it; what became of it: kedge edge history")
        .exit(Exit::Unreachable),
    }
}

/// What helps a daemon that does not answer; its containers run on.
pub(super) fn again(silent: &Silent, service: Option<&str>) -> String {
    match service {
        Some(role) => format!("kedge service restart {role}"),
        None => format!("kill -KILL {}, and start the daemon again as it was started", silent.pid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_nobody_reads_is_of_a_silent_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("kedge.sock");
        let places = [dir.path().join("other.sock"), socket.clone()];
        assert_eq!(look(&places, None, false), Standing::Absent);
        let _held = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let Standing::Silent(silent) = look(&places, None, false) else { panic!("somebody holds it") };
        assert_eq!((silent.pid, silent.stopped), (std::process::id(), false));
        assert!(silent.since.starts_with("20"), "{silent:?}");
        let absent = Failure::new("KE-STATUS-001", "nobody");
        let told = failure(&Standing::Silent(silent.clone()), absent.clone(), Some("edge"));
        assert_eq!((told.code, told.fix.as_str()), ("KE-STATUS-003", "kedge service restart edge"));
        assert!(told.why.contains(&format!("process {}", silent.pid)), "{told}");
        assert!(again(&silent, None).contains(&silent.pid.to_string()));
        assert_eq!(failure(&Standing::Absent, absent.clone(), None), absent);
        // One that has not opened its socket yet has its database.
        let database = dir.path().join("edgecore.db");
        let _store = store::Store::open(&database).unwrap();
        assert!(matches!(look(&[], Some(&database), false), Standing::Silent(_)));
    }

    #[test]
    fn a_trial_is_told_until_its_time_is_over() {
        let trial = serde_json::json!({"id": "1", "deed": "upgrade", "by": "person", "from": "0.1.0", "to": "0.1.1",
            "launcher": null, "phase": {"is": "running"}, "boots": 1, "begun": 10_000, "stopped": null,
            "deadline": 300, "wants": {}, "steps": []});
        let trial: Trial = serde_json::from_value(trial).unwrap();
        let standing = on_trial(&trial, 15_000).unwrap();
        assert_eq!(standing, Standing::Trial { version: "0.1.1".to_owned(), age: 5, deadline: 300 });
        let told = failure(&standing, Failure::new("KE-STATUS-001", "nobody"), Some("edge"));
        assert!(told.code == "KE-STATUS-004" && told.fix.contains("kedge edge history"), "{told}");
        assert_eq!(on_trial(&trial, 10_000 + 300_000 + DECISION), None);
        let returning = Trial { phase: Phase::Confirmed { interrupted: None }, ..trial };
        assert_eq!(on_trial(&returning, 15_000), None);
    }
}
