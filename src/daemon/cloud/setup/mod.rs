//! Puts the control plane into a cluster and takes it out again, for `kedge init`, `kedge cloud reset` and the checks before
//! both. What is applied is pure (`manifest`, `rights`, `neighbours`); `desk` reads and writes the API. It changes nothing on
//! this machine: that is the commands' part.
//!
//! cmd/init -> document -> desk: findings -> apply -> access -> serves     cmd/cloud/reset -> desk: removal

mod desk;
mod forward;
mod manifest;
mod neighbours;
mod others;
mod removal;
mod review;
mod rights;
mod rollout;
mod serving;

pub use desk::{Applied, Purpose, Seen, SetupDesk};
pub use manifest::{Mode, Wanted, objects, to_yaml};
pub use neighbours::Neighbour;
pub use removal::Removed;

use super::trust::NAMESPACE;
use crate::base::{Exit, Failure};
use crate::config::cloud::{CloudConfig, MIN_CONFIG};
use crate::config::set::lay_over;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;

/// The name of everything that is ours in a cluster, but for what leads API servers to it.
const NAME: &str = "kedge-cloud";
/// The name of what leads API servers to it.
pub const FORWARD: &str = "kedge-forward";
/// What helps where it finds no machine to run on.
pub const FORWARD_BY_HAND: &str = "`kubectl label node NAME node-role.kubernetes.io/control-plane=` where an API server runs, or `kedge cloud forward` on its machine; where nobody has access to that, as in a managed cluster, `kedge logs` and `kedge exec` on the edge node";
/// Who owns the fields that are applied.
const MANAGER: &str = "kedge";
const LABEL_NAME: &str = "app.kubernetes.io/name";
const LABEL_MANAGED: &str = "app.kubernetes.io/managed-by";

/// Where a cloud on a machine of its own finds the API.
pub const HOST_KUBECONFIG: &str = "/etc/kubeedge/cloud.kubeconfig";

/// The image of this version.
pub fn default_image() -> String {
    format!("kedge:{}", env!("CARGO_PKG_VERSION"))
}

/// Whether a text has the form of an image's name: `[registry[:port]/]path[:tag][@digest]`, as container runtimes take it.
pub fn is_image(text: &str) -> bool {
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let word = |text: &str, others: &str| {
        !text.is_empty()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
    };
    let (registry, rest) = match path.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
        _ => (None, path),
    };
    let host = |host: &str| match host.rsplit_once(':') {
        Some((host, port)) => word(host, ".-") && port.parse::<u16>().is_ok(),
        None => word(host, ".-"),
    };
    let part = |part: &str| word(part, "._-") && !part.chars().any(|c| c.is_ascii_uppercase());
    text.len() <= 512
        && registry.is_none_or(host)
        && rest.split('/').all(part)
        && tag.is_none_or(|tag| tag.len() <= 128 && word(tag, "._-"))
        && digest.is_none_or(|digest| {
            let hex = digest.strip_prefix("sha256:");
            hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
        })
}

/// cloudcore.yaml for a new cloud: the short form, these addresses, and what `--set` says over it. Addresses that are
/// names go into the certificate as names. `api` is the API's URL where pods are not told it.
pub fn document(
    mode: Mode,
    advertise: &[String],
    api: Option<&str>,
    settings: &Value,
) -> Result<(Value, CloudConfig), Failure> {
    let mut document: Value = serde_yaml::from_str(MIN_CONFIG).map_err(|error| {
        Failure::new("KE-CONFIG-001", "the built-in configuration cannot be read")
            .because(error)
            .exit(Exit::Configuration)
    })?;
    let (addresses, names): (Vec<&String>, Vec<&String>) =
        advertise.iter().partition(|text| text.parse::<IpAddr>().is_ok());
    let mut ours = json!({
        "modules": {
            "cloudHub": {"advertiseAddress": addresses, "dnsNames": names},
            "cloudStream": {"enable": true},
        },
        "kedge": {"streamFromCluster": true},
    });
    match mode {
        Mode::Host => ours["kubeAPIConfig"] = json!({"kubeConfig": HOST_KUBECONFIG}),
        Mode::Cluster => {
            // Nobody shares a socket inside the pod, and without rights on its machine it cannot lead connections there.
            ours["modules"]["cloudHub"]["unixsocket"] = json!({"enable": false});
            ours["modules"]["iptablesManager"] = json!({"mode": "external"});
        }
    }
    if let Some(url) = api {
        ours["kubeAPIConfig"] = json!({"master": url});
    }
    lay_over(&mut document, &ours);
    if settings.is_object() {
        lay_over(&mut document, settings);
    }
    let loaded = CloudConfig::from_value(&document, "cloudcore.yaml with --set")?;
    Ok((document, loaded.config))
}

/// The configuration without the files of this machine: in a cluster the cloud has none.
fn without_files(config: &CloudConfig) -> crate::config::cloud::HubConfig {
    let mut hub = config.hub.clone();
    for path in [&mut hub.ca_file, &mut hub.ca_key_file, &mut hub.cert_file, &mut hub.key_file] {
        *path = Path::new("").to_owned();
    }
    hub
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_lie_over_what_init_wants() {
        let advertise = ["10.0.0.5".to_owned(), "cloud.example".to_owned()];
        let settings = json!({"modules": {"cloudHub": {"websocket": {"port": 20000}}}});
        let (document, config) = document(Mode::Host, &advertise, None, &settings).unwrap();
        assert_eq!(config.hub.advertise, ["10.0.0.5"]);
        assert_eq!(config.hub.dns_names, ["cloud.example"]);
        assert_eq!(config.hub.websocket.port(), 20000);
        assert!(config.stream.enabled && config.stream.from_cluster);
        assert_eq!(document["kubeAPIConfig"]["kubeConfig"], HOST_KUBECONFIG);
        let wrong = json!({"modules": {"cloudHub": {"tokenRefreshDuration": 0}}});
        assert_eq!(super::document(Mode::Cluster, &[], None, &wrong).unwrap_err().exit, Exit::Configuration);
    }

    #[test]
    fn images_are_told_from_nonsense() {
        let digest = format!("kedge@sha256:{}", "0".repeat(64));
        for good in [
            "kedge",
            "kedge:0.1.0",
            "kedge.test/kedge:under-test",
            "localhost:5000/a/b_c:1",
            "10.0.0.5:5000/k",
            &digest,
        ] {
            assert!(is_image(good), "{good}");
        }
        for bad in ["", "bad image:::", "a b", "a:", "A/b", "a//b", "a@sha256:5", "-k", "a:b:c", "http://a/b"]
        {
            assert!(!is_image(bad), "{bad}");
        }
    }
}
