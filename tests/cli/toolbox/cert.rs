//! `kedge cert` with a real cloud and a real edge: what is listed, the authority for joins, and the node's next
//! certificate with and without a running daemon.

use crate::support::eventually;
use crate::support::snapshot;
use crate::support::world::World;
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(40);

fn items(world: &World) -> Vec<Value> {
    let run = world.kedge(&["cert", "list", "-o", "json"]);
    run.assert_status(0);
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(value["kind"], "CertificateList");
    value["items"].as_array().unwrap().clone()
}

fn fingerprint(world: &World, role: &str, name: &str) -> String {
    let items = items(world);
    let found = items.iter().find(|item| item["role"] == role && item["name"] == name);
    found.unwrap_or_else(|| panic!("{items:#?}"))["fingerprint"].as_str().unwrap().to_owned()
}

fn is_ready(world: &World) -> bool {
    let run = world.kedge(&["status", "-o", "json"]);
    let value: Value = serde_json::from_str(&run.stdout).unwrap_or_default();
    value["link"]["link"] == "up"
}

#[test]
fn certificates_are_listed_and_renewed_with_and_without_a_daemon() {
    let world = World::new("cert");
    let mut cloud = world.cloud();
    let mut edge = world.edge_with_token();
    eventually("the edge is connected", SOON, || {
        if is_ready(&world) { Ok(()) } else { Err(world.log("edge.err")) }
    });

    // The authority of the node is the cloud's, and its hash is the one in the token.
    let authority = fingerprint(&world, "cloud", "authority");
    assert_eq!(fingerprint(&world, "edge", "authority"), authority);
    let hash = world.kedge(&["cert", "ca", "--hash"]);
    assert_eq!(hash.stdout.trim(), authority);
    let token = world.kedge(&["gettoken"]).stdout;
    assert!(token.starts_with(&authority), "the token begins with the hash");
    let ca = world.kedge(&["cert", "ca"]);
    assert!(ca.stdout.starts_with("-----BEGIN CERTIFICATE-----"), "{ca:?}");
    let text = world.kedge(&["cert", "list"]);
    text.assert_status(0);
    assert!(text.stdout.contains("O=system:nodes, CN=system:node:edge-1"), "{text:?}");

    // What names nothing is refused, and no answer of somebody else's is given.
    for (line, status, code) in [
        ("cert ca --kube-config /no/kubeconfig", 3, "KE-KUBE-003"),
        ("meta list --type podd", 2, "KE-META-006"),
        ("device simulate --device nosuchdev --reports 1", 1, "KE-TWIN-001"),
    ] {
        let run = world.kedge(&line.split(' ').collect::<Vec<_>>());
        assert!(run.status == status && run.stderr.contains(code), "{line}: {run:?}");
    }
    let nowhere = world.kedge(&["cert", "renew", "--cloud", "", "--dry-run"]);
    assert!(nowhere.status == 2 && nowhere.stderr.contains("KE-LINK-001"), "{nowhere:?}");

    // A running daemon takes the next certificate without a restart.
    let first = fingerprint(&world, "edge", "node");
    let renewed = world.kedge(&["cert", "renew"]);
    renewed.assert_status(0);
    snapshot::said("cert renew", &renewed);
    let second = fingerprint(&world, "edge", "node");
    assert_ne!(first, second);
    eventually("the edge is connected again", SOON, || {
        if is_ready(&world) { Ok(()) } else { Err(world.log("edge.err")) }
    });

    // Without a daemon the command does it, once it is told where the cloud is.
    edge.interrupt();
    let lost = world.kedge(&["cert", "renew"]);
    lost.assert_status(2);
    assert!(lost.stderr.contains("KE-CERT-012"), "{lost:?}");
    snapshot::failed(&lost);
    let at = format!("127.0.0.1:{}", world.ports.cert);
    for nowhere in [":5", "a:b", "https://", "", "a:0"] {
        let typed = world.kedge(&["cert", "renew", "--dry-run", "--cloud", nowhere]);
        assert!(typed.status == 2 && typed.stderr.contains("KE-LINK-001"), "{typed:?}");
    }
    let dry = world.kedge(&["cert", "renew", "--cloud", &at, "--dry-run"]);
    dry.assert_status(0);
    assert_eq!(fingerprint(&world, "edge", "node"), second);
    world.kedge(&["cert", "renew", "--cloud", &at]).assert_status(0);
    let third = fingerprint(&world, "edge", "node");
    assert_ne!(second, third);
    let _edge = world.edge();
    eventually("the edge is connected with it", SOON, || {
        if is_ready(&world) { Ok(()) } else { Err(world.log("edge.err")) }
    });

    cloud.interrupt();
    let away = world.kedge(&["cert", "renew", "--cloud", &at]);
    away.assert_status(4);
    snapshot::failed(&away);
    let list = world.kedge(&["cert", "list"]);
    list.assert_status(4);
    assert!(list.stdout.contains(&third) && list.stderr.contains("KE-CERT-014"), "{list:?}");
}

#[test]
fn where_there_is_nothing_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let list = crate::support::kedge(&["cert", "list", "--data-dir", dir]);
    list.assert_status(4);
    assert!(list.stderr.contains("KE-CERT-010"), "{list:?}");
    snapshot::failed(&list);
    let renew = crate::support::kedge(&["cert", "renew", "--data-dir", dir]);
    renew.assert_status(3);
    assert!(renew.stderr.contains("KE-CONFIG-006"), "{renew:?}");
    snapshot::failed(&renew);
}

#[test]
fn thirty_days_warn_and_seven_fail() {
    let dir = tempfile::tempdir().unwrap();
    for (days, status, word) in [(100, 0, "fine"), (20, 0, "warning"), (3, 1, "error")] {
        let certs = dir.path().join("edge/certs");
        std::fs::create_dir_all(&certs).unwrap();
        let out = certs.join("server.crt").display().to_string();
        let key = certs.join("server.key").display().to_string();
        let days = days.to_string();
        let made = crate::support::run(
            "openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-subj",
                "/O=system:nodes/CN=system:node:n1",
                "-days",
                &days,
                "-out",
                &out,
                "-keyout",
                &key,
            ],
        );
        made.assert_status(0);
        let run = crate::support::kedge(&["cert", "list", "--data-dir", dir.path().to_str().unwrap()]);
        run.assert_status(status);
        assert!(run.stdout.contains(word), "{run:?}");
        assert_eq!(status != 0 || word == "warning", run.stderr.contains("kedge cert renew"), "{run:?}");
    }
}
