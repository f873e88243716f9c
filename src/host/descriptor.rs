//! Waiting for a file descriptor that tokio has no type for: processes (`process.rs`) and file notices (`notice.rs`).
//! With `names.rs` and `preflight/programs.rs` the places of this room with unsafe code, so that reasons stand in one spot.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// Lets this process open as many files as it may: 1,000 MQTT clients and as many nodes need more than the usual 1,024.
pub fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused, the usual limit stays, and the listeners say so when it is reached.
    let _refused = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// An owned descriptor in the event loop.
pub(super) struct Descriptor(AsyncFd<OwnedFd>);

impl Descriptor {
    /// Registers the descriptor; must be called inside the runtime.
    #[expect(unsafe_code, reason = "tokio cannot check that a descriptor stays open; an OwnedFd does")]
    pub(super) fn new(fd: OwnedFd) -> io::Result<Descriptor> {
        // SAFETY: an `OwnedFd` is an open descriptor, always answers the same number, and closes only when it is
        // dropped, which `AsyncFd` does after it has deregistered it; nothing here takes it out.
        let registered = unsafe { AsyncFd::register(fd) };
        registered.map(Descriptor).map_err(io::Error::from)
    }

    /// Completes when the descriptor can be read; cancel-safe.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }

    /// Waits until `read` has something; `read` must not block. Cancel-safe.
    pub(super) async fn read<T>(
        &self,
        mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let mut guard = self.0.readable().await?;
            if let Ok(outcome) = guard.try_io(|inner| read(inner.get_ref().as_fd())) {
                return outcome;
            }
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
