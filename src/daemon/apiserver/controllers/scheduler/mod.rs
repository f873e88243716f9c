//! The scheduler: gives every pod without a node the node that suits it best, all waiting pods in one pass.
//!
//! `fit` decides from a picture of the cluster taken at the start of the pass and kept current with its own
//! placements; this file takes the picture, binds, and tells pods that fit nowhere.

pub(super) mod affinity;
mod fit;
mod resources;

use super::collections::{NODES, PODS};
use super::read::{
    condition, deleting, finished, key, list, name, namespace, plain_condition, set_condition, text,
};
use super::runner::{Controller, Next, Seen, World};
use crate::base::now;
use crate::daemon::apiserver::local::Collection;
use crate::model::Status;
use fit::Cluster;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::sync::Arc;

const COMPONENT: &str = "default-scheduler";
/// Everything is scheduled in one pass, so there is one key.
const PASS: &str = "pass";
const BINDINGS_AT_ONCE: usize = 16;

pub(super) struct Scheduler(pub(super) World);

impl Controller for Scheduler {
    fn name(&self) -> &'static str {
        "scheduler"
    }

    fn follows(&self) -> Vec<Collection> {
        vec![PODS, NODES]
    }

    async fn keys(&self, seen: &Seen) -> Vec<String> {
        let frees_room = || seen.gone || finished(&seen.object);
        let matters = seen.collection == NODES || waits(&seen.object) || frees_room();
        if matters { vec![PASS.to_owned()] } else { Vec::new() }
    }

    async fn reconcile(&self, _pass: &str) -> Result<Next, Status> {
        let local = &self.0.local;
        let (pods, _) = local.list(&PODS, None).await?;
        let mut waiting: Vec<Arc<Value>> = pods.iter().filter(|pod| waits(pod)).cloned().collect();
        if waiting.is_empty() {
            return Ok(Next::Done);
        }
        waiting.sort_by_key(|pod| (-pod["spec"]["priority"].as_i64().unwrap_or(0), age(pod)));
        let mut cluster = Cluster::new(local.list(&NODES, None).await?.0, &pods);
        let mut decided = Vec::with_capacity(waiting.len());
        for pod in waiting {
            let choice = cluster.choose(&pod);
            if let Ok(node) = &choice {
                cluster.place(pod.clone(), node);
            }
            decided.push((pod, choice));
        }
        let outcomes: Vec<Result<(), Status>> = futures_util::stream::iter(decided)
            .map(|(pod, choice)| async move {
                match choice {
                    Ok(node) => self.bind(&pod, &node).await,
                    Err(why) => self.refuse(&pod, &why).await,
                }
            })
            .buffer_unordered(BINDINGS_AT_ONCE)
            .collect()
            .await;
        outcomes.into_iter().find(Result::is_err).unwrap_or(Ok(())).map(|()| Next::Done)
    }
}

impl Scheduler {
    async fn bind(&self, pod: &Value, node: &str) -> Result<(), Status> {
        match self.0.local.bind(namespace(pod), name(pod), node).await {
            Ok(_) => {
                let message = format!("Successfully assigned {} to {node}", key(pod));
                self.0.events.normal(COMPONENT, pod, "Scheduled", message);
                Ok(())
            }
            // Bound by somebody else or gone: nothing is left to do.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn refuse(&self, pod: &Value, why: &str) -> Result<(), Status> {
        let old = condition(&pod["status"], "PodScheduled");
        if old.is_some_and(|old| old["status"] == "False" && old["message"] == why) {
            return Ok(());
        }
        self.0.events.warning(COMPONENT, pod, "FailedScheduling", why.to_owned());
        let mut conditions = list(&pod["status"]["conditions"]).to_vec();
        set_condition(&mut conditions, plain_condition("PodScheduled", false, "Unschedulable", why), now());
        let patch = json!({"metadata": {"resourceVersion": pod["metadata"]["resourceVersion"]},
            "status": {"conditions": conditions}});
        let written =
            self.0.local.merge_patch(&PODS, Some(namespace(pod)), name(pod), Some("status"), patch).await;
        match written {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

fn waits(pod: &Value) -> bool {
    let spec = &pod["spec"];
    text(&spec["nodeName"]).is_empty()
        && !deleting(pod)
        && !finished(pod)
        && matches!(text(&spec["schedulerName"]), "" | COMPONENT)
        && list(&spec["schedulingGates"]).is_empty()
}

fn age(pod: &Value) -> String {
    text(&pod["metadata"]["creationTimestamp"]).to_owned()
}
