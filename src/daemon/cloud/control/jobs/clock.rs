//! How long the present step of each node lasts, as far as this run knows. Every replica counts for every node, the one
//! that does not hear it too: the time that the status tells says when another step has begun. Pure; `mod` decides what
//! follows.

use super::Name;
use jiff::Timestamp;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The steps that are counted, by job and node.
#[derive(Default)]
pub(super) struct Clock(HashMap<(Name, String), Step>);

struct Step {
    /// As the status tells it, by whatever clock; `None` for the wait for a connection.
    since: Option<Timestamp>,
    began: Instant,
}

impl Clock {
    /// A step begins now.
    pub(super) fn begin(&mut self, name: &Name, node: &str, since: Option<Timestamp>, now: Instant) {
        self.0.insert((name.clone(), node.to_owned()), Step { since, began: now });
    }

    pub(super) fn stop(&mut self, name: &Name, node: &str) {
        self.0.remove(&(name.clone(), node.to_owned()));
    }

    pub(super) fn forget(&mut self, name: &Name) {
        self.0.retain(|(of, _), _| of != name);
    }

    /// How long a step lasts that the status dates so. One that is new here lasts `before` already; one that follows
    /// another begins with this look, for the node's clock may be wrong.
    pub(super) fn waited(
        &mut self,
        name: &Name,
        node: &str,
        since: Option<Timestamp>,
        before: impl FnOnce() -> Duration,
        now: Instant,
    ) -> Duration {
        let first = || Step { since, began: now.checked_sub(before()).unwrap_or(now) };
        let step = self.0.entry((name.clone(), node.to_owned())).or_insert_with(first);
        if step.since != since {
            *step = Step { since, began: now };
        }
        now.saturating_duration_since(step.began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::task::JobKind;

    #[test]
    fn each_step_has_its_full_time_also_where_the_node_is_not_heard() {
        let (name, start) = ((JobKind::NodeUpgrade, "j".to_owned()), Instant::now());
        let time = |second: i64| Timestamp::from_second(1_700_000_000 + second).ok();
        let (limit, none) = (Duration::from_secs(300), || Duration::ZERO);
        let mut clock = Clock::default();
        let at = |second: u64| start + Duration::from_secs(second);
        // Ordered here or anywhere; nobody has told this replica since.
        assert_eq!(clock.waited(&name, "n", time(0), none, at(0)), Duration::ZERO);
        assert_eq!(clock.waited(&name, "n", time(0), none, at(299)).as_secs(), 299);
        // An hour later somebody agrees, and the status says that a step has ended a moment ago, or by its clock long ago.
        for since in [time(3599), time(-9000)] {
            let waited = clock.waited(&name, "n", since, || panic!("it is known"), at(3600));
            assert!(waited < Duration::from_secs(1), "{waited:?}");
        }
        assert!(clock.waited(&name, "n", time(-9000), none, at(3901)) > limit);
        clock.begin(&name, "n", time(7), at(3901));
        assert_eq!(clock.waited(&name, "n", time(7), none, at(3902)).as_secs(), 1);
    }

    #[test]
    fn a_new_run_goes_on_counting_and_what_is_forgotten_begins_anew() {
        let (name, now) = ((JobKind::NodeUpgrade, "j".to_owned()), Instant::now());
        let mut clock = Clock::default();
        let second = Duration::from_secs(1);
        assert_eq!(clock.waited(&name, "n", None, || second, now), second);
        assert_eq!(clock.waited(&name, "n", None, || Duration::ZERO, now + second), 2 * second);
        clock.stop(&name, "n");
        assert_eq!(clock.waited(&name, "n", None, || Duration::ZERO, now), Duration::ZERO);
        clock.forget(&name);
        assert_eq!(clock.waited(&name, "n", None, || second, now), second);
    }
}
