//! Where a pod lives: its volumes, its sandbox and its hosts file. Part of the worker.

use super::env::ConfigError;
use super::sandbox::{self, Facts};
use super::worker::{SOON, Worker};
use super::{look, volume};
use crate::base::now;
use crate::cri::messages::PodSandboxConfig;
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;
use std::time::Duration;

impl Worker {
    pub(super) async fn write_volumes(&mut self, pod: &Pod) -> bool {
        let place = self.place();
        match volume::set_up(pod, &self.shared.paths, &place, &*self.shared.sources).await {
            Ok(learnt) => {
                self.tokens_at = learnt.refresh_at;
                self.volumes_ready = true;
                self.memory.trouble = None;
                true
            }
            Err(ConfigError(why)) => {
                // A pod that runs keeps its old files; fresh ones are tried for again.
                self.tokens_at =
                    now().saturating_add(Duration::from_secs(60)).ok().filter(|_| self.volumes_ready);
                self.memory.trouble = Some(why);
                false
            }
        }
    }

    pub(super) fn sandbox_config(&self, pod: &Pod, attempt: u32) -> PodSandboxConfig {
        let config = &self.shared.config;
        let facts = Facts {
            node: &config.node,
            cgroup_parent: config.groups.parent(pod),
            paths: &self.shared.paths,
            cluster_dns: &config.cluster_dns,
            cluster_domain: &config.cluster_domain,
            host_dns: &self.shared.host_dns,
        };
        sandbox::config(pod, &facts, attempt)
    }

    pub(super) async fn run_sandbox(&mut self, pod: &Arc<Pod>, attempt: u32) {
        if !self.write_volumes(pod).await {
            self.memory.retry.failed_softly(now(), SOON);
            return;
        }
        let logs = self.shared.paths.pod_logs(self.namespace(), &self.key.name, &self.uid);
        drop(tokio::fs::create_dir_all(logs).await);
        let before = self.seen.sandbox.clone();
        if let Some(before) = &before {
            drop(self.runtime().stop_pod_sandbox(&before.id).await);
        }
        let config = self.sandbox_config(pod, attempt);
        let made = {
            let _turn = self.shared.heavy.acquire().await;
            self.runtime().run_pod_sandbox(config).await
        };
        let found = match made {
            Ok(id) => {
                self.shared.registry.insert(&id, &self.bell);
                look::sandbox(self.runtime(), &id).await
            }
            Err(error) => Err(error),
        };
        match found {
            Ok(Some(sandbox)) => {
                self.seen.sandbox = Some(sandbox);
                self.memory.retry.succeeded();
                self.memory.trouble = None;
                self.write_hosts(pod).await;
                if let Some(before) = before {
                    drop(self.runtime().remove_pod_sandbox(&before.id).await);
                    self.shared.registry.remove(&before.id);
                }
            }
            Ok(None) => self.memory.retry.failed(now()),
            Err(error) => {
                tracing::warn!(pod = %self.key, %error, "the sandbox cannot be made");
                self.memory.trouble = Some(error.to_string());
                self.memory.retry.failed(now());
                // A call that was given up may have made one nevertheless.
                self.bell.ring(|note| note.look = true);
            }
        }
    }

    async fn write_hosts(&self, pod: &Pod) {
        let spec = pod.spec.as_ref();
        let mut text = String::from("# Written by kedge for this pod.\n");
        if spec.is_some_and(|spec| spec.host_network == Some(true)) {
            text += &tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
        } else {
            text += "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
            let name = sandbox::hostname(pod);
            for ip in self.seen.sandbox.iter().flat_map(|sandbox| &sandbox.ips) {
                text += &format!("{ip}\t{name}\n");
            }
        }
        for alias in spec.into_iter().flat_map(|spec| spec.host_aliases.iter().flatten()) {
            text += &format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
        }
        let path = self.shared.paths.hosts_file(&self.uid);
        if let Some(parent) = path.parent() {
            drop(tokio::fs::create_dir_all(parent).await);
        }
        if let Err(error) = tokio::fs::write(path, text).await {
            tracing::warn!(pod = %self.key, %error, "the pod's hosts file cannot be written");
        }
    }

    pub(super) async fn stop_sandbox(&mut self) {
        let Some(sandbox) = &self.seen.sandbox else { return };
        let id = sandbox.id.clone();
        match self.runtime().stop_pod_sandbox(&id).await {
            Ok(()) => {
                if let Some(sandbox) = &mut self.seen.sandbox {
                    sandbox.ready = false;
                }
            }
            Err(error) => {
                tracing::warn!(pod = %self.key, %error, "the sandbox cannot be stopped");
                self.bell.ring(|note| note.look = true);
            }
        }
    }
}
