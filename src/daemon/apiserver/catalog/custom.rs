//! From a CustomResourceDefinition to a served resource, and what is wrong with one before it is accepted.

use super::{Resource, Scale, Version, version_rank};
use crate::daemon::apiserver::errors::Cause;
use crate::daemon::apiserver::local::Collection;
use crate::daemon::apiserver::schema::Schema;
use serde_json::Value;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn words(value: &Value, pointer: &str) -> Vec<String> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// Builds the resource that a definition describes.
pub(super) fn resource(definition: &Value) -> Result<Resource, String> {
    let (group, plural) = (text(definition, "/spec/group"), text(definition, "/spec/names/plural"));
    let kind = text(definition, "/spec/names/kind");
    let listed = definition.pointer("/spec/versions").and_then(Value::as_array);
    let mut versions = listed.into_iter().flatten().map(version).collect::<Result<Vec<_>, _>>()?;
    versions.sort_by_key(|v| Reverse(version_rank(&v.name)));
    let storage = listed
        .and_then(|all| all.iter().find(|v| v["storage"] == true))
        .map(|v| text(v, "/name").to_owned())
        .ok_or("no version is marked as the storage version")?;
    let singular = Some(text(definition, "/spec/names/singular")).filter(|s| !s.is_empty());
    let list_kind = Some(text(definition, "/spec/names/listKind")).filter(|s| !s.is_empty());
    Ok(Resource {
        group: group.to_owned(),
        plural: plural.to_owned(),
        singular: singular.map_or_else(|| kind.to_lowercase(), str::to_owned),
        kind: kind.to_owned(),
        list_kind: list_kind.map_or_else(|| format!("{kind}List"), str::to_owned),
        short_names: words(definition, "/spec/names/shortNames"),
        categories: words(definition, "/spec/names/categories"),
        namespaced: text(definition, "/spec/scope") == "Namespaced",
        versions,
        storage,
        collection: Collection { group: Cow::Owned(group.to_owned()), plural: Cow::Owned(plural.to_owned()) },
        custom: true,
        generation: true,
        review: false,
        extra: &[],
    })
}

fn version(spec: &Value) -> Result<Version, String> {
    let schema = match spec.pointer("/schema/openAPIV3Schema") {
        Some(schema) => Some(Arc::new(Schema::compile(schema).map_err(|status| status.message)?)),
        None => None,
    };
    let scale = spec.pointer("/subresources/scale").map(|scale| Scale {
        spec: text(scale, "/specReplicasPath").to_owned(),
        status: text(scale, "/statusReplicasPath").to_owned(),
        selector: scale["labelSelectorPath"].as_str().map(str::to_owned),
    });
    let deprecated = (spec["deprecated"] == true)
        .then(|| spec["deprecationWarning"].as_str().unwrap_or("this version is deprecated").to_owned());
    Ok(Version {
        name: text(spec, "/name").to_owned(),
        served: spec["served"] == true,
        status: spec.pointer("/subresources/status").is_some(),
        scale,
        schema,
        columns: spec["additionalPrinterColumns"].as_array().cloned(),
        deprecated,
    })
}

/// Groups of Kubernetes itself are not for definitions: one of them could take the place of a built-in kind.
fn group_problem(definition: &Value, group: &str) -> Option<Cause> {
    let found = Value::from(group);
    if group.is_empty() {
        return None;
    }
    if super::builtin::is_group(group) {
        return Some(Cause::invalid("spec.group", &found, "the group is built in"));
    }
    if !group.contains('.') {
        return Some(Cause::invalid("spec.group", &found, "should be a domain with at least one dot"));
    }
    let protected = group.ends_with(".k8s.io") || group.ends_with(".kubernetes.io");
    let approval = &definition["metadata"]["annotations"]["api-approved.kubernetes.io"];
    (protected && approval.as_str().is_none_or(str::is_empty)).then(|| {
        let message = "protected groups must have approval annotation \"api-approved.kubernetes.io\"";
        Cause::required("metadata.annotations[api-approved.kubernetes.io]", message)
    })
}

/// What is wrong with a definition.
pub fn problems(definition: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut need = |pointer: &str, field: &str| {
        let value = text(definition, pointer);
        if value.is_empty() {
            causes.push(Cause::required(field, ""));
        }
        value
    };
    let group = need("/spec/group", "spec.group");
    let plural = need("/spec/names/plural", "spec.names.plural");
    need("/spec/names/kind", "spec.names.kind");
    let scope = need("/spec/scope", "spec.scope");
    causes.extend(group_problem(definition, group));
    let name = text(definition, "/metadata/name");
    if name != format!("{plural}.{group}") {
        let message = format!("must be spec.names.plural+\".\"+spec.group: expected \"{plural}.{group}\"");
        causes.push(Cause::invalid("metadata.name", &definition["metadata"]["name"], &message));
    }
    if !scope.is_empty() && scope != "Namespaced" && scope != "Cluster" {
        let message = "supported values: \"Cluster\", \"Namespaced\"";
        causes.push(Cause::invalid("spec.scope", &definition["spec"]["scope"], message));
    }
    let none = Vec::new();
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array).unwrap_or(&none);
    if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        let message = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", &Value::from(versions.len()), message));
    }
    for (at, spec) in versions.iter().enumerate() {
        let field = format!("spec.versions[{at}].schema.openAPIV3Schema");
        match spec.pointer("/schema/openAPIV3Schema") {
            None => causes.push(Cause::required(&field, "schemas are required")),
            Some(schema) => {
                if let Err(why) = Schema::compile(schema) {
                    causes.push(Cause::invalid(&field, &Value::from(""), &why.message));
                }
            }
        }
    }
    causes
}
