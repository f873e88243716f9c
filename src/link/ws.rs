//! WebSocket over TLS, both ends: connect, upgrade, read, write. Messages go out as Text and come in as Text or Binary,
//! in fragments or whole, and need not be UTF-8; sizes are checked before memory is taken. Pings are answered by the reader.

use super::any_text::AnyText;
use super::dial::{DialError, Endpoint, dial};
use super::http::{Body, empty, text};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

const READ_BUFFER: usize = 4 << 10;
const WRITE_BUFFER: usize = 16 << 10;
const MAX_WRITE_BUFFER: usize = 17 << 20;
/// The longest message that can be written.
pub const WRITE_LIMIT: usize = MAX_WRITE_BUFFER - WRITE_BUFFER - 64;
const WRITE_DEADLINE: Duration = Duration::from_secs(15);
const UPGRADE_DEADLINE: Duration = Duration::from_secs(10);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

type Socket = WebSocketStream<Box<dyn Io>>;

/// Why a connection ended or a message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum WsError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the server refused the connection with status {0}")]
    Refused(u16),
    #[error("the server asks to come back in {0:?}")]
    Later(Duration),
    #[error("a message is larger than allowed")]
    TooLarge,
    #[error("no progress in time")]
    TimedOut,
    #[error("the connection is closed")]
    Closed,
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    #[error("{0}")]
    Io(io::Error),
}

impl From<Error> for WsError {
    fn from(error: Error) -> WsError {
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => WsError::Closed,
            Error::Capacity(_) | Error::WriteBufferFull(_) => WsError::TooLarge,
            Error::Http(response) => {
                let wait = response.headers().get(http::header::RETRY_AFTER);
                let wait = wait.and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
                match (response.status().as_u16(), wait) {
                    (503, Some(seconds)) => WsError::Later(Duration::from_secs(u64::from(seconds))),
                    (status, _) => WsError::Refused(status),
                }
            }
            Error::Io(error) => match DialError::of_io(error) {
                DialError::Handshake(error) => WsError::Io(error),
                tls => WsError::Dial(tls),
            },
            other => WsError::Protocol(other.to_string()),
        }
    }
}

fn config(message_limit: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .max_message_size(Some(message_limit))
        .max_frame_size(Some(message_limit))
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A Text or Binary message.
    Data(Bytes),
    /// The answer to a ping, with its content.
    Pong(Bytes),
}

/// The reading half.
pub struct Reader {
    socket: SplitStream<Socket>,
    farewell: Option<String>,
}

impl Reader {
    /// The next message; `None` when the peer has closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Received, WsError>> {
        loop {
            return Some(match self.socket.next().await? {
                Ok(Message::Text(text)) => Ok(Received::Data(text.into())),
                Ok(Message::Binary(bytes)) => Ok(Received::Data(bytes)),
                Ok(Message::Pong(bytes)) => Ok(Received::Pong(bytes)),
                Ok(Message::Ping(_) | Message::Frame(_)) => continue,
                Ok(Message::Close(frame)) => {
                    self.farewell = frame.map(|frame| frame.reason.to_string());
                    return None;
                }
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return None,
                Err(error) => Err(error.into()),
            });
        }
    }
}

impl Reader {
    /// Why the peer has closed, in its words.
    pub fn farewell(&self) -> Option<&str> {
        self.farewell.as_deref()
    }
}

/// Something to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    Text(String),
    /// A Text message of any bytes, as tunnels use it.
    TextBytes(Bytes),
    Ping(Bytes),
}

/// The writing half.
pub struct Writer(SplitSink<Socket, Message>);

impl Writer {
    /// Writes one message within 15 seconds; after an error other than `TooLarge` the connection is of no use.
    pub async fn send(&mut self, message: Outgoing) -> Result<(), WsError> {
        let (length, message) = match message {
            Outgoing::Text(text) => (text.len(), Message::text(text)),
            Outgoing::TextBytes(bytes) => {
                (bytes.len(), Message::Frame(Frame::message(bytes, OpCode::Data(Data::Text), true)))
            }
            Outgoing::Ping(bytes) => (bytes.len(), Message::Ping(bytes)),
        };
        if length > WRITE_LIMIT {
            return Err(WsError::TooLarge);
        }
        let sent = tokio::time::timeout(WRITE_DEADLINE, self.0.send(message)).await;
        Ok(sent.map_err(|_| WsError::TimedOut)??)
    }

    /// Says why and closes; a peer that does not listen is not waited for.
    pub async fn close(&mut self, reason: &str) {
        self.end(CloseCode::Normal, reason).await;
    }

    /// Closes with the code for "try again later" (1013).
    pub async fn turn_away(&mut self, reason: &str) {
        self.end(CloseCode::Again, reason).await;
    }

    async fn end(&mut self, code: CloseCode, reason: &str) {
        let frame = CloseFrame { code, reason: reason.into() };
        let farewell = Duration::from_secs(1);
        // The connection ends either way.
        drop(tokio::time::timeout(farewell, self.0.send(Message::Close(Some(frame)))).await);
    }
}

fn halves(socket: Socket) -> (Writer, Reader) {
    let (writer, reader) = socket.split();
    (Writer(writer), Reader { socket: reader, farewell: None })
}

/// Connects as a client. `message_limit` bounds what is read; `limit` is the time for everything.
pub async fn connect(
    endpoint: &Endpoint,
    tls: Arc<rustls::ClientConfig>,
    path: &str,
    headers: &[(&str, &str)],
    message_limit: usize,
    limit: Duration,
) -> Result<(Writer, Reader), WsError> {
    let uri = format!("wss://{endpoint}{path}")
        .parse()
        .map_err(|_| WsError::Protocol("the address is no URI".to_owned()))?;
    let mut request = ClientRequestBuilder::new(uri);
    for (name, value) in headers {
        request = request.with_header(*name, *value);
    }
    let connect = async {
        let stream: Box<dyn Io> = Box::new(AnyText::response(dial(endpoint, tls, limit).await?));
        let (socket, _) =
            tokio_tungstenite::client_async_with_config(request, stream, Some(config(message_limit))).await?;
        Ok(halves(socket))
    };
    tokio::time::timeout(limit, connect).await.map_err(|_| WsError::TimedOut)?
}

/// An upgrade that was granted; it becomes a connection once the response is sent.
pub struct Pending(OnUpgrade);

impl Pending {
    /// Waits for the connection.
    pub async fn accept(self, message_limit: usize) -> Result<(Writer, Reader), WsError> {
        let accept = async {
            let upgraded: Upgraded = self.0.await.map_err(|error| WsError::Protocol(error.to_string()))?;
            let stream: Box<dyn Io> = Box::new(AnyText::frames(TokioIo::new(upgraded)));
            Ok(halves(
                WebSocketStream::from_raw_socket(stream, Role::Server, Some(config(message_limit))).await,
            ))
        };
        tokio::time::timeout(UPGRADE_DEADLINE, accept).await.map_err(|_| WsError::TimedOut)?
    }
}

/// Grants an upgrade: the response to send and the connection to come; or the refusal to send.
pub fn upgrade(
    request: &mut http::Request<Incoming>,
) -> Result<(http::Response<Body>, Pending), http::Response<Body>> {
    let refuse = |why: &str| text(http::StatusCode::BAD_REQUEST, why);
    let header = |name: http::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let says = |name, word: &str| {
        header(name).is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    if request.method() != http::Method::GET
        || !says(http::header::UPGRADE, "websocket")
        || !says(http::header::CONNECTION, "upgrade")
        || header(http::header::SEC_WEBSOCKET_VERSION) != Some("13")
    {
        return Err(refuse("a WebSocket upgrade is expected here"));
    }
    let Some(key) = header(http::header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24) else {
        return Err(refuse("the WebSocket key is missing"));
    };
    let accept = http::HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| refuse("the WebSocket key is wrong"))?;
    let pending = Pending(hyper::upgrade::on(request));
    let mut response = http::Response::new(empty());
    *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(http::header::CONNECTION, http::HeaderValue::from_static("Upgrade"));
    headers.insert(http::header::UPGRADE, http::HeaderValue::from_static("websocket"));
    headers.insert(http::header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok((response, pending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    const LIMIT: usize = 1024;

    async fn end(role: Role) -> ((Writer, Reader), DuplexStream) {
        let (near, far) = duplex(64 << 10);
        let stream: Box<dyn Io> = Box::new(AnyText::frames(near));
        (halves(WebSocketStream::from_raw_socket(stream, role, Some(config(LIMIT))).await), far)
    }

    /// Ids 127, 128 and 300 as tunnels write them; only the first is UTF-8.
    const TUNNEL: [&[u8]; 3] = [&[0x7f, 3, b'h'], &[0x80, 1, 3, b'h'], &[0xac, 2, 3, b'h', b'i']];

    #[tokio::test]
    async fn texts_that_are_no_text_are_read_from_either_end() {
        let ((_writer, mut reader), mut far) = end(Role::Client).await;
        for bytes in TUNNEL {
            far.write_all(&[0x81, bytes.len() as u8]).await.unwrap();
            far.write_all(bytes).await.unwrap();
            let received = reader.next().await.unwrap().unwrap();
            assert_eq!(received, Received::Data(Bytes::from_static(bytes)));
        }
        let ((_writer, mut reader), mut far) = end(Role::Server).await;
        for bytes in TUNNEL {
            let masked: Vec<u8> = bytes.iter().map(|byte| byte ^ 0x5a).collect();
            far.write_all(&[0x81, 0x80 | bytes.len() as u8, 0x5a, 0x5a, 0x5a, 0x5a]).await.unwrap();
            far.write_all(&masked).await.unwrap();
            let received = reader.next().await.unwrap().unwrap();
            assert_eq!(received, Received::Data(Bytes::from_static(bytes)));
        }
    }

    #[tokio::test]
    async fn bytes_are_written_as_texts_as_genuine_ends_demand() {
        let ((mut writer, _reader), mut far) = end(Role::Server).await;
        for bytes in TUNNEL {
            writer.send(Outgoing::TextBytes(Bytes::from_static(bytes))).await.unwrap();
            let mut frame = vec![0; bytes.len() + 2];
            far.read_exact(&mut frame).await.unwrap();
            assert_eq!(frame, [&[0x81, bytes.len() as u8], bytes].concat());
        }
        let ((mut writer, _reader), mut far) = end(Role::Client).await;
        writer.send(Outgoing::TextBytes(Bytes::from_static(TUNNEL[2]))).await.unwrap();
        let mut frame = [0; 11];
        far.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[..2], [0x81, 0x85]);
        let unmasked: Vec<u8> = (0..5).map(|at| frame[6 + at] ^ frame[2 + at % 4]).collect();
        assert_eq!(unmasked, TUNNEL[2]);
    }

    #[tokio::test]
    async fn fragments_are_joined_the_empty_last_one_too_and_limits_hold() {
        let ((_writer, mut reader), mut far) = end(Role::Client).await;
        far.write_all(&[0x01, 2, 0xff, b'a', 0x00, 1, b'b', 0x80, 0]).await.unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap(), Received::Data(Bytes::from_static(b"\xffab")));
        // The announced length is refused before anything of it is here.
        far.write_all(&[0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0]).await.unwrap();
        assert!(matches!(reader.next().await.unwrap(), Err(WsError::TooLarge)));
    }
}
