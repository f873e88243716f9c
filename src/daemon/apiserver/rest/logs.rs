//! `kubectl logs`: the pod's log is fetched from the node's kubelet API and passed on as it comes.

use super::Api;
use super::path::Query;
use crate::base::{Failure, deepest};
use crate::daemon::apiserver::KubeletEndpoint;
use crate::daemon::apiserver::errors;
use crate::daemon::apiserver::ops::Target;
use crate::link::http::{Body, stream};
use crate::model::Status;
use crate::pki;
use futures_util::{StreamExt, TryStreamExt};
use http::{HeaderValue, Response, header};
use serde_json::Value;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(5);
const FIRST_BYTE: Duration = Duration::from_secs(30);
const ERROR_LIMIT: usize = 4096;

/// A client of the kubelet API.
pub struct Kubelet {
    pub(super) client: reqwest::Client,
    pub(super) address: SocketAddr,
}

impl Kubelet {
    pub fn new(endpoint: &KubeletEndpoint) -> Result<Kubelet, Failure> {
        let unusable = |why: String| {
            Failure::new("KE-API-005", "cannot set up the client that asks nodes for logs")
                .because(why)
                .fix("move the stream server's certificate and key (cloud/certs/stream.* below the data directory) away and start again: new ones are made")
        };
        let tls = pki::client_config(&endpoint.ca_pem, Some(&endpoint.identity));
        let tls = tls.map_err(|failure| unusable(failure.to_string()))?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(rustls::ClientConfig::clone(&tls))
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .no_proxy()
            .http1_only()
            .build()
            .map_err(|error| unusable(deepest(&error)))?;
        Ok(Kubelet { client, address: endpoint.address })
    }
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let containers = pod["spec"][list].as_array();
    containers.into_iter().flatten().filter_map(|c| c["name"].as_str().map(str::to_owned)).collect()
}

/// The container that is meant: the one asked for, the only one, or the annotated one.
pub(super) fn container(pod: &Value, name: &str, asked: &str) -> Result<String, Status> {
    let (main, init) = (names(pod, "containers"), names(pod, "initContainers"));
    if asked.is_empty() {
        let annotated = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
        return match (main.as_slice(), annotated) {
            ([only], _) => Ok(only.clone()),
            (several, Some(chosen)) if several.iter().any(|c| c == chosen) => Ok(chosen.to_owned()),
            (several, _) => {
                let list = several.join(" ");
                let mut message =
                    format!("a container name must be specified for pod {name}, choose one of: [{list}]");
                if !init.is_empty() {
                    message += &format!(" or one of the init containers: [{}]", init.join(" "));
                }
                Err(errors::bad_request(message))
            }
        };
    }
    let ephemeral = names(pod, "ephemeralContainers");
    if main.iter().chain(&init).chain(&ephemeral).any(|c| c == asked) {
        return Ok(asked.to_owned());
    }
    Err(errors::bad_request(format!("container {asked} is not valid for pod {name}")))
}

/// Refuses, in upstream's words, a log that cannot exist: of a container that never ended or never began.
fn check_started(pod: &Value, name: &str, container: &str, previous: bool) -> Result<(), Status> {
    let lists = ["containerStatuses", "initContainerStatuses"];
    let mut all = lists.iter().flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
    let Some(status) = all.find(|status| status["name"] == container) else { return Ok(()) };
    let ended = !status["lastState"]["terminated"].is_null();
    if previous && !ended {
        let why = format!("previous terminated container \"{container}\" in pod \"{name}\" not found");
        return Err(errors::bad_request(why));
    }
    match status["state"]["waiting"]["reason"].as_str() {
        Some(reason) if !previous && !ended => Err(errors::bad_request(format!(
            "container \"{container}\" in pod \"{name}\" is waiting to start: {reason}"
        ))),
        _ => Ok(()),
    }
}

impl Api {
    pub(super) async fn log(&self, target: &Target, query: &Query) -> Result<Response<Body>, Status> {
        let pod = self.ops.get(target)?;
        let container = container(&pod, &target.name, query.get("container"))?;
        check_started(&pod, &target.name, &container, query.is_true("previous"))?;
        let node = pod["spec"]["nodeName"].as_str().unwrap_or("");
        if node.is_empty() {
            return Err(errors::bad_request(format!("pod {} does not have a host assigned", target.name)));
        }
        let kubelet = self.kubelet.as_ref().ok_or_else(errors::no_kubelet)?;
        let namespace = target.namespace.as_deref().unwrap_or_default();
        let mut parameters = Vec::new();
        for name in
            ["follow", "tailLines", "sinceSeconds", "sinceTime", "timestamps", "limitBytes", "previous"]
        {
            let value = query.get(name);
            if !value.is_empty() {
                parameters.push(format!("{name}={}", encode(value)));
            }
        }
        let url = format!(
            "https://{}/containerLogs/{namespace}/{}/{}?{}",
            kubelet.address,
            target.name,
            encode(&container),
            parameters.join("&")
        );
        let unreachable = |why: String| {
            let message = format!(
                "the log of pod {} on node {node} cannot be fetched from {}: {why}; check that the cloud side and the \
                 node run (kedge status)",
                target.name, kubelet.address
            );
            Status::failure(502, "InternalError", message)
        };
        let sent = tokio::time::timeout(FIRST_BYTE, kubelet.client.get(url).send()).await;
        let answer = sent
            .map_err(|_| unreachable("no answer in 30 seconds".to_owned()))?
            .map_err(|error| unreachable(deepest(&error)))?;
        if !answer.status().is_success() {
            return Err(refused(answer).await);
        }
        let mut response = Response::new(stream(answer.bytes_stream().map_err(io::Error::other)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    }
}

/// A value as it may stand in a query.
pub(super) fn encode(value: &str) -> String {
    value
        .bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// The node's refusal in its own words.
async fn refused(answer: reqwest::Response) -> Status {
    let code = answer.status().as_u16();
    let mut text = Vec::new();
    let mut pieces = answer.bytes_stream();
    while let Ok(Some(Ok(piece))) = tokio::time::timeout(CONNECT, pieces.next()).await {
        text.extend_from_slice(&piece);
        if text.len() > ERROR_LIMIT {
            break;
        }
    }
    text.truncate(ERROR_LIMIT);
    if let Ok(status) = serde_json::from_slice::<Status>(&text)
        && status.code >= 400
    {
        return status;
    }
    let words = String::from_utf8_lossy(&text).trim().to_owned();
    let reason = match code {
        400 => "BadRequest",
        404 => "NotFound",
        _ => "InternalError",
    };
    Status::failure(code.max(400), reason, words)
}
