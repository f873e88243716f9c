//! `kedge cloud run`: composition and the switchboard for what edge nodes say. Uses `wire`, never the edge wing; the
//! Kubernetes API, embedded or not, is reached over HTTPS only.
//!
//! run: connect -> definitions -> trust -> hub, controllers, stream, tokens -> supervisor until stopped
//! node --hub--> switchboard --> control (answers, devices, records) --> API --watch--> control --hub--> node

mod control;
pub mod hub;
mod install;
mod kubernetes;
pub mod setup;
mod stream;
mod switchboard;
#[cfg(test)]
mod tests;
mod tokens;
mod trust;
mod volumes;

pub use kubernetes::access as kubeconfig;
pub use stream::KubeletAccess;
pub use tokens::{Draft, TokenDesk, Whereabouts};
pub use trust::{CA_CERT, CA_SECRET, NAMESPACE, SERVER_CERT, SERVER_SECRET, TOKEN_KEY, TOKEN_SECRET};
pub use trust::{KeptCertificate, kept_certificates};

use crate::base::{
    BoxFuture, Failure, Module, Ready, Stop, Supervisor, SupervisorHandle, create_private_dir,
    recent_problems,
};
use crate::config::cloud::{CloudConfig, Lead, StreamConfig};
use crate::daemon::status::{Facts, StatusSocket};
use crate::host::forward::Chain;
use crate::pki::TokenBook;
use control::Indexes;
use hub::{Hub, Trust};
use kubernetes::Kube;
use serde_json::json;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use switchboard::Switchboard;
use tokio::sync::watch;

/// How long the API may take to answer at start.
const API_LIMIT: Duration = Duration::from_secs(120);
/// How long when somebody waits for an answer.
const API_SOON: Duration = Duration::from_secs(10);

/// Where the cloud listens and who is connected; the observer of [`run`] learns of the modules.
pub type Observer = watch::Sender<Option<SupervisorHandle>>;

/// Runs the cloud until `stop` is raised. The API must be running or about to; in embedded mode the caller starts it.
pub async fn run(config: CloudConfig, stop: Stop, observer: Observer) -> Result<(), Failure> {
    let Some(composed) = stop.or(compose(config)).await else { return Ok(()) };
    let supervisor = composed?;
    observer.send_replace(Some(supervisor.handle()));
    supervisor.run(stop).await
}

/// How the API server in this process reaches the kubelet API of the nodes: make it before the API server starts.
/// Reads and writes files of the data directory.
pub fn kubelet_access(config: &CloudConfig) -> Result<KubeletAccess, Failure> {
    stream::access(&config.stream)
}

async fn compose(config: CloudConfig) -> Result<Supervisor, Failure> {
    create_private_dir(&config.data_dir)?;
    let kube = Kube::connect(config.kubeconfig.as_deref(), &config.master).await?;
    kube.wait_until_reachable(API_LIMIT).await?;
    if config.install_crds {
        install::definitions(&kube).await?;
    }
    let established = trust::establish(&kube, &config.hub, None).await?;
    let (trust_sender, trust) = watch::channel(established);
    let book = TokenBook::at(config.token_book());
    let indexes = Indexes::default();
    if !config.hub.authorize {
        tracing::warn!("authorization is off: nodes may read and change what is not theirs");
    }
    let (hub, arriving, hub_module) = hub::new(hub_config(&config, &kube, (&trust, book.clone()), &indexes))?;
    let advertised = config.hub.advertise.first().cloned();
    let router = config
        .router
        .enabled
        .then_some(control::RouterConfig { listen: config.router.listen, limit: config.router.limit });
    let engine = if config.stage_jobs { control::JobEngine::Stages } else { control::JobEngine::Actions };
    let settings = control::JobSettings { engine, registry_ca: config.registry_ca };
    let wanted = (config.dynamic, router, settings);
    let controllers = control::new(kube.clone(), hub.clone(), indexes.clone(), advertised, wanted).await?;
    let mut supervisor = Supervisor::new();
    supervisor.add(trust::Keeper { kube: kube.clone(), hub: config.hub.clone(), trust: trust_sender });
    let refresh = config.hub.token_refresh;
    supervisor.add(tokens::Tokens { kube: kube.clone(), trust: trust.clone(), book, refresh });
    supervisor.add(Boxed(controllers.sync));
    for module in controllers.rest {
        supervisor.add(Boxed(module));
    }
    let volumes = volumes::Desk::default();
    if let Some(path) = config.volume_socket {
        supervisor.add(volumes::Volumes { path, desk: volumes.clone(), hub: hub.clone() });
    }
    supervisor.add(Switchboard { control: controllers.control, volumes, arriving });
    if config.stream.enabled {
        let door = stream_door(&config.stream, &kube).await?;
        let opened = Arc::new(stream::Opened::default());
        // The embedded API knows the way; another API server finds it as at KubeEdge's clouds.
        if !config.api.embedded {
            let (kube, own) = (kube.clone(), stream::own_address(&config.hub.advertise));
            supervisor.add(stream::Publishing { kube, own, opened: opened.clone() });
        }
        if !config.api.embedded && config.stream.lead == Lead::Cloud {
            let (kube, stream) = (kube.clone(), config.stream.stream.port());
            supervisor.add(stream::Leading { kube, stream, chain: Chain::default(), alone: false });
        }
        supervisor.add(stream_module((config.stream, door), opened, (&trust, &indexes, &hub)).await?);
    }
    // All modules start at once. A node that is there before the others are ready is told as they get so; whose a name
    // is, the hub does not say until the Nodes are listed.
    supervisor.add(hub_module);
    let facts = facts(hub, supervisor.handle());
    supervisor.add(StatusSocket::new(config.status_socket, facts));
    Ok(supervisor)
}

fn hub_config(
    config: &CloudConfig,
    kube: &Kube,
    (trust, book): (&watch::Receiver<Trust>, TokenBook),
    indexes: &Indexes,
) -> hub::Config {
    let nodes = indexes.nodes.clone();
    let wanted = &config.hub;
    hub::Config {
        websocket: wanted.websocket,
        https: wanted.https,
        certificate_life: wanted.certificate_life,
        node_limit: wanted.node_limit,
        authorize: wanted.authorize,
        keepalive: wanted.keepalive,
        releases: config.releases.clone(),
        known_node: Arc::new(move |name| nodes.lock().unwrap_or_else(PoisonError::into_inner).known(name)),
        count: Some(tokens::counting(kube.clone())),
        ..hub::Config::new(trust.clone(), book)
    }
}

/// The cluster's say about callers of the kubelet API, where it is wanted and no files say otherwise.
async fn stream_door(config: &StreamConfig, kube: &Kube) -> Result<Option<Arc<stream::Door>>, Failure> {
    let files = [&config.ca_file, &config.cert_file, &config.key_file];
    if !config.from_cluster || config.own_ca || files.iter().all(|path| path.exists()) {
        return Ok(None);
    }
    stream::Door::open(kube.clone()).await.map(|door| Some(Arc::new(door)))
}

async fn stream_module(
    (config, door): (StreamConfig, Option<Arc<stream::Door>>),
    opened: Arc<stream::Opened>,
    (trust, indexes, hub): (&watch::Receiver<Trust>, &Indexes, &Hub),
) -> Result<impl Module, Failure> {
    let (pods, refusals) = (indexes.pods.clone(), hub.refusals().clone());
    let config = stream::Config { stream: config, door, trust: trust.clone(), pods, refusals, opened };
    trust::blocking(move || stream::new(config)).await
}

/// What `kedge cloud forward` is told.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// `None`: the service account of the pod that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The API's URL where the kubeconfig or the pod tells none; empty otherwise.
    pub server: String,
    /// The port of every cloud's kubelet API.
    pub stream: u16,
    /// Where the machine's file system is mounted, if this process has another one.
    pub host_root: Option<PathBuf>,
}

impl Forwarding {
    async fn leading(&self) -> Result<stream::Leading, Failure> {
        let kube = match &self.kubeconfig {
            Some(path) => Kube::named_at(path, &self.server).await?,
            None => Kube::connect(None, &self.server).await?,
        };
        let chain = Chain { host_root: self.host_root.clone() };
        Ok(stream::Leading { kube, stream: self.stream, chain, alone: true })
    }
}

/// The rules that [`forward`] would make now, as arguments of `iptables -t nat`.
pub async fn forward_rules(wanted: &Forwarding) -> Result<Vec<String>, Failure> {
    let leading = wanted.leading().await?;
    leading.kube.wait_until_reachable(API_SOON).await?;
    leading.rules().await
}

/// Leads connections of an API server on this machine to the clouds of its cluster until `stop` is raised, for machines
/// where no cloud runs that does it itself.
pub async fn forward(wanted: &Forwarding, stop: Stop) -> Result<(), Failure> {
    let leading = wanted.leading().await?;
    match stop.or(leading.kube.wait_until_reachable(API_LIMIT)).await {
        Some(reachable) => reachable?,
        // What a killed one has left goes with this one, whatever becomes of the API.
        None => {
            leading.leave(false).await;
            return Ok(());
        }
    }
    let mut supervisor = Supervisor::new();
    supervisor.add(leading);
    supervisor.run(stop).await
}

/// What `kedge status` shows of a cloud.
fn facts(hub: Hub, modules: SupervisorHandle) -> Facts {
    Arc::new(move || {
        let nodes: serde_json::Map<String, serde_json::Value> =
            hub.nodes().borrow().iter().map(|(node, link)| (node.to_string(), json!(link))).collect();
        let document = json!({
            "apiVersion": "kedge/v1",
            "role": "cloud",
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "modules": modules.modules(),
            "recentProblems": recent_problems(),
            "listen": hub.addresses(),
            "nodes": nodes,
            "refused": hub.refusals().facts(),
            "releases": hub.releases().facts(),
        });
        Box::pin(async move { document })
    })
}

/// A module behind a pointer is a module.
struct Boxed(Box<dyn Module>);

impl Module for Boxed {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        self.0.run(stop, ready)
    }
}
