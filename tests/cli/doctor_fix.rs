//! `kedge doctor --fix`: each repair that is a file, a mode or a service, made on a real machine, shown before, and taken
//! back by `kedge undo` so that the machine is as it was.

use crate::support::house::{House, Init};
use crate::support::world::World;
use std::os::unix::fs::PermissionsExt;

/// Mends one code, and answers what the dry run has shown.
#[track_caller]
fn mend(house: &House<'_>, args: &[&str], code: &str) -> String {
    let fix = format!("--fix={code}");
    let area = code.rsplit_once('-').unwrap().0;
    let with = |more: &[&str]| house.kedge(&[&["doctor"], args, &["--only", area, &fix], more].concat());
    let dry = with(&["--dry-run"]);
    dry.assert_status(0);
    let mended = with(&["--yes"]);
    assert!(mended.stderr.contains("`kedge undo` takes it back"), "{mended:?}");
    let again = house.kedge(&[&["doctor"], args, &["--only", area, "-o", "short"]].concat());
    assert!(!again.stdout.contains(code), "{again:?}");
    dry.stdout
}

#[track_caller]
fn undo(house: &House<'_>) {
    house.kedge(&["undo", "--yes"]).assert_status(0);
}

const FLANNEL: &str =
    r#"{"name": "cbr0", "cniVersion": "0.3.1", "plugins": [{"type": "flannel"}, {"type": "portmap"}]}"#;

const FILE: &str = "# by hand\nmodules:\n  edged: {hostnameOverride: edge-1}\n  edgeHub:\n    quic:\n      enable: true # why not\n      server: 10.0.0.1:10001\n";

#[test]
fn files_modes_and_settings_are_mended_and_come_back() {
    let world = World::new("doctor-mends");
    let house = House::new(&world, "mends");

    // A network that is gone has left its configuration; a broken one is in the way of every other.
    for (code, text) in [("KE-CNI-012", FLANNEL), ("KE-CNI-010", "{\"name\": ")] {
        let file = "/etc/cni/net.d/05-old.conflist";
        house.write(file, text);
        let shown = mend(&house, &["--pre"], code);
        assert_eq!(shown, format!("{code}\n  remove {file}\n"));
        assert!(!house.has(file));
        undo(&house);
        assert_eq!(house.read(file), text);
        house.run("rm", &[file]).assert_status(0);
    }

    // What a power cut has left of a write.
    let left = "/etc/kubeedge/certs/server.key.tmp-bcdf2456";
    house.write(left, "half");
    mend(&house, &["--pre"], "KE-ETC-001");
    assert!(!house.has(left));
    undo(&house);
    assert_eq!(house.read(left), "half");
    house.run("rm", &[left]).assert_status(0);

    // A setting: in the text, comments and all.
    let config = "/etc/kubeedge/config/edgecore.yaml";
    house.write(config, FILE);
    let plan = ["doctor", "--only", "KE-QUIC", "--fix=KE-QUIC-001", "--dry-run", "-o", "json"];
    let plan = house.kedge(&plan);
    plan.assert_status(0);
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(plan["kind"], "RepairPlan");
    assert_eq!(plan["items"][0]["code"], "KE-QUIC-001");
    let shown = mend(&house, &[], "KE-QUIC-001");
    assert!(shown.contains("    - "), "{shown}");
    let changed = house.read(config);
    assert!(changed.starts_with("# by hand\n") && changed.contains("enable: false"), "{changed}");
    undo(&house);
    assert_eq!(house.read(config), FILE);

    // Secrets in a database that everybody can read, as an edgecore leaves it.
    let database = "/var/lib/kubeedge/edgecore.db";
    house.run("mkdir", &["-p", "/var/lib/kubeedge"]).assert_status(0);
    house.run("chmod", &["755", "/var/lib/kubeedge"]).assert_status(0);
    // SQLite follows the way into the house to its end, which is outside.
    let made = world.dir.join("edgecore.db");
    let db = rusqlite::Connection::open(&made).unwrap();
    db.execute_batch(
        "CREATE TABLE `meta` (`key` varchar(256) NOT NULL PRIMARY KEY, `type` varchar(32), `value` text);",
    )
    .unwrap();
    drop(db);
    house.write(database, std::fs::read(made).unwrap());
    let mode = || std::fs::metadata(house.outside(database)).unwrap().permissions().mode() & 0o777;
    house.run("chmod", &["644", database]).assert_status(0);
    let shown = mend(&house, &[], "KE-DB-003");
    assert_eq!(shown, format!("KE-DB-003\n  set the mode of {database} to 0600\n"));
    assert_eq!(mode(), 0o600);
    undo(&house);
    assert_eq!(mode(), 0o644);

    // A setting of the kernel, now and after every boot.
    let now = || house.run("cat", &["/proc/sys/net/ipv4/ip_forward"]).stdout.trim().to_owned();
    house.run("sysctl", &["-w", "net.ipv4.ip_forward=0"]).assert_status(0);
    mend(&house, &["--pre"], "KE-KERNEL-004");
    assert_eq!(now(), "1");
    assert_eq!(house.read("/etc/sysctl.d/90-kedge.conf"), "net.ipv4.ip_forward = 1\n");
    undo(&house);
    assert_eq!(now(), "0", "the value that ran before is back");
    assert!(!house.has("/etc/sysctl.d/90-kedge.conf"));
    // With the line there and the value lost, the value alone is set.
    house.write("/etc/sysctl.d/90-kedge.conf", "net.ipv4.ip_forward = 1\n");
    let shown = mend(&house, &["--pre"], "KE-KERNEL-004");
    assert_eq!(shown, "KE-KERNEL-004\n  set /proc/sys/net/ipv4/ip_forward to 1\n");
    let list = house.kedge(&["undo", "--list"]);
    assert!(list.stdout.contains("fix set /proc/sys/net/ipv4/ip_forward to 1"), "{list:?}");
    // Who sets it later keeps it.
    house.run("sh", &["-c", "echo 2 > /proc/sys/net/ipv4/ip_forward"]).assert_status(0);
    let careful = house.kedge(&["undo", "--yes"]);
    assert!(careful.status == 1 && careful.stderr.contains("KE-JOURNAL-005"), "{careful:?}");
    house.kedge(&["undo", "--yes", "--force"]).assert_status(0);
    assert_eq!(now(), "0");
    house.run("rm", &["/etc/sysctl.d/90-kedge.conf"]).assert_status(0);
    assert!(!house.has("/var/lib/kedge/journal"), "the journal is gone with its last entry");
}

#[test]
fn a_kubelet_that_would_start_at_boot_is_kept_from_it_and_comes_back() {
    let world = World::new("doctor-unit");
    let house = House::booted(&world, "unit", Init::Systemd);
    let unit = "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n";
    house.write("/etc/systemd/system/kubelet.service", unit);
    house.run("systemctl", &["enable", "kubelet"]).assert_status(0);
    let enabled = || house.run("systemctl", &["is-enabled", "kubelet"]).stdout.trim().to_owned();
    assert_eq!(enabled(), "enabled");
    let shown = mend(&house, &["--pre"], "KE-KUBELET-001");
    assert_eq!(shown, "KE-KUBELET-001\n  keep the service kubelet from starting at boot\n");
    assert_eq!(enabled(), "disabled");
    undo(&house);
    assert_eq!(enabled(), "enabled");
    assert_eq!(house.read("/etc/systemd/system/kubelet.service"), unit);

    // One that runs is a person's to stop.
    house.run("cp", &["/bin/sleep", "/usr/local/bin/kubelet"]).assert_status(0);
    let _kubelet = house.start_program("kubelet", "/usr/local/bin/kubelet", &["1000"]);
    let refused = house.kedge(&["doctor", "--pre", "--only", "KE-KUBELET", "--fix=KE-KUBELET-001", "--yes"]);
    assert!(refused.stderr.contains("KE-DOCTOR-003"), "{refused:?}");
    crate::support::snapshot::failed(&refused);
}

#[test]
fn what_cannot_be_mended_stays_open_and_is_an_exit_status() {
    let world = World::new("doctor-open");
    let house = House::new(&world, "open");
    house.write("/etc/kubeedge/config/edgecore.yaml", FILE);
    house.run("mkdir", &["-p", "/var/lib/kedge/versions/0.1.0"]).assert_status(0);
    house.run("ln", &["-s", "0.1.0", "/var/lib/kedge/versions/current"]).assert_status(0);
    house.write("/var/lib/kedge/versions/state.json", "{");
    let history = house.kedge(&["edge", "history"]);
    assert!(history.stderr.contains("KE-UPGRADE-017"), "{history:?}");
    let only = ["doctor", "--role", "edge", "--only", "KE-UPGRADE-010,KE-QUIC-001"];
    let told = house.kedge(&[&only[..], &["-o", "short"]].concat());
    assert!(told.status == 1 && told.stdout.contains("state.json cannot be understood"), "{told:?}");
    // What has a repair is mended; what has none is named, and nobody takes it for mended.
    let mended = house.kedge(&[&only[..], &["--fix", "--yes"]].concat());
    assert!(mended.status == 1 && mended.stderr.contains("still open: KE-UPGRADE-010"), "{mended:?}");
    assert!(house.read("/etc/kubeedge/config/edgecore.yaml").contains("enable: false"));
    let nothing = house.kedge(&[&only[..], &["--fix", "--yes"]].concat());
    assert!(nothing.status == 1 && nothing.stderr.contains("nothing that doctor can fix"), "{nothing:?}");
    undo(&house);
    // By the line that doctor tells.
    let file = "/var/lib/kedge/versions/state.json";
    house.run("mv", &[file, &format!("{file}.damaged")]).assert_status(0);
    let told = house.kedge(&["doctor", "--role", "edge", "--only", "KE-UPGRADE-010", "-o", "short"]);
    assert!(told.status == 0 && told.stdout.is_empty(), "{told:?}");
}
