//! Rules of `metadata`: names, types, what a client may set and what only the API sets. Pure.

use crate::base::random_suffix;
use crate::daemon::apiserver::catalog::Resource;
use crate::daemon::apiserver::errors::{self, Cause};
use crate::model::Status;
use serde_json::{Map, Value};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
    '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
    validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const ANNOTATIONS_LIMIT: usize = 256 << 10;

fn is_label(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

/// What is wrong with a name for this kind of object.
pub(super) fn name_problem(resource: &Resource, name: &str) -> Option<&'static str> {
    if resource.group == "rbac.authorization.k8s.io" {
        let wrong = name == "." || name == ".." || name.contains(['/', '%']);
        return wrong.then_some("may not be '.' or '..' or contain '/' or '%'");
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "namespaces") => (!is_label(name) || name.len() > 63).then_some(LABEL),
        ("", "services") => {
            let right = is_label(name) && name.len() <= 63 && !name.starts_with(|c: char| c.is_ascii_digit());
            (!right).then_some(LABEL_1035)
        }
        _ => (name.len() > 253 || !name.split('.').all(is_label)).then_some(SUBDOMAIN),
    }
}

/// The metadata of an object, or why there is none that can be worked with.
pub(super) fn of(object: &mut Value) -> Result<&mut Map<String, Value>, Status> {
    let wrong = || errors::bad_request("the object provided is unrecognized: metadata is not an object");
    let fields = object.as_object_mut().ok_or_else(wrong)?;
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut().ok_or_else(wrong)
}

/// A text field of the metadata, empty when absent.
pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or("")
}

pub(super) fn finalizers(object: &Value) -> Vec<&str> {
    let list = object["metadata"]["finalizers"].as_array();
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Gives the object its name: its own, or one made from `generateName`.
pub(super) fn settle_name(
    resource: &Resource,
    object: &mut Value,
    from_path: &str,
) -> Result<String, Status> {
    let metadata = of(object)?;
    let mut name = metadata.get("name").and_then(Value::as_str).unwrap_or("").to_owned();
    if name.is_empty() && !from_path.is_empty() {
        name = from_path.to_owned();
    }
    if name.is_empty()
        && let Some(prefix) = metadata.get("generateName").and_then(Value::as_str)
        && !prefix.is_empty()
    {
        let kept: String = prefix.chars().take(58).collect();
        name = kept + &random_suffix(5);
    }
    if name.is_empty() {
        let cause = Cause::required("metadata.name", "name or generateName is required");
        return Err(errors::invalid(resource, "", &[cause]));
    }
    if !from_path.is_empty() && name != from_path {
        return Err(errors::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({from_path})"
        )));
    }
    if let Some(problem) = name_problem(resource, &name) {
        let cause = Cause::invalid("metadata.name", &Value::from(name.as_str()), problem);
        return Err(errors::invalid(resource, &name, &[cause]));
    }
    metadata.insert("name".to_owned(), name.clone().into());
    Ok(name)
}

/// Makes the object's namespace that of the request.
pub(super) fn settle_namespace(
    resource: &Resource,
    object: &mut Value,
    namespace: Option<&str>,
) -> Result<(), Status> {
    let metadata = of(object)?;
    let Some(namespace) = namespace.filter(|_| resource.namespaced) else {
        metadata.remove("namespace");
        return Ok(());
    };
    let own = metadata.get("namespace").and_then(Value::as_str).unwrap_or("");
    if !own.is_empty() && own != namespace {
        return Err(errors::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    metadata.insert("namespace".to_owned(), namespace.into());
    Ok(())
}

/// Refuses metadata whose types would surprise every reader.
pub(super) fn check_types(resource: &Resource, name: &str, object: &Value) -> Result<(), Status> {
    let metadata = &object["metadata"];
    let mut causes = Vec::new();
    for field in ["labels", "annotations"] {
        match &metadata[field] {
            Value::Null => {}
            Value::Object(pairs) => {
                if let Some((key, value)) = pairs.iter().find(|(_, value)| !value.is_string()) {
                    let at = format!("metadata.{field}.{key}");
                    causes.push(Cause::invalid(&at, value, "must be a string"));
                }
            }
            other => {
                causes.push(Cause::invalid(&format!("metadata.{field}"), other, "must be a map of strings"))
            }
        }
    }
    for field in ["finalizers", "ownerReferences", "managedFields"] {
        if !metadata[field].is_null() && !metadata[field].is_array() {
            causes.push(Cause::invalid(&format!("metadata.{field}"), &metadata[field], "must be a list"));
        }
    }
    if let Some(labels) = metadata["labels"].as_object() {
        for value in labels.values().filter_map(Value::as_str).filter(|v| !is_label_value(v)) {
            let message = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
                '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or \
                '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
            causes.push(Cause::invalid("metadata.labels", &Value::from(value), message));
        }
    }
    if let Some(notes) = metadata["annotations"].as_object() {
        let size: usize = notes.iter().map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
        if size > ANNOTATIONS_LIMIT {
            causes.push(Cause::too_long("metadata.annotations", ANNOTATIONS_LIMIT));
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(errors::invalid(resource, name, &causes)) }
}

fn is_label_value(value: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |c: char| c.is_ascii_alphanumeric();
    value.len() <= 63
        && value.chars().all(inner)
        && (value.is_empty() || (value.starts_with(edge) && value.ends_with(edge)))
}

/// Copies what only the API sets from the old form to the new one.
pub(super) fn keep_immutable(old: &Value, new: &mut Value) -> Result<(), Status> {
    let metadata = of(new)?;
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "resourceVersion",
    ] {
        match &old["metadata"][field] {
            Value::Null => drop(metadata.remove(field)),
            value => drop(metadata.insert(field.to_owned(), value.clone())),
        }
    }
    metadata.remove("selfLink");
    Ok(())
}

/// Drops metadata that says nothing.
pub(super) fn tidy(object: &mut Value) {
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    metadata.retain(|_, value| match value {
        Value::Null => false,
        Value::Object(pairs) => !pairs.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    });
}
