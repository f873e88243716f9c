//! What `kedge status` shows of a running edge: link, modules, pods, devices, queue, certificate, store. Never a secret.

use super::mqtt::Broker;
use super::node::{KUBELET_VERSION, NodeHandle};
use super::pod::PodHandle;
use super::stream::Observed;
use super::uplink::Uplink;
use crate::base::{SupervisorHandle, now_ms, read_limited, recent_problems};
use crate::daemon::status::Facts;
use crate::pki;
use crate::store::{Store, rescued};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Where the facts come from; all of it is read when somebody asks.
pub(super) struct Sources {
    pub name: String,
    /// Addresses of the cloud's hub and certificate service.
    pub cloud: (String, String),
    pub certificate: PathBuf,
    pub store: Store,
    pub uplink: Uplink,
    pub broker: Broker,
    pub node: NodeHandle,
    /// Name and version of the container runtime, empty until it has answered; `None` when this node runs no pods.
    pub runtime: Option<watch::Receiver<String>>,
    /// `None` when this node runs no pods.
    pub pods: Option<PodHandle>,
    /// `None` when logs and sessions are switched off.
    pub tunnel: Option<Observed>,
    pub modules: SupervisorHandle,
}

pub(super) fn of(sources: Sources) -> Facts {
    let sources = Arc::new(sources);
    Arc::new(move || {
        let sources = sources.clone();
        Box::pin(async move { collect(&sources).await })
    })
}

async fn collect(from: &Sources) -> Value {
    let node = from.node.borrow().clone();
    let stats = from.broker.stats();
    let runtime = from.runtime.as_ref().map(|version| version.borrow().clone()).unwrap_or_default();
    json!({
        "apiVersion": "kedge.io/v1",
        "kind": "EdgeStatus",
        "role": "edge",
        "version": env!("CARGO_PKG_VERSION"),
        "kubeletVersion": KUBELET_VERSION,
        "node": {"name": from.name, "registered": node.registered, "ready": node.ready, "reason": node.reason,
            "confirmed": node.confirmed},
        "runtime": {"state": node.runtime, "version": runtime},
        "cloudAddresses": {"hub": from.cloud.0, "https": from.cloud.1},
        "link": link(&from.uplink),
        "tunnel": from.tunnel.as_ref().map(Observed::now),
        "recentProblems": recent_problems(),
        "modules": from.modules.modules(),
        "pods": from.pods.as_ref().map(PodHandle::summaries).unwrap_or_default(),
        "devices": devices(&from.store).await,
        "mqtt": {"connections": stats.connections, "received": stats.received, "dropped": stats.dropped},
        "queueDepth": from.store.states("device-outbox").await.map_or(0, |waiting| waiting.len()),
        "certificate": certificate(from.certificate.clone()).await,
        "store": store(&from.store),
    })
}

/// Between kedge and any cloud there is one protocol at present.
fn link(uplink: &Uplink) -> Value {
    let mut shown = json!(*uplink.info().borrow());
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("protocol".to_owned(), json!("websocket"));
    }
    shown
}

fn store(store: &Store) -> Value {
    let mut shown = json!({"path": store.path().display().to_string(), "bytes": store.size()});
    if let Some(rescue) = rescued(store.path()) {
        shown["rescue"] = json!(rescue);
    }
    if let Some(failure) = store.trouble() {
        shown["code"] = json!(failure.code);
        shown["error"] = json!(failure.to_string());
        shown["fix"] = json!(failure.fix);
    }
    shown
}

async fn devices(store: &Store) -> Vec<Value> {
    let devices = store.devices().await.unwrap_or_default();
    let shown = |device: &crate::store::DeviceRow| {
        json!({"namespace": device.id.namespace, "name": device.id.name, "state": device.state,
            "lastOnline": device.last_online})
    };
    devices.iter().map(shown).collect()
}

async fn certificate(path: PathBuf) -> Value {
    const LIMIT: u64 = 64 << 10;
    let read = tokio::task::spawn_blocking(move || {
        let bytes = read_limited(&path, LIMIT).ok()?;
        let der = CertificateDer::from_pem_slice(&bytes).ok()?;
        pki::facts_of(&der)
    });
    match read.await.ok().flatten() {
        Some(facts) => {
            let days = (facts.not_after - now_ms() / 1000).div_euclid(86_400);
            json!({"commonName": facts.peer.common_name, "daysLeft": days})
        }
        None => Value::Null,
    }
}
