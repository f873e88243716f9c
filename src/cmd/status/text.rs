//! The status on one screen: role, version, link, node, certificate, pods, devices, queue, store, modules, what is
//! degraded now and what was logged last. Pure.

use super::health::{Problem, cloud, edge, text};
use crate::base::{now_ms, rfc3339};
use crate::cmd::cert::Verdict;
use crate::cmd::edge_store::{age, table};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Past problems that are shown; JSON has all.
const LAST: usize = 3;

pub(super) fn told(document: &Value, problems: &[Problem]) -> String {
    let mut out = String::new();
    if let Some(edge) = edge(document) {
        of_edge(edge, &mut out);
    }
    if let Some(cloud) = cloud(document) {
        if !out.is_empty() {
            out.push('\n');
        }
        of_cloud(cloud, &mut out);
    }
    let modules = modules(document);
    if !modules.is_empty() {
        out.push('\n');
        out += &table(&["MODULE", "STATE", "ERROR"], modules);
        out.push('\n');
    }
    if !problems.is_empty() {
        out += "\nDEGRADED\n";
        for Problem { code, what, fix } in problems {
            let code = if code.is_empty() || what.contains(code.as_str()) {
                String::new()
            } else {
                format!(" [{code}]")
            };
            let fix = if fix.is_empty() { String::new() } else { format!("; fix: {fix}") };
            out += &format!("  {what}{code}{fix}\n");
        }
    }
    let last = last(document);
    if !last.is_empty() {
        out += "\nLAST PROBLEMS IN THE LOG\n";
        out += &last.join("\n");
    }
    out.trim_end().to_owned()
}

fn line(out: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        // Writing to a string cannot fail.
        let _infallible = writeln!(out, "{name:<12} {value}");
    }
}

fn of_edge(edge: &Value, out: &mut String) {
    line(out, "role", text(edge, "/role"));
    line(out, "version", text(edge, "/version"));
    let ready = if edge.pointer("/node/ready") == Some(&Value::Bool(true)) { "ready" } else { "not ready" };
    if !text(edge, "/node/name").is_empty() {
        line(out, "node", [text(edge, "/node/name"), ready, text(edge, "/node/reason")].join(" ").trim_end());
    }
    line(out, "link", &link(edge));
    if let Some(days) = edge.pointer("/certificate/daysLeft").and_then(Value::as_i64) {
        let verdict = Verdict::of(days);
        let shown = match verdict {
            Verdict::Fine => format!("{days} days left"),
            Verdict::Expired => "expired".to_owned(),
            _ => format!("{days} days left, {}", verdict.word()),
        };
        line(out, "certificate", &shown);
    }
    line(out, "runtime", text(edge, "/runtime/version"));
    if let Some(pods) = edge.get("pods").and_then(Value::as_array) {
        line(out, "pods", &counted(pods, "/phase"));
    }
    if let Some(devices) = edge.get("devices").and_then(Value::as_array) {
        line(out, "devices", &counted(devices, "/state"));
    }
    if let Some(depth) = edge.get("queueDepth").and_then(Value::as_u64) {
        line(out, "queue", &format!("{depth} reports wait for the cloud"));
    }
    if let Some(bytes) = edge.pointer("/store/bytes").and_then(Value::as_u64) {
        let mut store = format!("{} KiB in {}", bytes.div_ceil(1024), text(edge, "/store/path"));
        for field in ["error", "fix"] {
            let said = text(edge, &format!("/store/{field}"));
            if !said.is_empty() {
                store += &format!(", {field}: {said}");
            }
        }
        line(out, "store", &store);
    }
}

fn of_cloud(cloud: &Value, out: &mut String) {
    line(out, "role", "cloud");
    line(out, "version", text(cloud, "/version"));
    let listen = cloud.get("listen").and_then(Value::as_object);
    let places: Vec<String> = listen
        .into_iter()
        .flatten()
        .filter_map(|(name, address)| Some(format!("{name} {}", address.as_str()?)))
        .collect();
    line(out, "listens", &places.join(", "));
    if let Some(nodes) = cloud.get("nodes").and_then(Value::as_object) {
        line(out, "nodes", &format!("{} connected", nodes.len()));
    }
}

/// How many there are, and of which kind: `3 (2 Running, 1 Pending)`.
fn counted(items: &[Value], pointer: &str) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for item in items {
        *kinds.entry(text(item, pointer)).or_default() += 1;
    }
    kinds.remove("");
    if kinds.is_empty() {
        return items.len().to_string();
    }
    let kinds: Vec<String> = kinds.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    format!("{} ({})", items.len(), kinds.join(", "))
}

fn link(edge: &Value) -> String {
    let link = edge.get("link").unwrap_or(&Value::Null);
    let words = [text(link, "/link"), text(link, "/protocol"), text(link, "/remote")];
    let mut out = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if let Some(since) = link.get("since").and_then(Value::as_i64).filter(|since| *since > 0)
        && let Ok(since) = jiff::Timestamp::from_millisecond(since)
    {
        out += &format!(", since {} ({})", rfc3339(since), age(&since.to_string()));
    }
    if let Some(micros) = link.get("roundTrip").and_then(Value::as_u64) {
        out += &format!(", round trip {}.{:03} ms", micros / 1000, micros % 1000);
    }
    for field in ["error", "fix"] {
        let said = text(link, &format!("/{field}"));
        if !said.is_empty() {
            out += &format!(", {field}: {said}");
        }
    }
    out
}

/// Modules of every wing in the document.
fn modules(document: &Value) -> Vec<Vec<String>> {
    let wings = [edge(document), cloud(document)];
    let lists = wings.into_iter().flatten().filter_map(|wing| wing.get("modules")?.as_array());
    let cell = |module: &Value, field: &str| text(module, &format!("/{field}")).to_owned();
    lists.flatten().map(|m| vec![cell(m, "name"), cell(m, "state"), cell(m, "error")]).collect()
}

/// The newest kinds of warnings; their reasons, which may be over, are in JSON.
fn last(document: &Value) -> Vec<String> {
    let wings = [edge(document), cloud(document)];
    let lists = wings.into_iter().flatten().filter_map(|wing| wing.get("recentProblems")?.as_array());
    let mut all: Vec<(i64, String)> = lists
        .flatten()
        .map(|problem| {
            let at = problem.get("at").and_then(Value::as_i64).unwrap_or(0);
            let times = problem.get("times").and_then(Value::as_u64).unwrap_or(1);
            let often = if times > 1 { format!(" ({times} times)") } else { String::new() };
            let seconds = (now_ms().saturating_sub(at) / 1000).max(0);
            (at, format!("  {seconds} s ago  {}{often}", text(problem, "/message")))
        })
        .collect();
    all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    all.dedup();
    all.into_iter().take(LAST).map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::health::problems;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_is_told_in_lines() {
        let document = json!({"role": "edge", "version": "0.1.0", "node": {"name": "n1", "ready": true, "reason": ""},
            "link": {"link": "up", "protocol": "websocket", "remote": "127.0.0.1:10000", "roundTrip": 1234},
            "pods": [{"phase": "Running"}, {"phase": "Pending"}, {"phase": "Running"}], "devices": [],
            "queueDepth": 0, "store": {"bytes": 4096, "path": "/x"}, "certificate": {"daysLeft": 20},
            "modules": [{"name": "mqtt", "state": "ready"}]});
        let expected = "role         edge\nversion      0.1.0\nnode         n1 ready\n\
            link         up websocket 127.0.0.1:10000, round trip 1.234 ms\n\
            certificate  20 days left, warning\npods         3 (1 Pending, 2 Running)\ndevices      0\n\
            queue        0 reports wait for the cloud\nstore        4 KiB in /x\n\nMODULE   STATE   ERROR\nmqtt     ready";
        assert_eq!(told(&document, &problems(&document)), expected);
        assert_eq!(told(&json!({"edge": document}), &[]), expected);
    }

    #[test]
    fn what_is_degraded_and_what_was_logged_stands_below() {
        let document = json!({"role": "edge", "link": {"link": "down", "error": "no way [KE-LINK-002]", "code": "KE-LINK-002", "fix": "look"},
            "recentProblems": [{"at": now_ms() - 5000, "times": 3, "message": "no connection to the cloud", "code": "KE-LINK-002", "error": "x"}]});
        let said = told(&document, &problems(&document));
        assert!(said.contains("\nDEGRADED\n  no way [KE-LINK-002]; fix: look\n"), "{said}");
        assert!(
            said.ends_with("LAST PROBLEMS IN THE LOG\n  5 s ago  no connection to the cloud (3 times)"),
            "{said}"
        );
    }

    #[test]
    fn a_cloud_is_told_alone_and_beside_an_edge() {
        let cloud = json!({"role": "cloud", "version": "0.1.0", "listen": {"websocket": "0.0.0.0:10000"}, "nodes": {"a": {}},
            "modules": [{"name": "hub", "state": "ready"}]});
        let alone = told(&cloud, &[]);
        assert_eq!(
            alone,
            "role         cloud\nversion      0.1.0\nlistens      websocket 0.0.0.0:10000\nnodes        1 connected\n\nMODULE   STATE   ERROR\nhub      ready"
        );
        let both = told(&json!({"role": "edge", "version": "0.1.0", "cloud": cloud}), &[]);
        assert!(both.starts_with("role         edge\n") && both.ends_with("hub      ready"), "{both}");
    }
}
