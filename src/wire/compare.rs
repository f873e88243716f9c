//! The comparison of what a node holds with what it should hold, between two kedge ends: the cloud sends a digest, the
//! node answers with its objects of the buckets that differ. Only nodes that announce [`DIGEST_HEADER`] are asked, and
//! a genuine edge that is asked all the same finds no object by this name and ignores the message.

use super::envelope::Route;
use crate::model::digest::{BUCKETS, ContentHash, Digest, Holding};
use crate::model::{Kind, ObjectKey};
use serde_json::{Value, json};

/// The request header by which a node says that it compares digests, and the version that it speaks.
pub const DIGEST_HEADER: (&str, &str) = ("kedge-digest", "1");

const KEDGE: &str = "kedge";
pub(super) const COMPARE: &str = "compare";
pub(super) const DIGEST: &str = "kedge/digest";
pub(super) const HOLDINGS: &str = "kedge/holdings";

/// What a node should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Comes back with the answer, so that a late one is not taken for another.
    pub round: u64,
    pub digest: Digest,
}

/// What a node holds in the buckets that differ; no bucket when all is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    pub round: u64,
    pub buckets: Vec<usize>,
    pub objects: Vec<Holding>,
}

pub(super) fn encode_comparison(comparison: &Comparison) -> Value {
    json!({"round": comparison.round, "buckets": comparison.digest.to_string()})
}

pub(super) fn decode_comparison(content: &Value) -> Option<Comparison> {
    let digest = Digest::parse(content.get("buckets")?.as_str()?)?;
    Some(Comparison { round: content.get("round")?.as_u64()?, digest })
}

pub(super) fn encode_holdings(holdings: &Holdings) -> Value {
    let row = |held: &Holding| json!([held.key.to_string(), held.uid, held.content.to_string()]);
    let objects: Vec<Value> = holdings.objects.iter().map(row).collect();
    json!({"round": holdings.round, "buckets": holdings.buckets, "objects": objects})
}

/// `None` when a part cannot be read: what is not understood must not look like what is not there.
pub(super) fn decode_holdings(content: &Value) -> Option<Holdings> {
    let bucket = |value: &Value| {
        value.as_u64().and_then(|bucket| usize::try_from(bucket).ok()).filter(|bucket| *bucket < BUCKETS)
    };
    let row = |row: &Value| {
        let text = |at: usize| row.get(at).and_then(Value::as_str);
        let content = u64::from_str_radix(text(2)?, 16).ok().map(ContentHash)?;
        Some(Holding { key: ObjectKey::parse(text(0)?)?, uid: text(1)?.to_owned(), content })
    };
    let buckets = content.get("buckets")?.as_array()?.iter().map(bucket).collect::<Option<_>>()?;
    let objects = content.get("objects")?.as_array()?.iter().map(row).collect::<Option<_>>()?;
    Some(Holdings { round: content.get("round")?.as_u64()?, buckets, objects })
}

/// The route of either message.
pub(super) fn route(resource: &str) -> Route {
    Route {
        source: KEDGE.to_owned(),
        group: super::names::RESOURCE.to_owned(),
        operation: COMPARE.to_owned(),
        resource: resource.to_owned(),
        ..Route::default()
    }
}

/// Whether an object of this key takes part; rows of old edgecores stand under other keys.
pub fn is_compared(key: &ObjectKey) -> bool {
    crate::model::digest::COMPARED.contains(&key.kind) && (key.kind == Kind::Node) == key.namespace.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Down, Up, acknowledgement, decode_down, decode_up, encode_down, encode_up};
    use proptest::prelude::*;

    #[test]
    fn both_messages_read_what_they_write_and_owe_nothing() {
        let key = ObjectKey::namespaced(Kind::Pod, "d", "p");
        let digest = Digest::of([(&key, ContentHash(7))]);
        let down = Down::Compare(Box::new(Comparison { round: u64::MAX, digest }));
        let envelope = encode_down(down.clone()).unwrap();
        assert_eq!(acknowledgement(&envelope), None);
        assert_eq!(decode_down(envelope), down);
        let objects = vec![Holding { key, uid: "u".to_owned(), content: ContentHash(u64::MAX) }];
        let up = Up::Holdings(Holdings { round: 1, buckets: vec![0, 31], objects });
        assert!(!up.expects_answer());
        assert_eq!(decode_up(encode_up(&up).unwrap()).up, up);
    }

    #[test]
    fn what_is_half_understood_is_refused_whole() {
        for content in [
            json!({}),
            json!({"buckets": [1], "objects": []}),
            json!({"round": 1, "buckets": [32], "objects": []}),
            json!({"round": 1, "buckets": [1], "objects": [["default/widget/x", "u", "0"]]}),
            json!({"round": 1, "buckets": [1], "objects": [["default/pod/x", "u", "zz"]]}),
            json!({"round": 1, "buckets": [1], "objects": [7]}),
        ] {
            assert_eq!(decode_holdings(&content), None, "{content}");
        }
    }

    fn fields() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("JSON has no such number", |f| f.is_finite()).prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-c]{1,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_travelled_hashes_like_what_was_sent(spec in fields()) {
            let sent = json!({"metadata": {"name": "x"}, "spec": spec});
            let envelope = crate::wire::Envelope { content: sent.clone(), ..Default::default() };
            let text = envelope.encode();
            let travelled = crate::wire::Envelope::decode(text.as_bytes()).unwrap().content;
            prop_assert_eq!(ContentHash::of(&sent), ContentHash::of(&travelled));
            let stored: Value = serde_json::from_str(&travelled.to_string()).unwrap();
            prop_assert_eq!(ContentHash::of(&sent), ContentHash::of(&stored));
        }

        #[test]
        fn any_content_is_read_without_panic(text: String, number: i64) {
            for content in [json!({"buckets": text}), json!({"buckets": [number], "objects": [[text, text, text]]})] {
                drop((decode_comparison(&content), decode_holdings(&content)));
            }
        }
    }
}
