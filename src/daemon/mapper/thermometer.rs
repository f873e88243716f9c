//! The thermometer itself: a temperature that moves towards what is wanted, and the messages of a device that has one.
//! Pure: time and messages come in, messages go out.

use crate::model::DeviceId;
use serde_json::{Value, json};

/// The property by which a person sets what the temperature moves to.
const TARGET: &str = "target";
/// Where it starts, and moves to when nothing is wanted.
const START: f64 = 21.0;

pub(super) struct Thermometer {
    device: DeviceId,
    property: String,
    temperature: f64,
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
        Thermometer { device, property, temperature: START, target: START, ticks: 0 }
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
        let breath = (f64::from(self.ticks) * 0.7).sin() * 0.3;
        self.temperature += (self.target - self.temperature) * 0.25 + breath;
        let property = self.property.clone();
        self.update(&property, &self.shown(), now)
    }

    /// The temperature as it is reported.
    pub(super) fn shown(&self) -> String {
        format!("{:.1}", self.temperature)
    }

    /// Takes what is wanted; the answer confirms it.
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
        let target: f64 = value.parse().ok().filter(|target: &f64| target.is_finite())?;
        let news = (target - self.target).abs() > f64::EPSILON;
        self.target = target;
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

    #[test]
    fn it_moves_to_what_is_wanted() {
        let mut thermometer = Thermometer::new(DeviceId::new("default", "t"), "temperature".to_owned());
        let delta = br#"{"delta":{"target":"35"},"twin":{}}"#;
        let (to, answer) =
            thermometer.hear("$hw/events/device/default/t/twin/update/delta", delta, 1).unwrap();
        assert_eq!(to, "$hw/events/device/default/t/twin/update");
        assert!(String::from_utf8(answer).unwrap().contains(r#""target":{"actual":{"value":"35"}"#));
        let before = thermometer.shown();
        for _ in 0..20 {
            thermometer.report(1);
        }
        assert!((thermometer.temperature - 35.0).abs() < 2.0 && thermometer.shown() != before);
    }

    #[test]
    fn nonsense_is_passed_over() {
        let mut thermometer = Thermometer::new(DeviceId::new("default", "t"), "temperature".to_owned());
        for payload in
            ["", "{", r#"{"delta":{"target":"warm"}}"#, r#"{"delta":{"target":"inf"}}"#, r#"{"delta":5}"#]
        {
            assert!(thermometer.hear("x/delta", payload.as_bytes(), 1).is_none(), "{payload}");
        }
    }
}
