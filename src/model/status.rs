//! Kubernetes' `metav1.Status` as kedge passes it: the answer to a request that failed.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// A failed Kubernetes request; serialises to the JSON of `metav1.Status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(rename = "apiVersion", skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    pub metadata: Value,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    #[serde(skip_serializing_if = "is_zero")]
    pub code: u16,
}

fn is_zero(code: &u16) -> bool {
    *code == 0
}

impl Status {
    /// A failure with HTTP status `code`, a machine-readable reason such as `NotFound`, and a sentence.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Status {
            kind: String::new(),
            api_version: String::new(),
            metadata: Value::Object(serde_json::Map::new()),
            status: "Failure".to_owned(),
            message: message.into(),
            reason: reason.to_owned(),
            details: None,
            code,
        }
    }

    /// `resource` in plural, as upstream words it: `pods "x" not found`.
    pub fn not_found(resource: &str, name: &str) -> Self {
        let mut status = Status::failure(404, "NotFound", format!("{resource} \"{name}\" not found"));
        status.details = Some(serde_json::json!({"name": name, "kind": resource}));
        status
    }

    pub fn is_not_found(&self) -> bool {
        self.reason == "NotFound"
    }

    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }

    pub fn already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, if self.reason.is_empty() { "no reason" } else { &self.reason })
    }
}

impl std::error::Error for Status {}
