//! What the runtime shows of a pod: taken up whole, or one container at a time when something ended. Part of the worker.

use super::bell::Note;
use super::look::{self, Leftovers};
use super::seen::{Life, Seen};
use super::worker::{Worker, find};
use super::{logs, state, volume};
use crate::base::now;
use crate::cri::CallError;
use crate::cri::messages::Image;
use k8s_openapi::api::core::v1::{Container, Pod};

impl Worker {
    /// Brings what is known up to date with the note.
    pub(super) async fn absorb(&mut self, pod: Option<&Pod>, note: &Note) -> Result<(), CallError> {
        if note.look {
            let (seen, leftovers) = look::whole(self.runtime(), &self.uid).await?;
            self.adopt(seen, leftovers, pod).await;
        }
        for id in &note.ended {
            self.refresh(id, pod).await?;
        }
        if let Some(pod) = pod {
            let concerned = note.all_sources
                || note.sources.iter().any(|(kind, name)| volume::refers_to(pod, *kind, name));
            if note.all_sources || !note.sources.is_empty() {
                // Whatever waited for a source is tried at once.
                self.memory.retry.succeeded();
                for known in self.memory.containers.values_mut().filter(|known| known.waiting.is_some()) {
                    known.retry.at = None;
                }
            }
            let due = self.tokens_at.is_some_and(|at| at <= now());
            if (concerned || due) && self.volumes_ready {
                self.write_volumes(pod).await;
            }
        }
        Ok(())
    }

    async fn adopt(&mut self, seen: Seen, leftovers: Leftovers, pod: Option<&Pod>) {
        self.seen = seen;
        let sandboxes = self.seen.sandbox.iter().map(|sandbox| sandbox.id.as_str());
        for id in sandboxes.chain(self.seen.containers.values().map(|instance| instance.id.as_str())) {
            self.shared.registry.insert(id, &self.bell);
        }
        if let Some(pod) = pod {
            self.volumes_ready = self.seen.sandbox.is_some();
            if self.seen.sandbox.as_ref().is_some_and(|sandbox| sandbox.ready) && self.tokens_at.is_none() {
                // What changed while nobody watched is written now, and tokens are followed from now on.
                self.tokens_at = Some(now());
            }
            let names: Vec<String> = self.seen.containers.keys().cloned().collect();
            for name in names {
                self.read_last_words(pod, &name).await;
                if let Some(container) = find(pod, &name).cloned() {
                    self.recognise(&container).await;
                    self.attend(pod, &container);
                }
            }
        }
        let runtime = self.runtime().clone();
        if leftovers != Leftovers::default() {
            self.crew.spawn(async move {
                for id in leftovers.containers {
                    drop(runtime.remove_container(&id).await);
                }
                for id in leftovers.sandboxes {
                    drop(runtime.stop_pod_sandbox(&id).await);
                    drop(runtime.remove_pod_sandbox(&id).await);
                }
            });
        }
    }

    /// A container that a kubelet made counts as unchanged while it runs the image that the specification names:
    /// kubelets before Kubernetes 1.31 note another hash.
    async fn recognise(&mut self, container: &Container) {
        let wanted = state::hash(container);
        let runtime = self.runtime().clone();
        let Some(instance) = self.seen.containers.get_mut(&container.name) else { return };
        if instance.ours || !instance.is_running() || instance.hash.is_empty() || instance.hash == wanted {
            return;
        }
        let named = runtime.image_status(container.image.as_deref().unwrap_or_default()).await;
        let of = |image: &Image| {
            image.id == instance.image_ref || image.repo_digests.contains(&instance.image_ref)
        };
        instance.hash = match named {
            Ok(Some(image)) if !of(&image) => return,
            Ok(Some(_)) => wanted,
            // Nothing speaks for a change, and a restart could not even find its image.
            Ok(None) | Err(_) => String::new(),
        };
    }

    /// Looks at one container or sandbox that ended.
    pub(super) async fn refresh(&mut self, id: &str, pod: Option<&Pod>) -> Result<(), CallError> {
        if self.seen.sandbox.as_ref().is_some_and(|sandbox| sandbox.id == id) {
            let (seen, leftovers) = look::whole(self.runtime(), &self.uid).await?;
            self.adopt(seen, leftovers, pod).await;
            return Ok(());
        }
        let found = self.seen.containers.iter().find(|(_, instance)| instance.id == id);
        let Some((name, sandbox)) = found.map(|(name, instance)| (name.clone(), instance.sandbox.clone()))
        else {
            return Ok(());
        };
        let fresh = look::ended(self.runtime(), id, &sandbox).await?;
        let Some(mut fresh) = fresh else {
            self.seen.containers.remove(&name);
            return Ok(());
        };
        if let Some(old) = self.seen.containers.get_mut(&name) {
            fresh.last = old.last.take();
            *old = fresh;
        }
        if self.seen.containers.get(&name).is_some_and(|instance| !instance.is_running()) {
            self.probes.remove(&name);
            if let Some(pod) = pod {
                self.read_last_words(pod, &name).await;
            }
        }
        Ok(())
    }

    pub(super) async fn refresh_all(&mut self, pod: Option<&Pod>) {
        let ids: Vec<String> = self.seen.containers.values().map(|instance| instance.id.clone()).collect();
        for id in ids {
            drop(self.refresh(&id, pod).await);
        }
    }

    /// Puts what a container left in its termination file into its end.
    async fn read_last_words(&mut self, pod: &Pod, name: &str) {
        const LIMIT: u64 = 4096;
        let Some(instance) = self.seen.containers.get(name) else { return };
        let Some(ended) = instance.ended() else { return };
        let mut words = match &instance.last_words {
            Some(path) => look::beginning(path, LIMIT).await,
            None => Vec::new(),
        };
        let logs = find(pod, name).and_then(|c| c.termination_message_policy.as_deref());
        if words.is_empty() && ended.exit_code != 0 && logs == Some("FallbackToLogsOnError") {
            let dir = self.shared.paths.pod_logs(self.namespace(), &self.key.name, &self.uid);
            words = logs::last_lines(&dir.join(name).join(format!("{}.log", instance.attempt))).await;
        }
        words.truncate(usize::try_from(LIMIT).unwrap_or(usize::MAX));
        let Some(instance) = self.seen.containers.get_mut(name) else { return };
        if let Life::Exited(ended) = &mut instance.life
            && !words.is_empty()
        {
            ended.message = String::from_utf8_lossy(&words).into_owned();
        }
    }
}
