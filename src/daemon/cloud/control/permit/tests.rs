//! What nodes may say and what they may not; the claims alone, without an API.

use super::*;
use crate::pki::Request;
use crate::wire::{Envelope, LeaseVerb, decode_up};
use serde_json::json;

fn claim(up: &Up) -> Claim {
    Claim::of(&NodeName::new("n1").unwrap(), up)
}

fn kind_of_denial(up: &Up) -> &'static str {
    match claim(up) {
        Claim::Denied { kind, .. } => kind,
        _ => "",
    }
}

fn query(kind: Kind, namespace: &str) -> Claim {
    let namespace = Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty());
    claim(&Up::Query { key: ObjectKey { kind, namespace, name: "x".to_owned() } })
}

#[test]
fn what_is_read_has_to_be_referred_to() {
    for kind in [Kind::Secret, Kind::ConfigMap, Kind::PersistentVolumeClaim] {
        assert_eq!(query(kind, "a"), Claim::Referred(ObjectKey::namespaced(kind, "a", "x")));
    }
    let pods = Claim::Pods { namespace: "a".to_owned(), names: vec!["x".to_owned()] };
    let device = Claim::Device(ObjectKey::namespaced(Kind::Device, "a", "x"));
    for (kind, namespace, wanted) in [
        (Kind::PersistentVolume, "", Claim::Volume("x".to_owned())),
        (Kind::VolumeAttachment, "", Claim::Attachment("x".to_owned())),
        (Kind::CertificateSigningRequest, "", Claim::Certificate("x".to_owned())),
        (Kind::Pod, "a", pods),
        (Kind::Device, "a", device),
        (Kind::Lease, LEASES, Claim::Granted),
        (Kind::Node, "", Claim::Granted),
    ] {
        assert_eq!(query(kind, namespace), wanted);
    }
    assert_eq!(query(Kind::Lease, "kube-system").kind(), "lease");
}

#[test]
fn what_is_created_is_the_node_itself() {
    let insert = |object: Value| Up::NodeInsert { name: "n1".to_owned(), node: object };
    assert_eq!(claim(&insert(json!({"metadata": {"name": "n1"}}))), Claim::Granted);
    for object in [
        json!({"metadata": {"name": "n2"}}),
        json!({"metadata": {"generateName": "n"}}),
        json!({"metadata": {"name": "n1", "labels": {"node-restriction.kubernetes.io/zone": "gold"}}}),
        json!({"metadata": {"name": "n1", "ownerReferences": [{"uid": "u"}]}}),
        json!({"metadata": {"name": "n1", "finalizers": ["a/b"]}}),
    ] {
        assert_eq!(kind_of_denial(&insert(object)), "node");
    }
    let status = |status: Value| Up::NodeStatus { verb: Verb::Insert, name: "n1".to_owned(), status };
    // `labels` gives it the node's own name.
    for object in [json!({"metadata": {"generateName": "x"}}), json!({"metadata": {"name": "n1"}}), json!({})]
    {
        assert_eq!(claim(&status(object)), Claim::Granted);
    }
    for object in [
        json!({"metadata": {"name": "n2", "generateName": "x"}}),
        json!({"metadata": {"labels": {"node-restriction.kubernetes.io/zone": "gold"}}}),
    ] {
        assert_eq!(kind_of_denial(&status(object)), "node");
    }
    let patch = r#"{"metadata":{"labels":{"x.node-restriction.kubernetes.io/zone":null}}}"#;
    assert_eq!(kind_of_denial(&Up::NodePatch { name: "n1".to_owned(), patch: patch.to_owned() }), "node");
    let lease = |namespace: &str, name: &str| Up::Lease {
        verb: LeaseVerb::Insert,
        namespace: namespace.to_owned(),
        name: "n1".to_owned(),
        lease: json!({"metadata": {"name": name}}),
    };
    assert_eq!(claim(&lease(LEASES, "n1")), Claim::Granted);
    assert_eq!(kind_of_denial(&lease(LEASES, "n2")), "lease");
    assert_eq!(kind_of_denial(&lease("kube-system", "n1")), "lease");
}

#[test]
fn a_node_creates_mirror_pods_that_refer_to_nothing() {
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u"}]);
    let good = json!({"metadata": {"name": "p", "namespace": "a", "ownerReferences": owner,
        "annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {"nodeName": "n1"}});
    let insert = |pod: Value| Up::PodInsert { namespace: "a".to_owned(), name: "p".to_owned(), pod };
    assert_eq!(claim(&insert(good.clone())), Claim::Granted);
    for (pointer, value) in [
        ("/metadata/annotations", json!({})),
        ("/metadata/annotations", json!({"kubernetes.io/config.mirror": null})),
        ("/metadata/ownerReferences", json!([{"kind": "ReplicaSet", "name": "n1"}])),
        ("/metadata/ownerReferences", json!([{"kind": "Node", "name": "n2"}])),
        ("/spec", json!({"nodeName": "n1", "serviceAccount": "sa"})),
        ("/metadata/name", json!("q")),
        ("/metadata/namespace", json!("b")),
        ("/spec", json!({"nodeName": "n2"})),
        ("/spec", json!({"nodeName": "n1", "serviceAccountName": "sa"})),
        ("/spec", json!({"nodeName": "n1", "volumes": [{"secret": {"secretName": "s"}}]})),
        ("/spec", json!({"nodeName": "n1", "imagePullSecrets": [{"name": "s"}]})),
    ] {
        let mut pod = good.clone();
        *pod.pointer_mut(pointer).unwrap() = value;
        assert_eq!(kind_of_denial(&insert(pod)), "pod", "{pointer}");
    }
    let patch = |patch: &str| Up::PodPatch {
        namespace: "a".to_owned(),
        name: "p".to_owned(),
        patch: patch.to_owned(),
    };
    assert_eq!(claim(&patch(r#"{"metadata":{"uid":"u"},"status":{}}"#)).kind(), "pod");
    assert_eq!(claim(&patch(r#"{"metadata":{"annotations":{"a":"b"}}}"#)), one_pod("a", "p"));
    for change in [
        r#"{"metadata":{"labels":{"app":"x"}}}"#,
        r#"{"metadata":{"annotations":null}}"#,
        r#"{"metadata":{"annotations":{"kubernetes.io/config.mirror":null}}}"#,
        r#"{"metadata":{"annotations":{"$patch":"replace"}}}"#,
    ] {
        assert_eq!(kind_of_denial(&patch(change)), "pod", "{change}");
    }
}

#[test]
fn a_patch_does_what_it_shows_and_nothing_else() {
    let node = |patch: &str| Up::NodePatch { name: "n1".to_owned(), patch: patch.to_owned() };
    let pod = |patch: &str| Up::PodPatch {
        namespace: "a".to_owned(),
        name: "p".to_owned(),
        patch: patch.to_owned(),
    };
    let deep = format!(r#"{{"status":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    for patch in [
        // Others read these two.
        r#"{"metadata":{"labels":{"node-restriction.kubernetes.io/tenant":"gold"}},"status":{"phase":"\ud800"}}"#,
        &deep,
        r#"{"metadata":null}"#,
        r#"{"metadata":{"labels":null}}"#,
        r#"{"metadata":{"labels":["a"]}}"#,
        r#"{"metadata":{"$patch":"replace","name":"n1"}}"#,
        r#"{"metadata":{"$retainKeys":["name"],"name":"n1"}}"#,
        r#"{"$patch":"replace","status":{}}"#,
        "7",
        "",
    ] {
        assert_eq!(kind_of_denial(&node(patch)), "node", "{patch}");
        assert_eq!(kind_of_denial(&pod(patch)), "pod", "{patch}");
    }
    let conditions = r#""$setElementOrder/conditions":[{"type":"Ready"}],"conditions":[{"type":"Ready"}]"#;
    for patch in [r#"{"metadata":{"ownerReferences":[{"uid":"u"}]}}"#, r#"{"metadata":{"finalizers":null}}"#]
    {
        assert_eq!(kind_of_denial(&node(patch)), "node", "{patch}");
    }
    for patch in [
        format!(r#"{{"status":{{{conditions}}}}}"#),
        format!(r#"{{"metadata":{{"labels":{{"site":null}}}},"status":{{{conditions}}}}}"#),
        r#"{"metadata":{"annotations":{"a":"b"}}}"#.to_owned(),
    ] {
        assert_eq!(claim(&node(&patch)), Claim::Granted, "{patch}");
    }
    let status = format!(r#"{{"metadata":{{"uid":"u"}},"status":{{{conditions}}}}}"#);
    assert_eq!(claim(&pod(&status)), one_pod("a", "p"));
}

#[test]
fn the_api_reads_what_was_judged() {
    let twice =
        r#"{"metadata":{"labels":{"node-restriction.kubernetes.io/a":"b"}},"metadata":{"name":"n1"}}"#;
    let up = Up::NodePatch { name: "n1".to_owned(), patch: twice.to_owned() };
    assert_eq!(claim(&up), Claim::Granted);
    assert_eq!(as_judged(twice), r#"{"metadata":{"name":"n1"}}"#);
    assert_eq!(as_judged("{"), "{");
}

#[test]
fn what_an_edgecore_says_is_never_denied() {
    let captured = include_str!("../../../../wire/testdata/kubeedge-1.23.1-hub.jsonl");
    let node = NodeName::new("edge-ref").unwrap();
    let (mut nodes, mut pods) = (0, 0);
    for line in captured.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["dir"] != "edge>cloud" {
            continue;
        }
        let up = decode_up(Envelope::decode(line["msg"].to_string().as_bytes()).unwrap()).up;
        nodes += usize::from(matches!(up, Up::NodePatch { .. }));
        pods += usize::from(matches!(up, Up::PodPatch { .. }));
        let claim = Claim::of(&node, &up);
        assert!(!matches!(claim, Claim::Denied { .. }), "{claim:?} {up:?}");
    }
    assert!(nodes > 0 && pods > 0, "{nodes} {pods}");
}

#[test]
fn a_certificate_is_asked_for_in_one_block() {
    let encoded = |name: &str| {
        // Without padding, so that one could stand before the other.
        let asked = || Request::new(&format!("system:node:{name}"), &["system:nodes"]).unwrap().csr_der;
        Blob(std::iter::repeat_with(asked).find(|der| der.len() % 3 == 0).unwrap()).text()
    };
    let block = |body: &str| {
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
    };
    let (own, other) = (encoded("n1"), encoded("n2"));
    let asked = |pem: String| Up::CertificateRequest {
        name: "c".to_owned(),
        request: json!({"spec": {"signerName": SIGNERS[0], "request": Blob(pem.into_bytes()).text()}}),
    };
    assert_eq!(claim(&asked(block(&own))), Claim::Granted);
    for pem in [
        block(&other),
        format!("{own}\n{}", block(&other)),
        format!("{}{}", block(&own), block(&other)),
        block(&format!("{own}{other}")),
        own,
    ] {
        assert_eq!(kind_of_denial(&asked(pem.clone())), "certificatesigningrequest", "{pem}");
    }
}

#[test]
fn tokens_are_bound_to_a_pod() {
    let request = |reference: Value| Up::TokenRequest {
        namespace: "a".to_owned(),
        service_account: "sa".to_owned(),
        request: json!({"spec": {"boundObjectRef": reference}}),
    };
    let text = str::to_owned;
    assert_eq!(
        claim(&request(json!({"kind": "Pod", "name": "p", "uid": "u"}))),
        Claim::Account { namespace: text("a"), account: text("sa"), pod: text("p"), uid: text("u") }
    );
    for reference in
        [Value::Null, json!({"kind": "Pod", "name": "p"}), json!({"kind": "Secret", "name": "p", "uid": "u"})]
    {
        assert_eq!(kind_of_denial(&request(reference)), "serviceaccounttoken");
    }
}

#[test]
fn events_are_about_the_node_and_its_pods() {
    let event = |about: Value| Up::Event {
        verb: Verb::Insert,
        namespace: "a".to_owned(),
        name: "e".to_owned(),
        event: json!({"metadata": {"name": "e"}, "involvedObject": about}),
    };
    assert_eq!(claim(&event(json!({"kind": "Node", "name": "n1"}))), Claim::Granted);
    assert_eq!(kind_of_denial(&event(json!({"kind": "Node", "name": "n2"}))), "event");
    let about = claim(&event(json!({"kind": "Pod", "namespace": "a", "name": "p"})));
    assert_eq!(about, Claim::NotForeign { namespace: "a".to_owned(), name: "p".to_owned() });
    assert_eq!(claim(&Up::Keepalive), Claim::Granted);
    let own = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Node", "name": "n1"}});
    let (namespace, text) = ("a".to_owned(), str::to_owned);
    let other = Up::Event {
        verb: Verb::Insert,
        namespace: namespace.clone(),
        name: text("other"),
        event: own.clone(),
    };
    assert_eq!(kind_of_denial(&other), "event");
    let patch = |name: &str, patch: &str| Up::EventPatch {
        namespace: namespace.clone(),
        name: text(name),
        event: own.clone(),
        patch: text(patch),
    };
    assert_eq!(claim(&patch("e", r#"{"count":2,"message":"again"}"#)), Claim::Granted);
    for (name, change) in [
        ("other", "{}"),
        ("e", r#"{"involvedObject":{"name":"n2"}}"#),
        ("e", r#"{"$patch":"replace"}"#),
        ("e", r#"{"message":"\ud800"}"#),
    ] {
        assert_eq!(kind_of_denial(&patch(name, change)), "event", "{name} {change}");
    }
}
