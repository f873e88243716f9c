//! Takes out what `kedge init` put into a cluster: found by its labels, carried out past every error, told line by line.
//! Definitions under which people keep objects stay, with the objects, unless they are purged. Nothing here touches a machine.

use super::super::kubernetes::{Resource, meta, path_of};
use super::desk::SetupDesk;
use super::manifest::Wanted;
use super::{FORWARD, LABEL_MANAGED, LABEL_NAME, MANAGER, NAME, NAMESPACE, neighbours};
use crate::base::Failure;
use crate::model::{Status, resources};
use http::Method;
use serde::Serialize;
use serde_json::{Value, json};

/// What is ours by its label, in the order in which it goes: what runs first, rights last.
const KINDS: [Resource; 11] = [
    Resource::DAEMON_SET,
    Resource::DEPLOYMENT,
    Resource::POD_DISRUPTION_BUDGET,
    Resource::SERVICE,
    Resource::CONFIG_MAP,
    Resource::SECRET,
    Resource::ROLE_BINDING,
    Resource::ROLE,
    Resource::CLUSTER_ROLE_BINDING,
    Resource::CLUSTER_ROLE,
    Resource::SERVICE_ACCOUNT,
];
/// Kinds whose objects the cloud itself makes.
pub(super) const OWN_RECORDS: [&str; 3] = ["objectsyncs", "clusterobjectsyncs", "devicestatuses"];

/// What a removal came to.
#[derive(Debug, Default, Serialize)]
pub struct Removed {
    pub done: Vec<String>,
    /// What stays, and why.
    pub kept: Vec<String>,
    #[serde(skip)]
    pub failed: Vec<Failure>,
}

fn told(resource: Resource, object: &Value) -> String {
    let (namespace, name) = (meta(object, "namespace"), meta(object, "name"));
    let place = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
    format!("{} {place}{name}", resource.kind)
}

fn failed(what: &str, status: &Status) -> Failure {
    Failure::new("KE-CLOUD-030", format!("cannot remove {what}"))
        .because(status)
        .fix("mend what is named and run the same command again: what is gone stays gone")
}

impl SetupDesk {
    /// Removes everything of ours, or only says what it would remove.
    pub async fn remove(&self, purge: bool, dry: bool) -> Removed {
        let mut removed = Removed::default();
        self.release_neighbours(dry, &mut removed).await;
        for resource in KINDS {
            self.remove_labelled(resource, &[FORWARD, NAME], dry, &mut removed).await;
        }
        self.remove_definitions(purge, dry, &mut removed).await;
        self.remove_namespace(purge, dry, &mut removed).await;
        removed
    }

    /// Removes what another form of the cloud has left and this one does not want, and says what it was for: a budget of
    /// several replicas would never let the machine of one be drained, and nobody keeps rules for a cloud that keeps its own.
    /// Who may not do that hears nothing; all else is applied.
    pub async fn without_surplus(&self, wanted: &Wanted) -> Vec<String> {
        let mut told = Vec::new();
        if !wanted.has_several() {
            let mut removed = Removed::default();
            self.remove_labelled(Resource::POD_DISRUPTION_BUDGET, &[NAME], false, &mut removed).await;
            told.extend(removed.done.iter().map(|gone| format!("{gone} was for several replicas")));
        }
        if !wanted.forwards() {
            let mut removed = Removed::default();
            for resource in KINDS {
                self.remove_labelled(resource, &[FORWARD], false, &mut removed).await;
            }
            told.extend(
                removed.done.iter().map(|gone| format!("{gone} was for the API server's way to nodes")),
            );
        }
        told
    }

    async fn release_neighbours(&self, dry: bool, removed: &mut Removed) {
        let mut sets = Vec::new();
        let listed = self.kube.list(Resource::DAEMON_SET, None, "", |set| {
            if let Some(undo) = neighbours::undo_of(&set) {
                sets.push((set, undo));
            }
        });
        if let Err(status) = listed.await {
            removed.failed.push(failed("the changes of DaemonSets", &status));
        }
        for (set, undo) in sets {
            let name = told(Resource::DAEMON_SET, &set);
            match undo {
                Err(why) => removed.kept.push(format!("{name}: {why}")),
                Ok(_) if dry => removed.done.push(format!("{name} (its affinity as it was)")),
                Ok(patch) => {
                    let target = (meta(&set, "namespace"), meta(&set, "name"));
                    match self.merge(Resource::DAEMON_SET, target.0, target.1, &patch).await {
                        Ok(()) => removed.done.push(format!("{name} (its affinity as it was)")),
                        Err(status) => removed.failed.push(failed(&format!("the change of {name}"), &status)),
                    }
                }
            }
        }
    }

    async fn remove_labelled(&self, resource: Resource, parts: &[&str], dry: bool, removed: &mut Removed) {
        let parts = parts.join("%2C");
        let selector =
            format!("labelSelector={LABEL_NAME}%20in%20%28{parts}%29%2C{LABEL_MANAGED}%3D{MANAGER}");
        let mut found = Vec::new();
        let listed = self.kube.list(resource, None, &selector, |object| found.push(object));
        if let Err(status) = listed.await {
            removed.failed.push(failed(&format!("what is there of {}", resource.plural), &status));
        }
        for object in found {
            self.delete(resource, &object, dry, removed).await;
        }
    }

    async fn delete(&self, resource: Resource, object: &Value, dry: bool, removed: &mut Removed) {
        let name = told(resource, object);
        if dry {
            removed.done.push(name);
            return;
        }
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground",
            "preconditions": {"uid": meta(object, "uid")}});
        let namespace = Some(meta(object, "namespace")).filter(|it| !it.is_empty());
        match self.kube.delete(resource, namespace, meta(object, "name"), &options).await {
            Err(status) if !status.is_not_found() => removed.failed.push(failed(&name, &status)),
            _ => removed.done.push(name),
        }
    }

    async fn remove_definitions(&self, purge: bool, dry: bool, removed: &mut Removed) {
        let crds = Resource::CUSTOM_RESOURCE_DEFINITION;
        for resource in resources::all() {
            let name = resource.crd_name();
            let path = crds.path(None, Some(&name), None);
            let crd = match self.kube.call(Method::GET, &path, None).await {
                Ok(crd) => crd,
                Err(status) if status.is_not_found() => continue,
                Err(status) => {
                    removed.failed.push(failed(&format!("CustomResourceDefinition {name}"), &status));
                    continue;
                }
            };
            if !purge {
                if !is_ours(&crd) {
                    removed.kept.push(format!("CustomResourceDefinition {name}: it was not made by kedge"));
                    continue;
                }
                match self.count(&crd).await {
                    Ok(0) => {}
                    Ok(_) if OWN_RECORDS.contains(&resource.plural) => {}
                    Ok(count) => {
                        let objects = if count == 1 { "object" } else { "objects" };
                        let kept = format!("CustomResourceDefinition {name}: {count} {objects} of yours");
                        removed.kept.push(kept);
                        continue;
                    }
                    Err(status) => {
                        removed.failed.push(failed(&format!("CustomResourceDefinition {name}"), &status));
                        continue;
                    }
                }
            }
            self.delete(crds, &crd, dry, removed).await;
        }
    }

    /// How many objects there are under a definition.
    async fn count(&self, crd: &Value) -> Result<usize, Status> {
        let text = |pointer: &str| crd.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let versions = crd.pointer("/spec/versions").and_then(Value::as_array);
        let served = versions.into_iter().flatten().find(|it| it["served"] == true);
        let version = served.and_then(|it| it["name"].as_str()).unwrap_or_default();
        let names = (text("/spec/group"), version, text("/spec/names/plural"));
        let page =
            self.kube.call(Method::GET, &(path_of(names, (None, None, None)) + "?limit=500"), None).await?;
        let more = page.pointer("/metadata/remainingItemCount").and_then(Value::as_u64).unwrap_or_default();
        let here = page["items"].as_array().map_or(0, Vec::len);
        Ok(here + usize::try_from(more).unwrap_or_default())
    }

    /// The namespace goes with the authority and the tokens in it, if we made it and nothing of others is in it.
    async fn remove_namespace(&self, purge: bool, dry: bool, removed: &mut Removed) {
        let namespace = match self.kube.get(Resource::NAMESPACE, None, NAMESPACE).await {
            Ok(namespace) => namespace,
            Err(status) if status.is_not_found() => return,
            Err(status) => {
                removed.failed.push(failed(&format!("Namespace {NAMESPACE}"), &status));
                return;
            }
        };
        let label = namespace.pointer("/metadata/labels").and_then(|labels| labels.get(LABEL_MANAGED));
        let ours = label.and_then(Value::as_str) == Some(MANAGER);
        let others = self.others().await;
        match (ours, others) {
            (true, Ok(None)) => {}
            _ if purge => {}
            (false, _) => {
                removed
                    .kept
                    .push(format!("Namespace {NAMESPACE} with its Secrets: it was not made by kedge"));
                return;
            }
            (true, Ok(Some(what))) => {
                removed.kept.push(format!("Namespace {NAMESPACE} with its Secrets: {what} is in it"));
                return;
            }
            (true, Err(status)) => {
                removed.failed.push(failed(&format!("Namespace {NAMESPACE}"), &status));
                return;
            }
        }
        self.delete(Resource::NAMESPACE, &namespace, dry, removed).await;
    }
}

/// Whether we have applied it.
fn is_ours(object: &Value) -> bool {
    let fields = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    fields.into_iter().flatten().any(|it| {
        let manager = it["manager"].as_str().unwrap_or_default();
        manager == MANAGER || manager == "kedge-cloud"
    })
}
