//! A small MQTT 3.1.1 client on the same codec: for commands that talk to the broker of a running daemon, and for the
//! simulator. Quality of service 0, a clean session, one connection; every wait has a limit.

use super::codec::{self, Level, Outbound, PublishHead};
use crate::base::{Exit, Failure, random_suffix};
use bytes::{Bytes, BytesMut};
use rumqttd::protocol::{
    Connect, ConnectReturnCode, Filter, Packet, PingReq, QoS, RetainForwardRule, Subscribe,
};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const PACKET_LIMIT: usize = 1 << 20;

/// One connection to a broker.
pub struct Client {
    address: String,
    stream: TcpStream,
    input: BytesMut,
    /// Messages that came while an answer was awaited.
    early: VecDeque<(Box<str>, Bytes)>,
}

impl Client {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Result<Client, Failure> {
        let connected = tokio::time::timeout(LIMIT, TcpStream::connect(address)).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(address, error)),
            Err(_) => return Err(unreachable(address, "no answer in time")),
        };
        stream.set_nodelay(true).map_err(|error| unreachable(address, error))?;
        let mut client =
            Client { address: address.to_owned(), stream, input: BytesMut::new(), early: VecDeque::new() };
        let client_id = format!("kedge-{}", random_suffix(8));
        let keep_alive = u16::try_from(KEEP_ALIVE.as_secs()).unwrap_or_default();
        let connect = Connect { keep_alive, client_id, clean_session: true };
        client.write(Packet::Connect(connect, None, None, None, None)).await?;
        client
            .answer(|packet| match packet {
                Packet::ConnAck(ack, _) => Some(ack.code == ConnectReturnCode::Success),
                _ => None,
            })
            .await?;
        Ok(client)
    }

    /// Subscribes and waits for the broker's word.
    pub async fn subscribe(&mut self, filters: &[&str]) -> Result<(), Failure> {
        let filter = |path: &&str| Filter {
            path: (*path).to_owned(),
            qos: QoS::AtMostOnce,
            nolocal: false,
            preserve_retain: false,
            retain_forward_rule: RetainForwardRule::OnEverySubscribe,
        };
        let filters = filters.iter().map(filter).collect();
        self.write(Packet::Subscribe(Subscribe { pkid: 1, filters }, None)).await?;
        self.answer(|packet| matches!(packet, Packet::SubAck(..)).then_some(true)).await
    }

    /// Publishes once, without a confirmation.
    pub async fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<(), Failure> {
        let payload = Bytes::copy_from_slice(payload);
        let head = PublishHead::default();
        let outbound =
            Outbound { topic, payload: &payload, head, again: false, retain: false, properties: None };
        let mut out = BytesMut::new();
        codec::encode_publish(Level::V311, outbound, &mut out);
        self.write_all(&out).await
    }

    /// The next message; keeps the connection alive while it waits. Not cancel-safe between a ping's bytes, so call it
    /// with [`Client::next_within`] where time matters.
    pub async fn next(&mut self) -> Result<(Box<str>, Bytes), Failure> {
        loop {
            if let Some(message) = self.next_within(KEEP_ALIVE / 2).await? {
                return Ok(message);
            }
            self.write(Packet::PingReq(PingReq)).await?;
        }
    }

    /// The next message within this time.
    pub async fn next_within(&mut self, limit: Duration) -> Result<Option<(Box<str>, Bytes)>, Failure> {
        if let Some(message) = self.early.pop_front() {
            return Ok(Some(message));
        }
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            match self.packet_before(deadline).await? {
                Some(packet) => {
                    if let Some(message) = message(packet) {
                        return Ok(Some(message));
                    }
                }
                None => return Ok(None),
            }
        }
    }

    async fn answer(&mut self, wanted: impl Fn(&Packet) -> Option<bool>) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let packet = self.packet_before(deadline).await?;
            let packet = packet.ok_or_else(|| unreachable(&self.address, "no answer in time"))?;
            match wanted(&packet) {
                Some(true) => return Ok(()),
                Some(false) => return Err(unreachable(&self.address, "the broker refuses the connection")),
                None => self.early.extend(message(packet)),
            }
        }
    }

    async fn packet_before(&mut self, deadline: tokio::time::Instant) -> Result<Option<Packet>, Failure> {
        loop {
            let decoded = codec::decode(Level::V311, &mut self.input, PACKET_LIMIT);
            if let Some((packet, _)) = decoded.map_err(|error| unreachable(&self.address, error))? {
                return Ok(Some(packet));
            }
            self.input.reserve(512);
            match tokio::time::timeout_at(deadline, self.stream.read_buf(&mut self.input)).await {
                Ok(Ok(0)) => return Err(unreachable(&self.address, "the broker closed the connection")),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(unreachable(&self.address, error)),
                Err(_) => return Ok(None),
            }
        }
    }

    async fn write(&mut self, packet: Packet) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        codec::encode(Level::V311, packet, &mut out);
        self.write_all(&out).await
    }

    async fn write_all(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match tokio::time::timeout(LIMIT, self.stream.write_all(bytes)).await {
            Ok(written) => written.map_err(|error| unreachable(&self.address, error)),
            Err(_) => Err(unreachable(&self.address, "the broker does not read")),
        }
    }
}

fn message(packet: Packet) -> Option<(Box<str>, Bytes)> {
    let Packet::Publish(publish, _) = packet else { return None };
    let topic = std::str::from_utf8(&publish.topic).ok()?;
    Some((topic.into(), publish.payload))
}

fn unreachable(address: &str, why: impl fmt::Display) -> Failure {
    Failure::new("KE-MQTT-001", format!("the MQTT broker at {address} cannot be used"))
        .because(why)
        .fix("check with `kedge status` that the edge runs, and the broker's address")
        .exit(Exit::Unreachable)
}
