//! Whether a token can be used now and here, told to the minute. Pure; nothing has been changed when it refuses.

use crate::base::{Exit, Failure, rfc3339};
use crate::host::remedy;
use crate::model::NodeName;
use crate::pki::Token;
use jiff::Timestamp;

/// Clocks may differ by so many seconds, as for doctor's KE-CLOCK-002: certificates and leases are then still what they seem.
const SKEW: i64 = 60;

/// Judges a token by the cloud's clock where that is known, and this machine's clock by the cloud's.
pub(super) fn judge(
    token: &Token,
    node: &NodeName,
    here: Timestamp,
    cloud: Option<Timestamp>,
) -> Result<(), Failure> {
    if let Some(only) = token.node.as_deref().filter(|only| *only != node.as_str()) {
        return Err(Failure::new("KE-TOKEN-006", format!("the join token is for the node {only}"))
            .because(format!("this machine is to be {node}"))
            .fix(format!(
                "say --edgenode-name {only}, or run `kedge token create --node {node}` on the cloud"
            ))
            .exit(Exit::Identity));
    }
    let at = cloud.unwrap_or(here);
    let late = at.as_second().saturating_sub(token.expires);
    if late >= 0 {
        let until = Timestamp::from_second(token.expires).map(rfc3339).unwrap_or_default();
        let whose = if cloud.is_some() { "the cloud's clock" } else { "this machine's clock" };
        return Err(Failure::new("KE-TOKEN-002", format!("the join token expired {} ago", spell(late)))
            .because(format!("it was valid until {until}, and {whose} says {}", rfc3339(at)))
            .fix("run `kedge token create` on the cloud, and join with the new token")
            .exit(Exit::Identity));
    }
    let Some(cloud) = cloud else { return Ok(()) };
    let ahead = here.as_second().saturating_sub(cloud.as_second());
    if ahead.abs() <= SKEW {
        return Ok(());
    }
    Err(Failure::new("KE-CLOCK-002", format!("this machine's clock is {}", apart(here, cloud)))
        .because(format!(
            "here it is {}, there {}; certificates would not be valid when they are needed",
            rfc3339(here),
            rfc3339(cloud)
        ))
        .fix(format!("set the clock: {}", remedy::set_clock()))
        .exit(Exit::Identity))
}

/// How far a clock here is from the cloud's, such as `2 h 13 min behind the cloud's`.
pub(super) fn apart(here: Timestamp, cloud: Timestamp) -> String {
    let ahead = here.as_second().saturating_sub(cloud.as_second());
    let side = if ahead > 0 { "ahead of" } else { "behind" };
    format!("{} {side} the cloud's", spell(ahead.abs()))
}

/// A span of seconds in its two largest units, such as `2 h 13 min`.
pub(super) fn spell(seconds: i64) -> String {
    let minutes = seconds / 60;
    let (days, hours, rest) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours, rest) {
        (0, 0, 0) => "less than a minute".to_owned(),
        (0, 0, rest) => format!("{rest} min"),
        (0, hours, rest) => format!("{hours} h {rest} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(expires: i64, node: Option<&str>) -> Token {
        Token {
            ca_hash: String::new(),
            bearer: String::new(),
            expires,
            node: node.map(str::to_owned),
            id: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn judged(token: &Token, here: i64, cloud: Option<i64>) -> Result<(), Failure> {
        judge(token, &NodeName::new("edge-7").unwrap(), at(here), cloud.map(at))
    }

    #[test]
    fn an_expired_token_is_told_to_the_minute() {
        let old = token(10_000, None);
        let failure = judged(&old, 10_000 + 2 * 3600 + 13 * 60 + 59, None).unwrap_err();
        assert_eq!(failure.what, "the join token expired 2 h 13 min ago");
        assert!(failure.fix.contains("kedge token create"));
        assert_eq!((failure.code, failure.exit), ("KE-TOKEN-002", Exit::Identity));
        let by_the_cloud = judged(&old, 9_000, Some(10_060)).unwrap_err();
        assert_eq!(by_the_cloud.what, "the join token expired 1 min ago");
        assert!(by_the_cloud.why.contains("the cloud's clock"), "{by_the_cloud}");
    }

    #[test]
    fn a_wrong_clock_is_not_taken_for_an_expired_token() {
        let good = token(100_000, None);
        assert_eq!(judged(&good, 50_000, Some(50_060)), Ok(()));
        let little = judged(&good, 50_000, Some(50_061)).unwrap_err();
        assert_eq!(little.what, "this machine's clock is 1 min behind the cloud's");
        let ahead = judged(&good, 200_000, Some(50_000)).unwrap_err();
        assert_eq!(
            (ahead.code, ahead.what.as_str()),
            ("KE-CLOCK-002", "this machine's clock is 1 d 17 h ahead of the cloud's")
        );
        let behind = judged(&good, 0, Some(50_000)).unwrap_err();
        assert_eq!(behind.what, "this machine's clock is 13 h 53 min behind the cloud's");
    }

    #[test]
    fn a_token_of_another_node_is_told_with_both_names() {
        let failure = judged(&token(100, Some("edge-8")), 0, None).unwrap_err();
        assert_eq!(failure.code, "KE-TOKEN-006");
        assert!(
            failure.fix.contains("--edgenode-name edge-8") && failure.fix.contains("--node edge-7"),
            "{}",
            failure.fix
        );
        assert_eq!(judged(&token(100, Some("edge-7")), 0, None), Ok(()));
    }

    #[test]
    fn spans_are_spelt_in_two_units() {
        for (seconds, words) in
            [(59, "less than a minute"), (60, "1 min"), (7980, "2 h 13 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(spell(seconds), words);
        }
    }
}
