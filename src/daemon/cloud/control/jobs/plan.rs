//! What a v1alpha2 job's status says and what follows from it: which nodes begin now, what a report means, when all is
//! over. Pure; the words are those of KubeEdge's custom resources, so that its own controllers can go on with a job.

use super::Engine;
use super::verdict::Tally;
use super::wanted::Wanted;
use super::words::{REASON, images, words};
use crate::wire::task::{
    ActionOutcome, CHECK, CONFIRM, JobKind, PULL, ROLL_BACK, SKIPPED, StageFacts, UPGRADE,
};
use jiff::Timestamp;
use serde_json::{Value, json};

const PENDING: &str = "Pending";
const IN_PROGRESS: &str = "InProgress";
const SUCCESSFUL: &str = "Successful";
const FAILURE: &str = "Failure";
/// Nobody knows how it ended: the node has not said so in time.
const UNKNOWN: &str = "Unknown";
/// Begins the reason of a node that was given its order and has said nothing yet; a time follows.
const ORDERED: &str = "ordered at ";
const COMPLETED: &str = "Completed";
/// Actions that are kept per node; a flow has five.
const ACTIONS: usize = 32;
/// Characters of a time that are kept; the longest form of RFC 3339 is shorter.
const TIME: usize = 64;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    New,
    Running,
    Over,
}

pub(super) fn standing(job: &Value) -> Standing {
    match job.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default() {
        "" => Standing::New,
        COMPLETED | FAILURE => Standing::Over,
        _ => Standing::Running,
    }
}

/// What is known of a chosen node when its job begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fitness {
    Fit,
    /// Why it cannot take part.
    Unfit(String),
    /// It is what the job wants it to be, of this version.
    Done(String),
}

/// The status of a job that begins.
pub(super) fn begun(nodes: &[(String, Fitness)]) -> Value {
    let row = |(node, fitness): &(String, Fitness)| match fitness {
        Fitness::Fit => json!({"nodeName": node, "phase": PENDING}),
        Fitness::Unfit(why) => {
            json!({"nodeName": node, "phase": FAILURE, "reason": format!("{SKIPPED}{why}")})
        }
        Fitness::Done(version) => json!({"nodeName": node, "phase": SUCCESSFUL, "historicVersion": version,
            "currentVersion": version, "reason": "the node runs this version already"}),
    };
    json!({"phase": IN_PROGRESS, "nodeStatus": nodes.iter().map(row).collect::<Vec<_>>()})
}

/// The status of a job that cannot be carried out.
pub(super) fn refused(status: &mut Value, why: &str) {
    if !status.is_object() {
        *status = json!({});
    }
    status["phase"] = json!(FAILURE);
    status["reason"] = json!(why);
}

fn rows(status: &Value) -> impl Iterator<Item = &Value> {
    status.get("nodeStatus").and_then(Value::as_array).into_iter().flatten()
}

fn name(row: &Value) -> &str {
    row.get("nodeName").and_then(Value::as_str).unwrap_or_default()
}

fn phase(row: &Value) -> &str {
    row.get("phase").and_then(Value::as_str).unwrap_or_default()
}

/// Nobody has asked anything of the node, so it has not failed the job.
fn is_skipped(row: &Value) -> bool {
    let reason = row.get("reason").and_then(Value::as_str).unwrap_or_default();
    phase(row) == FAILURE && last_action(row).is_none() && reason.starts_with(SKIPPED)
}

fn in_phase(status: &Value, wanted: &str) -> Vec<String> {
    rows(status).filter(|row| phase(row) == wanted).map(|row| name(row).to_owned()).collect()
}

/// Nodes that wait for their turn.
pub(super) fn pending(status: &Value) -> Vec<String> {
    in_phase(status, PENDING)
}

/// Nodes that are at work.
pub(super) fn in_progress(status: &Value) -> Vec<String> {
    in_phase(status, IN_PROGRESS)
}

/// Nodes at work that have not said anything yet.
pub(super) fn silent(status: &Value) -> Vec<String> {
    let silent = |row: &&Value| phase(row) == IN_PROGRESS && last_action(row).is_none();
    rows(status).filter(silent).map(|row| name(row).to_owned()).collect()
}

/// Nodes whose time runs: at work, and not waiting for somebody's word.
pub(super) fn running(wanted: &Wanted, status: &Value) -> Vec<String> {
    let waits = |row: &Value| wanted.confirm && last_action(row) == Some((CONFIRM, true));
    let runs = |row: &&Value| phase(row) == IN_PROGRESS && !waits(row);
    rows(status).filter(runs).map(|row| name(row).to_owned()).collect()
}

fn last_action(row: &Value) -> Option<(&str, bool)> {
    let last = row.get("actionFlow").and_then(Value::as_array)?.last()?;
    Some((last.get("action")?.as_str()?, last.get("status")?.as_str()? == "True"))
}

/// Since when the present step of a node lasts, as the status tells: since its last word, or since its order.
pub(super) fn since(status: &Value, node: &str) -> Option<Timestamp> {
    let row = rows(status).find(|row| name(row) == node)?;
    let last = row.get("actionFlow").and_then(Value::as_array).and_then(|flow| flow.last());
    let ordered = || row.get("reason").and_then(Value::as_str)?.strip_prefix(ORDERED);
    let said = last.and_then(|last| last.get("time")).and_then(Value::as_str);
    said.or_else(ordered)?.parse().ok()
}

fn tally(status: &Value) -> Tally {
    let mut tally = Tally::default();
    for row in rows(status) {
        if is_skipped(row) {
            tally.skipped += 1;
            continue;
        }
        tally.all += 1;
        match phase(row) {
            FAILURE | UNKNOWN => tally.failed += 1,
            SUCCESSFUL => {}
            _ => tally.open += 1,
        }
    }
    tally
}

/// Nodes that begin now: connected, no more at a time than the job allows, and none once too many have failed.
pub(super) fn due(wanted: &Wanted, status: &Value, connected: impl Fn(&str) -> bool) -> Vec<String> {
    if tally(status).is_spent(wanted.tolerate) {
        return Vec::new();
    }
    let free = wanted.concurrency.saturating_sub(in_progress(status).len());
    let ready = |row: &&Value| phase(row) == PENDING && connected(name(row));
    rows(status).filter(ready).take(free).map(|row| name(row).to_owned()).collect()
}

fn row<'a>(status: &'a mut Value, node: &str) -> Option<&'a mut Value> {
    status.get_mut("nodeStatus")?.as_array_mut()?.iter_mut().find(|row| name(row) == node)
}

fn set(status: &mut Value, node: &str, phase: &str, reason: &str) {
    let Some(row) = row(status, node) else { return };
    row["phase"] = json!(phase);
    // Written empty, it takes away what a merge patch would leave.
    if !reason.is_empty() || row.get("reason").is_some() {
        row["reason"] = json!(reason);
    }
}

/// The node begins; the time stays until it says something, for a cloud that is started anew.
pub(super) fn start(status: &mut Value, node: &str, now: &str) {
    set(status, node, IN_PROGRESS, &format!("{ORDERED}{now}"));
}

/// Says why a node that waits does not begin, unless that is said already.
pub(super) fn note(status: &mut Value, node: &str, why: &str) {
    if let Some(row) = row(status, node)
        && row.get("reason").and_then(Value::as_str).is_none_or(str::is_empty)
    {
        row["reason"] = json!(why);
    }
}

/// The node has not come in time for its turn.
pub(super) fn pass_over(status: &mut Value, node: &str, seconds: u64) {
    let reason = format!("{SKIPPED}the node was not connected for {seconds} s when its turn came");
    set(status, node, FAILURE, &reason);
}

/// The node is given up; what it said last stays in the reason.
pub(super) fn give_up(kind: JobKind, status: &mut Value, node: &str, seconds: u64) {
    let Some(row) = row(status, node) else { return };
    let after = match last_action(row) {
        None => "anything: is modules.taskManager.enable true in its configuration?".to_owned(),
        Some((action, true)) => format!("what followed {action}"),
        Some((_, false)) => "that it is as before".to_owned(),
    };
    let said = row.get("reason").and_then(Value::as_str).unwrap_or_default();
    let told = if said.is_empty() { String::new() } else { format!("{said}; ") };
    let reason = format!("{told}timed out: within {seconds} s the node has not reported {after}");
    // A change that is known to have failed is no secret; only its undoing is.
    let failed = kind.undoes() && matches!(last_action(row), Some((_, false)));
    set(status, node, if failed { FAILURE } else { UNKNOWN }, &reason);
}

/// Records how an action ended; the last one of a flow ends the node's part. Without effect on a node that is none of
/// the job's, and for an action that its flow has not.
pub(super) fn record(
    (kind, confirm): (JobKind, bool),
    status: &mut Value,
    node: &str,
    outcome: &ActionOutcome,
    now: &str,
) {
    let Some(row) = row(status, node).filter(|_| kind.has(&outcome.action)) else { return };
    let word = if outcome.success { "True" } else { "False" };
    let reason = words(&outcome.reason);
    // Configuration updates of genuine edges come without a time.
    let told = Some(outcome.finished.as_str()).filter(|time| time.len() <= TIME);
    let time = told.filter(|time| time.parse::<Timestamp>().is_ok()).unwrap_or(now);
    let mut action = json!({"action": outcome.action, "status": word, "time": time});
    if !reason.is_empty() {
        action["reason"] = json!(reason);
    }
    match row.get_mut("actionFlow").and_then(Value::as_array_mut) {
        // A write whose answer was lost is done again.
        Some(flow) if flow.len() >= ACTIONS || flow.last() == Some(&action) => {}
        Some(flow) => flow.push(action),
        None => row["actionFlow"] = json!([action]),
    }
    if outcome.action == PULL
        && let Some(images) = images(Engine::Actions, &outcome.extend)
    {
        row["imageStatus"] = images;
    }
    if let (JobKind::NodeUpgrade, Some((from, to))) = (kind, outcome.extend.split_once(','))
        && (!from.is_empty() || !to.is_empty())
    {
        row["historicVersion"] = json!(from.chars().take(REASON).collect::<String>());
        row["currentVersion"] = json!(to.chars().take(REASON).collect::<String>());
    }
    let last = kind.flow().last() == Some(&outcome.action.as_str());
    // A change that failed is undone next; what was undone has failed, however well it was undone.
    let undone_next = last && kind.undoes();
    let next = match outcome.success {
        _ if outcome.action == ROLL_BACK => FAILURE,
        true if last => SUCCESSFUL,
        false if !undone_next => FAILURE,
        _ => IN_PROGRESS,
    };
    row["phase"] = json!(next);
    let waits = confirm && outcome.success && outcome.action == CONFIRM;
    let before = row.get("reason").and_then(Value::as_str).unwrap_or_default();
    row["reason"] = match (outcome.success, outcome.action.as_str()) {
        (true, _) if waits => {
            json!("waits until somebody agrees on the node: keadm ctl confirm, or kedge edge upgrade confirm")
        }
        (true, ROLL_BACK) => json!(undone(before)),
        (true, _) => json!(""),
        // An edgecore whose upgrade ended it goes back without a word on the upgrade.
        (false, ROLL_BACK) if before.is_empty() => json!(format!("the way back failed: {reason}")),
        (false, ROLL_BACK) => json!(format!("{before}; the way back failed: {reason}")),
        (false, UPGRADE) if reason.is_empty() => json!("the upgrade failed"),
        (false, _) => json!(reason),
    };
}

fn undone(before: &str) -> String {
    match before {
        "" => "the change was undone".to_owned(),
        why => format!("{why}; the change was undone"),
    }
}

/// Records how a stage of a v1alpha1 task ended, for a job of v1alpha2 that an old node was given.
pub(super) fn record_stage(status: &mut Value, node: &str, facts: &StageFacts) {
    let Some(row) = row(status, node) else { return };
    let done = facts.action == "Success";
    let last = matches!(facts.event.as_str(), "Upgrade" | "Pull" | "Rollback" | "TimeOut");
    let next = match (done, last) {
        (true, true) if facts.event == "Rollback" => FAILURE,
        (true, true) => SUCCESSFUL,
        (true, false) => IN_PROGRESS,
        (false, _) if facts.action == "Confirmation" => IN_PROGRESS,
        (false, _) => FAILURE,
    };
    row["phase"] = json!(next);
    row["reason"] = json!(words(&facts.reason));
    if let Some(images) = images(Engine::Actions, &facts.external_message) {
        row["imageStatus"] = images;
    }
}

/// Sets the job's phase by those of its nodes: over when each is over, or when nobody is at work and too many have failed
/// for the rest to begin.
pub(super) fn conclude(wanted: &Wanted, status: &mut Value) {
    let tally = tally(status);
    if let Some(why) = tally.hopeless() {
        return refused(status, why);
    }
    let (spent, waiting) = (tally.is_spent(wanted.tolerate), pending(status));
    if !in_progress(status).is_empty() || (!waiting.is_empty() && !spent) {
        return;
    }
    for node in &waiting {
        set(status, node, PENDING, "not begun: too many nodes have failed before");
    }
    status["phase"] = json!(if spent { FAILURE } else { COMPLETED });
    let reason = tally.reason(wanted.tolerate, "not begun");
    if !reason.is_empty() || status.get("reason").is_some() {
        status["reason"] = json!(reason);
    }
}

/// The first action of a flow that orders begin with.
pub(super) const FIRST: &str = CHECK;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcome(action: &str, success: bool, extend: &str) -> ActionOutcome {
        let reason = if success { String::new() } else { "why".to_owned() };
        let (action, extend) = (action.to_owned(), extend.to_owned());
        ActionOutcome { action, success, finished: "2026-01-01T00:00:00Z".to_owned(), reason, extend }
    }

    fn fit(names: &[&str]) -> Value {
        begun(&names.iter().map(|name| ((*name).to_owned(), Fitness::Fit)).collect::<Vec<_>>())
    }

    fn said(kind: JobKind, status: &mut Value, node: &str, outcome: &ActionOutcome) {
        record((kind, false), status, node, outcome, "now");
    }

    #[test]
    fn a_way_back_that_failed_is_told_with_what_is_known_of_the_upgrade() {
        let reason = |first: &ActionOutcome| {
            let mut status = fit(&["a"]);
            said(JobKind::NodeUpgrade, &mut status, "a", first);
            said(JobKind::NodeUpgrade, &mut status, "a", &outcome(ROLL_BACK, false, "1,1"));
            status["nodeStatus"][0]["reason"].clone()
        };
        // An upgrade that ended the edgecore is never reported.
        assert_eq!(reason(&outcome("BackUp", true, ",1")), "the way back failed: why");
        assert_eq!(reason(&outcome(UPGRADE, false, "1,2")), "why; the way back failed: why");
    }

    #[test]
    fn a_job_goes_through_its_nodes_and_ends() {
        let job = Wanted::example(1, 0.0);
        let mut status = begun(&[
            ("a".to_owned(), Fitness::Fit),
            ("b".to_owned(), Fitness::Fit),
            ("x".to_owned(), Fitness::Unfit("unknown".to_owned())),
        ]);
        // One that cannot take part has not failed: the others begin.
        assert_eq!(status["nodeStatus"][2]["phase"], FAILURE);
        assert_eq!(status["nodeStatus"][2]["reason"], "skipped: unknown");
        assert_eq!(due(&job, &status, |node| node == "b"), ["b"]);
        assert_eq!(due(&job, &status, |_| true), ["a"]);
        start(&mut status, "a", "2026-01-01T00:00:00Z");
        assert_eq!(since(&status, "a"), "2026-01-01T00:00:00Z".parse().ok());
        assert_eq!((since(&status, "b"), since(&status, "stranger")), (None, None));
        assert_eq!(silent(&status), ["a"]);
        assert_eq!(due(&job, &status, |_| true), [""; 0]);
        let kind = JobKind::ImagePrePull;
        said(kind, &mut status, "a", &outcome("Check", true, ""));
        assert_eq!((in_progress(&status), silent(&status)), (vec!["a".to_owned()], vec![]));
        said(kind, &mut status, "a", &outcome("Pull", true, r#"[{"image":"i","status":"True"}]"#));
        assert_eq!(status["nodeStatus"][0]["phase"], SUCCESSFUL);
        assert_eq!(status["nodeStatus"][0]["imageStatus"][0]["image"], "i");
        assert_eq!(status["nodeStatus"][0]["actionFlow"].as_array().unwrap().len(), 2);
        conclude(&job, &mut status);
        assert_eq!(status["phase"], IN_PROGRESS);
        start(&mut status, "b", "now");
        give_up(kind, &mut status, "b", 9);
        assert_eq!(status["nodeStatus"][1]["phase"], UNKNOWN);
        assert!(status["nodeStatus"][1]["reason"].as_str().unwrap().contains("taskManager"));
        conclude(&job, &mut status);
        assert_eq!(status["phase"], FAILURE);
        // A late report may still turn it.
        said(kind, &mut status, "b", &outcome("Pull", true, ""));
        conclude(&job, &mut status);
        assert_eq!(
            (&status["phase"], &status["reason"]),
            (&json!(COMPLETED), &json!("1 of 3 nodes were skipped"))
        );
        assert_eq!(standing(&json!({"status": status})), Standing::Over);
    }

    #[test]
    fn what_was_undone_has_failed_and_both_reasons_are_told() {
        let mut status = fit(&["a"]);
        start(&mut status, "a", "now");
        said(JobKind::NodeUpgrade, &mut status, "a", &outcome("BackUp", true, "v1,v2"));
        assert_eq!(status["nodeStatus"][0]["currentVersion"], "v2");
        said(JobKind::NodeUpgrade, &mut status, "a", &outcome("Upgrade", false, ""));
        assert_eq!(in_progress(&status), ["a"]);
        let mut lost = status.clone();
        said(JobKind::NodeUpgrade, &mut status, "a", &outcome("RollBack", true, "v2,v1"));
        assert_eq!(status["nodeStatus"][0]["phase"], FAILURE);
        assert_eq!(status["nodeStatus"][0]["reason"], "why; the change was undone");
        give_up(JobKind::NodeUpgrade, &mut lost, "a", 9);
        assert_eq!(lost["nodeStatus"][0]["phase"], FAILURE);
        assert!(lost["nodeStatus"][0]["reason"].as_str().unwrap().starts_with("why; timed out"));
    }

    #[test]
    fn a_node_says_nothing_of_others_jobs_and_no_action_that_there_is_not() {
        let mut status = fit(&["a"]);
        let before = status.clone();
        said(JobKind::NodeUpgrade, &mut status, "b", &outcome("Check", true, ""));
        said(JobKind::NodeUpgrade, &mut status, "a", &outcome("Reboot", true, ""));
        said(JobKind::ImagePrePull, &mut status, "a", &outcome("Upgrade", true, ""));
        assert_eq!(status, before);
        let long = ActionOutcome { reason: "x".repeat(9000), ..outcome("Check", false, "") };
        said(JobKind::NodeUpgrade, &mut status, "a", &long);
        assert_eq!(status["nodeStatus"][0]["reason"].as_str().unwrap().len(), REASON);
        let odd = ActionOutcome { finished: "yesterday".to_owned(), ..outcome("Check", true, "") };
        said(JobKind::NodeUpgrade, &mut status, "a", &odd);
        assert_eq!(status["nodeStatus"][0]["actionFlow"][1]["time"], "now");
    }

    #[test]
    fn a_list_of_images_without_end_leaves_room_for_other_nodes() {
        let (mut actions, mut stages) = (fit(&["a"]), fit(&["a"]));
        let list = |word: &str| format!("[{}]", vec![word; 100_000].join(","));
        let endless = outcome("Pull", true, &list(r#"{"image":"i","status":"True"}"#));
        said(JobKind::ImagePrePull, &mut actions, "a", &endless);
        let facts = StageFacts {
            event: "Pull".to_owned(),
            action: "Success".to_owned(),
            external_message: list(r#"{"image":"i","state":"Failed"}"#),
            ..StageFacts::default()
        };
        record_stage(&mut stages, "a", &facts);
        for status in [actions, stages] {
            let row = &status["nodeStatus"][0];
            assert_eq!(row["imageStatus"].as_array().map(Vec::len), Some(64));
            assert!(row.to_string().len() < 200 << 10, "{}", row.to_string().len());
        }
    }

    #[test]
    fn time_stands_still_while_somebody_is_waited_for() {
        let job = Wanted { confirm: true, ..Wanted::example(1, 0.0) };
        let mut status = fit(&["a"]);
        start(&mut status, "a", "now");
        let kind = (JobKind::NodeUpgrade, true);
        record(kind, &mut status, "a", &outcome("Check", true, ""), "now");
        assert_eq!(running(&job, &status), ["a"]);
        record(kind, &mut status, "a", &outcome("WaitingConfirmation", true, ""), "now");
        assert_eq!(running(&job, &status), [""; 0]);
        assert!(status["nodeStatus"][0]["reason"].as_str().unwrap().contains("keadm ctl confirm"));
        record(kind, &mut status, "a", &outcome("BackUp", true, ""), "now");
        assert_eq!(
            (running(&job, &status), &status["nodeStatus"][0]["reason"]),
            (vec!["a".to_owned()], &json!(""))
        );
    }

    #[test]
    fn waiting_nodes_have_a_reason_and_the_done_are_not_begun() {
        let mut status =
            begun(&[("a".to_owned(), Fitness::Fit), ("b".to_owned(), Fitness::Done("v1.2.3".to_owned()))]);
        note(&mut status, "a", "away");
        note(&mut status, "a", "still away");
        assert_eq!(status["nodeStatus"][0]["reason"], "away");
        assert_eq!(due(&Wanted::example(9, 0.0), &status, |_| true), ["a"]);
        start(&mut status, "a", "now");
        assert_eq!(status["nodeStatus"][0]["reason"], "ordered at now");
        let mut none = begun(&[]);
        conclude(&Wanted::example(1, 0.0), &mut none);
        assert_eq!((&none["phase"], &none["reason"]), (&json!(FAILURE), &json!("no edge node is chosen")));
        // Of many of whom none can take part nothing comes; one that stays away spends no budget of the others.
        let mut nobody = begun(&[("x".to_owned(), Fitness::Unfit("unknown".to_owned()))]);
        conclude(&Wanted::example(1, 0.0), &mut nobody);
        assert_eq!(nobody["phase"], FAILURE);
        let mut status = fit(&["a", "b"]);
        pass_over(&mut status, "a", 9);
        assert_eq!(due(&Wanted::example(1, 0.0), &status, |_| true), ["b"]);
        start(&mut status, "b", "now");
        said(JobKind::NodeUpgrade, &mut status, "b", &outcome("Upgrade", true, ""));
        conclude(&Wanted::example(1, 0.0), &mut status);
        assert_eq!(
            (&status["phase"], &status["reason"]),
            (&json!(COMPLETED), &json!("1 of 2 nodes were skipped"))
        );
        assert!(is_skipped(&status["nodeStatus"][0]), "{status}");
        // No node can say so of itself.
        for said in ["Check", "Upgrade"] {
            let mut status = fit(&["a"]);
            let outcome = ActionOutcome { reason: "skipped: not me".to_owned(), ..outcome(said, false, "") };
            record((JobKind::ImagePrePull, false), &mut status, "a", &outcome, "now");
            let facts =
                StageFacts { event: said.to_owned(), reason: outcome.reason, ..StageFacts::default() };
            record_stage(&mut status, "a", &facts);
            assert_eq!(tally(&status), Tally { all: 1, failed: 1, ..Tally::default() }, "{status}");
        }
    }

    #[test]
    fn stages_of_old_edges_end_a_node_too() {
        let facts = |event: &str, action: &str, external: &str| StageFacts {
            event: event.to_owned(),
            action: action.to_owned(),
            external_message: external.to_owned(),
            ..StageFacts::default()
        };
        let mut status = fit(&["a"]);
        record_stage(&mut status, "a", &facts("Check", "Success", ""));
        assert_eq!(in_progress(&status), ["a"]);
        record_stage(&mut status, "a", &facts("Pull", "Success", r#"[{"image":"i","state":"Successful"}]"#));
        assert_eq!(status["nodeStatus"][0]["phase"], SUCCESSFUL);
        assert_eq!(status["nodeStatus"][0]["imageStatus"][0]["status"], "True");
        record_stage(&mut status, "a", &facts("Upgrade", "Failure", ""));
        assert_eq!(status["nodeStatus"][0]["phase"], FAILURE);
    }

    proptest! {
        /// Whatever nodes say, come, go and are lost: never more at work than allowed, none begun once the budget is
        /// spent, and the job ends.
        #[test]
        fn concurrency_holds_and_the_budget_stops_new_starts(
            count in 1usize..12,
            concurrency in 1usize..5,
            tolerate in 0u32..=10,
            turns in proptest::collection::vec((any::<u16>(), any::<u8>(), any::<bool>()), 0..200),
        ) {
            let job = Wanted::example(concurrency, f64::from(tolerate) / 10.0);
            let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
            let mut status = fit(&names.iter().map(String::as_str).collect::<Vec<_>>());
            let words = ["Check", "WaitingConfirmation", "BackUp", "Upgrade", "RollBack", "Nonsense"];
            for (present, turn, success) in turns {
                let spent = tally(&status).is_spent(job.tolerate);
                let begins = due(&job, &status, |node| {
                    names.iter().position(|name| name == node).is_some_and(|at| present >> at & 1 == 1)
                });
                prop_assert!(!spent || begins.is_empty());
                for node in &begins {
                    start(&mut status, node, "now");
                }
                prop_assert!(in_progress(&status).len() <= concurrency);
                // Only who is at work speaks; the hub holds nodes to their own names.
                let working = in_progress(&status);
                if let Some(node) = working.get(usize::from(turn) % working.len().max(1)) {
                    match words.get(usize::from(turn) % 7) {
                        Some(word) => said(JobKind::NodeUpgrade, &mut status, node, &outcome(word, success, "")),
                        None => give_up(JobKind::NodeUpgrade, &mut status, node, 1),
                    }
                }
                prop_assert!(in_progress(&status).len() <= concurrency);
                prop_assert_eq!(rows(&status).count(), count);
            }
            // Everybody comes and everything works from now on.
            for _ in 0..=count {
                for node in due(&job, &status, |_| true) {
                    start(&mut status, &node, "now");
                }
                for node in in_progress(&status) {
                    said(JobKind::NodeUpgrade, &mut status, &node, &outcome("Upgrade", true, ""));
                }
                conclude(&job, &mut status);
            }
            prop_assert_eq!(standing(&json!({"status": status})), Standing::Over);
            let expected = if tally(&status).is_spent(job.tolerate) { FAILURE } else { COMPLETED };
            prop_assert_eq!(&status["phase"], expected);
        }
    }
}
