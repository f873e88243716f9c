//! The downward API: what a container may learn of its own pod, through the environment or a volume. Pure.

use super::quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

/// What only the node knows of the pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub node: String,
    pub host_ip: String,
    pub pod_ips: Vec<String>,
}

/// The value of a field path; `None` when there is no such field.
pub(super) fn value(pod: &Pod, place: &Place, path: &str) -> Option<String> {
    let meta = &pod.metadata;
    let entry = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
    if let Some(key) = entry("metadata.labels") {
        return Some(meta.labels.as_ref().and_then(|labels| labels.get(key)).cloned().unwrap_or_default());
    }
    if let Some(key) = entry("metadata.annotations") {
        return Some(meta.annotations.as_ref().and_then(|all| all.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "metadata.labels" => Some(lines(meta.labels.iter().flatten())),
        "metadata.annotations" => Some(lines(meta.annotations.iter().flatten())),
        "spec.nodeName" => Some(place.node.clone()),
        "spec.serviceAccountName" => {
            Some(spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default())
        }
        "status.hostIP" | "status.hostIPs" => Some(place.host_ip.clone()),
        "status.podIP" => Some(place.pod_ips.first().cloned().unwrap_or_default()),
        "status.podIPs" => Some(place.pod_ips.join(",")),
        _ => None,
    }
}

/// `key="value"` lines with Go's quoting, as the kubelet writes label files.
fn lines<'a>(entries: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    entries.map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
}

/// A limit or request in units of the divisor; an absent limit is what the machine has.
pub(super) fn resource(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => all.find(|container| container.name == name),
        None => own,
    }?;
    let (table, name) = selector.resource.split_once('.')?;
    let resources = container.resources.as_ref();
    let amount = |limits: bool| {
        let resources = resources?;
        let table = if limits { resources.limits.as_ref() } else { resources.requests.as_ref() };
        quantity::thousandths(&table?.get(name)?.0)
    };
    let amount = match table {
        "limits" => amount(true).or_else(|| machine(name))?,
        "requests" => amount(false).or_else(|| amount(true)).unwrap_or(0),
        _ => return None,
    };
    let divisor = selector.divisor.as_ref().and_then(|divisor| quantity::thousandths(&divisor.0));
    let divisor = divisor.filter(|divisor| *divisor > 0).unwrap_or(1000);
    Some((amount / divisor + i64::from(amount % divisor != 0)).to_string())
}

/// What the machine has of a resource, in thousandths.
fn machine(resource: &str) -> Option<i64> {
    match resource {
        "cpu" => i64::try_from(std::thread::available_parallelism().ok()?.get()).ok()?.checked_mul(1000),
        "memory" => {
            let table = std::fs::read_to_string("/proc/meminfo").ok()?;
            let line = table.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
            let kibibytes: i64 = line.split_whitespace().next()?.parse().ok()?;
            kibibytes.checked_mul(1024 * 1000)
        }
        _ => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "labels": {"a": "x\"y", "b": "2"}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}}}]},
        }))
        .unwrap()
    }

    #[test]
    fn fields_are_read_from_the_pod_and_its_place() {
        let place = Place { node: "n".into(), host_ip: "h".into(), pod_ips: vec!["1".into(), "2".into()] };
        let value = |path| value(&pod(), &place, path);
        assert_eq!(value("metadata.name").as_deref(), Some("p"));
        assert_eq!(value("metadata.labels['b']").as_deref(), Some("2"));
        assert_eq!(value("metadata.labels").as_deref(), Some("a=\"x\\\"y\"\nb=\"2\""));
        assert_eq!(value("status.podIPs").as_deref(), Some("1,2"));
        assert_eq!(value("spec.nodeName").as_deref(), Some("n"));
        assert_eq!(value("status.phase"), None);
    }

    #[test]
    fn resources_are_told_in_units_of_the_divisor() {
        let pod = pod();
        let own = pod.spec.as_ref().unwrap().containers.first();
        let told = |text: serde_json::Value| resource(&pod, own, &serde_json::from_value(text).unwrap());
        assert_eq!(told(json!({"resource": "limits.cpu"})).as_deref(), Some("1"));
        assert_eq!(told(json!({"resource": "limits.cpu", "divisor": "1m"})).as_deref(), Some("250"));
        assert_eq!(told(json!({"resource": "limits.memory", "divisor": "1Mi"})).as_deref(), Some("64"));
        assert_eq!(told(json!({"resource": "requests.cpu", "divisor": "1m"})).as_deref(), Some("250"));
        assert_eq!(told(json!({"resource": "nonsense"})), None);
    }
}
