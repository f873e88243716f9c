//! One connection that carries envelopes or bytes: HTTP and WebSocket over TLS.
//! The hub, the embedded API, the uplink and the MQTT client come here; what the bytes mean is not known here.

mod any_text;
mod dial;
mod download;
mod fetch;
pub mod http;
pub mod ws;

pub use dial::{DialError, Endpoint, dial, dial_in_segments, path_mtu, reach};
pub use download::{Bounds, download};
pub use fetch::{FetchError, exchange, fetch, fetch_whole};
