//! The container runtime on this machine: a running one is used as it is; where none answers, kedge runs a containerd of
//! its own below the data directory. `start` is called before the pod room; [`Keeper`] then watches our own process.
//! It never kills containers: containerd's shims live on when it ends, and a later start takes them over.

use super::cni::{self, Network};
use super::images;
use super::process::Watched;
use crate::base::{BoxFuture, Failure, Module, Ready, Stop, write_atomic};
use crate::cri::{Runtime, messages::StatusResponse};
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Where the usual runtimes listen.
pub const WELL_KNOWN: [&str; 4] = [
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
];
const PROBE_LIMIT: Duration = Duration::from_secs(2);
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(8);
/// The kernel's limit for a socket path, with room for `.ttrpc`.
const SOCKET_PATH_LIMIT: usize = 100;

/// Which runtime is wanted.
#[derive(Clone, Debug)]
pub struct Config {
    /// The endpoint that the operator named; `None` looks for a running one and else starts our own.
    pub endpoint: Option<String>,
    /// Whether a running runtime at a well-known place may be used when none is named.
    pub use_running: bool,
    /// Our own containerd keeps everything below this directory.
    pub dir: PathBuf,
    pub network: Network,
}

/// A runtime that answers.
pub struct Running {
    pub runtime: Runtime,
    /// Name and version as the runtime tells them.
    pub version: String,
    /// Whether it is our own process.
    pub ours: bool,
    /// Whether it makes control groups through systemd.
    pub systemd: bool,
    keeper: Keeper,
}

impl Running {
    /// Splits off the module that watches our own containerd and ends it on stop.
    pub fn into_parts(self) -> (Runtime, Keeper) {
        (self.runtime, self.keeper)
    }
}

/// Finds or starts the runtime, gives it a pod network and the images that kedge brings.
pub async fn start(config: Config) -> Result<Running, Failure> {
    if let Some(found) = find(&config).await? {
        return join(config, found).await;
    }
    let socket = own_socket(&config.dir);
    let own = Own::new(&config, &socket)?;
    let watched = own.run().await?;
    let runtime = Runtime::new(&socket.to_string_lossy());
    let version = version(&runtime).await.unwrap_or_default();
    images::ensure(&runtime, images::PAUSE, own.snapshotter).await?;
    let systemd = own.systemd;
    let keeper = Keeper { own: Some(own), watched: Some(watched) };
    Ok(Running { runtime, version, ours: true, systemd, keeper })
}

/// A runtime that somebody else started, if one answers.
async fn find(config: &Config) -> Result<Option<Runtime>, Failure> {
    if let Some(endpoint) = &config.endpoint {
        let runtime = Runtime::new(endpoint);
        return match runtime.version().await {
            Ok(_) => Ok(Some(runtime)),
            Err(error) => {
                Err(Failure::new("KE-RUNTIME-001", format!("no container runtime answers at {endpoint}"))
                    .because(error)
                    .fix("start it, or correct remoteRuntimeEndpoint in the configuration"))
            }
        };
    }
    if !config.use_running {
        return Ok(None);
    }
    for socket in WELL_KNOWN {
        let runtime = Runtime::new(socket);
        if Path::new(socket).exists() && version(&runtime).await.is_some() {
            return Ok(Some(runtime));
        }
    }
    Ok(None)
}

async fn join(config: Config, runtime: Runtime) -> Result<Running, Failure> {
    let version = version(&runtime).await.unwrap_or_default();
    let status = runtime.status(true).await.map_err(|error| {
        Failure::new("KE-RUNTIME-002", "the container runtime does not tell its state")
            .because(error)
            .fix("look at it with `crictl info`; start it again, or update one that is older than CRI v1")
    })?;
    let facts = Facts::read(&status);
    if let Some(conf_dir) = &facts.conf_dir {
        let owner = cni::owner(conf_dir);
        if owner == cni::Owner::Nobody && !facts.network_ready {
            tracing::info!(dir = %conf_dir.display(), "the runtime has no pod network; the built-in one is written");
        }
        // The rule that lets pods out does not outlive the machine's restart, the configuration does.
        if !facts.network_ready || matches!(owner, cni::Owner::Kedge(_)) {
            cni::ensure(conf_dir, &config.dir.join("cni"), &config.network)?;
        }
    }
    // Images can be handed to containerd only; any other runtime has or pulls its own.
    if version.starts_with("containerd") {
        images::ensure(&runtime, &facts.sandbox_image, &facts.snapshotter).await?;
    }
    let keeper = Keeper { own: None, watched: None };
    Ok(Running { runtime, version, ours: false, systemd: facts.systemd, keeper })
}

/// The snapshotter that a running containerd unpacks images with.
pub(super) async fn snapshotter(runtime: &Runtime) -> Result<String, crate::cri::CallError> {
    Ok(Facts::read(&runtime.status(true).await?).snapshotter)
}

async fn version(runtime: &Runtime) -> Option<String> {
    let answer = tokio::time::timeout(PROBE_LIMIT, runtime.version()).await.ok()?.ok()?;
    Some(format!("{}://{}", answer.runtime_name, answer.runtime_version.trim_start_matches('v')))
}

/// Whether a running containerd makes control groups through systemd; `None` for a runtime that does not tell.
pub async fn systemd(runtime: &Runtime) -> Result<Option<bool>, crate::cri::CallError> {
    Ok(through_systemd(&told(&runtime.status(true).await?)))
}

/// The configuration that containerd adds to its state.
fn told(status: &StatusResponse) -> Value {
    let text = status.info.get("config").map_or("null", String::as_str);
    serde_json::from_str(text).unwrap_or_default()
}

fn through_systemd(config: &Value) -> Option<bool> {
    config.pointer("/containerd/runtimes/runc/options/SystemdCgroup").and_then(Value::as_bool)
}

/// What a running containerd tells of its configuration.
pub(super) struct Facts {
    pub(super) network_ready: bool,
    pub(super) conf_dir: Option<PathBuf>,
    sandbox_image: String,
    snapshotter: String,
    pub(super) systemd: bool,
}

impl Facts {
    pub(super) fn read(status: &StatusResponse) -> Facts {
        let config = told(status);
        let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).filter(|t| !t.is_empty());
        let conditions = status.status.iter().flat_map(|status| &status.conditions);
        Facts {
            network_ready: conditions.clone().any(|c| c.kind == "NetworkReady" && c.status),
            conf_dir: text("/cni/confDir").map(PathBuf::from),
            sandbox_image: text("/sandboxImage").unwrap_or(images::PAUSE).to_owned(),
            snapshotter: text("/containerd/snapshotter").unwrap_or("overlayfs").to_owned(),
            systemd: through_systemd(&config).unwrap_or(false),
        }
    }
}

/// Below the data directory, or in `/run` when the path would be too long for a socket.
/// The socket of our own containerd with this directory.
pub fn own_socket(dir: &Path) -> PathBuf {
    let socket = dir.join("containerd.sock");
    if socket.as_os_str().len() <= SOCKET_PATH_LIMIT {
        return socket;
    }
    let bridge = Network::derive(dir).bridge;
    Path::new("/run").join(format!("{bridge}.sock"))
}

/// Our own containerd: its place and its configuration.
struct Own {
    dir: PathBuf,
    socket: PathBuf,
    config: String,
    program: PathBuf,
    snapshotter: &'static str,
    systemd: bool,
}

impl Own {
    fn new(config: &Config, socket: &Path) -> Result<Own, Failure> {
        let program = installed(SEARCH_PATH)?;
        let plugins = cni::plugin_dir()
            .ok_or_else(|| missing("the CNI plugin `bridge`", &cni::PLUGIN_DIRS.join(":")))?;
        let dir = config.dir.clone();
        make_directories(&dir)?;
        cni::ensure(&dir.join("cni/net.d"), &dir.join("cni"), &config.network)?;
        let snapshotter = if overlay_works(&dir.join("root")) { "overlayfs" } else { "native" };
        let systemd = Path::new("/run/systemd/system").exists();
        let text = configuration(&dir, socket, plugins, snapshotter, systemd);
        Ok(Own { dir, socket: socket.to_owned(), config: text, program, snapshotter, systemd })
    }

    /// Takes over the process of an earlier run when it still answers with the same configuration, else starts one.
    async fn run(&self) -> Result<Watched, Failure> {
        let config_file = self.dir.join("config.toml");
        let pid_file = self.dir.join("containerd.pid");
        let unchanged = fs::read_to_string(&config_file).is_ok_and(|text| text == self.config);
        let runtime = Runtime::new(&self.socket.to_string_lossy());
        if let Some(earlier) = self.earlier(&pid_file, &config_file) {
            if unchanged && version(&runtime).await.is_some() {
                tracing::info!(pid = earlier.pid(), "our containerd is still running and is taken over");
                return Ok(earlier);
            }
            earlier.end(STOP_LIMIT).await;
        }
        write_atomic(&config_file, self.config.as_bytes(), 0o600)?;
        let watched = self.spawn(&config_file)?;
        write_atomic(&pid_file, watched.pid().to_string().as_bytes(), 0o644)?;
        self.await_answer(&runtime, watched).await
    }

    /// The process named by the pid file, if it is indeed a containerd with our configuration.
    fn earlier(&self, pid_file: &Path, config_file: &Path) -> Option<Watched> {
        let pid = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let ours =
            command.split(|byte| *byte == 0).any(|word| word == config_file.as_os_str().as_encoded_bytes());
        ours.then(|| Watched::open(pid)).flatten()
    }

    fn spawn(&self, config_file: &Path) -> Result<Watched, Failure> {
        let failure = |why: std::io::Error| {
            Failure::new("KE-RUNTIME-005", "cannot start containerd").because(why).fix(format!(
                "check {} and the log in {}",
                self.program.display(),
                self.dir.display()
            ))
        };
        let log = OpenOptions::new().create(true).append(true).open(self.dir.join("containerd.log"));
        let log = log.map_err(failure)?;
        let errors = log.try_clone().map_err(failure)?;
        // A process group of its own: Ctrl-C in the terminal must not reach it before the pods are told.
        let child = tokio::process::Command::new(&self.program)
            .arg("--config")
            .arg(config_file)
            .env("PATH", SEARCH_PATH)
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(failure)?;
        Watched::child(child).map_err(failure)
    }

    async fn await_answer(&self, runtime: &Runtime, mut watched: Watched) -> Result<Watched, Failure> {
        let answer = async {
            // containerd tells nobody when it serves, so the socket is asked until it answers.
            let mut pace = tokio::time::interval(Duration::from_millis(15));
            loop {
                pace.tick().await;
                if self.socket.exists() && version(runtime).await.is_some() {
                    return;
                }
            }
        };
        let log = self.dir.join("containerd.log");
        let failure = |what: String| {
            Failure::new("KE-RUNTIME-006", what)
                .because(last_complaint(&log).unwrap_or_else(|| "its log says nothing".to_owned()))
                .fix(format!("read {}", log.display()))
        };
        tokio::select! {
            () = answer => Ok(watched),
            () = watched.ended() => Err(failure("containerd ended while starting".to_owned())),
            () = tokio::time::sleep(START_LIMIT) => {
                Err(failure(format!("containerd did not answer within {} s", START_LIMIT.as_secs())))
            }
        }
    }
}

fn missing(name: &str, places: &str) -> Failure {
    let what = format!("no container runtime answers and {name} is not installed");
    Failure::new("KE-RUNTIME-003", what)
        .because(format!("{name} was not found in {places}"))
        .fix("apt-get install containerd runc containernetworking-plugins")
}

/// The containerd to be started, where what it runs containers with is there too.
fn installed(places: &str) -> Result<PathBuf, Failure> {
    let containerd = program_in(places, "containerd").ok_or_else(|| missing("containerd", places))?;
    let runs = ["runc", "crun"].iter().any(|name| program_in(places, name).is_some());
    runs.then_some(containerd).ok_or_else(|| missing("runc", places))
}

fn make_directories(dir: &Path) -> Result<(), Failure> {
    for part in ["root", "state"] {
        let part = dir.join(part);
        fs::create_dir_all(&part).map_err(|error| {
            Failure::new("KE-RUNTIME-004", format!("cannot make the directory {}", part.display()))
                .because(error)
                .fix("run as root, or choose another data directory")
        })?;
    }
    Ok(())
}

const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn program(name: &str) -> Option<PathBuf> {
    program_in(SEARCH_PATH, name)
}

fn program_in(places: &str, name: &str) -> Option<PathBuf> {
    places.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

/// The last error line of a log, without reading more than its end.
fn last_complaint(log: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = fs::File::open(log).ok()?;
    let start = file.metadata().ok()?.len().saturating_sub(16 << 10);
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut end = Vec::new();
    file.take(16 << 10).read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    let mut lines = text.lines().rev().filter(|line| !line.trim().is_empty());
    let last = lines.clone().next()?.to_owned();
    let worst = lines.find(|line| line.contains("level=fatal") || line.starts_with("containerd:"));
    Some(worst.map_or(last, str::to_owned))
}

/// Tries an overlay mount where the images will be: some file systems cannot carry one.
fn overlay_works(root: &Path) -> bool {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let place = root.join("overlay-trial");
    let made =
        ["lower", "upper", "work", "merged"].iter().try_for_each(|part| fs::create_dir_all(place.join(part)));
    let works = made.is_ok() && {
        let part = |name: &str| place.join(name).display().to_string();
        let options =
            format!("lowerdir={},upperdir={},workdir={}", part("lower"), part("upper"), part("work"));
        let merged = place.join("merged");
        let data = std::ffi::CString::new(options).unwrap_or_default();
        let mounted =
            mount("overlay", &merged, "overlay", MountFlags::empty(), Some(data.as_c_str())).is_ok();
        mounted && unmount(&merged, UnmountFlags::DETACH).is_ok()
    };
    drop(fs::remove_dir_all(&place));
    works
}

fn configuration(dir: &Path, socket: &Path, plugins: &Path, snapshotter: &str, systemd: bool) -> String {
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let ttrpc = socket.with_extension("sock.ttrpc");
    format!(
        r#"# Written by kedge at every start.
version = 2
root = {root}
state = {state}
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = {socket}

[ttrpc]
  address = {ttrpc}

[debug]
  level = "warn"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE a lower score than containerd's own is refused and no sandbox starts.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = {systemd}

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {plugins}
    conf_dir = {conf_dir}
"#,
        root = quoted(&dir.join("root")),
        state = quoted(&dir.join("state")),
        socket = quoted(socket),
        ttrpc = quoted(&ttrpc),
        pause = images::PAUSE,
        plugins = quoted(plugins),
        conf_dir = quoted(&dir.join("cni/net.d")),
    )
}

/// The module that watches our own containerd: its death is a failure, after which the supervisor starts it again.
pub struct Keeper {
    own: Option<Own>,
    watched: Option<Watched>,
}

impl Keeper {
    async fn keep(&mut self, stop: Stop, ready: Ready) -> Result<(), Failure> {
        let Some(own) = &self.own else {
            ready.set();
            stop.raised().await;
            return Ok(());
        };
        let mut watched = match self.watched.take() {
            Some(watched) => watched,
            None => own.run().await?,
        };
        ready.set();
        if stop.or(watched.ended()).await.is_some() {
            let log = own.dir.join("containerd.log");
            return Err(Failure::new("KE-RUNTIME-007", "containerd ended by itself")
                .because(last_complaint(&log).unwrap_or_else(|| "its log says nothing".to_owned()))
                .fix(format!("nothing, it is started again; if it repeats, read {}", log.display())));
        }
        watched.end(STOP_LIMIT).await;
        drop(fs::remove_file(own.dir.join("containerd.pid")));
        Ok(())
    }
}

impl Module for Keeper {
    fn name(&self) -> &'static str {
        "containerd"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.keep(stop, ready))
    }
}

#[cfg(test)]
mod tests;
