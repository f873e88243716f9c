//! What the door says, and what the room does, where no container can be reached.

use super::*;
use crate::base::{BoxFuture, ModuleState, Stop, Supervisor};
use serde_json::Value;
use std::time::Duration;

fn handle() -> PodHandle {
    let summaries = summary::Summaries::default();
    let container = |name: &str, state: &str| ContainerSummary {
        name: name.to_owned(),
        id: format!("{name}-id"),
        state: state.to_owned(),
        restarts: 0,
    };
    let containers = vec![container("main", "Running"), container("side", "CrashLoopBackOff")];
    let (namespace, name) = ("d".to_owned(), "p".to_owned());
    summaries.put(Summary { namespace, name, containers, ..Summary::default() });
    let nowhere = PathBuf::from("/nonexistent");
    let paths = paths::Paths { root: nowhere.clone(), logs: nowhere };
    PodHandle { runtime: Runtime::new("unix:///nonexistent/cri.sock"), paths, summaries }
}

#[tokio::test]
async fn a_session_without_a_running_container_says_what_stands_in_its_way() {
    let pods = handle();
    for (pod, container, why) in [
        ("other", "main", "no such pod is on this node"),
        ("p", "nobody", "its containers are main, side"),
        ("p", "side", "its state is CrashLoopBackOff"),
        ("p", "main", "/nonexistent/cri.sock"),
        ("p", "", "/nonexistent/cri.sock"),
    ] {
        let failure = pods.session("d", pod, container, Session::default()).await.unwrap_err();
        assert_eq!(failure.code, "KE-POD-006");
        failure.is_as_committed();
        assert!(failure.what.contains(&format!("d/{pod}")) && failure.why.contains(why), "{failure}");
        assert!(failure.fix.contains("kedge pods"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_runtime_that_does_not_tell_what_is_used_is_named() {
    let failure = handle().usage().await.unwrap_err();
    assert_eq!(failure.code, "KE-CRI-005");
    failure.is_as_committed();
    assert!(
        failure.why.contains("/nonexistent/cri.sock") && failure.fix.contains("kedge doctor"),
        "{failure:?}"
    );
}

/// Nothing that a pod may refer to.
struct Nothing;

impl Sources for Nothing {
    fn config_map<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(async { Ok(None) })
    }

    fn secret<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(async { Ok(None) })
    }

    fn token<'a>(&'a self, _: &'a str, _: &'a str, _: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async { Ok(Value::Null) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_away_ends_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        node: "n1".into(),
        runtime: Runtime::new("unix:///nonexistent/cri.sock"),
        groups: Groups { systemd: false, root: None },
        late: true,
        root_dir: dir.path().join("root"),
        log_dir: dir.path().join("log"),
        host_ip: "127.0.0.1".into(),
        cluster_dns: Vec::new(),
        cluster_domain: "cluster.local".into(),
    };
    let (uplink, _letters, _link) = Uplink::channel(8);
    let store = Store::open(dir.path().join("edge.db")).unwrap();
    let (_handle, module) = new(config, store, uplink, Arc::new(Nothing));
    let mut supervisor = Supervisor::new();
    supervisor.add(module);
    let (states, stop) = (supervisor.handle(), Stop::new());
    let mut running = std::pin::pin!(supervisor.run(stop.clone()));
    assert!(tokio::time::timeout(Duration::from_secs(60), running.as_mut()).await.is_err());
    assert_eq!(states.modules().remove(0).state, ModuleState::Starting);
    stop.raise();
    assert_eq!(running.await, Ok(()));
}
