//! What is wrong with a built-in object, as far as clients and controllers rely on it. Pure.

use crate::daemon::apiserver::catalog::{self, Resource};
use crate::daemon::apiserver::errors::Cause;
use crate::daemon::apiserver::schema::FieldError;
use crate::model::{DATA_LIMIT, Quantity, data_size};
use serde_json::Value;
use std::collections::HashSet;

pub(super) fn cause(error: FieldError) -> Cause {
    Cause { field: error.path, reason: error.reason, message: error.message }
}

pub(super) fn built_in(resource: &Resource, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pod_spec(&object["spec"], "spec", &mut causes),
        ("", "configmaps") => data(object, false, &mut causes),
        ("", "secrets") => data(object, true, &mut causes),
        ("", "services") => service(object, &mut causes),
        ("apps", "deployments" | "replicasets" | "daemonsets" | "statefulsets") => {
            workload(object, &mut causes);
        }
        ("batch", "jobs") => pod_spec(&object["spec"]["template"]["spec"], "spec.template.spec", &mut causes),
        ("apiextensions.k8s.io", _) => causes.extend(catalog::problems(object)),
        _ => {}
    }
    causes
}

fn pod_spec(spec: &Value, at: &str, causes: &mut Vec<Cause>) {
    let containers = spec["containers"].as_array();
    if containers.is_none_or(Vec::is_empty) {
        causes.push(Cause::required(&format!("{at}.containers"), ""));
    }
    let mut names = HashSet::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let field = |name: &str| format!("{at}.{list}[{index}].{name}");
            let name = container["name"].as_str().unwrap_or("");
            if name.is_empty() {
                causes.push(Cause::required(&field("name"), ""));
            } else if !is_label(name) {
                let message =
                    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'";
                causes.push(Cause::invalid(&field("name"), &container["name"], message));
            } else if !names.insert(name) {
                causes.push(Cause {
                    field: field("name"),
                    reason: "FieldValueDuplicate",
                    message: format!("Duplicate value: \"{name}\""),
                });
            }
            if container["image"].as_str().is_none_or(str::is_empty) {
                causes.push(Cause::required(&field("image"), ""));
            }
            mounts(spec, container, &field("volumeMounts"), causes);
            quantities(&container["resources"], &field("resources"), causes);
        }
    }
    if let Some(policy) = spec["restartPolicy"].as_str()
        && !matches!(policy, "Always" | "OnFailure" | "Never")
    {
        causes.push(Cause {
            field: format!("{at}.restartPolicy"),
            reason: "FieldValueNotSupported",
            message: format!(
                "Unsupported value: \"{policy}\": supported values: \"Always\", \"OnFailure\", \"Never\""
            ),
        });
    }
}

fn quantities(resources: &Value, at: &str, causes: &mut Vec<Cause>) {
    let read = |amount: &Value| match amount {
        Value::String(text) => Quantity::parse(text),
        Value::Number(number) => Quantity::parse(&number.to_string()),
        _ => None,
    };
    for list in ["limits", "requests"] {
        for (name, amount) in resources[list].as_object().into_iter().flatten() {
            let field = format!("{at}.{list}[{name}]");
            match read(amount) {
                None => {
                    causes.push(Cause::invalid(&field, amount, "must be a quantity such as 100m or 64Mi"))
                }
                Some(amount_read) if amount_read.is_negative() => {
                    causes.push(Cause::invalid(&field, amount, "must be greater than or equal to 0"));
                }
                Some(request) if list == "requests" => {
                    let limit = &resources["limits"][name];
                    if read(limit).is_some_and(|limit| limit < request) {
                        let why = format!("must be less than or equal to {name} limit of {limit}");
                        causes.push(Cause::invalid(&format!("{at}.requests"), amount, &why));
                    }
                }
                Some(_) => {}
            }
        }
    }
}

/// At most 63 lower-case letters, digits and inner hyphens.
fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn mounts(spec: &Value, container: &Value, field: &str, causes: &mut Vec<Cause>) {
    for (index, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
        let known =
            spec["volumes"].as_array().is_some_and(|all| all.iter().any(|v| v["name"] == mount["name"]));
        if !known {
            causes.push(Cause {
                field: format!("{field}[{index}].name"),
                reason: "FieldValueNotFound",
                message: format!("Not found: {}", mount["name"]),
            });
        }
    }
}

fn data(object: &Value, is_secret: bool, causes: &mut Vec<Cause>) {
    for field in ["data", "binaryData"] {
        for (key, value) in object[field].as_object().into_iter().flatten() {
            if !value.is_string() {
                causes.push(Cause::invalid(&format!("{field}[{key}]"), value, "must be a string"));
            }
        }
    }
    if data_size(object, is_secret) > DATA_LIMIT {
        // Kubernetes names no field of a ConfigMap, which its messages show as `[]`.
        causes.push(Cause::too_long(if is_secret { "data" } else { "[]" }, DATA_LIMIT));
    }
}

fn service(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let headless = spec["clusterIP"] == "None" || spec["type"] == "ExternalName";
    if !headless && spec["ports"].as_array().is_none_or(Vec::is_empty) {
        causes.push(Cause::required("spec.ports", ""));
    }
    for (index, port) in spec["ports"].as_array().into_iter().flatten().enumerate() {
        let number = port["port"].as_u64().unwrap_or(0);
        if !(1..=65535).contains(&number) {
            let message = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(&format!("spec.ports[{index}].port"), &port["port"], message));
        }
    }
}

fn workload(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let labels = &spec["template"]["metadata"]["labels"];
    match spec["selector"]["matchLabels"].as_object() {
        None if spec["selector"]["matchExpressions"].is_null() => {
            causes.push(Cause::required("spec.selector", ""));
        }
        Some(wanted) if wanted.iter().any(|(key, value)| labels[key] != *value) => {
            causes.push(Cause::invalid(
                "spec.template.metadata.labels",
                labels,
                "`selector` does not match template `labels`",
            ));
        }
        _ => {}
    }
    if spec["replicas"].as_i64().is_some_and(|n| n < 0) {
        let message = "must be greater than or equal to 0";
        causes.push(Cause::invalid("spec.replicas", &spec["replicas"], message));
    }
    pod_spec(&spec["template"]["spec"], "spec.template.spec", causes);
}
