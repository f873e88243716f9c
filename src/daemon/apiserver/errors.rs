//! The failures of the API as `metav1.Status`, in upstream's words, so that kubectl prints what people know.
//! Used by every part of the API; it never names a Rust type or a file.

use super::catalog::Resource;
use crate::model::Status;
use serde_json::{Value, json};

/// One field that is wrong in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub field: String,
    /// `FieldValueRequired`, `FieldValueInvalid`, …
    pub reason: &'static str,
    /// The whole sentence after the field's name.
    pub message: String,
}

impl Cause {
    pub fn required(field: &str, message: &str) -> Self {
        let tail = if message.is_empty() { String::new() } else { format!(": {message}") };
        Cause {
            field: field.to_owned(),
            reason: "FieldValueRequired",
            message: format!("Required value{tail}"),
        }
    }

    pub fn invalid(field: &str, value: &Value, message: &str) -> Self {
        Cause {
            field: field.to_owned(),
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {value}: {message}"),
        }
    }

    pub fn forbidden(field: &str, message: &str) -> Self {
        Cause {
            field: field.to_owned(),
            reason: "FieldValueForbidden",
            message: format!("Forbidden: {message}"),
        }
    }

    pub fn too_long(field: &str, limit: usize) -> Self {
        Cause {
            field: field.to_owned(),
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {limit} bytes"),
        }
    }
}

fn with_details(mut status: Status, details: Value) -> Status {
    status.details = Some(details);
    status
}

fn about(resource: &Resource, name: &str) -> Value {
    let mut details = json!({"name": name, "kind": resource.plural});
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    details
}

pub fn not_found(resource: &Resource, name: &str) -> Status {
    let status = Status::failure(404, "NotFound", format!("{} \"{name}\" not found", resource.qualified()));
    with_details(status, about(resource, name))
}

pub fn already_exists(resource: &Resource, name: &str) -> Status {
    let message = format!("{} \"{name}\" already exists", resource.qualified());
    with_details(Status::failure(409, "AlreadyExists", message), about(resource, name))
}

pub fn conflict(resource: &Resource, name: &str, why: &str) -> Status {
    let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.qualified());
    with_details(Status::failure(409, "Conflict", message), about(resource, name))
}

pub fn modified(resource: &Resource, name: &str) -> Status {
    conflict(
        resource,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )
}

pub fn invalid(resource: &Resource, name: &str, causes: &[Cause]) -> Status {
    let mut words: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
    let list = if words.len() == 1 { words.remove(0) } else { format!("[{}]", words.join(", ")) };
    let kind = if resource.group.is_empty() {
        resource.kind.clone()
    } else {
        format!("{}.{}", resource.kind, resource.group)
    };
    let mut details = json!({"name": name, "kind": resource.kind});
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    details["causes"] = causes
        .iter()
        .map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}))
        .collect::<Vec<_>>()
        .into();
    with_details(Status::failure(422, "Invalid", format!("{kind} \"{name}\" is invalid: {list}")), details)
}

pub fn bad_request(message: impl Into<String>) -> Status {
    Status::failure(400, "BadRequest", message)
}

pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Status {
    let message = if name.is_empty() {
        format!("{} is forbidden: {why}", resource.qualified())
    } else {
        format!("{} \"{name}\" is forbidden: {why}", resource.qualified())
    };
    with_details(Status::failure(403, "Forbidden", message), about(resource, name))
}

pub fn unauthorized() -> Status {
    Status::failure(401, "Unauthorized", "Unauthorized")
}

pub fn unknown_path() -> Status {
    with_details(
        Status::failure(404, "NotFound", "the server could not find the requested resource"),
        json!({}),
    )
}

pub fn method_not_allowed() -> Status {
    with_details(
        Status::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
        json!({}),
    )
}

pub fn unsupported_media(kind: &str, accepted: &str) -> Status {
    let message = format!(
        "the body of the request was in an unknown format ({kind}) - accepted media types include: {accepted}"
    );
    Status::failure(415, "UnsupportedMediaType", message)
}

pub fn too_large(limit: usize) -> Status {
    let message = format!("Request entity too large: limit is {limit}");
    Status::failure(413, "RequestEntityTooLarge", message)
}

pub fn expired(message: impl Into<String>) -> Status {
    Status::failure(410, "Expired", message)
}

pub fn internal(message: impl Into<String>) -> Status {
    Status::failure(500, "InternalError", format!("Internal error occurred: {}", message.into()))
}

pub fn unavailable(message: impl Into<String>) -> Status {
    Status::failure(503, "ServiceUnavailable", message)
}

/// There is no way from this API to nodes.
pub fn no_kubelet() -> Status {
    unavailable(
        "this API was started without a way to its nodes: start it with `kedge up` or `kedge cloud run --embedded`",
    )
}

/// The Status as the body of a response, with its kind and API version.
pub fn body(status: &Status) -> Value {
    let mut body = serde_json::to_value(status).unwrap_or_default();
    body["kind"] = json!("Status");
    body["apiVersion"] = json!("v1");
    body
}
