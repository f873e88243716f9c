//! The kubelet API that kube-apiserver calls (10003) and the tunnels on which nodes serve it (10004), protocol.md §8.
//! The composition makes it with [`new`]. A request finds its node by the cloud's pod index; each request has a bounded
//! queue of its own, and a kedge edge sends no more than fits into it.
//!
//! kube-apiserver --HTTPS--> requests --frame--> tunnels --WebSocket--> node, and back as one response body

mod identity;
mod requests;
mod tunnels;

use super::control::PodIndex;
use crate::base::{BoxFuture, Crew, Failure, Module, Ready, Stop};
use crate::config::cloud::StreamConfig;
use crate::host::ports::bind_failure;
use crate::link::http;
use crate::pki::{Clients, Identity, server_config};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use tunnels::Tunnels;

pub use identity::KubeletAccess;
pub(super) use identity::access;

/// What the stream server is told once.
pub(super) struct Config {
    pub stream: StreamConfig,
    /// Shown to nodes.
    pub identity: Identity,
    /// Nodes' certificates come from it.
    pub node_ca_pem: String,
    pub pods: Arc<Mutex<PodIndex>>,
}

pub(super) struct StreamModule {
    stream: TcpListener,
    tunnel: TcpListener,
    stream_tls: Arc<rustls::ServerConfig>,
    tunnel_tls: Arc<rustls::ServerConfig>,
    pods: Arc<Mutex<PodIndex>>,
}

fn bind(address: SocketAddr, what: &str) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| bind_failure(what, address, &error))
}

/// Binds the ports and makes the module. Reads files.
pub(super) fn new(config: Config) -> Result<StreamModule, Failure> {
    let own = identity::load(&config.stream)?;
    Ok(StreamModule {
        stream: bind(config.stream.stream, "the kubelet API of the cloud")?,
        tunnel: bind(config.stream.tunnel, "the tunnel for nodes")?,
        stream_tls: server_config(&own.identity, Clients::Required(&own.ca_pem))?,
        tunnel_tls: server_config(&config.identity, Clients::Required(&config.node_ca_pem))?,
        pods: config.pods,
    })
}

fn listener(from: &TcpListener) -> Result<tokio::net::TcpListener, Failure> {
    from.try_clone()
        .and_then(tokio::net::TcpListener::from_std)
        .map_err(|error| Failure::new("KE-PORT-002", "cannot use a listening port").because(error))
}

impl Module for StreamModule {
    fn name(&self) -> &'static str {
        "stream"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let (stream, tunnel) = (listener(&self.stream)?, listener(&self.tunnel)?);
            let tunnels = Arc::new(Tunnels::default());
            let mut crew = Crew::new();
            let (sessions, waiting) = tokio::sync::mpsc::channel(64);
            crew.spawn(tunnels::serve_sessions(tunnels.clone(), waiting, stop.clone()));
            let at_tunnel = move |request, caller| tunnels::enter(request, caller, sessions.clone());
            crew.spawn(http::serve(tunnel, self.tunnel_tls.clone(), stop.clone(), at_tunnel));
            let requests = Arc::new(requests::Requests { tunnels, pods: self.pods.clone() });
            let at_stream = move |request, _caller| {
                let requests = requests.clone();
                async move { requests.answer(&request).await }
            };
            crew.spawn(http::serve(stream, self.stream_tls.clone(), stop.clone(), at_stream));
            ready.set();
            stop.raised().await;
            crew.finish().await;
            Ok(())
        })
    }
}
