//! The cloud as a Deployment: its image from `manifests/Dockerfile` by buildah, `kedge init --mode cluster` into the API and
//! the node of `kedge up`, a machine that joins with the line that was printed, and the way out again. And on machines of
//! their own in the role of a control plane: the rules that lead an API server to the cloud.

use crate::support::house::House;
use crate::support::machine::{free_ports, signal};
use crate::support::planes::{IMAGE, KUBECONFIG, Planes, image, processes};
use crate::support::relay::Balancer;
use crate::support::world::{Daemon, World};
use crate::support::{Run, eventually, kedge, run};
use serde_json::{Value, json};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(90);
/// The image's user, who is nobody on the machine.
const USER: &str = "65532";

/// What the Deployment runs.
const CLOUD: &str = "cloud run --config /etc/kubeedge/config/cloudcore.yaml";

/// Where the Deployment's cloud listens, beside the one of `kedge up`.
struct Ports {
    hub: u16,
    cert: u16,
    stream: u16,
    tunnel: u16,
}

impl Ports {
    fn settings(&self) -> String {
        format!(
            "modules.cloudHub.websocket.port={},modules.cloudHub.https.port={},modules.cloudStream.streamPort={},modules.cloudStream.tunnelPort={}",
            self.hub, self.cert, self.stream, self.tunnel
        )
    }
}

/// Hands the image to the runtime of the world's node.
fn import(world: &World) {
    world.ctr(&["images", "import", &image(world)]).assert_status(0);
}

fn init(world: &World, ports: &Ports, extra: &[&str]) -> Run {
    let set = ports.settings();
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
    let line = CLOUD.replace(' ', "\0") + "\0--log-format\0json\0";
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|seen| seen.ends_with(line.as_bytes()))
    })
    .collect()
}

/// Every line in which the API says that it refused the cloud's account.
fn forbidden(world: &World) -> Vec<String> {
    let log = world.whole_log("up.err");
    let ours = |line: &&str| {
        line.contains("a request is forbidden") && line.contains("system:serviceaccount:kubeedge:kedge-cloud")
    };
    log.lines().filter(ours).map(str::to_owned).collect()
}

#[test]
fn the_cloud_runs_as_a_deployment_from_its_image() {
    let world = World::new("cluster");
    let _up = world.up(&[]);
    import(&world);
    let [hub, cert, stream, tunnel] = free_ports();
    let ports = Ports { hub, cert, stream, tunnel };
    let done = init(&world, &ports, &[]);
    done.assert_status(0);
    assert!(
        done.stderr.contains(
            "warn  machines with an API server: no node has the role node-role.kubernetes.io/control-plane"
        ) && done.stderr.contains("KE-INIT-014"),
        "{done:?}"
    );
    let done: Value = serde_json::from_str(&done.stdout).unwrap();
    let line = done["join"].as_str().unwrap();
    let forward = world.get(&["daemonset", "kedge-forward", "-n", "kubeedge"]);
    assert_eq!(forward["status"]["desiredNumberScheduled"], 0, "{forward:#}");
    let doctor = doctor(&world);
    assert!(doctor.stdout.contains("has no machine to run on"), "{doctor:?}");

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

    // Again, with nothing said of ports, image and addresses: nothing is left to do, and the same cloud serves on.
    let config = world.kubeconfig().display().to_string();
    let again = kedge(&["init", "--yes", "--wait", "90s", "--kube-config", &config, "-o", "json"]);
    again.assert_status(0);
    for kept in [format!("modules.cloudHub.websocket.port={hub}"), format!("image {IMAGE}")] {
        assert!(again.stderr.contains(&format!("  kept  {kept}")), "{kept} in {again:?}");
    }
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    let words = |line: &str| ["--cloudcore-ipport", "--certport"].map(|flag| word(line, flag).to_owned());
    assert_eq!(words(again["join"].as_str().unwrap()), words(line));
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

fn doctor(world: &World) -> Run {
    let config = world.kubeconfig().display().to_string();
    kedge(&["doctor", "--role", "cloud", "--kube-config", &config, "--only", "KE-STREAM-013"])
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

/// What `iptables` of this machine shows of the way to the cloud.
fn rules(house: &House<'_>) -> Vec<String> {
    let shown = house.run("iptables", &["-w", "5", "-t", "nat", "-S"]);
    shown.assert_status(0);
    shown.stdout.lines().filter(|line| line.contains("TUNNEL-PORT")).map(str::to_owned).collect()
}

fn has_no_rules(house: &House<'_>) {
    eventually("the rules are gone", SOON, || match rules(house) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
}

const FORWARD: &str = "cloud forward --host-root /host";

/// Its process, as this machine sees it.
fn forward(house: &House<'_>) -> u32 {
    eventually("the pod beside the API server", SOON, || {
        processes(house, FORWARD).first().copied().ok_or_else(|| house.processes())
    })
}

const APP: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: app}\nspec: {nodeName: edge-7, terminationGracePeriodSeconds: 1, containers: [{name: c, image: \"kedge.local/busybox:1\", command: [sh, -c, \"echo it is me; exec sleep 100000\"]}]}\n";

#[test]
fn a_pod_beside_the_api_server_leads_it_to_the_cloud_and_leaves_no_rule() {
    let world = World::new("cluster-forward");
    let planes = Planes::new(&world, 1);
    let (plane, address) = (planes.first(), planes.first().address().to_owned());
    planes.label();
    let done = planes.init(&[]);
    done.assert_status(0);
    assert!(done.stderr.contains("ok    machines with an API server: plane-1"), "{done:?}");

    // The machine's own iptables, run from the pod, in the machine's network and in no other.
    let lead = format!("-A TUNNEL-PORT -p tcp -m tcp --dport 10351 -j DNAT --to-destination {address}:10003");
    let leads = || {
        eventually("the rule of the cloud", SOON, || match rules(plane) {
            found if found.contains(&lead) && found.len() == 4 => Ok(()),
            found => Err((found, plane.processes())),
        });
    };
    leads();
    assert!(!run("iptables", &["-w", "5", "-t", "nat", "-S"]).stdout.contains(&address));
    let pid = forward(plane);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for field in ["Uid:\t0\t", "CapEff:\t0000000000043000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"] {
        assert!(status.contains(field), "{field:?} in {status}");
    }
    let look = ["doctor", "--role", "cloud", "--kube-config", KUBECONFIG, "--only", "KE-STREAM-013"];
    eventually("the pod is Ready, as doctor tells", SOON, || match plane.kedge(&look) {
        told if told.status == 0 && told.stdout.contains("1 of 1 pods are ready") => Ok(()),
        told => Err(told),
    });

    // As an API server asks for a log: at the node's own address, with a certificate of the cluster.
    let edge = House::new(&world, "edge-7");
    let _containerd = edge.containerd();
    let done: Value = serde_json::from_str(&done.stdout).unwrap();
    let line: Vec<&str> = done["join"].as_str().unwrap().split(' ').skip(1).collect();
    edge.kedge(&line).assert_status(0);
    planes.is_ready("edge-7");
    planes.apply(APP);
    log_is_read(&planes, edge.address());

    // Killed, it comes back and keeps what it finds.
    signal(pid, "KILL");
    eventually("another one", SOON, || match processes(plane, FORWARD).first() {
        Some(new) if *new != pid => Ok(()),
        found => Err(format!("{found:?}")),
    });
    leads();
    // Without the machine's iptables nothing is led, and the pod does not pretend.
    let line = ["cloud", "forward", "--kube-config", KUBECONFIG, "--host-root", "/srv"];
    let blind = plane.kedge(&line);
    assert!(blind.status == 1 && blind.stderr.contains("KE-HOST-011"), "{blind:?}");
    assert!(blind.stderr.contains("iptables: it is not installed"), "{blind:?}");
    leads();

    edge.kedge(&["reset", "edge", "--yes"]).assert_status(0);
    let gone = planes.reset();
    gone.assert_status(0);
    assert!(gone.stderr.contains("removed: DaemonSet kubeedge/kedge-forward"), "{gone:?}");
    has_no_rules(plane);
    eventually("nothing of it is left", SOON, || {
        let kinds = ["get", "daemonset,serviceaccount,role,rolebinding", "-n", "kubeedge", "-o", "name"];
        let (left, running) = (planes.kubectl(&kinds).stdout, processes(plane, FORWARD));
        if left.contains("kedge-forward") || !running.is_empty() { Err((left, running)) } else { Ok(()) }
    });
}

fn log_is_read(planes: &Planes<'_>, node: &str) {
    use base64::Engine;
    let config: Value =
        serde_json::from_str(&planes.kubectl_ok(&["config", "view", "--raw", "-o", "json"])).unwrap();
    for (file, field) in
        [("/srv/admin.crt", "client-certificate-data"), ("/srv/admin.key", "client-key-data")]
    {
        let text = config["users"][0]["user"][field].as_str().unwrap();
        let pem = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        planes.first().write(file, pem);
    }
    let identity = ["--cert", "/srv/admin.crt", "--key", "/srv/admin.key"];
    eventually("the log, by the rules", SOON, || {
        let port = &planes.get(&["node", "edge-7"])["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"];
        let url = format!("https://{node}:{port}/containerLogs/default/app/c");
        let ask = [&["-k", "-s", "-S", "--max-time", "5"], &identity[..], &[&url]].concat();
        match planes.first().run("curl", &ask) {
            answer if answer.stdout == "it is me\n" => Ok(()),
            answer => Err((url, answer)),
        }
    });
}

/// The machines of the cloud's pods that are Ready.
fn ready_on(planes: &Planes<'_>) -> Vec<String> {
    let pods = planes.get(&["pods", "-n", "kubeedge", "-l", LABEL]);
    let ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|it| it["type"] == "Ready" && it["status"] == "True")
    };
    let pods = pods["items"].as_array().unwrap().iter().filter(ready);
    let mut nodes: Vec<String> =
        pods.filter_map(|pod| pod["spec"]["nodeName"].as_str().map(str::to_owned)).collect();
    nodes.sort();
    nodes
}

fn all_are_ready(planes: &Planes<'_>) {
    eventually("three replicas are Ready on three machines", SOON, || match ready_on(planes) {
        nodes if nodes == ["plane-1", "plane-2", "plane-3"] => Ok(()),
        nodes => Err((nodes, planes.kubectl(&["get", "pods", "-A", "-o", "wide"]))),
    });
}

/// A replica that has no machine does not keep the others from taking up what is set.
fn rolls_out_on_two_machines(planes: &Planes<'_>) {
    // The machines of this cluster are edge nodes themselves, so that any of them would do.
    planes.kubectl_ok(&["cordon", "plane-3", "edge-7"]);
    let on_third = "spec.nodeName=plane-3";
    planes.kubectl_ok(&["delete", "pods", "-n", "kubeedge", "-l", LABEL, "--field-selector", on_third]);
    let two_are_ready = || {
        eventually("two replicas are Ready", SOON, || match ready_on(planes) {
            nodes if nodes == ["plane-1", "plane-2"] => Ok(()),
            nodes => Err((nodes, planes.kubectl(&["get", "pods", "-A", "-o", "wide"]))),
        });
    };
    two_are_ready();
    let pods = |planes: &Planes<'_>| {
        let pods = planes.get(&["pods", "-n", "kubeedge", "-l", LABEL]);
        pods["items"].as_array().unwrap().iter().map(|it| it["metadata"]["uid"].clone()).collect::<Vec<_>>()
    };
    let before = pods(planes);
    let done = planes.init(&["--set", "modules.cloudHub.nodeLimit=77"]);
    done.assert_status(0);
    for told in [
        "warn  machines for the replicas: 2 (not ",
        "not plane-3: it is cordoned",
        "fix: `kubectl uncordon ",
        "  kept  3 replicas",
        "  kept  modules.cloudStream.tunnelPort=",
    ] {
        assert!(done.stderr.contains(told), "{told} in {done:?}");
    }
    two_are_ready();
    let after = pods(planes);
    assert!(!after.iter().any(|pod| before.contains(pod)), "{before:?} {after:?}");
    planes.kubectl_ok(&["uncordon", "plane-3"]);
    all_are_ready(planes);
}

const LABEL: &str = "app.kubernetes.io/name=kedge-cloud";

#[test]
fn three_replicas_serve_from_three_machines_and_one_of_them_may_die() {
    let world = World::new("cluster-ha");
    let planes = Planes::new(&world, 3);
    planes.label();
    let [hub, cert, stream, tunnel] = free_ports();
    let ports = Ports { hub, cert, stream, tunnel };
    let gateway = planes.first().gateway().to_owned();
    let machines: Vec<IpAddr> = planes.houses.iter().map(|house| house.address().parse().unwrap()).collect();
    let balancer = |port| Balancer::before(SocketAddr::new(gateway.parse().unwrap(), port), &machines);
    let (hubs, _certificates, _tunnels) = (balancer(hub), balancer(cert), balancer(tunnel));

    let done = planes.init(&["--ha", "--advertise-address", &gateway, "--set", &ports.settings()]);
    done.assert_status(0);
    assert!(done.stderr.contains("ok    machines for the replicas: 3"), "{done:?}");
    all_are_ready(&planes);
    // Beside each API server the clouds of all machines are known.
    for house in &planes.houses {
        eventually("a rule for each cloud", SOON, || {
            let found = rules(house);
            let to = |machine: &IpAddr| {
                found.iter().any(|line| line.ends_with(&format!("--to-destination {machine}:{stream}")))
            };
            if machines.iter().all(to) { Ok(()) } else { Err(found) }
        });
    }

    let edge = House::new(&world, "edge-7");
    let _containerd = edge.containerd();
    let invitation = world.dir.join("edge.yaml").display().to_string();
    let made = ["token", "create", "--kube-config", KUBECONFIG, "--join-file", &invitation];
    planes.first().kedge(&made).assert_status(0);
    edge.kedge(&["join", "--join-file", &invitation]).assert_status(0);
    planes.is_ready("edge-7");
    planes.apply(APP);
    log_is_read(&planes, edge.address());

    // The one that holds the node dies; another takes it.
    let (count, holder) = hubs.seen();
    let dead = processes(&planes.houses[holder], CLOUD);
    assert_eq!(dead.len(), 1, "{dead:?}");
    signal(dead[0], "KILL");
    let died = Instant::now();
    let (_, next) = eventually("the node has found another", SOON, || {
        let link = edge.kedge(&["status", "-o", "json"]);
        let link: Value = serde_json::from_str(&link.stdout).unwrap_or_default();
        let seen = hubs.seen();
        if seen.0 > count && link["link"]["link"] == "up" { Ok(seen) } else { Err((seen, link)) }
    });
    let away = died.elapsed();
    eprintln!("the node was away for {:.1} s at most", away.as_secs_f64());
    assert!(away < Duration::from_secs(20) && next != holder, "{away:?} from {holder} to {next}");
    planes.apply(&APP.replace("name: app", "name: later").replace("it is me", "later"));
    eventually("the change has arrived", SOON, || {
        let got = planes.kubectl(&["get", "pod", "later", "-o", "jsonpath={.status.phase}"]);
        if got.stdout == "Running" { Ok(()) } else { Err(got) }
    });
    log_is_read(&planes, edge.address());
    all_are_ready(&planes);
    rolls_out_on_two_machines(&planes);

    edge.kedge(&["reset", "edge", "--yes"]).assert_status(0);
    planes.reset().assert_status(0);
    planes.houses.iter().for_each(has_no_rules);
}
