//! What nodes were refused: counted per node and kind, the first of each logged, shown by `kedge status`. The session, the
//! door, the certificate service, the tunnels and `control` report here; whether a refusal holds or is only logged is decided in this one place.

use crate::model::Status;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Nodes that are told apart; refusals of further ones are counted together.
const NODES: usize = 2048;
const OTHERS: &str = "(others)";

type Counts = BTreeMap<String, BTreeMap<&'static str, u64>>;

/// The counters; cheap to clone.
#[derive(Clone)]
pub struct Refusals {
    enforce: bool,
    counted: Arc<Mutex<Counted>>,
}

#[derive(Default)]
struct Counted {
    requests: Counts,
    connections: Counts,
    certificates: Counts,
    tunnels: Counts,
    undelivered: Counts,
    rivals: BTreeMap<String, Rivals>,
}

/// Two daemons that take each other's place.
#[derive(serde::Serialize)]
struct Rivals {
    /// Where they are, the one that came last first.
    remotes: [String; 2],
    times: u64,
}

fn count(counts: &mut Counts, node: &str, kind: &'static str) -> bool {
    let room = counts.len() < NODES || counts.contains_key(node);
    let kinds = counts.entry(if room { node } else { OTHERS }.to_owned()).or_default();
    let times = kinds.entry(kind).or_default();
    *times += 1;
    *times == 1
}

impl Refusals {
    /// With `enforce` false everything is let through, counted and logged as if it were not.
    pub fn new(enforce: bool) -> Refusals {
        Refusals { enforce, counted: Arc::default() }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether refusals hold.
    pub fn enforced(&self) -> bool {
        self.enforce
    }

    /// A node asked for what is not its own: fails with `Forbidden` where refusals hold.
    pub fn refuse(&self, node: &str, kind: &'static str, why: &str) -> Result<(), Status> {
        let enforced = self.enforce;
        if count(&mut self.counted().requests, node, kind) {
            tracing::warn!(node, kind, enforced, reason = why, "a node asked for what is not its own");
        }
        if enforced { Err(Status::failure(403, "Forbidden", why)) } else { Ok(()) }
    }

    /// A connection is not let in (or would not be, where that is only logged).
    pub fn refuse_connection(&self, node: &str, why: &'static str, remote: std::net::SocketAddr, held: bool) {
        if count(&mut self.counted().connections, node, why) {
            tracing::warn!(node, %remote, reason = why, enforced = held, "a connection was refused");
        }
    }

    /// A certificate is not issued; `detail` says more of this very case and holds no secret.
    pub fn refuse_certificate(
        &self,
        node: &str,
        why: &'static str,
        detail: &str,
        remote: std::net::SocketAddr,
    ) {
        if count(&mut self.counted().certificates, node, why) {
            tracing::warn!(node, %remote, reason = detail, "a certificate was refused");
        }
    }

    /// Two live daemons have the name and certificate of one node and take turns.
    pub fn rivals(&self, node: &str, new: std::net::SocketAddr, old: std::net::SocketAddr) {
        let mut counted = self.counted();
        let times = counted.rivals.get(node).map_or(0, |rivals| rivals.times) + 1;
        if times == 1 {
            tracing::warn!(
                code = "KE-DUP-003",
                node,
                remote = %new,
                other = %old,
                fix = "stop one of the two; a machine of its own joins under a name of its own",
                "two live daemons have this node's name and certificate and take each other's place"
            );
        }
        if times > 1 || counted.rivals.len() < NODES {
            let remotes = [new.to_string(), old.to_string()];
            counted.rivals.insert(node.to_owned(), Rivals { remotes, times });
        }
    }

    /// A tunnel is not opened.
    pub fn refuse_tunnel(&self, node: &str, why: &'static str, remote: std::net::SocketAddr) {
        if count(&mut self.counted().tunnels, node, why) {
            tracing::warn!(node, %remote, reason = why, "a tunnel was refused");
        }
    }

    /// An object is not sent to a node because no message can hold it.
    pub fn undelivered(&self, node: &str) {
        count(&mut self.counted().undelivered, node, "too large");
    }

    /// All counters, for `kedge status`.
    pub fn facts(&self) -> Value {
        let counted = self.counted();
        json!({
            "enforced": self.enforce,
            "requests": counted.requests,
            "connections": counted.connections,
            "certificates": counted.certificates,
            "tunnels": counted.tunnels,
            "undelivered": counted.undelivered,
            "rivals": counted.rivals,
        })
    }
}

impl Default for Refusals {
    fn default() -> Self {
        Refusals::new(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_per_node_and_kind() {
        let refusals = Refusals::new(true);
        for _ in 0..3 {
            assert_eq!(refusals.refuse("n1", "secret", "not yours").unwrap_err().code, 403);
        }
        refusals.refuse("n2", "pod", "not yours").unwrap_err();
        refusals.refuse_connection("n1", "no", ([127, 0, 0, 1], 1).into(), true);
        for _ in 0..2 {
            refusals.refuse_certificate("n1", "no", "no: never", ([127, 0, 0, 1], 1).into());
            refusals.refuse_tunnel("n2", "no", ([127, 0, 0, 1], 1).into());
        }
        let facts = refusals.facts();
        assert_eq!(facts["certificates"], json!({"n1": {"no": 2}}));
        assert_eq!(facts["tunnels"], json!({"n2": {"no": 2}}));
        assert_eq!(facts["requests"], json!({"n1": {"secret": 3}, "n2": {"pod": 1}}));
        assert_eq!(facts["connections"], json!({"n1": {"no": 1}}));
        for (new, old) in [(1, 2), (2, 1)] {
            refusals.rivals("n1", ([127, 0, 0, 1], new).into(), ([127, 0, 0, 1], old).into());
        }
        let rivals = json!({"n1": {"remotes": ["127.0.0.1:2", "127.0.0.1:1"], "times": 2}});
        assert_eq!(refusals.facts()["rivals"], rivals);
    }

    #[test]
    fn what_is_only_logged_is_let_through() {
        let refusals = Refusals::new(false);
        assert_eq!(refusals.refuse("n1", "secret", "not yours"), Ok(()));
        assert_eq!(refusals.facts()["requests"]["n1"]["secret"], 1);
    }

    #[test]
    fn many_names_do_not_take_memory_without_end() {
        let refusals = Refusals::new(true);
        for n in 0..NODES + 10 {
            drop(refusals.refuse(&format!("n{n}"), "secret", "not yours"));
        }
        assert_eq!(refusals.facts()["requests"][OTHERS]["secret"], 10);
    }
}
