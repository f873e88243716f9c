//! Calls a service manager's program and waits for it, but no longer than it may take. The managers' files come here.

use crate::base::Failure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Sane places, whatever the caller's environment says.
pub(super) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// More than any of these programs prints.
const OUTPUT_LIMIT: u64 = 64 << 10;

/// What a program that ended has said.
pub(in crate::host) struct Said {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a program to its end; killed when `limit` has passed.
pub(super) fn call(program: &str, args: &[&str], limit: Duration) -> Result<Said, Failure> {
    let line = format!("{program} {}", args.join(" "));
    let failure = |why: String| {
        Failure::new("KE-SERVICE-002", format!("`{line}` did not work"))
            .because(why)
            .fix(format!("run `{line}` by hand and read what it says"))
    };
    let mut child = Command::new(program)
        .args(args)
        .env("PATH", SEARCH_PATH)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failure(error.to_string()))?;
    let pid = Pid::from_child(&child);
    let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
    if !ended_within(pid, limit).map_err(|error| failure(error.to_string()))? {
        drop(child.kill());
        drop(child.wait());
        return Err(failure(format!("it did not end within {} s", limit.as_secs())));
    }
    let status = child.wait().map_err(|error| failure(error.to_string()))?;
    // A daemon that it left behind may hold the pipes open; what was said until now is enough.
    Ok(Said { code: status.code(), out: out.text(), err: err.text() })
}

/// Runs a program that must succeed.
pub(in crate::host) fn must(program: &str, args: &[&str], limit: Duration) -> Result<Said, Failure> {
    let said = call(program, args, limit)?;
    if said.code == Some(0) {
        return Ok(said);
    }
    let line = format!("{program} {}", args.join(" "));
    let told = if said.err.trim().is_empty() { said.out.trim() } else { said.err.trim() };
    let why = if told.is_empty() { format!("it ended with status {:?}", said.code) } else { told.to_owned() };
    Err(Failure::new("KE-SERVICE-002", format!("`{line}` did not work"))
        .because(why)
        .fix(format!("run `{line}` by hand and read what it says")))
}

/// Waits for the end of a process, a child or not.
pub(super) fn ended_within(pid: Pid, limit: Duration) -> io::Result<bool> {
    let fd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::SRCH) => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    wait_readable(&fd, limit)
}

/// Asks a process to end, and kills it after `limit`; `false` when it does not even then. Fails at once when this process
/// may not signal that one.
pub(super) fn end(pid: Pid, limit: Duration) -> io::Result<bool> {
    let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(true) };
    // Whoever has ended meanwhile needs no signal.
    if let Err(error @ rustix::io::Errno::PERM) = pidfd_send_signal(&fd, Signal::TERM) {
        return Err(error.into());
    }
    if wait_readable(&fd, limit)? {
        return Ok(true);
    }
    let _gone = pidfd_send_signal(&fd, Signal::KILL);
    wait_readable(&fd, Duration::from_secs(10))
}

fn wait_readable(fd: &impl AsFd, limit: Duration) -> io::Result<bool> {
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let wait = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        match poll(&mut fds, Some(&wait)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A pipe that is read beside the waiting, so that a talkative program does not block.
struct Reader(Option<std::sync::mpsc::Receiver<Vec<u8>>>);

fn reader(pipe: Option<impl Read + Send + 'static>) -> Reader {
    let Some(pipe) = pipe else { return Reader(None) };
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut read = Vec::new();
        drop(pipe.take(OUTPUT_LIMIT).read_to_end(&mut read));
        drop(send.send(read));
    });
    Reader(Some(receive))
}

impl Reader {
    fn text(self) -> String {
        let read = self.0.and_then(|pipe| pipe.recv_timeout(Duration::from_secs(1)).ok()).unwrap_or_default();
        String::from_utf8_lossy(&read).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_fails_or_is_absent_is_told() {
        let long = Duration::from_secs(20);
        assert_eq!(must("echo", &["a b"], long).unwrap().out, "a b\n");
        let hung = call("sleep", &["60"], Duration::from_millis(20)).err().unwrap();
        assert_eq!((hung.code, hung.why.as_str()), ("KE-SERVICE-002", "it did not end within 0 s"));
        hung.is_as_committed();
        let refused = must("ls", &["/nonexistent"], long).err().unwrap();
        assert!(refused.why.contains("No such file"), "{refused}");
        assert!(call("no-such-program", &[], long).is_err());
    }

    #[test]
    fn a_process_that_does_not_want_to_end_is_killed() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' TERM; echo; while :; do sleep 60; done"]).stdout(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let pid = Pid::from_child(&child);
        assert!(end(pid, Duration::from_millis(50)).unwrap());
        child.wait().unwrap();
        assert!(end(pid, Duration::from_millis(50)).unwrap(), "one that is gone has ended");
    }
}
