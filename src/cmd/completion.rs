//! `kedge completion`: shell completions, made from the command tree.

use crate::base::{Exit, Failure, Term};
use clap_complete::Shell;

/// Print the completion script of a shell
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge completion bash > /etc/bash_completion.d/kedge\n  source <(kedge completion zsh)"
)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::tree(), "kedge", &mut script);
    term.data(String::from_utf8_lossy(&script).trim_end());
    Ok(Exit::Done)
}
