//! Strategic merge patch: lists of built-in kinds merge by their key, and directives (`$patch`, `$retainKeys`,
//! `$setElementOrder/…`, `$deleteFromPrimitiveList/…`) say what plain merging cannot. Order of the results follows
//! apimachinery's, because clients compare what they get with what they computed.

use super::super::types::{Shape, Spec, Type};
use crate::model::Status;
use serde_json::{Map, Value};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_ITEMS: &str = "$deleteFromPrimitiveList/";
const MAX_DEPTH: usize = 128;

type Fields = Map<String, Value>;

/// What is known of the value at a place of the object.
#[derive(Clone, Copy)]
enum Known {
    Struct(Type),
    Spec(Spec),
    Nothing,
}

impl Known {
    fn field(self, name: &str) -> Known {
        let inside = match self {
            Known::Struct(of) => return of.field(name).map_or(Known::Nothing, Known::Spec),
            Known::Spec(spec) => spec.shape(),
            Known::Nothing => return Known::Nothing,
        };
        match inside {
            Shape::Struct(of) => of.field(name).map_or(Known::Nothing, Known::Spec),
            Shape::Map(value) => Known::Spec(value),
            Shape::List(_) | Shape::Scalar(_) | Shape::Any => Known::Nothing,
        }
    }

    fn item(self) -> Known {
        match self {
            Known::Spec(spec) => match spec.shape() {
                Shape::List(item) => Known::Spec(item),
                _ => Known::Nothing,
            },
            Known::Struct(_) | Known::Nothing => Known::Nothing,
        }
    }

    fn merge_key(self) -> Option<&'static str> {
        match self {
            Known::Spec(spec) => spec.patch_merge_key(),
            Known::Struct(_) | Known::Nothing => None,
        }
    }

    fn replaces(self) -> bool {
        matches!(self, Known::Spec(spec) if spec.patch_replaces())
    }
}

/// Applies a strategic merge patch to an object of a built-in kind; other kinds are answered 415, as upstream does
/// for custom resources.
pub fn strategic(group: &str, kind: &str, target: Value, patch: &Value) -> Result<Value, Status> {
    let Some(of) = Type::of_kind(group, None, kind) else {
        let message = "the body of the request was in an unknown format - accepted media types include: \
                       application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
        return Err(Status::failure(415, "UnsupportedMediaType", message));
    };
    let (Value::Object(target), Value::Object(patch)) = (target, patch) else {
        return Err(invalid("a strategic merge patch must be an object"));
    };
    merge_fields(target, patch.clone(), Known::Struct(of), 0).map(Value::Object)
}

fn invalid(message: impl Into<String>) -> Status {
    Status::failure(400, "BadRequest", message)
}

fn merge_fields(mut target: Fields, mut patch: Fields, known: Known, depth: usize) -> Result<Fields, Status> {
    if depth > MAX_DEPTH {
        return Err(invalid("the patch is nested too deeply"));
    }
    match patch.remove(DIRECTIVE).as_ref().map(|directive| directive.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => return Ok(patch),
        Some("delete") => return Ok(Fields::new()),
        Some(other) => return Err(invalid(format!("unknown patch type found: {other}"))),
    }
    if let Some(retained) = patch.remove(RETAIN_KEYS) {
        retain_keys(&mut target, &patch, &retained)?;
    }
    apply_orders(&mut target, &mut patch, known, depth)?;
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix(DELETE_ITEMS) {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (target.get_mut(list), &value) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if value.is_null() {
            target.remove(&name);
            continue;
        }
        let inside = known.field(&name);
        let old = target.get_mut(&name).map(Value::take);
        target.insert(name, merge_value(old, value, inside, depth + 1)?);
    }
    Ok(target)
}

fn merge_value(old: Option<Value>, patch: Value, known: Known, depth: usize) -> Result<Value, Status> {
    match (old, patch) {
        (Some(Value::Object(old)), Value::Object(patch)) if !known.replaces() => {
            merge_fields(old, patch, known, depth).map(Value::Object)
        }
        (_, Value::Object(patch)) => merge_fields(Fields::new(), patch, known, depth).map(Value::Object),
        (old, Value::Array(patch)) => {
            let old = match old {
                Some(Value::Array(old)) => old,
                _ => Vec::new(),
            };
            merge_list(old, patch, known, depth).map(Value::Array)
        }
        (_, scalar) => Ok(scalar),
    }
}

fn retain_keys(target: &mut Fields, patch: &Fields, retained: &Value) -> Result<(), Status> {
    let Some(retained) = retained.as_array() else { return Err(invalid("$retainKeys must be a list")) };
    let retains = |name: &str| retained.iter().any(|r| r.as_str() == Some(name));
    let is_set = |(name, value): &(&String, &Value)| !name.starts_with('$') && !value.is_null();
    if patch.iter().filter(is_set).any(|(name, _)| !retains(name)) {
        return Err(invalid("the retainKeys list doesn't contain all keys that are set in the patch"));
    }
    target.retain(|name, _| retains(name));
    Ok(())
}

/// `$setElementOrder/x` names the wanted order of the items the client knows of; the others keep their places.
fn apply_orders(target: &mut Fields, patch: &mut Fields, known: Known, depth: usize) -> Result<(), Status> {
    let directives: Vec<String> = patch.keys().filter(|name| name.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let name = directive.strip_prefix(SET_ORDER).unwrap_or_default().to_owned();
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(invalid(format!("{directive} must be a list")));
        };
        let inside = known.field(&name);
        let gone = patch.remove(&format!("{DELETE_ITEMS}{name}"));
        let changes = patch.remove(&name);
        if changes.as_ref().is_some_and(Value::is_null) {
            target.remove(&name);
            continue;
        }
        let old = match target.get_mut(&name).map(Value::take) {
            Some(Value::Array(old)) => old,
            _ if changes.is_none() => {
                if target.get(&name).is_some_and(Value::is_null) {
                    target.remove(&name);
                }
                continue;
            }
            _ => Vec::new(),
        };
        let mut merged = match changes {
            Some(Value::Array(changes)) => merge_list(old.clone(), changes, inside, depth + 1)?,
            Some(_) => return Err(invalid(format!("the patch of {name} must be a list"))),
            None => old.clone(),
        };
        if let Some(Value::Array(gone)) = gone {
            merged.retain(|item| !gone.contains(item));
        }
        let key = inside.merge_key().unwrap_or_default();
        target.insert(name, Value::Array(in_order(merged, &order, &old, key)));
    }
    Ok(())
}

fn merge_list(old: Vec<Value>, patch: Vec<Value>, known: Known, depth: usize) -> Result<Vec<Value>, Status> {
    let Some(key) = known.merge_key() else {
        return patch.into_iter().map(|item| without_directives(item, depth)).collect();
    };
    if !patch.iter().chain(&old).any(Value::is_object) {
        return Ok(merge_scalars(old, patch));
    }
    if patch.iter().chain(&old).any(|item| !item.is_object()) {
        return Err(invalid("a list of the patch mixes objects with other values"));
    }
    if key.is_empty() {
        return Err(invalid("cannot merge lists without merge key"));
    }
    merge_objects(old, patch, key, known.item(), depth)
}

fn merge_scalars(old: Vec<Value>, patch: Vec<Value>) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::with_capacity(old.len() + patch.len());
    for item in old.iter().chain(&patch) {
        if !merged.contains(item) {
            merged.push(item.clone());
        }
    }
    in_order(merged, &patch, &old, "")
}

fn merge_objects(
    mut old: Vec<Value>,
    patch: Vec<Value>,
    key: &'static str,
    item: Known,
    depth: usize,
) -> Result<Vec<Value>, Status> {
    let mut changes = Vec::with_capacity(patch.len());
    let mut replace = false;
    for mut change in patch {
        let directive = change.as_object_mut().and_then(|fields| fields.remove(DIRECTIVE));
        match directive.as_ref().map(|directive| directive.as_str().unwrap_or_default()) {
            None | Some("merge") => changes.push(change),
            Some("replace") => replace = true,
            Some("delete") => {
                let id = change.get(key).ok_or_else(|| lacks_key(key))?;
                old.retain(|item| item.get(key) != Some(id));
            }
            Some(other) => return Err(invalid(format!("unknown patch type found: {other}"))),
        }
    }
    if replace {
        return changes.into_iter().map(|item| without_directives(item, depth)).collect();
    }
    let mut merged = old.clone();
    for change in &changes {
        let id = change.get(key).ok_or_else(|| lacks_key(key))?;
        let at = merged.iter().position(|item| item.get(key) == Some(id));
        match at.and_then(|at| merged.get_mut(at)) {
            Some(place) => *place = merge_value(Some(place.take()), change.clone(), item, depth + 1)?,
            None => merged.push(merge_value(None, change.clone(), item, depth + 1)?),
        }
    }
    Ok(in_order(merged, &changes, &old, key))
}

fn lacks_key(key: &str) -> Status {
    invalid(format!("map: a list item of the patch does not contain declared merge key: {key}"))
}

/// A value that replaces another keeps no directives and no nulls among its fields.
fn without_directives(value: Value, depth: usize) -> Result<Value, Status> {
    match value {
        Value::Object(patch) => {
            merge_fields(Fields::new(), patch, Known::Nothing, depth + 1).map(Value::Object)
        }
        other => Ok(other),
    }
}

/// Orders `merged`: the items of `order` as given there, the others as they stood in `before`, woven together by
/// their places in `before` (apimachinery's `normalizeElementOrder`).
fn in_order(merged: Vec<Value>, order: &[Value], before: &[Value], key: &str) -> Vec<Value> {
    let same = |a: &Value, b: &Value| {
        if key.is_empty() { a == b } else { a.get(key).is_some() && a.get(key) == b.get(key) }
    };
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item));
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(order, item).is_some());
    named.sort_by_cached_key(|item| place(order, item));
    others.sort_by_cached_key(|item| place(before, item).unwrap_or(usize::MAX));

    let mut woven = Vec::with_capacity(named.len() + others.len());
    let mut named = named.into_iter().peekable();
    for other in others {
        let other_place = place(before, &other);
        while let Some(next) = named.peek() {
            let other_first = match (other_place, place(before, next)) {
                (Some(other), Some(named)) => other < named,
                _ => false,
            };
            if other_first {
                break;
            }
            woven.extend(named.next());
        }
        woven.push(other);
    }
    woven.extend(named);
    woven
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn pod_patch(target: Value, patch: Value) -> Value {
        strategic("", "Pod", target, &patch).unwrap()
    }

    fn containers(list: Value) -> Value {
        json!({"spec": {"containers": list}})
    }

    #[test]
    fn lists_merge_by_their_key() {
        let target = containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]));
        let patch = containers(json!([{"name": "b", "image": "2"}, {"name": "c", "image": "1"}]));
        assert_eq!(
            pod_patch(target, patch),
            containers(json!([
                {"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "1"}
            ]))
        );
    }

    #[test]
    fn directives_delete_and_replace() {
        let target =
            containers(json!([{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "1"}]));
        let patch = containers(json!([{"name": "b", "$patch": "delete"}, {"name": "a", "args": null}]));
        assert_eq!(pod_patch(target.clone(), patch), containers(json!([{"name": "a", "image": "1"}])));
        let patch = containers(json!([{"$patch": "replace"}, {"name": "z"}]));
        assert_eq!(pod_patch(target.clone(), patch), containers(json!([{"name": "z"}])));
        let patch = json!({"spec": {"$patch": "replace", "nodeName": "n"}});
        assert_eq!(pod_patch(target, patch), json!({"spec": {"nodeName": "n"}}));
    }

    #[test]
    fn element_order_is_set_and_unknown_items_keep_their_place() {
        let target = containers(json!([{"name": "a"}, {"name": "x"}, {"name": "b"}]));
        let patch = json!({"spec": {
            "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
            "containers": [{"name": "a", "image": "2"}],
        }});
        let patched = pod_patch(target, patch);
        let names: Vec<_> =
            patched["spec"]["containers"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
        assert_eq!(names, [json!("x"), json!("b"), json!("a")]);
        assert!(patched["spec"].get("$setElementOrder/containers").is_none());
    }

    #[test]
    fn primitive_lists_merge_and_lose_items() {
        let target = json!({"metadata": {"finalizers": ["a", "b"]}});
        let patched = pod_patch(
            target,
            json!({"metadata": {
                "$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"],
            }}),
        );
        assert_eq!(patched, json!({"metadata": {"finalizers": ["c", "b"]}}));
    }

    #[test]
    fn retained_keys_drop_the_others() {
        let target =
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        let patched = strategic("apps", "Deployment", target.clone(), &patch).unwrap();
        assert_eq!(patched, json!({"spec": {"strategy": {"type": "Recreate"}}}));
        let wrong = json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}});
        assert_eq!(strategic("apps", "Deployment", target, &wrong).unwrap_err().code, 400);
    }

    #[test]
    fn node_conditions_merge_by_type_and_lists_without_key_are_replaced() {
        let target = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Disk", "status": "False"}], "images": [1, 2]}});
        let patch =
            json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}], "images": [3]}});
        assert_eq!(
            strategic("", "Node", target, &patch).unwrap(),
            json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}, {"type": "Disk", "status": "False"}], "images": [3]}})
        );
    }

    #[test]
    fn maps_merge_and_kinds_without_shape_are_refused() {
        let target = json!({"data": {"a": "1", "b": "2"}});
        let patch = json!({"data": {"a": null, "c": "3"}});
        assert_eq!(
            strategic("", "ConfigMap", target, &patch).unwrap(),
            json!({"data": {"b": "2", "c": "3"}})
        );
        assert_eq!(strategic("devices.kubeedge.io", "Device", json!({}), &json!({})).unwrap_err().code, 415);
    }

    fn any_pod() -> impl Strategy<Value = Value> {
        let container = ("[a-d]", "[1-3]").prop_map(|(name, image)| json!({"name": name, "image": image}));
        (proptest::collection::vec(container, 0..4), proptest::collection::vec("[x-z]", 0..3)).prop_map(
            |(mut list, finalizers)| {
                list.sort_by_key(|c| c["name"].to_string());
                list.dedup_by_key(|c| c["name"].to_string());
                json!({"metadata": {"finalizers": finalizers}, "spec": {"containers": list}})
            },
        )
    }

    proptest! {
        #[test]
        fn patching_twice_is_patching_once(target in any_pod(), patch in any_pod()) {
            let once = strategic("", "Pod", target, &patch).unwrap();
            prop_assert_eq!(strategic("", "Pod", once.clone(), &patch).unwrap(), once);
        }

        #[test]
        fn every_patched_container_is_there_once(target in any_pod(), patch in any_pod()) {
            let result = strategic("", "Pod", target, &patch).unwrap();
            let list = result["spec"]["containers"].as_array().unwrap().clone();
            for wanted in patch["spec"]["containers"].as_array().unwrap() {
                prop_assert_eq!(list.iter().filter(|c| *c == wanted).count(), 1);
            }
        }
    }
}
