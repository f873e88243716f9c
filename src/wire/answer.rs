//! Questions from the edge and their answers. The form of an answer depends on the question (protocol.md §4.1, §4.2):
//! wrapped in `{Object, Err}`, bare, or the text `OK`; reading accepts every form, wrong ones included.

use super::codec::is_modest;
use super::down::Verb;
use super::dynamic::failed_watches;
use super::envelope::{Envelope, Header, MessageId, Route};
use super::names::*;
use super::up::Up;
use crate::base::{now_ms, uuid4};
use crate::model::{Kind, Revision, Status};
use serde_json::{Map, Value, json};

/// A message from the edge that expects an answer: what is needed to address one.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    pub id: MessageId,
    /// The path that was asked, byte for byte; the answer goes to the same one.
    pub resource: String,
    pub up: Up,
}

/// What came back for a message with a parent id.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The text `OK`: done, or a confirmation.
    Ok,
    /// An object; from a wrapped or a bare form.
    Object(Value),
    /// The request failed: a wrapped `Err`, a lone `ErrStatus`, or operation `error` with a text.
    Failed(Status),
    /// Any other text, such as a PEM certificate.
    Text(String),
}

/// Reads the content of a message that has a parent.
pub(super) fn read(group: &str, operation: &str, content: Value) -> Answer {
    if group == TWIN && operation != ERROR {
        return Answer::Ok;
    }
    match content {
        // What a user's service says is no word to the edge, whatever it looks like.
        Value::String(text) if group == USER && operation != ERROR => Answer::Text(text),
        Value::String(text) if operation == ERROR => Answer::Failed(status_of_text(&text)),
        Value::String(text) if text == OK => Answer::Ok,
        Value::String(text) if !is_modest(&text) => Answer::Text(text),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(Value::Object(map)) => read_object(map),
            _ => Answer::Text(text),
        },
        Value::Object(map) => match read_object(map) {
            Answer::Object(object) if operation == ERROR => Answer::Failed(status_of(object)),
            answer => answer,
        },
        Value::Null => Answer::Failed(unspoken("the answer is empty")),
        _ if operation == ERROR => Answer::Failed(unspoken("the cloud reports an error")),
        other => Answer::Object(other),
    }
}

fn read_object(mut map: Map<String, Value>) -> Answer {
    if let (Some(object), Some(error)) = (map.get("Object"), map.get("Err")) {
        if let Some(status) = error_of(error) {
            return Answer::Failed(status);
        }
        if object.is_null() {
            return Answer::Failed(unspoken("the answer holds neither an object nor an error"));
        }
        return Answer::Object(map.get_mut("Object").map(Value::take).unwrap_or_default());
    }
    if map.len() == 1
        && let Some(status) = map.get_mut("ErrStatus")
    {
        return Answer::Failed(status_of(status.take()));
    }
    Answer::Object(Value::Object(map))
}

/// The error beside an object: absent for `null`, `{}` and a status that says nothing.
fn error_of(error: &Value) -> Option<Status> {
    let status = error.get("ErrStatus").unwrap_or(error);
    let says = |key: &str| match status.get(key) {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Number(number)) => number.as_u64() != Some(0),
        _ => false,
    };
    ["status", "message", "reason", "code"].iter().any(|key| says(key)).then(|| status_of(status.clone()))
}

fn status_of(value: Value) -> Status {
    serde_json::from_value(value).unwrap_or_else(|_| unspoken("the cloud reports an error"))
}

fn unspoken(message: &str) -> Status {
    Status::failure(500, "InternalError", message)
}

const REASONS: [(&str, u16); 10] = [
    ("NotFound", 404),
    ("AlreadyExists", 409),
    ("Conflict", 409),
    ("Forbidden", 403),
    ("Unauthorized", 401),
    ("Invalid", 422),
    ("BadRequest", 400),
    ("Timeout", 504),
    ("ServiceUnavailable", 503),
    ("InternalError", 500),
];

/// Reads the text of an error: kedge writes `message (Reason)`, KubeEdge anything.
fn status_of_text(text: &str) -> Status {
    for (reason, code) in REASONS {
        let message = text.strip_suffix(')').and_then(|t| t.strip_suffix(reason)?.strip_suffix(" ("));
        if let Some(message) = message {
            return Status::failure(code, reason, message);
        }
    }
    Status::failure(500, "InternalError", text)
}

/// The form that a question's answer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `{Object, Err}`; with the object's revision in the header or not.
    Wrapped {
        revision: bool,
    },
    /// The object itself; failures are operation `error` with a text, which an edge cannot take for an object.
    Bare {
        revision: bool,
    },
    /// The text `OK`; with the object's revision in the header or not.
    Done {
        revision: bool,
    },
    /// A text in the hub's name.
    Authority,
    /// The application with its result.
    Application,
    /// The applications that failed.
    Watches,
    /// A text of a user's service.
    Service,
    /// The text `OK` in the name of the device twin; a failure is not told, so the edge asks again.
    Confirmation,
    /// Only failures are told.
    Refusal,
    None,
}

fn form(up: &Up) -> Form {
    match up {
        Up::NodePatch { .. } | Up::PodPatch { .. } => Form::Wrapped { revision: true },
        Up::NodeInsert { .. } | Up::PodInsert { .. } | Up::Lease { .. } => Form::Wrapped { revision: false },
        Up::Query { key } if key.kind == Kind::Lease => Form::Wrapped { revision: false },
        Up::Query { key } => Form::Bare { revision: key.kind != Kind::CertificateSigningRequest },
        Up::TokenRequest { .. } => Form::Bare { revision: false },
        Up::CertificateRequest { .. } => Form::Wrapped { revision: false },
        Up::NodeUpdate { .. } | Up::NodeStatus { verb: Verb::Update, .. } => Form::Done { revision: true },
        Up::PodDelete { .. } | Up::PodStatus { .. } | Up::NodeStatus { verb: Verb::Insert, .. } => {
            Form::Done { revision: false }
        }
        Up::ClusterCa => Form::Authority,
        Up::Application(_) => Form::Application,
        Up::WatchSync(_) => Form::Watches,
        Up::ServiceUpload { .. } => Form::Service,
        Up::TwinReport(_) | Up::StateReport(_) | Up::MembershipDetail { .. } => Form::Confirmation,
        Up::Unknown { resource, .. } if !resource.is_empty() => Form::Refusal,
        Up::Keepalive
        | Up::Acknowledge { .. }
        | Up::Event { .. }
        | Up::EventPatch { .. }
        | Up::VolumeResult(_)
        | Up::Task(_)
        | Up::Upload { .. }
        | Up::Holdings(_)
        | Up::ServiceReply { .. }
        | Up::Failed { .. }
        | Up::Unknown { .. } => Form::None,
    }
}

/// Whether the cloud answers this message.
pub(super) fn expects_answer(up: &Up) -> bool {
    !matches!(form(up), Form::None | Form::Refusal)
}

/// The answer as the question demands it; `None` when none is to be sent.
pub(super) fn encode(to: Question, result: Result<Value, Status>) -> Option<Envelope> {
    let form = form(&to.up);
    let mut header =
        Header { msg_id: MessageId(uuid4()), parent_msg_id: to.id, timestamp: now_ms(), ..Header::default() };
    let mut route = Route {
        source: EDGE_CONTROLLER.to_owned(),
        group: RESOURCE.to_owned(),
        operation: RESPONSE.to_owned(),
        resource: to.resource,
        ..Route::default()
    };
    let revision_wanted = match form {
        Form::Wrapped { revision } | Form::Bare { revision } | Form::Done { revision } => revision,
        _ => false,
    };
    if let (true, Ok(object)) = (revision_wanted, &result)
        && let Some(revision) = revision_of(object)
    {
        header.resourceversion = revision.to_string();
    }
    address(form, &mut route);
    let content = match (form, to.up, result) {
        (Form::Wrapped { .. }, up, Ok(Value::Null)) => {
            wrapped_failure(&up, unspoken("the cloud has no object to answer with"))
        }
        (Form::Wrapped { .. }, _, Ok(object)) => json!({"Object": object, "Err": null}),
        (Form::Wrapped { .. }, up, Err(status)) => wrapped_failure(&up, status),
        (Form::Bare { .. }, _, Ok(object)) if !object.is_null() => object,
        (Form::Authority | Form::Service, _, Ok(Value::String(text))) => Value::String(text),
        (Form::Done { .. } | Form::Confirmation, _, Ok(_)) => Value::String(OK.to_owned()),
        (Form::Application, Up::Application(application), result) => json!(application.answered(result)),
        (Form::Watches, Up::WatchSync(applications), result) => json!(failed_watches(applications, result)),
        (Form::Confirmation | Form::None, ..) => return None,
        (_, _, failure) => {
            route.operation = ERROR.to_owned();
            let status = failure.err().unwrap_or_else(|| unspoken("there is no answer"));
            Value::String(status.to_string())
        }
    };
    Some(Envelope { header, route, content })
}

/// Answers that do not come from KubeEdge's edge controller.
fn address(form: Form, route: &mut Route) {
    let (source, group) = match form {
        Form::Confirmation => (DEVICE_CONTROLLER, TWIN),
        Form::Authority => (CLOUD_HUB, RESOURCE),
        Form::Application | Form::Watches => (DYNAMIC_CONTROLLER, RESOURCE),
        Form::Service => (SERVICE_BUS, USER),
        _ => return,
    };
    route.source = source.to_owned();
    route.group = group.to_owned();
    match form {
        Form::Confirmation => route.resource = TWIN.to_owned(),
        Form::Application => {
            route.resource = APPLICATION_ANSWER.to_owned();
            route.operation = APPLICATION_RESPONSE.to_owned();
        }
        Form::Watches => route.operation = APPLICATION_RESPONSE.to_owned(),
        _ => {}
    }
}

/// `Err` always says something and nodes and pods always come with an object: an edgecore crashes without them.
fn wrapped_failure(up: &Up, mut status: Status) -> Value {
    if status.status.is_empty() {
        status.status = "Failure".to_owned();
    }
    if status.metadata.is_null() {
        status.metadata = json!({});
    }
    let metadata = json!({"creationTimestamp": null});
    let object = match up {
        Up::NodeInsert { .. } | Up::NodePatch { .. } => json!({"metadata": metadata, "spec": {},
            "status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": {}}}),
        Up::PodInsert { .. } | Up::PodPatch { .. } => {
            json!({"metadata": metadata, "spec": {"containers": null}, "status": {}})
        }
        Up::CertificateRequest { .. } => {
            json!({"metadata": metadata, "spec": {"request": null, "signerName": ""}, "status": {}})
        }
        _ => Value::Null,
    };
    json!({"Object": object, "Err": {"ErrStatus": status}})
}

/// The object's own `metadata.resourceVersion`.
pub(super) fn revision_of(object: &Value) -> Option<Revision> {
    Revision::parse(object.pointer("/metadata/resourceVersion")?.as_str()?)
}
