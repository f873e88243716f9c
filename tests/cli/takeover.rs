//! A node that ran edgecore goes on under kedge: its configuration, certificates, database and containers are taken over
//! as they are. The containers are made as a kubelet makes them, the rows as edgecore 1.22 writes them.

use crate::support::eventually;
use crate::support::machine::mounts_below;
use crate::support::peer::identity;
use crate::support::world::World;
use kedge::cri::Runtime;
use kedge::cri::messages::{
    ContainerConfig, ContainerFilter, ContainerMetadata, ImageSpec, Labels, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
};
use kedge::host::cni::Network;
use kedge::host::containerd;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(40);
const IMAGE: &str = "kedge.local/busybox:1";

const OBJECTS: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: edge-1, labels: {node-role.kubernetes.io/edge: "", node-role.kubernetes.io/agent: ""}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: app}
data: {v: "one"}
---
apiVersion: v1
kind: Secret
metadata: {name: app}
stringData: {p: "pw"}
---
apiVersion: v1
kind: Pod
metadata: {name: old, labels: {app: old}}
spec:
  nodeName: edge-1
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: kedge.local/busybox:1
    command: [sh, -c, "while true; do cat /live/v /secret/p /scratch/kept; echo; sleep 0.2; done"]
    volumeMounts:
    - {name: live, mountPath: /live}
    - {name: secret, mountPath: /secret}
    - {name: scratch, mountPath: /scratch}
  - {name: d, image: "kedge.local/busybox:1", command: [sleep, "100000"]}
  volumes:
  - {name: live, configMap: {name: app}}
  - {name: secret, secret: {secretName: app}}
  - {name: scratch, emptyDir: {}}
"#;

const NEW: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: new}
spec:
  nodeName: edge-1
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: "kedge.local/busybox:1", command: [sleep, "100000"], ports: [{containerPort: 80}]}
"#;

/// The tables as edgecore 1.22 makes them.
const TABLES: &str = "
CREATE TABLE `meta` (`key` varchar(256) NOT NULL PRIMARY KEY, `type` varchar(32) NOT NULL DEFAULT '', `value` text);
CREATE TABLE `meta_v2` (`key` varchar(256) NOT NULL PRIMARY KEY,
  `groupversionresource` varchar(256) NOT NULL DEFAULT '', `namespace` varchar(256) NOT NULL DEFAULT '',
  `name` varchar(256) NOT NULL DEFAULT '', `resourceversion` bigint unsigned NOT NULL DEFAULT 0, `value` text);
CREATE TABLE `device` (`id` text, `name` text, `description` text, `state` text, `last_online` text, PRIMARY KEY (`id`));
CREATE TABLE `device_twin` (`id` integer PRIMARY KEY AUTOINCREMENT, `deviceid` text, `name` text, `description` text,
  `expected` text, `actual` text, `expected_meta` text, `actual_meta` text, `expected_version` text,
  `actual_version` text, `optional` numeric, `attr_type` text, `metadata` text);
CREATE TABLE `sub_topics` (`topic` text, PRIMARY KEY (`topic`));
INSERT INTO device VALUES ('default/t1', 't1', '', 'online', '2026-01-01T00:00:00Z');
INSERT INTO device_twin VALUES (1, 'default/t1', 'temperature', '', NULL, '18', NULL, '{\"timestamp\":1}', NULL,
  '{\"cloud\":0,\"edge\":7}', 1, 'float', NULL);
";

/// What edgecore has left.
struct Left {
    root: PathBuf,
    uid: String,
    runtime: Runtime,
    /// Ids of the containers `c` and `d`.
    containers: [String; 2],
    /// When they were started, in nanoseconds since 1970.
    started: [i64; 2],
    /// Its keeper ends containerd when it is dropped.
    _keeper: containerd::Keeper,
    calls: tokio::runtime::Runtime,
}

impl Left {
    fn pod_dir(&self) -> PathBuf {
        self.root.join("kubelet/pods").join(&self.uid)
    }

    fn started(&self) -> [i64; 2] {
        self.containers.clone().map(|id| {
            let status =
                self.calls.block_on(self.runtime.container_status(&id, false)).unwrap().status.unwrap();
            assert_eq!(status.state, 1, "{id} does not run");
            status.started_at
        })
    }

    fn last_line(&self) -> String {
        let dir = self.root.join(format!("logs/pods/default_old_{}/c/0.log", self.uid));
        let text = fs::read_to_string(dir).unwrap();
        text.lines().next_back().and_then(|line| line.splitn(4, ' ').nth(3)).unwrap_or_default().to_owned()
    }

    /// Labels and annotations of a container of the named pod.
    fn noted(&self, pod: &str) -> (Labels, Labels) {
        let label_selector = Labels::from([("io.kubernetes.pod.name".to_owned(), pod.to_owned())]);
        let filter = ContainerFilter { label_selector, ..ContainerFilter::default() };
        let found = self.calls.block_on(self.runtime.list_containers(filter)).unwrap();
        (found[0].labels.clone(), found[0].annotations.clone())
    }
}

/// Makes everything that edgecore had on this node; the cloud runs and knows the pod.
fn leave(world: &World) -> Left {
    let root = world.dir.join("kubeedge");
    let pod = world.get(&["pod", "old"]);
    let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
    write_database(world, &root, &pod);
    let calls = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dir = world.dir.join("runtime");
    let network = Network::derive(&dir);
    let wanted = containerd::Config { endpoint: None, use_running: false, dir, network };
    let running = calls.block_on(containerd::start(wanted)).unwrap();
    let group = pod_group(running.systemd, &uid);
    let (runtime, keeper) = running.into_parts();
    write_volumes(&root.join("kubelet/pods").join(&uid));
    let containers = calls.block_on(run_as_a_kubelet(&runtime, &root, &uid, &group));
    let mut left = Left { root, uid, runtime, containers, started: [0; 2], _keeper: keeper, calls };
    left.started = left.started();
    left
}

fn write_database(world: &World, root: &Path, pod: &Value) {
    fs::create_dir_all(root).unwrap();
    let db = Connection::open(root.join("edgecore.db")).unwrap();
    db.execute_batch(TABLES).unwrap();
    let rows = [
        ("default/pod/old", "pod", pod.clone()),
        ("default/configmap/app", "configmap", world.get(&["configmap", "app"])),
        ("default/secret/app", "secret", world.get(&["secret", "app"])),
        ("default/node/edge-1", "node", world.get(&["node", "edge-1"])),
        ("default/podpatch/old", "podpatch", json!("{\"status\":{}}")),
    ];
    for (key, kind, value) in rows {
        let put = "INSERT INTO meta (key, type, value) VALUES (?1, ?2, ?3)";
        db.execute(put, [key, kind, &value.to_string()]).unwrap();
    }
}

/// Where a kubelet keeps a pod without requests and limits, in the form that the runtime's driver reads.
fn pod_group(systemd: bool, uid: &str) -> String {
    if systemd {
        format!("kubepods-besteffort-pod{}.slice", uid.replace('-', "_"))
    } else {
        format!("/kubepods/besteffort/pod{uid}")
    }
}

/// The places of this pod's control group on this machine, one for each hierarchy.
fn group_dirs(uid: &str) -> Vec<PathBuf> {
    let names = [format!("kubepods/besteffort/pod{uid}"), {
        let slice = pod_group(true, uid);
        format!("kubepods.slice/kubepods-besteffort.slice/{slice}")
    }];
    let mount = Path::new("/sys/fs/cgroup");
    let trees = fs::read_dir(mount).unwrap().flatten().map(|entry| entry.path());
    let trees: Vec<PathBuf> = std::iter::once(mount.to_owned()).chain(trees).collect();
    let places = trees.iter().flat_map(|tree| names.iter().map(|name| tree.join(name)));
    places.filter(|place| place.is_dir()).collect()
}

/// One volume as the kubelet's atomic writer lays it out.
fn write_atomically(dir: &Path, name: &str, text: &str) {
    fs::create_dir_all(dir.join("..2026_01_01_00_00_00.1")).unwrap();
    fs::write(dir.join("..2026_01_01_00_00_00.1").join(name), text).unwrap();
    symlink("..2026_01_01_00_00_00.1", dir.join("..data")).unwrap();
    symlink(format!("..data/{name}"), dir.join(name)).unwrap();
}

fn write_volumes(pod_dir: &Path) {
    let volume = |plugin: &str, name: &str| pod_dir.join(format!("volumes/kubernetes.io~{plugin}/{name}"));
    write_atomically(&volume("configmap", "live"), "v", "one");
    let secret = volume("secret", "secret");
    fs::create_dir_all(&secret).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&secret).status().unwrap();
    assert!(mounted.success());
    write_atomically(&secret, "p", "pw");
    fs::create_dir_all(volume("empty-dir", "scratch")).unwrap();
    fs::write(volume("empty-dir", "scratch").join("kept"), "kept").unwrap();
    for container in ["c", "d"] {
        fs::create_dir_all(pod_dir.join("containers").join(container)).unwrap();
        fs::write(pod_dir.join("containers").join(container).join("66c314e4"), "").unwrap();
    }
    fs::write(pod_dir.join("etc-hosts"), "127.0.0.1\tlocalhost\n").unwrap();
}

async fn run_as_a_kubelet(runtime: &Runtime, root: &Path, uid: &str, cgroup_parent: &str) -> [String; 2] {
    let pod_dir = root.join("kubelet/pods").join(uid);
    let logs = root.join(format!("logs/pods/default_old_{uid}"));
    let pairs = |pairs: &[(&str, &str)]| -> Labels {
        pairs.iter().map(|(name, value)| (format!("io.kubernetes.{name}"), (*value).to_owned())).collect()
    };
    let mut labels = pairs(&[("pod.name", "old"), ("pod.namespace", "default"), ("pod.uid", uid)]);
    let namespaces = NamespaceOption { pid: 1, ..NamespaceOption::default() };
    let sandbox = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "old".into(),
            namespace: "default".into(),
            uid: uid.into(),
            attempt: 0,
        }),
        hostname: "old".into(),
        log_directory: logs.display().to_string(),
        labels: labels.clone(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.to_owned(),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces.clone()),
                ..LinuxSandboxSecurityContext::default()
            }),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    };
    let sandbox_id = runtime.run_pod_sandbox(sandbox.clone()).await.unwrap();
    let image = runtime.image_status(IMAGE).await.unwrap().unwrap();
    let mount = |inside: &str, outside: PathBuf| Mount {
        container_path: inside.to_owned(),
        host_path: outside.display().to_string(),
        ..Mount::default()
    };
    let volume = |name: &str| pod_dir.join("volumes").join(format!("kubernetes.io~{name}"));
    let mut ids = Vec::new();
    // The first hash is that of a kubelet since Kubernetes 1.31, the second one of an older kind.
    for (name, hash) in [("c", "900e8f41"), ("d", "1f2e3d4c")] {
        fs::create_dir_all(logs.join(name)).unwrap();
        labels.insert("io.kubernetes.container.name".to_owned(), name.to_owned());
        let mut mounts = vec![
            mount("/etc/hosts", pod_dir.join("etc-hosts")),
            mount("/dev/termination-log", pod_dir.join("containers").join(name).join("66c314e4")),
        ];
        let command = if name == "c" {
            mounts.push(mount("/live", volume("configmap").join("live")));
            mounts.push(mount("/secret", volume("secret").join("secret")));
            mounts.push(mount("/scratch", volume("empty-dir").join("scratch")));
            let script = "while true; do cat /live/v /secret/p /scratch/kept; echo; sleep 0.2; done";
            vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()]
        } else {
            vec!["sleep".to_owned(), "100000".to_owned()]
        };
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: image.id.clone() }),
            command,
            mounts,
            labels: labels.clone(),
            annotations: pairs(&[
                ("container.hash", hash),
                ("container.restartCount", "0"),
                ("container.terminationMessagePath", "/dev/termination-log"),
                ("container.terminationMessagePolicy", "File"),
                ("pod.terminationGracePeriod", "1"),
            ]),
            log_path: format!("{name}/0.log"),
            linux: Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces.clone()),
                    ..LinuxContainerSecurityContext::default()
                }),
                ..LinuxContainerConfig::default()
            }),
            ..ContainerConfig::default()
        };
        let id = runtime.create_container(&sandbox_id, config, sandbox.clone()).await.unwrap();
        runtime.start_container(&id).await.unwrap();
        ids.push(id);
    }
    ids.try_into().unwrap()
}

/// The file as edgecore has it, with keys that kedge does not know; the last line keeps the pods' network in this world.
fn configuration(world: &World, root: &Path) -> PathBuf {
    let (ports, dir) = (world.ports, world.dir.display());
    let root_text = root.display();
    let certificates = format!(
        "CaFile: {dir}/edge-1-ca.crt, tlsCertFile: {dir}/edge-1-node.crt, tlsPrivateKeyFile: {dir}/edge-1-node.key"
    );
    let text = format!(
        r#"apiVersion: edgecore.config.kubeedge.io/v1alpha2
kind: EdgeCore
edgecoreVersion: v1.22.1
database: {{aliasName: default, dataSource: {root_text}/edgecore.db, driverName: sqlite3}}
modules:
  edgeHub:
    enable: true
    httpServer: https://127.0.0.1:{cert}
    fromTheFuture: {{a: 1}}
    tls{certificates}
    token: ""
    websocket: {{enable: true, server: "127.0.0.1:{hub}"}}
  edged:
    hostnameOverride: edge-1
    rootDirectory: {root_text}/kubelet
    tailoredKubeletConfig:
      containerRuntimeEndpoint: unix://{dir}/runtime/containerd.sock
      imageServiceEndpoint: unix://{dir}/runtime/containerd.sock
      podLogsDir: {root_text}/logs/pods
      staticPodPath: {root_text}/manifests
  deviceTwin: {{enable: true, dmiSockPath: {root_text}/dmi.sock}}
  eventBus: {{enable: true, mqttMode: 0, mqttServerInternal: "tcp://127.0.0.1:{mqtt}"}}
kedge: {{runtimeDir: {dir}/runtime}}
"#,
        cert = ports.cert,
        hub = ports.hub,
        mqtt = ports.mqtt,
        certificates = certificates.replace(", ", "\n    "),
    );
    let file = root.join("edgecore.yaml");
    fs::write(&file, text).unwrap();
    file
}

fn wait_for_line(left: &Left, expected: &str) {
    eventually(&format!("the container reads {expected:?}"), SOON, || {
        let line = left.last_line();
        if line == expected { Ok(()) } else { Err(line) }
    });
}

#[test]
fn a_node_of_edgecore_goes_on_under_kedge() {
    let world = World::new("takeover");
    let _cloud = world.cloud();
    identity(&world, "edge-1");
    world.apply(OBJECTS);
    world.apply(crate::devices::THERMOMETER);
    let left = leave(&world);
    let certificate = fs::read(world.dir.join("edge-1-node.crt")).unwrap();
    let file = configuration(&world, &left.root);
    let line = ["edge", "run", "--config", file.to_str().unwrap()].map(str::to_owned);
    let mut edge = world.start("edge", &line);

    // The same containers since the same time, and the node is the same one with its certificate.
    world.kubectl_ok(&["wait", "--for=condition=Ready", "pod/old", "--timeout=40s"]);
    world.kubectl_ok(&["wait", "--for=condition=Ready", "node/edge-1", "--timeout=40s"]);
    let pod = world.get(&["pod", "old"]);
    for (place, id) in left.containers.iter().enumerate() {
        let shown = &pod["status"]["containerStatuses"][place];
        assert_eq!(shown["containerID"], format!("containerd://{id}"), "{shown:#}");
        assert_eq!(shown["restartCount"], 0);
    }
    let log = world.whole_log("edge.err");
    assert!(log.contains("modules.edgeHub.fromTheFuture: unknown key, ignored"), "{log}");
    assert_eq!(fs::read(world.dir.join("edge-1-node.crt")).unwrap(), certificate);

    // What its volumes hold follows the cluster, in the places that the containers look at.
    wait_for_line(&left, "onepwkept");
    world.kubectl_ok(&["patch", "configmap", "app", "-p", r#"{"data":{"v":"two"}}"#]);
    world.kubectl_ok(&["patch", "secret", "app", "-p", r#"{"stringData":{"p":"PW"}}"#]);
    wait_for_line(&left, "twoPWkept");

    // Its device counts on.
    let result = world.subscribe("$hw/events/device/default/t1/twin/update/result", 1);
    let update = r#"{"event_id":"e","timestamp":1,"twin":{"temperature":{"actual":{"value":"19"}}}}"#;
    world.publish("$hw/events/device/default/t1/twin/update", update);
    assert!(result.messages()[0].contains(r#""value":"19""#));
    eventually("the value reaches the cloud", SOON, || {
        match crate::devices::reported(&world, "t1", "temperature") {
            Some(value) if value == "19" => Ok(()),
            other => Err(other),
        }
    });

    // What kedge makes carries all that a kubelet looks for.
    world.apply(NEW);
    world.kubectl_ok(&["wait", "--for=condition=Ready", "pod/new", "--timeout=40s"]);
    let uid = world.get(&["pod", "new"])["metadata"]["uid"].as_str().unwrap().to_owned();
    // A kubelet ends a running pod whose group it does not find.
    assert!(!group_dirs(&uid).is_empty());
    let (labels, noted) = left.noted("new");
    let value = |name: &str| noted.get(&format!("io.kubernetes.{name}")).map(String::as_str);
    assert_eq!(labels["io.kubernetes.container.name"], "c");
    assert_eq!(value("container.hash"), Some("900e8f41"));
    assert_eq!(value("container.restartCount"), Some("0"));
    assert_eq!(value("pod.terminationGracePeriod"), Some("1"));
    assert!(value("container.ports").is_some_and(|ports| ports.contains("80")), "{noted:?}");
    assert_eq!(left.started(), left.started, "a container was started anew");

    // A restart changes nothing; then the pod ends, and what a kubelet had mounted for it is gone.
    edge.kill();
    let mut edge = world.start("edge", &line);
    world.kubectl_ok(&["patch", "configmap", "app", "-p", r#"{"data":{"v":"three"}}"#]);
    wait_for_line(&left, "threePWkept");
    assert_eq!(left.started(), left.started, "a container was started anew");
    world.kubectl_ok(&["delete", "pod", "old", "--timeout=40s"]);
    eventually("the pod's directory is gone", SOON, || {
        if left.pod_dir().exists() { Err(mounts_below(&left.pod_dir())) } else { Ok(()) }
    });
    eventually("the pod's control group is gone", SOON, || {
        let found = group_dirs(&left.uid);
        if found.is_empty() { Ok(()) } else { Err(found) }
    });
    assert_eq!(edge.interrupt(), 0);
    gives_back(&left);
}

/// Edgecore 1.22 finds its own columns and rows again.
fn gives_back(left: &Left) {
    let db = Connection::open(left.root.join("edgecore.db")).unwrap();
    let text = |query: &str| db.query_row(query, [], |row| row.get::<_, String>(0)).unwrap();
    let resource = "SELECT groupversionresource FROM meta_v2 WHERE key = '/core/v1/pods/default/new'";
    assert_eq!(text(resource), "/v1, Resource=pods");
    assert!(text("SELECT value FROM meta WHERE key = 'default/configmap/app'").contains("three"));
    let twin = "SELECT actual || actual_version FROM device_twin WHERE name = 'temperature'";
    assert_eq!(text(twin), r#"19{"cloud":0,"edge":8}"#);
    let old = db.query_row("SELECT count(*) FROM meta WHERE key LIKE 'default/pod%/old'", [], |row| {
        row.get::<_, i64>(0)
    });
    assert_eq!(old.unwrap(), 0);
}
