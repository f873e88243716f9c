//! An HTTP service as rules name them, which answers with what it was asked, and one path whose answer never ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// Requests so far: method and path, body.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// Serves as long as the test runs.
pub struct Service {
    pub port: u16,
    seen: Seen,
}

impl Service {
    pub fn start() -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Seen::default();
        let noted = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let noted = noted.clone();
                std::thread::spawn(move || drop(serve(stream, &noted)));
            }
        });
        Service { port, seen }
    }

    /// Whether this was asked with this body.
    pub fn was_asked(&self, what: &str, body: &str) -> Result<(), Vec<(String, String)>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = seen.iter().any(|(line, said)| line == what && said == body);
        if asked { Ok(()) } else { Err(seen.clone()) }
    }
}

fn serve(mut stream: TcpStream, seen: &Seen) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line)?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or_default();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let what = line.rsplit_once(' ').map_or("", |(what, _)| what).to_owned();
    let path = what.rsplit(' ').next().unwrap_or_default().to_owned();
    let body = String::from_utf8_lossy(&body).into_owned();
    seen.lock().unwrap_or_else(PoisonError::into_inner).push((what, body));
    if path.starts_with("/endless") {
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        let piece = vec![b'x'; 1 << 16];
        // A gigabyte is as good as no end.
        return (0..1 << 14).try_for_each(|_| stream.write_all(&piece));
    }
    let answer = format!("answer of {path}");
    let head =
        format!("HTTP/1.1 201 Created\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(answer.as_bytes())
}
