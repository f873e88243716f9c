//! The edge's end of the stream tunnel (protocol.md §8): dials the cloud, serves requests for container logs.
//! It fetches no URL that it is sent: path and query of a request are read, and a [`LogSource`] on this machine answers.
//!
//! cloud --frame--> agent --> request (one task each) --> LogSource;  pieces come back as frames, within the cloud's window

mod agent;
mod request;

pub use agent::new;
pub use request::LogRequest;

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

/// A shared source.
pub type SharedLogSource = Arc<dyn LogSource>;
