//! Empties namespaces that are being deleted and lets them go when nothing is left.

use crate::daemon::apiserver::controllers::collections::NAMESPACES;
use crate::daemon::apiserver::controllers::read::{deleting, list, name, namespace};
use crate::daemon::apiserver::controllers::runner::{Controller, Next, Seen, World};
use crate::daemon::apiserver::local::{Collection, Deletion, Propagation};
use crate::model::Status;
use serde_json::{Value, json};

pub(in crate::daemon::apiserver::controllers) struct Namespaces(
    pub(in crate::daemon::apiserver::controllers) World,
);

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn follows(&self) -> Vec<Collection> {
        Vec::new()
    }

    async fn keys(&self, seen: &Seen) -> Vec<String> {
        if seen.collection == NAMESPACES {
            return if deleting(&seen.object) { vec![name(&seen.object).to_owned()] } else { Vec::new() };
        }
        // Something went: the namespace may be empty now.
        let home = namespace(&seen.object);
        if seen.gone && !home.is_empty() { vec![home.to_owned()] } else { Vec::new() }
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Status> {
        let local = &self.0.local;
        let space = match local.get(&NAMESPACES, None, key).await {
            Ok(space) if deleting(&space) => space,
            Ok(_) => return Ok(Next::Done),
            Err(error) if error.is_not_found() => return Ok(Next::Done),
            Err(error) => return Err(error),
        };
        let mut left = 0;
        for facts in local.collections().into_iter().filter(|facts| facts.namespaced) {
            for object in local.list(&facts.collection, Some(key)).await?.0 {
                if !deleting(&object) {
                    self.delete(&facts.collection, key, &object).await?;
                }
            }
            left += local.list(&facts.collection, Some(key)).await?.0.len();
        }
        if left == 0 && !list(&space["spec"]["finalizers"]).is_empty() {
            let others: Vec<&Value> =
                list(&space["spec"]["finalizers"]).iter().filter(|f| *f != "kubernetes").collect();
            let patch = json!({"spec": {"finalizers": others}});
            match local.merge_patch(&NAMESPACES, None, key, Some("finalize"), patch).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(Next::Done)
    }
}

impl Namespaces {
    async fn delete(&self, collection: &Collection, space: &str, object: &Value) -> Result<(), Status> {
        let deletion = Deletion { propagation: Some(Propagation::Background), ..Deletion::default() };
        match self.0.local.delete(collection, Some(space), name(object), deletion).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}
