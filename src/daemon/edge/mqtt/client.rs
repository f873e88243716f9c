//! A small MQTT 3.1.1 client on the same codec: for commands that talk to the broker of a running daemon, and for the
//! simulator. Quality of service 0, a clean session, one connection; every wait has a limit.

use super::codec::{Outbound, PublishHead};
use super::line::{Broken, Greeting, LIMIT, Line};
use crate::base::{Exit, Failure, random_suffix};
use bytes::Bytes;
use rumqttd::protocol::{Filter, Packet, PingReq, QoS, RetainForwardRule, Subscribe};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

const KEEP_ALIVE: Duration = Duration::from_secs(60);
const PACKET_LIMIT: usize = 1 << 20;

/// One connection to a broker.
pub struct Client {
    address: String,
    line: Line,
    /// Messages that came while an answer was awaited.
    early: VecDeque<(Box<str>, Bytes)>,
}

impl Client {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Result<Client, Failure> {
        let client = format!("kedge-{}", random_suffix(8));
        let greeting = Greeting { client, keep_alive: KEEP_ALIVE, login: None };
        let line = Line::open(address, None, greeting, PACKET_LIMIT).await;
        let line = line.map_err(|broken| unreachable(address, broken))?;
        Ok(Client { address: address.to_owned(), line, early: VecDeque::new() })
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
        self.answer(|packet| matches!(packet, Packet::SubAck(..))).await
    }

    /// Publishes once, without a confirmation.
    pub async fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<(), Failure> {
        let payload = Bytes::copy_from_slice(payload);
        let head = PublishHead::default();
        let outbound =
            Outbound { topic, payload: &payload, head, again: false, retain: false, properties: None };
        let published = self.line.publish(outbound).await;
        self.usable(published)
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

    async fn answer(&mut self, wanted: impl Fn(&Packet) -> bool) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let packet = self.packet_before(deadline).await?;
            let packet = packet.ok_or_else(|| unreachable(&self.address, "no answer in time"))?;
            if wanted(&packet) {
                return Ok(());
            }
            self.early.extend(message(packet));
        }
    }

    async fn packet_before(&mut self, deadline: tokio::time::Instant) -> Result<Option<Packet>, Failure> {
        loop {
            let Ok(next) = tokio::time::timeout_at(deadline, self.line.next()).await else { return Ok(None) };
            if let (Some(packet), _) = self.usable(next)? {
                return Ok(Some(packet));
            }
        }
    }

    async fn write(&mut self, packet: Packet) -> Result<(), Failure> {
        let written = self.line.say(packet).await;
        self.usable(written)
    }

    fn usable<T>(&self, outcome: Result<T, Broken>) -> Result<T, Failure> {
        outcome.map_err(|broken| unreachable(&self.address, broken))
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
