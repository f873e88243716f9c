//! What the cloud side sees through the Kubernetes API: the API itself, definitions, Secrets, edge nodes, DaemonSets that
//! land on them, and a real byte of a pod's log through the tunnel. Reads only.

use super::place::Place;
use super::workloads::{CLOUD_ONLY, keep_off};
use crate::base::{deepest, now};
use crate::daemon::cloud::setup::{FORWARD, FORWARD_BY_HAND};
use crate::daemon::cloud::{
    self, CA_CERT, CA_SECRET, NAMESPACE, SERVER_CERT, SERVER_SECRET, TOKEN_KEY, TOKEN_SECRET,
};
use crate::host::check::{Check, Cost, Finding, Group};
use crate::link::{Endpoint, dial};
use crate::pki::{Token, facts_of, names_of, unverified_client_config};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, join_all};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, LogParams};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CALL: Duration = Duration::from_secs(5);
const DAY: i64 = 86_400;
const EDGE_LABEL: &str = "node-role.kubernetes.io/edge";
const SERVED: &str = "certificate that is served";
const NO_API: &[&str] = &["KE-KUBE-010"];
/// So many nodes are asked for a byte of a log.
const ASKED: usize = 5;
/// What kedge is tested against.
const OLDEST: (u32, u32) = (1, 30);
/// The groups whose definitions the cloud brings.
const GROUPS: [&str; 5] = [
    "apps.kubeedge.io",
    "devices.kubeedge.io",
    "operations.kubeedge.io",
    "reliablesyncs.kubeedge.io",
    "rules.kubeedge.io",
];

type Connected = Result<kube::Client, String>;
type Connecting = Shared<BoxFuture<'static, Connected>>;

pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    let file = place.kubeconfig.clone();
    let connecting: Connecting = connect(file).boxed().shared();
    let look = |id: &'static str,
                group: Group,
                name: &'static str,
                judge: fn(kube::Client) -> BoxFuture<'static, Vec<Finding>>| {
        let connecting = connecting.clone();
        let check = Check::asking(id, group, name, async move {
            match connecting.await {
                Ok(client) => judge(client).await,
                Err(_) => vec![Finding::skipped(id, name, "because of KE-KUBE-010")],
            }
        });
        check.cost(Cost::Large).after(NO_API)
    };
    let api = connecting.clone();
    let advertised = place.cloud.as_ref().map(|cloud| cloud.hub.advertise.clone()).unwrap_or_default();
    let (certificates, reloading) = (connecting.clone(), connecting.clone());
    let serving = place.daemon.as_ref().and(place.cloud.as_ref()).map(|cloud| cloud.hub.websocket);
    vec![
        Check::asking("KE-KUBE-010", Group::Network, "Kubernetes API", async move {
            vec![version(api.await).await]
        })
        .cost(Cost::Large),
        look("KE-CRD-010", Group::Network, "definitions", |client| definitions(client).boxed()),
        Check::asking("KE-CERT-030", Group::Identity, "Secrets", async move {
            match certificates.await {
                Ok(client) => secrets(client, advertised).await,
                Err(_) => vec![Finding::skipped("KE-CERT-030", "Secrets", "because of KE-KUBE-010")],
            }
        })
        .cost(Cost::Large)
        .also(&["KE-CERT-031", "KE-CERT-032", "KE-TOKEN-021"])
        .after(NO_API),
        Check::asking("KE-CERT-033", Group::Identity, "certificate that is served", async move {
            match reloading.await {
                Ok(client) => vec![reloaded(client, serving).await],
                Err(_) => vec![Finding::skipped("KE-CERT-033", SERVED, "because of KE-KUBE-010")],
            }
        })
        .cost(Cost::Large)
        .after(NO_API),
        look("KE-NODE-010", Group::CloudLink, "edge nodes", |client| nodes(client).boxed())
            .also(&["KE-DUP-002", "KE-SKEW-002"]),
        look("KE-STREAM-001", Group::CloudLink, "logs through the tunnel", |client| stream(client).boxed()),
        look("KE-STREAM-013", Group::CloudLink, "the API server's way to nodes", |client| {
            way(client).boxed()
        }),
        look("KE-SCHED-001", Group::Workloads, "cloud-only DaemonSets", |client| scheduled(client).boxed()),
    ]
}

async fn connect(file: Option<PathBuf>) -> Connected {
    crate::pki::install_crypto_provider();
    let file = file.ok_or_else(|| "no kubeconfig is known; name one with --kube-config".to_owned())?;
    let config =
        cloud::kubeconfig(&file).await.map_err(|refused| format!("{}: {}", file.display(), refused.why))?;
    kube::Client::try_from(config).map_err(|error| format!("{}: {error}", file.display()))
}

async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(status.message.clone()),
        Ok(Err(error)) => Err(deepest(&error)),
        Err(_) => Err(format!("no answer within {} s", CALL.as_secs())),
    }
}

/// Whether the API refused because of the account, which says nothing of the cluster: that of a cloud may not look
/// everywhere.
fn is_forbidden(error: &str) -> bool {
    error.contains(" is forbidden: ")
}

fn not_for_this_account(code: &'static str, name: impl Into<String>) -> Finding {
    Finding::skipped(code, name, "this kubeconfig's account may not look")
        .fix("kedge doctor --kube-config FILE, with an administrator's")
}

fn unasked(code: &'static str, name: &'static str, error: String) -> Finding {
    if is_forbidden(&error) {
        return not_for_this_account(code, name);
    }
    Finding::failed(code, name, error)
        .because("the API refused the question; the account of the kubeconfig may not read this")
        .fix("kubectl auth can-i --list")
}

async fn version(connected: Connected) -> Finding {
    let (code, name) = ("KE-KUBE-010", "Kubernetes API");
    let fix = "kubectl --kubeconfig FILE version, with the file that kedge uses";
    let client = match connected {
        Ok(client) => client,
        Err(error) => {
            return Finding::failed(code, name, error)
                .because("the cloud does everything through this API")
                .fix(fix);
        }
    };
    let started = Instant::now();
    match within(client.apiserver_version()).await {
        Ok(info) => judge_version(&info.major, &info.minor, &info.git_version, started.elapsed()),
        Err(error) => {
            Finding::failed(code, name, error).because("the cloud does everything through this API").fix(fix)
        }
    }
}

fn judge_version(major: &str, minor: &str, text: &str, took: Duration) -> Finding {
    let (code, name) = ("KE-KUBE-010", "Kubernetes API");
    let seen = format!("{text} in {} ms", took.as_millis());
    let number = |text: &str| text.trim_end_matches('+').parse::<u32>().unwrap_or(0);
    if (number(major), number(minor)) < OLDEST {
        return Finding::warning(code, name, seen)
            .because(format!("kedge is made for Kubernetes {}.{} and newer", OLDEST.0, OLDEST.1))
            .fix("upgrade the control plane");
    }
    Finding::fine(code, name, seen)
}

async fn definitions(client: kube::Client) -> Vec<Finding> {
    let (code, name) = ("KE-CRD-010", "definitions");
    let api: Api<CustomResourceDefinition> = Api::all(client);
    match within(api.list_metadata(&ListParams::default())).await {
        Ok(list) => {
            let names: Vec<String> = list.items.into_iter().filter_map(|item| item.metadata.name).collect();
            vec![judge_definitions(&names)]
        }
        Err(error) => vec![unasked(code, name, error)],
    }
}

fn judge_definitions(names: &[String]) -> Finding {
    let (code, title) = ("KE-CRD-010", "definitions");
    let of = |group: &str| {
        names.iter().filter(|name| name.split_once('.').is_some_and(|(_, rest)| rest == group)).count()
    };
    let missing: Vec<&str> = GROUPS.into_iter().filter(|group| of(group) == 0).collect();
    if missing.is_empty() {
        let all: usize = GROUPS.into_iter().map(of).sum();
        return Finding::fine(code, title, format!("{all} of KubeEdge's kinds"));
    }
    Finding::failed(code, title, format!("none of {}", missing.join(", ")))
        .because("devices, jobs and rules have no place in this cluster")
        .fix("kedge init")
}

async fn secrets(client: kube::Client, advertised: Vec<String>) -> Vec<Finding> {
    let (code, name) = ("KE-CERT-030", "Secrets");
    let api: Api<Secret> = Api::namespaced(client, NAMESPACE);
    match within(api.list(&ListParams::default())).await {
        Ok(list) => {
            let read = |secret: &str, key: &str| {
                let found = list.items.iter().find(|item| item.metadata.name.as_deref() == Some(secret))?;
                found.data.as_ref()?.get(key).map(|bytes| bytes.0.clone())
            };
            let (ca, server) = (read(CA_SECRET, CA_CERT), read(SERVER_SECRET, SERVER_CERT));
            let token = read(TOKEN_SECRET, TOKEN_KEY).and_then(|bytes| String::from_utf8(bytes).ok());
            judge_secrets(ca, server, token, &advertised, now().as_second())
        }
        Err(error) => vec![unasked(code, name, error)],
    }
}

/// Asks the cloud of this machine for its certificate and compares it with the one in the Secret: a renewal that has not
/// reached who serves is seen here, long before the old one expires.
async fn reloaded(client: kube::Client, serving: Option<SocketAddr>) -> Finding {
    let Some(address) = serving else {
        return Finding::skipped("KE-CERT-033", SERVED, "no cloud runs on this machine");
    };
    let api: Api<Secret> = Api::namespaced(client, NAMESPACE);
    let kept = within(api.get(SERVER_SECRET)).await.ok().and_then(|secret| secret.data);
    let kept = kept.and_then(|data| data.get(SERVER_CERT).map(|bytes| der(bytes.0.clone())));
    let host = if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { address.ip().to_string() };
    judge_reloaded(kept.as_deref(), served(&Endpoint { host, port: address.port() }).await)
}

/// The certificate that a server shows to anybody.
async fn served(endpoint: &Endpoint) -> Result<Vec<u8>, String> {
    let anyone = unverified_client_config().map_err(|failure| failure.why)?;
    let stream = dial(endpoint, anyone, CALL).await.map_err(|error| error.to_string())?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    shown.map(|der| der.to_vec()).ok_or_else(|| "no certificate was shown".to_owned())
}

fn judge_reloaded(kept: Option<&[u8]>, served: Result<Vec<u8>, String>) -> Finding {
    let code = "KE-CERT-033";
    let Some(kept) = kept else { return Finding::skipped(code, SERVED, "because of KE-CERT-031") };
    match served {
        Ok(served) if served == kept => Finding::fine(code, SERVED, "the one in the Secret"),
        Ok(_) => Finding::warning(code, SERVED, "another one than in the Secret")
            .because("the cloud has not taken up the renewed certificate; nodes will refuse it once the old one expires")
            .fix("kedge status, and a restart of kedge cloud run if it stays"),
        Err(error) => Finding::failed(code, SERVED, error)
            .because("nodes that connect meet the same")
            .fix("kedge status"),
    }
}

/// DER, from DER or PEM.
fn der(bytes: Vec<u8>) -> Vec<u8> {
    match CertificateDer::from_pem_slice(&bytes) {
        Ok(certificate) => certificate.to_vec(),
        Err(_) => bytes,
    }
}

fn judge_secrets(
    ca: Option<Vec<u8>>,
    server: Option<Vec<u8>>,
    token: Option<String>,
    advertised: &[String],
    now: i64,
) -> Vec<Finding> {
    let ca = ca.map(der);
    let mut findings = vec![
        judge_life("KE-CERT-030", "authority in the Secret", ca.as_deref(), now),
        judge_life(
            "KE-CERT-031",
            "server certificate in the Secret",
            server.clone().map(der).as_deref(),
            now,
        ),
    ];
    if let Some(server) = server.map(der) {
        let names = names_of(&server);
        let missing: Vec<&str> = advertised
            .iter()
            .map(String::as_str)
            .filter(|name| !names.iter().any(|known| known == name))
            .collect();
        let name = "names of the cloud";
        findings.push(if missing.is_empty() {
            Finding::fine("KE-CERT-032", name, names.join(" "))
        } else {
            Finding::warning("KE-CERT-032", name, format!("{} not in the certificate", missing.join(" ")))
                .because("nodes that dial such an address refuse the cloud")
                .fix("restart kedge cloud run: it issues the certificate anew for all its names")
        });
    }
    let name = "KubeEdge's join token";
    findings.push(match token.map(|text| Token::parse(&text)) {
        None => Finding::warning("KE-TOKEN-021", name, "none")
            .because("keadm and `kedge gettoken` have nothing to give")
            .fix("kedge status: a running cloud makes one"),
        Some(Err(error)) => Finding::failed("KE-TOKEN-021", name, error.to_string())
            .because("no node could join with it; a running cloud makes a new one where there is none")
            .fix("kubectl -n kubeedge delete secret tokensecret"),
        Some(Ok(token)) if token.expires <= now => Finding::failed("KE-TOKEN-021", name, "expired")
            .because("the cloud makes a new one twice a day; it has not for a while")
            .fix("kedge status"),
        Some(Ok(token)) if ca.as_deref().is_some_and(|ca| !token.fits(ca)) => {
            Finding::failed("KE-TOKEN-021", name, "of another authority")
                .because("no node could join with it")
                .fix("kubectl -n kubeedge delete secret tokensecret")
        }
        Some(Ok(token)) => {
            let left = token.expires - now;
            Finding::fine(
                "KE-TOKEN-021",
                name,
                format!("valid for {} h {:02} min", left / 3600, left % 3600 / 60),
            )
        }
    });
    findings
}

fn judge_life(code: &'static str, name: &'static str, der: Option<&[u8]>, now: i64) -> Finding {
    let Some(der) = der else {
        return Finding::failed(code, name, "none")
            .because("the cloud has not set itself up in this cluster")
            .fix("kedge init");
    };
    let Some(facts) = facts_of(der) else {
        return Finding::failed(code, name, "cannot be read").fix("put the Secret back from a backup");
    };
    let days = (facts.not_after - now).div_euclid(DAY);
    let seen = format!("{days} days left");
    match days {
        ..0 => Finding::failed(code, name, format!("expired {} days ago", -days))
            .because("no node trusts the cloud")
            .fix("kedge cert renew"),
        0..30 => Finding::warning(code, name, seen)
            .because("no node trusts the cloud after that")
            .fix("kedge cert renew"),
        _ => Finding::fine(code, name, seen),
    }
}

fn is_edge(node: &Node) -> bool {
    node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EDGE_LABEL))
}

fn name_of(node: &Node) -> String {
    node.metadata.name.clone().unwrap_or_default()
}

async fn edge_nodes(client: &kube::Client) -> Result<Vec<Node>, String> {
    let api: Api<Node> = Api::all(client.clone());
    let list = within(api.list(&ListParams::default())).await?;
    Ok(list.items.into_iter().filter(is_edge).collect())
}

async fn nodes(client: kube::Client) -> Vec<Finding> {
    match edge_nodes(&client).await {
        Ok(nodes) => judge_nodes(&nodes),
        Err(error) => vec![unasked("KE-NODE-010", "edge nodes", error)],
    }
}

fn judge_nodes(nodes: &[Node]) -> Vec<Finding> {
    let (code, name) = ("KE-NODE-010", "edge nodes");
    let ready = |node: &&Node| {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let away: Vec<String> = nodes.iter().filter(|node| !ready(node)).map(name_of).collect();
    let mut findings = Vec::new();
    let seen = format!("{} of {} Ready", nodes.len() - away.len(), nodes.len());
    findings.push(if away.is_empty() {
        Finding::fine(code, name, if nodes.is_empty() { "none yet".to_owned() } else { seen })
    } else {
        Finding::warning(code, name, format!("{seen}, not {}", shortened(&away)))
            .because("their pods may run on; the cloud does not hear of them")
            .fix("kedge doctor on the node")
    });
    // One machine under two names, or one image cloned to many.
    let mut machines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in nodes {
        let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
        if let Some(id) = info.map(|info| info.machine_id.clone()).filter(|id| !id.is_empty()) {
            machines.entry(id).or_default().push(name_of(node));
        }
    }
    let twins: Vec<String> =
        machines.into_values().filter(|names| names.len() > 1).map(|names| names.join(" = ")).collect();
    findings.push(if twins.is_empty() {
        Finding::fine("KE-DUP-002", "machines", "each node has its own identity")
    } else {
        Finding::warning("KE-DUP-002", "machines", format!("one machine id: {}", shortened(&twins)))
            .because(
                "a cloned disk carries its identity with it; tools that tell machines apart by it are misled",
            )
            .fix("rm /etc/machine-id && systemd-machine-id-setup (on the clone)")
    });
    findings.push(judge_skew(nodes));
    findings
}

fn judge_skew(nodes: &[Node]) -> Finding {
    let (code, name) = ("KE-SKEW-002", "versions of the nodes");
    let version = |node: &Node| {
        let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
        info.map(|info| info.kubelet_version.clone()).unwrap_or_default()
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for node in nodes {
        *counts.entry(version(node)).or_default() += 1;
    }
    let told: Vec<String> = counts.iter().map(|(version, count)| format!("{count} × {version}")).collect();
    match counts.len() {
        0 => Finding::fine(code, name, "no nodes yet"),
        1 if told.iter().any(|told| is_newer(told)) => Finding::warning(code, name, told.join(", "))
            .because(format!(
                "the nodes are newer than this kedge, {}; the cloud is upgraded first",
                env!("CARGO_PKG_VERSION")
            ))
            .fix("replace kedge on the cloud, then kedge init"),
        1 => Finding::fine(code, name, told.join(", ")),
        _ => Finding::warning(code, name, told.join(", "))
            .because("nodes of several versions work together; an upgrade may have stopped half-way")
            .fix("kedge edge upgrade --to VERSION --selector node-role.kubernetes.io/edge"),
    }
}

/// Whether a node's version, such as `v1.36.0-kubeedge-v1.23.1-kedge-0.2.0`, is of a later kedge than this one.
fn is_newer(told: &str) -> bool {
    let parts = |text: &str| -> Option<Vec<u64>> { text.split('.').map(|part| part.parse().ok()).collect() };
    let theirs = told.rsplit_once("-kedge-").and_then(|(_, version)| parts(version));
    theirs > parts(env!("CARGO_PKG_VERSION"))
}

fn shortened(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
    match names.len() {
        0..=5 => shown.join(", "),
        more => format!("{} and {} more", shown.join(", "), more - 5),
    }
}

/// One byte of a log from each of the first nodes, by the way that kubectl goes.
async fn stream(client: kube::Client) -> Vec<Finding> {
    let (code, name) = ("KE-STREAM-001", "logs through the tunnel");
    let nodes = match edge_nodes(&client).await {
        Ok(nodes) => nodes,
        Err(error) => return vec![unasked(code, name, error)],
    };
    let pods =
        within(Api::<Pod>::all(client.clone()).list(&ListParams::default().fields("status.phase=Running")))
            .await;
    let pods = match pods {
        Ok(pods) => pods.items,
        Err(error) => return vec![unasked(code, name, error)],
    };
    let wanted: Vec<(String, Pod)> = nodes
        .iter()
        .filter_map(|node| {
            let node = name_of(node);
            let of_node =
                |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(&node);
            let pod = pods.iter().find(of_node).cloned()?;
            Some((node, pod))
        })
        .take(ASKED)
        .collect();
    if wanted.is_empty() {
        return vec![Finding::skipped(code, name, "no pod runs on an edge node")];
    }
    join_all(wanted.into_iter().map(|(node, pod)| one_byte(client.clone(), node, pod))).await
}

async fn one_byte(client: kube::Client, node: String, pod: Pod) -> Finding {
    let code = "KE-STREAM-001";
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let name = pod.metadata.name.clone().unwrap_or_default();
    let container =
        pod.spec.as_ref().and_then(|spec| spec.containers.first()).map(|container| container.name.clone());
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let params = LogParams { container, limit_bytes: Some(1), tail_lines: Some(1), ..LogParams::default() };
    let started = Instant::now();
    let answer = within(api.logs(&name, &params)).await;
    judge_byte(format!("logs of {node}"), &format!("{namespace}/{name}"), answer, started.elapsed(), code)
}

fn judge_byte(
    title: String,
    pod: &str,
    answer: Result<String, String>,
    took: Duration,
    code: &'static str,
) -> Finding {
    match answer {
        Ok(text) if text.is_empty() => Finding::fine(code, title, format!("{pod} has said nothing, asked in {} ms", took.as_millis())),
        Ok(_) => Finding::fine(code, title, format!("a byte of {pod} in {} ms", took.as_millis())),
        Err(error) if is_forbidden(&error) => not_for_this_account(code, title),
        Err(error) => Finding::failed(code, title, format!("{pod}: {error}"))
            .because("kubectl logs, exec and attach go the same way: API server, the cloud's port 10003, the node's tunnel")
            .fix("kedge doctor on the node, and TCP 10003 open from the API server to the cloud"),
    }
}

async fn way(client: kube::Client) -> Vec<Finding> {
    let (code, name) = ("KE-STREAM-013", "the API server's way to nodes");
    let api: Api<DaemonSet> = Api::namespaced(client, NAMESPACE);
    match within(api.get_opt(FORWARD)).await {
        Ok(set) => vec![judge_way(set.as_ref())],
        Err(error) => vec![unasked(code, name, error)],
    }
}

/// Whether a pod keeps the rules on each machine with an API server.
fn judge_way(set: Option<&DaemonSet>) -> Finding {
    let (code, name) = ("KE-STREAM-013", "the API server's way to nodes");
    let Some(set) = set else {
        return Finding::skipped(code, name, "the cloud's own, or `kedge cloud forward` by hand");
    };
    let status = set.status.clone().unwrap_or_default();
    let (wanted, ready) = (status.desired_number_scheduled, status.number_ready);
    let seen = format!("DaemonSet {NAMESPACE}/{FORWARD}: {ready} of {wanted} pods are ready");
    let why =
        "kubectl logs, exec and attach for edge nodes need its rules on each machine with an API server";
    if wanted == 0 {
        let what = format!("DaemonSet {NAMESPACE}/{FORWARD} has no machine to run on");
        return Finding::warning(code, name, what).because(why).fix(FORWARD_BY_HAND);
    }
    if ready < wanted {
        return Finding::warning(code, name, seen)
            .because(why)
            .fix(format!("kubectl -n {NAMESPACE} logs daemonset/{FORWARD}"));
    }
    Finding::fine(code, name, seen)
}

async fn scheduled(client: kube::Client) -> Vec<Finding> {
    let (code, name) = ("KE-SCHED-001", "cloud-only DaemonSets");
    let api: Api<DaemonSet> = Api::all(client);
    match within(api.list(&ListParams::default())).await {
        Ok(list) => judge_scheduled(&list.items),
        Err(error) => vec![unasked(code, name, error)],
    }
}

fn judge_scheduled(sets: &[DaemonSet]) -> Vec<Finding> {
    let (code, name) = ("KE-SCHED-001", "cloud-only DaemonSets");
    let named = |set: &DaemonSet| {
        (set.metadata.namespace.clone().unwrap_or_default(), set.metadata.name.clone().unwrap_or_default())
    };
    let landing = sets.iter().filter(|set| CLOUD_ONLY.contains(&&*named(set).1) && !keeps_off(set));
    let findings: Vec<Finding> = landing
        .map(|set| {
            let (namespace, set) = named(set);
            Finding::warning(code, format!("DaemonSet {namespace}/{set}"), "lands on edge nodes")
                .because(
                    "it drives a network that an edge node does not have, and fails or changes its rules",
                )
                .fix(keep_off(&namespace, &set))
        })
        .collect();
    if findings.is_empty() { vec![Finding::fine(code, name, "none lands on edge nodes")] } else { findings }
}

/// Whether every choice of nodes that the template allows leaves edge nodes out.
fn keeps_off(set: &DaemonSet) -> bool {
    let Some(spec) = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else { return false };
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_some_and(|required| {
        required.node_selector_terms.iter().all(|term| {
            term.match_expressions.iter().flatten().any(|expression| {
                expression.key == EDGE_LABEL
                    && matches!(expression.operator.as_str(), "DoesNotExist" | "NotIn")
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;
    use crate::pki::Authority;
    use serde_json::json;

    #[test]
    fn rules_that_nobody_keeps_are_told() {
        let with = |wanted: i32, ready: i32| {
            let status = json!({"currentNumberScheduled": wanted, "desiredNumberScheduled": wanted,
                "numberMisscheduled": 0, "numberReady": ready});
            let set = json!({"metadata": {"name": FORWARD}, "status": status});
            judge_way(Some(&serde_json::from_value(set).unwrap()))
        };
        assert_eq!(judge_way(None).state, State::Skipped);
        assert_eq!(with(2, 2).state, State::Fine);
        let none = with(0, 0);
        assert_eq!((&*none.code, none.state), ("KE-STREAM-013", State::Warning));
        assert!(none.fix.contains("kedge cloud forward"), "{none:?}");
        assert!(with(2, 1).fix.contains("logs daemonset/kedge-forward"));
    }

    #[test]
    fn old_kubernetes_is_told() {
        let state = |minor| judge_version("1", minor, "v1", Duration::ZERO).state;
        assert_eq!((state("32"), state("30+"), state("28")), (State::Fine, State::Fine, State::Warning));
    }

    #[test]
    fn missing_definitions_are_named_by_group() {
        let all: Vec<String> = GROUPS.into_iter().map(|group| format!("things.{group}")).collect();
        assert_eq!(judge_definitions(&all).seen, "5 of KubeEdge's kinds");
        let few = judge_definitions(&all[1..]);
        assert_eq!((few.state, few.seen.as_str()), (State::Failed, "none of apps.kubeedge.io"));
    }

    #[test]
    fn nodes_that_are_newer_than_the_cloud_are_told() {
        let of = |version: &str| format!("3 × v1.36.0-kubeedge-v1.23.1-kedge-{version}");
        assert!(
            is_newer(&of("99.0.0")) && !is_newer(&of(env!("CARGO_PKG_VERSION"))) && !is_newer(&of("0.0.1"))
        );
        assert!(!is_newer("1 × v1.31.0-kubeedge-v1.23.1") && !is_newer(&of("x")));
    }

    #[test]
    fn a_certificate_that_was_renewed_and_is_not_served_is_told() {
        assert_eq!(judge_reloaded(Some(b"a"), Ok(b"a".to_vec())).state, State::Fine);
        let old = judge_reloaded(Some(b"a"), Ok(b"b".to_vec()));
        assert_eq!((&*old.code, old.state), ("KE-CERT-033", State::Warning));
        assert_eq!(judge_reloaded(Some(b"a"), Err("refused".to_owned())).state, State::Failed);
        assert_eq!(judge_reloaded(None, Ok(Vec::new())).state, State::Skipped);
    }

    #[test]
    fn secrets_are_judged_by_their_life_and_names() {
        let authority = Authority::generate("KubeEdge").unwrap();
        let server = authority.issue_server("KubeEdge", &["10.0.0.1".to_owned()], 400).unwrap();
        let (server, _) = server.ders().unwrap();
        let token = Token::create(&authority, Duration::from_secs(3600));
        let ca = Some(authority.cert_der().to_vec());
        let today = now().as_second();
        let advertised = ["10.0.0.1".to_owned()];
        let fine = judge_secrets(ca.clone(), Some(server.clone()), Some(token.clone()), &advertised, today);
        assert!(fine.iter().all(|finding| finding.state == State::Fine), "{fine:?}");
        let other = ["10.0.0.2".to_owned()];
        let later = judge_secrets(ca.clone(), Some(server), Some(token.clone()), &other, today + 390 * DAY);
        let states: Vec<State> = later.iter().map(|finding| finding.state).collect();
        assert_eq!(states, [State::Fine, State::Warning, State::Warning, State::Failed]);
        let strange = Authority::generate("KubeEdge").unwrap();
        let mixed = judge_secrets(Some(strange.cert_der().to_vec()), None, Some(token), &[], today);
        assert_eq!(mixed.last().unwrap().seen, "of another authority");
        let nothing = judge_secrets(None, None, None, &[], today);
        assert_eq!(
            nothing.iter().map(|f| f.state).collect::<Vec<_>>(),
            [State::Failed, State::Failed, State::Warning]
        );
    }

    fn node(name: &str, ready: &str, machine: &str, version: &str) -> Node {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {EDGE_LABEL: ""}},
            "status": {"conditions": [{"type": "Ready", "status": ready}],
                "nodeInfo": {"machineID": machine, "kubeletVersion": version, "architecture": "", "bootID": "",
                    "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "", "operatingSystem": "",
                    "osImage": "", "systemUUID": ""}}}))
        .unwrap()
    }

    #[test]
    fn nodes_that_are_away_or_alike_are_named() {
        let nodes = [node("a", "True", "1", "v1"), node("b", "Unknown", "1", "v2")];
        let findings = judge_nodes(&nodes);
        assert_eq!(findings[0].seen, "1 of 2 Ready, not b");
        assert_eq!(findings[1].seen, "one machine id: a = b");
        assert_eq!(findings[2].seen, "1 × v1, 1 × v2");
        assert!(judge_nodes(&nodes[..1]).iter().all(|finding| finding.state == State::Fine));
        assert_eq!(judge_nodes(&[])[0].seen, "none yet");
        assert!(is_edge(&nodes[0]) && !is_edge(&Node::default()));
    }

    #[test]
    fn daemonsets_that_land_on_edge_nodes_come_with_their_patch() {
        let set = |name: &str, affinity: serde_json::Value| -> DaemonSet {
            serde_json::from_value(json!({"metadata": {"namespace": "kube-system", "name": name},
                "spec": {"selector": {}, "template": {"spec": {"containers": [], "affinity": affinity}}}}))
            .unwrap()
        };
        let off = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": EDGE_LABEL, "operator": "DoesNotExist"}]}]}}});
        let sets = [set("kube-proxy", json!(null)), set("cilium", off), set("mine", json!(null))];
        let findings = judge_scheduled(&sets);
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].fix.starts_with("kubectl -n kube-system patch daemonset kube-proxy"),
            "{findings:?}"
        );
        assert_eq!(judge_scheduled(&sets[1..])[0].state, State::Fine);
    }

    #[test]
    fn a_byte_of_a_log_is_timed() {
        let judged = |answer| {
            judge_byte("logs of n".into(), "d/p", answer, Duration::from_millis(38), "KE-STREAM-001")
        };
        assert_eq!(judged(Ok("x".to_owned())).seen, "a byte of d/p in 38 ms");
        assert!(judged(Ok(String::new())).seen.contains("said nothing"));
        assert_eq!(judged(Err("dial tcp: refused".to_owned())).state, State::Failed);
        let account =
            "pods \"p\" is forbidden: User \"system:serviceaccount:kubeedge:kedge-cloud\" cannot get";
        let refused = judged(Err(account.to_owned()));
        assert!(refused.state == State::Skipped && refused.fix.contains("--kube-config"), "{refused:?}");
        let asked = |error: &str| unasked("KE-CRD-010", "definitions", error.to_owned()).state;
        assert_eq!((asked(account), asked("no answer within 5 s")), (State::Skipped, State::Failed));
    }

    #[tokio::test]
    async fn without_a_kubeconfig_the_api_is_a_failure() {
        assert_eq!(version(connect(None).await).await.state, State::Failed);
    }
}
