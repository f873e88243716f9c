//! Certificates between a real hub and real uplinks: renewal again and again, certificates that are replaced while the
//! hub serves, what `/edge.crt` and the task endpoints give and refuse.

use super::cloud::hub::{Arrival, Trust};
use super::edge::uplink::{self, Link, ReportKey};
use super::joint::{Cloud, PATIENCE, name, soon, start};
use crate::base::{Crew, Stop, now};
use crate::link::{DialError, Endpoint, FetchError, fetch};
use crate::pki::{
    Authority, Identity, Request, client_config, csr_peer, facts_of, names_of, unverified_client_config,
};
use crate::wire::{Question, Up};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn endpoint(cloud: &Cloud) -> Endpoint {
    Endpoint::parse(&cloud.addresses.https.to_string(), 0).unwrap()
}

async fn send(
    cloud: &Cloud,
    shown: Option<&Identity>,
    request: http::request::Builder,
    body: &[u8],
) -> Result<(StatusCode, Bytes), FetchError> {
    let tls = client_config(&cloud.trust.borrow().authority.cert_pem(), shown).unwrap();
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
    fetch(&endpoint(cloud), tls, request, 1 << 16, PATIENCE).await
}

#[tokio::test]
async fn a_certificate_is_renewed_again_and_again_and_no_report_is_lost() {
    const REPORTS: u32 = 150;
    let mut cloud = Cloud::start_as(MINUTE, 500, Duration::from_secs(6));
    let edge = cloud.edge("n1").await;
    let files = cloud.config("n1", None).files;
    let first = Identity::load(&files.cert, &files.key).unwrap();
    let reporting = async {
        for number in 0..REPORTS {
            let patch = Up::NodePatch { name: "n1".to_owned(), patch: format!("{{\"n\":{number}}}") };
            drop(edge.uplink.report(ReportKey(format!("r{number}")), patch).await.unwrap());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (mut heard, mut sessions) = (std::collections::BTreeSet::new(), 0);
    let hub = cloud.hub.clone();
    let listening = async {
        while heard.len() < REPORTS as usize {
            match cloud.arrival().await {
                Arrival::Message { node, question } => {
                    if let Up::NodePatch { patch, .. } = &question.up {
                        heard.insert(patch.clone());
                    }
                    hub.answer(node, question, Ok(json!({"metadata": {}}))).await.unwrap();
                }
                Arrival::Connected(_) => sessions += 1,
                _ => {}
            }
        }
    };
    tokio::join!(reporting, listening);
    // Fifteen seconds of certificates that live for six and are renewed after less than four.
    assert!((3..=6).contains(&sessions), "{sessions} renewals");
    let last = Identity::load(&files.cert, &files.key).unwrap();
    assert!(last.facts().unwrap().not_after > first.facts().unwrap().not_after + 6);
    assert_eq!(*edge.uplink.link().borrow(), Link::Up);
}

#[tokio::test]
async fn a_renewed_certificate_that_the_cloud_refuses_does_no_harm() {
    let mut cloud = Cloud::start();
    let config = cloud.config("n1", Some(cloud.token()));
    uplink::enrol(&config.enrolment()).await.unwrap();
    let files = config.files.clone();
    let good = Identity::load(&files.cert, &files.key).unwrap();
    let stranger = Authority::generate("KubeEdge").unwrap();
    let bad = stranger.issue_client("system:node:n1", &["system:nodes"], 1).unwrap();
    let beside = |path: &std::path::Path| std::path::PathBuf::from(format!("{}.next", path.display()));
    std::fs::write(beside(&files.cert), &bad.cert_pem).unwrap();
    std::fs::write(beside(&files.key), &bad.key_pem).unwrap();
    let (_uplink, _inbound, module) = uplink::new(config).unwrap();
    let (stop, mut crew) = (Stop::new(), Crew::new());
    start(module, &mut crew, &stop);
    assert!(matches!(cloud.arrival().await, Arrival::Connected(_)));
    assert_eq!(Identity::load(&files.cert, &files.key).unwrap(), good);
    soon(async {
        while beside(&files.cert).exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// The certificate that a server shows.
async fn shown(address: std::net::SocketAddr) -> Vec<u8> {
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let server = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let tls = tokio_rustls::TlsConnector::from(unverified_client_config().unwrap());
    let stream = tls.connect(server, socket).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn certificates_are_replaced_while_the_hub_serves() {
    let mut cloud = Cloud::start();
    let edge = cloud.edge("n1").await;
    let old_node = cloud.authority.issue_client("system:node:n2", &["system:nodes"], 1).unwrap();
    let new = Arc::new(Authority::generate("KubeEdge").unwrap());
    let new_node = new.issue_client("system:node:n3", &["system:nodes"], 1).unwrap();
    // A server certificate that nodes of the former authority know, as an operator hands one in while he changes it.
    let identity = cloud.authority.issue_server("KubeEdge", &["127.0.0.1".to_owned()], 2).unwrap();
    let accepted_pem = new.cert_pem() + &cloud.authority.cert_pem();
    let trust = Trust { authority: new.clone(), accepted_pem, identity: identity.clone() };
    cloud.trust.send_replace(trust);
    let expected = identity.ders().unwrap().0;
    soon(async {
        while shown(cloud.addresses.websocket).await != expected
            || shown(cloud.addresses.https).await != expected
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let tls = client_config(&cloud.authority.cert_pem(), None).unwrap();
    let request = http::Request::get("/ca.crt").body(Full::default()).unwrap();
    let (_, ca) = fetch(&endpoint(&cloud), tls, request, 1 << 16, PATIENCE).await.unwrap();
    assert_eq!(ca, new.cert_der());
    for (node, identity) in [("n2", &old_node), ("n3", &new_node)] {
        let halves = cloud.client(identity, node).await.unwrap();
        assert!(matches!(cloud.arrival().await, Arrival::Connected(who) if who == name(node)));
        drop(halves);
        assert!(matches!(cloud.arrival().await, Arrival::Disconnected(_)));
    }
    // The session that was there goes on, and a renewal brings the new authority along.
    assert_eq!(*edge.uplink.link().borrow(), Link::Up);

    // Without the former authority its nodes are strangers.
    let identity = new.issue_server("KubeEdge", &["127.0.0.1".to_owned()], 1).unwrap();
    let expected = identity.ders().unwrap().0;
    cloud.trust.send_replace(Trust::new(new.clone(), identity));
    soon(async {
        while shown(cloud.addresses.websocket).await != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(cloud.client(&old_node, "n2").await.is_err());
}

#[tokio::test]
async fn a_renewal_brings_the_new_authority_along() {
    let mut cloud = Cloud::start_as(MINUTE, 500, Duration::from_secs(4));
    let _edge = cloud.edge("n1").await;
    let files = cloud.config("n1", None).files;
    let new = Arc::new(Authority::generate("KubeEdge").unwrap());
    let identity = cloud.authority.issue_server("KubeEdge", &["127.0.0.1".to_owned()], 2).unwrap();
    let accepted_pem = new.cert_pem() + &cloud.authority.cert_pem();
    cloud.trust.send_replace(Trust { authority: new.clone(), accepted_pem, identity });
    while !matches!(cloud.arrival().await, Arrival::Connected(_)) {}
    let ca = std::fs::read_to_string(&files.ca).unwrap();
    assert_eq!(ca, new.cert_pem() + &cloud.authority.cert_pem());
    let server = new.issue_server("KubeEdge", &["127.0.0.1".to_owned()], 1).unwrap();
    cloud.trust.send_replace(Trust::new(new, server));
    while !matches!(cloud.arrival().await, Arrival::Connected(_)) {}
}

/// A signing request as an edge of KubeEdge makes it, or with other names.
fn request(node: &str, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in [
        (DnType::CountryName, "CN"),
        (DnType::OrganizationName, "system:nodes"),
        (DnType::LocalityName, "Hangzhou"),
        (DnType::StateOrProvinceName, "Zhejiang"),
        (DnType::CommonName, &format!("system:node:{node}")),
    ] {
        params.distinguished_name.push(kind, value);
    }
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[tokio::test]
async fn the_certificate_service_gives_a_node_its_own_certificate_only() {
    let cloud = Cloud::start();
    let authority = &cloud.authority;
    let get = || http::Request::get("/edge.crt").header("NodeName", "n1");
    let bearer = crate::pki::Token::parse(&cloud.token()).unwrap().bearer;
    let with_token = || get().header("Authorization", format!("Bearer {bearer}"));
    let csr = request("n1", &[]);

    let (status, cert) = send(&cloud, None, with_token(), &csr).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let facts = facts_of(&cert).unwrap();
    assert_eq!(
        facts.peer,
        csr_peer(&Request::new("system:node:n1", &["system:nodes"]).unwrap().csr_der).unwrap()
    );

    // (certificate shown, header ExtKeyUsages, request, status)
    let own = authority.issue_client("system:node:n1", &["system:nodes"], 1).unwrap();
    let no_group = authority.issue_client("system:node:n1", &[], 1).unwrap();
    let other = authority.issue_client("system:node:n2", &["system:nodes"], 1).unwrap();
    let former = authority.issue_client("kubeedge.io", &["KubeEdge"], 1).unwrap();
    let almost = authority.issue_client("kubeedge.io", &["system:nodes"], 1).unwrap();
    let cases: [(Option<&Identity>, &str, Vec<u8>, u16); 16] = [
        (Some(&own), "", csr.clone(), 200),
        (Some(&former), "", csr.clone(), 200),
        (Some(&no_group), "", csr.clone(), 401),
        (Some(&other), "", csr.clone(), 401),
        (Some(&almost), "", csr.clone(), 401),
        (None, "", csr.clone(), 401),
        (Some(&own), "", request("n2", &[]), 401),
        (Some(&own), "", b"nonsense".to_vec(), 500),
        (Some(&own), "", vec![0x30; 20 << 10], 413),
        (Some(&own), "[2]", csr.clone(), 200),
        (Some(&own), "[1,2]", csr.clone(), 200),
        (Some(&own), "[1]", request("n1", &["169.254.30.10", "127.0.0.1", "localhost"]), 200),
        (Some(&own), "[1]", request("n1", &["cloud.example"]), 500),
        (Some(&own), "[1]", request("n1", &["10.0.0.1"]), 500),
        (Some(&own), "[0]", csr.clone(), 500),
        (Some(&own), "everything", csr.clone(), 500),
    ];
    for (place, (shown, usages, csr, expected)) in cases.into_iter().enumerate() {
        let wanted = if usages.is_empty() { get() } else { get().header("ExtKeyUsages", usages) };
        let (status, body) = send(&cloud, shown, wanted, &csr).await.unwrap();
        assert_eq!(status.as_u16(), expected, "case {place}: {}", String::from_utf8_lossy(&body));
        if expected != 200 {
            continue;
        }
        let (_, parsed) = x509_parser::parse_x509_certificate(&body).unwrap();
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert_eq!(usage.server_auth, usages.contains('1'), "case {place}");
        assert_eq!(usage.client_auth, usages != "[1]", "case {place}");
        assert_eq!(names_of(&body).len(), if usages == "[1]" { 3 } else { 0 });
    }
    let stranger = Authority::generate("KubeEdge").unwrap();
    let stranger = stranger.issue_client("system:node:n1", &["system:nodes"], 1).unwrap();
    let refused = send(&cloud, Some(&stranger), get(), &csr).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn a_server_certificate_does_not_open_the_hub() {
    let cloud = Cloud::start();
    let at = now().as_second();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "system:node:n1");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = cloud.authority.issue_server("system:node:n1", &["127.0.0.1".to_owned()], 1).unwrap();
    assert!(cloud.client(&server, "n1").await.is_err());
    let good = cloud.authority.issue_client_between("system:node:n1", &["system:nodes"], at - 1, at + 60);
    assert!(cloud.client(&good.unwrap(), "n1").await.is_ok());
}

#[tokio::test]
async fn task_reports_over_https_count_with_the_nodes_certificate() {
    let mut cloud = Cloud::start();
    let own = cloud.authority.issue_client("system:node:n1", &["system:nodes"], 1).unwrap();
    let status = "/task/upgrade/name/job-1/node/n1/status";
    let report = json!({"NodeName": "n1", "Event": "Upgrade", "Action": "Success", "Reason": "",
        "Time": "2026-01-01T00:00:00Z", "State": "", "ExternalMessage": ""})
    .to_string();
    let upgrade = json!({"UpgradeID": "job-2", "NodeName": "n1", "FromVersion": "v1.22.0",
        "ToVersion": "v1.23.1", "Status": "upgrade_failed_rollback_success", "Reason": "disk"})
    .to_string();
    for (path, body, task) in [(status, &report, "job-1"), ("/nodeupgrade", &upgrade, "job-2")] {
        let (code, answer) =
            send(&cloud, Some(&own), http::Request::post(path), body.as_bytes()).await.unwrap();
        assert_eq!((code, &answer[..]), (StatusCode::OK, &b"ok"[..]));
        let Arrival::Message { node, question: Question { up: Up::Task(told), .. } } = cloud.arrival().await
        else {
            panic!("no task report")
        };
        assert_eq!(node, name("n1"));
        assert!(format!("{told:?}").contains(task), "{told:?}");
    }
    let other = cloud.authority.issue_client("system:node:n2", &["system:nodes"], 1).unwrap();
    let huge = " ".repeat((3 << 20) + 1) + &report;
    for (shown, method, path, body, expected) in [
        (None, "POST", status, report.as_str(), 401),
        (Some(&other), "POST", status, &report, 403),
        (Some(&other), "POST", "/nodeupgrade", &upgrade, 403),
        (Some(&own), "POST", status, "null", 400),
        (Some(&own), "POST", status, "[]", 400),
        (Some(&own), "POST", status, "{\"Event\":", 400),
        (Some(&own), "POST", status, &huge, 400),
        (Some(&own), "POST", "/task/frobnicate/name/job-1/node/n1/status", &report, 400),
        (Some(&own), "POST", "/nodeupgrade", "{}", 400),
        (Some(&own), "GET", status, "", 405),
        (Some(&own), "POST", "/ca.crt", "", 405),
    ] {
        let wanted = http::Request::builder().method(method).uri(path);
        // The cloud may close before it has read all of a body that is too long.
        match send(&cloud, shown, wanted, body.as_bytes()).await {
            Ok((code, _)) => assert_eq!(code.as_u16(), expected, "{method} {path}"),
            Err(FetchError::Http(_) | FetchError::Dial(DialError::Handshake(_))) => {
                assert!(body.len() > 1 << 20, "{method} {path}");
            }
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }
    assert!(cloud.arrivals.try_recv().is_err());
}
