//! The pods of all nodes in a few words each: uid, revision, node, references. Pure; `pods` feeds it, `configs`, `answers`
//! and the stream server read it.

use super::super::kubernetes::{meta, revision};
use super::references;
use crate::model::digest::ContentHash;
use crate::model::{Kind, NodeName, ObjectKey, Revision};
use crate::wire::Verb;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

#[derive(Clone, Debug)]
struct Entry {
    uid: String,
    /// The revision at the last change of metadata or spec.
    revision: Revision,
    content: ContentHash,
    node: Option<NodeName>,
    references: BTreeSet<ObjectKey>,
    claims: BTreeSet<ObjectKey>,
    account: Option<String>,
    seen: bool,
}

/// A pod that has ended on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodEnd {
    pub key: ObjectKey,
    pub uid: String,
    pub node: NodeName,
}

/// What nodes have to be told of a pod: first that its predecessor of the same name has ended, then how it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PodChange {
    pub ended: Option<PodEnd>,
    pub now: Option<(NodeName, Verb)>,
}

/// A pod of a node as it is owed to the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodFact {
    pub uid: String,
    pub revision: Revision,
    pub content: ContentHash,
}

/// All pods by namespace and name.
#[derive(Default)]
pub(in crate::daemon::cloud) struct PodIndex {
    pods: HashMap<ObjectKey, Entry>,
    by_node: HashMap<NodeName, BTreeSet<ObjectKey>>,
    /// How many pods of a node refer to an object.
    subscribers: HashMap<ObjectKey, HashMap<NodeName, usize>>,
}

pub(super) fn key(pod: &Value) -> ObjectKey {
    ObjectKey::namespaced(Kind::Pod, meta(pod, "namespace"), meta(pod, "name"))
}

impl PodIndex {
    /// Takes a pod as it is now; says what nodes have to be told.
    pub(super) fn apply(&mut self, pod: &Value) -> PodChange {
        let key = key(pod);
        let node = pod.pointer("/spec/nodeName").and_then(Value::as_str).and_then(|n| NodeName::new(n).ok());
        let entry = Entry {
            uid: meta(pod, "uid").to_owned(),
            revision: revision(pod),
            content: ContentHash::of(pod),
            references: if node.is_some() { references::of_pod(pod) } else { BTreeSet::new() },
            claims: if node.is_some() { references::claims_of_pod(pod) } else { BTreeSet::new() },
            account: references::account_of_pod(pod).map(str::to_owned),
            node,
            seen: true,
        };
        let before = self.pods.get_mut(&key);
        let same = |old: &Entry| old.uid == entry.uid && old.node == entry.node;
        let known = before.as_ref().is_some_and(|old| same(old) && old.node.is_some());
        if let Some(old) = before
            && same(old)
            && old.content == entry.content
        {
            old.seen = true;
            return PodChange::default();
        }
        // The deletion of a predecessor can fall between a watch that broke and the list that follows it.
        let mut ended = None;
        if let Some(old) = self.pods.remove(&key) {
            self.unsubscribe(&key, &old);
            if !same(&old) {
                ended = old.node.map(|node| PodEnd { key: key.clone(), uid: old.uid, node });
            }
        }
        let ending = pod.pointer("/metadata/deletionTimestamp").is_some();
        let verb = if known || ending { Verb::Update } else { Verb::Insert };
        let change = PodChange { ended, now: entry.node.clone().map(|node| (node, verb)) };
        if let Some(node) = &entry.node {
            self.by_node.entry(node.clone()).or_default().insert(key.clone());
            for reference in &entry.references {
                *self.subscribers.entry(reference.clone()).or_default().entry(node.clone()).or_default() += 1;
            }
        }
        self.pods.insert(key, entry);
        change
    }

    /// The pod is gone; says on which node it was.
    pub(super) fn remove(&mut self, key: &ObjectKey, uid: &str) -> Option<NodeName> {
        if self.pods.get(key)?.uid != uid {
            return None;
        }
        let entry = self.pods.remove(key)?;
        self.unsubscribe(key, &entry);
        entry.node
    }

    fn unsubscribe(&mut self, key: &ObjectKey, entry: &Entry) {
        let Some(node) = &entry.node else { return };
        if let Some(owned) = self.by_node.get_mut(node) {
            owned.remove(key);
            if owned.is_empty() {
                self.by_node.remove(node);
            }
        }
        for reference in &entry.references {
            let Some(nodes) = self.subscribers.get_mut(reference) else { continue };
            if let Some(count) = nodes.get_mut(node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(node);
                }
            }
            if nodes.is_empty() {
                self.subscribers.remove(reference);
            }
        }
    }

    /// A list begins.
    pub(super) fn begin_list(&mut self) {
        for entry in self.pods.values_mut() {
            entry.seen = false;
        }
    }

    /// The list has ended: what was not in it is gone.
    pub(super) fn end_list(&mut self) -> Vec<(ObjectKey, String, Option<NodeName>)> {
        let gone: Vec<(ObjectKey, String)> =
            self.pods.iter().filter(|(_, e)| !e.seen).map(|(k, e)| (k.clone(), e.uid.clone())).collect();
        gone.into_iter()
            .map(|(key, uid)| {
                let node = self.remove(&key, &uid);
                (key, uid, node)
            })
            .collect()
    }

    /// The node on which a pod runs.
    pub(in crate::daemon::cloud) fn node_of(&self, namespace: &str, name: &str) -> Option<NodeName> {
        self.pods.get(&ObjectKey::namespaced(Kind::Pod, namespace, name))?.node.clone()
    }

    /// The pod, if it still has this uid and node.
    pub(super) fn is_current(&self, key: &ObjectKey, uid: &str, node: &NodeName) -> bool {
        self.pods.get(key).is_some_and(|entry| entry.uid == uid && entry.node.as_ref() == Some(node))
    }

    /// Pods of a node.
    pub(super) fn of_node(&self, node: &NodeName) -> HashMap<ObjectKey, PodFact> {
        let fact = |e: &Entry| PodFact { uid: e.uid.clone(), revision: e.revision, content: e.content };
        self.owned(node).map(|(key, entry)| (key.clone(), fact(entry))).collect()
    }

    fn owned(&self, node: &NodeName) -> impl Iterator<Item = (&ObjectKey, &Entry)> {
        self.by_node.get(node).into_iter().flatten().filter_map(|key| Some((key, self.pods.get(key)?)))
    }

    /// Nodes with a pod that refers to this ConfigMap or Secret.
    pub(super) fn subscribers(&self, key: &ObjectKey) -> Vec<NodeName> {
        self.subscribers.get(key).into_iter().flatten().map(|(node, _)| node.clone()).collect()
    }

    /// Whether a pod of this node refers to this ConfigMap, Secret or PersistentVolumeClaim.
    pub(super) fn refers(&self, node: &NodeName, key: &ObjectKey) -> bool {
        self.subscribers.get(key).is_some_and(|nodes| nodes.contains_key(node))
            || (key.kind == Kind::PersistentVolumeClaim
                && self.owned(node).any(|(_, entry)| entry.claims.contains(key)))
    }

    /// The PersistentVolumeClaims of the pods of this node.
    pub(super) fn claims_of(&self, node: &NodeName) -> BTreeSet<ObjectKey> {
        self.owned(node).flat_map(|(_, entry)| entry.claims.iter().cloned()).collect()
    }

    /// Whether a pod of this node has a PersistentVolumeClaim.
    pub(super) fn has_claims(&self, node: &NodeName) -> bool {
        self.owned(node).any(|(_, entry)| !entry.claims.is_empty())
    }

    /// Whether this pod is on the node, has this uid and runs as this service account.
    pub(super) fn runs_as(&self, node: &NodeName, pod: &ObjectKey, uid: &str, account: &str) -> bool {
        self.is_current(pod, uid, node)
            && self.pods.get(pod).is_some_and(|entry| entry.account.as_deref() == Some(account))
    }

    /// ConfigMaps and Secrets that pods of this node refer to.
    pub(super) fn references_of(&self, node: &NodeName) -> BTreeSet<ObjectKey> {
        self.owned(node).flat_map(|(_, entry)| entry.references.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(revision: &str, node: &str, status: &str) -> Value {
        json!({"metadata": {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": revision},
            "spec": {"nodeName": node, "volumes": [{"configMap": {"name": "c"}}]}, "status": {"phase": status}})
    }

    fn node() -> NodeName {
        NodeName::new("n1").unwrap()
    }

    #[test]
    fn status_changes_are_not_told() {
        let mut index = PodIndex::default();
        let told = |verb| PodChange { ended: None, now: Some((node(), verb)) };
        assert_eq!(index.apply(&pod("1", "n1", "Pending")), told(Verb::Insert));
        assert_eq!(index.apply(&pod("2", "n1", "Running")), PodChange::default());
        let mut ending = pod("3", "n1", "Running");
        ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(index.apply(&ending), told(Verb::Update));
    }

    #[test]
    fn a_pod_becomes_known_to_its_node_when_it_is_bound() {
        let mut index = PodIndex::default();
        let mut unbound = pod("1", "", "Pending");
        unbound["spec"].as_object_mut().unwrap().remove("nodeName");
        assert_eq!(index.apply(&unbound), PodChange::default());
        assert_eq!(index.apply(&pod("2", "n1", "Pending")).now.unwrap().1, Verb::Insert);
    }

    #[test]
    fn references_follow_the_pods() {
        let mut index = PodIndex::default();
        drop(index.apply(&pod("1", "n1", "")));
        let config = ObjectKey::namespaced(Kind::ConfigMap, "d", "c");
        assert_eq!(index.subscribers(&config), [node()]);
        assert_eq!(index.remove(&key(&pod("1", "n1", "")), "u"), Some(node()));
        assert!(index.subscribers(&config).is_empty());
    }

    #[test]
    fn a_pod_of_the_same_name_elsewhere_ends_its_predecessor() {
        let mut index = PodIndex::default();
        drop(index.apply(&pod("1", "n1", "")));
        index.begin_list();
        let mut successor = pod("9", "n2", "");
        successor["metadata"]["uid"] = json!("u2");
        let other = NodeName::new("n2").unwrap();
        let ended = PodEnd { key: key(&successor), uid: "u".to_owned(), node: node() };
        let change = PodChange { ended: Some(ended), now: Some((other.clone(), Verb::Insert)) };
        assert_eq!(index.apply(&successor), change);
        assert!(index.end_list().is_empty());
        assert!(index.of_node(&node()).is_empty());
        assert_eq!(
            index.subscribers(&ObjectKey::namespaced(Kind::ConfigMap, "d", "c")),
            std::slice::from_ref(&other)
        );
        // Recreated on the same node, and waiting for a node.
        successor["metadata"]["uid"] = json!("u3");
        let change = index.apply(&successor);
        assert_eq!((change.ended.unwrap().uid.as_str(), change.now.unwrap()), ("u2", (other, Verb::Insert)));
        successor["metadata"]["uid"] = json!("u4");
        successor["spec"].as_object_mut().unwrap().remove("nodeName");
        let change = index.apply(&successor);
        assert_eq!((change.ended.unwrap().uid.as_str(), change.now), ("u3", None));
    }

    #[test]
    fn a_node_has_rights_by_its_pods_only() {
        let mut index = PodIndex::default();
        let mut bound = pod("1", "n1", "");
        bound["spec"]["serviceAccountName"] = json!("sa");
        bound["spec"]["volumes"] = json!([{"persistentVolumeClaim": {"claimName": "c"}},
            {"secret": {"secretName": "s"}}]);
        drop(index.apply(&bound));
        let (other, at) = (NodeName::new("n2").unwrap(), key(&bound));
        for (kind, name) in [(Kind::Secret, "s"), (Kind::PersistentVolumeClaim, "c")] {
            let object = ObjectKey::namespaced(kind, "d", name);
            assert!(index.refers(&node(), &object) && !index.refers(&other, &object));
            assert!(!index.refers(&node(), &ObjectKey::namespaced(kind, "e", name)));
        }
        assert!(index.runs_as(&node(), &at, "u", "sa"));
        for (who, uid, account) in [(&other, "u", "sa"), (&node(), "v", "sa"), (&node(), "u", "default")] {
            assert!(!index.runs_as(who, &at, uid, account));
        }
    }

    #[test]
    fn what_a_new_list_does_not_hold_is_gone() {
        let mut index = PodIndex::default();
        drop(index.apply(&pod("1", "n1", "")));
        index.begin_list();
        let gone = index.end_list();
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].2, Some(node()));
        assert!(index.of_node(&node()).is_empty());
    }
}
