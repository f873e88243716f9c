//! Computes a pod's status as Kubernetes shows it: a pure function of the specification, what the runtime shows, what
//! the worker remembers, and the status before (whose transition times are kept). Sends nothing.

use super::seen::{Ended, Instance, Life, Memory, Remembered, Seen};
use super::state::{self, Outcome, Restarts};
use crate::base::rfc3339;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use serde_json::{Map, Value, json};

/// Everything that the status depends on.
pub(super) struct Input<'a> {
    pub pod: &'a Pod,
    pub seen: &'a Seen,
    pub memory: &'a Memory,
    pub host_ip: &'a str,
    /// Scheme of container ids, such as `containerd`.
    pub runtime: &'a str,
    pub started: Timestamp,
    pub previous: Option<&'a Value>,
    pub now: Timestamp,
}

/// The status object.
pub(super) fn compute(input: &Input<'_>) -> Value {
    let Some(spec) = &input.pod.spec else { return json!({}) };
    let outcome = state::outcome(input.pod, input.seen, Some(input.started), input.now);
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let init_statuses: Vec<Value> =
        init.iter().map(|container| container_status(input, spec, container, Place::Init, outcome)).collect();
    let statuses: Vec<Value> = spec
        .containers
        .iter()
        .map(|container| container_status(input, spec, container, Place::Main, outcome))
        .collect();
    let initialized = is_initialized(input, spec);
    let phase = phase(spec, &statuses, initialized, outcome);
    let mut status = Map::new();
    status.insert("phase".into(), phase.into());
    status.insert("startTime".into(), rfc3339(input.started).into());
    status.insert("qosClass".into(), qos_class(spec).into());
    if !input.host_ip.is_empty() {
        status.insert("hostIP".into(), input.host_ip.into());
        status.insert("hostIPs".into(), json!([{"ip": input.host_ip}]));
    }
    addresses(input, spec, &mut status);
    if outcome == Some(Outcome::DeadlineExceeded) {
        status.insert("reason".into(), "DeadlineExceeded".into());
        status
            .insert("message".into(), "Pod was active on the node longer than the specified deadline".into());
    } else if let Some(trouble) = &input.memory.trouble {
        status.insert("message".into(), trouble.clone().into());
    } else if state::told(input.pod).is_none()
        && input.previous.is_some_and(|previous| previous.get("message").is_some_and(|m| !m.is_null()))
    {
        // A patch removes only what it names.
        status.insert("message".into(), Value::Null);
    }
    status.insert("conditions".into(), conditions(input, &statuses, initialized, phase));
    if !init_statuses.is_empty() {
        status.insert("initContainerStatuses".into(), init_statuses.into());
    }
    status.insert("containerStatuses".into(), statuses.into());
    Value::Object(status)
}

/// The text of the strategic-merge patch that carries a status.
pub(super) fn patch(uid: &str, status: &Value) -> String {
    json!({"metadata": {"uid": uid}, "status": status}).to_string()
}

fn addresses(input: &Input<'_>, spec: &PodSpec, status: &mut Map<String, Value>) {
    let host = [input.host_ip.to_owned()];
    let ips: &[String] = match &input.seen.sandbox {
        Some(sandbox) if spec.host_network == Some(true) && sandbox.ready => &host,
        Some(sandbox) => &sandbox.ips,
        None => &[],
    };
    let Some(first) = ips.first().filter(|ip| !ip.is_empty()) else { return };
    status.insert("podIP".into(), first.clone().into());
    let mut all: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    if input.seen.sandbox.as_ref().is_some_and(|sandbox| sandbox.attempt > 0) {
        // The list is merged by address: without this the addresses of earlier sandboxes would stay.
        all.push(json!({"$patch": "replace"}));
    }
    status.insert("podIPs".into(), all.into());
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Init,
    Main,
}

fn is_initialized(input: &Input<'_>, spec: &PodSpec) -> bool {
    let told = input.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    if state::told(input.pod).is_some() && told.iter().any(|c| c.type_ == "Initialized" && c.status == "True")
    {
        return true;
    }
    if spec.containers.iter().any(|container| input.seen.current(&container.name).is_some()) {
        return true;
    }
    spec.init_containers.iter().flatten().all(|container| match input.seen.containers.get(&container.name) {
        Some(instance) if state::is_sidecar(container) => {
            instance.is_running() && known(input, &container.name).is_some_and(|known| known.started)
        }
        Some(instance) => instance.ended().is_some_and(|ended| ended.exit_code == 0),
        None => false,
    })
}

fn known<'a>(input: &'a Input<'_>, name: &str) -> Option<&'a Remembered> {
    input.memory.containers.get(name)
}

fn container_status(
    input: &Input<'_>,
    spec: &PodSpec,
    container: &Container,
    place: Place,
    outcome: Option<Outcome>,
) -> Value {
    let instance = input.seen.containers.get(&container.name);
    if instance.is_none()
        && outcome.is_some()
        && let Some(told) = told_of(input.pod, &container.name, place)
    {
        return told;
    }
    let remembered = known(input, &container.name);
    let id = |id: &str| format!("{}://{id}", input.runtime);
    let sidecar = place == Place::Init && state::is_sidecar(container);
    let running = instance.is_some_and(Instance::is_running);
    let started = running && remembered.is_some_and(|r| r.started);
    let ready = match place {
        Place::Init if !sidecar => {
            instance.and_then(Instance::ended).is_some_and(|ended| ended.exit_code == 0)
        }
        _ => running && started && remembered.is_some_and(|r| r.ready),
    };
    let (state, last) = states(input, spec, container, place, outcome);
    let mut status = Map::new();
    status.insert("name".into(), container.name.clone().into());
    status.insert("image".into(), container.image.clone().unwrap_or_default().into());
    status.insert("imageID".into(), instance.map_or("", |i| i.image_ref.as_str()).into());
    if let Some(instance) = instance {
        status.insert("containerID".into(), id(&instance.id).into());
    }
    status.insert("restartCount".into(), instance.map_or(0, |instance| instance.attempt).into());
    status.insert("ready".into(), ready.into());
    status.insert("started".into(), started.into());
    status.insert("state".into(), state);
    status.insert(
        "lastState".into(),
        last.map_or_else(|| json!({}), |e| json!({"terminated": terminated(e, &id(&e.id))})),
    );
    Value::Object(status)
}

/// How a container ended that the runtime has forgotten, as the object tells it.
fn told_of(pod: &Pod, name: &str, place: Place) -> Option<Value> {
    let status = pod.status.as_ref()?;
    let list = match place {
        Place::Init => status.init_container_statuses.as_ref()?,
        Place::Main => status.container_statuses.as_ref()?,
    };
    let told = list.iter().find(|told| told.name == name)?;
    told.state.as_ref()?.terminated.as_ref()?;
    serde_json::to_value(told).ok()
}

/// The present state and how the attempt before it ended.
fn states<'a>(
    input: &'a Input<'_>,
    spec: &PodSpec,
    container: &Container,
    place: Place,
    outcome: Option<Outcome>,
) -> (Value, Option<&'a Ended>) {
    let instance = input.seen.containers.get(&container.name);
    let remembered = known(input, &container.name);
    let waiting = |reason: &str, message: &str| {
        let mut waiting = json!({"reason": reason});
        if !message.is_empty() {
            waiting["message"] = message.into();
        }
        json!({ "waiting": waiting })
    };
    let before = instance.and_then(|instance| instance.last.as_deref());
    if let Some(instance) = instance
        && let Life::Running { since } = &instance.life
    {
        return (json!({"running": {"startedAt": rfc3339(*since)}}), before);
    }
    let ended = instance.and_then(Instance::ended);
    if let Some(trouble) = remembered.and_then(|r| r.waiting.as_ref()).filter(|_| outcome.is_none()) {
        return (waiting(trouble.reason, &trouble.message), ended.or(before));
    }
    if let (Some(instance), Some(ended)) = (instance, ended) {
        let policy = match (place, state::restarts(spec)) {
            (Place::Init, _) if state::is_sidecar(container) => Restarts::Always,
            (Place::Init, Restarts::Always) => Restarts::OnFailure,
            (_, policy) => policy,
        };
        let comes_back = match policy {
            Restarts::Always => true,
            Restarts::OnFailure => ended.exit_code != 0,
            Restarts::Never => false,
        };
        let due = state::restart_at(instance, ended, remembered);
        if comes_back
            && outcome.is_none()
            && due > input.now
            && input.pod.metadata.deletion_timestamp.is_none()
        {
            let delay = state::crash_delay(instance, ended, remembered).as_secs();
            let message = format!(
                "back-off {delay}s restarting failed container={} pod={}_{}({})",
                container.name,
                input.pod.metadata.name.as_deref().unwrap_or_default(),
                input.pod.metadata.namespace.as_deref().unwrap_or_default(),
                input.pod.metadata.uid.as_deref().unwrap_or_default(),
            );
            return (waiting("CrashLoopBackOff", &message), Some(ended));
        }
        let id = format!("{}://{}", input.runtime, ended.id);
        return (json!({"terminated": terminated(ended, &id)}), before);
    }
    if state::told(input.pod).is_some() {
        let lost = "The container could not be located when the pod was terminated";
        let lost = json!({"exitCode": 137, "reason": "ContainerStatusUnknown", "message": lost});
        return (json!({ "terminated": lost }), before);
    }
    let has_init = spec.init_containers.as_ref().is_some_and(|init| !init.is_empty());
    let held_back = place == Place::Main && has_init && !is_initialized(input, spec);
    (waiting(if held_back { "PodInitializing" } else { "ContainerCreating" }, ""), before)
}

fn terminated(ended: &Ended, id: &str) -> Value {
    let mut value = json!({
        "exitCode": ended.exit_code,
        "reason": ended.reason,
        "finishedAt": rfc3339(ended.finished),
        "containerID": id,
    });
    if let Some(started) = ended.started {
        value["startedAt"] = rfc3339(started).into();
    }
    if !ended.message.is_empty() {
        value["message"] = ended.message.clone().into();
    }
    value
}

fn phase(spec: &PodSpec, statuses: &[Value], initialized: bool, outcome: Option<Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Succeeded) => return "Succeeded",
        Some(Outcome::Failed | Outcome::DeadlineExceeded) => return "Failed",
        None => {}
    }
    if !initialized && spec.init_containers.as_ref().is_some_and(|init| !init.is_empty()) {
        return "Pending";
    }
    let has_run = |status: &Value| {
        let state = &status["state"];
        state.get("running").is_some()
            || state.get("terminated").is_some()
            || status.pointer("/lastState/terminated").is_some()
    };
    if statuses.iter().all(has_run) { "Running" } else { "Pending" }
}

fn conditions(input: &Input<'_>, statuses: &[Value], initialized: bool, phase: &str) -> Value {
    let unready: Vec<&str> = statuses
        .iter()
        .filter(|status| status["ready"] != Value::Bool(true))
        .filter_map(|status| status["name"].as_str())
        .collect();
    let sandbox_ready = input.seen.sandbox.as_ref().is_some_and(|sandbox| sandbox.ready);
    let unready_reason = match phase {
        "Succeeded" => Some(("PodCompleted", String::new())),
        "Failed" => Some(("PodFailed", String::new())),
        _ if unready.is_empty() => None,
        _ => Some(("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))),
    };
    let uninitialized = match (initialized, phase) {
        (true, _) => None,
        (_, "Succeeded") => None,
        _ => Some(("ContainersNotInitialized", String::new())),
    };
    let no_sandbox = (!sandbox_ready).then(|| ("", String::new()));
    let gates = failing_gate(input);
    let ready = unready_reason.clone().or(gates);
    let entries = [
        ("PodReadyToStartContainers", no_sandbox),
        ("Initialized", uninitialized),
        ("Ready", ready),
        ("ContainersReady", unready_reason),
        ("PodScheduled", None),
    ];
    let list = entries.into_iter().map(|(kind, problem)| condition(input, kind, problem));
    Value::Array(list.collect())
}

/// A readiness gate that is not met: the condition belongs to somebody else and is read from the object.
fn failing_gate(input: &Input<'_>) -> Option<(&'static str, String)> {
    let gates = input.pod.spec.as_ref()?.readiness_gates.as_ref()?;
    let conditions =
        input.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let failing = gates
        .iter()
        .find(|gate| !conditions.iter().any(|c| c.type_ == gate.condition_type && c.status == "True"))?;
    Some(("ReadinessGatesNotReady", format!("the condition {} is not met", failing.condition_type)))
}

fn condition(input: &Input<'_>, kind: &str, problem: Option<(&str, String)>) -> Value {
    let status = if problem.is_none() { "True" } else { "False" };
    let before = input
        .previous
        .and_then(|previous| previous.get("conditions"))
        .and_then(Value::as_array)
        .and_then(|list| list.iter().find(|c| c["type"] == kind && c["status"] == status));
    let since = before
        .and_then(|condition| condition["lastTransitionTime"].as_str().map(str::to_owned))
        .unwrap_or_else(|| rfc3339(input.now));
    let mut value =
        json!({"type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": since});
    // Named even when empty: a patch keeps what it does not name.
    let (reason, message) = problem.unwrap_or(("", String::new()));
    value["reason"] = if reason.is_empty() { Value::Null } else { reason.into() };
    value["message"] = if message.is_empty() { Value::Null } else { message.into() };
    value
}

/// Kubernetes' class of service from requests and limits.
pub(super) fn qos_class(spec: &PodSpec) -> &'static str {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let (mut any, mut guaranteed) = (false, true);
    for container in containers {
        let amount = |limits: bool, name: &str| -> Option<String> {
            let resources = container.resources.as_ref()?;
            let table = if limits { resources.limits.as_ref() } else { resources.requests.as_ref() };
            table?.get(name).map(|quantity| quantity.0.clone())
        };
        for name in ["cpu", "memory"] {
            let (limit, request) = (amount(true, name), amount(false, name));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
