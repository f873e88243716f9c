//! No service manager: the definition is a file of kedge's own, and a detached `kedge service keep` runs the daemon, writes
//! its log and starts it again. It does not come back by itself after a restart of the machine. `service` calls it.

use super::call::{SEARCH_PATH, end};
use super::{Service, Status, absent, unwritable};
use crate::base::{Failure, PidLock, is_there, read_limited, write_atomic};
use rustix::process::Pid;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A daemon gets 40 seconds of its keeper to end.
const STOP_LIMIT: Duration = Duration::from_secs(50);
const START_LIMIT: Duration = Duration::from_secs(20);
const DEFINITION_LIMIT: u64 = 64 << 10;

/// What the keeper says when the daemon has been started.
pub const STARTED: &str = "started";

/// The files of one service without a service manager.
#[derive(Clone, Debug)]
pub struct Places {
    pub name: String,
    pub definition: PathBuf,
    /// Held, and written, by the keeper.
    pub pid: PathBuf,
    /// The daemon's process.
    pub child: PathBuf,
    pub log: PathBuf,
}

impl Places {
    pub fn usual(name: &str) -> Places {
        Places::below(Path::new("/"), name)
    }

    pub(super) fn below(root: &Path, name: &str) -> Places {
        Places {
            name: name.to_owned(),
            definition: root.join(format!("var/lib/kedge/services/{name}.json")),
            pid: root.join(format!("run/kedge/{name}.pid")),
            child: root.join(format!("run/kedge/{name}.child")),
            log: root.join(format!("var/log/{name}.log")),
        }
    }

    pub(super) fn older_log(&self) -> PathBuf {
        PathBuf::from(format!("{}.1", self.log.display()))
    }

    /// Reads the definition.
    pub fn service(&self) -> Result<Service, Failure> {
        let text = read_limited(&self.definition, DEFINITION_LIMIT)?;
        let service: Service = serde_json::from_slice(&text).map_err(|error| {
            Failure::new("KE-SERVICE-005", format!("cannot read {}", self.definition.display()))
                .because(error)
                .fix("install the service again with `kedge join` or `kedge init`")
        })?;
        service.check()?;
        Ok(service)
    }

    /// The keeper's process while it holds its lock.
    pub(super) fn keeper(&self) -> Option<u32> {
        PidLock::holder(&self.pid)
    }

    /// Notes the daemon by its number and its start, which stay when it becomes another program.
    pub(super) fn note_daemon(&self, pid: u32) -> Result<(), Failure> {
        let start = start_of(pid).unwrap_or_default();
        write_atomic(&self.child, format!("{pid} {start}\n").as_bytes(), 0o644)
    }

    /// The daemon, when the noted process is still the same one.
    pub(super) fn daemon(&self) -> Option<u32> {
        let text = read_limited(&self.child, 64).ok()?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let (pid, start) = text.trim().split_once(' ')?;
        let pid = pid.parse().ok().filter(|pid| *pid > 1)?;
        (start_of(pid)? == start).then_some(pid)
    }
}

/// When a process was started, in the kernel's ticks since its own start; `None` for one that has ended.
fn start_of(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; field 3 is the state, field 22 the start.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18).map(str::to_owned))?
}

pub(super) fn render(service: &Service) -> String {
    // A map of strings can always be written.
    let mut text = serde_json::to_string_pretty(service).unwrap_or_default();
    text.push('\n');
    text
}

/// Starts the keeper and waits until it has started the daemon.
pub(super) fn start(places: &Places) -> Result<(), Failure> {
    if places.keeper().is_some() {
        return Ok(());
    }
    let service = places.service()?;
    let failure = |why: String| {
        Failure::new("KE-SERVICE-006", format!("cannot start {}", places.name))
            .because(why)
            .fix(format!("read {}", places.log.display()))
    };
    let log = open_log(&places.log)?;
    // Nothing of the caller's environment: it may hold a token.
    let mut keeper = Command::new(&service.program)
        .args(["service", "keep", &places.name])
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("HOME", "/root")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|error| failure(format!("{}: {error}", service.program.display())))?;
    let (send, said) = mpsc::sync_channel(1);
    if let Some(out) = keeper.stdout.take() {
        std::thread::spawn(move || {
            let mut line = String::new();
            drop(BufReader::new(out).read_line(&mut line));
            drop(send.send(line));
        });
    }
    match said.recv_timeout(START_LIMIT) {
        Ok(line) if line.trim() == STARTED => Ok(()),
        Ok(_) => {
            drop(keeper.wait());
            Err(failure(last_words(&places.log).unwrap_or_else(|| "it ended at once".to_owned())))
        }
        Err(_) => {
            drop(keeper.kill());
            drop(keeper.wait());
            Err(failure(format!("it was not running within {} s", START_LIMIT.as_secs())))
        }
    }
}

/// Ends the keeper, which ends the daemon; a daemon whose keeper was killed is ended too.
pub(super) fn stop(places: &Places) -> Result<(), Failure> {
    let keeper = places.keeper();
    for pid in [keeper, None] {
        let Some(pid) =
            pid.or_else(|| places.daemon()).and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        else {
            continue;
        };
        let number = pid.as_raw_nonzero();
        let (why, fix) = match end(pid, STOP_LIMIT) {
            Ok(true) => continue,
            Ok(false) => (
                format!("process {number} is still there"),
                "look at what it waits for: `cat /proc/PID/wchan`",
            ),
            Err(error) => (format!("process {number}: {error}"), "run the same command as root"),
        };
        return Err(Failure::new("KE-SERVICE-007", format!("{} does not end", places.name))
            .because(why)
            .fix(fix));
    }
    [&places.pid, &places.child].into_iter().try_for_each(|path| absent(path))
}

/// Fails where this user may not look: nothing is no answer then.
pub(super) fn status(places: &Places) -> Result<Status, Failure> {
    let installed = match is_there(&places.definition)? {
        true => match places.service() {
            Err(failure) if failure.code == "KE-FILE-002" => return Err(failure),
            read => read.is_ok(),
        },
        false => false,
    };
    let running = places.keeper().is_some();
    let pid = if running { places.daemon() } else { None };
    Ok(Status { installed, at_boot: false, running, pid })
}

pub(super) fn remove(places: &Places) -> Result<(), Failure> {
    let files = [&places.definition, &places.log, &places.older_log()];
    files.into_iter().try_for_each(|path| absent(path))?;
    for dir in [places.definition.parent(), places.pid.parent()].into_iter().flatten() {
        // Others' files keep a directory.
        drop(fs::remove_dir(dir));
    }
    Ok(())
}

pub(super) fn open_log(path: &Path) -> Result<fs::File, Failure> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(|error| unwritable(dir, &error))?;
    }
    OpenOptions::new().create(true).append(true).open(path).map_err(|error| unwritable(path, &error))
}

/// What a log ends with that says something.
pub(super) fn last_words(log: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = fs::File::open(log).ok()?;
    let start = file.metadata().ok()?.len().saturating_sub(4 << 10);
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut end = Vec::new();
    file.take(4 << 10).read_to_end(&mut end).ok()?;
    words_of(&String::from_utf8_lossy(&end))
}

/// The last failure that kedge has told in these lines, in one; else the last line. What a service manager says behind it
/// of its own doings explains nothing.
pub(super) fn words_of(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let told = lines.iter().rposition(|line| line.starts_with("error: ")).map(|at| {
        let part = |beginning: &str| {
            let block = lines.iter().skip(at + 1).take_while(|line| line.starts_with("  "));
            block.filter_map(|line| line.trim().strip_prefix(beginning)).next()
        };
        let mut words =
            lines.get(at).and_then(|line| line.strip_prefix("error: ")).unwrap_or_default().to_owned();
        if let Some(why) = part("because: ") {
            words += &format!(": {why}");
        }
        if let Some(code) = part("code: ") {
            words += &format!(" [{code}]");
        }
        words
    });
    let of_keeper = |line: &str| line.split_once(' ').is_some_and(|(_, rest)| rest.starts_with("kedge: "));
    let mut last = lines.iter().rev().map(|line| line.trim()).filter(|line| !line.is_empty());
    told.or_else(|| {
        let newest = last.clone().next();
        last.find(|line| !of_keeper(line)).or(newest).map(str::to_owned)
    })
}
