//! What nodes and their pods use, as `kubectl get --raw` and an unmodified metrics-server ask for it: from a kedge node with
//! the real containerd, and from a node that speaks as a genuine edgecore does.

use crate::support::peer::{identity, upgrade};
use crate::support::pods::{container, pod, sleeper};
use crate::support::replica::Replica;
use crate::support::world::World;
use crate::support::{Run, eventually, run};
use kedge::wire::tunnel::{Connect, Frame, FrameKind};
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(40);

/// The value of a line of Prometheus text that begins like this.
fn value(text: &str, begins: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(begins))?;
    line.rsplit_once('}').map_or(line, |(_, rest)| rest).split_whitespace().find_map(|word| word.parse().ok())
}

#[test]
fn metrics_of_edge_pods_are_read_through_the_cloud() {
    let world = World::new("metrics");
    let _up = world.up(&[]);
    let mut works = container("works", &["sh", "-c", "while :; do :; done"]);
    works["resources"] = json!({"limits": {"cpu": "200m"}});
    world.apply(&pod("busy", "", &[works, sleeper("sleeps")]));
    world.wait_value(&["pod", "busy"], "/status/phase", &json!("Running"), SOON);
    let raw = |path: &str| world.kubectl(&["get", "--raw", &format!("/api/v1/nodes/edge-1/proxy{path}")]);

    // The counters grow, so a rate can be made of them.
    let works = "container_cpu_usage_seconds_total{container=\"works\",namespace=\"default\",pod=\"busy\"}";
    let first = eventually("processor time of the container", SOON, || {
        let text = raw("/metrics/resource");
        value(&text.stdout, works).filter(|seconds| *seconds > 0.0).ok_or(text)
    });
    let text = eventually("more of it", SOON, || {
        let text = raw("/metrics/resource");
        if value(&text.stdout, works) > Some(first) { Ok(text.stdout) } else { Err(text) }
    });
    for begins in [
        "container_memory_working_set_bytes{container=\"sleeps\",namespace=\"default\",pod=\"busy\"}",
        "container_start_time_seconds{container=\"works\",namespace=\"default\",pod=\"busy\"}",
        "node_cpu_usage_seconds_total",
        "node_memory_working_set_bytes",
        "pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"busy\"}",
        "pod_memory_working_set_bytes{namespace=\"default\",pod=\"busy\"}",
    ] {
        assert!(value(&text, begins).is_some_and(|value| value > 0.0), "{begins}\n{text}");
    }
    assert_eq!(value(&text, "resource_scrape_error"), Some(0.0), "{text}");

    let summary = eventually("a summary with rates", SOON, || {
        let summary: Value = serde_json::from_str(&raw("/stats/summary").stdout).unwrap_or_default();
        let pod = summary["pods"]
            .as_array()
            .and_then(|pods| pods.iter().find(|pod| pod["podRef"]["name"] == "busy"));
        let rate = pod.and_then(|pod| pod["containers"][1]["cpu"]["usageNanoCores"].as_u64());
        if rate > Some(10_000_000) { Ok(summary) } else { Err(summary) }
    });
    let uid = world.get(&["pod", "busy"])["metadata"]["uid"].clone();
    let pod = summary["pods"].as_array().unwrap().iter().find(|pod| pod["podRef"]["uid"] == uid).unwrap();
    assert_eq!(pod["podRef"], json!({"name": "busy", "namespace": "default", "uid": uid}));
    let names: Vec<&Value> = pod["containers"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["sleeps", "works"]);
    assert!(pod["memory"]["workingSetBytes"].as_u64() > Some(0), "{pod:#}");
    assert_eq!(summary["node"]["nodeName"], "edge-1");
    assert!(summary["node"]["memory"]["workingSetBytes"].as_u64() > Some(1 << 20), "{summary:#}");
    assert!(summary["node"]["fs"]["capacityBytes"].as_u64() > Some(1 << 20), "{summary:#}");
    let brief: Value = serde_json::from_str(&raw("/stats/summary?only_cpu_and_memory=true").stdout).unwrap();
    assert!(brief["node"].get("fs").is_none() && brief["node"].get("cpu").is_some(), "{brief:#}");

    // Prometheus' way, with the labels of the pod filled in.
    let text = raw("/metrics/cadvisor").stdout;
    let of_works = text.lines().find(|line| {
        line.starts_with("container_cpu_usage_seconds_total{container=\"works\"")
            && line.contains("namespace=\"default\",pod=\"busy\"")
    });
    assert!(of_works.is_some() && value(&text, "machine_cpu_cores") > Some(0.0), "{text}");

    // What is not there says so.
    let probes = raw("/metrics/probes");
    assert!(
        probes.status != 0 && probes.stderr.contains("/metrics/probes is not served by the node"),
        "{probes:?}"
    );
    let absent = world.kubectl(&["get", "--raw", "/api/v1/nodes/nobody/proxy/stats/summary"]);
    assert!(absent.status != 0 && absent.stderr.contains("\"nobody\" not found"), "{absent:?}");

    // Pods that are gone have no metrics.
    world.kubectl_ok(&["delete", "pod", "busy"]);
    eventually("no metrics of the pod", SOON, || {
        let text = raw("/metrics/resource").stdout;
        if text.contains("node_cpu") && !text.contains("busy") { Ok(()) } else { Err(text) }
    });
}

const RIGHTS: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: metrics-server, namespace: kube-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: nobody, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "system:metrics-server"}
rules:
- {apiGroups: [""], resources: [nodes/metrics], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "system:metrics-server"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:metrics-server"}
subjects:
- {kind: ServiceAccount, name: metrics-server, namespace: kube-system}
"#;

/// A token of a service account, as its pod would have one.
fn token(world: &World, account: &str) -> String {
    let path = format!("/api/v1/namespaces/kube-system/serviceaccounts/{account}/token");
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let file = world.dir.join("request.json");
    std::fs::write(&file, request.to_string()).unwrap();
    let made = world.kubectl_ok(&["create", "--raw", &path, "-f", file.to_str().unwrap()]);
    let made: Value = serde_json::from_str(&made).unwrap();
    made["status"]["token"].as_str().unwrap().to_owned()
}

/// Asks the kubelet API itself as metrics-server does: by address, with a token.
fn ask(port: u16, token: &str, path: &str) -> Run {
    let server = format!("https://127.0.0.1:{port}");
    let mut args = vec!["--kubeconfig", "/dev/null", "--server", &server, "--insecure-skip-tls-verify"];
    args.extend(["--token", token, "get", "--raw", path]);
    run("kubectl", &args)
}

#[test]
fn metrics_server_reads_a_genuine_edge_with_its_token() {
    let world = World::new("metrics-server");
    let _cloud = world.cloud();
    world.apply(RIGHTS);
    let (mut stream, mut tunnel) = (0, 0);
    let replica = Replica::with(&world, "replica", |config| {
        config["kedge"]["streamFromCluster"] = json!(true);
        let wanted = &mut config["modules"]["cloudStream"];
        wanted["enable"] = json!(true);
        stream = u16::try_from(wanted["streamPort"].as_u64().unwrap()).unwrap();
        tunnel = u16::try_from(wanted["tunnelPort"].as_u64().unwrap()).unwrap();
    });
    let _replica = replica.start(&world);
    let headers = [("SessionHostNameOverride", "edge-1"), ("SessionInternalIP", "127.0.0.1")];
    let mut node = upgrade(tunnel, "/v1/kubeedge/connect", &headers, &identity(&world, "edge-1")).unwrap();
    let edgecore = std::thread::spawn(move || {
        let mut asked = Vec::new();
        while let Some(bytes) = node.read() {
            let frame = Frame::decode(bytes.into()).unwrap();
            if frame.kind != FrameKind::MetricConnect {
                continue;
            }
            let connect = Connect::decode(&frame.data).unwrap();
            assert_eq!((connect.url.scheme.as_str(), connect.url.host.as_str()), ("http", "127.0.0.1:10350"));
            assert_eq!((connect.connection, connect.method.as_str()), (frame.connection, ""));
            asked.push(connect.url.path.clone());
            // Line by line, as edgecore does; a kubelet that does not answer is no line at all.
            let lines: &[&str] = match connect.url.path.as_str() {
                "/metrics/resource" => &["# a comment\n", "node_cpu_usage_seconds_total 5\n"],
                _ => &[],
            };
            for line in lines {
                node.send_bytes(&Frame::new(frame.connection, FrameKind::Data, line.as_bytes()).encode());
            }
            node.send_bytes(&Frame::new(frame.connection, FrameKind::RemoveConnect, "").encode());
            if asked.len() == 2 {
                return asked;
            }
        }
        asked
    });
    let known = token(&world, "metrics-server");
    let text = eventually("the node's metrics", SOON, || {
        let answer = ask(stream, &known, "/metrics/resource");
        if answer.status == 0 { Ok(answer.stdout) } else { Err(answer) }
    });
    assert_eq!(text, "# a comment\nnode_cpu_usage_seconds_total 5\n");
    let silent = ask(stream, &known, "/metrics/cadvisor");
    assert!(silent.stderr.contains("node edge-1 has no answer"), "{silent:?}");
    assert_eq!(edgecore.join().unwrap(), ["/metrics/resource", "/metrics/cadvisor"]);

    // Its right is for metrics alone; others have none, and strangers no name.
    let beyond = ask(stream, &known, "/stats/summary");
    assert!(beyond.stderr.contains("nodes/stats"), "{beyond:?}");
    let nobody = ask(stream, &token(&world, "nobody"), "/metrics/resource");
    assert!(nobody.stderr.contains("nodes/metrics"), "{nobody:?}");
    let stranger = ask(stream, "nonsense", "/metrics/resource");
    assert!(stranger.status != 0 && stranger.stderr.contains("must be logged in"), "{stranger:?}");
}
