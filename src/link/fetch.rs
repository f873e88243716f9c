//! One HTTP request on a connection of its own, with limits on time and size. Enrolment and checks use it.

use super::dial::{DialError, Endpoint, dial};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the request failed: {0}")]
    Http(hyper::Error),
    #[error("the answer is broken or too long")]
    Body,
    #[error("no answer in time")]
    TimedOut,
    #[error("it cannot be written: {0}")]
    Sink(std::io::Error),
}

pub(super) fn http(error: hyper::Error) -> FetchError {
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<std::io::Error>());
    let tls = source.and_then(|io| io.get_ref()).and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(tls) => FetchError::Dial(DialError::Tls(tls.clone())),
        None => FetchError::Http(error),
    }
}

/// Sends a request and reads an answer of at most `size` bytes; `time` is the limit for everything.
pub async fn fetch(
    endpoint: &Endpoint,
    tls: Arc<rustls::ClientConfig>,
    request: http::Request<Full<Bytes>>,
    size: usize,
    time: Duration,
) -> Result<(http::StatusCode, Bytes), FetchError> {
    let answer = fetch_whole(endpoint, tls, request, size, time).await?;
    Ok((answer.status(), answer.into_body()))
}

/// Like [`fetch`], with the headers of the answer.
pub async fn fetch_whole(
    endpoint: &Endpoint,
    tls: Arc<rustls::ClientConfig>,
    request: http::Request<Full<Bytes>>,
    size: usize,
    time: Duration,
) -> Result<http::Response<Bytes>, FetchError> {
    let asked = async {
        let stream = dial(endpoint, tls, time).await?;
        exchange(stream, &endpoint.to_string(), request, size).await
    };
    tokio::time::timeout(time, asked).await.map_err(|_| FetchError::TimedOut)?
}

/// Sends a request on an open connection and reads an answer of at most `size` bytes; the caller sets the time limit.
pub async fn exchange<S>(
    stream: S,
    host: &str,
    mut request: http::Request<Full<Bytes>>,
    size: usize,
) -> Result<http::Response<Bytes>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Ok(host) = http::HeaderValue::from_str(host) {
        request.headers_mut().insert(http::header::HOST, host);
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let answer = async {
        let (head, body) = sender.send_request(request).await.map_err(http)?.into_parts();
        let body = Limited::new(body, size).collect().await.map_err(|_| FetchError::Body)?;
        Ok(http::Response::from_parts(head, body.to_bytes()))
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended.map_err(http)?;
            answer.await
        }
    }
}
