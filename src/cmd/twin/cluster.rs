//! Twins in the cloud: the Device objects hold what is desired, the DeviceStatus objects what is reported. Reads and
//! patches them through the Kubernetes API; every request has a limit.

use super::{Device, Property, model_of};
use crate::base::{Exit, Failure};
use crate::daemon::cloud;
use crate::model::DeviceId;
use crate::model::twin::protocol_of;
use crate::pki::install_crypto_provider;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// The cluster's devices.
pub(in crate::cmd) struct Cluster {
    client: kube::Client,
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "devices.kubeedge.io".to_owned(),
        version: "v1beta1".to_owned(),
        api_version: "devices.kubeedge.io/v1beta1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

fn unreachable(why: impl fmt::Display) -> Failure {
    Failure::new("KE-KUBE-002", "the Kubernetes API cannot be asked for devices")
        .because(why)
        .fix("check the file given with --kube-config, and that the API server runs")
        .exit(Exit::Unreachable)
}

async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(LIMIT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        // Of a refusal the API's own sentence; its other fields are no text for a person.
        Ok(Err(kube::Error::Api(status))) => Err(unreachable(status.message)),
        Ok(Err(error)) => Err(unreachable(error)),
        Err(_) => Err(unreachable("no answer in time")),
    }
}

impl Cluster {
    pub(in crate::cmd) async fn connect(file: &Path) -> Result<Cluster, Failure> {
        install_crypto_provider();
        let config = cloud::kubeconfig(file).await?;
        Ok(Cluster { client: kube::Client::try_from(config).map_err(unreachable)? })
    }

    fn all(&self, kind: &str, plural: &str) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource(kind, plural))
    }

    pub(super) async fn devices(&self) -> Result<Vec<Device>, Failure> {
        let (devices, statuses) = (self.all("Device", "devices"), self.all("DeviceStatus", "devicestatuses"));
        let params = ListParams::default();
        let devices = within(devices.list(&params)).await?;
        let statuses = within(statuses.list(&params)).await?;
        let statuses: BTreeMap<String, Value> =
            statuses.items.into_iter().map(|status| (id_of(&status), status.data)).collect();
        let joined = devices.items.iter().map(|device| {
            let id = id_of(device);
            let status = statuses.get(&id).unwrap_or(&Value::Null);
            joined(id, &device.data, status)
        });
        Ok(joined.collect())
    }

    /// The DeviceModel of a device; `None` where it names none, or one that is not there.
    pub(super) async fn model(&self, id: &DeviceId) -> Result<Option<Value>, Failure> {
        let of = |kind, plural| -> Api<DynamicObject> {
            Api::namespaced_with(self.client.clone(), &id.namespace, &resource(kind, plural))
        };
        let device = within(of("Device", "devices").get_opt(&id.name)).await?;
        let Some(name) = device.as_ref().and_then(|device| model_of(&device.data)) else { return Ok(None) };
        let model = within(of("DeviceModel", "devicemodels").get_opt(name)).await?;
        Ok(model.map(|model| model.data))
    }

    pub(super) async fn set(&self, id: &DeviceId, property: &str, value: &str) -> Result<(), Failure> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &id.namespace, &resource("Device", "devices"));
        let device = within(api.get(&id.name)).await?;
        let place = list(&device.data, "/spec/properties")
            .position(|held| held.get("name").and_then(Value::as_str) == Some(property));
        let place = place.ok_or_else(|| {
            Failure::new("KE-TWIN-002", format!("{id} has no property {property}"))
                .because("its Device in the cluster names none of this name")
                .fix(format!("list them with `kedge twin get {id}`"))
        })?;
        // The test keeps the patch off a Device whose properties were reordered in between.
        let patch = json!([
            {"op": "test", "path": format!("/spec/properties/{place}/name"), "value": property},
            {"op": "add", "path": format!("/spec/properties/{place}/desired"), "value": desired(&device.data, place, value)},
        ]);
        let patch = serde_json::from_value(patch).map_err(unreachable)?;
        within(api.patch(&id.name, &PatchParams::default(), &Patch::<Value>::Json(patch))).await?;
        Ok(())
    }

    /// Follows Devices and their status; what was there before is not told.
    pub(super) async fn watch(
        &self,
        device: Option<&DeviceId>,
        mut told: impl FnMut(&Property) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let wanted = device.map(ToString::to_string);
        let mut known = self.properties(wanted.as_deref()).await?;
        loop {
            let statuses = follow(self.all("DeviceStatus", "devicestatuses"));
            let devices = follow(self.all("Device", "devices"));
            let (statuses, devices) = (statuses.await?, devices.await?);
            let mut changes = pin!(futures_util::stream::select(statuses, devices));
            while let Some(change) = changes.next().await {
                if let WatchEvent::Error(error) = change.map_err(unreachable)? {
                    tracing::debug!(code = error.code, "the watch is begun again");
                    break;
                }
                let now = self.properties(wanted.as_deref()).await?;
                for (name, property) in
                    now.iter().filter(|(name, property)| known.get(*name) != Some(property))
                {
                    let _: &(String, String) = name;
                    told(property)?;
                }
                known = now;
            }
        }
    }

    async fn properties(
        &self,
        wanted: Option<&str>,
    ) -> Result<BTreeMap<(String, String), Property>, Failure> {
        let devices = self.devices().await?;
        let of_interest = devices.into_iter().filter(|device| wanted.is_none_or(|id| id == device.id));
        let properties = of_interest.flat_map(|device| device.properties);
        Ok(properties.map(|held| ((held.device.clone(), held.property.clone()), held)).collect())
    }
}

type Changes = BoxStream<'static, kube::Result<WatchEvent<DynamicObject>>>;

/// Changes from now on.
async fn follow(api: Api<DynamicObject>) -> Result<Changes, Failure> {
    let listed = within(api.list(&ListParams::default().limit(1))).await?;
    let version = listed.metadata.resource_version.unwrap_or_default();
    let changes = within(api.watch(&WatchParams::default().timeout(240), &version)).await?;
    Ok(changes.boxed())
}

fn desired(device: &Value, place: usize, value: &str) -> Value {
    let held = list(device, "/spec/properties").nth(place).and_then(|property| property.get("desired"));
    let mut desired = held.cloned().filter(Value::is_object).unwrap_or_else(|| json!({}));
    if let Some(fields) = desired.as_object_mut() {
        fields.insert("value".to_owned(), json!(value));
    }
    desired
}

fn id_of(object: &DynamicObject) -> String {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    format!("{namespace}/{}", object.metadata.name.as_deref().unwrap_or_default())
}

fn list<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn joined(id: String, device: &Value, status: &Value) -> Device {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let twin_of = |name: &str| {
        list(status, "/status/twins")
            .find(|twin| twin.get("propertyName").and_then(Value::as_str) == Some(name))
    };
    let properties = list(device, "/spec/properties").filter_map(|property| {
        let name = property.get("name")?.as_str()?;
        let reported = twin_of(name).and_then(|twin| twin.get("reported"));
        let metadata = |field: &str| text(reported.and_then(|reported| reported.get("metadata")?.get(field)));
        Some(Property {
            device: id.clone(),
            property: name.to_owned(),
            desired: text(property.pointer("/desired/value")).filter(|value| !value.is_empty()),
            reported: text(reported.and_then(|reported| reported.get("value"))),
            reported_at: metadata("timestamp").and_then(|timestamp| timestamp.parse().ok()),
            value_type: metadata("type").unwrap_or_default(),
        })
    });
    let properties = properties.collect();
    Device {
        properties,
        node: text(device.pointer("/spec/nodeName")),
        state: text(status.pointer("/status/state")).unwrap_or_default(),
        last_online: text(status.pointer("/status/lastOnlineTime")).unwrap_or_default(),
        protocol: protocol_of(device).to_owned(),
        id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_and_its_status_are_one_twin() {
        let device = json!({"spec": {"nodeName": "n1", "properties": [
            {"name": "temperature"}, {"name": "target", "desired": {"value": "20", "metadata": {"x": "y"}}},
        ]}});
        let status = json!({"status": {"state": "online", "twins": [{
            "propertyName": "temperature",
            "reported": {"value": "21.5", "metadata": {"timestamp": "1767225600090", "type": "float"}},
        }]}});
        let twin = joined("lab/t".to_owned(), &device, &status);
        assert_eq!((twin.node.as_deref(), twin.state.as_str()), (Some("n1"), "online"));
        assert_eq!(twin.properties[0].reported.as_deref(), Some("21.5"));
        assert_eq!(twin.properties[0].reported_at, Some(1_767_225_600_090));
        assert_eq!(twin.properties[1].desired.as_deref(), Some("20"));
        assert_eq!(desired(&device, 1, "5"), json!({"value": "5", "metadata": {"x": "y"}}));
    }
}
