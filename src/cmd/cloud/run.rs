//! `kedge cloud run`: the cloud daemon in the foreground, until a signal ends it; with `--embedded` also the Kubernetes
//! API that it works against.

use crate::base::{Exit, Failure, LockError, LogFormat, PidLock, Stop, Term, create_private_dir, start_log};
use crate::cmd::embedded;
use crate::config::Loaded;
use crate::config::cloud::{CloudConfig, DEFAULT_PATH};
use crate::daemon::cloud;
use std::path::{Path, PathBuf};
use tokio::sync::watch;

/// Run the cloud daemon in the foreground
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge cloud run --config ./cloudcore.yaml\n  kedge cloud run --embedded --log-format json"
)]
pub struct Args {
    /// The configuration file; without one and with --embedded, defaults are used
    #[arg(long, value_name = "FILE", env = "KEDGE_CLOUD_CONFIG")]
    config: Option<PathBuf>,
    /// Serve the Kubernetes API from this process
    #[arg(long)]
    embedded: bool,
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
    let path = args.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_PATH));
    let loaded = load(&args, &path)?;
    for warning in &loaded.warnings {
        term.say(&format!("warning: {}: {warning}", path.display()));
    }
    let mut config = loaded.config;
    if args.embedded {
        config.embed();
    }
    if args.dry_run {
        term.say("the configuration is fine");
        return Ok(Exit::Done);
    }
    let format = match args.log_format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    start_log(format, &args.log_level);
    create_private_dir(&config.data_dir)?;
    let _lock = lock(&config.data_dir)?;
    crate::pki::install_crypto_provider();
    crate::cmd::block_on(serve(config))
}

fn load(args: &Args, path: &Path) -> Result<Loaded<CloudConfig>, Failure> {
    if args.embedded && args.config.is_none() && !path.exists() {
        return CloudConfig::from_value(&serde_json::Value::Null, "the built-in configuration");
    }
    CloudConfig::load(path)
}

fn lock(dir: &Path) -> Result<PidLock, Failure> {
    PidLock::take(&dir.join("kedge.lock")).map_err(|error| {
        let failure = Failure::new("KE-CLOUD-001", format!("the directory {} is in use", dir.display()));
        match error {
            LockError::Held(pid) => failure
                .because(format!("a cloud daemon runs with pid {pid}"))
                .fix(format!("stop it with `kill {pid}`, or set another kedge.dataDir")),
            LockError::Io(error) => failure.because(error).fix("run as root, or set another kedge.dataDir"),
        }
    })
}

async fn serve(config: CloudConfig) -> Result<Exit, Failure> {
    let stop = Stop::new();
    crate::cmd::stop_on_signals(&stop)?;
    let (observer, _observed) = watch::channel(None);
    if !config.api.embedded {
        cloud::run(config, stop, observer).await?;
        return Ok(Exit::Done);
    }
    let dir = config.data_dir.clone();
    let api = embedded::open(&config, &dir).await?;
    let (api_stop, cloud_stop) = (Stop::new(), stop.child());
    let (api_observer, _api_observed) = watch::channel(None);
    let api = api.run(api_stop.clone(), api_observer);
    let cloud = cloud::run(config, cloud_stop.clone(), observer);
    tokio::pin!(api, cloud);
    // The API ends last, so that the cloud can still write what nodes have acknowledged.
    tokio::select! {
        outcome = &mut cloud => {
            api_stop.raise();
            let api_outcome = api.await;
            outcome?;
            api_outcome?;
        }
        outcome = &mut api => {
            cloud_stop.raise();
            cloud.await?;
            outcome?;
        }
    }
    Ok(Exit::Done)
}
