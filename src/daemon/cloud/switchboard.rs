//! The one place that routes what nodes say. Every variant of `Up` stands here: a new one does not compile until it is
//! routed. What is not understood is answered or logged once per node and kind, and never ends anything.

use super::control::Control;
use super::hub::Arrival;
use super::volumes;
use crate::base::{BoxFuture, Failure, Module, Ready, Stop};
use crate::model::NodeName;
use crate::wire::{Question, Up};
use std::collections::BTreeSet;
use tokio::sync::mpsc;

/// How many kinds of unknown messages are told apart in the log.
const UNKNOWN_LIMIT: usize = 256;

pub(super) struct Switchboard {
    pub control: Control,
    pub volumes: volumes::Desk,
    pub arriving: mpsc::Receiver<Arrival>,
}

impl Module for Switchboard {
    fn name(&self) -> &'static str {
        "switchboard"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            ready.set();
            let mut unknown = BTreeSet::new();
            loop {
                let arrival = tokio::select! {
                    biased;
                    () = stop.raised() => return Ok(()),
                    arrival = self.arriving.recv() => arrival,
                };
                match arrival {
                    Some(Arrival::Connected(node)) => {
                        stop.or(self.control.connected(node)).await;
                    }
                    // What a node is owed is not kept per connection: one that is back is told what it is missing.
                    Some(Arrival::Disconnected(node)) => {
                        stop.or(self.control.left(node)).await;
                    }
                    Some(Arrival::Message { node, question }) => {
                        stop.or(self.route(node, question, &mut unknown)).await;
                    }
                    Some(Arrival::Stored { node, key, uid, revision, deleted }) => {
                        self.control.stored(&node, key, &uid, revision, deleted);
                    }
                    // The hub ends first when the cloud stops; there is nothing more to route.
                    None => {
                        stop.raised().await;
                        return Ok(());
                    }
                }
            }
        })
    }
}

impl Switchboard {
    async fn route(&self, node: NodeName, question: Question, unknown: &mut BTreeSet<String>) {
        match &question.up {
            Up::Holdings(holdings) => self.control.holdings(node, holdings.clone()).await,
            Up::NodeInsert { .. }
            | Up::Query { .. }
            | Up::NodeUpdate { .. }
            | Up::NodePatch { .. }
            | Up::PodPatch { .. }
            | Up::PodInsert { .. }
            | Up::PodDelete { .. }
            | Up::TokenRequest { .. }
            | Up::Lease { .. }
            | Up::NodeStatus { .. }
            | Up::PodStatus { .. }
            | Up::CertificateRequest { .. }
            | Up::ClusterCa
            | Up::Event { .. }
            | Up::EventPatch { .. } => self.control.ask(node, question).await,
            Up::Application(_) | Up::WatchSync(_) => self.control.application(node, question).await,
            Up::TwinReport(_) | Up::StateReport(_) | Up::MembershipDetail { .. } => {
                self.control.device(node, question).await;
            }
            // The session has dealt with them.
            Up::Keepalive | Up::Acknowledge { .. } => {}
            Up::Failed { of, text } => {
                let why: String = text.chars().take(200).collect();
                tracing::warn!(%node, msg = of.0, why, "a node could not carry out a message");
            }
            Up::Upload { .. } | Up::ServiceUpload { .. } | Up::ServiceReply { .. } => {
                self.control.user(node, question).await;
            }
            Up::Task(report) => self.control.task(node, (**report).clone()).await,
            Up::VolumeResult(result) => self.volumes.hand_in(&node, result),
            Up::Unknown { resource, operation, why } => {
                let kind = format!("{node} {operation} {why}");
                if unknown.len() < UNKNOWN_LIMIT && unknown.insert(kind) {
                    tracing::warn!(%node, resource, operation, why, "a message of a node is not understood");
                }
            }
        }
    }
}
