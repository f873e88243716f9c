//! `kedge cloud forward`: leads the connections of an API server on this machine to the clouds of its cluster, where no
//! cloud on this machine does it itself; KubeEdge's iptables-manager. Runs until a signal ends it and leaves no rule.

use crate::base::{Exit, Failure, Stop, Term};
use crate::cmd::run_flags::LogFlags;
use crate::daemon::cloud;
use std::path::PathBuf;

/// Lead this machine's API server to edge nodes, for `kubectl logs` and `exec`
///
/// Needed on each machine with an API server when the cloud runs as a Deployment or on another machine. It keeps the nat
/// rules of chain TUNNEL-PORT as the cluster's ConfigMap kubeedge/tunnelport says, and takes them away when it ends.
/// `kedge init --mode cluster` runs it as DaemonSet kubeedge/kedge-forward on the nodes of the control plane.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge cloud forward --kube-config /etc/kubernetes/admin.conf\n  kedge cloud forward --dry-run"
)]
pub struct Args {
    /// The cluster's kubeconfig [default: $KUBECONFIG, then ~/.kube/config, then the pod's account]
    #[arg(long = "kube-config", visible_alias = "kubeconfig", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The URL of the cluster's API, where nothing else tells it
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true, alias = "master", value_parser = url)]
    server: String,
    /// The port at which every cloud serves the kubelet API (modules.cloudStream.streamPort)
    #[arg(long, value_name = "PORT", default_value_t = 10003, alias = "forwardport", value_parser = clap::value_parser!(u16).range(1..))]
    forward_port: u16,
    /// Where the machine's file system is mounted, in a pod: the machine's own iptables is run there
    #[arg(long, value_name = "DIR", value_parser = directory)]
    host_root: Option<PathBuf>,
    /// Show the rules that the record asks for and end
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    log: LogFlags,
}

/// An empty one is none.
fn url(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    crate::config::api_url(text).map(|_| text.to_owned()).map_err(str::to_owned)
}

fn directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let fits = path.is_absolute() && path.is_dir();
    fits.then_some(path).ok_or_else(|| "a directory with an absolute path is expected".to_owned())
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    crate::pki::install_crypto_provider();
    let found = super::kubeconfig(args.kubeconfig.as_deref());
    let found = found.filter(|path| args.kubeconfig.is_some() || path.is_file());
    let wanted = cloud::Forwarding {
        kubeconfig: found,
        server: args.server,
        stream: args.forward_port,
        host_root: args.host_root,
    };
    if args.dry_run {
        let rules = crate::cmd::block_on(cloud::forward_rules(&wanted))?;
        if rules.is_empty() {
            term.say("no cloud has recorded a port yet");
        }
        for rule in rules {
            term.data(&rule);
        }
        return Ok(Exit::Done);
    }
    args.log.start();
    crate::cmd::block_on(async {
        let stop = Stop::new();
        crate::cmd::stop_on_signals(&stop)?;
        cloud::forward(&wanted, stop).await?;
        Ok(Exit::Done)
    })
}
