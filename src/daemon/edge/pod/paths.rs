//! Where a pod's files are on this machine, in the kubelet's layout. Only computes paths; every part that comes from an
//! object is checked so that no name leads out of its directory.

use std::path::{Component, Path, PathBuf};

/// The two roots of the pod room.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub root: PathBuf,
    pub logs: PathBuf,
}

impl Paths {
    /// Everything of one pod except its logs.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(plain(uid))
    }

    pub fn volume(&self, uid: &str, plugin: &str, name: &str) -> PathBuf {
        self.pod(uid).join("volumes").join(format!("kubernetes.io~{plugin}")).join(plain(name))
    }

    pub fn hosts_file(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }

    /// The file that a container may leave its last words in.
    pub fn last_words(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod(uid).join("containers").join(plain(container)).join(attempt.to_string())
    }

    pub fn pod_logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.logs.join("pods").join(format!("{}_{}_{}", plain(namespace), plain(name), plain(uid)))
    }
}

/// Object names have no slashes; a hostile one gets a harmless place instead of somebody else's.
fn plain(part: &str) -> String {
    if part.is_empty() || part == "." || part == ".." { "_".to_owned() } else { part.replace('/', "_") }
}

/// A relative path that stays inside its directory, as ConfigMap items and subPaths must be.
pub(super) fn is_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_directory() {
        let paths = Paths { root: "/r".into(), logs: "/l".into() };
        assert_eq!(paths.pod(".."), Path::new("/r/pods/_"));
        assert_eq!(
            paths.volume("u", "secret", "../../x"),
            Path::new("/r/pods/u/volumes/kubernetes.io~secret/.._.._x")
        );
        for bad in ["", "/a", "../a", "a/../b", "./a"] {
            assert!(!is_inside(bad), "{bad}");
        }
        assert!(is_inside("a/b.c"));
    }
}
