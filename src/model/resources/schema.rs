//! Reads the compact schema tables in `schemas/` into OpenAPI v3: one line a field, `path type flag…`, parents before
//! children, `[]` behind an array's name. The tables are part of the program; an error in one is an error in the program.

use serde_json::{Map, Value, json};

/// The OpenAPI schema of an object from its table, with `apiVersion`, `kind` and `metadata`.
pub(super) fn from_table(table: &str) -> Value {
    let mut root = json!({"type": "object", "properties": {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
    }});
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let (Some(path), Some(kind)) = (words.next(), words.next()) else { continue };
        let flags: Vec<&str> = words.collect();
        let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
        let parent = descend(&mut root, parent);
        if flags.contains(&"required") {
            push(parent, "required", json!(name));
        }
        member(parent, "properties").insert(name.to_owned(), field(kind, &flags));
    }
    root
}

/// The schema at a path such as `spec.properties[]`.
fn descend<'a>(root: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').filter(|part| !part.is_empty()).fold(root, |at, part| {
        let name = part.trim_end_matches("[]");
        let inner = member(at, "properties").entry(name).or_insert_with(|| json!({"type": "object"}));
        if part.ends_with("[]") { &mut inner["items"] } else { inner }
    })
}

fn member<'a>(schema: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    let slot = &mut schema[name];
    if !slot.is_object() {
        *slot = json!({});
    }
    slot.as_object_mut().expect("invariant: it was made an object above")
}

fn push(schema: &mut Value, name: &str, value: Value) {
    match &mut schema[name] {
        Value::Array(values) => values.push(value),
        slot => *slot = json!([value]),
    }
}

fn field(kind: &str, flags: &[&str]) -> Value {
    let mut schema = match kind {
        "array<object>" => json!({"type": "array", "items": {"type": "object"}}),
        "array<string>" => json!({"type": "array", "items": {"type": "string"}}),
        "map<string>" => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        "map<string:byte>" => {
            json!({"type": "object", "additionalProperties": {"type": "string", "format": "byte"}})
        }
        "map<int-or-string>" => json!({"type": "object", "additionalProperties": quantity()}),
        "any" => quantity(),
        plain => json!({"type": plain}),
    };
    for flag in flags {
        match *flag {
            "int32" | "int64" => schema["format"] = json!(flag),
            "free" => schema["x-kubernetes-preserve-unknown-fields"] = json!(true),
            "free-items" => schema["items"]["x-kubernetes-preserve-unknown-fields"] = json!(true),
            "atomic-map" => schema["x-kubernetes-map-type"] = json!("atomic"),
            "atomic-list" => schema["x-kubernetes-list-type"] = json!("atomic"),
            "map-list" => {
                schema["x-kubernetes-list-type"] = json!("map");
                schema["x-kubernetes-list-map-keys"] = json!(["name"]);
                schema["items"]["x-kubernetes-map-type"] = json!("atomic");
            }
            "default-empty" => schema["default"] = json!(""),
            "unsigned" => schema["minimum"] = json!(0),
            other => {
                if let Some(values) = other.strip_prefix("enum=") {
                    schema["enum"] = values.split(',').map(|value| enumerated(kind, value)).collect();
                }
            }
        }
    }
    schema
}

fn enumerated(kind: &str, value: &str) -> Value {
    if kind == "integer" { value.parse::<i64>().map_or(Value::Null, Value::from) } else { json!(value) }
}

fn quantity() -> Value {
    json!({
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
        "x-kubernetes-int-or-string": true,
    })
}
