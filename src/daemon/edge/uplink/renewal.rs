//! When the node's certificate is renewed: before two thirds of its life are over, a bit earlier on some nodes than on
//! others, again and again until it works. The connection to the cloud goes on meanwhile.

use super::enrol::{Credentials, Enrolment, lies_ready, renew};
use crate::base::{Backoff, now_ms};
use std::time::{Duration, Instant};

/// Clocks jump, machines sleep: the time left is looked at again after so long.
const LOOK: Duration = Duration::from_secs(600);
/// How often it is looked for a certificate that `kedge cert renew` has laid ready.
const GLANCE: Duration = Duration::from_secs(2);

/// What is remembered about renewals while the module runs.
#[derive(Default)]
pub(super) struct Rotation {
    /// A renewed certificate that the cloud did not accept is not asked for again before this.
    not_before: Option<Instant>,
}

impl Rotation {
    /// Notes that the renewed certificate is of no use.
    pub fn failed(&mut self, present: &Credentials) {
        self.not_before = Some(Instant::now() + pauses(present).next_wait());
    }

    /// Ends once a renewed certificate lies ready: one that was asked for in time, if `rotate` says so, or one that a
    /// person has asked for.
    pub async fn run(&self, enrolment: &Enrolment, present: &Credentials, rotate: bool) {
        let in_time = async {
            if !rotate {
                std::future::pending::<()>().await;
            }
            self.in_time(enrolment, present).await;
        };
        tokio::select! {
            () = in_time => {}
            () = by_hand(enrolment) => {}
        }
    }

    async fn in_time(&self, enrolment: &Enrolment, present: &Credentials) {
        loop {
            let rest = self.not_before.map(|at| at.saturating_duration_since(Instant::now()));
            let left = until_renewal(present).max(rest.unwrap_or_default());
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(left.min(LOOK)).await;
        }
        let (mut backoff, mut last_code) = (pauses(present), "");
        loop {
            match renew(enrolment, present).await {
                Ok(()) => return,
                Err(failure) => {
                    if failure.code != last_code {
                        tracing::warn!(code = failure.code, error = %failure, fix = failure.fix, "the certificate could not be renewed");
                        last_code = failure.code;
                    }
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }
}

async fn by_hand(enrolment: &Enrolment) {
    while !lies_ready(enrolment).await {
        tokio::time::sleep(GLANCE).await;
    }
}

/// Waits between attempts, as long as the life that is left allows.
fn pauses(present: &Credentials) -> Backoff {
    let left = present.facts.not_after.saturating_mul(1000).saturating_sub(now_ms());
    let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
    let floor = (left / 1000).clamp(Duration::from_millis(200), Duration::from_secs(30));
    let ceiling = (left / 20).clamp(Duration::from_secs(1), Duration::from_secs(1800));
    Backoff::new(floor, ceiling)
}

/// Renewal is due when 0.60 to 0.66 of the certificate's life has passed. The draw is the certificate's own, so that it
/// stays over restarts and differs between nodes.
fn until_renewal(present: &Credentials) -> Duration {
    let facts = &present.facts;
    let life = facts.not_after.saturating_sub(facts.not_before).max(0);
    let draw = present.identity.cert_pem.bytes().fold(0_i64, |sum, byte| (sum * 31 + i64::from(byte)) % 61);
    let due = facts.not_before.saturating_mul(1000).saturating_add(life.saturating_mul(600 + draw));
    Duration::from_millis(u64::try_from(due.saturating_sub(now_ms())).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Authority;

    #[test]
    fn renewal_comes_before_two_thirds_of_the_life_and_not_for_all_at_once() {
        let authority = Authority::generate("KubeEdge").unwrap();
        let from = now_ms() / 1000;
        let (mut first, mut last) = (f64::MAX, 0.0_f64);
        for life in [30_i64, 86_400, 365 * 86_400] {
            for _ in 0..20 {
                let identity =
                    authority.issue_client_between("system:node:n", &[], from, from + life).unwrap();
                let facts = identity.facts().unwrap();
                let present = Credentials { ca_pem: String::new(), identity, facts };
                let at = now_ms() - from * 1000;
                let due = until_renewal(&present).as_secs_f64() + at as f64 / 1000.0;
                let share = due / life as f64;
                assert!((0.59..0.667).contains(&share), "{share} of {life} s");
                (first, last) = (first.min(share), last.max(share));
            }
        }
        assert!(last - first > 0.02, "{first} {last}");
    }
}
