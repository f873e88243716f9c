//! Bad input and faults: a clear error where the person looks, nothing lost, nobody else affected.

use crate::support::world::World;
use crate::support::{eventually, run};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_port_in_use_names_its_holder() {
    let world = World::new("port");
    let _held = std::net::TcpListener::bind(("127.0.0.1", world.ports.hub)).unwrap();
    let mut args = vec!["up".to_owned()];
    args.extend(world.up_flags());
    let mut up = world.start("up", &args);
    assert_eq!(up.wait_end(SOON), 1);
    let said = world.log("up.err");
    let own = format!("pid {}", std::process::id());
    assert!(
        said.contains(&world.ports.hub.to_string()) && said.contains("KE-PORT-") && said.contains(&own),
        "{said}"
    );
}

#[test]
fn a_corrupt_store_is_named_and_kept() {
    let world = World::new("corrupt");
    let mut up = world.up(&[]);
    up.interrupt();
    let store = run("find", &[world.data_dir().to_str().unwrap(), "-name", "edgecore.db"]).stdout;
    let store = store.trim();
    for beside in ["-wal", "-shm"] {
        drop(std::fs::remove_file(format!("{store}{beside}")));
    }
    let rubbish = vec![0x5a_u8; 8192];
    std::fs::write(store, &rubbish).unwrap();
    let mut args = vec!["up".to_owned()];
    args.extend(world.up_flags());
    let mut up = world.start("up", &args);
    assert_eq!(up.wait_end(SOON), 1);
    let said = world.log("up.err");
    assert!(said.contains("KE-STORE-001") && said.contains(store), "{said}");
    assert_eq!(std::fs::read(store).unwrap(), rubbish);
    let list = world.kedge(&["meta", "list"]);
    list.assert_status(1);
    assert!(list.stderr.contains("KE-STORE-001"), "{list:?}");
}

#[test]
fn a_config_map_over_one_mebibyte_is_refused() {
    let world = World::new("big");
    let _up = world.up(&[]);
    let file = world.dir.join("big");
    std::fs::write(&file, "x".repeat(1_100_000)).unwrap();
    let made = world.kubectl(&["create", "configmap", "big", &format!("--from-file={}", file.display())]);
    made.assert_status(1);
    assert!(made.stderr.contains("1048576"), "{made:?}");
}

#[test]
fn an_unknown_resource_is_refused_in_kubectls_words() {
    let world = World::new("unknown");
    let _up = world.up(&[]);
    let got = world.kubectl(&["get", "frobs"]);
    got.assert_status(1);
    assert!(got.stderr.contains("the server doesn't have a resource type \"frobs\""), "{got:?}");
    let missing = world.kubectl(&["get", "pod", "nobody"]);
    assert_eq!(missing.stderr.trim(), "Error from server (NotFound): pods \"nobody\" not found");
}

#[test]
fn a_wrong_token_is_told() {
    let world = World::new("token");
    let _up = world.up(&[]);
    let p = world.ports;
    let other = world.dir.join("other");
    let token = format!("{}.a.b.c", "0".repeat(64));
    let args = format!(
        "edge run --data-dir {} --node edge-2 --cloud 127.0.0.1 --hub-port {} --cert-port {} --tunnel-port {} --mqtt-port 0 --token {token}",
        other.display(),
        p.hub,
        p.cert,
        p.tunnel
    );
    let mut edge = world.start("edge", &args.split(' ').map(str::to_owned).collect::<Vec<_>>());
    eventually("the wrong token is named", SOON, || {
        let said = world.log("edge.err");
        if said.contains("KE-TOKEN-") { Ok(()) } else { Err(said) }
    });
    edge.kill();
    assert_ne!(world.kubectl(&["get", "node", "edge-2"]).status, 0);
    world.kubectl_ok(&["wait", "--for=condition=Ready", "node/edge-1", "--timeout=5s"]);
}
