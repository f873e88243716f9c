//! A node on a machine of its own and its cloud on another one, for the figures of join and upgrade.

use crate::support::eventually;
use crate::support::house::{House, KUBECONFIG};
use crate::support::releases::Releases;
use crate::support::world::{Daemon, World};
use serde_json::Value;
use std::time::{Duration, Instant};

const NODE: &str = "edge-7";
const SOON: Duration = Duration::from_secs(60);
const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: steady}
spec:
  nodeName: edge-7
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "kedge.local/demo:1", imagePullPolicy: Never}]
"#;

/// Both machines; the node's has a containerd and nothing else.
pub struct Site<'w> {
    cloud: House<'w>,
    node: House<'w>,
    releases: Releases,
    newer: String,
    _daemons: [Daemon; 2],
}

impl<'w> Site<'w> {
    pub fn new(world: &'w World) -> Site<'w> {
        let (cloud, node) = (House::new(world, "cloud"), House::new(world, NODE));
        let daemons = [cloud.cloud(), node.containerd()];
        let releases = Releases::new(&world.dir.join("releases"));
        let newer = releases.kedge("0.1.1");
        Site { cloud, node, releases, newer, _daemons: daemons }
    }

    /// Joins; the seconds until the command is done, which is when the cloud has the node as Ready.
    pub fn join(&self) -> f64 {
        let made = self.cloud.kedge(&["token", "create", "--kube-config", KUBECONFIG]);
        made.assert_status(0);
        let at = format!("{}:10000", self.cloud.address());
        let began = Instant::now();
        let joined = self.node.kedge(&["join", "-e", &at, "-t", made.stdout.trim()]);
        let took = began.elapsed().as_secs_f64();
        joined.assert_status(0);
        self.node.write("/etc/kubeedge/upgrade-keys/release.pub", self.releases.public());
        took
    }

    pub fn reset(&self) {
        self.node.kedge(&["reset", "edge", "--yes"]).assert_status(0);
    }

    pub fn run_pod(&self) {
        self.cloud.write("/tmp/pod.yaml", POD);
        eventually("the pod is taken", SOON, || {
            let applied = self.cloud.kubectl(&["apply", "-f", "/tmp/pod.yaml"]);
            if applied.status == 0 { Ok(()) } else { Err(applied) }
        });
        let waited = self.cloud.kubectl(&["wait", "--for=condition=Ready", "pod/steady", "--timeout=60s"]);
        waited.assert_status(0);
    }

    /// To the newer version; for how many seconds no daemon was ready.
    pub fn upgrade(&self) -> f64 {
        self.change(&["upgrade", "--to", &self.newer])
    }

    /// And back.
    pub fn roll_back(&self) -> f64 {
        self.change(&["rollback"])
    }

    fn change(&self, deed: &[&str]) -> f64 {
        self.node.kedge(&[&["edge"], deed, &["--wait", "--yes"]].concat()).assert_status(0);
        let told = self.node.kedge(&["edge", "history", "-o", "json"]);
        let history: Value = serde_json::from_str(&told.stdout).unwrap();
        let last = history["items"].as_array().and_then(|items| items.last().cloned()).unwrap_or_default();
        last["interrupted"].as_f64().unwrap() / 1000.0
    }
}
