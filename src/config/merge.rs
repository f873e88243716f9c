//! Lays a file over the default document and compares the two: unknown keys with their nearest neighbour, values of
//! another type. Pure; both configurations use it.

use crate::base::nearest;
use serde_json::Value;
use std::fmt;

/// A value or key in a file that is wrong or unknown.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Where, such as `modules.eventBus.mqttMode`.
    pub path: String,
    /// What stands there, shortened; empty where it may be a secret.
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
        let value = if secret(&path) { String::new() } else { shorten(&value.to_string()) };
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
    fn a_secret_is_not_repeated() {
        let mut base = json!({"edgeHub": {"token": "", "mqttPassword": ""}});
        let found = overlay(&mut base, &json!({"edgeHub": {"token": 12345, "mqttPassword": ["s3cret"]}}));
        let told: String = found.problems.iter().map(ToString::to_string).collect();
        assert_eq!(found.problems.len(), 2);
        assert!(!told.contains("12345") && !told.contains("s3cret"), "{told}");
    }
}
