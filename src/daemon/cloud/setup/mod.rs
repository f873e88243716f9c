//! Puts the control plane into a cluster and takes it out again, for `kedge init`, `kedge cloud reset` and the checks before
//! both. What is applied is pure (`manifest`, `rights`, `neighbours`); `desk` reads and writes the API. It changes nothing on
//! this machine: that is the commands' part.
//!
//! cmd/init -> desk: standing -> document -> desk: findings -> apply -> access -> serves     cmd/cloud/reset -> desk: removal

mod desk;
mod forward;
mod machines;
mod manifest;
mod neighbours;
mod others;
mod removal;
mod review;
mod rights;
mod rollout;
mod serving;
mod standing;

pub use desk::{Applied, Purpose, Seen, SetupDesk};
pub use manifest::{Mode, Wanted, objects, to_yaml};
pub use neighbours::Neighbour;
pub use removal::Removed;
pub use standing::Standing;

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

/// cloudcore.yaml for a cloud: what stands, or the short form; these addresses; and what `--set` says over it. Addresses that
/// are names go into the certificate as names. `api` is the API's URL where pods are not told it.
pub fn document(
    mode: Mode,
    advertise: &[String],
    api: Option<&str>,
    standing: &Standing,
    settings: &Value,
) -> Result<(Value, CloudConfig), Failure> {
    let document = compose(mode, advertise, api, standing, settings)?;
    let name = match standing.place.as_str() {
        "" => "cloudcore.yaml with --set".to_owned(),
        place => format!("{place} with --set"),
    };
    let loaded = CloudConfig::from_value(&document, &name)?;
    Ok((document, loaded.config))
}

/// What a configuration has of what stood before, and would not have without, one setting a line for people.
pub fn kept(wanted: &Wanted, advertise: &[String], api: Option<&str>, settings: &Value) -> Vec<String> {
    if !wanted.standing.document.is_object() {
        return Vec::new();
    }
    let fresh = compose(wanted.mode, advertise, api, &Standing::default(), settings).unwrap_or_default();
    wanted.standing.settings(&fresh, &wanted.document)
}

fn compose(
    mode: Mode,
    advertise: &[String],
    api: Option<&str>,
    standing: &Standing,
    settings: &Value,
) -> Result<Value, Failure> {
    let stands = standing.document.is_object();
    let mut document = if stands { standing.document.clone() } else { fresh(mode)? };
    // Addresses that are as they were stay as they are written.
    if !advertise.is_empty() && advertise != standing.addresses() {
        let (addresses, names): (Vec<&String>, Vec<&String>) =
            advertise.iter().partition(|text| text.parse::<IpAddr>().is_ok());
        let hub = json!({"advertiseAddress": addresses, "dnsNames": names});
        lay_over(&mut document, &json!({"modules": {"cloudHub": hub}}));
    }
    let master = document.pointer("/kubeAPIConfig/master").and_then(Value::as_str).unwrap_or_default();
    if let Some(url) = api.filter(|_| master.is_empty()) {
        lay_over(&mut document, &json!({"kubeAPIConfig": {"master": url}}));
    }
    if settings.is_object() {
        lay_over(&mut document, settings);
    }
    Ok(document)
}

/// The short form, as a cloud of this form needs it.
fn fresh(mode: Mode) -> Result<Value, Failure> {
    let mut document: Value = serde_yaml::from_str(MIN_CONFIG).map_err(|error| {
        Failure::new("KE-CONFIG-001", "the built-in configuration cannot be read")
            .because(error)
            .exit(Exit::Configuration)
    })?;
    let mut ours = json!({
        "modules": {"cloudStream": {"enable": true}},
        "kedge": {"streamFromCluster": true},
    });
    match mode {
        Mode::Host => ours["kubeAPIConfig"] = json!({"kubeConfig": HOST_KUBECONFIG}),
        Mode::Cluster => {
            // Nobody shares a socket inside the pod, and without rights on its machine it cannot lead connections there.
            ours["modules"]["cloudHub"] = json!({"unixsocket": {"enable": false}});
            ours["modules"]["iptablesManager"] = json!({"mode": "external"});
        }
    }
    lay_over(&mut document, &ours);
    Ok(document)
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
        let none = Standing::default();
        let (document, config) = document(Mode::Host, &advertise, None, &none, &settings).unwrap();
        assert_eq!(config.hub.advertise, ["10.0.0.5"]);
        assert_eq!(config.hub.dns_names, ["cloud.example"]);
        assert_eq!(config.hub.websocket.port(), 20000);
        assert!(config.stream.enabled && config.stream.from_cluster);
        assert_eq!(document["kubeAPIConfig"]["kubeConfig"], HOST_KUBECONFIG);
        let wrong = json!({"modules": {"cloudHub": {"tokenRefreshDuration": 0}}});
        let wrong = super::document(Mode::Cluster, &[], None, &none, &wrong).unwrap_err();
        assert_eq!(wrong.exit, Exit::Configuration);
    }

    #[test]
    fn what_stands_is_built_on_and_not_made_anew() {
        let stood = json!({"modules": {
            "cloudHub": {"advertiseAddress": ["10.0.0.5"], "dnsNames": ["cloud.example"], "nodeLimit": 77},
            "router": {"enable": true}}});
        let standing = Standing::of_file(stood.clone(), "ConfigMap x");
        let known = standing.addresses();
        let (same, _) = document(Mode::Cluster, &known, None, &standing, &Value::Null).unwrap();
        assert_eq!(same, stood, "what was taken out stays out");
        assert_eq!(document(Mode::Cluster, &[], None, &standing, &Value::Null).unwrap().0, stood);

        let settings = json!({"modules": {"router": {"port": 9555}}});
        let moved = ["10.0.0.6".to_owned()];
        let api = Some("https://10.0.0.1:6443");
        let (document, config) = document(Mode::Cluster, &moved, api, &standing, &settings).unwrap();
        assert_eq!((config.hub.advertise, config.hub.dns_names), (moved.to_vec(), Vec::<String>::new()));
        assert_eq!((config.hub.node_limit, config.router.listen.port()), (77, 9555));
        assert_eq!(config.master, "https://10.0.0.1:6443");
        let (again, _) =
            super::document(Mode::Cluster, &[], Some("x"), &Standing::of_file(document, "x"), &json!({}))
                .unwrap();
        assert_eq!(again["kubeAPIConfig"]["master"], "https://10.0.0.1:6443");

        // A setting that somebody wrote wrongly is told with its place, unless it is mended now.
        let torn = json!({"modules": {"cloudHub": {"tokenRefreshDuration": 0}}});
        let torn = Standing::of_file(torn, "ConfigMap x");
        let told = super::document(Mode::Cluster, &known, None, &torn, &Value::Null).unwrap_err();
        assert_eq!((told.code, told.exit), ("KE-CONFIG-002", Exit::Configuration));
        told.is_as_committed();
        assert!(told.what.starts_with("ConfigMap x with --set has 1 problem"), "{told}");
        let mend = json!({"modules": {"cloudHub": {"tokenRefreshDuration": 5}}});
        super::document(Mode::Cluster, &known, None, &torn, &mend).unwrap();
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
