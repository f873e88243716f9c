//! The patches of the Kubernetes API as pure functions: JSON patch, JSON merge patch and strategic merge patch.
//! The request path and the in-process door call them; they read no clock and store nothing, and whatever a client
//! sends ends in a new object or a Status.
//!
//! `json` (RFC 6902) · `merge` (RFC 7386) · `strategic` (Kubernetes: lists merge by key, along `types`).

mod json;
mod strategic;

pub use json::json;
pub use strategic::strategic;

use serde_json::{Map, Value};

/// Applies a JSON merge patch: null removes, objects merge, everything else replaces.
pub fn merge(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut fields = match target {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else if value.is_object() {
            let old = fields.remove(name).unwrap_or(Value::Null);
            fields.insert(name.clone(), merge(old, value));
        } else {
            fields.insert(name.clone(), value.clone());
        }
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..4i64).prop_map(Value::from),
            "[a-c]".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[a-d]", inner, 0..4).prop_map(|m| json!(m)),
            ]
        })
    }

    #[test]
    fn null_removes_and_objects_merge() {
        let target = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        assert_eq!(
            merge(target, &json!({"a": {"b": null, "e": {"f": null}}, "d": [2]})),
            json!({"a": {"c": 2, "e": {}}, "d": [2]})
        );
    }

    proptest! {
        #[test]
        fn merging_twice_is_merging_once(target in any_json(), patch in any_json()) {
            let once = merge(target, &patch);
            prop_assert_eq!(merge(once.clone(), &patch), once);
        }

        #[test]
        fn agrees_with_the_json_patch_crate(target in any_json(), patch in any_json()) {
            let mut expected = target.clone();
            json_patch::merge(&mut expected, &patch);
            prop_assert_eq!(merge(target, &patch), expected);
        }
    }
}
