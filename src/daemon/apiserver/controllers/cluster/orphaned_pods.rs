//! Removes pods that are bound to a node that no longer exists, after a quarantine: the node may register again.

use crate::daemon::apiserver::controllers::collections::{NODES, PODS};
use crate::daemon::apiserver::controllers::read::{name, namespace, text, uid};
use crate::daemon::apiserver::controllers::runner::{Controller, Next, Seen, World};
use crate::daemon::apiserver::local::{Collection, Deletion};
use crate::model::Status;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const QUARANTINE: Duration = Duration::from_secs(40);

pub(in crate::daemon::apiserver::controllers) struct OrphanedPods {
    world: World,
    /// Nodes that pods name and nobody knows, with the time they were first missed.
    missing: Mutex<HashMap<String, Instant>>,
}

impl OrphanedPods {
    pub(in crate::daemon::apiserver::controllers) fn new(world: World) -> Self {
        OrphanedPods { world, missing: Mutex::new(HashMap::new()) }
    }
}

impl Controller for OrphanedPods {
    fn name(&self) -> &'static str {
        "orphaned-pods"
    }

    fn follows(&self) -> Vec<Collection> {
        vec![NODES, PODS]
    }

    async fn keys(&self, seen: &Seen) -> Vec<String> {
        if seen.collection == NODES {
            return if seen.gone { vec![name(&seen.object).to_owned()] } else { Vec::new() };
        }
        let node = text(&seen.object["spec"]["nodeName"]);
        let lost = !seen.gone && !node.is_empty() && !self.world.local.exists(&NODES, None, node);
        if lost { vec![node.to_owned()] } else { Vec::new() }
    }

    async fn reconcile(&self, node: &str) -> Result<Next, Status> {
        let local = &self.world.local;
        let waited = {
            let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
            if local.exists(&NODES, None, node) {
                missing.remove(node);
                return Ok(Next::Done);
            }
            missing.entry(node.to_owned()).or_insert_with(Instant::now).elapsed()
        };
        if waited < QUARANTINE {
            return Ok(Next::After(QUARANTINE.saturating_sub(waited)));
        }
        for pod in local.list(&PODS, None).await?.0 {
            if pod["spec"]["nodeName"] != node {
                continue;
            }
            let deletion = Deletion { grace: Some(0), uid: Some(uid(&pod).to_owned()), propagation: None };
            match local.delete(&PODS, Some(namespace(&pod)), name(&pod), deletion).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
        Ok(Next::Done)
    }
}
