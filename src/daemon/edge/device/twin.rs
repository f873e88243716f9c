//! The merge of a device's twin: what is stored and an event give what is stored next, what the device hears and what the
//! cloud hears. Pure; `room` loads, writes and sends. Follows KubeEdge's rules (protocol.md §5.4, §5.5), with one more:
//! a desired value set at the edge outlives every change of the Device in the cloud that does not touch that property.

use crate::model::twin::{TwinProperty, TwinValue, TwinVersion, Twins, TypeMetadata, ValueMetadata};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The type of a property that was removed; its row stays and holds the versions.
const DELETED: &str = "deleted";
/// Longest name of a property, and longest value.
pub(super) const NAME_LIMIT: usize = 128;
pub(super) const VALUE_LIMIT: usize = 512;

/// Properties of one device by name, removed ones included.
pub(super) type Stored = BTreeMap<String, TwinProperty>;

/// A property before and after; versions are not shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    pub(super) last: Option<TwinProperty>,
    pub(super) current: Option<TwinProperty>,
}

/// What an event leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    /// Rows to write.
    pub(super) rows: Stored,
    /// Rows to remove.
    pub(super) gone: Vec<String>,
    /// The changed parts, for the answer.
    pub(super) result: Twins,
    /// The changed properties, before and after.
    pub(super) document: BTreeMap<String, Change>,
    /// The changed parts with versions, for the cloud.
    pub(super) report: Twins,
}

/// Why an update is refused, with KubeEdge's error code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn bad(reason: impl Into<String>) -> Self {
        Refusal { code: 400, reason: reason.into() }
    }
}

/// What was last taken over from the cloud's Device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Applied {
    pub(super) uid: String,
    pub(super) generation: i64,
    /// The desired value of each property of the spec.
    pub(super) desired: BTreeMap<String, Option<String>>,
}

/// What the cloud's Device says of one property.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// `None` when nothing, or the empty text, is desired.
    pub(super) value: Option<String>,
    /// The type that the model gives it; empty when unknown.
    pub(super) value_type: String,
}

/// What the cloud's Device says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) uid: String,
    pub(super) generation: i64,
    pub(super) properties: BTreeMap<String, Wanted>,
}

/// Merges an update from the device or from a person at the edge; all of it or, with a refusal, nothing.
pub(super) fn update(stored: &Stored, wanted: &Twins, now: i64) -> Result<Merged, Refusal> {
    let mut merged = Merged::default();
    for (name, wanted) in wanted {
        check_name(name)?;
        let held = stored.get(name).filter(|held| !is_deleted(held));
        match wanted {
            None => delete(&mut merged, name, held),
            Some(wanted) => change(&mut merged, name, stored.get(name), wanted, now)?,
        }
    }
    Ok(merged)
}

/// Merges what the cloud's Device says; newer generations only. Also tells what is applied now.
pub(super) fn desire(stored: &Stored, applied: &Applied, spec: &Spec, now: i64) -> (Merged, Applied) {
    let mut merged = Merged::default();
    let same_object = applied.uid.is_empty() || applied.uid == spec.uid;
    let stale = same_object && spec.generation != 0 && spec.generation < applied.generation;
    if stale {
        return (merged, applied.clone());
    }
    let none = BTreeMap::new();
    let base = if same_object { &applied.desired } else { &none };
    for (name, wanted) in &spec.properties {
        desire_one(&mut merged, (name, wanted), stored.get(name), base.get(name), (spec.generation, now));
    }
    for name in applied.desired.keys().filter(|name| !spec.properties.contains_key(*name)) {
        if let Some(held) = stored.get(name) {
            merged.document.insert(name.clone(), Change { last: shown(held), current: None });
            merged.gone.push(name.clone());
        }
    }
    let desired = spec.properties.iter().map(|(name, wanted)| (name.clone(), wanted.value.clone())).collect();
    (merged, Applied { uid: spec.uid.clone(), generation: spec.generation, desired })
}

/// Merges twins as clouds before KubeEdge 1.15 send them; halves with an older version are answered with ours.
pub(super) fn sync(stored: &Stored, twins: &Twins) -> Merged {
    let mut merged = Merged::default();
    for (name, twin) in twins {
        let Some(twin) = twin else { continue };
        let old = stored.get(name);
        let mut next = old.cloned().unwrap_or_else(|| fresh(twin));
        let mut back = TwinProperty::default();
        sync_half(&mut next.expected, &mut next.expected_version, (&twin.expected, twin.expected_version), {
            (&mut back.expected, &mut back.expected_version)
        });
        sync_half(&mut next.actual, &mut next.actual_version, (&twin.actual, twin.actual_version), {
            (&mut back.actual, &mut back.actual_version)
        });
        if back.expected.is_some() || back.actual.is_some() {
            merged.report.insert(name.clone(), Some(back));
        }
        if old != Some(&next) && (next.expected.is_some() || next.actual.is_some()) {
            merged.document.insert(name.clone(), Change { last: old.and_then(shown), current: shown(&next) });
            merged.rows.insert(name.clone(), next);
        }
    }
    merged
}

type Half<'a> = (&'a mut Option<TwinValue>, &'a mut Option<TwinVersion>);

fn sync_half(
    value: &mut Option<TwinValue>,
    version: &mut Option<TwinVersion>,
    (theirs, their_version): (&Option<TwinValue>, Option<TwinVersion>),
    back: Half<'_>,
) {
    let (Some(theirs), Some(their_version)) = (theirs, their_version) else { return };
    let ours = version.unwrap_or_default();
    if ours.cloud > their_version.cloud || ours.edge > their_version.edge {
        (*back.0, *back.1) = (value.clone(), *version);
        return;
    }
    *value = Some(theirs.clone());
    *version = Some(their_version);
}

/// Every property with a desired value, and of those the desired values that are not measured.
pub(super) fn delta(stored: &Stored) -> Option<(Twins, BTreeMap<String, String>)> {
    let mut twins = Twins::new();
    let mut delta = BTreeMap::new();
    for (name, held) in stored.iter().filter(|(_, held)| !is_deleted(held)) {
        let Some(expected) = text(&held.expected).filter(|expected| !expected.is_empty()) else { continue };
        if text(&held.actual) != Some(expected) {
            delta.insert(name.clone(), expected.to_owned());
        }
        twins.insert(name.clone(), shown(held));
    }
    (!delta.is_empty()).then_some((twins, delta))
}

/// The twin as a device sees it.
pub(super) fn visible(stored: &Stored) -> Twins {
    let live = stored.iter().filter(|(_, held)| !is_deleted(held));
    live.map(|(name, held)| (name.clone(), shown(held))).collect()
}

/// A property as the cloud is told of it, with its versions; `None` when there is nothing to tell.
pub(super) fn told(stored: &Stored, name: &str) -> Option<TwinProperty> {
    stored
        .get(name)
        .filter(|held| !is_deleted(held) && (held.expected.is_some() || held.actual.is_some()))
        .cloned()
}

/// Whether a report says as much of a property as there is to say.
pub(super) fn covers(part: &TwinProperty, held: &TwinProperty) -> bool {
    (held.expected.is_none() || part.expected.is_some()) && (held.actual.is_none() || part.actual.is_some())
}

/// Takes the outcome over.
pub(super) fn apply(stored: &mut Stored, merged: &Merged) {
    stored.extend(merged.rows.iter().map(|(name, held)| (name.clone(), held.clone())));
    for name in &merged.gone {
        stored.remove(name);
    }
}

fn change(
    merged: &mut Merged,
    name: &str,
    row: Option<&TwinProperty>,
    wanted: &TwinProperty,
    now: i64,
) -> Result<(), Refusal> {
    let held = row.filter(|held| !is_deleted(held));
    let mut next = held.cloned().unwrap_or_else(|| {
        let metadata = fresh(wanted).metadata;
        TwinProperty { metadata, ..blank(row) }
    });
    let metadata = next.metadata.get_or_insert_default();
    if metadata.value_type.is_empty() {
        metadata.value_type = said_type(wanted).to_owned();
    }
    let value_type = metadata.value_type.clone();
    let mut part = TwinProperty::default();
    let expected = text(&wanted.expected).map(|value| stamped(value, &value_type, now)).transpose()?;
    let actual = text(&wanted.actual).map(|value| stamped(value, &value_type, now)).transpose()?;
    if expected.is_some() {
        bump(&mut next.expected_version);
        (next.expected, part.expected) = (expected.clone(), expected);
        part.expected_version = next.expected_version;
    }
    if actual.is_some() {
        bump(&mut next.actual_version);
        (next.actual, part.actual) = (actual.clone(), actual);
        part.actual_version = next.actual_version;
    }
    next.optional = wanted.optional.or(next.optional).or(Some(true));
    if held == Some(&next) {
        return Ok(());
    }
    (part.optional, part.metadata) = (next.optional, next.metadata.clone());
    merged.result.insert(name.to_owned(), shown(&part));
    // A property that never had a value is new to the device, whoever named it first.
    let last = held.filter(|held| held.expected.is_some() || held.actual.is_some()).and_then(shown);
    merged.document.insert(name.to_owned(), Change { last, current: shown(&next) });
    merged.report.insert(name.to_owned(), Some(part));
    merged.rows.insert(name.to_owned(), next);
    Ok(())
}

fn delete(merged: &mut Merged, name: &str, held: Option<&TwinProperty>) {
    let Some(held) = held.filter(|held| held.optional != Some(false)) else { return };
    let mut next = held.clone();
    (next.expected, next.actual) = (None, None);
    next.metadata = Some(TypeMetadata { value_type: DELETED.to_owned(), ..TypeMetadata::default() });
    for version in [&mut next.expected_version, &mut next.actual_version] {
        if version.is_some() {
            bump(version);
        }
    }
    merged.result.insert(name.to_owned(), None);
    merged.document.insert(name.to_owned(), Change { last: shown(held), current: None });
    merged.report.insert(name.to_owned(), None);
    merged.rows.insert(name.to_owned(), next);
}

/// Three ways meet: what the cloud said last (`base`), what is stored, what the cloud says now.
fn desire_one(
    merged: &mut Merged,
    (name, wanted): (&String, &Wanted),
    row: Option<&TwinProperty>,
    base: Option<&Option<String>>,
    (generation, now): (i64, i64),
) {
    let held = row.filter(|held| !is_deleted(held));
    let mut next = held.cloned().unwrap_or_else(|| blank(row));
    let metadata = next.metadata.get_or_insert_default();
    if metadata.value_type.is_empty() {
        metadata.value_type.clone_from(&wanted.value_type);
    }
    let ours = text(&next.expected).filter(|value| !value.is_empty()).map(str::to_owned);
    let untouched =
        base.is_some_and(|base| *base == wanted.value) || (base.is_none() && wanted.value.is_none());
    let version = next.expected_version.unwrap_or_default();
    let newer = generation > version.cloud;
    if newer && (wanted.value.is_some() || ours.is_some()) {
        next.expected_version = Some(TwinVersion { cloud: generation, edge: version.edge });
    }
    let take_over = !untouched || held.is_none();
    if take_over && ours != wanted.value {
        next.expected = wanted.value.as_ref().map(|value| at(value, now));
        merged.document.insert(name.clone(), Change { last: held.and_then(shown), current: shown(&next) });
    }
    let kept_ours = !take_over && newer && ours.is_some() && ours != wanted.value;
    if kept_ours || (take_over && ours != wanted.value && next.expected.is_some()) {
        let part = TwinProperty { actual: None, actual_version: None, ..next.clone() };
        merged.report.insert(name.clone(), Some(part));
    }
    if held != Some(&next) {
        merged.rows.insert(name.clone(), next);
    }
}

/// A property without values; of a removed one the versions go on.
fn blank(removed: Option<&TwinProperty>) -> TwinProperty {
    let (expected_version, actual_version) =
        removed.map(|row| (row.expected_version, row.actual_version)).unwrap_or_default();
    TwinProperty { optional: Some(true), expected_version, actual_version, ..TwinProperty::default() }
}

fn fresh(wanted: &TwinProperty) -> TwinProperty {
    let extra = wanted.metadata.as_ref().map(|metadata| metadata.extra.clone()).unwrap_or_default();
    let metadata = Some(TypeMetadata { value_type: said_type(wanted).to_owned(), extra });
    TwinProperty { optional: wanted.optional.or(Some(true)), metadata, ..TwinProperty::default() }
}

fn said_type(wanted: &TwinProperty) -> &str {
    let said = wanted.metadata.as_ref().map_or("", |metadata| metadata.value_type.as_str());
    if said.is_empty() { "string" } else { said }
}

fn bump(version: &mut Option<TwinVersion>) {
    let last = version.unwrap_or_default();
    *version = Some(TwinVersion { edge: last.edge.saturating_add(1), ..last });
}

fn at(value: &str, now: i64) -> TwinValue {
    TwinValue { value: Some(value.to_owned()), metadata: Some(ValueMetadata { timestamp: now }) }
}

fn stamped(value: &str, value_type: &str, now: i64) -> Result<TwinValue, Refusal> {
    check_value(value, value_type)?;
    Ok(at(value, now))
}

fn text(value: &Option<TwinValue>) -> Option<&str> {
    value.as_ref().and_then(|value| value.value.as_deref())
}

fn is_deleted(held: &TwinProperty) -> bool {
    held.metadata.as_ref().is_some_and(|metadata| metadata.value_type == DELETED)
}

/// Without versions, as a device sees it.
fn shown(held: &TwinProperty) -> Option<TwinProperty> {
    let metadata = held.metadata.clone().filter(|metadata| *metadata != TypeMetadata::default());
    let held = TwinProperty { expected_version: None, actual_version: None, metadata, ..held.clone() };
    (!is_deleted(&held)).then_some(held)
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let fits = !name.is_empty() && name.len() <= NAME_LIMIT && name.bytes().all(is_allowed);
    if fits {
        Ok(())
    } else {
        Err(Refusal::bad("the name of a property has 1 to 128 of the characters a-zA-Z0-9-_.,:/@#"))
    }
}

fn check_value(value: &str, value_type: &str) -> Result<(), Refusal> {
    if value.len() > VALUE_LIMIT || !value.bytes().all(is_allowed) {
        return Err(Refusal::bad("a value has at most 512 of the characters a-zA-Z0-9-_.,:/@#"));
    }
    let fits = match value_type {
        "" | "string" | DELETED => true,
        "int" | "integer" => value.parse::<i64>().is_ok(),
        "float" => value.parse::<f64>().is_ok(),
        "boolean" => matches!(value, "true" | "false"),
        _ => {
            return Err(Refusal::bad(format!(
                "the type {value_type} is none of string, int, float, boolean"
            )));
        }
    };
    if fits { Ok(()) } else { Err(Refusal::bad(format!("the value is no {value_type}"))) }
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.,:/@#".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn twins(json: &str) -> Twins {
        serde_json::from_str(json).unwrap()
    }

    fn spec(generation: i64, properties: &[(&str, &str)]) -> Spec {
        let wanted = |value: &str| Wanted {
            value: (!value.is_empty()).then(|| value.to_owned()),
            value_type: String::new(),
        };
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), wanted(value))).collect();
        Spec { uid: "u".to_owned(), generation, properties }
    }

    struct Device {
        stored: Stored,
        applied: Applied,
    }

    impl Device {
        fn new() -> Self {
            Device { stored: Stored::new(), applied: Applied::default() }
        }

        fn update(&mut self, json: &str) -> Merged {
            let merged = update(&self.stored, &twins(json), 5).unwrap();
            apply(&mut self.stored, &merged);
            merged
        }

        fn desire(&mut self, generation: i64, properties: &[(&str, &str)]) -> Merged {
            let (merged, applied) = desire(&self.stored, &self.applied, &spec(generation, properties), 6);
            apply(&mut self.stored, &merged);
            self.applied = applied;
            merged
        }

        fn expected(&self, name: &str) -> Option<&str> {
            self.stored.get(name).and_then(|held| text(&held.expected))
        }
    }

    #[test]
    fn the_recorded_answers_of_kubeedge_are_given() {
        let mut device = Device::new();
        device.update(r#"{"temperature":{"actual":{"value":"42"},"metadata":{"type":"int"}}}"#);
        let merged =
            device.update(r#"{"temperature":{"actual":{"value":"43"},"metadata":{"type":"float"}}}"#);
        assert_eq!(
            serde_json::to_string(&merged.result).unwrap(),
            r#"{"temperature":{"actual":{"value":"43","metadata":{"timestamp":5}},"optional":true,"metadata":{"type":"int"}}}"#
        );
        assert_eq!(
            serde_json::to_string(&merged.document).unwrap(),
            r#"{"temperature":{"last":{"actual":{"value":"42","metadata":{"timestamp":5}},"optional":true,"metadata":{"type":"int"}},"current":{"actual":{"value":"43","metadata":{"timestamp":5}},"optional":true,"metadata":{"type":"int"}}}}"#
        );
        let reported = merged.report["temperature"].as_ref().unwrap();
        assert_eq!(reported.actual_version, Some(TwinVersion { cloud: 0, edge: 2 }));
    }

    #[test]
    fn wrong_names_values_and_types_are_refused_whole() {
        for wrong in [
            r#"{"a b":{"actual":{"value":"1"}}}"#,
            r#"{"":{"actual":{"value":"1"}}}"#,
            r#"{"a":{"actual":{"value":"1 2"}}}"#,
            r#"{"a":{"actual":{"value":"é"}}}"#,
            r#"{"a":{"actual":{"value":"x"},"metadata":{"type":"int"}}}"#,
            r#"{"a":{"actual":{"value":"yes"},"metadata":{"type":"boolean"}}}"#,
            r#"{"a":{"actual":{"value":"1"},"metadata":{"type":"double"}}}"#,
            r#"{"a":{"actual":{"value":"1"}},"b":{"expected":{"value":"{}"}}}"#,
        ] {
            assert_eq!(update(&Stored::new(), &twins(wrong), 1).unwrap_err().code, 400, "{wrong}");
        }
    }

    #[test]
    fn optional_properties_are_deleted_and_come_back_with_their_versions() {
        let mut device = Device::new();
        device.update(r#"{"a":{"actual":{"value":"1"},"metadata":{"type":"int"}},"b":{"actual":{"value":"1"},"optional":false}}"#);
        let merged = device.update(r#"{"a":null,"b":null,"c":null}"#);
        assert_eq!(merged.result.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(visible(&device.stored).keys().collect::<Vec<_>>(), ["b"]);
        let merged = device.update(r#"{"a":{"actual":{"value":"text"}}}"#);
        assert_eq!(merged.report["a"].as_ref().unwrap().actual_version.unwrap().edge, 3);
    }

    #[test]
    fn the_delta_lists_what_is_wanted_and_not_measured() {
        let mut device = Device::new();
        device.desire(1, &[("target", "20"), ("temperature", "")]);
        device.update(r#"{"temperature":{"actual":{"value":"5"}}}"#);
        let (twins, wanted) = delta(&device.stored).unwrap();
        assert_eq!(twins.keys().collect::<Vec<_>>(), ["target"]);
        assert_eq!(wanted, BTreeMap::from([("target".to_owned(), "20".to_owned())]));
        device.update(r#"{"target":{"actual":{"value":"20"}}}"#);
        assert_eq!(delta(&device.stored), None);
    }

    #[test]
    fn the_cloud_changes_a_desired_value_once_per_generation() {
        let mut device = Device::new();
        let merged = device.desire(1, &[("target", "20")]);
        assert!(merged.document.contains_key("target"));
        assert_eq!(device.desire(1, &[("target", "20")]), Merged::default());
        device.desire(3, &[("target", "23")]);
        assert_eq!(device.desire(2, &[("target", "21")]), Merged::default());
        assert_eq!(device.expected("target"), Some("23"));
        device.desire(4, &[("target", "")]);
        assert_eq!(device.expected("target"), None);
        device.desire(5, &[]);
        assert!(device.stored.is_empty());
    }

    #[test]
    fn a_value_set_at_the_edge_waits_for_the_cloud_to_take_it() {
        let mut device = Device::new();
        device.desire(3, &[("target", "20"), ("other", "1")]);
        let merged = device.update(r#"{"target":{"expected":{"value":"24"}}}"#);
        let version = merged.report["target"].as_ref().unwrap().expected_version;
        assert_eq!(version, Some(TwinVersion { cloud: 3, edge: 1 }));
        // Somebody changes another property: ours stands and is offered again with the new generation.
        let merged = device.desire(4, &[("target", "20"), ("other", "2")]);
        assert_eq!(device.expected("target"), Some("24"));
        let offered = merged.report["target"].as_ref().unwrap();
        assert_eq!(offered.expected_version, Some(TwinVersion { cloud: 4, edge: 1 }));
        // The cloud takes it over: nothing is left to say to the device.
        let merged = device.desire(5, &[("target", "24"), ("other", "2")]);
        assert!(merged.document.is_empty() && merged.report.is_empty());
        // The cloud changes it: the cloud wins.
        device.desire(6, &[("target", "25"), ("other", "2")]);
        assert_eq!(device.expected("target"), Some("25"));
    }

    #[test]
    fn a_new_device_of_the_same_name_starts_over() {
        let mut device = Device::new();
        device.desire(9, &[("target", "20")]);
        let again = Spec { uid: "other".to_owned(), ..spec(1, &[("target", "5")]) };
        let (merged, applied) = desire(&device.stored, &device.applied, &again, 1);
        apply(&mut device.stored, &merged);
        assert_eq!((device.expected("target"), applied.generation), (Some("5"), 1));
    }

    #[test]
    fn older_versions_from_an_old_cloud_are_answered_with_ours() {
        let mut device = Device::new();
        device.update(r#"{"a":{"expected":{"value":"1"}}}"#);
        let old = twins(r#"{"a":{"expected":{"value":"0"},"expected_version":{"cloud":1,"edge":0}}}"#);
        let merged = sync(&device.stored, &old);
        assert!(merged.rows.is_empty() && merged.report.contains_key("a"));
        let new = twins(r#"{"a":{"expected":{"value":"0"},"expected_version":{"cloud":1,"edge":1}}}"#);
        assert_eq!(text(&sync(&device.stored, &new).rows["a"].expected), Some("0"));
    }

    fn any_event() -> impl Strategy<Value = (bool, i64, Vec<(String, Option<String>)>)> {
        let property = ("[ab]", prop::option::of("[0-3]?"));
        (any::<bool>(), 1..6i64, prop::collection::vec(property, 0..3))
    }

    proptest! {
        /// Versions never fall, and what is reported is what is stored.
        #[test]
        fn reports_agree_with_the_store(events in prop::collection::vec(any_event(), 0..30)) {
            let mut device = Device::new();
            for (from_cloud, generation, properties) in events {
                let before = device.stored.clone();
                let merged = if from_cloud {
                    let listed: Vec<(&str, &str)> =
                        properties.iter().map(|(name, value)| (name.as_str(), value.as_deref().unwrap_or(""))).collect();
                    device.desire(generation, &listed)
                } else {
                    let value = |value: &String| TwinProperty { expected: Some(at(value, 0)), ..TwinProperty::default() };
                    let wanted: Twins =
                        properties.iter().map(|(name, v)| (name.clone(), v.as_ref().map(value))).collect();
                    let merged = update(&device.stored, &wanted, 1).unwrap();
                    apply(&mut device.stored, &merged);
                    merged
                };
                for (name, part) in &merged.report {
                    let held = &device.stored[name];
                    if let Some(part) = part {
                        prop_assert_eq!(&part.expected, &held.expected);
                        prop_assert_eq!(part.expected_version, held.expected_version);
                    }
                }
                for (name, held) in &device.stored {
                    let old = before.get(name).and_then(|held| held.expected_version).unwrap_or_default();
                    let new = held.expected_version.unwrap_or_default();
                    prop_assert!(new.edge >= old.edge && new.cloud >= old.cloud);
                }
            }
        }
    }
}
