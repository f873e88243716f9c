//! Twin reports into DeviceStatus and back into Device. Pure.

use crate::model::twin::{TwinProperty, TwinValue, TwinVersion, Twins};
use crate::wire::StateReport;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// A report that is sent again comes at most this much, in milliseconds, after a newer one; a clock that was set back
/// by more starts a new time.
const LATE: i64 = 600_000;

/// When a half was set, by the node's clock and by its count of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Age {
    timestamp: i64,
    changes: Option<i64>,
}

impl Age {
    /// Whether this is from before `seen`: a count that went on says no, whatever a clock says.
    fn is_before(self, seen: Age) -> bool {
        let late = self.timestamp < seen.timestamp && seen.timestamp - self.timestamp < LATE;
        match (self.changes, seen.changes) {
            (Some(own), Some(seen)) => late && own < seen,
            _ => late,
        }
    }
}

/// The newest that a device has reported. Reports are tried for minutes and sent again meanwhile, so an older one may
/// come after a newer one.
#[derive(Clone, Debug, Default)]
pub(super) struct Newest {
    halves: HashMap<(String, bool), Age>,
    state: Age,
}

impl Newest {
    /// Takes the report in and leaves in it only what is not older than what was taken before.
    pub(super) fn sift(&mut self, mut report: Twins, at: i64) -> Twins {
        for (name, twin) in &mut report {
            let Some(twin) = twin else { continue };
            if !self.admit(name, true, twin.expected.as_ref(), twin.expected_version, at) {
                (twin.expected, twin.expected_version) = (None, None);
            }
            if !self.admit(name, false, twin.actual.as_ref(), twin.actual_version, at) {
                (twin.actual, twin.actual_version) = (None, None);
            }
        }
        report
    }

    fn admit(
        &mut self,
        name: &str,
        expected: bool,
        half: Option<&TwinValue>,
        version: Option<TwinVersion>,
        at: i64,
    ) -> bool {
        let Some(half) = half else { return true };
        let timestamp = half.metadata.as_ref().map(|metadata| metadata.timestamp).filter(|t| *t > 0);
        let age = Age { timestamp: timestamp.unwrap_or(at), changes: version.map(|version| version.edge) };
        let seen = self.halves.entry((name.to_owned(), expected)).or_insert(age);
        if age.is_before(*seen) {
            return false;
        }
        *seen = age;
        true
    }

    /// Whether this state is not older than the last one.
    pub(super) fn admits_state(&mut self, timestamp: i64) -> bool {
        let age = Age { timestamp, changes: None };
        if age.is_before(self.state) {
            return false;
        }
        self.state = age;
        true
    }
}

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
    let mut patch = json!({"status": {"twins": rows}});
    let has_reported = |row: &Value| row.pointer("/reported/value").is_some_and(|value| value != "");
    if rows.iter().any(has_reported) {
        // A mapper has spoken: what `create_status` has said holds no more.
        patch["status"]["extensions"] = json!({"reason": null});
    }
    patch
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
                "reported": {"value": "21", "metadata": {"timestamp": "5", "type": "int"}}}],
                "extensions": {"reason": null}}})
        );
        // Before that nobody has spoken for the device.
        assert_eq!(patch(&[json!({"propertyName": "t"})])["status"]["extensions"], Value::Null);
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

    fn measured(value: &str, timestamp: i64, changes: Option<i64>) -> Twins {
        let mut twins = report(&format!(
            r#"{{"t": {{"actual": {{"value": "{value}", "metadata": {{"timestamp": {timestamp}}}}}}}}}"#
        ));
        let part = twins.get_mut("t").unwrap().as_mut().unwrap();
        part.actual_version = changes.map(|edge| TwinVersion { cloud: 0, edge });
        twins
    }

    #[test]
    fn a_report_that_is_sent_again_does_not_undo_a_newer_one() {
        let (mut rows, mut newest, properties) = (Vec::new(), Newest::default(), ["t".to_owned()]);
        let mut take = |twins| {
            let sifted = newest.sift(twins, 0);
            merge(&mut rows, &sifted, &properties, 0);
            rows[0]["reported"]["value"].as_str().unwrap().to_owned()
        };
        let now = 1_000_000_000;
        assert_eq!(take(measured("1", now, None)), "1");
        assert_eq!(take(measured("2", now + 1, None)), "2");
        assert_eq!(take(measured("1", now, None)), "2");
        // A clock that was set back, and a node that has lost its counts: both still tell news.
        assert_eq!(take(measured("3", now - LATE, None)), "3");
        assert_eq!(take(measured("4", now, Some(7))), "4");
        assert_eq!(take(measured("5", now - 9, Some(8))), "5");
        assert_eq!(take(measured("4", now - 10, Some(7))), "5");
        assert_eq!(take(measured("6", now + 9, Some(1))), "6");
    }

    #[test]
    fn an_older_state_does_not_undo_a_newer_one() {
        let mut newest = Newest::default();
        let told = [(5_000_000, true), (5_000_001, true), (5_000_000, false), (5_000_001 - LATE, true)];
        for (timestamp, admitted) in told {
            assert_eq!(newest.admits_state(timestamp), admitted, "{timestamp}");
        }
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
