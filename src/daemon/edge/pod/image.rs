//! Images of containers: whether to pull, with which credentials, and what to say when it fails. The worker calls it.
//! Credentials come from pull secrets and go to the runtime, nowhere else.

use super::env;
use super::sources::Sources;
use crate::cri::messages::AuthConfig;
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::Value;

/// What to do about an image that is or is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    Pull,
    /// It must not be pulled and is not here.
    Never,
}

/// Decides by the pull policy. Without a link to the cloud a present image is good enough: the edge goes on offline.
pub(super) fn need(container: &Container, present: bool, online: bool) -> Need {
    let image = container.image.as_deref().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let latest = !image.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    let default = if latest { "Always" } else { "IfNotPresent" };
    match (container.image_pull_policy.as_deref().filter(|p| !p.is_empty()).unwrap_or(default), present) {
        ("Never", true) => Need::Nothing,
        ("Never", false) => Need::Never,
        ("Always", true) if !online => Need::Nothing,
        ("Always", _) => Need::Pull,
        (_, true) => Need::Nothing,
        (_, false) => Need::Pull,
    }
}

/// The registry that an image name leads to.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// The credentials in the pod's pull secrets that fit this image.
pub(super) async fn credentials(pod: &Pod, image: &str, sources: &dyn Sources) -> Option<AuthConfig> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let secrets = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    for reference in secrets {
        let Ok(Some(secret)) = sources.secret(namespace, &reference.name).await else { continue };
        if let Some(found) = pull_credentials(&secret, image) {
            return Some(found);
        }
    }
    None
}

/// The credentials in a pull secret that fit this image.
pub fn pull_credentials(secret: &Value, image: &str) -> Option<AuthConfig> {
    in_secret(secret, registry(image))
}

fn in_secret(secret: &Value, registry: &str) -> Option<AuthConfig> {
    let modern = env::secret_bytes(secret, ".dockerconfigjson");
    let config: Value = match modern {
        Some(bytes) => serde_json::from_slice::<Value>(&bytes).ok()?.get("auths")?.clone(),
        None => serde_json::from_slice(&env::secret_bytes(secret, ".dockercfg")?).ok()?,
    };
    let host = |entry: &str| {
        let entry = entry.trim_start_matches("https://").trim_start_matches("http://");
        let host = entry.split('/').next().unwrap_or_default().to_owned();
        if host == "index.docker.io" { "docker.io".to_owned() } else { host }
    };
    let (server, entry) = config.as_object()?.iter().find(|(name, _)| host(name) == registry)?;
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let decoded = STANDARD.decode(text("auth")).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (username, password) = match decoded.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((user, password)) => (user.to_owned(), password.to_owned()),
        None => (text("username"), text("password")),
    };
    Some(AuthConfig {
        username,
        password,
        server_address: server.clone(),
        identity_token: text("identitytoken"),
        ..AuthConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(image: &str, policy: Option<&str>) -> Container {
        Container {
            image: Some(image.into()),
            image_pull_policy: policy.map(str::to_owned),
            ..Container::default()
        }
    }

    #[test]
    fn the_policy_decides_and_offline_a_present_image_is_enough() {
        assert_eq!(need(&container("a:1", None), true, true), Need::Nothing);
        assert_eq!(need(&container("a:1", None), false, true), Need::Pull);
        assert_eq!(need(&container("r.io:5000/a", None), true, true), Need::Pull);
        assert_eq!(need(&container("a:latest", None), true, false), Need::Nothing);
        assert_eq!(need(&container("a@sha256:1", None), true, true), Need::Nothing);
        assert_eq!(need(&container("a", Some("Never")), false, true), Need::Never);
        assert_eq!(need(&container("a:1", Some("Always")), true, true), Need::Pull);
    }

    #[test]
    fn credentials_are_found_by_registry() {
        let auths = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": STANDARD.encode("me:pw")},
            "r.io:5000": {"username": "u", "password": "p"},
        }});
        let secret = json!({"data": {".dockerconfigjson": STANDARD.encode(auths.to_string())}});
        let docker = in_secret(&secret, registry("library/nginx")).unwrap();
        assert_eq!((docker.username.as_str(), docker.password.as_str()), ("me", "pw"));
        assert_eq!(in_secret(&secret, registry("r.io:5000/a")).unwrap().username, "u");
        assert!(in_secret(&secret, registry("other.io/a")).is_none());
    }
}
