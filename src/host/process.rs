//! A process that is watched by its file descriptor: no signal can hit another process that got the same number, and
//! its end is heard without asking. `containerd.rs` keeps its child, or one it took over, with it.

use super::descriptor::Descriptor;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::time::Duration;

/// A running process; dropping it leaves the process running.
pub struct Watched {
    pid: u32,
    fd: Descriptor,
    child: Option<tokio::process::Child>,
}

impl Watched {
    /// Watches a process that this one did not start; `None` when it is gone.
    pub fn open(pid: u32) -> Option<Watched> {
        let fd = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::NONBLOCK).ok()?;
        Some(Watched { pid, fd: Descriptor::new(fd).ok()?, child: None })
    }

    /// Watches a child of this process.
    pub fn child(child: tokio::process::Child) -> io::Result<Watched> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "it ended at once");
        let pid = child.id().ok_or_else(gone)?;
        let mut watched = Watched::open(pid).ok_or_else(gone)?;
        watched.child = Some(child);
        Ok(watched)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Completes when the process has ended; cancel-safe.
    pub async fn ended(&mut self) {
        if let Some(child) = &mut self.child {
            // Waiting also reaps it; an error means that it is reaped already.
            drop(child.wait().await);
            return;
        }
        drop(self.fd.readable().await);
    }

    /// Asks the process to end and kills it after `limit`.
    pub async fn end(mut self, limit: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(limit, self.ended()).await.is_err() {
            self.signal(Signal::KILL);
            self.ended().await;
        }
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = pidfd_send_signal(self.fd.fd(), signal) {
            tracing::debug!(pid = self.pid, %error, "the process cannot be signalled");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_is_not_a_child_is_ended_too() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let watched = Watched::open(child.id()).unwrap();
        watched.end(Duration::from_secs(5)).await;
        assert!(!child.wait().unwrap().success());
    }
}
