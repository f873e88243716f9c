//! The JSON that devices and the edge exchange over MQTT (protocol.md §5.2 – §5.6): reading is tolerant of what does not
//! matter, writing gives KubeEdge's fields in KubeEdge's order. Pure; `room` publishes it.

use super::twin::{Change, Merged, Refusal, Stored, delta, visible};
use crate::base::uuid4;
use crate::model::twin::{TwinProperty, Twins};
use crate::store::DeviceRow;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// States that a device may report, in any case.
const STATES: [&str; 5] = ["online", "offline", "ok", "unknown", "unhealthy"];

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    event_id: String,
}

#[derive(Deserialize)]
struct Update {
    twin: Option<BTreeMap<String, Option<TwinProperty>>>,
}

#[derive(Deserialize)]
struct State {
    #[serde(default)]
    state: String,
}

/// The event id of any request; empty when there is none to be read.
pub(super) fn event_id(payload: &[u8]) -> String {
    serde_json::from_slice::<Event>(payload).map(|event| event.event_id).unwrap_or_default()
}

/// The twins of an update.
pub(super) fn read_update(payload: &[u8]) -> Result<Twins, Refusal> {
    let unread = "unmarshal update request body failed, Please check the request";
    let update: Update = serde_json::from_slice(payload).map_err(|_| Refusal::bad(unread))?;
    update.twin.ok_or_else(|| Refusal::bad("Update twin error, the update request body not have key:twin"))
}

/// Whether a request without a body can be read at all.
pub(super) fn check_event(payload: &[u8]) -> Result<(), Refusal> {
    let event = serde_json::from_slice::<Event>(payload);
    event.map(drop).map_err(|_| Refusal::bad("unmarshal request body failed, Please check the request"))
}

/// The state that a device reports, in its own writing.
pub(super) fn read_state(payload: &[u8]) -> Result<String, Refusal> {
    let unread = "unmarshal state request body failed, Please check the request";
    let state: State = serde_json::from_slice(payload).map_err(|_| Refusal::bad(unread))?;
    let known = STATES.iter().any(|known| known.eq_ignore_ascii_case(&state.state));
    if known {
        Ok(state.state)
    } else {
        Err(Refusal::bad("the state is none of online, offline, ok, unknown, unhealthy"))
    }
}

/// Whether a device in this state is there.
pub(super) fn is_online(state: &str) -> bool {
    state.eq_ignore_ascii_case("online") || state.eq_ignore_ascii_case("ok")
}

#[derive(Serialize)]
struct TwinAnswer<'a> {
    event_id: &'a str,
    timestamp: i64,
    twin: &'a Twins,
}

#[derive(Serialize)]
struct Document<'a> {
    event_id: &'a str,
    timestamp: i64,
    twin: &'a BTreeMap<String, Change>,
}

#[derive(Serialize)]
struct Delta<'a> {
    event_id: &'a str,
    timestamp: i64,
    twin: &'a Twins,
    delta: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Wrong<'a> {
    event_id: &'a str,
    timestamp: i64,
    code: u16,
    reason: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StateAnswer<'a> {
    #[serde(rename = "event_id")]
    event_id: &'a str,
    timestamp: i64,
    device: StateOf<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StateOf<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    state: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    last_online_time: &'a str,
}

#[derive(Serialize)]
struct Member<'a> {
    id: String,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    state: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    last_online: &'a str,
}

impl<'a> Member<'a> {
    fn of(row: &'a DeviceRow) -> Self {
        let DeviceRow { id, name, description, state, last_online } = row;
        Member { id: id.to_string(), name, description, state, last_online }
    }
}

#[derive(Serialize)]
struct Members<'a> {
    event_id: &'a str,
    timestamp: i64,
    devices: Vec<Member<'a>>,
}

#[derive(Serialize)]
struct MembersChanged<'a> {
    event_id: String,
    timestamp: i64,
    added_devices: Option<[Member<'a>; 1]>,
    removed_devices: Option<[Member<'a>; 1]>,
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("invariant: maps with text keys are JSON")
}

/// The answer to an update.
pub(super) fn result(event_id: &str, merged: &Merged, timestamp: i64) -> Vec<u8> {
    json(&TwinAnswer { event_id, timestamp, twin: &merged.result })
}

/// The answer to a question for the twin.
pub(super) fn whole(event_id: &str, stored: &Stored, timestamp: i64) -> Vec<u8> {
    json(&TwinAnswer { event_id, timestamp, twin: &visible(stored) })
}

/// What changed, before and after; `None` when nothing did.
pub(super) fn document(event_id: &str, merged: &Merged, timestamp: i64) -> Option<Vec<u8>> {
    let twin = &merged.document;
    (!twin.is_empty()).then(|| json(&Document { event_id, timestamp, twin }))
}

/// What is wanted and not measured; `None` when all is as wanted.
pub(super) fn difference(stored: &Stored, timestamp: i64) -> Option<Vec<u8>> {
    let (twin, wanted) = delta(stored)?;
    Some(json(&Delta { event_id: &uuid4(), timestamp, twin: &twin, delta: &wanted }))
}

/// The answer to a request that is refused.
pub(super) fn refusal(event_id: &str, refusal: &Refusal, timestamp: i64) -> Vec<u8> {
    json(&Wrong { event_id, timestamp, code: refusal.code, reason: &refusal.reason })
}

/// The answer to a state.
pub(super) fn state(row: &DeviceRow, timestamp: i64) -> Vec<u8> {
    let device = StateOf { name: &row.name, state: &row.state, last_online_time: &row.last_online };
    json(&StateAnswer { event_id: &uuid4(), timestamp, device })
}

/// The devices of the node.
pub(super) fn members<'a>(
    event_id: &str,
    rows: impl Iterator<Item = &'a DeviceRow>,
    timestamp: i64,
) -> Vec<u8> {
    json(&Members { event_id, timestamp, devices: rows.map(Member::of).collect() })
}

/// A device that came, or went.
pub(super) fn member_changed(row: &DeviceRow, came: bool, timestamp: i64) -> Vec<u8> {
    let [added_devices, removed_devices] =
        if came { [Some([Member::of(row)]), None] } else { [None, Some([Member::of(row)])] };
    json(&MembersChanged { event_id: uuid4(), timestamp, added_devices, removed_devices })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeviceId;

    #[test]
    fn answers_read_as_kubeedge_writes_them() {
        let mut row = DeviceRow::new(DeviceId::new("default", "thermo-1"));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(members("m1", std::iter::once(&row), 7)),
            r#"{"event_id":"m1","timestamp":7,"devices":[{"id":"default/thermo-1","name":"thermo-1"}]}"#
        );
        let gone = text(member_changed(&row, false, 7));
        assert!(gone.ends_with(
            r#""timestamp":7,"added_devices":null,"removed_devices":[{"id":"default/thermo-1","name":"thermo-1"}]}"#
        ));
        (row.state, row.last_online) = ("online".to_owned(), "2026-11-20T16:27:39Z".to_owned());
        assert!(text(state(&row, 7)).ends_with(
            r#""timestamp":7,"device":{"name":"thermo-1","state":"online","lastOnlineTime":"2026-11-20T16:27:39Z"}}"#
        ));
        let unread = read_update(b"{").unwrap_err();
        assert_eq!(
            text(refusal("", &unread, 7)),
            r#"{"event_id":"","timestamp":7,"code":400,"reason":"unmarshal update request body failed, Please check the request"}"#
        );
    }

    #[test]
    fn requests_are_read_with_what_they_have() {
        assert_eq!(event_id(br#"{"event_id":"e1","twin":null}"#), "e1");
        assert_eq!(event_id(b"["), "");
        for wrong in ["{", "[]", "{}", r#"{"twin":null}"#, "\0", r#"{"twin":{"a":{"actual":{"value":5}}}}"#] {
            assert_eq!(read_update(wrong.as_bytes()).unwrap_err().code, 400, "{wrong}");
        }
        assert_eq!(read_state(br#"{"state":"OnLine"}"#).as_deref(), Ok("OnLine"));
        assert!(read_state(br#"{"state":"asleep"}"#).is_err());
    }
}
