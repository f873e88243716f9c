//! Any text as a topic of the node's broker; a topic that is understood is written as it was.
#![no_main]

use kedge::wire::topics::{SUBSCRIPTIONS, Topic, twin_update};
use kedge_fuzz::plant;
use libfuzzer_sys::fuzz_target;

const RECORDED: [&str; 7] = [
    "$hw/events/device/default/thermo-1/twin/update",
    "$hw/events/device/thermo-1/twin/get",
    "$hw/events/device/default/thermo-1/state/update",
    "$hw/events/node/edge-ref/membership/get",
    "$hw/events/upload/foo",
    "SYS/dis/upload_records",
    "default/user/a",
];

fuzz_target!(
    init: plant("topic", SUBSCRIPTIONS.iter().chain(&RECORDED).map(|topic| topic.as_bytes().to_vec())),
    |topic: &str| match Topic::parse(topic) {
        Some(Topic::TwinUpdate(device)) => assert_eq!(twin_update(&device), topic),
        Some(Topic::Upload(whole)) => assert_eq!(whole, topic),
        Some(Topic::MembershipGet(node)) => assert!(!node.is_empty() && !node.contains('/')),
        Some(_) | None => {}
    }
);
