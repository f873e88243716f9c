//! Fields of built-in objects that an update must not change, in upstream's words. Pure.

use crate::daemon::apiserver::catalog::Resource;
use crate::daemon::apiserver::errors::Cause;
use serde_json::Value;

/// What an update changed that it must not.
pub(super) fn changed(resource: &Resource, old: &Value, new: &Value) -> Vec<Cause> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") if frozen_spec(old) != frozen_spec(new) => vec![Cause::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
             existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
             previously negative)",
        )],
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings")
            if old["roleRef"] != new["roleRef"] =>
        {
            vec![Cause::invalid("roleRef", &new["roleRef"], "cannot change roleRef")]
        }
        ("apps", "deployments" | "replicasets" | "daemonsets") => immutable(old, new, &["selector"]),
        ("apps", "statefulsets") => {
            immutable(old, new, &["selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"])
        }
        ("batch", "jobs") if old["spec"]["suspend"] == true => {
            immutable(old, new, &["selector", "completionMode"])
        }
        ("batch", "jobs") => immutable(old, new, &["selector", "template", "completionMode"]),
        _ => Vec::new(),
    }
}

fn immutable(old: &Value, new: &Value, fields: &[&str]) -> Vec<Cause> {
    fields
        .iter()
        .filter(|field| old["spec"][**field] != new["spec"][**field])
        .map(|field| Cause::invalid(&format!("spec.{field}"), &new["spec"][*field], "field is immutable"))
        .collect()
}

/// The spec of a pod without what may change after its creation.
fn frozen_spec(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    let Some(map) = spec.as_object_mut() else { return spec };
    // Null is absent, and only one of the two forms may have been completed.
    map.retain(|_, value| !value.is_null());
    for open in [
        "activeDeadlineSeconds",
        "ephemeralContainers",
        "schedulingGates",
        "terminationGracePeriodSeconds",
        "tolerations",
    ] {
        map.remove(open);
    }
    for list in ["containers", "initContainers"] {
        for container in map.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                // The pull policy is drawn from the image's tag where nobody chose it.
                container.remove("image");
                container.remove("imagePullPolicy");
            }
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use crate::daemon::apiserver::local::{Collection, Local};
    use serde_json::json;

    const PODS: Collection = Collection::of("", "pods");
    const DEPLOYMENTS: Collection = Collection::of("apps", "deployments");

    #[tokio::test]
    async fn a_pods_image_may_change_but_not_its_command_or_node() {
        let dir = tempfile::tempdir().unwrap();
        let local = Local::scratch(dir.path()).await;
        let pod = json!({"metadata": {"name": "p", "namespace": "default"},
            "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
        let made = local.create(&PODS, pod).await.unwrap();
        let mut next = (*made).clone();
        next["spec"]["containers"][0]["image"] = json!("i:2");
        let made = local.update(&PODS, next).await.unwrap();
        for change in [json!({"nodeName": "n"}), json!({"hostNetwork": true})] {
            let refused = local.merge_patch(&PODS, Some("default"), "p", None, json!({"spec": change})).await;
            assert_eq!(refused.unwrap_err().code, 422);
        }
        let mut next = (*made).clone();
        next["spec"]["containers"][0]["command"] = json!(["x"]);
        assert_eq!(local.update(&PODS, next).await.unwrap_err().code, 422);
        local.bind("default", "p", "n").await.unwrap();
    }

    #[tokio::test]
    async fn a_selector_stays_and_requests_are_quantities() {
        let dir = tempfile::tempdir().unwrap();
        let local = Local::scratch(dir.path()).await;
        let template = json!({"metadata": {"labels": {"a": "1", "b": "1"}},
            "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
        let deployment = json!({"metadata": {"name": "d", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"a": "1"}}, "template": template}});
        local.create(&DEPLOYMENTS, deployment).await.unwrap();
        let patch = json!({"spec": {"selector": {"matchLabels": {"b": "1"}}}});
        let refused = local.merge_patch(&DEPLOYMENTS, Some("default"), "d", None, patch).await.unwrap_err();
        assert!(refused.message.contains("spec.selector") && refused.message.contains("field is immutable"));
        let pod = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [
            {"name": "c", "image": "i:1", "resources": {"requests": {"cpu": "much"}}}]}});
        let refused = local.create(&PODS, pod).await.unwrap_err();
        assert!(
            refused.message.contains("spec.containers[0].resources.requests[cpu]"),
            "{}",
            refused.message
        );
    }
}
