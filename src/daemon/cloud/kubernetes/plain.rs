//! An API of a test's own making, over plain HTTP: it gives the answers that a real one gives once in a year. Only tests
//! use it.

use super::Kube;
use crate::base::{Crew, Stop};
use crate::link::http::{Limits, full, serve_plain};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

/// Serves until dropped.
pub(in crate::daemon::cloud) struct Plain {
    pub kube: Kube,
    pub kubeconfig: std::path::PathBuf,
    _dir: tempfile::TempDir,
    _crew: Crew,
}

/// A status and what it comes with; `None` leaves the caller without an answer, as a watch on which nothing happens.
pub(in crate::daemon::cloud) type Answer = Option<(u16, Value)>;

impl Plain {
    pub async fn serve(answer: impl Fn(&Method, &Uri) -> Answer + Clone + Send + Sync + 'static) -> Plain {
        Plain::serve_with(move |method: &Method, uri: &Uri, _: &[u8]| answer(method, uri)).await
    }

    /// The same for answers that look at what is written.
    pub async fn serve_with(
        answer: impl Fn(&Method, &Uri, &[u8]) -> Answer + Clone + Send + Sync + 'static,
    ) -> Plain {
        crate::pki::install_crypto_provider();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let handler = move |request: Request<Incoming>| {
            let answer = answer.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map(|whole| whole.to_bytes()).unwrap_or_default();
                let answer = answer(&head.method, &head.uri, &body);
                let Some((status, body)) = answer else { return std::future::pending().await };
                let mut response = Response::new(full(body.to_string()));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                response
            }
        };
        let mut crew = Crew::new();
        crew.spawn(serve_plain(Limits::default(), listener, Stop::new(), handler));
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}]});
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        let kube = Kube::connect(Some(&kubeconfig), "").await.unwrap();
        Plain { kube, kubeconfig, _dir: dir, _crew: crew }
    }
}

/// A refusal as the API words it.
pub(in crate::daemon::cloud) fn refusal(code: u16, reason: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
        "message": format!("the test says {reason}"), "code": code});
    Some((code, status))
}
