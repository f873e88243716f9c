//! Devices and their twins: Devices and models down to the nodes, twin and state reports up into DeviceStatus.
//! The switchboard hands reports over as letters; `push` tells nodes, `status` writes; `index` and `twins` decide.
//!
//! watch --> index --> push --> hub        hub --> letters --> status --> API --> confirmation

pub(super) mod index;
mod push;
mod status;
mod twins;

use super::super::kubernetes::{Event, Resource, Scope, follow, meta, revision};
use super::lanes::Lanes;
use super::pods::{gone, watch_ended};
use super::shared::{Listed, Notice, Shared};
use crate::base::{BoxFuture, Crew, Failure, Gone, Mail, Module, Ready, Stop};
use crate::model::{DeviceId, NodeName};
use crate::wire::{Question, Up};
use index::{Change, Index, Past};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

const EVENTS: usize = 64;
const ROOM: usize = 1024;

/// What the devices module hears.
#[derive(Debug)]
pub(super) enum Letter {
    /// The node is connected, perhaps after another cloud has served it.
    Arrived(NodeName),
    Notice(Notice),
    /// A twin report, a state report or a question for the node's devices.
    Said {
        node: NodeName,
        question: Question,
    },
}

pub(super) struct Devices {
    pub shared: Arc<Shared>,
    pub mail: Mail<Letter>,
}

/// What the jobs of one run share.
struct Context {
    shared: Arc<Shared>,
    statuses: Mutex<HashMap<DeviceId, status::Held>>,
    newest: Mutex<HashMap<DeviceId, twins::Newest>>,
}

impl Context {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.shared.devices()
    }

    fn statuses(&self) -> MutexGuard<'_, HashMap<DeviceId, status::Held>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Module for Devices {
    fn name(&self) -> &'static str {
        "devices"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut crew = Crew::new();
            let mut devices = watch(&mut crew, &self.shared, Resource::DEVICE);
            let mut models = watch(&mut crew, &self.shared, Resource::DEVICE_MODEL);
            let context = &Context {
                shared: self.shared.clone(),
                statuses: Mutex::default(),
                newest: Mutex::default(),
            };
            let mut lanes = Lanes::new(ROOM);
            let (mut models_listed, mut devices_listed) = (false, false);
            loop {
                let listed = models_listed && devices_listed;
                tokio::select! {
                    biased;
                    () = stop.raised() => return Ok(()),
                    () = lanes.ended(), if !lanes.is_idle() => {}
                    event = models.recv(), if lanes.has_room() => {
                        let event = event.ok_or_else(|| watch_ended("DeviceModels"))?;
                        models_listed |= matches!(event, Event::Listed);
                        model_event(context, &mut lanes, event);
                    }
                    // Devices are taken once their models are known.
                    event = devices.recv(), if models_listed && lanes.has_room() => {
                        let event = event.ok_or_else(|| watch_ended("Devices"))?;
                        devices_listed |= matches!(event, Event::Listed);
                        device_event(context, &mut lanes, event);
                    }
                    letter = self.mail.recv(), if listed && lanes.has_room() => {
                        letter_arrived(context, &mut lanes, letter.ok_or(gone(Gone))?);
                    }
                }
                if models_listed && devices_listed {
                    self.shared.has_listed(Listed::Devices);
                    ready.set();
                }
            }
        })
    }
}

fn watch(crew: &mut Crew, shared: &Shared, resource: Resource) -> mpsc::Receiver<Event> {
    let (sender, events) = mpsc::channel(EVENTS);
    let kube = shared.kube.clone();
    crew.spawn(async move { drop(follow(kube, Scope { resource, selector: "" }, sender).await) });
    events
}

fn lane(id: &DeviceId) -> String {
    format!("device {id}")
}

fn device_event<'a>(context: &'a Context, lanes: &mut Lanes<'a>, event: Event) {
    match event {
        Event::Listing => context.index().begin_devices(),
        Event::Applied { object, listed } => {
            let id = index::id(&object);
            let change = context.index().apply(&object);
            if change != Change::Nothing {
                lanes.push(lane(&id), Box::pin(context.device_changed(id, object, change, listed)));
            }
        }
        Event::Deleted(object) => {
            let id = index::id(&object);
            let past = context.index().remove(&id);
            let past = past.unwrap_or_else(|| Past {
                uid: meta(&object, "uid").to_owned(),
                revision: revision(&object),
                node: None,
                model: None,
            });
            lanes.push(lane(&id), Box::pin(context.device_gone(id, past, Some(object))));
        }
        Event::Listed => {
            let lost = context.index().end_devices();
            for (id, past) in lost {
                lanes.push(lane(&id), Box::pin(context.device_gone(id, past, None)));
            }
        }
    }
}

fn model_event<'a>(context: &'a Context, lanes: &mut Lanes<'a>, event: Event) {
    match event {
        Event::Listing => context.index().begin_models(),
        Event::Applied { object, listed } => {
            let id = index::id(&object);
            let is_new = context.index().apply_model(&object);
            if !listed {
                lanes.push(format!("model {id}"), Box::pin(context.model_changed(id, object, is_new)));
            }
        }
        Event::Deleted(object) => {
            let (id, uid) = (index::id(&object), meta(&object, "uid").to_owned());
            context.index().remove_model(&id);
            lanes.push(format!("model {id}"), Box::pin(context.model_gone(id, uid)));
        }
        Event::Listed => {
            let lost = context.index().end_models();
            for (id, model) in lost {
                lanes.push(format!("model {id}"), Box::pin(context.model_gone(id, model.uid)));
            }
        }
    }
}

fn letter_arrived<'a>(context: &'a Context, lanes: &mut Lanes<'a>, letter: Letter) {
    match letter {
        Letter::Arrived(node) => {
            for (id, _) in context.shared.devices().of_node(&node) {
                context.forget_status(&id, false);
            }
        }
        Letter::Notice(notice) => {
            let key = format!("node {}", notice.node());
            lanes.push(key, Box::pin(async move { drop(context.restate(&notice).await) }));
        }
        Letter::Said { node, question } => {
            let device = match &question.up {
                Up::TwinReport(report) => Some(report.device.clone()),
                Up::StateReport(report) => Some(report.device.clone()),
                _ => None,
            };
            match device {
                Some(id) => lanes.push(lane(&id), Box::pin(context.report(node, question, id))),
                None => lanes.push(format!("node {node}"), Box::pin(context.detail(node, question))),
            }
        }
    }
}

/// The `Value` of a confirmation.
fn confirmed() -> Value {
    Value::String("OK".to_owned())
}
