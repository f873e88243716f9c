//! The cloud's authority, its server certificate and KubeEdge's join token in Secrets of namespace `kubeedge`
//! (protocol.md §2.2): files first, then Secrets, then new ones. Writes only create, so of several replicas one wins and
//! the others take what it made. Keys and tokens never reach a log line.

use super::kubernetes::{Kube, Patch, Resource};
use crate::base::Failure;
use crate::config::cloud::HubConfig;
use crate::model::Status;
use crate::pki::{Authority, Identity, Token, names_of};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(super) const NAMESPACE: &str = "kubeedge";
pub(super) const TOKEN_SECRET: &str = "tokensecret";
pub(super) const TOKEN_KEY: &str = "tokendata";
const CA_SECRET: &str = "casecret";
const SERVER_SECRET: &str = "cloudcoresecret";
const SERVER_DAYS: u32 = 100 * 364;
const LIMIT: Duration = Duration::from_secs(60);

/// What the hub shows and signs with.
pub(super) struct Trust {
    pub authority: Arc<Authority>,
    pub identity: Identity,
}

fn failed(what: &str, status: &Status) -> Failure {
    Failure::new("KE-CLOUD-021", format!("cannot keep {what} in namespace {NAMESPACE}"))
        .because(status)
        .fix("give the cloud the right to create Secrets there, as `kedge init` does")
}

/// Finds or makes all of it.
pub(super) async fn establish(kube: &Kube, hub: &HubConfig) -> Result<Trust, Failure> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    match kube.insist(LIMIT, || kube.create(Resource::NAMESPACE, None, &namespace)).await {
        Err(status) if !status.already_exists() => {
            // Without the right to create it, it may still be there.
            let there = kube.get(Resource::NAMESPACE, None, NAMESPACE).await.is_ok();
            if !there {
                return Err(failed("its Secrets", &status));
            }
        }
        _ => {}
    }
    let authority = Arc::new(authority(kube, hub).await?);
    let identity = server(kube, hub, &authority).await?;
    Ok(Trust { authority, identity })
}

/// The authority as the Secret holds it, for commands.
pub(super) async fn stored_authority(kube: &Kube) -> Result<Option<Authority>, Failure> {
    let found = secret(kube, CA_SECRET).await.map_err(|status| failed("the authority", &status))?;
    let Some(found) = found else { return Ok(None) };
    match (bytes(&found, "cadata"), bytes(&found, "cakeydata")) {
        (Some(cert), Some(key)) => Authority::from_der(&cert, &key).map(Some),
        _ => Ok(None),
    }
}

async fn authority(kube: &Kube, hub: &HubConfig) -> Result<Authority, Failure> {
    let (cert, key) = (hub.ca_file.clone(), hub.ca_key_file.clone());
    let from_files = blocking(move || {
        if !cert.exists() || !key.exists() {
            return Ok(None);
        }
        let identity = Identity::load(&cert, &key)?;
        let (cert, key) = ders(&identity).ok_or_else(|| {
            Failure::new("KE-PKI-002", format!("cannot read the authority in {}", cert.display()))
        })?;
        Authority::from_der(&cert, &key).map(Some)
    })
    .await?;
    if from_files.is_none()
        && let Some(stored) = stored_authority(kube).await?
    {
        return Ok(stored);
    }
    let ours = match from_files {
        Some(authority) => authority,
        None => Authority::generate("KubeEdge")?,
    };
    let data = [("cadata", ours.cert_der().to_vec()), ("cakeydata", ours.key_der_sec1().to_vec())];
    let created = create(kube, CA_SECRET, &data).await.map_err(|status| failed("the authority", &status))?;
    // Another replica was faster: nodes will trust what it made.
    if !created
        && hub_files_absent(hub)
        && let Some(winner) = stored_authority(kube).await?
    {
        return Ok(winner);
    }
    Ok(ours)
}

fn hub_files_absent(hub: &HubConfig) -> bool {
    !hub.ca_file.exists() || !hub.ca_key_file.exists()
}

async fn server(kube: &Kube, hub: &HubConfig, authority: &Authority) -> Result<Identity, Failure> {
    let (cert, key) = (hub.cert_file.clone(), hub.key_file.clone());
    let from_files = blocking(move || {
        if cert.exists() && key.exists() { Identity::load(&cert, &key).map(Some) } else { Ok(None) }
    })
    .await?;
    if let Some(identity) = from_files {
        return Ok(identity);
    }
    let names = server_names(hub);
    let refused = |status: Status| failed("the server certificate", &status);
    if let Some(found) = secret(kube, SERVER_SECRET).await.map_err(refused)?
        && let (Some(cert), Some(key)) = (bytes(&found, "cloudcoredata"), bytes(&found, "cloudcorekeydata"))
        && covers(&cert, &names)
        && is_signed_by(&cert, authority)
        && let Ok(identity) = Identity::from_der(&cert, &key)
    {
        return Ok(identity);
    }
    let identity = authority.issue_server("KubeEdge", &names, SERVER_DAYS)?;
    let Some((cert, key)) = ders(&identity) else { return Ok(identity) };
    let data = [("cloudcoredata", cert), ("cloudcorekeydata", key)];
    if !create(kube, SERVER_SECRET, &data).await.map_err(refused)? {
        // Replicas with other addresses each use their own; the Secret keeps the newest.
        put(kube, SERVER_SECRET, &data).await.map_err(refused)?;
    }
    Ok(identity)
}

/// Loopback is always in it, so that one machine needs no configuration.
fn server_names(hub: &HubConfig) -> Vec<String> {
    let mut names: Vec<String> = hub.advertise.iter().chain(&hub.dns_names).cloned().collect();
    for name in ["127.0.0.1", "localhost"] {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn covers(cert: &[u8], names: &[String]) -> bool {
    let certified = names_of(cert);
    names.iter().all(|name| certified.contains(name))
}

fn is_signed_by(cert: &[u8], authority: &Authority) -> bool {
    let parse = |der| x509_parser::parse_x509_certificate(der).ok().map(|(_, certificate)| certificate);
    match (parse(cert), parse(authority.cert_der())) {
        (Some(cert), Some(ca)) => cert.verify_signature(Some(ca.public_key())).is_ok(),
        _ => false,
    }
}

/// Writes a new KubeEdge join token, valid for twice the time until the next.
pub(super) async fn refresh_token(kube: &Kube, authority: &Authority, every: Duration) -> Result<(), Status> {
    let token = Token::create(authority, every.saturating_mul(2));
    let data = [(TOKEN_KEY, token.into_bytes())];
    if create(kube, TOKEN_SECRET, &data).await? {
        return Ok(());
    }
    put(kube, TOKEN_SECRET, &data).await
}

/// A Secret of the cloud; `None` when there is none.
pub(super) async fn secret(kube: &Kube, name: &str) -> Result<Option<Value>, Status> {
    match kube.insist(LIMIT, || kube.get(Resource::SECRET, Some(NAMESPACE), name)).await {
        Ok(secret) => Ok(Some(secret)),
        Err(status) if status.is_not_found() => Ok(None),
        Err(status) => Err(status),
    }
}

/// One value of a Secret.
pub(super) fn bytes(secret: &Value, key: &str) -> Option<Vec<u8>> {
    STANDARD.decode(secret.get("data")?.get(key)?.as_str()?).ok()
}

/// Creates a Secret; `false` when there is one already.
pub(super) async fn create(kube: &Kube, name: &str, data: &[(&str, Vec<u8>)]) -> Result<bool, Status> {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "type": "Opaque",
        "data": encoded(data),
    });
    match kube.insist(LIMIT, || kube.create(Resource::SECRET, Some(NAMESPACE), &secret)).await {
        Ok(_) => Ok(true),
        Err(status) if status.already_exists() => Ok(false),
        Err(status) => Err(status),
    }
}

async fn put(kube: &Kube, name: &str, data: &[(&str, Vec<u8>)]) -> Result<(), Status> {
    let patch = json!({"data": encoded(data)}).to_string().into_bytes();
    let patched = kube.insist(LIMIT, || {
        kube.patch(Resource::SECRET, Some(NAMESPACE), (name, None), Patch::Merge, patch.clone())
    });
    patched.await.map(drop)
}

pub(super) fn encoded(data: &[(&str, Vec<u8>)]) -> Value {
    data.iter()
        .map(|(key, value)| ((*key).to_owned(), json!(STANDARD.encode(value))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn ders(identity: &Identity) -> Option<(Vec<u8>, Vec<u8>)> {
    let cert = CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).ok()?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).ok()?;
    Some((cert.to_vec(), key.secret_der().to_vec()))
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::new("KE-RUN-005", "a file operation broke off").because(error))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_its_names_and_its_authority() {
        let (ours, other) =
            (Authority::generate("KubeEdge").unwrap(), Authority::generate("KubeEdge").unwrap());
        let names = ["10.0.0.1".to_owned(), "localhost".to_owned()];
        let (cert, _) = ders(&ours.issue_server("KubeEdge", &names, 10).unwrap()).unwrap();
        assert!(covers(&cert, &names) && is_signed_by(&cert, &ours));
        assert!(!covers(&cert, &["10.0.0.2".to_owned()]));
        assert!(!is_signed_by(&cert, &other));
    }
}
