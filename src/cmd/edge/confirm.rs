//! `kedge edge upgrade confirm`: a person on the node agrees to an upgrade of the cloud that asks for it.

use super::upgrade::Place;
use crate::base::{Exit, Failure, Term};
use crate::daemon::upgrade::agreement;

/// Agree to the upgrade of the cloud that waits on this node
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge edge upgrade confirm\n  kedge edge upgrade confirm --config /etc/kubeedge/config/edgecore.yaml"
)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Show what waits and agree to nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let site = args.place.site();
    if !site.config.is_file() {
        return Err(Failure::new("KE-UPGRADE-028", "there is no edge node on this machine")
            .because(format!("{} is not there", site.config.display()))
            .fix("run it on the node that waits, or name its configuration with --config")
            .exit(Exit::Configuration));
    }
    let waiting = agreement::waiting(&site.versions).ok_or_else(|| {
        Failure::new("KE-UPGRADE-022", "no upgrade waits for an agreement on this node")
            .because("the cloud has asked for none that wants one, or it was given")
            .fix("see what was done with: kedge edge history")
    })?;
    if args.dry_run {
        term.say(&format!("the upgrade to {} by {} waits", waiting.version.bare(), waiting.job));
        return Ok(Exit::Done);
    }
    agreement::give(&site.versions, &waiting)?;
    term.say(&format!("the upgrade to {} by {} goes on", waiting.version.bare(), waiting.job));
    Ok(Exit::Done)
}
