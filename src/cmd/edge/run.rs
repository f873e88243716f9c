//! `kedge edge run`: the edge daemon in the foreground, until a signal ends it.

use super::launch::relaunch;
use crate::base::{Exit, Failure, Stop, Term, listen};
use crate::cmd::run_flags::{LinkPorts, LogFlags};
use crate::cmd::up::node_name;
use crate::cmd::usage;
use crate::config::Loaded;
use crate::config::edge::{DEFAULT_PATH, EdgeConfig, UpEdge};
use crate::daemon::{edge, upgrade};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use tokio::signal::unix::SignalKind;
use tokio::sync::watch;

/// Run the edge daemon in the foreground
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge edge run --config ./edgecore.yaml --log-format json\n  kedge edge run --data-dir /var/lib/kedge --node edge-1 --cloud 10.0.0.5 --token \"$(cat token)\""
)]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, env = "KEDGE_EDGE_CONFIG")]
    config: PathBuf,
    /// Keep everything below this directory, as `kedge up` does, and read no configuration file
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Check the configuration and end
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    log: LogFlags,
}

/// What stands in the configuration file otherwise.
#[derive(clap::Args)]
struct Place {
    /// Name of this machine as a node [default: its host name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Host name or address of the cloud [default: 127.0.0.1]
    #[arg(long, value_name = "HOST")]
    cloud: Option<String>,
    #[command(flatten)]
    ports: LinkPorts,
    /// Port of the MQTT broker on loopback [default: 1883]
    #[arg(long, value_name = "PORT")]
    mqtt_port: Option<u16>,
    /// Join token; needed until the node has a certificate
    #[arg(long, value_name = "TOKEN", env = TOKEN, hide_env_values = true)]
    token: Option<String>,
}

const TOKEN: &str = "KEDGE_TOKEN";

impl Place {
    /// A flag that would be ignored beside a configuration file; the environment may say what it likes.
    fn typed(&self) -> Option<&'static str> {
        let of_environment = std::env::var(TOKEN).ok();
        [
            ("--node", self.node.is_some()),
            ("--cloud", self.cloud.is_some()),
            ("--mqtt-port", self.mqtt_port.is_some()),
            ("--token", self.token.is_some() && self.token != of_environment),
            ("--hub-port, --cert-port and --tunnel-port", self.ports.differ()),
        ]
        .into_iter()
        .find_map(|(flag, typed)| typed.then_some(flag))
    }
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    if let Some(flag) = args.place.typed().filter(|_| args.data_dir.is_none()) {
        return Err(usage::wrong(
            format!("{flag} has no meaning beside a configuration file"),
            format!("{} says it", args.config.display()),
            "say it with `kedge config set`, or name a directory with --data-dir in place of --config",
        ));
    }
    let (loaded, source) = match &args.data_dir {
        Some(dir) => (below(dir, &args.place)?, "the command line".to_owned()),
        None => (EdgeConfig::load(&args.config)?, args.config.display().to_string()),
    };
    for warning in &loaded.warnings {
        term.say(&format!("warning: {source}: {warning}"));
    }
    if args.dry_run {
        term.say(&format!("{source} is fine"));
        return Ok(Exit::Done);
    }
    args.log.start();
    crate::pki::install_crypto_provider();
    upgrade::end_with_launcher();
    let (ended, relaunched) = crate::cmd::block_on(async {
        let stop = Stop::new();
        crate::cmd::stop_on_signals(&stop)?;
        let restart = restart_signal()?;
        let (observer, _observed) = watch::channel(None);
        let daemon = edge::run(loaded.config, stop.clone(), observer);
        tokio::pin!(daemon);
        tokio::select! {
            ended = &mut daemon => ended.map(|ended| (ended, false)),
            () = restart => {
                tracing::info!("the daemon ends to start anew");
                stop.raise();
                daemon.await.map(|ended| (ended, true))
            }
        }
    })?;
    match ended {
        _ if relaunched => {
            let config = ["--config".into(), args.config.into_os_string()];
            Err(relaunch(config.into_iter().chain(args.log.arguments())))
        }
        edge::Ended::Stopped => Ok(Exit::Done),
        edge::Ended::Anew => Err(anew()),
    }
}

/// Completes on SIGHUP when the launcher became this process: it is started again in the same place, as the service
/// would. A daemon of a person's terminal ends with it as every program does.
fn restart_signal() -> Result<impl Future<Output = ()>, Failure> {
    let launched = upgrade::own_launcher() == Some(std::process::id());
    let mut hangup = launched.then(|| listen(SignalKind::hangup())).transpose()?;
    Ok(async move {
        match &mut hangup {
            Some(hangup) => drop(hangup.recv().await),
            None => std::future::pending().await,
        }
    })
}

/// Becomes the same daemon again, with the same words, as the same process: whoever supervises it sees no end.
fn anew() -> Failure {
    let failed = |why: std::io::Error| {
        Failure::new("KE-RUN-006", "the daemon cannot begin anew by itself")
            .because(why)
            .fix("start the service again; it reads the changed configuration")
    };
    match std::env::current_exe() {
        Ok(program) => failed(std::process::Command::new(program).args(std::env::args_os().skip(1)).exec()),
        Err(error) => failed(error),
    }
}

fn below(dir: &Path, place: &Place) -> Result<Loaded<EdgeConfig>, Failure> {
    let config = EdgeConfig::for_data_dir(&UpEdge {
        data_dir: std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()),
        node: node_name(place.node.as_deref())?,
        cloud_host: place.cloud.clone().unwrap_or_else(|| "127.0.0.1".to_owned()),
        websocket_port: place.ports.hub_port,
        https_port: place.ports.cert_port,
        stream_port: place.ports.tunnel_port,
        mqtt_port: place.mqtt_port.unwrap_or(1883),
        kubelet_port: 10350,
        token: place.token.clone().unwrap_or_default(),
        labels: BTreeMap::new(),
    })?;
    Ok(Loaded { config, warnings: Vec::new() })
}
