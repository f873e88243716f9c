//! Outgoing TLS connections: address, TCP, handshake, each with a name for what went wrong.

use rustls::pki_types::ServerName;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Host and port of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

impl Endpoint {
    /// Reads `host:port`, `[::1]:port` or either behind a scheme; `default_port` stands in for a missing port.
    pub fn parse(text: &str, default_port: u16) -> Option<Endpoint> {
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':')?)),
            None => match authority.rsplit_once(':') {
                Some((host, port)) if !host.contains(':') => (host, Some(port)),
                _ => (authority, None),
            },
        };
        let port = port.map_or(Some(default_port), |port| port.parse().ok())?;
        let endpoint = Endpoint { host: host.to_owned(), port };
        endpoint.server_name().is_some().then_some(endpoint)
    }

    fn server_name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.host.clone()).ok()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("{0}")]
    Unreachable(io::Error),
    #[error("no answer in time")]
    TimedOut,
    #[error("{0}")]
    Tls(rustls::Error),
    #[error("the TLS handshake broke off: {0}")]
    Handshake(io::Error),
    #[error("the host name cannot be used")]
    BadName,
}

impl DialError {
    /// Tells TLS errors, which hide in I/O errors, from others.
    pub(super) fn of_io(error: io::Error) -> DialError {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(tls) => DialError::Tls(tls.clone()),
            None => DialError::Handshake(error),
        }
    }
}

/// Connects without TLS: whether somebody listens there.
pub async fn reach(endpoint: &Endpoint, limit: Duration) -> Result<TcpStream, DialError> {
    let address = (endpoint.host.as_str(), endpoint.port);
    let connected = tokio::time::timeout(limit, TcpStream::connect(address)).await;
    connected.map_err(|_| DialError::TimedOut)?.map_err(DialError::Unreachable)
}

/// Connects; the time limit is for everything together.
pub async fn dial(
    endpoint: &Endpoint,
    tls: Arc<rustls::ClientConfig>,
    limit: Duration,
) -> Result<TlsStream<TcpStream>, DialError> {
    let connect = async {
        let socket = reach(endpoint, limit).await?;
        shake_hands(endpoint, tls, socket).await
    };
    tokio::time::timeout(limit, connect).await.map_err(|_| DialError::TimedOut)?
}

/// Like [`dial`], with TCP segments of at most `segment` bytes in both directions.
pub async fn dial_in_segments(
    endpoint: &Endpoint,
    tls: Arc<rustls::ClientConfig>,
    segment: u32,
    limit: Duration,
) -> Result<TlsStream<TcpStream>, DialError> {
    let connect = async {
        let mut addresses = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))
            .await
            .map_err(DialError::Unreachable)?;
        let address = addresses.next().ok_or(DialError::BadName)?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(DialError::Unreachable)?;
        socket2::SockRef::from(&socket).set_tcp_mss(segment).map_err(DialError::Unreachable)?;
        let socket = socket.connect(address).await.map_err(DialError::Unreachable)?;
        shake_hands(endpoint, tls, socket).await
    };
    tokio::time::timeout(limit, connect).await.map_err(|_| DialError::TimedOut)?
}

async fn shake_hands(
    endpoint: &Endpoint,
    tls: Arc<rustls::ClientConfig>,
    socket: TcpStream,
) -> Result<TlsStream<TcpStream>, DialError> {
    let name = endpoint.server_name().ok_or(DialError::BadName)?;
    socket.set_nodelay(true).map_err(DialError::Unreachable)?;
    TlsConnector::from(tls).connect(name, socket).await.map_err(DialError::of_io)
}

/// The largest packet on the way of a connection as the kernel knows it, in bytes.
pub fn path_mtu(socket: &TcpStream) -> Option<u32> {
    match socket.peer_addr().ok()? {
        SocketAddr::V4(_) => rustix::net::sockopt::ip_mtu(socket).ok(),
        SocketAddr::V6(_) => rustix::net::sockopt::ipv6_mtu(socket).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_with_and_without_scheme() {
        let parse = |text: &str| Endpoint::parse(text, 10002).map(|endpoint| endpoint.to_string());
        assert_eq!(parse("https://cloud.lan:10002"), Some("cloud.lan:10002".to_owned()));
        assert_eq!(parse("10.0.0.1"), Some("10.0.0.1:10002".to_owned()));
        assert_eq!(parse("wss://[::1]:7/x"), Some("[::1]:7".to_owned()));
        for bad in ["", "a:x", "a b:1", "host:99999", "[::1:5"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
