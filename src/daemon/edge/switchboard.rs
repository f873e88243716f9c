//! Where messages of the cloud go: one exhaustive match. A new kind of message does not compile until it is routed.
//! It stores before it acknowledges and decides nothing else; what a stored object means is for its room, which the
//! store's change wakes.

use super::device::DeviceHandle;
use super::eventbus::{self, EventBus};
use super::jobs::JobsHandle;
use super::meta::{Applied, Meta};
use super::servicebus::{self, ServiceBus};
use super::uplink::{Inbound, Receipt, ReportKey, Uplink};
use crate::base::{BoxFuture, Failure, Module, Ready, Stop};
use crate::model::ObjectKey;
use crate::wire::csi::VolumeResult;
use crate::wire::user::RouterOrder;
use crate::wire::{Comparison, Down, Up};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::mpsc;

/// Messages routed together, so that they share a commit. Up to 30, `join_all` polls its futures in their order, and so
/// they reach the store in the order in which they came.
const TOGETHER: usize = 30;

struct Switchboard {
    inbound: mpsc::Receiver<Inbound>,
    rooms: Rooms,
}

/// Whom messages are for.
pub(super) struct Rooms {
    pub meta: Meta,
    pub device: DeviceHandle,
    pub jobs: JobsHandle,
    pub eventbus: EventBus,
    pub servicebus: ServiceBus,
    pub uplink: Uplink,
}

/// The module that routes what the uplink receives.
pub(super) fn new(inbound: mpsc::Receiver<Inbound>, rooms: Rooms) -> impl Module {
    Switchboard { inbound, rooms }
}

impl Module for Switchboard {
    fn name(&self) -> &'static str {
        "switchboard"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            ready.set();
            let mut batch = Vec::with_capacity(TOGETHER);
            while let Some(count) = stop.or(self.inbound.recv_many(&mut batch, TOGETHER)).await {
                if count == 0 {
                    // The uplink is gone, so the daemon is ending.
                    stop.raised().await;
                    break;
                }
                join_all(batch.drain(..).map(|inbound| self.route(inbound))).await;
            }
            Ok(())
        })
    }
}

impl Switchboard {
    async fn route(&self, Inbound { id: _, down, receipt }: Inbound) {
        match down {
            Down::Object { key, object, verb: _, origin: _, revision: _ } => {
                self.put(key, object, receipt).await
            }
            Down::Delete { key, object, origin: _, revision: _ } => self.remove(key, object, receipt).await,
            // The devices' room commits and acknowledges by itself; without one the receipt is dropped.
            Down::Membership(membership) => drop(self.rooms.device.membership(membership, receipt).await),
            Down::TwinSync { device, twins } => drop(self.rooms.device.sync(device, twins, receipt).await),
            Down::Compare(comparison) => {
                self.compare(&comparison).await;
                receipt.stored();
            }
            Down::Router(order) => self.route_user(order, receipt).await,
            Down::Task(order) => {
                if self.rooms.jobs.order(order).is_err() {
                    tracing::warn!("too many tasks of the cloud wait; one is dropped");
                }
                receipt.stored();
            }
            Down::Volume(order) => {
                let outcome = Err("volume operations are not served by this node".to_owned());
                let key = ReportKey(format!("volume {}", order.id.0));
                let up = Up::VolumeResult(VolumeResult { of: order.id, volume: order.volume, outcome });
                self.say(key, up, receipt).await;
            }
            // This node's local API watches nothing, so this is left over from another program on it.
            Down::Watched(_) => receipt.stored(),
            // The uplink matches answers with their questions and answers what it does not understand.
            Down::Answer { .. } | Down::Reply { .. } | Down::Unknown { .. } => receipt.stored(),
        }
    }

    async fn route_user(&self, order: RouterOrder, receipt: Receipt) {
        let (events, services) = (&self.rooms.eventbus, &self.rooms.servicebus);
        let routed = match order {
            RouterOrder::Subscribe { topic } => {
                events.put(eventbus::Letter::Subscribe { topic, receipt }).await
            }
            RouterOrder::Unsubscribe { topic } => {
                events.put(eventbus::Letter::Unsubscribe { topic, receipt }).await
            }
            RouterOrder::Publish { id: _, topic, payload } => {
                events.put(eventbus::Letter::Publish { topic, payload, receipt }).await
            }
            RouterOrder::Listen { url } => services.put(servicebus::Letter::Listen { url, receipt }).await,
            RouterOrder::Unlisten { url } => {
                services.put(servicebus::Letter::Unlisten { url, receipt }).await
            }
            RouterOrder::Call { id, target, request } => {
                services.call(servicebus::Call { id, target, request }).await;
                receipt.stored();
                Ok(())
            }
        };
        if routed.is_err() {
            tracing::debug!("an order of the router finds nobody on this node");
        }
    }

    /// Answers a message that is not acknowledged.
    async fn say(&self, key: ReportKey, up: Up, receipt: Receipt) {
        if self.rooms.uplink.report(key, up).await.is_ok() {
            receipt.stored();
        }
    }

    async fn put(&self, key: ObjectKey, object: Value, receipt: Receipt) {
        match self.rooms.meta.apply(&key, &object).await {
            Ok(Applied::Stored) => receipt.stored(),
            Ok(Applied::Refused(failure)) => {
                tracing::error!(%key, code = failure.code, error = %failure, "an object of the cloud is refused");
                // Sent again it would be refused again, and hold back what comes behind it.
                receipt.refused(failure.to_string());
            }
            // The store has logged it; without a receipt the cloud sends the object again.
            Err(_) => drop(receipt),
        }
    }

    /// Tells the cloud what is here where it differs; without an answer the cloud asks again.
    async fn compare(&self, wanted: &Comparison) {
        match self.rooms.meta.compare(wanted).await {
            Ok(holdings) => {
                let key = ReportKey("holdings".to_owned());
                if self.rooms.uplink.report(key, Up::Holdings(holdings)).await.is_err() {
                    tracing::debug!("the uplink has ended before the holdings were told");
                }
            }
            Err(failure) => {
                tracing::warn!(code = failure.code, error = %failure, "the objects of the store cannot be compared");
            }
        }
    }

    async fn remove(&self, key: ObjectKey, last: Value, receipt: Receipt) {
        if self.rooms.meta.remove(&key, &last).await.is_ok() {
            receipt.stored();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::edge::uplink::{Outcome, Uplink};
    use crate::daemon::edge::{device, jobs, mqtt};
    use crate::model::{Kind, NodeName, Revision};
    use crate::store::Store;
    use crate::wire::{MessageId, Origin, Verb};
    use serde_json::json;
    use std::time::Duration;
    use tokio::sync::oneshot;

    struct Bench {
        store: Store,
        send: mpsc::Sender<Inbound>,
        module: Switchboard,
        _dir: tempfile::TempDir,
    }

    fn bench() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("edgecore.db")).unwrap();
        let (uplink, _, _) = Uplink::channel(4);
        let listen = vec![([127, 0, 0, 1], 0).into()];
        let (broker, _module) = mqtt::new(mqtt::Config { listen, ..mqtt::Config::default() });
        let node = NodeName::new("n").unwrap();
        let (eventbus, _module) = eventbus::new(store.clone(), broker.clone(), uplink.clone());
        let servicebus = ServiceBus::absent(uplink.clone());
        let (handle, _module) = device::new(device::Config { node }, store.clone(), uplink.clone(), broker);
        let meta = Meta::new(store.clone(), uplink.clone(), "n", Duration::from_secs(1));
        let means = jobs::Means {
            node: "n".to_owned(),
            runtime: None,
            meta: meta.clone(),
            store: store.clone(),
            uplink: uplink.clone(),
            config_file: None,
            restart: Stop::new(),
        };
        let (jobs, _module) = jobs::new(means);
        let (send, inbound) = mpsc::channel(64);
        let rooms = Rooms { meta, device: handle, jobs, eventbus, servicebus, uplink };
        Bench { store, send, module: Switchboard { inbound, rooms }, _dir: dir }
    }

    fn object(name: &str, revision: u64, data: &str) -> (Inbound, oneshot::Receiver<Outcome>) {
        let (receipt, stored) = Receipt::new();
        let down = Down::Object {
            verb: Verb::Update,
            origin: Origin::Edge,
            key: ObjectKey::namespaced(Kind::ConfigMap, "d", name),
            revision: Revision(revision),
            object: json!({"data": {"a": data}, "metadata": {"uid": "u"}}),
        };
        (Inbound { id: MessageId(format!("m{revision}")), down, receipt }, stored)
    }

    #[tokio::test]
    async fn messages_are_stored_in_order_before_they_are_acknowledged() {
        let mut bench = bench();
        let mut receipts = Vec::new();
        for n in 1..=60 {
            let (inbound, stored) = object("same", n, &n.to_string());
            bench.send.send(inbound).await.unwrap();
            receipts.push(stored);
        }
        let stop = Stop::new();
        let (ended, ()) =
            tokio::join!(bench.module.run(stop.clone(), Ready::detached("switchboard")), async {
                for stored in receipts {
                    stored.await.unwrap();
                }
                stop.raise();
            });
        assert_eq!(ended, Ok(()));
        let key = ObjectKey::namespaced(Kind::ConfigMap, "d", "same");
        assert_eq!(bench.store.object(&key).await.unwrap().unwrap()["data"]["a"], "60");
    }

    #[tokio::test]
    async fn a_refused_object_is_not_stored_and_the_cloud_is_told_and_a_stale_deletion_changes_nothing() {
        let bench = bench();
        let (inbound, stored) = object("large", 1, &"x".repeat(2 << 20));
        bench.module.route(inbound).await;
        assert!(matches!(stored.await.unwrap(), Outcome::Refused(why) if why.contains("KE-META-003")));
        let (inbound, _stored) = object("small", 2, "1");
        bench.module.route(inbound).await;
        let delete = |uid: &str| {
            let (receipt, stored) = Receipt::new();
            let key = ObjectKey::namespaced(Kind::ConfigMap, "d", "small");
            let object = json!({"metadata": {"uid": uid}});
            let down = Down::Delete { origin: Origin::Edge, key, revision: None, object };
            (Inbound { id: MessageId::default(), down, receipt }, stored)
        };
        for (uid, left) in [("other", 1), ("u", 0)] {
            let (inbound, stored) = delete(uid);
            bench.module.route(inbound).await;
            stored.await.unwrap();
            assert_eq!(bench.store.objects(Kind::ConfigMap).await.unwrap().len(), left, "{uid}");
        }
    }
}
