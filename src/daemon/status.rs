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
const DOCUMENT_LIMIT: u64 = 4 << 20;

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
    stream.set_read_timeout(Some(Duration::from_secs(3))).map_err(|e| not_running(e.to_string()))?;
    let mut document = Vec::new();
    stream.take(DOCUMENT_LIMIT).read_to_end(&mut document).map_err(|e| not_running(e.to_string()))?;
    serde_json::from_slice(&document).map_err(|e| not_running(format!("its answer cannot be read ({e})")))
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
        failure.is_as_committed();
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

    #[tokio::test]
    async fn a_socket_that_cannot_be_opened_is_named() {
        let facts: Facts = Arc::new(|| Box::pin(async { Value::Null }));
        let mut socket = StatusSocket::new(PathBuf::from("/nonexistent/kedge.sock"), facts);
        let failure = socket.run(Stop::new(), Ready::detached("status")).await.unwrap_err();
        assert_eq!(failure.code, "KE-STATUS-002");
        failure.is_as_committed();
        assert!(failure.what.contains("/nonexistent/kedge.sock"), "{failure}");
        assert!(failure.why.contains("No such file") && failure.fix.contains("directory"), "{failure}");
    }
}
