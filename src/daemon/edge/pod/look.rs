//! Reads what the runtime shows of a pod. The worker calls it at its start, after a reconnect, and for single containers
//! that ended. It changes nothing.

use super::container::{CONTAINER_LABEL, HASH, LAST_WORDS};
use super::sandbox::{NODE_LABEL, UID_LABEL};
use super::seen::{Ended, Instance, Life, Sandbox, Seen};
use crate::cri::messages::{self, ContainerFilter, ContainerState, ContainerStatus, Labels, PodSandboxState};
use crate::cri::{CallError, Runtime};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// What should not be there any more: older sandboxes and older attempts.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Leftovers {
    pub sandboxes: Vec<String>,
    pub containers: Vec<String>,
}

fn by_uid(uid: &str) -> Labels {
    Labels::from([(UID_LABEL.to_owned(), uid.to_owned())])
}

/// Everything of one pod.
pub(super) async fn whole(runtime: &Runtime, uid: &str) -> Result<(Seen, Leftovers), CallError> {
    let mut leftovers = Leftovers::default();
    let mut sandboxes = runtime.list_pod_sandbox(by_uid(uid)).await?;
    sandboxes.sort_by_key(|sandbox| (sandbox.created_at, sandbox.metadata.as_ref().map_or(0, |m| m.attempt)));
    let mut seen = Seen::default();
    if let Some(newest) = sandboxes.pop() {
        seen.sandbox = sandbox(runtime, &newest.id).await?;
    }
    leftovers.sandboxes = sandboxes.into_iter().map(|sandbox| sandbox.id).collect();
    let filter = ContainerFilter { label_selector: by_uid(uid), ..ContainerFilter::default() };
    let mut by_name: BTreeMap<String, Vec<messages::Container>> = BTreeMap::new();
    for container in runtime.list_containers(filter).await? {
        if let Some(name) = container.labels.get(CONTAINER_LABEL) {
            by_name.entry(name.clone()).or_default().push(container);
        }
    }
    for (name, mut attempts) in by_name {
        attempts.sort_by_key(|container| container.created_at);
        let Some(newest) = attempts.pop() else { continue };
        let Some(mut instance) = instance(runtime, &newest.id, &newest.pod_sandbox_id).await? else {
            continue;
        };
        if let Some(before) = attempts.pop() {
            instance.last = self::instance(runtime, &before.id, &before.pod_sandbox_id)
                .await?
                .and_then(|before| before.ended().cloned())
                .map(Box::new);
        }
        leftovers.containers.extend(attempts.into_iter().map(|container| container.id));
        seen.containers.insert(name, instance);
    }
    Ok((seen, leftovers))
}

/// One sandbox; `None` when it is gone.
pub(super) async fn sandbox(runtime: &Runtime, id: &str) -> Result<Option<Sandbox>, CallError> {
    let status = match runtime.pod_sandbox_status(id, false).await {
        Ok(answer) => answer.status,
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    Ok(status.map(|status| {
        let network = status.network.unwrap_or_default();
        let ips = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|ip| ip.ip));
        Sandbox {
            ready: status.state == PodSandboxState::Ready as i32,
            attempt: status.metadata.map_or(0, |metadata| metadata.attempt),
            ips: ips.filter(|ip| !ip.is_empty()).collect(),
            id: status.id,
        }
    }))
}

/// One container; `None` when it is gone.
pub(super) async fn instance(
    runtime: &Runtime,
    id: &str,
    sandbox: &str,
) -> Result<Option<Instance>, CallError> {
    match runtime.container_status(id, false).await {
        Ok(answer) => Ok(answer.status.map(|status| read(status, sandbox))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A container that is known to end: the runtime tells of the end a moment before its own books say so, and has no
/// notice for the latter.
pub(super) async fn ended(runtime: &Runtime, id: &str, sandbox: &str) -> Result<Option<Instance>, CallError> {
    let mut wait = Duration::from_millis(5);
    loop {
        let found = instance(runtime, id, sandbox).await?;
        let settled = found.as_ref().is_none_or(|instance| !instance.is_running());
        if settled || wait > Duration::from_secs(1) {
            return Ok(found);
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
}

/// The first bytes of a file, however long a container has made it; nothing when it cannot be read.
pub(super) async fn beginning(path: &Path, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = tokio::fs::File::open(path).await {
        drop(file.take(limit).read_to_end(&mut bytes).await);
    }
    bytes
}

fn read(status: ContainerStatus, sandbox: &str) -> Instance {
    let time = |nanoseconds: i64| {
        (nanoseconds > 0).then(|| Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()).flatten()
    };
    let inside = status.annotations.get(LAST_WORDS);
    let words = status.mounts.iter().find(|mount| Some(&mount.container_path) == inside);
    let last_words = words.map(|mount| mount.host_path.clone().into());
    let created = time(status.created_at).unwrap_or_default();
    let life = match ContainerState::try_from(status.state) {
        Ok(ContainerState::Running) => Life::Running { since: time(status.started_at).unwrap_or(created) },
        Ok(ContainerState::Created) => Life::Created,
        _ => Life::Exited(Ended {
            id: status.id.clone(),
            exit_code: status.exit_code,
            reason: match status.reason.as_str() {
                "" if status.exit_code == 0 => "Completed".to_owned(),
                "" => "Error".to_owned(),
                reason => reason.to_owned(),
            },
            message: status.message,
            started: time(status.started_at),
            finished: time(status.finished_at).unwrap_or(created),
        }),
    };
    Instance {
        sandbox: sandbox.to_owned(),
        attempt: status.metadata.map_or(0, |metadata| metadata.attempt),
        life,
        image_ref: status.image_ref,
        hash: status.annotations.get(HASH).cloned().unwrap_or_default(),
        ours: status.labels.contains_key(NODE_LABEL),
        last_words,
        last: None,
        id: status.id,
    }
}
