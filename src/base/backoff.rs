//! Waiting times between attempts: decorrelated jitter between a floor and a ceiling.

use super::id::random_bytes;
use std::time::Duration;

/// The next waiting time is drawn between the floor and three times the last one, up to the ceiling.
#[derive(Clone, Debug)]
pub struct Backoff {
    floor: Duration,
    ceiling: Duration,
    last: Duration,
}

impl Backoff {
    pub fn new(floor: Duration, ceiling: Duration) -> Self {
        Backoff { floor, ceiling, last: floor }
    }

    /// The time to wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let upper = self.last.saturating_mul(3).min(self.ceiling).max(self.floor);
        let span = (upper - self.floor).as_nanos();
        let draw = u128::from(u64::from_le_bytes(random_bytes()));
        let extra = (span * (draw >> 16)) >> 48;
        self.last = self.floor + Duration::from_nanos(u64::try_from(extra).unwrap_or(u64::MAX));
        self.last
    }

    /// Starts again from the floor, after a success.
    pub fn reset(&mut self) {
        self.last = self.floor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_between_floor_and_ceiling() {
        let (floor, ceiling) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = Backoff::new(floor, ceiling);
        for _ in 0..1000 {
            let wait = backoff.next_wait();
            assert!(wait >= floor && wait <= ceiling, "{wait:?}");
        }
    }
}
