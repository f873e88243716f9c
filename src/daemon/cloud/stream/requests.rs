//! The part of the kubelet API that is served: container logs. Everything else is answered with a clear `Status`.

use super::super::control::PodIndex;
use super::tunnels::Tunnels;
use crate::link::http::{Body, full, stream};
use crate::model::{NodeName, Status};
use crate::wire::tunnel::FrameKind;
use futures_util::stream::unfold;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::sync::{Arc, Mutex, PoisonError};

pub(super) struct Requests {
    pub tunnels: Arc<Tunnels>,
    pub pods: Arc<Mutex<PodIndex>>,
}

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    Logs { namespace: &'a str, pod: &'a str },
    NotServed(&'a str),
    Unknown,
}

fn parse(path: &str) -> Asked<'_> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        ["containerLogs", namespace, pod, container] if ![*namespace, *pod, *container].contains(&"") => {
            Asked::Logs { namespace, pod }
        }
        [
            verb @ ("exec" | "attach" | "portForward" | "stats" | "metrics" | "cp" | "run" | "checkpoint"),
            ..,
        ] => Asked::NotServed(verb),
        _ => Asked::Unknown,
    }
}

impl Requests {
    pub(super) async fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        match parse(request.uri().path()) {
            Asked::Logs { namespace, pod } if request.method() == Method::GET => {
                self.logs(request, namespace, pod).await
            }
            Asked::Logs { .. } => refuse(405, "MethodNotAllowed", "logs are read with GET"),
            Asked::NotServed(verb) => {
                refuse(501, "NotImplemented", format!("{verb} is not served on edge nodes of this version"))
            }
            Asked::Unknown => refuse(404, "NotFound", "the kubelet API of edge nodes has no such path"),
        }
    }

    async fn logs(&self, request: &Request<Incoming>, namespace: &str, pod: &str) -> Response<Body> {
        let known = self.pods.lock().unwrap_or_else(PoisonError::into_inner).node_of(namespace, pod);
        let Some(node) = known.or_else(|| host(request)) else {
            return refuse(404, "NotFound", format!("pod {namespace}/{pod} runs on no edge node"));
        };
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let running = self.tunnels.start(&node, FrameKind::LogsConnect, path, query).await;
        let Some(running) = running else {
            return refuse(
                503,
                "ServiceUnavailable",
                format!("node {node} has no stream tunnel to the cloud"),
            );
        };
        let pieces =
            unfold(
                running,
                |mut running| async move { running.next().await.map(|piece| (Ok(piece), running)) },
            );
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

fn refuse(code: u16, reason: &str, message: impl Into<String>) -> Response<Body> {
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
        assert_eq!(parse("/exec/d/p/c"), Asked::NotServed("exec"));
        assert_eq!(parse("/"), Asked::Unknown);
    }
}
