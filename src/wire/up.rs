//! What an edge node tells the cloud. `encode` runs on the edge, `decode` on the cloud.

use super::envelope::MessageId;
use crate::model::twin::Twins;
use crate::model::{DeviceId, ObjectKey};
use serde_json::Value;

/// What is done to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseVerb {
    Insert,
    Update,
}

/// Changed properties of one device with versions (protocol.md §4.5.2, `twin/edge_updated`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinReport {
    pub device: DeviceId,
    pub event_id: String,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    pub twins: Twins,
}

/// A device's state (protocol.md §4.5.2, `state/update`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateReport {
    pub device: DeviceId,
    pub event_id: String,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    pub state: String,
    /// RFC 3339, empty when the device is not online.
    pub last_online: String,
}

/// A message from an edge node, understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Up {
    Keepalive,
    /// The node has stored the message with this id.
    Acknowledge {
        of: MessageId,
    },
    /// Registers the node. Answer: the Node, or `AlreadyExists`.
    NodeInsert {
        name: String,
        node: Value,
    },
    /// Asks for an object: Node, ConfigMap, Secret, PersistentVolume, PersistentVolumeClaim, VolumeAttachment, CSR, Lease.
    Query {
        key: ObjectKey,
    },
    /// Merges labels and annotations into the Node. Answer: `OK`.
    NodeUpdate {
        name: String,
        node: Value,
    },
    /// Strategic-merge patch of the Node's status, as JSON text. Answer: the Node.
    NodePatch {
        name: String,
        patch: String,
    },
    /// Strategic-merge patch of the pod's status, as JSON text. Answer: the Pod.
    PodPatch {
        namespace: String,
        name: String,
        patch: String,
    },
    /// Creates a mirror pod. Answer: the Pod.
    PodInsert {
        namespace: String,
        name: String,
        pod: Value,
    },
    /// Deletes the Pod object once its containers are gone; `options` is `metav1.DeleteOptions`. Answer: `OK`.
    PodDelete {
        namespace: String,
        name: String,
        options: Value,
    },
    /// Asks for a token; `request` is a `TokenRequest`. Answer: the TokenRequest with the token.
    TokenRequest {
        namespace: String,
        service_account: String,
        request: Value,
    },
    /// Answer: the Lease.
    Lease {
        verb: LeaseVerb,
        namespace: String,
        name: String,
        lease: Value,
    },
    /// An event object. No answer.
    Event {
        namespace: String,
        name: String,
        event: Value,
    },
    /// Answer: a confirmation.
    TwinReport(TwinReport),
    /// Answer: a confirmation.
    StateReport(StateReport),
    /// Asks which devices belong to the node. Answer: a confirmation; the devices follow as objects.
    MembershipDetail {
        event_id: String,
    },
    /// A user message from MQTT. No answer.
    Upload {
        topic: String,
        payload: String,
    },
    /// The node could not carry out the message with this id.
    Failed {
        of: MessageId,
        text: String,
    },
    /// Understood as an envelope but not as a message; `why` is constant text for the log.
    Unknown {
        resource: String,
        operation: String,
        why: &'static str,
    },
}
