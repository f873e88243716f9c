//! Requests in a node's name: the API impersonates the node, so its own rules decide what the node may do. Used for what
//! programs on nodes ask; nothing else goes through here.

use super::client::{Kube, collect};
use crate::model::{NodeName, Status};
use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::client::Body;
use std::time::Duration;

/// What an answer may hold, so that it still fits into a message.
const ANSWER_LIMIT: usize = 11 << 20;
const LINE_LIMIT: usize = 4 << 20;
/// The longest silence of a watch; the server ends one sooner.
const SILENCE: Duration = Duration::from_secs(330);
const LIMIT: Duration = Duration::from_secs(30);

/// The API as one node sees it.
pub(in crate::daemon::cloud) struct AsNode<'a> {
    pub kube: &'a Kube,
    pub node: &'a NodeName,
}

impl AsNode<'_> {
    fn request(
        &self,
        method: Method,
        path: &str,
        content: Option<(&str, Vec<u8>)>,
    ) -> Result<Request<Body>, Status> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("Accept", "application/json, */*;q=0.5")
            .header("Impersonate-User", format!("system:node:{}", self.node))
            .header("Impersonate-Group", "system:nodes");
        let mut body = Vec::new();
        if let Some((kind, bytes)) = content {
            request = request.header("Content-Type", kind);
            body = bytes;
        }
        request.body(Body::from(body)).map_err(|error| Status::failure(400, "BadRequest", error.to_string()))
    }

    /// One request; the answer as it came, at most 11 MiB.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        content: Option<(&str, Vec<u8>)>,
    ) -> Result<Bytes, Status> {
        let response = self.kube.send(self.request(method, path, content)?).await?;
        let body = tokio::time::timeout(LIMIT, collect(response, ANSWER_LIMIT)).await;
        let late = |_| Status::failure(504, "Timeout", "the Kubernetes API did not end its answer in time");
        body.map_err(late)?
    }

    /// Begins a watch.
    pub async fn lines(&self, path: &str) -> Result<Lines, Status> {
        let response = self.kube.send(self.request(Method::GET, path, None)?).await?;
        Ok(Lines { body: response.into_body(), held: BytesMut::new() })
    }
}

/// The lines of a watch.
pub(in crate::daemon::cloud) struct Lines {
    body: Body,
    held: BytesMut,
}

impl Lines {
    /// The next line; `None` at the end, after too long a silence and for a line of more than 4 MiB.
    pub async fn next(&mut self) -> Option<BytesMut> {
        loop {
            if let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                let line = self.held.split_to(end);
                self.held.advance(1);
                return Some(line);
            }
            if self.held.len() > LINE_LIMIT {
                return None;
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await.ok()??.ok()?;
            if let Ok(data) = frame.into_data() {
                self.held.extend_from_slice(&data);
            }
        }
    }
}
