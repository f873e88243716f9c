//! What every command says, success and errors, compared whole with what is committed: on one machine that is a cloud with its
//! own API and its only edge node. What needs another world (init, join, upgrades, services) is compared where a test does it,
//! by `snapshot::said` and `snapshot::failed`. `UPDATE_SNAPSHOTS=1` writes all of it.

use crate::support::eventually;
use crate::support::house::{House, KUBECONFIG};
use crate::support::snapshot::{self, Said};
use crate::support::world::World;
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Before there is anything on the machine.
const BARE: &[(&str, &str)] = &[
    ("status", "status\nstatus --socket /no/kedge.sock\nstatus --db /srv/edgecore.db"),
    ("cert", "cert list\ncert ca\ncert renew"),
    ("config", "config validate\nconfig set a=b\nconfig get --config /no/edgecore.yaml"),
    ("token", "token list\ntoken create --kube-config /no/kubeconfig\ntoken create --ttl soon\ntoken revoke"),
    ("gettoken", "gettoken\ngettoken --kube-config /no/kubeconfig"),
    (
        "service",
        "service status\nservice start edge\nservice stop edge\nservice restart cloud\nservice remove edge\nservice stop web",
    ),
    ("undo", "undo --list\nundo --list -o json\nundo --yes\nundo join"),
    ("reset", "reset edge\nreset edge --dry-run\nreset --force\nreset edge --pre-run ./a.sh\nreset node"),
    ("cloud-reset", "cloud reset --dry-run\ncloud reset --kube-config /no/kubeconfig --dry-run"),
    (
        "upgrade",
        "edge upgrade\nedge upgrade --to nonsense\nedge upgrade --to 0.2.0 --max-unavailable 2\nedge upgrade --to 0.2.0 --nodes a --allow-downgrade\nedge upgrade --toVersion v1.24.0\nedge upgrade --image-digest sha256:1\nedge upgrade --to /bin/true --yes\nedge upgrade --to 0.2.0 --deadline never",
    ),
    (
        "rollback",
        "edge rollback --yes\nedge rollback --to nonsense\nedge rollback --historical-version v1.23.0",
    ),
    ("backup", "edge backup\nedge backup --list\nedge backup --list --dry-run"),
    ("history", "edge history\nedge history --config /no/edgecore.yaml\nedge history -o xml"),
    ("confirm", "edge upgrade confirm\nedge upgrade confirm --dry-run --config /no/edgecore.yaml"),
    (
        "run",
        "edge run --dry-run\nedge run --config /no/edgecore.yaml --token x\nedge run --log-level nonsense\nedge run --minconfig\nedge config --minconfig\ncloud config --minconfig",
    ),
    ("pods", "pods\npods --db /no/edgecore.db\npods -A"),
    ("logs", "logs web-0\nlogs\nlogs web-0 --tail many"),
    ("exec", "exec web-0\nexec web-0 -- true"),
    ("meta", "meta list\nmeta get x\nmeta get default/pod/x --db /no/edgecore.db"),
    ("device", "device list\ndevice describe t1\ndevice describe A/B/C"),
    ("twin", "twin list\ntwin get t1\ntwin set t1 nonsense"),
    (
        "bundle",
        "bundle\nbundle --check /etc/passwd\nbundle --check /no/bundle\nbundle -o x --join-file /no/join.yaml",
    ),
    ("bugreport", "bugreport -F /etc/passwd\nbugreport -o xml"),
    (
        "explain",
        "explain KE-TOKEN-001\nexplain KE-TOKEN-001 --lang zh\nexplain KE-TOKEN-001 -o json\nexplain KE-NOPE-001",
    ),
    ("help", "help keadm\nhelp nope\nhelp edge nope\nfrobnicate\nreste edge"),
    (
        "keadm",
        "upgrade edge\nupgrade cloud --reuse-values\nctl get pod\nctl unhold-upgrade node\ndebug check all\nbatch -c x\nmanifest\nconfig images list\ninit --profile version=v1.23.0\nbeta",
    ),
    ("completion", "completion\ncompletion ksh"),
    ("man", "man nope\nman status"),
    ("version", "version -o short\nversion -o xml"),
    ("limits", "limits\nlimits -o xml"),
];

/// With a cloud and its node.
const FULL: &[(&str, &str)] = &[
    ("gettoken", "gettoken --kube-config KUBECONFIG"),
    (
        "token",
        "token create --kube-config KUBECONFIG --ttl 1h --uses 1 --node edge-7 --dry-run\ntoken create --kube-config KUBECONFIG --ttl 1h --uses 1 --node edge-7\ntoken list --kube-config KUBECONFIG\ntoken list --kube-config KUBECONFIG -o yaml\ntoken create --kube-config KUBECONFIG --ttl 1h --uses 1 --node edge-9 -o json\ntoken create --kube-config KUBECONFIG --join-file /tmp/edge-8.yaml --cloud 10.0.0.5\ntoken create --kube-config KUBECONFIG --nodes /tmp/nodes.csv --out /tmp/nodes\ntoken revoke nope --kube-config KUBECONFIG",
    ),
    (
        "bundle",
        "bundle -o /tmp/x --join-file /tmp/edge-8.yaml --binary /etc/passwd\nbundle -o /tmp/x --join-file /etc/passwd",
    ),
    ("status", "status"),
    ("cert", "cert list\ncert list -o json\ncert ca\ncert renew --dry-run\ncert renew --dry-run -o json"),
    (
        "config",
        "config validate\nconfig validate --role edge -o json\nconfig get modules.edgeHub.heartbeat\nconfig get modules.edgeHub.heartbeat --role edge\nconfig get modules.edgeHub.hartbeat --role edge\nconfig set --role edge modules.edgeHub.heartbeat=20 --dry-run\nconfig set --role edge modules.edgeHub.heartbeat=20 --dry-run -o json\nconfig set --role edge modules.edgeHub.heartbeat=often\nconfig set --role edge kind=CloudCore\nconfig set --role cloud modules.cloudHub.nodeLimt=5\nconfig set --role edge modules.edgeHub.heartbeat=20\nconfig set --role edge modules.edgeHub.heartbeat=20\nconfig validate /tmp/cut.yaml\nconfig validate /tmp/twice.yaml",
    ),
    ("undo", "undo --list\nundo --dry-run\nundo --yes\nundo --list"),
    (
        "run",
        "edge run --dry-run\nedge run --config /tmp/cut.yaml --dry-run\nedge run --config /tmp/twice.yaml --dry-run\nedge run --config /etc/kubeedge/config/cloudcore.yaml --dry-run\nedge launch --dry-run\ncloud run --dry-run",
    ),
    ("forward", "cloud forward --kube-config KUBECONFIG --dry-run"),
    (
        "service",
        "service status\nservice install edge --dry-run\nservice install edge --print systemd\nservice install edge --print launchd",
    ),
    (
        "upgrade",
        "edge upgrade --to 0.2.0 --nodes nope --kube-config KUBECONFIG --dry-run\nedge upgrade --to ./kedge --nodes edge-1 --kube-config KUBECONFIG --dry-run",
    ),
    ("rollback", "edge rollback --yes\nedge rollback --dry-run"),
    ("backup", "edge backup --dry-run\nedge backup\nedge backup --list"),
    ("history", "edge history\nedge history -o json"),
    ("confirm", "edge upgrade confirm"),
    ("reset", "reset edge --yes"),
    (
        "cloud-reset",
        "cloud reset --kube-config KUBECONFIG --dry-run -o json\ncloud reset --kube-config KUBECONFIG --yes-i-mean other\ncloud reset --kube-config KUBECONFIG",
    ),
    ("pods", "pods\npods -o json"),
    ("logs", "logs web-0"),
    ("meta", "meta get default/configmap/nope\nmeta list --type configmap\nmeta list --type nonsense"),
    ("device", "device list\ndevice list -o json\ndevice describe nope"),
    ("twin", "twin list\ntwin get nope\ntwin set nope a=b"),
    ("bugreport", "bugreport --dry-run\nbugreport -F /tmp/report.tar"),
    ("version", "version\nversion -o json"),
];

/// Runs the lines and keeps what they say with what is there of their commands.
fn hear(house: &House<'_>, table: &[(&'static str, &str)], said: &mut Vec<(&'static str, Said)>) {
    for (name, lines) in table {
        if !said.iter().any(|(known, _)| known == name) {
            said.push((*name, Said::default()));
        }
        let (_, kept) = said.iter_mut().find(|(known, _)| known == name).unwrap();
        for line in lines.lines() {
            let typed = line.replace("KUBECONFIG", KUBECONFIG);
            kept.keep(line, &house.kedge(&typed.split_whitespace().collect::<Vec<_>>()));
        }
    }
}

#[test]
fn every_command_says_what_is_committed() {
    let world = World::new("said");
    let house = House::new(&world, "edge-1");
    house.run("rm", &["-rf", "/root/.kube"]).assert_status(0);
    let mut said = Vec::new();
    hear(&house, BARE, &mut said);

    let _cloud = house.cloud();
    let token = house.kedge(&["gettoken", "--kube-config", KUBECONFIG]).stdout;
    let minimal = house.kedge(&["edge", "config", "--minconfig"]).stdout;
    let config = minimal
        .replace("containerd: auto", "containerd: \"off\"")
        .replace("token: \"\"", &format!("token: {}", token.trim()))
        .replace("127.0.0.1:10002", &format!("{}:10002", house.address()))
        .replace("server: 127.0.0.1:10000", &format!("server: {}:10000", house.address()));
    house.write("/etc/kubeedge/config/edgecore.yaml", &config);
    house.write("/tmp/cut.yaml", config.get(..config.len() - 3).unwrap());
    house.write("/tmp/twice.yaml", format!("{config}kind: EdgeCore\n"));
    house.write("/tmp/nodes.csv", "a,site=north\nB B\na\nc,site\n");
    let _edge = house.start("edge", &["edge", "run"]);
    eventually("the node is linked, and all that its status tells has come", SOON, || {
        let run = house.kedge(&["status", "-o", "json"]);
        let status: Value = serde_json::from_str(&run.stdout).unwrap_or_default();
        let known = house.kubectl(&["get", "node", "edge-1"]);
        let works = |wing: &Value| {
            let modules = wing["modules"].as_array();
            modules.is_some_and(|all| !all.is_empty() && all.iter().all(|one| one["state"] == "ready"))
        };
        let link = &status["link"];
        let linked = link["link"] == "up" && link["roundTrip"].is_u64();
        let idle = status["node"]["ready"] == true && status["queueDepth"] == 0;
        let counted = status["cloud"]["nodes"].as_object().is_some_and(|nodes| nodes.len() == 1);
        let whole = linked && idle && counted && works(&status) && works(&status["cloud"]);
        if run.status == 0 && known.status == 0 && whole && house.has("/etc/kubeedge/certs/server.crt") {
            Ok(())
        } else {
            Err((run, known))
        }
    });
    hear(&house, FULL, &mut said);

    let known = [(house.address(), "ADDRESS"), (env!("CARGO_PKG_VERSION"), "VERSION")];
    for (name, said) in &said {
        said.is_as_committed(name, &known);
    }
}

/// Every entry below a directory of snapshots that tests have met: the area, the test, the key and the text.
fn met(kind: &str) -> Vec<(String, String, String, String)> {
    let files = std::fs::read_dir(snapshot::place(kind));
    let files =
        files.unwrap_or_else(|error| panic!("{kind}: {error}; run all tests with UPDATE_SNAPSHOTS=1"));
    let mut all = Vec::new();
    for path in files.map(|file| file.unwrap().path()) {
        let area = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for (test, entries) in snapshot::met::read(&std::fs::read_to_string(&path).unwrap()) {
            all.extend(entries.into_iter().map(|(key, text)| (area.clone(), test.clone(), key, text)));
        }
    }
    all
}

#[test]
fn every_command_is_heard_as_it_succeeds() {
    // The files that are compared come one by one.
    if snapshot::updates() {
        return;
    }
    let mut heard: Vec<String> = met("done")
        .into_iter()
        .filter(|(.., text)| text.ends_with("exit 0\n"))
        .map(|(_, _, key, _)| key)
        .collect();
    for file in std::fs::read_dir(snapshot::place("said")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let blocks = text.split("$ kedge ").skip(1);
        let done = blocks.filter(|block| block.lines().any(|line| line == "exit 0"));
        heard.extend(done.map(|block| format!("kedge {}", block.lines().next().unwrap_or_default())));
    }
    let commands: Vec<String> = crate::help::commands().iter().map(|words| words.join(" ")).collect();
    let is_group = |name: &str| commands.iter().any(|other| other.starts_with(&format!("{name} ")));
    let unheard: Vec<&String> = commands
        .iter()
        // The scripts of completion are compared whole with what lies in `completions`.
        .filter(|name| !name.is_empty() && *name != "completion" && !is_group(name))
        .filter(|name| !heard.iter().any(|line| format!("{line} ").starts_with(&format!("kedge {name} "))))
        .collect();
    assert!(unheard.is_empty(), "commands whose success stands in no snapshot: {unheard:?}");
}

#[test]
fn what_is_committed_belongs_to_tests_that_exist() {
    if snapshot::updates() {
        return;
    }
    for kind in ["done", "errors"] {
        for (area, test, key, _) in met(kind) {
            let source = format!("{}/tests/cli/{}.rs", env!("CARGO_MANIFEST_DIR"), area.replace('-', "/"));
            let text = std::fs::read_to_string(&source).unwrap_or_default();
            assert!(
                text.contains(&format!("fn {test}(")),
                "{key} in {kind}/{area}.txt: no {test} in {source}"
            );
        }
    }
}
