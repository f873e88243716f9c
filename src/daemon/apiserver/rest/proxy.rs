//! `/api/v1/nodes/NODE/proxy/…`: a path of the node's kubelet API, read through the cloud. GET only: what the node
//! measures and logs; sessions have their own way through pods.

use super::{Api, Asked};
use crate::base::deepest;
use crate::daemon::apiserver::errors;
use crate::daemon::apiserver::ops::Target;
use crate::link::http::{Body, stream};
use crate::model::Status;
use futures_util::TryStreamExt;
use http::{Method, Response, header};
use std::io;
use std::time::Duration;

/// Until the answer begins; the cloud itself waits less for a node.
const FIRST_BYTE: Duration = Duration::from_secs(30);
/// Tells the cloud which node is meant, as kube-apiserver's proxy does.
const FORWARDED: &str = "X-Forwarded-Uri";

impl Api {
    /// Passes a request for what stands `beyond` the proxy on; the node must be there.
    pub(super) async fn node_proxy(
        &self,
        asked: &Asked,
        target: &Target,
        beyond: &str,
    ) -> Result<Response<Body>, Status> {
        let node = Target { subresource: None, ..target.clone() };
        self.ops.get(&node)?;
        if asked.method != Method::GET {
            return Err(errors::method_not_allowed());
        }
        let kubelet = self.kubelet.as_ref().ok_or_else(errors::no_kubelet)?;
        let query = asked.raw_query.as_deref().map(|query| format!("?{query}")).unwrap_or_default();
        let request = kubelet
            .client
            .get(format!("https://{}{beyond}{query}", kubelet.address))
            .header(FORWARDED, asked.path.as_str());
        let unreachable = |why: String| {
            let message = format!("the kubelet API of node {} cannot be reached: {why}", target.name);
            Status::failure(502, "InternalError", message)
        };
        let sent = tokio::time::timeout(FIRST_BYTE, request.send()).await;
        let answer = sent
            .map_err(|_| unreachable(format!("no answer in {} seconds", FIRST_BYTE.as_secs())))?
            .map_err(|error| unreachable(deepest(&error)))?;
        let (status, kind) = (answer.status(), answer.headers().get(header::CONTENT_TYPE).cloned());
        let mut response = Response::new(stream(answer.bytes_stream().map_err(io::Error::other)));
        *response.status_mut() = status;
        if let Some(kind) = kind {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        Ok(response)
    }
}
