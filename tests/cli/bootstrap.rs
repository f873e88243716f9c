//! `kedge cloud run --config cloudcore.yaml` with a kubeconfig, beside the process that serves the API: nodes join it, come
//! back to it, and are told why when they cannot.

use crate::support::eventually;
use crate::support::machine::memory;
use crate::support::replica::{EdgeFile, Replica};
use crate::support::world::World;
use kedge::pki::{Authority, Token};
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(40);

fn is_ready(world: &World, node: &str) {
    eventually(&format!("{node} is Ready"), SOON, || {
        let status = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        let got = world.kubectl(&["get", "node", node, "-o", status]);
        if got.stdout == "True" { Ok(()) } else { Err((got, world.log(&format!("{node}.err")))) }
    });
}

fn secret(world: &World, name: &str, key: &str) -> Vec<u8> {
    use base64::Engine;
    let found = world.get(&["secret", name, "-n", "kubeedge"]);
    let text = found.pointer(&format!("/data/{key}")).and_then(Value::as_str).unwrap_or_default();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn a_cloud_works_against_an_api_by_its_kubeconfig_alone() {
    let world = World::new("bootstrap");
    let _api = world.cloud();
    let second = Replica::new(&world, "second");
    let mut cloud = second.start(&world);
    let token = world.kedge(&["gettoken"]).stdout.trim().to_owned();
    let file = |token| EdgeFile {
        node: "edge-2",
        hub: second.hub,
        cert: second.cert,
        mqtt: world.ports.mqtt,
        token,
    };
    let mut edge = file(Some(&token)).start(&world);
    is_ready(&world, "edge-2");
    let memory = memory(cloud.pid());
    eprintln!(
        "a cloud without the API, one node: {} KiB resident, {} KiB at most",
        memory.resident >> 10,
        memory.peak >> 10
    );

    // The node keeps its certificate over restarts of either side.
    let cert = std::fs::read(world.dir.join("edge-2/certs/server.crt")).unwrap();
    cloud.interrupt();
    let _cloud = second.start(&world);
    edge.interrupt();
    let _edge = file(None).start(&world);
    eventually("the node is connected again", SOON, || {
        let said = world.whole_log("second.err");
        if said.matches("the node is connected").count() >= 2 { Ok(()) } else { Err(world.log("second.err")) }
    });
    assert_eq!(std::fs::read(world.dir.join("edge-2/certs/server.crt")).unwrap(), cert);
}

#[test]
fn a_node_that_cannot_join_is_told_why() {
    let world = World::new("joining");
    let _cloud = world.cloud();
    let authority =
        Authority::from_der(&secret(&world, "casecret", "cadata"), &secret(&world, "casecret", "cakeydata"))
            .unwrap();
    let p = world.ports;
    let for_another = world.kedge(&["token", "create", "--node", "edge-9"]).stdout.trim().to_owned();
    let stranger = Authority::generate("KubeEdge").unwrap();
    let mut node = 20;
    let mut refused = |token: &str, prepare: &dyn Fn(&str), code: &str, words: &str| {
        node += 1;
        let name = format!("edge-{node}");
        prepare(&name);
        let file = EdgeFile { node: &name, hub: p.hub, cert: p.cert, mqtt: p.mqtt, token: Some(token) };
        let mut edge = file.start(&world);
        eventually(&format!("{name} is told with {code}"), SOON, || {
            let said = world.log(&format!("{name}.err"));
            if said.contains(code) && said.contains(words) { Ok(()) } else { Err(said) }
        });
        edge.interrupt();
        // A token is a secret wherever it comes from.
        let signature = token.rsplit('.').next().filter(|part| part.len() > 20);
        assert!(signature.is_none_or(|part| !world.whole_log(&format!("{name}.err")).contains(part)));
    };
    let nothing: &dyn Fn(&str) = &|_| {};
    refused(&Token::create(&stranger, Duration::from_secs(600)), nothing, "KE-TOKEN-001", "another cloud");
    refused(&Token::create(&authority, Duration::ZERO), nothing, "KE-TOKEN-002", "was valid until");
    // The hash is right and the key is not: made by somebody who knows the public part only.
    let (_, forged) = Token::create(&stranger, Duration::from_secs(600))
        .split_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    refused(&format!("{}.{forged}", authority.hash()), nothing, "KE-TOKEN-003", "its signature is wrong");
    refused(&for_another, nothing, "KE-TOKEN-003", "another node");
    refused("a.b", nothing, "KE-TOKEN-004", "kedge token create");
    // Certificates that lie there already: of the future, of another node, of a foreign cloud.
    let write = |name: &str, issuer: &Authority, of: &str, from: i64| {
        let at = jiff::Timestamp::now().as_second();
        let cn = format!("system:node:{of}");
        let identity = issuer.issue_client_between(&cn, &["system:nodes"], at + from, at + 90_000).unwrap();
        let dir = world.dir.join(name);
        for (file, text) in [
            ("ca/rootCA.crt", issuer.cert_pem()),
            ("certs/server.crt", identity.cert_pem.clone()),
            ("certs/server.key", identity.key_pem.clone()),
        ] {
            std::fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
            std::fs::write(dir.join(file), text).unwrap();
        }
    };
    refused("", &|name| write(name, &authority, name, 3600), "KE-CERT-002", "clock");
    refused("", &|name| write(name, &authority, "edge-1", -60), "KE-CERT-009", "former name");
    refused("", &|name| write(name, &stranger, name, -60), "KE-CERT-003", "set up anew");
}
