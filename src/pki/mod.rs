//! Certificate authority, certificates, join tokens, TLS configurations that reload by themselves.
//! The cloud, the embedded API and `kedge join` come here. Own keys are P-256 and kept as SEC1, as KubeEdge keeps them;
//! no key and no token ever reaches a log line or a failure text.

mod authority;
mod der;
mod identity;
mod signature;
mod tls;
mod token;

pub use authority::{Authority, Request, Usages};
pub use der::pem_certificate;
pub use identity::{
    Facts, Identity, Peer, cert_key, certificates_of, csr_key, csr_names, csr_peer, facts_of, names_of,
    not_text, peer_of, serves_hosts,
};
pub use signature::{SignatureError, VerifyingKey, read_signature};
pub use tls::{
    Clients, LiveTls, WatchedFiles, careless_client_config, client_config, install_crypto_provider,
    server_config, unverified_client_config, verify_client,
};
pub use token::{
    Accepted, Grant, Minted, TOKEN_LIMIT, Token, TokenBook, TokenEntry, TokenError, accept, fingerprint,
    holder, mint,
};
