//! What a new cluster begins with: namespaces, access rules, the Service of the API itself. Missing objects are made
//! at each start; present ones are left as people changed them.

use super::auth::rbac;
use super::local::{Collection, Local};
use super::ops::ServiceNetwork;
use crate::base::Failure;
use crate::model::Status;
use serde_json::{Value, json};
use std::net::SocketAddr;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

async fn ensure(local: &Local, collection: &Collection, object: Value) -> Result<(), Status> {
    let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
    let (namespace, name) = (text("namespace"), text("name").unwrap_or_default());
    if local.exists(collection, namespace.as_deref(), &name) {
        return Ok(());
    }
    match local.create(collection, object).await {
        Err(status) if !status.already_exists() => Err(status),
        _ => Ok(()),
    }
}

/// Makes what is missing.
pub(super) async fn run(
    local: &Local,
    network: ServiceNetwork,
    address: SocketAddr,
    ca_pem: &str,
) -> Result<(), Failure> {
    let made = async {
        for name in NAMESPACES {
            ensure(local, &Collection::of("", "namespaces"), json!({"metadata": {"name": name}})).await?;
        }
        for (plural, object) in rbac::bootstrap() {
            ensure(local, &Collection::of("rbac.authorization.k8s.io", plural), object).await?;
        }
        for (name, value) in
            [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)]
        {
            let class = json!({"metadata": {"name": name}, "value": value,
                "preemptionPolicy": "PreemptLowerPriority"});
            ensure(local, &Collection::of("scheduling.k8s.io", "priorityclasses"), class).await?;
        }
        // Servers that users reach through the API learn here whose certificates to accept.
        let authentication = json!({"metadata": {"name": "extension-apiserver-authentication",
            "namespace": "kube-system"}, "data": {"client-ca-file": ca_pem}});
        ensure(local, &Collection::of("", "configmaps"), authentication).await?;
        own_service(local, network, address).await
    };
    made.await.map_err(|status| {
        Failure::new("KE-API-006", "the API cannot make the objects that every cluster has")
            .because(status)
            .fix("free space on the disk of api.db, or mend what else keeps it from being written, then start again")
    })
}

/// `default/kubernetes`, whose endpoints follow the address that is served now.
async fn own_service(local: &Local, network: ServiceNetwork, address: SocketAddr) -> Result<(), Status> {
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({"metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {"clusterIP": network.first().to_string(), "ports":
            [{"name": "https", "port": 443, "targetPort": address.port(), "protocol": "TCP"}]}});
    ensure(local, &Collection::of("", "services"), service).await?;
    let (ip, port) = (address.ip().to_string(), address.port());
    let labels = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    let endpoints = json!({"metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "subsets": [{"addresses": [{"ip": ip}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]});
    follow(local, &Collection::of("", "endpoints"), endpoints).await?;
    let labels = json!({"kubernetes.io/service-name": "kubernetes"});
    let slice = json!({"metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}]});
    follow(local, &Collection::of("discovery.k8s.io", "endpointslices"), slice).await
}

async fn follow(local: &Local, collection: &Collection, object: Value) -> Result<(), Status> {
    if local.exists(collection, Some("default"), "kubernetes") {
        local.merge_patch(collection, Some("default"), "kubernetes", None, object).await.map(|_| ())
    } else {
        ensure(local, collection, object).await
    }
}
