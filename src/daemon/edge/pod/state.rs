//! Decides what to do next for a pod: a pure function of its specification, what the runtime shows, what the worker
//! remembers, and the time. The worker carries the actions out and asks again. Nothing here waits or calls anyone.

use super::seen::{Ended, FIRST_DELAY, Instance, LONGEST_DELAY, Life, Memory, Remembered, Seen};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};
use std::time::Duration;

/// A container that ran this long starts its back-off anew when it ends.
const CALM: Duration = Duration::from_secs(600);

/// One deed of the worker.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Set volumes and the sandbox up; an older sandbox is stopped first.
    RunSandbox {
        attempt: u32,
    },
    /// End what still runs and give the network back; dead containers stay for their logs.
    StopSandbox,
    Start {
        name: String,
        attempt: u32,
    },
    Stop {
        name: String,
        id: String,
        why: Why,
    },
}

/// Why a running container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Unhealthy,
    Changed,
    Finished,
}

/// What to do now, and when to think again although nothing happens.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub actions: Vec<Action>,
    pub again_at: Option<Timestamp>,
}

/// When a container runs again after it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restarts {
    Always,
    OnFailure,
    Never,
}

/// What is to be done with one container.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Start { attempt: u32 },
    Wait { until: Option<Timestamp> },
    Keep,
    Replace(Why),
    Done { ok: bool },
}

pub(super) fn restarts(spec: &PodSpec) -> Restarts {
    match spec.restart_policy.as_deref() {
        Some("Never") => Restarts::Never,
        Some("OnFailure") => Restarts::OnFailure,
        _ => Restarts::Always,
    }
}

/// Whether an init container keeps running beside the others.
pub(super) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// How a pod has ended for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Succeeded,
    Failed,
    DeadlineExceeded,
}

/// The end that the object itself tells: a phase that Kubernetes calls final never changes again, whatever the runtime
/// still knows of the pod.
pub(super) fn told(pod: &Pod) -> Option<Outcome> {
    pod.status.as_ref().and_then(told_by)
}

/// The end that a status tells.
pub(super) fn told_by(status: &PodStatus) -> Option<Outcome> {
    match status.phase.as_deref()? {
        "Succeeded" => Some(Outcome::Succeeded),
        "Failed" => Some(Outcome::Failed),
        _ => None,
    }
}

/// The pod's end, if nothing of it will run again.
pub(super) fn outcome(pod: &Pod, seen: &Seen, started: Option<Timestamp>, now: Timestamp) -> Option<Outcome> {
    if let Some(told) = told(pod) {
        return Some(told);
    }
    let spec = pod.spec.as_ref()?;
    let deadline =
        spec.active_deadline_seconds.and_then(|seconds| started?.saturating_add(whole(seconds)).ok());
    if deadline.is_some_and(|deadline| deadline <= now) {
        return Some(Outcome::DeadlineExceeded);
    }
    let policy = restarts(spec);
    if policy == Restarts::Always {
        return None;
    }
    let ended = |container: &Container| seen.containers.get(&container.name).and_then(gone);
    let init = spec.init_containers.iter().flatten().filter(|container| !is_sidecar(container));
    let init_failed = init.filter_map(ended).any(|code| code != 0);
    if policy == Restarts::Never && init_failed {
        return Some(Outcome::Failed);
    }
    let mut ok = true;
    for container in &spec.containers {
        let code = ended(container)?;
        ok &= code == 0;
    }
    match (ok, policy) {
        (true, _) => Some(Outcome::Succeeded),
        (false, Restarts::Never) => Some(Outcome::Failed),
        (false, _) => None,
    }
}

/// The exit code of a container that is over.
fn gone(instance: &Instance) -> Option<i32> {
    instance.ended().map(|ended| ended.exit_code)
}

fn whole(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The plan for a pod that is wanted; one that is being deleted is torn down by the worker instead.
pub(super) fn plan(
    pod: &Pod,
    seen: &Seen,
    memory: &Memory,
    started: Option<Timestamp>,
    now: Timestamp,
) -> Plan {
    let Some(spec) = &pod.spec else { return Plan::default() };
    let deadline =
        spec.active_deadline_seconds.and_then(|seconds| started?.saturating_add(whole(seconds)).ok());
    let mut plan = if outcome(pod, seen, started, now).is_some() {
        finish(seen)
    } else {
        match seen.sandbox.as_ref().filter(|sandbox| sandbox.ready) {
            None if memory.retry.is_due(now) => {
                let attempt = seen.sandbox.as_ref().map_or(0, |sandbox| sandbox.attempt + 1);
                Plan { actions: vec![Action::RunSandbox { attempt }], again_at: None }
            }
            None => Plan { actions: Vec::new(), again_at: memory.retry.at },
            Some(_) => containers(spec, seen, memory, now),
        }
    };
    plan.again_at = earlier(plan.again_at, deadline.filter(|deadline| *deadline > now));
    plan
}

fn finish(seen: &Seen) -> Plan {
    let running = seen.containers.iter().filter(|(_, instance)| instance.is_running());
    let mut actions: Vec<Action> = running
        .map(|(name, instance)| Action::Stop {
            name: name.clone(),
            id: instance.id.clone(),
            why: Why::Finished,
        })
        .collect();
    if actions.is_empty() && seen.sandbox.as_ref().is_some_and(|sandbox| sandbox.ready) {
        actions.push(Action::StopSandbox);
    }
    Plan { actions, again_at: None }
}

fn containers(spec: &PodSpec, seen: &Seen, memory: &Memory, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let policy = restarts(spec);
    // Once a main container exists in this sandbox, initialisation is over and is not looked at again.
    let initialized = spec.containers.iter().any(|container| seen.current(&container.name).is_some());
    for container in spec.init_containers.iter().flatten() {
        let sidecar = is_sidecar(container);
        if initialized && !sidecar {
            continue;
        }
        let policy = match (sidecar, policy) {
            (true, _) => Restarts::Always,
            (false, Restarts::Never) => Restarts::Never,
            // An init container that succeeded is done even in a pod that always restarts.
            (false, _) => Restarts::OnFailure,
        };
        let instance =
            if sidecar { seen.containers.get(&container.name) } else { seen.current(&container.name) };
        let verdict = judge(container, policy, instance, seen, memory, now);
        let passed = match &verdict {
            Verdict::Keep if sidecar => remembered(memory, &container.name).is_some_and(|r| r.started),
            Verdict::Done { ok } => *ok,
            _ => false,
        };
        plan.add(container, instance, verdict);
        if !passed && !initialized {
            return plan;
        }
    }
    for container in &spec.containers {
        let instance = seen.containers.get(&container.name);
        let verdict = judge(container, policy, instance, seen, memory, now);
        plan.add(container, instance, verdict);
    }
    plan
}

impl Plan {
    fn add(&mut self, container: &Container, instance: Option<&Instance>, verdict: Verdict) {
        let name = container.name.clone();
        match (verdict, instance) {
            (Verdict::Start { attempt }, _) => self.actions.push(Action::Start { name, attempt }),
            (Verdict::Replace(why), Some(instance)) => {
                self.actions.push(Action::Stop { name, id: instance.id.clone(), why });
            }
            (Verdict::Wait { until }, _) => self.again_at = earlier(self.again_at, until),
            (Verdict::Keep | Verdict::Done { .. } | Verdict::Replace(_), _) => {}
        }
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn remembered<'a>(memory: &'a Memory, name: &str) -> Option<&'a Remembered> {
    memory.containers.get(name)
}

fn judge(
    container: &Container,
    policy: Restarts,
    instance: Option<&Instance>,
    seen: &Seen,
    memory: &Memory,
    now: Timestamp,
) -> Verdict {
    let known = remembered(memory, &container.name);
    if let Some(instance) = instance.filter(|instance| instance.is_running()) {
        let changed = !instance.hash.is_empty() && instance.hash != hash(container);
        return match known.and_then(|known| known.unhealthy.as_ref()) {
            Some(_) => Verdict::Replace(Why::Unhealthy),
            None if changed => Verdict::Replace(Why::Changed),
            None => Verdict::Keep,
        };
    }
    let due = due(policy, instance, seen, known, now);
    match (due, known) {
        (Verdict::Start { .. }, Some(known)) if known.pulling => Verdict::Wait { until: None },
        (Verdict::Start { .. }, Some(known)) if !known.retry.is_due(now) => {
            Verdict::Wait { until: known.retry.at }
        }
        (verdict, _) => verdict,
    }
}

/// For a container that is not running: whether and when it starts.
fn due(
    policy: Restarts,
    instance: Option<&Instance>,
    seen: &Seen,
    known: Option<&Remembered>,
    now: Timestamp,
) -> Verdict {
    let Some(instance) = instance else { return Verdict::Start { attempt: 0 } };
    let next = Verdict::Start { attempt: instance.attempt + 1 };
    match &instance.life {
        // Made but never started: the daemon ended in between. The same attempt is made again.
        Life::Created => Verdict::Start { attempt: instance.attempt },
        Life::Running { .. } => Verdict::Keep,
        Life::Exited(ended) => {
            let again = match policy {
                Restarts::Always => true,
                Restarts::OnFailure => ended.exit_code != 0,
                Restarts::Never => false,
            };
            if !again {
                return Verdict::Done { ok: ended.exit_code == 0 };
            }
            let lost_with_sandbox =
                seen.sandbox.as_ref().is_some_and(|sandbox| sandbox.id != instance.sandbox);
            let due = restart_at(instance, ended, known);
            // An end that is still to come was noted by a clock that has been set back since.
            if lost_with_sandbox || due <= now || ended.finished > now {
                next
            } else {
                Verdict::Wait { until: Some(due) }
            }
        }
    }
}

/// When a container that ended runs again.
pub(super) fn restart_at(instance: &Instance, ended: &Ended, known: Option<&Remembered>) -> Timestamp {
    ended.finished.saturating_add(crash_delay(instance, ended, known)).unwrap_or(Timestamp::MAX)
}

/// The wait after this end. A worker that has forgotten (the daemon was restarted) goes by the number of attempts.
pub(super) fn crash_delay(instance: &Instance, ended: &Ended, known: Option<&Remembered>) -> Duration {
    let ran = ended.started.map_or(Duration::ZERO, |started| {
        Duration::try_from(ended.finished.duration_since(started)).unwrap_or_default()
    });
    if ran >= CALM {
        return Duration::ZERO;
    }
    match known.map(|known| known.crash_delay) {
        Some(delay) if !delay.is_zero() => delay,
        _ if instance.attempt == 0 => Duration::ZERO,
        _ => FIRST_DELAY.saturating_mul(1 << (instance.attempt - 1).min(5)).min(LONGEST_DELAY),
    }
}

/// The hash of what a running container was made from: name and image, the rest cannot change while it runs. It is the
/// kubelet's own (since Kubernetes 1.31), so that each adopts the other's containers: 32-bit FNV-1a over Go's notation of
/// the bytes of `{"image":…,"name":…}`.
pub(super) fn hash(container: &Container) -> String {
    let made_from =
        serde_json::json!({"image": container.image.as_deref().unwrap_or_default(), "name": container.name});
    let bytes: Vec<String> = made_from.to_string().bytes().map(|byte| byte.to_string()).collect();
    let noted = format!("([]uint8)[{}]", bytes.join(" "));
    let hash =
        noted.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:x}")
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
