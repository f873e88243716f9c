//! `kedge gettoken`: prints KubeEdge's cluster-wide join token and nothing else.

use super::token::Api;
use crate::base::{Exit, Failure, Term};

/// Print the cluster-wide join token, as `keadm gettoken` does
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge gettoken\n  kedge join --cloudcore-ipport 10.0.0.5:10000 --token \"$(kedge gettoken --kube-config ~/.kube/config)\""
)]
pub struct Args {
    #[command(flatten)]
    api: Api,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let token = super::block_on(async move { args.api.desk().await?.cluster_token().await })?;
    term.data(&token);
    Ok(Exit::Done)
}
