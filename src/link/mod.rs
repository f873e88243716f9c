//! One connection that carries envelopes or bytes: HTTP and WebSocket over TLS.
//! The hub, the embedded API and the uplink come here; what the bytes mean is not known here.

pub mod http;
