use super::*;
use proptest::prelude::*;
use serde_json::json;

fn device() -> Schema {
    Schema::compile(&json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["model"],
                "properties": {
                    "model": {"type": "string", "minLength": 1, "maxLength": 8, "pattern": "^[a-z]+$"},
                    "replicas": {"type": "integer", "format": "int32", "minimum": 1, "default": 1},
                    "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                    "mode": {"type": "string", "enum": ["auto", "off"]},
                    "data": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "twins": {
                        "type": "array", "maxItems": 2,
                        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                        "items": {"type": "object", "properties": {
                            "name": {"type": "string"}, "unit": {"type": "string", "default": "C"},
                        }},
                    },
                    "when": {"type": "string", "format": "date-time", "nullable": true},
                    "one": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
                },
            },
            "status": {"type": "object", "properties": {"ok": {"type": "boolean"}}},
        },
    }))
    .unwrap()
}

fn errors(spec: Value) -> Vec<String> {
    device().validate(&json!({"spec": spec})).iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_object_passes() {
    assert_eq!(
        errors(
            json!({"model": "abc", "replicas": 2, "port": "http", "mode": "auto", "when": null, "one": {"a": 1}})
        ),
        Vec::<String>::new()
    );
}

#[test]
fn errors_read_as_upstreams() {
    assert_eq!(errors(json!({})), ["spec.model: Required value"]);
    assert_eq!(
        errors(json!({"model": "a", "replicas": "3"})),
        [
            r#"spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string""#
        ]
    );
    assert_eq!(
        errors(json!({"model": "a", "replicas": 0})),
        ["spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1"]
    );
    assert_eq!(
        errors(json!({"model": "A"})),
        [r#"spec.model: Invalid value: "A": spec.model in body should match '^[a-z]+$'"#]
    );
    assert_eq!(
        errors(json!({"model": "a", "mode": "on"})),
        [r#"spec.mode: Unsupported value: "on": supported values: "auto", "off""#]
    );
    assert_eq!(errors(json!({"model": "abcdefghi"})), ["spec.model: Too long: may not be more than 8 bytes"]);
    assert_eq!(
        errors(json!({"model": "a", "twins": [{"name": "t"}, {"name": "t"}]})),
        [r#"spec.twins[1]: Duplicate value: {"name":"t"}"#]
    );
    assert_eq!(
        errors(json!({"model": "a", "one": {}})),
        [
            r#"spec.one: Invalid value: "": "spec.one" must validate one and only one schema (oneOf). Found none valid"#
        ]
    );
    assert_eq!(errors(json!({"model": "a", "when": "yesterday"})).len(), 1);
    assert_eq!(errors(json!({"model": "a", "port": true})).len(), 1);
}

#[test]
fn the_status_lists_its_causes() {
    let found = device().validate(&json!({"spec": {}}));
    let status = invalid_status("devices.kubeedge.io", "Device", "t", &found);
    assert_eq!(status.message, r#"Device.devices.kubeedge.io "t" is invalid: spec.model: Required value"#);
    assert_eq!(status.details.unwrap()["causes"][0]["reason"], "FieldValueRequired");
}

#[test]
fn unknown_fields_are_named_and_pruned() {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Device", "metadata": {"name": "a"}, "extra": 1,
        "spec": {"model": "a", "replicsa": 1, "data": {"any": {"thing": 1}}, "twins": [{"name": "t", "x": 1}]},
    });
    assert_eq!(
        device().unknown_fields(&object),
        ["unknown field \"extra\"", "unknown field \"spec.replicsa\"", "unknown field \"spec.twins[0].x\""]
    );
    device().prune(&mut object);
    assert_eq!(
        object,
        json!({
            "apiVersion": "v1", "kind": "Device", "metadata": {"name": "a"},
            "spec": {"model": "a", "data": {"any": {"thing": 1}}, "twins": [{"name": "t"}]},
        })
    );
}

#[test]
fn defaults_fill_what_is_missing_and_empty_fields_go() {
    let mut object = json!({"spec": {"model": "a", "replicas": null, "labels": null, "when": null,
        "twins": [{"name": "t", "unit": null}]}});
    device().default(&mut object);
    let filled = json!({"model": "a", "replicas": 1, "when": null, "twins": [{"name": "t", "unit": "C"}]});
    assert_eq!(object, json!({"spec": filled}));
}

#[test]
fn schemas_too_deep_are_refused() {
    let mut schema = json!({"type": "object"});
    for _ in 0..100 {
        schema = json!({"type": "object", "properties": {"a": schema}});
    }
    assert_eq!(Schema::compile(&schema).unwrap_err().code, 422);
    assert!(Schema::compile(&json!({"type": "string", "pattern": "("})).is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-c]{0,3}".prop_map(Value::from)
    ];
    let name = prop_oneof![
        Just("spec".to_owned()),
        Just("model".to_owned()),
        Just("twins".to_owned()),
        Just("replicas".to_owned()),
        Just("one".to_owned()),
        "[a-d]"
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name.clone(), inner, 0..5).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn pruning_and_defaulting_settle(object in any_json()) {
        let schema = device();
        let mut once = object;
        schema.prune(&mut once);
        schema.default(&mut once);
        let mut twice = once.clone();
        schema.prune(&mut twice);
        schema.default(&mut twice);
        prop_assert_eq!(&once, &twice);
        prop_assert!(schema.unknown_fields(&once).is_empty());
        let _ = schema.validate(&once);
    }

    #[test]
    fn any_schema_compiles_or_is_refused(schema in any_json(), object in any_json()) {
        if let Ok(schema) = Schema::compile(&schema) {
            let _ = schema.validate(&object);
        }
    }
}
