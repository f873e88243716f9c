//! One attempt to reach the cloud, kept for all who judge it: TCP, TLS, and a question whose answer tells the cloud's clock
//! and version. Asks as this node and never opens a session.

use super::place::papers;
use crate::base::now;
use crate::config::edge::EdgeConfig;
use crate::link::{DialError, Endpoint, dial, exchange};
use crate::pki::{Identity, client_config, facts_of, names_of, unverified_client_config};
use crate::wire::VERSION_HEADER;
use bytes::Bytes;
use http_body_util::Full;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(3);
pub(super) const ANSWER: usize = 64 << 10;
/// The longest version that is believed.
const VERSION: usize = 64;
/// Nobody reads it; it only fills packets.
const PADDING: &str = "kedge-padding";

/// What one attempt to reach the cloud has shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached {
    pub address: String,
    pub tcp: Option<Result<Duration, String>>,
    pub tls: Option<Result<Shown, TlsTrouble>>,
    /// What the head of its answer says.
    pub said: Option<Said>,
}

/// What the head of an answer says of its sender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The cloud's clock and ours at that moment, seconds since the epoch.
    pub clocks: Option<(i64, i64)>,
    /// The version of a kedge; KubeEdge's own tells none.
    pub version: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub took: Duration,
    pub names: Vec<String>,
    pub not_after: i64,
}

#[derive(Clone, Debug)]
pub(super) enum TlsTrouble {
    /// The names in the certificate, none of which is the one dialled.
    Names(Vec<String>),
    /// TCP works, and then nothing came.
    Silent,
    Other(String),
    /// There is nothing to shake hands with yet.
    NoPapers,
}

/// Tries TCP, TLS and one question; at most three times `LIMIT`.
pub(super) async fn reach(config: &EdgeConfig) -> Reached {
    let mut reached = Reached { address: config.hub.websocket.clone(), ..Reached::default() };
    let Some(endpoint) = Endpoint::parse(&config.hub.websocket, 10000) else {
        reached.tcp = Some(Err("the address cannot be used".to_owned()));
        return reached;
    };
    let started = Instant::now();
    let connected =
        tokio::time::timeout(LIMIT, TcpStream::connect((endpoint.host.as_str(), endpoint.port))).await;
    reached.tcp = Some(match connected {
        Ok(Ok(_)) => Ok(started.elapsed()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    });
    if !matches!(reached.tcp, Some(Ok(_))) {
        return reached;
    }
    let (config, project) = (config.clone(), config.hub.project_id.clone());
    let papers = tokio::task::spawn_blocking(move || papers(&config)).await;
    let Some((Ok(identity), Ok(ca))) = papers.ok().map(|papers| (papers.identity, papers.ca_pem)) else {
        reached.tls = Some(Err(TlsTrouble::NoPapers));
        return reached;
    };
    let tls = match client_config(&ca, Some(&identity)) {
        Ok(tls) => tls,
        Err(failure) => {
            reached.tls = Some(Err(TlsTrouble::Other(failure.why)));
            return reached;
        }
    };
    let started = Instant::now();
    match dial(&endpoint, tls, LIMIT).await {
        Ok(stream) => {
            let (_, session) = stream.get_ref();
            let shown = session.peer_certificates().and_then(|chain| chain.first()).map(|der| Shown {
                took: started.elapsed(),
                names: names_of(der),
                not_after: facts_of(der).map_or(0, |facts| facts.not_after),
            });
            reached.tls = Some(shown.ok_or_else(|| TlsTrouble::Other("no certificate was shown".to_owned())));
            let node = &named(&identity);
            reached.said = ask(stream, &endpoint, question(&project, node, 0)).await;
        }
        Err(error) => reached.tls = Some(Err(trouble(&endpoint, error).await)),
    }
    reached
}

/// The question of a node which opens its session, less the upgrade, so that the cloud does not count it among those that
/// it refuses. `padding` bytes make it longer.
pub(super) fn question(project: &str, node: &str, padding: usize) -> Option<http::Request<Full<Bytes>>> {
    let request = http::Request::get(format!("/{project}/{node}/events"))
        .header("node_id", node)
        .header("project_id", project)
        .header("ConnectionUse", "msg")
        .header(VERSION_HEADER, env!("CARGO_PKG_VERSION"));
    let padded = if padding > 0 { request.header(PADDING, "x".repeat(padding)) } else { request };
    padded.body(Full::default()).ok()
}

/// An HTTP answer of any kind carries the time of its sender.
async fn ask<S>(stream: S, endpoint: &Endpoint, request: Option<http::Request<Full<Bytes>>>) -> Option<Said>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let host = endpoint.to_string();
    let answer = tokio::time::timeout(LIMIT, exchange(stream, &host, request?, ANSWER)).await.ok()?.ok()?;
    let text = |name: &str| answer.headers().get(name)?.to_str().ok();
    let clocks = text("date").and_then(http_date).map(|theirs| (theirs, now().as_second()));
    let version = text(VERSION_HEADER).filter(|version| version.len() <= VERSION).map(str::to_owned);
    Some(Said { clocks, version })
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` in seconds since the epoch.
fn http_date(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once(", ")?;
    let date = jiff::civil::DateTime::strptime("%d %b %Y %H:%M:%S", rest.strip_suffix(" GMT")?).ok()?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// What is behind a refused handshake: for a wrong name the right ones are fetched.
async fn trouble(endpoint: &Endpoint, error: DialError) -> TlsTrouble {
    use rustls::{CertificateError, Error};
    let wrong_name = matches!(
        &error,
        DialError::Tls(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        ))
    );
    if matches!(error, DialError::TimedOut) {
        return TlsTrouble::Silent;
    }
    if !wrong_name {
        return TlsTrouble::Other(error.to_string());
    }
    let Ok(anyone) = unverified_client_config() else { return TlsTrouble::Names(Vec::new()) };
    let names = match dial(endpoint, anyone, LIMIT).await {
        Ok(stream) => {
            let (_, session) = stream.get_ref();
            session
                .peer_certificates()
                .and_then(|chain| chain.first())
                .map(|der| names_of(der))
                .unwrap_or_default()
        }
        Err(_) => Vec::new(),
    };
    TlsTrouble::Names(names)
}

/// The node that a certificate names.
pub(super) fn named(identity: &Identity) -> String {
    let name = identity.facts().map(|facts| facts.peer.common_name).unwrap_or_default();
    name.strip_prefix("system:node:").unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_are_read() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for bad in ["", "yesterday", "Sun, 06 Nov 1994 08:49:37", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn the_head_of_an_answer_tells_time_and_version() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let endpoint = Endpoint { host: "c".to_owned(), port: 1 };
        let answered = async |head: &str| {
            let (near, mut far) = tokio::io::duplex(64 << 10);
            let text = format!("HTTP/1.1 400 Bad Request\r\n{head}Content-Length: 0\r\n\r\n");
            let answer = async {
                let mut asked = vec![0; 4096];
                let size = far.read(&mut asked).await.unwrap();
                far.write_all(text.as_bytes()).await.unwrap();
                String::from_utf8_lossy(&asked[..size]).into_owned()
            };
            tokio::join!(ask(near, &endpoint, question("p", "n", 9)), answer)
        };
        let (said, asked) = answered("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nKedge-Version: 9.9.9\r\n").await;
        assert!(asked.starts_with("GET /p/n/events ") && asked.contains("xxxxxxxxx\r\n"), "{asked}");
        let said = said.unwrap();
        assert_eq!((said.clocks.unwrap().0, said.version.as_deref()), (784_111_777, Some("9.9.9")));
        assert_eq!(answered("").await.0, Some(Said::default()));
    }
}
