//! What an edge node tells the cloud, and how the cloud understands it; `up_encode` is the edge's half.

use super::answer::Question;
use super::compare::{self, Holdings};
use super::csi::{self, VolumeResult};
use super::down::{Verb, parsed};
use super::dynamic::{Application, Applications};
use super::envelope::{Envelope, MessageId, Route};
use super::names::*;
use super::task::{self, TaskReport};
use super::user::{self, HttpResponse, Uploaded};
use crate::model::twin::Twins;
use crate::model::{DeviceId, Kind, ObjectKey};
use serde::{Deserialize, Serialize};
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

/// A pod's whole status, as edges before 1.12 report it (protocol.md §4.2, `podstatus`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodStatusReport {
    #[serde(rename = "UID")]
    pub uid: String,
    #[serde(rename = "Name")]
    pub name: String,
    #[serde(rename = "Status")]
    pub status: Value,
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
    /// The Node's whole status from old edges: on insert a Node, on update `{UID, Status, ExtendResources}`. Answer: `OK`.
    NodeStatus {
        verb: Verb,
        name: String,
        status: Value,
    },
    /// Whole statuses from old edges; of one pod, or of several in one message without a name. Answer: `OK`.
    PodStatus {
        namespace: String,
        pods: Vec<PodStatusReport>,
        /// Whether the message named its one pod.
        named: bool,
    },
    /// Asks for a certificate of the cluster. Answer: the CertificateSigningRequest.
    CertificateRequest {
        name: String,
        request: Value,
    },
    /// Asks for the certificate of the cluster's authority. Answer: PEM text.
    ClusterCa,
    /// An event object. No answer.
    Event {
        verb: Verb,
        namespace: String,
        name: String,
        event: Value,
    },
    /// A change of an event, as JSON text beside the event's last form. No answer.
    EventPatch {
        namespace: String,
        name: String,
        event: Value,
        patch: String,
    },
    /// A request of the node's local API. Answer: the application, approved or rejected.
    Application(Box<Application>),
    /// All watches that the node's local API has. Answer: those that the cloud refuses.
    WatchSync(Applications),
    /// What became of a volume operation. No answer.
    VolumeResult(VolumeResult),
    /// What became of a task. No answer.
    Task(Box<TaskReport>),
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
    /// A call of a program on the node to a service behind the cloud's router. Answer: the service's body as a text.
    ServiceUpload {
        url: String,
        /// The program's request body; a genuine cloud hands its base64 to the service.
        body: Vec<u8>,
    },
    /// The answer of a service on the node to a call of the router. No answer.
    ServiceReply {
        to: MessageId,
        response: HttpResponse,
    },
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
    if !parent.0.is_empty()
        && route.operation != KEEPALIVE
        && let Some(volume) = csi::volume_of(&route.resource)
    {
        return Up::VolumeResult(csi::decode_result(parent, volume, &route.operation, content));
    }
    match route.operation.as_str() {
        KEEPALIVE => return Up::Keepalive,
        RESPONSE if !parent.0.is_empty() => return Up::Acknowledge { of: parent },
        ERROR => return Up::Failed { of: parent, text: text_of(content) },
        _ if user::is_upload(&route.source, &route.group, &route.operation) => {
            return decode_upload(parent, route, content);
        }
        operation if task::is_report(operation) => {
            return match task::decode_report(operation, &route.resource, content) {
                Ok(report) => Up::Task(Box::new(report)),
                Err(why) => unknown(route, why),
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
    if route.source == META_SERVER {
        return decode_application(&route, content);
    }
    match (route.resource.as_str(), route.operation.as_str()) {
        (CLUSTER_CA, QUERY) => return Up::ClusterCa,
        (MEMBERSHIP_DETAIL, _) => {
            let event_id =
                parsed(content).get("event_id").and_then(Value::as_str).unwrap_or_default().to_owned();
            return Up::MembershipDetail { event_id };
        }
        _ => {}
    }
    if let Some(rest) = route.resource.strip_prefix("device/") {
        return decode_device(rest, &route, content);
    }
    let parts: Vec<&str> = route.resource.split('/').collect();
    match *parts.as_slice() {
        [namespace, kind, name] if !namespace.is_empty() && !name.is_empty() => {
            decode_object((namespace, kind, name), &route, content)
        }
        [namespace, POD_STATUS] | [namespace, POD_STATUS, ""] if !namespace.is_empty() => {
            decode_pod_status(namespace, None, &route, content)
        }
        _ => unknown(route, "the path names no known object"),
    }
}

fn unknown(route: impl std::borrow::Borrow<Route>, why: &'static str) -> Up {
    let route = route.borrow();
    Up::Unknown { resource: route.resource.clone(), operation: route.operation.clone(), why }
}

fn decode_upload(parent: MessageId, route: Route, content: Value) -> Up {
    let resource = route.resource.clone();
    match user::decode_upload(parent, &route.source, resource, content) {
        Ok(Uploaded::Topic { topic, payload }) => Up::Upload { topic, payload },
        Ok(Uploaded::Service { url, body }) => Up::ServiceUpload { url, body },
        Ok(Uploaded::Reply { to, response }) => Up::ServiceReply { to, response },
        Err(why) => unknown(route, why),
    }
}

fn decode_application(route: &Route, content: Value) -> Up {
    let content = parsed(content);
    if route.resource == WATCH_SYNC {
        return match serde_json::from_value(content) {
            Ok(applications) => Up::WatchSync(applications),
            Err(_) => unknown(route, "the watches cannot be read"),
        };
    }
    match serde_json::from_value(content) {
        Ok(application) => Up::Application(Box::new(application)),
        Err(_) => unknown(route, "the application cannot be read"),
    }
}

fn decode_pod_status(namespace: &str, name: Option<&str>, route: &Route, content: Value) -> Up {
    if route.operation != UPDATE {
        return unknown(route, "unknown operation on a status");
    }
    let content = parsed(content);
    let pods = match name {
        Some(_) => serde_json::from_value(content).map(|pod| vec![pod]),
        None => serde_json::from_value(content),
    };
    match pods {
        Ok(pods) => Up::PodStatus { namespace: namespace.to_owned(), pods, named: name.is_some() },
        Err(_) => unknown(route, "the status cannot be read"),
    }
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
        (Kind::CertificateSigningRequest, INSERT) => {
            Up::CertificateRequest { name, request: parsed(content) }
        }
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
    let owned = || (namespace.to_owned(), name.to_owned());
    let verb = match route.operation.as_str() {
        INSERT => Some(Verb::Insert),
        UPDATE => Some(Verb::Update),
        _ => None,
    };
    match (kind, verb) {
        (EVENT, Some(verb)) => {
            let (namespace, name) = owned();
            Up::Event { verb, namespace, name, event: parsed(content) }
        }
        (EVENT, None) if route.operation == PATCH => {
            let (namespace, name) = owned();
            let mut content = parsed(content);
            let mut part = |key| content.get_mut(key).map(Value::take);
            let patch = part("patchData").map(text_of).unwrap_or_default();
            Up::EventPatch { namespace, name, event: part("event").unwrap_or_default(), patch }
        }
        (NODE_STATUS, Some(verb)) => Up::NodeStatus { verb, name: name.to_owned(), status: parsed(content) },
        (POD_STATUS, _) => decode_pod_status(namespace, Some(name), route, content),
        _ => unknown(route, "the path names no known object"),
    }
}
