//! Reports that the cloud has not confirmed yet. Pure; `room` keeps each as a row of `kedge_state`, written in the commit of
//! the twin it tells of, and takes the row away when the cloud has answered.
//!
//! While the link is up every report goes by itself. While it is down, or when too many wait, a report joins the one of
//! its device that was not handed over: one pending value per property, the latest.

use crate::model::DeviceId;
use crate::model::twin::TwinProperty;
use crate::wire::{StateReport, TwinReport, Up};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The room of the rows in `kedge_state`.
pub(super) const ROOM: &str = "device-outbox";
/// Reports that may wait one by one.
pub(super) const ONE_BY_ONE: usize = 4096;

/// A report for the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    Twin(TwinReport),
    State(StateReport),
}

impl Report {
    fn device(&self) -> &DeviceId {
        match self {
            Report::Twin(report) => &report.device,
            Report::State(report) => &report.device,
        }
    }

    pub(super) fn up(&self) -> Up {
        match self {
            Report::Twin(report) => Up::TwinReport(report.clone()),
            Report::State(report) => Up::StateReport(report.clone()),
        }
    }

    /// The row's value.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Report::Twin(report) => json!({
                "device": report.device.to_string(),
                "event_id": report.event_id,
                "timestamp": report.timestamp,
                "twin": report.twins,
            }),
            Report::State(report) => json!({
                "device": report.device.to_string(),
                "event_id": report.event_id,
                "timestamp": report.timestamp,
                "state": report.state,
                "lastOnline": report.last_online,
            }),
        }
    }

    fn from_value(value: &Value) -> Option<Report> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let device = DeviceId::parse(value.get("device")?.as_str()?)?;
        let (event_id, timestamp) = (text("event_id"), value.get("timestamp")?.as_i64()?);
        if value.get("state").is_some() {
            let (state, last_online) = (text("state"), text("lastOnline"));
            return Some(Report::State(StateReport { device, event_id, timestamp, state, last_online }));
        }
        let twins = serde_json::from_value(value.get("twin")?.clone()).ok()?;
        Some(Report::Twin(TwinReport { device, event_id, timestamp, twins }))
    }

    /// Takes a newer report of the same kind and device in; `false` when it is not.
    fn absorb(&mut self, newer: &Report) -> bool {
        match (self, newer) {
            (Report::Twin(held), Report::Twin(newer)) if held.device == newer.device => {
                held.timestamp = newer.timestamp;
                for (name, part) in &newer.twins {
                    let old = held.twins.insert(name.clone(), part.clone()).flatten();
                    if let (Some(old), Some(Some(part))) = (old, held.twins.get_mut(name)) {
                        keep_other_half(part, old);
                    }
                }
                true
            }
            (Report::State(held), Report::State(newer)) if held.device == newer.device => {
                held.clone_from(newer);
                true
            }
            _ => false,
        }
    }
}

fn keep_other_half(part: &mut TwinProperty, old: TwinProperty) {
    if part.expected.is_none() && part.expected_version.is_none() {
        (part.expected, part.expected_version) = (old.expected, old.expected_version);
    }
    if part.actual.is_none() && part.actual_version.is_none() {
        (part.actual, part.actual_version) = (old.actual, old.actual_version);
    }
}

struct Entry {
    report: Report,
    handed: bool,
}

/// Unconfirmed reports in order.
#[derive(Default)]
pub(super) struct Outbox {
    entries: BTreeMap<u64, Entry>,
    last: u64,
}

/// The row key of a report; keys sort like numbers.
pub(super) fn row_key(number: u64) -> String {
    format!("{number:020}")
}

impl Outbox {
    /// Reads the rows of an earlier run.
    pub(super) fn load(rows: Vec<(String, Value)>) -> Self {
        let mut outbox = Outbox::default();
        for (key, value) in rows {
            if let (Ok(number), Some(report)) = (key.parse(), Report::from_value(&value)) {
                outbox.last = outbox.last.max(number);
                outbox.entries.insert(number, Entry { report, handed: false });
            }
        }
        outbox
    }

    /// Reads the rows again after a failed commit; numbers that are on their way are not given out again.
    pub(super) fn reload(&mut self, rows: Vec<(String, Value)>) {
        let last = self.last;
        *self = Outbox::load(rows);
        self.last = self.last.max(last);
    }

    /// Adds a report; returns the row to write.
    pub(super) fn add(&mut self, report: Report, online: bool) -> (u64, Value) {
        if !online || self.entries.len() >= ONE_BY_ONE {
            let waiting = self.entries.iter_mut().rev().filter(|(_, entry)| !entry.handed);
            for (number, entry) in waiting {
                if entry.report.absorb(&report) {
                    return (*number, entry.report.to_value());
                }
            }
        }
        self.last += 1;
        let value = report.to_value();
        self.entries.insert(self.last, Entry { report, handed: false });
        (self.last, value)
    }

    /// Takes the reports that are to be handed over now, in order.
    pub(super) fn take_waiting(&mut self) -> Vec<(u64, Up)> {
        let waiting = self.entries.iter_mut().filter(|(_, entry)| !entry.handed);
        waiting
            .map(|(number, entry)| {
                entry.handed = true;
                (*number, entry.report.up())
            })
            .collect()
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.entries.values().any(|entry| !entry.handed)
    }

    /// The report could not be handed over, or its bearer is gone: it waits again.
    pub(super) fn give_back(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.handed = false;
        }
    }

    /// The cloud has answered: the row may go. Returns the report.
    pub(super) fn confirmed(&mut self, number: u64) -> Option<Report> {
        self.entries.remove(&number).map(|entry| entry.report)
    }

    /// The device is gone: nothing is to be told of it. Returns the rows to remove.
    pub(super) fn forget(&mut self, device: &DeviceId) -> Vec<u64> {
        let of_device = self.entries.iter().filter(|(_, entry)| entry.report.device() == device);
        let gone: Vec<u64> = of_device.map(|(number, _)| *number).collect();
        for number in &gone {
            self.entries.remove(number);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::twin::Twins;

    fn report(json: &str) -> Report {
        let twins: Twins = serde_json::from_str(json).unwrap();
        let device = DeviceId::new("default", "t");
        Report::Twin(TwinReport { device, event_id: "e".to_owned(), timestamp: 1, twins })
    }

    fn twins(up: &Up) -> String {
        let Up::TwinReport(report) = up else { panic!("{up:?}") };
        serde_json::to_string(&report.twins).unwrap()
    }

    #[test]
    fn online_every_report_goes_by_itself_and_in_order() {
        let mut outbox = Outbox::default();
        for value in 0..5 {
            outbox.add(report(&format!(r#"{{"a":{{"actual":{{"value":"{value}"}}}}}}"#)), true);
        }
        let sent = outbox.take_waiting();
        let values: Vec<String> = sent.iter().map(|(_, up)| twins(up)).collect();
        assert_eq!(values[4], r#"{"a":{"actual":{"value":"4"}}}"#);
        assert_eq!(values.len(), 5);
        assert!(outbox.take_waiting().is_empty());
        for (number, _) in sent {
            outbox.confirmed(number);
        }
        assert_eq!(outbox.entries.len(), 0);
    }

    #[test]
    fn offline_the_latest_value_of_each_property_is_left() {
        let mut outbox = Outbox::default();
        outbox.add(report(r#"{"a":{"expected":{"value":"9"}},"b":{"actual":{"value":"1"}}}"#), false);
        outbox.add(report(r#"{"a":{"actual":{"value":"1"}}}"#), false);
        let (number, row) = outbox.add(report(r#"{"a":{"actual":{"value":"2"}}}"#), false);
        let mut again = Outbox::load(vec![(row_key(number), row)]);
        for outbox in [&mut outbox, &mut again] {
            let sent = outbox.take_waiting();
            assert_eq!(sent.len(), 1);
            let expected =
                r#"{"a":{"expected":{"value":"9"},"actual":{"value":"2"}},"b":{"actual":{"value":"1"}}}"#;
            assert_eq!(twins(&sent[0].1), expected);
        }
    }

    #[test]
    fn what_was_handed_over_is_not_changed_any_more() {
        let mut outbox = Outbox::default();
        outbox.add(report(r#"{"a":{"actual":{"value":"1"}}}"#), true);
        outbox.take_waiting();
        outbox.add(report(r#"{"a":{"actual":{"value":"2"}}}"#), false);
        assert_eq!(outbox.entries.len(), 2);
        outbox.give_back(1);
        assert!(outbox.has_waiting());
        assert_eq!(outbox.forget(&DeviceId::new("default", "t")), [1, 2]);
    }
}
