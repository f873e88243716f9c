//! An image registry as the cloud asks one: real HTTPS, one digest for every manifest, for whoever has the token.

use kedge::base::{Crew, Stop};
use kedge::link::http::{empty, serve};
use kedge::pki::{Authority, Clients, install_crypto_provider, server_config};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub const TOKEN: &str = "t0ken-of-the-registry";

#[derive(Default)]
struct State {
    digest: String,
    asked: Vec<String>,
}

pub struct Registry {
    pub host: String,
    /// The authority of its certificate.
    pub ca: PathBuf,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
    _crew: Crew,
}

impl Registry {
    pub fn start(dir: &Path) -> Registry {
        install_crypto_provider();
        let authority = Authority::generate("registry").unwrap();
        let ca = dir.join("registry-ca.crt");
        std::fs::write(&ca, authority.cert_pem()).unwrap();
        let identity = authority.issue_server("registry", &["127.0.0.1".to_owned()], 1).unwrap();
        let tls = server_config(&identity, Clients::None).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state: Arc<Mutex<State>> = Arc::default();
        let held = state.clone();
        let answer = move |request: http::Request<hyper::body::Incoming>, _| {
            let mut state = held.lock().unwrap();
            state.asked.push(format!("{} {}", request.method(), request.uri().path()));
            let known =
                request.headers().get("authorization").is_some_and(|v| *v == *format!("Bearer {TOKEN}"));
            let answer = match (known, request.uri().path().ends_with("/v1.23.1")) {
                (false, _) => http::Response::builder().status(401),
                (true, false) => http::Response::builder().status(404),
                (true, true) => http::Response::builder().header("docker-content-digest", &state.digest),
            };
            async move { answer.body(empty()).unwrap() }
        };
        let mut crew = Crew::new();
        let entered = runtime.enter();
        crew.spawn(serve(listener, tls, Stop::new(), answer));
        drop(entered);
        Registry { host, ca, state, runtime: Some(runtime), _crew: crew }
    }

    /// What the tag leads to from now on.
    pub fn has(&self, digest: &str) {
        self.state.lock().unwrap().digest = digest.to_owned();
    }

    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    /// It is gone.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
