//! `kedge config`: files that are wrong, half written or fine; settings changed in place, with a copy and a difference.

use crate::support::house::House;
use crate::support::machine::free_ports;
use crate::support::replica::Replica;
use crate::support::told::fails;
use crate::support::world::World;
use crate::support::{Run, eventually, kedge};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(40);

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        Dir(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn config(deed: &str, path: &Path, more: &[&str]) -> Run {
    let mut args = vec!["config", deed];
    args.extend(more);
    args.extend(["--config", path.to_str().unwrap()]);
    kedge(&args)
}

const EDGE: &str = "\
apiVersion: edgecore.config.kubeedge.io/v1alpha2
kind: EdgeCore
# the way to the cloud
modules:
  edgeHub:
    heartbeat: 15 # seconds
    token: s3cret.token
  edged:
    hostnameOverride: edge-1
";

#[test]
fn all_that_is_wrong_is_told_at_once_with_file_key_value_and_reason() {
    let dir = Dir::new();
    let text = EDGE
        .replace("heartbeat: 15", "heartbeat: soon")
        .replace("hostnameOverride: edge-1", "hostnameOveride: x\n    nodeIP: 1.2.3");
    let path = dir.file("edgecore.yaml", &text);
    let run = config("validate", &path, &[]);
    run.assert_status(3);
    let file = path.display();
    assert_eq!(
        run.stdout,
        format!(
            "{file}: error: modules.edgeHub.heartbeat = \"soon\": must be a number, not a text\n\
             {file}: error: modules.edged.nodeIP = 1.2.3: must be an IP address\n\
             {file}: warning: modules.edged.hostnameOveride: unknown key, ignored (did you mean hostnameOverride?)\n"
        )
    );
    let json = config("validate", &path, &["-o", "json"]);
    json.assert_status(3);
    let value: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value["items"][0]["problems"][0]["path"], "modules.edgeHub.heartbeat");
    assert_eq!(value["items"][0]["role"], "edge");
    assert!(!run.stdout.contains("s3cret") && !json.stdout.contains("s3cret"));
}

#[test]
fn wrong_numbers_and_lists_are_told_by_their_keys_and_a_file_over_the_limit_as_one() {
    let dir = Dir::new();
    let text = "kind: CloudCore\nmodules:\n  cloudHub:\n    nodeLimit: -5\n    websocket: {port: 99999}\n    \
                advertiseAddress: [x y]\n    keepaliveInterval: 99999999999999999999\n";
    let path = dir.file("cloudcore.yaml", text);
    let run = config("validate", &path, &[]);
    run.assert_status(3);
    for key in ["nodeLimit = -5", "websocket.port = 99999", "advertiseAddress = x y", "keepaliveInterval = 1"]
    {
        assert!(run.stdout.contains(&format!("error: modules.cloudHub.{key}")), "{key}: {run:?}");
    }
    for word in ["usize", "u16", "u128", "whole file", "invalid type", "any YAML value"] {
        assert!(!run.stdout.contains(word), "{word}: {run:?}");
    }
    config("set", &path, &["modules.cloudHub.nodeLimit=5"]).assert_status(0);
    for deed in ["edge", "cloud"] {
        let large = dir.file(&format!("{deed}core.yaml"), &"# a comment\n".repeat(100_000));
        let line = [deed, "run", "--dry-run", "--config", large.to_str().unwrap()];
        let said = fails(&kedge(&line), "KE-FILE-002", 3);
        assert!(
            said.why.contains("larger than 1048576 bytes") && !said.fix.contains("permissions"),
            "{said:?}"
        );
    }
}

#[test]
fn a_fine_file_is_fine_and_strict_counts_warnings() {
    let dir = Dir::new();
    let path = dir.file("cloudcore.yaml", "kind: CloudCore\nmodules:\n  cloudHub:\n    nodeLimt: 5\n");
    config("validate", &path, &[]).assert_status(0);
    let strict = config("validate", &path, &["--strict"]);
    strict.assert_status(3);
    assert!(
        strict.stdout.contains("modules.cloudHub.nodeLimt: unknown key, ignored (did you mean nodeLimit?)")
    );
}

#[test]
fn half_written_files_are_recognised() {
    let dir = Dir::new();
    for (name, text) in
        [("a.yaml", ""), ("b.yaml", &EDGE[..EDGE.len() - 14]), ("c.yaml", "kind: EdgeCore\n\0\0\0\0")]
    {
        let path = dir.file(name, text);
        let run = config("validate", &path, &[]);
        run.assert_status(3);
        assert!(run.stdout.contains("written only half"), "{name}: {run:?}");
    }
    let run = config("set", &dir.file("d.yaml", ""), &["modules.edgeHub.heartbeat=5"]);
    run.assert_status(3);
    assert!(run.stderr.contains("KE-CONFIG-005"), "{run:?}");
    crate::support::snapshot::failed(&run);
}

#[test]
fn a_setting_is_changed_in_place_and_the_former_file_is_kept() {
    let dir = Dir::new();
    let path = dir.file("edgecore.yaml", EDGE);
    let dry = config("set", &path, &["modules.edgeHub.heartbeat=20", "--dry-run"]);
    dry.assert_status(0);
    assert_eq!(
        dry.stdout,
        " modules:\n   edgeHub:\n-    heartbeat: 15 # seconds\n+    heartbeat: 20  # seconds\n     token: (hidden)\n   edged:\n"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), EDGE);
    let run = config("set", &path, &["modules.edgeHub.heartbeat=20", "modules.edged.nodeLabels.zone=north"]);
    run.assert_status(0);
    let text = std::fs::read_to_string(&path).unwrap();
    let expected =
        EDGE.replace("heartbeat: 15 #", "heartbeat: 20  #") + "    nodeLabels:\n      zone: north\n";
    assert_eq!(text, expected);
    assert_eq!(std::fs::read_to_string(path.with_extension("yaml.bak")).unwrap(), EDGE);
    config("validate", &path, &["--strict"]).assert_status(0);
    let got = config("get", &path, &["modules.edgeHub.heartbeat"]);
    assert_eq!(got.stdout, "20\n");
}

#[test]
fn a_list_grows_by_one_entry() {
    let dir = Dir::new();
    let path = dir.file(
        "cloudcore.yaml",
        "kind: CloudCore\nmodules:\n  cloudHub:\n    advertiseAddress: # ours\n    - 10.0.0.1\n",
    );
    config("set", &path, &["modules.cloudHub.advertiseAddress+=10.0.0.2"]).assert_status(0);
    config("set", &path, &["modules.cloudHub.advertiseAddress+=10.0.0.2"]).assert_status(0);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        "kind: CloudCore\nmodules:\n  cloudHub:\n    advertiseAddress: [\"10.0.0.1\",\"10.0.0.2\"]  # ours\n"
    );
    config("set", &path, &["modules.cloudHub.nodeLimit+=1"]).assert_status(2);
    let file = path.to_str().unwrap();
    kedge(&["config", "validate", file, "--strict"]).assert_status(0);
}

#[test]
fn comments_that_cannot_be_kept_are_told() {
    let dir = Dir::new();
    let path = dir.file("edgecore.yaml", "# mine\nmodules: {edgeHub: {heartbeat: 15}}\n");
    let run = config("set", &path, &["modules.edgeHub.heartbeat=20"]);
    run.assert_status(0);
    assert!(run.stderr.contains("comments are lost"), "{run:?}");
    assert_eq!(config("get", &path, &["modules.edgeHub.heartbeat"]).stdout, "20\n");
}

#[test]
fn a_wrong_change_changes_nothing() {
    let dir = Dir::new();
    let path = dir.file("edgecore.yaml", EDGE);
    for (change, code, words) in [
        ("modules.edgeHub.heartbeat=0", 3, "must be more than 0 seconds"),
        ("modules.edgeHub.heartbeat=soon", 2, "a number is expected"),
        ("modules.edgeHub.hartbeat=1", 2, "did you mean modules.edgeHub.heartbeat?"),
        ("heartbeat=1", 2, "did you mean modules.edgeHub.heartbeat?"),
        ("nonsense", 2, "there is no setting nonsense"),
        ("modules.edged.nodeIP=x", 3, "must be an IP address"),
    ] {
        let run = config("set", &path, &[change]);
        assert_eq!(run.status, code, "{change}: {run:?}");
        assert!(run.stderr.contains(words), "{change}: {run:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), EDGE);
    }
}

#[test]
fn secrets_are_never_shown() {
    let dir = Dir::new();
    let path = dir.file("edgecore.yaml", EDGE);
    for more in [&["modules.edgeHub"][..], &["modules.edgeHub.token"], &["-o", "json"], &[]] {
        let run = config("get", &path, more);
        run.assert_status(0);
        assert!(!run.stdout.contains("s3cret"), "{run:?}");
    }
    let run = config("set", &path, &["modules.edgeHub.token=an.other.s3cret"]);
    run.assert_status(0);
    assert!(!run.stdout.contains("s3cret") && !run.stderr.contains("s3cret"), "{run:?}");
    assert!(std::fs::read_to_string(&path).unwrap().contains("token: an.other.s3cret"));
}

#[test]
fn a_login_in_a_url_is_never_shown() {
    let dir = Dir::new();
    let url = "tcp://usr:s3cret@127.0.0.1:1899";
    let text = format!(
        "kind: EdgeCore\nmodules:\n  edged: {{hostnameOverride: n1}}\n  eventBus:\n    mqttServerExternal: {url}\n"
    );
    let path = dir.file("edgecore.yaml", &text);
    config("validate", &path, &[]).assert_status(0);
    let got = config("get", &path, &["modules.eventBus.mqttServerExternal"]);
    assert_eq!(got.stdout, "tcp://(hidden)@127.0.0.1:1899\n");
    for more in [
        &["modules.eventBus.mqttServerExternal=ssl://usr:s3cret@127.0.0.1:2"][..],
        &["modules.eventBus.mqttServerExternal=tcp://usr:s3cret@127.0.0.1:2", "--dry-run"],
        &["modules.eventBus.mqttServerExternal=tcp://usr:s3cret@nowhere", "--dry-run"],
    ] {
        let run = config("set", &path, more);
        let all = format!("{}{}", run.stdout, run.stderr);
        assert!(all.contains("mqttServerExternal") && !all.contains("s3cret"), "{run:?}");
    }
}

#[test]
fn the_machines_own_configuration_goes_through_the_install_journal() {
    let world = World::new("config-house");
    let house = House::new(&world, "edge-1");
    let file = "/etc/kubeedge/config/edgecore.yaml";
    house.write(file, EDGE);
    let run = house.kedge(&["config", "set", "modules.edgeHub.heartbeat=20"]);
    run.assert_status(0);
    assert_eq!(house.read(file), EDGE.replace("heartbeat: 15 #", "heartbeat: 20  #"));
    let journal = house.read("/var/lib/kedge/journal/journal.jsonl");
    assert!(journal.contains("\"configure\"") && journal.contains(file), "{journal}");
    assert!(!journal.contains("s3cret"), "{journal}");
    assert!(!house.has("/etc/kubeedge/config/edgecore.yaml.bak"));
    let checked = house.kedge(&["config", "validate", "--strict"]);
    checked.assert_status(0);
}

#[test]
fn an_api_that_cannot_be_dialled_is_refused_and_one_that_is_silent_is_told() {
    let dir = Dir::new();
    let kubeconfig = |server: &str| {
        json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}]})
        .to_string()
    };
    let [closed] = free_ports();
    let silent = dir.file("silent.kubeconfig", &kubeconfig(&format!("https://127.0.0.1:{closed}")));
    let silent = silent.to_str().unwrap();
    for master in ["nonsense", "10.0.0.5:6443", "https://"] {
        let text = format!("kind: CloudCore\nkubeAPIConfig: {{master: \"{master}\"}}\n");
        let path = dir.file("cloudcore.yaml", &text);
        let told = config("validate", &path, &[]);
        told.assert_status(3);
        assert!(told.stdout.contains(&format!("kubeAPIConfig.master = {master}: must ")), "{told:?}");
        for more in [&["--dry-run"][..], &[]] {
            let line = [&["cloud", "run", "--config", path.to_str().unwrap()], more].concat();
            fails(&kedge(&line), "KE-CONFIG-002", 3);
        }
        for more in [&["--dry-run"][..], &[]] {
            let line = [&["cloud", "forward", "--kube-config", silent, "--server", master], more].concat();
            fails(&kedge(&line), "KE-USAGE-001", 2);
        }
    }
    let mute = dir.file("mute.kubeconfig", &kubeconfig("nonsense"));
    let line = ["cloud", "forward", "--dry-run", "--kube-config", mute.to_str().unwrap()];
    let said = fails(&kedge(&line), "KE-KUBE-003", 3);
    assert!(said.why.contains("nonsense") && said.fix.contains("--kube-config"), "{said:?}");
    let line = ["cloud", "forward", "--dry-run", "--kube-config", "/no/kubeconfig"];
    fails(&kedge(&line), "KE-KUBE-003", 3);

    let world = World::new("silent-api");
    let cloud = Replica::with(&world, "lonely", |config| {
        config["kubeAPIConfig"] = json!({"kubeConfig": silent, "master": ""});
    });
    let _running = cloud.spawn(&world);
    eventually("the silence is told", SOON, || {
        let log = world.log("lonely.err");
        if log.contains("the Kubernetes API does not answer") { Ok(()) } else { Err(log) }
    });
}
