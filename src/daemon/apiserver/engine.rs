//! The pure functions that requests are carried out with, in the reduced form that suffices for merge patches.

pub mod apply {
    use crate::model::Status;
    use jiff::Timestamp;
    use serde_json::Value;
    pub struct Facts;
    impl Facts {
        pub fn of(_target: &crate::daemon::apiserver::ops::Target) -> Facts {
            Facts
        }
    }
    pub fn apply(
        _facts: &Facts,
        live: Option<&Value>,
        config: &Value,
        _manager: &str,
        _force: bool,
        _now: Timestamp,
    ) -> Result<Value, Status> {
        let mut merged = live.cloned().unwrap_or_else(|| config.clone());
        json_patch::merge(&mut merged, config);
        Ok(merged)
    }
    #[expect(clippy::too_many_arguments, reason = "the signature that the field manager has")]
    pub fn update_managed_fields(
        _facts: &Facts,
        _old: Option<&Value>,
        _new: &mut Value,
        _manager: &str,
        _operation: &str,
        _subresource: Option<&str>,
        _now: Timestamp,
    ) {
    }
}
