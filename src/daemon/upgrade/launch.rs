//! What the service runs: finds the slot that is current and says what to become. Where a new version is to be tried it
//! stays as the parent, watches the daemon by its status socket, and confirms it or starts the old slot again.
//! Containers are never touched: they live on while daemons come and go.

use super::hands::Hands;
use super::running::LAUNCHED;
use super::{Site, health, time};
use crate::base::{Failure, listen, threads};
use crate::config::edge::EdgeConfig;
use crate::host::versions::{Action, Event, Link, Phase, Trial};
use crate::model::Release;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Listener, SignalKind};

/// How long the new version has to be well without a break.
const STEADY: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(100);
/// How long a daemon may take to end.
const FAREWELL: Duration = Duration::from_secs(30);

/// What the launcher does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Then {
    /// Become the first of these that can be started, as the daemon.
    Daemon(Vec<PathBuf>),
    /// Become the first of these that can be started, as the launcher.
    Launcher(Vec<PathBuf>),
    /// The daemon has ended with this status.
    End(u8),
}

/// Decides what to run; watches a version that is to be tried with these arguments. Blocks for as long as that runs.
pub fn launch(site: &Site, arguments: &[OsString]) -> Result<Then, Failure> {
    if !site.versions.dir().is_dir() {
        return Ok(Then::Daemon(vec![own_binary()]));
    }
    match happen(site, Event::Boot) {
        Ok(Some(Action::Watch(trial))) => Watch { site, arguments, trial }.run(),
        Ok(Some(Action::Run(slot))) => Ok(Then::Daemon(choices(site, slot))),
        Ok(_) => Ok(Then::Daemon(choices(site, site.versions.links().current))),
        Err(failure) => {
            // A state that cannot be read or written must not keep the node from running.
            tracing::error!(code = failure.code, error = %failure, fix = failure.fix, "the state of upgrades cannot be used");
            let slot = match happen(site, Event::Unwell { reason: failure.to_string() }) {
                Ok(Some(Action::Run(slot))) => slot,
                _ => proven(site),
            };
            Ok(Then::Daemon(choices(site, slot)))
        }
    }
}

/// The version to run where nothing can be written down: one that has not proved good is not started unwatched.
fn proven(site: &Site) -> Option<Release> {
    let trial = site.versions.read().ok().and_then(|disk| disk.state.trial);
    let open = trial.filter(|trial| !matches!(trial.phase, Phase::Confirmed { .. }));
    open.map(|trial| trial.from).or_else(|| site.versions.links().current)
}

/// Carries out what follows from an event, ending daemons where it must.
fn happen(site: &Site, event: Event) -> Result<Option<Action>, Failure> {
    site.versions.happen(event, &mut Hands { site, farewell: Some(FAREWELL) })
}

fn choices(site: &Site, slot: Option<Release>) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = slot.iter().map(|slot| site.versions.binary(slot)).collect();
    all.push(site.versions.binary_of(Link::Previous));
    all.push(own_binary());
    all.retain(|path| path.is_file());
    all
}

/// This binary, even when its file was replaced.
fn own_binary() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    if own.is_file() { own } else { PathBuf::from("/proc/self/exe") }
}

struct Watch<'a> {
    site: &'a Site,
    arguments: &'a [OsString],
    trial: Box<Trial>,
}

struct Signals {
    terminate: Listener,
    interrupt: Listener,
    restart: Listener,
}

/// Why watching ended.
enum Ended {
    Healthy,
    Unwell(String),
    /// The service is to end, or to start anew.
    Told {
        again: bool,
    },
}

impl Watch<'_> {
    fn run(self) -> Result<Then, Failure> {
        let runtime = threads(0)?;
        let then = runtime.block_on(self.watch());
        runtime.shutdown_background();
        then
    }

    async fn watch(self) -> Result<Then, Failure> {
        let mut signals = Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            restart: listen(SignalKind::hangup())?,
        };
        let binary = self.site.versions.binary(&self.trial.to);
        tracing::info!(version = %self.trial.to, seconds = self.trial.deadline, "a new version is tried");
        let started =
            Command::new(&binary).args(self.arguments).env(LAUNCHED, std::process::id().to_string()).spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => return self.come_back(None, format!("it cannot be started: {error}")).await,
        };
        match self.until_decided(&mut child, &mut signals).await {
            Ended::Unwell(reason) => return self.come_back(Some(child), reason).await,
            Ended::Told { again } => return self.end(child, again).await,
            Ended::Healthy => {}
        }
        tokio::select! {
            status = child.wait() => Ok(Then::End(code(status.ok()))),
            _ = signals.terminate.recv() => self.end(child, false).await,
            _ = signals.interrupt.recv() => self.end(child, false).await,
            _ = signals.restart.recv() => self.end(child, true).await,
        }
    }

    async fn until_decided(&self, child: &mut Child, signals: &mut Signals) -> Ended {
        let deadline = tokio::time::sleep(Duration::from_secs(self.trial.deadline));
        tokio::pin!(deadline);
        // A daemon whose socket cannot be known is only known to run on; that is not enough.
        let socket = EdgeConfig::load(&self.site.config).ok().and_then(|loaded| loaded.config.status_socket);
        let mut complaint = "it has not answered on its status socket".to_owned();
        let mut well: Option<(Instant, i64)> = None;
        loop {
            let look = async {
                tokio::time::sleep(LOOK).await;
                let socket = socket.clone()?;
                let (version, wants) = (self.trial.to.clone(), self.trial.wants);
                let looked = tokio::task::spawn_blocking(move || health::look(&socket, &version, wants));
                looked.await.ok()
            };
            let looked = tokio::select! {
                looked = look => looked,
                status = child.wait() => return Ended::Unwell(format!("it ended by itself with {}", told(status.ok()))),
                () = &mut deadline => {
                    return Ended::Unwell(format!("it was not well within {} s: {complaint}", self.trial.deadline));
                }
                _ = signals.terminate.recv() => return Ended::Told { again: false },
                _ = signals.interrupt.recv() => return Ended::Told { again: false },
                _ = signals.restart.recv() => return Ended::Told { again: true },
            };
            match (looked, well) {
                (Some(Ok(())), Some((since, at))) if since.elapsed() >= STEADY => {
                    let confirmed = self.site.happen(Event::Healthy { since: at });
                    return match confirmed {
                        Ok(_) => {
                            tracing::info!(version = %self.trial.to, "the new version has proved good");
                            Ended::Healthy
                        }
                        Err(failure) => Ended::Unwell(failure.to_string()),
                    };
                }
                (Some(Ok(())), Some(_)) => {}
                (Some(Ok(())), None) => well = Some((Instant::now(), time())),
                (Some(Err(why)), _) => (complaint, well) = (why, None),
                (None, _) => well = None,
            }
        }
    }

    /// Ends the new version and says what to become instead.
    async fn come_back(self, child: Option<Child>, reason: String) -> Result<Then, Failure> {
        tracing::error!(version = %self.trial.to, reason, "the new version is not well; the old one comes back");
        let child = child.map(farewell);
        if let Some(child) = child {
            child.await;
        }
        let left = happen(self.site, Event::Unwell { reason })?;
        let slot = match left {
            Some(Action::Run(slot)) => slot,
            _ => self.site.versions.links().current,
        };
        Ok(Then::Daemon(choices(self.site, slot)))
    }

    /// The daemon ends because it was told to. What was not confirmed by then goes back at the next start.
    async fn end(self, child: Child, again: bool) -> Result<Then, Failure> {
        let status = farewell(child).await;
        if !again {
            return Ok(Then::End(code(status)));
        }
        let mut all = vec![self.site.versions.binary_of(Link::Launcher), own_binary()];
        all.retain(|path| path.is_file());
        Ok(Then::Launcher(all))
    }
}

/// Asks a daemon to end and kills it when it does not.
async fn farewell(mut child: Child) -> Option<ExitStatus> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
        tracing::debug!(%error, "the daemon has ended already");
    }
    match tokio::time::timeout(FAREWELL, child.wait()).await {
        Ok(status) => status.ok(),
        Err(_) => {
            drop(child.start_kill());
            child.wait().await.ok()
        }
    }
}

/// The status of a shell for a process that was ended by a signal.
fn code(status: Option<ExitStatus>) -> u8 {
    let code = status.and_then(|status| status.code().or_else(|| status.signal().map(|signal| 128 + signal)));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn told(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => format!("status {code}"),
        Some((None, Some(signal))) => format!("signal {signal}"),
        _ => "an unknown status".to_owned(),
    }
}
