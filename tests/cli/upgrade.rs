//! Another version of kedge on a node: signed, tried, kept or given back, through whatever ends in between. On a private
//! machine with the real paths; a loop of the shell stands in for the service manager and starts the launcher again.

use crate::support::Run;
use crate::support::eventually;
use crate::support::house::{House, KUBECONFIG};
use crate::support::pods::{pod, sleeper};
use crate::support::releases::{Instead, OWN, Releases};
use crate::support::snapshot;
use crate::support::world::{Daemon, World};
use kedge::store::layout;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const CONFIG: &str = "/etc/kubeedge/config/edgecore.yaml";
const VERSIONS: &str = "/var/lib/kedge/versions";

/// A node whose daemon was started by the launcher.
struct Node<'w> {
    house: House<'w>,
    releases: Releases,
    keeper: Option<Daemon>,
    world: &'w World,
}

impl<'w> Node<'w> {
    /// A node without a cloud and without pods.
    fn alone(world: &'w World) -> Node<'w> {
        Node::alone_in(world, House::new(world, "edge-1"))
    }

    fn alone_in(world: &'w World, house: House<'w>) -> Node<'w> {
        let config = house.kedge(&["edge", "config", "--minconfig"]).stdout;
        let config = config.replace("containerd: auto", "containerd: \"off\"");
        Node::of(world, house, &config)
    }

    fn of(world: &'w World, house: House<'w>, config: &str) -> Node<'w> {
        house.write(CONFIG, config);
        let releases = Releases::new(&world.dir.join("releases"));
        house.write("/etc/kubeedge/upgrade-keys/release.pub", releases.public());
        let mut node = Node { house, releases, keeper: None, world };
        node.keep("");
        node.serves(OWN);
        node
    }

    /// Starts the launcher again and again; the first time behind another program.
    fn keep(&mut self, first: &str) {
        let launch = format!("/usr/local/bin/kedge edge launch --config {CONFIG}");
        // As a service would: by the launcher's link where there is one.
        let again = format!(
            "if [ -x {VERSIONS}/launcher/kedge ]; then {VERSIONS}/launcher/kedge edge launch --config {CONFIG}; \
             else {launch}; fi"
        );
        let first = if first.is_empty() { String::new() } else { format!("{first}; ") };
        let script = format!("{first}while true; do {again}; sleep 0.1; done");
        self.keeper = Some(self.house.start_program("keeper", "sh", &["-c", &script]));
    }

    /// Ends keeper, launcher and daemon as a power failure would.
    fn power_off(&mut self) {
        self.keeper = None;
        // By the name of the process: `edge` stands in its arguments; nothing else of the house is called kedge.
        self.house.run("pkill", &["-KILL", "-x", "kedge"]);
        eventually("all of it is gone", SOON, || {
            let left = self.house.run("pgrep", &["-x", "kedge"]);
            if left.status == 1 { Ok(()) } else { Err(left) }
        });
    }

    fn status(&self) -> Option<Value> {
        let got = self.house.kedge(&["status", "-o", "json", "--socket", "/var/lib/kubeedge/kedge.sock"]);
        serde_json::from_str(&got.stdout).ok()
    }

    /// Waits until a daemon of this version serves.
    #[track_caller]
    fn serves(&self, version: &str) {
        eventually(&format!("kedge {version} serves"), SOON, || match self.status() {
            Some(status) if status["version"] == version => Ok(()),
            other => Err((other.map(|status| status["version"].clone()), self.world.log("keeper.err"))),
        });
    }

    fn upgrade(&self, to: &str, more: &[&str]) -> Run {
        self.house.kedge(&[&["edge", "upgrade", "--to", to, "--yes"], more].concat())
    }

    fn history(&self) -> Value {
        let got = self.house.kedge(&["edge", "history", "-o", "json"]);
        got.assert_status(0);
        serde_json::from_str(&got.stdout).unwrap()
    }

    fn last(&self) -> Value {
        self.history()["items"].as_array().and_then(|items| items.last().cloned()).unwrap_or_default()
    }

    /// The process that has the database.
    fn daemon(&self) -> String {
        self.house.read("/var/lib/kubeedge/edgecore.db.lock").trim().to_owned()
    }

    /// Waits until no trial is left and the daemon is the one that `current` names; that version.
    #[track_caller]
    fn settled(&self) -> String {
        eventually("one slot runs and nothing is pending", SOON, || {
            let history = self.history();
            let current = history["current"].as_str().unwrap_or(OWN).to_owned();
            let runs = self.status().map(|status| status["version"].clone());
            let settled = history["trial"].is_null() && runs == Some(Value::from(current.clone()));
            if settled { Ok(current) } else { Err((history, runs, self.world.log("keeper.err"))) }
        })
    }
}

/// The code of what was told last; empty where nothing failed.
fn code_of(run: &Run) -> &str {
    run.stderr.lines().find_map(|line| line.trim().strip_prefix("code: ")).unwrap_or_default()
}

/// The code of what was told, which is as committed.
#[track_caller]
fn code(run: &Run) -> &str {
    let code = code_of(run);
    if !code.is_empty() {
        snapshot::failed(run);
    }
    code
}

#[test]
fn a_new_version_takes_the_place_and_the_old_one_can_be_gone_back_to() {
    let world = World::new("upgrade");
    let node = Node::alone(&world);
    let new = node.releases.kedge("0.1.1");
    let planned = node.upgrade(&new, &["--dry-run"]);
    planned.assert_status(0);
    snapshot::said("edge upgrade --dry-run", &planned);
    assert!(
        !node.house.has(&format!("{VERSIONS}/current")) && node.history()["items"] == serde_json::json!([])
    );

    let done = node.upgrade(&new, &["--wait"]);
    done.assert_status(0);
    snapshot::said("edge upgrade --wait", &done);
    node.serves("0.1.1");
    let last = node.last();
    assert_eq!(
        (&last["outcome"], &last["from"], &last["to"]),
        (&"done".into(), &OWN.into(), &"0.1.1".into())
    );
    let steps: Vec<&str> =
        last["steps"].as_array().unwrap().iter().filter_map(|s| s["name"].as_str()).collect();
    let wanted =
        ["copied", "signature holds", "runs here", "accepts the configuration", "backed up", "switched"];
    assert!(wanted.iter().all(|step| steps.contains(step)), "{steps:?}");
    let interrupted = last["interrupted"].as_i64().unwrap();
    eprintln!("the daemon was interrupted for {interrupted} ms");
    assert!(interrupted < 5_000 && done.stderr.contains("interrupted for"), "{done:?}");
    let history = node.history();
    assert_eq!((&history["previous"], &history["launcher"]), (&OWN.into(), &"0.1.1".into()));

    // The backup is one: the database of that time, which opens.
    let listed = node.house.kedge(&["edge", "backup", "--list", "-o", "json"]);
    let backups: Value = serde_json::from_str(&listed.stdout).unwrap();
    let name = backups["items"][0]["name"].as_str().unwrap();
    let database = format!("/var/lib/kedge/backup/{name}/edgecore.db");
    node.house.kedge(&["meta", "list", "--db", &database]).assert_status(0);
    assert_eq!(
        node.house.read(CONFIG),
        node.house.read(&format!("/var/lib/kedge/backup/{name}/edgecore.yaml"))
    );

    // The daemon now has the launcher as its parent; both go the next way too.
    let back = node.house.kedge(&["edge", "rollback", "--wait", "--yes"]);
    back.assert_status(0);
    snapshot::said("edge rollback --wait", &back);
    node.serves(OWN);
    let last = node.last();
    assert_eq!(
        (&last["deed"], &last["outcome"], &last["to"]),
        (&"rollback".into(), &"done".into(), &OWN.into())
    );
    node.upgrade(&new, &["--wait"]).assert_status(0);
    node.upgrade(&node.releases.kedge("0.1.2"), &["--wait"]).assert_status(0);
    node.serves("0.1.2");
    // The installed command stays the old one, which is no fault that doctor would have somebody mend.
    let doctor = node.house.kedge(&["doctor", "--role", "edge", "--only", "KE-SKEW-001", "--strict"]);
    assert!(doctor.status == 0 && doctor.stdout.contains("0.1.2 runs from"), "{doctor:?}");
    let table = node.house.kedge(&["edge", "history"]);
    assert_eq!(table.stdout.lines().filter(|line| line.contains(" done ")).count(), 4, "{table:?}");
    snapshot::said("edge history", &table);
    let slots = node.house.run("ls", &[VERSIONS]).stdout;
    assert!(!slots.contains(".staging"), "{slots}");
    let processes = node.house.processes();
    let of_kedge = processes.iter().filter(|line| line.contains("kedge edge")).count();
    assert!(of_kedge <= 3, "launchers pile up: {processes:#?}");
}

#[test]
fn what_is_not_right_is_refused_and_nothing_is_touched() {
    let world = World::new("refusals");
    let mut node = Node::alone(&world);
    let releases = &node.releases;
    let good = releases.stand_in("0.1.1", Instead::Ends);
    let altered = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let file = releases.path(name);
        let mut bytes = fs::read(&good).unwrap();
        change(&mut bytes);
        fs::write(&file, bytes).unwrap();
        fs::copy(format!("{good}.sig"), format!("{file}.sig")).unwrap();
        file
    };
    let tampered = altered("tampered", &|bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    });
    let cut = altered("cut", &|bytes| bytes.truncate(1000));
    let unsigned = releases.path("unsigned");
    fs::copy(&good, &unsigned).unwrap();
    releases.key("stranger");
    let foreign = releases.path("foreign");
    fs::copy(&good, &foreign).unwrap();
    releases.sign(&foreign, "stranger");
    let script = releases.path("script");
    fs::write(&script, "#!/bin/sh\necho kedge\n").unwrap();
    releases.sign(&script, "release");
    let other_machine = altered("other", &|bytes| bytes[18] = if bytes[18] == 62 { 183 } else { 62 });
    releases.sign(&other_machine, "release");
    let older = releases.stand_in("0.0.9", Instead::Ends);
    let same = releases.stand_in(OWN, Instead::Ends);
    let picky = releases.stand_in("0.1.3", Instead::Refuses);
    let empty = releases.path("empty");
    fs::write(&empty, "").unwrap();
    let wrong_digest = format!("sha256:{}", "0".repeat(64));
    let absent_key = releases.path("absent.pub");
    let cases: [(&str, &[&str], &str, i32); 14] = [
        (&tampered, &[], "KE-UPGRADE-005", 1),
        (&cut, &[], "KE-UPGRADE-005", 1),
        (&unsigned, &[], "KE-UPGRADE-004", 1),
        (&foreign, &[], "KE-UPGRADE-005", 1),
        (&script, &[], "KE-UPGRADE-007", 1),
        (&other_machine, &[], "KE-UPGRADE-007", 1),
        (&older, &[], "KE-UPGRADE-008", 1),
        (&same, &[], "KE-UPGRADE-009", 1),
        (&picky, &[], "KE-UPGRADE-011", 1),
        (&empty, &[], "KE-UPGRADE-015", 1),
        (&good, &["--digest", &wrong_digest], "KE-UPGRADE-006", 1),
        (&good, &["--key", &absent_key], "KE-FILE-002", 1),
        ("no/such/file", &[], "KE-UPGRADE-026", 2),
        ("0.1.1", &[], "KE-UPGRADE-021", 4),
    ];
    let daemon = node.daemon();
    // The last one asks the cloud and shows the node's certificate, which this node has none of.
    for (file, more, expected, status) in &cases[..13] {
        let got = node.upgrade(file, more);
        assert_eq!((code(&got), got.status), (*expected, *status), "{file}: {got:?}");
        if **file == *other_machine {
            assert!(got.stderr.contains("aarch64") && got.stderr.contains("x86_64"), "{got:?}");
        }
    }
    let got = node.upgrade(cases[13].0, &[]);
    assert!(got.status != 0 && got.stderr.contains("fix:"), "{got:?}");
    let stranger = releases.path("stranger.pub");
    let got = node.upgrade(&foreign, &["--key", &stranger, "--dry-run"]);
    assert_eq!((code(&got), got.status), ("", 0), "{got:?}");
    node.house.kedge(&["edge", "upgrade"]).assert_status(2);
    // A write that the system cuts off, as a full disk does.
    let cut_off = "trap '' XFSZ; ulimit -f 64; exec /usr/local/bin/kedge edge upgrade --yes --to \"$0\"";
    let large = releases.path("large");
    fs::write(&large, vec![1; 1 << 20]).unwrap();
    let got = node.house.run("sh", &["-c", cut_off, &large]);
    assert_eq!((code(&got), got.status), ("KE-UPGRADE-027", 1), "{got:?}");
    for nonsense in [["--deadline", "never"], ["--deadline", "1s"], ["--digest", "md5:1"]] {
        node.upgrade(&good, &nonsense).assert_status(2);
    }
    let got = node.house.kedge(&["edge", "rollback"]);
    assert_eq!(code(&got), "KE-UPGRADE-013", "{got:?}");
    let got = node.house.kedge(&["edge", "upgrade", "confirm"]);
    assert_eq!(code(&got), "KE-UPGRADE-022", "{got:?}");

    node.house.run("rm", &["-r", "/etc/kubeedge/upgrade-keys"]).assert_status(0);
    assert_eq!(code(&node.upgrade(&good, &[])), "KE-UPGRADE-003");
    node.house.write("/etc/kubeedge/upgrade-keys/release.pub", "no key");
    assert_eq!(code(&node.upgrade(&good, &[])), "KE-UPGRADE-020");
    node.house.write("/etc/kubeedge/upgrade-keys/release.pub", node.releases.public());

    // Another one at work is named.
    let held = format!("exec 9>>{VERSIONS}/lock; flock 9; echo $$ > {VERSIONS}/lock; exec sleep 1000");
    let holder = node.house.start_program("holder", "sh", &["-c", &held]);
    eventually("the lock is held", SOON, || match node.upgrade(&good, &[]) {
        got if code_of(&got) == "KE-UPGRADE-001" => {
            snapshot::failed(&got);
            Ok(())
        }
        got => Err(got),
    });
    drop(holder);

    // A read-only file system, and one without space.
    let mount = |options: &str| node.house.run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", VERSIONS]);
    mount("ro").assert_status(0);
    assert_eq!(code(&node.upgrade(&good, &[])), "KE-UPGRADE-016");
    node.house.run("umount", &[VERSIONS]).assert_status(0);
    mount("size=4m").assert_status(0);
    assert_eq!(code(&node.upgrade(&good, &[])), "KE-UPGRADE-024");
    node.house.run("umount", &[VERSIONS]).assert_status(0);

    assert_eq!(node.daemon(), daemon, "the daemon was left alone");
    assert!(!node.house.has(&format!("{VERSIONS}/current")));
    let history = node.history();
    let refused = history["items"].as_array().unwrap();
    assert!(refused.len() >= 10 && refused.iter().all(|item| item["outcome"] == "refused"), "{history:#}");

    // A daemon that no launcher has started would not come back as another version.
    node.power_off();
    let mut plain = node.house.start("plain", &["edge", "run", "--config", CONFIG]);
    node.serves(OWN);
    assert_eq!(code(&node.upgrade(&good, &["--wait"])), "KE-UPGRADE-012");
    assert_eq!(plain.interrupt(), 0);
}

#[test]
fn a_version_that_does_not_get_well_gives_its_place_back() {
    let world = World::new("unwell");
    let node = Node::alone(&world);
    let ends = node.upgrade(&node.releases.stand_in("0.1.1", Instead::Ends), &["--wait"]);
    assert_eq!((code(&ends), ends.status), ("KE-UPGRADE-014", 14), "{ends:?}");
    assert!(ends.stderr.contains("it ended by itself with status 3"), "{ends:?}");
    assert_eq!(node.settled(), OWN);
    let hangs = node.releases.stand_in("0.1.2", Instead::Hangs);
    let line = ["edge", "upgrade", "--to", hangs.as_str(), "--yes", "--wait", "--deadline", "5s"];
    let mut hangs = node.house.start("hangs", &line);
    // Whoever asks meanwhile is told that it is a trial.
    eventually("the trial is told", SOON, || {
        let status = node.house.kedge(&["status"]);
        if status.status == 4 && status.stderr.contains("KE-STATUS-004") { Ok(()) } else { Err(status) }
    });
    let status = hangs.wait_end(SOON);
    let said = world.log("hangs.err");
    assert!(status == 14 && said.contains("KE-UPGRADE-014"), "{status} {said}");
    assert!(said.contains("not well within 5 s"), "{said}");
    assert_eq!(node.settled(), OWN);
    let history = node.history();
    assert_eq!(history["launcher"], OWN);
    let outcomes: Vec<&Value> =
        history["items"].as_array().unwrap().iter().map(|item| &item["outcome"]).collect();
    assert_eq!(outcomes, ["returned", "returned"]);
    // What is refused moves nothing, not even the versions that nobody uses.
    let slots = || node.house.run("ls", &[VERSIONS]).stdout;
    let before = slots();
    assert!(before.contains("0.1.2"), "{before}");
    let unsigned = node.releases.path("unsigned");
    fs::copy("/bin/true", &unsigned).unwrap();
    assert_eq!(code(&node.upgrade(&unsigned, &[])), "KE-UPGRADE-004");
    assert_eq!(slots(), before);
    // And a good one comes after them.
    node.upgrade(&node.releases.kedge("0.1.3"), &["--wait"]).assert_status(0);
    assert_eq!(node.settled(), "0.1.3");
}

#[test]
fn an_interrupted_wait_leaves_the_trial_alone_and_says_so() {
    let world = World::new("unwaited");
    let node = Node::alone(&world);
    let hangs = node.releases.stand_in("0.1.2", Instead::Hangs);
    let args = ["edge", "upgrade", "--to", &hangs, "--yes", "--wait", "--deadline", "10s"];
    let mut waits = node.house.start("waits", &args);
    eventually("the new version is watched", SOON, || {
        let trial = node.history()["trial"].clone();
        if !trial.is_null() && trial["phase"]["is"] != "armed" { Ok(()) } else { Err(trial) }
    });
    assert_eq!(waits.interrupt(), 130, "{}", world.log("waits.err"));
    let told = world.log("waits.err");
    assert!(
        told.contains("KE-UPGRADE-031")
            && told.contains("fix: see what becomes of it with: kedge edge history"),
        "{told}"
    );
    assert!(!node.history()["trial"].is_null(), "it goes on");
    assert_eq!(node.settled(), OWN);
    assert_eq!(node.last()["outcome"], "returned");
}

/// The layout of a backup in the house, as its file's header holds it.
fn layout_of_backup(node: &Node<'_>, name: &Value) -> u8 {
    let name = name.as_str().unwrap();
    fs::read(node.house.outside(&format!("/var/lib/kedge/backup/{name}/edgecore.db"))).unwrap()[63]
}

fn backups(node: &Node<'_>) -> Vec<String> {
    let got = node.house.kedge(&["edge", "backup", "--list", "-o", "json"]);
    let list: Value = serde_json::from_str(&got.stdout).unwrap();
    list["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_former_version_finds_what_it_can_read() {
    let world = World::new("layouts");
    let house = House::new(&world, "edge-1");
    // The database is opened from here too, and lies where both see it under names of their own.
    let dir = world.dir.join("kubeedge");
    fs::create_dir(&dir).unwrap();
    house.run("mkdir", &["-p", "/var/lib/kubeedge"]).assert_status(0);
    house.run("mount", &["--bind", dir.to_str().unwrap(), "/var/lib/kubeedge"]).assert_status(0);
    let live = dir.join("edgecore.db");
    let node = Node::alone_in(&world, house);
    let config = node.house.read(CONFIG);
    // As long as the layout stays, the database does: what was written meanwhile is not lost.
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&live).unwrap());
    let first = inode();
    let ends = node.upgrade(&node.releases.stand_in("0.1.1", Instead::Ends), &["--wait"]);
    assert_eq!(code(&ends), "KE-UPGRADE-014", "{ends:?}");
    assert_eq!((node.settled().as_str(), inode(), &node.last()["exchange"]), (OWN, first, &Value::Null));

    // A version that has changed it, and the configuration, and is not well.
    let raises = node.upgrade(&node.releases.stand_in("0.1.2", Instead::Raises), &["--wait"]);
    assert_eq!(code(&raises), "KE-UPGRADE-014", "{raises:?}");
    assert!(raises.stderr.contains("those of 0.1.2 are kept as"), "{raises:?}");
    assert_eq!(node.settled(), OWN);
    assert_eq!((layout(&live), node.house.read(CONFIG)), (Some(1), config.clone()));
    let told = node.last()["exchange"].clone();
    let aside = format!("/var/lib/kedge/backup/{}", told["aside"].as_str().unwrap());
    assert_eq!(layout_of_backup(&node, &told["aside"]), 9);
    assert!(node.house.read(&format!("{aside}/edgecore.yaml")).ends_with("# raised\n"));
    assert!(backups(&node).contains(&told["back"].as_str().unwrap().to_owned()));

    // What comes after the upgrade has made its backup, and before the new version starts, is not lost on the way back.
    let mut node = node;
    node.power_off();
    node.upgrade(&node.releases.stand_in("0.1.2", Instead::Raises), &[]).assert_status(0);
    let late = rusqlite::Connection::open(&live).unwrap();
    late.execute_batch("CREATE TABLE late (word TEXT); INSERT INTO late VALUES ('kept')").unwrap();
    late.close().unwrap();
    let tried = node.history()["items"].as_array().unwrap().len();
    node.keep("");
    eventually("the new version was tried and is given back", SOON, || {
        let history = node.history();
        let ended = history["trial"].is_null() && history["items"].as_array().unwrap().len() == tried + 1;
        if ended { Ok(()) } else { Err(history) }
    });
    assert_eq!((node.settled().as_str(), layout(&live)), (OWN, Some(1)));
    let last = node.last();
    let back = last["exchange"]["back"].as_str().unwrap();
    assert!(back.contains(&format!("-{OWN}-last-")) && backups(&node).contains(&back.to_owned()), "{last:#}");
    let steps = last["steps"].as_array().unwrap();
    assert!(
        steps.iter().any(|step| step["name"] == "backed up at its end" && step["detail"] == back),
        "{last:#}"
    );
    let found = rusqlite::Connection::open(&live).unwrap();
    let word: String = found.query_row("SELECT word FROM late", [], |row| row.get(0)).unwrap();
    assert_eq!(word, "kept");
    drop(found);

    // One that is well and changes the layout later: the way back is a person's.
    node.upgrade(&node.releases.kedge("0.1.3"), &["--wait"]).assert_status(0);
    assert_eq!(node.settled(), "0.1.3");
    let raise = || {
        let newer = rusqlite::Connection::open(&live).unwrap();
        newer.busy_timeout(Duration::from_secs(5)).unwrap();
        newer.execute_batch("PRAGMA user_version=7").unwrap();
    };
    raise();
    let planned = node.house.kedge(&["edge", "rollback", "--dry-run"]);
    assert!(planned.stderr.contains("needs the database and configuration of a backup"), "{planned:?}");
    let back = node.house.kedge(&["edge", "rollback", "--wait", "--yes"]);
    assert_eq!(back.status, 0, "{back:?}\n{}", world.log("keeper.err"));
    assert_eq!((node.settled().as_str(), layout(&live)), (OWN, Some(1)));
    let last = node.last();
    assert!(last["reason"].as_str().unwrap().contains("those of 0.1.3 are kept as"), "{last:#}");
    assert_eq!(layout_of_backup(&node, &last["exchange"]["aside"]), 7);

    // Without a backup that is old enough there is no way back, and that is told before anything is touched.
    node.upgrade(&node.releases.kedge("0.1.3"), &["--wait"]).assert_status(0);
    assert_eq!(node.settled(), "0.1.3");
    raise();
    node.house.run("rm", &["-r", "/var/lib/kedge/backup"]).assert_status(0);
    let refused = node.house.kedge(&["edge", "rollback", "--wait", "--yes"]);
    assert!(code(&refused) == "KE-UPGRADE-025" && refused.stderr.contains("its layout is 7"), "{refused:?}");
    assert_eq!(node.settled(), "0.1.3");
    // And a daemon that finds a database of a newer one leaves it alone.
    node.house.run("pkill", &["-KILL", "-x", "kedge"]);
    eventually("the refusal is told", SOON, || {
        let log = world.log("keeper.err");
        if log.contains("KE-STORE-007") { Ok(()) } else { Err(log) }
    });
    assert_eq!(layout(&live), Some(7));
}

#[test]
fn an_upgrade_that_is_killed_at_any_step_leaves_one_slot() {
    let world = World::new("killed");
    let mut node = Node::alone(&world);
    // What it does when it is started counts for the launcher's test; here each step of the command is the last one.
    let new = node.releases.stand_in("0.1.1", Instead::Ends);
    let mut killed = 0;
    for step in 1.. {
        let inject = format!("inject={SYNCS}:signal=KILL:when={step}");
        let line = [
            "-o",
            "/tmp/trace",
            "-y",
            "-e",
            TRACED,
            "-e",
            &inject,
            "/usr/local/bin/kedge",
            "edge",
            "upgrade",
        ];
        let got = node.house.run("strace", &[&line[..], &["--to", &new, "--yes"]].concat());
        if got.status == 0 {
            durable(&node.house.read("/tmp/trace"));
            break;
        }
        if code_of(&got) == "KE-UPGRADE-002" {
            // The step before this one was the handover's; whether the old daemon was told, the next start knows.
            node.power_off();
            node.keep("");
            node.settled();
            continue;
        }
        assert_eq!(code_of(&got), "", "{got:?}");
        killed += 1;
        // Half of the times the machine goes with it.
        if step % 2 == 0 {
            node.power_off();
            node.keep("");
        }
        let trial = node.history()["trial"].clone();
        if !trial.is_null() {
            assert_eq!(trial["phase"]["is"], "armed", "{trial}");
        }
        assert!(step < 200, "it never comes to its end: {got:?}");
    }
    eprintln!("killed at {killed} steps");
    assert!(killed > 8, "only {killed} steps were synced");
    assert_eq!(node.settled(), OWN);
    let ids: Vec<Value> =
        node.history()["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect();
    let mut once = ids.clone();
    once.dedup();
    assert_eq!(ids, once);
}

#[test]
fn what_an_upgrade_killed_at_a_name_has_left_goes_with_the_next() {
    let world = World::new("strays");
    let mut node = Node::alone(&world);
    let new = node.releases.stand_in("0.1.1", Instead::Ends);
    let unsigned = node.releases.path("unsigned");
    fs::copy(&new, &unsigned).unwrap();
    let mut killed = 0;
    for (calls, most) in [("?rename,?renameat,?renameat2", 5), ("?symlink,?symlinkat", 2)] {
        for count in 1..=most {
            let inject = format!("inject={calls}:signal=KILL:when={count}");
            let line = ["-o", "/tmp/trace", "-e", &inject, "/usr/local/bin/kedge", "edge", "upgrade"];
            let got = node.house.run("strace", &[&line[..], &["--to", &new, "--yes"]].concat());
            killed += usize::from(node.house.read("/tmp/trace").contains("killed by SIGKILL"));
            node.power_off();
            // It does not get far; it takes the lock.
            let next = node.upgrade(&unsigned, &[]);
            assert!(code(&next).starts_with("KE-UPGRADE-"), "{next:?}");
            let names = node.house.run("ls", &["-A", VERSIONS]).stdout;
            let left =
                |name: &str| name.ends_with(".kedge-new") || name.contains(".tmp-") || name.starts_with(".");
            assert!(!names.lines().any(left), "{names}\nafter {got:?}");
            node.keep("");
            assert_eq!(node.settled(), OWN);
        }
    }
    assert!(killed > 3, "{killed}");
}

#[test]
fn a_launcher_that_is_killed_at_any_step_leaves_one_slot() {
    let world = World::new("launcher-killed");
    let mut node = Node::alone(&world);
    let new = node.releases.kedge("0.1.1");
    let (mut kept, mut returned, mut untouched) = (0, 0, 0);
    for step in 1.. {
        // Without a daemon the upgrade only arms: the launcher that is traced tries the version.
        node.power_off();
        node.upgrade(&new, &[]).assert_status(0);
        let before = node.history()["items"].as_array().unwrap().len();
        let inject = format!("inject={SYNCS}:signal=KILL:when={step}");
        let launch = format!("{VERSIONS}/launcher/kedge edge launch --config {CONFIG}");
        node.keep(&format!("strace -o /tmp/trace -y -e {TRACED} -e {inject} {launch}"));
        eventually("the trial ends", SOON, || {
            let history = node.history();
            let ended = history["items"].as_array().unwrap().len() == before + 1;
            if ended { Ok(()) } else { Err((history, world.log("keeper.err"))) }
        });
        let slot = node.settled();
        let history = node.history();
        assert_eq!(history["items"].as_array().unwrap().len(), before + 1, "{history:#}");
        let outcome = node.last()["outcome"].clone();
        match slot.as_str() {
            "0.1.1" => {
                assert_eq!(outcome, "done");
                kept += 1;
            }
            OWN => {
                assert_eq!(outcome, "returned");
                returned += 1;
            }
            other => panic!("{other}"),
        }
        let trace = node.house.read("/tmp/trace");
        let killed = trace.contains("killed by SIGKILL");
        // Until the backup at the old daemon's end is whole, the next start begins anew.
        untouched += usize::from(!trace.contains("/state.json"));
        let half_made = node.house.run("ls", &["-A", "/var/lib/kedge/backup"]).stdout;
        assert!(!half_made.contains(".unfinished"), "{half_made}");
        if slot == "0.1.1" {
            node.power_off();
            node.keep("");
            node.serves("0.1.1");
            node.house.kedge(&["edge", "rollback", "--wait", "--yes"]).assert_status(0);
            assert_eq!(node.settled(), OWN);
        }
        if !killed {
            durable(&trace);
            break;
        }
        assert!(step < 60, "the launcher is killed for ever");
    }
    eprintln!(
        "the new version was kept {kept} times and given back {returned} times; {untouched} cuts fell into the copy"
    );
    assert!(kept > 1 && returned > 0 && untouched > 3, "{kept} {returned} {untouched}");
}

/// Where an upgrade is cut: before each of its calls that make something durable. What lies between two of them is either
/// there or not when the machine comes back, as [`durable`] demands.
const SYNCS: &str = "fsync,fdatasync";
const TRACED: &str = "trace=fsync,fdatasync,rename,renameat,renameat2,symlink,symlinkat";

/// Whatever takes a name is synced before, and its directory is synced before anything else takes one.
#[track_caller]
fn durable(trace: &str) {
    let (mut synced, mut links): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let (mut open, mut renames): (Option<&str>, usize) = (None, 0);
    for line in trace.lines() {
        let texts: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        match line.split('(').next().unwrap_or_default() {
            "fsync" | "fdatasync" => {
                let path = line.split('<').nth(1).and_then(|rest| rest.split('>').next()).unwrap_or_default();
                synced.push(path);
                open = open.filter(|dir| *dir != path);
            }
            call if call.starts_with("symlink") => links.push(texts.last().unwrap()),
            call if call.starts_with("rename") => {
                let (from, to) = (texts[0], texts[texts.len() - 1]);
                assert!(synced.contains(&from) || links.contains(&from), "{from} was not synced: {trace}");
                assert_eq!(open, None, "its entry was not synced before {to} came: {trace}");
                open = to.rsplit_once('/').map(|(dir, _)| dir);
                renames += 1;
            }
            _ => {}
        }
    }
    assert!(open.is_none() && renames > 3, "{open:?} {renames} {trace}");
}

/// The configuration of a node that joins the cloud of another house.
fn joining(cloud: &House<'_>, house: &House<'_>) -> String {
    let token = cloud.kedge(&["gettoken", "--kube-config", KUBECONFIG]);
    token.assert_status(0);
    let address = cloud.address();
    let config = house.kedge(&["edge", "config", "--minconfig"]).stdout;
    let config = config.replace("https://127.0.0.1:10002", &format!("https://{address}:10002"));
    let config = config.replace("server: 127.0.0.1:10000", &format!("server: {address}:10000"));
    config.replace("token: \"\"", &format!("token: {}", token.stdout.trim()))
}

#[test]
fn pods_run_on_while_versions_come_and_go() {
    let world = World::new("upgrade-pods");
    let cloud_house = House::new(&world, "cloud");
    let house = House::new(&world, "edge-1");
    let _cloud = cloud_house.cloud();
    let _containerd = house.containerd();
    let config = joining(&cloud_house, &house);
    let node = Node::of(&world, house, &config);
    fs::write(world.dir.join("pod.yaml"), pod("steady", "edge-1", &[sleeper("c")])).unwrap();
    let manifest = world.dir.join("pod.yaml").display().to_string();
    eventually("the pod is taken", SOON, || {
        let got = cloud_house.kubectl(&["apply", "-f", &manifest]);
        if got.status == 0 { Ok(()) } else { Err(got) }
    });
    let pod = |field: &str| {
        let path = format!("jsonpath={{{field}}}");
        cloud_house.kubectl(&["get", "pod", "steady", "-o", &path]).stdout
    };
    eventually("the pod runs", SOON, || match pod(".status.phase") {
        phase if phase == "Running" => Ok(()),
        phase => Err((phase, world.log("keeper.err"))),
    });
    eventually("the node is well", SOON, || {
        let status = node.status().unwrap_or_default();
        let well = status["node"]["ready"] == true && status["link"]["link"] == "up";
        if well { Ok(()) } else { Err(status) }
    });
    let process = || node.house.run("pgrep", &["-f", "sleep 100000"]).stdout;
    let (container, started) = (process(), pod(".status.containerStatuses[0].state.running.startedAt"));
    assert!(!container.is_empty() && !started.is_empty());

    node.upgrade(&node.releases.kedge("0.1.1"), &["--wait"]).assert_status(0);
    node.serves("0.1.1");
    let interrupted = node.last()["interrupted"].as_i64().unwrap();
    eprintln!("with a pod and a cloud the daemon was interrupted for {interrupted} ms");
    let unwell = node.upgrade(&node.releases.stand_in("0.1.2", Instead::Ends), &["--wait"]);
    assert_eq!(code(&unwell), "KE-UPGRADE-014", "{unwell:?}");
    assert_eq!(node.settled(), "0.1.1");
    node.house.kedge(&["edge", "rollback", "--wait", "--yes"]).assert_status(0);
    assert_eq!(node.settled(), OWN);

    assert_eq!(process(), container);
    eventually("the cloud hears of the pod as before", SOON, || {
        let after = (pod(".status.containerStatuses[0].state.running.startedAt"), pod(".status.phase"));
        if after == (started.clone(), "Running".to_owned()) { Ok(()) } else { Err(after) }
    });
    assert_eq!(pod(".status.containerStatuses[0].restartCount"), "0");
    assert!(Path::new(&manifest).exists());
}

const JOB: &str = r#"
apiVersion: operations.kubeedge.io/v1alpha2
kind: NodeUpgradeJob
metadata: {name: NAME}
spec: {version: VERSION, nodeNames: [edge-1], timeoutSeconds: 300, requireConfirmation: CONFIRM}
"#;

#[test]
fn the_cloud_upgrades_a_node_and_hears_of_each_step_across_its_restart() {
    let world = World::new("upgrade-cloud");
    let cloud_house = House::new(&world, "cloud");
    let house = House::new(&world, "edge-1");
    let _cloud = cloud_house.cloud();
    let config = joining(&cloud_house, &house).replace("containerd: auto", "containerd: \"off\"");
    let node = Node::of(&world, house, &config);
    eventually("the node is known and its link is up", SOON, || {
        let status = node.status().unwrap_or_default();
        let well = status["link"]["link"] == "up" && status["node"]["registered"] == true;
        if well { Ok(()) } else { Err((status, world.log("keeper.err"))) }
    });
    let publish = |version: &str, file: &str| {
        let place = format!("/var/lib/kedge/releases/{version}/{}/kedge", std::env::consts::ARCH);
        cloud_house.write(&place, fs::read(file).unwrap());
        cloud_house.write(&format!("{place}.sig"), fs::read(format!("{file}.sig")).unwrap());
    };
    let order = |name: &str, version: &str, confirm: bool| {
        let text = JOB.replace("NAME", name).replace("VERSION", version);
        let file = world.dir.join("job.yaml");
        fs::write(&file, text.replace("CONFIRM", if confirm { "true" } else { "false" })).unwrap();
        eventually("the job is taken", SOON, || {
            let got = cloud_house.kubectl(&["apply", "-f", file.to_str().unwrap()]);
            if got.status == 0 { Ok(()) } else { Err(got) }
        });
    };
    let row = |name: &str| -> Value {
        let got = cloud_house.kubectl(&["get", "nodeupgradejob", name, "-o", "json"]);
        let job: Value = serde_json::from_str(&got.stdout).unwrap_or_default();
        job["status"]["nodeStatus"][0].clone()
    };
    let flow = |row: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let steps = row["actionFlow"].as_array().cloned().unwrap_or_default();
        steps.iter().map(|step| (text(&step["action"]), text(&step["status"]))).collect()
    };
    let ends = |name: &str, phase: &str| {
        eventually(&format!("{name} ends"), Duration::from_secs(120), || {
            let row = row(name);
            if row["phase"] == phase { Ok(row) } else { Err((row, world.log("keeper.err"))) }
        })
    };

    order("absent", "v0.1.7", false);
    let refused = ends("absent", "Failure");
    assert_eq!(flow(&refused), [("Check".to_owned(), "False".to_owned())]);
    assert!(refused["reason"].as_str().unwrap().contains("the cloud has no kedge 0.1.7"), "{refused}");

    publish("0.1.1", &node.releases.kedge("0.1.1"));
    order("good", "v0.1.1", true);
    let waiting = eventually("it waits for an agreement", SOON, || {
        let got = node.house.kedge(&["edge", "upgrade", "confirm", "--dry-run"]);
        if got.status == 0 { Ok(got) } else { Err((got, row("good"), world.log("keeper.err"))) }
    });
    assert!(waiting.stderr.contains("0.1.1 by good"), "{waiting:?}");
    // A daemon that starts anew meanwhile goes on waiting.
    node.house.run("pkill", &["-TERM", "-x", "kedge"]);
    node.serves(OWN);
    assert_ne!(row("good")["phase"], "Successful");
    let agreed = node.house.kedge(&["edge", "upgrade", "confirm"]);
    agreed.assert_status(0);
    snapshot::said("edge upgrade confirm", &agreed);
    let done = ends("good", "Successful");
    let steps = ["Check", "WaitingConfirmation", "BackUp", "Upgrade"];
    assert_eq!(flow(&done), steps.map(|step| (step.to_owned(), "True".to_owned())));
    assert_eq!((&done["historicVersion"], &done["currentVersion"]), (&"v0.1.0".into(), &"v0.1.1".into()));
    node.serves("0.1.1");
    assert_eq!(node.last()["by"], "job good");

    publish("0.1.2", &node.releases.stand_in("0.1.2", Instead::Ends));
    order("unwell", "v0.1.2", false);
    let failed = eventually("the way back is told", Duration::from_secs(120), || {
        let row = row("unwell");
        let told = flow(&row).iter().any(|(action, _)| action == "RollBack");
        if told { Ok(row) } else { Err((row, world.log("keeper.err"))) }
    });
    let expected = [
        ("Check", "True"),
        ("WaitingConfirmation", "True"),
        ("BackUp", "True"),
        ("Upgrade", "False"),
        ("RollBack", "True"),
    ];
    assert_eq!(flow(&failed), expected.map(|(step, status)| (step.to_owned(), status.to_owned())));
    assert_eq!(node.settled(), "0.1.1");
}
