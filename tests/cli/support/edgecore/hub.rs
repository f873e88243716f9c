//! edgecore's end of the connection (protocol.md §3.1, §3.2): five dials, keepalives, the token bucket, gorilla's frames of
//! 4 KiB, a FIFO of 100 that loses its oldest, a closed socket that only the next write notices, a long sleep.

use super::enrol::Join;
use super::{Core, meta, task, twin};
use crate::support::letter::{go_text, message};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use kedge::base::Crew;
use kedge::pki::{Identity, client_config};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

type Socket = WebSocketStream<TlsStream<TcpStream>>;

pub const PROJECT: &str = "e632aba927ea4ac2b575ec1603d56f10";
/// What gorilla's client buffers before it sends a frame.
const FRAME: usize = 4096;
const FIFO: usize = 100;
const DIALS: u32 = 5;
const PER_SECOND: f64 = 30.0;
const BURST: f64 = 60.0;

/// Connects for ever.
pub async fn run(core: Arc<Core>, join: Join) {
    loop {
        if let Some(socket) = connect(&core, &join.identity, &join.ca_pem).await {
            serve(&core, &join, socket).await;
            let mut state = core.state();
            state.connected = false;
            state.line = None;
            state.waiters.clear();
        }
        core.changed();
        tokio::time::sleep(core.times.reconnect).await;
    }
}

async fn connect(core: &Core, identity: &Identity, ca_pem: &str) -> Option<Socket> {
    for dial in 0..DIALS {
        if dial > 0 {
            tokio::time::sleep(core.times.dial).await;
        }
        if let Ok(socket) = dial_once(core, identity, ca_pem).await {
            return Some(socket);
        }
    }
    None
}

async fn dial_once(core: &Core, identity: &Identity, ca_pem: &str) -> Result<Socket, String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let tls = client_config(ca_pem, Some(identity)).map_err(|error| failed(&error))?;
    let socket = TcpStream::connect(("127.0.0.1", core.hub)).await.map_err(|error| failed(&error))?;
    let host = "127.0.0.1".try_into().map_err(|error| failed(&error))?;
    let stream = TlsConnector::from(tls).connect(host, socket).await.map_err(|error| failed(&error))?;
    let uri = format!("wss://127.0.0.1:{}/{PROJECT}/{}/events", core.hub, core.name);
    let uri = uri.parse().map_err(|error| failed(&error))?;
    let request = ClientRequestBuilder::new(uri)
        .with_header("Node_id", core.name.as_str())
        .with_header("Project_id", PROJECT)
        .with_header("Connectionuse", "msg");
    let limits = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let (socket, _) =
        client_async_with_config(request, stream, Some(limits)).await.map_err(|error| failed(&error))?;
    Ok(socket)
}

/// The receive FIFO of one connection.
#[derive(Default)]
struct Fifo {
    waiting: Mutex<VecDeque<Value>>,
    arrived: Notify,
}

impl Fifo {
    fn put(&self, message: Value, core: &Core) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= FIFO {
            waiting.pop_front();
            core.state().dropped += 1;
        }
        waiting.push_back(message);
        drop(waiting);
        self.arrived.notify_one();
    }

    async fn next(&self) -> Value {
        loop {
            let first = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            if let Some(message) = first {
                return message;
            }
            self.arrived.notified().await;
        }
    }
}

async fn serve(core: &Arc<Core>, join: &Join, socket: Socket) {
    let (mut writer, mut reader) = socket.split();
    let (line, lines) = mpsc::channel(1024);
    let pulled = core.pulled.subscribe();
    let fifo = Arc::new(Fifo::default());
    let mut crew = Crew::new();
    let (filling, filled) = (fifo.clone(), core.clone());
    crew.spawn(async move {
        // The end of the stream is not told to anybody.
        while let Some(Ok(received)) = reader.next().await {
            let (Message::Text(_) | Message::Binary(_)) = received else { continue };
            // Trailing bytes are ignored; what is not JSON ends the reading.
            let bytes = received.into_data();
            let Some(Ok(message)) = serde_json::Deserializer::from_slice(&bytes).into_iter().next() else {
                return;
            };
            filling.put(message, &filled);
        }
        std::future::pending::<()>().await;
    });
    let handling = core.clone();
    crew.spawn(async move {
        loop {
            let message = fifo.next().await;
            let mut change = handling.change.subscribe();
            while handling.state().stalled {
                drop(change.changed().await);
            }
            handling.state().heard.push(message.clone());
            meta::route(&handling, &message);
            handling.changed();
        }
    });
    {
        let mut state = core.state();
        state.line = Some(line);
        state.connections += 1;
        state.connected = true;
    }
    core.changed();
    twin::connected(core);
    let (told, disk) = (core.clone(), join.clone());
    crew.spawn(async move { task::connected(&told, &disk).await });
    write(core, &mut writer, lines, pulled).await;
    crew.abort().await;
}

/// Writes until a write fails or the plug is pulled.
async fn write(
    core: &Core,
    writer: &mut SplitSink<Socket, Message>,
    mut lines: mpsc::Receiver<String>,
    mut pulled: watch::Receiver<u32>,
) {
    let mut beat = tokio::time::interval(core.times.heartbeat);
    let mut tokens = BURST;
    let mut filled = tokio::time::Instant::now();
    loop {
        let line = tokio::select! {
            _ = pulled.changed() => return,
            _ = beat.tick() => {
                let keepalive = message(["websocket", "resource", "keepalive", "node"], json!("ping"));
                go_text(&keepalive)
            }
            line = lines.recv() => {
                let Some(line) = line.filter(|line| !line.is_empty()) else { return };
                tokens = (tokens + filled.elapsed().as_secs_f64() * PER_SECOND).min(BURST);
                filled = tokio::time::Instant::now();
                if tokens < 1.0 {
                    tokio::time::sleep(Duration::from_secs_f64((1.0 - tokens) / PER_SECOND)).await;
                }
                tokens -= 1.0;
                line
            }
        };
        if send(writer, &line).await.is_err() {
            return;
        }
    }
}

async fn send(
    writer: &mut SplitSink<Socket, Message>,
    text: &str,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let count = text.len().div_ceil(FRAME);
    for (place, chunk) in text.as_bytes().chunks(FRAME).enumerate() {
        let kind = if place == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message(chunk.to_vec(), OpCode::Data(kind), place + 1 == count);
        writer.feed(Message::Frame(frame)).await?;
    }
    writer.flush().await
}
