//! exec and attach: a request that becomes a connection. The far end answers it itself, head and all, through the tunnel
//! (protocol.md §8.3); its head is read here and given to the caller, then bytes go both ways untouched.

use super::requests::refuse;
use super::tunnels::Running;
use crate::base::{Crew, Stop};
use crate::link::http::{Body, full};
use crate::wire::tunnel::Connect;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// The longest head that is read, in bytes, and how long it may take.
const HEAD: usize = 16 << 10;
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// What of a refusal is passed on.
const REFUSAL: usize = 64 << 10;
const PIECE: usize = 16 << 10;
const HEADERS: usize = 64;

/// A connection to come, and the far end of it.
pub(super) struct Pipe {
    near: OnUpgrade,
    running: Running,
    /// What came behind the head.
    first: Bytes,
}

/// The request as the node is to carry it out.
pub(super) fn connect(request: &Request<Incoming>) -> Result<Connect, &'static str> {
    if !request.headers().contains_key(http::header::UPGRADE) {
        return Err("an upgrade of the connection is expected here");
    }
    let mut connect = Connect::new(0, request.uri().path(), request.uri().query().unwrap_or_default());
    connect.method = request.method().to_string();
    for (name, value) in request.headers().iter().take(HEADERS) {
        if let Ok(value) = value.to_str()
            && name != http::header::HOST
        {
            connect.header.entry(canonical(name.as_str())).or_default().push(value.to_owned());
        }
    }
    Ok(connect)
}

/// Go's form of a header's name.
fn canonical(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

/// Waits for the far end's answer; when it switches protocols, so does the caller's connection.
pub(super) async fn open(
    request: &mut Request<Incoming>,
    mut running: Running,
    pipes: &mpsc::Sender<Pipe>,
) -> Response<Body> {
    let Ok(Some((status, headers, rest))) = tokio::time::timeout(HEAD_LIMIT, head(&mut running)).await else {
        return refuse(502, "BadGateway", "the node did not answer as HTTP");
    };
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let mut body = BytesMut::from(rest.as_ref());
        while body.len() < REFUSAL
            && let Ok(Some(piece)) = tokio::time::timeout(Duration::from_secs(1), running.next()).await
        {
            body.extend_from_slice(&piece);
        }
        let mut response = Response::new(full(body.freeze()));
        *response.status_mut() = status;
        return response;
    }
    let pipe = Pipe { near: hyper::upgrade::on(request), running, first: rest };
    if pipes.try_send(pipe).is_err() {
        return refuse(503, "ServiceUnavailable", "too many connections at once");
    }
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

async fn head(running: &mut Running) -> Option<(StatusCode, HeaderMap, Bytes)> {
    let mut held = BytesMut::new();
    loop {
        held.extend_from_slice(&running.next().await?);
        if let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = held.split_to(end + 4);
            let (status, headers) = parse(&head)?;
            return Some((status, headers, held.freeze()));
        }
        if held.len() > HEAD {
            return None;
        }
    }
}

fn parse(head: &[u8]) -> Option<(StatusCode, HeaderMap)> {
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()).take(HEADERS) {
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_str(value.trim()).ok()?);
    }
    Some((status, headers))
}

/// Runs the connections.
pub(super) async fn serve(mut pipes: mpsc::Receiver<Pipe>, stop: Stop) {
    let mut crew = Crew::new();
    while let Some(Some(pipe)) = stop.or(pipes.recv()).await {
        let stop = stop.clone();
        crew.spawn(async move {
            stop.or(run(pipe)).await;
        });
    }
    crew.finish().await;
}

/// Ends when either end does; dropping the request tells the node.
async fn run(Pipe { near, mut running, first }: Pipe) {
    let Ok(near) = near.await else { return };
    let (mut reader, mut writer) = tokio::io::split(TokioIo::new(near));
    if writer.write_all(&first).await.is_err() {
        return;
    }
    let far = running.far_end();
    // Each way on its own: a caller that reads nothing must not keep what it says from the node.
    let down = async {
        let mut buffer = vec![0; PIECE];
        while let Some(piece) = reader.read(&mut buffer).await.ok().and_then(|count| buffer.get(..count)) {
            if piece.is_empty() || !far.send(Bytes::copy_from_slice(piece)).await {
                break;
            }
        }
    };
    let up = async {
        while let Some(piece) = running.next().await {
            if writer.write_all(&piece).await.is_err() || writer.flush().await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = down => {}
        () = up => {}
    }
    // The caller sees the end even when it still could write.
    drop(writer.shutdown().await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let text = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
        let (status, headers) = parse(text).unwrap();
        assert_eq!(
            (status, &headers["upgrade"]),
            (StatusCode::SWITCHING_PROTOCOLS, &HeaderValue::from_static("SPDY/3.1"))
        );
        assert_eq!(parse(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap().0, StatusCode::NOT_FOUND);
        for wrong in ["", "SPDY", "HTTP/1.1 x y\r\n\r\n", "HTTP/1.1 200 OK\r\nno header\r\n\r\n"] {
            assert!(parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
        assert_eq!(canonical("x-stream-protocol-version"), "X-Stream-Protocol-Version");
    }
}
