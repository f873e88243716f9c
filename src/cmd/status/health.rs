//! What is degraded, judged from a daemon's own document: the link, the node, modules, the store, certificates. Pure.

use crate::base::now_ms;
use crate::cmd::cert::Verdict;
use serde::Serialize;
use serde_json::Value;

/// Something that is not as it should be now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    pub(super) code: String,
    pub(super) what: String,
    pub(super) fix: String,
}

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The document of the edge, wherever it stands.
pub(super) fn edge(document: &Value) -> Option<&Value> {
    let below = document.get("edge");
    below.or_else(|| (text(document, "/role") != "cloud").then_some(document))
}

/// The document of the cloud, wherever it stands.
pub(super) fn cloud(document: &Value) -> Option<&Value> {
    let below = document.get("cloud").filter(|cloud| cloud.get("role").is_some());
    below.or_else(|| (text(document, "/role") == "cloud").then_some(document))
}

/// All that is degraded; empty when all is well.
pub(super) fn problems(document: &Value) -> Vec<Problem> {
    let mut found = Vec::new();
    if let Some(edge) = edge(document) {
        of_edge(edge, &mut found);
        of_modules(edge, &mut found);
    }
    if let Some(cloud) = cloud(document) {
        of_modules(cloud, &mut found);
    }
    found
}

/// What is to be done about a damaged database that was set aside.
pub(in crate::cmd) const ASIDE_FIX: &str =
    "check the disk that it is on (dmesg); this is told until the file is moved elsewhere or removed";
/// What is to be done about two daemons of one node.
pub(in crate::cmd) const RIVAL_FIX: &str =
    "stop the other one; a machine of its own joins under a name of its own";
/// A rival that has not been seen for so long, in milliseconds, is gone.
const RIVAL_SEEN: i64 = 600_000;

/// The other daemon with this node's name and certificate, as long as the two take each other's place.
pub(in crate::cmd) fn rival(edge: &Value) -> Option<String> {
    let rival = edge.pointer("/link/rival")?;
    let at = rival.get("at").and_then(Value::as_i64)?;
    let (other, own, times) = (text(rival, "/other"), text(rival, "/own"), rival.get("times")?);
    (now_ms().saturating_sub(at) < RIVAL_SEEN).then(|| {
        format!(
            "another daemon has this node's name and certificate: it is at {other}, this one at {own}, and {times} times \
             it took this one's place"
        )
    })
}

fn of_edge(edge: &Value, found: &mut Vec<Problem>) {
    let mut put = |code: &str, what: String, fix: &str| {
        found.push(Problem { code: code.to_owned(), what, fix: fix.to_owned() });
    };
    if text(edge, "/link/link") == "down" {
        let why = text(edge, "/link/error");
        let what = if why.is_empty() { "no connection to the cloud".to_owned() } else { why.to_owned() };
        put(text(edge, "/link/code"), what, text(edge, "/link/fix"));
    }
    if let Some(rival) = rival(edge) {
        put("KE-DUP-003", rival, RIVAL_FIX);
    }
    let reason = text(edge, "/node/reason");
    if edge.pointer("/node/ready") == Some(&Value::Bool(false)) && !reason.is_empty() {
        put("", format!("the node is not ready: {reason}"), "");
    }
    if !text(edge, "/store/error").is_empty() {
        put(text(edge, "/store/code"), text(edge, "/store/error").to_owned(), text(edge, "/store/fix"));
    }
    let aside = text(edge, "/store/rescue/aside");
    if !aside.is_empty() {
        let from = match text(edge, "/store/rescue/restored") {
            "" => "the node began again with what the cloud sends".to_owned(),
            copy => format!("{copy} took its place"),
        };
        put("KE-DB-004", format!("the database was damaged and is set aside as {aside}; {from}"), ASIDE_FIX);
    }
    if let Some(days) = edge.pointer("/certificate/daysLeft").and_then(Value::as_i64)
        && Verdict::of(days).is_bad()
    {
        let expired = Verdict::of(days) == Verdict::Expired;
        let what = if expired {
            "the node's certificate has expired".to_owned()
        } else {
            format!("the node's certificate ends in {days} days")
        };
        put(
            "KE-CERT-001",
            what,
            if expired { "join again with a token of `kedge token create`" } else { "kedge cert renew" },
        );
    }
}

fn of_modules(wing: &Value, found: &mut Vec<Problem>) {
    for module in wing.get("modules").and_then(Value::as_array).into_iter().flatten() {
        if matches!(text(module, "/state"), "backoff" | "failed") {
            let what = format!(
                "module {} is in {}: {}",
                text(module, "/name"),
                text(module, "/state"),
                text(module, "/error")
            );
            found.push(Problem { code: String::new(), what, fix: "see its log lines".to_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn healthy() -> Value {
        json!({"role": "edge", "link": {"link": "up"}, "node": {"ready": true, "reason": ""},
            "certificate": {"daysLeft": 100}, "modules": [{"name": "a", "state": "ready"}, {"name": "b", "state": "starting"}],
            "store": {"bytes": 1}})
    }

    #[test]
    fn what_is_degraded_is_named() {
        assert_eq!(problems(&healthy()), []);
        let cases = [
            (
                "/link",
                json!({"link": "down", "error": "no way", "code": "KE-LINK-002", "fix": "look"}),
                "no way",
            ),
            (
                "/link",
                json!({"link": "up", "rival": {"own": "10.0.0.5:1", "other": "10.0.0.7:2", "times": 3,
                    "at": crate::base::now_ms()}}),
                "at 10.0.0.7:2, this one at 10.0.0.5:1",
            ),
            ("/node", json!({"ready": false, "reason": "runtime"}), "not ready: runtime"),
            ("/store", json!({"error": "full", "code": "KE-STORE-003"}), "full"),
            (
                "/store",
                json!({"rescue": {"aside": "/x.damaged-1", "restored": null}}),
                "set aside as /x.damaged-1; the node began again",
            ),
            ("/certificate", json!({"daysLeft": 7}), "ends in 7 days"),
            ("/certificate", json!({"daysLeft": -1}), "has expired"),
            (
                "/modules",
                json!([{"name": "m", "state": "backoff", "error": "e"}]),
                "module m is in backoff: e",
            ),
        ];
        for (pointer, value, words) in cases {
            let mut document = healthy();
            *document.pointer_mut(pointer).unwrap() = value;
            let found = problems(&document);
            assert_eq!(found.len(), 1, "{pointer}");
            assert!(found[0].what.contains(words), "{found:?}");
            let mut both = healthy();
            both["cloud"] = json!({"role": "cloud", "modules": document["modules"]});
            assert_eq!(problems(&both).is_empty(), pointer != "/modules", "{pointer}");
        }
    }

    #[test]
    fn thirty_days_are_no_problem_yet() {
        let mut document = healthy();
        document["certificate"]["daysLeft"] = json!(30);
        assert_eq!(problems(&document), []);
    }
}
