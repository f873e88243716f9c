//! Control groups: which version is mounted, whether memory can be limited, and on a Raspberry Pi the file that says so.

use super::machine::Machine;
use crate::host::check::{Check, Finding, Group};
use std::path::{Path, PathBuf};

/// What a Raspberry Pi's kernel wants to hear before it limits memory.
const MEMORY_WORDS: [&str; 2] = ["cgroup_memory=1", "cgroup_enable=memory"];

pub(super) fn checks(here: &Machine) -> Vec<Check> {
    let (version, memory) = (here.clone(), here.clone());
    vec![
        Check::blocking("KE-CGROUP-001", Group::Host, "control groups", move || {
            vec![judge_version(read(&version).layout)]
        }),
        Check::blocking("KE-CGROUP-002", Group::Host, "memory control group", move || {
            vec![judge_memory(&read(&memory))]
        })
        .after(&["KE-CGROUP-001"]),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    V1,
    V2,
    /// Version 1 with version 2 beside it for systemd.
    Hybrid,
    Absent,
}

struct Facts {
    layout: Layout,
    memory: bool,
    /// The board's name on a Raspberry Pi.
    pi: Option<String>,
    command_line: Option<PathBuf>,
}

fn read(here: &Machine) -> Facts {
    let root = "/sys/fs/cgroup";
    let controllers = here.text(format!("{root}/cgroup.controllers"));
    let unified = here.exists(format!("{root}/cgroup.controllers"));
    let v1 = here.exists(format!("{root}/memory")) || here.exists(format!("{root}/cpu"));
    let layout = match (unified, v1) {
        (true, _) => Layout::V2,
        (false, true) if here.exists(format!("{root}/unified/cgroup.procs")) => Layout::Hybrid,
        (false, true) => Layout::V1,
        (false, false) => Layout::Absent,
    };
    let enabled = here.text("/proc/cgroups").lines().any(|line| {
        let mut columns = line.split_whitespace();
        columns.next() == Some("memory") && columns.last() == Some("1")
    });
    let memory = match layout {
        Layout::V2 => controllers.split_whitespace().any(|name| name == "memory"),
        _ => enabled && here.exists(format!("{root}/memory")),
    };
    let model = here.line("/proc/device-tree/model");
    let pi = model.contains("Raspberry Pi").then_some(model);
    Facts { layout, memory, pi, command_line: find_command_line(here) }
}

/// Newer systems keep the file on the firmware partition and leave a note in the old place.
fn find_command_line(here: &Machine) -> Option<PathBuf> {
    let places = ["/boot/firmware/cmdline.txt", "/boot/firmware/current/cmdline.txt", "/boot/cmdline.txt"];
    let real = |place: &&str| here.text(place).contains("root=");
    places.into_iter().find(real).map(PathBuf::from)
}

/// The kernel's command line file of a Raspberry Pi, with the words that switch memory limits on added; `None` when
/// this is no such board or the words stand there already.
pub fn pi_command_line() -> Option<(PathBuf, String)> {
    let here = Machine::here();
    let path = read(&here).command_line?;
    let text = here.text(&path);
    let changed = with_memory_words(&text)?;
    Some((path, changed))
}

/// The file is one line; what is added to a second one is not read.
fn with_memory_words(text: &str) -> Option<String> {
    let line = text.lines().find(|line| !line.trim().is_empty())?.trim_end();
    let has = |word: &str| line.split_whitespace().any(|other| other == word);
    let kept: Vec<&str> = line.split_whitespace().filter(|word| *word != "cgroup_disable=memory").collect();
    let missing: Vec<&str> = MEMORY_WORDS.into_iter().filter(|word| !has(word)).collect();
    if missing.is_empty() && kept.len() == line.split_whitespace().count() {
        return None;
    }
    Some(kept.into_iter().chain(missing).collect::<Vec<_>>().join(" ") + "\n")
}

fn judge_version(layout: Layout) -> Finding {
    let (code, name) = ("KE-CGROUP-001", "control groups");
    match layout {
        Layout::V2 => Finding::fine(code, name, "version 2"),
        Layout::V1 => Finding::fine(code, name, "version 1"),
        Layout::Hybrid => Finding::fine(code, name, "version 1, version 2 beside it"),
        Layout::Absent => Finding::failed(code, name, "not mounted at /sys/fs/cgroup")
            .because("no container can start without control groups")
            .fix("mount -t cgroup2 none /sys/fs/cgroup"),
    }
}

fn judge_memory(facts: &Facts) -> Finding {
    let (code, name) = ("KE-CGROUP-002", "memory control group");
    if facts.memory {
        return Finding::fine(code, name, "on");
    }
    let finding = Finding::failed(code, name, "off")
        .because("pods with a memory limit do not start, and nothing stops one that eats all memory");
    let words = MEMORY_WORDS.join(" ");
    match (&facts.pi, &facts.command_line) {
        (Some(model), Some(path)) => {
            let path: &Path = path;
            Finding { seen: format!("off ({model})"), ..finding }
                .fix(format!("append `{words}` to the line in {} and reboot", path.display()))
                .fixable()
        }
        _ => finding.fix(format!("add `{words}` to the kernel's command line and reboot")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;

    fn machine() -> (tempfile::TempDir, Machine) {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::below(dir.path());
        (dir, machine)
    }

    #[test]
    fn versions_are_told_apart() {
        let (_dir, machine) = machine();
        assert_eq!(read(&machine).layout, Layout::Absent);
        let absent = judge_version(Layout::Absent);
        assert_eq!((&*absent.code, absent.state), ("KE-CGROUP-001", State::Failed));
        machine.put("/sys/fs/cgroup/memory/tasks", "").put("/proc/cgroups", "#x\nmemory\t4\t12\t1\n");
        assert_eq!(read(&machine).layout, Layout::V1);
        assert!(read(&machine).memory);
        machine.put("/sys/fs/cgroup/unified/cgroup.procs", "");
        assert_eq!(read(&machine).layout, Layout::Hybrid);
        machine.put("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n");
        let facts = read(&machine);
        assert_eq!((facts.layout, facts.memory), (Layout::V2, false));
        machine.put("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
        assert!(read(&machine).memory);
    }

    #[test]
    fn on_a_raspberry_pi_the_right_file_is_named() {
        let (_dir, machine) = machine();
        machine
            .put("/sys/fs/cgroup/cgroup.controllers", "cpu io\n")
            .put("/proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
            .put("/boot/cmdline.txt", "DO NOT EDIT THIS FILE\n\nThe file you are looking for has moved")
            .put("/boot/firmware/cmdline.txt", "console=tty1 root=PARTUUID=1-02 rootwait\n");
        let finding = judge_memory(&read(&machine));
        assert!(finding.state == State::Failed && finding.fixable, "{finding:?}");
        assert!(finding.fix.contains("/boot/firmware/cmdline.txt"), "{finding:?}");
        assert!(finding.seen.contains("Raspberry Pi 4 Model B Rev 1.4)"), "{finding:?}");
    }

    #[test]
    fn elsewhere_the_words_are_told_and_nothing_is_promised() {
        let (_dir, machine) = machine();
        machine.put("/sys/fs/cgroup/cgroup.controllers", "cpu io\n");
        let finding = judge_memory(&read(&machine));
        assert!(!finding.fixable && finding.fix.contains("cgroup_enable=memory"), "{finding:?}");
    }

    #[test]
    fn the_words_are_added_once_and_to_the_same_line() {
        let once = with_memory_words("root=/dev/sda1 quiet\n\n").unwrap();
        assert_eq!(once, "root=/dev/sda1 quiet cgroup_memory=1 cgroup_enable=memory\n");
        assert_eq!(with_memory_words(&once), None);
        let off = with_memory_words("root=x cgroup_disable=memory cgroup_memory=1").unwrap();
        assert_eq!(off, "root=x cgroup_memory=1 cgroup_enable=memory\n");
        assert_eq!(with_memory_words(""), None);
    }
}
