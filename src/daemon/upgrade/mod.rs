//! The upgrade of one node: from a file or a release of the cloud to a slot that has proved good, or back. `kedge edge
//! upgrade`, the cloud's jobs and the launcher share it; `host::versions` decides and keeps the slots.
//!
//! begin (lock) -> stage -> check (signature, trial run, configuration) -> back up -> switch -> hand over;
//! launch -> watch -> confirm | come back

pub mod agreement;
pub mod backup;
mod hands;
mod health;
mod launch;
mod release;
mod running;
mod work;

pub use launch::{Then, launch};
pub use running::{LAUNCHED, Running, end_with_launcher, own_launcher, restart, running};
pub use work::{Checked, Demands, Staged, Work, seed};

use crate::base::{Exit, Failure, Stop, now_ms};
use crate::host::versions::{self, Deed, Entry, Outcome, Phase, Versions};
use crate::model::Release;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The keys that releases are checked with.
pub const KEYS: &str = "/etc/kubeedge/upgrade-keys";
/// How long a new version has to get ready unless told otherwise.
pub const DEADLINE: Duration = Duration::from_secs(300);
/// The launcher has to be back this long after the daemon was asked to end.
const HANDOVER: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// The version of this binary.
pub fn own_version() -> Release {
    // The manifest's version is one; a build that has none counts as the oldest.
    Release::parse(env!("CARGO_PKG_VERSION")).unwrap_or_else(Release::oldest)
}

/// Where everything of an upgrade is on this machine.
#[derive(Clone, Debug)]
pub struct Site {
    pub versions: Versions,
    pub backups: PathBuf,
    pub keys: PathBuf,
    /// The edge daemon's configuration.
    pub config: PathBuf,
}

impl Site {
    /// The usual places, with this configuration.
    pub fn of(config: &Path) -> Site {
        Site {
            versions: Versions::at(versions::DIR),
            backups: PathBuf::from(backup::DIR),
            keys: PathBuf::from(KEYS),
            config: std::path::absolute(config).unwrap_or_else(|_| config.to_owned()),
        }
    }

    /// The history's line about a change that has ended.
    pub fn outcome(&self, id: &str) -> Result<Option<Entry>, Failure> {
        Ok(self.versions.history()?.into_iter().rev().find(|entry| entry.id == id))
    }

    /// Waits until a change that was handed over has ended, one way or the other. One that nobody starts is given up. When
    /// the stop is raised only the wait ends, with KE-UPGRADE-031.
    pub fn await_outcome(&self, id: &str, deadline: Duration, stop: &Stop) -> Result<Entry, Failure> {
        // Two daemons end and start, at worst each as slowly as they may.
        self.outcome_within(id, deadline + 2 * HANDOVER, stop)
    }

    fn outcome_within(&self, id: &str, most: Duration, stop: &Stop) -> Result<Entry, Failure> {
        let began = Instant::now();
        loop {
            let disk = self.versions.read()?;
            let trial = disk.state.trial.filter(|trial| trial.id == id);
            match trial {
                None => {
                    if let Some(entry) = self.outcome(id)? {
                        return Ok(entry);
                    }
                }
                Some(trial) if trial.phase == Phase::Armed && began.elapsed() > HANDOVER => {
                    self.give_up(
                        "no launcher started the new version: the service does not run `kedge edge launch`",
                    )?;
                }
                Some(_) => {}
            }
            if began.elapsed() > most {
                return Err(Failure::new("KE-UPGRADE-019", "the new version is still being tried")
                    .because(format!("nothing was decided within {} s", most.as_secs()))
                    .fix("see what becomes of it with: kedge edge history")
                    .exit(Exit::TimedOut));
            }
            if stop.is_raised() {
                return Err(Failure::new("KE-UPGRADE-031", "the wait was interrupted, and the change goes on")
                    .because("the launcher watches the new version; it stays when it proves good, else the old one comes back")
                    .fix("see what becomes of it with: kedge edge history")
                    .exit(Exit::Interrupted));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Puts the old version back in its place while the new one was not started.
    fn give_up(&self, why: &str) -> Result<(), Failure> {
        self.happen(versions::Event::GiveUp { reason: why.to_owned() }).map(drop)
    }

    /// Carries out what follows from an event that ends no daemon.
    fn happen(&self, event: versions::Event) -> Result<Option<versions::Action>, Failure> {
        self.versions.happen(event, &mut hands::Hands { site: self, farewell: None })
    }
}

/// A change that did not hold, as a person reads it; nothing when it did.
pub fn verdict(entry: &Entry) -> Result<(), Failure> {
    let to = entry.to.as_ref().map(Release::bare).unwrap_or_default();
    let what = match (entry.outcome, entry.deed) {
        (Outcome::Done, _) => return Ok(()),
        (Outcome::Returned, _) => format!("{to} was not well and {} runs again", entry.from.bare()),
        (_, Deed::Upgrade) => format!("{to} was not started and {} goes on", entry.from.bare()),
        (_, Deed::Rollback) => format!("the way back to {to} was not gone and {} goes on", entry.from.bare()),
    };
    Err(Failure::new("KE-UPGRADE-014", what)
        .because(&entry.reason)
        .fix("see the service's log for why it was not well, and each step with: kedge edge history -o yaml")
        .exit(Exit::RolledBack))
}

fn time() -> i64 {
    now_ms()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_which_nothing_is_heard_is_still_being_tried() {
        let dir = tempfile::tempdir().unwrap();
        let site = Site {
            versions: Versions::at(dir.path()),
            backups: dir.path().join("backups"),
            keys: dir.path().join("keys"),
            config: dir.path().join("edgecore.yaml"),
        };
        let failure =
            site.outcome_within("an-upgrade", Duration::from_millis(120), &Stop::new()).unwrap_err();
        let stop = Stop::new();
        stop.raise();
        let left = site.await_outcome("an-upgrade", DEADLINE, &stop).unwrap_err();
        assert_eq!((left.code, left.exit), ("KE-UPGRADE-031", Exit::Interrupted));
        assert_eq!((failure.code, failure.exit), ("KE-UPGRADE-019", Exit::TimedOut));
        failure.is_as_committed();
        assert!(failure.fix.ends_with("kedge edge history") && !failure.why.is_empty(), "{failure}");
    }
}
