//! Watches over HTTP: one JSON line per change, sent as soon as it is committed, until the time limit, the history's
//! end or the server's.

use super::path::Shape;
use super::reply;
use crate::base::Stop;
use crate::daemon::apiserver::catalog::Resource;
use crate::daemon::apiserver::errors;
use crate::daemon::apiserver::ops::present;
use crate::daemon::apiserver::selector::{FieldSelector, LabelSelector};
use crate::daemon::apiserver::storage::{Event, Feed, Verb};
use crate::model::Revision;
use bytes::Bytes;
use futures_util::Stream;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Interval, interval_at, sleep_until};

const BOOKMARK_EVERY: Duration = Duration::from_secs(50);
/// Changes that are ready together travel together, up to this size.
const PIECE: usize = 64 << 10;

/// Which objects a list or a watch is about.
pub struct Filter {
    pub namespace: Option<String>,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
}

impl Filter {
    pub fn matches(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }
}

/// How objects are shown.
#[derive(Clone)]
pub struct View {
    pub resource: Arc<Resource>,
    pub version: String,
    pub shape: Shape,
}

impl View {
    fn line(&self, out: &mut Vec<u8>, word: &str, object: &Arc<Value>) {
        let Some(version) = self.resource.version(&self.version) else { return };
        let object = present(&self.resource, &self.version, object);
        out.extend_from_slice(format!("{{\"type\":\"{word}\",\"object\":").as_bytes());
        out.extend(reply::shaped(&self.resource, version, self.shape, &object));
        out.extend_from_slice(b"}\n");
    }

    fn bookmark(&self, revision: Revision, initial_end: bool) -> Vec<u8> {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, api) = match self.shape {
            Shape::Metadata => ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned()),
            Shape::Whole | Shape::Table(_) => {
                (self.resource.kind.clone(), self.resource.api_version(&self.version))
            }
        };
        let object = json!({"kind": kind, "apiVersion": api, "metadata": metadata});
        let mut line = json!({"type": "BOOKMARK", "object": object}).to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

/// The present objects that a watch begins with, and whether a bookmark says that they are all.
pub struct Beginning {
    pub objects: Vec<Arc<Value>>,
    pub revision: Revision,
    pub closing_bookmark: bool,
}

/// How a watch goes on and when it ends.
pub struct Course {
    pub bookmarks: bool,
    pub limit: Duration,
    pub stop: Stop,
}

struct Watch {
    feed: Feed,
    view: View,
    filter: Filter,
    first: VecDeque<Bytes>,
    bookmarks: Option<Interval>,
    deadline: Instant,
    stop: Stop,
    over: bool,
}

/// The body of a watch.
pub fn body(
    view: View,
    filter: Filter,
    feed: Feed,
    beginning: Option<Beginning>,
    course: Course,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let mut first = VecDeque::new();
    if let Some(beginning) = beginning {
        let mut piece = Vec::new();
        for object in &beginning.objects {
            view.line(&mut piece, "ADDED", object);
            if piece.len() >= PIECE {
                first.push_back(Bytes::from(std::mem::take(&mut piece)));
            }
        }
        if beginning.closing_bookmark {
            piece.extend(view.bookmark(beginning.revision, true));
        }
        if !piece.is_empty() {
            first.push_back(Bytes::from(piece));
        }
    }
    let now = Instant::now();
    let watch = Watch {
        feed,
        view,
        filter,
        first,
        bookmarks: course.bookmarks.then(|| interval_at(now + BOOKMARK_EVERY, BOOKMARK_EVERY)),
        deadline: now + course.limit,
        stop: course.stop,
        over: false,
    };
    futures_util::stream::unfold(watch, |mut watch| async move {
        let piece = watch.piece().await?;
        Some((Ok(piece), watch))
    })
}

enum Woken {
    Change(Result<Arc<Event>, crate::daemon::apiserver::local::Expired>),
    Bookmark,
    End,
}

impl Watch {
    /// The next piece of the body; `None` ends it.
    async fn piece(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.first.pop_front() {
            return Some(piece);
        }
        loop {
            if self.over {
                return None;
            }
            let mut piece = Vec::new();
            match self.woken().await {
                Woken::End => return None,
                Woken::Bookmark => {
                    if let Some(revision) = self.feed.caught_up() {
                        piece = self.view.bookmark(revision, false);
                    }
                }
                Woken::Change(Ok(event)) => {
                    self.write(&mut piece, &event);
                    self.write_ready(&mut piece);
                }
                Woken::Change(Err(_expired)) => self.write_expired(&mut piece),
            }
            if !piece.is_empty() {
                return Some(Bytes::from(piece));
            }
        }
    }

    async fn woken(&mut self) -> Woken {
        let bookmarks = self.bookmarks.as_mut();
        let bookmark = async {
            match bookmarks {
                Some(interval) => drop(interval.tick().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.stop.raised() => Woken::End,
            event = self.feed.next() => Woken::Change(event),
            () = bookmark => Woken::Bookmark,
            () = sleep_until(self.deadline) => Woken::End,
        }
    }

    /// Adds the changes that are ready already.
    fn write_ready(&mut self, piece: &mut Vec<u8>) {
        while piece.len() < PIECE {
            match self.feed.try_next() {
                Ok(Some(event)) => self.write(piece, &event),
                Ok(None) => return,
                Err(_expired) => {
                    self.write_expired(piece);
                    return;
                }
            }
        }
    }

    fn write_expired(&mut self, piece: &mut Vec<u8>) {
        self.over = true;
        let status = errors::expired("The resourceVersion for the provided watch is too old.");
        piece.extend(json!({"type": "ERROR", "object": errors::body(&status)}).to_string().into_bytes());
        piece.push(b'\n');
    }

    /// A change as this watch sees it: who begins to match is added, who ceases to is deleted.
    fn write(&self, piece: &mut Vec<u8>, event: &Event) {
        if self.filter.namespace.as_ref().is_some_and(|namespace| *namespace != event.namespace) {
            return;
        }
        let before = event.previous.as_ref().is_some_and(|object| self.filter.matches(object));
        let after = event.verb != Verb::Deleted && self.filter.matches(&event.object);
        match (before, after) {
            (false, false) => {}
            (false, true) => self.view.line(piece, "ADDED", &event.object),
            (true, true) => self.view.line(piece, "MODIFIED", &event.object),
            (true, false) if event.verb == Verb::Deleted => self.view.line(piece, "DELETED", &event.object),
            // It goes as the watcher knew it, with the revision of its going.
            (true, false) => {
                let mut last = Value::clone(event.previous.as_ref().unwrap_or(&event.object));
                last["metadata"]["resourceVersion"] = event.revision.to_string().into();
                self.view.line(piece, "DELETED", &Arc::new(last));
            }
        }
    }
}
