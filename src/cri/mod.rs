//! Container runtime client: CRI v1 over a unix socket, for any runtime that speaks it (containerd is the one we start).
//! The pod room and `host` call it. It decides nothing: every call is one request with a time limit, every error names
//! the call and carries the runtime's own words.

mod client;
mod events;
pub mod messages;
pub mod session;

pub use client::{CallError, Runtime};
pub use events::{Events, RuntimeEvent};
