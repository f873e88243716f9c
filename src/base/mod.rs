//! The ground floor: failures, time, files, tasks and terminal output. Knows nothing of kedge's domain.
//! Everything above uses it; it uses nothing of this crate.

#[cfg(test)]
pub mod alone;
mod backoff;
mod clock;
mod crew;
mod diff;
mod errands;
mod failure;
mod files;
mod id;
mod lock;
mod log;
mod mailbox;
#[cfg(test)]
#[path = "../../tests/cli/support/met.rs"]
mod met;
mod nearest;
mod process;
mod recent;
mod stop;
mod supervisor;
mod term;

pub use backoff::Backoff;
pub use clock::{now, now_ms, rfc3339, rfc3339_micro};
pub use crew::Crew;
pub use diff::diff;
pub use errands::{Errands, Runner, errands};
pub use failure::{Exit, Failure, deepest};
pub use files::{
    UNFINISHED, remove_all_unfinished, remove_unfinished, unwritable, write_atomic, write_whole,
};
pub use files::{create_private_dir, is_there, no_access, read_limited};
pub use id::{random_bytes, random_suffix, uuid4};
pub use lock::{LockError, PidLock};
pub use log::{LogFormat, check_level, start_log};
pub use mailbox::{Gone, Mail, Mailbox, Reply, mailbox};
pub use nearest::nearest;
pub use process::{aside, listen, threads};
pub use recent::{RecentProblem, recent_problems};
pub use stop::Stop;
pub use supervisor::{BoxFuture, Module, ModuleState, ModuleStatus, Ready, Supervisor, SupervisorHandle};
pub use supervisor::{FAILURES_BEFORE_GIVING_UP, SHUTDOWN_TOTAL, panicked};
pub use term::{Bar, Output, Steps, Term, unwritten};
