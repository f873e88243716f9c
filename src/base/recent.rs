//! The last warnings and errors that this process has logged, for `kedge status`: each kind once, with how often and when
//! last. Fed by the log itself, so that nothing is told twice; like the log it holds no payload and no secret.

use super::clock::now_ms;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Kinds that are remembered.
const KINDS: usize = 16;
/// Letters of a text that are kept.
const LENGTH: usize = 300;

/// One kind of problem.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecentProblem {
    /// Milliseconds since the epoch.
    pub at: i64,
    pub times: u64,
    /// The constant text of the log line.
    pub message: String,
    /// Empty when the line has none.
    pub code: String,
    pub error: String,
}

static RECENT: Mutex<VecDeque<RecentProblem>> = Mutex::new(VecDeque::new());

/// What was logged last as a warning or an error, newest first; at most 16 kinds.
pub fn recent_problems() -> Vec<RecentProblem> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

fn remember(problem: RecentProblem) {
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |known: &RecentProblem| known.message == problem.message && known.code == problem.code;
    let known = recent.iter().position(same).and_then(|place| recent.remove(place));
    let times = known.map_or(1, |known| known.times.saturating_add(1));
    recent.push_front(RecentProblem { times, ..problem });
    recent.truncate(KINDS);
}

/// The part of the log that remembers.
pub(super) struct Recent;

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let own = event.metadata().target().starts_with("kedge");
        if !own || *event.metadata().level() > Level::WARN {
            return;
        }
        let mut problem = RecentProblem { at: now_ms(), ..RecentProblem::default() };
        event.record(&mut problem);
        remember(problem);
    }
}

impl Visit for RecentProblem {
    fn record_str(&mut self, field: &Field, value: &str) {
        let slot = match field.name() {
            "message" => &mut self.message,
            "code" => &mut self.code,
            "error" => &mut self.error,
            _ => return,
        };
        *slot = value.chars().take(LENGTH).collect();
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn a_kind_is_remembered_once_with_its_newest_words() {
        let subscriber = tracing_subscriber::registry().with(Recent);
        tracing::subscriber::with_default(subscriber, || {
            for attempt in 0..3 {
                tracing::warn!(code = "KE-TEST-001", error = %format!("no {attempt}"), "the test has a problem");
            }
            tracing::info!("the test has none");
        });
        let all = recent_problems();
        let found: Vec<_> = all.iter().filter(|problem| problem.message.starts_with("the test")).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].times, found[0].error.as_str(), found[0].code.as_str()),
            (3, "no 2", "KE-TEST-001")
        );
        assert!(found[0].at > 0 && all.len() <= KINDS);
    }
}
