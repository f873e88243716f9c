//! Any text as a resource path, with every operation, at both ends; a path that is understood is written as it was.
#![no_main]

use kedge::model::{DeviceId, Kind, NodeName, ObjectKey};
use kedge::wire::envelope::Route;
use kedge::wire::{Envelope, decode_down, decode_up};
use kedge_fuzz::{envelopes, plant};
use libfuzzer_sys::fuzz_target;

const SOURCES: [(&str, &str); 6] = [
    ("edged", "meta"),
    ("edgecontroller", "resource"),
    ("devicecontroller", "twin"),
    ("router_eventbus", "user"),
    ("taskmanager", "taskmanager"),
    ("metaserver", "dynamiccontroller"),
];
const OPERATIONS: [&str; 12] = [
    "insert", "update", "delete", "query", "patch", "response", "error", "get", "upload", "publish", "Check",
    "applicationResponse",
];

fuzz_target!(
    init: plant("resource_path", envelopes().filter_map(|m| {
        Some(m.pointer("/route/resource")?.as_str()?.as_bytes().to_vec())
    })),
    |path: &str| {
        if let Some(key) = ObjectKey::parse(path) {
            assert_eq!(key.to_string(), path);
            assert_eq!(Kind::parse(key.kind.as_str()), Some(key.kind));
        }
        if let Some(device) = DeviceId::parse(path) {
            assert_eq!(DeviceId::parse(&device.to_string()), Some(device));
        }
        drop(NodeName::new(path));
        for (source, group) in SOURCES {
            for operation in OPERATIONS {
                let route = Route {
                    source: source.to_owned(),
                    group: group.to_owned(),
                    operation: operation.to_owned(),
                    resource: path.to_owned(),
                    ..Route::default()
                };
                let envelope = Envelope { route, ..Envelope::default() };
                assert_eq!(decode_up(envelope.clone()).resource, path);
                drop(decode_down(envelope));
            }
        }
    }
);
