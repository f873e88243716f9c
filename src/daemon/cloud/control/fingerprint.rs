//! Tells a change of metadata or spec from a change of status, without keeping the object.

use serde_json::Value;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// Changes when metadata (but for its bookkeeping) or spec changes.
pub(super) fn of(object: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Some(metadata) = object.get("metadata").and_then(Value::as_object) {
        for (name, value) in metadata {
            if !matches!(name.as_str(), "resourceVersion" | "managedFields" | "generation") {
                name.hash(&mut hasher);
                value.hash(&mut hasher);
            }
        }
    }
    object.get("spec").hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn status_and_bookkeeping_do_not_count() {
        let before =
            json!({"metadata": {"name": "p", "resourceVersion": "1"}, "spec": {"a": 1}, "status": {}});
        let mut after = before.clone();
        after["metadata"]["resourceVersion"] = json!("2");
        after["status"] = json!({"phase": "Running"});
        assert_eq!(of(&before), of(&after));
        after["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_ne!(of(&before), of(&after));
        let mut spec = before.clone();
        spec["spec"]["a"] = json!(2);
        assert_ne!(of(&before), of(&spec));
    }
}
