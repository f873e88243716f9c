//! The cloud against the embedded API over real TLS.
