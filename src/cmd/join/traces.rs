//! What a daemon leaves on a machine beside the files that the journal knows: pods in the runtime, mounts, the pods'
//! bridge and its rule, its database and sockets. Reset and a roll-back remove it; nothing of others is touched: pods by
//! their mark, paths by the note of the join.

use super::note::Note;
use crate::base::{Failure, Module, Ready, Stop};
use crate::cri::Runtime;
use crate::cri::messages::{Labels, PodSandbox};
use crate::daemon::edge::pod::{NODE_LABEL, remove_groups};
use crate::host::cni::{self, Network, Owner};
use crate::host::{containerd, mounts};
use std::fs;
use std::path::{Path, PathBuf};

/// What becomes of the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cmd) enum Pods {
    Remove,
    /// They run on; their volumes and their network stay with them.
    Keep,
}

impl Pods {
    /// An edgecore that comes back goes on with its pods.
    pub(in crate::cmd) fn of(note: &Note) -> Pods {
        if note.takeover { Pods::Keep } else { Pods::Remove }
    }
}

/// What was removed and what could not be.
#[derive(Debug, Default)]
pub(in crate::cmd) struct Cleared {
    pub done: Vec<String>,
    pub leftovers: Vec<Failure>,
}

impl Cleared {
    fn note(&mut self, done: Result<String, Failure>) {
        match done {
            Ok(done) => self.done.push(done),
            Err(failure) => self.leftovers.push(failure),
        }
    }
}

/// Removes all traces; the daemon must have ended.
pub(in crate::cmd) async fn remove(note: &Note, pods: Pods) -> Cleared {
    let mut cleared = Cleared::default();
    if pods == Pods::Remove {
        remove_pods(note, &mut cleared).await;
        if note.owns(&note.root) {
            unmount_below(&note.root, &mut cleared);
        }
        unmount_below(&note.runtime_dir, &mut cleared);
        remove_network(note, &mut cleared);
    }
    for path in made(note, pods) {
        if let Some(done) = remove_path(path).transpose() {
            cleared.note(done);
        }
    }
    cleared
}

/// What [`remove`] would remove, for people.
pub(in crate::cmd) async fn list(note: &Note, pods: Pods) -> Vec<String> {
    let mut found = Vec::new();
    if pods == Pods::Remove {
        if let Some(runtime) = &runtime_of(note) {
            found.extend(sandboxes(runtime, note).await.unwrap_or_default().iter().map(told));
        }
        if let Some(network) = network_of(note) {
            found.push(format!("the bridge {} and its rule for {}", network.bridge, network.subnet));
        }
    }
    found.extend(made(note, pods).filter(|path| path.exists()).map(|path| path.display().to_string()));
    found
}

/// The paths that go. Pods that run on need the runtime that keeps them.
fn made(note: &Note, pods: Pods) -> impl Iterator<Item = &PathBuf> {
    note.made.iter().filter(move |path| pods == Pods::Remove || **path != note.runtime_dir)
}

/// How many pods of this node the runtime holds; `None` when it does not answer.
pub(in crate::cmd) async fn count_pods(note: &Note) -> Option<usize> {
    Some(sandboxes(&runtime_of(note)?, note).await.ok()?.len())
}

fn runtime_of(note: &Note) -> Option<Runtime> {
    if !note.runtime.is_empty() {
        return Some(Runtime::new(&note.runtime));
    }
    let socket = containerd::own_socket(&note.runtime_dir);
    socket.exists().then(|| Runtime::new(&socket.to_string_lossy()))
}

async fn sandboxes(runtime: &Runtime, note: &Note) -> Result<Vec<PodSandbox>, Failure> {
    let mark = Labels::from([(NODE_LABEL.to_owned(), note.node.clone())]);
    runtime.list_pod_sandbox(mark).await.map_err(|error| {
        Failure::new("KE-RESET-003", "the pods of this node cannot be removed")
            .because(error)
            .fix("start the container runtime and run `kedge reset edge` again")
    })
}

fn told(sandbox: &PodSandbox) -> String {
    let meta = sandbox.metadata.clone().unwrap_or_default();
    format!("the pod {}/{}", meta.namespace, meta.name)
}

async fn remove_pods(note: &Note, cleared: &mut Cleared) {
    if !note.runtime.is_empty() {
        let runtime = Runtime::new(&note.runtime);
        return remove_sandboxes(&runtime, note, cleared).await;
    }
    if !note.runtime_dir.join("root").exists() {
        return;
    }
    // The own containerd ended with the daemon; its containers did not.
    let network = Network::derive(&note.runtime_dir);
    let own =
        containerd::Config { endpoint: None, use_running: false, dir: note.runtime_dir.clone(), network };
    match containerd::start(own).await {
        Err(failure) => cleared.leftovers.push(failure),
        Ok(running) => {
            let (runtime, mut keeper) = running.into_parts();
            remove_sandboxes(&runtime, note, cleared).await;
            let stop = Stop::new();
            stop.raise();
            if let Err(failure) = keeper.run(stop, Ready::detached("containerd")).await {
                cleared.leftovers.push(failure);
            }
        }
    }
}

async fn remove_sandboxes(runtime: &Runtime, note: &Note, cleared: &mut Cleared) {
    let found = match sandboxes(runtime, note).await {
        Ok(found) => found,
        Err(failure) => return cleared.leftovers.push(failure),
    };
    for sandbox in found {
        let gone = match runtime.stop_pod_sandbox(&sandbox.id).await {
            Ok(()) => runtime.remove_pod_sandbox(&sandbox.id).await,
            Err(error) => Err(error),
        };
        cleared.note(match gone {
            Ok(()) => Ok(format!("removed {}", told(&sandbox))),
            Err(error) => Err(Failure::new("KE-RESET-003", format!("{} cannot be removed", told(&sandbox)))
                .because(error)
                .fix(format!("crictl rmp -f {}", sandbox.id))),
        });
        let uid = sandbox.metadata.as_ref().map_or("", |meta| meta.uid.as_str());
        // Names from outside never leave the directory.
        if !uid.is_empty() && !uid.contains(['/', '.']) {
            remove_groups(uid);
            let dir = note.root.join("pods").join(uid);
            unmount_below(&dir, cleared);
            if let Err(failure) = remove_path(&dir) {
                cleared.leftovers.push(failure);
            }
        }
    }
}

/// Unmounts what is mounted at or below a directory, innermost first.
fn unmount_below(dir: &Path, cleared: &mut Cleared) {
    use rustix::mount::{UnmountFlags, unmount};
    // A note may name no directory, and never the machine's root.
    if dir.as_os_str().is_empty() || dir.canonicalize().is_ok_and(|real| real.parent().is_none()) {
        return;
    }
    let points = match mounts::below(dir) {
        Ok(points) => points,
        Err(error) => return cleared.leftovers.push(unseen(dir, &error)),
    };
    for point in points {
        cleared.note(match unmount(&point, UnmountFlags::DETACH) {
            Ok(()) => Ok(format!("unmounted {}", point.display())),
            Err(error) => Err(Failure::new("KE-RESET-004", format!("cannot unmount {}", point.display()))
                .because(error)
                .fix(format!("umount -l {}", point.display()))),
        });
    }
}

/// What is mounted there cannot be told: what is below stays.
fn unseen(dir: &Path, error: &std::io::Error) -> Failure {
    Failure::new("KE-RESET-004", format!("cannot unmount what is below {}", dir.display()))
        .because(error)
        .fix("mount /proc, and run `kedge reset edge` again")
}

/// The pod network that kedge has brought, wherever its configuration stands.
fn network_of(note: &Note) -> Option<Network> {
    if note.network.is_some() {
        return note.network.clone();
    }
    let own = note.runtime_dir.join("cni/net.d");
    [note.cni_conf_dir.as_path(), &own].into_iter().find_map(|dir| match cni::owner(dir) {
        Owner::Kedge(network) => Some(network),
        Owner::Nobody | Owner::Other => None,
    })
}

fn remove_network(note: &Note, cleared: &mut Cleared) {
    let Some(network) = network_of(note) else { return };
    for done in cni::remove(&network) {
        cleared.note(done);
    }
}

/// Removes a file, socket or directory in which nothing is mounted; `None` when there was none.
fn remove_path(path: &Path) -> Result<Option<String>, Failure> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(None) };
    let removed = if found.is_dir() { mounts::remove_tree(path) } else { fs::remove_file(path) };
    match removed {
        Ok(()) => Ok(Some(format!("removed {}", path.display()))),
        Err(error) => Err(Failure::new("KE-RESET-005", format!("cannot remove {}", path.display()))
            .because(error)
            .fix(format!("rm -r {}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_daemon_has_made_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("runtime/log")).unwrap();
        for file in ["edgecore.db", "edgecore.db-wal", "mine"] {
            fs::write(at(file), "x").unwrap();
        }
        let note = Note {
            node: "n".to_owned(),
            made: vec![at("edgecore.db"), at("edgecore.db-wal"), at("edgecore.db-shm"), at("runtime")],
            runtime_dir: at("runtime"),
            cni_conf_dir: at("cni"),
            root: at("kubelet"),
            ..Note::default()
        };
        assert_eq!(list(&note, Pods::Remove).await.len(), 3);
        let taken_over = Note { takeover: true, ..note.clone() };
        let stays = list(&taken_over, Pods::of(&taken_over)).await;
        assert_eq!(stays, [at("edgecore.db"), at("edgecore.db-wal")].map(|path| path.display().to_string()));
        let kept = remove(&note, Pods::Keep).await;
        assert!(kept.leftovers.is_empty() && at("runtime").exists() && !at("edgecore.db").exists());
        let cleared = remove(&note, Pods::Remove).await;
        assert!(cleared.leftovers.is_empty(), "{:?}", cleared.leftovers);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(remove(&note, Pods::Remove).await.done.is_empty());
    }

    #[test]
    fn mounts_that_nobody_can_list_are_told() {
        let refused = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let told = unseen(Path::new("/var/lib/kubelet"), &refused).committed();
        assert!(told.code == "KE-RESET-004" && told.what.contains("/var/lib/kubelet"), "{told}");
        let mut cleared = Cleared::default();
        for nowhere in ["", "/proc/kedge"] {
            unmount_below(Path::new(nowhere), &mut cleared);
        }
        assert!(cleared.done.is_empty() && cleared.leftovers.is_empty(), "{cleared:?}");
    }

    #[tokio::test]
    async fn a_runtime_that_is_away_is_a_leftover_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = format!("unix://{}", dir.path().join("none.sock").display());
        let note = Note { runtime, cni_conf_dir: dir.path().join("cni"), ..Note::default() };
        let cleared = remove(&note, Pods::Remove).await;
        assert_eq!(cleared.leftovers.first().unwrap().code, "KE-RESET-003");
        assert_eq!(count_pods(&note).await, None);
    }
}
