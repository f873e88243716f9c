//! One client's connection from CONNECT to its end. Reads packets, answers them, writes what waits in the outbox. Every
//! wrong input ends in a protocol answer or in this one connection closed; a reader that does not read stalls itself only.

use super::codec::{self, Level, Malformed, Outbound, PublishHead};
use super::exchange::{Attached, Exchange, Passed, Refusal, Retained, Session, Wish};
use super::session::{Message, Send};
use super::topic;
use crate::base::{Stop, uuid4};
use bytes::{Bytes, BytesMut};
use rumqttd::protocol::{
    ConnAck, ConnAckProperties, Connect, ConnectProperties, ConnectReturnCode, Disconnect,
    DisconnectReasonCode, Filter, LastWill, LastWillProperties, Packet, PingResp, PubAck, PubAckReason,
    PubComp, PubCompReason, PubRec, PubRecReason, PubRel, PubRelReason, Publish, PublishProperties, QoS,
    RetainForwardRule, SubAck, Subscribe, SubscribeReasonCode, UnsubAck, UnsubAckReason, Unsubscribe,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Time for the first packet, and for a write to a peer that does not read.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait of a publisher for an in-process reader.
const LOCAL_LIMIT: Duration = Duration::from_secs(10);
/// Bytes gathered before they are written.
const WRITE_BATCH: usize = 64 << 10;
/// Longest client name.
const NAME_LIMIT: usize = 1024;
/// How long a session of version 3.1.1 without "clean" stays.
const SESSION_STAYS: Duration = Duration::from_secs(24 * 3600);

/// Why a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The client said good-bye; the will is not published.
    Goodbye(Option<Duration>),
    /// The peer is gone or does not keep to the protocol.
    Lost,
    /// We close, with a reason for version 5.
    Closed(DisconnectReasonCode),
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> Self {
        End::Closed(match malformed {
            Malformed::TooLarge => DisconnectReasonCode::PacketTooLarge,
            _ => DisconnectReasonCode::MalformedPacket,
        })
    }
}

struct Connection {
    stream: TcpStream,
    exchange: Arc<Exchange>,
    limit: usize,
    input: BytesMut,
    output: BytesMut,
    level: Level,
}

/// Serves one connection until it ends.
pub(super) async fn serve(stream: TcpStream, exchange: Arc<Exchange>, limit: usize, stop: Stop) {
    let (input, output) = (BytesMut::with_capacity(1024), BytesMut::new());
    let mut connection = Connection { stream, exchange, limit, input, output, level: Level::V311 };
    let first = tokio::time::timeout(CONNECT_LIMIT, connection.first_packet());
    let Some(Ok(Some(packet))) = stop.or(first).await else { return };
    connection.greeted(packet, &stop).await;
}

impl Connection {
    async fn first_packet(&mut self) -> Option<Packet> {
        loop {
            match codec::decode_connect(&mut self.input, self.limit) {
                Ok(Some((level, packet))) => {
                    self.level = level;
                    return Some(packet);
                }
                Ok(None) => {}
                Err(malformed) => {
                    if malformed == Malformed::Version {
                        self.refuse(ConnectReturnCode::RefusedProtocolVersion).await;
                    }
                    return None;
                }
            }
            self.fill().await.ok()?;
        }
    }

    /// Reads what the peer sends. Cancel-safe.
    async fn fill(&mut self) -> Result<(), End> {
        self.input.reserve(512);
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) | Err(_) => Err(End::Lost),
            Ok(_) => Ok(()),
        }
    }

    async fn refuse(&mut self, code: ConnectReturnCode) {
        self.say(Packet::ConnAck(ConnAck { session_present: false, code }, None));
        drop(self.flush().await);
    }

    fn say(&mut self, packet: Packet) {
        if !codec::encode(self.level, packet, &mut self.output) {
            tracing::error!("an MQTT packet cannot be written");
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        if self.output.is_empty() {
            return Ok(());
        }
        let written = tokio::time::timeout(WRITE_LIMIT, self.stream.write_all(&self.output)).await;
        self.output.clear();
        if self.output.capacity() > WRITE_BATCH {
            self.output = BytesMut::new();
        }
        if matches!(written, Ok(Ok(()))) { Ok(()) } else { Err(End::Lost) }
    }

    async fn greeted(&mut self, packet: Packet, stop: &Stop) {
        let Packet::Connect(connect, properties, will, will_properties, _login) = packet else { return };
        let greeting = match Greeting::read(self.level, connect, properties) {
            Ok(greeting) => greeting,
            Err(code) => return self.refuse(code).await,
        };
        let attached =
            self.exchange.attach(&greeting.name, greeting.clean, greeting.stays, greeting.window, stop);
        self.say(greeting.answer(self.level, attached.present, self.limit));
        let end = self.talk(&attached, greeting.keep_alive, stop).await;
        let stays = if let End::Goodbye(stays) = &end { *stays } else { None };
        if let End::Closed(reason_code) = end
            && self.level == Level::V5
        {
            self.say(Packet::Disconnect(Disconnect { reason_code }, None));
            drop(self.flush().await);
        }
        self.exchange.detach(&attached.session, attached.era, stays);
        if !matches!(end, End::Goodbye(_))
            && let Some(message) = will.and_then(|will| will_message(will, will_properties))
        {
            pass(&self.exchange, Arc::new(message), Some(&attached.session)).await;
        }
    }

    async fn talk(&mut self, attached: &Attached, keep_alive: Option<Duration>, stop: &Stop) -> End {
        let mut heard = Instant::now();
        loop {
            if let Err(end) = self.step(attached).await {
                drop(self.flush().await);
                return end;
            }
            if let Err(end) = self.flush().await {
                return end;
            }
            if self.has_work(attached) {
                continue;
            }
            let silence = async {
                match keep_alive {
                    Some(limit) => tokio::time::sleep_until((heard + limit).into()).await,
                    None => std::future::pending().await,
                }
            };
            let read = tokio::select! {
                biased;
                () = attached.kicked.raised() => return End::Closed(
                    if stop.is_raised() { DisconnectReasonCode::ServerShuttingDown } else { DisconnectReasonCode::SessionTakenOver },
                ),
                read = self.fill() => Some(read),
                () = attached.session.bell.notified() => None,
                () = silence => return End::Closed(DisconnectReasonCode::KeepAliveTimeout),
            };
            match read {
                Some(Ok(())) => heard = Instant::now(),
                Some(Err(end)) => return end,
                None => {}
            }
        }
    }

    /// Whether a whole packet may still stand in the input because a batch was full.
    fn has_work(&self, attached: &Attached) -> bool {
        !attached.kicked.is_raised() && codec::is_complete(&self.input, self.limit)
    }

    /// Answers the packets that are here, then takes from the outbox, up to one batch.
    async fn step(&mut self, attached: &Attached) -> Result<(), End> {
        while self.output.len() < WRITE_BATCH {
            let Some((packet, head)) = codec::decode(self.level, &mut self.input, self.limit)? else { break };
            self.answer(packet, head, attached).await?;
        }
        while self.output.len() < WRITE_BATCH {
            let next = attached.session.outbox().next(attached.era, Instant::now());
            match next {
                Some(send) => self.send(send),
                None => return Ok(()),
            }
        }
        // The batch is full: there may be more in the outbox.
        attached.session.bell.notify_one();
        Ok(())
    }

    fn send(&mut self, send: Send) {
        match send {
            Send::Release { packet } => {
                self.say(Packet::PubRel(PubRel { pkid: packet, reason: PubRelReason::Success }, None));
            }
            Send::Publish { delivery, packet, again } => {
                let message = &delivery.message;
                let properties = message.properties.as_deref().cloned().map(|mut properties| {
                    let left =
                        message.expires.map(|at| at.saturating_duration_since(Instant::now()).as_secs());
                    properties.message_expiry_interval = left.and_then(|left| u32::try_from(left).ok());
                    properties
                });
                let head = PublishHead { qos: delivery.qos, packet };
                let (topic, payload) = (&*message.topic, &message.payload);
                let outbound = Outbound { topic, payload, head, again, retain: delivery.retain, properties };
                if !codec::encode_publish(self.level, outbound, &mut self.output) {
                    tracing::error!("an MQTT message cannot be written");
                }
            }
        }
    }

    async fn answer(&mut self, packet: Packet, head: PublishHead, attached: &Attached) -> Result<(), End> {
        let session = &attached.session;
        match packet {
            Packet::Publish(publish, properties) => {
                self.published(publish, properties, head, session).await?
            }
            Packet::PubAck(ack, _) => session.outbox().acknowledged(ack.pkid),
            Packet::PubComp(complete, _) => session.outbox().acknowledged(complete.pkid),
            Packet::PubRec(received, _) => {
                session.outbox().arrived(received.pkid);
                self.say(Packet::PubRel(PubRel { pkid: received.pkid, reason: PubRelReason::Success }, None));
            }
            Packet::PubRel(release, _) => {
                session.outbox().release(release.pkid);
                self.say(Packet::PubComp(
                    PubComp { pkid: release.pkid, reason: PubCompReason::Success },
                    None,
                ));
            }
            Packet::Subscribe(subscribe, properties) => {
                if properties.is_some_and(|properties| properties.id.is_some()) {
                    return Err(End::Closed(DisconnectReasonCode::SubscriptionIdentifiersNotSupported));
                }
                self.subscribed(subscribe, session)?;
            }
            Packet::Unsubscribe(unsubscribe, _) => self.unsubscribed(&unsubscribe, session)?,
            Packet::PingReq(_) => self.say(Packet::PingResp(PingResp)),
            Packet::Disconnect(disconnect, properties) => {
                if disconnect.reason_code == DisconnectReasonCode::DisconnectWithWillMessage {
                    return Err(End::Lost);
                }
                let stays = properties.and_then(|properties| properties.session_expiry_interval);
                return Err(End::Goodbye(stays.map(|seconds| Duration::from_secs(seconds.into()))));
            }
            _ => return Err(End::Closed(DisconnectReasonCode::ProtocolError)),
        }
        Ok(())
    }

    async fn published(
        &mut self,
        publish: Publish,
        properties: Option<PublishProperties>,
        head: PublishHead,
        session: &Arc<Session>,
    ) -> Result<(), End> {
        if properties.as_ref().is_some_and(|properties| properties.topic_alias.is_some()) {
            return Err(End::Closed(DisconnectReasonCode::TopicAliasInvalid));
        }
        let topic = std::str::from_utf8(&publish.topic).ok().filter(|topic| topic::is_topic(topic));
        let topic = topic.ok_or(End::Closed(DisconnectReasonCode::TopicNameInvalid))?;
        if head.qos < 2 || session.outbox().receive(head.packet) {
            let message = message(topic, &publish.payload, head.qos, publish.retain, properties);
            pass(&self.exchange, Arc::new(message), Some(session)).await;
        }
        let pkid = head.packet;
        match head.qos {
            1 => self.say(Packet::PubAck(PubAck { pkid, reason: PubAckReason::Success }, None)),
            2 => self.say(Packet::PubRec(PubRec { pkid, reason: PubRecReason::Success }, None)),
            _ => {}
        }
        Ok(())
    }

    fn subscribed(&mut self, subscribe: Subscribe, session: &Arc<Session>) -> Result<(), End> {
        if subscribe.pkid == 0 || subscribe.filters.is_empty() {
            return Err(End::Closed(DisconnectReasonCode::ProtocolError));
        }
        let grant = |filter: &Filter| {
            let outcome = self.exchange.subscribe(session, &filter.path, wish(filter));
            match (outcome, self.level) {
                (Ok(()), _) => SubscribeReasonCode::Success(filter.qos),
                (Err(_), Level::V311) => SubscribeReasonCode::Failure,
                (Err(Refusal::Filter), Level::V5) => SubscribeReasonCode::TopicFilterInvalid,
                (Err(Refusal::Quota), Level::V5) => SubscribeReasonCode::QuotaExceeded,
            }
        };
        let return_codes = subscribe.filters.iter().map(grant).collect();
        self.say(Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes }, None));
        Ok(())
    }

    fn unsubscribed(&mut self, unsubscribe: &Unsubscribe, session: &Session) -> Result<(), End> {
        if unsubscribe.pkid == 0 || unsubscribe.filters.is_empty() {
            return Err(End::Closed(DisconnectReasonCode::ProtocolError));
        }
        let drop_one = |filter: &String| {
            if self.exchange.unsubscribe(session, filter) {
                UnsubAckReason::Success
            } else {
                UnsubAckReason::NoSubscriptionExisted
            }
        };
        let reasons = unsubscribe.filters.iter().map(drop_one).collect();
        self.say(Packet::UnsubAck(UnsubAck { pkid: unsubscribe.pkid, reasons }, None));
        Ok(())
    }
}

/// What a CONNECT asks for, checked.
struct Greeting {
    name: String,
    assigned: bool,
    clean: bool,
    stays: Duration,
    window: Option<u16>,
    keep_alive: Option<Duration>,
}

impl Greeting {
    fn read(
        level: Level,
        connect: Connect,
        properties: Option<ConnectProperties>,
    ) -> Result<Self, ConnectReturnCode> {
        let assigned = connect.client_id.is_empty();
        let bad_name = connect.client_id.len() > NAME_LIMIT
            || connect.client_id.contains('\0')
            || (assigned && level == Level::V311 && !connect.clean_session);
        if bad_name {
            return Err(ConnectReturnCode::ClientIdentifierNotValid);
        }
        let name = if assigned { format!("auto-{}", uuid4()) } else { connect.client_id };
        let stays = match level {
            Level::V311 if connect.clean_session => Duration::ZERO,
            Level::V311 => SESSION_STAYS,
            Level::V5 => {
                let seconds = properties.as_ref().and_then(|properties| properties.session_expiry_interval);
                Duration::from_secs(seconds.unwrap_or(0).into())
            }
        };
        let keep_alive =
            (connect.keep_alive > 0).then(|| Duration::from_millis(u64::from(connect.keep_alive) * 1500));
        let window = properties.and_then(|properties| properties.receive_maximum);
        Ok(Greeting { name, assigned, clean: connect.clean_session, stays, window, keep_alive })
    }

    fn answer(&self, level: Level, session_present: bool, limit: usize) -> Packet {
        let properties = (level == Level::V5).then(|| ConnAckProperties {
            max_packet_size: u32::try_from(limit).ok(),
            assigned_client_identifier: self.assigned.then(|| self.name.clone()),
            subscription_identifiers_available: Some(0),
            ..ConnAckProperties::default()
        });
        Packet::ConnAck(ConnAck { session_present, code: ConnectReturnCode::Success }, properties)
    }
}

fn wish(filter: &Filter) -> Wish {
    Wish {
        qos: filter.qos as u8,
        no_local: filter.nolocal,
        as_published: filter.preserve_retain,
        retained: match filter.retain_forward_rule {
            RetainForwardRule::OnEverySubscribe => Retained::Always,
            RetainForwardRule::OnNewSubscribe => Retained::IfNew,
            RetainForwardRule::Never => Retained::Never,
        },
    }
}

/// The payload is copied: a small message must not keep a large read buffer alive.
fn message(
    topic: &str,
    payload: &[u8],
    qos: u8,
    retain: bool,
    properties: Option<PublishProperties>,
) -> Message {
    let seconds = properties.as_ref().and_then(|properties| properties.message_expiry_interval);
    let expires = seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds.into())));
    let payload = Bytes::copy_from_slice(payload);
    Message { topic: topic.into(), payload, qos, retain, properties: properties.map(Box::new), expires }
}

fn will_message(will: LastWill, properties: Option<LastWillProperties>) -> Option<Message> {
    let topic = std::str::from_utf8(&will.topic).ok().filter(|topic| topic::is_topic(topic))?;
    let qos = match will.qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    };
    let properties = properties.map(|will| PublishProperties {
        payload_format_indicator: will.payload_format_indicator,
        message_expiry_interval: will.message_expiry_interval,
        response_topic: will.response_topic,
        correlation_data: will.correlation_data,
        user_properties: will.user_properties,
        content_type: will.content_type,
        ..PublishProperties::default()
    });
    Some(message(topic, &will.message, qos, will.retain, properties))
}

/// Passes a message on.
pub(super) async fn pass(exchange: &Exchange, message: Arc<Message>, from: Option<&Session>) {
    settle(exchange, exchange.publish(&message, from), &message).await;
}

/// Waits for the readers that must not miss a message.
pub(super) async fn settle(exchange: &Exchange, passed: Passed, message: &Arc<Message>) {
    for reader in passed.waiting {
        if let Err(tokio::sync::mpsc::error::SendTimeoutError::Timeout(_)) =
            reader.send_timeout(message.clone(), LOCAL_LIMIT).await
        {
            exchange.missed();
            tracing::warn!("an in-process MQTT reader does not read; a message is dropped");
        }
    }
    if passed.crowded {
        tokio::task::yield_now().await;
    }
}
