//! Kubernetes' protobuf bodies, for the kinds that kubectl's own commands (`create namespace`, `create token`, `auth
//! can-i`, …) and cloudcore (nodes, leases, events) send that way. They become JSON at the door. A set field that the tables do not know refuses the
//! whole body: nothing is lost silently.

mod tables;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

const MAGIC: &[u8] = b"k8s\0";
const MAX_DEPTH: usize = 24;
/// Numbers that mean something when they are zero.
const ZERO_COUNTS: [&str; 6] =
    ["gracePeriodSeconds", "replicas", "value", "parallelism", "backoffLimit", "ttlSecondsAfterFinished"];

/// How the bytes of a field become JSON.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Texts,
    Number,
    Flag,
    TextMap,
    BytesMap,
    One(&'static [Field]),
    Many(&'static [Field]),
    /// A message whose fields stand in its parent's JSON.
    Inline(&'static [Field]),
    NumberOrText,
    Quantity,
    Quantities,
    /// Seconds since 1970 in a message of their own, as RFC 3339 text.
    Time,
    /// The same with microseconds.
    MicroTime,
    /// Always written by clients and never theirs to set.
    Skip,
}

type Field = (u64, &'static str, Form);

/// One field as it stands in the bytes.
enum Raw<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn next<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Raw<'a>)> {
    let tag = varint(bytes)?;
    let raw = match tag & 7 {
        0 => Raw::Varint(varint(bytes)?),
        2 => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            let (value, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Raw::Bytes(value)
        }
        _ => return None,
    };
    Some((tag >> 3, raw))
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// The two fields of a map's entry.
fn entry(mut bytes: &[u8]) -> Option<(String, &[u8])> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    while !bytes.is_empty() {
        match next(&mut bytes)? {
            (1, Raw::Bytes(found)) => key = found,
            (2, Raw::Bytes(found)) => value = found,
            _ => return None,
        }
    }
    Some((text(key)?, value))
}

fn message(mut bytes: &[u8], fields: &[Field], depth: usize) -> Option<Map<String, Value>> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut object = Map::new();
    while !bytes.is_empty() {
        let (number, raw) = next(&mut bytes)?;
        let known = fields.iter().find(|(at, _, _)| *at == number);
        match (known, raw) {
            (None, Raw::Varint(0) | Raw::Bytes([])) | (Some((_, _, Form::Skip)), _) => {}
            (Some((_, name, form)), raw) => set(&mut object, name, *form, raw, depth)?,
            (None, _) => return None,
        }
    }
    Some(object)
}

fn set(object: &mut Map<String, Value>, name: &str, form: Form, raw: Raw<'_>, depth: usize) -> Option<()> {
    let push = |value: Value, object: &mut Map<String, Value>| {
        if let Some(list) = object.entry(name).or_insert_with(|| json!([])).as_array_mut() {
            list.push(value);
        }
    };
    match (form, raw) {
        // Empty texts and numbers are written where nothing was set.
        (Form::Text, Raw::Bytes([])) => {}
        (Form::Text, Raw::Bytes(bytes)) => drop(object.insert(name.to_owned(), text(bytes)?.into())),
        (Form::Texts, Raw::Bytes(bytes)) => push(text(bytes)?.into(), object),
        (Form::Number, Raw::Varint(0)) if !ZERO_COUNTS.contains(&name) => {}
        (Form::Number, Raw::Varint(value)) => {
            drop(object.insert(name.to_owned(), value.cast_signed().into()))
        }
        (Form::Flag, Raw::Varint(value)) => drop(object.insert(name.to_owned(), (value != 0).into())),
        (Form::One(fields), Raw::Bytes(bytes)) => {
            drop(object.insert(name.to_owned(), message(bytes, fields, depth + 1)?.into()));
        }
        (Form::Inline(fields), Raw::Bytes(bytes)) => object.extend(message(bytes, fields, depth + 1)?),
        (Form::NumberOrText, Raw::Bytes(bytes)) => {
            let found = message(
                bytes,
                &[(1, "", Form::Skip), (2, "n", Form::Number), (3, "t", Form::Text)],
                depth + 1,
            )?;
            let value = found.get("t").or_else(|| found.get("n")).cloned();
            // A port that was not set is written, too; a bound that was not set is not.
            if let Some(value) = value.or((name != "targetPort").then(|| json!(0))) {
                object.insert(name.to_owned(), value);
            }
        }
        (Form::Quantity, Raw::Bytes(bytes)) => {
            drop(object.insert(name.to_owned(), quantity(bytes, depth)?.into()))
        }
        // A time that was not set is written as a message of no bytes.
        (Form::Time | Form::MicroTime, Raw::Bytes([])) => {}
        (Form::Time, Raw::Bytes(bytes)) => {
            drop(object.insert(name.to_owned(), time(bytes, "Z", depth)?.into()))
        }
        (Form::MicroTime, Raw::Bytes(bytes)) => {
            drop(object.insert(name.to_owned(), time(bytes, ".%6fZ", depth)?.into()));
        }
        (Form::Many(fields), Raw::Bytes(bytes)) => push(message(bytes, fields, depth + 1)?.into(), object),
        (Form::TextMap | Form::BytesMap | Form::Quantities, Raw::Bytes(bytes)) => {
            let (key, value) = entry(bytes)?;
            let value = match form {
                Form::BytesMap => STANDARD.encode(value),
                Form::Quantities => quantity(value, depth)?,
                _ => text(value)?,
            };
            if let Some(map) = object.entry(name).or_insert_with(|| json!({})).as_object_mut() {
                map.insert(key, value.into());
            }
        }
        _ => return None,
    }
    Some(())
}

fn quantity(bytes: &[u8], depth: usize) -> Option<String> {
    Some(message(bytes, &[(1, "text", Form::Text)], depth + 1)?.get("text")?.as_str()?.to_owned())
}

/// The time of a message with seconds and nanoseconds; `rest` is how the text goes on after the seconds.
fn time(bytes: &[u8], rest: &str, depth: usize) -> Option<String> {
    let found = message(bytes, &[(1, "s", Form::Number), (2, "n", Form::Number)], depth + 1)?;
    let part = |name: &str| found.get(name).and_then(Value::as_i64).unwrap_or(0);
    let at = Timestamp::new(part("s"), i32::try_from(part("n")).ok()?).ok()?;
    Some(at.strftime(&format!("%Y-%m-%dT%H:%M:%S{rest}")).to_string())
}

/// The object in a body, or `None` where it cannot be read without loss.
pub fn object(body: &[u8]) -> Option<Value> {
    let mut bytes = body.strip_prefix(MAGIC)?;
    let (mut kind, mut raw) = (Map::new(), &[][..]);
    while !bytes.is_empty() {
        match next(&mut bytes)? {
            (1, Raw::Bytes(found)) => {
                kind = message(found, &[(1, "apiVersion", Form::Text), (2, "kind", Form::Text)], 0)?
            }
            (2, Raw::Bytes(found)) => raw = found,
            (3 | 4, Raw::Bytes(_)) => {}
            _ => return None,
        }
    }
    let word = |name: &str| kind.get(name).and_then(Value::as_str);
    let mut object = message(raw, tables::table(word("apiVersion")?, word("kind")?)?, 0)?;
    object.extend(kind);
    Some(object.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_read() {
        let mut body = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x0f".to_vec();
        body.extend_from_slice(b"\x0a\x07\x0a\x01x\x12\x00\x1a\x00\x12\x00\x1a\x02\x0a\x00");
        let read = object(&body).unwrap();
        assert_eq!(
            read,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}, "spec": {}})
        );
    }

    #[test]
    fn a_lease_is_read_with_its_times() {
        let mut body = b"k8s\0\x0a\x1f\x0a\x16coordination.k8s.io/v1\x12\x05Lease".to_vec();
        // holder "n", 40 s, never acquired, renewed at 1.5 s.
        body.extend_from_slice(b"\x12\x1c\x0a\x07\x0a\x01n\x42\x02\x08\x00");
        body.extend_from_slice(b"\x12\x11\x0a\x01n\x10\x28\x1a\x00\x22\x08\x08\x01\x10\x80\xca\xb5\xee\x01");
        let read = object(&body).unwrap();
        let spec = json!({"holderIdentity": "n", "leaseDurationSeconds": 40, "renewTime": "1970-01-01T00:00:01.500000Z"});
        assert_eq!((&read["metadata"]["name"], &read["spec"]), (&json!("n"), &spec));
    }

    #[test]
    fn what_is_not_known_is_refused_and_nothing_panics() {
        for body in
            [&b""[..], b"k8s\0", b"k8s\0\xff\xff\xff", b"k8s\0\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"]
        {
            assert!(object(body).is_none());
        }
        let mut unknown = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x04".to_vec();
        unknown.extend_from_slice(b"\xa2\x06\x01x");
        assert!(object(&unknown).is_none());
    }
}
