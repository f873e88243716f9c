//! A large answer that goes to disk piece by piece: one HTTPS request on a connection of its own, with limits on its size,
//! on the time for all of it and on every silence. Upgrades use it; memory holds one piece at a time.

use super::dial::{Endpoint, dial};
use super::fetch::{FetchError, http};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Bounds of one download.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes; an answer that announces more is not read.
    pub size: u64,
    pub total: Duration,
    /// The longest wait for the next piece.
    pub silence: Duration,
}

/// Requests a path and writes the body of a 200 to `sink`; other bodies are not read.
pub async fn download(
    endpoint: &Endpoint,
    tls: Arc<rustls::ClientConfig>,
    path: &str,
    bounds: Bounds,
    sink: &mut (impl AsyncWrite + Unpin),
) -> Result<http::response::Parts, FetchError> {
    let exchange = async {
        let stream = dial(endpoint, tls, bounds.silence).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let request = http::Request::get(path).header(http::header::HOST, endpoint.to_string());
        let request = request.body(Empty::<Bytes>::new()).map_err(|_| FetchError::Body)?;
        let answer = async {
            let response = silent(bounds, sender.send_request(request)).await?.map_err(http)?;
            let (head, mut body) = response.into_parts();
            if head.status != http::StatusCode::OK {
                return Ok(head);
            }
            if body.size_hint().lower() > bounds.size {
                return Err(FetchError::Body);
            }
            let mut total = 0_u64;
            while let Some(frame) = silent(bounds, body.frame()).await? {
                let Ok(piece) = frame.map_err(http)?.into_data() else { continue };
                total = total.saturating_add(piece.len() as u64);
                if total > bounds.size {
                    return Err(FetchError::Body);
                }
                sink.write_all(&piece).await.map_err(FetchError::Sink)?;
            }
            sink.flush().await.map_err(FetchError::Sink)?;
            Ok(head)
        };
        tokio::pin!(connection, answer);
        tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => {
                ended.map_err(http)?;
                answer.await
            }
        }
    };
    tokio::time::timeout(bounds.total, exchange).await.map_err(|_| FetchError::TimedOut)?
}

async fn silent<T>(bounds: Bounds, next: impl Future<Output = T>) -> Result<T, FetchError> {
    tokio::time::timeout(bounds.silence, next).await.map_err(|_| FetchError::TimedOut)
}
