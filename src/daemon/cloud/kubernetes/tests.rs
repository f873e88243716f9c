//! Kubeconfigs that lead nowhere.

use super::*;
use crate::base::Exit;
use std::path::Path;
use std::time::Duration;

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_used_is_named() {
    crate::pki::install_crypto_provider();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kubeconfig");
    let absent = Kube::connect(Some(&path), "").await.err().unwrap();
    std::fs::write(&path, "clusters: 7").unwrap();
    let nonsense = Kube::connect(Some(&path), "").await.err().unwrap();
    std::fs::write(&path, "apiVersion: v1\nkind: Config\ncurrent-context: gone\n").unwrap();
    let without_context = Kube::connect(Some(&path), "").await.err().unwrap();
    for failure in [absent, nonsense, without_context] {
        assert_eq!(failure.code, "KE-KUBE-001");
        failure.is_as_committed();
        assert!(failure.what.contains(&path.display().to_string()) && !failure.why.is_empty(), "{failure}");
        assert!(failure.fix.contains("kubeAPIConfig.kubeConfig"), "{failure:?}");
    }
    // What stands in the file is for no eye: a token may be on the line.
    for text in
        ["users:\n- name: u\n  user:\n    token: SECRETSECRET\n   other: x\n", "clusters: SECRETSECRET\n"]
    {
        std::fs::write(&path, text).unwrap();
        let told = Kube::connect(Some(&path), "").await.err().unwrap();
        let named = Kube::named(&path).await.err().unwrap();
        let origin = Origin::of(&path).await.err().unwrap();
        for failure in [&told, &named, &origin] {
            let shown = format!("{failure} {failure:?}");
            assert!(shown.contains("at line ") && !shown.contains("SECRET"), "{shown}");
        }
        for failure in [named, origin] {
            assert_eq!((failure.code, failure.exit), ("KE-KUBE-003", Exit::Configuration));
            failure.is_as_committed();
            assert!(failure.fix.contains("--kube-config"), "{failure:?}");
        }
    }
    let plain = plain::Plain::serve(|_, _| plain::refusal(404, "NotFound")).await;
    for url in ["no url", "nonsense", "10.0.0.5:6443", "https://:6443", "https://me:SECRET@h"] {
        for refused in [
            Kube::connect(Some(&plain.kubeconfig), url).await.err().unwrap(),
            Kube::named_at(&plain.kubeconfig, url).await.err().unwrap(),
        ] {
            refused.is_as_committed();
            assert_eq!((refused.code, refused.exit), ("KE-KUBE-001", Exit::Configuration));
            assert!(refused.what.contains("kubeAPIConfig.master") && !refused.fix.is_empty(), "{refused}");
            assert!(!format!("{refused:?}").contains("SECRET"), "{refused:?}");
        }
    }
    // A kubeconfig may say so little of its server, too.
    let text = std::fs::read_to_string(&plain.kubeconfig).unwrap();
    let server = text.split("http://").nth(1).and_then(|rest| rest.split(['"', '\n', ' ']).next()).unwrap();
    std::fs::write(&path, text.replace(&format!("http://{server}"), "nonsense")).unwrap();
    let told = Kube::connect(Some(&path), "").await.err().unwrap();
    let named = Kube::named(&path).await.err().unwrap();
    assert_eq!((told.code, named.code), ("KE-KUBE-001", "KE-KUBE-003"));
    assert!(told.why.contains("nonsense") && named.why.contains("nonsense"), "{told} {named}");
    // This is no pod.
    if !Path::new("/var/run/secrets/kubernetes.io").exists() {
        let nowhere = Kube::connect(None, "").await.err().unwrap();
        assert_eq!(nowhere.code, "KE-KUBE-001");
        nowhere.is_as_committed();
    }
}

#[tokio::test]
async fn an_api_that_refuses_is_not_waited_for() {
    let plain = plain::Plain::serve(|_, _| plain::refusal(403, "Forbidden")).await;
    let failure = plain.kube.wait_until_reachable(Duration::from_secs(60)).await.unwrap_err();
    assert_eq!((failure.code, failure.exit), ("KE-KUBE-002", Exit::Unreachable));
    failure.is_as_committed();
    assert!(failure.why.contains("the test says Forbidden"), "{failure}");
}

#[tokio::test]
async fn files_stand_beside_their_kubeconfig() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let text = "clusters:\n- name: k\n  cluster: {server: 'https://k', certificate-authority: k.crt}\nusers:\n\
                - name: u\n  user: {client-certificate: u.crt, client-key: /abs/u.key, exec: {command: bin/login}}\n\
                - name: v\n  user: {tokenFile: v.token, exec: {command: login}}\n";
    std::fs::write(at("config"), text).unwrap();
    let read = origin::read(&at("config")).await.unwrap();
    let here = |name: &str| Some(at(name).display().to_string());
    assert_eq!(read.clusters[0].cluster.as_ref().unwrap().certificate_authority, here("k.crt"));
    let [u, v] = [0, 1].map(|n| read.auth_infos[n].auth_info.clone().unwrap());
    assert_eq!((u.client_certificate, u.client_key.as_deref()), (here("u.crt"), Some("/abs/u.key")));
    assert_eq!(u.exec.unwrap().command, here("bin/login"));
    assert_eq!((v.token_file, v.exec.unwrap().command.as_deref()), (here("v.token"), Some("login")));
}
