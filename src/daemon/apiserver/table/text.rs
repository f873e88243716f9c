//! Words of table cells: ages as kubectl prints them, and values at a path.

use jiff::Timestamp;
use serde_json::Value;

pub(super) const NONE: &str = "<none>";
pub(super) const UNKNOWN: &str = "<unknown>";

/// `45s`, `5m30s`, `3h`, `2d4h`, `3y`: apimachinery's `HumanDuration`.
pub(super) fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let pair = |whole: i64, unit: char, rest: i64, small: char| match rest {
        0 => format!("{whole}{unit}"),
        rest => format!("{whole}{unit}{rest}{small}"),
    };
    match () {
        () if seconds < -1 => "<invalid>".to_owned(),
        () if seconds < 0 => "0s".to_owned(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, 'm', seconds % 60, 's'),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 192 => pair(hours / 24, 'd', hours % 24, 'h'),
        () if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        () if hours < 24 * 365 * 8 => pair(hours / 24 / 365, 'y', hours / 24 % 365, 'd'),
        () => format!("{}y", hours / 24 / 365),
    }
}

/// The time since a timestamp of an object.
pub(super) fn since(value: &Value, now: Timestamp) -> Option<String> {
    let at: Timestamp = value.as_str()?.parse().ok()?;
    Some(duration(now.as_second().saturating_sub(at.as_second())))
}

pub(super) fn age(object: &Value, now: Timestamp) -> Value {
    let created = &object["metadata"]["creationTimestamp"];
    since(created, now).unwrap_or_else(|| UNKNOWN.to_owned()).into()
}

pub(super) fn name(object: &Value, _now: Timestamp) -> Value {
    object["metadata"]["name"].clone()
}

/// The value at a JSON pointer.
pub(super) fn at<'a>(object: &'a Value, pointer: &str) -> &'a Value {
    object.pointer(pointer).unwrap_or(&Value::Null)
}

/// The string at a JSON pointer, or nothing.
pub(super) fn text_at<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    at(object, pointer).as_str().filter(|text| !text.is_empty())
}

/// The string at a JSON pointer, or `<none>`.
pub(super) fn or_none(object: &Value, pointer: &str) -> Value {
    text_at(object, pointer).unwrap_or(NONE).into()
}

pub(super) fn number(object: &Value, pointer: &str) -> i64 {
    at(object, pointer).as_i64().unwrap_or(0)
}

pub(super) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    at(object, pointer).as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Strings with commas between, or `<none>`.
pub(super) fn joined<S: AsRef<str>>(words: impl Iterator<Item = S>) -> Value {
    let words: Vec<String> = words.map(|word| word.as_ref().to_owned()).collect();
    if words.is_empty() { NONE.into() } else { words.join(",").into() }
}

/// The number of entries of a map or list.
pub(super) fn count(object: &Value, pointer: &str) -> usize {
    match at(object, pointer) {
        Value::Object(fields) => fields.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    }
}

/// Labels or match labels as `a=b,c=d`.
pub(super) fn labels(value: &Value) -> Value {
    let pairs = value.as_object().into_iter().flatten();
    joined(pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())))
}
