//! Who has his turn: what one node may report, how many letters are taken in a row, and that limits of steps wait until the
//! reports that came before have been read. Pure, time comes from outside; `mod` asks here.

use crate::model::NodeName;
use std::collections::HashMap;
use std::time::Instant;

/// Reports that a node may make at once; a job has five.
const BURST: f64 = 128.0;
/// Reports that a node may make per second in the long run.
const PER_SECOND: f64 = 8.0;
/// Nodes with a budget; those that have not reported for long are forgotten first.
const NODES: usize = 4096;
/// Letters of one kind that are taken before the others are looked at.
const IN_A_ROW: usize = 16;

/// What each node may still report: every report costs the API a call, whatever job it names.
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
    /// Whether the node may report now; if so, it is paid for.
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

/// Reports come first, then changes of the API; neither keeps the others waiting for long.
#[derive(Default)]
pub(super) struct Turns {
    reports: usize,
    changes: usize,
}

impl Turns {
    /// Whether a report may be taken.
    pub(super) fn hears(&self) -> bool {
        self.reports < IN_A_ROW
    }

    /// Whether a change may be taken.
    pub(super) fn sees(&self) -> bool {
        self.changes < IN_A_ROW
    }

    pub(super) fn heard(&mut self) {
        self.reports += 1;
    }

    pub(super) fn seen(&mut self) {
        self.changes += 1;
    }

    /// Everybody has had a turn.
    pub(super) fn begin(&mut self) {
        *self = Turns::default();
    }
}

/// Reports that are read before anybody is given up. After the API was away they say that many a step has ended.
#[derive(Default)]
pub(super) struct Backlog(Option<usize>);

impl Backlog {
    /// A report was read.
    pub(super) fn read(&mut self) {
        self.0 = self.0.map(|left| left.saturating_sub(1));
    }

    /// Whether those that waited at an earlier look are all read; `waiting` are there now. Later ones hold nothing up, so
    /// that a node which never ends speaking cannot either.
    pub(super) fn is_read(&mut self, waiting: usize) -> bool {
        let left = *self.0.get_or_insert(waiting);
        if left > 0 && waiting > 0 {
            return false;
        }
        self.0 = None;
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
    fn a_node_that_reports_without_end_runs_out_and_no_other_does() {
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

    #[test]
    fn after_some_letters_of_a_kind_the_others_have_their_turn() {
        let mut turns = Turns::default();
        while turns.hears() {
            turns.heard();
        }
        assert!(turns.sees());
        while turns.sees() {
            turns.seen();
        }
        assert_eq!((turns.reports, turns.changes, turns.hears()), (16, 16, false));
        turns.begin();
        assert!(turns.hears() && turns.sees());
    }

    #[test]
    fn nobody_is_given_up_before_what_was_said_is_read() {
        let mut backlog = Backlog::default();
        backlog.read();
        assert!(backlog.is_read(0));
        assert!(!backlog.is_read(2));
        backlog.read();
        assert!(!backlog.is_read(5));
        backlog.read();
        assert!(backlog.is_read(7), "later ones hold nothing up");
        assert!(!backlog.is_read(1));
        assert!(backlog.is_read(0), "nothing waits any more");
    }
}
