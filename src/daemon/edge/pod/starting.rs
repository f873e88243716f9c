//! The start of a container: its image, its environment and mounts, and what is noted when it does not start. Part of the
//! worker.

use super::container::{self, Parts};
use super::env::{self, ConfigError};
use super::image::{self, Need};
use super::seen::{Instance, Life, Waiting, next_delay};
use super::worker::{SOON, Worker};
use super::{look, sandbox, state, volume};
use crate::base::now;
use crate::cri::CallError;
use crate::cri::messages::{Image, Mount};
use crate::daemon::edge::uplink::Link;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::sync::Arc;

/// A finished pull: which container it was for, and what went wrong.
pub(super) struct Pulled {
    container: String,
    outcome: Result<(), String>,
}

impl Worker {
    pub(super) async fn start(&mut self, pod: &Arc<Pod>, container: &Container, attempt: u32) {
        let name = &container.name;
        let Some(image) = self.image(pod, container).await else { return };
        let parts = match self.parts(pod, container, &image, attempt).await {
            Ok(parts) => parts,
            Err(ConfigError(message)) => return self.hold(name, "CreateContainerConfigError", message, true),
        };
        let config = match container::config(pod, container, parts) {
            Ok(config) => config,
            Err(ConfigError(message)) => {
                return self.hold(name, "CreateContainerConfigError", message, false);
            }
        };
        let Some(sandbox) = self.seen.sandbox.clone() else { return };
        let before = self.seen.containers.get(name).cloned();
        if let Some(stillborn) = before.as_ref().filter(|instance| instance.life == Life::Created) {
            drop(self.runtime().remove_container(&stillborn.id).await);
        }
        let sandbox_config = self.sandbox_config(pod, sandbox.attempt);
        let shared = self.shared.clone();
        let turn = shared.heavy.acquire().await;
        let id = match self.runtime().create_container(&sandbox.id, config, sandbox_config).await {
            Ok(id) => id,
            Err(error) => {
                self.bell.ring(|note| note.look = true);
                return self.hold(name, "CreateContainerError", error.to_string(), false);
            }
        };
        self.shared.registry.insert(&id, &self.bell);
        let outcome = self.runtime().start_container(&id).await;
        drop(turn);
        let made = Instance {
            id: id.clone(),
            sandbox: sandbox.id.clone(),
            attempt,
            life: Life::Running { since: now() },
            image_ref: image.repo_digests.first().unwrap_or(&image.id).clone(),
            hash: state::hash(container),
            ours: true,
            last_words: Some(self.shared.paths.last_words(&self.uid, name, attempt)),
            last: before.as_ref().and_then(|before| before.ended().cloned()).map(Box::new),
        };
        self.note_start(container, made, before);
        match outcome {
            Ok(()) => self.greet(pod, container).await,
            Err(error) => self.note_failed_start(name, &id, &sandbox.id, &error).await,
        }
    }

    fn note_start(&mut self, container: &Container, made: Instance, before: Option<Instance>) {
        let known = self.memory.containers.entry(container.name.clone()).or_default();
        if let Some((instance, ended)) = before.as_ref().and_then(|i| Some((i, i.ended()?))) {
            known.crash_delay = next_delay(state::crash_delay(instance, ended, Some(known)));
        }
        known.waiting = None;
        known.unhealthy = None;
        known.retry.succeeded();
        known.started = container.startup_probe.is_none();
        known.ready = container.readiness_probe.is_none();
        self.fresh_images.retain(|name| *name != container.name);
        if let Some(oldest) = before.as_ref().and_then(|before| before.last.as_ref()) {
            self.shared.registry.remove(&oldest.id);
            let (runtime, id) = (self.runtime().clone(), oldest.id.clone());
            let log = made.attempt.checked_sub(2).map(|attempt| {
                let dir = self.shared.paths.pod_logs(self.namespace(), &self.key.name, &self.uid);
                dir.join(&container.name).join(format!("{attempt}.log"))
            });
            self.crew.spawn(async move {
                drop(runtime.remove_container(&id).await);
                if let Some(log) = log {
                    drop(tokio::fs::remove_file(log).await);
                }
            });
        }
        self.seen.containers.insert(container.name.clone(), made);
    }

    /// The runtime could not start it: mostly it shows the container as ended with the reason.
    async fn note_failed_start(&mut self, name: &str, id: &str, sandbox: &str, error: &CallError) {
        tracing::debug!(pod = %self.key, container = name, %error, "the container does not start");
        let last = self.seen.containers.get_mut(name).and_then(|instance| instance.last.take());
        match look::instance(self.runtime(), id, sandbox).await {
            Ok(Some(mut instance)) => {
                instance.last = last;
                if let Life::Exited(ended) = &mut instance.life {
                    ended.message = error.to_string();
                    if ended.reason == "Error" {
                        ended.reason = "StartError".to_owned();
                    }
                }
                self.seen.containers.insert(name.to_owned(), instance);
            }
            Ok(None) | Err(_) => {
                self.seen.containers.remove(name);
                self.bell.ring(|note| note.look = true);
                self.hold(name, "RunContainerError", error.to_string(), false);
            }
        }
    }

    /// Notes why a container does not start; it is tried again after a while.
    pub(super) fn hold(&mut self, name: &str, reason: &'static str, message: String, soon: bool) {
        let known = self.memory.containers.entry(name.to_owned()).or_default();
        if soon {
            known.retry.failed_softly(now(), SOON);
        } else {
            known.retry.failed(now());
        }
        known.waiting = Some(Waiting { reason, message });
    }

    /// The image, or `None` while it is pulled or cannot be had.
    async fn image(&mut self, pod: &Arc<Pod>, container: &Container) -> Option<Image> {
        let name = container.image.clone().unwrap_or_default();
        let present = match self.runtime().image_status(&name).await {
            Ok(present) => present,
            Err(error) => {
                let reason = if error.is_unreachable() { "ContainerCreating" } else { "InvalidImageName" };
                self.hold(&container.name, reason, error.to_string(), error.is_unreachable());
                return None;
            }
        };
        let online = *self.shared.uplink.link().borrow() == Link::Up;
        let fresh = self.fresh_images.contains(&container.name);
        match image::need(container, present.is_some(), online) {
            Need::Nothing => present,
            Need::Pull if fresh && present.is_some() => present,
            Need::Never => {
                let message = format!("Container image \"{name}\" is not present with pull policy of Never");
                self.hold(&container.name, "ErrImageNeverPull", message, false);
                None
            }
            Need::Pull => {
                self.pull(pod, container, name);
                None
            }
        }
    }

    fn pull(&mut self, pod: &Arc<Pod>, container: &Container, image: String) {
        let known = self.memory.containers.entry(container.name.clone()).or_default();
        known.pulling = true;
        if let Some(waiting) = known.waiting.as_mut().filter(|waiting| waiting.reason == "ErrImagePull") {
            // As kubectl knows it from the second attempt on.
            waiting.reason = "ImagePullBackOff";
            waiting.message = format!("Back-off pulling image \"{image}\": {}", waiting.message);
        }
        let (shared, pod, name) = (self.shared.clone(), pod.clone(), container.name.clone());
        let pulled = self.pulled.0.clone();
        self.crew.spawn(async move {
            let auth = image::credentials(&pod, &image, &*shared.sources).await;
            let outcome = {
                let _turn = shared.pulls.acquire().await;
                shared.config.runtime.pull_image(&image, auth).await
            };
            let outcome = outcome.map(drop).map_err(|error| error.to_string());
            drop(pulled.send(Pulled { container: name, outcome }).await);
        });
    }

    pub(super) fn finish_pull(&mut self, pulled: Pulled) {
        let known = self.memory.containers.entry(pulled.container.clone()).or_default();
        known.pulling = false;
        match pulled.outcome {
            Ok(()) => {
                known.waiting = None;
                known.retry.succeeded();
                self.fresh_images.push(pulled.container);
            }
            Err(message) => {
                known.retry.failed(now());
                known.waiting = Some(Waiting { reason: "ErrImagePull", message });
            }
        }
    }

    /// Environment and mounts of a container, with the files that they need.
    async fn parts<'a>(
        &'a self,
        pod: &Arc<Pod>,
        container: &Container,
        image: &'a Image,
        attempt: u32,
    ) -> Result<Parts<'a>, ConfigError> {
        let mut env = env::resolve(pod, container, &self.place(), &*self.shared.sources).await?;
        if env.get("HOSTNAME").is_none() {
            env.set("HOSTNAME", sandbox::hostname(pod));
        }
        let (pod, container, paths) = (pod.clone(), container.clone(), self.shared.paths.clone());
        let words = paths.last_words(&self.uid, &container.name, attempt);
        let logs = paths.pod_logs(self.namespace(), &self.key.name, &self.uid).join(&container.name);
        let hosts = paths.hosts_file(&self.uid);
        let work = tokio::task::spawn_blocking(move || {
            let mut mounts = volume::mounts(&pod, &container, &paths, &|text| env.expand(text))?;
            let failure = |error: std::io::Error| ConfigError(error.to_string());
            std::fs::create_dir_all(&logs).map_err(failure)?;
            if let Some(parent) = words.parent() {
                std::fs::create_dir_all(parent).map_err(failure)?;
            }
            std::fs::write(&words, b"").map_err(failure)?;
            let own = [(container::last_words_path(&container), &words), ("/etc/hosts", &hosts)];
            for (inside, outside) in own {
                if outside.exists() && !mounts.iter().any(|mount| mount.container_path == inside) {
                    mounts.push(Mount {
                        container_path: inside.to_owned(),
                        host_path: outside.display().to_string(),
                        ..Mount::default()
                    });
                }
            }
            Ok((env, mounts))
        });
        let (env, mounts) = work.await.map_err(|error| ConfigError(error.to_string()))??;
        Ok(Parts { node: &self.shared.config.node, image, env, mounts, attempt })
    }
}
