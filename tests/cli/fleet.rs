//! A small fleet loses its lines and its cloud, and nothing that a node holds is sent to it again. The large one is
//! `cargo bench --bench fleet`.

use crate::support::fleet::{self, Fleet, Recovery};
use crate::support::world::World;
use std::time::{Duration, Instant};

const NODES: usize = 60;
const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_fleet_that_loses_everything_at_once_is_sent_exactly_what_changed() {
    let world = World::new("fleet");
    let mut cloud = fleet::cloud(&world, NODES);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let fleet = Fleet::open(&world, NODES, 5).await;
        fleet.furnish().await;

        fleet.mark();
        cloud.kill();
        let killed = Instant::now();
        cloud = tokio::task::block_in_place(|| fleet::cloud(&world, NODES));
        let recovery = fleet.recovered(NODES, killed, LIMIT).await;
        let Recovery { first, half, all, told } = recovery;
        eprintln!(
            "back and in sync after {first:.1} s, {half:.1} s, {all:.1} s; pings: {}",
            fleet.pulses().len()
        );
        assert_eq!(told, Vec::<String>::new(), "nothing has changed");

        fleet.cut().await;
        fleet.change(7, "2").await;
        fleet.mark();
        let cut = Instant::now();
        fleet.relay.join();
        let mut recovery = fleet.recovered(NODES - 5, cut, LIMIT).await;
        let mut expected: Vec<String> =
            (0..7).map(|n| format!("sim-{n} +default/configmap/sim-{n}")).collect();
        recovery.told.sort();
        expected.sort();
        assert_eq!(recovery.told, expected);
    });
    drop(runtime);
    assert_eq!(cloud.interrupt(), 0);
}
