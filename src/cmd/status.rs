//! `kedge status`: what the running daemon says of itself over its socket. Fails with exit status 4 when none runs.

use super::edge_store::{DatabaseArgs, age, table};
use crate::base::{Exit, Failure, Output, Term};
use crate::daemon::status;
use serde_json::Value;
use std::fmt::Write;
use std::path::PathBuf;

/// Show the state of the daemon on this machine
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge status\n  kedge status --data-dir /srv/kedge -o json")]
pub struct Args {
    /// The daemon's socket; found below the data directory when not given
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    place: DatabaseArgs,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let places = match args.socket {
        Some(path) => vec![path],
        None => args.place.sockets(),
    };
    let document = ask_first(&places)?;
    match args.output {
        Output::Text => term.data(&told(&document)),
        form => term.value(&document, form)?,
    }
    Ok(Exit::Done)
}

/// The first daemon that answers; the failure is about the first place.
fn ask_first(places: &[PathBuf]) -> Result<Value, Failure> {
    let mut first = None;
    for place in places {
        match status::ask(place) {
            Ok(document) => return Ok(document),
            Err(failure) => {
                first.get_or_insert(failure);
            }
        }
    }
    Err(first.unwrap_or_else(|| {
        Failure::new("KE-STATUS-001", "no kedge daemon is running here").exit(Exit::Unreachable)
    }))
}

/// One paragraph per wing: a document of `kedge up` holds the edge's under `edge`.
fn told(document: &Value) -> String {
    let edge = document.get("edge").unwrap_or(document);
    let text = |pointer: &str| edge.pointer(pointer).and_then(Value::as_str).unwrap_or("");
    let mut out = String::new();
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            // Writing to a string cannot fail.
            let _infallible = writeln!(out, "{name:<12} {value}");
        }
    };
    put("version", text("/version").to_owned());
    let ready = if edge.pointer("/node/ready") == Some(&Value::Bool(true)) { "ready" } else { "not ready" };
    if !text("/node/name").is_empty() {
        put("node", [text("/node/name"), ready, text("/node/reason")].join(" ").trim_end().to_owned());
    }
    put("link", link(edge.get("link").unwrap_or(&Value::Null)));
    if let Some(days) = edge.pointer("/certificate/daysLeft").and_then(Value::as_i64) {
        put("certificate", format!("{days} days left"));
    }
    let count = |field: &str| edge.get(field).and_then(Value::as_array).map(Vec::len);
    if let (Some(pods), Some(devices)) = (count("pods"), count("devices")) {
        put("pods", pods.to_string());
        put("devices", devices.to_string());
    }
    if let Some(depth) = edge.get("queueDepth").and_then(Value::as_u64) {
        put("queue", format!("{depth} reports wait for the cloud"));
    }
    if let Some(bytes) = edge.pointer("/store/bytes").and_then(Value::as_u64) {
        let mut store = format!("{} KiB in {}", bytes.div_ceil(1024), text("/store/path"));
        for field in ["error", "fix"] {
            let said = text(&format!("/store/{field}"));
            if !said.is_empty() {
                store += &format!(", {field}: {said}");
            }
        }
        put("store", store);
    }
    let modules = modules(document);
    if !modules.is_empty() {
        out.push('\n');
        out += &table(&["MODULE", "STATE", "ERROR"], modules);
    }
    out.trim_end().to_owned()
}

fn link(link: &Value) -> String {
    let text = |field: &str| link.get(field).and_then(Value::as_str).unwrap_or("");
    let mut out = [text("link"), text("remote")].join(" ").trim().to_owned();
    if let Some(since) = link.get("since").and_then(Value::as_i64).filter(|since| *since > 0)
        && let Ok(since) = jiff::Timestamp::from_millisecond(since)
    {
        out += &format!(", since {} ({})", crate::base::rfc3339(since), age(&since.to_string()));
    }
    if let Some(micros) = link.get("roundTrip").and_then(Value::as_u64) {
        out += &format!(", round trip {}.{:03} ms", micros / 1000, micros % 1000);
    }
    for field in ["error", "fix"] {
        if !text(field).is_empty() {
            out += &format!(", {field}: {}", text(field));
        }
    }
    out
}

/// Modules of every wing in the document.
fn modules(document: &Value) -> Vec<Vec<String>> {
    let wings = [None, Some("edge"), Some("cloud")];
    let lists = wings.into_iter().filter_map(|wing| {
        let place = wing.map_or(Some(document), |wing| document.get(wing))?;
        place.get("modules")?.as_array()
    });
    let text =
        |module: &Value, field: &str| module.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    lists.flatten().map(|m| vec![text(m, "name"), text(m, "state"), text(m, "error")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_is_told_in_lines() {
        let document = json!({"version": "0.1.0", "node": {"name": "n1", "ready": true, "reason": ""},
            "link": {"link": "up", "remote": "127.0.0.1:10000", "roundTrip": 1234}, "pods": [1], "devices": [],
            "queueDepth": 0, "store": {"bytes": 4096, "path": "/x"}, "certificate": {"daysLeft": 364},
            "modules": [{"name": "mqtt", "state": "ready"}]});
        let expected = "version      0.1.0\nnode         n1 ready\nlink         up 127.0.0.1:10000, round trip 1.234 ms\n\
            certificate  364 days left\npods         1\ndevices      0\nqueue        0 reports wait for the cloud\n\
            store        4 KiB in /x\n\nMODULE   STATE   ERROR\nmqtt     ready";
        assert_eq!(told(&document), expected);
        assert_eq!(told(&json!({"edge": document})), expected);
    }

    #[test]
    fn without_a_daemon_it_says_so_with_status_four() {
        let dir = tempfile::tempdir().unwrap();
        let failure = ask_first(&[dir.path().join("a.sock"), dir.path().join("b.sock")]).unwrap_err();
        assert_eq!((failure.code, failure.exit), ("KE-STATUS-001", Exit::Unreachable));
        assert!(failure.why.contains("a.sock"));
    }
}
