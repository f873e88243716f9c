//! One session with a container: the request goes to the container runtime's own streaming server on this machine, and
//! from then on bytes go both ways untouched, so that the cloud's caller and the runtime agree on the protocol themselves.

use super::SessionRequest;
use super::agent::Answer;
use super::{SessionSource, request};
use crate::base::Stop;
use crate::wire::tunnel::Connect;
use bytes::Bytes;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const DIAL: Duration = Duration::from_secs(5);
const PIECE: usize = 16 << 10;
/// What of the caller's head the runtime has to see.
const HEADERS: [&str; 3] = ["Upgrade", "X-Stream-Protocol-Version", "User-Agent"];

/// Serves a session until either end is done.
pub(super) async fn run(
    source: SessionSource,
    connect: Connect,
    answer: Answer,
    mut input: mpsc::Receiver<Bytes>,
    stop: Stop,
) {
    let served = stop.or(async {
        let opened = match request::session(&connect) {
            Some(request) => open(&source, request, &connect).await,
            None => Err("404 Not Found\n\nthis path is not served by the node".to_owned()),
        };
        match opened {
            Ok(stream) => copy(stream, &answer, &mut input).await,
            Err(why) => {
                answer.data(refusal(&why)).await;
            }
        }
    });
    if served.await.is_some() {
        answer.end().await;
    }
    stop.raise();
}

/// An HTTP answer from `status line\n\nsentence`.
fn refusal(why: &str) -> Bytes {
    let (status, text) = why.split_once("\n\n").unwrap_or(("500 Internal Server Error", why));
    let length = text.len();
    Bytes::from(format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    ))
}

async fn open(
    source: &SessionSource,
    request: SessionRequest,
    connect: &Connect,
) -> Result<TcpStream, String> {
    let url = source(request).await?;
    let (address, path) =
        local(&url).ok_or("the runtime's address for the session is not on this machine")?;
    let dialled = tokio::time::timeout(DIAL, TcpStream::connect(&address)).await;
    let dialled = dialled.map_err(|_| "the runtime does not take the session in time".to_owned())?;
    let mut stream = dialled.map_err(|error| format!("the runtime does not take the session: {error}"))?;
    let sent = stream.write_all(head(&address, &path, connect).as_bytes()).await;
    sent.map_err(|error| format!("the runtime does not take the session: {error}"))?;
    Ok(stream)
}

/// Address and path of an `http://` URL of this machine; no other machine is ever dialled.
fn local(url: &str) -> Option<(String, String)> {
    let rest = url.strip_prefix("http://")?;
    let (address, path) = rest.split_once('/')?;
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    (here && plain && port.parse::<u16>().is_ok()).then(|| (address.to_owned(), format!("/{path}")))
}

fn head(address: &str, path: &str, connect: &Connect) -> String {
    let method = if connect.method == "GET" { "GET" } else { "POST" };
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n");
    for (name, values) in &connect.header {
        let Some(known) = HEADERS.iter().find(|known| known.eq_ignore_ascii_case(name)) else { continue };
        for value in values.iter().filter(|value| value.bytes().all(|byte| (b' '..=b'~').contains(&byte))) {
            head += &format!("{known}: {value}\r\n");
        }
    }
    head + "Content-Length: 0\r\n\r\n"
}

async fn copy(mut stream: TcpStream, answer: &Answer, input: &mut mpsc::Receiver<Bytes>) {
    let (mut reader, mut writer) = stream.split();
    // Each way on its own: a full tunnel must not keep the caller's words from the runtime.
    let up = async {
        let mut buffer = vec![0; PIECE];
        while let Some(piece) = reader.read(&mut buffer).await.ok().and_then(|count| buffer.get(..count)) {
            if piece.is_empty() || !answer.data(Bytes::copy_from_slice(piece)).await {
                break;
            }
        }
    };
    let down = async {
        while let Some(piece) = input.recv().await {
            if writer.write_all(&piece).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_dialled() {
        assert_eq!(
            local("http://127.0.0.1:3/exec/t0k"),
            Some(("127.0.0.1:3".to_owned(), "/exec/t0k".to_owned()))
        );
        assert!(local("http://[::1]:3/exec/a").is_some());
        for foreign in [
            "http://10.0.0.1:3/a",
            "https://127.0.0.1:3/a",
            "http://127.0.0.1/a",
            "http://127.0.0.1:3/a b",
            "http://127.0.0.1.x:3/a",
        ] {
            assert_eq!(local(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn the_callers_head_is_cut_down_to_what_matters() {
        let mut connect = Connect { method: "POST".to_owned(), ..Connect::default() };
        let header = [("Upgrade", "SPDY/3.1"), ("Authorization", "secret"), ("User-Agent", "a\r\nX: y")];
        for (name, value) in header {
            connect.header.insert(name.to_owned(), vec![value.to_owned()]);
        }
        let head = head("127.0.0.1:3", "/exec/t", &connect);
        let wanted = "POST /exec/t HTTP/1.1\r\nHost: 127.0.0.1:3\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(head, wanted);
        assert!(refusal("404 Not Found\n\nno").starts_with(b"HTTP/1.1 404 Not Found\r\n"));
    }
}
