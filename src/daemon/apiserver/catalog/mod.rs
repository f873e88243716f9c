//! Which resources the API serves: the built-in ones and those that CustomResourceDefinitions add.
//! `rest` resolves paths here, `local` and the controllers read the facts. It holds no objects.

mod builtin;
mod custom;

pub use custom::problems;

use super::local::{Collection, CollectionFacts};
use super::schema::Schema;
use super::storage::{Event, Observer, Store, Verb};
use serde_json::Value;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// Where the scale subresource finds its numbers, as dotted paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    pub spec: String,
    pub status: String,
    pub selector: Option<String>,
}

/// One version of a resource.
pub struct Version {
    pub name: String,
    pub served: bool,
    pub status: bool,
    pub scale: Option<Scale>,
    pub schema: Option<Arc<Schema>>,
    /// `additionalPrinterColumns` of a custom resource.
    pub columns: Option<Vec<Value>>,
    pub deprecated: Option<String>,
}

/// A resource of the API.
pub struct Resource {
    pub group: String,
    pub plural: String,
    pub singular: String,
    pub kind: String,
    pub list_kind: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    /// In order of preference.
    pub versions: Vec<Version>,
    /// Version in which objects are kept.
    pub storage: String,
    /// Where objects are kept; differs from group and plural for `events.k8s.io`.
    pub collection: Collection,
    pub custom: bool,
    /// `metadata.generation` counts changes of the spec.
    pub generation: bool,
    /// A question with an answer, such as a TokenReview; never stored.
    pub review: bool,
    /// More subresources, such as `log`.
    pub extra: &'static [&'static str],
}

impl Resource {
    /// `pods` or `deployments.apps`.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    pub fn stored(&self) -> Option<&Version> {
        self.version(&self.storage)
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    pub fn facts(&self) -> CollectionFacts {
        CollectionFacts {
            collection: self.collection.clone(),
            api_version: self.api_version(&self.storage),
            kind: self.kind.clone(),
            namespaced: self.namespaced,
        }
    }

    fn keeps_its_own_objects(&self) -> bool {
        !self.review && self.collection.group == self.group && self.collection.plural == self.plural
    }
}

/// All resources at one moment.
pub type Catalog = Vec<Arc<Resource>>;

/// The present catalogue; changes when CustomResourceDefinitions do.
pub struct Kinds {
    catalog: RwLock<Arc<Catalog>>,
    changed: watch::Sender<u64>,
}

const DEFINITIONS: Collection = Collection::of("apiextensions.k8s.io", "customresourcedefinitions");

impl Default for Kinds {
    fn default() -> Self {
        Kinds { catalog: RwLock::new(Arc::new(builtin::all())), changed: watch::channel(0).0 }
    }
}

impl Kinds {
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the store calls after each commit: definitions become resources before anybody hears of them.
    pub fn observer(self: &Arc<Self>) -> Observer {
        let kinds = self.clone();
        Box::new(move |changes| {
            for (_, event) in changes.iter().filter(|(collection, _)| *collection == DEFINITIONS) {
                kinds.redefine(event);
            }
        })
    }

    /// Takes over the definitions that the store holds at the start.
    pub fn follow(&self, store: &Store) {
        self.set_custom(&store.list(&DEFINITIONS, None).0);
    }

    fn redefine(&self, event: &Event) {
        let unchanged = event.verb == Verb::Modified
            && event.previous.as_ref().is_some_and(|before| before["spec"] == event.object["spec"]);
        if unchanged {
            return;
        }
        let text = |pointer| event.object.pointer(pointer).and_then(Value::as_str).unwrap_or("");
        let (group, plural) = (text("/spec/group"), text("/spec/names/plural"));
        let current = self.catalog();
        let others = current.iter().filter(|r| !(r.custom && r.group == group && r.plural == plural));
        let mut catalog: Catalog = others.cloned().collect();
        if event.verb != Verb::Deleted {
            match custom::resource(&event.object) {
                Ok(resource) => catalog.push(Arc::new(resource)),
                Err(error) => tracing::warn!(group, plural, error, "a custom resource cannot be served"),
            }
        }
        self.replace(catalog);
    }

    fn replace(&self, catalog: Catalog) {
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
        self.changed.send_modify(|count| *count += 1);
    }

    fn set_custom(&self, definitions: &[Arc<Value>]) {
        let current = self.catalog();
        let mut catalog: Catalog = current.iter().filter(|r| !r.custom).cloned().collect();
        for definition in definitions {
            match custom::resource(definition) {
                Ok(resource) => catalog.push(Arc::new(resource)),
                Err(error) => {
                    let name = definition["metadata"]["name"].as_str().unwrap_or("");
                    tracing::warn!(name, error, "a custom resource definition cannot be served");
                }
            }
        }
        self.replace(catalog);
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let served = |r: &&Arc<Resource>| {
            r.group == group && r.plural == plural && r.version(version).is_some_and(|v| v.served)
        };
        self.catalog().iter().find(served).cloned()
    }

    /// The resource that keeps its objects in this collection.
    pub fn of(&self, collection: &Collection) -> Option<Arc<Resource>> {
        self.catalog().iter().find(|r| r.keeps_its_own_objects() && r.collection == *collection).cloned()
    }

    pub fn facts(&self) -> Vec<CollectionFacts> {
        self.catalog().iter().filter(|r| r.keeps_its_own_objects()).map(|r| r.facts()).collect()
    }
}

/// Orders API versions as upstream does: v2 before v1 before v1beta2 before v1alpha1 before anything else.
pub fn version_rank(name: &str) -> (u8, u32, u32) {
    let parse = || {
        let rest = name.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (major, tail) = rest.split_at(digits);
        let major: u32 = major.parse().ok()?;
        if tail.is_empty() {
            return Some((3, major, 0));
        }
        if let Some(minor) = tail.strip_prefix("beta") {
            return Some((2, major, minor.parse().ok()?));
        }
        Some((1, major, tail.strip_prefix("alpha")?.parse().ok()?))
    };
    parse().unwrap_or((0, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ranked_as_upstream_does() {
        let mut versions = vec!["v1alpha1", "v1", "foo", "v2beta1", "v2", "v1beta2"];
        versions.sort_by_key(|name| std::cmp::Reverse(version_rank(name)));
        assert_eq!(versions, ["v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "foo"]);
    }

    #[test]
    fn built_in_resources_are_found_by_path() {
        let kinds = Kinds::default();
        assert_eq!(kinds.find("apps", "v1", "deployments").unwrap().kind, "Deployment");
        assert!(kinds.find("", "v1", "pods").unwrap().extra.contains(&"log"));
        let events = kinds.find("events.k8s.io", "v1", "events").unwrap();
        assert_eq!(kinds.of(&events.collection).unwrap().group, "");
        assert!(kinds.find("apps", "v2", "deployments").is_none());
    }
}
