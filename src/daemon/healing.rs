//! What a node holds and what it should hold come together in one comparison: the embedded API, the cloud wing, a real
//! uplink and a real store. Nothing that the node has is sent again.

use super::apiserver::local::Deletion;
use super::edge::uplink::{Inbound, Link, ReportKey};
use super::road::{CONFIG_MAPS, Edge, PODS, Road, SYNCS, pod, register, settings, soon};
use crate::model::digest::{COMPARED, Digest, bucket_of};
use crate::model::{Kind, ObjectKey, Revision};
use crate::store::Store;
use crate::wire::{Comparison, Down, Holdings, Up, is_compared};
use serde_json::{Value, json};
use std::time::Duration;

/// An edge that keeps what it is told.
struct Keeper {
    edge: Edge,
    store: Store,
    /// Keys of objects and deletions in the order in which they came.
    told: Vec<String>,
    /// How many comparisons found nothing to mend.
    calm: usize,
}

impl Keeper {
    async fn open(road: &Road, store: Store) -> Keeper {
        Keeper { edge: road.edge_that("n1", true).await, store, told: Vec::new(), calm: 0 }
    }

    async fn hear(&mut self) {
        let inbound = self.edge.inbound.recv().await.unwrap();
        self.take(inbound).await;
    }

    /// After the cloud's end: takes what came before it, then forgets what was told.
    async fn forget(&mut self) {
        let mut link = self.edge.uplink.link();
        soon("the link's end", link.wait_for(|link| *link == Link::Down)).await.unwrap();
        while let Ok(inbound) = self.edge.inbound.try_recv() {
            self.take(inbound).await;
        }
        (self.told, self.calm) = (Vec::new(), 0);
    }

    async fn take(&mut self, inbound: Inbound) {
        match &inbound.down {
            Down::Object { key, object, .. } => {
                self.store.put_object(key, object).await.unwrap();
                self.told.push(format!("+{key}"));
            }
            Down::Delete { key, object, .. } => {
                let uid = object.pointer("/metadata/uid").and_then(Value::as_str);
                self.store.delete_object(key, uid).await.unwrap();
                self.told.push(format!("-{key}"));
            }
            Down::Compare(wanted) => {
                let holdings = self.compare(wanted).await;
                self.calm += usize::from(holdings.buckets.is_empty());
                let key = ReportKey("holdings".to_owned());
                self.edge.uplink.report(key, Up::Holdings(holdings)).await.unwrap();
            }
            _ => {}
        }
        inbound.receipt.stored();
    }

    async fn compare(&self, wanted: &Comparison) -> Holdings {
        let mut objects = self.store.holdings(&COMPARED).await.unwrap();
        objects.retain(|held| is_compared(&held.key));
        let digest = Digest::of(objects.iter().map(|held| (&held.key, held.content)));
        let buckets = digest.differing(&wanted.digest);
        objects.retain(|held| buckets.contains(&bucket_of(&held.key)));
        Holdings { round: wanted.round, buckets, objects }
    }

    async fn until(&mut self, what: &str, fits: impl Fn(&Keeper) -> bool) {
        soon(what, async {
            while !fits(self) {
                self.hear().await;
            }
        })
        .await;
    }

    async fn holds(&self, kind: Kind, name: &str) -> Option<Value> {
        self.store.object(&ObjectKey::namespaced(kind, "default", name)).await.unwrap()
    }
}

fn now() -> Deletion {
    Deletion { grace: Some(0), ..Deletion::default() }
}

fn told(what: &'static str) -> impl Fn(&Keeper) -> bool {
    move |keeper| keeper.told.iter().any(|told| told == what)
}

async fn settled(road: &Road, keeper: &Keeper, kind: Kind, name: &str) -> String {
    let uid = keeper.holds(kind, name).await.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let record = format!("n1.{uid}");
    let written = |sync: &Value| sync["status"]["objectResourceVersion"].as_str().is_some();
    road.wait(&SYNCS, (Some("default"), &record), written).await;
    record
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_of_the_cloud_exactly_what_changed_is_sent() {
    let mut road = Road::open().await;
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::open(&road, Store::open(dir.path().join("edgecore.db")).unwrap()).await;
    register(&keeper.edge, "n1").await;
    road.local.create(&CONFIG_MAPS, settings("1")).await.unwrap();
    for name in ["stays", "goes"] {
        road.local.create(&PODS, pod(name, "n1")).await.unwrap();
    }
    keeper.until("both pods", |k| told("+default/pod/stays")(k) && told("+default/pod/goes")(k)).await;
    // The ConfigMap existed before a pod referred to it: the node has asked for it, as the pod room does.
    let key = ObjectKey::namespaced(Kind::ConfigMap, "default", "settings");
    let crate::wire::Answer::Object(map) = keeper.edge.ask(Up::Query { key: key.clone() }).await else {
        panic!("the ConfigMap is answered")
    };
    keeper.store.put_object(&key, &map).await.unwrap();
    for (kind, name) in [(Kind::Pod, "stays"), (Kind::Pod, "goes"), (Kind::ConfigMap, "settings")] {
        settled(&road, &keeper, kind, name).await;
    }
    // A status is none of the node's business; without a comparison it would look like a newer pod.
    let running = json!({"status": {"phase": "Running"}});
    road.local.merge_patch(&PODS, Some("default"), "stays", Some("status"), running).await.unwrap();

    road.stop_cloud().await;
    keeper.forget().await;
    road.start_cloud().await;
    keeper.until("a comparison without a difference", |k| k.calm > 0).await;
    assert_eq!(keeper.told, Vec::<String>::new());

    road.stop_cloud().await;
    road.local.delete(&PODS, Some("default"), "goes", now()).await.unwrap();
    let changed = json!({"data": {"k": "2"}});
    road.local.merge_patch(&CONFIG_MAPS, Some("default"), "settings", None, changed).await.unwrap();
    road.local.create(&PODS, pod("comes", "n1")).await.unwrap();
    road.start_cloud().await;
    keeper.until("what changed", |k| k.told.len() >= 3).await;
    let mut heard = keeper.told.clone();
    heard.sort();
    assert_eq!(heard, ["+default/configmap/settings", "+default/pod/comes", "-default/pod/goes"]);
    assert_eq!(keeper.holds(Kind::ConfigMap, "settings").await.unwrap()["data"]["k"], "2");

    road.stop_cloud().await;
    keeper.forget().await;
    road.start_cloud().await;
    keeper.until("a comparison without a difference", |k| k.calm > 0).await;
    assert_eq!(keeper.told, Vec::<String>::new());
    keeper.edge.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_tampered_with_heals_at_the_next_connect() {
    let road = Road::open().await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("edgecore.db")).unwrap();
    let mut keeper = Keeper::open(&road, store.clone()).await;
    register(&keeper.edge, "n1").await;
    for name in ["a", "b", "c"] {
        road.local.create(&PODS, pod(name, "n1")).await.unwrap();
    }
    keeper
        .until("the pods", |k| ["a", "b", "c"].iter().all(|n| k.told.contains(&format!("+default/pod/{n}"))))
        .await;
    let record = settled(&road, &keeper, Kind::Pod, "b").await;
    let mut keeper = {
        keeper.edge.leave().await;
        let pod = |name: &str| ObjectKey::namespaced(Kind::Pod, "default", name);
        let mut old = store.object(&pod("a")).await.unwrap().unwrap();
        old["spec"]["hostname"] = json!("other");
        store.put_object(&pod("a"), &old).await.unwrap();
        store.delete_object(&pod("b"), None).await.unwrap();
        let mut foreign = old.clone();
        foreign["metadata"]["uid"] = json!("0-0");
        store.put_object(&pod("foreign"), &foreign).await.unwrap();
        Keeper::open(&road, store).await
    };
    keeper.until("all three", |k| k.told.len() >= 3).await;
    keeper.told.sort();
    assert_eq!(keeper.told, ["+default/pod/a", "+default/pod/b", "-default/pod/foreign"]);
    assert_eq!(keeper.holds(Kind::Pod, "a").await.unwrap()["spec"]["hostname"], Value::Null);
    assert!(keeper.holds(Kind::Pod, "foreign").await.is_none());

    // A record of something that the node does not hold and should not hold goes away.
    keeper.edge.leave().await;
    let stray = json!({"apiVersion": "reliablesyncs.kubeedge.io/v1alpha1", "kind": "ObjectSync",
        "metadata": {"name": "n1.0-1", "namespace": "default"},
        "spec": {"objectAPIVersion": "v1", "objectKind": "Pod", "objectName": "long-gone"}});
    road.local.create(&SYNCS, stray).await.unwrap();
    let missing = road.local.delete(&SYNCS, Some("default"), &record, now()).await;
    missing.unwrap();
    let mut keeper = Keeper::open(&road, keeper.store).await;
    keeper.until("a comparison without a difference", |k| k.calm > 0).await;
    let written = |sync: &Value| sync["status"]["objectResourceVersion"].as_str().is_some();
    road.wait(&SYNCS, (Some("default"), &record), written).await;
    soon("the stray record's end", async {
        let mut changes = road.local.watch(&SYNCS, Revision(0));
        while road.local.get(&SYNCS, Some("default"), "n1.0-1").await.is_ok() {
            drop(tokio::time::timeout(Duration::from_secs(1), changes.next()).await);
        }
    })
    .await;
    assert_eq!(keeper.told, Vec::<String>::new());
    keeper.edge.leave().await;
}
