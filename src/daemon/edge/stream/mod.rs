//! The edge's end of the stream tunnel (protocol.md §8): dials the cloud, serves requests for logs and sessions.
//! It fetches no URL that it is sent: path and query of a request are read, and [`Sources`] on this machine answer.
//!
//! cloud --frame--> agent --> request (one task each) --> LogSource;  pieces come back as frames, within the cloud's window

mod agent;
mod request;
mod session;

pub use agent::new;
pub use request::{LogRequest, SessionRequest};

use crate::base::BoxFuture;
use crate::model::NodeName;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::path::PathBuf;
use std::sync::Arc;

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

/// Who answers on this machine.
#[derive(Clone)]
pub struct Sources {
    pub logs: Arc<dyn LogSource>,
    pub sessions: SessionSource,
}
