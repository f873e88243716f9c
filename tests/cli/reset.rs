//! `kedge reset edge`: pods, mounts, network and files go; others' things stay; what cannot go is told.

use crate::join::{Cloud, Machine};
use crate::support::eventually;
use crate::support::house::House;
use crate::support::snapshot;
use crate::support::world::World;
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const CONFIG: &str = "/etc/kubeedge/config/edgecore.yaml";

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: x, namespace: default}
spec:
  nodeName: edge-7
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: kedge.local/demo:1
    imagePullPolicy: Never
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  volumes: [{name: scratch, emptyDir: {medium: Memory}}]
"#;

/// Runs a pod with a mounted volume and an address of the pod network.
pub fn run_pod(cloud: &Cloud<'_>) {
    cloud.house.write("/tmp/pod.yaml", POD);
    eventually("the pod is taken", SOON, || {
        let applied = cloud.house.kubectl(&["apply", "-f", "/tmp/pod.yaml"]);
        if applied.status == 0 { Ok(()) } else { Err(applied) }
    });
    eventually("the pod runs", SOON, || {
        let got = cloud.house.kubectl(&["get", "pod", "x", "-o", "jsonpath={.status.phase}"]);
        if got.stdout == "Running" { Ok(()) } else { Err(got) }
    });
}

fn mounts(house: &House<'_>) -> String {
    house.read("/proc/1/mountinfo")
}

#[test]
fn a_pod_its_volumes_and_its_network_go_with_the_node() {
    let world = World::new("reset-pod");
    let cloud = Cloud::new(&world);
    let mut machine = Machine::new(&world, "edge-7");
    // Where others have something in the directories, none of them goes as a whole.
    for dir in ["/etc/kubeedge", "/var/lib/kubeedge"] {
        machine.house.write(&format!("{dir}/theirs"), "x");
    }
    machine.before = machine.house.changed_files();
    let forwards =
        |house: &House<'_>| house.run("cat", &["/proc/sys/net/ipv4/ip_forward"]).stdout.trim().to_owned();
    machine.house.run("sysctl", &["-w", "net.ipv4.ip_forward=0"]).assert_status(0);
    machine.join(&cloud, &cloud.token(&[]), &[]).assert_status(0);
    // What the daemon renews is kedge's own still.
    machine.house.kedge(&["cert", "renew"]).assert_status(0);
    run_pod(&cloud);
    assert!(mounts(&machine.house).contains("/var/lib/kubelet/pods/"), "the volume is mounted");
    assert!(machine.house.run("ip", &["-o", "link"]).stdout.contains("kedge-"));

    let asks = machine.house.kedge(&["reset", "edge"]);
    assert!(asks.status == 2 && asks.stderr.contains("KE-ASK-001"), "{asks:?}");
    snapshot::failed(&asks);
    let listed = machine.house.kedge(&["reset", "edge", "--dry-run"]);
    assert!(listed.status == 0 && listed.stdout.contains("the pod default/x"), "{listed:?}");
    assert_eq!(forwards(&machine.house), "1", "pods reach other machines");
    snapshot::said("reset edge --dry-run", &listed);
    let reset = machine.reset();
    assert_eq!(forwards(&machine.house), "0", "as it ran before: {reset:?}");
    assert!(!mounts(&machine.house).contains("/var/lib/kubelet"), "{}", mounts(&machine.house));
    let left = machine.house.run("ctr", &["-n", "k8s.io", "tasks", "list", "-q"]);
    assert_eq!(left.stdout.trim(), "", "{left:?}");
    // The runtime's own books of pod networks are not kedge's.
    machine.house.run("rm", &["-rf", "/var/lib/cni"]).assert_status(0);
    machine.is_as_before(&reset);
    // The way is free for a new join.
    machine.join(&cloud, &cloud.token(&[]), &[]).assert_status(0);
    cloud.is_ready("edge-7");
}

#[test]
fn a_machine_without_a_runtime_gets_one_and_gives_it_back() {
    let world = World::new("reset-own");
    let cloud = Cloud::new(&world);
    let house = House::new(&world, "edge-7");
    let before = house.changed_files();
    let token = cloud.token(&[]);
    let run = house.kedge(&["join", "-e", &cloud.at(), "-t", &token]);
    assert_eq!(run.status, 0, "{run:?}");
    assert!(run.stderr.contains("a containerd of kedge's own"), "{run:?}");
    run_pod(&cloud);
    let again = house.kedge(&["join", "-e", &cloud.at(), "-t", &token]);
    assert!(again.status == 0 && again.stderr.contains("nothing to do"), "{again:?}");

    let reset = house.kedge(&["reset", "edge", "--yes"]);
    assert_eq!(reset.status, 0, "{reset:?}");
    let running = house.processes();
    assert!(!running.iter().any(|line| line.contains("containerd") || line.contains("kedge")), "{running:?}");
    house.run("rm", &["-rf", "/var/lib/cni"]).assert_status(0);
    assert_eq!(house.changed_files(), before, "{reset:?}");
    assert!(!house.run("ip", &["-o", "link"]).stdout.contains("kedge-"));
}

#[test]
fn past_what_cannot_be_undone_it_carries_on_and_tells() {
    let world = World::new("reset-left");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    machine.join(&cloud, &cloud.token(&[]), &[]).assert_status(0);
    // Somebody has made the pod network their own since, and edited what is kedge's alone.
    let network = "/etc/cni/net.d/10-kedge.conflist";
    machine.house.write(network, "{\"cniVersion\": \"0.4.0\", \"name\": \"mine\", \"plugins\": []}");
    let config = machine.house.read(CONFIG);
    machine.house.write(CONFIG, config + "# a remark\n");
    let reset = machine.house.kedge(&["reset", "edge", "--yes"]);
    assert!(reset.status == 1 && reset.stderr.contains("KE-RESET-002"), "{reset:?}");
    assert!(reset.stderr.contains("KE-JOURNAL-005") && reset.stderr.contains(network), "{reset:?}");
    snapshot::failed(&reset);
    assert!(
        machine.house.has(network) && !machine.house.has(CONFIG) && !machine.house.has("/var/lib/kubeedge")
    );
    let forced = machine.house.kedge(&["reset", "edge", "--force"]);
    assert_eq!(forced.status, 0, "{forced:?}");
    machine.is_as_before(&forced);
}

#[test]
fn repairs_and_settings_of_the_node_go_with_it_and_each_trouble_is_told_once() {
    let world = World::new("reset-fixed");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let house = &machine.house;
    machine.join(&cloud, &cloud.token(&[]), &[]).assert_status(0);
    house.run("chmod", &["0644", "/etc/kubeedge/certs/server.key"]).assert_status(0);
    let fixed = house.kedge(&["doctor", "--only", "KE-CERT", "--fix=KE-CERT-022", "--yes"]);
    assert!(house.kedge(&["undo", "--list"]).stdout.contains("server.key"), "{fixed:?}");

    // Where nothing can be written, nothing is recorded.
    house.run("mount", &["--bind", "/etc", "/etc"]).assert_status(0);
    house.run("mount", &["-o", "remount,ro,bind", "/etc"]).assert_status(0);
    let set = house.kedge(&["config", "set", "modules.edgeHub.heartbeat=20"]);
    assert!(set.status != 0 && set.stderr.contains("KE-JOURNAL-006"), "{set:?}");
    let listed = house.kedge(&["undo", "--list"]).stdout;
    assert!(!listed.contains("edgecore.yaml"), "{listed}");
    let reset = house.kedge(&["reset", "edge", "--yes"]);
    assert!(reset.status == 1 && reset.stderr.contains("KE-RESET-002"), "{reset:?}");
    let mut lines: Vec<&str> = reset.stderr.lines().filter(|line| line.contains("cannot put ")).collect();
    let told = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), told, "each once: {reset:?}");
    house.run("umount", &["/etc"]).assert_status(0);
    let reset = machine.reset();
    assert!(!house.has("/var/lib/kedge/journal"), "{reset:?}");
    machine.is_as_before(&reset);
}

#[test]
fn a_journal_that_has_lost_the_join_is_damage() {
    let world = World::new("reset-lost");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let house = &machine.house;
    let token = cloud.token(&[]);
    machine.join(&cloud, &token, &[]).assert_status(0);
    house.write("/var/lib/kedge/journal/journal.jsonl", "");
    let doctor = house.kedge(&["doctor", "--only", "KE-ETC"]);
    assert!(doctor.status != 0 && doctor.stdout.contains("lost"), "{doctor:?}");
    let again = machine.join(&cloud, &token, &[]);
    assert!(again.status == 10 && again.stderr.contains("KE-JOURNAL-007"), "{again:?}");
    for more in [&["--dry-run"][..], &["--yes"]] {
        let reset = house.kedge(&[&["reset", "edge"], more].concat());
        assert_eq!(reset.status, 1, "{reset:?}");
        for ours in ["KE-JOURNAL-007", CONFIG.split_at(13).0, "join.json", "kedge-edge", "rm -r "] {
            assert!(reset.stderr.contains(ours), "{ours}: {reset:?}");
        }
        assert!(!reset.stderr.contains("as it was before"), "{reset:?}");
    }
    // What it names, removed as it says.
    let told = house.kedge(&["reset", "edge", "--yes"]).stderr;
    let command =
        told.split("fix: ").find(|part| part.starts_with("rm -r ")).unwrap().lines().next().unwrap();
    house.run("sh", &["-c", command]).assert_status(0);
    let reset = machine.reset();
    assert!(reset.stderr.contains("nothing to undo"), "{reset:?}");
    assert!(!house.has(CONFIG) && !house.has("/var/lib/kedge/join.json"), "{reset:?}");

    // Where the journal is whole and the note is gone, or damaged, the configuration stands for it.
    let token = cloud.token(&[]);
    machine.join(&cloud, &token, &[]).assert_status(0);
    run_pod(&cloud);
    house.run("rm", &["/var/lib/kedge/join.json"]).assert_status(0);
    let again = machine.join(&cloud, &token, &["-l", "zone=b"]);
    assert!(again.status == 10 && again.stderr.contains("KE-JOIN-006"), "{again:?}");
    assert!(again.stderr.contains("kedge reset edge"), "{again:?}");
    snapshot::failed(&again);
    house.write("/var/lib/kedge/join.json", "{");
    let again = machine.join(&cloud, &token, &[]);
    assert!(again.status == 10 && again.stderr.contains("KE-JOIN-006"), "{again:?}");
    let listed = house.kedge(&["reset", "edge", "--dry-run"]);
    assert!(listed.status == 0 && listed.stdout.contains("the pod default/x"), "{listed:?}");
    house.run("rm", &["/var/lib/kedge/join.json"]).assert_status(0);
    let reset = machine.reset();
    assert!(reset.stderr.contains("kubectl delete node edge-7"), "{reset:?}");
    let left = house.run("ctr", &["-n", "k8s.io", "tasks", "list", "-q"]);
    assert_eq!(left.stdout.trim(), "", "{left:?}");
    for gone in [CONFIG, "/var/lib/kedge/join.json", "/var/lib/kedge/journal"] {
        assert!(!house.has(gone), "{gone}: {reset:?}");
    }
}

#[test]
fn a_cloud_is_never_touched() {
    let world = World::new("reset-cloud");
    let cloud = Cloud::new(&world);
    let before = cloud.house.has("/var/lib/kubeedge/cloud/kubeconfig");
    let reset = cloud.house.kedge(&["reset", "edge", "--force"]);
    assert!(reset.status == 0 && reset.stderr.contains("nothing to undo"), "{reset:?}");
    let entry = json!({"change": {"id": 1, "deed": "init", "at": "2026-01-01T00:00:00Z",
        "told": {"file": {"path": "/etc/kubeedge/config/cloudcore.yaml", "sha256": ""}}, "before": "absent"}});
    cloud.house.write("/var/lib/kedge/journal/journal.jsonl", format!("{entry}\n"));
    let reset = cloud.house.kedge(&["reset", "edge", "--force"]);
    assert!(reset.status == 1 && reset.stderr.contains("KE-RESET-001"), "{reset:?}");
    assert!(reset.stderr.contains("kedge cloud reset"), "{reset:?}");
    snapshot::failed(&reset);
    assert!(cloud.house.has("/etc/kubeedge/config/cloudcore.yaml"));
    assert_eq!(cloud.house.has("/var/lib/kubeedge/cloud/kubeconfig"), before);

    // An edge that was here first has made the directories that the cloud stands in.
    let house = &cloud.house;
    let (etc, lib, note) = ("/etc/kubeedge", "/var/lib/kubeedge", "/var/lib/kedge/join.json");
    let (database, state) = ("/var/lib/kubeedge/edgecore.db", "/var/lib/kubeedge/cloud/state");
    for path in [CONFIG, database, state] {
        house.write(path, "x");
    }
    let left = json!({"node": "edge-7", "config": CONFIG, "owned": [etc, lib],
        "runtimeDir": "/var/lib/kubeedge/runtime", "root": "/var/lib/kubelet"});
    house.write(note, left.to_string());
    let owned = |path: &str| json!({"directory": {"path": path, "kind": "owned"}});
    let file = |path: &str| json!({"file": {"path": path, "sha256": ""}});
    let deeds = [
        ("join", file(note)),
        ("join", owned(etc)),
        ("join", owned(lib)),
        ("join", file(CONFIG)),
        ("init", file("/etc/kubeedge/config/cloudcore.yaml")),
        ("init", owned("/var/lib/kubeedge/cloud")),
    ];
    let lines: Vec<String> = (1..)
        .zip(deeds)
        .map(|(id, (deed, told))| {
            let entry = json!({"id": id, "deed": deed, "at": "2026-01-01T00:00:00Z", "told": told,
                "before": "absent"});
            format!("{}\n", json!({"change": entry}))
        })
        .collect();
    house.write("/var/lib/kedge/journal/journal.jsonl", lines.concat());
    let reset = house.kedge(&["reset", "edge", "--yes"]);
    assert_eq!(reset.status, 0, "{reset:?}");
    let stays = format!("made the directory {etc}; it stays");
    assert!(reset.stderr.contains(&stays) && !reset.stderr.contains("kedge undo"), "{reset:?}");
    for (path, there) in [
        ("/etc/kubeedge/config/cloudcore.yaml", true),
        (state, true),
        (CONFIG, false),
        (database, false),
        (note, false),
    ] {
        assert_eq!(house.has(path), there, "{path}: {reset:?}");
    }
    assert!(house.kedge(&["reset", "edge", "--yes"]).stderr.contains("KE-RESET-001"), "the cloud is known");
}
