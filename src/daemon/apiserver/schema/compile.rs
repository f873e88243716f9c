//! From the JSON of `openAPIV3Schema` to nodes, refusing what is too large, too deep or not understood.

use super::{Additional, Kind, Limits, ListType, Logic, Pattern, Schema};
use crate::model::Status;
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};
use std::sync::OnceLock;

const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 50_000;
/// Bytes a compiled expression may take.
const MAX_PATTERN: usize = 1 << 20;

impl Schema {
    /// Compiles the `openAPIV3Schema` of a CRD version.
    pub fn compile(schema: &Value) -> Result<Schema, Status> {
        node(schema, 0, &mut 0)
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Pattern, Status> {
        match expression(text) {
            Some(_) => Ok(Pattern { text: text.into(), compiled: OnceLock::new() }),
            None => Err(refused(format!("pattern {text:?} is not a supported regular expression"))),
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn matches(&self, value: &str) -> bool {
        self.compiled
            .get_or_init(|| expression(&self.text))
            .as_ref()
            .is_none_or(|regex| regex.is_match(value))
    }
}

/// Perl classes are ASCII in the schemas' dialect; an expression that needs Unicode gets it.
fn expression(text: &str) -> Option<Regex> {
    let build = |unicode: bool| {
        RegexBuilder::new(text)
            .unicode(unicode)
            .size_limit(MAX_PATTERN)
            .dfa_size_limit(MAX_PATTERN)
            .build()
            .ok()
    };
    build(true).or_else(|| build(false))
}

fn refused(message: String) -> Status {
    Status::failure(422, "Invalid", format!("spec.validation.openAPIV3Schema: Invalid value: {message}"))
}

fn node(schema: &Value, depth: usize, nodes: &mut usize) -> Result<Schema, Status> {
    *nodes += 1;
    if depth > MAX_DEPTH || *nodes > MAX_NODES {
        return Err(refused("the schema is too deep or too large".to_owned()));
    }
    let Some(fields) = schema.as_object() else {
        return Err(refused("a schema must be an object".to_owned()));
    };
    let flag = |name: &str| fields.get(name).and_then(Value::as_bool).unwrap_or(false);
    let int_or_string = flag("x-kubernetes-int-or-string");
    let mut compiled = Schema {
        kind: kind(fields)?.filter(|_| !int_or_string),
        nullable: flag("nullable"),
        int_or_string,
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        additional: additional(fields.get("additionalProperties"), depth, nodes)?,
        required: strings(fields.get("required")).map(Into::into).collect(),
        default: fields.get("default").cloned(),
        list: list_type(fields),
        map_atomic: fields.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic"),
        limits: limits(fields)?.map(Box::new),
        logic: logic(fields, depth, nodes)?.map(Box::new),
        ..Default::default()
    };
    for (name, property) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
        compiled.properties.insert(name.as_str().into(), node(property, depth + 1, nodes)?);
    }
    if let Some(items) = fields.get("items") {
        compiled.items = Some(Box::new(node(items, depth + 1, nodes)?));
    }
    Ok(compiled)
}

fn kind(fields: &Map<String, Value>) -> Result<Option<Kind>, Status> {
    Ok(Some(match fields.get("type").and_then(Value::as_str) {
        None | Some("") => return Ok(None),
        Some("object") => Kind::Object,
        Some("array") => Kind::Array,
        Some("string") => Kind::String,
        Some("integer") => Kind::Integer,
        Some("number") => Kind::Number,
        Some("boolean") => Kind::Boolean,
        Some(other) => return Err(refused(format!("{other:?} is not a supported type"))),
    }))
}

fn additional(value: Option<&Value>, depth: usize, nodes: &mut usize) -> Result<Additional, Status> {
    Ok(match value {
        None | Some(Value::Bool(false) | Value::Null) => Additional::Unsaid,
        Some(Value::Bool(true)) => Additional::Any,
        Some(schema) => Additional::Schema(Box::new(node(schema, depth + 1, nodes)?)),
    })
}

fn strings(value: Option<&Value>) -> impl Iterator<Item = &str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn list_type(fields: &Map<String, Value>) -> ListType {
    match fields.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListType::Set,
        Some("map") => {
            ListType::Map(strings(fields.get("x-kubernetes-list-map-keys")).map(str::to_owned).collect())
        }
        _ => ListType::Atomic,
    }
}

fn limits(fields: &Map<String, Value>) -> Result<Option<Limits>, Status> {
    const NAMES: [&str; 15] = [
        "enum",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
    ];
    if !NAMES.iter().any(|name| fields.contains_key(*name)) {
        return Ok(None);
    }
    let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let count = |name: &str| fields.get(name).and_then(Value::as_u64);
    let flag = |name: &str| fields.get(name).and_then(Value::as_bool).unwrap_or(false);
    let number = |name: &str| fields.get(name).and_then(Value::as_number).cloned();
    Ok(Some(Limits {
        choices: fields.get("enum").and_then(Value::as_array).cloned(),
        pattern: text("pattern").map(Pattern::new).transpose()?,
        format: text("format").map(Into::into),
        minimum: number("minimum"),
        maximum: number("maximum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        multiple_of: fields.get("multipleOf").and_then(Value::as_f64).filter(|of| *of > 0.0),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        unique_items: flag("uniqueItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
    }))
}

fn logic(fields: &Map<String, Value>, depth: usize, nodes: &mut usize) -> Result<Option<Logic>, Status> {
    if !["allOf", "anyOf", "oneOf", "not"].iter().any(|name| fields.contains_key(*name)) {
        return Ok(None);
    }
    let mut all = |name: &str| {
        let schemas = fields.get(name).and_then(Value::as_array).into_iter().flatten();
        schemas.map(|schema| node(schema, depth + 1, nodes)).collect::<Result<Vec<_>, _>>()
    };
    let (all_of, any_of, one_of) = (all("allOf")?, all("anyOf")?, all("oneOf")?);
    let not = fields.get("not").map(|schema| node(schema, depth + 1, nodes)).transpose()?;
    Ok(Some(Logic { all_of, any_of, one_of, not }))
}
