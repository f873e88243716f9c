//! `kedge twin get --trace`: the way of a device's values hop by hop, from the cloud to the device and back, as far as this
//! node's store and its daemon can tell, and the first hop that is broken. Changes nothing.

use crate::base::{Exit, Failure, Output, Term, now_ms};
use crate::cmd::edge_store::database;
use crate::daemon::status;
use crate::model::twin::{TwinProperty, TwinValue, mapper_missing, protocol_of};
use crate::model::{DeviceId, Kind, ObjectKey};
use crate::store::{DeviceRow, Reader};
use crate::wire::topics::twin_update;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;

/// How a hop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Something is under way.
    Waits,
    Broken,
    /// It cannot be seen from here.
    Unknown,
}

/// One hop of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Hop {
    hop: &'static str,
    state: State,
    /// Milliseconds since the epoch of what was seen last; 0 when there is no time.
    at: i64,
    said: String,
}

/// What is known of the way.
struct Seen {
    device: DeviceRow,
    properties: Vec<(String, TwinProperty)>,
    /// How its mapper would speak to it; empty where the Device does not say.
    protocol: String,
    node: String,
    /// Reports of this device that the cloud has not confirmed.
    waiting: usize,
    /// The daemon's document; `None` when no daemon runs.
    status: Option<Value>,
}

pub(super) fn run(
    data_dir: &Path,
    id: &DeviceId,
    property: Option<&str>,
    output: Output,
    term: &Term,
) -> Result<Exit, Failure> {
    let seen = look(data_dir, id, property)?;
    let hops = hops(&seen, now_ms());
    let broken = hops.iter().position(|hop| hop.state == State::Broken);
    if output == Output::Text {
        let now = now_ms();
        for (number, hop) in hops.iter().enumerate() {
            let word = match hop.state {
                State::Ok => "ok",
                State::Waits => "waits",
                State::Broken => "BROKEN",
                State::Unknown => "unknown",
            };
            let age = if hop.at > 0 { super::age(now.saturating_sub(hop.at)) } else { "-".to_owned() };
            term.data(&format!("{}  {word:<8} {age:>5}  {:<22} {}", number + 1, hop.hop, hop.said));
        }
        if let Some(hop) = broken.and_then(|place| hops.get(place)) {
            term.say(&format!("the first broken hop is {}: {}", hop.hop, hop.said));
        }
    } else {
        let first = broken.map(|place| place + 1);
        term.value(
            &json!({"apiVersion": "kedge.io/v1", "kind": "TwinTrace", "device": id.to_string(), "hops": hops,
                "firstBroken": first}),
            output,
        )?;
    }
    Ok(if broken.is_some() { Exit::Failed } else { Exit::Done })
}

fn look(data_dir: &Path, id: &DeviceId, property: Option<&str>) -> Result<Seen, Failure> {
    let path = database(data_dir);
    let reader = Reader::open(&path)?;
    let device = reader.device(id)?.ok_or_else(|| {
        Failure::new("KE-TWIN-001", format!("there is no device {id}"))
            .because("the store of this node holds none of this name")
            .fix("list them with `kedge device list`")
    })?;
    let rows = reader.twins(id)?.into_iter().filter(|row| row.attr_type != "deleted");
    let properties: Vec<(String, TwinProperty)> = rows
        .filter(|row| property.is_none_or(|wanted| row.name == wanted))
        .map(|row| (row.name.clone(), row.to_property()))
        .collect();
    if let (Some(name), true) = (property, properties.is_empty()) {
        return Err(Failure::new("KE-TWIN-002", format!("{id} has no property {name}"))
            .because("the store of this node holds none of this name")
            .fix(format!("list them with `kedge twin get {id}`")));
    }
    let object = reader.object(&ObjectKey::namespaced(Kind::Device, &id.namespace, &id.name))?;
    let protocol = object.as_ref().map(protocol_of).unwrap_or_default().to_owned();
    let node = reader.objects(Kind::Node)?.into_iter().next().map(|(key, _)| key.name).unwrap_or_default();
    let text = id.to_string();
    let outbox = reader.states("device-outbox")?;
    let waiting =
        outbox.iter().filter(|(_, row)| row.get("device").and_then(Value::as_str) == Some(&text)).count();
    let sockets = [data_dir.join("kedge.sock"), path.with_file_name("kedge.sock")];
    let status = sockets.iter().find_map(|socket| status::ask(socket).ok());
    Ok(Seen { device, properties, protocol, node, waiting, status })
}

/// The way down (cloud, link, daemon, store, broker), the device, and the way back.
fn hops(seen: &Seen, now: i64) -> Vec<Hop> {
    let hop = |hop, state, at, said: String| Hop { hop, state, at, said };
    let edge = seen.status.as_ref().map(|document| document.get("edge").unwrap_or(document));
    let text = |pointer: &str| {
        edge.and_then(|edge| edge.pointer(pointer)).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let number =
        |pointer: &str| edge.and_then(|edge| edge.pointer(pointer)).and_then(Value::as_i64).unwrap_or(0);
    let mut all = Vec::new();
    all.push(match edge {
        None => hop("link to the cloud", State::Unknown, 0, "no daemon runs that could tell".to_owned()),
        Some(_) if text("/link/link") == "up" => hop(
            "link to the cloud",
            State::Ok,
            number("/link/since"),
            format!("up to {}", text("/link/remote")),
        ),
        Some(_) => {
            let why = text("/link/error");
            let said = if why.is_empty() { "down".to_owned() } else { format!("down: {why}") };
            hop("link to the cloud", State::Broken, number("/link/since"), said)
        }
    });
    all.push(match edge {
        None => hop(
            "daemon",
            State::Broken,
            0,
            "not running: nothing is sent to the device or the cloud".to_owned(),
        ),
        Some(edge) => module(edge, "device", "daemon"),
    });
    let known = format!("{} properties are kept here", seen.properties.len());
    let kept = if seen.properties.is_empty() { State::Broken } else { State::Ok };
    all.push(hop("store", kept, 0, known));
    let desired = newest(&seen.properties, |property| property.expected.as_ref());
    all.push(match &desired {
        Some((name, value, at)) => hop("desired value", State::Ok, *at, format!("{name} is to be {value:?}")),
        None => hop("desired value", State::Ok, 0, "nothing is wished".to_owned()),
    });
    all.push(match edge {
        None => hop("MQTT broker", State::Unknown, 0, "no daemon runs that could tell".to_owned()),
        Some(edge) => {
            let clients = number("/mqtt/connections");
            let mut broker = module(edge, "mqtt", "MQTT broker");
            if broker.state == State::Ok {
                broker.said = format!("{clients} clients, {} messages received", number("/mqtt/received"));
            }
            broker
        }
    });
    let actual = newest(&seen.properties, |property| property.actual.as_ref());
    all.push(match &actual {
        Some((name, value, at)) => hop("device reports", State::Ok, *at, format!("{name} is {value:?}")),
        None => hop(
            "device reports",
            State::Broken,
            0,
            format!(
                "{}: nothing was ever reported; start a mapper that publishes to {} (KE-MAPPER-001)",
                mapper_missing(&seen.protocol, &seen.node),
                twin_update(&seen.device.id)
            ),
        ),
    });
    all.push(agreement(seen, now));
    all.push(if seen.waiting == 0 {
        hop("report to the cloud", State::Ok, 0, "the cloud has confirmed every report".to_owned())
    } else {
        hop(
            "report to the cloud",
            State::Waits,
            0,
            format!("{} reports wait for the cloud's answer", seen.waiting),
        )
    });
    if !seen.device.state.is_empty()
        && let Some(hop) = all.iter_mut().find(|hop| hop.hop == "device reports")
    {
        hop.said += &format!("; it is {}", seen.device.state);
    }
    all
}

fn module(edge: &Value, name: &str, shown: &'static str) -> Hop {
    let modules = edge.get("modules").and_then(Value::as_array);
    let found = modules.into_iter().flatten().find(|module| module.get("name").is_some_and(|n| n == name));
    let state = found.and_then(|module| module.get("state")).and_then(Value::as_str).unwrap_or("absent");
    let error = found.and_then(|module| module.get("error")).and_then(Value::as_str).unwrap_or_default();
    let verdict = match state {
        "ready" => State::Ok,
        "starting" => State::Waits,
        _ => State::Broken,
    };
    let said = if error.is_empty() {
        format!("module {name} is {state}")
    } else {
        format!("module {name} is {state}: {error}")
    };
    Hop { hop: shown, state: verdict, at: 0, said }
}

/// The half of a property that was written last: its name, value and time.
fn newest<'a>(
    properties: &'a [(String, TwinProperty)],
    half: impl Fn(&'a TwinProperty) -> Option<&'a TwinValue>,
) -> Option<(&'a str, &'a str, i64)> {
    let all = properties.iter().filter_map(|(name, property)| {
        let value = half(property)?;
        let at = value.metadata.as_ref().map_or(0, |metadata| metadata.timestamp);
        Some((name.as_str(), value.value.as_deref()?, at))
    });
    all.max_by_key(|(_, _, at)| *at)
}

/// Whether the device does what is wished.
fn agreement(seen: &Seen, now: i64) -> Hop {
    let differs = seen.properties.iter().filter_map(|(name, property)| {
        let wished = property.expected.as_ref()?.value.as_deref()?;
        let is = property.actual.as_ref().and_then(|actual| actual.value.as_deref());
        let since = property.expected.as_ref()?.metadata.as_ref().map_or(0, |metadata| metadata.timestamp);
        (is != Some(wished)).then(|| (name, wished, is.unwrap_or("nothing"), since))
    });
    match differs.min_by_key(|(_, _, _, since)| *since) {
        None => Hop {
            hop: "device follows",
            state: State::Ok,
            at: 0,
            said: "what is wished is what is".to_owned(),
        },
        Some((name, wished, is, since)) => {
            const PATIENCE: i64 = 30_000;
            let late = since > 0 && now.saturating_sub(since) > PATIENCE;
            let state = if late { State::Broken } else { State::Waits };
            let said = format!("{name} is to be {wished:?} and is {is:?}");
            Hop { hop: "device follows", state, at: since, said }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property(expected: Option<(&str, i64)>, actual: Option<(&str, i64)>) -> TwinProperty {
        let half = |half: Option<(&str, i64)>| {
            half.map(|(value, at)| {
                serde_json::from_value::<TwinValue>(json!({"value": value, "metadata": {"timestamp": at}}))
                    .unwrap()
            })
        };
        TwinProperty { expected: half(expected), actual: half(actual), ..TwinProperty::default() }
    }

    fn seen(properties: Vec<(String, TwinProperty)>) -> Seen {
        let status = json!({"link": {"link": "up", "remote": "c:1", "since": 5}, "mqtt": {"connections": 2, "received": 9},
            "modules": [{"name": "device", "state": "ready"}, {"name": "mqtt", "state": "ready"}]});
        let (protocol, node) = ("modbus".to_owned(), "edge-1".to_owned());
        let device = DeviceRow::new(DeviceId::new("d", "t"));
        Seen { device, properties, protocol, node, waiting: 0, status: Some(status) }
    }

    fn first_broken(seen: &Seen) -> Option<&'static str> {
        hops(seen, 100_000).into_iter().find(|hop| hop.state == State::Broken).map(|hop| hop.hop)
    }

    #[test]
    fn the_first_broken_hop_is_found() {
        let good = || seen(vec![("a".to_owned(), property(Some(("1", 99_000)), Some(("1", 99_500))))]);
        assert_eq!(first_broken(&good()), None);
        let mut down = good();
        down.status.as_mut().unwrap()["link"] = json!({"link": "down", "error": "no way"});
        assert_eq!(first_broken(&down), Some("link to the cloud"));
        let mut stopped = good();
        stopped.status = None;
        assert_eq!(first_broken(&stopped), Some("daemon"));
        let mut broker = good();
        broker.status.as_mut().unwrap()["modules"][1]["state"] = json!("backoff");
        assert_eq!(first_broken(&broker), Some("MQTT broker"));
        let silent = seen(vec![("a".to_owned(), property(Some(("1", 99_000)), None))]);
        assert_eq!(first_broken(&silent), Some("device reports"));
        let said = hops(&silent, 100_000).remove(5).said;
        assert!(said.starts_with("MapperMissing(protocol=modbus, node=edge-1): "), "{said}");
        assert!(said.contains("$hw/events/device/d/t/twin/update"), "{said}");
        let deaf = seen(vec![("a".to_owned(), property(Some(("2", 1000)), Some(("1", 99_500))))]);
        assert_eq!(first_broken(&deaf), Some("device follows"));
        let fresh = seen(vec![("a".to_owned(), property(Some(("2", 99_000)), Some(("1", 99_500))))]);
        assert_eq!(first_broken(&fresh), None);
    }
}
