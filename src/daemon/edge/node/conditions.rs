//! The conditions of a Node, decided from what was measured and what the runtime says. Pure.
//! Reasons and messages are kubelet's own, because people and scripts look for them.

use crate::base::rfc3339;
use crate::host::facts::Measured;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is known of the container runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RuntimeState {
    Ready,
    /// This node runs no pods by its configuration.
    Off,
    /// The runtime is not ready; the sentence says why.
    NotReady(String),
    /// The runtime is ready and the pods' network is not; the sentence says why.
    NoNetwork(String),
}

/// Below these the node is under pressure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Thresholds {
    memory_available: Amount,
    disk_available: Amount,
    inodes_free: Amount,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amount {
    Bytes(u64),
    /// In thousandths, so that `12.5%` is exact.
    PerMille(u64),
}

impl Amount {
    /// Reads `100Mi`, `1G`, `5%`; `None` for anything else.
    fn parse(text: &str) -> Option<Amount> {
        let text = text.trim();
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.parse().ok()?;
            return (0.0..=100.0)
                .contains(&percent)
                .then_some(Amount::PerMille((percent * 10.0).round() as u64));
        }
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at_checked(digits)?;
        let units = ["", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"];
        let scale: [u64; 9] =
            [1, 1000, 1_000_000, 1_000_000_000, 1_000_000_000_000, 1 << 10, 1 << 20, 1 << 30, 1 << 40];
        let (_, scale) = units.into_iter().zip(scale).find(|(name, _)| *name == unit)?;
        number.parse::<u64>().ok()?.checked_mul(scale).map(Amount::Bytes)
    }

    pub(super) fn of(self, total: u64) -> u64 {
        match self {
            Amount::Bytes(bytes) => bytes,
            Amount::PerMille(share) => {
                u64::try_from(u128::from(total) * u128::from(share) / 1000).unwrap_or(total)
            }
        }
    }
}

impl Thresholds {
    /// Kubelet's hard eviction thresholds, changed by `evictionHard`; what does not parse keeps the default.
    pub(super) fn new(eviction_hard: &BTreeMap<String, String>) -> Thresholds {
        let pick = |signal: &str, default: Amount| {
            eviction_hard.get(signal).and_then(|text| Amount::parse(text)).unwrap_or(default)
        };
        Thresholds {
            memory_available: pick("memory.available", Amount::Bytes(100 << 20)),
            disk_available: pick("nodefs.available", Amount::PerMille(100)),
            inodes_free: pick("nodefs.inodesFree", Amount::PerMille(50)),
        }
    }

    /// Memory and disk that pods may use: what is there without the part that eviction defends.
    pub(super) fn allocatable(&self, measured: &Measured) -> (u64, u64) {
        (
            measured.memory_total.saturating_sub(self.memory_available.of(measured.memory_total)),
            measured.disk_total.saturating_sub(self.disk_available.of(measured.disk_total)),
        )
    }
}

/// The four conditions; a condition whose status stays keeps the time of its last transition.
pub(super) fn decide(
    measured: &Measured,
    thresholds: &Thresholds,
    runtime: &RuntimeState,
    before: &[Value],
    now: Timestamp,
) -> Vec<Value> {
    // A file system without inodes of its own (btrfs, overlay of such) tells none.
    let inodes_low =
        measured.inodes_total > 0 && measured.inodes_free < thresholds.inodes_free.of(measured.inodes_total);
    let disk_low = measured.disk_total > 0
        && measured.disk_available < thresholds.disk_available.of(measured.disk_total);
    let memory_low = measured.memory_total > 0
        && measured.memory_available < thresholds.memory_available.of(measured.memory_total);
    // A thousand ids are what a machine needs to stay usable.
    let pids_low = measured.processes_limit > 0 && measured.processes + 1000 > measured.processes_limit;
    let told = |low: bool, yes: (&'static str, &str), no: (&'static str, &str)| {
        let (reason, message) = if low { yes } else { no };
        (low, reason, message.to_owned())
    };
    let ready = match runtime {
        RuntimeState::Ready => (true, "KubeletReady", "kubelet is posting ready status".to_owned()),
        RuntimeState::Off => {
            (true, "KubeletReady", "kubelet is posting ready status (no pods on this node)".to_owned())
        }
        RuntimeState::NotReady(why) | RuntimeState::NoNetwork(why) => (false, "KubeletNotReady", why.clone()),
    };
    let all = [
        (
            "MemoryPressure",
            told(
                memory_low,
                ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
                ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ),
        ),
        (
            "DiskPressure",
            told(
                disk_low || inodes_low,
                ("KubeletHasDiskPressure", "kubelet has disk pressure"),
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ),
        ),
        (
            "PIDPressure",
            told(
                pids_low,
                ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
                ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ),
        ),
        ("Ready", ready),
    ];
    let now = rfc3339(now);
    all.into_iter()
        .map(|(kind, (yes, reason, message))| {
            let status = if yes { "True" } else { "False" };
            let since = before
                .iter()
                .find(|c| c.get("type").and_then(Value::as_str) == Some(kind))
                .filter(|c| c.get("status").and_then(Value::as_str) == Some(status))
                .and_then(|c| c.get("lastTransitionTime").and_then(Value::as_str))
                .unwrap_or(&now);
            json!({"type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": since})
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Measured {
        Measured {
            processors: 2,
            memory_total: 24 << 30,
            memory_available: 20 << 30,
            disk_total: 100 << 30,
            disk_available: 50 << 30,
            inodes_total: 1000,
            inodes_free: 900,
            processes_limit: 32768,
            processes: 100,
        }
    }

    fn status<'a>(conditions: &'a [Value], kind: &str) -> &'a str {
        conditions.iter().find(|c| c["type"] == kind).unwrap()["status"].as_str().unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_healthy_machine_is_ready_without_pressure() {
        let found = decide(&healthy(), &Thresholds::new(&BTreeMap::new()), &RuntimeState::Ready, &[], at(0));
        let all: Vec<&str> = found.iter().map(|c| c["status"].as_str().unwrap()).collect();
        assert_eq!(all, ["False", "False", "False", "True"]);
        assert_eq!(found[3]["reason"], "KubeletReady");
    }

    #[test]
    fn each_shortage_has_its_condition() {
        let thresholds = Thresholds::new(&BTreeMap::new());
        let cases = [
            (Measured { memory_available: 99 << 20, ..healthy() }, "MemoryPressure"),
            (Measured { disk_available: 9 << 30, ..healthy() }, "DiskPressure"),
            (Measured { inodes_free: 49, ..healthy() }, "DiskPressure"),
            (Measured { processes: 32000, ..healthy() }, "PIDPressure"),
        ];
        for (measured, kind) in cases {
            let found = decide(&measured, &thresholds, &RuntimeState::Ready, &[], at(0));
            assert_eq!(status(&found, kind), "True", "{kind}");
            assert_eq!(found.iter().filter(|c| c["status"] == "True").count(), 2);
        }
        let none =
            Measured { disk_total: 0, disk_available: 0, inodes_total: 0, inodes_free: 0, ..healthy() };
        assert_eq!(
            status(&decide(&none, &thresholds, &RuntimeState::Ready, &[], at(0)), "DiskPressure"),
            "False"
        );
    }

    #[test]
    fn transitions_are_timed_and_heartbeats_go_on() {
        let thresholds = Thresholds::new(&BTreeMap::new());
        let first =
            decide(&healthy(), &thresholds, &RuntimeState::NotReady("it is down".into()), &[], at(10));
        assert_eq!((status(&first, "Ready"), first[3]["message"].as_str()), ("False", Some("it is down")));
        let second = decide(&healthy(), &thresholds, &RuntimeState::Ready, &first, at(20));
        assert_eq!(second[3]["lastTransitionTime"], "1970-01-01T00:00:20Z");
        assert_eq!(second[0]["lastTransitionTime"], "1970-01-01T00:00:10Z");
        assert_eq!(second[0]["lastHeartbeatTime"], "1970-01-01T00:00:20Z");
    }

    #[test]
    fn thresholds_are_read_as_kubelet_writes_them() {
        let given =
            |memory: &str| Thresholds::new(&BTreeMap::from([("memory.available".into(), memory.into())]));
        assert_eq!(given("200Mi").memory_available, Amount::Bytes(200 << 20));
        assert_eq!(given("12.5%").memory_available, Amount::PerMille(125));
        assert_eq!(given("plenty").memory_available, Amount::Bytes(100 << 20));
        assert_eq!(given("1Gi").allocatable(&healthy()), (23 << 30, 90 << 30));
    }
}
