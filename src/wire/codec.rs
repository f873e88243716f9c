//! Envelope text: reads whatever Go's decoder reads, writes what Go's encoder writes.

use super::envelope::{Envelope, Header, MessageId, Route};
use serde::{Deserialize, Serialize};
use serde_json::ser::{CompactFormatter, Formatter};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::{self, Write};

/// Why bytes are not an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the message is not JSON")]
    NotJson,
    #[error("the message is not a JSON object")]
    NotAnObject,
    #[error("the message is larger than allowed")]
    TooLarge,
    #[error("the message holds more values than allowed")]
    TooManyValues,
}

/// Values in one message. A value takes some twenty times more memory than its shortest text, so the length alone
/// does not bound what a message costs; the largest object that Kubernetes stores has far fewer.
const VALUES: usize = 256 << 10;

/// Whether a text holds few enough values to be read. What stands in strings does not count.
pub(super) fn is_modest(text: &str) -> bool {
    // So short a text cannot hold more.
    if text.len() <= VALUES {
        return true;
    }
    let (mut values, mut quoted, mut escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b'[' | b'{' if !quoted => values += 1,
            _ => {}
        }
    }
    values <= VALUES
}

impl Envelope {
    /// Reads the first JSON value of a message. Keys are matched in any case, unknown keys and what follows the value are
    /// ignored, bytes that are not UTF-8 are replaced.
    pub fn decode(bytes: &[u8]) -> Result<Envelope, DecodeError> {
        if bytes.len() > super::envelope::MESSAGE_LIMIT {
            return Err(DecodeError::TooLarge);
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(bytes),
        };
        if !is_modest(&text) {
            return Err(DecodeError::TooManyValues);
        }
        let value = Value::deserialize(&mut serde_json::Deserializer::from_str(&text))
            .map_err(|_| DecodeError::NotJson)?;
        let Value::Object(mut top) = value else { return Err(DecodeError::NotAnObject) };
        let header = section(&mut top, "header");
        let route = section(&mut top, "route");
        Ok(Envelope {
            header: header.map(read_header).unwrap_or_default(),
            route: route.map(read_route).unwrap_or_default(),
            content: take(&mut top, "content").unwrap_or_default(),
        })
    }

    /// The message as Go writes it, with its final newline.
    pub fn encode(&self) -> String {
        let mut out = go_json(self);
        out.push(b'\n');
        String::from_utf8(out).unwrap_or_default()
    }
}

/// Plain data as Go's encoder writes it.
pub(super) fn go_json(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, GoFormatter);
    if value.serialize(&mut serializer).is_err() {
        // Writing plain data to memory does not fail.
        out.clear();
    }
    out
}

fn take(map: &mut Map<String, Value>, key: &str) -> Option<Value> {
    if let Some(value) = map.get_mut(key) {
        return Some(value.take());
    }
    map.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.take())
}

fn section(top: &mut Map<String, Value>, key: &str) -> Option<Map<String, Value>> {
    match take(top, key) {
        Some(Value::Object(map)) => Some(map),
        _ => None,
    }
}

fn text(map: &mut Map<String, Value>, key: &str) -> String {
    match take(map, key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

fn read_header(mut map: Map<String, Value>) -> Header {
    Header {
        msg_id: MessageId(text(&mut map, "msg_id")),
        parent_msg_id: MessageId(text(&mut map, "parent_msg_id")),
        timestamp: take(&mut map, "timestamp").and_then(|value| value.as_i64()).unwrap_or_default(),
        resourceversion: text(&mut map, "resourceversion"),
        sync: take(&mut map, "sync").and_then(|value| value.as_bool()).unwrap_or_default(),
        transport: text(&mut map, "type"),
    }
}

fn read_route(mut map: Map<String, Value>) -> Route {
    Route {
        source: text(&mut map, "source"),
        destination: text(&mut map, "destination"),
        group: text(&mut map, "group"),
        operation: text(&mut map, "operation"),
        resource: text(&mut map, "resource"),
    }
}

/// Compact JSON with the escapes of Go's encoder and whole floats without a fraction.
struct GoFormatter;

const WHOLE_LIMIT: f64 = 1e21;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            let mut following = special.chars();
            let escape = match following.next() {
                Some('<') => "\\u003c",
                Some('>') => "\\u003e",
                Some('&') => "\\u0026",
                Some('\u{2028}') => "\\u2028",
                _ => "\\u2029",
            };
            writer.write_all(plain.as_bytes())?;
            writer.write_all(escape.as_bytes())?;
            rest = following.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if value.fract() == 0.0 && value.abs() < WHOLE_LIMIT {
            return write!(writer, "{value:.0}");
        }
        CompactFormatter.write_f64(writer, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn writes_what_go_writes() {
        let envelope = Envelope {
            header: Header {
                msg_id: MessageId("6f0c".to_owned()),
                parent_msg_id: MessageId("b7c2".to_owned()),
                timestamp: 1_767_225_600_123,
                resourceversion: "7".to_owned(),
                sync: false,
                transport: String::new(),
            },
            route: Route {
                source: "edged".to_owned(),
                group: "meta".to_owned(),
                operation: "query".to_owned(),
                resource: "a/pod/b".to_owned(),
                destination: String::new(),
            },
            content: json!({"z": "<a>&\u{2028}\u{2029}\u{8}", "f": 2.0, "n": null}),
        };
        let expected = concat!(
            r#"{"header":{"msg_id":"6f0c","parent_msg_id":"b7c2","timestamp":1767225600123,"resourceversion":"7"},"#,
            r#""route":{"source":"edged","group":"meta","operation":"query","resource":"a/pod/b"},"#,
            r#""content":{"f":2,"n":null,"z":"\u003ca\u003e\u0026\u2028\u2029\b"}}"#,
            "\n"
        );
        assert_eq!(envelope.encode(), expected);
        assert_eq!(Envelope::decode(expected.as_bytes()).unwrap().encode(), expected);
        assert_eq!(
            Envelope::default().encode(),
            "{\"header\":{\"msg_id\":\"\",\"timestamp\":0},\"route\":{},\"content\":null}\n"
        );
    }

    #[test]
    fn reads_what_go_reads() {
        let text = br#" {"Header":{"MSG_ID":"x","timestamp":5,"new":1},"ROUTE":{"Resource":"r"},"content":"c"} trailing"#;
        let envelope = Envelope::decode(text).unwrap();
        assert_eq!(envelope.header.msg_id.0, "x");
        assert_eq!(envelope.header.timestamp, 5);
        assert_eq!(envelope.route.resource, "r");
        assert_eq!(envelope.content, "c");
        assert_eq!(Envelope::decode(b"{\"content\":\"a\xffb\"}").unwrap().content, "a\u{fffd}b");
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        assert_eq!(Envelope::decode(b"{\"header\":"), Err(DecodeError::NotJson));
        assert_eq!(Envelope::decode(b"[]"), Err(DecodeError::NotAnObject));
        let deep = "[".repeat(100_000);
        assert_eq!(Envelope::decode(deep.as_bytes()), Err(DecodeError::NotJson));
        assert!(Envelope::decode(br#"{"header":7,"route":[]}"#).is_ok());
    }

    #[test]
    fn a_message_that_would_take_much_more_memory_than_its_length_is_refused() {
        let many = "0,".repeat(VALUES + 1);
        let bomb = format!("{{\"content\":[{many}0]}}");
        assert_eq!(Envelope::decode(bomb.as_bytes()), Err(DecodeError::TooManyValues));
        let text = format!("{{\"content\":\"\\\"{many}\"}}");
        assert!(Envelope::decode(text.as_bytes()).is_ok());
        assert!(!is_modest(&format!("\"\\\"\"{many}")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            drop(Envelope::decode(&bytes));
        }

        #[test]
        fn strings_survive(text: String) {
            let envelope = Envelope { content: Value::String(text), ..Envelope::default() };
            prop_assert_eq!(Envelope::decode(envelope.encode().as_bytes()).unwrap(), envelope);
        }
    }
}
