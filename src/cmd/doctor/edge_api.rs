//! The Kubernetes API as pods of this node find it. kedge does not serve one on the node yet: who asks for it is named, with
//! what works instead; what answers in its place is asked as a pod would ask, over TLS with a pod's token. A token goes
//! only to a server that shows a certificate of an authority that the pod trusts.

use super::here::{PodHere, authority_of, listed, pods, token_of};
use super::place::Place;
use crate::host::check::{Check, Cost, Finding, Group};
use crate::host::ports::{Holder, holder};
use crate::link::{DialError, Endpoint, dial, exchange, reach};
use crate::pki::{client_config, unverified_client_config};
use crate::store::Reader;
use bytes::Bytes;
use futures_util::future::join_all;
use http::StatusCode;
use http_body_util::Full;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NAME: &str = "edge API";
const LIMIT: Duration = Duration::from_secs(3);
const ANSWER: usize = 1 << 20;
/// Where KubeEdge serves it, and the address that its pods are given.
const SERVER: &str = "127.0.0.1:10550";
const DUMMY: &str = "169.254.30.10:10550";
/// Answered for every account that the server knows.
const QUESTION: &str = "/api";
const HOST: &str = "KUBERNETES_SERVICE_HOST";
const PORT: &str = "KUBERNETES_SERVICE_PORT";

pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    let here = place.clone();
    vec![
        Check::asking("KE-META-010", Group::Workloads, NAME, async move { look(&here).await })
            .also(&["KE-META-011", "KE-META-012", "KE-META-013", "KE-META-014"])
            .cost(Cost::Medium)
            .after(&["KE-DB-001"]),
    ]
}

/// What is known before anybody is asked.
struct Facts {
    /// `host:port` where the configuration wants it.
    address: String,
    wanted: bool,
    holder: Option<Holder>,
    pods: Vec<PodHere>,
    /// Authorities by namespace, that of the node's own cloud under the empty name.
    authorities: BTreeMap<String, String>,
    /// Pods that name an API server of their own, with their token.
    targets: Vec<Target>,
}

struct Target {
    pod: String,
    address: String,
    authority: Option<String>,
    token: Option<String>,
}

async fn look(place: &Arc<Place>) -> Vec<Finding> {
    let read = place.clone();
    let facts = match tokio::task::spawn_blocking(move || Facts::read(&read)).await {
        Ok(Ok(facts)) => facts,
        Ok(Err(failure)) => {
            return vec![
                Finding::failed("KE-META-010", NAME, failure.what).because(failure.why).fix(failure.fix),
            ];
        }
        Err(_) => return vec![Finding::failed("KE-META-010", NAME, "the check broke off")],
    };
    let answer = match &facts.holder {
        Some(_) => Some(ask_unknown(&facts.address, facts.authorities.values()).await),
        None => None,
    };
    let targets = join_all(facts.targets.iter().map(ask_target)).await;
    let mut findings = judge(&facts, answer.as_ref());
    findings.extend(targets);
    if findings.is_empty() {
        findings.push(Finding::fine("KE-META-010", NAME, "not served, and no pod here asks for it"));
    }
    findings
}

impl Facts {
    fn read(place: &Place) -> Result<Facts, crate::base::Failure> {
        let of_server =
            |field: &str| place.document.pointer(&format!("/modules/metaManager/metaServer/{field}"));
        let address = of_server("server").and_then(Value::as_str).unwrap_or(SERVER).to_owned();
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let database = place.edge.as_ref().map(|config| config.database.as_path());
        let mut facts = Facts {
            wanted: of_server("enable") == Some(&Value::Bool(true)),
            holder: port.and_then(holder),
            address,
            pods: pods(database)?,
            authorities: BTreeMap::new(),
            targets: Vec::new(),
        };
        let own = place.edge.as_ref().map(|config| crate::base::read_limited(&config.hub.ca_file, 256 << 10));
        if let Some(Ok(own)) = own {
            facts.authorities.insert(String::new(), String::from_utf8_lossy(&own).into_owned());
        }
        let Some(reader) = database.filter(|path| path.is_file()).map(Reader::open).transpose()? else {
            return Ok(facts);
        };
        for pod in facts.pods.iter().filter(|pod| pod.token) {
            if !facts.authorities.contains_key(&pod.namespace)
                && let Some(authority) = authority_of(&reader, &pod.namespace)
            {
                facts.authorities.insert(pod.namespace.clone(), authority);
            }
            if let Some(address) = own_server(pod) {
                facts.targets.push(Target {
                    pod: pod.title(),
                    address,
                    authority: facts.authorities.get(&pod.namespace).cloned(),
                    token: token_of(&reader, pod),
                });
            }
        }
        Ok(facts)
    }
}

/// The API server that a pod's environment names, unless it is the one on the node.
fn own_server(pod: &PodHere) -> Option<String> {
    let host = pod.variable(HOST).filter(|host| !host.is_empty())?;
    let endpoint =
        Endpoint { host: host.to_owned(), port: pod.variable(PORT).unwrap_or("443").parse().ok()? };
    Some(endpoint.to_string()).filter(|address| address != SERVER && address != DUMMY)
}

/// By what a pod shows that it will ask the API on this node; `None` when it does not seem to.
fn asks(pod: &PodHere) -> Option<String> {
    if own_server(pod).is_some() {
        return None;
    }
    let words = ["kubernetes.default", "127.0.0.1:10550", "localhost:10550", "169.254.30.10"];
    if let Some(word) = words.into_iter().find(|word| pod.says(word).is_some()) {
        return Some(format!("names {word}"));
    }
    // An account of its own is what an operator gives to a program that asks.
    (pod.token && pod.account != "default").then(|| format!("has the account {}", pod.account))
}

fn judge(facts: &Facts, answer: Option<&Answer>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match (&facts.holder, answer) {
        (Some(holder), Some(answer)) => findings.push(judge_holder(&facts.address, holder, answer)),
        _ if facts.wanted => findings.push(
            Finding::warning("KE-META-011", NAME, format!("asked for in edgecore.yaml; nobody serves {}", facts.address))
                .because("kedge does not serve the edge's Kubernetes API yet; programs that ask it get `connection refused`; pods that do are named by KE-META-012")
.fix("kedge config set modules.metaManager.metaServer.enable=false").fixable(),
        ),
        _ => {}
    }
    if !matches!(answer, Some(Answer::Serves { .. } | Answer::Plain(_))) {
        findings.extend(judge_pods(&facts.pods));
    }
    findings
}

fn judge_pods(pods: &[PodHere]) -> Option<Finding> {
    let asking: Vec<(&PodHere, String)> = pods.iter().filter_map(|pod| Some((pod, asks(pod)?))).collect();
    let (first, _) = asking.first()?;
    let names: Vec<String> = asking.iter().map(|(pod, why)| format!("{} ({why})", pod.title())).collect();
    let way = match &first.owner {
        Some(owner) => format!(
            "kubectl -n {} set env {owner} {HOST}=<API server> {PORT}=6443 (on the cloud)",
            first.namespace
        ),
        None => format!("set {HOST}=<API server> and {PORT}=6443 in the containers of {}", first.title()),
    };
    let seen = format!("asked for by {}", listed(names.iter().map(String::as_str)));
    Some(
        Finding::warning("KE-META-012", NAME, seen)
            .because(
                "no Kubernetes API is served on this node yet, so in-cluster clients in these pods find no server; they \
                 work where they are told the cluster's own server and this node has a way to it",
            )
            .fix(format!("{way}, or give them what they read as a ConfigMap or Secret")),
    )
}

/// What somebody has answered.
#[derive(Debug)]
enum Answer {
    /// TLS with a certificate of an authority that pods trust.
    Serves {
        status: StatusCode,
        took: Duration,
    },
    /// HTTP without TLS, as KubeEdge serves it by default.
    Plain(StatusCode),
    /// TLS with a certificate of somebody else.
    Stranger(String),
    Silent(String),
}

/// Asks whoever holds the edge API's address; without a token, as it may be anybody.
async fn ask_unknown(address: &str, authorities: impl Iterator<Item = &String>) -> Answer {
    let Some(endpoint) = Endpoint::parse(address, 10550) else {
        return Answer::Silent("the address cannot be used".to_owned());
    };
    let mut last = Answer::Silent("it shows no certificate that pods know".to_owned());
    let mut known: Vec<&String> = authorities.collect();
    known.dedup();
    for authority in known {
        last = ask_by_tls(&endpoint, authority, None).await;
        if !matches!(last, Answer::Stranger(_)) {
            break;
        }
    }
    if !matches!(last, Answer::Silent(_)) {
        return last;
    }
    // Somebody without TLS, or nobody has an authority to compare with.
    match unverified_client_config() {
        Ok(anyone) if dial(&endpoint, anyone.clone(), LIMIT).await.is_ok() => {
            Answer::Stranger("its certificate cannot be compared with any authority".to_owned())
        }
        _ => ask_plainly(&endpoint).await,
    }
}

async fn ask_by_tls(endpoint: &Endpoint, authority: &str, token: Option<&str>) -> Answer {
    let tls = match client_config(authority, None) {
        Ok(tls) => tls,
        Err(failure) => return Answer::Silent(failure.why),
    };
    let started = Instant::now();
    match dial(endpoint, tls, LIMIT).await {
        Ok(stream) => match within(exchange(stream, &endpoint.to_string(), request(token), ANSWER)).await {
            Ok(status) => Answer::Serves { status, took: started.elapsed() },
            Err(why) => Answer::Silent(why),
        },
        Err(DialError::Tls(error @ rustls::Error::InvalidCertificate(_))) => {
            Answer::Stranger(error.to_string())
        }
        Err(error) => Answer::Silent(error.to_string()),
    }
}

async fn ask_plainly(endpoint: &Endpoint) -> Answer {
    match reach(endpoint, LIMIT).await {
        Ok(stream) => match within(exchange(stream, &endpoint.to_string(), request(None), ANSWER)).await {
            Ok(status) => Answer::Plain(status),
            Err(why) => Answer::Silent(why),
        },
        Err(error) => Answer::Silent(error.to_string()),
    }
}

fn request(token: Option<&str>) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::new(Full::default());
    *request.uri_mut() = http::Uri::from_static(QUESTION);
    let bearer = token.and_then(|token| http::HeaderValue::from_str(&format!("Bearer {token}")).ok());
    if let Some(bearer) = bearer {
        request.headers_mut().insert(http::header::AUTHORIZATION, bearer);
    }
    request
}

async fn within<B, E: std::fmt::Display>(
    asked: impl Future<Output = Result<http::Response<B>, E>>,
) -> Result<StatusCode, String> {
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(answer)) => Ok(answer.status()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

fn judge_holder(address: &str, holder: &Holder, answer: &Answer) -> Finding {
    let who = match &holder.unit {
        Some(unit) => format!("{address} is held by {} (pid {}, {unit})", holder.name, holder.pid),
        None => format!("{address} is held by {} (pid {})", holder.name, holder.pid),
    };
    let end = match &holder.unit {
        Some(unit) => format!("systemctl disable --now {unit}"),
        None => format!("kill {}", holder.pid),
    };
    let taken = |seen: String| {
        Finding::warning("KE-META-013", NAME, seen)
            .because("it is not kedge: pods that ask for the Kubernetes API at this address get its answers")
            .fix(format!("{end}, unless it is meant to stand in for the edge API"))
    };
    match answer {
        Answer::Serves { status, took } if status.is_success() || *status == StatusCode::UNAUTHORIZED => {
            Finding::fine(
                "KE-META-010",
                NAME,
                format!("{who}, and answers {status} by TLS in {} ms", took.as_millis()),
            )
        }
        Answer::Serves { status, .. } => taken(format!("{who}, and answers {status}")),
        Answer::Plain(status) => taken(format!("{who}, and answers {status} without TLS")),
        Answer::Stranger(why) => taken(format!("{who}, with a certificate that pods do not trust: {why}")),
        Answer::Silent(why) => taken(format!("{who}, and does not answer: {why}")),
    }
}

async fn ask_target(target: &Target) -> Finding {
    let answer = match (Endpoint::parse(&target.address, 443), &target.authority) {
        (Some(endpoint), Some(authority)) => ask_by_tls(&endpoint, authority, target.token.as_deref()).await,
        (None, _) => Answer::Silent("the address cannot be used".to_owned()),
        (_, None) => {
            Answer::Silent("the pod has no certificate to check the server by (kube-root-ca.crt)".to_owned())
        }
    };
    judge_target(target, &answer)
}

/// The pod's own way to the cluster's API server, tried with its own token and authority.
fn judge_target(target: &Target, answer: &Answer) -> Finding {
    let name = format!("API of {}", target.pod);
    let at = &target.address;
    let wrong = |seen: String, why: &str, fix: String| {
        Finding::warning("KE-META-014", name.clone(), format!("{at}: {seen}")).because(why).fix(fix)
    };
    match answer {
        Answer::Serves { status, took } if status.is_success() => {
            let with = if target.token.is_some() { "the pod's token" } else { "nobody" };
            Finding::fine("KE-META-014", name, format!("{at} answers {with} in {} ms", took.as_millis()))
        }
        Answer::Serves { status, .. } => wrong(
            format!("answers {status} to the pod's token"),
            "the server does not know the token's account, or gives it no rights",
            format!(
                "kubectl auth can-i --list --as system:serviceaccount:… for {} (on the cloud)",
                target.pod
            ),
        ),
        Answer::Stranger(error) => wrong(
            error.clone(),
            "the pod trusts the cluster's authority alone, and another server answers, or under a name it does not have",
            format!("set {HOST} to an address that the API server's certificate names"),
        ),
        Answer::Plain(_) => {
            wrong("no TLS".to_owned(), "in-cluster clients speak TLS", format!("correct {HOST} and {PORT}"))
        }
        Answer::Silent(why) => wrong(
            why.clone(),
            "the pod's environment names this server, and this node does not reach it",
            format!("open TCP {at} for this node, or correct {HOST} and {PORT}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;

    fn pod(account: &str, token: bool, env: &[(&str, &str)]) -> PodHere {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        PodHere {
            namespace: "d".into(),
            name: "p".into(),
            account: account.into(),
            token,
            env,
            ..PodHere::default()
        }
    }

    fn facts(pods: Vec<PodHere>, wanted: bool) -> Facts {
        let (authorities, targets) = (BTreeMap::new(), Vec::new());
        Facts { address: SERVER.into(), wanted, holder: None, pods, authorities, targets }
    }

    fn codes(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| &*finding.code).collect()
    }

    #[test]
    fn pods_that_would_ask_are_told_from_those_that_only_could() {
        assert_eq!(asks(&pod("default", true, &[])), None);
        assert_eq!(asks(&pod("robot", false, &[])), None);
        assert_eq!(asks(&pod("robot", true, &[])).unwrap(), "has the account robot");
        let named = pod("default", true, &[("URL", "https://kubernetes.default.svc/api")]);
        assert_eq!(asks(&named).unwrap(), "names kubernetes.default");
        let direct = pod("robot", true, &[(HOST, "10.0.0.1"), (PORT, "6443")]);
        assert_eq!((asks(&direct), own_server(&direct).as_deref()), (None, Some("10.0.0.1:6443")));
        assert_eq!(own_server(&pod("robot", true, &[(HOST, "169.254.30.10"), (PORT, "10550")])), None);
    }

    #[test]
    fn what_is_asked_for_and_not_there_ends_with_what_to_do() {
        assert!(judge(&facts(vec![pod("default", true, &[])], false), None).is_empty());
        let findings = judge(&facts(vec![pod("robot", true, &[])], true), None);
        assert_eq!(codes(&findings), ["KE-META-011", "KE-META-012"]);
        assert!(findings.iter().all(|finding| finding.state == State::Warning && !finding.fix.is_empty()));
        assert!(findings[1].seen.contains("d/p (has the account robot)"), "{findings:?}");
        let mut owned = pod("robot", true, &[]);
        owned.owner = Some("deployment/web".into());
        let fix = &judge_pods(&[owned]).unwrap().fix;
        assert!(fix.starts_with("kubectl -n d set env deployment/web KUBERNETES_SERVICE_HOST="), "{fix}");
    }

    #[test]
    fn who_holds_the_address_is_named_with_what_it_answers() {
        let holder = Holder { pid: 7, name: "nginx".into(), unit: None };
        let told = |answer| judge_holder(SERVER, &holder, &answer);
        let plain = told(Answer::Plain(StatusCode::NOT_FOUND));
        assert_eq!((&*plain.code, plain.state), ("KE-META-013", State::Warning));
        assert!(plain.seen.contains("nginx (pid 7)") && plain.fix.starts_with("kill 7"), "{plain:?}");
        assert_eq!(told(Answer::Stranger("x".into())).state, State::Warning);
        let serves = |status| Answer::Serves { status, took: Duration::from_millis(3) };
        assert_eq!(told(serves(StatusCode::UNAUTHORIZED)).state, State::Fine);
        // A stand-in that serves takes the pods' trouble away.
        let with = Facts { holder: Some(holder.clone()), ..facts(vec![pod("robot", true, &[])], true) };
        assert_eq!(codes(&judge(&with, Some(&serves(StatusCode::OK)))), ["KE-META-010"]);
        let silent = judge(&with, Some(&Answer::Silent("no".into())));
        assert_eq!(codes(&silent), ["KE-META-013", "KE-META-012"]);
    }

    #[test]
    fn a_pods_own_way_is_judged_by_its_answer() {
        let target = Target {
            pod: "d/p".into(),
            address: "10.0.0.1:6443".into(),
            authority: None,
            token: Some("t".into()),
        };
        let told = |answer| judge_target(&target, &answer);
        let serves = |status| Answer::Serves { status, took: Duration::from_millis(3) };
        assert_eq!(told(serves(StatusCode::OK)).seen, "10.0.0.1:6443 answers the pod's token in 3 ms");
        for answer in
            [serves(StatusCode::UNAUTHORIZED), Answer::Stranger("x".into()), Answer::Silent("y".into())]
        {
            let finding = told(answer);
            assert_eq!((&*finding.code, finding.state), ("KE-META-014", State::Warning));
            assert!(!finding.fix.is_empty());
        }
    }
}
