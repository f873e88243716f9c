//! What this node and its pods use, in the forms in which a kubelet tells it: `/stats/summary` for people and dashboards,
//! `/metrics/resource` for metrics-server, `/metrics/cadvisor` for Prometheus. The stream agent asks through the tunnel;
//! nothing here listens, and nothing is measured unless somebody asks.

mod exposition;
mod rates;
mod summary;

use crate::base::{Failure, now_ms};
use crate::daemon::edge::pod::{PodHandle, PodUse};
use crate::host::facts::Measured;
use crate::host::usage::Usage;
use rates::Rates;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Answers for one node.
pub struct Metrics {
    node: String,
    /// On the file system that holds the pods.
    disk: PathBuf,
    pods: PodHandle,
    rates: Mutex<Rates>,
}

/// Everything that was measured for one answer.
pub(super) struct Measurement {
    node: String,
    /// Milliseconds since the epoch.
    at: i64,
    usage: Usage,
    measured: Measured,
    /// Billionths of a processor; unknown at the first look.
    nano_cores: Option<u64>,
    pods: Vec<PodUse>,
    /// Whether the runtime could not be asked.
    failed: bool,
}

/// What a path of the kubelet's API asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Summary { only_cpu_and_memory: bool },
    Resource,
    Cadvisor,
}

fn form(path: &str, query: &str) -> Option<Form> {
    match path {
        "/stats/summary" => {
            let only = query
                .split('&')
                .any(|pair| matches!(pair, "only_cpu_and_memory=true" | "only_cpu_and_memory=1"));
            Some(Form::Summary { only_cpu_and_memory: only })
        }
        "/metrics/resource" => Some(Form::Resource),
        "/metrics/cadvisor" => Some(Form::Cadvisor),
        _ => None,
    }
}

impl Metrics {
    pub fn new(node: String, disk: PathBuf, pods: PodHandle) -> Metrics {
        Metrics { node, disk, pods, rates: Mutex::default() }
    }

    /// The text that a kubelet would answer on this path. The error is a sentence for the person who asked.
    pub async fn answer(&self, path: &str, query: &str) -> Result<String, String> {
        let form = form(path, query).ok_or_else(|| format!("{path} is not served by the node"))?;
        let measurement = self.measure().await;
        match (form, measurement) {
            // Half an answer has a place in resource metrics alone, which say that it is half.
            (Form::Resource, (measurement, _)) => Ok(exposition::resource(&measurement)),
            (_, (_, Some(failure))) => Err(failure.to_string()),
            (Form::Cadvisor, (measurement, None)) => Ok(exposition::cadvisor(&measurement)),
            (Form::Summary { only_cpu_and_memory }, (measurement, None)) => {
                Ok(format!("{}\n", summary::document(&measurement, only_cpu_and_memory)))
            }
        }
    }

    async fn measure(&self) -> (Measurement, Option<Failure>) {
        let disk = self.disk.clone();
        let machine = tokio::task::spawn_blocking(move || (Usage::read(), Measured::read(&disk)));
        let (pods, machine) = tokio::join!(self.pods.usage(), machine);
        let (usage, measured) = machine.unwrap_or_default();
        let at = now_ms();
        let (mut pods, failure) = match pods {
            Ok(pods) => (pods, None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        let nano_cores = {
            let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
            rates.fill(&mut pods);
            let nano_cores = rates.of("", at, usage.cpu_nanos);
            rates.forget(at);
            nano_cores
        };
        let failed = failure.is_some();
        (Measurement { node: self.node.clone(), at, usage, measured, nano_cores, pods, failed }, failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_kubelet_are_known() {
        assert_eq!(form("/stats/summary", ""), Some(Form::Summary { only_cpu_and_memory: false }));
        let only = form("/stats/summary", "a=b&only_cpu_and_memory=true");
        assert_eq!(only, Some(Form::Summary { only_cpu_and_memory: true }));
        assert_eq!(form("/metrics/resource", ""), Some(Form::Resource));
        for other in ["/metrics", "/stats", "/metrics/resource/", "/", "http://x/metrics/resource"] {
            assert_eq!(form(other, ""), None, "{other}");
        }
    }
}
