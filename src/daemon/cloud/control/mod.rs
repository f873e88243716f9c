//! The controllers of the cloud: what the API says down to the nodes, what nodes say up into the API.
//! The composition makes them with [`new`] and hands arrivals to [`Control`]; only the hub and the API are outside.
//!
//! API --watch--> pods, configs, nodes, devices, drift --tell--> hub
//! hub --arrivals--> Control --> answers, devices --> API;  acknowledgements --> records --> sync --> API

mod answers;
mod applications;
mod budget;
mod configs;
mod devices;
mod drift;
mod gate;
mod jobs;
mod labels;
mod lanes;
mod nodes;
mod permit;
mod pod_index;
mod pods;
mod records;
mod references;
mod rules;
mod shared;
mod statuses;
mod sync;
#[cfg(test)]
mod tests;

use super::hub::{Hub, KnownNode, NotYet};
use super::kubernetes::Kube;
use crate::base::{Failure, Mailbox, Module, mailbox};
use crate::model::{NodeName, ObjectKey, Revision};
use crate::wire::task::TaskReport;
use crate::wire::{Holdings, Question, Up};
use answers::Asked;
use shared::{Notice, Shared, told};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub(super) use jobs::{Engine as JobEngine, Settings as JobSettings};
pub(super) use pod_index::PodIndex;
pub(super) use pods::watch_ended;
pub(super) use rules::Config as RouterConfig;

const NOTICES: usize = 256;
const LETTERS: usize = 1024;

/// What other rooms read: pods by name, and Nodes by name.
#[derive(Clone, Default)]
pub(super) struct Indexes {
    pub pods: Arc<Mutex<PodIndex>>,
    pub nodes: Arc<Mutex<NodeNames>>,
}

/// The Nodes by name.
#[derive(Default)]
pub(super) struct NodeNames {
    known: BTreeMap<String, KnownNode>,
    /// Whether they were listed once: before, a name that is not here may be somebody's.
    listed: bool,
}

impl NodeNames {
    /// The Node of this name.
    pub(super) fn known(&self, name: &str) -> Result<Option<KnownNode>, NotYet> {
        if self.listed { Ok(self.known.get(name).cloned()) } else { Err(NotYet) }
    }

    /// Notes what is known of the Node of this name; `None`: there is none.
    fn note(&mut self, name: &str, known: Option<KnownNode>) {
        match known {
            None => {
                self.known.remove(name);
            }
            Some(known) => {
                if self.known.get(name) != Some(&known) {
                    self.known.insert(name.to_owned(), known);
                }
            }
        }
    }
}

/// Takes what the hub hears.
pub(super) struct Control {
    shared: Arc<Shared>,
    notices: Vec<Mailbox<Notice>>,
    devices: Mailbox<devices::Letter>,
    answers: Mailbox<Asked>,
    drift: Mailbox<drift::Letter>,
    jobs: Mailbox<jobs::Said>,
    applications: Mailbox<applications::Letter>,
    /// `None` when no rules are followed.
    router: Option<rules::Router>,
}

/// The controllers in start order.
pub(super) struct Controllers {
    pub control: Control,
    pub sync: Box<dyn Module>,
    pub rest: Vec<Box<dyn Module>>,
}

/// Makes the controllers; reads the records of what nodes have, so it needs the API.
pub(super) async fn new(
    kube: Kube,
    hub: Hub,
    indexes: Indexes,
    advertised: Option<String>,
    (dynamic, router, settings): (bool, Option<RouterConfig>, JobSettings),
) -> Result<Controllers, Failure> {
    let shared = Shared::new(kube, hub, indexes, advertised);
    sync::load(&shared).await.map_err(|status| {
        Failure::new("KE-CLOUD-012", "cannot read the ObjectSync records").because(&status).fix(
            "install KubeEdge's definitions: set kedge.installCRDs in cloudcore.yaml, or run `kedge init`",
        )
    })?;
    let (pods_box, pods_mail) = mailbox(NOTICES);
    let (configs_box, configs_mail) = mailbox(NOTICES);
    let (nodes_box, nodes_mail) = mailbox(NOTICES);
    let (devices, devices_mail) = mailbox(LETTERS);
    let (answers, answers_mail) = mailbox(LETTERS);
    let (drift, drift_mail) = mailbox(LETTERS);
    let (jobs, jobs_mail) = mailbox(LETTERS);
    let (applications, applications_mail) = mailbox(LETTERS);
    let notices = vec![pods_box, configs_box, nodes_box];
    let registrations =
        answers::Registrations { notices: notices.clone(), devices: devices.clone(), drift: drift.clone() };
    let mut rest: Vec<Box<dyn Module>> = vec![
        Box::new(nodes::Nodes { shared: shared.clone(), mail: nodes_mail }),
        Box::new(pods::Pods { shared: shared.clone(), mail: pods_mail }),
        Box::new(configs::Configs { shared: shared.clone(), mail: configs_mail }),
        Box::new(devices::Devices { shared: shared.clone(), mail: devices_mail }),
        Box::new(applications::Applications {
            shared: shared.clone(),
            mail: applications_mail,
            enabled: dynamic,
        }),
        Box::new(jobs::Jobs { shared: shared.clone(), mail: jobs_mail, settings }),
        Box::new(drift::Drift { shared: shared.clone(), mail: drift_mail }),
        Box::new(answers::Answers { shared: shared.clone(), mail: answers_mail, registrations }),
    ];
    let router = match router.map(|config| rules::new(config, shared.clone())).transpose()? {
        Some((router, module)) => {
            rest.push(Box::new(module));
            Some(router)
        }
        None => None,
    };
    let sync = Box::new(sync::Sync { shared: shared.clone() });
    Ok(Controllers {
        control: Control { shared, notices, devices, answers, drift, jobs, applications, router },
        sync,
        rest,
    })
}

impl Control {
    /// A node is connected: it is compared, or everybody tells it what it is missing.
    pub(super) async fn connected(&self, node: NodeName) {
        // What its former connection watched it names again.
        self.left(node.clone()).await;
        told(self.devices.put(devices::Letter::Arrived(node.clone())).await);
        if let Some(router) = &self.router {
            router.connected(node.clone()).await;
        }
        if self.shared.compares(&node) {
            return told(self.drift.put(drift::Letter::Look(node)).await);
        }
        for notices in &self.notices {
            told(notices.put(Notice::Connected(node.clone())).await);
        }
        told(self.devices.put(devices::Letter::Notice(Notice::Connected(node))).await);
    }

    /// What a node holds where it differs.
    pub(super) async fn holdings(&self, node: NodeName, holdings: Holdings) {
        told(self.drift.put(drift::Letter::Said { node, holdings }).await);
    }

    /// A message of a user. Without rules a program that calls a service is told so.
    pub(super) async fn user(&self, node: NodeName, question: Question) {
        match &self.router {
            Some(router) => router.said(node, question),
            None if matches!(question.up, Up::ServiceUpload { .. }) => self.ask(node, question).await,
            None => tracing::debug!(%node, "a user message has no rule"),
        }
    }

    /// A question or a report for the API.
    pub(super) async fn ask(&self, node: NodeName, question: Question) {
        told(self.answers.put(Asked { node, question }).await);
    }

    /// A request of the node's local API.
    pub(super) async fn application(&self, node: NodeName, question: Question) {
        told(self.applications.put(applications::Letter::Asked { node, question }).await);
    }

    /// A node's connection has ended.
    pub(super) async fn left(&self, node: NodeName) {
        told(self.applications.put(applications::Letter::Left(node)).await);
    }

    /// What became of a task.
    pub(super) async fn task(&self, node: NodeName, report: TaskReport) {
        told(self.jobs.put(jobs::Said { node, report }).await);
    }

    /// A message about devices.
    pub(super) async fn device(&self, node: NodeName, question: Question) {
        told(self.devices.put(devices::Letter::Said { node, question }).await);
    }

    /// A node has stored or removed an object.
    pub(super) fn stored(
        &self,
        node: &NodeName,
        key: ObjectKey,
        uid: &str,
        revision: Option<Revision>,
        deleted: bool,
    ) {
        if uid.is_empty() {
            return;
        }
        if deleted {
            self.shared.records.removed(node, uid);
        } else if let Some(revision) = revision {
            self.shared.records.stored(node, uid, key, revision);
        }
    }
}
