//! `kedge up`: Kubernetes API, cloud, edge node and broker of one machine in one process, in the foreground.
//! Cloud and edge still talk mutual TLS over the loopback, so this is the whole road and not a short cut.

mod demo;
mod parts;

use super::DataDir;
use super::run_flags::CloudFlags;
use crate::base::{Exit, Failure, LockError, LogFormat, PidLock, Stop, Term, start_log};
use crate::model::NodeName;
use std::path::Path;

/// Run everything on this machine: Kubernetes API, cloud, edge node, MQTT broker
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge up --demo\n  kedge up --data-dir /tmp/kedge --node edge-1 --api-port 7443"
)]
pub struct Args {
    #[command(flatten)]
    data_dir: DataDir,
    /// Name of this machine as a node [default: its host name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Also apply a demo Deployment and a simulated thermometer
    #[arg(long)]
    demo: bool,
    #[command(flatten)]
    cloud: CloudFlags,
    /// Port of the MQTT broker
    #[arg(long, value_name = "PORT", default_value_t = 1883)]
    mqtt_port: u16,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    start_log(LogFormat::Text, "warn");
    let node = node_name(args.node.as_deref())?;
    let dir = absolute(&args.data_dir.data_dir)?;
    crate::base::create_private_dir(&dir)?;
    let _lock = lock(&dir)?;
    crate::pki::install_crypto_provider();
    super::block_on(serve(args, dir.as_path(), node, term))
}

fn absolute(dir: &Path) -> Result<std::path::PathBuf, Failure> {
    std::path::absolute(dir).map_err(|error| {
        Failure::new("KE-UP-003", format!("cannot use the data directory {}", dir.display()))
            .because(format!("the directory in which kedge was started: {error}"))
            .fix("name it with its whole path: --data-dir /var/lib/kedge")
    })
}

/// The name that was typed, or the host name as far as it is a valid one.
pub(super) fn node_name(typed: Option<&str>) -> Result<NodeName, Failure> {
    let host = || rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let name = typed.map_or_else(host, str::to_owned);
    NodeName::new(name.clone()).map_err(|why| {
        Failure::new("KE-UP-001", format!("{name:?} cannot be a node's name"))
            .because(why)
            .fix("take lower-case letters, digits, '-' and '.', such as: --node edge-1")
            .exit(Exit::Usage)
    })
}

fn lock(dir: &Path) -> Result<PidLock, Failure> {
    PidLock::take(&dir.join("kedge.lock")).map_err(|error| {
        let failure = Failure::new("KE-UP-002", format!("the directory {} is in use", dir.display()));
        match error {
            LockError::Held(pid) => failure
                .because(format!("kedge runs there with pid {pid}"))
                .fix(format!("stop it with `kill {pid}`, or choose another --data-dir")),
            LockError::Io(error) => failure.because(error).fix("run as root, or choose another --data-dir"),
        }
    })
}

async fn serve(args: Args, dir: &Path, node: NodeName, term: &Term) -> Result<Exit, Failure> {
    let stop = Stop::new();
    super::stop_on_signals(&stop)?;
    let mut parts = parts::Parts::new(stop.clone());
    let started = parts.start(&args, dir, &node, term).await;
    let outcome = match started {
        Ok(Some(())) => {
            welcome(dir, args.demo, term);
            parts.first_failure().await
        }
        Ok(None) => Ok(()),
        Err(failure) => Err(failure),
    };
    stop.raise();
    parts.finish().await;
    outcome?;
    term.say("stopped; pods run on and are found again by the next `kedge up`");
    Ok(Exit::Done)
}

fn welcome(dir: &Path, demo: bool, term: &Term) {
    let config = dir.join("kubeconfig");
    let mut lines = vec![
        "ready".to_owned(),
        format!("  kubeconfig: {}", config.display()),
        format!("  next: export KUBECONFIG={}", config.display()),
        "        kubectl get nodes,pods -A".to_owned(),
        format!("        kedge twin list --data-dir {}", dir.display()),
    ];
    if demo {
        lines.push("        kubectl logs deployment/demo".to_owned());
        lines.push("        kubectl get devicestatus thermometer -o yaml".to_owned());
    }
    lines.push("  Ctrl-C ends kedge; pods run on".to_owned());
    term.say(&lines.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_node_name_is_a_usage_error() {
        let failure = node_name(Some("Not_A_Name")).unwrap_err();
        assert_eq!((failure.code, failure.exit), ("KE-UP-001", Exit::Usage));
    }

    #[test]
    fn the_holder_of_a_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let _held = lock(dir.path()).unwrap();
        let failure = lock(dir.path()).unwrap_err();
        assert_eq!(failure.code, "KE-UP-002");
        assert!(failure.why.contains(&std::process::id().to_string()));
    }
}
