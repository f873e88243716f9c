//! Certificate authority, certificates, join tokens, TLS configurations that reload by themselves.
