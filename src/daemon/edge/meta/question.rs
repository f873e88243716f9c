//! Questions to the cloud for objects and tokens. Equal questions share one future; what comes back is stored, then
//! given, unless the cloud has said something else of the object meanwhile. Only `Meta` uses it.

use super::{query, token};
use crate::base::{Exit, Failure};
use crate::daemon::edge::uplink::{AskError, Uplink};
use crate::model::{DATA_LIMIT, Kind, ObjectKey, data_size};
use crate::store::Store;
use crate::wire::{Answer, Up};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Why an object cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    #[error("{of} does not exist")]
    NotFound { of: String },
    #[error("{of} is not on this node and the cloud cannot be reached")]
    Offline { of: String },
    #[error("the cloud did not answer in time for {of}")]
    TimedOut { of: String },
    #[error("{of} has {size} bytes of data, the limit is {DATA_LIMIT}")]
    TooLarge { of: String, size: usize },
    #[error("the cloud refused {of}: {why}")]
    Refused { of: String, why: String },
    #[error("{0}")]
    Store(#[from] Failure),
}

impl From<MetaError> for Failure {
    fn from(error: MetaError) -> Failure {
        let (code, fix, exit) = match &error {
            MetaError::Store(failure) => return failure.clone(),
            MetaError::NotFound { .. } => ("KE-META-001", "create it in the cluster", Exit::Failed),
            MetaError::Offline { .. } => {
                ("KE-META-002", "it is fetched as soon as the cloud can be reached", Exit::Unreachable)
            }
            MetaError::TooLarge { .. } => ("KE-META-003", "split it into smaller objects", Exit::Failed),
            MetaError::TimedOut { .. } => ("KE-META-004", "it is asked for again", Exit::TimedOut),
            MetaError::Refused { .. } => (
                "KE-META-005",
                "check that a pod of this node uses it and that the cloud may read it",
                Exit::Failed,
            ),
        };
        Failure::new(code, error.to_string()).fix(fix).exit(exit)
    }
}

type Outcome = Result<Value, MetaError>;

/// A question that may still be answered.
struct UnderWay {
    answer: WeakShared<BoxFuture<'static, Outcome>>,
    /// The cloud has spoken of the object since. Its word and the answer take different ways to the store, so the answer
    /// may come last although it is the older of the two.
    overtaken: Arc<AtomicBool>,
}

/// Questions under way by what they ask.
pub(super) struct Questions {
    store: Store,
    uplink: Uplink,
    limit: Duration,
    under_way: Mutex<HashMap<String, UnderWay>>,
}

impl Questions {
    pub(super) fn new(store: Store, uplink: Uplink, limit: Duration) -> Self {
        Questions { store, uplink, limit, under_way: Mutex::new(HashMap::new()) }
    }

    pub(super) async fn object(&self, key: &ObjectKey) -> Outcome {
        let (store, uplink, limit, key) = (self.store.clone(), self.uplink.clone(), self.limit, key.clone());
        let name = key.to_string();
        let overtaken = Arc::new(AtomicBool::new(false));
        let mark = overtaken.clone();
        let question = async move {
            let object = ask(&uplink, query(&key), &key.to_string(), limit).await?;
            check_size(&key, &object)?;
            Ok(store.put_answer(&key, object, move || mark.load(Ordering::Acquire)).await?)
        };
        self.shared(name, overtaken, question).await
    }

    /// The cloud speaks of this object by itself: an answer that is under way is not stored any more. To be called before
    /// what it says is written.
    pub(super) fn overtake(&self, key: &ObjectKey) {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(question) = under_way.get(&key.to_string()) {
            question.overtaken.store(true, Ordering::Release);
        }
    }

    pub(super) async fn token(&self, key: &str, namespace: &str, account: &str, request: &Value) -> Outcome {
        let (store, uplink, limit) = (self.store.clone(), self.uplink.clone(), self.limit);
        let of = format!("a token of the service account {namespace}/{account}");
        let up = Up::TokenRequest {
            namespace: namespace.to_owned(),
            service_account: account.to_owned(),
            request: request.clone(),
        };
        let stored_at = key.to_owned();
        let question = async move {
            let answer = ask(&uplink, up, &of, limit).await?;
            if !token::is_complete(&answer) {
                return Err(MetaError::Refused { of, why: "the answer has no token".to_owned() });
            }
            store.put_token(&stored_at, &answer).await?;
            Ok(answer)
        };
        self.shared(key.to_owned(), Arc::default(), question).await
    }

    /// Joins the same question when somebody waits for it already and its answer will be the last word.
    fn shared(
        &self,
        name: String,
        overtaken: Arc<AtomicBool>,
        question: impl Future<Output = Outcome> + Send + 'static,
    ) -> Shared<BoxFuture<'static, Outcome>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(present) = under_way.get(&name)
            && let Some(shared) = present.answer.upgrade()
            && shared.peek().is_none()
            && !present.overtaken.load(Ordering::Acquire)
        {
            return shared;
        }
        // One that nobody waits for has no answer to store, or it is in the writer's queue, before all that is still to come.
        under_way.retain(|_, question| question.answer.upgrade().is_some());
        let shared = question.boxed().shared();
        if let Some(answer) = shared.downgrade() {
            under_way.insert(name, UnderWay { answer, overtaken });
        }
        shared
    }
}

async fn ask(uplink: &Uplink, up: Up, of: &str, limit: Duration) -> Outcome {
    let of = of.to_owned();
    match uplink.ask(up, limit).await {
        Ok(Answer::Object(object)) => Ok(object),
        Ok(Answer::Failed(status)) if status.is_not_found() => Err(MetaError::NotFound { of }),
        Ok(Answer::Failed(status)) => Err(MetaError::Refused { of, why: status.message }),
        Ok(Answer::Ok | Answer::Text(_)) => {
            Err(MetaError::Refused { of, why: "the answer is not an object".to_owned() })
        }
        Err(AskError::Offline) => Err(MetaError::Offline { of }),
        Err(AskError::TimedOut) => Err(MetaError::TimedOut { of }),
    }
}

/// Refuses ConfigMaps and Secrets that Kubernetes itself would refuse.
pub(super) fn check_size(key: &ObjectKey, object: &Value) -> Result<(), MetaError> {
    if !matches!(key.kind, Kind::ConfigMap | Kind::Secret) {
        return Ok(());
    }
    let size = data_size(object, key.kind == Kind::Secret);
    if size > DATA_LIMIT { Err(MetaError::TooLarge { of: key.to_string(), size }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_code_and_a_way_out() {
        let of = || "default/configmap/app".to_owned();
        let stored = Failure::new("KE-STORE-001", "the store is away").fix("mount it");
        for (error, code, exit) in [
            (MetaError::NotFound { of: of() }, "KE-META-001", Exit::Failed),
            (MetaError::Offline { of: of() }, "KE-META-002", Exit::Unreachable),
            (MetaError::TooLarge { of: of(), size: 1 << 21 }, "KE-META-003", Exit::Failed),
            (MetaError::TimedOut { of: of() }, "KE-META-004", Exit::TimedOut),
            (MetaError::Refused { of: of(), why: "no".to_owned() }, "KE-META-005", Exit::Failed),
            (MetaError::Store(stored.clone()), "KE-STORE-001", Exit::Failed),
        ] {
            let failure = Failure::from(error);
            assert_eq!((failure.code, failure.exit), (code, exit));
            assert!(!failure.fix.is_empty(), "{failure}");
            assert!(failure.what.contains(&of()) || failure == stored, "{failure}");
        }
    }
}
