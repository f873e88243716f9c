//! cloudcore's end of the connection (protocol.md §1.4, §3.3, §3.7): gorilla's frames, one malformed message costs the
//! connection, silence too, a second connection puts the first one out.

use super::{Core, certs, devices, upstream};
use crate::support::letter::{go_text, parent, text};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use kedge::base::Crew;
use kedge::pki::Clients;
use serde_json::Value;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// gorilla's server sends more than twice its buffer as one frame that is not the last, and an empty last one.
const SPLIT: usize = 2 * 4096;

/// Serves one session after the other.
pub async fn run(core: Arc<Core>, listener: TcpListener) {
    let acceptor = certs::tls(&core, Clients::Required(&core.authority.cert_pem()));
    let mut session = Crew::new();
    while let Ok((socket, _)) = listener.accept().await {
        let Ok(stream) = acceptor.accept(socket).await else { continue };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            continue;
        }
        let mut identity = (String::new(), String::new());
        let read = |request: &Request, response: Response| {
            let header = |name: &str| {
                let value = request.headers().get(name).and_then(|value| value.to_str().ok());
                value.unwrap_or_default().to_owned()
            };
            identity = (header("Node_id"), header("ConnectionUse"));
            Ok(response)
        };
        let limits = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let Ok(socket) = accept_hdr_async_with_config(stream, read, Some(limits)).await else { continue };
        if identity.1 != "msg" || identity.0 != core.node {
            continue;
        }
        session.abort().await;
        session = Crew::new();
        session.spawn(serve(core.clone(), socket));
    }
}

async fn serve(core: Arc<Core>, socket: Socket) {
    let (mut writer, mut reader) = socket.split();
    let (line, mut lines) = mpsc::channel(4096);
    let mut pulled = core.pulled.subscribe();
    {
        let mut state = core.state();
        state.connections += 1;
        state.connected = true;
        state.line = Some(line);
        state.queue.clear();
        state.acknowledged.clear();
    }
    core.queued.notify_one();
    let mut alive = tokio::time::Instant::now();
    loop {
        tokio::select! {
            _ = pulled.changed() => break,
            () = tokio::time::sleep_until(alive + core.times.keepalive) => break,
            line = lines.recv() => {
                let Some(message) = line else { break };
                if write(&mut writer, &go_text(&message)).await.is_err() {
                    break;
                }
            }
            received = reader.next() => {
                let Some(Ok(received)) = received else { break };
                let (Message::Text(_) | Message::Binary(_)) = received else { continue };
                let Ok(message) = serde_json::from_slice::<Value>(&received.into_data()) else {
                    core.state().malformed += 1;
                    break;
                };
                if text(&message, "/route/operation") == "keepalive" {
                    alive = tokio::time::Instant::now();
                }
                core.state().heard.push(message.clone());
                dispatch(&core, &message);
            }
        }
    }
    let mut state = core.state();
    state.connected = false;
    state.line = None;
}

async fn write(writer: &mut SplitSink<Socket, Message>, text: &str) -> Result<(), Error> {
    if text.len() <= SPLIT {
        return writer.send(Message::text(text)).await;
    }
    let first = Frame::message(text.as_bytes().to_vec(), OpCode::Data(Data::Text), false);
    writer.feed(Message::Frame(first)).await?;
    let last = Frame::message(Vec::new(), OpCode::Data(Data::Continue), true);
    writer.send(Message::Frame(last)).await
}

fn dispatch(core: &Core, message: &Value) {
    let route = |name: &str| text(message, &format!("/route/{name}"));
    match (route("operation"), route("group"), route("source")) {
        ("keepalive" | "error", ..) => {}
        ("response", ..) => {
            let mut state = core.state();
            if !state.deaf
                && let Some(waiter) = state.acknowledged.remove(parent(message))
            {
                // Whoever waited may have given up.
                waiter.send(()).ok();
            }
        }
        ("upload", "user", _) => {
            core.state().uploads.push((route("resource").to_owned(), message["content"].clone()));
        }
        (_, _, "twin") => devices::hear(core, message),
        // A message in the name of a module of the cloud is dropped silently.
        (_, _, "cloudhub" | "cloudStream" | "devicecontroller" | "edgecontroller" | "synccontroller") => {}
        _ => upstream::hear(core, message),
    }
}
