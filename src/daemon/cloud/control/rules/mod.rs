//! The router: rules that carry messages between nodes and HTTP services (protocol.md §4.9, §9; resources.md §7). Watches
//! Rule and RuleEndpoint, tells nodes what to listen to, takes requests at its own port. Off unless `modules.router` is on.
//!
//! API --watch--> `book` (pure) -> table -> `server` (rest ->) and `desk` (node ->) -> `tally` -> status of the Rule

mod book;
mod desk;
mod server;
mod tally;

use super::super::kubernetes::{Event, Resource, Scope, follow};
use super::lanes::Lanes;
use super::pods::{gone, watch_ended};
use super::shared::Shared;
use crate::base::{BoxFuture, Crew, Failure, Gone, Mail, Mailbox, Module, Ready, Stop, mailbox};
use crate::host::ports::bind_failure;
use crate::model::NodeName;
use crate::wire::user::RouterOrder;
use crate::wire::{Down, Question, Up};
use book::{Book, Kind, Wish};
use desk::{Desk, Errand};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const EVENTS: usize = 64;
const NODES: usize = 256;
/// Messages of nodes that wait or are on their way to a service.
const ERRANDS: usize = 1024;

/// Where requests come in, and how long an answer may take.
#[derive(Clone, Copy, Debug)]
pub(in crate::daemon::cloud) struct Config {
    pub listen: SocketAddr,
    pub limit: Duration,
}

/// The way to the router.
pub(super) struct Router {
    desk: Arc<Desk>,
    nodes: Mailbox<NodeName>,
    errands: Mailbox<Errand>,
}

impl Router {
    /// A node is connected: it is told what to listen to.
    pub(super) async fn connected(&self, node: NodeName) {
        super::told(self.nodes.put(node).await);
    }

    /// A message of a node. Never waits: a service that is slow must not hold the hub up.
    pub(super) fn said(&self, node: NodeName, question: Question) {
        if let Up::ServiceReply { to, response } = question.up {
            return self.desk.replied(&node, &to, response);
        }
        if let Some(errand) = self.desk.errand(node, question)
            && let Err(Gone) = self.errands.try_put(errand)
        {
            tracing::debug!("a user message is dropped: too many wait");
        }
    }
}

/// The handle and the module.
pub(super) fn new(config: Config, shared: Arc<Shared>) -> Result<(Router, Rules), Failure> {
    let desk = Arc::new(Desk::new(shared.clone(), config.limit)?);
    let (nodes, nodes_mail) = mailbox(NODES);
    let (errands, errands_mail) = mailbox(ERRANDS);
    let router = Router { desk: desk.clone(), nodes, errands };
    Ok((router, Rules { config, shared, desk, nodes: nodes_mail, errands: errands_mail }))
}

pub(super) struct Rules {
    config: Config,
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    nodes: Mail<NodeName>,
    errands: Mail<Errand>,
}

/// What the lists have brought so far.
#[derive(Default)]
struct Known {
    book: Book,
    rules: bool,
    endpoints: bool,
    wishes: BTreeSet<(NodeName, Wish)>,
}

impl Module for Rules {
    fn name(&self) -> &'static str {
        "rules"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.serve(stop, ready))
    }
}

impl Rules {
    async fn serve(&mut self, stop: Stop, ready: Ready) -> Result<(), Failure> {
        let address = self.config.listen;
        let listener =
            TcpListener::bind(address).await.map_err(|error| bind_failure("the router", address, &error))?;
        let mut crew = Crew::new();
        crew.spawn(server::serve(listener, self.desk.clone(), stop.clone()));
        let (desk, writing) = (self.desk.clone(), stop.clone());
        crew.spawn(async move { desk.tally.write(&desk.shared.kube, &writing).await });
        let mut rules = self.watch(&mut crew, Resource::RULE);
        let mut endpoints = self.watch(&mut crew, Resource::RULE_ENDPOINT);
        let mut known = Known::default();
        let desk = self.desk.clone();
        let mut lanes = Lanes::new(ERRANDS);
        loop {
            tokio::select! {
                biased;
                () = stop.raised() => break,
                event = rules.recv() => {
                    let event = event.ok_or_else(|| watch_ended("Rules"))?;
                    stop.or(self.event(&mut known, Kind::Rule, event)).await.unwrap_or(Ok(())).map_err(gone)?;
                }
                event = endpoints.recv() => {
                    let event = event.ok_or_else(|| watch_ended("RuleEndpoints"))?;
                    stop.or(self.event(&mut known, Kind::Endpoint, event)).await.unwrap_or(Ok(())).map_err(gone)?;
                }
                Some(node) = self.nodes.recv() => {
                    let wishes = known.wishes.iter().filter(|(of, _)| *of == node);
                    for (node, wish) in wishes {
                        stop.or(self.tell(node, wish, true)).await.unwrap_or(Ok(())).map_err(gone)?;
                    }
                }
                () = lanes.ended(), if !lanes.is_idle() => {}
                Some(errand) = self.errands.recv(), if lanes.has_room() => {
                    let desk = &desk;
                    lanes.push(errand.lane(), Box::pin(desk.run(errand)));
                }
            }
            if known.rules && known.endpoints {
                ready.set();
            }
        }
        drop(lanes);
        crew.finish().await;
        Ok(())
    }

    fn watch(&self, crew: &mut Crew, resource: Resource) -> mpsc::Receiver<Event> {
        let (sender, events) = mpsc::channel(EVENTS);
        let kube = self.shared.kube.clone();
        crew.spawn(async move { drop(follow(kube, Scope { resource, selector: "" }, sender).await) });
        events
    }

    async fn event(&self, known: &mut Known, kind: Kind, event: Event) -> Result<(), Gone> {
        let listed = match kind {
            Kind::Rule => &mut known.rules,
            Kind::Endpoint => &mut known.endpoints,
        };
        let changed = match event {
            Event::Listing => {
                *listed = false;
                known.book.clear(kind);
                false
            }
            Event::Listed => {
                *listed = true;
                true
            }
            Event::Applied { object, .. } => known.book.put(kind, &object),
            Event::Deleted(object) => {
                known.book.remove(kind, &object);
                true
            }
        };
        if !changed || !known.rules || !known.endpoints {
            return Ok(());
        }
        let (table, useless) = known.book.table();
        for ((namespace, rule), why) in useless {
            tracing::warn!(namespace, rule, why, "a rule cannot be used");
        }
        let wishes = table.wishes();
        self.desk.set_table(table);
        let before = std::mem::replace(&mut known.wishes, wishes);
        for (node, wish) in before.difference(&known.wishes) {
            self.tell(node, wish, false).await?;
        }
        for (node, wish) in known.wishes.difference(&before) {
            self.tell(node, wish, true).await?;
        }
        Ok(())
    }

    /// Has a node listen, or no longer listen; nothing when it is away: it is told on its return, and what it should no
    /// longer listen to with its next message.
    async fn tell(&self, node: &NodeName, wish: &Wish, wanted: bool) -> Result<(), Gone> {
        if !self.shared.is_connected(node) {
            return Ok(());
        }
        self.shared.hub.tell(node.clone(), Down::Router(order(wish.clone(), wanted))).await
    }
}

fn order(wish: Wish, wanted: bool) -> RouterOrder {
    match (wish, wanted) {
        (Wish::Topic(topic), true) => RouterOrder::Subscribe { topic },
        (Wish::Topic(topic), false) => RouterOrder::Unsubscribe { topic },
        (Wish::Url(url), true) => RouterOrder::Listen { url },
        (Wish::Url(url), false) => RouterOrder::Unlisten { url },
    }
}
