//! The node's conversation with the cloud: register, status, lease. One loop, woken by the link, the clock and answers.
//! Every step asks with a limit, and a failed one is tried again soon; nothing here keeps pods from running.

use super::conditions::RuntimeState;
use super::object::{self, Profile};
use super::{LEASE_NAMESPACE, NodeStatus, RuntimePhase};
use crate::base::{Backoff, Failure, Ready, Stop, now};
use crate::cri::Runtime;
use crate::daemon::edge::meta::Meta;
use crate::daemon::edge::uplink::{AskError, Link, Uplink};
use crate::host::facts::Measured;
use crate::model::{Kind, ObjectKey, Status};
use crate::store::Store;
use crate::wire::{Answer, LeaseVerb, Up};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often a runtime that is not ready is asked again.
const RUNTIME_RETRY: Duration = Duration::from_millis(500);

pub(super) struct Room {
    pub profile: Profile,
    pub register: bool,
    pub disk: PathBuf,
    pub runtime: Option<Runtime>,
    pub status_update: Duration,
    pub status_report: Duration,
    pub lease_duration: Duration,
    pub question_limit: Duration,
    pub store: Store,
    pub meta: Meta,
    pub uplink: Uplink,
    pub state: watch::Sender<NodeStatus>,
}

/// What is known while the module runs; all of it can be found again.
struct Progress {
    registered: bool,
    runtime: RuntimePhase,
    /// The status as measured last.
    status: Value,
    /// The status that the cloud has confirmed, and when.
    reported: Option<(Value, Instant)>,
    lease: Option<Value>,
    measure_at: Instant,
    lease_at: Instant,
    /// When to try again after a failed step.
    retry_at: Option<Instant>,
    backoff: Backoff,
}

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("{0}")]
    Unanswered(#[from] AskError),
    #[error("the cloud refused: {0}")]
    Refused(Status),
    #[error("the cloud's answer cannot be understood")]
    Strange,
    #[error("{0}")]
    Store(#[from] Failure),
}

impl Room {
    pub(super) async fn run(&mut self, stop: Stop, ready: Ready) -> Result<(), Failure> {
        let start = Instant::now();
        let mut link = self.uplink.link();
        let mut progress = Progress {
            registered: false,
            runtime: RuntimePhase::Unknown,
            status: Value::Null,
            reported: None,
            lease: None,
            measure_at: start,
            lease_at: start,
            retry_at: None,
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(7)),
        };
        let runtime_version = self.measure(&mut progress, String::new()).await;
        let mut runtime_version = runtime_version;
        ready.set();
        while !stop.is_raised() {
            let online = *link.borrow_and_update() == Link::Up;
            if online && progress.due() {
                let step = stop.or(self.advance(&mut progress)).await;
                self.note(&mut progress, step);
            }
            self.tell(&progress);
            let wake = if online { progress.wake() } else { progress.measure_at };
            tokio::select! {
                () = stop.raised() => break,
                changed = link.changed() => {
                    if changed.is_err() {
                        // The uplink is gone, so the daemon is ending.
                        stop.raised().await;
                    }
                    progress.relink();
                }
                () = tokio::time::sleep_until(wake) => {}
            }
            if Instant::now() >= progress.measure_at {
                runtime_version = self.measure(&mut progress, runtime_version).await;
            }
        }
        Ok(())
    }

    /// Measures the machine and asks the runtime; returns the runtime's version once it is known.
    async fn measure(&self, progress: &mut Progress, known_version: String) -> String {
        let (runtime, version) = self.runtime_state(known_version).await;
        let disk = self.disk.clone();
        let measured = tokio::task::spawn_blocking(move || Measured::read(&disk)).await.unwrap_or_default();
        let before = progress.status.get("conditions").and_then(Value::as_array).cloned();
        let before = match before {
            Some(conditions) => conditions,
            None => self.stored_conditions().await,
        };
        progress.status = object::status(&self.profile, &measured, &runtime, &version, &before, now());
        progress.runtime = phase(&runtime);
        let again = if matches!(runtime, RuntimeState::NotReady(_) | RuntimeState::NoNetwork(_)) {
            RUNTIME_RETRY.min(self.status_update)
        } else {
            self.status_update
        };
        progress.measure_at = Instant::now() + again;
        version
    }

    async fn stored_conditions(&self) -> Vec<Value> {
        let node = self.store.object(&self.key()).await.ok().flatten();
        let conditions = node.as_ref().and_then(|node| node.pointer("/status/conditions")?.as_array());
        conditions.cloned().unwrap_or_default()
    }

    async fn runtime_state(&self, mut version: String) -> (RuntimeState, String) {
        let Some(runtime) = &self.runtime else { return (RuntimeState::Off, version) };
        if version.is_empty()
            && let Ok(answer) = runtime.version().await
        {
            version = format!("{}://{}", answer.runtime_name, answer.runtime_version.trim_start_matches('v'));
        }
        let state = match runtime.status(false).await {
            Ok(answer) => {
                let conditions = answer.status.unwrap_or_default().conditions;
                let broken = conditions.into_iter().find(|condition| !condition.status);
                broken.map_or(RuntimeState::Ready, |condition| {
                    let network = condition.kind == "NetworkReady";
                    let what = match network {
                        true => "container runtime network not ready",
                        false => "container runtime not ready",
                    };
                    let (kind, reason) = (condition.kind, condition.reason);
                    let why = format!("{what}: {kind}=false reason:{reason} message:{}", condition.message);
                    if network { RuntimeState::NoNetwork(why) } else { RuntimeState::NotReady(why) }
                })
            }
            Err(error) => RuntimeState::NotReady(format!("container runtime is down: {error}")),
        };
        (state, version)
    }

    /// Does the next step that is due: register, status, lease.
    async fn advance(&self, progress: &mut Progress) -> Result<(), StepError> {
        if !progress.registered {
            self.register(progress).await?;
            progress.registered = true;
        }
        let due = progress.status_due(self.status_report);
        let reported = if due { self.report(progress).await } else { Ok(()) };
        // Whoever waits for the node need not wait for its lease.
        self.tell(progress);
        // Nor does the lease wait for the status: the node lives also where that is refused, by an admission webhook say.
        // But a Node that was deleted is made anew first.
        if progress.registered && Instant::now() >= progress.lease_at {
            let renewed = self.renew(progress).await;
            if renewed.is_ok() {
                progress.lease_at = Instant::now() + self.lease_duration / 4;
            }
            return reported.and(renewed);
        }
        reported
    }

    /// A stored Node with our labels was registered before; the status report finds out whether it still is.
    async fn register(&self, progress: &Progress) -> Result<(), StepError> {
        let stored = self.store.object(&self.key()).await?;
        if !self.register || stored.is_some_and(|node| self.is_marked(&node)) {
            return Ok(());
        }
        let node = object::node(&self.profile, &progress.status);
        let name = self.profile.name.clone();
        match self.ask(Up::NodeInsert { name: name.clone(), node: node.clone() }).await {
            Ok(answer) => {
                self.keep(&answer).await?;
                tracing::info!(node = name, "the node is registered");
                Ok(())
            }
            Err(StepError::Refused(status)) if status.already_exists() => self.adopt(node).await,
            Err(error) => Err(error),
        }
    }

    /// The Node exists in the cloud: takes it over and adds what it lacks of our labels.
    async fn adopt(&self, ours: Value) -> Result<(), StepError> {
        let found = self.ask(Up::Query { key: self.key() }).await?;
        if !self.is_marked(&found) {
            let update = Up::NodeUpdate { name: self.profile.name.clone(), node: ours };
            match self.uplink.ask(update, self.question_limit).await? {
                Answer::Failed(status) => return Err(StepError::Refused(status)),
                Answer::Ok | Answer::Object(_) | Answer::Text(_) => {}
            }
        }
        self.keep(&found).await?;
        tracing::info!(node = self.profile.name, "the node was registered already");
        Ok(())
    }

    fn is_marked(&self, node: &Value) -> bool {
        let labels = node.pointer("/metadata/labels");
        object::labels(&self.profile)
            .iter()
            .all(|(key, value)| labels.and_then(|l| l.get(key)).and_then(Value::as_str) == Some(value))
    }

    async fn report(&self, progress: &mut Progress) -> Result<(), StepError> {
        let status = progress.status.clone();
        let mut told = status.clone();
        if let Some(fields) = told.as_object_mut() {
            // Where its kubelet is reached is the cloud's to say once the node is registered (protocol.md §8.5).
            fields.remove("daemonEndpoints");
        }
        let patch = json!({"status": told}).to_string();
        match self.ask(Up::NodePatch { name: self.profile.name.clone(), patch }).await {
            Ok(node) => {
                self.keep(&node).await?;
                progress.reported = Some((status, Instant::now()));
                Ok(())
            }
            Err(StepError::Refused(status)) if status.is_not_found() => {
                // The Node was deleted; without the row it registers anew.
                self.store.delete_object(&self.key(), None).await?;
                progress.forget();
                Err(StepError::Refused(status))
            }
            Err(error) => Err(error),
        }
    }

    async fn renew(&self, progress: &mut Progress) -> Result<(), StepError> {
        let key = ObjectKey::namespaced(Kind::Lease, LEASE_NAMESPACE, &self.profile.name);
        let kept = match progress.lease.take() {
            Some(lease) => Some(lease),
            None => match self.ask(Up::Query { key: key.clone() }).await {
                Ok(lease) => Some(lease),
                Err(StepError::Refused(status)) if status.is_not_found() => None,
                Err(error) => return Err(error),
            },
        };
        let verb = if kept.is_some() { LeaseVerb::Update } else { LeaseVerb::Insert };
        let node = self.meta.node().await.ok();
        let uid = node.as_ref().and_then(|node| node.pointer("/metadata/uid")?.as_str());
        let seconds = self.lease_duration.as_secs();
        let lease = object::lease(kept.as_ref(), &self.profile.name, uid, seconds, now());
        let (namespace, name) = (LEASE_NAMESPACE.to_owned(), self.profile.name.clone());
        progress.lease = Some(self.ask(Up::Lease { verb, namespace, name, lease }).await?);
        Ok(())
    }

    async fn ask(&self, up: Up) -> Result<Value, StepError> {
        match self.uplink.ask(up, self.question_limit).await? {
            Answer::Object(object) => Ok(object),
            Answer::Failed(status) => Err(StepError::Refused(status)),
            Answer::Ok | Answer::Text(_) => Err(StepError::Strange),
        }
    }

    async fn keep(&self, node: &Value) -> Result<(), StepError> {
        let mut node = node.clone();
        if let Some(fields) = node.as_object_mut() {
            fields.insert("apiVersion".to_owned(), "v1".into());
            fields.insert("kind".to_owned(), "Node".into());
        }
        // The revision tells what a newer push of the Node is; a deleted one is found out by the next report.
        self.store.put_answer(&self.key(), node, || false).await?;
        Ok(())
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::cluster(Kind::Node, &self.profile.name)
    }

    fn note(&self, progress: &mut Progress, step: Option<Result<(), StepError>>) {
        match step {
            None => {}
            Some(Ok(())) => {
                progress.retry_at = None;
                progress.backoff.reset();
            }
            Some(Err(error)) => {
                let offline = matches!(error, StepError::Unanswered(AskError::Offline));
                if !offline && progress.retry_at.is_none() {
                    tracing::warn!(node = self.profile.name, %error, "the node could not report; it tries again");
                }
                progress.retry_at = Some(Instant::now() + progress.backoff.next_wait());
            }
        }
    }

    fn tell(&self, progress: &Progress) {
        let conditions = progress.status.get("conditions").and_then(Value::as_array);
        let condition =
            conditions.and_then(|all| all.iter().find(|c| c.get("type").is_some_and(|kind| kind == "Ready")));
        let text = |field: &str| condition.and_then(|c| c.get(field)).and_then(Value::as_str).unwrap_or("");
        let ready = text("status") == "True";
        let reason = if ready { String::new() } else { text("message").to_owned() };
        let (registered, runtime) = (progress.registered, progress.runtime);
        let confirmed = progress.reported.as_ref().is_some_and(|(status, _)| is_ready(status));
        let told = NodeStatus { registered, ready, reason, confirmed, runtime };
        self.state.send_if_modified(|state| {
            let changed = *state != told;
            *state = told;
            changed
        });
    }
}

fn phase(runtime: &RuntimeState) -> RuntimePhase {
    match runtime {
        RuntimeState::Ready => RuntimePhase::Ready,
        RuntimeState::Off => RuntimePhase::Off,
        RuntimeState::NotReady(_) => RuntimePhase::Down,
        RuntimeState::NoNetwork(_) => RuntimePhase::NoNetwork,
    }
}

fn is_ready(status: &Value) -> bool {
    let conditions = status.get("conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| {
        c.get("type").is_some_and(|kind| kind == "Ready") && c.get("status").is_some_and(|is| is == "True")
    })
}

impl Progress {
    /// A new session starts with everything due at once.
    fn relink(&mut self) {
        self.reported = None;
        self.lease = None;
        self.retry_at = None;
        self.lease_at = Instant::now();
        self.backoff.reset();
    }

    fn forget(&mut self) {
        self.registered = false;
        self.relink();
    }

    fn status_due(&self, report_every: Duration) -> bool {
        self.reported.as_ref().is_none_or(|(reported, at)| {
            at.elapsed() >= report_every || !object::same_but_for_heartbeats(reported, &self.status)
        })
    }

    fn due(&self) -> bool {
        self.retry_at.is_none_or(|at| Instant::now() >= at)
    }

    fn wake(&self) -> Instant {
        match self.retry_at {
            Some(at) => at.min(self.measure_at),
            None => self.measure_at.min(self.lease_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Module;
    use crate::daemon::edge::node;
    use crate::daemon::edge::uplink::Outgoing;
    use std::collections::BTreeMap;
    use tokio::sync::mpsc;

    fn config() -> node::Config {
        node::Config {
            name: "edge-1".into(),
            internal_ip: [10, 0, 0, 7].into(),
            kubelet_port: 10350,
            max_pods: 110,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            schedulable: true,
            register: true,
            disk: "/".into(),
            eviction_hard: BTreeMap::new(),
            status_update: Duration::from_secs(10),
            status_report: Duration::from_secs(300),
            lease_duration: Duration::from_secs(40),
            question_limit: Duration::from_secs(5),
            runtime: None,
        }
    }

    async fn asked(from: &mut mpsc::Receiver<Outgoing>) -> (Up, tokio::sync::oneshot::Sender<Answer>) {
        let outgoing = tokio::time::timeout(Duration::from_secs(60), from.recv()).await.unwrap().unwrap();
        match outgoing {
            Outgoing::Ask { up, answer } => (up, answer),
            Outgoing::Report { .. } => panic!("a report was not expected"),
        }
    }

    #[tokio::test]
    async fn a_status_that_is_refused_does_not_stop_the_lease() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("edgecore.db")).unwrap();
        let (uplink, mut served, link) = Uplink::channel(8);
        let meta = Meta::new(store.clone(), uplink.clone(), "edge-1", Duration::from_secs(5));
        let (handle, mut module) = node::new(config(), store, meta, uplink);
        let stop = Stop::new();
        let refuses = || Answer::Failed(Status::failure(422, "Invalid", "not this status"));
        let cloud = async {
            link.send_replace(Link::Up);
            let (up, answer) = asked(&mut served).await;
            let Up::NodeInsert { node, .. } = up else { panic!("{up:?}") };
            answer.send(Answer::Object(node)).unwrap();
            let (up, answer) = asked(&mut served).await;
            assert!(matches!(up, Up::NodePatch { .. }), "{up:?}");
            answer.send(refuses()).unwrap();
            let (up, answer) = asked(&mut served).await;
            assert!(matches!(up, Up::Query { ref key } if key.kind == Kind::Lease), "{up:?}");
            answer.send(Answer::Failed(Status::not_found("leases", "edge-1"))).unwrap();
            let (up, answer) = asked(&mut served).await;
            let Up::Lease { verb: LeaseVerb::Insert, lease, .. } = up else { panic!("{up:?}") };
            answer.send(Answer::Object(lease)).unwrap();
            // The lease holds for a while; the status is tried again before.
            let (up, _answer) = asked(&mut served).await;
            assert!(matches!(up, Up::NodePatch { .. }), "{up:?}");
            stop.raise();
        };
        let (ended, ()) = tokio::join!(module.run(stop.clone(), Ready::detached("node")), cloud);
        assert_eq!(ended, Ok(()));
        let told = handle.borrow().clone();
        assert!(told.registered && !told.confirmed, "{told:?}");
    }

    #[tokio::test]
    async fn registers_reports_and_renews_and_does_it_again_after_a_deletion() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("edgecore.db")).unwrap();
        let (uplink, mut served, link) = Uplink::channel(8);
        let meta = Meta::new(store.clone(), uplink.clone(), "edge-1", Duration::from_secs(5));
        let (mut handle, mut module) = node::new(config(), store.clone(), meta, uplink);
        let stop = Stop::new();
        let cloud = async {
            link.send_replace(Link::Up);
            let (up, answer) = asked(&mut served).await;
            let Up::NodeInsert { mut node, .. } = up else { panic!("{up:?}") };
            node["metadata"]["uid"] = json!("u1");
            answer.send(Answer::Object(node.clone())).unwrap();
            let (up, answer) = asked(&mut served).await;
            let Up::NodePatch { patch, .. } = up else { panic!("{up:?}") };
            let patch: Value = serde_json::from_str(&patch).unwrap();
            assert_eq!(patch["status"]["conditions"][3]["status"], "True");
            answer.send(Answer::Object(node.clone())).unwrap();
            let (up, answer) = asked(&mut served).await;
            assert!(matches!(up, Up::Query { ref key } if key.kind == Kind::Lease), "{up:?}");
            answer.send(Answer::Failed(Status::not_found("leases", "edge-1"))).unwrap();
            let (up, answer) = asked(&mut served).await;
            let Up::Lease { verb: LeaseVerb::Insert, lease, .. } = up else { panic!("{up:?}") };
            assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], "u1");
            answer.send(Answer::Object(lease)).unwrap();
            assert!(handle.wait_for(|status| status.registered && status.ready).await.is_ok());
            // The link breaks and returns; meanwhile somebody has deleted the Node.
            link.send_replace(Link::Down);
            tokio::task::yield_now().await;
            link.send_replace(Link::Up);
            let (up, answer) = asked(&mut served).await;
            assert!(matches!(up, Up::NodePatch { .. }), "{up:?}");
            answer.send(Answer::Failed(Status::not_found("nodes", "edge-1"))).unwrap();
            let (up, _answer) = asked(&mut served).await;
            assert!(matches!(up, Up::NodeInsert { .. }), "{up:?}");
            stop.raise();
        };
        let (ended, ()) = tokio::join!(module.run(stop.clone(), Ready::detached("node")), cloud);
        assert_eq!(ended, Ok(()));
    }
}
