//! Keys of objects that one controller has to look at: each at most once in the queue, never worked on twice at the
//! same time, later and later after failures. Bounded by the number of objects there are.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

const FIRST_RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// A queue of keys with delay and de-duplication.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<String>,
    queued: HashSet<String>,
    running: HashSet<String>,
    /// Asked for while running; queued again when done.
    again: HashSet<String>,
    later: BTreeSet<(Instant, String)>,
    /// When each key of `later` is due.
    due: HashMap<String, Instant>,
    failures: HashMap<String, u32>,
}

impl State {
    fn push(&mut self, key: String) {
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a key to be worked on.
    pub(super) fn add(&self, key: String) {
        self.state().push(key);
        self.changed.notify_one();
    }

    /// Asks for a key to be worked on after some time; an earlier appointment stays.
    pub(super) fn add_after(&self, key: String, wait: Duration) {
        let at = Instant::now() + wait;
        {
            let mut state = self.state();
            match state.due.get(&key).copied() {
                Some(earlier) if earlier <= at => return,
                Some(old) => {
                    state.later.remove(&(old, key.clone()));
                }
                None => {}
            }
            state.due.insert(key.clone(), at);
            state.later.insert((at, key));
        }
        self.changed.notify_one();
    }

    /// The next key; it must be handed back with [`Queue::done`]. Cancel-safe.
    pub(super) async fn next(&self) -> String {
        loop {
            let changed = self.changed.notified();
            let due = {
                let mut state = self.state();
                let now = Instant::now();
                while state.later.first().is_some_and(|(at, _)| *at <= now) {
                    if let Some((_, key)) = state.later.pop_first() {
                        state.due.remove(&key);
                        state.push(key);
                    }
                }
                if let Some(key) = state.ready.pop_front() {
                    state.queued.remove(&key);
                    state.running.insert(key.clone());
                    return key;
                }
                state.later.first().map(|(at, _)| *at)
            };
            match due {
                Some(at) => drop(tokio::time::timeout_at(at, changed).await),
                None => changed.await,
            }
        }
    }

    /// Hands a key back that was worked on with success.
    pub(super) fn done(&self, key: &str) {
        let mut state = self.state();
        state.failures.remove(key);
        finish(&mut state, key);
        drop(state);
        self.changed.notify_one();
    }

    /// Hands a key back that failed: it comes again after a growing time. Answers how often it failed in a row.
    pub(super) fn failed(&self, key: &str) -> u32 {
        let count = {
            let mut state = self.state();
            finish(&mut state, key);
            let count = state.failures.entry(key.to_owned()).or_insert(0);
            *count = count.saturating_add(1);
            *count
        };
        let wait = FIRST_RETRY.saturating_mul(1 << count.saturating_sub(1).min(16)).min(LAST_RETRY);
        self.add_after(key.to_owned(), wait);
        count
    }
}

fn finish(state: &mut State, key: &str) {
    state.running.remove(key);
    if state.again.remove(key) {
        state.push(key.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_queued_once_and_comes_again_when_asked_for_meanwhile() {
        let queue = Queue::default();
        queue.add("a".into());
        queue.add("a".into());
        assert_eq!(queue.next().await, "a");
        queue.add("a".into());
        let early = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(early.is_err(), "never twice at the same time");
        queue.done("a");
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_and_longer() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add("a".into());
        for round in 1..=3 {
            assert_eq!(queue.next().await, "a");
            assert_eq!(queue.failed("a"), round);
        }
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed(), Duration::from_millis(10 + 20 + 40));
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_appointment_stays() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after("a".into(), Duration::from_secs(9));
        queue.add_after("a".into(), Duration::from_secs(5));
        queue.add_after("a".into(), Duration::from_secs(7));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}
