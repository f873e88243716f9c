//! The embedded Kubernetes API with its controllers, put together for `kedge up` and `kedge cloud run --embedded`.
//! It writes the kubeconfig that the cloud wing and `kubectl` use.

use crate::base::{
    BoxFuture, Failure, Module, Ready, Stop, Supervisor, SupervisorHandle, aside, write_atomic,
};
use crate::config::cloud::CloudConfig;
use crate::daemon::apiserver::controllers::{self, ControllerOptions};
use crate::daemon::apiserver::local::Local;
use crate::daemon::apiserver::{ApiServer, Config, KubeletEndpoint};
use crate::daemon::cloud;
use std::net::SocketAddr;
use tokio::sync::watch;

/// The API, opened and not yet running.
pub(super) struct Embedded {
    supervisor: Supervisor,
    local: Local,
    address: SocketAddr,
}

/// Opens the API's database, binds its port, and writes the kubeconfig that the configuration names.
pub(super) async fn open(config: &CloudConfig) -> Result<Embedded, Failure> {
    let config = config.clone();
    let open = move || -> Result<ApiServer, Failure> {
        let access = cloud::kubelet_access(&config)?;
        let kubelet =
            KubeletEndpoint { address: access.address, identity: access.identity, ca_pem: access.ca_pem };
        let api =
            Config { kubelet: Some(kubelet), ..Config::new(config.api.listen, config.api.data_dir.clone()) };
        let server = ApiServer::open(api)?;
        if let Some(kubeconfig) = &config.kubeconfig {
            write_atomic(kubeconfig, server.admin_kubeconfig().as_bytes(), 0o600)?;
        }
        Ok(server)
    };
    let server = aside("open the API", open).await??;
    let (local, address) = (server.local(), server.address());
    let options = ControllerOptions { cluster_ca_pem: server.ca_pem().to_owned() };
    let mut supervisor = Supervisor::new();
    supervisor.add(server.module());
    for module in controllers::modules(local.clone(), options) {
        supervisor.add(Boxed(module));
    }
    Ok(Embedded { supervisor, local, address })
}

impl Embedded {
    pub(super) fn local(&self) -> Local {
        self.local.clone()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs the API and its controllers until stopped.
    pub(super) async fn run(
        self,
        stop: Stop,
        observer: watch::Sender<Option<SupervisorHandle>>,
    ) -> Result<(), Failure> {
        observer.send_replace(Some(self.supervisor.handle()));
        self.supervisor.run(stop).await
    }
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
