//! `kedge cloud …`: the cloud daemon and its configuration.

mod config;

use crate::base::{Exit, Failure, Term};
use clap::Subcommand;

/// Run the cloud daemon or show its configuration
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge cloud run --config /etc/kubeedge/config/cloudcore.yaml\n  kedge cloud config --minconfig"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Config(config::Args),
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    match args.command {
        Command::Config(args) => config::run(args, term),
    }
}
