//! edgecore as its wire shows it (protocol.md §3 – §5 and the recorded traffic): enrols, keeps its one connection, stores,
//! acknowledges, registers its Node, runs pods on paper, reports twins. Nothing here uses `kedge::wire`, so that a mistake
//! there cannot hide behind itself. What would crash a genuine edgecore is kept as `crash` and fails the test.

mod edged;
pub mod enrol;
mod hub;
mod meta;
mod node;
mod task;
mod twin;

pub use enrol::{Join, join};
pub use task::Tasks;

use super::eventually;
use super::letter::{brief, go_text, id, message, parent, text};
use super::world::World;
use kedge::base::Crew;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// The releases whose wire differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1_21,
    V1_22,
    V1_23,
}

impl Version {
    pub const ALL: [Version; 3] = [Version::V1_21, Version::V1_22, Version::V1_23];

    /// The namespace in paths of nodes.
    pub fn node_namespace(self) -> &'static str {
        if self == Version::V1_23 { "null" } else { "default" }
    }

    /// Whether a Node is read from the node's own database only.
    pub fn reads_node_locally(self) -> bool {
        self == Version::V1_23
    }

    fn kubelet(self) -> &'static str {
        match self {
            Version::V1_21 => "v1.30.7-kubeedge-v1.21.1",
            Version::V1_22 => "v1.31.12-kubeedge-v1.22.1",
            Version::V1_23 => "v1.32.10-kubeedge-v1.23.1",
        }
    }
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub heartbeat: Duration,
    /// Between the end of a connection and the next try.
    pub reconnect: Duration,
    /// Between two dials of one try.
    pub dial: Duration,
    /// After so long without twin traffic what is unconfirmed is sent again.
    pub twin: Duration,
    pub lease: Duration,
    pub status: Duration,
    /// How long an answer is waited for.
    pub question: Duration,
    /// Between two tries to start a pod.
    pub retry: Duration,
}

impl Times {
    /// KubeEdge's own times, so many times faster; answers are waited for as long as ever.
    pub fn faster(by: u32) -> Times {
        let of = |seconds: u64| Duration::from_secs(seconds) / by;
        Times {
            heartbeat: of(15),
            reconnect: of(30),
            dial: of(5),
            twin: of(60),
            lease: of(10),
            status: of(10),
            question: Duration::from_secs(60),
            retry: of(2),
        }
    }
}

/// What an edgecore is and remembers.
#[derive(Default)]
pub struct State {
    /// The table `meta`.
    pub db: BTreeMap<String, Value>,
    /// Every message of the cloud, in order.
    pub heard: Vec<Value>,
    /// Every message to the cloud, in order.
    pub said: Vec<Value>,
    pub connections: u32,
    pub connected: bool,
    pub registered: bool,
    /// Devices that the cloud has given this node.
    pub members: Vec<String>,
    /// Messages that the full FIFO has lost.
    pub dropped: u32,
    /// What a genuine edgecore would have panicked of.
    pub crash: Option<String>,
    /// The database refuses to write.
    pub broken: bool,
    /// Messages are received but not handled.
    pub stalled: bool,
    /// Subscriptions, calls, publications and tasks that the cloud has sent.
    pub orders: Vec<Value>,
    /// How tasks go.
    pub tasks: Tasks,
    /// The release that an upgrade has left here.
    pub runs: Option<String>,
    /// What is told when the connection is back.
    aftermath: Vec<task::Aftermath>,
    waiters: HashMap<String, oneshot::Sender<Value>>,
    unconfirmed: Vec<Value>,
    line: Option<mpsc::Sender<String>>,
    versions: HashMap<(String, String), u64>,
}

impl State {
    /// The messages from the cloud about a path that are not answers.
    pub fn pushes(&self, resource: &str) -> Vec<&Value> {
        let about = |message: &&Value| text(message, "/route/resource") == resource;
        self.heard.iter().filter(about).filter(|message| parent(message).is_empty()).collect()
    }
}

pub(super) struct Core {
    pub name: String,
    pub version: Version,
    pub times: Times,
    pub hub: u16,
    pub cert: u16,
    state: Mutex<State>,
    /// Moves with everything that a pod or a node may wait for.
    change: watch::Sender<u64>,
    twin_traffic: Notify,
    /// How often the plug was pulled; a session that is busy meanwhile finds it afterwards.
    pulled: watch::Sender<u32>,
}

impl Core {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.change.send_modify(|count| *count += 1);
    }

    fn crash(&self, why: impl Into<String>) {
        self.state().crash.get_or_insert(why.into());
    }

    /// Sends a message on the connection there is.
    pub(super) fn send(&self, message: Value) -> Result<(), String> {
        let mut state = self.state();
        let line = state.line.clone().ok_or_else(|| "not connected".to_owned())?;
        line.try_send(go_text(&message)).map_err(|_| "not connected".to_owned())?;
        state.said.push(message);
        Ok(())
    }

    /// Sends a message and waits for what has it as its parent.
    async fn ask(&self, message: Value) -> Result<Value, String> {
        let (waiter, answer) = oneshot::channel();
        self.state().waiters.insert(id(&message).to_owned(), waiter);
        self.send(message)?;
        match tokio::time::timeout(self.times.question, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err("no answer in time".to_owned()),
        }
    }
}

/// A running edgecore; it ends when dropped.
pub struct Edgecore {
    core: Arc<Core>,
    join: Join,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Edgecore {
    /// Gets a certificate from the world's cloud with its token and starts; times are twenty times KubeEdge's.
    pub fn start(world: &World, name: &str, version: Version) -> Edgecore {
        let token = world.kedge(&["gettoken"]);
        token.assert_status(0);
        let join = join(world.ports.cert, name, token.stdout.trim()).unwrap();
        let ports = (world.ports.hub, world.ports.cert);
        Edgecore::resume(join, ports, version, Times::faster(20), State::default())
    }

    /// Starts with a certificate and an empty database.
    pub fn with(join: Join, hub: u16, version: Version, times: Times) -> Edgecore {
        Edgecore::resume(join, (hub, 0), version, times, State::default())
    }

    fn resume(join: Join, (hub, cert): (u16, u16), version: Version, times: Times, state: State) -> Edgecore {
        let core = Arc::new(Core {
            name: join.node.clone(),
            version,
            times,
            hub,
            cert,
            state: Mutex::new(state),
            change: watch::Sender::new(0),
            twin_traffic: Notify::new(),
            pulled: watch::Sender::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let (running, disk) = (core.clone(), join.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(running, disk, stopped));
        });
        Edgecore { core, join, stop: Some(stop), thread: Some(thread) }
    }

    /// Ends the process and starts another release on the same disk.
    pub fn restart_as(mut self, version: Version) -> Edgecore {
        self.end();
        let db = std::mem::take(&mut self.core.state().db);
        let state = State { db, ..State::default() };
        Edgecore::resume(self.join.clone(), (self.core.hub, self.core.cert), version, self.core.times, state)
    }

    /// Ends the process and starts it again with a certificate that the old one has got it.
    pub fn renew(mut self, cert_port: u16) -> Result<Edgecore, String> {
        self.join = self.join.renew(cert_port)?;
        let version = self.core.version;
        Ok(self.restart_as(version))
    }

    /// Carries out an order that it had left undone.
    pub fn carry_out(&self, order: &Value) {
        self.core.state().orders.pop();
        task::take(&self.core, order);
    }

    /// Loses the connection without a word.
    pub fn unplug(&self) {
        self.core.pulled.send_modify(|count| *count += 1);
    }

    /// Reads and changes what it knows.
    pub fn with_state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let found = look(&mut self.core.state());
        self.core.changed();
        found
    }

    /// Waits until the look finds something; a crash fails at once.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&State) -> Option<T>) -> T {
        eventually(what, Duration::from_secs(30), || {
            let state = self.core.state();
            assert_eq!(state.crash, None, "edgecore panics");
            let last = || state.heard.iter().rev().take(12).map(brief).collect::<VecDeque<_>>();
            look(&state)
                .ok_or_else(|| format!("connections {}, heard at last {:#?}", state.connections, last()))
        })
    }

    /// Asks and gives the whole answer.
    #[track_caller]
    pub fn ask(&self, route: [&str; 4], content: Value) -> Value {
        let question = message(route, content);
        let asked = id(&question).to_owned();
        self.core.send(question).unwrap();
        self.wait(route[3], |state| state.heard.iter().find(|message| parent(message) == asked).cloned())
    }

    /// A device reports a value over MQTT.
    pub fn report(&self, device: &str, property: &str, value: &str) {
        twin::report(&self.core, device, property, value);
    }

    /// A device reports its state over MQTT.
    pub fn report_state(&self, device: &str, state: &str) {
        twin::report_state(&self.core, device, state);
    }

    /// What the twin module has not seen confirmed.
    pub fn unconfirmed(&self) -> usize {
        self.core.state().unconfirmed.len()
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Edgecore {
    fn drop(&mut self) {
        self.end();
        if !std::thread::panicking() {
            assert_eq!(self.core.state().crash, None, "edgecore panics");
        }
    }
}

async fn run(core: Arc<Core>, join: Join, stopped: oneshot::Receiver<()>) {
    let mut crew = Crew::new();
    crew.spawn(hub::run(core.clone(), join));
    crew.spawn(node::registration(core.clone()));
    crew.spawn(node::lease(core.clone()));
    crew.spawn(edged::run(core.clone()));
    crew.spawn(twin::run(core));
    drop(stopped.await);
}
