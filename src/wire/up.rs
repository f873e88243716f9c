//! What an edge node tells the cloud. `encode` runs on the edge, `decode` on the cloud.

use super::answer::Question;
use super::compare::{self, Holdings};
use super::down::parsed;
use super::envelope::{Envelope, Header, MessageId, Route};
use super::names::*;
use crate::base::{now_ms, uuid4};
use crate::model::twin::Twins;
use crate::model::{DeviceId, Kind, ObjectKey};
use serde::Deserialize;
use serde_json::{Value, json};

/// What is done to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseVerb {
    Insert,
    Update,
}

/// Changed properties of one device with versions (protocol.md §4.5.2, `twin/edge_updated`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinReport {
    pub device: DeviceId,
    pub event_id: String,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    pub twins: Twins,
}

/// A device's state (protocol.md §4.5.2, `state/update`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateReport {
    pub device: DeviceId,
    pub event_id: String,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    pub state: String,
    /// RFC 3339, empty when the device is not online.
    pub last_online: String,
}

/// A message from an edge node, understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Up {
    Keepalive,
    /// The node has stored the message with this id.
    Acknowledge {
        of: MessageId,
    },
    /// Registers the node. Answer: the Node, or `AlreadyExists`.
    NodeInsert {
        name: String,
        node: Value,
    },
    /// Asks for an object: Node, ConfigMap, Secret, PersistentVolume, PersistentVolumeClaim, VolumeAttachment, CSR, Lease.
    Query {
        key: ObjectKey,
    },
    /// Merges labels and annotations into the Node. Answer: `OK`.
    NodeUpdate {
        name: String,
        node: Value,
    },
    /// Strategic-merge patch of the Node's status, as JSON text. Answer: the Node.
    NodePatch {
        name: String,
        patch: String,
    },
    /// Strategic-merge patch of the pod's status, as JSON text. Answer: the Pod.
    PodPatch {
        namespace: String,
        name: String,
        patch: String,
    },
    /// Creates a mirror pod. Answer: the Pod.
    PodInsert {
        namespace: String,
        name: String,
        pod: Value,
    },
    /// Deletes the Pod object once its containers are gone; `options` is `metav1.DeleteOptions`. Answer: `OK`.
    PodDelete {
        namespace: String,
        name: String,
        options: Value,
    },
    /// Asks for a token; `request` is a `TokenRequest`. Answer: the TokenRequest with the token.
    TokenRequest {
        namespace: String,
        service_account: String,
        request: Value,
    },
    /// Answer: the Lease.
    Lease {
        verb: LeaseVerb,
        namespace: String,
        name: String,
        lease: Value,
    },
    /// An event object. No answer.
    Event {
        namespace: String,
        name: String,
        event: Value,
    },
    /// Answer: a confirmation.
    TwinReport(TwinReport),
    /// Answer: a confirmation.
    StateReport(StateReport),
    /// Asks which devices belong to the node. Answer: a confirmation; the devices follow as objects.
    MembershipDetail {
        event_id: String,
    },
    /// A user message from MQTT. No answer.
    Upload {
        topic: String,
        payload: String,
    },
    /// What the node holds where a digest differs. No answer; what it lacks follows.
    Holdings(Holdings),
    /// The node could not carry out the message with this id.
    Failed {
        of: MessageId,
        text: String,
    },
    /// Understood as an envelope but not as a message; `why` is constant text for the log.
    Unknown {
        resource: String,
        operation: String,
        why: &'static str,
    },
}

impl Up {
    /// Whether the cloud answers; a report is kept until then.
    pub fn expects_answer(&self) -> bool {
        super::answer::expects_answer(self)
    }
}

/// Understands a message from an edge; the question keeps the path as it came.
pub fn decode_up(envelope: Envelope) -> Question {
    let id = envelope.header.msg_id.clone();
    let resource = envelope.route.resource.clone();
    Question { id, resource, up: decode(envelope) }
}

fn decode(envelope: Envelope) -> Up {
    let Envelope { header, route, content } = envelope;
    let parent = header.parent_msg_id;
    match route.operation.as_str() {
        KEEPALIVE => return Up::Keepalive,
        RESPONSE if !parent.0.is_empty() => return Up::Acknowledge { of: parent },
        ERROR => return Up::Failed { of: parent, text: text_of(content) },
        UPLOAD if route.group == USER => {
            return match content {
                Value::String(payload) => Up::Upload { topic: route.resource, payload },
                _ => unknown(route, "the upload is not a text"),
            };
        }
        _ => {}
    }
    if route.resource == compare::HOLDINGS && route.operation == compare::COMPARE {
        return match compare::decode_holdings(&parsed(content)) {
            Some(holdings) => Up::Holdings(holdings),
            None => unknown(route, "the holdings cannot be read"),
        };
    }
    if route.resource == MEMBERSHIP_DETAIL {
        let event_id = parsed(content).get("event_id").and_then(Value::as_str).unwrap_or_default().to_owned();
        return Up::MembershipDetail { event_id };
    }
    if let Some(rest) = route.resource.strip_prefix("device/") {
        return decode_device(rest, &route, content);
    }
    let parts: Vec<&str> = route.resource.split('/').collect();
    match *parts.as_slice() {
        [namespace, kind, name] if !namespace.is_empty() && !name.is_empty() => {
            decode_object((namespace, kind, name), &route, content)
        }
        _ => unknown(route, "the path names no known object"),
    }
}

fn unknown(route: impl std::borrow::Borrow<Route>, why: &'static str) -> Up {
    let route = route.borrow();
    Up::Unknown { resource: route.resource.clone(), operation: route.operation.clone(), why }
}

fn text_of(content: Value) -> String {
    match content {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn decode_device(rest: &str, route: &Route, content: Value) -> Up {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Message {
        event_id: String,
        timestamp: i64,
        twin: Option<Twins>,
        device: Option<Device>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Device {
        state: String,
        last_online_time: String,
    }
    let twin = rest.strip_suffix("/twin/edge_updated").and_then(DeviceId::parse);
    let state = rest.strip_suffix("/state/update").and_then(DeviceId::parse);
    let Ok(message) = serde_json::from_value::<Message>(parsed(content)) else {
        return unknown(route, "the device message cannot be read");
    };
    let Message { event_id, timestamp, twin: twins, device: facts } = message;
    match (twin, state, twins, facts) {
        (Some(device), _, Some(twins), _) => {
            Up::TwinReport(TwinReport { device, event_id, timestamp, twins })
        }
        (_, Some(device), _, Some(facts)) => Up::StateReport(StateReport {
            device,
            event_id,
            timestamp,
            state: facts.state,
            last_online: facts.last_online_time,
        }),
        _ => unknown(route, "unknown device message"),
    }
}

fn decode_object(path: (&str, &str, &str), route: &Route, content: Value) -> Up {
    let (namespace, kind, name) = (path.0.to_owned(), path.1, path.2.to_owned());
    let Some(kind) = Kind::parse(kind) else { return decode_other(path, route, content) };
    match (kind, route.operation.as_str()) {
        (Kind::ServiceAccountToken, QUERY) => {
            Up::TokenRequest { namespace, service_account: name, request: parsed(content) }
        }
        (_, QUERY) => {
            // Edges before 1.23 ask for nodes in the namespace `default`.
            let cluster = matches!(
                kind,
                Kind::Node
                    | Kind::PersistentVolume
                    | Kind::VolumeAttachment
                    | Kind::CertificateSigningRequest
            );
            let namespace = (!cluster && namespace != "null").then_some(namespace);
            Up::Query { key: ObjectKey { kind, namespace, name } }
        }
        (Kind::Node, INSERT) => Up::NodeInsert { name, node: parsed(content) },
        (Kind::Node, UPDATE) => Up::NodeUpdate { name, node: parsed(content) },
        (Kind::NodePatch, PATCH) => Up::NodePatch { name, patch: text_of(content) },
        (Kind::PodPatch, PATCH) => Up::PodPatch { namespace, name, patch: text_of(content) },
        (Kind::Pod, INSERT) => Up::PodInsert { namespace, name, pod: parsed(content) },
        (Kind::Pod, DELETE) => Up::PodDelete { namespace, name, options: delete_options(content) },
        (Kind::Lease, INSERT) => {
            Up::Lease { verb: LeaseVerb::Insert, namespace, name, lease: parsed(content) }
        }
        (Kind::Lease, UPDATE) => {
            Up::Lease { verb: LeaseVerb::Update, namespace, name, lease: parsed(content) }
        }
        _ => unknown(route, "unknown operation on an object"),
    }
}

/// Old edges send the pod's uid alone.
fn delete_options(content: Value) -> Value {
    match parsed(content) {
        Value::String(uid) => json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}),
        Value::Object(options) => Value::Object(options),
        _ => json!({"gracePeriodSeconds": 0}),
    }
}

fn decode_other((namespace, kind, name): (&str, &str, &str), route: &Route, content: Value) -> Up {
    match (kind, route.operation.as_str()) {
        ("event", INSERT | UPDATE) => {
            Up::Event { namespace: namespace.to_owned(), name: name.to_owned(), event: parsed(content) }
        }
        ("event", PATCH) => {
            let event = parsed(content).get_mut("event").map(Value::take).unwrap_or_default();
            Up::Event { namespace: namespace.to_owned(), name: name.to_owned(), event }
        }
        _ => unknown(route, "the path names no known object"),
    }
}

/// Writes a message to the cloud; `None` for what an edge never sends.
pub fn encode_up(up: &Up) -> Option<Envelope> {
    let meta = |operation, resource: String, content| (EDGED, META, operation, resource, content);
    let twin = |operation, resource: String, content| (TWIN, RESOURCE, operation, resource, content);
    let text = |text: &str| Value::String(text.to_owned());
    let mut parent = MessageId::default();
    let (source, group, operation, resource, content) = match up {
        Up::Holdings(holdings) => {
            let header = Header { msg_id: MessageId(uuid4()), timestamp: now_ms(), ..Header::default() };
            let content = compare::encode_holdings(holdings);
            return Some(Envelope { header, route: compare::route(compare::HOLDINGS), content });
        }
        Up::Keepalive => (WEBSOCKET, RESOURCE, KEEPALIVE, "node".to_owned(), text("ping")),
        Up::Acknowledge { of } => {
            parent = of.clone();
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, String::new(), text(OK))
        }
        Up::NodeInsert { name, node } => meta(INSERT, format!("null/node/{name}"), node.clone()),
        Up::Query { key } => {
            let mut path = key.to_string();
            if matches!(key.kind, Kind::VolumeAttachment | Kind::CertificateSigningRequest) {
                path = format!("default/{}/{}", key.kind, key.name);
            }
            meta(QUERY, path, Value::Null)
        }
        Up::NodeUpdate { name, node } => meta(UPDATE, format!("null/node/{name}"), node.clone()),
        Up::NodePatch { name, patch } => meta(PATCH, format!("null/nodepatch/{name}"), text(patch)),
        Up::PodPatch { namespace, name, patch } => {
            meta(PATCH, format!("{namespace}/podpatch/{name}"), text(patch))
        }
        Up::PodInsert { namespace, name, pod } => {
            meta(INSERT, format!("{namespace}/pod/{name}"), pod.clone())
        }
        Up::PodDelete { namespace, name, options } => {
            meta(DELETE, format!("{namespace}/pod/{name}"), options.clone())
        }
        Up::TokenRequest { namespace, service_account, request } => {
            meta(QUERY, format!("{namespace}/serviceaccounttoken/{service_account}"), request.clone())
        }
        Up::Lease { verb, namespace, name, lease } => {
            let operation = match verb {
                LeaseVerb::Insert => INSERT,
                LeaseVerb::Update => UPDATE,
            };
            meta(operation, format!("{namespace}/lease/{name}"), lease.clone())
        }
        Up::Event { namespace, name, event } => {
            meta(INSERT, format!("{namespace}/event/{name}"), event.clone())
        }
        Up::TwinReport(TwinReport { device, event_id, timestamp, twins }) => twin(
            UPDATE,
            format!("device/{device}/twin/edge_updated"),
            json!({"event_id": event_id, "timestamp": timestamp, "twin": twins}),
        ),
        Up::StateReport(StateReport { device, event_id, timestamp, state, last_online }) => {
            let facts = json!({"name": device.name, "state": state, "lastOnlineTime": last_online});
            let content = json!({"event_id": event_id, "timestamp": timestamp, "device": facts});
            twin(UPDATE, format!("device/{device}/state/update"), Value::String(content.to_string()))
        }
        Up::MembershipDetail { event_id } => {
            let content = json!({"event_type": "group_membership_event", "event_id": event_id,
                "operation": "detail", "timestamp": now_ms()});
            twin(GET, MEMBERSHIP_DETAIL.to_owned(), Value::String(content.to_string()))
        }
        Up::Upload { topic, payload } => (BUS, USER, UPLOAD, topic.clone(), text(payload)),
        Up::Failed { of, text: reason } => {
            parent = of.clone();
            (META_MANAGER, RESOURCE, ERROR, String::new(), text(reason))
        }
        Up::Unknown { .. } => return None,
    };
    Some(Envelope {
        header: Header {
            msg_id: MessageId(uuid4()),
            parent_msg_id: parent,
            timestamp: now_ms(),
            ..Header::default()
        },
        route: Route {
            source: source.to_owned(),
            group: group.to_owned(),
            operation: operation.to_owned(),
            resource,
            ..Route::default()
        },
        content,
    })
}
