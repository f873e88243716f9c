//! kedge's daemons as services: without a service manager, under a real systemd and under a real OpenRC, each on a machine
//! of its own. The daemon is the edge's, which runs on without its cloud.

use crate::support::house::{House, Init, KUBECONFIG};
use crate::support::snapshot;
use crate::support::world::World;
use crate::support::{Run, eventually};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// A configuration with which the edge daemon runs without a cloud and a runtime of its own.
fn configure(house: &House) {
    let minimal = house.kedge(&["edge", "config", "--minconfig"]).stdout;
    let text =
        minimal.replace("containerd: auto", "containerd: \"off\"").replace("token: \"\"", "token: abc.def");
    house.write("/etc/kubeedge/config/edgecore.yaml", text);
}

/// The edge's line of `kedge service status`.
fn edge(house: &House) -> Value {
    let told = house.kedge(&["service", "status", "-o", "json"]);
    told.assert_status(0);
    let document: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(document["apiVersion"], "kedge.io/v1");
    document["items"][0].clone()
}

fn running(house: &House) -> u64 {
    eventually("the service runs", SOON, || {
        let edge = edge(house);
        match (edge["running"].as_bool(), edge["pid"].as_u64()) {
            (Some(true), Some(pid)) => Ok(pid),
            _ => Err(edge),
        }
    })
}

#[track_caller]
fn done(run: &Run) {
    run.assert_status(0);
}

/// The edge's service does it, and says so in the words that are committed.
#[track_caller]
fn does(house: &House, deed: &str) {
    let run = house.kedge(&["service", deed, "edge"]);
    done(&run);
    snapshot::said(&format!("service {deed} edge"), &run);
}

/// Everything that holds with any service manager.
fn lives(house: &House, at_boot: bool) {
    let before = files(house);
    let dry = house.kedge(&["service", "install", "edge", "--dry-run"]);
    assert_eq!((dry.status, files(house) == before), (0, true), "{dry:?}");
    let start = house.kedge(&["service", "start", "edge"]);
    assert_eq!(start.status, 1, "not installed yet: {start:?}");
    snapshot::failed(&start);
    let stop = house.kedge(&["service", "stop", "edge"]);
    assert!(stop.status == 1 && stop.stderr.contains("KE-SERVICE-003"), "{stop:?}");

    does(house, "install");
    let first = running(house);
    let state = edge(house);
    assert_eq!(
        (&state["installed"], &state["atBoot"]),
        (&Value::Bool(true), &Value::Bool(at_boot)),
        "{state}"
    );
    assert!(house.has(state["definition"].as_str().unwrap()));
    snapshot::said("service status", &house.kedge(&["service", "status"]));

    // Again, and the same daemon runs on.
    done(&house.kedge(&["service", "install", "edge"]));
    does(house, "start");
    assert_eq!(running(house), first);

    // It is killed and comes back; it is restarted and is another; it is stopped and stays so.
    done(&house.run("kill", &["-KILL", &first.to_string()]));
    let second = eventually("it is started again", SOON, || {
        let pid = running(house);
        if pid == first { Err(pid) } else { Ok(pid) }
    });
    does(house, "restart");
    assert_ne!(running(house), second);
    does(house, "stop");
    done(&house.kedge(&["service", "stop", "edge"]));
    let stopped = edge(house);
    assert_eq!((&stopped["running"], &stopped["installed"]), (&Value::Bool(false), &Value::Bool(true)));
    assert!(!house.processes().iter().any(|line| line.contains("edge run")), "{:?}", house.processes());
    done(&house.kedge(&["service", "start", "edge"]));
    running(house);

    // Removed, nothing is left of it.
    does(house, "remove");
    assert!(!house.processes().iter().any(|line| line.contains("kedge")), "{:?}", house.processes());
    let again = house.kedge(&["service", "remove", "edge"]);
    assert!(again.status == 1 && again.stderr.contains("KE-SERVICE-010"), "{again:?}");
    snapshot::failed(&again);
    let after = files(house);
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let told = paths.into_iter().map(|path| (path, before.get(path), after.get(path)));
    let changed: Vec<_> = told.filter(|(_, before, after)| before != after).collect();
    assert!(changed.is_empty(), "path, before, after: {changed:#?}");
}

/// What has changed on the machine, without the daemon's data and what a service manager writes while it runs.
fn files(house: &House) -> BTreeMap<String, String> {
    let others =
        ["/run/systemd", "/run/openrc", "/run/log", "/run/udev", "/var/log/journal", "/var/lib/systemd"];
    let mut files = house.changed_files();
    files.retain(|path, _| !others.iter().chain(&["/var/lib/kubeedge"]).any(|other| path.starts_with(other)));
    files
}

#[test]
fn without_a_service_manager_a_daemon_is_kept_running() {
    let world = World::new("service-plain");
    let house = House::new(&world, "edge-1");
    configure(&house);
    lives(&house, false);

    // Killed with its keeper away, the daemon is found again and not started twice.
    done(&house.kedge(&["service", "install", "edge"]));
    let daemon = running(&house);
    let keeper = house.read("/run/kedge/kedge-edge.pid");
    done(&house.run("kill", &["-KILL", keeper.trim()]));
    eventually("the keeper is gone", SOON, || match edge(&house)["running"].as_bool() {
        Some(false) => Ok(()),
        other => Err(other),
    });
    done(&house.kedge(&["service", "start", "edge"]));
    assert_eq!(running(&house), daemon);
    let log = house.read("/var/log/kedge-edge.log");
    assert!(!log.contains("KEDGE_TOKEN"), "{log}");

    // What cannot run is not installed, or not said to run.
    let nowhere = house.kedge(&["service", "install", "cloud", "--config", "/nonexist"]);
    assert!(nowhere.status == 3 && nowhere.stderr.contains("KE-FILE-002"), "{nowhere:?}");
    snapshot::failed(&nowhere);
    assert!(!house.has("/var/lib/kedge/services/kedge-cloud.json"));
    let config = house.read("/etc/kubeedge/config/edgecore.yaml");
    let ends = config.replace("/var/lib/kubeedge/edgecore.db", "/proc/none/edgecore.db");
    assert_ne!(ends, config);
    house.write("/tmp/ends.yaml", ends);
    let ends = house.kedge(&["service", "install", "edge", "--config", "/tmp/ends.yaml"]);
    assert!(ends.status == 1 && ends.stderr.contains("KE-SERVICE-011"), "{ends:?}");
    assert!(ends.stderr.contains("/proc/none"), "its last words: {ends:?}");
    snapshot::failed(&ends);
    eventually("it is shown between two starts", SOON, || {
        let told = house.kedge(&["service", "status"]);
        if told.stdout.contains("restarting") { Ok(()) } else { Err(told) }
    });
    // Nor is one started that ends at once.
    let ends = house.kedge(&["service", "start", "edge"]);
    assert!(ends.status == 1 && ends.stderr.contains("KE-SERVICE-011"), "{ends:?}");
    assert!(ends.stderr.contains("/proc/none"), "its last words: {ends:?}");
    done(&house.kedge(&["service", "remove", "edge"]));
}

#[test]
fn under_a_real_systemd_the_unit_lives_and_leaves_no_trace() {
    let world = World::new("service-systemd");
    let house = House::booted(&world, "edge-1", Init::Systemd);
    configure(&house);
    let verified = house.kedge(&["service", "install", "edge", "--print", "systemd"]);
    house.write("/tmp/kedge-edge.service", &verified.stdout);
    let cloud = house.kedge(&["service", "install", "cloud", "--print", "systemd"]);
    house.write("/tmp/kedge-cloud.service", &cloud.stdout);
    for unit in ["/tmp/kedge-edge.service", "/tmp/kedge-cloud.service"] {
        let verified = house.run("systemd-analyze", &["verify", "--recursive-errors=no", unit]);
        assert_eq!((verified.status, verified.stderr.as_str()), (0, ""), "{unit}");
    }
    lives(&house, true);

    // It comes with the machine, and its log is the machine's.
    done(&house.kedge(&["service", "install", "edge"]));
    running(&house);
    assert_eq!(house.run("systemctl", &["is-enabled", "kedge-edge"]).stdout.trim(), "enabled");
    let mut house = house;
    house.reboot();
    running(&house);
    let log = house.run("journalctl", &["-u", "kedge-edge", "--no-pager"]);
    assert!(log.stdout.contains("kedge-edge.service"), "{log:?}");
}

#[test]
fn the_cloud_serves_within_its_confinement_under_systemd() {
    let world = World::new("service-cloud");
    let house = House::booted(&world, "cloud", Init::Systemd);
    house.write("/etc/kubeedge/config/cloudcore.yaml", "kedge: {embedded: true}\n");
    for dir in ["/var/lib/kubeedge", "/var/lib/kedge"] {
        done(&house.run("mkdir", &["-p", dir]));
    }
    done(&house.kedge(&["service", "install", "cloud"]));
    eventually("the cloud serves its authority", Duration::from_secs(60), || {
        let got = house.run("curl", &["-skf", "https://127.0.0.1:10002/ca.crt"]);
        if got.status == 0 {
            Ok(())
        } else {
            Err(house.run("journalctl", &["-u", "kedge-cloud", "--no-pager"]).stdout)
        }
    });
    let exposure = house.run("systemd-analyze", &["security", "kedge-cloud", "--threshold=40", "--no-pager"]);
    assert_eq!(exposure.status, 0, "{}", exposure.stdout);
}

#[test]
fn under_a_real_openrc_the_script_lives_and_leaves_no_trace() {
    let world = World::new("service-openrc");
    let house = House::booted(&world, "edge-1", Init::OpenRc);
    configure(&house);
    lives(&house, true);
}

/// Process ids of what the pod runs.
fn workers(house: &House) -> Vec<String> {
    let listed = house.run("ps", &["-e", "-o", "pid=,comm="]);
    let pods = listed.stdout.lines().map(str::trim).filter(|line| line.ends_with(" demo"));
    pods.map(str::to_owned).collect()
}

#[test]
fn containers_live_on_when_systemd_restarts_the_daemon_that_started_their_runtime() {
    let world = World::new("service-pods");
    let cloud_house = House::new(&world, "cloud");
    let _cloud = cloud_house.cloud();
    let node = House::booted(&world, "edge-1", Init::Systemd);
    let token = cloud_house.kedge(&["gettoken", "--kube-config", KUBECONFIG]);
    done(&token);
    // Its containerd is a child of the daemon, in the unit's own control group.
    let text = node.kedge(&["edge", "config", "--minconfig"]).stdout;
    let text = text.replace("https://127.0.0.1:10002", &format!("https://{}:10002", cloud_house.address()));
    let text = text.replace("server: 127.0.0.1:10000", &format!("server: {}:10000", cloud_house.address()));
    let text = text.replace("token: \"\"", &format!("token: {}", token.stdout.trim()));
    node.write("/etc/kubeedge/config/edgecore.yaml", text);
    done(&node.kedge(&["service", "install", "edge"]));
    let log = || node.run("journalctl", &["-u", "kedge-edge", "--no-pager"]).stdout;
    eventually("the node is known", Duration::from_secs(60), || {
        let got = cloud_house.kubectl(&["get", "node", "edge-1"]);
        if got.status == 0 { Ok(()) } else { Err(log()) }
    });
    cloud_house.write(
        "/tmp/pod.yaml",
        "{apiVersion: v1, kind: Pod, metadata: {name: lasting}, spec: {terminationGracePeriodSeconds: 1, \
         containers: [{name: c, image: \"kedge.local/demo:1\"}]}}",
    );
    done(&cloud_house.kubectl(&["apply", "-f", "/tmp/pod.yaml"]));
    let ready = ["wait", "--for=condition=Ready", "pod/lasting", "--timeout=90s"];
    let waited = cloud_house.kubectl(&ready);
    assert_eq!(waited.status, 0, "{waited:?}\n{}", log());
    let before = workers(&node);
    assert_eq!(before.len(), 1, "{before:?}\n{}", node.processes().join("\n"));

    let daemon = running(&node);
    done(&node.run("systemctl", &["restart", "kedge-edge"]));
    assert_ne!(running(&node), daemon);
    assert_eq!(workers(&node), before);
    eventually("the new daemon has found its pod", SOON, || {
        let pods = node.kedge(&["pods", "--db", "/var/lib/kubeedge/edgecore.db", "-o", "json"]);
        let items: Value = serde_json::from_str(&pods.stdout).unwrap_or_default();
        match items.pointer("/items/0/running").and_then(Value::as_u64) {
            Some(1) => Ok(()),
            _ => Err((pods, log())),
        }
    });
    done(&node.run("systemctl", &["stop", "kedge-edge"]));
    assert_eq!(workers(&node), before, "stopped, and the container runs on");
    done(&node.run("systemctl", &["start", "kedge-edge"]));
    done(&cloud_house.kubectl(&["wait", "--for=condition=Ready", "node/edge-1", "--timeout=60s"]));
    assert_eq!(workers(&node), before);
    let pod = cloud_house.kubectl(&[
        "get",
        "pod",
        "lasting",
        "-o",
        "jsonpath={.status.containerStatuses[0].restartCount}",
    ]);
    assert_eq!(pod.stdout, "0");
}
