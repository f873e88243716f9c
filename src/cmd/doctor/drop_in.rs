//! Checks that others bring: executables `kedge-doctor-*` in PATH and every executable in /etc/kedge/doctor.d. Each is run
//! with a time limit and prints findings as JSON: one, a list of them, or `{"findings": [...]}`. As root only files that
//! nobody else may write are run. Nothing that one has started outlives it. `--pre` runs none: a bare machine has none.

use super::place::Role;
use super::report::API_VERSION;
use crate::host::check::{Check, Finding, Group};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;

const CODE: &str = "KE-DROPIN-001";
const DIR: &str = "/etc/kedge/doctor.d";
const PREFIX: &str = "kedge-doctor-";
const LIMIT: Duration = Duration::from_secs(3);
/// For reading what is left of the answer of one that has ended.
const REST: Duration = Duration::from_millis(200);
const ANSWER: u64 = 1 << 20;
/// More than this is a mistake of the drop-in.
const FINDINGS: usize = 200;

/// One check for each drop-in that is there.
pub(super) fn checks(role: Role) -> Vec<Check> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    let programs = found(&dirs, Path::new(DIR));
    let root = crate::host::capabilities::is_root();
    let check = |program: PathBuf| {
        Check::asking(CODE, Group::Host, "drop-in check, not with --pre", async move {
            run(&program, role, root).await
        })
        .placing_itself()
    };
    programs.into_iter().map(check).collect()
}

/// Each name once, as a shell would find it; then those of the directory, in order.
fn found(path: &[PathBuf], dir: &Path) -> Vec<PathBuf> {
    let mut names = BTreeSet::new();
    let mut programs = Vec::new();
    for place in path {
        for program in executables(place) {
            let name = program.file_name().unwrap_or_default().to_owned();
            if name.to_string_lossy().starts_with(PREFIX) && names.insert(name) {
                programs.push(program);
            }
        }
    }
    programs.extend(executables(dir));
    programs
}

fn executables(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.metadata().is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0))
        .collect();
    files.sort();
    files
}

async fn run(program: &Path, role: Role, root: bool) -> Vec<Finding> {
    let name = program.display().to_string();
    if let Some(why) = program.metadata().ok().and_then(|file| distrust(root, file.uid(), file.mode())) {
        return vec![
            Finding::warning(CODE, name.clone(), "not run")
                .because(why)
                .fix(format!("chown root {name} && chmod 755 {name}")),
        ];
    }
    let finding = |seen: String| {
        vec![
            Finding::warning(CODE, name.clone(), seen)
                .because("a drop-in check prints findings as JSON on its standard output")
                .fix(format!("run {name} by hand")),
        ]
    };
    match tokio::time::timeout(LIMIT, output(program, role)).await {
        Err(_) => finding(format!("no end within {} s", LIMIT.as_secs())),
        Ok(Err(error)) => finding(error.to_string()),
        Ok(Ok(answer)) => match parse(&answer) {
            Ok(findings) => findings,
            Err(why) => finding(why),
        },
    }
}

/// Root runs nothing that somebody else can change.
fn distrust(root: bool, owner: u32, mode: u32) -> Option<&'static str> {
    match root {
        true if owner != 0 => Some("its owner is not root"),
        true if mode & 0o022 != 0 => Some("others may write it"),
        _ => None,
    }
}

/// A program and all that it starts, as long as they stay in its group; ended with the value.
struct Family(Option<Pid>);

impl Family {
    fn of(child: &Child) -> Family {
        Family(child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.map(|leader| kill_process_group(leader, Signal::KILL)) {
            tracing::debug!(%error, "all of a drop-in check has ended already");
        }
    }
}

/// Reads to the end; what was read until it is dropped stands in `answer`.
async fn hear(mut out: impl AsyncRead + Unpin, answer: &mut Vec<u8>) -> std::io::Result<()> {
    let mut part = [0_u8; 4096];
    loop {
        match out.read(&mut part).await? {
            0 => return Ok(()),
            count => answer.extend_from_slice(part.get(..count).unwrap_or_default()),
        }
    }
}

async fn output(program: &Path, role: Role) -> std::io::Result<Vec<u8>> {
    let role = if role == Role::Edge { "edge" } else { "cloud" };
    let mut child = tokio::process::Command::new(program)
        .env("KEDGE_DOCTOR_API", API_VERSION)
        .env("KEDGE_DOCTOR_ROLE", role)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let _family = Family::of(&child);
    let mut answer = Vec::new();
    if let Some(out) = child.stdout.take() {
        let mut hearing = std::pin::pin!(hear(out.take(ANSWER), &mut answer));
        tokio::select! {
            biased;
            heard = hearing.as_mut() => heard?,
            ended = child.wait() => {
                ended?;
                // What it has said is there; whoever of its family still holds the pipe is not waited for.
                if let Ok(heard) = tokio::time::timeout(REST, hearing.as_mut()).await {
                    heard?;
                }
            }
        }
    }
    Ok(answer)
}

fn parse(answer: &[u8]) -> Result<Vec<Finding>, String> {
    let value: Value =
        serde_json::from_slice(answer).map_err(|error| format!("its answer is not JSON: {error}"))?;
    let list = match value {
        Value::Array(list) => list,
        Value::Object(mut object) => match object.remove("findings") {
            Some(Value::Array(list)) => list,
            Some(_) => return Err("its findings are no list".to_owned()),
            None => vec![Value::Object(object)],
        },
        _ => return Err("its answer is no finding".to_owned()),
    };
    if list.len() > FINDINGS {
        return Err(format!("it has more than {FINDINGS} findings"));
    }
    list.into_iter().map(read).collect()
}

fn read(value: Value) -> Result<Finding, String> {
    let mut finding: Finding =
        serde_json::from_value(value).map_err(|error| format!("a finding cannot be read: {error}"))?;
    let fits = |text: &str| {
        text.len() <= 64
            && !text.is_empty()
            && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-')
    };
    if !fits(&finding.code) {
        return Err("a code has up to 64 capital letters, digits and hyphens".to_owned());
    }
    // What a drop-in says is text for a person: no control characters reach the terminal. Its repairs are its own.
    for text in [&mut finding.name, &mut finding.seen, &mut finding.why, &mut finding.fix] {
        text.retain(|c| !c.is_control());
    }
    finding.fixable = false;
    Ok(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;
    use std::os::unix::fs::PermissionsExt;

    fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn executables_with_the_name_and_those_of_the_directory_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, d] = ["a", "b", "d"].map(|name| dir.path().join(name));
        for dir in [&a, &b, &d] {
            std::fs::create_dir(dir).unwrap();
        }
        let first = script(&a, "kedge-doctor-site", "");
        script(&b, "kedge-doctor-site", "");
        script(&b, "other", "");
        std::fs::write(b.join("kedge-doctor-text"), "no program").unwrap();
        let own = script(&d, "any-name", "");
        assert_eq!(found(&[a, b], &d), [first, own]);
    }

    #[tokio::test]
    async fn a_real_program_is_run_and_its_findings_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let finding = r#"{"code":"SITE-1","group":"devices","name":"lamp","state":"warning","seen":"dim"}"#;
        let program = script(dir.path(), "kedge-doctor-a", &format!("echo '{{\"findings\":[{finding}]}}'"));
        let findings = run(&program, Role::Edge, false).await;
        assert_eq!(
            (&*findings[0].code, findings[0].group, findings[0].state),
            ("SITE-1", Group::Devices, State::Warning)
        );
        let program = script(dir.path(), "kedge-doctor-b", "echo nonsense");
        assert!(run(&program, Role::Edge, false).await[0].seen.contains("not JSON"));
        let program = script(dir.path(), "kedge-doctor-c", "exec sleep 60");
        assert_eq!(run(&program, Role::Edge, false).await[0].seen, "no end within 3 s");
        let line = r#"printf '{"code":"ROLE-%s","group":"host","name":"n","state":"fine"}' "$(echo $KEDGE_DOCTOR_ROLE | tr a-z A-Z)""#;
        let program = script(dir.path(), "kedge-doctor-d", line);
        assert_eq!(&*run(&program, Role::Cloud, false).await[0].code, "ROLE-CLOUD");
    }

    #[tokio::test]
    async fn nothing_that_a_drop_in_has_started_outlives_it() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("pid");
        let begins = format!("sleep 1000 & echo $! > {}", note.display());
        // The grandchild has ended, or waits for whoever is to reap it.
        let ended = || async {
            let pid = std::fs::read_to_string(&note).unwrap().trim().to_owned();
            for _ in 0..500 {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                if stat.is_empty() || stat.contains(") Z ") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("{pid} lives on");
        };
        let waits = script(dir.path(), "kedge-doctor-waits", &format!("{begins}; wait"));
        assert_eq!(run(&waits, Role::Edge, false).await[0].seen, "no end within 3 s");
        ended().await;
        // One that has ended is told by what it has said, whatever it left behind.
        let finding = r#"{"code":"SITE-1","group":"devices","name":"lamp","state":"fine","seen":"lit"}"#;
        let leaves = script(dir.path(), "kedge-doctor-leaves", &format!("{begins}; echo '[{finding}]'"));
        assert_eq!(&*run(&leaves, Role::Edge, false).await[0].code, "SITE-1");
        ended().await;
    }

    #[test]
    fn hostile_answers_are_refused_or_cleaned() {
        let finding = |code: &str, name: &str| {
            format!(r#"{{"code":"{code}","group":"host","name":"{name}","state":"failed","fixable":true}}"#)
        };
        let clean = parse(finding("A-1", "x\\u001b[2J").as_bytes()).unwrap();
        assert_eq!((clean[0].name.as_str(), clean[0].fixable), ("x[2J", false));
        for bad in [
            "",
            "7",
            "{}",
            "{\"findings\":1}",
            &finding("a b", "x"),
            &finding("", "x"),
            &format!("[{}1]", "1,".repeat(300)),
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn root_runs_nothing_that_others_can_change() {
        assert!(distrust(true, 1000, 0o755).is_some() && distrust(true, 0, 0o777).is_some());
        assert!(distrust(true, 0, 0o755).is_none() && distrust(false, 1000, 0o777).is_none());
    }
}
