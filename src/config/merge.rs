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
            if known.is_null() || type_name(known) == type_name(given) {
                *known = given.clone();
            } else {
                let reason = format!("must be {}, not {}", type_name(known), type_name(given));
                findings.problems.push(Problem::new(path, given, reason));
            }
        }
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
        let problem = Problem::new("eventBus.mqttServerExternal", "tcp://usr:s3cret@h", "must be host:port");
        assert_eq!(problem.value, "tcp://(hidden)@h");
    }
}
