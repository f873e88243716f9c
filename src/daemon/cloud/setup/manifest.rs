//! The objects that `kedge init` applies, in order. Pure: what is wanted in, objects out. `manifests/cloud.yaml` is this with
//! the defaults; a test compares. Secrets are not here: they are created once and never applied.

use super::forward;
use super::rights::{self, LOCAL};
use super::standing::{KEY, Standing};
use super::{LABEL_MANAGED, LABEL_NAME, MANAGER, NAME, NAMESPACE};
use crate::config::cloud::CloudConfig;
use serde_json::{Value, json};

/// Where the cloud runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As a Deployment.
    Cluster,
    /// On a machine of its own, with the rights of the same service account.
    Host,
}

/// What is to be there.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub mode: Mode,
    pub image: String,
    /// More than one keep apart from each other.
    pub replicas: u32,
    /// Machines that the scheduler would give them; none where the cluster was not looked at.
    pub machines: Option<usize>,
    /// cloudcore.yaml, as the cloud reads it.
    pub document: Value,
    pub config: CloudConfig,
    /// Nodes that have an advertised address; the cloud has to run there. Empty for addresses of a load balancer.
    pub hosts: Vec<String>,
    /// The cluster has no other machines than edge nodes.
    pub edge_only: bool,
    /// What it takes the place of.
    pub standing: Standing,
}

impl Wanted {
    /// Whether pods beside the API servers lead their connections to the cloud.
    pub fn forwards(&self) -> bool {
        self.mode == Mode::Cluster && self.config.stream.is_led_beside()
    }

    /// Whether several replicas share the nodes.
    pub fn has_several(&self) -> bool {
        self.mode == Mode::Cluster && self.replicas > 1
    }
}

const CONFIG_DIR: &str = "/etc/kubeedge/config";
const USER: u32 = 65532;
pub(super) const REPLICAS: u32 = 3;
pub(super) const EDGE_ROLE: &str = "node-role.kubernetes.io/edge";

/// Everything but Secrets and definitions, in the order in which it is applied.
pub fn objects(wanted: &Wanted) -> Vec<Value> {
    let mut all = vec![namespace(), account()];
    all.extend(access(wanted.config.dynamic));
    all.push(config_map(wanted));
    if wanted.forwards() {
        all.extend(forward::objects(wanted));
    }
    if wanted.mode == Mode::Cluster {
        all.push(deployment(wanted));
        all.push(service(wanted));
        if wanted.has_several() {
            all.push(disruption_budget(wanted));
        }
    }
    all
}

/// Several objects as one YAML text for `kubectl apply -f -`.
pub fn to_yaml(objects: &[Value]) -> String {
    let texts: Vec<String> = objects.iter().map(|it| serde_yaml::to_string(it).unwrap_or_default()).collect();
    texts.join("---\n")
}

fn labels() -> Value {
    json!({LABEL_NAME: NAME, LABEL_MANAGED: MANAGER})
}

fn meta(name: &str, namespace: &str) -> Value {
    meta_of(NAME, name, namespace)
}

/// Of an object that belongs to this part of what is ours.
pub(super) fn meta_of(part: &str, name: &str, namespace: &str) -> Value {
    let mut meta = json!({"name": name, "labels": {LABEL_NAME: part, LABEL_MANAGED: MANAGER}});
    if !namespace.is_empty() {
        meta["namespace"] = json!(namespace);
    }
    meta
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": meta(NAMESPACE, "")})
}

fn account() -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(NAME, NAMESPACE)})
}

fn access(dynamic: bool) -> Vec<Value> {
    const RBAC: &str = "rbac.authorization.k8s.io";
    let version = format!("{RBAC}/v1");
    let subjects = json!([{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]);
    let reference = |kind: &str, name: &str| json!({"apiGroup": RBAC, "kind": kind, "name": name});
    let mut all = Vec::new();
    let mut everywhere = |name: &str, rules: Value| {
        all.push(
            json!({"apiVersion": version, "kind": "ClusterRole", "metadata": meta(name, ""), "rules": rules}),
        );
        all.push(json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": meta(name, ""),
            "roleRef": reference("ClusterRole", name), "subjects": subjects}));
    };
    everywhere(NAME, rights::everywhere());
    if dynamic {
        everywhere(&format!("{NAME}-as-nodes"), rights::as_nodes());
    }
    for local in LOCAL {
        let place = meta(local.name, local.namespace);
        all.push(json!({"apiVersion": version, "kind": "Role", "metadata": place, "rules": (local.rules)()}));
        all.push(json!({"apiVersion": version, "kind": "RoleBinding", "metadata": place,
            "roleRef": reference("Role", local.name), "subjects": subjects}));
    }
    all
}

fn config_map(wanted: &Wanted) -> Value {
    // One that says the same keeps its comments.
    let standing = Some(&wanted.standing).filter(|it| it.document == wanted.document && !it.text.is_empty());
    let text = match standing {
        Some(standing) => standing.text.clone(),
        None => serde_yaml::to_string(&wanted.document).unwrap_or_default(),
    };
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(NAME, NAMESPACE), "data": {KEY: text}})
}

/// Names and numbers of the ports that nodes and the API server use.
fn ports(wanted: &Wanted) -> Vec<(&'static str, u16)> {
    let config = &wanted.config;
    let mut ports = vec![("hub", config.hub.websocket.port()), ("https", config.hub.https.port())];
    if config.stream.enabled {
        ports.push(("stream", config.stream.stream.port()));
        ports.push(("tunnel", config.stream.tunnel.port()));
    }
    if config.router.enabled {
        ports.push(("router", config.router.listen.port()));
    }
    ports
}

fn deployment(wanted: &Wanted) -> Value {
    let mut pod = json!({"metadata": {"labels": labels(),
        // Another configuration is another pod: the daemon reads it at start.
        "annotations": {"kedge.io/configuration": digest(&wanted.document)}}});
    pod["spec"] = json!({
        "serviceAccountName": NAME,
        "hostNetwork": true,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "affinity": affinity(wanted),
        "tolerations": tolerations(),
        "securityContext": {"runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container(wanted)],
        "volumes": [
            {"name": "config", "configMap": {"name": NAME}},
            {"name": "data", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
        ],
        "terminationGracePeriodSeconds": 30,
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(NAME, NAMESPACE),
        "spec": {
            "replicas": wanted.replicas,
            "selector": {"matchLabels": {LABEL_NAME: NAME}},
            // Two pods cannot hold the same ports of one machine.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": gone_at_once(wanted)}},
            "template": pod,
        },
    })
}

/// The taints with which machines of a control plane keep others off.
pub(super) fn tolerations() -> [Value; 2] {
    forward::ROLES.map(|role| json!({"key": role, "operator": "Exists", "effect": "NoSchedule"}))
}

/// How many pods may be gone at once while others take their place. A pod without a machine is gone all the time: if it
/// were the only one that may be, no other would ever make room for a new one.
fn gone_at_once(wanted: &Wanted) -> u32 {
    let machines = wanted.machines.and_then(|count| u32::try_from(count).ok()).unwrap_or(wanted.replicas);
    let homeless = wanted.replicas.saturating_sub(machines);
    homeless.saturating_add(1).min(wanted.replicas)
}

/// Whether the cloud has to run on the machines at which nodes look for it. Replicas that keep apart need as many; on
/// fewer, some would wait for ever.
pub(super) fn is_pinned(hosts: &[String], replicas: u32) -> bool {
    u32::try_from(hosts.len()).unwrap_or(u32::MAX) >= replicas
}

fn container(wanted: &Wanted) -> Value {
    let ports: Vec<Value> = ports(wanted)
        .into_iter()
        .map(|(name, port)| json!({"name": name, "containerPort": port, "hostPort": port, "protocol": "TCP"}))
        .collect();
    let ask = json!({"path": "/ca.crt", "port": "https", "scheme": "HTTPS"});
    json!({
        "name": "cloud",
        "image": wanted.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["cloud", "run", "--config", format!("{CONFIG_DIR}/cloudcore.yaml"), "--log-format", "json"],
        "ports": ports,
        "readinessProbe": {"httpGet": ask, "periodSeconds": 5, "timeoutSeconds": 3},
        "livenessProbe": {"httpGet": ask, "periodSeconds": 20, "timeoutSeconds": 5, "failureThreshold": 6},
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_DIR, "readOnly": true},
            {"name": "data", "mountPath": wanted.config.data_dir},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    })
}

fn affinity(wanted: &Wanted) -> Value {
    let edge = if wanted.edge_only { "Exists" } else { "DoesNotExist" };
    let mut place = vec![json!({"key": EDGE_ROLE, "operator": edge})];
    if is_pinned(&wanted.hosts, wanted.replicas) {
        place.push(json!({"key": "kubernetes.io/hostname", "operator": "In", "values": wanted.hosts}));
    }
    let mut affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchExpressions": place}]}}});
    if wanted.has_several() {
        affinity["podAntiAffinity"] = json!({"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {LABEL_NAME: NAME}}}]});
    }
    affinity
}

fn service(wanted: &Wanted) -> Value {
    let kind = wanted.standing.service.as_deref().unwrap_or("ClusterIP");
    let ports: Vec<Value> = ports(wanted)
        .into_iter()
        .map(|(name, port)| json!({"name": name, "port": port, "targetPort": name, "protocol": "TCP"}))
        .collect();
    json!({"apiVersion": "v1", "kind": "Service", "metadata": meta(NAME, NAMESPACE),
        "spec": {"type": kind, "selector": {LABEL_NAME: NAME}, "ports": ports}})
}

fn disruption_budget(wanted: &Wanted) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta(NAME, NAMESPACE),
        "spec": {"minAvailable": wanted.replicas.saturating_sub(1), "selector": {"matchLabels": {LABEL_NAME: NAME}}}})
}

/// A short digest that changes with the document.
fn digest(document: &Value) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, document.to_string().as_bytes());
    hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::super::kubernetes::Resource;
    use super::super::document;
    use super::*;
    use std::path::Path;

    pub(in super::super) fn wanted(mode: Mode, ha: bool) -> Wanted {
        let advertise = ["192.0.2.10".to_owned()];
        let (document, config) =
            document(mode, &advertise, None, &Standing::default(), &Value::Null).unwrap();
        Wanted {
            mode,
            image: super::super::default_image(),
            replicas: if ha { REPLICAS } else { 1 },
            machines: None,
            document,
            config,
            hosts: Vec::new(),
            edge_only: false,
            standing: Standing::default(),
        }
    }

    /// `KEDGE_WRITE_MANIFESTS=1` writes it anew.
    #[test]
    fn the_published_manifest_is_the_generated_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/cloud.yaml");
        let head = "# What `kedge init` applies besides manifests/crds, for a cloud at 192.0.2.10 (put your own address in).\n\
            # Secrets are not in it: the cloud makes them at its first start.\n";
        let text = head.to_owned() + &to_yaml(&objects(&wanted(Mode::Cluster, false)));
        if std::env::var_os("KEDGE_WRITE_MANIFESTS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(published, text, "{} (KEDGE_WRITE_MANIFESTS=1 writes it)", path.display());
    }

    #[test]
    fn each_form_has_its_own_objects() {
        let kinds = |mode, ha| -> Vec<String> {
            let all = objects(&wanted(mode, ha));
            all.iter().filter_map(|it| it["kind"].as_str().map(str::to_owned)).collect()
        };
        let host = kinds(Mode::Host, false);
        assert!(host.contains(&"ClusterRole".to_owned()) && !host.contains(&"Deployment".to_owned()));
        assert!(!kinds(Mode::Cluster, false).contains(&"PodDisruptionBudget".to_owned()));
        let ha = objects(&wanted(Mode::Cluster, true));
        let deployment = ha.iter().find(|it| it["kind"] == "Deployment").unwrap();
        assert_eq!(deployment["spec"]["replicas"], 3);
        assert!(deployment.pointer("/spec/template/spec/affinity/podAntiAffinity").is_some());
        assert!(ha.iter().any(|it| it["kind"] == "PodDisruptionBudget" && it["spec"]["minAvailable"] == 2));
    }

    #[test]
    fn the_cloud_is_bound_to_the_machines_that_are_advertised() {
        let wanted = Wanted { hosts: vec!["cp-1".to_owned()], ..wanted(Mode::Cluster, false) };
        assert!(affinity(&wanted).to_string().contains("\"values\":[\"cp-1\"]"));
        assert!(affinity(&wanted).to_string().contains("\"operator\":\"DoesNotExist\""));
        let apart = Wanted { replicas: REPLICAS, ..wanted.clone() };
        assert!(!affinity(&apart).to_string().contains("cp-1"), "three replicas do not fit onto one machine");
        let nowhere_else = Wanted { edge_only: true, ..wanted };
        assert!(!affinity(&nowhere_else).to_string().contains("DoesNotExist"));
    }

    fn the(kind: &str, wanted: &Wanted) -> Value {
        objects(wanted).into_iter().find(|it| it["kind"] == kind).unwrap()
    }

    #[test]
    fn a_roll_out_goes_on_where_a_replica_has_no_machine() {
        let gone = |replicas, machines| {
            let wanted = Wanted { replicas, machines, ..wanted(Mode::Cluster, false) };
            the("Deployment", &wanted)["spec"]["strategy"]["rollingUpdate"].clone()
        };
        for (replicas, machines, expected) in [
            (1, None, 1),
            (1, Some(0), 1),
            (1, Some(5), 1),
            (3, None, 1),
            (3, Some(5), 1),
            (3, Some(3), 1),
            (3, Some(2), 2),
            (3, Some(1), 3),
            (3, Some(0), 3),
            (5, Some(3), 3),
        ] {
            let expected = json!({"maxSurge": 0, "maxUnavailable": expected});
            assert_eq!(gone(replicas, machines), expected, "{replicas} on {machines:?}");
        }
        let five = Wanted { replicas: 5, ..wanted(Mode::Cluster, true) };
        assert_eq!(the("PodDisruptionBudget", &five)["spec"]["minAvailable"], 4);
        assert_eq!(the("Deployment", &five)["spec"]["replicas"], 5);
    }

    #[test]
    fn what_was_chosen_and_written_before_stays_to_the_letter() {
        let text = "# mine\nmodules: {}\n";
        let map = json!({"data": {KEY: text}});
        let service = json!({"metadata": {"labels": {LABEL_MANAGED: MANAGER}}, "spec": {"type": "NodePort"}});
        let standing = Standing::of(Some(&map), None, Some(&service)).unwrap();
        let document = standing.document.clone();
        let same = Wanted { standing, document, ..wanted(Mode::Cluster, false) };
        assert_eq!(the("ConfigMap", &same)["data"][KEY], text);
        assert_eq!(the("Service", &same)["spec"]["type"], "NodePort");
        let other = Wanted { document: json!({"modules": {"x": 1}}), ..same };
        assert!(!the("ConfigMap", &other)["data"][KEY].as_str().unwrap().contains("mine"));
    }

    #[test]
    fn everything_is_marked_as_ours() {
        for object in objects(&wanted(Mode::Cluster, true)) {
            assert_eq!(object["metadata"]["labels"][LABEL_MANAGED], MANAGER, "{object}");
            let kind = object["kind"].as_str().unwrap();
            assert!(Resource::named(kind).is_some(), "{kind} can be applied");
        }
    }
}
