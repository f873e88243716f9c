//! Durations of flags: read in one way and refused in one way, each within the range of its flag. The parsers of the
//! flags call it.

use crate::config::go_duration;
use std::time::Duration;

/// A day, the most that nearly every flag takes.
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// What a flag takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    like: &'static str,
    least: Duration,
    most: Duration,
    in_seconds: bool,
}

impl Span {
    /// From `least` to `most`; `like` is what a person may type, such as `90s or 5m`.
    pub(super) const fn new(like: &'static str, least: Duration, most: Duration) -> Span {
        Span { like, least, most, in_seconds: false }
    }

    /// In whole seconds alone; a bare number is so many of them.
    pub(super) const fn in_seconds(self) -> Span {
        Span { in_seconds: true, ..self }
    }

    /// Reads what was typed, or says what is expected.
    pub(super) fn read(self, text: &str) -> Result<Duration, String> {
        let bare = if self.in_seconds { text.parse::<u64>().ok() } else { None };
        let read = bare.map(Duration::from_secs).or_else(|| go_duration(text));
        let fits = |time: &Duration| {
            (self.least..=self.most).contains(time) && (!self.in_seconds || time.subsec_nanos() == 0)
        };
        read.filter(fits).ok_or_else(|| {
            let whole = if self.in_seconds { "in whole seconds, " } else { "" };
            let (least, most) = (words(self.least), words(self.most));
            format!("a duration such as {} is expected, {whole}from {least} to {most}", self.like)
        })
    }
}

/// A duration in the largest unit that leaves no rest; years have 365 days.
fn words(time: Duration) -> String {
    const YEAR: u64 = 365 * 86_400;
    match (time.as_secs(), time.subsec_millis()) {
        (0, 0) => "0".to_owned(),
        (seconds, 0) if seconds % YEAR == 0 => format!("{} years", seconds / YEAR),
        (seconds, 0) if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        (seconds, 0) if seconds % 60 == 0 => format!("{}m", seconds / 60),
        (seconds, 0) => format!("{seconds}s"),
        _ => format!("{}ms", time.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_within_the_range_of_its_flag() {
        let any = Span::new("90s or 5m", Duration::from_millis(1), DAY);
        for (text, ms) in
            [("90s", 90_000), ("1h", 3_600_000), ("1h30m", 5_400_000), ("1.5s", 1500), ("1ms", 1)]
        {
            assert_eq!(any.read(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        let whole = any.in_seconds();
        assert_eq!(whole.read("90"), Ok(Duration::from_secs(90)));
        assert_eq!(whole.read("24h"), Ok(DAY));
        for bad in ["", "90", "0", "-1s", "25h", "soon", "5 m", "18446744073709551615m"] {
            assert!(any.read(bad).is_err(), "{bad}");
        }
        for bad in ["0", "1.5s", "1ms", "86401", "18446744073709551616"] {
            assert!(whole.read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_expected_is_said_in_units_of_people() {
        let second = Duration::from_secs(1);
        for (span, said) in [
            (Span::new("30m or 24h", second, 3650 * DAY), "30m or 24h is expected, from 1s to 10 years"),
            (Span::new("500ms", Duration::from_millis(1), DAY), "500ms is expected, from 1ms to 24h"),
            (Span::new("5m", Duration::ZERO, 90 * second), "5m is expected, from 0 to 90s"),
            (
                Span::new("5m", 60 * second, DAY).in_seconds(),
                "5m is expected, in whole seconds, from 1m to 24h",
            ),
        ] {
            assert_eq!(span.read("soon"), Err(format!("a duration such as {said}")));
        }
    }
}
