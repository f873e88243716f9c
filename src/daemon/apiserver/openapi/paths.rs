//! The paths of a document: enough for clients to find a kind by its resource, the content types of a patch and
//! whether the server checks fields and runs dry.

use super::Custom;
use crate::daemon::apiserver::kinds::BUILT_INS;
use serde_json::{Map, Value, json};

/// Kinds that are subresources of others, or reached by other paths.
const WITHOUT_PATHS: [&str; 4] = ["Binding", "Scale", "Eviction", "TokenRequest"];

/// A resource as its paths name it.
pub(super) struct Served<'a> {
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) kind: &'a str,
    pub(super) plural: &'a str,
    pub(super) namespaced: bool,
    pub(super) custom: bool,
}

impl Served<'_> {
    pub(super) fn gvk(&self) -> Value {
        json!({"group": self.group, "version": self.version, "kind": self.kind})
    }

    /// The paths of all objects, of a namespace's, and of one object.
    pub(super) fn paths(&self) -> (String, Option<String>, String) {
        let base = match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        let all = format!("{base}/{}", self.plural);
        let inside = self.namespaced.then(|| format!("{base}/namespaces/{{namespace}}/{}", self.plural));
        let one = format!("{}/{{name}}", inside.as_deref().unwrap_or(&all));
        (all, inside, one)
    }

    pub(super) fn patch_types(&self) -> Vec<&'static str> {
        let mut types = vec![
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml",
        ];
        if !self.custom {
            types.insert(2, "application/strategic-merge-patch+json");
        }
        types
    }
}

/// Everything served in the chosen groups and versions.
pub(super) fn served<'a>(
    chosen: impl Fn(&str, &str) -> bool + 'a,
    custom: &'a [Custom<'a>],
) -> impl Iterator<Item = Served<'a>> {
    let built_in = BUILT_INS
        .iter()
        .filter(move |kind| chosen(kind.group, kind.version) && !WITHOUT_PATHS.contains(&kind.kind))
        .map(|kind| Served {
            group: kind.group,
            version: kind.version,
            kind: kind.kind,
            plural: kind.plural,
            namespaced: kind.namespaced,
            custom: false,
        });
    let custom = custom.iter().map(|custom| Served {
        group: custom.group,
        version: custom.version,
        kind: custom.kind,
        plural: custom.plural,
        namespaced: custom.namespaced,
        custom: true,
    });
    built_in.chain(custom)
}

pub(super) fn of_version(group: &str, version: &str, custom: &[Custom<'_>]) -> Map<String, Value> {
    let mut paths = Map::new();
    for served in served(|g, v| g == group && v == version, custom) {
        let (all, inside, one) = served.paths();
        let mut collection = Map::new();
        collection.insert("get".to_owned(), operation(&served, "list"));
        if let Some(inside) = inside {
            paths.insert(all, Value::Object(collection.clone()));
            collection.insert("post".to_owned(), operation(&served, "post"));
            paths.insert(inside, Value::Object(collection));
        } else {
            collection.insert("post".to_owned(), operation(&served, "post"));
            paths.insert(all, Value::Object(collection));
        }
        let actions = ["get", "put", "patch", "delete"];
        let object = actions.iter().map(|action| ((*action).to_owned(), operation(&served, action)));
        paths.insert(one, Value::Object(object.collect()));
    }
    paths
}

fn operation(served: &Served<'_>, action: &str) -> Value {
    let mut operation = json!({
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": served.gvk(),
        "responses": {"200": {"description": "OK"}},
    });
    let writes: &[&str] = match action {
        "post" | "put" => &["dryRun", "fieldManager", "fieldValidation"],
        "patch" => &["dryRun", "fieldManager", "fieldValidation", "force"],
        "delete" => &["dryRun"],
        _ => return operation,
    };
    operation["parameters"] = writes.iter().map(|name| parameter(name)).collect();
    if action == "patch" {
        let body = json!({"schema": {"type": "object"}});
        let content: Map<String, Value> =
            served.patch_types().into_iter().map(|kind| (kind.to_owned(), body.clone())).collect();
        operation["requestBody"] = json!({"required": true, "content": content});
    }
    operation
}

fn parameter(name: &str) -> Value {
    let kind = if name == "force" { "boolean" } else { "string" };
    json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}
