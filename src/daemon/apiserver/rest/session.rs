//! `kubectl exec`, `attach`, `cp` and `port-forward`: the upgrade is passed to the node's kubelet API, its answer comes
//! back, and from then on bytes pass unread. SPDY only: a client that offers a WebSocket first is refused and tries SPDY.

use super::logs::{container, encode};
use super::{Api, Asked};
use crate::daemon::apiserver::errors;
use crate::daemon::apiserver::ops::Target;
use crate::link::http::{Body, empty, full};
use crate::model::Status;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::time::Duration;

const ANSWER: Duration = Duration::from_secs(40);
const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const REFUSAL_LIMIT: usize = 64 << 10;

/// Whether a subresource of a pod is a session.
pub(super) fn is_session(target: &Target) -> bool {
    let name = target.subresource.as_deref();
    target.resource.group.is_empty()
        && target.resource.plural == "pods"
        && matches!(name, Some("exec" | "attach" | "portforward"))
}

/// Path and query on the kubelet API; the kubelet has other names for the streams.
fn kubelet_path(asked: &Asked, target: &Target, container: &str) -> String {
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let pod = &target.name;
    let verb = match target.subresource.as_deref() {
        Some("portforward") => return format!("/portForward/{namespace}/{pod}"),
        Some(verb) => verb,
        None => "exec",
    };
    let mut query: Vec<String> =
        asked.query.all("command").iter().map(|word| format!("command={}", encode(word))).collect();
    for (ours, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if asked.query.is_true(ours) {
            query.push(format!("{theirs}=1"));
        }
    }
    format!("/{verb}/{namespace}/{pod}/{}?{}", encode(container), query.join("&"))
}

impl Api {
    /// Begins a session; `upgrade` is the asker's connection once it is answered.
    pub(super) async fn session(
        &self,
        asked: &Asked,
        target: &Target,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Response<Body>, Status> {
        let mut of_pod = target.clone();
        of_pod.subresource = None;
        let pod = self.ops.get(&of_pod)?;
        let is_forward = target.subresource.as_deref() == Some("portforward");
        let container = if is_forward {
            String::new()
        } else {
            container(&pod, &target.name, asked.query.get("container"))?
        };
        if pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
            return Err(errors::bad_request(format!("pod {} does not have a host assigned", target.name)));
        }
        if pod["status"]["phase"] != "Running" {
            let phase = pod["status"]["phase"].as_str().unwrap_or("Pending");
            return Err(errors::bad_request(format!("pod {} is not running: it is {phase}", target.name)));
        }
        let Some(upgrade) = upgrade.filter(|_| asked.header(header::UPGRADE).starts_with("SPDY/")) else {
            return Err(errors::bad_request("Upgrade request required: SPDY/3.1 is served"));
        };
        let kubelet = self.kubelet.as_ref().ok_or_else(errors::no_kubelet)?;
        let url = format!("https://{}{}", kubelet.address, kubelet_path(asked, target, &container));
        let mut request = kubelet.client.post(url).header(header::CONNECTION, "Upgrade");
        request = request.header(header::UPGRADE, "SPDY/3.1");
        for version in asked.headers.get_all(&PROTOCOL) {
            request = request.header(&PROTOCOL, version);
        }
        let unreachable = |why: String| {
            let message = format!("the node of pod {} cannot be reached: {why}", target.name);
            Status::failure(502, "InternalError", message)
        };
        let sent = tokio::time::timeout(ANSWER, request.send()).await;
        let answer = sent.map_err(|_| unreachable("no answer in 40 seconds".to_owned()))?;
        let answer = answer.map_err(|error| unreachable(crate::base::deepest(&error)))?;
        let mut response = Response::new(empty());
        *response.status_mut() = answer.status();
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let text = tokio::time::timeout(ANSWER, answer.bytes()).await.ok().and_then(Result::ok);
            let text = text.unwrap_or_default();
            *response.body_mut() = full(text.slice(..text.len().min(REFUSAL_LIMIT)));
            return Ok(response);
        }
        for name in [header::CONNECTION, header::UPGRADE, PROTOCOL] {
            for value in answer.headers().get_all(&name) {
                response.headers_mut().append(&name, HeaderValue::clone(value));
            }
        }
        let begun = self.errands.try_give(async move {
            let (Ok(asker), Ok(mut node)) = tokio::join!(upgrade, answer.upgrade()) else { return };
            // Either side's end is the session's; how it ended is inside the bytes.
            drop(tokio::io::copy_bidirectional(&mut TokioIo::new(asker), &mut node).await);
        });
        if begun { Ok(response) } else { Err(errors::unavailable("too many sessions at once")) }
    }
}
