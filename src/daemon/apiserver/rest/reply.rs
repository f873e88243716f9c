//! Answers: objects and lists in the form that was asked for, Statuses, warnings.

use super::path::Shape;
use crate::base::now;
use crate::daemon::apiserver::catalog::{Resource, Version};
use crate::daemon::apiserver::errors;
use crate::daemon::apiserver::table::{self, Include};
use crate::link::http::{Body, full};
use crate::model::Status;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use std::sync::Arc;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A JSON answer.
pub fn json(code: StatusCode, value: &Value) -> Response<Body> {
    bytes(code, serde_json::to_vec(value).unwrap_or_default())
}

pub fn bytes(code: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// The answer to a request that failed.
pub fn status(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(code, &errors::body(status));
    if code == StatusCode::TOO_MANY_REQUESTS || code == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Adds `Warning` headers, as kubectl shows them.
pub fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for text in warnings {
        let clean: String =
            text.chars().map(|c| if c == '"' || c == '\\' || c.is_control() { '\'' } else { c }).collect();
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{clean}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

/// Only the metadata of an object.
fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

fn rendered(
    resource: &Resource,
    version: &Version,
    include: Include,
    rows: &[Arc<Value>],
    metadata: Value,
) -> Value {
    // A definition without columns of its own shows name and age.
    let none: &[Value] = &[];
    let columns = version.columns.as_deref().or(resource.custom.then_some(none));
    table::render(&resource.group, &resource.kind, rows, columns, include, metadata, now())
}

/// One object in the form that was asked for.
pub fn shaped(resource: &Resource, version: &Version, shape: Shape, object: &Arc<Value>) -> Vec<u8> {
    let body = match shape {
        Shape::Whole => serde_json::to_vec(&**object),
        Shape::Metadata => serde_json::to_vec(&metadata_only(object)),
        Shape::Table(include) => {
            let rows = std::slice::from_ref(object);
            let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
            serde_json::to_vec(&rendered(resource, version, include, rows, metadata))
        }
    };
    body.unwrap_or_default()
}

/// A list in the form that was asked for; `metadata` is the list's own.
pub fn list(
    resource: &Resource,
    version: &Version,
    shape: Shape,
    metadata: Value,
    objects: &[Arc<Value>],
) -> Vec<u8> {
    if let Shape::Table(include) = shape {
        let table = rendered(resource, version, include, objects, metadata);
        return serde_json::to_vec(&table).unwrap_or_default();
    }
    let (kind, api) = match shape {
        Shape::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
        Shape::Whole | Shape::Table(_) => (resource.list_kind.clone(), resource.api_version(&version.name)),
    };
    let head = json!({"kind": kind, "apiVersion": api, "metadata": metadata}).to_string();
    let mut body = head.into_bytes();
    body.pop();
    body.extend_from_slice(b",\"items\":[");
    for (at, object) in objects.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        let written = match shape {
            Shape::Metadata => serde_json::to_writer(&mut body, &metadata_only(object)),
            Shape::Whole | Shape::Table(_) => serde_json::to_writer(&mut body, &**object),
        };
        if let Err(error) = written {
            tracing::error!(%error, "an object could not be serialised");
        }
    }
    body.extend_from_slice(b"]}");
    body
}
