//! One connection to a broker, held as its client: bytes to packets, over TCP or TLS. `client` (commands) and `external`
//! (the edge at a foreign broker) speak over it. It decides nothing; a packet over the limit is passed over, never kept.

use super::codec::{self, Level, Malformed, Outbound, PublishHead};
use crate::link::{Endpoint, dial};
use bytes::{Buf, BytesMut};
use rumqttd::protocol::{Connect, ConnectReturnCode, Login, Packet};
use rustls::ClientConfig;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Time for a connection, for its CONNACK and for a write.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// Why the connection is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Broken {
    pub(super) fn new(why: impl fmt::Display) -> Broken {
        Broken(why.to_string())
    }
}

/// What came from the broker: a packet, or `None` for a message over the limit, whose payload is not read into memory.
pub(super) type Incoming = (Option<Packet>, PublishHead);

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// How the connection begins.
pub(super) struct Greeting {
    pub(super) client: String,
    pub(super) keep_alive: Duration,
    pub(super) login: Option<Login>,
}

pub(super) struct Line {
    socket: Box<dyn Socket>,
    input: BytesMut,
    limit: usize,
    /// Bytes of an oversized packet that are still to come.
    skip: usize,
}

impl Line {
    /// Connects to `host:port` and is let in with a clean session.
    pub(super) async fn open(
        address: &str,
        tls: Option<Arc<ClientConfig>>,
        greeting: Greeting,
        limit: usize,
    ) -> Result<Line, Broken> {
        let socket = match tls {
            Some(tls) => {
                let endpoint = Endpoint::parse(address, 8883)
                    .ok_or_else(|| Broken::new("the address is not host:port"))?;
                Box::new(dial(&endpoint, tls, LIMIT).await.map_err(Broken::new)?) as Box<dyn Socket>
            }
            None => {
                let connected = tokio::time::timeout(LIMIT, TcpStream::connect(address)).await;
                let stream = connected.map_err(|_| Broken::new("no answer in time"))?.map_err(Broken::new)?;
                stream.set_nodelay(true).map_err(Broken::new)?;
                Box::new(stream)
            }
        };
        let mut line = Line { socket, input: BytesMut::new(), limit, skip: 0 };
        let keep_alive = u16::try_from(greeting.keep_alive.as_secs()).unwrap_or_default();
        let connect = Connect { keep_alive, client_id: greeting.client, clean_session: true };
        line.say(Packet::Connect(connect, None, None, None, greeting.login)).await?;
        let answer = tokio::time::timeout(LIMIT, line.next()).await;
        match answer.map_err(|_| Broken::new("no answer in time"))?? {
            (Some(Packet::ConnAck(ack, _)), _) if ack.code == ConnectReturnCode::Success => Ok(line),
            (Some(Packet::ConnAck(ack, _)), _) => {
                Err(Broken::new(format_args!("the broker refuses the connection: {:?}", ack.code)))
            }
            _ => Err(Broken::new("the broker does not greet back")),
        }
    }

    /// The next packet. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Incoming, Broken> {
        loop {
            let skipped = self.skip.min(self.input.len());
            self.input.advance(skipped);
            self.skip -= skipped;
            if self.skip == 0
                && let Some(incoming) = self.take()?
            {
                return Ok(incoming);
            }
            self.input.reserve(512);
            match self.socket.read_buf(&mut self.input).await {
                Ok(0) => return Err(Broken::new("the broker closed the connection")),
                Ok(_) => {}
                Err(error) => return Err(Broken::new(error)),
            }
        }
    }

    fn take(&mut self) -> Result<Option<Incoming>, Broken> {
        match codec::decode(Level::V311, &mut self.input, self.limit) {
            Ok(decoded) => Ok(decoded.map(|(packet, head)| (Some(packet), head))),
            Err(Malformed::TooLarge) => {
                let Some((whole, head)) = codec::oversized(&self.input).map_err(Broken::new)? else {
                    return Ok(None);
                };
                self.skip = whole;
                Ok(Some((None, head)))
            }
            Err(malformed) => Err(Broken::new(malformed)),
        }
    }

    pub(super) async fn say(&mut self, packet: Packet) -> Result<(), Broken> {
        let mut out = BytesMut::new();
        if !codec::encode(Level::V311, packet, &mut out) {
            return Err(Broken::new("a packet cannot be written"));
        }
        self.write(&out).await
    }

    pub(super) async fn publish(&mut self, outbound: Outbound<'_>) -> Result<(), Broken> {
        let mut out = BytesMut::new();
        if !codec::encode_publish(Level::V311, outbound, &mut out) {
            return Err(Broken::new("a message cannot be written"));
        }
        self.write(&out).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let written = tokio::time::timeout(LIMIT, async {
            self.socket.write_all(bytes).await?;
            self.socket.flush().await
        });
        match written.await {
            Ok(written) => written.map_err(Broken::new),
            Err(_) => Err(Broken::new("the broker does not read")),
        }
    }
}
