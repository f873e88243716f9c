//! The rarer messages of protocol.md §4 and §8 over the whole road: statuses of old edges, the cluster's authority,
//! events, tunnels of genuine edges.

use super::apiserver::local::Collection;
use super::cloud;
use super::road::{CONFIG_MAPS, Edge, NODES, PATIENCE, PODS, Road, pod, register, settings, soon};
use crate::link::Endpoint;
use crate::link::ws::{self, Outgoing, Received};
use crate::model::{Kind, Status};
use crate::pki::{Identity, client_config};
use crate::wire::csi::VolumeResult;
use crate::wire::dynamic::{AppVerb, Application, Change};
use crate::wire::task::{JobTarget, TaskOrder, TaskReport};
use crate::wire::tunnel::{Connect, FRAME_LIMIT, Frame, FrameKind};
use crate::wire::{Answer, Blob, Down, MessageId, PodStatusReport, Up, Verb};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const EVENTS: Collection = Collection::of("", "events");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_edges_report_whole_statuses() {
    let road = Road::open().await;
    let mut edge = road.edge("n1").await;
    let node = json!({"metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/edge": ""}}});
    for _ in 0..2 {
        let up = Up::NodeStatus { verb: Verb::Insert, name: "n1".to_owned(), status: node.clone() };
        assert_eq!(edge.ask(up).await, Answer::Ok);
    }
    let status = json!({"UID": "", "Status": {"conditions": [{"type": "Ready", "status": "True"}]},
        "ExtendResources": {"gpu": [{"name": "g"}]}});
    let up = Up::NodeStatus { verb: Verb::Update, name: "n1".to_owned(), status };
    assert_eq!(edge.ask(up).await, Answer::Ok);
    let node = road.local.get(&NODES, None, "n1").await.unwrap();
    assert_eq!(node["status"]["conditions"][0]["status"], "True");
    assert_eq!(node["metadata"]["annotations"]["gpu"], r#"[{"name":"g"}]"#);

    road.local.create(&CONFIG_MAPS, settings("1")).await.unwrap();
    let created = road.local.create(&PODS, pod("p", "n1")).await.unwrap();
    edge.object(Kind::Pod, "p").await;
    let uid = created["metadata"]["uid"].as_str().unwrap().to_owned();
    let report = |name: &str, uid: &str, phase: &str| PodStatusReport {
        uid: uid.to_owned(),
        name: name.to_owned(),
        status: json!({"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]}),
    };
    let one = vec![report("p", &uid, "Running")];
    let up = Up::PodStatus { namespace: "default".to_owned(), pods: one, named: true };
    assert_eq!(edge.ask(up).await, Answer::Ok);
    let stored = road.local.get(&PODS, Some("default"), "p").await.unwrap();
    assert_eq!(stored["status"]["phase"], "Running");
    assert!(stored["status"]["startTime"].is_string());

    // A pod that is gone is answered OK, and the edge is told so.
    let both = vec![report("p", &uid, "Running"), report("lost", "u-lost", "Running")];
    let up = Up::PodStatus { namespace: "default".to_owned(), pods: both, named: false };
    assert_eq!(edge.ask(up).await, Answer::Ok);
    edge.gone(Kind::Pod, "lost").await;
    edge.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_asks_for_the_clusters_authority_and_changes_events() {
    let road = Road::open().await;
    let edge = road.edge("n1").await;
    register(&edge, "n1").await;
    let Answer::Text(pem) = edge.ask(Up::ClusterCa).await else { panic!("PEM is answered") };
    let kubeconfig = std::fs::read_to_string(road.config.kubeconfig.as_ref().unwrap()).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let inner = crate::wire::Blob::parse(&body).unwrap();
    let pem = crate::wire::Blob(crate::pki::pem_certificate(&inner.0).into_bytes());
    assert!(kubeconfig.contains(&pem.text()), "{kubeconfig}");

    // In another's name, or for another purpose, no certificate is asked for.
    let request = json!({"metadata": {"name": "c"}, "spec": {"signerName": "kubernetes.io/kubelet-serving", "request": ""}});
    let up = Up::CertificateRequest { name: "c".to_owned(), request };
    assert!(matches!(edge.ask(up).await, Answer::Failed(status) if status.code == 403));

    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "Started", "count": 1});
    let (namespace, name) = ("default".to_owned(), "e".to_owned());
    let up = Up::Event { verb: Verb::Insert, namespace, name, event: event.clone() };
    edge.say("e1", up).await;
    road.wait(&EVENTS, (Some("default"), "e"), |event| event["count"] == 1).await;
    let (namespace, name) = ("default".to_owned(), "e".to_owned());
    let up = Up::EventPatch { namespace, name, event, patch: r#"{"count":2}"#.to_owned() };
    edge.say("e2", up).await;
    road.wait(&EVENTS, (Some("default"), "e"), |event| event["count"] == 2).await;
    edge.leave().await;
}

/// An edge's end of a tunnel that follows a genuine one: Text frames, no window, one answer per request.
async fn genuine_tunnel(road: &Road) {
    let endpoint = Endpoint::parse(&road.config.stream.tunnel.to_string(), 0).unwrap();
    let ca = std::fs::read_to_string(road.file("n1", "ca.crt")).unwrap();
    let identity = Identity::load(&road.file("n1", "node.crt"), &road.file("n1", "node.key")).unwrap();
    let tls = client_config(&ca, Some(&identity)).unwrap();
    let headers = [("SessionHostNameOverride", "n1"), ("SessionInternalIP", "192.0.2.2")];
    let connected =
        ws::connect(&endpoint, tls, "/v1/kubeedge/connect", &headers, FRAME_LIMIT, PATIENCE).await;
    let (mut writer, mut reader) = connected.unwrap();
    while let Some(Ok(received)) = reader.next().await {
        let Received::Data(bytes) = received else { continue };
        let frame = Frame::decode(bytes).unwrap();
        if frame.kind != FrameKind::LogsConnect {
            continue;
        }
        assert_eq!(Connect::decode(&frame.data).unwrap().connection, frame.connection);
        let text = format!("{}\n", frame.connection);
        for (kind, data) in [(FrameKind::Data, text.into_bytes()), (FrameKind::RemoveConnect, Vec::new())] {
            let frame = Frame::new(frame.connection, kind, data);
            writer.send(Outgoing::TextBytes(frame.encode().into())).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_of_genuine_edges_outlast_the_ids_that_are_text() {
    let road = Road::open().await;
    let edge = road.edge("n1").await;
    register(&edge, "n1").await;
    road.local.create(&CONFIG_MAPS, settings("1")).await.unwrap();
    road.local.create(&PODS, pod("p", "n1")).await.unwrap();
    let access = cloud::kubelet_access(&road.config).unwrap();
    let tls = client_config(&access.ca_pem, Some(&access.identity)).unwrap();
    let endpoint = Endpoint::parse(&road.config.stream.stream.to_string(), 0).unwrap();
    let read = async || {
        let request = http::Request::get("/containerLogs/default/p/c").body(Full::new(Bytes::new())).unwrap();
        let (code, body) =
            crate::link::fetch(&endpoint, tls.clone(), request, 1 << 20, PATIENCE).await.unwrap();
        (code.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    };
    let requests = async {
        let mut ids: Vec<u64> = Vec::new();
        while ids.last().is_none_or(|id| *id <= 300) {
            let (code, body) = read().await;
            // The tunnel or the pod may not be there yet.
            if code == 200 {
                ids.push(body.trim().parse().unwrap());
            }
        }
        assert!([127, 128, 300].iter().all(|id| ids.contains(id)), "{ids:?}");
    };
    tokio::select! {
        () = genuine_tunnel(&road) => panic!("the cloud closed the tunnel"),
        () = soon("the requests", requests) => {}
    }
    edge.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_off_is_refused_and_nothing_waits() {
    let road = Road::open().await;
    let edge = road.edge("n1").await;
    register(&edge, "n1").await;
    let app = Application::new("n1", "/core/v1/pods/default/null".to_owned(), AppVerb::List, None);
    let answer = edge.ask(Up::Application(Box::new(app))).await;
    assert_eq!(Application::outcome(answer).unwrap_err().code, 403);
    let call = Up::ServiceUpload { url: "/nowhere".to_owned(), body: Vec::new() };
    assert!(matches!(edge.ask(call).await, Answer::Failed(status) if status.is_not_found()));
    edge.leave().await;
}

const PULL_JOBS: Collection = Collection::of("operations.kubeedge.io", "imageprepulljobs");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_handed_to_its_node_and_its_end_is_recorded() {
    let road = Road::open().await;
    let mut edge = road.edge("n1").await;
    register(&edge, "n1").await;
    let spec = json!({"imagePrePullTemplate": {"images": ["busybox"], "nodeNames": ["n1", "n9"],
        "failureTolerate": "0.5"}});
    let job = json!({"apiVersion": "operations.kubeedge.io/v1alpha2", "kind": "ImagePrePullJob",
        "metadata": {"name": "j"}, "spec": spec});
    road.local.create(&PULL_JOBS, job).await.unwrap();
    let target = edge.until("the order", |down| match down {
        Down::Task(TaskOrder::Job { target, action, spec: told }) => {
            assert_eq!((action.as_str(), told), ("Check", &spec));
            Some(target.clone())
        }
        _ => None,
    });
    let target = target.await;
    let begun = |job: &serde_json::Value| job["status"]["nodeStatus"][0]["phase"] == "InProgress";
    let running = road.wait(&PULL_JOBS, (None, "j"), begun).await;
    let absent = json!({"nodeName": "n9", "phase": "Failure", "reason": "skipped: there is no edge node of this name"});
    assert_eq!(running["status"]["nodeStatus"][1], absent);
    for (action, extend) in [("Check", ""), ("Pull", r#"[{"image":"busybox","status":"True"}]"#)] {
        let finished = "2026-01-01T00:00:00Z".to_owned();
        let report = TaskReport::action(target.clone(), action, finished, Ok(()), extend.to_owned());
        edge.say(action, Up::Task(Box::new(report))).await;
    }
    let job = road.wait(&PULL_JOBS, (None, "j"), |job| job["status"]["phase"] == "Completed").await;
    let node = &job["status"]["nodeStatus"][0];
    assert_eq!((&node["phase"], &node["imageStatus"][0]["status"]), (&json!("Successful"), &json!("True")));
    assert_eq!(node["actionFlow"].as_array().unwrap().len(), 2);

    // Of another node's job a node says nothing.
    let other = JobTarget { node: "n9".to_owned(), ..target };
    let report = TaskReport::action(other, "Pull", String::new(), Ok(()), String::new());
    edge.say("other", Up::Task(Box::new(report))).await;
    assert!(matches!(edge.ask(Up::ClusterCa).await, Answer::Text(_)));
    let job = road.local.get(&PULL_JOBS, None, "j").await.unwrap();
    assert_eq!(job["status"]["nodeStatus"][1], absent);
    edge.leave().await;
}

const ROLES: Collection = Collection::of("rbac.authorization.k8s.io", "clusterroles");
const BINDINGS: Collection = Collection::of("rbac.authorization.k8s.io", "clusterrolebindings");
const SETTINGS: &str = "/core/v1/configmaps/default/null";

async fn asked(edge: &Edge, app: Application) -> Result<Option<Value>, Status> {
    let body = Application::outcome(edge.ask(Up::Application(Box::new(app))).await)?;
    Ok(body.map(|body| serde_json::from_slice(&body).unwrap()))
}

fn app(key: &str, verb: AppVerb) -> Application {
    Application::new("n1", key.to_owned(), verb, Some(b"{}".to_vec()))
}

async fn grant_nodes(road: &Road) {
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"],
        "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]}]);
    let group = "rbac.authorization.k8s.io";
    let role = json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": "maps"},
        "rules": rules});
    road.local.create(&ROLES, role).await.unwrap();
    let binding = json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding",
        "metadata": {"name": "maps"}, "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "maps"},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": "system:nodes"}]});
    road.local.create(&BINDINGS, binding).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_a_local_api_are_carried_out_with_the_nodes_rights() {
    let road = Road::open_with(|config| config.dynamic = true).await;
    let edge = road.edge("n1").await;
    register(&edge, "n1").await;
    road.local.create(&CONFIG_MAPS, settings("1")).await.unwrap();
    assert_eq!(asked(&edge, app(SETTINGS, AppVerb::List)).await.unwrap_err().code, 403);
    grant_nodes(&road).await;

    let list = asked(&edge, app(SETTINGS, AppVerb::List)).await.unwrap().unwrap();
    assert_eq!(list["items"][0]["data"]["k"], "1");
    let one = "/core/v1/configmaps/default/settings";
    let found = asked(&edge, app(one, AppVerb::Get)).await.unwrap().unwrap();
    assert_eq!(found["metadata"]["name"], "settings");
    let missing = app("/core/v1/configmaps/default/nothing", AppVerb::Get);
    assert!(asked(&edge, missing).await.unwrap_err().is_not_found());
    let secrets = app("/core/v1/secrets/default/null", AppVerb::List);
    assert_eq!(asked(&edge, secrets).await.unwrap_err().code, 403);

    let created =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own", "namespace": "default"}});
    let mut create = app(SETTINGS, AppVerb::Create);
    create.req_body = Some(Blob(created.to_string().into_bytes()));
    assert_eq!(asked(&edge, create).await.unwrap().unwrap()["metadata"]["name"], "own");
    let patch = json!({"Name": "own", "PatchType": "application/merge-patch+json",
        "Data": Blob(br#"{"data":{"a":"b"}}"#.to_vec()).text(), "Options": {}, "Subresources": [""]});
    let option = Some(patch.to_string().into_bytes());
    let own = "/core/v1/configmaps/default/own".to_owned();
    let patch = Application::new("n1", own.clone(), AppVerb::Patch, option);
    assert_eq!(asked(&edge, patch).await.unwrap().unwrap()["data"]["a"], "b");
    assert_eq!(asked(&edge, app(&own, AppVerb::Delete)).await.unwrap(), None);
    let version = asked(&edge, app("/version", AppVerb::Get)).await.unwrap().unwrap();
    assert!(version["gitVersion"].is_string(), "{version}");

    // In another node's name nothing is asked.
    let other = Application { nodename: "n2".to_owned(), ..app(one, AppVerb::Get) };
    assert_eq!(asked(&edge, other).await.unwrap_err().code, 403);
    edge.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_local_api_watches_is_told_until_it_is_named_no_more() {
    let road = Road::open_with(|config| config.dynamic = true).await;
    let mut edge = road.edge("n1").await;
    register(&edge, "n1").await;
    grant_nodes(&road).await;
    road.local.create(&CONFIG_MAPS, settings("1")).await.unwrap();
    let event = |down: &Down| match down {
        Down::Watched(event) if event.name == "settings" => {
            assert_eq!((event.kind.as_str(), event.namespace.as_deref()), ("configmap", Some("default")));
            assert_eq!(
                (&event.object["kind"], &event.object["apiVersion"]),
                (&json!("ConfigMap"), &json!("v1"))
            );
            Some((event.change, event.object["data"]["k"].clone()))
        }
        _ => None,
    };
    let wanted = app(SETTINGS, AppVerb::Watch);
    assert_eq!(asked(&edge, wanted.clone()).await.unwrap(), None);
    assert_eq!(edge.until("the first state", event).await, (Change::Insert, json!("1")));
    let mut changed =
        road.local.get(&CONFIG_MAPS, Some("default"), "settings").await.unwrap().as_ref().clone();
    changed["data"]["k"] = json!("2");
    road.local.update(&CONFIG_MAPS, changed).await.unwrap();
    assert_eq!(edge.until("the change", event).await, (Change::Update, json!("2")));

    // A sync keeps what it names, begins what is new, and tells what is refused.
    let refused = app("/core/v1/secrets/default/null", AppVerb::Watch);
    let all = [wanted, refused.clone()].map(|app| (app.id.clone(), app)).into();
    let Answer::Object(failed) = edge.ask(Up::WatchSync(all)).await else {
        panic!("the failed are answered")
    };
    assert_eq!(failed.as_object().unwrap().len(), 1);
    assert_eq!(failed[&refused.id]["Error"]["ErrStatus"]["code"], 403);
    road.local.delete(&CONFIG_MAPS, Some("default"), "settings", Default::default()).await.unwrap();
    assert_eq!(edge.until("the end", event).await.0, Change::Delete);

    assert_eq!(edge.ask(Up::WatchSync(Default::default())).await, Answer::Object(json!({})));
    road.local.create(&CONFIG_MAPS, settings("3")).await.unwrap();
    assert!(matches!(edge.ask(Up::ClusterCa).await, Answer::Text(_)));
    assert_eq!(edge.drain(event), [], "it is not watched any more");
    edge.leave().await;
}

/// What a storage driver of KubeEdge writes to the cloud's socket, and what it is answered.
async fn drive(road: &Road, letter: &str) -> Value {
    let path = road.config.volume_socket.as_ref().unwrap();
    let mut socket = tokio::net::UnixStream::connect(path).await.unwrap();
    // In two parts, and the driver's side stays open.
    let (first, second) = letter.split_at(letter.len() / 2);
    for part in [first, second] {
        socket.write_all(part.as_bytes()).await.unwrap();
        socket.flush().await.unwrap();
    }
    let mut answer = Vec::new();
    soon("the driver's answer", socket.read_to_end(&mut answer)).await.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_driver_has_a_node_create_a_volume() {
    let road = Road::open().await;
    let mut edge = road.edge("n1").await;
    register(&edge, "n1").await;
    let letter = |node: &str| {
        json!({"header": {"msg_id": "m1", "timestamp": 1}, "content": r#"{"name":"pvc-1"}"#,
            "route": {"source": "cloudhub", "group": "resource", "operation": "createvolume",
                "resource": format!("node/{node}/default/volume/v-1")}})
        .to_string()
    };
    let node = async {
        let order = edge.until("a volume order", |down| match down {
            Down::Volume(order) => Some(order.clone()),
            _ => None,
        });
        let order = order.await;
        assert_eq!((order.volume.as_str(), &order.request), ("v-1", &json!({"name": "pvc-1"})));
        // A result for another operation is nobody's.
        for (of, id) in [(MessageId("other".to_owned()), "wrong"), (order.id, "v-1")] {
            let outcome = Ok(json!({"volume": {"volume_id": id}}));
            let result = VolumeResult { of, volume: order.volume.clone(), outcome };
            edge.say(id, Up::VolumeResult(result)).await;
        }
    };
    let asked = letter("n1");
    let (answer, ()) = tokio::join!(drive(&road, &asked), node);
    assert_eq!(
        (&answer["header"]["parent_msg_id"], &answer["route"]["operation"]),
        (&json!("m1"), &json!("response"))
    );
    let content = Blob::parse(answer["content"].as_str().unwrap()).unwrap();
    let volume: Value = serde_json::from_slice(&content.0).unwrap();
    assert_eq!(volume, json!({"volume": {"volume_id": "v-1"}}));

    // A letter without an end is cut off.
    let mut socket =
        tokio::net::UnixStream::connect(road.config.volume_socket.as_ref().unwrap()).await.unwrap();
    while socket.write_all(&[b'['; 4096]).await.is_ok() {}

    // CVE-2022-31077 was `null` at this socket.
    for (letter, why) in [
        (letter("n2"), "node n2 is not connected"),
        ("null".to_owned(), "not a JSON object"),
        (letter("n1").replace("createvolume", "remove"), "none on volumes"),
        (letter("../n1"), "names no node"),
        (letter("n1").replace("v-1", "v/../1"), "names no volume"),
    ] {
        let answer = drive(&road, &letter).await;
        assert_eq!(answer["route"]["operation"], "error", "{answer}");
        assert!(answer["content"].as_str().unwrap().contains(why), "{answer}");
    }
    edge.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_goes_on_without_the_socket_of_storage_drivers() {
    let road = Road::open_with(|config| config.volume_socket = Some("/proc/kedge/volumes.sock".into())).await;
    let edge = road.edge("n1").await;
    register(&edge, "n1").await;
    edge.leave().await;
}
