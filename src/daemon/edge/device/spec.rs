//! What a Device object (any version) says that concerns its twin: node, generation, desired values, and, from the
//! DeviceModel, the types. Pure; reads JSON as it is stored.

use super::twin::{Spec, Wanted};
use serde_json::Value;
use std::collections::BTreeMap;

/// Reads the spec; the model gives types and may be missing.
pub(super) fn read(device: &Value, model: Option<&Value>) -> Spec {
    let types = model.map(types).unwrap_or_default();
    let metadata = |path: &str| device.pointer(path);
    let mut properties = BTreeMap::new();
    for property in list(device, "/spec/properties") {
        let Some(name) = property.get("name").and_then(Value::as_str) else { continue };
        let value = property.pointer("/desired/value").and_then(Value::as_str);
        properties.insert(name.to_owned(), wanted(value, types.get(name)));
    }
    // Before v1beta1 desired values stand in the status.
    for twin in list(device, "/status/twins") {
        let Some(name) = twin.get("propertyName").and_then(Value::as_str) else { continue };
        let value = twin.pointer("/desired/value").and_then(Value::as_str);
        properties.entry(name.to_owned()).or_insert_with(|| wanted(value, types.get(name)));
    }
    Spec {
        uid: metadata("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned(),
        generation: metadata("/metadata/generation").and_then(Value::as_i64).unwrap_or_default(),
        properties,
    }
}

/// The model that a Device names.
pub(super) fn model_name(device: &Value) -> Option<&str> {
    device.pointer("/spec/deviceModelRef/name").and_then(Value::as_str)
}

/// The description that KubeEdge takes from a label.
pub(super) fn description(device: &Value) -> &str {
    device.pointer("/metadata/labels/description").and_then(Value::as_str).unwrap_or_default()
}

fn wanted(value: Option<&str>, value_type: Option<&&'static str>) -> Wanted {
    let value = value.filter(|value| !value.is_empty()).map(str::to_owned);
    Wanted { value, value_type: value_type.copied().unwrap_or_default().to_owned() }
}

fn types(model: &Value) -> BTreeMap<&str, &'static str> {
    let of = |property: &Value| match property.get("type").and_then(Value::as_str) {
        Some("INT") => "int",
        Some("FLOAT" | "DOUBLE") => "float",
        Some("BOOLEAN") => "boolean",
        _ => "string",
    };
    let properties = list(model, "/spec/properties");
    properties.filter_map(|property| Some((property.get("name")?.as_str()?, of(property)))).collect()
}

fn list<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_device_and_its_model_give_values_and_types() {
        let device = json!({
            "metadata": {"uid": "u", "generation": 4},
            "spec": {"properties": [
                {"name": "target", "desired": {"value": "20"}}, {"name": "temperature", "desired": {"value": ""}}, {"x": 1},
            ]},
        });
        let model = json!({"spec": {"properties": [{"name": "target", "type": "DOUBLE"}]}});
        let spec = read(&device, Some(&model));
        assert_eq!((spec.uid.as_str(), spec.generation, spec.properties.len()), ("u", 4, 2));
        let target = Wanted { value: Some("20".to_owned()), value_type: "float".to_owned() };
        assert_eq!(spec.properties["target"], target);
        assert_eq!(spec.properties["temperature"].value, None);
        assert_eq!(read(&json!([]), None), Spec::default());
    }
}
