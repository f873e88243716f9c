//! Writes what an edge node tells the cloud: the other half of `up`, which reads it. Runs on the edge; what has no words
//! in KubeEdge's protocol is not written.

use super::blob::Blob;
use super::compare;
use super::csi;
use super::down::Verb;
use super::envelope::{Envelope, Header, MessageId};
use super::names::*;
use super::parts::Parts;
use super::task;
use super::up::{LeaseVerb, StateReport, TwinReport, Up};
use crate::base::{now_ms, uuid4};
use crate::model::Kind;
use serde_json::{Value, json};

/// Writes a message to the cloud; `None` for what an edge never sends.
pub fn encode_up(up: &Up) -> Option<Envelope> {
    if let Up::Holdings(holdings) = up {
        let header = Header { msg_id: MessageId(uuid4()), timestamp: now_ms(), ..Header::default() };
        let content = compare::encode_holdings(holdings);
        return Some(Envelope { header, route: compare::route(compare::HOLDINGS), content });
    }
    let (parts, parent) = parts_of(up)?;
    let mut envelope = parts.envelope(MessageId::default());
    envelope.header.parent_msg_id = parent;
    Some(envelope)
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Insert => INSERT,
        Verb::Update => UPDATE,
    }
}

/// The message and the id that it answers, mostly none.
fn parts_of(up: &Up) -> Option<(Parts, MessageId)> {
    let mut parent = MessageId::default();
    let parts = match up {
        Up::Keepalive => {
            let (resource, content) = ("node".to_owned(), text("ping"));
            Parts { source: WEBSOCKET, group: RESOURCE, operation: KEEPALIVE, resource, content }
        }
        Up::Acknowledge { of } => {
            parent = of.clone();
            let (resource, content) = (String::new(), text(OK));
            Parts { source: EDGE_CONTROLLER, group: RESOURCE, operation: RESPONSE, resource, content }
        }
        Up::Failed { of, text: reason } => {
            parent = of.clone();
            let (resource, content) = (String::new(), text(reason));
            Parts { source: META_MANAGER, group: RESOURCE, operation: ERROR, resource, content }
        }
        Up::TwinReport(_) | Up::StateReport(_) | Up::MembershipDetail { .. } => twin_parts(up)?,
        Up::Application(application) => app_parts(NULL, json!(application)),
        Up::WatchSync(applications) => app_parts(WATCH_SYNC, json!(applications)),
        Up::VolumeResult(result) => {
            parent = result.of.clone();
            csi::encode_result(result)
        }
        Up::Task(report) => task::encode_report(report),
        Up::Upload { topic, payload } => {
            let (resource, content) = (topic.clone(), text(payload));
            Parts { source: BUS, group: USER, operation: UPLOAD, resource, content }
        }
        Up::ServiceUpload { url, body } => {
            let (resource, content) = (url.clone(), Value::String(Blob(body.clone()).text()));
            Parts { source: SERVICE_BUS, group: USER, operation: UPLOAD, resource, content }
        }
        Up::ServiceReply { to, response } => {
            parent = to.clone();
            let (resource, content) = (String::new(), json!(response));
            Parts { source: SERVICE_BUS, group: USER, operation: UPLOAD, resource, content }
        }
        Up::Holdings(_) | Up::Unknown { .. } => return None,
        Up::NodeInsert { .. }
        | Up::Query { .. }
        | Up::NodeUpdate { .. }
        | Up::NodePatch { .. }
        | Up::NodeStatus { .. }
        | Up::PodPatch { .. }
        | Up::PodStatus { .. }
        | Up::PodInsert { .. }
        | Up::PodDelete { .. }
        | Up::TokenRequest { .. }
        | Up::CertificateRequest { .. }
        | Up::ClusterCa
        | Up::Lease { .. }
        | Up::Event { .. }
        | Up::EventPatch { .. } => {
            let (operation, resource, content) = meta_parts(up)?;
            let source = if matches!(up, Up::ClusterCa) { META_MANAGER } else { EDGED };
            Parts { source, group: META, operation, resource, content }
        }
    };
    Some((parts, parent))
}

fn app_parts(resource: &str, content: Value) -> Parts {
    let resource = resource.to_owned();
    Parts { source: META_SERVER, group: DYNAMIC_CONTROLLER, operation: NULL, resource, content }
}

fn twin_parts(up: &Up) -> Option<Parts> {
    let (operation, resource, content) = match up {
        Up::TwinReport(TwinReport { device, event_id, timestamp, twins }) => (
            UPDATE,
            format!("device/{device}/twin/edge_updated"),
            json!({"event_id": event_id, "timestamp": timestamp, "twin": twins}),
        ),
        Up::StateReport(StateReport { device, event_id, timestamp, state, last_online }) => {
            let facts = json!({"name": device.name, "state": state, "lastOnlineTime": last_online});
            let content = json!({"event_id": event_id, "timestamp": timestamp, "device": facts});
            (UPDATE, format!("device/{device}/state/update"), Value::String(content.to_string()))
        }
        Up::MembershipDetail { event_id } => {
            let content = json!({"event_type": "group_membership_event", "event_id": event_id,
                "operation": "detail", "timestamp": now_ms()});
            (GET, MEMBERSHIP_DETAIL.to_owned(), Value::String(content.to_string()))
        }
        _ => return None,
    };
    Some(Parts { source: TWIN, group: RESOURCE, operation, resource, content })
}

/// What the kubelet's side of an edge says: operation, path, content.
fn meta_parts(up: &Up) -> Option<(&'static str, String, Value)> {
    Some(match up {
        Up::NodeInsert { name, node } => (INSERT, format!("null/node/{name}"), node.clone()),
        Up::Query { key } => {
            let mut path = key.to_string();
            if matches!(key.kind, Kind::VolumeAttachment | Kind::CertificateSigningRequest) {
                path = format!("default/{}/{}", key.kind, key.name);
            }
            (QUERY, path, Value::Null)
        }
        Up::NodeUpdate { name, node } => (UPDATE, format!("null/node/{name}"), node.clone()),
        Up::NodePatch { name, patch } => (PATCH, format!("null/nodepatch/{name}"), text(patch)),
        Up::NodeStatus { verb, name, status } => {
            (word(*verb), format!("default/{NODE_STATUS}/{name}"), status.clone())
        }
        Up::PodPatch { namespace, name, patch } => {
            (PATCH, format!("{namespace}/podpatch/{name}"), text(patch))
        }
        Up::PodStatus { namespace, pods, named } => match pods.as_slice() {
            [pod] if *named => (UPDATE, format!("{namespace}/{POD_STATUS}/{}", pod.name), json!(pod)),
            pods => (UPDATE, format!("{namespace}/{POD_STATUS}"), json!(pods)),
        },
        Up::PodInsert { namespace, name, pod } => (INSERT, format!("{namespace}/pod/{name}"), pod.clone()),
        Up::PodDelete { namespace, name, options } => {
            (DELETE, format!("{namespace}/pod/{name}"), options.clone())
        }
        Up::TokenRequest { namespace, service_account, request } => {
            (QUERY, format!("{namespace}/serviceaccounttoken/{service_account}"), request.clone())
        }
        Up::CertificateRequest { name, request } => {
            (INSERT, format!("default/certificatesigningrequest/{name}"), request.clone())
        }
        Up::ClusterCa => (QUERY, CLUSTER_CA.to_owned(), Value::Null),
        Up::Lease { verb, namespace, name, lease } => {
            let operation = match verb {
                LeaseVerb::Insert => INSERT,
                LeaseVerb::Update => UPDATE,
            };
            (operation, format!("{namespace}/lease/{name}"), lease.clone())
        }
        Up::Event { verb, namespace, name, event } => {
            (word(*verb), format!("{namespace}/{EVENT}/{name}"), event.clone())
        }
        Up::EventPatch { namespace, name, event, patch } => {
            let content = json!({"event": event, "patchData": patch});
            (PATCH, format!("{namespace}/{EVENT}/{name}"), content)
        }
        _ => return None,
    })
}
