//! A process of its own for a test that takes something from the whole process: threads, files, the search path. Only
//! tests use it.

use std::os::unix::process::CommandExt;
use std::process::Command;

const NAME: &str = "KEDGE_TEST_ALONE";
/// Nobody else's: limits of processes do not hold for root.
const NOBODY: u32 = 54_321;

/// Whether this is the test's own process. If not, that is started, and the test has passed when this returns.
/// `test` is its name below `module`, which is `module_path!()`.
#[track_caller]
pub fn alone(module: &str, test: &str, prepare: impl FnOnce(&mut Command)) -> bool {
    let name = format!("{}::{test}", module.split_once("::").map_or("", |(_, path)| path));
    if std::env::var(NAME).is_ok_and(|running| running == name) {
        return true;
    }
    // By this path the program is found also by a user who may not enter its directory.
    let mut child = Command::new("/proc/self/exe");
    child.args([&name, "--exact", "--nocapture"]).env(NAME, &name).current_dir("/");
    prepare(&mut child);
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{name}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

/// Gives the process to a user who has no other: root has no limit of processes.
pub fn as_nobody(child: &mut Command) {
    if rustix::process::geteuid().is_root() {
        child.uid(NOBODY).gid(NOBODY).env("TMPDIR", "/tmp");
    }
}

/// From now on this process may start no thread.
pub fn forbid_threads() {
    limit(rustix::process::Resource::Nproc, 0);
}

/// From now on this process may open no file.
pub fn forbid_files() {
    limit(rustix::process::Resource::Nofile, 0);
}

fn limit(resource: rustix::process::Resource, most: u64) {
    let present = rustix::process::getrlimit(resource);
    let new = rustix::process::Rlimit { current: Some(most), maximum: present.maximum };
    rustix::process::setrlimit(resource, new).unwrap();
}
