//! Devices and models in a few words each, and what nodes have to hear when they change. Pure.

use super::super::super::kubernetes::{meta, revision};
use crate::model::digest::ContentHash;
use crate::model::{DeviceId, NodeName, Revision};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

#[derive(Clone, Debug)]
pub(in crate::daemon::cloud::control) struct Entry {
    pub uid: String,
    /// The revision at the last change of metadata or spec.
    pub revision: Revision,
    pub content: ContentHash,
    pub node: Option<NodeName>,
    pub model: Option<String>,
    pub properties: Vec<String>,
    seen: bool,
}

#[derive(Clone, Debug)]
pub(in crate::daemon::cloud::control) struct Model {
    pub uid: String,
    pub revision: Revision,
    pub content: ContentHash,
    seen: bool,
}

/// What became of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Only status or bookkeeping changed.
    Nothing,
    Changed,
    Added,
    /// It belongs to another node now, or is another device of the same name.
    Moved {
        from: Past,
    },
}

/// What is left of a device's former life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Past {
    pub uid: String,
    /// The last one under which its node knew it.
    pub revision: Revision,
    pub node: Option<NodeName>,
    pub model: Option<String>,
}

/// All devices and models.
#[derive(Default)]
pub(in crate::daemon::cloud::control) struct Index {
    devices: HashMap<DeviceId, Entry>,
    by_node: HashMap<NodeName, BTreeSet<DeviceId>>,
    models: HashMap<DeviceId, Model>,
}

pub(super) fn id(object: &Value) -> DeviceId {
    DeviceId::new(meta(object, "namespace"), meta(object, "name"))
}

impl Entry {
    pub(super) fn of(device: &Value) -> Entry {
        let text = |path: &str| device.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
        let properties = device.pointer("/spec/properties").and_then(Value::as_array);
        let name = |property: &Value| property.get("name").and_then(Value::as_str).map(str::to_owned);
        Entry {
            uid: meta(device, "uid").to_owned(),
            revision: revision(device),
            content: ContentHash::of(device),
            node: text("/spec/nodeName").and_then(|node| NodeName::new(node).ok()),
            model: text("/spec/deviceModelRef/name").map(str::to_owned),
            properties: properties.into_iter().flatten().filter_map(name).collect(),
            seen: true,
        }
    }

    fn past(self) -> Past {
        Past { uid: self.uid, revision: self.revision, node: self.node, model: self.model }
    }
}

impl Index {
    pub(super) fn apply(&mut self, device: &Value) -> Change {
        let entry = Entry::of(device);
        let (uid, content, node) = (entry.uid.clone(), entry.content, entry.node.clone());
        match self.devices.get_mut(&id(device)) {
            Some(old) if old.uid == uid && old.content == content => {
                old.seen = true;
                return Change::Nothing;
            }
            _ => {}
        }
        if let Some(node) = &node {
            self.by_node.entry(node.clone()).or_default().insert(id(device));
        }
        let before = self.devices.insert(id(device), entry);
        if let Some(old) = before.as_ref().filter(|old| old.node != node) {
            self.unlink(&id(device), old.node.as_ref());
        }
        match before {
            None => Change::Added,
            Some(old) if old.uid == uid && old.node == node => Change::Changed,
            Some(old) => Change::Moved { from: old.past() },
        }
    }

    pub(super) fn remove(&mut self, id: &DeviceId) -> Option<Past> {
        let past = self.devices.remove(id)?.past();
        self.unlink(id, past.node.as_ref());
        Some(past)
    }

    fn unlink(&mut self, id: &DeviceId, node: Option<&NodeName>) {
        let Some(node) = node else { return };
        if let Some(owned) = self.by_node.get_mut(node) {
            owned.remove(id);
            if owned.is_empty() {
                self.by_node.remove(node);
            }
        }
    }

    pub(in crate::daemon::cloud::control) fn device(&self, id: &DeviceId) -> Option<&Entry> {
        self.devices.get(id)
    }

    pub(super) fn begin_devices(&mut self) {
        self.devices.values_mut().for_each(|entry| entry.seen = false);
    }

    pub(super) fn end_devices(&mut self) -> Vec<(DeviceId, Past)> {
        let lost: Vec<DeviceId> =
            self.devices.iter().filter(|(_, entry)| !entry.seen).map(|(id, _)| id.clone()).collect();
        lost.into_iter().filter_map(|id| self.remove(&id).map(|past| (id, past))).collect()
    }

    /// Takes a model; `true` when it was not known before.
    pub(super) fn apply_model(&mut self, model: &Value) -> bool {
        let entry = Model {
            uid: meta(model, "uid").to_owned(),
            revision: revision(model),
            content: ContentHash::of(model),
            seen: true,
        };
        let uid = entry.uid.clone();
        self.models.insert(id(model), entry).is_none_or(|old| old.uid != uid)
    }

    pub(super) fn remove_model(&mut self, id: &DeviceId) -> Option<Model> {
        self.models.remove(id)
    }

    pub(in crate::daemon::cloud::control) fn model(&self, id: &DeviceId) -> Option<&Model> {
        self.models.get(id)
    }

    pub(super) fn begin_models(&mut self) {
        self.models.values_mut().for_each(|entry| entry.seen = false);
    }

    pub(super) fn end_models(&mut self) -> Vec<(DeviceId, Model)> {
        let lost: Vec<DeviceId> =
            self.models.iter().filter(|(_, entry)| !entry.seen).map(|(id, _)| id.clone()).collect();
        lost.into_iter().filter_map(|id| self.remove_model(&id).map(|model| (id, model))).collect()
    }

    /// Devices of a node, by name.
    pub(in crate::daemon::cloud::control) fn of_node(&self, node: &NodeName) -> Vec<(DeviceId, Entry)> {
        let owned = self.by_node.get(node).into_iter().flatten();
        owned.filter_map(|id| Some((id.clone(), self.devices.get(id)?.clone()))).collect()
    }

    /// Nodes with a device of this model, and those devices.
    pub(super) fn users(&self, model: &DeviceId) -> Vec<(NodeName, DeviceId)> {
        let of_model = |id: &DeviceId, entry: &Entry| {
            id.namespace == model.namespace && entry.model.as_deref() == Some(model.name.as_str())
        };
        let users = self.devices.iter().filter(|(id, entry)| of_model(id, entry));
        users.filter_map(|(id, entry)| Some((entry.node.clone()?, id.clone()))).collect()
    }

    /// Whether a device of the node, other than this one, uses the model.
    pub(super) fn is_used(&self, model: &DeviceId, node: &NodeName, but: &DeviceId) -> bool {
        self.users(model).iter().any(|(user, id)| user == node && id != but)
    }

    /// Models that devices of this node use.
    pub(in crate::daemon::cloud::control) fn models_of(&self, node: &NodeName) -> BTreeSet<DeviceId> {
        let model = |(id, entry): (DeviceId, Entry)| Some(DeviceId::new(id.namespace, entry.model?));
        self.of_node(node).into_iter().filter_map(model).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn device(revision: &str, node: &str) -> Value {
        json!({"metadata": {"name": "t1", "namespace": "d", "uid": "u", "resourceVersion": revision},
            "spec": {"nodeName": node, "deviceModelRef": {"name": "m"}, "properties": [{"name": "p"}]}})
    }

    #[test]
    fn a_device_is_added_changed_and_moved() {
        let mut index = Index::default();
        assert_eq!(index.apply(&device("1", "n1")), Change::Added);
        assert_eq!(index.apply(&device("2", "n1")), Change::Nothing);
        let mut changed = device("3", "n1");
        changed["spec"]["properties"][0]["desired"] = json!({"value": "1"});
        assert_eq!(index.apply(&changed), Change::Changed);
        let Change::Moved { from } = index.apply(&device("4", "n2")) else { panic!("it moved") };
        let old = from.node.unwrap();
        assert_eq!(old.as_str(), "n1");
        assert!(index.of_node(&old).is_empty());
        assert_eq!(index.of_node(&NodeName::new("n2").unwrap()).len(), 1);
    }

    #[test]
    fn a_model_is_used_while_a_device_of_the_node_names_it() {
        let mut index = Index::default();
        index.apply(&device("1", "n1"));
        let (model, node) = (DeviceId::new("d", "m"), NodeName::new("n1").unwrap());
        assert!(!index.is_used(&model, &node, &DeviceId::new("d", "t1")));
        assert!(index.is_used(&model, &node, &DeviceId::new("d", "t2")));
        assert_eq!(index.models_of(&node).into_iter().collect::<Vec<_>>(), [model]);
    }
}
