//! What other agents have left or still run: kubelet and its kin, a genuine edgecore, a configuration that was never
//! finished; what is left of pod networks has a file of its own. Only processes in this machine's own namespaces count: a
//! kubelet inside a container is not this machine's.

use super::Wanted;
use super::machine::Machine;
use super::networks;
use crate::base::{Failure, UNFINISHED};
use crate::config::edge::EdgeConfig;
use crate::host::check::{Check, Finding, Group};
use crate::host::journal::{self, Deed, Journal};
use crate::host::neighbours::{Process, on_this_machine, told};
use std::path::{Path, PathBuf};

/// Agents that drive the container runtime for pods themselves.
const KUBELETS: [&str; 4] = ["kubelet", "k3s-agent", "k3s-server", "kubelite"];

pub(super) fn checks(here: &Machine, wanted: &Wanted) -> Vec<Check> {
    let mut checks = Vec::new();
    if wanted.edge {
        let (agents, files, network) = (here.clone(), here.clone(), here.clone());
        let own = has_edge_config(here, &wanted.etc_dir);
        checks.push(Check::blocking("KE-KUBELET-001", Group::Host, "kubelet", move || {
            vec![judge_kubelet(&on_this_machine(&KUBELETS), &kubelet_units(&agents))]
        }));
        checks.push(Check::blocking("KE-KUBELET-002", Group::Host, "kubelet's files", move || {
            vec![judge_files(&kubelet_mounts(&files), &kubelet_files(&files), own)]
        }));
        checks.push(networks::check(network));
    }
    let (takeover, name) = (wanted.takeover, if wanted.edge { "edgecore" } else { "cloudcore" });
    let units = here.clone();
    checks.push(Check::blocking("KE-EDGECORE-001", Group::Host, "KubeEdge's own daemon", move || {
        let unit = format!("{name}.service");
        let enabled = enabled_units(&units, &[unit.as_str()]).first().cloned();
        vec![judge_edgecore(name, &on_this_machine(&[name]), enabled, takeover)]
    }));
    checks.push(Check::blocking("KE-ETC-002", Group::Host, "unfinished work", || {
        let dir = Path::new(journal::DIR);
        vec![match Journal::is_free(dir) {
            Ok(()) => judge_unfinished(&Journal::is_whole(dir).and_then(|()| Journal::unfinished(dir))),
            Err(at_work) => Finding::fine("KE-ETC-002", "unfinished work", at_work.what),
        }]
    }));
    if wanted.edge {
        let (here, etc) = (here.clone(), wanted.etc_dir.clone());
        let file = wanted.config.clone().unwrap_or_else(|| etc.join("config/edgecore.yaml"));
        checks.push(Check::blocking("KE-ETC-001", Group::Host, "configuration", move || {
            vec![judge_etc(&etc, &file, &read_etc(&here, &etc, &file))]
        }));
    }
    checks
}

/// Files below KubeEdge's directory that a broken-off write has left.
pub fn unfinished(etc: &Path) -> Vec<PathBuf> {
    unfinished_files(&Machine::here(), etc)
}

fn unfinished_files(here: &Machine, etc: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in ["config", "ca", "certs"] {
        let half = |name: &String| name.contains(".tmp-") || name.ends_with(UNFINISHED);
        let left = here.names(etc.join(dir)).into_iter().filter(half);
        found.extend(left.map(|name| etc.join(dir).join(name)));
    }
    found
}

fn stop(processes: &[Process], enabled: Option<&String>) -> String {
    let unit = enabled.cloned().or_else(|| processes.iter().find_map(|process| process.unit.clone()));
    match (unit, processes.first()) {
        (Some(unit), _) if unit.ends_with(".service") => format!("systemctl disable --now {unit}"),
        (Some(service), _) => format!("rc-service {service} stop && rc-update del {service}"),
        (None, Some(process)) => format!("kill {}", process.pid),
        (None, None) => String::new(),
    }
}

/// Keeps a unit of systemd or a service of OpenRC from starting at boot.
fn disable(unit: &str) -> String {
    match unit.ends_with(".service") {
        true => format!("systemctl disable {unit}"),
        false => format!("rc-update del {unit}"),
    }
}

/// Those of the units that systemd starts at boot, and services of the same names that OpenRC does.
fn enabled_units(here: &Machine, units: &[&str]) -> Vec<String> {
    let wants: Vec<String> = here.names("/etc/systemd/system");
    let dirs = wants.iter().filter(|name| name.ends_with(".wants") || name.ends_with(".requires"));
    let enabled: Vec<String> =
        dirs.flat_map(|dir| here.names(format!("/etc/systemd/system/{dir}"))).collect();
    let levels = here.names("/etc/runlevels");
    let services: Vec<String> =
        levels.iter().flat_map(|level| here.names(format!("/etc/runlevels/{level}"))).collect();
    let by_systemd = units.iter().filter(|unit| enabled.iter().any(|name| name == *unit)).copied();
    let names = units.iter().filter_map(|unit| unit.strip_suffix(".service"));
    let by_openrc = names.filter(|name| services.iter().any(|service| service == name));
    by_systemd.chain(by_openrc).map(str::to_owned).collect()
}

fn kubelet_units(here: &Machine) -> Vec<String> {
    enabled_units(here, &["kubelet.service", "k3s.service", "k3s-agent.service"])
}

fn judge_kubelet(processes: &[Process], enabled: &[String]) -> Finding {
    let (code, name) = ("KE-KUBELET-001", "kubelet");
    if !processes.is_empty() {
        return Finding::failed(code, name, told(processes))
            .because("two agents would drive one container runtime, and each removes the other's pods")
            .fix(stop(processes, enabled.first()));
    }
    if let Some(unit) = enabled.first() {
        return Finding::warning(code, name, format!("{unit} is stopped and starts at boot"))
            .because("after the next boot two agents would drive one container runtime")
            .fix(disable(unit))
            .fixable();
    }
    Finding::fine(code, name, "none")
}

fn kubelet_mounts(here: &Machine) -> Vec<String> {
    let mounts = here.text("/proc/self/mounts");
    let point = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    mounts.lines().filter_map(point).filter(|point| point.starts_with("/var/lib/kubelet/")).collect()
}

fn kubelet_files(here: &Machine) -> Vec<String> {
    let files = [
        "/var/lib/kubelet/config.yaml",
        "/var/lib/kubelet/kubeadm-flags.env",
        "/etc/kubernetes/kubelet.conf",
    ];
    files.into_iter().filter(|path| here.exists(path)).map(str::to_owned).collect()
}

/// With a configuration of edgecore or kedge the mounts are those of its own pods.
fn judge_files(mounts: &[String], files: &[String], own: bool) -> Finding {
    let (code, name) = ("KE-KUBELET-002", "kubelet's files");
    if !mounts.is_empty() && !own {
        let seen = format!("{} mounts below /var/lib/kubelet", mounts.len());
        return Finding::warning(code, name, seen)
            .because("they belong to pods of an agent that is gone, and keep their volumes busy")
            .fix("grep -o ' /var/lib/kubelet/[^ ]*' /proc/mounts | sort -r | xargs -r umount");
    }
    if !files.is_empty() {
        return Finding::warning(code, name, files.join(", "))
            .because(
                "a kubelet was set up here by kubeadm; started again, it would take the node's pods away",
            )
            .fix("kubeadm reset --force");
    }
    let seen = if mounts.is_empty() {
        "none".to_owned()
    } else {
        format!("{} mounts of this node's pods", mounts.len())
    };
    Finding::fine(code, name, seen)
}

fn judge_edgecore(name: &str, processes: &[Process], enabled: Option<String>, takeover: bool) -> Finding {
    let (code, title) = ("KE-EDGECORE-001", "KubeEdge's own daemon");
    let join = if name == "edgecore" { " (or `kedge join --takeover`)" } else { "" };
    match (processes.is_empty(), &enabled) {
        (true, None) => Finding::fine(code, title, "none"),
        (false, _) if takeover => {
            Finding::fine(code, title, told(processes) + " and gives its place to kedge")
        }
        (false, _) => Finding::failed(code, title, told(processes))
            .because(format!("{name} and kedge would use the same files, ports and node name"))
            .fix(stop(processes, enabled.as_ref()) + join),
        (true, Some(unit)) if takeover => {
            Finding::fine(code, title, format!("{unit} is stopped and gives its place to kedge"))
        }
        (true, Some(unit)) => Finding::warning(code, title, format!("{unit} is stopped and starts at boot"))
            .because(format!("after the next boot {name} would take kedge's place"))
            .fix(disable(unit) + join)
            .fixable(),
    }
}

fn has_edge_config(here: &Machine, etc: &Path) -> bool {
    here.exists(etc.join("config/edgecore.yaml"))
}

/// Deeds of kedge on this machine that began and neither ended nor were taken back.
fn judge_unfinished(deeds: &Result<Vec<Deed>, Failure>) -> Finding {
    let (code, name) = ("KE-ETC-002", "unfinished work");
    match deeds.as_deref() {
        Ok([]) => Finding::fine(code, name, "none"),
        Ok([deed, ..]) => {
            let fix = match deed {
                Deed::Join => "kedge join again, or kedge reset edge",
                Deed::Init => "kedge init again, or kedge cloud reset",
                Deed::Upgrade => "kedge edge history",
                Deed::Fix | Deed::Configure | Deed::Journal => "kedge undo",
            };
            Finding::warning(code, name, format!("{deed} was broken off"))
                .because("the machine is between two states; what was done is in the journal and can be taken back")
                .fix(fix)
        }
        Err(failure) => Finding::failed(code, name, failure.what.clone())
            .because(failure.why.clone())
            .fix(failure.fix.clone()),
    }
}

/// What `/etc/kubeedge` holds of an edge node.
#[derive(Debug, Default)]
struct Etc {
    /// `None`: no configuration; else what is wrong with it.
    config: Option<Result<(), String>>,
    certificate: bool,
    key: bool,
    authority: bool,
    /// Files that a broken-off write has left.
    unfinished: Vec<PathBuf>,
}

fn read_etc(here: &Machine, etc: &Path, file: &Path) -> Etc {
    let config = here.exists(file).then(|| {
        let loaded = EdgeConfig::load(&here.path(file));
        loaded.map(drop).map_err(|failure| failure.why)
    });
    let unfinished = unfinished_files(here, etc);
    Etc {
        config,
        certificate: here.exists(etc.join("certs/server.crt")),
        key: here.exists(etc.join("certs/server.key")),
        authority: here.exists(etc.join("ca/rootCA.crt")),
        unfinished,
    }
}

fn judge_etc(etc: &Path, file: &Path, found: &Etc) -> Finding {
    let (code, name) = ("KE-ETC-001", format!("{}", etc.display()));
    if let Some(Err(why)) = &found.config {
        return Finding::failed(code, file.display().to_string(), "cannot be used")
            .because(why.clone())
            .fix(format!("kedge config validate {}", file.display()));
    }
    if found.certificate != found.key {
        let (there, missing) =
            if found.key { ("key", "certs/server.crt") } else { ("certificate", "certs/server.key") };
        return Finding::warning(code, name, format!("a {there} without {missing}"))
            .because("an enrolment was broken off; a new one begins from the start")
            .fix("kedge reset edge");
    }
    if let Some(first) = found.unfinished.first() {
        return Finding::warning(code, name, format!("{} unfinished files", found.unfinished.len()))
            .because("a write was broken off, by a power cut perhaps")
            .fix(format!("rm {}", first.display()))
            .fixable();
    }
    let seen = match (&found.config, found.certificate, found.authority) {
        (None, false, false) => "empty".to_owned(),
        (None, certificate, _) => {
            format!("no edgecore.yaml, {}", if certificate { "a certificate" } else { "an authority" })
        }
        (Some(_), true, _) => "edgecore.yaml and a certificate".to_owned(),
        (Some(_), false, _) => "edgecore.yaml, not enrolled yet".to_owned(),
    };
    Finding::fine(code, name, seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;

    fn process(name: &str, unit: Option<&str>) -> Process {
        Process { pid: 7, name: name.to_owned(), unit: unit.map(str::to_owned) }
    }

    #[test]
    fn a_kubelet_is_named_with_its_process_and_unit() {
        let finding = judge_kubelet(&[process("kubelet", Some("kubelet.service"))], &[]);
        assert_eq!(
            (finding.state, finding.seen.as_str()),
            (State::Failed, "kubelet runs (pid 7, kubelet.service)")
        );
        assert_eq!(finding.fix, "systemctl disable --now kubelet.service");
        assert_eq!(judge_kubelet(&[process("kubelet", None)], &[]).fix, "kill 7");
        let stopped = judge_kubelet(&[], &["kubelet.service".to_owned()]);
        assert_eq!(
            (stopped.state, stopped.fix.as_str()),
            (State::Warning, "systemctl disable kubelet.service")
        );
        assert_eq!(judge_kubelet(&[], &[]).state, State::Fine);
    }

    #[test]
    fn units_that_start_at_boot_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::below(dir.path());
        assert!(kubelet_units(&machine).is_empty());
        machine.put("/etc/systemd/system/multi-user.target.wants/kubelet.service", "");
        assert_eq!(kubelet_units(&machine), ["kubelet.service"]);
        machine.put("/etc/runlevels/default/k3s", "");
        assert_eq!(kubelet_units(&machine), ["kubelet.service", "k3s"]);
        let openrc = judge_kubelet(&[], &["k3s".to_owned()]);
        assert_eq!((openrc.fixable, openrc.fix.as_str()), (true, "rc-update del k3s"));
        let runs = judge_kubelet(&[process("k3s-server", None)], &["k3s".to_owned()]);
        assert_eq!(runs.fix, "rc-service k3s stop && rc-update del k3s");
    }

    #[test]
    fn mounts_and_files_of_an_agent_that_is_gone_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::below(dir.path());
        machine.put(
            "/proc/self/mounts",
            "tmpfs /var/lib/kubelet/pods/u/volumes/kubernetes.io~secret/t tmpfs rw 0 0\nproc /proc proc rw 0 0\n",
        );
        let mounts = kubelet_mounts(&machine);
        assert_eq!(mounts.len(), 1);
        assert_eq!(judge_files(&mounts, &[], false).state, State::Warning);
        assert_eq!(judge_files(&mounts, &[], true).seen, "1 mounts of this node's pods");
        machine.put("/var/lib/kubelet/kubeadm-flags.env", "");
        assert_eq!(judge_files(&[], &kubelet_files(&machine), true).fix, "kubeadm reset --force");
        assert_eq!(judge_files(&[], &[], false).state, State::Fine);
    }

    #[test]
    fn a_genuine_edgecore_is_told_unless_it_gives_its_place() {
        let running = [process("edgecore", Some("edgecore.service"))];
        let finding = judge_edgecore("edgecore", &running, None, false);
        assert_eq!((&*finding.code, finding.state), ("KE-EDGECORE-001", State::Failed));
        assert_eq!(finding.fix, "systemctl disable --now edgecore.service (or `kedge join --takeover`)");
        assert_eq!(judge_edgecore("edgecore", &running, None, true).state, State::Fine);
        let unit = Some("edgecore.service".to_owned());
        assert_eq!(judge_edgecore("edgecore", &[], unit.clone(), false).state, State::Warning);
        assert_eq!(judge_edgecore("edgecore", &[], unit, true).state, State::Fine);
        assert_eq!(judge_edgecore("cloudcore", &[], None, false).seen, "none");
    }

    #[test]
    fn work_that_was_broken_off_is_told_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("journal");
        assert_eq!(judge_unfinished(&Journal::unfinished(&place)).state, State::Fine);
        let mut journal = Journal::open(&place, Deed::Join).unwrap();
        let path = dir.path().join("a");
        journal.apply(&journal::Change::File { path, content: Vec::new(), mode: 0o600 }).unwrap();
        let broken = judge_unfinished(&Journal::unfinished(&place));
        assert_eq!((broken.state, broken.seen.as_str()), (State::Warning, "join was broken off"));
        assert!(&*broken.code == "KE-ETC-002" && broken.fix.contains("kedge reset edge"), "{broken:?}");
        journal.finish().unwrap();
        assert_eq!(judge_unfinished(&Journal::unfinished(&place)).state, State::Fine);
        std::fs::write(place.join("journal.jsonl"), "nonsense\n").unwrap();
        assert_eq!(judge_unfinished(&Journal::unfinished(&place)).state, State::Failed);
    }

    #[test]
    fn a_half_written_configuration_is_told_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::below(dir.path());
        let etc = Path::new("/etc/kubeedge");
        let file = etc.join("config/edgecore.yaml");
        let judged = || judge_etc(etc, &file, &read_etc(&machine, etc, &file));
        assert_eq!(judged().seen, "empty");
        machine.put(
            "/etc/kubeedge/config/edgecore.yaml",
            "apiVersion: edgecore.config.kubeedge.io/v1alpha2\nmodules:\n  edgeHub: [",
        );
        let broken = judged();
        assert!(broken.state == State::Failed && !broken.why.is_empty(), "{broken:?}");
        machine.put("/etc/kubeedge/config/edgecore.yaml", "modules: {edged: {hostnameOverride: n1}}");
        assert_eq!(judged().seen, "edgecore.yaml, not enrolled yet");
        machine.put("/etc/kubeedge/certs/server.key", "");
        assert_eq!(judged().seen, "a key without certs/server.crt");
        machine.put("/etc/kubeedge/certs/server.crt", "");
        assert_eq!(judged().seen, "edgecore.yaml and a certificate");
        machine.put("/etc/kubeedge/ca/rootCA.crt.tmp-bcdf2456", "");
        assert_eq!(judged().fix, "rm /etc/kubeedge/ca/rootCA.crt.tmp-bcdf2456");
        machine.put("/etc/kubeedge/config/.edgecore.yaml.kedge-new", "");
        assert_eq!(judged().fix, "rm /etc/kubeedge/config/.edgecore.yaml.kedge-new");
    }
}
