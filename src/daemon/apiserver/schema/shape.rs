//! What a schema does to an object's shape: unknown fields go, defaults come, and strict clients hear which fields
//! nobody knows. Recursion follows the schema, whose depth is bounded.

use super::{Additional, Schema};
use serde_json::{Map, Value};

impl Schema {
    /// Removes the fields the schema does not know; type and object metadata stay.
    pub fn prune(&self, object: &mut Value) {
        prune(self, object, true);
    }

    /// Drops what is null and not nullable, as Go clients write fields without a value, then fills in defaults.
    pub fn default(&self, object: &mut Value) {
        fill(self, object, true);
    }

    /// What pruning would remove, as upstream words it: `unknown field "spec.replicsa"`.
    pub fn unknown_fields(&self, object: &Value) -> Vec<String> {
        let mut unknown = Vec::new();
        collect_unknown(self, object, true, "", &mut unknown);
        unknown
    }

    fn keeps_unknown(&self) -> bool {
        let says_nothing = self.int_or_string || (self.kind.is_none() && self.properties.is_empty());
        self.preserve_unknown || says_nothing || matches!(self.additional, Additional::Any)
    }
}

/// Fields every object has, whatever its schema says.
fn is_object_field(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

fn prune(schema: &Schema, value: &mut Value, resource: bool) {
    match value {
        Value::Object(fields) => {
            let resource = resource || schema.embedded;
            if !schema.keeps_unknown() {
                fields.retain(|name, _| (resource && is_object_field(name)) || schema.field(name).is_some());
            }
            for (name, value) in fields.iter_mut() {
                if let Some(inner) = schema.field(name).filter(|_| !(resource && is_object_field(name))) {
                    prune(inner, value, false);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = schema.item() {
                items.iter_mut().for_each(|item| prune(inner, item, false));
            }
        }
        _ => {}
    }
}

fn collect_unknown(schema: &Schema, value: &Value, resource: bool, path: &str, unknown: &mut Vec<String>) {
    /// Enough for a person; a hostile object could name millions.
    const MAX_REPORTED: usize = 32;
    match value {
        Value::Object(fields) => {
            let resource = resource || schema.embedded;
            let free = schema.keeps_unknown();
            for (name, value) in fields {
                if unknown.len() >= MAX_REPORTED {
                    return;
                }
                if resource && is_object_field(name) {
                    continue;
                }
                let inner_path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match schema.field(name) {
                    Some(inner) => collect_unknown(inner, value, false, &inner_path, unknown),
                    None if free => {}
                    None => unknown.push(format!("unknown field {inner_path:?}")),
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = schema.item() else { return };
            for (index, item) in items.iter().enumerate() {
                collect_unknown(inner, item, false, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

fn fill(schema: &Schema, value: &mut Value, resource: bool) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                let kept = !value.is_null() || (resource && is_object_field(name));
                kept || schema.field(name).is_none_or(|inner| inner.nullable)
            });
            fill_missing(schema, fields, resource);
            for (name, value) in fields.iter_mut() {
                if let Some(inner) = schema.field(name).filter(|_| !(resource && is_object_field(name))) {
                    fill(inner, value, false);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = schema.item() {
                items.iter_mut().for_each(|item| fill(inner, item, false));
            }
        }
        _ => {}
    }
}

fn fill_missing(schema: &Schema, fields: &mut Map<String, Value>, resource: bool) {
    for (name, property) in &schema.properties {
        let Some(default) = &property.default else { continue };
        if resource && is_object_field(name) {
            continue;
        }
        if !fields.contains_key(&**name) {
            fields.insert(name.to_string(), default.clone());
        }
    }
}
