//! What other agents have left or still run: kubelet and its kin, CNI and iptables remains, a genuine edgecore, a
//! configuration that was never finished. Only processes in this machine's own namespaces count: a kubelet inside a
//! container is not this machine's.

use super::Wanted;
use super::machine::Machine;
use super::programs::output_within;
use crate::base::{Failure, UNFINISHED};
use crate::config::edge::EdgeConfig;
use crate::host::check::{Check, Cost, Finding, Group, State};
use crate::host::journal::{self, Deed, Journal};
use crate::host::neighbours::{Process, on_this_machine, on_this_network, told};
use futures_util::future::join_all;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Agents that drive the container runtime for pods themselves.
const KUBELETS: [&str; 4] = ["kubelet", "k3s-agent", "k3s-server", "kubelite"];
const POD_NETWORKS: &str = "KE-KUBELET-003";
/// The process name of EdgeMesh's agent.
const MESH_AGENT: &str = "edgemesh-agent";
/// What EdgeMesh's agent makes and takes away again when it ends well.
const MESH_DEVICE: &str = "edgemesh0";
const MESH_CHAINS: [&str; 2] = ["-N KUBE-PORTALS-", "-N KUBE-NODEPORT-"];
/// Interfaces that pod networks leave behind.
const INTERFACES: [&str; 8] =
    ["cni0", "flannel.1", "kube-ipvs0", "nodelocaldns", "weave", "cilium_host", "vxlan.calico", "tunl0"];

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
        checks.push(
            Check::asking(POD_NETWORKS, Group::Host, "remains of pod networks", async move {
                let interfaces = network.names("/sys/class/net");
                let agent = on_this_network(&[MESH_AGENT]);
                let rules = nat_rules(&network).await;
                judge_rules(&interfaces, &rules, &agent, &pod_networks(&network))
            })
            .cost(Cost::Medium)
            .also(&["KE-MESH-006"])
            .root(),
        );
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

/// The rules for address translation by the program that shows them. Rules of one kind of iptables are not seen by the
/// other, and whoever made them may have used either.
async fn nat_rules(here: &Machine) -> Vec<(&'static str, String)> {
    // The old kind makes its table by looking at it: only one that is there is looked at.
    let old = here.text("/proc/net/ip_tables_names").lines().any(|table| table == "nat");
    let programs = ["iptables", "iptables-nft"].into_iter().chain(old.then_some("iptables-legacy"));
    let asked = programs.map(async |program| {
        let limit = Duration::from_secs(2);
        let said = output_within(program, &["-w", "1", "-t", "nat", "-S"], limit).await;
        (program, said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default())
    });
    let mut rules: Vec<(&str, String)> = Vec::new();
    for (program, text) in join_all(asked).await {
        if !text.is_empty() && !rules.iter().any(|(_, known)| *known == text) {
            rules.push((program, text));
        }
    }
    rules
}

/// What is left, each with the command of the program that shows it.
fn judge_rules(
    interfaces: &[String],
    rules: &[(&str, String)],
    agent: &[Process],
    networks: &str,
) -> Vec<Finding> {
    let nothing = [("iptables", String::new())];
    let rules = if rules.is_empty() { &nothing } else { rules };
    let mut findings: Vec<Finding> = Vec::new();
    for (program, text) in rules {
        let found = judge_mesh(interfaces, text, agent).into_iter();
        for finding in found.chain([judge_network(interfaces, text, networks)]) {
            let fix = finding.fix.replace("iptables", program);
            let known = |known: &Finding| known.code == finding.code && known.seen == finding.seen;
            if !findings.iter().any(known) {
                findings.push(Finding { fix, ..finding });
            }
        }
    }
    // That one kind of rules is in order says nothing where the other is not.
    let complains =
        |findings: &[Finding]| findings.iter().any(|f| f.code == POD_NETWORKS && f.state != State::Fine);
    if complains(&findings) {
        findings.retain(|finding| finding.state != State::Fine);
    }
    findings
}

/// The configurations of pod networks that the runtime reads.
fn pod_networks(here: &Machine) -> String {
    let dir = Path::new("/etc/cni/net.d");
    here.names(dir).into_iter().map(|name| here.text(dir.join(name))).collect()
}

/// Whether a configured pod network makes this interface: it is no remains then, and pods may hang on it.
fn is_of(interface: &str, networks: &str) -> bool {
    let words: &[&str] = match interface {
        "cni0" => &["\"cni0\"", "flannel"],
        "flannel.1" => &["flannel"],
        "weave" => &["weave"],
        "cilium_host" => &["cilium"],
        "vxlan.calico" | "tunl0" => &["calico"],
        _ => &[],
    };
    words.iter().any(|word| networks.contains(word))
}

fn judge_network(interfaces: &[String], rules: &str, networks: &str) -> Finding {
    let (code, name) = (POD_NETWORKS, "remains of pod networks");
    let is_left = |wanted: &&str| interfaces.iter().any(|i| i == wanted) && !is_of(wanted, networks);
    let left: Vec<&str> = INTERFACES.into_iter().filter(is_left).collect();
    // KubeEdge bends kube-apiserver's traffic to nodes with this chain; it outlives a reset.
    let tunnel = rules.lines().filter(|line| line.contains("TUNNEL-PORT")).count();
    // A kubelet's canaries catch nothing.
    let catches = |line: &&str| line.starts_with("-N KUBE-") && !line.contains("CANARY") && !is_of_mesh(line);
    let kube = rules.lines().filter(catches).count();
    if tunnel > 0 {
        return Finding::warning(code, name, format!("{tunnel} rules of the chain TUNNEL-PORT"))
            .because("they send connections to port 10350 and 10351 to a cloud that may be gone")
            .fix("iptables -t nat -D OUTPUT -p tcp -j TUNNEL-PORT; iptables -t nat -F TUNNEL-PORT; iptables -t nat -X TUNNEL-PORT");
    }
    if kube > 0 {
        return Finding::warning(code, name, format!("{kube} chains of kube-proxy"))
            .because("services of a cluster that this machine has left still catch connections")
            .fix("iptables-save | grep -v KUBE- | iptables-restore");
    }
    if let Some(first) = left.first() {
        return Finding::warning(code, name, format!("interfaces {}", left.join(", ")))
            .because("an old pod network holds addresses and routes that the new one may want")
            .fix(format!("ip link delete {first}"));
    }
    Finding::fine(code, name, "none")
}

fn is_of_mesh(line: &str) -> bool {
    MESH_CHAINS.iter().any(|chain| line.starts_with(chain))
}

/// What EdgeMesh's agent has left behind; nothing to say while it runs.
fn judge_mesh(interfaces: &[String], rules: &str, agent: &[Process]) -> Option<Finding> {
    let device = interfaces.iter().any(|name| name == MESH_DEVICE);
    let chains: Vec<&str> =
        rules.lines().filter(|line| is_of_mesh(line)).filter_map(|line| line.strip_prefix("-N ")).collect();
    if !agent.is_empty() || (!device && chains.is_empty()) {
        return None;
    }
    let device = device.then(|| format!("interface {MESH_DEVICE}"));
    let told = (!chains.is_empty()).then(|| format!("chains {}", chains.join(", ")));
    let seen: Vec<String> = device.clone().into_iter().chain(told).collect();
    let fix = match device {
        Some(_) if chains.is_empty() => format!("ip link delete {MESH_DEVICE}"),
        _ => format!(
            "iptables-save | grep -v -e KUBE-PORTALS- -e KUBE-NODEPORT- | iptables-restore; ip link delete {MESH_DEVICE}"
        ),
    };
    Some(
        Finding::warning("KE-MESH-006", "remains of EdgeMesh", seen.join("; "))
            .because("its agent does not run: connections to Services still go to ports where nobody listens")
            .fix(fix),
    )
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
    fn rules_and_interfaces_are_told_with_their_command() {
        let rules = "-P PREROUTING ACCEPT\n-N TUNNEL-PORT\n-A OUTPUT -p tcp -j TUNNEL-PORT\n";
        assert_eq!(judge_network(&[], rules, "").seen, "2 rules of the chain TUNNEL-PORT");
        assert_eq!(
            judge_network(&[], "-N KUBE-SERVICES\n-N KUBE-KUBELET-CANARY\n-N CNI-HOSTPORT-DNAT\n", "").seen,
            "1 chains of kube-proxy"
        );
        let interfaces = ["lo".to_owned(), "cni0".to_owned()];
        assert_eq!(judge_network(&interfaces, "", "").fix, "ip link delete cni0");
        // Pods of an edgecore that gives its place hang on it.
        let network = r#"{"plugins": [{"type": "bridge", "bridge": "cni0"}]}"#;
        assert_eq!(judge_network(&["cni0".to_owned()], "", network).state, State::Fine);
        let left = judge_network(&["cni0".to_owned(), "tunl0".to_owned()], "", network);
        assert_eq!(left.fix, "ip link delete tunl0");
        assert_eq!(judge_network(&["lo".to_owned()], "-P OUTPUT ACCEPT", "").state, State::Fine);
    }

    #[test]
    fn rules_of_either_kind_come_with_the_program_that_shows_them() {
        let tunnel = "-N TUNNEL-PORT\n-A OUTPUT -p tcp -j TUNNEL-PORT\n".to_owned();
        let clean = "-P OUTPUT ACCEPT\n".to_owned();
        let judged = |rules: &[(&'static str, String)]| judge_rules(&[], rules, &[], "");
        let old = judged(&[("iptables", clean.clone()), ("iptables-legacy", tunnel.clone())]);
        assert_eq!(old.len(), 1, "{old:?}");
        assert!(old[0].fix.starts_with("iptables-legacy -t nat -D OUTPUT"), "{old:?}");
        let kube = judged(&[("iptables", tunnel), ("iptables-nft", "-N KUBE-SERVICES\n".to_owned())]);
        assert_eq!(kube.len(), 2);
        assert_eq!(kube[1].fix, "iptables-nft-save | grep -v KUBE- | iptables-nft-restore");
        assert_eq!(judged(&[]), judged(&[("iptables", clean)]));
    }

    #[test]
    fn what_edgemesh_has_left_is_not_taken_for_kube_proxys() {
        let rules =
            "-N KUBE-PORTALS-CONTAINER\n-N KUBE-NODEPORT-HOST\n-A PREROUTING -j KUBE-PORTALS-CONTAINER\n";
        let interfaces = ["lo".to_owned(), MESH_DEVICE.to_owned()];
        assert_eq!(judge_network(&interfaces, rules, "").state, State::Fine);
        let left = judge_mesh(&interfaces, rules, &[]).unwrap();
        assert_eq!((&*left.code, left.state), ("KE-MESH-006", State::Warning));
        assert_eq!(left.seen, "interface edgemesh0; chains KUBE-PORTALS-CONTAINER, KUBE-NODEPORT-HOST");
        assert_eq!(judge_mesh(&interfaces, "", &[]).unwrap().fix, "ip link delete edgemesh0");
        assert_eq!(judge_mesh(&interfaces, rules, &[process(MESH_AGENT, None)]), None);
        assert_eq!(judge_mesh(&["lo".to_owned()], "-N KUBE-SERVICES\n", &[]), None);
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
