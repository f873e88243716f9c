//! cloudcore's reliable delivery (protocol.md §3.5, §3.6): one message at a time, five sendings under one id, the newest of
//! an object, and the comparison that heals what was lost.

use super::{Core, Key, Record};
use crate::support::letter::{id, message, text};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::oneshot;

const SENDINGS: u32 = 5;

/// Queues a message that needs an acknowledgement.
pub fn offer(core: &Core, message: Value) {
    let uid = text(&message, "/content/metadata/uid").to_owned();
    let version = |message: &Value| text(message, "/header/resourceversion").parse::<u64>().unwrap_or(0);
    let always = matches!(text(&message, "/route/operation"), "delete" | "response");
    let mut state = core.state();
    let same = |queued: &Value| text(queued, "/content/metadata/uid") == uid && !uid.is_empty();
    if !always {
        if let Some(queued) = state.queue.iter_mut().find(|queued| same(queued)) {
            if text(queued, "/route/operation") != "delete" && version(queued) < version(&message) {
                *queued = message;
            }
            return;
        }
        let parts: Vec<&str> = text(&message, "/route/resource").split('/').collect();
        if let [namespace, kind, name] = *parts.as_slice() {
            let key: Key = (kind.to_owned(), namespace.to_owned(), name.to_owned());
            let record = state.synced.entry(uid).or_insert(Record { key, version: 0 });
            if version(&message) <= record.version {
                return;
            }
        }
    }
    // Without a session only the record stays; the comparison finds it once the node is there.
    if state.line.is_none() {
        return;
    }
    state.queue.push_back(message);
    drop(state);
    core.queued.notify_one();
}

/// Sends what is queued, for ever.
pub async fn run(core: Arc<Core>) {
    loop {
        let first = core.state().queue.pop_front();
        let Some(message) = first else {
            core.queued.notified().await;
            continue;
        };
        if deliver(&core, &message).await {
            saved(&core, &message);
        } else if core.state().line.is_some() {
            core.state().queue.push_back(message);
        }
    }
}

async fn deliver(core: &Core, message: &Value) -> bool {
    let (waiter, mut acknowledged) = oneshot::channel();
    core.state().acknowledged.insert(id(message).to_owned(), waiter);
    for _ in 0..SENDINGS {
        if core.state().line.is_none() {
            return false;
        }
        core.send(message.clone());
        match tokio::time::timeout(core.times.resend, &mut acknowledged).await {
            Ok(Ok(())) => return true,
            // A new session has forgotten what the old one waited for.
            Ok(Err(_)) => return false,
            Err(_) => {}
        }
    }
    core.state().acknowledged.remove(id(message));
    false
}

fn saved(core: &Core, message: &Value) {
    let uid = text(message, "/content/metadata/uid");
    let mut state = core.state();
    if text(message, "/route/operation") == "delete" {
        state.synced.remove(uid);
        return;
    }
    let version = text(message, "/header/resourceversion").parse().unwrap_or(0);
    let parts: Vec<&str> = text(message, "/route/resource").split('/').collect();
    if let [namespace, kind, name] = *parts.as_slice() {
        let key = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        state.synced.insert(uid.to_owned(), Record { key, version });
    }
}

/// Compares what the node has acknowledged with what there is, by the clock.
pub async fn compare(core: Arc<Core>) {
    loop {
        tokio::time::sleep(core.times.sync).await;
        let records: Vec<(String, Record)> =
            core.state().synced.iter().map(|(uid, record)| (uid.clone(), record.clone())).collect();
        for (uid, Record { key, version }) in records {
            let object = core.state().objects.get(&key).cloned();
            let object = object.filter(|object| text(object, "/metadata/uid") == uid);
            let (kind, namespace, name) = &key;
            let resource = format!("{namespace}/{kind}/{name}");
            let route = |operation| ["edgecontroller", "resource", operation, resource.as_str()];
            match object {
                // No kind, no version: metadata only.
                None => {
                    let left = json!({"metadata": {"namespace": namespace, "name": name, "uid": uid}});
                    let queued = core.state().queue.iter().any(|m| text(m, "/content/metadata/uid") == uid);
                    if !queued {
                        offer(&core, message(route("delete"), left));
                    }
                }
                Some(object) if super::api::version(&object) > version => {
                    offer(&core, super::api::with_version(message(route("update"), object)));
                }
                Some(_) => {}
            }
        }
    }
}
