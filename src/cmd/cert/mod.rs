//! `kedge cert`: the certificates of this node and of the cloud, the node's next one, and the authority for joins.
//! Private keys are never read but to ask for the node's next certificate.

mod ca;
mod life;
mod list;
mod renew;
mod sources;

pub(super) use life::Verdict;
pub(in crate::cmd) use renew::fingerprint;

use super::edge_place::EdgePlace;
use crate::base::{Exit, Failure, Output, Term};
use std::path::PathBuf;

/// Show certificates, renew the node's, print the authority
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge cert list\n  kedge cert renew")]
pub struct Args {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(clap::Subcommand)]
enum Deed {
    /// List certificates with names, days left and fingerprints; exit status 1 when one ends within 7 days
    #[command(
        after_help = "Examples:\n  kedge cert list\n  kedge cert list --kube-config kubeconfig -o json"
    )]
    List {
        #[command(flatten)]
        place: Place,
        /// Form of the output
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Get the node's next certificate now, with the present one
    #[command(
        after_help = "Examples:\n  kedge cert renew\n  kedge cert renew --data-dir /srv/kedge --cloud cloud.example:10002"
    )]
    Renew {
        #[command(flatten)]
        edge: EdgePlace,
        /// The cloud's certificate service; that of the configuration or the running daemon when left out
        #[arg(long, value_name = "HOST:PORT")]
        cloud: Option<String>,
        /// Check, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Form in which the outcome is shown
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Print the authority's certificate; its hash is what a join token holds
    #[command(after_help = "Examples:\n  kedge cert ca > rootCA.crt\n  kedge cert ca --hash")]
    Ca {
        #[command(flatten)]
        place: Place,
        /// Print the hash alone
        #[arg(long)]
        hash: bool,
        /// Form of the output
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
}

/// Where certificates are looked for: this node's files, and the cloud's Secrets.
#[derive(clap::Args, Clone, Debug)]
struct Place {
    #[command(flatten)]
    edge: EdgePlace,
    /// The cluster's kubeconfig, for the cloud's certificates [default: the one in the data directory; where no node is, also $KUBECONFIG, ~/.kube/config and that of this machine's cloud]
    #[arg(long = "kube-config", visible_alias = "kubeconfig", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    match args.deed {
        Deed::List { place, output } => list::run(&place, output, term),
        Deed::Renew { edge, cloud, dry_run, output } => renew::run(&edge, cloud, dry_run, output, term),
        Deed::Ca { place, hash, output } => ca::run(&place, hash, output, term),
    }
}
