//! OpenRC: the service script, kept running by OpenRC's own `supervise-daemon`, and `rc-service`. `service` calls it.

use super::call::{call, must};
use super::{Service, Status, absent};
use crate::base::Failure;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);
const RUNLEVELS: &str = "/etc/runlevels";

pub(super) fn path(name: &str) -> PathBuf {
    Path::new("/etc/init.d").join(name)
}

pub(super) fn log(name: &str) -> PathBuf {
    Path::new("/var/log").join(format!("{name}.log"))
}

fn pid_file(name: &str) -> PathBuf {
    Path::new("/run").join(format!("{name}.pid"))
}

/// The service script.
pub(super) fn render(service: &Service) -> String {
    let args: Vec<String> = service.args.iter().map(|arg| quoted(arg)).collect();
    let mut environment = String::new();
    for (name, value) in &service.environment {
        // Writing to a string cannot fail.
        let _infallible = writeln!(environment, "export {name}={}", quoted(value));
    }
    format!(
        "#!/sbin/openrc-run
# Written by kedge.

name={name}
description={description}
command={program}
# Evaluated once more by OpenRC.
command_args={args}
{environment}
# However often it ends, it is started again; only the daemon is stopped, containers live on.
supervisor=supervise-daemon
respawn_delay=1
respawn_max=0
retry=TERM/40/KILL/5
pidfile={pid_file}
output_log={log}
error_log={log}
rc_ulimit=\"-n 1048576\"

depend() {{
	after localmount net bootmisc containerd crio
}}

start_pre() {{
	# A log of more than 8 MiB begins anew, one older part is kept.
	if [ \"$(wc -c < {log} 2> /dev/null || echo 0)\" -gt 8388608 ]; then
		mv -f {log} {log}.1
	fi
	# The hard limit of the machine may be lower than what is asked for.
	rc_ulimit=\"-n $(ulimit -H -n)\"
}}
",
        name = quoted(&service.name),
        description = quoted(&service.description),
        program = quoted(&service.program.display().to_string()),
        args = quoted(&args.join(" ")),
        pid_file = pid_file(&service.name).display(),
        log = log(&service.name).display(),
    )
}

/// One word of a shell's line.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,@+%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn rc_service(verb: &str, name: &str) -> Result<(), Failure> {
    let told = must("rc-service", &[name, verb], LIMIT);
    told.map(drop).map_err(|failure| match verb {
        "start" | "restart" => failure.fix(format!("read {}", log(name).display())),
        _ => failure,
    })
}

pub(super) fn enable(name: &str) -> Result<(), Failure> {
    if !levels(name).is_empty() {
        return Ok(());
    }
    must("rc-update", &["add", name, "default"], LIMIT).map(drop)
}

pub(super) fn disable(name: &str) -> Result<(), Failure> {
    for level in levels(name) {
        must("rc-update", &["delete", name, &level], LIMIT)?;
    }
    Ok(())
}

pub(super) fn start(name: &str) -> Result<(), Failure> {
    rc_service("start", name)
}

pub(super) fn restart(name: &str) -> Result<(), Failure> {
    rc_service("restart", name)
}

pub(super) fn stop(name: &str) -> Result<(), Failure> {
    if !path(name).exists() {
        return Ok(());
    }
    rc_service("stop", name)
}

pub(super) fn remove(name: &str) -> Result<(), Failure> {
    disable(name)?;
    let older = PathBuf::from(format!("{}.1", log(name).display()));
    [path(name), log(name), older, pid_file(name)].iter().try_for_each(|path| absent(path))
}

/// The runlevels that it is in.
fn levels(name: &str) -> Vec<String> {
    let levels = fs::read_dir(RUNLEVELS).into_iter().flatten().flatten();
    let holds = levels.filter(|level| fs::symlink_metadata(level.path().join(name)).is_ok());
    holds.map(|level| level.file_name().to_string_lossy().into_owned()).collect()
}

pub(super) fn status(name: &str) -> Result<Status, Failure> {
    if !path(name).exists() {
        return Ok(Status::default());
    }
    let running = call("rc-service", &[name, "status"], LIMIT)?.code == Some(0);
    // The process of supervise-daemon, whose only child is the service.
    let keeper = fs::read_to_string(pid_file(name)).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let pid = keeper.filter(|_| running).and_then(only_child);
    Ok(Status { installed: true, at_boot: !levels(name).is_empty(), running, pid })
}

fn only_child(parent: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}
