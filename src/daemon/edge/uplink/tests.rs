//! The uplink against clouds that are not as they should be: real TLS on 127.0.0.1, answers of the test's making.

use super::*;
use crate::base::{Crew, Exit, Ready, Stop};
use crate::link::http::{Body, serve, text};
use crate::pki::{Authority, Clients, Identity, Token, install_crypto_provider, server_config};
use http::{Response, StatusCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

type Answer = fn() -> Response<Body>;

/// A cloud that says the same to everybody.
struct Odd {
    authority: Authority,
    address: String,
    dir: TempDir,
    _crew: Crew,
}

impl Odd {
    /// Shows a certificate for this name and takes nodes of this authority, its own when none is given.
    async fn start(name: &str, nodes: Option<&Authority>, answer: Answer) -> Odd {
        install_crypto_provider();
        let authority = Authority::generate("KubeEdge").unwrap();
        let identity = authority.issue_server("KubeEdge", &[name.to_owned()], 1).unwrap();
        let accepted = nodes.unwrap_or(&authority).cert_pem();
        let tls = server_config(&identity, Clients::Optional(&accepted)).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut crew = Crew::new();
        crew.spawn(serve(listener, tls, Stop::new(), move |_, _| async move { answer() }));
        Odd { authority, address, dir: tempfile::tempdir().unwrap(), _crew: crew }
    }

    fn counter(&self) -> Counter {
        Counter::at(&self.address).unwrap()
    }

    async fn certify(&self) -> Failure {
        let token = Token::create(&self.authority, Duration::from_secs(60));
        let (token, ca) = (Token::parse(&token).unwrap(), self.authority.cert_pem());
        self.counter().certify(&node(), &token, &ca).await.unwrap_err()
    }

    /// A node that has joined already.
    fn joined(&self) -> Config {
        let file = |name: &str| self.dir.path().join(name);
        let files = Files { ca: file("ca.crt"), cert: file("node.crt"), key: file("node.key") };
        let own = self.authority.issue_client("system:node:n1", &["system:nodes"], 1).unwrap();
        std::fs::write(&files.ca, self.authority.cert_pem()).unwrap();
        lay(&own, &files.cert, &files.key);
        Config { files, ..Config::new(node(), self.address.clone(), self.address.clone()) }
    }
}

fn lay(identity: &Identity, cert: &std::path::Path, key: &std::path::Path) {
    std::fs::write(cert, &identity.cert_pem).unwrap();
    std::fs::write(key, &identity.key_pem).unwrap();
}

fn node() -> NodeName {
    NodeName::new("n1").unwrap()
}

fn refuses() -> Response<Body> {
    text(StatusCode::FORBIDDEN, "out of ink\n")
}

fn is_full() -> Response<Body> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "come back");
    response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("7"));
    response
}

#[tokio::test]
async fn a_cloud_that_gives_no_certificate_is_quoted() {
    let cloud = Odd::start("127.0.0.1", None, refuses).await;
    let failure = cloud.certify().await;
    assert_eq!(failure.code, "KE-CERT-004");
    failure.is_as_committed();
    assert_eq!(failure.why, format!("{} answered 403: out of ink", cloud.address));
    assert!(failure.fix.contains("the cloud's log"), "{failure:?}");
}

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Does not know at first whose the name is.
fn has_just_started() -> Response<Body> {
    if ASKED.fetch_add(1, Ordering::SeqCst) == 0 { is_full() } else { refuses() }
}

#[tokio::test]
async fn a_cloud_that_has_just_started_is_asked_again() {
    let cloud = Odd::start("127.0.0.1", None, has_just_started).await;
    let failure = cloud.certify().await;
    failure.is_as_committed();
    assert!(failure.why.ends_with("answered 403: out of ink"), "{failure}");
    assert_eq!(ASKED.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_server_that_is_no_cloud_is_told() {
    let cloud = Odd::start("127.0.0.1", None, refuses).await;
    let failure = cloud.counter().look().await.unwrap_err();
    assert_eq!(failure.code, "KE-LINK-003");
    failure.is_as_committed();
    assert!(failure.what.contains("/ca.crt") && failure.why.contains("403"), "{failure}");
    assert!(failure.fix.contains("kedge or KubeEdge cloud"), "{failure:?}");
}

#[tokio::test]
async fn an_address_that_the_cloud_does_not_go_by_is_named() {
    let cloud = Odd::start("cloud.example", None, refuses).await;
    let failure = cloud.certify().await;
    assert_eq!(failure.code, "KE-CERT-005");
    failure.is_as_committed();
    assert!(failure.what.contains(&cloud.address), "{failure}");
    assert_eq!(failure.why, "the cloud's certificate does not name 127.0.0.1");
    assert!(failure.fix.contains("advertiseAddress"), "{failure:?}");
}

#[tokio::test]
async fn a_cloud_that_was_set_up_anew_refuses_the_certificate() {
    let other = Authority::generate("KubeEdge").unwrap();
    let cloud = Odd::start("127.0.0.1", Some(&other), refuses).await;
    let failure = request_renewal(&cloud.joined().enrolment()).await.unwrap_err();
    assert_eq!(failure.code, "KE-CERT-006");
    failure.is_as_committed();
    assert!(failure.why.contains("refuses the node's certificate"), "{failure}");
    assert!(failure.fix.contains("kedge token create"), "{failure:?}");
}

#[tokio::test]
async fn a_renewed_certificate_is_adopted_only_when_it_is_good() {
    let cloud = Odd::start("127.0.0.1", None, refuses).await;
    let config = cloud.joined();
    let (cert, key) = (cloud.dir.path().join("node.crt.next"), cloud.dir.path().join("node.key.next"));
    let present = std::fs::read(&config.files.cert).unwrap();
    let absent = adopt_renewal(&config.enrolment()).await.unwrap_err();
    assert_eq!(absent.code, "KE-CERT-007");
    absent.is_as_committed();
    assert!(absent.why.contains("node.crt.next"), "{absent}");
    let other = cloud.authority.issue_client("system:node:n2", &["system:nodes"], 1).unwrap();
    lay(&other, &cert, &key);
    let wrong = adopt_renewal(&config.enrolment()).await.unwrap_err();
    assert_eq!(wrong.code, "KE-CERT-007");
    wrong.is_as_committed();
    assert!(wrong.why.contains("system:node:n2") && wrong.fix.contains("the cloud's log"), "{wrong:?}");
    assert_eq!(std::fs::read(&config.files.cert).unwrap(), present);
    let good = cloud.authority.issue_client("system:node:n1", &["system:nodes"], 1).unwrap();
    lay(&good, &cert, &key);
    adopt_renewal(&config.enrolment()).await.unwrap();
    assert_eq!(Identity::load(&config.files.cert, &config.files.key).unwrap(), good);
}

#[tokio::test]
async fn a_hub_that_does_not_let_the_node_in_is_told_in_its_status() {
    let cases: [(Answer, &str, &str); 2] =
        [(refuses, "it answered with status 403", "the cloud's log"), (is_full, "in 7s", "nodeLimit")];
    for (answer, why, fix) in cases {
        let cloud = Odd::start("127.0.0.1", None, answer).await;
        let (uplink, _inbound, mut module) = new(cloud.joined()).unwrap();
        let (stop, mut crew) = (Stop::new(), Crew::new());
        let end = stop.clone();
        crew.spawn(async move { module.run(end, Ready::detached("uplink")).await.unwrap() });
        let mut info = uplink.info();
        let told = info.wait_for(|info| info.code.is_some());
        let info = tokio::time::timeout(Duration::from_secs(30), told).await.unwrap().unwrap().clone();
        assert_eq!(info.code, Some("KE-LINK-003"));
        assert!(info.error.unwrap().contains(why) && info.fix.unwrap().contains(fix));
        stop.raise();
        crew.finish().await;
    }
}

#[test]
fn an_address_that_is_none_is_shown_in_its_right_form() {
    let failures = [
        Counter::at("cloud:port").unwrap_err(),
        new(Config::new(node(), "a b:10000", "127.0.0.1")).err().unwrap(),
    ];
    for (failure, form) in failures.into_iter().zip(["cloud.example:10002", "cloud.example:10000"]) {
        assert_eq!((failure.code, failure.exit), ("KE-LINK-001", Exit::Configuration));
        failure.is_as_committed();
        assert!(failure.fix.contains(form) && failure.why.contains("host:port"), "{failure:?}");
    }
}
