//! OpenAPI v2 for clients before v3. kubectl asks for it only in gnostic's protobuf form, whose messages stand here by
//! hand with the fields that it reads; a browser gets the same as JSON.

use super::{Custom, VERSION, customs, paths, schemas};
use prost::Message;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const MAX_DEPTH: usize = 64;

/// The document as JSON.
pub fn v2(definitions: &[Arc<Value>]) -> Value {
    let custom: Vec<Custom<'_>> = definitions.iter().flat_map(|definition| customs(definition)).collect();
    let mut paths = Map::new();
    for served in paths::served(|_, _| true, &custom) {
        let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation"]
            .iter()
            .map(|name| json!({"name": name, "in": "query", "type": "string", "uniqueItems": true}))
            .collect();
        let (_, _, one) = served.paths();
        let patch = json!({
            "consumes": served.patch_types(),
            "parameters": parameters,
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": served.gvk(),
        });
        paths.insert(one, json!({"patch": patch}));
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "definitions": all_schemas(&custom),
    })
}

/// The document as `application/com.github.proto-openapi.spec.v2.v1.0+protobuf`.
pub fn v2_protobuf(definitions: &[Arc<Value>]) -> Vec<u8> {
    let custom: Vec<Custom<'_>> = definitions.iter().flat_map(|definition| customs(definition)).collect();
    let definitions = all_schemas(&custom);
    let document = Document {
        swagger: "2.0".to_owned(),
        info: Some(Info { title: "Kubernetes".to_owned(), version: VERSION.to_owned() }),
        paths: Some(Paths {
            path: paths::served(|_, _| true, &custom).map(|served| path_item(&served)).collect(),
        }),
        definitions: Some(Properties {
            additional_properties: definitions.iter().map(|(name, schema)| named(name, schema, 0)).collect(),
        }),
    };
    document.encode_to_vec()
}

/// All schemas with the references and the few words that differ in v2.
fn all_schemas(custom: &[Custom<'_>]) -> Map<String, Value> {
    let mut all = schemas::built_in(|_, _| true);
    for custom in custom {
        all.insert(schemas::custom_name(custom), schemas::custom_schema(custom));
    }
    all.values_mut().for_each(|schema| rewrite(schema, 0));
    all
}

fn rewrite(value: &mut Value, depth: usize) {
    if depth > MAX_DEPTH {
        *value = Value::Null;
        return;
    }
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get_mut("$ref") {
                *reference = reference.replace("#/components/schemas/", "#/definitions/");
            }
            if let Some([one]) = fields.get("allOf").and_then(Value::as_array).map(Vec::as_slice)
                && let Some(reference) = one.get("$ref").cloned()
            {
                fields.remove("allOf");
                let text = reference.as_str().unwrap_or_default();
                fields.insert(
                    "$ref".to_owned(),
                    text.replace("#/components/schemas/", "#/definitions/").into(),
                );
            }
            // v2 knows neither; either form goes as a string, as upstream publishes it.
            if fields.get("oneOf").is_some_and(Value::is_array) && !fields.contains_key("properties") {
                fields.remove("oneOf");
                fields.entry("type").or_insert_with(|| "string".into());
            }
            fields.values_mut().for_each(|inner| rewrite(inner, depth + 1));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rewrite(item, depth + 1)),
        _ => {}
    }
}

fn path_item(served: &paths::Served<'_>) -> NamedPathItem {
    let parameters = ["dryRun", "fieldManager", "fieldValidation"].map(|name| ParametersItem {
        parameter: Some(Parameter {
            non_body: Some(NonBodyParameter {
                query: Some(QueryParameter {
                    r#in: "query".to_owned(),
                    name: name.to_owned(),
                    r#type: "string".to_owned(),
                }),
            }),
        }),
    });
    let operation = Operation {
        consumes: served.patch_types().into_iter().map(str::to_owned).collect(),
        parameters: parameters.to_vec(),
        vendor_extension: vec![
            extension("x-kubernetes-action", &json!("patch")),
            extension("x-kubernetes-group-version-kind", &served.gvk()),
        ],
    };
    NamedPathItem { name: served.paths().2, value: Some(PathItem { patch: Some(operation) }) }
}

fn named(name: &str, schema: &Value, depth: usize) -> NamedSchema {
    NamedSchema { name: name.to_owned(), value: Some(message(schema, depth)) }
}

/// JSON is YAML, so an extension goes as it stands.
fn extension(name: &str, value: &Value) -> NamedAny {
    NamedAny { name: name.to_owned(), value: Some(Any { yaml: format!("{value}\n") }) }
}

fn message(schema: &Value, depth: usize) -> Schema {
    let text = |name: &str| schema[name].as_str().unwrap_or_default().to_owned();
    if depth > MAX_DEPTH {
        return Schema::default();
    }
    let inner = |value: &Value| message(value, depth + 1);
    let boxed = |value: &Value| Some(Box::new(inner(value)));
    let properties = schema["properties"].as_object().map(|fields| Properties {
        additional_properties: fields.iter().map(|(name, schema)| named(name, schema, depth + 1)).collect(),
    });
    let extensions =
        schema.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-kubernetes-"));
    Schema {
        reference: text("$ref"),
        format: text("format"),
        description: text("description"),
        required: strings(&schema["required"]),
        additional_properties: match &schema["additionalProperties"] {
            Value::Object(_) => {
                Some(AdditionalProperties { schema: boxed(&schema["additionalProperties"]), boolean: None })
            }
            Value::Bool(flag) => Some(AdditionalProperties { schema: None, boolean: Some(*flag) }),
            _ => None,
        },
        r#type: schema["type"].as_str().map(|kind| TypeItem { value: vec![kind.to_owned()] }),
        items: schema["items"].is_object().then(|| Items { schema: vec![inner(&schema["items"])] }),
        properties,
        vendor_extension: extensions.map(|(name, value)| extension(name, value)).collect(),
    }
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

// === gnostic's OpenAPIv2.proto, as far as it is filled ===

#[derive(Clone, PartialEq, Message)]
struct Document {
    #[prost(string, tag = "1")]
    swagger: String,
    #[prost(message, optional, tag = "2")]
    info: Option<Info>,
    #[prost(message, optional, tag = "8")]
    paths: Option<Paths>,
    #[prost(message, optional, tag = "9")]
    definitions: Option<Properties>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(string, tag = "1")]
    title: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Paths {
    #[prost(message, repeated, tag = "2")]
    path: Vec<NamedPathItem>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedPathItem {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<PathItem>,
}

#[derive(Clone, PartialEq, Message)]
struct PathItem {
    #[prost(message, optional, tag = "8")]
    patch: Option<Operation>,
}

#[derive(Clone, PartialEq, Message)]
struct Operation {
    #[prost(string, repeated, tag = "7")]
    consumes: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    parameters: Vec<ParametersItem>,
    #[prost(message, repeated, tag = "13")]
    vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct ParametersItem {
    #[prost(message, optional, tag = "1")]
    parameter: Option<Parameter>,
}

#[derive(Clone, PartialEq, Message)]
struct Parameter {
    #[prost(message, optional, tag = "2")]
    non_body: Option<NonBodyParameter>,
}

#[derive(Clone, PartialEq, Message)]
struct NonBodyParameter {
    #[prost(message, optional, tag = "3")]
    query: Option<QueryParameter>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryParameter {
    #[prost(string, tag = "2")]
    r#in: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "6")]
    r#type: String,
}

#[derive(Clone, PartialEq, Message)]
struct Properties {
    #[prost(message, repeated, tag = "1")]
    additional_properties: Vec<NamedSchema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSchema {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct Schema {
    #[prost(string, tag = "1")]
    reference: String,
    #[prost(string, tag = "2")]
    format: String,
    #[prost(string, tag = "4")]
    description: String,
    #[prost(string, repeated, tag = "19")]
    required: Vec<String>,
    #[prost(message, optional, tag = "21")]
    additional_properties: Option<AdditionalProperties>,
    #[prost(message, optional, tag = "22")]
    r#type: Option<TypeItem>,
    #[prost(message, optional, tag = "23")]
    items: Option<Items>,
    #[prost(message, optional, tag = "25")]
    properties: Option<Properties>,
    #[prost(message, repeated, tag = "31")]
    vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct AdditionalProperties {
    #[prost(message, optional, boxed, tag = "1")]
    schema: Option<Box<Schema>>,
    #[prost(bool, optional, tag = "2")]
    boolean: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeItem {
    #[prost(string, repeated, tag = "1")]
    value: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Items {
    #[prost(message, repeated, tag = "1")]
    schema: Vec<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedAny {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "2")]
    yaml: String,
}
