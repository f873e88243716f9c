//! The envelope of every message between cloud and edge (protocol.md §1.1) and its limits.
//! Decoding accepts what Go's decoder accepts; encoding writes what Go's encoder writes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The largest WebSocket message either end takes, in bytes; checked by `link` before allocation.
pub const MESSAGE_LIMIT: usize = 16 << 20;

/// A message's identity: a UUID in KubeEdge, any short text on input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub String);

/// Who, when, in answer to what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    #[serde(default)]
    pub msg_id: MessageId,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub parent_msg_id: MessageId,
    /// Milliseconds since the epoch.
    #[serde(default)]
    pub timestamp: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resourceversion: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub sync: bool,
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub transport: String,
}

/// From whom, to which group, what to do, with what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub destination: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub operation: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource: String,
}

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    #[serde(default)]
    pub header: Header,
    #[serde(default)]
    pub route: Route,
    #[serde(default)]
    pub content: Value,
}

fn is_empty(id: &MessageId) -> bool {
    id.0.is_empty()
}

fn is_false(flag: &bool) -> bool {
    !*flag
}
