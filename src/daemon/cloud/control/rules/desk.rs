//! What the router's server and its module share: the table, the calls that wait for a node, the way to services.
//! Requests go only to URLs that a Rule names; no redirect is followed; bodies, calls and times are bounded.

use super::super::shared::Shared;
use super::book::{Id, Source, Table, Target, Wish};
use super::order;
use super::tally::Tally;
use crate::base::{Failure, deepest};
use crate::model::{NodeName, Status};
use crate::wire::topics::Topic;
use crate::wire::user::HttpResponse;
use crate::wire::{Blob, Down, MessageId, Question, Up};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// KiB of bodies that nodes' messages may hold together, and that requests may.
const BUDGET: usize = 64 << 10;
/// Calls of one node that may wait for its answer.
const CALLS_PER_NODE: usize = 64;
/// The longest answer of a service behind a rule.
const ANSWER: usize = 4 << 20;

/// A message of a node on its way to a service.
pub(super) struct Errand {
    node: NodeName,
    question: Question,
    rule: Option<Id>,
    _held: OwnedSemaphorePermit,
}

impl Errand {
    /// Messages of one node for one rule keep their order.
    pub(super) fn lane(&self) -> String {
        let (namespace, name) = self.rule.clone().unwrap_or_default();
        format!("{} {namespace}/{name}", self.node)
    }
}

struct Waiting {
    node: NodeName,
    answer: oneshot::Sender<HttpResponse>,
}

pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) tally: Tally,
    pub(super) limit: Duration,
    /// Room for the bodies of requests.
    pub(super) requests: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    table: Mutex<Arc<Table>>,
    /// The lists are complete, so that a message without a rule really has none.
    listed: std::sync::atomic::AtomicBool,
    calls: Mutex<HashMap<MessageId, Waiting>>,
    client: reqwest::Client,
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>, limit: Duration) -> Result<Desk, Failure> {
        let builder = || {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(10))
                .timeout(limit)
                .pool_max_idle_per_host(8)
                .no_proxy()
        };
        let client = builder().build().map_err(|error| {
            Failure::new("KE-ROUTER-001", "cannot set up the client of the router")
                .because(deepest(&error))
                .fix("install the certificates of public authorities, such as the package ca-certificates")
        })?;
        Ok(Desk {
            shared,
            tally: Tally::default(),
            limit,
            requests: Arc::new(Semaphore::new(BUDGET)),
            uploads: Arc::new(Semaphore::new(BUDGET)),
            table: Mutex::default(),
            listed: false.into(),
            calls: Mutex::default(),
            client,
        })
    }

    pub(super) fn table(&self) -> Arc<Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_table(&self, table: Table) {
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        self.listed.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<MessageId, Waiting>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Expects a node's answer under this id; `None` when too many are expected of it.
    pub(super) fn expect(&self, id: &MessageId, node: &NodeName) -> Option<oneshot::Receiver<HttpResponse>> {
        let mut calls = self.calls();
        calls.retain(|_, waiting| !waiting.answer.is_closed());
        if calls.values().filter(|waiting| waiting.node == *node).count() >= CALLS_PER_NODE {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        calls.insert(id.clone(), Waiting { node: node.clone(), answer });
        Some(answered)
    }

    /// A node answers a call; only the one that was called can.
    pub(super) fn replied(&self, node: &NodeName, id: &MessageId, response: HttpResponse) {
        let mut calls = self.calls();
        if calls.get(id).is_some_and(|waiting| waiting.node == *node)
            && let Some(waiting) = calls.remove(id)
        {
            // Whoever asked may have gone.
            drop(waiting.answer.send(response));
        }
    }

    /// What is to be done with a node's message; `None` when it is dropped.
    pub(super) fn errand(&self, node: NodeName, question: Question) -> Option<Errand> {
        let (wish, size) = match &question.up {
            Up::Upload { topic, payload } => (Wish::Topic(topic.clone()), payload.len()),
            Up::ServiceUpload { url, body } => (Wish::Url(url.clone()), body.len()),
            _ => return None,
        };
        let rule = self.table().upload(&node, wish).map(|route| route.id.clone());
        let room = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX);
        let Ok(held) = self.uploads.clone().try_acquire_many_owned(room) else {
            if let Some(rule) = &rule {
                self.tally.failed(rule, "too many messages wait");
            }
            return None;
        };
        Some(Errand { node, question, rule, _held: held })
    }

    /// Carries a node's message to its rule's service.
    pub(super) async fn run(&self, errand: Errand) {
        let Errand { node, question, rule: _, _held } = errand;
        let (wish, content) = match &question.up {
            Up::Upload { topic, payload } => (Wish::Topic(topic.clone()), payload.clone().into_bytes()),
            // Services behind KubeEdge's router get the base64 text of what the program said.
            Up::ServiceUpload { url, body } => {
                (Wish::Url(url.clone()), Blob(body.clone()).text().into_bytes())
            }
            _ => return,
        };
        let Some(route) = self.table().upload(&node, wish.clone()) else {
            return self.unwanted(node, question, wish).await;
        };
        let Target::Rest { url } = &route.target else { return };
        let outcome = self.post(url, &node, content).await;
        match &outcome {
            Ok(_) => self.tally.delivered(&route.id),
            Err(why) => self.tally.failed(&route.id, why),
        }
        if matches!(route.source, Source::Url { .. }) {
            self.answer(node, question, outcome).await;
        }
    }

    /// A message without a rule: the rule went while the node was away, so the node is told to stop.
    async fn unwanted(&self, node: NodeName, question: Question, wish: Wish) {
        if !self.listed.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        let own = matches!(&wish, Wish::Topic(topic) if Topic::parse(topic).is_some());
        if !own {
            super::super::told(self.shared.hub.tell(node.clone(), Down::Router(order(wish, false))).await);
        }
        if matches!(question.up, Up::ServiceUpload { .. }) {
            self.answer(node, question, Err("the cloud has no rule for this URL".to_owned())).await;
        }
    }

    /// Answers a program on a node. A genuine edge takes any answer for a success, so it is not told of failures.
    async fn answer(&self, node: NodeName, question: Question, outcome: Result<String, String>) {
        let result = match outcome {
            Ok(text) => Ok(Value::String(text)),
            Err(_) if !self.shared.compares(&node) => return,
            Err(why) => Err(Status::failure(502, "InternalError", why)),
        };
        super::super::told(self.shared.hub.answer(node, question, result).await);
    }

    async fn post(&self, url: &str, node: &NodeName, content: Vec<u8>) -> Result<String, String> {
        let request = self.client.post(url).header("NodeName", node.as_str()).body(content);
        let mut response = request.send().await.map_err(|error| plain(&error))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| plain(&error))? {
            if body.len() + chunk.len() > ANSWER {
                return Err("the target's answer is larger than allowed".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status();
        if !status.is_success() {
            return Err(format!("the target answered {status}"));
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}

/// The error without the URL, which may hold a secret.
fn plain(error: &reqwest::Error) -> String {
    let kind = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "the target cannot be reached"
    } else if error.is_builder() {
        "the target's URL cannot be used"
    } else {
        "the request failed"
    };
    kind.to_owned()
}
