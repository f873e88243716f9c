//! A device twin: for each property what is wanted and what was measured, each with a time and a version.
//! The JSON form is KubeEdge's (protocol.md §5.3); the merge rules stand with the device module.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Counts changes of one half of a property on each side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinVersion {
    pub cloud: i64,
    pub edge: i64,
}

/// When a value was set, in milliseconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueMetadata {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timestamp: i64,
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// One value of a property; an empty string is a value, an absent one is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinValue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ValueMetadata>,
}

/// Type of a property (`string`, `int`, `float`, `boolean`, `deleted`) and whatever else was said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeMetadata {
    #[serde(rename = "type", default, skip_serializing_if = "String::is_empty")]
    pub value_type: String,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The protocol that a Device of any version names; empty where it names none.
pub fn protocol_of(device: &Value) -> &str {
    let text = |path: &str| device.pointer(path).and_then(Value::as_str);
    let older = ["modbus", "opcua", "bluetooth"];
    let has = |name: &&str| device.pointer(&format!("/spec/protocol/{name}")).is_some();
    text("/spec/protocol/protocolName")
        .or_else(|| text("/spec/protocol/customizedProtocol/protocolName"))
        .or_else(|| older.into_iter().find(has))
        .unwrap_or_default()
}

/// Nobody has reported a value of a device: which protocol its mapper would speak, and on which node.
pub fn mapper_missing(protocol: &str, node: &str) -> String {
    let protocol = if protocol.is_empty() { "not named" } else { protocol };
    let node = if node.is_empty() { "none" } else { node };
    format!("MapperMissing(protocol={protocol}, node={node})")
}

/// One property as it travels: KubeEdge's `MsgTwin`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinProperty {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<TwinValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<TwinValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TypeMetadata>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<TwinVersion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_version: Option<TwinVersion>,
}

/// All properties of a device by name; `None` asks for the removal of a property.
pub type Twins = BTreeMap<String, Option<TwinProperty>>;
