//! What this machine uses right now: processor time, memory, network, as the kernel counts them since it started.
//! The edge's metrics room shows it in kubelet's forms. Blocking reads of /proc; changes nothing.

use std::fs;
use std::time::Duration;

/// The kernel shows times to programs in hundredths of a second, on every machine that Linux runs on.
const TICK: Duration = Duration::from_millis(10);

/// Counters of this machine; what cannot be read is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds that processors have worked, all together.
    pub cpu_nanos: u64,
    /// Seconds since the epoch at which the kernel started.
    pub boot: i64,
    pub memory: Memory,
    pub interfaces: Vec<Interface>,
}

/// Bytes, as cgroups count them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub total: u64,
    pub used: u64,
    /// What is used without the file pages that nobody has touched for long.
    pub working_set: u64,
    pub rss: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
}

/// One network interface; bytes and counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_errors: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
}

impl Usage {
    /// Reads the counters.
    pub fn read() -> Usage {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let stat = text("/proc/stat");
        Usage {
            cpu_nanos: cpu_nanos(&stat),
            boot: field(&stat, "btime").and_then(|word| i64::try_from(word).ok()).unwrap_or(0),
            memory: memory(&text("/proc/meminfo"), &text("/proc/vmstat")),
            interfaces: interfaces(&text("/proc/net/dev")),
        }
    }
}

/// The first number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let found = text.lines().find_map(|line| {
        let (first, rest) = line.split_once(char::is_whitespace)?;
        (first.trim_end_matches(':') == name).then_some(rest)
    });
    found?.split_whitespace().next()?.parse().ok()
}

/// The line `cpu  user nice system idle iowait irq softirq steal …`; time of guests stands in user already.
fn cpu_nanos(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks = line.split_whitespace().take(8).enumerate();
    let busy = ticks.filter(|(index, _)| !matches!(index, 3 | 4));
    let busy: u64 = busy.filter_map(|(_, word)| word.parse::<u64>().ok()).fold(0, u64::saturating_add);
    busy.saturating_mul(u64::try_from(TICK.as_nanos()).unwrap_or(u64::MAX))
}

fn memory(meminfo: &str, vmstat: &str) -> Memory {
    let bytes = |name| field(meminfo, name).unwrap_or(0).saturating_mul(1024);
    let total = bytes("MemTotal");
    let used = total.saturating_sub(bytes("MemFree"));
    Memory {
        total,
        used,
        working_set: used.saturating_sub(bytes("Inactive(file)")),
        rss: bytes("AnonPages"),
        page_faults: field(vmstat, "pgfault").unwrap_or(0),
        major_page_faults: field(vmstat, "pgmajfault").unwrap_or(0),
    }
}

/// All but loopback.
fn interfaces(dev: &str) -> Vec<Interface> {
    let read = |line: &str| {
        let (name, counts) = line.split_once(':')?;
        let counts: Vec<u64> = counts.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let at = |index: usize| counts.get(index).copied();
        Some(Interface {
            name: name.trim().to_owned(),
            rx_bytes: at(0)?,
            rx_errors: at(2)?,
            tx_bytes: at(8)?,
            tx_errors: at(10)?,
        })
    };
    dev.lines().filter_map(read).filter(|interface| interface.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counters_are_read() {
        let stat = "cpu  100 1 50 9000 400 2 3 4 100 0\ncpu0 1 1 1 1 1 1 1 1 1 1\nbtime 1700000000\n";
        assert_eq!(cpu_nanos(stat), 160 * 10_000_000);
        assert_eq!(field(stat, "btime"), Some(1_700_000_000));
        let meminfo = "MemTotal: 1000 kB\nMemFree:  300 kB\nInactive:  90 kB\nInactive(file):  50 kB\nAnonPages: 10 kB\n";
        let read = memory(meminfo, "pgfault 7\npgmajfault 2\n");
        assert_eq!((read.used, read.working_set, read.rss), (700 << 10, 650 << 10, 10 << 10));
        assert_eq!((read.page_faults, read.major_page_faults), (7, 2));
        let dev = "Inter-| Receive | Transmit\n face |bytes packets\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 1 2 0 0 0 0 0 20 1 3 0 0 0 0 0\n";
        let eth0 =
            Interface { name: "eth0".to_owned(), rx_bytes: 10, rx_errors: 2, tx_bytes: 20, tx_errors: 3 };
        assert_eq!(interfaces(dev), [eth0]);
    }

    #[test]
    fn nonsense_is_zero() {
        assert_eq!((cpu_nanos("cpu x y"), cpu_nanos("")), (0, 0));
        assert_eq!(memory("MemTotal", "pgfault"), Memory::default());
        assert!(interfaces("eth0: 1 2\nno colon").is_empty());
    }

    #[test]
    fn this_machine_works() {
        let usage = Usage::read();
        assert!(usage.cpu_nanos > 0 && usage.boot > 0 && usage.memory.working_set > 0, "{usage:?}");
    }
}
