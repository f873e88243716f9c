//! The device module over its real neighbours, the broker and SQLite; the test stands in for the cloud's end of the uplink.

use super::*;
use crate::daemon::edge::mqtt;
use crate::daemon::edge::uplink::Outgoing;
use crate::model::Status;
use crate::wire::{TwinReport, Up};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::sync::{mpsc, watch};

const UPDATE: &str = "$hw/events/device/hw/t1/twin/update";

struct World {
    broker: Broker,
    store: Store,
    cloud: mpsc::Receiver<Outgoing>,
    link: watch::Sender<Link>,
    stop: Stop,
    crew: Crew,
    handle: DeviceHandle,
}

fn device(generation: i64, target: &str) -> Value {
    json!({
        "metadata": {"name": "t1", "namespace": "hw", "uid": "u1", "generation": generation},
        "spec": {"properties": [{"name": "temperature"}, {"name": "target", "desired": {"value": target}}]},
    })
}

fn key_of_device() -> ObjectKey {
    ObjectKey::namespaced(Kind::Device, "hw", "t1")
}

async fn start(dir: &std::path::Path) -> World {
    let store = Store::open(dir.join("edgecore.db")).unwrap();
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let (broker, _listener) = mqtt::new(mqtt::Config { listen, ..mqtt::Config::default() });
    let (uplink, cloud, link) = Uplink::channel(64);
    let config = Config { node: NodeName::new("edge-1").unwrap() };
    let mut members = broker.subscribe(&["$hw/events/node/edge-1/membership/get/result"]);
    let (handle, mut module) = new(config, store.clone(), uplink, broker.clone());
    let stop = Stop::new();
    let mut crew = Crew::new();
    let inner = stop.clone();
    crew.spawn(async move {
        module.run(inner, Ready::detached("device")).await.unwrap();
    });
    // The module answers once it serves.
    loop {
        broker.publish("$hw/events/node/edge-1/membership/get", r#"{"event_id":"m"}"#, false).await;
        if tokio::time::timeout(Duration::from_millis(50), members.next()).await.is_ok() {
            break;
        }
    }
    World { broker, store, cloud, link, stop, crew, handle }
}

impl World {
    async fn end(mut self) {
        self.stop.raise();
        self.crew.finish().await;
    }

    async fn report(&mut self) -> TwinReport {
        let next = tokio::time::timeout(Duration::from_secs(5), self.cloud.recv()).await.unwrap().unwrap();
        let Outgoing::Report { up: Up::TwinReport(report), confirmed, .. } = next else { panic!("{next:?}") };
        confirmed.unwrap().send(Answer::Ok).unwrap();
        report
    }
}

async fn heard(inbox: &mut Subscription) -> Value {
    let (_, payload) = tokio::time::timeout(Duration::from_secs(5), inbox.next()).await.unwrap().unwrap();
    serde_json::from_slice(&payload).unwrap()
}

fn actual(report: &TwinReport) -> &str {
    let part = report.twins["temperature"].as_ref().unwrap();
    part.actual.as_ref().unwrap().value.as_deref().unwrap()
}

#[tokio::test]
async fn a_value_goes_up_and_a_desired_value_comes_down() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = start(dir.path()).await;
    world.link.send_replace(Link::Up);
    let mut results = world.broker.subscribe(&["$hw/events/device/hw/t1/twin/update/result"]);
    let mut deltas = world.broker.subscribe(&["$hw/events/device/hw/t1/twin/update/delta"]);
    world.broker.publish(UPDATE, r#"{"event_id":"e0","twin":{}}"#, false).await;
    assert_eq!(heard(&mut results).await["code"], 404);

    world.store.put_object(&key_of_device(), &device(1, "20")).await.unwrap();
    assert_eq!(heard(&mut deltas).await["delta"], json!({"target": "20"}));
    let desired = world.report().await;
    assert_eq!(desired.twins["target"].as_ref().unwrap().expected_version.unwrap().cloud, 1);

    world
        .broker
        .publish(UPDATE, r#"{"event_id":"e1","twin":{"temperature":{"actual":{"value":"21.5"}}}}"#, false)
        .await;
    let result = heard(&mut results).await;
    assert_eq!(
        (&result["event_id"], &result["twin"]["temperature"]["actual"]["value"]),
        (&json!("e1"), &json!("21.5"))
    );
    assert_eq!(actual(&world.report().await), "21.5");

    world.broker.publish(UPDATE, r#"{"event_id":"e2","twin":null}"#, false).await;
    assert_eq!(heard(&mut results).await["code"], 400);
    world.store.delete_object(&key_of_device(), None).await.unwrap();
    world.broker.publish(UPDATE, r#"{"event_id":"e3","twin":{"x":{}}}"#, false).await;
    while heard(&mut results).await["code"] != 404 {
        world.broker.publish(UPDATE, r#"{"event_id":"e3","twin":{"x":{}}}"#, false).await;
    }
    assert!(world.store.devices().await.unwrap().is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_property_that_is_new_to_the_cloud_is_told_once_more_and_then_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = start(dir.path()).await;
    world.link.send_replace(Link::Up);
    world.store.put_object(&key_of_device(), &device(1, "20")).await.unwrap();
    let first = world.report().await;
    let again = world.report().await;
    assert_eq!(
        first.twins["target"].as_ref().unwrap().expected,
        again.twins["target"].as_ref().unwrap().expected
    );
    assert_ne!(first.event_id, again.event_id);

    // A second report comes before the echo: it is the echo.
    let mut results = world.broker.subscribe(&["$hw/events/device/hw/t1/twin/update/result"]);
    for value in ["1", "2"] {
        let update = format!(r#"{{"twin":{{"temperature":{{"actual":{{"value":"{value}"}}}}}}}}"#);
        world.broker.publish(UPDATE, update, false).await;
        heard(&mut results).await;
        assert_eq!(actual(&world.report().await), value);
    }
    let quiet = tokio::time::timeout(ECHO + Duration::from_secs(1), world.cloud.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    world.end().await;
}

#[tokio::test]
async fn a_membership_is_acknowledged_after_its_commit_and_not_when_that_fails() {
    let dir = tempfile::tempdir().unwrap();
    let world = start(dir.path()).await;
    let member = |name: &str| Membership { added: vec![DeviceId::new("hw", name)], ..Membership::default() };
    let (receipt, stored) = Receipt::new();
    world.handle.membership(member("t2"), receipt).await.unwrap();
    stored.await.unwrap();
    assert_eq!(world.store.devices().await.unwrap().len(), 1);

    let refuse = "CREATE TRIGGER no BEFORE INSERT ON device BEGIN SELECT RAISE(FAIL, 'no'); END";
    rusqlite::Connection::open(dir.path().join("edgecore.db")).unwrap().execute_batch(refuse).unwrap();
    let (receipt, stored) = Receipt::new();
    world.handle.membership(member("t3"), receipt).await.unwrap();
    assert!(stored.await.is_err(), "acknowledged although nothing was stored");
    assert_eq!(world.store.devices().await.unwrap().len(), 1);
    world.end().await;
}

#[tokio::test]
async fn reports_of_an_offline_node_outlive_its_restart() {
    let dir = tempfile::tempdir().unwrap();
    let world = start(dir.path()).await;
    let mut results = world.broker.subscribe(&["$hw/events/device/hw/t1/twin/update/result"]);
    let mut documents = world.broker.subscribe(&["$hw/events/device/hw/t1/twin/update/document"]);
    world.store.put_object(&key_of_device(), &device(1, "20")).await.unwrap();
    heard(&mut documents).await;
    for value in ["1", "2", "3"] {
        let update = format!(r#"{{"twin":{{"temperature":{{"actual":{{"value":"{value}"}}}}}}}}"#);
        world.broker.publish(UPDATE, update, false).await;
        heard(&mut results).await;
    }
    world.end().await;
    {
        let store = Store::open(dir.path().join("edgecore.db")).unwrap();
        let id = DeviceId::new("hw", "t1");
        set_offline(&store, &id, "target", "24").await.unwrap();
        assert_eq!(
            set_offline(&store, &id, "target", "a b").await.unwrap_err().committed().code,
            "KE-TWIN-004"
        );
    }
    let mut world = start(dir.path()).await;
    world.link.send_replace(Link::Up);
    let report = world.report().await;
    assert_eq!(actual(&report), "3");
    let target = report.twins["target"].as_ref().unwrap();
    assert_eq!(target.expected.as_ref().unwrap().value.as_deref(), Some("24"));
    assert_eq!(target.expected_version, Some(crate::model::twin::TwinVersion { cloud: 1, edge: 1 }));
    let none_left = async {
        while !world.store.states(outbox::ROOM).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), none_left).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn every_report_of_an_online_node_arrives_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = start(dir.path()).await;
    world.link.send_replace(Link::Up);
    world.store.put_object(&key_of_device(), &device(1, "")).await.unwrap();
    let mut members = world.broker.subscribe(&["$hw/events/node/edge-1/membership/updated"]);
    drop(members.try_next());
    let broker = world.broker.clone();
    let mut results = world.broker.subscribe(&["$hw/events/device/hw/t1/twin/update/result"]);
    // The device is known once an update is not answered with 404.
    loop {
        broker.publish(UPDATE, r#"{"twin":{"temperature":{"actual":{"value":"0"}}}}"#, false).await;
        if heard(&mut results).await.get("code").is_none() {
            break;
        }
    }
    drop(results);
    let mut crew = Crew::new();
    crew.spawn(async move {
        for n in 1..=1000 {
            let update = format!(r#"{{"twin":{{"temperature":{{"actual":{{"value":"{n}"}}}}}}}}"#);
            broker.publish(UPDATE, update, false).await;
        }
    });
    assert_eq!(actual(&world.report().await), "0");
    for n in 1..=1000 {
        assert_eq!(actual(&world.report().await), n.to_string());
    }
    world.end().await;
}

#[tokio::test]
async fn a_report_that_the_cloud_refuses_for_good_is_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = start(dir.path()).await;
    world.link.send_replace(Link::Up);
    world.store.put_object(&key_of_device(), &device(1, "20")).await.unwrap();
    let next = world.cloud.recv().await.unwrap();
    let Outgoing::Report { confirmed, .. } = next else { panic!("{next:?}") };
    confirmed.unwrap().send(Answer::Failed(Status::not_found("devices", "t1"))).unwrap();
    let none_left = async {
        while !world.store.states(outbox::ROOM).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), none_left).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn an_uplink_that_takes_nothing_does_not_hold_up_devices() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = start(dir.path()).await;
    world.store.put_object(&key_of_device(), &device(1, "20")).await.unwrap();
    world.link.send_replace(Link::Up);
    let mut results = world.broker.subscribe(&["$hw/events/device/hw/t1/twin/update/result"]);
    // Far more reports than the uplink's room, and nobody empties it.
    for value in 0..200 {
        let began = std::time::Instant::now();
        let payload =
            format!(r#"{{"event_id":"e","twin":{{"temperature":{{"actual":{{"value":"{value}"}}}}}}}}"#);
        world.broker.publish(UPDATE, payload, false).await;
        heard(&mut results).await;
        assert!(began.elapsed() < AGAIN, "{value}: {:?}", began.elapsed());
    }
    let mut last = String::new();
    while last != "199" {
        let report = tokio::time::timeout(AGAIN * 3, world.cloud.recv()).await.unwrap().unwrap();
        let Outgoing::Report { up: Up::TwinReport(report), confirmed, .. } = report else {
            panic!("{report:?}")
        };
        confirmed.unwrap().send(Answer::Ok).unwrap();
        if report.twins.contains_key("temperature") {
            let value = actual(&report).to_owned();
            assert!(last.is_empty() || value.parse::<u32>().unwrap() >= last.parse().unwrap(), "in order");
            last = value;
        }
    }
    world.end().await;
}

#[tokio::test]
async fn a_membership_that_overtakes_its_object_loses_no_device() {
    let dir = tempfile::tempdir().unwrap();
    let world = start(dir.path()).await;
    let mut deltas = world.broker.subscribe(&["$hw/events/device/hw/t1/twin/update/delta"]);
    world.store.put_object(&key_of_device(), &device(1, "20")).await.unwrap();
    assert_eq!(heard(&mut deltas).await["delta"], json!({"target": "20"}));
    // The device went to another node and came back: its object is here when the news of its leaving arrives.
    let id = DeviceId::new("hw", "t1");
    let left = Membership { added: Vec::new(), removed: vec![id] };
    let told = |left: Membership| world.handle.membership(left, Receipt::new().0);
    told(left.clone()).await.unwrap();
    let mut results = world.broker.subscribe(&["$hw/events/device/hw/t1/twin/update/result"]);
    let value = r#"{"event_id":"e1","twin":{"temperature":{"actual":{"value":"1"}}}}"#;
    world.broker.publish(UPDATE, value, false).await;
    assert_eq!(heard(&mut results).await["event_id"], "e1");
    world.store.delete_object(&key_of_device(), None).await.unwrap();
    told(left).await.unwrap();
    loop {
        world.broker.publish(UPDATE, value, false).await;
        if heard(&mut results).await["code"] == 404 {
            break;
        }
    }
    world.end().await;
}
