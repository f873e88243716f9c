//! Component schemas: the typed structs' own descriptions, put into the form that Kubernetes publishes and joined
//! with the merge facts that kubectl computes patches from.

use super::Custom;
use crate::daemon::apiserver::kinds::BUILT_INS;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Status};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

const FACTS: &str = include_str!("../merge_keys.tsv");
const GVK: &str = "x-kubernetes-group-version-kind";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// `(type, field)` to the columns that follow in the file.
type Facts = HashMap<(&'static str, &'static str), Vec<&'static str>>;

/// The schemas that the kinds of one group and version need.
pub(super) fn of_version(group: &str, version: &str, custom: &[Custom<'_>]) -> Map<String, Value> {
    let mut schemas = built_in(|g, v| g == group && v == version);
    for custom in custom {
        schemas.insert(custom_name(custom), custom_schema(custom));
    }
    schemas
}

/// The schemas of the built-in kinds of the chosen groups and versions, and of what they refer to.
pub(super) fn built_in(chosen: impl Fn(&str, &str) -> bool) -> Map<String, Value> {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = SchemaGenerator::new(settings);
    generator.subschema_for::<ObjectMeta>();
    generator.subschema_for::<Status>();
    generator.subschema_for::<DeleteOptions>();
    let kinds = || BUILT_INS.iter().filter(|kind| chosen(kind.group, kind.version));
    kinds().for_each(|kind| (kind.describe)(&mut generator));
    let mut schemas = generator.take_definitions(false);
    let facts = facts();
    for (name, schema) in &mut schemas {
        finish(name, schema, &facts);
    }
    for kind in kinds() {
        if let Some(schema) = schemas.get_mut(&*(kind.schema_name)()) {
            schema[GVK] = json!([{"group": kind.group, "version": kind.version, "kind": kind.kind}]);
        }
    }
    schemas
}

/// `io.kubeedge.devices.v1beta1.Device`: the group backwards, as upstream names them.
pub(super) fn custom_name(custom: &Custom<'_>) -> String {
    let group: Vec<&str> = custom.group.split('.').rev().collect();
    format!("{}.{}.{}", group.join("."), custom.version, custom.kind)
}

pub(super) fn custom_schema(custom: &Custom<'_>) -> Value {
    let mut schema =
        custom.schema.cloned().filter(Value::is_object).unwrap_or_else(|| json!({"type": "object"}));
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    let reference = format!("#/components/schemas/{OBJECT_META}");
    schema["properties"]["metadata"] =
        json!({"allOf": [{"$ref": reference}], "description": "Standard object's metadata."});
    for (name, description) in [("apiVersion", "APIVersion of the object."), ("kind", "Kind of the object.")]
    {
        if !schema["properties"][name].is_object() {
            schema["properties"][name] = json!({"type": "string", "description": description});
        }
    }
    schema[GVK] = json!([{"group": custom.group, "version": custom.version, "kind": custom.kind}]);
    schema
}

fn facts() -> Facts {
    let lines = FACTS.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut columns = line.split('\t');
            Some(((columns.next()?, columns.next()?), columns.collect()))
        })
        .collect()
}

fn short(name: &str) -> &str {
    let rest =
        name.strip_prefix("io.k8s.api.").or_else(|| name.strip_prefix("io.k8s.apimachinery.pkg.apis."));
    rest.unwrap_or(name)
}

fn finish(name: &str, schema: &mut Value, facts: &Facts) {
    match name.rsplit('.').next().unwrap_or_default() {
        "IntOrString" => {
            return whole(
                schema,
                &json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
            );
        }
        "Quantity" => return whole(schema, &json!({"oneOf": [{"type": "string"}, {"type": "number"}]})),
        "JSON" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrStringArray" => {
            return whole(schema, &json!({}));
        }
        _ => {}
    }
    let name = short(name);
    if let Some(columns) = facts.get(&(name, "")) {
        extend(schema, columns);
    }
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (field, property) in properties {
        references(property);
        if let Some(columns) = facts.get(&(name, field.as_str())) {
            extend(property, columns);
        }
    }
}

/// Keeps the description only, and puts the published form in place of the rest.
fn whole(schema: &mut Value, form: &Value) {
    let description = schema["description"].take();
    *schema = form.clone();
    schema["description"] = description;
}

/// A reference with a description beside it stands in `allOf`, since `$ref` hides its siblings.
fn references(property: &mut Value) {
    let Some(fields) = property.as_object_mut() else { return };
    if fields.len() > 1
        && let Some(reference) = fields.remove("$ref")
    {
        fields.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
}

fn extend(schema: &mut Value, columns: &[&str]) {
    let names = [
        "x-kubernetes-patch-strategy",
        "x-kubernetes-patch-merge-key",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
    ];
    for (name, value) in names.iter().zip(columns).filter(|(_, value)| !value.is_empty()) {
        schema[*name] = if *name == "x-kubernetes-list-map-keys" {
            value.split(',').collect::<Vec<_>>().into()
        } else {
            (*value).into()
        };
    }
}
