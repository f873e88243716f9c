//! Work that runs side by side, but one after another per key: messages about one pod or device keep their order.
//! Lives inside a module's own task, so it ends with the module.

use crate::base::BoxFuture;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::{HashMap, VecDeque};

/// Jobs by key.
pub(super) struct Lanes<'a> {
    running: FuturesUnordered<BoxFuture<'a, String>>,
    waiting: HashMap<String, VecDeque<BoxFuture<'a, ()>>>,
    queued: usize,
    room: usize,
}

impl<'a> Lanes<'a> {
    /// At most `room` jobs are held; the owner takes no more letters while there are so many.
    pub(super) fn new(room: usize) -> Self {
        Lanes { running: FuturesUnordered::new(), waiting: HashMap::new(), queued: 0, room }
    }

    pub(super) fn has_room(&self) -> bool {
        self.running.len() + self.queued < self.room
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Starts a job, or queues it behind the running one of the same key.
    pub(super) fn push(&mut self, key: String, job: BoxFuture<'a, ()>) {
        if let Some(line) = self.waiting.get_mut(&key) {
            line.push_back(job);
            self.queued += 1;
        } else {
            self.waiting.insert(key.clone(), VecDeque::new());
            self.start(key, job);
        }
    }

    fn start(&mut self, key: String, job: BoxFuture<'a, ()>) {
        self.running.push(Box::pin(async move {
            job.await;
            key
        }));
    }

    /// Waits for the next job to end and starts its successor; cancel-safe. Only call it when not idle.
    pub(super) async fn ended(&mut self) {
        let Some(key) = self.running.next().await else { return };
        let Some(line) = self.waiting.get_mut(&key) else { return };
        if let Some(job) = line.pop_front() {
            self.queued -= 1;
            self.start(key, job);
        } else {
            self.waiting.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn one_key_keeps_its_order_and_others_overtake() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut lanes = Lanes::new(10);
        for (key, name, wait) in [("a", "a1", 50), ("a", "a2", 1), ("b", "b1", 10)] {
            let seen = seen.clone();
            lanes.push(
                key.to_owned(),
                Box::pin(async move {
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                    seen.lock().unwrap().push(name);
                }),
            );
        }
        while !lanes.is_idle() {
            lanes.ended().await;
        }
        assert_eq!(*seen.lock().unwrap(), ["b1", "a1", "a2"]);
    }

    #[test]
    fn full_lanes_say_so() {
        let mut lanes = Lanes::new(1);
        assert!(lanes.has_room());
        lanes.push("a".to_owned(), Box::pin(async {}));
        assert!(!lanes.has_room());
    }
}
