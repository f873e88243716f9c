//! What nodes and their pods use: the node that is meant is found and asked, and its answer given only when it is whole.
//! metrics-server names the node by name or address, kube-apiserver's proxy by the path that it was asked for.

use super::requests::{no_tunnel, refuse};
use super::tunnels::Tunnels;
use crate::link::http::{Body, full};
use crate::model::NodeName;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;

/// The longest answer in bytes: of a thousand containers in cAdvisor's form there is room to spare.
const LIMIT: usize = 16 << 20;
/// How long the whole answer may take; metrics-server itself waits ten seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// What of a node's own words about a failure is passed on, in bytes.
const WORDS: usize = 1024;
/// Carries the path at kube-apiserver's proxy.
const FORWARDED: &str = "x-forwarded-uri";

/// Answers a request for metrics.
pub(super) async fn answer(tunnels: &Arc<Tunnels>, request: &Request<Incoming>) -> Response<Body> {
    let forwarded = request.headers().get(FORWARDED).and_then(|path| path.to_str().ok());
    let node = match forwarded.and_then(proxied) {
        Some(node) => node,
        None => match by_host(tunnels, request) {
            Ok(node) => node,
            Err(refusal) => return *refusal,
        },
    };
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let Some(running) = tunnels.metrics(&node, path, query).await else { return no_tunnel(&node) };
    let mut running = running;
    let collected = tokio::time::timeout(PATIENCE, async {
        let mut body = BytesMut::new();
        while let Some(piece) = running.next().await {
            if body.len() + piece.len() > LIMIT {
                return Err(refuse(
                    502,
                    "BadGateway",
                    format!("node {node} answers more than {LIMIT} bytes"),
                ));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    });
    match collected.await {
        Ok(Ok(body)) => whole(&node, path, body, running.end()),
        Ok(Err(refusal)) => refusal,
        Err(_) => {
            let why = format!("node {node} did not answer within {} s", PATIENCE.as_secs());
            refuse(504, "Timeout", why)
        }
    }
}

fn whole(node: &NodeName, path: &str, body: Bytes, end: Option<Bytes>) -> Response<Body> {
    let Some(end) = end else {
        return refuse(502, "BadGateway", format!("the tunnel of node {node} broke within its answer"));
    };
    if body.is_empty() {
        let words = String::from_utf8_lossy(end.get(..end.len().min(WORDS)).unwrap_or_default());
        // A genuine edgecore that cannot answer says nothing.
        let words = if words.is_empty() { "nothing" } else { words.trim() };
        return refuse(502, "BadGateway", format!("node {node} has no answer for {path}: {words}"));
    }
    let mut response = Response::new(full(body));
    let is_json = path.starts_with("/stats");
    let kind = if is_json { "application/json" } else { "text/plain; version=0.0.4; charset=utf-8" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The node in `/api/v1/nodes/NODE/proxy/…`, or in `https:NODE:PORT` at its place.
fn proxied(path: &str) -> Option<NodeName> {
    let (node, rest) = path.strip_prefix("/api/v1/nodes/")?.split_once('/')?;
    let rest = rest.split('?').next().unwrap_or_default();
    if rest != "proxy" && !rest.starts_with("proxy/") {
        return None;
    }
    let plain = node.split(':').find(|part| !part.is_empty() && !matches!(*part, "http" | "https"))?;
    NodeName::new(plain).ok()
}

/// The only node that the request's address means.
fn by_host(tunnels: &Tunnels, request: &Request<Incoming>) -> Result<NodeName, Box<Response<Body>>> {
    let from_header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().host().or(from_header).unwrap_or_default();
    let host = without_port(host);
    let mut nodes = tunnels.meant_by(host);
    match (nodes.pop(), nodes.as_slice()) {
        (Some(only), []) => Ok(only),
        (None, _) => {
            let why = format!("no node named {host}, or with that address, has a stream tunnel to the cloud");
            Err(Box::new(refuse(503, "ServiceUnavailable", why)))
        }
        (Some(last), others) => {
            let names: Vec<&str> = others.iter().chain([&last]).map(NodeName::as_str).collect();
            let why = format!("several nodes tell the address {host}: {}; ask by name", names.join(", "));
            Err(Box::new(refuse(409, "Conflict", why)))
        }
    }
}

/// A host as it may stand in a request, without its port.
fn without_port(host: &str) -> &str {
    if let Some(end) = host.find(']') {
        return host.get(..=end).unwrap_or(host);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kube_apiservers_proxy_names_the_node() {
        let node = |path| proxied(path).map(|node| node.to_string());
        assert_eq!(node("/api/v1/nodes/edge-1/proxy/stats/summary"), Some("edge-1".to_owned()));
        assert_eq!(node("/api/v1/nodes/edge-1:10250/proxy/metrics/resource"), Some("edge-1".to_owned()));
        assert_eq!(node("/api/v1/nodes/https:edge-1:10250/proxy"), Some("edge-1".to_owned()));
        for other in
            ["/api/v1/nodes/edge-1", "/api/v1/nodes/edge-1/status", "/api/v1/pods/a/proxy/", "edge-1", ""]
        {
            assert_eq!(node(other), None, "{other}");
        }
    }

    #[test]
    fn ports_are_taken_off_hosts() {
        let hosts = ["edge-1:10250", "10.0.0.1:1", "[fd00::1]:1", "[fd00::1]", "edge-1"];
        assert_eq!(hosts.map(without_port), ["edge-1", "10.0.0.1", "[fd00::1]", "[fd00::1]", "edge-1"]);
    }

    #[test]
    fn only_whole_answers_are_given() {
        let node = NodeName::new("edge-1").unwrap();
        let status = |body: &'static str, end: Option<&'static str>| {
            let whole = whole(&node, "/metrics/resource", Bytes::from(body), end.map(Bytes::from));
            whole.status().as_u16()
        };
        assert_eq!(status("a 1\n", Some("")), 200);
        assert_eq!(status("a 1\n", None), 502, "cut off");
        assert_eq!(status("", Some("the runtime is away")), 502);
        assert_eq!(status("", Some("")), 502);
    }
}
