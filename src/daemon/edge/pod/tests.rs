//! What the door says where no container can be reached.

use super::*;

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
