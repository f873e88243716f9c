//! Many light nodes in one process: each with the real uplink, and in place of a store a map of what it was told. They
//! register, renew their leases, ask for what their pods refer to, and answer comparisons, as a node does. A relay
//! stands between most of them and the cloud and can cut every line at once.

use super::world::{Daemon, World};
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kedge::base::{Crew, Module, Ready, Stop, now, rfc3339};
use kedge::daemon::cloud::TokenDesk;
use kedge::daemon::edge::uplink::{self, Files, Inbound, Link, ReportKey, Uplink};
use kedge::model::digest::{ContentHash, Digest, Holding, bucket_of};
use kedge::model::{Kind, NodeName, ObjectKey};
use kedge::wire::{Answer, Comparison, Down, Holdings, LeaseVerb, Up};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};

const LEASES: &str = "kube-node-lease";
const LEASE_EVERY: Duration = Duration::from_secs(10);
const ASK: Duration = Duration::from_secs(60);
/// Nodes that enrol at a time.
const ENROL_AT_ONCE: usize = 64;
const CREATE_AT_ONCE: usize = 16;
/// How often the nodes that stay connected measure the way to the cloud and back.
const PULSE: Duration = Duration::from_millis(500);
/// Until the last node has noticed that its line is cut.
const CUT: Duration = Duration::from_secs(60);
/// Before a lease that was not renewed is asked for again: a node that is silent for long loses its pods.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// Starts a cloud with its embedded API that takes so many nodes; its output goes to `cloud.err`.
pub fn cloud(world: &World, nodes: usize) -> Daemon {
    cloud_with(world, nodes, &json!({}))
}

/// The same with KubeEdge's feature gates set so.
pub fn cloud_with(world: &World, nodes: usize, gates: &Value) -> Daemon {
    cloud_of(world, nodes, gates, &json!({}))
}

/// The same with more in the section `kedge`.
pub fn cloud_of(world: &World, nodes: usize, gates: &Value, more: &Value) -> Daemon {
    let dir = world.data_dir().display().to_string();
    let p = world.ports;
    let mut config = json!({
        "apiVersion": "cloudcore.config.kubeedge.io/v1alpha2", "kind": "CloudCore",
        "featureGates": gates,
        "modules": {
            "cloudHub": {"nodeLimit": nodes, "advertiseAddress": ["127.0.0.1"],
                "tlsCAFile": format!("{dir}/ca.crt"), "tlsCAKeyFile": format!("{dir}/ca.key"),
                "tlsCertFile": format!("{dir}/server.crt"), "tlsPrivateKeyFile": format!("{dir}/server.key"),
                "websocket": {"address": "127.0.0.1", "port": p.hub},
                "https": {"address": "127.0.0.1", "port": p.cert}},
            "cloudStream": {"streamPort": p.stream, "tunnelPort": p.tunnel}},
        "kedge": {"dataDir": dir, "embedded": true, "apiListen": format!("127.0.0.1:{}", p.api)},
    });
    for (key, value) in more.as_object().unwrap() {
        config["kedge"][key] = value.clone();
    }
    std::fs::create_dir_all(world.data_dir()).unwrap();
    let file = world.dir.join("cloudcore.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    let args = ["cloud", "run", "--log-level", "info", "--config", file.to_str().unwrap()];
    let mut daemon = world.start("cloud", &args.map(str::to_owned));
    daemon.wait_for("ready", Duration::from_secs(60));
    daemon
}

/// A TCP relay to one port that can cut all its connections and refuse new ones.
pub struct Relay {
    port: u16,
    state: watch::Sender<(bool, Stop)>,
    _crew: Crew,
}

impl Relay {
    async fn open(to: u16) -> Relay {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, open) = watch::channel((true, Stop::new()));
        let mut crew = Crew::new();
        crew.spawn(async move {
            let mut connections = Crew::new();
            loop {
                let Ok((mut near, _)) = listener.accept().await else { continue };
                let (accepts, cut) = open.borrow().clone();
                if !accepts {
                    continue;
                }
                connections.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                    let carried = tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, 4096, 4096);
                    drop(cut.or(carried).await);
                });
            }
        });
        Relay { port, state, _crew: crew }
    }

    /// Cuts all connections; new ones are refused until [`Relay::join`]. The nodes notice a moment later: [`Fleet::cut`].
    pub fn cut(&self) {
        let (_, before) = self.state.send_replace((false, Stop::new()));
        before.raise();
    }

    /// Lets connections through.
    pub fn join(&self) {
        self.state.send_modify(|state| state.0 = true);
    }
}

#[derive(Default)]
struct State {
    objects: HashMap<ObjectKey, (String, ContentHash)>,
    /// What came since the last mark: `+key` and `-key`.
    told: Vec<String>,
    wanted: Option<Digest>,
    synced: Option<Instant>,
}

impl State {
    fn digest(&self) -> Digest {
        Digest::of(self.objects.iter().map(|(key, (_, content))| (key, *content)))
    }

    fn put(&mut self, key: ObjectKey, object: &Value) {
        let uid = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.objects.insert(key, (uid, ContentHash::of(object)));
    }

    fn holdings(&self, wanted: &Comparison) -> Holdings {
        let buckets = self.digest().differing(&wanted.digest);
        let concerned = self.objects.iter().filter(|(key, _)| buckets.contains(&bucket_of(key)));
        let holding = |(key, (uid, content)): (&ObjectKey, &(String, ContentHash))| Holding {
            key: key.clone(),
            uid: uid.clone(),
            content: *content,
        };
        Holdings { round: wanted.round, objects: concerned.map(holding).collect(), buckets }
    }
}

/// One node.
struct Node {
    name: String,
    /// It goes past the relay.
    is_steady: bool,
    uplink: Uplink,
    state: Mutex<State>,
    synced: watch::Sender<usize>,
}

impl Node {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes when the node holds what the cloud wants, for the first time after a mark.
    fn note(&self) {
        let mut state = self.state();
        if state.synced.is_none() && state.wanted.as_ref() == Some(&state.digest()) {
            state.synced = Some(Instant::now());
            drop(state);
            self.synced.send_modify(|count| *count += 1);
        }
    }

    async fn ask(&self, up: Up) -> Option<Value> {
        match self.uplink.ask(up, ASK).await {
            Ok(Answer::Object(object)) => Some(object),
            _ => None,
        }
    }

    async fn serve(self: Arc<Self>, mut inbound: mpsc::Receiver<Inbound>) {
        let mut crew = Crew::new();
        while let Some(Inbound { down, receipt, .. }) = inbound.recv().await {
            match down {
                Down::Object { key, object, .. } => {
                    if key.kind == Kind::Pod {
                        crew.spawn(self.clone().run_pod(key.clone()));
                    }
                    let mut state = self.state();
                    state.told.push(format!("+{key}"));
                    state.put(key, &object);
                }
                Down::Delete { key, .. } => {
                    let mut state = self.state();
                    state.told.push(format!("-{key}"));
                    state.objects.remove(&key);
                }
                Down::Compare(wanted) => {
                    let holdings = self.state().holdings(&wanted);
                    self.state().wanted = Some(wanted.digest.clone());
                    let up = Up::Holdings(holdings);
                    drop(self.uplink.report(ReportKey("holdings".to_owned()), up).await);
                }
                _ => {}
            }
            receipt.stored();
            self.note();
        }
    }

    /// What the pod room would do: fetch what the pod refers to, then say that it runs.
    async fn run_pod(self: Arc<Self>, pod: ObjectKey) {
        let key = ObjectKey { kind: Kind::ConfigMap, ..pod.clone() };
        let held = self.state().objects.contains_key(&key);
        if !held && let Some(object) = self.ask(Up::Query { key: key.clone() }).await {
            self.state().put(key, &object);
            let patch = json!({"status": {"phase": "Running"}}).to_string();
            let (namespace, name) = (pod.namespace.unwrap_or_default(), pod.name);
            drop(self.ask(Up::PodPatch { namespace, name, patch }).await);
        }
        self.note();
    }

    /// Registers, says that it is ready, and renews its lease as long as it lives.
    async fn live(self: Arc<Self>) {
        let mut link = self.uplink.link();
        drop(link.wait_for(|link| *link == Link::Up).await);
        let key = ObjectKey::cluster(Kind::Node, &*self.name);
        let node = json!({"metadata": {"name": self.name, "labels": {"node-role.kubernetes.io/edge": ""}},
            "spec": {}, "status": {}});
        if let Some(node) = self.ask(Up::NodeInsert { name: self.name.clone(), node }).await {
            self.state().put(key.clone(), &node);
        }
        let at = rfc3339(now());
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready",
            "lastHeartbeatTime": at, "lastTransitionTime": at});
        let patch = json!({"status": {"conditions": [ready]}}).to_string();
        drop(self.ask(Up::NodePatch { name: self.name.clone(), patch }).await);
        let mut lease: Option<Value> = None;
        loop {
            let verb = if lease.is_some() { LeaseVerb::Update } else { LeaseVerb::Insert };
            let mut wanted = lease
                .clone()
                .unwrap_or_else(|| json!({"metadata": {"name": self.name, "namespace": LEASES}, "spec": {}}));
            let at = format!("{}", now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ"));
            wanted["spec"] =
                json!({"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": at});
            let (namespace, name) = (LEASES.to_owned(), self.name.clone());
            let up = Up::Lease { verb, namespace: namespace.clone(), name: name.clone(), lease: wanted };
            lease = match self.ask(up).await {
                Some(lease) => Some(lease),
                None => {
                    self.ask(Up::Query { key: ObjectKey::namespaced(Kind::Lease, namespace, name) }).await
                }
            };
            tokio::time::sleep(if lease.is_some() { LEASE_EVERY } else { RENEW_AGAIN }).await;
            drop(link.wait_for(|link| *link == Link::Up).await);
        }
    }
}

/// All nodes, and the relay before them.
pub struct Fleet {
    nodes: Vec<Arc<Node>>,
    pub relay: Relay,
    synced: watch::Sender<usize>,
    pulses: Arc<Mutex<Vec<f64>>>,
    client: kube::Client,
    _crew: Crew,
}

/// What came of an outage.
#[derive(Debug)]
pub struct Recovery {
    /// Seconds until the first, half and all of the nodes were back and in sync.
    pub first: f64,
    pub half: f64,
    pub all: f64,
    /// What was sent meanwhile: `node +key`.
    pub told: Vec<String>,
}

impl Fleet {
    /// Enrols and connects so many nodes; the last `steady` of them go past the relay.
    pub async fn open(world: &World, count: usize, steady: usize) -> Fleet {
        kedge::pki::install_crypto_provider();
        let desk = TokenDesk::open(&world.kubeconfig()).await.unwrap();
        let token = desk.cluster_token().await.unwrap();
        let text = std::fs::read_to_string(world.kubeconfig()).unwrap();
        let config = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
        let mut fleet = Fleet {
            nodes: Vec::new(),
            relay: Relay::open(world.ports.hub).await,
            synced: watch::channel(0).0,
            pulses: Arc::default(),
            client: kube::Client::try_from(config).unwrap(),
            _crew: Crew::new(),
        };
        let room = Arc::new(Semaphore::new(ENROL_AT_ONCE));
        for n in 0..count {
            let permit = room.clone().acquire_owned().await.unwrap();
            let is_steady = n + steady >= count;
            let link = fleet.add(world, n, is_steady, &token);
            fleet._crew.spawn(async move {
                let _permit = permit;
                drop(link.clone().wait_for(|link| *link == Link::Up).await);
            });
        }
        drop(room.acquire_many(u32::try_from(ENROL_AT_ONCE).unwrap()).await);
        fleet
    }

    fn add(&mut self, world: &World, n: usize, is_steady: bool, token: &str) -> watch::Receiver<Link> {
        let name = format!("sim-{n}");
        let dir: PathBuf = world.dir.join("nodes").join(&name);
        let port = if is_steady { world.ports.hub } else { self.relay.port };
        let https = format!("https://127.0.0.1:{}", world.ports.cert);
        let config = uplink::Config {
            files: Files { ca: dir.join("ca.crt"), cert: dir.join("node.crt"), key: dir.join("node.key") },
            token: Some(token.to_owned()),
            heartbeat: if is_steady { PULSE } else { Duration::from_secs(15) },
            ..uplink::Config::new(NodeName::new(&name).unwrap(), format!("127.0.0.1:{port}"), https)
        };
        let (uplink, inbound, mut module) = uplink::new(config).unwrap();
        let synced = self.synced.clone();
        let node = Arc::new(Node { name, is_steady, uplink, state: Mutex::default(), synced });
        self._crew.spawn(async move {
            drop(module.run(Stop::new(), Ready::detached("uplink")).await);
        });
        self._crew.spawn(node.clone().serve(inbound));
        self._crew.spawn(node.clone().live());
        if is_steady {
            self._crew.spawn(measure(node.uplink.clone(), self.pulses.clone()));
        }
        let link = node.uplink.link();
        self.nodes.push(node);
        link
    }

    /// Gives each node a pod with a ConfigMap and waits until all hold both, and nothing more comes.
    pub async fn furnish(&self) {
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        let maps: Api<ConfigMap> = Api::default_namespaced(self.client.clone());
        let created = self.nodes.iter().map(|node| {
            let (pods, maps, name) = (pods.clone(), maps.clone(), node.name.clone());
            async move {
                let map = json!({"metadata": {"name": name}, "data": {"k": "1"}});
                let map = serde_json::from_value(map).unwrap();
                maps.create(&PostParams::default(), &map).await.unwrap();
                let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": name,
                    "automountServiceAccountToken": false,
                    "containers": [{"name": "c", "image": "i", "envFrom": [{"configMapRef": {"name": name}}]}]}});
                let pod = serde_json::from_value(pod).unwrap();
                pods.create(&PostParams::default(), &pod).await.unwrap();
            }
        });
        futures_util::stream::iter(created).buffer_unordered(CREATE_AT_ONCE).collect::<Vec<()>>().await;
        let kinds = [Kind::Node, Kind::Pod, Kind::ConfigMap];
        loop {
            let complete = |node: &Arc<Node>| {
                let state = node.state();
                kinds.iter().all(|kind| state.objects.keys().any(|key| key.kind == *kind))
            };
            let before = self.told().len();
            tokio::time::sleep(Duration::from_secs(2)).await;
            if self.nodes.iter().all(complete) && self.told().len() == before {
                return;
            }
        }
    }

    /// Cuts the lines of all nodes behind the relay and waits until each of them has noticed.
    pub async fn cut(&self) {
        self.relay.cut();
        let noticed = async {
            for node in self.nodes.iter().filter(|node| !node.is_steady) {
                drop(node.uplink.link().wait_for(|link| *link != Link::Up).await);
            }
        };
        let waited = tokio::time::timeout(CUT, noticed).await;
        assert!(waited.is_ok(), "a node does not notice that its line is cut");
    }

    /// Forgets what was told so far; from here on nodes count as in sync after their next comparison.
    pub fn mark(&self) {
        self.synced.send_replace(0);
        for node in &self.nodes {
            let mut state = node.state();
            (state.told, state.wanted, state.synced) = (Vec::new(), None, None);
        }
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Everything told since the mark.
    pub fn told(&self) -> Vec<String> {
        let of = |node: &Arc<Node>| -> Vec<String> {
            node.state().told.iter().map(|told| format!("{} {told}", node.name)).collect()
        };
        self.nodes.iter().flat_map(of).collect()
    }

    /// Waits until so many nodes are in sync after the mark; times count from `since`.
    pub async fn recovered(&self, count: usize, since: Instant, limit: Duration) -> Recovery {
        let mut synced = self.synced.subscribe();
        let waited = tokio::time::timeout(limit, synced.wait_for(|synced| *synced >= count)).await;
        let have = *self.synced.borrow();
        assert!(waited.is_ok(), "{have} of {count} nodes are in sync after {limit:?}");
        let times = self.nodes.iter().filter_map(|node| node.state().synced);
        let mut times: Vec<f64> = times.map(|at| at.saturating_duration_since(since).as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        let at = |place: usize| times.get(place).copied().unwrap_or(f64::NAN);
        Recovery { first: at(0), half: at(times.len() / 2), all: at(times.len() - 1), told: self.told() }
    }

    /// Changes the ConfigMaps of the first `count` nodes.
    pub async fn change(&self, count: usize, value: &str) {
        let maps: Api<ConfigMap> = Api::default_namespaced(self.client.clone());
        for node in self.nodes.iter().take(count) {
            let patch = Patch::Merge(json!({"data": {"k": value}}));
            maps.patch(&node.name, &PatchParams::default(), &patch).await.unwrap();
        }
    }

    /// Milliseconds to the cloud and back that the steady nodes measured since the mark.
    pub fn pulses(&self) -> Vec<f64> {
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a ping")]
async fn measure(uplink: Uplink, pulses: Arc<Mutex<Vec<f64>>>) {
    let mut info = uplink.info();
    while info.changed().await.is_ok() {
        let Some(micros) = info.borrow_and_update().round_trip else { continue };
        pulses.lock().unwrap_or_else(PoisonError::into_inner).push(micros as f64 / 1000.0);
    }
}
