//! What an upgrade asks of a node: the spec of a NodeUpgradeJob and the item of a v1alpha1 stage (protocol.md §4.8), read
//! strictly. The cloud reads before it orders, the edge before it acts; what does not parse reaches neither.

use super::task::CheckItem;
use crate::model::image::is_digest;
use crate::model::{ImageRef, Release};
use serde_json::Value;
use std::collections::BTreeMap;

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
    /// Somebody has to agree on the node before it changes.
    pub confirm: bool,
    pub checks: Vec<CheckItem>,
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
        Ok(UpgradeSpec {
            version,
            image,
            digests: digests(spec)?,
            confirm,
            checks: checks(field(["checkItems", "CheckItems"]))?,
        })
    }

    /// The digest that is expected on this architecture: `None` when none is, an error when only others are named.
    pub fn digest(&self, architecture: &str) -> Result<Option<&str>, String> {
        if self.digests.is_empty() {
            return Ok(None);
        }
        let found = self.digests.get(architecture).or_else(|| self.digests.get(""));
        found
            .map(|digest| Some(digest.as_str()))
            .ok_or_else(|| format!("no digest is named for {architecture}"))
    }
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
    if digests.is_empty() && gate.get("registryAPI").is_some_and(|api| !api.is_null()) {
        return Err("imageDigestGatter.registryAPI is not supported: write the digest itself".to_owned());
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
            json!({"version": "v1.2.3", "imageDigestGatter": {"registryAPI": {"host": "h", "token": "t"}}}),
        ] {
            assert!(UpgradeSpec::parse(&wrong).is_err(), "{wrong}");
        }
        assert!(shown(&"x".repeat(500)).chars().count() < 90);
    }
}
