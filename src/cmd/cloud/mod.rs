//! `kedge cloud …`: the cloud daemon and its configuration.

mod config;
mod run;

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
    Run(run::Args),
    Config(config::Args),
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    match args.command {
        Command::Run(args) => run::run(args, term),
        Command::Config(args) => config::run(args, term),
    }
}
