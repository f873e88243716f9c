//! Certificates of the stream server: KubeEdge's files, or an authority of our own for the embedded API.

use crate::base::{Failure, create_private_dir, read_limited, write_atomic};
use crate::config::cloud::StreamConfig;
use crate::pki::{Authority, Identity, not_text};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

const DAYS: u32 = 3650;
const FILE_LIMIT: u64 = 256 << 10;

/// How an API server in this process reaches the kubelet API: address, client certificate, authority of the server.
pub struct KubeletAccess {
    pub address: SocketAddr,
    pub identity: Identity,
    pub ca_pem: String,
}

pub(super) struct Own {
    pub identity: Identity,
    pub ca_pem: String,
}

fn authority(config: &StreamConfig) -> Result<Authority, Failure> {
    let dir = config.ca_file.parent().unwrap_or(Path::new("."));
    let stem = config.ca_file.file_stem().and_then(|stem| stem.to_str()).unwrap_or("streamCA");
    Authority::load_or_create(dir, stem, "KubeEdge stream")
}

/// Reads the server's certificate, and makes it where the configuration says so. Blocks.
pub(super) fn load(config: &StreamConfig) -> Result<Own, Failure> {
    if config.own_ca && !(config.cert_file.exists() && config.key_file.exists()) {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let identity = authority(config)?.issue_server("KubeEdge stream", &names, DAYS)?;
        for parent in [config.cert_file.parent(), config.key_file.parent()].into_iter().flatten() {
            create_private_dir(parent)?;
        }
        write_atomic(&config.key_file, identity.key_pem.as_bytes(), 0o600)?;
        write_atomic(&config.cert_file, identity.cert_pem.as_bytes(), 0o644)?;
    }
    let ca = read_limited(&config.ca_file, FILE_LIMIT)?;
    let ca_pem = String::from_utf8(ca).map_err(|_| not_text(&config.ca_file))?;
    Ok(Own { identity: Identity::load(&config.cert_file, &config.key_file)?, ca_pem })
}

/// A client certificate for the API server in this process, from the stream server's own authority. Blocks.
pub(in crate::daemon::cloud) fn access(config: &StreamConfig) -> Result<KubeletAccess, Failure> {
    let authority = authority(config)?;
    let identity = authority.issue_client("kube-apiserver-kubelet-client", &["system:masters"], DAYS)?;
    Ok(KubeletAccess { address: reached_at(config.stream), identity, ca_pem: authority.cert_pem() })
}

/// A server on all addresses is reached on loopback, which its certificate names.
fn reached_at(mut listens: SocketAddr) -> SocketAddr {
    if listens.ip().is_unspecified() {
        listens.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    listens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_addresses_is_reached_where_its_certificate_holds() {
        let reached = |listens: &str| reached_at(listens.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:10003"), "127.0.0.1:10003");
        assert_eq!(reached("[::]:10003"), "127.0.0.1:10003");
        assert_eq!(reached("192.0.2.1:10003"), "192.0.2.1:10003");
    }
}
