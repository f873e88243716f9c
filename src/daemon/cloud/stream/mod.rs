//! The kubelet API that kube-apiserver calls (10003) and the tunnels on which nodes serve it (10004), protocol.md §8.
//! The composition makes it with [`new`]. A request finds its node by the cloud's pod index; each request has a bounded
//! queue of its own, and a kedge edge sends no more than fits into it.
//!
//! kube-apiserver --HTTPS--> requests --frame--> tunnels --WebSocket--> node, and back as one response body

mod door;
mod exec;
mod identity;
mod metrics;
mod requests;
mod tunnels;
mod way;

use super::control::PodIndex;
use super::hub::{Refusals, Trust};
use super::trust::blocking;
use crate::base::{BoxFuture, Crew, Failure, Module, Ready, Stop};
use crate::config::cloud::StreamConfig;
use crate::host::ports::bind_failure;
use crate::link::http;
use crate::pki::{Clients, LiveTls, WatchedFiles, server_config};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tunnels::Tunnels;

pub(super) use door::Door;
pub use identity::KubeletAccess;
pub(super) use identity::access;
pub(super) use way::{Leading, Opened, Publishing, own_address};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

type TlsSender = watch::Sender<Arc<rustls::ServerConfig>>;

/// What the stream server is told once.
pub(super) struct Config {
    pub stream: StreamConfig,
    /// The cluster's own say about callers; `None`: files decide.
    pub door: Option<Arc<Door>>,
    /// What nodes are shown and which are accepted.
    pub trust: watch::Receiver<Trust>,
    pub pods: Arc<Mutex<PodIndex>>,
    pub refusals: Refusals,
    /// Is told of the nodes that have a tunnel.
    pub opened: Arc<Opened>,
}

pub(super) struct StreamModule {
    stream: TcpListener,
    tunnel: TcpListener,
    config: StreamConfig,
    door: Option<Arc<Door>>,
    trust: watch::Receiver<Trust>,
    /// For the next handshake on each port; kept here so that a restart of the module goes on with it.
    stream_tls: (TlsSender, LiveTls),
    tunnel_tls: (TlsSender, LiveTls),
    pods: Arc<Mutex<PodIndex>>,
    refusals: Refusals,
    opened: Arc<Opened>,
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
    let shown = stream_tls(&config.stream, config.door.as_deref(), &config.trust.borrow())?;
    let stream_tls = LiveTls::new(shown);
    let tunnel_tls = LiveTls::new(tunnel_tls(&config.trust.borrow())?);
    Ok(StreamModule {
        stream: bind(config.stream.stream, "the kubelet API of the cloud")?,
        tunnel: bind(config.stream.tunnel, "the tunnel for nodes")?,
        config: config.stream,
        door: config.door,
        trust: config.trust,
        stream_tls,
        tunnel_tls,
        pods: config.pods,
        refusals: config.refusals,
        opened: config.opened,
    })
}

fn stream_tls(
    config: &StreamConfig,
    door: Option<&Door>,
    trust: &Trust,
) -> Result<Arc<rustls::ServerConfig>, Failure> {
    if let Some(door) = door {
        // metrics-server shows no certificate but a token.
        return server_config(&trust.identity, Clients::Optional(&door.ca_pem));
    }
    let own = identity::load(config)?;
    server_config(&own.identity, Clients::Required(&own.ca_pem))
}

fn tunnel_tls(trust: &Trust) -> Result<Arc<rustls::ServerConfig>, Failure> {
    server_config(&trust.identity, Clients::Required(&trust.accepted_pem))
}

/// Handshakes from now on use the new configuration; one that cannot be used changes nothing.
fn retune(sender: &TlsSender, new: Result<Arc<rustls::ServerConfig>, Failure>) {
    match new {
        Ok(tls) => drop(sender.send_replace(tls)),
        Err(failure) => {
            tracing::warn!(code = failure.code, error = %failure, "the new certificates cannot be used");
        }
    }
}

fn listener(from: &TcpListener) -> Result<tokio::net::TcpListener, Failure> {
    from.try_clone().and_then(tokio::net::TcpListener::from_std).map_err(|error| {
        Failure::new("KE-PORT-002", "cannot use a listening port")
            .because(error)
            .fix("raise the limit of open files (ulimit -n), then start kedge again")
    })
}

impl Module for StreamModule {
    fn name(&self) -> &'static str {
        "stream"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let (stream, tunnel) = (listener(&self.stream)?, listener(&self.tunnel)?);
            let tunnels = Arc::new(Tunnels::new(self.opened.clone()));
            let mut crew = Crew::new();
            let (sessions, waiting) = tokio::sync::mpsc::channel(64);
            crew.spawn(tunnels::serve_sessions(tunnels.clone(), waiting, stop.clone()));
            let refusals = self.refusals.clone();
            let at_tunnel = move |request, caller: Arc<http::Caller>| {
                tunnels::enter(request, caller, refusals.clone(), sessions.clone())
            };
            crew.spawn(http::serve(tunnel, self.tunnel_tls.1.clone(), stop.clone(), at_tunnel));
            let (pipes, to_run) = tokio::sync::mpsc::channel(64);
            crew.spawn(exec::serve(to_run, stop.clone()));
            let requests = Arc::new(requests::Requests { tunnels, pods: self.pods.clone(), pipes });
            let door = self.door.clone();
            let at_stream = move |request: ::http::Request<_>, caller: Arc<http::Caller>| {
                let (requests, door) = (requests.clone(), door.clone());
                async move {
                    if let Some(door) = door
                        && let Some(refusal) = door.turns_away(&caller, &request).await
                    {
                        return refusal;
                    }
                    requests.answer(request).await
                }
            };
            crew.spawn(http::serve(stream, self.stream_tls.1.clone(), stop.clone(), at_stream));
            ready.set();
            self.keep_current(&stop).await;
            crew.finish().await;
            Ok(())
        })
    }
}

impl StreamModule {
    /// Takes over what changes until the module stops.
    async fn keep_current(&mut self, stop: &Stop) {
        let config = &self.config;
        let paths = [&config.ca_file, &config.cert_file, &config.key_file];
        let mut files = WatchedFiles::new(paths.map(Clone::clone));
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.raised() => return,
                Ok(()) = self.trust.changed() => {
                    let trust = self.trust.borrow_and_update().clone();
                    retune(&self.tunnel_tls.0, tunnel_tls(&trust));
                    if let Some(door) = &self.door {
                        retune(&self.stream_tls.0, stream_tls(config, Some(door), &trust));
                    }
                }
                _ = look.tick() => {
                    if files.have_changed() && self.door.is_none() {
                        let (config, trust) = (config.clone(), self.trust.borrow().clone());
                        let new = blocking(move || stream_tls(&config, None, &trust)).await;
                        retune(&self.stream_tls.0, new);
                    }
                }
            }
        }
    }
}
