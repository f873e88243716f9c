//! What is looked at before anything is written: the API, its version, the rights of whoever asks, a cloud that is there
//! already, addresses, neighbours. Every check is made, whatever the others say; nothing is changed.

use super::super::kubernetes::{Kube, Resource, meta};
use super::forward;
use super::manifest::Mode;
use super::neighbours::{self, Neighbour};
use super::rights::{self, LOCAL, Right, rights_of};
use super::standing::advertised;
use super::{HOST_KUBECONFIG, LABEL_MANAGED, MANAGER, NAME, NAMESPACE};
use crate::host::check::{Finding, Group, State};
use crate::model::Status;
use serde_json::{Value, json};

/// The oldest minor version of Kubernetes 1 that is supported.
pub(super) const OLDEST: u32 = 30;

/// A check of a cluster in which all is well; the verdicts below make another of it.
pub(super) fn finding(code: &'static str, name: &'static str, seen: impl Into<String>) -> Finding {
    Finding { group: Group::CloudLink, ..Finding::fine(code, name, seen) }
}

/// Other verdicts than that all is well.
pub(super) trait Verdict {
    /// Something that does not stop the installation.
    fn warns(self, why: impl Into<String>, fix: impl Into<String>) -> Finding;
    /// Something that stops it.
    fn fails(self, why: impl Into<String>, fix: impl Into<String>) -> Finding;
}

impl Verdict for Finding {
    fn warns(self, why: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { state: State::Warning, why: why.into(), fix: fix.into(), ..self }
    }

    fn fails(self, why: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { state: State::Failed, why: why.into(), fix: fix.into(), ..self }
    }
}

/// Major and minor version, as the API says them.
pub(super) fn version(answer: &Value) -> Finding {
    let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default();
    let digits = |text: &str| -> u32 {
        text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
    };
    let finding = finding("KE-INIT-002", "Kubernetes version", text("gitVersion"));
    let (major, minor) = (digits(text("major")), digits(text("minor")));
    if major > 1 || (major == 1 && minor >= OLDEST) {
        return finding;
    }
    finding.fails(
        format!("kedge needs Kubernetes 1.{OLDEST} or newer"),
        "upgrade the cluster, or run a cloud without one: `kedge cloud run --embedded`",
    )
}

/// In which form the cloud is set up, as far as rights are concerned.
pub(super) struct Form {
    pub mode: Mode,
    pub several: bool,
    pub dynamic: bool,
    pub forwards: bool,
}

/// The rights that applying needs: each kind is read and applied.
fn to_apply(wanted: &Form, daemon_sets: bool) -> Vec<Right> {
    let mut rights = Vec::new();
    let mut applied = |group: &str, resource: &str, namespace: &str| {
        for verb in ["get", "create", "patch"] {
            rights.push(Right::new(verb, group, resource, namespace));
        }
    };
    const RBAC: &str = "rbac.authorization.k8s.io";
    applied("apiextensions.k8s.io", "customresourcedefinitions", "");
    applied("", "namespaces", "");
    applied("", "serviceaccounts", NAMESPACE);
    applied("", "configmaps", NAMESPACE);
    applied(RBAC, "clusterroles", "");
    applied(RBAC, "clusterrolebindings", "");
    for local in LOCAL {
        applied(RBAC, "roles", local.namespace);
        applied(RBAC, "rolebindings", local.namespace);
    }
    if wanted.mode == Mode::Cluster {
        applied("apps", "deployments", NAMESPACE);
        applied("", "services", NAMESPACE);
        if wanted.several {
            applied("policy", "poddisruptionbudgets", NAMESPACE);
        }
        if wanted.forwards {
            applied("apps", "daemonsets", NAMESPACE);
        }
    }
    for verb in ["get", "create"] {
        rights.push(Right::new(verb, "", "secrets", NAMESPACE));
    }
    if wanted.mode == Mode::Host {
        rights.push(Right::new("create", "", "serviceaccounts/token", NAMESPACE));
    }
    rights.push(Right::new("list", "", "nodes", ""));
    rights.push(Right::new("list", "apps", "daemonsets", ""));
    if daemon_sets {
        rights.push(Right::new("patch", "apps", "daemonsets", ""));
    }
    rights
}

/// The rights that the cloud gets: Kubernetes lets nobody grant what he does not have, unless he may escalate.
fn to_grant(wanted: &Form) -> Vec<Right> {
    let mut rights = rights_of(&rights::everywhere(), "");
    if wanted.dynamic {
        rights.extend(rights_of(&rights::as_nodes(), ""));
    }
    if wanted.forwards {
        rights.extend(rights_of(&forward::rules(), NAMESPACE));
    }
    for local in LOCAL {
        rights.extend(rights_of(&(local.rules)(), local.namespace));
    }
    rights
}

async fn may(kube: &Kube, right: &Right) -> Result<bool, Status> {
    let wanted = json!({
        "verb": right.verb, "group": right.group, "resource": right.resource, "subresource": right.subresource,
        "namespace": right.namespace, "name": right.name,
    });
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": wanted}});
    let answer = kube.create(Resource::SELF_SUBJECT_ACCESS_REVIEW, None, &review).await?;
    Ok(answer.pointer("/status/allowed").and_then(Value::as_bool).unwrap_or(false))
}

/// Asks for every right that is needed.
pub(super) async fn permissions(kube: &Kube, form: &Form, daemon_sets: bool) -> Finding {
    let finding = |seen: String| self::finding("KE-INIT-003", "permissions", seen);
    let asked = async {
        if may(kube, &Right::new("*", "*", "*", "")).await? {
            return Ok(finding("all rights".to_owned()));
        }
        let mut wanted = to_apply(form, daemon_sets);
        let roles = |verb: &str| Right::new(verb, "rbac.authorization.k8s.io", "clusterroles", "");
        if !(may(kube, &roles("escalate")).await? && may(kube, &roles("bind")).await?) {
            wanted.extend(to_grant(form));
        }
        let mut missing = Vec::new();
        for right in &wanted {
            if !may(kube, right).await? {
                missing.push(right.to_string());
            }
        }
        if missing.is_empty() {
            return Ok(finding(format!("{} rights, all granted", wanted.len())));
        }
        let seen = format!("{} of {} rights are missing", missing.len(), wanted.len());
        Ok(finding(seen)
            .fails(missing.join("; "), "use the kubeconfig of a cluster administrator: --kube-config FILE"))
    };
    asked.await.unwrap_or_else(|status: Status| {
        finding("not known".to_owned()).fails(
            format!("the API does not tell: {status}"),
            "use the kubeconfig of a cluster administrator: --kube-config FILE",
        )
    })
}

/// A cloudcore of KubeEdge, and a cloud of ours, in the cluster or on a machine of its own.
pub(super) async fn present(kube: &Kube, mode: Mode, record: Option<&Value>) -> Finding {
    let finding = |seen: String| self::finding("KE-INIT-005", "a cloud in this cluster", seen);
    let mut found = Vec::new();
    let listed =
        kube.list(Resource::DEPLOYMENT, Some(NAMESPACE), "", |deployment| found.push(deployment)).await;
    match listed {
        Err(status) if status.is_not_found() => {}
        Err(status) => {
            return finding("not known".to_owned())
                .warns(status.to_string(), "look with `kubectl -n kubeedge get deployments`");
        }
        Ok(_) => {}
    }
    let replicas = |it: &Value| it.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let image = |it: &Value| {
        let image = it.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str);
        image.unwrap_or_default().to_owned()
    };
    let is_ours = |it: &Value| meta(it, "name") == NAME && label(it, LABEL_MANAGED) == MANAGER;
    let theirs = found.iter().find(|it| {
        let known = meta(it, "name") == "cloudcore" || label(it, "kubeedge") == "cloudcore";
        known && !is_ours(it) && replicas(it) > 0
    });
    if let Some(it) = theirs {
        let name = meta(it, "name");
        return finding(format!("Deployment {NAMESPACE}/{name}, image {}", image(it))).fails(
            "a cloudcore of KubeEdge serves nodes from this cluster; two would answer for the same nodes",
            format!("`kubectl -n {NAMESPACE} scale deployment {name} --replicas=0`, then init again: nodes, devices and Secrets stay"),
        );
    }
    let ours = found.iter().find(|it| is_ours(it));
    let apart = record.filter(|record| is_of_host(record));
    let at = || apart.map(advertised).unwrap_or_default().join(", ");
    const TWO: &str = "both serve the same nodes, each with the settings of its own";
    match (mode, ours, apart) {
        (Mode::Host, Some(it), _) if replicas(it) > 0 => {
            finding(format!("kedge, as Deployment {NAMESPACE}/{NAME}, image {}", image(it))).warns(
                TWO,
                format!("`kubectl -n {NAMESPACE} delete deployment {NAME}` once this one serves, if it is to take its place"),
            )
        }
        (Mode::Cluster, None, Some(_)) => finding(format!("kedge, on a machine of its own, at {}", at())).warns(
            TWO,
            "stop that one with `kedge service stop cloud` on its machine, or init with --mode host there to keep it",
        ),
        (Mode::Host, _, Some(_)) => {
            finding(format!("kedge, on a machine of its own, at {}: it is brought up to date", at()))
        }
        (_, Some(it), _) => finding(format!("kedge, image {}: it is brought up to date", image(it))),
        (_, None, None) => finding("none".to_owned()),
    }
}

/// The namespace on its way out, in which nothing can be made any more; nothing else is said of it.
pub(super) async fn going(kube: &Kube) -> Option<Finding> {
    let namespace = kube.get(Resource::NAMESPACE, None, NAMESPACE).await.ok()?;
    if meta(&namespace, "deletionTimestamp").is_empty() {
        return None;
    }
    let found = finding("KE-INIT-017", "the namespace", format!("{NAMESPACE} is being deleted"));
    Some(found.fails(
        "nothing can be made in it until it is gone, as after `kedge cloud reset`",
        format!("`kubectl wait --for=delete namespace/{NAMESPACE} --timeout=300s`, then init again"),
    ))
}

/// The configuration that an installation has left in the cluster.
pub(super) async fn record(kube: &Kube) -> Option<Value> {
    let map = kube.get(Resource::CONFIG_MAP, Some(NAMESPACE), NAME).await.ok()?;
    let text = map.pointer("/data").and_then(|data| data.get("cloudcore.yaml"))?.as_str()?;
    serde_yaml::from_str(text).ok()
}

/// Whether it is that of a cloud on a machine of its own.
pub(super) fn is_of_host(record: &Value) -> bool {
    record.pointer("/kubeAPIConfig/kubeConfig").and_then(Value::as_str) == Some(HOST_KUBECONFIG)
}

pub(super) fn label<'a>(object: &'a Value, name: &str) -> &'a str {
    let labels = object.get("metadata").and_then(|metadata| metadata.get("labels"));
    labels.and_then(|labels| labels.get(name)).and_then(Value::as_str).unwrap_or_default()
}

/// DaemonSets of the cluster's network that would land on edge nodes.
pub(super) async fn neighbours(kube: &Kube) -> Result<Vec<Neighbour>, Status> {
    let mut found = Vec::new();
    kube.list(Resource::DAEMON_SET, None, "", |set| found.extend(neighbours::of(&set))).await?;
    found.sort_by(|a: &Neighbour, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(found)
}

/// What is said of them.
pub(super) fn about_neighbours(found: &Result<Vec<Neighbour>, Status>, kept_off: bool) -> Finding {
    let finding =
        |seen: String| self::finding("KE-SCHED-001", "DaemonSets that would land on edge nodes", seen);
    let found = match found {
        Ok(found) => found,
        Err(status) => {
            return finding("not known".to_owned())
                .warns(status.to_string(), "look with `kubectl get ds -A`");
        }
    };
    if found.is_empty() {
        return finding("none".to_owned());
    }
    let names: Vec<String> = found.iter().map(|it| format!("{}/{}", it.namespace, it.name)).collect();
    if kept_off {
        return finding(format!("{}: they will be kept off", names.join(", ")));
    }
    let commands: Vec<String> = found.iter().map(Neighbour::command).collect();
    finding(names.join(", ")).warns(
        "the cluster's own network does not work on edge nodes",
        format!("init with --keep-daemonsets-off-edge, or: {}", commands.join("; ")),
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::kubernetes::plain::Plain;
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let of = |major: &str, minor: &str| version(&json!({"major": major, "minor": minor})).state;
        assert_eq!(of("1", "30"), State::Fine);
        assert_eq!(of("1", "32+"), State::Fine);
        assert_eq!(of("2", "0"), State::Fine);
        for (major, minor) in [("1", "29"), ("1", "9"), ("", ""), ("0", "99")] {
            assert_eq!(of(major, minor), State::Failed, "{major}.{minor}");
        }
    }

    #[test]
    fn what_is_applied_is_asked_for() {
        let form = |dynamic, forwards| Form { mode: Mode::Cluster, several: true, dynamic, forwards };
        let rights = to_apply(&form(false, false), true);
        let has = |text: &str| rights.iter().any(|right| right.to_string() == text);
        assert!(has("patch poddisruptionbudgets.policy in kubeedge") && has("patch daemonsets.apps"));
        assert!(has("create secrets in kubeedge") && !has("patch secrets in kubeedge"));
        assert!(to_grant(&form(true, false)).len() > to_grant(&form(false, false)).len());
        assert!(!has("create daemonsets.apps in kubeedge"));
        let rights = to_apply(&form(false, true), false);
        let has = |text: &str| rights.iter().any(|right| right.to_string() == text);
        assert!(has("create daemonsets.apps in kubeedge") && has("patch daemonsets.apps in kubeedge"));
        let granted = to_grant(&form(false, true));
        assert!(granted.iter().any(|right| right.to_string() == "get configmaps in kubeedge"));
    }

    #[tokio::test]
    async fn a_namespace_that_goes_is_waited_for() {
        let with = async |metadata: Value| {
            let plain = Plain::serve(move |_, _| Some((200, json!({"metadata": metadata})))).await;
            going(&plain.kube).await
        };
        assert_eq!(with(json!({"name": NAMESPACE})).await, None);
        let told = with(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})).await.unwrap();
        assert_eq!((&*told.code, told.state), ("KE-INIT-017", State::Failed));
        assert!(told.fix.contains("kubectl wait"), "{told:?}");
    }

    #[tokio::test]
    async fn a_cloud_is_found_in_the_cluster_and_on_a_machine_of_its_own() {
        let of_host = json!({"kubeAPIConfig": {"kubeConfig": HOST_KUBECONFIG},
            "modules": {"cloudHub": {"advertiseAddress": ["192.0.2.10"]}}});
        let ours = json!({"metadata": {"name": NAME, "labels": {LABEL_MANAGED: MANAGER}}});
        let none = Plain::serve(|_, _| Some((200, json!({"items": []})))).await;
        let look = present(&none.kube, Mode::Cluster, None).await;
        assert_eq!((look.state, &*look.seen), (State::Fine, "none"));
        let apart = present(&none.kube, Mode::Cluster, Some(&of_host)).await;
        assert_eq!(apart.state, State::Warning);
        assert!(apart.seen.contains("192.0.2.10") && apart.fix.contains("kedge service stop"), "{apart:?}");
        let again = present(&none.kube, Mode::Host, Some(&of_host)).await;
        assert_eq!(again.state, State::Fine);
        assert!(again.seen.contains("brought up to date"), "{again:?}");
        let there = Plain::serve(move |_, _| Some((200, json!({"items": [ours]})))).await;
        assert_eq!(present(&there.kube, Mode::Cluster, None).await.state, State::Fine);
        let beside = present(&there.kube, Mode::Host, None).await;
        assert_eq!(beside.state, State::Warning);
        assert!(beside.fix.contains("delete deployment kedge-cloud"), "{beside:?}");
    }
}
