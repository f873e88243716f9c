//! Service-account tokens: ES256 JSON Web Tokens signed with a key of the data directory, bound to the account and,
//! where asked, to a pod. A token dies with the object it is bound to. Tokens are never logged.

use super::User;
use crate::base::{Failure, create_private_dir, now, read_limited, uuid4, write_atomic};
use crate::daemon::apiserver::local::Collection;
use crate::daemon::apiserver::storage::{Key, Store};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};
use std::path::Path;

/// Issuer, and the audience of tokens that name none.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const KEY_LIMIT: u64 = 16 << 10;
/// Longer texts are not tokens of ours.
const TOKEN_LIMIT: usize = 16 << 10;

/// The signing key.
pub struct Tokens {
    pair: EcdsaKeyPair,
    kid: String,
}

/// What a token is issued for.
pub struct Grant<'a> {
    pub namespace: &'a str,
    pub account: &'a Value,
    pub pod: Option<&'a Value>,
    pub audiences: Vec<String>,
    pub seconds: i64,
}

fn failure(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new("KE-API-004", format!("cannot use the key of service-account tokens {}", path.display()))
        .because(why)
        .fix("put the file back from a copy, or move it away: then a new key is made and present tokens end")
}

impl Tokens {
    /// Reads the key, or makes one.
    pub fn load_or_create(dir: &Path) -> Result<Tokens, Failure> {
        let path = dir.join("sa.key");
        let random = SystemRandom::new();
        let der = if path.exists() {
            let text = String::from_utf8(read_limited(&path, KEY_LIMIT)?)
                .map_err(|_| failure(&path, "it is not PEM"))?;
            let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
            STANDARD.decode(body).map_err(|_| failure(&path, "it is not PEM"))?
        } else {
            create_private_dir(dir)?;
            let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                .map_err(|error| failure(&path, error))?;
            let body = STANDARD.encode(der.as_ref());
            let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
            write_atomic(&path, pem.as_bytes(), 0o600)?;
            der.as_ref().to_vec()
        };
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random)
            .map_err(|error| failure(&path, error))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, pair.public_key().as_ref());
        Ok(Tokens { kid: URL_SAFE_NO_PAD.encode(digest), pair })
    }

    /// Issues a token; the second value is its end in seconds since the epoch.
    pub fn issue(&self, grant: &Grant<'_>) -> Option<(String, i64)> {
        let issued = now().as_second();
        let ends = issued.saturating_add(grant.seconds);
        let name = grant.account["metadata"]["name"].as_str()?;
        let mut bound = json!({"namespace": grant.namespace,
            "serviceaccount": {"name": name, "uid": grant.account["metadata"]["uid"]}});
        if let Some(pod) = grant.pod {
            bound["pod"] = json!({"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]});
        }
        let header = json!({"alg": "ES256", "kid": self.kid});
        let claims = json!({"aud": grant.audiences, "exp": ends, "iat": issued, "nbf": issued, "iss": ISSUER,
            "jti": uuid4(), "sub": format!("system:serviceaccount:{}:{name}", grant.namespace),
            "kubernetes.io": bound});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).ok()?;
        Some((format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)), ends))
    }

    /// The holder of a token and the audiences it is good for; no audiences asked means the API's own.
    pub fn verify(&self, token: &str, audiences: &[String], store: &Store) -> Option<(User, Vec<String>)> {
        if token.len() > TOKEN_LIMIT {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let decode = |text: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
        };
        if decode(header)?["alg"] != "ES256" {
            return None;
        }
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        key.verify(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        let claims = decode(claims)?;
        let at = now().as_second();
        if claims["iss"] != ISSUER || claims["exp"].as_i64()? <= at || claims["nbf"].as_i64()? > at + 60 {
            return None;
        }
        let own = [ISSUER.to_owned()];
        let asked = if audiences.is_empty() { own.as_slice() } else { audiences };
        let granted = claims["aud"].as_array()?;
        let good: Vec<String> =
            asked.iter().filter(|a| granted.iter().any(|g| g == a.as_str())).cloned().collect();
        if good.is_empty() {
            return None;
        }
        Some((holder(&claims["kubernetes.io"], store)?, good))
    }

    /// The public key as a JSON Web Key Set.
    pub fn key_set(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let half =
            |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.kid, "crv": "P-256", "alg": "ES256",
            "x": half(1..33), "y": half(33..65)}]})
    }
}

/// The account that a token is bound to, if it and the pod still exist.
fn holder(bound: &Value, store: &Store) -> Option<User> {
    let namespace = bound["namespace"].as_str()?;
    let present = |plural: &'static str, reference: &Value| {
        let key = Key::new(&Collection::of("", plural), Some(namespace), reference["name"].as_str()?);
        store.get(&key).filter(|object| object["metadata"]["uid"] == reference["uid"])
    };
    let account = present("serviceaccounts", &bound["serviceaccount"])?;
    if bound["pod"].is_object() {
        present("pods", &bound["pod"])?;
    }
    let name = account["metadata"]["name"].as_str()?;
    Some(User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        uid: account["metadata"]["uid"].as_str()?.to_owned(),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::apiserver::local::Local;

    #[test]
    fn a_damaged_key_is_named_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sa.key");
        for (content, why) in [
            (&b"\xff\xfe"[..], "it is not PEM"),
            (b"no base64 either", "it is not PEM"),
            (b"-----BEGIN PRIVATE KEY-----\nbm9uc2Vuc2U=\n-----END PRIVATE KEY-----\n", "InvalidEncoding"),
        ] {
            std::fs::write(&path, content).unwrap();
            let failure = Tokens::load_or_create(dir.path()).err().unwrap();
            assert_eq!(failure.code, "KE-API-004");
            failure.is_as_committed();
            assert!(failure.what.contains("sa.key"), "{failure}");
            assert_eq!(failure.why, why);
            assert!(failure.fix.contains("a new key is made"), "{failure:?}");
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
        std::fs::remove_file(&path).unwrap();
        assert!(Tokens::load_or_create(dir.path()).is_ok());
    }

    #[tokio::test]
    async fn tokens_name_their_account_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let local = Local::scratch(dir.path()).await;
        let accounts = Collection::of("", "serviceaccounts");
        let made = json!({"metadata": {"name": "a", "namespace": "default"}});
        let account = local.create(&accounts, made).await.unwrap();
        let tokens = Tokens::load_or_create(dir.path()).unwrap();
        let audiences = vec![ISSUER.to_owned()];
        let grant = Grant { namespace: "default", account: &account, pod: None, audiences, seconds: 600 };
        let (token, _) = tokens.issue(&grant).unwrap();
        let again = Tokens::load_or_create(dir.path()).unwrap();
        let (user, _) = again.verify(&token, &[], local.store()).unwrap();
        assert_eq!(user.name, "system:serviceaccount:default:a");
        assert!(again.verify(&token, &["other".to_owned()], local.store()).is_none());
        assert!(again.verify(&format!("{token}x"), &[], local.store()).is_none());
        assert!(again.verify("a.b.c", &[], local.store()).is_none());
        let deletion = crate::daemon::apiserver::local::Deletion::default();
        local.delete(&accounts, Some("default"), "a", deletion).await.unwrap();
        assert!(again.verify(&token, &[], local.store()).is_none());
    }
}
