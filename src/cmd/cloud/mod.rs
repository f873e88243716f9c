//! `kedge cloud …`: the cloud daemon and its configuration.

mod config;
mod forward;
pub(super) mod reset;
mod run;

use crate::base::{Exit, Failure, Term};
use clap::Subcommand;
use std::path::{Path, PathBuf};

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
    Forward(forward::Args),
    Reset(reset::Args),
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    match args.command {
        Command::Run(args) => run::run(args, term),
        Command::Config(args) => config::run(args, term),
        Command::Forward(args) => forward::run(args, term),
        Command::Reset(args) => reset::run(args, term),
    }
}

/// The kubeconfig that is meant: the one given, `$KUBECONFIG`, or `~/.kube/config`; the file may not exist.
pub(super) fn kubeconfig(given: Option<&Path>) -> Option<PathBuf> {
    let from_home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".kube/config"));
    let from_env = || std::env::var_os("KUBECONFIG").filter(|it| !it.is_empty()).map(PathBuf::from);
    given.map(Path::to_owned).or_else(from_env).or_else(from_home)
}

/// The kubeconfig that is meant where nobody names one, if there is any: that of another data directory than the usual
/// one, `$KUBECONFIG`, that of `kedge up`, `~/.kube/config`, or that of a cloud which is a service of this machine.
pub(super) fn known_kubeconfig(data_dir: &Path) -> Option<PathBuf> {
    let of_data = data_dir.join("kubeconfig");
    if data_dir != Path::new(super::DATA_DIR) {
        return Some(of_data).filter(|path| path.is_file());
    }
    let from_env = std::env::var_os("KUBECONFIG").filter(|it| !it.is_empty()).map(PathBuf::from);
    if from_env.is_some() {
        return from_env;
    }
    let own = PathBuf::from(crate::daemon::cloud::setup::HOST_KUBECONFIG);
    [Some(of_data), kubeconfig(None), Some(own)].into_iter().flatten().find(|path| path.is_file())
}
