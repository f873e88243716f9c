use super::*;
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn deployments() -> Facts {
    Facts::built_in("apps", "v1", "Deployment")
}

fn deployment(replicas: Option<i64>, containers: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"template": {"spec": {"containers": containers}}},
    });
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = json!(replicas);
    }
    object
}

fn fields_for<'a>(object: &'a Value, manager: &str) -> &'a Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    &entries.iter().find(|entry| entry["manager"] == manager).unwrap()["fieldsV1"]
}

#[test]
fn the_first_apply_owns_its_leaves() {
    let config = deployment(Some(1), json!([{"name": "a", "image": "i", "ports": [{"containerPort": 80}]}]));
    let object = apply(&deployments(), None, &config, "kubectl", false, at(0)).unwrap();
    assert_eq!(
        fields_for(&object, "kubectl"),
        &json!({
            "f:metadata": {"f:labels": {"f:app": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:template": {"f:spec": {"f:containers": {r#"k:{"name":"a"}"#: {
                    ".": {}, "f:name": {}, "f:image": {},
                    "f:ports": {r#"k:{"containerPort":80,"protocol":"TCP"}"#: {".": {}, "f:containerPort": {}}},
                }}}},
            },
        })
    );
    let entry = &object["metadata"]["managedFields"][0];
    assert_eq!(entry["operation"], "Apply");
    assert_eq!(entry["time"], "2023-11-14T22:13:20Z");
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let config = deployment(Some(1), json!([{"name": "a", "image": "i"}]));
    let once = apply(&deployments(), None, &config, "kubectl", false, at(0)).unwrap();
    let twice = apply(&deployments(), Some(&once), &config, "kubectl", false, at(9)).unwrap();
    assert_eq!(once, twice);
}

#[test]
fn fields_left_out_are_removed_and_defaults_go_with_their_item() {
    let config = deployment(Some(2), json!([{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]));
    let mut live = apply(&deployments(), None, &config, "kubectl", false, at(0)).unwrap();
    live["spec"]["template"]["spec"]["containers"][1]["imagePullPolicy"] = json!("Always");
    live["spec"]["strategy"] = json!({"type": "RollingUpdate"});
    let config = deployment(None, json!([{"name": "a", "image": "i"}]));
    let after = apply(&deployments(), Some(&live), &config, "kubectl", false, at(1)).unwrap();
    assert!(after["spec"].get("replicas").is_none());
    assert_eq!(after["spec"]["template"]["spec"]["containers"], json!([{"name": "a", "image": "i"}]));
    assert_eq!(after["spec"]["strategy"], json!({"type": "RollingUpdate"}));
}

#[test]
fn a_field_owned_by_another_stays_when_one_lets_go() {
    let both = deployment(Some(2), json!([{"name": "a", "image": "i"}]));
    let live = apply(&deployments(), None, &both, "one", false, at(0)).unwrap();
    let live = apply(&deployments(), Some(&live), &both, "two", false, at(1)).unwrap();
    let without = deployment(None, json!([{"name": "a", "image": "i"}]));
    let after = apply(&deployments(), Some(&live), &without, "one", false, at(2)).unwrap();
    assert_eq!(after["spec"]["replicas"], 2);
    assert!(fields_for(&after, "one")["f:spec"].get("f:replicas").is_none());
}

#[test]
fn a_different_value_conflicts_unless_forced() {
    let config = deployment(Some(1), json!([{"name": "a", "image": "i"}]));
    let live = apply(&deployments(), None, &config, "one", false, at(0)).unwrap();
    let other = deployment(Some(3), json!([{"name": "a", "image": "i"}]));
    let status = apply(&deployments(), Some(&live), &other, "two", false, at(1)).unwrap_err();
    assert_eq!(status.code, 409);
    assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas");
    assert_eq!(
        status.details.unwrap()["causes"][0],
        json!({"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.replicas"})
    );
    let forced = apply(&deployments(), Some(&live), &other, "two", true, at(1)).unwrap();
    assert_eq!(forced["spec"]["replicas"], 3);
    assert!(fields_for(&forced, "one")["f:spec"].get("f:replicas").is_none());
    assert_eq!(fields_for(&forced, "two")["f:spec"]["f:replicas"], json!({}));
}

#[test]
fn an_update_takes_ownership_of_what_it_changed() {
    let config = deployment(Some(1), json!([{"name": "a", "image": "i"}]));
    let live = apply(&deployments(), None, &config, "one", false, at(0)).unwrap();
    let mut new = live.clone();
    new["spec"]["replicas"] = json!(5);
    new["metadata"]["labels"].as_object_mut().unwrap().remove("app");
    update_managed_fields(&deployments(), Some(&live), &mut new, "scaler", "Update", None, at(5));
    assert_eq!(fields_for(&new, "scaler"), &json!({"f:spec": {"f:replicas": {}}}));
    assert!(fields_for(&new, "one").get("f:metadata").is_none());
    let status = apply(&deployments(), Some(&new), &config, "one", false, at(6)).unwrap_err();
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"scaler\" using apps/v1: .spec.replicas"
    );
}

#[test]
fn status_writes_have_their_own_entry_and_only_their_time_moves() {
    let pods = Facts::built_in("", "v1", "Pod");
    let mut pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"nodeName": "n"}});
    update_managed_fields(&pods, None, &mut pod, "kubectl", "Update", None, at(0));
    let write = |old: &Value, status: Value, second| {
        let mut new = old.clone();
        new["status"] = status;
        update_managed_fields(&pods, Some(old), &mut new, "edge", "Update", Some("status"), at(second));
        new
    };
    let first =
        write(&pod, json!({"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}), 1);
    let second =
        write(&first, json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}), 2);
    assert_eq!(first["metadata"]["managedFields"].as_array().unwrap().len(), 2);
    assert_eq!(fields_for(&first, "edge"), fields_for(&second, "edge"));
    assert_eq!(second["metadata"]["managedFields"][1]["time"], "2023-11-14T22:13:22Z");
    assert_eq!(second["metadata"]["managedFields"][1]["subresource"], "status");
}

#[test]
fn many_updaters_are_summed_up() {
    let pods = Facts::built_in("", "v1", "Pod");
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {}}});
    for n in 0..20 {
        let old = pod.clone();
        pod["metadata"]["labels"][format!("l{n}")] = json!("x");
        update_managed_fields(&pods, Some(&old), &mut pod, &format!("m{n}"), "Update", None, at(n));
    }
    let entries = pod["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), MAX_UPDATE_ENTRIES);
    assert_eq!(entries[0]["manager"], ANCIENT);
}

#[test]
fn custom_lists_follow_their_schema() {
    let schema = super::super::schema::Schema::compile(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "twins": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {"type": "object", "properties": {"name": {"type": "string"}, "v": {"type": "integer"}}}},
        "plain": {"type": "array", "items": {"type": "string"}},
    }}}}))
    .unwrap();
    let facts = Facts::custom(Some(std::sync::Arc::new(schema)));
    let config = json!({"spec": {"twins": [{"name": "t", "v": 1}], "plain": ["a"]}});
    let live = apply(&facts, None, &config, "one", false, at(0)).unwrap();
    let config = json!({"spec": {"twins": [{"name": "u", "v": 2}]}});
    let after = apply(&facts, Some(&live), &config, "two", false, at(1)).unwrap();
    assert_eq!(
        after["spec"],
        json!({"twins": [{"name": "u", "v": 2}, {"name": "t", "v": 1}], "plain": ["a"]})
    );
}

fn any_config() -> impl Strategy<Value = Value> {
    let container = ("[a-c]", proptest::option::of("[x-z]")).prop_map(|(name, image)| match image {
        Some(image) => json!({"name": name, "image": image}),
        None => json!({"name": name}),
    });
    let labels = proptest::collection::btree_map("[a-c]", "[x-z]", 0..3);
    (proptest::option::of(0..3i64), proptest::collection::vec(container, 0..3), labels).prop_map(
        |(replicas, mut containers, labels)| {
            containers.sort_by_key(|c| c["name"].to_string());
            containers.dedup_by_key(|c| c["name"].to_string());
            let mut object = deployment(replicas, json!(containers));
            object["metadata"]["labels"] = json!(labels);
            object
        },
    )
}

/// The object without its bookkeeping and without containers that became empty.
fn content(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"].as_object_mut().unwrap().remove("managedFields");
    object
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(first in any_config(), second in any_config()) {
        let live = apply(&deployments(), None, &first, "one", false, at(0)).unwrap();
        let once = apply(&deployments(), Some(&live), &second, "two", true, at(1)).unwrap();
        let twice = apply(&deployments(), Some(&once), &second, "two", false, at(2)).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn a_sole_manager_gets_exactly_its_leaves(first in any_config(), second in any_config()) {
        let facts = deployments();
        let live = apply(&facts, None, &first, "one", false, at(0)).unwrap();
        let after = apply(&facts, Some(&live), &second, "one", false, at(1)).unwrap();
        prop_assert_eq!(walk::leaves_of(facts.root(), &content(&after)), walk::leaves_of(facts.root(), &second));
    }

    #[test]
    fn set_arithmetic_holds(a in any_config(), b in any_config()) {
        let facts = deployments();
        let (a, b) = (walk::leaves_of(facts.root(), &a), walk::leaves_of(facts.root(), &b));
        let mut both = a.clone();
        fields::add(&mut both, &b);
        let mut rest = both.clone();
        fields::subtract(&mut rest, &b);
        prop_assert!(fields::common(&rest, &b).is_empty());
        fields::add(&mut rest, &b);
        prop_assert_eq!(rest, both);
    }
}
