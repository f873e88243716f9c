//! The binding subresource of Pods: gives a pod its node, once.

use super::{Ops, Options, Target};
use crate::base::rfc3339;
use crate::daemon::apiserver::errors;
use crate::model::Status;
use serde_json::{Value, json};
use std::sync::Arc;

impl Ops {
    /// Carries out a `v1` Binding.
    pub async fn bind(&self, target: Target, binding: Value, options: Options) -> Result<Arc<Value>, Status> {
        let node = binding["target"]["name"].as_str().unwrap_or("").to_owned();
        if node.is_empty() {
            let cause = errors::Cause::required("target.name", "");
            return Err(errors::invalid(&target.resource, &target.name, &[cause]));
        }
        self.store
            .commit(move |txn| {
                let (resource, key) = (&target.resource, target.key());
                let old = txn.get(&key).ok_or_else(|| errors::not_found(resource, &key.name))?;
                let refuse = |why: String| Err(errors::conflict(resource, &key.name, &why));
                if !old["metadata"]["deletionTimestamp"].is_null() {
                    return refuse(format!(
                        "pod {} is being deleted, cannot be assigned to a host",
                        key.name
                    ));
                }
                if let Some(present) = old["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
                    return refuse(format!("pod {} is already assigned to node \"{present}\"", key.name));
                }
                let mut pod = Value::clone(&old);
                pod["spec"]["nodeName"] = json!(node);
                set_scheduled(&mut pod, &rfc3339(options.at));
                let pod = txn.put(key, pod);
                if options.dry_run {
                    txn.discard();
                }
                Ok(pod)
            })
            .await
    }
}

fn set_scheduled(pod: &mut Value, at: &str) {
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": at});
    let Some(list) = pod["status"]["conditions"].as_array_mut() else {
        pod["status"]["conditions"] = json!([condition]);
        return;
    };
    list.retain(|c| c["type"] != "PodScheduled");
    list.push(condition);
}
