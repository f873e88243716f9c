//! `kedge init` and `kedge cloud reset`: a control plane comes, serves with no more rights than it has to have, and goes.

use crate::support::house::{House, KUBECONFIG};
use crate::support::machine::free_ports;
use crate::support::snapshot::{self, Errors};
use crate::support::told::fails;
use crate::support::world::{Daemon, World};
use crate::support::{Run, eventually, kedge, run};
use bytes::Bytes;
use http_body_util::Full;
use kedge::link::{Endpoint, fetch};
use kedge::pki::{Identity, client_config, install_crypto_provider, unverified_client_config};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const ACCOUNT: &str = "kedge-cloud";

/// Flags that put the control plane of a world's API where the world's own cloud serves already.
pub(crate) fn flags(world: &World) -> Vec<String> {
    let p = world.ports;
    let ports = format!(
        "modules.cloudHub.websocket.port={},modules.cloudHub.https.port={},modules.cloudStream.streamPort={},modules.cloudStream.tunnelPort={}",
        p.hub, p.cert, p.stream, p.tunnel
    );
    let config = world.kubeconfig().display().to_string();
    ["--kube-config", &config, "--advertise-address", "127.0.0.1", "--set", &ports]
        .map(str::to_owned)
        .to_vec()
}

fn init(world: &World, extra: &[&str]) -> Run {
    let flags = flags(world);
    // No image can run in a world without a node; the objects are what is looked at.
    let wait: &[&str] = if extra.contains(&"--wait") { &[] } else { &["--wait", "0"] };
    let mut args = [&["init", "--yes"], wait].concat();
    args.extend(flags.iter().map(String::as_str));
    args.extend(extra);
    kedge(&args)
}

fn outcomes(run: &Run) -> Vec<String> {
    run.assert_status(0);
    let done: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&done["apiVersion"], &done["kind"]), (&json!("kedge.io/v1"), &json!("Installation")));
    let text = |it: &Value, field: &str| it[field].as_str().unwrap_or_default().to_owned();
    let objects = done["objects"].as_array().unwrap().iter();
    objects.map(|it| format!("{} {} {}", text(it, "kind"), text(it, "name"), text(it, "outcome"))).collect()
}

const KUBE_PROXY: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-proxy, namespace: kube-system}
spec:
  selector: {matchLabels: {k8s-app: kube-proxy}}
  template:
    metadata: {labels: {k8s-app: kube-proxy}}
    spec:
      nodeSelector: {kubernetes.io/os: linux}
      containers: [{name: kube-proxy, image: kube-proxy}]
"#;

fn affinity(world: &World) -> Value {
    world.get(&["daemonset", "kube-proxy", "-n", "kube-system"])["spec"]["template"]["spec"]["affinity"]
        .clone()
}

#[test]
fn a_control_plane_is_set_up_again_and_again_and_taken_out() {
    let world = World::new("init");
    let _cloud = world.cloud();
    world.apply(KUBE_PROXY);

    let told = init(&world, &[]);
    told.assert_status(0);
    let line = told.stdout.trim();
    assert!(
        line.starts_with(&format!("kedge join --cloudcore-ipport 127.0.0.1:{} --token ", world.ports.hub))
            && line.ends_with(&format!(" --certport {}", world.ports.cert))
            && line.lines().count() == 1,
        "{told:?}"
    );
    snapshot::said("init", &told);
    let patch = "kubectl -n kube-system patch daemonset kube-proxy --type merge -p '";
    assert!(
        told.stderr.contains("warn  DaemonSets that would land on edge nodes: kube-system/kube-proxy"),
        "{told:?}"
    );
    assert!(told.stderr.contains(patch), "{told:?}");
    assert!(affinity(&world).is_null(), "nothing is changed that nobody asked for");

    // What runs in the cluster is held to it: three replicas apart from each other, not on edge nodes, no root.
    let again = init(&world, &["--ha", "--keep-daemonsets-off-edge", "-o", "json"]);
    let outcomes_of_ha = outcomes(&again);
    assert!(
        again.stderr.contains("warn  machines for the replicas: 0") && again.stderr.contains("KE-INIT-013"),
        "{again:?}"
    );
    assert!(
        outcomes_of_ha.contains(&"PodDisruptionBudget kedge-cloud created".to_owned()),
        "{outcomes_of_ha:?}"
    );
    assert!(outcomes_of_ha.contains(&"Deployment kedge-cloud changed".to_owned()), "{outcomes_of_ha:?}");
    let deployment = world.get(&["deployment", "kedge-cloud", "-n", "kubeedge"]);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(pod["serviceAccountName"], ACCOUNT);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert!(
        pod["affinity"]
            .to_string()
            .contains(r#"{"key":"node-role.kubernetes.io/edge","operator":"DoesNotExist"}"#)
    );
    assert!(affinity(&world).to_string().contains("node-role.kubernetes.io/edge"));
    assert!(world.kubectl(&["get", "daemonset", "kedge-forward", "-n", "kubeedge"]).status == 0);
    // Another cloud with the same authority answers there: that is not the Deployment, whose pods have no machine.
    let other = init(&world, &["--ha", "--keep-daemonsets-off-edge", "--wait", "1s"]);
    let said = fails(&other, "KE-INIT-008", 5);
    assert!(said.what.contains("as it was applied") && said.why.contains("pod"), "{said:?}");
    assert!(other.stdout.is_empty(), "{other:?}");

    // A third time nothing is left to do.
    let third = outcomes(&init(&world, &["--ha", "--keep-daemonsets-off-edge", "-o", "json"]));
    assert!(third.iter().all(|it| it.ends_with(" unchanged")), "{third:?}");

    // Somebody's own change is not overwritten unless that is meant.
    let patch = r#"{"spec":{"replicas":2}}"#;
    world.kubectl_ok(&[
        "patch",
        "deployment",
        "kedge-cloud",
        "-n",
        "kubeedge",
        "--type",
        "merge",
        "-p",
        patch,
    ]);
    for dry in [&[][..], &["--dry-run"]] {
        let held = init(&world, &[&["--ha", "--set", "modules.cloudHub.nodeLimit=5"], dry].concat());
        held.assert_status(1);
        assert!(held.stderr.contains("KE-INIT-009") && held.stderr.contains(".spec.replicas"), "{held:?}");
        assert!(held.stderr.contains("nothing was changed"), "{held:?}");
        snapshot::failed(&held);
    }
    assert!(
        !standing(&world).contains("nodeLimit: 5\n"),
        "what is in the way is told before anything is changed"
    );
    // Whoever does not speak of replicas leaves as many as there are.
    let two = init(&world, &[]);
    two.assert_status(0);
    assert!(two.stderr.contains("  kept  2 replicas (--ha=false goes back to one)"), "{two:?}");
    let budget = world.get(&["poddisruptionbudget", "kedge-cloud", "-n", "kubeedge"]);
    assert_eq!(budget["spec"]["minAvailable"], 1);
    outcomes(&init(&world, &["--ha", "--force", "-o", "json"]));
    assert_eq!(world.get(&["deployment", "kedge-cloud", "-n", "kubeedge"])["spec"]["replicas"], 3);

    // Back to one replica: nothing is left that would hold its machine.
    let one = init(&world, &["--ha=false"]);
    one.assert_status(0);
    assert!(
        one.stderr.contains("PodDisruptionBudget kubeedge/kedge-cloud was for several replicas"),
        "{one:?}"
    );
    outcomes(&init(&world, &["--ha", "-o", "json"]));

    // Nobody keeps rules for a cloud that keeps its own, or for one that wants none.
    for off in ["mode=internal", "enable=false"] {
        let alone = init(&world, &["--ha", "--set", &format!("modules.iptablesManager.{off}")]);
        alone.assert_status(0);
        let gone = "DaemonSet kubeedge/kedge-forward was for the API server's way to nodes and is gone";
        assert!(alone.stderr.contains(gone) && !alone.stderr.contains("KE-INIT-014"), "{alone:?}");
        assert_ne!(world.kubectl(&["get", "serviceaccount", "kedge-forward", "-n", "kubeedge"]).status, 0);
        // It stays so until it is said otherwise.
        let still = outcomes(&init(&world, &["-o", "json"]));
        assert!(still.iter().all(|it| it.ends_with(" unchanged")), "{still:?}");
        let on = "modules.iptablesManager.mode=external,modules.iptablesManager.enable=true";
        let back = outcomes(&init(&world, &["--set", on, "-o", "json"]));
        assert!(back.contains(&"DaemonSet kedge-forward created".to_owned()), "{back:?}");
    }

    what_was_set_stays(&world);
    take_out(&world);
}

/// Again, with nothing said but which cluster is meant.
fn again(world: &World, extra: &[&str]) -> Run {
    let config = world.kubeconfig().display().to_string();
    kedge(&[&["init", "--yes", "--wait", "0", "--kube-config", &config], extra].concat())
}

/// The configuration as it stands in the cluster.
fn standing(world: &World) -> String {
    let map = world.get(&["configmap", ACCOUNT, "-n", "kubeedge"]);
    map["data"]["cloudcore.yaml"].as_str().unwrap().to_owned()
}

fn patch(world: &World, kind: &str, patch: &Value) {
    world.kubectl_ok(&[
        "patch",
        kind,
        ACCOUNT,
        "-n",
        "kubeedge",
        "--type",
        "merge",
        "-p",
        &patch.to_string(),
    ]);
}

/// What a former init was told, and what an operator has changed with kubectl since, is the ground of the next one.
fn what_was_set_stays(world: &World) {
    let written = format!("# as agreed\n{}", standing(world).replace("nodeLimit: 1000", "nodeLimit: 77"));
    patch(world, "configmap", &json!({"data": {"cloudcore.yaml": written}}));
    patch(world, "service", &json!({"spec": {"type": "NodePort"}}));
    let same = again(world, &["-o", "json"]);
    let objects = outcomes(&same);
    assert!(
        objects.contains(&"Deployment kedge-cloud changed".to_owned()),
        "it reads what was changed: {objects:?}"
    );
    assert_eq!(standing(world), written, "to the letter");
    let settled = outcomes(&again(world, &["-o", "json"]));
    assert!(settled.iter().all(|it| it.ends_with(" unchanged")), "{settled:?}");
    let hub = format!("modules.cloudHub.websocket.port={}", world.ports.hub);
    let kept: Value = serde_json::from_str(&same.stdout).unwrap();
    let kept: Vec<&str> = kept["kept"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for told in
        [&hub, "modules.cloudHub.nodeLimit=77", "3 replicas", "a Service of type NodePort", "127.0.0.1"]
    {
        assert!(kept.iter().any(|line| line.contains(told)), "{told} in {kept:?}");
        assert!(same.stderr.contains("  kept  ") && same.stderr.contains(told), "{told} in {same:?}");
    }
    let join = format!("kedge join --cloudcore-ipport 127.0.0.1:{} ", world.ports.hub);
    assert!(same.stdout.contains(&join), "{same:?}");

    // More is laid over it; what would be applied is shown first, and nobody's `--force` is asked for.
    let more = ["--set", "modules.cloudHub.keepaliveInterval=40", "--image", "registry.example/kedge:mine"];
    let dry = again(world, &[&more[..], &["--dry-run"]].concat());
    dry.assert_status(0);
    for told in
        ["nodeLimit: 77", "keepaliveInterval: 40", "image: registry.example/kedge:mine", "type: NodePort"]
    {
        assert!(dry.stdout.contains(told), "{told} in {dry:?}");
    }
    assert!(dry.stderr.contains("  kept  modules.cloudHub.nodeLimit=77"), "{dry:?}");
    assert_eq!(standing(world), written);
    outcomes(&again(world, &[&more[..], &["-o", "json"]].concat()));
    let both = standing(world);
    assert!(both.contains("nodeLimit: 77") && both.contains("keepaliveInterval: 40"), "{both}");

    // Other addresses take the place of the former ones, and no more.
    let moved = again(world, &["--advertise-address", "192.0.2.9,localhost"]);
    moved.assert_status(0);
    assert!(
        moved.stderr.contains("  kept  image registry.example/kedge:mine (--image names another)"),
        "{moved:?}"
    );
    let moved = standing(world);
    assert!(moved.contains("192.0.2.9") && moved.contains("localhost"), "{moved}");
    assert!(!moved.contains("127.0.0.1") && moved.contains("nodeLimit: 77"), "{moved}");
    // Their setting names them as well as their flag does, and leaves the names beside them.
    let set = again(world, &["--set", "modules.cloudHub.advertiseAddress={192.0.2.8}"]);
    set.assert_status(0);
    assert!(set.stderr.contains("ok    addresses for nodes: 192.0.2.8, localhost\n"), "{set:?}");
    assert!(set.stdout.contains("--cloudcore-ipport 192.0.2.8:"), "{set:?}");
    let set = standing(world);
    assert!(set.contains("localhost") && set.contains("192.0.2.8") && !set.contains("192.0.2.9"), "{set}");
    a_join_file_stays_while_it_is_good(world);
    again(world, &["--advertise-address", "127.0.0.1"]).assert_status(0);
    let deployment = world.get(&["deployment", ACCOUNT, "-n", "kubeedge"]);
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!((image, &deployment["spec"]["replicas"]), (&json!("registry.example/kedge:mine"), &json!(3)));
}

/// A join file may have been handed out: its token is not revoked without need, and not without a word.
fn a_join_file_stays_while_it_is_good(world: &World) {
    let path = world.dir.join("edge.yaml");
    let named = path.display().to_string();
    let write = |address: &str| -> (String, String) {
        let done = again(world, &["--advertise-address", address, "--join-file", &named]);
        done.assert_status(0);
        assert_eq!(done.stdout, format!("kedge join --join-file {named}\n"));
        (done.stderr, std::fs::read_to_string(&path).unwrap())
    };
    let (said, first) = write("192.0.2.7");
    assert!(said.contains("a join token, valid for 24 hours") && !said.contains("revoked"), "{said}");
    let (said, same) = write("192.0.2.7");
    assert!(said.contains("stays: its token is valid until") && !said.contains("revoked"), "{said}");
    assert_eq!(same, first);
    let (said, other) = write("192.0.2.6");
    assert!(said.contains("the token of the former") && said.contains("is revoked"), "{said}");
    assert_ne!(other, first);
}

fn reset(world: &World, args: &[&str]) -> Run {
    let config = world.kubeconfig().display().to_string();
    kedge(&[&["cloud", "reset", "--kube-config", &config], args].concat())
}

fn take_out(world: &World) {
    world.apply("apiVersion: devices.kubeedge.io/v1beta1\nkind: DeviceModel\nmetadata: {name: mine}\nspec: {properties: []}\n");
    let there = || world.kubectl(&["get", "clusterrole", ACCOUNT]).status == 0;
    let cluster = world.kubectl_ok(&["config", "view", "-o", "jsonpath={.contexts[0].context.cluster}"]);

    // Only who types the name means it.
    for args in [&[][..], &["--yes-i-mean", "another"]] {
        let refused = reset(world, args);
        refused.assert_status(2);
        assert!(refused.stderr.contains("KE-CLOUD-033") && refused.stderr.contains(&cluster), "{refused:?}");
        snapshot::failed(&refused);
    }
    world.kubectl_ok(&["create", "configmap", "of-mine", "-n", "kubeedge", "--from-literal=a=b"]);
    let dry = reset(world, &["--dry-run"]);
    dry.assert_status(0);
    assert!(
        dry.stdout.contains("ClusterRole kedge-cloud")
            && dry.stdout.contains("DaemonSet kubeedge/kedge-forward")
            && dry.stdout.contains("DaemonSet kube-system/kube-proxy"),
        "{dry:?}"
    );
    let config = world.kubeconfig().display().to_string();
    let other = kedge(&["reset", "cloud", "--kube-config", &config, "--dry-run"]);
    assert_eq!((other.status, &other.stdout), (0, &dry.stdout), "the other spelling");
    snapshot::said("reset cloud --dry-run", &other);
    assert!(there());

    let done = reset(world, &["--yes-i-mean", &cluster]);
    done.assert_status(0);
    snapshot::said("cloud reset --yes-i-mean CLUSTER", &done);
    assert!(
        done.stderr
            .contains("kept: CustomResourceDefinition devicemodels.devices.kubeedge.io: 1 object of yours"),
        "{done:?}"
    );
    assert!(
        done.stderr
            .contains("kept: Namespace kubeedge with its Secrets: ConfigMap kubeedge/of-mine is in it"),
        "{done:?}"
    );
    assert_eq!(world.get(&["configmap", "of-mine", "-n", "kubeedge"])["data"]["a"], "b");
    assert!(!there());
    assert!(affinity(world).is_null(), "{}", affinity(world));
    assert_eq!(world.kubectl_ok(&["get", "devicemodel", "mine", "-o", "name"]).lines().count(), 1);
    for kind in ["deployment", "service", "serviceaccount", "configmap"] {
        eventually(&format!("the {kind} is gone"), SOON, || {
            match world.kubectl(&["get", kind, ACCOUNT, "-n", "kubeedge"]).status {
                0 => Err("there"),
                _ => Ok(()),
            }
        });
    }
    let purged = reset(world, &["--yes-i-mean", &cluster, "--purge"]);
    purged.assert_status(0);
    snapshot::said("cloud reset --yes-i-mean CLUSTER --purge", &purged);
    assert!(purged.stderr.contains("removed: Namespace kubeedge"), "{purged:?}");
    eventually("the definitions are gone", SOON, || {
        match world.kubectl(&["get", "crd", "devicemodels.devices.kubeedge.io"]).status {
            0 => Err("there"),
            _ => Ok(()),
        }
    });
}

#[test]
fn a_dry_run_prints_what_kubectl_applies_and_changes_nothing() {
    let world = World::new("init-dry");
    let _cloud = world.cloud();
    let dry =
        init(&world, &["--dry-run", "--ha", "--set", "cloudCore.modules.dynamicController.enable=true"]);
    dry.assert_status(0);
    assert!(!dry.stdout.contains("kind: Secret") && dry.stdout.contains("kedge-cloud-as-nodes"), "{dry:?}");
    assert_ne!(world.kubectl(&["get", "clusterrole", ACCOUNT]).status, 0);
    world.apply(&dry.stdout);
    for object in ["clusterrole/kedge-cloud", "crd/devices.devices.kubeedge.io"] {
        world.kubectl_ok(&["get", object]);
    }
    world.kubectl_ok(&["get", "deployment/kedge-cloud", "poddisruptionbudget/kedge-cloud", "-n", "kubeedge"]);
    world.kubectl_ok(&["get", "daemonset/kedge-forward", "role/kedge-forward", "-n", "kubeedge"]);
    // Without a cluster at hand the same is printed, and nothing is looked at.
    let mut alone = std::process::Command::new(crate::support::binary());
    alone.args(["init", "--dry-run", "--advertise-address", "203.0.113.5"]);
    alone.env("HOME", &world.dir).env_remove("KUBECONFIG");
    let alone: Run = alone.output().unwrap().into();
    alone.assert_status(0);
    assert!(alone.stderr.contains("was not looked at") && alone.stdout.contains("203.0.113.5"), "{alone:?}");
}

/// A kubeconfig like the world's with another user or server.
fn kubeconfig(world: &World, name: &str, edit: impl Fn(&mut Value)) -> PathBuf {
    let mut config: Value =
        serde_json::from_str(&world.kubectl_ok(&["config", "view", "--raw", "-o", "json"])).unwrap();
    edit(&mut config);
    let path = world.dir.join(name);
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

/// A token of a service account.
fn token(world: &World, namespace: &str, account: &str) -> String {
    let request = world.dir.join("token-request.json");
    std::fs::write(&request, r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}"#)
        .unwrap();
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    let answer = world.kubectl_ok(&["create", "--raw", &path, "-f", request.to_str().unwrap()]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// An API server that says only which version it is.
fn old_api() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let body = r#"{"major":"1","minor":"27+","gitVersion":"v1.27.9"}"#;
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            drop((&stream).write_all((head + body).as_bytes()));
        }
    });
    format!("http://{address}")
}

fn init_with(config: &Path, extra: &[&str]) -> Run {
    let config = config.display().to_string();
    kedge(&[&["init", "--yes", "--kube-config", &config, "--advertise-address", "127.0.0.1"], extra].concat())
}

#[track_caller]
fn refused(run: &Run, status: i32, words: &[&str]) {
    run.assert_status(status);
    for word in words {
        assert!(run.stderr.contains(word), "{word} in {run:?}");
    }
    snapshot::failed(run);
}

#[test]
fn what_stands_in_the_way_is_told_before_anything_is_changed() {
    let world = World::new("init-refused");
    let _cloud = world.cloud();
    let mut errors = Errors::default();
    let mut refused = |run: &Run, status: i32, words: &[&str]| {
        refused(run, status, words);
        let named = words.iter().find(|word| word.starts_with("KE-"));
        match status {
            // What was typed wrongly is told by the parser.
            2 => return,
            10 => drop(fails(run, "KE-INIT-010", 10)),
            _ => drop(fails(run, named.unwrap(), status)),
        }
        errors.keep(run);
    };
    let absent = world.dir.join("absent");
    refused(&init_with(&absent, &[]), 3, &["KE-KUBE-003", "--kube-config"]);
    let nonsense = world.dir.join("nonsense");
    std::fs::write(&nonsense, "clusters: 5").unwrap();
    refused(&init_with(&nonsense, &[]), 3, &["KE-KUBE-003", "nonsense"]);
    std::fs::write(&nonsense, "apiVersion: v1\nkind: Config\ncurrent-context: x\n").unwrap();
    refused(&init_with(&nonsense, &[]), 3, &["KE-KUBE-003", "\"x\" is not in it"]);

    std::fs::write(&nonsense, "users:\n- name: u\n  user:\n    token: SECRETSECRET\n   other: x\n").unwrap();
    let torn = init_with(&nonsense, &[]);
    assert!(!torn.stderr.contains("SECRET"), "{torn:?}");
    crate::init::refused(&torn, 3, &["KE-KUBE-003", "at line "]);
    for flags in [&["--ha"][..], &["--image", "kedge:2"]] {
        let apart = [&["--mode", "host"], flags].concat();
        refused(&init_with(&absent, &apart), 2, &["KE-INIT-015", flags[0], "leave"]);
    }
    refused(&init_with(&absent, &["--image", "bad image:::"]), 2, &["an image is expected"]);

    let [nobody] = free_ports();
    let server =
        |url: String| move |config: &mut Value| config["clusters"][0]["cluster"] = json!({"server": url});
    let silent = kubeconfig(&world, "silent", server(format!("https://127.0.0.1:{nobody}")));
    refused(&init_with(&silent, &[]), 4, &["KE-INIT-001", "does not answer"]);
    let old = kubeconfig(&world, "old", |config| {
        server(old_api())(config);
        config["users"][0]["user"] = json!({});
    });
    refused(
        &init_with(&old, &[]),
        10,
        &["FAIL  Kubernetes version: v1.27.9", "1.30 or newer", "KE-INIT-002"],
    );

    // A user without rights hears which ones are missing, and nothing is written.
    let weak = token(&world, "default", "default");
    let weak = kubeconfig(&world, "weak", |config| config["users"][0]["user"] = json!({"token": weak}));
    let words = [
        "KE-INIT-003",
        "patch customresourcedefinitions.apiextensions.k8s.io",
        "create secrets in kubeedge",
        "create nodes",
    ];
    refused(&init_with(&weak, &[]), 10, &words);
    assert_ne!(world.kubectl(&["get", "clusterrole", ACCOUNT]).status, 0);

    refused(&init(&world, &["--set", "modules.cloudHub.nodeLimitt=5"]), 2, &["KE-CONFIG-003", "nodeLimit"]);
    refused(
        &init(&world, &["--set", "modules.cloudHub.tokenRefreshDuration=0"]),
        3,
        &["KE-CONFIG-002", "tokenRefreshDuration"],
    );
    for nowhere in ["a:1", "0.0.0.0", "::", "999.1.1.1", "224.0.0.1", ""] {
        refused(&init(&world, &["--advertise-address", nowhere]), 2, &["--advertise-address <ADDRESS>"]);
    }
    let twice = format!("modules.router.enable=true,modules.router.port={}", world.ports.hub);
    crate::init::refused(
        &init(&world, &["--set", &twice]),
        3,
        &["KE-CONFIG-002", "is also that of modules.cloudHub"],
    );
    let apart = init(&world, &["--set", "kedge.embedded=true"]);
    crate::init::refused(&apart, 2, &["KE-INIT-015", "kedge cloud run --embedded"]);
    let unwritable = world.dir.join("absent/edge.yaml").display().to_string();
    refused(&init(&world, &["--join-file", &unwritable]), 1, &["KE-FILE-001", "nothing was changed"]);
    // A name at which nobody can serve; the flag adds to that of the world.
    let nowhere = init(&world, &["--advertise-address", "no-such-cloud.invalid"]);
    crate::init::refused(
        &nowhere,
        10,
        &["FAIL  addresses for nodes", "no-such-cloud.invalid cannot be resolved", "KE-INIT-006"],
    );
    assert_ne!(world.kubectl(&["get", "clusterrole", ACCOUNT]).status, 0);

    // Nobody says under which address nodes reach it, and the cluster has no machine that could tell.
    let config = world.kubeconfig().display().to_string();
    refused(
        &kedge(&["init", "--yes", "--kube-config", &config]),
        10,
        &["KE-INIT-006", "--advertise-address"],
    );
    // All is applied, and where the cloud should serve nobody does.
    let port = format!("modules.cloudHub.https.port={nobody}");
    let flags = flags(&world);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let silent = kedge(&[&["init", "--yes", "--wait", "1s"], &flags[..], &["--set", &port]].concat());
    let said = fails(&silent, "KE-INIT-008", 5);
    assert!(said.why.contains("kedge-cloud") && said.fix.contains("again"), "{said:?}");

    // What stands there is built on; what cannot be read is not written over.
    let version =
        || world.get(&["configmap", ACCOUNT, "-n", "kubeedge"])["metadata"]["resourceVersion"].clone();
    for nonsense in
        ["modules: [", "only words", "kind: EdgeCore\n", "modules: {cloudHub: {nodeLimit: many}}\n"]
    {
        patch(&world, "configmap", &json!({"data": {"cloudcore.yaml": nonsense}}));
        let before = version();
        let code =
            if nonsense.contains(": ") && !nonsense.contains('[') { "KE-CONFIG-002" } else { "KE-INIT-016" };
        refused(&init(&world, &[]), 3, &[code, "ConfigMap kubeedge/kedge-cloud"]);
        crate::init::refused(&init(&world, &["--dry-run"]), 3, &[code]);
        assert_eq!(version(), before);
    }
    world.kubectl_ok(&["delete", "configmap", ACCOUNT, "-n", "kubeedge"]);
    too_few_machines(&world, &mut refused);

    // Two clouds for the same nodes are one too many.
    world.apply("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: cloudcore, namespace: kubeedge}\nspec:\n  selector: {matchLabels: {a: b}}\n  template:\n    metadata: {labels: {a: b}}\n    spec: {containers: [{name: c, image: \"kubeedge/cloudcore:v1.23.1\"}]}\n");
    let words =
        ["KE-INIT-005", "image kubeedge/cloudcore:v1.23.1", "scale deployment cloudcore --replicas=0"];
    refused(&init(&world, &[]), 10, &words);

    nameless_and_going(&world, &mut refused);

    // A port that is held on this machine.
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let set = format!("modules.cloudHub.https.port={port}");
    let taken = init(&world, &["--mode", "host", "--dry-run", "--set", &set]);
    let pid = std::process::id().to_string();
    // What a dry run has found stands among its findings.
    assert_eq!(taken.status, 10, "{taken:?}");
    for word in ["FAIL  the certificate service's port", &pid, "KE-PORT-001"] {
        assert!(taken.stderr.contains(word), "{word} in {taken:?}");
    }
    errors.are_as_committed(
        "init-errors",
        &[(world.dir.to_str().unwrap(), "DIR"), (&nobody.to_string(), "PORT")],
    );
}

/// A cluster to which its kubeconfig gives no name is not taken out by who types none; and what is on its way out is
/// not built in.
fn nameless_and_going(world: &World, refused: &mut impl FnMut(&Run, i32, &[&str])) {
    let nameless = kubeconfig(world, "nameless", |config| {
        config["current-context"] = json!("");
        config["clusters"][0]["name"] = json!("");
        config["contexts"][0]["name"] = json!("");
        config["contexts"][0]["context"]["cluster"] = json!("");
    });
    let nameless = nameless.display().to_string();
    for typed in [&[][..], &["--yes-i-mean", ""]] {
        let held = kedge(&[&["cloud", "reset", "--kube-config", &nameless], typed].concat());
        crate::init::refused(&held, 2, &["KE-CLOUD-033", "--yes-i-mean https://"]);
    }
    world.kubectl_ok(&["get", "clusterrole", ACCOUNT]);

    world.kubectl_ok(&["delete", "deployment", "cloudcore", "-n", "kubeedge"]);
    world.kubectl_ok(&["create", "configmap", "stuck", "-n", "kubeedge", "--from-literal=a=b"]);
    let finalizers = |list: Value| {
        let patch = json!({"metadata": {"finalizers": list}}).to_string();
        world.kubectl_ok(&["patch", "configmap", "stuck", "-n", "kubeedge", "--type", "merge", "-p", &patch]);
    };
    finalizers(json!(["example.com/x"]));
    world.kubectl_ok(&["delete", "namespace", "kubeedge", "--wait=false"]);
    let config = world.kubeconfig();
    refused(&init_with(&config, &[]), 10, &["KE-INIT-017", "kubectl wait --for=delete namespace/kubeedge"]);
    finalizers(Value::Null);
}

/// Machines that the scheduler would not give the cloud, and addresses at which one replica cannot serve.
fn too_few_machines(world: &World, refused: &mut impl FnMut(&Run, i32, &[&str])) {
    world.apply(
        "apiVersion: v1\nkind: Node\nmetadata: {name: m-1}\n---\napiVersion: v1\nkind: Node\nmetadata: {name: m-2}\nspec: {unschedulable: true}\n---\napiVersion: v1\nkind: Node\nmetadata: {name: m-3}\nspec: {taints: [{key: dedicated, value: db, effect: NoSchedule}]}\n---\napiVersion: v1\nkind: Node\nmetadata: {name: edge, labels: {node-role.kubernetes.io/edge: \"\"}}\n",
    );
    for (number, name) in ["m-1", "m-2", "m-3"].iter().enumerate() {
        let address = json!([{"type": "InternalIP", "address": format!("192.0.2.{}", number + 1)}]);
        let status = json!({"status": {"addresses": address}}).to_string();
        world.kubectl_ok(&["patch", "node", name, "--subresource=status", "--type", "merge", "-p", &status]);
    }
    let config = world.kubeconfig().display().to_string();
    let init = |extra: &[&str]| kedge(&[&["init", "--yes", "--kube-config", &config], extra].concat());
    let told = init(&["--ha", "--dry-run", "--advertise-address", "203.0.113.5"]);
    told.assert_status(0);
    for word in [
        "warn  machines for the replicas: ",
        "not m-2: it is cordoned",
        "not m-3: it has the taint dedicated=db:NoSchedule",
        "`kubectl ",
        "or init with --ha=false [KE-INIT-013]",
    ] {
        assert!(told.stderr.contains(word), "{word} in {told:?}");
    }
    // A pod without a machine must not keep the others from being replaced.
    assert!(told.stdout.contains("maxUnavailable: 3") && told.stdout.contains("maxSurge: 0"), "{told:?}");
    let apart = init(&["--advertise-address", "192.0.2.1,192.0.2.2"]);
    refused(&apart, 10, &["KE-INIT-006", "addresses of several machines", "--ha"]);
    world.kubectl_ok(&["delete", "node", "m-1", "m-2", "m-3", "edge"]);
}

/// A cloud of its own with a service account's rights only.
struct Held {
    dir: PathBuf,
    hub: u16,
    cert: u16,
    stream: u16,
    tunnel: u16,
    mqtt: u16,
}

impl Held {
    fn new(world: &World) -> Held {
        let [hub, cert, stream, tunnel, mqtt] = free_ports();
        let dir = world.dir.join("held");
        std::fs::create_dir_all(&dir).unwrap();
        Held { dir, hub, cert, stream, tunnel, mqtt }
    }

    fn config(&self, access: &Path) -> PathBuf {
        let at = |path: &str| self.dir.join(path).display().to_string();
        let config = json!({
            "kubeAPIConfig": {"kubeConfig": access},
            "modules": {
                "cloudHub": {
                    "advertiseAddress": ["127.0.0.1"],
                    "tlsCAFile": at("ca/rootCA.crt"), "tlsCAKeyFile": at("ca/rootCA.key"),
                    "tlsCertFile": at("certs/server.crt"), "tlsPrivateKeyFile": at("certs/server.key"),
                    "websocket": {"port": self.hub}, "https": {"port": self.cert},
                },
                "cloudStream": {"enable": true, "streamPort": self.stream, "tunnelPort": self.tunnel,
                    "tlsStreamCAFile": at("ca/streamCA.crt"), "tlsStreamCertFile": at("certs/stream.crt"),
                    "tlsStreamPrivateKeyFile": at("certs/stream.key")},
                "taskManager": {"enable": true},
                "router": {"enable": false},
                "iptablesManager": {"mode": "external"},
            },
            "kedge": {"dataDir": at("data"), "streamFromCluster": true},
        });
        let path = self.dir.join("cloudcore.yaml");
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    fn edge_line(&self, world: &World, token: &str) -> Vec<String> {
        let line = format!(
            "edge run --data-dir {} --node edge-1 --cloud 127.0.0.1 --hub-port {} --cert-port {} --tunnel-port {} --mqtt-port {} --token {token}",
            world.data_dir().display(),
            self.hub,
            self.cert,
            self.tunnel,
            self.mqtt
        );
        line.split(' ').map(str::to_owned).collect()
    }

    /// The log of a pod, asked for as the API server asks.
    fn log(&self, identity: Option<&Identity>, path: &str) -> Result<(u16, String), String> {
        let tls = match identity {
            Some(_) => {
                let ca = std::fs::read_to_string(self.dir.join("ca.pem")).unwrap();
                client_config(&ca, identity).unwrap()
            }
            None => unverified_client_config().unwrap(),
        };
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: self.stream };
        let request = http::Request::get(path).body(Full::<Bytes>::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(fetch(&endpoint, tls, request, 1 << 20, Duration::from_secs(20)));
        let (status, body) = answer.map_err(|error| error.to_string())?;
        Ok((status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
    }
}

const WORK: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: app}
data: {greeting: hello}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec:
      restartPolicy: Never
      nodeName: edge-1
      containers:
      - {name: main, image: "kedge.local/busybox:1", command: [sh, -c, "echo done"]}
---
apiVersion: v1
kind: Pod
metadata: {name: app}
spec:
  nodeName: edge-1
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: kedge.local/busybox:1
    command: [sh, -c, "echo said $GREETING; exec sleep 100000"]
    env: [{name: GREETING, valueFrom: {configMapKeyRef: {name: app, key: greeting}}}]
---
apiVersion: operations.kubeedge.io/v1alpha2
kind: ImagePrePullJob
metadata: {name: pull}
spec:
  imagePrePullTemplate:
    images: ["kedge.local/busybox:1"]
    nodeNames: [edge-1]
    timeoutSeconds: 60
"#;

/// Every line in which the API says that it refused the cloud's account.
fn forbidden(world: &World) -> Vec<String> {
    let log = world.whole_log("cloud.err");
    let ours = format!("system:serviceaccount:kubeedge:{ACCOUNT}");
    log.lines()
        .filter(|line| line.contains("a request is forbidden") && line.contains(&ours))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_cloud_does_all_its_work_with_the_rights_of_its_role_alone() {
    install_crypto_provider();
    let world = World::new("init-rights");
    let _api = world.cloud();
    init(&world, &[]).assert_status(0);
    // The Deployment would be another cloud in this cluster, which has no machine for it; only the rights are wanted.
    let held = Held::new(&world);
    let access = token(&world, "kubeedge", ACCOUNT);
    let access =
        kubeconfig(&world, "held.kubeconfig", |config| config["users"][0]["user"] = json!({"token": access}));
    let line = ["cloud", "run", "--config", held.config(&access).to_str().unwrap()].map(str::to_owned);
    let mut cloud = world.start("held", &line);
    cloud.wait_for("ready", SOON);
    let token = world.kedge(&["gettoken"]).stdout.trim().to_owned();
    let _edge = world.start("edge", &held.edge_line(&world, &token));
    world.wait_value(&["node", "edge-1"], "/metadata/name", &json!("edge-1"), SOON);
    eventually("edge-1 is Ready", SOON, || {
        let status = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        let got = world.kubectl(&["get", "node", "edge-1", "-o", status]);
        if got.stdout == "True" { Ok(()) } else { Err(got) }
    });

    world.apply(WORK);
    world.apply(crate::devices::THERMOMETER);
    world.wait_value(&["pod", "app"], "/status/phase", &json!("Running"), SOON);
    world.wait_value(&["job", "once"], "/status/succeeded", &json!(1), SOON);
    // There is no registry, so the image cannot be pulled anew; that the node said so is written all the same.
    world.wait_value(&["imageprepulljob", "pull"], "/status/phase", &json!("Failure"), SOON);
    crate::devices::known(&world, "t1");
    let topic = "$hw/events/device/default/t1/twin/update";
    let twin = r#"{"event_id":"e1","timestamp":1,"twin":{"temperature":{"actual":{"value":"21.5"},"metadata":{"type":"float"}}}}"#;
    eventually("the twin reaches the cloud", SOON, || {
        let port = held.mqtt.to_string();
        run("mosquitto_pub", &["-p", &port, "-t", topic, "-m", twin, "-q", "1"]).assert_status(0);
        match crate::devices::reported(&world, "t1", "temperature") {
            Some(value) if value == "21.5" => Ok(()),
            other => Err(other),
        }
    });
    let patch = r#"{"data":{"greeting":"bye"}}"#;
    world.kubectl_ok(&["patch", "configmap", "app", "--type", "merge", "-p", patch]);
    logs(&world, &held);
    world.kubectl_ok(&["delete", "pod", "app"]);
    world.kubectl_ok(&["delete", "device", "t1"]);

    let refused = forbidden(&world);
    assert!(refused.is_empty(), "the role lacks:\n{}", refused.join("\n"));
    // And the log would tell: one thing that is not allowed stands there at once.
    let config = access.display().to_string();
    assert_ne!(run("kubectl", &["--kubeconfig", &config, "get", "deployments", "-n", "default"]).status, 0);
    assert!(!forbidden(&world).is_empty());
    // The role is no more than that: others' Secrets are not its to write.
    for wish in [
        &["create", "secrets", "-n", "default"][..],
        &["delete", "nodes"],
        &["impersonate", "users"],
        &["update", "clusterroles"],
    ] {
        let args = [&["--kubeconfig", &config, "auth", "can-i"], wish].concat();
        assert!(run("kubectl", &args).stdout.starts_with("no"), "{wish:?}");
    }
    way_to_nodes(&world, &held, cloud, &line);
}

/// The cloud's port stands in the cluster's record and in the Node; a cloud without the rights for that says so and
/// serves all the same.
fn way_to_nodes(world: &World, held: &Held, mut cloud: Daemon, line: &[String]) {
    const RECORD: [&str; 4] = ["configmap", "tunnelport", "-n", "kubeedge"];
    world.wait_value(
        &["node", "edge-1"],
        "/status/daemonEndpoints/kubeletEndpoint/Port",
        &json!(10351),
        SOON,
    );
    let record = world.get(&RECORD)["metadata"]["annotations"]["tunnelportrecord.kubeedge.io"].clone();
    let record: Value = serde_json::from_str(record.as_str().unwrap()).unwrap();
    let address = record["ipTunnelPort"].as_object().unwrap().keys().next().unwrap().clone();
    assert_eq!(record, json!({"ipTunnelPort": {&address: 10351}, "port": {"10351": true}}));
    let shown = |config: &Path| {
        let (config, port) = (config.display().to_string(), held.stream.to_string());
        kedge(&["cloud", "forward", "--kube-config", &config, "--forward-port", &port, "--dry-run"])
    };
    let rules = shown(&world.kubeconfig());
    rules.assert_status(0);
    let rule = format!(
        "-A TUNNEL-PORT -p tcp -m tcp --dport 10351 -j DNAT --to-destination {address}:{}\n",
        held.stream
    );
    assert_eq!(rules.stdout, rule);
    let nobody = token(world, "default", "default");
    let nobody = kubeconfig(world, "nobody.kubeconfig", |config| {
        config["users"][0]["user"] = json!({"token": nobody})
    });
    let blind = shown(&nobody);
    blind.assert_status(1);
    assert!(blind.stderr.contains("KE-STREAM-012") && blind.stderr.contains("forbidden"), "{blind:?}");

    let mut without = |rights: &[&str], code: &str| {
        world.kubectl_ok(rights);
        // The next one needs its place.
        cloud.kill();
        cloud = world.start("held", line);
        cloud.wait_for("ready", SOON);
        eventually(code, SOON, || {
            let log = world.log("held.err");
            if log.contains(code) { Ok(()) } else { Err(log) }
        });
    };
    let role = world.get(&["clusterrole", ACCOUNT]);
    let rules = role["rules"].as_array().unwrap();
    let status = rules.iter().position(|rule| rule["resources"][0] == "nodes/status").unwrap();
    let patch =
        json!([{"op": "replace", "path": format!("/rules/{status}/resources"), "value": ["pods/status"]}]);
    without(&["patch", "clusterrole", ACCOUNT, "--type", "json", "-p", &patch.to_string()], "KE-STREAM-011");
    world.kubectl_ok(&[&["delete"], &RECORD[..]].concat());
    let role = world.get(&["role", ACCOUNT, "-n", "kubeedge"]);
    let rules = role["rules"].as_array().unwrap();
    let create = rules.iter().position(|rule| rule["resources"][0] == "configmaps").unwrap();
    let patch = json!([{"op": "remove", "path": format!("/rules/{create}")}]).to_string();
    without(&["patch", "role", ACCOUNT, "-n", "kubeedge", "--type", "json", "-p", &patch], "KE-STREAM-010");
}

/// Whom the cluster's authority vouches for and who may reach nodes reads logs; nobody else does.
fn logs(world: &World, held: &Held) {
    use base64::Engine;
    let config: Value =
        serde_json::from_str(&world.kubectl_ok(&["config", "view", "--raw", "-o", "json"])).unwrap();
    let pem = |pointer: &str| {
        let text = config.pointer(pointer).and_then(Value::as_str).unwrap();
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap()
    };
    let admin = Identity {
        cert_pem: pem("/users/0/user/client-certificate-data"),
        key_pem: pem("/users/0/user/client-key-data"),
    };
    let secret = world.get(&["secret", "casecret", "-n", "kubeedge"]);
    let der =
        base64::engine::general_purpose::STANDARD.decode(secret["data"]["cadata"].as_str().unwrap()).unwrap();
    std::fs::write(held.dir.join("ca.pem"), kedge::pki::pem_certificate(&der)).unwrap();
    let path = "/containerLogs/default/app/main";
    eventually("the log comes through the tunnel", SOON, || match held.log(Some(&admin), path) {
        Ok((200, text)) if text.contains("said hello") => Ok(()),
        other => Err(other),
    });
    let (status, text) = held.log(None, path).unwrap();
    assert_eq!(status, 401, "nobody without a certificate or a token of the cluster: {text}");
    // A user of the cluster whom nobody lets reach nodes; the API's own authority signs him.
    let pki = world.data_dir().join("api/pki");
    let authority = kedge::pki::Authority::load_or_create(&pki, "ca", "x").unwrap();
    let user = authority.issue_client("somebody", &["people"], 1).unwrap();
    let (status, text) = held.log(Some(&user), path).unwrap();
    assert_eq!(status, 403, "{text}");
}

#[test]
fn a_cloud_on_a_machine_of_its_own_comes_and_goes_without_a_trace() {
    let world = World::new("init-host");
    let house = House::new(&world, "cloud-1");
    let _api = house.cloud();
    let before = house.changed_files();
    let address = house.address().to_owned();
    let set = "modules.cloudHub.websocket.port=24000,modules.cloudHub.https.port=24002,modules.cloudStream.streamPort=24003,modules.cloudStream.tunnelPort=24004,kedge.dataDir=/var/lib/kedge/cloud";
    let args = [
        "init",
        "--yes",
        "--mode",
        "host",
        "--kube-config",
        KUBECONFIG,
        "--advertise-address",
        &address,
        "--set",
        set,
    ];
    let dry = house.kedge(&[&args[..], &["--dry-run"]].concat());
    dry.assert_status(0);
    assert!(
        dry.stderr.contains("/etc/kubeedge/cloud.kubeconfig") && !dry.stdout.contains("kind: Deployment"),
        "{dry:?}"
    );
    assert_eq!(house.changed_files(), before);

    // Where nothing can be written, nothing is applied either.
    house.run("mount", &["--bind", "/etc", "/etc"]).assert_status(0);
    house.run("mount", &["-o", "remount,bind,ro", "/etc"]).assert_status(0);
    let said = fails(&house.kedge(&args), "KE-INIT-010", 10);
    assert!(said.why.contains("KE-DISK-002") && said.fix.contains("remount,rw"), "{said:?}");
    assert_ne!(house.kubectl(&["get", "clusterrole", ACCOUNT]).status, 0);
    house.run("umount", &["-l", "/etc"]).assert_status(0);

    // Somebody who is not root, and a binary that is gone by the time it is to be installed.
    house.write("/tmp/access", house.read(KUBECONFIG));
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/local/bin/kedge"];
    let of_nobody = args.map(|arg| if arg == KUBECONFIG { "/tmp/access" } else { arg });
    let refused = house.run("setpriv", &[&nobody[..], &of_nobody].concat());
    let said = fails(&refused, "KE-INIT-010", 10);
    assert!(said.why.contains("KE-INIT-011") && said.fix.contains("sudo"), "{said:?}");
    let gone = "cp /usr/local/bin/kedge /tmp/kedge && exec 9< /tmp/kedge && rm /tmp/kedge && exec /proc/self/fd/9 \"$@\"";
    let gone = house.run("sh", &[&["-c", gone, "sh"], &args[..]].concat());
    let said = fails(&gone, "KE-INIT-012", 1);
    assert!(said.why.contains("/tmp/kedge") && said.fix.contains("/usr/local/bin/kedge"), "{said:?}");

    let done = house.kedge(&args);
    done.assert_status(0);
    assert!(
        done.stdout.starts_with(&format!("kedge join --cloudcore-ipport {address}:24000 --token ")),
        "{done:?}"
    );
    assert!(done.stderr.contains(&format!("the cloud serves at {address}")), "{done:?}");
    snapshot::said("init --mode host", &done);
    let served = house.processes();
    assert!(
        served.iter().any(|line| line.contains("cloud run --config /etc/kubeedge/config/cloudcore.yaml")),
        "{served:?}"
    );
    assert!(!house.read("/etc/kubeedge/cloud.kubeconfig").contains("client-key-data"));
    let mode = house.run("stat", &["-c", "%a", "/etc/kubeedge/cloud.kubeconfig"]);
    assert_eq!(mode.stdout.trim(), "600");

    // An API server that asks a node for a log is led to the cloud, whose certificate it sees.
    let rules = || house.run("iptables", &["-t", "nat", "-S"]).stdout;
    let lead = format!("--dport 10351 -j DNAT --to-destination {address}:24003");
    eventually("the rules of the API server's way", SOON, || {
        let rules = rules();
        if rules.contains(&lead) { Ok(()) } else { Err(rules) }
    });
    let node = "https://198.51.100.7:10351/containerLogs/default/app/main";
    let asked = house.run("curl", &["-k", "-s", "-S", "-v", "--max-time", "10", node]);
    assert!(asked.stderr.contains("issuer: CN=KubeEdge"), "{asked:?}");

    by_itself(&house);
    settings_stay(&house, &address);

    // Again: the same service, and it reads what was changed.
    let moved = set.replace("24002", "24005");
    let args: Vec<&str> = args.iter().map(|arg| if *arg == set { moved.as_str() } else { arg }).collect();
    let again = house.kedge(&args);
    again.assert_status(0);
    assert!(again.stdout.contains(" --certport 24005"), "{again:?}");

    // What kedge itself has changed since goes with the rest, and a cluster that is gone does not hold it.
    let cloudcore = "/etc/kubeedge/config/cloudcore.yaml";
    house.kedge(&["config", "set", "--config", cloudcore, "modules.cloudHub.nodeLimit=77"]).assert_status(0);
    let cluster = house.kubectl(&["config", "view", "-o", "jsonpath={.contexts[0].context.cluster}"]).stdout;
    let reset = ["reset", "--kube-config", KUBECONFIG, "--yes-i-mean", &cluster];
    house.write("/srv/gone", house.read(KUBECONFIG).replace(":6443", ":9"));
    let lost = ["cloud", "reset", "--kube-config", "/srv/gone", "--yes-i-mean", &cluster];
    let shown = house.kedge(&[&lost[..], &["--dry-run"]].concat());
    assert!(shown.status == 1 && shown.stdout.contains("this machine: "), "{shown:?}");
    let lost = house.kedge(&lost);
    assert!(lost.status == 1 && lost.stderr.contains("KE-CLOUD-032"), "{lost:?}");
    assert!(lost.stderr.contains("cannot remove the cluster's part"), "{lost:?}");
    assert!(!house.has("/etc/kubeedge/cloud.kubeconfig"));
    assert_eq!(house.kubectl(&["get", "clusterrole", ACCOUNT]).status, 0);
    let gone = house.kedge(&[&["cloud"][..], &reset].concat());
    gone.assert_status(0);
    let left = house.processes();
    assert!(!left.iter().any(|line| line.contains("cloud run --config")), "{left:?}");
    assert!(!house.has("/etc/kubeedge/cloud.kubeconfig"));
    assert!(!rules().contains("TUNNEL-PORT"), "{}", rules());
    assert_eq!(
        house.read("/etc/kubeedge/config/cloudcore.yaml").lines().count(),
        5,
        "what was there is back"
    );
}

/// On the machine of the cloud no kubeconfig needs to be named, and its account's limits are no fault of the cluster.
fn by_itself(house: &House) {
    house.run("rm", &["-rf", "/root/.kube"]).assert_status(0);
    for line in [
        &["token", "create", "--uses", "1"][..],
        &["token", "list"],
        &["gettoken"],
        &["cert", "ca", "--hash"],
    ] {
        let done = house.kedge(line);
        assert!(done.status == 0 && !done.stdout.is_empty(), "{line:?}: {done:?}");
    }
    let doctor = ["doctor", "--role", "cloud", "--only", "KE-CRD-010,KE-SCHED-001,KE-CERT-030"];
    house.kedge(&doctor).assert_status(0);
    house.kedge(&[&doctor[..], &["--kube-config", KUBECONFIG]].concat()).assert_status(0);
    // And who would put another into the cluster hears of it.
    let other = ["init", "--dry-run", "--kube-config", KUBECONFIG, "--advertise-address", "192.0.2.1"];
    let other = house.kedge(&other);
    assert!(
        other.stderr.contains("warn  a cloud in this cluster: kedge, on a machine of its own"),
        "{other:?}"
    );
}

/// What was set in any way holds when init is run again, and what is as it is wanted runs on.
fn settings_stay(house: &House, address: &str) {
    const CONFIG: &str = "/etc/kubeedge/config/cloudcore.yaml";
    let running = || -> Vec<String> {
        let listed = house.run("ps", &["-e", "-o", "pid=,args="]).stdout;
        let ours = listed.lines().filter(|line| line.contains("cloud run --config /etc/kubeedge"));
        ours.map(str::to_owned).collect()
    };
    let state = || {
        let files = [CONFIG, "/etc/kubeedge/cloud.kubeconfig", "/var/lib/kedge/journal/journal.jsonl"];
        (running(), files.map(|path| house.read(path)))
    };
    let again = || {
        let done = house.kedge(&["init", "--yes", "--mode", "host", "--kube-config", KUBECONFIG]);
        done.assert_status(0);
        let start = format!("kedge join --cloudcore-ipport {address}:24000 --token ");
        assert!(done.stdout.starts_with(&start) && done.stdout.contains("--certport 24002"), "{done:?}");
    };
    let before = state();
    again();
    assert_eq!(state(), before);
    let set = ["config", "set", "--role", "cloud", "modules.cloudHub.nodeLimit=77"];
    house.kedge(&set).assert_status(0);
    let set = house.read(CONFIG);
    again();
    assert_eq!(house.read(CONFIG), set);
    assert_ne!(running(), before.0, "it reads what was set");
    let before = state();
    again();
    assert_eq!(state(), before);
}

#[test]
fn join_files_are_made_for_one_machine_or_a_list() {
    let world = World::new("join-files");
    let _cloud = world.cloud();
    let p = world.ports;
    let ports = [("--hub-port", p.hub), ("--cert-port", p.cert), ("--tunnel-port", p.tunnel)];
    let ports: Vec<String> =
        ports.iter().flat_map(|(flag, port)| [(*flag).to_owned(), port.to_string()]).collect();
    let create = |extra: &[&str]| {
        let mut args = vec!["token", "create"];
        args.extend(ports.iter().map(String::as_str));
        args.extend(extra);
        world.kedge(&args)
    };
    let at = |name: &str| world.dir.join(name).display().to_string();
    let one =
        create(&["--node", "edge-7", "--uses", "1", "-l", "site=north", "--join-file", &at("edge-7.yaml")]);
    one.assert_status(0);
    assert_eq!(one.stdout.trim(), at("edge-7.yaml"));
    let text = std::fs::read_to_string(at("edge-7.yaml")).unwrap();
    let read = kedge::config::join_file::JoinFile::parse(&text, "x").unwrap().config;
    assert_eq!((read.addresses, read.ports.https), (vec!["127.0.0.1".to_owned()], p.cert));
    assert_eq!(read.node.unwrap().as_str(), "edge-7");
    assert_eq!(read.labels["site"], "north");
    assert!(!one.stderr.contains(read.token.reveal()));
    let first = read.token.reveal().to_owned();
    let tokens = || -> Vec<String> {
        let listed = world.kedge(&["token", "list", "-o", "json"]).stdout;
        let listed: Value = serde_json::from_str(&listed).unwrap();
        listed["items"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    };
    let before = tokens();

    // What cannot be written makes no token; what is there stays, or gives its token up.
    let lost = create(&["--join-file", &at("absent/edge-8.yaml")]);
    refused(&lost, 1, &["KE-FILE-001"]);
    let there = create(&["--node", "edge-7", "--join-file", &at("edge-7.yaml")]);
    refused(&there, 1, &["KE-TOKEN-017", "--replace"]);
    assert_eq!((tokens(), std::fs::read_to_string(at("edge-7.yaml")).unwrap()), (before.clone(), text));
    let anew = create(&["--node", "edge-7", "--uses", "1", "--join-file", &at("edge-7.yaml"), "--replace"]);
    anew.assert_status(0);
    let text = std::fs::read_to_string(at("edge-7.yaml")).unwrap();
    assert!(!text.contains(&first) && tokens().len() == 1 && tokens() != before, "{anew:?}");
    for idle in [&["-l", "a=b"][..], &["--hub-port", "7"], &["--cloud", "10.0.0.5"], &["--replace"]] {
        refused(&world.kedge(&[&["token", "create"], idle].concat()), 2, &["--join-file"]);
    }
    refused(&create(&["-l", "nokey", "--join-file", &at("x.yaml")]), 2, &["NAME=VALUE"]);

    std::fs::write(at("nodes.csv"), "name,labels\nedge-1,rack=1;site=south\nedge-2\n").unwrap();
    let list = ["--nodes", &at("nodes.csv"), "--out", &at("out"), "-l", "fleet=a"];
    let dry = create(&[&list[..], &["--dry-run"]].concat());
    dry.assert_status(0);
    assert!(dry.stdout.ends_with("edge-2.yaml\n") && !Path::new(&at("out")).exists(), "{dry:?}");
    create(&list).assert_status(0);
    let text = std::fs::read_to_string(at("out/edge-1.yaml")).unwrap();
    let read = kedge::config::join_file::JoinFile::parse(&text, "x").unwrap().config;
    assert_eq!((read.labels["rack"].as_str(), read.labels["fleet"].as_str()), ("1", "a"));
    let listed: Value = serde_json::from_str(&world.kedge(&["token", "list", "-o", "json"]).stdout).unwrap();
    let tokens = listed["items"].as_array().unwrap();
    let of = |node: &str| tokens.iter().find(|it| it["node"] == node).unwrap()["uses"].clone();
    assert_eq!((tokens.len(), of("edge-1"), of("edge-2")), (3, json!(1), json!(1)));

    std::fs::write(at("nodes.csv"), "edge-1\nEdge 2\nedge-1\n").unwrap();
    refused(&create(&list), 3, &["KE-TOKEN-015", "line 2:", "line 3: edge-1 stands there twice"]);
    refused(&create(&["--nodes", &at("nodes.csv")]), 2, &["--out"]);
    let listed: Value = serde_json::from_str(&world.kedge(&["token", "list", "-o", "json"]).stdout).unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 3, "a list with a wrong line makes nothing");
    a_token_is_not_repeated_and_a_list_not_lost(&world);
}

fn a_token_is_not_repeated_and_a_list_not_lost(world: &World) {
    let token = world.kedge(&["token", "create"]).stdout.trim().to_owned();
    world.kedge(&["token", "revoke", &token]).assert_status(0);
    for text in [token.as_str(), &token[..90], &format!("{token}x")] {
        let twice = world.kedge(&["token", "revoke", text]);
        refused(&twice, 1, &["KE-TOKEN-005"]);
        assert!(!twice.stderr.contains(&token[70..90]), "{twice:?}");
    }
    let clusters = world.kedge(&["gettoken"]).stdout.trim().to_owned();
    refused(&world.kedge(&["token", "revoke", &clusters]), 1, &["KE-TOKEN-005", "cluster-wide"]);
    refused(&world.kedge(&["token", "create", "--ttl", "1ms"]), 2, &["from 1s"]);
    refused(&world.kedge(&["token", "create", "--cloud", "0.0.0.0", "--join-file", "x"]), 2, &["--cloud"]);

    // An API that is gone is told at once, and why it cannot be reached.
    let [nobody] = free_ports();
    let server = json!({"server": format!("https://127.0.0.1:{nobody}")});
    let silent = kubeconfig(world, "gone", |config| config["clusters"][0]["cluster"] = server.clone());
    let silent = silent.display().to_string();
    let started = std::time::Instant::now();
    for line in [
        &["token", "create"][..],
        &["token", "create", "--join-file", "x"],
        &["token", "list"],
        &["gettoken"],
    ] {
        let gone = kedge(&[line, &["--kube-config", &silent]].concat());
        refused(&gone, 4, &["KE-TOKEN-012", "Connection refused", "the Kubernetes API runs"]);
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let weak = self::token(world, "default", "default");
    let weak = kubeconfig(world, "weak", |config| config["users"][0]["user"] = json!({"token": weak}));
    let weak = kedge(&["token", "create", "--kube-config", &weak.display().to_string()]);
    refused(&weak, 1, &["KE-TOKEN-012", "may read and write Secrets"]);

    // Who cannot read the list writes nothing over it; machines may still come with what stands there.
    let data = |text: &str| {
        let patch = json!({"data": {"tokens.json": text}}).to_string();
        let args = ["patch", "secret", "kedge-tokens", "-n", "kubeedge", "--type", "merge", "-p", &patch];
        world.kubectl_ok(&args);
    };
    let there = || world.get(&["secret", "kedge-tokens", "-n", "kubeedge"])["data"]["tokens.json"].clone();
    let good = there();
    data("eyJhIjogYnJva2Vu");
    for line in [&["token", "create"][..], &["token", "list"], &["token", "revoke", "bcdfg2h4jk"]] {
        refused(&world.kedge(line), 1, &["KE-TOKEN-018", "delete secret kedge-tokens"]);
        assert_eq!(there(), "eyJhIjogYnJva2Vu");
    }
    data(good.as_str().unwrap());
    assert_eq!(world.kedge(&["token", "list"]).stdout.lines().count(), 4);
}
