//! Where a Service's pods are: EndpointSlices, and Endpoints for clients that know no slices.

use crate::daemon::apiserver::controllers::collections::{ENDPOINT_SLICES, ENDPOINTS, PODS, SERVICES};
use crate::daemon::apiserver::controllers::read::{
    deleting, finished, hash, key, label, list, name, namespace, number, owner_reference, ready, split, text,
    uid,
};
use crate::daemon::apiserver::controllers::runner::{Controller, Next, Seen, World};
use crate::daemon::apiserver::local::{Collection, Deletion};
use crate::daemon::apiserver::selector::LabelSelector;
use crate::model::Status;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const MANAGER_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.kubernetes.io";
const SLICE_SIZE: usize = 100;

/// Pods by the ports that the Service has on them; names of target ports resolve per pod.
fn by_ports(service: &Value, pods: &[Arc<Value>]) -> BTreeMap<String, (Vec<Value>, Vec<Arc<Value>>)> {
    let mut groups: BTreeMap<String, (Vec<Value>, Vec<Arc<Value>>)> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !text(&pod["status"]["podIP"]).is_empty() && !finished(pod)) {
        let ports: Vec<Value> =
            list(&service["spec"]["ports"]).iter().filter_map(|port| port_on(port, pod)).collect();
        let group = groups.entry(json!(ports).to_string()).or_insert_with(|| (ports, Vec::new()));
        group.1.push(pod.clone());
    }
    groups
}

fn port_on(port: &Value, pod: &Value) -> Option<Value> {
    let target = &port["targetPort"];
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    let resolved = match target.as_str() {
        None => target.as_i64().filter(|number| *number > 0).or_else(|| port["port"].as_i64()),
        Some(named) => list(&pod["spec"]["containers"])
            .iter()
            .flat_map(|container| list(&container["ports"]))
            .find(|p| p["name"] == named && p["protocol"].as_str().unwrap_or("TCP") == protocol)
            .map(|p| number(&p["containerPort"]))
            .or_else(|| named.parse().ok()),
    }?;
    let mut found = json!({"name": text(&port["name"]), "port": resolved, "protocol": protocol});
    if let Some(app) = port["appProtocol"].as_str() {
        found["appProtocol"] = json!(app);
    }
    Some(found)
}

fn target(pod: &Value) -> Value {
    json!({"kind": "Pod", "namespace": namespace(pod), "name": name(pod), "uid": uid(pod)})
}

fn hostname<'a>(service: &Value, pod: &'a Value) -> Option<&'a str> {
    let hostname = pod["spec"]["hostname"].as_str()?;
    (pod["spec"]["subdomain"] == name(service)).then_some(hostname)
}

fn endpoint(service: &Value, pod: &Value) -> Value {
    let serving = ready(pod) || service["spec"]["publishNotReadyAddresses"] == true;
    let leaving = deleting(pod);
    let mut endpoint = json!({"addresses": [pod["status"]["podIP"]], "targetRef": target(pod),
        "conditions": {"ready": serving && !leaving, "serving": serving, "terminating": leaving}});
    if let Some(node) = pod["spec"]["nodeName"].as_str() {
        endpoint["nodeName"] = json!(node);
    }
    if let Some(hostname) = hostname(service, pod) {
        endpoint["hostname"] = json!(hostname);
    }
    endpoint
}

/// The slices a Service should have, by name.
fn slices(service: &Value, pods: &[Arc<Value>]) -> BTreeMap<String, Value> {
    let mut groups = by_ports(service, pods);
    if groups.is_empty() {
        groups.insert(String::new(), (Vec::new(), Vec::new()));
    }
    let mut labels = service["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    labels.insert(SERVICE_LABEL.to_owned(), json!(name(service)));
    labels.insert(MANAGER_LABEL.to_owned(), json!(MANAGER));
    if service["spec"]["clusterIP"] == "None" {
        labels.insert("service.kubernetes.io/headless".to_owned(), json!(""));
    }
    let mut found = BTreeMap::new();
    for (ports, pods) in groups.into_values() {
        let parts: Vec<&[Arc<Value>]> =
            if pods.is_empty() { vec![&[]] } else { pods.chunks(SLICE_SIZE).collect() };
        for (index, part) in parts.into_iter().enumerate() {
            // The name tells the ports only, so that a slice keeps its name while pods come and go.
            let suffix = hash(&json!([ports, index]), 0);
            let slice_name = format!("{}-{suffix}", name(service));
            let endpoints: Vec<Value> = part.iter().map(|pod| endpoint(service, pod)).collect();
            let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "endpoints": endpoints, "ports": ports, "metadata": {"name": slice_name, "labels": labels,
                    "namespace": namespace(service), "ownerReferences": [owner_reference(service, "v1", "Service")]}});
            found.insert(slice_name, slice);
        }
    }
    found
}

/// The subsets of the Endpoints object.
fn subsets(service: &Value, pods: &[Arc<Value>]) -> Value {
    let mut subsets = Vec::new();
    for (ports, pods) in by_ports(service, pods).into_values() {
        let mut subset = Map::new();
        let (mut yes, mut no) = (Vec::new(), Vec::new());
        for pod in pods.iter().filter(|pod| !deleting(pod)) {
            let mut address = json!({"ip": pod["status"]["podIP"], "targetRef": target(pod)});
            if let Some(node) = pod["spec"]["nodeName"].as_str() {
                address["nodeName"] = json!(node);
            }
            if let Some(hostname) = hostname(service, pod) {
                address["hostname"] = json!(hostname);
            }
            let serving = ready(pod) || service["spec"]["publishNotReadyAddresses"] == true;
            if serving { yes.push(address) } else { no.push(address) }
        }
        for (field, addresses) in [("addresses", yes), ("notReadyAddresses", no), ("ports", ports)] {
            if !addresses.is_empty() {
                subset.insert(field.to_owned(), Value::Array(addresses));
            }
        }
        if subset.contains_key("addresses") || subset.contains_key("notReadyAddresses") {
            subsets.push(Value::Object(subset));
        }
    }
    if subsets.is_empty() { Value::Null } else { Value::Array(subsets) }
}

pub(in crate::daemon::apiserver::controllers) struct Endpoints(
    pub(in crate::daemon::apiserver::controllers) World,
);

impl Controller for Endpoints {
    fn name(&self) -> &'static str {
        "endpoints"
    }

    fn follows(&self) -> Vec<Collection> {
        vec![SERVICES, PODS]
    }

    async fn keys(&self, seen: &Seen) -> Vec<String> {
        if seen.collection == SERVICES {
            return vec![key(&seen.object)];
        }
        // All Services of the namespace: the pod may have left one by a change of its labels.
        let space = Some(namespace(&seen.object));
        let Ok((services, _)) = self.0.local.list(&SERVICES, space).await else { return Vec::new() };
        services.iter().filter(|service| selects(service)).map(|service| key(service)).collect()
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Status> {
        let local = &self.0.local;
        let (space, service_name) = split(key);
        let service = match local.get(&SERVICES, Some(space), service_name).await {
            Ok(service) => service,
            Err(error) if error.is_not_found() => {
                self.forget(&ENDPOINTS, space, service_name).await?;
                return Ok(Next::Done);
            }
            Err(error) => return Err(error),
        };
        if !selects(&service) || deleting(&service) {
            return Ok(Next::Done);
        }
        let selector = LabelSelector::from_map(&service["spec"]["selector"])?;
        let (pods, _) = local.list(&PODS, Some(space)).await?;
        let mut pods: Vec<Arc<Value>> = pods.into_iter().filter(|pod| selector.matches(pod)).collect();
        pods.sort_by_cached_key(|pod| text(&pod["status"]["podIP"]).to_owned());
        self.write_slices(&service, slices(&service, &pods)).await?;
        self.write_endpoints(&service, subsets(&service, &pods)).await?;
        Ok(Next::Done)
    }
}

fn selects(service: &Value) -> bool {
    service["spec"]["selector"].as_object().is_some_and(|selector| !selector.is_empty())
        && service["spec"]["type"] != "ExternalName"
}

impl Endpoints {
    async fn write_slices(&self, service: &Value, mut wanted: BTreeMap<String, Value>) -> Result<(), Status> {
        let local = &self.0.local;
        let space = namespace(service);
        for slice in local.list(&ENDPOINT_SLICES, Some(space)).await?.0 {
            if label(&slice, SERVICE_LABEL) != name(service) || label(&slice, MANAGER_LABEL) != MANAGER {
                continue;
            }
            let Some(new) = wanted.remove(name(&slice)) else {
                self.forget(&ENDPOINT_SLICES, space, name(&slice)).await?;
                continue;
            };
            let same = |path: &str| slice.pointer(path) == new.pointer(path);
            if ["/endpoints", "/ports", "/metadata/labels", "/metadata/ownerReferences"].into_iter().all(same)
            {
                continue;
            }
            let mut slice = Value::clone(&slice);
            for field in ["endpoints", "ports"] {
                slice[field] = new[field].clone();
            }
            for field in ["labels", "ownerReferences"] {
                slice["metadata"][field] = new["metadata"][field].clone();
            }
            local.update(&ENDPOINT_SLICES, slice).await?;
        }
        for slice in wanted.into_values() {
            local.create(&ENDPOINT_SLICES, slice).await?;
        }
        Ok(())
    }

    async fn write_endpoints(&self, service: &Value, subsets: Value) -> Result<(), Status> {
        let local = &self.0.local;
        let (space, service_name) = (namespace(service), name(service));
        match local.get(&ENDPOINTS, Some(space), service_name).await {
            Ok(old) if old["subsets"] == subsets => Ok(()),
            Ok(old) => {
                let mut new = Value::clone(&old);
                if let Some(map) = new.as_object_mut() {
                    map.insert("subsets".to_owned(), subsets);
                    map.retain(|_, value| !value.is_null());
                }
                local.update(&ENDPOINTS, new).await.map(drop)
            }
            Err(error) if error.is_not_found() => {
                let mut labels = service["metadata"]["labels"].as_object().cloned().unwrap_or_default();
                labels.insert("endpoints.kubernetes.io/managed-by".to_owned(), json!("endpoint-controller"));
                let mut new = json!({"apiVersion": "v1", "kind": "Endpoints",
                    "metadata": {"name": service_name, "namespace": space, "labels": labels}});
                if !subsets.is_null() {
                    new["subsets"] = subsets;
                }
                local.create(&ENDPOINTS, new).await.map(drop)
            }
            Err(error) => Err(error),
        }
    }

    async fn forget(&self, collection: &Collection, space: &str, name: &str) -> Result<(), Status> {
        match self.0.local.delete(collection, Some(space), name, Deletion::default()).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(target: Value) -> Value {
        json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"selector": {"a": "1"},
            "ports": [{"name": "web", "port": 80, "targetPort": target, "protocol": "TCP"}]}})
    }

    fn pod(ip: &str, port: i64, is_ready: bool) -> Arc<Value> {
        Arc::new(json!({"metadata": {"name": ip, "namespace": "n"}, "spec": {"nodeName": "e", "containers": [
            {"ports": [{"name": "http", "containerPort": port}]}]}, "status": {"podIP": ip, "conditions": [
            {"type": "Ready", "status": if is_ready { "True" } else { "False" }}]}}))
    }

    #[test]
    fn ready_pods_are_told_from_others() {
        let pods = [pod("10.0.0.1", 8080, true), pod("10.0.0.2", 8080, false), pod("", 8080, false)];
        let found = slices(&service(json!(8080)), &pods);
        assert_eq!(found.len(), 1);
        let slice = found.values().next().unwrap();
        assert_eq!(slice["endpoints"].as_array().unwrap().len(), 2);
        assert_eq!(slice["endpoints"][1]["conditions"]["ready"], false);
        assert_eq!(slice["ports"][0], json!({"name": "web", "port": 8080, "protocol": "TCP"}));
        let subsets = subsets(&service(json!(8080)), &pods);
        assert_eq!(subsets[0]["addresses"][0]["ip"], "10.0.0.1");
        assert_eq!(subsets[0]["notReadyAddresses"][0]["ip"], "10.0.0.2");
    }

    #[test]
    fn named_ports_resolve_per_pod() {
        let pods = [pod("10.0.0.1", 8080, true), pod("10.0.0.2", 9090, true)];
        let found = slices(&service(json!("http")), &pods);
        let mut ports: Vec<i64> = found.values().map(|slice| number(&slice["ports"][0]["port"])).collect();
        ports.sort_unstable();
        assert_eq!(ports, [8080, 9090]);
    }

    #[test]
    fn a_slice_keeps_its_name_while_pods_come_and_go() {
        let names = |pods: &[Arc<Value>]| slices(&service(json!(80)), pods).into_keys().collect::<Vec<_>>();
        assert_eq!(
            names(&[pod("10.0.0.1", 1, true)]),
            names(&[pod("10.0.0.2", 1, true), pod("10.0.0.3", 1, false)])
        );
    }
}
