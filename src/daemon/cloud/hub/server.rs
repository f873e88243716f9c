//! The hub as a module: binds its two ports, lets nodes in, starts their sessions, carries out orders.

use super::refusals::Refusals;
use super::registry::Registry;
use super::session::{self, Guest, NODE_LIMIT, Shared};
use super::{Addresses, Arrival, Config, Order, Releases, Trust, authz, certs, comeback};
use crate::base::{BoxFuture, Crew, Failure, Module, Ready, Stop, panicked};
use crate::host::ports::bind_failure;
use crate::link::http::{Body, Caller, Limits, serve, serve_within, text};
use crate::link::ws;
use crate::model::NodeName;
use crate::pki::{Clients, LiveTls, cert_key, server_config};
use crate::wire::{DIGEST_HEADER, INSTANCE_HEADER, VERSION_HEADER};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Connections whose session is about to start.
const GUESTS: usize = 256;
/// The longest mark of a daemon.
const INSTANCE: usize = 64;

pub(super) struct HubModule {
    config: Arc<Config>,
    listeners: Listeners,
    orders: mpsc::Receiver<Order>,
    shared: Shared,
    releases: Releases,
}

struct Listeners {
    websocket: TcpListener,
    https: TcpListener,
}

impl HubModule {
    /// Binds both ports, so that a port in use is told at once.
    pub fn bind(
        config: Config,
        orders: mpsc::Receiver<Order>,
        shared: Shared,
        releases: Releases,
    ) -> Result<(HubModule, Addresses), Failure> {
        let websocket = bind(config.websocket, "the hub for edge nodes")?;
        let https = bind(config.https, "the certificate service for nodes")?;
        let address = |listener: &TcpListener, wanted| listener.local_addr().unwrap_or(wanted);
        let addresses = Addresses {
            websocket: address(&websocket, config.websocket),
            https: address(&https, config.https),
        };
        let listeners = Listeners { websocket, https };
        Ok((HubModule { config: Arc::new(config), listeners, orders, shared, releases }, addresses))
    }
}

fn bind(address: SocketAddr, what: &str) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| bind_failure(what, address, &error))
}

fn listener(bound: &TcpListener) -> Result<tokio::net::TcpListener, Failure> {
    bound.try_clone().and_then(tokio::net::TcpListener::from_std).map_err(|error| {
        Failure::new("KE-PORT-003", "cannot use a bound port").because(error).fix("start kedge again")
    })
}

impl Module for HubModule {
    fn name(&self) -> &'static str {
        "hub"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.serve(stop, ready))
    }
}

impl HubModule {
    async fn serve(&mut self, stop: Stop, ready: Ready) -> Result<(), Failure> {
        for node in self.shared.registry.clear() {
            drop(stop.or(self.shared.arrivals.send(Arrival::Disconnected(node))).await);
        }
        let (guests, mut arriving) = mpsc::channel(GUESTS);
        let mut servers = Crew::new();
        let mut trust = self.config.trust.clone();
        let first = Tls::of(&trust.borrow_and_update())?;
        let (websocket, websocket_tls) = LiveTls::new(first.websocket);
        let (https, https_tls) = LiveTls::new(first.https);
        self.start_websocket(&mut servers, websocket_tls, guests, &stop)?;
        self.start_https(&mut servers, https_tls, &stop)?;
        let mut sessions = Crew::new();
        ready.set();
        loop {
            tokio::select! {
                () = stop.raised() => break,
                Some(order) = self.orders.recv() => self.shared.registry.carry_out(order),
                Some(guest) = arriving.recv() => {
                    sessions.spawn(session::run(guest, self.shared.clone(), stop.child()));
                }
                Ok(()) = trust.changed() => retune(&trust.borrow_and_update(), &websocket, &https),
                Some(_) = sessions.ended() => {}
                Some(ended) = servers.ended() => {
                    if !stop.is_raised() {
                        let words = ended.err().unwrap_or_else(|| "it has ended by itself".to_owned());
                        return Err(panicked("a listener of the hub", &words));
                    }
                }
            }
        }
        servers.finish().await;
        sessions.finish().await;
        Ok(())
    }

    fn start_websocket(
        &self,
        servers: &mut Crew,
        tls: LiveTls,
        guests: mpsc::Sender<Guest>,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let (registry, refusals) = (self.shared.registry.clone(), self.shared.refusals.clone());
        let door = Door { registry, refusals, guests };
        let handler = move |request: Request<Incoming>, caller: Arc<Caller>| {
            let door = door.clone();
            async move {
                let asks = request.headers().contains_key(VERSION_HEADER);
                let mut response = door.let_in(request, &caller).unwrap_or_else(|refusal| refusal);
                if asks {
                    let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
                    response.headers_mut().insert(VERSION_HEADER, version);
                }
                response
            }
        };
        let listener = listener(&self.listeners.websocket)?;
        servers.spawn(serve_within(Limits::default(), listener, tls, stop.clone(), handler));
        Ok(())
    }

    fn start_https(&self, servers: &mut Crew, tls: LiveTls, stop: &Stop) -> Result<(), Failure> {
        let desk = certs::Desk {
            config: self.config.clone(),
            refusals: self.shared.refusals.clone(),
            arrivals: self.shared.arrivals.clone(),
            releases: self.releases.clone(),
            registry: self.shared.registry.clone(),
        };
        let handler = move |request, caller| certs::handle(desk.clone(), request, caller);
        servers.spawn(serve(listener(&self.listeners.https)?, tls, stop.clone(), handler));
        Ok(())
    }
}

/// The TLS configurations of both ports.
struct Tls {
    websocket: Arc<rustls::ServerConfig>,
    https: Arc<rustls::ServerConfig>,
}

impl Tls {
    fn of(trust: &Trust) -> Result<Tls, Failure> {
        let ca = &trust.accepted_pem;
        let mut websocket =
            rustls::ServerConfig::clone(&*server_config(&trust.identity, Clients::Required(ca))?);
        websocket.alpn_protocols = vec![b"http/1.1".to_vec()];
        let https = server_config(&trust.identity, Clients::Optional(ca))?;
        Ok(Tls { websocket: Arc::new(websocket), https })
    }
}

type TlsSender = watch::Sender<Arc<rustls::ServerConfig>>;

/// Handshakes from now on use what is trusted now.
fn retune(trust: &Trust, websocket: &TlsSender, https: &TlsSender) {
    match Tls::of(trust) {
        Ok(tls) => {
            websocket.send_replace(tls.websocket);
            https.send_replace(tls.https);
        }
        Err(failure) => {
            tracing::warn!(code = failure.code, error = %failure, "the new certificates cannot be used");
        }
    }
}

/// Says when to come back, in whole seconds.
fn later(mut response: Response<Body>, wait: Duration) -> Response<Body> {
    let seconds = HeaderValue::from(wait.as_secs().max(1));
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

/// Decides who gets a session.
#[derive(Clone)]
struct Door {
    registry: Registry,
    refusals: Refusals,
    guests: mpsc::Sender<Guest>,
}

impl Door {
    fn let_in(
        &self,
        mut request: Request<Incoming>,
        caller: &Caller,
    ) -> Result<Response<Body>, Response<Body>> {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let shown = caller.peer.as_ref().map_or("", |peer| peer.common_name.as_str());
        let note = |why, held| self.refusals.refuse_connection(shown, why, caller.remote, held);
        let refuse = |status, why: &'static str| {
            note(why, true);
            let mut refusal = text(status, why);
            let close = http::HeaderValue::from_static("close");
            refusal.headers_mut().insert(http::header::CONNECTION, close);
            refusal
        };
        let said = header("node_id").and_then(|name| NodeName::new(name).ok());
        let problem = match (caller.peer.as_ref().and_then(authz::node_of), &said) {
            (None, _) => Some("the certificate is not a node's"),
            (Some(node), Some(said)) if node == *said => None,
            (Some(_), _) => Some("the header node_id differs from the certificate"),
        };
        match problem {
            Some(why) if self.refusals.enforced() => return Err(refuse(StatusCode::FORBIDDEN, why)),
            Some(why) => note(why, false),
            None => {}
        }
        let Some(node) = said else {
            return Err(refuse(StatusCode::BAD_REQUEST, "the header node_id names no node"));
        };
        if header("connectionuse") != Some("msg") {
            return Err(refuse(StatusCode::BAD_REQUEST, "only connections for messages are served"));
        }
        let windowed = header(VERSION_HEADER).is_some();
        let digests = header(DIGEST_HEADER.0) == Some(DIGEST_HEADER.1);
        let instance = header(INSTANCE_HEADER).filter(|mark| !mark.is_empty() && mark.len() <= INSTANCE);
        let instance = instance.map(str::to_owned);
        if !self.registry.has_room(&node) {
            return Err(later(refuse(StatusCode::SERVICE_UNAVAILABLE, NODE_LIMIT), comeback::when_full()));
        }
        let (response, pending) = ws::upgrade(&mut request)?;
        let key = caller.cert_der.as_deref().map(cert_key).unwrap_or_default();
        let guest = Guest { node, remote: caller.remote, windowed, digests, instance, key, pending };
        if self.guests.try_send(guest).is_err() {
            let response = refuse(StatusCode::SERVICE_UNAVAILABLE, "too many nodes connect at once");
            return Err(later(response, comeback::after_rush(self.registry.most())));
        }
        Ok(response)
    }
}
