//! Small pieces that the families of messages share: a route with its content, names in paths.

use super::envelope::{Envelope, Header, MessageId, Route};
use crate::base::{now_ms, uuid4};
use serde_json::Value;

/// A message before it gets its header.
pub(super) struct Parts {
    pub source: &'static str,
    pub group: &'static str,
    pub operation: &'static str,
    pub resource: String,
    pub content: Value,
}

impl Parts {
    /// The message under this id, or a fresh one when it is empty.
    pub fn envelope(self, id: MessageId) -> Envelope {
        let msg_id = if id.0.is_empty() { MessageId(uuid4()) } else { id };
        Envelope {
            header: Header { msg_id, timestamp: now_ms(), ..Header::default() },
            route: Route {
                source: self.source.to_owned(),
                group: self.group.to_owned(),
                operation: self.operation.to_owned(),
                resource: self.resource,
                ..Route::default()
            },
            content: self.content,
        }
    }
}

/// Whether a text can stand between two slashes: a letter, digit or `_`, then also `-`, `.` and `+`.
pub(super) fn is_word(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(plain) && text.chars().all(|c| plain(c) || matches!(c, '-' | '.' | '+'))
}
