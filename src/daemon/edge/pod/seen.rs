//! What a worker knows about its pod: what the runtime shows and what the worker remembers between steps.
//! Plain values for `state.rs` and `status.rs`; small, because every pod holds one of each.

use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What the runtime shows of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// The newest sandbox.
    pub sandbox: Option<Sandbox>,
    /// The newest attempt of each container, by name; containers of an older sandbox are among them.
    pub containers: BTreeMap<String, Instance>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sandbox {
    pub id: String,
    pub ready: bool,
    pub attempt: u32,
    /// The pod's addresses, empty for a pod in the host's network.
    pub ips: Vec<String>,
}

/// One container of the runtime.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Instance {
    pub id: String,
    pub sandbox: String,
    pub attempt: u32,
    pub life: Life,
    pub image_ref: String,
    /// What it was made from, as `state::hash` tells it; empty when that is not known.
    pub hash: String,
    /// Whether a kedge made it; a kubelet's containers are adopted.
    pub ours: bool,
    /// The file on this machine that it may leave its last words in.
    pub last_words: Option<PathBuf>,
    /// How the attempt before this one ended.
    pub last: Option<Box<Ended>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Life {
    Created,
    Running { since: Timestamp },
    Exited(Ended),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ended {
    pub id: String,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub started: Option<Timestamp>,
    pub finished: Timestamp,
}

impl Instance {
    pub fn is_running(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    pub fn ended(&self) -> Option<&Ended> {
        match &self.life {
            Life::Exited(ended) => Some(ended),
            Life::Created | Life::Running { .. } => None,
        }
    }
}

impl Seen {
    /// The container if it belongs to the newest sandbox.
    pub fn current(&self, name: &str) -> Option<&Instance> {
        let sandbox = self.sandbox.as_ref()?;
        self.containers.get(name).filter(|instance| instance.sandbox == sandbox.id)
    }
}

/// What the worker remembers; lost with the daemon, so nothing here may be needed to adopt a pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub containers: BTreeMap<String, Remembered>,
    /// The sandbox or its volumes failed; not tried again before `retry.at`.
    pub retry: Retry,
    /// Why the pod as a whole waits, for the status.
    pub trouble: Option<String>,
}

/// What the worker remembers of one container.
#[derive(Clone, Debug, Default)]
pub(super) struct Remembered {
    /// Waiting time after the next exit; zero until it has been restarted once.
    pub crash_delay: Duration,
    /// Why it is not running although it should be.
    pub waiting: Option<Waiting>,
    pub retry: Retry,
    /// Its image is being pulled.
    pub pulling: bool,
    /// Its startup probe has passed, or it has none.
    pub started: bool,
    /// Its readiness probe passes, or it has none.
    pub ready: bool,
    /// Its liveness or startup probe has failed for good: what the probe said.
    pub unhealthy: Option<String>,
}

/// A waiting reason as `kubectl` shows it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waiting {
    pub reason: &'static str,
    pub message: String,
}

/// Attempts that failed before anything ran: 10 s, doubled up to 5 min.
#[derive(Clone, Debug, Default)]
pub(super) struct Retry {
    pub at: Option<Timestamp>,
    delay: Duration,
}

pub(super) const FIRST_DELAY: Duration = Duration::from_secs(10);
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(300);

impl Retry {
    /// Notes a failure; the next attempt is due after the delay.
    pub fn failed(&mut self, now: Timestamp) {
        self.delay = next_delay(self.delay);
        self.at = Some(now.saturating_add(self.delay).unwrap_or(Timestamp::MAX));
    }

    /// Notes a failure that is likely to pass soon, such as a ConfigMap that is still on its way.
    pub fn failed_softly(&mut self, now: Timestamp, delay: Duration) {
        self.at = Some(now.saturating_add(delay).unwrap_or(Timestamp::MAX));
    }

    pub fn succeeded(&mut self) {
        *self = Retry::default();
    }

    /// Whether the next attempt may be made; also when the wait is longer than any, as the clock was set back meanwhile.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.at.is_none_or(|at| {
            at <= now || Duration::try_from(at.duration_since(now)).is_ok_and(|left| left > LONGEST_DELAY)
        })
    }
}

/// The delay after this one.
pub(super) fn next_delay(delay: Duration) -> Duration {
    if delay.is_zero() { FIRST_DELAY } else { delay.saturating_mul(2).min(LONGEST_DELAY) }
}
