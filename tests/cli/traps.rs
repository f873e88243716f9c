//! Traps of KubeEdge's users whose cure is not built yet: the edge's own Kubernetes API, the mesh, mappers over DMI. None
//! of them may end without a sentence that says what to do. Every cause is a real one.

use crate::support::eventually;
use crate::support::house::House;
use crate::support::world::World;
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// A pod that asks by its account, one that is told of a server, one that names a Service, one that waits for the socket.
const PODS: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
---
apiVersion: v1
kind: Pod
metadata: {name: asks}
spec:
  serviceAccountName: robot
  containers: [{name: c, image: "kedge.local/demo:1"}]
---
apiVersion: v1
kind: Pod
metadata: {name: direct}
spec:
  hostNetwork: true
  serviceAccountName: robot
  containers:
  - name: c
    image: "kedge.local/demo:1"
    env: [{name: KUBERNETES_SERVICE_HOST, value: "127.0.0.1"}, {name: KUBERNETES_SERVICE_PORT, value: "AT"}]
---
apiVersion: v1
kind: Pod
metadata: {name: names}
spec:
  containers: [{name: c, image: "kedge.local/demo:1", env: [{name: DB, value: "http://db.prod.svc:80"}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: mapper}
spec:
  containers: [{name: c, image: "kedge.local/demo:1"}]
  volumes: [{name: dmi, hostPath: {path: /var/lib/kedge/edge}}]
"#;

fn look(house: &House<'_>, only: &str) -> Vec<Value> {
    let run = house.kedge(&["doctor", "--only", only, "-o", "json"]);
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    report["findings"].as_array().unwrap().clone()
}

/// The finding of a code and its state; every complaint says why and what to do.
#[track_caller]
fn told<'a>(findings: &'a [Value], code: &str, state: &str) -> &'a str {
    let found = findings.iter().find(|finding| finding["code"] == code);
    let finding = found.unwrap_or_else(|| panic!("no {code} in {findings:#?}"));
    assert_eq!(finding["state"], state, "{finding:#}");
    if state != "fine" {
        assert!(finding["why"] != "" && finding["fix"] != "", "{finding:#}");
    }
    finding["seen"].as_str().unwrap()
}

#[track_caller]
fn says(seen: &str, words: &str) {
    assert!(seen.contains(words), "{seen:?} does not say {words:?}");
}

#[test]
fn what_kedge_does_not_serve_yet_is_told_to_those_who_expect_it() {
    let world = World::new("traps");
    let house = House::new(&world, "traps");
    let mut up = house.start("up", &["up", "--node", "edge-1", "--demo"]);
    up.wait_for("ready", Duration::from_secs(120));
    let kubectl = |args: &[&str]| {
        house.run("kubectl", &[&["--kubeconfig", "/var/lib/kedge/kubeconfig"], args].concat())
    };
    for (group, code) in
        [("KE-META", "KE-META-010"), ("mesh", "KE-MESH-001"), ("KE-MAPPER-002", "KE-MAPPER-002")]
    {
        told(&look(&house, group), code, "fine");
    }

    let server = house.read("/var/lib/kedge/kubeconfig");
    let server =
        server.lines().find_map(|line| line.trim().strip_prefix("server: https://127.0.0.1:")).unwrap();
    house.write("/root/pods.yaml", PODS.replace("\"AT\"", &format!("\"{}\"", server.trim())));
    kubectl(&["apply", "-f", "/root/pods.yaml"]).assert_status(0);
    for pod in ["asks", "direct", "names"] {
        let ready = ["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=90s"];
        kubectl(&ready).assert_status(0);
    }

    // Trap 29. A pod with its own server is served by it: the same GET with its own token and authority.
    let found = look(&house, "KE-META");
    says(told(&found, "KE-META-012", "warning"), "default/asks (has the account robot)");
    assert!(!told(&found, "KE-META-012", "warning").contains("names"), "{found:#?}");
    says(told(&found, "KE-META-014", "fine"), "answers the pod's token");
    // Somebody else at the port: by name, with what it answers, and without a token for a stranger.
    let make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /root/k -out /root/c -days 2 -subj /CN=x";
    house.run("openssl", &make.split(' ').collect::<Vec<_>>()).assert_status(0);
    let serve = "s_server -accept 127.0.0.1:10550 -cert /root/c -key /root/k -www";
    let mut stranger = house.start_program("stranger", "openssl", &serve.split(' ').collect::<Vec<_>>());
    eventually("the stranger serves", SOON, || {
        let held = house.run("ss", &["-ltn"]).stdout;
        if held.contains(":10550 ") { Ok(()) } else { Err(held) }
    });
    let found = look(&house, "KE-META");
    let seen = told(&found, "KE-META-013", "warning");
    says(seen, "held by openssl (pid ");
    says(seen, "that pods do not trust");
    told(&found, "KE-META-012", "warning");
    house.run("pkill", &["-x", "openssl"]).assert_status(0);
    stranger.wait_end(SOON);

    // Trap 28: names of Services; an agent that lacks what it needs, and a rival; what it leaves behind.
    says(told(&look(&house, "mesh"), "KE-MESH-007", "warning"), "default/names ask for db.prod.svc");
    house.run("mkdir", &["-p", "/opt/bin"]).assert_status(0);
    let fake = |name: &str| {
        let path = format!("/opt/bin/{name}");
        house.run("cp", &["/bin/sleep", &path]).assert_status(0);
        house.start_program(name, &path, &["1000"])
    };
    let (mut agent, _proxy) = (fake("edgemesh-agent"), fake("kube-proxy"));
    house.run("ip", &["link", "add", "edgemesh0", "type", "bridge"]).assert_status(0);
    house.run("iptables", &["-t", "nat", "-N", "KUBE-PORTALS-CONTAINER"]).assert_status(0);
    let found = look(&house, "mesh");
    let seen = told(&found, "KE-MESH-005", "warning");
    says(seen, "edgemesh-agent runs (pid ");
    says(seen, "edgemesh0 is there, its tunnel (port 20006) is closed; nobody serves port 10550");
    says(told(&found, "KE-MESH-004", "warning"), "kube-proxy runs (pid ");
    told(&look(&house, "KE-KUBELET-003"), "KE-KUBELET-003", "fine");
    house.run("pkill", &["-x", "edgemesh-agent"]).assert_status(0);
    agent.wait_end(SOON);
    let left = look(&house, "KE-MESH-006");
    let seen = told(&left, "KE-MESH-006", "warning");
    assert_eq!(seen, "interface edgemesh0; chains KUBE-PORTALS-CONTAINER");

    // Trap 27: a mapper of KubeEdge's framework, whose socket nobody serves.
    let found = look(&house, "KE-MAPPER-002");
    says(told(&found, "KE-MAPPER-002", "warning"), "default/mapper mount /var/lib/kedge/edge/dmi.sock");
}

/// As a node with all of KubeEdge's options is configured.
const FILE: &str = r#"
apiVersion: edgecore.config.kubeedge.io/v1alpha2
kind: EdgeCore
modules:
  edged:
    hostnameOverride: edge-1
    tailoredKubeletConfig: {clusterDNS: [169.254.96.16]}
  edgeHub:
    quic: {enable: true, server: "10.99.99.99:10001"}
    websocket: {enable: false}
  edgeMesh: {enable: true, subNet: 9.251.0.0/16}
  metaManager:
    metaServer: {enable: true}
"#;

#[test]
fn a_configuration_that_asks_for_more_than_kedge_serves_is_taken_with_a_word_on_each() {
    let world = World::new("traps-file");
    let house = House::new(&world, "file");
    house.write("/etc/kubeedge/config/edgecore.yaml", FILE);
    let once = |said: &str| {
        for code in ["KE-QUIC-001", "KE-META-011"] {
            assert_eq!(said.matches(&format!("[{code}]")).count(), 1, "{code} in {said}");
        }
        // One for the module, one for the name server.
        assert_eq!(said.matches("[KE-MESH-002]").count(), 2, "{said}");
    };
    let valid = house.kedge(&["config", "validate"]);
    valid.assert_status(0);
    once(&valid.stdout);
    let json = house.kedge(&["config", "validate", "-o", "json"]);
    assert!(json.stdout.contains(r#""code": "KE-META-011""#), "{json:?}");
    house.kedge(&["config", "validate", "--strict"]).assert_status(3);
    let run = house.kedge(&["edge", "run", "--dry-run"]);
    run.assert_status(0);
    once(&run.stderr);

    // The name server is really asked; nobody is there.
    let found = look(&house, "mesh,KE-META,KE-QUIC");
    says(told(&found, "KE-META-011", "warning"), "127.0.0.1:10550");
    says(told(&found, "KE-QUIC-001", "warning"), "WebSocket carries the link");
    told(&found, "KE-MESH-002", "warning");
    let name = found.iter().find(|finding| finding["code"] == "KE-MESH-003").unwrap();
    assert_eq!(
        (&name["name"], &name["state"]),
        (&"name server of pods 169.254.96.16".into(), &"warning".into())
    );

    // Each of the commands that are named ends its warning.
    for change in [
        "modules.edgeHub.quic.enable=false modules.edgeHub.websocket.enable=true",
        "modules.metaManager.metaServer.enable=false",
        "modules.edged.tailoredKubeletConfig.clusterDNS={}",
    ] {
        let words: Vec<&str> = ["config", "set"].into_iter().chain(change.split(' ')).collect();
        house.kedge(&words).assert_status(0);
    }
    let left = house.kedge(&["config", "validate"]);
    assert_eq!(left.stdout.matches("warning:").count(), 1, "{left:?}");

    // A new node that is to have them hears it before anything is asked or written.
    let wish = ["join", "-e", "127.0.0.1:1", "-t", "x", "-i", "edge-1", "--takeover", "--dry-run"];
    let set = ["--set", "modules.metaManager.metaServer.enable=true"];
    let join = house.kedge(&[&wish[..], &set].concat());
    assert_eq!(join.stderr.matches("[KE-META-011]").count(), 1, "{join:?}");
}
