//! The edge as a client of a foreign broker (protocol.md §5.1): one connection that listens and one that speaks, as
//! KubeEdge has them, each opened again 2 s after it is lost. What in-process readers want is what the foreign broker is
//! asked for; what comes goes to them alone, so two brokers never feed each other. The module starts both.

use super::codec::{Outbound, PublishHead};
use super::connection::settle;
use super::exchange::Exchange;
use super::line::{Broken, Greeting, Line};
use super::session::Message;
use super::topic;
use crate::base::{Failure, Stop, now_ms};
use crate::pki::{Identity, client_config};
use bytes::Bytes;
use rumqttd::protocol::{
    Disconnect, DisconnectReasonCode, Filter, Login, Packet, PingReq, PubAck, PubAckReason, QoS,
    RetainForwardRule, Subscribe, SubscribeReasonCode, Unsubscribe,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Before a connection is opened again: a broker that was away for a moment has the edge back within 5 s.
const AGAIN: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Messages that may be on their way unacknowledged.
const WINDOW: usize = 32;
/// Filters in one SUBSCRIBE.
const TOGETHER: usize = 64;
/// Messages that wait for the foreign broker, and their bytes; the oldest goes first.
const WAITING: usize = 1024;
const WAITING_BYTES: usize = 4 << 20;

/// A broker that is not ours.
#[derive(Clone, Debug)]
pub struct External {
    /// `host:port`.
    pub address: String,
    pub tls: Option<TlsFiles>,
    /// Name and password; an empty name means none.
    pub login: (String, crate::config::Hidden),
    /// Client names; empty ones are made from the time, as KubeEdge does.
    pub sub_client: String,
    pub pub_client: String,
}

/// What a TLS connection to the broker is made from; read at each connection.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Copy)]
enum Role {
    Listens,
    Speaks,
}

impl External {
    async fn connect(&self, role: Role, limit: usize) -> Result<Line, Broken> {
        let (configured, word) = match role {
            Role::Listens => (&self.sub_client, "sub"),
            Role::Speaks => (&self.pub_client, "pub"),
        };
        let client = if configured.is_empty() {
            let digits: String = now_ms().to_string().chars().take(10).collect();
            format!("hub-client-{word}-{digits}")
        } else {
            configured.clone()
        };
        let (username, password) = (self.login.0.clone(), self.login.1.reveal().to_owned());
        let login = (!username.is_empty()).then_some(Login { username, password });
        let tls = match self.tls.clone() {
            Some(files) => {
                let read = tokio::task::spawn_blocking(move || tls(&files)).await;
                Some(read.map_err(Broken::new)?.map_err(Broken::new)?)
            }
            None => None,
        };
        Line::open(&self.address, tls, Greeting { client, keep_alive: KEEP_ALIVE, login }, limit).await
    }
}

fn tls(files: &TlsFiles) -> Result<Arc<rustls::ClientConfig>, Failure> {
    let ca = crate::base::read_limited(&files.ca, 1 << 20)?;
    let identity = Identity::load(&files.cert, &files.key)?;
    client_config(&String::from_utf8_lossy(&ca), Some(&identity))
}

/// What the edge says and the foreign broker has not acknowledged yet. Bounded: the oldest is dropped.
#[derive(Default)]
pub(super) struct Outgoing {
    waiting: Mutex<VecDeque<Arc<Message>>>,
    bell: Notify,
}

impl Outgoing {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<Message>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message; says how many old ones made room for it.
    pub(super) fn push(&self, message: Arc<Message>) -> u64 {
        let mut waiting = self.waiting();
        let mut bytes: usize = waiting.iter().map(|held| held.weight()).sum::<usize>() + message.weight();
        let mut dropped = 0;
        while waiting.len() >= WAITING || bytes > WAITING_BYTES {
            let Some(oldest) = waiting.pop_front() else { break };
            bytes -= oldest.weight();
            dropped += 1;
        }
        waiting.push_back(message);
        self.bell.notify_one();
        dropped
    }

    /// Puts back what was sent and not acknowledged.
    fn put_back(&self, flights: BTreeMap<u16, Arc<Message>>) {
        let mut waiting = self.waiting();
        for (_, message) in flights.into_iter().rev() {
            waiting.push_front(message);
        }
    }
}

/// Listens until stopped.
pub(super) async fn listen(external: Arc<External>, exchange: Arc<Exchange>, limit: usize, stop: Stop) {
    let once = |line| listen_once(line, exchange.clone(), &stop);
    hold(&external, Role::Listens, limit, &stop, once).await;
}

/// Speaks until stopped.
pub(super) async fn speak(external: Arc<External>, outgoing: Arc<Outgoing>, limit: usize, stop: Stop) {
    let once = |line| speak_once(line, outgoing.clone(), &stop);
    hold(&external, Role::Speaks, limit, &stop, once).await;
}

/// Opens a connection again and again; each kind of failure is logged once until a connection held.
async fn hold<F>(external: &External, role: Role, limit: usize, stop: &Stop, serve: impl Fn(Line) -> F)
where
    F: Future<Output = Result<(), Broken>>,
{
    let mut told = String::new();
    while !stop.is_raised() {
        let Some(opened) = stop.or(external.connect(role, limit)).await else { return };
        let ended = match opened {
            Ok(line) => {
                tracing::info!(broker = external.address, "connected to the external MQTT broker");
                told.clear();
                serve(line).await
            }
            Err(broken) => Err(broken),
        };
        if let Err(broken) = ended {
            let why = broken.to_string();
            if why != told {
                tracing::warn!(
                    broker = external.address,
                    error = why,
                    "no connection to the external MQTT broker"
                );
                told = why;
            }
        }
        stop.or(tokio::time::sleep(AGAIN)).await;
    }
}

/// When to ping, and when the broker is taken for lost.
struct Pulse {
    heard: Instant,
    ping: Instant,
}

impl Pulse {
    fn new() -> Pulse {
        let now = Instant::now();
        Pulse { heard: now, ping: now + KEEP_ALIVE / 2 }
    }

    fn hear(&mut self) {
        self.heard = Instant::now();
    }

    /// Waits for the next ping; fails when nothing was heard for one and a half keepalives. Cancel-safe.
    async fn beat(&mut self) -> Result<(), Broken> {
        tokio::time::sleep_until(self.ping).await;
        if self.heard.elapsed() > KEEP_ALIVE + KEEP_ALIVE / 2 {
            return Err(Broken::new("the broker is silent"));
        }
        self.ping = Instant::now() + KEEP_ALIVE / 2;
        Ok(())
    }
}

fn goodbye() -> Packet {
    Packet::Disconnect(Disconnect { reason_code: DisconnectReasonCode::NormalDisconnection }, None)
}

async fn listen_once(mut line: Line, exchange: Arc<Exchange>, stop: &Stop) -> Result<(), Broken> {
    let mut wanted = exchange.wanted();
    let mut held = BTreeSet::new();
    let mut asked: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    let mut last = 0u16;
    let mut pulse = Pulse::new();
    wanted.mark_changed();
    loop {
        let incoming = tokio::select! {
            biased;
            () = stop.raised() => return line.say(goodbye()).await,
            Ok(()) = wanted.changed() => {
                let now = wanted.borrow_and_update().clone();
                for packet in changes(&held, &now, &mut asked, &mut last) {
                    line.say(packet).await?;
                }
                held = now;
                continue;
            }
            incoming = line.next() => incoming?,
            beat = pulse.beat() => {
                beat?;
                line.say(Packet::PingReq(PingReq)).await?;
                continue;
            }
        };
        pulse.hear();
        let acknowledge = match incoming {
            (Some(Packet::Publish(publish, _)), head) => {
                bring(&exchange, &publish.topic, &publish.payload).await;
                head
            }
            (None, head) => {
                tracing::warn!(
                    "a message of the external MQTT broker is larger than allowed and is passed over"
                );
                head
            }
            (Some(Packet::SubAck(ack, _)), _) => {
                let filters = asked.remove(&ack.pkid).unwrap_or_default();
                let refused = |code: &SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
                for (filter, _) in filters.iter().zip(&ack.return_codes).filter(|(_, code)| refused(code)) {
                    tracing::warn!(filter, "the external MQTT broker refuses a subscription");
                }
                continue;
            }
            (Some(_), _) => continue,
        };
        // Subscribed at quality 1, so nothing asks for the longer hand-shake.
        if acknowledge.qos > 0 {
            let pkid = acknowledge.packet;
            line.say(Packet::PubAck(PubAck { pkid, reason: PubAckReason::Success }, None)).await?;
        }
    }
}

async fn bring(exchange: &Exchange, topic: &[u8], payload: &Bytes) {
    let Some(topic) = std::str::from_utf8(topic).ok().filter(|topic| topic::is_topic(topic)) else { return };
    let (topic, payload) = (topic.into(), Bytes::copy_from_slice(payload));
    let message =
        Arc::new(Message { topic, payload, qos: 1, retain: false, properties: None, expires: None });
    settle(exchange, exchange.bring(&message), &message).await;
}

/// The packets that turn one set of filters into another.
fn changes(
    held: &BTreeSet<Box<str>>,
    wanted: &BTreeSet<Box<str>>,
    asked: &mut BTreeMap<u16, Vec<String>>,
    last: &mut u16,
) -> Vec<Packet> {
    let mut number = || {
        *last = last.checked_add(1).unwrap_or(1);
        *last
    };
    let mut packets = Vec::new();
    let gone: Vec<String> = held.difference(wanted).map(ToString::to_string).collect();
    for filters in gone.chunks(TOGETHER) {
        let unsubscribe = Unsubscribe { pkid: number(), filters: filters.to_vec() };
        packets.push(Packet::Unsubscribe(unsubscribe, None));
    }
    let new: Vec<String> = wanted.difference(held).map(ToString::to_string).collect();
    for paths in new.chunks(TOGETHER) {
        let filter = |path: &String| Filter {
            path: path.clone(),
            qos: QoS::AtLeastOnce,
            nolocal: false,
            preserve_retain: false,
            retain_forward_rule: RetainForwardRule::OnEverySubscribe,
        };
        let pkid = number();
        asked.insert(pkid, paths.to_vec());
        let filters = paths.iter().map(filter).collect();
        packets.push(Packet::Subscribe(Subscribe { pkid, filters }, None));
    }
    packets
}

async fn speak_once(mut line: Line, outgoing: Arc<Outgoing>, stop: &Stop) -> Result<(), Broken> {
    let mut flights = BTreeMap::new();
    let ended = speak_with(&mut line, &outgoing, &mut flights, stop).await;
    outgoing.put_back(flights);
    ended
}

async fn speak_with(
    line: &mut Line,
    outgoing: &Outgoing,
    flights: &mut BTreeMap<u16, Arc<Message>>,
    stop: &Stop,
) -> Result<(), Broken> {
    let mut last = 0u16;
    let mut pulse = Pulse::new();
    loop {
        while flights.len() < WINDOW {
            let Some(message) = outgoing.waiting().pop_front() else { break };
            last = last.checked_add(1).unwrap_or(1);
            flights.insert(last, message.clone());
            let head = PublishHead { qos: 1, packet: last };
            let (topic, payload) = (&*message.topic, &message.payload);
            let outbound = Outbound { topic, payload, head, again: false, retain: false, properties: None };
            line.publish(outbound).await?;
        }
        tokio::select! {
            biased;
            () = stop.raised() => return line.say(goodbye()).await,
            incoming = line.next() => {
                pulse.hear();
                if let (Some(Packet::PubAck(ack, _)), _) = incoming? {
                    flights.remove(&ack.pkid);
                }
            }
            () = outgoing.bell.notified(), if flights.len() < WINDOW => {}
            beat = pulse.beat() => {
                beat?;
                line.say(Packet::PingReq(PingReq)).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(size: usize) -> Arc<Message> {
        let payload = Bytes::from(vec![0; size]);
        Arc::new(Message {
            topic: "t".into(),
            payload,
            qos: 1,
            retain: false,
            properties: None,
            expires: None,
        })
    }

    #[test]
    fn what_an_absent_broker_does_not_take_is_bounded_and_the_newest_stays() {
        let outgoing = Outgoing::default();
        let dropped: u64 = (0..5000).map(|_| outgoing.push(message(10))).sum();
        assert_eq!(dropped, 5000 - WAITING as u64);
        for _ in 0..10 {
            outgoing.push(message(1 << 20));
        }
        let bytes: usize = outgoing.waiting().iter().map(|held| held.weight()).sum();
        assert!(bytes <= WAITING_BYTES && outgoing.waiting().back().unwrap().payload.len() == 1 << 20);
    }

    #[test]
    fn only_the_difference_of_filters_is_asked_for() {
        let set =
            |filters: &[&str]| filters.iter().map(|filter| (*filter).into()).collect::<BTreeSet<Box<str>>>();
        let (mut asked, mut last) = (BTreeMap::new(), u16::MAX);
        let packets = changes(&set(&["a", "b"]), &set(&["b", "c/#"]), &mut asked, &mut last);
        assert!(
            matches!(&packets[0], Packet::Unsubscribe(gone, _) if gone.filters == ["a"] && gone.pkid == 1)
        );
        assert!(matches!(&packets[1], Packet::Subscribe(new, _) if new.filters[0].path == "c/#"));
        assert_eq!((packets.len(), asked[&2].as_slice()), (2, &["c/#".to_owned()][..]));
        assert!(changes(&set(&["a"]), &set(&["a"]), &mut asked, &mut last).is_empty());
    }
}
