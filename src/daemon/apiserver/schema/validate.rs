//! Validation of an object against its schema, worded as upstream words it so that people and tools recognise it.

use super::{Additional, Kind, Limits, ListType, Logic, Schema};
use crate::model::Status;
use serde_json::{Number, Value, json};
use std::collections::HashSet;

/// Enough for a person to go on; the rest would only be noise.
const MAX_ERRORS: usize = 64;

/// One thing wrong with one field; serialises into a cause of a `Status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub path: String,
    /// A `metav1.CauseType`, such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// The text after the path: `Invalid value: …`.
    pub message: String,
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// The 422 that upstream answers: `Device.devices.kubeedge.io "a" is invalid: …`.
pub fn invalid_status(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Status {
    let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let detail = match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let mut status = Status::failure(422, "Invalid", format!("{qualified} {name:?} is invalid: {detail}"));
    let causes: Vec<Value> = errors
        .iter()
        .map(|error| json!({"reason": error.reason, "message": error.message, "field": error.path}))
        .collect();
    status.details = Some(json!({"name": name, "group": group, "kind": kind, "causes": causes}));
    status
}

impl Schema {
    /// Everything that is wrong with `object`.
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut check = Check { errors: Vec::new() };
        check.value(self, object, &Path { parent: None, step: Step::Root });
        check.errors
    }
}

/// A path that becomes text only when something is wrong.
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Field(&'a str),
    Item(usize),
}

impl Path<'_> {
    fn field<'a>(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Field(name) }
    }

    fn item(&self, index: usize) -> Path<'_> {
        Path { parent: Some(self), step: Step::Item(index) }
    }

    fn write(&self, text: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(text);
        }
        match self.step {
            Step::Root => {}
            Step::Field(name) if text.is_empty() => text.push_str(name),
            Step::Field(name) => {
                text.push('.');
                text.push_str(name);
            }
            Step::Item(index) => {
                text.push_str(&format!("[{index}]"));
            }
        }
    }
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        self.write(&mut text);
        f.write_str(if text.is_empty() { "<nil>" } else { &text })
    }
}

struct Check {
    errors: Vec<FieldError>,
}

impl Check {
    fn error(&mut self, path: &Path<'_>, reason: &'static str, message: String) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(FieldError { path: path.to_string(), reason, message });
        }
    }

    fn invalid(&mut self, path: &Path<'_>, value: &Value, what: &str) {
        let message = format!("Invalid value: {}: {path} in body {what}", shown(value));
        self.error(path, "FieldValueInvalid", message);
    }

    fn value(&mut self, schema: &Schema, value: &Value, path: &Path<'_>) {
        if value.is_null() {
            if !schema.nullable && (schema.kind.is_some() || schema.int_or_string) {
                self.wrong_type(schema, value, path);
            }
            return;
        }
        if !has_kind(schema, value) {
            return self.wrong_type(schema, value, path);
        }
        if let Some(limits) = &schema.limits {
            self.limits(limits, schema, value, path);
        }
        match value {
            Value::Object(fields) => {
                for name in schema.required.iter().filter(|name| !fields.contains_key(&***name)) {
                    self.error(&path.field(name), "FieldValueRequired", "Required value".to_owned());
                }
                for (name, value) in fields {
                    let known = schema.properties.get(name.as_str());
                    let inner = known.or(match &schema.additional {
                        Additional::Schema(inner) => Some(inner),
                        Additional::Unsaid | Additional::Any => None,
                    });
                    if let Some(inner) = inner {
                        self.value(inner, value, &path.field(name));
                    }
                }
            }
            Value::Array(items) => {
                if let Some(inner) = schema.item() {
                    for (index, item) in items.iter().enumerate() {
                        self.value(inner, item, &path.item(index));
                    }
                }
                self.unique(schema, items, path);
            }
            _ => {}
        }
        if let Some(logic) = &schema.logic {
            self.logic(logic, value, path);
        }
    }

    fn wrong_type(&mut self, schema: &Schema, value: &Value, path: &Path<'_>) {
        let wanted = match schema.kind {
            _ if schema.int_or_string => "integer,string",
            Some(Kind::Object) => "object",
            Some(Kind::Array) => "array",
            Some(Kind::String) => "string",
            Some(Kind::Integer) => "integer",
            Some(Kind::Number) => "number",
            Some(Kind::Boolean) => "boolean",
            None => "any",
        };
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let message =
            format!("Invalid value: \"{found}\": {path} in body must be of type {wanted}: \"{found}\"");
        self.error(path, "FieldValueTypeInvalid", message);
    }

    fn limits(&mut self, limits: &Limits, schema: &Schema, value: &Value, path: &Path<'_>) {
        if let Some(choices) = limits.choices.as_ref().filter(|choices| !choices.contains(value)) {
            let supported: Vec<String> = choices.iter().map(shown).collect();
            let message =
                format!("Unsupported value: {}: supported values: {}", shown(value), supported.join(", "));
            self.error(path, "FieldValueNotSupported", message);
        }
        match value {
            Value::String(text) => self.text_limits(limits, text, value, path),
            Value::Number(number) => self.number_limits(limits, number, value, path),
            Value::Array(items) => self.list_limits(limits, items, value, path),
            Value::Object(fields) => {
                let count = fields.len() as u64;
                if let Some(most) = limits.max_properties.filter(|most| count > *most) {
                    self.error(
                        path,
                        "FieldValueTooMany",
                        format!("Too many: {count}: must have at most {most} items"),
                    );
                }
                if let Some(least) = limits.min_properties.filter(|least| count < *least) {
                    self.invalid(path, value, &format!("should have at least {least} properties"));
                }
            }
            _ => {}
        }
        if let Some(format) = limits.format.as_deref().filter(|format| !has_format(schema, format, value)) {
            self.invalid(path, value, &format!("must be of type {format}: {}", shown(value)));
        }
    }

    fn text_limits(&mut self, limits: &Limits, text: &str, value: &Value, path: &Path<'_>) {
        let length = text.chars().count() as u64;
        if let Some(most) = limits.max_length.filter(|most| length > *most) {
            let message = format!("Too long: may not be more than {most} bytes");
            self.error(path, "FieldValueTooLong", message);
        }
        if let Some(least) = limits.min_length.filter(|least| length < *least) {
            self.invalid(path, value, &format!("should be at least {least} chars long"));
        }
        if let Some(pattern) = limits.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
            self.invalid(path, value, &format!("should match '{}'", pattern.text()));
        }
    }

    fn number_limits(&mut self, limits: &Limits, number: &Number, value: &Value, path: &Path<'_>) {
        let found = number.as_f64().unwrap_or_default();
        if let Some(least) = &limits.minimum {
            let bound = least.as_f64().unwrap_or(f64::MIN);
            if limits.exclusive_minimum && found <= bound {
                self.invalid(path, value, &format!("should be greater than {least}"));
            } else if found < bound {
                self.invalid(path, value, &format!("should be greater than or equal to {least}"));
            }
        }
        if let Some(most) = &limits.maximum {
            let bound = most.as_f64().unwrap_or(f64::MAX);
            if limits.exclusive_maximum && found >= bound {
                self.invalid(path, value, &format!("should be less than {most}"));
            } else if found > bound {
                self.invalid(path, value, &format!("should be less than or equal to {most}"));
            }
        }
        if let Some(of) = limits.multiple_of {
            let quotient = found / of;
            if (quotient - quotient.round()).abs() > 1e-9 {
                self.invalid(path, value, &format!("should be a multiple of {of}"));
            }
        }
    }

    fn list_limits(&mut self, limits: &Limits, items: &[Value], value: &Value, path: &Path<'_>) {
        let count = items.len() as u64;
        if let Some(most) = limits.max_items.filter(|most| count > *most) {
            self.error(
                path,
                "FieldValueTooMany",
                format!("Too many: {count}: must have at most {most} items"),
            );
        }
        if let Some(least) = limits.min_items.filter(|least| count < *least) {
            self.invalid(path, value, &format!("should have at least {least} items"));
        }
        if limits.unique_items {
            let mut seen = HashSet::new();
            if !items.iter().all(|item| seen.insert(item.to_string())) {
                self.invalid(path, value, "shouldn't contain duplicates");
            }
        }
    }

    fn unique(&mut self, schema: &Schema, items: &[Value], path: &Path<'_>) {
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let id = match &schema.list {
                ListType::Atomic => return,
                ListType::Set => item.clone(),
                ListType::Map(keys) => {
                    let ids = keys.iter().map(|key| {
                        let default = schema.item().and_then(|item| item.field(key)?.default_value());
                        (key.clone(), item.get(key).or(default).cloned().unwrap_or(Value::Null))
                    });
                    Value::Object(ids.collect())
                }
            };
            if !seen.insert(id.to_string()) {
                self.error(
                    &path.item(index),
                    "FieldValueDuplicate",
                    format!("Duplicate value: {}", shown(&id)),
                );
            }
        }
    }

    fn logic(&mut self, logic: &Logic, value: &Value, path: &Path<'_>) {
        let holds = |schema: &Schema| {
            let mut check = Check { errors: Vec::new() };
            check.value(schema, value, path);
            check.errors.is_empty()
        };
        for schema in &logic.all_of {
            self.value(schema, value, path);
        }
        let mut says = |what: &str| {
            let message = format!("Invalid value: \"\": \"{path}\" {what}");
            self.error(path, "FieldValueInvalid", message);
        };
        if !logic.any_of.is_empty() && !logic.any_of.iter().any(holds) {
            says("must validate at least one schema (anyOf)");
        }
        if !logic.one_of.is_empty() {
            match logic.one_of.iter().filter(|schema| holds(schema)).count() {
                1 => {}
                0 => says("must validate one and only one schema (oneOf). Found none valid"),
                count => says(&format!(
                    "must validate one and only one schema (oneOf). Found {count} valid alternatives"
                )),
            }
        }
        if logic.not.as_ref().is_some_and(holds) {
            says("must not validate the schema (not)");
        }
    }
}

fn has_kind(schema: &Schema, value: &Value) -> bool {
    if schema.int_or_string {
        return value.is_string() || value.as_i64().is_some();
    }
    match schema.kind {
        None => true,
        Some(Kind::Object) => value.is_object(),
        Some(Kind::Array) => value.is_array(),
        Some(Kind::String) => value.is_string(),
        Some(Kind::Number) => value.is_number(),
        Some(Kind::Boolean) => value.is_boolean(),
        Some(Kind::Integer) => match value {
            Value::Number(number) => !number.is_f64() || number.as_f64().is_some_and(|n| n.fract() == 0.0),
            _ => false,
        },
    }
}

/// Formats that upstream checks; others are documentation.
fn has_format(schema: &Schema, format: &str, value: &Value) -> bool {
    match (format, value) {
        ("int32", Value::Number(number)) if !number.is_f64() => {
            number.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
        }
        ("int64", Value::Number(number)) if !number.is_f64() => number.as_i64().is_some(),
        _ if schema.int_or_string => true,
        ("date-time", Value::String(text)) => text.parse::<jiff::Timestamp>().is_ok(),
        ("date", Value::String(text)) => text.parse::<jiff::civil::Date>().is_ok(),
        ("ipv4", Value::String(text)) => text.parse::<std::net::Ipv4Addr>().is_ok(),
        ("ipv6", Value::String(text)) => text.parse::<std::net::Ipv6Addr>().is_ok(),
        ("byte", Value::String(text)) => {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        ("uuid", Value::String(text)) => {
            text.len() == 36 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
        }
        _ => true,
    }
}

/// A value as an error shows it: short, and nothing of a large one.
fn shown(value: &Value) -> String {
    const MOST: usize = 256;
    let text = match value {
        Value::Array(_) | Value::Object(_) | Value::String(_) => value.to_string(),
        other => return other.to_string(),
    };
    if text.len() <= MOST { text } else { format!("{}…", text.chars().take(MOST).collect::<String>()) }
}
