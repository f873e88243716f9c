//! One call of the cloud to a service on this node: always 127.0.0.1, no redirects, 10 s, bounded answers. Whatever goes
//! wrong becomes an answer with KubeEdge's status for it.

use crate::wire::Blob;
use crate::wire::user::{HttpHeader, HttpRequest, HttpResponse, UPLOAD_LIMIT, call_address};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(10);

/// Header lines that belong to one connection and are not passed on.
const OF_THE_CONNECTION: [HeaderName; 7] =
    [CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

pub(super) async fn carry_out(target: &str, request: HttpRequest) -> HttpResponse {
    let Some((port, path)) = call_address(target) else {
        return HttpResponse::failure(400, "the target must be port:/path");
    };
    let Some(request) = prepare(port, path, request) else {
        return HttpResponse::failure(400, "error to parse http request");
    };
    match tokio::time::timeout(LIMIT, exchange(port, request)).await {
        Ok(response) => response,
        Err(_) => HttpResponse::failure(404, "error to call service: no answer in time"),
    }
}

fn prepare(port: u16, path: &str, request: HttpRequest) -> Option<Request<Full<Bytes>>> {
    let method =
        Method::from_bytes(request.method.as_bytes()).ok().filter(|method| *method != Method::CONNECT)?;
    let uri: Uri = path.parse().ok()?;
    if uri.authority().is_some() {
        return None;
    }
    let mut call = Request::new(Full::new(Bytes::from(request.body.0)));
    (*call.method_mut(), *call.uri_mut()) = (method, uri);
    for (name, values) in &request.header {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        if OF_THE_CONNECTION.contains(&name) {
            continue;
        }
        for value in values {
            call.headers_mut().append(&name, HeaderValue::from_str(value).ok()?);
        }
    }
    call.headers_mut().insert(HOST, HeaderValue::from_str(&format!("127.0.0.1:{port}")).ok()?);
    Some(call)
}

async fn exchange(port: u16, request: Request<Full<Bytes>>) -> HttpResponse {
    let unreachable = |_| HttpResponse::failure(404, "error to call service");
    let stream = match TcpStream::connect(("127.0.0.1", port)).await {
        Ok(stream) => TokioIo::new(stream),
        Err(error) => return unreachable(error.to_string()),
    };
    let (mut sender, connection) = match http1::handshake(stream).await {
        Ok(halves) => halves,
        Err(error) => return unreachable(error.to_string()),
    };
    let answer = async {
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(error) => return unreachable(error.to_string()),
        };
        let (head, body) = response.into_parts();
        match Limited::new(body, UPLOAD_LIMIT).collect().await {
            Ok(body) => HttpResponse {
                header: lines(&head.headers),
                status_code: head.status.as_u16(),
                body: Blob(body.to_bytes().to_vec()),
            },
            Err(_) => HttpResponse::failure(500, "error to receive response: it is broken or too large"),
        }
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        response = &mut answer => response,
        _ended = &mut connection => answer.await,
    }
}

fn lines(headers: &HeaderMap) -> HttpHeader {
    let mut lines = HttpHeader::new();
    for (name, value) in headers {
        if !OF_THE_CONNECTION.contains(name) || name == CONTENT_LENGTH {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            lines.entry(canonical(name.as_str())).or_default().push(value);
        }
    }
    lines
}

/// Go's spelling of a header's name.
fn canonical(name: &str) -> String {
    let part = |part: &str| {
        let mut letters = part.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
            .unwrap_or_default()
    };
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn hostile_targets_never_leave_loopback() {
        for target in
            ["80@evil.example:/x", "evil.example:/x", "0:/x", "99999:/x", "80", "80:x", ":/x", "80:/a:b"]
        {
            let response =
                carry_out(target, HttpRequest { method: "GET".to_owned(), ..HttpRequest::default() });
            assert_eq!(response.await.status_code, 400, "{target}");
        }
        for path in ["/a b", "/\r\nHost: x", "//evil.example/x\u{1}"] {
            let target = format!("9:{path}");
            let response =
                carry_out(&target, HttpRequest { method: "GET".to_owned(), ..HttpRequest::default() });
            assert_eq!(response.await.status_code, 400, "{path:?}");
        }
        let method = "GET / HTTP/1.1\r\n".to_owned();
        assert_eq!(carry_out("9:/", HttpRequest { method, ..HttpRequest::default() }).await.status_code, 400);
    }

    #[tokio::test]
    async fn a_service_is_called_and_its_redirect_is_not_followed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4096];
            let count = stream.read(&mut seen).await.unwrap();
            let answer =
                "HTTP/1.1 302 Found\r\nlocation: http://evil.example/\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&seen[..count]).into_owned()
        };
        let header = [
            ("X-Mine".to_owned(), vec!["1".to_owned()]),
            ("Transfer-Encoding".to_owned(), vec!["chunked".to_owned()]),
        ];
        let request = HttpRequest {
            header: header.into(),
            body: Blob(b"body".to_vec()),
            method: "PUT".to_owned(),
            url: String::new(),
        };
        let target = format!("{port}:/a?b=c");
        let (response, seen) = tokio::join!(carry_out(&target, request), service);
        assert_eq!((response.status_code, response.body.0.as_slice()), (302, &b"ok"[..]));
        assert_eq!(response.header["Location"], ["http://evil.example/"]);
        assert!(seen.starts_with("PUT /a?b=c HTTP/1.1\r\n") && seen.ends_with("\r\n\r\nbody"), "{seen}");
        assert!(seen.contains("x-mine: 1") && !seen.contains("chunked"), "{seen}");
        assert_eq!(
            carry_out("1:/", HttpRequest { method: "GET".to_owned(), ..HttpRequest::default() })
                .await
                .status_code,
            404
        );
    }
}
