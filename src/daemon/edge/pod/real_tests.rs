//! The room on a real containerd that the test starts in a temporary directory. Skipped without root or containerd.

use super::super::{Groups, LogOptions, PodHandle, Sources, new};
use super::*;
use crate::base::now_ms;
use crate::daemon::edge::uplink::Outgoing;
use crate::host::capabilities::{Capability, has, is_root};
use crate::host::cni::{self, Network};
use crate::wire::{Answer, Up};
use futures_util::StreamExt;
use serde_json::json;
use std::path::Path;
use tokio::sync::watch;

fn is_able() -> bool {
    let able = is_root() && has(Capability::SysAdmin) && Path::new("/usr/bin/containerd").exists();
    if !able {
        tracing::warn!("skipped: needs root and containerd");
    }
    able
}

/// ConfigMaps and Secrets straight from the store.
struct Stored(Store);

impl Sources for Stored {
    fn config_map<'a>(&'a self, ns: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(async move { self.0.object(&ObjectKey::namespaced(Kind::ConfigMap, ns, name)).await })
    }

    fn secret<'a>(&'a self, ns: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(async move { self.0.object(&ObjectKey::namespaced(Kind::Secret, ns, name)).await })
    }

    fn token<'a>(&'a self, _: &'a str, _: &'a str, _: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async { Ok(json!({"status": {"token": "secret-token"}})) })
    }
}

/// A cloud that notes the statuses it is told and agrees to every deletion.
type Told = Arc<watch::Sender<HashMap<String, Value>>>;

async fn cloud(mut letters: mpsc::Receiver<Outgoing>, told: Told) {
    while let Some(letter) = letters.recv().await {
        let Outgoing::Report { up, confirmed, .. } = letter else { continue };
        match up {
            Up::PodPatch { name, patch, .. } => {
                let patch: Value = serde_json::from_str(&patch).unwrap();
                told.send_modify(|all| drop(all.insert(name, patch["status"].clone())));
            }
            Up::PodDelete { name, .. } => told.send_modify(|all| drop(all.remove(&name))),
            _ => {}
        }
        if let Some(confirmed) = confirmed {
            drop(confirmed.send(Answer::Ok));
        }
    }
}

/// One machine: containerd and store outlive the room, which can be started again.
struct Machine {
    dir: tempfile::TempDir,
    runtime: crate::cri::Runtime,
    keeper: Option<containerd::Keeper>,
    systemd: bool,
    store: Store,
    told: Told,
}

/// The room while it runs.
struct Open {
    handle: PodHandle,
    stop: Stop,
    crew: Crew,
}

impl Machine {
    async fn start() -> Machine {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("containerd");
        let network = Network::derive(&own);
        let config = containerd::Config { endpoint: None, use_running: false, dir: own, network };
        let running = containerd::start(config).await.unwrap();
        let systemd = running.systemd;
        let (runtime, keeper) = running.into_parts();
        let store = Store::open(dir.path().join("edge.db")).unwrap();
        let told = Arc::new(watch::channel(HashMap::new()).0);
        Machine { dir, runtime, keeper: Some(keeper), systemd, store, told }
    }

    fn open(&self) -> Open {
        let (uplink, letters, _link) = Uplink::channel(64);
        let config = Config {
            node: "n1".into(),
            runtime: self.runtime.clone(),
            groups: Groups { systemd: self.systemd, root: None },
            late: false,
            root_dir: self.dir.path().join("root"),
            log_dir: self.dir.path().join("log"),
            host_ip: "127.0.0.1".into(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
        };
        let sources = Arc::new(Stored(self.store.clone()));
        let (handle, mut module) = new(config, self.store.clone(), uplink, sources);
        let stop = Stop::new();
        let mut crew = Crew::new();
        crew.spawn(cloud(letters, self.told.clone()));
        let own = stop.clone();
        crew.spawn(async move { module.run(own, Ready::detached("pods")).await.unwrap() });
        Open { handle, stop, crew }
    }

    async fn apply(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = "n1".into();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": spec,
            "metadata": {"name": name, "namespace": "d", "uid": format!("uid-{name}"), "resourceVersion": "1"},
        });
        self.store.put_object(&key(name), &pod).await.unwrap();
    }

    async fn delete(&self, name: &str) {
        let mut pod = self.store.object(&key(name)).await.unwrap().unwrap();
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 1.into();
        self.store.put_object(&key(name), &pod).await.unwrap();
    }

    /// Waits until the cloud has heard a status that pleases.
    async fn until(&self, name: &str, what: &str, pleases: impl Fn(&Value) -> bool) -> Value {
        let mut told = self.told.subscribe();
        let waiting = told.wait_for(|all| all.get(name).is_some_and(&pleases));
        let outcome = tokio::time::timeout(Duration::from_secs(40), waiting)
            .await
            .map(|all| all.unwrap()[name].clone());
        outcome.unwrap_or_else(|_| panic!("{name}: not {what}: {:#?}", self.told.borrow().get(name)))
    }

    async fn until_gone(&self, name: &str) {
        let mut told = self.told.subscribe();
        let waiting = told.wait_for(|all| !all.contains_key(name));
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
    }

    /// Removes every sandbox, as a pod without a row is removed, and ends containerd.
    async fn clear(mut self, open: Option<Open>) {
        if let Some(mut open) = open {
            open.stop.raise();
            open.crew.finish_room().await;
        }
        for sandbox in self.runtime.list_pod_sandbox(Labels::new()).await.unwrap() {
            drop(self.runtime.stop_pod_sandbox(&sandbox.id).await);
            drop(self.runtime.remove_pod_sandbox(&sandbox.id).await);
        }
        let pods = self.dir.path().join("root/pods");
        for pod in std::fs::read_dir(pods).into_iter().flatten().flatten() {
            super::super::disk::remove(&pod.path()).unwrap();
        }
        cni::remove(&Network::derive(&self.dir.path().join("containerd")));
        let stop = Stop::new();
        stop.raise();
        let mut keeper = self.keeper.take().unwrap();
        keeper.run(stop, Ready::detached("containerd")).await.unwrap();
    }
}

trait FinishRoom {
    async fn finish_room(&mut self);
}

impl FinishRoom for Crew {
    /// The room ends by its stop; the pretended cloud ends with the crew.
    async fn finish_room(&mut self) {
        drop(tokio::time::timeout(Duration::from_secs(10), self.ended()).await);
        self.abort().await;
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::namespaced(Kind::Pod, "d", name)
}

fn is_ready(status: &Value) -> bool {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn sh(name: &str, script: &str) -> Value {
    json!({"name": name, "image": "kedge.local/busybox:1", "command": ["sh", "-c", script]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_pod_that_becomes_malformed_runs_on_and_is_buried() {
    if !is_able() {
        return;
    }
    let machine = Machine::start().await;
    let open = machine.open();
    machine
        .apply("bad", json!({"terminationGracePeriodSeconds": 0, "containers": [sh("c", "sleep 1000")]}))
        .await;
    machine.until("bad", "ready", is_ready).await;
    machine.apply("bad", json!({"containers": "none", "volumes": 7})).await;
    machine.apply("beside", json!({"containers": [sh("c", "sleep 1000")]})).await;
    machine.until("beside", "ready", is_ready).await;
    let left = machine.runtime.list_pod_sandbox(Labels::new()).await.unwrap();
    assert_eq!(left.len(), 2, "what runs is left alone");
    machine.delete("bad").await;
    machine.until_gone("bad").await;
    let left = machine.runtime.list_pod_sandbox(Labels::new()).await.unwrap();
    assert_eq!(left.len(), 1);
    assert!(!machine.dir.path().join("root/pods/uid-bad").exists());
    machine.clear(Some(open)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_pod_lives_is_adopted_and_dies() {
    if !is_able() {
        return;
    }
    let machine = Machine::start().await;
    let open = machine.open();
    let map = ObjectKey::namespaced(Kind::ConfigMap, "d", "cm");
    let object = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm", "namespace": "d"}, "data": {"k": value}});
    machine.store.put_object(&map, &object("one")).await.unwrap();
    let mut main = sh(
        "main",
        "echo started $V $POD $(cat /init/f) $(cat /cfg/k); trap 'exit 0' TERM; while :; do sleep 0.1; done",
    );
    main["env"] = json!([
        {"name": "V", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]);
    main["volumeMounts"] = json!([{"name": "e", "mountPath": "/init"}, {"name": "c", "mountPath": "/cfg"}]);
    main["readinessProbe"] = json!({"exec": {"command": ["cat", "/init/f"]}, "periodSeconds": 1});
    let mut init = sh("init", "echo from-init > /init/f");
    init["volumeMounts"] = json!([{"name": "e", "mountPath": "/init"}]);
    let begun = now_ms();
    machine
        .apply(
            "p",
            json!({
                "initContainers": [init], "containers": [main],
                "volumes": [{"name": "e", "emptyDir": {"medium": "Memory"}}, {"name": "c", "configMap": {"name": "cm"}}],
            }),
        )
        .await;
    let status = machine.until("p", "ready", is_ready).await;
    tracing::info!(milliseconds = now_ms() - begun, "ready");
    assert_eq!(status["phase"], "Running");
    assert!(status["podIP"].as_str().unwrap().starts_with("10."), "{status}");
    let log = open.handle.logs("d", "p", "main", LogOptions::default()).await.unwrap();
    let text: Vec<_> = log.map(|part| String::from_utf8(part.unwrap().to_vec()).unwrap()).collect().await;
    assert_eq!(text.concat(), "started one p from-init one\n");
    a_session_is_opened(&open.handle).await;
    let id = status["containerStatuses"][0]["containerID"].clone();
    // The daemon is killed: nothing of the room is told to end.
    drop(open);
    machine.told.send_modify(HashMap::clear);
    let open = machine.open();
    let adopted = machine.until("p", "adopted", is_ready).await;
    assert_eq!(adopted["containerStatuses"][0]["containerID"], id);
    assert_eq!(adopted["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(adopted["startTime"], status["startTime"]);
    // A changed ConfigMap reaches the volume.
    machine.store.put_object(&map, &object("two")).await.unwrap();
    let main_id = id.as_str().unwrap().split("://").nth(1).unwrap().to_owned();
    let command = ["sh", "-c", "until grep two /cfg/k; do sleep 0.05; done"].map(str::to_owned).to_vec();
    let answer = machine.runtime.exec_sync(&main_id, command, Duration::from_secs(10)).await.unwrap();
    assert_eq!(answer.exit_code, 0);
    machine.delete("p").await;
    machine.until_gone("p").await;
    while machine.store.object(&key("p")).await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    assert!(machine.runtime.list_pod_sandbox(Labels::new()).await.unwrap().is_empty());
    assert!(!machine.dir.path().join("root/pods/uid-p").exists());
    machine.clear(Some(open)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_crashes_and_missing_images_are_told() {
    if !is_able() {
        return;
    }
    let machine = Machine::start().await;
    let open = machine.open();
    machine.apply("crash", json!({"containers": [sh("a", "echo no >/dev/termination-log; exit 3")]})).await;
    machine.apply("job", json!({"restartPolicy": "Never", "containers": [sh("a", "exit 0")]})).await;
    machine.apply("none", json!({"containers": [{"name": "a", "image": "127.0.0.1:1/no/such:1"}]})).await;
    machine
        .apply("cfg", json!({"containers": [{"name": "a", "image": "kedge.local/demo:1", "envFrom": [{"configMapRef": {"name": "no"}}]}]}))
        .await;
    let mut live = sh("a", "trap 'exit 0' TERM; while :; do sleep 0.1; done");
    live["livenessProbe"] =
        json!({"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1});
    machine.apply("sick", json!({"containers": [live], "terminationGracePeriodSeconds": 1})).await;
    let waiting =
        |status: &Value, reason: &str| status["containerStatuses"][0]["state"]["waiting"]["reason"] == reason;
    let crash = machine.until("crash", "in back-off", |s| waiting(s, "CrashLoopBackOff")).await;
    let last = &crash["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["message"]), (&json!(3), &json!("no\n")));
    assert_eq!(crash["containerStatuses"][0]["restartCount"], 1);
    let job = machine.until("job", "done", |s| s["phase"] == "Succeeded").await;
    assert_eq!(job["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    machine.until("none", "without image", |s| waiting(s, "ErrImagePull")).await;
    machine.until("none", "waiting for its image", |s| waiting(s, "ImagePullBackOff")).await;
    let cfg = machine.until("cfg", "misconfigured", |s| waiting(s, "CreateContainerConfigError")).await;
    assert_eq!(cfg["containerStatuses"][0]["state"]["waiting"]["message"], "configmap \"no\" not found");
    let restarted = |s: &Value| s["containerStatuses"][0]["restartCount"].as_u64() > Some(0);
    machine.until("sick", "restarted by its probe", restarted).await;
    machine.clear(Some(open)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_thirty_pods_start_together() {
    if !is_able() {
        return;
    }
    let machine = Machine::start().await;
    let open = machine.open();
    let demo = || json!({"containers": [{"name": "a", "image": "kedge.local/demo:1"}], "terminationGracePeriodSeconds": 1});
    let mut alone = Vec::new();
    for number in 0..5 {
        let begun = now_ms();
        let name = format!("one{number}");
        machine.apply(&name, demo()).await;
        machine.until(&name, "running", |s| s["phase"] == "Running").await;
        alone.push(now_ms() - begun);
        machine.delete(&name).await;
        machine.until_gone(&name).await;
    }
    let begun = now_ms();
    for number in 0..30 {
        machine.apply(&format!("many{number}"), demo()).await;
    }
    for number in 0..30 {
        machine.until(&format!("many{number}"), "running", |s| s["phase"] == "Running").await;
    }
    let together = now_ms() - begun;
    let rss = std::fs::read_to_string("/proc/self/status").unwrap();
    let rss = rss.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
    std::fs::write("/tmp/kedge-pods-speed.txt", format!("alone {alone:?} ms, thirty {together} ms, {rss}\n"))
        .unwrap();
    machine.clear(Some(open)).await;
}

/// The runtime takes a session with the container `main` of the pod `d/p` as the stream agent begins one.
async fn a_session_is_opened(pods: &PodHandle) {
    use super::super::Session;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let session = || Session { command: vec!["true".to_owned()], stdout: true, ..Session::default() };
    for (pod, container) in [("p", "nobody"), ("nobody", "main")] {
        let failure = pods.session("d", pod, container, session()).await.unwrap_err();
        assert_eq!(failure.code, "KE-POD-006");
        failure.is_as_committed();
    }
    for session in [session(), Session { stdout: true, ..Session::default() }] {
        let url = pods.session("d", "p", "main", session).await.unwrap();
        let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        assert!(address.starts_with("127.0.0.1:"), "{url}");
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
    }
}
