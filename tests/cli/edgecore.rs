//! An edgecore of each supported release under our cloud: the simulated one of `support/edgecore`, which panics of what a
//! genuine one would panic of.

use crate::devices::{THERMOMETER, reported};
use crate::support::edgecore::{Edgecore, Version};
use crate::support::eventually;
use crate::support::world::World;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn ready(world: &World, node: &str) {
    world.wait_value(&["node", node], "/metadata/name", &json!(node), SOON);
    world.kubectl_ok(&["wait", "--for=condition=Ready", &format!("node/{node}"), "--timeout=20s"]);
}

fn pod(name: &str, more: &str) -> String {
    let main = "apiVersion: v1\nkind: Pod\nmetadata:";
    format!(
        "{main} {{name: {name}}}\nspec:\n  nodeName: gen\n  containers:\n  - name: c\n    image: none{more}\n"
    )
}

#[test]
fn every_release_registers_and_becomes_ready() {
    let world = World::new("edgecore-versions");
    let _cloud = world.cloud();
    for (version, name) in Version::ALL.into_iter().zip(["gen-21", "gen-22", "gen-23"]) {
        let edge = Edgecore::start(&world, name, version);
        ready(&world, name);
        let node = world.get(&["node", name]);
        assert!(text(&node, "/status/nodeInfo/kubeletVersion").contains("kubeedge-v1.2"), "{node:#}");
        assert_eq!(node.pointer("/metadata/labels/node-role.kubernetes.io~1edge"), Some(&json!("")));
        world.wait_value(
            &["lease", "-n", "kube-node-lease", name],
            "/spec/holderIdentity",
            &json!(name),
            SOON,
        );
        edge.wait("a confirmed list of devices", |state| state.connected.then_some(()));
        eventually("nothing waits for a confirmation", SOON, || match edge.unconfirmed() {
            0 => Ok(()),
            count => Err(count),
        });
        // A wiped disk: the Node exists, so the registration ends with what the cloud sends by itself.
        edge.with_state(|state| {
            state.db.clear();
            state.registered = false;
            state.heard.clear();
        });
        edge.wait("registered again with an empty database", |state| state.registered.then_some(()));
        ready(&world, name);
    }
}

/// The pod as it is now, once its phase is this one.
fn in_phase(world: &World, name: &str, phase: &str) {
    world.wait_value(&["pod", name], "/status/phase", &json!(phase), SOON);
}

#[test]
fn a_pod_comes_runs_and_goes_and_what_it_misses_holds_it_back() {
    let world = World::new("edgecore-pods");
    let _cloud = world.cloud();
    let edge = Edgecore::start(&world, "gen", Version::V1_23);
    ready(&world, "gen");
    let more = "\n    envFrom: [{configMapRef: {name: later}}, {secretRef: {name: later}}]";
    world.apply(&pod("waits", more));
    world.apply(&pod("plain", ""));
    in_phase(&world, "plain", "Running");

    // A missing ConfigMap is an error to edgecore, not an empty object: nothing is stored and the pod waits.
    let refusal = edge.wait("the ConfigMap is refused", |state| {
        let mut answers =
            state.heard.iter().filter(|m| text(m, "/route/resource") == "default/configmap/later");
        answers.next_back().cloned()
    });
    assert_eq!(text(&refusal, "/route/operation"), "error", "{refusal}");
    let said = refusal["content"].as_str().expect("a text");
    assert!(serde_json::from_str::<Value>(said).is_err(), "{said}");
    in_phase(&world, "waits", "Pending");
    assert!(edge.with_state(|state| !state.db.contains_key("default/configmap/later")));
    world.kubectl_ok(&["create", "configmap", "later", "--from-literal=a=b"]);
    world.kubectl_ok(&["create", "secret", "generic", "later", "--from-literal=c=d"]);
    in_phase(&world, "waits", "Running");
    edge.with_state(|state| {
        assert_eq!(text(&state.db["default/configmap/later"], "/data/a"), "b");
        assert_eq!(text(&state.db["default/secret/later"], "/kind"), "Secret");
        for push in state.pushes("default/pod/waits") {
            assert_eq!(text(push, "/content/kind"), "Pod");
            assert_eq!(
                text(push, "/header/resourceversion"),
                text(push, "/content/metadata/resourceVersion")
            );
        }
    });
    world.kubectl_ok(&["patch", "configmap", "later", "-p", r#"{"data":{"a":"new"}}"#]);
    edge.wait("the changed ConfigMap", |state| {
        (text(state.db.get("default/configmap/later")?, "/data/a") == "new").then_some(())
    });

    // Deletion: an update with a deletionTimestamp, the node's own delete, and then the object's end.
    world.kubectl_ok(&["delete", "pod", "plain", "--timeout=20s"]);
    edge.wait("the row of the pod goes", |state| (!state.db.contains_key("default/pod/plain")).then_some(()));
    edge.with_state(|state| {
        let told: Vec<&str> =
            state.pushes("default/pod/plain").iter().map(|m| text(m, "/route/operation")).collect();
        assert_eq!(told.last(), Some(&"delete"), "{told:?}");
        let last = state.pushes("default/pod/plain").pop().cloned().unwrap();
        assert_eq!(text(&last, "/content/kind"), "Pod", "{last}");
        assert!(!text(&last, "/content/metadata/uid").is_empty(), "{last}");
        assert!(!state.db.contains_key("default/podpatch/plain"));
    });
}

#[test]
fn a_token_is_given_for_a_pod_of_the_node() {
    let world = World::new("edgecore-token");
    let _cloud = world.cloud();
    let edge = Edgecore::start(&world, "gen", Version::V1_23);
    ready(&world, "gen");
    let volume = r#"
    volumeMounts: [{name: t, mountPath: /t}]
  volumes: [{name: t, projected: {sources: [{serviceAccountToken: {path: token, expirationSeconds: 3607}}]}}]"#;
    world.apply(&pod("asks", volume));
    in_phase(&world, "asks", "Running");
    let answer = edge.with_state(|state| {
        let about = |m: &&Value| text(m, "/route/resource") == "default/serviceaccounttoken/default";
        state.heard.iter().find(about).cloned().unwrap()
    });
    assert_eq!(answer["header"].get("resourceversion"), None, "{}", answer["header"]);
    assert_eq!(answer["content"]["spec"]["expirationSeconds"], json!(3607));
    assert_eq!(text(&answer, "/content/status/token").split('.').count(), 3);
}

#[test]
fn a_device_is_known_reports_and_is_told_what_is_wanted() {
    let world = World::new("edgecore-device");
    let _cloud = world.cloud();
    let edge = Edgecore::start(&world, "gen", Version::V1_23);
    ready(&world, "gen");
    world.apply(&THERMOMETER.replace("edge-1", "gen"));
    edge.wait("membership, model and device", |state| {
        let known = state.members == ["default/t1"]
            && state.db.contains_key("default/devicemodel/thermometer")
            && state.db.contains_key("default/device/t1");
        known.then_some(())
    });
    edge.report("default/t1", "temperature", "21.5");
    edge.report_state("default/t1", "online");
    eventually("the value reaches the cloud", SOON, || match reported(&world, "t1", "temperature") {
        Some(value) if value == "21.5" => Ok(()),
        other => Err(other),
    });
    world.wait_value(&["devicestatus", "t1"], "/status/state", &json!("online"), SOON);
    eventually("both are confirmed", SOON, || match edge.unconfirmed() {
        0 => Ok(()),
        count => Err(count),
    });

    let patch = r#"[{"op":"replace","path":"/spec/properties/1/desired/value","value":"23"}]"#;
    world.kubectl_ok(&["patch", "device", "t1", "--type=json", "-p", patch]);
    edge.wait("the value that is wanted", |state| {
        let device = state.db.get("default/device/t1")?;
        (text(device, "/spec/properties/1/desired/value") == "23").then_some(())
    });
    world.kubectl_ok(&["delete", "device", "t1"]);
    edge.wait("the device is gone", |state| {
        (state.members.is_empty() && !state.db.contains_key("default/device/t1")).then_some(())
    });
}

#[test]
fn what_an_edge_has_is_not_sent_again_when_it_reconnects() {
    let world = World::new("edgecore-reconnect");
    let _cloud = world.cloud();
    let edge = Edgecore::start(&world, "gen", Version::V1_23);
    ready(&world, "gen");
    for name in ["one", "two"] {
        world.apply(&pod(name, ""));
        in_phase(&world, name, "Running");
    }
    // The status of a pod comes back as an update; wait until the cloud has nothing more to tell.
    let settled = edge.with_state(|state| state.connections);
    edge.unplug();
    edge.wait("back", |state| (state.connections > settled).then_some(()));
    world.kubectl_ok(&["label", "pod", "one", "changed=yes"]);
    let heard = edge.wait("the one change", |state| {
        let start = state.heard.iter().rposition(|m| text(m, "/route/resource") == "default/pod/one")?;
        (text(&state.heard[start], "/content/metadata/labels/changed") == "yes").then_some(start)
    });
    edge.with_state(|state| {
        let ids: Vec<&str> =
            state.pushes("default/pod/two").iter().map(|m| text(m, "/header/msg_id")).collect();
        let versions: Vec<&str> =
            state.pushes("default/pod/two").iter().map(|m| text(m, "/header/resourceversion")).collect();
        let mut once = versions.clone();
        once.dedup();
        assert_eq!(versions, once, "{ids:?} before {heard}");
    });
}

#[test]
fn a_node_changes_its_release_and_its_certificate_under_the_cloud() {
    let world = World::new("edgecore-upgrade");
    let _cloud = world.cloud();
    let edge = Edgecore::start(&world, "gen", Version::V1_22);
    ready(&world, "gen");
    world.apply(&pod("stays", ""));
    in_phase(&world, "stays", "Running");
    let uid = text(&world.get(&["node", "gen"]), "/metadata/uid").to_owned();
    // 1.23 looks for `null/node/gen`, which 1.22 has never written.
    edge.with_state(|state| assert!(state.db.contains_key("default/node/gen")));
    let edge = edge.restart_as(Version::V1_23);
    edge.wait("registered after the upgrade", |state| state.registered.then_some(()));
    edge.with_state(|state| assert_eq!(text(&state.db["null/node/gen"], "/metadata/uid"), uid));
    let edge = edge.renew(world.ports.cert).unwrap();
    edge.wait("registered with the new certificate", |state| state.registered.then_some(()));
    world.wait_value(
        &["node", "gen"],
        "/status/nodeInfo/kubeletVersion",
        &json!("v1.32.10-kubeedge-v1.23.1"),
        SOON,
    );
    in_phase(&world, "stays", "Running");
    // And back: the row of the older release is still there.
    let edge = edge.restart_as(Version::V1_21);
    edge.wait("registered after the way back", |state| state.registered.then_some(()));
    let answer = edge.ask(["edged", "meta", "query", "default/node/gen"], Value::Null);
    assert_eq!(text(&answer, "/content/metadata/uid"), uid);
    assert_eq!(text(&answer, "/route/resource"), "default/node/gen");
}
