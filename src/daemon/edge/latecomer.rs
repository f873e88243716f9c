//! A container runtime that is not there when the edge starts: looked for until it answers, and then given its pod network
//! and images like one that was there from the start. `assembly` makes it. Nothing else waits for it, and its absence
//! never ends the daemon.

use crate::base::{Backoff, BoxFuture, Failure, Module, Ready, Stop};
use crate::host::containerd::{self, Keeper};
use std::time::Duration;
use tokio::sync::watch;

pub(super) struct Latecomer {
    wanted: containerd::Config,
    /// Code of the failure that was told last.
    told: &'static str,
    version: watch::Sender<String>,
    keeper: Option<Keeper>,
}

impl Latecomer {
    /// The module, and the runtime's name and version, empty until it has come. `told` is the failure that is known.
    pub(super) fn new(
        wanted: containerd::Config,
        told: &'static str,
    ) -> (Latecomer, watch::Receiver<String>) {
        let (version, known) = watch::channel(String::new());
        (Latecomer { wanted, told, version, keeper: None }, known)
    }
}

/// Waits until the runtime answers and has all that pods need.
async fn come(
    wanted: &containerd::Config,
    told: &mut &'static str,
    version: &watch::Sender<String>,
) -> Keeper {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        match containerd::start(wanted.clone()).await {
            Ok(running) => {
                tracing::info!(
                    version = running.version,
                    ours = running.ours,
                    "the container runtime answers"
                );
                version.send_replace(running.version.clone());
                return running.into_parts().1;
            }
            Err(failure) if failure.code != *told => {
                tracing::warn!(code = failure.code, error = %failure, "the container runtime cannot be used yet");
                *told = failure.code;
            }
            Err(_) => {}
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

impl Module for Latecomer {
    fn name(&self) -> &'static str {
        "containerd"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let Latecomer { wanted, told, version, keeper } = self;
            if keeper.is_none() {
                *keeper = stop.or(come(wanted, told, version)).await;
            }
            match keeper {
                Some(keeper) => keeper.run(stop, ready).await,
                None => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Crew, ModuleState, Supervisor};
    use crate::host::cni::Network;
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Request, Response};
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use std::path::Path;
    use tokio::net::UnixListener;

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_does_not_come_is_waited_for() {
        let dir = Path::new("/nonexistent");
        let wanted = containerd::Config {
            endpoint: Some("unix:///nonexistent/cri.sock".to_owned()),
            use_running: true,
            dir: dir.to_owned(),
            network: Network::derive(dir),
        };
        let (latecomer, version) = Latecomer::new(wanted, "KE-RUNTIME-001");
        let mut supervisor = Supervisor::new();
        supervisor.add(latecomer);
        let (handle, stop) = (supervisor.handle(), Stop::new());
        let mut running = std::pin::pin!(supervisor.run(stop.clone()));
        assert!(tokio::time::timeout(Duration::from_secs(60), running.as_mut()).await.is_err());
        assert_eq!(handle.modules().remove(0).state, ModuleState::Starting);
        assert_eq!(*version.borrow(), "");
        stop.raise();
        assert_eq!(running.await, Ok(()));
    }

    /// A runtime that has an empty answer to every question.
    async fn answer_everything(listener: UnixListener) {
        let mut crew = Crew::new();
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|_: Request<Incoming>| async {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let empty = Full::new(Bytes::from_static(&[0; 5]));
                let body = empty.with_trailers(async move { Some(Ok(trailers)) });
                Response::builder().header("content-type", "application/grpc").body(body)
            });
            crew.spawn(async move {
                let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                drop(serving.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    }

    #[tokio::test]
    async fn a_runtime_that_comes_is_joined() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("cri.sock");
        let wanted = containerd::Config {
            endpoint: Some(format!("unix://{}", socket.display())),
            use_running: true,
            dir: dir.path().to_owned(),
            network: Network::derive(dir.path()),
        };
        let first = containerd::start(wanted.clone()).await.err().unwrap();
        let (latecomer, mut version) = Latecomer::new(wanted, first.code);
        let mut supervisor = Supervisor::new();
        supervisor.add(latecomer);
        let (mut handle, stop, mut crew) = (supervisor.handle(), Stop::new(), Crew::new());
        let own = stop.clone();
        crew.spawn(async move { supervisor.run(own).await.unwrap() });
        crew.spawn(answer_everything(UnixListener::bind(&socket).unwrap()));
        let joined = tokio::time::timeout(Duration::from_secs(20), handle.all_ready()).await;
        assert_eq!(joined, Ok(true));
        assert!(version.has_changed().unwrap() && version.borrow_and_update().contains("://"));
        stop.raise();
        crew.abort().await;
    }
}
