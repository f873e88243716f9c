//! The control group that a pod's containers stand in. Where edgecore.yaml asks for a kubelet's order, it is that order to
//! the letter: an edgecore that comes back ends and starts anew every running pod that it does not find there.
//! Pure but for [`remove`], which takes away empty groups only and never a process.

use super::status::qos_class;
use k8s_openapi::api::core::v1::Pod;
use std::path::Path;

const MOUNT: &str = "/sys/fs/cgroup";
/// Where all pods of a kubelet's order stand.
const ALL_PODS: &str = "kubepods";
const CLASSES: [&str; 3] = ["", "burstable", "besteffort"];
/// Names from outside are UUIDs or hashes; anything longer is none.
const UID_LENGTH: usize = 64;

/// How the pods of this node are ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Whether the runtime names groups in systemd's way.
    pub systemd: bool,
    /// The group above a kubelet's order, as `cgroupRoot` names it; `None` for one group for all pods. That is for
    /// machines on which a kubelet may run beside: it ends whatever it finds in its order and does not know.
    pub root: Option<String>,
}

impl Groups {
    /// The parent of the pod's sandbox and containers in the form that the runtime's driver reads.
    pub(super) fn parent(&self, pod: &Pod) -> String {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let Some(root) = self.root.as_ref().filter(|_| is_plain(uid)) else {
            return if self.systemd { "kedge.slice" } else { "/kedge" }.to_owned();
        };
        let above = root.split('/').filter(|part| !part.is_empty());
        let pod_group = format!("pod{uid}");
        let within = [ALL_PODS, class(pod), &pod_group];
        let parts = above.chain(within).filter(|part| !part.is_empty());
        if self.systemd {
            // A dash parts a slice from the one above it.
            let parts: Vec<String> = parts.map(|part| part.replace('-', "_")).collect();
            return format!("{}.slice", parts.join("-"));
        }
        parts.map(|part| format!("/{part}")).collect()
    }
}

/// The class as the API tells it, which a kubelet believes too; else as the specification makes it.
fn class(pod: &Pod) -> &'static str {
    let told = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
    let class = told.or_else(|| pod.spec.as_ref().map(qos_class));
    match class {
        Some("Guaranteed") => "",
        Some("Burstable") => "burstable",
        _ => "besteffort",
    }
}

fn is_plain(uid: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    !uid.is_empty() && uid.len() <= UID_LENGTH && uid.chars().all(plain)
}

/// Removes the groups of a pod that is gone. Those of the systemd driver systemd removes itself. Blocks for a moment.
pub fn remove(uid: &str) {
    remove_below(Path::new(MOUNT), uid);
}

fn remove_below(mount: &Path, uid: &str) {
    if !is_plain(uid) {
        return;
    }
    // One tree in version 2, one for each controller in version 1.
    let trees = std::fs::read_dir(mount).into_iter().flatten().flatten().map(|entry| entry.path());
    for tree in std::iter::once(mount.to_owned()).chain(trees) {
        for class in CLASSES {
            // Most are not there, and one with a process in it stays.
            drop(std::fs::remove_dir(tree.join(ALL_PODS).join(class).join(format!("pod{uid}"))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(uid: &str, resources: Value, status: Value) -> Pod {
        let spec = json!({"containers": [{"name": "a", "resources": resources}]});
        serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn a_pod_stands_where_a_kubelet_looks_for_it() {
        let files = Groups { systemd: false, root: Some(String::new()) };
        let slices = Groups { systemd: true, root: Some("/".to_owned()) };
        let all = json!({"limits": {"cpu": "1", "memory": "1Mi"}});
        for (resources, file, slice) in [
            (json!({}), "/kubepods/besteffort/pod1-2", "kubepods-besteffort-pod1_2.slice"),
            (
                json!({"requests": {"cpu": "1"}}),
                "/kubepods/burstable/pod1-2",
                "kubepods-burstable-pod1_2.slice",
            ),
            (all, "/kubepods/pod1-2", "kubepods-pod1_2.slice"),
        ] {
            let pod = pod("1-2", resources, json!({}));
            assert_eq!(files.parent(&pod), file);
            assert_eq!(slices.parent(&pod), slice);
        }
        let told = pod("1-2", json!({}), json!({"qosClass": "Burstable"}));
        assert_eq!(files.parent(&told), "/kubepods/burstable/pod1-2");
        let below = Groups { root: Some("/edge".to_owned()), ..files };
        assert_eq!(below.parent(&told), "/edge/kubepods/burstable/pod1-2");
    }

    #[test]
    fn one_group_for_all_where_no_order_is_asked_for_or_the_name_is_none() {
        let flat = |systemd| Groups { systemd, root: None }.parent(&pod("1", json!({}), json!({})));
        assert_eq!((flat(false), flat(true)), ("/kedge".to_owned(), "kedge.slice".to_owned()));
        let ordered = Groups { systemd: false, root: Some(String::new()) };
        let long = "a".repeat(65);
        for uid in ["", "../../x", "a/b", ".", &long] {
            assert_eq!(ordered.parent(&pod(uid, json!({}), json!({}))), "/kedge", "{uid}");
        }
    }

    #[test]
    fn what_a_pod_leaves_goes_in_every_tree_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let of_pod = ["kubepods/podu", "cpu/kubepods/besteffort/podu", "memory/kubepods/burstable/podu"];
        let others = ["cpu/kubepods/besteffort/podv", "memory/kubepods/podu/busy", "podu"];
        for path in of_pod.iter().chain(&others) {
            std::fs::create_dir_all(at(path)).unwrap();
        }
        remove_below(dir.path(), "u");
        remove_below(dir.path(), "../podu");
        assert!(of_pod.iter().all(|path| !at(path).exists()));
        assert!(others.iter().all(|path| at(path).exists()));
    }
}
