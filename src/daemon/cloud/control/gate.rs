//! Admits what nodes ask, before `answers` carries it out: the rule is `permit`'s, the facts are the index of pods. The index
//! lags behind the API, so a claim it does not bear out is looked up there before it is refused, a bounded number of times.

use super::super::kubernetes::Resource;
use super::budget::Budgets;
use super::permit::{Claim, is_certificate_of};
use super::pod_index::PodIndex;
use super::references;
use super::shared::Shared;
use crate::model::{DeviceId, Kind, NodeName, ObjectKey, Status};
use crate::wire::Up;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A claim that was refused is not looked up again for so long; once the index bears it out it is admitted at once.
const REMEMBERED: Duration = Duration::from_secs(3);
/// Claims of a node whose volumes are searched for a Secret.
const VOLUMES: usize = 64;
/// A claim in little room: what it names comes from the node and may be as large as a message.
fn mark(what: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// What nodes may still look up, and what has been refused to them lately. Pure: time comes from outside.
#[derive(Default)]
struct Lookups {
    budgets: Budgets,
    /// By [`mark`]. There are never more of these than were paid for while they are remembered.
    refused: HashMap<(NodeName, u64), Instant>,
}

impl Lookups {
    /// Whether this may be looked up now; if so, it is paid for.
    fn spend(&mut self, node: &NodeName, what: &str, now: Instant) -> bool {
        let refused = self.refused.get(&(node.clone(), mark(what)));
        let is_known = refused.is_some_and(|at| now.saturating_duration_since(*at) < REMEMBERED);
        !is_known && self.budgets.spend(node, now)
    }

    /// The look-up did not bear the claim out.
    fn refused(&mut self, node: &NodeName, what: &str, now: Instant) {
        self.refused.retain(|_, at| now.saturating_duration_since(*at) < REMEMBERED);
        self.refused.insert((node.clone(), mark(what)), now);
    }
}

/// Admits or refuses.
pub(super) struct Gate {
    shared: Arc<Shared>,
    lookups: Mutex<Lookups>,
}

impl Gate {
    pub(super) fn new(shared: Arc<Shared>) -> Gate {
        Gate { shared, lookups: Mutex::default() }
    }

    fn lookups(&self) -> MutexGuard<'_, Lookups> {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails with `Forbidden` for what is not the node's, or as the API fails; looks things up for `patience` at most.
    pub(super) async fn admit(&self, node: &NodeName, up: &Up, patience: Duration) -> Result<(), Status> {
        let claim = Claim::of(node, up);
        if self.is_known(node, &claim) {
            return Ok(());
        }
        if !matches!(claim, Claim::Denied { .. } | Claim::Device(_)) {
            let what = format!("{claim:?}");
            if self.lookups().spend(node, &what, Instant::now()) {
                if self.shared.kube.insist(patience, || self.is_confirmed(node, &claim)).await? {
                    return Ok(());
                }
                self.lookups().refused(node, &what, Instant::now());
            }
        }
        self.shared.hub.refusals().refuse(node.as_str(), claim.kind(), claim.why())
    }

    /// Whether the indexes bear the claim out.
    fn is_known(&self, node: &NodeName, claim: &Claim) -> bool {
        match claim {
            Claim::Granted => true,
            Claim::Referred(key) => self.shared.pods().refers(node, key),
            Claim::Pods { namespace, names } => {
                let pods = self.shared.pods();
                names.iter().all(|name| pods.node_of(namespace, name).as_ref() == Some(node))
            }
            Claim::NotForeign { namespace, name } => {
                self.shared.pods().node_of(namespace, name).is_none_or(|owner| owner == *node)
            }
            Claim::Account { namespace, account, pod, uid } => {
                let pod = ObjectKey::namespaced(Kind::Pod, namespace, pod);
                self.shared.pods().runs_as(node, &pod, uid, account)
            }
            Claim::Device(key) => {
                let Some(namespace) = &key.namespace else { return false };
                let id = DeviceId::new(namespace.clone(), key.name.clone());
                let devices = self.shared.devices();
                match key.kind {
                    Kind::Device => {
                        devices.device(&id).is_some_and(|entry| entry.node.as_ref() == Some(node))
                    }
                    _ => devices.models_of(node).contains(&id),
                }
            }
            Claim::Denied { .. } | Claim::Volume(_) | Claim::Attachment(_) | Claim::Certificate(_) => false,
        }
    }

    /// Whether the API bears the claim out.
    async fn is_confirmed(&self, node: &NodeName, claim: &Claim) -> Result<bool, Status> {
        let for_node =
            |object: &Value| object.pointer("/spec/nodeName").and_then(Value::as_str) == Some(node.as_str());
        Ok(match claim {
            Claim::Granted => true,
            Claim::Denied { .. } | Claim::Device(_) => false,
            Claim::Referred(key) => {
                let pods = self.pods_of(node, key.namespace.as_deref()).await?;
                pods.refers(node, key)
                    || (key.kind == Kind::Secret && is_of_volume(&self.shared, node, key, &pods).await?)
            }
            Claim::Volume(name) => {
                let Some(volume) = find(&self.shared, Resource::PERSISTENT_VOLUME, None, name).await? else {
                    return Ok(false);
                };
                match claim_of(&volume) {
                    Some(claim) if self.shared.pods().refers(node, &claim) => true,
                    Some(claim) => self.pods_of(node, claim.namespace.as_deref()).await?.refers(node, &claim),
                    None => false,
                }
            }
            Claim::Attachment(name) => find(&self.shared, Resource::VOLUME_ATTACHMENT, None, name)
                .await?
                .is_some_and(|it| for_node(&it)),
            Claim::Certificate(name) => {
                let found = find(&self.shared, Resource::CERTIFICATE_SIGNING_REQUEST, None, name).await?;
                found.is_some_and(|request| is_certificate_of(node, &request))
            }
            Claim::Pods { namespace, names } => {
                for name in names {
                    if self.shared.pods().node_of(namespace, name).as_ref() == Some(node) {
                        continue;
                    }
                    let found = find(&self.shared, Resource::POD, Some(namespace), name).await?;
                    // What does not exist is nobody's: the node hears that it is gone.
                    if found.is_some_and(|pod| !for_node(&pod)) {
                        return Ok(false);
                    }
                }
                true
            }
            Claim::NotForeign { namespace, name } => find(&self.shared, Resource::POD, Some(namespace), name)
                .await?
                .is_none_or(|pod| for_node(&pod)),
            Claim::Account { namespace, account, pod, uid } => {
                let key = ObjectKey::namespaced(Kind::Pod, namespace, pod);
                let mut fresh = PodIndex::default();
                if let Some(found) = find(&self.shared, Resource::POD, Some(namespace), pod).await? {
                    fresh.apply(&found);
                }
                fresh.runs_as(node, &key, uid, account)
            }
        })
    }

    /// The node's pods in a namespace as the API has them now.
    async fn pods_of(&self, node: &NodeName, namespace: Option<&str>) -> Result<PodIndex, Status> {
        let mut pods = PodIndex::default();
        let selector = format!("fieldSelector=spec.nodeName%3D{node}");
        let listed = self.shared.kube.list(Resource::POD, namespace, &selector, |pod| {
            pods.apply(&pod);
        });
        listed.await?;
        Ok(pods)
    }
}

async fn find(
    shared: &Shared,
    resource: Resource,
    namespace: Option<&str>,
    name: &str,
) -> Result<Option<Value>, Status> {
    match shared.kube.get(resource, namespace, name).await {
        Ok(object) => Ok(Some(object)),
        Err(status) if status.is_not_found() => Ok(None),
        Err(status) => Err(status),
    }
}

/// A Secret that the volumes of the node's pods need.
async fn is_of_volume(
    shared: &Shared,
    node: &NodeName,
    secret: &ObjectKey,
    fresh: &PodIndex,
) -> Result<bool, Status> {
    let mut claims: BTreeSet<ObjectKey> = fresh.claims_of(node);
    claims.extend(shared.pods().claims_of(node));
    for claim in claims.into_iter().take(VOLUMES) {
        let namespace = claim.namespace.as_deref();
        let found = find(shared, Resource::PERSISTENT_VOLUME_CLAIM, namespace, &claim.name).await?;
        let Some(name) = found.as_ref().and_then(|it| it.pointer("/spec/volumeName")?.as_str()) else {
            continue;
        };
        let volume = find(shared, Resource::PERSISTENT_VOLUME, None, name).await?;
        // The volume has the last word on whose it is: anybody may write a volume's name into a claim.
        let bound = volume.filter(|volume| claim_of(volume).as_ref() == Some(&claim));
        if bound.is_some_and(|volume| references::secrets_of_volume(&volume).contains(secret)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a node that holds this ConfigMap or Secret might still read it, by the indexes alone: a Secret may be one that
/// the volume of a claim needs.
pub(super) fn might_read(shared: &Shared, node: &NodeName, key: &ObjectKey) -> bool {
    if !shared.hub.refusals().enforced() {
        return true;
    }
    let pods = shared.pods();
    pods.refers(node, key) || (key.kind == Kind::Secret && pods.has_claims(node))
}

/// Whether a node that holds this ConfigMap or Secret may still read it, so that it is told of changes; what cannot be
/// learnt from the API now counts as no.
pub(super) async fn may_read(shared: &Shared, node: &NodeName, key: &ObjectKey) -> bool {
    if !might_read(shared, node, key) {
        return false;
    }
    if !shared.hub.refusals().enforced() || shared.pods().refers(node, key) {
        return true;
    }
    is_of_volume(shared, node, key, &PodIndex::default()).await.unwrap_or(false)
}

fn claim_of(volume: &Value) -> Option<ObjectKey> {
    let text = |field: &str| volume.pointer(&format!("/spec/claimRef/{field}")).and_then(Value::as_str);
    Some(ObjectKey::namespaced(Kind::PersistentVolumeClaim, text("namespace")?, text("name")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    #[test]
    fn a_refused_claim_is_not_looked_up_again_at_once() {
        let (mut lookups, now) = (Lookups::default(), Instant::now());
        assert!(lookups.spend(&node("n1"), "a", now));
        lookups.refused(&node("n1"), "a", now);
        assert!(!lookups.spend(&node("n1"), "a", now));
        assert!(lookups.spend(&node("n1"), "b", now) && lookups.spend(&node("n2"), "a", now));
        assert!(lookups.spend(&node("n1"), "a", now + REMEMBERED));
        // What is forgotten takes no room, and ever new claims run out.
        lookups.refused(&node("n2"), "b", now + REMEMBERED);
        assert_eq!(lookups.refused.len(), 1);
        let asked = (0..1000).filter(|n| lookups.spend(&node("n3"), &n.to_string(), now)).count();
        assert_eq!(asked, 128);
    }
}
