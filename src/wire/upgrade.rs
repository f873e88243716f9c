//! What an upgrade asks of a node: the spec of a NodeUpgradeJob and the item of a v1alpha1 stage (protocol.md §4.8), read
//! strictly. The cloud reads before it orders, the edge before it acts; what does not parse reaches neither.

use super::task::CheckItem;
use crate::model::image::{is_digest, is_host};
use crate::model::{ImageRef, Release};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// The image that KubeEdge's own installation files come in, where a job names none.
pub const INSTALLATION_IMAGE: &str = "kubeedge/installation-package";

/// The label by which KubeEdge's older engine tells that a node is being upgraded: it reads it and sets it nowhere.
pub const UPGRADING_LABEL: &str = "nodeupgradejob.operations.kubeedge.io/status";

/// Headers of a release that the cloud hands out: its signature in base64, its digest as `sha256:` and hexadecimal digits.
pub const RELEASE_HEADERS: (&str, &str) = ("kedge-signature", "kedge-digest");

/// An upgrade that can be asked of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeSpec {
    pub version: Release,
    /// The installation image of genuine nodes; jobs name it without a tag, stages with one.
    pub image: Option<ImageRef>,
    /// Expected digests by Go's name of the architecture; the empty name stands for all.
    pub digests: BTreeMap<String, String>,
    /// Who names the digests that are missing; the cloud asks before it orders.
    pub registry: Option<RegistryApi>,
    /// Somebody has to agree on the node before it changes.
    pub confirm: bool,
    pub checks: Vec<CheckItem>,
}

/// A registry that is asked for a digest, with the token that opens it. The token is a secret: it is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryApi {
    pub host: String,
    /// Empty for a registry that answers anybody.
    pub token: String,
}

impl fmt::Debug for RegistryApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryApi").field("host", &self.host).finish_non_exhaustive()
    }
}

impl UpgradeSpec {
    /// Reads a job's spec, of either API version, or a stage's item; the error is a sentence.
    pub fn parse(spec: &Value) -> Result<UpgradeSpec, String> {
        let field = |names: [&str; 2]| {
            let found = names.into_iter().find_map(|name| spec.get(name));
            found.filter(|value| !value.is_null())
        };
        let text = |names: [&'static str; 2]| match field(names) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(format!("{} is not a text", names[0])),
        };
        let version = text(["version", "Version"])?;
        let version = Release::parse(version)
            .ok_or_else(|| format!("{} is no version: write vX.Y.Z or vX.Y.Z-SUFFIX", shown(version)))?;
        let image = match text(["image", "Image"])? {
            "" => None,
            image => Some(ImageRef::parse(image).ok_or_else(|| format!("{} names no image", shown(image)))?),
        };
        let confirm = match field(["requireConfirmation", "RequireConfirmation"]) {
            None => false,
            Some(Value::Bool(confirm)) => *confirm,
            Some(_) => return Err("requireConfirmation is neither true nor false".to_owned()),
        };
        let digests = digests(spec)?;
        let complete = digests.contains_key("") || PLATFORMS.iter().all(|name| digests.contains_key(*name));
        Ok(UpgradeSpec {
            version,
            image,
            registry: registry(spec)?.filter(|_| !complete),
            digests,
            confirm,
            checks: checks(field(["checkItems", "CheckItems"]))?,
        })
    }

    /// The digest that is expected on this architecture: `None` when none is, an error when only others are named.
    pub fn digest(&self, architecture: &str) -> Result<Option<&str>, String> {
        if self.digests.is_empty() && self.registry.is_none() {
            return Ok(None);
        }
        let found = self.digests.get(architecture).or_else(|| self.digests.get(""));
        found
            .map(|digest| Some(digest.as_str()))
            .ok_or_else(|| format!("no digest is named for {architecture}"))
    }

    /// The repository of the installation image.
    pub fn repository(&self) -> &str {
        self.image.as_ref().map_or(INSTALLATION_IMAGE, |image| &image.repository)
    }
}

/// Makes a job's spec what nodes get: with the digest that a registry has named where none is written, without the token.
pub fn settle_digest(spec: &mut Value, named: Option<&str>) {
    let Some(gate) = spec.get_mut("imageDigestGatter").and_then(Value::as_object_mut) else { return };
    if gate.remove("registryAPI").is_none() {
        return;
    }
    let written =
        |digest: Option<&Value>| digest.and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let Some(named) = named.filter(|_| !written(gate.get("value"))) else { return };
    for field in PLATFORMS.into_iter().chain(["value"]) {
        if !written(gate.get(field)) {
            gate.insert(field.to_owned(), json!(named));
        }
    }
}

/// The architectures that `imageDigestGatter` has a field for.
pub const PLATFORMS: [&str; 2] = ["amd64", "arm64"];
/// A registry's token is no longer.
const TOKEN: usize = 16 << 10;

/// `registryAPI`; no error shows what stands in place of the token.
fn registry(spec: &Value) -> Result<Option<RegistryApi>, String> {
    let api = spec.pointer("/imageDigestGatter/registryAPI").filter(|api| !api.is_null());
    let Some(api) = api else { return Ok(None) };
    let text = |name: &str| api.get(name).and_then(Value::as_str).unwrap_or_default();
    let (host, token) = (text("host"), text("token"));
    if !is_host(host) {
        return Err(format!(
            "imageDigestGatter.registryAPI.host is {}: write HOST or HOST:PORT",
            shown(host)
        ));
    }
    if token.len() > TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "imageDigestGatter.registryAPI.token is no token: it is too long, or has a space or another \
            character that none has"
                .to_owned(),
        );
    }
    Ok(Some(RegistryApi { host: host.to_owned(), token: token.to_owned() }))
}

/// `imageDigestGatter` (sic) of jobs, `ImageDigest` of stages.
fn digests(spec: &Value) -> Result<BTreeMap<String, String>, String> {
    let gate = spec.get("imageDigestGatter").filter(|gate| !gate.is_null()).unwrap_or(&Value::Null);
    let named = [
        ("amd64", gate.get("amd64")),
        ("arm64", gate.get("arm64")),
        ("", gate.get("value")),
        ("", spec.get("ImageDigest")),
    ];
    let mut digests = BTreeMap::new();
    for (architecture, digest) in named {
        match digest {
            None | Some(Value::Null) => {}
            Some(Value::String(digest)) if digest.is_empty() => {}
            Some(Value::String(digest)) if is_digest(digest) => {
                digests.insert(architecture.to_owned(), digest.clone());
            }
            Some(other) => {
                let other = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
                return Err(format!("{} is no digest: write sha256: and 64 digits", shown(&other)));
            }
        }
    }
    Ok(digests)
}

fn checks(items: Option<&Value>) -> Result<Vec<CheckItem>, String> {
    let Some(items) = items else { return Ok(Vec::new()) };
    let items = items.as_array().ok_or("checkItems is not a list")?;
    items.iter().map(|item| CheckItem::parse(item.as_str().unwrap_or_default())).collect()
}

/// A text of somebody else's as it stands in a sentence: short, quoted, without control characters.
pub fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn specs_of_both_protocols_are_read() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let job = UpgradeSpec::parse(&json!({"version": "v1.23.1", "image": "kubeedge/installation-package",
            "imageDigestGatter": {"amd64": digest}, "requireConfirmation": true, "checkItems": ["cpu", "disk"],
            "nodeNames": ["n"], "concurrency": 2}))
        .unwrap();
        assert_eq!((job.version.to_string().as_str(), job.confirm), ("v1.23.1", true));
        assert_eq!(job.checks, [CheckItem::Cpu, CheckItem::Disk]);
        assert_eq!(job.digest("amd64"), Ok(Some(digest.as_str())));
        assert!(job.digest("arm64").is_err());
        let stage = UpgradeSpec::parse(&json!({"UpgradeID": "u", "HistoryID": "h", "Version": "v1.2.3",
            "Image": "kubeedge/installation-package:v1.2.3", "ImageDigest": digest}))
        .unwrap();
        assert_eq!(stage.digest("riscv64"), Ok(Some(digest.as_str())));
        assert_eq!(stage.image.unwrap().tag.as_deref(), Some("v1.2.3"));
        let least = UpgradeSpec::parse(&json!({"version": "0.2.0", "imageDigestGatter": null})).unwrap();
        assert_eq!((least.image.clone(), least.digest("amd64")), (None, Ok(None)));
    }

    #[test]
    fn what_a_registry_is_to_name_is_settled_before_a_node_hears_of_it() {
        let (own, named) = (format!("sha256:{}", "ab".repeat(32)), format!("sha256:{}", "cd".repeat(32)));
        let gated = |more: Value| {
            let mut spec = json!({"version": "v1.2.3",
                "imageDigestGatter": {"registryAPI": {"host": "r.example:5000", "token": "s3cret"}}});
            for (name, digest) in more.as_object().unwrap() {
                spec["imageDigestGatter"][name] = digest.clone();
            }
            spec
        };
        let open = UpgradeSpec::parse(&gated(json!({}))).unwrap();
        let api = open.registry.clone().unwrap();
        assert_eq!((api.host.as_str(), api.token.as_str()), ("r.example:5000", "s3cret"));
        assert!(!format!("{open:?}").contains("s3cret"), "{open:?}");
        assert!(open.digest("amd64").is_err(), "a node does not go on without the digest");
        assert_eq!(open.repository(), INSTALLATION_IMAGE);
        for complete in [json!({"value": own}), json!({"amd64": own, "arm64": own})] {
            assert_eq!(UpgradeSpec::parse(&gated(complete)).unwrap().registry, None);
        }
        let settled = |more: Value, named: Option<&str>| {
            let mut spec = gated(more);
            settle_digest(&mut spec, named);
            assert!(!spec.to_string().contains("s3cret"), "{spec}");
            spec["imageDigestGatter"].clone()
        };
        assert_eq!(settled(json!({}), Some(&named)), json!({"amd64": named, "arm64": named, "value": named}));
        assert_eq!(
            settled(json!({"amd64": own}), Some(&named)),
            json!({"amd64": own, "arm64": named, "value": named})
        );
        assert_eq!(settled(json!({"value": own}), Some(&named)), json!({"value": own}));
        assert_eq!(settled(json!({}), None), json!({}));
        let why = UpgradeSpec::parse(&gated(json!({"registryAPI": {"host": "h", "token": "s3cret\n"}})));
        assert!(!why.unwrap_err().contains("s3cret"));
    }

    #[test]
    fn what_could_reach_a_shell_is_refused_in_every_field() {
        for hostile in
            ["v1.2.3;reboot", "$(reboot)", "v1.2.3\nreboot", "`id`", "--force", "v1.2.3 --x", "a'b"]
        {
            let specs = [
                json!({"version": hostile}),
                json!({"version": "v1.2.3", "image": hostile}),
                json!({"version": "v1.2.3", "imageDigestGatter": {"amd64": hostile}}),
                json!({"version": "v1.2.3", "imageDigestGatter": {"value": hostile}}),
                json!({"version": "v1.2.3", "checkItems": [hostile]}),
                json!({"Version": hostile}),
                json!({"Version": "v1.2.3", "Image": hostile}),
                json!({"Version": "v1.2.3", "ImageDigest": hostile}),
            ];
            for spec in specs {
                let why = UpgradeSpec::parse(&spec).unwrap_err();
                assert!(!why.contains('\n'), "{why}");
            }
        }
        for wrong in [
            json!(null),
            json!([]),
            json!({"version": 7}),
            json!({"version": "v1.2.3", "image": 7}),
            json!({"version": "v1.2.3", "requireConfirmation": "yes"}),
            json!({"version": "v1.2.3", "imageDigestGatter": {"registryAPI": {"host": "", "token": "t"}}}),
            json!({"version": "v1.2.3", "imageDigestGatter": {"registryAPI": {"host": "https://h", "token": "t"}}}),
            json!({"version": "v1.2.3", "imageDigestGatter": {"registryAPI": {"host": "h/../i", "token": "t"}}}),
            json!({"version": "v1.2.3", "imageDigestGatter": {"registryAPI": {"host": "h", "token": "a\r\nb: c"}}}),
        ] {
            assert!(UpgradeSpec::parse(&wrong).is_err(), "{wrong}");
        }
        assert!(shown(&"x".repeat(500)).chars().count() < 90);
    }
}
