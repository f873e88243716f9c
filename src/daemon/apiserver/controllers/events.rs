//! Writes what controllers did as core/v1 Events, off their path: a bounded queue to one task. Repetitions raise the
//! count of the first one. Events are a courtesy: when the queue is full they are dropped.

use super::read;
use crate::base::{now, rfc3339};
use crate::daemon::apiserver::local::{Collection, Local};
use serde_json::{Value, json};
use std::collections::HashMap;
use tokio::sync::mpsc;

pub(super) const EVENTS: Collection = Collection::of("", "events");
const ROOM: usize = 256;
const REMEMBERED: usize = 256;

/// How an event is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Normal,
    Warning,
}

/// Something that happened to an object.
#[derive(Clone, Debug)]
pub(super) struct Note {
    component: &'static str,
    weight: Weight,
    reason: &'static str,
    message: String,
    involved: Value,
}

/// Where controllers leave their notes; cheap to clone.
#[derive(Clone)]
pub(super) struct Recorder(mpsc::Sender<Note>);

impl Recorder {
    pub(super) fn new() -> (Recorder, mpsc::Receiver<Note>) {
        let (sender, receiver) = mpsc::channel(ROOM);
        (Recorder(sender), receiver)
    }

    pub(super) fn normal(
        &self,
        component: &'static str,
        about: &Value,
        reason: &'static str,
        message: String,
    ) {
        self.note(component, about, Weight::Normal, reason, message);
    }

    pub(super) fn warning(
        &self,
        component: &'static str,
        about: &Value,
        reason: &'static str,
        message: String,
    ) {
        self.note(component, about, Weight::Warning, reason, message);
    }

    fn note(
        &self,
        component: &'static str,
        about: &Value,
        weight: Weight,
        reason: &'static str,
        message: String,
    ) {
        let metadata = &about["metadata"];
        let involved = json!({"kind": about["kind"], "apiVersion": about["apiVersion"],
            "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"]});
        drop(self.0.try_send(Note { component, weight, reason, message, involved }));
    }
}

/// Writes notes until all recorders are gone.
pub(super) async fn write(local: Local, mut notes: mpsc::Receiver<Note>) {
    let mut written: HashMap<String, (String, i64)> = HashMap::new();
    while let Some(note) = notes.recv().await {
        let identity = format!("{}/{}/{}", note.involved["uid"], note.reason, note.message);
        let namespace = home(&note).to_owned();
        let at = rfc3339(now());
        if let Some((name, count)) = written.get_mut(&identity) {
            *count += 1;
            let patch = json!({"count": *count, "lastTimestamp": at});
            if local.merge_patch(&EVENTS, Some(&namespace), name, None, patch).await.is_ok() {
                continue;
            }
        }
        let event = event(&note, &namespace, &at);
        let name = read::name(&event).to_owned();
        match local.create(&EVENTS, event).await {
            Ok(_) => {
                if written.len() >= REMEMBERED {
                    written.clear();
                }
                written.insert(identity, (name, 1));
            }
            // The namespace may be going away; nobody misses the event then.
            Err(error) => tracing::debug!(reason = note.reason, %error, "an event was not written"),
        }
    }
}

fn home(note: &Note) -> &str {
    let namespace = read::text(&note.involved["namespace"]);
    if namespace.is_empty() { "default" } else { namespace }
}

fn event(note: &Note, namespace: &str, at: &str) -> Value {
    let stamp = now().as_nanosecond();
    let kind = match note.weight {
        Weight::Normal => "Normal",
        Weight::Warning => "Warning",
    };
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": format!("{}.{stamp:x}", read::text(&note.involved["name"])), "namespace": namespace},
        "involvedObject": note.involved, "reason": note.reason, "message": note.message, "type": kind,
        "source": {"component": note.component}, "reportingComponent": note.component, "reportingInstance": "",
        "firstTimestamp": at, "lastTimestamp": at, "count": 1, "eventTime": null,
    })
}
