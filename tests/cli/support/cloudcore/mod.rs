//! cloudcore 1.23.1 as its wire shows it (protocol.md §2 – §4 and the recorded traffic), with a few objects in memory where
//! the Kubernetes API would be. Nothing here uses `kedge::wire`. One node, the serial sender, upstream's wrong answers.

mod api;
mod certs;
mod devices;
mod hub;
mod sender;
mod upstream;

use super::eventually;
use super::letter::brief;
use super::world::World;
use kedge::base::Crew;
use kedge::pki::{Authority, install_crypto_provider};
use ring::digest::{SHA256, digest};
use ring::hmac;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Until a message without acknowledgement is sent again.
    pub resend: Duration,
    /// Between two comparisons of what the node has with what there is.
    pub sync: Duration,
    /// A node that is silent for so long is put out.
    pub keepalive: Duration,
}

impl Times {
    /// KubeEdge's own times, so many times faster; a node's keepalives come in its own time.
    pub fn faster(by: u32) -> Times {
        let five = Duration::from_secs(5) / by;
        Times { resend: five, sync: five, keepalive: Duration::from_secs(30) }
    }
}

/// Kind as in paths, namespace (`null` for cluster-scoped ones), name.
pub type Key = (String, String, String);

/// What a cloudcore is and remembers.
#[derive(Default)]
pub struct State {
    /// The objects of the API.
    pub objects: BTreeMap<Key, Value>,
    /// Every message of the node, in order.
    pub heard: Vec<Value>,
    /// Every message to the node, in order, resends too.
    pub said: Vec<Value>,
    pub connections: u32,
    pub connected: bool,
    /// Answers to these paths have this content instead of the right one.
    pub wrong: HashMap<String, Value>,
    /// Acknowledgements are not heard.
    pub deaf: bool,
    /// What the node has acknowledged: ObjectSync by uid.
    pub synced: BTreeMap<String, Record>,
    /// Reported values of `device/property`.
    pub twins: BTreeMap<String, String>,
    /// States of devices.
    pub states: BTreeMap<String, String>,
    /// User messages of the node: topic and payload.
    pub uploads: Vec<(String, Value)>,
    pub events: Vec<Value>,
    /// Messages that have ended a session because they were not JSON.
    pub malformed: u32,
    revision: u64,
    queue: VecDeque<Value>,
    acknowledged: HashMap<String, oneshot::Sender<()>>,
    line: Option<mpsc::Sender<Value>>,
    first_report_lost: BTreeMap<String, ()>,
}

/// An ObjectSync or ClusterObjectSync.
#[derive(Clone, Debug)]
pub struct Record {
    pub key: Key,
    pub version: u64,
}

impl State {
    /// The messages to the node about a path.
    pub fn sent(&self, resource: &str) -> Vec<&Value> {
        self.said.iter().filter(|message| message["route"]["resource"] == resource).collect()
    }
}

struct Core {
    node: String,
    times: Times,
    authority: Authority,
    state: Mutex<State>,
    queued: Notify,
    /// How often the plug was pulled; a session that is busy meanwhile finds it afterwards.
    pulled: watch::Sender<u32>,
}

impl Core {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends without an acknowledgement; without a session it is lost.
    fn send(&self, message: Value) {
        let mut state = self.state();
        if let Some(line) = state.line.clone()
            && line.try_send(message.clone()).is_ok()
        {
            state.said.push(message);
        }
    }
}

/// A running cloudcore for the world's node; it ends when dropped.
pub struct Cloudcore {
    core: Arc<Core>,
    ports: (u16, u16),
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Cloudcore {
    /// Serves on the world's hub and certificate ports, ten times faster than KubeEdge.
    pub fn start(world: &World) -> Cloudcore {
        install_crypto_provider();
        let core = Arc::new(Core {
            node: "edge-1".to_owned(),
            times: Times::faster(10),
            authority: Authority::generate("KubeEdge").unwrap(),
            state: Mutex::new(State { revision: 1000, ..State::default() }),
            queued: Notify::new(),
            pulled: watch::Sender::new(0),
        });
        let mut cloud =
            Cloudcore { core, ports: (world.ports.hub, world.ports.cert), stop: None, thread: None };
        cloud.run();
        cloud
    }

    fn run(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let (core, ports) = (self.core.clone(), self.ports);
        let (bound, is_bound) = std::sync::mpsc::channel();
        self.stop = Some(stop);
        self.thread = Some(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut crew = Crew::new();
                crew.spawn(certs::run(core.clone(), certs::bind(ports.1)));
                crew.spawn(hub::run(core.clone(), certs::bind(ports.0)));
                crew.spawn(sender::run(core.clone()));
                crew.spawn(sender::compare(core));
                bound.send(()).unwrap();
                drop(stopped.await);
            });
        }));
        is_bound.recv().unwrap();
    }

    /// The process ends and another takes its place: what waited is lost, what the API has stays.
    /// Meanwhile the API may change.
    pub fn restart(&mut self, pause: Duration, meanwhile: impl FnOnce(&mut State)) {
        self.end();
        {
            let mut state = self.core.state();
            state.queue.clear();
            state.line = None;
            state.connected = false;
            state.acknowledged.clear();
            meanwhile(&mut state);
        }
        std::thread::sleep(pause);
        self.run();
    }

    /// The cluster's join token (protocol.md §2.1).
    pub fn token(&self) -> String {
        use base64::Engine;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
        let authority = &self.core.authority;
        let hash = digest(&SHA256, authority.cert_der());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let expires = kedge::base::now_ms() / 1000 + 86_400;
        let head = BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let signed = format!("{head}.{}", BASE64.encode(json!({"exp": expires}).to_string()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, authority.key_der());
        format!("{hash}.{signed}.{}", BASE64.encode(hmac::sign(&key, signed.as_bytes())))
    }

    /// Creates or replaces an object as a client of the API does.
    pub fn apply(&self, object: Value) {
        api::apply(&self.core, object);
    }

    /// Deletes an object: a pod gets its deletionTimestamp, anything else goes.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) {
        api::delete(&self.core, &(kind.to_owned(), namespace.to_owned(), name.to_owned()));
    }

    /// Sends a message as it is, without waiting for anything.
    pub fn say(&self, message: Value) {
        self.core.send(message);
    }

    /// Sends a message that must be acknowledged.
    pub fn push(&self, message: Value) {
        sender::offer(&self.core, message);
    }

    /// Ends the connection without a word.
    pub fn unplug(&self) {
        self.core.pulled.send_modify(|count| *count += 1);
    }

    /// Reads and changes what it knows.
    pub fn with_state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.core.state())
    }

    /// Waits until the look finds something.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&State) -> Option<T>) -> T {
        eventually(what, Duration::from_secs(40), || {
            let state = self.core.state();
            let last = || state.heard.iter().rev().take(12).map(brief).collect::<Vec<_>>();
            look(&state)
                .ok_or_else(|| format!("connections {}, heard at last {:#?}", state.connections, last()))
        })
    }

    /// Waits until an object is like this.
    #[track_caller]
    pub fn wait_object(&self, key: [&str; 3], pointer: &str, expected: &Value) {
        let [kind, namespace, name] = key.map(str::to_owned);
        let key = (kind, namespace, name);
        self.wait(&format!("{key:?} {pointer} = {expected}"), |state| {
            (state.objects.get(&key)?.pointer(pointer)? == expected).then_some(())
        });
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Cloudcore {
    fn drop(&mut self) {
        self.end();
    }
}
