//! HTTPS of the cloud for nodes that join (protocol.md §2.4): the authority's certificate, node certificates for a token
//! or a certificate, and whether a node is known. Task reports go to `reports`, releases come from `releases`.

use super::registry::Registry;
use super::reports::{self, Place};
use super::{Arrival, Config, KnownNode, NotYet, Refusals, Releases, authz, releases};
use crate::base::Failure;
use crate::link::http::{Body, Caller, full, text};
use crate::model::NodeName;
use crate::model::machine::MACHINE_HEADER;
use crate::pki::{TokenError, Usages, accept, csr_key, csr_names, csr_peer, holder};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A request with a P-256 key has 300 bytes; KubeEdge takes a MiB.
const CSR_LIMIT: usize = 16 << 10;
/// Digits of a key's fingerprint that a person is shown.
const KEY_SHOWN: usize = 16;
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// What requests are answered with.
#[derive(Clone)]
pub(super) struct Desk {
    pub config: Arc<Config>,
    pub refusals: Refusals,
    pub arrivals: mpsc::Sender<Arrival>,
    pub releases: Releases,
    pub registry: Registry,
}

/// Answers one request.
pub(super) async fn handle(desk: Desk, request: Request<Incoming>, caller: Arc<Caller>) -> Response<Body> {
    let Desk { config, refusals, arrivals, releases, registry } = desk;
    let path = request.uri().path().to_owned();
    let place = Place::of(&path);
    match (request.method(), place) {
        (&Method::POST, Some(place)) => return reports::take(place, request, &caller, &arrivals).await,
        (&Method::GET, None) => {}
        _ => return text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"),
    }
    if let Some(asked) = releases::asked(&path) {
        return releases.hand_out(config.releases.clone(), asked, &caller).await;
    }
    match path.as_str() {
        "/ca.crt" => der(config.trust.borrow().authority.cert_der().to_vec()),
        "/edge.crt" => certificate(config, &refusals, &registry, request, caller).await,
        _ => match path.strip_prefix("/node/") {
            Some(name) if !name.is_empty() && !name.contains('/') => match (config.known_node)(name) {
                Ok(Some(_)) => text(StatusCode::OK, "Node founded"),
                Ok(None) => text(StatusCode::NOT_FOUND, "Node not found"),
                Err(NotYet) => not_yet(),
            },
            _ => text(StatusCode::NOT_FOUND, "not found"),
        },
    }
}

/// Until the Nodes are listed, a name that is somebody's looks like a free one. That takes an API that answers, and then
/// no time to speak of.
fn not_yet() -> Response<Body> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "the cloud has just started, try again at once");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn der(bytes: Vec<u8>) -> Response<Body> {
    Response::new(full(bytes))
}

async fn certificate(
    config: Arc<Config>,
    refusals: &Refusals,
    registry: &Registry,
    request: Request<Incoming>,
    caller: Arc<Caller>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let remote = caller.remote;
    let said = parts.headers.get("NodeName").and_then(|value| value.to_str().ok());
    let said = said.and_then(|name| NodeName::new(name).ok()).map_or_else(String::new, |n| n.to_string());
    let body = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, CSR_LIMIT).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body,
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let why = "the certificate signing request is larger than allowed";
            refusals.refuse_certificate(&said, why, why, remote);
            return text(StatusCode::PAYLOAD_TOO_LARGE, why);
        }
        _ => {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the certificate signing request cannot be read");
        }
    };
    let csr = body.to_bytes();
    let (desk, counting) = (config.clone(), config.clone());
    let issued = tokio::task::spawn_blocking(move || issue(&desk, &parts.headers, &csr, &caller)).await;
    let issued = match issued {
        Ok(Ok(issued)) => Ok(hand_out(&counting, registry, issued).await),
        Ok(Err(refusal)) => Ok(Err(refusal)),
        Err(error) => Err(error),
    };
    match issued {
        Ok(Ok(certificate)) => der(certificate),
        Ok(Err(Refusal::Unauthorized { why, detail })) => {
            refusals.refuse_certificate(&said, why, &detail, remote);
            text(StatusCode::UNAUTHORIZED, detail)
        }
        Ok(Err(Refusal::Taken(why))) => {
            refusals.refuse_certificate(&said, "the name is another machine's", &why, remote);
            text(StatusCode::CONFLICT, why)
        }
        Ok(Err(Refusal::NotYet)) => not_yet(),
        Ok(Err(Refusal::Failed(failure))) => {
            refusals.refuse_certificate(&said, failure.code, &failure.to_string(), remote);
            text(StatusCode::INTERNAL_SERVER_ERROR, failure.to_string())
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the certificate could not be issued"),
    }
}

enum Refusal {
    /// `why` names the kind by which it is counted.
    Unauthorized {
        why: &'static str,
        detail: String,
    },
    /// The name is another machine's.
    Taken(String),
    /// Whose the name is, is not known yet.
    NotYet,
    Failed(Failure),
}

/// A certificate that is signed and not yet handed out.
struct Issued {
    certificate: Vec<u8>,
    used: Option<Used>,
    /// Who may not push out whoever lives under the name.
    newcomer: Option<Newcomer>,
}

/// A machine that comes with a token and a key of its own.
struct Newcomer {
    node: String,
    key: String,
}

/// Signed first, counted then, handed out last: what cannot be signed costs no use, and what is not handed out because
/// somebody dies in between is issued again to the same machine.
async fn hand_out(config: &Config, registry: &Registry, issued: Issued) -> Result<Vec<u8>, Refusal> {
    let Issued { certificate, used, newcomer } = issued;
    if let Some(newcomer) = newcomer {
        alone(registry, &newcomer).await?;
    }
    if let Some(used) = used {
        count(config, used).await?;
    }
    Ok(certificate)
}

/// A cloned disk has the mark of the machine that it was made from, so that only a key tells the two apart. A machine
/// that comes back after a reset, or whose daemon has a new key, has no session that answers.
async fn alone(registry: &Registry, newcomer: &Newcomer) -> Result<(), Refusal> {
    let Newcomer { node, key } = newcomer;
    let Some(living) = registry.living(node, key).await else { return Ok(()) };
    let short = |key: &str| key.chars().take(KEY_SHOWN).collect::<String>();
    Err(Refusal::Taken(format!(
        "the name {node} is held by a daemon that answers from {}, its key is {}, and the key of this one is {}",
        living.remote.ip(),
        short(&living.key),
        short(key),
    )))
}

/// The use of a token that is still to be counted.
struct Used {
    id: String,
    holder: String,
}

async fn count(config: &Config, used: Used) -> Result<(), Refusal> {
    let Used { id, holder } = used;
    if let Some(count) = &config.count {
        return count(id, holder).await.map_err(not_accepted);
    }
    let book = config.tokens.clone();
    let counted = tokio::task::spawn_blocking(move || book.count(&id, &holder)).await;
    counted.unwrap_or(Err(TokenError::BookUnreadable)).map_err(not_accepted)
}

/// The certificate, to be handed out once the use is counted.
fn issue(config: &Config, headers: &HeaderMap, csr: &Bytes, caller: &Caller) -> Result<Issued, Refusal> {
    let unauthorized = |why: &'static str| Refusal::Unauthorized { why, detail: why.to_owned() };
    let wanted = csr_peer(csr).ok_or_else(|| bad_request("it cannot be read"))?;
    let node = match headers.get("NodeName").map(|value| value.to_str()) {
        Some(Ok(name)) => name.to_owned(),
        Some(Err(_)) => return Err(unauthorized("the header NodeName is not text")),
        None => authz::node_of(&wanted).map(|node| node.to_string()).unwrap_or_default(),
    };
    if NodeName::new(node.clone()).is_err() || !authz::is_node(&wanted, &node) {
        return Err(unauthorized("the request must be for system:node:<NodeName> in system:nodes"));
    }
    let authority = config.trust.borrow().authority.clone();
    let (mut used, mut newcomer) = (None, None);
    match &caller.peer {
        Some(peer) if authz::is_node(peer, &node) => {}
        Some(peer) if authz::is_former(peer) => {
            // It was all nodes' and says no more of a name than a token.
            if let Some(why) = taken(config, headers, &node)? {
                return Err(Refusal::Taken(why));
            }
            tracing::warn!(node, remote = %caller.remote, "a certificate of an old KubeEdge is exchanged for a node's own");
        }
        Some(_) => return Err(unauthorized("the client certificate is not this node's")),
        None => {
            let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let Some(("Bearer" | "bearer", token)) = bearer.and_then(|value| value.split_once(' ')) else {
                return Err(unauthorized("a token or a client certificate is needed"));
            };
            // A machine that may not have the name must not use a token up.
            let may_take = config.tokens.allows_takeover(&authority, token, &node).map_err(not_accepted)?;
            if !may_take && let Some(why) = taken(config, headers, &node)? {
                return Err(Refusal::Taken(why));
            }
            newcomer = (!may_take).then(|| Newcomer { node: node.clone(), key: csr_key(csr) });
            let accepted = accept(&authority, token, &node).map_err(not_accepted)?;
            used = match accepted.id {
                Some(id) if accepted.counted => Some(Used { id, holder: held_by(headers, csr, &node) }),
                // Where there is nothing to count, the word of the last list that came holds without the API.
                Some(id) if !config.tokens.has(&id).map_err(not_accepted)? => {
                    return Err(not_accepted(TokenError::UsedUp));
                }
                Some(_) | None => None,
            };
        }
    }
    let usages = usages(headers.get("ExtKeyUsages"))?;
    if usages.server && !csr_names(csr).iter().all(|name| is_local(name)) {
        return Err(bad_request(
            "a node may be a server on this machine only: localhost, loopback, link-local",
        ));
    }
    let certificate = authority.sign_csr(csr, config.certificate_life, usages).map_err(Refusal::Failed)?;
    // What is for servers only opens no session.
    let newcomer = newcomer.filter(|_| usages.client);
    Ok(Issued { certificate, used, newcomer })
}

/// Who asks: the machine as it says, or its key where it says nothing, as an edgecore does.
fn held_by(headers: &HeaderMap, csr: &Bytes, node: &str) -> String {
    let machine = headers.get(MACHINE_HEADER).and_then(|value| value.to_str().ok());
    let mark =
        machine.map_or_else(|| format!("key {}", csr_key(csr)), |machine| format!("machine {machine}"));
    holder(node, &mark)
}

fn not_accepted(error: TokenError) -> Refusal {
    match error {
        TokenError::BookUnreadable => Refusal::Failed(
            Failure::new("KE-TOKEN-010", "the list of tokens cannot be read or written")
                .because("the cloud's log says why")
                .fix("`kedge doctor` on the cloud's machine shows what is wrong with it; then join again"),
        ),
        other => Refusal::Unauthorized {
            why: "the token is not accepted",
            detail: format!("the token is not accepted: {other}"),
        },
    }
}

/// Why a node may not have its name: the Node of that name is another's. Every replica sees that in the Node itself.
/// An edgecore does not say which machine it is and is believed, but for the name of a Node that some kubelet runs. A
/// machine that does say who it is gets no Node that is not known to be its own or an idle edge node's.
fn taken(config: &Config, headers: &HeaderMap, node: &str) -> Result<Option<String>, Refusal> {
    let known = (config.known_node)(node).map_err(|NotYet| Refusal::NotYet)?;
    Ok(known.and_then(|known| why_taken(&known, headers, node)))
}

fn why_taken(known: &KnownNode, headers: &HeaderMap, node: &str) -> Option<String> {
    let ours = headers.get(MACHINE_HEADER).and_then(|machine| machine.to_str().ok());
    match (&known.machine, ours) {
        _ if known.foreign => Some(format!("the Node {node} is no edge node: a kubelet runs it")),
        (Some(theirs), Some(ours)) if theirs != ours => Some(format!(
            "the name {node} is held by the machine {theirs}, and this one is {}",
            shortened(ours)
        )),
        (None, Some(_)) if !known.edge => {
            Some(format!("the Node {node} exists already, and it has not the role of an edge node"))
        }
        (None, Some(_)) if known.ready => {
            Some(format!("the Node {node} is Ready, and has not told which machine it is"))
        }
        _ => None,
    }
}

fn shortened(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(64).collect()
}

fn bad_request(why: &str) -> Refusal {
    Refusal::Failed(
        Failure::new("KE-PKI-006", "the certificate signing request cannot be signed")
            .because(why)
            .fix("join with a kedge or a keadm of this cloud's version"),
    )
}

/// Reads Go's numbers of extended key usages: 1 is a server's, 2 a client's; nothing else suits a node.
fn usages(header: Option<&HeaderValue>) -> Result<Usages, Refusal> {
    let Some(header) = header.filter(|header| !header.is_empty()) else { return Ok(Usages::CLIENT) };
    let wrong = || bad_request("ExtKeyUsages must be [1], [2] or [1,2]");
    let numbers: Vec<u8> = serde_json::from_slice(header.as_bytes()).map_err(|_| wrong())?;
    let usages = Usages { server: numbers.contains(&1), client: numbers.contains(&2) };
    let known = numbers.iter().all(|number| (1..=2).contains(number));
    if known && (usages.server || usages.client) { Ok(usages) } else { Err(wrong()) }
}

/// Nodes trust any server of this authority by its name: no node may get a certificate that names the cloud.
fn is_local(name: &str) -> bool {
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unicast_link_local(),
        Err(_) => name == "localhost",
    }
}
