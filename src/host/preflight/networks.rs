//! Remains of pod networks and of EdgeMesh: interfaces, and rules of either kind of iptables that still catch connections.
//! Each comes with the command of the program that shows it.

use super::machine::Machine;
use super::programs::output_within;
use crate::host::check::{Check, Cost, Finding, Group, State};
use crate::host::neighbours::{Process, on_this_network};
use futures_util::future::join_all;
use std::path::Path;
use std::time::Duration;

const POD_NETWORKS: &str = "KE-KUBELET-003";
/// The process name of EdgeMesh's agent.
const MESH_AGENT: &str = "edgemesh-agent";
/// What EdgeMesh's agent makes and takes away again when it ends well.
const MESH_DEVICE: &str = "edgemesh0";
const MESH_CHAINS: [&str; 2] = ["-N KUBE-PORTALS-", "-N KUBE-NODEPORT-"];
/// Interfaces that pod networks leave behind.
const INTERFACES: [&str; 8] =
    ["cni0", "flannel.1", "kube-ipvs0", "nodelocaldns", "weave", "cilium_host", "vxlan.calico", "tunl0"];

pub(super) fn check(network: Machine) -> Check {
    Check::asking(POD_NETWORKS, Group::Host, "remains of pod networks", async move {
        let interfaces = network.names("/sys/class/net");
        let agent = on_this_network(&[MESH_AGENT]);
        let rules = nat_rules(&network).await;
        judge_rules(&interfaces, &rules, &agent, &pod_networks(&network))
    })
    .cost(Cost::Medium)
    .also(&["KE-MESH-006"])
    .root()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn process(name: &str, unit: Option<&str>) -> Process {
        Process { pid: 7, name: name.to_owned(), unit: unit.map(str::to_owned) }
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
}
