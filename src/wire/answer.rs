//! Questions from the edge and their answers. The form of an answer depends on the question (protocol.md §4.1, §4.2):
//! wrapped in `{Object, Err}`, bare, or the text `OK`; reading accepts every form, wrong ones included.

use super::envelope::MessageId;
use super::up::Up;
use crate::model::Status;
use serde_json::Value;

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
