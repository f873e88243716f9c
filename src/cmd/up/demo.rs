//! `--demo`: the manifest of `manifests/demo.yaml`, and a thermometer that speaks MQTT like any device.

use crate::base::{Failure, Stop, Term};
use crate::daemon::apiserver::local::{Collection, Local};
use crate::daemon::edge::mqtt::Client;
use crate::daemon::mapper::{Simulation, simulate};
use crate::model::{DeviceId, NodeName};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

const MANIFEST: &str = include_str!("../../../manifests/demo.yaml");
const INTERVAL: Duration = Duration::from_secs(1);
/// Lines about the moving twin that are printed before the demo falls silent.
const SHOWN: u32 = 5;

/// Creates what of the demo is not there; what a person changed stays changed.
pub(super) async fn apply(local: &Local, node: &NodeName) -> Result<(), Failure> {
    for document in serde_yaml::Deserializer::from_str(MANIFEST) {
        let read = Value::deserialize(document);
        let mut object = read.map_err(|error| refused(&error.to_string()))?;
        let collection = match object.get("kind").and_then(Value::as_str) {
            Some("Deployment") => Collection::of("apps", "deployments"),
            Some("DeviceModel") => Collection::of("devices.kubeedge.io", "devicemodels"),
            _ => {
                if let Some(spec) = object.get_mut("spec") {
                    spec["nodeName"] = json!(node.as_str());
                }
                Collection::of("devices.kubeedge.io", "devices")
            }
        };
        match local.create(&collection, object).await {
            Ok(_) => {}
            Err(status) if status.already_exists() => {}
            Err(status) => return Err(refused(&status.to_string())),
        }
    }
    Ok(())
}

fn refused(why: &str) -> Failure {
    Failure::new("KE-UP-006", "the demo cannot be applied")
        .because(why)
        .fix("run `kedge up` without --demo, and apply what you want with kubectl")
}

/// Plays the thermometer until stopped, and shows its first values.
pub(super) async fn thermometer(mqtt_port: u16, stop: Stop, term: Term) {
    let simulation = Simulation {
        device: DeviceId::new("default", "thermometer"),
        property: "temperature".to_owned(),
        interval: INTERVAL,
        reports: None,
    };
    let mut shown = 0;
    let played = async {
        let client = Client::connect(&format!("127.0.0.1:{mqtt_port}")).await?;
        simulate(&simulation, client, stop, |value| {
            if shown < SHOWN {
                shown += 1;
                term.say(&format!("  thermometer reports temperature={value}"));
            }
        })
        .await
    };
    if let Err(failure) = played.await {
        tracing::warn!(code = failure.code, error = %failure, "the simulated thermometer ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_can_be_read() {
        let documents = serde_yaml::Deserializer::from_str(MANIFEST).map(Value::deserialize);
        let kinds: Vec<Value> = documents.map(|read| read.unwrap()["kind"].clone()).collect();
        assert_eq!(kinds, ["Deployment", "DeviceModel", "Device"]);
    }

    /// An API in which nothing runs has no namespace for it.
    #[tokio::test]
    async fn an_api_that_refuses_an_object_of_the_demo_is_told() {
        let (_dir, local) = super::super::parts::tests::bare_api();
        let failure = apply(&local, &NodeName::new("n").unwrap()).await.unwrap_err();
        assert_eq!(failure.code, "KE-UP-006");
        failure.is_as_committed();
        assert!(
            failure.why.contains("\"default\" not found") && failure.fix.contains("without --demo"),
            "{failure}"
        );
    }
}
