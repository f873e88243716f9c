//! Bodies of requests: bounded, JSON, YAML, and protobuf where `protobuf` knows the kind.

use super::protobuf;
use crate::daemon::apiserver::errors;
use crate::daemon::apiserver::ops::Patch;
use crate::model::Status;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use std::time::Duration;

/// Upstream's limit for a request.
const LIMIT: usize = 3 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads a whole body.
pub async fn read(body: Incoming) -> Result<Bytes, Status> {
    let collected = tokio::time::timeout(PATIENCE, Limited::new(body, LIMIT).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(errors::too_large(LIMIT)),
        Ok(Err(error)) => Err(errors::bad_request(format!("the body could not be read: {error}"))),
        Err(_late) => Err(Status::failure(408, "Timeout", "the body did not arrive in time")),
    }
}

fn media(headers: &HeaderMap) -> &str {
    let header = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    header.split(';').next().unwrap_or("").trim()
}

fn yaml(body: &[u8]) -> Result<Value, Status> {
    serde_yaml::from_slice(body)
        .map_err(|error| errors::bad_request(format!("error converting YAML to JSON: {error}")))
}

fn json(body: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(body).map_err(|error| {
        errors::bad_request(format!("the object provided is unrecognized (must be of type JSON): {error}"))
    })
}

/// An object as the content type says.
pub fn object(headers: &HeaderMap, body: &[u8]) -> Result<Value, Status> {
    let read = match media(headers) {
        "" | "application/json" | "*/*" | "text/plain" | "application/x-www-form-urlencoded" => json(body),
        "application/yaml" | "application/x-yaml" | "text/yaml" => yaml(body),
        "application/vnd.kubernetes.protobuf" => protobuf::object(body).ok_or_else(|| {
            errors::unsupported_media(
                "application/vnd.kubernetes.protobuf",
                "application/json, application/yaml",
            )
        }),
        other => Err(errors::unsupported_media(other, "application/json, application/yaml")),
    }?;
    // What follows writes into fields, and a number or a list has none.
    if read.is_object() { Ok(read) } else { Err(errors::bad_request("the body is not an object")) }
}

/// A patch as the content type says.
pub fn patch(headers: &HeaderMap, body: &[u8], force: bool) -> Result<Patch, Status> {
    match media(headers) {
        "application/json-patch+json" => Ok(Patch::Json(body.to_vec())),
        "application/merge-patch+json" => Ok(Patch::Merge(json(body)?)),
        "application/strategic-merge-patch+json" => Ok(Patch::Strategic(json(body)?)),
        "application/apply-patch+yaml" => Ok(Patch::Apply { config: yaml(body)?, force }),
        other => Err(errors::unsupported_media(
            other,
            "application/json-patch+json, application/merge-patch+json, \
             application/strategic-merge-patch+json, application/apply-patch+yaml",
        )),
    }
}
