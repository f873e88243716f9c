//! A node from its join to its reset, with versions coming and going in between: without a service manager, under a real
//! systemd and under a real OpenRC. Its pods run throughout, and the file tree is at last what it was at first.

use crate::join::{Cloud, Machine};
use crate::reset::run_pod;
use crate::support::house::{House, Init};
use crate::support::releases::{Instead, OWN, Releases};
use crate::support::world::World;
use crate::support::{Run, eventually};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const VERSIONS: &str = "/var/lib/kedge/versions";

/// The releases of a world, whose key the node trusts.
fn releases(world: &World, house: &House<'_>) -> Releases {
    let releases = Releases::new(&world.dir.join("releases"));
    house.write("/etc/kubeedge/upgrade-keys/release.pub", releases.public());
    releases
}

fn status(house: &House<'_>) -> Value {
    let got = house.kedge(&["status", "-o", "json"]);
    serde_json::from_str(&got.stdout).unwrap_or_default()
}

#[track_caller]
fn runs(house: &House<'_>, version: &str) {
    eventually(&format!("kedge {version} runs"), SOON, || match status(house) {
        status if status["version"] == version => Ok(()),
        status => Err((status, house.processes())),
    });
}

fn upgrade(house: &House<'_>, to: &str) -> Run {
    house.kedge(&["edge", "upgrade", "--to", to, "--wait", "--yes"])
}

fn last(house: &House<'_>) -> Value {
    let got = house.kedge(&["edge", "history", "-o", "json"]);
    let history: Value = serde_json::from_str(&got.stdout).unwrap_or_default();
    history["items"].as_array().and_then(|items| items.last().cloned()).unwrap_or_default()
}

/// Process and start of what the pod runs.
fn workers(house: &House<'_>) -> Vec<String> {
    let listed = house.run("ps", &["-e", "-o", "pid=,lstart=,comm="]);
    let pods = listed.stdout.lines().map(str::trim).filter(|line| line.ends_with(" demo"));
    pods.map(str::to_owned).collect()
}

/// What a service manager and the runtime write for themselves while they run.
const OF_OTHERS: [&str; 10] = [
    "/run/systemd",
    "/run/openrc",
    "/run/log",
    "/run/udev",
    "/var/log/journal",
    "/run/utmp",
    "/var/log/wtmp",
    "/var/lib/systemd",
    // The runtime's own books of pod networks.
    "/var/lib/cni",
    // And kubectl's memory.
    "/root/.kube",
];

fn files(house: &House<'_>) -> BTreeMap<String, String> {
    let mut files = house.changed_files();
    files.retain(|path, _| !OF_OTHERS.iter().any(|other| path.starts_with(other)));
    files
}

/// The house has what it had before, and nothing of kedge runs.
#[track_caller]
fn is_as_before(house: &House<'_>, before: &BTreeMap<String, String>, after: &Run) {
    let now = files(house);
    let paths: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let told = paths.into_iter().map(|path| (path, before.get(path), now.get(path)));
    // Where the file system below never had it, or has it no more, its absence is told in two ways.
    let absent = |what: Option<&String>| what.is_none_or(|what| what == "removed");
    let changed: Vec<_> = told
        .filter(|(path, was, is)| was != is && !(absent(*was) && absent(*is) && !house.has(path)))
        .collect();
    assert!(changed.is_empty(), "path, before, after: {changed:#?}\n{after:?}");
    let running = house.processes();
    assert!(!running.iter().any(|line| line.contains("kedge")), "{running:?}");
}

/// Up, back by itself, and back by a person's word; the pod does not notice.
fn versions_come_and_go(world: &World, house: &House<'_>) {
    let releases = releases(world, house);
    let pod = workers(house);
    assert_eq!(pod.len(), 1, "{pod:?}");
    let up = upgrade(house, &releases.kedge("0.1.1"));
    assert_eq!(up.status, 0, "{up:?}");
    runs(house, "0.1.1");
    eprintln!("the daemon was interrupted for {} ms", last(house)["interrupted"]);
    let unwell = upgrade(house, &releases.stand_in("0.1.2", Instead::Ends));
    assert_eq!(unwell.status, 14, "{unwell:?}");
    runs(house, "0.1.1");
    let back = house.kedge(&["edge", "rollback", "--wait", "--yes"]);
    assert_eq!(back.status, 0, "{back:?}");
    runs(house, OWN);
    assert_eq!(workers(house), pod, "the pod runs on");
}

#[test]
fn a_joined_node_is_upgraded_goes_back_and_leaves_nothing() {
    let world = World::new("life");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let house = &machine.house;
    let dry = machine.join(&cloud, &cloud.token(&[]), &["--dry-run"]);
    assert!(dry.stdout.contains(&format!("install kedge {OWN} below {VERSIONS}")), "{dry:?}");
    let run = machine.join(&cloud, &cloud.token(&[]), &[]);
    assert_eq!(run.status, 0, "{run:?}");
    cloud.is_ready("edge-7");
    assert!(house.has(&format!("{VERSIONS}/{OWN}/kedge")) && house.has(&format!("{VERSIONS}/current")));
    let running = house.processes();
    assert!(
        running.iter().any(|line| line.starts_with(&format!("{VERSIONS}/{OWN}/kedge edge run"))),
        "{running:?}"
    );
    run_pod(&cloud);
    versions_come_and_go(&world, house);
    cloud.is_ready("edge-7");

    // Joining again with what runs elsewhere changes no version.
    let to = upgrade(house, &Releases::new(&world.dir.join("more")).kedge("0.1.3"));
    assert!(to.status == 1 && to.stderr.contains("KE-UPGRADE-005"), "a key of somebody else: {to:?}");
    crate::support::snapshot::failed(&to);
    let again = machine.join(&cloud, "", &["-l", "site=north"]);
    assert_eq!(again.status, 0, "{again:?}");
    runs(house, OWN);
    let listed = house.kedge(&["reset", "edge", "--dry-run"]);
    assert!(
        listed.stdout.contains(VERSIONS) && listed.stdout.contains("/var/lib/kedge/backup"),
        "{listed:?}"
    );
    let reset = machine.reset();
    assert!(!reset.stderr.contains("kept:"), "{reset:?}");
    house.run("rm", &["-rf", "/var/lib/cni"]).assert_status(0);
    machine.is_as_before(&reset);
}

#[test]
fn what_was_there_before_the_join_is_kept_and_told() {
    let world = World::new("life-kept");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    machine.house.write(&format!("{VERSIONS}/mine"), "x");
    let run = machine.join(&cloud, &cloud.token(&[]), &[]);
    assert_eq!(run.status, 0, "{run:?}");
    let reset = machine.reset();
    assert!(
        reset.stderr.contains(&format!("kept: {VERSIONS}, which was there before the join")),
        "{reset:?}"
    );
    assert!(machine.house.has(&format!("{VERSIONS}/mine")) && !machine.house.has("/var/lib/kedge/backup"));
}

/// Its containerd is kedge's own, a child of the daemon in the unit's control group.
#[test]
fn under_a_real_systemd_a_node_lives_from_join_to_reset() {
    let world = World::new("life-systemd");
    let cloud = Cloud::new(&world);
    let mut house = House::booted(&world, "edge-7", Init::Systemd);
    let before = files(&house);
    // systemd gives the machine the name that stands in its files.
    let run = house.kedge(&["join", "-i", "edge-7", "-e", &cloud.at(), "-t", &cloud.token(&[])]);
    assert_eq!(run.status, 0, "{run:?}\n{}", journal(&house));
    cloud.is_ready("edge-7");
    assert_eq!(house.run("systemctl", &["is-active", "kedge-edge"]).stdout.trim(), "active");
    assert_eq!(house.run("systemctl", &["is-enabled", "kedge-edge"]).stdout.trim(), "enabled");
    run_pod(&cloud);
    versions_come_and_go(&world, &house);
    assert_eq!(house.run("systemctl", &["is-active", "kedge-edge"]).stdout.trim(), "active");

    let pod = workers(&house);
    house.run("systemctl", &["stop", "kedge-edge"]).assert_status(0);
    let left = house.processes();
    assert!(!left.iter().any(|line| line.contains("kedge edge")), "{left:?}");
    house.run("systemctl", &["start", "kedge-edge"]).assert_status(0);
    runs(&house, OWN);
    assert_eq!(workers(&house), pod, "stopped and started, and the pod runs on");
    // It comes with the machine, in the version that is current.
    house.reboot();
    runs(&house, OWN);
    cloud.is_ready("edge-7");

    let reset = house.kedge(&["reset", "edge", "--yes"]);
    assert_eq!(reset.status, 0, "{reset:?}\n{}", journal(&house));
    is_as_before(&house, &before, &reset);
    let unit = house.run("systemctl", &["cat", "kedge-edge"]);
    assert_ne!(unit.status, 0, "{unit:?}");
}

fn journal(house: &House<'_>) -> String {
    house.run("journalctl", &["-u", "kedge-edge", "-u", "kedge-cloud", "--no-pager", "-n", "40"]).stdout
}

#[test]
fn under_a_real_openrc_a_node_joins_is_upgraded_and_leaves() {
    let world = World::new("life-openrc");
    let cloud = Cloud::new(&world);
    let house = House::booted(&world, "edge-7", Init::OpenRc);
    let _containerd = house.containerd();
    let before = files(&house);
    let run = house.kedge(&["join", "-e", &cloud.at(), "-t", &cloud.token(&[])]);
    assert_eq!(run.status, 0, "{run:?}");
    cloud.is_ready("edge-7");
    assert_eq!(house.run("rc-service", &["kedge-edge", "status"]).status, 0);
    let to = upgrade(&house, &releases(&world, &house).kedge("0.1.1"));
    assert_eq!(to.status, 0, "{to:?}");
    runs(&house, "0.1.1");
    house.run("rc-service", &["kedge-edge", "stop"]).assert_status(0);
    let left = house.processes();
    assert!(!left.iter().any(|line| line.contains("kedge edge")), "{left:?}");
    house.run("rc-service", &["kedge-edge", "start"]).assert_status(0);
    runs(&house, "0.1.1");
    let reset = house.kedge(&["reset", "edge", "--yes"]);
    assert_eq!(reset.status, 0, "{reset:?}");
    is_as_before(&house, &before, &reset);
}

/// The API is another process of the same machine, with a directory of its own: nothing of the cloud's stands there yet.
#[test]
fn under_a_real_systemd_a_cloud_is_set_up_and_taken_out() {
    let world = World::new("life-cloud");
    let house = House::booted(&world, "cloud-1", Init::Systemd);
    let api = "apiVersion: cloudcore.config.kubeedge.io/v1alpha2\nkind: CloudCore\nmodules:\n  cloudHub:\n    \
        websocket: {port: 24000}\n    https: {port: 24002}\n  cloudStream: {streamPort: 24003, tunnelPort: 24004}\n\
        kedge: {dataDir: /srv/api}\n";
    house.write("/srv/cloudcore.yaml", api);
    let mut served = house.start("api", &["cloud", "run", "--embedded", "--config", "/srv/cloudcore.yaml"]);
    served.wait_for("ready", SOON);
    let before = files(&house);
    let (address, config) = (house.address().to_owned(), "/srv/api/kubeconfig");
    let args = ["init", "--yes", "--mode", "host", "--kube-config", config, "--advertise-address", &address];
    let done = house.kedge(&args);
    assert_eq!(done.status, 0, "{done:?}\n{}", journal(&house));
    assert_eq!(house.run("systemctl", &["is-active", "kedge-cloud"]).stdout.trim(), "active");
    assert_eq!(house.run("systemctl", &["is-enabled", "kedge-cloud"]).stdout.trim(), "enabled");
    let line: Vec<&str> = done.stdout.split_whitespace().collect();

    // What it printed makes a node.
    let node = House::new(&world, "edge-7");
    let joined = node.run("/usr/local/bin/kedge", &line[1..]);
    assert_eq!(joined.status, 0, "{joined:?}\n{}", journal(&house));
    house.run("systemctl", &["restart", "kedge-cloud"]).assert_status(0);
    eventually("the node's link is up again", SOON, || {
        let status = status(&node);
        if status["link"]["link"] == "up" { Ok(()) } else { Err((status, journal(&house))) }
    });
    node.kedge(&["reset", "edge", "--yes"]).assert_status(0);

    let view = ["--kubeconfig", config, "config", "view", "-o", "jsonpath={.contexts[0].context.cluster}"];
    let cluster = house.run("kubectl", &view).stdout;
    let gone = house.kedge(&["cloud", "reset", "--kube-config", config, "--yes-i-mean", &cluster]);
    assert_eq!(gone.status, 0, "{gone:?}");
    let unit = house.run("systemctl", &["cat", "kedge-cloud"]);
    assert_ne!(unit.status, 0, "{unit:?}");
    let now = files(&house);
    let of_api = |path: &&String| path.starts_with("/srv");
    let changed: Vec<_> =
        now.keys().filter(|path| !of_api(path) && now.get(*path) != before.get(*path)).collect();
    assert!(changed.is_empty(), "{changed:#?}");
}

/// A unit as an installer of KubeEdge writes it; what it runs only has the name.
const EDGECORE: &str = "[Unit]\nDescription=edgecore.service\n\n[Service]\nType=simple\n\
    ExecStart=/usr/local/bin/edgecore 100000\nRestart=always\nRestartSec=10\nKillMode=process\n\n\
    [Install]\nWantedBy=multi-user.target\n";

#[test]
fn under_a_real_systemd_an_edgecore_gives_its_place_and_gets_it_back() {
    let world = World::new("life-takeover");
    let cloud = Cloud::new(&world);
    let house = House::booted(&world, "edge-7", Init::Systemd);
    let _containerd = house.containerd();
    // What an edgecore leaves, which kedge writes too: configuration, certificate, database and a pod that runs.
    // systemd gives the machine the name that stands in its files.
    let run = house.kedge(&["join", "-i", "edge-7", "-e", &cloud.at(), "-t", &cloud.token(&[])]);
    assert_eq!(run.status, 0, "{run:?}\n{}", journal(&house));
    run_pod(&cloud);
    house.run("systemctl", &["disable", "--now", "kedge-edge"]).assert_status(0);
    let rest = ["/etc/systemd/system/kedge-edge.service", "/var/lib/kedge", "/var/lib/kubeedge/kedge.sock"];
    house.run("rm", &[&["-rf", "/etc/kubeedge/dmi.sock"], &rest[..]].concat()).assert_status(0);
    house.run("cp", &["/bin/sleep", "/usr/local/bin/edgecore"]).assert_status(0);
    house.write("/etc/systemd/system/edgecore.service", EDGECORE);
    house.run("systemctl", &["daemon-reload"]).assert_status(0);
    house.run("systemctl", &["enable", "--now", "edgecore"]).assert_status(0);
    let state = |unit: &str| {
        let word = |verb: &str| house.run("systemctl", &[verb, unit]).stdout.trim().to_owned();
        (word("is-active"), word("is-enabled"))
    };
    let is = |unit: &str, active: &str, enabled: &str| {
        let wanted = (active.to_owned(), enabled.to_owned());
        eventually(&format!("{unit} is {active}"), SOON, || {
            let found = state(unit);
            if found == wanted { Ok(()) } else { Err(found) }
        });
    };
    is("edgecore", "active", "enabled");
    let (before, pod) = (files(&house), workers(&house));
    assert_eq!(pod.len(), 1, "{pod:?}");

    // Its certificate is valid: no token is asked for.
    let run = house.kedge(&["join", "--takeover", "--yes"]);
    assert_eq!(run.status, 0, "{run:?}\n{}", journal(&house));
    cloud.is_ready("edge-7");
    is("edgecore", "inactive", "disabled");
    is("kedge-edge", "active", "enabled");
    assert_eq!(workers(&house), pod, "the pod runs on");
    let up = upgrade(&house, &releases(&world, &house).kedge("0.1.1"));
    assert_eq!(up.status, 0, "{up:?}");

    house.run("rm", &["-r", "/etc/kubeedge/upgrade-keys"]).assert_status(0);
    let reset = house.kedge(&["reset", "edge", "--yes"]);
    assert_eq!(reset.status, 0, "{reset:?}\n{}", journal(&house));
    is("edgecore", "active", "enabled");
    assert_eq!(workers(&house), pod, "its pods are its own again");
    let now = files(&house);
    // Its database and its pods' directories have lived on.
    let lived = |path: &&String| {
        ["/var/lib/kubeedge/", "/var/lib/kubelet/", "/var/log/pods/"].iter().any(|dir| path.starts_with(dir))
    };
    let paths: BTreeSet<&String> = before.keys().chain(now.keys()).filter(|path| !lived(path)).collect();
    let changed: Vec<_> = paths
        .into_iter()
        .filter(|path| before.get(*path) != now.get(*path) && house.has(path) != before.contains_key(*path))
        .collect();
    assert!(changed.is_empty(), "{changed:#?}\n{reset:?}");
    assert!(house.has("/var/lib/kubeedge/edgecore.db"));
}

/// A copy of a node's files runs on another machine.
#[test]
fn two_daemons_of_one_name_are_told_with_both_addresses() {
    let world = World::new("life-twins");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let run = machine.join(&cloud, &cloud.token(&[]), &[]);
    assert_eq!(run.status, 0, "{run:?}");
    let copy = House::new(&world, "edge-8");
    for file in ["ca/rootCA.crt", "certs/server.crt", "certs/server.key", "config/edgecore.yaml"] {
        let path = format!("/etc/kubeedge/{file}");
        copy.write(&path, machine.house.read(&path));
    }
    let _second = copy.start("copy", &["edge", "run"]);
    let (one, two) = (machine.house.address().to_owned(), copy.address().to_owned());
    let log = eventually("the cloud tells of both", SOON, || {
        let log = world.log("cloud-cloud.err");
        let line = log.lines().find(|line| line.contains("KE-DUP-003")).map(str::to_owned);
        line.ok_or(log)
    });
    assert!(log.contains(&format!("{one}:")) && log.contains(&format!("{two}:")), "{log}");
    for (house, other) in [(&machine.house, &two), (&copy, &one)] {
        eventually("each of them is told where the other is", SOON, || {
            let told = house.kedge(&["status"]);
            let known = told.status == 1 && told.stdout.contains("KE-DUP-003");
            if known && told.stdout.contains(&format!("at {other}:")) { Ok(()) } else { Err(told) }
        });
        let doctor = house.kedge(&["doctor", "--role", "edge", "--only", "KE-LINK-012,KE-DUP-003"]);
        assert!(doctor.stdout.contains("KE-DUP-003") && doctor.stdout.contains(other.as_str()), "{doctor:?}");
    }
    let status = cloud.house.kedge(&["status", "-o", "json"]).stdout;
    assert!(status.contains("\"rivals\""), "{status}");
}

#[test]
fn where_no_program_may_run_the_join_says_so_and_is_taken_back() {
    let world = World::new("life-noexec");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let house = &machine.house;
    house.run("mkdir", &["/var/lib/kedge"]).assert_status(0);
    house.run("mount", &["-t", "tmpfs", "-o", "noexec", "tmpfs", "/var/lib/kedge"]).assert_status(0);
    let run = machine.join(&cloud, &cloud.token(&[]), &[]);
    assert!(run.status == 14 && run.stderr.contains("KE-JOIN-017"), "{run:?}");
    assert!(run.stderr.contains("noexec"), "{run:?}");
    house.run("umount", &["/var/lib/kedge"]).assert_status(0);
    house.run("rmdir", &["/var/lib/kedge"]).assert_status(0);
    machine.is_as_before(&run);
}
