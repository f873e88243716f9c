//! List, then watch from there, for ever: resumes from the last resourceVersion after a broken connection, lists again
//! when the history is gone. The reader gets one queue of events and never sees a connection.

use super::client::{Kube, slim};
use super::resource::Resource;
use super::{is_temporary, meta, revision};
use crate::base::{Backoff, Failure};
use crate::model::{Revision, Status};
use bytes::{Buf, BytesMut};
use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The server ends each watch after this; a fresh one also finds a half-open connection.
const WATCH_SECONDS: u64 = 290;
/// A watch that lasted so long was a good one.
const STEADY: Duration = Duration::from_secs(5);
const LINE_LIMIT: usize = 16 << 20;

/// What happened to objects of one resource.
#[derive(Debug)]
pub(in crate::daemon::cloud) enum Event {
    /// A list begins: objects not seen until [`Event::Listed`] are gone.
    Listing,
    /// The object is now this; `listed` when it came with a list.
    Applied {
        object: Value,
        listed: bool,
    },
    Deleted(Value),
    Listed,
}

/// What to watch.
#[derive(Clone, Copy, Debug)]
pub(in crate::daemon::cloud) struct Scope {
    pub resource: Resource,
    /// An encoded `fieldSelector=…` or `labelSelector=…`, or nothing.
    pub selector: &'static str,
}

enum Ended {
    Resume,
    ListAgain,
    ReaderGone,
}

/// Follows a resource until the reader is gone; the only way it ends.
pub(in crate::daemon::cloud) async fn follow(
    kube: Kube,
    scope: Scope,
    events: mpsc::Sender<Event>,
) -> Result<(), Failure> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
    let mut from: Option<String> = None;
    loop {
        let began = Instant::now();
        let outcome = match &mut from {
            None => match list(&kube, scope, &events).await {
                Ok(Some(version)) => {
                    from = Some(version);
                    backoff.reset();
                    continue;
                }
                Ok(None) => return Ok(()),
                Err(status) => Err(status),
            },
            Some(version) => watch(&kube, scope, version, &events).await,
        };
        let steady = began.elapsed() >= STEADY;
        match outcome {
            Ok(Ended::ReaderGone) => return Ok(()),
            Ok(Ended::ListAgain) => from = None,
            Ok(Ended::Resume) if steady => backoff.reset(),
            // A server that closes every watch at once is not stormed.
            Ok(Ended::Resume) => tokio::time::sleep(backoff.next_wait()).await,
            Err(status) => {
                // Gone history, or a revision that this API never had: only a list helps.
                if !is_temporary(&status) || status.code == 504 {
                    from = None;
                }
                let wait = backoff.next_wait();
                tracing::debug!(
                    resource = scope.resource.plural,
                    code = status.code,
                    reason = status.reason,
                    "a watch is tried again"
                );
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn list(kube: &Kube, scope: Scope, events: &mpsc::Sender<Event>) -> Result<Option<String>, Status> {
    // Collected before it is handed over: a list that breaks off in its middle must not make objects vanish.
    let mut objects = Vec::new();
    let version = kube.list(scope.resource, None, scope.selector, |object| objects.push(object)).await?;
    if events.send(Event::Listing).await.is_err() {
        return Ok(None);
    }
    for object in objects {
        if events.send(Event::Applied { object, listed: true }).await.is_err() {
            return Ok(None);
        }
    }
    Ok(events.send(Event::Listed).await.ok().map(|()| version))
}

async fn watch(
    kube: &Kube,
    scope: Scope,
    version: &mut String,
    events: &mpsc::Sender<Event>,
) -> Result<Ended, Status> {
    let mut path = scope.resource.path(None, None, None);
    path += &format!(
        "?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
    );
    if !scope.selector.is_empty() {
        path.push('&');
        path += scope.selector;
    }
    let request = Request::get(&path).header("Accept", "application/json").body(Body::empty());
    let request = request.map_err(|error| Status::failure(400, "BadRequest", error.to_string()))?;
    let mut body = kube.send(request).await?.into_body();
    let mut held = BytesMut::new();
    let silence = Duration::from_secs(WATCH_SECONDS + 30);
    loop {
        let frame = tokio::select! {
            frame = tokio::time::timeout(silence, body.frame()) => frame,
            () = events.closed() => return Ok(Ended::ReaderGone),
        };
        let Ok(Some(Ok(frame))) = frame else { return Ok(Ended::Resume) };
        let Ok(data) = frame.into_data() else { continue };
        held.extend_from_slice(&data);
        while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
            let line = held.split_to(end);
            held.advance(1);
            if let Some(ended) = event(scope, &line, version, events).await? {
                return Ok(ended);
            }
        }
        if held.len() > LINE_LIMIT {
            return Err(Status::failure(500, "InternalError", "an event of a watch is too large"));
        }
    }
}

async fn event(
    scope: Scope,
    line: &[u8],
    version: &mut String,
    events: &mpsc::Sender<Event>,
) -> Result<Option<Ended>, Status> {
    if line.is_empty() {
        return Ok(None);
    }
    let Ok(mut parsed) = serde_json::from_slice::<Value>(line) else { return Ok(Some(Ended::Resume)) };
    let object = parsed.get_mut("object").map(Value::take).unwrap_or_default();
    let kind = parsed.get("type").and_then(Value::as_str).unwrap_or("");
    if kind == "ERROR" {
        let status: Status = serde_json::from_value(object).unwrap_or_default();
        return if status.code == 410 { Ok(Some(Ended::ListAgain)) } else { Err(status) };
    }
    if revision(&object) != Revision::default() {
        meta(&object, "resourceVersion").clone_into(version);
    }
    let event = match kind {
        "ADDED" | "MODIFIED" => Event::Applied { object: slim(object, scope.resource), listed: false },
        "DELETED" => Event::Deleted(slim(object, scope.resource)),
        _ => return Ok(None),
    };
    Ok(events.send(event).await.is_err().then_some(Ended::ReaderGone))
}
