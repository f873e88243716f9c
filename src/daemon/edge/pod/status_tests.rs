//! The statuses of `status.rs`, one situation each.

use super::super::seen::{Sandbox, Waiting};
use super::*;

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

fn seen() -> Seen {
    let sandbox = Sandbox { id: "s".into(), ready: true, attempt: 0, ips: vec!["10.0.0.2".into()] };
    Seen { sandbox: Some(sandbox), ..Seen::default() }
}

fn with(life: Life, attempt: u32) -> Seen {
    let mut seen = seen();
    let instance = Instance {
        id: "c".into(),
        sandbox: "s".into(),
        attempt,
        life,
        image_ref: "sha256:1".into(),
        hash: String::new(),
        ours: true,
        last_words: None,
        last: None,
    };
    seen.containers.insert("a".into(), instance);
    seen
}

fn ended(code: i32) -> Life {
    Life::Exited(Ended {
        id: "c".into(),
        exit_code: code,
        reason: if code == 0 { "Completed".into() } else { "Error".into() },
        message: String::new(),
        started: Some(at(0)),
        finished: at(1),
    })
}

fn status(pod: &Pod, seen: &Seen, memory: &Memory, previous: Option<&Value>) -> Value {
    compute(&Input {
        pod,
        seen,
        memory,
        host_ip: "192.0.2.1",
        runtime: "containerd",
        started: at(0),
        previous,
        now: at(2),
    })
}

fn ready() -> Memory {
    let mut memory = Memory::default();
    memory.containers.insert("a".into(), Remembered { started: true, ready: true, ..Remembered::default() });
    memory
}

fn condition_of<'a>(status: &'a Value, kind: &str) -> &'a Value {
    status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == kind).unwrap()
}

#[test]
fn a_running_pod_is_ready() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x"}]}));
    let status = status(&pod, &with(Life::Running { since: at(1) }, 0), &ready(), None);
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["podIP"], "10.0.0.2");
    assert_eq!(status["podIPs"], json!([{"ip": "10.0.0.2"}]));
    assert_eq!(status["qosClass"], "BestEffort");
    assert_eq!(
        status["containerStatuses"],
        json!([{
            "name": "a", "image": "x", "imageID": "sha256:1", "containerID": "containerd://c", "restartCount": 0,
            "ready": true, "started": true, "lastState": {},
            "state": {"running": {"startedAt": "2026-01-01T00:00:01Z"}},
        }])
    );
    for kind in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
        assert_eq!(condition_of(&status, kind)["status"], "True", "{kind}");
    }
}

#[test]
fn a_crash_loop_is_told_with_the_last_end() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let mut memory = ready();
    memory.containers.get_mut("a").unwrap().crash_delay = std::time::Duration::from_secs(20);
    let status = status(&pod, &with(ended(3), 2), &memory, None);
    assert_eq!(status["phase"], "Running");
    let container = &status["containerStatuses"][0];
    assert_eq!(container["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(
        container["state"]["waiting"]["message"],
        "back-off 20s restarting failed container=a pod=p_d(u)"
    );
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(container["restartCount"], 2);
    assert_eq!(condition_of(&status, "Ready")["reason"], "ContainersNotReady");
}

#[test]
fn waiting_reasons_follow_what_holds_the_pod_up() {
    let plain = pod(json!({"containers": [{"name": "a"}]}));
    let none = Memory::default();
    let reason = |status: &Value| status["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    assert_eq!(reason(&status(&plain, &Seen::default(), &none, None)), "ContainerCreating");
    let initial = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}));
    let waiting = status(&initial, &seen(), &none, None);
    assert_eq!(reason(&waiting), "PodInitializing");
    assert_eq!(waiting["phase"], "Pending");
    assert_eq!(condition_of(&waiting, "Initialized")["status"], "False");
    let mut memory = Memory::default();
    let trouble = Waiting { reason: "ErrImagePull", message: "not found".into() };
    memory.containers.entry("a".into()).or_default().waiting = Some(trouble);
    let failed = status(&plain, &seen(), &memory, None);
    assert_eq!(reason(&failed), "ErrImagePull");
    assert_eq!(failed["phase"], "Pending");
}

#[test]
fn a_finished_pod_shows_its_outcome() {
    let never = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}));
    let none = Memory::default();
    let good = status(&never, &with(ended(0), 0), &none, None);
    assert_eq!(good["phase"], "Succeeded");
    assert_eq!(good["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    assert_eq!(condition_of(&good, "Ready")["reason"], "PodCompleted");
    assert_eq!(status(&never, &with(ended(1), 0), &none, None)["phase"], "Failed");
}

#[test]
fn transition_times_change_only_with_the_status() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let running = with(Life::Running { since: at(1) }, 0);
    let mut before = status(&pod, &running, &ready(), None);
    for condition in before["conditions"].as_array_mut().unwrap() {
        condition["lastTransitionTime"] = "2020-01-01T00:00:00Z".into();
    }
    let after = status(&pod, &running, &ready(), Some(&before));
    assert_eq!(after, before);
    let unready = status(&pod, &running, &Memory::default(), Some(&before));
    assert_ne!(condition_of(&unready, "Ready")["lastTransitionTime"], "2020-01-01T00:00:00Z");
    assert_eq!(condition_of(&unready, "PodScheduled")["lastTransitionTime"], "2020-01-01T00:00:00Z");
}

#[test]
fn classes_of_service() {
    let class = |resources: Value| {
        qos_class(pod(json!({"containers": [{"name": "a", "resources": resources}]})).spec.as_ref().unwrap())
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
    assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
}

#[test]
fn what_the_runtime_has_forgotten_of_a_pod_that_ended_is_told_as_the_object_tells_it() {
    let mut pod = pod(json!({"restartPolicy": "Never", "containers": [
        {"name": "a", "image": "x"}, {"name": "b", "image": "x"}]}));
    let terminated = json!({"exitCode": 3, "reason": "Error", "containerID": "containerd://old"});
    pod.status = serde_json::from_value(json!({
        "phase": "Failed",
        "reason": "Evicted",
        "message": "the node was low on memory",
        "containerStatuses": [{"name": "a", "image": "x", "imageID": "", "ready": false, "restartCount": 2,
            "state": {"terminated": terminated}}],
    }))
    .unwrap();
    let before = json!({"message": "the node was low on memory"});
    let status = status(&pod, &Seen::default(), &Memory::default(), Some(&before));
    assert_eq!(status["phase"], "Failed");
    assert_eq!(status.get("message"), None, "the object's words stay");
    assert_eq!(status["containerStatuses"][0]["restartCount"], 2);
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    assert_eq!(status["containerStatuses"][1]["state"]["terminated"]["reason"], "ContainerStatusUnknown");
}
