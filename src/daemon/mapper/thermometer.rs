//! The thermometer itself: a temperature that moves towards what is wanted within the device's limits and is measured
//! within a narrow band, and the messages of a device that has one.
//! Pure: time and messages come in, messages go out.

use crate::model::DeviceId;
use serde_json::{Value, json};

/// The property by which a person sets what the temperature moves to.
const TARGET: &str = "target";
/// Where it starts, and stays when nothing is wanted.
const START: f64 = 21.0;
/// The coldest and the warmest that it can be told to be, in degrees Celsius, as such devices have it.
const LIMITS: (f64, f64) = (-40.0, 85.0);
/// How far a measured value is from the temperature at most.
const BAND: f64 = 0.5;
/// What part of the way to the target is gone from one report to the next.
const PACE: f64 = 0.25;

pub(super) struct Thermometer {
    device: DeviceId,
    property: String,
    /// What the room has: it goes to the target and never past it.
    temperature: f64,
    /// What is measured: the temperature within its band.
    measured: f64,
    target: f64,
    ticks: u32,
}

fn topic(device: &DeviceId, rest: &str) -> String {
    format!("$hw/events/device/{device}/{rest}")
}

/// What the device listens to.
pub(super) fn topics(device: &DeviceId) -> [String; 2] {
    [topic(device, "twin/update/delta"), topic(device, "twin/get/result")]
}

impl Thermometer {
    pub(super) fn new(device: DeviceId, property: String) -> Self {
        Thermometer { device, property, temperature: START, measured: START, target: START, ticks: 0 }
    }

    /// The first messages: the device is there and asks what is wanted.
    pub(super) fn greeting(&self, now: i64) -> [(String, Vec<u8>); 2] {
        let state = json!({"event_id": "", "timestamp": now, "state": "online"});
        let question = json!({"event_id": "", "timestamp": now});
        [
            (topic(&self.device, "state/update"), state.to_string().into_bytes()),
            (topic(&self.device, "twin/get"), question.to_string().into_bytes()),
        ]
    }

    /// Measures once.
    pub(super) fn report(&mut self, now: i64) -> (String, Vec<u8>) {
        self.ticks = self.ticks.wrapping_add(1);
        self.temperature += (self.target - self.temperature) * PACE;
        self.measured = self.temperature + (f64::from(self.ticks) * 0.7).sin() * BAND;
        let property = self.property.clone();
        self.update(&property, &self.shown(), now)
    }

    /// What was measured last, as it is reported.
    pub(super) fn shown(&self) -> String {
        format!("{:.1}", self.measured)
    }

    /// Takes what is wanted; the answer confirms it, or says to which limit it was held.
    pub(super) fn hear(&mut self, heard: &str, payload: &[u8], now: i64) -> Option<(String, Vec<u8>)> {
        let message: Value = serde_json::from_slice(payload).ok()?;
        let wanted = |name: &str| {
            let value = if heard.ends_with("/delta") {
                message.get("delta")?.get(name)
            } else {
                message.get("twin")?.get(name)?.pointer("/expected/value")
            };
            value.and_then(Value::as_str).map(str::to_owned)
        };
        let (name, value) = match (wanted(TARGET), wanted(&self.property)) {
            (Some(value), _) => (TARGET.to_owned(), value),
            (None, Some(value)) => (self.property.clone(), value),
            (None, None) => return None,
        };
        let wanted: f64 = value.parse().ok().filter(|wanted: &f64| wanted.is_finite())?;
        let target = wanted.clamp(LIMITS.0, LIMITS.1);
        let news = (target - self.target).abs() > f64::EPSILON;
        self.target = target;
        let value = if (target - wanted).abs() > f64::EPSILON { format!("{target}") } else { value };
        // A wanted temperature is reached in time; a target is confirmed as it is.
        (name == TARGET && (news || heard.ends_with("/delta"))).then(|| self.update(TARGET, &value, now))
    }

    fn update(&self, property: &str, value: &str, now: i64) -> (String, Vec<u8>) {
        let twin = json!({property: {"actual": {"value": value}, "metadata": {"type": "float"}}});
        let update = json!({"event_id": "", "timestamp": now, "twin": twin});
        (topic(&self.device, "twin/update"), update.to_string().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELTA: &str = "$hw/events/device/default/t/twin/update/delta";

    fn thermometer() -> Thermometer {
        Thermometer::new(DeviceId::new("default", "t"), "temperature".to_owned())
    }

    fn told(thermometer: &mut Thermometer, property: &str, value: &str) -> Option<String> {
        let delta = json!({"delta": {property: value}, "twin": {}}).to_string();
        let (topic, answer) = thermometer.hear(DELTA, delta.as_bytes(), 1)?;
        assert_eq!(topic, "$hw/events/device/default/t/twin/update");
        Some(String::from_utf8(answer).unwrap())
    }

    #[test]
    fn it_moves_to_what_is_wanted_and_stays_there() {
        let mut thermometer = thermometer();
        for (target, lowest, highest) in [("35", 21.0, 35.0), ("13", 13.0, 35.0), ("-5.5", -5.5, 13.0)] {
            let answer = told(&mut thermometer, TARGET, target).unwrap();
            assert!(answer.contains(&format!(r#""target":{{"actual":{{"value":"{target}"}}"#)), "{answer}");
            for tick in 0..500 {
                thermometer.report(1);
                let shown: f64 = thermometer.shown().parse().unwrap();
                // Rounding to a tenth, and what was left of the way before.
                assert!((lowest - 0.6..=highest + 0.6).contains(&shown), "{target}: {shown} at {tick}");
                let there: f64 = target.parse().unwrap();
                assert!(tick < 30 || (shown - there).abs() <= 0.56, "{target}: {shown} at {tick}");
            }
        }
    }

    #[test]
    fn what_is_wanted_is_held_to_the_limits_of_the_device() {
        for (wanted, held) in [("1e300", "85"), ("-273.15", "-40"), ("85", "85")] {
            let mut thermometer = thermometer();
            let answer = told(&mut thermometer, TARGET, wanted).unwrap();
            assert!(answer.contains(&format!(r#"{{"value":"{held}"}}"#)), "{wanted}: {answer}");
            for _ in 0..200 {
                thermometer.report(1);
            }
            let shown: f64 = thermometer.shown().parse().unwrap();
            assert!((shown - held.parse::<f64>().unwrap()).abs() <= 0.56, "{wanted}: {shown}");
        }
        // A model may let the measured property itself be set.
        let mut thermometer = thermometer();
        assert_eq!(told(&mut thermometer, "temperature", "30"), None);
        assert!((thermometer.target - 30.0).abs() < f64::EPSILON);
    }

    #[test]
    fn nonsense_is_passed_over() {
        let mut thermometer = thermometer();
        for payload in
            ["", "{", r#"{"delta":{"target":"warm"}}"#, r#"{"delta":{"target":"inf"}}"#, r#"{"delta":5}"#]
        {
            assert!(thermometer.hear("x/delta", payload.as_bytes(), 1).is_none(), "{payload}");
        }
    }
}
