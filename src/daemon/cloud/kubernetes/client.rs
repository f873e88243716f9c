//! Requests to the API. Failures are `metav1.Status`; code 0 means that no answer came.

use super::origin;
use super::resource::{Resource, segment};
use crate::base::{Backoff, Exit, Failure, deepest};
use crate::config::api_url;
use crate::config::login::without_login;
use crate::model::Status;
use bytes::{Buf, Bytes};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tower::{BoxError, ServiceBuilder};

const CALL_LIMIT: Duration = Duration::from_secs(30);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// An API that is starting has answered by then.
const PATIENCE: Duration = Duration::from_secs(3);
const ANSWER_LIMIT: usize = 64 << 20;
const PAGE: usize = 250;

/// How a change is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon::cloud) enum Patch {
    Merge,
    Strategic,
    /// Server-side apply as kedge's field manager.
    Apply,
}

/// The shared client; cheap to clone.
#[derive(Clone)]
pub(in crate::daemon::cloud) struct Kube {
    client: kube::Client,
    /// The API's URL, as it is told.
    server: Arc<str>,
    ca_pem: Option<Arc<str>>,
}

fn failure(what: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new("KE-KUBE-001", what.to_owned())
        .because(why)
        .fix("check kubeAPIConfig.kubeConfig in cloudcore.yaml, or the service account in a cluster")
}

/// The URL that stands in for a kubeconfig's own.
fn at(url: &str) -> Result<http::Uri, Failure> {
    api_url(url).map_err(|wrong| {
        failure(&format!("kubeAPIConfig.master, or --server, is not a URL: {}", without_login(url)), wrong)
            .fix("write it as https://10.0.0.5:6443, or leave it out: the kubeconfig has one")
            .exit(Exit::Configuration)
    })
}

impl Kube {
    /// A client by this kubeconfig, or by the service account of the pod this runs in; `master` is another URL of the API.
    pub async fn connect(kubeconfig: Option<&Path>, master: &str) -> Result<Kube, Failure> {
        let mut config = match kubeconfig {
            Some(path) => {
                let what = format!("cannot use the kubeconfig {}", path.display());
                let read = origin::read(path).await.map_err(|why| failure(&what, why))?;
                let options = kube::config::KubeConfigOptions::default();
                let config = kube::Config::from_custom_kubeconfig(read, &options).await;
                config.map_err(|error| failure(&what, origin::unusable(&error)))?
            }
            // Nodes that tell their pods nothing of the API leave it to `master`; the account's files are there all the same.
            None => match master {
                "" => kube::Config::incluster(),
                _ => kube::Config::incluster_dns(),
            }
            .map_err(|e| failure("cannot find a Kubernetes API", e))?,
        };
        if !master.is_empty() {
            config.cluster_url = at(master)?;
        }
        origin::reachable(&config)
            .map_err(|why| failure("the address of the Kubernetes API is no URL", why))?;
        Kube::from_config(config)
    }

    /// A client by a kubeconfig that a person named; fails with KE-KUBE-003.
    pub async fn named(kubeconfig: &Path) -> Result<Kube, Failure> {
        Kube::from_config(origin::access(kubeconfig).await?)
    }

    /// The same, at another URL of the API than the file's unless that is empty.
    pub async fn named_at(kubeconfig: &Path, server: &str) -> Result<Kube, Failure> {
        let mut config = origin::access(kubeconfig).await?;
        if !server.is_empty() {
            config.cluster_url = at(server)?;
        }
        Kube::from_config(config)
    }

    /// The certificates of the cluster's authority, as the kubeconfig or the service account names them.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    fn from_config(config: kube::Config) -> Result<Kube, Failure> {
        let pem = |certificates: &Vec<Vec<u8>>| -> String {
            certificates.iter().map(|der| crate::pki::pem_certificate(der)).collect()
        };
        let ca_pem = config.root_cert.as_ref().map(pem).map(Arc::from);
        let tls = |e: kube::Error| failure("cannot set up the connection to the Kubernetes API", e);
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_keepalive(Some(Duration::from_secs(30)));
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        let https = config.rustls_https_connector_with_connector(connector).map_err(tls)?;
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(8)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(256 << 10)
            .build::<_, Body>(https);
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer().map_err(tls)?)
            .map_err(BoxError::from)
            .service(http);
        let server = config.cluster_url.to_string().into();
        Ok(Kube { client: kube::Client::new(service, config.default_namespace), server, ca_pem })
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let sent = tokio::time::timeout(CALL_LIMIT, self.client.send(request)).await;
        let response = sent.map_err(|_| unreached("it did not answer in time"))?;
        let response = response.map_err(|error| unreached(&deepest(&error)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status();
        let body = collect(response, 1 << 20).await.unwrap_or_default();
        Err(refused(code, &body))
    }

    /// One request with a JSON answer.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        content: Option<(&str, Vec<u8>)>,
    ) -> Result<Value, Status> {
        let mut request = Request::builder().method(method).uri(path).header("Accept", "application/json");
        let body = match content {
            Some((kind, bytes)) => {
                request = request.header("Content-Type", kind);
                bytes
            }
            None => Vec::new(),
        };
        let request = request.body(Body::from(body)).map_err(|error| invalid(&error.to_string()))?;
        let response = self.send(request).await?;
        let body = tokio::time::timeout(CALL_LIMIT, collect(response, ANSWER_LIMIT)).await;
        let body = body.map_err(|_| unreached("its answer did not end in time"))??;
        serde_json::from_reader(body.reader()).map_err(|_| unreached("its answer is not JSON"))
    }

    pub async fn get(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, Status> {
        let object = self.call(Method::GET, &resource.path(namespace, Some(name), None), None).await?;
        Ok(slim(object, resource))
    }

    pub async fn create(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<Value, Status> {
        let path = resource.path(namespace, None, None);
        let object = self.call(Method::POST, &path, Some(("application/json", encode(object)))).await?;
        Ok(slim(object, resource))
    }

    /// Creates below an object, such as a token of a service account.
    pub async fn create_below(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
        object: &Value,
    ) -> Result<Value, Status> {
        let path = resource.path(namespace, Some(name), Some(subresource));
        self.call(Method::POST, &path, Some(("application/json", encode(object)))).await
    }

    /// Replaces an object; its resourceVersion, if it has one, is the precondition.
    pub async fn replace(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
        object: &Value,
    ) -> Result<Value, Status> {
        let path = resource.path(namespace, Some(name), None);
        let object = self.call(Method::PUT, &path, Some(("application/json", encode(object)))).await?;
        Ok(slim(object, resource))
    }

    /// Changes an object by a patch given as JSON text; `target` is the name and the subresource.
    pub async fn patch(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        target: (&str, Option<&str>),
        kind: Patch,
        patch: Vec<u8>,
    ) -> Result<Value, Status> {
        let mut path = resource.path(namespace, Some(target.0), target.1);
        let content = match kind {
            Patch::Merge => "application/merge-patch+json",
            Patch::Strategic => "application/strategic-merge-patch+json",
            Patch::Apply => {
                path += "?fieldManager=kedge-cloud&force=true";
                "application/apply-patch+yaml"
            }
        };
        let object = self.call(Method::PATCH, &path, Some((content, patch))).await?;
        Ok(slim(object, resource))
    }

    pub async fn delete(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
        options: &Value,
    ) -> Result<Value, Status> {
        let path = resource.path(namespace, Some(name), None);
        self.call(Method::DELETE, &path, Some(("application/json", encode(options)))).await
    }

    /// Lists page by page and hands over each object; returns the list's resourceVersion.
    pub async fn list(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        selector: &str,
        mut each: impl FnMut(Value),
    ) -> Result<String, Status> {
        let mut follow_on = String::new();
        loop {
            let mut path = format!("{}?limit={PAGE}", resource.path(namespace, None, None));
            if !selector.is_empty() {
                path.push('&');
                path += selector;
            }
            if !follow_on.is_empty() {
                path += "&continue=";
                segment(&mut path, &follow_on);
            }
            let mut page = self.call(Method::GET, &path, None).await?;
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                for item in items {
                    each(slim(item, resource));
                }
            }
            follow_on = super::meta(&page, "continue").to_owned();
            if follow_on.is_empty() {
                return Ok(super::meta(&page, "resourceVersion").to_owned());
            }
        }
    }

    /// Waits until the API answers; says once that it does not, when that lasts.
    pub async fn wait_until_reachable(&self, limit: Duration) -> Result<(), Failure> {
        let silence = async {
            tokio::time::sleep(PATIENCE).await;
            let (server, seconds) = (self.server.as_ref(), limit.as_secs());
            tracing::warn!(
                server,
                seconds,
                "the Kubernetes API does not answer; kedge goes on asking for so long"
            );
            std::future::pending().await
        };
        tokio::select! {
            biased;
            outcome = self.answers(limit) => outcome,
            never = silence => never,
        }
    }

    async fn answers(&self, limit: Duration) -> Result<(), Failure> {
        let started = Instant::now();
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            match self.call(Method::GET, "/version", None).await {
                Ok(_) => return Ok(()),
                Err(status) if started.elapsed() > limit || !super::is_temporary(&status) => {
                    return Err(Failure::new("KE-KUBE-002", "the Kubernetes API does not answer")
                        .because(&status)
                        .fix("start it, or check the address in the kubeconfig")
                        .exit(Exit::Unreachable));
                }
                Err(_) => tokio::time::sleep(backoff.next_wait()).await,
            }
        }
    }

    /// Repeats a call while trying again can help, at most for `limit`.
    pub async fn insist<T, F>(&self, limit: Duration, call: impl FnMut() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        self.repeat(call, |_, waited| waited < limit).await
    }

    /// Like [`Kube::insist`], but waits for ever for an API that cannot be reached: what a node is owed must not be
    /// given up with the API's return. The caller ends it by dropping it.
    pub async fn outlast<T, F>(&self, limit: Duration, call: impl FnMut() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        self.repeat(call, |status, waited| matches!(status.code, 0 | 429 | 503) || waited < limit).await
    }

    async fn repeat<T, F>(
        &self,
        mut call: impl FnMut() -> F,
        go_on: impl Fn(&Status, Duration) -> bool,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let started = Instant::now();
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            match call().await {
                Err(status) if super::is_temporary(&status) && go_on(&status, started.elapsed()) => {
                    tracing::debug!(code = status.code, "a call to the Kubernetes API is repeated");
                    tokio::time::sleep(backoff.next_wait()).await;
                }
                outcome => return outcome,
            }
        }
    }
}

pub(super) async fn collect(response: Response<Body>, limit: usize) -> Result<Bytes, Status> {
    let body = Limited::new(response.into_body(), limit);
    let whole = body.collect().await.map_err(|error| unreached(&error.to_string()))?;
    Ok(whole.to_bytes())
}

fn encode(object: &Value) -> Vec<u8> {
    // JSON values always serialise.
    serde_json::to_vec(object).unwrap_or_default()
}

/// Takes out what edge nodes never read, and says what the object is (items of lists do not).
pub(super) fn slim(mut object: Value, resource: Resource) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if let Some(fields) = object.as_object_mut()
        && fields.get("kind").is_none_or(|kind| kind.as_str().is_none_or(str::is_empty))
    {
        fields.insert("kind".to_owned(), json!(resource.kind));
        fields.insert("apiVersion".to_owned(), json!(resource.api_version()));
    }
    object
}

fn unreached(why: &str) -> Status {
    let mut status = Status::failure(0, "ServiceUnavailable", format!("the Kubernetes API: {why}"));
    status.metadata = json!({});
    status
}

fn invalid(why: &str) -> Status {
    Status::failure(400, "BadRequest", why)
}

fn refused(code: StatusCode, body: &[u8]) -> Status {
    match serde_json::from_slice::<Status>(body) {
        Ok(mut status) if !status.status.is_empty() => {
            if status.code == 0 {
                status.code = code.as_u16();
            }
            if !status.metadata.is_object() {
                status.metadata = json!({});
            }
            status
        }
        _ => {
            let reason = match code.as_u16() {
                401 => "Unauthorized",
                403 => "Forbidden",
                404 => "NotFound",
                409 => "Conflict",
                _ => "InternalError",
            };
            Status::failure(code.as_u16(), reason, format!("the Kubernetes API answered {code}"))
        }
    }
}
