//! What becomes of a job by the numbers of its nodes, in both engines alike. A node that was skipped is none of the nodes
//! that may fail: nobody has asked anything of it. Pure; `plan` and `stages` count, each in its own words.

/// The nodes of a job by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Nodes that take part, which those that were skipped do not.
    pub all: u32,
    /// Nodes of them that failed or are lost.
    pub failed: u32,
    /// Nodes of them that have not ended.
    pub open: u32,
    pub skipped: u32,
}

impl Tally {
    /// Why nothing can come of the job.
    pub(super) fn hopeless(&self) -> Option<&'static str> {
        match (self.all, self.skipped) {
            (0, 0) => Some("no edge node is chosen"),
            (0, _) => Some("none of the chosen nodes can take part: each says why"),
            _ => None,
        }
    }

    /// Whether the job has failed, as [`is_spent`] says.
    pub(super) fn is_spent(&self, tolerate: f64) -> bool {
        is_spent(tolerate, (self.all, self.failed))
    }

    /// The reason of a job that ends so, empty for one of which nothing is to be said; `left` is what the nodes are of
    /// which nothing more is asked.
    pub(super) fn reason(&self, tolerate: f64, left: &str) -> String {
        let Tally { all, failed, open, skipped } = *self;
        let mut parts = Vec::new();
        if self.is_spent(tolerate) {
            parts.push(if share(all, failed) > tolerate {
                format!("{failed} of {all} nodes failed, failureTolerate is {tolerate}")
            } else {
                format!("{failed} of {all} nodes failed: none is as the job wants it")
            });
            if open > 0 {
                parts.push(format!("{open} were {left}"));
            }
        }
        if skipped > 0 {
            parts.push(format!("{skipped} of {} nodes were skipped", all.saturating_add(skipped)));
        }
        parts.join("; ")
    }
}

/// Rounded to two decimals, as KubeEdge does.
fn share(all: u32, failed: u32) -> f64 {
    (f64::from(failed) / f64::from(all.max(1)) * 100.0).round() / 100.0
}

/// Whether more have failed than the job bears; it bears none that all do.
fn is_spent(tolerate: f64, (all, failed): (u32, u32)) -> bool {
    failed > 0 && (failed >= all || share(all, failed) > tolerate)
}

#[cfg(test)]
mod tests {
    use super::super::plan::{self, Fitness};
    use super::super::stages;
    use super::super::wanted::Wanted;
    use super::*;
    use crate::wire::task::{ActionOutcome, CHECK, JobKind, StageFacts, StageKind};
    use serde_json::{Value, json};

    /// Every node that can take part is asked at once, and fails its check.
    fn all_fail(nodes: &[(String, Fitness)], tolerate: f64) -> [Value; 2] {
        let job = Wanted::example(nodes.len(), tolerate);
        let mut actions = plan::begun(nodes);
        for node in plan::due(&job, &actions, |_| true) {
            plan::start(&mut actions, &node, "now");
            let outcome = ActionOutcome { action: CHECK.to_owned(), ..ActionOutcome::default() };
            plan::record((JobKind::NodeUpgrade, false), &mut actions, &node, &outcome, "now");
        }
        plan::conclude(&job, &mut actions);
        let (kind, facts) = (StageKind::Upgrade, |event: &str, action: &str| StageFacts {
            event: event.to_owned(),
            action: action.to_owned(),
            ..StageFacts::default()
        });
        let mut staged = stages::begun(kind, nodes, "now");
        for facts in [facts("Init", "Success"), facts("Check", "Failure")] {
            for node in stages::due(kind, &job, &staged, |_| true) {
                stages::start(kind, &mut staged, &node, "now");
                stages::record(kind, &mut staged, &node, &facts, "now");
            }
            stages::conclude(kind, &job, &mut staged, "now");
        }
        [actions, staged]
    }

    fn nodes(fit: usize, unfit: usize) -> Vec<(String, Fitness)> {
        let unfit = vec![Fitness::Unfit("too old".to_owned()); unfit];
        let all = unfit.into_iter().chain(vec![Fitness::Fit; fit]);
        all.enumerate().map(|(n, fitness)| (format!("n{n}"), fitness)).collect()
    }

    #[test]
    fn a_job_in_which_all_who_were_asked_failed_has_failed_in_both_engines() {
        for (nodes, tolerate, why) in [
            (nodes(2, 8), 0.2, "2 of 2 nodes failed, failureTolerate is 0.2; 8 of 10 nodes were skipped"),
            (nodes(2, 0), 0.5, "2 of 2 nodes failed, failureTolerate is 0.5"),
            (nodes(1, 0), 1.0, "1 of 1 nodes failed: none is as the job wants it"),
            (nodes(0, 3), 1.0, "none of the chosen nodes can take part: each says why"),
            (nodes(0, 0), 1.0, "no edge node is chosen"),
        ] {
            let [actions, staged] = all_fail(&nodes, tolerate);
            assert_eq!((&actions["phase"], &actions["reason"]), (&json!("Failure"), &json!(why)));
            assert_eq!(
                (&staged["state"], &staged["action"], &staged["reason"]),
                (&json!("Failed"), &json!("Failure"), &json!(why))
            );
        }
    }

    #[test]
    fn the_share_is_that_of_the_nodes_that_take_part() {
        assert!(!is_spent(0.0, (3, 0)) && is_spent(0.0, (3, 1)));
        assert!(!is_spent(0.33, (3, 1)) && is_spent(0.33, (3, 2)));
        let tally = Tally { all: 4, failed: 1, open: 0, skipped: 2 };
        assert_eq!(tally.reason(0.25, "not begun"), "2 of 6 nodes were skipped");
        let tally = Tally { open: 2, skipped: 0, ..tally };
        assert_eq!(
            tally.reason(0.2, "not begun"),
            "1 of 4 nodes failed, failureTolerate is 0.2; 2 were not begun"
        );
        assert_eq!(Tally { all: 1, ..Tally::default() }.reason(0.0, "not begun"), "");
    }
}
