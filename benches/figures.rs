//! The figures of the README: commands that only look, time to Ready, join and upgrade, pod start, twin latency and
//! delivery, memory. Runs the real binary, the real containerd and MQTT over TCP as an end-to-end test does, and prints one
//! line per figure. Run it with `cargo bench --bench figures`, or some of it by name, as `cargo bench --bench figures --
//! join upgrade`; it needs root and the packages that `make test` installs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    dead_code,
    reason = "a bench that cannot go on says so by panicking"
)]

#[path = "../tests/cli/support/mod.rs"]
mod support;

#[path = "parts/bare.rs"]
mod bare;

#[path = "parts/node.rs"]
mod node;

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, PostParams};
use kube::runtime::watcher;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::world::{Daemon, World};

fn main() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let runs = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    machine();
    if runs("commands") {
        commands();
    }
    if runs("ready") {
        time_to_ready();
    }
    if runs("join") {
        join();
    }
    if runs("upgrade") {
        upgrade();
    }
    if runs("pods") {
        pods();
    }
    if runs("twins") {
        twins();
    }
    if runs("memory") {
        memory();
    }
}

fn machine() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown").to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("machine: {name}, {cores} cores, Linux {}", kernel.trim());
    println!("binary: {} bytes", std::fs::metadata(support::binary()).map_or(0, |m| m.len()));
}

/// How long a person waits for a command that looks only.
fn commands() {
    let timed = |name: &str, runs: usize, run: &dyn Fn() -> support::Run| {
        let mut samples: Vec<f64> = Vec::new();
        for _ in 0..runs {
            let started = Instant::now();
            let done = run();
            samples.push(started.elapsed().as_secs_f64() * 1000.0);
            done.assert_status(0);
        }
        report(name, "ms", &mut samples);
    };
    timed("kedge --help", 50, &|| support::kedge(&["--help"]));
    timed("kedge version", 50, &|| support::kedge(&["version"]));
    let world = World::new("commands");
    let _up = world.up(&[]);
    timed("kedge status", 30, &|| world.kedge(&["status"]));
}

/// The value below which this share of the sorted samples lies.
fn quantile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let last = samples.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small counts"
    )]
    let at = ((last as f64) * share).ceil() as usize;
    samples.get(at.min(last)).copied().unwrap_or(f64::NAN)
}

fn report(name: &str, unit: &str, samples: &mut [f64]) {
    let (p50, p99) = (quantile(samples, 0.5), quantile(samples, 0.99));
    let least = samples.first().copied().unwrap_or(f64::NAN);
    println!(
        "{name}: p50 {p50:.3} {unit}, p99 {p99:.3} {unit}, least {least:.3} {unit}, n={}",
        samples.len()
    );
}

/// From the start of `kedge up` to its `ready`, with its containerd already running.
fn time_to_ready() {
    let world = World::new("bench-ready");
    world.up(&[]).interrupt();
    let mut samples = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        let mut up = world.up(&[]);
        samples.push(started.elapsed().as_secs_f64());
        up.interrupt();
    }
    report("kedge up to Ready, containerd running", "s", &mut samples);
}

/// From the command line of a person on a machine with a running containerd to Ready in the cloud.
fn join() {
    let world = World::new("bench-join");
    let site = node::Site::new(&world);
    let mut samples = Vec::new();
    for _ in 0..7 {
        samples.push(site.join());
        site.reset();
    }
    report("kedge join on a prepared machine, to Ready", "s", &mut samples);
}

/// How long no daemon is ready while versions change, with a pod that runs on: from the old one's being asked to end to
/// the new one's being as well as the old one was.
fn upgrade() {
    let world = World::new("bench-upgrade");
    let site = node::Site::new(&world);
    site.join();
    site.run_pod();
    let (mut ups, mut backs) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        ups.push(site.upgrade());
        backs.push(site.roll_back());
    }
    report("kedge edge upgrade, the daemon is interrupted", "s", &mut ups);
    report("kedge edge rollback, the daemon is interrupted", "s", &mut backs);
    site.reset();
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work)
}

async fn client(world: &World) -> kube::Client {
    let text = std::fs::read_to_string(world.kubeconfig()).unwrap();
    let config = kube::config::Kubeconfig::from_yaml(&text).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

fn sleeper(name: &str) -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "kedge.local/busybox:1", "command": ["sleep", "100000"]}]}
    }))
    .unwrap()
}

/// Creates pods at once and returns, per pod, the seconds from the first request to `Running` as a watch sees it.
async fn start_pods(client: &kube::Client, names: &[String]) -> Vec<f64> {
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let mut seen = watcher(api.clone(), watcher::Config::default()).boxed();
    while !matches!(seen.try_next().await.unwrap(), Some(watcher::Event::InitDone)) {}
    let started = Instant::now();
    let creations = names.iter().map(|name| {
        let (api, pod) = (api.clone(), sleeper(name));
        async move { api.create(&PostParams::default(), &pod).await.unwrap() }
    });
    let creations = futures_util::future::join_all(creations);
    let mut waiting: HashSet<&str> = names.iter().map(String::as_str).collect();
    let mut times = Vec::new();
    let watching = async {
        while !waiting.is_empty() {
            let Some(watcher::Event::Apply(pod)) = seen.try_next().await.unwrap() else { continue };
            let running = pod.status.and_then(|s| s.phase).is_some_and(|phase| phase == "Running");
            if running && waiting.remove(pod.metadata.name.as_deref().unwrap_or_default()) {
                times.push(started.elapsed().as_secs_f64());
            }
        }
    };
    let limit = Duration::from_secs(60);
    let (_, watched) = tokio::join!(creations, tokio::time::timeout(limit, watching));
    watched.expect("all pods run within a minute");
    times
}

async fn remove_pods(client: &kube::Client) {
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    api.delete_collection(&DeleteParams::default().grace_period(0), &Default::default()).await.unwrap();
    while !api.list(&Default::default()).await.unwrap().items.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn pods() {
    let world = World::new("bench-pods");
    let _up = world.up(&[]);
    let socket = kedge::host::containerd::own_socket(&world.data_dir().join("runtime"));
    let logs = world.dir.join("bare");
    block_on(async {
        let runtime = kedge::cri::Runtime::new(&socket.to_string_lossy());
        let client = client(&world).await;
        // Turn about, so that both meet the same noise of the machine.
        let (mut bare, mut single) = (Vec::new(), Vec::new());
        for n in 0..15 {
            bare.push(bare::start(&runtime, &logs, 1).await);
            single.extend(start_pods(&client, &[format!("one-{n}")]).await);
            remove_pods(&client).await;
        }
        report("one pod, bare calls of the runtime", "s", &mut bare);
        report("one pod, create to Running", "s", &mut single);
        let (mut bare, mut many) = (Vec::new(), Vec::new());
        for round in 0..3 {
            bare.push(bare::start(&runtime, &logs, 30).await);
            let names: Vec<String> = (0..30).map(|n| format!("many-{round}-{n}")).collect();
            many.push(start_pods(&client, &names).await.into_iter().fold(0.0, f64::max));
            remove_pods(&client).await;
        }
        report("30 pods at once, bare calls of the runtime", "s", &mut bare);
        report("30 pods at once, until the last runs", "s", &mut many);
    });
}

/// A publisher that speaks just enough MQTT 3.1.1, so that its own cost does not show.
struct Publisher(TcpStream);

impl Publisher {
    fn connect(port: u16) -> Publisher {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05bench").unwrap();
        let mut acknowledgement = [0; 4];
        std::io::Read::read_exact(&mut stream, &mut acknowledgement).unwrap();
        Publisher(stream)
    }

    fn publish(&mut self, topic: &str, payload: &str) {
        let length = 2 + topic.len() + payload.len();
        let mut packet = vec![0x30];
        let mut rest = length;
        while rest > 127 {
            packet.push(u8::try_from(rest % 128).unwrap() | 0x80);
            rest /= 128;
        }
        packet.push(u8::try_from(rest).unwrap());
        packet.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        packet.extend(topic.as_bytes());
        packet.extend(payload.as_bytes());
        self.0.write_all(&packet).unwrap();
    }
}

const DEVICE: &str = r#"
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: bench}
spec: {properties: [{name: value, type: STRING, accessMode: ReadWrite}]}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: bench}
spec:
  deviceModelRef: {name: bench}
  nodeName: edge-1
  protocol: {protocolName: virtual}
  properties: [{name: value, reportToCloud: true}]
"#;

fn twins() {
    let world = World::new("bench-twins");
    let _up = world.up(&[]);
    world.apply(DEVICE);
    support::eventually("the node knows the device", Duration::from_secs(20), || {
        let run = world.kedge(&["twin", "get", "bench"]);
        if run.status == 0 { Ok(()) } else { Err(run) }
    });
    block_on(async {
        let client = client(&world).await;
        let mut latencies =
            reports(&client, world.ports.mqtt, "paced", 500, Duration::from_millis(20)).await.0;
        report("twin, MQTT to DeviceStatus watch", "ms", &mut latencies);
        let (mut latencies, last) =
            reports(&client, world.ports.mqtt, "burst", 1000, Duration::from_millis(10)).await;
        println!(
            "1,000 reports at 100/s: {} seen, the last {last:.3} s after it was published",
            latencies.len()
        );
        report("twin at 100/s", "ms", &mut latencies);
    });
}

/// Publishes distinct values at this pace; returns the latency of each value that a watch saw, in milliseconds, and
/// the seconds from the last publication to the last sighting.
async fn reports(
    client: &kube::Client,
    port: u16,
    tag: &str,
    count: usize,
    pace: Duration,
) -> (Vec<f64>, f64) {
    let resource = ApiResource {
        group: "devices.kubeedge.io".into(),
        version: "v1beta1".into(),
        api_version: "devices.kubeedge.io/v1beta1".into(),
        kind: "DeviceStatus".into(),
        plural: "devicestatuses".into(),
    };
    let api: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &resource);
    let mut seen = watcher(api, watcher::Config::default()).boxed();
    while !matches!(seen.try_next().await.unwrap(), Some(watcher::Event::InitDone)) {}
    let (sent, mut sendings) = tokio::sync::mpsc::channel(count);
    let tag = tag.to_owned();
    let prefix = tag.clone();
    let publishing = std::thread::spawn(move || {
        let mut publisher = Publisher::connect(port);
        let begun = Instant::now();
        for n in 0..count {
            let due = pace * u32::try_from(n).unwrap();
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            let payload = format!(r#"{{"twin":{{"value":{{"actual":{{"value":"{tag}-{n}"}}}}}}}}"#);
            sent.blocking_send((format!("{tag}-{n}"), Instant::now())).unwrap();
            publisher.publish("$hw/events/device/default/bench/twin/update", &payload);
        }
    });
    let mut started = HashMap::new();
    let mut arrived: HashMap<String, Instant> = HashMap::new();
    let deadline =
        tokio::time::Instant::now() + pace * u32::try_from(count).unwrap() + Duration::from_secs(5);
    while arrived.len() < count {
        let Ok(event) = tokio::time::timeout_at(deadline, seen.try_next()).await else { break };
        let Some(watcher::Event::Apply(status)) = event.unwrap() else { continue };
        let value = status
            .data
            .pointer("/status/twins/0/reported/value")
            .and_then(|v| v.as_str())
            .unwrap_or_default();
        if value.starts_with(&prefix) {
            arrived.entry(value.to_owned()).or_insert_with(Instant::now);
        }
    }
    publishing.join().unwrap();
    while let Ok((value, at)) = sendings.try_recv() {
        started.insert(value, at);
    }
    let latencies =
        arrived.iter().filter_map(|(value, at)| Some((*at - *started.get(value)?).as_secs_f64() * 1e3));
    let last_sent = started.values().max().copied().unwrap_or_else(Instant::now);
    let last_seen = arrived.values().max().copied().unwrap_or(last_sent);
    (latencies.collect(), last_seen.saturating_duration_since(last_sent).as_secs_f64())
}

fn resident(daemon: &Daemon) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn memory() {
    let world = World::new("bench-memory");
    let cloud = world.cloud();
    let edge = world.edge_with_token();
    support::eventually("the node is Ready", Duration::from_secs(40), || {
        let run = world.kubectl(&["wait", "--for=condition=Ready", "node/edge-1", "--timeout=10s"]);
        if run.status == 0 { Ok(()) } else { Err(run) }
    });
    println!("memory, cloud daemon with embedded API and one node: {:.1} MB", resident(&cloud));
    block_on(async {
        let client = client(&world).await;
        let names: Vec<String> = (0..30).map(|n| format!("pod-{n}")).collect();
        start_pods(&client, &names).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
    });
    println!("memory, edge daemon with 30 pods: {:.1} MB", resident(&edge));
    println!("memory, cloud daemon with embedded API, one node, 30 pods: {:.1} MB", resident(&cloud));
}
