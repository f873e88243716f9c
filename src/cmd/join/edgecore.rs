//! An edgecore that runs without a service manager, as keadm starts it where there is none: found, ended, and started
//! again by a reset with the words that it had. One that a service manager runs is the journal's business.

use crate::base::Failure;
use crate::host::Watched;
use crate::host::ports::unit_of;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const NAME: &str = "edgecore";
const STOP_LIMIT: Duration = Duration::from_secs(20);
const WORDS: usize = 64 << 10;

/// How an edgecore was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub program: PathBuf,
    pub args: Vec<String>,
}

/// The edgecore that runs in this machine's own namespaces.
pub(super) struct Running {
    pid: u32,
    pub line: Line,
}

/// Looks for a running edgecore.
pub(super) fn find() -> Option<Running> {
    let space = |pid: &str, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find_map(|pid| {
        let named = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == NAME);
        // One in a container is not this machine's.
        let here = || ["mnt", "pid"].iter().all(|kind| space(&pid.to_string(), kind) == space("self", kind));
        (named && here()).then(|| Running::of(pid)).flatten()
    })
}

impl Running {
    /// `None` for one that cannot be seen, and one that a service manager keeps.
    fn of(pid: u32) -> Option<Running> {
        if Path::new("/run/systemd/system").exists() && unit_of(pid).is_some() {
            return None;
        }
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        // One that is just being started has no words yet.
        let words = Some(words).filter(|words| !words.is_empty() && words.len() <= WORDS)?;
        let words = words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        let mut args: Vec<String> = words.skip(1).collect();
        // The last word ends with a zero byte too.
        args.pop();
        Some(Running { pid, line: Line { program, args } })
    }

    /// Asks it to end and waits; its containers run on.
    pub(super) async fn end(self) {
        if let Some(watched) = Watched::open(self.pid) {
            watched.end(STOP_LIMIT).await;
        }
    }
}

/// Starts it again unless one runs.
pub(in crate::cmd) fn restart(line: &Line) -> Result<(), Failure> {
    if find().is_some() {
        return Ok(());
    }
    let started = Command::new(&line.program)
        .args(&line.args)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    started.map(drop).map_err(|error| {
        Failure::new("KE-RESET-006", format!("{NAME} cannot be started again")).because(error).fix(format!(
            "start it by hand: {} {}",
            line.program.display(),
            line.args.join(" ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_known_by_its_words_and_ended() {
        let mut child = Command::new("sleep").arg("1000.5").spawn().unwrap();
        let running = loop {
            if let Some(running) = Running::of(child.id()) {
                break running;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(running.line.args, ["1000.5"]);
        assert!(running.line.program.is_absolute());
        running.end().await;
        child.wait().unwrap();
        assert!(Running::of(child.id()).is_none());
        let nowhere = Line { program: "/nonexistent/x".into(), args: Vec::new() };
        assert_eq!(restart(&nowhere).unwrap_err().committed().code, "KE-RESET-006");
    }
}
