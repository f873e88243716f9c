//! `kedge edge …`: the edge daemon and its configuration.

mod config;
mod run;

use crate::base::{Exit, Failure, Term};
use clap::Subcommand;

/// Run the edge daemon or show its configuration
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge edge run --config /etc/kubeedge/config/edgecore.yaml\n  kedge edge config --minconfig"
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
