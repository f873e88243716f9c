//! The three parts of `kedge up`, each with its own stop so that they end in reverse order: the edge, the cloud, the API.
//! The API and its controllers share the process with the cloud but not a way in: the cloud goes over HTTPS.

use super::{Args, demo};
use crate::base::{Crew, Failure, Stop, SupervisorHandle, Term, now, rfc3339_micro};
use crate::config::cloud::CloudConfig;
use crate::config::edge::{EdgeConfig, UpEdge};
use crate::daemon::apiserver::local::{Change, Collection, Local};
use crate::daemon::{cloud, edge};
use crate::model::{NodeName, Revision};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Ready takes seconds; a machine that needs longer than this has a problem that the log names.
const READY_LIMIT: Duration = Duration::from_secs(120);
const NODES: Collection = Collection::of("", "nodes");
const LEASES: Collection = Collection::of("coordination.k8s.io", "leases");

/// What runs, in start order.
pub(super) struct Parts {
    stop: Stop,
    /// How long each milestone may take.
    limit: Duration,
    running: Vec<(Stop, Crew)>,
    failed: mpsc::Sender<Failure>,
    failures: mpsc::Receiver<Failure>,
}

/// A part that tells when its modules serve.
type Observer = watch::Sender<Option<SupervisorHandle>>;

impl Parts {
    pub(super) fn new(stop: Stop) -> Self {
        let (failed, failures) = mpsc::channel(4);
        Parts { stop, limit: READY_LIMIT, running: Vec::new(), failed, failures }
    }

    /// Starts everything and waits until the node is Ready; `None` when it was interrupted before.
    pub(super) async fn start(
        &mut self,
        args: &Args,
        dir: &Path,
        node: &NodeName,
        term: &Term,
    ) -> Result<Option<()>, Failure> {
        let started = rfc3339_micro(now());
        let mut steps = term.steps(if args.demo { 6 } else { 5 });
        let ports = args.cloud.ports();
        let config = CloudConfig::for_data_dir(dir, ports)?;

        steps.begin("Kubernetes API");
        let api = super::super::embedded::open(&config).await?;
        let local = api.local();
        let address = api.address();
        self.run(move |stop, observer| api.run(stop, observer));
        steps.reached(&format!("Kubernetes API on https://{address}"));

        steps.begin("cloud");
        let observed = self.run(move |stop, observer| cloud::run(config, stop, observer));
        if self.or_failure(all_ready(observed)).await?.is_none() {
            return Ok(None);
        }
        steps.reached(&format!("cloud on 127.0.0.1:{}", ports.websocket));

        steps.begin("edge node");
        let edge_config = edge_config(args, dir, node, &local).await?;
        let Some(opened) = self.or_failure(edge::Edge::open(edge_config)).await? else { return Ok(None) };
        let edge = opened?;
        let runtime = edge.runtime().map_or_else(|| "no container runtime yet".to_owned(), of_runtime);
        // Without a configuration file nothing asks it to begin anew.
        self.run(move |stop, _observer| async move { edge.run(stop).await.map(|_ended| ()) });
        steps.reached(&format!("edge node with {runtime}, MQTT on 127.0.0.1:{}", args.mqtt_port));

        steps.begin("registration");
        // A Ready of an earlier run says nothing; the lease that the node renews in this one does.
        let renewed = |lease: &Value| {
            let at = lease.pointer("/spec/renewTime").and_then(Value::as_str);
            at.is_some_and(|at| at > started.as_str())
        };
        if self.or_failure(object_is(&local, &LEASES, node.as_str(), renewed)).await?.is_none() {
            return Ok(None);
        }
        steps.reached(&format!("node {node} is registered"));

        steps.begin("node conditions");
        if self.or_failure(object_is(&local, &NODES, node.as_str(), is_ready)).await?.is_none() {
            return Ok(None);
        }
        steps.reached(&format!("node {node} is Ready"));

        if args.demo {
            steps.begin("demo");
            demo::apply(&local, node).await?;
            let mut crew = Crew::new();
            let stop = Stop::new();
            crew.spawn(demo::thermometer(args.mqtt_port, stop.clone(), term.clone()));
            self.running.push((stop, crew));
            steps.reached("demo Deployment and simulated thermometer");
        }
        Ok(Some(()))
    }

    /// Starts a part.
    fn run<F>(&mut self, part: impl FnOnce(Stop, Observer) -> F) -> watch::Receiver<Option<SupervisorHandle>>
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let stop = Stop::new();
        let (observer, observed) = watch::channel(None);
        let work = part(stop.clone(), observer);
        let failed = self.failed.clone();
        let mut crew = Crew::new();
        crew.spawn(async move {
            if let Err(failure) = work.await {
                // A second failure while the first is being told adds nothing.
                drop(failed.try_send(failure));
            }
        });
        self.running.push((stop, crew));
        observed
    }

    /// Waits for something unless a part fails, the person interrupts, or it takes too long.
    async fn or_failure<T>(&mut self, wanted: impl Future<Output = T>) -> Result<Option<T>, Failure> {
        tokio::select! {
            biased;
            failure = self.failures.recv() => failure.map_or(Ok(None), Err),
            () = self.stop.raised() => Ok(None),
            got = wanted => Ok(Some(got)),
            () = tokio::time::sleep(self.limit) => Err(
                Failure::new("KE-UP-004", "not ready in time")
                    .because(format!("the milestone that is pending took more than {} s", self.limit.as_secs()))
                    .fix("look at `kedge status` in another terminal, and run with KEDGE_LOG=info")
                    .exit(crate::base::Exit::TimedOut)
            ),
        }
    }

    /// Waits until a part fails or the person interrupts.
    pub(super) async fn first_failure(&mut self) -> Result<(), Failure> {
        tokio::select! {
            failure = self.failures.recv() => failure.map_or(Ok(()), Err),
            () = self.stop.raised() => Ok(()),
        }
    }

    /// Ends all parts, the last started first.
    pub(super) async fn finish(&mut self) {
        while let Some((stop, mut crew)) = self.running.pop() {
            stop.raise();
            crew.finish().await;
        }
    }
}

async fn handle(mut observed: watch::Receiver<Option<SupervisorHandle>>) -> Option<SupervisorHandle> {
    let Ok(found) = observed.wait_for(Option::is_some).await else {
        // The part has ended; its failure is told by the part itself.
        return std::future::pending().await;
    };
    found.clone()
}

async fn all_ready(observed: watch::Receiver<Option<SupervisorHandle>>) {
    if let Some(mut handle) = handle(observed).await
        && !handle.all_ready().await
    {
        std::future::pending::<()>().await;
    }
}

fn of_runtime(found: &edge::FoundRuntime) -> String {
    let whose = if found.ours { "started by kedge" } else { "that was running" };
    format!("{} ({whose})", found.version)
}

async fn edge_config(args: &Args, dir: &Path, node: &NodeName, local: &Local) -> Result<EdgeConfig, Failure> {
    let secrets = Collection::of("", "secrets");
    let secret = local.get(&secrets, Some("kubeedge"), "tokensecret").await.map_err(|status| {
        Failure::new("KE-UP-005", "the cloud has made no join token")
            .because(status)
            .fix("start again with KEDGE_LOG=info and look at what the cloud says")
    })?;
    let token = secret.pointer("/data/tokendata").and_then(Value::as_str).unwrap_or_default();
    let token = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, token).unwrap_or_default();
    let ports = args.cloud.ports();
    EdgeConfig::for_data_dir(&UpEdge {
        data_dir: dir.to_owned(),
        node: node.clone(),
        cloud_host: "127.0.0.1".to_owned(),
        websocket_port: ports.websocket,
        https_port: ports.https,
        stream_port: ports.tunnel,
        mqtt_port: args.mqtt_port,
        kubelet_port: ports.stream,
        token: String::from_utf8_lossy(&token).into_owned(),
        labels: BTreeMap::new(),
    })
}

fn is_ready(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let ready = |condition: &Value| {
        condition.get("type").and_then(Value::as_str) == Some("Ready")
            && condition.get("status").and_then(Value::as_str) == Some("True")
    };
    conditions.is_some_and(|all| all.iter().any(ready))
}

/// Waits until an object of this name is there and as wanted.
async fn object_is(local: &Local, collection: &Collection, name: &str, wanted: impl Fn(&Value) -> bool) {
    let fits = |object: &Value| {
        object.pointer("/metadata/name").and_then(Value::as_str) == Some(name) && wanted(object)
    };
    while let Ok((objects, revision)) = local.list(collection, None).await {
        if objects.iter().any(|object| fits(object)) || changes_until(local, collection, revision, fits).await
        {
            return;
        }
    }
    // The API is going down; its failure is told by its own part.
    std::future::pending().await
}

/// Follows changes until one fits; `false` when the history was lost and the list is needed again.
async fn changes_until(
    local: &Local,
    collection: &Collection,
    from: Revision,
    fits: impl Fn(&Value) -> bool,
) -> bool {
    let mut watch = local.watch(collection, from);
    loop {
        match watch.next().await {
            Ok(Change::Added(object) | Change::Modified(object)) if fits(&object) => return true,
            Ok(_) => {}
            Err(_expired) => return false,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::Exit;
    use crate::daemon::apiserver::{ApiServer, Config};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// An API in which no cloud has set itself up.
    pub(in super::super) fn bare_api() -> (tempfile::TempDir, Local) {
        crate::pki::install_crypto_provider();
        let dir = tempfile::tempdir().unwrap();
        let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let server = ApiServer::open(Config::new(nowhere, dir.path().join("api"))).unwrap();
        (dir, server.local())
    }

    #[tokio::test]
    async fn an_edge_without_a_token_of_its_cloud_does_not_start() {
        let (dir, local) = bare_api();
        let line = Line::try_parse_from(["up"]).unwrap();
        let node = NodeName::new("n").unwrap();
        let failure = edge_config(&line.args, dir.path(), &node, &local).await.unwrap_err();
        assert_eq!(failure.code, "KE-UP-005");
        failure.is_as_committed();
        assert!(failure.why.contains("tokensecret") && failure.fix.contains("KEDGE_LOG=info"), "{failure}");
    }

    #[tokio::test]
    async fn a_milestone_that_stays_pending_ends_the_wait() {
        let mut parts = Parts::new(Stop::new());
        parts.limit = Duration::from_millis(10);
        let failure = parts.or_failure(std::future::pending::<()>()).await.unwrap_err();
        assert_eq!((failure.code, failure.exit), ("KE-UP-004", Exit::TimedOut));
        failure.is_as_committed();
        assert!(failure.fix.contains("`kedge status`"), "{failure}");
        assert_eq!(parts.or_failure(async { 7 }).await, Ok(Some(7)));
    }
}
