//! Volume operations that a storage driver in the cloud has a node carry out (protocol.md §4.7). `up` and `down` encode
//! and decode here; what a request or an answer means is the driver's matter.

use super::DecodeError;
use super::blob::Blob;
use super::codec::is_modest;
use super::down::parsed;
use super::envelope::{Envelope, MessageId};
use super::names::*;
use super::parts::{Parts, is_word};
use crate::base::uuid4;
use crate::model::NodeName;
use serde_json::Value;

/// The longest letter of a storage driver, in bytes; KubeEdge reads 10,480 (protocol.md §1.6).
pub const LETTER_LIMIT: usize = 64 << 10;

/// What is done with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeVerb {
    Create,
    Delete,
    Publish,
    Unpublish,
}

const VERBS: [(VolumeVerb, &str); 4] = [
    (VolumeVerb::Create, "createvolume"),
    (VolumeVerb::Delete, "deletevolume"),
    (VolumeVerb::Publish, "controllerpublishvolume"),
    (VolumeVerb::Unpublish, "controllerunpublishvolume"),
];

/// A volume operation; it is not acknowledged, its result answers it.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeOrder {
    /// The message's id, which the result names; a fresh one is made when it is empty.
    pub id: MessageId,
    pub volume: String,
    pub verb: VolumeVerb,
    /// The CSI request as JSON.
    pub request: Value,
}

/// What became of a volume operation.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeResult {
    /// The operation's message.
    pub of: MessageId,
    pub volume: String,
    /// The CSI response as JSON, or why there is none.
    pub outcome: Result<Value, String>,
}

/// What a storage driver hands to the cloud over its socket: an operation, and the node that is to carry it out.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// The driver's id, which the answer names.
    pub id: MessageId,
    pub node: NodeName,
    /// Under a fresh id: two drivers may use the same one.
    pub order: VolumeOrder,
}

impl Letter {
    /// Reads a letter; `None` while it is not whole yet.
    pub fn decode(bytes: &[u8]) -> Option<Result<Letter, &'static str>> {
        match Envelope::decode(bytes) {
            Ok(envelope) => Some(Letter::read(envelope)),
            Err(DecodeError::NotJson) => None,
            Err(DecodeError::NotAnObject) => Some(Err("the letter is not a JSON object")),
            Err(DecodeError::TooLarge | DecodeError::TooManyValues) => Some(Err("the letter is too large")),
        }
    }

    fn read(envelope: Envelope) -> Result<Letter, &'static str> {
        let Envelope { header, route, content } = envelope;
        let verb = verb(&route.operation).ok_or("the operation is none on volumes")?;
        let path = route.resource.strip_prefix("node/").and_then(|path| path.split_once('/'));
        let (node, path) = path.ok_or("the path names no node")?;
        let node = NodeName::new(node).map_err(|_| "the path names no node")?;
        let volume = volume_of(path).ok_or("the path names no volume")?;
        let order = decode_order(MessageId(uuid4()), verb, volume, content);
        Ok(Letter { id: header.msg_id, node, order })
    }

    /// The answer to a letter in the driver's form: base64 in an answer, or a text in an error.
    pub fn answer(&self, outcome: Result<Value, String>) -> String {
        let result = VolumeResult { of: self.id.clone(), volume: self.order.volume.clone(), outcome };
        answered(encode_result(&result), result.of)
    }
}

/// The answer to what is no letter.
pub fn refuse_letter(why: &str) -> String {
    let content = Value::String(why.to_owned());
    let parts =
        Parts { source: CLOUD_HUB, group: RESOURCE, operation: ERROR, resource: String::new(), content };
    answered(parts, MessageId::default())
}

fn answered(parts: Parts, parent: MessageId) -> String {
    let mut envelope = parts.envelope(MessageId::default());
    envelope.header.parent_msg_id = parent;
    envelope.encode()
}

/// Whether an operation is one of the four on volumes.
pub(super) fn verb(operation: &str) -> Option<VolumeVerb> {
    VERBS.iter().find(|(_, word)| *word == operation).map(|(verb, _)| *verb)
}

fn word(verb: VolumeVerb) -> &'static str {
    VERBS.iter().find(|(known, _)| *known == verb).map_or("", |(_, word)| word)
}

/// The volume that `{namespace}/volume/{id}` names.
pub(super) fn volume_of(resource: &str) -> Option<&str> {
    let (namespace, volume) = resource.split_once("/volume/")?;
    (is_word(namespace) && is_word(volume)).then_some(volume)
}

pub(super) fn decode_order(id: MessageId, verb: VolumeVerb, volume: &str, content: Value) -> VolumeOrder {
    VolumeOrder { id, volume: volume.to_owned(), verb, request: parsed(content) }
}

pub(super) fn encode_order(order: VolumeOrder) -> Envelope {
    let VolumeOrder { id, volume, verb, request } = order;
    // A genuine edge takes the request as a text only.
    let content = Value::String(request.to_string());
    Parts {
        source: CLOUD_HUB,
        group: RESOURCE,
        operation: word(verb),
        resource: format!("default/volume/{volume}"),
        content,
    }
    .envelope(id)
}

/// Reads a result: an object, its JSON as a text, or that in base64, as the transports and versions of KubeEdge give it.
pub(super) fn decode_result(of: MessageId, volume: &str, operation: &str, content: Value) -> VolumeResult {
    let outcome = match content {
        Value::String(text) if operation == ERROR => Err(text),
        Value::String(text) => match result_in(&text) {
            Some(value) => Ok(value),
            None => Err(text),
        },
        Value::Null => Err("the node gives no result".to_owned()),
        value if operation == ERROR => Err(value.to_string()),
        value => Ok(value),
    };
    VolumeResult { of, volume: volume.to_owned(), outcome }
}

fn result_in(text: &str) -> Option<Value> {
    let object = |text: &str| {
        let value = is_modest(text).then(|| serde_json::from_str::<Value>(text).ok()).flatten();
        value.filter(Value::is_object)
    };
    object(text).or_else(|| object(std::str::from_utf8(&Blob::parse(text)?.0).ok()?))
}

/// Writes a result in base64, the form that KubeEdge's own driver takes; a failure is operation `error` with a text.
pub(super) fn encode_result(result: &VolumeResult) -> Parts {
    let resource = format!("default/volume/{}", result.volume);
    let (operation, content) = match &result.outcome {
        Ok(value) => (RESPONSE, Blob(value.to_string().into_bytes()).text()),
        Err(why) => (ERROR, why.clone()),
    };
    Parts { source: META_MANAGER, group: RESOURCE, operation, resource, content: Value::String(content) }
}
