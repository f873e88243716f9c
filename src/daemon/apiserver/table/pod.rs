//! The status word, readiness and restarts of a pod, by the rules of upstream's printer.

use super::text::{at, items, number, since, text_at};
use jiff::Timestamp;
use serde_json::Value;

/// What `kubectl get pods` says of a pod.
pub(super) struct Summary {
    pub(super) word: String,
    pub(super) ready: usize,
    pub(super) total: usize,
    pub(super) restarts: String,
}

struct Count {
    restarts: i64,
    last: Option<String>,
}

impl Count {
    fn add(&mut self, status: &Value) {
        self.restarts += number(status, "/restartCount");
        let finished = text_at(status, "/lastState/terminated/finishedAt").map(str::to_owned);
        // RFC 3339 in UTC with whole seconds sorts as text.
        self.last = self.last.take().max(finished);
    }
}

pub(super) fn summary(pod: &Value, now: Timestamp) -> Summary {
    let mut word =
        text_at(pod, "/status/reason").or(text_at(pod, "/status/phase")).unwrap_or("Unknown").to_owned();
    if condition(pod, "PodScheduled").is_some_and(|c| c["reason"] == "SchedulingGated") {
        word = "SchedulingGated".to_owned();
    }
    let sidecars =
        items(pod, "/spec/initContainers").iter().filter(|c| c["restartPolicy"] == "Always").count();
    let mut ready = 0;
    let mut count = Count { restarts: 0, last: None };
    let mut sidecar_count = Count { restarts: 0, last: None };
    let mut initializing = false;
    for (index, status) in items(pod, "/status/initContainerStatuses").iter().enumerate() {
        let sidecar = is_sidecar(pod, &status["name"]);
        count.add(status);
        if sidecar {
            sidecar_count.add(status);
        }
        match init_word(pod, status, index, sidecar) {
            Some(found) => {
                word = found;
                initializing = true;
                break;
            }
            None if sidecar && status["ready"] == true => ready += 1,
            None => {}
        }
    }
    if !initializing || condition(pod, "Initialized").is_some_and(|c| c["status"] == "True") {
        count = sidecar_count;
        containers(pod, &mut word, &mut ready, &mut count);
    }
    if !at(pod, "/metadata/deletionTimestamp").is_null() {
        if text_at(pod, "/status/reason") == Some("NodeLost") {
            word = "Unknown".to_owned();
        } else if !matches!(text_at(pod, "/status/phase"), Some("Succeeded" | "Failed")) {
            word = "Terminating".to_owned();
        }
    }
    let restarts = match count.last.and_then(|last| since(&Value::String(last), now)) {
        Some(ago) if count.restarts > 0 => format!("{} ({ago} ago)", count.restarts),
        _ => count.restarts.to_string(),
    };
    Summary { word, ready, total: items(pod, "/spec/containers").len() + sidecars, restarts }
}

fn containers(pod: &Value, word: &mut String, ready: &mut usize, count: &mut Count) {
    let mut has_running = false;
    for status in items(pod, "/status/containerStatuses").iter().rev() {
        count.add(status);
        let terminated = at(status, "/state/terminated");
        if let Some(reason) = text_at(status, "/state/waiting/reason") {
            *word = reason.to_owned();
        } else if let Some(reason) = text_at(terminated, "/reason") {
            *word = reason.to_owned();
        } else if !terminated.is_null() {
            *word = ending(terminated);
        } else if status["ready"] == true && !at(status, "/state/running").is_null() {
            has_running = true;
            *ready += 1;
        }
    }
    if word == "Completed" && has_running {
        let is_ready = condition(pod, "Ready").is_some_and(|c| c["status"] == "True");
        *word = if is_ready { "Running" } else { "NotReady" }.to_owned();
    }
}

/// Why the pod still initialises, if this init container is the reason.
fn init_word(pod: &Value, status: &Value, index: usize, sidecar: bool) -> Option<String> {
    let terminated = at(status, "/state/terminated");
    if !terminated.is_null() && number(terminated, "/exitCode") == 0 {
        return None;
    }
    if sidecar && status["started"] == true {
        return None;
    }
    if !terminated.is_null() {
        let ending = text_at(terminated, "/reason").map_or_else(|| ending(terminated), str::to_owned);
        return Some(format!("Init:{ending}"));
    }
    match text_at(status, "/state/waiting/reason") {
        Some(reason) if reason != "PodInitializing" => Some(format!("Init:{reason}")),
        _ => Some(format!("Init:{index}/{}", items(pod, "/spec/initContainers").len())),
    }
}

fn ending(terminated: &Value) -> String {
    match number(terminated, "/signal") {
        0 => format!("ExitCode:{}", number(terminated, "/exitCode")),
        signal => format!("Signal:{signal}"),
    }
}

fn is_sidecar(pod: &Value, name: &Value) -> bool {
    items(pod, "/spec/initContainers").iter().any(|c| c["name"] == *name && c["restartPolicy"] == "Always")
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    items(pod, "/status/conditions").iter().find(|condition| condition["type"] == kind)
}
