//! Secrets of namespace `kubeedge`, as `trust` and `tokens` read and write them. A write creates, or replaces exactly
//! what was read: whoever comes second reads again. No value of a Secret reaches a log line.

use super::super::kubernetes::{Kube, Resource};
use crate::base::Failure;
use crate::model::Status;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::time::Duration;

pub const NAMESPACE: &str = "kubeedge";
pub(super) const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn failed(what: &str, status: &Status) -> Failure {
    Failure::new("KE-CLOUD-021", format!("cannot keep {what} in namespace {NAMESPACE}"))
        .because(status)
        .fix("give the cloud the right to create Secrets there, as `kedge init` does")
}

/// Makes the namespace when it is missing.
pub(super) async fn ensure_namespace(kube: &Kube) -> Result<(), Failure> {
    // A cloud that was installed may look at it and no more.
    if kube.insist(LIMIT, || kube.get(Resource::NAMESPACE, None, NAMESPACE)).await.is_ok() {
        return Ok(());
    }
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    match kube.insist(LIMIT, || kube.create(Resource::NAMESPACE, None, &namespace)).await {
        Err(status) if !status.already_exists() => Err(failed("its Secrets", &status)),
        _ => Ok(()),
    }
}

/// A Secret of the cloud; `None` when there is none.
pub(in crate::daemon::cloud) async fn secret(kube: &Kube, name: &str) -> Result<Option<Value>, Status> {
    match kube.insist(LIMIT, || kube.get(Resource::SECRET, Some(NAMESPACE), name)).await {
        Ok(secret) => Ok(Some(secret)),
        Err(status) if status.is_not_found() => Ok(None),
        Err(status) => Err(status),
    }
}

/// One value of a Secret.
pub(in crate::daemon::cloud) fn bytes(secret: &Value, key: &str) -> Option<Vec<u8>> {
    STANDARD.decode(secret.get("data")?.get(key)?.as_str()?).ok()
}

/// Creates a Secret; `false` when there is one already.
pub(in crate::daemon::cloud) async fn create(
    kube: &Kube,
    name: &str,
    data: &[(&str, Vec<u8>)],
) -> Result<bool, Status> {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "type": "Opaque",
        "data": encoded(data),
    });
    match kube.insist(LIMIT, || kube.create(Resource::SECRET, Some(NAMESPACE), &secret)).await {
        Ok(_) => Ok(true),
        Err(status) if status.already_exists() => Ok(false),
        Err(status) => Err(status),
    }
}

/// Puts these values into the Secret that was read, or into a new one; `false` when somebody else has written since.
pub(in crate::daemon::cloud) async fn write(
    kube: &Kube,
    name: &str,
    found: Option<Value>,
    data: &[(&str, Vec<u8>)],
) -> Result<bool, Status> {
    let Some(mut secret) = found else { return create(kube, name, data).await };
    secret["data"] = encoded(data);
    match kube.insist(LIMIT, || kube.replace(Resource::SECRET, Some(NAMESPACE), name, &secret)).await {
        Ok(_) => Ok(true),
        Err(status) if status.is_conflict() || status.is_not_found() => Ok(false),
        Err(status) => Err(status),
    }
}

fn encoded(data: &[(&str, Vec<u8>)]) -> Value {
    data.iter()
        .map(|(key, value)| ((*key).to_owned(), json!(STANDARD.encode(value))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
