//! Twins of this node: read from its database; set through the broker of the running daemon, or, when none holds the
//! database, in it. Never leaves a daemon's memory and its database apart.

use super::{Device, Property, model_of};
use crate::base::{Exit, Failure, aside, now_ms, uuid4};
use crate::cmd::edge_store::database;
use crate::daemon::edge::{device, mqtt};
use crate::model::twin::{TwinProperty, TwinValue, protocol_of};
use crate::model::{DeviceId, Kind, ObjectKey};
use crate::store::{Reader, Store};
use crate::wire::topics;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The store's code for a database that a daemon holds.
const HELD: &str = "KE-STORE-002";
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const DOCUMENTS: &str = "$hw/events/device/+/+/twin/update/document";

/// This node's devices.
pub(in crate::cmd) struct Local {
    database: PathBuf,
}

impl Local {
    pub(in crate::cmd) fn open(data_dir: &Path) -> Result<Local, Failure> {
        let database = database(data_dir);
        Reader::open(&database)?;
        Ok(Local { database })
    }

    pub(in crate::cmd) fn devices(&self) -> Result<Vec<Device>, Failure> {
        let reader = Reader::open(&self.database)?;
        let mut devices = Vec::new();
        for row in reader.devices()? {
            let rows = reader.twins(&row.id)?.into_iter().filter(|twin| twin.attr_type != "deleted");
            let id = row.id.to_string();
            let properties = rows.map(|twin| shown(&id, &twin.name, &twin.to_property())).collect();
            let object =
                reader.object(&ObjectKey::namespaced(Kind::Device, &row.id.namespace, &row.id.name))?;
            devices.push(Device {
                id,
                protocol: object.as_ref().map(protocol_of).unwrap_or_default().to_owned(),
                node: None,
                state: row.state,
                last_online: row.last_online,
                properties,
            });
        }
        Ok(devices)
    }

    /// The DeviceModel of a device, as far as this node has it.
    pub(super) fn model(&self, id: &DeviceId) -> Result<Option<Value>, Failure> {
        let reader = Reader::open(&self.database)?;
        let object = |kind, name: &str| reader.object(&ObjectKey::namespaced(kind, &id.namespace, name));
        let device = object(Kind::Device, &id.name)?;
        device.as_ref().and_then(model_of).map_or(Ok(None), |name| object(Kind::DeviceModel, name))
    }

    pub(super) async fn set(&self, id: &DeviceId, property: &str, value: &str) -> Result<(), Failure> {
        let path = self.database.clone();
        match aside("open the store", move || Store::open(path)).await? {
            Ok(store) => device::set_offline(&store, id, property, value).await,
            Err(failure) if failure.code == HELD => self.set_running(id, property, value).await,
            Err(failure) => Err(failure),
        }
    }

    async fn set_running(&self, id: &DeviceId, property: &str, value: &str) -> Result<(), Failure> {
        let mut client = self.client().await?;
        let result = topics::twin_update_result(id);
        client.subscribe(&[&result]).await?;
        let event = uuid4();
        let twin = json!({property: {"expected": {"value": value}}});
        let update = json!({"event_id": event, "timestamp": now_ms(), "twin": twin});
        client.publish(&topics::twin_update(id), update.to_string().as_bytes()).await?;
        let deadline = tokio::time::Instant::now() + ANSWER_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let Some((_, payload)) = client.next_within(left).await? else {
                return Err(Failure::new("KE-TWIN-005", format!("the daemon does not answer for {id}"))
                    .because(format!(
                        "its broker took the change, and no answer came in {} s",
                        ANSWER_LIMIT.as_secs()
                    ))
                    .fix("look at `kedge status`, and say it again when the daemon serves")
                    .exit(Exit::TimedOut));
            };
            let answer: Value = serde_json::from_slice(&payload).unwrap_or_default();
            if answer.get("event_id").and_then(Value::as_str) == Some(&event) {
                return accepted(id, property, &answer);
            }
        }
    }

    /// Follows the documents that the running daemon publishes.
    pub(super) async fn watch(
        &self,
        device: Option<&DeviceId>,
        mut told: impl FnMut(&Property) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut client = self.client().await?;
        let one = device.map(topics::twin_update_document);
        client.subscribe(&[one.as_deref().unwrap_or(DOCUMENTS)]).await?;
        loop {
            let (topic, payload) = client.next().await?;
            for property in changed(&topic, &payload) {
                told(&property)?;
            }
        }
    }

    /// Connects to the broker of the daemon that runs here.
    pub(in crate::cmd) async fn client(&self) -> Result<mqtt::Client, Failure> {
        let (room, key) = device::ADDRESSES;
        let states = Reader::open(&self.database)?.states(room)?;
        let noted = states.iter().find(|(name, _)| name == key).and_then(|(_, value)| value.get(0)?.as_str());
        mqtt::Client::connect(noted.unwrap_or("127.0.0.1:1883")).await
    }
}

fn accepted(id: &DeviceId, property: &str, answer: &Value) -> Result<(), Failure> {
    if answer.get("code").is_none() {
        return Ok(());
    }
    let reason = answer.get("reason").and_then(Value::as_str).unwrap_or_default();
    Err(Failure::new("KE-TWIN-004", format!("the value of {property} of {id} is not set"))
        .because(reason)
        .fix("use a value that the property's type allows"))
}

fn text(value: &Option<TwinValue>) -> Option<String> {
    value.as_ref().and_then(|value| value.value.clone())
}

fn shown(device: &str, name: &str, held: &TwinProperty) -> Property {
    let at =
        held.actual.as_ref().and_then(|actual| actual.metadata.as_ref()).map(|metadata| metadata.timestamp);
    Property {
        device: device.to_owned(),
        property: name.to_owned(),
        desired: text(&held.expected),
        reported: text(&held.actual),
        reported_at: at,
        value_type: held.metadata.as_ref().map(|metadata| metadata.value_type.clone()).unwrap_or_default(),
    }
}

fn changed(topic: &str, payload: &[u8]) -> Vec<Property> {
    let device =
        topic.strip_prefix("$hw/events/device/").and_then(|rest| rest.strip_suffix("/twin/update/document"));
    let document: Value = serde_json::from_slice(payload).unwrap_or_default();
    let twins = document.get("twin").and_then(Value::as_object);
    let (Some(device), Some(twins)) = (device, twins) else { return Vec::new() };
    let current = |(name, change): (&String, &Value)| {
        let held = serde_json::from_value(change.get("current")?.clone()).ok().flatten();
        Some(shown(device, name, &held.unwrap_or_default()))
    };
    twins.iter().filter_map(current).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DeviceChange, DeviceRow};

    #[test]
    fn documents_are_read_as_changes() {
        let payload = br#"{"twin":{"a":{"last":null,"current":{"actual":{"value":"5","metadata":{"timestamp":7}}}},"b":{"last":{},"current":null}}}"#;
        let all = changed("$hw/events/device/lab/t/twin/update/document", payload);
        assert_eq!(
            (all[0].device.as_str(), all[0].reported.as_deref(), all[0].reported_at),
            ("lab/t", Some("5"), Some(7))
        );
        assert_eq!((all[1].property.as_str(), all[1].reported.as_deref()), ("b", None));
    }

    #[tokio::test]
    async fn a_stopped_node_reads_and_sets_its_own_store() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Local::open(dir.path()).err().unwrap().exit, Exit::Unreachable);
        let path = database(dir.path());
        let id = DeviceId::new("lab", "t");
        {
            let store = Store::open(&path).unwrap();
            let devices = vec![DeviceRow::new(id.clone())];
            store.change_devices(DeviceChange { devices, ..DeviceChange::default() }).await.unwrap();
            device::set_offline(&store, &id, "target", "1").await.unwrap();
        }
        let local = Local::open(dir.path()).unwrap();
        local.set(&id, "target", "24").await.unwrap();
        let devices = local.devices().unwrap();
        assert_eq!(devices[0].properties[0].desired.as_deref(), Some("24"));
        assert_eq!(local.set(&id, "target", "a b").await.unwrap_err().committed().code, "KE-TWIN-004");
    }
}
