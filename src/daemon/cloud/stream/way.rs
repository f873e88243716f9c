//! The way of an API server outside this process to the kubelet API of nodes (protocol.md §8.5): the cloud's port in the
//! cluster's record, that port in the status of each node with a tunnel here, and rules on this machine that lead
//! connections for nodes to the clouds. The composition adds both modules; what fails is told and tried again, and nothing
//! else waits for it.

use super::super::kubernetes::{Kube, Patch, Resource, meta};
use super::super::trust::NAMESPACE;
use crate::base::{BoxFuture, Failure, Module, Ready, Stop};
use crate::host::forward::{self, Chain, Forward};
use crate::model::{NodeName, Status};
use crate::wire::tunnel_port::{ANNOTATION, CONFIG_MAP, TunnelPorts};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

/// KubeEdge looks as often.
const LOOK: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(2);
/// Every Node is written again so often; what is right already costs the API server no write.
const DOUBT: Duration = Duration::from_secs(300);

/// Nodes with a tunnel here, and whether their Node is known to name the cloud's port.
#[derive(Default)]
pub(in crate::daemon::cloud) struct Opened {
    nodes: Mutex<BTreeMap<NodeName, bool>>,
    bell: Notify,
}

impl Opened {
    /// A tunnel of this node is open.
    pub(super) fn note(&self, node: &NodeName) {
        self.locked().insert(node.clone(), false);
        self.bell.notify_one();
    }

    /// The node has no tunnel any more.
    pub(super) fn forget(&self, node: &NodeName) {
        self.locked().remove(node);
    }

    /// Marks what is there; a tunnel that has gone meanwhile stays forgotten.
    fn named(&self, node: &NodeName) {
        if let Some(named) = self.locked().get_mut(node) {
            *named = true;
        }
    }

    /// Nodes can be deleted and register again under an open tunnel: nothing is taken for known any more.
    fn doubt(&self) {
        self.locked().values_mut().for_each(|named| *named = false);
    }

    fn waiting(&self) -> Vec<NodeName> {
        self.locked().iter().filter(|(_, named)| !**named).map(|(node, _)| node.clone()).collect()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<NodeName, bool>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn found(kube: &Kube) -> Result<Option<Value>, Status> {
    match kube.get(Resource::CONFIG_MAP, Some(NAMESPACE), CONFIG_MAP).await {
        Ok(object) => Ok(Some(object)),
        Err(status) if status.is_not_found() => Ok(None),
        Err(status) => Err(status),
    }
}

fn record_of(object: &Value) -> Option<TunnelPorts> {
    TunnelPorts::decode(object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str()?)
}

/// Tells a failure when it begins and its end when it is over.
#[derive(Default)]
struct Trouble(bool);

impl Trouble {
    fn tell(&mut self, failure: Option<&Failure>) {
        match failure {
            None if self.0 => tracing::info!("the API server's way to nodes is right again"),
            Some(failure) if !self.0 => {
                tracing::warn!(code = failure.code, error = %failure, "kubectl logs and exec may not reach nodes");
            }
            _ => {}
        }
        self.0 = failure.is_some();
    }
}

/// Keeps this cloud's port in the record and in the Nodes.
pub(in crate::daemon::cloud) struct Publishing {
    pub kube: Kube,
    pub own: IpAddr,
    pub opened: Arc<Opened>,
}

impl Publishing {
    /// The cloud's port, from the record or new in it. Who comes second to a change reads again.
    async fn port(&self) -> Result<u16, Failure> {
        let failed = |why: String| {
            Failure::new(
                "KE-STREAM-010",
                format!("cannot keep the cloud's port in ConfigMap {NAMESPACE}/{CONFIG_MAP}"),
            )
            .because(why)
            .fix("let the cloud create and patch ConfigMaps in that namespace, as `kedge init` does")
        };
        for _ in 0..8 {
            let object = found(&self.kube).await.map_err(|status| failed(status.to_string()))?;
            let former = object.as_ref().and_then(record_of).unwrap_or_default();
            let mut record = former.clone();
            let port =
                record.take(self.own).ok_or_else(|| failed("no port is left above 10350".to_owned()))?;
            if record == former && object.is_some() {
                return Ok(port);
            }
            let annotations = json!({ANNOTATION: record.encode()});
            let written = match &object {
                None => {
                    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                        "metadata": {"name": CONFIG_MAP, "namespace": NAMESPACE, "annotations": annotations}});
                    self.kube.create(Resource::CONFIG_MAP, Some(NAMESPACE), &object).await
                }
                Some(object) => {
                    let version = meta(object, "resourceVersion");
                    let patch = json!({"metadata": {"resourceVersion": version, "annotations": annotations}});
                    let target = (CONFIG_MAP, None);
                    let patch = patch.to_string().into();
                    self.kube.patch(Resource::CONFIG_MAP, Some(NAMESPACE), target, Patch::Merge, patch).await
                }
            };
            match written {
                Ok(_) => return Ok(port),
                Err(status) if status.is_conflict() || status.already_exists() || status.is_not_found() => {}
                Err(status) => return Err(failed(status.to_string())),
            }
        }
        Err(failed("others change it all the time".to_owned()))
    }

    /// Writes the port into the Nodes that do not have it yet; one that is not registered yet stays noted.
    async fn name_port(&self, port: u16) -> Result<(), Failure> {
        let patch = json!({"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}}).to_string();
        let mut outcome = Ok(());
        for node in self.opened.waiting() {
            let target = (node.as_str(), Some("status"));
            match self.kube.patch(Resource::NODE, None, target, Patch::Merge, patch.clone().into()).await {
                Ok(_) => self.opened.named(&node),
                Err(status) if status.is_not_found() => {}
                Err(status) => {
                    let what = format!("cannot write the kubelet's port into Node {node}");
                    // One Node that refuses does not hold up the others.
                    outcome = Err(Failure::new("KE-STREAM-011", what)
                        .because(status)
                        .fix("let the cloud patch nodes/status, as `kedge init` does"));
                }
            }
        }
        outcome
    }
}

impl Module for Publishing {
    fn name(&self) -> &'static str {
        "tunnel-port"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            ready.set();
            let mut trouble = Trouble::default();
            let mut port = None;
            let mut doubt = Instant::now() + DOUBT;
            loop {
                let outcome = stop.or(async {
                    let known = match port {
                        Some(port) => port,
                        None => *port.insert(self.port().await?),
                    };
                    self.name_port(known).await
                });
                let Some(outcome) = outcome.await else { return Ok(()) };
                trouble.tell(outcome.as_ref().err());
                let quiet = outcome.is_ok() && self.opened.waiting().is_empty();
                tokio::select! {
                    () = stop.raised() => return Ok(()),
                    () = self.opened.bell.notified(), if quiet => {}
                    () = tokio::time::sleep(AGAIN), if !quiet => {}
                    () = tokio::time::sleep_until(doubt) => {
                        self.opened.doubt();
                        doubt = Instant::now() + DOUBT;
                    }
                }
            }
        })
    }
}

/// Keeps the rules of this machine as the record says; takes them away when it ends.
pub(in crate::daemon::cloud) struct Leading {
    pub kube: Kube,
    /// The port of every cloud's kubelet API.
    pub stream: u16,
    pub chain: Chain,
    /// The process is there for this alone: what never goes well ends it, for whoever watches it to see.
    pub alone: bool,
}

impl Leading {
    async fn forwards(&self) -> Result<Vec<Forward>, Failure> {
        let object = found(&self.kube).await.map_err(|status| {
            Failure::new("KE-STREAM-012", format!("cannot read ConfigMap {NAMESPACE}/{CONFIG_MAP}"))
                .because(status)
                .fix("let this account get ConfigMaps in that namespace")
        })?;
        let record = object.as_ref().and_then(record_of).unwrap_or_default();
        let to = |(address, port)| match address {
            IpAddr::V4(address) => Some(Forward { port, to: SocketAddrV4::new(address, self.stream) }),
            // KubeEdge leads IPv4 only, and so do the rules here.
            IpAddr::V6(_) => None,
        };
        Ok(record.clouds().filter_map(to).collect())
    }

    /// The rules as `iptables -t nat` is given them.
    pub async fn rules(&self) -> Result<Vec<String>, Failure> {
        Ok(self.forwards().await?.iter().map(forward::told).collect())
    }

    /// Takes the rules away. Whoever may not set rules has none to take away: no reason to end badly, nor to say it when a
    /// trouble with them is told already.
    pub async fn leave(&self, told: bool) {
        if let Err(failure) = self.chain.unlead().await
            && !told
        {
            tracing::warn!(code = failure.code, error = %failure, "rules of the API server's way to nodes are left");
        }
    }

    /// Whether there is anything to lead.
    async fn lead(&self) -> Result<bool, Failure> {
        let forwards = self.forwards().await?;
        self.chain.lead(&forwards).await?;
        Ok(!forwards.is_empty())
    }
}

impl Module for Leading {
    fn name(&self) -> &'static str {
        "forwarding"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut trouble = Trouble::default();
            let mut look = tokio::time::interval(LOOK);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut end = Ok(());
            while stop.or(look.tick()).await.is_some() {
                let Some(outcome) = stop.or(self.lead()).await else { break };
                trouble.tell(outcome.as_ref().err());
                match outcome {
                    Err(failure) if self.alone => {
                        end = Err(failure);
                        break;
                    }
                    // A cloud records its port a moment after it has started.
                    Ok(false) => look.reset_after(AGAIN),
                    Ok(true) | Err(_) => {}
                }
                // From now on it is only repaired.
                self.alone = false;
                ready.set();
            }
            self.leave(trouble.0).await;
            end
        })
    }
}

/// The address of this cloud in the record: the first advertised one that this machine has, else the one that its
/// packets leave by.
pub(in crate::daemon::cloud) fn own_address(advertised: &[String]) -> IpAddr {
    let here = |address: &IpAddr| UdpSocket::bind((*address, 0)).is_ok() && !address.is_loopback();
    let advertised = advertised.iter().filter_map(|text| text.parse().ok());
    advertised.into_iter().find(here).or_else(leaving).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The source address of packets to far away; none are sent.
fn leaving() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_address_is_one_that_this_machine_has() {
        let own = own_address(&["203.0.113.7".to_owned(), "no address".to_owned()]);
        assert!(UdpSocket::bind((own, 0)).is_ok(), "{own}");
        if let Some(address) = leaving() {
            assert_eq!(own_address(&[address.to_string()]), address);
        }
    }
}
