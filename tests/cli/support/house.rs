//! A machine of its own for a test: the root file system below an overlay, with process, network, host name and cgroup
//! namespaces, in which programs find real paths (`/etc/kubeedge`, `/run/containerd`) and change nothing outside.
//! Houses of one world share a bridge. Process 1 is a shell that reaps, or a real service manager. When the house is dropped, or
//! the test dies, the kernel ends everything in it with process 1: daemons, containers, mounts, links.

use super::machine::{mounts_below, signal};
use super::world::{Daemon, World};
use super::{Run, binary, eventually};
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Where a cloud with its embedded API writes its kubeconfig.
pub const KUBECONFIG: &str = "/var/lib/kubeedge/cloud/kubeconfig";

const SOON: Duration = Duration::from_secs(30);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Builds the machine and becomes its process 1; `$H` holds its file system, the rest comes by the environment.
/// Writes `ready`, then does what process 1 is for.
const SET_UP: &str = r#"
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$H/upper,workdir=$H/work" "$H/root"
cd "$H/root"
mount --rbind /dev dev
mount -t proc proc proc
mount -t sysfs sysfs sys
if [ -d "$CGROUPS" ]; then
  mount -t tmpfs -o mode=0755 tmpfs sys/fs/cgroup
  for place in /sys/fs/cgroup/*; do
    name=${place##*/}
    [ -d "$place" ] || continue
    mkdir "sys/fs/cgroup/$name"
    case $name in
      unified) mount -t cgroup2 cgroup2 "sys/fs/cgroup/$name" ;;
      systemd) mount -t cgroup -o none,name=systemd cgroup "sys/fs/cgroup/$name" ;;
      *) mount -t cgroup -o "$name" cgroup "sys/fs/cgroup/$name" ;;
    esac
  done
else
  mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
mount --bind "$H/run" run
mkdir -p run/lock
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p "./$WORLD"
mount --bind "$WORLD" "./$WORLD"
if [ -n "$FIRST" ]; then
  # Once more where pods of the machine below came or went meanwhile.
  for again in 1 2 3; do
    rm -rf etc/kubeedge etc/cni/net.d etc/containerd etc/systemd/system/kedge* var/lib/kubeedge var/lib/kubelet \
      var/lib/kedge var/lib/containerd var/lib/cni var/log/pods var/log/containers var/log/kedge* && break
  done
  mkdir -p var/lib/containerd usr/local/bin
  touch usr/local/bin/kedge
  eval "$FIRST"
fi
mount --bind "$H/containerd" var/lib/containerd
mount --bind "$KEDGE" usr/local/bin/kedge
mkdir .old
pivot_root . .old
umount -l /.old
rmdir /.old
cd /
mount --make-rshared /
hostname "$NAME"
ip link set lo up
# A new network has what the machine below has; what commands say of it shall not differ from machine to machine.
echo 1 > /proc/sys/net/ipv4/ip_forward
echo ready
eval "$INIT"
"#;

/// What becomes process 1 of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// A shell that reaps; no service manager.
    Shell,
    Systemd,
    /// A shell that reaps, after OpenRC has brought up its default runlevel.
    OpenRc,
}

impl Init {
    /// What is done to the file tree before the first start: this machine's own services shall not run in the house, nor
    /// may anything set what all machines share (the kernel's settings, devices, the console).
    fn first(self) -> &'static str {
        match self {
            Init::Shell => ":",
            Init::OpenRc => {
                "rm -rf etc/rc?.d/*; for s in etc/init.d/*; do case $s in */rc|*/rcS) ;; *) rm $s ;; esac; done"
            }
            Init::Systemd => {
                "rm -rf etc/systemd/system/* etc/rc?.d/* var/log/journal; mkdir etc/systemd/system/multi-user.target.wants; ln -s /lib/systemd/system/remote-fs.target etc/systemd/system/multi-user.target.wants/
                for u in systemd-sysctl systemd-modules-load systemd-binfmt systemd-udevd systemd-udev-trigger \
                  systemd-tmpfiles-setup-dev systemd-remount-fs systemd-random-seed systemd-timesyncd systemd-hwdb-update \
                  console-getty getty@ serial-getty@ container-getty@ systemd-networkd systemd-logind; do
                  ln -s /dev/null etc/systemd/system/$u.service; done"
            }
        }
    }

    /// Process 1 from the end of the set-up on.
    fn then(self) -> &'static str {
        match self {
            Init::Shell => "cat; exit 0",
            Init::OpenRc => {
                "for level in sysinit boot default; do openrc $level > /run/$level.log 2>&1; done; touch /run/booted; cat; exit 0"
            }
            Init::Systemd => {
                "exec /lib/systemd/systemd --show-status=no --log-target=journal < /dev/null > /dev/null 2>&1"
            }
        }
    }
}

/// One machine.
pub struct House<'w> {
    world: &'w World,
    name: String,
    init: Init,
    /// The file system of everything that it changes.
    dir: PathBuf,
    running: Running,
}

/// A machine from its start to its end.
struct Running {
    /// `unshare`, whose only child is process 1.
    holder: Child,
    /// Process 1 as seen from outside.
    init: u32,
    link: Link,
    cgroups: Vec<PathBuf>,
}

impl<'w> House<'w> {
    /// A machine of this host name without a service manager.
    pub fn new(world: &'w World, name: &str) -> House<'w> {
        House::booted(world, name, Init::Shell)
    }

    /// A machine with this kind of process 1, whose service manager has come up.
    pub fn booted(world: &'w World, name: &str, init: Init) -> House<'w> {
        let dir = world.dir.join(format!("house-{name}"));
        fs::create_dir_all(&dir).unwrap();
        // Of its own, as an overlay's upper directory cannot stand below its lower one.
        must("mount", &["-t", "tmpfs", "-o", "size=4g,mode=0755", "tmpfs", text(&dir)]);
        for part in ["upper", "work", "root", "run", "containerd"] {
            fs::create_dir_all(dir.join(part)).unwrap();
            fs::set_permissions(dir.join(part), fs::Permissions::from_mode(0o755)).unwrap();
        }
        if init == Init::OpenRc {
            let tree = packages("openrc", &["openrc", "librc1", "libeinfo1", "insserv"]);
            must("cp", &["-a", &format!("{}/.", tree.display()), text(&dir.join("upper"))]);
        }
        let running = Running::start(world, name, &dir, init, init.first());
        let house = House { world, name: name.to_owned(), init, dir, running };
        house.await_boot();
        house
    }

    /// Power off without a warning, and on again: files stay, `/run` and processes do not.
    pub fn reboot(&mut self) {
        self.running.end();
        let run = self.dir.join("run");
        for entry in fs::read_dir(&run).unwrap().flatten() {
            must("rm", &["-rf", text(&entry.path())]);
        }
        self.running = Running::start(self.world, &self.name, &self.dir, self.init, "");
        self.await_boot();
    }

    fn await_boot(&self) {
        eventually("the machine is up", Duration::from_secs(60), || match self.init {
            Init::Shell => Ok(()),
            Init::OpenRc => {
                if self.has("/run/booted") {
                    Ok(())
                } else {
                    Err(String::new())
                }
            }
            Init::Systemd => {
                let told = self.run("systemctl", &["is-system-running", "--wait"]);
                let failed = || self.run("systemctl", &["--failed", "--no-pager"]).stdout;
                if told.stdout.trim() == "running" { Ok(()) } else { Err(told.stdout.clone() + &failed()) }
            }
        });
    }

    /// Its address on the bridge that all houses of the world and this machine share.
    pub fn address(&self) -> &str {
        &self.running.link.address
    }

    /// The address of this machine, where the test runs, on the same bridge: the house's default route.
    pub fn gateway(&self) -> &str {
        &self.running.link.gateway
    }

    /// A program in the house; its environment has a `PATH` and a `HOME` only.
    pub fn command(&self, program: &str) -> Command {
        // Entering the cgroup namespace does not enter the cgroups.
        let join: Vec<String> = self
            .running
            .cgroups
            .iter()
            .map(|group| format!("echo $$ > {}/cgroup.procs;", group.display()))
            .collect();
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{} exec nsenter \"$@\"", join.concat())).arg("sh");
        command.args(["--target", &self.running.init.to_string()]);
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]);
        command.arg("--").arg(program).env_clear().env("PATH", PATH).env("HOME", "/root");
        command.stdin(Stdio::null());
        command
    }

    /// Runs a program in the house to its end.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> Run {
        self.command(program).args(args).output().unwrap().into()
    }

    /// Runs the binary in the house to its end.
    #[track_caller]
    pub fn kedge(&self, args: &[&str]) -> Run {
        self.run("/usr/local/bin/kedge", args)
    }

    /// Starts the binary in the house; its output goes to `NAME.out` and `NAME.err` in the world's directory.
    pub fn start(&self, name: &str, args: &[&str]) -> Daemon {
        self.start_program(name, "/usr/local/bin/kedge", args)
    }

    /// Starts any program in the house.
    pub fn start_program(&self, name: &str, program: &str, args: &[&str]) -> Daemon {
        let daemon = Daemon::start(&self.world.dir, name, self.command(program).args(args));
        // nsenter waits for a child, which is the one in the house.
        let worker = eventually("the program is in the house", SOON, || {
            children(daemon.pid()).first().copied().ok_or("not yet")
        });
        daemon.by(worker)
    }

    /// Starts a containerd at its usual place, with its images and containers outside of the overlay, and waits until
    /// it serves. It ends with the value.
    pub fn containerd(&self) -> Daemon {
        let config = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nrestrict_oom_score_adj = true\n\
            [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\n";
        self.write("/etc/containerd/config.toml", config);
        let daemon = self.start_program(&format!("{}-containerd", self.name), "containerd", &[]);
        eventually("containerd serves", SOON, || match self.run("ctr", &["version"]) {
            answer if answer.status == 0 => Ok(()),
            answer => Err(answer.stderr),
        });
        daemon
    }

    /// Starts a cloud with its embedded API and the usual paths and ports, reached by the house's address, and waits
    /// until it serves.
    pub fn cloud(&self) -> Daemon {
        let config = format!(
            "apiVersion: cloudcore.config.kubeedge.io/v1alpha2\nkind: CloudCore\nmodules:\n  cloudHub:\n    \
             advertiseAddress: [\"{}\"]\n",
            self.address()
        );
        self.write("/etc/kubeedge/config/cloudcore.yaml", &config);
        let mut daemon = self.start(&format!("{}-cloud", self.name), &["cloud", "run", "--embedded"]);
        daemon.wait_for("ready", Duration::from_secs(60));
        daemon
    }

    /// kubectl against the cloud that runs in this house.
    #[track_caller]
    pub fn kubectl(&self, args: &[&str]) -> Run {
        self.run("kubectl", &[&["--kubeconfig", KUBECONFIG], args].concat())
    }

    /// The same file as seen from outside.
    pub fn outside(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.running.init)).join(path.trim_start_matches('/'))
    }

    /// Writes a file in the house, with its directories.
    #[track_caller]
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let file = self.outside(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
    }

    /// Reads a text file of the house.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.outside(path)).unwrap_or_else(|error| panic!("{path} in the house: {error}"))
    }

    /// Whether something stands at this path in the house.
    pub fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.outside(path)).is_ok()
    }

    /// The command lines of all processes in the house but process 1 and what it waits in.
    pub fn processes(&self) -> Vec<String> {
        let listed = self.run("ps", &["-e", "-o", "pid=,ppid=,args="]);
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let (pid, parent) = (words.next()?, words.next()?);
            let command = words.collect::<Vec<_>>().join(" ");
            let own = pid == "1" || (parent == "1" && command == "cat") || command.starts_with("ps -e -o");
            (!own).then_some(command)
        };
        listed.stdout.lines().filter_map(line).collect()
    }

    /// Everything in which the file tree differs from the one below it, and all of `/run`: path to kind, mode, owner and
    /// digest. What containerd keeps for itself is left out. Two calls with equal answers mean an unchanged machine.
    pub fn changed_files(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let tree = Tree { upper: &self.dir.join("upper"), lower: Some(Path::new("/")) };
        tree.walk(Path::new(""), &mut found);
        let run = Tree { upper: &self.dir.join("run"), lower: None };
        let mut below_run = BTreeMap::new();
        run.walk(Path::new(""), &mut below_run);
        found.extend(below_run.into_iter().map(|(path, what)| (format!("/run{path}"), what)));
        let of_runtime = ["/run/containerd", "/run/netns", "/etc/containerd", "/var/lib/containerd"];
        found.retain(|path, _| !of_runtime.iter().any(|own| Path::new(path).starts_with(own)));
        found
    }
}

impl Running {
    fn start(world: &World, name: &str, dir: &Path, init: Init, first: &str) -> Running {
        let cgroups = cgroups(&format!("kedge-house-{}-{name}", std::process::id()));
        let mut holder = hold(world, name, dir, (init.then(), first), &cgroups);
        await_ready(world, name, &mut holder);
        let init = children(holder.id())[0];
        let link = Link::plug(world, init);
        Running { holder, init, link, cgroups }
    }

    /// The kernel ends everything in the process namespace before process 1 is gone.
    fn end(&mut self) {
        signal(self.init, "KILL");
        drop(self.holder.wait());
        self.link.unplug();
        for group in &self.cgroups {
            remove_cgroup(group);
        }
    }
}

impl Drop for House<'_> {
    fn drop(&mut self) {
        self.running.end();
        for point in mounts_below(&self.dir) {
            drop(Command::new("umount").args(["-l", &point]).stderr(Stdio::null()).status());
        }
        drop(fs::remove_dir(&self.dir));
    }
}

/// The files of some of Debian's packages, which this machine need not have: fetched and unpacked once.
fn packages(name: &str, wanted: &[&str]) -> PathBuf {
    let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join("trees").join(name);
    if tree.exists() {
        return tree;
    }
    let made = tree.with_extension(format!("{}", std::process::id()));
    drop(fs::remove_dir_all(&made));
    fs::create_dir_all(made.join("usr")).unwrap();
    let fetch = || Command::new("apt-get").arg("download").args(wanted).current_dir(&made).output().unwrap();
    if !fetch().status.success() {
        // A new machine has no list of packages yet.
        must("apt-get", &["update", "-q"]);
        let fetched = fetch();
        assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    }
    for entry in fs::read_dir(&made).unwrap().flatten().filter(|entry| entry.file_type().unwrap().is_file()) {
        must("dpkg-deb", &["-x", text(&entry.path()), text(&made)]);
        fs::remove_file(entry.path()).unwrap();
    }
    // The machine below has /bin, /lib and /sbin as links into /usr; directories would hide them.
    for dir in ["bin", "lib", "sbin"] {
        if made.join(dir).is_dir() && Path::new("/").join(dir).is_symlink() {
            must("cp", &["-a", text(&made.join(dir)), text(&made.join("usr"))]);
            fs::remove_dir_all(made.join(dir)).unwrap();
        }
    }
    fs::rename(&made, &tree).unwrap();
    tree
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[track_caller]
fn must(program: &str, args: &[&str]) {
    super::run(program, args).assert_status(0);
}

/// Starts process 1 in namespaces of its own, as a child of the one that is returned.
fn hold(world: &World, name: &str, dir: &Path, of: (&str, &str), cgroups: &[PathBuf]) -> Child {
    let join: Vec<String> =
        cgroups.iter().map(|group| format!("echo $$ > {}/cgroup.procs;", group.display())).collect();
    let spaces = "--mount --pid --fork --kill-child=KILL --uts --ipc --net --cgroup";
    // Whoever ends the test without a word ends the house too.
    let enter = format!("{} exec setpriv --pdeathsig KILL unshare {spaces} sh -c \"$SET_UP\"", join.concat());
    Command::new("sh")
        .args(["-c", &enter])
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .env("SET_UP", SET_UP)
        .env("H", dir)
        .env("INIT", of.0)
        .env("FIRST", of.1)
        .env("NAME", name)
        .env("WORLD", &world.dir)
        .env("KEDGE", binary())
        .env("CGROUPS", if cgroups.is_empty() { "" } else { "/sys/fs/cgroup/unified" })
        // What tells systemd that it is not the machine's own.
        .env("container", "lxc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Some versions of unshare complain there of a signal mask.
        .stderr(fs::File::create(world.dir.join(format!("house-{name}.err"))).unwrap())
        .spawn()
        .unwrap()
}

#[track_caller]
fn await_ready(world: &World, name: &str, holder: &mut Child) {
    let mut line = String::new();
    drop(BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line));
    if line.trim() != "ready" {
        drop(holder.kill());
        panic!("no house: {:?}\n{}", holder.wait(), world.log(&format!("house-{name}.err")));
    }
}

/// The processes whose parent is this one.
fn children(pid: u32) -> Vec<u32> {
    let parent = |stat: &str| stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse::<u32>().ok();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|child| {
        fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| parent(&stat) == Some(pid))
    })
    .collect()
}

// === cgroups ===

/// A group of this name in every hierarchy of cgroup v1 and the unified one beside it; none where there is only cgroup
/// v2, whose root alone may hold both processes and groups with controllers.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return Vec::new();
    }
    let hierarchies = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
    let groups = hierarchies.filter(|path| path.join("cgroup.procs").exists()).map(|path| {
        let group = path.join(name);
        fs::create_dir_all(&group).unwrap();
        // Empty until said otherwise, and then no process may join.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = fs::read(path.join(file)) {
                fs::write(group.join(file), all).unwrap();
            }
        }
        group
    });
    groups.collect()
}

fn remove_cgroup(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    drop(fs::remove_dir(group));
}

// === network ===

/// The house's plug in the world's bridge.
struct Link {
    bridge: String,
    address: String,
    gateway: String,
}

fn seed(world: &World) -> u32 {
    text(&world.dir).bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31) ^ u32::from(byte))
}

/// The bridge of a world's houses.
pub fn bridge(world: &World) -> String {
    format!("house-{:08x}", seed(world))
}

impl Link {
    fn plug(world: &World, init: u32) -> Link {
        let (seed, bridge) = (seed(world), bridge(world));
        // A /24 of 172.30.0.0/15, which pods and data directories do not use.
        let net = format!("172.{}.{}", 30 + (seed >> 8) % 2, seed % 256);
        let gateway = format!("{net}.1");
        let place = PathBuf::from(format!("/sys/class/net/{bridge}"));
        if !place.exists() {
            must("ip", &["link", "add", &bridge, "type", "bridge"]);
            must("ip", &["addr", "add", &format!("{gateway}/24"), "dev", &bridge]);
            must("ip", &["link", "set", &bridge, "up"]);
        }
        let number = (2..250).find(|n| !plugs(&bridge).contains(&format!("h{seed:08x}-{n}"))).unwrap();
        let (address, outer) = (format!("{net}.{number}"), format!("h{seed:08x}-{number}"));
        let pid = init.to_string();
        must("ip", &["link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        must("ip", &["link", "set", &outer, "master", &bridge, "up"]);
        for step in [
            &["addr", "add", &format!("{address}/24"), "dev", "eth0"][..],
            &["link", "set", "eth0", "up"],
            &["route", "add", "default", "via", &gateway],
        ] {
            must("nsenter", &[&["--target", &pid, "--net", "ip"], step].concat());
        }
        Link { bridge, address, gateway }
    }

    /// The plug itself has gone with the namespace; the last one takes the bridge along.
    fn unplug(&self) {
        let number = self.address.rsplit('.').next().unwrap_or_default();
        eventually("the link is gone", SOON, || {
            let left = plugs(&self.bridge).into_iter().any(|plug| plug.ends_with(&format!("-{number}")));
            if left { Err("not yet") } else { Ok(()) }
        });
        if plugs(&self.bridge).is_empty() {
            drop(Command::new("ip").args(["link", "del", &self.bridge]).stderr(Stdio::null()).status());
        }
    }
}

fn plugs(bridge: &str) -> Vec<String> {
    let ports = fs::read_dir(format!("/sys/class/net/{bridge}/brif"));
    ports
        .into_iter()
        .flatten()
        .flatten()
        .map(|port| port.file_name().to_string_lossy().into_owned())
        .collect()
}

// === the file tree ===

/// A directory with changes, and what it stands on.
struct Tree<'t> {
    upper: &'t Path,
    lower: Option<&'t Path>,
}

impl Tree<'_> {
    /// Notes every entry of the upper tree that is not as below it. A directory that was copied up because something in
    /// it was touched for a while is no change.
    fn walk(&self, at: &Path, found: &mut BTreeMap<String, String>) {
        let Ok(entries) = fs::read_dir(self.upper.join(at)) else { return };
        for entry in entries.flatten() {
            let path = at.join(entry.file_name());
            let upper = told(&self.upper.join(&path));
            let lower = self.lower.and_then(|lower| told(&lower.join(&path)));
            let directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if directory && is_opaque(&self.upper.join(&path)) {
                self.note_hidden(&path, found);
            }
            let change = match upper {
                Some(upper) if upper == WHITEOUT => lower.map(|_| "removed".to_owned()),
                Some(upper) => Some(upper).filter(|upper| lower.as_ref() != Some(upper)),
                None => None,
            };
            if let Some(change) = change {
                found.insert(format!("/{}", path.display()), change);
            }
            if directory {
                self.walk(&path, found);
            }
        }
    }

    /// What a directory hides of the one below it.
    fn note_hidden(&self, at: &Path, found: &mut BTreeMap<String, String>) {
        let below = self.lower.map(|lower| lower.join(at)).and_then(|path| fs::read_dir(path).ok());
        for entry in below.into_iter().flatten().flatten() {
            let path = at.join(entry.file_name());
            if fs::symlink_metadata(self.upper.join(&path)).is_err() {
                found.insert(format!("/{}", path.display()), "removed".to_owned());
            }
        }
    }
}

const WHITEOUT: &str = "whiteout";

/// Kind, mode, owner and content of what stands at a path.
fn told(path: &Path) -> Option<String> {
    let found: Metadata = fs::symlink_metadata(path).ok()?;
    let kind = found.file_type();
    if kind.is_char_device() && found.rdev() == 0 {
        return Some(WHITEOUT.to_owned());
    }
    let (mode, owner) = (found.mode() & 0o7777, format!("{}:{}", found.uid(), found.gid()));
    let what = if kind.is_dir() {
        "directory".to_owned()
    } else if kind.is_symlink() {
        format!("link to {}", fs::read_link(path).ok()?.display())
    } else if kind.is_file() {
        let digest = ring::digest::digest(&ring::digest::SHA256, &fs::read(path).ok()?);
        let hex: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("file of {} bytes, {hex}", found.len())
    } else if kind.is_socket() {
        "socket".to_owned()
    } else {
        "device or pipe".to_owned()
    };
    Some(format!("{what}, {mode:04o}, {owner}"))
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0_u8; 8];
    rustix::fs::getxattr(path, "trusted.overlay.opaque", &mut value[..]).is_ok_and(|length| length == 1)
}
