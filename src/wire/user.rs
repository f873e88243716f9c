//! Messages of users that rules route between MQTT, HTTP services on nodes and HTTP services in the cloud (protocol.md
//! §4.9, §9). `up` and `down` encode and decode here; which rule applies is the router's matter.

use super::blob::Blob;
use super::down::parsed;
use super::envelope::{Envelope, MessageId};
use super::names::*;
use super::parts::Parts;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The longest body that a node sends or publishes, in bytes; KubeEdge's limit of its ServiceBus.
pub const UPLOAD_LIMIT: usize = 5_000_000;
/// The longest body that the cloud sends to a node, in bytes: what fits into a message once it is base64. KubeEdge's
/// REST endpoint takes 12 MiB, which would not.
pub const CALL_LIMIT: usize = 12_000_000;

/// HTTP header lines by canonical name.
pub type HttpHeader = BTreeMap<String, Vec<String>>;

/// An HTTP request to a service on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpRequest {
    #[serde(deserialize_with = "or_default")]
    pub header: HttpHeader,
    #[serde(deserialize_with = "or_default")]
    pub body: Blob,
    pub method: String,
    pub url: String,
}

/// What a service on a node answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpResponse {
    #[serde(deserialize_with = "or_default")]
    pub header: HttpHeader,
    pub status_code: u16,
    #[serde(deserialize_with = "or_default")]
    pub body: Blob,
}

impl HttpResponse {
    /// An answer of the node itself, as KubeEdge words one: a status and a plain text.
    pub fn failure(status_code: u16, text: &str) -> HttpResponse {
        let header = [("Server".to_owned(), vec!["kubeedge-edgecore".to_owned()])].into();
        HttpResponse { header, status_code, body: Blob(text.as_bytes().to_vec()) }
    }
}

/// Go writes empty maps and slices as `null`.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// What the cloud's router tells a node. Nothing of it is acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub enum RouterOrder {
    /// Upload what is published on this topic; kept by the node until it is undone. The topic begins with the namespace.
    Subscribe {
        topic: String,
    },
    Unsubscribe {
        topic: String,
    },
    /// Publish a text on the node's MQTT broker. `id` is the router's; a fresh one is made when it is empty.
    Publish {
        id: MessageId,
        topic: String,
        payload: String,
    },
    /// Take calls for this URL on the node's ServiceBus; kept by the node until it is undone.
    Listen {
        url: String,
    },
    Unlisten {
        url: String,
    },
    /// Call a service on the node; its answer is [`crate::wire::Up::ServiceReply`] under this id. `target` is
    /// `{port}:{path}`, read by [`call_address`].
    Call {
        id: MessageId,
        target: String,
        request: HttpRequest,
    },
}

/// The port and the path that a call's target names; `None` for what a genuine edge refuses as well.
pub fn call_address(target: &str) -> Option<(u16, &str)> {
    let (port, path) = target.split_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!path.contains(':') && path.starts_with('/')).then_some((port, path))
}

/// Reads an order of the router; the error is constant text.
pub(super) fn decode_order(
    id: MessageId,
    source: &str,
    operation: &str,
    resource: String,
    content: Value,
) -> Result<RouterOrder, &'static str> {
    match (source, operation) {
        (ROUTER_EVENT_BUS, SUBSCRIBE) => Ok(RouterOrder::Subscribe { topic: resource }),
        (ROUTER_EVENT_BUS, UNSUBSCRIBE) => Ok(RouterOrder::Unsubscribe { topic: resource }),
        (ROUTER_EVENT_BUS, PUBLISH) => match content {
            Value::String(payload) if payload.len() <= CALL_LIMIT => {
                Ok(RouterOrder::Publish { id, topic: resource, payload })
            }
            Value::String(_) => Err("the payload is larger than allowed"),
            _ => Err("the payload is not a text"),
        },
        (ROUTER_SERVICE_BUS, START) => Ok(RouterOrder::Listen { url: resource }),
        (ROUTER_SERVICE_BUS, STOP) => Ok(RouterOrder::Unlisten { url: resource }),
        (ROUTER_SERVICE_BUS, _) => {
            let request: HttpRequest =
                serde_json::from_value(parsed(content)).map_err(|_| "the call cannot be read")?;
            if request.body.0.len() > CALL_LIMIT {
                return Err("the payload is larger than allowed");
            }
            Ok(RouterOrder::Call { id, target: resource, request })
        }
        _ => Err("unknown user message"),
    }
}

pub(super) fn encode_order(order: RouterOrder) -> Envelope {
    let bus = |operation, resource, content| Parts {
        source: ROUTER_EVENT_BUS,
        group: USER,
        operation,
        resource,
        content,
    };
    let service = |operation, resource, content| Parts {
        source: ROUTER_SERVICE_BUS,
        group: USER,
        operation,
        resource,
        content,
    };
    let (parts, id, method) = match order {
        RouterOrder::Subscribe { topic } => (bus(SUBSCRIBE, topic, Value::Null), MessageId::default(), None),
        RouterOrder::Unsubscribe { topic } => {
            (bus(UNSUBSCRIBE, topic, Value::Null), MessageId::default(), None)
        }
        RouterOrder::Publish { id, topic, payload } => {
            (bus(PUBLISH, topic, Value::String(payload)), id, None)
        }
        RouterOrder::Listen { url } => (service(START, url, Value::Null), MessageId::default(), None),
        RouterOrder::Unlisten { url } => (service(STOP, url, Value::Null), MessageId::default(), None),
        RouterOrder::Call { id, target, request } => {
            (service("", target, json!(request)), id, Some(request.method))
        }
    };
    let mut envelope = parts.envelope(id);
    if let Some(method) = method {
        envelope.route.operation = method;
    }
    envelope
}

/// An upload of a node.
#[derive(Debug, PartialEq)]
pub(super) enum Uploaded {
    Topic { topic: String, payload: String },
    Service { url: String, body: Vec<u8> },
    Reply { to: MessageId, response: HttpResponse },
}

/// Whether a message is from a node's user side. Error replies of a genuine ServiceBus carry no operation.
pub(super) fn is_upload(source: &str, group: &str, operation: &str) -> bool {
    group == USER && (operation == UPLOAD || (source == SERVICE_BUS && operation.is_empty()))
}

/// Reads an upload; the error is constant text.
pub(super) fn decode_upload(
    parent: MessageId,
    source: &str,
    resource: String,
    content: Value,
) -> Result<Uploaded, &'static str> {
    if source == SERVICE_BUS && !parent.0.is_empty() {
        let response: HttpResponse =
            serde_json::from_value(parsed(content)).map_err(|_| "the reply of a service cannot be read")?;
        if response.body.0.len() > UPLOAD_LIMIT {
            return Err("the payload is larger than allowed");
        }
        return Ok(Uploaded::Reply { to: parent, response });
    }
    let Value::String(text) = content else { return Err("the upload is not a text") };
    if source == SERVICE_BUS {
        let body = Blob::parse(&text).map_or_else(|| text.into_bytes(), |blob| blob.0);
        if body.len() > UPLOAD_LIMIT {
            return Err("the payload is larger than allowed");
        }
        return Ok(Uploaded::Service { url: resource, body });
    }
    if text.len() > UPLOAD_LIMIT {
        return Err("the payload is larger than allowed");
    }
    Ok(Uploaded::Topic { topic: resource, payload: text })
}
