//! Devices: a real message through the broker; for each device where its values stand on the way from the mapper over
//! this node's store to the cloud, and whether they still come.

use super::link::ago;
use super::place::Place;
use crate::base::now_ms;
use crate::config::edge::{EdgeConfig, MqttMode, MqttTls};
use crate::host::check::{Check, Finding, Group};
use crate::host::preflight::{mqtt_round_trip, mqtt_round_trip_over};
use crate::link::{Endpoint, dial};
use crate::model::twin::{mapper_missing, protocol_of};
use crate::model::{DeviceId, Kind, ObjectKey};
use crate::pki::{Identity, client_config};
use crate::store::{Reader, TwinRow};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(3);
/// The room in which the device room keeps reports that the cloud has not confirmed.
const OUTBOX: &str = "device-outbox";
/// A report is on its way for about a round trip.
const PATIENCE: i64 = 60_000;
/// Reports that a Device wants in a rhythm may fail to come so many times.
const MISSED: i64 = 3;
/// Without a rhythm of its own a device that says nothing for so long is told.
const DAY: i64 = 86_400_000;
/// So many devices are told one by one.
const TOLD: usize = 20;

pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    let (broker, twins) = (place.clone(), place.clone());
    vec![
        Check::asking(
            "KE-BROKER-001",
            Group::Devices,
            "MQTT broker",
            async move { vec![message(&broker).await] },
        )
        .after(&["KE-DAEMON-001"]),
        Check::blocking("KE-TWIN-010", Group::Devices, "devices", move || {
            let node = twins.edge.as_ref().map_or("", |config| config.node.as_str());
            let path = twins.edge.as_ref().map(|config| config.database.clone());
            look_at_devices(path, node, twins.told("/link/link") == "up")
        })
        .also(&["KE-MAPPER-001", "KE-MAPPER-003"])
        .after(&["KE-DB-001"]),
    ]
}

async fn message(place: &Place) -> Finding {
    let (code, name) = ("KE-BROKER-001", "MQTT broker");
    let Some(config) = &place.edge else { return Finding::skipped(code, name, "because of KE-ETC-001") };
    if !config.mqtt.enabled {
        return Finding::skipped(code, name, "switched off (modules.eventBus.enable)");
    }
    let topic = format!("kedge/doctor/{}", crate::base::random_suffix(8));
    if let (Some(tls), MqttMode::External) = (&config.mqtt.external_tls, config.mqtt.mode) {
        return judge_message(&config.mqtt.external, over_tls(config, tls.clone(), &topic).await);
    }
    let address = address(config, place.broker.as_deref());
    judge_message(&address, mqtt_round_trip(&address, login(config), &topic, LIMIT).await)
}

fn login(config: &EdgeConfig) -> Option<(&str, &str)> {
    let user = &config.mqtt.username;
    (!user.is_empty()).then(|| (user.as_str(), config.mqtt.password.reveal()))
}

/// The round trip at a foreign broker that wants certificates, with those that the daemon shows it.
async fn over_tls(config: &EdgeConfig, files: MqttTls, topic: &str) -> Result<Duration, String> {
    let prepared = tokio::task::spawn_blocking(move || {
        let ca = crate::base::read_limited(&files.ca_file, 1 << 20)?;
        let identity = Identity::load(&files.cert_file, &files.key_file)?;
        client_config(&String::from_utf8_lossy(&ca), Some(&identity))
    });
    let tls = match prepared.await {
        Ok(Ok(tls)) => tls,
        Ok(Err(failure)) => return Err(format!("{}: {}", failure.what, failure.why)),
        Err(_) => return Err("its certificates cannot be read".to_owned()),
    };
    let endpoint = Endpoint::parse(&config.mqtt.external, 8883).ok_or("the address cannot be used")?;
    let stream = dial(&endpoint, tls, LIMIT).await.map_err(|error| error.to_string())?;
    mqtt_round_trip_over(stream, login(config), topic, LIMIT).await
}

fn address(config: &EdgeConfig, noted: Option<&str>) -> String {
    let mqtt = &config.mqtt;
    let named = if mqtt.mode == MqttMode::External { &mqtt.external } else { &mqtt.internal };
    noted.unwrap_or(named).to_owned()
}

fn judge_message(address: &str, outcome: Result<Duration, String>) -> Finding {
    let (code, name) = ("KE-BROKER-001", "MQTT broker");
    match outcome {
        Ok(time) => Finding::fine(
            code,
            name,
            format!("a message came back from {address} in {:.1} ms", time.as_secs_f64() * 1000.0),
        ),
        Err(error) => Finding::failed(code, name, format!("{address}: {error}"))
            .because("devices, mappers and rules speak over this broker")
            .fix("kedge status, and kedge doctor --only KE-PORT for who holds the port"),
    }
}

/// What is known of one device.
#[derive(Debug, Default)]
struct Hops {
    id: String,
    /// How the device is spoken to, such as `modbus`; empty where the Device does not say.
    protocol: String,
    /// How often a report is due by the Device, in milliseconds.
    rhythm: Option<i64>,
    properties: usize,
    /// When the mapper last reported a value; milliseconds since the epoch.
    reported: Option<i64>,
    /// Properties whose desired value is not the reported one.
    apart: Vec<String>,
    /// Reports that wait for the cloud, and the time of the oldest.
    waiting: usize,
    oldest: Option<i64>,
}

fn look_at_devices(database: Option<PathBuf>, node: &str, link: bool) -> Vec<Finding> {
    let (code, name) = ("KE-TWIN-010", "devices");
    let Some(path) = database.filter(|path| path.is_file()) else {
        return vec![Finding::skipped(code, name, "there is no database yet")];
    };
    match read(&path) {
        Ok(devices) => judge_devices(&devices, node, link, now_ms()),
        Err(failure) => vec![Finding::failed(code, name, failure.what).because(failure.why).fix(failure.fix)],
    }
}

fn read(path: &std::path::Path) -> Result<Vec<Hops>, crate::base::Failure> {
    let reader = Reader::open(path)?;
    let mut waiting: BTreeMap<String, (usize, Option<i64>)> = BTreeMap::new();
    for (_, row) in reader.states(OUTBOX)? {
        let Some(device) = row.get("device").and_then(Value::as_str) else { continue };
        let at = row.get("timestamp").and_then(Value::as_i64);
        let (count, oldest) = waiting.entry(device.to_owned()).or_default();
        *count += 1;
        *oldest = match (*oldest, at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    let mut devices = Vec::new();
    for row in reader.devices()? {
        let twins = reader.twins(&row.id)?;
        let twins: Vec<&TwinRow> = twins.iter().filter(|twin| twin.attr_type != "deleted").collect();
        let id = row.id.to_string();
        let (count, oldest) = waiting.get(&id).copied().unwrap_or_default();
        let (protocol, rhythm) = wished(&reader, &row.id)?;
        devices.push(Hops { protocol, rhythm, waiting: count, oldest, ..hops(id, &twins) });
    }
    Ok(devices)
}

/// The protocol that the stored Device names, and the shortest rhythm that it asks of its mapper.
fn wished(reader: &Reader, id: &DeviceId) -> Result<(String, Option<i64>), crate::base::Failure> {
    let device = reader.object(&ObjectKey::namespaced(Kind::Device, &id.namespace, &id.name))?;
    let Some(device) = device else { return Ok(<_>::default()) };
    let properties = device.pointer("/spec/properties").and_then(Value::as_array);
    let cycles =
        properties.into_iter().flatten().filter_map(|property| property.get("reportCycle")?.as_i64());
    Ok((protocol_of(&device).to_owned(), cycles.filter(|cycle| *cycle > 0).min()))
}

fn hops(id: String, twins: &[&TwinRow]) -> Hops {
    let mut hops = Hops { id, properties: twins.len(), ..Hops::default() };
    for twin in twins {
        let property = twin.to_property();
        let at = property.actual.as_ref().and_then(|actual| Some(actual.metadata.as_ref()?.timestamp));
        hops.reported = hops.reported.max(at.filter(|at| *at > 0));
        if twin.expected.is_some() && twin.expected != twin.actual {
            hops.apart.push(twin.name.clone());
        }
    }
    hops
}

/// Each device that has trouble, and one line for those that have none.
fn judge_devices(devices: &[Hops], node: &str, link: bool, now: i64) -> Vec<Finding> {
    let code = "KE-TWIN-010";
    let mut findings = Vec::new();
    let mut fine = 0_usize;
    for device in devices {
        match trouble(device, node, link, now) {
            Some(finding) if findings.len() < TOLD => findings.push(finding),
            Some(_) => {}
            None => fine += 1,
        }
    }
    let troubled = devices.len() - fine;
    if troubled > TOLD {
        let rest = format!("{} more with the like", troubled - TOLD);
        findings.push(Finding::warning(code, "devices", rest).fix("kedge twin list"));
    }
    if fine > 0 || devices.is_empty() {
        let seen = if devices.is_empty() {
            "none".to_owned()
        } else {
            format!("{fine} of {} as they should be", devices.len())
        };
        findings.push(Finding::fine(code, "devices", seen));
    }
    findings
}

/// The first hop that is broken: mapper, or node to cloud.
fn trouble(device: &Hops, node: &str, link: bool, now: i64) -> Option<Finding> {
    let code = "KE-TWIN-010";
    let name = format!("device {}", device.id);
    let get = format!("kedge twin get {}", device.id);
    if let Some(oldest) = device.oldest.filter(|oldest| link && now - oldest > PATIENCE) {
        return Some(
            Finding::warning(
                code,
                name,
                format!(
                    "{} reports wait for the cloud, the oldest for {} s",
                    device.waiting,
                    (now - oldest) / 1000
                ),
            )
            .because("mapper and store are well; the hop from this node to the cloud is not")
            .fix("kedge doctor --only KE-LINK"),
        );
    }
    if device.properties > 0 && device.reported.is_none() {
        let missing = mapper_missing(&device.protocol, node);
        let seen = format!("{missing}: {} properties, none ever reported", device.properties);
        return Some(
            Finding::warning("KE-MAPPER-001", name, seen)
                .because(
                    "no program on this node speaks for the device; kedge brings no mapper for its protocol yet, and \
                     takes values over MQTT",
                )
                .fix(format!(
                    "start a mapper that publishes to {}, or try it with kedge device simulate --device {}",
                    update_topic(&device.id),
                    device.id
                )),
        );
    }
    if let Some(silent) = silence(device, now) {
        return Some(
            Finding::warning("KE-MAPPER-003", name, silent)
                .because("its mapper has stopped or has lost it: what its twin shows is as old as that")
                .fix(format!("{get} --trace, then start its mapper again")),
        );
    }
    // A device that never follows its desired value is told once it had a minute for it.
    let settled = device.reported.is_some_and(|at| now - at > PATIENCE);
    (settled && !device.apart.is_empty()).then(|| {
        Finding::warning(code, name, format!("{} not as desired", device.apart.join(", ")))
            .because("the mapper has reported since, and not the desired value")
            .fix(get)
    })
}

/// How long a device has said nothing, where that is too long.
fn silence(device: &Hops, now: i64) -> Option<String> {
    let silent = now - device.reported?;
    let patience = device.rhythm.map_or(DAY, |rhythm| rhythm.saturating_mul(MISSED).max(PATIENCE));
    let due = device.rhythm.map(|rhythm| format!(", reports are due every {}", ago(rhythm.max(1000))));
    (silent > patience).then(|| format!("last value {} ago{}", ago(silent), due.unwrap_or_default()))
}

/// Where a program reports what it has measured.
fn update_topic(device: &str) -> String {
    DeviceId::parse(device).map(|id| crate::wire::topics::twin_update(&id)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;
    use crate::store::{DeviceChange, DeviceRow, Store};
    use serde_json::json;

    const NOW: i64 = 10_000_000;

    fn device(reported: Option<i64>) -> Hops {
        Hops { id: "d/t".into(), properties: 2, reported, ..Hops::default() }
    }

    #[test]
    fn the_first_broken_hop_is_named() {
        let judged = |hops: Hops, link| trouble(&hops, "edge-1", link, NOW);
        assert_eq!(judged(device(Some(NOW - 5)), true), None);
        let mapper = judged(device(None), true).unwrap();
        assert_eq!((&*mapper.code, mapper.state), ("KE-MAPPER-001", State::Warning));
        let told = "MapperMissing(protocol=not named, node=edge-1): 2 properties, none ever reported";
        assert_eq!(mapper.seen, told);
        let modbus = Hops { protocol: "modbus".into(), ..device(None) };
        let mapper = judged(modbus, false).unwrap();
        assert!(mapper.seen.starts_with("MapperMissing(protocol=modbus, node=edge-1)"), "{mapper:?}");
        assert!(mapper.fix.contains("$hw/events/device/d/t/twin/update"), "{mapper:?}");
        let waiting = |at| Hops { waiting: 3, oldest: Some(at), ..device(Some(NOW)) };
        let cloud = judged(waiting(NOW - 90_000), true).unwrap();
        assert_eq!(cloud.seen, "3 reports wait for the cloud, the oldest for 90 s");
        assert_eq!(judged(waiting(NOW - 90_000), false), None, "without a link they wait rightly");
        assert_eq!(judged(waiting(NOW - 1000), true), None);
        let apart = |at| Hops { apart: vec!["target".into()], ..device(Some(at)) };
        assert_eq!(judged(apart(NOW - 1000), true), None);
        assert_eq!(judged(apart(NOW - 70_000), true).unwrap().seen, "target not as desired");
    }

    #[test]
    fn a_device_that_has_fallen_silent_is_told_by_its_rhythm() {
        let judged = |rhythm, silent: i64| {
            trouble(&Hops { rhythm, ..device(Some(NOW * 100 - silent)) }, "n", true, NOW * 100)
        };
        assert_eq!(judged(Some(10_000), 50_000), None, "a minute of patience");
        let silent = judged(Some(30_000), 300_000).unwrap();
        assert_eq!((&*silent.code, silent.state), ("KE-MAPPER-003", State::Warning));
        assert_eq!(silent.seen, "last value 5 min ago, reports are due every 30 s");
        assert_eq!(judged(None, 3_600_000), None, "a door may stay shut");
        assert_eq!(judged(None, 26 * 3_600_000).unwrap().seen, "last value 26 h ago");
    }

    #[test]
    fn many_devices_stay_a_short_list() {
        let many: Vec<Hops> = (0..30).map(|_| device(None)).chain([device(Some(NOW))]).collect();
        let findings = judge_devices(&many, "n", true, NOW);
        assert_eq!(findings.len(), TOLD + 2);
        assert_eq!(findings[TOLD].seen, "10 more with the like");
        assert_eq!(findings[TOLD + 1].seen, "1 of 31 as they should be");
        assert_eq!(judge_devices(&[], "n", true, NOW)[0].seen, "none");
    }

    #[tokio::test]
    async fn hops_are_read_from_a_store() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edgecore.db");
        let store = Store::open(&path).unwrap();
        let devices = vec![DeviceRow::new(DeviceId::new("d", "t"))];
        store.change_devices(DeviceChange { devices, ..DeviceChange::default() }).await.unwrap();
        let object = json!({"spec": {"protocol": {"protocolName": "modbus"},
            "properties": [{"name": "a"}, {"name": "b", "reportCycle": 5000}, {"name": "c", "reportCycle": 9000}]}});
        store.put_object(&ObjectKey::namespaced(Kind::Device, "d", "t"), &object).await.unwrap();
        store.put_state(OUTBOX, "1", &json!({"device": "d/t", "timestamp": 7})).await.unwrap();
        store.put_state(OUTBOX, "2", &json!({"device": "d/t", "timestamp": 5})).await.unwrap();
        let hops = read(&path).unwrap();
        assert_eq!((hops[0].waiting, hops[0].oldest), (2, Some(5)));
        assert_eq!((hops[0].protocol.as_str(), hops[0].rhythm), ("modbus", Some(5000)));
        assert_eq!(look_at_devices(Some(dir.path().join("x")), "n", true)[0].state, State::Skipped);
    }

    #[test]
    fn a_broker_is_judged_by_its_round_trip() {
        assert_eq!(
            judge_message("a:1", Ok(Duration::from_micros(1500))).seen,
            "a message came back from a:1 in 1.5 ms"
        );
        assert_eq!(judge_message("a:1", Err("refused".into())).state, State::Failed);
    }
}
