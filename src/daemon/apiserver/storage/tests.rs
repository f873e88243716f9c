use super::*;
use crate::base::alone::{alone, as_nobody, forbid_threads};
use serde_json::json;

const THINGS: Collection = Collection::of("", "things");

fn open(dir: &Path) -> Store {
    Store::open(&dir.join("api.db"), Box::new(|_| ())).unwrap()
}

async fn put(store: &Store, name: &str) -> Arc<Value> {
    let key = Key::new(&THINGS, Some("default"), name);
    let object = json!({"metadata": {"name": name, "namespace": "default"}});
    store.commit(move |txn| Ok(txn.put(key, object))).await.unwrap()
}

#[tokio::test]
async fn objects_and_revisions_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let before = put(&store, "a").await["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    drop(store);
    let store = open(dir.path());
    let (list, revision) = store.list(&THINGS, Some("default"));
    assert_eq!(list.len(), 1);
    assert!(revision.0 > before.parse::<u64>().unwrap());
}

#[tokio::test]
async fn a_feed_delivers_in_order_and_then_waits() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut feed = store.feed(&THINGS, store.revision());
    for name in ["a", "b", "a"] {
        put(&store, name).await;
    }
    let seen: Vec<_> = [feed.next().await, feed.next().await, feed.next().await]
        .into_iter()
        .map(|event| event.map(|e| (e.verb, e.name.clone())).unwrap())
        .collect();
    assert_eq!(
        seen,
        [(Verb::Added, "a".to_owned()), (Verb::Added, "b".to_owned()), (Verb::Modified, "a".to_owned())]
    );
    assert!(feed.try_next().unwrap().is_none());
    assert_eq!(feed.caught_up(), Some(store.revision()));
}

#[tokio::test]
async fn a_feed_from_before_the_history_expires() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let early = store.revision();
    for _ in 0..1100 {
        put(&store, "a").await;
    }
    assert!(store.feed(&THINGS, early).next().await.is_err());
    assert!(store.feed(&THINGS, Revision(1)).next().await.is_err());
}

#[tokio::test]
async fn a_change_larger_than_the_history_still_reaches_its_watch() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut feed = store.feed(&THINGS, store.revision());
    let large = json!({"metadata": {"name": "big"}, "data": "x".repeat(2 << 20)});
    let key = Key::new(&THINGS, Some("default"), "big");
    store.commit(move |txn| Ok(txn.put(key, large))).await.unwrap();
    assert_eq!(feed.next().await.map(|event| event.name.clone()).ok().as_deref(), Some("big"));
}

#[tokio::test]
async fn a_refused_or_panicking_decision_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let refused = store
        .commit(|txn| {
            txn.put(Key::new(&THINGS, None, "x"), json!({"metadata": {}}));
            Err::<(), _>(Status::failure(409, "Conflict", "no"))
        })
        .await;
    assert_eq!(refused.unwrap_err().code, 409);
    let panicked = store.commit::<(), _>(|_| panic!("deliberate")).await;
    assert_eq!(panicked.unwrap_err().code, 500);
    assert!(store.list(&THINGS, None).0.is_empty());
    put(&store, "a").await;
}

#[test]
fn a_damaged_file_is_reported_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.db");
    std::fs::write(&path, "this is no database, whatever its name says".repeat(100)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let failure = Store::open(&path, Box::new(|_| ())).err().unwrap();
    assert_eq!(failure.code, "KE-API-001");
    failure.is_as_committed();
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone_and_ours_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("api.db");
    std::fs::write(&file, b"").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = open(dir.path());
    put(&store, "a").await;
    for name in ["api.db", "api.db-wal"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    drop(store);
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("PRAGMA user_version = 2").unwrap();
    drop(other);
    let failure = Store::open(&file, Box::new(|_| ())).err().unwrap();
    assert!(failure.to_string().contains("newer kedge"), "{failure}");
    let layout: i64 = rusqlite::Connection::open(&file)
        .unwrap()
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(layout, 2);
}

#[test]
fn a_system_that_gives_no_thread_is_told() {
    if !alone(module_path!(), "a_system_that_gives_no_thread_is_told", as_nobody) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    forbid_threads();
    let failure = Store::open(&dir.path().join("api.db"), Box::new(|_| ())).err().unwrap();
    assert_eq!(failure.code, "KE-API-003");
    assert!(failure.what.contains("thread") && !failure.why.is_empty(), "{failure}");
    assert!(failure.fix.contains("ulimit -u"), "{failure:?}");
}
