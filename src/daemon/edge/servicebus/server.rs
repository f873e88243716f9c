//! The HTTP server for programs on this node: takes a request for a rule's URL, asks the cloud, gives its word back.
//! Always status 200 with a code inside, as KubeEdge answers. Bodies and times are bounded; only stored URLs pass.

use crate::base::Stop;
use crate::daemon::edge::uplink::{AskError, Uplink};
use crate::link::http::{Body, Limits, full, serve_plain};
use crate::wire::user::UPLOAD_LIMIT;
use crate::wire::{Answer, Up};
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;

/// Connections at a time; each may hold a body of 5 MB.
const CONNECTIONS: usize = 32;
const HEADER: Duration = Duration::from_secs(30);
/// How long a program may take to send a body.
const BODY: Duration = Duration::from_secs(30);

/// What requests are answered from.
pub(super) struct Desk {
    pub(super) urls: Mutex<BTreeSet<String>>,
    pub(super) uplink: Uplink,
    pub(super) limit: Duration,
}

impl Desk {
    pub(super) fn urls(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.urls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) async fn serve(listener: TcpListener, desk: Arc<Desk>, stop: Stop) {
    let handler = move |request| {
        let desk = desk.clone();
        async move { handle(request, &desk).await }
    };
    let limits = Limits { connections: CONNECTIONS, header: HEADER, ..Limits::default() };
    serve_plain(limits, listener, stop, handler).await;
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default, rename = "targetURL")]
    target_url: String,
}

async fn handle(request: Request<Incoming>, desk: &Desk) -> Response<Body> {
    let body = Limited::new(request.into_body(), UPLOAD_LIMIT).collect();
    let Ok(Ok(body)) = tokio::time::timeout(BODY, body).await else {
        return reply(400, "can't read data from body of the http's request", "");
    };
    let body = body.to_bytes();
    let wanted = serde_json::from_slice::<serde_json::Map<_, _>>(&body).map(serde_json::Value::Object);
    let wanted = wanted.and_then(serde_json::from_value::<Wanted>);
    let Ok(Wanted { target_url }) = wanted else { return reply(400, "invalid params", "") };
    if !desk.urls().contains(&target_url) {
        let shown: String = target_url.chars().take(256).collect();
        return reply(400, &format!("url {shown} is not allowed: the cloud has no rule for it"), "");
    }
    let up = Up::ServiceUpload { url: target_url, body: body.to_vec() };
    match desk.uplink.ask(up, desk.limit).await {
        Ok(Answer::Text(text)) => reply(200, "receive response from cloud successfully", &text),
        Ok(Answer::Ok) => reply(200, "receive response from cloud successfully", ""),
        Ok(Answer::Failed(status)) => reply(500, &status.message, ""),
        Ok(Answer::Object(object)) => {
            reply(200, "receive response from cloud successfully", &object.to_string())
        }
        Err(error @ (AskError::Offline | AskError::TimedOut)) => reply(400, &error.to_string(), ""),
    }
}

fn reply(code: u16, msg: &str, body: &str) -> Response<Body> {
    let text = json!({"code": code, "msg": msg, "body": body}).to_string();
    let mut response = Response::new(full(text));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}
