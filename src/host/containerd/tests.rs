//! Which runtime is taken and how our own is started, watched and ended; most of it with programs that are no containerd.

use super::*;

#[test]
fn a_long_data_directory_gets_a_short_socket() {
    let long = PathBuf::from(format!("/{}", "x".repeat(200)));
    assert!(own_socket(&long).as_os_str().len() <= SOCKET_PATH_LIMIT);
    assert_eq!(own_socket(Path::new("/var/lib/kedge/c")), Path::new("/var/lib/kedge/c/containerd.sock"));
}

#[test]
fn reads_what_a_running_containerd_tells() {
    let mut status = StatusResponse::default();
    let config = r#"{"cni":{"confDir":"/etc/cni/net.d"},"sandboxImage":"x/pause:1",
        "containerd":{"snapshotter":"native","runtimes":{"runc":{"options":{"SystemdCgroup":true}}}}}"#;
    status.info.insert("config".into(), config.into());
    let facts = Facts::read(&status);
    assert_eq!((facts.sandbox_image.as_str(), facts.snapshotter.as_str()), ("x/pause:1", "native"));
    assert!(facts.systemd && !facts.network_ready);
}

#[tokio::test]
async fn an_absent_named_runtime_is_a_clear_failure() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        endpoint: Some("unix:///nonexistent.sock".into()),
        use_running: false,
        dir: dir.path().into(),
        network: Network::derive(dir.path()),
    };
    let failure = start(config).await.err().unwrap();
    assert_eq!(failure.code, "KE-RUNTIME-001");
    failure.is_as_committed();
}

/// Whether this machine can run containers; says why not.
fn is_able() -> bool {
    use crate::host::capabilities::{Capability, has, is_root};
    let able = is_root() && has(Capability::SysAdmin) && program("containerd").is_some();
    if !able {
        tracing::warn!("skipped: needs root and containerd");
    }
    able
}

#[tokio::test]
async fn real_containerd_starts_is_taken_over_and_ends() {
    if !is_able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let network = Network::derive(dir.path());
    let config =
        Config { endpoint: None, use_running: false, dir: dir.path().into(), network: network.clone() };
    let first = start(config.clone()).await.unwrap();
    assert!(first.ours && first.version.starts_with("containerd://"), "{}", first.version);
    let pid = first.keeper.watched.as_ref().unwrap().pid();
    assert!(first.runtime.image_status(images::PAUSE).await.unwrap().is_some());
    assert!(first.runtime.image_status(images::DEMO).await.unwrap().is_some());
    let refused = images::load(&first.runtime, "app.tar", &b"no archive"[..]).await.unwrap_err();
    assert_eq!(refused.code, "KE-IMAGE-004");
    refused.is_as_committed();
    assert!(refused.why.contains("ctr:"), "{refused}");
    // As after kill -9: nobody stops it.
    drop(first);
    let second = start(config).await.unwrap();
    assert_eq!(second.keeper.watched.as_ref().unwrap().pid(), pid);
    let (runtime, mut keeper) = second.into_parts();
    let stop = Stop::new();
    stop.raise();
    keeper.keep(stop, Ready::detached("containerd")).await.unwrap();
    assert!(runtime.version().await.is_err());
    // The rule for its pods stays for the next start, which does not come.
    for removed in cni::remove(&network) {
        removed.unwrap();
    }
}

/// A containerd of our own whose program is another one.
fn own(dir: &Path, program: &str) -> Own {
    Own {
        dir: dir.to_owned(),
        socket: dir.join("containerd.sock"),
        config: "version = 2\n".to_owned(),
        program: PathBuf::from(program),
        snapshotter: "native",
        systemd: false,
    }
}

#[tokio::test]
async fn a_runtime_that_does_not_tell_its_state_is_not_joined() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::derive(dir.path());
    let config = Config { endpoint: None, use_running: false, dir: dir.path().into(), network };
    let failure = join(config, Runtime::new("unix:///nonexistent/cri.sock")).await.err().unwrap();
    assert_eq!(failure.code, "KE-RUNTIME-002");
    failure.is_as_committed();
    assert!(
        failure.why.contains("/nonexistent/cri.sock") && failure.fix.contains("crictl info"),
        "{failure:?}"
    );
}

#[test]
fn what_is_not_installed_is_named_with_the_places_that_were_searched() {
    let dir = tempfile::tempdir().unwrap();
    let places = dir.path().display().to_string();
    for (name, lacks) in [("readme", "containerd"), ("containerd", "runc")] {
        fs::write(dir.path().join(name), "").unwrap();
        let failure = installed(&places).unwrap_err();
        assert_eq!(failure.code, "KE-RUNTIME-003");
        failure.is_as_committed();
        assert!(failure.what.contains(lacks) && failure.why.contains(&places), "{failure}");
        assert!(failure.fix.contains("apt-get install containerd runc"), "{failure:?}");
    }
    fs::write(dir.path().join("crun"), "").unwrap();
    assert_eq!(installed(&places).unwrap(), dir.path().join("containerd"));
}

#[test]
fn a_place_that_cannot_be_a_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let failure = make_directories(&file).unwrap_err();
    assert_eq!(failure.code, "KE-RUNTIME-004");
    failure.is_as_committed();
    assert!(failure.what.contains(&file.join("root").display().to_string()), "{failure}");
    assert!(failure.why.contains("Not a directory") && failure.fix.contains("root"), "{failure:?}");
}

#[tokio::test]
async fn a_containerd_that_cannot_be_run_is_named() {
    let dir = tempfile::tempdir().unwrap();
    // A directory can be opened and is no program.
    let failure = own(dir.path(), "/usr/bin").run().await.err().unwrap();
    assert_eq!(failure.code, "KE-RUNTIME-005");
    failure.is_as_committed();
    assert!(failure.why.contains("Permission denied"), "{failure}");
    assert!(failure.fix.contains("/usr/bin"), "{failure:?}");
}

#[tokio::test]
async fn a_containerd_that_ends_while_it_starts_is_told_with_its_last_complaint() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("containerd.log");
    let starting = || async { own(dir.path(), "/bin/false").run().await.err().unwrap() };
    let silent = starting().await;
    assert_eq!(silent.code, "KE-RUNTIME-006");
    assert_eq!(silent.why, "its log says nothing");
    fs::write(&log, "level=warning msg=late\ncontainerd: the disk is gone\nlevel=info msg=bye\n").unwrap();
    let failure = starting().await;
    assert_eq!(failure.code, "KE-RUNTIME-006");
    failure.is_as_committed();
    assert_eq!(failure.why, "containerd: the disk is gone");
    assert_eq!(failure.fix, format!("read {}", log.display()));
}

#[tokio::test]
async fn a_containerd_that_ends_by_itself_is_a_failure_of_its_keeper() {
    let dir = tempfile::tempdir().unwrap();
    let own = own(dir.path(), "/bin/true");
    let watched = Some(own.spawn(&dir.path().join("config.toml")).unwrap());
    let mut keeper = Keeper { own: Some(own), watched };
    let failure = keeper.keep(Stop::new(), Ready::detached("containerd")).await.unwrap_err();
    assert_eq!(failure.code, "KE-RUNTIME-007");
    failure.is_as_committed();
    assert_eq!(failure.why, "its log says nothing");
    assert!(failure.fix.contains("containerd.log"), "{failure:?}");
}
