//! cloudcore's HTTPS port (protocol.md §2.4): `/ca.crt` and `/edge.crt` in DER, GET with a body, Go's ALPN.

use super::Core;
use kedge::base::Crew;
use kedge::pki::{Clients, Usages, csr_peer, server_config};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

pub fn bind(port: u16) -> TcpListener {
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    TcpListener::from_std(listener).unwrap()
}

/// The TLS of a Go server.
pub fn tls(core: &Core, clients: Clients<'_>) -> TlsAcceptor {
    let server = core.authority.issue_server("KubeEdge", &["127.0.0.1".to_owned()], 1).unwrap();
    let mut config = rustls::ServerConfig::clone(&server_config(&server, clients).unwrap());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Serves one request a connection.
pub async fn run(core: Arc<Core>, listener: TcpListener) {
    let acceptor = tls(&core, Clients::Optional(&core.authority.cert_pem()));
    let mut crew = Crew::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (core, acceptor) = (core.clone(), acceptor.clone());
        crew.spawn(async move {
            let Ok(mut stream) = acceptor.accept(socket).await else { return };
            let mut request = Vec::new();
            let (head, body) = loop {
                if stream.read_buf(&mut request).await.unwrap_or_default() == 0 {
                    return;
                }
                let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&request[..end]).into_owned();
                let length = field(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
                if request.len() >= end + 4 + length {
                    break (head, request[end + 4..].to_vec());
                }
            };
            let has_certificate = stream.get_ref().1.peer_certificates().is_some();
            let (status, answer) = answer(&core, &head, &body, has_certificate);
            let line = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                answer.len()
            );
            drop(stream.write_all(&[line.as_bytes(), &answer].concat()).await);
            drop(stream.shutdown().await);
        });
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn answer(core: &Core, head: &str, body: &[u8], has_certificate: bool) -> (u16, Vec<u8>) {
    if head.starts_with("GET /ca.crt ") {
        return (200, core.authority.cert_der().to_vec());
    }
    if !head.starts_with("GET /edge.crt ") {
        return (404, b"404: Page Not Found".to_vec());
    }
    let bearer = field(head, "authorization").and_then(|text| text.split_once(' '));
    if !has_certificate && bearer.is_none_or(|(_, token)| token.split('.').count() != 3) {
        return (401, b"Invalid authorization token".to_vec());
    }
    let wanted = field(head, "nodename").map(|node| format!("system:node:{node}"));
    match (csr_peer(body), wanted) {
        (Some(peer), Some(wanted)) if peer.common_name == wanted => {
            (200, core.authority.sign_csr(body, YEAR, Usages::CLIENT).unwrap())
        }
        _ => (500, b"fail to sign the certificate".to_vec()),
    }
}
