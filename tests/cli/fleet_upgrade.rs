//! Upgrades of many nodes from the cloud: NodeUpgradeJobs of both API versions over simulated edgecores of each release,
//! hostile values, and the waves that `kedge edge upgrade --nodes/--selector` drives.

use crate::support::edgecore::enrol::get;
use crate::support::edgecore::{Edgecore, Tasks, Version, join};
use crate::support::machine::free_ports;
use crate::support::registry::{Registry, TOKEN};
use crate::support::replica::EdgeFile;
use crate::support::snapshot;
use crate::support::told::told;
use crate::support::world::{Daemon, World};
use crate::support::{Run, eventually, fleet};
use kedge::pki::client_config;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Edgecores with these names that are Ready and do tasks so.
pub(crate) fn edges(world: &World, names: &[(&str, Version)], tasks: &Tasks) -> Vec<Edgecore> {
    let edges: Vec<Edgecore> =
        names.iter().map(|(name, version)| Edgecore::start(world, name, *version)).collect();
    for (edge, (name, _)) in edges.iter().zip(names) {
        edge.with_state(|state| state.tasks = tasks.clone());
        world.wait_value(&["node", name], "/metadata/name", &json!(name), SOON);
        world.kubectl_ok(&["wait", "--for=condition=Ready", &format!("node/{name}"), "--timeout=20s"]);
    }
    edges
}

fn job(name: &str, spec: &Value) -> String {
    json!({"apiVersion": "operations.kubeedge.io/v1alpha2", "kind": "NodeUpgradeJob", "metadata": {"name": name},
        "spec": spec})
    .to_string()
}

/// The job once it is over.
fn ended(world: &World, name: &str) -> Value {
    eventually(&format!("{name} ends"), Duration::from_secs(60), || {
        let job = world.get(&["nodeupgradejobs.v1alpha2.operations.kubeedge.io", name]);
        match text(&job, "/status/phase") {
            "Completed" | "Failure" => Ok(job),
            _ => Err(job),
        }
    })
}

fn row<'a>(job: &'a Value, node: &str) -> &'a Value {
    let rows = job.pointer("/status/nodeStatus").and_then(Value::as_array).expect("rows");
    rows.iter().find(|row| row["nodeName"] == json!(node)).unwrap_or_else(|| panic!("{node} in {job:#}"))
}

fn actions(row: &Value) -> Vec<String> {
    let flow = row.get("actionFlow").and_then(Value::as_array);
    flow.into_iter()
        .flatten()
        .map(|one| format!("{} {}", text(one, "/action"), text(one, "/status")))
        .collect()
}

#[test]
fn a_job_upgrades_edgecores_of_each_release_and_survives_the_clouds_end() {
    let world = World::new("fleet-upgrade");
    let mut cloud = world.cloud();
    let names = [("a", Version::V1_21), ("b", Version::V1_22), ("c", Version::V1_23)];
    let fleet = edges(&world, &names, &Tasks::Work);
    // c is what the job wants already; b hangs until the cloud has been away.
    fleet[1].with_state(|state| state.tasks = Tasks::Hang);
    world.kubectl_ok(&["label", "node", "a", "b", "c", "site=lab"]);
    world.apply(&job(
        "up",
        &json!({"version": "v1.23.1", "labelSelector": {"matchLabels": {"site": "lab"}},
        "concurrency": 1, "failureTolerate": "0", "timeoutSeconds": 60, "checkItems": ["cpu", "mem"]}),
    ));
    fleet[1].wait("b is ordered", |state| state.orders.last().cloned());
    let before = world.get(&["nodeupgradejobs.v1alpha2.operations.kubeedge.io", "up"]);
    assert_eq!(text(row(&before, "a"), "/phase"), "Successful", "{before:#}");
    assert_eq!(text(row(&before, "b"), "/phase"), "InProgress", "{before:#}");
    let connections = fleet[1].with_state(|state| state.connections);
    cloud.kill();
    let _cloud = world.cloud();
    let order = fleet[1].with_state(|state| state.orders.last().cloned().unwrap());
    assert_eq!(text(&order, "/route/operation"), "Check");
    assert_eq!(text(&order, "/content/image"), "kubeedge/installation-package");
    // What b says now counts: the API object is the truth.
    fleet[1].wait("b is back", |state| (state.connected && state.connections > connections).then_some(()));
    fleet[1].with_state(|state| state.tasks = Tasks::Work);
    fleet[1].carry_out(&order);
    let done = ended(&world, "up");
    assert_eq!(text(&done, "/status/phase"), "Completed", "{done:#}");
    for name in ["a", "b"] {
        let row = row(&done, name);
        let expected = ["Check True", "WaitingConfirmation True", "BackUp True", "Upgrade True"];
        assert_eq!(
            (text(row, "/phase"), actions(row)),
            ("Successful", expected.map(str::to_owned).to_vec()),
            "{done:#}"
        );
        assert_eq!(text(row, "/currentVersion"), "v1.23.1");
        assert!(row["actionFlow"].as_array().unwrap().iter().all(|one| !text(one, "/time").is_empty()));
    }
    assert!(text(row(&done, "c"), "/reason").contains("already"), "{done:#}");
    assert_eq!(fleet[1].with_state(|state| state.orders.len()), 1, "a genuine edge is ordered once");
}

#[test]
fn the_budget_stops_and_every_failure_has_a_reason() {
    let world = World::new("fleet-budget");
    let _cloud = world.cloud();
    let names = [("a", Version::V1_22), ("b", Version::V1_22), ("c", Version::V1_22)];
    let fleet = edges(&world, &names, &Tasks::FailAt("Upgrade".to_owned(), "no space left".to_owned()));
    world.apply(&job(
        "up",
        &json!({"version": "v1.23.1", "nodeNames": ["a", "b", "c"], "timeoutSeconds": 60}),
    ));
    let done = ended(&world, "up");
    assert_eq!(text(&done, "/status/phase"), "Failure");
    assert_eq!(text(&done, "/status/reason"), "1 of 3 nodes failed, failureTolerate is 0; 2 were not begun");
    let first = row(&done, "a");
    assert_eq!(actions(first).last().map(String::as_str), Some("RollBack True"), "{done:#}");
    assert!(
        text(first, "/reason").contains("no space left") && text(first, "/reason").contains("undone"),
        "{done:#}"
    );
    for name in ["b", "c"] {
        assert_eq!((text(row(&done, name), "/phase"), actions(row(&done, name)).len()), ("Pending", 0));
    }
    assert!(fleet[1].with_state(|state| state.orders.is_empty()));

    // A task manager that is off says nothing; its node is given up with a hint.
    fleet[1].with_state(|state| state.tasks = Tasks::Off);
    world.apply(&job("off", &json!({"version": "v1.23.1", "nodeNames": ["b"], "timeoutSeconds": 2})));
    let off = ended(&world, "off");
    assert_eq!(text(row(&off, "b"), "/phase"), "Unknown", "{off:#}");
    assert!(text(row(&off, "b"), "/reason").contains("taskManager"), "{off:#}");

    // Somebody is waited for, longer than the limit of a step.
    fleet[2].with_state(|state| state.tasks = Tasks::Work);
    world.apply(&job(
        "ask",
        &json!({"version": "v1.23.1", "nodeNames": ["c"], "timeoutSeconds": 5,
        "requireConfirmation": true}),
    ));
    let asked = || {
        let job = world.get(&["nodeupgradejobs.v1alpha2.operations.kubeedge.io", "ask"]);
        if text(&job, "/status/nodeStatus/0/reason").contains("keadm ctl confirm") {
            Ok(())
        } else {
            Err(job)
        }
    };
    eventually("c waits", SOON, asked);
    // The limit passes, and the cloud looks at the job once more.
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(asked(), Ok(()));
}

#[test]
fn what_is_hostile_or_impossible_is_said_in_the_status_and_reaches_no_node() {
    let world = World::new("fleet-hostile");
    let _cloud = world.cloud();
    let fleet = edges(&world, &[("a", Version::V1_23)], &Tasks::Work);
    let specs = [
        json!({"version": "v1.2.3;reboot", "nodeNames": ["a"]}),
        json!({"version": "$(reboot)", "nodeNames": ["a"]}),
        json!({"version": "v1.2.3\nreboot", "nodeNames": ["a"]}),
        json!({"version": "v1.2.3", "image": "kubeedge/x;reboot", "nodeNames": ["a"]}),
        json!({"version": "v1.2.3", "image": "kubeedge/$(reboot)", "nodeNames": ["a"]}),
        json!({"version": "v1.2.3", "image": "kubeedge/x\nreboot", "nodeNames": ["a"]}),
        json!({"version": "v1.2.3", "nodeNames": ["a"], "imageDigestGatter": {"amd64": "sha256:`id`"}}),
        json!({"version": "v1.2.3", "nodeNames": ["a"], "labelSelector": {"matchLabels": {"a": "b"}}}),
        json!({"version": "v1.2.3"}),
        json!({"version": "v1.2.3", "nodeNames": ["nobody"]}),
        json!({"version": "v1.2.3", "labelSelector": {"matchLabels": {"no": "node"}}}),
        json!({"version": "v1.2.3", "nodeNames": ["a"], "failureTolerate": "$(id)"}),
    ];
    for (n, spec) in specs.iter().enumerate() {
        let name = format!("bad-{n}");
        world.apply(&job(&name, spec));
        let done = ended(&world, &name);
        assert_eq!(text(&done, "/status/phase"), "Failure", "{done:#}");
        assert!(!text(&done, "/status/reason").is_empty(), "{done:#}");
    }
    for (n, value) in ["true;reboot", "$(reboot)", "a\nb", "a,modules.edgeHub.token=x"].iter().enumerate() {
        let name = format!("config-{n}");
        let spec = json!({"nodeNames": ["a"], "updateFields": {"modules.edgeStream.enable": value}});
        let manifest = json!({"apiVersion": "operations.kubeedge.io/v1alpha2", "kind": "ConfigUpdateJob",
            "metadata": {"name": name}, "spec": spec});
        world.apply(&manifest.to_string());
        world.wait_value(&["configupdatejob", &name], "/status/phase", &json!("Failure"), SOON);
    }
    assert_eq!(fleet[0].with_state(|state| state.orders.clone()), [Value::Null; 0]);
}

#[test]
fn the_older_engine_goes_stage_by_stage_on_the_older_api() {
    let world = World::new("fleet-v1alpha1");
    let _cloud = fleet::cloud_with(&world, 10, &json!({"disableNodeTaskV1alpha2": true}));
    let fleet = edges(&world, &[("a", Version::V1_21), ("b", Version::V1_22)], &Tasks::Work);
    let manifest = json!({"apiVersion": "operations.kubeedge.io/v1alpha1", "kind": "NodeUpgradeJob",
        "metadata": {"name": "up"}, "spec": {"version": "v1.23.1", "nodeNames": ["a", "b"], "concurrency": 1,
        "timeoutSeconds": 60, "checkItems": ["cpu"]}});
    world.apply(&manifest.to_string());
    let upgraded = |name: &str| {
        let kind = ["nodeupgradejobs.v1alpha1.operations.kubeedge.io", name];
        eventually("the job of v1alpha1 ends", Duration::from_secs(60), || {
            let job = world.get(&kind);
            match text(&job, "/status/state") {
                "Successful" | "Failed" => Ok(job),
                _ => Err(job),
            }
        })
    };
    let done = upgraded("up");
    assert_eq!(text(&done, "/status/state"), "Successful", "{done:#}");
    for name in ["a", "b"] {
        let row = row(&done, name);
        assert_eq!(
            (text(row, "/state"), text(row, "/event"), text(row, "/action")),
            ("Successful", "Upgrade", "Success")
        );
    }
    let states = |edge: &Edgecore| {
        edge.with_state(|state| {
            state.orders.iter().map(|order| text(order, "/content/State").to_owned()).collect::<Vec<_>>()
        })
    };
    assert_eq!(states(&fleet[0]), ["Init", "Checking", "BackingUp", "Upgrading"]);
    let order = fleet[1].with_state(|state| state.orders[0].clone());
    assert_eq!(text(&order, "/route/resource"), "upgrade/up/node/b");
    assert_eq!(text(&order, "/content/Item/Image"), "kubeedge/installation-package:v1.23.1");
    let mut bad = manifest;
    bad["metadata"]["name"] = json!("bad");
    bad["spec"]["version"] = json!("v1.2.3;reboot");
    world.apply(&bad.to_string());
    let bad = upgraded("bad");
    assert_eq!((text(&bad, "/status/state"), text(&bad, "/status/action")), ("Failed", "Failure"));
    assert!(text(&bad, "/status/reason").contains("no version"), "{bad:#}");
}

/// A job that leaves the digest of its image to a registry.
fn gated(name: &str, version: &str, nodes: &[&str], host: &str, token: &str) -> Value {
    json!({"apiVersion": format!("operations.kubeedge.io/{version}"), "kind": "NodeUpgradeJob",
        "metadata": {"name": name}, "spec": {"version": "v1.23.1", "nodeNames": nodes, "concurrency": 1,
        "timeoutSeconds": 60, "imageDigestGatter": {"registryAPI": {"host": host, "token": token}}}})
}

#[test]
fn a_registry_names_the_digest_once_and_its_token_reaches_no_node() {
    let world = World::new("fleet-registry");
    let mut registry = Registry::start(&world.dir);
    let section = json!({"registryCAFile": registry.ca});
    let mut cloud = fleet::cloud_of(&world, 10, &json!({}), &section);
    let fleet = edges(&world, &[("a", Version::V1_21), ("b", Version::V1_22)], &Tasks::Work);
    let [first, second] = ["ab", "cd"].map(|byte| format!("sha256:{}", byte.repeat(32)));
    registry.has(&first);
    fleet[0].with_state(|state| state.tasks = Tasks::Hang);
    world.apply(&gated("up", "v1alpha2", &["a", "b"], &registry.host, TOKEN).to_string());
    let order = fleet[0].wait("a is ordered", |state| state.orders.last().cloned());
    let running = world.get(&["nodeupgradejobs.v1alpha2.operations.kubeedge.io", "up"]);
    let noted = text(&running, "/status/reason");
    assert!(noted.contains(&first) && noted.contains(&registry.host), "{noted}");

    // The tag moves and the cloud ends: the job stays with what its first node was told.
    registry.has(&second);
    cloud.kill();
    let _cloud = fleet::cloud_of(&world, 10, &json!({}), &section);
    fleet[0].wait("a is back", |state| (state.connected && state.connections > 1).then_some(()));
    fleet[0].with_state(|state| state.tasks = Tasks::Work);
    fleet[0].carry_out(&order);
    let done = ended(&world, "up");
    assert_eq!(text(&done, "/status/phase"), "Completed", "{done:#}");
    let path = "/v2/kubeedge/installation-package/manifests/v1.23.1";
    assert_eq!(registry.asked(), [format!("HEAD {path}")]);
    for edge in &fleet {
        let order = edge.with_state(|state| state.orders[0].clone());
        let gate = &order["content"]["imageDigestGatter"];
        assert_eq!((&gate["amd64"], &gate["arm64"]), (&json!(first), &json!(first)), "{order:#}");
        assert!(!order.to_string().contains(TOKEN), "{order:#}");
    }

    // Whatever a registry answers, the job says it, and no node hears of it.
    let told = |name: &str, code: &str| {
        let done = ended(&world, name);
        assert_eq!(text(&done, "/status/phase"), "Failure", "{done:#}");
        let reason = text(&done, "/status/reason").to_owned();
        assert!(reason.contains(code) && !reason.contains(TOKEN), "{reason}");
        reason
    };
    world.apply(&gated("refused", "v1alpha2", &["b"], &registry.host, "an0ther").to_string());
    assert!(!told("refused", "KE-JOB-003").contains("an0ther"));
    let mut absent = gated("absent", "v1alpha2", &["b"], &registry.host, TOKEN);
    absent["spec"]["version"] = json!("v1.24.0");
    world.apply(&absent.to_string());
    assert!(told("absent", "KE-JOB-004").contains("installation-package:v1.24.0"));
    registry.has("nonsense");
    world.apply(&gated("nonsense", "v1alpha2", &["b"], &registry.host, TOKEN).to_string());
    told("nonsense", "KE-JOB-005");
    registry.stop();
    world.apply(&gated("down", "v1alpha2", &["b"], &registry.host, TOKEN).to_string());
    told("down", "KE-JOB-002");
    assert_eq!(fleet[1].with_state(|state| state.orders.len()), 1);
    assert!(!world.whole_log("cloud.err").contains(TOKEN));
}

#[test]
fn the_older_engine_asks_a_registry_too() {
    let world = World::new("fleet-registry-v1alpha1");
    let registry = Registry::start(&world.dir);
    let digest = format!("sha256:{}", "ef".repeat(32));
    registry.has(&digest);
    let gates = json!({"disableNodeTaskV1alpha2": true});
    let _cloud = fleet::cloud_of(&world, 10, &gates, &json!({"registryCAFile": registry.ca}));
    let fleet = edges(&world, &[("a", Version::V1_22)], &Tasks::Work);
    world.apply(&gated("up", "v1alpha1", &["a"], &registry.host, TOKEN).to_string());
    let kind = ["nodeupgradejobs.v1alpha1.operations.kubeedge.io", "up"];
    world.wait_value(&kind, "/status/state", &json!("Successful"), Duration::from_secs(60));
    let orders = fleet[0].with_state(|state| state.orders.clone());
    assert_eq!(text(&orders[0], "/content/Item/ImageDigest"), digest, "{orders:#?}");
    assert!(!json!(orders).to_string().contains(TOKEN));
    world.apply(&gated("refused", "v1alpha1", &["a"], &registry.host, "an0ther").to_string());
    let kind = ["nodeupgradejobs.v1alpha1.operations.kubeedge.io", "refused"];
    world.wait_value(&kind, "/status/state", &json!("Failed"), SOON);
    assert!(text(&world.get(&kind), "/status/reason").contains("KE-JOB-003"));
}

fn waves(world: &World, more: &[&str]) -> Run {
    let config = world.kubeconfig().display().to_string();
    let mut args =
        vec!["edge", "upgrade", "--to", "1.23.1", "--kube-config", &config, "--node-timeout", "30"];
    args.extend(more);
    crate::support::kedge(&args)
}

#[test]
fn waves_begin_with_one_node_stop_on_the_budget_and_go_on() {
    let world = World::new("fleet-waves");
    let _cloud = world.cloud();
    let names: Vec<String> = (0..5).map(|n| format!("w{n}")).collect();
    let named: Vec<(&str, Version)> = names.iter().map(|name| (name.as_str(), Version::V1_22)).collect();
    let fleet = edges(&world, &named, &Tasks::Work);
    for name in &names {
        world.kubectl_ok(&["label", "node", name, "site=lab"]);
    }
    let flags = ["--selector", "site=lab", "--max-unavailable", "50%"];
    let shown = waves(&world, &[flags.as_slice(), &["--dry-run"]].concat());
    shown.assert_status(0);
    assert_eq!(shown.stdout, "wave 1: w0\nwave 2: w1, w2\nwave 3: w3, w4\n");
    assert_eq!(world.get(&["nodeupgradejob"])["items"], json!([]));

    fleet[1].with_state(|state| state.tasks = Tasks::FailAt("Check".to_owned(), "disk is full".to_owned()));
    let stopped = waves(&world, &flags);
    stopped.assert_status(1);
    assert!(
        stopped.stderr.contains("KE-FLEET-003") && stopped.stderr.contains("w1: disk is full"),
        "{stopped:?}"
    );
    snapshot::failed(&stopped);
    let lines: Vec<String> = stopped
        .stdout
        .lines()
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(lines, ["NODE STATE", "w0 upgraded", "w1 failed", "w2 upgraded", "w3 left", "w4 left"]);
    assert!(fleet[3].with_state(|state| state.orders.is_empty()));

    // The same words again: what is done is done, what failed comes last, and nothing is begun twice.
    fleet[1].with_state(|state| state.tasks = Tasks::Work);
    let done = waves(&world, &[flags.as_slice(), &["-o", "json"]].concat());
    done.assert_status(0);
    let document: Value = serde_json::from_str(&done.stdout).unwrap();
    assert!(
        document["nodes"].as_array().unwrap().iter().all(|node| node["state"] == "upgraded"),
        "{document:#}"
    );
    assert_eq!(fleet[0].with_state(|state| state.orders.len()), 1);
    assert_eq!(fleet[1].with_state(|state| state.orders.len()), 2);

    let nobody = waves(&world, &["--nodes", "w0,nobody"]);
    nobody.assert_status(1);
    assert!(nobody.stderr.contains("KE-FLEET-002") && nobody.stderr.contains("nobody"), "{nobody:?}");
    snapshot::failed(&nobody);
    let file = crate::support::kedge(&["edge", "upgrade", "--to", "./kedge.new", "--nodes", "w0"]);
    file.assert_status(2);
    assert!(file.stderr.contains("KE-FLEET-001"), "{file:?}");
    snapshot::failed(&file);
}

#[test]
fn failures_within_the_budget_stop_no_wave_and_are_told_in_the_end() {
    let world = World::new("fleet-within");
    let _cloud = world.cloud();
    let fleet = edges(&world, &[("w0", Version::V1_22), ("w1", Version::V1_22)], &Tasks::Work);
    fleet[0].with_state(|state| state.tasks = Tasks::FailAt("Check".to_owned(), "disk is full".to_owned()));
    let ended = waves(&world, &["--nodes", "w0,w1", "--failure-budget", "1"]);
    ended.assert_status(1);
    assert!(ended.stderr.contains("KE-FLEET-004") && ended.stdout.contains("disk is full"), "{ended:?}");
    snapshot::failed(&ended);
    assert_eq!(fleet[1].with_state(|state| state.orders.len()), 1, "{ended:?}");
}

#[test]
fn an_interrupted_rollout_says_what_goes_on_and_the_next_run_takes_it_up() {
    let world = World::new("fleet-interrupted");
    let _cloud = world.cloud();
    let fleet = edges(&world, &[("w0", Version::V1_22), ("w1", Version::V1_22)], &Tasks::Hang);
    let config = world.kubeconfig().display().to_string();
    let args = ["edge", "upgrade", "--to", "1.23.1", "--nodes", "w0,w1", "--kube-config", &config];
    let mut rollout = world.start("rollout", &args.map(str::to_owned));
    let order = fleet[0].wait("w0 is ordered", |state| state.orders.last().cloned());
    assert_eq!(rollout.interrupt(), 130);
    let said = world.whole_log("rollout.err");
    assert!(said.contains("goes on in the cluster") && said.contains("no further wave"), "{said}");
    for edge in &fleet {
        edge.with_state(|state| state.tasks = Tasks::Work);
    }
    fleet[0].carry_out(&order);
    let done = waves(&world, &["--nodes", "w0,w1"]);
    done.assert_status(0);
    assert_eq!(fleet[0].with_state(|state| state.orders.len()), 1, "{done:?}");
    assert_eq!(fleet[1].with_state(|state| state.orders.len()), 1, "{done:?}");
}

#[test]
fn a_node_gets_releases_that_are_signed_and_nobody_else_does() {
    let world = World::new("fleet-releases");
    let _cloud = world.cloud();
    let place = world.data_dir().join("releases/1.2.3/amd64");
    std::fs::create_dir_all(&place).unwrap();
    let content = vec![42; 3 << 20];
    std::fs::write(place.join("kedge"), &content).unwrap();
    let token = world.kedge(&["gettoken"]);
    let node = join(world.ports.cert, "gen", token.stdout.trim()).unwrap();
    let known = client_config(&node.ca_pem, Some(&node.identity)).unwrap();
    let stranger = client_config(&node.ca_pem, None).unwrap();
    let ask = |path: &str| get(world.ports.cert, path, &known, &[], &[]);
    let (code, why) = ask("/kedge/releases/v1.2.3/amd64");
    assert!(code == 404 && String::from_utf8_lossy(&why).contains("no signature"), "{code}");
    std::fs::write(place.join("kedge.sig"), "c2lnbmF0dXJl").unwrap();
    assert_eq!(ask("/kedge/releases/v1.2.3/amd64"), (200, content));
    assert_eq!(get(world.ports.cert, "/kedge/releases/v1.2.3/amd64", &stranger, &[], &[]).0, 401);
    for path in
        ["/kedge/releases/v1.2.4/amd64", "/kedge/releases/..%2f..%2fetc/amd64", "/kedge/releases/v1.2.3/.."]
    {
        assert!([400, 404].contains(&ask(path).0), "{path}");
    }
}

fn update(name: &str, fields: &Value) -> String {
    json!({"apiVersion": "operations.kubeedge.io/v1alpha2", "kind": "ConfigUpdateJob", "metadata": {"name": name},
        "spec": {"nodeNames": ["edge-1"], "timeoutSeconds": 60, "updateFields": fields}})
    .to_string()
}

#[test]
fn a_configuration_is_changed_on_a_node_and_the_daemon_begins_anew_with_it() {
    let world = World::new("fleet-config");
    let _cloud = world.cloud();
    let token = world.kedge(&["gettoken"]);
    let [mqtt] = free_ports();
    let file = EdgeFile {
        node: "edge-1",
        hub: world.ports.hub,
        cert: world.ports.cert,
        mqtt,
        token: Some(token.stdout.trim()),
    };
    let edge = file.start(&world);
    world.wait_value(&["node", "edge-1"], "/metadata/name", &json!("edge-1"), SOON);
    let pid = edge.pid();
    world.apply(&update(
        "labels",
        &json!({"modules.edged.nodeLabels.site": "lab", "modules.edgeHub.heartbeat": "9"}),
    ));
    let limit = Duration::from_secs(60);
    world.wait_value(&["configupdatejob", "labels"], "/status/phase", &json!("Completed"), limit);
    let done = world.get(&["configupdatejob", "labels"]);
    assert_eq!(actions(row(&done, "edge-1")), ["Check True", "BackUp True", "Update True"], "{done:#}");
    let path = world.dir.join("edge-1/config/edgecore.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("heartbeat: 9") && text.contains("site: lab"), "{text}");
    assert!(path.with_file_name("edgecore.yaml.before-update").exists());
    // The same process: whoever supervises it has seen no end.
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());

    for (name, fields, why) in [
        ("token", json!({"modules.edgeHub.token": "stolen"}), "may not change"),
        ("pods", json!({"modules.edged.tailoredKubeletConfig.staticPodPath": "/tmp"}), "may not change"),
        ("type", json!({"modules.edgeStream.enable": "perhaps"}), "true or false"),
        ("mode", json!({"modules.eventBus.mqttMode": "7"}), "mqttMode"),
    ] {
        world.apply(&update(name, &fields));
        world.wait_value(&["configupdatejob", name], "/status/phase", &json!("Failure"), limit);
        let job = world.get(&["configupdatejob", name]);
        let said = row(&job, "edge-1")["reason"].as_str().unwrap_or_default().to_owned();
        assert!(said.contains(why), "{name}: {said}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

    // Where its program is gone it cannot begin anew, and says so.
    drop(edge);
    let program = world.dir.join("kedge-that-goes");
    std::fs::copy(crate::support::binary(), &program).unwrap();
    let mut command = std::process::Command::new(&program);
    command.args(["edge", "run", "--config", path.to_str().unwrap()]);
    let mut edge = Daemon::start(&world.dir, "gone", &mut command);
    std::fs::remove_file(&program).unwrap();
    world.apply(&update("last", &json!({"modules.edgeHub.heartbeat": "8"})));
    assert_eq!(edge.wait_end(limit), 1, "{}", world.log("gone.err"));
    let said = told(&world.log("gone.err")).pop().unwrap();
    assert_eq!(said.code, "KE-RUN-006");
    assert!(said.why.contains("No such file") && said.fix.contains("start the service again"), "{said:?}");
    assert!(std::fs::read_to_string(&path).unwrap().contains("heartbeat: 8"));
}
