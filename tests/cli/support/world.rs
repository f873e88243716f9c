//! One world per test: a directory, ports of its own, the daemons that run in it, and clients that talk to them.
//! Dropping it ends every process, container, mount and link that it made.

use super::machine::{clear, free_ports, signal};
use super::{Run, binary, eventually, run};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Worlds share the machine's bridge and cgroups, so there is one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Where the servers of a world listen.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub api: u16,
    pub hub: u16,
    pub cert: u16,
    pub stream: u16,
    pub tunnel: u16,
    pub mqtt: u16,
}

pub struct World {
    pub dir: PathBuf,
    pub ports: Ports,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    /// An empty world.
    pub fn new(name: &str) -> World {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = std::env::temp_dir().join(format!("kedge-e2e-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir_all(&dir).unwrap();
        let [api, hub, cert, stream, tunnel, mqtt] = free_ports();
        World { dir, ports: Ports { api, hub, cert, stream, tunnel, mqtt }, _alone: alone }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Flags that keep `kedge up` inside this world.
    pub fn up_flags(&self) -> Vec<String> {
        let p = self.ports;
        let pairs = [
            ("--data-dir", self.data_dir().display().to_string()),
            ("--node", "edge-1".to_owned()),
            ("--api-port", p.api.to_string()),
            ("--hub-port", p.hub.to_string()),
            ("--cert-port", p.cert.to_string()),
            ("--stream-port", p.stream.to_string()),
            ("--tunnel-port", p.tunnel.to_string()),
            ("--mqtt-port", p.mqtt.to_string()),
        ];
        pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }

    /// Starts the binary with these arguments; its output goes to `NAME.out` and `NAME.err`.
    pub fn start(&self, name: &str, args: &[String]) -> Daemon {
        let mut command = Command::new(binary());
        command.args(args);
        Daemon::start(&self.dir, name, &mut command)
    }

    /// Starts `kedge up` and waits for its `ready`.
    pub fn up(&self, extra: &[&str]) -> Daemon {
        let mut args = vec!["up".to_owned()];
        args.extend(self.up_flags());
        args.extend(extra.iter().map(|arg| (*arg).to_owned()));
        let mut daemon = self.start("up", &args);
        daemon.wait_for("ready", Duration::from_secs(60));
        daemon
    }

    /// Starts the cloud with its embedded API and waits until it serves.
    pub fn cloud(&self) -> Daemon {
        let p = self.ports;
        let args = format!(
            "cloud run --embedded --data-dir {} --api-port {} --hub-port {} --cert-port {} --stream-port {} --tunnel-port {}",
            self.data_dir().display(),
            p.api,
            p.hub,
            p.cert,
            p.stream,
            p.tunnel
        );
        let mut daemon = self.start("cloud", &words(&args));
        daemon.wait_for("ready", Duration::from_secs(40));
        daemon
    }

    /// Starts the edge daemon with what it has on disk.
    pub fn edge(&self) -> Daemon {
        self.start("edge", &words(&self.edge_line()))
    }

    /// Starts the edge daemon with the cloud's own join token.
    pub fn edge_with_token(&self) -> Daemon {
        let token = self.kedge(&["gettoken"]);
        token.assert_status(0);
        self.edge_as("edge", token.stdout.trim())
    }

    /// Starts the edge daemon with this join token; its output goes to `NAME.out` and `NAME.err`.
    pub fn edge_as(&self, name: &str, token: &str) -> Daemon {
        self.start(name, &words(&format!("{} --token {token}", self.edge_line())))
    }

    fn edge_line(&self) -> String {
        let p = self.ports;
        format!(
            "edge run --data-dir {} --node edge-1 --cloud 127.0.0.1 --hub-port {} --cert-port {} --tunnel-port {} --mqtt-port {}",
            self.data_dir().display(),
            p.hub,
            p.cert,
            p.tunnel,
            p.mqtt
        )
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("kubeconfig")
    }

    pub fn kubectl(&self, args: &[&str]) -> Run {
        let config = self.kubeconfig().display().to_string();
        let cache = self.dir.join("kubectl-cache").display().to_string();
        let mut all = vec!["--kubeconfig", &config, "--cache-dir", &cache];
        all.extend(args);
        run("kubectl", &all)
    }

    /// kubectl that must succeed; returns what it printed.
    #[track_caller]
    pub fn kubectl_ok(&self, args: &[&str]) -> String {
        let done = self.kubectl(args);
        assert_eq!(done.status, 0, "kubectl {args:?}: {done:?}");
        done.stdout
    }

    /// `ctr` at the runtime that a daemon of this world started for itself.
    pub fn ctr(&self, args: &[&str]) -> Run {
        let socket = self.data_dir().join("runtime/containerd.sock").display().to_string();
        run("ctr", &[&["--address", &socket, "--namespace", "k8s.io"], args].concat())
    }

    /// `kubectl get … -o json`, read.
    #[track_caller]
    pub fn get(&self, args: &[&str]) -> Value {
        let mut all = vec!["get", "-o", "json"];
        all.extend(args);
        serde_json::from_str(&self.kubectl_ok(&all)).unwrap()
    }

    /// Applies a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        let file = self.dir.join("manifest.yaml");
        std::fs::write(&file, manifest).unwrap();
        self.kubectl_ok(&["apply", "-f", file.to_str().unwrap()]);
    }

    /// Waits until a jsonpath of an object has this value.
    #[track_caller]
    pub fn wait_value(&self, object: &[&str], pointer: &str, expected: &Value, limit: Duration) {
        eventually(&format!("{object:?} {pointer} = {expected}"), limit, || {
            let mut args = vec!["get", "-o", "json"];
            args.extend(object);
            let got = self.kubectl(&args);
            let value: Value = serde_json::from_str(&got.stdout).map_err(|_| got.stderr.clone())?;
            match value.pointer(pointer) {
                Some(found) if found == expected => Ok(()),
                other => Err(format!("{other:?} of {value:#}")),
            }
        });
    }

    /// Publishes on the node's broker.
    #[track_caller]
    pub fn publish(&self, topic: &str, payload: &str) {
        let port = self.ports.mqtt.to_string();
        run("mosquitto_pub", &["-p", &port, "-t", topic, "-m", payload, "-q", "1"]).assert_status(0);
    }

    /// Starts a subscriber that ends after `count` messages; `Subscriber::messages` waits for them.
    pub fn subscribe(&self, topic: &str, count: u32) -> Subscriber {
        let port = self.ports.mqtt.to_string();
        // Into a pipe the client would print only when it ends.
        let mut child = Command::new("stdbuf")
            .args([
                "-oL",
                "mosquitto_sub",
                "-p",
                &port,
                "-t",
                topic,
                "-v",
                "-C",
                &count.to_string(),
                "-W",
                "20",
                "-d",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        // With -d the client says when the broker has acknowledged the subscription.
        let subscribed = lines.by_ref().map_while(Result::ok).any(|line| line.contains("Subscribed"));
        assert!(subscribed, "mosquitto_sub ended before it was subscribed to {topic}");
        let seen = std::thread::spawn(move || {
            let noise = |line: &String| line.starts_with("Client ") || line.starts_with("Subscribed");
            lines.map_while(Result::ok).filter(|line| !noise(line)).collect()
        });
        Subscriber { child, seen }
    }

    /// Runs the binary against this world's data directory.
    pub fn kedge(&self, args: &[&str]) -> Run {
        let dir = self.data_dir().display().to_string();
        let mut all = args.to_vec();
        all.extend(["--data-dir", &dir]);
        run(binary(), &all)
    }

    /// All of a log, for what must be, or must not be, anywhere in it.
    #[track_caller]
    pub fn whole_log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join(name)).unwrap()
    }

    /// The last lines of a log, for a failing test's message.
    pub fn log(&self, name: &str) -> String {
        tail(&self.dir.join(name))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["up.err", "cloud.err", "edge.err"] {
                if self.dir.join(name).exists() {
                    eprintln!("--- {name}\n{}", self.log(name));
                }
            }
        }
        clear(&self.dir);
        if std::env::var_os("KEEP_WORLD").is_none() {
            drop(std::fs::remove_dir_all(&self.dir));
        }
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// A running daemon; ended when dropped.
pub struct Daemon {
    child: Child,
    /// The process that does the work, where the child only waits for it.
    worker: Option<u32>,
    err: PathBuf,
    skip: u64,
    ended: bool,
}

impl Daemon {
    /// Starts a program; its output goes to `NAME.out` and `NAME.err` in the directory.
    pub fn start(dir: &Path, name: &str, command: &mut Command) -> Daemon {
        let out = dir.join(format!("{name}.out"));
        let err = dir.join(format!("{name}.err"));
        // What an earlier run of the same name has said does not count.
        let skip = std::fs::metadata(&err).map_or(0, |file| file.len());
        let child = command
            .env("KEDGE_LOG", "info,kedge=debug")
            .stdin(Stdio::null())
            .stdout(File::options().create(true).append(true).open(&out).unwrap())
            .stderr(File::options().create(true).append(true).open(&err).unwrap())
            .spawn()
            .unwrap();
        Daemon { child, worker: None, err, skip, ended: false }
    }

    /// Names the process that does the work of the child.
    #[must_use]
    pub fn by(mut self, worker: u32) -> Daemon {
        self.worker = Some(worker);
        self
    }

    pub fn pid(&self) -> u32 {
        self.worker.unwrap_or_else(|| self.child.id())
    }

    /// Waits until the daemon's talk has a line that starts with these words.
    #[track_caller]
    pub fn wait_for(&mut self, words: &str, limit: Duration) {
        let (err, skip) = (self.err.clone(), usize::try_from(self.skip).unwrap());
        eventually(&format!("the daemon says {words:?}"), limit, || {
            let text = std::fs::read_to_string(&err).unwrap_or_default();
            let said = text.get(skip..).unwrap_or_default();
            if said.lines().any(|line| line.trim_start().starts_with(words)) {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the daemon ended with {status}:\n{}", tail(&err));
            }
            Err(tail(&err))
        });
    }

    /// Asks the daemon to end and waits for it; returns its exit status.
    #[track_caller]
    pub fn interrupt(&mut self) -> i32 {
        signal(self.pid(), "INT");
        self.wait_end(Duration::from_secs(20))
    }

    /// Waits for the daemon's own end.
    #[track_caller]
    pub fn wait_end(&mut self, limit: Duration) -> i32 {
        let err = self.err.clone();
        let status = eventually("the daemon ends", limit, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            _ => Err(tail(&err)),
        });
        self.ended = true;
        status.code().unwrap_or(-1)
    }

    /// Kills the daemon without a warning.
    pub fn kill(&mut self) {
        if let Some(worker) = self.worker {
            signal(worker, "KILL");
        }
        drop(self.child.kill());
        drop(self.child.wait());
        self.ended = true;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
        }
    }
}

/// A running `mosquitto_sub`.
pub struct Subscriber {
    child: Child,
    seen: std::thread::JoinHandle<Vec<String>>,
}

impl Subscriber {
    /// Waits for the end of the subscriber; `topic payload` lines.
    pub fn messages(mut self) -> Vec<String> {
        drop(self.child.wait());
        self.seen.join().unwrap()
    }
}
