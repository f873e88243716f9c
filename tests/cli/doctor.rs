//! `kedge doctor` and `kedge undo` on machines of their own: bare, with leftovers, with a runtime that is set up wrongly,
//! and with kedge running. Every fault is a real one.

use crate::support::house::House;
use crate::support::snapshot::{self, assert_snapshot};
use crate::support::world::World;
use crate::support::{Run, eventually};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// The report of a run in its JSON form.
#[track_caller]
fn report(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

/// The findings of a code.
fn of<'a>(report: &'a Value, code: &str) -> Vec<&'a Value> {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().filter(|finding| finding["code"] == code).collect()
}

#[track_caller]
fn one<'a>(report: &'a Value, code: &str) -> &'a Value {
    of(report, code).first().unwrap_or_else(|| panic!("no {code} in {report:#}"))
}

#[track_caller]
fn assert_state(report: &Value, code: &str, state: &str) {
    assert_eq!(one(report, code)["state"], state, "{:#}", one(report, code));
}

/// What is measured differs from machine to machine; what is said about it does not.
fn without_values(text: &str) -> String {
    let patterns = [
        (r"(?m)^(  \S .{30,}?)  .*?  \[(KE-[A-Z]+-\d+)\]$", "$1  …  [$2]"),
        (r"in \d+\.\d s", "in … s"),
        (r#""seen": "[^"]*""#, r#""seen": "…""#),
        (r#""seen":"[^"]*""#, r#""seen":"…""#),
        (r"(?m)^(\s+seen: ).*$", "$1…"),
        (r#""at": "[^"]*""#, r#""at": "…""#),
        (r"(?m)^at: .*$", "at: …"),
        (r#"("tookMs":? |tookMs: )\d+"#, "${1}0"),
        (r#"("version": "|version: )[^",\n]*"#, "${1}…"),
        (r#"time="[^"]*""#, r#"time="…""#),
        (r"<system-out>[^<]*</system-out>", "<system-out>…</system-out>"),
    ];
    patterns.iter().fold(text.to_owned(), |text, (pattern, by)| {
        regex::Regex::new(pattern).unwrap().replace_all(&text, *by).into_owned()
    })
}

#[test]
fn a_bare_machine_is_looked_at_without_anything_installed() {
    let world = World::new("doctor-bare");
    let house = House::new(&world, "bare");

    let runs = [(); 3].map(|()| house.kedge(&["doctor", "--pre", "-o", "json"]));
    // The fastest is what it takes; the others waited for the machine.
    let took = runs.each_ref().map(|run| report(run)["tookMs"].as_u64().unwrap());
    assert!(took.iter().any(|millis| *millis <= 2000), "{took:?} ms");
    let [run, ..] = runs;
    let found = report(&run);
    assert_eq!(found["apiVersion"], "kedge.io/doctor/v1");
    for code in ["KE-HOST-001", "KE-CGROUP-002", "KE-DISK-002", "KE-DISK-003", "KE-PORT-010", "KE-CRI-001"] {
        assert_state(&found, code, "fine");
    }
    assert_eq!(of(&found, "KE-PORT-010").len(), 5);
    assert_eq!(found["summary"]["failed"], 0, "{found:#}");
    run.assert_status(0);

    // Nothing is installed: the whole of it cannot run, and says so.
    let nothing = house.kedge(&["doctor"]);
    nothing.assert_status(4);
    assert!(
        nothing.stderr.contains("KE-DOCTOR-001") && nothing.stderr.contains("doctor --pre"),
        "{nothing:?}"
    );
    snapshot::failed(&nothing);
    let mistyped = house.kedge(&["doctor", "--pre", "--only", "KE-PROT-010"]);
    mistyped.assert_status(2);
    assert!(mistyped.stderr.contains("did you mean KE-PORT-010"), "{mistyped:?}");
    snapshot::failed(&mistyped);
    house.kedge(&["doctor", "--pre", "--nonsense"]).assert_status(2);
    assert!(house.kedge(&["undo"]).stderr.contains("there is nothing to undo"));
    // A program reads a document also where there is nothing.
    for (line, kind) in [(&["undo"][..], "ChangeList"), (&["reset", "edge"], "ResetReport")] {
        let dry = house.kedge(&[line, &["--dry-run", "-o", "json"]].concat());
        dry.assert_status(0);
        let read: serde_json::Value = serde_json::from_str(&dry.stdout).unwrap();
        assert_eq!((read["kind"].as_str(), &read["items"]), (Some(kind), &serde_json::json!([])));
    }

    // Every form of one short report, and the lists.
    let few = "KE-HOST,KE-DISK,KE-ETC,KE-PORT";
    for form in ["text", "json", "jsonl", "yaml", "junit"] {
        let run = house.kedge(&["doctor", "--pre", "--only", few, "-o", form]);
        run.assert_status(0);
        assert_snapshot(&format!("doctor-{form}"), &without_values(&run.stdout));
    }
    let plain = house.kedge(&["doctor", "--pre", "--only", few, "--plain"]);
    assert!(plain.stdout.is_ascii() && plain.stdout.contains("  + root"), "{plain:?}");
    assert_eq!(house.kedge(&["doctor", "--pre", "--only", few, "-o", "short"]).stdout, "");
    for role in ["edge", "cloud"] {
        let run = house.kedge(&["doctor", "--list", "--role", role]);
        run.assert_status(0);
        assert_snapshot(&format!("doctor-list-{role}"), &run.stdout);
    }

    let listed = house.kedge(&["doctor", "--list", "--role", "edge", "-o", "json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let item = |code: &str| {
        let items = listed["items"].as_array().unwrap();
        items.iter().find(|item| item["code"] == code).unwrap().clone()
    };
    assert_eq!(
        (&item("KE-CRI-001")["fixable"], &item("KE-CRI-001")["fixes"]),
        (&json!(true), &json!(["KE-CRI-002"]))
    );
    assert_eq!(item("KE-HOST-001")["fixable"], false);

    // Without root: told, and what needs it is skipped.
    let args = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/local/bin/kedge"];
    let nobody = house.run("setpriv", &[&args[..], &["doctor", "--pre", "-o", "json"]].concat());
    nobody.assert_status(1);
    let found = report(&nobody);
    assert_state(&found, "KE-HOST-001", "failed");
    assert_eq!(one(&found, "KE-KERNEL-003")["why"], "needs root");

    // A read-only /etc/kubeedge.
    house.run("mkdir", &["-p", "/etc/kubeedge"]).assert_status(0);
    house.run("mount", &["--bind", "/etc/kubeedge", "/etc/kubeedge"]).assert_status(0);
    house.run("mount", &["-o", "remount,bind,ro", "/etc/kubeedge"]).assert_status(0);
    let run = house.kedge(&["doctor", "--pre", "--only", "KE-DISK-002", "-o", "json"]);
    run.assert_status(1);
    let found = report(&run);
    assert_eq!(
        (&one(&found, "KE-DISK-002")["name"], &one(&found, "KE-DISK-002")["seen"]),
        (&json!("/etc/kubeedge"), &json!("read-only"))
    );
}

#[test]
fn what_other_agents_left_and_who_holds_a_port_is_named() {
    let world = World::new("doctor-left");
    let house = House::new(&world, "left");
    let look = |only: &str| report(&house.kedge(&["doctor", "--pre", "--only", only, "-o", "json"]));

    // A kubelet that runs, one that starts at boot, its mounts and rules.
    house.run("mkdir", &["-p", "/opt/bin", "/var/lib/kubelet/pods/u/volumes/t"]).assert_status(0);
    house.run("cp", &["/bin/sleep", "/opt/bin/kubelet"]).assert_status(0);
    let mut kubelet = house.start_program("kubelet", "/opt/bin/kubelet", &["1000"]);
    let found = look("KE-KUBELET");
    assert_state(&found, "KE-KUBELET-001", "failed");
    let fix = one(&found, "KE-KUBELET-001")["fix"].as_str().unwrap().to_owned();
    let pid = fix.strip_prefix("kill ").unwrap_or_else(|| panic!("{fix}"));
    house.run("kill", &[pid]).assert_status(0);
    kubelet.wait_end(SOON);
    house.write("/etc/systemd/system/multi-user.target.wants/kubelet.service", "");
    house.run("mount", &["-t", "tmpfs", "tmpfs", "/var/lib/kubelet/pods/u/volumes/t"]).assert_status(0);
    for rule in [&["-N", "TUNNEL-PORT"][..], &["-A", "OUTPUT", "-p", "tcp", "-j", "TUNNEL-PORT"]] {
        house.run("iptables", &[&["-t", "nat"], rule].concat()).assert_status(0);
    }
    let found = look("KE-KUBELET");
    for code in ["KE-KUBELET-001", "KE-KUBELET-002", "KE-KUBELET-003"] {
        assert_state(&found, code, "warning");
    }
    assert_eq!(one(&found, "KE-KUBELET-001")["fix"], "systemctl disable kubelet.service");
    // Warnings alone are no failure, unless they are to be.
    house.kedge(&["doctor", "--pre", "--only", "KE-KUBELET"]).assert_status(0);
    house.kedge(&["doctor", "--pre", "--only", "KE-KUBELET", "--strict"]).assert_status(3);

    // The other kind of rules, which `iptables` does not show.
    house.run("iptables", &["-t", "nat", "-F"]).assert_status(0);
    house.run("iptables", &["-t", "nat", "-X"]).assert_status(0);
    assert_state(&look("KE-KUBELET-003"), "KE-KUBELET-003", "fine");
    house.run("iptables-legacy", &["-t", "nat", "-N", "TUNNEL-PORT"]).assert_status(0);
    let found = look("KE-KUBELET-003");
    assert_state(&found, "KE-KUBELET-003", "warning");
    assert!(
        one(&found, "KE-KUBELET-003")["fix"].as_str().unwrap().starts_with("iptables-legacy "),
        "{found:#}"
    );

    // A broker on 1883 is used as it is; one on the cloud's port is in the way, by name.
    let _broker = house.start_program("broker", "mosquitto", &["-p", "1883"]);
    let _other = house.start_program("other", "mosquitto", &["-p", "10002"]);
    eventually("both brokers serve", SOON, || {
        let held = house.run("ss", &["-ltn"]).stdout;
        if held.contains(":1883 ") && held.contains(":10002 ") { Ok(()) } else { Err(held) }
    });
    eventually("the broker on 1883 answers in time", SOON, || {
        let found = look("KE-PORT");
        let mqtt = of(&found, "KE-PORT-010")[0];
        let used = mqtt["seen"].as_str().unwrap_or_default().contains("a broker that kedge uses");
        if mqtt["state"] == "fine" && used { Ok(()) } else { Err(mqtt.clone()) }
    });
    let run = house.kedge(&["doctor", "--pre", "--role", "cloud", "--only", "KE-PORT", "-o", "short"]);
    run.assert_status(1);
    assert!(
        run.stdout.contains("KE-PORT-010 failed: port 10002 (HTTPS): held by mosquitto (pid "),
        "{run:?}"
    );

    // A configuration that was never finished.
    house.write("/etc/kubeedge/config/edgecore.yaml", "modules:\n  edgeHub: {heartbeat: [");
    let run = house.kedge(&["doctor", "--only", "KE-ETC,KE-LINK,KE-DB", "-o", "json"]);
    run.assert_status(1);
    let found = report(&run);
    assert_state(&found, "KE-ETC-001", "failed");
    assert_eq!(one(&found, "KE-DB-001")["why"], "because of KE-ETC-001");

    // A cloud elsewhere, and no way out of this machine: not looked at rather than failed.
    house.write(
        "/etc/kubeedge/config/edgecore.yaml",
        "modules: {edgeHub: {websocket: {server: \"10.99.99.99:10000\"}}, edged: {hostnameOverride: left}}",
    );
    house.run("ip", &["route", "flush", "table", "main"]).assert_status(0);
    let found = report(&house.kedge(&["doctor", "--only", "KE-LINK", "-o", "json"]));
    assert_eq!(one(&found, "KE-LINK-010")["why"], "this machine has no route to others");
    assert_eq!(one(&found, "KE-LINK-012")["why"], "because of KE-DAEMON-001");
}

#[test]
fn a_runtime_without_its_plugin_is_mended_and_the_mending_undone() {
    let world = World::new("doctor-fix");
    let house = House::new(&world, "fix");
    // As Docker's packages write it.
    let wrong = "disabled_plugins = [\"cri\", \"aufs\"]\n";
    house.write("/etc/containerd/config.toml", wrong);
    let serve = |name: &str| {
        let daemon = house.start_program(name, "containerd", &[]);
        eventually("containerd serves", SOON, || match house.run("ctr", &["version"]) {
            answer if answer.status == 0 => Ok(()),
            answer => Err(answer.stderr),
        });
        daemon
    };
    let mut containerd = serve("first");
    let look = |more: &[&str]| {
        house.kedge(&[&["doctor", "--pre", "--only", "KE-CRI-001", "-o", "json"], more].concat())
    };
    let run = look(&[]);
    run.assert_status(1);
    let found = report(&run);
    let finding = one(&found, "KE-CRI-002");
    assert_eq!((&finding["state"], &finding["fixable"]), (&json!("failed"), &json!(true)));
    assert!(
        finding["seen"].as_str().unwrap().contains("/etc/containerd/config.toml:1: disabled_plugins"),
        "{finding:#}"
    );

    let plan: Value = serde_json::from_str(&look(&["--fix=KE-CRI-002", "--dry-run"]).stdout).unwrap();
    assert_eq!((&plan["kind"], &plan["items"][0]["code"]), (&json!("RepairPlan"), &json!("KE-CRI-002")));
    let dry = house.kedge(&["doctor", "--pre", "--only", "KE-CRI-001", "--fix=KE-CRI-002", "--dry-run"]);
    dry.assert_status(0);
    assert!(dry.stdout.contains("    - disabled_plugins = [\"cri\", \"aufs\"]\n"), "{dry:?}");
    assert!(dry.stdout.contains("    + disabled_plugins = [\"aufs\"]"), "{dry:?}");
    let unasked = look(&["--fix"]);
    unasked.assert_status(2);
    assert!(unasked.stderr.contains("KE-ASK-001"), "{unasked:?}");
    snapshot::failed(&unasked);
    assert_eq!(house.read("/etc/containerd/config.toml"), wrong);
    let other = look(&["--fix=KE-CRI-001"]);
    other.assert_status(2);
    assert!(other.stderr.contains("KE-DOCTOR-002"), "{other:?}");
    snapshot::failed(&other);

    // Mended; without systemd a person restarts the runtime, so the check still fails until then.
    let mended = look(&["--fix=KE-CRI-002", "--yes"]);
    mended.assert_status(1);
    assert!(mended.stderr.contains("`kedge undo` takes it back"), "{mended:?}");
    let right = "disabled_plugins = [\"aufs\"]\n";
    assert_eq!(house.read("/etc/containerd/config.toml"), right);
    house.run("pkill", &["-x", "containerd"]).assert_status(0);
    containerd.wait_end(SOON);
    let _containerd = serve("second");
    let run = look(&[]);
    run.assert_status(0);
    assert!(one(&report(&run), "KE-CRI-001")["seen"].as_str().unwrap().contains("CRI v1"), "{run:?}");

    // Two deeds, undone one after the other; what somebody else has changed since is left and reported.
    let list = house.kedge(&["undo", "--list", "-o", "json"]);
    assert!(list.stdout.contains("/etc/containerd/config.toml"), "{list:?}");
    house.kedge(&["undo"]).assert_status(2);
    let dry = house.kedge(&["undo", "--dry-run"]);
    assert!(dry.stdout.contains("fix wrote /etc/containerd/config.toml"), "{dry:?}");
    house.write("/etc/containerd/config.toml", "# mine\n");
    let careful = house.kedge(&["undo", "--yes"]);
    careful.assert_status(1);
    assert!(careful.stderr.contains("KE-JOURNAL-005"), "{careful:?}");
    snapshot::failed(&careful);
    house.kedge(&["undo", "--yes", "--force"]).assert_status(0);
    assert_eq!(house.read("/etc/containerd/config.toml"), wrong);
    assert!(!house.has("/var/lib/kedge/journal"), "the journal is gone with its last entry");
}

const POD: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: app}
data: {v: "one"}
---
apiVersion: v1
kind: Pod
metadata: {name: talks}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "kedge.local/demo:1", envFrom: [{configMapRef: {name: app}}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-proxy, namespace: kube-system}
spec:
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      nodeSelector: {nowhere: "true"}
      containers: [{name: c, image: "kedge.local/demo:1"}]
"#;

#[test]
fn a_running_node_is_looked_at_from_both_sides_and_proves_that_it_needs_no_cloud() {
    let world = World::new("doctor-runs");
    let house = House::new(&world, "runs");
    let mut up = house.start("up", &["up", "--node", "edge-1", "--demo"]);
    up.wait_for("ready", Duration::from_secs(120));
    let kubectl = |args: &[&str]| {
        house.run("kubectl", &[&["--kubeconfig", "/var/lib/kedge/kubeconfig"], args].concat())
    };
    house.write("/root/pod.yaml", POD);
    kubectl(&["apply", "-f", "/root/pod.yaml"]).assert_status(0);
    kubectl(&["wait", "--for=condition=Ready", "pod/talks", "--timeout=90s"]).assert_status(0);
    let site = r#"#!/bin/sh
echo '{"code":"SITE-7","group":"devices","name":"door","state":"warning","seen":"open","fix":"shut it"}'
"#;
    house.write("/etc/kedge/doctor.d/site", site);
    std::fs::set_permissions(
        house.outside("/etc/kedge/doctor.d/site"),
        std::fs::Permissions::from_mode(0o755),
    )
    .unwrap();

    // The edge, all of it.
    let all = [
        "KE-DAEMON-001",
        "KE-MEM-001",
        "KE-CERT-020",
        "KE-CERT-021",
        "KE-CERT-022",
        "KE-LINK-010",
        "KE-LINK-011",
        "KE-LINK-012",
        "KE-CLOCK-002",
        "KE-STREAM-001",
        "KE-SKEW-001",
        "KE-DUP-001",
        "KE-DB-001",
        "KE-DB-002",
        "KE-POD-010",
        "KE-AUTONOMY-001",
        "KE-SCHED-001",
        "KE-BROKER-001",
        "KE-TWIN-010",
        "KE-CRI-001",
        "KE-QUIC-001",
        "KE-META-010",
        "KE-MESH-001",
        "KE-MAPPER-002",
        "KE-MAPPER-004",
        "KE-MTU-002",
        "KE-SKEW-003",
    ];
    let found = eventually("nothing fails on the edge", SOON, || {
        let run = house.kedge(&["doctor", "-o", "json"]);
        let found = report(&run);
        let is_fine = |code: &str| of(&found, code).first().is_some_and(|one| one["state"] == "fine");
        let troubled: Vec<&str> = all.into_iter().filter(|code| !is_fine(code)).collect();
        if run.status == 0 && troubled.is_empty() {
            return Ok(found);
        }
        Err((run.status, troubled, house.kedge(&["doctor", "-o", "short"]).stdout))
    });
    assert_eq!(found["role"], "edge");
    assert!(found["tookMs"].as_u64().unwrap() <= 10_000, "{}", found["tookMs"]);
    assert_state(&found, "KE-UPGRADE-010", "skipped");
    assert_state(&found, "SITE-7", "warning");
    assert_eq!(one(&found, "SITE-7")["group"], "devices");
    let groups: Vec<&str> =
        found["findings"].as_array().unwrap().iter().map(|f| f["group"].as_str().unwrap()).collect();
    let order = [
        "host",
        "runtime",
        "network",
        "identity",
        "cloud-link",
        "store",
        "workloads",
        "devices",
        "mesh",
        "upgrade",
    ];
    let places: Vec<usize> =
        groups.iter().map(|group| order.iter().position(|o| o == group).unwrap()).collect();
    assert!(places.is_sorted(), "{groups:?}");
    eventually("the cloud has compared", SOON, || {
        let found = report(&house.kedge(&["doctor", "--only", "KE-SYNC", "-o", "json"]));
        let finding = one(&found, "KE-SYNC-001").clone();
        if finding["state"] == "fine" { Ok(()) } else { Err(finding) }
    });

    // The cloud: a real byte of a log, Secrets, the DaemonSet that should not be on edge nodes.
    let run = house.kedge(&["doctor", "--role", "cloud", "-o", "json"]);
    let found = report(&run);
    let cloud = [
        "KE-KUBE-010",
        "KE-CRD-010",
        "KE-CERT-030",
        "KE-CERT-031",
        "KE-CERT-033",
        "KE-NODE-010",
        "KE-SKEW-002",
        "KE-STREAM-001",
    ];
    for code in cloud {
        assert_state(&found, code, "fine");
    }
    let byte = one(&found, "KE-STREAM-001");
    assert!(byte["seen"].as_str().unwrap().starts_with("a byte of "), "{byte:#}");
    assert_state(&found, "KE-SCHED-001", "warning");
    // The patch is exact: applied, the finding is gone.
    let fix = one(&found, "KE-SCHED-001")["fix"].as_str().unwrap().to_owned();
    house.write("/root/fix.sh", format!("export KUBECONFIG=/var/lib/kedge/kubeconfig\n{fix}\n"));
    house.run("sh", &["/root/fix.sh"]).assert_status(0);
    let found = report(&house.kedge(&["doctor", "--role", "cloud", "--only", "KE-SCHED", "-o", "json"]));
    assert_state(&found, "KE-SCHED-001", "fine");

    // A key that others can read is mended, and the mending undone.
    let key = "/var/lib/kedge/edge/certs/server.key";
    let mode = || std::fs::metadata(house.outside(key)).unwrap().permissions().mode() & 0o777;
    house.run("chmod", &["644", key]).assert_status(0);
    house.kedge(&["doctor", "--only", "KE-CERT-022", "--fix", "--yes"]).assert_status(0);
    assert_eq!(mode(), 0o600);
    house.kedge(&["undo", "fix", "--yes"]).assert_status(0);
    assert_eq!(mode(), 0o644);

    // With no cloud: proved from the store, daemon running and stopped.
    let offline = house.kedge(&["doctor", "offline"]);
    offline.assert_status(0);
    assert!(offline.stdout.contains("everything is here"), "{offline:?}");
    snapshot::said("doctor offline", &offline);
    assert_eq!(up.interrupt(), 0);
    let stopped = house.kedge(&["doctor", "--only", "KE-DAEMON,KE-LINK-012,KE-BROKER,KE-DB", "-o", "json"]);
    stopped.assert_status(1);
    let found = report(&stopped);
    assert_state(&found, "KE-DAEMON-001", "failed");
    assert_state(&found, "KE-DB-001", "fine");
    assert_eq!(one(&found, "KE-BROKER-001")["why"], "because of KE-DAEMON-001");
    house.kedge(&["doctor", "offline"]).assert_status(0);
    // A copy, in which something is missing, and then more.
    let database = world.dir.join("edgecore.db");
    std::fs::copy(house.outside("/var/lib/kedge/edge/edgecore.db"), &database).unwrap();
    let db = rusqlite::Connection::open(&database).unwrap();
    assert_eq!(db.execute("DELETE FROM meta WHERE key = 'default/configmap/app'", []).unwrap(), 1);
    db.query_row("PRAGMA journal_mode=DELETE", [], |_| Ok(())).unwrap();
    drop(db);
    let offline = house.kedge(&["doctor", "offline", "-o", "json", "--db", database.to_str().unwrap()]);
    offline.assert_status(1);
    let proof: Value = serde_json::from_str(&offline.stdout).unwrap();
    let pods = proof["pods"].as_array().unwrap();
    let talks = pods.iter().find(|pod| pod["name"] == "talks").unwrap();
    assert_eq!(talks["starts"], false);
    assert_eq!(talks["missing"], json!([{"kind": "ConfigMap", "name": "app", "why": "not in the store"}]));

    // A damaged database is told by SQLite's own check.
    let mut bytes = std::fs::read(&database).unwrap();
    let start = bytes.len() / 2;
    bytes[start..].fill(0xa5);
    house.write("/var/lib/kedge/edge/edgecore.db", bytes);
    house
        .run("rm", &["-f", "/var/lib/kedge/edge/edgecore.db-wal", "/var/lib/kedge/edge/edgecore.db-shm"])
        .assert_status(0);
    let run = house.kedge(&["doctor", "--only", "KE-DB-001", "-o", "json"]);
    run.assert_status(1);
    assert_state(&report(&run), "KE-DB-001", "failed");
}

/// The tables as edgecore 1.22 makes them, with a pod, half of what it needs, and the node under its older key.
const EDGECORE: &str = r#"
CREATE TABLE `meta` (`key` varchar(256) NOT NULL PRIMARY KEY, `type` varchar(32) NOT NULL DEFAULT '', `value` text);
CREATE TABLE `device` (`id` text, `name` text, `description` text, `state` text, `last_online` text, PRIMARY KEY (`id`));
INSERT INTO meta VALUES ('default/node/edge-1', 'node', '{"metadata":{"name":"edge-1"}}');
INSERT INTO meta VALUES ('default/configmap/app', 'configmap', '{"metadata":{"name":"app"},"data":{"v":"1"}}');
INSERT INTO meta VALUES ('"default"/"default"/[]string(nil)/3607/v1.BoundObjectReference{Kind:"Pod", APIVersion:"v1", Name:"web", UID:"u-1"}',
  'serviceaccounttoken', '{"status":{"token":"x","expirationTimestamp":"2020-01-01T00:00:00Z"}}');
INSERT INTO meta VALUES ('default/pod/web', 'pod', '{"metadata":{"name":"web","namespace":"default","uid":"u-1"},
  "spec":{"containers":[{"name":"c","image":"a:1","envFrom":[{"configMapRef":{"name":"app"}}]}],
  "volumes":[{"name":"t","projected":{"sources":[{"serviceAccountToken":{"path":"token"}}]}},
    {"name":"d","persistentVolumeClaim":{"claimName":"data"}}]}}');
"#;

#[test]
fn a_database_of_edgecore_is_proved_too_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edgecore.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch(EDGECORE).unwrap();
    let before = std::fs::read(&path).unwrap();
    let prove = || {
        let path = path.display().to_string();
        let run = crate::support::kedge(&[
            "doctor",
            "offline",
            "--db",
            &path,
            "--runtime-endpoint",
            "/nonexistent.sock",
            "-o",
            "json",
        ]);
        (run.status, serde_json::from_str::<Value>(&run.stdout).unwrap())
    };
    let (status, proof) = prove();
    assert_eq!(status, 1);
    let missing = &proof["pods"][0]["missing"];
    assert_eq!(
        *missing,
        json!([{"kind": "PersistentVolumeClaim", "name": "data", "why": "not in the store"}])
    );
    assert_eq!(proof["pods"][0]["images"], json!({"a:1": null}));
    assert_eq!(proof["runtime"], Value::Null);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was put beside it");

    let volumes = "INSERT INTO meta VALUES
        ('default/persistentvolumeclaim/data', 'persistentvolumeclaim', '{\"spec\":{\"volumeName\":\"pv\"}}'),
        ('null/persistentvolume/pv', 'persistentvolume', '{}');";
    rusqlite::Connection::open(&path).unwrap().execute_batch(volumes).unwrap();
    let (status, proof) = prove();
    assert_eq!((status, &proof["pods"][0]["starts"]), (0, &json!(true)));
}
