//! The way of a node from nothing to Ready, as the daemon's status document shows it. Pure: a document in, the milestone
//! that is pending and why out. The first four are reached before anything is written.

use crate::host::remedy;
use serde_json::Value;

/// All milestones in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Milestone {
    Tcp,
    Tls,
    CaHash,
    Certificate,
    Session,
    Node,
    Runtime,
    Cni,
    Ready,
}

/// What the daemon shows, once it runs.
pub(super) const OF_THE_DAEMON: [Milestone; 5] =
    [Milestone::Session, Milestone::Node, Milestone::Runtime, Milestone::Cni, Milestone::Ready];
pub(super) const TOTAL: usize = 9;

impl Milestone {
    /// How it is called towards a person.
    pub(super) fn name(self) -> &'static str {
        match self {
            Milestone::Tcp => "TCP",
            Milestone::Tls => "TLS",
            Milestone::CaHash => "CA hash",
            Milestone::Certificate => "certificate",
            Milestone::Session => "hub session",
            Milestone::Node => "Node object",
            Milestone::Runtime => "runtime",
            Milestone::Cni => "CNI",
            Milestone::Ready => "Ready",
        }
    }
}

/// Whether a milestone is behind the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Reached(String),
    Pending { why: String, fix: String },
}

/// How far the node is with one milestone.
pub(super) fn progress(milestone: Milestone, document: &Value) -> Progress {
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let yes = |pointer: &str| document.pointer(pointer) == Some(&Value::Bool(true));
    let reached = |detail: &str| Progress::Reached(detail.to_owned());
    let pending = |why: &str, fix: &str| Progress::Pending { why: why.to_owned(), fix: fix.to_owned() };
    let state = text("/runtime/state");
    match milestone {
        // Before the daemon runs these are reached or the join has ended.
        Milestone::Tcp | Milestone::Tls | Milestone::CaHash | Milestone::Certificate => reached(""),
        Milestone::Session => match text("/link/link") {
            "up" => reached(text("/link/remote")),
            _ => pending(or(text("/link/error"), "the daemon connects to the cloud"), text("/link/fix")),
        },
        Milestone::Node => match yes("/node/registered") {
            true => reached(text("/node/name")),
            false => pending(
                "the cloud has not stored the Node object",
                "see the cloud's log: `kubectl get nodes` needs the Node",
            ),
        },
        Milestone::Runtime => match state {
            "ready" | "noNetwork" => reached(or(text("/runtime/version"), "it answers")),
            "off" => reached("none: this node runs no pods"),
            _ => pending(
                or(text("/node/reason"), "the container runtime was not asked yet"),
                &format!("start the container runtime: {}", remedy::restart("containerd")),
            ),
        },
        Milestone::Cni => match state {
            "ready" => reached("the pod network is ready"),
            "off" => reached("none: this node runs no pods"),
            _ => pending(
                or(text("/node/reason"), "the pod network is not ready"),
                "look at the files in /etc/cni/net.d, and restart the container runtime",
            ),
        },
        Milestone::Ready => match yes("/node/ready") && yes("/node/confirmed") {
            true => reached("the cloud has it as Ready"),
            false => pending(
                or(text("/node/reason"), "the cloud has not confirmed the node's state"),
                "see `kedge status` and the cloud's log",
            ),
        },
    }
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn first_pending(document: &Value) -> Option<(Milestone, String)> {
        OF_THE_DAEMON.into_iter().find_map(|milestone| match progress(milestone, document) {
            Progress::Pending { why, .. } => Some((milestone, why)),
            Progress::Reached(_) => None,
        })
    }

    #[test]
    fn the_pending_milestone_is_named_with_its_reason() {
        let mut document =
            json!({"link": {"link": "down", "error": "no route", "fix": "look"}, "node": {"name": "n1"}});
        let mut expect = |change: (&str, Value), milestone: Option<Milestone>, why: &str| {
            if let Some((field, value)) = Some(change).filter(|(field, _)| !field.is_empty()) {
                document[field] = value;
            }
            let found = first_pending(&document);
            assert_eq!(found.as_ref().map(|(milestone, _)| *milestone), milestone, "{document}");
            assert!(found.is_none_or(|(_, said)| said.contains(why)), "{document}");
        };
        expect(("", Value::Null), Some(Milestone::Session), "no route");
        expect(("link", json!({"link": "up"})), Some(Milestone::Node), "Node object");
        expect(
            ("node", json!({"registered": true, "reason": "it is down"})),
            Some(Milestone::Runtime),
            "it is down",
        );
        expect(("runtime", json!({"state": "noNetwork"})), Some(Milestone::Cni), "it is down");
        expect(("runtime", json!({"state": "ready"})), Some(Milestone::Ready), "it is down");
        expect(("node", json!({"registered": true, "ready": true})), Some(Milestone::Ready), "confirmed");
        expect(("node", json!({"registered": true, "ready": true, "confirmed": true})), None, "");
        expect(("runtime", json!({"state": "off"})), None, "");
    }

    #[test]
    fn all_milestones_have_names_and_an_order() {
        let mut all = vec![Milestone::Tcp, Milestone::Tls, Milestone::CaHash, Milestone::Certificate];
        all.extend(OF_THE_DAEMON);
        assert_eq!(all.len(), TOTAL);
        assert!(all.is_sorted() && all.iter().all(|milestone| !milestone.name().is_empty()));
        assert!(matches!(progress(Milestone::Tcp, &Value::Null), Progress::Reached(_)));
    }
}
