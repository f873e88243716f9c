//! Who runs this, on what: root, processor, kernel version, clock.

use super::Wanted;
use super::machine::Machine;
use crate::host::capabilities;
use crate::host::check::{Check, Finding, Group};
use crate::host::remedy;
use jiff::Timestamp;

/// Nothing of kedge was built before this; a clock that says otherwise has lost its battery.
const BUILT_AFTER: &str = "2026-01-01T00:00:00Z";
/// A certificate of today is not valid on a clock this far ahead.
const TOO_LATE: &str = "2070-01-01T00:00:00Z";
/// cgroup namespaces, overlayfs and what runc expects.
const OLDEST_KERNEL: (u32, u32) = (4, 19);

pub(super) fn checks(here: &Machine, wanted: &Wanted) -> Vec<Check> {
    let (clock, edge) = (here.clone(), wanted.edge);
    vec![
        Check::blocking("KE-HOST-001", Group::Host, "root", || vec![root(capabilities::is_root())]),
        Check::blocking("KE-ARCH-001", Group::Host, "processor and kernel", move || {
            let name = rustix::system::uname();
            let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
            vec![kernel(std::env::consts::ARCH, &text(name.machine()), &text(name.release()), edge)]
        }),
        Check::blocking("KE-CLOCK-001", Group::Host, "clock", move || {
            vec![judge_clock(crate::base::now(), synchronized(&clock))]
        }),
    ]
}

fn root(is_root: bool) -> Finding {
    const CODE: &str = "KE-HOST-001";
    if is_root {
        return Finding::fine(CODE, "root", "yes");
    }
    Finding::failed(CODE, "root", "no")
        .because("installing a service, pod networks and most of these checks need root")
        .fix("run the same command with sudo")
}

/// The binary's processor against the machine's: `uname -m` tells the kernel's.
fn kernel(binary: &str, machine: &str, release: &str, edge: bool) -> Finding {
    const CODE: &str = "KE-ARCH-001";
    let name = "processor and kernel";
    let seen = format!("{machine}, Linux {release}");
    let native = match machine {
        "x86_64" => binary == "x86_64",
        "aarch64" | "arm64" => binary == "aarch64",
        other if other.starts_with("armv") => binary == "arm",
        "i386" | "i486" | "i586" | "i686" => binary == "x86",
        other => other == binary || other.starts_with("riscv64"),
    };
    if !native {
        return Finding::warning(CODE, name, format!("{seen}, kedge built for {binary}"))
            .because("the program runs by the kernel's kindness; images for the machine may not suit it")
            .fix(format!("install the kedge that is built for {machine}"));
    }
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if edge && version < OLDEST_KERNEL {
        let (major, minor) = OLDEST_KERNEL;
        return Finding::failed(CODE, name, seen)
            .because(format!("containers need Linux {major}.{minor} or newer"))
            .fix("upgrade the kernel of this machine");
    }
    Finding::fine(CODE, name, seen)
}

/// Whether systemd-timesyncd or chrony says that the clock follows a reference; `None`: nobody says.
fn synchronized(here: &Machine) -> Option<bool> {
    if here.exists("/run/systemd/timesync/synchronized") {
        return Some(true);
    }
    here.exists("/run/systemd/timesync").then_some(false)
}

fn judge_clock(now: Timestamp, synchronized: Option<bool>) -> Finding {
    const CODE: &str = "KE-CLOCK-001";
    let mut seen = crate::base::rfc3339(now);
    let limit = |text: &str| text.parse::<Timestamp>().unwrap_or(Timestamp::UNIX_EPOCH);
    if now < limit(BUILT_AFTER) || now > limit(TOO_LATE) {
        return Finding::failed(CODE, "clock", seen)
            .because("certificates and tokens are not valid at this time")
            .fix(remedy::set_clock());
    }
    match synchronized {
        Some(true) => seen += ", synchronized",
        Some(false) => {
            return Finding::warning(CODE, "clock", seen + ", not synchronized")
                .because("a clock that drifts more than a minute makes tokens and certificates fail")
                .fix(remedy::set_clock());
        }
        None => {}
    }
    Finding::fine(CODE, "clock", seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;

    #[test]
    fn root_is_asked_for_in_words() {
        assert_eq!(root(true).state, State::Fine);
        assert_eq!(root(false).fix, "run the same command with sudo");
    }

    #[test]
    fn processor_and_kernel_are_judged() {
        let state = |binary, machine, release| kernel(binary, machine, release, true).state;
        assert_eq!(state("x86_64", "x86_64", "6.1.0-18-amd64"), State::Fine);
        assert_eq!(state("aarch64", "aarch64", "5.4.0"), State::Fine);
        assert_eq!(state("arm", "armv7l", "6.1.21-v7+"), State::Fine);
        assert_eq!(state("x86", "x86_64", "6.1.0"), State::Warning);
        assert_eq!(state("x86_64", "x86_64", "3.10.0-1160.el7"), State::Failed);
        assert_eq!(&*kernel("x86_64", "x86_64", "3.10.0-1160.el7", true).code, "KE-ARCH-001");
        assert_eq!(kernel("x86_64", "x86_64", "3.10.0", false).state, State::Fine);
    }

    #[test]
    fn a_clock_without_a_battery_is_told() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let reset = judge_clock(at("1970-01-01T00:03:00Z"), None);
        assert_eq!((&*reset.code, reset.state), ("KE-CLOCK-001", State::Failed));
        assert_eq!(judge_clock(at("2099-01-01T00:00:00Z"), None).state, State::Failed);
        assert_eq!(judge_clock(at("2026-11-21T00:00:00Z"), None).state, State::Fine);
        assert_eq!(judge_clock(at("2026-11-21T00:00:00Z"), Some(false)).state, State::Warning);
        assert!(judge_clock(at("2026-11-21T00:00:00Z"), Some(true)).seen.ends_with("synchronized"));
    }

    #[test]
    fn synchronization_is_read_from_systemd() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::below(dir.path());
        assert_eq!(synchronized(&machine), None);
        std::fs::create_dir_all(dir.path().join("run/systemd/timesync")).unwrap();
        assert_eq!(synchronized(&machine), Some(false));
        machine.put("/run/systemd/timesync/synchronized", "");
        assert_eq!(synchronized(&machine), Some(true));
    }
}
