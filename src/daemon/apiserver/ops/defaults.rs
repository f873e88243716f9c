//! Values that upstream fills in and that clients, controllers and nodes therefore find. Pure.

use crate::daemon::apiserver::catalog::Resource;
use serde_json::{Map, Value, json};

fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if !object.is_object() {
        return;
    }
    if object[field].is_null() {
        object[field] = value.into();
    }
}

/// Makes sure that a field holds an object, unless it holds something else already.
fn section<'a>(object: &'a mut Value, field: &str) -> &'a mut Value {
    set(object, field, Value::Object(Map::new()));
    &mut object[field]
}

/// Null means absent to Kubernetes; reading by index leaves some behind.
fn drop_nulls(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}

fn items<'a>(object: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten().filter(|v| v.is_object())
}

/// Status and bookkeeping that a new object begins with.
pub(super) fn on_create(resource: &Resource, object: &mut Value) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => {
            let class = quality(&object["spec"]);
            object["status"] = json!({"phase": "Pending", "qosClass": class});
        }
        ("", "namespaces") => {
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"] = json!({"phase": "Active"});
        }
        ("", "services") => object["status"] = json!({"loadBalancer": {}}),
        ("", "persistentvolumeclaims" | "persistentvolumes") => {
            object["status"] = json!({"phase": "Pending"})
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => establish(object),
        _ => {}
    }
}

pub(super) fn on_update(resource: &Resource, old: &Value, object: &mut Value) {
    if resource.group == "apiextensions.k8s.io" && old["spec"] != object["spec"] {
        establish(object);
    }
}

/// A definition is served at once, so its conditions are true from the start.
fn establish(definition: &mut Value) {
    let at = definition["metadata"]["creationTimestamp"].clone();
    let storage =
        definition["spec"]["versions"].as_array().into_iter().flatten().find(|v| v["storage"] == true);
    let storage = storage.map_or(Value::Null, |v| v["name"].clone());
    let mut stored = definition["status"]["storedVersions"].as_array().cloned().unwrap_or_default();
    if !stored.contains(&storage) {
        stored.push(storage);
    }
    definition["status"] = json!({
        "acceptedNames": definition["spec"]["names"],
        "storedVersions": stored,
        "conditions": [
            {"type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": "no conflicts found",
             "lastTransitionTime": at},
            {"type": "Established", "status": "True", "reason": "InitialNamesAccepted",
             "message": "the initial names have been accepted", "lastTransitionTime": at}]});
}

pub(super) fn complete(resource: &Resource, object: &mut Value) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => {
            pod_spec(section(object, "spec"));
            set(&mut object["spec"], "enableServiceLinks", true);
            default_tolerations(&mut object["spec"]);
        }
        ("", "services") => service(section(object, "spec")),
        ("", "secrets") => secret(object),
        ("", "namespaces") => {
            section(object, "spec");
            let name = object["metadata"]["name"].clone();
            section(&mut object["metadata"], "labels")["kubernetes.io/metadata.name"] = name;
        }
        ("", "replicationcontrollers") => template(section(object, "spec")),
        ("apps", "deployments") => deployment(section(object, "spec")),
        ("apps", "replicasets") => {
            set(section(object, "spec"), "replicas", 1);
            template(&mut object["spec"]);
        }
        ("apps", "statefulsets") => stateful_set(section(object, "spec")),
        ("apps", "daemonsets") => daemon_set(section(object, "spec")),
        ("batch", "jobs") => job(object),
        ("batch", "cronjobs") => {
            let spec = section(object, "spec");
            set(spec, "concurrencyPolicy", "Allow");
            set(spec, "suspend", false);
            set(spec, "successfulJobsHistoryLimit", 3);
            set(spec, "failedJobsHistoryLimit", 1);
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => definition(section(object, "spec")),
        ("storage.k8s.io", "storageclasses") => {
            set(object, "reclaimPolicy", "Delete");
            set(object, "volumeBindingMode", "Immediate");
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => binding(object),
        _ => {}
    }
}

fn binding(object: &mut Value) {
    set(section(object, "roleRef"), "apiGroup", "rbac.authorization.k8s.io");
    for subject in items(object, "subjects") {
        if subject["kind"] != "ServiceAccount" {
            set(subject, "apiGroup", "rbac.authorization.k8s.io");
        }
    }
}

fn definition(spec: &mut Value) {
    set(spec, "conversion", json!({"strategy": "None"}));
    let kind = spec["names"]["kind"].as_str().unwrap_or("").to_owned();
    let names = section(spec, "names");
    set(names, "singular", kind.to_lowercase());
    set(names, "listKind", format!("{kind}List"));
}

fn secret(object: &mut Value) {
    set(object, "type", "Opaque");
    let Some(plain) = object.as_object_mut().and_then(|fields| fields.remove("stringData")) else { return };
    use base64::Engine;
    let data = section(object, "data");
    for (key, value) in plain.as_object().into_iter().flatten() {
        if let Some(text) = value.as_str() {
            data[key] = base64::engine::general_purpose::STANDARD.encode(text).into();
        }
    }
}

fn service(spec: &mut Value) {
    set(spec, "type", "ClusterIP");
    set(spec, "sessionAffinity", "None");
    let external = spec["type"] == "ExternalName";
    if !external {
        set(spec, "internalTrafficPolicy", "Cluster");
        set(spec, "ipFamilies", json!(["IPv4"]));
        set(spec, "ipFamilyPolicy", "SingleStack");
    }
    if matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer")) {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    for port in items(spec, "ports") {
        set(port, "protocol", "TCP");
        let number = port["port"].clone();
        set(port, "targetPort", number);
    }
}

fn deployment(spec: &mut Value) {
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "progressDeadlineSeconds", 600);
    let strategy = section(spec, "strategy");
    set(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = section(strategy, "rollingUpdate");
        set(rolling, "maxUnavailable", "25%");
        set(rolling, "maxSurge", "25%");
    }
    template(spec);
}

fn stateful_set(spec: &mut Value) {
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "podManagementPolicy", "OrderedReady");
    let strategy = section(spec, "updateStrategy");
    set(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        set(section(strategy, "rollingUpdate"), "partition", 0);
    }
    template(spec);
}

fn daemon_set(spec: &mut Value) {
    set(spec, "revisionHistoryLimit", 10);
    let strategy = section(spec, "updateStrategy");
    set(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = section(strategy, "rollingUpdate");
        set(rolling, "maxUnavailable", 1);
        set(rolling, "maxSurge", 0);
    }
    template(spec);
}

/// A Job without a selector gets one on its own uid, and the labels that make its pods match.
fn job(object: &mut Value) {
    let uid = object["metadata"]["uid"].as_str().unwrap_or("").to_owned();
    let name = object["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let spec = section(object, "spec");
    set(spec, "backoffLimit", 6);
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    set(spec, "manualSelector", false);
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    if spec["manualSelector"] != true && !uid.is_empty() && spec["selector"].is_null() {
        spec["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
        let labels = section(section(section(spec, "template"), "metadata"), "labels");
        for (key, value) in [
            ("batch.kubernetes.io/controller-uid", &uid),
            ("batch.kubernetes.io/job-name", &name),
            ("controller-uid", &uid),
            ("job-name", &name),
        ] {
            set(labels, key, value.as_str());
        }
    }
    if spec["manualSelector"] == false
        && let Some(fields) = spec.as_object_mut()
    {
        fields.remove("manualSelector");
    }
    template(spec);
}

fn template(spec: &mut Value) {
    let template = section(spec, "template");
    section(template, "metadata");
    pod_spec(section(template, "spec"));
}

fn pod_spec(spec: &mut Value) {
    set(spec, "restartPolicy", "Always");
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "schedulerName", "default-scheduler");
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "securityContext", json!({}));
    let host = spec["hostNetwork"] == true;
    for list in ["initContainers", "containers"] {
        for container in items(spec, list) {
            complete_container(container, host);
        }
    }
    for volume in items(spec, "volumes") {
        for (kind, mode) in [("configMap", 420), ("secret", 420), ("projected", 420), ("downwardAPI", 420)] {
            if volume[kind].is_object() {
                set(&mut volume[kind], "defaultMode", mode);
            }
        }
        if volume["hostPath"].is_object() {
            set(&mut volume["hostPath"], "type", "");
        }
        let bare =
            volume.as_object().is_some_and(|fields| fields.iter().filter(|(_, v)| !v.is_null()).count() == 1);
        if bare {
            volume["emptyDir"] = json!({});
        }
        for source in items(&mut volume["projected"], "sources") {
            if source["serviceAccountToken"].is_object() {
                set(&mut source["serviceAccountToken"], "expirationSeconds", 3600);
            }
        }
        drop_nulls(volume);
    }
    drop_nulls(spec);
}

fn complete_container(container: &mut Value, host: bool) {
    let image = container["image"].as_str().unwrap_or("").to_owned();
    let tail = image.rsplit('/').next().unwrap_or("");
    let latest = !image.contains('@') && (!tail.contains(':') || tail.ends_with(":latest"));
    set(container, "imagePullPolicy", if latest { "Always" } else { "IfNotPresent" });
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    set(container, "resources", json!({}));
    for port in items(container, "ports") {
        set(port, "protocol", "TCP");
        if host {
            let number = port["containerPort"].clone();
            set(port, "hostPort", number);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container[probe].is_object() {
            complete_probe(&mut container[probe]);
        }
    }
    for variable in items(container, "env") {
        if variable["valueFrom"]["fieldRef"].is_object() {
            set(&mut variable["valueFrom"]["fieldRef"], "apiVersion", "v1");
        }
        drop_nulls(variable);
    }
    let resources = &mut container["resources"];
    if let Some(limits) = resources["limits"].as_object().cloned() {
        let requests = section(resources, "requests");
        for (key, value) in limits {
            set(requests, &key, value);
        }
    }
    drop_nulls(resources);
    drop_nulls(container);
}

fn complete_probe(probe: &mut Value) {
    set(probe, "timeoutSeconds", 1);
    set(probe, "periodSeconds", 10);
    set(probe, "successThreshold", 1);
    set(probe, "failureThreshold", 3);
    if probe["httpGet"].is_object() {
        set(&mut probe["httpGet"], "scheme", "HTTP");
        set(&mut probe["httpGet"], "path", "/");
    }
    drop_nulls(probe);
}

/// A pod leaves a node that is not ready or not reachable after five minutes, unless it says otherwise.
fn default_tolerations(spec: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerates = |t: &Value| {
            (t["key"] == key || t["key"].as_str().is_none_or(str::is_empty) && t["operator"] == "Exists")
                && matches!(t["effect"].as_str(), None | Some("" | "NoExecute"))
        };
        let list = spec["tolerations"].as_array();
        if list.is_some_and(|list| list.iter().any(tolerates)) {
            continue;
        }
        let toleration =
            json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        match spec["tolerations"].as_array_mut() {
            Some(list) => list.push(toleration),
            None => spec["tolerations"] = json!([toleration]),
        }
    }
}

fn quality(spec: &Value) -> &'static str {
    let (mut any, mut all) = (false, true);
    let containers = spec["containers"].as_array().into_iter().flatten();
    for container in containers.chain(spec["initContainers"].as_array().into_iter().flatten()) {
        let resources = &container["resources"];
        for name in ["cpu", "memory"] {
            let (request, limit) = (&resources["requests"][name], &resources["limits"][name]);
            any |= !request.is_null() || !limit.is_null();
            all &= !limit.is_null() && request == limit;
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::apiserver::catalog::Kinds;

    #[test]
    fn a_pod_gets_upstreams_defaults() {
        let kinds = Kinds::default();
        let pods = kinds.find("", "v1", "pods").unwrap();
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "nginx:1.25",
            "readinessProbe": {"httpGet": {"port": 80}}}], "volumes": [{"name": "v"}]}});
        complete(&pods, &mut pod);
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        assert_eq!(container["readinessProbe"]["periodSeconds"], 10);
        assert_eq!(pod["spec"]["volumes"][0], json!({"name": "v", "emptyDir": {}}));
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 2);
        let again = pod.clone();
        complete(&pods, &mut pod);
        assert_eq!(pod, again);
    }
}
