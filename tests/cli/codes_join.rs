//! Failures of a join that come after it has begun to write: each with its code, exit status 14, and a machine that is as it
//! was.

use crate::join::{Cloud, Machine};
use crate::support::snapshot::Errors;
use crate::support::told::fails;
use crate::support::world::World;

#[test]
fn a_daemon_that_cannot_begin_is_told_with_its_own_words() {
    let world = World::new("codes-join");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let token = cloud.token(&[]);
    let mut errors = Errors::default();

    // The daemon ends again and again: what it would listen on cannot be found.
    machine.house.write("/etc/nsswitch.conf", "hosts: files\n");
    let before = machine.house.changed_files();
    let nowhere =
        "modules.eventBus.mqttMode=0,modules.eventBus.mqttServerInternal=tcp://nowhere.invalid:1884";
    let run = machine.join(&cloud, &token, &["--set", nowhere]);
    let said = fails(&run, "KE-JOIN-015", 14);
    assert!(said.why.contains("KE-CONFIG-021"), "{said:?}");
    assert_eq!(machine.house.changed_files(), before, "{run:?}");
    errors.keep(&run);

    // No program may run where the service would run from.
    let place = "/var/lib/kedge";
    machine.house.run("mkdir", &[place]).assert_status(0);
    machine.house.run("mount", &["-t", "tmpfs", "-o", "noexec", "tmpfs", place]).assert_status(0);
    let run = machine.join(&cloud, &token, &[]);
    let said = fails(&run, "KE-JOIN-017", 14);
    assert!(said.why.contains("/var/lib/kedge/versions") && said.fix.contains("noexec"), "{said:?}");
    machine.house.run("umount", &[place]).assert_status(0);
    machine.house.run("rmdir", &[place]).assert_status(0);
    assert_eq!(machine.house.changed_files(), before, "{run:?}");
    errors.keep(&run);
    errors.are_as_committed("join-no-daemon", &[(cloud.house.address(), "CLOUD")]);
}
