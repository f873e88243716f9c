//! Chooses a node for a pod, or says in upstream's words why there is none. Pure: nodes and pods in, decision out.

use super::affinity::{Placed, nearness_problem, node_matches, preference, untolerated};
use super::resources::{Amounts, requests};
use crate::daemon::apiserver::controllers::read::{finished, list, name, number, text};
use crate::model::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All nodes with what is taken on them; placements are added as they are decided.
pub(super) struct Cluster {
    nodes: Vec<Place>,
}

struct Place {
    node: Arc<Value>,
    allocatable: Amounts,
    used: Amounts,
    pods: Vec<Arc<Value>>,
}

impl Cluster {
    /// Sorts the pods that have a node and are not over to their nodes.
    pub(super) fn new(nodes: Vec<Arc<Value>>, pods: &[Arc<Value>]) -> Cluster {
        let mut cluster = Cluster { nodes: nodes.into_iter().map(Place::new).collect() };
        for pod in pods.iter().filter(|pod| !finished(pod)) {
            cluster.place(pod.clone(), text(&pod["spec"]["nodeName"]));
        }
        cluster
    }

    /// Counts a pod on a node.
    pub(super) fn place(&mut self, pod: Arc<Value>, node: &str) {
        if let Some(place) = self.nodes.iter_mut().find(|place| name(&place.node) == node) {
            place.used.add(&requests(&pod));
            place.pods.push(pod);
        }
    }

    /// The best node for a pod, or why none will do.
    pub(super) fn choose(&self, pod: &Value) -> Result<String, String> {
        if self.nodes.is_empty() {
            return Err("no nodes available to schedule pods".to_owned());
        }
        let asked = requests(pod);
        let placed: Vec<Placed<'_>> = self
            .nodes
            .iter()
            .flat_map(|place| place.pods.iter().map(|pod| Placed { pod, node: &place.node }))
            .collect();
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        let mut best: Option<(i64, &str)> = None;
        for place in &self.nodes {
            let problems = place.problems(pod, &asked, &placed);
            if problems.is_empty() {
                let score = place.score(pod, &asked);
                if best.is_none_or(|(highest, _)| score > highest) {
                    best = Some((score, name(&place.node)));
                }
            }
            for problem in problems {
                *reasons.entry(problem).or_default() += 1;
            }
        }
        best.map(|(_, node)| node.to_owned()).ok_or_else(|| self.refusal(&reasons))
    }

    fn refusal(&self, reasons: &BTreeMap<String, usize>) -> String {
        let reasons: Vec<String> =
            reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        format!("0/{} nodes are available: {}.", self.nodes.len(), reasons.join(", "))
    }
}

impl Place {
    fn new(node: Arc<Value>) -> Place {
        let allocatable = Amounts::read(&node["status"]["allocatable"]);
        Place { node, allocatable, used: Amounts::default(), pods: Vec::new() }
    }

    /// Everything that keeps the pod off this node; later checks only when the earlier ones pass.
    fn problems(&self, pod: &Value, asked: &Amounts, placed: &[Placed<'_>]) -> Vec<String> {
        let spec = &pod["spec"];
        let tolerations = list(&spec["tolerations"]);
        if self.node["spec"]["unschedulable"] == true && !tolerates_unschedulable(tolerations) {
            return vec!["node(s) were unschedulable".to_owned()];
        }
        if let Some(taint) = untolerated(&self.node, tolerations, &["NoSchedule", "NoExecute"]) {
            let (key, value) = (text(&taint["key"]), text(&taint["value"]));
            return vec![format!("node(s) had untolerated taint {{{key}: {value}}}")];
        }
        if !node_matches(spec, &self.node) {
            return vec!["node(s) didn't match Pod's node affinity/selector".to_owned()];
        }
        if self.port_taken(pod) {
            return vec!["node(s) didn't have free ports for the requested pod ports".to_owned()];
        }
        let short = self.shortages(asked);
        if !short.is_empty() {
            return short;
        }
        nearness_problem(pod, &self.node, placed).map(str::to_owned).into_iter().collect()
    }

    fn shortages(&self, asked: &Amounts) -> Vec<String> {
        let mut short = Vec::new();
        let room = self.allocatable.of("pods");
        if !room.is_zero() && Quantity::units(i64::try_from(self.pods.len()).unwrap_or(i64::MAX)) >= room {
            short.push("Too many pods".to_owned());
        }
        for (resource, amount) in asked.iter() {
            if !amount.is_zero() && self.used.of(resource) + amount > self.allocatable.of(resource) {
                short.push(format!("Insufficient {resource}"));
            }
        }
        short
    }

    fn port_taken(&self, pod: &Value) -> bool {
        let wanted = host_ports(pod);
        !wanted.is_empty()
            && self.pods.iter().any(|other| {
                host_ports(other).iter().any(|taken| wanted.iter().any(|port| port.collides(taken)))
            })
    }

    /// Prefers what the pod prefers, then the node with the most room left.
    fn score(&self, pod: &Value, asked: &Amounts) -> i64 {
        let free = ["cpu", "memory"].iter().map(|resource| {
            let total = self.allocatable.of(resource).millis();
            let left = total - (self.used.of(resource) + asked.of(resource)).millis();
            if total <= 0 { 0 } else { i64::try_from(left * 100 / total).unwrap_or(0) }
        });
        let free: i64 = free.sum::<i64>() / 2;
        let disliked =
            untolerated(&self.node, list(&pod["spec"]["tolerations"]), &["PreferNoSchedule"]).is_some();
        let crowd = i64::try_from(self.pods.len()).unwrap_or(i64::MAX).min(100_000);
        let owner = &pod["metadata"]["ownerReferences"][0]["uid"];
        let siblings = self
            .pods
            .iter()
            .filter(|other| !owner.is_null() && &other["metadata"]["ownerReferences"][0]["uid"] == owner);
        let siblings = i64::try_from(siblings.count()).unwrap_or(0);
        (preference(&pod["spec"], &self.node) + free - if disliked { 300 } else { 0 } - 20 * siblings) * 1000
            - crowd
    }
}

fn tolerates_unschedulable(tolerations: &[Value]) -> bool {
    let taint = serde_json::json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    tolerations.iter().any(|toleration| super::affinity::tolerates(toleration, &taint))
}

struct HostPort<'a> {
    address: &'a str,
    protocol: &'a str,
    port: i64,
}

impl HostPort<'_> {
    fn collides(&self, other: &HostPort<'_>) -> bool {
        let any = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || any(self.address) || any(other.address))
    }
}

fn host_ports(pod: &Value) -> Vec<HostPort<'_>> {
    list(&pod["spec"]["containers"])
        .iter()
        .flat_map(|container| list(&container["ports"]))
        .filter(|port| number(&port["hostPort"]) > 0)
        .map(|port| HostPort {
            address: text(&port["hostIP"]),
            protocol: port["protocol"].as_str().unwrap_or("TCP"),
            port: number(&port["hostPort"]),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, cpu: &str) -> Arc<Value> {
        Arc::new(json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "2"}}}))
    }

    fn pod(cpu: &str, node: &str) -> Arc<Value> {
        Arc::new(json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": [
            {"resources": {"requests": {"cpu": cpu}}}]}}))
    }

    #[test]
    fn the_node_with_most_room_wins() {
        let cluster = Cluster::new(vec![node("a", "1"), node("b", "1")], &[pod("500m", "a")]);
        assert_eq!(cluster.choose(&pod("100m", "")), Ok("b".to_owned()));
    }

    #[test]
    fn refusals_count_their_reasons() {
        let cluster = Cluster::new(vec![node("a", "1"), node("b", "100m")], &[]);
        assert_eq!(
            cluster.choose(&pod("2", "")),
            Err("0/2 nodes are available: 2 Insufficient cpu.".to_owned())
        );
        let crowded = Cluster::new(vec![node("a", "1")], &[pod("1m", "a"), pod("1m", "a")]);
        assert_eq!(
            crowded.choose(&pod("1m", "")),
            Err("0/1 nodes are available: 1 Too many pods.".to_owned())
        );
        let none = Cluster::new(vec![], &[]);
        assert_eq!(none.choose(&pod("1m", "")), Err("no nodes available to schedule pods".to_owned()));
    }

    #[test]
    fn placements_count_at_once() {
        let mut cluster = Cluster::new(vec![node("a", "1")], &[]);
        cluster.place(pod("800m", ""), "a");
        assert_eq!(
            cluster.choose(&pod("300m", "")),
            Err("0/1 nodes are available: 1 Insufficient cpu.".to_owned())
        );
    }

    #[test]
    fn taints_and_cordons_keep_pods_away() {
        let mut tainted = (*node("a", "1")).clone();
        tainted["spec"] = json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
        let cluster = Cluster::new(vec![Arc::new(tainted)], &[]);
        assert_eq!(
            cluster.choose(&pod("1m", "")),
            Err("0/1 nodes are available: 1 node(s) had untolerated taint {k: v}.".to_owned())
        );
        let mut cordoned = (*node("a", "1")).clone();
        cordoned["spec"] = json!({"unschedulable": true});
        let cluster = Cluster::new(vec![Arc::new(cordoned)], &[]);
        assert!(cluster.choose(&pod("1m", "")).unwrap_err().contains("were unschedulable"));
    }

    #[test]
    fn host_ports_collide_by_protocol_and_address() {
        let with_port = |node: &str, protocol: &str| {
            Arc::new(json!({"spec": {"nodeName": node, "containers": [
                {"ports": [{"hostPort": 80, "protocol": protocol}]}]}}))
        };
        let cluster = Cluster::new(vec![node("a", "1")], &[with_port("a", "TCP")]);
        assert!(cluster.choose(&with_port("", "TCP")).unwrap_err().contains("free ports"));
        assert_eq!(cluster.choose(&with_port("", "UDP")), Ok("a".to_owned()));
    }
}
