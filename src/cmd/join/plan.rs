//! What a join writes: the configuration that the daemon will read, and the list of changes. Pure: from a wish and what
//! was found on the machine to changes; `work` carries them out.

use super::args::{CloudAt, Wish};
use super::note::Note;
use crate::base::{Exit, Failure};
use crate::config::edge::{DEFAULT_CONFIG, EdgeConfig, MIN_CONFIG};
use crate::config::{Loaded, set};
use crate::daemon::edge;
use crate::host::journal::{Change, Directory};
use crate::host::preflight::Asked;
use crate::pki::Identity;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The container runtime that the node will use.
#[derive(Clone, Debug)]
pub(super) enum Runtime {
    /// One that answers.
    Running(Asked),
    /// None: the daemon starts a containerd of its own.
    Own,
}

/// What is known of the machine before anything is written.
pub(super) struct Found {
    pub runtime: Runtime,
    /// The configuration that is taken over.
    pub present: Option<Value>,
}

/// The document of edgecore.yaml: the present one, or a short one, with what was wished laid over it.
pub(super) fn document(wish: &Wish, host: Option<&str>, found: &Found) -> Result<Value, Failure> {
    let read = |text: &str| -> Result<Value, Failure> {
        serde_yaml::from_str(text).map_err(|error| {
            Failure::new("KE-CONFIG-001", "the built-in configuration cannot be read")
                .because(error)
                .fix("send `kedge bugreport` to the developers, with the command that was run")
        })
    };
    let defaults = read(DEFAULT_CONFIG)?;
    let mut document = match &found.present {
        Some(present) => present.clone(),
        None => {
            let mut short = read(MIN_CONFIG)?;
            set::lay_over(&mut short, &fresh());
            short
        }
    };
    if found.present.is_none() || wish.named {
        set::lay_over(
            &mut document,
            &json!({"modules": {"edged": {"hostnameOverride": wish.node.as_str()}}}),
        );
    }
    // An edgecore may have come by QUIC, which its cloud serves beside the WebSocket.
    let by_websocket = json!({"quic": {"enable": false}, "websocket": {"enable": true}});
    set::lay_over(&mut document, &json!({"modules": {"edgeHub": by_websocket}}));
    if let (Some(cloud), Some(host)) = (&wish.cloud, host) {
        set::lay_over(&mut document, &way(cloud, host));
    }
    if !wish.labels.is_empty() {
        set::lay_over(&mut document, &json!({"modules": {"edged": {"nodeLabels": wish.labels}}}));
    }
    set::lay_over(&mut document, &runtime(wish, found));
    // The certificate stands for the node from now on: a token in a file would only be a secret to lose.
    set::lay_over(&mut document, &json!({"modules": {"edgeHub": {"token": ""}}}));
    for text in &wish.set {
        set::lay_over(&mut document, &set::assignments(&defaults, text)?);
    }
    Ok(document)
}

/// Whether the configuration before was of a node that reached its cloud by QUIC.
pub(super) fn goes_by_quic(present: Option<&Value>) -> bool {
    present.and_then(|document| document.pointer("/modules/edgeHub/quic/enable")) == Some(&Value::Bool(true))
}

/// What a new node has beside the short configuration: mappers find a broker at the usual port, kedge's own where none
/// is, and logs and exec work.
fn fresh() -> Value {
    json!({"modules": {"eventBus": {"mqttMode": 2}, "edgeStream": {"enable": true}}})
}

fn way(cloud: &CloudAt, host: &str) -> Value {
    let at = |port| authority(host, port);
    json!({"modules": {
        "edgeHub": {
            "httpServer": format!("https://{}", at(cloud.ports.https)),
            "websocket": {"server": at(cloud.ports.websocket)},
        },
        "edgeStream": {"server": at(cloud.ports.tunnel)},
    }})
}

/// `host:port`, with brackets where the host is an IPv6 address.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn runtime(wish: &Wish, found: &Found) -> Value {
    let mut kubelet = json!({});
    let (endpoint, told) = match &found.runtime {
        Runtime::Running(asked) => (Some(format!("unix://{}", asked.socket)), asked.cgroup_driver),
        Runtime::Own => (None, Path::new("/run/systemd/system").exists().then_some("systemd")),
    };
    if let Some(endpoint) = endpoint {
        set::lay_over(
            &mut kubelet,
            &json!({"containerRuntimeEndpoint": endpoint, "imageServiceEndpoint": endpoint}),
        );
    }
    if let Some(driver) = wish.driver.word().or(told) {
        set::lay_over(&mut kubelet, &json!({"cgroupDriver": driver}));
    }
    // A runtime that was found is waited for after a boot; without one the daemon brings its own.
    let containerd = if matches!(found.runtime, Runtime::Running(_)) { "external" } else { "auto" };
    json!({"modules": {"edged": {"tailoredKubeletConfig": kubelet}}, "kedge": {"containerd": containerd}})
}

/// Reads the document as the daemon will; its problems are the person's `--set`.
pub(super) fn checked(document: &Value) -> Result<Loaded<EdgeConfig>, Failure> {
    EdgeConfig::from_value(document, "the new edgecore.yaml").map_err(|failure| {
        let fix = "correct the --set of the key that is named, or the file that is taken over";
        failure.fix(fix).exit(Exit::Configuration)
    })
}

/// The text of edgecore.yaml.
pub(super) fn render(document: &Value) -> String {
    // A document that was read from YAML can be written as YAML.
    let body = serde_yaml::to_string(document).unwrap_or_default();
    format!(
        "# Written by `kedge join`. `kedge edge config --defaultconfig` shows every key with its default.\n{body}"
    )
}

/// The node's certificate and the authority that it trusts, where they are new.
pub(super) struct Papers {
    pub ca_pem: String,
    pub identity: Identity,
}

/// All that is written, in its order: what is needed to undo first, what makes the node work last.
pub(super) fn changes(
    config: &EdgeConfig,
    place: &Path,
    text: &str,
    papers: Option<&Papers>,
    cni: Option<(PathBuf, Vec<u8>)>,
    note: &Note,
) -> Vec<Change> {
    let file = |path: &Path, content: &[u8]| Change::File {
        path: path.to_owned(),
        content: content.to_vec(),
        mode: 0o600,
    };
    let mut changes = vec![file(&Note::path(), &note.to_bytes())];
    if note.takeover {
        changes.push(Change::Halt { name: "edgecore".to_owned() });
    }
    changes.extend(directories(config, place));
    if let Some(papers) = papers {
        changes.push(file(&config.hub.ca_file, papers.ca_pem.as_bytes()));
        changes.push(file(&config.hub.key_file, papers.identity.key_pem.as_bytes()));
        changes.push(file(&config.hub.cert_file, papers.identity.cert_pem.as_bytes()));
    }
    if let Some((path, content)) = cni {
        changes.push(Change::File { path, content, mode: 0o644 });
    }
    changes.push(file(place, text.as_bytes()));
    changes
}

/// Directories that the daemon fills: what this join makes goes with everything in it.
fn directories(config: &EdgeConfig, place: &Path) -> Vec<Change> {
    let mode = |path: &Path| if path == config.data_dir() { 0o700 } else { 0o755 };
    let made = owned(config, place).into_iter();
    made.map(|path| Change::Directory { mode: mode(&path), path, kind: Directory::Owned }).collect()
}

/// Those directories.
pub(super) fn owned(config: &EdgeConfig, place: &Path) -> Vec<PathBuf> {
    let etc = place.parent().and_then(Path::parent);
    // Only KubeEdge's own directory is kedge's alone; a configuration elsewhere stands among others' files.
    let mut made: Vec<PathBuf> =
        etc.filter(|etc| etc.ends_with("kubeedge")).map(Path::to_owned).into_iter().collect();
    made.push(config.data_dir().to_owned());
    if config.edged.enabled {
        made.push(config.edged.root_dir.clone());
        made.push(config.edged.logs_dir.clone());
    }
    made
}

/// What the daemon makes while it runs: what is absent before the join is removed by an undo.
pub(super) fn run_time_paths(config: &EdgeConfig) -> Vec<PathBuf> {
    let beside = |end: &str| {
        let mut name = config.database.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let mut paths = vec![config.database.clone(), beside("-wal"), beside("-shm"), beside(".lock")];
    paths.push(beside(".rescued"));
    paths.push(config.runtime.dir.clone());
    paths.extend(edge::enrolment(config).files.renewed());
    paths.push(config.device_twin.dmi_socket.clone());
    paths.extend(config.status_socket.clone());
    paths
}

#[cfg(test)]
mod tests {
    use super::super::args::tests::typed;
    use super::*;

    fn running() -> Found {
        let asked = Asked {
            socket: "/run/containerd/containerd.sock".to_owned(),
            version: "containerd 1.6.20".to_owned(),
            cgroup_driver: Some("systemd"),
            ..Asked::default()
        };
        Found { runtime: Runtime::Running(asked), present: None }
    }

    #[test]
    fn the_daemon_reads_what_was_wished() {
        let wish = typed("-e 10.0.0.5:10000 -t x -i edge-7 -s 7 -l site=1 --set modules.edgeStream.enable=false,kedge.podCIDR=10.9.0.0/16").unwrap();
        let document = document(&wish, Some("10.0.0.5"), &running()).unwrap();
        let loaded = checked(&document).unwrap();
        assert_eq!(loaded.warnings, []);
        let config = loaded.config;
        assert_eq!(config.node.as_str(), "edge-7");
        assert_eq!(
            (config.hub.websocket.as_str(), config.hub.http_server.as_str()),
            ("10.0.0.5:10000", "https://10.0.0.5:7")
        );
        assert_eq!((config.stream.enabled, config.stream.server.as_str()), (false, "10.0.0.5:10004"));
        assert_eq!(
            (config.edged.cgroup_driver.as_str(), config.runtime.pod_cidr.as_str()),
            ("systemd", "10.9.0.0/16")
        );
        assert_eq!(config.edged.node_labels.get("site").map(String::as_str), Some("1"));
        assert_eq!(config.runtime.containerd, crate::config::edge::Containerd::External);
        assert!(config.hub.token.is_empty());
        // What is written is what is read.
        let again: Value = serde_yaml::from_str(&render(&document)).unwrap();
        assert_eq!(again, document);
    }

    #[test]
    fn flags_win_over_the_runtimes_word_and_a_set_over_flags() {
        let line = "-e c -t x -i n --cgroupdriver cgroupfs";
        let driver = |line: &str| {
            let wish = typed(line).unwrap();
            checked(&document(&wish, Some("c"), &running()).unwrap()).unwrap().config.edged.cgroup_driver
        };
        assert_eq!(driver(line), "cgroupfs");
        assert_eq!(
            driver(&format!("{line} --set modules.edged.tailoredKubeletConfig.cgroupDriver=systemd")),
            "systemd"
        );
    }

    #[test]
    fn a_present_configuration_is_kept_but_for_what_was_said() {
        let present = json!({"modules": {"edged": {"hostnameOverride": "old-name", "maxContainerCount": 7},
            "edgeHub": {"httpServer": "https://old:10002", "token": "secret", "websocket": {"server": "old:10000"}},
            "eventBus": {"mqttMode": 0}}});
        let quic =
            json!({"modules": {"edgeHub": {"quic": {"enable": true}, "websocket": {"enable": false}}}});
        assert!(goes_by_quic(Some(&quic)) && !goes_by_quic(Some(&present)) && !goes_by_quic(None));
        let came = document(&typed("--takeover").unwrap(), None, &Found { present: Some(quic), ..running() })
            .unwrap();
        assert_eq!(came["modules"]["edgeHub"]["websocket"]["enable"], true);
        let found = Found { present: Some(present), ..running() };
        let wish = typed("--takeover").unwrap();
        let kept = document(&wish, None, &found).unwrap();
        assert_eq!(kept["modules"]["edged"]["hostnameOverride"], "old-name");
        assert_eq!(kept["modules"]["edged"]["maxContainerCount"], 7);
        assert_eq!(kept["modules"]["edgeHub"]["httpServer"], "https://old:10002");
        assert_eq!(kept["modules"]["edgeHub"]["token"], "");
        assert_eq!(kept["modules"]["eventBus"]["mqttMode"], 0);
        let moved = document(&typed("--takeover -e new:10000").unwrap(), Some("new"), &found).unwrap();
        assert_eq!(moved["modules"]["edgeHub"]["websocket"]["server"], "new:10000");
    }

    #[test]
    fn a_wrong_set_is_told_before_anything_is_written() {
        let wish = typed("-e c -t x -i n --set modules.edgeHub.websocket.enable=false").unwrap();
        let failure = checked(&document(&wish, Some("c"), &running()).unwrap()).unwrap_err();
        assert_eq!((failure.code, failure.exit), ("KE-CONFIG-002", Exit::Configuration));
        failure.is_as_committed();
        let unknown = typed("-e c -t x -i n --set modules.edgHub.heartbeat=3").unwrap();
        assert_eq!(document(&unknown, Some("c"), &running()).unwrap_err().committed().code, "KE-CONFIG-003");
    }

    #[test]
    fn addresses_of_version_six_stand_in_brackets() {
        assert_eq!(
            (authority("fd00::1", 7), authority("c", 7)),
            ("[fd00::1]:7".to_owned(), "c:7".to_owned())
        );
    }

    #[test]
    fn whatever_the_daemon_makes_is_known_to_an_undo() {
        let wish = typed("-e c -t x -i n").unwrap();
        let config = checked(&document(&wish, Some("c"), &running()).unwrap()).unwrap().config;
        let paths = run_time_paths(&config);
        for path in ["edgecore.db", "edgecore.db-wal", "edgecore.db-shm", "edgecore.db.lock", "kedge.sock"] {
            assert!(paths.contains(&Path::new("/var/lib/kubeedge").join(path)), "{path}: {paths:?}");
        }
        for path in ["server.crt.next", "server.key.next"] {
            assert!(paths.contains(&Path::new("/etc/kubeedge/certs").join(path)), "{path}: {paths:?}");
        }
    }

    #[test]
    fn what_undoes_a_join_is_written_first_and_the_configuration_last() {
        let wish = typed("-e c -t x -i n").unwrap();
        let config = checked(&document(&wish, Some("c"), &running()).unwrap()).unwrap().config;
        let place = Path::new("/etc/kubeedge/config/edgecore.yaml");
        let identity = Identity { cert_pem: "cert".to_owned(), key_pem: "key".to_owned() };
        let papers = Papers { ca_pem: "ca".to_owned(), identity };
        let cni = Some((PathBuf::from("/etc/cni/net.d/10-kedge.conflist"), Vec::new()));
        let paths: Vec<String> = changes(&config, place, "text", Some(&papers), cni, &Note::default())
            .iter()
            .map(|change| match change {
                Change::File { path, .. } | Change::Directory { path, .. } => path.display().to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            paths,
            [
                "/var/lib/kedge/join.json",
                "/etc/kubeedge",
                "/var/lib/kubeedge",
                "/var/lib/kubelet",
                "/var/log/pods",
                "/etc/kubeedge/ca/rootCA.crt",
                "/etc/kubeedge/certs/server.key",
                "/etc/kubeedge/certs/server.crt",
                "/etc/cni/net.d/10-kedge.conflist",
                "/etc/kubeedge/config/edgecore.yaml",
            ]
        );
    }
}
