//! Devices of this node and their twins: MQTT on one side, the cloud on the other, SQLite between.
//! `daemon/edge` starts it; `kedge twin` sets values through [`set_offline`] when no daemon runs. It never speaks to a
//! device in another way than over the broker.
//!
//! MQTT -> `payload` (read) -> `twin` (merge, pure) -> store (one commit) -> `payload` (write) -> MQTT
//!                                                      \-> `outbox` -> uplink -> cloud's confirmation -> row removed
//! store's change of a Device object -> `spec` -> `twin` -> the same way.

mod outbox;
mod payload;
mod room;
mod spec;
mod twin;

#[cfg(test)]
mod tests;

/// Letters of a property's name.
pub const NAME_LIMIT: usize = twin::NAME_LIMIT;
/// Letters of a property's value.
pub const VALUE_LIMIT: usize = twin::VALUE_LIMIT;
/// Reports to the cloud that wait one by one; then those of one device are joined.
pub const REPORTS_ONE_BY_ONE: usize = outbox::ONE_BY_ONE;

use super::mqtt::{Broker, Subscription};
use super::uplink::{Link, Receipt, ReportKey, Uplink};
use crate::base::{BoxFuture, Crew, Exit, Failure, Gone, Mail, Mailbox, Module, Ready, Stop, mailbox};
use crate::model::twin::{TwinProperty, TwinValue, Twins};
use crate::model::{DeviceId, Kind, NodeName, ObjectKey};
use crate::store::Store;
use crate::wire::topics::SUBSCRIPTIONS;
use crate::wire::{Answer, Membership};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use room::Room;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, oneshot};

/// Messages merged in one commit.
const BATCH: usize = 64;
/// How long the rows of confirmed reports may stay when no commit takes them along.
const TIDY: Duration = Duration::from_millis(300);
/// Before a report that the cloud refused for now, or that found no bearer, is offered again.
const AGAIN: Duration = Duration::from_secs(5);
/// How long all waiting reports together may hold up what devices say.
const HAND_OVER: Duration = Duration::from_millis(200);

/// After the first confirmation of a property it is told once more. Long enough for a start to be one message per device.
const ECHO: Duration = Duration::from_secs(2);

/// Whose devices these are.
#[derive(Clone, Debug)]
pub struct Config {
    pub node: NodeName,
}

/// What the switchboard brings, with the receipt that goes out after the commit.
enum Letter {
    Membership(Membership, Receipt),
    Sync(DeviceId, Twins, Receipt),
}

/// The way to the devices for other modules; cheap to clone.
#[derive(Clone)]
pub struct DeviceHandle {
    letters: Mailbox<Letter>,
}

impl DeviceHandle {
    /// Devices came to this node or left it; acknowledged once it is stored.
    pub async fn membership(&self, membership: Membership, receipt: Receipt) -> Result<(), Gone> {
        self.letters.put(Letter::Membership(membership, receipt)).await
    }

    /// Desired values from a cloud before KubeEdge 1.15; acknowledged once they are stored.
    pub async fn sync(&self, device: DeviceId, twins: Twins, receipt: Receipt) -> Result<(), Gone> {
        self.letters.put(Letter::Sync(device, twins, receipt)).await
    }
}

struct DeviceModule {
    config: Config,
    store: Store,
    uplink: Uplink,
    broker: Broker,
    letters: Mail<Letter>,
}

/// The handle and the module that keeps the twins.
pub fn new(config: Config, store: Store, uplink: Uplink, broker: Broker) -> (DeviceHandle, impl Module) {
    let (sender, letters) = mailbox(64);
    (DeviceHandle { letters: sender }, DeviceModule { config, store, uplink, broker, letters })
}

/// Sets the desired value of a property while no daemon runs; the next one tells the device and the cloud.
pub async fn set_offline(
    store: &Store,
    device: &DeviceId,
    property: &str,
    value: &str,
) -> Result<(), Failure> {
    let expected = Some(TwinValue { value: Some(value.to_owned()), metadata: None });
    let wanted =
        Twins::from([(property.to_owned(), Some(TwinProperty { expected, ..TwinProperty::default() }))]);
    room::set_stored(store, device, &wanted).await.map_err(|refusal| {
        Failure::new("KE-TWIN-004", format!("the value of {property} of {device} is not set"))
            .because(refusal.reason)
            .fix("use a value that the property's type allows")
            .exit(Exit::Failed)
    })
}

type Confirmations = FuturesUnordered<BoxFuture<'static, (u64, Option<Answer>)>>;

impl Module for DeviceModule {
    fn name(&self) -> &'static str {
        "device"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let changes = self.store.changes();
            let own: Vec<&str> = SUBSCRIPTIONS
                .into_iter()
                .filter(|filter| {
                    filter.starts_with("$hw/events/device/") || filter.starts_with("$hw/events/node/")
                })
                .collect();
            let inbox = self.broker.subscribe(&own);
            let mut crew = Crew::new();
            crew.spawn(note_addresses(self.broker.clone(), self.store.clone()));
            let node = self.config.node.clone();
            let mut room = Room::load(node, self.store.clone(), self.broker.clone()).await?;
            let mut link = self.uplink.link();
            room.online = *link.borrow_and_update() == Link::Up;
            room.look_at_all().await?;
            tracing::info!(devices = room.len(), "devices are served");
            ready.set();
            let serving = Serving {
                room,
                uplink: self.uplink.clone(),
                inbox,
                changes,
                confirmations: Confirmations::new(),
                again: None,
                tidy: None,
                echo: None,
            };
            serving.run(&mut self.letters, &mut link, stop).await
        })
    }
}

struct Serving {
    room: Room,
    uplink: Uplink,
    inbox: Subscription,
    changes: broadcast::Receiver<ObjectKey>,
    confirmations: Confirmations,
    /// When reports that wait are offered again.
    again: Option<tokio::time::Instant>,
    /// When the rows of confirmed reports are removed.
    tidy: Option<tokio::time::Instant>,
    /// When properties that are new to the cloud are told again.
    echo: Option<tokio::time::Instant>,
}

impl Serving {
    async fn run(
        mut self,
        letters: &mut Mail<Letter>,
        link: &mut tokio::sync::watch::Receiver<Link>,
        stop: Stop,
    ) -> Result<(), Failure> {
        loop {
            self.hand_over().await;
            let (again, tidy, echo) = (self.again, self.tidy, self.echo);
            tokio::select! {
                biased;
                () = stop.raised() => return Ok(()),
                Some((number, answer)) = self.confirmations.next() => self.confirmed(number, answer),
                // It cannot be closed while the room holds the store.
                changed @ (Ok(_) | Err(RecvError::Lagged(_))) = self.changes.recv() => self.changed(changed.ok()).await?,
                Some(letter) = letters.recv() => self.told(letter).await?,
                Ok(()) = link.changed() => self.room.online = *link.borrow_and_update() == Link::Up,
                message = self.inbox.next() => self.heard(message).await?,
                () = until(again) => self.again = None,
                () = until(tidy) => {
                    self.tidy = None;
                    self.room.forget_confirmed().await?;
                }
                () = until(echo) => {
                    self.echo = None;
                    self.room.echo().await?;
                }
            }
        }
    }

    async fn heard(&mut self, message: Option<(Box<str>, bytes::Bytes)>) -> Result<(), Failure> {
        let Some(message) = message else { return Ok(()) };
        let mut messages = vec![message];
        while messages.len() < BATCH
            && let Some(next) = self.inbox.try_next()
        {
            messages.push(next);
        }
        let mut batch = self.room.heard(&messages);
        let (store, change) = (self.room.store(), std::mem::take(&mut batch.change));
        // The disk is the slowest part of the way: the report travels while it works. A crash in between leaves the cloud
        // with a value that was measured, which the next report replaces.
        let commit = async { if change.is_empty() { Ok(()) } else { store.change_devices(change).await } };
        let (committed, ()) = tokio::join!(commit, self.hand_over());
        self.room.committed(committed, batch).await
    }

    /// `None` where changes were missed.
    async fn changed(&mut self, changed: Option<ObjectKey>) -> Result<(), Failure> {
        match changed {
            Some(key) => match (key.kind, &key.namespace) {
                (Kind::Device, Some(namespace)) => {
                    self.room.look_at(&DeviceId::new(namespace.clone(), key.name)).await
                }
                (Kind::DeviceModel, _) => self.room.look_at_model(&key).await,
                _ => Ok(()),
            },
            None => self.room.look_at_all().await,
        }
    }

    async fn told(&mut self, letter: Letter) -> Result<(), Failure> {
        let (stored, receipt) = match letter {
            Letter::Membership(membership, receipt) => {
                let mut stored = true;
                for id in &membership.removed {
                    stored &= self.room.withdrawn(id).await?;
                }
                for id in &membership.added {
                    stored &= self.room.added(id).await?;
                }
                (stored, receipt)
            }
            Letter::Sync(device, twins, receipt) => (self.room.sync(&device, &twins).await?, receipt),
        };
        if stored {
            receipt.stored();
        }
        Ok(())
    }

    /// Gives waiting reports to the uplink, in order, while the link is up.
    async fn hand_over(&mut self) {
        if !self.room.online || self.again.is_some() || !self.room.outbox.has_waiting() {
            return;
        }
        let deadline = tokio::time::Instant::now() + HAND_OVER;
        let mut waiting = self.room.outbox.take_waiting().into_iter();
        for (number, up) in waiting.by_ref() {
            match tokio::time::timeout_at(deadline, self.uplink.report(key(number), up)).await {
                Ok(Ok(answer)) => self.confirmations.push(Box::pin(confirmation(number, answer))),
                Ok(Err(Gone)) | Err(_) => {
                    self.put_back(number);
                    break;
                }
            }
        }
        // Behind a report that found no bearer the others wait, in order.
        waiting.for_each(|(number, _)| self.room.outbox.give_back(number));
    }

    fn put_back(&mut self, number: u64) {
        self.room.outbox.give_back(number);
        self.again.get_or_insert_with(|| tokio::time::Instant::now() + AGAIN);
    }

    fn confirmed(&mut self, number: u64, answer: Option<Answer>) {
        match answer {
            None => return self.put_back(number),
            Some(Answer::Failed(status)) if status.code >= 500 => {
                tracing::warn!(code = status.code, "the cloud cannot take a device's report for now");
                return self.put_back(number);
            }
            Some(Answer::Failed(status)) => {
                tracing::warn!(code = status.code, "the cloud refuses a device's report");
                drop(self.room.refused(number));
            }
            Some(_) if self.room.confirmed(number) => {
                self.echo.get_or_insert_with(|| tokio::time::Instant::now() + ECHO);
            }
            Some(_) => {}
        }
        self.tidy.get_or_insert_with(|| tokio::time::Instant::now() + TIDY);
    }
}

/// Where commands on this machine find the broker: room and key in `kedge_state`.
pub const ADDRESSES: (&str, &str) = ("mqtt", "addresses");

async fn note_addresses(broker: Broker, store: Store) {
    let mut addresses = broker.addresses();
    // Clients go to the foreign broker only where none is inside.
    if let Some(external) = broker.external() {
        note(&store, &[external.to_owned()]).await;
    }
    while let Ok(bound) = addresses.wait_for(|bound| !bound.is_empty()).await.map(|bound| bound.clone()) {
        let text: Vec<String> = bound.iter().map(ToString::to_string).collect();
        note(&store, &text).await;
        if addresses.changed().await.is_err() {
            return;
        }
    }
}

async fn note(store: &Store, addresses: &[String]) {
    let (room, key) = ADDRESSES;
    if let Err(failure) = store.put_state(room, key, &serde_json::json!(addresses)).await {
        tracing::warn!(code = failure.code, error = %failure, "the broker's address cannot be stored");
    }
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn confirmation(number: u64, answer: oneshot::Receiver<Answer>) -> (u64, Option<Answer>) {
    (number, answer.await.ok())
}

fn key(number: u64) -> ReportKey {
    ReportKey(format!("device/{number}"))
}
