//! From objects to sets of fields: all leaves of one object, and the differences of two. Equal parts are compared
//! once and not descended into, since most writes change a few fields of a large object.

use super::facts::{Node, Relation};
use super::fields::{self, Trie};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What a write changed.
pub(super) struct Difference {
    /// Added or modified.
    pub(super) changed: Trie,
    pub(super) removed: Trie,
}

impl Difference {
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

/// The fields that `object` sets.
pub(super) fn leaves_of(root: Node<'_>, object: &Value) -> Trie {
    leaves(root, object).1
}

/// The differences of two objects.
pub(super) fn difference(root: Node<'_>, old: &Value, new: &Value) -> Difference {
    let mut difference = Difference { changed: Map::new(), removed: Map::new() };
    compare(root, old, new, &mut difference.changed, &mut difference.removed);
    difference
}

/// Whether the value is a member itself, and the elements below it.
fn leaves(node: Node<'_>, value: &Value) -> (bool, Trie) {
    let mut inner = Map::new();
    match (node.relation(value), value) {
        (Relation::Fields, Value::Object(fields)) => {
            for (name, value) in fields.iter().filter(|(name, _)| !node.skips(name)) {
                put_field(node, name, value, &mut inner);
            }
        }
        (Relation::Set, Value::Array(items)) => {
            for item in items {
                inner.insert(format!("v:{item}"), Value::Object(Map::new()));
            }
        }
        (Relation::Keyed(keys), Value::Array(items)) => {
            for item in items {
                put_item(node, node.key_of(&keys, item), item, &mut inner);
            }
        }
        _ => return (true, inner),
    }
    (false, inner)
}

fn put_field(parent: Node<'_>, name: &str, value: &Value, into: &mut Trie) {
    let (node, declared) = parent.field(name);
    let (member, inner) = leaves(node, value);
    let is_empty_map = value.as_object().is_some_and(Map::is_empty);
    // Entries of maps are owned as such; of declared fields only the leaves are.
    if let Some(node) = fields::node(member || is_empty_map || !declared, inner) {
        into.insert(format!("f:{name}"), node);
    }
}

fn put_item(list: Node<'_>, key: String, item: &Value, into: &mut Trie) {
    if let Some(node) = fields::node(true, leaves(list.item(), item).1) {
        into.insert(key, node);
    }
}

fn compare(node: Node<'_>, old: &Value, new: &Value, changed: &mut Trie, removed: &mut Trie) {
    match (node.relation(new), old, new) {
        (Relation::Fields, Value::Object(before), Value::Object(after)) => {
            for (name, value) in after.iter().filter(|(name, _)| !node.skips(name)) {
                match before.get(name) {
                    None => put_field(node, name, value, changed),
                    Some(old) if old == value => {}
                    Some(old) => compare_field(node, name, (old, value), changed, removed),
                }
            }
            for (name, value) in before.iter().filter(|(name, _)| !node.skips(name)) {
                if !after.contains_key(name) {
                    put_field(node, name, value, removed);
                }
            }
        }
        (Relation::Set, Value::Array(before), Value::Array(after)) => {
            let missing = |item: &Value, from: &[Value]| !from.contains(item);
            for item in after.iter().filter(|item| missing(item, before)) {
                changed.insert(format!("v:{item}"), Value::Object(Map::new()));
            }
            for item in before.iter().filter(|item| missing(item, after)) {
                removed.insert(format!("v:{item}"), Value::Object(Map::new()));
            }
        }
        (Relation::Keyed(keys), Value::Array(before), Value::Array(after)) => {
            let mut old: BTreeMap<String, &Value> =
                before.iter().map(|item| (node.key_of(&keys, item), item)).collect();
            for item in after {
                let key = node.key_of(&keys, item);
                match old.remove(&key) {
                    None => put_item(node, key, item, changed),
                    Some(old) if old == item => {}
                    Some(old) => descend(node.item(), key, (old, item), changed, removed),
                }
            }
            for (key, item) in old {
                put_item(node, key, item, removed);
            }
        }
        _ => {}
    }
}

fn compare_field(
    parent: Node<'_>,
    name: &str,
    pair: (&Value, &Value),
    changed: &mut Trie,
    removed: &mut Trie,
) {
    let (node, _) = parent.field(name);
    let (old, new) = pair;
    let relation = node.relation(new);
    if relation == Relation::Whole || relation != node.relation(old) {
        put_field(parent, name, new, changed);
        if relation != Relation::Whole || node.relation(old) != Relation::Whole {
            put_field(parent, name, old, removed);
            fields::subtract(removed, changed);
        }
        return;
    }
    descend(node, format!("f:{name}"), pair, changed, removed);
}

fn descend(node: Node<'_>, element: String, pair: (&Value, &Value), changed: &mut Trie, removed: &mut Trie) {
    let (mut inner_changed, mut inner_removed) = (Map::new(), Map::new());
    compare(node, pair.0, pair.1, &mut inner_changed, &mut inner_removed);
    if let Some(node) = fields::node(false, inner_changed) {
        changed.insert(element.clone(), node);
    }
    if let Some(node) = fields::node(false, inner_removed) {
        removed.insert(element, node);
    }
}
