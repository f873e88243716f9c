//! The shape of the built-in types: which fields each has, of which type, and how lists and maps merge. Strategic
//! merge patch, server-side apply and strict validation walk objects along it.
//!
//! The text is `types.tsv`, one type a line, made by the test below from the typed structs and `merge_keys.tsv` (facts
//! read from a Kubernetes 1.36 API server). It is read in place: no copy of it lives on the heap.

use std::sync::OnceLock;

const TEXT: &str = include_str!("types.tsv");

/// A built-in struct such as `core.v1.PodSpec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type {
    line: &'static str,
}

/// The type of a field, a list item or a map value, with its merge facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// `[` list of, `{` map of, then a scalar's letter or a type's name.
    text: &'static str,
    facts: &'static str,
}

/// What a [`Spec`] is at its outermost level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    List(Spec),
    Map(Spec),
    Struct(Type),
    Scalar(Scalar),
    /// Any JSON: its fields are nobody's business.
    Any,
}

/// The JSON form of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    String,
    Bytes,
    Time,
    Integer,
    Number,
    Boolean,
    IntOrString,
    Quantity,
}

fn lines() -> &'static [&'static str] {
    static LINES: OnceLock<Vec<&'static str>> = OnceLock::new();
    LINES.get_or_init(|| TEXT.lines().collect())
}

fn name_of(line: &str) -> &str {
    line.split('\t').next().unwrap_or_default().trim_end_matches('!')
}

impl Type {
    /// The type of a kind of an API group; with no version given, the stable one.
    pub fn of_kind(group: &str, version: Option<&str>, kind: &str) -> Option<Type> {
        let prefix = match group {
            "" => "core",
            "apiextensions.k8s.io" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
            "apiregistration.k8s.io" => "io.k8s.kube-aggregator.pkg.apis.apiregistration",
            group if group.ends_with(".k8s.io") || !group.contains('.') => group.split('.').next()?,
            _ => return None,
        };
        match version {
            Some(version) => Type::named(&format!("{prefix}.{version}.{kind}")),
            None => {
                ["v1", "v2"].iter().find_map(|version| Type::named(&format!("{prefix}.{version}.{kind}")))
            }
        }
    }

    /// The type called `name`, such as `meta.v1.ObjectMeta`.
    pub fn named(name: &str) -> Option<Type> {
        let lines = lines();
        let at = lines.binary_search_by(|line| name_of(line).cmp(name)).ok()?;
        lines.get(at).map(|line| Type { line })
    }

    pub fn name(self) -> &'static str {
        name_of(self.line)
    }

    /// Whether server-side apply owns it as a whole.
    pub fn is_atomic(self) -> bool {
        self.line.split('\t').next().is_some_and(|name| name.ends_with('!'))
    }

    pub fn field(self, name: &str) -> Option<Spec> {
        self.line.split('\t').skip(1).find_map(|field| {
            let rest = field.strip_prefix(name)?.strip_prefix('=')?;
            let (text, facts) = rest.split_once('|').unwrap_or((rest, ""));
            Some(Spec { text, facts })
        })
    }
}

impl Spec {
    pub fn shape(self) -> Shape {
        let inner = |text| Spec { text, facts: "" };
        if let Some(item) = self.text.strip_prefix('[') {
            return Shape::List(inner(item));
        }
        if let Some(value) = self.text.strip_prefix('{') {
            return Shape::Map(inner(value));
        }
        match self.text {
            "s" => Shape::Scalar(Scalar::String),
            "y" => Shape::Scalar(Scalar::Bytes),
            "t" => Shape::Scalar(Scalar::Time),
            "i" => Shape::Scalar(Scalar::Integer),
            "n" => Shape::Scalar(Scalar::Number),
            "b" => Shape::Scalar(Scalar::Boolean),
            "x" => Shape::Scalar(Scalar::IntOrString),
            "q" => Shape::Scalar(Scalar::Quantity),
            name => Type::named(name).map_or(Shape::Any, Shape::Struct),
        }
    }

    fn fact(self, tag: &str) -> Option<&'static str> {
        self.facts.split('|').find_map(|fact| fact.strip_prefix(tag))
    }

    /// Strategic merge: the list is merged rather than replaced; the key is empty for a list of scalars.
    pub fn patch_merge_key(self) -> Option<&'static str> {
        self.fact("patch:")
    }

    /// Strategic merge: the value of the patch replaces the object's.
    pub fn patch_replaces(self) -> bool {
        self.fact("replace").is_some()
    }

    /// Server-side apply: the keys that identify an item of a list of type `map`.
    pub fn list_keys(self) -> Option<&'static str> {
        self.fact("keys:")
    }

    /// Server-side apply: the items of the list are a set of scalars.
    pub fn is_set(self) -> bool {
        self.fact("set").is_some()
    }

    /// Server-side apply: the value is owned as a whole. Lists are, unless something else is said of them.
    pub fn is_atomic(self) -> bool {
        match self.shape() {
            Shape::List(_) => self.list_keys().is_none() && !self.is_set(),
            Shape::Map(_) => self.fact("atomic").is_some(),
            Shape::Struct(inner) => {
                self.fact("atomic").is_some() || (inner.is_atomic() && self.fact("granular").is_none())
            }
            Shape::Scalar(_) | Shape::Any => true,
        }
    }
}

/// The value of a list key that an item leaves out, as the schemas of ports give it.
pub fn key_default(key: &str) -> Option<&'static str> {
    (key == "protocol").then_some("TCP")
}

#[cfg(test)]
mod tests {
    use super::super::kinds::BUILT_INS;
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeMap;

    const FACTS: &str = include_str!("merge_keys.tsv");
    const ANY_JSON: [&str; 6] = [
        "RawExtension",
        "FieldsV1",
        "JSON",
        "JSONSchemaPropsOrBool",
        "JSONSchemaPropsOrArray",
        "JSONSchemaPropsOrStringArray",
    ];

    fn short(name: &str) -> String {
        let name = name.rsplit('/').next().unwrap();
        for prefix in ["io.k8s.api.", "io.k8s.apimachinery.pkg.apis."] {
            if let Some(rest) = name.strip_prefix(prefix) {
                return rest.to_owned();
            }
        }
        name.to_owned()
    }

    fn spec_text(schema: &Value) -> String {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let name = short(reference);
            let last = name.rsplit('.').next().unwrap();
            return match last {
                "IntOrString" => "x".to_owned(),
                "Quantity" => "q".to_owned(),
                "Time" | "MicroTime" => "t".to_owned(),
                any if ANY_JSON.contains(&any) => "*".to_owned(),
                _ => name,
            };
        }
        match (schema.get("type").and_then(Value::as_str), schema.get("format").and_then(Value::as_str)) {
            (Some("string"), Some("byte")) => "y".to_owned(),
            (Some("string"), Some("date-time")) => "t".to_owned(),
            (Some("string"), _) => "s".to_owned(),
            (Some("integer"), _) => "i".to_owned(),
            (Some("number"), _) => "n".to_owned(),
            (Some("boolean"), _) => "b".to_owned(),
            (Some("array"), _) => format!("[{}", spec_text(&schema["items"])),
            (Some("object"), _) if schema.get("additionalProperties").is_some() => {
                format!("{{{}", spec_text(&schema["additionalProperties"]))
            }
            _ => "*".to_owned(),
        }
    }

    fn facts_of(columns: &[&str]) -> String {
        let [strategy, merge_key, list_type, list_keys, map_type] = columns else { panic!("{columns:?}") };
        let mut facts = String::new();
        if strategy.split(',').any(|s| s == "merge") {
            facts += &format!("|patch:{merge_key}");
        }
        if *strategy == "replace" {
            facts += "|replace";
        }
        match *list_type {
            "map" => facts += &format!("|keys:{list_keys}"),
            "set" => facts += "|set",
            _ => {}
        }
        match *map_type {
            "atomic" => facts += "|atomic",
            "granular" => facts += "|granular",
            _ => {}
        }
        facts
    }

    fn generate() -> String {
        let mut facts: BTreeMap<(String, String), String> = BTreeMap::new();
        for line in FACTS.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<&str> = line.split('\t').collect();
            facts.insert((columns[0].to_owned(), columns[1].to_owned()), facts_of(&columns[2..7]));
        }
        let mut generator = schemars::SchemaGenerator::default();
        for kind in BUILT_INS {
            (kind.describe)(&mut generator);
        }
        let mut lines = BTreeMap::new();
        for (name, schema) in generator.definitions() {
            let name = short(name);
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else { continue };
            let atomic = facts.get(&(name.clone(), String::new())).is_some_and(|f| f.contains("atomic"));
            let mut line = format!("{name}{}", if atomic { "!" } else { "" });
            let sorted: BTreeMap<_, _> = properties.iter().collect();
            for (field, schema) in sorted {
                let facts = facts.get(&(name.clone(), field.clone())).map(String::as_str).unwrap_or_default();
                line += &format!("\t{field}={}{facts}", spec_text(schema));
            }
            lines.insert(name, line);
        }
        let mut text = lines.into_values().collect::<Vec<_>>().join("\n");
        text.push('\n');
        text
    }

    #[test]
    fn the_file_matches_the_structs_and_the_merge_facts() {
        let generated = generate();
        if std::env::var_os("KEDGE_UPDATE").is_some() {
            std::fs::write(
                concat!(env!("CARGO_MANIFEST_DIR"), "/src/daemon/apiserver/types.tsv"),
                &generated,
            )
            .unwrap();
            return;
        }
        assert!(generated == TEXT, "types.tsv is stale: run this test with KEDGE_UPDATE=1");
    }

    #[test]
    fn types_are_found_by_kind_and_walked_by_field() {
        let pod = Type::of_kind("", Some("v1"), "Pod").unwrap();
        let Shape::Struct(spec) = pod.field("spec").unwrap().shape() else { panic!() };
        let containers = spec.field("containers").unwrap();
        assert_eq!(containers.patch_merge_key(), Some("name"));
        assert_eq!(containers.list_keys(), Some("name"));
        let Shape::List(item) = containers.shape() else { panic!() };
        let Shape::Struct(container) = item.shape() else { panic!() };
        assert_eq!(container.name(), "core.v1.Container");
        assert!(container.field("command").unwrap().is_atomic());
        assert_eq!(container.field("ports").unwrap().list_keys(), Some("containerPort,protocol"));
        assert!(spec.field("nodeSelector").unwrap().is_atomic());
        assert!(!spec.field("securityContext").unwrap().is_atomic());
        assert!(spec.field("name").is_none());
        assert!(Type::of_kind("apps", None, "Deployment").is_some());
        assert!(Type::of_kind("rbac.authorization.k8s.io", None, "Role").is_some());
        assert!(Type::of_kind("apiextensions.k8s.io", Some("v1"), "CustomResourceDefinition").is_some());
        assert!(Type::of_kind("apps.kubeedge.io", None, "Deployment").is_none());
    }
}
