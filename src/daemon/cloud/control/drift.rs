//! Compares what kedge nodes hold with what they should hold: after a connect, after a registration, and now and then.
//! A node is sent one hash per bucket and answers with its objects of the buckets that differ; it is then told exactly
//! what it lacks, holds in another form, or holds too much. Nodes that do not announce the comparison are told by
//! `pods`, `configs`, `nodes` and `devices` from the records instead. It never sends what the node is known to have.

use super::super::kubernetes::{Resource, meta, revision};
use super::gate::{may_read, might_read};
use super::lanes::Lanes;
use super::pods::gone;
use super::records::Moment;
use super::shared::{Shared, told};
use crate::base::{BoxFuture, Failure, Gone, Mail, Module, Ready, Stop, random_bytes};
use crate::model::digest::{ContentHash, Digest, Holding, bucket_of};
use crate::model::{DeviceId, Kind, NodeName, ObjectKey, Revision};
use crate::wire::{Comparison, Down, Holdings, Verb};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Nodes whose differences are mended at a time.
const AT_ONCE: usize = 128;
/// A node is compared again after this long, and up to half as much more.
const PERIOD: Duration = Duration::from_secs(240);
/// A node that has not answered by then is asked again.
const ANSWER: Duration = Duration::from_secs(30);
/// Before a node is asked again whose differences found no room.
const CROWDED: Duration = Duration::from_secs(2);
const GET_LIMIT: Duration = Duration::from_secs(60);
/// Objects that the log of a repair names.
const NAMED: usize = 8;

/// What the module hears.
#[derive(Debug)]
pub(super) enum Letter {
    /// The node is back or registers.
    Look(NodeName),
    Said {
        node: NodeName,
        holdings: Holdings,
    },
}

pub(super) struct Drift {
    pub shared: Arc<Shared>,
    pub mail: Mail<Letter>,
}

/// What a node should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fact {
    uid: String,
    content: ContentHash,
    revision: Revision,
}

type Facts = BTreeMap<ObjectKey, Fact>;

/// A question that is under way.
struct Asked {
    round: u64,
    moment: Moment,
}

/// When which node is looked at next. Pure.
#[derive(Default)]
struct Rota {
    due: BTreeSet<(Instant, NodeName)>,
    at: HashMap<NodeName, Instant>,
}

impl Rota {
    fn set(&mut self, node: NodeName, at: Instant) {
        self.forget(&node);
        self.due.insert((at, node.clone()));
        self.at.insert(node, at);
    }

    fn forget(&mut self, node: &NodeName) {
        if let Some(at) = self.at.remove(node) {
            self.due.remove(&(at, node.clone()));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn take(&mut self, now: Instant) -> Option<NodeName> {
        let (at, node) = self.due.first()?.clone();
        if at > now {
            return None;
        }
        self.forget(&node);
        Some(node)
    }
}

/// A time between the period and half as much more.
fn next_period() -> Duration {
    let [draw] = random_bytes::<1>();
    PERIOD + PERIOD / 512 * u32::from(draw)
}

impl Module for Drift {
    fn name(&self) -> &'static str {
        "drift"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let shared = self.shared.clone();
            let mut lanes = Lanes::new(AT_ONCE);
            let mut rota = Rota::default();
            let mut asked: HashMap<NodeName, Asked> = HashMap::new();
            // Until all is listed, what a node should hold is not known.
            let listed = shared.all_listed();
            tokio::pin!(listed);
            let mut is_listed = false;
            loop {
                let due = rota.next().filter(|_| is_listed);
                tokio::select! {
                    biased;
                    () = stop.raised() => return Ok(()),
                    () = listed.as_mut(), if !is_listed => {
                        is_listed = true;
                        ready.set();
                    }
                    () = lanes.ended(), if !lanes.is_idle() => {}
                    letter = self.mail.recv() => match letter.ok_or(gone(Gone))? {
                        Letter::Look(node) => {
                            asked.remove(&node);
                            rota.set(node, Instant::now());
                        }
                        Letter::Said { node, holdings } => {
                            if asked.get(&node).is_none_or(|asked| asked.round != holdings.round) {
                                continue;
                            }
                            let Some(asked) = asked.remove(&node) else { continue };
                            // Whoever brings letters is not kept waiting while the API is away.
                            if !lanes.has_room() {
                                rota.set(node, Instant::now() + CROWDED);
                                continue;
                            }
                            rota.set(node.clone(), Instant::now() + next_period());
                            let lane = node.to_string();
                            lanes.push(lane, Box::pin(mend(&shared, node, holdings, asked.moment)));
                        }
                    },
                    () = until(due) => {
                        let Some(node) = rota.take(Instant::now()) else { continue };
                        asked.remove(&node);
                        if let Some(question) = stop.or(ask(&shared, &node)).await.flatten() {
                            asked.insert(node.clone(), question);
                            rota.set(node, Instant::now() + ANSWER);
                        }
                    }
                }
            }
        })
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Sends a node the digest of what it should hold; `None` when it is away.
async fn ask(shared: &Shared, node: &NodeName) -> Option<Asked> {
    if !shared.compares(node) {
        return None;
    }
    // Taken first: what the node acknowledges from here on it does not lack, whatever its answer says.
    let moment = shared.records.moment();
    let digest = Digest::of(expected(shared, node).iter().map(|(key, fact)| (key, fact.content)));
    let round = u64::from_le_bytes(random_bytes()) >> 11;
    told(shared.hub.tell(node.clone(), Down::Compare(Box::new(Comparison { round, digest }))).await);
    Some(Asked { round, moment })
}

/// What a node should hold: itself, its pods, what these refer to, what it has asked for and may still read, its devices.
/// A ConfigMap or Secret of a pod that has gone is none of it: the node drops its copy.
fn expected(shared: &Shared, node: &NodeName) -> Facts {
    let mut facts = Facts::new();
    if let Some(entry) = shared.node_index().get(node) {
        let fact = Fact { uid: entry.uid.clone(), content: entry.content, revision: entry.revision };
        facts.insert(ObjectKey::cluster(Kind::Node, node.as_str()), fact);
    }
    let mut configs = shared.pods().references_of(node);
    for (key, pod) in shared.pods().of_node(node) {
        facts.insert(key, Fact { uid: pod.uid, content: pod.content, revision: pod.revision });
    }
    let held = shared.records.of(node).into_values().map(|record| record.key);
    let held = held.filter(|key| matches!(key.kind, Kind::ConfigMap | Kind::Secret));
    configs.extend(held.filter(|key| might_read(shared, node, key)));
    {
        let index = shared.configs();
        for key in configs {
            let Some(entry) = index.get(&key) else { continue };
            let fact = Fact { uid: entry.uid.clone(), content: entry.content, revision: entry.revision };
            facts.insert(key, fact);
        }
    }
    let devices = shared.devices();
    for (id, entry) in devices.of_node(node) {
        let fact = Fact { uid: entry.uid, content: entry.content, revision: entry.revision };
        facts.insert(key_of(Kind::Device, id), fact);
    }
    for id in devices.models_of(node) {
        let Some(entry) = devices.model(&id) else { continue };
        let fact = Fact { uid: entry.uid.clone(), content: entry.content, revision: entry.revision };
        facts.insert(key_of(Kind::DeviceModel, id), fact);
    }
    facts
}

fn key_of(kind: Kind, id: DeviceId) -> ObjectKey {
    ObjectKey::namespaced(kind, id.namespace, id.name)
}

/// What has to be done about a difference.
#[derive(Debug, Default, PartialEq, Eq)]
struct Repair {
    /// Held, but not what should be held; the order is that of the holdings.
    surplus: Vec<Holding>,
    /// Lacking or in another form: what others need comes first. Whether an older form is held.
    lacking: Vec<(ObjectKey, bool)>,
}

fn repair(expected: &Facts, holdings: &Holdings) -> Repair {
    let mut repair = Repair::default();
    let mut held: HashMap<&ObjectKey, &Holding> = HashMap::new();
    for holding in &holdings.objects {
        let fits = expected.get(&holding.key).is_some_and(|fact| fact.uid == holding.uid);
        // A node loses its own Node only with its session.
        if !fits && holding.key.kind != Kind::Node {
            repair.surplus.push(holding.clone());
        } else {
            held.insert(&holding.key, holding);
        }
    }
    let concerned = expected.iter().filter(|(key, _)| holdings.buckets.contains(&bucket_of(key)));
    for (key, fact) in concerned {
        match held.get(key) {
            Some(holding) if holding.content == fact.content => {}
            present => repair.lacking.push((key.clone(), present.is_some())),
        }
    }
    let rank = |kind: Kind| crate::model::digest::COMPARED.iter().position(|compared| *compared == kind);
    repair.lacking.sort_by_key(|(key, _)| rank(key.kind));
    repair
}

async fn mend(shared: &Shared, node: NodeName, holdings: Holdings, moment: Moment) {
    let facts = expected(shared, &node);
    let repair = repair(&facts, &holdings);
    tidy_records(shared, &node, &facts, &repair);
    if repair == Repair::default() {
        return;
    }
    let first: Vec<String> = repair.lacking.iter().take(NAMED).map(|(key, _)| key.to_string()).collect();
    tracing::debug!(
        %node, lacking = repair.lacking.len(), surplus = repair.surplus.len(), first = first.join(" "),
        "what the node holds is mended"
    );
    for holding in repair.surplus {
        told(remove(shared, &node, &holding).await);
    }
    for (key, present) in repair.lacking {
        told(give(shared, &node, &key, present, moment).await);
    }
}

/// What the node does not hold needs no record, and what it holds needs one: another cloud may take over.
fn tidy_records(shared: &Shared, node: &NodeName, facts: &Facts, repair: &Repair) {
    let records = shared.records.of(node);
    for (uid, record) in &records {
        let wanted = facts.get(&record.key).is_some_and(|fact| fact.uid == *uid);
        let held = repair.surplus.iter().any(|holding| holding.uid == *uid);
        if !wanted && !held && crate::wire::is_compared(&record.key) {
            shared.records.removed(node, uid);
        }
    }
    for (key, fact) in facts {
        let lacks = repair.lacking.iter().any(|(lacking, _)| lacking == key);
        if !lacks && !records.contains_key(&fact.uid) {
            shared.records.stored(node, &fact.uid, key.clone(), fact.revision);
        }
    }
}

/// Tells the node that an object is gone, unless the API says that it is not: an index may be behind.
async fn remove(shared: &Shared, node: &NodeName, holding: &Holding) -> Result<(), Gone> {
    let key = &holding.key;
    let is_needed = match read(shared, key).await {
        Ok(Some(object)) if meta(&object, "uid") == holding.uid => match key.kind {
            Kind::Pod | Kind::Device => {
                object.pointer("/spec/nodeName").and_then(Value::as_str) == Some(node.as_str())
            }
            _ => expected(shared, node).contains_key(key),
        },
        Ok(_) => false,
        Err(()) => true,
    };
    if is_needed {
        return Ok(());
    }
    shared.push_lost(node, key, &holding.uid).await
}

/// Tells the node what an object is now, unless it has acknowledged that meanwhile.
async fn give(
    shared: &Shared,
    node: &NodeName,
    key: &ObjectKey,
    present: bool,
    moment: Moment,
) -> Result<(), Gone> {
    let Ok(Some(object)) = read(shared, key).await else { return Ok(()) };
    let uid = meta(&object, "uid");
    if expected(shared, node).get(key).is_none_or(|fact| fact.uid != uid) {
        return Ok(());
    }
    if matches!(key.kind, Kind::ConfigMap | Kind::Secret) && !may_read(shared, node, key).await {
        return shared.push_lost(node, key, uid).await;
    }
    let acknowledged = shared.records.acknowledged_since(node, uid, moment);
    if acknowledged.is_some_and(|acknowledged| acknowledged >= revision(&object)) {
        return Ok(());
    }
    let verb = if present { Verb::Update } else { Verb::Insert };
    shared.push(node, verb, key.kind, object).await
}

/// The object as the API has it; `Err` when that cannot be learnt.
async fn read(shared: &Shared, key: &ObjectKey) -> Result<Option<Value>, ()> {
    let resource = Resource::of(key.kind).ok_or(())?;
    let (kube, namespace) = (&shared.kube, key.namespace.as_deref());
    match kube.outlast(GET_LIMIT, || kube.get(resource, namespace, &key.name)).await {
        Ok(object) => Ok(Some(object)),
        Err(status) if status.is_not_found() => Ok(None),
        Err(status) => {
            tracing::warn!(object = %key, code = status.code, "an object could not be read for a node");
            Err(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_due_once_and_the_last_time_holds() {
        let (mut rota, now) = (Rota::default(), Instant::now());
        rota.set(node("a"), now);
        rota.set(node("b"), now + PERIOD);
        rota.set(node("a"), now + PERIOD * 2);
        assert_eq!(rota.take(now), None);
        assert_eq!(rota.next(), Some(now + PERIOD));
        assert_eq!(rota.take(now + PERIOD * 2), Some(node("b")));
        assert_eq!(rota.take(now + PERIOD * 2), Some(node("a")));
        assert_eq!(rota.next(), None);
    }

    #[test]
    fn periods_are_spread() {
        let drawn: Vec<Duration> = (0..100).map(|_| next_period()).collect();
        assert!(drawn.iter().all(|period| (PERIOD..PERIOD * 3 / 2).contains(period)));
        assert!(drawn.iter().any(|period| *period != drawn[0]));
    }

    fn key(name: u8) -> ObjectKey {
        let kind = [Kind::Pod, Kind::ConfigMap, Kind::Device][usize::from(name) % 3];
        ObjectKey::namespaced(kind, "d", format!("x{name}"))
    }

    proptest! {
        #[test]
        fn one_round_trip_mends_every_difference_and_nothing_equal_is_told(
            wanted in proptest::collection::btree_map(0u8..30, (0u8..2, 0u64..3), 0..20),
            present in proptest::collection::btree_map(0u8..30, (0u8..2, 0u64..3), 0..20),
        ) {
            let facts: Facts = wanted.iter().map(|(name, (uid, content))| {
                let content = ContentHash(*content);
                (key(*name), Fact { uid: uid.to_string(), content, revision: Revision(1) })
            }).collect();
            let mut store: BTreeMap<ObjectKey, (String, ContentHash)> = present.iter()
                .map(|(name, (uid, content))| (key(*name), (uid.to_string(), ContentHash(*content)))).collect();
            // The content covers the uid.
            let fold = |uid: &str, content: ContentHash| ContentHash(content.0 * 8 + uid.parse::<u64>().unwrap());
            let facts: Facts = facts.into_iter()
                .map(|(key, fact)| (key, Fact { content: fold(&fact.uid, fact.content), ..fact })).collect();
            for (uid, content) in store.values_mut() { *content = fold(uid, *content); }
            let digest = Digest::of(facts.iter().map(|(key, fact)| (key, fact.content)));
            let buckets = Digest::of(store.iter().map(|(key, (_, content))| (key, *content))).differing(&digest);
            let objects = store.iter().filter(|(key, _)| buckets.contains(&bucket_of(key)))
                .map(|(key, (uid, content))| Holding { key: key.clone(), uid: uid.clone(), content: *content });
            let repair = repair(&facts, &Holdings { round: 1, buckets: buckets.clone(), objects: objects.collect() });
            for surplus in &repair.surplus {
                prop_assert!(facts.get(&surplus.key).is_none_or(|fact| fact.uid != surplus.uid));
                store.remove(&surplus.key);
            }
            for (key, _) in &repair.lacking {
                let fact = &facts[key];
                let before = store.insert(key.clone(), (fact.uid.clone(), fact.content));
                prop_assert_ne!(before, Some((fact.uid.clone(), fact.content)));
            }
            let healed: BTreeMap<ObjectKey, (String, ContentHash)> =
                facts.into_iter().map(|(key, fact)| (key, (fact.uid, fact.content))).collect();
            prop_assert_eq!(store, healed);
        }
    }
}
