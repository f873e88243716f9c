//! The whole road without containers: the embedded API, the cloud wing, and a real uplink over mutual TLS on 127.0.0.1.

use super::apiserver::local::{Collection, Local};
use super::apiserver::{self, ApiServer};
use super::cloud::{self, TokenDesk};
use super::edge::stream::{self, LogLines, LogRequest, MetricRequest, SessionRequest};
use super::edge::uplink::{self, Files, Inbound, Link, ReportKey, Uplink};
use crate::base::{BoxFuture, Crew, Failure, Module, Ready, Stop};
use crate::config::cloud::{CloudConfig, CloudPorts};
use crate::link::Endpoint;
use crate::model::{DeviceId, Kind, NodeName, Revision};
use crate::wire::{Answer, Down, LeaseVerb, MessageId, TwinReport, Up, Verb};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::Full;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

pub(super) const PATIENCE: Duration = Duration::from_secs(60);
pub(super) const PODS: Collection = Collection::of("", "pods");
pub(super) const CONFIG_MAPS: Collection = Collection::of("", "configmaps");
pub(super) const NODES: Collection = Collection::of("", "nodes");
const DEVICES: Collection = Collection::of("devices.kubeedge.io", "devices");
const MODELS: Collection = Collection::of("devices.kubeedge.io", "devicemodels");
const STATUSES: Collection = Collection::of("devices.kubeedge.io", "devicestatuses");
pub(super) const SYNCS: Collection = Collection::of("reliablesyncs.kubeedge.io", "objectsyncs");

pub(super) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| panic!("it takes too long: {what}"))
}

/// A port below those that the kernel gives to outgoing connections, so that none of them takes it meanwhile.
pub(super) fn free_port() -> u16 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(64);
    let candidates = std::iter::repeat_with(|| {
        let step = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        15_000 + u16::try_from(first.wrapping_add(step) % 15_000).unwrap()
    });
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    candidates.take(15_000).find(is_free).unwrap()
}

pub(super) fn run(crew: &mut Crew, stop: &Stop, mut module: impl Module) {
    let stop = stop.clone();
    crew.spawn(async move {
        let ready = Ready::detached(module.name());
        module.run(stop, ready).await.unwrap();
    });
}

pub(super) struct Road {
    dir: TempDir,
    pub config: CloudConfig,
    pub local: Local,
    cloud: Option<(Stop, Crew)>,
    _api: (Stop, Crew),
}

impl Road {
    pub(super) async fn open() -> Road {
        Road::open_with(|_| {}).await
    }

    pub(super) async fn open_with(change: impl FnOnce(&mut CloudConfig)) -> Road {
        crate::pki::install_crypto_provider();
        let dir = tempfile::tempdir().unwrap();
        let ports = CloudPorts {
            api: 0,
            websocket: free_port(),
            https: free_port(),
            stream: free_port(),
            tunnel: free_port(),
        };
        let mut config = CloudConfig::for_data_dir(dir.path(), ports).unwrap();
        change(&mut config);
        let access = cloud::kubelet_access(&config).unwrap();
        let kubelet = apiserver::KubeletEndpoint {
            address: access.address,
            identity: access.identity,
            ca_pem: access.ca_pem,
        };
        let wanted = apiserver::Config {
            kubelet: Some(kubelet),
            ..apiserver::Config::new(config.api.listen, config.api.data_dir.clone())
        };
        let server = tokio::task::spawn_blocking(move || ApiServer::open(wanted)).await.unwrap().unwrap();
        std::fs::write(dir.path().join("kubeconfig"), server.admin_kubeconfig()).unwrap();
        let local = server.local();
        let (stop, mut crew) = (Stop::new(), Crew::new());
        run(&mut crew, &stop, server.module());
        let mut road = Road { dir, config, local, cloud: None, _api: (stop, crew) };
        road.start_cloud().await;
        road
    }

    pub(super) async fn start_cloud(&mut self) {
        let (stop, mut crew) = (Stop::new(), Crew::new());
        let (observer, mut observed) = watch::channel(None);
        let running = cloud::run(self.config.clone(), stop.clone(), observer);
        crew.spawn(async move { running.await.unwrap() });
        soon("the cloud's modules", async {
            let handle = observed.wait_for(Option::is_some).await.unwrap().clone();
            assert!(handle.unwrap().all_ready().await);
        })
        .await;
        self.cloud = Some((stop, crew));
    }

    pub(super) async fn stop_cloud(&mut self) {
        let (stop, mut crew) = self.cloud.take().unwrap();
        stop.raise();
        soon("the cloud's end", crew.finish()).await;
    }

    pub(super) fn file(&self, node: &str, name: &str) -> PathBuf {
        self.dir.path().join(node).join(name)
    }

    /// An edge that is told by the records of what it has stored.
    pub(super) async fn edge(&self, node: &str) -> Edge {
        self.edge_that(node, false).await
    }

    pub(super) async fn edge_that(&self, node: &str, digests: bool) -> Edge {
        let desk = TokenDesk::open(&self.dir.path().join("kubeconfig")).await.unwrap();
        let token = desk.cluster_token().await.unwrap();
        let hub = &self.config.hub;
        let config = uplink::Config {
            files: Files {
                ca: self.file(node, "ca.crt"),
                cert: self.file(node, "node.crt"),
                key: self.file(node, "node.key"),
            },
            token: Some(token),
            heartbeat: Duration::from_millis(500),
            digests,
            ..uplink::Config::new(name(node), hub.websocket.to_string(), hub.https.to_string())
        };
        let (uplink, inbound, module) = uplink::new(config).unwrap();
        let (stop, mut crew) = (Stop::new(), Crew::new());
        run(&mut crew, &stop, module);
        let mut link = uplink.link();
        soon("the link", link.wait_for(|link| *link == Link::Up)).await.unwrap();
        Edge { uplink, inbound, seen: HashSet::new(), stop, crew }
    }

    pub(super) async fn wait(
        &self,
        collection: &Collection,
        place: (Option<&str>, &str),
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        soon(place.1, async {
            let mut watch = self.local.watch(collection, Revision(0));
            loop {
                if let Ok(object) = self.local.get(collection, place.0, place.1).await
                    && wanted(&object)
                {
                    return (*object).clone();
                }
                if watch.next().await.is_err() {
                    watch = self.local.watch(collection, Revision(0));
                }
            }
        })
        .await
    }
}

pub(super) struct Edge {
    pub uplink: Uplink,
    pub inbound: mpsc::Receiver<Inbound>,
    /// What was acknowledged: on a machine that is busy for five seconds it comes once more.
    seen: HashSet<MessageId>,
    stop: Stop,
    crew: Crew,
}

impl Edge {
    pub(super) async fn ask(&self, up: Up) -> Answer {
        self.uplink.ask(up, PATIENCE).await.unwrap()
    }

    /// Acknowledges everything until a message fits.
    pub(super) async fn until<T>(&mut self, what: &str, mut fits: impl FnMut(&Down) -> Option<T>) -> T {
        soon(what, async {
            loop {
                let inbound = self.inbound.recv().await.unwrap();
                if let Some(found) = self.take(inbound, &mut fits) {
                    return found;
                }
            }
        })
        .await
    }

    /// Acknowledges a message; one that was sent again is not looked at.
    fn take<T>(&mut self, inbound: Inbound, fits: &mut impl FnMut(&Down) -> Option<T>) -> Option<T> {
        let found = if self.seen.insert(inbound.id.clone()) { fits(&inbound.down) } else { None };
        inbound.receipt.stored();
        found
    }

    /// Acknowledges what has come so far.
    pub(super) fn drain<T>(&mut self, mut fits: impl FnMut(&Down) -> Option<T>) -> Vec<T> {
        let mut found = Vec::new();
        while let Ok(inbound) = self.inbound.try_recv() {
            found.extend(self.take(inbound, &mut fits));
        }
        found
    }

    /// A report that nobody answers.
    pub(super) async fn say(&self, key: &str, up: Up) {
        drop(self.uplink.report(ReportKey(key.to_owned()), up).await.unwrap());
    }

    pub(super) async fn object(&mut self, kind: Kind, name: &str) -> (Verb, Value) {
        self.until(name, |down| match down {
            Down::Object { verb, key, object, .. } if key.kind == kind && key.name == name => {
                Some((*verb, object.clone()))
            }
            _ => None,
        })
        .await
    }

    pub(super) async fn gone(&mut self, kind: Kind, name: &str) {
        self.until(name, |down| match down {
            Down::Delete { key, .. } if key.kind == kind && key.name == name => Some(()),
            _ => None,
        })
        .await;
    }

    pub(super) async fn leave(mut self) {
        self.stop.raise();
        soon("the edge's end", self.crew.finish()).await;
    }
}

pub(super) fn name(node: &str) -> NodeName {
    NodeName::new(node).unwrap()
}

pub(super) fn pod(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": {
        "nodeName": node, "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "busybox", "envFrom": [{"configMapRef": {"name": "settings"}}]}]}})
}

pub(super) fn settings(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "default"},
        "data": {"k": value}})
}

pub(super) async fn register(edge: &Edge, node: &str) -> Answer {
    let labels = json!({"node-role.kubernetes.io/edge": ""});
    let object = json!({"metadata": {"name": node, "labels": labels}, "spec": {}, "status": {}});
    edge.ask(Up::NodeInsert { name: node.to_owned(), node: object }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_registers_and_its_pod_goes_the_whole_way() {
    let road = Road::open().await;
    let mut edge = road.edge("n1").await;
    let Answer::Object(node) = register(&edge, "n1").await else { panic!("the Node is answered") };
    assert_eq!(node["metadata"]["labels"]["node-role.kubernetes.io/edge"], "");
    edge.object(Kind::Node, "n1").await;
    let Answer::Failed(status) = register(&edge, "n1").await else { panic!("it exists") };
    assert!(status.already_exists());
    let lease =
        json!({"metadata": {"name": "n1", "namespace": "kube-node-lease"}, "spec": {"holderIdentity": "n1"}});
    let up = Up::Lease {
        verb: LeaseVerb::Insert,
        namespace: "kube-node-lease".to_owned(),
        name: "n1".to_owned(),
        lease,
    };
    assert!(matches!(edge.ask(up).await, Answer::Object(_)));
    let other = Up::NodePatch { name: "n2".to_owned(), patch: "{}".to_owned() };
    assert!(matches!(edge.ask(other).await, Answer::Failed(_)), "a node speaks for itself only");

    road.local.create(&CONFIG_MAPS, settings("1")).await.unwrap();
    road.local.create(&PODS, pod("p", "n1")).await.unwrap();
    let (verb, pushed) = edge.object(Kind::Pod, "p").await;
    assert_eq!(verb, Verb::Insert);
    assert_eq!((&pushed["kind"], &pushed["apiVersion"]), (&json!("Pod"), &json!("v1")));
    let patch = json!({"status": {"phase": "Running"}}).to_string();
    let up = Up::PodPatch { namespace: "default".to_owned(), name: "p".to_owned(), patch };
    let Answer::Object(patched) = edge.ask(up).await else { panic!("the Pod is answered") };
    assert_eq!(patched["status"]["phase"], "Running");
    road.wait(&PODS, (Some("default"), "p"), |pod| pod["status"]["phase"] == "Running").await;

    let key = crate::model::ObjectKey::namespaced(Kind::ConfigMap, "default", "settings");
    let Answer::Object(map) = edge.ask(Up::Query { key }).await else { panic!("the ConfigMap is answered") };
    assert_eq!(map["data"]["k"], "1");
    let changed = json!({"data": {"k": "2"}});
    road.local.merge_patch(&CONFIG_MAPS, Some("default"), "settings", None, changed).await.unwrap();
    let wanted = |down: &Down| match down {
        Down::Object { key, object, .. } if key.name == "settings" => {
            (object["data"]["k"] == "2").then_some(())
        }
        _ => None,
    };
    edge.until("the changed ConfigMap", wanted).await;

    let missing = crate::model::ObjectKey::namespaced(Kind::ConfigMap, "default", "missing");
    assert!(matches!(edge.ask(Up::Query { key: missing }).await, Answer::Failed(_)));
    let record = format!("n1.{}", pushed["metadata"]["uid"].as_str().unwrap());
    let written = |sync: &Value| sync["status"]["objectResourceVersion"].as_str().is_some();
    let sync = road.wait(&SYNCS, (Some("default"), &record), written).await;
    assert_eq!(sync["spec"]["objectKind"], "Pod");
    edge.leave().await;
}

fn twin_report(value: &str, edge_version: i64, cloud_version: i64) -> Up {
    let twins = if edge_version == 0 {
        json!({"temperature": {"actual": {"value": value}, "metadata": {"type": "int"}}})
    } else {
        json!({"temperature": {"expected": {"value": value},
            "expected_version": {"cloud": cloud_version, "edge": edge_version}}})
    };
    Up::TwinReport(TwinReport {
        device: DeviceId::new("default", "t1"),
        event_id: "e".to_owned(),
        timestamp: crate::base::now_ms(),
        twins: serde_json::from_value(twins).unwrap(),
    })
}

async fn create_device(road: &Road) {
    let model = json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel",
        "metadata": {"name": "m", "namespace": "default"},
        "spec": {"properties": [{"name": "temperature", "type": "INT", "accessMode": "ReadWrite"}]}});
    road.local.create(&MODELS, model).await.unwrap();
    let device = json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
        "metadata": {"name": "t1", "namespace": "default"},
        "spec": {"nodeName": "n1", "deviceModelRef": {"name": "m"}, "protocol": {"protocolName": "virtual",
            "configData": {"any": {"thing": 1}}},
            "properties": [{"name": "temperature", "desired": {"value": "20"}}]}});
    road.local.create(&DEVICES, device).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_twin_goes_down_and_up_and_both_sides_converge() {
    let road = Road::open().await;
    let mut edge = road.edge("n1").await;
    register(&edge, "n1").await;
    create_device(&road).await;
    // Membership is not acknowledged and may overtake or be overtaken.
    let (mut member, mut model, mut pushed) = (false, false, None);
    let device = edge
        .until("the device", |down| {
            match down {
                Down::Membership(membership) => {
                    member |= membership.added == [DeviceId::new("default", "t1")]
                }
                Down::Object { key, .. } if key.kind == Kind::DeviceModel => model = true,
                Down::Object { key, object, .. } if key.kind == Kind::Device => {
                    assert!(model, "the model comes before its device");
                    pushed = Some(object.clone());
                }
                _ => {}
            }
            pushed.clone().filter(|_| member)
        })
        .await;
    assert_eq!(device["spec"]["protocol"]["configData"]["any"]["thing"], 1);

    let mut latencies = Vec::new();
    for value in 0..50 {
        let started = Instant::now();
        assert!(matches!(edge.ask(twin_report(&value.to_string(), 0, 0)).await, Answer::Ok));
        latencies.push(started.elapsed());
    }
    latencies.sort();
    println!("twin report until confirmed: median {:?}, worst {:?}", latencies[25], latencies[49]);
    let reported = |status: &Value| status["status"]["twins"][0]["reported"]["value"] == "49";
    let status = road.wait(&STATUSES, (Some("default"), "t1"), reported).await;
    assert_eq!(status["metadata"]["ownerReferences"][0]["uid"], device["metadata"]["uid"]);

    // Set at the edge while the Device did not change: the edge's value holds.
    let generation = device["metadata"]["generation"].as_i64().unwrap();
    assert!(matches!(edge.ask(twin_report("25", 1, generation)).await, Answer::Ok));
    let desired = |device: &Value| device["spec"]["properties"][0]["desired"]["value"] == "25";
    road.wait(&DEVICES, (Some("default"), "t1"), desired).await;
    let pushed = |down: &Down| match down {
        Down::Object { key, object, .. } if key.kind == Kind::Device => desired(object).then_some(()),
        _ => None,
    };
    edge.until("the Device with the edge's value", pushed).await;
    // Set at the edge against an older Device: the cloud's value is told again.
    assert!(matches!(edge.ask(twin_report("30", 1, generation)).await, Answer::Ok));
    edge.until("the Device with the cloud's value", pushed).await;

    road.local.delete(&DEVICES, Some("default"), "t1", Default::default()).await.unwrap();
    edge.gone(Kind::Device, "t1").await;
    edge.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_of_the_cloud_both_sides_converge() {
    let mut road = Road::open().await;
    let mut edge = road.edge("n1").await;
    register(&edge, "n1").await;
    road.local.create(&CONFIG_MAPS, settings("1")).await.unwrap();
    road.local.create(&PODS, pod("stays", "n1")).await.unwrap();
    edge.object(Kind::Pod, "stays").await;
    road.local.create(&PODS, pod("goes", "n1")).await.unwrap();
    let (_, goes) = edge.object(Kind::Pod, "goes").await;
    let record = format!("n1.{}", goes["metadata"]["uid"].as_str().unwrap());
    let written = |sync: &Value| sync["status"]["objectResourceVersion"].as_str().is_some();
    road.wait(&SYNCS, (Some("default"), &record), written).await;

    road.stop_cloud().await;
    let now = apiserver::local::Deletion { grace: Some(0), ..Default::default() };
    road.local.delete(&PODS, Some("default"), "goes", now).await.unwrap();
    let changed = json!({"data": {"k": "2"}});
    road.local.merge_patch(&CONFIG_MAPS, Some("default"), "settings", None, changed).await.unwrap();
    road.start_cloud().await;

    let (mut deleted, mut renewed) = (false, false);
    edge.until("what changed meanwhile", |down| {
        match down {
            Down::Delete { key, .. } if key.name == "goes" => deleted = true,
            Down::Object { key, object, .. } if key.name == "settings" => {
                renewed = object["data"]["k"] == "2"
            }
            _ => {}
        }
        (deleted && renewed).then_some(())
    })
    .await;
    let gone = soon("the record", async {
        loop {
            if road.local.get(&SYNCS, Some("default"), &record).await.is_err() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(gone.await);

    // The edge is back a moment after its session has ended, so it may be up again before this task sees it down.
    let mut link = edge.uplink.link();
    link.mark_unchanged();
    road.local.delete(&NODES, None, "n1", Default::default()).await.unwrap();
    soon("the session's end", link.changed()).await.unwrap();
    edge.leave().await;
}

/// A container runtime's streaming server for one session: it switches protocols and says what it hears.
fn echoing_session(request: SessionRequest) -> BoxFuture<'static, Result<String, String>> {
    Box::pin(async move {
        if request.container != "c" || request.command != ["cat"] {
            return Err(format!("container {} is not here", request.container));
        }
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/exec/t0k", server.local_addr().unwrap());
        // The server has to outlive this answer.
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let server = tokio::net::TcpListener::from_std(server.into_std().unwrap()).unwrap();
                let (mut stream, _) = server.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                assert!(head.starts_with(b"POST /exec/t0k HTTP/1.1\r\n"), "{}", head.escape_ascii());
                let answer =
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
                stream.write_all(answer).await.unwrap();
                let (mut reader, mut writer) = stream.split();
                drop(tokio::io::copy(&mut reader, &mut writer).await);
            });
        });
        Ok(url)
    })
}

/// Asks the kubelet API for a session as kube-apiserver does; the error is the beginning of another answer.
async fn session(
    road: &Road,
    path: &str,
) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, String> {
    let access = cloud::kubelet_access(&road.config).unwrap();
    let tls = crate::pki::client_config(&access.ca_pem, Some(&access.identity)).unwrap();
    let stream = tokio::net::TcpStream::connect(road.config.stream.stream).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await.unwrap();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: n1\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    if answer.starts_with("HTTP/1.1 101") { Ok(stream) } else { Err(answer[..12].to_owned()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_and_sessions_come_through_the_tunnel() {
    let road = Road::open().await;
    let edge = road.edge("n1").await;
    register(&edge, "n1").await;
    road.local.create(&CONFIG_MAPS, settings("1")).await.unwrap();
    road.local.create(&PODS, pod("p", "n1")).await.unwrap();
    let source = |request: LogRequest| -> BoxFuture<'static, Result<LogLines, String>> {
        Box::pin(async move {
            if request.container != "c" {
                return Err(format!("container {} is not here", request.container));
            }
            let line = Bytes::from("x".repeat(1023) + "\n");
            // Far more than fits into the window, so that credits have to flow.
            Ok(futures_util::stream::repeat(Ok(line)).take(20_000).boxed())
        })
    };
    let config = stream::Config {
        server: road.config.stream.tunnel.to_string(),
        node: name("n1"),
        node_ip: String::new(),
        ca_file: road.file("n1", "ca.crt"),
        cert_file: road.file("n1", "node.crt"),
        key_file: road.file("n1", "node.key"),
    };
    let (stop, mut crew) = (Stop::new(), Crew::new());
    let metrics = |request: MetricRequest| -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(async move {
            let more_than_a_window = Bytes::from("x 1\n".repeat(700_000));
            if request.query == "all" { Ok(more_than_a_window) } else { Err("it is not measured".to_owned()) }
        })
    };
    let sources = stream::Sources {
        logs: Arc::new(source),
        sessions: Arc::new(echoing_session),
        metrics: Arc::new(metrics),
    };
    let observed = stream::Observed::default();
    run(&mut crew, &stop, stream::new(config, sources, observed.clone()));
    let read = async |path: &str| -> Result<(u16, Vec<u8>), Failure> {
        let access = cloud::kubelet_access(&road.config)?;
        let tls = crate::pki::client_config(&access.ca_pem, Some(&access.identity))?;
        let endpoint = Endpoint::parse(&road.config.stream.stream.to_string(), 0).unwrap();
        let request = http::Request::get(path).body(Full::new(Bytes::new())).unwrap();
        let (code, body) = crate::link::fetch(&endpoint, tls, request, 64 << 20, PATIENCE).await.unwrap();
        Ok((code.as_u16(), body.to_vec()))
    };
    let whole = soon("the log", async {
        loop {
            let (code, body) = read("/containerLogs/default/p/c?follow=true").await.unwrap();
            // The tunnel or the pod may not be there yet.
            if code == 200 {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(whole.len(), 20_000 * 1024);
    let (code, body) = read("/containerLogs/default/p/other").await.unwrap();
    assert_eq!(
        (code, String::from_utf8_lossy(&body).into_owned()),
        (200, "container other is not here\n".to_owned())
    );
    // Of metrics nothing is given or all, and the node's own words where there are none.
    let of_node = async |path: &str| {
        let access = cloud::kubelet_access(&road.config).unwrap();
        let tls = crate::pki::client_config(&access.ca_pem, Some(&access.identity)).unwrap();
        let endpoint = Endpoint::parse(&road.config.stream.stream.to_string(), 0).unwrap();
        let forwarded = format!("/api/v1/nodes/n1/proxy{path}");
        let request = http::Request::get(path).header("X-Forwarded-Uri", forwarded);
        let request = request.body(Full::new(Bytes::new())).unwrap();
        crate::link::fetch(&endpoint, tls, request, 64 << 20, PATIENCE).await.unwrap()
    };
    let (code, body) = of_node("/metrics/resource?all").await;
    assert_eq!((code.as_u16(), body.len()), (200, 2_800_000));
    let (code, body) = of_node("/metrics/resource").await;
    assert_eq!(code.as_u16(), 502);
    assert!(String::from_utf8_lossy(&body).contains("it is not measured"), "{body:?}");
    assert_eq!(read("/metrics/resource").await.unwrap().0, 503, "no node has the name 127.0.0.1");
    for path in ["/exec/default/p/c", "/portForward/default/p"] {
        assert_eq!(read(path).await.unwrap().0, 400, "{path}: an upgrade is expected");
    }
    assert_eq!(session(&road, "/exec/default/p/other?command=cat").await.unwrap_err(), "HTTP/1.1 500");
    assert_eq!(session(&road, "/attach/default/p/c?command=cat").await.unwrap_err(), "HTTP/1.1 404");
    let mut spoken = session(&road, "/exec/default/p/c?command=cat&input=1&output=1").await.unwrap();
    let said: Vec<u8> = (0..200_000u32).flat_map(u32::to_be_bytes).collect();
    let (mut hear, mut say) = tokio::io::split(&mut spoken);
    let (sent, heard) = tokio::join!(say.write_all(&said), async {
        let mut heard = vec![0; said.len()];
        hear.read_exact(&mut heard).await.unwrap();
        heard
    });
    sent.unwrap();
    assert_eq!(heard, said);
    let tunnel = observed.now();
    assert!(
        tunnel.open && tunnel.since > 0 && tunnel.requests >= 5 && tunnel.last_request.is_some(),
        "{tunnel:?}"
    );
    edge.leave().await;
    stop.raise();
}
