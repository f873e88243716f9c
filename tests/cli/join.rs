//! `kedge join` on machines of their own against a cloud on another one: Ready in seconds, refused with nothing written,
//! rolled back, killed and run again, taken over from an edgecore. What a machine had before is compared with what it has
//! after, file by file.

use crate::support::house::{House, KUBECONFIG};
use crate::support::machine::signal;
use crate::support::snapshot::{self, Errors};
use crate::support::world::{Daemon, World};
use crate::support::{Run, eventually};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);
const JOURNAL: &str = "/var/lib/kedge/journal/journal.jsonl";
const CONFIG: &str = "/etc/kubeedge/config/edgecore.yaml";

/// A cloud in a house of its own.
pub struct Cloud<'w> {
    pub house: House<'w>,
    _daemon: Daemon,
}

impl<'w> Cloud<'w> {
    pub fn new(world: &'w World) -> Cloud<'w> {
        let house = House::new(world, "cloud");
        let daemon = house.cloud();
        Cloud { house, _daemon: daemon }
    }

    #[track_caller]
    pub fn token(&self, more: &[&str]) -> String {
        let made = self.house.kedge(&[&["token", "create", "--kube-config", KUBECONFIG], more].concat());
        made.assert_status(0);
        made.stdout.trim().to_owned()
    }

    pub fn at(&self) -> String {
        format!("{}:10000", self.house.address())
    }

    #[track_caller]
    pub fn is_ready(&self, node: &str) {
        let status = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        eventually(&format!("{node} is Ready in the cloud"), SOON, || {
            let got = self.house.kubectl(&["get", "node", node, "-o", status]);
            if got.stdout == "True" { Ok(()) } else { Err(got) }
        });
    }
}

/// A machine with a running containerd, and what it looks like.
pub struct Machine<'w> {
    pub house: House<'w>,
    pub before: BTreeMap<String, String>,
    _containerd: Daemon,
}

impl<'w> Machine<'w> {
    pub fn new(world: &'w World, name: &str) -> Machine<'w> {
        let house = House::new(world, name);
        let containerd = house.containerd();
        let before = house.changed_files();
        Machine { house, before, _containerd: containerd }
    }

    pub fn join(&self, cloud: &Cloud<'_>, token: &str, more: &[&str]) -> Run {
        let at = cloud.at();
        self.house.kedge(&[&["join", "--cloudcore-ipport", &at, "--token", token], more].concat())
    }

    /// The machine has what it had before, and nothing of kedge runs.
    #[track_caller]
    pub fn is_as_before(&self, after: &dyn std::fmt::Debug) {
        let now = self.house.changed_files();
        let mut told = String::new();
        for path in self.before.keys().chain(now.keys()) {
            let (was, is) = (self.before.get(path), now.get(path));
            // Where the file system below never had it, or has it no more, its absence is told in two ways.
            let absent = |what: Option<&String>| what.is_none_or(|what| what == "removed");
            if was != is
                && !(absent(was) && absent(is) && !self.house.has(path))
                && !told.contains(&format!("{path}:"))
            {
                writeln!(told, "{path}: {was:?} -> {is:?}").unwrap();
            }
        }
        assert!(told.is_empty(), "changed:\n{told}\nafter {after:?}");
        let running = self.house.processes();
        assert!(!running.iter().any(|line| line.contains("kedge")), "{running:?}");
        let links = self.house.run("ip", &["-o", "link"]).stdout;
        assert!(!links.contains("kedge-"), "{links}");
        let rules = self.house.run("iptables", &["-w", "5", "-t", "nat", "-S"]).stdout;
        assert!(!rules.contains("kedge-"), "{rules}");
    }

    #[track_caller]
    pub fn reset(&self) -> Run {
        let reset = self.house.kedge(&["reset", "edge", "--yes"]);
        assert_eq!(reset.status, 0, "{reset:?}");
        reset
    }
}

/// What a failed run has told.
#[track_caller]
fn refused(run: &Run, status: i32, code: &str, words: &str) {
    assert_eq!(run.status, status, "{run:?}");
    assert!(run.stderr.contains(code) && run.stderr.contains(words), "{code} {words}: {run:?}");
    assert!(run.stderr.contains("fix: "), "{run:?}");
    snapshot::failed(run);
}

#[test]
fn a_prepared_machine_is_ready_in_seconds_and_joining_again_is_safe() {
    let world = World::new("join");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let token = cloud.token(&["--uses", "1"]);
    let began = Instant::now();
    let run = machine.join(&cloud, &token, &["-l", "site=north"]);
    let took = began.elapsed();
    assert_eq!(run.status, 0, "{run:?}");
    eprintln!("kedge join took {:.2} s to Ready\n{}", took.as_secs_f64(), run.stderr);
    for (number, name) in
        ["TCP", "TLS", "CA hash", "certificate", "hub session", "Node object", "runtime", "CNI", "Ready"]
            .iter()
            .enumerate()
    {
        let begin = format!("[{}/9]", number + 1);
        let line = run.stderr.lines().find(|line| line.starts_with(&begin)).unwrap_or_default();
        assert!(line.contains(name), "{begin} {name}: {}", run.stderr);
    }
    assert!(!run.stderr.contains(&token), "the token is a secret");
    snapshot::said("join", &run);
    cloud.is_ready("edge-7");
    let labels = cloud.house.kubectl(&["get", "node", "edge-7", "--show-labels"]).stdout;
    assert!(labels.contains("site=north"), "{labels}");
    let config = machine.house.read(CONFIG);
    assert!(!config.contains(token.rsplit('.').next().unwrap()), "the token is not kept");

    // Again, with the same line: the token is used up and not needed.
    let again = machine.join(&cloud, &token, &["-l", "site=north"]);
    assert!(again.status == 0 && again.stderr.contains("nothing to do"), "{again:?}");
    snapshot::said("join, again", &again);
    // A runtime that is named and silent is told; another name leaves a Node behind, which is told too.
    let silent = machine.join(&cloud, &token, &["-l", "site=north", "-p", "unix:///run/nope.sock"]);
    refused(&silent, 13, "KE-JOIN-011", "/run/nope.sock");
    let renamed = machine.join(&cloud, &cloud.token(&[]), &["-i", "edge-9", "--dry-run"]);
    assert!(renamed.status == 0 && renamed.stderr.contains("kubectl delete node edge-7"), "{renamed:?}");
    // Again, with another label: the daemon takes it up, the certificate stays.
    let cert = machine.house.read("/etc/kubeedge/certs/server.crt");
    let changed = machine.join(&cloud, &token, &["-l", "site=south"]);
    assert_eq!(changed.status, 0, "{changed:?}");
    assert!(machine.house.read(CONFIG).contains("site: south"));
    assert_eq!(machine.house.read("/etc/kubeedge/certs/server.crt"), cert);

    let listed = machine.house.kedge(&["reset", "edge", "--dry-run"]);
    assert!(listed.status == 0 && listed.stdout.contains(CONFIG), "{listed:?}");
    assert_eq!(machine.house.kedge(&["status"]).status, 0);
    // Somebody who may not look is told so, and never that there is nothing.
    for command in [&["status"][..], &["pods"], &["undo", "--list"], &["service", "status"]] {
        let nobody = ["--reuid", "65534", "--clear-groups", "/usr/local/bin/kedge"];
        let run = machine.house.run("setpriv", &[&nobody[..], command].concat());
        assert!(run.status != 0 && run.stderr.contains("sudo"), "{command:?}: {run:?}");
    }
    // A daemon that is there and does not answer is not one that does not run.
    machine.house.run("pkill", &["-STOP", "-x", "kedge"]).assert_status(0);
    let daemon = machine.house.read("/var/lib/kubeedge/edgecore.db.lock").trim().to_owned();
    let silent = machine.house.kedge(&["status"]);
    refused(&silent, 4, "KE-STATUS-003", "kedge service restart edge");
    assert!(silent.stderr.contains(&format!("process {daemon}, which runs since 20")), "{silent:?}");
    let doctor = |state: &str, words: &str| {
        let run = machine.house.kedge(&["doctor", "--role", "edge", "--only", "KE-DAEMON-001"]);
        assert!(run.stdout.contains(state) && run.stdout.contains(words), "{run:?}");
    };
    doctor(&format!("process {daemon}, "), "kedge service restart edge");
    machine.house.run("pkill", &["-CONT", "-x", "kedge"]).assert_status(0);
    machine.house.kedge(&["service", "stop", "edge"]).assert_status(0);
    refused(&machine.house.kedge(&["status"]), 4, "KE-STATUS-001", "kedge service start edge");
    doctor("does not run", "kedge service start edge");
    let reset = machine.reset();
    machine.is_as_before(&reset);
    snapshot::said("reset edge", &reset);
    let nothing = machine.house.kedge(&["reset", "edge"]);
    assert!(nothing.status == 0 && nothing.stderr.contains("nothing to undo"), "{nothing:?}");
}

#[test]
fn what_is_wrong_is_told_before_anything_is_written() {
    let world = World::new("join-refused");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let mut errors = Errors::default();
    let mut refused = |run: &Run, status: i32, code: &str, words: &str| {
        refused(run, status, code, words);
        errors.keep(run);
    };
    let good = cloud.token(&[]);
    let old = cloud.token(&["--ttl", "1s"]);
    let of_another = cloud.token(&["--node", "edge-8"]);
    let (_, jwt) = good.split_once('.').unwrap();
    let wrong_hash = format!("{}.{jwt}", "ab".repeat(32));
    std::thread::sleep(Duration::from_millis(1100));
    for (token, code, words) in [
        (old.as_str(), "KE-TOKEN-002", "ago"),
        (&of_another, "KE-TOKEN-006", "edge-8"),
        (&wrong_hash, "KE-TOKEN-001", "another cloud"),
        ("nonsense", "KE-TOKEN-004", "kedge token create"),
        ("", "KE-TOKEN-016", "kedge token create"),
    ] {
        let run = machine.join(&cloud, token, &[]);
        refused(&run, 12, code, words);
        machine.is_as_before(&run);
    }
    // A token of this cloud that was revoked is refused by the cloud itself, with the journal open.
    let revoked = cloud.token(&["--uses", "1"]);
    let id = cloud.house.kedge(&["token", "list", "--kube-config", KUBECONFIG]).stdout;
    let id = id.lines().find(|line| line.split_whitespace().nth(2) == Some("1")).unwrap();
    let id = id.split_whitespace().next().unwrap();
    let done = cloud.house.kedge(&["token", "revoke", id, "--kube-config", KUBECONFIG]);
    done.assert_status(0);
    snapshot::said("token revoke ID", &done);
    let run = eventually("the cloud knows that the token is revoked", SOON, || {
        let run = machine.join(&cloud, &revoked, &["--timeout", "1ms"]);
        if run.status == 12 { Ok(run) } else { Err(run) }
    });
    refused(&run, 12, "KE-TOKEN-003", "used up or revoked");
    machine.is_as_before(&run);

    let nobody = machine.house.kedge(&["join", "-e", &format!("{}:9", cloud.house.address()), "-t", &good]);
    refused(&nobody, 11, "KE-LINK-002", "refused");
    let missing = machine.house.kedge(&["join", "-t", &good]);
    refused(&missing, 2, "KE-JOIN-001", "--cloudcore-ipport");
    let unknown = machine.join(&cloud, &good, &["--set", "modules.edgHub.heartbeat=3"]);
    refused(&unknown, 2, "KE-CONFIG-003", "did you mean edgeHub?");
    let wrong = machine.join(&cloud, &good, &["--set", "modules.edgeHub.websocket.enable=false"]);
    refused(&wrong, 3, "KE-CONFIG-002", "modules.edgeHub.websocket.enable");
    let runtime = machine.join(&cloud, &good, &["-p", "unix:///run/none.sock"]);
    refused(&runtime, 13, "KE-JOIN-011", "/run/none.sock");
    let plan = machine.join(&cloud, &good, &["--dry-run"]);
    assert!(plan.status == 0 && plan.stdout.contains(CONFIG), "{plan:?}");
    machine.is_as_before(&plan);

    // Somebody who may not, and a system that cannot be written to.
    let line = [
        "--reuid",
        "65534",
        "--clear-groups",
        "/usr/local/bin/kedge",
        "join",
        "-e",
        &cloud.at(),
        "-t",
        &good,
    ];
    let nobody = machine.house.run("setpriv", &line);
    refused(&nobody, 10, "KE-JOIN-010", "root");
    machine.house.run("mount", &["--bind", "/etc", "/etc"]).assert_status(0);
    machine.house.run("mount", &["-o", "remount,ro,bind", "/etc"]).assert_status(0);
    let read_only = machine.join(&cloud, &good, &[]);
    refused(&read_only, 10, "KE-JOIN-010", "/etc/kubeedge");
    machine.house.run("umount", &["/etc"]).assert_status(0);
    machine.is_as_before(&read_only);

    // No space for the journal and the binary, on a disk of their own.
    machine.house.run("mkdir", &["/var/lib/kedge"]).assert_status(0);
    machine
        .house
        .run("mount", &["-t", "tmpfs", "-o", "size=16k", "tmpfs", "/var/lib/kedge"])
        .assert_status(0);
    machine.house.run("dd", &["if=/dev/zero", "of=/var/lib/kedge/filler", "bs=4k"]);
    let full = machine.join(&cloud, &good, &[]);
    refused(&full, 10, "KE-DISK-001", "free space for /var/lib/kedge");
    machine.house.run("umount", &["/var/lib/kedge"]).assert_status(0);
    machine.house.run("rmdir", &["/var/lib/kedge"]).assert_status(0);
    machine.is_as_before(&full);

    // Another kedge is at work: it is named by its process.
    let hold = "mkdir -p /var/lib/kedge/journal; exec 9>/var/lib/kedge/journal/lock; flock 9; echo $$ >&9; echo held >&2; exec sleep 100";
    let mut other = machine.house.start_program("other", "sh", &["-c", hold]);
    other.wait_for("held", SOON);
    let second = machine.join(&cloud, &good, &[]);
    refused(&second, 1, "KE-JOURNAL-001", "kill ");
    assert!(!second.stderr.contains("[1/9]") && !second.stderr.contains("broken off"), "{second:?}");
    other.kill();
    errors.are_as_committed("join-errors", &[(cloud.house.address(), "CLOUD")]);
}

#[test]
fn each_place_that_it_writes_to_needs_room() {
    let world = World::new("join-full");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let (house, token) = (&machine.house, cloud.token(&[]));
    for dir in ["/etc/kubeedge", "/etc/cni/net.d", "/var/lib/kedge/versions", "/var/lib/kubeedge"] {
        let ways = std::path::Path::new(dir).ancestors().map(|way| way.to_str().unwrap());
        let made: Vec<&str> = ways.take_while(|way| !house.has(way)).collect();
        house.run("mkdir", &["-p", dir]).assert_status(0);
        house.run("mount", &["-t", "tmpfs", "-o", "size=16k", "tmpfs", dir]).assert_status(0);
        house.run("dd", &["if=/dev/zero", &format!("of={dir}/filler"), "bs=4k"]);
        let full = machine.join(&cloud, &token, &[]);
        refused(&full, 10, "KE-DISK-001", &format!("free space for {dir}"));
        assert!(!full.stderr.contains("[4/9]"), "no certificate was asked for: {full:?}");
        house.run("umount", &[dir]).assert_status(0);
        for way in made {
            house.run("rmdir", &[way]).assert_status(0);
        }
        machine.is_as_before(&full);
    }
}

/// Another time of day, by as many seconds as `SHIFT` says. Loaded into the process under test only.
const SHIFTED_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *now) {
  int done = (int)syscall(SYS_clock_gettime, id, now);
  const char *shift = getenv("SHIFT");
  if (done == 0 && id == CLOCK_REALTIME && shift) now->tv_sec += atol(shift);
  return done;
}
"#;

#[test]
fn a_clock_that_is_wrong_is_told_against_the_clouds_before_anything_is_written() {
    let world = World::new("join-clock");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let (token, at) = (cloud.token(&[]), cloud.at());
    let clock = preloaded(&world, "clock", SHIFTED_CLOCK);
    let join = |seconds: i64, more: &[&str]| {
        let shift = format!("SHIFT={seconds}");
        let line = [clock.as_str(), &shift, "/usr/local/bin/kedge", "join", "-e", &at, "-t", &token];
        machine.house.run("env", &[&line[..], more].concat())
    };
    for (seconds, status, code, words) in [
        (90, 12, "KE-CLOCK-002", "1 min ahead of the cloud's"),
        (-200, 12, "KE-CLOCK-002", "3 min behind the cloud's"),
        (-4 * 365 * 86_400, 10, "KE-CLOCK-001", "behind the cloud's; certificates and tokens"),
    ] {
        let run = join(seconds, &[]);
        refused(&run, status, code, words);
        machine.is_as_before(&run);
    }
    join(20, &["--dry-run"]).assert_status(0);
}

#[test]
fn a_join_that_does_not_get_ready_leaves_the_machine_as_it_was() {
    let world = World::new("join-back");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let token = cloud.token(&[]);
    let nowhere = format!("modules.edgeHub.websocket.server={}:9", cloud.house.address());
    let run = machine.join(&cloud, &token, &["--set", &nowhere, "--timeout", "6s"]);
    refused(&run, 14, "KE-JOIN-014", "hub session is pending");
    machine.is_as_before(&run);
    let mut errors = Errors::default();
    errors.keep(&run);
    errors.are_as_committed("join-rolled-back", &[(cloud.house.address(), "CLOUD")]);

    // Interrupted while it waits.
    let at = cloud.at();
    let args = ["join", "-e", &at, "-t", &token, "--set", &nowhere];
    let mut join = machine.house.start("interrupted", &args);
    join.wait_for("[4/9]", SOON);
    eventually("the daemon runs", SOON, || {
        if machine.house.has("/var/lib/kubeedge/kedge.sock") { Ok(()) } else { Err("not yet") }
    });
    let status = join.interrupt();
    let run = Run { status, stdout: String::new(), stderr: world.log("interrupted.err") };
    refused(&run, 130, "KE-JOIN-016", "");
    assert!(run.stderr.ends_with("\n  code: KE-JOIN-016"), "{run:?}");
    machine.is_as_before(&run);

    // A joined node that is told nonsense goes on as it was.
    machine.join(&cloud, &token, &[]).assert_status(0);
    let config = machine.house.read(CONFIG);
    let spoilt = machine.join(&cloud, &token, &["--set", &nowhere, "--timeout", "3s"]);
    assert_eq!(spoilt.status, 14, "{spoilt:?}");
    assert_eq!(machine.house.read(CONFIG), config);
    cloud.is_ready("edge-7");
    let again = machine.join(&cloud, &token, &[]);
    assert_eq!(again.status, 0, "{again:?}");

    // One that is killed on a joined node takes nothing from it: neither the next that fails, nor one that gets through.
    machine.house.kedge(&["config", "set", "modules.edgeHub.heartbeat=21"]).assert_status(0);
    let set = machine.house.read(CONFIG);
    let cut = || {
        let more = ["-l", "zone=b"];
        let mut join = machine.house.start("cut", &[&args[..], &more].concat());
        eventually("the configuration is written", SOON, || {
            let config = machine.house.read(CONFIG);
            if config.contains("zone: b") { Ok(()) } else { Err(config) }
        });
        signal(join.pid(), "KILL");
        join.wait_end(SOON);
    };
    cut();
    let spoilt = machine.join(&cloud, &token, &["--set", &nowhere, "--timeout", "1s"]);
    assert_eq!(spoilt.status, 14, "{spoilt:?}");
    assert_eq!(machine.house.read(CONFIG), set, "as before the one that was killed: {spoilt:?}");
    assert!(machine.house.has("/var/lib/kubeedge/edgecore.db"), "{spoilt:?}");
    cloud.is_ready("edge-7");
    cut();
    let again = machine.join(&cloud, &token, &["-l", "zone=b"]);
    assert_eq!(again.status, 0, "{again:?}");
    let config = machine.house.read(CONFIG);
    assert!(config.contains("heartbeat: 21") && config.contains("zone: b"), "{config}");
    let reset = machine.reset();
    machine.is_as_before(&reset);
}

#[test]
fn a_terminal_that_goes_rolls_a_join_back() {
    let world = World::new("join-hangup");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let (token, at) = (cloud.token(&[]), cloud.at());
    let nowhere = format!("modules.edgeHub.websocket.server={}:9", cloud.house.address());
    // Who runs the tests under nohup has everything ignore the signal.
    let line = ["--default-signal=HUP", "kedge", "join", "-e", &at, "-t", &token, "--set", &nowhere];
    let mut join = machine.house.start_program("dropped", "env", &line);
    join.wait_for("[4/9]", SOON);
    eventually("the daemon runs", SOON, || {
        if machine.house.has("/var/lib/kubeedge/kedge.sock") { Ok(()) } else { Err("not yet") }
    });
    // The shell and the kernel each send one.
    signal(join.pid(), "HUP");
    signal(join.pid(), "HUP");
    assert_eq!(join.wait_end(SOON), 130, "{}", world.log("dropped.err"));
    machine.is_as_before(&world.log("dropped.err"));
}

/// Makes every line of the journal take a moment, so that a kill can fall between any two: after a change is recorded
/// and before it is made. Loaded into the process under test only.
const SLOW_JOURNAL: &str = r#"
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>
int fdatasync(int fd) {
  int done = (int)syscall(SYS_fdatasync, fd);
  usleep(20000);
  return done;
}
"#;

/// The variable that has a program load this text of C before anything else.
fn preloaded(world: &World, name: &str, text: &str) -> String {
    let (source, library) = (world.dir.join(format!("{name}.c")), world.dir.join(format!("{name}.so")));
    std::fs::write(&source, text).unwrap();
    let (source, library) = (source.display().to_string(), library.display().to_string());
    crate::support::run("gcc", &["-shared", "-fPIC", "-o", &library, &source]).assert_status(0);
    format!("LD_PRELOAD={library}")
}

#[test]
fn killed_at_any_step_a_join_is_completed_or_reset() {
    let world = World::new("join-killed");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let token = cloud.token(&[]);
    let slow = preloaded(&world, "slow", SLOW_JOURNAL);
    let journal = machine.house.outside(JOURNAL);
    let at = cloud.at();
    let mut seen = Vec::new();
    // At the n-th line of the journal until a join has ended by then, and at the milestones of the wait.
    let steps = (1..=20).map(Ok).chain((5..=9).map(Err));
    for (turn, step) in steps.enumerate() {
        let line = [slow.as_str(), "/usr/local/bin/kedge", "join", "-e", &at, "-t", &token];
        let mut join = machine.house.start_program("killed", "env", &line);
        let text = || std::fs::read_to_string(&journal).unwrap_or_default();
        match step {
            Ok(lines) => {
                let began = Instant::now();
                while text().lines().count() < lines && !text().contains("\"finished\"") {
                    assert!(began.elapsed() < SOON, "line {lines}: {}", world.log("killed.err"));
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Err(milestone) => join.wait_for(&format!("[{milestone}/9]"), SOON),
        }
        signal(join.pid(), "KILL");
        join.wait_end(SOON);
        seen.push(text().lines().count());
        if turn % 2 == 0 {
            let again = machine.join(&cloud, &token, &[]);
            assert_eq!(again.status, 0, "{step:?}: {again:?}");
            cloud.is_ready("edge-7");
        }
        let reset = machine.house.kedge(&["reset", "edge", "--yes"]);
        assert_eq!(reset.status, 0, "{step:?}: {reset:?}");
        machine.is_as_before(&(step, reset));
    }
    eprintln!("journal lines at each kill: {seen:?}");
    seen.dedup();
    assert!(seen.len() >= 10, "the kills fell too close together: {seen:?}");
}

/// Calls before which a join is cut: what takes a name, what makes a directory, what takes a name away. Which of them a
/// processor knows differs.
const CUTS: [(&str, usize); 3] =
    [("?rename,?renameat,?renameat2", 8), ("?mkdir,?mkdirat", 6), ("?unlink,?unlinkat", 3)];
/// When enough is enough, once there were more than the least of them.
const CUTS_LIMIT: Duration = Duration::from_secs(25);
const CUTS_LEAST: usize = 5;

#[test]
fn killed_at_any_name_a_reset_leaves_the_machine_as_it_was() {
    let world = World::new("join-cut");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let token = cloud.token(&[]);
    let at = cloud.at();
    let strace = |calls: &str, count: usize, args: &[&str]| {
        let inject = format!("inject={calls}:signal=KILL:when={count}");
        let trace = format!("trace={calls}");
        let line = ["-o", "/tmp/trace", "-e", &trace, "-e", &inject, "/usr/local/bin/kedge"];
        let run = machine.house.run("strace", &[&line[..], args].concat());
        (run, machine.house.read("/tmp/trace"))
    };
    let began = Instant::now();
    let mut cuts: Vec<String> = Vec::new();
    let killed = |cuts: &[String]| cuts.iter().filter(|last| last.contains("killed")).count();
    for (calls, most) in CUTS {
        for count in 1..=most {
            if began.elapsed() > CUTS_LIMIT && killed(&cuts) > CUTS_LEAST {
                break;
            }
            let (run, trace) = strace(calls, count, &["join", "-e", &at, "-t", &token]);
            let was_cut = trace.contains("killed by SIGKILL");
            assert!(was_cut || run.status == 0, "{run:?}\n{trace}");
            cuts.push(trace.lines().last().unwrap_or_default().to_owned());
            let reset = machine.house.kedge(&["reset", "edge", "--yes"]);
            assert_eq!(reset.status, 0, "{trace}\n{reset:?}");
            machine.is_as_before(&(trace, reset));
            if !was_cut {
                break;
            }
        }
    }
    eprintln!("cut {} times in {:.1} s", killed(&cuts), began.elapsed().as_secs_f64());
    assert!(killed(&cuts) > CUTS_LEAST, "{cuts:?}");

    // A reset that is killed where it takes the last directory away, and one before that.
    machine.join(&cloud, &token, &[]).assert_status(0);
    let (whole, trace) = strace("?rmdir,?unlinkat", 10_000, &["reset", "edge", "--yes"]);
    assert_eq!(whole.status, 0, "{whole:?}");
    let calls = |name: &str| trace.lines().filter(|line| line.starts_with(name)).count();
    let last = if calls("rmdir(") > 0 { calls("rmdir(") } else { calls("unlinkat(") };
    for count in [last, last - 1] {
        machine.join(&cloud, &token, &[]).assert_status(0);
        let (_, trace) = strace("?rmdir,?unlinkat", count, &["reset", "edge", "--yes"]);
        let again = machine.house.kedge(&["reset", "edge", "--yes"]);
        assert_eq!(again.status, 0, "{trace}\n{again:?}");
        machine.is_as_before(&(trace, again));
    }
    // Killed before the journal's first line; the next join takes the directory for its own.
    machine.house.run("mkdir", &["-p", "/var/lib/kedge/journal"]).assert_status(0);
    machine.join(&cloud, &token, &[]).assert_status(0);
    let reset = machine.reset();
    machine.is_as_before(&reset);
}

#[test]
fn a_second_machine_does_not_get_the_name() {
    let world = World::new("join-name");
    let cloud = Cloud::new(&world);
    cloud
        .house
        .write("/tmp/node.json", r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "plane"}}"#);
    cloud.house.kubectl(&["create", "-f", "/tmp/node.json"]).assert_status(0);
    let first = Machine::new(&world, "edge-7");
    first.join(&cloud, &cloud.token(&[]), &[]).assert_status(0);
    let second = Machine::new(&world, "other");
    second.house.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    let before = second.house.changed_files();
    let named = ["--edgenode-name", "edge-7"];
    let run = second.join(&cloud, &cloud.token(&[]), &named);
    refused(&run, 12, "KE-DUP-001", "--takeover");
    let mut errors = Errors::default();
    errors.keep(&run);
    errors.are_as_committed("join-name", &[]);
    let prints: Vec<&str> = run.stderr.split(' ').filter(|word| is_fingerprint(word)).collect();
    assert_eq!(prints.len(), 2, "both fingerprints: {run:?}");
    assert_ne!(prints[0], prints[1]);
    // Nor the one of a Node that is no edge node's.
    let plane = second.join(&cloud, &cloud.token(&[]), &["--edgenode-name", "plane"]);
    refused(&plane, 12, "KE-DUP-001", "role of an edge node");
    assert_eq!(second.house.changed_files(), before);
    // The same machine comes back under its name after a reset, with nobody's help.
    first.reset();
    first.join(&cloud, &cloud.token(&[]), &[]).assert_status(0);
    first.reset();
    // An operator gives the name away.
    let given = cloud.token(&["--node", "edge-7", "--takeover"]);
    let run = second.join(&cloud, &given, &named);
    assert_eq!(run.status, 0, "{run:?}");
    second.reset();
}

/// A clone has the first machine's mark in every way: what tells the two apart is that the first one lives.
#[test]
fn a_cloned_disk_does_not_get_the_name_of_a_machine_that_answers() {
    let world = World::new("join-clone");
    let cloud = Cloud::new(&world);
    let (first, clone) = (Machine::new(&world, "edge-7"), Machine::new(&world, "clone"));
    for machine in [&first, &clone] {
        machine.house.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    }
    let before = clone.house.changed_files();
    let named = ["--edgenode-name", "edge-7"];
    // The same machine comes back after a reset, under a new key.
    first.join(&cloud, &cloud.token(&[]), &[]).assert_status(0);
    first.reset();
    first.join(&cloud, &cloud.token(&[]), &[]).assert_status(0);

    let once = cloud.token(&["--uses", "1"]);
    let run = clone.join(&cloud, &once, &named);
    refused(&run, 12, "KE-DUP-001", "--takeover");
    let mut errors = Errors::default();
    errors.keep(&run);
    errors.are_as_committed("join-clone", &[(first.house.address(), "FIRST")]);
    let prints: Vec<&str> = run.stderr.split_whitespace().filter(|word| is_fingerprint(word)).collect();
    assert_eq!(prints.len(), 2, "both fingerprints: {run:?}");
    assert_eq!(clone.house.changed_files(), before);
    cloud.is_ready("edge-7");
    // The first one renews its certificate while it is connected: it is its own.
    first.house.kedge(&["cert", "renew"]).assert_status(0);

    // A daemon that does not answer any more holds no name, though its connection stands; the token is not used up.
    first.house.run("pkill", &["-STOP", "-x", "kedge"]).assert_status(0);
    let run = clone.join(&cloud, &once, &named);
    assert_eq!(run.status, 0, "{run:?}");
    clone.reset();
    first.house.run("pkill", &["-CONT", "-x", "kedge"]).assert_status(0);
    // An operator's word counts more than who lives.
    cloud.is_ready("edge-7");
    let given = cloud.token(&["--node", "edge-7", "--takeover"]);
    clone.join(&cloud, &given, &named).assert_status(0);
    clone.reset();
    first.reset();
}

fn is_fingerprint(word: &str) -> bool {
    let word = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[test]
fn an_edgecore_gives_its_place_and_gets_it_back() {
    let world = World::new("join-takeover");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let house = &machine.house;
    // What an edgecore leaves: its files as kedge writes them too, and a process of its name.
    machine.join(&cloud, &cloud.token(&[]), &["-l", "site=north"]).assert_status(0);
    for dir in ["etc", "var"] {
        house.run("mkdir", &["-p", &format!("/kept/{dir}")]).assert_status(0);
    }
    house.run("cp", &["-a", "/etc/kubeedge", "/kept/etc/"]).assert_status(0);
    house.run("cp", &["-a", "/var/lib/kubeedge", "/kept/var/"]).assert_status(0);
    machine.reset();
    house.run("cp", &["-a", "/kept/etc/kubeedge", "/etc/"]).assert_status(0);
    house.run("cp", &["-a", "/kept/var/kubeedge", "/var/lib/"]).assert_status(0);
    house
        .run("rm", &["-rf", "/kept", "/var/lib/kubeedge/kedge.sock", "/etc/kubeedge/dmi.sock"])
        .assert_status(0);
    house.run("mkdir", &["-p", "/usr/local/bin"]).assert_status(0);
    house.run("cp", &["/bin/sleep", "/usr/local/bin/edgecore"]).assert_status(0);
    let _edgecore = house.start_program("edgecore", "/usr/local/bin/edgecore", &["100000"]);
    let before = house.changed_files();
    let cert = house.read("/etc/kubeedge/certs/server.crt");
    let config = house.read(CONFIG);

    let plain = house.kedge(&["join", "-e", &cloud.at(), "-t", "x"]);
    refused(&plain, 10, "KE-JOIN-007", "--takeover");
    let mut errors = Errors::default();
    errors.keep(&plain);
    errors.are_as_committed("join-takeover", &[]);
    refused(&house.kedge(&["reset", "edge", "--yes"]), 1, "KE-RESET-007", "keadm reset edge");
    let asks = house.kedge(&["join", "--takeover"]);
    refused(&asks, 2, "KE-ASK-001", "--yes");
    assert_eq!(house.changed_files(), before);
    let run = house.kedge(&["join", "--takeover", "--yes"]);
    assert_eq!(run.status, 0, "{run:?}");
    cloud.is_ready("edge-7");
    snapshot::said("join --takeover", &run);
    assert_eq!(house.read("/etc/kubeedge/certs/server.crt"), cert);
    assert!(
        !house.processes().iter().any(|line| line.contains("edgecore 100000")),
        "{:?}",
        house.processes()
    );

    let listed = house.kedge(&["reset", "edge", "--dry-run"]);
    assert!(listed.stdout.contains("start /usr/local/bin/edgecore again"), "{listed:?}");
    assert!(!listed.stdout.contains("remove the "), "its pods and their network stay: {listed:?}");
    let reset = house.kedge(&["reset", "edge", "--yes"]);
    assert_eq!(reset.status, 0, "{reset:?}");
    assert_eq!(house.read("/etc/kubeedge/certs/server.crt"), cert);
    assert_eq!(house.read(CONFIG), config);
    assert!(house.has("/var/lib/kubeedge/edgecore.db"));
    assert!(house.processes().iter().any(|line| line.contains("edgecore 100000")), "{:?}", house.processes());
}

/// The images are of a machine that could get them; the one that joins has none and reaches nobody but the cloud.
#[test]
fn a_bundle_brings_everything_to_a_machine_without_a_network() {
    let world = World::new("join-bundle");
    let cloud = Cloud::new(&world);
    let at = |name: &str| world.dir.join(name).display().to_string();
    let (join_file, image, bundle) = (at("edge-7.yaml"), at("app.tar"), at("edge-7.bundle"));
    let host = cloud.house.address().to_owned();
    cloud.token(&["--node", "edge-7", "--uses", "1", "--cloud", &host, "--join-file", &join_file]);
    {
        let other = Machine::new(&world, "edge-8");
        other.join(&cloud, &cloud.token(&[]), &[]).assert_status(0);
        let ctr = |args: &[&str]| {
            let all = [&["--namespace", "k8s.io", "images"], args].concat();
            eventually("the image is there", SOON, || {
                let done = other.house.run("ctr", &all);
                if done.status == 0 { Ok(()) } else { Err(done) }
            });
        };
        ctr(&["tag", "kedge.local/demo:1", "registry.invalid/app:1"]);
        ctr(&["export", &image, "registry.invalid/app:1", "registry.k8s.io/pause:3.6"]);
        other.reset();
    }
    let machine = Machine::new(&world, "edge-7");
    let house = &machine.house;
    let args = ["bundle", "-o", &bundle, "--join-file", &join_file, "--image", &image];
    crate::support::kedge(&args).assert_status(0);
    house.run("ip", &["route", "del", "default"]).assert_status(0);
    let unpacked = house.run("tar", &["xf", &bundle, "-C", "/tmp", "kedge"]);
    unpacked.assert_status(0);
    let join = |more: &[&str]| house.run("/tmp/kedge", &[&["join", "--bundle", &bundle], more].concat());

    let both = join(&["--join-file", &join_file]);
    assert_eq!(both.status, 2, "{both:?}");
    let dry = join(&["--dry-run"]);
    assert!(dry.status == 0 && dry.stdout.contains("load 1 archives"), "{dry:?}");
    machine.is_as_before(&dry);
    // What does not get Ready leaves neither the slot nor anything else.
    let nowhere = format!("modules.edgeHub.websocket.server={host}:9");
    let back = join(&["--set", &nowhere, "--timeout", "3s", "--token", &cloud.token(&[])]);
    refused(&back, 14, "KE-JOIN-014", "hub session is pending");
    machine.is_as_before(&back);

    let run = join(&["-l", "site=north"]);
    assert_eq!(run.status, 0, "{run:?}");
    cloud.is_ready("edge-7");
    // The file that it was run from may go: the service runs from the slot.
    house.run("rm", &["/tmp/kedge"]).assert_status(0);
    assert!(house.has("/var/lib/kedge/versions/current/kedge"));
    let running = house.processes();
    assert!(running.iter().any(|line| line.contains("/var/lib/kedge/versions/")), "{running:?}");
    assert!(!running.iter().any(|line| line.contains("/tmp/kedge")), "{running:?}");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: app, namespace: default}\nspec:\n  nodeName: edge-7\n  \
        terminationGracePeriodSeconds: 0\n  containers: [{name: c, image: \"registry.invalid/app:1\"}]\n";
    cloud.house.write("/tmp/app.yaml", pod);
    eventually("the pod is taken", SOON, || {
        let applied = cloud.house.kubectl(&["apply", "-f", "/tmp/app.yaml"]);
        if applied.status == 0 { Ok(()) } else { Err(applied) }
    });
    eventually("the pod runs", SOON, || {
        let got = cloud.house.kubectl(&["get", "pod", "app", "-o", "jsonpath={.status.phase}"]);
        if got.stdout == "Running" { Ok(()) } else { Err(got) }
    });
    // Joined as wished: again, with the kedge of the slot and no bundle.
    let again = house.run(
        "/var/lib/kedge/versions/current/kedge",
        &["join", "--join-file", &join_file, "-l", "site=south"],
    );
    assert_eq!(again.status, 0, "{again:?}");
    let running = house.processes();
    assert!(running.iter().any(|line| line.contains("/var/lib/kedge/versions/")), "{running:?}");
    let reset = machine.reset();
    // The runtime's own books of pod networks are not kedge's.
    house.run("rm", &["-rf", "/var/lib/cni"]).assert_status(0);
    machine.is_as_before(&reset);

    // A machine that has no runtime either gets the images into the one that kedge brings; flags win over the join file.
    let bare = House::new(&world, "edge-9");
    bare.run("tar", &["xf", &bundle, "-C", "/tmp", "kedge"]).assert_status(0);
    let token = cloud.token(&[]);
    let run = bare.run("/tmp/kedge", &["join", "--bundle", &bundle, "-i", "edge-9", "--token", &token]);
    assert_eq!(run.status, 0, "{run:?}");
    cloud.is_ready("edge-9");
    let socket = "/var/lib/kubeedge/runtime/containerd.sock";
    let images = bare.run("ctr", &["--address", socket, "-n", "k8s.io", "images", "ls", "-q"]);
    assert!(images.stdout.contains("registry.invalid/app:1"), "{images:?}");
    bare.kedge(&["reset", "edge", "--yes"]).assert_status(0);
    assert!(!bare.has("/var/lib/kedge") && !bare.has("/var/lib/kubeedge"));
}
