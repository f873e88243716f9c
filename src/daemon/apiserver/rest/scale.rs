//! The scale subresource: `autoscaling/v1` Scale over the number of replicas that a resource keeps somewhere.

use super::Api;
use crate::daemon::apiserver::catalog::Scale;
use crate::daemon::apiserver::errors;
use crate::daemon::apiserver::ops::{Options, Patch, Target};
use crate::daemon::apiserver::patch;
use crate::model::Status;
use serde_json::{Value, json};

fn pointer(path: &str) -> String {
    path.replace('.', "/")
}

fn selector_text(selector: &Value) -> String {
    if let Some(text) = selector.as_str() {
        return text.to_owned();
    }
    let pairs = selector["matchLabels"].as_object().or_else(|| selector.as_object());
    let mut parts: Vec<String> = pairs
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| value.as_str().map(|value| format!("{key}={value}")))
        .collect();
    parts.sort();
    parts.join(",")
}

fn view(object: &Value, paths: &Scale) -> Value {
    let number = |path: &str| object.pointer(&pointer(path)).cloned().unwrap_or_else(|| json!(0));
    let meta = &object["metadata"];
    let selector = match &paths.selector {
        Some(path) => object.pointer(&pointer(path)).map(selector_text).unwrap_or_default(),
        None => selector_text(&object["spec"]["selector"]),
    };
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !meta[field].is_null() {
            metadata[field] = meta[field].clone();
        }
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": number(&paths.spec)},
        "status": {"replicas": number(&paths.status), "selector": selector}})
}

impl Api {
    fn scale_paths(target: &Target) -> Result<Scale, Status> {
        let version = target.resource.version(&target.version);
        version.and_then(|v| v.scale.clone()).ok_or_else(errors::unknown_path)
    }

    pub(super) fn get_scale(&self, target: &Target) -> Result<Value, Status> {
        let paths = Self::scale_paths(target)?;
        Ok(view(&*self.ops.get(target)?, &paths))
    }

    /// Replaces (`None`) or patches a Scale.
    pub(super) async fn set_scale(
        &self,
        target: Target,
        wish: ScaleWish,
        options: Options,
    ) -> Result<Value, Status> {
        let paths = Self::scale_paths(&target)?;
        let present = self.get_scale(&target)?;
        // A patch carries the revision that was read here; only one that names another asks for a comparison.
        let asks_revision = match &wish {
            ScaleWish::Whole(_) => true,
            ScaleWish::Patch(Patch::Json(_)) => false,
            ScaleWish::Patch(Patch::Merge(body) | Patch::Strategic(body)) => {
                !body["metadata"]["resourceVersion"].is_null()
            }
            ScaleWish::Patch(Patch::Apply { config, .. }) => !config["metadata"]["resourceVersion"].is_null(),
        };
        let wanted = match wish {
            ScaleWish::Whole(scale) => scale,
            ScaleWish::Patch(Patch::Json(body)) => patch::json(&present, &body)?,
            ScaleWish::Patch(Patch::Merge(body) | Patch::Strategic(body)) => {
                patch::merge(present.clone(), &body)
            }
            ScaleWish::Patch(Patch::Apply { config, .. }) => patch::merge(present.clone(), &config),
        };
        let replicas = match &wanted["spec"]["replicas"] {
            Value::Null => 0,
            number => number.as_i64().ok_or_else(|| {
                errors::bad_request(format!(
                    "Scale in version \"v1\" cannot be handled: replicas is {number}"
                ))
            })?,
        };
        if replicas < 0 {
            let message = "must be greater than or equal to 0";
            let cause = errors::Cause::invalid("spec.replicas", &json!(replicas), message);
            return Err(errors::invalid(&target.resource, &target.name, &[cause]));
        }
        let mut change = json!(replicas);
        for part in paths.spec.trim_start_matches('.').rsplit('.') {
            change = json!({ part: change });
        }
        let revision = &wanted["metadata"]["resourceVersion"];
        if revision.as_str().is_some_and(|text| !text.is_empty()) && asks_revision {
            change["metadata"]["resourceVersion"] = revision.clone();
        }
        let mut main = target;
        main.subresource = None;
        let outcome = self.ops.patch(main, Patch::Merge(change), options).await?;
        Ok(view(&outcome.object, &paths))
    }
}

/// How a Scale is changed.
pub enum ScaleWish {
    Whole(Value),
    Patch(Patch),
}
