//! The end of a pod: graceful stop, removal of everything it had here, and word to the cloud. Part of the worker.

use super::cgroup;
use super::disk;
use super::look;
use super::seen::Instance;
use super::state;
use super::vigil::end;
use super::worker::{ROOM, Turn, Worker, find};
use crate::base::now;
use crate::cri::CallError;
use crate::daemon::edge::uplink::ReportKey;
use crate::wire::{Answer, Up};
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use std::time::Duration;

const AGAIN: Duration = Duration::from_secs(2);

impl Worker {
    /// The pod is to be deleted: stop it, clean up, tell the cloud, and let the row go when the cloud has agreed.
    pub(super) async fn bury(&mut self, pod: &Pod) -> Turn {
        let spec_grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        let seconds = pod.metadata.deletion_grace_period_seconds.or(spec_grace).unwrap_or(30);
        self.grace = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        if let Err(error) = self.dismantle(Some(pod)).await {
            tracing::warn!(pod = %self.key, %error, "the pod cannot be removed yet");
            self.bell.ring(|note| note.look = true);
            self.bell.rung().await;
            return Turn::Again(now().saturating_add(AGAIN).ok());
        }
        self.announce().await
    }

    /// The pod's row is gone or belongs to another pod: nobody waits for an answer.
    pub(super) async fn vanish(&mut self) -> Turn {
        if let Err(error) = self.dismantle(None).await {
            tracing::warn!(pod = %self.key, %error, "the pod cannot be removed yet");
            self.bell.ring(|note| note.look = true);
            self.bell.rung().await;
            return Turn::Again(now().saturating_add(AGAIN).ok());
        }
        self.forget().await;
        Turn::Gone
    }

    /// Ends the containers, the main ones before the sidecars, then removes sandbox, volumes and logs.
    async fn dismantle(&mut self, pod: Option<&Pod>) -> Result<(), CallError> {
        self.stop_probes();
        self.crew.abort().await;
        let is_sidecar = |name: &str| pod.and_then(|pod| find(pod, name)).is_some_and(state::is_sidecar);
        let (main, side): (Vec<String>, Vec<String>) =
            self.seen.containers.keys().cloned().partition(|name| !is_sidecar(name));
        self.end_all(pod, &main).await?;
        self.end_all(pod, &side).await?;
        if let Some(pod) = pod.filter(|_| !self.seen.containers.is_empty()) {
            self.refresh_all(Some(pod)).await;
            self.report(pod).await;
        }
        let (seen, leftovers) = look::whole(self.runtime(), &self.uid).await?;
        let sandboxes = seen.sandbox.into_iter().map(|sandbox| sandbox.id).chain(leftovers.sandboxes);
        for id in sandboxes {
            self.runtime().stop_pod_sandbox(&id).await?;
            self.runtime().remove_pod_sandbox(&id).await?;
        }
        for instance in seen.containers.values() {
            self.runtime().remove_container(&instance.id).await?;
        }
        self.seen = super::seen::Seen::default();
        self.clean_up().await;
        Ok(())
    }

    async fn end_all(&mut self, pod: Option<&Pod>, names: &[String]) -> Result<(), CallError> {
        let mut stops = Vec::new();
        for name in names {
            let Some(id) =
                self.seen.containers.get(name).filter(|i| i.is_running()).map(|i: &Instance| i.id.clone())
            else {
                continue;
            };
            let handler = pod.and_then(|pod| find(pod, name)?.lifecycle.as_ref()?.pre_stop.clone());
            let target = self.ending_target(pod, name);
            let (runtime, grace) = (self.runtime().clone(), self.grace);
            stops.push(async move { end(&runtime, &id, handler, target, grace).await });
        }
        if stops.is_empty() {
            return Ok(());
        }
        let mut stopping = std::pin::pin!(join_all(stops));
        loop {
            tokio::select! {
                outcomes = &mut stopping => return outcomes.into_iter().collect(),
                () = self.bell.rung() => self.hurry(names).await,
            }
        }
    }

    /// The deletion may have been made more urgent while the containers are stopping.
    async fn hurry(&mut self, names: &[String]) {
        let grace = match self.load().await {
            Ok(Some(pod)) => pod.metadata.deletion_grace_period_seconds,
            Ok(None) | Err(_) => return,
        };
        let Some(grace) = grace.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs)
        else {
            return;
        };
        if grace >= self.grace {
            return;
        }
        self.grace = grace;
        for name in names {
            let Some(instance) = self.seen.containers.get(name).filter(|i| i.is_running()) else { continue };
            let (runtime, id) = (self.runtime().clone(), instance.id.clone());
            self.crew.spawn(async move { drop(runtime.stop_container(&id, grace).await) });
        }
    }

    async fn clean_up(&self) {
        let pod_dir = self.shared.paths.pod(&self.uid);
        let logs = self.shared.paths.pod_logs(self.namespace(), &self.key.name, &self.uid);
        let uid = self.uid.clone();
        let work = tokio::task::spawn_blocking(move || {
            cgroup::remove(&uid);
            drop(std::fs::remove_dir_all(logs));
            disk::remove(&pod_dir)
        });
        if let Ok(Err(error)) = work.await {
            tracing::warn!(pod = %self.key, %error, "the pod's files cannot be removed");
        }
    }

    /// Asks the cloud to delete the object and waits for its word, however long that takes.
    async fn announce(&mut self) -> Turn {
        let (namespace, name) = (self.namespace().to_owned(), self.key.name.clone());
        let key = ReportKey(format!("poddelete/{namespace}/{name}/{}", self.uid));
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}});
        let up = Up::PodDelete { namespace, name, options };
        let Ok(mut answer) = self.shared.uplink.report(key, up).await else {
            return Turn::Again(now().saturating_add(AGAIN).ok());
        };
        loop {
            tokio::select! {
                answer = &mut answer => return match answer {
                    Ok(Answer::Ok | Answer::Object(_) | Answer::Text(_)) => self.let_go().await,
                    Ok(Answer::Failed(status)) if status.is_not_found() || status.is_conflict() => self.let_go().await,
                    Ok(Answer::Failed(status)) => {
                        tracing::warn!(pod = %self.key, error = %status, "the cloud does not delete the pod");
                        Turn::Again(now().saturating_add(Duration::from_secs(10)).ok())
                    }
                    Err(_) => Turn::Again(now().saturating_add(AGAIN).ok()),
                },
                () = self.bell.rung() => {
                    if matches!(self.load().await, Ok(None)) {
                        self.forget().await;
                        return Turn::Gone;
                    }
                }
            }
        }
    }

    async fn let_go(&mut self) -> Turn {
        if let Err(failure) = self.shared.store.delete_object(&self.key, Some(&self.uid)).await {
            tracing::warn!(pod = %self.key, error = %failure, room = ROOM, "the deleted pod's row cannot be removed");
            return Turn::Again(now().saturating_add(AGAIN).ok());
        }
        self.forget().await;
        Turn::Gone
    }
}
