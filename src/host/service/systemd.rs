//! systemd: the unit file and `systemctl`. `service` calls it; it never starts what it was not asked for.

use super::call::{call, must};
use super::plain::words_of;
use super::{Reach, Service, Status, absent};
use crate::base::Failure;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than a unit may take to stop.
const LIMIT: Duration = Duration::from_secs(90);

pub(super) fn path(name: &str) -> PathBuf {
    Path::new("/etc/systemd/system").join(format!("{name}.service"))
}

/// The unit file.
pub(super) fn render(service: &Service) -> String {
    let mut command = argument(&service.program.display().to_string());
    for arg in &service.args {
        command += " ";
        command += &argument(arg);
    }
    let mut environment = String::new();
    for (name, value) in &service.environment {
        // Writing to a string cannot fail.
        let _infallible = writeln!(environment, "Environment={}", quoted(&format!("{name}={value}"), false));
    }
    let description = service.description.replace('%', "%%");
    let confinement = confinement(&service.reach);
    format!(
        "# Written by kedge from {name}; changes belong into a drop-in (`systemctl edit {name}`).
[Unit]
Description={description}
# After the network's set-up but not its success: a machine without a network starts its pods too.
After=network.target time-sync.target containerd.service crio.service cri-docker.service
# However often it fails, it is tried again.
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={command}
{environment}Restart=always
RestartSec=1
# Containers and their shims live on when the daemon ends.
KillMode=process
TimeoutStopSec=45
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=0
TasksMax=infinity
{confinement}
[Install]
WantedBy=multi-user.target
",
        name = service.name,
    )
}

fn confinement(reach: &Reach) -> String {
    let paths = match reach {
        Reach::Machine => {
            return "OOMScoreAdjust=-999
# cgroups below the unit are the daemon's.
Delegate=yes
# No mount namespace (ProtectSystem, PrivateTmp and the like): the runtime would not see the volumes that the daemon
# mounts. No system call filter and no bounding set: a runtime that the daemon starts hands them on to every container.
"
            .to_owned();
        }
        Reach::Paths(paths) => paths,
    };
    let paths: Vec<String> =
        paths.iter().map(|path| format!("-{}", argument(&path.display().to_string()))).collect();
    format!(
        "UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_CHOWN
ProtectSystem=strict
ReadWritePaths={}
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
",
        paths.join(" ")
    )
}

/// One word of a command line.
fn argument(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,@+".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { quoted(text, true) }
}

/// Specifiers and, on a command line, variables are no longer either.
fn quoted(text: &str, command_line: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{}\"", if command_line { text.replace('$', "$$") } else { text })
}

fn unit(name: &str) -> String {
    format!("{name}.service")
}

fn systemctl(verb: &str, name: &str) -> Result<(), Failure> {
    let told = must("systemctl", &["--no-ask-password", verb, &unit(name)], LIMIT);
    told.map(drop).map_err(|failure| match verb {
        "start" | "restart" => failure.fix(format!("read `journalctl -u {name}`")),
        _ => failure,
    })
}

fn reload() -> Result<(), Failure> {
    must("systemctl", &["--no-ask-password", "daemon-reload"], LIMIT).map(drop)
}

pub(super) fn enable(name: &str) -> Result<(), Failure> {
    reload()?;
    systemctl("enable", name)
}

pub(super) fn disable(name: &str) -> Result<(), Failure> {
    if status(name)?.at_boot { systemctl("disable", name) } else { Ok(()) }
}

pub(super) fn start(name: &str) -> Result<(), Failure> {
    systemctl("start", name)
}

pub(super) fn restart(name: &str) -> Result<(), Failure> {
    systemctl("restart", name)
}

pub(super) fn stop(name: &str) -> Result<(), Failure> {
    if status(name)? == Status::default() { Ok(()) } else { systemctl("stop", name) }
}

pub(super) fn remove(name: &str) -> Result<(), Failure> {
    disable(name)?;
    absent(&path(name))?;
    reload()?;
    // A failed unit is remembered without its file; one that is not remembered cannot be forgotten.
    drop(call("systemctl", &["reset-failed", &unit(name)], LIMIT)?);
    Ok(())
}

pub(super) fn last_words(name: &str) -> Option<String> {
    let args = ["--unit", &unit(name), "--lines=40", "--output=cat", "--no-pager", "--quiet"];
    words_of(&call("journalctl", &args, LIMIT).ok()?.out)
}

pub(super) fn status(name: &str) -> Result<Status, Failure> {
    let properties = "--property=LoadState,UnitFileState,ActiveState,MainPID";
    let told = must("systemctl", &["show", &unit(name), properties], LIMIT)?;
    Ok(read_status(&told.out))
}

pub(super) fn read_status(told: &str) -> Status {
    let value = |key: &str| {
        told.lines()
            .find_map(|line| line.split_once('=').filter(|(name, _)| *name == key))
            .map_or("", |(_, v)| v)
    };
    Status {
        installed: value("LoadState") == "loaded",
        at_boot: value("UnitFileState") == "enabled",
        // A unit that waits for its next try is not running, and must still be stopped.
        running: ["active", "reloading", "activating"].contains(&value("ActiveState")),
        pid: value("MainPID").parse().ok().filter(|pid| *pid > 0),
    }
}
