//! The columns of the built-in kinds, as upstream's printers name and fill them.

use super::text::{
    NONE, UNKNOWN, age, at, count, items, joined, labels, name, number, or_none, since, text_at,
};
use super::{Column, pod};
use jiff::Timestamp;
use serde_json::Value;

const fn column(name: &'static str, kind: &'static str, cell: fn(&Value, Timestamp) -> Value) -> Column {
    Column { name, kind, priority: 0, cell }
}

const fn wide(name: &'static str, cell: fn(&Value, Timestamp) -> Value) -> Column {
    Column { name, kind: "string", priority: 1, cell }
}

const NAME: Column = column("Name", "string", name);
const AGE: Column = column("Age", "string", age);

/// The columns of a kind; NAME and AGE for those that have no others.
pub(super) fn columns(group: &str, kind: &str) -> &'static [Column] {
    match (group, kind) {
        ("", "Pod") => PODS,
        ("", "Node") => NODES,
        ("", "Namespace") => NAMESPACES,
        ("", "Service") => SERVICES,
        ("", "Endpoints") => ENDPOINTS,
        ("", "Event") | ("events.k8s.io", "Event") => EVENTS,
        ("", "ConfigMap") => CONFIG_MAPS,
        ("", "Secret") => SECRETS,
        ("", "ServiceAccount") => SERVICE_ACCOUNTS,
        ("", "PersistentVolume") => VOLUMES,
        ("", "PersistentVolumeClaim") => CLAIMS,
        ("", "ReplicationController") | ("apps", "ReplicaSet") => REPLICA_SETS,
        ("apps", "Deployment") => DEPLOYMENTS,
        ("apps", "DaemonSet") => DAEMON_SETS,
        ("apps", "StatefulSet") => STATEFUL_SETS,
        ("apps", "ControllerRevision") => REVISIONS,
        ("batch", "Job") => JOBS,
        ("batch", "CronJob") => CRON_JOBS,
        ("discovery.k8s.io", "EndpointSlice") => ENDPOINT_SLICES,
        ("coordination.k8s.io", "Lease") => LEASES,
        ("storage.k8s.io", "StorageClass") => STORAGE_CLASSES,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => DEFINITIONS,
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => ROLES,
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => BINDINGS,
        ("scheduling.k8s.io", "PriorityClass") => PRIORITIES,
        ("certificates.k8s.io", "CertificateSigningRequest") => REQUESTS,
        ("networking.k8s.io", "Ingress") => INGRESSES,
        ("networking.k8s.io", "NetworkPolicy") => POLICIES,
        ("apiregistration.k8s.io", "APIService") => SERVICES_OF_API,
        _ => &[NAME, AGE],
    }
}

static PODS: &[Column] = &[
    NAME,
    column("Ready", "string", |o, now| {
        let summary = pod::summary(o, now);
        format!("{}/{}", summary.ready, summary.total).into()
    }),
    column("Status", "string", |o, now| pod::summary(o, now).word.into()),
    column("Restarts", "string", |o, now| pod::summary(o, now).restarts.into()),
    AGE,
    wide("IP", |o, _| or_none(o, "/status/podIP")),
    wide("Node", |o, _| or_none(o, "/spec/nodeName")),
    wide("Nominated Node", |o, _| or_none(o, "/status/nominatedNodeName")),
    wide("Readiness Gates", |o, _| readiness_gates(o)),
];

static NODES: &[Column] = &[
    NAME,
    column("Status", "string", |o, _| node_status(o)),
    column("Roles", "string", |o, _| node_roles(o)),
    AGE,
    column("Version", "string", |o, _| {
        at(o, "/status/nodeInfo/kubeletVersion").as_str().unwrap_or_default().into()
    }),
    wide("Internal-IP", |o, _| node_address(o, "InternalIP")),
    wide("External-IP", |o, _| node_address(o, "ExternalIP")),
    wide("OS-Image", |o, _| text_at(o, "/status/nodeInfo/osImage").unwrap_or(UNKNOWN).into()),
    wide("Kernel-Version", |o, _| text_at(o, "/status/nodeInfo/kernelVersion").unwrap_or(UNKNOWN).into()),
    wide("Container-Runtime", |o, _| {
        text_at(o, "/status/nodeInfo/containerRuntimeVersion").unwrap_or(UNKNOWN).into()
    }),
];

static NAMESPACES: &[Column] = &[
    NAME,
    column("Status", "string", |o, _| at(o, "/status/phase").as_str().unwrap_or_default().into()),
    AGE,
];

static SERVICES: &[Column] = &[
    NAME,
    column("Type", "string", |o, _| at(o, "/spec/type").as_str().unwrap_or("ClusterIP").into()),
    column("Cluster-IP", "string", |o, _| or_none(o, "/spec/clusterIP")),
    column("External-IP", "string", |o, _| external_ip(o)),
    column("Port(s)", "string", |o, _| service_ports(o)),
    AGE,
    wide("Selector", |o, _| labels(at(o, "/spec/selector"))),
];

static ENDPOINTS: &[Column] = &[NAME, column("Endpoints", "string", |o, _| endpoints(o)), AGE];

static ENDPOINT_SLICES: &[Column] = &[
    NAME,
    column("AddressType", "string", |o, _| o["addressType"].clone()),
    column("Ports", "string", |o, _| {
        let ports = items(o, "/ports");
        if ports.is_empty() {
            "<unset>".into()
        } else {
            few(ports.iter().map(|p| p["port"].to_string()).collect())
        }
    }),
    column("Endpoints", "string", |o, _| {
        let all = items(o, "/endpoints").iter().flat_map(|e| items(e, "/addresses"));
        let all: Vec<String> = all.filter_map(Value::as_str).map(str::to_owned).collect();
        if all.is_empty() { "<unset>".into() } else { few(all) }
    }),
    AGE,
];

static EVENTS: &[Column] = &[
    column("Last Seen", "string", |o, now| {
        let times = ["/series/lastObservedTime", "/lastTimestamp", "/deprecatedLastTimestamp", "/eventTime"];
        times.iter().find_map(|time| since(at(o, time), now)).unwrap_or_else(|| UNKNOWN.to_owned()).into()
    }),
    column("Type", "string", |o, _| o["type"].clone()),
    column("Reason", "string", |o, _| o["reason"].clone()),
    column("Object", "string", |o, _| {
        let object = if o["involvedObject"].is_object() { &o["involvedObject"] } else { &o["regarding"] };
        let word = |name: &str| object[name].as_str().unwrap_or_default();
        format!("{}/{}", word("kind").to_lowercase(), word("name")).into()
    }),
    wide("Subobject", |o, _| at(o, "/involvedObject/fieldPath").as_str().unwrap_or_default().into()),
    wide("Source", |o, _| {
        let component =
            text_at(o, "/source/component").or(text_at(o, "/reportingComponent")).unwrap_or_default();
        match text_at(o, "/source/host") {
            Some(host) => format!("{component}, {host}").into(),
            None => component.into(),
        }
    }),
    column("Message", "string", |o, _| {
        let message = o["message"].as_str().or(o["note"].as_str()).unwrap_or_default();
        message.trim().into()
    }),
    wide("First Seen", |o, now| {
        let first = since(at(o, "/firstTimestamp"), now).or(since(at(o, "/eventTime"), now));
        first.unwrap_or_else(|| UNKNOWN.to_owned()).into()
    }),
    wide("Count", |o, _| at(o, "/series/count").as_i64().or(o["count"].as_i64()).unwrap_or(1).into()),
    Column { name: "Name", kind: "string", priority: 1, cell: name },
];

static CONFIG_MAPS: &[Column] =
    &[NAME, column("Data", "integer", |o, _| (count(o, "/data") + count(o, "/binaryData")).into()), AGE];

static SECRETS: &[Column] = &[
    NAME,
    column("Type", "string", |o, _| at(o, "/type").as_str().unwrap_or("Opaque").into()),
    column("Data", "integer", |o, _| count(o, "/data").into()),
    AGE,
];

static SERVICE_ACCOUNTS: &[Column] =
    &[NAME, column("Secrets", "integer", |o, _| count(o, "/secrets").into()), AGE];

static VOLUMES: &[Column] = &[
    NAME,
    column("Capacity", "string", |o, _| text_at(o, "/spec/capacity/storage").unwrap_or_default().into()),
    column("Access Modes", "string", |o, _| access_modes(items(o, "/spec/accessModes"))),
    column("Reclaim Policy", "string", |o, _| at(o, "/spec/persistentVolumeReclaimPolicy").clone()),
    column("Status", "string", |o, _| phase_or_terminating(o)),
    column("Claim", "string", |o, _| match text_at(o, "/spec/claimRef/name") {
        Some(name) => format!("{}/{name}", text_at(o, "/spec/claimRef/namespace").unwrap_or_default()).into(),
        None => "".into(),
    }),
    column("StorageClass", "string", |o, _| text_at(o, "/spec/storageClassName").unwrap_or_default().into()),
    column("Reason", "string", |o, _| text_at(o, "/status/reason").unwrap_or_default().into()),
    AGE,
];

static CLAIMS: &[Column] = &[
    NAME,
    column("Status", "string", |o, _| phase_or_terminating(o)),
    column("Volume", "string", |o, _| text_at(o, "/spec/volumeName").unwrap_or_default().into()),
    column("Capacity", "string", |o, _| text_at(o, "/status/capacity/storage").unwrap_or_default().into()),
    column("Access Modes", "string", |o, _| access_modes(items(o, "/status/accessModes"))),
    column("StorageClass", "string", |o, _| text_at(o, "/spec/storageClassName").unwrap_or_default().into()),
    AGE,
];

static REPLICA_SETS: &[Column] = &[
    NAME,
    column("Desired", "integer", |o, _| at(o, "/spec/replicas").as_i64().unwrap_or(1).into()),
    column("Current", "integer", |o, _| number(o, "/status/replicas").into()),
    column("Ready", "integer", |o, _| number(o, "/status/readyReplicas").into()),
    AGE,
    wide("Containers", |o, _| containers(o, "name")),
    wide("Images", |o, _| containers(o, "image")),
    wide("Selector", |o, _| selector(o)),
];

static DEPLOYMENTS: &[Column] = &[
    NAME,
    column("Ready", "string", |o, _| ready_of_wanted(o)),
    column("Up-to-date", "string", |o, _| number(o, "/status/updatedReplicas").into()),
    column("Available", "string", |o, _| number(o, "/status/availableReplicas").into()),
    AGE,
    wide("Containers", |o, _| containers(o, "name")),
    wide("Images", |o, _| containers(o, "image")),
    wide("Selector", |o, _| selector(o)),
];

static DAEMON_SETS: &[Column] = &[
    NAME,
    column("Desired", "integer", |o, _| number(o, "/status/desiredNumberScheduled").into()),
    column("Current", "integer", |o, _| number(o, "/status/currentNumberScheduled").into()),
    column("Ready", "integer", |o, _| number(o, "/status/numberReady").into()),
    column("Up-to-date", "integer", |o, _| number(o, "/status/updatedNumberScheduled").into()),
    column("Available", "integer", |o, _| number(o, "/status/numberAvailable").into()),
    column("Node Selector", "string", |o, _| labels(at(o, "/spec/template/spec/nodeSelector"))),
    AGE,
    wide("Containers", |o, _| containers(o, "name")),
    wide("Images", |o, _| containers(o, "image")),
    wide("Selector", |o, _| selector(o)),
];

static STATEFUL_SETS: &[Column] = &[
    NAME,
    column("Ready", "string", |o, _| ready_of_wanted(o)),
    AGE,
    wide("Containers", |o, _| containers(o, "name")),
    wide("Images", |o, _| containers(o, "image")),
];

static REVISIONS: &[Column] = &[
    NAME,
    column("Controller", "string", |o, _| {
        let owner = items(o, "/metadata/ownerReferences").iter().find(|owner| owner["controller"] == true);
        owner.map_or(NONE.into(), |owner| {
            let word = |name: &str| owner[name].as_str().unwrap_or_default();
            format!("{}/{}", word("kind").to_lowercase(), word("name")).into()
        })
    }),
    column("Revision", "string", |o, _| o["revision"].clone()),
    AGE,
];

static JOBS: &[Column] = &[
    NAME,
    column("Status", "string", |o, _| job_status(o)),
    column("Completions", "string", |o, _| job_completions(o)),
    column("Duration", "string", job_duration),
    AGE,
    wide("Containers", |o, _| containers(o, "name")),
    wide("Images", |o, _| containers(o, "image")),
    wide("Selector", |o, _| selector(o)),
];

static CRON_JOBS: &[Column] = &[
    NAME,
    column("Schedule", "string", |o, _| at(o, "/spec/schedule").clone()),
    column("Timezone", "string", |o, _| or_none(o, "/spec/timeZone")),
    column("Suspend", "boolean", |o, _| {
        let suspended = at(o, "/spec/suspend").as_bool().unwrap_or(false);
        if suspended { "True" } else { "False" }.into()
    }),
    column("Active", "integer", |o, _| count(o, "/status/active").into()),
    column("Last Schedule", "string", |o, now| {
        since(at(o, "/status/lastScheduleTime"), now).unwrap_or_else(|| NONE.to_owned()).into()
    }),
    AGE,
];

static LEASES: &[Column] = &[
    NAME,
    column("Holder", "string", |o, _| text_at(o, "/spec/holderIdentity").unwrap_or_default().into()),
    AGE,
];

static STORAGE_CLASSES: &[Column] = &[
    column("Name", "string", |o, _| {
        let annotation = "storageclass.kubernetes.io/is-default-class";
        let name = o["metadata"]["name"].as_str().unwrap_or_default();
        let default = o["metadata"]["annotations"][annotation] == "true";
        if default { format!("{name} (default)").into() } else { name.into() }
    }),
    column("Provisioner", "string", |o, _| o["provisioner"].clone()),
    column("ReclaimPolicy", "string", |o, _| at(o, "/reclaimPolicy").as_str().unwrap_or("Delete").into()),
    column("VolumeBindingMode", "string", |o, _| {
        at(o, "/volumeBindingMode").as_str().unwrap_or("Immediate").into()
    }),
    column("AllowVolumeExpansion", "string", |o, _| {
        o["allowVolumeExpansion"].as_bool().unwrap_or(false).into()
    }),
    AGE,
];

static DEFINITIONS: &[Column] =
    &[NAME, column("Created At", "date", |o, _| at(o, "/metadata/creationTimestamp").clone())];

static ROLES: &[Column] =
    &[NAME, column("Created At", "date", |o, _| at(o, "/metadata/creationTimestamp").clone())];

static BINDINGS: &[Column] = &[
    NAME,
    column("Role", "string", |o, _| {
        let word = |name: &str| o["roleRef"][name].as_str().unwrap_or_default();
        format!("{}/{}", word("kind"), word("name")).into()
    }),
    AGE,
    wide("Users", |o, _| subjects(o, "User")),
    wide("Groups", |o, _| subjects(o, "Group")),
    wide("ServiceAccounts", |o, _| subjects(o, "ServiceAccount")),
];

static PRIORITIES: &[Column] = &[
    NAME,
    column("Value", "integer", |o, _| o["value"].clone()),
    column("Global-Default", "boolean", |o, _| o["globalDefault"].as_bool().unwrap_or(false).into()),
    AGE,
];

static REQUESTS: &[Column] = &[
    NAME,
    AGE,
    column("SignerName", "string", |o, _| or_none(o, "/spec/signerName")),
    column("Requestor", "string", |o, _| at(o, "/spec/username").clone()),
    column("Condition", "string", |o, _| {
        let mut words: Vec<&str> = items(o, "/status/conditions")
            .iter()
            .filter_map(|condition| condition["type"].as_str())
            .collect();
        if words.is_empty() {
            words.push("Pending");
        }
        if text_at(o, "/status/certificate").is_some() {
            words.push("Issued");
        }
        words.join(",").into()
    }),
];

static INGRESSES: &[Column] = &[
    NAME,
    column("Class", "string", |o, _| or_none(o, "/spec/ingressClassName")),
    column("Hosts", "string", |o, _| {
        let hosts: Vec<&str> =
            items(o, "/spec/rules").iter().filter_map(|rule| rule["host"].as_str()).collect();
        if hosts.is_empty() { "*".into() } else { hosts.join(",").into() }
    }),
    column("Address", "string", |o, _| {
        let addresses = items(o, "/status/loadBalancer/ingress").iter();
        let words: Vec<&str> =
            addresses.filter_map(|a| a["ip"].as_str().or(a["hostname"].as_str())).collect();
        words.join(",").into()
    }),
    column("Ports", "string", |o, _| if items(o, "/spec/tls").is_empty() { "80" } else { "80, 443" }.into()),
    AGE,
];

static POLICIES: &[Column] =
    &[NAME, column("Pod-Selector", "string", |o, _| labels(at(o, "/spec/podSelector/matchLabels"))), AGE];

static SERVICES_OF_API: &[Column] = &[
    NAME,
    column("Service", "string", |o, _| match text_at(o, "/spec/service/name") {
        Some(name) => format!("{}/{name}", text_at(o, "/spec/service/namespace").unwrap_or_default()).into(),
        None => "Local".into(),
    }),
    column("Available", "string", |o, _| {
        let condition = items(o, "/status/conditions").iter().find(|c| c["type"] == "Available");
        condition.map_or("Unknown".into(), |condition| condition["status"].clone())
    }),
    AGE,
];

// === cells that take more than a line ===

fn readiness_gates(pod: &Value) -> Value {
    let gates = items(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return NONE.into();
    }
    let conditions = items(pod, "/status/conditions");
    let holds = |gate: &&Value| {
        conditions.iter().any(|c| c["type"] == gate["conditionType"] && c["status"] == "True")
    };
    format!("{}/{}", gates.iter().filter(holds).count(), gates.len()).into()
}

fn node_status(node: &Value) -> Value {
    let ready = items(node, "/status/conditions").iter().find(|condition| condition["type"] == "Ready");
    let word = match ready.map(|condition| condition["status"] == "True") {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    };
    if at(node, "/spec/unschedulable") == true {
        format!("{word},SchedulingDisabled").into()
    } else {
        word.into()
    }
}

fn node_roles(node: &Value) -> Value {
    let labels = at(node, "/metadata/labels").as_object().into_iter().flatten();
    let roles = labels.filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) if !role.is_empty() => Some(role),
        _ if key == "kubernetes.io/role" => value.as_str().filter(|role| !role.is_empty()),
        _ => None,
    });
    let roles: std::collections::BTreeSet<&str> = roles.collect();
    joined(roles.into_iter())
}

fn node_address(node: &Value, kind: &str) -> Value {
    let address = items(node, "/status/addresses").iter().find(|address| address["type"] == kind);
    address.and_then(|address| address["address"].as_str()).unwrap_or(NONE).into()
}

fn external_ip(service: &Value) -> Value {
    let given = items(service, "/spec/externalIPs").iter().filter_map(Value::as_str);
    match text_at(service, "/spec/type") {
        Some("ExternalName") => text_at(service, "/spec/externalName").unwrap_or_default().into(),
        Some("LoadBalancer") => {
            let ingress = items(service, "/status/loadBalancer/ingress").iter();
            let balanced = ingress.filter_map(|i| i["ip"].as_str().or(i["hostname"].as_str()));
            let all: Vec<&str> = balanced.chain(given).collect();
            if all.is_empty() { "<pending>".into() } else { all.join(",").into() }
        }
        _ => joined(given),
    }
}

fn service_ports(service: &Value) -> Value {
    joined(items(service, "/spec/ports").iter().map(|port| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        match number(port, "/nodePort") {
            0 => format!("{}/{protocol}", port["port"]),
            node_port => format!("{}:{node_port}/{protocol}", port["port"]),
        }
    }))
}

fn endpoints(object: &Value) -> Value {
    let mut all = Vec::new();
    for subset in items(object, "/subsets") {
        for address in items(subset, "/addresses").iter().filter_map(|a| a["ip"].as_str()) {
            match items(subset, "/ports") {
                [] => all.push(address.to_owned()),
                ports => all.extend(ports.iter().map(|port| format!("{address}:{}", port["port"]))),
            }
        }
    }
    if all.is_empty() { NONE.into() } else { few(all) }
}

/// The first three, and how many more there are.
fn few(all: Vec<String>) -> Value {
    const SHOWN: usize = 3;
    let first: Vec<&str> = all.iter().take(SHOWN).map(String::as_str).collect();
    match all.len().saturating_sub(SHOWN) {
        0 => first.join(",").into(),
        more => format!("{} + {more} more...", first.join(",")).into(),
    }
}

fn access_modes(modes: &[Value]) -> Value {
    let short = modes.iter().filter_map(Value::as_str).map(|mode| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        other => other,
    });
    short.collect::<Vec<_>>().join(",").into()
}

fn phase_or_terminating(object: &Value) -> Value {
    if at(object, "/metadata/deletionTimestamp").is_null() {
        at(object, "/status/phase").clone()
    } else {
        "Terminating".into()
    }
}

fn containers(object: &Value, field: &str) -> Value {
    joined(items(object, "/spec/template/spec/containers").iter().filter_map(|c| c[field].as_str()))
}

fn selector(object: &Value) -> Value {
    let selector = at(object, "/spec/selector");
    labels(if selector["matchLabels"].is_object() { &selector["matchLabels"] } else { selector })
}

fn ready_of_wanted(object: &Value) -> Value {
    let wanted = at(object, "/spec/replicas").as_i64().unwrap_or(1);
    format!("{}/{wanted}", number(object, "/status/readyReplicas")).into()
}

fn job_status(job: &Value) -> Value {
    let has = |kind: &str| {
        items(job, "/status/conditions").iter().any(|c| c["type"] == kind && c["status"] == "True")
    };
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if !at(job, "/metadata/deletionTimestamp").is_null() => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
    .into()
}

fn job_completions(job: &Value) -> Value {
    let succeeded = number(job, "/status/succeeded");
    match (at(job, "/spec/completions").as_i64(), at(job, "/spec/parallelism").as_i64()) {
        (Some(completions), _) => format!("{succeeded}/{completions}").into(),
        (None, Some(parallelism)) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}").into(),
        (None, _) => format!("{succeeded}/1").into(),
    }
}

fn job_duration(job: &Value, now: Timestamp) -> Value {
    let end = text_at(job, "/status/completionTime").and_then(|end| end.parse().ok()).unwrap_or(now);
    since(at(job, "/status/startTime"), end).unwrap_or_default().into()
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let subjects = items(binding, "/subjects").iter().filter(|subject| subject["kind"] == kind);
    let names = subjects.map(|subject| match subject["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{}", subject["name"].as_str().unwrap_or_default()),
        None => subject["name"].as_str().unwrap_or_default().to_owned(),
    });
    names.collect::<Vec<_>>().join(", ").into()
}
