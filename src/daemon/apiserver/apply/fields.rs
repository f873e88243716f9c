//! Sets of fields in the very form in which `fieldsV1` stores them, so that an entry which does not change is never
//! parsed. A key is a path element (`f:spec`, `k:{…}`, `v:…`); an empty object is a member; an object with inner
//! elements is a member too when it holds `.`.

use serde_json::{Map, Value};

pub(super) type Trie = Map<String, Value>;

const SELF: &str = ".";

/// A node from its parts; none when it would say nothing.
pub(super) fn node(member: bool, mut inner: Trie) -> Option<Value> {
    if inner.is_empty() {
        return member.then_some(Value::Object(inner));
    }
    if member {
        inner.insert(SELF.to_owned(), Value::Object(Map::new()));
    }
    Some(Value::Object(inner))
}

fn is_member(node: &Trie) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

fn inner(node: &Value) -> Option<&Trie> {
    node.as_object()
}

fn elements(trie: &Trie) -> impl Iterator<Item = (&String, &Trie)> {
    trie.iter().filter(|(name, _)| *name != SELF).filter_map(|(name, node)| Some((name, inner(node)?)))
}

fn has_elements(trie: &Trie) -> bool {
    elements(trie).next().is_some()
}

/// Adds the members of `more` to `set`.
pub(super) fn add(set: &mut Trie, more: &Trie) {
    for (name, theirs) in elements(more) {
        match set.get_mut(name) {
            Some(Value::Object(ours)) => {
                let member = is_member(ours) || is_member(theirs);
                add(ours, theirs);
                if member && has_elements(ours) {
                    ours.insert(SELF.to_owned(), Value::Object(Map::new()));
                }
            }
            _ => {
                set.insert(name.clone(), Value::Object(theirs.clone()));
            }
        }
    }
}

/// Takes the members of `gone` out of `set`.
pub(super) fn subtract(set: &mut Trie, gone: &Trie) {
    for (name, theirs) in elements(gone) {
        let Some(Value::Object(ours)) = set.get_mut(name) else { continue };
        let member = is_member(ours) && !is_member(theirs);
        ours.remove(SELF);
        subtract(ours, theirs);
        match (member, ours.is_empty()) {
            (false, true) => {
                set.remove(name);
            }
            (true, false) => {
                ours.insert(SELF.to_owned(), Value::Object(Map::new()));
            }
            _ => {}
        }
    }
}

/// The members of both.
pub(super) fn common(a: &Trie, b: &Trie) -> Trie {
    let shared = elements(a).filter_map(|(name, ours)| {
        let theirs = inner(b.get(name)?)?;
        Some((name.clone(), node(is_member(ours) && is_member(theirs), common(ours, theirs))?))
    });
    shared.collect()
}

/// The members of `last` that `managed` neither has nor has anything below of.
pub(super) fn abandoned(last: &Trie, managed: &Trie) -> Trie {
    let gone = elements(last).filter_map(|(name, ours)| {
        let left = match managed.get(name).and_then(inner) {
            None => node(is_member(ours), elements_of(ours)),
            Some(theirs) => node(false, abandoned(ours, theirs)),
        };
        Some((name.clone(), left?))
    });
    gone.collect()
}

fn elements_of(trie: &Trie) -> Trie {
    let mut inner = trie.clone();
    inner.remove(SELF);
    inner
}

/// Whether the node at `name` is itself a member.
pub(super) fn member_at(trie: &Trie, name: &str) -> bool {
    trie.get(name).and_then(inner).is_some_and(is_member)
}

/// The elements below `name`.
pub(super) fn below<'a>(trie: &'a Trie, name: &str) -> Option<&'a Trie> {
    trie.get(name).and_then(inner)
}

/// The members as people read them: `.spec.containers[name="a"].image`.
pub(super) fn paths(set: &Trie) -> Vec<String> {
    let mut found = Vec::new();
    collect(set, "", &mut found);
    found
}

fn collect(set: &Trie, prefix: &str, found: &mut Vec<String>) {
    for (name, node) in elements(set) {
        let path = format!("{prefix}{}", element(name));
        if is_member(node) {
            found.push(path.clone());
        }
        collect(node, &path, found);
    }
}

fn element(name: &str) -> String {
    match name.split_once(':') {
        Some(("f", field)) => format!(".{field}"),
        Some(("v", value)) => format!("[={value}]"),
        Some(("i", index)) => format!("[{index}]"),
        Some(("k", keys)) => {
            let keys: Trie = serde_json::from_str(keys).unwrap_or_default();
            let parts: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", parts.join(","))
        }
        _ => format!(".{name}"),
    }
}
