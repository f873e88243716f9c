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
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};

const PATH: &str = "/v1/kubeedge/connect";
const PORT: u16 = 10004;
const DIAL_LIMIT: Duration = Duration::from_secs(30);
const PING_EVERY: Duration = Duration::from_secs(5);
/// A cloud that lets so many pings pass without a word is gone: kedge's and the genuine one answer each as they read.
const PINGS_UNANSWERED: u32 = 12;
/// While requests are under way so many times as many: the genuine cloud reads nothing as long as somebody has paused a log.
const PATIENCE: u32 = 10;
/// A tunnel that lasted so long was a good one.
const STEADY: Duration = Duration::from_secs(5);
const PIECE: usize = 16 << 10;
const FRAMES: usize = 32;
const REQUESTS: usize = 64;
const SLOW_SESSION: Duration = Duration::from_secs(10);
const BUSY: &str = "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const ENDED: &str = "the connection ended";
const FILE_LIMIT: u64 = 256 << 10;

pub struct StreamAgent {
    config: Config,
    sources: Sources,
    observed: Observed,
    ping_every: Duration,
}

/// Makes the module that keeps the tunnel.
pub fn new(config: Config, sources: Sources, observed: Observed) -> impl Module {
    StreamAgent { config, sources, observed, ping_every: PING_EVERY }
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
                        tracing::info!("the stream tunnel is open");
                        self.observed.opened();
                        let began = Instant::now();
                        let reason = self.serve(writer, reader, &stop).await;
                        self.observed.closed(reason);
                        tracing::info!(reason, "the stream tunnel is closed");
                        // A cloud that closes at once is not called in a storm.
                        if began.elapsed() >= STEADY {
                            backoff.reset();
                        }
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

    /// Serves the tunnel until it ends; tells why it did.
    async fn serve(&self, mut writer: Writer, mut reader: Reader, stop: &Stop) -> &'static str {
        let (outgoing, mut queue) = mpsc::channel::<Outgoing>(FRAMES);
        let mut crew = Crew::new();
        let mut running: HashMap<u64, Running> = HashMap::new();
        let mut ping = tokio::time::interval(self.ping_every);
        let silence = self.ping_every.saturating_mul(PINGS_UNANSWERED);
        let write = async {
            loop {
                let message = tokio::select! {
                    message = queue.recv() => message,
                    _ = ping.tick() => Some(Outgoing::Ping(Bytes::from_static(b"ping you"))),
                };
                let Some(message) = message else { return ENDED };
                if writer.send(message).await.is_err() {
                    return ENDED;
                }
            }
        };
        let read = async {
            let mut complaints = HashSet::new();
            loop {
                running.retain(|_, request| !request.stop.is_raised());
                let patience = if running.is_empty() { 1 } else { PATIENCE };
                let bytes = match tokio::time::timeout(silence * patience, reader.next()).await {
                    Ok(Some(Ok(Received::Data(bytes)))) => bytes,
                    Ok(Some(Ok(Received::Pong(_)))) => continue,
                    Ok(Some(Err(_)) | None) => return ENDED,
                    Err(_) => return "the cloud does not answer pings",
                };
                let frame = match Frame::decode(bytes) {
                    Ok(frame) => frame,
                    Err(error) => {
                        if complaints.insert(error) {
                            tracing::warn!(reason = %error, "a frame of the tunnel cannot be used");
                        }
                        continue;
                    }
                };
                if !matches!(frame.kind, FrameKind::Data | FrameKind::RemoveConnect | FrameKind::CloseConnect)
                {
                    self.observed.asked();
                }
                if !take(&self.sources, frame, &mut running, &mut crew, &outgoing).await {
                    return ENDED;
                }
            }
        };
        let reason = tokio::select! {
            () = stop.raised() => ENDED,
            reason = write => reason,
            reason = read => reason,
        };
        crew.abort().await;
        reason
    }
}

/// A request under way.
struct Running {
    stop: Stop,
    room: Arc<Semaphore>,
    /// Where bytes from the cloud go; on a connection for logs it sends none.
    input: Option<mpsc::Sender<Bytes>>,
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

#[cfg(test)]
mod tests {
    use super::super::{LogRequest, MetricRequest, SessionRequest};
    use super::*;
    use crate::link::http;
    use crate::pki::{Authority, Clients, install_crypto_provider, server_config};
    use futures_util::stream;

    fn nobody() -> Sources {
        let logs = |_: LogRequest| -> BoxFuture<'static, Result<LogLines, String>> {
            Box::pin(async { Ok(stream::empty().boxed()) })
        };
        let sessions = |_: SessionRequest| -> BoxFuture<'static, Result<String, String>> {
            Box::pin(async { Err(String::new()) })
        };
        let metrics = |_: MetricRequest| -> BoxFuture<'static, Result<Bytes, String>> {
            Box::pin(async { Err(String::new()) })
        };
        Sources { logs: Arc::new(logs), sessions: Arc::new(sessions), metrics: Arc::new(metrics) }
    }

    /// The cloud answers pings for twice as long as it may be silent, and then neither reads nor says anything.
    #[tokio::test]
    async fn a_cloud_that_falls_silent_is_noticed() {
        install_crypto_provider();
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let authority = Authority::generate("KubeEdge").unwrap();
        let own = authority.issue_client("system:node:n1", &["system:nodes"], 1).unwrap();
        std::fs::write(file("ca.crt"), authority.cert_pem()).unwrap();
        std::fs::write(file("node.crt"), &own.cert_pem).unwrap();
        std::fs::write(file("node.key"), &own.key_pem).unwrap();
        let identity = authority.issue_server("KubeEdge", &["127.0.0.1".to_owned()], 1).unwrap();
        let tls = server_config(&identity, Clients::Optional(&authority.cert_pem())).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config {
            server: listener.local_addr().unwrap().to_string(),
            node: crate::model::NodeName::new("n1").unwrap(),
            node_ip: String::new(),
            ca_file: file("ca.crt"),
            cert_file: file("node.crt"),
            key_file: file("node.key"),
        };
        let (stop, mut crew) = (Stop::new(), Crew::new());
        let (entered, mut entering) = mpsc::channel(1);
        crew.spawn(http::serve(listener, tls, stop.clone(), move |mut request, _| {
            let entered = entered.clone();
            async move {
                let (response, pending) = ws::upgrade(&mut request).unwrap_or_else(|_| panic!("an upgrade"));
                drop(entered.try_send(pending));
                response
            }
        }));

        let ping_every = Duration::from_millis(100);
        let silence = ping_every * PINGS_UNANSWERED;
        let agent = StreamAgent { config, sources: nobody(), observed: Observed::default(), ping_every };
        let (writer, reader) = agent.connect().await.unwrap();
        let cloud = async {
            let (writer, mut reader) = entering.recv().await.unwrap().accept(FRAME_LIMIT).await.unwrap();
            let heard = tokio::time::timeout(silence * 2, reader.next()).await;
            assert!(heard.is_err(), "pings that are answered keep the tunnel: {heard:?}");
            // Held open, and left alone.
            (writer, reader)
        };
        let both = async { tokio::join!(agent.serve(writer, reader, &stop), cloud) };
        let (reason, _cloud) = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
        assert_eq!(reason, "the cloud does not answer pings");
        stop.raise();
        crew.abort().await;
    }
}
