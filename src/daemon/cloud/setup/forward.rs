//! The pods that run `kedge cloud forward` beside each API server of a cluster, when the cloud is one of its Deployments:
//! account, rights and DaemonSet, and whether they find a machine. Pure; `manifest` applies them, `review` asks, `removal`
//! takes them out.

use super::machines::Machine;
use super::manifest::{Wanted, meta_of};
use super::review::{Verdict, finding};
use super::{FORWARD, FORWARD_BY_HAND, LABEL_MANAGED, LABEL_NAME, MANAGER, NAMESPACE};
use crate::host::check::Finding;
use crate::wire::tunnel_port::CONFIG_MAP;
use serde_json::{Value, json};

/// The roles of a node with an API server, in today's words and those of old clusters.
pub(super) const ROLES: [&str; 2] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
/// Where the pod sees its machine's file system.
const HOST_ROOT: &str = "/host";
/// The file that every iptables of a machine locks, in its one place.
const LOCK: &str = "/run/xtables.lock";

/// All that the account may do: read the clouds' ports.
pub(super) fn rules() -> Value {
    json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [CONFIG_MAP], "verbs": ["get"]}])
}

/// In the order in which they are applied.
pub(super) fn objects(wanted: &Wanted) -> Vec<Value> {
    const RBAC: &str = "rbac.authorization.k8s.io";
    let meta = || meta_of(FORWARD, FORWARD, NAMESPACE);
    let version = format!("{RBAC}/v1");
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta()}),
        json!({"apiVersion": version, "kind": "Role", "metadata": meta(), "rules": rules()}),
        json!({"apiVersion": version, "kind": "RoleBinding", "metadata": meta(),
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": FORWARD},
            "subjects": [{"kind": "ServiceAccount", "name": FORWARD, "namespace": NAMESPACE}]}),
        daemon_set(wanted),
    ]
}

fn daemon_set(wanted: &Wanted) -> Value {
    let terms: Vec<Value> =
        ROLES.iter().map(|role| json!({"matchExpressions": [{"key": role, "operator": "Exists"}]})).collect();
    // What keeps others off such machines keeps this one nowhere off, whatever the effect.
    let tolerated = [ROLES[0], ROLES[1], "node-role.kubernetes.io/etcd", "CriticalAddonsOnly"];
    let spec = json!({
        "serviceAccountName": FORWARD,
        "priorityClassName": "system-node-critical",
        "hostNetwork": true,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}},
        "tolerations": tolerated.map(|key| json!({"key": key, "operator": "Exists"})),
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container(wanted)],
        "volumes": [
            {"name": "host", "hostPath": {"path": "/", "type": "Directory"}},
            {"name": "lock", "hostPath": {"path": LOCK, "type": "FileOrCreate"}},
        ],
        "terminationGracePeriodSeconds": 60,
    });
    let labels = json!({LABEL_NAME: FORWARD, LABEL_MANAGED: MANAGER});
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": meta_of(FORWARD, FORWARD, NAMESPACE),
        "spec": {
            "selector": {"matchLabels": {LABEL_NAME: FORWARD}},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    })
}

fn container(wanted: &Wanted) -> Value {
    let port = wanted.config.stream.stream.port().to_string();
    let mut args = vec!["cloud", "forward", "--host-root", HOST_ROOT, "--forward-port", &port];
    if !wanted.config.master.is_empty() {
        args.extend(["--server", &wanted.config.master]);
    }
    args.extend(["--log-format", "json"]);
    json!({
        "name": "forward",
        "image": wanted.image,
        "imagePullPolicy": "IfNotPresent",
        "args": args,
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {
            // The lock and the sockets of iptables are root's; of root's rights these are enough.
            "runAsUser": 0, "runAsGroup": 0,
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW", "SYS_CHROOT"]},
            // Where SELinux rules, a pod's usual type may run nothing of the machine.
            "seLinuxOptions": {"type": "spc_t", "level": "s0"},
        },
        "volumeMounts": [
            {"name": "host", "mountPath": HOST_ROOT, "readOnly": true},
            {"name": "lock", "mountPath": format!("{HOST_ROOT}{LOCK}")},
        ],
    })
}

/// Whether the pods find a machine.
pub(super) fn planes(machines: &[Machine]) -> Finding {
    let found: Vec<&str> = machines.iter().filter(|it| it.control_plane).map(|it| it.host.as_str()).collect();
    let finding = |seen: String| finding("KE-INIT-014", "machines with an API server", seen);
    if !found.is_empty() {
        return finding(found.join(", "));
    }
    finding(format!("no node has the role {}", ROLES[0])).warns(
        format!("kubectl logs and exec for edge nodes start there, and DaemonSet {FORWARD} has no machine to run on"),
        FORWARD_BY_HAND,
    )
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{Mode, objects as all, tests::wanted};
    use super::*;
    use crate::config::cloud::Lead;
    use crate::host::check::State;

    fn ours(objects: &[Value]) -> Vec<&str> {
        let named = objects.iter().filter(|it| it["metadata"]["name"] == FORWARD);
        named.filter_map(|it| it["kind"].as_str()).collect()
    }

    #[test]
    fn the_pods_come_where_the_cloud_leaves_the_rules_to_them() {
        let mut wanted = wanted(Mode::Cluster, false);
        assert_eq!(ours(&all(&wanted)), ["ServiceAccount", "Role", "RoleBinding", "DaemonSet"]);
        wanted.config.stream.lead = Lead::Cloud;
        assert!(ours(&all(&wanted)).is_empty());
        wanted.config.stream.lead = Lead::Nobody;
        assert!(ours(&all(&wanted)).is_empty());
        wanted.config.stream.lead = Lead::Beside;
        wanted.config.stream.enabled = false;
        assert!(ours(&all(&wanted)).is_empty(), "without streams nothing is led");
        let host = Wanted { mode: Mode::Host, ..wanted };
        assert!(ours(&all(&host)).is_empty());
    }

    #[test]
    fn the_pod_is_told_what_the_cloud_is_told_and_may_no_more_than_it_must() {
        let mut wanted = wanted(Mode::Cluster, false);
        wanted.config.stream.stream.set_port(23003);
        wanted.config.master = "https://192.0.2.10:6443".to_owned();
        let set = daemon_set(&wanted);
        let container = set.pointer("/spec/template/spec/containers/0").unwrap();
        let args = container["args"].to_string();
        assert!(args.contains(r#""--forward-port","23003","--server","https://192.0.2.10:6443""#), "{args}");
        assert!(container["securityContext"]["privileged"].is_null());
        assert_eq!(rules()[0]["verbs"], json!(["get"]));
        // The cloud's Service and Deployment choose pods by their name.
        assert_ne!(set.pointer("/spec/template/metadata/labels").unwrap()[LABEL_NAME], super::super::NAME);
    }

    #[test]
    fn a_cluster_without_machines_of_its_own_hears_what_to_do() {
        let machine = |host: &str, control_plane| Machine {
            host: host.to_owned(),
            control_plane,
            ..Machine::default()
        };
        let managed = planes(&[machine("worker", false)]);
        assert_eq!((&*managed.code, managed.state), ("KE-INIT-014", State::Warning));
        assert!(
            managed.fix.contains("kedge cloud forward") && managed.fix.contains("kedge logs"),
            "{managed:?}"
        );
        let own = planes(&[machine("worker", false), machine("cp-1", true)]);
        assert_eq!((own.state, &*own.seen), (State::Fine, "cp-1"));
    }
}
