//! Upgrades that the cloud orders, in both versions of the protocol: check, agreement, backup, upgrade, way back. The order
//! is kept in the store, so that it goes on being reported after the new version, or the old one again, has started.
//!
//! order -> daemon::upgrade (fetch, check, switch) -> this daemon ends -> launcher -> `resume` reports what became of it

use super::{Means, check};
use crate::base::{Failure, now, rfc3339};
use crate::daemon::upgrade::{
    DEADLINE, Demands, Site, Work, agreement, agreement::Agreement, own_launcher, own_version, verdict,
};
use crate::host::facts::System;
use crate::host::notice::Notices;
use crate::host::versions::{Deed, Outcome, Versions};
use crate::model::Release;
use crate::wire::task::{
    BACK_UP, CHECK, CONFIRM, CheckItem, JobKind, JobTarget, ROLL_BACK, Stage, StageFacts, StageKind,
    StageReport, TaskReport, UPGRADE,
};
use crate::wire::upgrade::UpgradeSpec;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// Where the order that is under way is kept; there is one at a time.
const ROOM: (&str, &str) = ("upgrade-job", "current");
/// How long a report may hold up the switch that it comes before.
const LAST_WORD: Duration = Duration::from_secs(30);
/// Notices are waited for; this is for the case that one is missed.
const LOOK: Duration = Duration::from_secs(5);

/// The order that is under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Order {
    form: Form,
    task: String,
    from: Release,
    to: Release,
    /// Of the change; `None` while somebody has to agree.
    change: Option<String>,
    spec: Value,
}

/// How the cloud speaks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Form {
    /// A job's flow, which the node walks by itself.
    Job,
    /// A stage of v1alpha1: the way there, or the way back.
    Stage,
    BackStage,
}

/// Walks a job's flow from an action on.
pub(super) async fn job(means: &Means, target: &JobTarget, from: &str, spec: &Value) {
    let parsed = match UpgradeSpec::parse(spec) {
        Ok(parsed) => parsed,
        Err(why) => return action(means, &target.job, CHECK, Err(why), "").await,
    };
    if from == ROLL_BACK {
        return back(means, Form::Job, &target.job).await;
    }
    let present = own_version();
    let extend = format!("{present},{}", parsed.version);
    if parsed.version == present {
        // Ordered twice, or done by hand: there is nothing left to do.
        for name in JobKind::NodeUpgrade.flow() {
            let extend = if matches!(*name, BACK_UP | UPGRADE) { extend.as_str() } else { "" };
            action(means, &target.job, name, Ok(()), extend).await;
        }
        return;
    }
    let flow = JobKind::NodeUpgrade.flow();
    let begins = |name: &str| flow.iter().position(|n| *n == from) <= flow.iter().position(|n| *n == name);
    if begins(CHECK) {
        let checked = prepare(means, &target.job, &parsed).await;
        let failed = checked.is_err();
        action(means, &target.job, CHECK, checked, "").await;
        if failed {
            return;
        }
    }
    if begins(CONFIRM) {
        action(means, &target.job, CONFIRM, Ok(()), "").await;
        if parsed.confirm {
            let order = Order {
                form: Form::Job,
                task: target.job.clone(),
                from: present,
                to: parsed.version.clone(),
                change: None,
                spec: spec.clone(),
            };
            if let Err(failure) = keep(means, &order).await {
                return action(means, &target.job, CONFIRM, Err(failure.to_string()), "").await;
            }
            return agreed_then_go_on(means, &order).await;
        }
    }
    finish(means, &target.job, &parsed, begins(BACK_UP), &extend).await;
}

/// Waits until somebody on the node agrees, then walks the rest.
async fn agreed_then_go_on(means: &Means, order: &Order) {
    let parsed = match UpgradeSpec::parse(&order.spec) {
        Ok(parsed) => parsed,
        Err(why) => return action(means, &order.task, CONFIRM, Err(why), "").await,
    };
    if let Err(failure) = await_agreement(means, &order.agreement()).await {
        return action(means, &order.task, CONFIRM, Err(failure.to_string()), "").await;
    }
    match order.form {
        Form::Job => {
            let extend = format!("{},{}", order.from, order.to);
            finish(means, &order.task, &parsed, true, &extend).await;
        }
        Form::Stage | Form::BackStage => whole(means, &order.task, &parsed).await,
    }
}

async fn await_agreement(means: &Means, wanted: &Agreement) -> Result<(), Failure> {
    let versions = site(means)?.versions;
    std::fs::create_dir_all(versions.dir()).map_err(|error| {
        Failure::new("KE-FILE-003", format!("cannot make the directory {}", versions.dir().display()))
            .because(error)
            .fix("check that its file system can be written and has free space")
    })?;
    agreement::ask(&versions, wanted)?;
    tracing::info!(version = %wanted.version, "an upgrade of the cloud waits: kedge edge upgrade confirm");
    until_given(&versions, wanted).await
}

/// Waits for an agreement that is asked for; fails with KE-UPGRADE-001 once another one is asked for in its place.
async fn until_given(versions: &Versions, wanted: &Agreement) -> Result<(), Failure> {
    let notices = Notices::new().and_then(|notices| notices.watch(versions.dir()).map(|()| notices)).ok();
    while !agreement::is_given(versions, wanted) {
        // Nobody tells a node that a job was deleted: the next one that waits ends it.
        if !agreement::is_asked(versions, wanted) {
            return Err(Failure::new("KE-UPGRADE-001", "another upgrade has taken its place")
                .because(format!(
                    "the agreement to {} of job {} is not asked for any more",
                    wanted.version, wanted.job
                ))
                .fix("see what waits now with: kedge edge upgrade confirm --dry-run"));
        }
        let notice = async {
            match &notices {
                Some(notices) => drop(notices.next().await),
                None => std::future::pending().await,
            }
        };
        // A missed notice costs a moment, not the upgrade.
        drop(tokio::time::timeout(LOOK, notice).await);
    }
    Ok(())
}

/// Backup, then the switch; the report of the latter comes after the restart.
async fn finish(means: &Means, job: &str, spec: &UpgradeSpec, backup: bool, extend: &str) {
    if backup {
        let made = back_up(means, job).await;
        let failed = made.is_err();
        // The switch that follows ends this daemon; what it has said by then has to be out.
        means.report_sent(action_report(means, job, BACK_UP, made, extend), LAST_WORD).await;
        if failed {
            return forget(means, &agreement_of(job, spec)).await;
        }
    }
    if let Err(why) = switch(means, Form::Job, job, Deed::Upgrade, Some(spec.version.clone())).await {
        action(means, job, UPGRADE, Err(why), extend).await;
        // The cloud waits for it; nothing was switched, so there is nothing to undo.
        action(means, job, ROLL_BACK, Ok(()), extend).await;
        forget(means, &agreement_of(job, spec)).await;
    }
}

/// One stage of v1alpha1.
pub(super) async fn stage(means: &Means, task: &str, stage: Stage, item: &Value) {
    let result = match stage {
        Stage::Check => match checks(item) {
            Ok(items) => check::all(&items).await,
            Err(why) => Err(why),
        },
        Stage::Pull => Err("an upgrade has no such state".to_owned()),
        Stage::RollBack => return back(means, Form::BackStage, task).await,
        Stage::Begin | Stage::BackUp | Stage::Upgrade => match UpgradeSpec::parse(item) {
            Err(why) => Err(why),
            Ok(spec) if spec.version == own_version() && stage != Stage::BackUp => {
                return said(means, task, Stage::Upgrade, Ok(())).await;
            }
            Ok(spec) if stage == Stage::Begin && spec.confirm => {
                return confirmation(means, task, item, &spec).await;
            }
            Ok(_) if stage == Stage::Begin => Ok(()),
            Ok(_) if stage == Stage::BackUp => back_up(means, task).await,
            Ok(spec) => return whole(means, task, &spec).await,
        },
    };
    said(means, task, stage, result).await;
}

/// An order of a cloud before 1.16: everything at once.
pub(super) async fn at_once(means: &Means, task: &str, request: &Value) {
    match UpgradeSpec::parse(request) {
        Err(why) => said(means, task, Stage::Upgrade, Err(why)).await,
        Ok(spec) if spec.version == own_version() => said(means, task, Stage::Upgrade, Ok(())).await,
        Ok(spec) if spec.confirm => confirmation(means, task, request, &spec).await,
        Ok(spec) => whole(means, task, &spec).await,
    }
}

/// Fetches, checks, backs up and switches; only a failure is reported here.
async fn whole(means: &Means, task: &str, spec: &UpgradeSpec) {
    let result = async {
        prepare(means, task, spec).await?;
        back_up(means, task).await?;
        switch(means, Form::Stage, task, Deed::Upgrade, Some(spec.version.clone())).await
    };
    if let Err(why) = result.await {
        said(means, task, Stage::Upgrade, Err(why)).await;
        forget(means, &agreement_of(task, spec)).await;
    }
}

/// v1alpha1 says that it waits by an event of its own, and hears nothing more until it is done.
async fn confirmation(means: &Means, task: &str, item: &Value, spec: &UpgradeSpec) {
    let facts = StageFacts {
        node_name: means.node.clone(),
        event: "Confirm".to_owned(),
        action: "Confirmation".to_owned(),
        reason: "it waits for: kedge edge upgrade confirm".to_owned(),
        ..StageFacts::default()
    };
    let (kind, task, node) = (StageKind::Upgrade, task.to_owned(), means.node.clone());
    means.report(TaskReport::Stage(StageReport { kind, task: task.clone(), node, facts })).await;
    let (from, to) = (own_version(), spec.version.clone());
    let order = Order { form: Form::Stage, task, from, to, change: None, spec: item.clone() };
    match keep(means, &order).await {
        Ok(()) => agreed_then_go_on(means, &order).await,
        Err(failure) => said(means, &order.task, Stage::Upgrade, Err(failure.to_string())).await,
    }
}

/// The way back, when the cloud orders it.
async fn back(means: &Means, form: Form, task: &str) {
    let result = switch(means, form, task, Deed::Rollback, None).await;
    if let Err(why) = result {
        match form {
            Form::Job => action(means, task, ROLL_BACK, Err(why), "").await,
            Form::Stage | Form::BackStage => said(means, task, Stage::RollBack, Err(why)).await,
        }
        // No agreement is asked for on the way back.
        forget_order(means, task).await;
    }
}

fn checks(item: &Value) -> Result<Vec<CheckItem>, String> {
    let listed = item.get("CheckItem").and_then(Value::as_array).into_iter().flatten();
    listed.filter_map(Value::as_str).map(CheckItem::parse).collect()
}

/// Where this node's slots are; a daemon without a configuration file or a launcher has none.
fn site(means: &Means) -> Result<Site, Failure> {
    let file = means.config_file.as_deref().filter(|_| own_launcher().is_some());
    file.map(Site::of).ok_or_else(|| {
        Failure::new("KE-UPGRADE-012", "the daemon was not started by the launcher")
            .because("another version could not be started in its place")
            .fix("let the service run `kedge edge launch` in the place of `kedge edge run`, and restart it")
    })
}

/// Runs a piece of an upgrade on a thread of its own.
async fn blocking<T: Send + 'static>(
    means: &Means,
    task: &str,
    deed: Deed,
    work: impl FnOnce(Work<'_>) -> Result<T, Failure> + Send + 'static,
) -> Result<T, String> {
    let (site, by) = (site(means).map_err(full)?, format!("job {task}"));
    let done = tokio::task::spawn_blocking(move || {
        let mut tell = |step: &str| tracing::info!(step, "upgrade");
        Work::begin(&site, deed, &by, &mut tell).and_then(work)
    });
    match done.await {
        Ok(result) => result.map_err(full),
        Err(error) => Err(error.to_string()),
    }
}

/// A failure with its fix, in one line: the cloud shows nothing else.
fn full(failure: Failure) -> String {
    if failure.fix.is_empty() { failure.to_string() } else { format!("{failure}; fix: {}", failure.fix) }
}

/// Checks the machine, then has the release fetched, checked and made a slot that is not current yet.
async fn prepare(means: &Means, task: &str, spec: &UpgradeSpec) -> Result<(), String> {
    check::all(&spec.checks).await?;
    let digest = spec.digest(System::read().architecture)?.map(str::to_owned);
    let version = spec.version.clone();
    blocking(means, task, Deed::Upgrade, move |mut work| {
        let demands = Demands { version: Some(version.clone()), digest, key: None, downgrade: false };
        let prepared = work
            .check_launcher()
            .and_then(|()| work.stage_release(&version))
            .and_then(|staged| work.check(staged, &demands))
            .and_then(|mut checked| work.install(&mut checked));
        prepared.map_err(|failure| work.refused(failure))
    })
    .await
}

async fn back_up(means: &Means, task: &str) -> Result<(), String> {
    blocking(means, task, Deed::Upgrade, |mut work| work.back_up().map(drop)).await
}

/// Makes a slot current, keeps the order, and has this daemon end. Without a version the one before is meant.
async fn switch(
    means: &Means,
    form: Form,
    task: &str,
    deed: Deed,
    to: Option<Release>,
) -> Result<(), String> {
    let (keeper, runtime) = (means.clone(), tokio::runtime::Handle::current());
    let name = task.to_owned();
    blocking(means, task, deed, move |mut work| {
        let missing = || {
            Failure::new("KE-UPGRADE-013", "there is no version to go back to")
                .because("this machine keeps the version that runs and none before it")
                .fix("upgrade to another version instead")
        };
        let switched = match to.or_else(|| work.previous()).ok_or_else(missing) {
            Ok(to) => work.slot(&to),
            Err(failure) => Err(failure),
        }
        .and_then(|checked| {
            let order = Order {
                form,
                task: name,
                from: work.from.clone(),
                to: checked.version.clone(),
                change: Some(work.id.clone()),
                spec: Value::Null,
            };
            // Kept before anything is switched: whichever daemon comes up next has to know of it.
            runtime.block_on(keep(&keeper, &order))?;
            work.switch(checked, DEADLINE)
        });
        match switched {
            Ok(()) => work.hand_over().map(drop),
            Err(failure) => Err(work.refused(failure)),
        }
    })
    .await
}

/// The order that an earlier daemon has begun.
pub(super) async fn kept(means: &Means) -> Option<Order> {
    let (room, key) = ROOM;
    // The store has logged why it cannot be read; the cloud's time limit ends the job then.
    let kept = means.store.state(room, key).await.ok()??;
    serde_json::from_value(kept).ok()
}

impl Order {
    /// Under which the cloud would repeat it.
    pub(super) fn name(&self) -> String {
        let kind = match self.form {
            Form::Job => JobKind::NodeUpgrade.as_str(),
            Form::Stage | Form::BackStage => StageKind::Upgrade.as_str(),
        };
        format!("{kind} {}", self.task)
    }

    fn agreement(&self) -> Agreement {
        Agreement { job: self.task.clone(), version: self.to.clone() }
    }
}

fn agreement_of(task: &str, spec: &UpgradeSpec) -> Agreement {
    Agreement { job: task.to_owned(), version: spec.version.clone() }
}

/// Nobody waits when this daemon begins but the order that it goes on with: what an earlier one has left to be agreed to
/// is not shown to people any more.
pub(super) fn tidy(means: &Means, order: Option<&Order>) {
    let Ok(site) = site(means) else { return };
    let waits = order.filter(|order| order.change.is_none()).map(Order::agreement);
    if let Some(left) = agreement::waiting(&site.versions)
        && waits.as_ref() != Some(&left)
    {
        agreement::forget(&site.versions, &left);
    }
}

/// Goes on with it.
pub(super) async fn resume(means: &Means, order: Order) {
    tracing::info!(task = order.task, "an upgrade of the cloud goes on");
    match &order.change {
        None => agreed_then_go_on(means, &order).await,
        Some(change) => {
            let result = outcome(means, change).await;
            told(means, &order, result).await;
            forget(means, &order.agreement()).await;
        }
    }
}

/// What became of a change; it may still be under way when this daemon is the new version.
async fn outcome(means: &Means, change: &str) -> Result<(), String> {
    let site = site(means).map_err(full)?;
    let notices =
        Notices::new().and_then(|notices| notices.watch(site.versions.dir()).map(|()| notices)).ok();
    loop {
        if let Ok(Some(entry)) = site.outcome(change) {
            return match entry.outcome {
                Outcome::Done => Ok(()),
                _ => verdict(&entry).map_err(|failure| failure.to_string()),
            };
        }
        let pending = site.versions.read().map_err(full)?.state.trial.is_some_and(|trial| trial.id == change);
        if !pending && site.outcome(change).map_err(full)?.is_none() {
            return Err("it was interrupted before anything was switched".to_owned());
        }
        let notice = async {
            match &notices {
                Some(notices) => drop(notices.next().await),
                None => std::future::pending().await,
            }
        };
        drop(tokio::time::timeout(LOOK, notice).await);
    }
}

/// Tells the cloud how the upgrade or the way back has ended; returns when it is told, which may be days later.
async fn told(means: &Means, order: &Order, result: Result<(), String>) {
    let mut reports = Vec::new();
    match order.form {
        Form::Job => {
            let failed = result.is_err();
            let extend = format!("{},{}", order.from, order.to);
            reports.push(action_report(means, &order.task, UPGRADE, result, &extend));
            if failed {
                let extend = format!("{},{}", order.to, order.from);
                reports.push(action_report(means, &order.task, ROLL_BACK, Ok(()), &extend));
            }
        }
        Form::Stage => reports.push(stage_report(means, &order.task, Stage::Upgrade, result)),
        Form::BackStage => reports.push(stage_report(means, &order.task, Stage::RollBack, result)),
    }
    for report in reports {
        means.report_sent(report, Duration::MAX).await;
    }
}

async fn keep(means: &Means, order: &Order) -> Result<(), Failure> {
    let (room, key) = ROOM;
    means.store.put_state(room, key, &json!(order)).await
}

/// Forgets a job that has ended; what another one waits for stays.
async fn forget(means: &Means, wanted: &Agreement) {
    forget_order(means, &wanted.job).await;
    if let Ok(site) = site(means) {
        agreement::forget(&site.versions, wanted);
    }
}

async fn forget_order(means: &Means, task: &str) {
    if kept(means).await.is_some_and(|order| order.task != task) {
        return;
    }
    let (room, key) = ROOM;
    if let Err(failure) = means.store.delete_state(room, key).await {
        tracing::warn!(code = failure.code, error = %failure, "an upgrade that has ended is still noted");
    }
}

/// Reports an action of a job.
async fn action(means: &Means, job: &str, name: &str, result: Result<(), String>, extend: &str) {
    means.report(action_report(means, job, name, result, extend)).await;
}

fn action_report(
    means: &Means,
    job: &str,
    name: &str,
    result: Result<(), String>,
    extend: &str,
) -> TaskReport {
    let target = JobTarget { kind: JobKind::NodeUpgrade, job: job.to_owned(), node: means.node.clone() };
    TaskReport::action(target, name, rfc3339(now()), result, extend.to_owned())
}

/// Reports a stage of v1alpha1.
async fn said(means: &Means, task: &str, stage: Stage, result: Result<(), String>) {
    means.report(stage_report(means, task, stage, result)).await;
}

fn stage_report(means: &Means, task: &str, stage: Stage, result: Result<(), String>) -> TaskReport {
    let at = (StageKind::Upgrade, task.to_owned(), means.node.clone());
    TaskReport::stage(at, stage, result, String::new())
}

#[cfg(test)]
mod tests {
    use super::super::tests::bench;
    use super::*;

    fn wanted(job: &str) -> Agreement {
        Agreement { job: job.to_owned(), version: Release::parse("1.2.3").unwrap() }
    }

    #[tokio::test]
    async fn who_waits_for_an_agreement_ends_when_another_asks() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::at(dir.path());
        agreement::ask(&versions, &wanted("a")).unwrap();
        let (waiter, asked) = (versions.clone(), wanted("a"));
        let mut waits = std::pin::pin!(until_given(&waiter, &asked));
        let first = tokio::time::timeout(Duration::from_millis(100), waits.as_mut()).await;
        assert!(first.is_err(), "{first:?}");
        agreement::ask(&versions, &wanted("b")).unwrap();
        let ended = tokio::time::timeout(LOOK * 2, waits).await.expect("it ends");
        let failure = ended.unwrap_err();
        assert_eq!(failure.code, "KE-UPGRADE-001");
        assert!(failure.what.contains("taken its place") && failure.why.contains("job a"), "{failure}");
        failure.is_as_committed();
        assert_eq!(agreement::waiting(&versions), Some(wanted("b")));
        // Who is agreed to goes on, whoever asks then.
        agreement::ask(&versions, &wanted("a")).unwrap();
        agreement::give(&versions, &wanted("a")).unwrap();
        agreement::ask(&versions, &wanted("b")).unwrap();
        assert_eq!(until_given(&versions, &wanted("a")).await, Ok(()));
    }

    #[tokio::test]
    async fn an_order_that_ends_does_not_take_anothers_with_it() {
        let bench = bench();
        let (from, to) = (Release::parse("1.0.0").unwrap(), Release::parse("1.2.3").unwrap());
        let order = Order { form: Form::Job, task: "b".to_owned(), from, to, change: None, spec: json!({}) };
        keep(&bench.means, &order).await.unwrap();
        forget(&bench.means, &wanted("a")).await;
        assert_eq!(kept(&bench.means).await, Some(order));
        forget(&bench.means, &wanted("b")).await;
        assert_eq!(kept(&bench.means).await, None);
    }
}
