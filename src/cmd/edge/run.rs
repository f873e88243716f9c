//! `kedge edge run`: the edge daemon in the foreground, until a signal ends it.

use crate::base::{Exit, Failure, LogFormat, Stop, Term, start_log};
use crate::config::edge::{DEFAULT_PATH, EdgeConfig};
use crate::daemon::edge;
use std::path::PathBuf;
use tokio::sync::watch;

/// Run the edge daemon in the foreground
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge edge run\n  kedge edge run --config ./edgecore.yaml --log-format json"
)]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, env = "KEDGE_EDGE_CONFIG")]
    config: PathBuf,
    /// Check the configuration and end
    #[arg(long)]
    dry_run: bool,
    /// Form of the log on stderr
    #[arg(long, value_enum, default_value = "text")]
    log_format: Format,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let loaded = EdgeConfig::load(&args.config)?;
    for warning in &loaded.warnings {
        term.say(&format!("warning: {}: {warning}", args.config.display()));
    }
    if args.dry_run {
        term.say(&format!("{} is fine", args.config.display()));
        return Ok(Exit::Done);
    }
    let format = match args.log_format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    start_log(format, &args.log_level);
    crate::pki::install_crypto_provider();
    crate::cmd::block_on(async {
        let stop = Stop::new();
        let (observer, _observed) = watch::channel(None);
        let daemon = edge::run(loaded.config, stop.clone(), observer);
        tokio::pin!(daemon);
        tokio::select! {
            outcome = &mut daemon => outcome?,
            signal = interrupted() => {
                signal?;
                stop.raise();
                tokio::select! {
                    outcome = &mut daemon => outcome?,
                    // A second signal does not wait for the modules.
                    _ = interrupted() => return Ok(Exit::Interrupted),
                }
            }
        }
        Ok(Exit::Done)
    })
}

/// Completes on Ctrl-C or SIGTERM.
async fn interrupted() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failure = |error| Failure::new("KE-RUN-002", "cannot listen for signals").because(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failure)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failure)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
