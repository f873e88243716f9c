//! Addresses and node ports of Services, taken from what the present Services leave free.

use crate::base::random_bytes;
use crate::daemon::apiserver::catalog::Resource;
use crate::daemon::apiserver::errors::{self, Cause};
use crate::daemon::apiserver::local::Collection;
use crate::daemon::apiserver::storage::Txn;
use crate::model::Status;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::Ipv4Addr;

const SERVICES: Collection = Collection::of("", "services");
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

/// The IPv4 range of cluster addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceNetwork {
    base: u32,
    size: u32,
}

impl ServiceNetwork {
    /// Reads `10.96.0.0/16`; the prefix has 8 to 28 bits.
    pub fn parse(text: &str) -> Option<ServiceNetwork> {
        let (address, bits) = text.split_once('/')?;
        let (address, bits): (Ipv4Addr, u32) = (address.parse().ok()?, bits.parse().ok()?);
        let size = (8..=28).contains(&bits).then(|| 1u32 << (32 - bits))?;
        Some(ServiceNetwork { base: u32::from(address) & !(size - 1), size })
    }

    /// The address of the API itself.
    pub fn first(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        let at = u32::from(address);
        at > self.base && at < self.base + self.size - 1
    }

    fn free(self, taken: &HashSet<String>) -> Option<Ipv4Addr> {
        let span = self.size - 2;
        let start = u32::from_le_bytes(random_bytes()) % span;
        // The first sixteen stay free for addresses that people choose.
        let reserved = 16.min(span / 2);
        (0..span)
            .map(|step| Ipv4Addr::from(self.base + 1 + (start + step) % span))
            .filter(|ip| u32::from(*ip) > self.base + reserved)
            .find(|ip| !taken.contains(&ip.to_string()))
    }
}

fn refusal(resource: &Resource, service: &Value, cause: Cause) -> Status {
    errors::invalid(resource, service["metadata"]["name"].as_str().unwrap_or(""), &[cause])
}

/// Completes a new or changed Service with cluster address and node ports.
pub(super) fn allocate(
    txn: &Txn<'_>,
    resource: &Resource,
    old: Option<&Value>,
    service: &mut Value,
    network: ServiceNetwork,
) -> Result<(), Status> {
    let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
    if kind == "ExternalName" {
        if let Some(spec) = service["spec"].as_object_mut() {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        return Ok(());
    }
    keep_addresses(old, service);
    let uid = service["metadata"]["uid"].clone();
    let others: Vec<_> =
        txn.list(&SERVICES, None).into_iter().filter(|s| s["metadata"]["uid"] != uid).collect();
    let wanted = service["spec"]["clusterIP"].as_str().unwrap_or("").to_owned();
    if wanted != "None" {
        let taken: HashSet<String> =
            others.iter().filter_map(|s| s["spec"]["clusterIP"].as_str().map(str::to_owned)).collect();
        let address = if wanted.is_empty() {
            network.free(&taken).ok_or_else(|| {
                let cause =
                    Cause::invalid("spec.clusterIPs", &json!([]), "the range of cluster addresses is full");
                refusal(resource, service, cause)
            })?
        } else {
            check_address(resource, service, &wanted, &taken, network)?
        };
        service["spec"]["clusterIP"] = json!(address.to_string());
        service["spec"]["clusterIPs"] = json!([address.to_string()]);
    } else {
        service["spec"]["clusterIPs"] = json!(["None"]);
    }
    if kind == "NodePort" || kind == "LoadBalancer" {
        node_ports(resource, service, &others)?;
    } else {
        for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
            port.as_object_mut().map(|port| port.remove("nodePort"));
        }
    }
    Ok(())
}

fn keep_addresses(old: Option<&Value>, service: &mut Value) {
    let Some(old) = old else { return };
    if service["spec"]["clusterIP"].as_str().is_none_or(str::is_empty)
        && let Some(address) = old["spec"]["clusterIP"].as_str()
    {
        service["spec"]["clusterIP"] = json!(address);
    }
    let known = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
        let same = |o: &&Value| o["port"] == port["port"] && o["protocol"] == port["protocol"];
        if port["nodePort"].is_null()
            && let Some(number) = known.iter().find(same).and_then(|o| o["nodePort"].as_u64())
        {
            port["nodePort"] = json!(number);
        }
    }
}

fn check_address(
    resource: &Resource,
    service: &Value,
    wanted: &str,
    taken: &HashSet<String>,
    network: ServiceNetwork,
) -> Result<Ipv4Addr, Status> {
    let refuse = |message: &str| {
        let cause = Cause::invalid("spec.clusterIPs", &json!([wanted]), message);
        refusal(resource, service, cause)
    };
    let address: Ipv4Addr = wanted.parse().map_err(|_| refuse("must be a valid IPv4 address"))?;
    if !network.contains(address) {
        return Err(refuse(
            "failed to allocate IP: the provided IP is not in the range of cluster addresses",
        ));
    }
    if taken.contains(wanted) {
        return Err(refuse("failed to allocate IP: provided IP is already allocated"));
    }
    Ok(address)
}

fn node_ports(
    resource: &Resource,
    service: &mut Value,
    others: &[std::sync::Arc<Value>],
) -> Result<(), Status> {
    let ports = |s: &Value| -> Vec<u64> {
        let list = s["spec"]["ports"].as_array();
        list.into_iter().flatten().filter_map(|p| p["nodePort"].as_u64()).collect()
    };
    let mut taken: HashSet<u64> = others.iter().flat_map(|s| ports(s)).collect();
    if let Some(clash) = ports(service).into_iter().find(|port| taken.contains(port)) {
        let cause =
            Cause::invalid("spec.ports[0].nodePort", &json!(clash), "provided port is already allocated");
        return Err(refusal(resource, service, cause));
    }
    taken.extend(ports(service));
    let first = u16::from_le_bytes(random_bytes()) % 2768;
    let mut candidates = NODE_PORTS.skip(usize::from(first)).chain(NODE_PORTS).map(u64::from);
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
        if port["nodePort"].as_u64().unwrap_or(0) == 0
            && let Some(number) = candidates.find(|number| taken.insert(*number))
        {
            port["nodePort"] = json!(number);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_gives_addresses_inside_itself() {
        let network = ServiceNetwork::parse("10.96.0.0/16").unwrap();
        assert_eq!(network.first(), Ipv4Addr::new(10, 96, 0, 1));
        for _ in 0..100 {
            assert!(network.contains(network.free(&HashSet::new()).unwrap()));
        }
        for bad in ["10.96.0.0", "10.96.0.0/33", "10.96.0.0/2", "x/16", "fd00::/112"] {
            assert_eq!(ServiceNetwork::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_full_network_gives_nothing() {
        let network = ServiceNetwork::parse("10.0.0.0/28").unwrap();
        let taken = (0..16).map(|n| format!("10.0.0.{n}")).collect();
        assert_eq!(network.free(&taken), None);
    }
}
