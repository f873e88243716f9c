//! The decisions of `state.rs`, one situation each.

use super::super::seen::{Retry, Sandbox};
use super::*;
use serde_json::{Value, json};

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn simple(policy: &str) -> Pod {
    pod(json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "x"}]}))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn sandbox() -> Seen {
    let sandbox = Sandbox { id: "s".into(), ready: true, attempt: 0, ips: vec!["10.0.0.2".into()] };
    Seen { sandbox: Some(sandbox), ..Seen::default() }
}

fn instance(attempt: u32, life: Life) -> Instance {
    Instance {
        id: format!("c{attempt}"),
        sandbox: "s".into(),
        attempt,
        life,
        image_ref: String::new(),
        hash: String::new(),
        ours: true,
        last_words: None,
        last: None,
    }
}

fn exited(code: i32, started: i64, finished: i64) -> Life {
    Life::Exited(Ended {
        id: "c".into(),
        exit_code: code,
        reason: String::new(),
        message: String::new(),
        started: Some(at(started)),
        finished: at(finished),
    })
}

fn with(name: &str, instance: Instance) -> Seen {
    let mut seen = sandbox();
    seen.containers.insert(name.into(), instance);
    seen
}

fn start(name: &str, attempt: u32) -> Vec<Action> {
    vec![Action::Start { name: name.into(), attempt }]
}

#[test]
fn a_new_pod_gets_a_sandbox_then_its_containers() {
    let pod = simple("Always");
    let first = plan(&pod, &Seen::default(), &Memory::default(), None, at(0));
    assert_eq!(first.actions, [Action::RunSandbox { attempt: 0 }]);
    let second = plan(&pod, &sandbox(), &Memory::default(), None, at(0));
    assert_eq!(second.actions, start("a", 0));
}

#[test]
fn a_running_pod_needs_nothing() {
    let seen = with("a", instance(0, Life::Running { since: at(0) }));
    assert_eq!(plan(&simple("Always"), &seen, &Memory::default(), None, at(1)), Plan::default());
}

#[test]
fn the_first_crash_restarts_at_once_and_the_second_waits() {
    let pod = simple("Always");
    let first = with("a", instance(0, exited(1, 0, 1)));
    assert_eq!(plan(&pod, &first, &Memory::default(), None, at(1)).actions, start("a", 1));
    let second = with("a", instance(1, exited(1, 2, 3)));
    let mut memory = Memory::default();
    memory.containers.entry("a".into()).or_default().crash_delay = FIRST_DELAY;
    let waiting = plan(&pod, &second, &memory, None, at(4));
    assert_eq!(waiting, Plan { actions: vec![], again_at: Some(at(13)) });
    assert_eq!(plan(&pod, &second, &memory, None, at(13)).actions, start("a", 2));
}

#[test]
fn a_forgotten_back_off_goes_by_the_number_of_attempts() {
    let seen = with("a", instance(3, exited(1, 0, 1)));
    let waiting = plan(&simple("Always"), &seen, &Memory::default(), None, at(2));
    assert_eq!(waiting.again_at, Some(at(41)));
}

#[test]
fn a_long_run_ends_the_back_off() {
    let seen = with("a", instance(5, exited(1, 0, 601)));
    assert_eq!(plan(&simple("Always"), &seen, &Memory::default(), None, at(601)).actions, start("a", 6));
}

#[test]
fn policies_decide_who_runs_again() {
    let ok = with("a", instance(0, exited(0, 0, 1)));
    let bad = with("a", instance(0, exited(2, 0, 1)));
    let none = Memory::default();
    assert_eq!(plan(&simple("OnFailure"), &bad, &none, None, at(1)).actions, start("a", 1));
    assert_eq!(plan(&simple("OnFailure"), &ok, &none, None, at(1)).actions, [Action::StopSandbox]);
    assert_eq!(plan(&simple("Never"), &bad, &none, None, at(1)).actions, [Action::StopSandbox]);
    assert_eq!(outcome(&simple("Never"), &bad, None, at(1)), Some(Outcome::Failed));
    assert_eq!(outcome(&simple("OnFailure"), &ok, None, at(1)), Some(Outcome::Succeeded));
    assert_eq!(outcome(&simple("OnFailure"), &bad, None, at(1)), None);
}

#[test]
fn a_finished_pod_does_not_come_back_after_a_reboot() {
    let mut seen = with("a", instance(0, exited(0, 0, 1)));
    seen.sandbox.as_mut().unwrap().ready = false;
    assert_eq!(plan(&simple("Never"), &seen, &Memory::default(), None, at(9)), Plan::default());
}

#[test]
fn a_lost_sandbox_is_made_again_and_its_containers_start_without_waiting() {
    let mut seen = with("a", instance(4, exited(255, 0, 1)));
    seen.sandbox.as_mut().unwrap().ready = false;
    let pod = simple("Always");
    let first = plan(&pod, &seen, &Memory::default(), None, at(2));
    assert_eq!(first.actions, [Action::RunSandbox { attempt: 1 }]);
    seen.sandbox = Some(Sandbox { id: "s2".into(), ready: true, attempt: 1, ips: vec![] });
    assert_eq!(plan(&pod, &seen, &Memory::default(), None, at(2)).actions, start("a", 5));
}

#[test]
fn init_containers_run_one_after_the_other_before_the_rest() {
    let pod = pod(json!({"initContainers": [{"name": "i1"}, {"name": "i2"}], "containers": [{"name": "a"}]}));
    let none = Memory::default();
    assert_eq!(plan(&pod, &sandbox(), &none, None, at(0)).actions, start("i1", 0));
    let mut seen = with("i1", instance(0, Life::Running { since: at(0) }));
    assert!(plan(&pod, &seen, &none, None, at(1)).actions.is_empty());
    seen.containers.insert("i1".into(), instance(0, exited(0, 0, 1)));
    assert_eq!(plan(&pod, &seen, &none, None, at(1)).actions, start("i2", 0));
    seen.containers.insert("i2".into(), instance(0, exited(0, 1, 2)));
    assert_eq!(plan(&pod, &seen, &none, None, at(2)).actions, start("a", 0));
    // Init containers that the runtime has forgotten are not run again beside a main container.
    let running = with("a", instance(0, Life::Running { since: at(3) }));
    assert!(plan(&pod, &running, &none, None, at(4)).actions.is_empty());
}

#[test]
fn a_sidecar_holds_the_rest_back_until_it_has_started() {
    let pod = pod(json!({
        "initContainers": [{"name": "side", "restartPolicy": "Always"}], "containers": [{"name": "a"}],
    }));
    let seen = with("side", instance(0, Life::Running { since: at(0) }));
    let mut memory = Memory::default();
    assert!(plan(&pod, &seen, &memory, None, at(1)).actions.is_empty());
    memory.containers.entry("side".into()).or_default().started = true;
    assert_eq!(plan(&pod, &seen, &memory, None, at(1)).actions, start("a", 0));
}

#[test]
fn an_unhealthy_or_changed_container_is_replaced() {
    let pod = simple("Always");
    let mut seen = with("a", instance(0, Life::Running { since: at(0) }));
    let mut memory = Memory::default();
    memory.containers.entry("a".into()).or_default().unhealthy = Some("no answer".into());
    let stop = |why| vec![Action::Stop { name: "a".into(), id: "c0".into(), why }];
    assert_eq!(plan(&pod, &seen, &memory, None, at(1)).actions, stop(Why::Unhealthy));
    let spec = pod.spec.as_ref().unwrap();
    seen.containers.get_mut("a").unwrap().hash = hash(&spec.containers[0]);
    assert!(plan(&pod, &seen, &Memory::default(), None, at(1)).actions.is_empty());
    seen.containers.get_mut("a").unwrap().hash = "other".into();
    assert_eq!(plan(&pod, &seen, &Memory::default(), None, at(1)).actions, stop(Why::Changed));
}

#[test]
fn hashes_are_those_that_a_genuine_kubelet_writes() {
    // As edgecore 1.23.1 noted them on its containers.
    for (name, noted) in [("c", "900e8f41"), ("d", "a83f047a"), ("i", "3a018711")] {
        let pod =
            pod(json!({"containers": [{"name": name, "image": "kedge.local/busybox:1", "command": ["x"]}]}));
        assert_eq!(hash(&pod.spec.as_ref().unwrap().containers[0]), noted);
    }
}

#[test]
fn a_deadline_ends_the_pod() {
    let pod = pod(json!({"activeDeadlineSeconds": 5, "containers": [{"name": "a"}]}));
    let seen = with("a", instance(0, Life::Running { since: at(0) }));
    let none = Memory::default();
    assert_eq!(plan(&pod, &seen, &none, Some(at(0)), at(1)).again_at, Some(at(5)));
    let stop = Action::Stop { name: "a".into(), id: "c0".into(), why: Why::Finished };
    assert_eq!(plan(&pod, &seen, &none, Some(at(0)), at(5)).actions, [stop]);
}

#[test]
fn a_failed_start_is_tried_again_only_when_due() {
    let pod = simple("Always");
    let mut memory = Memory::default();
    memory.containers.entry("a".into()).or_default().retry.failed(at(0));
    assert_eq!(plan(&pod, &sandbox(), &memory, None, at(1)).again_at, Some(at(10)));
    assert_eq!(plan(&pod, &sandbox(), &memory, None, at(10)).actions, start("a", 0));
    memory.containers.entry("a".into()).or_default().pulling = true;
    assert_eq!(plan(&pod, &sandbox(), &memory, None, at(10)), Plan::default());
}

#[test]
fn a_pod_whose_object_is_final_never_runs_again() {
    for (phase, end) in [("Failed", Outcome::Failed), ("Succeeded", Outcome::Succeeded)] {
        let mut pod = simple("Always");
        pod.status = serde_json::from_value(json!({"phase": phase})).unwrap();
        assert_eq!(outcome(&pod, &Seen::default(), None, at(1)), Some(end));
        assert_eq!(plan(&pod, &Seen::default(), &Memory::default(), None, at(1)), Plan::default());
        let running = with("a", instance(0, Life::Running { since: at(0) }));
        let stop = Action::Stop { name: "a".into(), id: "c0".into(), why: Why::Finished };
        assert_eq!(plan(&pod, &running, &Memory::default(), None, at(1)).actions, [stop]);
        assert_eq!(plan(&pod, &sandbox(), &Memory::default(), None, at(1)).actions, [Action::StopSandbox]);
    }
}

#[test]
fn a_clock_that_is_set_back_keeps_nothing_from_starting() {
    let day = 86_400;
    let seen = with("a", instance(1, exited(1, day, day + 5)));
    let pod = simple("Always");
    assert_eq!(plan(&pod, &seen, &Memory::default(), None, at(10)).actions, start("a", 2));
    let ahead = plan(&pod, &seen, &Memory::default(), None, at(day + 5));
    assert_eq!(ahead, Plan { actions: vec![], again_at: Some(at(day + 15)) });

    let mut retry = Retry::default();
    retry.failed(at(day));
    assert!(retry.is_due(at(10)) && !retry.is_due(at(day)) && retry.is_due(at(day + 10)));
    for _ in 0..9 {
        retry.failed(at(day));
    }
    assert!(!retry.is_due(at(day)), "the longest wait is waited for");
}
