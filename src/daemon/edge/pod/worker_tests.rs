//! A worker whose runtime does not answer, or whose pod cannot be read: what its bell has noted is kept until it can be
//! acted on.

use super::super::Groups;
use super::*;
use crate::base::BoxFuture;
use std::path::Path;

/// Where every ConfigMap holds one key.
struct Same;

impl Sources for Same {
    fn config_map<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(async { Ok(Some(json!({"data": {"k": "new"}}))) })
    }

    fn secret<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(async { Ok(None) })
    }

    fn token<'a>(&'a self, _: &'a str, _: &'a str, _: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async { Ok(Value::Null) })
    }
}

fn worker(dir: &Path) -> Worker {
    let config = Config {
        node: "n1".into(),
        runtime: Runtime::new("unix:///nonexistent/cri.sock"),
        groups: Groups { systemd: false, root: None },
        root_dir: dir.join("root"),
        log_dir: dir.join("log"),
        host_ip: "127.0.0.1".into(),
        cluster_dns: Vec::new(),
        cluster_domain: "cluster.local".into(),
        late: false,
    };
    let (uplink, _served, _link) = Uplink::channel(8);
    let shared = Shared {
        paths: Paths { root: config.root_dir.clone(), logs: config.log_dir.clone() },
        config,
        store: Store::open(dir.join("edgecore.db")).unwrap(),
        uplink,
        sources: Arc::new(Same),
        registry: Registry::default(),
        summaries: Summaries::default(),
        heavy: Semaphore::new(1),
        pulls: Semaphore::new(1),
        host_dns: String::new(),
        scheme: "containerd".into(),
    };
    let key = ObjectKey::namespaced(Kind::Pod, "d", "p");
    Worker::new(Arc::new(shared), key, "u".into(), Arc::default(), false)
}

fn pod() -> Arc<Pod> {
    let pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": {
        "containers": [], "volumes": [{"name": "v", "configMap": {"name": "cm"}}],
    }});
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn changed(look: bool) -> Note {
    Note { look, sources: vec![(Kind::ConfigMap, "cm".into())], all_sources: true, ..Note::default() }
}

#[tokio::test]
async fn what_changed_while_the_runtime_was_silent_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = worker(dir.path());
    for _ in 0..2 {
        let turn = worker.turn(Some(pod()), changed(true)).await;
        assert!(matches!(turn, Turn::Again(Some(_))));
    }
    let at_once = tokio::time::timeout(Duration::ZERO, worker.bell.rung()).await;
    assert!(at_once.is_err(), "the worker waits before it tries again");
    assert_eq!(worker.bell.take(), changed(true));
}

#[tokio::test]
async fn what_is_noted_of_a_pod_that_cannot_be_read_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = worker(dir.path());
    let malformed =
        json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": {"containers": "none"}});
    worker.shared.store.put_object(&worker.key, &malformed).await.unwrap();
    worker.bell.ring(|note| *note = changed(true));
    assert!(matches!(worker.round().await, Turn::Again(None)));
    assert_eq!(worker.bell.take(), changed(true));
}

#[tokio::test]
async fn volumes_are_written_when_any_source_may_have_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = worker(dir.path());
    worker.volumes_ready = true;
    worker.memory.retry.failed(now());
    let (pod, note) = (pod(), Note { all_sources: true, ..Note::default() });
    worker.absorb(Some(&*pod), &note).await.unwrap();
    let file = worker.shared.paths.volume("u", "configmap", "v").join("k");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "new");
    assert!(worker.memory.retry.is_due(now()), "whatever waited for a source is tried at once");
}
