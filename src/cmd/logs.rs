//! `kedge logs`: what a container of this node has written, from the log files of the runtime. No cloud and no daemon is
//! needed; where no runtime answers either, the files are looked for at their usual places.

use super::containers::{self, Which, Whose};
use super::edge_store::DatabaseArgs;
use crate::base::{Exit, Failure, Stop, Term};
use crate::cri::Runtime;
use crate::cri::messages::{ContainerFilter, ContainerState};
use crate::daemon::edge::pod::{LogOptions, read_log};
use futures_util::StreamExt;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where KubeEdge and `kedge edge run` have the runtime write logs.
const USUAL: &str = "/var/log/pods";
/// How often the runtime is asked whether a followed container still runs.
const PACE: Duration = Duration::from_secs(1);

/// Show what a container of this node has written
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge logs web-0\n  kedge logs -n lab web-0 -c main -f --tail 20")]
pub struct Args {
    /// The pod's name
    pod: String,
    /// The pod's namespace
    #[arg(long, short, value_name = "NS", default_value = "default")]
    namespace: String,
    /// The container; the only one when left out
    #[arg(long, short, value_name = "NAME")]
    container: Option<String>,
    /// Go on with what is written from now on, until the container ends
    #[arg(long, short)]
    follow: bool,
    /// Begin with the last N lines
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
    /// The run of the container before the present one
    #[arg(long, short, conflicts_with = "follow")]
    previous: bool,
    /// Show when each line was written
    #[arg(long)]
    timestamps: bool,
    /// The container runtime's socket; found when not given
    #[arg(long, value_name = "ENDPOINT")]
    runtime_endpoint: Option<String>,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// A log file, and who writes it where a runtime tells.
struct Log {
    path: PathBuf,
    writer: Option<(Runtime, String)>,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    super::block_on(async {
        let stop = Stop::new();
        super::stop_on_signals(&stop)?;
        let log = find(&args, term).await?;
        // Ending a follower is how it ends well.
        stop.or(show(&args, log, term)).await.unwrap_or(Ok(Exit::Done))
    })
}

async fn find(args: &Args, term: &Term) -> Result<Log, Failure> {
    let whose = Whose { namespace: &args.namespace, pod: &args.pod, container: args.container.as_deref() };
    let endpoints = match &args.runtime_endpoint {
        Some(endpoint) => vec![endpoint.clone()],
        None => super::pods::endpoints(&args.database.path()),
    };
    let (runtime, mut all) = match whose.containers(&endpoints, Which::All).await {
        Ok(found) => found,
        Err(failure) => {
            let beside = args.database.path().with_file_name("logs").join("pods");
            let found = on_disk(&[&beside, Path::new(USUAL)], &whose, args.previous)?;
            let path = found.ok_or_else(|| failure.clone())?;
            term.say(&format!("note: {}; this is {}", failure.what, path.display()));
            return Ok(Log { path, writer: None });
        }
    };
    let chosen = whose.choose(all.iter().map(containers::name).collect())?;
    all.retain(|container| containers::name(container) == chosen);
    all.sort_by_key(|container| std::cmp::Reverse(container.created_at));
    let container = all.into_iter().nth(usize::from(args.previous)).ok_or_else(|| absent(args, &chosen))?;
    let asked = runtime.container_status(&container.id, false).await;
    let path = asked.ok().and_then(|answer| answer.status).map(|status| PathBuf::from(status.log_path));
    let path = path.filter(|path| path.is_absolute()).ok_or_else(|| absent(args, &chosen))?;
    Ok(Log { path, writer: Some((runtime, container.id)) })
}

fn absent(args: &Args, container: &str) -> Failure {
    let which = if args.previous { "previous run of the container" } else { "container" };
    Failure::new(
        "KE-POD-005",
        format!("the {which} {container} of {}/{} has no log", args.namespace, args.pod),
    )
    .because(if args.previous {
        "it has not restarted"
    } else {
        "the runtime names none: it has not started"
    })
    .fix("see with `kedge pods` whether it has started")
}

/// The newest log file of the container below `NAMESPACE_POD_UID/CONTAINER/N.log`.
fn on_disk(roots: &[&Path], whose: &Whose<'_>, previous: bool) -> Result<Option<PathBuf>, Failure> {
    let entries = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let text = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let start = format!("{}_{}_", whose.namespace, whose.pod);
    let changed = |path: &PathBuf| fs::metadata(path).and_then(|found| found.modified()).ok();
    let pods = roots.iter().flat_map(|root| entries(root)).filter(|path| text(path).starts_with(&start));
    // A pod that was made anew has another uid.
    let Some(pod) = pods.max_by_key(changed) else { return Ok(None) };
    let container = whose.choose(entries(&pod).iter().map(|path| text(path)).collect())?;
    let number = |path: &PathBuf| text(path).strip_suffix(".log")?.parse::<u64>().ok();
    let mut files: Vec<(u64, PathBuf)> = entries(&pod.join(container))
        .into_iter()
        .filter_map(|path| number(&path).map(|number| (number, path)))
        .collect();
    files.sort();
    Ok(files.into_iter().rev().nth(usize::from(previous)).map(|(_, path)| path))
}

async fn show(args: &Args, log: Log, term: &Term) -> Result<Exit, Failure> {
    let options = LogOptions {
        follow: args.follow,
        timestamps: args.timestamps,
        tail: args.tail,
        ..LogOptions::default()
    };
    let runs = Arc::new(AtomicBool::new(log.writer.is_some()));
    let seen = runs.clone();
    let unread = |error: std::io::Error| {
        Failure::new("KE-FILE-002", format!("cannot read {}", log.path.display()))
            .because(error)
            .fix("check the path and its permissions")
    };
    let pieces = read_log(&log.path, options, move || seen.load(Ordering::Relaxed)).await.map_err(unread)?;
    let told = async {
        let mut pieces = pin!(pieces);
        while let Some(piece) = pieces.next().await {
            if !term.pass(&piece.map_err(unread)?) {
                // A reader that has gone away has seen enough.
                break;
            }
        }
        Ok(Exit::Done)
    };
    let watched = async {
        if let (Some((runtime, id)), true) = (&log.writer, args.follow) {
            while !has_ended(runtime, id).await {
                tokio::time::sleep(PACE).await;
            }
            runs.store(false, Ordering::Relaxed);
        }
        std::future::pending().await
    };
    tokio::select! {
        ended = told => ended,
        never = watched => never,
    }
}

/// A runtime that does not answer says nothing about the container.
async fn has_ended(runtime: &Runtime, id: &str) -> bool {
    let filter = ContainerFilter { id: id.to_owned(), ..ContainerFilter::default() };
    let listed = runtime.list_containers(filter).await;
    listed.is_ok_and(|found| !found.iter().any(|one| one.state == ContainerState::Running as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_file_of_the_pod_is_found_without_a_runtime() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            path
        };
        for name in ["d_p_u/c/0.log", "d_p_u/c/9.log", "d_p_u/c/10.log.17", "d_pp_u/c/3.log"] {
            put(name);
        }
        let newest = put("d_p_u/c/10.log");
        let whose = |container| Whose { namespace: "d", pod: "p", container };
        let found = |container, previous| on_disk(&[dir.path()], &whose(container), previous);
        assert_eq!(found(None, false).unwrap(), Some(newest));
        assert!(found(None, true).unwrap().unwrap().ends_with("d_p_u/c/9.log"));
        assert_eq!(found(Some("other"), false).unwrap_err().committed().code, "KE-POD-004");
        let nobody = Whose { namespace: "d", pod: "x", container: None };
        assert_eq!(on_disk(&[dir.path()], &nobody, false).unwrap(), None);
    }
}
