//! What a node holds in a few words: a hash of each object's content, folded into buckets that two ends compare.
//! Edge and cloud compute the same from the same object, however it travelled. Pure; `store` and the cloud's `control`
//! call it. It must never depend on the order of objects or of their fields.

use super::{Kind, ObjectKey};
use ring::digest::{Context, SHA256};
use serde_json::{Map, Value};
use std::fmt;

/// The kinds that the cloud pushes and that both ends compare.
pub const COMPARED: [Kind; 6] =
    [Kind::Node, Kind::ConfigMap, Kind::Secret, Kind::DeviceModel, Kind::Device, Kind::Pod];
/// A difference is narrowed down to one of so many parts of what a node holds.
pub const BUCKETS: usize = 32;

/// Changes when an object changes in anything but its status and its bookkeeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash(pub u64);

impl ContentHash {
    /// Hashes all fields but `status`, type, revision and other bookkeeping.
    pub fn of(object: &Value) -> ContentHash {
        let mut context = Context::new(&SHA256);
        match object {
            Value::Object(fields) => {
                let counts = |name: &str| !matches!(name, "status" | "apiVersion" | "kind");
                feed_fields(&mut context, fields, counts, |context, name, value| match value {
                    Value::Object(metadata) if name == "metadata" => {
                        feed_fields(context, metadata, is_no_bookkeeping, |context, _, value| {
                            feed(context, value);
                        });
                    }
                    other => feed(context, other),
                });
            }
            other => feed(&mut context, other),
        }
        ContentHash(head(context))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

fn is_no_bookkeeping(name: &str) -> bool {
    !matches!(name, "resourceVersion" | "managedFields" | "generation" | "selfLink")
}

fn head(context: Context) -> u64 {
    let hash = context.finish();
    hash.as_ref().iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn feed_text(context: &mut Context, tag: u8, text: &[u8]) {
    context.update(&[tag]);
    context.update(&(text.len() as u64).to_be_bytes());
    context.update(text);
}

/// Fields in the order of their names, whatever order the map keeps.
fn feed_fields(
    context: &mut Context,
    fields: &Map<String, Value>,
    counts: impl Fn(&str) -> bool,
    each: impl Fn(&mut Context, &str, &Value),
) {
    let mut ordered: Vec<(&String, &Value)> = fields.iter().filter(|(name, _)| counts(name)).collect();
    ordered.sort_by_key(|(name, _)| *name);
    context.update(b"{");
    for (name, value) in ordered {
        feed_text(context, b'k', name.as_bytes());
        each(context, name, value);
    }
    context.update(b"}");
}

fn feed(context: &mut Context, value: &Value) {
    match value {
        Value::Null => context.update(b"n"),
        Value::Bool(true) => context.update(b"t"),
        Value::Bool(false) => context.update(b"f"),
        Value::Number(number) => feed_text(context, b'd', number_text(number).as_bytes()),
        Value::String(text) => feed_text(context, b's', text.as_bytes()),
        Value::Array(items) => {
            context.update(b"[");
            for item in items {
                feed(context, item);
            }
            context.update(b"]");
        }
        Value::Object(fields) => {
            feed_fields(context, fields, |_| true, |context, _, value| feed(context, value))
        }
    }
}

/// Below this a whole number travels as an integer and is exact at both ends.
const EXACT: f64 = 9e18;

/// A whole number travels without its fraction, and the last digits of others depend on who reads them.
fn number_text(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(value) if number.is_f64() && value.fract() == 0.0 && value.abs() < EXACT => {
            format!("{value:.0}")
        }
        // A float this large may arrive as an integer.
        Some(value) if number.is_f64() || value.abs() >= EXACT => format!("{value:.12e}"),
        _ => number.to_string(),
    }
}

/// One object on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    pub key: ObjectKey,
    /// Empty when the object carries none.
    pub uid: String,
    pub content: ContentHash,
}

/// The holdings of a node as one hash per bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest([u64; BUCKETS]);

impl Digest {
    /// Folds keys and contents; each key may come once.
    pub fn of<'a>(holdings: impl IntoIterator<Item = (&'a ObjectKey, ContentHash)>) -> Digest {
        let mut buckets = [0; BUCKETS];
        for (key, content) in holdings {
            let mut context = Context::new(&SHA256);
            feed_text(&mut context, b'k', key.to_string().as_bytes());
            context.update(&content.0.to_be_bytes());
            if let Some(bucket) = buckets.get_mut(bucket_of(key)) {
                *bucket ^= head(context);
            }
        }
        Digest(buckets)
    }

    /// The buckets that are not the same.
    pub fn differing(&self, other: &Digest) -> Vec<usize> {
        self.0.iter().zip(&other.0).enumerate().filter(|(_, (a, b))| a != b).map(|(at, _)| at).collect()
    }

    /// Reads what `Display` writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Digest> {
        if text.len() != BUCKETS * 16 || !text.is_ascii() {
            return None;
        }
        let mut buckets = [0; BUCKETS];
        for (at, bucket) in buckets.iter_mut().enumerate() {
            *bucket = u64::from_str_radix(text.get(at * 16..at * 16 + 16)?, 16).ok()?;
        }
        Some(Digest(buckets))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|bucket| write!(f, "{bucket:016x}"))
    }
}

/// Where an object is counted.
pub fn bucket_of(key: &ObjectKey) -> usize {
    let mut context = Context::new(&SHA256);
    context.update(key.to_string().as_bytes());
    usize::try_from(head(context) % BUCKETS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::namespaced(Kind::ConfigMap, "d", name)
    }

    #[test]
    fn status_and_bookkeeping_do_not_count() {
        let before = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "resourceVersion": "1"},
            "spec": {"a": 1}, "status": {}});
        let mut after = before.clone();
        after["metadata"]["resourceVersion"] = json!("2");
        after["metadata"]["generation"] = json!(2);
        after["status"] = json!({"phase": "Running"});
        assert_eq!(ContentHash::of(&before), ContentHash::of(&after));
        for (pointer, value) in [
            ("/metadata/name", json!("q")),
            ("/spec/a", json!(2)),
            ("/spec", json!({"a": 1, "generation": 1})),
        ] {
            let mut other = before.clone();
            *other.pointer_mut(pointer).unwrap() = value;
            assert_ne!(ContentHash::of(&before), ContentHash::of(&other), "{pointer}");
        }
        let mut ending = before.clone();
        ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_ne!(ContentHash::of(&before), ContentHash::of(&ending));
    }

    #[test]
    fn numbers_that_travel_in_another_form_are_the_same() {
        let hash = |text: &str| ContentHash::of(&serde_json::from_str(text).unwrap());
        assert_eq!(
            hash(r#"{"spec": {"a": 2.0, "b": 1e16}}"#),
            hash(r#"{"spec": {"b": 10000000000000000, "a": 2}}"#)
        );
        assert_ne!(hash(r#"{"spec": 2.5}"#), hash(r#"{"spec": 2.25}"#));
    }

    proptest! {
        #[test]
        fn exactly_the_buckets_of_what_differs_differ(
            held in proptest::collection::btree_map("[a-z]{1,3}", 0u64..3, 0..40),
            wanted in proptest::collection::btree_map("[a-z]{1,3}", 0u64..3, 0..40),
        ) {
            let digest = |map: &std::collections::BTreeMap<String, u64>, back: bool| {
                let mut list: Vec<(ObjectKey, ContentHash)> =
                    map.iter().map(|(name, content)| (key(name), ContentHash(*content))).collect();
                if back { list.reverse() }
                Digest::of(list.iter().map(|(key, content)| (key, *content)))
            };
            let (a, b) = (digest(&held, false), digest(&wanted, false));
            prop_assert_eq!(&a, &digest(&held, true));
            let names: std::collections::BTreeSet<&String> = held.keys().chain(wanted.keys()).collect();
            let expected: std::collections::BTreeSet<usize> = names.into_iter()
                .filter(|name| held.get(*name) != wanted.get(*name)).map(|name| bucket_of(&key(name))).collect();
            prop_assert_eq!(a.differing(&b), expected.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(Digest::parse(&a.to_string()), Some(a));
        }

        #[test]
        fn any_text_is_read_without_panic(text: String) {
            let _nothing = Digest::parse(&text);
        }
    }
}
