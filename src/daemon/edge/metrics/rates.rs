//! Processor use at present, from two looks at a counter that only grows. Remembers the looks, nothing else. Pure.

use crate::daemon::edge::pod::{CpuTime, PodUse};
use std::collections::HashMap;

/// Two looks closer than this say little; the former answer holds as long.
const CLOSE: i64 = 1_000;
/// Who was not seen for so long is forgotten: five minutes in milliseconds.
const FORGOTTEN: i64 = 300_000;

struct Look {
    at: i64,
    nanos: u64,
    rate: Option<u64>,
}

/// The last look at each counter, by container or pod.
#[derive(Default)]
pub(super) struct Rates(HashMap<String, Look>);

impl Rates {
    /// Billionths of a processor since the last look; `None` at the first one and when the counter began anew.
    pub(super) fn of(&mut self, whose: &str, at: i64, nanos: u64) -> Option<u64> {
        let former = self.0.get(whose);
        let rate = match former {
            Some(former) if at.saturating_sub(former.at) < CLOSE => return former.rate,
            Some(former) => rate((former.at, former.nanos), (at, nanos)),
            None => None,
        };
        self.0.insert(whose.to_owned(), Look { at, nanos, rate });
        rate
    }

    /// Fills in what the runtime does not tell.
    pub(super) fn fill(&mut self, pods: &mut [PodUse]) {
        for pod in pods {
            self.one(&pod.uid, &mut pod.cpu);
            for container in &mut pod.containers {
                self.one(&container.id, &mut container.cpu);
            }
        }
    }

    fn one(&mut self, whose: &str, cpu: &mut Option<CpuTime>) {
        if let Some(cpu) = cpu.as_mut().filter(|cpu| cpu.nano_cores.is_none()) {
            cpu.nano_cores = self.of(whose, cpu.at, cpu.nanos);
        }
    }

    /// Drops those who are gone.
    pub(super) fn forget(&mut self, now: i64) {
        self.0.retain(|_, look| now.saturating_sub(look.at) < FORGOTTEN);
    }
}

fn rate(former: (i64, u64), present: (i64, u64)) -> Option<u64> {
    let millis = u128::try_from(present.0.checked_sub(former.0)?).ok().filter(|millis| *millis > 0)?;
    let worked = u128::from(present.1.checked_sub(former.1)?);
    u64::try_from(worked.saturating_mul(1000) / millis).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_looks_make_a_rate() {
        let mut rates = Rates::default();
        assert_eq!(rates.of("a", 10_000, 5_000_000_000), None);
        // Half a processor for two seconds.
        assert_eq!(rates.of("a", 12_000, 6_000_000_000), Some(500_000_000));
        assert_eq!(rates.of("a", 12_100, 9_000_000_000), Some(500_000_000), "too close");
        assert_eq!(rates.of("a", 14_000, 1), None, "began anew");
        rates.forget(14_000 + FORGOTTEN);
        assert!(rates.0.is_empty());
    }
}
