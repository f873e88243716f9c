//! How long a certificate still lives, and what to think of it. `kedge cert` and `kedge status` judge alike.

use serde::Serialize;

/// What to think of the days that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cmd) enum Verdict {
    Fine,
    /// 30 days or less.
    Warning,
    /// 7 days or less.
    Error,
    Expired,
}

impl Verdict {
    pub(in crate::cmd) const WARNING_DAYS: i64 = 30;
    pub(in crate::cmd) const ERROR_DAYS: i64 = 7;

    pub(in crate::cmd) fn of(days_left: i64) -> Verdict {
        match days_left {
            ..0 => Verdict::Expired,
            0..=Self::ERROR_DAYS => Verdict::Error,
            days if days <= Self::WARNING_DAYS => Verdict::Warning,
            _ => Verdict::Fine,
        }
    }

    /// Whether somebody has to act now.
    pub(in crate::cmd) fn is_bad(self) -> bool {
        matches!(self, Verdict::Error | Verdict::Expired)
    }

    pub(in crate::cmd) fn word(self) -> &'static str {
        match self {
            Verdict::Fine => "fine",
            Verdict::Warning => "warning",
            Verdict::Error => "error",
            Verdict::Expired => "expired",
        }
    }
}

/// Whole days from `at` until `until`, both in seconds; negative once it has passed.
pub(super) fn days_left(until: i64, at: i64) -> i64 {
    until.saturating_sub(at).div_euclid(86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_days_warn_and_seven_are_an_error() {
        let words = [-1, 0, 7, 8, 30, 31].map(|days| Verdict::of(days).word());
        assert_eq!(words, ["expired", "error", "error", "warning", "warning", "fine"]);
        assert_eq!([days_left(86_400, 0), days_left(86_399, 0), days_left(0, 1)], [1, 0, -1]);
    }
}
