//! A fleet that loses its lines at once: how long until all nodes are back and in sync, what is sent to them again, what
//! it costs the cloud, and how long the others wait meanwhile. The nodes are light ones in this process; the cloud is
//! the real binary with its embedded API. Both share the machine, so the times are those of a cloud with half of it.
//! Run it with `cargo bench --bench fleet [nodes]`; 2,000 nodes need some 6,000 file descriptors here.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    dead_code,
    reason = "a bench that cannot go on says so by panicking"
)]

#[path = "../tests/cli/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};
use support::fleet::{self, Fleet, Recovery};
use support::world::World;

const NODES: usize = 2000;
/// Nodes whose lines hold while the others lose theirs; they measure how long the cloud takes to answer a ping.
const STEADY: usize = 50;
const CHANGED: usize = 100;
const LIMIT: Duration = Duration::from_secs(300);

fn main() {
    let count = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(NODES);
    let world = World::new("bench-fleet");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(&world, count));
}

async fn run(world: &World, count: usize) {
    let mut cloud = fleet::cloud(world, count);
    let begun = Instant::now();
    let fleet = Fleet::open(world, count, STEADY).await;
    println!("{count} nodes enrolled and connected: {:.1} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    fleet.furnish().await;
    println!("a pod and a ConfigMap for each: {:.1} s", begun.elapsed().as_secs_f64());
    let usage = Usage::of(cloud.pid());
    println!("the cloud with {count} sessions: {:.0} MiB resident, {:.1} CPU s so far", usage.mib, usage.cpu);
    fleet.mark();
    let (before, quiet) = (Usage::of(cloud.pid()), Duration::from_secs(20));
    tokio::time::sleep(quiet).await;
    let cpu = Usage::of(cloud.pid()).cpu - before.cpu;
    println!("at rest: {:.1} % of a core; pings {}", 100.0 * cpu / quiet.as_secs_f64(), pings(&fleet));

    fleet.mark();
    cloud.kill();
    let killed = Instant::now();
    cloud = fleet::cloud(world, count);
    println!("the cloud is killed and serves again after {:.1} s", killed.elapsed().as_secs_f64());
    let recovery = fleet.recovered(count, killed, LIMIT).await;
    tell("  after its death", &recovery, 0);
    println!("  the new cloud's CPU: {:.1} s", Usage::of(cloud.pid()).cpu);

    settle(&fleet).await;
    let before = Usage::of(cloud.pid());
    fleet.relay.cut();
    fleet.mark();
    let cut = Instant::now();
    fleet.relay.join();
    let recovery = fleet.recovered(count - STEADY, cut, LIMIT).await;
    println!("all lines but {STEADY} are cut, the cloud lives; pings meanwhile {}", pings(&fleet));
    tell("  after the cut", &recovery, 0);
    println!("  the cloud's CPU for it: {:.1} s", Usage::of(cloud.pid()).cpu - before.cpu);

    settle(&fleet).await;
    fleet.relay.cut();
    fleet.change(CHANGED.min(count), "2").await;
    fleet.mark();
    let cut = Instant::now();
    fleet.relay.join();
    let recovery = fleet.recovered(count - STEADY, cut, LIMIT).await;
    println!("{CHANGED} ConfigMaps change while the lines are cut");
    tell("  after the lines are back", &recovery, CHANGED.min(count));
    let usage = Usage::of(cloud.pid());
    println!("the cloud at the end: {:.0} MiB resident", usage.mib);
    cloud.interrupt();
}

/// Lets what the last step left behind come to rest.
async fn settle(fleet: &Fleet) {
    loop {
        let before = fleet.told().len();
        tokio::time::sleep(Duration::from_secs(5)).await;
        if fleet.told().len() == before {
            return;
        }
    }
}

fn tell(what: &str, recovery: &Recovery, expected: usize) {
    let Recovery { first, half, all, told } = recovery;
    println!("{what}: first in sync {first:.1} s, half {half:.1} s, all {all:.1} s");
    println!("  objects sent: {}, expected {expected}", told.len());
    for told in told.iter().filter(|_| told.len() != expected).take(5) {
        println!("    {told}");
    }
}

fn pings(fleet: &Fleet) -> String {
    let mut pulses = fleet.pulses();
    pulses.sort_by(f64::total_cmp);
    let at = |share: usize| pulses.get((pulses.len() * share / 100).min(pulses.len().saturating_sub(1)));
    let [p50, p99, worst] = [50, 99, 100].map(|share| at(share).copied().unwrap_or(f64::NAN));
    format!("p50 {p50:.1} ms, p99 {p99:.1} ms, worst {worst:.1} ms, n={}", pulses.len())
}

/// What a process has used.
struct Usage {
    cpu: f64,
    mib: f64,
}

impl Usage {
    #[expect(clippy::cast_precision_loss, reason = "seconds and MiB")]
    fn of(pid: u32) -> Usage {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let ticks = fields.get(11).copied().unwrap_or(0) + fields.get(12).copied().unwrap_or(0);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = resident.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        Usage { cpu: ticks as f64 / 100.0, mib: kib as f64 / 1024.0 }
    }
}
