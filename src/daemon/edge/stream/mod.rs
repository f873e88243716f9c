//! The edge's end of the stream tunnel (protocol.md §8): dials the cloud, serves requests for logs, sessions and metrics.
//! It fetches no URL that it is sent: path and query of a request are read, and [`Sources`] on this machine answer.
//!
//! cloud --frame--> agent --> request (one task each) --> Sources;  pieces come back as frames, within the cloud's window

mod agent;
mod request;
mod session;

pub use agent::new;
pub use request::{LogRequest, MetricRequest, SessionRequest};

use crate::base::{BoxFuture, now_ms};
use crate::model::NodeName;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// What the agent is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` of the cloud's tunnel server.
    pub server: String,
    pub node: NodeName,
    /// The node's address for the cloud's records; empty is allowed.
    pub node_ip: String,
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// Lines of a container's log, oldest first; an error text ends them.
pub type LogLines = BoxStream<'static, Result<Bytes, String>>;

/// Who can read the logs of containers here; the composition gives the pod room.
pub trait LogSource: Send + Sync + 'static {
    /// Opens a log. The error is a sentence for the person who asked.
    fn open(&self, request: LogRequest) -> BoxFuture<'static, Result<LogLines, String>>;
}

impl<F> LogSource for F
where
    F: Fn(LogRequest) -> BoxFuture<'static, Result<LogLines, String>> + Send + Sync + 'static,
{
    fn open(&self, request: LogRequest) -> BoxFuture<'static, Result<LogLines, String>> {
        self(request)
    }
}

/// Who can open sessions with containers here. The answer is the container runtime's address for it on this machine; the
/// error is a sentence for the person who asked.
pub type SessionSource =
    Arc<dyn Fn(SessionRequest) -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// Who knows what this node and its pods use. The answer is a kubelet's; the error is a sentence for the person who asked.
pub type MetricSource = Arc<dyn Fn(MetricRequest) -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync>;

/// How the tunnel is, for whoever asks; a copy shows the same tunnel.
#[derive(Clone, Default)]
pub struct Observed(Arc<Mutex<Tunnel>>);

/// The tunnel at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tunnel {
    pub open: bool,
    /// Since when it is as it is: milliseconds since the epoch.
    pub since: i64,
    /// Why it could not be opened last; empty while it is open.
    pub error: String,
    /// Requests that came through it since the daemon started, and when the last one did.
    pub requests: u64,
    pub last_request: Option<i64>,
}

impl Observed {
    pub fn now(&self) -> Tunnel {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Tunnel)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn opened(&self) {
        self.change(|it| (it.open, it.since, it.error) = (true, now_ms(), String::new()));
    }

    fn closed(&self, why: &str) {
        self.change(|it| {
            if it.open || it.since == 0 {
                (it.open, it.since) = (false, now_ms());
            }
            why.clone_into(&mut it.error);
        });
    }

    fn asked(&self) {
        self.change(|it| (it.requests, it.last_request) = (it.requests + 1, Some(now_ms())));
    }
}

/// Who answers on this machine.
#[derive(Clone)]
pub struct Sources {
    pub logs: Arc<dyn LogSource>,
    pub sessions: SessionSource,
    pub metrics: MetricSource,
}
