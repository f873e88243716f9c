//! Server-side apply and field ownership as pure functions. The request path calls [`apply`] for apply patches and
//! [`update_managed_fields`] after every other write; both answer with objects and store nothing.
//!
//! `facts` how lists and maps of a kind merge · `fields` sets of fields in their stored form (fieldsV1) ·
//! `walk` from objects to sets: leaves and differences · `change` merging and removing · here: who owns what.

mod change;
mod facts;
mod fields;
mod walk;

pub use facts::Facts;

use crate::base::rfc3339;
use crate::model::Status;
use fields::Trie;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Entries of plain updates that are kept apart; the oldest beyond are summed up, as upstream does.
const MAX_UPDATE_ENTRIES: usize = 10;
const ANCIENT: &str = "ancient-changes";
/// As deep as serde_json reads.
const MAX_DEPTH: usize = 128;

/// Applies `config` for `manager`: merges it, removes what its last apply had and nobody else owns, and answers
/// 409 where another manager owns a field with a different value, unless `force`.
pub fn apply(
    facts: &Facts,
    live: Option<&Value>,
    config: &Value,
    manager: &str,
    force: bool,
    now: Timestamp,
) -> Result<Value, Status> {
    check_config(config, manager)?;
    let root = facts.root();
    let owned = walk::leaves_of(root, config);
    let empty = json!({});
    let before = live.unwrap_or(&empty);
    let mut entries = entries_of(before);
    let mut mine = take_own_entry(&mut entries, manager);
    let last = mine.as_ref().map(|entry| fields_of(entry).clone()).unwrap_or_default();

    let mut after = change::merge(root, before.clone(), config)?;
    let mut managed = owned.clone();
    for entry in &entries {
        fields::add(&mut managed, fields_of(entry));
    }
    change::remove(root, &mut after, &fields::abandoned(&last, &managed), Some(&managed));

    let difference = walk::difference(root, before, &after);
    let conflicts = conflicts_of(&entries, &difference.changed);
    if !conflicts.is_empty() && !force {
        return Err(conflict_status(&conflicts));
    }
    let nothing_changed = difference.is_empty() && last == owned && live.is_some();
    if nothing_changed {
        return Ok(before.clone());
    }
    for entry in &mut entries {
        take_away(entry, &difference.changed);
        take_away(entry, &difference.removed);
    }
    let entry = mine.get_or_insert_with(|| new_entry(manager, "Apply", None));
    set(entry, "apiVersion", config.get("apiVersion").cloned().unwrap_or_default());
    set(entry, "time", Value::String(rfc3339(now)));
    set(entry, "fieldsV1", Value::Object(owned));
    entries.extend(mine);
    store_entries(&mut after, entries);
    Ok(after)
}

/// Makes `manager` the owner of the fields that differ between `old` and `new`, and forgets the removed ones.
#[expect(clippy::too_many_arguments, reason = "one write, told once")]
pub fn update_managed_fields(
    facts: &Facts,
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
    operation: &str,
    subresource: Option<&str>,
    now: Timestamp,
) {
    let sent = new.get_mut("metadata").and_then(Value::as_object_mut).and_then(|m| m.remove("managedFields"));
    let reset = sent.is_some_and(|sent| sent.as_array().is_some_and(|list| *list == [json!({})]));
    let empty = json!({});
    let before = old.unwrap_or(&empty);
    let mut entries = if reset { Vec::new() } else { entries_of(before) };
    let difference = walk::difference(facts.root(), before, new);
    if difference.is_empty() {
        return store_entries(new, entries);
    }
    let api_version = new.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_mine = |entry: &Value| {
        text(entry, "manager") == manager
            && text(entry, "operation") == operation
            && text(entry, "apiVersion") == api_version
            && text(entry, "subresource") == subresource.unwrap_or_default()
    };
    for entry in &mut entries {
        if !is_mine(entry) {
            take_away(entry, &difference.changed);
        }
        take_away(entry, &difference.removed);
    }
    if !difference.changed.is_empty() {
        let at = entries.iter().position(is_mine).unwrap_or_else(|| {
            let mut entry = new_entry(manager, operation, subresource);
            set(&mut entry, "apiVersion", Value::String(api_version.clone()));
            entries.push(entry);
            entries.len() - 1
        });
        if let Some(entry) = entries.get_mut(at) {
            set(entry, "time", Value::String(rfc3339(now)));
            if let Some(Value::Object(owned)) = entry.get_mut("fieldsV1") {
                fields::add(owned, &difference.changed);
            }
        }
    }
    store_entries(new, entries);
}

fn check_config(config: &Value, manager: &str) -> Result<(), Status> {
    let bad = |message: &str| Err(Status::failure(400, "BadRequest", message));
    if !config.is_object() {
        return bad("the applied configuration must be an object");
    }
    if manager.is_empty() {
        return bad(
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        );
    }
    if config.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
        return bad("metadata.managedFields must be nil");
    }
    if !is_shallow(config, MAX_DEPTH) {
        return bad("the applied configuration is nested too deeply");
    }
    Ok(())
}

fn is_shallow(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| is_shallow(item, levels - 1)),
        Value::Object(fields) => levels > 0 && fields.values().all(|value| is_shallow(value, levels - 1)),
        _ => true,
    }
}

// === entries of managedFields ===

fn entries_of(object: &Value) -> Vec<Value> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().filter(|entry| entry["fieldsV1"].is_object()).cloned().collect()
}

fn fields_of(entry: &Value) -> &Trie {
    static NONE: LazyLock<Trie> = LazyLock::new(Map::new);
    entry.get("fieldsV1").and_then(Value::as_object).unwrap_or(&NONE)
}

fn text<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn set(entry: &mut Value, name: &str, value: Value) {
    if let Some(fields) = entry.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}

fn new_entry(manager: &str, operation: &str, subresource: Option<&str>) -> Value {
    let mut entry =
        json!({"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": {}});
    if let Some(subresource) = subresource {
        set(&mut entry, "subresource", json!(subresource));
    }
    entry
}

/// An apply entry is one manager's whatever version it spoke last.
fn take_own_entry(entries: &mut Vec<Value>, manager: &str) -> Option<Value> {
    let is_mine = |entry: &Value| {
        text(entry, "manager") == manager
            && text(entry, "operation") == "Apply"
            && text(entry, "subresource").is_empty()
    };
    entries.iter().position(is_mine).map(|at| entries.remove(at))
}

fn take_away(entry: &mut Value, gone: &Trie) {
    if let Some(Value::Object(owned)) = entry.get_mut("fieldsV1") {
        fields::subtract(owned, gone);
    }
}

fn store_entries(object: &mut Value, mut entries: Vec<Value>) {
    entries.retain(|entry| !fields_of(entry).is_empty());
    entries.sort_by(|a, b| order(a).cmp(&order(b)));
    sum_up_oldest(&mut entries);
    let Some(fields) = object.as_object_mut() else { return };
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else { return };
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), Value::Array(entries));
    }
}

fn order(entry: &Value) -> (&str, &str, &str, &str, &str) {
    (
        text(entry, "operation"),
        text(entry, "time"),
        text(entry, "manager"),
        text(entry, "apiVersion"),
        text(entry, "subresource"),
    )
}

fn sum_up_oldest(entries: &mut Vec<Value>) {
    let is_update = |entry: &Value| text(entry, "operation") == "Update";
    while entries.iter().filter(|entry| is_update(entry)).count() > MAX_UPDATE_ENTRIES {
        let Some(at) = entries.iter().position(is_update) else { return };
        let oldest = entries.remove(at);
        let Some(next) = entries.get_mut(at) else { return };
        let api_version = text(next, "apiVersion").to_owned();
        if let Some(Value::Object(owned)) = next.get_mut("fieldsV1") {
            fields::add(owned, fields_of(&oldest));
        }
        set(next, "manager", json!(ANCIENT));
        set(next, "apiVersion", Value::String(api_version));
        if let Some(fields) = next.as_object_mut() {
            fields.remove("subresource");
        }
    }
}

// === conflicts ===

struct Conflict {
    owner: String,
    path: String,
}

fn conflicts_of(entries: &[Value], changed: &Trie) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    for entry in entries {
        let mut owner = format!("{:?}", text(entry, "manager"));
        if !text(entry, "subresource").is_empty() {
            owner += &format!(" with subresource {:?}", text(entry, "subresource"));
        }
        if text(entry, "operation") == "Update" {
            owner += &format!(" using {}", text(entry, "apiVersion"));
        }
        let shared = fields::common(fields_of(entry), changed);
        conflicts
            .extend(fields::paths(&shared).into_iter().map(|path| Conflict { owner: owner.clone(), path }));
    }
    conflicts
}

fn conflict_status(conflicts: &[Conflict]) -> Status {
    let message = match conflicts {
        [one] => format!("Apply failed with 1 conflict: conflict with {}: {}", one.owner, one.path),
        many => {
            let mut lines = Vec::new();
            let mut owner = "";
            for conflict in many {
                if conflict.owner != owner {
                    owner = &conflict.owner;
                    lines.push(format!("conflicts with {owner}:"));
                }
                lines.push(format!("- {}", conflict.path));
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|conflict| {
            let message = format!("conflict with {}", conflict.owner);
            json!({"reason": "FieldManagerConflict", "message": message, "field": conflict.path})
        })
        .collect();
    let mut status = Status::failure(409, "Conflict", message);
    status.details = Some(json!({"causes": causes}));
    status
}

#[cfg(test)]
mod tests;
