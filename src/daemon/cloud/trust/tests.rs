//! Secrets and files that cannot be used, against an API of the test's own making; `daemon::replicas` has the real one.

use super::super::kubernetes::plain::{Answer, Plain, refusal};
use super::*;
use crate::config::cloud::{CloudConfig, CloudPorts};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::json;
use std::fs;
use std::path::Path;

fn hub(dir: &Path) -> HubConfig {
    let ports = CloudPorts { api: 0, websocket: 0, https: 0, stream: 0, tunnel: 0 };
    let hub = CloudConfig::for_data_dir(dir, ports).unwrap().hub;
    fs::create_dir_all(hub.ca_file.parent().unwrap()).unwrap();
    fs::create_dir_all(hub.cert_file.parent().unwrap()).unwrap();
    hub
}

async fn refused(plain: &Plain, hub: &HubConfig) -> Failure {
    establish(&plain.kube, hub, None).await.err().unwrap()
}

/// An API in which there is nothing but this authority.
async fn api_with(cert: &[u8], key: &[u8]) -> Plain {
    let data = json!({CA_CERT: STANDARD.encode(cert), CA_KEY: STANDARD.encode(key)});
    Plain::serve(move |method, uri| -> Answer {
        match (method, uri.path().rsplit('/').next()) {
            (&Method::GET, Some(CA_SECRET)) => {
                let metadata = json!({"name": CA_SECRET, "namespace": NAMESPACE, "resourceVersion": "1"});
                Some((200, json!({"kind": "Secret", "metadata": metadata, "data": data})))
            }
            (&Method::GET, Some(NAMESPACE)) => Some((200, json!({"metadata": {"name": NAMESPACE}}))),
            _ => refusal(403, "Forbidden"),
        }
    })
    .await
}

#[tokio::test]
async fn secrets_that_change_all_the_time_are_told_in_the_end() {
    let plain = Plain::serve(|method, _| match *method {
        Method::GET => refusal(404, "NotFound"),
        _ => refusal(409, "AlreadyExists"),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let failure = refused(&plain, &hub(dir.path())).await;
    assert_eq!(failure.code, "KE-CLOUD-025", "{failure}");
    failure.is_as_committed();
    assert!(failure.what.contains(NAMESPACE) && failure.why.contains("do not agree"), "{failure}");
    assert!(failure.fix.contains("the same cloudcore.yaml"), "{failure:?}");
}

#[tokio::test]
async fn secrets_that_may_not_be_kept_are_told() {
    let plain = Plain::serve(|_, _| refusal(403, "Forbidden")).await;
    let dir = tempfile::tempdir().unwrap();
    let failure = refused(&plain, &hub(dir.path())).await;
    assert_eq!(failure.code, "KE-CLOUD-021");
    failure.is_as_committed();
    assert!(failure.what.contains(NAMESPACE) && failure.why.contains("the test says Forbidden"), "{failure}");
    assert!(failure.fix.contains("kedge init"), "{failure:?}");
}

#[tokio::test]
async fn half_a_pair_of_files_is_not_guessed_about() {
    let own = Authority::generate("KubeEdge").unwrap();
    let plain = api_with(own.cert_der(), own.key_der()).await;
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(dir.path());
    for (there, missing) in
        [(&hub.ca_key_file, &hub.ca_file), (&hub.cert_file, &hub.key_file), (&hub.key_file, &hub.cert_file)]
    {
        fs::write(there, "half").unwrap();
        let failure = refused(&plain, &hub).await;
        assert_eq!(failure.code, "KE-CLOUD-022");
        failure.is_as_committed();
        let what = format!("{} is there without {}", there.display(), missing.display());
        assert_eq!(failure.what, what);
        assert!(failure.why.contains("together") && failure.fix.contains("both files"), "{failure:?}");
        fs::remove_file(there).unwrap();
    }
}

#[tokio::test]
async fn an_authority_that_is_none_or_another_one_is_not_taken() {
    let own = Authority::generate("KubeEdge").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(dir.path());
    let failure = refused(&api_with(own.cert_der(), b"nonsense").await, &hub).await;
    assert_eq!(failure.code, "KE-CLOUD-023");
    failure.is_as_committed();
    assert!(failure.what.contains(CA_SECRET) && failure.why.contains("private key"), "{failure}");
    assert!(failure.fix.contains("from a copy"), "{failure:?}");

    let other = Authority::load_or_create(hub.ca_file.parent().unwrap(), "rootCA", "KubeEdge").unwrap();
    let failure = refused(&api_with(own.cert_der(), own.key_der()).await, &hub).await;
    assert_eq!(failure.code, "KE-CLOUD-024");
    failure.is_as_committed();
    assert!(failure.why.contains(&other.hash()) && failure.why.contains(&own.hash()), "{failure}");
    assert!(failure.fix.contains("append the Secret's certificate"), "{failure:?}");

    fs::write(&hub.ca_file, [0xff, 0xfe]).unwrap();
    let failure = refused(&api_with(own.cert_der(), own.key_der()).await, &hub).await;
    assert_eq!(failure.code, "KE-PKI-003");
    failure.is_as_committed();
    assert!(failure.what.contains("rootCA.crt") && failure.fix.contains("openssl x509"), "{failure:?}");
}

#[tokio::test]
async fn work_on_files_that_breaks_off_is_told() {
    let failure = blocking::<()>(|| panic!("a state that nobody thought of")).await.unwrap_err();
    assert_eq!(
        (failure.code, failure.what.as_str()),
        ("KE-RUN-003", "the work to read and write files broke off")
    );
    assert!(failure.why.contains("a state that nobody thought of"), "{failure}");
    assert!(failure.fix.contains("kedge bugreport"), "{failure:?}");
}
