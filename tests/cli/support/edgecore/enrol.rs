//! How an edgecore gets its certificate (protocol.md §2.5): `/ca.crt` unverified and compared with the token's hash,
//! then a GET with a body on `/edge.crt`, verified. Blocking.

use kedge::pki::{
    Identity, client_config, install_crypto_provider, pem_certificate, unverified_client_config,
};
use rcgen::{CertificateParams, DnType, KeyPair};
use ring::digest::{SHA256, digest};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// What a node has on its disk after it has enrolled.
#[derive(Clone)]
pub struct Join {
    pub node: String,
    pub ca_pem: String,
    pub identity: Identity,
}

/// Enrols a node at the HTTPS port of a cloud; an error is the text of the refusal.
pub fn join(port: u16, node: &str, token: &str) -> Result<Join, String> {
    install_crypto_provider();
    let (hash, bearer) = token.split_once('.').ok_or("the token has no hash")?;
    if token.split('.').count() != 4 {
        return Err("the token has not four parts".to_owned());
    }
    let anyone = unverified_client_config().unwrap();
    let ca = expect(get(port, "/ca.crt", &anyone, &[], &[]))?;
    let digest: String = digest(&SHA256, &ca).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    if digest != hash {
        return Err("the authority is not the token's".to_owned());
    }
    let ca_pem = pem_certificate(&ca);
    let authorization = format!("Bearer {bearer}");
    let headers = [("Authorization", authorization.as_str()), ("NodeName", node)];
    let identity = apply(port, node, &client_config(&ca_pem, None).unwrap(), &headers)?;
    Ok(Join { node: node.to_owned(), ca_pem, identity })
}

impl Join {
    /// Gets a new certificate with the present one, as the rotation does.
    pub fn renew(&self, port: u16) -> Result<Join, String> {
        let tls = client_config(&self.ca_pem, Some(&self.identity)).unwrap();
        let identity = apply(port, &self.node, &tls, &[("NodeName", &self.node)])?;
        Ok(Join { identity, ..self.clone() })
    }
}

fn apply(
    port: u16,
    node: &str,
    tls: &Arc<ClientConfig>,
    headers: &[(&str, &str)],
) -> Result<Identity, String> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in [
        (DnType::CountryName, "CN"),
        (DnType::OrganizationName, "system:nodes"),
        (DnType::LocalityName, "Hangzhou"),
        (DnType::StateOrProvinceName, "Zhejiang"),
    ] {
        params.distinguished_name.push(kind, value);
    }
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    let csr = params.serialize_request(&key).unwrap();
    let certificate = expect(get(port, "/edge.crt", tls, headers, csr.der()))?;
    Identity::from_der(&certificate, &key.serialize_der()).map_err(|failure| failure.to_string())
}

fn expect((status, body): (u16, Vec<u8>)) -> Result<Vec<u8>, String> {
    if status == 200 { Ok(body) } else { Err(format!("{status} {}", String::from_utf8_lossy(&body))) }
}

/// A GET request on 127.0.0.1 with any headers and body; status and body of the answer, 0 when there is none.
pub fn get(
    port: u16,
    path: &str,
    tls: &Arc<ClientConfig>,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, Vec<u8>) {
    request(port, ("GET", path), tls, headers, body)
}

/// A POST request on 127.0.0.1; status and body of the answer.
pub fn post(port: u16, path: &str, tls: &Arc<ClientConfig>, body: &[u8]) -> (u16, Vec<u8>) {
    request(port, ("POST", path), tls, &[], body)
}

fn request(
    port: u16,
    (method, path): (&str, &str),
    tls: &Arc<ClientConfig>,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, Vec<u8>) {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut answer = Vec::new();
    drop(exchange(port, tls, &[head.as_bytes(), body], &mut answer));
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(split) = split else { return (0, answer) };
    let status = String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|word| word.parse().ok());
    (status.unwrap_or_default(), answer[split + 4..].to_vec())
}

fn exchange(
    port: u16,
    tls: &Arc<ClientConfig>,
    parts: &[&[u8]],
    answer: &mut Vec<u8>,
) -> std::io::Result<()> {
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let connection = ClientConnection::new(tls.clone(), "127.0.0.1".try_into().unwrap());
    let mut stream = StreamOwned::new(connection.map_err(std::io::Error::other)?, socket);
    for part in parts {
        stream.write_all(part)?;
    }
    stream.flush()?;
    stream.read_to_end(answer)?;
    Ok(())
}
