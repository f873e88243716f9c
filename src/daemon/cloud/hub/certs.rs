//! HTTPS of the cloud for nodes that join (protocol.md §2.4): the authority's certificate, node certificates for a token
//! or a certificate, and whether a node is known.

use super::{Config, authz};
use crate::base::Failure;
use crate::link::http::{Body, Caller, full, text};
use crate::pki::{TokenError, Usages, csr_peer};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;

const CSR_LIMIT: usize = 1 << 20;
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// Answers one request.
pub(super) async fn handle(
    config: Arc<Config>,
    request: Request<Incoming>,
    caller: Arc<Caller>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
    }
    match path.as_str() {
        "/ca.crt" => der(config.trust.borrow().authority.cert_der().to_vec()),
        "/edge.crt" => certificate(config, request, caller).await,
        _ => match path.strip_prefix("/node/") {
            Some(name) if !name.is_empty() && !name.contains('/') => {
                if (config.known_node)(name) {
                    text(StatusCode::OK, "Node founded")
                } else {
                    text(StatusCode::NOT_FOUND, "Node not found")
                }
            }
            _ => text(StatusCode::NOT_FOUND, "not found"),
        },
    }
}

fn der(bytes: Vec<u8>) -> Response<Body> {
    Response::new(full(bytes))
}

async fn certificate(config: Arc<Config>, request: Request<Incoming>, caller: Arc<Caller>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, CSR_LIMIT).collect()).await;
    let Ok(Ok(body)) = body else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the certificate signing request cannot be read");
    };
    let csr = body.to_bytes();
    let issued = tokio::task::spawn_blocking(move || issue(&config, &parts.headers, &csr, &caller)).await;
    match issued {
        Ok(Ok(certificate)) => der(certificate),
        Ok(Err(Refusal::Unauthorized(why))) => {
            tracing::warn!(reason = %why, "a certificate was refused");
            text(StatusCode::UNAUTHORIZED, why)
        }
        Ok(Err(Refusal::Failed(failure))) => {
            tracing::warn!(code = failure.code, error = %failure, "a certificate could not be issued");
            text(StatusCode::INTERNAL_SERVER_ERROR, failure.to_string())
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the certificate could not be issued"),
    }
}

enum Refusal {
    Unauthorized(String),
    Failed(Failure),
}

fn issue(config: &Config, headers: &HeaderMap, csr: &Bytes, caller: &Caller) -> Result<Vec<u8>, Refusal> {
    let unauthorized = |why: &str| Refusal::Unauthorized(why.to_owned());
    let unreadable = || Failure::new("KE-PKI-006", "the certificate signing request cannot be read");
    let wanted = csr_peer(csr).ok_or_else(|| Refusal::Failed(unreadable()))?;
    let node = match headers.get("NodeName").map(|value| value.to_str()) {
        Some(Ok(name)) => name.to_owned(),
        Some(Err(_)) => return Err(unauthorized("the header NodeName is not text")),
        None => authz::node_of(&wanted).map(|node| node.to_string()).unwrap_or_default(),
    };
    if crate::model::NodeName::new(node.clone()).is_err() || !authz::is_node(&wanted, &node) {
        return Err(unauthorized("the request must be for system:node:<NodeName> in system:nodes"));
    }
    let authority = config.trust.borrow().authority.clone();
    match &caller.peer {
        Some(peer) if authz::is_node(peer, &node) => {}
        Some(_) => return Err(unauthorized("the client certificate is not this node's")),
        None => {
            let bearer = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let Some(("Bearer" | "bearer", token)) = bearer.and_then(|value| value.split_once(' ')) else {
                return Err(unauthorized("a token or a client certificate is needed"));
            };
            config.tokens.verify(&authority, token, &node).map_err(|error| match error {
                TokenError::BookUnreadable => Refusal::Failed(Failure::new(
                    "KE-TOKEN-010",
                    "the list of tokens cannot be read or written",
                )),
                other => Refusal::Unauthorized(format!("the token is not accepted: {other}")),
            })?;
        }
    }
    authority.sign_csr(csr, config.certificate_life, Usages::CLIENT).map_err(Refusal::Failed)
}
