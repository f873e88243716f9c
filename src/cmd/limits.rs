//! `kedge limits`: how much of what kedge takes, and what happens beyond. The figures are the constants and defaults that
//! the program itself uses, so that this table cannot be wrong.

use super::cert::Verdict;
use super::edge_store::table;
use crate::base::{Exit, Failure, Output, Term};
use crate::config::cloud::CloudConfig;
use crate::config::edge::EdgeConfig;
use crate::daemon::edge::{device, mqtt};
use crate::host::bundle;
use crate::{base, config, model, pki, wire};
use serde::Serialize;
use serde_json::{Value, json};

/// Show the limits of this version, and what happens beyond them
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge limits\n  kedge limits -o json")]
pub struct Args {
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// One figure.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Limit {
    area: &'static str,
    name: &'static str,
    value: u64,
    unit: &'static str,
    /// The key that changes it; empty when nothing does.
    setting: &'static str,
    beyond: &'static str,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let limits = all()?;
    match args.output {
        Output::Text => {
            let rows = limits.iter().map(|limit| {
                let setting = if limit.setting.is_empty() { "-" } else { limit.setting };
                vec![
                    limit.area.to_owned(),
                    limit.name.to_owned(),
                    shown(limit),
                    setting.to_owned(),
                    limit.beyond.to_owned(),
                ]
            });
            term.data(&table(&["AREA", "LIMIT", "VALUE", "SETTING", "BEYOND IT"], rows));
        }
        form => {
            term.value(&json!({"apiVersion": "kedge.io/v1", "kind": "LimitList", "items": limits}), form)?;
        }
    }
    Ok(Exit::Done)
}

/// Bytes in the largest unit that divides them.
fn shown(limit: &Limit) -> String {
    if limit.unit != "bytes" {
        return format!("{} {}", limit.value, limit.unit);
    }
    for (unit, size) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("MB", 1_000_000)] {
        if limit.value >= size && limit.value.is_multiple_of(size) {
            return format!("{} {unit}", limit.value / size);
        }
    }
    format!("{} bytes", limit.value)
}

fn all() -> Result<Vec<Limit>, Failure> {
    let edge =
        EdgeConfig::from_value(&json!({"modules": {"edged": {"hostnameOverride": "node"}}}), "the defaults")?
            .config;
    let cloud = CloudConfig::from_value(&Value::Null, "the defaults")?.config;
    let broker = mqtt::Config::default();
    let days = |time: std::time::Duration| time.as_secs() / 86_400;
    let rows = [
        (
            "link",
            "message between cloud and node",
            bytes(wire::envelope::MESSAGE_LIMIT),
            "",
            "the message is refused with an answer; the connection stays",
        ),
        ("link", "piece of a log or a session", bytes(wire::tunnel::DATA_LIMIT), "", "the sender splits it"),
        (
            "link",
            "time between two signs of life",
            (edge.hub.heartbeat.as_secs(), "s"),
            "modules.edgeHub.heartbeat",
            "the connection is opened anew",
        ),
        (
            "link",
            "time for a question to the cloud",
            (edge.hub.question_limit.as_secs(), "s"),
            "modules.metaManager.remoteQueryTimeout",
            "KE-META-004, and it is asked again",
        ),
        ("objects", "data of a ConfigMap or Secret", bytes(model::DATA_LIMIT), "", "the API refuses it"),
        (
            "devices",
            "letters of a property's name",
            (device::NAME_LIMIT as u64, "letters"),
            "",
            "the report of the property is refused",
        ),
        (
            "devices",
            "letters of a property's value",
            (device::VALUE_LIMIT as u64, "letters"),
            "",
            "the report of the property is refused",
        ),
        (
            "devices",
            "reports that wait one by one",
            (device::REPORTS_ONE_BY_ONE as u64, "reports"),
            "",
            "reports of one device are joined: the latest value of each property stays",
        ),
        ("mqtt", "packet", bytes(broker.packet_limit), "", "the client is disconnected"),
        (
            "mqtt",
            "connections at once",
            (broker.connections as u64, "clients"),
            "",
            "one more is closed at once",
        ),
        ("rules", "body that a node sends", bytes(wire::user::UPLOAD_LIMIT), "", "the sender is told 413"),
        ("rules", "body that the cloud sends", bytes(wire::user::CALL_LIMIT), "", "the sender is told 413"),
        (
            "pods",
            "pods on a node",
            (u64::from(edge.edged.max_pods), "pods"),
            "modules.edged.tailoredKubeletConfig.maxPods",
            "the scheduler chooses another node",
        ),
        (
            "pods",
            "files of a container's log",
            (u64::from(edge.edged.log_max_files), "files"),
            "modules.edged.tailoredKubeletConfig.containerLogMaxFiles",
            "the oldest is removed",
        ),
        (
            "cloud",
            "nodes connected at once",
            (cloud.hub.node_limit as u64, "nodes"),
            "modules.cloudHub.nodeLimit",
            "a node is told when to come back",
        ),
        (
            "identity",
            "life of a node's certificate",
            (days(cloud.hub.certificate_life), "days"),
            "modules.cloudHub.edgeCertSigningDuration",
            "it is renewed after two thirds of it",
        ),
        (
            "identity",
            "days left that are a warning",
            (Verdict::WARNING_DAYS as u64, "days"),
            "",
            "`kedge cert list` and `kedge status` warn",
        ),
        (
            "identity",
            "days left that are an error",
            (Verdict::ERROR_DAYS as u64, "days"),
            "",
            "`kedge cert list` and `kedge status` exit with 1",
        ),
        ("identity", "join token", bytes(pki::TOKEN_LIMIT), "", "KE-TOKEN-004"),
        (
            "files",
            "configuration",
            bytes(usize::try_from(config::FILE_LIMIT).unwrap_or(usize::MAX)),
            "",
            "KE-FILE-002",
        ),
        ("files", "binary in a bundle", (bundle::BINARY_LIMIT, "bytes"), "", "KE-BUNDLE-002"),
        ("files", "archive of images in a bundle", (bundle::IMAGE_LIMIT, "bytes"), "", "KE-BUNDLE-002"),
        ("files", "archives of images in a bundle", (bundle::IMAGES as u64, "archives"), "", "KE-BUNDLE-002"),
        (
            "files",
            "part of a bug report",
            bytes(super::bugreport::PART_LIMIT),
            "",
            "its first lines are left out",
        ),
        (
            "daemon",
            "failures of one module in a minute",
            (base::FAILURES_BEFORE_GIVING_UP as u64, "failures"),
            "",
            "the daemon ends, and the service manager starts it again",
        ),
        ("daemon", "time to stop", (base::SHUTDOWN_TOTAL.as_secs(), "s"), "", "what still runs is ended"),
    ];
    Ok(rows
        .into_iter()
        .map(|(area, name, (value, unit), setting, beyond)| Limit {
            area,
            name,
            value,
            unit,
            setting,
            beyond,
        })
        .collect())
}

fn bytes(value: usize) -> (u64, &'static str) {
    (value as u64, "bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::survey::Role;

    #[test]
    fn every_setting_exists_and_every_figure_is_one() {
        for limit in all().unwrap() {
            assert!(limit.value > 0, "{}", limit.name);
            let known = [Role::Edge, Role::Cloud].iter().any(|role| role.path(limit.setting).is_ok());
            assert!(limit.setting.is_empty() || known, "{}", limit.setting);
        }
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit() {
        let show =
            |value| shown(&Limit { area: "", name: "", value, unit: "bytes", setting: "", beyond: "" });
        assert_eq!([16 << 20, 1 << 10, 5_000_000, 1000].map(show), ["16 MiB", "1 KiB", "5 MB", "1000 bytes"]);
    }
}
