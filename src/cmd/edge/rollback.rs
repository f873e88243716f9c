//! `kedge edge rollback`: back to the version that ran before, with the same trial as an upgrade.

use super::upgrade::{Manner, Place, change};
use crate::base::{Exit, Failure, Output, Term};
use crate::daemon::upgrade::DEADLINE;
use crate::host::versions::Deed;
use crate::model::Release;

/// Go back to the version of kedge that ran before
///
/// It is tried like a new one, and the present version comes back when it does not get ready. Pods keep running.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge edge rollback --wait\n  kedge edge rollback --to 0.1.0 --yes")]
pub struct Args {
    /// The version to go back to [default: the one before]
    #[arg(long, value_name = "VERSION", value_parser = version)]
    to: Option<Release>,
    /// Wait until it has proved good or the present version is back
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    place: Place,
    /// Ask nothing
    #[arg(long, short)]
    yes: bool,
    /// Check everything and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Form in which the outcome is shown
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let (wait, yes, dry_run, output) = (args.wait, args.yes, args.dry_run, args.output);
    let manner = Manner { wait, yes, dry_run, deadline: DEADLINE, output };
    change(&args.place.site(), Deed::Rollback, &manner, term, |work| {
        let to = args.to.or_else(|| work.previous()).filter(|to| *to != work.from);
        let to = to.ok_or_else(|| {
            Failure::new("KE-UPGRADE-013", "there is no version to go back to")
                .because(format!("kedge {} is the only one that has run here", work.from.bare()))
                .fix("upgrade to another version from its file: kedge edge upgrade --to FILE")
        })?;
        work.slot(&to)
    })
}

fn version(text: &str) -> Result<Release, String> {
    Release::parse(text).ok_or_else(|| "write a version such as 0.1.0".to_owned())
}
