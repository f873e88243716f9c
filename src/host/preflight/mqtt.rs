//! A few packets of MQTT 3.1.1, spoken by hand: does a broker answer here, and does a message come back?
//! The port check and `kedge doctor` ask; every answer is limited in size and time.

use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

const ANSWER_LIMIT: usize = 64 << 10;

/// Name and password for a broker that wants them.
pub type Login<'a> = Option<(&'a str, &'a str)>;

/// Connects as a client: `Ok` with the broker's return code (0: welcome), or why nobody speaks MQTT there.
pub async fn probe(address: &str, login: Login<'_>, limit: Duration) -> Result<u8, String> {
    within(limit, async {
        let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let code = connect(&mut stream, login).await?;
        drop(stream.write_all(&[0xe0, 0]).await);
        Ok(code)
    })
    .await
}

/// Subscribes to a topic, publishes to it and waits until the message comes back; answers how long that took.
pub async fn round_trip(
    address: &str,
    login: Login<'_>,
    topic: &str,
    limit: Duration,
) -> Result<Duration, String> {
    within(limit, async {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        round_trip_over(stream, login, topic, limit).await
    })
    .await
}

/// The same over a connection that is open, such as one with TLS.
pub async fn round_trip_over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    login: Login<'_>,
    topic: &str,
    limit: Duration,
) -> Result<Duration, String> {
    within(limit, async {
        match connect(&mut stream, login).await? {
            0 => {}
            code => return Err(refusal(code).to_owned()),
        }
        let mut subscribe = vec![0, 1];
        put_text(&mut subscribe, topic);
        subscribe.push(0);
        send(&mut stream, 0x82, &subscribe).await?;
        let (kind, body) = receive(&mut stream).await?;
        if kind >> 4 != 9 || body.last() == Some(&0x80) {
            return Err("the subscription was refused".to_owned());
        }
        let payload = crate::base::random_suffix(12);
        let mut publish = Vec::new();
        put_text(&mut publish, topic);
        publish.extend_from_slice(payload.as_bytes());
        let started = Instant::now();
        send(&mut stream, 0x30, &publish).await?;
        loop {
            let (kind, body) = receive(&mut stream).await?;
            if kind >> 4 == 3 && body.ends_with(payload.as_bytes()) {
                drop(stream.write_all(&[0xe0, 0]).await);
                return Ok(started.elapsed());
            }
        }
    })
    .await
}

/// A broker's return code in words.
pub(super) fn refusal(code: u8) -> &'static str {
    match code {
        0 => "welcome",
        4 | 5 => "the broker wants a name and a password",
        _ => "the broker refuses the client",
    }
}

async fn within<T>(limit: Duration, talk: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(limit, talk).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {:.1} s", limit.as_secs_f64())),
    }
}

async fn connect(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), login: Login<'_>) -> Result<u8, String> {
    let mut body = Vec::new();
    put_text(&mut body, "MQTT");
    let flags = if login.is_some() { 0xc2 } else { 0x02 };
    body.extend_from_slice(&[4, flags, 0, 10]);
    put_text(&mut body, &format!("kedge-doctor-{}", crate::base::random_suffix(8)));
    if let Some((name, password)) = login {
        put_text(&mut body, name);
        put_text(&mut body, password);
    }
    send(stream, 0x10, &body).await?;
    match receive(stream).await? {
        (0x20, body) if body.len() == 2 => Ok(body.get(1).copied().unwrap_or(1)),
        _ => Err("what answers does not speak MQTT".to_owned()),
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), head: u8, body: &[u8]) -> Result<(), String> {
    let mut packet = vec![head];
    let mut rest = body.len();
    loop {
        let low = (rest % 128) as u8;
        rest /= 128;
        packet.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    stream.write_all(&packet).await.map_err(|error| error.to_string())?;
    stream.flush().await.map_err(|error| error.to_string())
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<(u8, Vec<u8>), String> {
    let broken = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the connection was closed".to_owned(),
        _ => error.to_string(),
    };
    let head = stream.read_u8().await.map_err(broken)?;
    let mut length = 0_usize;
    for place in 0..4 {
        let byte = stream.read_u8().await.map_err(broken)?;
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            break;
        }
    }
    if length > ANSWER_LIMIT {
        return Err("what answers does not speak MQTT".to_owned());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(broken)?;
    Ok((head, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A real mosquitto on a free port; `None` where it is not installed.
    async fn mosquitto(dir: &std::path::Path, lines: &str) -> Option<(tokio::process::Child, String)> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = dir.join("mosquitto.conf");
        std::fs::write(&file, format!("listener {port} 127.0.0.1\n{lines}\n")).unwrap();
        let child = tokio::process::Command::new("mosquitto")
            .arg("-c")
            .arg(&file)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let address = format!("127.0.0.1:{port}");
        while TcpStream::connect(&address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some((child, address))
    }

    #[tokio::test]
    async fn a_message_comes_back_from_a_real_broker() {
        let dir = tempfile::tempdir().unwrap();
        let Some((_child, address)) = mosquitto(dir.path(), "allow_anonymous true").await else { return };
        assert_eq!(probe(&address, None, LIMIT).await, Ok(0));
        assert!(round_trip(&address, None, "kedge/doctor", LIMIT).await.is_ok());
    }

    #[tokio::test]
    async fn a_broker_that_wants_a_password_is_told_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let Some((_child, address)) = mosquitto(dir.path(), "allow_anonymous false").await else { return };
        assert_eq!(probe(&address, None, LIMIT).await, Ok(5));
        let refused = round_trip(&address, None, "kedge/doctor", LIMIT).await.unwrap_err();
        assert_eq!(refused, "the broker wants a name and a password");
    }

    #[tokio::test]
    async fn what_does_not_speak_mqtt_is_no_broker() {
        for answer in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], &[0x20, 0xff, 0xff, 0xff, 0x7f], b""] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let (probed, ()) = tokio::join!(probe(&address, None, LIMIT), async {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(answer).await.unwrap();
                drop(stream.shutdown().await);
                // The client's packet is read, so that closing does not break the connection off.
                let mut rest = Vec::new();
                drop(stream.read_to_end(&mut rest).await);
            });
            assert!(probed.is_err(), "{probed:?}");
        }
        assert!(probe("127.0.0.1:1", None, LIMIT).await.is_err());
    }
}
