//! What a running daemon says of itself: a unix socket that writes one JSON document to whoever connects, and closes.
//! Daemons serve it, `kedge status` reads it. It never says a secret, and never waits for a reader.

use crate::base::{BoxFuture, Crew, Exit, Failure, Module, Ready, Stop, no_access};
use serde_json::Value;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

const WRITE_LIMIT: Duration = Duration::from_secs(2);
/// For the whole answer.
const READ_LIMIT: Duration = Duration::from_secs(3);
const DOCUMENT_LIMIT: usize = 4 << 20;

/// Collects the document; asked once per connection.
pub type Facts = Arc<dyn Fn() -> BoxFuture<'static, Value> + Send + Sync>;

/// The module that serves the socket.
pub struct StatusSocket {
    path: PathBuf,
    facts: Facts,
}

impl StatusSocket {
    pub fn new(path: PathBuf, facts: Facts) -> Self {
        StatusSocket { path, facts }
    }

    fn bind(&self) -> std::io::Result<UnixListener> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&self.path)?;
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }
}

impl Module for StatusSocket {
    fn name(&self) -> &'static str {
        "status"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let listener = self.bind().map_err(|error| {
                Failure::new(
                    "KE-STATUS-002",
                    format!("cannot open the status socket {}", self.path.display()),
                )
                .because(error)
                .fix("check that its directory exists and is writable")
            })?;
            ready.set();
            let mut crew = Crew::new();
            while let Some(accepted) = stop.or(listener.accept()).await {
                if let Ok((stream, _)) = accepted {
                    crew.spawn(tell(stream, self.facts.clone()));
                }
            }
            drop(std::fs::remove_file(&self.path));
            Ok(())
        })
    }
}

async fn tell(mut stream: UnixStream, facts: Facts) {
    let document = facts().await.to_string();
    // A reader that goes away or does not read loses its answer, nothing else.
    drop(tokio::time::timeout(WRITE_LIMIT, stream.write_all(document.as_bytes())).await);
}

/// Reads the document of the daemon behind the socket; fails with exit status 4 when none is running.
pub fn ask(path: &Path) -> Result<Value, Failure> {
    let not_running = |why: String| {
        Failure::new("KE-STATUS-001", "no kedge daemon is running here")
            .because(format!("{}: {why}", path.display()))
            .fix("start one with `kedge up`, or name its directory with --data-dir")
            .exit(Exit::Unreachable)
    };
    let stream = std::os::unix::net::UnixStream::connect(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => no_access(path, &error).exit(Exit::Unreachable),
        _ => not_running(error.to_string()),
    })?;
    let document = answer(stream).map_err(|error| {
        not_running(match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                format!("whoever holds it has not answered within {} s", READ_LIMIT.as_secs())
            }
            _ => error.to_string(),
        })
    })?;
    let document: Value = serde_json::from_slice(&document)
        .map_err(|e| not_running(format!("its answer cannot be read ({e})")))?;
    if !document.is_object() {
        return Err(not_running("its answer is not that of a daemon of kedge's".to_owned()));
    }
    Ok(document)
}

/// All that is said until the other end closes, within the limits of time and size.
fn answer(mut stream: std::os::unix::net::UnixStream) -> std::io::Result<Vec<u8>> {
    let deadline = std::time::Instant::now() + READ_LIMIT;
    let (mut document, mut part) = (Vec::new(), [0_u8; 16 << 10]);
    while document.len() < DOCUMENT_LIMIT {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => document.extend_from_slice(part.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(document)
}

/// The process that serves the socket; `None` when nobody does.
pub fn holder(path: &Path) -> Option<u32> {
    let stream = std::os::unix::net::UnixStream::connect(path).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_running_daemon_tells_and_a_stopped_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kedge.sock");
        let failure = ask(&path).unwrap_err();
        assert_eq!((failure.code, failure.exit), ("KE-STATUS-001", Exit::Unreachable));
        assert_eq!(holder(&path), None);

        let facts: Facts = Arc::new(|| Box::pin(async { serde_json::json!({"link": "up"}) }));
        let mut socket = StatusSocket::new(path.clone(), facts);
        let served = path.clone();
        let stop = Stop::new();
        let client = async {
            let asked = tokio::task::spawn_blocking(move || {
                (0..500).find_map(|_| {
                    ask(&path).ok().or_else(|| {
                        std::thread::yield_now();
                        None
                    })
                })
            });
            let document = asked.await.unwrap();
            assert_eq!(holder(&served), Some(std::process::id()));
            stop.raise();
            document
        };
        let (ended, document) = tokio::join!(socket.run(stop.clone(), Ready::detached("status")), client);
        assert_eq!(ended, Ok(()));
        assert_eq!(document, Some(serde_json::json!({"link": "up"})));
    }

    #[test]
    fn whoever_answers_without_end_or_nonsense_is_told_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let says = |text: &'static [u8], again: bool| {
            drop(std::fs::remove_file(&path));
            let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            let served = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                // Until the asker goes.
                while std::io::Write::write_all(&mut stream, text).is_ok() && again {
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
            let began = std::time::Instant::now();
            let failure = ask(&path).unwrap_err();
            served.join().unwrap();
            assert!(began.elapsed() < READ_LIMIT * 3, "{failure}");
            assert_eq!(failure.code, "KE-STATUS-001");
            failure.why
        };
        assert!(says(b" ", true).contains("has not answered within 3 s"));
        for nonsense in [&b"[[1]]"[..], b"5", b"null"] {
            assert!(says(nonsense, false).contains("not that of a daemon"));
        }
        assert!(says(b"{\"a\":", false).contains("cannot be read"));
    }

    #[tokio::test]
    async fn a_socket_that_cannot_be_opened_is_named() {
        let facts: Facts = Arc::new(|| Box::pin(async { Value::Null }));
        let mut socket = StatusSocket::new(PathBuf::from("/nonexistent/kedge.sock"), facts);
        let failure = socket.run(Stop::new(), Ready::detached("status")).await.unwrap_err();
        assert_eq!(failure.code, "KE-STATUS-002");
        assert!(failure.what.contains("/nonexistent/kedge.sock"), "{failure}");
        assert!(failure.why.contains("No such file") && failure.fix.contains("directory"), "{failure}");
    }
}
