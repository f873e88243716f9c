//! Which nodes are upgraded next, and when a roll-out is over. Pure: what the cluster shows goes in, one step comes out;
//! whoever runs it again on the same cluster gets the same next step.

use crate::model::Release;
use ring::digest;
use std::collections::BTreeMap;

/// How a node stands before the roll-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub name: String,
    /// What it runs, as far as its kubelet's version tells.
    pub runs: Option<Release>,
    pub ready: bool,
}

/// How many nodes may be out of work at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Most {
    Nodes(usize),
    Percent(usize),
}

impl Most {
    /// Reads `N` or `N%`.
    pub(super) fn parse(text: &str) -> Result<Most, String> {
        let wrong = || format!("{text:?} is neither a number of nodes nor a share such as 10%");
        let (digits, percent) = match text.strip_suffix('%') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        let number: usize = digits.parse().map_err(|_| wrong())?;
        match (number, percent) {
            (0, _) => Err("at least one node must be allowed to be away".to_owned()),
            (1..=100, true) => Ok(Most::Percent(number)),
            (_, true) => Err(wrong()),
            (number, false) => Ok(Most::Nodes(number)),
        }
    }

    /// Nodes of so many; a share is rounded down, but never to nothing.
    pub(super) fn of(self, all: usize) -> usize {
        match self {
            Most::Nodes(number) => number.min(all).max(1),
            Most::Percent(share) => (all.saturating_mul(share) / 100).max(1),
        }
    }
}

/// What a node's row in a job of this roll-out said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    Failed(String),
}

/// What there is to go on from.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// Verdicts of earlier jobs by node, the latest one.
    pub verdicts: BTreeMap<String, Verdict>,
    /// Highest number of a job of this roll-out.
    pub last: u64,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Upgrade these together.
    Wave(Vec<String>),
    /// More failed in this run than the budget bears.
    Spent,
    /// Nothing is left that could be upgraded now.
    Over,
}

/// A run of the command: what it was told, and what has failed since it began.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub to: Release,
    pub most: Most,
    /// Nodes that may fail before no more waves begin.
    pub budget: usize,
    pub failed: BTreeMap<String, String>,
    /// Nodes that could not take part and were not touched; they cost no budget.
    pub skipped: BTreeMap<String, String>,
}

impl Run {
    /// Nodes that are still to be upgraded and can be: those that failed earlier come last.
    pub(super) fn left(&self, nodes: &[Node], history: &History) -> Vec<String> {
        let open = nodes.iter().filter(|node| {
            node.ready
                && node.runs.as_ref() != Some(&self.to)
                && !self.failed.contains_key(&node.name)
                && !self.skipped.contains_key(&node.name)
                && history.verdicts.get(&node.name) != Some(&Verdict::Done)
        });
        let (again, fresh): (Vec<&Node>, Vec<&Node>) =
            open.partition(|node| history.verdicts.contains_key(&node.name));
        fresh.into_iter().chain(again).map(|node| node.name.clone()).collect()
    }

    /// What follows. The first wave is one node alone, unless an earlier one has shown that the release works here. Nodes
    /// that are not Ready count as being away.
    pub(super) fn next(&self, nodes: &[Node], history: &History) -> Step {
        if self.failed.len() > self.budget {
            return Step::Spent;
        }
        let left = self.left(nodes, history);
        if left.is_empty() {
            return Step::Over;
        }
        let proven = nodes.iter().any(|node| {
            node.runs.as_ref() == Some(&self.to) || history.verdicts.get(&node.name) == Some(&Verdict::Done)
        });
        let away = nodes.iter().filter(|node| !node.ready).count();
        let most = self.most.of(nodes.len()).saturating_sub(away).max(1);
        let size = if proven { most } else { 1 };
        Step::Wave(left.into_iter().take(size).collect())
    }

    /// Waves that are still to come when everything goes well, for a person's sense of progress.
    pub(super) fn waves(&self, nodes: &[Node], history: &History) -> usize {
        let left = self.left(nodes, history).len();
        match self.next(nodes, history) {
            Step::Wave(first) => 1 + left.saturating_sub(first.len()).div_ceil(self.most.of(nodes.len())),
            Step::Spent | Step::Over => 0,
        }
    }
}

/// Names the roll-out of a version over a choice of nodes; the same words give the same name.
pub(super) fn identity(to: &Release, choice: &str) -> String {
    let hash = digest::digest(&digest::SHA256, format!("{to} {choice}").as_bytes());
    let hex: String = hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hex}", to.bare().replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn release(text: &str) -> Release {
        Release::parse(text).unwrap()
    }

    fn nodes(count: usize) -> Vec<Node> {
        let one = |n| Node { name: format!("n{n}"), runs: Some(release("1.0.0")), ready: true };
        (0..count).map(one).collect()
    }

    fn run(most: Most, budget: usize) -> Run {
        Run { to: release("1.1.0"), most, budget, failed: BTreeMap::new(), skipped: BTreeMap::new() }
    }

    #[test]
    fn shares_are_read_and_rounded_down() {
        assert_eq!(Most::parse("10%"), Ok(Most::Percent(10)));
        assert_eq!(Most::parse("3"), Ok(Most::Nodes(3)));
        for wrong in ["", "0", "0%", "101%", "-1", "a", "1.5", "%"] {
            assert!(Most::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!((Most::Percent(10).of(25), Most::Percent(1).of(3), Most::Nodes(9).of(4)), (2, 1, 4));
    }

    #[test]
    fn one_goes_first_and_the_rest_in_waves() {
        let mut run = run(Most::Nodes(2), 0);
        let mut fleet = nodes(5);
        let mut history = History::default();
        assert_eq!(
            (run.next(&fleet, &history), run.waves(&fleet, &history)),
            (Step::Wave(vec!["n0".to_owned()]), 3)
        );
        fleet[0].runs = Some(release("v1.1.0"));
        assert_eq!(run.next(&fleet, &history), Step::Wave(vec!["n1".to_owned(), "n2".to_owned()]));
        // A node that is not Ready is away, and one that failed before comes last.
        fleet[4].ready = false;
        history.verdicts.insert("n1".to_owned(), Verdict::Failed("why".to_owned()));
        assert_eq!(run.next(&fleet, &history), Step::Wave(vec!["n2".to_owned()]));
        for node in &mut fleet[2..4] {
            node.runs = Some(release("1.1.0"));
        }
        assert_eq!(run.next(&fleet, &history), Step::Wave(vec!["n1".to_owned()]));
        run.failed.insert("n1".to_owned(), "again".to_owned());
        assert_eq!(run.next(&fleet, &history), Step::Spent);
        run.budget = 1;
        assert_eq!((run.next(&fleet, &history), run.waves(&fleet, &history)), (Step::Over, 0));
    }

    #[test]
    fn who_was_skipped_costs_no_budget_and_is_not_asked_again() {
        let mut run = run(Most::Nodes(1), 0);
        let fleet = nodes(2);
        run.skipped.insert("n0".to_owned(), "too old".to_owned());
        let step = run.next(&fleet, &History::default());
        assert_eq!(step, Step::Wave(vec!["n1".to_owned()]));
        run.skipped.insert("n1".to_owned(), "away".to_owned());
        assert_eq!(run.next(&fleet, &History::default()), Step::Over);
    }

    #[test]
    fn the_same_words_name_the_same_rollout() {
        let name = identity(&release("1.1.0-rc.1"), "a,b");
        assert_eq!(name, identity(&release("v1.1.0-rc.1"), "a,b"));
        assert_ne!(name, identity(&release("1.1.0-rc.1"), "a"));
        assert!(name.starts_with("1-1-0-rc-1-"), "{name}");
    }

    proptest! {
        /// However the waves end: none is larger than allowed, none begins on a spent budget, and it ends.
        #[test]
        fn waves_keep_to_their_bounds(
            count in 1usize..30,
            most in 1usize..6,
            budget in 0usize..4,
            luck in proptest::collection::vec(any::<bool>(), 1..64),
        ) {
            let mut run = run(Most::Nodes(most), budget);
            let mut fleet = nodes(count);
            let history = History::default();
            let mut luck = luck.into_iter().cycle();
            for _ in 0..=count {
                match run.next(&fleet, &history) {
                    Step::Wave(wave) => {
                        prop_assert!(!wave.is_empty());
                        prop_assert!(wave.len() <= most);
                        prop_assert!(run.failed.len() <= budget);
                        for name in wave {
                            if luck.next().unwrap_or(true) {
                                let node = fleet.iter_mut().find(|node| node.name == name).unwrap();
                                prop_assert_ne!(node.runs.as_ref(), Some(&run.to));
                                node.runs = Some(run.to.clone());
                            } else {
                                run.failed.insert(name, "why".to_owned());
                            }
                        }
                    }
                    Step::Spent => {
                        prop_assert!(run.failed.len() > budget);
                        return Ok(());
                    }
                    Step::Over => {
                        let settled = fleet.iter().all(|node| {
                            node.runs.as_ref() == Some(&run.to) || run.failed.contains_key(&node.name)
                        });
                        prop_assert!(settled);
                        return Ok(());
                    }
                }
            }
            prop_assert!(false, "it does not end");
        }
    }
}
