//! Tells nodes of their devices, in KubeEdge's order: membership, model, device (protocol.md §4.5.1).

use super::super::super::kubernetes::Resource;
use super::super::pods::gone;
use super::super::shared::{Notice, told};
use super::index::{Change, Entry, Past};
use super::{Context, confirmed};
use crate::base::{Failure, Gone};
use crate::model::{DeviceId, Kind, NodeName, ObjectKey, Revision};
use crate::wire::{Down, Membership, Question, Verb};
use serde_json::Value;
use std::time::Duration;

const GET_LIMIT: Duration = Duration::from_secs(60);

impl Context {
    pub(super) async fn device_changed(&self, id: DeviceId, device: Value, change: Change, listed: bool) {
        told(self.try_device_changed(id, device, change, listed).await);
    }

    async fn try_device_changed(
        &self,
        id: DeviceId,
        device: Value,
        change: Change,
        listed: bool,
    ) -> Result<(), Gone> {
        let is_new = change != Change::Changed;
        if let Change::Moved { from } = change {
            self.forget_status(&id, true);
            self.remove_from(&id, &from, None).await?;
        }
        if is_new && !listed {
            self.create_status(&id, &device).await;
        }
        let Some(node) = Entry::of(&device).node else { return Ok(()) };
        if listed && is_new {
            // After a restart the list brings everything once more; what nodes lack they get as they connect.
            return Ok(());
        }
        self.push_device(&node, &id, device, is_new).await
    }

    /// Tells a node of one device.
    pub(super) async fn push_device(
        &self,
        node: &NodeName,
        id: &DeviceId,
        device: Value,
        is_new: bool,
    ) -> Result<(), Gone> {
        if !self.shared.is_connected(node) {
            return Ok(());
        }
        if is_new {
            let added = Membership { added: vec![id.clone()], removed: Vec::new() };
            self.shared.hub.tell(node.clone(), Down::Membership(added)).await?;
        }
        if let Some(model) = Entry::of(&device).model {
            self.push_model(node, &DeviceId::new(&id.namespace, model)).await?;
        }
        let verb = if is_new { Verb::Insert } else { Verb::Update };
        self.shared.push(node, verb, Kind::Device, device).await
    }

    /// Tells a node of a model that it lacks.
    async fn push_model(&self, node: &NodeName, id: &DeviceId) -> Result<(), Gone> {
        let Some(model) = self.index().model(id).cloned() else { return Ok(()) };
        let stored = self.shared.records.revision(node, &model.uid);
        if stored.is_some_and(|stored| stored >= model.revision) {
            return Ok(());
        }
        let verb = if stored.is_some() { Verb::Update } else { Verb::Insert };
        match self.get(Resource::DEVICE_MODEL, id).await {
            Some(object) => self.shared.push(node, verb, Kind::DeviceModel, object).await,
            None => Ok(()),
        }
    }

    async fn get(&self, resource: Resource, id: &DeviceId) -> Option<Value> {
        let kube = &self.shared.kube;
        match kube.outlast(GET_LIMIT, || kube.get(resource, Some(&id.namespace), &id.name)).await {
            Ok(object) => Some(object),
            Err(status) => {
                if !status.is_not_found() {
                    tracing::warn!(object = %id, code = status.code, "a device or its model could not be read");
                }
                None
            }
        }
    }

    pub(super) async fn device_gone(&self, id: DeviceId, past: Past, last: Option<Value>) {
        self.forget_status(&id, true);
        told(self.remove_from(&id, &past, last).await);
    }

    async fn remove_from(&self, id: &DeviceId, past: &Past, last: Option<Value>) -> Result<(), Gone> {
        let Some(node) = past.node.as_ref().filter(|node| self.shared.is_connected(node)) else {
            return Ok(());
        };
        let removed = Membership { added: Vec::new(), removed: vec![id.clone()] };
        self.shared.hub.tell(node.clone(), Down::Membership(removed)).await?;
        if let Some(model) = &past.model {
            let model_id = DeviceId::new(&id.namespace, model);
            let unused = !self.index().is_used(&model_id, node, id);
            let model = self.index().model(&model_id).cloned();
            if let Some(model) = model.filter(|_| unused) {
                let key = key(Kind::DeviceModel, &model_id);
                // Taken from this node only: the same form may come back with another device.
                let before = Revision(model.revision.0.saturating_sub(1));
                self.shared.push_withdrawn(node, &key, &model.uid, before).await?;
            }
        }
        match last {
            Some(device) => self.shared.push_gone(node, Kind::Device, device).await,
            None => {
                let key = key(Kind::Device, id);
                self.shared.push_withdrawn(node, &key, &past.uid, past.revision).await
            }
        }
    }

    pub(super) async fn model_changed(&self, id: DeviceId, model: Value, is_new: bool) {
        let users = self.index().users(&id);
        let mut heard: Vec<&NodeName> = Vec::new();
        for (node, device) in &users {
            if !heard.contains(&node) {
                let verb = if is_new { Verb::Insert } else { Verb::Update };
                told(self.shared.push(node, verb, Kind::DeviceModel, model.clone()).await);
                heard.push(node);
            }
            // Devices that came before their model are told once more, so that mappers see both.
            if is_new
                && self.shared.is_connected(node)
                && let Some(object) = self.get(Resource::DEVICE, device).await
            {
                told(self.shared.push(node, Verb::Update, Kind::Device, object).await);
            }
        }
    }

    pub(super) async fn model_gone(&self, id: DeviceId, uid: String) {
        for node in self.shared.records.holders(&uid) {
            told(self.shared.push_lost(&node, &key(Kind::DeviceModel, &id), &uid).await);
        }
    }

    /// Tells a node that is back what it is missing and what is gone.
    pub(super) async fn restate(&self, notice: &Notice) -> Result<(), Failure> {
        self.try_restate(notice).await.map_err(gone)
    }

    async fn try_restate(&self, notice: &Notice) -> Result<(), Gone> {
        let node = notice.node();
        let (owned, models) = {
            let index = self.index();
            (index.of_node(node), index.models_of(node))
        };
        for (uid, record) in self.shared.records.of(node) {
            let id = DeviceId::new(record.key.namespace.clone().unwrap_or_default(), &record.key.name);
            let kept = match record.key.kind {
                Kind::Device => owned.iter().any(|(held, entry)| *held == id && entry.uid == uid),
                Kind::DeviceModel => {
                    models.contains(&id) && self.index().model(&id).is_some_and(|model| model.uid == uid)
                }
                _ => true,
            };
            if !kept {
                if record.key.kind == Kind::Device {
                    let removed = Membership { added: Vec::new(), removed: vec![id] };
                    self.shared.hub.tell(node.clone(), Down::Membership(removed)).await?;
                }
                self.shared.push_lost(node, &record.key, &uid).await?;
            }
        }
        let lacking: Vec<DeviceId> = owned
            .iter()
            .filter(|(_, entry)| self.shared.records.revision(node, &entry.uid).is_none())
            .map(|(id, _)| id.clone())
            .collect();
        if !lacking.is_empty() {
            let added = Membership { added: lacking, removed: Vec::new() };
            self.shared.hub.tell(node.clone(), Down::Membership(added)).await?;
        }
        for model in models {
            let Some(entry) = self.index().model(&model).cloned() else { continue };
            if !notice.trusts_records()
                && let Some(object) = self.get(Resource::DEVICE_MODEL, &model).await
            {
                self.shared.push(node, Verb::Update, Kind::DeviceModel, object).await?;
            } else if self.shared.owes(notice, &entry.uid, entry.revision) {
                self.push_model(node, &model).await?;
            }
        }
        for (id, entry) in owned {
            if self.shared.owes(notice, &entry.uid, entry.revision) {
                let is_new = self.shared.records.revision(node, &entry.uid).is_none();
                let Some(object) = self.get(Resource::DEVICE, &id).await else { continue };
                let current = self.index().device(&id).is_some_and(|now| now.node.as_ref() == Some(node));
                if current {
                    let verb = if is_new { Verb::Insert } else { Verb::Update };
                    self.shared.push(node, verb, Kind::Device, object).await?;
                }
            }
        }
        Ok(())
    }

    /// Answers the question for a node's devices with a confirmation and the whole list.
    pub(super) async fn detail(&self, node: NodeName, question: Question) {
        let added: Vec<DeviceId> = self.index().of_node(&node).into_iter().map(|(id, _)| id).collect();
        told(self.shared.hub.answer(node.clone(), question, Ok(confirmed())).await);
        if !added.is_empty() {
            let membership = Membership { added, removed: Vec::new() };
            told(self.shared.hub.tell(node, Down::Membership(membership)).await);
        }
    }
}

fn key(kind: Kind, id: &DeviceId) -> ObjectKey {
    ObjectKey::namespaced(kind, &id.namespace, &id.name)
}
