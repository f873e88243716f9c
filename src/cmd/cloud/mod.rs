//! `kedge cloud …`: the cloud daemon and its configuration.

mod config;
pub(super) mod reset;
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
    Reset(reset::Args),
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    match args.command {
        Command::Run(args) => run::run(args, term),
        Command::Config(args) => config::run(args, term),
        Command::Reset(args) => reset::run(args, term),
    }
}
