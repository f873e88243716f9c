//! The hint in a WebSocket's close reason when a node should come back: a kedge node keeps to it, a genuine one does not
//! read it. The cloud's sessions write it, the node's uplink reads it.

use std::time::Duration;

const WORDS: (&str, &str) = ("the cloud restarts; come back in ", " ms");

/// The close reason; it fits into a close frame.
pub fn farewell(wait: Duration) -> String {
    format!("{}{}{}", WORDS.0, wait.as_millis(), WORDS.1)
}

/// The wait that a close reason asks for; `None` for any other reason.
pub fn read_farewell(reason: &str) -> Option<Duration> {
    let millis: u32 = reason.strip_prefix(WORDS.0)?.strip_suffix(WORDS.1)?.parse().ok()?;
    Some(Duration::from_millis(u64::from(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farewell_reads_what_it_writes_and_nothing_else() {
        let wait = Duration::from_millis(4321);
        assert_eq!(read_farewell(&farewell(wait)), Some(wait));
        assert!(farewell(Duration::MAX).len() < 124, "a close frame has no room for more");
        for other in
            ["", "the session is over", "the cloud restarts; come back in -1 ms", &farewell(Duration::MAX)]
        {
            assert_eq!(read_farewell(other), None, "{other}");
        }
    }
}
