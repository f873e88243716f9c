//! Lays a file over the default document and compares the two: unknown keys with their nearest neighbour, values of
//! another type. Pure; both configurations use it.

use crate::base::nearest;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;

/// A value or key in a file that is wrong or unknown.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Where, such as `modules.eventBus.mqttMode`.
    pub path: String,
    /// What stands there, shortened and without a login; empty where it may be a secret.
    pub value: String,
    pub reason: String,
    /// A known key that looks like it.
    pub nearest: Option<String>,
    /// The page that says more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
}

impl Problem {
    pub fn new(path: impl Into<String>, value: impl fmt::Display, reason: impl Into<String>) -> Self {
        let path = path.into();
        let value = if secret(&path) {
            String::new()
        } else {
            shorten(&super::login::without_login(&value.to_string()))
        };
        Problem { path, value, reason: reason.into(), nearest: None, code: None }
    }

    /// With the code that `kedge explain` knows.
    #[must_use]
    pub(super) fn coded(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if !self.value.is_empty() {
            write!(f, " = {}", self.value)?;
        }
        write!(f, ": {}", self.reason)?;
        if let Some(nearest) = &self.nearest {
            write!(f, " (did you mean {nearest}?)")?;
        }
        if let Some(code) = self.code {
            write!(f, " [{code}]")?;
        }
        Ok(())
    }
}

pub(super) fn secret(path: &str) -> bool {
    let last = path.rsplit('.').next().unwrap_or(path).to_ascii_lowercase();
    last.contains("token") || last.contains("password")
}

fn shorten(text: &str) -> String {
    const SHOWN: usize = 80;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain(['…']).collect()
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Findings {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// Lays `file` over `defaults`. A map that is empty in the defaults takes any key (labels, feature gates); a null
/// default takes any value; a null in the file keeps the default.
pub fn overlay(defaults: &mut Value, file: &Value) -> Findings {
    let mut findings = Findings::default();
    lay(defaults, file, "", &mut findings);
    findings
}

fn lay(base: &mut Value, file: &Value, path: &str, findings: &mut Findings) {
    match (&mut *base, file) {
        (_, Value::Null) => {}
        (Value::Object(known), Value::Object(given)) if !known.is_empty() => {
            let names: Vec<String> = known.keys().cloned().collect();
            for (key, value) in given {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match known.get_mut(key) {
                    Some(slot) => lay(slot, value, &below, findings),
                    None => findings.warnings.push(Problem {
                        nearest: nearest(key, names.iter().map(String::as_str)).map(str::to_owned),
                        ..Problem::new(below, "", "unknown key, ignored")
                    }),
                }
            }
        }
        (known, given) => {
            if is_whole(known) && given.is_f64() && !is_whole(given) {
                findings.problems.push(Problem::new(
                    path,
                    given,
                    "must be a whole number, and not a huge one",
                ));
            } else if known.is_null() || type_name(known) == type_name(given) {
                *known = given.clone();
            } else {
                let reason = format!("must be {}, not {}", type_name(known), type_name(given));
                findings.problems.push(Problem::new(path, given, reason));
            }
        }
    }
}

/// A number without a fraction that fits the settings, all of which are of at most 64 bits.
fn is_whole(value: &Value) -> bool {
    let small = |number: f64| number.fract() == 0.0 && number.abs() < 9e15;
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(small)
}

/// What a typed form cannot hold of a merged document, each with its key; the default stands there instead afterwards, so
/// that the rest can be looked at too. `T` holds the defaults.
pub(super) fn unfit<T: DeserializeOwned>(document: &mut Value, defaults: &Value) -> Vec<Problem> {
    let fits = |document: &Value| T::deserialize(document).is_ok();
    if fits(&*document) {
        return Vec::new();
    }
    let (mut changed, mut problems) = (Vec::new(), Vec::new());
    differing(defaults, &*document, &mut Vec::new(), &mut changed);
    for path in changed {
        let at = |from: &Value| path.iter().try_fold(from, |place, key| place.get(key)).cloned();
        let (Some(known), Some(given)) = (at(defaults), at(&*document)) else { continue };
        let alone = |value: Value| {
            let mut tried = defaults.clone();
            put(&mut tried, &path, value);
            fits(&tried)
        };
        if alone(given.clone()) {
            continue;
        }
        problems.push(Problem::new(path.join("."), &given, wanted(&known, alone)));
        put(document, &path, known);
    }
    problems
}

/// The paths at which a document says something else than the defaults.
fn differing(defaults: &Value, document: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    match (defaults, document) {
        (Value::Object(known), Value::Object(given)) if !known.is_empty() => {
            for (key, value) in given {
                let Some(default) = known.get(key) else { continue };
                path.push(key.clone());
                differing(default, value, path, found);
                path.pop();
            }
        }
        (known, given) if known != given => found.push(path.clone()),
        _ => {}
    }
}

fn put(document: &mut Value, path: &[String], value: Value) {
    if let Some(slot) = path.iter().try_fold(document, |place, key| place.get_mut(key)) {
        *slot = value;
    }
}

/// What may stand in the place of a default, found out by trying.
fn wanted(known: &Value, fits: impl Fn(Value) -> bool) -> String {
    let whole = |least: &str, most: &str| format!("must be a whole number from {least} to {most}");
    match known {
        Value::Number(_) if fits((-1).into()) => "must be a whole number".to_owned(),
        Value::Number(_) if !fits(65_536.into()) => whole("0", "65535"),
        Value::Number(_) if !fits(4_294_967_296_u64.into()) => whole("0", "4294967295"),
        Value::Number(_) => whole("0", "18446744073709551615"),
        Value::Array(_) if fits(Value::Array(vec!["x".into()])) => "must be a list of texts".to_owned(),
        known => format!("must be of the same form as the default, {known}"),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_file_overrides_defaults_and_tells_all_that_is_wrong() {
        let mut base = json!({"a": {"port": 1, "labels": {}, "free": null, "name": "x"}, "b": true});
        let file = json!({"a": {"prot": 2, "port": "two", "labels": {"any": "thing"}, "free": [1], "name": null}, "b": 1});
        let found = overlay(&mut base, &file);
        for (given, fits) in
            [(json!(1.5), false), (json!(1e20), false), (json!(2.0), true), (json!(-3), true)]
        {
            let found = overlay(&mut json!({"a": {"port": 1}}), &json!({"a": {"port": given}}));
            assert_eq!(found.problems.is_empty(), fits, "{given}");
        }
        assert_eq!(
            base,
            json!({"a": {"port": 1, "labels": {"any": "thing"}, "free": [1], "name": "x"}, "b": true})
        );
        let problems: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            ["a.port = \"two\": must be a number, not a text", "b = 1: must be true or false, not a number"]
        );
        let warnings: Vec<String> = found.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, ["a.prot: unknown key, ignored (did you mean port?)"]);
    }

    #[test]
    fn what_does_not_fit_is_told_by_its_key_and_replaced_by_the_default() {
        #[derive(serde::Deserialize, Debug, PartialEq)]
        struct Form {
            port: u16,
            days: u32,
            limit: usize,
            mode: i64,
            time: f64,
            below: Below,
        }
        #[derive(serde::Deserialize, Debug, PartialEq)]
        struct Below {
            names: Vec<String>,
            flags: Vec<Flag>,
        }
        #[derive(serde::Deserialize, Debug, PartialEq)]
        struct Flag {
            on: bool,
        }
        let defaults = json!({"port": 1, "days": 2, "limit": 3, "mode": 4, "time": 5,
            "below": {"names": [], "flags": [{"on": true}]}});
        let mut same = defaults.clone();
        assert_eq!(unfit::<Form>(&mut same, &defaults), []);
        let mut wrong = json!({"port": 99999, "days": -1, "limit": -5, "mode": 1.5, "time": 0.5,
            "below": {"names": [1], "flags": [{"on": 1}]}});
        let mut told: Vec<String> =
            unfit::<Form>(&mut wrong, &defaults).iter().map(ToString::to_string).collect();
        told.sort();
        assert_eq!(
            told,
            [
                "below.flags = [{\"on\":1}]: must be of the same form as the default, [{\"on\":true}]",
                "below.names = [1]: must be a list of texts",
                "days = -1: must be a whole number from 0 to 4294967295",
                "limit = -5: must be a whole number from 0 to 18446744073709551615",
                "mode = 1.5: must be a whole number",
                "port = 99999: must be a whole number from 0 to 65535",
            ]
        );
        let mut expected = defaults.clone();
        expected["time"] = json!(0.5);
        assert_eq!(wrong, expected);
    }

    #[test]
    fn a_secret_is_not_repeated() {
        let mut base = json!({"edgeHub": {"token": "", "mqttPassword": ""}});
        let found = overlay(&mut base, &json!({"edgeHub": {"token": 12345, "mqttPassword": ["s3cret"]}}));
        let told: String = found.problems.iter().map(ToString::to_string).collect();
        assert_eq!(found.problems.len(), 2);
        assert!(!told.contains("12345") && !told.contains("s3cret"), "{told}");
        let problem = Problem::new("eventBus.mqttServerExternal", "tcp://usr:s3cret@h", "must be host:port");
        assert_eq!(problem.value, "tcp://(hidden)@h");
    }
}
