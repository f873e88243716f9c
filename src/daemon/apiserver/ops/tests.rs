use super::*;
use crate::daemon::apiserver::local::{Change, Collection, Local};
use serde_json::json;

const PODS: Collection = Collection::of("", "pods");
const CONFIGS: Collection = Collection::of("", "configmaps");
const NAMESPACES: Collection = Collection::of("", "namespaces");

async fn local() -> (tempfile::TempDir, Local) {
    let dir = tempfile::tempdir().unwrap();
    let local = Local::scratch(dir.path()).await;
    (dir, local)
}

fn config(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "data": {"k": value}})
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

#[tokio::test]
async fn objects_are_created_changed_watched_and_deleted() {
    let (_dir, local) = local().await;
    let (_, from) = local.list(&CONFIGS, None).await.unwrap();
    let mut watch = local.watch(&CONFIGS, from);
    let made = local.create(&CONFIGS, config("a", "1")).await.unwrap();
    assert_eq!(made["kind"], "ConfigMap");
    assert!(matches!(watch.next().await.unwrap(), Change::Added(_)));
    let mut next = Value::clone(&made);
    next["data"]["k"] = json!("2");
    local.update(&CONFIGS, next.clone()).await.unwrap();
    assert!(matches!(watch.next().await.unwrap(), Change::Modified(_)));
    assert!(local.update(&CONFIGS, next).await.unwrap_err().is_conflict());
    local.delete(&CONFIGS, Some("default"), "a", Deletion::default()).await.unwrap();
    assert!(matches!(watch.next().await.unwrap(), Change::Deleted(_)));
    assert!(local.get(&CONFIGS, Some("default"), "a").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn an_update_without_a_difference_writes_nothing() {
    let (_dir, local) = local().await;
    let made = local.create(&CONFIGS, config("a", "1")).await.unwrap();
    let same = local.update(&CONFIGS, Value::clone(&made)).await.unwrap();
    assert_eq!(same["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_scheduled_pod_is_deleted_with_grace() {
    let (_dir, local) = local().await;
    local.create(&PODS, pod("p")).await.unwrap();
    local.bind("default", "p", "n1").await.unwrap();
    assert!(local.bind("default", "p", "n2").await.unwrap_err().is_conflict());
    let marked = local.delete(&PODS, Some("default"), "p", Deletion::default()).await.unwrap();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(local.exists(&PODS, Some("default"), "p"));
    let now = Deletion { grace: Some(0), ..Deletion::default() };
    local.delete(&PODS, Some("default"), "p", now).await.unwrap();
    assert!(!local.exists(&PODS, Some("default"), "p"));
}

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let (_dir, local) = local().await;
    let mut object = config("a", "1");
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    local.create(&CONFIGS, object).await.unwrap();
    local.delete(&CONFIGS, Some("default"), "a", Deletion::default()).await.unwrap();
    assert!(local.exists(&CONFIGS, Some("default"), "a"));
    let patch = json!({"metadata": {"finalizers": null}});
    local.merge_patch(&CONFIGS, Some("default"), "a", None, patch).await.unwrap();
    assert!(!local.exists(&CONFIGS, Some("default"), "a"));
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_finalized() {
    let (_dir, local) = local().await;
    local.create(&NAMESPACES, json!({"metadata": {"name": "x"}})).await.unwrap();
    local.delete(&NAMESPACES, None, "x", Deletion::default()).await.unwrap();
    let mut object = config("a", "1");
    object["metadata"]["namespace"] = json!("x");
    assert_eq!(local.create(&CONFIGS, object).await.unwrap_err().code, 403);
    let patch = json!({"spec": {"finalizers": []}});
    local.merge_patch(&NAMESPACES, None, "x", Some("finalize"), patch).await.unwrap();
    assert!(!local.exists(&NAMESPACES, None, "x"));
}

#[tokio::test]
async fn status_and_spec_are_changed_apart() {
    let (_dir, local) = local().await;
    local.create(&PODS, pod("p")).await.unwrap();
    let patch = json!({"status": {"phase": "Running"}, "spec": {"nodeName": "x"}});
    let after = local.merge_patch(&PODS, Some("default"), "p", Some("status"), patch).await.unwrap();
    assert_eq!(after["status"]["phase"], "Running");
    assert!(after["spec"]["nodeName"].is_null());
    let patch = json!({"status": {"phase": "Failed"}, "metadata": {"labels": {"a": "b"}}});
    let after = local.merge_patch(&PODS, Some("default"), "p", None, patch).await.unwrap();
    assert_eq!(after["status"]["phase"], "Running");
    assert_eq!(after["metadata"]["labels"]["a"], "b");
}

#[tokio::test]
async fn too_much_data_is_refused() {
    let (_dir, local) = local().await;
    let refused = local.create(&CONFIGS, config("big", &"x".repeat((1 << 20) + 1))).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
}

#[tokio::test]
async fn services_get_addresses_that_differ() {
    let (_dir, local) = local().await;
    let services = Collection::of("", "services");
    let mut seen = std::collections::HashSet::new();
    for name in ["a", "b", "c"] {
        let service = json!({"metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        let made = local.create(&services, service).await.unwrap();
        assert!(seen.insert(made["spec"]["clusterIP"].as_str().unwrap().to_owned()));
        assert!(made["spec"]["ports"][0]["nodePort"].as_u64().unwrap() >= 30000);
    }
}
