//! The checks that need nothing installed: this machine, its kernel, disk, network, ports, leftovers of other agents and
//! its container runtime. `join` refuses on what failed here, `kedge doctor --pre` shows the same list, `kedge doctor`
//! begins with it. Facts are read in one place and judged in another, so that every verdict has a test without a machine.

mod cgroups;
mod disk;
mod kernel;
mod leftovers;
mod machine;
mod mqtt;
mod network;
mod networks;
mod pod_network;
mod ports;
mod programs;
mod runtime;
mod system;

use super::check::{self, Check, Finding, Means};
use crate::config::cloud::CloudConfig;
use crate::config::edge::{Containerd, EdgeConfig, MqttMode};
use machine::Machine;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use cgroups::pi_command_line;
pub use disk::places;
pub use leftovers::unfinished;
pub use mqtt::{probe as probe_mqtt, round_trip as mqtt_round_trip, round_trip_over as mqtt_round_trip_over};
pub use ports::WantedPort;
pub use programs::{output_below, output_within};
pub use runtime::{Answer, Asked, ask as ask_runtime, plugin_disabled};

/// The promise for `kedge doctor --pre`.
const BUDGET: Duration = Duration::from_millis(1900);

/// What kedge wants of this machine.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub ports: Vec<WantedPort>,
    /// Where the database and other state go.
    pub data_dir: PathBuf,
    /// KubeEdge's directory of configuration and certificates.
    pub etc_dir: PathBuf,
    /// The edge's configuration where it is not `config/edgecore.yaml` there.
    pub config: Option<PathBuf>,
    /// `None`: no pods run here.
    pub runtime: Option<WantedRuntime>,
    /// `host:port` of the cloud, where it is known already.
    pub cloud: Option<String>,
    /// Whether a running edgecore gives its place to kedge.
    pub takeover: bool,
    /// Whether kedge is to be an edge node here, which a kubelet beside it disturbs.
    pub edge: bool,
}

/// What pods need.
#[derive(Clone, Debug)]
pub struct WantedRuntime {
    /// The endpoint that must answer; `None`: any well-known one.
    pub endpoint: Option<String>,
    /// Whether kedge may start a containerd of its own when none answers.
    pub may_start: bool,
    /// The driver that the configuration names; `None`: what the runtime says.
    pub cgroup_driver: Option<String>,
    pub cni_conf_dir: PathBuf,
    /// `None`: the usual places.
    pub cni_bin_dir: Option<PathBuf>,
    /// Where an own containerd keeps its files, its socket among them.
    pub own_dir: PathBuf,
}

impl Wanted {
    /// A new edge node with KubeEdge's paths and ports.
    pub fn edge() -> Wanted {
        Wanted {
            ports: ports::of_new_edge(),
            data_dir: PathBuf::from("/var/lib/kubeedge"),
            etc_dir: PathBuf::from("/etc/kubeedge"),
            config: None,
            runtime: Some(WantedRuntime {
                endpoint: None,
                may_start: true,
                cgroup_driver: None,
                cni_conf_dir: PathBuf::from("/etc/cni/net.d"),
                cni_bin_dir: None,
                own_dir: PathBuf::from("/var/lib/kubeedge/runtime"),
            }),
            cloud: None,
            takeover: false,
            edge: true,
        }
    }

    /// An edge node with this configuration.
    pub fn of_edge(config: &EdgeConfig) -> Wanted {
        let wants_pods = config.edged.enabled && config.runtime.containerd != Containerd::Off;
        let usual = config.edged.runtime_socket.as_path() == Path::new("/run/containerd/containerd.sock");
        let may_start = config.runtime.containerd == Containerd::Auto;
        let runtime = wants_pods.then(|| WantedRuntime {
            endpoint: (!may_start || !usual)
                .then(|| format!("unix://{}", config.edged.runtime_socket.display())),
            may_start: may_start && usual,
            cgroup_driver: Some(config.edged.cgroup_driver.clone()),
            cni_conf_dir: config.runtime.cni_conf_dir.clone(),
            cni_bin_dir: config.runtime.cni_bin_dir.clone(),
            own_dir: config.runtime.dir.clone(),
        });
        Wanted {
            ports: ports::of_edge(config),
            data_dir: config.data_dir().to_owned(),
            runtime,
            cloud: config.hub.enabled.then(|| config.hub.websocket.clone()),
            ..Wanted::edge()
        }
    }

    /// A cloud with KubeEdge's paths and ports.
    pub fn cloud() -> Wanted {
        Wanted {
            ports: ports::of_new_cloud(),
            data_dir: PathBuf::from("/var/lib/kubeedge"),
            runtime: None,
            edge: false,
            ..Wanted::edge()
        }
    }

    /// A cloud with this configuration.
    pub fn of_cloud(config: &CloudConfig) -> Wanted {
        Wanted { ports: ports::of_cloud(config), data_dir: config.data_dir.clone(), ..Wanted::cloud() }
    }

    /// Whether the broker of this address may be one that was there before.
    fn of_mqtt(mode: MqttMode) -> bool {
        mode != MqttMode::Internal
    }
}

/// Looks at everything that an edge node needs; takes at most two seconds.
pub async fn edge(wanted: &Wanted) -> Vec<Finding> {
    check::run(edge_checks(wanted), Means::here(), BUDGET).await
}

/// Looks at everything that a cloud on this machine needs; takes at most two seconds.
pub async fn cloud(wanted: &Wanted) -> Vec<Finding> {
    check::run(cloud_checks(wanted), Means::here(), BUDGET).await
}

/// The checks of `edge`, for who runs them among others.
pub fn edge_checks(wanted: &Wanted) -> Vec<Check> {
    let here = Machine::here();
    let mut checks = system::checks(&here, wanted);
    checks.extend(kernel::checks(&here));
    checks.extend(cgroups::checks(&here));
    checks.extend(disk::checks(&here, wanted));
    checks.extend(leftovers::checks(&here, wanted));
    checks.extend(runtime::checks(&here, wanted));
    checks.extend(network::checks(&here, wanted));
    checks.push(ports::check(wanted));
    checks
}

/// The checks of `cloud`.
pub fn cloud_checks(wanted: &Wanted) -> Vec<Check> {
    let here = Machine::here();
    let mut checks = system::checks(&here, wanted);
    checks.extend(disk::checks(&here, wanted));
    checks.extend(leftovers::checks(&here, wanted));
    checks.extend(network::checks(&here, wanted));
    checks.push(ports::check(wanted));
    checks
}
