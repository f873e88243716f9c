//! What others keep in the cloud's namespace and would lose with it: every kind that the API can list is looked at. Reads
//! only; `removal` decides.

use super::super::kubernetes::{meta, path_of, segment};
use super::super::{tokens, trust};
use super::desk::SetupDesk;
use super::removal::OWN_RECORDS;
use super::{LABEL_MANAGED, MANAGER, NAMESPACE};
use crate::model::Status;
use crate::wire::tunnel_port::CONFIG_MAP;
use http::Method;
use serde_json::Value;

impl SetupDesk {
    /// Something in the namespace that is neither ours nor there of itself: deleted with the namespace, it would be lost.
    pub(super) async fn others(&self) -> Result<Option<String>, Status> {
        for kind in self.kept_kinds().await? {
            let names = (kind.group.as_str(), kind.version.as_str(), kind.plural.as_str());
            let path = path_of(names, (Some(NAMESPACE), None, None)) + "?limit=250";
            let mut more = String::new();
            loop {
                let page = match self.kube.call(Method::GET, &(path.clone() + &more), None).await {
                    // Its definition has gone just now.
                    Err(status) if status.is_not_found() => break,
                    page => page?,
                };
                let items = page["items"].as_array().into_iter().flatten();
                if let Some(other) = items.into_iter().find(|object| is_others(&kind.plural, object)) {
                    return Ok(Some(format!("{} {NAMESPACE}/{}", kind.kind, meta(other, "name"))));
                }
                let token = meta(&page, "continue");
                if token.is_empty() {
                    break;
                }
                more = "&continue=".to_owned();
                segment(&mut more, token);
            }
        }
        Ok(None)
    }

    /// Every kind of which objects can be kept in a namespace, as the API says it.
    async fn kept_kinds(&self) -> Result<Vec<Kind>, Status> {
        let groups = self.kube.call(Method::GET, "/apis", None).await?;
        let groups = groups["groups"].as_array().into_iter().flatten();
        let versions = groups.flat_map(|group| group["versions"].as_array().into_iter().flatten());
        let versions = versions.filter_map(|it| it["groupVersion"].as_str().map(|it| format!("/apis/{it}")));
        let mut kinds: Vec<Kind> = Vec::new();
        for path in std::iter::once("/api/v1".to_owned()).chain(versions) {
            let listed = match self.kube.call(Method::GET, &path, None).await {
                Err(status) if status.is_not_found() => continue,
                listed => listed?,
            };
            for kind in kinds_of(&listed) {
                if !kinds.iter().any(|it| it.group == kind.group && it.plural == kind.plural) {
                    kinds.push(kind);
                }
            }
        }
        Ok(kinds)
    }
}

/// A kind as discovery tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kind {
    group: String,
    version: String,
    kind: String,
    plural: String,
}

/// The kinds of one version of a group, of which objects are kept in namespaces: no subresources, no mere views.
fn kinds_of(listed: &Value) -> Vec<Kind> {
    let version = listed["groupVersion"].as_str().unwrap_or_default();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let all = listed["resources"].as_array().into_iter().flatten();
    let kept = all.filter(|it| {
        let verbs = it["verbs"].as_array();
        let can = |verb: &str| verbs.is_some_and(|verbs| verbs.iter().any(|it| it == verb));
        it["namespaced"] == true && can("list") && can("delete")
    });
    let named = kept.filter_map(|it| Some((it["name"].as_str()?, it["kind"].as_str()?)));
    named
        .map(|(plural, kind)| Kind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        })
        .collect()
}

/// What clouds keep in the namespace without a label, as KubeEdge's do.
const OWN_SECRETS: [&str; 4] = [trust::CA_SECRET, trust::SERVER_SECRET, trust::TOKEN_SECRET, tokens::SECRET];
/// What Kubernetes puts into every namespace.
const EVERYWHERE: [&str; 2] = ["kube-root-ca.crt", "openshift-service-ca.crt"];

/// Whether somebody else keeps it. What an object owns goes with it, and endpoints follow from Services.
fn is_others(plural: &str, object: &Value) -> bool {
    let label = object.pointer("/metadata/labels").and_then(|labels| labels.get(LABEL_MANAGED));
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    if label.and_then(Value::as_str) == Some(MANAGER) || owners.is_some_and(|owners| !owners.is_empty()) {
        return false;
    }
    let name = meta(object, "name");
    match plural {
        "events" | "endpoints" | "endpointslices" => false,
        "serviceaccounts" => name != "default",
        "configmaps" => name != CONFIG_MAP && !EVERYWHERE.contains(&name),
        // Older clusters make one for each account.
        "secrets" => !OWN_SECRETS.contains(&name) && object["type"] != "kubernetes.io/service-account-token",
        _ => !OWN_RECORDS.contains(&plural),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_others_keep_is_told_from_what_is_there_of_itself() {
        let named = |name: &str| json!({"metadata": {"name": name}});
        for (plural, name) in [
            ("configmaps", "mine"),
            ("secrets", "mine"),
            ("persistentvolumeclaims", "mine"),
            ("jobs", "mine"),
            ("pods", "mine"),
            ("statefulsets", "mine"),
            ("serviceaccounts", "builder"),
            ("devices", "thermometer"),
        ] {
            assert!(is_others(plural, &named(name)), "{plural} {name}");
        }
        for (plural, name) in [
            ("configmaps", "tunnelport"),
            ("configmaps", "kube-root-ca.crt"),
            ("secrets", "casecret"),
            ("secrets", "kedge-tokens"),
            ("serviceaccounts", "default"),
            ("events", "x"),
            ("objectsyncs", "x"),
        ] {
            assert!(!is_others(plural, &named(name)), "{plural} {name}");
        }
        let ours = json!({"metadata": {"name": "x", "labels": {LABEL_MANAGED: MANAGER}}});
        let owned = json!({"metadata": {"name": "x", "ownerReferences": [{"kind": "ReplicaSet"}]}});
        assert!(!is_others("deployments", &ours) && !is_others("pods", &owned));
    }

    #[test]
    fn only_what_can_be_kept_is_asked_for() {
        let verbs = json!(["delete", "get", "list"]);
        let listed = json!({"groupVersion": "apps/v1", "resources": [
            {"name": "deployments", "kind": "Deployment", "namespaced": true, "verbs": verbs},
            {"name": "deployments/status", "kind": "Deployment", "namespaced": true, "verbs": ["get"]},
            {"name": "nodes", "kind": "Node", "namespaced": false, "verbs": verbs},
            {"name": "podmetrics", "kind": "PodMetrics", "namespaced": true, "verbs": ["get", "list"]}]});
        let kinds = kinds_of(&listed);
        assert_eq!(kinds.len(), 1);
        assert_eq!((&*kinds[0].group, &*kinds[0].version, &*kinds[0].plural), ("apps", "v1", "deployments"));
        assert_eq!(kinds_of(&json!({"groupVersion": "v1", "resources": []})), Vec::new());
    }
}
