//! What the cloud tells an edge node. `decode` runs on the edge, `encode` on the cloud.

use super::answer::{Answer, Question};
use super::envelope::MessageId;
use crate::model::twin::Twins;
use crate::model::{DeviceId, ObjectKey, Revision, Status};
use serde_json::Value;

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
    Dynamic,
    Policy,
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
    /// Understood as an envelope but not as a message; `why` is constant text for the log.
    Unknown { resource: String, operation: String, why: &'static str },
}
