//! What a job asks for, read strictly before anything is done: nodes, how many at a time, how many may fail, how long each
//! may take. Pure; an error is the sentence that the job's status shows.

use super::registry::Question;
use crate::model::Release;
use crate::wire::task::{JobKind, PullSpec};
use crate::wire::update::UpdateSpec;
use crate::wire::upgrade::{UpgradeSpec, shown};
use serde_json::Value;
use std::time::Duration;

/// KubeEdge's default of a job's time limit per node, in seconds.
const SECONDS: u64 = 300;

/// A job that can be carried out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub nodes: Nodes,
    /// Nodes that may be at work at a time, at least one.
    pub concurrency: usize,
    /// The share of the nodes that take part which may fail, 0 to 1.
    pub tolerate: f64,
    /// How long a node may take for each step.
    pub limit: Duration,
    /// Nodes wait for somebody's word between check and change.
    pub confirm: bool,
    /// `None` unless it is an upgrade.
    pub version: Option<Release>,
    /// The only architectures for which a digest is named; empty: any will do.
    pub architectures: Vec<String>,
    /// What a registry has to be asked before the job begins.
    pub registry: Option<Question>,
}

/// Which nodes a job is about.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Nodes {
    Named(Vec<String>),
    /// A label selector of Kubernetes.
    Selected(Value),
}

/// What a job is about: of pre-pulls it stands one level lower.
pub(super) fn spec(job: &Value) -> &Value {
    let spec = job.get("spec").unwrap_or(&Value::Null);
    spec.get("imagePrePullTemplate").unwrap_or(spec)
}

impl Wanted {
    /// Reads a job; `tolerate` is what an empty `failureTolerate` means.
    pub(super) fn read(kind: JobKind, job: &Value, tolerate: f64) -> Result<Wanted, String> {
        let spec = spec(job);
        let upgrade = match kind {
            JobKind::NodeUpgrade => {
                let upgrade = UpgradeSpec::parse(spec)?;
                if upgrade.image.as_ref().is_some_and(|image| image.digest.is_some()) {
                    return Err(
                        "image has a digest: write the repository alone, and the digest to imageDigestGatter"
                            .to_owned(),
                    );
                }
                Some(upgrade)
            }
            JobKind::ImagePrePull => {
                PullSpec::parse(spec)?;
                None
            }
            JobKind::ConfigUpdate => {
                UpdateSpec::parse(spec)?;
                None
            }
        };
        Ok(Wanted {
            nodes: nodes(spec)?,
            concurrency: whole(spec, "concurrency")?
                .and_then(|most| usize::try_from(most).ok())
                .unwrap_or(1)
                .max(1),
            tolerate: share(spec)?.unwrap_or(tolerate),
            limit: Duration::from_secs(
                whole(spec, "timeoutSeconds")?.filter(|seconds| *seconds > 0).unwrap_or(SECONDS),
            ),
            confirm: upgrade.as_ref().is_some_and(|upgrade| upgrade.confirm),
            architectures: upgrade.as_ref().map(architectures).unwrap_or_default(),
            registry: upgrade.as_ref().and_then(Question::of),
            version: upgrade.map(|upgrade| upgrade.version),
        })
    }

    /// An upgrade of no node in particular, for the tests of what follows.
    #[cfg(test)]
    pub(super) fn example(concurrency: usize, tolerate: f64) -> Wanted {
        Wanted {
            nodes: Nodes::Named(Vec::new()),
            concurrency,
            tolerate,
            limit: Duration::from_secs(SECONDS),
            confirm: false,
            version: None,
            architectures: Vec::new(),
            registry: None,
        }
    }
}

/// A digest without an architecture is good for all.
fn architectures(upgrade: &UpgradeSpec) -> Vec<String> {
    if upgrade.digests.contains_key("") || upgrade.registry.is_some() {
        return Vec::new();
    }
    upgrade.digests.keys().cloned().collect()
}

fn nodes(spec: &Value) -> Result<Nodes, String> {
    let names: Vec<&Value> = spec.get("nodeNames").and_then(Value::as_array).into_iter().flatten().collect();
    let selector = spec.get("labelSelector").filter(|selector| !selector.is_null());
    match (names.as_slice(), selector) {
        ([], None) => Err("neither nodeNames nor labelSelector is given".to_owned()),
        ([], Some(selector)) => check_selector(selector).map(|()| Nodes::Selected(selector.clone())),
        (_, Some(_)) => Err("nodeNames and labelSelector exclude each other".to_owned()),
        (names, None) => {
            let text =
                |name: &&Value| name.as_str().map(str::to_owned).ok_or("a name of nodeNames is no text");
            let names = names.iter().map(text).collect::<Result<Vec<_>, _>>()?;
            Ok(Nodes::Named(names))
        }
    }
}

fn check_selector(selector: &Value) -> Result<(), String> {
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let terms: Vec<&Value> =
        selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten().collect();
    if labels.is_none_or(serde_json::Map::is_empty) && terms.is_empty() {
        return Err("labelSelector is empty, which would choose every node: write a term".to_owned());
    }
    for term in terms {
        let operator = term.get("operator").and_then(Value::as_str).unwrap_or_default();
        let values = term.get("values").and_then(Value::as_array).map_or(0, Vec::len);
        match operator {
            "In" | "NotIn" if values > 0 => {}
            "In" | "NotIn" => return Err(format!("{operator} of labelSelector needs values")),
            "Exists" | "DoesNotExist" if values == 0 => {}
            "Exists" | "DoesNotExist" => return Err(format!("{operator} of labelSelector takes no values")),
            other => {
                let known = "there are In, NotIn, Exists and DoesNotExist";
                return Err(format!("labelSelector has the operator {}: {known}", shown(other)));
            }
        }
    }
    Ok(())
}

/// Whether a selector that was checked chooses a node with these labels.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    let equal = |(key, value): (&String, &Value)| label(key) == value.as_str();
    let fits = |term: &Value| {
        let present = label(term.get("key").and_then(Value::as_str).unwrap_or_default());
        let values = term.get("values").and_then(Value::as_array);
        let among = values.into_iter().flatten().any(|value| present.is_some() && value.as_str() == present);
        match term.get("operator").and_then(Value::as_str) {
            Some("In") => among,
            Some("NotIn") => !among,
            Some("Exists") => present.is_some(),
            Some("DoesNotExist") => present.is_none(),
            _ => false,
        }
    };
    let wanted = selector.get("matchLabels").and_then(Value::as_object);
    let terms = selector.get("matchExpressions").and_then(Value::as_array);
    wanted.into_iter().flatten().all(equal) && terms.into_iter().flatten().all(fits)
}

/// A whole number; KubeEdge takes less than one for the default.
fn whole(spec: &Value, name: &str) -> Result<Option<u64>, String> {
    match spec.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(number) if number.as_i64().is_some() => Ok(number.as_u64()),
        Some(other) => Err(format!("{name} is {}, which is no whole number", shown(&other.to_string()))),
    }
}

/// A share from 0 to 1 as KubeEdge reads it, or a percentage.
fn share(spec: &Value) -> Result<Option<f64>, String> {
    let text = match spec.get("failureTolerate") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    if text.is_empty() {
        return Ok(None);
    }
    let share: Option<f64> = match text.strip_suffix('%') {
        Some(percent) => percent.parse().ok().map(|percent: f64| percent / 100.0),
        None => text.parse().ok(),
    };
    share.filter(|share| (0.0..=1.0).contains(share)).map(Some).ok_or_else(|| {
        format!(
            "failureTolerate is {}: write a share from \"0\" to \"1\", such as \"0.1\", or \"10%\"",
            shown(&text)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn upgrade(more: &Value) -> Result<Wanted, String> {
        let mut spec = json!({"version": "v1.23.1", "nodeNames": ["a"]});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        Wanted::read(JobKind::NodeUpgrade, &json!({"spec": spec}), 0.1)
    }

    #[test]
    fn a_job_is_read_with_kubeedges_defaults() {
        let least = upgrade(&json!({})).unwrap();
        assert_eq!((least.concurrency, least.tolerate, least.limit.as_secs()), (1, 0.1, 300));
        assert_eq!(least.nodes, Nodes::Named(vec!["a".to_owned()]));
        let more = upgrade(&json!({"concurrency": 3, "failureTolerate": "0.5", "timeoutSeconds": 7,
            "requireConfirmation": true}))
        .unwrap();
        assert_eq!((more.concurrency, more.tolerate, more.limit.as_secs(), more.confirm), (3, 0.5, 7, true));
        for (written, share) in
            [(json!("10%"), 0.1), (json!("0"), 0.0), (json!("100%"), 1.0), (json!(0.25), 0.25)]
        {
            assert_eq!(upgrade(&json!({"failureTolerate": written})).unwrap().tolerate, share);
        }
        assert_eq!(upgrade(&json!({"concurrency": -1, "timeoutSeconds": 0})).unwrap().concurrency, 1);
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for (more, why) in [
            (json!({"version": "latest"}), "no version"),
            (json!({"version": "v1.2.3;reboot"}), "no version"),
            (json!({"image": "a/b$(id)"}), "names no image"),
            (json!({"labelSelector": {"matchLabels": {"a": "b"}}}), "exclude each other"),
            (json!({"nodeNames": []}), "neither"),
            (json!({"nodeNames": [], "labelSelector": {}}), "every node"),
            (
                json!({"nodeNames": null, "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}),
                "Near",
            ),
            (json!({"failureTolerate": "many"}), "failureTolerate"),
            (json!({"failureTolerate": "2"}), "failureTolerate"),
            (json!({"failureTolerate": "NaN"}), "failureTolerate"),
            (json!({"failureTolerate": "101%"}), "failureTolerate"),
            (json!({"failureTolerate": "%"}), "failureTolerate"),
            (json!({"failureTolerate": ["0.1"]}), "failureTolerate"),
            (json!({"imageDigestGatter": {"registryAPI": {"host": "a b", "token": ""}}}), "registryAPI.host"),
            (json!({"concurrency": 1.5}), "concurrency"),
            (json!({"checkItems": ["moon"]}), "moon"),
        ] {
            let said = upgrade(&more).unwrap_err();
            assert!(said.contains(why), "{more}: {said}");
        }
    }

    #[test]
    fn selectors_choose_by_labels() {
        let labels = json!({"site": "x"});
        assert!(selects(&json!({"matchLabels": {"site": "x"}}), &labels));
        assert!(!selects(&json!({"matchLabels": {"site": "y"}}), &labels));
        let by = |operator: &str| json!({"matchExpressions": [{"key": "site", "operator": operator, "values": ["x"]}]});
        assert!(selects(&by("In"), &labels) && selects(&by("Exists"), &labels));
        assert!(!selects(&by("NotIn"), &labels) && !selects(&by("Near"), &labels));
    }
}
