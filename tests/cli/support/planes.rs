//! A cluster whose machines are houses: the first one serves the API, and all of them are its nodes and have the role of a
//! control plane. Beside them the image of the binary under test, which every one of them has.

use super::house::House;
use super::world::{Daemon, World};
use super::{Run, binary, eventually, run};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What the image is called.
pub const IMAGE: &str = "kedge.test/kedge:under-test";
const DOCKERFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/Dockerfile");
/// Where the API writes its kubeconfig.
pub const KUBECONFIG: &str = "/srv/api/kubeconfig";
const SOON: Duration = Duration::from_secs(60);

/// The image's root: the binary, small enough to copy, and the libraries that this form of it asks for.
fn tree(root: &Path) {
    let program = root.join("usr/local/bin/kedge");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    run("strip", &["-o", program.to_str().unwrap(), binary()]).assert_status(0);
    let asked = run("ldd", &[program.to_str().unwrap()]);
    for library in asked.stdout.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(library, place).unwrap();
    }
}

/// Builds the image from the binary under test into an archive in the world's directory.
pub fn image(world: &World) -> String {
    let root = world.dir.join("image");
    tree(&root);
    let at = |name: &str| world.dir.join(name).display().to_string();
    let (layers, books, archive) = (at("buildah"), at("buildah-run"), at("image.tar"));
    let place = ["--root", &layers, "--runroot", &books, "--storage-driver", "vfs"];
    let buildah = |args: &[&str]| run("buildah", &[&place, args].concat()).assert_status(0);
    // `bud` is today's `build`, which Debian 12's buildah does not know without its first name.
    buildah(&["bud", "--isolation", "chroot", "--file", DOCKERFILE, "--tag", IMAGE, root.to_str().unwrap()]);
    buildah(&["push", IMAGE, &format!("docker-archive:{archive}:{IMAGE}")]);
    for made in [&root, &world.dir.join("buildah")] {
        drop(fs::remove_dir_all(made));
    }
    archive
}

/// The cluster.
pub struct Planes<'w> {
    pub houses: Vec<House<'w>>,
    /// What runs in them; it ends before they do.
    running: Vec<Daemon>,
}

impl Drop for Planes<'_> {
    fn drop(&mut self) {
        self.running.clear();
    }
}

impl<'w> Planes<'w> {
    /// So many machines, each of them a Ready node with the image.
    pub fn new(world: &'w World, count: usize) -> Planes<'w> {
        let archive = image(world);
        let houses: Vec<House<'w>> =
            (1..=count).map(|number| House::new(world, &format!("plane-{number}"))).collect();
        let mut api = serve(&houses[0]);
        let mut running: Vec<Daemon> = houses.iter().map(House::containerd).collect();
        api.wait_for("ready", SOON);
        running.push(api);
        let invitation = world.dir.join("planes.yaml").display().to_string();
        let ports = ["--hub-port", "24000", "--cert-port", "24002", "--tunnel-port", "24004"];
        let made = ["token", "create", "--kube-config", KUBECONFIG, "--cloud", houses[0].address()];
        houses[0].kedge(&[&made, &ports[..], &["--join-file", &invitation]].concat()).assert_status(0);
        let join = |house: &House<'_>| {
            house.run("ctr", &["-n", "k8s.io", "images", "import", &archive]).assert_status(0);
            house.kedge(&["join", "--join-file", &invitation]).assert_status(0);
        };
        std::thread::scope(|scope| {
            for house in &houses {
                scope.spawn(|| join(house));
            }
        });
        let planes = Planes { houses, running };
        for number in 1..=count {
            planes.is_ready(&format!("plane-{number}"));
        }
        drop(fs::remove_file(archive));
        planes
    }

    /// The machine with the API.
    pub fn first(&self) -> &House<'w> {
        &self.houses[0]
    }

    pub fn kubectl(&self, args: &[&str]) -> Run {
        self.first().run("kubectl", &[&["--kubeconfig", KUBECONFIG], args].concat())
    }

    #[track_caller]
    pub fn kubectl_ok(&self, args: &[&str]) -> String {
        let done = self.kubectl(args);
        assert_eq!(done.status, 0, "kubectl {args:?}: {done:?}");
        done.stdout
    }

    /// `kubectl get … -o json`, read.
    #[track_caller]
    pub fn get(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.kubectl_ok(&[&["get", "-o", "json"], args].concat())).unwrap()
    }

    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        self.first().write("/srv/manifest.yaml", manifest);
        self.kubectl_ok(&["apply", "-f", "/srv/manifest.yaml"]);
    }

    #[track_caller]
    pub fn is_ready(&self, node: &str) {
        let status = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        eventually(&format!("{node} is Ready"), SOON, || {
            let got = self.kubectl(&["get", "node", node, "-o", status]);
            if got.stdout == "True" { Ok(()) } else { Err(got) }
        });
    }

    /// Gives all machines the role of a control plane.
    pub fn label(&self) {
        self.kubectl_ok(&["label", "nodes", "--all", "node-role.kubernetes.io/control-plane="]);
    }

    /// `kedge init` into this cluster.
    pub fn init(&self, extra: &[&str]) -> Run {
        let args =
            ["init", "--yes", "--wait", "90s", "--kube-config", KUBECONFIG, "--image", IMAGE, "-o", "json"];
        self.first().kedge(&[&args, extra].concat())
    }

    /// `kedge cloud reset` of this cluster.
    pub fn reset(&self) -> Run {
        let cluster = self.kubectl_ok(&["config", "view", "-o", "jsonpath={.contexts[0].context.cluster}"]);
        self.first().kedge(&["cloud", "reset", "--kube-config", KUBECONFIG, "--yes-i-mean", &cluster])
    }
}

/// The API, at the machine's address, with ports that leave KubeEdge's to what is set up.
fn serve(house: &House<'_>) -> Daemon {
    let address = house.address();
    let config = format!(
        "apiVersion: cloudcore.config.kubeedge.io/v1alpha2\nkind: CloudCore\nmodules:\n  cloudHub:\n    \
         advertiseAddress: [\"{address}\"]\n    websocket: {{port: 24000}}\n    https: {{port: 24002}}\n  \
         cloudStream: {{streamPort: 24003, tunnelPort: 24004}}\n\
         kedge: {{dataDir: /srv/api, apiListen: \"{address}:6443\"}}\n"
    );
    house.write("/srv/cloudcore.yaml", config);
    house.start("api", &["cloud", "run", "--embedded", "--config", "/srv/cloudcore.yaml"])
}

/// Processes of the image with these words in their command line, as this machine sees them, with the network namespace
/// of a house: the pods of the cloud have the network of their machines.
pub fn processes(house: &House<'_>, words: &str) -> Vec<u32> {
    let network = fs::read_link(house.outside("/proc/1/ns/net")).unwrap();
    let needle = words.replace(' ', "\0");
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let fits = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&needle))
            && fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|of| of == network)
    };
    pids.filter(fits).collect()
}
