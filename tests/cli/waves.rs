//! An upgrade of a fleet with nothing simulated: kedge nodes under their launchers, a cloud that hands out the release, and
//! `kedge edge upgrade --selector` that drives them wave by wave; a release that never gets well stops at the first node.

use crate::support::eventually;
use crate::support::house::{House, KUBECONFIG};
use crate::support::releases::{Instead, OWN, Releases};
use crate::support::world::{Daemon, World};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const CONFIG: &str = "/etc/kubeedge/config/edgecore.yaml";
const LAUNCHER: &str = "/var/lib/kedge/versions/launcher/kedge";
const DONE: [&str; 4] = ["Check True", "WaitingConfirmation True", "BackUp True", "Upgrade True"];

/// A node that has joined, and whose launcher a loop of the shell starts again as a service would.
struct Node<'w> {
    world: &'w World,
    name: &'w str,
    house: House<'w>,
    _keeper: Daemon,
}

impl<'w> Node<'w> {
    fn join(world: &'w World, name: &'w str, cloud: &House<'_>, releases: &Releases) -> Node<'w> {
        let house = House::new(world, name);
        let token = cloud.kedge(&["gettoken", "--kube-config", KUBECONFIG]);
        token.assert_status(0);
        let config = house.kedge(&["edge", "config", "--minconfig"]).stdout;
        let config = config
            .replace("https://127.0.0.1:10002", &format!("https://{}:10002", cloud.address()))
            .replace("server: 127.0.0.1:10000", &format!("server: {}:10000", cloud.address()))
            .replace("token: \"\"", &format!("token: {}", token.stdout.trim()))
            .replace("hostnameOverride: edge-1", &format!("hostnameOverride: {name}"))
            .replace("containerd: auto", "containerd: \"off\"");
        house.write(CONFIG, config);
        house.write("/etc/kubeedge/upgrade-keys/release.pub", releases.public());
        let launch = format!(
            "while true; do if [ -x {LAUNCHER} ]; then {LAUNCHER} edge launch --config {CONFIG}; \
             else /usr/local/bin/kedge edge launch --config {CONFIG}; fi; sleep 0.1; done"
        );
        let keeper = house.start_program(&format!("keeper-{name}"), "sh", &["-c", &launch]);
        Node { world, name, house, _keeper: keeper }
    }

    fn log(&self) -> String {
        self.world.log(&format!("keeper-{}.err", self.name))
    }

    /// Waits until this version serves and is no longer on trial.
    #[track_caller]
    fn settles(&self, version: &str) -> Value {
        eventually(&format!("{} runs {version}", self.name), SOON, || {
            let read = |args: &[&str]| {
                serde_json::from_str::<Value>(&self.house.kedge(args).stdout).unwrap_or_default()
            };
            let status = read(&["status", "-o", "json", "--socket", "/var/lib/kubeedge/kedge.sock"]);
            let history = read(&["edge", "history", "-o", "json"]);
            let settled = status["version"] == version && history["trial"].is_null();
            if settled { Ok(history) } else { Err((status, history, self.log())) }
        })
    }
}

/// Puts a release where the cloud looks for it.
fn publish(cloud: &House<'_>, version: &str, file: &str) {
    let place = format!("/var/lib/kedge/releases/{version}/{}/kedge", std::env::consts::ARCH);
    cloud.write(&place, fs::read(file).unwrap());
    cloud.write(&format!("{place}.sig"), fs::read(format!("{file}.sig")).unwrap());
}

/// The jobs of the roll-out of a version, in the order of their waves.
fn jobs(cloud: &House<'_>, version: &str) -> Vec<Value> {
    let got = cloud.kubectl(&["get", "nodeupgradejobs.v1alpha2.operations.kubeedge.io", "-o", "json"]);
    let list: Value = serde_json::from_str(&got.stdout).unwrap_or_default();
    let mut jobs = list["items"].as_array().cloned().unwrap_or_default();
    jobs.retain(|job| job["spec"]["version"] == format!("v{version}") || job["spec"]["version"] == version);
    jobs.sort_by_key(|job| job["metadata"]["name"].to_string());
    jobs
}

/// The nodes of a job, each with its phase and its steps.
fn rows(job: &Value) -> Vec<(String, String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let step = |step: &Value| format!("{} {}", text(&step["action"]), text(&step["status"]));
    let row = |row: &Value| {
        let steps = list(&row["actionFlow"]).iter().map(step).collect();
        (text(&row["nodeName"]), text(&row["phase"]), steps)
    };
    list(&job["status"]["nodeStatus"]).iter().map(row).collect()
}

fn row(node: &str, phase: &str, steps: &[&str]) -> (String, String, Vec<String>) {
    (node.to_owned(), phase.to_owned(), steps.iter().map(|step| (*step).to_owned()).collect())
}

#[test]
fn waves_carry_a_release_to_real_nodes_and_an_unwell_one_stops_at_the_first() {
    let world = World::new("waves");
    let cloud = House::new(&world, "cloud");
    let _daemon = cloud.cloud();
    let releases = Releases::new(&world.dir.join("releases"));
    let nodes = ["edge-a", "edge-b"].map(|name| Node::join(&world, name, &cloud, &releases));
    publish(&cloud, "0.1.1", &releases.kedge("0.1.1"));
    publish(&cloud, "0.1.2", &releases.stand_in("0.1.2", Instead::Ends));
    for node in &nodes {
        node.settles(OWN);
        eventually(&format!("{} is Ready", node.name), SOON, || {
            let ready = format!("node/{}", node.name);
            let got = cloud.kubectl(&["wait", "--for=condition=Ready", &ready, "--timeout=1s"]);
            if got.status == 0 { Ok(()) } else { Err((got, node.log())) }
        });
    }
    cloud.kubectl(&["label", "node", "edge-a", "edge-b", "site=lab"]).assert_status(0);
    let upgrade = |version: &str| {
        let flags = ["--selector", "site=lab", "--max-unavailable", "1", "--wait", "-o", "json"];
        let args = ["edge", "upgrade", "--to", version, "--kube-config", KUBECONFIG];
        cloud.kedge(&[&args[..], &flags].concat())
    };
    let logs = || nodes.each_ref().map(Node::log);

    let done = upgrade("0.1.1");
    assert_eq!(done.status, 0, "{done:?}\n{:#?}", logs());
    let told: Value = serde_json::from_str(&done.stdout).unwrap();
    let states = told["nodes"].as_array().unwrap().iter().map(|it| (it["node"].clone(), it["state"].clone()));
    assert_eq!(
        states.collect::<Vec<_>>(),
        [(json!("edge-a"), json!("upgraded")), (json!("edge-b"), json!("upgraded"))]
    );
    let waves = jobs(&cloud, "0.1.1");
    let expected: Vec<_> = nodes.iter().map(|node| vec![row(node.name, "Successful", &DONE)]).collect();
    assert_eq!(waves.iter().map(rows).collect::<Vec<_>>(), expected, "{waves:#?}");
    for (node, job) in nodes.iter().zip(&waves) {
        let history = node.settles("0.1.1");
        let last = history["items"].as_array().and_then(|items| items.last()).unwrap();
        assert_eq!(last["by"], format!("job {}", job["metadata"]["name"].as_str().unwrap()));
        let path = "jsonpath={.status.nodeInfo.kubeletVersion}";
        eventually("the cluster knows what the node runs", SOON, || {
            let got = cloud.kubectl(&["get", "node", node.name, "-o", path]).stdout;
            if got.ends_with("-kedge-0.1.1") { Ok(()) } else { Err(got) }
        });
    }
    // Said again, there is nothing to do, and no job is made.
    upgrade("0.1.1").assert_status(0);
    assert_eq!(jobs(&cloud, "0.1.1").len(), 2);

    let stopped = upgrade("0.1.2");
    assert_eq!(stopped.status, 1, "{stopped:?}\n{:#?}", logs());
    assert!(stopped.stderr.contains("KE-FLEET-003") && stopped.stderr.contains("edge-a"), "{stopped:?}");
    crate::support::snapshot::failed(&stopped);
    let back = ["Check True", "WaitingConfirmation True", "BackUp True", "Upgrade False", "RollBack True"];
    eventually("the way back is told", SOON, || {
        let found: Vec<_> = jobs(&cloud, "0.1.2").iter().map(rows).collect();
        let expected = [[row("edge-a", "Failure", &back)]];
        if found == expected { Ok(()) } else { Err((found, logs())) }
    });
    let [first, second] = nodes.each_ref().map(|node| node.settles("0.1.1"));
    let last = first["items"].as_array().and_then(|items| items.last()).unwrap();
    assert_eq!((&last["to"], &last["outcome"]), (&json!("0.1.2"), &json!("returned")));
    assert_eq!(second["items"].as_array().map(Vec::len), Some(1), "it was never begun: {second:#}");
}

/// A cloud with KubeEdge's older engine for jobs.
fn older_cloud(house: &House<'_>) -> Daemon {
    let config = json!({
        "apiVersion": "cloudcore.config.kubeedge.io/v1alpha2", "kind": "CloudCore",
        "featureGates": {"disableNodeTaskV1alpha2": true},
        "modules": {"cloudHub": {"advertiseAddress": [house.address()]}},
    });
    house.write("/etc/kubeedge/config/cloudcore.yaml", config.to_string());
    let mut daemon = house.start("cloud", &["cloud", "run", "--embedded"]);
    daemon.wait_for("ready", SOON);
    daemon
}

#[test]
fn a_job_of_the_older_api_upgrades_a_real_node_and_one_that_fails_is_taken_back() {
    let world = World::new("waves-older");
    let cloud = House::new(&world, "cloud");
    let _daemon = older_cloud(&cloud);
    let releases = Releases::new(&world.dir.join("releases"));
    let node = Node::join(&world, "edge-a", &cloud, &releases);
    publish(&cloud, "0.1.1", &releases.kedge("0.1.1"));
    publish(&cloud, "0.1.2", &releases.stand_in("0.1.2", Instead::Ends));
    node.settles(OWN);
    eventually("the node is Ready", SOON, || {
        let got = cloud.kubectl(&["wait", "--for=condition=Ready", "node/edge-a", "--timeout=1s"]);
        if got.status == 0 { Ok(()) } else { Err((got, node.log())) }
    });
    let job = |name: &str, version: &str| {
        let manifest = json!({"apiVersion": "operations.kubeedge.io/v1alpha1", "kind": "NodeUpgradeJob",
            "metadata": {"name": name}, "spec": {"version": version, "nodeNames": ["edge-a"], "timeoutSeconds": 60}});
        let file = world.dir.join(format!("{name}.yaml"));
        fs::write(&file, manifest.to_string()).unwrap();
        cloud.kubectl(&["apply", "-f", file.to_str().unwrap()]).assert_status(0);
        eventually(&format!("{name} ends"), Duration::from_secs(90), || {
            let kind = "nodeupgradejobs.v1alpha1.operations.kubeedge.io";
            let got = cloud.kubectl(&["get", kind, name, "-o", "json"]);
            let job: Value = serde_json::from_str(&got.stdout).unwrap_or_default();
            match job["status"]["state"].as_str() {
                Some("Successful" | "Failed") => Ok(job),
                _ => Err((job["status"].clone(), node.log())),
            }
        })
    };
    let row = |job: &Value| {
        let row = &job["status"]["nodeStatus"][0];
        ["nodeName", "state", "event", "action"]
            .map(|field| row[field].as_str().unwrap_or_default().to_owned())
    };
    let good = job("good", "v0.1.1");
    assert_eq!(good["status"]["state"], "Successful", "{good:#}");
    assert_eq!(row(&good), ["edge-a", "Successful", "Upgrade", "Success"], "{good:#}");
    let history = node.settles("0.1.1");
    assert_eq!(history["items"][0]["by"], "job good", "{history:#}");

    let unwell = job("unwell", "v0.1.2");
    assert_eq!(unwell["status"]["state"], "Failed", "{unwell:#}");
    let history = node.settles("0.1.1");
    let last = history["items"].as_array().and_then(|items| items.last()).unwrap();
    assert_eq!((&last["to"], &last["outcome"]), (&json!("0.1.2"), &json!("returned")));
}
