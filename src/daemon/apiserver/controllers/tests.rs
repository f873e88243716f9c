//! Controllers together on real storage; a test plays the kubelet.

use super::collections::*;
use super::read::{condition_is, key, label, list, name, number};
use super::{ControllerOptions, modules};
use crate::base::{Crew, Ready, Stop};
use crate::daemon::apiserver::local::{Change, Collection, Deletion, Local, Propagation};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

struct House {
    local: Local,
    _crew: Crew,
    _dir: tempfile::TempDir,
}

async fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let local = Local::scratch(dir.path()).await;
    let mut crew = Crew::new();
    for mut module in modules(local.clone(), ControllerOptions { cluster_ca_pem: "PEM".to_owned() }) {
        crew.spawn(async move {
            let name = module.name();
            module.run(Stop::new(), Ready::detached(name)).await.unwrap();
        });
    }
    House { local, _crew: crew, _dir: dir }
}

impl House {
    /// Waits until a collection looks as wanted.
    async fn until(
        &self,
        collection: &Collection,
        wanted: impl Fn(&[Arc<Value>]) -> bool,
    ) -> Vec<Arc<Value>> {
        let waited = tokio::time::timeout(LIMIT, async {
            loop {
                let (objects, revision) = self.local.list(collection, None).await.unwrap();
                if wanted(&objects) {
                    return objects;
                }
                drop(self.local.watch(collection, revision).next().await);
            }
        });
        match waited.await {
            Ok(objects) => objects,
            Err(_) => panic!("never: {:#?}", self.local.list(collection, None).await.unwrap().0),
        }
    }

    async fn gone(&self, collection: &Collection) {
        self.until(collection, <[_]>::is_empty).await;
    }

    async fn node(&self, name: &str, cpu: &str) {
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        self.local.create(&NODES, node).await.unwrap();
        let status = json!({"status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}});
        self.local.merge_patch(&NODES, None, name, Some("status"), status).await.unwrap();
    }

    async fn ready_node(&self, name: &str) {
        self.node(name, "4").await;
        self.until(&NODES, |nodes| nodes.iter().all(|n| list(&n["spec"]["taints"]).is_empty())).await;
    }

    async fn say(&self, pod: &Value, phase: &str) {
        let is_ready = if phase == "Running" { "True" } else { "False" };
        let address = format!("10.1.0.{}", number(&json!(name(pod).len())));
        let status = json!({"status": {"phase": phase, "podIP": address, "conditions": [
            {"type": "Ready", "status": is_ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        let space = pod["metadata"]["namespace"].as_str();
        self.local.merge_patch(&PODS, space, name(pod), Some("status"), status).await.unwrap();
    }
}

/// Plays the kubelet: bound pods run or succeed, deleted pods go.
fn kubelet(house: &House, phase: &'static str) -> Crew {
    let local = house.local.clone();
    let mut crew = Crew::new();
    let house = House { local, _crew: Crew::new(), _dir: tempfile::tempdir().unwrap() };
    crew.spawn(async move {
        let (present, revision) = house.local.list(&PODS, None).await.unwrap();
        let mut watch = house.local.watch(&PODS, revision);
        let mut waiting: Vec<Arc<Value>> = present;
        loop {
            for pod in waiting.drain(..) {
                let space = pod["metadata"]["namespace"].as_str();
                if !pod["metadata"]["deletionTimestamp"].is_null() {
                    let now = Deletion { grace: Some(0), ..Deletion::default() };
                    drop(house.local.delete(&PODS, space, name(&pod), now).await);
                } else if pod["spec"]["nodeName"].is_string() && pod["status"]["phase"] == "Pending" {
                    house.say(&pod, phase).await;
                }
            }
            if let Change::Added(pod) | Change::Modified(pod) = watch.next().await.unwrap() {
                waiting.push(pod);
            }
        }
    });
    crew
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "i:1", "resources": {"requests": {"cpu": "10m"}}}]}})
}

fn deployment(replicas: i64) -> Value {
    json!({"metadata": {"name": "d", "namespace": "default"}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"app": "a"}}, "template": template()}})
}

fn bound(pods: &[Arc<Value>], count: usize) -> bool {
    pods.len() == count && pods.iter().all(|pod| pod["spec"]["nodeName"].is_string())
}

#[tokio::test]
async fn a_deployment_becomes_running_pods_and_leaves_nothing_behind() {
    let house = house().await;
    house.ready_node("n1").await;
    let _kubelet = kubelet(&house, "Running");
    house.local.create(&DEPLOYMENTS, deployment(3)).await.unwrap();
    house.until(&PODS, |pods| bound(pods, 3)).await;
    house
        .until(&DEPLOYMENTS, |all| {
            all.iter().all(|d| {
                d["status"]["availableReplicas"] == 3 && condition_is(&d["status"], "Available", "True")
            })
        })
        .await;
    house.local.delete(&DEPLOYMENTS, Some("default"), "d", Deletion::default()).await.unwrap();
    house.gone(&PODS).await;
    house.gone(&REPLICA_SETS).await;
}

#[tokio::test]
async fn a_changed_template_rolls_to_a_second_revision() {
    let house = house().await;
    house.ready_node("n1").await;
    let _kubelet = kubelet(&house, "Running");
    house.local.create(&DEPLOYMENTS, deployment(2)).await.unwrap();
    house.until(&DEPLOYMENTS, |all| all.iter().all(|d| d["status"]["availableReplicas"] == 2)).await;
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"v": "2"}}}}});
    house.local.merge_patch(&DEPLOYMENTS, Some("default"), "d", None, patch).await.unwrap();
    house
        .until(&REPLICA_SETS, |sets| {
            let sizes: Vec<i64> = sets.iter().map(|set| number(&set["status"]["replicas"])).collect();
            sizes.len() == 2 && sizes.iter().sum::<i64>() == 2 && sizes.contains(&0)
        })
        .await;
    house
        .until(&DEPLOYMENTS, |all| {
            all.iter().all(|d| d["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2")
        })
        .await;
}

#[tokio::test]
async fn thirty_pods_are_placed_at_once() {
    let house = house().await;
    house.ready_node("n1").await;
    let start = Instant::now();
    house.local.create(&DEPLOYMENTS, deployment(30)).await.unwrap();
    house.until(&PODS, |pods| bound(pods, 30)).await;
    // Generous for an unoptimised build on a busy machine.
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_says_why_and_is_placed_when_it_fits() {
    let house = house().await;
    house.node("small", "5m").await;
    house.until(&NODES, |nodes| nodes.iter().all(|n| list(&n["spec"]["taints"]).is_empty())).await;
    let mut pod = template();
    pod["metadata"] = json!({"name": "p", "namespace": "default"});
    house.local.create(&PODS, pod).await.unwrap();
    let refused = |pods: &[Arc<Value>]| {
        pods.iter().any(|pod| {
            list(&pod["status"]["conditions"]).iter().any(|c| {
                c["reason"] == "Unschedulable"
                    && c["message"] == "0/1 nodes are available: 1 Insufficient cpu."
            })
        })
    };
    house.until(&PODS, refused).await;
    house.until(&super::events::EVENTS, |all| all.iter().any(|e| e["reason"] == "FailedScheduling")).await;
    house.node("large", "4").await;
    house.until(&PODS, |pods| pods.iter().all(|pod| pod["spec"]["nodeName"] == "large")).await;
}

#[tokio::test]
async fn a_job_runs_its_pods_to_completion() {
    let house = house().await;
    house.ready_node("n1").await;
    let _kubelet = kubelet(&house, "Succeeded");
    let mut template = template();
    template["spec"]["restartPolicy"] = json!("Never");
    let job = json!({"metadata": {"name": "j", "namespace": "default"}, "spec": {"completions": 3, "parallelism": 2,
        "template": template}});
    house.local.create(&JOBS, job).await.unwrap();
    let done = |all: &[Arc<Value>]| {
        all.iter().all(|j| condition_is(&j["status"], "Complete", "True") && j["status"]["succeeded"] == 3)
    };
    house.until(&JOBS, done).await;
}

#[tokio::test]
async fn a_deleted_namespace_takes_its_content_with_it() {
    let house = house().await;
    house.ready_node("n1").await;
    let _kubelet = kubelet(&house, "Running");
    house.local.create(&NAMESPACES, json!({"metadata": {"name": "x"}})).await.unwrap();
    house.until(&CONFIG_MAPS, |all| all.iter().any(|m| key(m) == "x/kube-root-ca.crt")).await;
    house.until(&SERVICE_ACCOUNTS, |all| all.iter().any(|a| key(a) == "x/default")).await;
    let mut deployment = deployment(2);
    deployment["metadata"]["namespace"] = json!("x");
    house.local.create(&DEPLOYMENTS, deployment).await.unwrap();
    house.until(&PODS, |pods| bound(pods, 2)).await;
    house.local.delete(&NAMESPACES, None, "x", Deletion::default()).await.unwrap();
    house.until(&NAMESPACES, |all| all.iter().all(|n| name(n) != "x")).await;
    house.gone(&PODS).await;
    house.gone(&DEPLOYMENTS).await;
}

#[tokio::test]
async fn foreground_deletion_waits_for_dependents_and_orphans_stay() {
    let house = house().await;
    house.local.create(&DEPLOYMENTS, deployment(1)).await.unwrap();
    house.until(&PODS, |pods| pods.len() == 1).await;
    let foreground = Deletion { propagation: Some(Propagation::Foreground), ..Deletion::default() };
    house.local.delete(&DEPLOYMENTS, Some("default"), "d", foreground).await.unwrap();
    house.gone(&DEPLOYMENTS).await;
    house.gone(&REPLICA_SETS).await;
    house.gone(&PODS).await;
    house.local.create(&DEPLOYMENTS, deployment(1)).await.unwrap();
    house.until(&PODS, |pods| pods.len() == 1).await;
    let orphan = Deletion { propagation: Some(Propagation::Orphan), ..Deletion::default() };
    house.local.delete(&DEPLOYMENTS, Some("default"), "d", orphan).await.unwrap();
    house.gone(&DEPLOYMENTS).await;
    let sets = house
        .until(&REPLICA_SETS, |sets| sets.iter().all(|s| list(&s["metadata"]["ownerReferences"]).is_empty()))
        .await;
    assert_eq!(sets.len(), 1);
}

#[tokio::test]
async fn a_service_follows_its_pods() {
    let house = house().await;
    house.ready_node("n1").await;
    let service = json!({"metadata": {"name": "s", "namespace": "default"}, "spec": {"selector": {"app": "a"},
        "ports": [{"port": 80, "targetPort": 8080}]}});
    house.local.create(&SERVICES, service).await.unwrap();
    house.local.create(&DEPLOYMENTS, deployment(1)).await.unwrap();
    let pods = house.until(&PODS, |pods| bound(pods, 1)).await;
    house.say(&pods[0], "Running").await;
    let slices = house
        .until(&ENDPOINT_SLICES, |all| all.iter().any(|s| s["endpoints"][0]["conditions"]["ready"] == true))
        .await;
    assert_eq!(label(&slices[0], "kubernetes.io/service-name"), "s");
    house
        .until(&ENDPOINTS, |all| all.iter().any(|e| e["subsets"][0]["addresses"][0]["nodeName"] == "n1"))
        .await;
    house.local.delete(&SERVICES, Some("default"), "s", Deletion::default()).await.unwrap();
    house.gone(&ENDPOINT_SLICES).await;
    house.gone(&ENDPOINTS).await;
}

#[tokio::test]
async fn daemons_run_on_every_node_and_stateful_pods_in_order() {
    let house = house().await;
    house.ready_node("n1").await;
    house.ready_node("n2").await;
    let _kubelet = kubelet(&house, "Running");
    let daemon = json!({"metadata": {"name": "ds", "namespace": "default"}, "spec": {
        "selector": {"matchLabels": {"app": "a"}}, "template": template()}});
    house.local.create(&DAEMON_SETS, daemon).await.unwrap();
    house.until(&DAEMON_SETS, |all| all.iter().all(|d| d["status"]["numberAvailable"] == 2)).await;
    let mut template = template();
    template["metadata"]["labels"] = json!({"app": "b"});
    let stateful = json!({"metadata": {"name": "ss", "namespace": "default"}, "spec": {"replicas": 2, "serviceName": "x",
        "selector": {"matchLabels": {"app": "b"}}, "template": template}});
    house.local.create(&STATEFUL_SETS, stateful).await.unwrap();
    house.until(&STATEFUL_SETS, |all| all.iter().all(|s| s["status"]["availableReplicas"] == 2)).await;
    house.until(&PODS, |pods| pods.iter().any(|p| name(p) == "ss-1")).await;
}

#[tokio::test]
async fn a_controller_that_panics_ends_the_others_with_a_reason() {
    let with = |works: bool| {
        let mut crew = Crew::new();
        crew.spawn(std::future::pending());
        crew.spawn(async move { assert!(works, "a fault of the test") });
        crew
    };
    let failure = super::attend(with(false), &Stop::new()).await.unwrap_err();
    assert_eq!(failure.code, "KE-API-020");
    failure.is_as_committed();
    assert!(
        failure.why.contains("a fault of the test") && failure.fix.contains("kedge bugreport"),
        "{failure}"
    );
    assert_eq!(super::attend(with(true), &Stop::new()).await, Ok(()));
}
