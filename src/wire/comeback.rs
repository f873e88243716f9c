//! Hints in a WebSocket's close reason: when a node should come back, or that another daemon has taken its place. A kedge
//! node keeps to them, a genuine one does not read them. The cloud's sessions write them, the node's uplink reads them.

use std::net::SocketAddr;
use std::time::Duration;

/// The header by which a kedge edge tells its daemon apart from every other one; drawn anew at each start.
pub const INSTANCE_HEADER: &str = "kedge-instance";

/// Carries the version of a kedge: an edge says by it that it takes a window of messages, and hears the cloud's.
pub const VERSION_HEADER: &str = "kedge-version";

const REPLACED: (&str, &str) = ("session replaced: ", " by ");

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

/// The close reason of a session whose place another daemon with its name and certificate has taken; it fits into a
/// close frame.
pub fn replaced(own: SocketAddr, other: SocketAddr) -> String {
    format!("{}{own}{}{other}", REPLACED.0, REPLACED.1)
}

/// The addresses of such a reason as the cloud sees them: this session's and the other's.
pub fn read_replaced(reason: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (own, other) = reason.strip_prefix(REPLACED.0)?.split_once(REPLACED.1)?;
    Some((own.parse().ok()?, other.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_session_hears_of_both_addresses() {
        let longest: SocketAddr = "[2001:1db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap();
        let other: SocketAddr = "10.0.0.7:1".parse().unwrap();
        assert_eq!(read_replaced(&replaced(longest, other)), Some((longest, other)));
        assert!(replaced(longest, longest).len() < 124, "a close frame has no room for more");
        for text in ["", "the session is over", "session replaced: 1.2.3.4:5", "session replaced: a by b"] {
            assert_eq!(read_replaced(text), None, "{text}");
        }
    }

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
