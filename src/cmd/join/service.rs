//! The edge daemon as a service of this machine: what a join installs through the journal, how it is stopped and started
//! around that, and whether it keeps ending while somebody waits for it.

use crate::base::{Failure, aside};
use crate::host::journal::Change;
use crate::host::service::{EDGE, Manager, Service};
use crate::host::versions::{Link, Versions};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What it is called towards a person.
pub(in crate::cmd) const NAME: &str = EDGE;
/// A daemon that was started so often will not stay.
const STARTS: usize = 4;
/// As is one that was not there when it was looked for so often.
const ABSENCES: usize = 6;
/// How often the service manager is asked.
const PACE: Duration = Duration::from_secs(1);

/// The service of a join: what has to be installed, or `None` where it is, and then runs anew if it does not run.
pub(super) async fn installed(config: &Path) -> Result<Option<Change>, Failure> {
    let service = service(config);
    if !is_current(config) {
        return Ok(Some(Change::Service(service)));
    }
    blocking(move || {
        let manager = Manager::here();
        match manager.holds(&service)? {
            true => Ok(()),
            false => manager.enrol(EDGE).and_then(|()| manager.restart(EDGE)),
        }
    })
    .await?;
    Ok(None)
}

/// Whether the service is defined as a join defines it today; one of an earlier kedge may not be.
pub(super) fn is_current(config: &Path) -> bool {
    let definition = Manager::here().definition(&service(config));
    std::fs::read_to_string(&definition.path).ok().as_ref() == Some(&definition.content)
}

/// It runs from the slots of this machine, whichever version is current there.
fn service(config: &Path) -> Service {
    Service::edge(&Versions::default().binary_of(Link::Launcher), config)
}

/// Stops the daemon; its containers run on. One that does not run is stopped.
pub(in crate::cmd) async fn stop() -> Result<(), Failure> {
    blocking(|| Manager::here().stop(EDGE)).await
}

/// Starts the daemon anew, with the configuration that is there now.
pub(super) async fn restart() -> Result<(), Failure> {
    blocking(|| Manager::here().restart(EDGE)).await
}

async fn blocking(work: impl FnOnce() -> Result<(), Failure> + Send + 'static) -> Result<(), Failure> {
    aside("ask the service manager", work).await?
}

/// Sees whether the daemon keeps ending.
#[derive(Default)]
pub(super) struct Vigil(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    pids: BTreeSet<u32>,
    absences: usize,
    asked: Option<Instant>,
}

impl Vigil {
    /// The daemon's last words once it was started several times in vain, or keeps being away between its starts.
    pub(super) fn last_words(&self) -> Option<String> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.asked.is_some_and(|at| at.elapsed() < PACE) {
            return None;
        }
        seen.asked = Some(Instant::now());
        let manager = Manager::here();
        let status = tokio::task::block_in_place(|| manager.status(EDGE)).ok()?;
        // OpenRC does not tell the process of a daemon on every kernel.
        let tells = manager != Manager::OpenRc || !status.running || !seen.pids.is_empty();
        seen.absences += usize::from(status.pid.is_none() && tells);
        seen.pids.extend(status.pid);
        (seen.pids.len() >= STARTS || seen.absences >= ABSENCES).then(words)
    }
}

/// What the daemon has said last, or where its log is read.
pub(super) fn words() -> String {
    let manager = Manager::here();
    let last = tokio::task::block_in_place(|| manager.last_words(EDGE));
    last.unwrap_or_else(|| format!("its log is read with `{}`", manager.log_hint(EDGE)))
}
