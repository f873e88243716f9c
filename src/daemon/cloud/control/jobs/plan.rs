//! What a job's status says and what follows from it: which nodes take part, which begin now, when all is over. Pure;
//! the words are those of KubeEdge's custom resources, so that its own controllers can go on with a job.

use crate::wire::task::{ActionOutcome, JobKind, PULL, ROLL_BACK, StageFacts};
use serde_json::{Value, json};

const PENDING: &str = "Pending";
const IN_PROGRESS: &str = "InProgress";
const SUCCESSFUL: &str = "Successful";
const FAILURE: &str = "Failure";
const COMPLETED: &str = "Completed";
/// KubeEdge's default of a job's time limit per node, in seconds.
const SECONDS: u64 = 300;
/// Actions that are kept per node; a flow has four.
const ACTIONS: usize = 32;

/// What a job is about: of pre-pulls it stands one level lower.
fn spec(job: &Value) -> &Value {
    let spec = job.get("spec").unwrap_or(&Value::Null);
    spec.get("imagePrePullTemplate").unwrap_or(spec)
}

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

/// The nodes that the job names.
pub(super) fn named_nodes(job: &Value) -> Vec<String> {
    let names = spec(job).get("nodeNames").and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whether the job's selector, if it has one, chooses a node with these labels.
pub(super) fn selects(job: &Value, labels: &Value) -> bool {
    let Some(selector) = spec(job).get("labelSelector").filter(|selector| selector.is_object()) else {
        return false;
    };
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    let equal = |(key, value): (&String, &Value)| label(key) == value.as_str();
    let wanted = selector.get("matchLabels").and_then(Value::as_object);
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    let fits = |expression: &Value| {
        let present = label(expression["key"].as_str().unwrap_or_default());
        let values = expression["values"].as_array();
        let among = values.into_iter().flatten().any(|value| present.is_some() && value.as_str() == present);
        match expression["operator"].as_str() {
            Some("In") => among,
            Some("NotIn") => !among,
            Some("Exists") => present.is_some(),
            Some("DoesNotExist") => present.is_none(),
            _ => false,
        }
    };
    let some = wanted.is_some_and(|all| !all.is_empty()) || expressions.is_some_and(|all| !all.is_empty());
    some && wanted.into_iter().flatten().all(equal) && expressions.into_iter().flatten().all(fits)
}

/// The status of a job that begins: each node, and why it cannot take part.
pub(super) fn begun(nodes: &[(String, Option<&str>)]) -> Value {
    let entry = |(node, refusal): &(String, Option<&str>)| match refusal {
        None => json!({"nodeName": node, "phase": PENDING}),
        Some(why) => json!({"nodeName": node, "phase": FAILURE, "reason": why}),
    };
    json!({"phase": IN_PROGRESS, "nodeStatus": nodes.iter().map(entry).collect::<Vec<_>>()})
}

fn entries(status: &Value) -> impl Iterator<Item = &Value> {
    status.get("nodeStatus").and_then(Value::as_array).into_iter().flatten()
}

fn name(entry: &Value) -> &str {
    entry["nodeName"].as_str().unwrap_or_default()
}

/// Nodes that wait for their end.
pub(super) fn in_progress(status: &Value) -> Vec<String> {
    entries(status)
        .filter(|entry| entry["phase"] == IN_PROGRESS)
        .map(|entry| name(entry).to_owned())
        .collect()
}

/// Nodes that begin now: connected, and no more at a time than the job allows.
pub(super) fn due(job: &Value, status: &Value, connected: impl Fn(&str) -> bool) -> Vec<String> {
    let most = spec(job).get("concurrency").and_then(Value::as_u64).unwrap_or(1).max(1);
    let busy = in_progress(status).len();
    let free = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(busy);
    let ready = |entry: &&Value| entry["phase"] == PENDING && connected(name(entry));
    entries(status).filter(ready).take(free).map(|entry| name(entry).to_owned()).collect()
}

/// The job's time limit for each node, in seconds.
pub(super) fn limit_seconds(job: &Value) -> u64 {
    spec(job).get("timeoutSeconds").and_then(Value::as_u64).filter(|seconds| *seconds > 0).unwrap_or(SECONDS)
}

/// The node's entry, which is made when there is none.
fn entry<'a>(status: &'a mut Value, node: &str) -> Option<&'a mut Value> {
    if !status.is_object() {
        *status = json!({});
    }
    let fields = status.as_object_mut()?;
    fields.entry("phase").or_insert_with(|| json!(IN_PROGRESS));
    let list = fields.entry("nodeStatus").or_insert_with(|| json!([]));
    if !list.is_array() {
        *list = json!([]);
    }
    let list = list.as_array_mut()?;
    let at = list.iter().position(|entry| name(entry) == node);
    let at = at.unwrap_or_else(|| {
        list.push(json!({"nodeName": node}));
        list.len() - 1
    });
    list.get_mut(at)
}

fn set(status: &mut Value, node: &str, phase: &str, reason: &str) {
    if let Some(entry) = entry(status, node) {
        entry["phase"] = json!(phase);
        if !reason.is_empty() {
            entry["reason"] = json!(reason);
        }
    }
}

/// The node begins.
pub(super) fn start(status: &mut Value, node: &str) {
    set(status, node, IN_PROGRESS, "");
}

/// The node is given up.
pub(super) fn give_up(status: &mut Value, node: &str, why: &str) {
    set(status, node, FAILURE, why);
}

/// Records how an action ended; the last one of a flow ends the node's part.
pub(super) fn record(kind: JobKind, status: &mut Value, node: &str, outcome: &ActionOutcome) {
    let Some(entry) = entry(status, node) else { return };
    let word = if outcome.success { "True" } else { "False" };
    let mut action = json!({"action": outcome.action, "status": word, "time": outcome.finished});
    if !outcome.reason.is_empty() {
        action["reason"] = json!(outcome.reason);
    }
    match entry.get_mut("actionFlow").and_then(Value::as_array_mut) {
        Some(flow) if flow.len() >= ACTIONS => {}
        Some(flow) => flow.push(action),
        None => entry["actionFlow"] = json!([action]),
    }
    if outcome.action == PULL
        && let Ok(images @ Value::Array(_)) = serde_json::from_str(&outcome.extend)
    {
        entry["imageStatus"] = images;
    }
    if let (JobKind::NodeUpgrade, Some((from, to))) = (kind, outcome.extend.split_once(',')) {
        entry["historicVersion"] = json!(from);
        entry["currentVersion"] = json!(to);
    }
    let last = kind.flow().last() == Some(&outcome.action.as_str());
    // A change that failed is undone next; what was undone has failed, however well it was undone.
    let undone_next = last && kind.undoes();
    let phase = match outcome.success {
        _ if outcome.action == ROLL_BACK => FAILURE,
        true if last => SUCCESSFUL,
        false if !undone_next => FAILURE,
        _ => IN_PROGRESS,
    };
    entry["phase"] = json!(phase);
    if !outcome.reason.is_empty() {
        entry["reason"] = json!(outcome.reason);
    }
}

/// Records how a stage of a v1alpha1 task ended. Its last stage ends the node's part, a failed one as well.
pub(super) fn record_stage(status: &mut Value, node: &str, facts: &StageFacts) {
    let Some(entry) = entry(status, node) else { return };
    let done = facts.action == "Success";
    let last = matches!(facts.event.as_str(), "Upgrade" | "Pull" | "Rollback" | "TimeOut");
    let phase = match (done, last) {
        (true, true) if facts.event == "Rollback" => FAILURE,
        (true, true) => SUCCESSFUL,
        (true, false) => IN_PROGRESS,
        (false, _) if facts.action == "Confirmation" => IN_PROGRESS,
        (false, _) => FAILURE,
    };
    entry["phase"] = json!(phase);
    if !facts.reason.is_empty() {
        entry["reason"] = json!(facts.reason);
    }
    if let Ok(Value::Array(images)) = serde_json::from_str::<Value>(&facts.external_message) {
        let word = |image: &Value| if image["state"] == SUCCESSFUL { "True" } else { "False" };
        let one = |image: &Value| {
            json!({"image": image["image"].as_str().unwrap_or_default(), "status": word(image),
                "reason": image["reason"].as_str().unwrap_or_default()})
        };
        entry["imageStatus"] = images.iter().map(one).collect();
    }
}

/// Sets the job's phase by those of its nodes: over when each is over, failed when more failed than it tolerates.
pub(super) fn conclude(job: &Value, status: &mut Value) {
    let (mut all, mut failed) = (0u32, 0u32);
    for entry in entries(status) {
        all += 1;
        match entry["phase"].as_str() {
            Some(FAILURE) => failed += 1,
            Some(SUCCESSFUL) => {}
            _ => return,
        }
    }
    let tolerated =
        spec(job).get("failureTolerate").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let share = (f64::from(failed) / f64::from(all.max(1)) * 100.0).round() / 100.0;
    let bad = all == 0 || (failed > 0 && share > tolerated.unwrap_or(0.0));
    status["phase"] = json!(if bad { FAILURE } else { COMPLETED });
    if all == 0 {
        status["reason"] = json!("no edge node is chosen");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(action: &str, success: bool, extend: &str) -> ActionOutcome {
        let reason = if success { String::new() } else { "why".to_owned() };
        let (action, extend) = (action.to_owned(), extend.to_owned());
        ActionOutcome { action, success, finished: "t".to_owned(), reason, extend }
    }

    fn pull_job(concurrency: u64, tolerate: &str) -> Value {
        json!({"spec": {"imagePrePullTemplate": {"nodeNames": ["a", "b", "c"], "concurrency": concurrency,
            "failureTolerate": tolerate}}})
    }

    #[test]
    fn a_job_goes_through_its_nodes_and_ends() {
        let job = pull_job(1, "");
        let mut status =
            begun(&[("a".to_owned(), None), ("b".to_owned(), None), ("x".to_owned(), Some("unknown"))]);
        assert_eq!(due(&job, &status, |node| node == "b"), ["b"]);
        assert_eq!(due(&job, &status, |_| true), ["a"]);
        start(&mut status, "a");
        assert_eq!(due(&job, &status, |_| true), [""; 0]);
        record(JobKind::ImagePrePull, &mut status, "a", &outcome("Check", true, ""));
        assert_eq!(in_progress(&status), ["a"]);
        record(
            JobKind::ImagePrePull,
            &mut status,
            "a",
            &outcome("Pull", true, r#"[{"image":"i","status":"True"}]"#),
        );
        assert_eq!(status["nodeStatus"][0]["phase"], "Successful");
        assert_eq!(status["nodeStatus"][0]["imageStatus"][0]["image"], "i");
        assert_eq!(status["nodeStatus"][0]["actionFlow"].as_array().unwrap().len(), 2);
        conclude(&job, &mut status);
        assert_eq!(status["phase"], "InProgress");
        give_up(&mut status, "b", "late");
        conclude(&job, &mut status);
        assert_eq!(status["phase"], "Failure");
        conclude(&pull_job(1, "0.67"), &mut status);
        assert_eq!(status["phase"], "Completed");
        assert_eq!(standing(&json!({"status": status})), Standing::Over);
    }

    #[test]
    fn what_was_undone_has_failed() {
        let mut status = begun(&[("a".to_owned(), None)]);
        record(JobKind::ConfigUpdate, &mut status, "a", &outcome("Update", false, ""));
        assert_eq!(in_progress(&status), ["a"]);
        record(JobKind::ConfigUpdate, &mut status, "a", &outcome("RollBack", true, ""));
        assert_eq!(status["nodeStatus"][0]["phase"], "Failure");
        let mut status = Value::Null;
        record(JobKind::NodeUpgrade, &mut status, "n", &outcome("BackUp", true, "v1,v2"));
        assert_eq!(status["nodeStatus"][0]["currentVersion"], "v2");
        record(JobKind::NodeUpgrade, &mut status, "n", &outcome("Check", false, ""));
        assert_eq!(status["nodeStatus"][0]["phase"], "Failure");
    }

    #[test]
    fn stages_of_old_edges_end_a_node_too() {
        let facts = |event: &str, action: &str, external: &str| StageFacts {
            event: event.to_owned(),
            action: action.to_owned(),
            external_message: external.to_owned(),
            ..StageFacts::default()
        };
        let mut status = begun(&[("a".to_owned(), None)]);
        record_stage(&mut status, "a", &facts("Check", "Success", ""));
        assert_eq!(in_progress(&status), ["a"]);
        record_stage(&mut status, "a", &facts("Pull", "Success", r#"[{"image":"i","state":"Successful"}]"#));
        assert_eq!(status["nodeStatus"][0]["phase"], "Successful");
        assert_eq!(status["nodeStatus"][0]["imageStatus"][0]["status"], "True");
        record_stage(&mut status, "a", &facts("Upgrade", "Failure", ""));
        assert_eq!(status["nodeStatus"][0]["phase"], "Failure");
    }

    #[test]
    fn selectors_choose_by_labels() {
        let job = |selector: Value| json!({"spec": {"labelSelector": selector}});
        let labels = json!({"site": "x"});
        assert!(selects(&job(json!({"matchLabels": {"site": "x"}})), &labels));
        assert!(!selects(&job(json!({"matchLabels": {"site": "y"}})), &labels));
        let by = |operator: &str| {
            job(json!({"matchExpressions": [{"key": "site", "operator": operator, "values": ["x"]}]}))
        };
        assert!(selects(&by("In"), &labels) && selects(&by("Exists"), &labels));
        assert!(!selects(&by("NotIn"), &labels) && !selects(&by("Near"), &labels));
        assert!(!selects(&job(json!({})), &labels) && !selects(&job(Value::Null), &labels));
        assert_eq!(limit_seconds(&job(Value::Null)), SECONDS);
    }
}
