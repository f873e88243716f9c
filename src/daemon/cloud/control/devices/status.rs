//! Reports of devices into DeviceStatus. A report is confirmed only after the API has taken it, or when it never will:
//! what is not confirmed the node sends again.

use super::super::super::kubernetes::{Patch, Resource, meta};
use super::super::shared::told;
use super::index::Entry;
use super::twins::{self, Newest, Verdict};
use super::{Context, confirmed};
use crate::base::now_ms;
use crate::model::twin::{Twins, mapper_missing, protocol_of};
use crate::model::{DeviceId, Kind, NodeName, Status};
use crate::wire::{Question, TwinReport, Up, Verb};
use serde_json::{Value, json};
use std::sync::PoisonError;
use std::time::Duration;

/// How long a report is tried; the node's own patience is longer.
const PATIENCE: Duration = Duration::from_secs(300);
const CONFLICTS: usize = 8;

/// What is known of a DeviceStatus: whose it is, and its rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    device_uid: String,
    rows: Vec<Value>,
    /// The generation at which the node was told that the cloud's values hold.
    told: Option<i64>,
}

impl Context {
    pub(super) async fn report(&self, node: NodeName, question: Question, id: DeviceId) {
        let outcome = self.shared.kube.insist(PATIENCE, || self.take(&node, &question.up, &id)).await;
        if let Err(status) = outcome {
            tracing::warn!(%node, device = %id, code = status.code, reason = status.reason, "a device report was not taken");
            if super::super::super::kubernetes::is_temporary(&status) {
                return;
            }
        }
        told(self.shared.hub.answer(node, question, Ok(confirmed())).await);
    }

    async fn take(&self, node: &NodeName, up: &Up, id: &DeviceId) -> Result<(), Status> {
        let (uid, owner, properties) = self.facts(id).await?;
        if owner.as_ref() != Some(node) {
            return Err(Status::failure(403, "Forbidden", "the device belongs to another node"));
        }
        match up {
            Up::TwinReport(report) => self.take_twins(id, &uid, &properties, report).await,
            Up::StateReport(report) => {
                self.hold(id, &uid).await?;
                if !self.newest(id, |newest| newest.admits_state(report.timestamp)) {
                    return Ok(());
                }
                self.write(id, &uid, twins::state_patch(report)).await
            }
            _ => Ok(()),
        }
    }

    /// Uid, node and properties of a Device: from the index, or from the API when the watch has not brought it yet.
    async fn facts(&self, id: &DeviceId) -> Result<(String, Option<NodeName>, Vec<String>), Status> {
        let known = self.index().device(id).map(|e| (e.uid.clone(), e.node.clone(), e.properties.clone()));
        if let Some(known) = known {
            return Ok(known);
        }
        let device = self.shared.kube.get(Resource::DEVICE, Some(&id.namespace), &id.name).await?;
        let entry = Entry::of(&device);
        Ok((entry.uid, entry.node, entry.properties))
    }

    async fn take_twins(
        &self,
        id: &DeviceId,
        uid: &str,
        properties: &[String],
        report: &TwinReport,
    ) -> Result<(), Status> {
        let mut held = self.hold(id, uid).await?;
        let at = if report.timestamp > 0 { report.timestamp } else { now_ms() };
        let report = self.newest(id, |newest| newest.sift(report.twins.clone(), at));
        if twins::merge(&mut held.rows, &report, properties, at) {
            self.write(id, uid, twins::patch(&held.rows)).await?;
            self.statuses().insert(id.clone(), held);
        }
        if twins::was_set_at_edge(&report) {
            self.settle(id, &report).await?;
        }
        Ok(())
    }

    fn newest<T>(&self, id: &DeviceId, ask: impl FnOnce(&mut Newest) -> T) -> T {
        let mut all = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        ask(all.entry(id.clone()).or_default())
    }

    /// What is known of a device's status is of no use any more: it is gone, or another cloud may write it.
    pub(super) fn forget_status(&self, id: &DeviceId, is_gone: bool) {
        self.statuses().remove(id);
        if is_gone {
            self.newest.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
    }

    /// The rows as last written; read from the API the first time.
    async fn hold(&self, id: &DeviceId, uid: &str) -> Result<Held, Status> {
        let known = self.statuses().get(id).filter(|held| held.device_uid == uid).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let kube = &self.shared.kube;
        let mut held = Held { device_uid: uid.to_owned(), ..Held::default() };
        match kube.get(Resource::DEVICE_STATUS, Some(&id.namespace), &id.name).await {
            Ok(status) if belongs_to(&status, uid) => {
                let rows = status.pointer("/status/twins").and_then(Value::as_array);
                held.rows = rows.cloned().unwrap_or_default();
            }
            // Of an earlier device with this name; the garbage collector would take it, and the new values with it.
            Ok(old) => {
                let options = json!({"preconditions": {"uid": meta(&old, "uid")}});
                let deleted =
                    kube.delete(Resource::DEVICE_STATUS, Some(&id.namespace), &id.name, &options).await;
                if let Err(status) = deleted
                    && !status.is_not_found()
                    && !status.is_conflict()
                {
                    return Err(status);
                }
            }
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status),
        }
        self.statuses().insert(id.clone(), held.clone());
        Ok(held)
    }

    async fn write(&self, id: &DeviceId, uid: &str, patch: Value) -> Result<(), Status> {
        let kube = &self.shared.kube;
        let target = (id.name.as_str(), None);
        let body = patch.to_string().into_bytes();
        match kube.patch(Resource::DEVICE_STATUS, Some(&id.namespace), target, Patch::Merge, body).await {
            Err(status) if status.is_not_found() => {
                let mut object = status_of(id, uid);
                object["status"] = patch.get("status").cloned().unwrap_or_default();
                // In a patch they take away what is not there yet.
                if let Some(status) = object["status"].as_object_mut() {
                    status.remove("extensions");
                }
                kube.create(Resource::DEVICE_STATUS, Some(&id.namespace), &object).await.map(drop)
            }
            outcome => outcome.map(drop),
        }
    }

    /// Makes the DeviceStatus of a new Device, as KubeEdge does; the first report would make it too, and takes the reason
    /// away that stands there until a mapper has spoken.
    pub(super) async fn create_status(&self, id: &DeviceId, device: &Value) {
        let mut object = status_of(id, meta(device, "uid"));
        let node = device.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
        object["status"] = json!({"extensions": {"reason": mapper_missing(protocol_of(device), node)}});
        let created = self.shared.kube.create(Resource::DEVICE_STATUS, Some(&id.namespace), &object).await;
        if let Err(status) = created
            && !status.already_exists()
        {
            tracing::debug!(device = %id, code = status.code, reason = status.reason, "a DeviceStatus is made later");
        }
    }

    /// Brings desired values that were set at the edge and the Device together.
    async fn settle(&self, id: &DeviceId, report: &Twins) -> Result<(), Status> {
        let kube = &self.shared.kube;
        for _ in 0..CONFLICTS {
            let mut device = kube.get(Resource::DEVICE, Some(&id.namespace), &id.name).await?;
            match twins::settle(&mut device, report) {
                Verdict::Same => return Ok(()),
                Verdict::EdgeHolds => {
                    match kube.replace(Resource::DEVICE, Some(&id.namespace), &id.name, &device).await {
                        Ok(_) => return Ok(()),
                        Err(status) if status.is_conflict() => {}
                        Err(status) => return Err(status),
                    }
                }
                Verdict::CloudHolds => {
                    self.tell_cloud_holds(id, device).await;
                    return Ok(());
                }
            }
        }
        Err(Status::failure(503, "ServiceUnavailable", "the Device changes all the time"))
    }

    async fn tell_cloud_holds(&self, id: &DeviceId, device: Value) {
        let generation = device.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
        if let Some(held) = self.statuses().get_mut(id) {
            // An edge that counts versions in another way would be told the same with each of its reports.
            if held.told == Some(generation) {
                return;
            }
            held.told = Some(generation);
        }
        if let Some(node) = Entry::of(&device).node {
            told(self.shared.push(&node, Verb::Update, Kind::Device, device).await);
        }
    }
}

fn belongs_to(status: &Value, device_uid: &str) -> bool {
    let owners = status.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.is_none_or(|owners| owners.is_empty() || owners.iter().any(|owner| owner["uid"] == device_uid))
}

fn status_of(id: &DeviceId, device_uid: &str) -> Value {
    let device = Resource::DEVICE;
    json!({
        "apiVersion": Resource::DEVICE_STATUS.api_version(),
        "kind": Resource::DEVICE_STATUS.kind,
        "metadata": {"name": id.name, "namespace": id.namespace, "ownerReferences": [{
            "apiVersion": device.api_version(),
            "kind": device.kind,
            "name": id.name,
            "uid": device_uid,
            "controller": true,
        }]},
        "spec": {},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_belongs_to_its_owner_or_to_nobody() {
        let id = DeviceId::new("d", "t");
        assert!(belongs_to(&status_of(&id, "u1"), "u1"));
        assert!(!belongs_to(&status_of(&id, "u1"), "u2"));
        assert!(belongs_to(&json!({"metadata": {}}), "u2"));
    }
}
