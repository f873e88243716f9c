//! The cloud's certificates as commands show them: read from the Secrets through a kubeconfig, without their keys.

use super::super::kubernetes::{Kube, Resource};
use super::{CA_CERT, CA_SECRET, NAMESPACE, SERVER_CERT, SERVER_SECRET, bytes};
use crate::base::{Exit, Failure};
use std::path::Path;

/// A certificate that the cloud keeps in a Secret.
#[derive(Clone, Debug)]
pub struct KeptCertificate {
    /// `authority` or `server`.
    pub name: &'static str,
    /// The Secret, as `namespace/name`.
    pub place: String,
    pub der: Vec<u8>,
}

/// The certificates that the cloud keeps in the cluster of this kubeconfig; what it has not made yet is left out.
pub async fn kept_certificates(kubeconfig: &Path) -> Result<Vec<KeptCertificate>, Failure> {
    let kube = Kube::named(kubeconfig).await?;
    let mut kept = Vec::new();
    for (name, secret, key) in [("authority", CA_SECRET, CA_CERT), ("server", SERVER_SECRET, SERVER_CERT)] {
        match kube.get(Resource::SECRET, Some(NAMESPACE), secret).await {
            Ok(found) => {
                if let Some(der) = bytes(&found, key) {
                    kept.push(KeptCertificate { name, place: format!("{NAMESPACE}/{secret}"), der });
                }
            }
            Err(status) if status.is_not_found() => {}
            Err(status) => {
                let exit = if status.code == 0 { Exit::Unreachable } else { Exit::Failed };
                return Err(Failure::new("KE-CERT-014", "cannot read the cloud's certificates")
                    .because(status)
                    .fix("check that the API runs, --kube-config, and the right to read Secrets of namespace kubeedge")
                    .exit(exit));
            }
        }
    }
    Ok(kept)
}
