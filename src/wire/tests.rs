//! Messages recorded between a genuine edgecore and a genuine cloudcore, and the forms of answers.

use super::*;
use crate::model::twin::{TwinProperty, TwinValue};
use crate::model::{DeviceId, Kind, ObjectKey, Revision, Status};
use proptest::prelude::*;
use serde_json::{Value, json};

const RECORDED: &str = include_str!("testdata/kubeedge-1.23.1-hub.jsonl");

fn recorded(direction: &str) -> Vec<Value> {
    let lines = RECORDED.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["dir"] == direction).map(|mut line| line["msg"].take()).collect()
}

fn envelope(message: &Value) -> Envelope {
    Envelope::decode(message.to_string().as_bytes()).unwrap()
}

#[test]
fn recorded_envelopes_are_written_as_they_were_read() {
    for direction in ["edge>cloud", "cloud>edge"] {
        for message in recorded(direction) {
            let text = envelope(&message).encode();
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), message);
        }
    }
}

#[test]
fn every_recorded_message_of_the_cloud_is_understood() {
    for message in recorded("cloud>edge") {
        let down = decode_down(envelope(&message));
        assert!(!matches!(down, Down::Unknown { .. }), "{down:?}");
        if let Down::Answer { answer: Answer::Failed(status), .. } = &down {
            assert_eq!(status.reason, "AlreadyExists");
        }
    }
}

#[test]
fn every_recorded_message_of_the_edge_is_understood_and_written_again() {
    for message in recorded("edge>cloud") {
        let question = decode_up(envelope(&message));
        assert!(!matches!(question.up, Up::Unknown { .. }), "{question:?}");
        if matches!(question.up, Up::Acknowledge { .. } | Up::MembershipDetail { .. }) {
            continue;
        }
        let mut written = encode_up(&question.up).unwrap();
        assert_eq!(written.route, envelope(&message).route);
        written.header = envelope(&message).header;
        let again = decode_up(written);
        assert_eq!(again.up, question.up);
    }
}

#[test]
fn recorded_answers_are_the_ones_kedge_gives() {
    let questions = recorded("edge>cloud");
    let mut compared = 0;
    for message in recorded("cloud>edge") {
        let original = envelope(&message);
        let Down::Answer { answer, .. } = decode_down(original.clone()) else { continue };
        let of = |question: &&Value| question["header"]["msg_id"] == message["header"]["parent_msg_id"];
        let question = questions.iter().find(of).unwrap_or_else(|| panic!("{message}"));
        let result = match answer {
            Answer::Object(object) => Ok(object),
            Answer::Ok => Ok(json!("OK")),
            Answer::Failed(status) => Err(status),
            Answer::Text(text) => Ok(json!(text)),
        };
        let to = decode_up(envelope(question));
        let wants_revision = !original.header.resourceversion.is_empty();
        let written = encode_down(Down::Reply { to, result }).unwrap();
        assert_eq!(written.route, original.route);
        assert_eq!(written.header.parent_msg_id, original.header.parent_msg_id);
        assert_eq!(!written.header.resourceversion.is_empty(), wants_revision, "{message}");
        // The object beside an error is filling.
        let told = |content: &Value| content.get("Err").filter(|e| !e.is_null()).unwrap_or(content).clone();
        assert_eq!(told(&written.content), told(&original.content));
        compared += 1;
    }
    assert!(compared >= 60, "{compared}");
}

#[test]
fn recorded_pushes_are_written_again() {
    for message in recorded("cloud>edge") {
        let original = envelope(&message);
        let down = decode_down(original.clone());
        if matches!(down, Down::Object { .. } | Down::Delete { .. }) {
            let written = encode_down(down).unwrap();
            assert_eq!(written.route, original.route);
            assert_eq!(written.content, original.content);
            assert_eq!(written.header.resourceversion, original.header.resourceversion);
        }
    }
}

#[test]
fn recorded_acknowledgements_are_the_ones_kedge_sends() {
    let acknowledgements = recorded("edge>cloud");
    let mut compared = 0;
    for message in recorded("cloud>edge") {
        let Some(own) = acknowledgement(&envelope(&message)) else { continue };
        let of = |ack: &&Value| ack["header"]["parent_msg_id"] == message["header"]["msg_id"];
        let Some(recorded) = acknowledgements.iter().find(of) else { continue };
        assert_eq!(own.route, envelope(recorded).route);
        assert_eq!(own.content, recorded["content"]);
        compared += 1;
    }
    assert!(compared >= 25, "{compared}");
}

fn question(up: Up) -> Question {
    let envelope = encode_up(&up).unwrap();
    decode_up(envelope)
}

fn answered(up: Up, result: Result<Value, Status>) -> Answer {
    let question = question(up);
    let id = question.id.clone();
    match decode_down(encode_down(Down::Reply { to: question, result }).unwrap()) {
        Down::Answer { to, answer } => {
            assert_eq!(to, id);
            answer
        }
        other => panic!("{other:?}"),
    }
}

fn questions() -> Vec<Up> {
    let (name, namespace) = ("n".to_owned(), "default".to_owned());
    let (node, request) = (json!({"metadata": {"name": "n"}}), json!({"spec": {}}));
    let verb = LeaseVerb::Insert;
    let mut all = vec![
        Up::NodeInsert { name: name.clone(), node: node.clone() },
        Up::NodePatch { name: name.clone(), patch: "{}".to_owned() },
        Up::PodPatch { namespace: namespace.clone(), name: name.clone(), patch: "{}".to_owned() },
        Up::PodInsert { namespace: namespace.clone(), name: name.clone(), pod: node.clone() },
        Up::TokenRequest { namespace: namespace.clone(), service_account: name.clone(), request },
        Up::Lease { verb, namespace: namespace.clone(), name: name.clone(), lease: node },
    ];
    for kind in [Kind::ConfigMap, Kind::Secret, Kind::Lease, Kind::PersistentVolumeClaim] {
        all.push(Up::Query { key: ObjectKey::namespaced(kind, "default", "n") });
    }
    for kind in [Kind::Node, Kind::PersistentVolume, Kind::VolumeAttachment, Kind::CertificateSigningRequest]
    {
        all.push(Up::Query { key: ObjectKey::cluster(kind, "n") });
    }
    all
}

#[test]
fn answers_arrive_as_they_were_given() {
    let object = json!({"metadata": {"name": "n", "resourceVersion": "7"}});
    let missing = Status::not_found("things", "n");
    for up in questions() {
        assert_eq!(question(up.clone()).up, up);
        assert_eq!(answered(up.clone(), Ok(object.clone())), Answer::Object(object.clone()), "{up:?}");
        match answered(up.clone(), Err(missing.clone())) {
            Answer::Failed(status) => {
                assert!(status.is_not_found(), "{up:?}");
                assert_eq!(status.message, missing.message);
            }
            other => panic!("{up:?} {other:?}"),
        }
        assert!(matches!(answered(up.clone(), Ok(Value::Null)), Answer::Failed(_)), "{up:?}");
    }
    let (namespace, name) = ("default".to_owned(), "p".to_owned());
    let delete = Up::PodDelete { namespace, name, options: json!({"gracePeriodSeconds": 0}) };
    assert_eq!(answered(delete, Ok(object)), Answer::Ok);
}

#[test]
fn a_failed_registration_never_crashes_an_edgecore() {
    let up = Up::NodeInsert { name: "n".to_owned(), node: Value::Null };
    for result in [Ok(Value::Null), Err(Status::default())] {
        let reply = encode_down(Down::Reply { to: question(up.clone()), result }).unwrap();
        assert!(reply.content["Object"].is_object());
        assert_eq!(reply.content["Err"]["ErrStatus"]["status"], "Failure");
    }
}

#[test]
fn a_missing_configmap_is_told_in_a_form_that_edgecore_does_not_store() {
    let up = Up::Query { key: ObjectKey::namespaced(Kind::ConfigMap, "default", "c") };
    let result = Err(Status::not_found("configmaps", "c"));
    let reply = encode_down(Down::Reply { to: question(up), result }).unwrap();
    assert_eq!(reply.route.operation, "error");
    assert_eq!(reply.content, "configmaps \"c\" not found (NotFound)");
}

#[test]
fn failures_of_a_genuine_cloud_are_read_in_every_form() {
    let status =
        json!({"metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404, "message": "m"});
    let answer = |operation: &str, content: Value| {
        let mut envelope = Envelope::default();
        envelope.header.parent_msg_id = MessageId("q".to_owned());
        envelope.route.group = "resource".to_owned();
        envelope.route.operation = operation.to_owned();
        envelope.content = content;
        match decode_down(envelope) {
            Down::Answer { answer, .. } => answer,
            other => panic!("{other:?}"),
        }
    };
    for content in [
        json!({"ErrStatus": status}),
        json!({"Object": null, "Err": {"ErrStatus": status}}),
        json!({"Object": {"metadata": {}}, "Err": {"ErrStatus": status}}),
        json!({"ErrStatus": status}).to_string().into(),
    ] {
        match answer("response", content.clone()) {
            Answer::Failed(status) => assert!(status.is_not_found()),
            other => panic!("{content} {other:?}"),
        }
    }
    let object = json!({"metadata": {"name": "x"}});
    for error in [Value::Null, json!({}), json!({"ErrStatus": {"metadata": {}}})] {
        let content = json!({"Object": object, "Err": error});
        assert_eq!(answer("response", content), Answer::Object(object.clone()));
    }
    assert!(matches!(answer("error", json!("not connected")), Answer::Failed(_)));
    assert_eq!(answer("response", json!("-----BEGIN")), Answer::Text("-----BEGIN".to_owned()));
}

#[test]
fn twin_confirmations_carry_no_failure() {
    let twin = TwinProperty {
        actual: Some(TwinValue { value: Some("42".to_owned()), metadata: None }),
        ..TwinProperty::default()
    };
    let up = Up::TwinReport(TwinReport {
        device: DeviceId::new("default", "t"),
        event_id: "e".to_owned(),
        timestamp: 1,
        twins: [("temperature".to_owned(), Some(twin)), ("gone".to_owned(), None)].into(),
    });
    assert_eq!(question(up.clone()).up, up);
    assert_eq!(answered(up.clone(), Ok(Value::Null)), Answer::Ok);
    let result = Err(Status::default());
    assert_eq!(encode_down(Down::Reply { to: question(up), result }), None);
}

#[test]
fn memberships_and_twins_survive_the_wire() {
    let membership =
        Down::Membership(Membership { added: vec![DeviceId::new("a", "b")], removed: Vec::new() });
    assert_eq!(decode_down(encode_down(membership.clone()).unwrap()), membership);
    let sync = Down::TwinSync { device: DeviceId::new("a", "b"), twins: [("p".to_owned(), None)].into() };
    assert_eq!(decode_down(encode_down(sync.clone()).unwrap()), sync);
}

#[test]
fn pushed_objects_carry_their_type() {
    let down = Down::Object {
        verb: Verb::Update,
        origin: Origin::Edge,
        key: ObjectKey::namespaced(Kind::Pod, "default", "p"),
        revision: Revision(5),
        object: json!({"metadata": {"name": "p"}}),
    };
    assert_eq!(delivery_of(&down), Delivery::Acknowledged);
    let envelope = encode_down(down).unwrap();
    assert_eq!(
        (envelope.content["kind"].as_str(), envelope.content["apiVersion"].as_str()),
        (Some("Pod"), Some("v1"))
    );
}

#[test]
fn old_edges_are_understood() {
    let mut old = Envelope::default();
    old.route.operation = "delete".to_owned();
    old.route.resource = "default/pod/p".to_owned();
    old.content = json!("uid-1");
    match decode_up(old.clone()).up {
        Up::PodDelete { options, .. } => assert_eq!(options["preconditions"]["uid"], "uid-1"),
        other => panic!("{other:?}"),
    }
    old.route.operation = "query".to_owned();
    old.route.resource = "default/node/n".to_owned();
    assert_eq!(decode_up(old).up, Up::Query { key: ObjectKey::cluster(Kind::Node, "n") });
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(
                "(Object|Err|ErrStatus|twin|device|event_id|added_devices|id)",
                inner,
                0..4
            )
            .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_message_is_understood_or_unknown_without_panic(
        parent in "x?",
        group in "(resource|func|twin|user|meta|hub|)",
        operation in "(insert|update|delete|query|patch|response|error|upload|get|keepalive|x|)",
        resource in "(null|default|device|)/?(pod|node|lease|podpatch|event|membership|x|)/?(a|twin/edge_updated|state/update|)",
        content in any_value(),
    ) {
        let mut envelope = Envelope::default();
        envelope.header.parent_msg_id = MessageId(parent);
        envelope.route.group = group;
        envelope.route.operation = operation;
        envelope.route.resource = resource;
        envelope.content = content;
        drop(acknowledgement(&envelope));
        drop(decode_down(envelope.clone()));
        let question = decode_up(envelope);
        drop(encode_up(&question.up));
        drop(encode_down(Down::Reply { to: question, result: Err(Status::default()) }));
    }
}

#[test]
fn numbers_pass_unchanged() {
    let text =
        r#"{"header":{"msg_id":"1","timestamp":1},"route":{},"content":[1.7951920765555555e+87,0.1,1e-320]}"#;
    let envelope = Envelope::decode(text.as_bytes()).unwrap();
    let again = Envelope::decode(envelope.encode().as_bytes()).unwrap();
    assert_eq!(envelope.content, again.content);
    assert_eq!(envelope.content[0].as_f64(), Some(1.795_192_076_555_555_5e87));
}
