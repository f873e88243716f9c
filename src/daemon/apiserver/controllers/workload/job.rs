//! Jobs: pods until enough have succeeded, too many have failed, or the time is up.

use super::family::{
    OwnerKind, adopters, claimed, count, create_pods, delete_pods, delete_quietly, fields, pod_from,
    write_status,
};
use crate::base::{now, rfc3339};
use crate::daemon::apiserver::controllers::collections::{JOBS, PODS};
use crate::daemon::apiserver::controllers::read::{
    active, annotation, condition_is, controller_key, controller_of, deleting, key, list, name, number,
    plain_condition, ready, split, text, time,
};
use crate::daemon::apiserver::controllers::runner::{Controller, Next, Seen, World};
use crate::daemon::apiserver::local::Collection;
use crate::model::Status;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const KIND: OwnerKind = OwnerKind { api_version: "batch/v1", kind: "Job", component: "job-controller" };
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FIRST_RETRY_SECONDS: i64 = 10;
const LAST_RETRY_SECONDS: i64 = 360;

/// How a Job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Complete,
    TooManyFailures,
    TooLate,
}

#[derive(Debug, Default, PartialEq)]
struct Plan {
    /// Index of each new pod; `None` in Jobs without indexes.
    create: Vec<Option<i64>>,
    delete: Vec<Arc<Value>>,
    verdict: Option<Verdict>,
    /// Seconds until something changes by time alone.
    wait: Option<i64>,
}

fn index(pod: &Value) -> Option<i64> {
    annotation(pod, INDEX).parse().ok()
}

fn phase_is(pod: &Value, phase: &str) -> bool {
    pod["status"]["phase"] == phase
}

/// A pod that is being deleted before it succeeded counts as failed.
fn failed(pod: &Value) -> bool {
    phase_is(pod, "Failed") || deleting(pod) && !phase_is(pod, "Succeeded")
}

pub(super) fn over(job: &Value) -> bool {
    ["Complete", "Failed"].iter().any(|kind| condition_is(&job["status"], kind, "True"))
}

fn decide(job: &Value, pods: &[Arc<Value>], at: Timestamp) -> Plan {
    let spec = &job["spec"];
    let mut plan = Plan::default();
    let alive: Vec<&Arc<Value>> = pods.iter().filter(|pod| active(pod)).collect();
    if deleting(job) || over(job) {
        return plan;
    }
    if spec["suspend"] == true {
        plan.delete = alive.into_iter().cloned().collect();
        return plan;
    }
    let indexed = spec["completionMode"] == "Indexed";
    let succeeded = successes(pods, indexed);
    let failures = pods.iter().filter(|pod| phase_is(pod, "Failed")).count();
    let restarts: i64 = pods
        .iter()
        .filter(|_| spec["template"]["spec"]["restartPolicy"] == "OnFailure")
        .flat_map(|pod| list(&pod["status"]["containerStatuses"]))
        .map(|container| number(&container["restartCount"]))
        .sum();
    let failures = i64::try_from(failures).unwrap_or(i64::MAX);
    let limit = spec["backoffLimit"].as_i64().unwrap_or(6);
    let age = time(&job["status"]["startTime"]).map_or(0, |start| at.as_second() - start.as_second());
    let deadline = spec["activeDeadlineSeconds"].as_i64();
    let done = match spec["completions"].as_i64() {
        Some(completions) => i64::try_from(succeeded).unwrap_or(i64::MAX) >= completions,
        None => succeeded > 0 && alive.is_empty(),
    };
    plan.verdict = if failures.saturating_add(restarts) > limit {
        Some(Verdict::TooManyFailures)
    } else if deadline.is_some_and(|deadline| age >= deadline) {
        Some(Verdict::TooLate)
    } else if done {
        Some(Verdict::Complete)
    } else {
        None
    };
    if plan.verdict.is_some() {
        plan.delete = alive.into_iter().cloned().collect();
        return plan;
    }
    plan.wait = deadline.map(|deadline| deadline - age);
    let missing = missing_pods(spec, pods, &alive, succeeded);
    if missing.is_empty() {
        let surplus = alive.len().saturating_sub(usize::try_from(number(&spec["parallelism"])).unwrap_or(0));
        plan.delete = alive.into_iter().rev().take(surplus).cloned().collect();
        return plan;
    }
    match retry_wait(pods, failures, at) {
        Some(wait) => plan.wait = Some(plan.wait.map_or(wait, |earlier| earlier.min(wait))),
        None => plan.create = missing,
    }
    plan
}

fn successes(pods: &[Arc<Value>], indexed: bool) -> usize {
    let done = pods.iter().filter(|pod| phase_is(pod, "Succeeded"));
    if indexed { done.filter_map(|pod| index(pod)).collect::<BTreeSet<_>>().len() } else { done.count() }
}

fn missing_pods(
    spec: &Value,
    pods: &[Arc<Value>],
    alive: &[&Arc<Value>],
    succeeded: usize,
) -> Vec<Option<i64>> {
    let parallelism = usize::try_from(number(&spec["parallelism"])).unwrap_or(0);
    let completions = spec["completions"].as_u64().and_then(|number| usize::try_from(number).ok());
    let room = match completions {
        Some(completions) => parallelism.min(completions.saturating_sub(succeeded)),
        None if succeeded > 0 => 0,
        None => parallelism,
    };
    let room = room.saturating_sub(alive.len()).min(500);
    if spec["completionMode"] != "Indexed" {
        return vec![None; room];
    }
    let taken: BTreeSet<i64> = pods
        .iter()
        .filter(|pod| active(pod) || phase_is(pod, "Succeeded"))
        .filter_map(|pod| index(pod))
        .collect();
    let all = 0..i64::try_from(completions.unwrap_or(0)).unwrap_or(0);
    all.filter(|index| !taken.contains(index)).take(room).map(Some).collect()
}

/// Seconds until the next attempt after failures: ten, doubling with each.
fn retry_wait(pods: &[Arc<Value>], failures: i64, at: Timestamp) -> Option<i64> {
    let ended = pods.iter().filter(|pod| phase_is(pod, "Failed")).filter_map(|pod| end_of(pod)).max()?;
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(10);
    let wait = (FIRST_RETRY_SECONDS << doublings).min(LAST_RETRY_SECONDS);
    let left = ended.as_second() + wait - at.as_second();
    (left > 0).then_some(left)
}

fn end_of(pod: &Value) -> Option<Timestamp> {
    let ends = list(&pod["status"]["containerStatuses"]).iter();
    ends.filter_map(|container| time(&container["state"]["terminated"]["finishedAt"])).max()
}

fn pod_for(job: &Value, index: Option<i64>) -> Value {
    let mut pod = pod_from(job, KIND);
    let Some(index) = index else { return pod };
    pod["metadata"]["generateName"] = json!(format!("{}-{index}-", name(job)));
    for field in ["annotations", "labels"] {
        if !pod["metadata"][field].is_object() {
            pod["metadata"][field] = json!({});
        }
        pod["metadata"][field][INDEX] = json!(index.to_string());
    }
    pod["spec"]["hostname"] = json!(format!("{}-{index}", name(job)));
    let variable = json!({"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {
        "apiVersion": "v1", "fieldPath": format!("metadata.labels['{INDEX}']")}}});
    for field in ["containers", "initContainers"] {
        for container in pod["spec"].get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            let mut env = list(&container["env"]).to_vec();
            env.push(variable.clone());
            if let Some(container) = container.as_object_mut() {
                container.insert("env".to_owned(), Value::Array(env));
            }
        }
    }
    pod
}

fn status(job: &Value, pods: &[Arc<Value>], verdict: Option<Verdict>, at: Timestamp) -> Map<String, Value> {
    let old = &job["status"];
    let suspended = job["spec"]["suspend"] == true;
    let alive: Vec<&Arc<Value>> = pods.iter().filter(|pod| active(pod)).collect();
    let indexed = job["spec"]["completionMode"] == "Indexed";
    let start = match &old["startTime"] {
        Value::Null if suspended => Value::Null,
        Value::Null => json!(rfc3339(at)),
        start => start.clone(),
    };
    let mut conditions = list(&old["conditions"]).to_vec();
    let mut end = old["completionTime"].clone();
    let mut add = |kind: &str, reason: &str, message: &str| {
        let mut condition = plain_condition(kind, true, reason, message);
        for field in ["lastProbeTime", "lastTransitionTime"] {
            condition[field] = json!(rfc3339(at));
        }
        conditions.push(condition);
    };
    match verdict {
        Some(Verdict::Complete) => {
            let message = "Reached expected number of succeeded pods";
            add("SuccessCriteriaMet", "CompletionsReached", message);
            add("Complete", "CompletionsReached", message);
            end = json!(rfc3339(at));
        }
        Some(Verdict::TooManyFailures) => {
            let message = "Job has reached the specified backoff limit";
            add("FailureTarget", "BackoffLimitExceeded", message);
            add("Failed", "BackoffLimitExceeded", message);
        }
        Some(Verdict::TooLate) => {
            let message = "Job was active longer than specified deadline";
            add("FailureTarget", "DeadlineExceeded", message);
            add("Failed", "DeadlineExceeded", message);
        }
        None => {
            let was = condition_is(old, "Suspended", "True");
            if suspended && !was {
                add("Suspended", "JobSuspended", "Job suspended");
            } else if !suspended && was {
                conditions.retain(|condition| condition["type"] != "Suspended");
            }
        }
    }
    let ended = verdict.is_some() || over(job);
    let keep_most = |field: &str, now: usize| {
        let before = usize::try_from(number(&old[field])).unwrap_or(0);
        count(before.max(now))
    };
    let terminating = pods.iter().filter(|pod| deleting(pod) && !phase_is(pod, "Succeeded")).count();
    let completed: Vec<i64> = {
        let done: BTreeSet<i64> =
            pods.iter().filter(|pod| phase_is(pod, "Succeeded")).filter_map(|pod| index(pod)).collect();
        done.into_iter().collect()
    };
    fields([
        ("startTime", start),
        ("completionTime", end),
        ("active", if ended { Value::Null } else { count(alive.len()) }),
        ("ready", if ended { json!(0) } else { json!(alive.iter().filter(|pod| ready(pod)).count()) }),
        ("terminating", json!(terminating)),
        ("succeeded", keep_most("succeeded", successes(pods, indexed))),
        ("failed", keep_most("failed", pods.iter().filter(|pod| failed(pod)).count())),
        ("completedIndexes", if indexed { json!(ranges(&completed)) } else { Value::Null }),
        ("uncountedTerminatedPods", json!({})),
        ("conditions", if conditions.is_empty() { Value::Null } else { Value::Array(conditions) }),
    ])
}

/// `1,3-5,7` for sorted numbers.
fn ranges(sorted: &[i64]) -> String {
    let mut parts: Vec<(i64, i64)> = Vec::new();
    for number in sorted {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let shown = |(first, last): (i64, i64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    parts.into_iter().map(shown).collect::<Vec<_>>().join(",")
}

pub(in crate::daemon::apiserver::controllers) struct Jobs(
    pub(in crate::daemon::apiserver::controllers) World,
);

impl Controller for Jobs {
    fn name(&self) -> &'static str {
        "job"
    }

    fn follows(&self) -> Vec<Collection> {
        vec![JOBS, PODS]
    }

    async fn keys(&self, seen: &Seen) -> Vec<String> {
        if seen.collection == JOBS {
            return vec![key(&seen.object)];
        }
        match controller_of(&seen.object) {
            Some(_) => controller_key(&seen.object, KIND.kind).into_iter().collect(),
            None if seen.gone || deleting(&seen.object) => Vec::new(),
            None => adopters(&self.0, &JOBS, &seen.object).await,
        }
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Status> {
        let world = &self.0;
        let (namespace, name) = split(key);
        let job = match world.local.get(&JOBS, Some(namespace), name).await {
            Ok(job) => job,
            Err(error) if error.is_not_found() => return Ok(Next::Done),
            Err(error) => return Err(error),
        };
        let at = now();
        if over(&job) {
            return self.expire(&job, at).await;
        }
        let pods = claimed(world, &PODS, &job, KIND).await?;
        let plan = decide(&job, &pods, at);
        delete_pods(world, &job, KIND, plan.delete).await?;
        create_pods(world, &job, KIND, plan.create.iter().map(|index| pod_for(&job, *index)).collect())
            .await?;
        let pods = claimed(world, &PODS, &job, KIND).await?;
        write_status(world, &JOBS, &job, status(&job, &pods, plan.verdict, at)).await?;
        match plan.verdict {
            Some(Verdict::Complete) => {
                world.events.normal(KIND.component, &job, "Completed", "Job completed".to_owned());
            }
            Some(Verdict::TooManyFailures) => {
                let message = "Job has reached the specified backoff limit".to_owned();
                world.events.warning(KIND.component, &job, "BackoffLimitExceeded", message);
            }
            Some(Verdict::TooLate) => {
                let message = "Job was active longer than specified deadline".to_owned();
                world.events.warning(KIND.component, &job, "DeadlineExceeded", message);
            }
            None => {}
        }
        // The first pass writes startTime, from which a deadline counts.
        let wait = plan.wait.map(|seconds| Duration::from_secs(seconds.max(1).unsigned_abs()));
        Ok(wait.map_or(Next::Done, Next::After))
    }
}

impl Jobs {
    /// Removes a Job that ended `ttlSecondsAfterFinished` ago.
    async fn expire(&self, job: &Value, at: Timestamp) -> Result<Next, Status> {
        let Some(ttl) = job["spec"]["ttlSecondsAfterFinished"].as_i64() else { return Ok(Next::Done) };
        let ended = list(&job["status"]["conditions"])
            .iter()
            .filter(|condition| matches!(text(&condition["type"]), "Complete" | "Failed"))
            .find_map(|condition| time(&condition["lastTransitionTime"]));
        let left = ended.map_or(0, |ended| ended.as_second() + ttl - at.as_second());
        if left > 0 {
            return Ok(Next::After(Duration::from_secs(left.unsigned_abs())));
        }
        delete_quietly(&self.0, &JOBS, job).await?;
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(spec: Value) -> Value {
        let mut spec = spec;
        for (field, value) in [("parallelism", 1), ("backoffLimit", 1)] {
            if spec[field].is_null() {
                spec[field] = json!(value);
            }
        }
        json!({"metadata": {"name": "j", "namespace": "n"}, "spec": spec, "status": {"startTime": "1970-01-01T00:00:00Z"}})
    }

    fn pod(phase: &str) -> Arc<Value> {
        Arc::new(json!({"metadata": {"name": "p"}, "status": {"phase": phase}}))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn pods_run_in_parallel_until_enough_succeeded() {
        let j = job(json!({"completions": 3, "parallelism": 2}));
        assert_eq!(decide(&j, &[], at(1)).create.len(), 2);
        assert_eq!(decide(&j, &[pod("Succeeded"), pod("Succeeded")], at(1)).create.len(), 1);
        let done = decide(&j, &[pod("Succeeded"), pod("Succeeded"), pod("Succeeded")], at(1));
        assert_eq!(done.verdict, Some(Verdict::Complete));
        let status = status(&j, &[pod("Succeeded")], done.verdict, at(5));
        assert_eq!(status["conditions"][1]["type"], "Complete");
        assert_eq!(status["completionTime"], "1970-01-01T00:00:05Z");
    }

    #[test]
    fn too_many_failures_end_the_job() {
        let j = job(json!({"completions": 1}));
        assert_eq!(decide(&j, &[pod("Failed")], at(1)).create.len(), 1);
        assert_eq!(
            decide(&j, &[pod("Failed"), pod("Failed")], at(1)).verdict,
            Some(Verdict::TooManyFailures)
        );
    }

    #[test]
    fn a_failure_delays_the_next_attempt() {
        let j = job(json!({"completions": 1}));
        let failed =
            Arc::new(json!({"metadata": {"name": "p"}, "status": {"phase": "Failed", "containerStatuses": [
            {"state": {"terminated": {"finishedAt": "1970-01-01T00:01:40Z"}}}]}}));
        let plan = decide(&j, std::slice::from_ref(&failed), at(103));
        assert_eq!((plan.create.len(), plan.wait), (0, Some(7)));
        assert_eq!(decide(&j, &[failed], at(110)).create.len(), 1);
    }

    #[test]
    fn a_deadline_ends_the_job_and_its_pods() {
        let j = job(json!({"completions": 1, "activeDeadlineSeconds": 10}));
        assert_eq!(decide(&j, &[pod("Running")], at(4)).wait, Some(6));
        let late = decide(&j, &[pod("Running")], at(10));
        assert_eq!((late.verdict, late.delete.len()), (Some(Verdict::TooLate), 1));
    }

    #[test]
    fn indexes_are_filled_from_below() {
        let j = job(json!({"completions": 3, "parallelism": 2, "completionMode": "Indexed"}));
        let first =
            Arc::new(json!({"metadata": {"annotations": {INDEX: "0"}}, "status": {"phase": "Succeeded"}}));
        assert_eq!(decide(&j, &[first], at(1)).create, [Some(1), Some(2)]);
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
    }

    #[test]
    fn a_suspended_job_has_no_pods() {
        let j = job(json!({"completions": 1, "suspend": true}));
        let plan = decide(&j, &[pod("Running")], at(1));
        assert_eq!((plan.create.len(), plan.delete.len()), (0, 1));
    }
}
