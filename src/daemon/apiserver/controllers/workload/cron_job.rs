//! CronJobs: a Job at every scheduled minute, old ones forgotten.

use super::family::{OwnerKind, count, delete_quietly, fields, write_status};
use super::job::over;
use super::schedule::Schedule;
use crate::base::{now, rfc3339};
use crate::daemon::apiserver::controllers::collections::{CRON_JOBS, JOBS};
use crate::daemon::apiserver::controllers::read::{
    condition_is, controlled_by, controller_key, created, deleting, key, name, namespace, owner_reference,
    split, time, uid,
};
use crate::daemon::apiserver::controllers::runner::{Controller, Next, Seen, World};
use crate::daemon::apiserver::local::Collection;
use crate::model::Status;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const KIND: OwnerKind =
    OwnerKind { api_version: "batch/v1", kind: "CronJob", component: "cronjob-controller" };
/// Looking back over more missed times than this is given up: the clock or the schedule is off.
const MOST_MISSED: usize = 100;

/// The latest time that is due and has not been started, and the next one to come.
#[derive(Debug, PartialEq)]
struct Due {
    start: Option<Timestamp>,
    next: Option<Timestamp>,
}

fn due(cron: &Value, schedule: &Schedule, at: Timestamp) -> Due {
    // Without the time zone database only UTC is known; other zones are read as UTC.
    let zone = TimeZone::UTC;
    let since = time(&cron["status"]["lastScheduleTime"]).or_else(|| created(cron)).unwrap_or(at);
    let late = cron["spec"]["startingDeadlineSeconds"].as_i64();
    let oldest = late.and_then(|late| Timestamp::from_second(at.as_second() - late).ok());
    let mut from = oldest.map_or(since, |oldest| since.max(oldest));
    let mut start = None;
    for _ in 0..MOST_MISSED {
        match schedule.next(from, &zone) {
            Some(found) if found <= at => {
                start = Some(found);
                from = found;
            }
            _ => break,
        }
    }
    Due { start, next: schedule.next(at, &zone) }
}

fn job_for(cron: &Value, at: Timestamp) -> Value {
    let template = &cron["spec"]["jobTemplate"];
    let mut annotations = template["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    annotations.insert("batch.kubernetes.io/cronjob-scheduled-timestamp".to_owned(), json!(rfc3339(at)));
    json!({"apiVersion": "batch/v1", "kind": "Job", "spec": template["spec"], "metadata": {
        "name": format!("{}-{}", name(cron), at.as_second() / 60), "namespace": namespace(cron),
        "labels": template["metadata"]["labels"].as_object().cloned().unwrap_or_default(), "annotations": annotations,
        "ownerReferences": [owner_reference(cron, KIND.api_version, KIND.kind)]}})
}

/// Ended Jobs beyond the history limits, oldest first.
fn beyond_history(cron: &Value, jobs: &[Arc<Value>]) -> Vec<Arc<Value>> {
    let mut excess = Vec::new();
    for (kind, field, default) in
        [("Complete", "successfulJobsHistoryLimit", 3), ("Failed", "failedJobsHistoryLimit", 1)]
    {
        let mut ended: Vec<&Arc<Value>> =
            jobs.iter().filter(|job| condition_is(&job["status"], kind, "True")).collect();
        ended.sort_by_key(|job| created(job));
        let limit = cron["spec"][field].as_u64().unwrap_or(default);
        let over = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        excess.extend(ended.into_iter().take(over).cloned());
    }
    excess
}

pub(in crate::daemon::apiserver::controllers) struct CronJobs(
    pub(in crate::daemon::apiserver::controllers) World,
);

impl Controller for CronJobs {
    fn name(&self) -> &'static str {
        "cronjob"
    }

    fn follows(&self) -> Vec<Collection> {
        vec![CRON_JOBS, JOBS]
    }

    async fn keys(&self, seen: &Seen) -> Vec<String> {
        if seen.collection == CRON_JOBS {
            return vec![key(&seen.object)];
        }
        controller_key(&seen.object, KIND.kind).into_iter().collect()
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Status> {
        let world = &self.0;
        let (space, cron_name) = split(key);
        let cron = match world.local.get(&CRON_JOBS, Some(space), cron_name).await {
            Ok(cron) => cron,
            Err(error) if error.is_not_found() => return Ok(Next::Done),
            Err(error) => return Err(error),
        };
        if deleting(&cron) {
            return Ok(Next::Done);
        }
        let (jobs, _) = world.local.list(&JOBS, Some(space)).await?;
        let mut jobs: Vec<Arc<Value>> =
            jobs.into_iter().filter(|job| controlled_by(job, uid(&cron))).collect();
        for job in beyond_history(&cron, &jobs) {
            delete_quietly(world, &JOBS, &job).await?;
            jobs.retain(|kept| uid(kept) != uid(&job));
        }
        let Some(schedule) = cron["spec"]["schedule"].as_str().and_then(Schedule::parse) else {
            let message = format!("invalid schedule: {}", cron["spec"]["schedule"]);
            world.events.warning(KIND.component, &cron, "InvalidSchedule", message);
            return Ok(Next::Done);
        };
        let at = now();
        let due = due(&cron, &schedule, at);
        let mut last = cron["status"]["lastScheduleTime"].clone();
        if cron["spec"]["suspend"] != true
            && let Some(start) = due.start
            && self.start(&cron, &mut jobs, start).await?
        {
            last = json!(rfc3339(start));
        }
        self.report(&cron, &jobs, last).await?;
        let wait =
            due.next.map(|next| u64::try_from(next.as_millisecond() - at.as_millisecond()).unwrap_or(0));
        Ok(wait.map_or(Next::Done, |wait| Next::After(Duration::from_millis(wait + 50))))
    }
}

impl CronJobs {
    /// Starts the Job of a due time as far as the concurrency policy lets it; `true` when the time is dealt with.
    async fn start(&self, cron: &Value, jobs: &mut Vec<Arc<Value>>, at: Timestamp) -> Result<bool, Status> {
        let world = &self.0;
        let running: Vec<Arc<Value>> = jobs.iter().filter(|job| !over(job)).cloned().collect();
        match cron["spec"]["concurrencyPolicy"].as_str() {
            Some("Forbid") if !running.is_empty() => return Ok(false),
            Some("Replace") => {
                for job in running {
                    delete_quietly(world, &JOBS, &job).await?;
                    jobs.retain(|kept| uid(kept) != uid(&job));
                }
            }
            _ => {}
        }
        match world.local.create(&JOBS, job_for(cron, at)).await {
            Ok(job) => {
                let message = format!("Created job {}", name(&job));
                world.events.normal(KIND.component, cron, "SuccessfulCreate", message);
                jobs.push(job);
                Ok(true)
            }
            Err(error) if error.already_exists() => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn report(&self, cron: &Value, jobs: &[Arc<Value>], last: Value) -> Result<(), Status> {
        let active: Vec<Value> = jobs
            .iter()
            .filter(|job| !over(job))
            .map(|job| {
                json!({"apiVersion": "batch/v1", "kind": "Job", "namespace": namespace(job), "name": name(job),
                    "uid": uid(job), "resourceVersion": job["metadata"]["resourceVersion"]})
            })
            .collect();
        let succeeded = jobs.iter().filter_map(|job| time(&job["status"]["completionTime"])).max();
        let succeeded =
            succeeded.map_or(cron["status"]["lastSuccessfulTime"].clone(), |at| json!(rfc3339(at)));
        let known: Vec<&str> = cron["status"]["active"]
            .as_array()
            .map(|all| all.iter().filter_map(|job| job["uid"].as_str()).collect())
            .unwrap_or_default();
        let same =
            known.len() == active.len() && active.iter().all(|job| known.iter().any(|k| job["uid"] == *k));
        let active = match active.len() {
            0 => count(0),
            _ if same => cron["status"]["active"].clone(),
            _ => Value::Array(active),
        };
        let status =
            fields([("active", active), ("lastScheduleTime", last), ("lastSuccessfulTime", succeeded)]);
        write_status(&self.0, &CRON_JOBS, cron, status).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_missed_time_is_started_once() {
        let cron = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:30Z"}, "spec": {}});
        let schedule = Schedule::parse("*/5 * * * *").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let found = due(&cron, &schedule, at("2026-01-01T00:12:00Z"));
        assert_eq!(found.start, Some(at("2026-01-01T00:10:00Z")));
        assert_eq!(found.next, Some(at("2026-01-01T00:15:00Z")));
        let mut started = cron.clone();
        started["status"] = json!({"lastScheduleTime": "2026-01-01T00:10:00Z"});
        assert_eq!(due(&started, &schedule, at("2026-01-01T00:12:00Z")).start, None);
    }

    #[test]
    fn a_job_is_named_after_its_minute() {
        let cron = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": {"jobTemplate": {"spec": {}}}});
        let job = job_for(&cron, Timestamp::from_second(120).unwrap());
        assert_eq!(job["metadata"]["name"], "c-2");
    }

    #[test]
    fn only_the_newest_ended_jobs_are_kept() {
        let job = |second: u32| {
            Arc::new(json!({"metadata": {"creationTimestamp": format!("2026-01-01T00:00:0{second}Z")},
                "status": {"conditions": [{"type": "Failed", "status": "True"}]}}))
        };
        let cron = json!({"spec": {"failedJobsHistoryLimit": 1}});
        assert_eq!(beyond_history(&cron, &[job(2), job(1), job(3)]), [job(1), job(2)]);
    }
}
