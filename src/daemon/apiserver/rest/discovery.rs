//! Discovery: which groups, versions and resources there are, in the old form and in the aggregated one.

use crate::daemon::apiserver::catalog::{Catalog, Resource, Version, version_rank};
use serde_json::{Value, json};
use std::cmp::Reverse;

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

struct Group<'a> {
    name: &'a str,
    /// In order of preference.
    versions: Vec<&'a str>,
}

fn groups(catalog: &Catalog) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for resource in catalog {
        let at = match groups.iter().position(|group| group.name == resource.group) {
            Some(at) => at,
            None => {
                groups.push(Group { name: &resource.group, versions: Vec::new() });
                groups.len() - 1
            }
        };
        let Some(group) = groups.get_mut(at) else { continue };
        for version in resource.versions.iter().filter(|v| v.served) {
            if !group.versions.contains(&version.name.as_str()) {
                group.versions.push(&version.name);
            }
        }
    }
    for group in &mut groups {
        group.versions.sort_by_key(|name| Reverse(version_rank(name)));
    }
    groups.retain(|group| !group.versions.is_empty());
    groups
}

/// All group-versions as `v1` or `apps/v1`.
pub fn group_versions(catalog: &Catalog) -> Vec<String> {
    let full = |group: &str, version: &&str| {
        if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") }
    };
    groups(catalog)
        .iter()
        .flat_map(|g| g.versions.iter().map(|v| full(g.name, v)).collect::<Vec<_>>())
        .collect()
}

/// `/api`.
pub fn core_versions(server: &str) -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}]})
}

fn group_entry(group: &Group<'_>) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|v| json!({"groupVersion": format!("{}/{v}", group.name), "version": v}))
        .collect();
    json!({"name": group.name, "preferredVersion": versions.first(), "versions": versions})
}

/// `/apis`.
pub fn group_list(catalog: &Catalog) -> Value {
    let groups: Vec<Value> = groups(catalog).iter().filter(|g| !g.name.is_empty()).map(group_entry).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/{group}`.
pub fn group(catalog: &Catalog, name: &str) -> Option<Value> {
    let groups = groups(catalog);
    let mut entry = group_entry(groups.iter().find(|g| g.name == name && !name.is_empty())?);
    entry["kind"] = json!("APIGroup");
    entry["apiVersion"] = json!("v1");
    Some(entry)
}

fn verbs(resource: &Resource) -> Value {
    if resource.review { json!(["create"]) } else { json!(VERBS) }
}

/// Subresources with kind and verbs.
fn subresources(resource: &Resource, version: &Version) -> Vec<(&'static str, String, String, Value)> {
    let kind = |name: &'static str, verbs: Value| {
        (name, resource.api_version(&version.name), resource.kind.clone(), verbs)
    };
    let change = || json!(["get", "patch", "update"]);
    let mut found = Vec::new();
    if version.status {
        found.push(kind("status", change()));
    }
    if version.scale.is_some() {
        found.push(("scale", "autoscaling/v1".to_owned(), "Scale".to_owned(), change()));
    }
    for extra in resource.extra.iter().copied() {
        found.push(match extra {
            "binding" => (extra, "v1".to_owned(), "Binding".to_owned(), json!(["create"])),
            "eviction" => (extra, "policy/v1".to_owned(), "Eviction".to_owned(), json!(["create"])),
            "token" => {
                (extra, "authentication.k8s.io/v1".to_owned(), "TokenRequest".to_owned(), json!(["create"]))
            }
            "log" => kind(extra, json!(["get"])),
            "exec" => (extra, "v1".to_owned(), "PodExecOptions".to_owned(), json!(["create", "get"])),
            "attach" => (extra, "v1".to_owned(), "PodAttachOptions".to_owned(), json!(["create", "get"])),
            "portforward" => {
                (extra, "v1".to_owned(), "PodPortForwardOptions".to_owned(), json!(["create", "get"]))
            }
            "finalize" => kind(extra, json!(["update"])),
            _ => kind(extra, change()),
        });
    }
    found
}

/// `/api/v1` and `/apis/{group}/{version}`.
pub fn resource_list(catalog: &Catalog, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for resource in catalog.iter().filter(|r| r.group == group) {
        let Some(facts) = resource.version(version).filter(|v| v.served) else { continue };
        let mut entry = json!({"name": resource.plural, "singularName": resource.singular,
            "namespaced": resource.namespaced, "kind": resource.kind, "verbs": verbs(resource)});
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        resources.push(entry);
        for (name, api, kind, verbs) in subresources(resource, facts) {
            let mut entry = json!({"name": format!("{}/{name}", resource.plural), "singularName": "",
                "namespaced": resource.namespaced, "kind": kind, "verbs": verbs});
            if kind != resource.kind {
                let (group, version) = api.rsplit_once('/').unwrap_or(("", &api));
                entry["group"] = json!(group);
                entry["version"] = json!(version);
            }
            resources.push(entry);
        }
    }
    let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!resources.is_empty()).then(|| {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources})
    })
}

/// `/api` (`core`) or `/apis` in the aggregated form.
pub fn aggregated(catalog: &Catalog, core: bool, form: &str) -> Value {
    let mut items = Vec::new();
    for group in groups(catalog).iter().filter(|g| g.name.is_empty() == core) {
        let versions: Vec<Value> = group
            .versions
            .iter()
            .map(|version| {
                let resources: Vec<Value> = catalog
                    .iter()
                    .filter(|r| r.group == group.name)
                    .filter_map(|r| Some(aggregated_entry(r, r.version(version).filter(|v| v.served)?)))
                    .collect();
                json!({"version": version, "freshness": "Current", "resources": resources})
            })
            .collect();
        let metadata = if core { json!({}) } else { json!({"name": group.name}) };
        items.push(json!({"metadata": metadata, "versions": versions}));
    }
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{form}"), "metadata": {},
        "items": items})
}

fn response_kind(api: &str, kind: &str) -> Value {
    let (group, version) = api.rsplit_once('/').unwrap_or(("", api));
    json!({"group": group, "version": version, "kind": kind})
}

fn aggregated_entry(resource: &Resource, version: &Version) -> Value {
    let mut entry = json!({"resource": resource.plural,
        "responseKind": response_kind(&resource.api_version(&version.name), &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular, "verbs": verbs(resource)});
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    let list: Vec<Value> = subresources(resource, version)
        .into_iter()
        .map(|(name, api, kind, verbs)| {
            json!({"subresource": name, "responseKind": response_kind(&api, &kind), "verbs": verbs})
        })
        .collect();
    if !list.is_empty() {
        entry["subresources"] = json!(list);
    }
    entry
}
