//! Requests of the local APIs of nodes: KubeEdge's dynamic controller (protocol.md §4.6). Each is carried out in the node's
//! own name, so the API's rules for the user `system:node:NAME` in `system:nodes` decide: what a node may not read there
//! is refused here. Off unless `modules.dynamicController.enable` is set.
//!
//! hub --> letters --> request (pure) --> API as the node --> answer;  watch --> hub

mod request;
mod watch;

use super::super::kubernetes::AsNode;
use super::pods::gone;
use super::shared::{Shared, told};
use crate::base::{BoxFuture, Crew, Failure, Gone, Mail, Module, Ready, Stop};
use crate::model::{NodeName, Status};
use crate::wire::dynamic::{AppVerb, Application};
use crate::wire::{Question, Up};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use request::Wanted;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Requests under way, of all nodes and of one.
const ROOM: usize = 256;
const ROOM_PER_NODE: usize = 16;
/// Watches of one node, and of all.
const WATCHES_PER_NODE: usize = 32;
const WATCHES: usize = 2000;
/// The edge waits ten seconds for an answer.
const LIMIT: Duration = Duration::from_secs(9);

/// What the module hears.
#[derive(Debug)]
pub(super) enum Letter {
    Asked {
        node: NodeName,
        question: Question,
    },
    /// The node's connection has ended: its watches end, and it names them again when it is back.
    Left(NodeName),
}

pub(super) struct Applications {
    pub shared: Arc<Shared>,
    pub mail: Mail<Letter>,
    pub enabled: bool,
}

/// A question that has its answer, and the watches to begin before it is sent.
struct Answered {
    node: NodeName,
    question: Question,
    result: Result<Value, Status>,
    begin: Vec<(String, Wanted)>,
}

#[derive(Default)]
struct Desk {
    busy: HashMap<NodeName, usize>,
    watches: BTreeMap<NodeName, BTreeMap<String, Stop>>,
    budgets: BTreeMap<NodeName, watch::Budget>,
}

impl Module for Applications {
    fn name(&self) -> &'static str {
        "applications"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            ready.set();
            let mut crew = Crew::new();
            let mut desk = Desk::default();
            let mut running = FuturesUnordered::new();
            loop {
                tokio::select! {
                    biased;
                    () = stop.raised() => break,
                    Some(answered) = running.next(), if !running.is_empty() => {
                        stop.or(self.settle(&mut desk, &mut crew, answered)).await;
                    }
                    letter = self.mail.recv(), if running.len() < ROOM => match letter {
                        None => return Err(gone(Gone)),
                        Some(Letter::Left(node)) => desk.left(&node),
                        Some(Letter::Asked { node, question }) => {
                            match self.refusal(&mut desk, &node) {
                                Some(status) => told(self.shared.hub.answer(node, question, Err(status)).await),
                                None => {
                                    let present = desk.present(&node, &question);
                                    running.push(carry_out(self.shared.clone(), node, question, present));
                                }
                            }
                        }
                    },
                }
            }
            crew.abort().await;
            Ok(())
        })
    }
}

impl Applications {
    /// Why the node's question is not even looked at.
    fn refusal(&self, desk: &mut Desk, node: &NodeName) -> Option<Status> {
        if !self.enabled {
            let why = "the dynamic controller of this cloud is off: set modules.dynamicController.enable";
            return Some(Status::failure(403, "Forbidden", why));
        }
        let busy = desk.busy.entry(node.clone()).or_default();
        if *busy >= ROOM_PER_NODE {
            return Some(Status::failure(429, "TooManyRequests", "the node has too many requests under way"));
        }
        *busy += 1;
        None
    }

    async fn settle(&self, desk: &mut Desk, crew: &mut Crew, answered: Answered) {
        let Answered { node, question, mut result, begin } = answered;
        desk.done(&node);
        for (id, wanted) in begin {
            if !self.shared.is_connected(&node) {
                break;
            }
            match desk.room_for_watch(&node) {
                Ok(()) => {
                    let stop = Stop::new();
                    desk.watches.entry(node.clone()).or_default().insert(id, stop.clone());
                    let budget = desk.budgets.entry(node.clone()).or_default().clone();
                    let watch = watch::Watch::new(self.shared.clone(), node.clone(), wanted, budget);
                    crew.spawn(watch.run(stop));
                }
                Err(status) => result = refuse_one(&question, result, &id, status),
            }
        }
        told(self.shared.hub.answer(node, question, result).await);
    }
}

/// A refused watch is the whole answer, or one of those that a sync names.
fn refuse_one(
    question: &Question,
    result: Result<Value, Status>,
    id: &str,
    status: Status,
) -> Result<Value, Status> {
    if !matches!(question.up, Up::WatchSync(_)) {
        return Err(status);
    }
    result.map(|mut failures| {
        if !failures.is_object() {
            failures = Value::Object(Map::new());
        }
        failures[id] = json!(status);
        failures
    })
}

impl Desk {
    fn done(&mut self, node: &NodeName) {
        if let Some(busy) = self.busy.get_mut(node) {
            *busy = busy.saturating_sub(1);
            if *busy == 0 {
                self.busy.remove(node);
            }
        }
    }

    fn left(&mut self, node: &NodeName) {
        for stop in self.watches.remove(node).into_iter().flat_map(BTreeMap::into_values) {
            stop.raise();
        }
        self.budgets.remove(node);
    }

    fn room_for_watch(&self, node: &NodeName) -> Result<(), Status> {
        let of_node = self.watches.get(node).map_or(0, BTreeMap::len);
        let of_all: usize = self.watches.values().map(BTreeMap::len).sum();
        if of_node >= WATCHES_PER_NODE || of_all >= WATCHES {
            return Err(Status::failure(429, "TooManyRequests", "too many watches are open"));
        }
        Ok(())
    }

    /// The node's watches that run; those that a sync does not name end.
    fn present(&mut self, node: &NodeName, question: &Question) -> BTreeSet<String> {
        let Some(watches) = self.watches.get_mut(node) else { return BTreeSet::new() };
        if let Up::WatchSync(wanted) = &question.up {
            watches.retain(|id, stop| {
                let kept = wanted.contains_key(id);
                if !kept {
                    stop.raise();
                }
                kept
            });
        }
        watches.keys().cloned().collect()
    }
}

async fn carry_out(
    shared: Arc<Shared>,
    node: NodeName,
    question: Question,
    present: BTreeSet<String>,
) -> Answered {
    let mut begin = Vec::new();
    let work = async {
        match &question.up {
            Up::Application(app) => one(&shared, &node, app, &present, &mut begin).await,
            Up::WatchSync(apps) => {
                let mut failures = Map::new();
                for (id, app) in apps.iter().take(WATCHES_PER_NODE * 2) {
                    let app = Application { id: id.clone(), verb: AppVerb::Watch, ..app.clone() };
                    if let Err(status) = one(&shared, &node, &app, &present, &mut begin).await {
                        failures.insert(id.clone(), json!(status));
                    }
                }
                Ok(Value::Object(failures))
            }
            _ => Err(Status::failure(400, "BadRequest", "not a question for the local API")),
        }
    };
    let late = || Err(Status::failure(504, "Timeout", "the Kubernetes API did not answer in time"));
    let result = tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| late());
    Answered { node, question, result, begin }
}

async fn one(
    shared: &Arc<Shared>,
    node: &NodeName,
    app: &Application,
    present: &BTreeSet<String>,
    begin: &mut Vec<(String, Wanted)>,
) -> Result<Value, Status> {
    let wanted = request::read(app)?;
    let api = AsNode { kube: &shared.kube, node };
    if app.verb == AppVerb::Watch {
        if !present.contains(&app.id) {
            // Whether the node may list it is found out now, so that the refusal is the answer.
            let sign = if wanted.path.contains('?') { '&' } else { '?' };
            api.call(wanted.method.clone(), &format!("{}{sign}limit=1", wanted.path), None).await?;
            begin.push((app.id.clone(), wanted));
        }
        return Ok(Value::Null);
    }
    let bytes = api.call(wanted.method, &wanted.path, wanted.content).await?;
    if !wanted.answered {
        return Ok(Value::Null);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if matches!(app.verb, AppVerb::Get | AppVerb::List)
        && let Ok(mut answer @ Value::Object(_)) = serde_json::from_slice::<Value>(&bytes)
    {
        request::localise(&mut answer);
        return Ok(answer);
    }
    // Discovery and health go as they came.
    Ok(Value::String(text))
}
