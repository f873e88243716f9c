//! `kedge cloud reset` (and `kedge reset cloud`): takes the control plane out of a cluster and its service off this machine.
//! It needs the cluster's name typed, carries on past errors, and never touches what belongs to an edge.

use crate::base::{Exit, Failure, Output, Term, aside};
use crate::cmd::ask;
use crate::cmd::reset::Account;
use crate::config::cloud::DEFAULT_PATH;
use crate::daemon::cloud::setup::SetupDesk;
use crate::host::journal::{self, Deed, Entry, Journal, Manner, Role};
use std::path::{Path, PathBuf};

/// Take the control plane out of a cluster and off this machine
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge cloud reset --dry-run\n  kedge cloud reset --kube-config ~/.kube/config --yes-i-mean kubernetes"
)]
pub struct Args {
    /// The cluster's kubeconfig [default: $KUBECONFIG, then ~/.kube/config]
    #[arg(long = "kube-config", visible_alias = "kubeconfig", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The cluster's name, as the kubeconfig has it; without it, it is asked for
    #[arg(long, visible_alias = "cluster-name", value_name = "NAME")]
    yes_i_mean: Option<String>,
    /// Also remove definitions with the objects under them, and a namespace that others use
    #[arg(long)]
    purge: bool,
    /// Put back on this machine what others have changed since
    #[arg(long)]
    force: bool,
    /// List what would be removed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Form in which the outcome is shown
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

fn of_cloud(entry: &Entry) -> bool {
    entry.deed.role() == Some(Role::Cloud)
}

/// What goes with the cloud: what init did, and what `config set` has changed since in the file that init wrote.
fn goes(entries: &[Entry], entry: &Entry) -> bool {
    let config = Path::new(DEFAULT_PATH);
    let written = |init: &Entry| of_cloud(init) && init.path() == Some(config) && init.id < entry.id;
    of_cloud(entry)
        || (entry.deed == Deed::Configure && entry.path() == Some(config) && entries.iter().any(written))
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    crate::pki::install_crypto_provider();
    super::super::block_on(reset(args, term))
}

fn kubeconfig(args: &Args) -> Option<PathBuf> {
    let found = super::kubeconfig(args.kubeconfig.as_deref());
    found.filter(|path| args.kubeconfig.is_some() || path.is_file())
}

async fn reset(args: Args, term: &Term) -> Result<Exit, Failure> {
    let entries = Journal::read(Path::new(journal::DIR))?;
    let here = entries.iter().filter(|entry| of_cloud(entry)).count();
    let path = kubeconfig(&args);
    let name = match &path {
        Some(path) => SetupDesk::called(path).await?,
        None if here == 0 => {
            return Err(Failure::new("KE-CLOUD-031", "there is no cluster to take the control plane out of")
                .because("no kubeconfig was found, and nothing of a cloud was set up on this machine")
                .fix("name the cluster's kubeconfig with --kube-config")
                .exit(Exit::Configuration));
        }
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    let (desk, lost) = match path {
        Some(path) => match SetupDesk::open(&path).await {
            Ok(desk) => (Some(desk), None),
            // A cluster that is gone does not hold what is on this machine.
            Err(failure) if failure.exit == Exit::Unreachable && here > 0 => (None, Some(failure)),
            Err(failure) => return Err(failure),
        },
        None => (None, None),
    };
    if args.dry_run {
        if args.yes_i_mean.is_some() {
            meant(&args, &name, desk.as_ref().map(SetupDesk::server))?;
        }
        return preview(&args, desk.as_ref(), lost, term).await;
    }
    meant(&args, &name, desk.as_ref().map(SetupDesk::server))?;
    let mut account = Account::new(args.output, false, term);
    let mut failures = Vec::new();
    if here > 0 {
        // First the service: it would make again what is removed.
        let manner = if args.force { Manner::Thorough } else { Manner::Careful };
        let journal = Journal::open(Path::new(journal::DIR), Deed::Init)?;
        let undone =
            aside("undo the changes", move || journal.undo(manner, |entry| goes(&entries, entry))).await?;
        undone.done.iter().for_each(|done| account.note(format!("undone: {done}")));
        failures.extend(undone.leftovers);
    }
    if let Some(desk) = &desk {
        let removed = desk.remove(args.purge, false).await;
        removed.done.iter().for_each(|done| account.note(format!("removed: {done}")));
        tell_kept(&removed.kept, term);
        failures.extend(removed.failed);
    } else if lost.is_none() {
        term.say("the cluster's part stays: no kubeconfig was found (--kube-config)");
    }
    failures.extend(lost.map(stays));
    account.close(&failures)?;
    for failure in &failures {
        term.failure(failure);
    }
    if failures.is_empty() {
        term.say("the control plane is gone; Nodes stay until you delete them");
        return Ok(Exit::Done);
    }
    Err(Failure::new("KE-CLOUD-032", format!("{} things could not be removed", failures.len()))
        .because(failures.first().map(|failure| failure.what.clone()).unwrap_or_default())
        .fix("mend what is named above and run the same command again"))
}

fn tell_kept(kept: &[String], term: &Term) {
    for kept in kept {
        term.say(&format!("kept: {kept}"));
    }
    if !kept.is_empty() {
        term.say("--purge removes what is kept, with your objects");
    }
}

/// What is said of a cluster that does not answer.
fn stays(failure: Failure) -> Failure {
    Failure::new("KE-CLOUD-030", "cannot remove the cluster's part")
        .because(format!("{}: {}", failure.what, failure.why))
        .fix("run the same command again once the API answers; if the cluster is gone for good, nothing is left to do")
}

async fn preview(
    args: &Args,
    desk: Option<&SetupDesk>,
    lost: Option<Failure>,
    term: &Term,
) -> Result<Exit, Failure> {
    let here = Journal::read(Path::new(journal::DIR))?;
    let mut account = Account::new(args.output, true, term);
    for entry in here.iter().rev().filter(|entry| goes(&here, entry)) {
        account.note(format!("this machine: {entry}"));
    }
    if let Some(desk) = desk {
        let removed = desk.remove(args.purge, true).await;
        for line in &removed.done {
            account.note(format!("cluster {}: {line}", desk.cluster()));
        }
        tell_kept(&removed.kept, term);
        if let Some(failure) = removed.failed.into_iter().next() {
            return Err(failure);
        }
    }
    account.close(&[])?;
    if let Some(failure) = lost {
        return Err(stays(failure));
    }
    term.say("nothing was changed");
    Ok(Exit::Done)
}

/// Only who types the cluster's name means it.
fn meant(args: &Args, name: &str, server: Option<&str>) -> Result<(), Failure> {
    let typed = match &args.yes_i_mean {
        Some(typed) => typed.clone(),
        None if ask::possible() => {
            let place = server.map(|server| format!(" at {server}")).unwrap_or_default();
            let question = format!(
                "The control plane{place} goes, with its authority: every node has to join again. Type {name} to go on"
            );
            ask::text(&question, &format!("--yes-i-mean {name}"))?
        }
        None => String::new(),
    };
    if !typed.is_empty() && typed == name {
        return Ok(());
    }
    let why = if typed.is_empty() {
        format!("this takes the control plane out of cluster {name}, and nobody typed its name")
    } else {
        format!("the cluster is called {name}, not {typed}")
    };
    Err(Failure::new("KE-CLOUD-033", "nothing was removed")
        .because(why)
        .fix(format!("look with --dry-run first, then add --yes-i-mean {name}"))
        .exit(Exit::Usage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_was_typed_counts() {
        let typed = |name: &str| Args {
            kubeconfig: None,
            yes_i_mean: Some(name.to_owned()),
            purge: false,
            force: false,
            dry_run: false,
            output: Output::Text,
        };
        assert!(meant(&typed("real"), "real", None).is_ok());
        // A kubeconfig may give its cluster no name; that is no leave to remove it.
        for (said, name) in [("", ""), ("", "real"), ("other", "real"), ("other", "")] {
            let refused = meant(&typed(said), name, None).unwrap_err();
            assert_eq!((refused.code, refused.exit), ("KE-CLOUD-033", Exit::Usage), "{said:?} {name:?}");
            refused.is_as_committed();
        }
    }
}
