//! The garbage collector: removes objects whose owners are gone, and holds owners back that wait for their dependents.
//!
//! It follows every collection but keeps only an index from owners to dependents; whether an owner exists is read
//! from the API at the moment of the decision. Who depends on an owner is read from the index, which may lag.

use crate::daemon::apiserver::controllers::read::{
    deleting, has_finalizer, list, name, namespace, text, uid,
};
use crate::daemon::apiserver::controllers::runner::{Controller, Next, Seen, World};
use crate::daemon::apiserver::local::{Collection, CollectionFacts, Deletion, Propagation};
use crate::model::Status;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// How one owner reference stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Present,
    Absent,
    /// Being deleted in the foreground and blocked by this dependent.
    Waiting,
}

/// What becomes of a dependent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stay,
    /// It stays, without the references to owners that are gone.
    Unlink,
    Delete,
    DeleteForeground,
}

/// An object lives as long as one owner does.
fn decide(owners: &[Owner], has_dependents: bool) -> Fate {
    let all_present = owners.iter().all(|owner| *owner == Owner::Present);
    if owners.is_empty() || all_present {
        Fate::Stay
    } else if owners.contains(&Owner::Present) {
        Fate::Unlink
    } else if owners.contains(&Owner::Waiting) && has_dependents {
        Fate::DeleteForeground
    } else {
        Fate::Delete
    }
}

/// `group/plural/namespace/name`
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    collection: Collection,
    namespace: String,
    name: String,
}

impl Place {
    fn of(collection: &Collection, object: &Value) -> Place {
        Place {
            collection: collection.clone(),
            namespace: namespace(object).to_owned(),
            name: name(object).to_owned(),
        }
    }

    fn write(&self) -> String {
        let Collection { group, plural } = &self.collection;
        format!("{group}/{plural}/{}/{}", self.namespace, self.name)
    }

    fn read(key: &str) -> Option<Place> {
        let mut parts = key.splitn(4, '/');
        let (group, plural) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        Some(Place {
            collection: Collection { group: Cow::Owned(group), plural: Cow::Owned(plural) },
            namespace: parts.next()?.to_owned(),
            name: parts.next()?.to_owned(),
        })
    }

    fn space(&self) -> Option<&str> {
        Some(self.namespace.as_str()).filter(|namespace| !namespace.is_empty())
    }
}

pub(in crate::daemon::apiserver::controllers) struct Garbage {
    world: World,
    /// Keys of dependents by owner uid. Entries may be outdated; objects are read before anything is done.
    dependents: Mutex<HashMap<String, BTreeSet<String>>>,
}

impl Garbage {
    pub(in crate::daemon::apiserver::controllers) fn new(world: World) -> Self {
        Garbage { world, dependents: Mutex::new(HashMap::new()) }
    }

    fn index(&self) -> std::sync::MutexGuard<'_, HashMap<String, BTreeSet<String>>> {
        self.dependents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn facts_of(&self, reference: &Value) -> Option<CollectionFacts> {
        let (version, kind) = (text(&reference["apiVersion"]), text(&reference["kind"]));
        let group = version.split_once('/').map_or("", |(group, _)| group);
        self.world
            .local
            .collections()
            .into_iter()
            .find(|facts| facts.kind == kind && facts.collection.group == group)
    }

    fn owner_place(&self, dependent: &Value, reference: &Value) -> Option<Place> {
        let facts = self.facts_of(reference)?;
        let namespace = if facts.namespaced { namespace(dependent).to_owned() } else { String::new() };
        // A cluster-scoped object cannot name the namespace of such an owner: nobody can say that it is gone.
        if facts.namespaced && namespace.is_empty() {
            return None;
        }
        Some(Place { collection: facts.collection, namespace, name: text(&reference["name"]).to_owned() })
    }

    async fn get(&self, place: &Place) -> Result<Option<Arc<Value>>, Status> {
        match self.world.local.get(&place.collection, place.space(), &place.name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn owner(&self, dependent: &Value, reference: &Value) -> Result<Owner, Status> {
        // An owner that cannot be looked up is left alone: the definition of an unknown kind may come back.
        let Some(place) = self.owner_place(dependent, reference) else { return Ok(Owner::Present) };
        Ok(match self.get(&place).await? {
            Some(owner) if uid(&owner) != text(&reference["uid"]) => Owner::Absent,
            Some(owner) if deleting(&owner) && has_finalizer(&owner, FOREGROUND) => Owner::Waiting,
            Some(_) => Owner::Present,
            None => Owner::Absent,
        })
    }

    /// Objects that refer to this owner now; forgets index entries that no longer do.
    async fn dependents_of(&self, owner_uid: &str) -> Result<Vec<(Place, Arc<Value>)>, Status> {
        let keys: Vec<String> = self.index().get(owner_uid).into_iter().flatten().cloned().collect();
        let mut found = Vec::new();
        for key in keys {
            let Some(place) = Place::read(&key) else { continue };
            let refers = |object: &Arc<Value>| {
                list(&object["metadata"]["ownerReferences"]).iter().any(|r| r["uid"] == owner_uid)
            };
            match self.get(&place).await?.filter(refers) {
                Some(object) => found.push((place, object)),
                None => {
                    if let Some(keys) = self.index().get_mut(owner_uid) {
                        keys.remove(&key);
                    }
                }
            }
        }
        Ok(found)
    }

    async fn unlink(&self, place: &Place, object: &Value, gone: &[&str]) -> Result<(), Status> {
        let references = list(&object["metadata"]["ownerReferences"]);
        let kept: Vec<&Value> = references.iter().filter(|r| !gone.contains(&text(&r["uid"]))).collect();
        let kept = if kept.is_empty() { Value::Null } else { json!(kept) };
        self.patch(place, object, json!({"ownerReferences": kept})).await
    }

    async fn drop_finalizer(&self, place: &Place, object: &Value, finalizer: &str) -> Result<(), Status> {
        let kept: Vec<&Value> =
            list(&object["metadata"]["finalizers"]).iter().filter(|f| *f != finalizer).collect();
        let kept = if kept.is_empty() { Value::Null } else { json!(kept) };
        self.patch(place, object, json!({"finalizers": kept})).await
    }

    async fn patch(&self, place: &Place, object: &Value, mut metadata: Value) -> Result<(), Status> {
        metadata["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
        let patch = json!({"metadata": metadata});
        let local = &self.world.local;
        match local.merge_patch(&place.collection, place.space(), &place.name, None, patch).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn delete(&self, place: &Place, object: &Value, how: Propagation) -> Result<(), Status> {
        let deletion = Deletion { grace: None, uid: Some(uid(object).to_owned()), propagation: Some(how) };
        match self.world.local.delete(&place.collection, place.space(), &place.name, deletion).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// An owner that was deleted with `orphan`: its dependents forget it, then it goes.
    async fn orphan(&self, place: &Place, owner: &Value) -> Result<(), Status> {
        for (dependent_place, dependent) in self.dependents_of(uid(owner)).await? {
            self.unlink(&dependent_place, &dependent, &[uid(owner)]).await?;
        }
        self.drop_finalizer(place, owner, ORPHAN).await
    }

    /// An owner that was deleted in the foreground goes when nothing blocks it any more.
    async fn foreground(&self, place: &Place, owner: &Value) -> Result<(), Status> {
        let mut blocked = false;
        for (dependent_place, dependent) in self.dependents_of(uid(owner)).await? {
            blocked |= list(&dependent["metadata"]["ownerReferences"])
                .iter()
                .any(|r| r["uid"] == uid(owner) && r["blockOwnerDeletion"] == true);
            self.collect(&dependent_place, &dependent).await?;
        }
        if blocked { Ok(()) } else { self.drop_finalizer(place, owner, FOREGROUND).await }
    }

    /// Removes an object whose owners are all gone.
    async fn collect(&self, place: &Place, object: &Value) -> Result<(), Status> {
        if deleting(object) {
            return Ok(());
        }
        let references = list(&object["metadata"]["ownerReferences"]);
        let mut owners = Vec::with_capacity(references.len());
        for reference in references {
            owners.push(self.owner(object, reference).await?);
        }
        let has_dependents = self.index().get(uid(object)).is_some_and(|keys| !keys.is_empty());
        match decide(&owners, has_dependents) {
            Fate::Stay => Ok(()),
            Fate::Delete => self.delete(place, object, Propagation::Background).await,
            Fate::DeleteForeground => self.delete(place, object, Propagation::Foreground).await,
            Fate::Unlink => {
                let gone: Vec<&str> = references
                    .iter()
                    .zip(&owners)
                    .filter(|(_, owner)| **owner != Owner::Present)
                    .map(|(reference, _)| text(&reference["uid"]))
                    .collect();
                self.unlink(place, object, &gone).await
            }
        }
    }
}

impl Controller for Garbage {
    fn name(&self) -> &'static str {
        "garbage"
    }

    fn follows(&self) -> Vec<Collection> {
        Vec::new()
    }

    async fn keys(&self, seen: &Seen) -> Vec<String> {
        let object = &seen.object;
        let references = list(&object["metadata"]["ownerReferences"]);
        let place = Place::of(&seen.collection, object);
        let own = place.write();
        let mut index = self.index();
        if seen.gone {
            let mut keys: Vec<String> = index.remove(uid(object)).into_iter().flatten().collect();
            for reference in references {
                if let Some(dependents) = index.get_mut(text(&reference["uid"])) {
                    dependents.remove(&own);
                }
                // An owner may have waited for this dependent.
                if reference["blockOwnerDeletion"] == true {
                    keys.extend(self.owner_place(object, reference).map(|place| place.write()));
                }
            }
            return keys;
        }
        for reference in references {
            index.entry(text(&reference["uid"]).to_owned()).or_default().insert(own.clone());
        }
        let waits = deleting(object) && (has_finalizer(object, FOREGROUND) || has_finalizer(object, ORPHAN));
        let dependent = !references.is_empty() && !deleting(object);
        if waits || dependent { vec![own] } else { Vec::new() }
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Status> {
        let Some(place) = Place::read(key) else { return Ok(Next::Done) };
        let Some(object) = self.get(&place).await? else { return Ok(Next::Done) };
        if deleting(&object) && has_finalizer(&object, ORPHAN) {
            self.orphan(&place, &object).await?;
        } else if deleting(&object) && has_finalizer(&object, FOREGROUND) {
            self.foreground(&place, &object).await?;
        } else {
            self.collect(&place, &object).await?;
        }
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_lives_as_long_as_one_owner_does() {
        use Owner::{Absent, Present, Waiting};
        for (owners, has_dependents, fate) in [
            (&[][..], false, Fate::Stay),
            (&[Present], false, Fate::Stay),
            (&[Present, Absent], false, Fate::Unlink),
            (&[Present, Waiting], true, Fate::Unlink),
            (&[Absent], true, Fate::Delete),
            (&[Waiting], false, Fate::Delete),
            (&[Absent, Waiting], true, Fate::DeleteForeground),
        ] {
            assert_eq!(decide(owners, has_dependents), fate, "{owners:?}");
        }
    }

    #[test]
    fn places_read_what_they_write() {
        for key in ["/pods/default/a", "apps/deployments/d/x", "/nodes//n"] {
            assert_eq!(Place::read(key).unwrap().write(), key);
        }
        assert_eq!(Place::read("a/b/c"), None);
    }
}
