//! What `kedge doctor` measures beyond this machine: packets and versions on the way to the cloud, relays of a mesh, and
//! mappers over their sockets. Every packet is a real one.

use crate::join::{Cloud, Machine};
use crate::support::eventually;
use crate::support::house::House;
use crate::support::world::World;
use serde_json::{Value, json};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// The findings of some checks.
#[track_caller]
fn look(house: &House<'_>, only: &str) -> Vec<Value> {
    let run = house.kedge(&["doctor", "--only", only, "-o", "json"]);
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    report["findings"].as_array().unwrap().clone()
}

#[track_caller]
fn of<'a>(findings: &'a [Value], code: &str) -> &'a Value {
    findings
        .iter()
        .find(|finding| finding["code"] == code)
        .unwrap_or_else(|| panic!("no {code}: {findings:#?}"))
}

#[track_caller]
fn is_told(findings: &[Value], code: &str, state: &str, seen: &str) -> bool {
    let finding = of(findings, code);
    finding["state"] == state && finding["seen"].as_str().unwrap().contains(seen)
}

#[track_caller]
fn told(findings: &[Value], code: &str, state: &str, seen: &str) {
    assert!(is_told(findings, code, state, seen), "{findings:#?}");
}

/// Looks until the packets on the way are told so: an answer that a busy machine gives too late counts as none.
#[track_caller]
fn carries(house: &House<'_>, only: &str, state: &str, seen: &str) -> Vec<Value> {
    eventually(&format!("KE-MTU-002 is {state}: {seen}"), SOON, || {
        let found = look(house, only);
        if is_told(&found, "KE-MTU-002", state, seen) { Ok(found) } else { Err(found) }
    })
}

#[test]
fn full_packets_are_sent_to_the_cloud_and_its_version_is_heard() {
    let world = World::new("doctor-ways");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    machine.join(&cloud, &cloud.token(&[]), &[]).assert_status(0);
    let house = &machine.house;
    let found = carries(house, "KE-MTU,KE-SKEW,KE-LINK-011", "fine", "1500 bytes on eth0, answered in ");
    told(&found, "KE-SKEW-003", "fine", concat!(env!("CARGO_PKG_VERSION"), ", as here"));

    // A way that is known to carry less.
    let way = [cloud.house.address(), "dev", "eth0", "mtu", "1400"];
    house.run("ip", &[&["route", "add"], &way[..]].concat()).assert_status(0);
    carries(house, "KE-MTU-002", "fine", "1400 bytes, 1500 on eth0");
    house.run("ip", &[&["route", "del"], &way[..]].concat()).assert_status(0);

    // One that drops what is larger, without a word. Packets leave one by one, as they do on a wire.
    for at in [house, &cloud.house] {
        at.run("ip", &["link", "set", "eth0", "gso_max_segs", "1"]).assert_status(0);
        // What nobody waits for any more shall not keep the machine's network alive.
        at.run("sysctl", &["-w", "net.ipv4.tcp_orphan_retries=1"]).assert_status(0);
    }
    let drop_large = ["INPUT", "-m", "length", "--length", "1421:65535", "-j", "DROP"];
    for at in [house, &cloud.house] {
        at.run("iptables", &[&["-A"], &drop_large[..]].concat()).assert_status(0);
    }
    let lost = "1420 bytes get through, 1500 on eth0 do not";
    let found = carries(house, "KE-MTU-002,KE-LINK-011", "failed", lost);
    assert_eq!(of(&found, "KE-MTU-002")["fix"], "ip link set eth0 mtu 1420");
    // What it says to do mends it.
    house.run("ip", &["link", "set", "eth0", "mtu", "1420"]).assert_status(0);
    carries(house, "KE-MTU-002", "fine", "1420 bytes on eth0");

    // Nobody there: told once, by the layer that is broken.
    for at in [house, &cloud.house] {
        at.run("iptables", &[&["-D"], &drop_large[..]].concat()).assert_status(0);
    }
    let refuse = ["OUTPUT", "-p", "tcp", "--dport", "10000", "--syn", "-j", "REJECT"];
    house.run("iptables", &[&["-A"], &refuse[..]].concat()).assert_status(0);
    let found = look(house, "KE-MTU-002,KE-SKEW-003,KE-LINK-010");
    told(&found, "KE-LINK-010", "failed", "refused");
    assert_eq!(of(&found, "KE-MTU-002")["why"], "because of KE-LINK-010");
    assert_eq!(of(&found, "KE-SKEW-003")["state"], "skipped");
}

/// An edgecore's database after a mapper has registered, with EdgeMesh's configuration and a device that has fallen silent.
fn database(tunnel: u16, relay: &str, mapper: &str) -> String {
    let mesh = json!({"metadata": {"name": "edgemesh-agent-cfg", "namespace": "kubeedge"}, "data": {
        "edgemesh-agent.yaml": format!(
            "kubeAPIConfig:\n  master: https://10.0.0.1:6443\nmodules:\n  edgeTunnel:\n    enable: true\n    listenPort: {tunnel}\n    \
             relayNodes:\n    - nodeName: cloud\n      advertiseAddress: [{relay}]\n")}});
    let row = |name: &str, address: &str| {
        let value = json!({"name": name, "version": "v1.13.0", "api_version": "v1.0.0", "protocol": "modbus",
            "address": base64(address), "state": "ok"});
        format!(
            "INSERT INTO meta VALUES ('node/nodeID/namespace/devicemapper/{name}', 'devicemapper', '{value}');"
        )
    };
    format!(
        "CREATE TABLE `meta` (`key` varchar(256) NOT NULL PRIMARY KEY, `type` varchar(32) NOT NULL DEFAULT '', `value` text);
         CREATE TABLE `device` (`id` text, `name` text, `description` text, `state` text, `last_online` text, PRIMARY KEY (`id`));
         INSERT INTO meta VALUES ('default/node/edge-1', 'node', '{{\"metadata\":{{\"name\":\"edge-1\"}}}}');
         INSERT INTO meta VALUES ('kubeedge/configmap/edgemesh-agent-cfg', 'configmap', '{mesh}');
         {}{}",
        row("modbus-a", mapper),
        row("modbus-b", "/etc/kubeedge/gone.sock")
    )
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn relays_and_mappers_are_asked_and_named_when_they_do_not_answer() {
    let world = World::new("doctor-relays");
    let house = House::new(&world, "relays");
    // A server that speaks gRPC over a socket stands for a mapper.
    let _containerd = house.containerd();
    let relay = TcpListener::bind((house.gateway(), 0)).unwrap();
    let port = relay.local_addr().unwrap().port();
    let made = world.dir.join("edgecore.db");
    let db = rusqlite::Connection::open(&made).unwrap();
    db.execute_batch(&database(port, house.gateway(), "/run/containerd/containerd.sock")).unwrap();
    drop(db);
    house.write("/var/lib/kubeedge/edgecore.db", std::fs::read(made).unwrap());
    house.write("/etc/kubeedge/config/edgecore.yaml", "modules: {edged: {hostnameOverride: edge-1}}");
    let greeter = std::thread::spawn(move || {
        let (mut stream, _) = relay.accept().unwrap();
        stream.write_all(b"\x13/multistream/1.0.0\n").unwrap();
        stream
    });
    let found = look(&house, "KE-MESH-008,KE-MAPPER");
    let _stream: TcpStream = greeter.join().unwrap();
    let ways: Vec<&Value> = found.iter().filter(|finding| finding["code"] == "KE-MESH-008").collect();
    assert_eq!((&ways[0]["name"], &ways[0]["state"]), (&json!("way to cloud"), &json!("fine")), "{found:#?}");
    assert!(ways[0]["seen"].as_str().unwrap().contains(" greets in "), "{found:#?}");
    let mappers: Vec<&Value> = found.iter().filter(|finding| finding["code"] == "KE-MAPPER-004").collect();
    assert_eq!(mappers[0]["state"], "fine", "{found:#?}");
    assert_eq!((&mappers[1]["name"], &mappers[1]["state"]), (&json!("mapper modbus-b"), &json!("warning")));
    assert!(
        mappers[1]["seen"].as_str().unwrap().contains("/etc/kubeedge/gone.sock: No such file"),
        "{found:#?}"
    );

    // The relay has gone.
    let found = look(&house, "KE-MESH-008");
    assert!(
        found[0]["state"] == "warning" && found[0]["seen"].as_str().unwrap().contains("refused"),
        "{found:#?}"
    );
}

#[test]
fn a_device_that_falls_silent_is_told_by_the_rhythm_that_it_should_have() {
    let world = World::new("doctor-silent");
    let house = House::new(&world, "silent");
    let mut up = house.start("up", &["up", "--node", "edge-1"]);
    up.wait_for("ready", Duration::from_secs(120));
    let device = "apiVersion: devices.kubeedge.io/v1beta1\nkind: Device\nmetadata: {name: meter, namespace: default}\n\
        spec:\n  nodeName: edge-1\n  deviceModelRef: {name: meter}\n  protocol: {protocolName: modbus}\n  properties:\n  \
        - {name: power, reportCycle: 1000, visitors: {protocolName: modbus}}\n";
    let model = "apiVersion: devices.kubeedge.io/v1beta1\nkind: DeviceModel\nmetadata: {name: meter, namespace: default}\n\
        spec: {protocol: modbus, properties: [{name: power, type: INT, accessMode: ReadOnly}]}\n---\n";
    house.write("/root/device.yaml", format!("{model}{device}"));
    let kubectl = ["--kubeconfig", "/var/lib/kedge/kubeconfig", "apply", "-f", "/root/device.yaml"];
    house.run("kubectl", &kubectl).assert_status(0);
    let publish = ["-p", "1883", "-t", "$hw/events/device/default/meter/twin/update", "-m"];
    let value = r#"{"event_id":"1","timestamp":1,"twin":{"power":{"actual":{"value":"7"},"metadata":{"type":"int"}}}}"#;
    eventually("a value is taken", SOON, || {
        let sent = house.run("mosquitto_pub", &[&publish[..], &[value]].concat());
        let got = house.kedge(&["twin", "get", "default/meter", "power"]);
        if sent.status == 0 && got.stdout.contains('7') { Ok(()) } else { Err((sent, got)) }
    });
    let found = look(&house, "KE-TWIN,KE-MAPPER-003");
    assert_eq!(of(&found, "KE-TWIN-010")["state"], "fine", "{found:#?}");
    eventually("its silence is told", Duration::from_secs(100), || {
        let found = look(&house, "KE-MAPPER-003");
        let silent = found.iter().find(|finding| finding["code"] == "KE-MAPPER-003");
        silent
            .map(|finding| assert_eq!(finding["state"], "warning", "{found:#?}"))
            .ok_or_else(|| found.clone())
    });
}
