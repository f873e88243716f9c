//! Removes Events an hour after they last happened.

use crate::base::now;
use crate::daemon::apiserver::controllers::events::EVENTS;
use crate::daemon::apiserver::controllers::read::{created, key, split, time};
use crate::daemon::apiserver::controllers::runner::{Controller, Next, Seen, World};
use crate::daemon::apiserver::local::{Collection, Deletion};
use crate::model::Status;
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;

const KEPT_SECONDS: i64 = 3600;

/// Seconds until an Event has been kept long enough.
fn left(event: &Value, at: Timestamp) -> i64 {
    let last = time(&event["series"]["lastObservedTime"]).or_else(|| time(&event["lastTimestamp"]));
    let last = last.or_else(|| time(&event["eventTime"])).max(created(event)).unwrap_or(at);
    (last.as_second() + KEPT_SECONDS - at.as_second()).max(0)
}

pub(in crate::daemon::apiserver::controllers) struct Expiry(
    pub(in crate::daemon::apiserver::controllers) World,
);

impl Controller for Expiry {
    fn name(&self) -> &'static str {
        "event-expiry"
    }

    fn follows(&self) -> Vec<Collection> {
        vec![EVENTS]
    }

    async fn keys(&self, seen: &Seen) -> Vec<String> {
        if seen.gone { Vec::new() } else { vec![key(&seen.object)] }
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Status> {
        let local = &self.0.local;
        let (namespace, name) = split(key);
        let event = match local.get(&EVENTS, Some(namespace), name).await {
            Ok(event) => event,
            Err(error) if error.is_not_found() => return Ok(Next::Done),
            Err(error) => return Err(error),
        };
        let left = left(&event, now());
        if left > 0 {
            return Ok(Next::After(Duration::from_secs(left.unsigned_abs())));
        }
        match local.delete(&EVENTS, Some(namespace), name, Deletion::default()).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(Next::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_kept_for_an_hour_after_it_last_happened() {
        let event = json!({"metadata": {"creationTimestamp": "1970-01-01T00:00:00Z"}, "lastTimestamp": "1970-01-01T00:10:00Z"});
        assert_eq!(left(&event, Timestamp::from_second(600).unwrap()), 3600);
        assert_eq!(left(&event, Timestamp::from_second(4_200).unwrap()), 0);
    }
}
