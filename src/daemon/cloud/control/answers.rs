//! Answers what nodes ask and carries out what they report: Node, Lease, pod status, tokens, queries.
//! Messages about one object keep their order; others run side by side. Every question gets an answer, a failed one too.

use super::super::hub::Hub;
use super::super::kubernetes::{Patch, Resource, is_temporary};
use super::devices::Letter;
use super::drift;
use super::gate::Gate;
use super::labels;
use super::lanes::Lanes;
use super::permit::as_judged;
use super::pods::gone;
use super::shared::{Notice, Shared, told};
use super::statuses;
use crate::base::{BoxFuture, Failure, Gone, Mail, Mailbox, Module, Ready, Stop};
use crate::model::{NodeName, ObjectKey, Status};
use crate::wire::{LeaseVerb, Question, Up, Verb};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Messages that are carried out at once.
const ROOM: usize = 512;
/// Messages that wait for room: as many as a fleet says when it comes back, so that a rush is worked off and not refused.
const WAITING: usize = 1024;
/// How long a message waits for room. One that waits longer waits for an API that is away; nodes ask again.
const WAIT: Duration = Duration::from_secs(5);
/// How long a call is repeated while the API cannot be reached; then the node hears of it and decides.
const PATIENCE: Duration = Duration::from_secs(20);

/// A message of a node.
#[derive(Debug)]
pub(super) struct Asked {
    pub node: NodeName,
    pub question: Question,
}

pub(super) struct Answers {
    pub shared: Arc<Shared>,
    pub mail: Mail<Asked>,
    pub registrations: Registrations,
}

/// Who hears that a node registers.
#[derive(Clone)]
pub(super) struct Registrations {
    pub notices: Vec<Mailbox<Notice>>,
    pub devices: Mailbox<Letter>,
    pub drift: Mailbox<drift::Letter>,
}

impl Module for Answers {
    fn name(&self) -> &'static str {
        "answers"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            ready.set();
            let context = Context {
                shared: self.shared.clone(),
                gate: Gate::new(self.shared.clone()),
                registrations: self.registrations.clone(),
            };
            let context = &context;
            let mut lanes = Lanes::new(ROOM);
            let mut waiting: VecDeque<(Instant, Asked)> = VecDeque::new();
            loop {
                while lanes.has_room()
                    && let Some((_, Asked { node, question })) = waiting.pop_front()
                {
                    let lane = format!("{node} {}", question.resource);
                    lanes.push(lane, Box::pin(context.answer(node, question)));
                }
                let overdue = waiting.front().map_or_else(Instant::now, |(since, _)| *since + WAIT);
                tokio::select! {
                    biased;
                    () = stop.raised() => return Ok(()),
                    () = lanes.ended(), if !lanes.is_idle() => {}
                    () = tokio::time::sleep_until(overdue), if !waiting.is_empty() => {
                        if let Some((_, asked)) = waiting.pop_front() {
                            stop.or(context.put_off(asked)).await;
                        }
                    }
                    // Whoever brings letters is not kept waiting: all sessions wait with him.
                    asked = self.mail.recv() => {
                        let Some(asked) = asked else { return Err(gone(Gone)) };
                        if waiting.len() < WAITING {
                            waiting.push_back((Instant::now(), asked));
                        } else {
                            stop.or(context.put_off(asked)).await;
                        }
                    }
                }
            }
        })
    }
}

struct Context {
    shared: Arc<Shared>,
    gate: Gate,
    registrations: Registrations,
}

type Answered = Result<Value, Status>;

/// Whether nobody waits for an answer.
fn is_silent(up: &Up) -> bool {
    matches!(up, Up::Event { .. } | Up::EventPatch { .. })
}

impl Context {
    /// Tells the node to ask again; what it reports without an answer is lost.
    async fn put_off(&self, Asked { node, question }: Asked) {
        if !is_silent(&question.up) {
            let busy = Status::failure(503, "ServiceUnavailable", "the cloud is busy");
            told(self.shared.hub.answer(node, question, Err(busy)).await);
        }
    }

    async fn answer(&self, node: NodeName, question: Question) {
        let registers = matches!(question.up, Up::NodeInsert { .. });
        let silent = is_silent(&question.up);
        let result = match self.gate.admit(&node, &question.up, PATIENCE).await {
            Ok(()) => {
                let done = self.shared.kube.insist(PATIENCE, || self.carry_out(&node, &question.up)).await;
                if let Err(status) = &done
                    && (is_temporary(status) || status.code == 403)
                {
                    let (code, reason) = (status.code, status.reason.as_str());
                    tracing::warn!(%node, code, reason, "a request of a node failed");
                }
                done
            }
            Err(status) => Err(status),
        };
        if !silent {
            let hub: &Hub = &self.shared.hub;
            told(hub.answer(node.clone(), question, result).await);
        }
        if registers && self.shared.compares(&node) {
            told(self.registrations.drift.put(drift::Letter::Look(node)).await);
        } else if registers {
            for notices in &self.registrations.notices {
                told(notices.put(Notice::Registers(node.clone())).await);
            }
            told(self.registrations.devices.put(Letter::Notice(Notice::Registers(node))).await);
        }
    }

    /// The gate has admitted the message: nothing is judged here.
    async fn carry_out(&self, node: &NodeName, up: &Up) -> Answered {
        let kube = &self.shared.kube;
        match up {
            Up::NodeInsert { name, node: object } => self.register(name, object).await,
            Up::NodeUpdate { name, node: object } => {
                let mut metadata = serde_json::Map::new();
                for field in ["labels", "annotations"] {
                    // Null in a merge patch would take away all that others have set.
                    if let Some(Value::Object(fields)) = object.pointer(&format!("/metadata/{field}")) {
                        metadata.insert(field.to_owned(), Value::Object(fields.clone()));
                    }
                }
                let patch = json!({"metadata": metadata});
                let target = (name.as_str(), None);
                kube.patch(Resource::NODE, None, target, Patch::Merge, patch.to_string().into()).await
            }
            Up::NodePatch { name, patch } => {
                let target = (name.as_str(), Some("status"));
                kube.patch(Resource::NODE, None, target, Patch::Strategic, as_judged(patch).into()).await
            }
            Up::PodPatch { namespace, name, patch } => {
                let target = (name.as_str(), Some("status"));
                kube.patch(Resource::POD, Some(namespace), target, Patch::Strategic, as_judged(patch).into())
                    .await
            }
            Up::PodInsert { namespace, name: _, pod } => {
                kube.create(Resource::POD, Some(namespace), pod).await
            }
            Up::PodDelete { namespace, name, options } => self.delete_pod(namespace, name, options).await,
            Up::TokenRequest { namespace, service_account, request } => {
                let mut request = request.clone();
                if let Some(fields) = request.as_object_mut() {
                    fields.insert("kind".to_owned(), json!("TokenRequest"));
                    fields.insert("apiVersion".to_owned(), json!("authentication.k8s.io/v1"));
                }
                let account = Resource::SERVICE_ACCOUNT;
                kube.create_below(account, Some(namespace), service_account, "token", &request).await
            }
            Up::Lease { verb, namespace, name, lease } => match verb {
                LeaseVerb::Insert => kube.create(Resource::LEASE, Some(namespace), lease).await,
                LeaseVerb::Update => kube.replace(Resource::LEASE, Some(namespace), name, lease).await,
            },
            Up::Event { namespace, name, event, verb: _ } => self.record_event(namespace, name, event).await,
            Up::EventPatch { namespace, name, event: _, patch } => {
                let patch = as_judged(patch).into();
                kube.patch(Resource::EVENT, Some(namespace), (name, None), Patch::Strategic, patch).await
            }
            Up::Query { key } => self.query(key).await,
            Up::ServiceUpload { url, .. } => Err(Status::not_found("rules", url)),
            Up::NodeStatus { verb, name, status } => match verb {
                Verb::Insert => match self.register(name, status).await {
                    Err(status) if status.already_exists() => Ok(json!("OK")),
                    outcome => outcome,
                },
                Verb::Update => statuses::node(kube, name, status).await,
            },
            Up::PodStatus { namespace, pods, named: _ } => {
                statuses::pods(&self.shared, node, namespace, pods).await
            }
            Up::CertificateRequest { name: _, request } => {
                kube.create(Resource::CERTIFICATE_SIGNING_REQUEST, None, request).await
            }
            Up::ClusterCa => match kube.ca_pem() {
                Some(pem) => Ok(json!(pem)),
                None => Err(Status::not_found("certificate authorities", "of the cluster")),
            },
            // The switchboard sends these elsewhere.
            Up::Keepalive
            | Up::Acknowledge { .. }
            | Up::TwinReport(_)
            | Up::StateReport(_)
            | Up::MembershipDetail { .. }
            | Up::Upload { .. }
            | Up::Holdings(_)
            | Up::ServiceReply { .. }
            | Up::Application(_)
            | Up::WatchSync(_)
            | Up::VolumeResult(_)
            | Up::Task(_)
            | Up::Failed { .. }
            | Up::Unknown { .. } => Err(Status::failure(400, "BadRequest", "not a question for the API")),
        }
    }

    async fn register(&self, name: &str, object: &Value) -> Answered {
        let kube = &self.shared.kube;
        let mut object = labels::node_to_create(name, object, self.shared.advertised.as_deref());
        match kube.create(Resource::NODE, None, &object).await {
            // An API server that guards node labels takes them only by a later change.
            Err(status) if status.code == 403 => {
                let guarded = labels::take_guarded(&mut object);
                kube.create(Resource::NODE, None, &object).await?;
                let patch = json!({"metadata": {"labels": guarded}}).to_string();
                kube.patch(Resource::NODE, None, (name, None), Patch::Merge, patch.into()).await
            }
            outcome => outcome,
        }
    }

    async fn delete_pod(&self, namespace: &str, name: &str, options: &Value) -> Answered {
        let uid = options.pointer("/preconditions/uid").or(Some(options)).and_then(Value::as_str);
        let mut wanted = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
        if let Some(uid) = uid {
            wanted["preconditions"] = json!({"uid": uid});
        }
        match self.shared.kube.delete(Resource::POD, Some(namespace), name, &wanted).await {
            Err(status) if !status.is_not_found() && !status.is_conflict() => Err(status),
            _ => Ok(json!("OK")),
        }
    }

    async fn record_event(&self, namespace: &str, name: &str, event: &Value) -> Answered {
        let kube = &self.shared.kube;
        match kube.create(Resource::EVENT, Some(namespace), event).await {
            Err(status) if status.already_exists() => {
                kube.patch(
                    Resource::EVENT,
                    Some(namespace),
                    (name, None),
                    Patch::Merge,
                    event.to_string().into(),
                )
                .await
            }
            outcome => outcome,
        }
    }

    async fn query(&self, key: &ObjectKey) -> Answered {
        let Some(resource) = Resource::of(key.kind) else {
            return Err(Status::failure(400, "BadRequest", format!("a {} cannot be asked for", key.kind)));
        };
        // Upstream asks for cluster-scoped objects in namespace `default`.
        let namespace = key.namespace.as_deref().filter(|_| resource.namespaced);
        self.shared.kube.get(resource, namespace, &key.name).await
    }
}
