//! What `kedge cloud run` may do in a cluster, and no more: the rules of its ClusterRole and Roles. Pure; `manifest` puts
//! them into objects and `review` asks whether whoever installs them may grant them. A test runs a cloud with these alone.

use crate::wire::tunnel_port::CONFIG_MAP;
use serde_json::{Value, json};

/// Rights that hold in one namespace only.
pub(super) struct Local {
    pub name: &'static str,
    pub namespace: &'static str,
    pub rules: fn() -> Value,
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

const READ: [&str; 3] = ["get", "list", "watch"];

/// What the cloud needs everywhere, because the objects of pods and devices are everywhere.
pub(super) fn everywhere() -> Value {
    json!([
        // Nodes register through the cloud and report their state.
        rule("", &["nodes"], &["get", "list", "watch", "create", "patch"]),
        rule("", &["nodes/status", "pods/status"], &["patch"]),
        // Pods go to nodes; mirror pods come from them; what has ended is removed.
        rule("", &["pods"], &["get", "list", "watch", "create", "delete"]),
        // What pods on nodes refer to.
        rule("", &["configmaps", "secrets"], &READ),
        rule("", &["persistentvolumes", "persistentvolumeclaims"], &["get"]),
        rule("storage.k8s.io", &["volumeattachments"], &["get"]),
        rule("", &["serviceaccounts/token"], &["create"]),
        rule("", &["events"], &["create", "patch"]),
        rule("certificates.k8s.io", &["certificatesigningrequests"], &["create", "get"]),
        // Who a caller of the kubelet API is, and whether it may reach nodes.
        rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
        rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
        rule("devices.kubeedge.io", &["devices"], &["get", "list", "watch", "update"]),
        rule("devices.kubeedge.io", &["devicemodels"], &READ),
        rule("devices.kubeedge.io", &["devicestatuses"], &["get", "create", "patch", "delete"]),
        rule("operations.kubeedge.io", &["nodeupgradejobs", "imageprepulljobs", "configupdatejobs"], &READ),
        rule(
            "operations.kubeedge.io",
            &["nodeupgradejobs/status", "imageprepulljobs/status", "configupdatejobs/status"],
            &["patch"]
        ),
        rule(
            "reliablesyncs.kubeedge.io",
            &["objectsyncs", "clusterobjectsyncs"],
            &["get", "list", "watch", "create", "delete"]
        ),
        rule("reliablesyncs.kubeedge.io", &["objectsyncs/status", "clusterobjectsyncs/status"], &["patch"]),
        rule("rules.kubeedge.io", &["rules"], &["get", "list", "watch", "patch"]),
        rule("rules.kubeedge.io", &["ruleendpoints"], &READ),
    ])
}

/// What the cloud needs in one namespace.
pub(super) const LOCAL: [Local; 2] = [
    Local {
        name: "kedge-cloud",
        namespace: super::NAMESPACE,
        rules: || {
            json!([
                // The authority, the server's certificate and join tokens.
                rule("", &["secrets"], &["create", "update"]),
                // The record of the clouds' ports for the kubelet API; all are read above.
                rule("", &["configmaps"], &["create"]),
                {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [CONFIG_MAP], "verbs": ["patch"]},
                {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": [super::NAMESPACE], "verbs": ["get"]},
            ])
        },
    },
    Local {
        name: "kedge-cloud",
        namespace: "kube-node-lease",
        rules: || json!([rule("coordination.k8s.io", &["leases"], &["get", "create", "update"])]),
    },
];

/// What the cloud needs to act as a node for programs on it (`modules.dynamicController`). Kubernetes cannot limit the
/// users to `system:node:*`, so these rights exist only where that is switched on.
pub(super) fn as_nodes() -> Value {
    json!([
        rule("", &["users"], &["impersonate"]),
        {"apiGroups": [""], "resources": ["groups"], "resourceNames": ["system:nodes"], "verbs": ["impersonate"]},
    ])
}

/// One right, as a review asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Right {
    pub verb: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

impl Right {
    /// A right on whole objects of a resource.
    pub(super) fn new(verb: &str, group: &str, resource: &str, namespace: &str) -> Right {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Right {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: String::new(),
        }
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if !self.namespace.is_empty() {
            write!(f, " in {}", self.namespace)?;
        }
        Ok(())
    }
}

/// The rights that a list of rules gives, one by one.
pub(super) fn rights_of(rules: &Value, namespace: &str) -> Vec<Right> {
    let texts = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let mut rights = Vec::new();
    for rule in rules.as_array().into_iter().flatten() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    rights.push(Right::new(&verb, &group, &resource, namespace));
                }
            }
        }
    }
    rights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_granted_by_a_star_and_secrets_are_written_in_one_namespace_only() {
        let all = everywhere().to_string() + &as_nodes().to_string();
        assert!(!all.contains('*'), "{all}");
        let writes = |right: &Right| right.resource == "secrets" && !READ.contains(&right.verb.as_str());
        assert!(!rights_of(&everywhere(), "").iter().any(writes));
        assert!(
            !all.contains("impersonate\",\"escalate") && !everywhere().to_string().contains("impersonate")
        );
    }

    #[test]
    fn rights_are_told_in_words() {
        let rights = rights_of(&json!([rule("apps", &["deployments/status"], &["patch"])]), "kubeedge");
        assert_eq!(rights[0].to_string(), "patch deployments/status.apps in kubeedge");
        assert_eq!(rights.len(), 1);
    }
}
