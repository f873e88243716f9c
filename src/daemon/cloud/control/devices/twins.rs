//! Twin reports into DeviceStatus and back into Device. Pure.

use crate::model::twin::{TwinProperty, TwinValue, Twins};
use crate::wire::StateReport;
use serde_json::{Map, Value, json};

/// Puts a report into the rows of `status.twins`; says whether a row changed. Only properties of the Device count.
pub(super) fn merge(rows: &mut Vec<Value>, report: &Twins, properties: &[String], at: i64) -> bool {
    let mut changed = false;
    for (name, twin) in report {
        if !properties.contains(name) {
            continue;
        }
        let position = rows.iter().position(|row| row["propertyName"] == name.as_str());
        let Some(twin) = twin else {
            if let Some(position) = position {
                rows.remove(position);
                changed = true;
            }
            continue;
        };
        let mut row =
            position.and_then(|at| rows.get(at)).cloned().unwrap_or_else(|| json!({"propertyName": name}));
        if let Some(reported) = value(twin.actual.as_ref(), twin, at) {
            row["reported"] = reported;
        }
        if let Some(observed) = value(twin.expected.as_ref(), twin, at) {
            row["observedDesired"] = observed;
        }
        if row.get("reported").is_none() && row.get("observedDesired").is_none() {
            continue;
        }
        match position.and_then(|at| rows.get_mut(at)) {
            Some(old) if *old == row => {}
            Some(old) => {
                *old = row;
                changed = true;
            }
            None => {
                rows.push(row);
                changed = true;
            }
        }
    }
    changed
}

fn value(half: Option<&TwinValue>, twin: &TwinProperty, at: i64) -> Option<Value> {
    let half = half?;
    let text = half.value.as_ref()?;
    let timestamp =
        half.metadata.as_ref().map(|metadata| metadata.timestamp).filter(|t| *t > 0).unwrap_or(at);
    let mut metadata = Map::new();
    metadata.insert("timestamp".to_owned(), json!(timestamp.to_string()));
    let kind =
        twin.metadata.as_ref().map(|metadata| metadata.value_type.as_str()).filter(|kind| !kind.is_empty());
    metadata.insert("type".to_owned(), json!(kind.unwrap_or("string")));
    Some(json!({"value": text, "metadata": metadata}))
}

/// The merge patch that writes these rows.
pub(super) fn patch(rows: &[Value]) -> Value {
    json!({"status": {"twins": rows}})
}

/// The merge patch of a state report.
pub(super) fn state_patch(report: &StateReport) -> Value {
    let mut status = json!({"state": report.state});
    if !report.last_online.is_empty() {
        status["lastOnlineTime"] = json!(report.last_online);
    }
    json!({"status": status})
}

/// Whose desired values hold after a node was away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Both sides say the same.
    Same,
    /// The Device has not changed since the node set its value: the Device was changed to it.
    EdgeHolds,
    /// The Device has changed meanwhile: the node has to hear of it.
    CloudHolds,
}

/// Whether any property was given a desired value at the edge.
pub(super) fn was_set_at_edge(report: &Twins) -> bool {
    report.values().flatten().any(|twin| desired_at_edge(twin).is_some())
}

fn desired_at_edge(twin: &TwinProperty) -> Option<(&str, i64)> {
    let version = twin.expected_version.filter(|version| version.edge > 0)?;
    Some((twin.expected.as_ref()?.value.as_deref()?, version.cloud))
}

/// Compares desired values set at the edge with the Device and takes them over where the Device is still the one that
/// the edge knew.
pub(super) fn settle(device: &mut Value, report: &Twins) -> Verdict {
    let generation = device.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
    let mut verdict = Verdict::Same;
    let Some(Value::Array(properties)) = device.pointer_mut("/spec/properties") else { return verdict };
    for property in properties {
        let Some(name) = property.get("name").and_then(Value::as_str) else { continue };
        let Some((wanted, known)) = report.get(name).and_then(Option::as_ref).and_then(desired_at_edge)
        else {
            continue;
        };
        if property.pointer("/desired/value").and_then(Value::as_str) == Some(wanted) {
            continue;
        }
        if known != generation {
            return Verdict::CloudHolds;
        }
        if !property.get("desired").is_some_and(Value::is_object) {
            property["desired"] = json!({});
        }
        property["desired"]["value"] = json!(wanted);
        verdict = Verdict::EdgeHolds;
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> Twins {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_first_report_of_a_property_arrives_whole() {
        let mut rows = Vec::new();
        let twins = report(
            r#"{"t": {"actual": {"value": "21", "metadata": {"timestamp": 5}}, "metadata": {"type": "int"}},
                "unknown": {"actual": {"value": "1"}}}"#,
        );
        assert!(merge(&mut rows, &twins, &["t".to_owned()], 9));
        assert_eq!(
            patch(&rows),
            json!({"status": {"twins": [{"propertyName": "t",
                "reported": {"value": "21", "metadata": {"timestamp": "5", "type": "int"}}}]}})
        );
        assert!(!merge(&mut rows, &twins, &["t".to_owned()], 9));
    }

    #[test]
    fn halves_do_not_wipe_each_other() {
        let mut rows = Vec::new();
        let properties = ["t".to_owned()];
        merge(&mut rows, &report(r#"{"t": {"expected": {"value": "on"}}}"#), &properties, 3);
        merge(&mut rows, &report(r#"{"t": {"actual": {"value": "off"}}}"#), &properties, 4);
        assert_eq!(rows[0]["observedDesired"]["value"], "on");
        assert_eq!(rows[0]["reported"]["value"], "off");
        assert_eq!(rows[0]["reported"]["metadata"]["timestamp"], "4");
        assert!(merge(&mut rows, &report(r#"{"t": null}"#), &properties, 5));
        assert!(rows.is_empty());
    }

    fn device() -> Value {
        json!({"metadata": {"generation": 4}, "spec": {"properties": [
            {"name": "t", "desired": {"value": "1"}, "visitors": {"x": 1}}, {"name": "u"}]}})
    }

    #[test]
    fn a_value_set_offline_holds_when_the_device_did_not_change() {
        let mut device = device();
        let twins = report(
            r#"{"t": {"expected": {"value": "2"}, "expected_version": {"cloud": 4, "edge": 1}},
                "u": {"expected": {"value": "x"}, "expected_version": {"cloud": 4, "edge": 2}}}"#,
        );
        assert!(was_set_at_edge(&twins));
        assert_eq!(settle(&mut device, &twins), Verdict::EdgeHolds);
        assert_eq!(device["spec"]["properties"][0]["desired"]["value"], "2");
        assert_eq!(device["spec"]["properties"][0]["visitors"]["x"], 1);
        assert_eq!(device["spec"]["properties"][1]["desired"]["value"], "x");
    }

    #[test]
    fn the_cloud_holds_when_the_device_changed_meanwhile() {
        let twins =
            report(r#"{"t": {"expected": {"value": "2"}, "expected_version": {"cloud": 3, "edge": 1}}}"#);
        assert_eq!(settle(&mut device(), &twins), Verdict::CloudHolds);
        let same =
            report(r#"{"t": {"expected": {"value": "1"}, "expected_version": {"cloud": 3, "edge": 1}}}"#);
        assert_eq!(settle(&mut device(), &same), Verdict::Same);
        let from_cloud =
            report(r#"{"t": {"expected": {"value": "2"}, "expected_version": {"cloud": 9, "edge": 0}}}"#);
        assert!(!was_set_at_edge(&from_cloud));
        assert_eq!(settle(&mut device(), &from_cloud), Verdict::Same);
    }
}
