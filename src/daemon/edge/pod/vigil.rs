//! A container that runs: its hooks, its probes and its stop. Part of the worker.

use super::probe::{self, Finding, Probes, Target, Verdict};
use super::seen::Life;
use super::state::{self, Why};
use super::worker::{Worker, find};
use crate::base::{Crew, now};
use crate::cri::{CallError, Runtime};
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use std::sync::Arc;
use std::time::Duration;

const HOOK_LIMIT: Duration = Duration::from_secs(60);

impl Worker {
    /// A container runs: its start hook, then its probes.
    pub(super) async fn greet(&mut self, pod: &Arc<Pod>, container: &Container) {
        let handler = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        if let (Some(handler), Some(target)) = (handler, self.target(container))
            && let Err(why) = probe::hook(handler, &target, HOOK_LIMIT).await
        {
            let known = self.memory.containers.entry(container.name.clone()).or_default();
            known.unhealthy = Some(format!("the postStart hook failed: {why}"));
            return;
        }
        self.attend(pod, container);
    }

    /// Starts the probes of a running container that is not probed yet.
    pub(super) fn attend(&mut self, pod: &Pod, container: &Container) {
        let Some(target) = self.target(container) else { return };
        if self.probes.get(&container.name).is_some_and(|(id, _)| *id == target.id) {
            return;
        }
        let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
        let ordinary_init = init.is_some_and(|init| init.iter().any(|c| c.name == container.name))
            && !state::is_sidecar(container);
        let known = self.memory.containers.entry(container.name.clone()).or_default();
        match Probes::of(container).filter(|_| !ordinary_init) {
            None => {
                known.started = true;
                known.ready = true;
            }
            Some(probes) => {
                known.started = container.startup_probe.is_none();
                known.ready = container.readiness_probe.is_none();
                let mut crew = Crew::new();
                let id = target.id.clone();
                crew.spawn(probe::watch(target, probes, self.verdicts.0.clone()));
                self.probes.insert(container.name.clone(), (id, crew));
            }
        }
    }

    pub(super) fn judge(&mut self, verdict: Verdict) {
        let current = self.seen.containers.get(&verdict.container).is_some_and(|i| i.id == verdict.id);
        if !current {
            return;
        }
        let known = self.memory.containers.entry(verdict.container).or_default();
        match verdict.finding {
            Finding::Started => known.started = true,
            Finding::Ready(ready) => known.ready = ready,
            Finding::Unhealthy(why) => known.unhealthy = Some(why),
        }
    }

    fn target(&self, container: &Container) -> Option<Target> {
        let instance = self.seen.containers.get(&container.name)?;
        let Life::Running { since } = instance.life else { return None };
        Some(Target {
            runtime: self.runtime().clone(),
            name: container.name.clone(),
            id: instance.id.clone(),
            ip: self.place().pod_ips.into_iter().next().unwrap_or_default(),
            ports: probe::named_ports(container),
            age: Duration::try_from(now().duration_since(since)).unwrap_or_default(),
        })
    }

    pub(super) fn ending_target(&self, pod: Option<&Pod>, name: &str) -> Option<Target> {
        self.target(find(pod?, name)?)
    }

    pub(super) fn stop_probes(&mut self) {
        self.probes.clear();
    }

    pub(super) async fn stop(&mut self, pod: &Pod, name: &str, id: &str, why: Why) {
        let container = find(pod, name);
        let probes = container.and_then(|c| c.liveness_probe.as_ref().or(c.startup_probe.as_ref()));
        let grace = match why {
            Why::Unhealthy => probes.and_then(|probe| probe.termination_grace_period_seconds),
            Why::Changed | Why::Finished => None,
        };
        let grace =
            grace.map_or(self.grace, |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        if let Some(reason) = self.memory.containers.get(name).and_then(|known| known.unhealthy.as_ref()) {
            tracing::info!(pod = %self.key, container = name, reason, "the container is unhealthy and is restarted");
        }
        self.probes.remove(name);
        let target = container.and_then(|container| self.target(container));
        let handler = container.and_then(|c| c.lifecycle.as_ref()?.pre_stop.clone());
        let outcome = end(self.runtime(), id, handler, target, grace).await;
        if let Err(error) = outcome {
            tracing::warn!(pod = %self.key, container = name, %error, "the container cannot be stopped");
            self.hold(name, "ContainerCreating", error.to_string(), true);
        }
        if let Err(error) = self.refresh(id, Some(pod)).await {
            tracing::debug!(pod = %self.key, %error, "the runtime cannot be asked");
            self.bell.ring(|note| note.look = true);
        }
        if let Some(known) = self.memory.containers.get_mut(name) {
            known.unhealthy = None;
            known.started = false;
            known.ready = false;
        }
    }
}

/// Ends a container: its hook within the grace, then the stop signal with what is left of it.
pub(super) async fn end(
    runtime: &Runtime,
    id: &str,
    handler: Option<LifecycleHandler>,
    target: Option<Target>,
    grace: Duration,
) -> Result<(), CallError> {
    const LEAST: Duration = Duration::from_secs(2);
    let begun = tokio::time::Instant::now();
    if let (Some(handler), Some(target)) = (handler, target)
        && !grace.is_zero()
        && let Err(error) = probe::hook(&handler, &target, grace).await
    {
        tracing::debug!(container = id, error, "the preStop hook failed");
    }
    let left =
        if grace.is_zero() { grace } else { grace.saturating_sub(begun.elapsed()).max(LEAST.min(grace)) };
    runtime.stop_container(id, left).await
}
