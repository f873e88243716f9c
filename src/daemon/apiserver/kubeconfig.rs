//! A kubeconfig file as kubectl and kube-rs read it, with certificates inside. It is a secret: whoever writes it to
//! disk gives it mode 0600.

use crate::pki::Identity;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::SocketAddr;

pub(super) fn write(address: SocketAddr, ca_pem: &str, identity: &Identity, user: &str) -> String {
    let host = if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { bracketed(address) };
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: kedge
  cluster:
    server: https://{host}:{}
    certificate-authority-data: {}
users:
- name: {user}
  user:
    client-certificate-data: {}
    client-key-data: {}
contexts:
- name: kedge
  context:
    cluster: kedge
    user: {user}
current-context: kedge
",
        address.port(),
        STANDARD.encode(ca_pem),
        STANDARD.encode(&identity.cert_pem),
        STANDARD.encode(&identity.key_pem),
    )
}

fn bracketed(address: SocketAddr) -> String {
    if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() }
}
