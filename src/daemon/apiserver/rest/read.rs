//! GET of objects and collections: one object, a list in pages, or a watch.

use super::path::{Query, Shape};
use super::watch::{Beginning, Course, Filter, View, body};
use super::{Api, reply};
use crate::base::Stop;
use crate::daemon::apiserver::errors;
use crate::daemon::apiserver::ops::{Target, present};
use crate::daemon::apiserver::selector::{FieldSelector, LabelSelector};
use crate::link::http::{Body, stream};
use crate::model::{Revision, Status};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A watch without a time limit of its own ends after this, as upstream's do between 30 and 60 minutes.
const WATCH_LIMIT: Duration = Duration::from_secs(45 * 60);

pub(super) fn filter(target: &Target, query: &Query) -> Result<Filter, Status> {
    let labels = LabelSelector::parse(query.get("labelSelector"))?;
    let mut text = query.get("fieldSelector").to_owned();
    if !target.name.is_empty() {
        let own = format!("metadata.name={}", target.name);
        text = if text.is_empty() { own } else { format!("{text},{own}") };
    }
    let fields = FieldSelector::parse(&text)?;
    if !target.resource.custom {
        fields.check(&target.resource.group, &target.resource.kind, &[])?;
    }
    Ok(Filter { namespace: target.namespace.clone(), labels, fields })
}

impl Api {
    pub(super) fn get(&self, target: &Target, shape: Shape) -> Result<Response<Body>, Status> {
        let object = self.ops.get(target)?;
        let version = target.resource.version(&target.version).ok_or_else(errors::unknown_path)?;
        Ok(reply::bytes(StatusCode::OK, reply::shaped(&target.resource, version, shape, &object)))
    }

    pub(super) fn list(
        &self,
        target: &Target,
        query: &Query,
        shape: Shape,
    ) -> Result<Response<Body>, Status> {
        let filter = filter(target, query)?;
        let resource = &target.resource;
        let version = resource.version(&target.version).ok_or_else(errors::unknown_path)?;
        let page = Page::read(query)?;
        let (all, revision) = self.snapshot(target, query, page.as_ref())?;
        let after = page.map(|page| page.after);
        let limit = query.number("limit").and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let place = |object: &Value| {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
            (text("namespace"), text("name"))
        };
        let mut found = all
            .iter()
            .filter(|object| after.as_ref().is_none_or(|after| place(object) > *after))
            .filter(|object| filter.matches(object));
        let chosen: Vec<Arc<Value>> = match limit {
            None => found.by_ref().map(|object| present(resource, &target.version, object)).collect(),
            Some(limit) => {
                found.by_ref().take(limit).map(|object| present(resource, &target.version, object)).collect()
            }
        };
        let left = found.count();
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if let Some(last) = chosen.last().filter(|_| left > 0) {
            metadata["continue"] = Page { revision: revision.0, after: place(last) }.write().into();
            if filter.labels.is_everything() && filter.fields.is_everything() {
                metadata["remainingItemCount"] = json!(left);
            }
        }
        Ok(reply::bytes(StatusCode::OK, reply::list(resource, version, shape, metadata, &chosen)))
    }

    /// What a list is made of: the present, or the past that a continuation or `resourceVersionMatch=Exact` names, so
    /// that the pages of a list fit together whatever happens between them.
    fn snapshot(
        &self,
        target: &Target,
        query: &Query,
        page: Option<&Page>,
    ) -> Result<(Vec<Arc<Value>>, Revision), Status> {
        let store = &self.ops.store;
        let (collection, namespace) = (&target.resource.collection, target.namespace.as_deref());
        let past = match page {
            Some(page) => Some(Revision(page.revision)),
            None => exact_revision(query, store.revision())?,
        };
        let Some(revision) = past else { return Ok(store.list(collection, namespace)) };
        let all = store.list_at(collection, namespace, revision).map_err(|_expired| {
            errors::expired(match page {
                Some(_) => {
                    "The provided continue parameter is too old to display a consistent list result. You \
                    must start a new list without the continue parameter."
                        .to_owned()
                }
                None => format!("The resourceVersion for the provided list is too old: {revision}"),
            })
        })?;
        Ok((all, revision))
    }

    pub(super) fn watch(
        &self,
        target: &Target,
        query: &Query,
        shape: Shape,
        stop: Stop,
    ) -> Result<Response<Body>, Status> {
        let filter = filter(target, query)?;
        let asked = query.get("resourceVersion");
        let send_initial = query.is_true("sendInitialEvents");
        let fresh = send_initial || asked.is_empty() || asked == "0";
        let collection = &target.resource.collection;
        let beginning = if fresh && query.get("sendInitialEvents") != "false" {
            let (all, revision) = self.ops.store.list(collection, target.namespace.as_deref());
            let objects = all.into_iter().filter(|object| filter.matches(object)).collect();
            Some(Beginning { objects, revision, closing_bookmark: send_initial })
        } else {
            None
        };
        let from = match &beginning {
            Some(beginning) => beginning.revision,
            None if asked.is_empty() || asked == "0" => self.ops.store.revision(),
            None => Revision::parse(asked)
                .ok_or_else(|| errors::bad_request(format!("Invalid value: \"{asked}\": resourceVersion")))?,
        };
        let limit = query.number("timeoutSeconds").and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        let limit = limit.map_or(WATCH_LIMIT, |n| Duration::from_secs(n).min(WATCH_LIMIT));
        let view = View { resource: target.resource.clone(), version: target.version.clone(), shape };
        let feed = self.ops.store.feed(collection, from);
        let bookmarks = query.is_true("allowWatchBookmarks");
        let pieces = body(view, filter, feed, beginning, Course { bookmarks, limit, stop });
        let mut response = reply::bytes(StatusCode::OK, Vec::new());
        *response.body_mut() = stream(pieces);
        Ok(response)
    }
}

/// The revision that a list must show exactly; an asked revision of the future is refused.
fn exact_revision(query: &Query, now: Revision) -> Result<Option<Revision>, Status> {
    let (asked, how) = (query.get("resourceVersion"), query.get("resourceVersionMatch"));
    let wrong = |message: String| Err(errors::bad_request(message));
    match how {
        "" => {}
        "Exact" | "NotOlderThan" if asked.is_empty() => {
            return wrong("resourceVersionMatch is forbidden unless resourceVersion is provided".to_owned());
        }
        "Exact" if asked == "0" => {
            return wrong("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"".to_owned());
        }
        "Exact" | "NotOlderThan" => {}
        other => return wrong(format!("resourceVersionMatch: Unsupported value: \"{other}\"")),
    }
    if asked.is_empty() {
        return Ok(None);
    }
    let asked = Revision::parse(asked)
        .ok_or_else(|| errors::bad_request(format!("Invalid value: \"{asked}\": resourceVersion")))?;
    if asked > now {
        let mut status =
            Status::failure(504, "Timeout", format!("Too large resource version: {asked}, current: {now}"));
        status.details = Some(json!({"retryAfterSeconds": 1,
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}));
        return Err(status);
    }
    Ok((how == "Exact").then_some(asked))
}

/// Where the next page of a list begins.
struct Page {
    revision: u64,
    after: (String, String),
}

impl Page {
    fn write(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!([self.revision, self.after.0, self.after.1]).to_string())
    }

    fn read(query: &Query) -> Result<Option<Page>, Status> {
        let token = query.get("continue");
        if token.is_empty() {
            return Ok(None);
        }
        let decoded = URL_SAFE_NO_PAD.decode(token).ok();
        let fields: Option<(u64, String, String)> =
            decoded.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let (revision, namespace, name) =
            fields.ok_or_else(|| errors::bad_request("continue key is not valid"))?;
        Ok(Some(Page { revision, after: (namespace, name) }))
    }
}
