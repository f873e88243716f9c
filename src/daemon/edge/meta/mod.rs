//! What the edge knows of the cluster: every object the cloud sends is stored here, every object a module needs is
//! looked up here, in the store first, then in the cloud. Pods, node and devices hold a [`Meta`].
//! It holds no objects in memory; equal questions that are under way share one answer.

mod question;
mod token;

pub use question::MetaError;

use super::uplink::Uplink;
use crate::base::Failure;
use crate::model::digest::{COMPARED, Digest, bucket_of};
use crate::model::{Kind, ObjectKey};
use crate::store::Store;
use crate::wire::{Comparison, Holdings, Up, is_compared};
use question::Questions;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Where the last comparison with the cloud is noted: room and key in `kedge_state`.
pub const COMPARISON: (&str, &str) = ("meta", "comparison");

/// Whether an object from the cloud is now in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    Stored,
    /// It can never be stored; sending it again would not help.
    Refused(Failure),
}

/// The handle; cheap to clone.
#[derive(Clone)]
pub struct Meta {
    store: Store,
    node: Arc<str>,
    questions: Arc<Questions>,
}

impl Meta {
    /// `limit` is how long a question to the cloud may take.
    pub fn new(store: Store, uplink: Uplink, node: &str, limit: Duration) -> Meta {
        let questions = Arc::new(Questions::new(store.clone(), uplink, limit));
        Meta { store, node: node.into(), questions }
    }

    /// A ConfigMap of this node's pods.
    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<Value, MetaError> {
        self.stored_or_asked(ObjectKey::namespaced(Kind::ConfigMap, namespace, name)).await
    }

    /// A Secret of this node's pods.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Value, MetaError> {
        self.stored_or_asked(ObjectKey::namespaced(Kind::Secret, namespace, name)).await
    }

    /// A PersistentVolumeClaim; its binding changes, so the cloud is asked first.
    pub async fn persistent_volume_claim(&self, namespace: &str, name: &str) -> Result<Value, MetaError> {
        self.asked_or_stored(ObjectKey::namespaced(Kind::PersistentVolumeClaim, namespace, name)).await
    }

    /// A PersistentVolume; the cloud is asked first.
    pub async fn persistent_volume(&self, name: &str) -> Result<Value, MetaError> {
        self.asked_or_stored(ObjectKey::cluster(Kind::PersistentVolume, name)).await
    }

    /// This node's Node object; KubeEdge 1.22 and older keep it in the namespace `default`.
    pub async fn node(&self) -> Result<Value, MetaError> {
        let key = ObjectKey::cluster(Kind::Node, &*self.node);
        let older = ObjectKey::namespaced(Kind::Node, "default", &*self.node);
        for key in [&key, &older] {
            if let Some(object) = self.store.object(key).await? {
                return Ok(object);
            }
        }
        self.questions.object(&key).await
    }

    /// The answer to a `TokenRequest` with the token in its status. It is renewed after 80 % of its life; without a
    /// cloud the last one is given, whatever its age.
    pub async fn token(&self, namespace: &str, account: &str, request: &Value) -> Result<Value, MetaError> {
        let key = token::key(namespace, account, request);
        let kept = match self.store.token(&key).await? {
            None if token::names_no_audience(request) => {
                let (before, after) = token::around_audiences(namespace, account, request);
                self.store.token_between(&before, &after).await?
            }
            kept => kept,
        };
        let age = kept.as_ref().map_or(token::Age::Expired, |kept| token::age(kept, crate::base::now()));
        if let (Some(kept), token::Age::Fresh) = (&kept, age) {
            return Ok(kept.clone());
        }
        let asked = self.questions.token(&key, namespace, account, request).await;
        match (asked, kept) {
            (Ok(token), _) => Ok(token),
            (Err(MetaError::Offline { .. } | MetaError::TimedOut { .. }), Some(kept)) => Ok(kept),
            (Err(error), Some(kept)) if age == token::Age::Due => {
                tracing::debug!(%error, "a token could not be renewed, the last one still holds");
                Ok(kept)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Stores an object that the cloud sent. An error means that it is not stored yet and may be sent again.
    pub async fn apply(&self, key: &ObjectKey, object: &Value) -> Result<Applied, Failure> {
        if let Err(error) = question::check_size(key, object) {
            return Ok(Applied::Refused(error.into()));
        }
        self.questions.overtake(key);
        self.store.put_object(key, object).await?;
        Ok(Applied::Stored)
    }

    /// Removes an object that the cloud no longer has; one of another uid stays.
    pub async fn remove(&self, key: &ObjectKey, last: &Value) -> Result<(), Failure> {
        let uid = last.pointer("/metadata/uid").and_then(Value::as_str);
        self.questions.overtake(key);
        self.store.delete_object(key, uid).await.map(drop)
    }

    /// What the store holds where it differs from what the cloud wants it to hold.
    pub async fn compare(&self, wanted: &Comparison) -> Result<Holdings, Failure> {
        let mut objects = self.store.holdings(&COMPARED).await?;
        objects.retain(|held| is_compared(&held.key));
        let present = Digest::of(objects.iter().map(|held| (&held.key, held.content)));
        let buckets = present.differing(&wanted.digest);
        objects.retain(|held| buckets.contains(&bucket_of(&held.key)));
        let (room, key) = COMPARISON;
        let before = self.store.state(room, key).await?.and_then(|note| note.get("differing")?.as_u64());
        let note =
            serde_json::json!({"at": crate::base::now_ms(), "differing": buckets.len(), "before": before});
        self.store.put_state(room, key, &note).await?;
        Ok(Holdings { round: wanted.round, buckets, objects })
    }

    async fn stored_or_asked(&self, key: ObjectKey) -> Result<Value, MetaError> {
        match self.store.object(&key).await? {
            Some(object) => Ok(object),
            None => self.questions.object(&key).await,
        }
    }

    async fn asked_or_stored(&self, key: ObjectKey) -> Result<Value, MetaError> {
        match self.questions.object(&key).await {
            Err(error @ (MetaError::Offline { .. } | MetaError::TimedOut { .. })) => {
                self.store.object(&key).await?.ok_or(error)
            }
            outcome => outcome,
        }
    }
}

/// The question that fetches an object.
fn query(key: &ObjectKey) -> Up {
    Up::Query { key: key.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::edge::uplink::{Link, Outgoing};
    use crate::model::{DATA_LIMIT, Status};
    use crate::wire::Answer;
    use serde_json::json;
    use tokio::sync::{mpsc, watch};

    struct Cloud {
        meta: Meta,
        asked: mpsc::Receiver<Outgoing>,
        link: watch::Sender<Link>,
        _dir: tempfile::TempDir,
    }

    fn cloud() -> Cloud {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("edgecore.db")).unwrap();
        let (uplink, asked, link) = Uplink::channel(8);
        link.send_replace(Link::Up);
        Cloud { meta: Meta::new(store, uplink, "n1", Duration::from_secs(5)), asked, link, _dir: dir }
    }

    async fn answer(asked: &mut mpsc::Receiver<Outgoing>, with: Answer) -> Up {
        match asked.recv().await.unwrap() {
            Outgoing::Ask { up, answer } => {
                answer.send(with).unwrap();
                up
            }
            Outgoing::Report { .. } => panic!("a report was not expected"),
        }
    }

    #[tokio::test]
    async fn equal_questions_share_one_answer_which_is_kept() {
        let mut cloud = cloud();
        let object = json!({"kind": "ConfigMap", "data": {"a": "1"}});
        let (one, two, _) = tokio::join!(
            cloud.meta.config_map("d", "c"),
            cloud.meta.config_map("d", "c"),
            answer(&mut cloud.asked, Answer::Object(object.clone()))
        );
        assert_eq!((one.unwrap(), two.unwrap()), (object.clone(), object.clone()));
        assert!(cloud.asked.try_recv().is_err(), "the cloud was asked once");
        cloud.link.send_replace(Link::Down);
        assert_eq!(cloud.meta.config_map("d", "c").await.unwrap(), object);
        let error = cloud.meta.secret("d", "s").await.unwrap_err();
        assert!(matches!(error, MetaError::Offline { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_answer_brings_back_nothing_that_the_cloud_has_replaced_or_deleted_since() {
        let mut cloud = cloud();
        let key = ObjectKey::namespaced(Kind::ConfigMap, "d", "c");
        let object = |uid: &str, revision: &str| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"of": uid},
                "metadata": {"name": "c", "namespace": "d", "uid": uid, "resourceVersion": revision}})
        };
        let (old, new) = (object("A", "5"), object("B", "9"));
        for anew in [None, Some(&new)] {
            let meta = cloud.meta.clone();
            let (outcome, ()) = tokio::join!(meta.config_map("d", "c"), async {
                let Some(Outgoing::Ask { answer, .. }) = cloud.asked.recv().await else {
                    panic!("no question")
                };
                meta.remove(&key, &old).await.unwrap();
                if let Some(new) = anew {
                    assert_eq!(meta.apply(&key, new).await, Ok(Applied::Stored));
                }
                answer.send(Answer::Object(old.clone())).unwrap();
            });
            assert_eq!(&outcome.unwrap(), anew.unwrap_or(&old));
            assert_eq!(meta.store.object(&key).await.unwrap().as_ref(), anew);
        }
        // A word that is spoken when nothing is asked makes no later answer stale.
        cloud.meta.remove(&key, &new).await.unwrap();
        let (outcome, _) = tokio::join!(
            cloud.meta.config_map("d", "c"),
            answer(&mut cloud.asked, Answer::Object(old.clone()))
        );
        assert_eq!(outcome.unwrap(), old);
        assert_eq!(cloud.meta.store.object(&key).await.unwrap(), Some(old));
    }

    #[tokio::test]
    async fn a_question_that_was_overtaken_is_not_joined() {
        let mut cloud = cloud();
        let key = ObjectKey::namespaced(Kind::ConfigMap, "d", "c");
        let meta = cloud.meta.clone();
        let old = json!({"kind": "ConfigMap", "metadata": {"uid": "A"}});
        let (first, second) = tokio::join!(meta.config_map("d", "c"), async {
            let Some(Outgoing::Ask { answer: late, .. }) = cloud.asked.recv().await else {
                panic!("no question")
            };
            meta.remove(&key, &old).await.unwrap();
            let missing = Answer::Failed(Status::not_found("configmaps", "c"));
            let (second, _) = tokio::join!(meta.config_map("d", "c"), answer(&mut cloud.asked, missing));
            late.send(Answer::Object(old.clone())).unwrap();
            second
        });
        assert_eq!(first.unwrap(), old);
        assert!(matches!(second, Err(MetaError::NotFound { .. })), "{second:?}");
        assert_eq!(meta.store.object(&key).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_missing_or_too_large_is_not_kept() {
        let mut cloud = cloud();
        let missing = Answer::Failed(Status::not_found("configmaps", "c"));
        let (outcome, _) = tokio::join!(cloud.meta.config_map("d", "c"), answer(&mut cloud.asked, missing));
        assert!(matches!(outcome, Err(MetaError::NotFound { .. })));
        let large = json!({"kind": "ConfigMap", "data": {"a": "x".repeat(DATA_LIMIT + 1)}});
        let (outcome, _) = tokio::join!(
            cloud.meta.config_map("d", "c"),
            answer(&mut cloud.asked, Answer::Object(large.clone()))
        );
        let failure: Failure = outcome.unwrap_err().into();
        assert_eq!(failure.code, "KE-META-003");
        failure.is_as_committed();
        let key = ObjectKey::namespaced(Kind::ConfigMap, "d", "c");
        assert!(matches!(cloud.meta.apply(&key, &large).await, Ok(Applied::Refused(_))));
        assert_eq!(cloud.meta.store.object(&key).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_an_older_kubeedge_has_kept_is_found() {
        let cloud = cloud();
        let node = json!({"kind": "Node", "metadata": {"name": "n1"}});
        let key = ObjectKey::namespaced(Kind::Node, "default", "n1");
        cloud.meta.store.put_object(&key, &node).await.unwrap();
        assert_eq!(cloud.meta.node().await.unwrap(), node);
        let request = |uid: &str| {
            json!({"spec": {"expirationSeconds": 3607,
                "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}}})
        };
        let at = crate::base::rfc3339(crate::base::now() + Duration::from_secs(3600));
        let held =
            json!({"spec": {"expirationSeconds": 3607}, "status": {"token": "t", "expirationTimestamp": at}});
        let mut answered = request("u");
        answered["spec"]["audiences"] = json!(["https://kubernetes.default.svc.cluster.local"]);
        cloud.meta.store.put_token(&token::key("d", "sa", &answered), &held).await.unwrap();
        cloud.link.send_replace(Link::Down);
        assert_eq!(cloud.meta.token("d", "sa", &request("u")).await.unwrap(), held);
        let other = cloud.meta.token("d", "sa", &request("other")).await;
        assert!(matches!(other, Err(MetaError::Offline { .. })), "{other:?}");
    }

    #[tokio::test]
    async fn a_token_is_kept_until_it_is_due_and_longer_without_a_cloud() {
        let mut cloud = cloud();
        let request = json!({"spec": {"audiences": null, "expirationSeconds": 3600}});
        let issued = |seconds: i64| {
            let at = crate::base::rfc3339(crate::base::now() + Duration::from_secs(seconds.unsigned_abs()));
            json!({"spec": {"expirationSeconds": 3600}, "status": {"token": format!("t{seconds}"), "expirationTimestamp": at}})
        };
        let (first, _) = tokio::join!(
            cloud.meta.token("d", "sa", &request),
            answer(&mut cloud.asked, Answer::Object(issued(3600)))
        );
        assert_eq!(first.unwrap(), issued(3600));
        assert_eq!(cloud.meta.token("d", "sa", &request).await.unwrap()["status"]["token"], "t3600");
        let key = token::key("d", "sa", &request);
        cloud.meta.store.put_token(&key, &issued(600)).await.unwrap();
        cloud.link.send_replace(Link::Down);
        assert_eq!(cloud.meta.token("d", "sa", &request).await.unwrap()["status"]["token"], "t600");
        cloud.link.send_replace(Link::Up);
        let (renewed, _) = tokio::join!(
            cloud.meta.token("d", "sa", &request),
            answer(&mut cloud.asked, Answer::Object(issued(3600)))
        );
        assert_eq!(renewed.unwrap()["status"]["token"], "t3600");
    }
}
