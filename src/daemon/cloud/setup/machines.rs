//! The cluster's machines as a place for the cloud: which of them the scheduler would give it, under which addresses it can
//! be reached there, and whether there is room for every replica. Pure but for the one list; `desk` asks.

use super::super::kubernetes::{Kube, Resource, meta};
use super::forward;
use super::manifest::{EDGE_ROLE, is_pinned, tolerations};
use super::review::{Verdict, finding};
use crate::host::check::Finding;
use crate::model::Status;
use serde_json::Value;
use std::net::IpAddr;

/// A machine of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    pub host: String,
    pub addresses: Vec<String>,
    pub internal: Vec<String>,
    pub control_plane: bool,
    pub edge: bool,
    /// Why the scheduler keeps the cloud off it.
    pub held: Option<Held>,
}

/// What keeps the cloud off a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub why: String,
    pub fix: String,
}

/// All machines of the cluster.
pub(super) async fn machines(kube: &Kube) -> Result<Vec<Machine>, Status> {
    let mut found = Vec::new();
    kube.list(Resource::NODE, None, "", |node| found.push(machine(&node))).await?;
    Ok(found)
}

fn machine(node: &Value) -> Machine {
    let labels = node.pointer("/metadata/labels").cloned().unwrap_or_default();
    let all = node.pointer("/status/addresses").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |it: &Value, field: &str| it[field].as_str().unwrap_or_default().to_owned();
    let internal = all.iter().filter(|it| it["type"] == "InternalIP");
    let host = labels["kubernetes.io/hostname"].as_str().unwrap_or_else(|| meta(node, "name"));
    Machine {
        host: host.to_owned(),
        addresses: all.iter().map(|it| text(it, "address")).collect(),
        internal: internal.map(|it| text(it, "address")).collect(),
        control_plane: forward::ROLES.iter().any(|role| labels.get(role).is_some()),
        edge: labels.get(EDGE_ROLE).is_some(),
        held: held(node),
    }
}

/// What keeps the scheduler from giving a node to the cloud, with its tolerations.
fn held(node: &Value) -> Option<Held> {
    let name = meta(node, "name");
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        return Some(Held { why: "it is cordoned".to_owned(), fix: format!("`kubectl uncordon {name}`") });
    }
    let taints = node.pointer("/spec/taints").and_then(Value::as_array);
    let taint = taints.into_iter().flatten().find(|taint| keeps_off(taint))?;
    let text = |field: &str| taint[field].as_str().unwrap_or_default();
    let (key, value, effect) = (text("key"), text("value"), text("effect"));
    let equals = if value.is_empty() { "" } else { "=" };
    // These come and go with the node's state.
    let fix = if key.starts_with("node.kubernetes.io/") {
        format!("see why with `kubectl describe node {name}`")
    } else {
        format!("`kubectl taint node {name} {key}:{effect}-`")
    };
    Some(Held { why: format!("it has the taint {key}{equals}{value}:{effect}"), fix })
}

fn keeps_off(taint: &Value) -> bool {
    let counts = taint["effect"] == "NoSchedule" || taint["effect"] == "NoExecute";
    // Each of them takes any value.
    let tolerated = |it: &Value| it["key"] == taint["key"] && it["effect"] == taint["effect"];
    counts && !tolerations().iter().any(tolerated)
}

/// The cluster's own machines; where it has edge nodes only, those.
pub(super) fn able(mut machines: Vec<Machine>) -> Vec<Machine> {
    if machines.iter().any(|it| !it.edge) {
        machines.retain(|it| !it.edge);
    }
    machines
}

/// The addresses of a cloud in the cluster when nobody names any: those of its only machine, or of the machines of its
/// control plane for several replicas. Otherwise a person has to choose.
fn choose_addresses(machines: &[Machine], several: bool) -> Result<Vec<String>, Vec<String>> {
    let all = |of: &dyn Fn(&&Machine) -> bool| -> Vec<String> {
        machines.iter().filter(of).filter_map(|it| it.internal.first().cloned()).collect()
    };
    let (every, planes) = (all(&|_| true), all(&|it| it.control_plane));
    match (several, every.len(), planes.len()) {
        (false, 1, _) => Ok(every),
        (false, _, 1) | (true, _, 3) => Ok(planes),
        _ => Err(every),
    }
}

/// What is asked about addresses.
pub(super) struct Asked<'a> {
    /// Those that a person names now.
    pub given: &'a [String],
    /// Those under which the cloud that is there is known.
    pub known: &'a [String],
    pub replicas: u32,
    /// It had fewer replicas before.
    pub grows: bool,
}

/// The addresses for nodes, with what is to be said of them. Nodes know those of the cloud that is there: they stay, unless
/// others are named, or replicas come on machines beside them.
pub(super) fn addresses(machines: &[Machine], asked: &Asked<'_>) -> (Finding, Vec<String>) {
    let finding = |seen: String| finding("KE-INIT-006", "addresses for nodes", seen);
    let chosen = choose_addresses(machines, asked.replicas > 1);
    let (told, addresses) = match (asked.given, asked.known, chosen) {
        (given @ [_, ..], ..) => (finding(given.join(", ")), given.to_vec()),
        ([], known @ [_, ..], Ok(chosen))
            if asked.grows && known.iter().all(|address| chosen.contains(address)) =>
        {
            (finding(chosen.join(", ")), chosen)
        }
        ([], known @ [_, ..], _) => (finding(known.join(", ")), known.to_vec()),
        ([], [], Ok(chosen)) => (reachable(finding(chosen.join(", ")), &chosen), chosen),
        ([], [], Err(possible)) => {
            let told = finding("none given".to_owned()).fails(
                format!("nodes need an address of the cloud; the cluster's machines have {possible:?}"),
                "name the cloud's address, or that of a load balancer before it: --advertise-address IP",
            );
            (told, Vec::new())
        }
    };
    if asked.replicas > 1 || !are_apart(machines, &addresses) {
        return (told, addresses);
    }
    let told = told.fails(
        "they are addresses of several machines, and one replica serves on one of them",
        "name one of them, or a load balancer's: --advertise-address IP; or have three replicas with --ha",
    );
    (told, addresses)
}

/// Addresses that were found by themselves must lead here from elsewhere.
fn reachable(finding: Finding, addresses: &[String]) -> Finding {
    let here = |text: &String| text.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !addresses.iter().any(here) {
        return finding;
    }
    finding.warns(
        "it is the loopback address of each machine: nodes on other machines cannot reach the cloud there",
        "name the address under which they do: --advertise-address IP",
    )
}

/// Those of the addresses that some machine has.
fn owned<'a>(machines: &[Machine], addresses: &'a [String]) -> Vec<&'a String> {
    addresses.iter().filter(|address| machines.iter().any(|it| it.addresses.contains(address))).collect()
}

/// Whether no single machine has all of the addresses that machines have.
fn are_apart(machines: &[Machine], addresses: &[String]) -> bool {
    !owned(machines, addresses).is_empty() && hosts(machines, addresses, 1).is_empty()
}

/// The machines that answer at the addresses: for one replica those with all that any machine has.
pub(super) fn hosts(machines: &[Machine], addresses: &[String], replicas: u32) -> Vec<String> {
    let owned = owned(machines, addresses);
    let fits = |it: &&Machine| {
        let has = |address: &&String| it.addresses.contains(address);
        owned.iter().any(has) && (replicas > 1 || owned.iter().all(has))
    };
    machines.iter().filter(fits).map(|it| it.host.clone()).collect()
}

/// How many replicas find a machine, and what is to be said of it: each needs one of its own.
pub(super) fn room(machines: &[Machine], hosts: &[String], replicas: u32) -> (Finding, usize) {
    let wanted = |it: &&Machine| !is_pinned(hosts, replicas) || hosts.contains(&it.host);
    let (held, free): (Vec<&Machine>, Vec<&Machine>) =
        machines.iter().filter(wanted).partition(|it| it.held.is_some());
    let name = if replicas > 1 { "machines for the replicas" } else { "a machine for the cloud" };
    let told: Vec<String> = held
        .iter()
        .take(TOLD)
        .filter_map(|it| Some(format!("not {}: {}", it.host, it.held.as_ref()?.why)))
        .chain((held.len() > TOLD).then(|| format!("{} more", held.len() - TOLD)))
        .collect();
    let more = if told.is_empty() { String::new() } else { format!(" ({})", told.join("; ")) };
    let found = finding("KE-INIT-013", name, format!("{}{more}", free.len()));
    let (count, needed) = (free.len(), usize::try_from(replicas).unwrap_or(usize::MAX));
    if count >= needed {
        return (found, count);
    }
    let mend = held.iter().find_map(|it| it.held.as_ref()).map(|held| format!("{}, or ", held.fix));
    let mend = mend.unwrap_or_default();
    let found = if replicas > 1 {
        let lack = needed - count;
        found.warns(
            format!(
                "{replicas} replicas keep apart from each other; {lack} of them would wait for a machine, and a roll-out takes {} pods away at once to go on",
                (lack + 1).min(needed)
            ),
            format!("{mend}add machines to the cluster, or init with --ha=false"),
        )
    } else {
        found.warns(
            "the scheduler would find none for the pod, which waits until there is one",
            format!("{mend}add a machine to the cluster, or use --mode host"),
        )
    };
    (found, count)
}

/// Machines that are named one by one.
const TOLD: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;
    use serde_json::json;

    fn of(ip: &str, control_plane: bool) -> Machine {
        Machine {
            host: ip.to_owned(),
            addresses: vec![ip.to_owned()],
            internal: vec![ip.to_owned()],
            control_plane,
            ..Machine::default()
        }
    }

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn machines_are_counted_as_the_scheduler_counts_them() {
        let node = |spec: Value| machine(&json!({"metadata": {"name": "n"}, "spec": spec})).held;
        let taint = |key: &str, value: &str, effect: &str| {
            node(json!({"taints": [{"key": key, "value": value, "effect": effect}]}))
        };
        assert_eq!(node(json!({})), None);
        assert_eq!(taint("dedicated", "db", "PreferNoSchedule"), None);
        for role in forward::ROLES {
            assert_eq!(taint(role, "", "NoSchedule"), None);
            assert!(taint(role, "", "NoExecute").is_some());
        }
        let cordoned = node(json!({"unschedulable": true})).unwrap();
        assert_eq!(cordoned.fix, "`kubectl uncordon n`");
        let own = taint("dedicated", "db", "NoSchedule").unwrap();
        assert_eq!(own.why, "it has the taint dedicated=db:NoSchedule");
        assert_eq!(own.fix, "`kubectl taint node n dedicated:NoSchedule-`");
        let dead = taint("node.kubernetes.io/unreachable", "", "NoExecute").unwrap();
        assert_eq!(dead.why, "it has the taint node.kubernetes.io/unreachable:NoExecute");
        assert!(dead.fix.contains("describe node n"), "{dead:?}");
    }

    #[test]
    fn replicas_that_find_no_machine_of_their_own_are_told() {
        let all: Vec<Machine> = (1..=3).map(|number| of(&format!("10.0.0.{number}"), false)).collect();
        let (enough, free) = room(&all, &[], 3);
        assert_eq!((&*enough.code, enough.state, &*enough.seen, free), ("KE-INIT-013", State::Fine, "3", 3));
        let (few, free) = room(&all[1..], &[], 3);
        assert_eq!((few.state, free), (State::Warning, 2));
        assert!(few.why.contains("1 of them would wait") && few.why.contains("2 pods"), "{few:?}");
        assert!(few.fix.starts_with("add machines") && few.fix.contains("--ha=false"), "{few:?}");

        let mut held = all.clone();
        held[2].held = Some(Held { why: "it is cordoned".into(), fix: "`kubectl uncordon x`".into() });
        let (told, free) = room(&held, &[], 3);
        assert_eq!((free, &*told.seen), (2, "2 (not 10.0.0.3: it is cordoned)"));
        assert!(told.fix.starts_with("`kubectl uncordon x`, or add"), "{told:?}");
        // Only those at which nodes look for it count, when there are enough of them.
        assert_eq!(room(&held, &texts(&["10.0.0.3"]), 1).1, 0);
        assert_eq!(room(&held, &texts(&["10.0.0.1"]), 1).1, 1);
        assert_eq!(room(&held, &texts(&["10.0.0.1"]), 3).1, 2);

        let (one, free) = room(&[], &[], 1);
        assert_eq!((one.state, &*one.name, free), (State::Warning, "a machine for the cloud", 0));
        assert_eq!(room(&[], &[], 3).0.seen, "0");
        let (many, _) = room(&vec![held[2].clone(); 9], &[], 3);
        assert!(many.seen.ends_with("; 6 more)") && many.why.contains("3 pods"), "{many:?}");
    }

    #[test]
    fn addresses_are_chosen_only_where_there_is_no_choice() {
        let (one, two) = (of("10.0.0.1", true), of("10.0.0.2", false));
        assert_eq!(choose_addresses(std::slice::from_ref(&two), false), Ok(texts(&["10.0.0.2"])));
        assert_eq!(choose_addresses(&[one.clone(), two.clone()], false), Ok(texts(&["10.0.0.1"])));
        assert!(choose_addresses(&[two.clone(), two], false).is_err());
        assert!(choose_addresses(std::slice::from_ref(&one), true).is_err());
        assert_eq!(choose_addresses(&[one.clone(), one.clone(), one], true).map(|it| it.len()), Ok(3));
        assert!(choose_addresses(&[], false).is_err());
    }

    #[test]
    fn known_addresses_stay_unless_others_are_named_or_replicas_come() {
        let planes = [of("10.0.0.1", true), of("10.0.0.2", true), of("10.0.0.3", true)];
        let settle = |machines: &[Machine], given: &[&str], known: &[&str], replicas: u32, grows: bool| {
            let (given, known) = (texts(given), texts(known));
            let (told, addresses) =
                addresses(machines, &Asked { given: &given, known: &known, replicas, grows });
            (told.state, addresses.join(" "))
        };
        let fine = |text: &str| (State::Fine, text.to_owned());
        // A public address that no machine has of itself, though there is a machine to choose.
        assert_eq!(settle(&planes[..1], &[], &["203.0.113.5"], 1, false), fine("203.0.113.5"));
        assert_eq!(settle(&planes[..1], &["192.0.2.1"], &["203.0.113.5"], 1, false), fine("192.0.2.1"));
        assert_eq!(settle(&planes[..1], &[], &[], 1, false), fine("10.0.0.1"));
        assert_eq!(settle(&planes, &[], &["10.0.0.1"], 3, true), fine("10.0.0.1 10.0.0.2 10.0.0.3"));
        assert_eq!(settle(&planes, &[], &["10.0.0.1"], 3, false), fine("10.0.0.1"));
        assert_eq!(settle(&planes, &[], &["203.0.113.5"], 3, true), fine("203.0.113.5"));
        assert_eq!(settle(&planes, &[], &[], 1, false), (State::Failed, String::new()));
        // One replica cannot serve on three machines, whoever named them.
        let three = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
        assert_eq!(settle(&planes, &[], &three, 1, false).0, State::Failed);
        assert_eq!(settle(&planes, &three[..2], &[], 1, false).0, State::Failed);
        assert_eq!(settle(&planes, &["10.0.0.2", "203.0.113.5"], &[], 1, false).0, State::Fine);
        // Nodes of one machine have the same address.
        let twins = [of("127.0.0.1", false), of("127.0.0.1", false)];
        assert_eq!(settle(&twins, &["127.0.0.1"], &[], 1, false).0, State::Fine);
    }

    #[test]
    fn the_cloud_goes_where_nodes_look_for_it() {
        let mut both = of("10.0.0.1", false);
        both.addresses.push("fd00::1".to_owned());
        let machines = [both, of("10.0.0.2", false)];
        let at = |addresses: &[&str], replicas| hosts(&machines, &texts(addresses), replicas);
        assert_eq!(at(&["10.0.0.1", "fd00::1", "203.0.113.5"], 1), ["10.0.0.1"]);
        assert!(at(&["203.0.113.5"], 1).is_empty());
        assert!(at(&["10.0.0.1", "10.0.0.2"], 1).is_empty());
        assert_eq!(at(&["10.0.0.1", "10.0.0.2"], 3), ["10.0.0.1", "10.0.0.2"]);
    }

    #[test]
    fn loopback_addresses_that_nobody_named_are_told() {
        let told = |address: &str| {
            reachable(finding("KE-INIT-006", "addresses for nodes", address), &[address.to_owned()])
        };
        assert_eq!(told("192.0.2.10").state, State::Fine);
        for address in ["127.0.0.1", "127.3.2.1", "::1"] {
            let told = told(address);
            assert_eq!(told.state, State::Warning);
            assert!(told.fix.contains("--advertise-address"), "{told:?}");
        }
    }

    #[test]
    fn edge_nodes_run_the_cloud_only_where_there_is_nothing_else() {
        let machine = |host: &str, edge| Machine { edge, ..of(host, false) };
        let hosts = |machines| able(machines).into_iter().map(|it| it.host).collect::<Vec<_>>();
        assert_eq!(hosts(vec![machine("a", true), machine("b", false)]), ["b"]);
        assert_eq!(hosts(vec![machine("a", true), machine("b", true)]), ["a", "b"]);
    }
}
