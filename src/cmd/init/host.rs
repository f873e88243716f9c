//! The cloud as a service of this machine: what is looked at before, the files it reads, and the service itself. Everything
//! goes through the install journal, so that `kedge cloud reset` takes it back.

use crate::base::{Failure, Term};
use crate::config::cloud::{CloudConfig, DEFAULT_PATH};
use crate::config::{Hidden, read_yaml};
use crate::daemon::cloud::setup::{HOST_KUBECONFIG, Standing, Wanted};
use crate::host::check::{Finding, Group};
use crate::host::journal::{self, Change, Deed, Directory, Journal, Role};
use crate::host::ports::{Holder, holder};
use crate::host::service::{self, Manager, Reach, Service};
use crate::host::{capabilities, facts, preflight};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the daemon takes in its data directory at its start.
const LOCK: &str = "kedge.lock";
/// Where the binary is put when it does not stand in a place of its own.
const PROGRAM: &str = "/usr/local/bin/kedge";
const KEPT: [&str; 4] = ["/usr/", "/opt/", "/bin/", "/var/lib/kedge/"];

fn finding(code: &'static str, name: &'static str, seen: String) -> Finding {
    Finding { group: Group::Host, ..Finding::fine(code, name, seen) }
}

fn failed(found: Finding, why: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { state: crate::host::check::State::Failed, why: why.into(), fix: fix.into(), ..found }
}

/// The configuration that an earlier init has left here, with what was set in it since; nothing where there is none.
pub(super) fn kept() -> Result<Standing, Failure> {
    let path = Path::new(DEFAULT_PATH);
    let entries = Journal::read(Path::new(journal::DIR)).unwrap_or_default();
    let ours = entries.iter().any(|entry| entry.deed == Deed::Init && entry.path() == Some(path));
    if !ours || !path.is_file() {
        return Ok(Standing::default());
    }
    Ok(Standing::of_file(read_yaml(path)?, DEFAULT_PATH))
}

/// What is seen of this machine, and the address for nodes when none is given.
pub(super) fn look(config: &CloudConfig, advertise: &[String]) -> (Vec<Finding>, Vec<String>) {
    let mut findings = Vec::new();
    let user = finding("KE-INIT-011", "rights on this machine", "root".to_owned());
    findings.push(if capabilities::is_root() {
        user
    } else {
        let user = Finding { seen: "not root".to_owned(), ..user };
        failed(user, "the service and its files belong to root", "run the same command with sudo")
    });
    if capabilities::is_root() {
        findings.extend(disks(config));
    }
    let own = facts::internal_ip(None);
    let known: Vec<String> = config.hub.advertise.iter().chain(&config.hub.dns_names).cloned().collect();
    let addresses = match advertise {
        [] if !known.is_empty() => known,
        [] if own.is_loopback() => Vec::new(),
        [] => vec![own.to_string()],
        given => given.to_vec(),
    };
    let told = finding("KE-INIT-006", "addresses for nodes", addresses.join(", "));
    findings.push(if addresses.is_empty() {
        let told = Finding { seen: "none".to_owned(), ..told };
        failed(told, "this machine has a loopback address only", "name one: --advertise-address IP")
    } else {
        told
    });
    findings.extend(ports(config));
    (findings, addresses)
}

/// Whether there is room and leave to write for everything that will be made here.
fn disks(config: &CloudConfig) -> Vec<Finding> {
    let program = program();
    let definition = Manager::here().definition_path(service::CLOUD);
    let files = [Path::new(DEFAULT_PATH), Path::new(HOST_KUBECONFIG), &definition];
    let mut places: Vec<&Path> = files.into_iter().filter_map(Path::parent).collect();
    places.extend([Path::new(journal::DIR), &config.data_dir]);
    if program != std::env::current_exe().unwrap_or_default() {
        places.extend(program.parent());
    }
    places.sort_unstable();
    places.dedup();
    preflight::places(&places)
}

/// Every port that the cloud will listen on, with who holds it. Our own service may: it is restarted.
fn ports(config: &CloudConfig) -> Vec<Finding> {
    let ours = Journal::read(Path::new(journal::DIR)).unwrap_or_default();
    let ours = ours.iter().any(|entry| entry.deed.role() == Some(Role::Cloud));
    let mut wanted = vec![
        ("the hub's port", config.hub.websocket.port()),
        ("the certificate service's port", config.hub.https.port()),
    ];
    if config.stream.enabled {
        wanted.push(("the kubelet API's port", config.stream.stream.port()));
        wanted.push(("the tunnel's port", config.stream.tunnel.port()));
    }
    if config.router.enabled {
        wanted.push(("the router's port", config.router.listen.port()));
    }
    let each = |(name, port): (&'static str, u16)| {
        let found = finding("KE-PORT-001", name, format!("{port} is free"));
        match holder(port) {
            None => found,
            Some(Holder { name: program, pid, .. }) if ours && program == "kedge" => Finding {
                seen: format!("{port} is held by kedge (pid {pid}), which is brought up to date"),
                ..found
            },
            Some(Holder { name: program, pid, .. }) => failed(
                Finding { seen: format!("{port} is held by {program} (pid {pid})"), ..found },
                "two programs cannot listen on one port",
                format!("stop {program} (pid {pid}), or choose another port with --set"),
            ),
        }
    };
    wanted.into_iter().map(each).collect()
}

fn service(program: &Path, config: &CloudConfig) -> Service {
    let mut service = Service::cloud(program, Path::new(DEFAULT_PATH));
    if let Reach::Paths(paths) = &mut service.reach
        && !paths.iter().any(|path| config.data_dir.starts_with(path))
    {
        paths.push(config.data_dir.clone());
    }
    service
}

/// Whether one of the files is newer than the daemon's lock, which it writes at its start.
fn has_changed_since(files: &[&Path], lock: &Path) -> bool {
    let at = |path: &Path| std::fs::metadata(path).map(|facts| (facts.ctime(), facts.ctime_nsec())).ok();
    let started = at(lock);
    files.iter().any(|path| at(path) > started)
}

/// What would be made on this machine.
pub(super) fn say(wanted: &Wanted, term: &Term) {
    let manager = Manager::here();
    let program = program();
    let definition = manager.definition(&service(&program, &wanted.config));
    let port = wanted.config.hub.websocket.port();
    term.say(&format!(
        "on this machine: {DEFAULT_PATH}, {HOST_KUBECONFIG}, {} (service manager: {}), port {port}",
        definition.path.display(),
        manager.name()
    ));
}

/// The binary that the service runs.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let stands = KEPT.iter().any(|place| own.starts_with(place));
    if stands { own } else { PathBuf::from(PROGRAM) }
}

/// Writes files and service; tells what was set up. Can be repeated: what is as it is wanted stays, and runs on.
pub(super) fn install(wanted: &Wanted, access: &Hidden) -> Result<String, Failure> {
    let broken_off = Journal::unfinished(Path::new(journal::DIR))?.contains(&Deed::Init);
    let mut journal = Journal::open(Path::new(journal::DIR), Deed::Init)?;
    let program = program();
    let known = journal.entries().len();
    let own = std::env::current_exe().unwrap_or_default();
    if program != own {
        let content = std::fs::read(&own).map_err(|error| {
            Failure::new("KE-INIT-012", "the kedge binary for the service cannot be read")
                .because(format!("{}: {error}", own.display()))
                .fix("put kedge into /usr/local/bin/kedge and run the same command from there")
        })?;
        journal.apply(&Change::File { path: program.clone(), content, mode: 0o755 })?;
    }
    // One that says the same keeps its comments.
    if read_yaml(Path::new(DEFAULT_PATH)).ok().as_ref() != Some(&wanted.document) {
        let text = serde_yaml::to_string(&wanted.document).unwrap_or_default();
        let config = Change::File { path: DEFAULT_PATH.into(), content: text.into_bytes(), mode: 0o600 };
        journal.apply(&config)?;
    }
    let access = Change::File {
        path: HOST_KUBECONFIG.into(),
        content: access.reveal().as_bytes().to_vec(),
        mode: 0o600,
    };
    journal.apply(&access)?;
    // The service may write below its own directories only, and cannot make the first of them itself.
    let data = wanted.config.data_dir.clone();
    journal.apply(&Change::Directory { path: data, mode: 0o700, kind: Directory::Owned })?;
    let files = [program.as_path(), Path::new(DEFAULT_PATH), Path::new(HOST_KUBECONFIG)];
    let stale = has_changed_since(&files, &wanted.config.data_dir.join(LOCK));
    let service = service(&program, &wanted.config);
    let name = service.name.clone();
    let manager = Manager::here();
    // One that runs already and reads other files now has to be told; a new one has read them.
    let stale = stale && manager.status(&name)?.running;
    journal.apply(&Change::Service(service))?;
    if stale {
        manager.restart(&name)?;
    }
    if broken_off || journal.entries().len() > known {
        journal.finish()?;
    }
    Ok(match manager {
        Manager::Plain => {
            format!("{name} runs without a service manager; its log: {}", manager.log_hint(&name))
        }
        Manager::Systemd | Manager::OpenRc => {
            format!("{name} runs under {}; its log: {}", manager.name(), manager.log_hint(&name))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_behind_when_a_file_is_newer_than_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let (file, lock) = (dir.path().join("file"), dir.path().join("lock"));
        std::fs::write(&file, "1").unwrap();
        assert!(has_changed_since(&[&file], &lock), "it has never run");
        let newer = |path: &Path, than: &Path| {
            let at = |path: &Path| std::fs::metadata(path).map(|it| (it.ctime(), it.ctime_nsec())).unwrap();
            // The kernel's clock for files ticks a few hundred times a second.
            while std::fs::write(path, "2").is_ok() && at(path) <= at(than) {}
        };
        std::fs::write(&lock, "1").unwrap();
        newer(&lock, &file);
        assert!(!has_changed_since(&[&file, &dir.path().join("absent")], &lock));
        newer(&file, &lock);
        assert!(has_changed_since(&[&file], &lock));
    }
}
