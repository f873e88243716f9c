//! The mesh between nodes. kedge has none yet: what a node or its pods expect of one is named, with what works instead; an
//! EdgeMesh agent beside kedge is looked at by its parts, and the name server that pods are given is really asked.

use super::here::{PodHere, listed, pods};
use super::place::Place;
use crate::host::check::{Check, Cost, Finding, Group};
use crate::host::dns::{self, Answer};
use crate::host::neighbours::{Process, on_this_network, told};
use crate::host::ports::holder;
use crate::model::Kind;
use crate::store::Reader;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "mesh";
const AGENT: &str = "edgemesh-agent";
const DEVICE: &str = "/sys/class/net/edgemesh0";
/// Where nodes of EdgeMesh reach each other.
const TUNNEL: u16 = 20006;
/// Where the agent of an edge node looks for Services.
const EDGE_API: u16 = 10550;
const DNS_LIMIT: Duration = Duration::from_millis(1200);
/// More name servers than a resolver reads.
const SERVERS: usize = 3;

pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    let here = place.clone();
    vec![
        Check::blocking("KE-MESH-001", Group::Mesh, NAME, move || look(&here))
            .also(&["KE-MESH-002", "KE-MESH-003", "KE-MESH-004", "KE-MESH-005", "KE-MESH-007"])
            .cost(Cost::Medium),
    ]
}

/// What there is of a mesh on this node.
#[derive(Default)]
struct Facts {
    agents: Vec<Process>,
    agent_pods: Vec<String>,
    /// Whether the agent is told of an API server of its own; `None`: its configuration is not here.
    own_api: Option<bool>,
    device: bool,
    tunnel: bool,
    edge_api: bool,
    proxies: Vec<Process>,
    /// `modules.edgeMesh` of old configurations.
    configured: bool,
    /// Name servers that pods are given, with what they say.
    servers: Vec<(String, Result<Answer, String>)>,
    /// Pods that name Services, with the text that does.
    namers: Vec<(String, String)>,
}

fn look(place: &Place) -> Vec<Finding> {
    let database = place.edge.as_ref().map(|config| config.database.as_path());
    let pods = match pods(database) {
        Ok(pods) => pods,
        // The store has a check of its own.
        Err(_) => return vec![Finding::skipped("KE-MESH-001", NAME, "because of KE-DB-001")],
    };
    let (servers, domain) = place.edge.as_ref().map_or((&[][..], "cluster.local"), |config| {
        (config.edged.cluster_dns.as_slice(), config.edged.cluster_domain.as_str())
    });
    let facts = Facts {
        agents: on_this_network(&[AGENT]),
        agent_pods: pods.iter().filter(|pod| is_agent(pod)).map(PodHere::title).collect(),
        own_api: database.and_then(own_api),
        device: Path::new(DEVICE).exists(),
        tunnel: holder(TUNNEL).is_some(),
        edge_api: holder(EDGE_API).is_some(),
        proxies: on_this_network(&["kube-proxy"]),
        configured: names_mesh(place),
        servers: asked(servers, domain),
        namers: pods.iter().filter_map(namer).collect(),
    };
    judge(&facts)
}

fn is_agent(pod: &PodHere) -> bool {
    pod.images.iter().any(|image| image.contains(AGENT))
}

/// The merged document has known keys alone.
fn names_mesh(place: &Place) -> bool {
    let file = place.file.as_deref().and_then(|path| crate::config::read_yaml(path).ok());
    file.is_some_and(|file| file.pointer("/modules/edgeMesh").is_some())
}

/// Whether the agent's ConfigMap names an API server.
fn own_api(database: &Path) -> Option<bool> {
    let maps = Reader::open(database).ok()?.objects(Kind::ConfigMap).ok()?;
    let texts =
        maps.iter().filter_map(|(_, map)| map.get("data")?.as_object()).flat_map(|data| data.values());
    let configs = texts.filter_map(Value::as_str).filter(|text| text.contains("kubeAPIConfig"));
    let mut configs = configs.filter_map(|text| serde_yaml::from_str::<Value>(text).ok());
    let config = configs.next()?;
    let set = |key: &str| {
        let value = config.pointer(&format!("/kubeAPIConfig/{key}")).and_then(Value::as_str);
        value.is_some_and(|value| !value.is_empty())
    };
    Some(set("master") || set("kubeConfig"))
}

/// A text of the pod that names a Service: `db.prod.svc` or `db.prod.svc.cluster.local`.
fn namer(pod: &PodHere) -> Option<(String, String)> {
    let text = pod.says(".svc")?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let name = text.split(|c| !is_part(c)).find(|word| word.ends_with(".svc") || word.contains(".svc."))?;
    // The API server has a check of its own.
    (!name.starts_with("kubernetes.default") && !is_agent(pod)).then(|| (pod.title(), name.to_owned()))
}

fn asked(servers: &[String], domain: &str) -> Vec<(String, Result<Answer, String>)> {
    let name = format!("kubernetes.default.svc.{domain}");
    let ask = |server: &String| match server.parse::<IpAddr>() {
        Ok(ip) => dns::ask(SocketAddr::from((ip, 53)), &name, DNS_LIMIT),
        Err(_) => Err("is no address".to_owned()),
    };
    servers.iter().take(SERVERS).map(|server| (server.clone(), ask(server))).collect()
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    findings.extend(judge_agent(facts));
    findings.extend(facts.servers.iter().map(|(server, answer)| judge_server(server, answer)));
    let names_work =
        facts.servers.iter().any(|(_, answer)| answer.as_ref().is_ok_and(|answer| answer.code == 0));
    if let (Some((pod, name)), false) = (facts.namers.first(), names_work) {
        let pods = listed(facts.namers.iter().map(|(pod, _)| pod.as_str()));
        findings.push(
            Finding::warning("KE-MESH-007", "names of Services", format!("{pods} ask for {name} and the like"))
                .because("no mesh runs on this node: names of Services have no address here, and their addresses lead nowhere")
                .fix(format!(
                    "give {pod} an address that this node reaches: hostNetwork or hostPort with 127.0.0.1 for a pod \
                     beside it, a NodePort's host name for one elsewhere"
                )),
        );
    }
    if facts.configured {
        findings.push(
            Finding::warning("KE-MESH-002", NAME, "modules.edgeMesh stands in edgecore.yaml")
                .because("KubeEdge took this module out in 1.8, and kedge has no mesh yet")
                .fix("take modules.edgeMesh out of edgecore.yaml"),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::fine("KE-MESH-001", NAME, "none here, and nothing asks for one"));
    }
    findings
}

fn judge_agent(facts: &Facts) -> Vec<Finding> {
    if facts.agents.is_empty() && facts.agent_pods.is_empty() {
        return Vec::new();
    }
    let mut parts = match facts.agents.as_slice() {
        [] => {
            vec![format!("{} is to run EdgeMesh's agent, and it does not run", facts.agent_pods.join(", "))]
        }
        agents => vec![told(agents)],
    };
    parts.push(format!("edgemesh0 is {}", if facts.device { "there" } else { "not there" }));
    parts.push(format!("its tunnel (port {TUNNEL}) is {}", if facts.tunnel { "open" } else { "closed" }));
    let seen = parts.join(", ");
    let mut findings = Vec::new();
    if facts.own_api != Some(true) && !facts.edge_api {
        findings.push(
            Finding::warning("KE-MESH-005", "EdgeMesh", format!("{seen}; nobody serves port {EDGE_API}"))
                .because(
                    "on an edge node the agent reads Services from the edge API, which kedge does not serve yet; it \
                     knows no Service until it is told of the cluster's own API server",
                )
                .fix("kubectl -n kubeedge edit configmap edgemesh-agent-cfg: set kubeAPIConfig.master, then delete the agent's pod"),
        );
    } else if facts.agents.is_empty() || !facts.device {
        findings.push(
            Finding::warning("KE-MESH-005", "EdgeMesh", seen)
                .because("without its device and its process no name and no Service works in pods here")
                .fix("kedge pods, then kedge logs of the agent's pod"),
        );
    } else {
        findings.push(Finding::fine("KE-MESH-005", "EdgeMesh", seen));
    }
    if !facts.proxies.is_empty() {
        findings.push(
            Finding::warning("KE-MESH-004", "kube-proxy beside EdgeMesh", told(&facts.proxies))
                .because("both change the same rules; who started last catches the connections to Services")
                .fix("keep kube-proxy off edge nodes: kedge doctor --only KE-SCHED shows the patch"),
        );
    }
    findings
}

fn judge_server(server: &str, answer: &Result<Answer, String>) -> Finding {
    let name = format!("name server of pods {server}");
    let fix = "start the agent that serves it, or take it out: kedge config set modules.edged.tailoredKubeletConfig.clusterDNS={}";
    let warning =
        |seen: String, why: &str| Finding::warning("KE-MESH-003", name.clone(), seen).because(why).fix(fix);
    match answer {
        Ok(answer) => match (answer.code, answer.addresses.first()) {
            (0, Some(address)) => {
                let seen = format!("kubernetes.default is {address}, {} ms", answer.took.as_millis());
                Finding::fine("KE-MESH-003", name, seen)
            }
            (2, _) => warning(
                "answers SERVFAIL".to_owned(),
                "it runs and has no Services: its own way to the Kubernetes API is broken",
            ),
            (code, _) => warning(
                format!("answers, and knows no kubernetes.default (code {code})"),
                "it does not serve the cluster's names; pods find no Service by it",
            ),
        },
        Err(why) => warning(
            why.clone(),
            "pods with dnsPolicy ClusterFirst have it in their resolv.conf and wait for it at every name; kedge serves \
             no names itself",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;

    fn agent() -> Facts {
        let process = Process { pid: 7, name: AGENT.to_owned(), unit: None };
        Facts { agents: vec![process], device: true, tunnel: true, own_api: Some(true), ..Facts::default() }
    }

    fn codes(facts: &Facts) -> Vec<(String, State)> {
        judge(facts).into_iter().map(|finding| (finding.code.into_owned(), finding.state)).collect()
    }

    #[test]
    fn a_node_without_a_mesh_that_wants_none_is_fine() {
        assert_eq!(codes(&Facts::default()), [("KE-MESH-001".to_owned(), State::Fine)]);
        let old = Facts { configured: true, ..Facts::default() };
        assert_eq!(codes(&old), [("KE-MESH-002".to_owned(), State::Warning)]);
    }

    #[test]
    fn an_agent_is_told_by_its_parts() {
        let fine = &judge(&agent())[0];
        assert_eq!(
            fine.seen,
            "edgemesh-agent runs (pid 7), edgemesh0 is there, its tunnel (port 20006) is open"
        );
        assert_eq!((&*fine.code, fine.state), ("KE-MESH-005", State::Fine));
        let lost = &judge(&Facts { own_api: None, ..agent() })[0];
        assert!(lost.state == State::Warning && lost.fix.contains("kubeAPIConfig.master"), "{lost:?}");
        assert_eq!(codes(&Facts { own_api: None, edge_api: true, ..agent() })[0].1, State::Fine);
        let wanted = Facts {
            agent_pods: vec!["kubeedge/edgemesh-agent-x".into()],
            own_api: Some(true),
            ..Facts::default()
        };
        assert!(
            judge(&wanted)[0].seen.starts_with("kubeedge/edgemesh-agent-x is to run"),
            "{:?}",
            judge(&wanted)
        );
        let proxy = Process { pid: 8, name: "kube-proxy".to_owned(), unit: None };
        assert_eq!(
            codes(&Facts { proxies: vec![proxy], ..agent() })[1],
            ("KE-MESH-004".to_owned(), State::Warning)
        );
    }

    #[test]
    fn a_name_server_is_judged_by_its_answer() {
        let answer = |code, addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            Ok(Answer { code, addresses, took: Duration::from_millis(2) })
        };
        let fine = judge_server("169.254.96.16", &answer(0, &["10.96.0.1"]));
        assert_eq!(
            (&*fine.code, fine.seen.as_str()),
            ("KE-MESH-003", "kubernetes.default is 10.96.0.1, 2 ms")
        );
        for bad in [answer(2, &[]), answer(3, &[]), answer(0, &[]), Err("no answer within 1.2 s".to_owned())]
        {
            let finding = judge_server("169.254.96.16", &bad);
            assert!(finding.state == State::Warning && !finding.fix.is_empty(), "{finding:?}");
        }
    }

    #[test]
    fn pods_that_name_services_are_told_while_no_name_server_answers() {
        let pod = |text: &str| PodHere {
            namespace: "d".into(),
            name: "p".into(),
            words: vec![text.into()],
            ..PodHere::default()
        };
        assert_eq!(namer(&pod("--db=http://db.prod.svc:5432/x")), Some(("d/p".into(), "db.prod.svc".into())));
        assert_eq!(namer(&pod("db.prod.svc.cluster.local")).unwrap().1, "db.prod.svc.cluster.local");
        assert_eq!(namer(&pod("https://kubernetes.default.svc")), None);
        assert_eq!(namer(&pod("a.svcx b")), None);
        let namers = vec![namer(&pod("db.prod.svc")).unwrap()];
        let lost = Facts { namers: namers.clone(), ..Facts::default() };
        assert_eq!(codes(&lost), [("KE-MESH-007".to_owned(), State::Warning)]);
        let answer = Answer { code: 0, addresses: vec!["10.0.0.1".parse().unwrap()], took: Duration::ZERO };
        let served = Facts { namers, servers: vec![("10.0.0.10".into(), Ok(answer))], ..Facts::default() };
        assert_eq!(codes(&served), [("KE-MESH-003".to_owned(), State::Fine)]);
    }
}
