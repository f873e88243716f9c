//! The road of user messages: rules in the embedded API, the cloud's router, a whole edge with its broker and ServiceBus,
//! and a small HTTP server as the service at both ends; also over a restart of the edge and of the cloud.

use super::apiserver::local::Collection;
use super::cloud::TokenDesk;
use super::edge::{Edge, mqtt::Client};
use super::road::{Road, free_port, name, soon};
use crate::base::{Crew, Stop};
use crate::config::edge::{Containerd, EdgeConfig, UpEdge};
use crate::link::http::{Limits, full, serve_plain};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const RULES: Collection = Collection::of("rules.kubeedge.io", "rules");
const ENDPOINTS: Collection = Collection::of("rules.kubeedge.io", "ruleendpoints");

type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// A service that notes what it is sent and answers 201 with its path.
async fn service(crew: &mut Crew, stop: &Stop) -> (u16, Seen) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Seen::default();
    let noted = seen.clone();
    let handler = move |request: http::Request<hyper::body::Incoming>| {
        let noted = noted.clone();
        async move {
            let uri = request.uri().to_string();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            noted.lock().unwrap().push((uri.clone(), String::from_utf8_lossy(&body).into_owned()));
            let mut response = http::Response::new(full(format!("answer of {uri}")));
            *response.status_mut() = http::StatusCode::CREATED;
            response.headers_mut().insert("x-service", http::HeaderValue::from_static("yes"));
            response
        }
    };
    crew.spawn(serve_plain(Limits::default(), listener, stop.clone(), handler));
    (port, seen)
}

async fn heard(seen: &Seen, uri: &str, body: &str) {
    let wanted = (uri.to_owned(), body.to_owned());
    soon(uri, async {
        while !seen.lock().unwrap().contains(&wanted) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

struct Ends {
    mqtt: u16,
    bus: u16,
}

async fn start_edge(road: &Road, ends: &Ends) -> (Stop, Crew) {
    let kubeconfig = road.config.kubeconfig.clone().unwrap();
    let token = TokenDesk::open(&kubeconfig).await.unwrap().cluster_token().await.unwrap();
    let ports = &road.config.hub;
    let mut config = EdgeConfig::for_data_dir(&UpEdge {
        data_dir: kubeconfig.parent().unwrap().join("node"),
        node: name("n1"),
        cloud_host: "127.0.0.1".to_owned(),
        websocket_port: ports.websocket.port(),
        https_port: ports.https.port(),
        stream_port: 1,
        mqtt_port: ends.mqtt,
        kubelet_port: 0,
        token,
        labels: BTreeMap::new(),
    })
    .unwrap();
    config.runtime.containerd = Containerd::Off;
    config.stream.enabled = false;
    config.service_bus.enabled = true;
    config.service_bus.listen.set_port(ends.bus);
    let edge = Edge::open(config).await.unwrap();
    let (stop, mut crew) = (Stop::new(), Crew::new());
    let running = stop.clone();
    crew.spawn(async move {
        edge.run(running).await.unwrap();
    });
    (stop, crew)
}

async fn create(road: &Road, service: u16) {
    let endpoint = |name: &str, kind: &str, properties: Value| {
        json!({"apiVersion": "rules.kubeedge.io/v1", "kind": "RuleEndpoint",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"ruleEndpointType": kind, "properties": properties}})
    };
    let rule = |name: &str, source: (&str, Value), target: (&str, Value)| {
        json!({"apiVersion": "rules.kubeedge.io/v1", "kind": "Rule",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"source": source.0, "sourceResource": source.1, "target": target.0, "targetResource": target.1}})
    };
    let at = |path: &str| format!("http://127.0.0.1:{service}{path}");
    let rules = [
        rule("down", ("rest", json!({"path": "/in"})), ("bus", json!({"topic": "down"}))),
        rule(
            "up",
            ("bus", json!({"topic": "up", "node_name": "n1"})),
            ("rest", json!({"resource": at("/sink")})),
        ),
        rule("call", ("rest", json!({"path": "/call"})), ("service", json!({"path": "/svc"}))),
        rule(
            "back",
            ("service", json!({"target_url": at("/back"), "node_name": "n1"})),
            ("rest", json!({"resource": at("/back")})),
        ),
    ];
    for rule in rules {
        road.local.create(&RULES, rule).await.unwrap();
    }
    for endpoint in [
        endpoint("rest", "rest", json!({})),
        endpoint("bus", "eventbus", json!({})),
        endpoint("service", "servicebus", json!({"service_port": service.to_string()})),
    ] {
        road.local.create(&ENDPOINTS, endpoint).await.unwrap();
    }
}

async fn post(url: &str, body: &str) -> Option<(u16, String)> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.post(url).body(body.to_owned()).send().await.ok()?;
    Some((response.status().as_u16(), response.text().await.ok()?))
}

/// Posts until the answer has this status.
async fn answered(url: &str, body: &str, status: u16) -> String {
    soon(url, async {
        loop {
            match post(url, body).await {
                Some((found, text)) if found == status => return text,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await
}

/// All four ways of a rule.
async fn walk(road: &Road, ends: &Ends, (service, seen): (u16, &Seen), round: &str) {
    let router = format!("http://{}", road.config.router.listen);
    answered(&format!("{router}/n1/default/call"), round, 201).await;
    let mut client = Client::connect(&format!("127.0.0.1:{}", ends.mqtt)).await.unwrap();
    client.subscribe(&["down/#"]).await.unwrap();
    assert_eq!(answered(&format!("{router}/n1/default/in/a"), round, 200).await, "message delivered");
    let (topic, payload) = soon("the message", client.next()).await.unwrap();
    assert_eq!((&*topic, &payload[..]), ("down/a", round.as_bytes()));

    let call = answered(&format!("{router}/n1/default/call/x?y=1"), round, 201).await;
    assert_eq!(call, "answer of /svc/x?y=1");
    heard(seen, "/svc/x?y=1", round).await;

    let program =
        json!({"method": "POST", "targetURL": format!("http://127.0.0.1:{service}/back")}).to_string();
    let bus = format!("http://127.0.0.1:{}/", ends.bus);
    let word: Value = serde_json::from_str(&answered(&bus, &program, 200).await).unwrap();
    assert_eq!((&word["code"], &word["body"]), (&json!(200), &json!("answer of /back")), "{word}");

    // The order to listen may still be on its way.
    let repeated = async {
        loop {
            client.publish("default/up", round.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = repeated => {}
        () = heard(seen, "/sink", round) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_carry_messages_all_four_ways_and_over_restarts() {
    let mut road = Road::open().await;
    road.stop_cloud().await;
    road.config.router.enabled = true;
    road.config.router.listen = ([127, 0, 0, 1], free_port()).into();
    road.start_cloud().await;
    let (stop, mut crew) = (Stop::new(), Crew::new());
    let (port, seen) = service(&mut crew, &stop).await;
    create(&road, port).await;
    let ends = Ends { mqtt: free_port(), bus: free_port() };
    let (end, mut edge) = start_edge(&road, &ends).await;
    walk(&road, &ends, (port, &seen), "first").await;

    let router = format!("http://{}", road.config.router.listen);
    assert_eq!(post(&format!("{router}/n9/default/in"), "x").await.unwrap().0, 500, "no session");
    assert_eq!(post(&format!("{router}/n1/default/nothing"), "x").await.unwrap().0, 404);
    assert_eq!(
        post(&format!("{router}/n1/default/in"), &"x".repeat(13 << 20)).await.map_or(413, |a| a.0),
        413
    );
    road.wait(&RULES, (Some("default"), "up"), |rule| {
        rule.pointer("/status/successMessages").and_then(Value::as_i64).is_some_and(|count| count >= 1)
    })
    .await;

    end.raise();
    soon("the edge's end", edge.finish()).await;
    let (end, mut edge) = start_edge(&road, &ends).await;
    walk(&road, &ends, (port, &seen), "after the edge's restart").await;
    road.stop_cloud().await;
    road.start_cloud().await;
    walk(&road, &ends, (port, &seen), "after the cloud's restart").await;
    end.raise();
    soon("the edge's end", edge.finish()).await;
    stop.raise();
}
