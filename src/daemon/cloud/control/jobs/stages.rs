//! Jobs of v1alpha1, KubeEdge's older engine (feature gate disableNodeTaskV1alpha2): all nodes go through one stage, a few
//! at a time, before the next begins. Pure; states, events and actions are KubeEdge's words, and the status alone says
//! which orders were given.

use super::Engine;
use super::plan::{Fitness, Standing};
use super::verdict::Tally;
use super::wanted::{Wanted, spec};
use super::words::{images, words};
use crate::wire::task::{JobKind, SKIPPED, StageFacts, StageKind};
use crate::wire::upgrade::UpgradeSpec;
use jiff::Timestamp;
use serde_json::{Value, json};

const INIT: &str = "Init";
const CHECKING: &str = "Checking";
const BACKING_UP: &str = "BackingUp";
const UPGRADING: &str = "Upgrading";
const PULLING: &str = "Pulling";
const SUCCESSFUL: &str = "Successful";
const FAILED: &str = "Failed";
const SUCCESS: &str = "Success";
const FAILURE: &str = "Failure";
const CONFIRMATION: &str = "Confirmation";

/// The stages in their order.
fn stages(kind: StageKind) -> &'static [&'static str] {
    match kind {
        StageKind::Upgrade => &[INIT, CHECKING, BACKING_UP, UPGRADING],
        StageKind::PrePull => &[INIT, CHECKING, PULLING],
    }
}

/// The kind of task by which a job is carried out; configuration updates have none.
pub(super) fn task_of(kind: JobKind) -> Option<StageKind> {
    match kind {
        JobKind::NodeUpgrade => Some(StageKind::Upgrade),
        JobKind::ImagePrePull => Some(StageKind::PrePull),
        JobKind::ConfigUpdate => None,
    }
}

pub(super) fn standing(job: &Value) -> Standing {
    match job.pointer("/status/state").and_then(Value::as_str).unwrap_or_default() {
        "" => Standing::New,
        SUCCESSFUL | FAILED => Standing::Over,
        _ => Standing::Running,
    }
}

fn list(kind: StageKind) -> &'static str {
    match kind {
        StageKind::Upgrade => "nodeStatus",
        StageKind::PrePull => "status",
    }
}

/// What is said of a node: of pre-pulls it stands one level lower.
fn task(kind: StageKind, row: &Value) -> &Value {
    match kind {
        StageKind::Upgrade => row,
        StageKind::PrePull => row.get("nodeStatus").unwrap_or(&Value::Null),
    }
}

fn rows(kind: StageKind, status: &Value) -> impl Iterator<Item = &Value> {
    let rows = status.get(list(kind)).and_then(Value::as_array).into_iter().flatten();
    rows.map(move |row| task(kind, row))
}

fn row<'a>(kind: StageKind, status: &'a mut Value, node: &str) -> Option<&'a mut Value> {
    let rows = status.get_mut(list(kind))?.as_array_mut()?;
    rows.iter_mut().find(|row| text(task(kind, row), "nodeName") == node)
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn is_finished(row: &Value) -> bool {
    matches!(text(row, "state"), SUCCESSFUL | FAILED)
}

/// Nobody has asked anything of the node; KubeEdge leaves such nodes out of a job and says nothing.
fn is_skipped(row: &Value) -> bool {
    text(row, "state") == FAILED && text(row, "reason").starts_with(SKIPPED)
}

/// An order was given and is not answered yet: its row has a time and no action.
fn is_ordered(row: &Value) -> bool {
    !is_finished(row) && text(row, "action").is_empty() && !text(row, "time").is_empty()
}

fn is_at_work(row: &Value) -> bool {
    is_ordered(row) || (!is_finished(row) && text(row, "action") == CONFIRMATION)
}

fn waits_in(row: &Value, stage: &str) -> bool {
    !is_finished(row) && !is_at_work(row) && text(row, "state") == stage
}

fn names<'a>(rows: impl Iterator<Item = &'a Value>) -> Vec<String> {
    rows.map(|row| text(row, "nodeName").to_owned()).collect()
}

/// The status of a job that begins.
pub(super) fn begun(kind: StageKind, nodes: &[(String, Fitness)], now: &str) -> Value {
    let row = |(node, fitness): &(String, Fitness)| {
        let row = match fitness {
            Fitness::Fit => json!({"nodeName": node, "state": INIT}),
            Fitness::Unfit(why) => {
                json!({"nodeName": node, "state": FAILED, "event": INIT, "action": FAILURE,
                "reason": format!("{SKIPPED}{why}"), "time": now})
            }
            Fitness::Done(_) => {
                json!({"nodeName": node, "state": SUCCESSFUL, "event": "Upgrade", "action": SUCCESS,
                "reason": "the node runs this version already", "time": now})
            }
        };
        match kind {
            StageKind::Upgrade => row,
            StageKind::PrePull => json!({"nodeStatus": row}),
        }
    };
    let mut status = json!({"state": INIT, "event": INIT, "action": SUCCESS, "time": now});
    status[list(kind)] = nodes.iter().map(row).collect();
    status
}

/// The status of a job that cannot be carried out.
pub(super) fn refused(status: &mut Value, why: &str, now: &str) {
    if !status.is_object() {
        *status = json!({});
    }
    for (field, value) in
        [("state", FAILED), ("event", INIT), ("action", FAILURE), ("reason", why), ("time", now)]
    {
        status[field] = json!(value);
    }
}

/// Nodes that wait for their turn in the stage that the job is in.
pub(super) fn pending(kind: StageKind, status: &Value) -> Vec<String> {
    let stage = text(status, "state");
    names(rows(kind, status).filter(|row| waits_in(row, stage)))
}

/// Nodes at work.
pub(super) fn in_progress(kind: StageKind, status: &Value) -> Vec<String> {
    names(rows(kind, status).filter(|row| is_at_work(row)))
}

/// Nodes whose time runs.
pub(super) fn running(kind: StageKind, status: &Value) -> Vec<String> {
    names(rows(kind, status).filter(|row| is_ordered(row)))
}

fn tally(kind: StageKind, status: &Value) -> Tally {
    let mut tally = Tally::default();
    for row in rows(kind, status) {
        if is_skipped(row) {
            tally.skipped += 1;
            continue;
        }
        tally.all += 1;
        tally.failed += u32::from(text(row, "state") == FAILED);
        tally.open += u32::from(!is_finished(row));
    }
    tally
}

/// Since when the present step of a node lasts, as the status tells.
pub(super) fn since(kind: StageKind, status: &Value, node: &str) -> Option<Timestamp> {
    let row = rows(kind, status).find(|row| text(row, "nodeName") == node)?;
    text(row, "time").parse().ok()
}

/// Nodes that begin the stage now.
pub(super) fn due(
    kind: StageKind,
    wanted: &Wanted,
    status: &Value,
    connected: impl Fn(&str) -> bool,
) -> Vec<String> {
    if tally(kind, status).is_spent(wanted.tolerate) {
        return Vec::new();
    }
    let free = wanted.concurrency.saturating_sub(in_progress(kind, status).len());
    let stage = text(status, "state");
    let ready = |row: &&Value| waits_in(row, stage) && connected(text(row, "nodeName"));
    names(rows(kind, status).filter(ready).take(free))
}

fn set(kind: StageKind, status: &mut Value, node: &str, fields: [(&str, &str); 5]) {
    let Some(row) = row(kind, status, node) else { return };
    let row = match kind {
        StageKind::Upgrade => row,
        StageKind::PrePull => &mut row["nodeStatus"],
    };
    for (field, value) in fields {
        row[field] = json!(value);
    }
}

/// The node is ordered to begin the job's stage.
pub(super) fn start(kind: StageKind, status: &mut Value, node: &str, now: &str) {
    let stage = text(status, "state").to_owned();
    let fields = [("state", stage.as_str()), ("event", ""), ("action", ""), ("reason", ""), ("time", now)];
    set(kind, status, node, fields);
}

/// The node did not come for its turn: who was asked something before is given up, others have lost nothing.
pub(super) fn pass_over(kind: StageKind, status: &mut Value, node: &str, why: &str, now: &str) {
    if stage(status) != INIT {
        return give_up(kind, status, node, why, now);
    }
    give_up(kind, status, node, &format!("{SKIPPED}{why}"), now);
}

/// The node is given up.
pub(super) fn give_up(kind: StageKind, status: &mut Value, node: &str, why: &str, now: &str) {
    let fields =
        [("state", FAILED), ("event", "TimeOut"), ("action", FAILURE), ("reason", why), ("time", now)];
    set(kind, status, node, fields);
}

/// The state that follows a report; `None` when it means nothing in this state.
fn transition(kind: StageKind, state: &str, event: &str, action: &str) -> Option<&'static str> {
    match (state, event, action) {
        (SUCCESSFUL | FAILED, _, _) => None,
        // What was rolled back has failed, however well that went.
        (_, "Rollback", _) | (_, _, FAILURE) => Some(FAILED),
        (INIT, "Init", SUCCESS) => Some(CHECKING),
        (CHECKING, "Check", SUCCESS) => Some(match kind {
            StageKind::Upgrade => BACKING_UP,
            StageKind::PrePull => PULLING,
        }),
        (BACKING_UP, "Backup", SUCCESS) => Some(UPGRADING),
        // An edge that has this version, or whose user has agreed, goes on by itself.
        (INIT | UPGRADING, "Upgrade" | "Upgrading", SUCCESS) | (PULLING, "Pull", SUCCESS) => Some(SUCCESSFUL),
        (INIT, _, CONFIRMATION) => Some(INIT),
        _ => None,
    }
}

/// Records how a stage ended on a node; without effect on a node that is none of the job's.
pub(super) fn record(kind: StageKind, status: &mut Value, node: &str, facts: &StageFacts, now: &str) {
    let Some(held) = row(kind, status, node) else { return };
    let state = text(task(kind, held), "state");
    let Some(next) = transition(kind, state, &facts.event, &facts.action) else { return };
    if kind == StageKind::PrePull
        && let Some(images) = images(Engine::Stages, &facts.external_message)
    {
        held["imageStatus"] = images;
    }
    let reason = words(&facts.reason);
    let (event, action) = (words(&facts.event), words(&facts.action));
    let (event, action) = (event.as_str(), action.as_str());
    set(
        kind,
        status,
        node,
        [("state", next), ("event", event), ("action", action), ("reason", &reason), ("time", now)],
    );
}

/// Brings the job to its next stage or its end, when nobody is at work in this one.
pub(super) fn conclude(kind: StageKind, wanted: &Wanted, status: &mut Value, now: &str) {
    let tally = tally(kind, status);
    if let Some(why) = tally.hopeless() {
        return refused(status, why, now);
    }
    let spent = tally.is_spent(wanted.tolerate);
    if !in_progress(kind, status).is_empty() || (!spent && !pending(kind, status).is_empty()) {
        return;
    }
    if spent || tally.open == 0 {
        status["state"] = json!(if spent { FAILED } else { SUCCESSFUL });
        status["action"] = json!(if spent { FAILURE } else { SUCCESS });
        // An earlier stage may have been done there: that is no change yet.
        status["reason"] = json!(tally.reason(wanted.tolerate, "not changed"));
        status["time"] = json!(now);
        return;
    }
    let stage = text(status, "state").to_owned();
    let next = stages(kind).iter().skip_while(|name| **name != stage).nth(1);
    if let Some(next) = next {
        status["event"] = json!(match stage.as_str() {
            CHECKING => "Check",
            BACKING_UP => "Backup",
            _ => INIT,
        });
        status["state"] = json!(next);
        status["action"] = json!(SUCCESS);
        status["time"] = json!(now);
    }
}

/// What an order of the job's stage carries.
pub(super) fn item(kind: StageKind, job: &Value, uid: &str, stage: &str) -> Value {
    let spec = spec(job);
    let checks = spec.get("checkItems").cloned().unwrap_or_else(|| json!([]));
    match kind {
        _ if stage == CHECKING => json!({"CheckItem": checks}),
        StageKind::Upgrade => {
            let Ok(upgrade) = UpgradeSpec::parse(spec) else { return Value::Null };
            json!({
                "UpgradeID": job.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default(),
                "HistoryID": uid,
                "Version": upgrade.version.to_string(),
                "UpgradeTool": "keadm",
                "Image": format!("{}:{}", upgrade.repository(), upgrade.version),
                "ImageDigest": upgrade.digest("").ok().flatten().unwrap_or_default(),
                "RequireConfirmation": upgrade.confirm,
            })
        }
        StageKind::PrePull => json!({
            "Images": spec.get("images").cloned().unwrap_or_else(|| json!([])),
            "Secret": text(spec, "imageSecrets"),
            "RetryTimes": spec.get("retryTimes").and_then(Value::as_u64).unwrap_or(0),
            "CheckItems": checks,
        }),
    }
}

/// The stage that the job is in.
pub(super) fn stage(status: &Value) -> &str {
    text(status, "state")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UP: StageKind = StageKind::Upgrade;

    fn fit(kind: StageKind, names: &[&str]) -> Value {
        begun(kind, &names.iter().map(|name| ((*name).to_owned(), Fitness::Fit)).collect::<Vec<_>>(), "t")
    }

    fn facts(event: &str, action: &str) -> StageFacts {
        StageFacts { event: event.to_owned(), action: action.to_owned(), ..StageFacts::default() }
    }

    /// Lets every node that is due do its stage.
    fn round(kind: StageKind, job: &Wanted, status: &mut Value, event: &str) -> Vec<String> {
        let begins = due(kind, job, status, |_| true);
        for node in &begins {
            start(kind, status, node, "t");
        }
        assert!(in_progress(kind, status).len() <= job.concurrency);
        for node in &begins {
            record(kind, status, node, &facts(event, SUCCESS), "t");
        }
        conclude(kind, job, status, "t");
        begins
    }

    #[test]
    fn all_nodes_finish_a_stage_before_the_next_begins() {
        let job = Wanted::example(2, 0.1);
        let mut status = fit(UP, &["a", "b", "c"]);
        for event in ["Init", "Check", "Backup", "Upgrade"] {
            let before = stage(&status).to_owned();
            assert_eq!(round(UP, &job, &mut status, event), ["a", "b"]);
            assert_eq!(stage(&status), before);
            assert_eq!(round(UP, &job, &mut status, event), ["c"]);
        }
        assert_eq!((stage(&status), text(&status, "action")), (SUCCESSFUL, SUCCESS));
        assert_eq!(standing(&json!({"status": status})), Standing::Over);
        assert_eq!(status["nodeStatus"][2]["event"], "Upgrade");
        let mut pull = fit(StageKind::PrePull, &["a"]);
        for event in ["Init", "Check"] {
            round(StageKind::PrePull, &job, &mut pull, event);
        }
        assert_eq!((stage(&pull), &pull["status"][0]["nodeStatus"]["state"]), (PULLING, &json!(PULLING)));
        start(StageKind::PrePull, &mut pull, "a", "t");
        let pulled = StageFacts {
            external_message: r#"[{"image":"i","state":"Successful"}]"#.to_owned(),
            ..facts("Pull", SUCCESS)
        };
        record(StageKind::PrePull, &mut pull, "a", &pulled, "t");
        conclude(StageKind::PrePull, &job, &mut pull, "t");
        assert_eq!((stage(&pull), &pull["status"][0]["imageStatus"][0]["image"]), (SUCCESSFUL, &json!("i")));
        // A list without end leaves room for other nodes.
        let mut pull = fit(StageKind::PrePull, &["a"]);
        let endless = vec![r#"{"image":"i","state":"Failed"}"#; 100_000].join(",");
        let endless = StageFacts { external_message: format!("[{endless}]"), ..facts("Pull", FAILURE) };
        record(StageKind::PrePull, &mut pull, "a", &endless, "t");
        assert_eq!(pull["status"][0]["imageStatus"].as_array().map(Vec::len), Some(64));
        assert!(pull.to_string().len() < 200 << 10);
    }

    #[test]
    fn the_status_alone_says_who_was_ordered() {
        let job = Wanted::example(1, 1.0);
        let mut status = fit(UP, &["a", "b"]);
        start(UP, &mut status, "a", "t");
        let again: Value = serde_json::from_str(&status.to_string()).unwrap();
        assert_eq!(due(UP, &job, &again, |_| true), [""; 0]);
        assert_eq!(running(UP, &again), ["a"]);
        record(UP, &mut status, "a", &facts("Confirm", CONFIRMATION), "t");
        assert_eq!((in_progress(UP, &status), running(UP, &status)), (vec!["a".to_owned()], vec![]));
        record(UP, &mut status, "a", &facts("Upgrade", SUCCESS), "t");
        assert_eq!(status["nodeStatus"][0]["state"], SUCCESSFUL);
        start(UP, &mut status, "b", "t");
        record(UP, &mut status, "b", &facts("Upgrading", SUCCESS), "t");
        conclude(UP, &job, &mut status, "t");
        assert_eq!(stage(&status), SUCCESSFUL);
        let before = status.clone();
        record(UP, &mut status, "stranger", &facts("Init", SUCCESS), "t");
        record(UP, &mut status, "a", &facts("Rollback", SUCCESS), "t");
        assert_eq!(status, before);
    }

    #[test]
    fn too_many_failures_end_the_job_with_a_reason() {
        let job = Wanted::example(1, 0.1);
        let mut status = fit(UP, &["a", "b"]);
        start(UP, &mut status, "a", "t");
        record(UP, &mut status, "a", &facts("Init", FAILURE), "t");
        assert_eq!(due(UP, &job, &status, |_| true), [""; 0]);
        conclude(UP, &job, &mut status, "t");
        assert_eq!(
            (stage(&status), text(&status, "reason")),
            (FAILED, "1 of 2 nodes failed, failureTolerate is 0.1; 1 were not changed")
        );
    }

    #[test]
    fn who_was_never_asked_spends_no_budget() {
        let job = Wanted::example(1, 0.0);
        let unfit = ("x".to_owned(), Fitness::Unfit("too old".to_owned()));
        let mut status =
            begun(UP, &[("a".to_owned(), Fitness::Fit), ("b".to_owned(), Fitness::Fit), unfit], "t");
        pass_over(UP, &mut status, "b", "away", "t");
        for event in ["Init", "Check", "Backup", "Upgrade"] {
            assert_eq!(round(UP, &job, &mut status, event), ["a"]);
        }
        assert_eq!((stage(&status), text(&status, "reason")), (SUCCESSFUL, "2 of 3 nodes were skipped"));
        assert_eq!(status["nodeStatus"][1]["state"], FAILED);
        assert_eq!(status["nodeStatus"][1]["reason"], "skipped: away");
        // Once it has begun, who stays away has failed.
        let mut status = fit(UP, &["a"]);
        round(UP, &job, &mut status, "Init");
        pass_over(UP, &mut status, "a", "away", "2026-01-01T00:00:00Z");
        assert_eq!(status["nodeStatus"][0]["state"], FAILED);
        assert_eq!(since(UP, &status, "a"), "2026-01-01T00:00:00Z".parse().ok());
    }

    #[test]
    fn orders_carry_what_was_read() {
        let job = json!({"metadata": {"name": "j"}, "spec": {"version": "1.23.1", "nodeNames": ["a"], "checkItems": ["cpu"],
            "image": "r.example/own:old"}});
        assert_eq!(item(UP, &job, "u", CHECKING), json!({"CheckItem": ["cpu"]}));
        let order = item(UP, &job, "u", INIT);
        assert_eq!(
            (&order["Version"], &order["Image"]),
            (&json!("v1.23.1"), &json!("r.example/own:v1.23.1"))
        );
        assert_eq!((&order["UpgradeID"], &order["HistoryID"]), (&json!("j"), &json!("u")));
    }

    proptest! {
        /// Whatever nodes say: never more at work than allowed, and none begun once the budget is spent.
        #[test]
        fn concurrency_holds_and_the_budget_stops_new_starts(
            count in 1usize..8,
            concurrency in 1usize..4,
            tolerate in 0u32..=10,
            turns in proptest::collection::vec((any::<u8>(), 0usize..7, 0usize..3), 0..150),
        ) {
            let job = Wanted::example(concurrency, f64::from(tolerate) / 10.0);
            let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
            let mut status = fit(UP, &names.iter().map(String::as_str).collect::<Vec<_>>());
            let events = ["Init", "Check", "Backup", "Upgrade", "Rollback", "Confirm", "Nonsense"];
            for (node, event, action) in turns {
                let spent = tally(UP, &status).is_spent(job.tolerate);
                let begins = due(UP, &job, &status, |_| true);
                prop_assert!(!spent || begins.is_empty());
                for node in &begins {
                    start(UP, &mut status, node, "t");
                }
                prop_assert!(in_progress(UP, &status).len() <= concurrency);
                let working = in_progress(UP, &status);
                if let Some(node) = working.get(usize::from(node) % working.len().max(1)) {
                    record(UP, &mut status, node, &facts(events[event], [SUCCESS, SUCCESS, FAILURE][action]), "t");
                }
                conclude(UP, &job, &mut status, "t");
                prop_assert!(in_progress(UP, &status).len() <= concurrency);
                if standing(&json!({"status": status})) == Standing::Over {
                    prop_assert!(in_progress(UP, &status).is_empty());
                    break;
                }
            }
        }
    }
}
