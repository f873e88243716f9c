//! Task reports that `keadm` posts while edgecore is down for an upgrade (protocol.md §2.4): read, checked, and handed
//! on like the reports of a session. KubeEdge takes them from anybody; `keadm` of 1.16 to 1.23 shows the node's
//! certificate, so here a report counts only with the certificate of the node that it is about.

use super::{Arrival, authz};
use crate::link::http::{Body, Caller, text};
use crate::model::NodeName;
use crate::wire::task::TaskReport;
use crate::wire::{MessageId, Question, Up};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::time::Duration;
use tokio::sync::mpsc;

const LIMIT: usize = 3 << 20;
/// For the body, and for the switchboard when it is busy.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    Upgrade,
    Task { kind: &'a str, task: &'a str, node: &'a str },
}

impl Place<'_> {
    /// Reads a path; `None` for any other.
    pub fn of(path: &str) -> Option<Place<'_>> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match *parts.as_slice() {
            ["nodeupgrade"] => Some(Place::Upgrade),
            ["task", kind, "name", task, "node", node, "status"] => Some(Place::Task { kind, task, node }),
            _ => None,
        }
    }

    fn read(self, body: &[u8]) -> Option<TaskReport> {
        // serde would take a list for a struct; Go does not.
        if !body.trim_ascii_start().starts_with(b"{") {
            return None;
        }
        match self {
            Place::Upgrade => TaskReport::of_upgrade(body),
            Place::Task { kind, task, node } => TaskReport::of_request(kind, task, node, body),
        }
    }
}

/// Takes a report.
pub(super) async fn take(
    place: Place<'_>,
    request: Request<Incoming>,
    caller: &Caller,
    arrivals: &mpsc::Sender<Arrival>,
) -> Response<Body> {
    let Some(peer) = &caller.peer else {
        return text(StatusCode::UNAUTHORIZED, "the node's client certificate is needed");
    };
    let body = match collect(request).await {
        Ok(body) => body,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let Some(report) = place.read(&body) else {
        return text(StatusCode::BAD_REQUEST, "the task report cannot be read");
    };
    let node = match NodeName::new(report.node()) {
        Ok(node) if authz::is_node(peer, node.as_str()) => node,
        _ => return text(StatusCode::FORBIDDEN, "the client certificate is not this node's"),
    };
    tracing::info!(%node, "a node reports on a task over HTTPS");
    let question = Question {
        id: MessageId::default(),
        resource: request_path(place, &node),
        up: Up::Task(Box::new(report)),
    };
    let sent = tokio::time::timeout(DEADLINE, arrivals.send(Arrival::Message { node, question })).await;
    match sent {
        Ok(Ok(())) => text(StatusCode::OK, "ok"),
        Ok(Err(_)) | Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "the cloud is busy"),
    }
}

async fn collect(request: Request<Incoming>) -> Result<Bytes, &'static str> {
    let collecting = Limited::new(request.into_body(), LIMIT).collect();
    match tokio::time::timeout(DEADLINE, collecting).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err("the task report is broken or larger than 3 MiB"),
        Err(_) => Err("the task report did not end in time"),
    }
}

/// For the log only: nothing is answered to it.
fn request_path(place: Place<'_>, node: &NodeName) -> String {
    match place {
        Place::Upgrade => format!("nodeupgrade/{node}"),
        Place::Task { kind, task, .. } => format!("{kind}/{task}/node/{node}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_to_the_letter() {
        let task = Place::Task { kind: "upgrade", task: "t", node: "n1" };
        assert_eq!(Place::of("/task/upgrade/name/t/node/n1/status"), Some(task));
        assert_eq!(Place::of("/nodeupgrade"), Some(Place::Upgrade));
        for other in ["/", "/task", "/task/upgrade/name/t/node/n1", "/nodeupgrade/x", "/ca.crt"] {
            assert_eq!(Place::of(other), None, "{other}");
        }
    }
}
