//! Tunnels from nodes: who has one, which requests run in it. A node is what its certificate says, whatever its header
//! says (KubeEdge trusts the header). A second tunnel of a node replaces the first.

use super::super::hub::Refusals;
use super::way::Opened;
use crate::base::{Crew, Stop};
use crate::link::http::{Body, Caller, text};
use crate::link::ws::{self, Outgoing, Pending, Reader, Received, Writer, WsError};
use crate::model::NodeName;
use crate::wire::tunnel::{Connect, FRAME_LIMIT, Frame, FrameKind};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

pub(super) const CONNECT_PATH: &str = "/v1/kubeedge/connect";
/// Frames that a request may have under way; a kedge edge waits for room, so memory per request is bounded by this.
pub(super) const WINDOW: usize = 64;
/// Carries the window in a connect frame, and an edge's word in its upgrade request that it obeys one.
pub(super) const WINDOW_HEADER: &str = "Kedge-Window";
/// A KubeEdge edge knows no window: its tunnel waits so long for a slow reader, then the request is broken off.
const SLOW_READER: Duration = Duration::from_secs(10);
const FRAMES: usize = 64;
/// Any WebSocket peer answers a ping; a node that answers none for so long has vanished.
const PING_EVERY: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(70);

/// How the node ended a request: empty when all is said, else why there is no answer.
type End = Arc<OnceLock<Bytes>>;

/// The far end of one request.
#[derive(Clone)]
struct Far {
    frames: mpsc::Sender<Bytes>,
    end: End,
    /// Whether a kedge edge is told how much it may send.
    windowed: bool,
}

struct Tunnel {
    serial: u64,
    /// The node's own address, as it says.
    address: Option<IpAddr>,
    outgoing: mpsc::Sender<Frame>,
    requests: HashMap<u64, Far>,
    /// Raised when another tunnel of the node takes its place.
    replaced: Stop,
}

/// All tunnels by node.
#[derive(Default)]
pub(super) struct Tunnels {
    /// Told of nodes that come and go.
    opened: Arc<Opened>,
    tunnels: Mutex<HashMap<NodeName, Tunnel>>,
    serial: AtomicU64,
}

/// A tunnel whose upgrade was granted.
pub(super) struct Entered {
    node: NodeName,
    address: Option<IpAddr>,
    pending: Pending,
    has_window: bool,
}

/// One request in a tunnel; dropped, the node is told to end it.
pub(super) struct Running {
    tunnels: Arc<Tunnels>,
    node: NodeName,
    connection: u64,
    outgoing: mpsc::Sender<Frame>,
    frames: mpsc::Receiver<Bytes>,
    end: End,
    consumed: u8,
    windowed: bool,
}

impl Tunnels {
    pub(super) fn new(opened: Arc<Opened>) -> Tunnels {
        Tunnels { opened, ..Tunnels::default() }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<NodeName, Tunnel>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a request for a log on a node; `None` when the node has no tunnel.
    pub(super) async fn logs(self: &Arc<Self>, node: &NodeName, path: &str, query: &str) -> Option<Running> {
        let mut connect = Connect::new(0, path, query);
        connect.header.insert(WINDOW_HEADER.to_owned(), vec![WINDOW.to_string()]);
        self.start(node, FrameKind::LogsConnect, connect, true).await
    }

    /// Starts a request for metrics; `None` when the node has no tunnel.
    pub(super) async fn metrics(
        self: &Arc<Self>,
        node: &NodeName,
        path: &str,
        query: &str,
    ) -> Option<Running> {
        let mut connect = Connect::new(0, path, query);
        connect.header.insert(WINDOW_HEADER.to_owned(), vec![WINDOW.to_string()]);
        self.start(node, FrameKind::MetricConnect, connect, true).await
    }

    /// The nodes that are meant by a name or by the address that they tell: several may tell one address.
    pub(super) fn meant_by(&self, host: &str) -> Vec<NodeName> {
        let tunnels = self.locked();
        if let Some(node) = NodeName::new(host).ok().filter(|node| tunnels.contains_key(node)) {
            return vec![node];
        }
        let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() else { return Vec::new() };
        let there = tunnels.iter().filter(|(_, tunnel)| tunnel.address == Some(address));
        let mut nodes: Vec<NodeName> = there.map(|(node, _)| node.clone()).collect();
        nodes.sort();
        nodes
    }

    /// Starts a request that becomes a connection both ways; `None` when the node has no tunnel. What is sent on it is
    /// the connection's own, so there is no window.
    pub(super) async fn attach(
        self: &Arc<Self>,
        node: &NodeName,
        kind: FrameKind,
        connect: Connect,
    ) -> Option<Running> {
        self.start(node, kind, connect, false).await
    }

    async fn start(
        self: &Arc<Self>,
        node: &NodeName,
        kind: FrameKind,
        mut connect: Connect,
        windowed: bool,
    ) -> Option<Running> {
        let connection = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        connect.connection = connection;
        let (sender, frames) = mpsc::channel(WINDOW + 1);
        let end = End::default();
        let outgoing = {
            let mut tunnels = self.locked();
            let tunnel = tunnels.get_mut(node)?;
            tunnel.requests.insert(connection, Far { frames: sender, end: end.clone(), windowed });
            tunnel.outgoing.clone()
        };
        let running = Running {
            tunnels: self.clone(),
            node: node.clone(),
            connection,
            outgoing: outgoing.clone(),
            frames,
            end,
            consumed: 0,
            windowed,
        };
        outgoing.send(Frame::new(connection, kind, connect.encode())).await.ok()?;
        Some(running)
    }

    fn far(&self, node: &NodeName, serial: u64, connection: u64) -> Option<Far> {
        let tunnels = self.locked();
        let tunnel = tunnels.get(node).filter(|tunnel| tunnel.serial == serial)?;
        tunnel.requests.get(&connection).cloned()
    }

    fn finish(&self, node: &NodeName, connection: u64) -> bool {
        self.locked().get_mut(node).is_some_and(|tunnel| tunnel.requests.remove(&connection).is_some())
    }
}

impl Running {
    /// How the node ended it, once there are no more pieces: empty when all is said, else why there is no answer. `None`
    /// when the tunnel broke or the asker was too slow.
    pub(super) fn end(&self) -> Option<Bytes> {
        self.end.get().cloned()
    }

    /// The next piece of the answer; `None` at its end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let piece = self.frames.recv().await?;
        if !self.windowed {
            return Some(piece);
        }
        self.consumed += 1;
        if usize::from(self.consumed) >= WINDOW / 2 {
            // Tells a kedge edge how much more fits; others ignore data on a connection for logs.
            let credit = Bytes::copy_from_slice(&[self.consumed]);
            self.consumed = 0;
            drop(self.outgoing.send(Frame::new(self.connection, FrameKind::Data, credit)).await);
        }
        Some(piece)
    }
}

/// The sending half of a connection both ways.
pub(super) struct FarEnd {
    connection: u64,
    outgoing: mpsc::Sender<Frame>,
}

impl FarEnd {
    /// Sends bytes; `false` when the tunnel is gone.
    pub(super) async fn send(&self, data: Bytes) -> bool {
        self.outgoing.send(Frame::new(self.connection, FrameKind::Data, data)).await.is_ok()
    }
}

impl Running {
    /// What sends to the node on this connection.
    pub(super) fn far_end(&self) -> FarEnd {
        FarEnd { connection: self.connection, outgoing: self.outgoing.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.tunnels.finish(&self.node, self.connection) {
            // A full queue means a tunnel in trouble; it ends its requests itself.
            drop(self.outgoing.try_send(Frame::new(self.connection, FrameKind::RemoveConnect, Bytes::new())));
        }
    }
}

/// Answers a request on the tunnel port: the upgrade for a node, an error for everybody else.
pub(super) async fn enter(
    mut request: Request<Incoming>,
    caller: Arc<Caller>,
    refusals: Refusals,
    sessions: mpsc::Sender<Entered>,
) -> Response<Body> {
    if request.uri().path().trim_end_matches('/') != CONNECT_PATH {
        return text(StatusCode::NOT_FOUND, "only tunnels are served here");
    }
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let claimed = header("SessionHostNameOverride").unwrap_or_default().to_owned();
    let has_window = header(WINDOW_HEADER).is_some();
    let address = header("SessionInternalIP").and_then(|address| address.parse().ok());
    let shown = caller.peer.as_ref().map_or("", |peer| peer.common_name.as_str());
    let refuse = |status, why| {
        // Counted for whom the certificate names: the header may say anything.
        refusals.refuse_tunnel(shown, why, caller.remote);
        text(status, why)
    };
    let Ok(node) = NodeName::new(claimed) else {
        return refuse(StatusCode::BAD_REQUEST, "the node's name is missing or wrong");
    };
    if shown.strip_prefix("system:node:") != Some(node.as_str()) {
        return refuse(StatusCode::FORBIDDEN, "the certificate belongs to another node");
    }
    match ws::upgrade(&mut request) {
        Ok((response, pending)) => match sessions.try_send(Entered { node, address, pending, has_window }) {
            Ok(()) => response,
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "too many tunnels at once"),
        },
        Err(refusal) => refusal,
    }
}

/// Runs the tunnels that were let in.
pub(super) async fn serve_sessions(tunnels: Arc<Tunnels>, mut waiting: mpsc::Receiver<Entered>, stop: Stop) {
    let mut crew = Crew::new();
    while let Some(Some(entered)) = stop.or(waiting.recv()).await {
        crew.spawn(session(tunnels.clone(), entered, stop.clone()));
    }
    crew.finish().await;
}

async fn session(tunnels: Arc<Tunnels>, entered: Entered, stop: Stop) {
    let Entered { node, address, pending, has_window } = entered;
    let Ok((writer, reader)) = pending.accept(FRAME_LIMIT).await else { return };
    let serial = tunnels.serial.fetch_add(1, Ordering::Relaxed);
    let (outgoing, queue) = mpsc::channel(FRAMES);
    let replaced = Stop::new();
    let requests = HashMap::new();
    let tunnel = Tunnel { serial, address, outgoing: outgoing.clone(), requests, replaced: replaced.clone() };
    // Requests of a replaced tunnel end with it.
    if let Some(former) = tunnels.locked().insert(node.clone(), tunnel) {
        former.replaced.raise();
    }
    tunnels.opened.note(&node);
    tracing::info!(%node, "a stream tunnel is open");
    let reason = tokio::select! {
        () = stop.raised() => "the cloud stops",
        () = replaced.raised() => "another tunnel of the node took its place",
        () = write(writer, queue) => "the connection broke",
        reason = read(&tunnels, &node, serial, reader, outgoing, has_window) => reason,
    };
    let mut open = tunnels.locked();
    if open.get(&node).is_some_and(|tunnel| tunnel.serial == serial) {
        open.remove(&node);
        tunnels.opened.forget(&node);
    }
    drop(open);
    tracing::info!(%node, reason, "a stream tunnel is closed");
}

async fn write(mut writer: Writer, mut queue: mpsc::Receiver<Frame>) {
    let mut ping = tokio::time::interval(PING_EVERY);
    loop {
        let message = tokio::select! {
            frame = queue.recv() => match frame {
                Some(frame) => Outgoing::TextBytes(frame.encode().into()),
                None => return,
            },
            _ = ping.tick() => Outgoing::Ping(Bytes::new()),
        };
        if writer.send(message).await.is_err() {
            return;
        }
    }
}

async fn read(
    tunnels: &Tunnels,
    node: &NodeName,
    serial: u64,
    mut reader: Reader,
    outgoing: mpsc::Sender<Frame>,
    has_window: bool,
) -> &'static str {
    let mut complaints = HashSet::new();
    loop {
        let bytes = match tokio::time::timeout(SILENCE, reader.next()).await {
            Ok(Some(Ok(Received::Data(bytes)))) => bytes,
            Ok(Some(Ok(_))) => continue,
            Ok(Some(Err(WsError::TooLarge))) => return "a message was larger than allowed",
            Ok(Some(Err(_))) => return "the connection broke",
            Ok(None) => return "the node closed it",
            Err(_) => return "the node is silent",
        };
        let frame = match Frame::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => {
                if complaints.insert(error) {
                    tracing::warn!(%node, reason = %error, "a frame of a tunnel cannot be used");
                }
                continue;
            }
        };
        match frame.kind {
            FrameKind::Data => {
                let Some(far) = tunnels.far(node, serial, frame.connection) else { continue };
                if !deliver(&far.frames, frame.data, has_window && far.windowed).await {
                    tunnels.finish(node, frame.connection);
                    let end = Frame::new(frame.connection, FrameKind::RemoveConnect, Bytes::new());
                    drop(outgoing.try_send(end));
                }
            }
            FrameKind::RemoveConnect => {
                if let Some(far) = tunnels.far(node, serial, frame.connection) {
                    drop(far.end.set(frame.data));
                }
                tunnels.finish(node, frame.connection);
            }
            FrameKind::CloseConnect => return "the node closed it",
            FrameKind::LogsConnect
            | FrameKind::ExecConnect
            | FrameKind::MetricConnect
            | FrameKind::AttachConnect => {}
        }
    }
}

/// Puts a piece into the queue of its request; `false` when the request has to be broken off.
async fn deliver(queue: &mpsc::Sender<Bytes>, data: Bytes, has_window: bool) -> bool {
    if has_window {
        return queue.try_send(data).is_ok();
    }
    matches!(tokio::time::timeout(SLOW_READER, queue.send(data)).await, Ok(Ok(())))
}
