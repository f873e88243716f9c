//! A session with a container over the runtime's own streaming server, which speaks SPDY 3.1: streams for standard input,
//! output, errors, the size of a terminal, and how it ended. `kedge exec` uses it. Only this machine is ever dialled.
//!
//! SPDY's headers are compressed with a dictionary of its own. What is sent needs no compressor, since a compressed stream
//! may hold stored blocks; what comes back in headers says nothing that is needed, and data is never compressed.

use bytes::Bytes;
use serde_json::Value;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const DIAL: Duration = Duration::from_secs(5);
/// The runtime waits 30 s for the streams of a session.
const START: Duration = Duration::from_secs(35);
const HEAD_LIMIT: usize = 16 << 10;
/// SPDY's lengths have 24 bits; the runtime's pieces are 32 KiB.
const FRAME_LIMIT: usize = 1 << 20;
/// How a zlib stream with SPDY 3's dictionary begins: method, flags, checksum of the dictionary.
const ZLIB_HEAD: [u8; 6] = [0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2];
const FIN: u8 = 1;
const PING: u16 = 6;
const GOAWAY: u16 = 7;

/// What a session carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    /// A terminal: errors come with the output, and its size can be told.
    pub tty: bool,
}

/// What goes to the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Bytes(Bytes),
    /// Standard input has ended.
    End,
    /// The terminal has this many columns and lines now.
    Size(u16, u16),
}

/// What comes from the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stdout(Bytes),
    Stderr(Bytes),
    /// The command ended with this status.
    Ended(u8),
    /// The command could not be run, and why.
    Failed(String),
}

/// The numbers of the streams, in the order in which they are opened.
struct Numbers {
    error: u32,
    stdin: Option<u32>,
    stdout: u32,
    stderr: Option<u32>,
    resize: Option<u32>,
}

impl Numbers {
    fn of(streams: Streams) -> Numbers {
        let mut next = 1;
        let mut take = |wanted: bool| {
            wanted.then(|| {
                let number = next;
                next += 2;
                number
            })
        };
        let error = take(true).unwrap_or(1);
        let stdin = take(streams.stdin);
        let stdout = take(true).unwrap_or(1);
        Numbers { error, stdin, stdout, stderr: take(!streams.tty), resize: take(streams.tty) }
    }

    fn opened(&self) -> Vec<(u32, &'static str)> {
        let mut all = vec![(self.error, "error")];
        all.extend(self.stdin.map(|number| (number, "stdin")));
        all.push((self.stdout, "stdout"));
        all.extend(self.stderr.map(|number| (number, "stderr")));
        all.extend(self.resize.map(|number| (number, "resize")));
        all
    }
}

/// Runs a session at the URL that the runtime gave for it, until the command has ended. `input` may end before.
pub async fn run(
    url: &str,
    streams: Streams,
    input: mpsc::Receiver<Input>,
    output: mpsc::Sender<Output>,
) -> io::Result<()> {
    let (address, path) =
        local(url).ok_or_else(|| io::Error::other("the runtime's address is not on this machine"))?;
    let dialled = tokio::time::timeout(DIAL, TcpStream::connect(&address)).await;
    let mut stream = dialled.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    tokio::time::timeout(DIAL, upgraded(&mut stream))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    talk(stream, streams, input, output).await
}

/// Address and path of an `http://` URL of this machine.
fn local(url: &str) -> Option<(String, String)> {
    let (address, path) = url.strip_prefix("http://")?.split_once('/')?;
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    (here && plain && port.parse::<u16>().is_ok()).then(|| (address.to_owned(), format!("/{path}")))
}

/// Reads the answer's head byte by byte: what follows belongs to SPDY.
async fn upgraded(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_LIMIT {
            return Err(io::Error::other("the runtime's answer has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head);
    let first = text.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) == Some("101") {
        return Ok(());
    }
    Err(io::Error::other(format!("the runtime refuses the session: {first}")))
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite,
    streams: Streams,
    mut input: mpsc::Receiver<Input>,
    output: mpsc::Sender<Output>,
) -> io::Result<()> {
    let numbers = Numbers::of(streams);
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut opening = Vec::new();
    for (place, (number, kind)) in numbers.opened().into_iter().enumerate() {
        opening.extend(open_frame(number, kind, place == 0));
    }
    writer.write_all(&opening).await?;
    let (pongs, mut answers) = mpsc::channel::<Vec<u8>>(16);
    let sending = async {
        let mut open = true;
        loop {
            let frame = tokio::select! {
                Some(pong) = answers.recv() => Some(pong),
                next = input.recv(), if open => {
                    open = next.is_some();
                    next.and_then(|next| input_frame(&numbers, next))
                }
                else => break,
            };
            if let Some(frame) = frame {
                writer.write_all(&frame).await?;
            }
        }
        Ok::<(), io::Error>(())
    };
    let receiving = receive(&mut reader, &numbers, &output, pongs);
    tokio::select! {
        received = receiving => received,
        // A runtime that no longer reads may still have said how it ended.
        Err(error) = sending => Err(error),
    }
}

async fn receive(
    reader: &mut (impl AsyncRead + Unpin),
    numbers: &Numbers,
    output: &mpsc::Sender<Output>,
    pongs: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let (mut verdict, mut started) = (Vec::new(), false);
    loop {
        let mut head = [0_u8; 8];
        let reading = reader.read_exact(&mut head);
        let read = if started {
            reading.await
        } else {
            tokio::time::timeout(START, reading)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        };
        started = true;
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
        let [a, b, c, d, flags, l1, l2, l3] = head;
        let length = usize::from(l1) << 16 | usize::from(l2) << 8 | usize::from(l3);
        if length > FRAME_LIMIT {
            return Err(io::Error::other("a frame of the runtime is too large"));
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).await?;
        if a & 0x80 != 0 {
            match u16::from_be_bytes([c, d]) {
                PING => {
                    let mut pong = head.to_vec();
                    pong.extend(&body);
                    // Nobody writes any more: the session is over anyway.
                    drop(pongs.send(pong).await);
                }
                GOAWAY => break,
                _ => {}
            }
            continue;
        }
        let number = u32::from_be_bytes([a, b, c, d]);
        if number == numbers.error {
            verdict.extend_from_slice(&body);
            if verdict.len() > FRAME_LIMIT || flags & FIN != 0 {
                break;
            }
            continue;
        }
        let piece = if number == numbers.stdout {
            Output::Stdout(body.into())
        } else if Some(number) == numbers.stderr {
            Output::Stderr(body.into())
        } else {
            continue;
        };
        let empty = matches!(&piece, Output::Stdout(bytes) | Output::Stderr(bytes) if bytes.is_empty());
        if !empty && output.send(piece).await.is_err() {
            return Ok(());
        }
    }
    // The verdict may overtake output that was sent before it on another stream: the runtime ends those first.
    drop(output.send(read_verdict(&verdict)).await);
    Ok(())
}

/// How the command ended: `metav1.Status` in JSON.
fn read_verdict(bytes: &[u8]) -> Output {
    if bytes.is_empty() {
        return Output::Failed("the runtime ended the session without a word".to_owned());
    }
    let Ok(status) = serde_json::from_slice::<Value>(bytes) else {
        return Output::Failed(String::from_utf8_lossy(bytes).trim().chars().take(400).collect());
    };
    if status["status"] == "Success" {
        return Output::Ended(0);
    }
    let causes = status["details"]["causes"].as_array();
    let exit = causes.into_iter().flatten().find(|cause| cause["reason"] == "ExitCode");
    match exit.and_then(|cause| cause["message"].as_str()?.parse::<u32>().ok()) {
        // A command's status has eight bits.
        Some(code) => Output::Ended(u8::try_from(code & 0xff).unwrap_or(1)),
        None => Output::Failed(status["message"].as_str().unwrap_or("the command failed").to_owned()),
    }
}

fn input_frame(numbers: &Numbers, input: Input) -> Option<Vec<u8>> {
    match input {
        Input::Bytes(bytes) => Some(data_frame(numbers.stdin?, 0, &bytes)),
        Input::End => Some(data_frame(numbers.stdin?, FIN, b"")),
        Input::Size(width, height) => {
            let size = format!("{{\"Width\":{width},\"Height\":{height}}}\n");
            Some(data_frame(numbers.resize?, 0, size.as_bytes()))
        }
    }
}

fn length_of(body: &[u8]) -> [u8; 3] {
    let [_, a, b, c] = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    [a, b, c]
}

fn data_frame(number: u32, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = number.to_be_bytes().to_vec();
    frame.push(flags);
    frame.extend(length_of(body));
    frame.extend(body);
    frame
}

/// `SYN_STREAM` with one header, in a stored block of the connection's one compressed stream.
fn open_frame(number: u32, kind: &str, first: bool) -> Vec<u8> {
    const SYN_STREAM: [u8; 4] = [0x80, 3, 0, 1];
    let mut pairs = 1_u32.to_be_bytes().to_vec();
    for text in ["streamtype", kind] {
        pairs.extend(u32::try_from(text.len()).unwrap_or(0).to_be_bytes());
        pairs.extend(text.as_bytes());
    }
    let mut body = number.to_be_bytes().to_vec();
    body.extend([0, 0, 0, 0, 0, 0]);
    if first {
        body.extend(ZLIB_HEAD);
    }
    let length = u16::try_from(pairs.len()).unwrap_or(0);
    body.push(0);
    body.extend(length.to_le_bytes());
    body.extend((!length).to_le_bytes());
    body.extend(pairs);
    // An empty block: the reader hands out what it has and does not look for more.
    body.extend([0, 0, 0, 0xff, 0xff]);
    let mut frame = SYN_STREAM.to_vec();
    frame.push(0);
    frame.extend(length_of(&body));
    frame.extend(body);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_dialled() {
        assert_eq!(
            local("http://127.0.0.1:3/exec/t"),
            Some(("127.0.0.1:3".to_owned(), "/exec/t".to_owned()))
        );
        for foreign in
            ["http://10.0.0.1:3/a", "https://127.0.0.1:3/a", "http://127.0.0.1:3/a b", "http://127.0.0.1/a"]
        {
            assert_eq!(local(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn verdicts_are_read() {
        assert_eq!(read_verdict(br#"{"status":"Success"}"#), Output::Ended(0));
        let failed = br#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;
        assert_eq!(read_verdict(failed), Output::Ended(7));
        let refused = br#"{"status":"Failure","message":"no such file"}"#;
        assert_eq!(read_verdict(refused), Output::Failed("no such file".to_owned()));
        assert!(matches!(read_verdict(b""), Output::Failed(_)));
    }

    #[tokio::test]
    async fn streams_pings_and_the_end_are_served() {
        let (here, mut there) = tokio::io::duplex(64 << 10);
        let (words, input) = mpsc::channel(4);
        let (output, mut said) = mpsc::channel(4);
        let runtime = async {
            // Four streams are opened: the first frame is longer by the head of the compressed stream.
            let mut kinds = Vec::new();
            for _ in 0..4 {
                let mut head = [0; 8];
                there.read_exact(&mut head).await.unwrap();
                assert_eq!(head[..4], [0x80, 3, 0, 1]);
                let mut body = vec![0; usize::from(head[7])];
                there.read_exact(&mut body).await.unwrap();
                kinds.push(String::from_utf8_lossy(&body).into_owned());
            }
            assert!(
                kinds
                    .iter()
                    .zip(["error", "stdin", "stdout", "stderr"])
                    .all(|(told, kind)| told.contains(kind)),
                "{kinds:?}"
            );
            let mut word = vec![0; 8 + 2];
            there.read_exact(&mut word).await.unwrap();
            assert_eq!(word, data_frame(3, 0, b"hi"));
            let ping = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];
            there.write_all(&ping).await.unwrap();
            let mut pong = [0; 12];
            there.read_exact(&mut pong).await.unwrap();
            assert_eq!(pong, ping);
            there.write_all(&data_frame(5, 0, b"out")).await.unwrap();
            there.write_all(&data_frame(7, FIN, b"err")).await.unwrap();
            there.write_all(&data_frame(1, FIN, br#"{"status":"Success"}"#)).await.unwrap();
        };
        words.send(Input::Bytes(Bytes::from_static(b"hi"))).await.unwrap();
        let streams = Streams { stdin: true, tty: false };
        let (talked, ()) = tokio::join!(talk(here, streams, input, output), runtime);
        talked.unwrap();
        let mut all = Vec::new();
        while let Some(piece) = said.recv().await {
            all.push(piece);
        }
        assert_eq!(all, [Output::Stdout("out".into()), Output::Stderr("err".into()), Output::Ended(0)]);
    }
}
