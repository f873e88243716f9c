//! The part of the kubelet API that is served: container logs, exec, attach, port-forward, and what nodes and pods use.
//! Everything else is answered with a clear `Status`.

use super::super::control::PodIndex;
use super::exec::{self, Pipe};
use super::metrics;
use super::tunnels::Tunnels;
use crate::link::http::{Body, full, stream};
use crate::model::{NodeName, Status};
use crate::wire::tunnel::FrameKind;
use futures_util::stream::unfold;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// A genuine edge says nothing when its kubelet does not answer: a log that is not followed has ended when nothing came
/// for so long.
const SILENCE: Duration = Duration::from_secs(30);
const FOLLOWED: Duration = Duration::from_secs(24 * 3600);

pub(super) struct Requests {
    pub tunnels: Arc<Tunnels>,
    pub pods: Arc<Mutex<PodIndex>>,
    pub pipes: mpsc::Sender<Pipe>,
}

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked<'a> {
    Logs {
        namespace: &'a str,
        pod: &'a str,
    },
    /// A connection both ways with a container.
    Exec {
        kind: FrameKind,
        namespace: &'a str,
        pod: &'a str,
    },
    /// What a node and its pods use.
    Metrics,
    NotServed(&'a str),
    Unknown,
}

fn parse(path: &str) -> Asked<'_> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        ["containerLogs", namespace, pod, container] if ![*namespace, *pod, *container].contains(&"") => {
            Asked::Logs { namespace, pod }
        }
        [verb @ ("exec" | "attach"), namespace, pod, rest @ ..]
            if matches!(rest.len(), 1 | 2) && !parts.contains(&"") =>
        {
            let kind = if *verb == "exec" { FrameKind::ExecConnect } else { FrameKind::AttachConnect };
            Asked::Exec { kind, namespace, pod }
        }
        // No frame of its own: the node tells it from exec by the path.
        ["portForward", namespace, pod, rest @ ..] if rest.len() < 2 && !parts.contains(&"") => {
            Asked::Exec { kind: FrameKind::ExecConnect, namespace, pod }
        }
        // As far as cloudcore passes them on; what of it is there the node knows.
        ["metrics"] | ["metrics", "resource" | "cadvisor" | "probes"] => Asked::Metrics,
        ["stats"] | ["stats", "summary" | "container"] | ["stats", _, _] | ["stats", _, _, _, _]
            if !parts.contains(&"") =>
        {
            Asked::Metrics
        }
        [verb @ ("stats" | "metrics" | "cp" | "run" | "checkpoint"), ..] => Asked::NotServed(verb),
        _ => Asked::Unknown,
    }
}

impl Requests {
    pub(super) async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        match parse(&path) {
            Asked::Logs { namespace, pod } if request.method() == Method::GET => {
                self.logs(&request, namespace, pod).await
            }
            Asked::Exec { kind, namespace, pod } => {
                let Some(node) = self.node_of(&request, namespace, pod) else {
                    return refuse(404, "NotFound", format!("pod {namespace}/{pod} runs on no edge node"));
                };
                let connect = match exec::connect(&request) {
                    Ok(connect) => connect,
                    Err(why) => return refuse(400, "BadRequest", why),
                };
                match self.tunnels.attach(&node, kind, connect).await {
                    Some(running) => exec::open(&mut request, running, &self.pipes).await,
                    None => no_tunnel(&node),
                }
            }
            Asked::Metrics if request.method() == Method::GET => {
                metrics::answer(&self.tunnels, &request).await
            }
            Asked::Metrics => refuse(405, "MethodNotAllowed", "metrics are read with GET"),
            Asked::Logs { .. } => refuse(405, "MethodNotAllowed", "logs are read with GET"),
            Asked::NotServed(verb) => {
                refuse(501, "NotImplemented", format!("{verb} is not served on edge nodes of this version"))
            }
            Asked::Unknown => refuse(404, "NotFound", "the kubelet API of edge nodes has no such path"),
        }
    }

    fn node_of(&self, request: &Request<Incoming>, namespace: &str, pod: &str) -> Option<NodeName> {
        let known = self.pods.lock().unwrap_or_else(PoisonError::into_inner).node_of(namespace, pod);
        known.or_else(|| host(request))
    }

    async fn logs(&self, request: &Request<Incoming>, namespace: &str, pod: &str) -> Response<Body> {
        let Some(node) = self.node_of(request, namespace, pod) else {
            return refuse(404, "NotFound", format!("pod {namespace}/{pod} runs on no edge node"));
        };
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let Some(running) = self.tunnels.logs(&node, path, query).await else { return no_tunnel(&node) };
        let follows = query.split('&').any(|pair| matches!(pair, "follow=true" | "follow=1"));
        let patience = if follows { FOLLOWED } else { SILENCE };
        let pieces = unfold(Some(running), move |running| async move {
            let mut running = running?;
            match tokio::time::timeout(patience, running.next()).await {
                Ok(piece) => piece.map(|piece| (Ok(piece), Some(running))),
                Err(_) => Some((Err(std::io::ErrorKind::TimedOut.into()), None)),
            }
        });
        let mut response = Response::new(stream(pieces));
        let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
        response
    }
}

/// The node that the address names, for pods that the cloud has not seen yet.
fn host(request: &Request<Incoming>) -> Option<NodeName> {
    let from_header = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().host().or(from_header)?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    NodeName::new(name).ok()
}

pub(super) fn no_tunnel(node: &NodeName) -> Response<Body> {
    refuse(503, "ServiceUnavailable", format!("node {node} has no stream tunnel to the cloud"))
}

pub(super) fn refuse(code: u16, reason: &str, message: impl Into<String>) -> Response<Body> {
    let mut status = Status::failure(code, reason, message);
    (status.kind, status.api_version) = ("Status".to_owned(), "v1".to_owned());
    let mut response = Response::new(full(serde_json::to_vec(&status).unwrap_or_default()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_is_asked() {
        assert_eq!(parse("/containerLogs/d/p/c"), Asked::Logs { namespace: "d", pod: "p" });
        assert_eq!(parse("/containerLogs/d//c"), Asked::Unknown);
        assert_eq!(parse("/containerLogs/d/p"), Asked::Unknown);
        let exec = Asked::Exec { kind: FrameKind::ExecConnect, namespace: "d", pod: "p" };
        assert_eq!((parse("/exec/d/p/c"), parse("/exec/d/p/uid/c")), (exec.clone(), exec));
        assert_eq!(parse("/attach/d/p"), Asked::Unknown);
        assert!(matches!(parse("/portForward/d/p"), Asked::Exec { pod: "p", .. }));
        for path in ["/stats/summary", "/stats", "/stats/d/p/uid/c", "/metrics", "/metrics/resource"] {
            assert_eq!(parse(path), Asked::Metrics, "{path}");
        }
        assert_eq!(parse("/metrics/other"), Asked::NotServed("metrics"));
        assert_eq!(parse("/stats/a//b/c"), Asked::NotServed("stats"));
        assert_eq!(parse("/"), Asked::Unknown);
    }
}
