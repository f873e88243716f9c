//! What pods need of the kernel: overlay mounts, bridges, address translation, forwarding, namespaces, system call filters.
//! A feature counts when it is loaded, built in, or a module that the kernel loads by itself.

use super::machine::Machine;
use super::programs::output_within;
use crate::host::check::{Check, Cost, Finding, Group};
use std::time::Duration;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

pub(super) fn checks(here: &Machine) -> Vec<Check> {
    let (overlay, bridge, forward, nat) = (here.clone(), here.clone(), here.clone(), here.clone());
    let spaces = here.clone();
    vec![
        Check::blocking("KE-KERNEL-001", Group::Host, "overlay mounts", move || {
            vec![judge_overlay(presence(&overlay, "overlay", Some("overlay")))]
        }),
        Check::blocking("KE-KERNEL-002", Group::Host, "bridge", move || {
            vec![judge_bridge(presence(&bridge, "bridge", None))]
        }),
        Check::asking("KE-KERNEL-003", Group::Host, "address translation", async move {
            let asked =
                output_within("iptables", &["-w", "1", "-t", "nat", "-S"], Duration::from_secs(2)).await;
            let answer = asked.and_then(|output| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
                if output.status.success() { Ok(()) } else { Err(text(&output.stderr)) }
            });
            vec![judge_nat(answer, presence(&nat, "nf_nat", None))]
        })
        .cost(Cost::Medium)
        .root(),
        Check::blocking("KE-KERNEL-004", Group::Host, "IPv4 forwarding", move || {
            vec![judge_forwarding(&forward.line(FORWARDING))]
        }),
        Check::blocking("KE-KERNEL-005", Group::Host, "namespaces", move || {
            vec![judge_namespaces(&spaces.names("/proc/self/ns"), &spaces.text("/proc/self/status"))]
        }),
    ]
}

/// How a feature of the kernel is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Loaded,
    /// Built in, or a module file that is loaded on first use.
    Available,
    Absent,
}

fn presence(here: &Machine, module: &str, file_system: Option<&str>) -> Presence {
    let known = |name: &str| {
        here.text("/proc/filesystems").lines().any(|line| line.split_whitespace().last() == Some(name))
    };
    if here.exists(format!("/sys/module/{module}")) || file_system.is_some_and(known) {
        return Presence::Loaded;
    }
    let release = here.line("/proc/sys/kernel/osrelease");
    let file = format!("/{module}.ko");
    let listed = |list: &str| {
        let text = here.text(format!("/lib/modules/{release}/{list}"));
        // Lines such as `kernel/net/bridge/bridge.ko.xz: kernel/net/802/stp.ko.xz`.
        text.lines().any(|line| {
            let path = line.split(':').next().unwrap_or("");
            path.find(&file).is_some_and(|at| {
                let rest = &path[at + file.len()..];
                rest.is_empty() || rest.starts_with('.')
            })
        })
    };
    if listed("modules.builtin") || listed("modules.dep") { Presence::Available } else { Presence::Absent }
}

fn told(presence: Presence) -> &'static str {
    match presence {
        Presence::Loaded => "loaded",
        Presence::Available => "loads on first use",
        Presence::Absent => "not found",
    }
}

fn judge_overlay(presence: Presence) -> Finding {
    let (code, name) = ("KE-KERNEL-001", "overlay mounts");
    match presence {
        Presence::Loaded | Presence::Available => Finding::fine(code, name, told(presence)),
        // containerd's native snapshotter needs none; images then take their full size for each container.
        Presence::Absent => Finding::warning(code, name, told(presence))
            .because("images are copied for every container instead of laid over each other")
            .fix("modprobe overlay")
            .fixable(),
    }
}

fn judge_bridge(presence: Presence) -> Finding {
    let (code, name) = ("KE-KERNEL-002", "bridge");
    match presence {
        Presence::Loaded | Presence::Available => Finding::fine(code, name, told(presence)),
        Presence::Absent => Finding::warning(code, name, told(presence))
            .because("the built-in pod network is a bridge; pods with an address of their own cannot start without one")
            .fix("modprobe bridge")
            .fixable(),
    }
}

/// The trial of `iptables` counts more than what the kernel lists.
fn judge_nat(asked: Result<(), String>, presence: Presence) -> Finding {
    let (code, name) = ("KE-KERNEL-003", "address translation");
    let why = "pods cannot reach other machines, and host ports do not work, without address translation";
    match asked {
        Ok(()) => Finding::fine(code, name, "iptables answers"),
        Err(said) if said == "it is not installed" => {
            Finding::warning(code, name, format!("iptables: {said}; nf_nat: {}", told(presence)))
                .because(why)
                .fix("apt-get install iptables")
        }
        Err(said) => Finding::warning(code, name, format!("iptables: {}", last_line(&said)))
            .because(why)
            .fix("modprobe nf_nat")
            .fixable(),
    }
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no answer").trim()
}

fn judge_forwarding(value: &str) -> Finding {
    let (code, name) = ("KE-KERNEL-004", "IPv4 forwarding");
    match value {
        "1" => Finding::fine(code, name, "on"),
        "" => Finding::warning(code, name, "cannot be read").because("/proc/sys is hidden here"),
        _ => Finding::warning(code, name, "off")
            .because("pods reach nothing beyond this machine; kedge switches it on when its own pod network starts")
            .fix("sysctl -w net.ipv4.ip_forward=1")
            .fixable(),
    }
}

/// Each container has these of its own.
const NAMESPACES: [&str; 5] = ["mnt", "pid", "net", "ipc", "uts"];

fn judge_namespaces(present: &[String], status: &str) -> Finding {
    let (code, name) = ("KE-KERNEL-005", "namespaces");
    let has = |wanted: &&str| present.iter().any(|name| name == wanted);
    let (there, missing): (Vec<&str>, Vec<&str>) = NAMESPACES.into_iter().partition(has);
    let own = "use a kernel with CONFIG_NAMESPACES, CONFIG_NET_NS and CONFIG_SECCOMP_FILTER";
    if present.is_empty() {
        return Finding::warning(code, name, "cannot be read").because("/proc is hidden here");
    }
    if !missing.is_empty() {
        return Finding::failed(code, name, format!("no {}", missing.join(", ")))
            .because("a container cannot be kept apart from the machine without them")
            .fix(own);
    }
    let filters = status.lines().any(|line| line.starts_with("Seccomp:"));
    let seen = format!("{}; seccomp {}", there.join(" "), if filters { "on" } else { "off" });
    if filters {
        return Finding::fine(code, name, seen);
    }
    Finding::warning(code, name, seen)
        .because("containers may make every system call that their user may; pods that name a profile do not start")
        .fix(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;

    #[test]
    fn features_are_found_loaded_built_in_or_as_module_files() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::below(dir.path());
        assert_eq!(presence(&machine, "bridge", None), Presence::Absent);
        machine.put("/proc/sys/kernel/osrelease", "6.1.0\n").put(
            "/lib/modules/6.1.0/modules.dep",
            "kernel/net/bridge/br_netfilter.ko: x\nkernel/net/bridge/bridge.ko.xz: kernel/net/stp.ko.xz\n",
        );
        assert_eq!(presence(&machine, "bridge", None), Presence::Available);
        assert_eq!(presence(&machine, "netfilter", None), Presence::Absent);
        machine.put("/lib/modules/6.1.0/modules.builtin", "kernel/net/netfilter/nf_nat.ko\n");
        assert_eq!(presence(&machine, "nf_nat", None), Presence::Available);
        machine.put("/proc/filesystems", "nodev\tsysfs\nnodev\toverlay\n\text4\n");
        assert_eq!(presence(&machine, "overlay", Some("overlay")), Presence::Loaded);
        machine.put("/sys/module/bridge/refcnt", "0");
        assert_eq!(presence(&machine, "bridge", None), Presence::Loaded);
    }

    #[test]
    fn namespaces_that_a_kernel_lacks_are_named() {
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let all = names("cgroup ipc mnt net pid pid_for_children uts");
        let fine = judge_namespaces(&all, "Name:\tx\nSeccomp:\t0\n");
        assert_eq!((fine.state, fine.seen.as_str()), (State::Fine, "mnt pid net ipc uts; seccomp on"));
        assert_eq!(judge_namespaces(&all, "Name:\tx\n").state, State::Warning);
        let lacking = judge_namespaces(&names("mnt uts"), "");
        assert_eq!((&*lacking.code, lacking.state), ("KE-KERNEL-005", State::Failed));
        assert_eq!(lacking.seen, "no pid, net, ipc");
        assert_eq!(judge_namespaces(&[], "").seen, "cannot be read");
        let here = Machine::here();
        let real = judge_namespaces(&here.names("/proc/self/ns"), &here.text("/proc/self/status"));
        assert_ne!(real.state, State::Failed, "{real:?}");
    }

    #[test]
    fn what_is_absent_is_told_with_its_command() {
        let overlay = judge_overlay(Presence::Absent);
        assert_eq!((&*overlay.code, overlay.fix.as_str()), ("KE-KERNEL-001", "modprobe overlay"));
        let bridge = judge_bridge(Presence::Absent);
        assert_eq!((&*bridge.code, bridge.state), ("KE-KERNEL-002", State::Warning));
        assert_eq!(judge_bridge(Presence::Available).state, State::Fine);
        let absent = judge_nat(Err("it is not installed".to_owned()), Presence::Loaded);
        assert_eq!((absent.state, absent.fix.as_str()), (State::Warning, "apt-get install iptables"));
        let said =
            "iptables v1.8: can't initialize iptables table `nat': Table does not exist\nPerhaps upgrade.\n";
        assert!(judge_nat(Err(said.to_owned()), Presence::Absent).seen.contains("Perhaps upgrade."));
        assert_eq!(judge_nat(Ok(()), Presence::Absent).state, State::Fine);
        assert_eq!(judge_forwarding("1").state, State::Fine);
        let off = judge_forwarding("0");
        assert!(off.state == State::Warning && off.fixable);
    }
}
