use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn cells(group: &str, kind: &str, object: Value) -> Vec<Value> {
    let table = render(group, kind, &[Arc::new(object)], None, Include::None, json!({}), now());
    let definitions = table["columnDefinitions"].as_array().unwrap();
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(definitions.len(), cells.len());
    definitions.iter().zip(cells).filter(|(d, _)| d["priority"] == 0).map(|(_, cell)| cell.clone()).collect()
}

fn pod(status: Value) -> Value {
    json!({
        "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:54:30Z"},
        "spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "j"}]},
        "status": status,
    })
}

#[test]
fn ages_read_as_kubectls() {
    let shown =
        [5, 119, 120, 330, 600, 10_799, 10_800, 29_000, 172_800, 200_000, 700_000, 63_072_000 + 86_400];
    let words: Vec<String> = shown.iter().map(|seconds| text::duration(*seconds)).collect();
    assert_eq!(words, ["5s", "119s", "2m", "5m30s", "10m", "179m", "3h", "8h", "2d", "2d7h", "8d", "2y1d"]);
    assert_eq!(text::duration(-5), "<invalid>");
}

#[test]
fn a_pod_says_how_it_is() {
    let word = |status: Value| cells("", "Pod", pod(status));
    assert_eq!(
        word(json!({"phase": "Running", "containerStatuses": [{
            "ready": true, "restartCount": 3, "state": {"running": {}},
            "lastState": {"terminated": {"finishedAt": "2026-01-01T00:55:00Z"}},
        }]})),
        [json!("a"), json!("1/1"), json!("Running"), json!("3 (5m ago)"), json!("5m30s")]
    );
    assert_eq!(
        word(
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 0, "state": {"running": {}}}]})
        )[2],
        "Init:0/2"
    );
    assert_eq!(
        word(
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 1}}}]})
        )[2],
        "Init:ExitCode:1"
    );
    assert_eq!(
        word(
            json!({"phase": "Running", "containerStatuses": [{"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]})
        )[2],
        "CrashLoopBackOff"
    );
    assert_eq!(
        word(
            json!({"phase": "Succeeded", "containerStatuses": [{"restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]})
        )[2],
        "Completed"
    );
    let mut going = pod(json!({"phase": "Running"}));
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T01:00:00Z");
    assert_eq!(cells("", "Pod", going)[2], "Terminating");
}

#[test]
fn nodes_and_services_fill_their_columns() {
    let node = json!({
        "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/agent": ""}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1"}},
    });
    assert_eq!(
        cells("", "Node", node),
        [json!("n"), json!("Ready,SchedulingDisabled"), json!("agent,edge"), json!("60m"), json!("v1")]
    );
    let service = json!({
        "metadata": {"name": "s"},
        "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]},
    });
    assert_eq!(
        cells("", "Service", service),
        [
            json!("s"),
            json!("NodePort"),
            json!("10.0.0.1"),
            json!("<none>"),
            json!("80:30080/TCP"),
            json!("<unknown>")
        ]
    );
}

#[test]
fn empty_objects_of_every_kind_have_cells() {
    for kind in super::super::kinds::BUILT_INS {
        cells(kind.group, kind.kind, json!({}));
        cells(kind.group, kind.kind, Value::Null);
    }
}

#[test]
fn custom_columns_and_rows_carry_what_was_asked_for() {
    let device = Arc::new(json!({"metadata": {"name": "t"}, "spec": {"nodeName": "n"}}));
    let columns = [json!({"name": "Node", "type": "string", "jsonPath": ".spec.nodeName"})];
    let table = render(
        "devices.kubeedge.io",
        "Device",
        &[device],
        Some(&columns),
        Include::Metadata,
        json!({"resourceVersion": "7"}),
        now(),
    );
    assert_eq!(table["rows"][0]["cells"], json!(["t", "n"]));
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["metadata"]["resourceVersion"], "7");
}
