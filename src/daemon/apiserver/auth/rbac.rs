//! Role-based access: Roles, ClusterRoles and their bindings, read from memory at each question. A small cloud has
//! tens of them, so an index would cost more than it saves.

use super::User;
use crate::daemon::apiserver::local::Collection;
use crate::daemon::apiserver::storage::{Key, Store};
use serde_json::{Value, json};
use std::sync::Arc;

const GROUP: &str = "rbac.authorization.k8s.io";

/// What a request wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub verb: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// Empty for the whole cluster.
    pub namespace: String,
    /// Set for paths that are no resources; the rest is then empty.
    pub path: Option<String>,
}

impl Attributes {
    fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// Upstream's words for a refusal.
    pub fn refusal(&self, user: &User) -> String {
        if let Some(path) = &self.path {
            return format!("User \"{}\" cannot {} path \"{path}\"", user.name, self.verb);
        }
        let scope = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", self.namespace)
        };
        format!(
            "User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {scope}",
            user.name,
            self.verb,
            self.full_resource(),
            self.group
        )
    }
}

fn has(list: &Value, wanted: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|item| item == "*" || item == wanted))
}

fn allows(rule: &Value, want: &Attributes) -> bool {
    if !has(&rule["verbs"], &want.verb) {
        return false;
    }
    if let Some(path) = &want.path {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == pattern,
        };
        let list = rule["nonResourceURLs"].as_array();
        return list.is_some_and(|list| list.iter().filter_map(Value::as_str).any(fits));
    }
    let full = want.full_resource();
    let resource = has(&rule["resources"], &full)
        || (!want.subresource.is_empty() && listed(&rule["resources"], &format!("*/{}", want.subresource)));
    let names = rule["resourceNames"].as_array().filter(|names| !names.is_empty());
    has(&rule["apiGroups"], &want.group)
        && resource
        && names.is_none_or(|names| names.iter().any(|name| name == want.name.as_str()))
}

fn listed(list: &Value, wanted: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|item| item == wanted))
}

fn is_subject(user: &User, subject: &Value, namespace: &str) -> bool {
    let name = subject["name"].as_str().unwrap_or("");
    match subject["kind"].as_str() {
        Some("User") => user.name == name,
        Some("Group") => user.groups.iter().any(|group| group == name),
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or(namespace);
            user.name == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

fn role(store: &Store, binding: &Value, namespace: Option<&str>) -> Option<Arc<Value>> {
    let name = binding["roleRef"]["name"].as_str()?;
    match (binding["roleRef"]["kind"].as_str()?, namespace) {
        ("ClusterRole", _) => store.get(&Key::new(&Collection::of(GROUP, "clusterroles"), None, name)),
        ("Role", Some(namespace)) => {
            store.get(&Key::new(&Collection::of(GROUP, "roles"), Some(namespace), name))
        }
        _ => None,
    }
}

/// All rules that hold for a user, cluster-wide and in one namespace.
pub fn rules(store: &Store, user: &User, namespace: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut collect = |binding: &Value, within: Option<&str>| {
        let subjects = binding["subjects"].as_array();
        if subjects.is_some_and(|all| all.iter().any(|s| is_subject(user, s, within.unwrap_or(""))))
            && let Some(role) = role(store, binding, within)
        {
            found.extend(role["rules"].as_array().into_iter().flatten().cloned());
        }
    };
    for binding in store.list(&Collection::of(GROUP, "clusterrolebindings"), None).0 {
        collect(&binding, None);
    }
    if !namespace.is_empty() {
        for binding in store.list(&Collection::of(GROUP, "rolebindings"), Some(namespace)).0 {
            collect(&binding, Some(namespace));
        }
    }
    found
}

/// Whether a user may do this.
pub fn may(store: &Store, user: &User, want: &Attributes) -> bool {
    if user.is_master() {
        return true;
    }
    if user.is_anonymous() {
        let open = ["/healthz", "/livez", "/readyz", "/version"];
        return want.path.as_deref().is_some_and(|path| {
            open.iter().any(|o| path == *o || path.strip_prefix(o).is_some_and(|rest| rest.starts_with('/')))
        });
    }
    rules(store, user, &want.namespace).iter().any(|rule| allows(rule, want))
}

/// The roles and bindings that every cluster begins with.
pub fn bootstrap() -> Vec<(&'static str, Value)> {
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]}]);
    let discovery = json!([{"nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez",
        "/openapi", "/openapi/*", "/readyz", "/version", "/version/", "/openid/v1/jwks"], "verbs": ["get"]}]);
    let basic = json!([{"apiGroups": ["authorization.k8s.io"], "verbs": ["create"],
            "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]}]);
    let role = |name: &str, rules: Value| {
        let meta = json!({"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}});
        ("clusterroles", json!({"metadata": meta, "rules": rules}))
    };
    let binding = |name: &str, group: &str| {
        let meta = json!({"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}});
        let subjects = json!([{"apiGroup": GROUP, "kind": "Group", "name": group}]);
        let role = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": name});
        ("clusterrolebindings", json!({"metadata": meta, "subjects": subjects, "roleRef": role}))
    };
    vec![
        role("cluster-admin", everything),
        role("system:discovery", discovery),
        role("system:basic-user", basic),
        binding("cluster-admin", "system:masters"),
        binding("system:discovery", "system:authenticated"),
        binding("system:basic-user", "system:authenticated"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_match_verbs_groups_resources_and_names() {
        let rule =
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"], "resourceNames": ["a"]});
        let want = |sub: &str, name: &str| Attributes {
            verb: "get".to_owned(),
            resource: "pods".to_owned(),
            subresource: sub.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        };
        assert!(allows(&rule, &want("log", "a")));
        assert!(!allows(&rule, &want("log", "b")));
        assert!(!allows(&rule, &want("", "a")));
        let paths = json!({"verbs": ["get"], "nonResourceURLs": ["/apis/*"]});
        let path = |p: &str| Attributes {
            verb: "get".to_owned(),
            path: Some(p.to_owned()),
            ..Attributes::default()
        };
        assert!(allows(&paths, &path("/apis/apps")));
        assert!(!allows(&paths, &path("/metrics")));
    }
}
