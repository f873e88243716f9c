//! User messages between MQTT and the rules of the cloud (protocol.md §4.9): what is published on a rule's topic goes up
//! as it is, what a rule sends down is published. The topics stand in the store, so a node listens on after a restart and
//! without a cloud. The switchboard brings orders; user messages are not kept while the cloud is away, as in KubeEdge.

use super::mqtt::{Broker, Subscription};
use super::uplink::{Link, Receipt, ReportKey, Uplink};
use crate::base::{BoxFuture, Failure, Gone, Mail, Mailbox, Module, Ready, Stop, mailbox};
use crate::store::{RuleList, Store};
use crate::wire::Up;
use crate::wire::topics::SUBSCRIPTIONS;
use crate::wire::user::UPLOAD_LIMIT;
use bytes::Bytes;
use std::collections::BTreeSet;

const LETTERS: usize = 64;
/// Topics that rules may have the node listen to.
const TOPICS: usize = 1024;

/// What the cloud's router wants of the broker.
pub enum Letter {
    Subscribe { topic: String, receipt: Receipt },
    Unsubscribe { topic: String, receipt: Receipt },
    Publish { topic: String, payload: String, receipt: Receipt },
}

/// The way to this room; cheap to clone.
#[derive(Clone)]
pub struct EventBus(Mailbox<Letter>);

impl EventBus {
    /// Carries out an order; fails when the module has ended.
    pub async fn put(&self, letter: Letter) -> Result<(), Gone> {
        self.0.put(letter).await
    }
}

struct EventBusModule {
    store: Store,
    broker: Broker,
    uplink: Uplink,
    letters: Mail<Letter>,
}

/// The handle and the module.
pub fn new(store: Store, broker: Broker, uplink: Uplink) -> (EventBus, impl Module) {
    let (sender, letters) = mailbox(LETTERS);
    (EventBus(sender), EventBusModule { store, broker, uplink, letters })
}

impl Module for EventBusModule {
    fn name(&self) -> &'static str {
        "eventbus"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let uploads: Vec<&str> =
                SUBSCRIPTIONS.iter().copied().filter(|filter| !is_device(filter)).collect();
            let mut inbox = self.broker.subscribe(&uploads);
            let mut topics: BTreeSet<String> =
                self.store.rules(RuleList::Topics).await?.into_iter().collect();
            for topic in &topics {
                inbox.add(topic);
            }
            ready.set();
            let mut number = 0u64;
            loop {
                tokio::select! {
                    () = stop.raised() => return Ok(()),
                    Some(letter) = self.letters.recv() => self.carry_out(letter, &inbox, &mut topics).await?,
                    message = inbox.next() => {
                        let Some(message) = message else { continue };
                        number += 1;
                        if stop.or(self.upload(number, message)).await.is_none() {
                            return Ok(());
                        }
                    }
                }
            }
        })
    }
}

/// Filters whose messages are for the devices' room.
fn is_device(filter: &str) -> bool {
    filter.starts_with("$hw/events/device/") || filter.starts_with("$hw/events/node/")
}

impl EventBusModule {
    async fn carry_out(
        &self,
        letter: Letter,
        inbox: &Subscription,
        topics: &mut BTreeSet<String>,
    ) -> Result<(), Failure> {
        match letter {
            Letter::Subscribe { topic, receipt } => {
                if topics.contains(&topic) {
                    receipt.stored();
                } else if topics.len() >= TOPICS || !inbox.add(&topic) {
                    tracing::warn!(topic, "a rule's topic cannot be subscribed");
                    receipt.refused("the topic cannot be subscribed");
                } else {
                    self.store.put_rule(RuleList::Topics, &topic).await?;
                    tracing::info!(topic, "messages on this topic go to the cloud");
                    topics.insert(topic);
                    receipt.stored();
                }
            }
            Letter::Unsubscribe { topic, receipt } => {
                self.store.delete_rule(RuleList::Topics, &topic).await?;
                if topics.remove(&topic) {
                    inbox.remove(&topic);
                    tracing::info!(topic, "messages on this topic no longer go to the cloud");
                }
                receipt.stored();
            }
            Letter::Publish { topic, payload, receipt } => {
                self.broker.publish(&topic, payload, false).await;
                receipt.stored();
            }
        }
        Ok(())
    }

    async fn upload(&self, number: u64, (topic, payload): (Box<str>, Bytes)) {
        if *self.uplink.link().borrow() == Link::Down || payload.len() > UPLOAD_LIMIT {
            tracing::debug!("a user message is dropped: too large, or the cloud cannot be reached");
            return;
        }
        let payload = String::from_utf8_lossy(&payload).into_owned();
        let up = Up::Upload { topic: topic.into_string(), payload };
        if self.uplink.report(ReportKey(format!("upload/{number}")), up).await.is_err() {
            tracing::debug!("a user message is dropped: the uplink has ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Crew;
    use crate::daemon::edge::mqtt;
    use crate::daemon::edge::uplink::Outgoing;
    use std::time::Duration;

    async fn uploaded(outgoing: &mut tokio::sync::mpsc::Receiver<Outgoing>) -> (String, String) {
        let letter = tokio::time::timeout(Duration::from_secs(5), outgoing.recv()).await.unwrap().unwrap();
        let Outgoing::Report { up: Up::Upload { topic, payload }, .. } = letter else { panic!("{letter:?}") };
        (topic, payload)
    }

    #[tokio::test]
    async fn topics_of_rules_are_uploaded_also_after_a_restart_until_they_are_undone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("edgecore.db")).unwrap();
        let config = mqtt::Config { listen: Vec::new(), ..mqtt::Config::default() };
        let (broker, _listener) = mqtt::new(config);
        let (uplink, mut outgoing, link) = Uplink::channel(64);
        link.send_replace(Link::Up);
        for restarted in [false, true] {
            let (bus, mut module) = new(store.clone(), broker.clone(), uplink.clone());
            let (stop, mut crew) = (Stop::new(), Crew::new());
            let inner = stop.clone();
            crew.spawn(async move { module.run(inner, Ready::detached("eventbus")).await.unwrap() });
            let topic = || "default/a".to_owned();
            if !restarted {
                let (receipt, stored) = Receipt::new();
                bus.put(Letter::Subscribe { topic: topic(), receipt }).await.unwrap();
                stored.await.unwrap();
            }
            let mut seen = broker.subscribe(&["down"]);
            let (receipt, _stored) = Receipt::new();
            let (to, payload) = ("down".to_owned(), "x".to_owned());
            bus.put(Letter::Publish { topic: to, payload, receipt }).await.unwrap();
            assert_eq!(seen.next().await.unwrap().1, "x");
            broker.publish("default/a", "1", false).await;
            assert_eq!(uploaded(&mut outgoing).await, (topic(), "1".to_owned()));
            for topic in ["x/user/y", "$hw/events/upload/foo"] {
                broker.publish(topic, "2", false).await;
                assert_eq!(uploaded(&mut outgoing).await.0, topic);
            }
            if restarted {
                let (receipt, stored) = Receipt::new();
                bus.put(Letter::Unsubscribe { topic: topic(), receipt }).await.unwrap();
                stored.await.unwrap();
                broker.publish("default/a", "3", false).await;
                broker.publish("x/user/y", "4", false).await;
                assert_eq!(uploaded(&mut outgoing).await.1, "4");
            }
            stop.raise();
            crew.finish().await;
        }
        assert!(store.rules(RuleList::Topics).await.unwrap().is_empty());
    }
}
