//! Our edge, with the real containerd, under the simulated cloudcore 1.23.1 of `support/cloudcore`.

use crate::support::cloudcore::Cloudcore;
use crate::support::letter::{message, text};
use crate::support::world::{Daemon, World};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const NODE: [&str; 3] = ["node", "null", "edge-1"];

fn joined(world: &World) -> (Cloudcore, Daemon) {
    let cloud = Cloudcore::start(world);
    let edge = world.edge_as("edge", &cloud.token());
    (cloud, edge)
}

fn ready(cloud: &Cloudcore) {
    cloud.wait("the node is Ready", |state| {
        let [kind, namespace, name] = NODE.map(str::to_owned);
        let node = state.objects.get(&(kind, namespace, name))?;
        let conditions = node.pointer("/status/conditions")?.as_array()?;
        conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True").then_some(())
    });
}

fn pod(name: &str, container: Value, volumes: Value) -> Value {
    let mut container = container;
    container["name"] = json!("c");
    container["image"] = json!("kedge.local/busybox:1");
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": "edge-1", "terminationGracePeriodSeconds": 0, "containers": [container],
            "volumes": volumes, "restartPolicy": "Always"}, "status": {"phase": "Pending"}})
}

fn config(name: &str, value: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default"},
        "data": {"key": value}})
}

fn sleeper() -> Value {
    json!({"command": ["sleep", "100000"]})
}

fn in_phase(cloud: &Cloudcore, name: &str, phase: &str) {
    cloud.wait_object(["pod", "default", name], "/status/phase", &json!(phase));
}

#[test]
fn the_node_registers_and_a_pod_lives_its_whole_life() {
    let world = World::new("cloudcore-pod");
    let (cloud, _edge) = joined(&world);
    ready(&cloud);
    cloud.wait("the lease", |state| {
        let key = ("lease".to_owned(), "kube-node-lease".to_owned(), "edge-1".to_owned());
        (text(state.objects.get(&key)?, "/spec/holderIdentity") == "edge-1").then_some(())
    });
    cloud.with_state(|state| {
        let patches: Vec<&Value> = state
            .heard
            .iter()
            .filter(|message| text(message, "/route/resource") == "null/nodepatch/edge-1")
            .collect();
        assert!(!patches.is_empty());
        // cloudcore has put its tunnel port there.
        assert!(!patches.iter().any(|patch| patch.to_string().contains("daemonEndpoints")), "{patches:?}");
    });
    cloud.apply(pod("lives", sleeper(), json!([])));
    in_phase(&cloud, "lives", "Running");
    cloud.wait_object(["pod", "default", "lives"], "/status/containerStatuses/0/ready", &json!(true));

    cloud.delete("pod", "default", "lives");
    cloud.wait("the node deletes the pod with its uid", |state| {
        let told = state.heard.iter().find(|message| {
            text(message, "/route/operation") == "delete"
                && text(message, "/route/resource") == "default/pod/lives"
        })?;
        assert_eq!(told["content"]["gracePeriodSeconds"], json!(0), "{told}");
        told.pointer("/content/preconditions/uid")?.as_str().map(str::to_owned)
    });
    cloud.wait("the record of the pod goes with the acknowledgement of its end", |state| {
        let gone = !state.objects.contains_key(&("pod".into(), "default".into(), "lives".into()));
        (gone && state.synced.values().all(|record| record.key.2 != "lives")).then_some(())
    });
    cloud.with_state(|state| assert_eq!(state.malformed, 0));
}

#[test]
fn what_a_pod_needs_is_asked_for_and_wrong_answers_are_errors() {
    let world = World::new("cloudcore-queries");
    let (cloud, _edge) = joined(&world);
    ready(&cloud);
    let from = json!({"command": ["sleep", "100000"], "env": [
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "key"}}},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "late", "key": "key"}}}],
        "volumeMounts": [{"name": "token", "mountPath": "/token"}]});
    let token = json!([{"name": "token", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]}}]);
    let refused = json!({"ErrStatus": {"metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403,
        "message": "serviceaccounts is forbidden"}});
    let account = "default/serviceaccounttoken/default".to_owned();
    cloud.with_state(|state| state.wrong.insert(account.clone(), refused));
    cloud.apply(pod("needs", from, token));

    // Neither the refused token nor the missing ConfigMap becomes an empty object.
    let asked = |resource: &'static str, count: usize| {
        cloud.wait(resource, |state| {
            let about = |message: &&Value| text(message, "/route/resource") == resource;
            (state.heard.iter().filter(about).count() >= count).then_some(())
        });
    };
    asked("default/serviceaccounttoken/default", 2);
    in_phase(&cloud, "needs", "Pending");
    cloud.with_state(|state| state.wrong.remove(&account));
    asked("default/configmap/late", 2);
    let refusal = cloud.with_state(|state| state.sent("default/configmap/late")[0].clone());
    assert_eq!(text(&refusal, "/content/ErrStatus/reason"), "NotFound", "{refusal}");
    world.kedge(&["meta", "get", "default/configmap/late"]).assert_status(1);
    in_phase(&cloud, "needs", "Pending");
    cloud.apply(config("late", "one"));
    let secret = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "late", "namespace": "default"},
        "data": {"key": "dHdv"}});
    cloud.apply(secret);
    in_phase(&cloud, "needs", "Running");
    cloud.apply(config("late", "three"));
    crate::support::eventually("the changed ConfigMap is stored", Duration::from_secs(20), || {
        let kept = world.kedge(&["meta", "get", "default/configmap/late"]);
        if kept.stdout.contains("three") { Ok(()) } else { Err(kept) }
    });
}

#[test]
fn empty_answers_to_patches_end_nothing() {
    let world = World::new("cloudcore-empty");
    let (cloud, edge) = joined(&world);
    let node = "null/nodepatch/edge-1".to_owned();
    let pod_patch = "default/podpatch/empty".to_owned();
    cloud.with_state(|state| {
        state.wrong.insert(node.clone(), json!({"Object": null, "Err": {}}));
        state.wrong.insert(pod_patch.clone(), json!({"Object": null, "Err": null}));
        state.wrong.insert("null/node/edge-1".to_owned(), json!({}));
    });
    cloud.apply(pod("empty", sleeper(), json!([])));
    cloud.wait("three patches of the node and of the pod", |state| {
        (state.sent(&node).len() >= 3 && state.sent(&pod_patch).len() >= 3).then_some(())
    });
    cloud.with_state(|state| state.wrong.clear());
    ready(&cloud);
    in_phase(&cloud, "empty", "Running");
    cloud.with_state(|state| assert_eq!(state.connections, 1));
    let log = world.whole_log("edge.err");
    assert!(!log.contains("panicked"), "{log}");
    drop(edge);
}

#[test]
fn resends_are_acknowledged_and_change_nothing() {
    let world = World::new("cloudcore-resend");
    let (cloud, _edge) = joined(&world);
    ready(&cloud);
    cloud.with_state(|state| state.deaf = true);
    cloud.apply(pod("twice", sleeper(), json!([])));
    let id = cloud.wait("five sendings under one id", |state| {
        let sent: Vec<&str> =
            state.sent("default/pod/twice").iter().map(|message| text(message, "/header/msg_id")).collect();
        let first = *sent.first()?;
        (sent.iter().filter(|id| **id == first).count() >= 5).then(|| first.to_owned())
    });
    cloud.wait("five acknowledgements", |state| {
        let of = |message: &&Value| text(message, "/header/parent_msg_id") == id;
        let heard: Vec<&Value> = state.heard.iter().filter(of).collect();
        assert!(heard.iter().all(|message| message["content"] == "OK"));
        (heard.len() >= 5).then_some(())
    });
    in_phase(&cloud, "twice", "Running");
    let container = |state: &crate::support::cloudcore::State| {
        let key = ("pod".to_owned(), "default".to_owned(), "twice".to_owned());
        state.objects[&key].pointer("/status/containerStatuses/0/containerID").cloned()
    };
    let first = cloud.with_state(|state| container(state));
    cloud.with_state(|state| state.deaf = false);
    cloud.wait("the record of the pod", |state| {
        state.synced.values().any(|record| record.key.2 == "twice" && record.version > 0).then_some(())
    });
    assert_eq!(cloud.with_state(|state| container(state)), first);
}

#[test]
fn a_big_object_and_what_vanished_while_the_link_was_down_arrive() {
    let world = World::new("cloudcore-reconnect");
    let (mut cloud, _edge) = joined(&world);
    ready(&cloud);
    let mounts = |name: &str| json!([{"name": "v", "configMap": {"name": name}}]);
    let reads = json!({"command": ["sleep", "100000"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    // Larger than gorilla's buffer: one frame that is not the last and an empty last one.
    cloud.apply(config("big", &"<&>".repeat(200_000)));
    cloud.apply(pod("stays", reads, mounts("big")));
    cloud.apply(pod("vanishes", sleeper(), json!([])));
    in_phase(&cloud, "stays", "Running");
    in_phase(&cloud, "vanishes", "Running");
    cloud.wait("the records of both", |state| {
        let kept =
            |name: &str| state.synced.values().any(|record| record.key.2 == name && record.version > 0);
        (kept("stays") && kept("vanishes")).then_some(())
    });

    // While no cloud is there a pod is removed behind its back and the ConfigMap changes.
    cloud.restart(Duration::from_millis(100), |state| {
        state.objects.remove(&("pod".to_owned(), "default".to_owned(), "vanishes".to_owned()));
    });
    cloud.apply(config("big", "small"));
    cloud.apply(pod("offline", sleeper(), json!([])));
    cloud.wait("connected again", |state| (state.connected && state.connections >= 2).then_some(()));
    // The comparison of records tells both: a delete with metadata only, an update of the object.
    crate::support::eventually("the vanished pod ends", Duration::from_secs(30), || {
        let pods = world.kedge(&["pods"]);
        let fits = !pods.stdout.contains("vanishes") && pods.stdout.contains("stays");
        if fits { Ok(()) } else { Err(pods) }
    });
    let delete = cloud.with_state(|state| {
        let sent = state.sent("default/pod/vanishes");
        sent.into_iter().find(|message| text(message, "/route/operation") == "delete").cloned().unwrap()
    });
    assert_eq!(delete["content"].get("kind"), None, "{delete}");
    crate::support::eventually("the small ConfigMap is stored", Duration::from_secs(30), || {
        let kept = world.kedge(&["meta", "get", "default/configmap/big"]);
        if kept.stdout.contains("small") { Ok(()) } else { Err(kept.stdout.len()) }
    });
    in_phase(&cloud, "offline", "Running");
    cloud.unplug();
    cloud.wait("a third connection", |state| (state.connected && state.connections >= 3).then_some(()));
    cloud.apply(pod("later", sleeper(), json!([])));
    in_phase(&cloud, "later", "Running");
}

const UPDATE: &str = "$hw/events/device/default/t1/twin/update";

#[test]
fn a_device_comes_reports_is_told_and_goes() {
    let world = World::new("cloudcore-device");
    let (cloud, _edge) = joined(&world);
    ready(&cloud);
    let beta = "devices.kubeedge.io/v1beta1";
    cloud.apply(json!({"kind": "DeviceModel", "apiVersion": beta,
        "metadata": {"name": "m", "namespace": "default"},
        "spec": {"properties": [{"name": "temperature", "type": "FLOAT", "accessMode": "ReadOnly"}]}}));
    let device = |wanted: &str| {
        json!({"kind": "Device", "apiVersion": beta, "metadata": {"name": "t1", "namespace": "default"},
            "spec": {"deviceModelRef": {"name": "m"}, "nodeName": "edge-1",
                "protocol": {"protocolName": "virtual", "configData": {"any": 1}},
                "properties": [{"name": "temperature", "desired": {"value": ""}, "reportToCloud": true},
                    {"name": "target", "desired": {"value": wanted}}]}})
    };
    cloud.apply(device("20"));
    crate::devices::known(&world, "t1");
    cloud.wait("both are acknowledged in the words of edgecore", |state| {
        let acknowledged = |kind: &str, name: &str| {
            let resource = format!("default/{kind}/{name}");
            state.heard.iter().find(|message| {
                text(message, "/route/resource") == resource
                    && text(message, "/route/operation") == "response"
            })
        };
        for message in [acknowledged("devicemodel", "m")?, acknowledged("device", "t1")?] {
            assert_eq!((text(message, "/route/source"), text(message, "/route/group")), ("meta", "twin"));
        }
        Some(())
    });
    // The first value of a property is lost in a cloudcore; the next one counts.
    for value in ["21.5", "22.5"] {
        let payload = format!(
            r#"{{"event_id":"e","timestamp":1,"twin":{{"temperature":{{"actual":{{"value":"{value}"}}}}}}}}"#
        );
        world.publish(UPDATE, &payload);
        cloud.wait("the report", |state| {
            state.heard.iter().any(|message| message.to_string().contains(value)).then_some(())
        });
    }
    cloud.wait("the value", |state| (state.twins.get("default/t1/temperature")? == "22.5").then_some(()));
    world.publish(
        "$hw/events/device/default/t1/state/update",
        r#"{"event_id":"e","timestamp":1,"state":"online"}"#,
    );
    cloud.wait("the state", |state| (state.states.get("default/t1")? == "online").then_some(()));

    let delta = world.subscribe("$hw/events/device/default/t1/twin/update/delta", 1);
    cloud.apply(device("23"));
    assert!(delta.messages()[0].contains(r#""target":"23""#));
    cloud.delete("device", "default", "t1");
    crate::support::eventually("the node forgets the device", Duration::from_secs(20), || {
        let run = world.kedge(&["twin", "get", "t1"]);
        if run.status == 1 { Ok(()) } else { Err(run) }
    });
}

#[test]
fn nothing_that_a_cloudcore_sends_holds_up_what_comes_behind_it() {
    let world = World::new("cloudcore-unknown");
    let (cloud, _edge) = joined(&world);
    ready(&cloud);
    let object = |kind: &str, uid: &str| json!({"kind": kind, "apiVersion": "x/v1", "metadata": {"name": "x", "uid": uid}});
    for (number, (source, operation, resource, content)) in [
        ("edgecontroller", "update", "default/frob/x", object("Frob", "u1")),
        ("devicecontroller", "insert", "default/frob/x", object("Frob", "u2")),
        ("dynamiccontroller", "insert", "default/service/x", object("Service", "u3")),
        (
            "policycontroller",
            "update",
            "default/serviceaccountaccess/x",
            object("ServiceAccountAccess", "u4"),
        ),
        ("edgecontroller", "frobnicate", "default/configmap/x", object("ConfigMap", "u5")),
        ("edgecontroller", "update", "null/a/b/c/d", object("Frob", "u6")),
        ("edgecontroller", "update", "default/configmap/x", json!({"metadata": {"uid": "u7"}})),
        (
            "edgecontroller",
            "delete",
            "default/pod/nobody",
            json!({"metadata": {"name": "nobody", "namespace": "default"}}),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut message = message([source, "resource", operation, resource], content);
        message["header"]["resourceversion"] = json!((5000 + number).to_string());
        // What is sent outside the queue is not waited for.
        if operation == "frobnicate" { cloud.say(message) } else { cloud.push(message) }
    }
    cloud.say(message(["edgecontroller", "nobody", "update", "x"], Value::Null));
    cloud.say(message(
        ["taskmanager", "taskmanager", "Frobnicate", "operations.kubeedge.io/v1alpha2/x/y/node/z"],
        json!({}),
    ));
    cloud.apply(pod("behind", sleeper(), json!([])));
    in_phase(&cloud, "behind", "Running");
    // The comparison of records may have told by now that there is no such object; that is another message.
    let sent = cloud.with_state(|state| {
        let mut sent: BTreeMap<String, usize> = BTreeMap::new();
        for message in state.sent("default/frob/x") {
            if text(message, "/route/operation") != "delete" {
                *sent.entry(text(message, "/header/msg_id").to_owned()).or_default() += 1;
            }
        }
        sent
    });
    assert_eq!(sent.len(), 2, "{sent:?}");
    // After the fifth sending a cloudcore gives up what is not acknowledged.
    assert!(sent.values().all(|times| *times < 5), "each was acknowledged: {sent:?}");
}
