//! Changes of this node's configuration that the cloud asks for (ConfigUpdateJob): read strictly, patched by the
//! allow-list of `config::patch`, checked as a whole, written beside a copy of what was; then the daemon begins anew with
//! it. What is not finished is kept in the store, so that the outcome is reported after the restart, and a configuration
//! that does not start is taken back.

use super::{CHECK, Means};
use crate::base::{Exit, Failure, now, now_ms, read_limited, rfc3339, write_atomic};
use crate::config::edge::EdgeConfig;
use crate::config::patch;
use crate::daemon::edge::uplink::{Link, ReportKey};
use crate::store::Store;
use crate::wire::Up;
use crate::wire::task::{BACK_UP, JobKind, JobTarget, ROLL_BACK, TaskReport, UPDATE_CONFIG};
use crate::wire::update::UpdateSpec;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: u64 = 1 << 20;
/// The row of `kedge_state` that outlives the restart.
const ROW: (&str, &str) = ("jobs", "config-update");
/// Starts that a new configuration may need; the daemon may be restarted for other reasons meanwhile.
const STARTS: u64 = 3;
const NO_FILE: &str = "this daemon runs without a configuration file";
/// A daemon that has run for so long with a new configuration can live with it, cloud or not.
const TRIAL: Duration = Duration::from_secs(20);

/// How long a report may wait for the connection before the daemon begins anew.
const TAKEN: Duration = Duration::from_secs(5);

/// A checked change: the file, what stands in it, and what shall.
struct Prepared {
    file: PathBuf,
    before: Vec<u8>,
    after: String,
    /// Whether the change changes nothing.
    same: bool,
}

/// Runs the flow of a job from an action on; the outcome of the change itself is reported by the next start.
pub(super) async fn update(means: &Means, target: JobTarget, from: &str, spec: &Value) {
    if from == ROLL_BACK {
        let file = means.config_file.clone();
        let undone = blocking(move || take_back(file)).await;
        return means.action(target, ROLL_BACK, undone, String::new()).await;
    }
    let (config, wanted) = (means.config_file.clone(), spec.clone());
    let prepared = blocking(move || prepare(config, &wanted)).await;
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(why) => return means.action(target, CHECK, Err(why), String::new()).await,
    };
    if from == CHECK {
        means.action(target.clone(), CHECK, Ok(()), String::new()).await;
    }
    let (file, before) = (prepared.file.clone(), prepared.before);
    let kept = blocking(move || write(&copy_of(&file), &before, &file)).await;
    let failed = kept.is_err();
    tell(means, &target, BACK_UP, kept).await;
    if failed {
        return;
    }
    if prepared.same {
        // Ordered twice, or set by hand: nothing is to begin anew.
        return tell(means, &target, UPDATE_CONFIG, Ok(())).await;
    }
    // Noted first: a power cut right after the file is written still ends in a report.
    let row =
        json!({"job": target.job, "node": target.node, "stage": "trial", "starts": 0, "since": now_ms()});
    let noted = means.store.put_state(ROW.0, ROW.1, &row).await.map_err(|failure| failure.to_string());
    let (file, after) = (prepared.file, prepared.after);
    let written = match noted {
        Ok(()) => blocking(move || write(&file, after.as_bytes(), &file)).await,
        Err(why) => Err(why),
    };
    if let Err(why) = written {
        drop(means.store.delete_state(ROW.0, ROW.1).await);
        return means.action(target, UPDATE_CONFIG, Err(why), String::new()).await;
    }
    tracing::info!(
        job = target.job,
        "the configuration was changed by the cloud; the daemon begins anew with it"
    );
    means.restart.raise();
}

/// Reports, and waits until the connection has taken it: the process is about to end, or the row about to go.
async fn tell(means: &Means, target: &JobTarget, action: &str, result: Result<(), String>) {
    let key = ReportKey(format!("job {} {} {action}", target.kind.as_str(), target.job));
    let report = TaskReport::action(target.clone(), action, rfc3339(now()), result, String::new());
    if let Ok(taken) = means.uplink.report(key, Up::Task(Box::new(report))).await {
        // It has no answer: its channel is closed when it is sent.
        drop(tokio::time::timeout(TAKEN, taken).await);
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

/// Reads, patches and checks; nothing is written.
fn prepare(file: Option<PathBuf>, spec: &Value) -> Result<Prepared, String> {
    let fields = UpdateSpec::parse(spec)?.fields;
    let file = file.ok_or(NO_FILE)?;
    let name = file.display().to_string();
    let before = read_limited(&file, LIMIT).map_err(|failure| failure.to_string())?;
    let held: Value =
        serde_yaml::from_slice(&before).map_err(|error| format!("{name} is not valid YAML: {error}"))?;
    let changed = patch::patched(&held, &fields).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        lines.join("; ")
    })?;
    EdgeConfig::from_value(&changed, &name)
        .map_err(|failure| format!("{}: {}", failure.what, failure.why))?;
    let after = serde_yaml::to_string(&changed).map_err(|error| error.to_string())?;
    Ok(Prepared { file, before, after, same: changed == held })
}

fn copy_of(file: &Path) -> PathBuf {
    let mut copy = file.as_os_str().to_owned();
    copy.push(".before-update");
    PathBuf::from(copy)
}

/// Writes with the permissions that the configuration has.
fn write(path: &Path, content: &[u8], like: &Path) -> Result<(), String> {
    let mode = std::fs::metadata(like).map_or(0o600, |facts| facts.permissions().mode() & 0o777);
    write_atomic(path, content, mode).map_err(|failure| failure.to_string())
}

fn take_back(file: Option<PathBuf>) -> Result<(), String> {
    let file = file.ok_or(NO_FILE)?;
    let before = read_limited(&copy_of(&file), LIMIT).map_err(|failure| failure.to_string())?;
    write(&file, &before, &file)
}

/// Counts this start of a new configuration, before anything of it takes effect. One that has failed too often is taken
/// back, and the failure ends this start: the next one has the former configuration.
pub async fn begin(store: &Store, file: Option<&Path>) -> Result<(), Failure> {
    let Some(mut row) = store.state(ROW.0, ROW.1).await?.filter(|row| row["stage"] == "trial") else {
        return Ok(());
    };
    let starts = row["starts"].as_u64().unwrap_or(0) + 1;
    row["starts"] = json!(starts);
    if starts <= STARTS {
        return store.put_state(ROW.0, ROW.1, &row).await;
    }
    let file = file.map(Path::to_owned);
    let undone = blocking(move || take_back(file)).await;
    row["stage"] = json!("undone");
    row["undone"] = json!(undone.as_ref().err().cloned().unwrap_or_default());
    store.put_state(ROW.0, ROW.1, &row).await?;
    let failure = Failure::new("KE-JOB-001", "the configuration that the cloud asked for did not start")
        .because(format!("{STARTS} starts ended before the daemon had run for {} s", TRIAL.as_secs()))
        .exit(Exit::Configuration);
    Err(match undone {
        Ok(()) => failure.fix("start again: the former configuration is back"),
        Err(why) => failure.because(why).fix("put the former configuration back by hand: FILE.before-update"),
    })
}

/// Reports what became of a change, after a restart that it asked for.
pub(super) async fn settle(means: &Means) {
    let row = match means.store.state(ROW.0, ROW.1).await {
        Ok(Some(row)) => row,
        Ok(None) => return,
        Err(failure) => {
            tracing::warn!(code = failure.code, "whether the configuration was changed cannot be read");
            return;
        }
    };
    let text = |field: &str| row.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let target = JobTarget { kind: JobKind::ConfigUpdate, job: text("job"), node: text("node") };
    let undone = text("stage") == "undone";
    let mut link = means.uplink.link();
    if !undone {
        // Long enough to know that it runs; what the cloud has said since it was asked proves it sooner.
        let connected = link.wait_for(|link| *link == Link::Up);
        drop(tokio::time::timeout(TRIAL, connected).await);
        let mut settled = row.clone();
        settled["stage"] = json!("done");
        drop(means.store.put_state(ROW.0, ROW.1, &settled).await);
    }
    // The report is not acknowledged, so it waits for the link, and its row until it is on its way.
    if link.wait_for(|link| *link == Link::Up).await.is_err() {
        return;
    }
    if undone {
        let why = format!("the new configuration did not start {STARTS} times");
        tell(means, &target, UPDATE_CONFIG, Err(why)).await;
        let result = Some(text("undone")).filter(|why| !why.is_empty()).map_or(Ok(()), Err);
        tell(means, &target, ROLL_BACK, result).await;
    } else {
        tell(means, &target, UPDATE_CONFIG, Ok(())).await;
    }
    drop(means.store.delete_state(ROW.0, ROW.1).await);
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bench, reports};
    use super::*;

    fn job() -> JobTarget {
        JobTarget { kind: JobKind::ConfigUpdate, job: "j".to_owned(), node: "n".to_owned() }
    }

    fn said(reports: &[TaskReport]) -> Vec<(String, bool, String)> {
        let one = |report: &TaskReport| match report {
            TaskReport::Action { outcome, .. } => {
                (outcome.action.clone(), outcome.success, outcome.reason.clone())
            }
            TaskReport::Stage(_) => panic!("{report:?}"),
        };
        reports.iter().map(one).collect()
    }

    const BEFORE: &str = "# kept beside\nmodules: {edged: {hostnameOverride: n}, edgeHub: {token: secret}}\n";

    #[tokio::test(start_paused = true)]
    async fn a_change_is_checked_kept_written_and_reported_by_the_next_start() {
        let mut bench = bench();
        let file = bench.means.config_file.clone().unwrap();
        std::fs::write(&file, BEFORE).unwrap();
        let spec = json!({"updateFields": {"modules.edgeHub.heartbeat": "7", "modules.edged.nodeLabels.site": "lab"}});
        update(&bench.means, job(), CHECK, &spec).await;
        let steps: Vec<_> =
            said(&reports(&mut bench)).into_iter().map(|(action, ok, _)| (action, ok)).collect();
        assert_eq!(steps, [("Check".to_owned(), true), ("BackUp".to_owned(), true)]);
        assert!(bench.means.restart.is_raised());
        let config = EdgeConfig::load(&file).unwrap().config;
        assert_eq!((config.hub.heartbeat.as_secs(), config.hub.token.reveal()), (7, "secret"));
        assert_eq!(std::fs::read_to_string(copy_of(&file)).unwrap(), BEFORE);
        // The next start.
        begin(&bench.means.store, Some(&file)).await.unwrap();
        bench.link.send_replace(Link::Up);
        settle(&bench.means).await;
        assert_eq!(said(&reports(&mut bench)), [("Update".to_owned(), true, String::new())]);
        settle(&bench.means).await;
        assert!(reports(&mut bench).is_empty());
        // Ordered again, it is what it is.
        update(&bench.means, job(), CHECK, &spec).await;
        assert_eq!(said(&reports(&mut bench)).len(), 3);
        assert!(bench.means.store.state(ROW.0, ROW.1).await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_start_is_taken_back() {
        let mut bench = bench();
        let file = bench.means.config_file.clone().unwrap();
        std::fs::write(&file, BEFORE).unwrap();
        update(&bench.means, job(), CHECK, &json!({"updateFields": {"modules.eventBus.mqttMode": "0"}}))
            .await;
        drop(reports(&mut bench));
        for _ in 0..STARTS {
            begin(&bench.means.store, Some(&file)).await.unwrap();
        }
        let failure = begin(&bench.means.store, Some(&file)).await.unwrap_err();
        assert_eq!((failure.code, failure.exit), ("KE-JOB-001", Exit::Configuration));
        failure.is_as_committed();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), BEFORE);
        begin(&bench.means.store, Some(&file)).await.unwrap();
        bench.link.send_replace(Link::Up);
        settle(&bench.means).await;
        let told = said(&reports(&mut bench));
        let [(update, false, why), (back, true, _)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((update.as_str(), back.as_str()), ("Update", "RollBack"));
        assert!(why.contains("did not start"), "{why}");
    }

    #[tokio::test]
    async fn what_is_hostile_not_open_or_wrong_changes_nothing() {
        let mut bench = bench();
        let file = bench.means.config_file.clone().unwrap();
        std::fs::write(&file, BEFORE).unwrap();
        for (path, value) in [
            ("modules.edgeStream.enable", "true;reboot"),
            ("modules.edgeStream.enable", "$(reboot)"),
            ("modules.edgeStream.enable", "true\nreboot"),
            ("modules.edgeStream.enable;reboot", "true"),
            ("modules.edgeStream.enable", "maybe"),
            ("modules.edgeHub.heartbeat", "0"),
            ("modules.eventBus.mqttMode", "9"),
            ("modules.edgeHub.token", "x"),
            ("modules.edgeHub.httpServer", "https://evil:10002"),
            ("modules.edged.tailoredKubeletConfig.staticPodPath", "/tmp"),
            ("database.dataSource", "/tmp/x.db"),
        ] {
            update(&bench.means, job(), CHECK, &json!({"updateFields": {path: value}})).await;
            let told = said(&reports(&mut bench));
            let [(action, false, why)] = told.as_slice() else { panic!("{path} {value}: {told:?}") };
            assert!(action == "Check" && !why.is_empty() && !why.contains('\n'), "{why}");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), BEFORE);
        assert!(!bench.means.restart.is_raised() && !copy_of(&file).exists());
        bench.means.config_file = None;
        update(&bench.means, job(), CHECK, &json!({"updateFields": {"modules.edgeStream.enable": "true"}}))
            .await;
        assert!(said(&reports(&mut bench))[0].2.contains("without a configuration file"));
    }
}
