//! Events have two spellings, `v1` and `events.k8s.io/v1`, and are the same objects. They are kept as `v1`.

use serde_json::{Value, json};

/// `v1` field, `events.k8s.io/v1` field.
const FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(object: &mut Value, pairs: impl Iterator<Item = (&'static str, &'static str)>) {
    let Some(fields) = object.as_object_mut() else { return };
    for (from, to) in pairs {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

pub(super) fn to_events_group(object: &Value) -> Value {
    let mut event = object.clone();
    rename(&mut event, FIELDS.into_iter());
    event["apiVersion"] = json!("events.k8s.io/v1");
    event
}

pub(super) fn from_events_group(mut event: Value) -> Value {
    rename(&mut event, FIELDS.into_iter().map(|(core, group)| (group, core)));
    event["apiVersion"] = json!("v1");
    event["kind"] = json!("Event");
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_carry_the_same() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "message": "m", "reason": "r",
            "involvedObject": {"name": "p"}, "reportingComponent": "c"});
        let group = to_events_group(&core);
        assert_eq!(group["note"], "m");
        assert_eq!(group["reportingController"], "c");
        assert_eq!(from_events_group(group), core);
    }
}
