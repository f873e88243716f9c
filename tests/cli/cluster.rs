//! The cloud as a Deployment: its image from `manifests/Dockerfile` by buildah, `kedge init --mode cluster` into the API and
//! the node of `kedge up`, a machine that joins with the line that was printed, and the way out again.

use crate::support::machine::free_ports;
use crate::support::world::{Daemon, World};
use crate::support::{Run, eventually, kedge, run};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);
const IMAGE: &str = "kedge.test/kedge:under-test";
const DOCKERFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/Dockerfile");
/// The image's user, who is nobody on the machine.
const USER: &str = "65532";

/// Where the Deployment's cloud listens, beside the one of `kedge up`.
struct Ports {
    hub: u16,
    cert: u16,
    stream: u16,
    tunnel: u16,
}

/// The image's root: the binary, small enough to copy, and the libraries that this form of it asks for.
fn tree(root: &Path) {
    let program = root.join("usr/local/bin/kedge");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    run("strip", &["-o", program.to_str().unwrap(), crate::support::binary()]).assert_status(0);
    let asked = run("ldd", &[program.to_str().unwrap()]);
    for library in asked.stdout.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(library, place).unwrap();
    }
}

/// Builds the image from the binary under test and hands it to the runtime of the world's node.
fn image(world: &World) {
    let root = world.dir.join("image");
    tree(&root);
    let at = |name: &str| world.dir.join(name).display().to_string();
    let (layers, books, archive) = (at("buildah"), at("buildah-run"), at("image.tar"));
    let place = ["--root", &layers, "--runroot", &books, "--storage-driver", "vfs"];
    let buildah = |args: &[&str]| run("buildah", &[&place, args].concat()).assert_status(0);
    // `bud` is today's `build`, which Debian 12's buildah does not know without its first name.
    buildah(&["bud", "--isolation", "chroot", "--file", DOCKERFILE, "--tag", IMAGE, root.to_str().unwrap()]);
    buildah(&["push", IMAGE, &format!("docker-archive:{archive}:{IMAGE}")]);
    let socket = world.data_dir().join("runtime/containerd.sock").display().to_string();
    let import = ["--address", &socket, "--namespace", "k8s.io", "images", "import", &archive];
    run("ctr", &import).assert_status(0);
}

fn init(world: &World, ports: &Ports, extra: &[&str]) -> Run {
    let set = format!(
        "modules.cloudHub.websocket.port={},modules.cloudHub.https.port={},modules.cloudStream.streamPort={},modules.cloudStream.tunnelPort={}",
        ports.hub, ports.cert, ports.stream, ports.tunnel
    );
    let config = world.kubeconfig().display().to_string();
    let args = [
        "init",
        "--yes",
        "--wait",
        "90s",
        "--kube-config",
        &config,
        "--image",
        IMAGE,
        "--set",
        &set,
        "-o",
        "json",
    ];
    kedge(&[&args, extra].concat())
}

/// The words behind a flag of the printed line.
fn word<'a>(line: &'a str, flag: &str) -> &'a str {
    line.split(' ').skip_while(|word| *word != flag).nth(1).unwrap_or_else(|| panic!("{flag} in {line}"))
}

/// A second machine that joins by the printed line.
fn machine(world: &World, line: &str, tunnel: u16) -> Daemon {
    let (host, hub) = word(line, "--cloudcore-ipport").rsplit_once(':').unwrap();
    let [mqtt] = free_ports();
    let args = [
        ("--data-dir", world.dir.join("second").display().to_string()),
        ("--node", "edge-2".to_owned()),
        ("--cloud", host.trim_matches(['[', ']']).to_owned()),
        ("--hub-port", hub.to_owned()),
        ("--cert-port", word(line, "--certport").to_owned()),
        ("--tunnel-port", tunnel.to_string()),
        ("--mqtt-port", mqtt.to_string()),
        ("--token", word(line, "--token").to_owned()),
    ];
    let flags = args.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    world.start("edge", &["edge".to_owned(), "run".to_owned()].into_iter().chain(flags).collect::<Vec<_>>())
}

/// The processes of the Deployment's cloud, as this machine sees them.
fn clouds() -> Vec<u32> {
    let line = "cloud\0run\0--config\0/etc/kubeedge/config/cloudcore.yaml\0--log-format\0json\0";
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|seen| seen.ends_with(line.as_bytes()))
    })
    .collect()
}

/// Every line in which the API says that it refused the cloud's account.
fn forbidden(world: &World) -> Vec<String> {
    let log = fs::read_to_string(world.dir.join("up.err")).unwrap();
    let ours = |line: &&str| {
        line.contains("a request is forbidden") && line.contains("system:serviceaccount:kubeedge:kedge-cloud")
    };
    log.lines().filter(ours).map(str::to_owned).collect()
}

#[test]
fn the_cloud_runs_as_a_deployment_from_its_image() {
    let world = World::new("cluster");
    let _up = world.up(&[]);
    image(&world);
    let [hub, cert, stream, tunnel] = free_ports();
    let ports = Ports { hub, cert, stream, tunnel };
    let done = init(&world, &ports, &[]);
    done.assert_status(0);
    let done: Value = serde_json::from_str(&done.stdout).unwrap();
    let line = done["join"].as_str().unwrap();

    // One pod of the image, nobody's user, nothing to write on but what it was given.
    let pods = world.get(&["pods", "-n", "kubeedge", "-l", "app.kubernetes.io/name=kedge-cloud"]);
    let pods = pods["items"].as_array().unwrap();
    assert_eq!(pods.len(), 1, "{pods:#?}");
    assert_eq!(pods[0]["spec"]["nodeName"], "edge-1");
    assert_eq!(pods[0]["spec"]["serviceAccountName"], "kedge-cloud");
    let found = clouds();
    assert_eq!(found.len(), 1, "{found:?}");
    let status = fs::read_to_string(format!("/proc/{}/status", found[0])).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(field("Uid:"), USER);
    assert_eq!(
        (field("CapEff:"), field("NoNewPrivs:"), field("Seccomp:")),
        ("0".repeat(16), "1".into(), "2".into())
    );
    let name = pods[0]["metadata"]["name"].as_str().unwrap();
    let condition = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    eventually("the pod is Ready by its probe", SOON, || {
        let got = world.kubectl(&["get", "pod", name, "-n", "kubeedge", "-o", condition]);
        if got.stdout == "True" { Ok(()) } else { Err(got) }
    });
    let exec = ["exec", "-n", "kubeedge", name, "--", "/usr/local/bin/kedge", "version"];
    assert!(world.kubectl_ok(&exec).contains(env!("CARGO_PKG_VERSION")));

    // Again: nothing is left to do, and the same cloud serves on.
    let again = init(&world, &ports, &[]);
    again.assert_status(0);
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    let objects = again["objects"].as_array().unwrap();
    assert!(objects.iter().all(|it| it["outcome"] == "unchanged"), "{objects:#?}");
    assert_eq!(clouds(), found);

    // Another machine joins it and works.
    let mut edge = machine(&world, line, tunnel);
    eventually("edge-2 is Ready", SOON, || {
        let got = world.kubectl(&["get", "node", "edge-2", "-o", condition]);
        if got.stdout == "True" { Ok(()) } else { Err(got) }
    });
    world.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: app}\nspec: {nodeName: edge-2, terminationGracePeriodSeconds: 1, containers: [{name: c, image: \"kedge.local/busybox:1\", command: [sh, -c, \"exec sleep 100000\"]}]}\n",
    );
    world.wait_value(&["pod", "app"], "/status/phase", &json!("Running"), SOON);
    assert!(forbidden(&world).is_empty(), "the role lacks:\n{}", forbidden(&world).join("\n"));

    // The machines that came since leave the cloud where it is.
    let dry = init(&world, &ports, &["--dry-run"]);
    dry.assert_status(0);
    assert!(dry.stderr.contains("ok    addresses for nodes: "), "{dry:?}");

    world.kubectl_ok(&["delete", "pod", "app"]);
    edge.interrupt();
    take_out(&world);
}

fn take_out(world: &World) {
    let config = world.kubeconfig().display().to_string();
    let cluster = world.kubectl_ok(&["config", "view", "-o", "jsonpath={.contexts[0].context.cluster}"]);
    kedge(&["cloud", "reset", "--kube-config", &config, "--yes-i-mean", &cluster]).assert_status(0);
    eventually("the cloud's process has ended", SOON, || {
        let left = clouds();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    assert_ne!(world.kubectl(&["get", "clusterrole", "kedge-cloud"]).status, 0);
    assert!(Path::new(&world.kubeconfig()).exists(), "what serves the API is left alone");
}
