//! What one node may cost the API beyond what the indexes answer: so much at once, so much per second in the long run. `gate`
//! pays for look-ups from one, `jobs` for task reports from another. Pure, time comes from outside.

use crate::model::NodeName;
use std::collections::HashMap;
use std::time::Instant;

/// Calls that a node may cause at once.
const BURST: f64 = 128.0;
/// Calls that a node may cause per second in the long run.
const PER_SECOND: f64 = 8.0;
/// Nodes with a budget; those that have spent nothing for long are forgotten first.
const NODES: usize = 4096;

/// The budgets of all nodes for one kind of call.
#[derive(Default)]
pub(super) struct Budgets(HashMap<NodeName, Budget>);

struct Budget {
    left: f64,
    at: Instant,
}

impl Budget {
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * PER_SECOND).min(BURST);
        self.at = now;
    }
}

impl Budgets {
    /// Whether the node may cause a call now; if so, it is paid for.
    pub(super) fn spend(&mut self, node: &NodeName, now: Instant) -> bool {
        if self.0.len() >= NODES && !self.0.contains_key(node) {
            self.0.retain(|_, budget| {
                budget.refill(now);
                budget.left < BURST
            });
        }
        let budget = self.0.entry(node.clone()).or_insert(Budget { left: BURST, at: now });
        budget.refill(now);
        if budget.left < 1.0 {
            return false;
        }
        budget.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    #[test]
    fn a_node_that_spends_without_end_runs_out_and_no_other_does() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        let mut spend =
            |name: &str, count: usize, now| (0..count).filter(|_| budgets.spend(&node(name), now)).count();
        assert_eq!(spend("n1", 1000, now), 128);
        assert_eq!(spend("n2", 1000, now), 128);
        assert_eq!(spend("n1", 1000, now + Duration::from_secs(1)), 8);
    }

    #[test]
    fn idle_nodes_are_forgotten() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        for n in 0..NODES {
            budgets.spend(&node(&format!("n{n}")), now);
        }
        budgets.spend(&node("other"), now + Duration::from_secs(60));
        assert_eq!(budgets.0.len(), 1);
    }
}
