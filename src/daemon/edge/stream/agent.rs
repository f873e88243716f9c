//! The tunnel's connection and the requests in it. Tries for ever with back-off; certificates may come later, from enrolment.

use super::request::{self, WINDOW_HEADER};
use super::{Config, LogLines, LogSource, MetricSource, Observed, Sources, session};
use crate::base::{Backoff, BoxFuture, Crew, Failure, Module, Ready, Stop, read_limited};
use crate::link::Endpoint;
use crate::link::ws::{self, Outgoing, Reader, Received, Writer};
use crate::pki::{Identity, client_config};
use crate::wire::tunnel::{Connect, FRAME_LIMIT, Frame, FrameKind};
use bytes::Bytes;
use futures_util::StreamExt;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

const PATH: &str = "/v1/kubeedge/connect";
const PORT: u16 = 10004;
const DIAL_LIMIT: Duration = Duration::from_secs(30);
const PING_EVERY: Duration = Duration::from_secs(5);
const PIECE: usize = 16 << 10;
const FRAMES: usize = 32;
const REQUESTS: usize = 64;
const SLOW_SESSION: Duration = Duration::from_secs(10);
const BUSY: &str = "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const FILE_LIMIT: u64 = 256 << 10;

pub struct StreamAgent {
    config: Config,
    sources: Sources,
    observed: Observed,
}

/// Makes the module that keeps the tunnel.
pub fn new(config: Config, sources: Sources, observed: Observed) -> impl Module {
    StreamAgent { config, sources, observed }
}

impl Module for StreamAgent {
    fn name(&self) -> &'static str {
        "stream"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            // The tunnel is a convenience: the node is whole without it, so it never keeps others waiting.
            ready.set();
            let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
            while !stop.is_raised() {
                match stop.or(self.connect()).await {
                    None => break,
                    Some(Ok((writer, reader))) => {
                        backoff.reset();
                        tracing::info!("the stream tunnel is open");
                        self.observed.opened();
                        serve((&self.sources, &self.observed), writer, reader, &stop).await;
                        self.observed.closed("the connection ended");
                        tracing::info!("the stream tunnel is closed");
                    }
                    Some(Err(why)) => {
                        tracing::debug!(error = why, "the stream tunnel cannot be opened");
                        self.observed.closed(&why);
                    }
                }
                if stop.or(tokio::time::sleep(backoff.next_wait())).await.is_none() {
                    break;
                }
            }
            Ok(())
        })
    }
}

impl StreamAgent {
    async fn connect(&self) -> Result<(Writer, Reader), String> {
        let endpoint = Endpoint::parse(&self.config.server, PORT).ok_or("the server's address is wrong")?;
        let config = self.config.clone();
        let tls = tokio::task::spawn_blocking(move || {
            let ca = read_limited(&config.ca_file, FILE_LIMIT)?;
            let identity = Identity::load(&config.cert_file, &config.key_file)?;
            client_config(&String::from_utf8_lossy(&ca), Some(&identity))
        });
        let tls = tls.await.map_err(|e| e.to_string())?.map_err(|failure| failure.to_string())?;
        let headers = [
            ("SessionHostNameOverride", self.config.node.as_str()),
            ("SessionInternalIP", self.config.node_ip.as_str()),
            (WINDOW_HEADER, "1"),
        ];
        let connected = ws::connect(&endpoint, tls, PATH, &headers, FRAME_LIMIT, DIAL_LIMIT).await;
        connected.map_err(|error| error.to_string())
    }
}

/// A request under way.
struct Running {
    stop: Stop,
    room: Arc<Semaphore>,
    /// Where bytes from the cloud go; on a connection for logs it sends none.
    input: Option<mpsc::Sender<Bytes>>,
}

async fn serve(
    (sources, observed): (&Sources, &Observed),
    mut writer: Writer,
    mut reader: Reader,
    stop: &Stop,
) {
    let (outgoing, mut queue) = mpsc::channel::<Outgoing>(FRAMES);
    let mut crew = Crew::new();
    let mut running: HashMap<u64, Running> = HashMap::new();
    let mut ping = tokio::time::interval(PING_EVERY);
    let write = async {
        loop {
            let message = tokio::select! {
                message = queue.recv() => message,
                _ = ping.tick() => Some(Outgoing::Ping(Bytes::from_static(b"ping you"))),
            };
            let Some(message) = message else { return };
            if writer.send(message).await.is_err() {
                return;
            }
        }
    };
    let read = async {
        let mut complaints = HashSet::new();
        while let Some(Ok(received)) = reader.next().await {
            let Received::Data(bytes) = received else { continue };
            let frame = match Frame::decode(bytes) {
                Ok(frame) => frame,
                Err(error) => {
                    if complaints.insert(error) {
                        tracing::warn!(reason = %error, "a frame of the tunnel cannot be used");
                    }
                    continue;
                }
            };
            running.retain(|_, request| !request.stop.is_raised());
            if !matches!(frame.kind, FrameKind::Data | FrameKind::RemoveConnect | FrameKind::CloseConnect) {
                observed.asked();
            }
            if !take(sources, frame, &mut running, &mut crew, &outgoing).await {
                return;
            }
        }
    };
    tokio::select! {
        () = stop.raised() => {}
        () = write => {}
        () = read => {}
    }
    crew.abort().await;
}

/// Takes one frame; `false` when the cloud closes the tunnel.
async fn take(
    sources: &Sources,
    frame: Frame,
    running: &mut HashMap<u64, Running>,
    crew: &mut Crew,
    outgoing: &mpsc::Sender<Outgoing>,
) -> bool {
    match frame.kind {
        FrameKind::CloseConnect => return false,
        FrameKind::RemoveConnect => {
            if let Some(request) = running.remove(&frame.connection) {
                request.stop.raise();
            }
        }
        FrameKind::Data => {
            let Some(request) = running.get(&frame.connection) else { return true };
            match &request.input {
                // A session that takes nothing for so long is broken off, for the tunnel is everybody's.
                Some(input) => {
                    let given = tokio::time::timeout(SLOW_SESSION, input.send(frame.data)).await;
                    if !matches!(given, Ok(Ok(()))) {
                        request.stop.raise();
                    }
                }
                // On a connection for logs the cloud only says how many more frames fit.
                None => {
                    let credit = frame.data.first().copied().unwrap_or(0);
                    request.room.add_permits(usize::from(credit));
                }
            }
        }
        kind @ (FrameKind::LogsConnect | FrameKind::MetricConnect) => {
            let Some(connect) = Connect::decode(&frame.data) else { return true };
            let window = request::window(&connect);
            let room = Arc::new(Semaphore::new(window.unwrap_or(Semaphore::MAX_PERMITS >> 1)));
            let stop = Stop::new();
            let answer =
                Answer { connection: frame.connection, outgoing: outgoing.clone(), room: room.clone() };
            let for_logs = kind == FrameKind::LogsConnect;
            if running.len() >= REQUESTS {
                if for_logs {
                    crew.spawn(answer.refuse("too many requests at once on this node\n"));
                } else {
                    crew.spawn(answer.end_because("too many requests at once on this node"));
                }
                return true;
            }
            running.insert(frame.connection, Running { stop: stop.clone(), room, input: None });
            if for_logs {
                crew.spawn(logs(sources.logs.clone(), connect, answer, stop));
            } else {
                crew.spawn(metrics(sources.metrics.clone(), connect, answer, stop));
            }
        }
        FrameKind::ExecConnect | FrameKind::AttachConnect => {
            let Some(connect) = Connect::decode(&frame.data) else { return true };
            let answer = Answer::unbounded(frame.connection, outgoing);
            if running.len() >= REQUESTS {
                crew.spawn(answer.refuse(BUSY));
                return true;
            }
            let (stop, room) = (Stop::new(), answer.room.clone());
            let (input, taken) = mpsc::channel(FRAMES);
            running.insert(frame.connection, Running { stop: stop.clone(), room, input: Some(input) });
            crew.spawn(session::run(sources.sessions.clone(), connect, answer, taken, stop));
        }
    }
    true
}

/// Where the pieces of one answer go.
pub(super) struct Answer {
    connection: u64,
    outgoing: mpsc::Sender<Outgoing>,
    room: Arc<Semaphore>,
}

impl Answer {
    fn unbounded(connection: u64, outgoing: &mpsc::Sender<Outgoing>) -> Answer {
        let room = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS >> 1));
        Answer { connection, outgoing: outgoing.clone(), room }
    }

    async fn send(&self, kind: FrameKind, data: Bytes) -> bool {
        let bytes = Frame::new(self.connection, kind, data).encode();
        self.outgoing.send(Outgoing::TextBytes(bytes.into())).await.is_ok()
    }

    /// Sends data in pieces, each as there is room for it.
    pub(super) async fn data(&self, mut data: Bytes) -> bool {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(PIECE));
            let Ok(permit) = self.room.acquire().await else { return false };
            permit.forget();
            if !self.send(FrameKind::Data, piece).await {
                return false;
            }
        }
        true
    }

    pub(super) async fn end(self) {
        self.send(FrameKind::RemoveConnect, Bytes::new()).await;
    }

    /// Ends without an answer. A kedge cloud tells the asker why; others take the frame as any other end.
    async fn end_because(self, why: impl Into<Bytes>) {
        self.send(FrameKind::RemoveConnect, why.into()).await;
    }

    async fn refuse(self, why: &'static str) {
        self.data(Bytes::from_static(why.as_bytes())).await;
        self.end().await;
    }
}

async fn logs(source: Arc<dyn LogSource>, connect: Connect, answer: Answer, stop: Stop) {
    let Some(request) = request::logs(&connect) else {
        answer.refuse("this path is not served by the node\n").await;
        stop.raise();
        return;
    };
    let sent = stop.or(async {
        match source.open(request).await {
            Ok(lines) => copy(lines, &answer).await,
            Err(why) => answer.data(Bytes::from(format!("{why}\n"))).await,
        }
    });
    if sent.await.is_some() {
        answer.end().await;
    }
    stop.raise();
}

async fn metrics(source: MetricSource, connect: Connect, answer: Answer, stop: Stop) {
    let sent = stop.or(async {
        match source(request::metrics(connect)).await {
            Ok(text) => {
                answer.data(text).await;
                None
            }
            Err(why) => Some(why),
        }
    });
    match sent.await {
        Some(None) => answer.end().await,
        Some(Some(why)) => answer.end_because(why).await,
        None => {}
    }
    stop.raise();
}

async fn copy(mut lines: LogLines, answer: &Answer) -> bool {
    while let Some(piece) = lines.next().await {
        let sent = match piece {
            Ok(piece) => answer.data(piece).await,
            Err(why) => return answer.data(Bytes::from(format!("{why}\n"))).await,
        };
        if !sent {
            return false;
        }
    }
    true
}
