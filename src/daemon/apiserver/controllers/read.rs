//! Reads Kubernetes objects in their JSON form: names, owners, conditions, times. Every step tolerates what is missing.

use crate::base::rfc3339;
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) fn name(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

pub(super) fn namespace(object: &Value) -> &str {
    text(&object["metadata"]["namespace"])
}

pub(super) fn uid(object: &Value) -> &str {
    text(&object["metadata"]["uid"])
}

/// A string, or the empty one.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// `namespace/name`, or the name alone for cluster-scoped objects.
pub(super) fn key(object: &Value) -> String {
    key_of(namespace(object), name(object))
}

pub(super) fn key_of(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// The inverse of [`key`] for namespaced objects.
pub(super) fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

pub(super) fn label<'a>(object: &'a Value, label: &str) -> &'a str {
    text(&object["metadata"]["labels"][label])
}

pub(super) fn annotation<'a>(object: &'a Value, annotation: &str) -> &'a str {
    text(&object["metadata"]["annotations"][annotation])
}

pub(super) fn deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

pub(super) fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    list(&object["metadata"]["finalizers"]).iter().any(|f| f == finalizer)
}

/// The owner that manages the object, if any.
pub(super) fn controller_of(object: &Value) -> Option<&Value> {
    list(&object["metadata"]["ownerReferences"]).iter().find(|owner| owner["controller"] == true)
}

/// Whether the object is managed by an owner with this uid.
pub(super) fn controlled_by(object: &Value, owner_uid: &str) -> bool {
    controller_of(object).is_some_and(|owner| owner["uid"] == owner_uid)
}

/// The key of the managing owner if it is of this kind.
pub(super) fn controller_key(object: &Value, kind: &str) -> Option<String> {
    let owner = controller_of(object).filter(|owner| owner["kind"] == kind)?;
    Some(key_of(namespace(object), text(&owner["name"])))
}

/// A reference that makes `owner` the manager of an object.
pub(super) fn owner_reference(owner: &Value, api_version: &str, kind: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "name": name(owner), "uid": uid(owner),
        "controller": true, "blockOwnerDeletion": true})
}

pub(super) fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

pub(super) fn created(object: &Value) -> Option<Timestamp> {
    time(&object["metadata"]["creationTimestamp"])
}

/// A condition by its type.
pub(super) fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    list(&status["conditions"]).iter().find(|condition| condition["type"] == kind)
}

pub(super) fn condition_is(status: &Value, kind: &str, value: &str) -> bool {
    condition(status, kind).is_some_and(|condition| condition["status"] == value)
}

/// Sets a condition; the transition time moves only when its status changes. `false` when nothing changed.
pub(super) fn set_condition(conditions: &mut Vec<Value>, mut new: Value, at: Timestamp) -> bool {
    let old = conditions.iter().position(|condition| condition["type"] == new["type"]);
    let since = old.and_then(|index| conditions.get(index)).filter(|old| old["status"] == new["status"]);
    let at = Value::String(rfc3339(at));
    let since = since.map_or(at, |old| old["lastTransitionTime"].clone());
    if let Some(map) = new.as_object_mut() {
        map.insert("lastTransitionTime".to_owned(), since);
    }
    match old.and_then(|index| conditions.get_mut(index)) {
        Some(old) => {
            let same = ["status", "reason", "message"].iter().all(|field| old[*field] == new[*field]);
            if !same {
                *old = new;
            }
            !same
        }
        None => {
            conditions.push(new);
            true
        }
    }
}

/// A condition without its times.
pub(super) fn plain_condition(kind: &str, status: bool, reason: &str, message: &str) -> Value {
    let status = if status { "True" } else { "False" };
    json!({"type": kind, "status": status, "reason": reason, "message": message})
}

pub(super) fn finished(pod: &Value) -> bool {
    matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed")
}

/// A pod that runs or will run.
pub(super) fn active(pod: &Value) -> bool {
    !finished(pod) && !deleting(pod)
}

pub(super) fn ready(pod: &Value) -> bool {
    condition_is(&pod["status"], "Ready", "True")
}

/// How long until a ready pod counts as available; `None` when it is not ready.
pub(super) fn until_available(pod: &Value, min_ready_seconds: i64, now: Timestamp) -> Option<i64> {
    if !ready(pod) {
        return None;
    }
    let since = condition(&pod["status"], "Ready").and_then(|c| time(&c["lastTransitionTime"]))?;
    Some((since.as_second() + min_ready_seconds - now.as_second()).max(0))
}

/// A number or a percentage of `total`; `up` rounds fractions up.
pub(super) fn share(value: &Value, total: i64, up: bool) -> i64 {
    let Some(percent) = value.as_str() else { return number(value) };
    let Some(percent) = percent.strip_suffix('%').and_then(|digits| digits.parse::<i64>().ok()) else {
        return 0;
    };
    let product = percent.clamp(0, 1_000_000).saturating_mul(total.max(0));
    if up { product.div_euclid(100) + i64::from(product % 100 != 0) } else { product / 100 }
}

/// A short hash of JSON for names and labels; independent of the order of fields.
pub(super) fn hash(value: &Value, collisions: i64) -> String {
    let mut state: u32 = 0x811c_9dc5;
    feed_value(&mut state, value);
    if collisions > 0 {
        feed(&mut state, &collisions.to_le_bytes());
    }
    const ALPHABET: [char; 10] = ['6', '7', '8', '9', 'b', 'c', 'd', 'f', 'g', 'h'];
    let digit = |c: char| c.to_digit(10).and_then(|d| ALPHABET.get(d as usize)).copied().unwrap_or('x');
    state.to_string().chars().map(digit).collect()
}

fn feed(state: &mut u32, bytes: &[u8]) {
    for byte in bytes {
        *state = (*state ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
}

fn feed_value(state: &mut u32, value: &Value) {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().filter(|(_, value)| !value.is_null()).collect();
            fields.sort_by_key(|(field, _)| *field);
            feed(state, b"{");
            for (field, value) in fields {
                feed(state, field.as_bytes());
                feed(state, b":");
                feed_value(state, value);
            }
            feed(state, b"}");
        }
        Value::Array(list) => {
            feed(state, b"[");
            list.iter().for_each(|value| feed_value(state, value));
            feed(state, b"]");
        }
        other => feed(state, other.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_round_as_asked() {
        assert_eq!(share(&json!("25%"), 3, true), 1);
        assert_eq!(share(&json!("25%"), 3, false), 0);
        assert_eq!(share(&json!(2), 3, false), 2);
        assert_eq!(share(&json!("x"), 3, false), 0);
    }

    #[test]
    fn hashes_ignore_nulls_and_follow_content() {
        assert_eq!(hash(&json!({"a": 1, "b": null}), 0), hash(&json!({"a": 1}), 0));
        assert_ne!(hash(&json!({"a": 1}), 0), hash(&json!({"a": 2}), 0));
        assert_ne!(hash(&json!({"a": 1}), 0), hash(&json!({"a": 1}), 1));
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let (one, two) = (Timestamp::from_second(1).unwrap(), Timestamp::from_second(2).unwrap());
        let mut all = Vec::new();
        assert!(set_condition(&mut all, plain_condition("A", true, "R", "m"), one));
        assert!(!set_condition(&mut all, plain_condition("A", true, "R", "m"), two));
        assert!(set_condition(&mut all, plain_condition("A", true, "R", "n"), two));
        assert_eq!(all[0]["lastTransitionTime"], "1970-01-01T00:00:01Z");
        assert!(set_condition(&mut all, plain_condition("A", false, "R", "n"), two));
        assert_eq!(all[0]["lastTransitionTime"], "1970-01-01T00:00:02Z");
    }
}
