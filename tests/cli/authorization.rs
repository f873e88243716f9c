//! A node with a good certificate that asks for what is not its own: refused, counted, logged once; what its own pod refers to
//! is there at once.

use crate::support::peer::{Node, connect, envelope, identity, upgrade};
use crate::support::replica::Replica;
use crate::support::world::World;
use serde_json::{Value, json};

const OBJECTS: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: mine}
stringData: {key: own}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: mine}
data: {key: own}
---
apiVersion: v1
kind: Secret
metadata: {name: other}
stringData: {key: hidden-word}
---
apiVersion: v1
kind: Node
metadata: {name: victim}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: victim, namespace: kube-node-lease}
spec: {holderIdentity: victim}
---
apiVersion: v1
kind: Pod
metadata: {name: theirs}
spec:
  nodeName: victim
  containers: [{name: main, image: none, envFrom: [{secretRef: {name: other}}]}]
"#;

const OWN_POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: own}
spec:
  nodeName: evil
  volumes:
  - {name: s, secret: {secretName: mine}}
  - {name: c, configMap: {name: mine}}
  containers: [{name: main, image: none}]
"#;

fn ask(node: &mut Node, questions: &[(&str, &str, &str, Value)]) -> Vec<Value> {
    let ids: Vec<&str> = questions.iter().map(|(id, ..)| *id).collect();
    for (id, operation, resource, content) in questions {
        node.send(&envelope(id, "meta", operation, resource, content));
    }
    node.answers(&ids)
}

fn bound(pod: &str, uid: &str) -> Value {
    json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {
        "audiences": null, "expirationSeconds": 3600,
        "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid}}})
}

fn is_refused(answer: &Value) -> bool {
    let wrapped = answer.pointer("/content/Err/ErrStatus/code") == Some(&json!(403));
    let text = answer.pointer("/content").and_then(Value::as_str).unwrap_or_default();
    let error = answer.pointer("/route/operation") == Some(&json!("error"));
    wrapped || (error && text.contains("Forbidden") && serde_json::from_str::<Value>(text).is_err())
}

#[test]
fn a_node_gets_what_its_pods_refer_to_and_nothing_else() {
    let world = World::new("authorization");
    let _cloud = world.cloud();
    world.apply(OBJECTS);
    let identity = identity(&world, "evil");
    let mut evil = connect(&world, "evil", &identity);
    let theirs = world.get(&["pod", "theirs"]);
    let their_uid = theirs.pointer("/metadata/uid").and_then(Value::as_str).unwrap();
    let sick = Value::String(r#"{"status":{"phase":"Failed"}}"#.to_owned());
    let lease = json!({"metadata": {"name": "victim", "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": "evil"}});
    let node = json!({"metadata": {"name": "victim", "labels": {"evil": "yes"}}});
    let reader = json!({"metadata": {"name": "reader", "namespace": "default"}, "spec": {"nodeName": "evil",
        "containers": [{"name": "m", "image": "x", "envFrom": [{"secretRef": {"name": "other"}}]}]}});
    let nothing = Value::Null;
    let hostile: Vec<(&str, &str, &str, Value)> = vec![
        ("h0", "query", "default/secret/other", nothing.clone()),
        ("h1", "query", "default/secret/mine", nothing.clone()),
        ("h2", "query", "kubeedge/secret/casecret", nothing.clone()),
        ("h3", "query", "kube-system/serviceaccounttoken/default", bound("theirs", their_uid)),
        ("h4", "query", "default/serviceaccounttoken/default", bound("theirs", their_uid)),
        ("h5", "query", "default/serviceaccounttoken/default", json!({"spec": {"audiences": null}})),
        ("h6", "patch", "default/podpatch/theirs", sick.clone()),
        ("h7", "delete", "default/pod/theirs", json!({"gracePeriodSeconds": 0})),
        ("h8", "update", "kube-node-lease/lease/victim", lease.clone()),
        ("h9", "insert", "kube-node-lease/lease/evil", lease),
        ("h10", "patch", "null/nodepatch/victim", sick),
        ("h11", "insert", "null/node/evil", node),
        ("h12", "insert", "default/pod/reader", reader),
        ("h13", "query", "null/persistentvolume/any", nothing.clone()),
        ("h14", "query", "default/configmap/mine", nothing.clone()),
    ];
    for _ in 0..2 {
        for answer in ask(&mut evil, &hostile) {
            assert!(is_refused(&answer), "{answer}");
            assert!(!answer.to_string().contains("hidden-word"), "{answer}");
        }
    }
    assert_eq!(world.get(&["pod", "theirs"]).pointer("/status/phase"), Some(&json!("Pending")));
    let lease = world.get(&["lease", "victim", "-n", "kube-node-lease"]);
    assert_eq!(lease.pointer("/spec/holderIdentity"), Some(&json!("victim")));
    assert_eq!(world.get(&["node", "victim"]).pointer("/metadata/labels/evil"), None);

    // What was refused a moment ago is there as soon as a pod refers to it.
    world.apply(OWN_POD);
    let own = world.get(&["pod", "own"]);
    let uid = own.pointer("/metadata/uid").and_then(Value::as_str).unwrap();
    evil.receive("default/pod/own");
    let own = vec![
        ("o1", "query", "default/secret/mine", nothing.clone()),
        ("o2", "query", "default/configmap/mine", nothing.clone()),
        ("o3", "query", "default/serviceaccounttoken/default", bound("own", uid)),
        ("o4", "query", "default/secret/other", nothing.clone()),
        ("o5", "query", "default/serviceaccounttoken/other", bound("own", uid)),
        ("o6", "query", "default/serviceaccounttoken/default", bound("own", "another")),
        ("o7", "patch", "default/podpatch/own", json!(r#"{"status":{"phase":"Running"}}"#)),
        ("o8", "delete", "default/pod/gone", json!({"gracePeriodSeconds": 0})),
    ];
    let answers = ask(&mut evil, &own);
    assert_eq!(answers[0].pointer("/content/data/key"), Some(&json!("b3du")), "{}", answers[0]);
    assert_eq!(answers[1].pointer("/content/data/key"), Some(&json!("own")), "{}", answers[1]);
    assert!(answers[2].pointer("/content/status/token").is_some(), "{}", answers[2]);
    assert!(answers[3..6].iter().all(is_refused), "{:#?}", &answers[3..6]);
    assert_eq!(answers[6].pointer("/content/Object/status/phase"), Some(&json!("Running")));
    assert_eq!(answers[7].pointer("/content"), Some(&json!("OK")), "a pod that is gone is nobody's");

    let place = world.data_dir().join("cloud/kedge.sock").display().to_string();
    let status = world.kedge(&["status", "--socket", &place, "-o", "json"]);
    status.assert_status(0);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let counted = status.pointer("/refused/requests/evil").unwrap_or(&Value::Null);
    for (kind, times) in [("secret", 7), ("persistentvolume", 2), ("impersonation", 4), ("node", 2)] {
        assert_eq!(counted[kind], json!(times), "{kind}: {counted}");
    }
    let log = world.whole_log("cloud.err");
    let logged =
        log.lines().filter(|line| line.contains("what is not its own") && line.contains("\"secret\""));
    assert_eq!(logged.count(), 1, "{log}");
    world.kubectl_ok(&["delete", "pod", "own", "theirs", "--wait=false", "--force", "--grace-period=0"]);
}

/// KubeEdge's `debug: true`, and its default, which is no authorization at all.
#[test]
fn where_refusals_are_only_logged_everything_is_let_through_and_counted() {
    let world = World::new("authorization-logged");
    let _api = world.cloud();
    world.apply(OBJECTS);
    let identity = identity(&world, "evil");
    for (name, mode) in [
        ("debug", json!({"enable": true, "debug": true, "modes": [{"node": {"enable": true}}]})),
        ("off", json!({"enable": false, "debug": true, "modes": [{"node": {"enable": true}}]})),
    ] {
        let second = Replica::with(&world, name, |config| {
            config["modules"]["cloudHub"]["authorization"] = mode;
        });
        let _cloud = second.start(&world);
        let headers = [("node_id", "evil"), ("project_id", "p"), ("ConnectionUse", "msg")];
        let mut evil =
            upgrade(second.hub, "/p/evil/events", &headers, &identity).unwrap_or_else(|why| panic!("{why}"));
        let questions = [
            ("q0", "query", "default/secret/other", Value::Null),
            ("q1", "query", "null/node/victim", Value::Null),
        ];
        for _ in 0..2 {
            let answers = ask(&mut evil, &questions);
            assert_eq!(
                answers[0].pointer("/content/data/key"),
                Some(&json!("aGlkZGVuLXdvcmQ=")),
                "{}",
                answers[0]
            );
            assert_eq!(
                answers[1].pointer("/content/metadata/name"),
                Some(&json!("victim")),
                "{}",
                answers[1]
            );
        }
        let place = world.dir.join(name).join("data/kedge.sock").display().to_string();
        let status = world.kedge(&["status", "--socket", &place, "-o", "json"]);
        let status: Value = serde_json::from_str(&status.stdout).unwrap();
        assert_eq!(status.pointer("/refused/enforced"), Some(&json!(false)), "{status}");
        let counted = status.pointer("/refused/requests/evil").unwrap_or(&Value::Null);
        assert_eq!((&counted["secret"], &counted["impersonation"]), (&json!(2), &json!(2)), "{status}");
        let log = world.whole_log(&format!("{name}.err"));
        assert!(log.contains("authorization is off"), "{log}");
        let told =
            log.lines().filter(|line| line.contains("what is not its own") && line.contains("\"secret\""));
        assert_eq!(told.filter(|line| line.contains("enforced=false")).count(), 1, "{log}");
    }
}
