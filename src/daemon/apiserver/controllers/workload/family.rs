//! Whose pods are whose: adoption and release by selector, pods from templates, deletion, status.

use crate::daemon::apiserver::controllers::collections::PODS;
use crate::daemon::apiserver::controllers::read::{
    controlled_by, controller_of, deleting, list, name, namespace, owner_reference, uid,
};
use crate::daemon::apiserver::controllers::runner::World;
use crate::daemon::apiserver::local::{Collection, Deletion, Propagation};
use crate::daemon::apiserver::selector::LabelSelector;
use crate::model::Status;
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const WRITES_AT_ONCE: usize = 16;

/// What an owner writes into references.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnerKind {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) component: &'static str,
}

/// What to do with one object that an owner may claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Keep,
    Adopt,
    Release,
    Ignore,
}

/// Whether an object belongs to an owner: the selector decides over its own and over orphans.
pub(super) fn claim(owner: &Value, selector: &LabelSelector, object: &Value) -> Claim {
    let matches = selector.matches(object);
    match (controller_of(object), matches) {
        (Some(_), true) if controlled_by(object, uid(owner)) => Claim::Keep,
        (Some(_), false) if controlled_by(object, uid(owner)) && !deleting(owner) => Claim::Release,
        (None, true) if !deleting(owner) && !deleting(object) => Claim::Adopt,
        _ => Claim::Ignore,
    }
}

/// The objects of a collection that belong to an owner, after adoptions and releases.
pub(super) async fn claimed(
    world: &World,
    collection: &Collection,
    owner: &Value,
    kind: OwnerKind,
) -> Result<Vec<Arc<Value>>, Status> {
    let selector = LabelSelector::from_object(&owner["spec"]["selector"])?;
    // An empty selector would claim the whole namespace; upstream refuses it.
    if selector.is_everything() {
        return Ok(Vec::new());
    }
    let (objects, _) = world.local.list(collection, Some(namespace(owner))).await?;
    let mut mine = Vec::new();
    for object in objects {
        let references = list(&object["metadata"]["ownerReferences"]);
        let references: Vec<Value> = match claim(owner, &selector, &object) {
            Claim::Keep => {
                mine.push(object);
                continue;
            }
            Claim::Ignore => continue,
            Claim::Adopt => {
                let reference = owner_reference(owner, kind.api_version, kind.kind);
                references.iter().cloned().chain([reference]).collect()
            }
            Claim::Release => references.iter().filter(|r| r["uid"] != uid(owner)).cloned().collect(),
        };
        let adopted = references.len() > list(&object["metadata"]["ownerReferences"]).len();
        let patch = json!({"metadata": {"uid": uid(&object), "ownerReferences": references,
            "resourceVersion": object["metadata"]["resourceVersion"]}});
        match world.local.merge_patch(collection, Some(namespace(owner)), name(&object), None, patch).await {
            Ok(object) if adopted => mine.push(object),
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(mine)
}

/// Keys of all objects of a collection in a namespace whose selector chooses an orphan.
pub(super) async fn adopters(world: &World, collection: &Collection, orphan: &Value) -> Vec<String> {
    let Ok((owners, _)) = world.local.list(collection, Some(namespace(orphan))).await else {
        return Vec::new();
    };
    let chooses = |owner: &Value| {
        LabelSelector::from_object(&owner["spec"]["selector"])
            .is_ok_and(|selector| !selector.is_everything() && selector.matches(orphan))
    };
    owners.iter().filter(|owner| chooses(owner)).map(|o| super::super::read::key(o)).collect()
}

/// A pod as an owner's template describes it; the caller sets its name.
pub(super) fn pod_from(owner: &Value, kind: OwnerKind) -> Value {
    let template = &owner["spec"]["template"];
    let mut metadata = Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        if !template["metadata"][field].is_null() {
            metadata.insert(field.to_owned(), template["metadata"][field].clone());
        }
    }
    metadata.insert("namespace".to_owned(), json!(namespace(owner)));
    metadata.insert("generateName".to_owned(), json!(format!("{}-", name(owner))));
    let reference = owner_reference(owner, kind.api_version, kind.kind);
    metadata.insert("ownerReferences".to_owned(), json!([reference]));
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

/// Creates pods side by side, with an Event for each; the first error after all have been tried.
pub(super) async fn create_pods(
    world: &World,
    owner: &Value,
    kind: OwnerKind,
    pods: Vec<Value>,
) -> Result<(), Status> {
    let created: Vec<Result<Arc<Value>, Status>> = futures_util::stream::iter(pods)
        .map(|pod| async move { world.local.create(&PODS, pod).await })
        .buffer_unordered(WRITES_AT_ONCE)
        .collect()
        .await;
    let mut outcome = Ok(());
    for result in created {
        match result {
            Ok(pod) => {
                let message = format!("Created pod: {}", name(&pod));
                world.events.normal(kind.component, owner, "SuccessfulCreate", message);
            }
            Err(error) => {
                let message = format!("Error creating: {}", error.message);
                world.events.warning(kind.component, owner, "FailedCreate", message);
                outcome = Err(error);
            }
        }
    }
    outcome
}

/// Deletes pods side by side, with an Event for each.
pub(super) async fn delete_pods(
    world: &World,
    owner: &Value,
    kind: OwnerKind,
    pods: Vec<Arc<Value>>,
) -> Result<(), Status> {
    let deleted: Vec<Result<(), Status>> = futures_util::stream::iter(pods)
        .map(|pod| async move {
            let deletion = Deletion { uid: Some(uid(&pod).to_owned()), ..Deletion::default() };
            match world.local.delete(&PODS, Some(namespace(&pod)), name(&pod), deletion).await {
                Ok(_) => {
                    let message = format!("Deleted pod: {}", name(&pod));
                    world.events.normal(kind.component, owner, "SuccessfulDelete", message);
                    Ok(())
                }
                Err(error) if error.is_not_found() => Ok(()),
                Err(error) => Err(error),
            }
        })
        .buffer_unordered(WRITES_AT_ONCE)
        .collect()
        .await;
    deleted.into_iter().find(Result::is_err).unwrap_or(Ok(()))
}

/// Deletes an object in the background; its absence is success.
pub(super) async fn delete_quietly(
    world: &World,
    collection: &Collection,
    object: &Value,
) -> Result<(), Status> {
    let deletion = Deletion {
        uid: Some(uid(object).to_owned()),
        propagation: Some(Propagation::Background),
        ..Deletion::default()
    };
    match world.local.delete(collection, Some(namespace(object)), name(object), deletion).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Writes fields of a status when they differ; conditions are compared, too, a null field is removed.
pub(super) async fn write_status(
    world: &World,
    collection: &Collection,
    object: &Value,
    fields: Map<String, Value>,
) -> Result<(), Status> {
    let old = &object["status"];
    let changed = fields.iter().any(|(field, value)| &old[field.as_str()] != value);
    if !changed {
        return Ok(());
    }
    let mut new = object.clone();
    let status = merged(old.as_object().cloned().unwrap_or_default(), fields);
    if let Some(map) = new.as_object_mut() {
        map.insert("status".to_owned(), Value::Object(status));
    }
    world.local.update_status(collection, new).await.map(drop)
}

/// The old status with the new fields over it; a null field takes the old value away.
fn merged(mut status: Map<String, Value>, fields: Map<String, Value>) -> Map<String, Value> {
    status.extend(fields);
    status.retain(|_, value| !value.is_null());
    status
}

/// Fields for [`write_status`].
pub(super) fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
}

/// A count for a status field, left out when zero as upstream does.
pub(super) fn count(number: usize) -> Value {
    if number == 0 { Value::Null } else { json!(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_falls_to_zero_leaves_the_status() {
        let old = fields([("replicas", json!(2)), ("unavailableReplicas", json!(1)), ("other", json!("x"))]);
        let new = fields([("replicas", count(3)), ("unavailableReplicas", count(0))]);
        assert_eq!(Value::Object(merged(old, new)), json!({"replicas": 3, "other": "x"}));
    }

    #[test]
    fn selectors_decide_over_own_pods_and_orphans_only() {
        let owner = json!({"metadata": {"uid": "u"}, "spec": {"selector": {"matchLabels": {"a": "1"}}}});
        let selector = LabelSelector::from_object(&owner["spec"]["selector"]).unwrap();
        let pod = |label: &str, owner: Option<&str>| {
            let owners: Vec<Value> =
                owner.map(|uid| json!({"uid": uid, "controller": true})).into_iter().collect();
            json!({"metadata": {"labels": {"a": label}, "ownerReferences": owners}})
        };
        assert_eq!(claim(&owner, &selector, &pod("1", Some("u"))), Claim::Keep);
        assert_eq!(claim(&owner, &selector, &pod("2", Some("u"))), Claim::Release);
        assert_eq!(claim(&owner, &selector, &pod("1", None)), Claim::Adopt);
        assert_eq!(claim(&owner, &selector, &pod("1", Some("v"))), Claim::Ignore);
        assert_eq!(claim(&owner, &selector, &pod("2", None)), Claim::Ignore);
    }
}
