//! This machine as a Node: registers it, renews its lease, reports its conditions. Composition starts it; it uses the
//! runtime only to ask how it is. The stored Node row lets it start, and pods learn their node, without a cloud.
//!
//! link up -> register (or find itself registered) -> status -> lease, then by the clock and by change.

mod conditions;
mod object;
mod report;

pub use object::KUBELET_VERSION;

use super::meta::Meta;
use super::uplink::Uplink;
use crate::base::{BoxFuture, Failure, Module, Ready, Stop};
use crate::cri::Runtime;
use crate::host::facts::System;
use crate::store::Store;
use conditions::Thresholds;
use object::Profile;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

/// Where Kubernetes keeps the leases of nodes.
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// What the node room is told.
pub struct Config {
    pub name: String,
    pub internal_ip: IpAddr,
    pub kubelet_port: u16,
    pub max_pods: u32,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Value>,
    pub schedulable: bool,
    /// `false`: somebody else makes the Node object; it is only reported on.
    pub register: bool,
    /// The directory whose file system counts as the node's disk.
    pub disk: PathBuf,
    pub eviction_hard: BTreeMap<String, String>,
    pub status_update: Duration,
    pub status_report: Duration,
    pub lease_duration: Duration,
    pub question_limit: Duration,
    /// `None`: this node runs no pods.
    pub runtime: Option<Runtime>,
}

/// What others may know of the node's registration.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The cloud has a Node object for this machine.
    pub registered: bool,
    pub ready: bool,
    /// Why it is not ready; empty when it is.
    pub reason: String,
    /// The cloud has confirmed that it is ready.
    pub confirmed: bool,
    pub runtime: RuntimePhase,
}

/// How far the container runtime is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RuntimePhase {
    /// It was not asked yet.
    #[default]
    Unknown,
    /// This node runs no pods.
    Off,
    Down,
    /// It serves, and the pods' network is not ready.
    NoNetwork,
    Ready,
}

/// The current state of the node; read it, never queue on it.
pub type NodeHandle = watch::Receiver<NodeStatus>;

/// The handle and the module.
pub fn new(config: Config, store: Store, meta: Meta, uplink: Uplink) -> (NodeHandle, impl Module) {
    let (state, handle) = watch::channel(NodeStatus::default());
    let profile = Profile {
        name: config.name,
        system: System::read(),
        internal_ip: config.internal_ip,
        kubelet_port: config.kubelet_port,
        max_pods: config.max_pods,
        labels: config.labels,
        taints: config.taints,
        schedulable: config.schedulable,
        thresholds: Thresholds::new(&config.eviction_hard),
    };
    let room = report::Room {
        profile,
        register: config.register,
        disk: config.disk,
        runtime: config.runtime,
        status_update: config.status_update,
        status_report: config.status_report,
        lease_duration: config.lease_duration,
        question_limit: config.question_limit.min(Duration::from_secs(10)),
        store,
        meta,
        uplink,
        state,
    };
    (handle, NodeModule(room))
}

struct NodeModule(report::Room);

impl Module for NodeModule {
    fn name(&self) -> &'static str {
        "node"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.0.run(stop, ready))
    }
}
