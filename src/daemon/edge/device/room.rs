//! The devices of this node while the daemon runs: what is stored, held in memory, and what one event makes of it. An
//! event is merged (pure) and its rows are committed at once; the device hears of it after the commit, the cloud while the
//! disk still works. After a failed commit memory is read from the store again, so that both never differ.

use super::outbox::{self, Outbox, Report};
use super::payload;
use super::spec;
use super::twin::{self, Applied, Merged, Refusal, Stored};
use crate::base::{Failure, now, now_ms, rfc3339, uuid4};
use crate::daemon::edge::mqtt::Broker;
use crate::model::twin::Twins;
use crate::model::{DeviceId, Kind, NodeName, ObjectKey};
use crate::store::{DeviceChange, DeviceRow, Store, TwinRow};
use crate::wire::topics::{self, Topic};
use crate::wire::{StateReport, TwinReport};
use bytes::Bytes;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The room of what was last taken over from each Device, in `kedge_state`.
pub(super) const APPLIED: &str = "device-applied";

/// One device.
struct Device {
    row: DeviceRow,
    twins: Stored,
    applied: Applied,
    /// Properties that the cloud has confirmed once while this daemon runs.
    told: BTreeSet<String>,
}

/// What is published once the commit holds.
struct Message {
    topic: String,
    payload: Vec<u8>,
}

/// Events of one batch: rows for one commit, messages for after it.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) change: DeviceChange,
    messages: Vec<Message>,
    /// What is said instead when the commit fails.
    failures: Vec<Message>,
}

pub(super) struct Room {
    node: NodeName,
    store: Store,
    broker: Broker,
    devices: BTreeMap<DeviceId, Device>,
    pub(super) outbox: Outbox,
    pub(super) online: bool,
    /// Confirmed reports whose rows go with the next commit.
    done: Vec<u64>,
    /// Properties that are told once more: a cloudcore confirms the first report of a property and forgets its value.
    echoes: BTreeMap<DeviceId, BTreeSet<String>>,
}

impl Room {
    pub(super) async fn load(node: NodeName, store: Store, broker: Broker) -> Result<Room, Failure> {
        let (devices, outbox) = (BTreeMap::new(), Outbox::default());
        let mut room = Room {
            node,
            store,
            broker,
            devices,
            outbox,
            online: false,
            done: Vec::new(),
            echoes: BTreeMap::new(),
        };
        room.reload().await?;
        Ok(room)
    }

    async fn reload(&mut self) -> Result<(), Failure> {
        self.devices.clear();
        for row in self.store.devices().await? {
            let device = load_device(&self.store, row).await?;
            self.devices.insert(device.row.id.clone(), device);
        }
        self.outbox.reload(self.store.states(outbox::ROOM).await?);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.devices.len()
    }

    /// Merges messages from MQTT; the batch is to be committed at once.
    pub(super) fn heard(&mut self, messages: &[(Box<str>, Bytes)]) -> Batch {
        let mut batch = Batch::default();
        for (topic, payload) in messages {
            match Topic::parse(topic) {
                Some(Topic::TwinUpdate(device)) => self.update(&device, payload, &mut batch),
                Some(Topic::TwinGet(device)) => self.get(&device, payload, &mut batch),
                Some(Topic::StateUpdate(device)) => self.state(&device, payload, &mut batch),
                Some(Topic::MembershipGet(_)) => {
                    let rows = self.devices.values().map(|device| &device.row);
                    let answer = payload::members(&payload::event_id(payload), rows, now_ms());
                    batch.say(topics::membership_get_result(self.node.as_str()), answer);
                }
                Some(Topic::Upload(_)) | None => {}
            }
        }
        if !batch.change.is_empty() {
            self.clear_done(&mut batch);
        }
        batch
    }

    /// Commits a batch; `false` when the store did not take it.
    async fn finish(&mut self, mut batch: Batch) -> Result<bool, Failure> {
        let change = std::mem::take(&mut batch.change);
        let committed = if change.is_empty() { Ok(()) } else { self.store.change_devices(change).await };
        let held = committed.is_ok();
        self.committed(committed, batch).await?;
        Ok(held)
    }

    /// After the commit: says what is to be said, or reads the store again when it failed.
    pub(super) async fn committed(
        &mut self,
        outcome: Result<(), Failure>,
        batch: Batch,
    ) -> Result<(), Failure> {
        let messages = match outcome {
            Ok(()) => batch.messages,
            Err(failure) => {
                tracing::warn!(code = failure.code, error = %failure, "device values cannot be stored");
                self.reload().await?;
                batch.failures
            }
        };
        for message in messages {
            self.broker.publish(&message.topic, message.payload, false).await;
        }
        Ok(())
    }

    fn update(&mut self, id: &DeviceId, payload: &[u8], batch: &mut Batch) {
        let (event, at) = (payload::event_id(payload), now_ms());
        let topic = topics::twin_update_result(id);
        let merged = self.known(id).and_then(|device| {
            let wanted = payload::read_update(payload)?;
            twin::update(&device.twins, &wanted, at)
        });
        match merged {
            Ok(merged) => {
                batch.say(topic.clone(), payload::result(&event, &merged, at));
                let failed = Refusal { code: 500, reason: "the twin cannot be stored".to_owned() };
                let payload = payload::refusal(&event, &failed, at);
                batch.failures.push(Message { topic, payload });
                self.merged(id, merged, &event, batch);
            }
            Err(refusal) => batch.say(topic, payload::refusal(&event, &refusal, at)),
        }
    }

    fn get(&self, id: &DeviceId, payload: &[u8], batch: &mut Batch) {
        let (event, at) = (payload::event_id(payload), now_ms());
        let checked = payload::check_event(payload).and_then(|()| self.known(id));
        let answer = match checked {
            Ok(device) => payload::whole(&event, &device.twins, at),
            Err(refusal) => payload::refusal(&event, &refusal, at),
        };
        batch.say(topics::twin_get_result(id), answer);
    }

    fn state(&mut self, id: &DeviceId, payload: &[u8], batch: &mut Batch) {
        let at = now_ms();
        let topic = topics::state_update_result(id);
        let read = self.known(id).and_then(|_| payload::read_state(payload));
        let state = match read {
            Ok(state) => state,
            Err(refusal) => {
                return batch.say(topic, payload::refusal(&payload::event_id(payload), &refusal, at));
            }
        };
        let Some(device) = self.devices.get_mut(id) else { return };
        device.row.last_online = if payload::is_online(&state) { rfc3339(now()) } else { String::new() };
        device.row.state = state;
        let row = device.row.clone();
        batch.say(topic, payload::state(&row, at));
        let (event_id, state, last_online) = (uuid4(), row.state.clone(), row.last_online.clone());
        batch.change.devices.push(row);
        let report = StateReport { device: id.clone(), event_id, timestamp: at, state, last_online };
        self.report(Report::State(report), batch);
    }

    fn known(&self, id: &DeviceId) -> Result<&Device, Refusal> {
        self.devices.get(id).ok_or_else(|| Refusal { code: 404, reason: "device not found".to_owned() })
    }

    /// Takes an outcome over: rows, document, delta, report.
    fn merged(&mut self, id: &DeviceId, merged: Merged, event: &str, batch: &mut Batch) {
        let Some(device) = self.devices.get_mut(id) else { return };
        let at = now_ms();
        twin::apply(&mut device.twins, &merged);
        let rows = merged.rows.iter().map(|(name, held)| (id.clone(), TwinRow::from_property(name, held)));
        batch.change.twins.extend(rows);
        batch.change.twins_gone.extend(merged.gone.iter().map(|name| (id.clone(), name.clone())));
        if let Some(document) = payload::document(event, &merged, at) {
            batch.say(topics::twin_update_document(id), document);
            if let Some(delta) = payload::difference(&device.twins, at) {
                batch.say(topics::twin_update_delta(id), delta);
            }
        }
        if !merged.report.is_empty() {
            let (device, event_id, twins) = (id.clone(), uuid4(), merged.report);
            self.report(Report::Twin(TwinReport { device, event_id, timestamp: at, twins }), batch);
        }
    }

    fn report(&mut self, report: Report, batch: &mut Batch) {
        let (number, value) = self.outbox.add(report, self.online);
        batch.change.states.push((outbox::ROOM, outbox::row_key(number), Some(value)));
    }

    /// The cloud has taken the report; the rows go with the next commit, or by [`Room::forget_confirmed`]. `true` when it
    /// has heard of a property for the first time, which [`Room::echo`] then tells again.
    pub(super) fn confirmed(&mut self, number: u64) -> bool {
        let Some(Report::Twin(report)) = self.refused(number) else { return false };
        let Some(device) = self.devices.get_mut(&report.device) else { return false };
        let echoes = self.echoes.entry(report.device).or_default();
        for (name, part) in report.twins {
            let Some(part) = part else { continue };
            if device.told.insert(name.clone()) {
                echoes.insert(name);
            } else if device.twins.get(&name).is_none_or(|held| twin::covers(&part, held)) {
                echoes.remove(&name);
            }
        }
        !echoes.is_empty()
    }

    /// The cloud will never take the report: its row goes all the same.
    pub(super) fn refused(&mut self, number: u64) -> Option<Report> {
        self.done.push(number);
        self.outbox.confirmed(number)
    }

    /// Tells the present values of properties once more that the cloud has heard of for the first time.
    pub(super) async fn echo(&mut self) -> Result<(), Failure> {
        let mut batch = Batch::default();
        for (id, names) in std::mem::take(&mut self.echoes) {
            let Some(device) = self.devices.get(&id) else { continue };
            let held =
                names.into_iter().filter_map(|name| Some((name.clone(), twin::told(&device.twins, &name)?)));
            let twins: Twins = held.map(|(name, held)| (name, Some(held))).collect();
            if !twins.is_empty() {
                let report = TwinReport { device: id, event_id: uuid4(), timestamp: now_ms(), twins };
                self.report(Report::Twin(report), &mut batch);
            }
        }
        self.finish(batch).await.map(drop)
    }

    /// Removes the rows of confirmed reports.
    pub(super) async fn forget_confirmed(&mut self) -> Result<(), Failure> {
        let mut batch = Batch::default();
        self.clear_done(&mut batch);
        self.finish(batch).await.map(drop)
    }

    fn clear_done(&mut self, batch: &mut Batch) {
        let rows = self.done.drain(..).map(|number| (outbox::ROOM, outbox::row_key(number), None));
        batch.change.states.extend(rows);
    }

    pub(super) fn store(&self) -> Store {
        self.store.clone()
    }

    /// Looks at one Device object again, as the store has it now.
    pub(super) async fn look_at(&mut self, id: &DeviceId) -> Result<(), Failure> {
        let key = ObjectKey::namespaced(Kind::Device, &id.namespace, &id.name);
        match self.store.object(&key).await? {
            Some(object) => self.wanted(id, &object).await,
            None => self.removed(id).await.map(drop),
        }
    }

    /// Compares all devices with the Device objects of the store.
    pub(super) async fn look_at_all(&mut self) -> Result<(), Failure> {
        let objects = self.store.objects(Kind::Device).await?;
        let listed: Vec<(DeviceId, Value)> = objects
            .into_iter()
            .map(|(key, object)| (DeviceId::new(key.namespace.unwrap_or_default(), key.name), object))
            .collect();
        // Devices that came by membership alone, from old clouds, have no object and stay.
        let had_object = |device: &&Device| !device.applied.uid.is_empty() || device.applied.generation > 0;
        let gone: Vec<DeviceId> =
            self.devices.values().filter(had_object).map(|device| device.row.id.clone()).collect();
        for id in gone.into_iter().filter(|id| !listed.iter().any(|(listed, _)| listed == id)) {
            self.removed(&id).await?;
        }
        for (id, object) in listed {
            self.wanted(&id, &object).await?;
        }
        Ok(())
    }

    /// A model came or changed: its devices learn their types.
    pub(super) async fn look_at_model(&mut self, key: &ObjectKey) -> Result<(), Failure> {
        for (device, object) in self.store.objects(Kind::Device).await? {
            if device.namespace == key.namespace && spec::model_name(&object) == Some(&key.name) {
                self.wanted(&DeviceId::new(device.namespace.unwrap_or_default(), device.name), &object)
                    .await?;
            }
        }
        Ok(())
    }

    async fn wanted(&mut self, id: &DeviceId, object: &Value) -> Result<(), Failure> {
        let model = match spec::model_name(object) {
            Some(name) => {
                self.store.object(&ObjectKey::namespaced(Kind::DeviceModel, &id.namespace, name)).await?
            }
            None => None,
        };
        let spec = spec::read(object, model.as_ref());
        let mut batch = Batch::default();
        if self.devices.get(id).is_some_and(|device| is_another(&device.applied, &spec.uid)) {
            self.take_out(id, &mut batch);
            self.finish(std::mem::take(&mut batch)).await?;
        }
        self.take_in(id, spec::description(object), &mut batch);
        let Some(device) = self.devices.get_mut(id) else { return Ok(()) };
        let (merged, applied) = twin::desire(&device.twins, &device.applied, &spec, now_ms());
        if device.applied != applied {
            let value = serde_json::to_value(&applied).unwrap_or_default();
            batch.change.states.push((APPLIED, id.to_string(), Some(value)));
            device.applied = applied;
        }
        self.merged(id, merged, &uuid4(), &mut batch);
        self.finish(batch).await.map(drop)
    }

    fn take_in(&mut self, id: &DeviceId, description: &str, batch: &mut Batch) {
        if let Some(device) = self.devices.get_mut(id) {
            if device.row.description != description {
                device.row.description = description.to_owned();
                batch.change.devices.push(device.row.clone());
            }
            return;
        }
        let row = DeviceRow { description: description.to_owned(), ..DeviceRow::new(id.clone()) };
        tracing::info!(device = %id, "the device belongs to this node");
        batch.say(
            topics::membership_updated(self.node.as_str()),
            payload::member_changed(&row, true, now_ms()),
        );
        batch.change.devices.push(row.clone());
        self.devices.insert(
            id.clone(),
            Device { row, twins: Stored::new(), applied: Applied::default(), told: BTreeSet::new() },
        );
    }

    fn take_out(&mut self, id: &DeviceId, batch: &mut Batch) {
        let Some(device) = self.devices.remove(id) else { return };
        tracing::info!(device = %id, "the device does not belong to this node any more");
        batch.say(
            topics::membership_updated(self.node.as_str()),
            payload::member_changed(&device.row, false, now_ms()),
        );
        batch.change.devices_gone.push(id.clone());
        batch.change.states.push((APPLIED, id.to_string(), None));
        let rows = self.outbox.forget(id).into_iter();
        batch.change.states.extend(rows.map(|number| (outbox::ROOM, outbox::row_key(number), None)));
    }

    /// The device is no longer this node's; `false` when that could not be stored.
    pub(super) async fn removed(&mut self, id: &DeviceId) -> Result<bool, Failure> {
        let mut batch = Batch::default();
        self.take_out(id, &mut batch);
        self.finish(batch).await
    }

    /// The cloud says that the device is no longer this node's. Its object is told of in another order and decides: while
    /// it is here, its deletion is still to come, or it has come back already. `false` when that could not be stored.
    pub(super) async fn withdrawn(&mut self, id: &DeviceId) -> Result<bool, Failure> {
        let key = ObjectKey::namespaced(Kind::Device, &id.namespace, &id.name);
        if self.store.object(&key).await?.is_some() { Ok(true) } else { self.removed(id).await }
    }

    /// The device is this node's; its object may follow. `false` when that could not be stored.
    pub(super) async fn added(&mut self, id: &DeviceId) -> Result<bool, Failure> {
        let mut batch = Batch::default();
        let description =
            self.devices.get(id).map(|device| device.row.description.clone()).unwrap_or_default();
        self.take_in(id, &description, &mut batch);
        self.finish(batch).await
    }

    /// Desired values from a cloud before KubeEdge 1.15; `false` when they could not be stored.
    pub(super) async fn sync(&mut self, id: &DeviceId, twins: &Twins) -> Result<bool, Failure> {
        let Some(device) = self.devices.get(id) else { return Ok(true) };
        let merged = twin::sync(&device.twins, twins);
        let mut batch = Batch::default();
        self.merged(id, merged, &uuid4(), &mut batch);
        self.finish(batch).await
    }
}

impl Batch {
    fn say(&mut self, topic: String, payload: Vec<u8>) {
        self.messages.push(Message { topic, payload });
    }
}

fn is_another(applied: &Applied, uid: &str) -> bool {
    !applied.uid.is_empty() && !uid.is_empty() && applied.uid != uid
}

async fn load_device(store: &Store, row: DeviceRow) -> Result<Device, Failure> {
    let rows = store.twins(&row.id).await?;
    let twins = rows.iter().map(|row| (row.name.clone(), row.to_property())).collect();
    let applied = store.state(APPLIED, &row.id.to_string()).await?;
    let applied = applied.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default();
    Ok(Device { row, twins, applied, told: BTreeSet::new() })
}

/// Sets a desired value in the store of a stopped daemon; its next start tells the device and the cloud.
pub(super) async fn set_stored(store: &Store, id: &DeviceId, wanted: &Twins) -> Result<(), Refusal> {
    let unusable = |failure: Failure| Refusal { code: 500, reason: failure.to_string() };
    let row = store.device(id).await.map_err(unusable)?;
    let row = row.ok_or_else(|| Refusal { code: 404, reason: "device not found".to_owned() })?;
    let device = load_device(store, row).await.map_err(unusable)?;
    let at = now_ms();
    let merged = twin::update(&device.twins, wanted, at)?;
    let mut waiting = Outbox::load(store.states(outbox::ROOM).await.map_err(unusable)?);
    let report = TwinReport { device: id.clone(), event_id: uuid4(), timestamp: at, twins: merged.report };
    let (number, value) = waiting.add(Report::Twin(report), false);
    let twins = merged.rows.iter().map(|(name, held)| (id.clone(), TwinRow::from_property(name, held)));
    let change = DeviceChange {
        twins: twins.collect(),
        states: vec![(outbox::ROOM, outbox::row_key(number), Some(value))],
        ..DeviceChange::default()
    };
    store.change_devices(change).await.map_err(unusable)
}
