//! The two changes that an apply makes to an object: the configuration merged in, and abandoned fields taken out.

use super::facts::{Node, Relation};
use super::fields::{self, Trie};
use crate::model::Status;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Merges `config` into `live`.
pub(super) fn merge(node: Node<'_>, live: Value, config: &Value) -> Result<Value, Status> {
    match (node.relation(config), live, config) {
        (Relation::Fields, live, Value::Object(wanted)) => {
            let mut fields = match live {
                Value::Object(fields) => fields,
                _ => Map::new(),
            };
            for (name, value) in wanted {
                let old = fields.remove(name);
                if !value.is_null() {
                    fields
                        .insert(name.clone(), merge(node.field(name).0, old.unwrap_or(Value::Null), value)?);
                }
            }
            Ok(Value::Object(fields))
        }
        (Relation::Set, live, Value::Array(wanted)) => {
            merge_items(node, list_of(live), wanted, &|item| format!("v:{item}"))
        }
        (Relation::Keyed(keys), live, Value::Array(wanted)) => {
            merge_items(node, list_of(live), wanted, &|item| node.key_of(&keys, item))
        }
        _ => Ok(config.clone()),
    }
}

fn list_of(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// Wanted items stand in their own order; the live ones nobody asked for keep their place before the wanted item
/// that followed them.
fn merge_items(
    node: Node<'_>,
    live: Vec<Value>,
    wanted: &[Value],
    key: &dyn Fn(&Value) -> String,
) -> Result<Value, Status> {
    let wanted_keys: Vec<String> = wanted.iter().map(key).collect();
    let mut known = BTreeSet::new();
    for key in &wanted_keys {
        if !known.insert(key.as_str()) {
            let message = format!("duplicate entries for key {}", key.get(2..).unwrap_or_default());
            return Err(Status::failure(400, "BadRequest", message));
        }
    }
    let mut matching: BTreeMap<String, Value> = BTreeMap::new();
    // Extra items wait for the next wanted item of the live list, or for the end.
    let mut extra: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut waiting = Vec::new();
    for item in live {
        let id = key(&item);
        if known.contains(id.as_str()) {
            extra.entry(id.clone()).or_default().append(&mut waiting);
            matching.insert(id, item);
        } else {
            waiting.push(item);
        }
    }
    let mut merged = Vec::with_capacity(wanted.len() + waiting.len());
    for (item, id) in wanted.iter().zip(&wanted_keys) {
        merged.extend(extra.remove(id).unwrap_or_default());
        merged.push(merge(node.item(), matching.remove(id).unwrap_or(Value::Null), item)?);
    }
    merged.append(&mut waiting);
    Ok(Value::Array(merged))
}

/// Removes the members of `gone`; a container that this empties goes with them,
/// unless `managed` owns it as such.
pub(super) fn remove(node: Node<'_>, value: &mut Value, gone: &Trie, managed: Option<&Trie>) {
    if gone.is_empty() {
        return;
    }
    match (node.relation(value), value) {
        (Relation::Fields, Value::Object(fields)) => {
            fields.retain(|name, value| {
                keeps(node.field(name).0, value, (gone, managed), &format!("f:{name}"))
            });
        }
        (Relation::Set, Value::Array(items)) => {
            items.retain(|item| !fields::member_at(gone, &format!("v:{item}")));
        }
        (Relation::Keyed(keys), Value::Array(items)) => {
            items.retain_mut(|item| {
                let key = node.key_of(&keys, item);
                keeps(node.item(), item, (gone, managed), &key)
            });
        }
        _ => {}
    }
}

fn keeps(node: Node<'_>, value: &mut Value, (gone, managed): (&Trie, Option<&Trie>), element: &str) -> bool {
    if fields::member_at(gone, element) {
        return false;
    }
    let Some(below) = fields::below(gone, element) else { return true };
    remove(node, value, below, managed.and_then(|managed| fields::below(managed, element)));
    let owned = managed.is_some_and(|managed| fields::member_at(managed, element));
    match value {
        _ if owned => true,
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}
