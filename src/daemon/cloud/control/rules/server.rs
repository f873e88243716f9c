//! The router's HTTP server (protocol.md §9.2): `/{node}/{namespace}/{path}` sets a rule off. What a service on the node
//! answers comes back as it is, at once and unrepeated; what cannot be delivered is told at once.

use super::book::{Target, with_param};
use super::desk::Desk;
use crate::base::{Stop, uuid4};
use crate::link::http::{Body, Limits, full, serve_plain, text};
use crate::model::NodeName;
use crate::wire::envelope::MESSAGE_LIMIT;
use crate::wire::user::{CALL_LIMIT, HttpHeader, HttpRequest, HttpResponse, RouterOrder};
use crate::wire::{Blob, Down, MessageId};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::OwnedSemaphorePermit;

const CONNECTIONS: usize = 512;
/// Time for a request's header, and for its body.
const HEADER: Duration = Duration::from_secs(30);
const BODY: Duration = Duration::from_secs(60);
/// Header lines of a connection, which are not passed on.
const OF_THE_CONNECTION: [&str; 8] =
    ["connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

pub(super) async fn serve(listener: TcpListener, desk: Arc<Desk>, stop: Stop) {
    let limits = Limits { connections: CONNECTIONS, header: HEADER, ..Limits::default() };
    let handler = move |request| {
        let desk = desk.clone();
        async move { handle(request, &desk).await.unwrap_or_else(|refusal| refusal) }
    };
    serve_plain(limits, listener, stop, handler).await;
}

async fn handle(request: Request<Incoming>, desk: &Desk) -> Result<Response<Body>, Response<Body>> {
    let (parts, body) = request.into_parts();
    let uri = parts.uri.path_and_query().map_or("/", |uri| uri.as_str());
    let found = desk.table().request(uri);
    let (route, node, param) = found.ok_or_else(|| text(StatusCode::NOT_FOUND, "Request error"))?;
    let node = NodeName::new(node).map_err(|_| text(StatusCode::NOT_FOUND, "Request error"))?;
    let failed = |status: StatusCode, why: &'static str| {
        desk.tally.failed(&route.id, why);
        text(status, why)
    };
    if !desk.shared.is_connected(&node) {
        return Err(failed(StatusCode::INTERNAL_SERVER_ERROR, "the node has no session with this cloud"));
    }
    let read = tokio::time::timeout(BODY, read(body, desk)).await;
    let (body, _held) = read
        .unwrap_or(Err((StatusCode::REQUEST_TIMEOUT, "the body did not come in time")))
        .map_err(|(status, why)| failed(status, why))?;
    match &route.target {
        Target::Topic { topic } => {
            let payload = String::from_utf8_lossy(&body).into_owned();
            if escaped(&payload) > MESSAGE_LIMIT - (64 << 10) {
                return Err(failed(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than allowed"));
            }
            let id = MessageId(uuid4());
            let order = RouterOrder::Publish { id, topic: with_param(topic, &param), payload };
            tell(desk, &node, order).await.map_err(|why| failed(StatusCode::INTERNAL_SERVER_ERROR, why))?;
            desk.tally.delivered(&route.id);
            Ok(text(StatusCode::OK, "message delivered"))
        }
        Target::Service { port, path } => {
            let target = format!("{port}:{}", with_param(path, &param));
            match call(desk, &node, target, ask(&parts, body)).await {
                Ok(response) => {
                    desk.tally.delivered(&route.id);
                    Ok(answer(response))
                }
                Err((status, why)) => Err(failed(status, why)),
            }
        }
        Target::Rest { .. } => Err(failed(StatusCode::NOT_FOUND, "No rule match")),
    }
}

type Refusal = (StatusCode, &'static str);

/// Reads a body within its limit and the room that all bodies share.
async fn read(mut body: Incoming, desk: &Desk) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Refusal> {
    let (mut bytes, mut held): (Vec<u8>, Option<OwnedSemaphorePermit>) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| (StatusCode::BAD_REQUEST, "the body cannot be read"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > CALL_LIMIT {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than allowed"));
        }
        let room = u32::try_from(data.len() / 1024 + 1).unwrap_or(u32::MAX);
        let more = desk.requests.clone().try_acquire_many_owned(room);
        let more = more.map_err(|_| (StatusCode::SERVICE_UNAVAILABLE, "too many requests wait"))?;
        match &mut held {
            Some(held) => held.merge(more),
            None => held = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, held))
}

/// Bytes of a text once it stands in JSON as Go writes it.
fn escaped(text: &str) -> usize {
    let size = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..=0x1f | b'<' | b'>' | b'&' => 6,
        _ => 1,
    };
    text.bytes().map(size).sum()
}

fn ask(parts: &Parts, body: Vec<u8>) -> HttpRequest {
    let mut header = HttpHeader::new();
    for (name, value) in &parts.headers {
        if !OF_THE_CONNECTION.contains(&name.as_str()) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            header.entry(name.as_str().to_owned()).or_default().push(value);
        }
    }
    HttpRequest { header, body: Blob(body), method: parts.method.to_string(), url: String::new() }
}

async fn tell(desk: &Desk, node: &NodeName, order: RouterOrder) -> Result<(), &'static str> {
    desk.shared.hub.tell(node.clone(), Down::Router(order)).await.map_err(|_| "the hub has ended")
}

async fn call(
    desk: &Desk,
    node: &NodeName,
    target: String,
    request: HttpRequest,
) -> Result<HttpResponse, Refusal> {
    let id = MessageId(uuid4());
    let answered = desk.expect(&id, node).ok_or((StatusCode::SERVICE_UNAVAILABLE, "too many calls wait"))?;
    let order = RouterOrder::Call { id, target, request };
    tell(desk, node, order).await.map_err(|why| (StatusCode::INTERNAL_SERVER_ERROR, why))?;
    match tokio::time::timeout(desk.limit, answered).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(_)) => Err((StatusCode::INTERNAL_SERVER_ERROR, "the call was given up")),
        Err(_) => Err((StatusCode::GATEWAY_TIMEOUT, "wait to get response time out")),
    }
}

fn answer(response: HttpResponse) -> Response<Body> {
    let mut sent = Response::new(full(response.body.0));
    *sent.status_mut() = StatusCode::from_u16(response.status_code)
        .ok()
        .filter(|status| status.as_u16() >= 200)
        .unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, values) in &response.header {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        if OF_THE_CONNECTION.contains(&name.as_str()) {
            continue;
        }
        for value in values.iter().filter_map(|value| HeaderValue::from_str(value).ok()) {
            sent.headers_mut().append(&name, value);
        }
    }
    sent
}
