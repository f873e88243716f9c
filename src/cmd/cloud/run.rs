//! `kedge cloud run`: the cloud daemon in the foreground, until a signal ends it; with `--embedded` also the Kubernetes
//! API that it works against.

use crate::base::{
    Crew, Exit, Failure, LockError, PidLock, Stop, SupervisorHandle, Term, create_private_dir,
};
use crate::cmd::embedded;
use crate::cmd::run_flags::{CloudFlags, LogFlags};
use crate::config::Loaded;
use crate::config::cloud::{CloudConfig, CloudPorts, DEFAULT_PATH};
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
    #[command(flatten)]
    log: LogFlags,
    /// Keep everything below this directory, on loopback, as `kedge up` does; implies --embedded
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    ports: CloudFlags,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    if args.data_dir.is_none() && args.ports.ports() != CloudPorts::default() {
        return Err(Failure::new("KE-CLOUD-002", "flags for ports go with --data-dir alone")
            .because("everywhere else cloudcore.yaml says where the cloud listens")
            .fix("set modules.cloudHub.websocket.port and the like in the file, as with `kedge config set`")
            .exit(Exit::Usage));
    }
    let path = args.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_PATH));
    let loaded = load(&args, &path)?;
    for warning in &loaded.warnings {
        term.say(&format!("warning: {}: {warning}", path.display()));
    }
    let mut config = loaded.config;
    if args.embedded && args.data_dir.is_none() {
        config.embed();
    }
    if args.dry_run {
        term.say("the configuration is fine");
        return Ok(Exit::Done);
    }
    args.log.start();
    create_private_dir(&config.data_dir)?;
    let _lock = lock(&config.data_dir)?;
    crate::pki::install_crypto_provider();
    crate::cmd::block_on(serve(config, term))
}

fn load(args: &Args, path: &Path) -> Result<Loaded<CloudConfig>, Failure> {
    if let Some(dir) = &args.data_dir {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        let config = CloudConfig::for_data_dir(&dir, args.ports.ports())?;
        return Ok(Loaded { config, warnings: Vec::new() });
    }
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

async fn serve(config: CloudConfig, term: &Term) -> Result<Exit, Failure> {
    let stop = Stop::new();
    crate::cmd::stop_on_signals(&stop)?;
    let (api_stop, cloud_stop) = (Stop::new(), stop.child());
    // The kubeconfig that the cloud reads is there once the API is open.
    let opened = if config.api.embedded { Some(embedded::open(&config).await?) } else { None };
    let api = async {
        let (observer, _observed) = watch::channel(None);
        match opened {
            Some(api) => api.run(api_stop.clone(), observer).await,
            None => {
                api_stop.raised().await;
                Ok(())
            }
        }
    };
    let (observer, observed) = watch::channel(None);
    let cloud = cloud::run(config, cloud_stop.clone(), observer);
    tokio::pin!(api, cloud);
    let mut crew = Crew::new();
    let term = term.clone();
    crew.spawn(async move {
        if ready(observed).await {
            term.say("ready");
        }
    });
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
            drop(cloud.await);
            outcome?;
        }
    }
    Ok(Exit::Done)
}

/// Waits until all modules serve; `false` when they end before.
async fn ready(mut observed: watch::Receiver<Option<SupervisorHandle>>) -> bool {
    let handle = match observed.wait_for(Option::is_some).await {
        Ok(found) => found.clone(),
        Err(_ended) => return false,
    };
    match handle {
        Some(mut handle) => handle.all_ready().await,
        None => false,
    }
}
