//! One connection that carries envelopes or bytes: WebSocket over TLS.
