//! Compares a built-in object with the types of its fields: a wrong type refuses the request whatever was asked for,
//! a field nobody knows only under `fieldValidation=Strict` or `Warn`. Walks the object along `types`; the request
//! path calls it before an object is completed and stored, so what follows may rely on the types.

use super::types::{Scalar, Shape, Spec, Type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::fmt;

/// Enough for a person; a hostile object could name millions.
const MAX_REPORTED: usize = 32;
const MAX_DEPTH: usize = 128;

/// What is wrong with the fields of an object.
#[derive(Debug, Default)]
pub struct Findings {
    /// Unknown fields as upstream words them: `unknown field "spec.replicsa"`.
    pub unknown: Vec<String>,
    /// The first value of a wrong type, in the words of Go's decoder that people search the web for.
    pub mistyped: Option<String>,
}

/// Looks through an object of a built-in kind; an unknown kind has no findings.
pub fn inspect(group: &str, version: &str, kind: &str, object: &Value) -> Findings {
    let mut walk = Walk { kind, found: Findings::default() };
    if let Some(of) = Type::of_kind(group, Some(version), kind) {
        walk.fields(of, object, &Path { parent: None, step: Step::Root, depth: 0 });
    }
    walk.found
}

/// A path that becomes text only when something is wrong.
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
    depth: usize,
}

enum Step<'a> {
    Root,
    Field(&'a str),
    Item(usize),
}

impl Path<'_> {
    fn then<'a>(&'a self, step: Step<'a>) -> Path<'a> {
        Path { parent: Some(self), step, depth: self.depth + 1 }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if self.depth == 1 => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Item(index) => write!(f, "[{index}]"),
        }
    }
}

struct Walk<'a> {
    kind: &'a str,
    found: Findings,
}

impl Walk<'_> {
    fn fields(&mut self, of: Type, object: &Value, path: &Path<'_>) {
        for (name, value) in object.as_object().into_iter().flatten() {
            let path = path.then(Step::Field(name));
            match of.field(name) {
                None if self.found.unknown.len() < MAX_REPORTED => {
                    self.found.unknown.push(format!("unknown field {:?}", path.to_string()));
                }
                None => {}
                Some(spec) => self.value(spec, value, &path),
            }
        }
    }

    fn value(&mut self, spec: Spec, value: &Value, path: &Path<'_>) {
        if value.is_null() || path.depth > MAX_DEPTH {
            return;
        }
        match (spec.shape(), value) {
            (Shape::Any, _) => {}
            (Shape::Struct(of), Value::Object(_)) => self.fields(of, value, path),
            (Shape::Map(inner), Value::Object(fields)) => {
                for (name, value) in fields {
                    self.value(inner, value, &path.then(Step::Field(name)));
                }
            }
            (Shape::List(inner), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(inner, item, &path.then(Step::Item(index)));
                }
            }
            (Shape::Scalar(Scalar::Bytes), Value::String(text)) => {
                let text = text.replace(['\r', '\n'], "");
                if self.found.mistyped.is_none() && STANDARD.decode(text).is_err() {
                    self.found.mistyped = Some(format!("illegal base64 data in {path}"));
                }
            }
            (Shape::Scalar(scalar), _) if is(scalar, value) => {}
            (shape, _) => {
                let (found, kind, wanted) = (word(value), self.kind, type_name(shape));
                self.found.mistyped.get_or_insert_with(|| {
                    format!(
                        "json: cannot unmarshal {found} into Go struct field {kind}.{path} of type {wanted}"
                    )
                });
            }
        }
    }
}

fn is(scalar: Scalar, value: &Value) -> bool {
    match scalar {
        Scalar::String | Scalar::Bytes | Scalar::Time => value.is_string(),
        Scalar::Integer => value.is_i64() || value.is_u64(),
        Scalar::Number => value.is_number(),
        Scalar::Boolean => value.is_boolean(),
        Scalar::IntOrString => value.is_string() || value.is_i64(),
        Scalar::Quantity => value.is_string() || value.is_number(),
    }
}

fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn type_name(shape: Shape) -> String {
    match shape {
        Shape::List(inner) => format!("[]{}", type_name(inner.shape())),
        Shape::Map(inner) => format!("map[string]{}", type_name(inner.shape())),
        Shape::Struct(of) => of.name().rsplit('.').next().unwrap_or_default().to_owned(),
        Shape::Scalar(Scalar::String) => "string".to_owned(),
        Shape::Scalar(Scalar::Bytes) => "[]uint8".to_owned(),
        Shape::Scalar(Scalar::Time) => "Time".to_owned(),
        Shape::Scalar(Scalar::Integer) => "integer".to_owned(),
        Shape::Scalar(Scalar::Number) => "float64".to_owned(),
        Shape::Scalar(Scalar::Boolean) => "bool".to_owned(),
        Shape::Scalar(Scalar::IntOrString) => "IntOrString".to_owned(),
        Shape::Scalar(Scalar::Quantity) => "Quantity".to_owned(),
        Shape::Any => "any".to_owned(),
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
        let found = inspect("apps", "v1", "Deployment", &object);
        assert_eq!(
            found.unknown,
            ["unknown field \"spec.replicsa\"", "unknown field \"spec.template.spec.containers[0].imag\""]
        );
        assert_eq!(found.mistyped, None);
        assert!(inspect("devices.kubeedge.io", "v1", "Device", &object).unknown.is_empty());
    }

    #[test]
    fn wrong_types_are_refused_and_null_is_absent() {
        let mistyped = |kind: &str, object: Value| inspect("", "v1", kind, &object).mistyped;
        let pod = |container: Value| json!({"spec": {"containers": [container], "nodeSelector": null}});
        assert_eq!(mistyped("Pod", pod(json!({"name": "a", "ports": [{"containerPort": 80}]}))), None);
        assert_eq!(
            mistyped("Pod", pod(json!({"name": "a", "ports": [{"containerPort": "80"}]}))).unwrap(),
            "json: cannot unmarshal string into Go struct field Pod.spec.containers[0].ports[0].containerPort of type integer"
        );
        assert_eq!(
            mistyped("Pod", json!({"spec": {"containers": {}}})).unwrap(),
            "json: cannot unmarshal object into Go struct field Pod.spec.containers of type []Container"
        );
        assert_eq!(mistyped("Secret", json!({"data": {"a": "YWJj\n"}})), None);
        assert_eq!(
            mistyped("Secret", json!({"data": {"a": "no!"}})).unwrap(),
            "illegal base64 data in data.a"
        );
        assert!(mistyped("ConfigMap", json!({"data": {"a": 1}})).unwrap().ends_with("of type string"));
    }
}
