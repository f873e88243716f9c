//! Sets up `tracing` once per process: text or JSON on stderr, level from the flag or `KEDGE_LOG`.

use tracing_subscriber::EnvFilter;

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
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first subscriber.
    drop(match format {
        LogFormat::Text => builder.with_ansi(false).with_timer(Utc).try_init(),
        LogFormat::Json => builder.json().with_timer(Utc).try_init(),
    });
}

struct Utc;

impl tracing_subscriber::fmt::time::FormatTime for Utc {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(w, "{}", super::clock::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ"))
    }
}
