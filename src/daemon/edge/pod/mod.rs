//! The small kubelet: runs the pods in the store on the container runtime, keeps them running, tells the cloud.
//! It learns of pods from the store alone and reports through the uplink; it never listens on the network.
//!
//! store key -> room -> worker (one per pod uid) -> state (pure) -> cri
//! cri event -> room -> worker -> status (pure) -> uplink

mod ask;
mod atomic;
mod bell;
mod burial;
mod cgroup;
mod container;
mod disk;
mod env;
mod field;
mod housing;
mod image;
mod logs;
mod look;
mod paths;
mod probe;
mod quantity;
mod room;
mod sandbox;
mod seen;
mod sight;
mod sources;
mod starting;
mod state;
mod status;
mod subpath;
mod summary;
#[cfg(test)]
mod tests;
mod usage;
mod vigil;
mod volume;
mod worker;

pub use cgroup::{Groups, remove as remove_groups};
pub use image::pull_credentials;
pub use logs::{LogOptions, read as read_log};
pub use sandbox::NODE_LABEL;
pub use sources::Sources;
pub use summary::{ContainerSummary, Summary};
pub use usage::{ContainerUse, CpuTime, Layer, MemoryUse, PodUse, Traffic};

use crate::base::{Failure, Module};
use crate::cri::Runtime;
use crate::cri::messages::{AttachRequest, ExecRequest, Labels, PodSandboxState, PortForwardRequest};
use crate::daemon::edge::uplink::Uplink;
use crate::store::Store;
use bytes::Bytes;
use futures_util::Stream;
use std::path::PathBuf;
use std::sync::Arc;

/// What the room needs to know of this node.
#[derive(Clone)]
pub struct Config {
    /// Pods of other nodes are ignored.
    pub node: String,
    pub runtime: Runtime,
    /// Which control groups pods stand in.
    pub groups: Groups,
    /// Whether the runtime was away when `groups` were chosen: it is asked for its own way once it answers.
    pub late: bool,
    /// Volumes and other files of pods, `pods/UID/…` below it.
    pub root_dir: PathBuf,
    /// Container logs, `pods/NAMESPACE_NAME_UID/CONTAINER/N.log` below it.
    pub log_dir: PathBuf,
    /// This machine's address, shown as `status.hostIP`.
    pub host_ip: String,
    /// Name servers of the cluster; empty where there are none.
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
}

/// What other rooms may ask of the pods on this node; cheap to clone.
#[derive(Clone)]
pub struct PodHandle {
    runtime: Runtime,
    paths: paths::Paths,
    summaries: summary::Summaries,
}

impl PodHandle {
    /// All pods that have been reported, by namespace and name.
    pub fn summaries(&self) -> Vec<Summary> {
        self.summaries.all()
    }

    /// One pod.
    pub fn summary(&self, namespace: &str, name: &str) -> Option<Summary> {
        self.summaries.get(namespace, name)
    }

    /// The runtime that the pods run on.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// A container's log as `kubectl logs` shows it; an empty container name means the only or first one.
    pub async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        options: LogOptions,
    ) -> Result<impl Stream<Item = std::io::Result<Bytes>> + Send + use<>, Failure> {
        let summary = self.summaries.get(namespace, pod).ok_or_else(|| {
            Failure::new("KE-POD-003", format!("there is no pod {namespace}/{pod} on this node"))
                .because("the cloud has assigned none of this name, or it is gone already")
                .fix("list the pods of this node with `kedge pods`")
        })?;
        logs::open(&self.paths, &self.summaries, &summary, container, options).await
    }
}

/// What a person does in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Empty to attach to the container's first process.
    pub command: Vec<String>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl PodHandle {
    /// The runtime's address for a session with a running container, or with the pod's ports when none is named.
    pub async fn session(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        session: Session,
    ) -> Result<String, Failure> {
        let missing = || {
            Failure::new(
                "KE-POD-006",
                format!("the pod {namespace}/{pod} has no running container {container}"),
            )
            .fix("list the pods of this node with `kedge pods`")
        };
        let summary = self.summaries.get(namespace, pod);
        let summary = summary.ok_or_else(|| missing().because("no such pod is on this node"))?;
        if container.is_empty() {
            let of_pod = Labels::from([(sandbox::UID_LABEL.to_owned(), summary.uid)]);
            let sandboxes = self.runtime.list_pod_sandbox(of_pod).await;
            let sandboxes = sandboxes.map_err(|error| missing().because(error))?;
            let ready =
                sandboxes.into_iter().filter(|sandbox| sandbox.state == PodSandboxState::Ready as i32);
            let newest = ready.max_by_key(|sandbox| sandbox.created_at);
            let newest = newest.ok_or_else(|| missing().because("its sandbox is not ready"))?;
            let request = PortForwardRequest { pod_sandbox_id: newest.id, port: Vec::new() };
            return self.runtime.port_forward(request).await.map_err(|error| missing().because(error));
        }
        let container_id = match summary.containers.iter().find(|known| known.name == container) {
            Some(known) if known.state == "Running" => known.id.clone(),
            Some(known) => return Err(missing().because(format!("its state is {}", known.state))),
            None => {
                let names: Vec<&str> = summary.containers.iter().map(|known| known.name.as_str()).collect();
                return Err(missing().because(format!("its containers are {}", names.join(", "))));
            }
        };
        let Session { command: cmd, stdin, stdout, stderr, tty } = session;
        let url = if cmd.is_empty() {
            self.runtime.attach(AttachRequest { container_id, stdin, tty, stdout, stderr }).await
        } else {
            self.runtime.exec(ExecRequest { container_id, cmd, tty, stdin, stdout, stderr }).await
        };
        url.map_err(|error| missing().because(error))
    }
}

/// The room: its handle and its module.
pub fn new(
    config: Config,
    store: Store,
    uplink: Uplink,
    sources: Arc<dyn Sources>,
) -> (PodHandle, impl Module + use<>) {
    let paths = paths::Paths { root: config.root_dir.clone(), logs: config.log_dir.clone() };
    let summaries = summary::Summaries::default();
    let handle =
        PodHandle { runtime: config.runtime.clone(), paths: paths.clone(), summaries: summaries.clone() };
    (handle, room::Room { config, store, uplink, sources, paths, summaries })
}
