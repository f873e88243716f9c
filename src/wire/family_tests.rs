//! The families of messages that the recordings lack, in the forms of protocol.md §4 and its appendix B.

use super::csi::{VolumeOrder, VolumeResult, VolumeVerb};
use super::dynamic::{AppTarget, AppVerb, Application, Change, WatchEvent};
use super::task::*;
use super::user::{HttpRequest, HttpResponse, RouterOrder, UPLOAD_LIMIT, call_address};
use super::*;
use crate::model::{Kind, ObjectKey, Revision, Status};
use serde_json::{Value, json};

fn envelope(message: Value) -> Envelope {
    Envelope::decode(message.to_string().as_bytes()).unwrap()
}

fn message(source: &str, group: &str, operation: &str, resource: &str, content: Value) -> Value {
    let mut route = json!({"source": source, "group": group});
    for (key, text) in [("operation", operation), ("resource", resource)] {
        if !text.is_empty() {
            route[key] = text.into();
        }
    }
    json!({"header": {"msg_id": "m", "timestamp": 1}, "route": route, "content": content})
}

fn answering(parent: &str, mut message: Value) -> Value {
    message["header"]["parent_msg_id"] = parent.into();
    message
}

/// What the edge says is understood as expected and written as it came.
fn says(message: Value, expected: &Up) -> Question {
    let original = envelope(message);
    let question = decode_up(original.clone());
    assert_eq!(&question.up, expected);
    let written = encode_up(&question.up).unwrap();
    assert_eq!(written.route, original.route);
    assert_eq!(written.content, original.content);
    assert_eq!(written.header.parent_msg_id, original.header.parent_msg_id);
    question
}

/// What the cloud says is understood as expected and written as it came.
fn hears(message: Value, expected: &Down) {
    let original = envelope(message);
    let down = decode_down(original.clone());
    assert_eq!(&down, expected);
    assert_eq!(encode_down(down.clone()).map(decode_down).map(without_id), Some(without_id(down.clone())));
    let written = encode_down(down).unwrap();
    assert_eq!(written.route, original.route);
    assert_eq!(written.content, original.content);
    assert_eq!(written.header.resourceversion, original.header.resourceversion);
}

fn without_id(down: Down) -> Down {
    match down {
        Down::Volume(order) => Down::Volume(VolumeOrder { id: MessageId::default(), ..order }),
        other => other,
    }
}

fn answer(question: Question, result: Result<Value, Status>) -> Envelope {
    encode_down(Down::Reply { to: question, result }).unwrap()
}

fn read(envelope: Envelope) -> Answer {
    match decode_down(envelope) {
        Down::Answer { answer, .. } => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn statuses_of_old_edges() {
    let pod = json!({"UID": "u", "Name": "p", "Status": {"phase": "Running"}});
    let report: PodStatusReport = serde_json::from_value(pod.clone()).unwrap();
    let up = |named, pods| Up::PodStatus { namespace: "default".to_owned(), pods, named };
    let one = message("edged", "meta", "update", "default/podstatus/p", pod.clone());
    let question = says(one, &up(true, vec![report.clone()]));
    let reply = answer(question, Ok(json!("OK")));
    assert_eq!((reply.content, reply.route.resource.as_str()), (json!("OK"), "default/podstatus/p"));
    let all = message("edged", "meta", "update", "default/podstatus", json!([pod, pod]));
    says(all, &up(false, vec![report.clone(), report]));

    let content = json!({"UID": "u", "Status": {}, "ExtendResources": {"nvidia.com/gpu": [{"name": "g"}]}});
    let up = Up::NodeStatus { verb: Verb::Update, name: "n".to_owned(), status: content.clone() };
    let question = says(message("edged", "meta", "update", "default/nodestatus/n", content), &up);
    let reply = answer(question, Ok(json!({"metadata": {"resourceVersion": "7"}})));
    assert_eq!((reply.content, reply.header.resourceversion.as_str()), (json!("OK"), "7"));
    let node = json!({"metadata": {"name": "n"}});
    let up = Up::NodeStatus { verb: Verb::Insert, name: "n".to_owned(), status: node.clone() };
    says(message("edged", "meta", "insert", "default/nodestatus/n", node), &up);
}

#[test]
fn the_clusters_authority_and_certificates() {
    let ask = message("metamanager", "meta", "query", "k8s/ca.crt", Value::Null);
    let question = says(ask.clone(), &Up::ClusterCa);
    let reply = answer(question, Ok(json!("-----BEGIN")));
    assert_eq!((reply.route.source.as_str(), reply.route.operation.as_str()), ("cloudhub", "response"));
    assert_eq!((reply.route.group.as_str(), reply.route.resource.as_str()), ("resource", "k8s/ca.crt"));
    assert_eq!(read(reply), Answer::Text("-----BEGIN".to_owned()));
    let refused = answer(says(ask, &Up::ClusterCa), Err(Status::failure(503, "ServiceUnavailable", "away")));
    assert!(matches!(read(refused), Answer::Failed(status) if status.code == 503));

    let request = json!({"metadata": {"name": "c"}, "spec": {"signerName": "kubernetes.io/kubelet-serving"}});
    let path = "default/certificatesigningrequest/c";
    let up = Up::CertificateRequest { name: "c".to_owned(), request: request.clone() };
    let question = says(message("edged", "meta", "insert", path, request.clone()), &up);
    assert_eq!(read(answer(question.clone(), Ok(request.clone()))), Answer::Object(request.clone()));
    let failed = answer(question, Err(Status::failure(409, "AlreadyExists", "it exists")));
    assert!(failed.content["Object"]["spec"].is_object());
    let query = Up::Query { key: ObjectKey::cluster(Kind::CertificateSigningRequest, "c") };
    let question = says(message("edged", "meta", "query", path, Value::Null), &query);
    let reply = answer(question, Ok(request.clone()));
    assert_eq!((reply.content, reply.header.resourceversion.as_str()), (request, ""));
}

#[test]
fn nodes_are_answered_on_the_path_that_was_asked() {
    for path in ["default/node/n", "null/node/n"] {
        let question = decode_up(envelope(message("edged", "meta", "query", path, Value::Null)));
        assert_eq!(question.up, Up::Query { key: ObjectKey::cluster(Kind::Node, "n") });
        let reply = answer(question, Ok(json!({"metadata": {"name": "n", "resourceVersion": "3"}})));
        assert_eq!((reply.route.resource.as_str(), reply.header.resourceversion.as_str()), (path, "3"));
    }
}

#[test]
fn events_in_every_form() {
    let event = json!({"metadata": {"name": "e"}, "reason": "Started"});
    for (word, verb) in [("insert", Verb::Insert), ("update", Verb::Update)] {
        let up =
            Up::Event { verb, namespace: "default".to_owned(), name: "e".to_owned(), event: event.clone() };
        says(message("edged", "meta", word, "default/event/e", event.clone()), &up);
    }
    let patch = r#"{"count":2}"#;
    let up = Up::EventPatch {
        namespace: "default".to_owned(),
        name: "e".to_owned(),
        event: event.clone(),
        patch: patch.to_owned(),
    };
    let content = json!({"event": event, "patchData": patch});
    assert!(!up.expects_answer());
    says(message("edged", "meta", "patch", "default/event/e", content), &up);
}

fn application() -> Value {
    json!({"ID": "f".repeat(64), "Key": "/core/v1/pods/default/null", "Verb": "list", "Nodename": "n1",
        "Option": "eyJsYWJlbFNlbGVjdG9yIjoiYT1iIn0=", "ReqBody": null, "Subresource": "", "RespBody": null,
        "Status": "InApplying", "Reason": "", "Error": {"ErrStatus": {"metadata": {}}},
        "Timestamp": "0001-01-01T00:00:00Z"})
}

#[test]
fn applications_and_their_answers() {
    let parsed: Application = serde_json::from_value(application()).unwrap();
    let up = Up::Application(Box::new(parsed.clone()));
    let question = says(message("metaserver", "dynamiccontroller", "null", "null", application()), &up);
    let Some(AppTarget::Resource(target)) = parsed.target() else { panic!() };
    assert_eq!((target.group.as_str(), target.version.as_str(), target.plural.as_str()), ("", "v1", "pods"));
    assert_eq!((target.namespace.as_deref(), target.name), (Some("default"), None));

    let reply = answer(question.clone(), Ok(json!({"items": []})));
    assert_eq!(reply.route.source, "dynamiccontroller");
    assert_eq!(reply.route.resource, "ignore/Application/ignore");
    assert_eq!(reply.route.operation, "applicationResponse");
    let mut expected = application();
    expected["Status"] = "Approved".into();
    expected["RespBody"] = "eyJpdGVtcyI6W119".into();
    assert_eq!(reply.content, expected);
    assert_eq!(acknowledgement(&reply), None);
    let body = Application::outcome(read(reply)).unwrap();
    assert_eq!(body.as_deref(), Some(&br#"{"items":[]}"#[..]));

    let reply = answer(question.clone(), Err(Status::not_found("pods", "p")));
    assert_eq!(reply.content["Status"], "Rejected");
    assert_eq!(reply.content["Error"]["ErrStatus"]["code"], 404);
    assert!(Application::outcome(read(reply)).unwrap_err().is_not_found());
    let reply = answer(question.clone(), Err(Status { message: "offline".to_owned(), ..Status::default() }));
    assert_eq!(
        (reply.content["Reason"].as_str(), reply.content["Status"].as_str()),
        (Some("offline"), Some("Rejected"))
    );
    assert_eq!(Application::outcome(read(answer(question, Ok(Value::Null)))), Ok(None));
}

#[test]
fn an_applications_id_is_the_digest_of_its_request() {
    let app =
        Application::new("n1", "/core/v1/pods/default/null".to_owned(), AppVerb::List, Some(b"{}".to_vec()));
    // printf 'n1/core/v1/pods/default/nulllist{}' | sha256sum
    assert_eq!(app.id, "97609eaf52e98548971091b015eec23657bdf36c9f9f4ccef7eb42747e0d207c");
    let paths = [
        ("/version", true),
        ("/apis/apps/v1", true),
        ("/apis/apps/v1/", true),
        ("/api", true),
        ("/", false),
        ("/metrics", false),
        ("/logs/kubelet.log", false),
        ("/apis/../logs", false),
        ("/api/v1/namespaces", false),
    ];
    for (path, allowed) in paths {
        let app = Application::new("n1", path.to_owned(), AppVerb::Get, None);
        assert_eq!(app.target().is_some(), allowed, "{path}");
        let app = Application::new("n1", path.to_owned(), AppVerb::Delete, None);
        assert_eq!(app.target(), None, "{path}");
    }
}

#[test]
fn watches_are_agreed_upon_and_their_events_are_acknowledged() {
    let content = json!({"w1": application(), "w2": application()});
    let all = serde_json::from_value(content.clone()).unwrap();
    let ask = message("metaserver", "dynamiccontroller", "null", "watchapp/sync", content);
    let question = says(ask, &Up::WatchSync(all));
    let reply = answer(question.clone(), Ok(json!({"w2": Status::failure(403, "Forbidden", "no")})));
    assert_eq!(
        (reply.route.resource.as_str(), reply.route.operation.as_str()),
        ("watchapp/sync", "applicationResponse")
    );
    assert_eq!(reply.content.as_object().unwrap().len(), 1);
    assert_eq!(reply.content["w2"]["Error"]["ErrStatus"]["code"], 403);
    let refused = answer(question.clone(), Err(Status::failure(503, "ServiceUnavailable", "off")));
    assert_eq!(refused.content.as_object().unwrap().len(), 2);
    assert_eq!(answer(question, Ok(Value::Null)).content, json!({}));

    let object =
        json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "d", "namespace": "x"}});
    let mut event = message("dynamiccontroller", "resource", "update", "x/deployment/d", object.clone());
    event["header"]["resourceversion"] = "12".into();
    let expected = Down::Watched(Box::new(WatchEvent {
        change: Change::Update,
        namespace: Some("x".to_owned()),
        kind: "deployment".to_owned(),
        name: "d".to_owned(),
        revision: Some(Revision(12)),
        object,
    }));
    assert_eq!(delivery_of(&expected), Delivery::Acknowledged);
    let owed = acknowledgement(&envelope(event.clone())).unwrap();
    assert_eq!(owed.route.source, "dynamiccontroller");
    hears(event, &expected);
}

#[test]
fn volumes_and_their_results() {
    let request = json!({"name": "pvc-1", "capacity_range": {"required_bytes": "1"}});
    let expected = Down::Volume(VolumeOrder {
        id: MessageId("m".to_owned()),
        volume: "v-1".to_owned(),
        verb: VolumeVerb::Create,
        request: request.clone(),
    });
    assert_eq!(delivery_of(&expected), Delivery::Once);
    let order =
        message("cloudhub", "resource", "createvolume", "default/volume/v-1", request.to_string().into());
    assert_eq!(acknowledgement(&envelope(order.clone())), None);
    hears(order, &expected);

    let result = json!({"volume": {"volume_id": "v-1"}});
    let base64 = Blob(result.to_string().into_bytes()).text();
    let of = MessageId("m".to_owned());
    let up = Up::VolumeResult(VolumeResult {
        of: of.clone(),
        volume: "v-1".to_owned(),
        outcome: Ok(result.clone()),
    });
    for content in [result.clone(), result.to_string().into(), base64.clone().into()] {
        let message =
            answering("m", message("metamanager", "resource", "response", "default/volume/v-1", content));
        assert_eq!(decode_up(envelope(message)).up, up);
    }
    let genuine = message("metamanager", "resource", "response", "default/volume/v-1", base64.into());
    says(answering("m", genuine), &up);
    for (operation, content, why) in
        [("error", json!("no driver"), "no driver"), ("response", Value::Null, "the node gives no result")]
    {
        let message =
            answering("m", message("metamanager", "resource", operation, "default/volume/v-1", content));
        let outcome = Err(why.to_owned());
        let failed = VolumeResult { of: of.clone(), volume: "v-1".to_owned(), outcome };
        assert_eq!(decode_up(envelope(message)).up, Up::VolumeResult(failed));
    }
}

#[test]
fn tasks_of_both_versions() {
    let path = "operations.kubeedge.io/v1alpha2/imageprepulljob/job1/node/n1";
    let spec = json!({"imagePrePullTemplate": {"images": ["docker.io/library/nginx:1.27"], "nodeNames": ["n1"], "retryTimes": 1}});
    let target = JobTarget { kind: JobKind::ImagePrePull, job: "job1".to_owned(), node: "n1".to_owned() };
    let order = TaskOrder::Job { target: target.clone(), action: "Check".to_owned(), spec: spec.clone() };
    assert_eq!(delivery_of(&Down::Task(order.clone())), Delivery::Once);
    hears(message("taskmanager", "taskmanager", "Check", path, spec), &Down::Task(order));
    let content = json!({"action": "Pull", "succ": true, "finishTime": "2026-01-01T00:00:17Z", "reason": "",
        "extend": "[{\"image\":\"docker.io/library/nginx:1.27\",\"status\":\"True\"}]"});
    let outcome: ActionOutcome = serde_json::from_value(content.clone()).unwrap();
    let up = Up::Task(Box::new(TaskReport::Action { target, outcome }));
    assert!(!up.expects_answer());
    says(message("websocket", "hub", "UpdateNodeActionStatus", path, content), &up);

    let item = json!({"Images": ["i"], "NodeName": "n1", "Secret": "", "RetryTimes": 1, "CheckItems": null});
    let content = json!({"TaskID": "t1", "Type": "prepull", "State": "Pulling", "Item": item});
    let order = TaskOrder::Stage {
        kind: StageKind::PrePull,
        task: "t1".to_owned(),
        node: "n1".to_owned(),
        state: "Pulling".to_owned(),
        item,
    };
    hears(
        message("taskmanager", "taskmanager", "prepull", "prepull/t1/node/n1", content),
        &Down::Task(order),
    );
    let request = json!({"UpgradeID": "t1", "HistoryID": "h", "Version": "v1.15.0", "UpgradeTool": "keadm"});
    let order = TaskOrder::Upgrade { task: "t1".to_owned(), node: "n1".to_owned(), request: request.clone() };
    let old = "nodeupgradejobcontroller";
    hears(message(old, old, "upgrade", "upgrade/t1/node/n1", request), &Down::Task(order));

    let content = json!({"NodeName": "n1", "State": "", "Event": "Pull", "Action": "Success", "Reason": "",
        "Time": "", "ExternalMessage": ""});
    let facts: StageFacts = serde_json::from_value(content.clone()).unwrap();
    let report =
        StageReport { kind: StageKind::PrePull, task: "t1".to_owned(), node: "n1".to_owned(), facts };
    let report = TaskReport::Stage(report);
    let body = content.to_string();
    assert_eq!(TaskReport::of_request("prepull", "t1", "n1", body.as_bytes()), Some(report.clone()));
    says(message("websocket", "hub", "prepull", "task/t1/node/n1", content), &Up::Task(Box::new(report)));
    let body = json!({"UpgradeID": "t", "NodeName": "n", "Status": "upgrade_success"}).to_string();
    let report = TaskReport::of_upgrade(body.as_bytes()).unwrap();
    assert!(matches!(report, TaskReport::Stage(StageReport { facts, .. }) if facts.action == "Success"));
    assert_eq!(TaskReport::of_upgrade(b"{}"), None);
}

#[test]
fn an_operation_outside_the_flow_is_told_apart() {
    assert!(JobKind::ConfigUpdate.has("RollBack") && JobKind::NodeUpgrade.has("WaitingConfirmation"));
    assert!(!JobKind::ImagePrePull.has("RollBack") && !JobKind::ImagePrePull.has("Upgrade"));
    for resource in ["operations.kubeedge.io/v1alpha2/otherjob/j/node/n", "x/y/node/n", "upgrade/t/node", ""]
    {
        let order = message("taskmanager", "taskmanager", "Check", resource, json!({}));
        assert!(matches!(decode_down(envelope(order)), Down::Unknown { .. }), "{resource}");
    }
}

#[test]
fn what_the_router_says() {
    let null = Value::Null;
    let topic = || "default/room/1".to_owned();
    let url = || "http://127.0.0.1:80/a".to_owned();
    for (source, operation, resource, content, order) in [
        ("router_eventbus", "subscribe", topic(), null.clone(), RouterOrder::Subscribe { topic: topic() }),
        (
            "router_eventbus",
            "unsubscribe",
            topic(),
            null.clone(),
            RouterOrder::Unsubscribe { topic: topic() },
        ),
        ("router_servicebus", "start", url(), null.clone(), RouterOrder::Listen { url: url() }),
        ("router_servicebus", "stop", url(), null, RouterOrder::Unlisten { url: url() }),
        (
            "router_eventbus",
            "publish",
            "/a//b".to_owned(),
            json!("OK"),
            RouterOrder::Publish {
                id: MessageId("m".to_owned()),
                topic: "/a//b".to_owned(),
                payload: "OK".to_owned(),
            },
        ),
    ] {
        hears(message(source, "user", operation, &resource, content), &Down::Router(order));
    }
    let call = json!({"header": {"Content-Type": ["application/json"]}, "body": "eyJhIjoxfQ==", "method": "POST", "url": ""});
    let request: HttpRequest = serde_json::from_value(call.clone()).unwrap();
    assert_eq!(request.body.0, br#"{"a":1}"#);
    let order =
        RouterOrder::Call { id: MessageId("m".to_owned()), target: "8080:/hello".to_owned(), request };
    hears(message("router_servicebus", "user", "POST", "8080:/hello", call), &Down::Router(order));
    assert_eq!(call_address("8080:/hello"), Some((8080, "/hello")));
    for wrong in ["8080", "0:/a", "99999:/a", "80:/a:b", "80:a", ":/a", "127.0.0.1:80:/a"] {
        assert_eq!(call_address(wrong), None, "{wrong}");
    }
    let empty = json!({"header": null, "body": null, "method": "GET", "url": ""});
    assert_eq!(serde_json::from_value::<HttpRequest>(empty).unwrap().body.0, b"");
}

#[test]
fn what_users_on_the_node_say() {
    let up = Up::ServiceUpload { url: "/a".to_owned(), body: b"{}".to_vec() };
    let question = says(message("servicebus", "user", "upload", "/a", json!("e30=")), &up);
    // A service's words are no words to the edge.
    for body in ["OK", "{\"ErrStatus\":{\"code\":404}}", ""] {
        let reply = answer(question.clone(), Ok(json!(body)));
        assert_eq!((reply.route.source.as_str(), reply.route.group.as_str()), ("servicebus", "user"));
        assert_eq!((reply.route.resource.as_str(), reply.route.operation.as_str()), ("/a", "response"));
        assert_eq!(read(reply), Answer::Text(body.to_owned()));
    }
    assert!(matches!(read(answer(question, Err(Status::not_found("rules", "/a")))), Answer::Failed(_)));

    let content = json!({"header": {"Content-Length": ["2"]}, "status_code": 200, "body": "b2s="});
    let response: HttpResponse = serde_json::from_value(content.clone()).unwrap();
    let up = Up::ServiceReply { to: MessageId("r1".to_owned()), response };
    says(answering("r1", message("servicebus", "user", "upload", "", content.clone())), &up);
    // Error replies of a genuine edge have no operation.
    let bare = answering("r1", message("servicebus", "user", "", "", content));
    assert_eq!(decode_up(envelope(bare)).up, up);
    let failure = HttpResponse::failure(404, "error to call service");
    assert_eq!(failure.header["Server"], ["kubeedge-edgecore"]);
}

#[test]
fn user_payloads_are_limited() {
    let large = "x".repeat(UPLOAD_LIMIT + 1);
    let upload = message("bus", "user", "upload", "a/user/b", json!(large));
    let why = |up: Up| match up {
        Up::Unknown { why, .. } => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(decode_up(envelope(upload)).up), "the payload is larger than allowed");
    let body = Blob(large.into_bytes()).text();
    let upload = message("servicebus", "user", "upload", "/a", json!(body));
    assert_eq!(why(decode_up(envelope(upload)).up), "the payload is larger than allowed");
    let reply = json!({"header": {}, "status_code": 200, "body": body});
    let reply = answering("r", message("servicebus", "user", "upload", "", reply));
    assert_eq!(why(decode_up(envelope(reply)).up), "the payload is larger than allowed");
    let call = message("router_servicebus", "user", "POST", "80:/a", json!({"body": "no base64!"}));
    assert!(matches!(decode_down(envelope(call)), Down::Unknown { .. }));
}

#[test]
fn what_is_to_be_pulled_is_read_from_both_versions() {
    let job = json!({"imagePrePullTemplate": {"images": ["a", "b"], "imageSecrets": "ns/s", "retryTimes": 2, "checkItems": ["mem"]}});
    let expected = PullSpec {
        images: vec!["a".to_owned(), "b".to_owned()],
        secret: Some(("ns".to_owned(), "s".to_owned())),
        retries: 2,
        checks: vec![CheckItem::Memory],
    };
    assert_eq!(PullSpec::parse(&job).unwrap(), expected);
    let item = json!({"Images": ["a", "b"], "NodeName": "n", "Secret": "ns/s", "RetryTimes": 2, "CheckItems": ["mem"]});
    assert_eq!(PullSpec::parse(&item).unwrap(), expected);
    assert_eq!(PullSpec::parse(&json!({})).unwrap(), PullSpec::default());
    assert!(PullSpec::parse(&json!({"checkItems": ["moon"]})).is_err());
    assert!(PullSpec::parse(&json!({"imageSecrets": "a/b/c"})).is_err());
    let pulled = [
        Pulled { image: "a".to_owned(), failure: None },
        Pulled { image: "b".to_owned(), failure: Some("no".to_owned()) },
    ];
    assert_eq!(
        images_of_job(&pulled),
        r#"[{"image":"a","status":"True"},{"image":"b","reason":"no","status":"False"}]"#
    );
    assert_eq!(
        images_of_stage(&pulled),
        r#"[{"image":"a","state":"Successful"},{"image":"b","reason":"no","state":"Failed"}]"#
    );
}
