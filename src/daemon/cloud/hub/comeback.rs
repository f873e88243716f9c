//! When nodes that are turned away or lose their session should come back: spread over a window that grows with their
//! number, so that their handshakes leave room for everybody else. Pure but for its dice.

use crate::base::random_bytes;
use std::time::Duration;

/// A cloud that restarts needs this long before it takes anybody.
const RESTART: Duration = Duration::from_secs(1);
/// The share of the window that each node adds.
const PER_NODE: Duration = Duration::from_millis(2);
/// While the limit of nodes is reached there is no hurry.
const FULL: Duration = Duration::from_secs(60);

fn draw(window: Duration) -> Duration {
    window.mul_f64(f64::from(u16::from_le_bytes(random_bytes())) / f64::from(u16::MAX))
}

/// For a node whose session ends because the cloud stops, or that is refused because too many come at once.
pub(super) fn after_rush(sessions: usize) -> Duration {
    RESTART + draw(window(sessions))
}

/// For a node that is refused because the cloud takes no more nodes.
pub(super) fn when_full() -> Duration {
    FULL / 2 + draw(FULL / 2)
}

fn window(sessions: usize) -> Duration {
    PER_NODE.saturating_mul(u32::try_from(sessions).unwrap_or(u32::MAX)).max(RESTART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_with_the_fleet() {
        for (sessions, window) in [(0, 1), (100, 1), (2000, 4), (20_000, 40)] {
            let drawn: Vec<Duration> = (0..500).map(|_| after_rush(sessions)).collect();
            let last = RESTART + Duration::from_secs(window);
            assert!(drawn.iter().all(|wait| (RESTART..=last).contains(wait)), "{sessions}");
            assert!(drawn.iter().any(|wait| *wait > RESTART + (last - RESTART) / 2), "{sessions}");
            assert!(drawn.iter().any(|wait| *wait < RESTART + (last - RESTART) / 2), "{sessions}");
        }
        assert!((0..100).all(|_| (FULL / 2..=FULL).contains(&when_full())));
    }
}
