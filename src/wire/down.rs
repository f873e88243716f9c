//! What the cloud tells an edge node. `decode` runs on the edge, `encode` on the cloud.

use super::answer::{self, Answer, Question};
use super::codec::is_modest;
use super::compare::{self, Comparison};
use super::csi::{self, VolumeOrder};
use super::dynamic::{self, WatchEvent};
use super::envelope::{Envelope, Header, MessageId, Route};
use super::names::*;
use super::task::{self, TaskOrder};
use super::user::{self, RouterOrder};
use crate::base::{now_ms, uuid4};
use crate::model::twin::Twins;
use crate::model::{DeviceId, Kind, ObjectKey, Revision, Status};
use serde_json::{Value, json};

/// Insert or update; the edge treats both as "this is the object now".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Insert,
    Update,
}

/// The cloud module in whose name an object travels; it decides how a genuine edge handles it (protocol.md §4.3 – §4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Edge,
    Device,
    Policy,
}

impl Origin {
    fn source(self) -> &'static str {
        match self {
            Origin::Edge => EDGE_CONTROLLER,
            Origin::Device => DEVICE_CONTROLLER,
            Origin::Policy => POLICY_CONTROLLER,
        }
    }

    fn parse(source: &str) -> Origin {
        match source {
            DEVICE_CONTROLLER => Origin::Device,
            POLICY_CONTROLLER => Origin::Policy,
            _ => Origin::Edge,
        }
    }
}

/// Devices that begin or cease to belong to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    pub added: Vec<DeviceId>,
    pub removed: Vec<DeviceId>,
}

/// A message to an edge node, understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Down {
    /// The object is now this. Needs an acknowledgement.
    Object { verb: Verb, origin: Origin, key: ObjectKey, revision: Revision, object: Value },
    /// The object is gone; `object` is its last form and may hold only metadata. Needs an acknowledgement.
    Delete { origin: Origin, key: ObjectKey, revision: Option<Revision>, object: Value },
    /// Sent by the cloud: the answer to a question. Encoded as the question demands.
    Reply { to: Question, result: Result<Value, Status> },
    /// Received by the edge: the answer to one of its messages.
    Answer { to: MessageId, answer: Answer },
    /// Devices of this node changed.
    Membership(Membership),
    /// Desired values from clouds before KubeEdge 1.15 (`twin/cloud_updated`).
    TwinSync { device: DeviceId, twins: Twins },
    /// What the node should hold, for a node that compares digests. Answer: [`super::Up::Holdings`].
    Compare(Box<Comparison>),
    /// An object that the node's local API watches changed. Needs an acknowledgement.
    Watched(Box<WatchEvent>),
    /// A volume operation; its result answers it.
    Volume(VolumeOrder),
    /// A task; reports answer it.
    Task(TaskOrder),
    /// What the router says.
    Router(RouterOrder),
    /// Understood as an envelope but not as a message; `why` is constant text for the log.
    Unknown { resource: String, operation: String, why: &'static str },
}

/// Understands a message from the cloud.
pub fn decode_down(envelope: Envelope) -> Down {
    let Envelope { header, route, content } = envelope;
    let parent = header.parent_msg_id.clone();
    match route.group.as_str() {
        RESOURCE | FUNC | TWIN | USER if !parent.0.is_empty() => {
            Down::Answer { to: parent, answer: answer::read(&route.group, &route.operation, content) }
        }
        RESOURCE | FUNC => decode_resource(header, route, content),
        TWIN => decode_twin(route, content),
        USER => {
            let resource = route.resource.clone();
            match user::decode_order(header.msg_id, &route.source, &route.operation, resource, content) {
                Ok(order) => Down::Router(order),
                Err(why) => unknown(route, why),
            }
        }
        TASK_MANAGER | UPGRADE_CONTROLLER => {
            match task::decode_order(&route.source, &route.operation, &route.resource, content) {
                Ok(order) => Down::Task(order),
                Err(why) => unknown(route, why),
            }
        }
        _ => unknown(route, "unknown group"),
    }
}

fn decode_resource(header: Header, route: Route, content: Value) -> Down {
    if let Some(verb) = csi::verb(&route.operation) {
        return match csi::volume_of(&route.resource) {
            Some(volume) => Down::Volume(csi::decode_order(header.msg_id, verb, volume, content)),
            None => unknown(route, "the path names no volume"),
        };
    }
    if route.source == DYNAMIC_CONTROLLER {
        let object = parsed(content);
        let revision = Revision::parse(&header.resourceversion).or_else(|| answer::revision_of(&object));
        return match dynamic::decode_event(revision, &route, object) {
            Ok(event) => Down::Watched(Box::new(event)),
            Err(why) => unknown(route, why),
        };
    }
    decode_object(&header.resourceversion, route, content)
}

fn unknown(route: Route, why: &'static str) -> Down {
    Down::Unknown { resource: route.resource, operation: route.operation, why }
}

/// Content as JSON, whether it came as an object or as its text; a text that would take too much memory stays a text.
pub(super) fn parsed(content: Value) -> Value {
    match content {
        Value::String(text) if is_modest(&text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        other => other,
    }
}

fn decode_object(version: &str, route: Route, content: Value) -> Down {
    if route.resource == compare::DIGEST && route.operation == compare::COMPARE {
        let comparison = compare::decode_comparison(&parsed(content));
        return comparison.map_or_else(
            || unknown(route, "the digest cannot be read"),
            |comparison| Down::Compare(Box::new(comparison)),
        );
    }
    let Some(key) = ObjectKey::parse(&route.resource) else {
        return unknown(route, "the path names no known object");
    };
    let origin = Origin::parse(&route.source);
    let object = parsed(content);
    let revision = Revision::parse(version).or_else(|| answer::revision_of(&object));
    let verb = match route.operation.as_str() {
        INSERT => Verb::Insert,
        UPDATE => Verb::Update,
        DELETE => return Down::Delete { origin, key, revision, object },
        _ => return unknown(route, "unknown operation on an object"),
    };
    if !object.is_object() {
        return unknown(route, "the content is not an object");
    }
    let Some(revision) = revision else {
        return unknown(route, "the object has no revision");
    };
    Down::Object { verb, origin, key, revision, object }
}

fn decode_twin(route: Route, content: Value) -> Down {
    if route.resource == MEMBERSHIP {
        let content = parsed(content);
        let devices = |list: &str| {
            let list = content.get(list).and_then(Value::as_array);
            let id = |device: &Value| DeviceId::parse(device.get("id")?.as_str()?);
            list.into_iter().flatten().filter_map(id).collect()
        };
        return Down::Membership(Membership {
            added: devices("added_devices"),
            removed: devices("removed_devices"),
        });
    }
    let device = route
        .resource
        .strip_prefix("device/")
        .and_then(|rest| rest.strip_suffix("/twin/cloud_updated"))
        .and_then(DeviceId::parse);
    let Some(device) = device else { return unknown(route, "unknown twin message") };
    let mut content = parsed(content);
    match content.get_mut("twin").map(|twin| serde_json::from_value(twin.take())) {
        Some(Ok(twins)) => Down::TwinSync { device, twins },
        _ => unknown(route, "the twin cannot be read"),
    }
}

/// Writes a message to an edge; `None` when there is nothing to send (an answer that is not told, an edge-side value).
pub fn encode_down(down: Down) -> Option<Envelope> {
    let (source, group, operation, resource, revision, content) = match down {
        Down::Compare(comparison) => {
            let header = Header { msg_id: MessageId(uuid4()), timestamp: now_ms(), ..Header::default() };
            let content = compare::encode_comparison(&comparison);
            return Some(Envelope { header, route: compare::route(compare::DIGEST), content });
        }
        Down::Object { verb, origin, key, revision, mut object } => {
            add_type(key.kind, &mut object);
            let operation = match verb {
                Verb::Insert => INSERT,
                Verb::Update => UPDATE,
            };
            (origin.source(), RESOURCE, operation, key.to_string(), Some(revision), object)
        }
        Down::Delete { origin, key, revision, mut object } => {
            if object.is_null() {
                object = json!({"metadata": {"namespace": key.namespace, "name": key.name}});
            }
            (origin.source(), RESOURCE, DELETE, key.to_string(), revision, object)
        }
        Down::Reply { to, result } => return answer::encode(to, result),
        Down::Membership(membership) => {
            let content = encode_membership(&membership);
            (DEVICE_CONTROLLER, TWIN, UPDATE, MEMBERSHIP.to_owned(), None, content)
        }
        Down::TwinSync { device, twins } => {
            let content = json!({"event_id": uuid4(), "timestamp": now_ms(), "twin": twins});
            (DEVICE_CONTROLLER, TWIN, UPDATE, format!("device/{device}/twin/cloud_updated"), None, content)
        }
        Down::Watched(event) => {
            let (operation, path) = (dynamic::word(event.change), event.path());
            (DYNAMIC_CONTROLLER, RESOURCE, operation, path, event.revision, event.object)
        }
        Down::Volume(order) => return Some(csi::encode_order(order)),
        Down::Task(order) => return Some(task::encode_order(order)),
        Down::Router(order) => return Some(user::encode_order(order)),
        Down::Answer { .. } | Down::Unknown { .. } => return None,
    };
    Some(Envelope {
        header: Header {
            msg_id: MessageId(uuid4()),
            timestamp: now_ms(),
            resourceversion: revision.map(|revision| revision.to_string()).unwrap_or_default(),
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

fn encode_membership(membership: &Membership) -> Value {
    let devices = |list: &[DeviceId]| {
        if list.is_empty() {
            return Value::Null;
        }
        list.iter().map(|device| json!({"id": device.to_string(), "name": device.name})).collect()
    };
    json!({
        "event_id": uuid4(),
        "timestamp": now_ms(),
        "added_devices": devices(&membership.added),
        "removed_devices": devices(&membership.removed),
    })
}

/// An edge drops objects without `apiVersion` and `kind`, and lists do not carry them.
fn add_type(kind: Kind, object: &mut Value) {
    let (version, name) = match kind {
        Kind::Pod => ("v1", "Pod"),
        Kind::ConfigMap => ("v1", "ConfigMap"),
        Kind::Secret => ("v1", "Secret"),
        Kind::Node => ("v1", "Node"),
        Kind::Device => ("devices.kubeedge.io/v1beta1", "Device"),
        Kind::DeviceModel => ("devices.kubeedge.io/v1beta1", "DeviceModel"),
        _ => return,
    };
    if let Value::Object(map) = object {
        map.entry("apiVersion").or_insert_with(|| version.into());
        map.entry("kind").or_insert_with(|| name.into());
    }
}

/// How a message to an edge is delivered (protocol.md §3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Sent again until the edge has acknowledged it; the newest version of an object wins.
    Acknowledged,
    /// Sent once.
    Once,
}

/// The class of a message. Answers go once even where the edge acknowledges them: whoever asked asks again.
pub fn delivery_of(down: &Down) -> Delivery {
    match down {
        Down::Object { .. } | Down::Delete { .. } | Down::Watched(_) => Delivery::Acknowledged,
        Down::Reply { .. }
        | Down::Answer { .. }
        | Down::Membership(_)
        | Down::TwinSync { .. }
        | Down::Compare(_)
        | Down::Volume(_)
        | Down::Task(_)
        | Down::Router(_)
        | Down::Unknown { .. } => Delivery::Once,
    }
}

/// The acknowledgement that an edge owes for this message, as edgecore words it (protocol.md §3.5); `None` when the
/// cloud does not wait for one.
pub fn acknowledgement(envelope: &Envelope) -> Option<Envelope> {
    let route = &envelope.route;
    if !matches!(route.group.as_str(), RESOURCE | FUNC) {
        return None;
    }
    let answered = !envelope.header.parent_msg_id.0.is_empty();
    let owed = match route.operation.as_str() {
        INSERT | UPDATE | DELETE => !answered,
        RESPONSE => answered && !envelope.header.resourceversion.is_empty() && envelope.content.is_object(),
        _ => false,
    };
    if !owed {
        return None;
    }
    let mut route = Route { operation: RESPONSE.to_owned(), ..route.clone() };
    if route.source == DEVICE_CONTROLLER && !answered && envelope.route.operation != UPDATE {
        route.source = META.to_owned();
        route.group = TWIN.to_owned();
    }
    Some(Envelope {
        header: Header {
            msg_id: MessageId(uuid4()),
            parent_msg_id: envelope.header.msg_id.clone(),
            timestamp: now_ms(),
            ..Header::default()
        },
        route,
        content: Value::String(OK.to_owned()),
    })
}
