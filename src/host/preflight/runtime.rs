//! The container runtime: which socket answers to CRI v1, what its state is and which cgroup driver it uses. Where kedge may
//! start a containerd of its own, the programs for that are enough. Each socket is asked once for all checks.

use super::machine::Machine;
use super::{Wanted, WantedRuntime, pod_network};
use crate::cri::messages::{CgroupDriver, StatusResponse};
use crate::cri::{CallError, Runtime};
use crate::host::check::{Check, Cost, Finding, Group};
use crate::host::containerd::{Facts, WELL_KNOWN, own_socket, program};
use crate::host::remedy;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, join_all};
use serde_json::Value;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CALL: Duration = Duration::from_millis(1500);
const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";
/// Images need containerd 1.6 for CRI v1; older ones speak v1alpha2 only.
const INSTALL: &str = "apt-get install containerd runc containernetworking-plugins";
const DOCKER: &str = "/run/docker.sock";

/// What one socket has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// CRI v1.
    Serves(Asked),
    /// A containerd without its CRI plugin.
    PluginOff,
    /// A runtime from before CRI v1, with its name and version.
    TooOld(String),
    /// The socket is there and nobody answers.
    Silent(String),
    /// There is no such socket.
    Absent,
}

/// A runtime that speaks CRI v1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub socket: String,
    /// Such as `containerd 1.6.20`.
    pub version: String,
    /// `systemd` or `cgroupfs`; `None` where the runtime does not say.
    pub cgroup_driver: Option<&'static str>,
    pub cni_conf_dir: Option<PathBuf>,
    pub cni_bin_dir: Option<PathBuf>,
    /// The runtime's own words where it is not ready for pods or their network.
    pub runtime_trouble: Option<String>,
    pub network_trouble: Option<String>,
}

/// Asks one endpoint; takes at most about two seconds.
pub async fn ask(endpoint: &str) -> Answer {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    if !Path::new(path).exists() {
        return Answer::Absent;
    }
    let runtime = Runtime::new(endpoint);
    match limited(runtime.version()).await {
        Ok(version) => {
            let (status, config) =
                tokio::join!(limited(runtime.status(true)), limited(runtime.runtime_config()));
            let driver = config.ok().and_then(|config| config.linux).map(|linux| linux.cgroup_driver());
            let version =
                format!("{} {}", version.runtime_name, version.runtime_version.trim_start_matches('v'));
            Answer::Serves(understand(path, version, status, driver))
        }
        Err(CallError::Unimplemented { .. }) => match limited(runtime.version_before_v1()).await {
            Ok(old) => Answer::TooOld(format!("{} {}", old.runtime_name, old.runtime_version)),
            Err(_) => Answer::PluginOff,
        },
        Err(CallError::Unreachable { why, .. }) => Answer::Silent(why),
        Err(error) => Answer::Silent(error.to_string()),
    }
}

async fn limited<T>(call: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL, call).await {
        Ok(outcome) => outcome,
        Err(_) => Err(CallError::TimedOut { call: "the question", seconds: 1 }),
    }
}

fn understand(
    socket: &str,
    version: String,
    status: Result<StatusResponse, CallError>,
    driver: Option<CgroupDriver>,
) -> Asked {
    let mut asked = Asked { socket: socket.to_owned(), version, ..Asked::default() };
    match status {
        Err(error) => asked.runtime_trouble = Some(error.to_string()),
        Ok(status) => {
            let trouble = |kind: &str| {
                let conditions = status.status.iter().flat_map(|status| &status.conditions);
                let condition =
                    conditions.into_iter().find(|condition| condition.kind == kind && !condition.status)?;
                Some(format!("{} {}", condition.reason, condition.message).trim().to_owned())
            };
            asked.runtime_trouble = trouble("RuntimeReady");
            asked.network_trouble = trouble("NetworkReady");
            let facts = Facts::read(&status);
            asked.cni_conf_dir = facts.conf_dir;
            let config = status.info.get("config").map_or("null", String::as_str);
            let config: Value = serde_json::from_str(config).unwrap_or_default();
            asked.cni_bin_dir = config.pointer("/cni/binDir").and_then(Value::as_str).map(PathBuf::from);
            if config.is_object() {
                asked.cgroup_driver = Some(if facts.systemd { "systemd" } else { "cgroupfs" });
            }
        }
    }
    // The answer to the direct question counts more than what the configuration seems to say.
    match driver {
        Some(CgroupDriver::Systemd) => asked.cgroup_driver = Some("systemd"),
        Some(CgroupDriver::Cgroupfs) => asked.cgroup_driver = Some("cgroupfs"),
        None => {}
    }
    asked
}

type Answers = Shared<BoxFuture<'static, Vec<(String, Answer)>>>;

pub(super) fn checks(here: &Machine, wanted: &Wanted) -> Vec<Check> {
    let Some(wanted) = wanted.runtime.clone() else { return Vec::new() };
    let endpoints = endpoints(&wanted);
    // Asked once for all checks that look at the answers.
    let answers: Answers = async move {
        let asked = endpoints.into_iter().map(|endpoint| async move {
            let answer = ask(&endpoint).await;
            (endpoint, answer)
        });
        join_all(asked).await
    }
    .boxed()
    .shared();
    let look = |judge: fn(&Machine, &WantedRuntime, &[(String, Answer)]) -> Finding| {
        let (here, wanted, answers) = (here.clone(), wanted.clone(), answers.clone());
        async move {
            let answers = answers.await;
            vec![judge(&here, &wanted, &answers)]
        }
    };
    const NO_RUNTIME: &[&str] = &["KE-CRI-001", "KE-CRI-002", "KE-CRI-003"];
    vec![
        Check::asking("KE-CRI-001", Group::Runtime, "container runtime", look(judge_socket))
            .cost(Cost::Medium)
            .also(&["KE-CRI-002", "KE-CRI-003"]),
        Check::asking("KE-CRI-004", Group::Runtime, "runtime's state", look(judge_state)).after(NO_RUNTIME),
        Check::asking("KE-CGROUP-003", Group::Runtime, "cgroup driver", look(judge_driver)).after(NO_RUNTIME),
        Check::asking("KE-CNI-010", Group::Runtime, "pod network", look(pod_network::judge_cni))
            .also(&["KE-CNI-012"]),
        Check::asking("KE-CNI-011", Group::Runtime, "CNI programs", look(pod_network::judge_programs)),
    ]
}

fn endpoints(wanted: &WantedRuntime) -> Vec<String> {
    match &wanted.endpoint {
        Some(endpoint) => vec![endpoint.clone()],
        None => {
            let own = own_socket(&wanted.own_dir).display().to_string();
            WELL_KNOWN.iter().map(|&socket| socket.to_owned()).chain([own]).collect()
        }
    }
}

pub(super) fn serving(answers: &[(String, Answer)]) -> Option<&Asked> {
    answers.iter().find_map(|(_, answer)| match answer {
        Answer::Serves(asked) => Some(asked),
        _ => None,
    })
}

/// The programs that an own containerd needs and that are not here.
fn missing_programs() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if program("containerd").is_none() {
        missing.push("containerd");
    }
    if program("runc").is_none() && program("crun").is_none() {
        missing.push("runc");
    }
    missing
}

fn judge_socket(here: &Machine, wanted: &WantedRuntime, answers: &[(String, Answer)]) -> Finding {
    judge_answers(here, wanted, answers, &missing_programs())
}

fn judge_answers(
    here: &Machine,
    wanted: &WantedRuntime,
    answers: &[(String, Answer)],
    missing: &[&str],
) -> Finding {
    let (code, name) = ("KE-CRI-001", "container runtime");
    if let Some(asked) = serving(answers) {
        return Finding::fine(code, name, format!("{} at {}, CRI v1", asked.version, asked.socket));
    }
    let found = |wanted: fn(&Answer) -> bool| answers.iter().find(|(_, answer)| wanted(answer));
    if let Some((socket, _)) = found(|answer| matches!(answer, Answer::PluginOff)) {
        return judge_plugin(here, socket);
    }
    if let Some((socket, Answer::TooOld(version))) = found(|answer| matches!(answer, Answer::TooOld(_))) {
        return Finding::failed(
            "KE-CRI-003",
            name,
            format!("{version} at {socket} speaks CRI v1alpha2 only"),
        )
        .because("CRI v1 came with containerd 1.6 and CRI-O 1.23")
        .fix("apt-get install --only-upgrade containerd");
    }
    if wanted.may_start && missing.is_empty() {
        return Finding::fine(code, name, "none answers; kedge starts a containerd of its own");
    }
    if let Some((socket, Answer::Silent(why))) = found(|answer| matches!(answer, Answer::Silent(_))) {
        let place = here.path(socket.strip_prefix("unix://").unwrap_or(socket));
        if std::fs::metadata(&place).is_ok_and(|found| !found.file_type().is_socket()) {
            return Finding::failed(code, name, format!("{socket} is no socket"))
                .because("a container runtime is reached by its socket")
                .fix("name it: --remote-runtime-endpoint unix:///run/containerd/containerd.sock");
        }
        return Finding::failed(code, name, format!("nobody answers at {socket}: {why}"))
            .because("pods need a runtime that runs")
            .fix(remedy::restart("containerd"));
    }
    if here.exists(DOCKER) {
        return Finding::failed(code, name, "Docker alone, which does not speak CRI")
            .because("pods need CRI v1: containerd, which Docker brings, or cri-dockerd")
            .fix(INSTALL);
    }
    let places: Vec<&str> = answers.iter().map(|(socket, _)| socket.as_str()).collect();
    let seen = match (&wanted.endpoint, missing) {
        (Some(_), _) | (None, []) => format!("no socket at {}", places.join(", ")),
        (None, missing) => format!("none answers, and {} is not installed", missing.join(" and ")),
    };
    let fix = if wanted.endpoint.is_some() {
        "start the runtime, or name the right --remote-runtime-endpoint"
    } else {
        INSTALL
    };
    Finding::failed(code, name, seen).because("pods need a container runtime that speaks CRI v1").fix(fix)
}

/// A containerd of a distribution's Docker package often has the plugin switched off by one line.
fn judge_plugin(here: &Machine, socket: &str) -> Finding {
    let (code, name) = ("KE-CRI-002", "container runtime");
    let finding = Finding::failed(code, name, format!("containerd at {socket} runs without its CRI plugin"))
        .because("`unknown service runtime.v1.RuntimeService` is what pods would fail with");
    match plugin_disabled(&here.text(CONTAINERD_CONFIG)) {
        Some((number, line, _)) => {
            Finding { seen: format!("{} ({CONTAINERD_CONFIG}:{number}: {line})", finding.seen), ..finding }
                .fix(format!(
                    "take \"cri\" out of that line in {CONTAINERD_CONFIG}, then {}",
                    remedy::restart("containerd")
                ))
                .fixable()
        }
        None => finding.fix(format!(
            "containerd config default > {CONTAINERD_CONFIG}, then {}",
            remedy::restart("containerd")
        )),
    }
}

/// The line of containerd's configuration that switches the CRI plugin off: its number from 1, the line, and the text
/// without it.
pub fn plugin_disabled(config: &str) -> Option<(usize, String, String)> {
    let mut found = None;
    let mut inside = false;
    let mut out = Vec::new();
    for (index, line) in config.lines().enumerate() {
        let code = line.split('#').next().unwrap_or("");
        inside |= code.trim_start().starts_with("disabled_plugins");
        let mut kept = line.to_owned();
        if inside {
            for name in ["\"cri\"", "'cri'", "\"io.containerd.grpc.v1.cri\"", "'io.containerd.grpc.v1.cri'"] {
                if code.contains(name) {
                    found.get_or_insert((index + 1, line.trim().to_owned()));
                    for with in
                        [format!("{name}, "), format!(", {name}"), format!("{name},"), name.to_owned()]
                    {
                        kept = kept.replacen(&with, "", 1);
                    }
                }
            }
        }
        if inside && code.contains(']') {
            inside = false;
        }
        out.push(kept);
    }
    found.map(|(number, line)| (number, line, out.join("\n") + "\n"))
}

fn judge_state(_: &Machine, wanted: &WantedRuntime, answers: &[(String, Answer)]) -> Finding {
    let (code, name) = ("KE-CRI-004", "runtime's state");
    let Some(asked) = serving(answers) else {
        return Finding::skipped(
            code,
            name,
            if wanted.may_start { "no runtime runs yet" } else { "because of KE-CRI-001" },
        );
    };
    match (&asked.runtime_trouble, &asked.network_trouble) {
        (Some(trouble), _) => Finding::failed(code, name, trouble.clone())
            .because("the runtime says itself that it cannot run pods")
            .fix(remedy::restart("containerd")),
        (None, Some(trouble)) if asked.cni_conf_dir.is_none() => {
            Finding::warning(code, name, format!("runs, network not ready: {trouble}"))
                .because("pods with an address of their own wait for a pod network")
                .fix("write a CNI configuration to /etc/cni/net.d")
        }
        // kedge writes its own pod network where the runtime has none.
        (None, Some(_)) => Finding::fine(code, name, "ready; kedge brings the pod network"),
        (None, None) => Finding::fine(code, name, "ready, network ready"),
    }
}

fn judge_driver(_: &Machine, wanted: &WantedRuntime, answers: &[(String, Answer)]) -> Finding {
    let (code, name) = ("KE-CGROUP-003", "cgroup driver");
    let Some(asked) = serving(answers) else {
        return Finding::skipped(code, name, "no runtime runs yet");
    };
    match (asked.cgroup_driver, wanted.cgroup_driver.as_deref()) {
        (None, _) => Finding::fine(code, name, "the runtime does not say; kedge takes what it gets"),
        (Some(driver), Some(named)) if driver != named => {
            // kedge asks the runtime; an edgecore with this file would fail at every pod.
            Finding::warning(code, name, format!("{driver} in the runtime, {named} in edgecore.yaml"))
                .because(
                    "kedge follows the runtime; an edgecore with this configuration could not start a pod",
                )
                .fix(format!("kedge config set modules.edged.tailoredKubeletConfig.cgroupDriver={driver}"))
                .fixable()
        }
        (Some(driver), _) => Finding::fine(code, name, driver),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::messages::{RuntimeCondition, RuntimeStatus};
    use crate::host::check::State;

    fn wanted() -> WantedRuntime {
        Wanted::edge().runtime.unwrap()
    }

    fn at(answer: Answer) -> Vec<(String, Answer)> {
        vec![("/run/a.sock".to_owned(), answer)]
    }

    fn serves() -> Asked {
        Asked { socket: "/run/a.sock".into(), version: "containerd 1.6.20".into(), ..Asked::default() }
    }

    fn nothing() -> (tempfile::TempDir, Machine) {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::below(dir.path());
        (dir, machine)
    }

    #[test]
    fn what_is_no_socket_is_not_to_be_restarted() {
        let (_dir, machine) = nothing();
        machine.put("/run/a.sock", "");
        let silent = at(Answer::Silent("refused".into()));
        let wanted = WantedRuntime { may_start: false, ..wanted() };
        let finding = judge_answers(&machine, &wanted, &silent, &[]);
        assert_eq!((&*finding.code, finding.seen.as_str()), ("KE-CRI-001", "/run/a.sock is no socket"));
        assert!(finding.fix.starts_with("name it: --remote-runtime-endpoint"), "{finding:?}");
    }

    #[test]
    fn each_answer_of_a_socket_has_its_sentence() {
        let (_dir, machine) = nothing();
        let judged = |answer, missing: &[&str]| judge_answers(&machine, &wanted(), &at(answer), missing);
        let fine = judged(Answer::Serves(serves()), &[]);
        assert_eq!(fine.seen, "containerd 1.6.20 at /run/a.sock, CRI v1");
        let old = judged(Answer::TooOld("containerd 1.5.9".into()), &[]);
        assert_eq!((old.state, &*old.code), (State::Failed, "KE-CRI-003"));
        assert_eq!(judged(Answer::Absent, &[]).state, State::Fine);
        assert_eq!(judged(Answer::Silent("refused".into()), &["runc"]).fix, remedy::restart("containerd"));
        let absent = judged(Answer::Absent, &["containerd", "runc"]);
        assert_eq!(absent.seen, "none answers, and containerd and runc is not installed");
        assert_eq!(absent.fix, INSTALL);
        let named = WantedRuntime { endpoint: Some("unix:///x".into()), may_start: false, ..wanted() };
        assert!(
            judge_answers(&machine, &named, &at(Answer::Absent), &[])
                .fix
                .contains("--remote-runtime-endpoint")
        );
    }

    #[test]
    fn docker_alone_is_told_as_such() {
        let (_dir, machine) = nothing();
        machine.put(DOCKER, "");
        let finding = judge_answers(&machine, &wanted(), &at(Answer::Absent), &["containerd"]);
        assert_eq!(finding.seen, "Docker alone, which does not speak CRI");
    }

    #[test]
    fn a_switched_off_plugin_is_found_with_its_line() {
        let (_dir, machine) = nothing();
        machine.put(CONTAINERD_CONFIG, "# x\ndisabled_plugins = [\"cri\"]\n\n[grpc]\n");
        let finding = judge_answers(&machine, &wanted(), &at(Answer::PluginOff), &[]);
        assert_eq!(&*finding.code, "KE-CRI-002");
        assert!(
            finding.fixable && finding.seen.contains("config.toml:2: disabled_plugins = [\"cri\"]"),
            "{finding:?}"
        );
        let (_dir, machine) = nothing();
        let finding = judge_answers(&machine, &wanted(), &at(Answer::PluginOff), &[]);
        assert!(!finding.fixable && finding.fix.starts_with("containerd config default"), "{finding:?}");
    }

    #[test]
    fn the_plugin_is_taken_out_of_its_list_and_nothing_else_changes() {
        let cases = [
            ("disabled_plugins = [\"cri\"]\n", "disabled_plugins = []\n"),
            (
                "disabled_plugins = [\"aufs\", \"cri\"]\nroot = \"/x\"\n",
                "disabled_plugins = [\"aufs\"]\nroot = \"/x\"\n",
            ),
            ("disabled_plugins = ['cri', 'zfs']\n", "disabled_plugins = ['zfs']\n"),
            (
                "disabled_plugins = [\n  \"io.containerd.grpc.v1.cri\",\n  \"x\"\n]\n",
                "disabled_plugins = [\n  \n  \"x\"\n]\n",
            ),
        ];
        for (before, after) in cases {
            assert_eq!(plugin_disabled(before).unwrap().2, after);
        }
        for well in
            ["", "disabled_plugins = []\n", "# disabled_plugins = [\"cri\"]\n", "[x]\nname = \"cri\"\n"]
        {
            assert_eq!(plugin_disabled(well), None, "{well}");
        }
    }

    #[test]
    fn the_runtimes_own_words_are_repeated() {
        let (_dir, machine) = nothing();
        let condition = |kind: &str, status| RuntimeCondition {
            kind: kind.into(),
            status,
            reason: "NetworkPluginNotReady".into(),
            message: "cni plugin not initialized".into(),
        };
        let status = |conditions| StatusResponse {
            status: Some(RuntimeStatus { conditions }),
            info: Default::default(),
        };
        let asked = understand(
            "/s",
            "c 1".into(),
            Ok(status(vec![condition("RuntimeReady", true), condition("NetworkReady", false)])),
            None,
        );
        assert_eq!(
            asked.network_trouble.as_deref(),
            Some("NetworkPluginNotReady cni plugin not initialized")
        );
        let judged = |asked| judge_state(&machine, &wanted(), &at(Answer::Serves(asked)));
        assert_eq!(judged(asked.clone()).state, State::Warning);
        assert_eq!(judged(Asked { cni_conf_dir: Some("/etc/cni/net.d".into()), ..asked }).state, State::Fine);
        let asked = understand("/s", "c 1".into(), Ok(status(vec![condition("RuntimeReady", false)])), None);
        let down = judged(asked);
        assert_eq!((&*down.code, down.state), ("KE-CRI-004", State::Failed));
        let mute = understand("/s", "c 1".into(), Err(CallError::Unimplemented { call: "Status" }), None);
        assert_eq!(judged(mute).state, State::Failed);
    }

    #[test]
    fn the_cgroup_driver_is_what_the_runtime_says() {
        let (_dir, machine) = nothing();
        let judged = |driver, named: Option<&str>| {
            let wanted = WantedRuntime { cgroup_driver: named.map(str::to_owned), ..wanted() };
            let asked = Asked { cgroup_driver: driver, ..serves() };
            judge_driver(&machine, &wanted, &at(Answer::Serves(asked)))
        };
        assert_eq!(judged(Some("systemd"), None).seen, "systemd");
        let differs = judged(Some("systemd"), Some("cgroupfs"));
        assert_eq!((&*differs.code, differs.state), ("KE-CGROUP-003", State::Warning));
        assert_eq!(differs.fix, "kedge config set modules.edged.tailoredKubeletConfig.cgroupDriver=systemd");
        assert_eq!(judged(None, Some("cgroupfs")).state, State::Fine);
        let status = Ok(StatusResponse::default());
        assert_eq!(
            understand("/s", "c".into(), status, Some(CgroupDriver::Cgroupfs)).cgroup_driver,
            Some("cgroupfs")
        );
    }

    #[tokio::test]
    async fn sockets_that_are_absent_or_silent_are_told_apart() {
        assert_eq!(ask("unix:///nonexistent/x.sock").await, Answer::Absent);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(ask(&path.display().to_string()).await, Answer::Silent(_)));
    }
}
