//! What a node hears of ConfigMaps and Secrets once its last pod that refers to them has gone: of their end, and of no
//! change. The embedded API, the cloud wing and a real uplink, with and without the comparison of digests.

use super::apiserver::local::{Collection, Deletion};
use super::edge::uplink::{Inbound, ReportKey};
use super::road::{CONFIG_MAPS, Edge, PODS, Road, SYNCS, register, soon};
use crate::model::digest::{COMPARED, Digest, bucket_of};
use crate::model::{Kind, ObjectKey};
use crate::store::Store;
use crate::wire::{Answer, Down, Holdings, Up, is_compared};
use serde_json::{Value, json};

const SECRETS: Collection = Collection::of("", "secrets");

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
        "data": {"k": "1"}})
}

fn secret() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "word", "namespace": "default"},
        "data": {"k": "MQ=="}})
}

fn pod(name: &str, reference: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": {
        "nodeName": "n1", "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "busybox", "envFrom": reference}]}})
}

async fn create(road: &Road) {
    for name in ["gone", "kept"] {
        road.local.create(&CONFIG_MAPS, map(name)).await.unwrap();
    }
    road.local.create(&SECRETS, secret()).await.unwrap();
    let goes = json!([{"configMapRef": {"name": "gone"}}, {"secretRef": {"name": "word"}}]);
    road.local.create(&PODS, pod("goes", goes)).await.unwrap();
    road.local.create(&PODS, pod("stays", json!([{"configMapRef": {"name": "kept"}}]))).await.unwrap();
}

fn key(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey::namespaced(kind, "default", name)
}

const CONFIGS: [(Kind, &str); 3] =
    [(Kind::ConfigMap, "gone"), (Kind::Secret, "word"), (Kind::ConfigMap, "kept")];

/// The node asks as its pods start, and the cloud has recorded what it was given.
async fn ask(road: &Road, edge: &Edge) -> Vec<(ObjectKey, Value)> {
    let mut given = Vec::new();
    for (kind, name) in CONFIGS {
        let key = key(kind, name);
        let Answer::Object(object) = edge.ask(Up::Query { key: key.clone() }).await else {
            panic!("{name} is answered")
        };
        let record = format!("n1.{}", object["metadata"]["uid"].as_str().unwrap());
        let written = |sync: &Value| sync["status"]["objectResourceVersion"].as_str().is_some();
        road.wait(&SYNCS, (Some("default"), &record), written).await;
        given.push((key, object));
    }
    given
}

async fn end_pod(road: &Road) {
    let now = Deletion { grace: Some(0), ..Deletion::default() };
    road.local.delete(&PODS, Some("default"), "goes", now).await.unwrap();
}

/// Changes all three; the one that stays comes last, behind all that the cloud has to say of the others.
async fn change(road: &Road, value: &str) {
    let data = json!({"data": {"k": value}});
    for name in ["gone", "kept"] {
        let word = json!({"stringData": {"k": value}});
        road.local.merge_patch(&SECRETS, Some("default"), "word", None, word).await.unwrap();
        road.local.merge_patch(&CONFIG_MAPS, Some("default"), name, None, data.clone()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_pod_for_it_hears_of_no_change_of_a_secret() {
    let mut road = Road::open().await;
    let mut edge = road.edge("n1").await;
    register(&edge, "n1").await;
    create(&road).await;
    edge.object(Kind::Pod, "stays").await;
    ask(&road, &edge).await;
    end_pod(&road).await;
    edge.gone(Kind::Pod, "goes").await;

    let pushed = |down: &Down| match down {
        Down::Object { key, object, .. } if matches!(key.kind, Kind::ConfigMap | Kind::Secret) => {
            assert_eq!(key.name, "kept", "{key} is pushed");
            Some(object["data"]["k"].as_str().unwrap().to_owned())
        }
        _ => None,
    };
    change(&road, "2").await;
    assert_eq!(edge.until("the change of what a pod refers to", pushed).await, "2");

    // Nor does it when it comes back to a cloud that has just started.
    road.stop_cloud().await;
    change(&road, "3").await;
    road.start_cloud().await;
    assert_eq!(edge.until("the change meanwhile", pushed).await, "3");
    change(&road, "4").await;
    assert_eq!(edge.until("the change after the restart", pushed).await, "4");

    // Of its end it hears, and no more than its name.
    road.local.delete(&SECRETS, Some("default"), "word", Deletion::default()).await.unwrap();
    let last = edge.until("the secret's end", |down| match down {
        Down::Delete { key, object, .. } if key.name == "word" => Some(object.clone()),
        _ => None,
    });
    assert_eq!(last.await["data"], Value::Null);

    // A new pod makes it a reader again.
    road.local.create(&PODS, pod("next", json!([{"configMapRef": {"name": "gone"}}]))).await.unwrap();
    edge.object(Kind::Pod, "next").await;
    change_one(&road).await;
    let again = edge.until("the change for the new pod", |down| match down {
        Down::Object { key, object, .. } if key.name == "gone" => {
            object["data"]["k"].as_str().map(str::to_owned)
        }
        _ => None,
    });
    assert_eq!(again.await, "5");
    edge.leave().await;
}

async fn change_one(road: &Road) {
    let data = json!({"data": {"k": "5"}});
    road.local.merge_patch(&CONFIG_MAPS, Some("default"), "gone", None, data).await.unwrap();
}

/// Stores what it is told; says what it was.
async fn take(store: &Store, edge: &Edge, inbound: Inbound) -> Option<String> {
    let mut told = None;
    match &inbound.down {
        Down::Object { key, object, .. } => {
            store.put_object(key, object).await.unwrap();
            told = Some(format!("+{key}"));
        }
        Down::Delete { key, object, .. } => {
            let uid = object.pointer("/metadata/uid").and_then(Value::as_str);
            store.delete_object(key, uid).await.unwrap();
            told = Some(format!("-{key}"));
        }
        Down::Compare(wanted) => {
            let mut objects = store.holdings(&COMPARED).await.unwrap();
            objects.retain(|held| is_compared(&held.key));
            let digest = Digest::of(objects.iter().map(|held| (&held.key, held.content)));
            let buckets = digest.differing(&wanted.digest);
            objects.retain(|held| buckets.contains(&bucket_of(&held.key)));
            let holdings = Holdings { round: wanted.round, buckets, objects };
            let report = ReportKey("holdings".to_owned());
            drop(edge.uplink.report(report, Up::Holdings(holdings)).await.unwrap());
        }
        _ => {}
    }
    inbound.receipt.stored();
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_compares_drops_what_no_pod_of_it_refers_to() {
    let road = Road::open().await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("edgecore.db")).unwrap();
    let mut edge = road.edge_that("n1", true).await;
    register(&edge, "n1").await;
    create(&road).await;
    let mut told = Vec::new();
    soon("both pods", async {
        while !["+default/pod/goes", "+default/pod/stays"].iter().all(|pod| told.iter().any(|t| t == pod)) {
            let inbound = edge.inbound.recv().await.unwrap();
            told.extend(take(&store, &edge, inbound).await);
        }
    })
    .await;
    for (key, object) in ask(&road, &edge).await {
        store.put_object(&key, &object).await.unwrap();
    }
    end_pod(&road).await;
    change(&road, "2").await;
    edge.leave().await;

    let mut edge = road.edge_that("n1", true).await;
    told.clear();
    let wanted = ["-default/configmap/gone", "-default/secret/word"];
    soon("the copies' end", async {
        while !wanted.iter().all(|gone| told.iter().any(|t| t == gone)) {
            let inbound = edge.inbound.recv().await.unwrap();
            told.extend(take(&store, &edge, inbound).await);
        }
    })
    .await;
    assert!(
        !told.iter().any(|told| told == "+default/configmap/gone" || told == "+default/secret/word"),
        "{told:?}"
    );
    for (kind, name) in &CONFIGS[..2] {
        assert_eq!(store.object(&key(*kind, name)).await.unwrap(), None);
    }
    edge.leave().await;
}
