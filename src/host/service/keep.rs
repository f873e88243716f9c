//! Keeps one daemon running where no service manager does: starts it again with growing pauses, holds its log to a size,
//! and takes over a daemon whose earlier keeper was killed. Runs in `kedge service keep`. It ends the daemon's process
//! alone, never what that has started.

use super::plain::{Places, open_log};
use super::{Service, unwritable};
use crate::base::{Backoff, Failure, LockError, PidLock, Stop};
use crate::host::process::Watched;
use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The daemon's own limit for its end is shorter.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// A daemon that ran for so long is started again at once.
const STEADY: Duration = Duration::from_secs(60);
const LOG_LIMIT: u64 = 8 << 20;
const LOG_LOOK: Duration = Duration::from_secs(15);

/// Keeps the service running until `stop`; calls `started` once its daemon runs. Fails when another keeper has it, or when
/// the first start fails; later ones are tried again and again.
pub async fn keep(places: &Places, stop: Stop, started: impl FnOnce()) -> Result<(), Failure> {
    let service = places.service()?;
    if let Some(dir) = places.pid.parent() {
        fs::create_dir_all(dir).map_err(|error| unwritable(dir, &error))?;
    }
    let _lock = PidLock::take(&places.pid).map_err(|error| taken(places, &error))?;
    let mut daemon = match places.daemon().and_then(Watched::open) {
        Some(earlier) => earlier,
        None => run(places, &service)?,
    };
    started();
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        let since = Instant::now();
        if attend(places, &mut daemon, &stop).await == Outcome::Stop {
            daemon.end(STOP_LIMIT).await;
            drop(fs::remove_file(&places.child));
            return Ok(());
        }
        if since.elapsed() >= STEADY {
            backoff.reset();
        }
        daemon = loop {
            let wait = backoff.next_wait();
            note(
                places,
                &format!("{} has ended; it is started again in {:.1} s", service.name, wait.as_secs_f64()),
            );
            if stop.or(tokio::time::sleep(wait)).await.is_none() {
                return Ok(());
            }
            match run(places, &service) {
                Ok(daemon) => break daemon,
                Err(failure) => note(places, &failure.to_string()),
            }
        };
    }
}

#[derive(PartialEq)]
enum Outcome {
    Ended,
    Stop,
}

/// Waits for the daemon's end or the stop, and looks at the log's size meanwhile.
async fn attend(places: &Places, daemon: &mut Watched, stop: &Stop) -> Outcome {
    let mut look = tokio::time::interval(LOG_LOOK);
    loop {
        tokio::select! {
            () = stop.raised() => return Outcome::Stop,
            () = daemon.ended() => return Outcome::Ended,
            _ = look.tick() => {
                if let Err(error) = limit_log(places, LOG_LIMIT) {
                    note(places, &format!("the log cannot be shortened: {error}"));
                }
            }
        }
    }
}

fn run(places: &Places, service: &Service) -> Result<Watched, Failure> {
    let failure = |error: std::io::Error| {
        Failure::new("KE-SERVICE-006", format!("cannot start {}", service.name))
            .because(format!("{}: {error}", service.program.display()))
            .fix("check that the program is there and is for this machine")
    };
    let log = open_log(&places.log)?;
    let errors = log.try_clone().map_err(failure)?;
    let child = tokio::process::Command::new(&service.program)
        .args(&service.args)
        .envs(&service.environment)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(failure)?;
    let daemon = Watched::child(child).map_err(failure)?;
    places.note_daemon(daemon.pid())?;
    Ok(daemon)
}

/// The daemon goes on writing to the same file, so its content moves and not the file.
fn limit_log(places: &Places, limit: u64) -> std::io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(&places.log)?;
    if file.metadata()?.len() > limit {
        fs::copy(&places.log, places.older_log())?;
        file.set_len(0)?;
    }
    Ok(())
}

/// A line in the daemon's log; a full disk is no reason to end.
fn note(places: &Places, text: &str) {
    if let Ok(mut log) = open_log(&places.log) {
        drop(writeln!(log, "{} kedge: {text}", crate::base::rfc3339(crate::base::now())));
    }
}

fn taken(places: &Places, error: &LockError) -> Failure {
    let failure = Failure::new("KE-SERVICE-008", format!("{} is kept running already", places.name));
    match error {
        LockError::Held(pid) => failure
            .because(format!("process {pid} does it"))
            .fix("stop it first: `kedge service stop edge`, or cloud"),
        LockError::Io(error) => unwritable(&places.pid, error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reach;
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;
    use tokio::sync::oneshot;

    fn prepared(dir: &Path, program: &str, args: &[&str]) -> Places {
        let places = Places::below(dir, "kedge-test");
        let service = Service {
            name: places.name.clone(),
            description: "a test".into(),
            program: program.into(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            environment: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
            reach: Reach::Machine,
        };
        fs::create_dir_all(places.definition.parent().unwrap()).unwrap();
        fs::write(&places.definition, super::super::plain::render(&service)).unwrap();
        places
    }

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let limit = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < limit, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_daemon_that_ends_is_started_again_and_logs_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let places = prepared(dir.path(), "/bin/sh", &["-c", "echo $GREETING $$"]);
        let (stop, log) = (Stop::new(), places.log.clone());
        let kept = {
            let (places, stop) = (places.clone(), stop.clone());
            async move { keep(&places, stop, || ()).await }
        };
        let ended = async {
            let greetings = || fs::read_to_string(&log).unwrap_or_default().matches("hello").count();
            until("three runs", || greetings() >= 3).await;
            stop.raise();
        };
        let (outcome, ()) = tokio::join!(kept, ended);
        outcome.unwrap();
        assert!(fs::read_to_string(&places.log).unwrap().contains("kedge-test has ended"));
        assert!(places.keeper().is_none());
    }

    #[tokio::test]
    async fn a_stop_ends_the_daemon_and_a_killed_keepers_daemon_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let places = prepared(dir.path(), "/bin/sleep", &["1000.25"]);
        let (send, first_started) = oneshot::channel();
        let first = keep(&places, Stop::new(), move || send.send(()).unwrap());
        // Dropped in the middle, as a killed keeper is: the daemon lives on.
        tokio::select! {
            _ = first => panic!("ended by itself"),
            started = first_started => started.unwrap(),
        }
        let pid = places.daemon().unwrap();

        let stop = Stop::new();
        let (send, started) = oneshot::channel();
        let second = keep(&places, stop.clone(), move || send.send(()).unwrap());
        let during = async {
            started.await.unwrap();
            assert_eq!(places.daemon(), Some(pid), "a second daemon was started");
            assert_eq!(places.keeper(), Some(std::process::id()));
            let third = keep(&places, Stop::new(), || ()).await.unwrap_err();
            assert_eq!(third.code, "KE-SERVICE-008");
            third.is_as_committed();
            stop.raise();
        };
        let (outcome, ()) = tokio::join!(second, during);
        outcome.unwrap();
        assert!(!places.child.exists());
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_fails_at_the_first_start() {
        let dir = tempfile::tempdir().unwrap();
        let places = prepared(dir.path(), "/nonexistent/kedge", &[]);
        let failure = keep(&places, Stop::new(), || ()).await.unwrap_err();
        assert_eq!(failure.code, "KE-SERVICE-006");
        failure.is_as_committed();
        assert!(failure.why.contains("/nonexistent/kedge"), "{failure}");
        let other = prepared(&dir.path().join("other"), "/bin/true", &[]);
        fs::write(dir.path().join("other/run"), "a file where a directory should be").unwrap();
        assert_eq!(keep(&other, Stop::new(), || ()).await.unwrap_err().committed().code, "KE-SERVICE-004");
        fs::write(&places.definition, "{").unwrap();
        assert_eq!(keep(&places, Stop::new(), || ()).await.unwrap_err().committed().code, "KE-SERVICE-005");
    }

    #[test]
    fn a_long_log_keeps_its_file_and_one_older_part() {
        let dir = tempfile::tempdir().unwrap();
        let places = prepared(dir.path(), "/bin/true", &[]);
        let mut daemon = open_log(&places.log).unwrap();
        daemon.write_all(b"0123456789").unwrap();
        limit_log(&places, 10).unwrap();
        assert!(!places.older_log().exists());
        daemon.write_all(b"x").unwrap();
        limit_log(&places, 10).unwrap();
        daemon.write_all(b"new").unwrap();
        assert_eq!(fs::read(&places.log).unwrap(), b"new");
        assert_eq!(fs::read(places.older_log()).unwrap(), b"0123456789x");
    }
}
