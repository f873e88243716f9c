//! The OpenAPI documents of the API. Clients ask for them seldom and they are large, so they are made when asked and
//! never kept; the index carries hashes by which clients keep their copies.
//!
//! `schemas` component schemas from the typed structs, the merge facts and CRDs · `paths` what may be done to them ·
//! `v2` the same for old kubectl, as JSON or as the protobuf form it insists on

mod paths;
mod schemas;
mod v2;

pub use v2::{v2, v2_protobuf};

use serde_json::{Map, Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The Kubernetes whose types these are.
const VERSION: &str = "v1.36.0";

/// A version of a kind that a CustomResourceDefinition adds.
struct Custom<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    plural: &'a str,
    namespaced: bool,
    schema: Option<&'a Value>,
}

/// The index of documents; `versions` are `v1`, `apps/v1`, …, `definitions` the CRD objects.
pub fn v3_index(versions: &[String], definitions: &[Arc<Value>]) -> Value {
    let mut paths = Map::new();
    for version in versions {
        let path = if version.contains('/') { format!("apis/{version}") } else { format!("api/{version}") };
        let url = format!("/openapi/v3/{path}?hash={}", hash(&path, definitions));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// The document of a group and version; `None` when nothing is served there.
pub fn v3_document(group: &str, version: &str, definitions: &[Arc<Value>]) -> Option<Value> {
    let custom: Vec<Custom<'_>> = definitions
        .iter()
        .flat_map(|definition| customs(definition))
        .filter(|custom| custom.group == group && custom.version == version)
        .collect();
    let schemas = schemas::of_version(group, version, &custom);
    let paths = paths::of_version(group, version, &custom);
    if paths.is_empty() {
        return None;
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

/// Changes with the program and with the definitions of the group.
fn hash(path: &str, definitions: &[Arc<Value>]) -> String {
    let mut hasher = DefaultHasher::new();
    (env!("CARGO_PKG_VERSION"), VERSION, path).hash(&mut hasher);
    let group = path.strip_prefix("apis/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    for definition in definitions.iter().filter(|definition| definition["spec"]["group"] == group) {
        let metadata = &definition["metadata"];
        (metadata["uid"].as_str(), metadata["generation"].as_i64()).hash(&mut hasher);
    }
    format!("{:016X}", hasher.finish())
}

fn customs(definition: &Value) -> Vec<Custom<'_>> {
    let spec = &definition["spec"];
    let word = |value| Value::as_str(value).unwrap_or_default();
    let versions = spec["versions"].as_array().into_iter().flatten();
    versions
        .filter(|version| version["served"] == true)
        .map(|version| Custom {
            group: word(&spec["group"]),
            version: word(&version["name"]),
            kind: word(&spec["names"]["kind"]),
            plural: word(&spec["names"]["plural"]),
            namespaced: spec["scope"] == "Namespaced",
            schema: version.pointer("/schema/openAPIV3Schema"),
        })
        .collect()
}

#[cfg(test)]
mod tests;
