//! `kedge edge …`: the edge daemon, its configuration and its versions.

mod backup;
mod config;
mod confirm;
mod history;
mod launch;
mod rollback;
mod run;
mod upgrade;
mod waves;

use crate::base::{Exit, Failure, Term};
use clap::Subcommand;

/// Run the edge daemon, show its configuration, change its version
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge edge run --config /etc/kubeedge/config/edgecore.yaml\n  kedge edge config --minconfig\n  kedge edge upgrade --to ./kedge-0.2.0 --wait"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Config(config::Args),
    Launch(launch::Args),
    Upgrade(Box<upgrade::Args>),
    Rollback(rollback::Args),
    Backup(backup::Args),
    History(history::Args),
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    match args.command {
        Command::Run(args) => run::run(args, term),
        Command::Config(args) => config::run(args, term),
        Command::Launch(args) => launch::run(args, term),
        Command::Upgrade(args) => upgrade::run(*args, term),
        Command::Rollback(args) => rollback::run(args, term),
        Command::Backup(args) => backup::run(args, term),
        Command::History(args) => history::run(args, term),
    }
}
