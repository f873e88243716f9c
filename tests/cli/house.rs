//! The private machine that other tests stand on: real paths inside, nothing changed outside, nothing left.

use crate::support::house::{self, House, KUBECONFIG};
use crate::support::machine::{mounts_below, pids_naming};
use crate::support::run;
use crate::support::world::World;
use std::path::Path;
use std::time::Duration;

/// What the houses of this process could leave behind on this machine.
fn traces(world: &World) -> (Vec<String>, Vec<String>, String) {
    let links = run("ip", &["-o", "link"]).stdout;
    let bridge = house::bridge(world);
    let links = links.lines().filter(|line| line.contains(&bridge)).map(str::to_owned).collect();
    let groups = format!("kedge-house-{}-*", std::process::id());
    (mounts_below(&world.dir), links, run("find", &["/sys/fs/cgroup", "-name", &groups]).stdout)
}

#[test]
fn a_house_has_real_paths_and_leaves_no_trace() {
    let world = World::new("house");
    let before = traces(&world);
    {
        let house = House::new(&world, "edge-1");
        let empty = house.changed_files();
        assert_eq!(house.run("hostname", &[]).stdout.trim(), "edge-1");
        house.kedge(&["version"]).assert_status(0);
        assert!(house.run("ip", &["route"]).stdout.contains(&format!("default via {}", house.gateway())));
        assert_eq!(house.processes(), Vec::<String>::new());
        assert!(!house.has("/run/systemd/system"));
        assert!(house.run("systemctl", &["is-system-running"]).status != 0);
        assert_eq!(
            house.run("cat", &["/proc/self/cgroup"]).stdout.lines().find(|l| !l.ends_with(":/")),
            None
        );

        // Changes are seen, and those taken back are not.
        let path = "/etc/kubeedge/config/x.yaml";
        house.write(path, "a: 1\n");
        assert_eq!(house.read(path), "a: 1\n");
        house.run("rm", &["/etc/hostname"]).assert_status(0);
        house.run("chmod", &["0700", "/etc/network"]);
        let changed = house.changed_files();
        assert!(changed[path].starts_with("file of 5 bytes, "), "{changed:?}");
        assert_eq!(changed["/etc/hostname"], "removed");
        assert!(!Path::new(path).exists() && Path::new("/etc/hostname").exists());
        house.run("rm", &["-r", "/etc/kubeedge"]).assert_status(0);
        house.run("cp", &["-p", "/etc/os-release", "/etc/x"]).assert_status(0);
        house.run("rm", &["/etc/x"]).assert_status(0);
        let left = house.changed_files();
        let only: Vec<&String> = left.keys().filter(|path| !empty.contains_key(*path)).collect();
        assert!(
            only.iter().all(|path| ["/etc/hostname", "/etc/network"].contains(&path.as_str())),
            "{only:?}"
        );
    }
    assert_eq!(traces(&world), before);
    assert_eq!(pids_naming(&world.dir), Vec::<u32>::new());
}

#[test]
fn a_node_in_one_house_joins_a_cloud_in_another_over_the_bridge() {
    let world = World::new("houses");
    let before = traces(&world);
    {
        let cloud_house = House::new(&world, "cloud");
        let edge_house = House::new(&world, "edge-1");
        assert_ne!(cloud_house.address(), edge_house.address());
        let _cloud = cloud_house.cloud();
        let _containerd = edge_house.containerd();
        let token = cloud_house.kedge(&["gettoken", "--kube-config", KUBECONFIG]);
        token.assert_status(0);
        let minimal = edge_house.kedge(&["edge", "config", "--minconfig"]).stdout;
        let config =
            minimal.replace("https://127.0.0.1:10002", &format!("https://{}:10002", cloud_house.address()));
        let config =
            config.replace("server: 127.0.0.1:10000", &format!("server: {}:10000", cloud_house.address()));
        let config = config.replace("token: \"\"", &format!("token: {}", token.stdout.trim()));
        edge_house.write("/etc/kubeedge/config/edgecore.yaml", config);
        let mut edge = edge_house.start("edge", &["edge", "run"]);
        let wait = "--for=condition=Ready";
        crate::support::eventually("the node is known", Duration::from_secs(60), || {
            let got = cloud_house.kubectl(&["get", "node", "edge-1"]);
            if got.status == 0 { Ok(()) } else { Err((got, world.log("edge.err"))) }
        });
        let ready = cloud_house.kubectl(&["wait", wait, "node/edge-1", "--timeout=60s"]);
        assert_eq!(ready.status, 0, "{ready:?}\n{}", world.log("edge.err"));
        assert_eq!(edge.interrupt(), 0);
    }
    assert_eq!(traces(&world), before);
}
