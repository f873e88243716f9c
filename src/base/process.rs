//! What a program needs of the system before it works: threads, signals, and other threads for work that blocks. Commands
//! and daemons get them here, so that a system that refuses is told in one way. Nothing here panics where it refuses.

use super::failure::Failure;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::thread;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Pairs of sockets that are more than the runtime opens for itself.
const SOCKETS: usize = 4;

/// The program's threads: so many that work beside each other, or none but the caller's. Fails with KE-RUN-001 where the
/// system has no thread or no open file left for them.
pub fn threads(workers: usize) -> Result<Runtime, Failure> {
    let built = room(workers).and_then(|()| match workers {
        0 => Builder::new_current_thread().enable_all().build(),
        _ => Builder::new_multi_thread().worker_threads(workers).enable_all().build(),
    });
    built.map_err(|error| {
        Failure::new("KE-RUN-001", "cannot start the program's threads").because(error).fix(
            "raise the limits on processes and open files (ulimit -u, ulimit -n), or end what uses them up",
        )
    })
}

/// Whether the system gives what the runtime asks for; the runtime itself panics where it does not.
fn room(workers: usize) -> io::Result<()> {
    let _sockets: Vec<_> = (0..SOCKETS).map(|_| UnixStream::pair()).collect::<io::Result<_>>()?;
    let gate = Mutex::new(());
    thread::scope(|scope| {
        let _closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = || drop(gate.lock());
        // All at once, as they will be.
        let mut started = (0..workers).map(|_| thread::Builder::new().spawn_scoped(scope, wait));
        started.try_for_each(|thread| thread.map(drop))
    })
}

/// Listens for a signal. Fails with KE-RUN-002 where the system does not allow it.
pub fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| {
        Failure::new("KE-RUN-002", "cannot listen for signals")
            .because(error)
            .fix("run kedge outside of what restricts its system calls, such as a seccomp profile")
    })
}

/// Runs blocking work on another thread and waits for it; `deed` says what it is for, as in "open the store". Fails with
/// KE-RUN-003 when the work panicked or the program is ending.
pub async fn aside<T: Send + 'static>(
    deed: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Failure::new("KE-RUN-003", format!("the work to {deed} broke off"))
            .because(error)
            .fix("run it again; if it repeats, send `kedge bugreport` to the developers")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_a_program_work_beside_each_other_or_not() {
        for workers in [0, 2] {
            assert_eq!(threads(workers).unwrap().block_on(async { 7 }), 7);
        }
    }

    #[tokio::test]
    async fn a_signal_that_nobody_may_hear_is_refused() {
        assert!(listen(SignalKind::hangup()).is_ok());
        let failure = listen(SignalKind::from_raw(9)).unwrap_err();
        assert_eq!(failure.code, "KE-RUN-002");
        failure.is_as_committed();
        assert!(!failure.why.is_empty() && failure.fix.contains("seccomp"), "{failure}");
    }

    #[tokio::test]
    async fn work_that_breaks_off_is_told_with_what_it_was_for() {
        assert_eq!(aside("count", || 7).await, Ok(7));
        let broken: Result<(), Failure> = aside("open the store", || panic!("a fault of the test")).await;
        let failure = broken.unwrap_err();
        assert_eq!(failure.code, "KE-RUN-003");
        failure.is_as_committed();
        assert_eq!(failure.what, "the work to open the store broke off");
        assert!(failure.why.contains("a fault of the test"), "{failure}");
        assert!(failure.fix.contains("kedge bugreport"), "{failure}");
    }
}
