//! `kedge cloud config`: prints cloudcore.yaml to start from.

use crate::base::{Exit, Failure, Term};
use crate::config::cloud::{DEFAULT_CONFIG, MIN_CONFIG};

/// Print a cloudcore.yaml to start from
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge cloud config --minconfig > /etc/kubeedge/config/cloudcore.yaml\n  kedge cloud config --defaultconfig"
)]
pub struct Args {
    /// Every key with its default
    #[arg(long, conflicts_with = "minconfig")]
    defaultconfig: bool,
    /// Only the keys that people usually change (the default)
    #[arg(long)]
    minconfig: bool,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let every_key = args.defaultconfig && !args.minconfig;
    term.data(if every_key { DEFAULT_CONFIG } else { MIN_CONFIG }.trim_end());
    Ok(Exit::Done)
}
