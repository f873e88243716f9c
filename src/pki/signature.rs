//! Detached signatures over files: ECDSA P-256 with SHA-256, as `openssl dgst -sha256 -sign` and `cosign sign-blob`
//! make them, in base64. Upgrades check them with keys that the operator has put on the node.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// An uncompressed point of P-256.
const POINT: usize = 65;
/// 1.2.840.10045.3.1.7, as it stands in the parameters of a key.
const P256: &str = "1.2.840.10045.3.1.7";
const ECDSA: &str = "1.2.840.10045.2.1";

/// A public key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey(Vec<u8>);

/// Why a key or a signature is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("it is not a public key in PEM")]
    NoKey,
    #[error("it is not an ECDSA key on the curve P-256")]
    OtherKey,
    #[error("it is not base64")]
    NoBase64,
}

impl VerifyingKey {
    /// Reads `-----BEGIN PUBLIC KEY-----`.
    pub fn from_pem(pem: &[u8]) -> Result<VerifyingKey, SignatureError> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| SignatureError::NoKey)?;
        let (_, key) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| SignatureError::NoKey)?;
        let curve = key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        let fits = key.algorithm.algorithm.to_id_string() == ECDSA
            && curve.is_some_and(|curve| curve.to_id_string() == P256)
            && key.subject_public_key.data.len() == POINT;
        fits.then(|| VerifyingKey(key.subject_public_key.data.to_vec())).ok_or(SignatureError::OtherKey)
    }

    /// Whether this key's owner has signed the message; `signature` is DER.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.0).verify(message, signature).is_ok()
    }
}

/// Reads a signature in base64, white space around or inside it.
pub fn read_signature(text: &str) -> Result<Vec<u8>, SignatureError> {
    let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(packed).map_err(|_| SignatureError::NoBase64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn openssl(dir: &std::path::Path, args: &[&str]) {
        let done = Command::new("openssl").args(args).current_dir(dir).output().unwrap();
        assert!(done.status.success(), "{args:?}: {done:?}");
    }

    #[test]
    fn a_signature_of_openssl_holds_for_its_file_and_its_key_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        for name in ["a", "b"] {
            let key = format!("{name}.key");
            openssl(dir.path(), &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key]);
            openssl(dir.path(), &["ec", "-in", &key, "-pubout", "-out", &format!("{name}.pub")]);
        }
        std::fs::write(dir.path().join("file"), "the release").unwrap();
        openssl(dir.path(), &["dgst", "-sha256", "-sign", "a.key", "-out", "raw", "file"]);
        openssl(dir.path(), &["base64", "-in", "raw", "-out", "sig"]);
        let signature = read_signature(std::str::from_utf8(&at("sig")).unwrap()).unwrap();
        let (a, b) =
            (VerifyingKey::from_pem(&at("a.pub")).unwrap(), VerifyingKey::from_pem(&at("b.pub")).unwrap());
        assert!(a.has_signed(b"the release", &signature));
        assert!(!a.has_signed(b"The release", &signature));
        assert!(!a.has_signed(b"the release", &signature[..signature.len() - 1]));
        assert!(!b.has_signed(b"the release", &signature));
    }

    #[test]
    fn other_keys_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        openssl(dir.path(), &["ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", "k"]);
        openssl(dir.path(), &["ec", "-in", "k", "-pubout", "-out", "p"]);
        let pem = |name: &str| VerifyingKey::from_pem(&std::fs::read(dir.path().join(name)).unwrap());
        assert_eq!(pem("p").unwrap_err(), SignatureError::OtherKey);
        assert_eq!(pem("k").unwrap_err(), SignatureError::NoKey);
        assert_eq!(VerifyingKey::from_pem(b"").unwrap_err(), SignatureError::NoKey);
        assert_eq!(read_signature("%%").unwrap_err(), SignatureError::NoBase64);
    }
}
