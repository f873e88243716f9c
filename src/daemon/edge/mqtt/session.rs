//! What is kept for one client between its connections: messages that wait for it and hand-shakes that are not finished.
//! Pure and bounded; the exchange pushes, the client's connection takes. Never grows with what a client does not read.

use bytes::Bytes;
use rumqttd::protocol::PublishProperties;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Messages that may wait for one client, and their bytes.
const WAITING: usize = 4096;
const WAITING_BYTES: usize = 2 << 20;
/// Messages that may be on their way to a client unacknowledged.
const WINDOW: usize = 64;

/// A message as it was published.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) topic: Box<str>,
    pub(super) payload: Bytes,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) properties: Option<Box<PublishProperties>>,
    pub(super) expires: Option<Instant>,
}

impl Message {
    pub(super) fn weight(&self) -> usize {
        self.topic.len() + self.payload.len() + 64
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// A message for one client.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) message: Arc<Message>,
    pub(super) qos: u8,
    pub(super) retain: bool,
}

/// What the connection is to send next.
#[derive(Debug)]
pub(super) enum Send {
    Publish { delivery: Delivery, packet: u16, again: bool },
    Release { packet: u16 },
}

enum Flight {
    Published(Delivery),
    Released,
}

/// The state of one client.
#[derive(Default)]
pub(super) struct Outbox {
    /// Counts the connections of the session; only the newest one may take.
    pub(super) era: u64,
    window: usize,
    waiting: VecDeque<Delivery>,
    bytes: usize,
    flights: BTreeMap<u16, Flight>,
    resend: VecDeque<u16>,
    last_packet: u16,
    received: HashSet<u16>,
}

impl Outbox {
    /// A new connection takes over: what was on its way is sent again. `window` is what the client asks for.
    pub(super) fn begin(&mut self, window: Option<u16>) -> u64 {
        self.era += 1;
        self.window = window.map_or(WINDOW, |w| usize::from(w).clamp(1, WINDOW));
        self.resend = self.flights.keys().copied().collect();
        self.era
    }

    /// Adds a message; `false` when there is no room and it is dropped.
    pub(super) fn push(&mut self, delivery: Delivery) -> bool {
        let weight = delivery.message.weight();
        if self.waiting.len() >= WAITING || self.bytes + weight > WAITING_BYTES {
            return false;
        }
        self.bytes += weight;
        self.waiting.push_back(delivery);
        true
    }

    /// Whether a quarter of the room is taken: a publisher then lets the reader have its turn.
    pub(super) fn is_filling(&self) -> bool {
        self.waiting.len() > WAITING / 4 || self.bytes > WAITING_BYTES / 4
    }

    /// The next thing to send in this era; QoS 1 and 2 wait while the window is full.
    pub(super) fn next(&mut self, era: u64, now: Instant) -> Option<Send> {
        if era != self.era {
            return None;
        }
        while let Some(packet) = self.resend.pop_front() {
            match self.flights.get(&packet) {
                Some(Flight::Published(delivery)) => {
                    return Some(Send::Publish { delivery: delivery.clone(), packet, again: true });
                }
                Some(Flight::Released) => return Some(Send::Release { packet }),
                None => {}
            }
        }
        loop {
            let front = self.waiting.front()?;
            if front.qos > 0 && self.flights.len() >= self.window {
                return None;
            }
            let delivery = self.waiting.pop_front()?;
            self.bytes = self.bytes.saturating_sub(delivery.message.weight());
            if delivery.message.is_expired(now) {
                continue;
            }
            let packet = if delivery.qos == 0 { 0 } else { self.fly(&delivery) };
            return Some(Send::Publish { delivery, packet, again: false });
        }
    }

    fn fly(&mut self, delivery: &Delivery) -> u16 {
        loop {
            self.last_packet = self.last_packet.checked_add(1).unwrap_or(1);
            if !self.flights.contains_key(&self.last_packet) {
                self.flights.insert(self.last_packet, Flight::Published(delivery.clone()));
                return self.last_packet;
            }
        }
    }

    /// PUBACK or PUBCOMP: the hand-shake is over. Unknown identifiers are nothing to us.
    pub(super) fn acknowledged(&mut self, packet: u16) {
        self.flights.remove(&packet);
    }

    /// PUBREC: the message has arrived; from now on only PUBREL is sent.
    pub(super) fn arrived(&mut self, packet: u16) {
        if let Some(flight) = self.flights.get_mut(&packet) {
            *flight = Flight::Released;
        }
    }

    /// A QoS 2 PUBLISH came in: whether it is the first with this identifier.
    pub(super) fn receive(&mut self, packet: u16) -> bool {
        self.received.insert(packet)
    }

    /// PUBREL came in: the identifier is free again.
    pub(super) fn release(&mut self, packet: u16) {
        self.received.remove(&packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(qos: u8, size: usize) -> Delivery {
        let payload = Bytes::from(vec![0; size]);
        let message =
            Message { topic: "t".into(), payload, qos, retain: false, properties: None, expires: None };
        Delivery { message: Arc::new(message), qos, retain: false }
    }

    #[test]
    fn what_is_not_read_stops_growing() {
        let mut outbox = Outbox::default();
        let kept = (0..100_000).filter(|_| outbox.push(delivery(1, 1000))).count();
        assert!(kept <= WAITING && kept * 1000 <= WAITING_BYTES);
    }

    #[test]
    fn unacknowledged_messages_are_sent_again_on_the_next_connection() {
        let mut outbox = Outbox::default();
        let era = outbox.begin(None);
        outbox.push(delivery(2, 1));
        outbox.push(delivery(1, 1));
        for _ in 0..2 {
            assert!(matches!(outbox.next(era, Instant::now()), Some(Send::Publish { again: false, .. })));
        }
        outbox.arrived(1);
        let next = outbox.begin(None);
        assert!(outbox.next(era, Instant::now()).is_none(), "the old connection takes nothing");
        assert!(matches!(outbox.next(next, Instant::now()), Some(Send::Release { packet: 1 })));
        assert!(matches!(
            outbox.next(next, Instant::now()),
            Some(Send::Publish { packet: 2, again: true, .. })
        ));
        outbox.acknowledged(1);
        outbox.acknowledged(2);
        assert!(outbox.flights.is_empty());
    }

    #[test]
    fn the_window_of_the_client_is_kept() {
        let mut outbox = Outbox::default();
        let era = outbox.begin(Some(2));
        for _ in 0..5 {
            outbox.push(delivery(1, 1));
        }
        assert!(outbox.next(era, Instant::now()).is_some() && outbox.next(era, Instant::now()).is_some());
        assert!(outbox.next(era, Instant::now()).is_none());
        outbox.acknowledged(1);
        assert!(outbox.next(era, Instant::now()).is_some());
    }
}
