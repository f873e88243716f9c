//! HTTPS servers: accept, TLS handshake, HTTP/1.1 with upgrades or HTTP/2 by ALPN, limits on each step.
//! The hub and the embedded API give a handler; connections end when `stop` is raised.

use crate::base::{Crew, Stop};
use crate::pki::{LiveTls, Peer, peer_of};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The body of every response.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is known in full.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that comes piece by piece; an error breaks the connection off.
pub fn stream<S>(pieces: S) -> Body
where
    S: futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    use futures_util::StreamExt;
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// A response with a plain-text body.
pub fn text(status: http::StatusCode, text: impl Into<String>) -> http::Response<Body> {
    let mut response = http::Response::new(full(text.into()));
    *response.status_mut() = status;
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub struct Caller {
    pub remote: SocketAddr,
    /// The holder of the client certificate, when one was shown and verified.
    pub peer: Option<Peer>,
    /// That certificate.
    pub cert_der: Option<Vec<u8>>,
}

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time, not counting those that were upgraded; more wait in the kernel's queue.
    pub connections: usize,
    pub handshake: Duration,
    /// TLS handshakes that may be under way at a time; others wait for their turn. One that stalls loses its turn.
    pub handshakes: usize,
    /// Time to send a request's header; also how long an idle connection is kept.
    pub header: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 2048,
            handshake: Duration::from_secs(10),
            handshakes: 64,
            header: Duration::from_secs(60),
        }
    }
}

/// How long requests may go on after `stop`.
const FAREWELL: Duration = Duration::from_secs(2);
/// A pause after `accept` failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` is raised, with default limits.
pub async fn serve<H, F>(listener: TcpListener, tls: impl Into<LiveTls>, stop: Stop, handler: H)
where
    H: Fn(http::Request<Incoming>, Arc<Caller>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = http::Response<Body>> + Send + 'static,
{
    serve_within(Limits::default(), listener, tls, stop, handler).await;
}

/// Serves until `stop` is raised.
pub async fn serve_within<H, F>(
    limits: Limits,
    listener: TcpListener,
    tls: impl Into<LiveTls>,
    stop: Stop,
    handler: H,
) where
    H: Fn(http::Request<Incoming>, Arc<Caller>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = http::Response<Body>> + Send + 'static,
{
    let tls = tls.into();
    let room = Arc::new(Semaphore::new(limits.connections));
    let turns = Arc::new(Semaphore::new(limits.handshakes));
    let mut crew = Crew::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.raised() => break,
            Some(_) = crew.ended() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((socket, remote, permit)) = accepted else { continue };
        let (stop, handler, turns) = (stop.clone(), handler.clone(), turns.clone());
        let acceptor = TlsAcceptor::from(tls.current());
        crew.spawn(async move {
            let _permit = permit;
            if let Some(tls) = stop.or(handshake(limits, &turns, acceptor, socket, remote)).await.flatten() {
                connection(limits, tls, remote, stop, handler).await;
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(FAREWELL, crew.finish()).await.is_err() {
        crew.abort().await;
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// Waits for room, then for a connection; cancel-safe.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<Accepted> {
    let permit = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((socket, remote)) => Some((socket, remote, permit)),
        Err(error) => {
            tracing::debug!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// How long a handshake keeps its turn; its computing takes a hundredth of that.
const TURN: Duration = Duration::from_millis(300);

/// Shakes hands when it is this connection's turn, so that a rush of handshakes leaves room for connections that live.
async fn handshake(
    limits: Limits,
    turns: &Semaphore,
    acceptor: TlsAcceptor,
    socket: TcpStream,
    remote: SocketAddr,
) -> Option<TlsStream<TcpStream>> {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let turn = turns.acquire().await.ok()?;
    let shaking = acceptor.accept(socket);
    tokio::pin!(shaking);
    let shaken = match tokio::time::timeout(TURN.min(limits.handshake), shaking.as_mut()).await {
        Ok(shaken) => shaken,
        // Peers that do not answer must not keep out those that do.
        Err(_) => {
            drop(turn);
            tokio::time::timeout(limits.handshake.saturating_sub(TURN), shaking).await.ok()?
        }
    };
    match shaken {
        Ok(tls) => Some(tls),
        Err(error) => {
            tracing::debug!(%remote, %error, "the TLS handshake failed");
            None
        }
    }
}

async fn connection<H, F>(
    limits: Limits,
    tls: TlsStream<TcpStream>,
    remote: SocketAddr,
    stop: Stop,
    handler: H,
) where
    H: Fn(http::Request<Incoming>, Arc<Caller>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = http::Response<Body>> + Send + 'static,
{
    let (_, session) = tls.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    let caller = Arc::new(Caller {
        remote,
        peer: peer_of(chain),
        cert_der: chain.first().map(|certificate| certificate.to_vec()),
    });
    let http2 = session.alpn_protocol() == Some(b"h2".as_slice());
    let service = service_fn(move |request| {
        let answer = handler(request, caller.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .max_concurrent_streams(256);
    let builder = if http2 { builder.http2_only() } else { builder.http1_only() };
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(tls), service);
    tokio::pin!(serving);
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = stop.raised() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%remote, %error, "a connection ended with an error");
    }
}

/// Serves plain HTTP/1.1 until `stop` is raised: for loopback, and where KubeEdge's contract has no TLS.
pub async fn serve_plain<H, F>(limits: Limits, listener: TcpListener, stop: Stop, handler: H)
where
    H: Fn(http::Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = http::Response<Body>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut crew = Crew::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.raised() => break,
            Some(_) = crew.ended() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((socket, remote, permit)) = accepted else { continue };
        let (stop, handler) = (stop.clone(), handler.clone());
        crew.spawn(async move {
            let _permit = permit;
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(limits.header);
            let serving = builder.serve_connection(TokioIo::new(socket), service);
            tokio::pin!(serving);
            let outcome = tokio::select! {
                outcome = serving.as_mut() => outcome,
                () = stop.raised() => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            };
            if let Err(error) = outcome {
                tracing::debug!(%remote, %error, "a connection ended with an error");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(FAREWELL, crew.finish()).await.is_err() {
        crew.abort().await;
    }
}
