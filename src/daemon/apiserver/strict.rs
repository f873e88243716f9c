//! Which fields of a built-in object nobody knows, for `fieldValidation=Strict` and `Warn`. Walks the object along
//! `types`; the request path calls it before an object is stored.

use super::types::{Shape, Spec, Type};
use serde_json::Value;

/// Enough for a person; a hostile object could name millions.
const MAX_REPORTED: usize = 32;
const MAX_DEPTH: usize = 128;

/// Unknown fields as upstream words them: `unknown field "spec.replicsa"`.
pub fn unknown_builtin_fields(group: &str, version: &str, kind: &str, object: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Some(of) = Type::of_kind(group, Some(version), kind) {
        in_struct(of, object, "", 0, &mut unknown);
    }
    unknown
}

fn in_struct(of: Type, value: &Value, path: &str, depth: usize, unknown: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        if unknown.len() >= MAX_REPORTED || depth > MAX_DEPTH {
            return;
        }
        let inner = || if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match of.field(name) {
            None => unknown.push(format!("unknown field {:?}", inner())),
            Some(spec) if value.is_object() || value.is_array() => {
                in_value(spec, value, &inner(), depth + 1, unknown);
            }
            Some(_) => {}
        }
    }
}

fn in_value(spec: Spec, value: &Value, path: &str, depth: usize, unknown: &mut Vec<String>) {
    match (spec.shape(), value) {
        (Shape::Struct(of), Value::Object(_)) => in_struct(of, value, path, depth, unknown),
        (Shape::Map(inner), Value::Object(fields)) => {
            for (name, value) in fields.iter().filter(|(_, value)| value.is_object() || value.is_array()) {
                in_value(inner, value, &format!("{path}.{name}"), depth + 1, unknown);
            }
        }
        (Shape::List(inner), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate().filter(|(_, i)| i.is_object() || i.is_array()) {
                in_value(inner, item, &format!("{path}[{index}]"), depth + 1, unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn misspelt_fields_are_named() {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "labels": {"any": "x"}},
            "spec": {"replicsa": 1, "template": {"spec": {"containers": [{"name": "c", "imag": "x", "resources": {"limits": {"cpu": "1"}}}]}}},
        });
        assert_eq!(
            unknown_builtin_fields("apps", "v1", "Deployment", &object),
            ["unknown field \"spec.replicsa\"", "unknown field \"spec.template.spec.containers[0].imag\""]
        );
        assert!(unknown_builtin_fields("devices.kubeedge.io", "v1", "Device", &object).is_empty());
    }
}
