//! Failures that a person meets at a prompt: each with its code, its exit status, a way out, and a page of `kedge explain`.
//! The machine is a private one, whose real paths are changed to what the failure needs.

use crate::support::Run;
use crate::support::house::{House, KUBECONFIG};
use crate::support::world::World;

/// A failure has this code and this exit status, names a way out, and its code is explained.
#[track_caller]
fn fails(house: &House, run: &Run, code: &str, status: i32) {
    let said = run.stderr.lines().find_map(|line| line.trim().strip_prefix("code: "));
    assert_eq!((said, run.status), (Some(code), status), "{run:?}");
    assert_eq!(run.stdout, "", "data of a command that failed: {run:?}");
    assert_eq!(house.kedge(&["explain", code]).status, 0, "{code} has no page");
}

#[test]
fn a_machine_that_lacks_something_is_told_what() {
    let world = World::new("codes");
    let house = House::new(&world, "edge-1");
    let kedge = |args: &str| house.kedge(&args.split_whitespace().collect::<Vec<_>>());
    house.run("rm", &["-rf", "/root/.kube"]).assert_status(0);
    for (line, code, status) in [
        ("config validate", "KE-CONFIG-007", 3),
        ("cert ca", "KE-CERT-010", 4),
        ("token list --kube-config /no/kubeconfig", "KE-TOKEN-011", 3),
        ("edge upgrade --to 1.0.0 --nodes a --kube-config /no/kubeconfig", "KE-KUBE-002", 4),
        ("cloud reset --dry-run", "KE-CLOUD-031", 3),
    ] {
        fails(&house, &kedge(line), code, status);
    }
    for role in ["edge", "cloud"] {
        let text = kedge(&format!("{role} config --minconfig")).stdout;
        house.write(&format!("/etc/kubeedge/config/{role}core.yaml"), text);
    }
    fails(&house, &kedge("config get kind"), "KE-CONFIG-008", 2);
}

#[test]
fn a_service_that_cannot_be_ended_or_made_says_why() {
    let world = World::new("codes-service");
    let house = House::new(&world, "edge-1");
    let minimal = house.kedge(&["edge", "config", "--minconfig"]).stdout;
    let text = minimal.replace("containerd: auto", "containerd: \"off\"");
    house.write("/etc/kubeedge/config/edgecore.yaml", text);

    // Without /proc a program does not know where it lies.
    let blind = "mount -t tmpfs tmpfs /proc && exec /usr/local/bin/kedge service install edge --dry-run";
    let got = house.run("unshare", &["--mount", "sh", "-c", blind]);
    fails(&house, &got, "KE-SERVICE-009", 1);

    house.kedge(&["service", "install", "edge"]).assert_status(0);
    let daemon = house.read("/run/kedge/kedge-edge.child");
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/local/bin/kedge"];
    let got = house.run("setpriv", &[&nobody[..], &["service", "stop", "edge"]].concat());
    fails(&house, &got, "KE-SERVICE-007", 1);
    assert!(got.stderr.contains("not permitted"), "{got:?}");
    assert_eq!(house.read("/run/kedge/kedge-edge.child"), daemon, "it runs on");
    house.kedge(&["service", "remove", "edge"]).assert_status(0);

    let database = "/var/lib/kubeedge/edgecore.db";
    fails(&house, &house.kedge(&["meta", "get", "default/pod/nobody", "--db", database]), "KE-META-001", 1);
}

#[test]
fn a_cluster_that_lacks_something_is_told_what() {
    let world = World::new("codes-cluster");
    let house = House::new(&world, "cloud");
    let kedge = |args: &str| house.kedge(&args.split_whitespace().collect::<Vec<_>>());
    let cloud = house.cloud();
    for (line, code, status) in [
        ("token revoke bcdfg2h4jk", "KE-TOKEN-005", 1),
        ("twin get nothing", "KE-TWIN-001", 1),
        ("twin set nothing target", "KE-TWIN-003", 2),
    ] {
        fails(&house, &kedge(&format!("{line} --kube-config {KUBECONFIG}")), code, status);
    }
    drop(cloud);
    house.run("pkill", &["-KILL", "-x", "kedge"]);
    fails(&house, &kedge(&format!("token list --kube-config {KUBECONFIG}")), "KE-TOKEN-012", 4);
    fails(&house, &kedge(&format!("twin list --kube-config {KUBECONFIG}")), "KE-KUBE-002", 4);
}
