//! Runs one controller: follows its collections, keeps the keys that changed in its queue, works on them one by one.
//! Objects are read from the API's own memory at the moment of work, so no controller keeps a copy of anything.

use super::events::{EVENTS, Recorder};
use super::queue::Queue;
use super::read::{name, namespace};
use crate::base::{Backoff, BoxFuture, Crew, Stop};
use crate::daemon::apiserver::local::{Change, Collection, Local};
use crate::model::Status;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// What every controller works with; cheap to clone.
#[derive(Clone)]
pub(super) struct World {
    pub(super) local: Local,
    pub(super) events: Recorder,
}

/// A change that a controller sees; after a gap in the history every present object is shown again.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) collection: Collection,
    pub(super) object: Arc<Value>,
    pub(super) gone: bool,
}

/// What to do with a key after it was worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Done,
    /// Look again after this time even if nothing changes.
    After(Duration),
}

/// A loop that makes what is look like what is wanted, one key at a time.
pub(super) trait Controller: Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// The collections whose changes matter; none means all there are, custom ones as they come.
    fn follows(&self) -> Vec<Collection>;

    /// The keys to look at because of a change.
    fn keys(&self, seen: &Seen) -> impl Future<Output = Vec<String>> + Send;

    /// Works on a key; an error brings it again later.
    fn reconcile(&self, key: &str) -> impl Future<Output = Result<Next, Status>> + Send;
}

/// A controller behind a pointer: one loop, compiled once, runs them all.
trait Driven: Send + Sync {
    fn called(&self) -> &'static str;

    fn looks_at(&self) -> Vec<Collection>;

    fn concerned<'a>(&'a self, seen: &'a Seen) -> BoxFuture<'a, Vec<String>>;

    fn work<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Next, Status>>;
}

impl<C: Controller> Driven for C {
    fn called(&self) -> &'static str {
        self.name()
    }

    fn looks_at(&self) -> Vec<Collection> {
        self.follows()
    }

    fn concerned<'a>(&'a self, seen: &'a Seen) -> BoxFuture<'a, Vec<String>> {
        Box::pin(self.keys(seen))
    }

    fn work<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Next, Status>> {
        Box::pin(self.reconcile(key))
    }
}

/// Runs a controller until stopped.
pub(super) fn run<C: Controller>(controller: C, world: World, stop: Stop) -> BoxFuture<'static, ()> {
    Box::pin(drive(Arc::new(controller), world, stop))
}

async fn drive(controller: Arc<dyn Driven>, world: World, stop: Stop) {
    let queue = Arc::new(Queue::default());
    let mut crew = Crew::new();
    let follows = controller.looks_at();
    if follows.is_empty() {
        crew.spawn(follow_all(controller.clone(), world.local.clone(), queue.clone()));
    }
    for collection in follows {
        crew.spawn(follow(controller.clone(), world.local.clone(), collection, queue.clone()));
    }
    while let Some(key) = stop.or(queue.next()).await {
        match controller.work(&key).await {
            Ok(Next::Done) => queue.done(&key),
            Ok(Next::After(wait)) => {
                queue.done(&key);
                queue.add_after(key, wait);
            }
            Err(error) => {
                let failures = queue.failed(&key);
                // Conflicts are ordinary: somebody else was faster, the next look sees their change.
                if !error.is_conflict() && (failures == 5 || failures % 50 == 0) {
                    tracing::warn!(controller = controller.called(), key, failures, %error, "still failing");
                }
            }
        }
    }
}

/// Follows every collection but Events, which own nothing and are owned by nothing.
async fn follow_all(controller: Arc<dyn Driven>, local: Local, queue: Arc<Queue>) {
    let mut changes = local.collections_changed();
    let mut followed = HashSet::new();
    let mut crew = Crew::new();
    loop {
        for facts in local.collections() {
            if facts.collection != EVENTS && followed.insert(facts.collection.clone()) {
                crew.spawn(follow(controller.clone(), local.clone(), facts.collection, queue.clone()));
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Shows a controller every object of a collection and then every change.
async fn follow(controller: Arc<dyn Driven>, local: Local, collection: Collection, queue: Arc<Queue>) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    let mut known: HashMap<(String, String), Arc<Value>> = HashMap::new();
    loop {
        let Ok((objects, revision)) = local.list(&collection, None).await else {
            tokio::time::sleep(backoff.next_wait()).await;
            continue;
        };
        backoff.reset();
        // What went while the watch had lost its place is told as if it had been seen going.
        let mut lost = std::mem::take(&mut known);
        for object in objects {
            lost.remove(&place(&object));
            known.insert(place(&object), object.clone());
            show(&*controller, &queue, Seen { collection: collection.clone(), object, gone: false }).await;
        }
        for object in lost.into_values() {
            show(&*controller, &queue, Seen { collection: collection.clone(), object, gone: true }).await;
        }
        let mut watch = local.watch(&collection, revision);
        while let Ok(change) = watch.next().await {
            let (object, gone) = match change {
                Change::Added(object) | Change::Modified(object) => {
                    known.insert(place(&object), object.clone());
                    (object, false)
                }
                Change::Deleted(object) => {
                    known.remove(&place(&object));
                    (object, true)
                }
            };
            show(&*controller, &queue, Seen { collection: collection.clone(), object, gone }).await;
        }
    }
}

fn place(object: &Value) -> (String, String) {
    (namespace(object).to_owned(), name(object).to_owned())
}

async fn show(controller: &dyn Driven, queue: &Queue, seen: Seen) {
    for key in controller.concerned(&seen).await {
        queue.add(key);
    }
}
