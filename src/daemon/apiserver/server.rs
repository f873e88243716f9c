//! The HTTPS listener as a module of the cloud daemon: binds, makes the objects of a new cluster, serves.

use super::bootstrap;
use super::local::Local;
use super::rest::Api;
use crate::base::{BoxFuture, Failure, Module, Ready, Runner, Stop};
use crate::host::ports::bind_failure;
use crate::link::http::{Caller, serve};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

pub(super) struct Server {
    pub ca_pem: String,
    pub api: Arc<Api>,
    pub local: Local,
    pub listener: Option<std::net::TcpListener>,
    pub address: SocketAddr,
    pub tls: Arc<rustls::ServerConfig>,
    /// Carries sessions with pods.
    pub runner: Runner,
}

/// Binds the address; a port in use is named with its holder.
pub(super) fn bind(address: SocketAddr) -> Result<std::net::TcpListener, Failure> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| bind_failure("the embedded Kubernetes API", address, &error))
}

impl Module for Server {
    fn name(&self) -> &'static str {
        "api"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let listener = match self.listener.take() {
                Some(listener) => listener,
                None => bind(self.address)?,
            };
            let listener = TcpListener::from_std(listener)
                .map_err(|error| bind_failure("the embedded Kubernetes API", self.address, &error))?;
            bootstrap::run(&self.local, self.api.ops.network, self.address, &self.ca_pem).await?;
            ready.set();
            let (api, watches) = (self.api.clone(), stop.clone());
            let handler = move |request, caller: Arc<Caller>| {
                let (api, stop) = (api.clone(), watches.clone());
                async move { api.serve(request, &caller, stop).await }
            };
            let sessions = self.runner.run(&stop);
            tokio::join!(serve(listener, self.tls.clone(), stop.clone(), handler), sessions);
            Ok(())
        })
    }
}
