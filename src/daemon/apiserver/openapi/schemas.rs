//! Component schemas: what the typed structs say of themselves, in the form that Kubernetes publishes, from a file that the
//! test below writes: nobody asks often enough for two megabytes of code that would say the same.

use super::Custom;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// One schema a line: its name, `group/version kind` where it is a kind of its own, its JSON.
const TEXT: &str = include_str!("schemas.tsv");
const GVK: &str = "x-kubernetes-group-version-kind";
const PLACE: &str = "#/components/schemas/";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// What every group needs besides its kinds.
const COMMON: [&str; 3] = [
    OBJECT_META,
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
];

/// A line of the file.
struct Line {
    /// Group, version and kind.
    kind: Option<(&'static str, &'static str, &'static str)>,
    json: &'static str,
}

static LINES: LazyLock<BTreeMap<&'static str, Line>> = LazyLock::new(|| {
    let line = |line: &'static str| {
        let (name, rest) = line.split_once('\t')?;
        let (kind, json) = rest.split_once('\t')?;
        let kind = kind.split_once(' ').and_then(|(place, kind)| {
            let (group, version) = place.split_once('/')?;
            Some((group, version, kind))
        });
        Some((name, Line { kind, json }))
    };
    TEXT.lines().filter_map(line).collect()
});

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
    let chosen = |line: &Line| line.kind.filter(|(group, version, _)| chosen(group, version));
    let kinds = LINES.iter().filter(|(_, line)| chosen(line).is_some()).map(|(name, _)| *name);
    let mut wanted: Vec<&str> = COMMON.into_iter().chain(kinds).collect();
    let mut schemas = Map::new();
    while let Some(name) = wanted.pop() {
        let Some(line) = LINES.get(name).filter(|_| !schemas.contains_key(name)) else { continue };
        let referred = line.json.split(PLACE).skip(1);
        wanted.extend(referred.filter_map(|rest| rest.split('"').next()));
        let mut schema: Value = serde_json::from_str(line.json).unwrap_or_default();
        if let Some((group, version, kind)) = chosen(line) {
            schema[GVK] = json!([{"group": group, "version": version, "kind": kind}]);
        }
        schemas.insert(name.to_owned(), schema);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::apiserver::kinds::BUILT_INS;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Status};
    use schemars::SchemaGenerator;
    use schemars::generate::SchemaSettings;
    use std::collections::HashMap;

    const FACTS: &str = include_str!("../merge_keys.tsv");

    /// `(type, field)` to the columns that follow in the file of merge facts.
    type Facts = HashMap<(&'static str, &'static str), Vec<&'static str>>;

    fn generate() -> String {
        let settings = SchemaSettings::draft07().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
        });
        let mut generator = SchemaGenerator::new(settings);
        generator.subschema_for::<ObjectMeta>();
        generator.subschema_for::<Status>();
        generator.subschema_for::<DeleteOptions>();
        BUILT_INS.iter().for_each(|kind| (kind.describe)(&mut generator));
        let names: HashMap<_, _> = BUILT_INS.iter().map(|kind| ((kind.schema_name)(), kind)).collect();
        let facts = facts();
        let mut lines = BTreeMap::new();
        for (name, mut schema) in generator.take_definitions(false) {
            finish(&name, &mut schema, &facts);
            let kind = names.get(name.as_str());
            let kind = kind.map(|it| format!("{}/{} {}", it.group, it.version, it.kind)).unwrap_or_default();
            let line = format!("{name}\t{kind}\t{schema}\n");
            lines.insert(name, line);
        }
        lines.into_values().collect()
    }

    #[test]
    fn the_file_says_what_the_structs_say() {
        let generated = generate();
        if std::env::var_os("KEDGE_UPDATE").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/daemon/apiserver/openapi/schemas.tsv");
            std::fs::write(path, &generated).unwrap();
            return;
        }
        assert!(generated == TEXT, "schemas.tsv is stale: run this test with KEDGE_UPDATE=1");
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
}
