//! What has crashed or held up KubeEdge, sent to both of our ends: the hazards of protocol.md §13 and the advisories of
//! its history. Each test sends one of them and then asks for the same: bounded memory, a live process, other sessions
//! untouched, a reason that is logged once.

mod at_cloud;
mod at_edge;
mod table;

use crate::support::machine::{Memory, memory};
use serde_json::{Value, json};
use std::path::Path;

const MIB: u64 = 1 << 20;

/// The process is there and has not grown by more than a few messages of the greatest size.
#[track_caller]
fn bounded(pid: u32, before: Memory) {
    let after = memory(pid);
    assert!(after.resident < before.resident + 48 * MIB, "{before:?} {after:?}");
    assert!(after.peak < before.peak.max(before.resident) + 160 * MIB, "{before:?} {after:?}");
}

/// The log has no panic, and each of these reasons once.
#[track_caller]
fn told_once(log: &Path, reasons: &[&str]) {
    let text = std::fs::read_to_string(log).unwrap();
    assert!(!text.contains("panicked"), "{text}");
    for reason in reasons {
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(reason)).collect();
        assert_eq!(lines.len(), 1, "{reason}: {lines:#?} of {text}");
    }
}

/// Contents that nobody expects.
fn odd_contents() -> Vec<Value> {
    let deep = (0..100).fold(json!("x"), |inner, _| json!({"metadata": inner}));
    vec![
        Value::Null,
        json!(7),
        json!(true),
        json!(""),
        json!("null"),
        json!("\u{0}{"),
        json!([]),
        json!([null]),
        json!({}),
        json!({"metadata": null, "spec": null, "status": null}),
        json!({"metadata": [], "spec": 1, "status": "x"}),
        json!({"metadata": {"name": 1, "namespace": [], "uid": {}, "resourceVersion": 5, "labels": []}}),
        json!({"Object": null, "Err": null}),
        json!({"Object": null, "Err": {}}),
        json!({"ErrStatus": null}),
        deep,
    ]
}
