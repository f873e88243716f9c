//! Bad input and faults: a clear error where the person looks, nothing lost, nobody else affected.

use crate::devices::{THERMOMETER, known};
use crate::support::peer::write_identity;
use crate::support::pods::{pod, sleeper};
use crate::support::snapshot;
use crate::support::world::World;
use crate::support::{Run, eventually};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kedge::pki::{Authority, Token};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

fn up_fails(world: &World, name: &str) -> String {
    let mut args = vec!["up".to_owned()];
    args.extend(world.up_flags());
    let mut up = world.start(name, &args);
    let status = up.wait_end(SOON);
    let said = world.log(&format!("{name}.err"));
    assert_ne!(status, 0, "{said}");
    snapshot::failed(&Run { status, stdout: String::new(), stderr: said.clone() });
    said
}

#[test]
fn a_port_in_use_names_its_holder() {
    let world = World::new("port");
    let p = world.ports;
    let holder = format!("(pid {})", std::process::id());
    for (name, port) in [
        ("api", p.api),
        ("hub", p.hub),
        ("cert", p.cert),
        ("stream", p.stream),
        ("tunnel", p.tunnel),
        ("mqtt", p.mqtt),
    ] {
        let held = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        let said = up_fails(&world, name);
        drop(held);
        let because = format!("because: port {port} is held by ");
        let named = said.contains("KE-PORT-001") && said.contains(&because) && said.contains(&holder);
        assert!(named, "{name}: {said}");
    }
}

/// The bytes of a sound database of two pages or more.
fn database(at: &Path) -> Vec<u8> {
    let db = rusqlite::Connection::open(at).unwrap();
    let rows = "CREATE TABLE meta (key text PRIMARY KEY, type text, value text);
        INSERT INTO meta VALUES ('default/pod/p', 'pod', hex(randomblob(9000)));";
    db.execute_batch(rows).unwrap();
    drop(db);
    std::fs::read(at).unwrap()
}

/// Rubbish from the first byte, a torn header, and a database with a torn page.
fn damages(world: &World) -> [Vec<u8>; 3] {
    let mut torn = database(&world.dir.join("sound.db"));
    torn[4096..].fill(0x5a);
    let mut header = torn.clone();
    header[40..100].fill(0x5a);
    [vec![0x5a_u8; 8192], header, torn]
}

/// Puts a damaged file in the place of a database. The log of a run that ended in a hurry holds every page and would
/// heal it.
fn spoil(database: &Path, content: &[u8]) {
    for beside in ["-wal", "-shm"] {
        drop(std::fs::remove_file(format!("{}{beside}", database.display())));
    }
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    std::fs::write(database, content).unwrap();
}

#[test]
fn a_damaged_database_of_the_api_is_named_and_kept() {
    let world = World::new("corrupt-api");
    let path = world.data_dir().join("api/api.db");
    for content in damages(&world) {
        spoil(&path, &content);
        let said = up_fails(&world, "KE-API-001");
        assert!(said.contains("KE-API-001") && said.contains(path.to_str().unwrap()), "{said}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}

#[test]
fn a_damaged_database_is_set_aside_while_pods_run_on() {
    let world = World::new("corrupt");
    let _cloud = world.cloud();
    let mut edge = world.edge_with_token();
    world.apply(&pod("stays", "edge-1", &[sleeper("main")]));
    world.apply(THERMOMETER);
    world.wait_value(&["pod", "stays"], "/status/phase", &json!("Running"), SOON);
    known(&world, "t1");
    let container =
        || world.get(&["pod", "stays"]).pointer("/status/containerStatuses/0/containerID").cloned();
    let before = container();
    assert!(before.is_some());
    edge.interrupt();

    let path = world.data_dir().join("edge/edgecore.db");
    for (turn, content) in damages(&world).iter().enumerate() {
        spoil(&path, content);
        // Whoever only reads names the file and leaves it.
        let list = world.kedge(&["meta", "list"]);
        assert!(list.status != 0 && list.stderr.contains("KE-STORE-001"), "{list:?}");
        snapshot::failed(&list);
        let mut edge = world.edge();
        eventually("the damaged file is told", SOON, || {
            let said = world.log("edge.err");
            if said.contains("KE-DB-004") { Ok(()) } else { Err(said) }
        });
        known(&world, "t1");
        eventually("the stored pod is back", SOON, || {
            let pods = world.kedge(&["pods"]);
            if pods.stdout.contains("stays") && pods.stdout.contains("Running") { Ok(()) } else { Err(pods) }
        });
        eventually("the desired value is back", SOON, || {
            let twin = world.kedge(&["twin", "get", "t1", "target"]);
            if twin.stdout.contains("20") { Ok(()) } else { Err(twin) }
        });
        // Both words are there until somebody has looked at the file.
        let status = world.kedge(&["status"]);
        assert!(status.status == 1 && status.stdout.contains("KE-DB-004"), "{status:?}");
        let doctor = world.kedge(&["doctor", "--role", "edge", "--only", "KE-DB-004", "-o", "short"]);
        let told: Vec<&str> = doctor.stdout.lines().collect();
        assert!(told.len() == 1 && told[0].starts_with("KE-DB-004 warning: "), "{doctor:?}");
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(path.parent().unwrap()).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("edgecore.db.damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm")
            {
                kept.push(std::fs::read(entry.path()).unwrap());
            }
        }
        assert!(kept.len() == turn + 1 && kept.contains(content), "nothing of it is deleted");
        assert_eq!(container(), before, "the pod's container was not touched");
        edge.interrupt();
    }
    let _edge = world.edge();
    world.kubectl_ok(&["delete", "pod", "stays", "--wait=false"]);
}

#[test]
fn what_the_api_refuses_it_refuses_in_kubernetes_words() {
    let world = World::new("refused");
    let _up = world.up(&[]);
    let file = world.dir.join("big");
    std::fs::write(&file, "x".repeat(1_100_000)).unwrap();
    let made = world.kubectl(&["create", "configmap", "big", &format!("--from-file={}", file.display())]);
    made.assert_status(1);
    let words = "ConfigMap \"big\" is invalid: []: Too long: may not be more than 1048576 bytes";
    assert!(made.stderr.contains(words), "{made:?}");
    let got = world.kubectl(&["get", "frobs"]);
    got.assert_status(1);
    assert!(got.stderr.contains("the server doesn't have a resource type \"frobs\""), "{got:?}");
    let missing = world.kubectl(&["get", "pod", "nobody"]);
    assert_eq!(missing.stderr.trim(), "Error from server (NotFound): pods \"nobody\" not found");
}

/// The authority of the world's cloud, as its Secret keeps it.
fn authority(world: &World) -> Authority {
    let secret = world.get(&["secret", "casecret", "-n", "kubeedge"]);
    let bytes = |key: &str| {
        let text = secret.pointer(&format!("/data/{key}")).and_then(Value::as_str).unwrap_or_default();
        BASE64.decode(text).unwrap()
    };
    Authority::from_der(&bytes("cadata"), &bytes("cakeydata")).unwrap()
}

/// Waits until log and status name the code; the pods of the node are still there.
#[track_caller]
fn told(world: &World, name: &str, code: &str, words: &[&str]) {
    eventually(&format!("{name} is told with {code}"), SOON, || {
        let said = world.log(&format!("{name}.err"));
        let fits = said.contains(code) && words.iter().all(|words| said.contains(words));
        if fits { Ok(()) } else { Err(said) }
    });
    let status = world.kedge(&["status"]);
    assert!(status.stdout.contains(code), "{status:?}");
    assert!(words.iter().all(|words| status.stdout.contains(words)), "{status:?}");
    eventually("the stored pod is served", SOON, || {
        let pods = world.kedge(&["pods"]);
        if pods.stdout.contains("stays") && pods.stdout.contains("Running") { Ok(()) } else { Err(pods) }
    });
}

#[test]
fn a_bad_token_or_certificate_is_told_while_pods_run_on() {
    let world = World::new("token");
    let _cloud = world.cloud();
    let mut edge = world.edge_with_token();
    world.apply(&pod("stays", "edge-1", &[sleeper("main")]));
    world.wait_value(&["pod", "stays"], "/status/phase", &json!("Running"), SOON);
    let container = world.get(&["pod", "stays"]).pointer("/status/containerStatuses/0/containerID").cloned();
    edge.interrupt();

    let good = world.kedge(&["gettoken"]).stdout.trim().to_owned();
    let authority = authority(&world);
    let certificates = world.data_dir().join("edge/certs");
    let (hash, _) = good.split_once('.').unwrap();
    let (unsigned, signature) = good.rsplit_once('.').unwrap();
    let flipped: String = signature.chars().rev().collect();
    let expired = Token::create(&authority, Duration::ZERO);
    for (name, token, code) in [
        ("other-cloud", good.replacen(hash, &"0".repeat(64), 1), "KE-TOKEN-001"),
        ("expired", expired, "KE-TOKEN-002"),
        ("bad-signature", format!("{unsigned}.{flipped}"), "KE-TOKEN-003"),
        ("malformed", "not-a-token".to_owned(), "KE-TOKEN-004"),
    ] {
        drop(std::fs::remove_dir_all(&certificates));
        let mut edge = world.edge_as(name, &token);
        told(&world, name, code, &["kedge token create"]);
        assert!(!world.whole_log(&format!("{name}.err")).contains(signature));
        edge.interrupt();
    }

    let old =
        authority.issue_client_between("system:node:edge-1", &["system:nodes"], 1_000_000_000, 1_000_086_400);
    write_identity(&world.data_dir(), &authority.cert_pem(), &old.unwrap());
    let mut edge = world.edge();
    eventually("the expired certificate is told", SOON, || {
        let said = world.log("edge.err");
        if said.contains("KE-CERT-001") { Ok(()) } else { Err(said) }
    });
    told(&world, "edge", "KE-CERT-001", &["was valid until 2001-09-10T01:46:40Z", "kedge token create"]);
    edge.interrupt();
    let _edge = world.edge_as("joins-again", &good);
    eventually("the node joins again", SOON, || {
        let said = world.log("joins-again.err");
        if said.contains("connected to the cloud") { Ok(()) } else { Err(said) }
    });
    let pod = world.get(&["pod", "stays"]);
    assert_eq!(pod.pointer("/status/containerStatuses/0/containerID"), container.as_ref());
    world.kubectl_ok(&["delete", "pod", "stays", "--wait=false"]);
}
