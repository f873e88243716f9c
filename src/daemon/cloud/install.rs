//! Puts KubeEdge's definitions into the API and waits until it serves them. Runs once at start, when told to.

use super::kubernetes::{Kube, Patch, Resource};
use crate::base::{Backoff, Failure};
use crate::model::{Status, resources};
use serde_json::Value;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

fn failed(name: &str, status: &Status) -> Failure {
    Failure::new("KE-CLOUD-020", format!("cannot install the definition {name}")).because(status).fix(
        "give the cloud the right to change CustomResourceDefinitions, or apply manifests/crds yourself and switch kedge.installCRDs off in cloudcore.yaml",
    )
}

/// Applies every definition with the cloud's own field manager and waits until all are established.
pub(super) async fn definitions(kube: &Kube) -> Result<(), Failure> {
    for crd in resources::all_crds() {
        let name = super::kubernetes::meta(&crd, "name").to_owned();
        let body = crd.to_string().into_bytes();
        let applied = kube
            .insist(LIMIT, || {
                let target = (name.as_str(), None);
                kube.patch(Resource::CUSTOM_RESOURCE_DEFINITION, None, target, Patch::Apply, body.clone())
            })
            .await;
        applied.map_err(|status| failed(&name, &status))?;
    }
    let started = Instant::now();
    for resource in resources::all() {
        let name = resource.crd_name();
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(500));
        loop {
            let crd = kube.get(Resource::CUSTOM_RESOURCE_DEFINITION, None, &name).await;
            if crd.as_ref().is_ok_and(is_established) {
                break;
            }
            if started.elapsed() > LIMIT {
                let late = Status::failure(504, "Timeout", "it is not established in time");
                return Err(failed(&name, &crd.err().unwrap_or(late)));
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }
    Ok(())
}

/// Whether the API serves a definition.
pub(super) fn is_established(crd: &Value) -> bool {
    let conditions = crd.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|it| it["type"] == "Established" && it["status"] == "True")
}
