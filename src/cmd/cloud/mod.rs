//! `kedge cloud …`: the cloud daemon and its configuration.

mod config;
mod forward;
pub(super) mod reset;
mod run;

use crate::base::{Exit, Failure, Term};
use clap::Subcommand;
use std::ffi::OsStr;
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
    let from_env = || std::env::var_os("KUBECONFIG").and_then(|list| first_of(&list));
    given.map(Path::to_owned).or_else(from_env).or_else(from_home)
}

/// `$KUBECONFIG` may be a list, as kubectl has it: of the files that exist the first one says which cluster is meant.
fn first_of(list: &OsStr) -> Option<PathBuf> {
    let mut named = std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).peekable();
    let first = named.peek().cloned();
    named.find(|path| path.is_file()).or(first)
}

/// The kubeconfig that is meant where nobody names one, if there is any: that of another data directory than the usual
/// one, `$KUBECONFIG`, that of `kedge up`, `~/.kube/config`, or that of a cloud which is a service of this machine.
pub(super) fn known_kubeconfig(data_dir: &Path) -> Option<PathBuf> {
    let of_data = data_dir.join("kubeconfig");
    if data_dir != Path::new(super::DATA_DIR) {
        return Some(of_data).filter(|path| path.is_file());
    }
    let from_env = std::env::var_os("KUBECONFIG").and_then(|list| first_of(&list));
    if from_env.is_some() {
        return from_env;
    }
    let own = PathBuf::from(crate::daemon::cloud::setup::HOST_KUBECONFIG);
    [Some(of_data), kubeconfig(None), Some(own)].into_iter().flatten().find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_kubeconfigs_means_the_first_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let list = std::env::join_paths([Path::new(""), &one, &two]).unwrap();
        assert_eq!(first_of(&list), Some(one.clone()));
        std::fs::write(&two, "").unwrap();
        assert_eq!(first_of(&list), Some(two));
        std::fs::write(&one, "").unwrap();
        assert_eq!(first_of(&list), Some(one));
        assert_eq!(first_of(OsStr::new("")), None);
    }
}
