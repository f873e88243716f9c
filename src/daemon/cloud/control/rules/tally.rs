//! What rules have done: counted at once, written to their status a moment later. Upstream's fields: `successMessages`,
//! `failMessages`, and `errors` with the last one.

use super::super::super::kubernetes::{Kube, Patch, Resource, is_temporary};
use super::book::Id;
use crate::base::Stop;
use crate::model::Status;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Counts of one rule gather for so long.
const GATHER: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Count {
    delivered: i64,
    failed: i64,
    error: Option<String>,
}

#[derive(Default)]
pub(super) struct Tally {
    counts: Mutex<BTreeMap<Id, Count>>,
    bell: Notify,
}

impl Tally {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<Id, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn delivered(&self, rule: &Id) {
        self.counts().entry(rule.clone()).or_default().delivered += 1;
        self.bell.notify_one();
    }

    pub(super) fn failed(&self, rule: &Id, why: impl std::fmt::Display) {
        let why: String = why.to_string().chars().take(256).collect();
        tracing::debug!(namespace = rule.0, rule = rule.1, error = why, "a rule's message failed");
        let mut counts = self.counts();
        let count = counts.entry(rule.clone()).or_default();
        count.failed += 1;
        count.error = Some(why);
        drop(counts);
        self.bell.notify_one();
    }

    fn put_back(&self, rule: Id, count: Count) {
        let mut counts = self.counts();
        let held = counts.entry(rule).or_default();
        held.delivered += count.delivered;
        held.failed += count.failed;
        held.error = held.error.take().or(count.error);
    }

    /// Writes counts until stopped.
    pub(super) async fn write(&self, kube: &Kube, stop: &Stop) {
        while stop.or(self.bell.notified()).await.is_some() {
            if stop.or(tokio::time::sleep(GATHER)).await.is_none() {
                return;
            }
            let counts = std::mem::take(&mut *self.counts());
            for (rule, count) in counts {
                match add(kube, &rule, &count).await {
                    Ok(()) => {}
                    Err(status) if status.code == 409 || is_temporary(&status) => {
                        self.put_back(rule, count);
                        self.bell.notify_one();
                    }
                    Err(status) if status.is_not_found() => {}
                    Err(status) => {
                        tracing::warn!(
                            rule = rule.1,
                            code = status.code,
                            "a rule's status cannot be written"
                        );
                    }
                }
            }
        }
    }
}

async fn add(kube: &Kube, (namespace, name): &Id, count: &Count) -> Result<(), Status> {
    let rule = kube.get(Resource::RULE, Some(namespace), name).await?;
    let patch = json!({
        "metadata": {"resourceVersion": rule.pointer("/metadata/resourceVersion")},
        "status": summed(rule.get("status").unwrap_or(&Value::Null), count),
    });
    let patch = patch.to_string().into_bytes();
    kube.patch(Resource::RULE, Some(namespace), (name, None), Patch::Merge, patch).await.map(drop)
}

fn summed(status: &Value, count: &Count) -> Value {
    let held = |field: &str| status.get(field).and_then(Value::as_i64).unwrap_or_default();
    let mut summed = json!({
        "successMessages": held("successMessages").saturating_add(count.delivered),
        "failMessages": held("failMessages").saturating_add(count.failed),
    });
    if let Some(error) = &count.error {
        summed["errors"] = json!([error]);
    }
    summed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_the_last_error_stays() {
        let tally = Tally::default();
        let rule = ("d".to_owned(), "r".to_owned());
        tally.delivered(&rule);
        tally.failed(&rule, "first");
        tally.failed(&rule, "last");
        let count = tally.counts().remove(&rule).unwrap();
        let status = summed(&json!({"successMessages": 4}), &count);
        assert_eq!(status, json!({"successMessages": 5, "failMessages": 2, "errors": ["last"]}));
        tally.put_back(rule.clone(), count.clone());
        assert_eq!(tally.counts().remove(&rule), Some(count));
    }
}
