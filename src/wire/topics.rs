//! MQTT topics of the edge (protocol.md §5.2). The device module and the broker's binding parse and format them here.

use crate::model::DeviceId;

const DEVICE: &str = "$hw/events/device/";
const NODE: &str = "$hw/events/node/";
const UPLOAD: &str = "$hw/events/upload/";
const UPLOAD_RECORDS: &str = "SYS/dis/upload_records";

/// The filters whose messages the edge takes from MQTT.
pub const SUBSCRIPTIONS: [&str; 6] = [
    "$hw/events/upload/#",
    "$hw/events/device/+/+/state/update",
    "$hw/events/device/+/+/twin/+",
    "$hw/events/node/+/membership/get",
    UPLOAD_RECORDS,
    "+/user/#",
];

/// A message from MQTT by its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A device reports or wants values.
    TwinUpdate(DeviceId),
    /// A device asks for its twin.
    TwinGet(DeviceId),
    /// A device reports its state.
    StateUpdate(DeviceId),
    /// Somebody asks which devices the node has; the node's name in the topic is not checked.
    MembershipGet(String),
    /// For the cloud, as it is.
    Upload(String),
}

impl Topic {
    /// Reads a topic; `None` when it does not concern the edge.
    pub fn parse(topic: &str) -> Option<Topic> {
        if let Some(rest) = topic.strip_prefix(DEVICE) {
            let mut levels = rest.split('/');
            let device = DeviceId::new(level(&mut levels)?, level(&mut levels)?);
            return match (levels.next()?, levels.next()?, levels.next()) {
                ("twin", "update", None) => Some(Topic::TwinUpdate(device)),
                ("twin", "get", None) => Some(Topic::TwinGet(device)),
                ("state", "update", None) => Some(Topic::StateUpdate(device)),
                _ => None,
            };
        }
        if let Some(node) = topic.strip_prefix(NODE).and_then(|rest| rest.strip_suffix("/membership/get")) {
            return (!node.is_empty() && !node.contains('/')).then(|| Topic::MembershipGet(node.to_owned()));
        }
        let user = || {
            let (first, rest) = topic.split_once('/')?;
            (!first.starts_with('$') && (rest == "user" || rest.starts_with("user/"))).then_some(())
        };
        (topic.starts_with(UPLOAD) || topic == UPLOAD_RECORDS || user().is_some())
            .then(|| Topic::Upload(topic.to_owned()))
    }
}

fn level<'a>(levels: &mut impl Iterator<Item = &'a str>) -> Option<&'a str> {
    levels.next().filter(|level| !level.is_empty())
}

/// Where an update of a device's twin is sent.
pub fn twin_update(device: &DeviceId) -> String {
    format!("{DEVICE}{device}/twin/update")
}

/// Where a device finds the answer to its update.
pub fn twin_update_result(device: &DeviceId) -> String {
    format!("{DEVICE}{device}/twin/update/result")
}

/// Where last and current values of changed properties are published.
pub fn twin_update_document(device: &DeviceId) -> String {
    format!("{DEVICE}{device}/twin/update/document")
}

/// Where a device learns what is wanted and not yet measured.
pub fn twin_update_delta(device: &DeviceId) -> String {
    format!("{DEVICE}{device}/twin/update/delta")
}

/// Where a device finds its twin.
pub fn twin_get_result(device: &DeviceId) -> String {
    format!("{DEVICE}{device}/twin/get/result")
}

/// Where a device finds the answer to its state.
pub fn state_update_result(device: &DeviceId) -> String {
    format!("{DEVICE}{device}/state/update/result")
}

/// Where changed attributes are published.
pub fn device_updated(device: &DeviceId) -> String {
    format!("{DEVICE}{device}/updated")
}

/// Where the list of devices is published.
pub fn membership_get_result(node: &str) -> String {
    format!("{NODE}{node}/membership/get/result")
}

/// Where devices that come or go are published.
pub fn membership_updated(node: &str) -> String {
    format!("{NODE}{node}/membership/updated")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn topics_are_told_apart() {
        let device = DeviceId::new("hw", "t1");
        let parse = Topic::parse;
        assert_eq!(parse("$hw/events/device/hw/t1/twin/update"), Some(Topic::TwinUpdate(device.clone())));
        assert_eq!(parse("$hw/events/device/hw/t1/twin/get"), Some(Topic::TwinGet(device.clone())));
        assert_eq!(parse("$hw/events/device/hw/t1/state/update"), Some(Topic::StateUpdate(device.clone())));
        assert_eq!(parse("$hw/events/node/n1/membership/get"), Some(Topic::MembershipGet("n1".to_owned())));
        for upload in ["$hw/events/upload/a/b", "SYS/dis/upload_records", "x/user/y", "x/user"] {
            assert_eq!(parse(upload), Some(Topic::Upload(upload.to_owned())));
        }
        for other in [
            "$hw/events/device/hw/t1/twin/update/result",
            "$hw/events/device/hw/t1/twin/cloud_updated",
            "$hw/events/device//t1/twin/update",
            "$hw/events/node//membership/get",
            "x/users",
            "$a/user/b",
            "",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(twin_update_delta(&device), "$hw/events/device/hw/t1/twin/update/delta");
    }

    proptest! {
        #[test]
        fn any_topic_is_parsed_without_panic(topic in "(\\$hw/events/(device|node|upload)/)?[a-z/]{0,40}") {
            drop(Topic::parse(&topic));
        }
    }
}
