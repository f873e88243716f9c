//! Sets up `tracing` once per process: text or JSON on stderr, level from the flag or `KEDGE_LOG`.

use super::recent::Recent;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Starts logging at this level (`info`, `debug`, or a filter such as `kedge::daemon::edge=debug`).
pub fn start_log(format: LogFormat, default_level: &str) {
    let filter = EnvFilter::try_from_env("KEDGE_LOG")
        .or_else(|_| EnvFilter::try_new(default_level))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_timer(Utc);
    let registry = tracing_subscriber::registry().with(Recent).with(filter);
    // A second start in one process (tests) keeps the first subscriber.
    drop(match format {
        LogFormat::Text => registry.with(lines.with_ansi(false)).try_init(),
        LogFormat::Json => registry.with(lines.json()).try_init(),
    });
}

/// Checks a level or filter as it is typed: every part is a level, or says what it is about.
pub fn check_level(text: &str) -> Result<String, String> {
    // Nothing at all parses as a level too.
    let is_level =
        |part: &str| !part.is_empty() && part.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let known = |part: &str| is_level(part) || part.contains(['=', '[']) || part.contains("::");
    if text.split(',').all(|part| known(part.trim())) && EnvFilter::try_new(text).is_ok() {
        return Ok(text.to_owned());
    }
    Err("write error, warn, info, debug, trace, or a filter such as kedge::daemon::edge=debug".to_owned())
}

struct Utc;

impl tracing_subscriber::fmt::time::FormatTime for Utc {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(w, "{}", super::clock::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ"))
    }
}

#[cfg(test)]
mod tests {
    use super::check_level;

    #[test]
    fn a_level_is_a_level_or_a_filter() {
        for good in
            ["info", "DEBUG", "off", "info,kedge=debug", "kedge::daemon::edge=trace", "warn,kedge::store"]
        {
            assert!(check_level(good).is_ok(), "{good}");
        }
        for bad in ["", "nonsense", "info,", "verbose", "kedge=loud"] {
            assert!(check_level(bad).is_err(), "{bad}");
        }
    }
}
