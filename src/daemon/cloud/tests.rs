//! What the rooms of the cloud say when the API, the hub or the machine is not as they need it; the API is of the test's
//! own making, the sockets are real.

use super::kubernetes::plain::{Plain, refusal};
use super::setup::SetupDesk;
use super::stream::Door;
use super::tokens::TokenDesk;
use super::*;
use crate::pki::Grant;
use http::Method;
use std::path::PathBuf;

#[tokio::test]
async fn definitions_that_may_not_be_installed_are_named() {
    let plain = Plain::serve(|_, _| refusal(403, "Forbidden")).await;
    let failure = install::definitions(&plain.kube).await.unwrap_err();
    assert_eq!(failure.code, "KE-CLOUD-020");
    failure.is_as_committed();
    assert!(failure.what.contains("kubeedge.io"), "{failure}");
    assert!(failure.why.contains("the test says Forbidden"), "{failure}");
    assert!(
        failure.fix.contains("manifests/crds") && failure.fix.contains("kedge.installCRDs"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_cluster_that_hides_its_authority_is_told() {
    for (plain, why) in [
        (Plain::serve(|_, _| refusal(404, "NotFound")).await, "the test says NotFound"),
        (Plain::serve(|_, _| Some((200, json!({"data": {}})))).await, "has no client-ca-file"),
        (
            Plain::serve(|_, _| Some((200, json!({"data": {"client-ca-file": "x"}})))).await,
            "has no client-ca-file",
        ),
    ] {
        let failure = Door::open(plain.kube.clone()).await.err().unwrap();
        assert_eq!((failure.code, failure.exit), ("KE-CLOUD-027", crate::base::Exit::Configuration));
        failure.is_as_committed();
        assert!(
            failure.why.contains("extension-apiserver-authentication") && failure.why.contains(why),
            "{failure}"
        );
        assert!(failure.fix.contains("tlsStreamCAFile"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_socket_for_drivers_that_cannot_be_opened_does_not_end_the_cloud() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let volumes = |path: PathBuf| {
        let (desk, hub) = (volumes::Desk::default(), Hub::channel(1).0);
        volumes::Volumes { path, desk, hub }
    };
    for path in [file.join("below/it.sock"), dir.path().join("x".repeat(120))] {
        let failure = volumes(path.clone()).bind().unwrap_err();
        assert_eq!(failure.code, "KE-CLOUD-040");
        failure.is_as_committed();
        assert!(failure.what.contains(&path.display().to_string()) && !failure.why.is_empty(), "{failure}");
        assert!(failure.fix.contains("modules.cloudHub.unixsocket"), "{failure:?}");
        let stop = Stop::new();
        stop.raise();
        assert_eq!(volumes(path).run(stop, Ready::detached("volumes")).await, Ok(()));
    }
}

#[tokio::test]
async fn a_cluster_that_shows_nothing_is_neither_set_up_nor_cleared_in_silence() {
    let plain = Plain::serve(|_, uri| match uri.path() {
        "/version" => Some((200, json!({"gitVersion": "v1.33.1", "major": "1", "minor": "33"}))),
        _ => refusal(403, "Forbidden"),
    })
    .await;
    let desk = SetupDesk::open(&plain.kubeconfig).await.unwrap();
    let mode = setup::Mode::Cluster;
    let standing = desk.standing().await.unwrap();
    assert_eq!(standing, setup::Standing::default(), "what may not be read is told below");
    let purpose = setup::Purpose {
        mode,
        replicas: 1,
        dynamic: false,
        forwards: true,
        keep_off: false,
        advertise: &[],
        standing: &standing,
    };
    let seen = desk.look(&purpose).await;
    let addresses = seen.findings.iter().find(|finding| finding.code == "KE-INIT-006").unwrap();
    assert_eq!(addresses.state, crate::host::check::State::Failed);
    assert!(addresses.why.contains("address of the cloud"), "{addresses:?}");
    assert!(addresses.fix.contains("--advertise-address"), "{addresses:?}");

    let failed = desk.remove(false, false).await.failed;
    assert!(failed.len() > 10, "it goes on past every error: {failed:?}");
    for failure in failed {
        assert_eq!(failure.code, "KE-CLOUD-030");
        failure.is_as_committed();
        assert!(failure.why.contains("the test says Forbidden"), "{failure}");
        assert!(failure.fix.contains("the same command again"), "{failure:?}");
    }
}

#[tokio::test]
async fn without_an_authority_there_are_no_tokens() {
    let empty = Plain::serve(|_, _| refusal(404, "NotFound")).await;
    let desk = TokenDesk::open(&empty.kubeconfig).await.unwrap();
    let asked = desk.cluster_token().await.unwrap_err();
    let made = desk.create(Duration::from_secs(60), Grant::default()).await.unwrap_err();
    let blank = Plain::serve(|_, _| Some((200, json!({"metadata": {}, "data": {}})))).await;
    let unset = TokenDesk::open(&blank.kubeconfig).await.unwrap().cluster_token().await.unwrap_err();
    for failure in [asked, made, unset] {
        assert_eq!((failure.code, failure.exit), ("KE-TOKEN-013", crate::base::Exit::Unreachable));
        failure.is_as_committed();
        assert!(failure.why.contains("never run") && failure.fix.contains("kedge up"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_list_of_tokens_that_is_written_all_the_time_is_given_up() {
    use base64::Engine;
    let list = base64::engine::general_purpose::STANDARD.encode(r#"{"abcdefghij":{"expires":99999999999}}"#);
    let plain = Plain::serve(move |method, _| match *method {
        Method::GET => {
            Some((200, json!({"metadata": {"resourceVersion": "1"}, "data": {"tokens.json": list}})))
        }
        _ => refusal(409, "Conflict"),
    })
    .await;
    let desk = TokenDesk::open(&plain.kubeconfig).await.unwrap();
    assert_eq!(desk.revoke("absent").await, Ok(false), "nothing is written for that");
    let failure = desk.revoke("abcdefghij").await.unwrap_err();
    assert_eq!(failure.code, "KE-TOKEN-014");
    failure.is_as_committed();
    assert!(failure.why.contains("kedge-tokens") && failure.fix.contains("again"), "{failure:?}");
    let shut = Plain::serve(|_, _| refusal(403, "Forbidden")).await;
    let failure = TokenDesk::open(&shut.kubeconfig).await.unwrap().list().await.unwrap_err();
    assert_eq!(failure.code, "KE-TOKEN-012");
    failure.is_as_committed();
    assert!(failure.why.contains("the test says Forbidden"), "{failure}");
}
