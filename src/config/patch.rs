//! Changes of edgecore.yaml that the cloud may ask for (ConfigUpdateJob): paths of an allow-list, values of the schema's
//! types. What names files, programs, sockets, secrets or the cloud itself is not on the list. Pure; the result still
//! has to pass `EdgeConfig::from_value`.

use super::Problem;
use super::edge::DEFAULT_CONFIG;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Modules and their keys that the cloud may change. `*` stands for any key of a map, `[]` for a place of a list of texts.
const OPEN: [&str; 41] = [
    "modules.deviceTwin.enable",
    "modules.edgeHub.heartbeat",
    "modules.edgeHub.messageBurst",
    "modules.edgeHub.messageQPS",
    "modules.edgeHub.rotateCertificates",
    "modules.edgeHub.websocket.handshakeTimeout",
    "modules.edgeHub.websocket.readDeadline",
    "modules.edgeHub.websocket.writeDeadline",
    "modules.edgeStream.enable",
    "modules.edgeStream.handshakeTimeout",
    "modules.edgeStream.readDeadline",
    "modules.edgeStream.writeDeadline",
    "modules.edged.maxContainerCount",
    "modules.edged.maxPerPodContainerCount",
    "modules.edged.nodeLabels.*",
    "modules.edged.registerSchedulable",
    "modules.edged.reportEvent",
    "modules.edged.tailoredKubeletConfig.clusterDNS[]",
    "modules.edged.tailoredKubeletConfig.clusterDomain",
    "modules.edged.tailoredKubeletConfig.containerLogMaxFiles",
    "modules.edged.tailoredKubeletConfig.containerLogMaxSize",
    "modules.edged.tailoredKubeletConfig.evictionHard.*",
    "modules.edged.tailoredKubeletConfig.imageGCHighThresholdPercent",
    "modules.edged.tailoredKubeletConfig.imageGCLowThresholdPercent",
    "modules.edged.tailoredKubeletConfig.maxPods",
    "modules.edged.tailoredKubeletConfig.nodeLeaseDurationSeconds",
    "modules.edged.tailoredKubeletConfig.nodeStatusReportFrequency",
    "modules.edged.tailoredKubeletConfig.nodeStatusUpdateFrequency",
    "modules.edged.tailoredKubeletConfig.runtimeRequestTimeout",
    "modules.edged.tailoredKubeletConfig.serializeImagePulls",
    "modules.edged.tailoredKubeletConfig.syncFrequency",
    "modules.eventBus.enable",
    "modules.eventBus.mqttMode",
    "modules.eventBus.mqttQOS",
    "modules.eventBus.mqttRetain",
    "modules.eventBus.mqttSessionQueueSize",
    "modules.metaManager.metaServer.enable",
    "modules.metaManager.remoteQueryTimeout",
    "modules.serviceBus.enable",
    "modules.serviceBus.timeout",
    "modules.taskManager.enable",
];

/// Places of a list that the cloud may name.
const PLACES: usize = 16;

/// Where a field leads.
enum Place<'a> {
    Key(Vec<&'a str>),
    /// A key of a map that takes any.
    Free(Vec<&'a str>, &'a str),
    /// A place of a list.
    At(Vec<&'a str>, usize),
}

/// The document with these fields changed; every problem is told.
pub fn patched(file: &Value, fields: &BTreeMap<String, String>) -> Result<Value, Vec<Problem>> {
    let schema: Value = serde_yaml::from_str(DEFAULT_CONFIG)
        .map_err(|error| vec![Problem::new("(the built-in configuration)", "", error.to_string())])?;
    let mut document = if file.is_object() { file.clone() } else { json!({}) };
    let mut problems = Vec::new();
    for (path, text) in fields {
        if let Err(reason) = set(&mut document, &schema, path, text) {
            problems.push(Problem::new(path, text, reason));
        }
    }
    if problems.is_empty() { Ok(document) } else { Err(problems) }
}

fn set(document: &mut Value, schema: &Value, path: &str, text: &str) -> Result<(), String> {
    let place = open(path).ok_or("the cloud may not change it; change it on the node")?;
    match place {
        Place::Key(keys) => {
            let known = keys.iter().try_fold(schema, |at, key| at.get(*key));
            let value = typed(known.unwrap_or(&Value::Null), text)?;
            let (last, above) = keys.split_last().ok_or("it names nothing")?;
            map_at(document, above)?.insert((*last).to_owned(), value);
        }
        Place::Free(keys, key) => {
            map_at(document, &keys)?.insert(key.to_owned(), json!(text));
        }
        Place::At(keys, index) => {
            let (last, above) = keys.split_last().ok_or("it names nothing")?;
            let list = map_at(document, above)?.entry((*last).to_owned()).or_insert_with(|| json!([]));
            if list.is_null() {
                *list = json!([]);
            }
            let list = list.as_array_mut().ok_or("there is no list in the file")?;
            let places = list.len();
            match list.get_mut(index) {
                Some(held) => *held = json!(text),
                None if index == places => list.push(json!(text)),
                None => return Err(format!("the list has {places} places")),
            }
        }
    }
    Ok(())
}

fn open(path: &str) -> Option<Place<'_>> {
    OPEN.iter().find_map(|entry| {
        if let Some(map) = entry.strip_suffix(".*") {
            let key = path.strip_prefix(map)?.strip_prefix('.').filter(|key| !key.is_empty())?;
            return Some(Place::Free(map.split('.').collect(), key));
        }
        if let Some(list) = entry.strip_suffix("[]") {
            let index = path.strip_prefix(list)?.strip_prefix('[')?.strip_suffix(']')?;
            let index = index.parse().ok().filter(|index| *index < PLACES)?;
            return Some(Place::At(list.split('.').collect(), index));
        }
        (*entry == path).then(|| Place::Key(entry.split('.').collect()))
    })
}

/// The map below these keys, made where the file has none.
fn map_at<'a>(document: &'a mut Value, keys: &[&str]) -> Result<&'a mut Map<String, Value>, String> {
    let mut at = document;
    for key in keys {
        let map = at.as_object_mut().ok_or_else(|| format!("{key} stands in no map of the file"))?;
        at = map.entry((*key).to_owned()).or_insert_with(|| json!({}));
        if at.is_null() {
            *at = json!({});
        }
    }
    at.as_object_mut().ok_or_else(|| "it stands in no map of the file".to_owned())
}

/// A text as a value of the type that stands in the schema.
fn typed(known: &Value, text: &str) -> Result<Value, String> {
    match known {
        Value::Bool(_) => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err("must be true or false".to_owned()),
        },
        Value::Number(_) => {
            let whole = text.parse::<i64>().map(Value::from).ok();
            let number =
                || text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number);
            whole.or_else(number).ok_or_else(|| "must be a number".to_owned())
        }
        Value::String(_) => Ok(json!(text)),
        Value::Null | Value::Array(_) | Value::Object(_) => Err("is no single value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::edge::EdgeConfig;

    fn change(path: &str, text: &str) -> Result<Value, Vec<Problem>> {
        let file = json!({"modules": {"edged": {"hostnameOverride": "n1", "tailoredKubeletConfig": null}, "own": 1}});
        patched(&file, &BTreeMap::from([(path.to_owned(), text.to_owned())]))
    }

    #[test]
    fn every_open_field_is_in_the_schema() {
        let schema: Value = serde_yaml::from_str(DEFAULT_CONFIG).unwrap();
        for entry in OPEN {
            let bare = entry.trim_end_matches(".*").trim_end_matches("[]");
            let found = bare.split('.').try_fold(&schema, |at, key| at.get(key));
            assert!(found.is_some(), "{entry}");
        }
    }

    #[test]
    fn values_get_the_types_of_the_schema_and_the_rest_stays() {
        let changed = change("modules.edgeHub.heartbeat", "20").unwrap();
        assert_eq!(changed["modules"]["edgeHub"]["heartbeat"], json!(20));
        assert_eq!(changed["modules"]["own"], json!(1));
        assert_eq!(EdgeConfig::from_value(&changed, "x").unwrap().config.hub.heartbeat.as_secs(), 20);
        let changed = change("modules.edgeStream.enable", "true").unwrap();
        assert_eq!(changed["modules"]["edgeStream"]["enable"], json!(true));
        let changed = change("modules.edged.nodeLabels.topology.kubernetes.io/zone", "a").unwrap();
        assert_eq!(changed["modules"]["edged"]["nodeLabels"]["topology.kubernetes.io/zone"], json!("a"));
        let changed = change("modules.edged.tailoredKubeletConfig.clusterDNS[0]", "10.0.0.10").unwrap();
        assert_eq!(changed["modules"]["edged"]["tailoredKubeletConfig"]["clusterDNS"], json!(["10.0.0.10"]));
    }

    #[test]
    fn what_is_not_open_or_of_another_type_is_refused() {
        for path in [
            "database.dataSource",
            "modules.edgeHub.token",
            "modules.edgeHub.httpServer",
            "modules.edgeHub.tlsCaFile",
            "modules.edged.rootDirectory",
            "modules.edged.tailoredKubeletConfig.staticPodPath",
            "modules.edged.tailoredKubeletConfig.containerRuntimeEndpoint",
            "modules.edged.tailoredKubeletConfig.clusterDNS[99]",
            "modules.edged.nodeLabels",
            "modules.edged.nodeLabels.",
            "modules.edged",
            "modules",
            "kedge.runtimeDir",
            "kedge.images[0]",
            "",
        ] {
            let problems = change(path, "x").unwrap_err();
            assert!(problems[0].reason.contains("may not change"), "{path}: {problems:?}");
        }
        assert!(change("modules.edgeStream.enable", "yes").unwrap_err()[0].reason.contains("true or false"));
        assert!(change("modules.edgeHub.heartbeat", "often").unwrap_err()[0].reason.contains("number"));
        assert!(change("modules.edged.tailoredKubeletConfig.clusterDNS[3]", "1.1.1.1").is_err());
        let broken = json!({"modules": {"edgeHub": 7}});
        assert!(
            patched(&broken, &BTreeMap::from([("modules.edgeHub.heartbeat".to_owned(), "1".to_owned())]))
                .is_err()
        );
    }
}
