//! The MQTT broker inside the edge: 3.1.1 and 5 on one port, `$`-topics open to subscribers, everything bounded.
//! `device` and `mesh` hold a [`Broker`]; programs on the machine connect over TCP, our commands with a [`Client`]. It uses no other room.
//!
//! listener -> `connection` (one task per client) -> `codec` (bytes) and `exchange` (who wants what)
//! -> `session` (what waits for one client) -> that client's `connection`; in-process readers get a channel.
//! rumqttd gives the codec. Its router is not used: it forgets no topic and no filter, and drops messages silently.
//! A foreign broker (`external`) brings in-process readers what they want and is told what the edge says.

mod client;
mod codec;
mod connection;
mod exchange;
mod external;
mod line;
mod session;
mod topic;

#[cfg(test)]
mod tests;

use crate::base::{BoxFuture, Crew, Failure, Module, Ready, Stop};
use crate::host::ports::bind_failure;
use bytes::Bytes;
use exchange::Exchange;
use external::Outgoing;
use session::Message;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

pub use client::Client;
pub use exchange::Stats;
pub use external::{External, TlsFiles};

/// Messages that may wait for an in-process reader before its publishers wait.
const LOCAL_ROOM: usize = 1024;

/// How the broker serves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients of the broker inside connect; empty: there is none.
    pub listen: Vec<SocketAddr>,
    /// The broker that is not ours.
    pub external: Option<External>,
    /// Connections at once; one more is closed.
    pub connections: usize,
    /// The largest packet in bytes.
    pub packet_limit: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 1883)), SocketAddr::from(([127, 0, 0, 1], 1884))],
            external: None,
            connections: 1000,
            packet_limit: 1 << 20,
        }
    }
}

/// The in-process end of the broker; cheap to clone.
#[derive(Clone)]
pub struct Broker {
    exchange: Arc<Exchange>,
    addresses: watch::Receiver<Vec<SocketAddr>>,
    external: Option<(Arc<External>, Arc<Outgoing>)>,
}

/// An in-process subscription; dropping it ends it.
pub struct Subscription {
    id: u64,
    exchange: Arc<Exchange>,
    messages: mpsc::Receiver<Arc<Message>>,
}

impl Subscription {
    /// The next message with its topic. Cancel-safe.
    pub async fn next(&mut self) -> Option<(Box<str>, Bytes)> {
        self.messages.recv().await.map(|message| (message.topic.clone(), message.payload.clone()))
    }

    /// Also reads what this filter covers; `false` when it is no filter.
    pub fn add(&self, filter: &str) -> bool {
        self.exchange.add_local(self.id, filter)
    }

    /// No longer reads by this filter.
    pub fn remove(&self, filter: &str) {
        self.exchange.drop_local(self.id, filter);
    }

    /// A message that is already here.
    pub fn try_next(&mut self) -> Option<(Box<str>, Bytes)> {
        self.messages.try_recv().ok().map(|message| (message.topic.clone(), message.payload.clone()))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.exchange.forget_local(self.id);
    }
}

impl Broker {
    /// Publishes to clients, in-process readers and the foreign broker, which gets it later when it is away. A topic with
    /// wildcards goes to nobody.
    pub async fn publish(&self, topic: &str, payload: impl Into<Bytes>, retain: bool) {
        if !topic::is_topic(topic) {
            return;
        }
        let (topic, payload) = (topic.into(), payload.into());
        let message = Arc::new(Message { topic, payload, qos: 1, retain, properties: None, expires: None });
        if let Some((_, outgoing)) = &self.external {
            for _ in 0..outgoing.push(message.clone()) {
                self.exchange.missed();
            }
        }
        connection::pass(&self.exchange, message, None).await;
    }

    /// Subscribes in this process. A publisher waits while 1,024 messages are unread, so read them.
    pub fn subscribe(&self, filters: &[&str]) -> Subscription {
        let (id, messages) = self.exchange.subscribe_local(filters, LOCAL_ROOM);
        Subscription { id, exchange: self.exchange.clone(), messages }
    }

    pub fn stats(&self) -> Stats {
        self.exchange.stats()
    }

    /// The address of the foreign broker, `host:port`, when there is one.
    pub fn external(&self) -> Option<&str> {
        self.external.as_ref().map(|(external, _)| external.address.as_str())
    }

    /// The addresses that are served; empty until the listener is up.
    pub fn addresses(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.addresses.clone()
    }
}

struct MqttModule {
    config: Config,
    exchange: Arc<Exchange>,
    addresses: watch::Sender<Vec<SocketAddr>>,
    external: Option<(Arc<External>, Arc<Outgoing>)>,
}

/// The broker's handle and the module that listens. Without an address and without a foreign broker only this process
/// talks over it.
pub fn new(mut config: Config) -> (Broker, impl Module) {
    let exchange = Arc::new(Exchange::default());
    let (sender, addresses) = watch::channel(Vec::new());
    let external = config.external.take().map(|external| (Arc::new(external), Arc::default()));
    let broker = Broker { exchange: exchange.clone(), addresses, external: external.clone() };
    (broker, MqttModule { config, exchange, addresses: sender, external })
}

impl Module for MqttModule {
    fn name(&self) -> &'static str {
        "mqtt"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut listeners = Vec::new();
            let mut bound = Vec::new();
            for address in &self.config.listen {
                let listener = TcpListener::bind(address)
                    .await
                    .map_err(|error| bind_failure("the MQTT broker", *address, &error))?;
                bound.extend(listener.local_addr());
                listeners.push(listener);
            }
            self.addresses.send_replace(bound);
            ready.set();
            let room = Arc::new(Semaphore::new(self.config.connections));
            let mut crew = Crew::new();
            for listener in listeners {
                let (exchange, room) = (self.exchange.clone(), room.clone());
                crew.spawn(accept(listener, exchange, room, self.config.packet_limit, stop.clone()));
            }
            if let Some((external, outgoing)) = &self.external {
                let (limit, exchange) = (self.config.packet_limit, self.exchange.clone());
                crew.spawn(external::listen(external.clone(), exchange, limit, stop.clone()));
                crew.spawn(external::speak(external.clone(), outgoing.clone(), limit, stop.clone()));
            }
            crew.finish().await;
            // Without an address there is no listener; readers in this process are still served.
            stop.raised().await;
            Ok(())
        })
    }
}

async fn accept(
    listener: TcpListener,
    exchange: Arc<Exchange>,
    room: Arc<Semaphore>,
    limit: usize,
    stop: Stop,
) {
    let mut crew = Crew::new();
    let mut full = false;
    while let Some(accepted) = stop.or(listener.accept()).await {
        match accepted {
            Ok((stream, _peer)) => match room.clone().try_acquire_owned() {
                Ok(permit) => {
                    full = false;
                    crew.spawn(connected(stream, exchange.clone(), limit, stop.clone(), permit));
                }
                // Told once until there is room again: a client that is refused tries all the time.
                Err(_) if !std::mem::replace(&mut full, true) => {
                    tracing::warn!("MQTT connections over the limit are closed");
                }
                Err(_) => {}
            },
            // Too many open files: the listener is readable at once again, so do not spin on it.
            Err(error) => {
                tracing::warn!(%error, "an MQTT connection cannot be accepted");
                stop.or(tokio::time::sleep(Duration::from_millis(100))).await;
            }
        }
    }
    // Each connection sees the same stop and says good-bye itself.
    drop(tokio::time::timeout(Duration::from_secs(2), crew.finish()).await);
}

async fn connected(
    stream: TcpStream,
    exchange: Arc<Exchange>,
    limit: usize,
    stop: Stop,
    permit: OwnedSemaphorePermit,
) {
    // A peer that vanished without a word and asked for no keepalive is found by the kernel.
    let kept =
        stream.set_nodelay(true).is_ok() && rustix::net::sockopt::set_socket_keepalive(&stream, true).is_ok();
    if kept {
        connection::serve(stream, exchange, limit, stop).await;
    }
    drop(permit);
}
