//! `kedge status`: what the running daemons of this machine say of themselves over their sockets. Exit status 0 when all
//! is well, 1 when something is degraded, 4 when no daemon runs.

mod health;
mod text;

pub(in crate::cmd) use health::{RIVAL_FIX, rival};

use super::edge_store::DatabaseArgs;
use crate::base::{Exit, Failure, Output, Term};
use crate::config::cloud::CloudConfig;
use crate::config::survey::Role;
use crate::daemon::status;
use crate::host::service::{self, Manager};
use serde_json::Value;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PAUSE: Duration = Duration::from_secs(2);

/// Show the state of the daemons on this machine; exit status 1 when something is degraded, 4 when none runs
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge status\n  kedge status --watch\n  kedge status --data-dir /srv/kedge -o json"
)]
pub struct Args {
    /// The daemon's socket; found below the data directory when not given
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Show it anew every two seconds until interrupted
    #[arg(long, short)]
    watch: bool,
    #[command(flatten)]
    place: DatabaseArgs,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    if !args.watch {
        return once(&args, term);
    }
    super::block_on(async {
        let mut beat = tokio::time::interval(PAUSE);
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
                _ = beat.tick() => {}
            }
            if args.output == Output::Text && !term.is_plain() && std::io::stdout().is_terminal() {
                // Home, and everything below is cleared.
                term.data("\x1b[H\x1b[2J");
            }
            // A daemon that restarts is what somebody who watches waits for.
            match once(&args, term) {
                Err(failure) if failure.exit == Exit::Unreachable => term.failure(&failure),
                other => drop(other?),
            }
            if !term.is_heard() {
                return Ok(Exit::Done);
            }
        }
    })
}

fn once(args: &Args, term: &Term) -> Result<Exit, Failure> {
    let document = document(args)?;
    let problems = health::problems(&document);
    match args.output {
        Output::Text => term.data(&text::told(&document, &problems)),
        form => {
            let mut shown = document;
            if let Some(fields) = shown.as_object_mut() {
                fields.insert("healthy".to_owned(), problems.is_empty().into());
                fields.insert("problems".to_owned(), serde_json::to_value(&problems).unwrap_or_default());
            }
            term.value(&shown, form)?;
        }
    }
    Ok(if problems.is_empty() { Exit::Done } else { Exit::Failed })
}

/// The document of the edge with that of the cloud below `cloud`, or of the one that runs.
fn document(args: &Args) -> Result<Value, Failure> {
    let places = match &args.socket {
        Some(path) => vec![path.clone()],
        None => args.place.sockets(),
    };
    let named = args.socket.is_some() || args.place.is_named();
    let first =
        ask_first(&places).map_err(|failure| match args.place.data_dir() == Path::new(super::DATA_DIR) {
            true if !named => of_service(failure, installed().as_ref()),
            _ => failure,
        });
    if named {
        return first;
    }
    let cloud = cloud_sockets(args.place.data_dir()).iter().find_map(|path| status::ask(path).ok());
    match (first, cloud) {
        (Ok(mut edge), Some(cloud)) if edge.get("role") != cloud.get("role") => {
            if let Some(fields) = edge.as_object_mut() {
                fields.entry("cloud").or_insert(cloud);
            }
            Ok(edge)
        }
        (Err(_), Some(cloud)) => Ok(cloud),
        (first, _) => first,
    }
}

/// Where the cloud of this machine may tell its state.
fn cloud_sockets(data_dir: &Path) -> Vec<PathBuf> {
    let mut places = vec![data_dir.join("cloud/kedge.sock")];
    let usual = Path::new(Role::Cloud.default_path());
    if data_dir == Path::new(super::DATA_DIR) && usual.is_file() {
        places.extend(CloudConfig::load(usual).ok().map(|loaded| loaded.config.status_socket));
    }
    places
}

/// The service of this machine that should run, and where its log is read.
fn installed() -> Option<(&'static str, String)> {
    let manager = Manager::here();
    let names = [(service::EDGE, "edge"), (service::CLOUD, "cloud")];
    let (name, role) = names.into_iter().find(|(name, _)| manager.definition_path(name).exists())?;
    Some((role, manager.log_hint(name)))
}

/// What was set up as a service is started as one.
fn of_service(failure: Failure, service: Option<&(&'static str, String)>) -> Failure {
    match service {
        Some((role, log)) if failure.code == "KE-STATUS-001" => {
            failure.fix(format!("kedge service start {role}; its log: {log}"))
        }
        _ => failure,
    }
}

/// The first daemon that answers; the failure is about the first place, or the first that this user may not ask.
fn ask_first(places: &[PathBuf]) -> Result<Value, Failure> {
    let mut first = None;
    for place in places {
        match status::ask(place) {
            Ok(document) => return Ok(document),
            Err(failure) if first.is_none() || failure.code == "KE-FILE-002" => first = Some(failure),
            Err(_) => {}
        }
    }
    Err(first.unwrap_or_else(|| {
        Failure::new("KE-STATUS-001", "no kedge daemon is running here").exit(Exit::Unreachable)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_daemon_it_says_so_with_status_four() {
        let dir = tempfile::tempdir().unwrap();
        let failure = ask_first(&[dir.path().join("a.sock"), dir.path().join("b.sock")]).unwrap_err();
        assert_eq!((failure.code, failure.exit), ("KE-STATUS-001", Exit::Unreachable));
        assert!(failure.why.contains("a.sock") && failure.fix.contains("kedge up"));
        assert_eq!(of_service(failure.clone(), None), failure);
        let service = ("edge", "journalctl -u kedge-edge".to_owned());
        let fix = of_service(failure, Some(&service)).fix;
        assert_eq!(fix, "kedge service start edge; its log: journalctl -u kedge-edge");
    }
}
