//! The question to a registry, put to a real HTTPS server that answers in every way a registry may, and in some that none
//! should.

use super::*;
use crate::base::{Crew, Stop};
use crate::link::http::{Body, empty, full, serve};
use crate::pki::{Authority, Clients, server_config};
use http::{Request, Response};
use hyper::body::Incoming;
use serde_json::json;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

const MANIFEST_TEXT: &str = r#"{"schemaVersion": 2, "manifests": []}"#;

/// One request as the registry saw it: method, path with query, bearer token.
type Seen = (String, String, Option<String>);

struct Registry {
    host: String,
    ca: PathBuf,
    seen: Arc<Mutex<Vec<Seen>>>,
    _crew: Crew,
    _dir: tempfile::TempDir,
}

impl Registry {
    async fn open(
        answer: impl Fn(&str, &str, Option<&str>) -> http::response::Builder + Clone + Send + Sync + 'static,
        content: &'static str,
    ) -> Registry {
        crate::pki::install_crypto_provider();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::generate("registry").unwrap();
        let ca = dir.path().join("ca.crt");
        std::fs::write(&ca, authority.cert_pem()).unwrap();
        let identity = authority.issue_server("registry", &["127.0.0.1".to_owned()], 1).unwrap();
        let tls = server_config(&identity, Clients::None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let record = seen.clone();
        let handler = move |request: Request<Incoming>, _| {
            let method = request.method().to_string();
            let path = request.uri().path_and_query().unwrap().to_string();
            let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            let token = token.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
            let builder = answer(&method, &path, token.as_deref());
            let body: Body = if method == "HEAD" { empty() } else { full(content) };
            record.lock().unwrap().push((method, path, token));
            async move { builder.body(body).unwrap() as Response<Body> }
        };
        let mut crew = Crew::new();
        crew.spawn(serve(listener, tls, Stop::new(), handler));
        Registry { host, ca, seen, _crew: crew, _dir: dir }
    }

    fn question(&self, token: &str) -> Question {
        let spec = json!({"version": "v1.23.1", "nodeNames": ["a"], "image": format!("{}/own/image", self.host),
            "imageDigestGatter": {"registryAPI": {"host": self.host, "token": token}}});
        Question::of(&UpgradeSpec::parse(&spec).unwrap()).unwrap()
    }

    async fn ask(&self, token: &str) -> Result<String, Failure> {
        digest(&self.question(token), Some(&self.ca)).await
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn some_digest() -> String {
    format!("sha256:{}", "ab".repeat(32))
}

fn content_digest() -> String {
    format_digest(ring::digest::digest(&ring::digest::SHA256, MANIFEST_TEXT.as_bytes()).as_ref())
}

#[tokio::test]
async fn the_token_goes_with_the_question_and_the_digest_comes_back() {
    let answer = |_: &str, _: &str, token: Option<&str>| match token {
        Some("s3cret") => Response::builder().header(DIGEST, some_digest()),
        _ => Response::builder().status(401),
    };
    let registry = Registry::open(answer, MANIFEST_TEXT).await;
    assert_eq!(registry.ask("s3cret").await, Ok(some_digest()));
    let path = "/v2/own/image/manifests/v1.23.1".to_owned();
    assert_eq!(registry.seen(), [("HEAD".to_owned(), path, Some("s3cret".to_owned()))]);
    let failure = registry.ask("wr0ng").await.unwrap_err();
    assert_eq!((failure.code, failure.why.as_str()), ("KE-JOB-003", "it answers 401"));
    failure.is_as_committed();
    assert!(failure.what.contains("own/image:v1.23.1") && failure.fix.contains("token"), "{failure:?}");
    assert!(!format!("{failure:?} {:?}", registry.question("wr0ng")).contains("wr0ng"), "{failure:?}");
}

#[tokio::test]
async fn without_a_token_one_for_anybody_is_fetched_where_the_registry_says() {
    let answer = |method: &str, path: &str, token: Option<&str>| {
        let builder = Response::builder();
        match (path.starts_with("/token"), token) {
            (true, None) => builder,
            (false, Some("for-anybody")) if method == "GET" => builder,
            (false, Some("for-anybody")) => builder.status(405),
            _ => builder.status(401),
        }
    };
    // A server does not know its own port before it listens: what is asked for stands in the question.
    let registry = Registry::open(answer, r#"{"schemaVersion": 2, "token": "for-anybody"}"#).await;
    let mut head = HeaderMap::new();
    let realm = format!(r#"Bearer realm="https://{}/token",service="registry""#, registry.host);
    head.insert(WWW_AUTHENTICATE, realm.parse().unwrap());
    let door = door(&head, "own/image").unwrap();
    assert_eq!(door.query(), Some("scope=repository%3Aown%2Fimage%3Apull&service=registry"));
    let client = client(Some(&registry.ca)).unwrap();
    assert_eq!(anyone(&client, door).await, Ok("for-anybody".to_owned()));
    // A registry that takes no HEAD is asked with GET, and what it sends is the digest's source.
    let named = registry.ask("for-anybody").await.unwrap();
    assert!(is_digest(&named), "{named}");
    let methods: Vec<String> = registry.seen().into_iter().map(|(method, ..)| method).collect();
    assert_eq!(methods, ["GET", "HEAD", "GET"]);
    for none in
        [r#"Basic realm="x""#, r#"Bearer realm="http://plain.example/token""#, "Bearer", "Bearer realm="]
    {
        head.insert(WWW_AUTHENTICATE, none.parse().unwrap());
        assert_eq!(super::door(&head, "own/image"), None, "{none}");
    }
}

#[tokio::test]
async fn what_a_registry_leaves_out_is_measured() {
    let bare = Registry::open(|_, _, _| Response::builder(), MANIFEST_TEXT).await;
    assert_eq!(bare.ask("").await, Ok(content_digest()));
}

#[tokio::test]
async fn every_answer_that_is_none_has_its_code() {
    async fn refused(status: u16, header: Option<&'static str>, content: &'static str) -> Failure {
        let answer = move |_: &str, _: &str, _: Option<&str>| {
            let builder = Response::builder().status(status);
            match header {
                Some(digest) => builder.header(DIGEST, digest),
                None => builder,
            }
        };
        Registry::open(answer, content).await.ask("").await.unwrap_err()
    }
    let absent = refused(404, None, MANIFEST_TEXT).await;
    assert_eq!(absent.code, "KE-JOB-004");
    assert!(absent.what.ends_with("/own/image:v1.23.1"), "{absent}");
    assert_eq!(refused(403, None, MANIFEST_TEXT).await.code, "KE-JOB-003");
    for (status, header, content, why) in [
        (200, Some("sha256:short"), MANIFEST_TEXT, "no digest"),
        (200, Some("sha512:abababab"), MANIFEST_TEXT, "no digest"),
        (200, None, "<html>welcome</html>", "no manifest"),
        (200, None, "{}", "no manifest"),
        (302, None, "", "302"),
        (418, None, "", "418"),
    ] {
        let failure = refused(status, header, content).await;
        assert_eq!(failure.code, "KE-JOB-005", "{failure}");
        failure.is_as_committed();
        assert!(failure.why.contains(why), "{failure}");
    }
    let long: &'static str = Box::leak("x".repeat(MANIFEST + 1).into_boxed_str());
    assert!(refused(200, None, long).await.why.contains("longer than 4096 KiB"));
}

#[tokio::test]
async fn a_registry_that_names_another_digest_than_it_sends_is_not_believed() {
    let answer = |method: &str, _: &str, _: Option<&str>| match method {
        "HEAD" => Response::builder(),
        _ => Response::builder().header(DIGEST, some_digest()),
    };
    let failure = Registry::open(answer, MANIFEST_TEXT).await.ask("").await.unwrap_err();
    assert_eq!(failure.code, "KE-JOB-005");
    failure.is_as_committed();
    assert!(failure.why.contains(&content_digest()), "{failure}");
}

#[tokio::test]
async fn who_cannot_be_reached_or_trusted_is_named() {
    // Overloaded for a moment is not lost.
    let turns = Arc::new(Mutex::new(0));
    let answer = move |_: &str, _: &str, _: Option<&str>| {
        let mut turns = turns.lock().unwrap();
        *turns += 1;
        let builder = Response::builder();
        if *turns == 1 { builder.status(503) } else { builder.header(DIGEST, some_digest()) }
    };
    let registry = Registry::open(answer, MANIFEST_TEXT).await;
    assert_eq!(registry.ask("").await, Ok(some_digest()));

    let stranger = digest(&registry.question("s3cret"), None).await.unwrap_err();
    assert_eq!(stranger.code, "KE-JOB-002");
    stranger.is_as_committed();
    assert!(stranger.why.contains("certificate") && stranger.fix.contains("registryCAFile"), "{stranger:?}");
    assert!(registry.seen().iter().all(|(.., token)| token.is_none()), "the token goes to no stranger");
    let no_file = digest(&registry.question(""), Some(Path::new("/nonexistent/ca.crt"))).await.unwrap_err();
    assert!(no_file.code == "KE-JOB-002" && no_file.why.contains("/nonexistent/ca.crt"), "{no_file}");
    no_file.is_as_committed();

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut question = registry.question("");
    question.api.host = closed.to_string();
    let down = digest(&question, Some(&registry.ca)).await.unwrap_err();
    assert_eq!(down.code, "KE-JOB-002");
    down.is_as_committed();
    assert!(down.what.contains(&closed.to_string()) && down.why.contains("refused"), "{down}");
}

#[test]
fn the_status_keeps_what_was_named() {
    let api = RegistryApi { host: "r.example".to_owned(), token: "s3cret".to_owned() };
    let question =
        Question { api, repository: "kubeedge/installation-package".to_owned(), tag: "v1.2.3".to_owned() };
    let note = question.note(&some_digest());
    assert_eq!(noted(&json!({"reason": note})), Some(some_digest().as_str()));
    assert!(!note.contains("s3cret"));
    for other in [json!({}), json!({"reason": "x"}), json!({"reason": format!("{NOTED}sha256:1 at r")})] {
        assert_eq!(noted(&other), None);
    }
    assert_eq!(question.url(), "https://r.example/v2/kubeedge/installation-package/manifests/v1.2.3");
    let api = RegistryApi { host: "docker.io".to_owned(), token: String::new() };
    assert!(Question { api, ..question }.url().starts_with("https://registry-1.docker.io/v2/kubeedge/"));
}
