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
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge cloud forward --kube-config /etc/kubernetes/admin.conf\n  kedge cloud forward --dry-run"
)]
pub struct Args {
    /// The cluster's kubeconfig [default: $KUBECONFIG, then ~/.kube/config, then the pod's account]
    #[arg(long = "kube-config", visible_alias = "kubeconfig", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The port at which every cloud serves the kubelet API (modules.cloudStream.streamPort)
    #[arg(long, value_name = "PORT", default_value_t = 10003, alias = "forwardport")]
    forward_port: u16,
    /// Show the rules that the record asks for and end
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    log: LogFlags,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    crate::pki::install_crypto_provider();
    let found = super::kubeconfig(args.kubeconfig.as_deref());
    let found = found.filter(|path| args.kubeconfig.is_some() || path.is_file());
    let config = found.as_deref();
    if args.dry_run {
        let rules = crate::cmd::block_on(cloud::forward_rules(config, args.forward_port))?;
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
        cloud::forward(config, args.forward_port, stop).await?;
        Ok(Exit::Done)
    })
}
